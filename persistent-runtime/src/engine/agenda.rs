//! The agenda of a server type: which servers have due reminders next.
//!
//! The reminder scheduler reads due times from the storage a page at a time, and each commit that
//! changes reminders announces the new due time. So the scheduler asks the storage again only when
//! it has used what it knows.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use crate::{
    engine::reminders::retry_delay,
    support::sync::{Mutex, MutexGuard, Notify, time::Instant},
};

/// The number of servers that one look-up reads.
pub(crate) const PAGE: usize = 256;
/// The number of servers of which the agenda keeps the due times.
const CAPACITY: usize = 4 * PAGE;

pub(crate) struct Agenda {
    state: Mutex<State>,
    /// Notified when the scheduler has to look at the agenda.
    notify: Notify,
}

/// A server with its due time.
type Due = (u64, Arc<str>);

#[derive(Default)]
struct State {
    known: Known,
    planned: BTreeSet<Due>,
    /// The servers that could not handle their reminders, by the time of the next attempt.
    parked: BTreeSet<(Instant, Arc<str>)>,
    /// The servers in `planned` and `parked`, and those whose reminders are being handled.
    servers: HashMap<Arc<str>, Entry>,
    /// The announcements made during a look-up. They are newer than its result.
    announced: Option<HashMap<Arc<str>, Option<u64>>>,
    /// True if the look-up in progress may have missed a commit.
    is_outdated: bool,
}

/// The part of the stored due times that the agenda has.
#[derive(Default, PartialEq)]
enum Known {
    #[default]
    Nothing,
    /// The due times up to this one.
    UpTo(Due),
    All,
}

struct Entry {
    place: Place,
    /// The number of failed attempts in a row.
    attempts: u32,
}

#[derive(Clone, Copy)]
enum Place {
    Planned(u64),
    Parked(Instant),
    InProgress,
    /// In progress, with what was announced since.
    Announced(Option<u64>),
}

/// The next step of the scheduler.
pub(crate) enum Next {
    /// The reminders of this server are due.
    Wake(Arc<str>),
    /// The storage has to be read behind this server.
    Read(Option<Due>),
    /// Nothing, until the first of these times, if any.
    Wait(Option<u64>, Option<Instant>),
}

