use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[derive(Deserialize)]
enum Old {
    Add { points: u64 },
}

#[persistent_server(version = 5, journal = messages)]
impl Player {
    pub fn add(&mut self, points: u64) {
        self.score += points;
    }

    #[migrate_message(from = 5)]
    fn from_fifth(old: Old) -> PlayerMessage {
        let Old::Add { points } = old;
        PlayerMessage::Add { points }
    }

    #[migrate_message]
    fn from_nowhere(old: Old) -> PlayerMessage {
        let Old::Add { points } = old;
        PlayerMessage::Add { points }
    }

    #[migrate_message(from = 1)]
    fn from_first(_: Old) {}

    #[migrate_message(from = 2)]
    async fn from_second(old: Old, more: u64) -> PlayerMessage {
        let Old::Add { points } = old;
        PlayerMessage::Add { points: points + more }
    }

    #[migrate_message(from = 3)]
    fn from_third(&self, old: Old) -> PlayerMessage {
        let Old::Add { points } = old;
        PlayerMessage::Add { points }
    }

    #[migrate_message(from = 4)]
    fn from_fourth(old: Old) -> u64 {
        let Old::Add { points } = old;
        points
    }
}

fn main() {}
