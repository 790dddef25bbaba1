use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub async fn wait(&mut self) {
        let score = std::rc::Rc::new(self.score);
        std::future::ready(()).await;
        self.score = *score;
    }
}

fn main() {}
