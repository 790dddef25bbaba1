//! Power cuts: a library below SQLite records the file operations of a program, and the test cuts
//! them at random points. Writes that no sync has covered survive, are lost, or are torn.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use persistent_tests::power::{Cuts, Event, Load, Shim, seed_of, times};

const LOAD: &str = env!("CARGO_BIN_EXE_load");

/// Each load begins with the files that a cut in the previous load has left. After every cut the
/// database opens, has every acknowledged change, no partial change, and no change that was not
/// requested.
#[test]
fn an_acknowledged_write_survives_a_power_cut() {
    let mut cuts = Cuts::new(LOAD, seed_of("power"));
    for round in 0..times(8) {
        let load = Load { callers: 4 << (round % 3), changes: 150, ends: round % 2 == 1 };
        cuts.round(load, "", 60);
    }
    cuts.assert_right();
    assert!(cuts.acknowledged > 1000, "the rounds have done too little: {}", cuts.acknowledged);
}

/// Shows that the simulation detects data loss: this disk acknowledges each sync and does nothing.
#[test]
fn a_disk_that_only_claims_to_sync_is_found_out() {
    let mut cuts = Cuts::new(LOAD, seed_of("claims"));
    cuts.round(Load { callers: 8, changes: 40, ends: false }, "sync 0 0 999999999", 20);
    assert!(!cuts.wrong.is_empty(), "{} cuts", cuts.cuts);
}

/// After a power cut between the two, the rollback journal of a new database would empty it, and a
/// second cut would leave a log without its database, which is refused.
#[test]
fn the_rollback_journal_of_a_new_database_is_deleted_durably_before_its_log_is_created() {
    let shim = Shim::build();
    let load = ["1", "1", "1", "500", "end"];
    assert!(shim.command(LOAD, "").args(load).output().unwrap().status.success());
    let events = shim.log();
    let at =
        |what: &dyn Fn(&Event) -> bool| events.iter().position(what).expect("the event occurs");
    let gone = at(&|event| matches!(event, Event::Unlink(name) if name == "-journal"));
    let log = at(&|event| matches!(event, Event::Create(name) if name == "-wal"));
    let between = events.get(gone..log).expect("the log is created later");
    let began = between.iter().find_map(|event| match event {
        Event::SyncBegan(None, ticket) => Some(*ticket),
        _ => None,
    });
    let ended = |event: &Event| matches!(event, Event::SyncEnded(it) if Some(*it) == began);
    assert!(between.iter().any(ended), "the folder is synced: {between:?}");
}
