use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[cast(soon)]
    pub fn add(&mut self, points: u64) {
        self.score += points;
    }

    #[cast]
    #[skip]
    pub fn reset(&mut self) {
        self.score = 0;
    }

    #[init]
    #[started]
    fn new() -> Self {
        Self { score: 0 }
    }

    #[migrate(1)]
    fn from_first(score: u64) -> Self {
        Self { score }
    }
}

fn main() {}
