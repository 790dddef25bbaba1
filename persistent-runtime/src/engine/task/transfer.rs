//! From one runtime to another.

use std::{mem, pin::pin, sync::Arc};

use tokio::sync::oneshot;

use super::{Driven, Task};
use crate::{
    api::address::Address, api::client::Handle, api::server::Server, call::reply,
    call::reply::Answer, config::options::Options, engine::cell::Cell, engine::mailbox::Envelope,
    engine::mailbox::Order, engine::mailbox::Terms, engine::resources::Kept, error::CallError,
    services::Core, stop_reason::StopReason, storage::Record, support::sync::Mutex,
    support::sync::atomic::AtomicU8, support::sync::atomic::Ordering, support::sync::time,
};

/// Where a server is to go.
pub(crate) struct Transfer<S: Server> {
    to: Arc<Core>,
    /// The way there if the target's task waits for the server. Dropping it has
    /// that task go on without.
    home: Option<oneshot::Sender<Envelope<S>>>,
}

impl<S: Server> Transfer<S> {
    pub(crate) fn new(to: Arc<Core>) -> Self {
        Self { to, home: None }
    }
}

/// A server on its way. Both ends are in this process.
pub(crate) struct Offer<S: Server> {
    record: Record,
    options: Option<Arc<Options>>,
    from: Arc<Cell<S>>,
    to: Handle<S>,
    baggage: Arc<Baggage>,
}

/// What both ends see.
#[derive(Default)]
struct Baggage {
    state: AtomicU8,
    kept: Mutex<Kept>,
}

