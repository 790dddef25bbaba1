#![deny(unused)]

use persistent_runtime::{Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player(u64);

#[persistent_server(version = 2)]
impl Player {
    #[cfg(any())]
    pub fn add(&mut self, missing: Missing) -> Missing {
        missing
    }

    #[cfg(not(any()))]
    pub fn add(&mut self, points: u64) -> u64 {
        self.0 += points;
        self.0
    }

    #[cfg(any())]
    #[info]
    fn tick(&mut self, missing: Missing) {}

    #[cfg(any())]
    pub async fn wait(&mut self, missing: Missing) {}

    #[cfg(any())]
    pub fn later(&mut self, reply: Reply<Missing>) {}

    #[cfg(any())]
    #[started]
    fn started(&mut self) -> () {
        missing();
    }

    #[cfg(any())]
    #[migrate(from = 1)]
    fn from_first(old: Missing) -> Self {
        old
    }
}

#[persistent_server]
#[cfg(any())]
impl Missing {
    pub fn add(&mut self) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    assert_eq!(runtime.at::<Player>("a", ()).add(2).await.unwrap(), 2);
}
