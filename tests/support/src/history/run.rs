//! Runs a plan and records its events.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{
    Address, CallError, Client, Event, Observer, Options, Persist, Runtime, ServerId, StopReason,
};
use tokio::time::{Instant, timeout};

use super::{
    chronicle::{self, Call, Chronicle, Fired, Outcome, Restarted},
    generate::IDLE,
    ledger::{Ledger, LedgerClient, LedgerMessage},
    plan::{Act, Level, Plan, Step, WaitLimit, key},
};
use crate::{Fault, FaultyStorage};

/// The deadline of a call in milliseconds.
pub(super) const DEADLINE: u64 = 5_000;
/// Longer than any call can take. A call that takes longer hangs.
const FOR_EVER: Duration = Duration::from_secs(1_000);
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A history that no order of events explains.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The violated promise.
    pub reason: String,
    /// The plan and its events.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        f.write_str(&self.trace)
    }
}

impl Plan {
    /// Runs the history and returns the number of faults that took effect.
    ///
    /// # Errors
    /// If the history breaks a promise.
    ///
    /// # Panics
    /// If tokio's runtime cannot be built.
    pub fn run(&self) -> Result<usize, Failure> {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // Threads of the storage must not influence the order of the tasks.
            .global_queue_interval(u32::MAX)
            .build()
            .expect("a tokio");
        tokio.block_on(async { chronicle::renew() });
        let storages = [FaultyStorage::default(), FaultyStorage::default()];
        let leaks = tokio.block_on(self.happen(&storages));
        drop(tokio);
        let chronicle = chronicle::close();
        let verdict = match leaks {
            Err(leak) => Err(leak),
            Ok(()) => self.judge(&chronicle),
        };
        match verdict {
            Ok(()) => Ok(chronicle.faults.len()),
            Err(reason) => Err(Failure { reason, trace: self.trace(&chronicle) }),
        }
    }

