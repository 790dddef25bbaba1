//! Plays recorded games of chess, one persistent server per game, and kills itself in mid-game.
//!
//! ```text
//! cargo run --release --example chess [database]
//! ```
//!
//! 1. A *player* (this program, run again as a child process) plays thousands of games at
//!    the same time, a few of them famous ones from `games.pgn`.
//! 2. In mid-game the player is killed with SIGKILL.
//! 3. A second player opens the same database and continues. Each game's server resumes from
//!    its stored state.
//! 4. A third process, this one, compares all games with a replay that uses no servers, and
//!    prints the famous ones.
//!
//! Read `game.rs` first: it is the server, including all of its persistence.

// Public, like the server's methods, which clients may call.
pub mod game;
mod pgn;
mod player;
mod program;
mod report;
mod transcript;

use std::{env, error::Error, path::Path, process::ExitCode, time::Duration};

use persistent_runtime::Runtime;
use tokio::time::{self, Instant};

use game::Game;
use program::Fixture;
use transcript::Transcript;

type Failure = Box<dyn Error + Send + Sync>;

/// The first argument of a player process.
const PLAYER: &str = "--player";

/// The number of half-moves that the first player acknowledges before it is killed: few
/// enough that most of the famous games are still in progress.
const KILL_AFTER: usize = 4_000;

fn main() -> ExitCode {
    match run(env::args().skip(1).collect::<Vec<_>>().as_slice()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("chess: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let program = program::program()?;
    match arguments {
        [first, database] if first == PLAYER => player::play(Path::new(database), program),
        [database] => exhibit(Path::new(database), &program),
        [] => {
            let directory = tempfile::tempdir()?;
            exhibit(&directory.path().join("chess.db"), &program)
        }
        _ => Err("usage: chess [database]".into()),
    }
}

fn exhibit(database: &Path, program: &[Fixture]) -> Result<(), Failure> {
    let famous = program.iter().filter(|fixture| fixture.is_famous()).count();
    let openings = program.len() - famous;
    println!("To play: {famous} famous games to the end, {openings} more through the opening.");

    let first = transcript::run_player(database, Some(KILL_AFTER))?;
    println!(
        "First run:  {} moves acknowledged in {} games, then {}.",
        first.moves,
        first.acknowledged.len(),
        first.end
    );
    if first.end.success() {
        println!("            Earlier runs left too few moves for a kill in mid-game.");
    }
    let second = transcript::run_player(database, None)?;
    let unreceipted = transcript::check_resumed(program, &first, &second)?;
    println!(
        "Second run: all of them are there, and {unreceipted} more that were committed \
         unacknowledged;\n            each game continues from its exact position.\n            \
         {} moves acknowledged in {} games, then {}.",
        second.moves,
        second.acknowledged.len(),
        second.end
    );
    verify(database, program, &first, &second)
}

/// Opens the database for the third time and checks each game.
#[tokio::main]
async fn verify(
    database: &Path,
    program: &[Fixture],
    first: &Transcript,
    second: &Transcript,
) -> Result<(), Failure> {
    let runtime = Runtime::open(database).await?;
    for (number, fixture) in program.iter().enumerate() {
        let Fixture { key, record, plies, positions } = fixture;
        // `find` creates nothing: a missing game is an error here.
        let game = runtime.find::<Game>(key.as_str()).await?;
        let expected = &positions[*plies];
        let fen = game.fen().await?;
        if game.moves().await? != record.moves[..*plies] || fen != expected.to_string() {
            return Err(format!("{key} is at {fen}, the record at {expected}").into());
        }
        if fixture.is_famous() {
            let resumed_at = second.found.get(&number).map(|(ply, _)| *ply);
            report::print_game(fixture, expected, resumed_at);
        }
    }
    println!("\nAll {} games match a replay of the record, moves and FEN.", program.len());

    let opening = program.iter().find(|fixture| !fixture.is_famous());
    refuse_illegal_move(&runtime, opening.ok_or("there is no opening")?).await?;

    let stored = runtime.count::<Game>().await?.stored;
    let most = first.most_live.max(second.most_live);
    println!("{stored} games are stored; at most {most} were in memory at once.");
    let start = Instant::now();
    while runtime.count::<Game>().await?.live > 0 {
        if start.elapsed() > Duration::from_secs(5) {
            return Err("idle games stay in memory".into());
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "Now none is in memory: the last one was unloaded {:.0?} after its last call.",
        start.elapsed()
    );
    runtime.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

async fn refuse_illegal_move(runtime: &Runtime, fixture: &Fixture) -> Result<(), Failure> {
    let game = runtime.find::<Game>(fixture.key.as_str()).await?;
    let before = game.fen().await?;
    let Err(refusal) = game.play("Kd5".to_owned()).await? else {
        return Err("a server accepted an illegal move".into());
    };
    println!("An illegal move is refused ({}):\n  {refusal}", game.title().await?);
    if game.fen().await? != before {
        return Err("an illegal move changed the position".into());
    }
    Ok(())
}
