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

    #[cfg_attr(any(), cfg(all()))]
    #[cfg_attr(all(), cfg(any()))]
    pub fn gone(&mut self, missing: Missing) {}

    #[cfg_attr(all(), cast)]
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    #[cfg_attr(any(), cast)]
    #[cfg_attr(all(), doc = "Not a cast.", inline)]
    pub fn get(&self) -> u64 {
        *self.get_ref()
    }

    #[cfg_attr(all(), cfg_attr(all(), skip))]
    pub fn get_ref(&self) -> &u64 {
        &self.0
    }

    #[cfg_attr(any(), started)]
    #[cfg_attr(all(), info)]
    #[cfg_attr(any(), skip)]
    pub fn tock(&mut self) {
        self.0 += 1;
    }

    #[cfg(not(all()))]
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
    let player = runtime.at::<Player>("a", ());
    assert_eq!(player.add(2).await.unwrap(), 2);
    player.reset().await.unwrap();
    assert_eq!(player.get().await.unwrap(), 0);
    let _ = PlayerMessage::Tock;
}