    async fn happen(&self, storages: &[FaultyStorage; 2]) -> Result<(), String> {
        let healed = Arc::new(AtomicBool::new(false));
        self.script(&storages[0], &healed);
        storages[1].script({
            let latency = self.latency;
            move |_, _| slow(latency)
        });
        let here = self.open(&storages[0]).await;
        let there = if self.transfers() { Some(self.open(&storages[1]).await) } else { None };
        let world = Arc::new(World {
            plan: self.clone(),
            storage: storages[0].clone(),
            current: Mutex::new(Current { runtime: Some(here), generation: 0 }),
            there,
            restarting: AtomicBool::new(false),
        });
        let clients: Vec<_> = self
            .clients
            .iter()
            .enumerate()
            .map(|(client, steps)| {
                let (world, steps) = (world.clone(), steps.clone());
                tokio::spawn(async move {
                    for step in steps {
                        world.perform(client, step).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.map_err(|error| format!("a client: {error}"))?;
        }
        healed.store(true, Ordering::SeqCst);
        world.finish(storages).await?;
        drop(world);
        // Lets leftover tasks end.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if chronicle::alive() > 0 {
            return Err(format!("{} servers are left in memory", chronicle::alive()));
        }
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if tasks > 0 {
            return Err(format!("{tasks} tasks are left"));
        }
        match storages.iter().map(FaultyStorage::clones).max() {
            Some(1) => Ok(()),
            clones => Err(format!("the runtime was not dropped: {clones:?} clones of its storage")),
        }
    }

    /// Makes the storage fail as planned.
    fn script(&self, storage: &FaultyStorage, healed: &Arc<AtomicBool>) {
        let (plan, healed) = (self.clone(), healed.clone());
        let mut requests = std::collections::HashMap::new();
        storage.script(move |request, id| {
            let n: &mut usize = requests.entry((request, id.key().to_owned())).or_default();
            *n += 1;
            let planned = plan.faults.iter().find(|fault| {
                let is_now = fault.nth == *n || fault.lasts && fault.nth < *n;
                is_now && fault.request == request && key(fault.server) == id.key()
            });
            match planned {
                Some(fault) if !healed.load(Ordering::SeqCst) => {
                    let fired = Fired { at: chronicle::now(), fault: *fault };
                    chronicle::tell(|chronicle| chronicle.faults.push(fired));
                    fault.fault
                }
                _ => slow(plan.latency),
            }
        });
    }

    async fn open(&self, storage: &FaultyStorage) -> Runtime {
        let options = Options::new()
            .persist(match self.level {
                Level::EveryMessage => Persist::EveryMessage,
                Level::Every(ms) => Persist::Every(Duration::from_millis(ms)),
                Level::OnStop => Persist::OnStop,
            })
            .restart(self.restart)
            .max_restarts(self.max_restarts.unwrap_or(1_000), Duration::from_secs(5))
            .idle_timeout(Duration::from_millis(IDLE))
            .call_timeout(Duration::from_millis(DEADLINE))
            .mailbox(self.mailbox);
        let builder = Runtime::builder().configure::<Ledger>(options).observer(Ends);
        let builder = builder.clock(chronicle::wall_clock());
        let opened = builder.register::<Ledger>().open_with(storage.session()).await;
        opened.expect("the options are valid")
    }

    /// Formats the events for a reader.
    fn trace(&self, chronicle: &Chronicle) -> String {
        let mut lines: Vec<(u64, String)> = chronicle
            .calls
            .iter()
            .map(|call| (call.begin.tick, call.describe()))
            .chain(chronicle.faults.iter().map(|Fired { at, fault }| {
                let (server, request) = (key(fault.server), fault.request);
                let line = format!("{request:?} {} of {server}: {:?}", fault.nth, fault.fault);
                (at.tick, format!("{:>5} ms #{:<3} {line}", at.ms, at.tick))
            }))
            .chain(chronicle.restarts.iter().map(
                |Restarted { begin, end, orderly, unsaved, .. }| {
                    let how = if *orderly { "is shut down" } else { "is dropped" };
                    let line = format!("a runtime {how} until #{}, unsaved: {unsaved:?}", end.tick);
                    (begin.tick, format!("{:>5} ms #{:<3} {line}", begin.ms, begin.tick))
                },
            ))
            .chain(chronicle.ends.iter().map(|ended| {
                let (at, tick) = (ended.stopped, ended.terminating);
                let line = format!("{} ends from #{tick}", ended.key);
                (at.tick, format!("{:>5} ms #{:<3} {line}", at.ms, at.tick))
            }))
            .collect();
        lines.sort();
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        format!("{self}{}\n", lines.join("\n"))
    }
}

fn slow(latency: u64) -> Fault {
    if latency == 0 { Fault::None } else { Fault::Slow(Duration::from_millis(latency)) }
}

/// Records orderly ends.
struct Ends;

impl Observer for Ends {
    fn on_event(&self, server: &ServerId, event: &Event) {
        if let Event::Stopped { .. } = event {
            chronicle::stopped(server.key());
        }
    }
}

/// The environment of a history.
struct World {
    plan: Plan,
    storage: FaultyStorage,
    current: Mutex<Current>,
    there: Option<Runtime>,
    restarting: AtomicBool,
}

struct Current {
    runtime: Option<Runtime>,
    generation: usize,
}

impl World {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a client of a server, and the number of its runtime.
    fn client(&self, server: usize) -> (LedgerClient, usize) {
        let current = self.current();
        let runtime = current.runtime.as_ref().expect("a runtime exists while clients run");
        (runtime.at::<Ledger>(key(server), ()), current.generation)
    }

    async fn perform(&self, client: usize, step: Step) {
        match step.act {
            Act::Sleep(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Act::Restart { orderly } => self.restart(orderly).await,
            _ => self.call(client, step).await,
        }
    }

    async fn call(&self, client: usize, step: Step) {
        let (server, generation) = self.client(step.server);
        let deadline = match step.wait_limit {
            WaitLimit::Within(ms) => ms,
            WaitLimit::Default | WaitLimit::Dropped(_) => DEADLINE,
        };
        let server = server.with_timeout(Duration::from_millis(deadline));
        let server = if step.durable { server.with_persist(Persist::EveryMessage) } else { server };
        let (begin, clock) = (chronicle::now(), Instant::now());
        let call = self.ask(&server, &step);
        let outcome = match step.wait_limit {
            WaitLimit::Dropped(ms) => timeout(Duration::from_millis(ms), call).await,
            _ => timeout(FOR_EVER, call).await,
        };
        let outcome = match (outcome, step.wait_limit) {
            (Ok(Ok(Some(log))), _) => Outcome::Saw(log),
            (Ok(Ok(None)), _) => Outcome::Done,
            (Ok(Err(error)), _) => Outcome::Failed(error),
            (Err(_), WaitLimit::Dropped(_)) => Outcome::Dropped,
            (Err(_), _) => Outcome::Hung,
        };
        // A transfer may exceed its deadline: it waits until its outcome is known.
        let late = clock.elapsed() > Duration::from_millis(deadline + 1);
        let end = chronicle::now();
        chronicle::tell(|chronicle| {
            if late && !matches!(step.act, Act::Transfer { .. }) {
                chronicle.violations.push(format!("{step} takes longer than its deadline"));
            }
            chronicle.calls.push(Call { client, step, generation, begin, end, outcome });
        });
    }

    async fn ask(&self, server: &LedgerClient, step: &Step) -> Result<Option<Vec<u16>>, CallError> {
        let id = step.id;
        match step.act {
            Act::Write(None) => server.write(id).await.map(Some),
            Act::Write(Some(wait)) => {
                server.write_slowly(id, Duration::from_millis(wait)).await.map(Some)
            }
            Act::Read(None) => server.read().await.map(Some),
            Act::Read(Some(wait)) => {
                server.read_slowly(Duration::from_millis(wait)).await.map(Some)
            }
            Act::Touch => server.touch().await.map(Some),
            Act::Cast => server.cast(LedgerMessage::Write { id }).await.map(|()| None),
            Act::Remind(wait) => {
                server.remind(id, Duration::from_millis(wait)).await.map(|()| None)
            }
            Act::Panic { changed, wait: None } => {
                server.fail(changed.then_some(id)).await.map(|()| None)
            }
            Act::Panic { changed, wait: Some(wait) } => {
                let wait = Duration::from_millis(wait);
                server.fail_slowly(changed.then_some(id), wait).await.map(|()| None)
            }
            Act::Stop { finished: true } => server.stop(StopReason::Finished).await.map(|()| None),
            Act::Stop { finished: false } => server.stop("another").await.map(|()| None),
            Act::Delete => server.delete().await.map(|()| None),
            Act::Kill => {
                server.kill().await.unwrap();
                Ok(None)
            }
            Act::Reset => {
                server.reset().await.unwrap();
                Ok(None)
            }
            Act::Transfer { back } => self.transfer(step.server, back).await.map(|()| None),
            Act::Restart { .. } | Act::Sleep(_) => Ok(None),
        }
    }

    async fn transfer(&self, server: usize, back: bool) -> Result<(), CallError> {
        let here = self.current().runtime.clone();
        let (Some(here), Some(there)) = (here, &self.there) else { return Ok(()) };
        let address = Address::<Ledger>::existing(key(server));
        if back {
            there.transfer(&address, &here).await
        } else {
            here.transfer(&address, there).await
        }
    }

    async fn restart(&self, orderly: bool) {
        if self.restarting.swap(true, Ordering::SeqCst) {
            return;
        }
        self.end(orderly).await;
        // No other client runs between the end of the old runtime and this statement.
        let next = self.plan.open(&self.storage).await;
        self.current().runtime = Some(next);
        self.restarting.store(false, Ordering::SeqCst);
    }

    /// Ends the current runtime. Returns true if all servers ended in time.
    async fn end(&self, orderly: bool) -> bool {
        let begin = chronicle::now();
        let old = self.current().runtime.clone();
        let outcome = match &old {
            Some(old) if orderly => old.shutdown(SHUTDOWN).await,
            _ => Ok(()),
        };
        let unsaved = match &outcome {
            Ok(()) => Vec::new(),
            Err(error) => {
                let keys = error.unsaved.iter().map(|unsaved| unsaved.server.key().to_owned());
                keys.collect()
            }
        };
        // This must be the last clone, so that the runtime is dropped.
        self.current().runtime = None;
        drop(old);
        chronicle::new_epoch();
        let end = chronicle::now();
        let finished = orderly && outcome.as_ref().err().is_none_or(|error| error.unfinished == 0);
        let restarted = Restarted { begin, end, orderly, finished, unsaved };
        chronicle::tell(|chronicle| chronicle.restarts.push(restarted));
        self.current().generation += 1;
        orderly && outcome.is_ok()
    }

    /// Ends the history and reads the final states.
    async fn finish(&self, storages: &[FaultyStorage; 2]) -> Result<(), String> {
        let plan = &self.plan;
        if plan.ending.reads {
            // Faulty requests in flight may take their full length, but no longer.
            let longest = plan.faults.iter().map(|fault| fault.fault.length()).max();
            // A reminder whose message was killed is tried again after a second.
            tokio::time::sleep(longest.unwrap_or_default() + Duration::from_secs(3)).await;
            for server in 0..plan.servers() {
                self.client(server).0.reset().await.unwrap();
                self.call(LAST, last_read(server)).await;
            }
        }
        let orderly = self.end(plan.ending.orderly).await;
        if plan.ending.reads && plan.ending.orderly && !orderly {
            return Err("a shutdown hangs although the storage works".to_owned());
        }
        if let Some(there) = &self.there {
            there.shutdown(SHUTDOWN).await.map_err(|error| format!("there: {error}"))?;
        }
        // A history with transfers has two storages.
        for (place, storage) in storages.iter().enumerate().take(1 + usize::from(plan.transfers()))
        {
            let reopened = plan.open(storage).await;
            self.current().runtime = Some(reopened);
            for server in 0..plan.servers() {
                let is_there = storage.states.get(&ServerId::new("Ledger", key(server))).is_some();
                if is_there || place == 0 && !plan.transfers() {
                    self.call(LAST + 1 + place, last_read(server)).await;
                }
            }
            self.end(true).await;
        }
        Ok(())
    }
}

/// The client that reads the final states in memory. The next two read the stored ones.
pub(super) const LAST: usize = 100;

fn last_read(server: usize) -> Step {
    let act = Act::Read(None);
    Step { server, act, id: 0, wait_limit: WaitLimit::Default, durable: false }
}
