use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(mailbox = 0)]
impl Player {
    #[init]
    fn new(name: &str) -> Self {
        Self { score: name.len() as u64 }
    }

    pub fn rename(&mut self, name: &str) {
        let _ = name;
    }

    #[cast]
    pub fn reset(&mut self) -> u64 {
        self.score
    }

    pub fn score(&self) -> u64 {
        self.score
    }
}

fn main() {
    let _ = PlayerClient::score;
}
