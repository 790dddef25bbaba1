use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
pub struct Player {
    score: u64,
}

#[persistent_server(vis = pub(crate))]
impl Player {
    pub fn score(&self) -> u64 {
        self.score
    }
}

fn main() {}
