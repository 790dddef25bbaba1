//! Transfers between runtimes.

use std::time::Duration;

use super::senders::{MILLISECOND, SECOND, assert_history, caster, entry, options, writer};
use crate::{
    CallError, Client, Runtime,
    shuttle_tests::{
        callers::{advance_until_done, caller, joined},
        explore::{Fixture, explore},
        server::History,
    },
};

#[test]
fn a_transfer_loses_nothing() {
    explore(options(), async |fixture| {
        let (there, client) = (fixture.another_runtime().await, fixture.client());
        client.append(entry(0, 1)).await.unwrap();
        let writer = writer(client.clone(), 1, 2);
        fixture.transfer(&client.address(), &there).await.unwrap();
        let replies = joined(writer).await;
        let end = there.at::<History>("a", ()).read().await.unwrap();
        assert_history(&end, &[(0, 1), (1, 2)], &replies);
        drop(client);
        fixture.shutdown(Duration::MAX).await.expect("time does not advance");
        there.shutdown(Duration::MAX).await.expect("time does not advance");
    });
}

/// Transfers the server from each runtime to the next while two senders use clients of the
/// first runtime.
async fn transfer_along(fixture: &Fixture, runtimes: Vec<Runtime>) {
    let client = fixture.client().with_timeout(SECOND * 1000);
    let (writer, caster) = (writer(client.clone(), 1, 2), caster(client.clone(), 2, 2));
    let moves = caller({
        let address = client.address();
        async move {
            for pair in runtimes.windows(2) {
                // The first transfer may precede the first message.
                let moved = pair[0].transfer(&address, &pair[1]).await;
                assert!(matches!(moved, Ok(()) | Err(CallError::NotFound { .. })), "{moved:?}");
            }
        }
    });
    advance_until_done(MILLISECOND, moves).await;
    let replies = advance_until_done(MILLISECOND, writer).await;
    advance_until_done(MILLISECOND, caster).await;
    let end = client.read().await.unwrap();
    assert_history(&end, &[(1, 2), (2, 2)], &replies);
}

#[test]
fn a_transfer_there_and_back_loses_nothing() {
    explore(options().mailbox(1).idle_timeout(None), async |fixture| {
        let there = fixture.another_runtime().await;
        let here = Runtime::clone(&fixture);
        transfer_along(&fixture, vec![here.clone(), there.clone(), here]).await;
        fixture.shutdown(Duration::MAX).await.expect("time does not advance");
        there.shutdown(Duration::MAX).await.expect("time does not advance");
    });
}

#[test]
fn a_transfer_back_through_a_third_runtime_loses_nothing() {
    explore(options().mailbox(1).idle_timeout(None), async |fixture| {
        let (second, third) = (fixture.another_runtime().await, fixture.another_runtime().await);
        let here = Runtime::clone(&fixture);
        transfer_along(&fixture, vec![here.clone(), second.clone(), third.clone(), here]).await;
        for runtime in [&*fixture, &second, &third] {
            runtime.shutdown(Duration::MAX).await.expect("time does not advance");
        }
    });
}
