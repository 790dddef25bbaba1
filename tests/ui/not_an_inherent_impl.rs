use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

trait Score {
    fn score(&self) -> u64;
}

#[persistent_server]
impl Score for Player {
    fn score(&self) -> u64 {
        self.score
    }
}

#[persistent_server]
struct Team {
    players: Vec<Player>,
}

#[persistent_server]
fn score() {}

fn main() {}
