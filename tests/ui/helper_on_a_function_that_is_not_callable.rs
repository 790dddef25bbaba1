use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[cast]
    fn add(&mut self, points: u64) {
        self.score += points;
    }

    #[skip]
    pub fn new() -> Self {
        Self { score: 0 }
    }
}

fn main() {}
