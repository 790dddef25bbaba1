use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn take(self) -> u64 {
        self.score
    }

    pub fn take_mut(mut self) -> u64 {
        self.score += 1;
        self.score
    }

    pub fn boxed(self: Box<Self>) -> u64 {
        self.score
    }

    pub fn typed(self: &mut Self) -> u64 {
        self.score
    }
}

fn main() {}
