use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(restrat = permanent, durable = true, 5, mailbox = 10, mailbox = 20)]
impl Player {}

fn main() {}
