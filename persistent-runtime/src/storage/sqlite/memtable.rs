//! The updates that are in the commit log and not yet in the tables.
//!
//! There are at most two memtables. Updates go into the active one. When it is large enough it is
//! frozen and a new one becomes active; then the frozen one is flushed into the tables and
//! dropped. Data moves in one direction: active, frozen, tables. So a reader that visits them in
//! this order misses nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    mem,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    commit_log,
    listing::{Item, Page},
};
use crate::{
    id::ServerId,
    storage::{Update, encoded::Encoded},
};

/// The number of entries that are visited while the lock is held.
const VISITS: usize = 1024;

/// The merged updates of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpdate {
    /// The log number, strictly increasing. Message *n* of this update has number `number + n`,
    /// or a higher one if it was appended later.
    pub number: u64,
    pub update: Update,
    /// True if the record was deleted before it was put again.
    pub is_recreated: bool,
}

impl PendingUpdate {
    pub fn new(number: u64, update: Update) -> Self {
        Self { number, update, is_recreated: false }
    }

    fn merge(&mut self, next: Self) {
        self.is_recreated |= next.is_recreated
            || self.update == Update::Delete && matches!(next.update, Update::Put(_));
        if !matches!(next.update, Update::Append(_)) {
            self.number = next.number;
        }
        self.update.merge(next.update);
    }

    /// Returns true if the row of the server must not keep its id.
    pub fn renews_id(&self) -> bool {
        self.is_recreated || self.update == Update::Delete
    }

    /// Returns true if the update replaces or deletes the server's row. Messages leave it as it is.
    fn replaces_row(&self) -> bool {
        !matches!(self.update, Update::Append(_))
    }

    fn due(&self) -> Option<u64> {
        match &self.update {
            Update::Put(record) => record.due,
            Update::Append(_) | Update::Delete => None,
        }
    }
}

/// Updates by server, each merged from all updates of that server.
#[derive(Default)]
pub struct Memtable {
    pending: HashMap<ServerId, PendingUpdate>,
    due: DueTimes,
    order: Mutex<Order>,
    weight: usize,
    since: Option<Instant>,
}

/// The servers with a due time in order, by kind.
#[derive(Default)]
struct DueTimes(BTreeMap<String, BTreeSet<(u64, Arc<str>)>>);

/// The servers of a memtable in order. Only listing needs it, so commits leave the work to that.
#[derive(Default)]
struct Order {
    keys: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The servers that are not in `keys` yet.
    added: Vec<ServerId>,
}

