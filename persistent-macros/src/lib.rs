//! The `#[persistent_server]` attribute of `persistent-runtime`, which
//! re-exports it.

mod check;
mod errors;
mod expand;
mod model;
mod options;
mod parse;
mod syntax;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::quote;

use crate::{
    check::check, errors::Errors, expand::expand, model::Server, options::Options, parse::Block,
};

/// Makes a persistent server of a type: put it on one inherent impl block.
///
/// ```ignore
/// #[derive(Serialize, Deserialize)]
/// struct Player { name: String, score: u64 }
///
/// #[persistent_server(restart = transient, idle_timeout = "60s")]
/// impl Player {
///     #[init]
///     fn new(name: String) -> Self { Self { name, score: 0 } }
///
///     /// Adds `points` and returns the new score.
///     pub fn add(&mut self, points: u64) -> u64 { self.score += points; self.score }
///
///     /// A read: it writes nothing.
///     pub fn score(&self) -> u64 { self.score }
///
///     /// Fire and forget.
///     #[cast]
///     pub fn reset(&mut self) { self.score = 0 }
///
///     fn helper(&self) {} // not `pub`: not callable
/// }
/// ```
///
/// It adds two types beside the block, and nothing else enters your namespace:
///
/// - `PlayerClient`, with an `async` method for each callable method. What a
///   method returns comes back as `Result<_, CallError>`. The client's controls
///   (`stop`, `address`, `with_timeout`, …) are on the trait `Client`, so that
///   no name is taken from your methods.
/// - `PlayerMessage`, an enum with one variant for each callable method and
///   each `#[info]` (`add_points` makes `AddPoints`), the arguments as named
///   fields.
///
/// # What can be called
///
/// Each method that is exactly `pub` and takes `&self` or `&mut self`, `async`
/// or not. A `&self` method is a read: its state is not written. Arguments and
/// results own what they hold and have `Serialize` and `Deserialize`; arguments
/// have `Debug` too. A parameter `&Context<Self>` is the server's context and
/// no part of the message. Other functions are left alone.
///
/// A method that takes a `Reply<T>` answers later: it returns nothing, its
/// client method returns the `T` that the reply is sent, and the reply is no
/// part of the message either. The name tells: a parameter is a reply if its
/// type is called `Reply` and has one argument.
///
/// # Attributes in the block
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `#[cast]` | a callable method without a result | callers don't wait for it |
/// | `#[skip]` | a `pub` method | it is not callable |
/// | `#[info]` | a method without a result, `pub` or not | has a message and no client method: for the server's own timers and streams |
/// | `#[init]` | `fn(…) -> Self` or `-> Result<Self, E>` | makes the state when nothing is stored; without it `Default` does. Its parameters are what `start` and `at` take, those of several as a tuple |
/// | `#[started]` | `fn(&mut self)` | runs after each activation, before the first message |
/// | `#[terminate]` | `fn(&mut self, &StopReason)` | runs once at each orderly end of an activation |
/// | `#[save]` | `fn(&self) -> Saved` | what is stored in the place of the state, which needs no serde then. It may borrow from the state |
/// | `#[restore]` | `fn(saved: Saved) -> Self` or `-> Result<Self, E>` | makes the state of what `#[save]` has returned, each time that a stored state is read, for listeners too: leave effects to `#[started]`. On an error callers get `CallError::Decode`, and what is stored stays |
/// | `#[migrate(from = 1)]` | `fn(old: Old) -> Self` | reads a state that was stored with `version = 1` |
/// | `#[migrate_message(from = 1)]` | `fn(old: Old) -> PlayerMessage` or `-> Option<PlayerMessage>` | reads a message that `version = 1` has journaled; `None` leaves it out |
///
/// All may be `async` but `#[save]`, `#[restore]` and the migrations, which run
/// while a state is written or read, and all may take `&Context<Self>` but
/// `#[save]` and the migrations. `#[terminate]` may do without the reason.
/// `#[save]` and `#[restore]` need each other. The hooks from `#[init]` on are
/// never callable, also when they are `pub`.
///
/// # Options
///
/// All are optional, and what is open can be set at run time.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `name = "Player"` | the type's name | what states are stored under. Set it before you rename the type. The instances of a generic type need a name each: `name = T::NAME` takes it from a constant |
/// | `version = 2` | 1 | the version of the state's shape; raise it with a `#[migrate]` from each earlier one |
/// | `restart = transient` | `transient` | what becomes of the state at a stop or crash: `temporary`, `transient` or `permanent` |
/// | `max_restarts(3, within = "5s")` | 3 within 5 s | how many crashes the server recovers from before it needs a reset |
/// | `backoff(min = "100ms", max = "10s", factor = 2.0, jitter = 0.1)` | no rest | how long it rests after a crash: `min`, then `factor` times as long each time, up to `max`; chance shortens each rest by up to the part `jitter`. Without them `max` is 30 s, `factor` 2 and `jitter` 0 |
/// | `idle_timeout = "60s"` | 60 s | how long it stays in memory without a message; `never` keeps it there |
/// | `mailbox = 1024` | 1024 | how many messages may queue; further senders wait |
/// | `call_timeout = "5s"` | 5 s | a call's deadline, activation, queueing, handling and commit together |
/// | `persist = every("500ms")` | `every_message` | when changes are committed: `every_message` before its answer leaves, `every(…)` period together, or `on_stop`, when the server is unloaded or stopped |
/// | `journal = messages(snapshot_every = 1000)` | `state` | what is stored of a change: the `state`, or the `messages` since the last snapshot of it; see below |
/// | `crate = ::path` | `::persistent_runtime` | where the runtime is found, as an absolute path |
///
/// Durations are written as in `"1m 30s"`.
///
/// # Journaled messages
///
/// A change of a large state costs that state's size, for it is encoded and
/// stored as a whole. With `journal = messages` the change costs its message
/// instead: each message to a method that takes `&mut self` is stored once its
/// handler has returned, and the state only now and then, as a *snapshot*: with
/// every `snapshot_every`th message (1000 if it is not said), or earlier once the
/// messages take more room than the snapshot and more than 1 MiB; at each orderly
/// end, the idle unload included; when a hook has changed the state, and when a
/// message has changed durable timers. An activation reads the snapshot and has
/// the messages since then handled again: *replayed*. It takes as long as they
/// do, up to `snapshot_every` of them.
///
/// ```ignore
/// #[persistent_server(journal = messages(snapshot_every = 500))]
/// impl Board {
///     pub fn place(&mut self, x: usize, y: usize, context: &Context<Self>) {
///         self.cells[y][x] = context.random() % 8;
///         self.last_move = context.now();
///     }
/// }
/// ```
///
/// A replay must come to the same state. So each method with `&mut self`
///
/// - is not `async`: the attribute refuses it;
/// - goes by nothing but the stored state, its message as serde writes it, and
///   its context: the time and chance come from `Context::now` and
///   `Context::random`, which are recorded. Other clocks, `HashMap`s gone
///   through in their order, statics, files, kept values and fields that are
///   not stored (those that `#[started]` opens, say) are not there in a replay,
///   or are others;
/// - reaches out only through its context. In a replay nothing that a handler
///   asks its context for happens: no stop, no timer, no answer, and what is
///   sent to a client of the context's is refused.
///
/// `Builder::check_replay` finds handlers that break this, in tests. One that
/// breaks it otherwise leads to another state than the one before, or to
/// `CallError::Replay`, with all that is stored left as it was.
///
/// The code of handlers is part of what is stored for as long as there are
/// messages to be replayed: after an orderly end there are none. Where a
/// program with other handlers or messages may follow one that was killed, raise
/// `version`, and add a `#[migrate_message]`: the snapshot is migrated, then
/// each message, and replayed on it. Without one such a server is refused, and
/// the old program can be run once more and stopped in order.
///
/// A message is journaled also if it has left the state as it was: to find out
/// would cost the state's size. Reads write nothing.
#[proc_macro_attribute]
pub fn persistent_server(
    arguments: proc_macro::TokenStream,
    input: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    server(arguments.into(), &input.into()).into()
}

/// Returns the user's block, the generated items and the errors. A function with
/// an error is left out of the generated items, and the others are kept.
fn server(arguments: TokenStream, input: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(block) = Block::parse(input) else {
        errors.push(syn::Error::new(
            Span::call_site(),
            "`#[persistent_server]` goes on an inherent impl block: `impl Player { … }`",
        ));
        return quote!(#input #errors);
    };
    let options = Options::parse(arguments, &mut errors);
    let generated = Server::read(&block, options, &mut errors)
        .and_then(|server| check(server, &mut errors))
        .map(|server| expand(&server));
    let item = &block.item;
    quote!(#item #generated #errors)
}
