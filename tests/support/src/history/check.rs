//! Linearizability: decides whether an order of all operations on one server explains
//! what its clients saw.

use std::collections::HashSet;

/// The content of a server: the writes that it holds, in order.
pub type Log = Vec<u16>;

/// An operation on a server, whether it took effect or only may have.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The time at which the operation began.
    pub begin: u64,
    /// The latest time at which the operation can have taken effect.
    pub until: u64,
    /// Operations of one lane take effect in the order in which they began.
    pub lane: Option<u64>,
    /// True if the operation must have taken effect.
    pub sure: bool,
    /// The effect of the operation.
    pub effect: Effect,
    /// The content of the server after the operation, if the client saw it.
    pub saw: Option<Log>,
    /// True if the content is durable after the operation.
    pub saves: bool,
}

/// The change of a server's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No change.
    None,
    /// One more write.
    Append(u16),
    /// The content is deleted.
    Delete,
    /// The content is no longer durable.
    Unsave,
    /// The content goes back to an earlier one: at least to the last durable one, and to one
    /// that holds all of these writes that were present.
    Revert(Vec<u16>),
}

/// Returns true if there is an order of all sure operations and some of the others in
/// which each takes effect at one point between its begin and its end, and sees what its
/// client saw. The server starts empty, and the search ends when all sure operations have
/// taken effect.
///
/// The algorithm is Wing and Gong's, with memoization of failed states.
///
/// # Panics
/// If there are more than 128 operations.
#[must_use]
pub fn is_linearizable(operations: &[Operation]) -> bool {
    // A write that is neither sure nor seen by any client can be left out.
    let seen = |id: &u16| {
        operations.iter().filter_map(|other| other.saw.as_ref()).any(|saw| saw.contains(id))
    };
    let mut operations: Vec<&Operation> = operations
        .iter()
        .filter(|operation| match &operation.effect {
            Effect::Append(id) => operation.sure || seen(id),
            Effect::None => operation.sure,
            Effect::Delete | Effect::Unsave | Effect::Revert(_) => true,
        })
        .collect();
    operations.sort_by_key(|operation| operation.begin);
    assert!(operations.len() <= 128, "more than 128 operations");
    let mask = |wanted: &dyn Fn(&Operation) -> bool| {
        operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| wanted(operation))
            .fold(0u128, |mask, (n, _)| mask | 1 << n)
    };
    let search = Search {
        before: operations
            .iter()
            .map(|later| mask(&|earlier| earlier.sure && precedes(earlier, later)))
            .collect(),
        after: operations.iter().map(|earlier| mask(&|later| precedes(earlier, later))).collect(),
        sure: mask(&|operation| operation.sure),
        only_grows: !operations
            .iter()
            .any(|operation| matches!(operation.effect, Effect::Delete | Effect::Revert(_))),
        operations,
    };
    search.finishes(0, &Held::default(), &mut HashSet::new())
}

fn precedes(earlier: &Operation, later: &Operation) -> bool {
    earlier.until < later.begin
        || (earlier.lane.is_some() && earlier.lane == later.lane && earlier.begin < later.begin)
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    /// The sure operations that precede each operation.
    before: Vec<u128>,
    /// The operations that follow each operation.
    after: Vec<u128>,
    sure: u128,
    /// True if no operation removes a write.
    only_grows: bool,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Held {
    log: Log,
    /// The length of the prefix of the log that is durable for certain.
    durable: usize,
}

impl Search<'_> {
    /// Returns true if all operations that are not in `done` can be ordered.
    fn finishes(&self, done: u128, held: &Held, failed: &mut HashSet<(u128, Held)>) -> bool {
        if self.sure & !done == 0 {
            return true;
        }
        if !self.can_be_seen(done, held) || failed.contains(&(done, held.clone())) {
            return false;
        }
        for (n, operation) in self.operations.iter().enumerate() {
            let possible =
                done & 1 << n == 0 && self.before[n] & !done == 0 && self.after[n] & done == 0;
            if possible {
                for next in held.after(operation) {
                    if self.finishes(done | 1 << n, &next, failed) {
                        return true;
                    }
                }
            }
        }
        failed.insert((done, held.clone()));
        false
    }

    /// Returns false if a client sees later that the content was never this one.
    fn can_be_seen(&self, done: u128, held: &Held) -> bool {
        let to_do = self.operations.iter().enumerate().filter(|(n, _)| done & 1 << n == 0);
        let mut seen =
            to_do.filter(|(_, operation)| operation.sure).filter_map(|(_, it)| it.saw.as_ref());
        !self.only_grows || seen.all(|saw| saw.starts_with(&held.log))
    }
}

