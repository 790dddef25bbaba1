//! The parent's side of the player's life: starts it, kills it, keeps what it
//! reported.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use crate::{PLAYER, program::Fixture};

type Failure = Box<dyn Error + Send + Sync>;

/// What one player reported, per number of the game in the program.
pub(crate) struct Transcript {
    /// What the store had of each game when the player took it up: half-moves
    /// and position.
    pub(crate) found: BTreeMap<usize, (usize, String)>,
    /// The last half-move of each game that was acknowledged.
    pub(crate) acknowledged: BTreeMap<usize, usize>,
    /// How many half-moves were acknowledged in all.
    pub(crate) moves: usize,
    /// The most games that were in memory at once.
    pub(crate) most_live: usize,
    /// How the player ended.
    pub(crate) end: ExitStatus,
}

/// Runs a player on the database, to its end or until it has acknowledged
/// `kill_after` half-moves.
///
/// # Errors
/// If the player can't be run, or fails by itself.
pub(crate) fn run_player(
    database: &Path,
    kill_after: Option<usize>,
) -> Result<Transcript, Failure> {
    let mut player = Command::new(env::current_exe()?)
        .arg(PLAYER)
        .arg(database)
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(player.stdout.take().ok_or("the player has no output")?).lines();
    let (mut found, mut acknowledged) = (BTreeMap::new(), BTreeMap::new());
    let (mut moves, mut most_live, mut killed) = (0, 0, false);
    for line in lines {
        let line = line?;
        match *line.splitn(4, ' ').collect::<Vec<_>>() {
            ["found", game, ply, fen] => {
                found.insert(game.parse()?, (ply.parse()?, fen.to_owned()));
            }
            ["acknowledged", game, ply] => {
                acknowledged.insert(game.parse()?, ply.parse()?);
                moves += 1;
            }
            ["live", count] => most_live = count.parse()?,
            _ => return Err(format!("the player said {line:?}").into()),
        }
        if kill_after == Some(moves) && !killed {
            // SIGKILL: no handler, no destructor and no flush runs, and up to
            // 256 moves are under way. The player can't be far ahead of us, for
            // the pipe is short. What it wrote before its death is still read.
            player.kill()?;
            killed = true;
        }
    }
    let end = player.wait()?;
    if !killed && !end.success() {
        return Err(format!("the player failed by itself: {end}").into());
    }
    Ok(Transcript { found, acknowledged, moves, most_live, end })
}

/// Compares what the next player found with what the killed one had
/// acknowledged; returns how many moves had been committed, but not
/// acknowledged any more.
///
/// # Errors
/// If an acknowledged move is lost, or a position is another.
pub(crate) fn check_resumed(
    program: &[Fixture],
    killed: &Transcript,
    next: &Transcript,
) -> Result<usize, Failure> {
    let mut unreceipted = 0;
    for (number, Fixture { key, positions, .. }) in program.iter().enumerate() {
        let (ply, fen) = next.found.get(&number).ok_or_else(|| format!("{key} is missing"))?;
        let expected = positions.get(*ply).map(ToString::to_string);
        if expected.as_ref() != Some(fen) {
            return Err(format!("{key}: found {fen} after {ply}, expected {expected:?}").into());
        }
        let stored = killed.found.get(&number).map(|(ply, _)| ply);
        if let Some(receipt) = killed.acknowledged.get(&number).or(stored) {
            // At most one move of each game was under way at the kill.
            match ply.checked_sub(*receipt) {
                Some(more @ 0..=1) => unreceipted += more,
                _ => return Err(format!("{key}: acknowledged {receipt}, found {ply}").into()),
            }
        }
    }
    Ok(unreceipted)
}
