use std::{
    future::{pending, poll_fn},
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use persistent_runtime::{
    Commit, Completion, MemoryStorage, Record, ServerId, Storage, StorageError, StorageFuture,
    Update,
};
use tokio::sync::Semaphore;

/// What a faulty storage does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// What it should.
    #[default]
    None,
    /// Fails, and has done nothing.
    Refuse,
    /// Fails, but has done it.
    RefuseThoughDone,
    /// Never answers.
    Hang,
    /// Does it late.
    Slow(Duration),
    /// Does it at once, and says so late.
    Late(Duration),
    /// Fails late, and has done nothing.
    RefuseLate(Duration),
    /// Panics.
    Panic,
}

impl Fault {
    /// How long it takes, unless it is for ever.
    #[must_use]
    pub fn length(self) -> Duration {
        match self {
            Self::Slow(wait) | Self::Late(wait) | Self::RefuseLate(wait) => wait,
            Self::None | Self::Refuse | Self::RefuseThoughDone | Self::Hang | Self::Panic => {
                Duration::ZERO
            }
        }
    }
}

/// What a storage is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A load.
    Load,
    /// A commit.
    Commit,
}

/// Decides how one request goes.
type Script = Box<dyn FnMut(Request, &ServerId) -> Fault + Send>;

/// A storage in memory that counts what it does, and does it wrong on request.
#[derive(Clone, Default)]
pub struct FaultyStorage {
    /// What is stored.
    pub states: MemoryStorage,
    content: Arc<Content>,
    /// Of a storage that can be closed.
    session: Option<Arc<Session>>,
}

#[derive(Default)]
struct Content {
    on_load: Mutex<Fault>,
    on_commit: Mutex<Fault>,
    on_next_commit: Mutex<Option<Fault>>,
    script: Mutex<Option<Script>>,
    loads: AtomicUsize,
    writes: AtomicUsize,
    deletes: AtomicUsize,
}

/// From the opening of a storage to its end, which is the semaphore's.
struct Session(Semaphore);

impl FaultyStorage {
    /// Every load from now on goes like this.
    pub fn on_load(&self, fault: Fault) {
        *self.content.on_load.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Every commit from now on goes like this.
    pub fn on_commit(&self, fault: Fault) {
        *self.content.on_commit.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The next commit goes like this, those after it as before.
    pub fn on_next_commit(&self, fault: Fault) {
        *self.content.on_next_commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Every request from now on goes as `script` says, unless it says
    /// [`Fault::None`].
    pub fn script(&self, script: impl FnMut(Request, &ServerId) -> Fault + Send + 'static) {
        *self.content.script.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Box::new(script));
    }

    /// The same content for one more runtime, which can close it: what was not
    /// committed by then never is, as after a kill of the process.
    #[must_use]
    pub fn session(&self) -> Self {
        Self { session: Some(Arc::new(Session(Semaphore::new(0)))), ..self.clone() }
    }

    /// How many clones of this storage there are, with this one:
    /// a runtime that is really gone has dropped its own.
    #[must_use]
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.content)
    }

    /// How many loads there were.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.content.loads.load(Ordering::SeqCst)
    }

    /// How many commits of a state there were.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.content.writes.load(Ordering::SeqCst)
    }

    /// How many commits of a delete there were.
    #[must_use]
    pub fn deletes(&self) -> usize {
        self.content.deletes.load(Ordering::SeqCst)
    }
}

impl Content {
    fn decide(&self, request: Request, id: &ServerId, otherwise: Fault) -> Fault {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        match script.as_mut().map(|script| script(request, id)) {
            None | Some(Fault::None) => otherwise,
            Some(fault) => fault,
        }
    }
}

fn refused() -> StorageError {
    StorageError::new("refused by the test")
}

fn panics() -> ! {
    // Without the hook that prints it: there may be millions.
    resume_unwind(Box::new("the storage panics"))
}

impl FaultyStorage {
    /// Does `work` unless the session ends before.
    async fn within_session<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let Some(session) = &self.session else { return work.await };
        let (mut end, mut work) = (pin!(session.0.acquire()), pin!(work));
        poll_fn(|cx| match end.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(StorageError::new("closed"))),
            Poll::Pending => work.as_mut().poll(cx),
        })
        .await
    }
}

impl Storage for FaultyStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        self.content.loads.fetch_add(1, Ordering::SeqCst);
        let always = *self.content.on_load.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.content.decide(Request::Load, id, always);
        Box::pin(self.within_session(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse | Fault::RefuseThoughDone => return Err(refused()),
                Fault::Hang => pending().await,
                Fault::Slow(wait) => tokio::time::sleep(wait).await,
                Fault::Late(wait) => {
                    let record = self.states.load(id).await;
                    tokio::time::sleep(wait).await;
                    return record;
                }
                Fault::RefuseLate(wait) => {
                    tokio::time::sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panics(),
            }
            self.states.load(id).await
        }))
    }

    fn commit(&self, change: Commit) -> StorageFuture<'_, ()> {
        let count = match change.update {
            Update::Delete => &self.content.deletes,
            Update::Put(_) | Update::Append(_) => &self.content.writes,
        };
        count.fetch_add(1, Ordering::SeqCst);
        let next =
            self.content.on_next_commit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let always = *self.content.on_commit.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.content.decide(Request::Commit, &change.id, next.unwrap_or(always));
        Box::pin(self.within_session(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse => return Err(refused()),
                Fault::RefuseThoughDone => {
                    self.states.commit(change).await?;
                    return Err(refused());
                }
                Fault::Hang => pending().await,
                Fault::Slow(wait) => tokio::time::sleep(wait).await,
                Fault::Late(wait) => {
                    self.states.commit(change).await?;
                    tokio::time::sleep(wait).await;
                    return Ok(());
                }
                Fault::RefuseLate(wait) => {
                    tokio::time::sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panics(),
            }
            self.states.commit(change).await
        }))
    }

    /// In a session, every other commit is told of from elsewhere.
    fn submit(&self, change: Commit, receipt: Completion) -> Option<(Commit, Completion)> {
        if self.session.is_none() || self.writes().is_multiple_of(2) {
            return Some((change, receipt));
        }
        let storage = self.clone();
        tokio::spawn(async move {
            let outcome = storage.commit(change).await;
            drop(storage);
            receipt.done(outcome);
        });
        None
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        self.states.keys(kind, after, limit)
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        self.states.due(kind, after, limit)
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        self.states.count(kind)
    }

    fn close(&self) {
        if let Some(session) = &self.session {
            session.0.close();
        }
    }
}
