//! What is in the journal and not in the tables yet.
//!
//! There are two generations. Changes go into the active one. When that is large
//! enough it is frozen, and a new one begins; the frozen one is then moved into
//! the tables, and dropped. So data goes one way, active, frozen, tables, and
//! whoever looks into them in this order misses nothing.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{id::ServerId, storage::Update, storage::encoded::Encoded};

/// What was committed for one server, and is to become of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Larger than those of all changes before. The nth message of it has the
    /// nth number behind this one, or a later one of its own that is not less.
    pub number: u64,
    pub update: Update,
}

impl Pending {
    fn then(&mut self, next: Self) {
        if !matches!(next.update, Update::Append(_)) {
            self.number = next.number;
        }
        self.update.merge(next.update);
    }
}

/// Some changes, in which the last of a server has won.
#[derive(Default)]
pub struct Generation {
    pending: HashMap<ServerId, Pending>,
    weight: usize,
    since: Option<Instant>,
}

impl Generation {
    /// Puts a change on top of those that came before.
    pub fn add(&mut self, id: ServerId, pending: Pending, weight: usize) {
        self.weight += weight;
        match self.pending.entry(id) {
            Entry::Occupied(mut entry) => entry.get_mut().then(pending),
            Entry::Vacant(entry) => {
                entry.insert(pending);
            }
        }
    }

    pub fn get(&self, id: &ServerId) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// The state that was put, if one was.
    pub fn state(&self, id: &ServerId) -> Option<&Encoded> {
        match &self.pending.get(id)?.update {
            Update::Put(record) => Some(&record.state),
            Update::Append(_) | Update::Delete => None,
        }
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// The servers, as the tables are ordered.
    pub fn sorted(&self) -> Vec<ServerId> {
        let start = |id: &ServerId| {
            let mut start = [0; 16];
            let key = id.key().as_bytes();
            let length = key.len().min(start.len());
            start[..length].copy_from_slice(&key[..length]);
            u128::from_be_bytes(start)
        };
        // Most keys are told apart by their start, without a look at the key itself.
        let mut ids: Vec<_> = self.pending.keys().map(|id| (start(id), id)).collect();
        ids.sort_unstable_by(|(a_start, a), (b_start, b)| {
            let by_kind = a.kind().cmp(b.kind());
            by_kind.then(a_start.cmp(b_start)).then_with(|| a.key().cmp(b.key()))
        });
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

/// What a memtable says of a server: when it is due, or that it is not stored.
pub type Overlay = HashMap<Arc<str>, Option<Stored>>;

#[derive(Clone, Copy)]
pub struct Stored {
    pub due: Option<u64>,
}

/// See the [module](self).
#[derive(Default)]
pub struct Memtable(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    active: Generation,
    frozen: Option<Arc<Generation>>,
}

impl Memtable {
    /// Begins with what was found in the journal.
    pub fn new(replayed: Generation) -> Self {
        let memtable = Self::default();
        {
            let mut generations = memtable.lock();
            generations.active = replayed;
            generations.active.since = Some(Instant::now());
        }
        memtable
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to become of a server's row.
    pub fn find(&self, id: &ServerId) -> Option<Pending> {
        let generations = self.lock();
        let active = generations.active.get(id);
        let frozen = generations.frozen.as_deref().and_then(|frozen| frozen.get(id));
        match (frozen, active) {
            (Some(frozen), Some(active)) => {
                let mut pending = frozen.clone();
                pending.then(active.clone());
                Some(pending)
            }
            (frozen, active) => active.or(frozen).cloned(),
        }
    }

    /// Shows committed changes.
    pub fn publish(&self, changes: impl Iterator<Item = (ServerId, Pending)>, weight: usize) {
        let mut generations = self.lock();
        let active = &mut generations.active;
        active.since.get_or_insert_with(Instant::now);
        active.weight += weight;
        for (id, pending) in changes {
            active.add(id, pending, 0);
        }
    }

    /// The state that the active generation has.
    pub fn active_state(&self, id: &ServerId) -> Option<Encoded> {
        self.lock().active.state(id).cloned()
    }

    /// Whether a server is known to be deleted.
    pub fn is_deleted(&self, id: &ServerId) -> bool {
        let generations = self.lock();
        let frozen = || generations.frozen.as_deref().and_then(|frozen| frozen.get(id));
        // What was deleted is appended to by nobody, so the newer one decides.
        let pending = generations.active.get(id).or_else(frozen);
        pending.is_some_and(|pending| pending.update == Update::Delete)
    }

    /// Whether what is newer makes a frozen change needless.
    pub fn is_replaced(&self, id: &ServerId) -> bool {
        let generations = self.lock();
        let active = generations.active.get(id);
        active.is_some_and(|pending| !matches!(pending.update, Update::Append(_)))
    }

    /// How much the active generation weighs, and since when it has had changes.
    pub fn active(&self) -> (usize, Option<Instant>) {
        let generations = self.lock();
        (generations.active.weight, generations.active.since)
    }

    /// Freezes the active generation; the one before must be gone.
    pub fn freeze(&self) -> Arc<Generation> {
        let mut generations = self.lock();
        let frozen = Arc::new(mem::take(&mut generations.active));
        let before = generations.frozen.replace(frozen.clone());
        debug_assert!(before.is_none(), "a generation would be lost");
        frozen
    }

    /// Forgets the frozen generation, which is in the tables now.
    pub fn forget(&self) {
        self.lock().frozen = None;
    }

    /// Returns the kinds of the servers that have pending updates.
    pub fn kinds(&self) -> BTreeSet<String> {
        let mut kinds = BTreeSet::new();
        let mut add = |generation: &Generation| {
            for id in generation.pending.keys() {
                if !kinds.contains(id.kind()) {
                    kinds.insert(id.kind().to_owned());
                }
            }
        };
        let frozen = {
            let generations = self.lock();
            add(&generations.active);
            generations.frozen.clone()
        };
        if let Some(frozen) = frozen {
            add(&frozen);
        }
        kinds
    }

    /// What the tables don't know yet of a kind.
    pub fn overlay(&self, kind: &str) -> Overlay {
        let mut overlay = Overlay::new();
        let mut add = |generation: &Generation| {
            for (id, pending) in &generation.pending {
                let stored = match &pending.update {
                    _ if id.kind() != kind => continue,
                    Update::Put(record) => Some(Stored { due: record.due }),
                    Update::Delete => None,
                    // As it was before.
                    Update::Append(_) => continue,
                };
                overlay.entry(id.shared_key().clone()).or_insert(stored);
            }
        };
        let frozen = {
            let generations = self.lock();
            add(&generations.active);
            generations.frozen.clone()
        };
        if let Some(frozen) = frozen {
            add(&frozen);
        }
        overlay
    }
}
