//! The README's program: run it several times.

use std::time::Duration;

use persistent_runtime::{Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Player {
    name: String,
    score: u64,
}

#[persistent_server(idle_timeout = "60s")]
impl Player {
    /// Creates the player. Runs only if nothing is stored under the key.
    #[init]
    fn new(name: String) -> Self {
        Self { name, score: 0 }
    }

    /// Adds `points` and returns the new score.
    pub fn add(&mut self, points: u64) -> u64 {
        self.score += points;
        self.score
    }

    /// Returns a greeting. A `&self` method changes nothing.
    pub fn greeting(&self) -> String {
        format!("{} has {} points", self.name, self.score)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::open("players.db").await?;
    let vorpal = runtime.at::<Player>("vorpal", "Vorpal".to_owned());
    vorpal.add(5).await?; // on disk when this returns
    println!("{}", vorpal.greeting().await?); // 5 more each time it runs
    runtime.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
