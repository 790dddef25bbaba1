use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub unsafe fn add(&mut self) {}

    pub extern "C" fn score(&self) -> u64 {
        self.score
    }
}

fn main() {}
