//! The output gate: a server's commits in order, and what waits for them.
//!
//! A handler never waits for the disk. Its answer does, and so does each later
//! answer of that server, which may have seen the change. At most one commit
//! of a server is in flight; what changes meanwhile becomes one next commit,
//! in which the last state wins.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use smallvec::SmallVec;

use crate::{
    call::reply::Answer, error::CallError, id::ServerId, storage::Commit, storage::CommitHost,
    storage::Completion, storage::Storage, storage::StorageError, storage::Update,
    support::catch::caught,
};

/// See the [module](self).
pub(crate) struct Gate {
    desk: Arc<dyn Desk>,
    in_flight: bool,
    /// Numbers the commits.
    sequence: u64,
    /// What the commit in flight releases.
    riding: SmallVec<[Held; 1]>,
    /// The next commit.
    staged: Option<Update>,
    /// What the next commit releases.
    waiting: SmallVec<[Held; 1]>,
    failure: Option<StorageError>,
}

/// Where the outcome of a submitted commit arrives.
pub(crate) trait Desk: CommitHost {
    fn server(&self) -> &ServerId;

    fn storage(&self) -> &Arc<dyn Storage>;

    /// Nobody waits for the outcome any more.
    fn abandon_commit(&self);

    /// The outcome, once it is there; until then whoever polls is woken with it.
    fn poll_commit(&self, cx: &mut Context<'_>) -> Poll<Result<(), StorageError>>;
}

enum Held {
    Answer(Answer),
    /// Something to do once the commit is done, and only then.
    Notice(Box<dyn FnOnce() + Send>),
}

impl Gate {
    pub(crate) fn new(desk: Arc<dyn Desk>) -> Self {
        Self {
            desk,
            in_flight: false,
            sequence: 0,
            riding: SmallVec::new(),
            staged: None,
            waiting: SmallVec::new(),
            failure: None,
        }
    }

    /// Makes `update` part of the next commit, on top of what was staged before.
    pub(crate) fn stage(&mut self, update: Update) {
        match &mut self.staged {
            Some(staged) => staged.merge(update),
            staged => *staged = Some(update),
        }
    }

    /// Releases `answer` with `outcome` once all that was staged is durable.
    pub(crate) fn hold(&mut self, answer: Option<Answer>, outcome: Result<(), CallError>) {
        if let Some(mut answer) = answer {
            if let Err(error) = outcome {
                answer.fail(error);
            }
            self.push(Held::Answer(answer));
        }
    }

    /// Calls `notice` once all that was staged is durable; never, if that fails.
    pub(crate) fn then(&mut self, notice: impl FnOnce() + Send + 'static) {
        self.push(Held::Notice(Box::new(notice)));
    }

    fn push(&mut self, held: Held) {
        if self.staged.is_some() {
            self.waiting.push(held);
        } else if self.in_flight {
            self.riding.push(held);
        } else {
            held.release();
        }
    }

    /// How much waits here.
    pub(crate) fn held(&self) -> usize {
        self.riding.len() + self.waiting.len()
    }

    /// Drives the commits; ready when all is settled.
    ///
    /// After a failed commit everything held has been told, what was staged on
    /// top of it is dropped, and [`take_failure`](Self::take_failure) says so:
    /// memory is then ahead of the store and must be loaded again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.in_flight {
                match ready!(self.desk.poll_commit(cx)) {
                    Ok(()) => self.release(),
                    Err(error) => self.fail(error),
                }
            }
            if !self.begin() {
                return Poll::Ready(());
            }
        }
    }

    /// The submitted commit is done: goes on with the next one. If there is none,
    /// returns what is to be released.
    pub(crate) fn advance(&mut self) -> Option<Released> {
        if self.staged.is_none() {
            self.in_flight = false;
            return Some(Released(mem::take(&mut self.riding)));
        }
        self.release();
        self.begin();
        None
    }

    /// Begins the next commit, if there is one.
    fn begin(&mut self) -> bool {
        let Some(update) = self.staged.take() else { return false };
        self.sequence += 1;
        let commit = Commit::new(self.desk.server().clone(), update).with_sequence(self.sequence);
        // It is empty, and its memory is of use.
        mem::swap(&mut self.riding, &mut self.waiting);
        let completion = Completion::new(self.desk.clone(), self.sequence);
        self.in_flight = true;
        let storage = self.desk.storage().clone();
        // A panic drops the completion, which reports an error.
        drop(caught(|| storage.submit(commit, completion)));
        true
    }

    /// Whether nothing is needed to go on but the outcome of a submitted commit,
    /// and what it releases is quickly done.
    pub(crate) fn is_submitted(&self) -> bool {
        let is_answer = |held: &Held| matches!(held, Held::Answer(..));
        self.in_flight && self.riding.iter().chain(&self.waiting).all(is_answer)
    }

    fn release(&mut self) {
        self.in_flight = false;
        self.riding.drain(..).for_each(Held::release);
    }

    /// Waits until all is settled.
    pub(crate) async fn settle(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// What failed since this was last asked.
    pub(crate) fn take_failure(&mut self) -> Option<StorageError> {
        self.failure.take()
    }

    /// Whether something has failed that nobody has asked for yet.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn fail(&mut self, error: StorageError) {
        self.in_flight = false;
        self.staged = None;
        for held in self.riding.drain(..).chain(self.waiting.drain(..)) {
            if let Held::Answer(mut answer) = held {
                let server = self.desk.server().clone();
                answer.fail(CallError::Storage { server, source: error.clone() });
                answer.release();
            }
        }
        self.failure = Some(error);
    }
}

/// An outcome that comes later must not be taken for that of another commit.
impl Drop for Gate {
    fn drop(&mut self) {
        if self.in_flight {
            self.desk.abandon_commit();
        }
    }
}

/// What a commit has released.
pub(crate) struct Released(SmallVec<[Held; 1]>);

impl Released {
    pub(crate) fn release(self) {
        self.0.into_iter().for_each(Held::release);
    }
}

impl Held {
    fn release(self) {
        match self {
            Self::Answer(answer) => answer.release(),
            // A listener's panic harms nobody.
            Self::Notice(notice) => drop(caught(notice)),
        }
    }
}
