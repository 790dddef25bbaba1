//! The parent's side of a player process: starts it, kills it and records its reports.

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

/// The reports of one player, by the number of the game in the program.
pub(crate) struct Transcript {
    /// The stored half-moves and position of each game when the player resumed it.
    pub(crate) found: BTreeMap<usize, (usize, String)>,
    /// The last acknowledged half-move of each game.
    pub(crate) acknowledged: BTreeMap<usize, usize>,
    /// The total number of acknowledged half-moves.
    pub(crate) moves: usize,
    /// The maximum number of games in memory at the same time.
    pub(crate) most_live: usize,
    /// The exit status of the player.
    pub(crate) end: ExitStatus,
}

/// Runs a player on the database until it exits, or until it has acknowledged
/// `kill_after` half-moves.
///
/// # Errors
/// If the player cannot be run, or fails by itself.
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
            _ => return Err(format!("the player printed {line:?}").into()),
        }
        if kill_after == Some(moves) && !killed {
            // SIGKILL: no handler, destructor or flush runs, and up to 256 moves are in flight. The
            // pipe is short, so the player cannot be far ahead of this process. Everything that it
            // wrote before its death is still read.
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

/// Compares the games that the next player found with those that the killed player had
/// acknowledged. Returns the number of moves that were committed but not acknowledged.
///
/// # Errors
/// If an acknowledged move is lost, or a position differs.
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
            // At most one move of each game was in flight at the kill.
            match ply.checked_sub(*receipt) {
                Some(more @ 0..=1) => unreceipted += more,
                _ => return Err(format!("{key}: acknowledged {receipt}, found {ply}").into()),
            }
        }
    }
    Ok(unreceipted)
}
