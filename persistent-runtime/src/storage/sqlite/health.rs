//! The background work that fails at present.

use std::sync::{Arc, OnceLock};

use crate::storage::{StorageError, StorageEvent, StorageObserver, StorageWork};

/// Tells the observer what fails, and what works again.
pub struct Health {
    observer: Arc<OnceLock<StorageObserver>>,
    failing: Vec<(StorageWork, String)>,
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
                let text = error.to_string();
                if known.is_some_and(|at| self.failing[at].1 == text) {
                    return;
                }
                if let Some(at) = known {
                    self.failing.swap_remove(at);
                }
                self.failing.push((work, text));
                observer.notify(&StorageEvent::Failed { work, error: error.clone() });
            }
            (Ok(()), None, _) | (Err(_), _, None) => {}
        }
    }
}
