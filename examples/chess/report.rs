//! Prints games as text.

use cozy_chess::{Board, Color, File, GameStatus, Piece, Rank, Square};

use crate::{
    pgn::Record,
    program::{Fixture, numbered},
};

/// Prints a game in eight lines: the board, and beside it the players, the result, and
/// the effect of the kill.
pub(crate) fn print_game(fixture: &Fixture, board: &Board, resumed_at: Option<usize>) {
    let record = &fixture.record;
    let beside = [
        record.tag("Title").to_owned(),
        format!("{} - {}", record.player("White"), record.player("Black")),
        format!("{}, {}, {}", record.tag("Event"), record.tag("Site"), record.year()),
        String::new(),
        format!("{}, {}", record.tag("Result"), ending(record, board)),
        match resumed_at {
            Some(ply) if ply == fixture.plies => "finished before the second run".to_owned(),
            Some(ply) if ply > 0 => {
                format!("killed after {}", after(record, ply))
                    + &format!(", resumed with {}", numbered(ply, &record.moves[ply]))
            }
            _ => "started by the second run".to_owned(),
        },
        String::new(),
        board.to_string(),
    ];
    println!();
    for (rank, text) in Rank::ALL.into_iter().rev().zip(beside) {
        let squares = File::ALL.map(|file| format!("{} ", symbol(board, Square::new(file, rank))));
        println!("  {}", format!("{}  {text}", squares.concat()).trim_end());
    }
}

fn ending(record: &Record, board: &Board) -> String {
    let last = after(record, record.moves.len());
    match (board.status(), record.tag("Result")) {
        (GameStatus::Won, _) => format!("checkmate: {last}"),
        (_, "1-0") => format!("Black resigned after {last}"),
        (_, "0-1") => format!("White resigned after {last}"),
        _ => format!("drawn after {last}"),
    }
}

/// Formats the last of the first `ply` half-moves.
fn after(record: &Record, ply: usize) -> String {
    record.moves.get(ply - 1).map_or_else(String::new, |san| numbered(ply - 1, san))
}

fn symbol(board: &Board, square: Square) -> char {
    let Some(piece) = board.piece_on(square) else { return '·' };
    let (white, black) = match piece {
        Piece::King => ('♔', '♚'),
        Piece::Queen => ('♕', '♛'),
        Piece::Rook => ('♖', '♜'),
        Piece::Bishop => ('♗', '♝'),
        Piece::Knight => ('♘', '♞'),
        Piece::Pawn => ('♙', '♟'),
    };
    if board.colors(Color::White).has(square) { white } else { black }
}
