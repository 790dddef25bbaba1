use std::{collections::BTreeMap, time::Duration};

use persistent_runtime::{CallError, Runtime};

use super::AnyBlock;

/// A state of one server's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No record.
    Absent,
    /// The block of that turn.
    Turn(u64),
}

/// The requested and the acknowledged changes, from the marks of a log.
///
/// The marks are lines: `begin KEY TURN` and `done KEY TURN`, where the turn of a delete is
/// `delete`. A key that begins with `shared` has many callers at once, each of which increments the
/// turn and gets its new value. Every other key has one caller.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// The number of `done` marks.
    pub acknowledged: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The last acknowledged outcome.
    last: Outcome,
    /// The outcomes requested since then and not acknowledged.
    begun: Vec<Outcome>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { last: Outcome::Absent, begun: Vec::new() }
    }
}

impl Ledger {
    /// Records a mark.
    pub fn note(&mut self, mark: &str) {
        let mut words = mark.split_whitespace();
        let [Some(what), Some(key), Some(turn)] = [words.next(), words.next(), words.next()] else {
            return;
        };
        let outcome = match turn {
            "delete" => Outcome::Absent,
            turn => Outcome::Turn(turn.parse().expect("a turn")),
        };
        let entry = self.entries.entry(key.to_owned()).or_default();
        match what {
            "begin" => entry.begun.push(outcome),
            "done" if is_shared(key) => {
                self.acknowledged += 1;
                entry.begun.pop();
                // The replies of concurrent callers arrive in any order.
                if let (Outcome::Turn(last), Outcome::Turn(turn)) = (entry.last, outcome)
                    && turn < last
                {
                    return;
                }
                entry.last = outcome;
            }
            "done" => {
                self.acknowledged += 1;
                entry.last = outcome;
                entry.begun.clear();
            }
            other => panic!("no such mark: {other}"),
        }
    }

    /// Returns the keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the last acknowledged outcome of `key`.
    #[must_use]
    pub fn last(&self, key: &str) -> Outcome {
        self.entries.get(key).map_or(Outcome::Absent, |entry| entry.last)
    }

    /// Returns true if `found` may be stored under `key`.
    #[must_use]
    pub fn allows(&self, key: &str, found: Outcome) -> bool {
        let Some(Entry { last, begun }) = self.entries.get(key) else {
            return found == Outcome::Absent;
        };
        let last_turn = if let Outcome::Turn(turn) = last { *turn } else { 0 };
        match found {
            // The first activation has a commit of its own before the first turn.
            Outcome::Turn(0) if *last == Outcome::Absent => !begun.is_empty(),
            Outcome::Turn(turn) if is_shared(key) => {
                (last_turn..=last_turn + begun.len() as u64).contains(&turn)
            }
            found => found == *last || begun.contains(&found),
        }
    }

    /// Reads all keys in `runtime` and returns what must not or must be there. From then on, what
    /// was found counts as acknowledged.
    pub async fn settle(&mut self, runtime: &Runtime) -> Vec<String> {
        let mut wrong = Vec::new();
        let keys: Vec<String> = self.keys().map(str::to_owned).collect();
        for key in keys {
            match look(runtime, &key).await {
                Err(error) => wrong.push(format!("{key}: {error}")),
                Ok(found) => {
                    if !self.allows(&key, found) {
                        let entry = &self.entries[&key];
                        wrong.push(format!("{key}: {found:?} is stored, out of {entry:?}"));
                    }
                    self.entries.insert(key, Entry { last: found, begun: Vec::new() });
                }
            }
        }
        wrong
    }
}

/// Returns what is stored under `key`.
async fn look(runtime: &Runtime, key: &str) -> Result<Outcome, String> {
    let server = match AnyBlock::find(runtime, key).await {
        Ok(server) => server,
        Err(CallError::NotFound { .. }) => return Ok(Outcome::Absent),
        Err(error) => return Err(error.to_string()),
    };
    match server.look(Duration::from_secs(30)).await {
        Ok(turn) => turn.map(Outcome::Turn),
        Err(error) => Err(error.to_string()),
    }
}

fn is_shared(key: &str) -> bool {
    key.starts_with("shared")
}
