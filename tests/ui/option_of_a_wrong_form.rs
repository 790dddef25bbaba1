use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(name, version = "2", restart, max_restarts = 3, idle_timeout = 60, mailbox = many)]
impl Player {}

mod other {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Team;

    #[persistent_server(backoff(max = "10s"), call_timeout("5s"), crate = "persistent_runtime", await_commits = 1)]
    impl Team {}
}

fn main() {}
