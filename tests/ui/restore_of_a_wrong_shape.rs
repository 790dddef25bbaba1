use persistent_runtime::{Context, Reply, persistent_server};

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
    async fn restore(&mut self, name: &str, (score, level): (u64, u64)) {
        let _ = name;
        self.score = score * level;
    }

    #[restore]
    fn restore_too(score: u64) -> Self {
        Self { score }
    }
}

#[derive(Default)]
struct Team;

#[persistent_server]
impl Team {
    #[save]
    fn save(&self) -> u64 {
        0
    }

    #[restore]
    fn restore(context: &Context<Self>) -> Self {
        let _ = context;
        Self
    }
}

#[derive(Default)]
struct Fan;

#[persistent_server]
impl Fan {
    #[save]
    fn save(&self) -> u64 {
        0
    }

    #[restore]
    fn restore(saved: u64, more: u64, reply: Reply<u64>) -> Self {
        reply.send(saved + more);
        Self
    }
}

fn main() {}
