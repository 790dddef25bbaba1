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
}

#[derive(Default)]
struct Team {
    size: u64,
}

#[persistent_server]
impl Team {
    #[restore]
    fn restore(size: u64) -> Self {
        Self { size }
    }
}

fn main() {}
