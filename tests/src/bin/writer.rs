//! Changes servers in the database named by the first argument, and prints each
//! acknowledged change, until it is killed.
//!
//! The second argument names a weaker persist level, under which every tenth call asks
//! for a commit and is printed. Under `on_stop` each writer also stops its server from
//! time to time, which is a receipt for all changes before it. `late` is like `every`,
//! except that no call asks for a commit and every tenth call is printed anyway.

use std::{io::Write, time::Duration};

use persistent_runtime::{Client, Options, Persist, Runtime, SqliteOptions};
use persistent_tests::Twins;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("the path of the database");
    let every = Persist::Every(Duration::from_millis(20));
    let (level, asked, printed) = match arguments.next().as_deref() {
        None => (Persist::EveryMessage, Persist::EveryMessage, 1),
        Some("every") => (every, Persist::EveryMessage, 10),
        Some("late") => (every, every, 10),
        Some("on_stop") => (Persist::OnStop, Persist::EveryMessage, 10),
        Some(other) => panic!("unknown persist level: {other}"),
    };
    let options = Options::new().persist(level);
    // With small limits a kill in the first milliseconds reaches flushes and checkpoints.
    let builder = Runtime::builder().sqlite(SqliteOptions::new().small_limits());
    let runtime = match builder.configure::<Twins>(options).open(path).await {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("refused: {error}");
            return;
        }
    };
    println!("open");
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let server = runtime.at::<Twins>((writer % 4).to_string(), ());
        writers.spawn(async move {
            let careful = server.with_persist(asked);
            for call in 1_u64.. {
                let prints = call % printed == 0;
                let client = if prints { &careful } else { &server };
                let value = client.grow().await.expect("the storage works");
                let stops = level == Persist::OnStop && call % 25 == 0;
                if stops {
                    server.stop("a pause").await.expect("the storage works");
                }
                if prints || stops {
                    // One write per line, so that a kill leaves no partial line.
                    let line = format!("{} {value}\n", writer % 4);
                    std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
                }
            }
        });
    }
    writers.join_all().await;
}
