//! A persistent value that several tasks share, without writing a server.

use std::{collections::BTreeMap, time::Duration};

use persistent_runtime::{Agent, AgentState, Runtime};
use serde::{Deserialize, Serialize};

/// Words and the number of their occurrences.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Words(BTreeMap<String, u32>);

impl AgentState for Words {
    const NAME: &'static str = "words";
}

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("words.db");

    let runtime = Runtime::open(&path).await?;
    let words = runtime.at::<Agent<Words>>("text", Words::default());
    let tasks = TEXT.split(' ').map(|word| {
        let words = words.clone();
        tokio::spawn(async move {
            words.update(move |words| *words.0.entry(word.to_owned()).or_default() += 1).await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    // Each update is committed before it returns, so a kill of the process would lose nothing.
    drop(runtime);

    let runtime = Runtime::open(&path).await?;
    let words = runtime.find::<Agent<Words>>("text").await?;
    let dogs = words.get_with(|words| words.0.get("dog").copied()).await?;
    let first = words.get_and_update(|words| words.0.pop_first()).await?;
    println!("dog: {dogs:?}, removed: {first:?}, remaining: {}", words.get().await?.0.len());
    runtime.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
