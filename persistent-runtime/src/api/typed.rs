//! A server type behind the engine's seam: all code that is compiled once per server type.

use std::{
    any::{Any, TypeId, type_name},
    sync::Arc,
};

use crate::{
    api::{
        address::{Address, Unread},
        context::Context,
        listener::Listener,
        queue::{Queue, Queued, QueuedContent},
        server::Server,
    },
    call::reply::{ReplySender, ReplySlot},
    codec::{self, DecodeError, EncodeError},
    config::options::Journal,
    engine::{
        cell::{Cell, CellRef},
        command::{CallOptions, Content, Envelope},
        context::{AnyAddress, ContextCore},
        erased::{
            AnyInit, AnyMessage, Batch, Front, Hook, HookFuture, LiveServer, MessageQueue, Method,
            ServerType,
        },
        instance::{Instance, InstanceParts},
        registry::{Refusal, Registry},
        services::{Registration, Services},
    },
    id::{ServerId, key::KeyType},
    stop_reason::StopReason,
    storage::encoded::Encoded,
    support::catch::{Guarded, catch_unwind},
};

/// The listeners of one server type.
pub(crate) type Listeners<S> = Vec<Arc<dyn Listener<S>>>;

/// Returns the registry of a server type. Creates it at the first use of the type.
pub(crate) fn registry<S: Server>(services: &Arc<Services>) -> Arc<Registry> {
    services.registry(TypeId::of::<S>(), |listeners| Registration {
        path: type_name::<S>(),
        server_type: Box::new(TypedServerType::<S> {
            listeners: listeners
                .and_then(|listeners| listeners.downcast_ref::<Listeners<S>>())
                .cloned()
                .unwrap_or_default(),
        }),
        options: S::options(),
    })
}

/// Returns a cell that refuses every message: an address was stored with another kind than its type
/// has now.
pub(crate) fn cell_of_other_kind<S: Server>(services: &Arc<Services>, id: ServerId) -> CellRef {
    let server_type = Box::new(TypedServerType::<S> { listeners: Vec::new() });
    let refusal = Some(Refusal::OtherKind { current: S::NAME });
    let registry = Registry::new(services.clone(), server_type, S::options(), refusal);
    CellRef::new(Arc::new(Cell::new(Arc::new(registry), id)))
}

struct TypedServerType<S: Server> {
    listeners: Listeners<S>,
}

/// The state of a server in memory, with its context.
struct TypedServer<S: Server> {
    state: S,
    context: Context<S>,
}

impl<S: Server> TypedServerType<S> {
    /// Passes each listener to `call`. Catches its panics.
    fn notify(&self, call: impl Fn(&dyn Listener<S>)) {
        for listener in &self.listeners {
            let _ = catch_unwind(|| call(&**listener));
        }
    }
}

impl<S: Server> ServerType for TypedServerType<S> {
    fn kind(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn journal(&self) -> Journal {
        S::JOURNAL
    }

    fn started_hook(&self) -> Hook {
        S::STARTED
    }

    fn terminate_hook(&self) -> Hook {
        S::TERMINATE
    }

    fn queue(&self) -> Box<dyn MessageQueue> {
        Box::new(TypedQueue::<S>(Queue::new()))
    }

    fn init(
        &self,
        init: AnyInit,
        parts: InstanceParts,
        context: ContextCore,
    ) -> HookFuture<'_, Result<Box<Instance>, String>> {
        Box::pin(async move {
            check_key::<S>(&context)?;
            let context = Context::<S>::new(context);
            let init = init.downcast::<Guarded<S::Init>>().map_err(|unread| {
                unread.downcast::<Unread>().map_or_else(
                    |_| "the init arguments have another type".to_owned(),
                    |unread| unread.to_string(),
                )
            })?;
            let init = init.get().cloned().ok_or("the init arguments are gone")?;
            let state = S::init(init, &context).await?;
            let server = TypedServer { state, context };
            let instance: Box<Instance> = Box::new(Instance { parts, server });
            Ok(instance)
        })
    }

    fn decode(
        &self,
        version: u32,
        bytes: &[u8],
        parts: InstanceParts,
        context: ContextCore,
    ) -> Result<Box<Instance>, DecodeError> {
        check_key::<S>(&context).map_err(|reason| DecodeError::Restore { reason })?;
        let context = Context::<S>::new(context);
        let state = S::decode(version, bytes, &context)?;
        Ok(Box::new(Instance { parts, server: TypedServer { state, context } }))
    }

    fn check_state(&self, bytes: &[u8]) -> Result<(), EncodeError> {
        S::check(bytes)
    }

    fn check_message(&self, bytes: &[u8]) -> Result<(), EncodeError> {
        codec::check(bytes, codec::decode::<S::Message>, codec::encode::<S::Message>)
    }

    fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    fn notify_changed(&self, context: ContextCore, old: Option<&Encoded>, new: &Encoded) {
        let context = Context::<S>::new(context);
        let decode = |encoded: &Encoded| S::decode(S::VERSION, &encoded.bytes(), &context).ok();
        let old = old.and_then(decode);
        if let Some(new) = decode(new) {
            let address = context.address();
            self.notify(|listener| listener.on_state_changed(&address, old.as_ref(), &new));
        }
    }

    fn notify_crashed(&self, address: AnyAddress, panic: &str) {
        if self.has_listeners() {
            let address = Address::<S>::from_any(&address);
            self.notify(|listener| listener.on_crash(&address, panic));
        }
    }

