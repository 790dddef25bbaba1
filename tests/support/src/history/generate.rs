//! Generates a plan from a seed.

use std::time::Duration;

use fastrand::Rng;
use persistent_runtime::Restart;

use super::plan::{Act, Ending, Level, Plan, PlannedFault, Step, WaitLimit};
use crate::{Fault, Request};

/// The idle timeout in milliseconds.
pub(super) const IDLE: u64 = 100;

/// Sleeps in milliseconds, most of them close to the idle timeout.
const SLEEPS: [u64; 10] =
    [1, 5, 30, IDLE - 2, IDLE - 1, IDLE, IDLE + 1, IDLE + 2, 150, 2 * IDLE + 1];

impl Plan {
    /// Generates the plan of a seed.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let level = match rng.u8(..10) {
            0 => Level::Every(rng.u64(20..90)),
            1 => Level::OnStop,
            _ => Level::EveryMessage,
        };
        let restart = match rng.u8(..4) {
            0 => Restart::Temporary,
            1 => Restart::Permanent,
            _ => Restart::Transient,
        };
        let transfers = rng.u8(..6) == 0;
        let restarts = !transfers && rng.u8(..5) < 2;
        let max_restarts = (!transfers && rng.u8(..6) == 0).then(|| rng.u32(..2));
        let mailbox = if rng.u8(..4) == 0 { rng.usize(1..3) } else { 1024 };
        let latency = [0, 0, 1, 3, 10][rng.usize(..5)];
        let servers = rng.usize(1..4);
        let clients = rng.usize(2..5);
        let mut id = 0;
        let clients = (0..clients)
            .map(|_| {
                (0..rng.usize(3..9))
                    .map(|_| {
                        id += 1;
                        step(&mut rng, id, servers, level, transfers, restarts)
                    })
                    .collect()
            })
            .collect();
        let faults = if rng.bool() { rng.usize(1..4) } else { 0 };
        let faults = (0..faults).map(|_| fault(&mut rng, servers)).collect();
        let ending = Ending { reads: transfers || rng.bool(), orderly: transfers || rng.bool() };
        Self { seed, level, restart, max_restarts, mailbox, latency, clients, faults, ending }
    }
}

fn step(
    rng: &mut Rng,
    id: u16,
    servers: usize,
    level: Level,
    transfers: bool,
    restarts: bool,
) -> Step {
    let act = match rng.u8(..100) {
        0..4 if restarts => Act::Restart { orderly: rng.bool() },
        0..12 if transfers => Act::Transfer { back: rng.bool() },
        0..34 => Act::Write(wait(rng)),
        34..52 => Act::Read(wait(rng)),
        52..55 => Act::Touch,
        55..65 => Act::Cast,
        65..73 => Act::Panic { changed: rng.bool(), wait: wait(rng) },
        73..79 => Act::Stop { finished: rng.bool() },
        79..82 => Act::Delete,
        82..85 => Act::Kill,
        85..87 => Act::Reset,
        87..91 if !transfers => Act::Remind(SLEEPS[rng.usize(..SLEEPS.len())]),
        _ => Act::Sleep(SLEEPS[rng.usize(..SLEEPS.len())]),
    };
    let wait_limit = match rng.u8(..16) {
        0 => WaitLimit::Within(short(rng)),
        1 => WaitLimit::Dropped(short(rng)),
        _ => WaitLimit::Default,
    };
    let durable = level != Level::EveryMessage && rng.u8(..5) == 0;
    Step { server: rng.usize(..servers), act, id, wait_limit, durable }
}

/// Returns the time for which a handler waits, or `None` for a synchronous handler.
fn wait(rng: &mut Rng) -> Option<u64> {
    [None, None, None, Some(0), Some(1), Some(10), Some(40)][rng.usize(..7)]
}

fn short(rng: &mut Rng) -> u64 {
    [0, 0, 1, 2, 5, 15, 50][rng.usize(..7)]
}

fn fault(rng: &mut Rng, servers: usize) -> PlannedFault {
    let long = Duration::from_millis([5, 60, 300, 7_000, 100_000][rng.usize(..5)]);
    let fault = match rng.u8(..12) {
        0..4 => Fault::Refuse,
        4..6 => Fault::RefuseThoughDone,
        6 => Fault::RefuseLate(long),
        7..9 => Fault::Slow(long),
        9..11 => Fault::Late(long),
        _ => Fault::Panic,
    };
    PlannedFault {
        server: rng.usize(..servers),
        request: if rng.u8(..4) == 0 { Request::Load } else { Request::Commit },
        nth: rng.usize(1..7),
        fault,
        lasts: rng.u8(..4) == 0,
    }
}
