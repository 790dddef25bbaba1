#![no_implicit_prelude]

mod core {}
mod std {}
mod serde {}

struct String;
struct Vec;
struct Option;
struct Result;

#[derive(::std::default::Default, ::serde::Serialize, ::serde::Deserialize)]
struct Player(u64);

#[::persistent_runtime::persistent_server(version = 2, idle_timeout = never)]
impl Player {
    #[migrate(from = 1)]
    fn from_first(old: u64) -> Self {
        Self(old)
    }

    pub async fn add(&mut self, points: u64) -> u64 {
        self.0 += points;
        self.0
    }
}

fn main() {
    let _ = (PlayerClient::add, String, Vec, Option, Result);
}
