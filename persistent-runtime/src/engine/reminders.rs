//! Reminders: messages with a due time, stored in the record of their server.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, DecodeError, EncodeError},
    engine::clock::millis,
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

/// A stored reminder, as [`Context::reminders`](crate::Context::reminders) and
/// [`Runtime::reminders`](crate::Runtime::reminders) list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reminder {
    /// The name.
    pub name: String,
    /// The time at which the message is handled next. `None` if the runtime has given up: the
    /// message has crashed the server as often as
    /// [`Options::reminder_attempts`](crate::Options::reminder_attempts) allows.
    pub due: Option<SystemTime>,
    /// The period, if the reminder was set by
    /// [`Context::remind_every`](crate::Context::remind_every).
    pub period: Option<Duration>,
    /// The number of failed attempts to handle the message.
    pub attempts: u32,
    /// The reason of the last failure: the panic message, or why the message cannot be decoded.
    pub error: Option<String>,
}

/// The latest time that fits a SQLite integer.
pub(crate) const NEVER: u64 = i64::MAX.cast_unsigned();

/// Returns the time that is this many milliseconds after 1970.
fn time(millis: u64) -> SystemTime {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The reminders of one server, in the order of their next attempts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reminders(Vec<StoredReminder>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReminder {
    due: u64,
    name: String,
    /// Encoded separately: a message that cannot be decoded affects no other reminder.
    message: Vec<u8>,
    /// The version of the server type that encoded the message. 0 if a release before this field
    /// stored the reminder.
    #[serde(default)]
    version: u32,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    attempts: u32,
    reason: String,
    /// The time of the next attempt, if there is one.
    retry: Option<u64>,
}

impl StoredReminder {
    pub(crate) fn new(
        name: &str,
        due: u64,
        period: Option<u64>,
        version: u32,
        message: Vec<u8>,
    ) -> Self {
        Self { due, name: name.to_owned(), message, version, period, failure: None }
    }

    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Returns the time of the next attempt.
    fn next(&self) -> Option<u64> {
        match &self.failure {
            Some(failure) => failure.retry,
            None => Some(self.due),
        }
    }

    /// Returns the first tick of a periodic reminder after `now`. Missed ticks are skipped.
    fn tick_after(&self, now: u64) -> Option<u64> {
        // Damaged bytes may have a period of zero.
        let period = self.period?.max(1);
        let missed = now.saturating_sub(self.due) / period;
        Some(self.due.saturating_add(period.saturating_mul(missed + 1)).min(NEVER))
    }

    fn describe(&self) -> Reminder {
        let failure = self.failure.as_ref();
        Reminder {
            name: self.name.clone(),
            due: self.next().map(time),
            period: self.period.map(Duration::from_millis),
            attempts: failure.map_or(0, |failure| failure.attempts),
            error: failure.map(|failure| failure.reason.clone()),
        }
    }
}

impl Reminders {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes the reminders of a record of this version.
    pub(crate) fn read(bytes: &[u8], version: u32) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let Self(mut reminders) = codec::decode(bytes)?;
        for reminder in reminders.iter_mut().filter(|reminder| reminder.version == 0) {
            reminder.version = version;
        }
        Ok(Self(reminders))
    }

    /// Returns the stored form.
    pub(crate) fn write(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        if !self.0.is_empty() {
            codec::encode(self, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Returns the time of the next attempt.
    pub(crate) fn due(&self) -> Option<u64> {
        self.0.first()?.next()
    }

    /// Returns the earliest reminder, if it is due.
    pub(crate) fn due_by(&self, now: u64) -> Option<&StoredReminder> {
        self.0.first().filter(|reminder| reminder.next().is_some_and(|next| next <= now))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|reminder| reminder.name == name)
    }

    /// Returns the position of exactly this reminder, however often it has failed.
    fn find(&self, reminder: &StoredReminder) -> Option<usize> {
        self.0.iter().position(|other| other.name == reminder.name && other.due == reminder.due)
    }

    fn insert(&mut self, reminder: StoredReminder) {
        // `None` is the last: it is never due.
        let order = |reminder: &StoredReminder| (reminder.next().unwrap_or(u64::MAX), reminder.due);
        let index = self.0.partition_point(|other| order(other) <= order(&reminder));
        self.0.insert(index, reminder);
    }

    /// Sets a reminder. Replaces one of the same name. If `keeps_earlier`, it keeps the due time of
    /// a pending one that is due no later. Returns true if anything has changed.
    pub(crate) fn set(&mut self, mut reminder: StoredReminder, keeps_earlier: bool) -> bool {
        let old = self.position(&reminder.name).map(|index| self.0.remove(index));
        if let Some(old) = &old
            && keeps_earlier
            && old.period == reminder.period
            && old.due <= reminder.due
            && old.next().is_some()
        {
            reminder.due = old.due;
            reminder.failure.clone_from(&old.failure);
        }
        let has_changed = old.as_ref() != Some(&reminder);
        self.insert(reminder);
        has_changed
    }

    /// Removes a reminder. Returns true if there was one of this name.
    pub(crate) fn cancel(&mut self, name: &str) -> bool {
        self.position(name).map(|index| self.0.remove(index)).is_some()
    }

    /// Removes a reminder whose message is handled, or moves it to its next tick.
    pub(crate) fn finish(&mut self, reminder: &StoredReminder, now: u64) {
        let Some(index) = self.find(reminder) else { return };
        let finished = self.0.remove(index);
        if let Some(due) = finished.tick_after(now) {
            self.insert(StoredReminder { due, failure: None, ..finished });
        }
    }

    /// Records that the message of a reminder could not be handled. After `limit` attempts the
    /// runtime gives up; a periodic reminder goes on with its next tick. Returns the failed
    /// reminder; `None` if it has been replaced or removed.
    pub(crate) fn fail(
        &mut self,
        reminder: &StoredReminder,
        reason: &str,
        now: u64,
        limit: Option<u32>,
    ) -> Option<Reminder> {
        let mut failed = self.0.remove(self.find(reminder)?);
        let attempts = failed.failure.map_or(0, |failure| failure.attempts).saturating_add(1);
        failed.failure = None;
        let tick = failed.tick_after(now);
        let is_last = limit.is_some_and(|limit| attempts >= limit);
        if let (true, Some(due)) = (is_last, tick) {
            failed.due = due;
        } else {
            let retry = now.saturating_add(millis(retry_delay(attempts))).min(NEVER);
            let retry = (!is_last).then_some(tick.map_or(retry, |tick| tick.min(retry)));
            failed.failure = Some(Failure { attempts, reason: reason.to_owned(), retry });
        }
        let description = failed.describe();
        self.insert(failed);
        Some(description)
    }

    /// Forgets the failures of a reminder, so that it is due at its own time. Returns true if there
    /// was a failed one of this name.
    pub(crate) fn retry(&mut self, name: &str) -> bool {
        let Some(index) = self.position(name).filter(|index| self.0[*index].failure.is_some())
        else {
            return false;
        };
        let failed = self.0.remove(index);
        self.insert(StoredReminder { failure: None, ..failed });
        true
    }

    pub(crate) fn list(&self) -> Vec<Reminder> {
        self.0.iter().map(StoredReminder::describe).collect()
    }
}

/// The delay before the first retry.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest delay between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Returns the delay before the next attempt: doubles with each, up to ten minutes.
pub(crate) fn retry_delay(attempts: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reminder(name: &str, due: u64, period: Option<u64>) -> StoredReminder {
        StoredReminder::new(name, due, period, 1, Vec::new())
    }

    fn names(reminders: &Reminders) -> Vec<&str> {
        reminders.0.iter().map(|reminder| &*reminder.name).collect()
    }

    #[test]
    fn reminders_are_in_the_order_of_their_next_attempts() {
        let mut reminders = Reminders::default();
        for (name, due) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
            assert!(reminders.set(reminder(name, due, None), false));
        }
        assert_eq!(names(&reminders), ["a", "b", "c", "d"]);
        assert!(reminders.set(reminder("a", 35, None), false));
        assert_eq!(names(&reminders), ["b", "c", "a", "d"]);
        assert_eq!(reminders.due_by(19), None);
        assert_eq!(reminders.due_by(20).map(|reminder| &*reminder.name), Some("b"));
        let failed = reminders.fail(&reminder("b", 20, None), "why", 20, None).unwrap();
        assert_eq!((failed.due, failed.attempts), (Some(time(1020)), 1));
        assert_eq!(names(&reminders), ["c", "a", "d", "b"]);
        let dead = reminders.fail(&reminder("c", 30, None), "why", 30, Some(1));
        assert_eq!((dead.unwrap().due, names(&reminders)), (None, vec!["a", "d", "b", "c"]));
        assert_eq!(reminders.due(), Some(35));
        assert!(reminders.retry("c") && !reminders.retry("c"));
        assert_eq!(reminders.due(), Some(30));
    }

    #[test]
    fn a_pending_reminder_keeps_an_earlier_due_time_if_asked_to() {
        let mut reminders = Reminders::default();
        reminders.set(reminder("a", 10, None), true);
        assert!(!reminders.set(reminder("a", 20, None), true), "the earlier one is kept");
        assert!(reminders.set(reminder("a", 5, None), true));
        assert!(reminders.set(reminder("a", 20, Some(5)), true), "of another period");
        assert_eq!(reminders.due(), Some(20));
        let failed = reminder("a", 20, Some(5));
        let failed = reminders.fail(&failed, "why", 20, None).unwrap();
        assert_eq!(failed.due, Some(time(25)), "the next tick");
        assert!(!reminders.set(reminder("a", 40, Some(5)), true), "its failures are kept");
        assert!(reminders.set(reminder("a", 40, Some(5)), false));
        assert_eq!(reminders.due(), Some(40));
    }

    #[test]
    fn missed_ticks_become_one() {
        let mut reminders = Reminders::default();
        let tick = reminder("a", 100, Some(50));
        reminders.set(tick.clone(), false);
        reminders.finish(&tick, 320);
        assert_eq!(reminders.due(), Some(350));
        reminders.finish(&reminder("a", 350, Some(50)), 350);
        assert_eq!(reminders.due(), Some(400));
    }

    #[test]
    fn a_retry_is_later_each_time_up_to_a_limit() {
        let delays = [1, 2, 3, 10, 11, u32::MAX].map(|attempts| retry_delay(attempts).as_secs());
        assert_eq!(delays, [1, 2, 4, 512, 600, 600]);
    }

    #[test]
    fn reminders_of_the_first_release_have_the_version_of_their_record() {
        #[derive(Serialize)]
        struct Before {
            due: u64,
            name: &'static str,
            message: Vec<u8>,
        }
        let mut bytes = Vec::new();
        codec::encode(&[Before { due: 5, name: "a", message: vec![7] }], &mut bytes).unwrap();
        let Reminders(read) = Reminders::read(&bytes, 3).unwrap();
        assert_eq!(
            read,
            [StoredReminder { version: 3, message: vec![7], ..reminder("a", 5, None) }]
        );
    }
}