impl Held {
    /// Returns each possible content after an operation. Empty if the client saw another
    /// content.
    fn after(&self, operation: &Operation) -> Vec<Self> {
        let mut all = match &operation.effect {
            Effect::None => vec![self.clone()],
            Effect::Append(id) => {
                let mut next = self.clone();
                next.log.push(*id);
                vec![next]
            }
            Effect::Delete => vec![Self::default()],
            Effect::Unsave => vec![Self { durable: 0, ..self.clone() }],
            Effect::Revert(kept) => {
                let kept = self.log.iter().rposition(|id| kept.contains(id)).map_or(0, |n| n + 1);
                (self.durable.max(kept)..=self.log.len())
                    .rev()
                    .map(|durable| Self { log: self.log[..durable].to_vec(), durable })
                    .collect()
            }
        };
        all.retain(|next| operation.saw.as_ref().is_none_or(|saw| *saw == next.log));
        if operation.saves {
            for next in &mut all {
                next.durable = next.log.len();
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(begin: u64, until: u64, effect: Effect) -> Operation {
        Operation { begin, until, lane: None, sure: true, effect, saw: None, saves: true }
    }

    fn write(begin: u64, until: u64, id: u16, saw: &[u16]) -> Operation {
        Operation { saw: Some(saw.to_vec()), ..operation(begin, until, Effect::Append(id)) }
    }

    fn read(begin: u64, until: u64, saw: &[u16]) -> Operation {
        Operation { saw: Some(saw.to_vec()), ..operation(begin, until, Effect::None) }
    }

    /// A write with an unknown outcome.
    fn lost(begin: u64, until: u64, id: u16) -> Operation {
        Operation { sure: false, ..operation(begin, until, Effect::Append(id)) }
    }

    fn in_lane(lane: u64, operation: Operation) -> Operation {
        Operation { lane: Some(lane), ..operation }
    }

    fn unsaved(operation: Operation) -> Operation {
        Operation { saves: false, ..operation }
    }

    #[test]
    fn sequential_operations_are_linearizable() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[
            write(1, 2, 7, &[7]),
            write(3, 4, 8, &[7, 8]),
            read(5, 6, &[7, 8])
        ]));
        let deleted = [write(1, 2, 7, &[7]), operation(3, 4, Effect::Delete), read(5, 6, &[])];
        assert!(is_linearizable(&deleted));
    }

    #[test]
    fn overlapping_operations_may_be_in_either_order() {
        assert!(is_linearizable(&[write(1, 9, 7, &[8, 7]), write(2, 8, 8, &[8])]));
        assert!(is_linearizable(&[write(1, 9, 7, &[7]), read(2, 8, &[])]));
        assert!(is_linearizable(&[write(1, 9, 7, &[7]), read(2, 8, &[7])]));
        assert!(!is_linearizable(&[write(1, 9, 7, &[7]), write(2, 8, 8, &[8])]), "both are first");
    }

    #[test]
    fn a_lost_update_is_found() {
        assert!(!is_linearizable(&[write(1, 2, 7, &[7]), write(3, 4, 8, &[8])]));
        assert!(!is_linearizable(&[write(1, 2, 7, &[7]), read(3, 4, &[])]), "as a stale read");
        let cast = operation(1, 9, Effect::Append(7));
        assert!(!is_linearizable(&[cast, read(10, 11, &[])]), "of a cast");
    }

