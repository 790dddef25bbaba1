//! Crashes, kills and failed commits.

use shuttle::future::yield_now;

use super::senders::{SECOND, assert_history, entry, options, reader, writer};
use crate::{
    CallError, Client,
    shuttle_tests::{
        callers::{advance, caller, joined},
        explore::explore,
        monitor::{aborted_handlers, is_handling},
    },
};

#[test]
fn a_crash_fails_its_own_message_and_no_other() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let crash = caller({
            let client = client.clone();
            async move { client.crash(entry(9, 1)).await }
        });
        let writers = [writer(client.clone(), 1, 2), writer(client.clone(), 2, 1)];
        let reader = reader(client, 1);
        let crashed = joined(crash).await;
        assert!(matches!(crashed, Err(CallError::Crashed { .. })), "{crashed:?}");
        let mut replies = joined(reader).await;
        for writer in writers {
            replies.extend(joined(writer).await);
        }
        assert_history(&fixture.stored().await, &[(1, 2), (2, 1)], &replies);
    });
}

#[test]
fn a_kill_loses_no_acknowledged_change() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let callers = [1, 2].map(|sender| {
            let client = client.clone();
            caller(async move {
                match client.append_slowly(entry(sender, 1)).await {
                    Ok(reply) => Some(reply),
                    Err(CallError::Killed { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let killer = caller({
            let client = client.clone();
            async move { client.kill().await.unwrap() }
        });
        let mut acknowledged = Vec::new();
        for caller in callers {
            acknowledged.extend(joined(caller).await);
        }
        joined(killer).await;
        drop(client);
        let end = fixture.stored().await;
        for reply in acknowledged {
            assert!(end.starts_with(&reply), "{reply:?}, then {end:?}");
        }
        assert!(aborted_handlers() <= 1, "a kill aborts at most one handler");
    });
}

#[test]
fn a_kill_of_an_idle_server_ends_before_the_next_activation() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let killer = caller({
            let client = client.clone();
            async move { client.kill().await.unwrap() }
        });
        let reader = caller({
            let client = client.clone();
            async move { [client.read().await, client.read().await] }
        });
        let unload = advance(SECOND);
        for reply in joined(reader).await {
            match reply {
                Ok(entries) => assert_eq!(entries, [entry(0, 1)]),
                Err(error) => assert!(matches!(error, CallError::Killed { .. }), "{error}"),
            }
        }
        joined(killer).await;
        joined(unload).await;
        drop(client);
        assert_history(&fixture.stored().await, &[(0, 1)], &[]);
    });
}

#[test]
fn a_kill_ends_a_handler_that_never_returns() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let hung = caller({
            let client = client.clone();
            async move { client.hang().await }
        });
        let killer = caller({
            let client = client.clone();
            async move {
                // A kill before the handler begins would not abort it.
                while !is_handling() {
                    yield_now().await;
                }
                client.kill().await.unwrap();
                hung.await.expect("the scenario does not abort this caller")
            }
        });
        let outcome = joined(killer).await;
        assert!(matches!(outcome, Err(CallError::Killed { .. })), "{outcome:?}");
        let replies = joined(writer(client, 1, 1)).await;
        assert_history(&fixture.stored().await, &[(0, 1), (1, 1)], &replies);
    });
}

#[test]
fn a_failed_commit_fails_the_messages_that_depend_on_it_and_no_others() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        fixture.storage.fail(1);
        let callers = [1, 2].map(|sender| {
            let client = client.clone();
            caller(async move {
                let mut outcomes = Vec::new();
                for number in 1..=2 {
                    outcomes
                        .push((entry(sender, number), client.append(entry(sender, number)).await));
                }
                outcomes
            })
        });
        let reader = caller({
            let client = client.clone();
            async move { client.read().await }
        });
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.extend(joined(caller).await);
        }
        let read = joined(reader).await;
        drop(client);
        let end = fixture.stored().await;
        // A later commit stores the whole state, so `end` alone does not show a lost change.
        assert!(outcomes.iter().any(|(_, outcome)| outcome.is_err()), "{outcomes:?}");
        for (entry, outcome) in outcomes {
            match outcome {
                Ok(reply) => assert!(end.starts_with(&reply), "{reply:?}, then {end:?}"),
                Err(CallError::Storage { .. }) => assert!(!end.contains(&entry), "{end:?}"),
                Err(error) => panic!("{error}"),
            }
        }
        match read {
            Ok(reply) => assert!(end.starts_with(&reply), "{reply:?}, then {end:?}"),
            Err(error) => assert!(matches!(error, CallError::Storage { .. }), "{error}"),
        }
    });
}
