//! Reads games in Portable Game Notation: tags, moves, comments, annotation glyphs and
//! results, but no variations. The parser knows no rules of chess: the
//! [`program`](crate::program) and the server decide whether a move is legal.

use std::{error::Error, fmt};

/// One game as recorded in the file.
#[derive(Debug, Default)]
pub(crate) struct Record {
    tags: Vec<(String, String)>,
    /// The moves in standard algebraic notation.
    pub(crate) moves: Vec<String>,
}

impl Record {
    /// Returns the value of a tag, or `?` (the notation's symbol for unknown) if the tag is
    /// missing.
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.iter().find(|(tag, _)| tag == name).map_or("?", |(_, value)| value)
    }

    /// Returns the player of a tag with the first name first: `Adolf Anderssen` for
    /// `Anderssen, Adolf`.
    pub(crate) fn player(&self, tag: &str) -> String {
        match self.tag(tag).split_once(", ") {
            Some((family, given)) => format!("{given} {family}"),
            None => self.tag(tag).to_owned(),
        }
    }

    /// Returns the year of the `Date` tag.
    pub(crate) fn year(&self) -> &str {
        self.tag("Date").split('.').next().unwrap_or("?")
    }
}

/// A syntax error in a file, with its line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PgnError {
    line: usize,
    problem: String,
}

impl fmt::Display for PgnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl Error for PgnError {}

/// Parses all games of a file, in order.
///
/// # Errors
/// If a token is not part of the notation, or a game does not end with the result that
/// its `Result` tag announces.
pub(crate) fn parse(text: &str) -> Result<Vec<Record>, PgnError> {
    let mut reader = Reader { text, rest: text };
    let mut games = Vec::new();
    let mut game = Record::default();
    while let Some(token) = reader.token()? {
        match token {
            Token::Tag(..) if !game.moves.is_empty() => {
                return Err(reader.error("the game before this tag has no result"));
            }
            Token::Tag(name, value) => game.tags.push((name.to_owned(), value)),
            Token::Move(san) => game.moves.push(san.to_owned()),
            Token::Result(result) if result == game.tag("Result") => {
                games.push(std::mem::take(&mut game));
            }
            Token::Result(result) => {
                let tag = game.tag("Result");
                return Err(reader.error(format!("the moves end `{result}`, the tag says `{tag}`")));
            }
        }
    }
    if game.tags.is_empty() && game.moves.is_empty() {
        Ok(games)
    } else {
        Err(reader.error("the last game has no result"))
    }
}

enum Token<'a> {
    Tag(&'a str, String),
    Move(&'a str),
    Result(&'a str),
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Returns the next token. Skips comments, glyphs and move numbers.
    fn token(&mut self) -> Result<Option<Token<'a>>, PgnError> {
        loop {
            self.rest = self.rest.trim_start();
            let Some(first) = self.rest.chars().next() else { return Ok(None) };
            match first {
                '{' => {
                    let end = self.rest.find('}');
                    self.take(end.ok_or_else(|| self.error("this comment has no `}`"))? + 1);
                }
                ';' => {
                    self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
                }
                '[' => return self.tag().map(Some),
                '(' | ')' => return Err(self.error("variations are not supported")),
                _ => {
                    if let Some(token) = self.word() {
                        return Ok(Some(token));
                    }
                }
            }
        }
    }

    /// Parses `[Name "Value"]`, one per line.
    fn tag(&mut self) -> Result<Token<'a>, PgnError> {
        let line = self.rest.lines().next().unwrap_or_default();
        let (name, value) = line
            .trim_end()
            .strip_prefix('[')
            .and_then(|tag| tag.strip_suffix("\"]"))
            .and_then(|tag| tag.split_once(" \""))
            .ok_or_else(|| self.error("a tag looks like `[Name \"Value\"]`"))?;
        self.take(line.len());
        Ok(Token::Tag(name, value.replace("\\\"", "\"").replace("\\\\", "\\")))
    }

    fn word(&mut self) -> Option<Token<'a>> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "{;()[]".contains(c));
        let word = self.take(end.unwrap_or(self.rest.len()).max(1));
        if matches!(word, "1-0" | "0-1" | "1/2-1/2" | "*") {
            return Some(Token::Result(word));
        }
        // `12.` and `12...` may be separate words or prefixes of the move.
        let unnumbered = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let san = match unnumbered.strip_prefix('.') {
            Some(rest) => rest.trim_start_matches('.'),
            None if unnumbered.is_empty() => "",
            None => word,
        };
        let san = san.trim_end_matches(['!', '?']);
        (!san.is_empty() && !san.starts_with('$')).then_some(Token::Move(san))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn error(&self, problem: impl Into<String>) -> PgnError {
        let read = &self.text[..self.text.len() - self.rest.len()];
        PgnError { line: read.matches('\n').count() + 1, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn comments_glyphs_and_numbers_are_not_moves() {
        let text = "; a file\n[White \"The \\\"Turk\\\"\"]\n[Result \"*\"]\n\n\
                    1.e4! {best} e5 $6 2. Nf3 ; developing\n2... Nc6 *\n";
        let games = parse(text).unwrap();
        assert_eq!(games.len(), 1);
        assert_eq!(games[0].tag("White"), "The \"Turk\"");
        assert_eq!(games[0].tag("Black"), "?");
        assert_eq!(games[0].moves, ["e4", "e5", "Nf3", "Nc6"]);
    }

    #[test]
    fn an_error_says_where_it_is_and_what_it_found() {
        for (text, message) in [
            ("[Result \"1-0\"]\n\n1. e4 0-1", "line 3: the moves end `0-1`, the tag says `1-0`"),
            ("1. e4\n{ endless", "line 2: this comment has no `}`"),
            ("1. e4\n[White \"A\"]", "line 2: the game before this tag has no result"),
            ("[White A]", "line 1: a tag looks like `[Name \"Value\"]`"),
            ("1. e4 (1. d4) *", "line 1: variations are not supported"),
            ("1. e4 e5", "line 1: the last game has no result"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }
}
