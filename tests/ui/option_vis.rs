use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player;

#[persistent_server(vis = private)]
impl Player {}

#[derive(Default, Serialize, Deserialize)]
struct Team;

#[persistent_server(vis)]
impl Team {}

#[derive(Default, Serialize, Deserialize)]
struct League;

#[persistent_server(vis = "pub(crate)", vis = pub)]
impl League {}

#[derive(Default, Serialize, Deserialize)]
struct Cup;

#[persistent_server(vis = pub(crate) enum)]
impl Cup {}

mod inner {
    #[derive(Default, serde::Serialize, serde::Deserialize)]
    pub(super) struct Club;

    #[persistent_runtime::persistent_server(vis = pub(self))]
    impl Club {
        pub fn score(&self) -> u64 {
            0
        }
    }
}

type Hidden = inner::ClubClient;

fn main() {}
