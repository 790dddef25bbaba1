//! Random operations compared with a map.

use std::ops::Bound;

use super::*;

/// Compares with a `MemoryStorage` after each operation.
#[tokio::test]
async fn it_behaves_like_a_map_through_flushes_and_kills() {
    for seed in 1..=6 {
        model(seed).await;
    }
}

async fn model(seed: u64) {
    const KINDS: [&str; 2] = ["kind", "kind2"];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let (mut engine, map) = (Engine::new(), MemoryStorage::new());
    for step in 0..600_u64 {
        let context = format!("seed {seed}, step {step}");
        match random(12) {
            0..6 => {
                let mut updates = Vec::new();
                for _ in 0..=random(3) {
                    let kind = KINDS[usize::from(random(4) == 0)];
                    let server = ServerId::new(kind, random(12).to_string());
                    let update = random_update(&mut random, step, map.get(&server));
                    map.commit(Commit::new(server.clone(), update.clone())).await.unwrap();
                    updates.push((server, update));
                }
                let outcomes = engine.try_commit(updates).await;
                assert!(outcomes.into_iter().all(|done| done), "{context}");
            }
            6 if engine.writer.flush.is_none() => engine.writer.freeze(),
            6..9 => {
                let count = usize::try_from(random(6)).unwrap();
                engine.writer.flush(servers(count + 1));
            }
            9 => engine.writer.delete_flushed(1),
            10 if random(4) == 0 => engine = engine.crashed(),
            _ => {
                let kind = KINDS[usize::from(random(4) == 0)];
                let after = random(12).to_string();
                let from = match random(3) {
                    0 => Bound::Unbounded,
                    1 => Bound::Included(&*after),
                    _ => Bound::Excluded(&*after),
                };
                let limit = usize::try_from(random(14)).unwrap();
                let kinds_after = (random(2) == 0).then_some(KINDS[0]);
                let storage = &engine.storage;
                assert_eq!(
                    storage.keys(kind, from, limit).await.unwrap(),
                    map.keys(kind, from, limit).await.unwrap(),
                    "{context}"
                );
                assert_eq!(
                    storage.kinds(kinds_after, limit).await.unwrap(),
                    map.kinds(kinds_after, limit).await.unwrap(),
                    "{context}"
                );
                let after = (random(2) == 0).then(|| (random(20), &*after));
                assert_eq!(
                    storage.due(kind, after, limit).await.unwrap(),
                    map.due(kind, after, limit).await.unwrap(),
                    "{context}"
                );
                let count = map.count(kind).await.unwrap();
                assert_eq!(storage.count(kind).await.unwrap(), count, "{context}");
            }
        }
        let server = ServerId::new(KINDS[0], random(12).to_string());
        assert!(
            engine.storage.load(&server).await.unwrap() == map.get(&server),
            "{context}: {server}"
        );
    }
    engine.finish_flush();
    engine.flush_all();
    assert!(engine.writer.memtables.active().1.is_none());
    for kind in KINDS {
        for key in 0..12 {
            let server = ServerId::new(kind, key.to_string());
            assert!(
                engine.storage.load(&server).await.unwrap() == map.get(&server),
                "seed {seed}: {server}"
            );
        }
    }
}

/// Returns an update of a server that has `old` stored.
fn random_update(random: &mut impl FnMut(u64) -> u64, step: u64, old: Option<Record>) -> Update {
    let roll = random(8);
    let mut below = |limit: u64| usize::try_from(random(limit)).unwrap();
    match roll {
        0 => Update::Delete,
        1..4 if old.is_some() => {
            Update::Append((0..below(4)).map(|_| bytes(&below(1000).to_string())).collect())
        }
        _ => {
            let mut state = match old {
                Some(old) if roll < 7 => old.state.bytes().into_owned(),
                _ => vec![0; below(40_000)],
            };
            let at = below(state.len() as u64 + 1);
            let end = (at + below(9)).min(state.len());
            let new = vec![step.to_le_bytes()[0]; below(9)];
            state.splice(at..end, new);
            Update::Put(Record {
                version: u32::try_from(below(3)).unwrap(),
                due: Some(below(20) as u64).filter(|due| due % 2 == 0),
                reminders: below(9).to_string().into(),
                messages: (0..below(3) / 2).map(|_| bytes("first")).collect(),
                ..record(state)
            })
        }
    }
}
