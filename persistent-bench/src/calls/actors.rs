//! The counter of [`Peer`] as an actor of three libraries.

use ractor::{ActorProcessingErr, RpcReplyPort};
use tokio::{runtime::Runtime, sync::oneshot, task::LocalSet};

use super::peers::{MAILBOX, Peer};

/// The actor of kameo and actix.
struct Actor(u64);

struct Ask;
struct Add;

#[derive(Clone)]
pub struct Kameo(kameo::actor::ActorRef<Actor>);

impl kameo::Actor for Actor {
    type Args = Self;
    type Error = kameo::error::Infallible;

    async fn on_start(
        args: Self,
        _actor: kameo::actor::ActorRef<Self>,
    ) -> Result<Self, Self::Error> {
        Ok(args)
    }
}

impl kameo::message::Message<Ask> for Actor {
    type Reply = u64;

    async fn handle(&mut self, _: Ask, _: &mut kameo::message::Context<Self, u64>) -> u64 {
        self.0
    }
}

impl kameo::message::Message<Add> for Actor {
    type Reply = ();

    async fn handle(&mut self, _: Add, _: &mut kameo::message::Context<Self, ()>) {
        self.0 += 1;
    }
}

impl Peer for Kameo {
    type Host = ();

    async fn host(_one_thread: bool) {}

    async fn spawn((): &(), _key: u32) -> Self {
        let mailbox = kameo::mailbox::bounded(MAILBOX);
        Self(kameo::actor::Spawn::spawn_with_mailbox(Actor(0), mailbox))
    }

    async fn ask(&self) -> u64 {
        self.0.ask(Ask).send().await.expect("an answer")
    }

    async fn cast(&self) {
        self.0.tell(Add).send().await.expect("a running actor");
    }
}

#[derive(Clone)]
pub struct Ractor(ractor::ActorRef<RactorMessage>);

pub enum RactorMessage {
    Ask(RpcReplyPort<u64>),
    Add,
}

struct RactorActor;

impl ractor::Actor for RactorActor {
    type Msg = RactorMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(
        &self,
        _actor: ractor::ActorRef<RactorMessage>,
        (): (),
    ) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _actor: ractor::ActorRef<RactorMessage>,
        message: RactorMessage,
        value: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RactorMessage::Ask(reply) => reply.send(*value)?,
            RactorMessage::Add => *value += 1,
        }
        Ok(())
    }
}

impl Peer for Ractor {
    type Host = ();

    async fn host(_one_thread: bool) {}

    async fn spawn((): &(), _key: u32) -> Self {
        let spawned = ractor::Actor::spawn(None, RactorActor, ()).await;
        Self(spawned.expect("a new actor").0)
    }

    async fn ask(&self) -> u64 {
        self.0.call(RactorMessage::Ask, None).await.expect("a running actor").expect("an answer")
    }

    /// The mailbox of ractor is unbounded.
    async fn cast(&self) {
        self.0.cast(RactorMessage::Add).expect("a running actor");
    }

    /// Dropping the last reference does not stop an actor of ractor.
    async fn stop(self) {
        self.0.stop(None);
    }
}

#[derive(Clone)]
pub struct Actix(actix::Addr<Actor>);

/// The threads that run actors of actix. `threads` is empty if they run on the caller's thread.
pub struct Arbiters {
    system: Option<actix::System>,
    threads: Vec<actix::ArbiterHandle>,
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        if let Some(system) = &self.system {
            system.stop();
        }
    }
}

impl actix::Actor for Actor {
    type Context = actix::Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl actix::Message for Ask {
    type Result = u64;
}

impl actix::Message for Add {
    type Result = ();
}

impl actix::Handler<Ask> for Actor {
    type Result = u64;

    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> u64 {
        self.0
    }
}

impl actix::Handler<Add> for Actor {
    type Result = ();

    fn handle(&mut self, _: Add, _: &mut Self::Context) {
        self.0 += 1;
    }
}

impl Peer for Actix {
    type Host = Arbiters;

    async fn host(one_thread: bool) -> Arbiters {
        if one_thread {
            return Arbiters { system: None, threads: Vec::new() };
        }
        let (send, started) = oneshot::channel();
        std::thread::spawn(move || {
            let runner = actix::System::new();
            let threads = [actix::Arbiter::new(), actix::Arbiter::new()];
            let threads = threads.iter().map(actix::Arbiter::handle).collect();
            let _ = send.send(Arbiters { system: Some(actix::System::current()), threads });
            runner.run()
        });
        started.await.expect("a started system")
    }

    async fn spawn(host: &Arbiters, key: u32) -> Self {
        let actor = Actor(0);
        match host.threads.get(key as usize % host.threads.len().max(1)) {
            Some(thread) => Self(actix::Actor::start_in_arbiter(thread, |_| actor)),
            None => Self(actix::Actor::start(actor)),
        }
    }

    async fn ask(&self) -> u64 {
        self.0.send(Ask).await.expect("an answer")
    }

    /// `do_send` ignores the mailbox's capacity.
    async fn cast(&self) {
        self.0.do_send(Add);
    }

    fn block_on<F: Future>(runtime: &Runtime, work: F) -> F::Output {
        LocalSet::new().block_on(runtime, work)
    }
}
