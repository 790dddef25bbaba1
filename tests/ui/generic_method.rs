use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn add<T: Into<u64>>(&mut self, points: T) {
        self.score += points.into();
    }

    pub fn subtract(&mut self, points: impl Into<u64>) {
        self.score -= points.into();
    }

    pub fn with<'a>(&'a mut self) {}
}

fn main() {}
