//! Disks that are full, fail or are read-only while a program runs. The power is cut in each of
//! these loads as well: after a failed sync, anything that it covered may be lost.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use persistent_tests::power::{Cuts, Load, Random, seed_of, times};

const LOAD: &str = env!("CARGO_BIN_EXE_load");

const ALONE: Load = Load { callers: 1, changes: 40, ends: true };
const BUSY: Load = Load { callers: 6, changes: 60, ends: true };

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;

/// Lets `operation` fail at random moments, once or for a while, until it has failed `count` times.
/// When the faults are over, every server must work again in the same process.
fn at_random(operation: &str, error: u32, moments: usize, count: usize) -> Cuts {
    let mut cuts = Cuts::new(LOAD, seed_of(operation));
    let mut random = Random::new(seed_of(operation) ^ u64::from(error));
    let mut hit = 0;
    for round in 0.. {
        // A new database now and then, so that faults also hit its creation.
        if round % 4 == 0 {
            cuts.clear();
        }
        let from = random.within(0..[8, moments / 4, moments][round % 3]);
        let length = [1, 2, 3, 30][random.within(0..4)];
        let load = if random.chance(1, 3) { BUSY } else { ALONE };
        let faults = format!("{operation} {error} {from} {}", from + length);
        hit += usize::from(cuts.round(load, &faults, 3) > 0);
        if hit == times(count) {
            break;
        }
        assert!(round < 20 * times(count), "the load ends before the faults");
    }
    cuts.assert_right();
    assert_eq!(cuts.stuck, 0);
    cuts
}

#[test]
fn a_full_disk_fails_calls_and_loses_nothing() {
    let cuts = at_random("write", ENOSPC, 400, 25);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

#[test]
fn a_disk_that_fails_to_write_fails_calls_and_loses_nothing() {
    let cuts = at_random("write", EIO, 400, 15);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

/// A change that was reported as failed may be there after a crash, but only as a whole.
#[test]
fn a_disk_that_fails_to_sync_fails_calls_and_loses_nothing() {
    let cuts = at_random("sync", EIO, 60, 25);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

/// A server that cannot be read does not begin with a new state.
#[test]
fn a_disk_that_fails_to_read_fails_calls_and_loses_nothing() {
    let cuts = at_random("read", EIO, 200, 25);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

/// No file can be opened for writing. Nothing is created and nothing is lost.
#[test]
fn a_read_only_disk_is_refused_or_fails_each_change() {
    let mut cuts = Cuts::new(LOAD, seed_of("read-only"));
    let read_only = format!("open {EROFS} 0 999999999");
    cuts.round(ALONE, &read_only, 1);
    assert_eq!((cuts.refused, cuts.failed), (1, 0), "a new database");
    for load in [ALONE, BUSY] {
        cuts.round(load, "", 1);
        let failed = cuts.failed + cuts.refused;
        cuts.round(load, &read_only, 1);
        assert!(cuts.failed + cuts.refused > failed);
    }
    cuts.assert_right();
}

/// Lets every step of the creation of a database fail, once or from then on, with power cuts. (When
/// the switch to a write-ahead log failed, the runtime once opened without it, and a power cut undid
/// acknowledged changes.)
#[test]
fn a_database_whose_creation_failed_is_created_the_next_time() {
    let mut cuts = Cuts::new(LOAD, seed_of("created"));
    for (operation, error) in [("write", ENOSPC), ("write", EIO), ("sync", EIO), ("read", EIO)] {
        for length in [1, 1000] {
            for from in 0.. {
                cuts.clear();
                let faults = format!("{operation} {error} {from} {}", from + length);
                let load = Load { callers: 1, changes: 0, ends: true };
                let refused = cuts.refused;
                cuts.round(load, &faults, 4);
                if cuts.refused == refused {
                    break;
                }
            }
        }
    }
    cuts.assert_right();
    assert!(cuts.refused > 10, "{}", cuts.refused);
}
