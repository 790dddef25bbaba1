use persistent_runtime::{StopReason, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[started]
    fn started(&mut self, reason: &StopReason) -> bool {
        let _ = reason;
        true
    }

    #[terminate]
    async fn terminate(reason: StopReason) {
        let _ = reason;
    }
}

fn main() {}
