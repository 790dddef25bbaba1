//! Fixed plans that cover every action.

use persistent_runtime::Restart;

use super::{
    generate::IDLE,
    plan::{Act, Ending, Level, Plan, Step, WaitLimit},
};

impl Plan {
    /// Returns a plan with three servers that covers every action, with transfers to a second
    /// runtime if `moves`, or else with restarts.
    #[must_use]
    pub fn tour(level: Level, restart: Restart, moves: bool) -> Self {
        let write = [Act::Write(None), Act::Write(Some(1)), Act::Read(None), Act::Cast];
        let idles = [Act::Sleep(IDLE - 1), Act::Read(None), Act::Sleep(2 * IDLE), Act::Write(None)];
        let crashes = [
            Act::Panic { changed: true, wait: None },
            Act::Read(None),
            Act::Write(None),
            Act::Panic { changed: true, wait: Some(1) },
        ];
        let ends = [
            Act::Stop { finished: false },
            Act::Write(None),
            Act::Kill,
            Act::Write(None),
            Act::Stop { finished: true },
            Act::Write(None),
            Act::Delete,
            Act::Write(None),
        ];
        let restart_or_move = |orderly| {
            if moves { Act::Transfer { back: false } } else { Act::Restart { orderly } }
        };
        // A reminder that is tried again late changes the server behind its last read, which
        // histories with transfers compare with what is stored.
        let casts = if moves { vec![Act::Cast] } else { vec![Act::Cast, Act::Remind(5)] };
        let first = [&write[..], &idles, &crashes, &[restart_or_move(true)], &write].concat();
        let second = [&write[..], &ends, &[restart_or_move(false)], &write].concat();
        let third = [&casts[..], &crashes, &idles, &[Act::Touch, Act::Write(None)]].concat();
        let clients = [first, second, third].into_iter().enumerate();
        let clients = clients
            .map(|(server, acts)| {
                let steps = (100 * u16::try_from(server).unwrap_or(0)..).zip(acts);
                let step = |(id, act)| Step {
                    server,
                    act,
                    id,
                    wait_limit: WaitLimit::Default,
                    durable: level != Level::EveryMessage && id % 4 == 0,
                };
                steps.map(step).collect()
            })
            .collect();
        Self {
            seed: 0,
            level,
            restart,
            max_restarts: None,
            mailbox: 1024,
            latency: 1,
            clients,
            faults: Vec::new(),
            ending: Ending { reads: true, orderly: true },
        }
    }
}