impl Memtable {
    /// Merges an update into those of its server.
    pub fn add(&mut self, server: ServerId, pending: PendingUpdate, weight: usize) {
        self.weight += weight;
        match self.pending.entry(server) {
            Entry::Occupied(mut entry) => {
                let before = entry.get().due();
                entry.get_mut().merge(pending);
                self.due.change(entry.key(), before, entry.get().due());
            }
            Entry::Vacant(entry) => {
                let order = self.order.get_mut().unwrap_or_else(PoisonError::into_inner);
                order.added.push(entry.key().clone());
                self.due.change(entry.key(), None, pending.due());
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

impl Memtable {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the row of a server in older memtables and in the tables is obsolete.
    fn replaces_row(&self, server: &ServerId) -> bool {
        self.pending.get(server).is_some_and(PendingUpdate::replaces_row)
    }

    /// Visits the first entries of a kind after `from`, in order, until `visit` returns false.
    pub fn visit_keys(
        &self,
        kind: &str,
        from: &Bound<Arc<str>>,
        mut visit: impl FnMut(&Arc<str>) -> bool,
    ) {
        let mut order = self.order();
        order.sort(usize::MAX);
        if let Some(keys) = order.keys.get(kind) {
            let from = from.as_ref().map(|key| &**key);
            let _ = keys.range::<str, _>((from, Bound::Unbounded)).all(&mut visit);
        }
    }

    /// Does the same with the servers that have a due time, in the order of the due times.
    pub fn visit_due(
        &self,
        kind: &str,
        from: &Bound<(u64, Arc<str>)>,
        mut visit: impl FnMut(&(u64, Arc<str>)) -> bool,
    ) {
        if let Some(due) = self.due.0.get(kind) {
            let _ = due.range((from.clone(), Bound::Unbounded)).all(&mut visit);
        }
    }

    fn next_kind(&self, after: Option<&str>) -> Option<Arc<str>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut order = self.order();
        order.sort(usize::MAX);
        let (kind, _) = order.keys.range::<str, _>((after, Bound::Unbounded)).next()?;
        Some(Arc::from(&**kind))
    }
}

impl DueTimes {
    fn change(&mut self, server: &ServerId, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        let entry = |due| (due, server.shared_key().clone());
        if let Some(all) = self.0.get_mut(server.kind()) {
            if let Some(before) = before {
                all.remove(&entry(before));
            }
            all.extend(after.map(entry));
        } else if let Some(after) = after {
            self.0.insert(server.kind().to_owned(), BTreeSet::from([entry(after)]));
        }
    }
}

impl Order {
    /// Puts at most `limit` of the added servers in order. Returns true if none is left.
    fn sort(&mut self, limit: usize) -> bool {
        let from = self.added.len().saturating_sub(limit);
        for server in self.added.drain(from..) {
            let key = server.shared_key().clone();
            match self.keys.get_mut(server.kind()) {
                Some(keys) => {
                    keys.insert(key);
                }
                None => {
                    self.keys.insert(server.kind().to_owned(), BTreeSet::from([key]));
                }
            }
        }
        self.added.is_empty()
    }
}

/// The state of the memtables before the tables were read.
pub struct Reading {
    frozen: Option<Arc<Memtable>>,
    dropped: u64,
}

/// The active and the frozen memtable.
#[derive(Default)]
pub struct Memtables(Mutex<Pair>);

#[derive(Default)]
struct Pair {
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
    /// Counts the memtables that were dropped.
    dropped: u64,
}

impl Pair {
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        [&self.active].into_iter().chain(self.frozen.as_deref())
    }

    /// Returns true if the row of a server in the tables is obsolete.
    fn replaces_row(&self, server: &ServerId) -> bool {
        self.memtables().any(|memtable| memtable.replaces_row(server))
    }
}

impl Memtables {
    /// Begins with the updates that were read from the commit log.
    pub fn new(replayed: Memtable) -> Self {
        let active = Memtable { since: Some(Instant::now()), ..replayed };
        Self(Mutex::new(Pair { active, ..Pair::default() }))
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
        let Pair { active, frozen, .. } = &mut *pair;
        active.since.get_or_insert_with(Instant::now);
        active.weight += weight;
        let is_deleted = |server: &ServerId| {
            let frozen = frozen.as_deref().and_then(|frozen| frozen.get(server));
            frozen.is_some_and(|pending| pending.update == Update::Delete)
        };
        for (server, mut pending) in updates {
            pending.is_recreated = is_deleted(&server);
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
        self.lock().active.replaces_row(server)
    }

    /// Returns the update of a server in `frozen`, merged with what the active memtable adds to it;
    /// `None` if the active memtable replaces it.
    pub fn unreplaced(&self, server: &ServerId, frozen: &Memtable) -> Option<PendingUpdate> {
        let pair = self.lock();
        let mut pending = frozen.get(server)?.clone();
        match pair.active.get(server) {
            Some(active) if active.replaces_row() => return None,
            Some(active) => pending.merge(active.clone()),
            None => {}
        }
        Some(pending)
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

    /// Drops the frozen memtable, which is in the tables now, except for `left`: updates that could
    /// not be flushed go into the active memtable. They begin no new flush, which would fail, too.
    pub fn end_flush(&self, left: Vec<(ServerId, PendingUpdate)>) {
        let mut pair = self.lock();
        pair.dropped += 1;
        pair.frozen = None;
        for (server, pending) in left {
            // The active memtable has only messages of these servers, and the updates contain them.
            pair.active.pending.remove(&server);
            let weight = commit_log::weight(pending.update.bytes(), &pending.update, false);
            pair.active.add(server, pending, weight);
        }
    }

    /// Begins a reading of the tables that is merged with the memtables, and puts these in order.
    pub fn begin_reading(&self) -> Reading {
        loop {
            let frozen = self.lock().frozen.clone();
            if let Some(frozen) = &frozen {
                frozen.order().sort(usize::MAX);
            }
            let pair = self.lock();
            let is_same = match (&frozen, &pair.frozen) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (_, None) => true,
                (None, Some(_)) => false,
            };
            if pair.active.order().sort(VISITS) && is_same {
                return Reading { frozen: pair.frozen.clone(), dropped: pair.dropped };
            }
        }
    }

    /// Returns the first kind after `after` that has pending updates.
    pub fn next_kind(&self, after: Option<&str>) -> Option<Arc<str>> {
        self.lock().memtables().filter_map(|memtable| memtable.next_kind(after)).min()
    }

    /// Merges `rows` of the tables with the pending updates of the same range. Returns `None` if
    /// updates may have moved into the tables since the reading began.
    pub fn merge<T: Item>(
        &self,
        reading: &Reading,
        kind: &str,
        from: &Bound<T>,
        rows: Page<T>,
    ) -> Option<Page<T>> {
        let pair = self.lock();
        if pair.dropped != reading.dropped {
            return None;
        }
        let mut server = ServerId::new(kind.to_owned(), "");
        let (mut items, mut end) = (rows.items, rows.end);
        if pair.memtables().any(|memtable| memtable.len() > 0) {
            items.retain(|item| !pair.replaces_row(server.with_key(item.key())));
        }
        let from_tables = items.len();
        let mut newer: Option<&Memtable> = None;
        for memtable in pair.memtables() {
            let mut visits = 0;
            T::visit(memtable, kind, from, |item| {
                if end.as_ref().is_some_and(|end| item > end) {
                    return false;
                }
                let server = server.with_key(item.key());
                let is_put = || {
                    let update = memtable.get(server).map(|pending| &pending.update);
                    matches!(update, Some(Update::Put(_)))
                };
                if newer.is_none_or(|newer| !newer.replaces_row(server)) && is_put() {
                    items.push(item.clone());
                }
                visits += 1;
                if visits == VISITS {
                    end = Some(item.clone());
                }
                visits < VISITS
            });
            newer = Some(memtable);
        }
        if items.len() > from_tables {
            items.sort_unstable();
        }
        if let Some(end) = &end {
            items.truncate(items.partition_point(|item| item <= end));
        }
        Some(Page { items, end })
    }

    /// Returns the next servers of a kind whose row is replaced by a pending update, each with
    /// whether it exists. Returns `None` if a memtable is gone that the reading needs.
    pub fn replaced_rows(
        &self,
        reading: &Reading,
        kind: &str,
        from: &Bound<Arc<str>>,
    ) -> Option<Page<(Arc<str>, bool)>> {
        let pair = self.lock();
        // The reading still has one that was frozen when it began.
        if pair.dropped - reading.dropped > u64::from(reading.frozen.is_some()) {
            return None;
        }
        let memtables: Vec<&Memtable> = pair.memtables().chain(reading.frozen.as_deref()).collect();
        let mut server = ServerId::new(kind.to_owned(), "");
        let (mut keys, mut end) = (BTreeSet::new(), None);
        for memtable in &memtables {
            let mut visits = 0;
            memtable.visit_keys(kind, from, |key| {
                if end.as_ref().is_some_and(|end| key > end) {
                    return false;
                }
                keys.insert(key.clone());
                visits += 1;
                if visits == VISITS {
                    end = Some(key.clone());
                }
                visits < VISITS
            });
        }
        let mut exists = |key: &Arc<str>| {
            let server = server.with_key(key);
            let mut updates = memtables.iter().filter_map(|memtable| memtable.get(server));
            let replacing = updates.find(|pending| pending.replaces_row())?;
            Some(replacing.update != Update::Delete)
        };
        let keys = keys.into_iter().filter(|key| end.as_ref().is_none_or(|end| key <= end));
        let items = keys.filter_map(|key| Some((key.clone(), exists(&key)?))).collect();
        Some(Page { items, end: end.map(|end| (end, true)) })
    }
}
