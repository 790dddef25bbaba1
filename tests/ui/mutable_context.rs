use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn add(&mut self, context: &mut Context<Self>) {
        let _ = context;
    }

    pub fn twice(&mut self, one: &Context<Self>, two: &Context<Self>) {
        let _ = (one, two);
    }
}

fn main() {}
