use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn add_points(&mut self) {}

    #[expect(non_snake_case)]
    pub fn addPoints(&mut self) {}
}

fn main() {}
