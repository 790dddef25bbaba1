//! Grows servers in the database that its argument names, and prints each
//! acknowledged change, until it is killed.

use std::io::Write;

use persistent_runtime::Runtime;
use persistent_tests::Twins;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let path = std::env::args_os().nth(1).expect("the database's path");
    let runtime = match Runtime::open(path).await {
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
            loop {
                let value = server.grow().await.expect("the disk works");
                // One write a line, so that a kill leaves no line in the middle.
                let line = format!("{} {value}\n", writer % 4);
                std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
            }
        });
    }
    writers.join_all().await;
}
