use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

type Ctx = Context<Player>;

#[persistent_server]
impl Player {
    pub fn add(&mut self, context: &Ctx) {
        context.stop("x");
    }

    pub fn wait(&self, c: &Ctx) {
        c.stop("x");
    }

    pub fn stop(&self, context: Context<Self>) {
        context.stop("x");
    }
}

fn main() {}
