//! The consequences of a crash: the restart policy, the restart limit and the backoff.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use super::{Failure, Task};
use crate::{
    config::options::Restart,
    engine::{command::CallOptions, context::AnyAddress, crash_budget::Verdict, mailbox::Failed},
    error::CallError,
    observe::event::Event,
    support::sync::time::{self, Instant},
};

impl Task {
    /// Applies the restart policy after a crash, and again if the server crashes while it is
    /// activated anew.
    pub(super) async fn crash(&mut self, mut panic: String, mut is_poison: bool) {
        let settings = self.settings().clone();
        loop {
            // The changes of earlier messages are kept: they are what is loaded next.
            self.gate.drain().await;
            let address = AnyAddress { key: self.cell.key().clone(), init: None };
            self.cell.registry().server_type().notify_crashed(address, &panic);
            self.cell.notify(&Event::Crashed { panic: panic.clone(), poison: is_poison });
            let verdict = {
                let mut mailbox = self.cell.lock();
                let verdict = mailbox.crashes_mut().record(Instant::now(), &settings);
                if verdict == Verdict::Fail {
                    let until = self.now().checked_add(settings.retry_after);
                    let is_permanent = settings.restart == Restart::Permanent;
                    let panic = panic.as_str().into();
                    mailbox.set_failed(Failed { panic, until, is_permanent });
                    self.may_be_blocked = true;
                }
                verdict
            };
            let Verdict::Restart(delay) = verdict else {
                self.cell.wake_senders();
                return self.cell.notify(&Event::Failed { panic });
            };
            if !delay.is_zero() {
                self.back_off(delay).await;
            }
            if settings.restart != Restart::Permanent || self.cell.registry().is_stopping() {
                return;
            }
            match Box::pin(self.activate(&CallOptions::default())).await {
                Ok(instance) => self.instance = Some(instance),
                Err(Failure::Panic { text, .. }) => {
                    (panic, is_poison) = (text, true);
                    self.pace().await;
                    continue;
                }
                // The next message meets the same error and reports it to its caller.
                Err(Failure::Error(_)) => {}
            }
            return;
        }
    }

    /// Waits between a crash and the next activation. A shutdown or a kill ends the wait.
    async fn back_off(&mut self, delay: Duration) {
        let registry = self.cell.registry().clone();
        let mut sleep = pin!(time::sleep(delay));
        let cell = self.cell.clone();
        self.drive(poll_fn(|cx| {
            // Registered before the flag is read: setting the flag wakes this task.
            let removed = cell.lock().set_waker(cx.waker());
            drop(removed);
            if registry.is_stopping() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
        }))
        .await;
    }

    /// Ends an instance that was killed between two messages.
    pub(super) fn finish_kill(&mut self) {
        let fallback = self.fallback.take();
        if self.instance.is_some() || fallback.is_some() {
            super::discard(self.instance.take());
            let _ = self.kill_failure();
        }
    }

    /// Reports a kill. Returns the failure of the message in progress.
    pub(super) fn kill_failure(&self) -> Failure {
        self.cell.drop_resources();
        self.cell.notify(&Event::Killed);
        Failure::Error(CallError::Killed { server: self.id() })
    }
}
