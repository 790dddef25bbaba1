//! A reminder that one process sets and the next one handles.
//!
//! The first run sets a reminder and kills itself. The second run starts a moment later
//! and handles the reminder.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use persistent_runtime::{Context, Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Kettle {
    on: bool,
    whistles: u32,
}

#[persistent_server(idle_timeout = "200ms")]
impl Kettle {
    /// Switches the kettle on. The reminder is stored in the same commit as the state.
    pub fn boil(&mut self, wait: Duration, context: &Context<Self>) {
        self.on = true;
        context.remind("boiled", wait, KettleMessage::Whistle);
    }

    #[info]
    fn whistle(&mut self, context: &Context<Self>) {
        self.on = false;
        self.whistles += 1;
        println!("{}: the water boils", context.key());
    }

    /// Returns the number of times that the kettle has whistled.
    pub fn whistles(&self) -> u32 {
        self.whistles
    }

    /// Returns the time at which the water will be boiling.
    pub fn done_at(&self, context: &Context<Self>) -> Option<SystemTime> {
        let due = context.reminders().into_iter().next()?.due?;
        self.on.then_some(due)
    }
}

/// The argument of the first process.
const FIRST: &str = "--first";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(FIRST) {
        let runtime = Runtime::open(arguments.next().ok_or("no path")?).await?;
        let kettle = runtime.at::<Kettle>("kitchen", ());
        kettle.boil(Duration::from_millis(500)).await?;
        let due = kettle.done_at().await?.ok_or("no reminder")?;
        let wait = due.duration_since(SystemTime::now())?;
        println!("kitchen: on, boils in {wait:.0?}; the process aborts now");
        std::process::abort();
    }

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kettle.db");
    let first = Command::new(std::env::current_exe()?).arg(FIRST).arg(&path).status()?;
    println!("the first process ended by {first}");

    // A registered type handles its due reminders without any call to one of its servers.
    let runtime = Runtime::builder().register::<Kettle>().open(&path).await?;
    println!("{} kettles in memory", runtime.count::<Kettle>().await?.live);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{} kettles in memory", runtime.count::<Kettle>().await?.live);
    assert_eq!(runtime.find::<Kettle>("kitchen").await?.whistles().await?, 1, "once");
    runtime.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
