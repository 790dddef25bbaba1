use persistent_runtime::{Reply, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

struct Weapon;

#[persistent_server]
impl Player {
    pub fn weapon(&self, reply: Reply<Weapon>) {
        reply.send(Weapon);
    }
}

fn main() {}
