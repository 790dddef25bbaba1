//! The report of a storage on the outcome of a commit.

use std::{
    fmt, iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{StorageError, StorageErrorKind};
use crate::support::{
    block_on::block_on,
    catch::{await_catching, catch_unwind, poll_catching},
};

/// Reports the outcome of one commit to the server that waits for it; see
/// [`Storage::submit`](crate::Storage::submit).
///
/// A completion that is dropped reports an error.
pub struct Completion(Option<Target>);

enum Target {
    Host { host: Arc<dyn CommitHost>, sequence: u64 },
    Channel(oneshot::Sender<Result<(), StorageError>>),
}

/// The server that a commit belongs to.
pub(crate) trait CommitHost: Send + Sync {
    /// Takes the outcome of the commit with this sequence. Called at most once per sequence, on
    /// any thread, also from within [`Storage::submit`](crate::Storage::submit).
    fn committed(self: Arc<Self>, sequence: u64, outcome: Result<(), StorageError>);

    /// Runs `work` as a task of the server's runtime. If that runtime is gone, `work` is dropped.
    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);
}

impl Completion {
    pub(crate) fn new(host: Arc<dyn CommitHost>, sequence: u64) -> Self {
        Self(Some(Target::Host { host, sequence }))
    }

    /// Creates a completion and the future of its outcome, e.g. for a storage that has to learn
    /// the outcome of a commit that it submits to another storage.
    ///
    /// ```
    /// # use persistent_runtime::{Commit, Completion, MemoryStorage, Record, ServerId, Storage, Update};
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let storage = Arc::new(MemoryStorage::new());
    /// let (completion, outcome) = Completion::channel();
    /// let update = Update::Put(Record::new(1, 1, &b"\x80"[..]));
    /// storage.submit(Commit::new(ServerId::new("Player", "ada"), update), completion);
    /// outcome.await?;
    /// # Ok(()) }
    /// ```
    pub fn channel() -> (Self, impl Future<Output = Result<(), StorageError>> + Send + 'static) {
        let (sender, receiver) = oneshot::channel();
        let outcome = async { receiver.await.unwrap_or_else(|_| Err(dropped())) };
        (Self(Some(Target::Channel(sender))), outcome)
    }

    /// Reports the outcome. The server may continue on this thread: it releases replies and may
    /// submit its next commit. So the caller must not hold a lock that the storage needs.
    pub fn complete(mut self, outcome: Result<(), StorageError>) {
        self.report(outcome);
    }

    /// Reports the success of many commits. A few are completed on this thread, as by
    /// [`complete`](Self::complete). More are completed by tasks, so that the calling thread can
    /// begin its next batch at once.
    pub fn complete_all(completions: Vec<Self>) {
        /// Completing this few takes less time than waking another thread.
        const FEW: usize = 4;
        /// The number of completions per task, between which other tasks can run.
        const CHUNK: usize = 128;
        let complete = |chunk: Vec<Self>| chunk.into_iter().for_each(|it| it.complete(Ok(())));
        if completions.len() <= FEW {
            return complete(completions);
        }
        let mut completions = completions.into_iter();
        while let Some(first) = completions.next() {
            let rest = completions.by_ref().take(CHUNK - 1);
            let chunk: Vec<_> = iter::once(first).chain(rest).collect();
            match chunk.iter().find_map(Self::host).cloned() {
                Some(host) => host.spawn(Box::pin(async move { complete(chunk) })),
                None => complete(chunk),
            }
        }
    }

    /// Drives `commit` to its end and reports its outcome.
    ///
    /// Polls `commit` once in place: a commit that is ready at once needs no task. Otherwise the
    /// rest runs as a task of the server's runtime, or for a
    /// [channel](Self::channel) of the current one, or on a thread if there is none. A panic of `commit` is reported as an error.
    pub fn drive(self, commit: impl Future<Output = Result<(), StorageError>> + Send + 'static) {
        let mut commit = Box::pin(commit);
        // Timers and sockets of tokio can be created in its context only. A storage's own thread,
        // on which a server may submit its next commit, has none.
        if cfg!(shuttle) || tokio::runtime::Handle::try_current().is_ok() {
            // The task polls again, which replaces this waker.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(outcome) = poll_catching(commit.as_mut(), &mut context) {
                return self.complete(outcome.unwrap_or_else(panicked));
            }
        }
        let Some(host) = self.host().cloned() else {
            // Without a server there is only the current runtime, or else a thread.
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(self.await_outcome(commit))),
                Err(_) => {
                    let work = self.await_outcome(commit);
                    // If there is no thread, this drops the completion, which reports an error.
                    let _ = thread::Builder::new().spawn(|| block_on(work, Duration::MAX));
                }
            }
            return;
        };
        host.spawn(Box::pin(self.await_outcome(commit)));
    }

    async fn await_outcome(self, commit: impl Future<Output = Result<(), StorageError>>) {
        let outcome = await_catching(commit).await;
        self.complete(outcome.unwrap_or_else(panicked));
    }

    fn host(&self) -> Option<&Arc<dyn CommitHost>> {
        match &self.0 {
            Some(Target::Host { host, .. }) => Some(host),
            Some(Target::Channel(_)) | None => None,
        }
    }

    fn report(&mut self, outcome: Result<(), StorageError>) {
        match self.0.take() {
            // Values that callers have left behind may panic when they are dropped.
            Some(Target::Host { host, sequence }) => {
                drop(catch_unwind(|| host.committed(sequence, outcome)));
            }
            // The receiver may have been dropped.
            Some(Target::Channel(sender)) => drop(sender.send(outcome)),
            None => {}
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.report(Err(dropped()));
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = match &self.0 {
            Some(Target::Host { sequence, .. }) => Some(sequence),
            Some(Target::Channel(_)) | None => None,
        };
        f.debug_struct("Completion").field("sequence", &sequence).finish_non_exhaustive()
    }
}

