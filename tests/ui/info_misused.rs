use persistent_runtime::{Reply, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[info]
    fn tick(count: u64) {
        let _ = count;
    }

    #[info(every = "1s")]
    fn tock(&mut self, name: &str) -> u64 {
        name.len() as u64
    }

    #[info]
    fn ask<T>(&self, reply: Reply<u64>) {
        reply.send(self.score);
    }

    #[info]
    #[cast]
    pub fn reset(&mut self) {
        self.score = 0;
    }

    #[skip]
    #[info]
    pub fn halve(&mut self) {
        self.score /= 2;
    }

    #[started]
    #[info]
    fn started(&mut self) {}
}

fn main() {}
