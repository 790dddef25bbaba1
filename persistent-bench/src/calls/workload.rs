//! The messages that are measured, and where their senders run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime, runtime::Runtime, task::JoinSet};

use super::peers::Peer;
use crate::load::two_workers;

const CALLERS: u32 = 64;
const SERVERS: u32 = 1000;
/// The shortest measurement.
const MIN_TIME: Duration = Duration::from_millis(30);

/// The threads and tasks that the callers run on.
#[derive(Clone, Copy)]
pub enum Place {
    /// Tasks of a runtime with two worker threads.
    Workers,
    /// `block_on` on a third thread.
    Outside,
    /// The only thread of a current-thread runtime.
    OneThread,
}

#[derive(Clone, Copy)]
pub enum Work {
    /// One caller calls one server.
    Ask,
    AskWithin,
    /// 64 callers call one server.
    Ask64,
    /// 64 callers call 1000 servers in turn.
    Ask1000,
    Cast,
    /// Starts a server, calls it once and stops it.
    Spawn,
}

impl Place {
    fn runtime(self) -> Runtime {
        let runtime = match self {
            Self::OneThread => runtime::Builder::new_current_thread().enable_time().build(),
            Self::Workers | Self::Outside => two_workers(),
        };
        runtime.expect("a tokio runtime")
    }
}

/// Returns nanoseconds per message, measured in a new runtime.
pub fn nanoseconds_per_message<P: Peer>(work: Work, place: Place, messages: u32) -> f64 {
    let runtime = place.runtime();
    let measurement = async move {
        let host = P::host(matches!(place, Place::OneThread)).await;
        seconds_per_message::<P>(&host, work, messages).await
    };
    let seconds = match place {
        Place::Workers => runtime.block_on(runtime.spawn(measurement)).expect("no panic"),
        Place::Outside => runtime.block_on(measurement),
        Place::OneThread => P::block_on(&runtime, measurement),
    };
    seconds * 1e9
}

/// Returns seconds per message after a warm-up. Sends batches of `messages` until the
/// measurement is long enough.
async fn seconds_per_message<P: Peer>(host: &P::Host, work: Work, messages: u32) -> f64 {
    let count = if let Work::Ask1000 = work { SERVERS } else { 1 };
    let mut servers = Vec::new();
    for key in 0..count {
        let server = P::spawn(host, key).await;
        server.ask().await;
        servers.push(server);
    }
    let servers = servers.into();
    let mut seconds = 0.0;
    for least in [MIN_TIME / 5, MIN_TIME] {
        let (mut sent, begin) = (0, Instant::now());
        while begin.elapsed() < least {
            send(host, &servers, work, messages).await;
            sent += messages;
        }
        seconds = begin.elapsed().as_secs_f64() / f64::from(sent);
    }
    seconds
}

async fn send<P: Peer>(host: &P::Host, servers: &Arc<[P]>, work: Work, messages: u32) {
    let server = &servers[0];
    match work {
        Work::Ask => {
            for _ in 0..messages {
                server.ask().await;
            }
        }
        Work::AskWithin => {
            for _ in 0..messages {
                server.ask_within().await;
            }
        }
        Work::Ask64 | Work::Ask1000 => send_from_many_callers(servers, messages).await,
        Work::Cast => {
            let before = server.ask().await;
            for _ in 0..messages {
                server.cast().await;
            }
            // This call is handled after all casts.
            assert_eq!(server.ask().await, before + u64::from(messages));
        }
        Work::Spawn => {
            for key in 1..=messages {
                let server = P::spawn(host, key).await;
                server.ask().await;
                server.stop().await;
            }
        }
    }
}

/// Lets 64 callers call the servers in turn. Each caller begins at another server.
async fn send_from_many_callers<P: Peer>(servers: &Arc<[P]>, messages: u32) {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let servers = servers.clone();
        callers.spawn(async move {
            let first = (caller * SERVERS / CALLERS) as usize;
            for nth in 0..(messages / CALLERS) as usize {
                servers[(first + nth) % servers.len()].ask().await;
            }
        });
    }
    callers.join_all().await;
}
