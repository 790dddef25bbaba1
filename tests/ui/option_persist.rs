use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server(persist = on_stopp)]
impl Player {}

#[derive(Default, Serialize, Deserialize)]
struct Team;

#[persistent_server(persist = every("0s"))]
impl Team {}

#[derive(Default, Serialize, Deserialize)]
struct League;

#[persistent_server(persist = every)]
impl League {}

#[derive(Default, Serialize, Deserialize)]
struct Cup;

#[persistent_server(persist = sometimes("5s"))]
impl Cup {}

#[derive(Default, Serialize, Deserialize)]
struct Fan;

#[persistent_server(persist = every("often"))]
impl Fan {}

#[derive(Default, Serialize, Deserialize)]
struct Coach;

#[persistent_server(persist = "5s")]
impl Coach {}

fn main() {}
