//! From one runtime to another.

use std::{
    mem,
    pin::pin,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Driven, Task};
use crate::{
    Address, CallError, Options, Record, Server, StopReason,
    core::Core,
    kept::Kept,
    mailbox::{Envelope, Order, Terms},
    reply::{self, Answer},
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering},
        time,
    },
};

/// A server on its way. Both ends are in this process.
pub(crate) struct Offer {
    record: Record,
    options: Option<Arc<Options>>,
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
        mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long a transfer is put off at a time.
const PAUSE: Duration = Duration::from_millis(1);

impl<S: Server> Task<S> {
    /// Whether the server came from `to`, where messages for it are still on
    /// their way here. To hand it back now would have two tasks wait for room
    /// in each other's mailbox.
    pub(super) fn is_fed_by(&self, to: &Arc<Core>) -> bool {
        let source = to.handle::<S>(&Address::existing(self.cell.key().clone()));
        !Arc::ptr_eq(source.cell(), &self.cell) && source.cell().is_forwarding()
    }

    /// Handles an order a moment later, behind all that is queued by then and
    /// whatever its terms. It waits beside the mailbox: in there it would take the
    /// room of those whom it waits for.
    pub(super) async fn postpone(&mut self, order: Order<S>, answer: Option<Answer>) {
        if let Driven::Killed = self.drive(time::sleep(PAUSE)).await {
            self.killed();
        }
        self.cell.lock().hand_over(&mut self.inbox);
        self.inbox.push_back(Envelope::new(order, answer));
    }

    /// Hands the server to `to`: unloads it here, has it stored and activated
    /// there, wipes it here, and forwards what comes from now on. Until it is
    /// stored there, it stays here whatever goes wrong.
    pub(super) async fn transfer(&mut self, to: &Arc<Core>, answer: Option<Answer>) {
        if Arc::ptr_eq(to, self.cell.kind().core()) {
            return self.gate.hold(answer, Ok(()));
        }
        let target = to.handle::<S>(&Address::existing(self.cell.key().clone()));
        if to.is_stopping() {
            return self.gate.hold(answer, Err(target.cell().stopped()));
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
        *baggage.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        let (mut taken, reply) = reply::channel::<()>();
        taken.set(());
        let order = Order::Receive(Box::new(Offer { record, options, baggage: baggage.clone() }));
        let envelope = Envelope::new(order, Some(taken));
        let cell = target.cell().clone();
        let mut handing_over = pin!(async move {
            cell.send(envelope, &Arc::default()).await?;
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
        if let Err(error) = outcome {
            self.cell.lock().extend().kept = baggage.take_kept();
            return self.gate.hold(answer, Err(error));
        }
        self.cell.lock().extend().moved = Some(target);
        self.blocked = true;
        self.stage(None);
        self.gate.hold(answer, Ok(()));
        self.ended(&reason, was_live).await;
    }

    /// Takes a server in, unless there is one already.
    pub(super) async fn receive(&mut self, offer: Box<Offer>, answer: Option<Answer>) {
        if !offer.baggage.settle(TAKEN) {
            return;
        }
        let stored = match self.load().await {
            Ok(record) => record.is_some(),
            Err(trouble) => return self.decline(trouble, answer).await,
        };
        if stored || self.instance.is_some() {
            let error = CallError::Exists { server: self.id() };
            return self.gate.hold(answer, Err(error));
        }
        self.stage(Some(offer.record));
        self.gate.settle().await;
        if let Some(source) = self.gate.take_failure() {
            return self.decline(self.storage_trouble(source), answer).await;
        }
        let moved = {
            let mut mailbox = self.cell.lock();
            let extras = mailbox.extend();
            extras.kept = offer.baggage.take_kept();
            extras.adopted = offer.options;
            extras.moved.take()
        };
        drop(moved);
        // One that can't be activated says so at its next message.
        if let Ok(instance) = self.ready(&Terms::default()).await {
            self.instance = Some(instance);
        }
        self.gate.hold(answer, Ok(()));
    }
}
