//! The effects that the message in progress has asked its context for.

use std::{collections::VecDeque, mem};

use crate::{
    engine::{erased::AnyMessage, reminders::Reminders},
    error::CallError,
    stop_reason::StopReason,
    support::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// The effects of the message in progress, and the server's reminders. They happen once the
/// handler has returned; a panic drops them.
pub(crate) struct Effects {
    /// True if `pending` may hold anything. Most messages ask for nothing, and find out without
    /// the lock.
    touched: AtomicBool,
    /// True until the server is activated: a reminder that a hook sets then does not postpone one
    /// that is pending.
    is_activating: AtomicBool,
    pending: Mutex<Option<Box<Pending>>>,
}

/// The pending effects, while they are set aside.
pub(crate) struct SetAside(Option<Box<Pending>>);

#[derive(Default)]
struct Pending {
    stop: Option<StopReason>,
    continuations: VecDeque<AnyMessage>,
    reminders: Reminders,
    /// True if `reminders` differ from those that were last staged.
    reminders_changed: bool,
    error: Option<CallError>,
}

impl Effects {
    pub(crate) fn new(reminders: Reminders) -> Self {
        let pending =
            (!reminders.is_empty()).then(|| Box::new(Pending { reminders, ..Pending::default() }));
        Self {
            touched: AtomicBool::new(false),
            is_activating: AtomicBool::new(true),
            pending: Mutex::new(pending),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Pending>>> {
        self.pending.lock()
    }

    fn add<T>(&self, add: impl FnOnce(&mut Pending) -> T) -> T {
        self.touched.store(true, Ordering::Release);
        add(self.lock().get_or_insert_default())
    }

    fn take<T: Default>(&self, take: impl FnOnce(&mut Pending) -> T) -> T {
        if self.is_empty() {
            return T::default();
        }
        self.lock().as_deref_mut().map(take).unwrap_or_default()
    }

    /// Returns true if no effect is pending.
    pub(crate) fn is_empty(&self) -> bool {
        if !self.touched.load(Ordering::Acquire) {
            return true;
        }
        let is_empty = self.lock().as_ref().is_none_or(|pending| {
            pending.stop.is_none()
                && pending.continuations.is_empty()
                && pending.error.is_none()
                && !pending.reminders_changed
        });
        self.touched.store(!is_empty, Ordering::Release);
        is_empty
    }

    pub(crate) fn stop(&self, reason: StopReason) {
        self.add(|pending| pending.stop = Some(reason));
    }

    pub(crate) fn take_stop(&self) -> Option<StopReason> {
        self.take(|pending| pending.stop.take())
    }

    pub(crate) fn continue_with(&self, message: AnyMessage) {
        self.add(|pending| pending.continuations.push_back(message));
    }

    pub(crate) fn next_continuation(&self) -> Option<AnyMessage> {
        self.take(|pending| pending.continuations.pop_front())
    }

    /// Fails the message in progress with `error`.
    pub(crate) fn fail(&self, error: CallError) {
        self.add(|pending| pending.error = Some(error));
    }

    pub(crate) fn take_error(&self) -> Option<CallError> {
        self.take(|pending| pending.error.take())
    }

    /// Changes the reminders. `change` returns true if anything has changed.
    pub(crate) fn change_reminders(&self, change: impl FnOnce(&mut Reminders) -> bool) -> bool {
        self.add(|pending| {
            let has_changed = change(&mut pending.reminders);
            pending.reminders_changed |= has_changed;
            has_changed
        })
    }

    pub(crate) fn is_activating(&self) -> bool {
        self.is_activating.load(Ordering::Relaxed)
    }

    /// Notes that the hooks of the activation have run.
    pub(crate) fn end_activation(&self) {
        self.is_activating.store(false, Ordering::Relaxed);
    }

    pub(crate) fn with_reminders<T>(&self, read: impl FnOnce(&Reminders) -> T) -> T {
        match self.lock().as_deref() {
            Some(pending) => read(&pending.reminders),
            None => read(&Reminders::default()),
        }
    }

    pub(crate) fn reminders_changed(&self) -> bool {
        self.take(|pending| pending.reminders_changed)
    }

    /// Returns true if the reminders have changed since the last call.
    pub(crate) fn take_reminders_changed(&self) -> bool {
        self.take(|pending| mem::take(&mut pending.reminders_changed))
    }

    /// Takes the pending effects out and leaves a copy of the reminders, e.g. for a replay, which
    /// must neither see nor lose them.
    pub(crate) fn set_aside(&self) -> SetAside {
        let mut pending = self.lock();
        let reminders = pending.as_ref().map(|pending| pending.reminders.clone());
        let copy = reminders.map(|reminders| Box::new(Pending { reminders, ..Pending::default() }));
        SetAside(mem::replace(&mut *pending, copy))
    }

    /// Puts back what [`set_aside`](Self::set_aside) took out.
    pub(crate) fn restore(&self, SetAside(pending): SetAside) {
        self.touched.store(pending.is_some(), Ordering::Release);
        let replaced = mem::replace(&mut *self.lock(), pending);
        drop(replaced);
    }

    /// Drops everything that was asked for. Returns true if the reminders were changed.
    pub(crate) fn discard(&self) -> bool {
        let (changed, dropped) = self.take(|pending| {
            let dropped = (pending.stop.take(), mem::take(&mut pending.continuations));
            pending.error = None;
            (mem::take(&mut pending.reminders_changed), dropped)
        });
        drop(dropped);
        changed
    }
}
