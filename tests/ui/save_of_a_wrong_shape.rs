use persistent_runtime::{Context, persistent_server};

#[derive(Default)]
struct Player {
    score: u64,
}

#[persistent_server]
impl Player {
    #[save]
    async fn save(&mut self, context: &Context<Self>, deep: bool) -> impl serde::Serialize {
        let _ = (context, deep);
        self.score
    }

    #[restore]
    fn restore(score: u64) -> Self {
        Self { score }
    }
}

#[derive(Default)]
struct Team {
    size: u64,
}

#[persistent_server]
impl Team {
    #[save(all)]
    fn save(self) {}

    #[save]
    fn save_too(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    #[restore]
    fn restore(size: u64) -> Self {
        Self { size }
    }
}

#[derive(Default)]
struct Fan;

#[persistent_server]
impl Fan {
    #[save]
    fn save() -> u64 {
        0
    }

    #[restore]
    fn restore(_: u64) -> Self {
        Self
    }
}

#[derive(Default)]
struct Coach;

#[persistent_server]
impl Coach {
    #[save]
    fn save(&self) -> () {}

    #[restore]
    fn restore(nothing: u64) -> Self {
        let _ = nothing;
        Self
    }
}

fn main() {}
