//! Activation, unload, stop and delete, each with concurrent clients.

use super::senders::{SECOND, assert_history, entry, options, reader, writer};
use crate::{
    Client,
    shuttle_tests::{
        callers::{advance, caller, joined},
        explore::explore,
    },
};

#[test]
fn calls_that_race_with_the_idle_timeout_get_replies() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let unload = advance(SECOND);
        let (writer, reader) = (writer(client.clone(), 1, 2), reader(client, 2));
        let replies = [joined(writer).await, joined(reader).await].concat();
        joined(unload).await;
        assert_history(&fixture.stored().await, &[(0, 1), (1, 2)], &replies);
    });
}

#[test]
fn an_activation_waits_for_the_final_commit_of_a_stop() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        let stop = caller({
            let client = client.clone();
            async move { client.stop("first").await.unwrap() }
        });
        let writer = writer(client.clone(), 1, 2);
        let start = caller({
            let client = client.clone();
            async move { client.stop("second").await.unwrap() }
        });
        let replies = joined(writer).await;
        joined(stop).await;
        joined(start).await;
        drop(client);
        assert_history(&fixture.stored().await, &[(1, 2)], &replies);
    });
}

#[test]
fn a_delete_removes_earlier_changes_and_keeps_later_ones() {
    explore(options(), async |fixture| {
        let client = fixture.client();
        client.append(entry(0, 1)).await.unwrap();
        let delete = caller({
            let client = client.clone();
            async move { client.delete().await.unwrap() }
        });
        let reply = client.append(entry(1, 1)).await.unwrap();
        joined(delete).await;
        drop(client);
        let end = fixture.stored().await;
        let first = reply == [entry(0, 1), entry(1, 1)] && end.is_empty();
        let later = reply == [entry(1, 1)] && end == reply;
        assert!(first || later, "{reply:?}, then {end:?}");
    });
}

#[test]
fn two_first_calls_create_one_instance() {
    explore(options(), async |fixture| {
        let writers = [1, 2].map(|sender| {
            let fixture = fixture.clone();
            caller(async move { fixture.client().append(entry(sender, 1)).await.unwrap() })
        });
        let mut replies = Vec::new();
        for writer in writers {
            replies.push(joined(writer).await);
        }
        assert_history(&fixture.stored().await, &[(1, 1), (2, 1)], &replies);
    });
}

#[test]
fn a_client_can_be_created_while_the_last_one_is_dropped() {
    explore(options(), async |fixture| {
        let last = fixture.client();
        let leaving = caller(async move { drop(last) });
        let coming = [1, 2].map(|sender| {
            let fixture = fixture.clone();
            caller(async move { fixture.client().append(entry(sender, 1)).await.unwrap() })
        });
        joined(leaving).await;
        let mut replies = Vec::new();
        for caller in coming {
            replies.push(joined(caller).await);
        }
        assert_history(&fixture.stored().await, &[(1, 1), (2, 1)], &replies);
    });
}

#[test]
fn a_client_can_be_created_during_an_unload() {
    explore(options(), async |fixture| {
        fixture.client().append(entry(0, 1)).await.unwrap();
        let unload = advance(SECOND);
        let coming = [1, 2].map(|sender| {
            let fixture = fixture.clone();
            caller(async move { fixture.client().append(entry(sender, 1)).await.unwrap() })
        });
        joined(unload).await;
        let mut replies = Vec::new();
        for caller in coming {
            replies.push(joined(caller).await);
        }
        assert_history(&fixture.stored().await, &[(0, 1), (1, 1), (2, 1)], &replies);
    });
}
