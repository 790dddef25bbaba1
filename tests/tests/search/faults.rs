//! A disk that is full, fails or can't be written, while a program is at work.
//! Each of these loads is cut at random points as well: a failed sync promises
//! nothing about what it was for.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use persistent_tests::power::{Cuts, Load, Random, seed_of, times};

const LOAD: &str = env!("CARGO_BIN_EXE_load");

const ALONE: Load = Load { callers: 1, changes: 40, ends: true };
const BUSY: Load = Load { callers: 6, changes: 60, ends: true };

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;

/// Has `operation` fail at random moments, once or for a while, until it did so
/// `count` times. Whenever it is over, every server works again, in the same process.
fn at_random(operation: &str, error: u32, moments: usize, count: usize) -> Cuts {
    let mut cuts = Cuts::new(LOAD, seed_of(operation));
    let mut random = Random::new(seed_of(operation) ^ u64::from(error));
    let mut hit = 0;
    for round in 0.. {
        // Begun anew now and then, so that the first steps of a file are hit too.
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
        assert!(round < 20 * times(count), "the moments are too late for the load");
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

/// What was reported as failed may be there after a crash, as a whole.
#[test]
fn a_disk_that_fails_to_sync_fails_calls_and_loses_nothing() {
    let cuts = at_random("sync", EIO, 60, 25);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

/// A server that can't be read is not begun anew.
#[test]
fn a_disk_that_fails_to_read_fails_calls_and_loses_nothing() {
    let cuts = at_random("read", EIO, 200, 25);
    assert!(cuts.failed > 0 && cuts.refused > 0, "{} {}", cuts.failed, cuts.refused);
}

/// No file can be opened for writing: nothing is created, and nothing is lost of
/// what was there.
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

/// Every step of making a new database fails, once or from then on; each time the
/// power is cut at some points. (When the switch to a write-ahead log failed, the
/// runtime opened without one, and a power cut took acknowledged changes back.)
#[test]
fn a_database_that_could_not_be_made_is_made_the_next_time() {
    let mut cuts = Cuts::new(LOAD, seed_of("made"));
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