fn dropped() -> StorageError {
    let text = "the storage shut down before the commit finished";
    StorageError::new(StorageErrorKind::Closed, text)
}

#[expect(clippy::needless_pass_by_value, reason = "the panic is discarded here")]
fn panicked(panic: String) -> Result<(), StorageError> {
    Err(StorageError::other(format!("the storage panicked: {panic}")))
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        mem,
        sync::Mutex,
    };

    use super::*;

    type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Records outcomes and keeps spawned work.
    #[derive(Default)]
    struct Host {
        outcomes: Mutex<Vec<(u64, bool)>>,
        work: Mutex<Vec<Work>>,
    }

    impl CommitHost for Host {
        fn committed(self: Arc<Self>, sequence: u64, outcome: Result<(), StorageError>) {
            self.outcomes.lock().unwrap().push((sequence, outcome.is_ok()));
        }

        fn spawn(&self, work: Work) {
            self.work.lock().unwrap().push(work);
        }
    }

    impl Host {
        fn completions(self: &Arc<Self>, count: u64) -> Vec<Completion> {
            (0..count).map(|sequence| Completion::new(self.clone(), sequence)).collect()
        }

        fn outcomes(&self) -> Vec<(u64, bool)> {
            self.outcomes.lock().unwrap().clone()
        }

        fn take_work(&self) -> Vec<Work> {
            mem::take(&mut self.work.lock().unwrap())
        }
    }

    fn poll(work: &mut Work) -> bool {
        work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn each_of_many_completions_reports_once_and_large_batches_report_in_tasks() {
        for count in [0, 1, 4, 5, 127, 128, 129, 1000] {
            let host = Arc::new(Host::default());
            Completion::complete_all(host.completions(count));
            let here = host.outcomes().len() as u64;
            assert_eq!(here, if count <= 4 { count } else { 0 });
            for mut work in host.take_work() {
                let before = host.outcomes().len();
                assert!(poll(&mut work));
                assert!(host.outcomes().len() - before <= 128, "other tasks can run in between");
            }
            let all: Vec<_> = (0..count).map(|sequence| (sequence, true)).collect();
            assert_eq!(host.outcomes(), all);
        }
    }

    #[test]
    fn completions_that_are_dropped_report_an_error() {
        let host = Arc::new(Host::default());
        Completion::complete_all(host.completions(10));
        drop(host.take_work());
        let all: Vec<_> = (0..10).map(|sequence| (sequence, false)).collect();
        assert_eq!(host.outcomes(), all);
    }

    #[tokio::test]
    async fn a_commit_that_is_ready_at_once_needs_no_task() {
        let host = Arc::new(Host::default());
        Completion::new(host.clone(), 1).drive(ready(Ok(())));
        Completion::new(host.clone(), 2).drive(ready(Err(StorageError::other("refused"))));
        Completion::new(host.clone(), 3).drive(async { panic!("in place") });
        assert_eq!(host.outcomes(), [(1, true), (2, false), (3, false)]);
        assert!(host.take_work().is_empty());
    }

    #[tokio::test]
    async fn a_commit_that_takes_time_is_driven_by_a_task() {
        let host = Arc::new(Host::default());
        let mut polls = 0;
        Completion::new(host.clone(), 1).drive(poll_fn(move |_| {
            polls += 1;
            if polls == 3 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }));
        Completion::new(host.clone(), 2).drive(async {
            tokio::task::yield_now().await;
            panic!("in the task")
        });
        Completion::new(host.clone(), 3).drive(pending());
        assert_eq!(host.outcomes(), []);
        let mut work = host.take_work();
        assert!(!poll(&mut work[0]) && poll(&mut work[0]) && poll(&mut work[1]));
        assert_eq!(host.outcomes(), [(1, true), (2, false)]);
        drop(work);
        assert_eq!(host.outcomes()[2..], [(3, false)]);
    }

    #[test]
    fn without_a_runtime_in_the_context_nothing_is_polled_in_place() {
        let host = Arc::new(Host::default());
        Completion::new(host.clone(), 1).drive(ready(Ok(())));
        assert_eq!(host.outcomes(), []);
        assert!(poll(&mut host.take_work()[0]));
        assert_eq!(host.outcomes(), [(1, true)]);
    }

    #[tokio::test]
    async fn a_channel_has_the_outcome_of_its_completion() {
        let (completion, outcome) = Completion::channel();
        completion.drive(async {
            tokio::task::yield_now().await;
            Ok(())
        });
        outcome.await.unwrap();
        let (completion, outcome) = Completion::channel();
        drop(completion);
        outcome.await.unwrap_err();
    }

    #[test]
    fn a_commit_without_a_server_is_driven_outside_of_tokio() {
        let (completion, outcome) = Completion::channel();
        completion.drive(async {
            tokio::task::yield_now().await;
            Ok(())
        });
        block_on(outcome, Duration::from_mins(1)).unwrap().unwrap();
    }
}
