use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[info]
    pub fn tick(&mut self) {
        self.score += 1;
    }
}

async fn call(player: PlayerClient) {
    player.tick().await.unwrap();
}

fn main() {}
