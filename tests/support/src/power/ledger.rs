use std::{collections::BTreeMap, time::Duration};

use persistent_runtime::{CallError, Client, Runtime};

use super::{Block, BlockClient};

/// What may be stored for one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing.
    Absent,
    /// The block of that turn.
    Turn(u64),
}

/// What was asked for and what was acknowledged, from the marks of a log.
///
/// The marks are lines: `begin KEY TURN`, `done KEY TURN`, where a delete's turn is
/// `delete`. A key that begins with `shared` has many callers at once, who all let
/// it grow by one, and are told their turn; every other has one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// How many marks said `done`.
    pub acknowledged: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Acknowledged last.
    last: Outcome,
    /// Begun since, and not acknowledged.
    begun: Vec<Outcome>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { last: Outcome::Absent, begun: Vec::new() }
    }
}

impl Ledger {
    /// Takes note of a mark.
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
                // Several callers hear of their turns in any order.
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

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What was acknowledged last for `key`.
    #[must_use]
    pub fn last(&self, key: &str) -> Outcome {
        self.entries.get(key).map_or(Outcome::Absent, |entry| entry.last)
    }

    /// Whether `found` may be what is stored under `key`.
    #[must_use]
    pub fn allows(&self, key: &str, found: Outcome) -> bool {
        let Some(Entry { last, begun }) = self.entries.get(key) else {
            return found == Outcome::Absent;
        };
        let last_turn = if let Outcome::Turn(turn) = last { *turn } else { 0 };
        match found {
            // A first life is a commit of its own before the first turn.
            Outcome::Turn(0) if *last == Outcome::Absent => !begun.is_empty(),
            Outcome::Turn(turn) if is_shared(key) => {
                (last_turn..=last_turn + begun.len() as u64).contains(&turn)
            }
            found => found == *last || begun.contains(&found),
        }
    }

    /// Reads all keys in `runtime` and says what is there that may not be, and
    /// what is not there that must. What was found is taken for acknowledged.
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

/// What is stored under `key`.
async fn look(runtime: &Runtime, key: &str) -> Result<Outcome, String> {
    let server: BlockClient = match runtime.find::<Block>(key).await {
        Ok(server) => server,
        Err(CallError::NotFound { .. }) => return Ok(Outcome::Absent),
        Err(error) => return Err(error.to_string()),
    };
    match server.with_timeout(Duration::from_secs(30)).look().await {
        Ok(turn) => turn.map(Outcome::Turn),
        Err(error) => Err(error.to_string()),
    }
}

fn is_shared(key: &str) -> bool {
    key.starts_with("shared")
}