const OPEN: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Baggage {
    /// Decides the race between an end that gives up and one that begins: the
    /// first wins.
    fn settle(&self, state: u8) -> bool {
        self.state.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn take_kept(&self) -> Kept {
        mem::take(&mut *self.kept.lock())
    }
}

impl<S: Server> Task<S> {
    /// Whether what is sent to `target` is forwarded here. It is the task that has
    /// the server who asks, so no transfer changes the way meanwhile.
    fn is_fed_by(&self, target: &Handle<S>) -> bool {
        let mut next = target.cell().lock().moved().cloned();
        while let Some(handle) = next {
            if Arc::ptr_eq(handle.cell(), &self.cell) {
                return true;
            }
            next = handle.cell().lock().moved().cloned();
        }
        false
    }

    /// Sends on what was sent to where the server was. If that has the server come
    /// back, what is sent here later stays here, until it is back or won't come:
    /// then everything that was forwarded is before its transfer.
    pub(super) async fn forward(&mut self, mut envelope: Envelope<S>, target: Handle<S>) {
        let terms = self.terms.clone().unwrap_or_default();
        let mut returning = None;
        if let Order::Transfer(transfer) = &mut envelope.order
            && Arc::ptr_eq(&transfer.to, self.cell.kind().core())
        {
            let (home, arrival) = oneshot::channel();
            transfer.home = Some(home);
            returning = Some(arrival);
        }
        // A refused cast has nobody to be told.
        let _ = target.cell().send(envelope, &terms).await;
        let Some(mut arrival) = returning else { return };
        loop {
            match self.drive(&mut arrival).await {
                Driven::Done(Ok(offer)) => return self.handle(offer).await,
                // There is nothing to kill here, but the runtime may have ended.
                Driven::Killed if !self.cell.kind().core().is_halted() => {}
                _ => return,
            }
        }
    }

    /// Hands the server on: unloads it here, has it stored and activated there,
    /// deletes it here, and forwards what comes from now on. Until it is stored
    /// there, it stays here whatever goes wrong.
    ///
    /// Where messages are forwarded from, the order goes first, to come back behind
    /// them. This task goes on meanwhile: it makes the room that they need.
    pub(super) async fn transfer(&mut self, transfer: Transfer<S>, answer: Option<Answer>) {
        let Transfer { to, home } = transfer;
        if Arc::ptr_eq(&to, self.cell.kind().core()) {
            return self.gate.hold(answer, Ok(()));
        }
        let target = to.handle::<S>(&Address::existing(self.cell.key().clone()));
        if to.is_stopping() {
            return self.gate.hold(answer, Err(target.cell().stopped()));
        }
        if home.is_none() && self.is_fed_by(&target) {
            let order = Order::Transfer(Box::new(Transfer::new(to)));
            return target.cell().send_past(Envelope::new(order, answer));
        }
        let reason = StopReason::Transfer;
        let live = self.instance.take();
        let was_live = live.is_some();
        let adopted = || self.cell.lock().extras().and_then(|extras| extras.adopted.clone());
        let options = match &live {
            Some(instance) => instance.options.clone(),
            None => adopted(),
        };
        if let Some(instance) = live {
            let mut ended = self.terminate(instance, &reason, true).await;
            self.gate.settle().await;
            if let Some(source) = self.gate.take_failure() {
                ended = Err(self.storage_trouble(source));
            }
            if let Err(trouble) = ended {
                return self.decline(trouble, answer).await;
            }
        }
        let record = match self.load().await {
            Ok(Some(record)) => record,
            Ok(None) => {
                let error = CallError::NotFound { server: self.id() };
                return self.gate.hold(answer, Err(error));
            }
            Err(trouble) => return self.decline(trouble, answer).await,
        };
        let baggage = Arc::new(Baggage::default());
        let kept = self.cell.lock().take(|extras| &mut extras.kept);
        *baggage.kept.lock() = kept;
        let (mut taken, reply) = reply::channel::<()>();
        taken.set(());
        let offer = Offer {
            record,
            options,
            from: self.cell.clone(),
            to: target.clone(),
            baggage: baggage.clone(),
        };
        let envelope = Envelope::new(Order::Receive(Box::new(offer)), Some(taken));
        let mut handing_over = pin!(async move {
            let cell = target.cell();
            match home {
                // If nobody is at home any more, this drops the answer.
                Some(home) => drop(home.send(envelope)),
                None => cell.send(envelope, &Arc::default()).await?,
            }
            reply.wait(cell.id()).await
        });
        let after = self.cell.settings().call_timeout;
        let outcome = match time::timeout(after, &mut handing_over).await {
            Ok(outcome) => outcome,
            Err(_) if baggage.settle(WITHDRAWN) => {
                Err(CallError::Timeout { server: self.id(), after })
            }
            // It is being stored there: what comes of it decides.
            Err(_) => handing_over.await,
        };
        // What is stored there has moved, also if its task is gone before it says so.
        self.blocked = self.cell.lock().moved().is_some();
        if let (Err(error), false) = (outcome, self.blocked) {
            self.cell.lock().extend().kept = baggage.take_kept();
            return self.gate.hold(answer, Err(error));
        }
        self.stage(None);
        self.gate.hold(answer, Ok(()));
        self.ended(&reason, was_live).await;
    }

    /// Takes a server in, unless there is one already.
    pub(super) async fn receive(&mut self, offer: Box<Offer<S>>, answer: Option<Answer>) {
        let Offer { record, options, from, to, baggage } = *offer;
        if !baggage.settle(TAKEN) {
            return;
        }
        let stored = match self.load().await {
            Ok(record) => record.is_some(),
            Err(trouble) => return self.decline(trouble, answer).await,
        };
        // Where it was handed on from, what is stored is a copy that could not be deleted.
        let is_copy = self.cell.lock().moved().is_some();
        if stored && !is_copy || self.instance.is_some() {
            let error = CallError::AlreadyExists { server: self.id() };
            return self.gate.hold(answer, Err(error));
        }
        self.stage(Some(record));
        self.gate.settle().await;
        if let Some(source) = self.gate.take_failure() {
            return self.decline(self.storage_trouble(source), answer).await;
        }
        let moved = {
            let mut mailbox = self.cell.lock();
            let extras = mailbox.extend();
            extras.kept = baggage.take_kept();
            extras.adopted = options;
            extras.moved.take()
        };
        drop(moved);
        // Before the server can be handed back, which goes by it.
        from.lock().extend().moved = Some(to);
        // One that can't be activated says so at its next message.
        if let Ok(instance) = self.ready(&Terms::default()).await {
            self.instance = Some(instance);
        }
        self.gate.hold(answer, Ok(()));
    }
}
