//! Reminders: messages with a due time, stored in the record of their server.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, DecodeError, EncodeError},
    support::sync::{
        Notify,
        atomic::{AtomicU64, Ordering},
        time::Instant,
    },
};

/// The due time of a reminder. A time in the past is due at once.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use persistent_runtime::When;
///
/// assert_eq!(When::from(Duration::from_secs(60)), When::In(Duration::from_secs(60)));
/// assert_eq!(When::from(SystemTime::UNIX_EPOCH), When::At(SystemTime::UNIX_EPOCH));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This long after the call.
    In(Duration),
    /// At this time.
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

/// The system time at the opening of the runtime, advanced by tokio's clock. Tests can pause it, and
/// a change of the system time does not fire thousands of reminders.
pub(crate) struct WallClock {
    opened: SystemTime,
    since: Instant,
}

impl WallClock {
    pub(crate) fn start() -> Self {
        Self { opened: SystemTime::now(), since: Instant::now() }
    }

    /// Returns the time in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.millis(When::In(Duration::ZERO))
    }

    /// Returns the time in microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        let since_epoch = self.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
    }

    fn time(&self) -> SystemTime {
        self.opened + self.since.elapsed()
    }

    /// Returns a due time in milliseconds since 1970.
    pub(crate) fn millis(&self, when: When) -> u64 {
        let time = match when {
            When::At(time) => Some(time),
            When::In(wait) => self.time().checked_add(wait),
        };
        let since_epoch = time.map(|time| time.duration_since(SystemTime::UNIX_EPOCH));
        match since_epoch {
            Some(Ok(elapsed)) => u64::try_from(elapsed.as_millis()).unwrap_or(NEVER).min(NEVER),
            // Before 1970.
            Some(Err(_)) => 0,
            None => NEVER,
        }
    }
}

/// The latest time that fits a SQLite integer.
pub(crate) const NEVER: u64 = i64::MAX.cast_unsigned();

/// The reminders of one server, earliest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reminders(Vec<Reminder>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reminder {
    due: u64,
    name: String,
    /// Encoded separately: a message that cannot be decoded affects no other reminder.
    message: Vec<u8>,
}

impl Reminder {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }
}

impl Reminders {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() { Ok(Self::default()) } else { codec::decode(bytes) }
    }

    /// Returns the stored form.
    pub(crate) fn write(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        if !self.0.is_empty() {
            codec::encode(self, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Returns the due time of the earliest reminder.
    pub(crate) fn due(&self) -> Option<u64> {
        self.0.first().map(|reminder| reminder.due)
    }

    /// Returns the reminders that are due.
    pub(crate) fn due_by(&self, now: u64) -> Vec<Reminder> {
        self.0.iter().take_while(|reminder| reminder.due <= now).cloned().collect()
    }

    /// Sets a reminder. Replaces one of the same name.
    pub(crate) fn set(&mut self, name: &str, due: u64, message: Vec<u8>) {
        self.cancel(name);
        self.0.push(Reminder { due, name: name.to_owned(), message });
        self.0.sort_unstable();
    }

    /// Removes a reminder. Returns true if there was one of this name.
    pub(crate) fn cancel(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|reminder| reminder.name != name);
        self.0.len() < before
    }

    /// Removes exactly this reminder. Returns false if it has been replaced or removed.
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

/// The signal that wakes the reminder scheduler of a type: a reminder was stored that is due earlier
/// than the one that the scheduler waits for.
pub(crate) struct Wakeup {
    /// The due time that the scheduler waits for.
    waits_until: AtomicU64,
    notify: Notify,
}

impl Wakeup {
    pub(crate) fn new() -> Self {
        Self { waits_until: AtomicU64::new(u64::MAX), notify: Notify::new() }
    }

    /// Reports that a reminder due at `due` was stored.
    pub(crate) fn stored(&self, due: u64) {
        if due < self.waits_until.load(Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    /// Sets the due time that the scheduler waits for. `None` wakes it for any reminder.
    pub(crate) fn wait_until(&self, due: Option<u64>) {
        self.waits_until.store(due.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}
