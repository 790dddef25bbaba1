//! A server that reads a stream: each item is a message, each result is stored, and a
//! full mailbox slows the stream down.

use std::time::Duration;

use futures::{StreamExt, stream};
use persistent_runtime::{Context, Reply, Runtime, persistent_server};
use serde::{Deserialize, Serialize};

/// The mean of all measurements so far.
#[derive(Default, Serialize, Deserialize)]
struct Station {
    reading: bool,
    count: u64,
    sum: f64,
    #[serde(skip)]
    waiting: Vec<Reply<f64>>,
}

#[persistent_server(mailbox = 16, persist = every("100ms"))]
impl Station {
    /// Starts to read a thermometer.
    pub fn connect(&mut self, measurements: u32, context: &Context<Self>) {
        let thermometer = stream::iter(0..measurements)
            .map(|n| StationMessage::Measure { degrees: 20.0 + f64::from(n % 10) })
            .chain(stream::iter([StationMessage::Disconnected]));
        context.attach_stream(thermometer);
        self.reading = true;
    }

    #[info]
    fn measure(&mut self, degrees: f64) {
        self.count += 1;
        self.sum += degrees;
    }

    #[info]
    fn disconnected(&mut self) {
        self.reading = false;
        for reply in std::mem::take(&mut self.waiting) {
            reply.send(self.so_far());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    fn so_far(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Returns the mean once the stream has ended. The reply is deferred.
    pub fn mean(&mut self, reply: Reply<f64>) {
        if self.reading {
            self.waiting.push(reply);
        } else {
            reply.send(self.so_far());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::in_memory().await?;
    let station = runtime.at::<Station>("roof", ());
    station.connect(100_000).await?;
    println!("the mean of 100,000 measurements is {}", station.mean().await?);
    runtime.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
