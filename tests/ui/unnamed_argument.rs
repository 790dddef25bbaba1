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

    pub fn lent(&mut self, ref points: u64) {
        self.score += points;
    }

    pub fn known(&mut self, points @ _: u64) {
        self.score += points;
    }
}

fn main() {}
