//! The throughput and lateness of reminders, beside durable calls of other servers.

use std::time::{Duration, Instant, SystemTime};

use persistent_runtime::Runtime;

use super::{
    scale::{BATCH, Scale},
    servers::{Alarm, Lateness, Meter},
};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::Report,
    samples::{Contender, Samples, interleave},
};

/// Reminders that become due in turn, beside durable calls of other servers.
#[derive(Clone, Copy)]
struct Work {
    alarms: u32,
    /// The time between two reminders of an alarm.
    period: Duration,
    /// The number of callers, each on a server of its own.
    callers: u64,
    /// The duration of the measurement.
    time: Duration,
}

/// The measurement of a [`Work`].
struct Measured {
    /// The rate and the lateness of the reminders.
    reminders: Load,
    calls: Load,
}

/// Prints the table and adds its figures to the report.
pub fn run(scale: Scale, report: &mut Report) {
    let time = scale.sustained / 5;
    // 80,000 per second: more than are handled, so that some are always due.
    let most = Work { alarms: 20_000, period: Duration::from_millis(250), callers: 64, time };
    let even = Work { alarms: 1000, period: Duration::from_secs(1), callers: BATCH, time };
    let contender = |name, work| Contender::new(name, move || measure(work).expect("reminders"));
    let contenders = vec![contender("as many as it can", most), contender("1000/s", even)];
    let samples = interleave(scale.rounds, contenders);
    println!("\nreminders beside durable calls, median of {} rounds of {time:?}", scale.rounds);
    println!(
        "{:>18}{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}",
        "due", "callers", "fired/s", "p50 ms late", "p99 ms late", "max ms late", "calls/s"
    );
    row("as many as it can", most, &samples);
    row("1000/s", even, &samples);
    let late =
        |figure: fn(&Load) -> f64| samples.median("1000/s", |it| figure(&it.reminders) / 1e3);
    report.set("reminders_per_s", samples.median("as many as it can", |it| it.reminders.rate));
    report.set("reminders_of_1000_per_s", samples.median("1000/s", |it| it.reminders.rate));
    report.set("reminder_late_p50_ms", late(|load| load.p50));
    report.set("reminder_late_p99_ms", late(|load| load.p99));
}

fn row(name: &str, work: Work, samples: &Samples<Measured>) {
    let late = |figure: fn(&Load) -> f64| samples.median(name, |it| figure(&it.reminders) / 1e3);
    println!(
        "{name:>18}{:>10}{:>10.0}{:>12.1}{:>12.1}{:>12.1}{:>12.0}",
        work.callers,
        samples.median(name, |it| it.reminders.rate),
        late(|load| load.p50),
        late(|load| load.p99),
        late(|load| load.max),
        samples.median(name, |it| it.calls.rate),
    );
}

/// Sets the alarms, and measures once each of them was due.
fn measure(work: Work) -> Fallible<Measured> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let lateness = Lateness::default();
    let builder = Runtime::builder().extension(lateness.clone());
    let runtime = tokio.block_on(builder.open(folder.path().join("this.db")))?;
    let first = SystemTime::now() + Duration::from_secs(1);
    let set = {
        let runtime = runtime.clone();
        move |_, nth: u64| {
            let server = runtime.at::<Alarm>(nth.to_string(), ());
            let turn = u32::try_from(nth).unwrap_or_default();
            let due = first + work.period * turn / work.alarms;
            async move { server.set(due, work.period).await.expect("a commit") }
        }
    };
    tokio.block_on(Load::concurrent(256, Limit::calls(work.alarms.into()), set));
    let calls = |time| {
        let runtime = runtime.clone();
        let call = move |caller: u64, _| {
            let server = runtime.at::<Meter>(caller.to_string(), ());
            async move { server.add().await.expect("a commit") }
        };
        tokio.block_on(Load::concurrent(work.callers, Limit::time(time), call))
    };
    let all_due = (first + work.period).duration_since(SystemTime::now());
    calls(all_due.unwrap_or_default().max(work.period));
    lateness.take();
    let begin = Instant::now();
    let calls = calls(work.time);
    let (elapsed, late) = (begin.elapsed(), lateness.take());
    if late.is_empty() {
        return Err("no reminder fired".into());
    }
    let fired = late.len() as u64;
    tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?;
    Ok(Measured { reminders: Load::new(late, fired, elapsed), calls })
}
