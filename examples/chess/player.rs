//! A process that plays all games concurrently and may be killed at any moment.
//!
//! It reports to its parent in lines of text:
//!
//! ```text
//! found 12 31 r1b1k2r/… w kq - 0 16    game 12 was stored with 31 half-moves and this position
//! acknowledged 12 32                   its server has committed the 32nd half-move
//! live 512                             512 games are in memory, a new maximum
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

/// The number of games played concurrently. Their moves share commits, so that many games
/// take hardly longer than one.
const BOARDS: usize = 256;

/// Plays each game of the program to its end, from the position that is stored.
///
/// # Errors
/// If the database cannot be opened, or if any move fails.
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
        // No I/O yet: the server starts with its first message, from the stored state if there is
        // one, or else from these arguments.
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
        // The outer error is the runtime's, the inner one is the method's.
        let ply = game.play(san.clone()).await??;
        // The move was committed before the reply, so the printed line stays true even if this
        // process dies next.
        writeln!(stdout(), "acknowledged {number} {ply}")?;
    }
    Ok(())
}

/// Reports each new maximum of the number of games in memory. Never returns.
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
