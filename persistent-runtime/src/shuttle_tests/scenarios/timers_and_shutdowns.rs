//! Delayed saves, reminders and shutdowns.

use std::time::Duration;

use shuttle::future::yield_now;

use super::senders::{SECOND, assert_history, entry, options, reader, writer};
use crate::{
    CallError, Persist,
    shuttle_tests::{
        callers::{advance, advance_until_done, caller, joined},
        explore::explore,
    },
};

#[test]
fn a_delayed_save_includes_every_change() {
    let level = Persist::Every(SECOND / 2);
    explore(options().persist(level), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let late = caller(async {
            joined(advance(SECOND / 2)).await;
            joined(advance(SECOND)).await;
        });
        let (writer, reader) = (writer(client.clone(), 1, 2), reader(client, 1));
        let replies = [joined(writer).await, joined(reader).await].concat();
        joined(late).await;
        assert_history(&fixture.stored().await, &[(0, 1), (1, 2)], &replies);
    });
}

#[test]
fn a_reminder_fires_once_in_every_phase_of_its_server() {
    explore(options().call_timeout(SECOND * 1000), async |fixture| {
        let client = fixture.client();
        client.remind(entry(1, 1), SECOND).await.unwrap();
        let unload = advance(SECOND);
        let writer = writer(client.clone(), 2, 1);
        let reader = caller(async move {
            loop {
                let reply = client.read().await.unwrap();
                if reply.contains(&entry(1, 1)) {
                    return reply;
                }
                yield_now().await;
            }
        });
        let mut replies = joined(writer).await;
        joined(unload).await;
        replies.push(advance_until_done(SECOND / 10, reader).await);
        assert_history(&fixture.stored().await, &[(1, 1), (2, 1)], &replies);
    });
}

#[test]
fn a_shutdown_handles_queued_messages_and_refuses_later_ones() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let callers = [1, 2].map(|sender| {
            let client = client.clone();
            caller(async move { (entry(sender, 1), client.append(entry(sender, 1)).await) })
        });
        let poster = caller(async move { (entry(3, 1), client.post(entry(3, 1)).await) });
        fixture.shutdown(Duration::MAX).await.expect("time does not advance");
        let end = fixture.stored_for_new_runtime().await;
        for caller in callers {
            let (entry, outcome) = joined(caller).await;
            match outcome {
                Ok(reply) => assert!(end.starts_with(&reply), "{reply:?}, then {end:?}"),
                Err(CallError::RuntimeStopped { .. }) => assert!(!end.contains(&entry), "{end:?}"),
                Err(error) => panic!("{error}"),
            }
        }
        let (entry, outcome) = joined(poster).await;
        assert_eq!(outcome.is_ok(), end.contains(&entry), "{outcome:?}, then {end:?}");
    });
}

#[test]
fn a_shutdown_waits_for_an_inline_call() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let reader = caller(async move { client.read().await });
        fixture.shutdown(Duration::MAX).await.expect("time does not advance");
        match joined(reader).await {
            Ok(reply) => assert_eq!(reply, [entry(0, 1)]),
            Err(error) => assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}"),
        }
    });
}
