//! A simulation of the parts of tokio that the runtime uses, on shuttle's scheduler.
//!
//! Time advances only when a scenario calls [`advance`]. So a deadline can pass between any two
//! events, and no deadline hides a task that hangs.

#![expect(clippy::unused_self, reason = "tokio's methods have a receiver")]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::poll_fn,
    mem,
    task::{Poll, Waker},
    time::Duration,
};

use ::shuttle::sync::{
    MutexGuard, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, Ordering},
};

use super::os::ignore_poison;

thread_local! {
    /// Shuttle runs all tasks of an execution on the thread of its test. No borrow spans a
    /// scheduling point.
    static SIMULATION: RefCell<Simulation> = RefCell::default();
}

#[derive(Default)]
struct Simulation {
    now: Duration,
    /// Timers by deadline, then by the order in which they were set.
    timers: BTreeMap<(Duration, u64), Waker>,
    timers_set: u64,
    /// The number of spawned tasks that have not ended.
    tasks: usize,
    /// The task that waits in [`run`] until no other task is left.
    waiting: Option<Waker>,
}

fn with_simulation<T>(access: impl FnOnce(&mut Simulation) -> T) -> T {
    SIMULATION.with_borrow_mut(access)
}

/// Runs `scenario` in a new simulation, and then until every task that the runtime has spawned
/// ends. Shuttle reports a task that never ends as a deadlock.
pub(crate) fn run<T>(scenario: impl Future<Output = T>) -> T {
    drop(with_simulation(mem::take));
    ::shuttle::future::block_on(async {
        let done = scenario.await;
        poll_fn(|cx| {
            with_simulation(|simulation| {
                simulation.waiting = Some(cx.waker().clone());
                if simulation.tasks == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .await;
        done
    })
}

/// Spawns a task that [`run`] waits for.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    drop(runtime::Handle::current().spawn(work));
}

/// Advances time and wakes the tasks whose timers are due.
pub(crate) fn advance(by: Duration) {
    preempt();
    let due = with_simulation(|simulation| {
        simulation.now += by;
        let later = simulation.timers.split_off(&(simulation.now, u64::MAX));
        mem::replace(&mut simulation.timers, later)
    });
    due.into_values().for_each(Waker::wake);
}

/// Lets the scheduler continue with another task.
pub(crate) fn preempt() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

/// [`tokio::sync::Notify`] with a scheduling point before each operation.
#[derive(Default)]
pub(crate) struct Notify(tokio::sync::Notify);

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        preempt();
        self.0.notified()
    }

    pub fn notify_one(&self) {
        preempt();
        self.0.notify_one();
    }

    pub fn notify_waiters(&self) {
        preempt();
        self.0.notify_waiters();
    }
}

/// A [`shuttle::sync::Mutex`](::shuttle::sync::Mutex) without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(::shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(::shuttle::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        ignore_poison(self.0.lock())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        ignore_poison(self.0.get_mut())
    }
}

/// A [`shuttle::sync::RwLock`](::shuttle::sync::RwLock) without poisoning.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(::shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        ignore_poison(self.0.read())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        ignore_poison(self.0.write())
    }
}

pub(crate) mod runtime {
    use ::shuttle::future::{self, JoinHandle};

    use super::{preempt, with_simulation};

    /// The one runtime of a simulation.
    pub struct Handle(());

    /// Its identity.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Id(());

    impl Handle {
        pub fn current() -> Self {
            Self(())
        }

        pub fn try_current() -> Result<Self, ()> {
            Ok(Self::current())
        }

        pub fn id(&self) -> Id {
            Id(())
        }

        /// Does nothing: tokio's timers need the guard, those of the simulation do not.
        pub fn enter(&self) -> impl Drop + use<> {
            struct Entered;
            impl Drop for Entered {
                fn drop(&mut self) {}
            }
            Entered
        }

        pub fn spawn<T: Send + 'static>(
            &self,
            work: impl Future<Output = T> + Send + 'static,
        ) -> JoinHandle<T> {
            let counted = Counted::new();
            let task = future::spawn(async move {
                let done = work.await;
                drop(counted);
                done
            });
            preempt();
            task
        }
    }

    /// A task that has not ended.
    struct Counted;

    impl Counted {
        fn new() -> Self {
            with_simulation(|simulation| simulation.tasks += 1);
            Self
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            let waiting = with_simulation(|simulation| {
                simulation.tasks -= 1;
                simulation.waiting.take_if(|_| simulation.tasks == 0)
            });
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        }
    }
}

pub(crate) mod task {
    use std::{
        future::poll_fn,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    pub use ::shuttle::future::AbortHandle;
    pub use ::shuttle::future::yield_now;
    use ::shuttle::future::{JoinError, JoinHandle};
    pub use tokio::task::{coop, try_id};

    use super::runtime::Handle;

    pub fn spawn_blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        Handle::current().spawn(async { work() })
    }

