//! Power cuts: what a program did to its files is recorded below SQLite, and cut
//! at random points; what no sync had covered is there, lost or torn.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use persistent_tests::power::{Cuts, Event, Load, Shim, seed_of, times};

const LOAD: &str = env!("CARGO_BIN_EXE_load");

/// Loads of many callers, each on what a cut in the one before has left. After
/// every cut the database opens, what was acknowledged is there, nothing is there
/// by half, and nothing that nobody asked for.
#[test]
fn an_acknowledged_write_survives_a_power_cut() {
    let mut cuts = Cuts::new(LOAD, seed_of("power"));
    for round in 0..times(8) {
        let load = Load { callers: 4 << (round % 3), changes: 150, ends: round % 2 == 1 };
        cuts.round(load, "", 60);
    }
    cuts.assert_right();
    assert!(cuts.acknowledged > 1000, "the rounds were not empty: {}", cuts.acknowledged);
}

/// The simulation sees what it is there to see: a disk that says of each sync that
/// it was done, and does nothing.
#[test]
fn a_disk_that_only_claims_to_sync_is_found_out() {
    let mut cuts = Cuts::new(LOAD, seed_of("claims"));
    cuts.round(Load { callers: 8, changes: 40, ends: false }, "sync 0 0 999999999", 20);
    assert!(!cuts.wrong.is_empty(), "{} cuts", cuts.cuts);
}

/// After a power cut in between, the journal of a new database would empty it, and a
/// second cut would leave a log without its database, which is refused.
#[test]
fn the_journal_of_a_new_database_is_gone_for_good_before_its_log_is_there() {
    let shim = Shim::build();
    let load = ["1", "1", "1", "500", "end"];
    assert!(shim.command(LOAD, "").args(load).output().unwrap().status.success());
    let events = shim.log();
    let at = |what: &dyn Fn(&Event) -> bool| events.iter().position(what).expect("it happens");
    let gone = at(&|event| matches!(event, Event::Unlink(name) if name == "-journal"));
    let log = at(&|event| matches!(event, Event::Create(name) if name == "-wal"));
    let between = events.get(gone..log).expect("the log comes later");
    let began = between.iter().find_map(|event| match event {
        Event::SyncBegan(None, ticket) => Some(*ticket),
        _ => None,
    });
    let ended = |event: &Event| matches!(event, Event::SyncEnded(it) if Some(*it) == began);
    assert!(between.iter().any(ended), "the folder is synced: {between:?}");
}
