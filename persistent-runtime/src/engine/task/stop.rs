//! Orderly ends: stops, and unloads of idle servers.

use super::{Failure, HookResult, Task, discard, drive};
use crate::{
    call::reply::ReplySender,
    engine::{crash_budget::End, erased::Hook, instance::Instance},
    observe::event::Event,
    stop_reason::StopReason,
};

impl Task {
    /// Ends the server in order.
    pub(super) async fn stop(
        &mut self,
        instance: Option<Box<Instance>>,
        reason: &StopReason,
        deletes: bool,
        reply: Option<ReplySender>,
    ) {
        let end = if *reason == StopReason::Normal { End::NormalStop } else { End::OtherStop };
        let deletes = deletes || self.settings().restart.deletes(end);
        let was_live = instance.is_some();
        let mut outcome = Ok(());
        if let Some(instance) = instance {
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
        if reason == StopReason::Idle && !self.save_or_keep(&mut instance).await {
            self.instance = Some(instance);
            return;
        }
        // There is no caller to report a failure to; the state before it stays stored.
        let _ = self.terminate(instance, &reason, true).await;
        self.finish_stop(&reason, true).await;
    }

    /// Runs the `terminate` hook. What it changed is stored if the state is kept and the hook
    /// returned.
    pub(super) async fn terminate(
        &mut self,
        mut instance: Box<Instance>,
        reason: &StopReason,
        keeps: bool,
    ) -> Result<(), Failure> {
        let hook = self.cell.registry().server_type().terminate_hook();
        let mut outcome = if keeps { self.save(&mut instance) } else { Ok(()) };
        let result = if hook == Hook::Absent {
            HookResult::Done(())
        } else {
            let terminating = instance.server.terminate(reason);
            drive(&mut self.gate, &self.cell, terminating).await
        };
        if let Some(source) = self.gate.take_failure() {
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

    /// Finishes an orderly end: waits for its commit and notifies watchers.
    pub(super) async fn finish_stop(&mut self, reason: &StopReason, was_live: bool) {
        self.gate.drain().await;
        self.gate.take_failure();
        self.cell.drop_resources();
        if was_live {
            self.cell.notify(&Event::Stopped { reason: reason.clone() });
        }
    }
}
