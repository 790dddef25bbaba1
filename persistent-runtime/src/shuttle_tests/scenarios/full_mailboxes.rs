//! Senders that wait for capacity in a full mailbox.

use std::time::Duration;

use super::senders::{SECOND, assert_history, entry, options, writer};
use crate::{
    CallError, Client,
    shuttle_tests::{
        callers::{caller, joined},
        explore::explore,
        server::Entry,
    },
};

#[test]
fn every_sender_that_waits_for_capacity_is_admitted() {
    explore(options().mailbox(1), async |fixture| {
        let client = fixture.client();
        let writers = [1, 2, 3].map(|sender| writer(client.clone(), sender, 1));
        let poster = caller(async move {
            client.post(entry(4, 1)).await.unwrap();
            client.post(entry(4, 2)).await.unwrap();
        });
        let mut replies = Vec::new();
        for writer in writers {
            replies.extend(joined(writer).await);
        }
        joined(poster).await;
        assert_history(&fixture.stored().await, &[(1, 1), (2, 1), (3, 1), (4, 2)], &replies);
    });
}

#[test]
fn a_sender_that_starts_to_wait_late_is_woken() {
    explore(options().mailbox(1), async |fixture| {
        let client = fixture.client();
        client.post(entry(1, 1)).await.unwrap();
        client.post(entry(1, 2)).await.unwrap();
        drop(client);
        assert_history(&fixture.stored().await, &[(1, 2)], &[]);
    });
}

#[test]
fn a_waiting_sender_that_is_dropped_wakes_the_next_one() {
    explore(options().mailbox(1), async |fixture| {
        let client = fixture.client();
        let leaving = [8, 9].map(|sender| {
            let client = client.clone();
            caller(async move {
                client.post(entry(sender, 1)).await.unwrap();
                client.post(entry(sender, 2)).await.unwrap();
            })
        });
        let writers = [writer(client.clone(), 1, 1), writer(client, 2, 1)];
        for caller in &leaving {
            caller.abort();
        }
        for writer in writers {
            joined(writer).await;
        }
        for caller in leaving {
            let _ = caller.await;
        }
        let end = fixture.stored().await;
        let stayed: Vec<Entry> = end.iter().filter(|entry| entry.sender < 8).copied().collect();
        assert_history(&stayed, &[(1, 1), (2, 1)], &[]);
    });
}

#[test]
fn a_shutdown_wakes_every_sender_that_waits_for_capacity() {
    explore(options().mailbox(1), async |fixture| {
        let client = fixture.client();
        let callers = [1, 2, 3, 4].map(|sender| {
            let client = client.clone();
            caller(async move {
                client.post(entry(sender, 1)).await.is_ok().then_some(entry(sender, 1))
            })
        });
        drop(client);
        fixture.shutdown(Duration::MAX).await.expect("time does not advance");
        let mut end = fixture.stored_for_new_runtime().await;
        let mut taken = Vec::new();
        for caller in callers {
            taken.extend(joined(caller).await);
        }
        end.sort_by_key(|entry| entry.sender);
        assert_eq!(end, taken);
    });
}

#[test]
fn a_failure_wakes_every_sender_that_waits_for_capacity() {
    explore(options().mailbox(1).max_restarts(0, SECOND), async |fixture| {
        let client = fixture.client();
        let crash = caller({
            let client = client.clone();
            async move { client.crash(entry(9, 1)).await }
        });
        let posters = [1, 2, 3, 4].map(|sender| {
            let client = client.clone();
            caller(async move {
                match client.post(entry(sender, 1)).await {
                    Ok(()) | Err(CallError::RestartLimit { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let crashed = joined(crash).await;
        assert!(matches!(crashed, Err(CallError::Crashed { .. })), "{crashed:?}");
        for poster in posters {
            joined(poster).await;
        }
        let refused = client.read().await;
        assert!(matches!(refused, Err(CallError::RestartLimit { .. })), "{refused:?}");
        client.reset().await.unwrap();
        let writer = writer(client.clone(), 5, 1);
        joined(writer).await;
    });
}
