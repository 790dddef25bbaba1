//! Judges a history: turns its events into operations whose possible effects follow from
//! the promises.

use persistent_runtime::{CallError, Restart};

use super::{
    check::{Effect, Operation, is_linearizable},
    chronicle::{Call, Chronicle, Outcome, Restarted, Time},
    ledger::PLANNED,
    plan::{Act, Level, Plan, Step, WaitLimit, key},
    run::{DEADLINE, LAST},
};
use crate::{Fault, Request};

/// The time in milliseconds by which the rounding of times can delay a late save.
const SLACK: u64 = 2;
/// The time in milliseconds after which a refused save is tried again.
const RETRY: u64 = 1_000;

impl Plan {
    pub(super) fn judge(&self, chronicle: &Chronicle) -> Result<(), String> {
        if let Some(violation) = chronicle.violations.first() {
            return Err(violation.clone());
        }
        for server in 0..self.servers() {
            let judge = Judge { plan: self, chronicle, server };
            let operations = judge.operations()?;
            if !is_linearizable(&operations) {
                return Err(format!("no order of events explains the history of {}", key(server)));
            }
        }
        Ok(())
    }
}

/// The events of one server.
struct Judge<'a> {
    plan: &'a Plan,
    chronicle: &'a Chronicle,
    server: usize,
}

/// Later than anything that a runtime does.
const NEVER: u64 = u64::MAX;

