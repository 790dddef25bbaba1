//! Durable timers: part of a server's record, rung by one task a type.

use std::{
    collections::HashSet,
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    api::address::Address, api::server::Server, codec, codec::DecodeError, codec::EncodeError,
    engine::registry::Kind, error::CallError, storage::StorageError, support::catch::await_caught,
    support::catch::caught, support::sync::Notify, support::sync::atomic::AtomicU64,
    support::sync::atomic::Ordering, support::sync::task::JoinSet, support::sync::time,
    support::sync::time::Instant,
};

/// When a durable timer is due. A time that has passed is due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So much later than now.
    In(Duration),
    /// At that time.
    At(SystemTime),
}

impl From<Duration> for When {
    fn from(wait: Duration) -> Self {
        Self::In(wait)
    }
}

impl From<SystemTime> for When {
    fn from(time: SystemTime) -> Self {
        Self::At(time)
    }
}

/// The wall clock as it was when the runtime opened, carried on by tokio's
/// clock: so tests can pause it, and setting the machine's clock does not fire
/// timers by the thousand.
pub(crate) struct Clock {
    opened: SystemTime,
    since: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { opened: SystemTime::now(), since: Instant::now() }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.millis(When::In(Duration::ZERO))
    }

    /// Microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        let since_epoch = self.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
    }

    fn time(&self) -> SystemTime {
        self.opened + self.since.elapsed()
    }

    pub(crate) fn millis(&self, when: When) -> u64 {
        let time = match when {
            When::At(time) => Some(time),
            When::In(wait) => self.time().checked_add(wait),
        };
        let since_epoch = time.map(|time| time.duration_since(SystemTime::UNIX_EPOCH));
        match since_epoch {
            Some(Ok(elapsed)) => u64::try_from(elapsed.as_millis()).unwrap_or(NEVER).min(NEVER),
            // Before 1970, and after all time.
            Some(Err(_)) => 0,
            None => NEVER,
        }
    }
}

/// The latest time that fits a SQLite integer.
const NEVER: u64 = i64::MAX.cast_unsigned();

/// The durable timers of one server, the earliest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reminders(Vec<Reminder>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reminder {
    due: u64,
    name: String,
    /// Encoded apart, so that one that can't be read spoils no other.
    message: Vec<u8>,
}

impl Reminder {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The message. A panic in its own code is an error as well.
    pub(crate) fn message<M: DeserializeOwned>(&self) -> Result<M, DecodeError> {
        caught(|| codec::decode(&self.message))
            .unwrap_or_else(|reason| Err(DecodeError::Restore { reason }))
    }
}

impl Reminders {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() { Ok(Self::default()) } else { codec::decode(bytes) }
    }

    /// The stored form.
    pub(crate) fn write(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        if !self.0.is_empty() {
            codec::encode(self, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// When the earliest is due.
    pub(crate) fn due(&self) -> Option<u64> {
        self.0.first().map(|reminder| reminder.due)
    }

    /// Those that are due.
    pub(crate) fn due_by(&self, now: u64) -> Vec<Reminder> {
        self.0.iter().take_while(|reminder| reminder.due <= now).cloned().collect()
    }

    pub(crate) fn set(&mut self, name: &str, due: u64, message: Vec<u8>) {
        self.cancel(name);
        self.0.push(Reminder { due, name: name.to_owned(), message });
        self.0.sort_unstable();
    }

    /// Whether there was one.
    pub(crate) fn cancel(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|reminder| reminder.name != name);
        self.0.len() < before
    }

    /// Whether exactly this one was there.
    pub(crate) fn remove(&mut self, reminder: &Reminder) -> bool {
        let before = self.0.len();
        self.0.retain(|other| other != reminder);
        self.0.len() < before
    }

    pub(crate) fn list(&self) -> Vec<(String, SystemTime)> {
        let time = |due| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(due));
        self.0
            .iter()
            .map(|reminder| {
                (reminder.name.clone(), time(reminder.due).unwrap_or(SystemTime::UNIX_EPOCH))
            })
            .collect()
    }
}

