//! A storage that fails as a test asks it to.

use std::{
    fmt,
    future::{pending, poll_fn},
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{sync::Semaphore, time::sleep};

use crate::{
    forward_storage,
    id::ServerId,
    storage::{
        Commit, Completion, MemoryStorage, Record, Storage, StorageError, StorageFuture, Update,
    },
    support::sync::os::Mutex,
};

/// The reaction of a [`FaultyStorage`] to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Succeeds.
    #[default]
    None,
    /// Fails without an effect.
    Refuse,
    /// Fails after taking effect.
    RefuseThoughDone,
    /// Never completes.
    Hang,
    /// Takes effect late.
    Slow(Duration),
    /// Takes effect at once and completes late.
    Late(Duration),
    /// Fails late, without an effect.
    RefuseLate(Duration),
    /// Panics.
    Panic,
}

impl Fault {
    /// Returns how long the request takes, unless it takes forever.
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

/// A kind of request to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A load.
    Load,
    /// A commit.
    Commit,
}

/// Decides the fault of each request.
type Script = Box<dyn FnMut(Request, &ServerId) -> Fault + Send>;

/// A storage in memory that counts requests and injects faults.
///
/// Clones share their content and their faults, so a test keeps one clone and opens a runtime on
/// another.
///
/// ```
/// # use persistent_runtime::{persistent_server, CallError, Runtime, testing::{Fault, FaultyStorage}};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = FaultyStorage::default();
/// let runtime = Runtime::builder().open_with(storage.clone()).await?;
/// let counter = runtime.at::<Counter>("a", ());
/// counter.add().await?;
/// storage.on_next_commit(Fault::Refuse);
/// assert!(matches!(counter.add().await, Err(CallError::Storage { .. })));
/// assert_eq!(counter.add().await?, 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct FaultyStorage {
    /// The stored records.
    pub states: MemoryStorage,
    content: Arc<Content>,
    /// Present if the storage can be closed.
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

/// The time from the opening of a storage to its closing, which closes the semaphore.
struct Session(Semaphore);

impl FaultyStorage {
    /// Sets the fault of all later loads.
    pub fn on_load(&self, fault: Fault) {
        *self.content.on_load.lock() = fault;
    }

    /// Sets the fault of all later commits.
    pub fn on_commit(&self, fault: Fault) {
        *self.content.on_commit.lock() = fault;
    }

    /// Sets the fault of the next commit only.
    pub fn on_next_commit(&self, fault: Fault) {
        *self.content.on_next_commit.lock() = Some(fault);
    }

    /// Lets `script` decide the fault of all later requests. [`Fault::None`] leaves the decision to
    /// the other settings.
    pub fn script(&self, script: impl FnMut(Request, &ServerId) -> Fault + Send + 'static) {
        *self.content.script.lock() = Some(Box::new(script));
    }

    /// Returns a storage with the same content that a runtime can close. A commit that has not
    /// taken effect by then never does, as after a kill of the process.
    #[must_use]
    pub fn session(&self) -> Self {
        Self { session: Some(Arc::new(Session(Semaphore::new(0)))), ..self.clone() }
    }

    /// Returns the number of clones of this storage, including this one. A runtime that has ended
    /// completely has dropped its clone.
    #[must_use]
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.content)
    }

    /// Returns the number of loads.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.content.loads.load(Ordering::SeqCst)
    }

    /// Returns the number of commits that were no deletes.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.content.writes.load(Ordering::SeqCst)
    }

    /// Returns the number of deletes.
    #[must_use]
    pub fn deletes(&self) -> usize {
        self.content.deletes.load(Ordering::SeqCst)
    }
}

/// Shows the number of records only: states may hold secrets.
impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStorage").field("states", &self.states).finish_non_exhaustive()
    }
}

impl Content {
    fn decide(&self, request: Request, id: &ServerId, otherwise: Fault) -> Fault {
        let mut script = self.script.lock();
        match script.as_mut().map(|script| script(request, id)) {
            None | Some(Fault::None) => otherwise,
            Some(fault) => fault,
        }
    }
}

fn refused() -> StorageError {
    StorageError::other("refused by the test")
}

fn panics() -> ! {
    // Bypasses the hook that prints a panic: there may be millions.
    resume_unwind(Box::new("the storage panics"))
}

impl FaultyStorage {
    /// Runs `work` unless the session ends first.
    async fn within_session<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let Some(session) = &self.session else { return work.await };
        let (mut end, mut work) = (pin!(session.0.acquire()), pin!(work));
        poll_fn(|cx| match end.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(StorageError::other("closed"))),
            Poll::Pending => work.as_mut().poll(cx),
        })
        .await
    }
}

impl Storage for FaultyStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        self.content.loads.fetch_add(1, Ordering::SeqCst);
        let always = *self.content.on_load.lock();
        let fault = self.content.decide(Request::Load, id, always);
        Box::pin(self.within_session(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse | Fault::RefuseThoughDone => return Err(refused()),
                Fault::Hang => pending().await,
                Fault::Slow(wait) => sleep(wait).await,
                Fault::Late(wait) => {
                    let record = self.states.load(id).await;
                    sleep(wait).await;
                    return record;
                }
                Fault::RefuseLate(wait) => {
                    sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panics(),
            }
            self.states.load(id).await
        }))
    }

    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        let count = match commit.update {
            Update::Delete => &self.content.deletes,
            _ => &self.content.writes,
        };
        count.fetch_add(1, Ordering::SeqCst);
        let next = self.content.on_next_commit.lock().take();
        let always = *self.content.on_commit.lock();
        let fault = self.content.decide(Request::Commit, &commit.server, next.unwrap_or(always));
        Box::pin(self.within_session(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse => return Err(refused()),
                Fault::RefuseThoughDone => {
                    self.states.commit(commit).await?;
                    return Err(refused());
                }
                Fault::Hang => pending().await,
                Fault::Slow(wait) => sleep(wait).await,
                Fault::Late(wait) => {
                    self.states.commit(commit).await?;
                    sleep(wait).await;
                    return Ok(());
                }
                Fault::RefuseLate(wait) => {
                    sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panics(),
            }
            self.states.commit(commit).await
        }))
    }

    /// In a session, every other commit is completed by a task of its own.
    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        if self.session.is_none() || self.writes().is_multiple_of(2) {
            return completion.drive(async move { self.commit(commit).await });
        }
        tokio::spawn(async move {
            let outcome = self.commit(commit).await;
            drop(self);
            completion.complete(outcome);
        });
    }

    fn close(&self) -> StorageFuture<'_, ()> {
        if let Some(session) = &self.session {
            session.0.close();
        }
        Box::pin(async { Ok(()) })
    }

    forward_storage!(self.states, except load, commit, close);
}
