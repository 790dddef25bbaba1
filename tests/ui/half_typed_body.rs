use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn add(&mut self, points: u64) -> u64 {
        self.score.
    }

    pub fn score(&self) -> u64 {
        self.score
    }
}

fn main() {
    let _ = PlayerClient::add;
    let _ = PlayerClient::score;
}
