//! The races of `docs/design.md`, each in many orders.
#![cfg(shuttle)]

use std::time::Duration;

use persistent_interleavings::{
    Caller, Log, LogClient, Mark, World, aborted, advance, caller, explore, handled, handling,
    meanwhile,
};
use persistent_runtime::{Backoff, CallError, Client, Options, Persist, Runtime};
use shuttle::future::yield_now;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Those of all servers here, where nothing else is said.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

fn options() -> Options {
    Options::new().idle_timeout(SECOND).call_timeout(CALL_TIMEOUT).backoff(Backoff::NONE)
}

fn mark(by: u8, number: u8) -> Mark {
    Mark { by, number }
}

/// A sender who waits for each answer, and who knows what was written with each.
fn writer(log: LogClient, by: u8, count: u8) -> Caller<Vec<Vec<Mark>>> {
    caller(async move {
        let mut answers = Vec::new();
        for number in 1..=count {
            let answer = log.write(mark(by, number)).await.expect("nothing goes wrong");
            assert_eq!(answer.last(), Some(&mark(by, number)), "the answer is its own");
            answers.push(answer);
        }
        answers
    })
}

/// A sender who waits for nothing but room.
fn caster(log: LogClient, by: u8, count: u8) -> Caller<()> {
    caller(async move {
        for number in 1..=count {
            log.note(mark(by, number)).await.expect("nothing goes wrong");
        }
    })
}

/// A sender who only looks, and sees nothing go.
fn reader(log: LogClient, count: u8) -> Caller<Vec<Vec<Mark>>> {
    caller(async move {
        let mut answers: Vec<Vec<Mark>> = Vec::new();
        for _ in 0..count {
            let answer = log.read().await.expect("nothing goes wrong");
            assert!(answers.last().is_none_or(|last| answer.starts_with(last)), "time goes on");
            answers.push(answer);
        }
        answers
    })
}

/// The server has handled the messages of each sender once, in their order, and
/// each answer shows what was before it.
fn assert_history(end: &[Mark], senders: &[(u8, u8)], answers: &[Vec<Mark>]) {
    for (by, count) in senders {
        let theirs: Vec<u8> =
            end.iter().filter(|mark| mark.by == *by).map(|mark| mark.number).collect();
        assert_eq!(theirs, (1..=*count).collect::<Vec<u8>>(), "once, and in order: {end:?}");
    }
    assert_eq!(end.len(), senders.iter().map(|(_, count)| usize::from(*count)).sum::<usize>());
    for answer in answers {
        assert!(end.starts_with(answer), "{answer:?} was answered, but this happened: {end:?}");
    }
}

async fn joined<T>(caller: Caller<T>) -> T {
    caller.await.expect("nobody aborts it")
}

#[test]
fn a_call_is_answered_whenever_the_idle_timeout_comes() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let sweep = advance(SECOND);
        let (writer, reader) = (writer(log.clone(), 1, 2), reader(log, 2));
        let answers = [joined(writer).await, joined(reader).await].concat();
        joined(sweep).await;
        assert_history(&world.stored().await, &[(0, 1), (1, 2)], &answers);
    });
}

#[test]
fn a_start_waits_for_the_final_commit_of_a_stop() {
    explore(options(), async |world| {
        let log = world.log();
        let stop = caller({
            let log = log.clone();
            async move { log.stop("a break").await.unwrap() }
        });
        let writer = writer(log.clone(), 1, 2);
        let start = caller({
            let log = log.clone();
            async move { log.stop("another").await.unwrap() }
        });
        let answers = joined(writer).await;
        joined(stop).await;
        joined(start).await;
        drop(log);
        assert_history(&world.stored().await, &[(1, 2)], &answers);
    });
}

#[test]
fn what_is_deleted_is_gone_and_what_comes_later_is_not() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let delete = caller({
            let log = log.clone();
            async move { log.stop_and_delete().await.unwrap() }
        });
        let answer = log.write(mark(1, 1)).await.unwrap();
        joined(delete).await;
        drop(log);
        let end = world.stored().await;
        let first = answer == [mark(0, 1), mark(1, 1)] && end.is_empty();
        let later = answer == [mark(1, 1)] && end == answer;
        assert!(first || later, "{answer:?}, then {end:?}");
    });
}

#[test]
fn two_first_calls_make_one_server() {
    explore(options(), async |world| {
        let writers = [1, 2].map(|by| {
            let world = world.clone();
            caller(async move { world.log().write(mark(by, 1)).await.unwrap() })
        });
        let mut answers = Vec::new();
        for writer in writers {
            answers.push(joined(writer).await);
        }
        assert_history(&world.stored().await, &[(1, 1), (2, 1)], &answers);
    });
}

