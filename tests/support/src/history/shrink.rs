//! Reduces a failing history to a smaller one.

use super::{plan::Plan, run::Failure};

impl Plan {
    /// Removes one element at a time as long as the history still fails. Returns the smallest
    /// plan and its failure.
    #[must_use]
    pub fn shrink(&self, failure: Failure) -> (Self, Failure) {
        let (mut smallest, mut failure) = (self.clone(), failure);
        loop {
            let smaller = smallest.smaller().find_map(|plan| {
                let failure = plan.run().err()?;
                Some((plan, failure))
            });
            match smaller {
                Some(smaller) => (smallest, failure) = smaller,
                None => return (smallest, failure),
            }
        }
    }

    /// Returns each plan with one element less.
    fn smaller(&self) -> impl Iterator<Item = Self> {
        let without_fault = (0..self.faults.len()).map(|n| {
            let mut plan = self.clone();
            plan.faults.remove(n);
            plan
        });
        let without_step = self.clients.iter().enumerate().flat_map(move |(client, steps)| {
            (0..steps.len()).map(move |n| {
                let mut plan = self.clone();
                plan.clients[client].remove(n);
                plan
            })
        });
        let simpler = [
            Self { latency: 0, ..self.clone() },
            Self { mailbox: 1024, ..self.clone() },
            Self { max_restarts: None, ..self.clone() },
        ];
        let changed = |plan: &Self| {
            (plan.latency, plan.mailbox, plan.max_restarts)
                != (self.latency, self.mailbox, self.max_restarts)
        };
        without_fault.chain(without_step).chain(simpler.into_iter().filter(changed))
    }
}
