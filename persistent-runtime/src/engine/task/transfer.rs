//! Moving a server from one runtime to another. Both are in this process.
//!
//! A transfer is a command in the source's mailbox.
//!
//! 1. The source unloads the server and offers its record to the target's mailbox.
//! 2. The target accepts the offer, unless the source has withdrawn it, stores the record, and
//!    sets the source's forwarding address.
//! 3. The source deletes its record and forwards every later message.
//!
//! Until the record is stored at the target, the server stays at the source whatever goes wrong.
//!
//! A transfer back to a runtime that forwards to this one first travels along the forwarded
//! messages, so that it arrives behind them; the target waits for the server meanwhile.

use std::{mem, pin::pin, sync::Arc};

use tokio::sync::oneshot;

use super::{HookResult, Task};
use crate::{
    call::reply::{self, ReplySender},
    config::options::Options,
    engine::{
        cell::{Cell, CellRef},
        command::{CallOptions, Command, Content, Envelope},
        resources::Resources,
        services::Services,
    },
    error::CallError,
    observe::event::Event,
    stop_reason::StopReason,
    storage::Record,
    support::{
        catch::wake,
        sync::{
            Mutex,
            atomic::{AtomicU8, Ordering},
            time,
        },
    },
};

/// A request to move a server.
pub(crate) struct Transfer {
    to: Arc<Services>,
    /// The server's cell there.
    target: CellRef,
    /// The way to the target's task, if that waits for the server. Dropping it ends that wait.
    home: Option<oneshot::Sender<Envelope>>,
}

impl Transfer {
    pub(crate) fn new(to: Arc<Services>, target: CellRef) -> Self {
        Self { to, target, home: None }
    }
}

/// A server on its way.
pub(crate) struct TransferOffer {
    record: Record,
    options: Option<Arc<Options>>,
    was_live: bool,
    from: Arc<Cell>,
    to: CellRef,
    state: Arc<TransferState>,
}

/// The state that both ends share.
#[derive(Default)]
struct TransferState {
    decision: AtomicU8,
    resources: Mutex<Resources>,
}