impl Judge<'_> {
    fn operations(&self) -> Result<Vec<Operation>, String> {
        let calls = self.chronicle.calls.iter().filter(|call| call.step.server == self.server);
        let mut all = Vec::new();
        let (live, stored) = calls.partition::<Vec<_>, _>(|call| call.client <= LAST);
        for call in &live {
            self.judge(call, &mut all)
                .map_err(|reason| format!("{reason}: {}", call.describe()))?;
        }
        if self.plan.transfers() {
            self.places(&live, &stored)?;
        } else {
            for call in &stored {
                let judged = self.judge(call, &mut all);
                judged.map_err(|reason| format!("{reason}: {}", call.describe()))?;
            }
        }
        if self.plan.is_weak() {
            self.losses(&mut all);
        }
        Ok(all)
    }

    /// Checks that a server is stored only in the storage where it was last seen. A storage
    /// that refuses to delete the server keeps a copy at the origin of a transfer.
    fn places(&self, live: &[&Call], stored: &[&Call]) -> Result<(), String> {
        let saw = |call: &&&Call| match &call.outcome {
            Outcome::Saw(log) => Some(log.clone()),
            _ => None,
        };
        let last = live.iter().rev().find(|call| call.client == LAST).as_ref().and_then(saw);
        let places: Vec<_> = stored.iter().map(|call| saw(&call).unwrap_or_default()).collect();
        let last = last.unwrap_or_default();
        let alone = places.len() < 2 || self.is_faulted(Time::default(), Time::NEVER);
        if alone && (places.contains(&last) || places.is_empty() && last.is_empty()) {
            return Ok(());
        }
        Err(format!("{} held {last:?}, and {places:?} is stored", key(self.server)))
    }

    /// Adds the losses that a weak persist level allows, and the saves that limit them.
    fn losses(&self, all: &mut Vec<Operation>) {
        let revert = |begin: Time, until, sure| Operation {
            begin: begin.tick,
            until,
            lane: None,
            sure,
            effect: Effect::Revert(self.kept(begin)),
            saw: None,
            saves: false,
        };
        let save = |begin, until: Time| Operation {
            begin,
            until: until.tick,
            lane: None,
            sure: true,
            effect: Effect::None,
            saw: None,
            saves: true,
        };
        for Restarted { begin, end, orderly, unsaved, .. } in &self.chronicle.restarts {
            // A shutdown names each server that it could not save.
            if !orderly || unsaved.contains(&key(self.server)) {
                all.push(revert(*begin, end.tick, true));
            } else {
                all.push(save(begin.tick, *end));
            }
        }
        for ended in self.chronicle.ends.iter().filter(|ended| ended.key == key(self.server)) {
            let begin = Time { tick: ended.terminating, ms: ended.stopped.ms };
            let dies = self.chronicle.restarts.iter().any(|restart| {
                !restart.finished
                    && restart.begin.tick < ended.stopped.tick
                    && begin.tick < restart.end.tick
            });
            let dies = dies
                || self
                    .chronicle
                    .restarts
                    .iter()
                    .any(|restart| (begin.tick..ended.stopped.tick).contains(&restart.end.tick));
            if !dies {
                all.push(save(begin.tick, ended.stopped));
            }
        }
    }

    /// Returns the writes that the persist level requires to be saved by `at`.
    fn kept(&self, at: Time) -> Vec<u16> {
        let Level::Every(most) = self.plan.level else { return Vec::new() };
        // A save that the storage refuses or delays is done later.
        let works_since = self
            .chronicle
            .faults
            .iter()
            .filter(|fired| fired.fault.server == self.server && fired.at.tick < at.tick);
        let works_since = works_since.map(|fired| fired.at.ms + length(fired.fault.fault) + RETRY);
        let works_since = works_since.max().unwrap_or(0);
        let latency = 3 * self.plan.latency;
        let answered = self.chronicle.calls.iter().filter(|call| {
            call.step.server == self.server
                && matches!((call.step.act, &call.outcome), (Act::Write(_), Outcome::Saw(_)))
                && call.end.tick < at.tick
                && call.end.ms.max(works_since) + most + latency + SLACK < at.ms
        });
        answered.map(|call| call.step.id).collect()
    }

    #[expect(clippy::too_many_lines, reason = "one table with one row per outcome")]
    fn judge(&self, call: &Call, all: &mut Vec<Operation>) -> Result<(), String> {
        let Call { client, step, generation, begin, end, outcome } = call;
        let death = self.chronicle.restarts.get(*generation);
        let death_tick = death.map_or(NEVER, |restart| restart.end.tick);
        // Each runtime has a message order of its own.
        let lane = Some((*client * 1_000 + *generation) as u64);
        let deletes = match step.act {
            Act::Delete => true,
            Act::Stop { finished } => match self.plan.restart {
                Restart::Temporary => true,
                Restart::Transient => finished,
                _ => false,
            },
            Act::Panic { .. } => self.plan.restart == Restart::Temporary,
            _ => false,
        };
        let effect = match step.act {
            Act::Write(_) | Act::Cast | Act::Remind(_) => Effect::Append(step.id),
            _ if deletes => Effect::Delete,
            Act::Panic { .. } | Act::Kill if self.plan.is_weak() => {
                Effect::Revert(self.kept(*begin))
            }
            _ => Effect::None,
        };
        // A delete and the final save of a stop are committed under every persist level.
        let saves = !self.plan.is_weak()
            || step.durable
            || matches!(step.act, Act::Stop { .. } | Act::Delete | Act::Remind(_));
        let operation = Operation {
            begin: begin.tick,
            until: end.tick,
            lane,
            sure: true,
            effect,
            saw: None,
            saves,
        };
        let maybe = |until| Operation { until, sure: false, ..operation.clone() };
        // A reminder writes later, and outlives its runtime.
        let rings = |sure, until| Operation { until, lane: None, sure, ..operation.clone() };
        let maybe = |until| match step.act {
            Act::Remind(_) => rings(false, NEVER),
            _ => maybe(until),
        };
        let is_ended = death.is_some_and(|restart| restart.begin.tick < end.tick);
        match outcome {
            Outcome::Hung => return Err("a call hangs".to_owned()),
            Outcome::Saw(log) => all.push(Operation { saw: Some(log.clone()), ..operation }),
            Outcome::Done => match step.act {
                Act::Panic { .. } => return Err("a panic was not reported".to_owned()),
                Act::Cast if self.can_be_lost(*begin, death) => all.push(maybe(death_tick)),
                Act::Cast => all.push(Operation { until: death_tick, ..operation }),
                Act::Remind(_) => all.push(match self.last_read() {
                    Some(read) if self.must_ring(*begin) => rings(true, read.tick - 1),
                    _ => rings(false, NEVER),
                }),
                Act::Kill => all.push(Operation { lane: None, ..maybe(death_tick) }),
                Act::Stop { .. } | Act::Delete => all.push(operation),
                _ => {}
            },
            Outcome::Dropped => all.push(maybe(death_tick)),
            Outcome::Failed(CallError::RuntimeStopped { .. }) if is_ended => {
                all.push(maybe(death_tick));
            }
            Outcome::Failed(CallError::Timeout { .. }) => {
                let excused = matches!(step.wait_limit, WaitLimit::Within(_))
                    || self.is_faulted_for_long(*end)
                    || is_ended;
                if !excused {
                    return Err("a timeout without a slow request".to_owned());
                }
                // A cast that found the mailbox full was never queued.
                if step.act != Act::Cast {
                    all.push(maybe(death_tick));
                }
            }
            Outcome::Failed(CallError::Crashed { panic, .. }) => {
                if !matches!(step.act, Act::Panic { .. }) || panic != PLANNED {
                    return Err("a panic that was not planned".to_owned());
                }
                // A storage that refuses a commit or is closed may keep a state that should have
                // been deleted.
                if deletes && (is_ended || self.is_faulted(*begin, *end)) {
                    let until = end.tick.min(death_tick);
                    all.push(maybe(until));
                    if self.plan.is_weak() {
                        let effect = Effect::Revert(self.kept(*begin));
                        all.push(Operation { effect, ..maybe(until) });
                    }
                } else if self.plan.is_weak() && self.is_faulted(*begin, *end) {
                    // The unsaved changes stay in memory if their commit fails before the panic.
                    all.push(maybe(end.tick));
                } else {
                    all.push(operation);
                }
            }
            Outcome::Failed(CallError::Storage { .. }) => {
                if is_ended {
                    all.push(maybe(end.tick.min(death_tick)));
                } else if !self.is_faulted(*begin, *end) {
                    return Err("a storage error without a fault".to_owned());
                } else if self.is_done_all_the_same(*begin, *end) || self.is_kept(step) {
                    all.push(maybe(end.tick));
                    if deletes && self.plan.is_weak() {
                        // Acknowledged changes that were not stored stay in memory, with the rest.
                        let effect = Effect::Unsave;
                        all.push(Operation { effect, saves: false, ..maybe(end.tick) });
                    }
                }
            }
            Outcome::Failed(CallError::RestartLimit { .. }) => {
                let stops = matches!(step.act, Act::Stop { .. } | Act::Delete);
                if self.plan.max_restarts.is_none() || stops {
                    return Err("the restart limit was not exceeded".to_owned());
                }
            }
            Outcome::Failed(CallError::Killed { .. }) => {
                // The end of a runtime also kills its servers.
                if !is_ended && !self.is_killed_before(*end) {
                    return Err("a kill was reported without a kill".to_owned());
                }
            }
            Outcome::Failed(error) => {
                let moves = matches!(step.act, Act::Transfer { .. });
                let known = match error {
                    CallError::NotFound { .. } => moves,
                    CallError::AlreadyExists { .. } => {
                        moves && self.is_faulted(Time::default(), *end)
                    }
                    _ => false,
                };
                if !known {
                    return Err("there is no reason for this error".to_owned());
                }
            }
        }
        // The final reads run after all faults, so they must succeed.
        if *client >= LAST && !matches!(outcome, Outcome::Saw(_)) {
            return Err("does not work after the faults".to_owned());
        }
        Ok(())
    }

    /// Returns true if the change of this message stays in memory if its commit is refused: under a
    /// weaker level it cannot be undone without changes that were acknowledged before.
    fn is_kept(&self, step: &Step) -> bool {
        self.plan.is_weak() && !step.durable && matches!(step.act, Act::Remind(_))
    }

    fn is_killed_before(&self, end: Time) -> bool {
        self.chronicle.calls.iter().any(|other| {
            other.step.server == self.server
                && other.step.act == Act::Kill
                && other.begin.tick < end.tick
        })
    }

    /// Returns true if a message queued at `begin` may never be handled, or its effect may be
    /// lost without an error.
    fn can_be_lost(&self, begin: Time, death: Option<&Restarted>) -> bool {
        self.plan.max_restarts.is_some()
            || death.is_some_and(|restart| !restart.finished)
            || self.is_faulted(begin, Time::NEVER)
            || self.chronicle.calls.iter().any(|other| {
                other.step.server == self.server
                    && other.step.act == Act::Kill
                    && other.end.tick > begin.tick
            })
    }

    /// Returns the time of the last read of the server in memory, by which each reminder has rung.
    fn last_read(&self) -> Option<Time> {
        let is_last = |call: &&Call| call.client == LAST && call.step.server == self.server;
        self.chronicle.calls.iter().find(is_last).map(|call| call.begin)
    }

    /// Returns true if nothing can keep a reminder that was set at `begin` from ringing.
    fn must_ring(&self, begin: Time) -> bool {
        let may_fail = self.plan.max_restarts.is_some();
        let is_faulted = self.chronicle.faults.iter().any(|it| it.fault.server == self.server);
        let is_deleted = self.chronicle.calls.iter().any(|other| {
            other.step.server == self.server
                && other.end.tick > begin.tick
                && match other.step.act {
                    Act::Delete | Act::Stop { .. } => true,
                    Act::Panic { .. } => self.plan.restart == Restart::Temporary,
                    _ => false,
                }
        });
        !may_fail && !is_faulted && !is_deleted
    }

    /// Returns true if a storage fault can have affected an operation in this interval.
    fn is_faulted(&self, begin: Time, end: Time) -> bool {
        self.chronicle.faults.iter().any(|fired| {
            fired.fault.server == self.server
                && fired.at.tick < end.tick
                && fails(fired.fault.fault)
                && fired.at.ms + length(fired.fault.fault) + self.plan.latency >= begin.ms
        })
    }

    /// Returns true if the storage was so slow that a deadline can have passed.
    fn is_faulted_for_long(&self, end: Time) -> bool {
        self.chronicle.faults.iter().any(|fired| {
            fired.fault.server == self.server
                && fired.at.tick < end.tick
                && length(fired.fault.fault) + 1_000 > DEADLINE
        })
    }

    /// Returns true if a commit that began in this interval was reported as failed although
    /// it was done.
    fn is_done_all_the_same(&self, begin: Time, end: Time) -> bool {
        self.chronicle.faults.iter().any(|fired| {
            fired.fault.server == self.server
                && fired.fault.request == Request::Commit
                && fired.fault.fault == Fault::RefuseThoughDone
                && (begin.tick..end.tick).contains(&fired.at.tick)
        })
    }
}

fn fails(fault: Fault) -> bool {
    !matches!(fault, Fault::None | Fault::Slow(_) | Fault::Late(_))
}

/// Returns the length of a fault in milliseconds.
fn length(fault: Fault) -> u64 {
    u64::try_from(fault.length().as_millis()).unwrap_or(NEVER)
}
