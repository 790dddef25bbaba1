//! The output gate: a server's commits in order, and the answers that wait for
//! them.
//!
//! A handler never waits for the disk. Its answer does, and so does each later
//! answer of that server, which may have seen the change. At most one commit
//! of a server is in flight; what changes meanwhile becomes one next commit,
//! in which the last state wins.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    CallError, Change, ServerId, Storage, StorageError, panic::poll_caught, reply::Answer,
};

/// See the [module](self).
pub(crate) struct Gate {
    server: ServerId,
    storage: Arc<dyn Storage>,
    in_flight: Option<InFlight>,
    /// Answers that the commit in flight releases.
    riding: Vec<Held>,
    /// The next commit.
    staged: Option<Change>,
    /// Answers that the next commit releases.
    waiting: Vec<Held>,
    failure: Option<StorageError>,
}

type InFlight = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;
type Held = (Answer, Result<(), CallError>);

impl Gate {
    pub(crate) fn new(server: ServerId, storage: Arc<dyn Storage>) -> Self {
        Self {
            server,
            storage,
            in_flight: None,
            riding: Vec::new(),
            staged: None,
            waiting: Vec::new(),
            failure: None,
        }
    }

    /// Makes `change` the next commit, in place of one not begun yet.
    pub(crate) fn stage(&mut self, change: Change) {
        self.staged = Some(change);
    }

    /// Releases `answer` with `outcome` once all that was staged is durable.
    pub(crate) fn hold(&mut self, answer: Option<Answer>, outcome: Result<(), CallError>) {
        let Some(answer) = answer else { return };
        if self.staged.is_some() {
            self.waiting.push((answer, outcome));
        } else if self.in_flight.is_some() {
            self.riding.push((answer, outcome));
        } else {
            answer.release(outcome);
        }
    }

    /// How many answers wait here.
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
            if let Some(in_flight) = &mut self.in_flight {
                let Poll::Ready(outcome) = poll_caught(in_flight.as_mut(), cx) else {
                    return Poll::Pending;
                };
                self.in_flight = None;
                match outcome.unwrap_or_else(|panic| Err(StorageError::new(panic))) {
                    Ok(()) => {
                        for (answer, outcome) in self.riding.drain(..) {
                            answer.release(outcome);
                        }
                    }
                    Err(error) => self.fail(error),
                }
            }
            let Some(change) = self.staged.take() else { return Poll::Ready(()) };
            self.riding = mem::take(&mut self.waiting);
            let storage = self.storage.clone();
            self.in_flight = Some(Box::pin(async move { storage.commit(change).await }));
        }
    }

    /// Waits until all is settled, and says what failed since it was last asked.
    pub(crate) async fn settle(&mut self) -> Option<StorageError> {
        poll_fn(|cx| self.poll(cx)).await;
        self.take_failure()
    }

    pub(crate) fn take_failure(&mut self) -> Option<StorageError> {
        self.failure.take()
    }

    fn fail(&mut self, error: StorageError) {
        self.staged = None;
        for (answer, outcome) in self.riding.drain(..).chain(self.waiting.drain(..)) {
            answer.release(outcome.and_then(|()| {
                Err(CallError::Storage { server: self.server.clone(), source: error.clone() })
            }));
        }
        self.failure = Some(error);
    }
}
