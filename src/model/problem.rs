//! A mistake in one of the project's files, with its place: what is wrong, where, and what to write instead.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::failure::Failure;

/// Characters of a source line that are kept on each side of the mistake.
const WINDOW: usize = 100;

/// A file of the project as it was read: the path to show, and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: String,
    /// The text without a byte order mark.
    pub text: String,
}

impl Source {
    /// Takes the text of a file; a byte order mark is dropped, so that columns are those an editor shows.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() }
    }

    /// Builds the problem of the token that starts at a line and column, both counted from 1 (column in characters).
    #[must_use]
    pub fn problem(&self, line: u32, column: u32, message: impl Into<String>) -> Problem {
        let line = line.max(1);
        let text = self.line(line);
        let column = column.max(1);
        let skip = usize::try_from(column - 1).unwrap_or(usize::MAX);
        let length = token_length(&mut text.chars().skip(skip));
        let (source_line, offset) = window(text, skip);
        Problem { file: self.path.clone(), line, column, message: message.into(), hint: None, length, source_line, offset }
    }

    /// Builds the problem of the first place on a line where a word stands; of the line's first character where it does not.
    #[must_use]
    pub fn problem_at_word(&self, line: u32, word: &str, message: impl Into<String>) -> Problem {
        let text = self.line(line.max(1));
        let bytes = text.find(word).unwrap_or_else(|| text.len() - text.trim_start().len());
        let column = text[..bytes].chars().count() + 1;
        self.problem(line, u32::try_from(column).unwrap_or(1), message)
    }

    /// Returns a line, counted from 1, without its end.
    #[must_use]
    pub fn line(&self, number: u32) -> &str {
        let index = usize::try_from(number.max(1) - 1).unwrap_or(usize::MAX);
        self.text.lines().nth(index).unwrap_or_default()
    }
}

/// Counts the characters of the scalar or key that begins here, sixty at most.
fn token_length(rest: &mut dyn Iterator<Item = char>) -> usize {
    let mut rest = rest.take(60);
    match rest.next() {
        None => 1,
        Some(quote @ ('"' | '\'')) => 2 + rest.take_while(|character| *character != quote).count(),
        Some(_) => 1 + rest.take_while(|character| !matches!(character, ' ' | ':' | ',' | ']' | '}' | '\t' | '\r')).count(),
    }
}

/// Cuts a long line to the part around a column; returns the part and how many characters were cut before it.
fn window(line: &str, column: usize) -> (String, usize) {
    let start = column.saturating_sub(WINDOW);
    let text = line.chars().skip(start).take(2 * WINDOW).map(|character| if unseen(character) { '\u{fffd}' } else { character });
    (text.collect(), start)
}

/// A mistake in a file, and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct Problem {
    /// The path as it is shown.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
    pub message: String,
    pub hint: Option<String>,
    length: usize,
    source_line: String,
    /// Characters cut from the start of `source_line`.
    offset: usize,
}

impl Problem {
    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds "did you mean" with the nearest of the words that would have been right, where one is near.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, words: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, words) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// Returns the message with the picture of its source line, as rustc draws it, without colour and without the hint.
    #[must_use]
    pub fn render(&self) -> String {
        let skip = (self.column as usize).saturating_sub(1).saturating_sub(self.offset);
        let place =
            |characters: usize| self.source_line.char_indices().nth(characters).map_or(self.source_line.len(), |(at, _)| at);
        let span = place(skip)..place(skip + self.length);
        let message = shown(&self.message);
        let path = format!("{}:{}:{}", shown(&self.file), self.line, self.column);
        if self.source_line.is_empty() {
            return format!("error: {message}\n --> {path}");
        }
        let snippet = Snippet::source(self.source_line.as_str())
            .line_start(self.line as usize)
            .path(shown(&self.file))
            .annotation(AnnotationKind::Primary.span(span));
        Renderer::plain().render(&[Level::ERROR.primary_title(message).element(snippet)])
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::project(problem.to_string()).snippet(problem.render()).maybe_hint(problem.hint)
    }
}

/// Returns text from outside, cut to 120 characters, with whatever could move a cursor or turn the writing round made visible.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(480));
    for character in text.chars().take(400) {
        if unseen(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Whether a character is a control character or one that reorders or hides the text around it.
pub(super) fn unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns the word that a person most likely meant: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let allowed = (word.len() / 3).max(1);
    words
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.chars().take(64).collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Counts the insertions, removals, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_the_word() {
        let keys = ["packages", "users", "description", "from", "files"];
        for (slip, meant) in
            [("pakages", "packages"), ("pacakges", "packages"), ("form", "from"), ("user", "users"), ("file", "files")]
        {
            assert_eq!(nearest(slip, keys), Some(meant), "{slip}");
        }
        for other in ["x", "volumes", ""] {
            assert_eq!(nearest(other, keys), None, "{other}");
        }
    }

    #[test]
    fn a_problem_is_drawn_under_the_guilty_word() {
        let source = Source::new("recipes/base.yaml", "from: scratch\n  pakages: [a]\n");
        let problem = source.problem(2, 3, "unknown key `pakages`");
        let expected = "error: unknown key `pakages`
 --> recipes/base.yaml:2:3
  |
2 |   pakages: [a]
  |   ^^^^^^^";
        assert_eq!(problem.render(), expected);
        assert_eq!(problem.to_string(), "recipes/base.yaml:2:3: unknown key `pakages`");
    }

    #[test]
    fn a_line_of_a_hundred_thousand_characters_is_cut_around_the_mistake() {
        let source = Source::new("r.yaml", &"[".repeat(100_000));
        let drawn = source.problem(1, 50_000, "too deep").render();
        assert!(drawn.contains("r.yaml:1:"), "{drawn}");
        assert!(drawn.len() < 1000, "{drawn}");
    }

    #[test]
    fn nothing_in_a_picture_can_move_the_cursor_or_turn_the_writing_round() {
        let source = Source::new("r\u{1b}.yaml", "a: \u{1b}[2J\u{202e}x\n");
        let drawn = source.problem(1, 4, "bad \u{1b}[31m").render();
        assert!(!drawn.contains(['\u{1b}', '\u{202e}']), "{drawn:?}");
    }

    #[test]
    fn a_place_beyond_the_end_of_the_file_is_still_drawn() {
        let source = Source::new("r.yaml", "");
        assert!(source.problem(9, 9, "it is empty").render().contains("r.yaml:9:9"));
        let source = Source::new("r.yaml", "a: 1\n");
        assert!(source.problem(1, 40, "cut short").render().contains("a: 1"));
    }

    #[test]
    fn accents_before_the_mistake_do_not_shift_it() {
        let source = Source::new("r.yaml", "é: [à, pb]\n");
        let drawn = source.problem_at_word(1, "pb", "unknown").render();
        assert!(drawn.contains("r.yaml:1:8"), "{drawn}");
        assert!(drawn.ends_with("  |        ^^"), "{drawn}");
    }
}
