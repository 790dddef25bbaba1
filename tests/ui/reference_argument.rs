use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn rename(&mut self, name: &str) {
        let _ = name;
    }

    pub fn extend(&mut self, points: &[u64]) {
        self.score += points.iter().sum::<u64>();
    }

    pub fn copy(&mut self, other: &mut std::collections::HashMap<String, u64>) {
        let _ = other;
    }

    pub fn maybe(&mut self, name: Option<&str>) {
        let _ = name;
    }

    pub fn word(&mut self, word: std::borrow::Cow<'_, str>) {
        let _ = word;
    }
}

fn main() {}