/// Wakes a type's ringer when a timer is earlier than what it sleeps for.
pub(crate) struct Bell {
    sleeps_until: AtomicU64,
    rung: Notify,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { sleeps_until: AtomicU64::new(u64::MAX), rung: Notify::new() }
    }

    /// A timer that is due then is stored.
    pub(crate) fn ring(&self, due: u64) {
        if due < self.sleeps_until.load(Ordering::SeqCst) {
            self.rung.notify_one();
        }
    }
}

/// How many servers are woken at once.
const AT_ONCE: usize = 64;
/// When a server that could not be woken, or the storage, is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Wakes the servers of a type whose timers are due.
pub(crate) async fn ring<S: Server>(kind: Arc<Kind<S>>) {
    let mut ringer = Ringer { calls: JoinSet::new(), ringing: HashSet::new() };
    while !kind.core().is_halted() {
        // Whatever is stored while we look rings.
        kind.bell().sleeps_until.store(u64::MAX, Ordering::SeqCst);
        let now = kind.core().clock().now();
        let next = ringer.wake_due(&kind, now).await.unwrap_or(Some(now + millis(RETRY)));
        kind.bell().sleeps_until.store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
        let now = kind.core().clock().now();
        let wait = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        ringer.rest(&kind, wait).await;
    }
}

/// A slow server keeps none of the others waiting.
struct Ringer {
    calls: JoinSet<(Arc<str>, Result<(), CallError>)>,
    /// Those whose timers are being handled.
    ringing: HashSet<Arc<str>>,
}

impl Ringer {
    /// Wakes what is due; returns when the next one is.
    async fn wake_due<S: Server>(
        &mut self,
        kind: &Arc<Kind<S>>,
        now: u64,
    ) -> Result<Option<u64>, StorageError> {
        let mut after: Option<(u64, Arc<str>)> = None;
        loop {
            let from = after.as_ref().map(|(due, key)| (*due, &**key));
            let page = async { kind.core().storage().due(S::NAME, from, AT_ONCE).await };
            let page =
                await_caught(page).await.unwrap_or_else(|panic| Err(StorageError::other(panic)))?;
            for (due, key) in &page {
                if *due > now {
                    return Ok(Some(*due));
                }
                if self.calls.len() == AT_ONCE {
                    // Each one that is done has this looked at again.
                    return Ok(None);
                }
                if self.ringing.insert(key.clone()) {
                    let (key, handle) = (key.clone(), kind.handle(&Address::existing(key.clone())));
                    self.calls.spawn(async move { (key, handle.remind().await) });
                }
            }
            if page.len() < AT_ONCE {
                return Ok(None);
            }
            after = page.into_iter().next_back();
        }
    }

    /// Until the bell rings, the wait is over, or a server is done.
    async fn rest<S: Server>(&mut self, kind: &Kind<S>, wait: Option<Duration>) {
        let mut rung = pin!(kind.bell().rung.notified());
        let mut over = pin!(async {
            match wait {
                Some(wait) => time::sleep(wait).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(Some(done)) = self.calls.poll_join_next(cx) {
                self.done(done.ok(), kind);
                return Poll::Ready(());
            }
            if rung.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { over.as_mut().poll(cx) }
        })
        .await;
    }

    fn done<S: Server>(&mut self, done: Option<(Arc<str>, Result<(), CallError>)>, kind: &Kind<S>) {
        let Some((key, outcome)) = done else { return };
        match outcome {
            // A panic costs the message, the timer's as any other.
            Ok(()) | Err(CallError::Crashed { .. }) => {
                self.ringing.remove(&key);
            }
            Err(_) if kind.is_stopping() => {}
            // It counts as ringing until it is tried again.
            Err(_) => {
                self.calls.spawn(async move {
                    time::sleep(RETRY).await;
                    (key, Ok(()))
                });
            }
        }
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(NEVER)
}
