use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(journal = mesages)]
impl Player {}

#[derive(Default, Serialize, Deserialize)]
struct Team;

#[persistent_server(journal = messages(snapshot_every = 0))]
impl Team {}

#[derive(Default, Serialize, Deserialize)]
struct League;

#[persistent_server(journal = messages(every = 10))]
impl League {}

#[derive(Default, Serialize, Deserialize)]
struct Cup;

#[persistent_server(journal = deltas(8))]
impl Cup {}

#[derive(Default, Serialize, Deserialize)]
struct Fan;

#[persistent_server(journal = state(snapshot_every = 10))]
impl Fan {}

#[derive(Default, Serialize, Deserialize)]
struct Coach;

#[persistent_server(journal = "messages")]
impl Coach {}

fn main() {}
