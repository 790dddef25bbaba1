//! A fixed history on a storage that fails at its first request, then at its second, and
//! so on, until the history ends before the failing request.

use std::time::Duration;

use persistent_runtime::{Context, Restart, Runtime, persistent_server};
use persistent_tests::{
    Fault, FaultyStorage, Request,
    history::{Level, Plan, PlannedFault},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

const FAULTS: [Fault; 9] = [
    Fault::Refuse,
    Fault::RefuseThoughDone,
    Fault::RefuseLate(Duration::from_millis(20)),
    Fault::RefuseLate(Duration::from_secs(100)),
    Fault::Slow(Duration::from_millis(20)),
    Fault::Slow(Duration::from_secs(100)),
    Fault::Late(Duration::from_millis(20)),
    Fault::Late(Duration::from_secs(100)),
    Fault::Panic,
];

fn sweep(level: Level, restart: Restart, moves: bool) {
    let tour = Plan::tour(level, restart, moves);
    let run = |fault: Option<PlannedFault>| {
        let plan = Plan { faults: fault.into_iter().collect(), ..tour.clone() };
        plan.run().unwrap_or_else(|failure| panic!("{failure}"))
    };
    assert_eq!(run(None), 0);
    let mut faults = 0;
    for server in 0..tour.servers() {
        for request in [Request::Load, Request::Commit] {
            for (fault, lasts) in
                FAULTS.into_iter().flat_map(|fault| [(fault, false), (fault, true)])
            {
                let planned = |nth| Some(PlannedFault { server, request, nth, fault, lasts });
                let fired = (1..1_000).take_while(|nth| run(planned(*nth)) > 0).count();
                // A stop or delete that fails early leaves fewer requests to try.
                assert!(fired >= 2, "only {fired} requests: {:?}", planned(fired));
                faults += fired;
            }
        }
    }
    eprintln!("{faults} faults survived");
}

#[test]
fn a_server_that_commits_each_message_survives_a_fault_at_any_request() {
    for restart in [Restart::Transient, Restart::Permanent, Restart::Temporary] {
        sweep(Level::EveryMessage, restart, false);
    }
}

#[test]
fn a_transferred_server_survives_a_fault_at_any_request() {
    for restart in [Restart::Transient, Restart::Permanent, Restart::Temporary] {
        sweep(Level::EveryMessage, restart, true);
    }
}

#[test]
fn a_server_under_a_weaker_level_survives_a_fault_at_any_request() {
    for level in [Level::Every(50), Level::OnStop] {
        for restart in [Restart::Transient, Restart::Permanent, Restart::Temporary] {
            sweep(level, restart, false);
            sweep(level, restart, true);
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Alarm {
    rings: u64,
}

#[persistent_server(idle_timeout = "500ms", call_timeout = "1s")]
impl Alarm {
    pub fn set(&mut self, context: &Context<Self>) {
        context.remind("ring", 2 * SECOND, AlarmMessage::Ring);
    }

    #[info]
    fn ring(&mut self) {
        self.rings += 1;
    }

    pub fn rings(&self) -> u64 {
        self.rings
    }
}

/// Sets a reminder in one runtime and lets it fire in the next. Returns true if a request
/// failed.
fn rings_once(request: Request, nth: usize, fault: Fault, lasts: bool) -> bool {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tokio.block_on(async {
        let storage = FaultyStorage::default();
        let faulty = |from: usize| {
            let (mut n, mut fired) = (0, 0);
            let (sender, receiver) = tokio::sync::watch::channel(0);
            storage.script(move |asked, _| {
                n += usize::from(asked == request);
                let is_now = n == from || lasts && n > from;
                if asked != request || !is_now {
                    return Fault::None;
                }
                fired += 1;
                sender.send_replace(fired);
                fault
            });
            receiver
        };
        let open = || Runtime::builder().register::<Alarm>().open_with(storage.session());
        let fired = faulty(nth);
        let runtime = open().await.unwrap();
        let alarm = runtime.at::<Alarm>("a", ());
        let is_set = alarm.set().await.is_ok();
        tokio::time::sleep(SECOND).await;
        // The process dies before the reminder is due.
        drop((runtime, alarm));
        let runtime = open().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        let failed = *fired.borrow();
        storage.script(|_, _| Fault::None);
        // Longer than the longest fault, and long enough for the reminder scheduler to try again.
        tokio::time::sleep(250 * SECOND).await;
        let rings = runtime.at::<Alarm>("a", ()).rings().await.unwrap();
        assert!(
            rings == 1 || rings == 0 && !is_set,
            "{request:?} {nth} {fault:?} lasts: {lasts}: fired {rings} times, set: {is_set}"
        );
        runtime.shutdown(SECOND).await.unwrap();
        failed > 0
    })
}

#[test]
fn a_reminder_fires_once_whichever_request_fails() {
    let mut faults = 0;
    for request in [Request::Load, Request::Commit] {
        for (fault, lasts) in FAULTS.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
            let failed =
                (1..1_000).take_while(|nth| rings_once(request, *nth, fault, lasts)).count();
            assert!(failed >= 1, "{request:?} {fault:?} never takes effect");
            faults += failed;
        }
    }
    eprintln!("{faults} faults survived");
}
