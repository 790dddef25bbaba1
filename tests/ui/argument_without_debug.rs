use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[derive(Serialize, Deserialize)]
struct Weapon;

#[persistent_server]
impl Player {
    pub fn wield(&mut self, weapon: Weapon) {
        let _ = weapon;
    }
}

fn main() {}