    fn notify_terminated(&self, server: &dyn LiveServer, reason: &StopReason) {
        let server: &dyn Any = server;
        if self.has_listeners()
            && let Some(TypedServer { state, context }) = server.downcast_ref::<TypedServer<S>>()
        {
            let address = context.address();
            self.notify(|listener| listener.on_terminate(&address, reason, state));
        }
    }
}

impl<S: Server> LiveServer for TypedServer<S> {
    fn context(&self) -> &ContextCore {
        self.context.core()
    }

    fn method(&self, message: &dyn Any) -> Option<&'static Method> {
        message.downcast_ref::<Guarded<S::Message>>()?.get().map(S::method)
    }

    fn handle(&mut self, message: &mut dyn Any, reply: ReplySlot<'_>) -> Result<(), String> {
        let Some(message) = take::<S::Message>(message) else { return Ok(()) };
        catch_unwind(|| self.state.handle(message, &self.context, reply))
    }

    fn handle_queued(&mut self, queue: &mut dyn MessageQueue, batch: &mut dyn Batch) {
        let queue: &mut dyn Any = queue;
        let Some(TypedQueue(queue)) = queue.downcast_mut::<TypedQueue<S>>() else { return };
        while let Some(message) = queue.front_message() {
            let method = S::method(message);
            if method.is_async {
                return;
            }
            let Some(Queued { content, mut reply, options }) = queue.pop_front() else { return };
            let QueuedContent::Message(message) = content else { return };
            batch.begin(options);
            let slot = ReplySlot::to_sender(&mut reply);
            let outcome = catch_unwind(|| self.state.handle(message, &self.context, slot));
            let has_no_effects = self.context.core().has_no_effects();
            if !batch.handled(method, outcome, reply, has_no_effects, queue.front_options()) {
                return;
            }
        }
    }

    fn handle_async<'a>(
        &'a mut self,
        mut message: AnyMessage,
        reply: &'a mut Option<ReplySender>,
    ) -> HookFuture<'a> {
        match take::<S::Message>(&mut *message) {
            Some(message) => {
                let slot = ReplySlot::to_sender(reply);
                Box::pin(self.state.handle_async(message, &self.context, slot))
            }
            None => Box::pin(async {}),
        }
    }

    fn started(&mut self) -> HookFuture<'_> {
        Box::pin(self.state.started(&self.context))
    }

    fn terminate<'a>(&'a mut self, reason: &'a StopReason) -> HookFuture<'a> {
        Box::pin(self.state.terminate(reason, &self.context))
    }

    fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.state.encode(buffer)
    }

    fn encode_message(&self, message: &dyn Any, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
        match message.downcast_ref::<Guarded<S::Message>>().and_then(Guarded::get) {
            Some(message) => codec::encode(message, buffer),
            None => Ok(()),
        }
    }

    fn decode_message(
        &self,
        version: u32,
        bytes: &mut &[u8],
    ) -> Result<Option<AnyMessage>, DecodeError> {
        let message = S::decode_message(version, bytes)?;
        Ok(message.map(|message| Box::new(Guarded::new(message)) as AnyMessage))
    }

    fn state(&mut self) -> &mut dyn Any {
        &mut self.state
    }
}

/// Checks the key of a server that is activated: the storage or a reminder may have named it.
fn check_key<S: Server>(context: &ContextCore) -> Result<(), String> {
    let key = &context.address().key;
    let known = S::Key::parse(key).map(drop);
    known.ok_or_else(|| format!("the key {key:?} is not a {}", type_name::<S::Key>()))
}

/// Takes the value out of a slot, if it has the type `M`.
fn take<M: 'static>(slot: &mut dyn Any) -> Option<M> {
    slot.downcast_mut::<Guarded<M>>()?.take()
}

/// The queued envelopes of one server.
struct TypedQueue<S: Server>(Queue<S::Message>);

impl<S: Server> MessageQueue for TypedQueue<S> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn push_message(
        &mut self,
        slot: &mut dyn Any,
        reply: Option<ReplySender>,
        options: Option<Arc<CallOptions>>,
    ) {
        if let Some(message) = take(slot) {
            self.0.push_back(Queued { content: QueuedContent::Message(message), reply, options });
        }
    }

    fn push(&mut self, envelope: Envelope) {
        let Envelope { content, reply, options } = envelope;
        let content = match content {
            Content::Command(command) => QueuedContent::Command(command),
            Content::Message(mut message) => match take(&mut *message) {
                Some(message) => QueuedContent::Message(message),
                None => return,
            },
        };
        self.0.push_back(Queued { content, reply, options });
    }

    fn front(&self) -> Option<Front> {
        match self.0.front_message() {
            Some(message) => Some(Front::Message(S::method(message))),
            None => (self.0.len() > 0).then_some(Front::Command),
        }
    }

    fn is_back_waited_for(&self) -> bool {
        self.0.is_back_waited_for()
    }

    fn take_front_options(&mut self) -> Option<Arc<CallOptions>> {
        self.0.take_front_options()
    }

    fn pop(&mut self) -> Option<Envelope> {
        let Queued { content, reply, options } = self.0.pop_front()?;
        let content = match content {
            QueuedContent::Message(message) => Content::Message(Box::new(Guarded::new(message))),
            QueuedContent::Command(command) => Content::Command(command),
        };
        Some(Envelope { content, reply, options })
    }

    fn append(&mut self, other: &mut dyn MessageQueue) {
        let other: &mut dyn Any = other;
        if let Some(Self(other)) = other.downcast_mut::<Self>() {
            while let Some(envelope) = other.pop_front() {
                self.0.push_back(envelope);
            }
        }
    }
}
