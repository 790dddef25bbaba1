use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[init]
    fn new() -> Self {
        Self { score: 0 }
    }

    #[init]
    fn other() -> Self {
        Self { score: 1 }
    }

    #[started]
    fn started(&mut self) {}

    #[started]
    fn started_too(&mut self) {}
}

fn main() {}
