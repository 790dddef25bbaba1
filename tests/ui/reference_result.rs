use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn score(&self) -> &u64 {
        &self.score
    }

    pub fn maybe(&self) -> Option<&u64> {
        Some(&self.score)
    }

    pub fn words(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.score)
    }
}

fn main() {}
