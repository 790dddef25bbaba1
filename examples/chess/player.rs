//! The player: a process that plays all games at once and may be killed at any
//! moment.
//!
//! It tells its parent what happens in lines of text:
//!
//! ```text
//! found 12 31 r1b1k2r/… w kq - 0 16    game 12 was stored with 31 half-moves, this position
//! acknowledged 12 32                   its server has committed the 32nd
//! live 512                             so many games were in memory, more than before
//! ```

use std::{
    error::Error,
    io::{Write, stdout},
    path::Path,
    time::Duration,
};

use persistent_runtime::Runtime;
use tokio::{task::JoinSet, time};

use crate::{
    game::{Game, GameClient},
    program::Fixture,
};

type Failure = Box<dyn Error + Send + Sync>;

/// How many games are played at the same time. Their moves share commits, so
/// this many take hardly longer than one.
const BOARDS: usize = 256;

/// Plays each game of the program to its end, from wherever the store has it.
///
/// # Errors
/// If the database can't be opened, or if any move fails.
#[tokio::main]
pub(crate) async fn play(database: &Path, program: Vec<Fixture>) -> Result<(), Failure> {
    let runtime = Runtime::open(database).await?;
    tokio::select! {
        played = play_all(&runtime, program) => played?,
        counted = count_live(&runtime) => counted?,
    }
    runtime.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

async fn play_all(runtime: &Runtime, program: Vec<Fixture>) -> Result<(), Failure> {
    let mut boards = JoinSet::new();
    for (number, fixture) in program.into_iter().enumerate() {
        if boards.len() == BOARDS
            && let Some(finished) = boards.join_next().await
        {
            finished??;
        }
        let record = &fixture.record;
        let init = (record.player("White"), record.player("Black"), record.tag("Event").to_owned());
        // No I/O yet: the server starts with its first message, from the store
        // if it is there, or else from these arguments.
        let game = runtime.at::<Game>(fixture.key.as_str(), init);
        boards.spawn(play_out(game, number, fixture));
    }
    while let Some(finished) = boards.join_next().await {
        finished??;
    }
    Ok(())
}

async fn play_out(game: GameClient, number: usize, fixture: Fixture) -> Result<(), Failure> {
    let stored = game.moves().await?.len();
    writeln!(stdout(), "found {number} {stored} {}", game.fen().await?)?;
    for san in fixture.record.moves.iter().take(fixture.plies).skip(stored) {
        // The outer error is the runtime's, the inner one the referee's.
        let ply = game.play(san.clone()).await??;
        // The reply is a commit receipt, so this line is true whatever happens
        // to this process next.
        writeln!(stdout(), "acknowledged {number} {ply}")?;
    }
    Ok(())
}

/// Reports each new maximum of the games in memory, for ever.
async fn count_live(runtime: &Runtime) -> Result<(), Failure> {
    let mut highest = 0;
    loop {
        let live = runtime.count::<Game>().await?.live;
        if live > highest {
            highest = live;
            writeln!(stdout(), "live {live}")?;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
}
