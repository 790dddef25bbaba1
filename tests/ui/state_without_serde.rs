use persistent_runtime::persistent_server;

#[derive(Default)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    pub fn score(&self) -> u64 {
        self.score
    }
}

fn main() {}
