use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[cast]
    pub fn add(&mut self, points: u64) -> u64 {
        self.score += points;
        self.score
    }
}

fn main() {}
