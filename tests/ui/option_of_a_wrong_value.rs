use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(
    name = "",
    version = 0,
    restart = permanet,
    max_restarts(3, within = "5 parsecs"),
    backoff(min = "1m", factor = 0.5),
    idle_timeout = "soon",
    mailbox = 0,
    call_timeout = "0s",
)]
impl Player {}

mod other {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Team;

    #[persistent_server(backoff(min = "1m"), crate = persistent_runtime, version = 5000000000)]
    impl Team {}
}

fn main() {}
