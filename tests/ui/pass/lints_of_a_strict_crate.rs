//! No lint that a user can set blames the user for generated code.
#![forbid(unsafe_code)]
#![deny(
    missing_docs,
    unused,
    unreachable_pub,
    missing_debug_implementations,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unused_qualifications,
    unused_lifetimes,
    unused_results,
    variant_size_differences
)]

/// Public, as in a library.
pub mod library {
    use persistent_runtime::{Context, Reply, StopReason, persistent_server};
    use serde::{Deserialize, Serialize};

    /// A player.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Player {
        name: String,
        score: u64,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct FirstPlayer {
        score: u64,
    }

    #[persistent_server(
        name = "player",
        version = 2,
        restart = permanent,
        max_restarts(5, within = "1m"),
        backoff(min = "100ms", factor = 3),
        idle_timeout = never,
        mailbox = 16,
        call_timeout = "1s 500ms",
        persist = every("500ms"),
    )]
    impl Player {
        #[init]
        async fn new(name: String, score: u64, context: &Context<Self>) -> Result<Self, String> {
            if context.key().is_empty() { Err(name) } else { Ok(Self { name, score }) }
        }

        #[started]
        fn started(&self) {}

        #[terminate]
        async fn ended(&mut self, context: &Context<Self>, reason: &StopReason) {
            self.name = format!("{}: {reason}", context.key());
        }

        #[migrate(from = 1)]
        fn from_first(old: FirstPlayer) -> Self {
            Self { name: String::new(), score: old.score }
        }

        /// Adds `points` and returns the new score.
        ///
        /// Never less than before.
        pub fn add(&mut self, points: u64) -> u64 {
            self.score += points;
            self.score
        }

        /// Waits.
        pub async fn wait(self: &mut Self, mut times: u8, _unused: u8) {
            while times > 0 {
                tokio::task::yield_now().await;
                times -= 1;
            }
        }

        /// The name.
        #[must_use]
        pub fn name(&self, context: &Context<Self>) -> String {
            format!("{} {}", context.key(), self.name)
        }

        /// Fire and forget.
        #[cast]
        pub fn reset(&mut self) {
            self.score = 0;
        }

        /// Use `add`.
        #[deprecated = "use `add`"]
        pub fn increment(&mut self) {
            self.score += 1;
        }

        /// Not for messages.
        #[skip]
        pub fn name_ref(&self) -> &str {
            self.helper()
        }

        fn helper(&self) -> &str {
            &self.name
        }

        /// Answers later.
        pub async fn ask(&mut self, reply: Reply<Option<u64>>, times: u8) {
            self.wait(times, 0).await;
            reply.send(Some(self.score));
        }

        #[info]
        fn tick(&mut self, tick: Tick) {
            self.score += tick.points;
        }
    }

    /// Nobody else sends it.
    #[derive(Debug, Serialize, Deserialize)]
    struct Tick {
        points: u64,
    }

    /// A type without serde of its own.
    #[derive(Debug, Default)]
    pub struct Session {
        entries: Vec<Entry>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Entry(u8);

    #[persistent_server(persist = on_stop)]
    impl Session {
        #[save]
        fn save(&self) -> &Vec<Entry> {
            &self.entries
        }

        #[restore]
        fn restore(mut entries: Vec<Entry>, _context: &Context<Self>) -> Self {
            entries.reverse();
            Self { entries }
        }

        /// Adds one.
        pub fn add(&mut self, number: u8) {
            self.entries.push(Entry(number));
        }
    }
}

/// Lints that a method, a hook or the block allows.
mod allowed {
    #![deny(non_snake_case, deprecated, unreachable_pub)]

    use persistent_runtime::persistent_server;

    #[deprecated]
    #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Old;

    #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Order(u64);

    #[persistent_server(vis = pub(crate))]
    impl Order {
        #[init]
        #[expect(deprecated)]
        fn new(_old: Old) -> Self {
            Self(0)
        }

        #[allow(non_snake_case)]
        pub(crate) fn HTTP_get(&self, URL: String) -> usize {
            URL.len()
        }

        #[cfg_attr(all(), allow(deprecated))]
        pub(crate) fn replace(&mut self, old: Old) -> Old {
            old
        }

        pub(in crate::allowed) fn count(&self) -> u64 {
            self.0
        }

        pub(self) fn helper(&self) -> &u64 {
            &self.0
        }
    }

    pub(crate) async fn run(client: OrderClient) -> u64 {
        assert_eq!(*Order(3).helper(), 3);
        client.HTTP_get("url".to_owned()).await.unwrap() as u64 + client.count().await.unwrap()
    }
}

mod program {
    use persistent_runtime::persistent_server;

    #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Counter(u64);

    #[expect(unreachable_pub)]
    #[persistent_server]
    impl Counter {
        pub fn count(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }

        pub fn never_called(&mut self, by: u64) -> u64 {
            self.0 += by;
            self.0
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = persistent_runtime::Runtime::in_memory().await.unwrap();
    #[expect(deprecated)]
    let order = runtime.at::<allowed::Order>("a", allowed::Old);
    assert_eq!(allowed::run(order.clone()).await, 3);
    #[expect(deprecated)]
    let _ = order.replace(allowed::Old).await.unwrap();
    assert_eq!(runtime.at::<program::Counter>("a", ()).count().await.unwrap(), 1);
}
