use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[init]
    fn new(&self, score: u64) -> Self {
        Self { score }
    }
}

fn main() {}