    /// Tasks that are aborted when the set is dropped.
    pub struct JoinSet<T>(Vec<JoinHandle<T>>);

    impl<T: Send + 'static> JoinSet<T> {
        pub fn new() -> Self {
            Self::default()
        }

        pub fn len(&self) -> usize {
            self.0.len()
        }

        pub fn spawn(&mut self, work: impl Future<Output = T> + Send + 'static) -> AbortHandle {
            self.spawn_on(work, &Handle::current())
        }

        pub fn spawn_on(
            &mut self,
            work: impl Future<Output = T> + Send + 'static,
            on: &Handle,
        ) -> AbortHandle {
            let task = on.spawn(work);
            let abort = task.abort_handle();
            self.0.push(task);
            abort
        }

        pub fn poll_join_next(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<T, JoinError>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            for place in 0..self.0.len() {
                if let Poll::Ready(done) = pin!(&mut self.0[place]).poll(cx) {
                    self.0.swap_remove(place);
                    return Poll::Ready(Some(done));
                }
            }
            Poll::Pending
        }

        pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
            match self.poll_join_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => done,
                Poll::Pending => None,
            }
        }

        pub async fn join_all(mut self) {
            while poll_fn(|cx| self.poll_join_next(cx)).await.is_some() {}
        }
    }

    impl<T> Default for JoinSet<T> {
        fn default() -> Self {
            Self(Vec::new())
        }
    }

    impl<T> Drop for JoinSet<T> {
        fn drop(&mut self) {
            self.0.iter().for_each(JoinHandle::abort);
        }
    }
}

pub(crate) fn is_time_simulated() -> bool {
    true
}

pub(crate) mod time {
    use std::{
        future::{pending, poll_fn},
        ops::Add,
        pin::{Pin, pin},
        task::{Context, Poll},
        time::Duration,
    };

    pub use tokio::time::MissedTickBehavior;

    use super::with_simulation;

    /// The time since the simulation began.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Instant(Duration);

    impl Instant {
        pub fn now() -> Self {
            Self(with_simulation(|simulation| simulation.now))
        }

        pub fn checked_add(&self, duration: Duration) -> Option<Self> {
            self.0.checked_add(duration).map(Self)
        }

        pub fn duration_since(&self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }

        /// For alarms, which callers outside of the simulation would need.
        pub fn into_std(self) -> std::time::Instant {
            std::time::Instant::now()
        }

        pub fn elapsed(&self) -> Duration {
            Self::now().duration_since(*self)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Self;

        fn add(self, duration: Duration) -> Self {
            Self(self.0 + duration)
        }
    }

    #[derive(Debug)]
    pub struct Elapsed(());

    pub async fn sleep(wait: Duration) {
        match Instant::now().checked_add(wait) {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    }

    pub fn sleep_until(deadline: Instant) -> Sleep {
        Sleep { deadline, place: None }
    }

    pub struct Sleep {
        deadline: Instant,
        /// The key of the timer, once the future has been polled.
        place: Option<(Duration, u64)>,
    }

    impl Sleep {
        pub fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
            self.unset();
            self.deadline = deadline;
        }

        fn unset(&mut self) {
            if let Some(place) = self.place.take() {
                with_simulation(|simulation| simulation.timers.remove(&place));
            }
        }
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            with_simulation(|simulation| {
                if simulation.now >= self.deadline.0 {
                    return Poll::Ready(());
                }
                let deadline = self.deadline.0;
                let place = *self.place.get_or_insert_with(|| {
                    simulation.timers_set += 1;
                    (deadline, simulation.timers_set)
                });
                simulation.timers.insert(place, cx.waker().clone());
                Poll::Pending
            })
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            self.unset();
        }
    }

    pub async fn timeout<T>(after: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        within(work, sleep(after)).await
    }

    pub async fn timeout_at<T>(
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        within(work, sleep_until(deadline)).await
    }

    async fn within<T>(
        work: impl Future<Output = T>,
        limit: impl Future<Output = ()>,
    ) -> Result<T, Elapsed> {
        let (mut work, mut limit) = (pin!(work), pin!(limit));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(Elapsed(()))),
        })
        .await
    }

    pub struct Interval {
        next: Instant,
        period: Duration,
    }

    pub fn interval_at(next: Instant, period: Duration) -> Interval {
        Interval { next, period }
    }

    impl Interval {
        /// Does nothing: each tick is one period after the previous one.
        pub fn set_missed_tick_behavior(&mut self, _: MissedTickBehavior) {}

        pub async fn tick(&mut self) {
            sleep_until(self.next).await;
            self.next = Instant::now() + self.period;
        }
    }
}
