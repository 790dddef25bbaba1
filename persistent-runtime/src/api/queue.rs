//! The queue of one server: its messages in order, each with what goes with it.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    call::reply::ReplySender,
    engine::command::{CallOptions, Command},
    support::catch::drop_catching,
};

/// Envelopes in order.
///
/// The first envelope has a place of its own, so that a queue of one allocates no buffer. Behind
/// it the messages lie side by side, apart from what only some of them have: a sender waits for
/// each cache line that it takes from the receiver's core.
pub(super) struct Queue<M> {
    first: Option<Queued<M>>,
    /// `None` in the place of a command.
    messages: VecDeque<Option<M>>,
    commands: VecDeque<Command>,
    replies: Sparse<ReplySender>,
    options: Sparse<Arc<CallOptions>>,
    /// The number of the front of `messages`, counted over the life of the queue.
    front: usize,
}

/// One entry.
pub(super) struct Queued<M> {
    pub(super) content: QueuedContent<M>,
    pub(super) reply: Option<ReplySender>,
    /// `None` if equal to the options of the entry before.
    pub(super) options: Option<Arc<CallOptions>>,
}

pub(super) enum QueuedContent<M> {
    Message(M),
    Command(Command),
}

/// Values of some entries, each with the number of its entry.
struct Sparse<T>(VecDeque<(usize, T)>);

impl<T> Sparse<T> {
    fn push(&mut self, number: usize, value: Option<T>) {
        if let Some(value) = value {
            self.0.push_back((number, value));
        }
    }

    fn take(&mut self, number: usize) -> Option<T> {
        if self.0.front()?.0 != number {
            return None;
        }
        self.0.pop_front().map(|(_, value)| value)
    }
}

impl<M> Drop for Queue<M> {
    /// Messages are values of users: a panic of a destructor ends here, and so costs no other
    /// sender its message or its reply.
    fn drop(&mut self) {
        while let Some(entry) = self.pop_front() {
            drop_catching(entry);
        }
    }
}

impl<M> Queue<M> {
    pub(super) fn new() -> Self {
        Self {
            first: None,
            messages: VecDeque::new(),
            commands: VecDeque::new(),
            replies: Sparse(VecDeque::new()),
            options: Sparse(VecDeque::new()),
            front: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.messages.len()
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: Queued<M>) {
        if self.messages.is_empty() && self.first.is_none() {
            self.first = Some(entry);
            return;
        }
        let Queued { content, reply, options } = entry;
        let number = self.front + self.messages.len();
        self.replies.push(number, reply);
        self.options.push(number, options);
        self.messages.push_back(match content {
            QueuedContent::Message(message) => Some(message),
            QueuedContent::Command(command) => {
                self.commands.push_back(command);
                None
            }
        });
    }

    /// Returns the front if it is a message.
    pub(super) fn front_message(&self) -> Option<&M> {
        match &self.first {
            Some(Queued { content: QueuedContent::Message(message), .. }) => Some(message),
            Some(_) => None,
            None => self.messages.front()?.as_ref(),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Queued<M>> {
        if self.first.is_some() {
            return self.first.take();
        }
        let content = match self.messages.pop_front()? {
            Some(message) => QueuedContent::Message(message),
            None => QueuedContent::Command(self.commands.pop_front()?),
        };
        let (reply, options) = (self.replies.take(self.front), self.options.take(self.front));
        self.front += 1;
        Some(Queued { content, reply, options })
    }

    pub(super) fn front_options(&self) -> Option<&CallOptions> {
        match &self.first {
            Some(first) => first.options.as_deref(),
            None => {
                let (number, options) = self.options.0.front()?;
                (*number == self.front).then_some(&**options)
            }
        }
    }

    pub(super) fn take_front_options(&mut self) -> Option<Arc<CallOptions>> {
        match &mut self.first {
            Some(first) => first.options.take(),
            None => self.options.take(self.front),
        }
    }

    /// Returns true if someone waits for the reply to the last entry.
    pub(super) fn is_back_waited_for(&self) -> bool {
        match (self.messages.len(), self.replies.0.back()) {
            (0, _) => self.first.as_ref().is_some_and(|first| first.reply.is_some()),
            (len, last) => last.is_some_and(|(number, _)| *number == self.front + len - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::reply::channel, config::options::Persist};

    /// The parts of one entry: a message or a command, with a reply or without, with options
    /// or without.
    type Shape = (Option<u32>, bool, Option<u64>);

    fn entry((message, has_reply, options): Shape) -> Queued<u32> {
        Queued {
            content: match message {
                Some(message) => QueuedContent::Message(message),
                None => QueuedContent::Command(Command::Start),
            },
            reply: has_reply.then(|| channel::<()>().0),
            options: options.map(|millis| {
                let persist = Some(Persist::Every(std::time::Duration::from_millis(millis)));
                Arc::new(CallOptions { persist, ..CallOptions::default() })
            }),
        }
    }

    fn shape(entry: &Queued<u32>) -> Shape {
        let message = match entry.content {
            QueuedContent::Message(message) => Some(message),
            QueuedContent::Command(_) => None,
        };
        (message, entry.reply.is_some(), entry.options.as_ref().map(millis))
    }

    fn millis(options: &Arc<CallOptions>) -> u64 {
        match options.persist {
            Some(Persist::Every(limit)) => u64::try_from(limit.as_millis()).unwrap(),
            _ => 0,
        }
    }

    #[test]
    fn entries_leave_in_order_with_what_came_with_them() {
        let (mut queue, mut model) = (Queue::new(), VecDeque::<Shape>::new());
        for number in 0..10_000_u32 {
            let random = number.wrapping_mul(0x9e37_79b1) >> 8;
            let bit = |nth: u32| random >> nth & 1 == 1;
            if random % 5 < 3 {
                let message = (bit(3) || bit(4)).then_some(number);
                let shape = (message, bit(5), bit(6).then_some(u64::from(number)));
                queue.push_back(entry(shape));
                model.push_back(shape);
            } else {
                assert_eq!(queue.front_message().copied(), model.front().and_then(|it| it.0));
                let options = queue.front_options().and_then(|options| options.persist);
                let expected = model.front().and_then(|front| front.2);
                let every = |millis| Persist::Every(std::time::Duration::from_millis(millis));
                assert_eq!(options, expected.map(every));
                if bit(7) {
                    let options = model.front_mut().and_then(|front| front.2.take());
                    assert_eq!(queue.take_front_options().as_ref().map(millis), options);
                }
                assert_eq!(queue.pop_front().as_ref().map(shape), model.pop_front());
            }
            assert_eq!(queue.len(), model.len());
            assert_eq!(queue.is_back_waited_for(), model.back().is_some_and(|back| back.1));
            if random % 97 == 0 {
                while !model.is_empty() {
                    assert_eq!(queue.pop_front().as_ref().map(shape), model.pop_front());
                }
            }
        }
    }
}
