use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(journal = messages)]
impl Player {
    pub async fn add(&mut self, points: u64) -> u64 {
        self.score += points;
        self.score
    }

    #[cast]
    pub async fn reset(&mut self) {
        self.score = 0;
    }

    #[info]
    async fn tick(&mut self) {
        self.score += 1;
    }

    /// A read is not journaled.
    pub async fn score(&self) -> u64 {
        self.score
    }

    #[started]
    async fn started(&mut self) {}

    #[skip]
    pub async fn load(&mut self) {}
}

fn main() {}
