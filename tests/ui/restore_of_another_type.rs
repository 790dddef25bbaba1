use persistent_runtime::persistent_server;

#[derive(Default)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[save]
    fn save(&self) -> u64 {
        self.score
    }

    #[restore]
    fn restore(score: u64) -> Option<Self> {
        Some(Self { score })
    }
}

fn main() {}
