use persistent_runtime::{Key, Runtime, persistent_server};
use serde::{Deserialize, Serialize};

struct UserId(u64);

impl Key for UserId {
    fn to_text(&self) -> String {
        self.0.to_text()
    }

    fn from_text(text: &str) -> Option<Self> {
        u64::from_text(text).map(Self)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Account;

#[persistent_server(key = UserId)]
impl Account {}

struct NoKey;

#[derive(Default, Serialize, Deserialize)]
struct Player;

#[persistent_server(key = NoKey)]
impl Player {}

async fn call(runtime: Runtime) {
    let _ = runtime.at::<Account>("ada", ());
}

fn main() {}
