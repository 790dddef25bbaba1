#![deny(unused, private_interfaces)]

use persistent_runtime::{Runtime, persistent_server};
use serde::{Deserialize, Serialize};

mod league {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    pub(crate) struct Player(u64);

    /// Private, so a `pub` message enum could not have it in a field.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Points(pub(crate) u64);

    #[deny(unreachable_pub)]
    #[persistent_server(vis = pub(crate))]
    impl Player {
        #[expect(unreachable_pub)]
        pub fn add(&mut self, points: Points) -> u64 {
            self.0 += points.0;
            self.0
        }
    }

    pub(crate) mod cup {
        use super::*;

        #[derive(Default, Serialize, Deserialize)]
        pub(super) struct Final;

        #[persistent_server(vis = pub(super))]
        impl Final {}

        #[derive(Default, Serialize, Deserialize)]
        pub(in crate::league) struct Club;

        #[persistent_server(vis = pub(in crate::league))]
        impl Club {}

        #[derive(Default, Serialize, Deserialize)]
        pub struct Public;

        #[persistent_server(vis = pub)]
        impl Public {}
    }

    const _: Option<(cup::FinalClient, cup::ClubClient, cup::FinalMessage)> = None;
}

macro_rules! server {
    ($vis:vis $name:ident) => {
        #[derive(Default, Serialize, Deserialize)]
        $vis struct $name;

        #[persistent_server(vis = $vis)]
        impl $name {
            pub fn ping(&self) {}
        }
    };
}

server!(Private);
server!(pub(crate) Shared);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let player: league::PlayerClient = runtime.at::<league::Player>("a", ());
    assert_eq!(player.add(league::Points(2)).await.unwrap(), 2);
    let private: PrivateClient = runtime.at::<Private>("a", ());
    private.ping().await.unwrap();
    let shared: SharedClient = runtime.at::<Shared>("a", ());
    shared.ping().await.unwrap();
    let _: Option<league::cup::PublicClient> = None;
}
