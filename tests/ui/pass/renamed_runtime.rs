extern crate persistent_runtime as servers;

mod engine {
    pub use servers::*;
}

mod persistent_runtime {}

use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct One(u64);

#[servers::persistent_server(crate = ::servers)]
impl One {
    pub async fn add(&mut self, points: u64) -> u64 {
        self.0 += points;
        self.0
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Two(u64);

#[servers::persistent_server(crate = crate::engine)]
impl Two {
    pub fn add(&mut self, points: u64, context: &engine::Context<Self>) -> u64 {
        self.0 += points + context.key().len() as u64;
        self.0
    }
}

fn main() {
    let _ = (OneClient::add, TwoClient::add);
}
