//! The games to be played, and the positions that they must reach.

use std::{error::Error, sync::Arc};

use cozy_chess::{Board, GameStatus, util::parse_san_move};

use crate::pgn::{self, Record};

/// The number of games in addition to the famous ones.
const OPENINGS: usize = 5_000;

/// One game to be played.
#[derive(Clone)]
pub(crate) struct Fixture {
    /// The key of the server.
    pub(crate) key: String,
    /// The source of the moves.
    pub(crate) record: Arc<Record>,
    /// The number of half-moves to play.
    pub(crate) plies: usize,
    /// The position after each half-move, starting with the initial one. Computed with
    /// `cozy-chess` alone, without a server, as the reference for the servers.
    pub(crate) positions: Arc<[Board]>,
}

impl Fixture {
    /// Returns true for a whole game, false for an opening.
    pub(crate) fn is_famous(&self) -> bool {
        self.plies == self.record.moves.len()
    }
}

/// Returns the famous games, played to their ends, and thousands of games that each
/// follow one of them through its opening. Each process of the example computes the same
/// list.
///
/// # Errors
/// If the file of games is malformed or contains an illegal move.
pub(crate) fn program() -> Result<Vec<Fixture>, Box<dyn Error + Send + Sync>> {
    let mut games = Vec::new();
    for record in pgn::parse(include_str!("games.pgn"))? {
        let [white, black] = ["White", "Black"].map(|tag| record.tag(tag).split(',').next());
        let key = format!("{}-{} {}", white.unwrap_or("?"), black.unwrap_or("?"), record.year());
        let positions = replay(&record)?.into();
        games.push(Fixture { key, plies: record.moves.len(), record: record.into(), positions });
    }
    let famous = games.clone();
    games.extend(famous.iter().cycle().take(OPENINGS).enumerate().map(|(number, game)| Fixture {
        key: format!("opening {number}"),
        plies: 5 + number % 8,
        ..game.clone()
    }));
    Ok(games)
}

/// Returns the position after each half-move.
///
/// Each move must be legal, and must be written with `+` or `#` exactly if it gives check
/// or mate. This shows that the author of the record had the same position.
fn replay(record: &Record) -> Result<Vec<Board>, String> {
    let mut positions = vec![Board::default()];
    for (ply, san) in record.moves.iter().enumerate() {
        let mut board = positions[ply].clone();
        let wrong = |problem: &str| {
            let [white, black] = ["White", "Black"].map(|tag| record.tag(tag));
            format!("{white} - {black}: {} {problem} in {}", numbered(ply, san), positions[ply])
        };
        board.play(parse_san_move(&board, san).map_err(|_| wrong("is illegal"))?);
        let mate = board.status() == GameStatus::Won;
        let check = !board.checkers().is_empty() && !mate;
        if (san.ends_with('+'), san.ends_with('#')) != (check, mate) {
            return Err(wrong("has a wrong mark for check or mate"));
        }
        positions.push(board);
    }
    Ok(positions)
}

/// Formats the half-move that follows `ply` others as players write it: `7. Nd5#`, `7...
/// Ke7`.
pub(crate) fn numbered(ply: usize, san: &str) -> String {
    let dots = if ply.is_multiple_of(2) { "." } else { "..." };
    format!("{}{dots} {san}", ply / 2 + 1)
}

#[cfg(test)]
mod tests {
    use cozy_chess::GameStatus;

    use super::program;

    /// `program` itself rejects illegal moves.
    #[test]
    fn the_famous_mates_are_mates() {
        let program = program().unwrap();
        for key in [
            "Legal-Saint-Brie 1750",
            "Anderssen-Kieseritzky 1851",
            "Anderssen-Dufresne 1852",
            "Morphy-Duke of Brunswick and Count Isouard 1858",
            "Réti-Tartakower 1910",
            "Lasker-Thomas 1912",
            "Byrne-Fischer 1956",
        ] {
            let game = program.iter().find(|game| game.key == key).unwrap();
            assert_eq!(game.positions[game.plies].status(), GameStatus::Won, "{key}");
        }
    }
}
