//! The order of messages and replies.

use shuttle::future::yield_now;

use super::senders::{CALL_TIMEOUT, assert_history, entry, options, reader, writer};
use crate::{
    CallError, Client, Persist,
    shuttle_tests::{
        callers::{Caller, advance, caller, joined},
        explore::explore,
        monitor::{aborted_handlers, finished_handlers},
    },
};

#[test]
fn inline_calls_and_queued_calls_have_one_order() {
    explore(options().persist(Persist::OnStop), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        // Inline, inline, in a task, and after a cast of the same sender.
        let (direct, reader) = (writer(client.clone(), 1, 2), reader(client.clone(), 2));
        let durable = writer(client.with_persist(Persist::EveryMessage), 2, 1);
        let both = caller(async move {
            client.post(entry(3, 1)).await.unwrap();
            let reply = client.read().await.unwrap();
            assert!(reply.contains(&entry(3, 1)), "the messages of one sender stay in order");
            reply
        });
        let mut replies = vec![joined(both).await];
        for caller in [direct, reader, durable] {
            replies.extend(joined(caller).await);
        }
        assert_history(&fixture.stored().await, &[(0, 1), (1, 2), (2, 1), (3, 1)], &replies);
    });
}

/// A task that parks until a commit completes handles messages that arrive meanwhile.
#[test]
fn messages_are_handled_while_a_commit_is_in_flight() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        fixture.storage.hold(true);
        let writers = [1, 2, 3].map(|sender| writer(client.clone(), sender, 1));
        while finished_handlers() < 4 {
            yield_now().await;
        }
        fixture.storage.hold(false);
        let mut replies = Vec::new();
        for writer in writers {
            replies.extend(joined(writer).await);
        }
        drop(client);
        assert_history(&fixture.stored().await, &[(0, 1), (1, 1), (2, 1), (3, 1)], &replies);
    });
}

#[test]
fn messages_of_one_sender_stay_in_order() {
    explore(options().mailbox(1), async |fixture| {
        let client = fixture.client();
        let senders: [Caller<()>; 2] = [1, 2].map(|sender| {
            let client = client.clone();
            caller(async move {
                client.post(entry(sender, 1)).await.unwrap();
                client.post(entry(sender, 2)).await.unwrap();
                client.append(entry(sender, 3)).await.unwrap();
            })
        });
        for sender in senders {
            joined(sender).await;
        }
        drop(client);
        assert_history(&fixture.stored().await, &[(1, 3), (2, 3)], &[]);
    });
}

#[test]
fn a_deferred_reply_arrives_whenever_it_is_sent() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let waiting = caller({
            let client = client.clone();
            async move { client.defer().await.unwrap() }
        });
        let writer = writer(client.clone(), 1, 2);
        let answerer = caller(async move {
            while !waiting.is_finished() {
                client.reply().await.unwrap();
                yield_now().await;
            }
            waiting.await.expect("the scenario does not abort this caller")
        });
        let mut replies = joined(writer).await;
        replies.push(joined(answerer).await);
        assert_history(&fixture.stored().await, &[(1, 2)], &replies);
    });
}

#[test]
fn dropping_a_call_does_not_abort_its_handler() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let dropped = caller({
            let client = client.clone();
            async move { client.append_slowly(entry(9, 1)).await.unwrap() }
        });
        let writer = writer(client.clone(), 1, 2);
        dropped.abort();
        let replies = joined(writer).await;
        let _ = dropped.await;
        drop(client);
        let end = fixture.stored().await;
        let whole = end.iter().filter(|entry| entry.sender == 9).count();
        assert!(whole <= 1, "{end:?}");
        assert_history(&end, if whole == 0 { &[(1, 2)] } else { &[(1, 2), (9, 1)] }, &replies);
        assert_eq!(aborted_handlers(), 0, "aborted handlers");
    });
}

#[test]
fn a_timeout_does_not_abort_the_handler() {
    explore(options().idle_timeout(None), async |fixture| {
        let client = fixture.client();
        let late = advance(CALL_TIMEOUT);
        let hasty = caller({
            let client = client.clone();
            async move { client.append_slowly(entry(1, 1)).await }
        });
        let outcome = joined(hasty).await;
        joined(late).await;
        drop(client);
        let end = fixture.stored().await;
        match outcome {
            Ok(reply) => assert_history(&end, &[(1, 1)], &[reply]),
            Err(CallError::Timeout { .. }) => assert_eq!(end, [entry(1, 1)]),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(aborted_handlers(), 0, "aborted handlers");
        fixture.client().delete().await.unwrap();
    });
}
