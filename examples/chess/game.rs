//! The server: one game of chess.

use std::{error::Error, fmt};

use cozy_chess::{Board, util::parse_san_move};
use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

/// The state of one game. All of it is stored, and nothing else is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Game {
    white: String,
    black: String,
    event: String,
    /// The moves so far, in standard algebraic notation.
    moves: Vec<String>,
    /// The position after these moves. `Board` does not implement serde's traits, but it
    /// prints and parses FEN, so the stored form is FEN.
    #[serde(with = "fen")]
    board: Board,
}

// Thousands of games are stored and few are being played. A game leaves memory soon after
// its last move and comes back with the next call. A human player would need a longer
// timeout: the players here take less than a millisecond per move.
#[persistent_server(idle_timeout = "20ms")]
impl Game {
    /// Sets up the pieces. Runs only if no game is stored under the key.
    #[init]
    fn new(white: String, black: String, event: String) -> Self {
        Self { white, black, event, moves: Vec::new(), board: Board::default() }
    }

    /// Plays one half-move and returns the number of half-moves so far.
    ///
    /// # Errors
    /// If the move is illegal. The game is left unchanged.
    pub fn play(&mut self, san: String) -> Result<usize, IllegalMove> {
        // `parse_san_move` returns legal moves only, so `play` cannot panic.
        match parse_san_move(&self.board, &san) {
            Ok(legal) => self.board.play(legal),
            Err(_) => return Err(IllegalMove { san, fen: self.fen() }),
        }
        self.moves.push(san);
        Ok(self.moves.len())
    }

    /// Returns the moves so far.
    #[must_use]
    pub fn moves(&self) -> Vec<String> {
        self.moves.clone()
    }

    /// Returns the position in Forsyth-Edwards notation.
    #[must_use]
    pub fn fen(&self) -> String {
        self.board.to_string()
    }

    /// Returns the names of the players and the event.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} against {}, {}", self.white, self.black, self.event)
    }
}

/// A move that the rules forbid. Implements serde's traits because it is sent back to the
/// caller.
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

/// The serialized form of a `Board`.
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
