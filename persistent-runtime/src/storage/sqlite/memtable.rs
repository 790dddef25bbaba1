//! The updates that are in the commit log and not yet in the tables.
//!
//! There are at most two memtables. Updates go into the active one. When it is large enough it is
//! frozen and a new one becomes active; then the frozen one is flushed into the tables and
//! dropped. Data moves in one direction: active, frozen, tables. So a reader that visits them in
//! this order misses nothing.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    id::ServerId,
    storage::{Update, encoded::Encoded},
};

/// The merged updates of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpdate {
    /// The log number, strictly increasing. Message *n* of this update has number `number + n`,
    /// or a higher one if it was appended later.
    pub number: u64,
    pub update: Update,
}

impl PendingUpdate {
    fn merge(&mut self, next: Self) {
        if !matches!(next.update, Update::Append(_)) {
            self.number = next.number;
        }
        self.update.merge(next.update);
    }
}

/// Updates by server, each merged from all updates of that server.
#[derive(Default)]
pub struct Memtable {
    pending: HashMap<ServerId, PendingUpdate>,
    weight: usize,
    since: Option<Instant>,
}

impl Memtable {
    /// Merges an update into those of its server.
    pub fn add(&mut self, server: ServerId, pending: PendingUpdate, weight: usize) {
        self.weight += weight;
        match self.pending.entry(server) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(pending),
            Entry::Vacant(entry) => {
                entry.insert(pending);
            }
        }
    }

    pub fn get(&self, server: &ServerId) -> Option<&PendingUpdate> {
        self.pending.get(server)
    }

    /// Returns the state that was put, if one was.
    pub fn state(&self, server: &ServerId) -> Option<&Encoded> {
        match &self.pending.get(server)?.update {
            Update::Put(record) => Some(&record.state),
            Update::Append(_) | Update::Delete => None,
        }
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns the servers in the order of the tables.
    pub fn sorted(&self) -> Vec<ServerId> {
        let prefix = |server: &ServerId| {
            let mut prefix = [0; 16];
            let key = server.key().as_bytes();
            let length = key.len().min(prefix.len());
            prefix[..length].copy_from_slice(&key[..length]);
            u128::from_be_bytes(prefix)
        };
        // The prefix decides most comparisons without reading the key itself.
        let mut servers: Vec<_> = self.pending.keys().map(|it| (prefix(it), it)).collect();
        servers.sort_unstable_by(|(a_prefix, a), (b_prefix, b)| {
            let by_kind = a.kind().cmp(b.kind());
            by_kind.then(a_prefix.cmp(b_prefix)).then_with(|| a.key().cmp(b.key()))
        });
        servers.into_iter().map(|(_, server)| server.clone()).collect()
    }
}

/// The entries of the memtables for a kind: the row of each server, or `None` if it is deleted.
pub type Overlay = HashMap<Arc<str>, Option<OverlayRow>>;

#[derive(Clone, Copy)]
pub struct OverlayRow {
    pub due: Option<u64>,
}

/// The active and the frozen memtable.
#[derive(Default)]
pub struct Memtables(Mutex<Pair>);

#[derive(Default)]
struct Pair {
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
}

impl Memtables {
    /// Begins with the updates that were read from the commit log.
    pub fn new(replayed: Memtable) -> Self {
        let active = Memtable { since: Some(Instant::now()), ..replayed };
        Self(Mutex::new(Pair { active, frozen: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Pair> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pending update of a server, merged from both memtables.
    pub fn find(&self, server: &ServerId) -> Option<PendingUpdate> {
        let pair = self.lock();
        let active = pair.active.get(server);
        let frozen = pair.frozen.as_deref().and_then(|frozen| frozen.get(server));
        match (frozen, active) {
            (Some(frozen), Some(active)) => {
                let mut pending = frozen.clone();
                pending.merge(active.clone());
                Some(pending)
            }
            (frozen, active) => active.or(frozen).cloned(),
        }
    }

    /// Makes committed updates visible to readers.
    pub fn publish(&self, updates: impl Iterator<Item = (ServerId, PendingUpdate)>, weight: usize) {
        let mut pair = self.lock();
        let active = &mut pair.active;
        active.since.get_or_insert_with(Instant::now);
        active.weight += weight;
        for (server, pending) in updates {
            active.add(server, pending, 0);
        }
    }

    /// Returns the state of a server in the active memtable.
    pub fn active_state(&self, server: &ServerId) -> Option<Encoded> {
        self.lock().active.state(server).cloned()
    }

    /// Returns true if a memtable says that a server is deleted.
    pub fn is_deleted(&self, server: &ServerId) -> bool {
        let pair = self.lock();
        let frozen = || pair.frozen.as_deref().and_then(|frozen| frozen.get(server));
        // Nothing is appended to a deleted record, so an append in the active memtable proves
        // that the record exists.
        let pending = pair.active.get(server).or_else(frozen);
        pending.is_some_and(|pending| pending.update == Update::Delete)
    }

    /// Returns true if the active memtable makes the frozen update of a server obsolete.
    pub fn is_replaced(&self, server: &ServerId) -> bool {
        let pair = self.lock();
        let active = pair.active.get(server);
        active.is_some_and(|pending| !matches!(pending.update, Update::Append(_)))
    }

    /// Returns the weight of the active memtable and the time of its first update, if any.
    pub fn active(&self) -> (usize, Option<Instant>) {
        let pair = self.lock();
        (pair.active.weight, pair.active.since)
    }

    /// Freezes the active memtable. The previous frozen one must have been dropped.
    pub fn freeze(&self) -> Arc<Memtable> {
        let mut pair = self.lock();
        let frozen = Arc::new(mem::take(&mut pair.active));
        let previous = pair.frozen.replace(frozen.clone());
        debug_assert!(previous.is_none(), "a memtable would be lost");
        frozen
    }

    /// Drops the frozen memtable, which is in the tables now.
    pub fn drop_frozen(&self) {
        self.lock().frozen = None;
    }

    /// Returns the kinds of the servers that have pending updates.
    pub fn kinds(&self) -> BTreeSet<String> {
        let mut kinds = BTreeSet::new();
        self.visit(|memtable| {
            for server in memtable.pending.keys() {
                if !kinds.contains(server.kind()) {
                    kinds.insert(server.kind().to_owned());
                }
            }
        });
        kinds
    }

    /// Returns the rows of a kind that differ from those in the tables.
    pub fn overlay(&self, kind: &str) -> Overlay {
        let mut overlay = Overlay::new();
        self.visit(|memtable| {
            for (server, pending) in &memtable.pending {
                let row = match &pending.update {
                    _ if server.kind() != kind => continue,
                    Update::Put(record) => Some(OverlayRow { due: record.due }),
                    Update::Delete => None,
                    // An append does not change the row.
                    Update::Append(_) => continue,
                };
                overlay.entry(server.shared_key().clone()).or_insert(row);
            }
        });
        overlay
    }

    /// Visits the active and then the frozen memtable, the latter without the lock.
    fn visit(&self, mut visit: impl FnMut(&Memtable)) {
        let frozen = {
            let pair = self.lock();
            visit(&pair.active);
            pair.frozen.clone()
        };
        if let Some(frozen) = frozen {
            visit(&frozen);
        }
    }
}
