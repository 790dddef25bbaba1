#![no_implicit_prelude]

mod core {}
mod std {}
mod serde {}

struct String;
struct Vec;
struct Option;
struct Result;
struct Context;

#[derive(::std::default::Default, ::serde::Serialize, ::serde::Deserialize)]
struct Player(u64);

#[::persistent_runtime::persistent_server(
    version = 2,
    idle_timeout = never,
    persist = every("1s")
)]
impl Player {
    #[migrate(from = 1)]
    fn from_first(old: u64) -> Self {
        Self(old)
    }

    pub async fn add(&mut self, points: u64) -> u64 {
        self.0 += points;
        self.0
    }

    pub async fn later(&self, reply: ::persistent_runtime::Reply<u64>) {
        reply.send(self.0);
    }

    #[info]
    fn tick(&mut self) {}

    #[save]
    fn save(&self) -> u64 {
        self.0
    }

    #[restore]
    fn restore(saved: u64) -> ::std::result::Result<Self, &'static str> {
        ::std::result::Result::Ok(Self(saved))
    }
}

fn main() {
    let _ = (PlayerClient::add, PlayerClient::later, String, Vec, Option, Result, Context);
}