const OPEN: u8 = 0;
const ACCEPTED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl TransferState {
    /// Decides the race between a source that withdraws and a target that accepts: the first
    /// wins.
    fn decide(&self, decision: u8) -> bool {
        self.decision.compare_exchange(OPEN, decision, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn take_resources(&self) -> Resources {
        mem::take(&mut *self.resources.lock())
    }
}

impl Task {
    /// Returns true if what is sent to `target` is forwarded here. The task that has the server
    /// asks, so no transfer changes the way meanwhile.
    fn is_forwarded_to_by(&self, target: &Cell) -> bool {
        let mut next = target.lock().moved().cloned();
        while let Some(cell) = next {
            if Arc::ptr_eq(&cell, &self.cell) {
                return true;
            }
            next = cell.lock().moved().cloned();
        }
        false
    }

    /// Forwards a message to the server's new runtime. If it is a transfer back to this one, waits
    /// for the server before handling later messages, so that all forwarded messages are ordered
    /// before it.
    pub(super) async fn forward(&mut self, mut envelope: Envelope, target: CellRef) {
        if let Content::Command(Command::Remind) = envelope.content {
            // The reminders moved with the server.
            let error = CallError::NotFound { server: self.id() };
            return self.gate.release_after_commit(envelope.reply, Err(error));
        }
        let options = self.options.clone().unwrap_or_default();
        let mut returning = None;
        if let Content::Command(Command::Transfer(transfer)) = &mut envelope.content
            && Arc::ptr_eq(&transfer.to, self.cell.registry().services())
        {
            let (home, arrival) = oneshot::channel();
            transfer.home = Some(home);
            returning = Some(arrival);
        }
        // A refused cast has no caller to report to.
        let _ = target.send(envelope, &options).await;
        let Some(mut arrival) = returning else { return };
        let services = self.cell.registry().services().clone();
        loop {
            match self.drive(&mut arrival).await {
                HookResult::Done(Ok(Envelope { content, reply, .. })) => {
                    if let Content::Command(command) = content {
                        self.obey(command, &CallOptions::default(), reply).await;
                    }
                    return;
                }
                // There is nothing here to kill, but the runtime may have ended.
                HookResult::Killed if !services.is_halted() && !services.is_overdue() => {}
                _ => return,
            }
        }
    }

    /// Carries out a transfer at the source.
    pub(super) async fn transfer(&mut self, transfer: Transfer, reply: Option<ReplySender>) {
        let Transfer { to, target, home } = transfer;
        if Arc::ptr_eq(&to, self.cell.registry().services()) {
            return self.gate.release_after_commit(reply, Ok(()));
        }
        if to.is_stopping() {
            return self.gate.release_after_commit(reply, Err(target.runtime_stopped()));
        }
        if home.is_none() && self.is_forwarded_to_by(&target) {
            let transfer = Transfer::new(to, target.clone());
            let command = Command::Transfer(Box::new(transfer));
            return target.send_past(Envelope::command(command, reply));
        }
        let reason = StopReason::Transfer;
        let live = self.instance.take();
        let was_live = live.is_some();
        let options = match &live {
            Some(instance) => instance.parts.options.clone(),
            None => self.cell.lock().transferred_options(),
        };
        if let Some(mut instance) = live {
            if let Err(failure) = self.save_or_keep(&mut instance).await {
                return self.keep(instance, &failure, reply);
            }
            let outcome = self.terminate(instance, &reason, true).await;
            if let Err(failure) = self.settle(outcome).await {
                return self.decline(failure, reply).await;
            }
        }
        let record = match self.load().await {
            Ok(Some(record)) => record,
            Ok(None) => {
                let error = CallError::NotFound { server: self.id() };
                return self.gate.release_after_commit(reply, Err(error));
            }
            Err(failure) => return self.decline(failure, reply).await,
        };
        let state = Arc::new(TransferState::default());
        let resources = self.cell.lock().take_resources();
        *state.resources.lock() = resources;
        let (accepted, acceptance) = reply::channel::<()>();
        let offer = TransferOffer {
            record,
            options,
            was_live,
            from: self.cell.clone(),
            to: target.clone(),
            state: state.clone(),
        };
        let envelope = Envelope::command(Command::Receive(Box::new(offer)), Some(accepted));
        let mut handing_over = pin!(async move {
            match home {
                // If the target's task no longer waits, this drops the reply.
                Some(home) => drop(home.send(envelope)),
                None => target.send(envelope, &Arc::default()).await?,
            }
            acceptance.receive(target.id(), &mut None::<()>).await
        });
        let after = self.cell.settings().call_timeout;
        let outcome = match time::timeout(after, &mut handing_over).await {
            Ok(outcome) => outcome,
            Err(_) if state.decide(WITHDRAWN) => {
                Err(CallError::Timeout { server: self.id(), after })
            }
            // The target is storing the record: the outcome of that decides.
            Err(_) => handing_over.await,
        };
        // A record that is stored at the target has moved, even if the target's task ended before
        // it could reply.
        self.may_be_blocked = self.cell.lock().moved().is_some();
        if let (Err(error), false) = (outcome, self.may_be_blocked) {
            let removed = self.cell.lock().set_resources(state.take_resources());
            drop(removed);
            return self.gate.release_after_commit(reply, Err(error));
        }
        self.stage(None);
        self.gate.release_after_commit(reply, Ok(()));
        self.finish_stop(&reason, was_live).await;
    }

    /// Takes a server in, unless there is one already.
    pub(super) async fn receive(&mut self, offer: Box<TransferOffer>, reply: Option<ReplySender>) {
        let TransferOffer { record, options, was_live, from, to, state } = *offer;
        if !state.decide(ACCEPTED) {
            return;
        }
        let is_stored = match self.load().await {
            Ok(record) => record.is_some(),
            Err(failure) => return self.decline(failure, reply).await,
        };
        // At a forwarding cell, what is stored is a copy that could not be deleted.
        let is_copy = self.cell.lock().moved().is_some();
        if is_stored && !is_copy || self.instance.is_some() {
            let error = CallError::AlreadyExists { server: self.id() };
            return self.gate.release_after_commit(reply, Err(error));
        }
        let due = record.due;
        self.stage(Some(record));
        self.announce_due(due);
        if let Err(failure) = self.settle(Ok(())).await {
            return self.decline(failure, reply).await;
        }
        let removed = self.cell.lock().receive(state.take_resources(), options);
        drop(removed);
        // Before the server can be handed back, which follows the forwarding address.
        let (removed, mut watchers) = {
            let mut mailbox = from.lock();
            (mailbox.set_moved(to), mailbox.take_watchers())
        };
        drop(removed);
        from.drop_followers();
        // The watchers go along, and learn here that the server has ended there.
        let stopped = Event::Stopped { reason: StopReason::Transfer };
        let woken = if was_live { watchers.send(&stopped) } else { Vec::new() };
        self.cell.lock().watchers_mut().append(watchers);
        for watcher in woken {
            wake(Some(watcher));
        }
        // A server that cannot be activated reports that at its next message.
        if let Ok(instance) = self.ready(&CallOptions::default()).await {
            self.instance = Some(instance);
        }
        self.gate.release_after_commit(reply, Ok(()));
    }
}