#[test]
fn a_crash_costs_its_own_message_and_no_other() {
    explore(options(), async |world| {
        let log = world.log();
        let crash = caller({
            let log = log.clone();
            async move { log.crash(mark(9, 1)).await }
        });
        let writers = [writer(log.clone(), 1, 2), writer(log.clone(), 2, 1)];
        let reader = reader(log, 1);
        let crashed = joined(crash).await;
        assert!(matches!(crashed, Err(CallError::Crashed { .. })), "{crashed:?}");
        let mut answers = joined(reader).await;
        for writer in writers {
            answers.extend(joined(writer).await);
        }
        assert_history(&world.stored().await, &[(1, 2), (2, 1)], &answers);
    });
}

#[test]
fn a_caller_that_is_dropped_ends_no_handler() {
    explore(options(), async |world| {
        let log = world.log();
        let dropped = caller({
            let log = log.clone();
            async move { log.write_slowly(mark(9, 1)).await.unwrap() }
        });
        let writer = writer(log.clone(), 1, 2);
        dropped.abort();
        let answers = joined(writer).await;
        let _ = dropped.await;
        drop(log);
        let end = world.stored().await;
        let whole = end.iter().filter(|mark| mark.by == 9).count();
        assert!(whole <= 1, "{end:?}");
        assert_history(&end, if whole == 0 { &[(1, 2)] } else { &[(1, 2), (9, 1)] }, &answers);
        assert_eq!(aborted(), 0, "handlers");
    });
}

#[test]
fn a_deadline_ends_the_wait_and_not_the_handler() {
    explore(options().idle_timeout(None), async |world| {
        let log = world.log();
        let late = advance(CALL_TIMEOUT);
        let hasty = caller({
            let log = log.clone();
            async move { log.write_slowly(mark(1, 1)).await }
        });
        let outcome = joined(hasty).await;
        joined(late).await;
        drop(log);
        let end = world.stored().await;
        match outcome {
            Ok(answer) => assert_history(&end, &[(1, 1)], &[answer]),
            Err(CallError::Timeout { .. }) => assert_eq!(end, [mark(1, 1)]),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(aborted(), 0, "handlers");
        world.log().stop_and_delete().await.unwrap();
    });
}

#[test]
fn the_last_client_leaves_while_the_next_one_comes() {
    explore(options(), async |world| {
        let last = world.log();
        let leaving = caller(async move { drop(last) });
        let coming = [1, 2].map(|by| {
            let world = world.clone();
            caller(async move { world.log().write(mark(by, 1)).await.unwrap() })
        });
        joined(leaving).await;
        let mut answers = Vec::new();
        for caller in coming {
            answers.push(joined(caller).await);
        }
        assert_history(&world.stored().await, &[(1, 1), (2, 1)], &answers);
    });
}

#[test]
fn a_server_is_forgotten_while_a_client_comes() {
    explore(options(), async |world| {
        world.log().write(mark(0, 1)).await.unwrap();
        let sweep = advance(SECOND);
        let coming = [1, 2].map(|by| {
            let world = world.clone();
            caller(async move { world.log().write(mark(by, 1)).await.unwrap() })
        });
        joined(sweep).await;
        let mut answers = Vec::new();
        for caller in coming {
            answers.push(joined(caller).await);
        }
        assert_history(&world.stored().await, &[(0, 1), (1, 1), (2, 1)], &answers);
    });
}

#[test]
fn callers_that_run_the_server_and_a_task_that_does_keep_one_order() {
    explore(options().persist(Persist::OnStop), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        // In place, in place, by a task, and behind a cast of the same sender.
        let (direct, reader) = (writer(log.clone(), 1, 2), reader(log.clone(), 2));
        let durable = writer(log.with_persist(Persist::EveryMessage), 2, 1);
        let both = caller(async move {
            log.note(mark(3, 1)).await.unwrap();
            let answer = log.read().await.unwrap();
            assert!(answer.contains(&mark(3, 1)), "a sender's messages stay in order");
            answer
        });
        let mut answers = vec![joined(both).await];
        for caller in [direct, reader, durable] {
            answers.extend(joined(caller).await);
        }
        assert_history(&world.stored().await, &[(0, 1), (1, 2), (2, 1), (3, 1)], &answers);
    });
}

