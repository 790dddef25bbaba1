use persistent_runtime::persistent_server;

#[derive(Default)]
struct Player {
    score: u64,
}

struct Saved(u64);

#[persistent_server]
impl Player {
    #[save]
    fn save(&self) -> Saved {
        Saved(self.score)
    }

    #[restore]
    fn restore(saved: Saved) -> Self {
        Self { score: saved.0 }
    }
}

fn main() {}
