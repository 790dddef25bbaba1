//! Senders of messages, and the check of what they observed.

use std::time::Duration;

use crate::{
    Backoff, Options,
    shuttle_tests::{
        callers::{Caller, caller},
        server::{Entry, HistoryClient},
    },
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
/// The timeout of all calls, unless a scenario sets another one.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn options() -> Options {
    Options::new().idle_timeout(SECOND).call_timeout(CALL_TIMEOUT).backoff(Backoff::NONE)
}

pub(super) fn entry(sender: u8, number: u8) -> Entry {
    Entry { sender, number }
}

/// Spawns a sender that appends `count` entries one by one. Returns the replies.
pub(super) fn writer(client: HistoryClient, sender: u8, count: u8) -> Caller<Vec<Vec<Entry>>> {
    caller(async move {
        let mut replies = Vec::new();
        for number in 1..=count {
            let reply =
                client.append(entry(sender, number)).await.expect("nothing fails in this scenario");
            assert_eq!(
                reply.last(),
                Some(&entry(sender, number)),
                "the reply ends with the caller's own entry"
            );
            replies.push(reply);
        }
        replies
    })
}

/// Spawns a sender of `count` casts.
pub(super) fn caster(client: HistoryClient, sender: u8, count: u8) -> Caller<()> {
    caller(async move {
        for number in 1..=count {
            client.post(entry(sender, number)).await.expect("nothing fails in this scenario");
        }
    })
}

/// Spawns a sender that reads `count` times. Returns the replies: each begins with the one
/// before it.
pub(super) fn reader(client: HistoryClient, count: u8) -> Caller<Vec<Vec<Entry>>> {
    caller(async move {
        let mut replies: Vec<Vec<Entry>> = Vec::new();
        for _ in 0..count {
            let reply = client.read().await.expect("nothing fails in this scenario");
            assert!(
                replies.last().is_none_or(|last| reply.starts_with(last)),
                "no entry disappears"
            );
            replies.push(reply);
        }
        replies
    })
}

/// Asserts that the server handled the messages of each sender once and in order, and that
/// each reply shows all earlier messages.
pub(super) fn assert_history(end: &[Entry], senders: &[(u8, u8)], replies: &[Vec<Entry>]) {
    for (sender, count) in senders {
        let theirs: Vec<u8> =
            end.iter().filter(|entry| entry.sender == *sender).map(|entry| entry.number).collect();
        assert_eq!(theirs, (1..=*count).collect::<Vec<u8>>(), "once, and in order: {end:?}");
    }
    assert_eq!(end.len(), senders.iter().map(|(_, count)| usize::from(*count)).sum::<usize>());
    for reply in replies {
        assert!(
            end.starts_with(reply),
            "{reply:?} was the reply, but these entries are stored: {end:?}"
        );
    }
}