/// A task that is about to wait for a commit in its mailbox sees what has just come.
#[test]
fn messages_are_handled_while_a_commit_is_under_way() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        world.storage.hold(true);
        let writers = [1, 2, 3].map(|by| writer(log.clone(), by, 1));
        while handled() < 4 {
            yield_now().await;
        }
        world.storage.hold(false);
        let mut answers = Vec::new();
        for writer in writers {
            answers.extend(joined(writer).await);
        }
        drop(log);
        assert_history(&world.stored().await, &[(0, 1), (1, 1), (2, 1), (3, 1)], &answers);
    });
}

#[test]
fn a_sender_is_overtaken_by_none_of_its_own_messages() {
    explore(options().mailbox(1), async |world| {
        let log = world.log();
        let senders: [Caller<()>; 2] = [1, 2].map(|by| {
            let log = log.clone();
            caller(async move {
                log.note(mark(by, 1)).await.unwrap();
                log.note(mark(by, 2)).await.unwrap();
                log.write(mark(by, 3)).await.unwrap();
            })
        });
        for sender in senders {
            joined(sender).await;
        }
        drop(log);
        assert_history(&world.stored().await, &[(1, 3), (2, 3)], &[]);
    });
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    explore(options(), async |world| {
        let log = world.log();
        let callers = [1, 2].map(|by| {
            let log = log.clone();
            caller(async move {
                match log.write_slowly(mark(by, 1)).await {
                    Ok(answer) => Some(answer),
                    Err(CallError::Killed { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let killer = caller({
            let log = log.clone();
            async move { log.kill().await.unwrap() }
        });
        let mut acknowledged = Vec::new();
        for caller in callers {
            acknowledged.extend(joined(caller).await);
        }
        joined(killer).await;
        drop(log);
        let end = world.stored().await;
        for answer in acknowledged {
            assert!(end.starts_with(&answer), "{answer:?}, then {end:?}");
        }
        assert!(aborted() <= 1, "a kill ends one handler");
    });
}

#[test]
fn a_kill_at_rest_is_over_before_the_next_life_begins() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let killer = caller({
            let log = log.clone();
            async move { log.kill().await.unwrap() }
        });
        let reader = caller({
            let log = log.clone();
            async move { [log.read().await, log.read().await] }
        });
        let sweep = advance(SECOND);
        for answer in joined(reader).await {
            match answer {
                Ok(marks) => assert_eq!(marks, [mark(0, 1)]),
                Err(error) => assert!(matches!(error, CallError::Killed { .. }), "{error}"),
            }
        }
        joined(killer).await;
        joined(sweep).await;
        drop(log);
        assert_history(&world.stored().await, &[(0, 1)], &[]);
    });
}

#[test]
fn a_kill_reaches_a_handler_that_waits_for_ever() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let hung = caller({
            let log = log.clone();
            async move { log.hang().await }
        });
        let killer = caller({
            let log = log.clone();
            async move {
                // Before that there is nothing to end.
                while !handling() {
                    yield_now().await;
                }
                log.kill().await.unwrap();
                hung.await.expect("nobody aborts it")
            }
        });
        let outcome = joined(killer).await;
        assert!(matches!(outcome, Err(CallError::Killed { .. })), "{outcome:?}");
        let answers = joined(writer(log, 1, 1)).await;
        assert_history(&world.stored().await, &[(0, 1), (1, 1)], &answers);
    });
}

#[test]
fn all_who_wait_for_room_get_in() {
    explore(options().mailbox(1), async |world| {
        let log = world.log();
        let writers = [1, 2, 3].map(|by| writer(log.clone(), by, 1));
        let noter = caller(async move {
            log.note(mark(4, 1)).await.unwrap();
            log.note(mark(4, 2)).await.unwrap();
        });
        let mut answers = Vec::new();
        for writer in writers {
            answers.extend(joined(writer).await);
        }
        joined(noter).await;
        assert_history(&world.stored().await, &[(1, 1), (2, 1), (3, 1), (4, 2)], &answers);
    });
}

#[test]
fn who_joins_the_line_late_is_woken() {
    explore(options().mailbox(1), async |world| {
        let log = world.log();
        log.note(mark(1, 1)).await.unwrap();
        log.note(mark(1, 2)).await.unwrap();
        drop(log);
        assert_history(&world.stored().await, &[(1, 2)], &[]);
    });
}

#[test]
fn who_leaves_the_line_gives_the_next_one_a_turn() {
    explore(options().mailbox(1), async |world| {
        let log = world.log();
        let leaving = [8, 9].map(|by| {
            let log = log.clone();
            caller(async move {
                log.note(mark(by, 1)).await.unwrap();
                log.note(mark(by, 2)).await.unwrap();
            })
        });
        let writers = [writer(log.clone(), 1, 1), writer(log, 2, 1)];
        for caller in &leaving {
            caller.abort();
        }
        for writer in writers {
            joined(writer).await;
        }
        for caller in leaving {
            let _ = caller.await;
        }
        let end = world.stored().await;
        let stayed: Vec<Mark> = end.iter().filter(|mark| mark.by < 8).copied().collect();
        assert_history(&stayed, &[(1, 1), (2, 1)], &[]);
    });
}

#[test]
fn all_who_wait_for_room_are_told_of_a_shutdown() {
    explore(options().mailbox(1), async |world| {
        let log = world.log();
        let callers = [1, 2, 3, 4].map(|by| {
            let log = log.clone();
            caller(async move { log.note(mark(by, 1)).await.is_ok().then_some(mark(by, 1)) })
        });
        drop(log);
        world.shutdown(Duration::MAX).await.expect("time stands still");
        let mut end = world.found_by_another().await;
        let mut taken = Vec::new();
        for caller in callers {
            taken.extend(joined(caller).await);
        }
        end.sort_by_key(|mark| mark.by);
        assert_eq!(end, taken);
    });
}

#[test]
fn all_who_wait_for_room_are_told_of_a_failure() {
    explore(options().mailbox(1).max_restarts(0, SECOND), async |world| {
        let log = world.log();
        let crash = caller({
            let log = log.clone();
            async move { log.crash(mark(9, 1)).await }
        });
        let noters = [1, 2, 3, 4].map(|by| {
            let log = log.clone();
            caller(async move {
                match log.note(mark(by, 1)).await {
                    Ok(()) | Err(CallError::RestartLimit { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let crashed = joined(crash).await;
        assert!(matches!(crashed, Err(CallError::Crashed { .. })), "{crashed:?}");
        for noter in noters {
            joined(noter).await;
        }
        let refused = log.read().await;
        assert!(matches!(refused, Err(CallError::RestartLimit { .. })), "{refused:?}");
        log.reset().await.unwrap();
        let writer = writer(log.clone(), 5, 1);
        joined(writer).await;
    });
}

#[test]
fn a_failed_commit_takes_all_that_stood_on_it_and_nothing_else() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        world.storage.fail(1);
        let callers = [1, 2].map(|by| {
            let log = log.clone();
            caller(async move {
                let mut outcomes = Vec::new();
                for number in 1..=2 {
                    outcomes.push((mark(by, number), log.write(mark(by, number)).await));
                }
                outcomes
            })
        });
        let reader = caller({
            let log = log.clone();
            async move { log.read().await }
        });
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.extend(joined(caller).await);
        }
        let read = joined(reader).await;
        drop(log);
        let end = world.stored().await;
        for (mark, outcome) in outcomes {
            match outcome {
                Ok(answer) => assert!(end.starts_with(&answer), "{answer:?}, then {end:?}"),
                Err(CallError::Storage { .. }) => assert!(!end.contains(&mark), "{end:?}"),
                Err(error) => panic!("{error}"),
            }
        }
        match read {
            Ok(answer) => assert!(end.starts_with(&answer), "{answer:?}, then {end:?}"),
            Err(error) => assert!(matches!(error, CallError::Storage { .. }), "{error}"),
        }
    });
}

#[test]
fn a_shutdown_handles_what_it_has_taken_and_refuses_the_rest() {
    explore(options(), async |world| {
        let log = world.log();
        let callers = [1, 2].map(|by| {
            let log = log.clone();
            caller(async move { (mark(by, 1), log.write(mark(by, 1)).await) })
        });
        let noter = caller(async move { (mark(3, 1), log.note(mark(3, 1)).await) });
        world.shutdown(Duration::MAX).await.expect("time stands still");
        let end = world.found_by_another().await;
        for caller in callers {
            let (mark, outcome) = joined(caller).await;
            match outcome {
                Ok(answer) => assert!(end.starts_with(&answer), "{answer:?}, then {end:?}"),
                Err(CallError::RuntimeStopped { .. }) => assert!(!end.contains(&mark), "{end:?}"),
                Err(error) => panic!("{error}"),
            }
        }
        let (mark, outcome) = joined(noter).await;
        assert_eq!(outcome.is_ok(), end.contains(&mark), "{outcome:?}, then {end:?}");
    });
}

#[test]
fn a_shutdown_waits_for_a_caller_that_runs_the_server() {
    explore(options(), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let reader = caller(async move { log.read().await });
        world.shutdown(Duration::MAX).await.expect("time stands still");
        match joined(reader).await {
            Ok(answer) => assert_eq!(answer, [mark(0, 1)]),
            Err(error) => assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}"),
        }
    });
}

#[test]
fn a_deferred_answer_leaves_whenever_it_is_sent() {
    explore(options(), async |world| {
        let log = world.log();
        let waiting = caller({
            let log = log.clone();
            async move { log.wait().await.unwrap() }
        });
        let writer = writer(log.clone(), 1, 2);
        let answerer = caller(async move {
            while !waiting.is_finished() {
                log.answer().await.unwrap();
                yield_now().await;
            }
            waiting.await.expect("nobody aborts it")
        });
        let mut answers = joined(writer).await;
        answers.push(joined(answerer).await);
        assert_history(&world.stored().await, &[(1, 2)], &answers);
    });
}

#[test]
fn a_late_save_misses_no_change() {
    let level = Persist::Every(SECOND / 2);
    explore(options().persist(level), async |world| {
        let log = world.log();
        log.write(mark(0, 1)).await.unwrap();
        let late = caller(async {
            joined(advance(SECOND / 2)).await;
            joined(advance(SECOND)).await;
        });
        let (writer, reader) = (writer(log.clone(), 1, 2), reader(log, 1));
        let answers = [joined(writer).await, joined(reader).await].concat();
        joined(late).await;
        assert_history(&world.stored().await, &[(0, 1), (1, 2)], &answers);
    });
}

#[test]
fn a_durable_timer_rings_once_wherever_its_server_is() {
    explore(options().call_timeout(SECOND * 1000), async |world| {
        let log = world.log();
        log.remind(mark(1, 1), SECOND).await.unwrap();
        let sweep = advance(SECOND);
        let writer = writer(log.clone(), 2, 1);
        let reader = caller(async move {
            loop {
                let answer = log.read().await.unwrap();
                if answer.contains(&mark(1, 1)) {
                    return answer;
                }
                yield_now().await;
            }
        });
        let mut answers = joined(writer).await;
        joined(sweep).await;
        answers.push(meanwhile(SECOND / 10, reader).await);
        assert_history(&world.stored().await, &[(1, 1), (2, 1)], &answers);
    });
}

#[test]
fn a_server_that_is_handed_to_another_runtime_loses_nothing() {
    explore(options(), async |world| {
        let (there, log) = (world.another().await, world.log());
        log.write(mark(0, 1)).await.unwrap();
        let writer = writer(log.clone(), 1, 2);
        world.transfer(&log.address(), &there).await.unwrap();
        let answers = joined(writer).await;
        let end = there.at::<Log>("a", ()).read().await.unwrap();
        assert_history(&end, &[(0, 1), (1, 2)], &answers);
        drop(log);
        world.shutdown(Duration::MAX).await.expect("time stands still");
        there.shutdown(Duration::MAX).await.expect("time stands still");
    });
}

/// Has a server go from each runtime to the next, while others write to it where it
/// was at first.
async fn goes_round(world: &World, places: Vec<Runtime>) {
    let log = world.log().with_timeout(SECOND * 1000);
    let (writer, caster) = (writer(log.clone(), 1, 2), caster(log.clone(), 2, 2));
    let moves = caller({
        let address = log.address();
        async move {
            for way in places.windows(2) {
                // At first there may be nothing to hand on.
                let moved = way[0].transfer(&address, &way[1]).await;
                assert!(matches!(moved, Ok(()) | Err(CallError::NotFound { .. })), "{moved:?}");
            }
        }
    });
    meanwhile(MILLISECOND, moves).await;
    let answers = meanwhile(MILLISECOND, writer).await;
    meanwhile(MILLISECOND, caster).await;
    let end = log.read().await.unwrap();
    assert_history(&end, &[(1, 2), (2, 2)], &answers);
}

#[test]
fn a_server_that_is_handed_to_and_fro_loses_nothing() {
    explore(options().mailbox(1).idle_timeout(None), async |world| {
        let there = world.another().await;
        let here = Runtime::clone(&world);
        goes_round(&world, vec![here.clone(), there.clone(), here]).await;
        world.shutdown(Duration::MAX).await.expect("time stands still");
        there.shutdown(Duration::MAX).await.expect("time stands still");
    });
}

#[test]
fn a_server_that_comes_back_by_another_way_loses_nothing() {
    explore(options().mailbox(1).idle_timeout(None), async |world| {
        let (second, third) = (world.another().await, world.another().await);
        let here = Runtime::clone(&world);
        goes_round(&world, vec![here.clone(), second.clone(), third.clone(), here]).await;
        for runtime in [&*world, &second, &third] {
            runtime.shutdown(Duration::MAX).await.expect("time stands still");
        }
    });
}
