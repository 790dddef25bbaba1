use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(version = 3)]
impl Player {
    #[migrate(from = 3)]
    fn from_third(score: u64) -> Self {
        Self { score }
    }

    #[migrate(from = 1)]
    fn from_first(score: u64) -> Self {
        Self { score }
    }

    #[migrate(from = 1)]
    fn from_first_too(score: u64) -> Self {
        Self { score }
    }

    #[migrate(from = 2)]
    async fn from_second(score: u64, more: u64) -> u64 {
        score + more
    }
}

fn main() {}
