use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

struct Weapon;

impl std::fmt::Debug for Weapon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Weapon")
    }
}

#[persistent_server]
impl Player {
    pub fn wield(&mut self, weapon: Weapon) {
        let _ = weapon;
    }
}

fn main() {}