    #[test]
    fn a_stale_read_is_found() {
        let write = write(1, 9, 7, &[7]);
        assert!(is_linearizable(&[write.clone(), read(2, 3, &[]), read(4, 5, &[7])]));
        assert!(!is_linearizable(&[write, read(2, 3, &[7]), read(4, 5, &[])]));
    }

    #[test]
    fn an_effect_without_a_cause_is_found() {
        assert!(!is_linearizable(&[read(1, 2, &[7])]), "of a write that was refused");
        assert!(!is_linearizable(&[read(1, 2, &[7]), write(3, 4, 7, &[7])]), "before it began");
        assert!(!is_linearizable(&[write(1, 2, 7, &[7]), read(3, 4, &[7, 7])]), "done twice");
        let twice = [write(1, 9, 7, &[7]), write(2, 8, 8, &[7, 7, 8])];
        assert!(!is_linearizable(&twice), "done twice");
    }

    #[test]
    fn an_unknown_outcome_takes_effect_at_most_once_and_before_its_end() {
        assert!(is_linearizable(&[lost(1, 9, 7), read(2, 3, &[]), read(4, 5, &[7])]));
        assert!(is_linearizable(&[lost(1, 9, 7), read(2, 3, &[]), read(10, 11, &[])]));
        assert!(!is_linearizable(&[lost(1, 3, 7), read(4, 5, &[]), read(6, 7, &[7])]), "too late");
        assert!(!is_linearizable(&[lost(1, 9, 7), read(2, 3, &[7]), read(4, 5, &[])]), "undone");
        assert!(!is_linearizable(&[lost(4, 9, 7), read(2, 3, &[7])]), "too early");
    }

    #[test]
    fn reordered_messages_of_one_client_are_found() {
        let first = |operation| in_lane(1, operation);
        assert!(is_linearizable(&[first(lost(1, 99, 7)), first(write(3, 4, 8, &[7, 8]))]));
        let late = [first(lost(1, 99, 7)), first(write(3, 4, 8, &[8])), read(5, 6, &[8, 7])];
        assert!(!is_linearizable(&late), "a message that overtook another");
        let other = [in_lane(2, lost(1, 99, 7)), first(write(3, 4, 8, &[8])), read(5, 6, &[8, 7])];
        assert!(is_linearizable(&other), "of another client");
        let cast = operation(1, 99, Effect::Append(7));
        let overtaken = [first(cast), first(write(3, 4, 8, &[8])), read(5, 6, &[8, 7])];
        assert!(!is_linearizable(&overtaken), "a cast that was overtaken");
    }

    #[test]
    fn a_delete_that_is_undone_is_found() {
        let delete = operation(3, 4, Effect::Delete);
        assert!(!is_linearizable(&[write(1, 2, 7, &[7]), delete.clone(), read(5, 6, &[7])]));
        let maybe = Operation { sure: false, ..delete };
        assert!(is_linearizable(&[write(1, 2, 7, &[7]), maybe.clone(), read(5, 6, &[7])]));
        assert!(is_linearizable(&[write(1, 2, 7, &[7]), maybe, read(5, 6, &[])]));
    }

    #[test]
    fn only_changes_that_are_not_durable_can_be_lost() {
        let crash = |kept: &[u16]| operation(5, 6, Effect::Revert(kept.to_vec()));
        let (first, second) = (write(1, 2, 7, &[7]), unsaved(write(3, 4, 8, &[7, 8])));
        for (after, right) in [(&[7, 8][..], true), (&[7], true), (&[], false), (&[8], false)] {
            let all = [first.clone(), second.clone(), crash(&[]), read(7, 8, after)];
            assert_eq!(is_linearizable(&all), right, "{after:?}");
        }
        let all = [first.clone(), second.clone(), crash(&[8]), read(7, 8, &[7])];
        assert!(!is_linearizable(&all), "it was due to be saved");
        let saved = unsaved(read(5, 5, &[7, 8]));
        let saved = Operation { saves: true, begin: 5, until: 5, ..saved };
        let crash = operation(6, 7, Effect::Revert(Vec::new()));
        assert!(!is_linearizable(&[first, second, saved, crash, read(8, 9, &[7])]), "was saved");
    }
}
