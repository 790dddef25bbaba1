use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn add(&mut self, _: u64) {}

    pub fn both(&mut self, (one, two): (u64, u64)) {
        self.score += one + two;
    }
}

fn main() {}