impl Agenda {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), notify: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes the next due time of a server as known: `None` if it has no reminders.
    pub(crate) fn announce(&self, key: &Arc<str>, due: Option<u64>) {
        if self.lock().announce(key, due) {
            self.notify.notify_one();
        }
    }

    /// Forgets what is known: a commit has failed, and may be stored all the same.
    pub(crate) fn invalidate(&self) {
        self.lock().invalidate();
        self.notify.notify_one();
    }

    /// Tries a server again that could not handle its reminders.
    pub(crate) fn unpark(&self, key: &str) {
        let mut state = self.lock();
        let Some(Entry { place: Place::Parked(until), .. }) = state.servers.get(key) else {
            return;
        };
        let until = *until;
        if let Some((_, key)) = state.parked.take(&(until, key.into())) {
            state.park(key, Instant::now());
            drop(state);
            self.notify.notify_one();
        }
    }

    /// Returns the next step at this time. A server that is returned is in progress until
    /// [`finish`](Self::finish) or [`forget`](Self::forget).
    pub(crate) fn next(&self, now: u64, may_read: bool) -> Next {
        self.lock().next(now, may_read)
    }

    /// Adds what a look-up has returned; `None` if it has failed.
    pub(crate) fn add(&self, page: Option<Vec<Due>>) {
        self.lock().add(page);
    }

    /// Ends the attempt to let a server handle its reminders. If it failed, or if the server has
    /// not announced what is due next, it is tried again later.
    pub(crate) fn finish(&self, key: Arc<str>, has_failed: bool) {
        self.lock().finish(key, has_failed);
    }

    /// Removes a server that does not exist.
    pub(crate) fn forget(&self, key: &Arc<str>) {
        let mut state = self.lock();
        if let Some(Entry { place: Place::Announced(due), .. }) = state.servers.remove(key) {
            state.announce(key, due);
        }
    }

    /// Waits until there may be another next step.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl State {
    /// Returns true if the server is the next one that is due.
    fn announce(&mut self, key: &Arc<str>, due: Option<u64>) -> bool {
        if let Some(announced) = &mut self.announced {
            announced.insert(key.clone(), due);
            return false;
        }
        let attempts = match self.servers.get_mut(key) {
            Some(Entry { place: place @ (Place::InProgress | Place::Announced(_)), .. }) => {
                *place = Place::Announced(due);
                return false;
            }
            Some(Entry { place, attempts }) => {
                let (place, attempts) = (*place, *attempts);
                self.servers.remove(key);
                match place {
                    Place::Planned(due) => drop(self.planned.take(&(due, key.clone()))),
                    Place::Parked(until) => drop(self.parked.take(&(until, key.clone()))),
                    Place::InProgress | Place::Announced(_) => {}
                }
                attempts
            }
            None => 0,
        };
        let Some(due) = due else { return false };
        let is_known = match &self.known {
            Known::Nothing => false,
            Known::UpTo((last, last_key)) => (due, key) <= (*last, last_key),
            Known::All => true,
        };
        is_known && self.plan(key, due, attempts)
    }

    fn plan(&mut self, key: &Arc<str>, due: u64, attempts: u32) -> bool {
        self.servers.insert(key.clone(), Entry { place: Place::Planned(due), attempts });
        self.planned.insert((due, key.clone()));
        if self.planned.len() > CAPACITY {
            // The latest is read again when its time is near.
            let latest = self.planned.pop_last();
            latest.map(|(_, key)| self.servers.remove(&key));
            self.known = self.planned.last().cloned().map_or(Known::Nothing, Known::UpTo);
        }
        self.planned.first().is_some_and(|(_, first)| first == key)
    }

    fn park(&mut self, key: Arc<str>, until: Instant) {
        if let Some(entry) = self.servers.get_mut(&key) {
            entry.place = Place::Parked(until);
            self.parked.insert((until, key));
        }
    }

    fn invalidate(&mut self) {
        self.is_outdated = self.announced.is_some();
        self.known = Known::Nothing;
        for (_, key) in mem::take(&mut self.planned) {
            self.servers.remove(&key);
        }
    }

    fn next(&mut self, now: u64, may_read: bool) -> Next {
        if self.planned.is_empty() && may_read {
            let after = match &self.known {
                Known::Nothing => Some(None),
                Known::UpTo(last) => Some(Some(last.clone())),
                Known::All => None,
            };
            if let Some(after) = after {
                self.announced = Some(HashMap::new());
                return Next::Read(after);
            }
        }
        let (planned, parked) = (self.planned.first(), self.parked.first());
        let wait = Next::Wait(planned.map(|(due, _)| *due), parked.map(|(until, _)| *until));
        let due = if planned.is_some_and(|(due, _)| *due <= now) {
            self.planned.pop_first().map(|(_, key)| key)
        } else if parked.is_some_and(|(until, _)| *until <= Instant::now()) {
            self.parked.pop_first().map(|(_, key)| key)
        } else {
            None
        };
        let Some(key) = due else { return wait };
        if let Some(entry) = self.servers.get_mut(&key) {
            entry.place = Place::InProgress;
        }
        Next::Wake(key)
    }

    fn add(&mut self, page: Option<Vec<Due>>) {
        let announced = self.announced.take().unwrap_or_default();
        let is_outdated = mem::take(&mut self.is_outdated);
        if let Some(page) = page.filter(|_| !is_outdated) {
            self.known = match page.last() {
                Some(last) if page.len() >= PAGE => Known::UpTo(last.clone()),
                _ => Known::All,
            };
            for (due, key) in page {
                if !announced.contains_key(&key) && !self.servers.contains_key(&key) {
                    self.plan(&key, due, 0);
                }
            }
        }
        for (key, due) in announced {
            self.announce(&key, due);
        }
    }

    fn finish(&mut self, key: Arc<str>, has_failed: bool) {
        let Some(entry) = self.servers.get_mut(&key) else { return };
        match entry.place {
            Place::Announced(due) if !has_failed => {
                self.servers.remove(&key);
                self.announce(&key, due);
            }
            Place::InProgress | Place::Announced(_) => {
                entry.attempts = entry.attempts.saturating_add(1);
                let until = Instant::now() + retry_delay(entry.attempts);
                self.park(key, until);
            }
            Place::Planned(_) | Place::Parked(_) => {}
        }
    }
}
