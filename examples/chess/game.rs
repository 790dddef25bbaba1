//! The server: one game of chess.

use std::{error::Error, fmt};

use cozy_chess::{Board, util::parse_san_move};
use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

/// The state of one game. All of it is stored, and it is all that is stored.
#[derive(Serialize, Deserialize)]
pub struct Game {
    white: String,
    black: String,
    event: String,
    /// The moves so far, in standard algebraic notation.
    moves: Vec<String>,
    /// The position after them. `Board` knows nothing of serde, but it prints
    /// and parses FEN, so that is its stored form.
    #[serde(with = "fen")]
    board: Board,
}

// Thousands of games are stored, few are being played: a game leaves memory
// soon after its last move and comes back with the next call. Real players
// think longer; these take less than a millisecond.
#[persistent_server(idle_timeout = "20ms")]
impl Game {
    /// Sets the pieces up, in the first life of the game only.
    #[init]
    fn new(white: String, black: String, event: String) -> Self {
        Self { white, black, event, moves: Vec::new(), board: Board::default() }
    }

    /// Plays one half-move and returns how many there are now.
    ///
    /// # Errors
    /// If the move is illegal; the game stays as it is.
    pub fn play(&mut self, san: String) -> Result<usize, IllegalMove> {
        // `parse_san_move` finds legal moves only, so `play` can't panic.
        match parse_san_move(&self.board, &san) {
            Ok(legal) => self.board.play(legal),
            Err(_) => return Err(IllegalMove { san, fen: self.fen() }),
        }
        self.moves.push(san);
        Ok(self.moves.len())
    }

    /// The moves so far.
    #[must_use]
    pub fn moves(&self) -> Vec<String> {
        self.moves.clone()
    }

    /// The position in Forsyth-Edwards notation.
    #[must_use]
    pub fn fen(&self) -> String {
        self.board.to_string()
    }

    /// Who plays whom, and where.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} against {}, {}", self.white, self.black, self.event)
    }
}

/// A move that the rules forbid. It travels back to the caller, so it is serde.
#[derive(Debug, Serialize, Deserialize)]
pub struct IllegalMove {
    san: String,
    fen: String,
}

impl fmt::Display for IllegalMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is illegal in {}", self.san, self.fen)
    }
}

impl Error for IllegalMove {}

/// How serde writes and reads a `Board`.
mod fen {
    use cozy_chess::Board;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(board: &Board, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(board)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Board, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
