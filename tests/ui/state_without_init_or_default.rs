use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Team {
    name: String,
}

#[persistent_server]
impl Team {
    pub fn name(&self) -> String {
        self.name.clone()
    }
}

fn main() {}
