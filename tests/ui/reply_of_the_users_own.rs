use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply<T>(T);

#[persistent_server]
impl Player {
    pub fn answer(&mut self, reply: Reply<u64>) {
        self.score = reply.0;
    }
}

fn main() {}
