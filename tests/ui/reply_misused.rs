use persistent_runtime::{Reply, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(version = 2)]
impl Player {
    #[init]
    fn new(reply: Reply<u64>) -> Self {
        reply.send(0);
        Self { score: 0 }
    }

    #[started]
    fn started(&mut self, reply: Reply<u64>) {
        reply.send(self.score);
    }

    pub fn result_too(&self, reply: Reply<u64>) -> u64 {
        reply.send(self.score);
        self.score
    }

    #[cast]
    pub fn cast(&mut self, reply: Reply<u64>) {
        reply.send(self.score);
    }

    pub fn twice(&mut self, one: Reply<u64>, two: Reply<String>) {
        let _ = (one, two);
    }

    pub fn lent(&mut self, reply: &mut Reply<u64>) {
        let _ = reply;
    }

    pub fn borrowed(&mut self, reply: Reply<&str>) {
        reply.send("score");
    }

    pub fn concrete(&mut self, reply: Reply<impl Serialize>) {
        let _ = reply;
    }

    #[migrate(from = 1)]
    fn from_first(reply: Reply<u64>) -> Self {
        reply.send(0);
        Self { score: 0 }
    }
}

fn main() {}
