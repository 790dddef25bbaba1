use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Name(String);

#[persistent_server]
impl Player {
    #[init]
    fn new(name: Name) -> Self {
        Self { score: name.0.len() as u64 }
    }
}

fn main() {}
