//! The storage part: the cost of durability, beside plain rusqlite.
//!
//! Names in the report that no table explains:
//!
//! | name | figure |
//! | --- | --- |
//! | `lookup_BYTES_vs_select` | the p50 of a look-up of a stored state of that size, to that of `SELECT` on an ideal table |
//! | `large_lookup_vs_select` | the largest of these ratios |
//! | `first_call_BYTES_vs_select` | the p50 of the first call to a stored server, to that of `SELECT` and decoding |
//! | `list_vs_select` | the time of `Runtime::keys` to that of a `SELECT` of the keys |
//! | `reminders_per_s` | reminders handled per second while more are due, beside 64 callers of other servers |
//! | `reminders_of_1000_per_s` | reminders handled per second of 1000 that are due per second, beside 1024 callers |
//! | `reminder_late_p50_ms`, `reminder_late_p99_ms` | how late these reminders were |
//! | `bystander_delay_ms` | the longest durable call of one server while another stores 16 MB once, minus the longest without that |
//! | `bystander_p99_vs_alone` | the p99 of these calls to the p99 without the large state |
//! | `bystander_max_vs_sqlite` | the longest of these calls to the longest commit of plain SQLite beside the same large row |
//! | `size_vs_sqlite` | the file of servers with states of 1000 bytes to the same rows in an ideal table |
//! | `reclaim_open`, `reclaim_closed` | the files after all servers were deleted, to the files before: after a pause, and after closing |
//!
//! The part `many` reports:
//!
//! | name | figure |
//! | --- | --- |
//! | `many_create_per_s`, `many_create_vs_sqlite` | servers created per second by commits without calls, and the ratio to rows inserted per second |
//! | `many_open_s` | the time to open the database |
//! | `many_list_per_s`, `many_list_vs_select` | keys listed per second, and the ratio of the time to that of `SELECT` |
//! | `many_cold_p50_us`, `many_cold_p99_us`, `many_cold_vs_select` | the first calls to stored servers, one by one, and the ratio of the p50 to that of `SELECT` and decoding |
//! | `many_delete_per_s`, `many_delete_vs_sqlite` | servers deleted per second by commits, and the ratio to rows deleted per second |
//! | `many_all_mb`, `many_all_mb_vs_sqlite` | the closed file with all servers, and the ratio to plain SQLite |
//! | `many_half_mb`, `many_half_mb_vs_sqlite` | the same after half of them were deleted |

use crate::{
    Fallible,
    report::{Goal, Report},
};
pub use kill::{LOAD, load_until_killed};
use scale::{FULL, QUICK, Scale};

mod activation;
mod bystander;
mod durable;
mod files;
mod kill;
mod large_states;
mod listing;
mod lookups;
mod many;
mod raw;
mod reclaim;
mod reminders;
mod scale;
mod servers;
mod stored;
mod sustained;

/// The number of servers of the part `many`, unless it is chosen.
const MANY: u64 = 10_000_000;

/// Prints the tables and adds the ratios and figures to the report.
pub fn run(quick: bool, report: &mut Report) -> Fallible<()> {
    let scale = if quick { QUICK } else { FULL };
    durable::run(scale, report)?;
    large_states::run(scale, report)?;
    // One database, with the same servers for all three.
    let folder = tempfile::tempdir()?;
    let this = folder.path().join("this.db");
    let raw = sustained::run(scale, &this, &folder.path().join("raw.db"), report)?;
    kill::run(scale, &this, report)?;
    activation::run(scale, &this, &raw, report)?;
    drop(folder);
    lookups::run(scale, report)?;
    listing::run(scale, report)?;
    reminders::run(scale, report);
    bystander::run(scale, report)?;
    reclaim::run(scale, report)?;
    for (name, goal) in [
        ("durable_1_vs_raw", Goal::AtMost(1.1)),
        ("durable_1024_vs_raw", Goal::AtLeast(0.85)),
        ("durable_1024_vs_naive", Goal::AtLeast(20.0)),
        ("hot_64_vs_serial", Goal::AtLeast(20.0)),
        ("hot_64_vs_64", Goal::AtLeast(0.5)),
        ("big_state_vs_encode", Goal::AtMost(1.3)),
        ("big_messages_vs_small", Goal::AtMost(1.5)),
        ("sustained_vs_upsert", Goal::AtLeast(3.0)),
        ("cold_vs_select", Goal::AtMost(1.5)),
        ("open_after_kill_s", Goal::AtMost(1.0)),
        ("large_lookup_vs_select", Goal::AtMost(1.5)),
        ("list_vs_select", Goal::AtMost(2.0)),
        ("reminders_per_s", Goal::AtLeast(10_000.0)),
        ("reminder_late_p99_ms", Goal::AtMost(250.0)),
        ("bystander_delay_ms", Goal::AtMost(50.0)),
    ] {
        report.goal(name, goal);
    }
    Ok(())
}

/// Measures `servers` stored servers, by default ten million. Prints the tables and adds the
/// figures to the report.
pub fn many(quick: bool, servers: Option<u64>, report: &mut Report) -> Fallible<()> {
    let scale = if quick { QUICK } else { FULL };
    let servers = servers.unwrap_or(if quick { scale.servers } else { MANY });
    many::run(Scale { servers, ..scale }, report)
}
