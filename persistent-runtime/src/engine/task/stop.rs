//! Orderly ends: stops, and unloads of idle servers.

use std::{mem, time::Duration};

use super::{Failure, HookResult, Task, discard, drive};
use crate::{
    call::reply::ReplySender,
    engine::{erased::Hook, instance::Instance},
    error::CallError,
    observe::event::Event,
    stop_reason::StopReason,
    support::sync::time,
};

/// When a save that the storage has refused is tried again during a shutdown.
const SHUTDOWN_RETRY: Duration = Duration::from_millis(100);

impl Task {
    /// Ends the server in order. Changes that were acknowledged without a commit are saved first: if
    /// that fails, the server stays in memory.
    pub(super) async fn stop(
        &mut self,
        instance: Option<Box<Instance>>,
        reason: &StopReason,
        by_handler: bool,
        reply: Option<ReplySender>,
    ) {
        let deletes = self.settings().restart.deletes(reason.into());
        let was_live = instance.is_some();
        let mut outcome = Ok(());
        if let Some(mut instance) = instance {
            if instance.parts.is_owed && !deletes {
                if let Err(failure) = self.save_or_keep(&mut instance).await {
                    let failure = if by_handler { self.unknown(&failure) } else { failure };
                    return self.keep(instance, &failure, reply);
                }
            } else if instance.parts.is_owed
                && !self.gate.has_staged()
                // A state that cannot be encoded is deleted all the same.
                && let Ok(snapshot) = self.snapshot(&instance)
            {
                self.set_fallback(&instance, &snapshot);
            }
            outcome = self.terminate(instance, reason, !deletes).await;
        }
        if deletes {
            self.stage(None);
            outcome = Ok(());
        }
        let outcome = outcome.map_err(|failure| self.error(&failure));
        self.gate.release_after_commit(reply, outcome);
        self.finish_stop(reason, was_live).await;
        self.cell.lock().reset();
    }

    /// Unloads the server. An idle server that cannot be saved stays in memory.
    pub(super) async fn unload(&mut self, reason: StopReason) {
        let Some(mut instance) = self.instance.take() else { return };
        let is_shutdown = reason == StopReason::Shutdown;
        let saved = if is_shutdown {
            self.save_before_shutdown(&mut instance).await
        } else {
            self.save_or_keep(&mut instance).await
        };
        if saved.is_err() && !is_shutdown {
            return self.instance = Some(instance);
        }
        let hook = self.cell.registry().server_type().terminate_hook();
        let outcome = self.terminate(instance, &reason, true).await;
        let settled = self.settle(outcome).await;
        let is_stored = settled.is_ok();
        // A fallback is saved again.
        if is_shutdown && self.fallback.is_none() && (saved.is_err() || hook == Hook::Writes) {
            self.report_unsaved(settled);
        }
        self.finish_stop(&reason, is_stored).await;
    }

    /// Saves until it succeeds or cannot succeed. The deadline of the shutdown ends that.
    async fn save_before_shutdown(&mut self, instance: &mut Instance) -> Result<(), Failure> {
        loop {
            let saved = self.save_or_keep(instance).await;
            let is_retried = matches!(&saved, Err(Failure::Error(CallError::Storage { .. })))
                && !matches!(self.drive(time::sleep(SHUTDOWN_RETRY)).await, HookResult::Killed);
            if !is_retried {
                return saved;
            }
        }
    }

    /// Ends the instance because the deadline of the shutdown has passed: saves what was
    /// acknowledged, and runs no hook.
    pub(super) async fn cut(&mut self) {
        let mut saved = Ok(());
        let mut is_owed = false;
        if let Some(fallback) = self.fallback.take() {
            is_owed = true;
            self.stage(Some(fallback.record));
        }
        if let Some(mut instance) = self.instance.take() {
            if mem::take(&mut instance.parts.is_owed) {
                is_owed = true;
                saved = self.save(&mut instance);
            }
            discard(Some(instance));
        }
        let saved = self.settle(saved).await;
        if is_owed {
            self.report_unsaved(saved);
        }
        let _ = self.kill_failure();
    }

    /// Waits for all commits, and returns the first failure.
    pub(super) async fn settle(&mut self, saved: Result<(), Failure>) -> Result<(), Failure> {
        self.gate.drain().await;
        let failure = self.take_failure();
        saved.and(failure.map_or(Ok(()), |source| Err(self.commit_failure(source))))
    }

    /// Lets the shutdown report changes that could not be saved.
    pub(super) fn report_unsaved(&self, saved: Result<(), Failure>) {
        if let Err(failure) = saved {
            self.cell.registry().services().report_unsaved(self.id(), self.reason(&failure));
        }
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.cell.registry().services().is_overdue()
    }

    /// Runs the `terminate` hook. What it changed is stored if the state is kept and the hook
    /// returned.
    pub(super) async fn terminate(
        &mut self,
        mut instance: Box<Instance>,
        reason: &StopReason,
        keeps: bool,
    ) -> Result<(), Failure> {
        if let Some(source) = self.take_failure() {
            // This state builds on a state that is lost.
            discard(Some(instance));
            return Err(self.commit_failure(source));
        }
        let hook = self.cell.registry().server_type().terminate_hook();
        let mut outcome = if keeps { self.save(&mut instance) } else { Ok(()) };
        let result = if hook == Hook::Absent {
            HookResult::Done(())
        } else {
            let terminating = instance.server.terminate(reason);
            drive(&mut self.gate, &self.cell, terminating).await
        };
        if let Some(source) = self.take_failure() {
            // This state builds on a state that is lost.
            outcome = Err(self.commit_failure(source));
        } else if keeps && outcome.is_ok() && matches!(result, HookResult::Done(())) {
            let parts = &mut instance.parts;
            parts.is_unsaved |= hook == Hook::Writes;
            if let Some(journal) = &mut parts.journal
                && (parts.is_unsaved || journal.has_messages())
            {
                // The next activation has nothing to replay.
                journal.require_snapshot();
                parts.is_unsaved = true;
            }
            outcome = self.save(&mut instance);
        }
        for reply in self.cell.take_posted() {
            let outcome = outcome.as_ref().map_err(|failure| self.error(failure)).copied();
            self.gate.release_after_commit(Some(reply), outcome);
        }
        self.cell.registry().server_type().notify_terminated(&instance.server, reason);
        discard(Some(instance));
        outcome
    }

    /// Finishes an orderly end: waits for its commit, and notifies watchers if that succeeds.
    pub(super) async fn finish_stop(&mut self, reason: &StopReason, was_live: bool) {
        let settled = self.settle(Ok(())).await;
        self.cell.drop_resources();
        if was_live && settled.is_ok() {
            self.cell.notify(&Event::Stopped { reason: reason.clone() });
        }
    }
}
