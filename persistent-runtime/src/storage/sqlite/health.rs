//! The background work that fails at present.

use std::sync::{Arc, OnceLock};

use crate::storage::{StorageError, StorageErrorKind, StorageEvent, StorageObserver, StorageWork};

/// Reports to the observer the work that fails, and the work that succeeds again.
pub struct Health {
    observer: Arc<OnceLock<StorageObserver>>,
    failing: Vec<(StorageWork, StorageErrorKind)>,
}

impl Health {
    pub fn new(observer: Arc<OnceLock<StorageObserver>>) -> Self {
        Self { observer, failing: Vec::new() }
    }

    /// Takes note of the outcome of some work.
    pub fn note(&mut self, work: StorageWork, outcome: Result<(), &StorageError>) {
        let known = self.failing.iter().position(|(failing, _)| *failing == work);
        match (outcome, known, self.observer.get()) {
            (Ok(()), Some(at), observer) => {
                self.failing.swap_remove(at);
                if let Some(observer) = observer {
                    observer.notify(&StorageEvent::Recovered { work });
                }
            }
            (Err(error), known, Some(observer)) => {
                match known {
                    Some(at) if self.failing[at].1 == error.kind() => return,
                    Some(at) => self.failing[at].1 = error.kind(),
                    None => self.failing.push((work, error.kind())),
                }
                observer.notify(&StorageEvent::Failed { work, error: error.clone() });
            }
            (Ok(()), None, _) | (Err(_), _, None) => {}
        }
    }
}
