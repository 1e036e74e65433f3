//! The sole printer: results to standard output, everything else to standard error.

use std::error::Error as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::screen::{Screen, Task, Unit, size};

/// How output is dressed.
#[derive(Debug, Clone, Copy)]
pub struct Dress {
    /// Colours may be used on standard error.
    pub colour: bool,
    /// Bars that redraw themselves may be used.
    pub bars: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
}

impl Dress {
    /// Reads what standard error is; `no_color` is whether the environment has a non-empty `NO_COLOR`, `dumb` whether
    /// `TERM` is `dumb`.
    #[must_use]
    pub fn detect(no_color: bool, dumb: bool, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal() && !dumb;
        Self { colour: terminal && !no_color, bars: terminal, quiet }
    }
}

/// A terminal or a pipe.
pub struct Ui {
    dress: Dress,
    bars: MultiProgress,
    /// Standard output went away: the rest is dropped, as `head` expects.
    closed: Mutex<bool>,
}

impl Ui {
    /// Makes the printer.
    #[must_use]
    pub fn new(dress: Dress) -> Self {
        let target = if dress.bars && !dress.quiet { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { dress, bars: MultiProgress::with_draw_target(target), closed: Mutex::new(false) }
    }

    fn print(&self, bytes: &[u8]) {
        let Ok(mut closed) = self.closed.lock() else { return };
        if !*closed {
            let mut out = io::stdout().lock();
            *closed = self.bars.suspend(|| out.write_all(bytes).and_then(|()| out.flush())).is_err();
        }
    }

    fn complain(&self, text: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = self.bars.suspend(|| io::stderr().lock().write_all(text.as_bytes()));
    }

    /// Prints a failure: what, why, and the next step.
    pub fn failure(&self, failure: &Failure) {
        self.complain(&render_failure(failure, self.dress.colour));
    }
}

/// Returns a failure as text: the sentence or the picture of the source line, the causes, the hint.
#[must_use]
pub fn render_failure(failure: &Failure, colour: bool) -> String {
    let paint = |text: &str, code: &str| if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    let labels = failure.labels();
    let mut lines = vec![match failure.snippet_text() {
        Some(snippet) => snippet.trim_end().to_owned(),
        None => format!("{} {}", paint(labels.error, "1;31"), plain(failure.message())),
    }];
    let mut cause = failure.source();
    while let Some(error) = cause {
        lines.push(format!("  {} {}", paint(labels.because, "1"), plain(&error.to_string())));
        cause = error.source();
    }
    lines.extend(failure.hint_text().map(|hint| format!("{} {}", paint(labels.hint, "1;36"), plain(hint))));
    if failure.kind() == Kind::Bug {
        lines.push("this is a mistake in parvis itself; please report it with the command you typed".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Keeps control characters of names from outside away from the terminal; newlines stay.
fn plain(text: &str) -> String {
    let hidden = |character: char| {
        character.is_control() && character != '\n'
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if hidden(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

impl Screen for Ui {
    fn say(&self, line: &str) {
        self.print(format!("{}\n", plain(line)).as_bytes());
    }

    fn note(&self, line: &str) {
        if !self.dress.quiet {
            self.complain(&format!("{}\n", plain(line)));
        }
    }

    fn ask(&self, question: &str) -> Option<String> {
        let input = io::stdin();
        if !input.is_terminal() {
            return None;
        }
        self.complain(&format!("{} ", plain(question)));
        let mut answer = String::new();
        input.read_line(&mut answer).ok().map(|_| answer.trim().to_owned())
    }

    fn ask_secret(&self, question: &str) -> Option<String> {
        if !io::stdin().is_terminal() {
            return None;
        }
        self.bars.suspend(|| rpassword::prompt_password(format!("{} ", plain(question)))).ok()
    }

    fn document(&self, value: &Value) {
        self.print(format!("{value:#}\n").as_bytes());
    }

    fn raw(&self, bytes: &[u8]) {
        self.print(bytes);
    }

    fn note_raw(&self, bytes: &[u8]) {
        let _ = self.bars.suspend(|| io::stderr().lock().write_all(bytes));
    }

    fn work(&self, title: &str, total: Option<u64>, unit: Unit) -> Box<dyn Task> {
        if self.dress.quiet || unit == Unit::Wait && !self.dress.bars {
            return Box::new(Silent);
        }
        if !self.dress.bars {
            return Box::new(Lines::new(title, total, unit));
        }
        let bar = self.bars.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        let template = match (total, unit) {
            (Some(_), Unit::Bytes) => "{prefix:<12} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:<12} {wide_msg}",
            (Some(_), _) => "{prefix:<12} {bar:24} {pos:>6}/{len:<6} {wide_msg}",
            (None, _) => "{prefix:<12} {spinner} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bar { bar, bars: self.bars.clone() })
    }
}

struct Silent;

impl Task for Silent {
    fn advance(&self, _: u64) {}
    fn detail(&self, _: &str) {}
}

struct Bar {
    bar: ProgressBar,
    bars: MultiProgress,
}

impl Task for Bar {
    fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    fn detail(&self, text: &str) {
        self.bar.set_message(plain(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

/// Progress where nothing can be redrawn: a line when it takes long, at most one every five seconds, and one at the end.
struct Lines {
    title: String,
    total: Option<u64>,
    unit: Unit,
    done: AtomicU64,
    started: Instant,
    said: Mutex<Instant>,
}

impl Lines {
    fn new(title: &str, total: Option<u64>, unit: Unit) -> Self {
        let now = Instant::now();
        Self { title: title.to_owned(), total, unit, done: AtomicU64::new(0), started: now, said: Mutex::new(now) }
    }

    fn amount(&self, count: u64) -> String {
        match self.unit {
            Unit::Bytes => size(count),
            Unit::Items | Unit::Wait => count.to_string(),
        }
    }

    fn line(&self, detail: &str) {
        let done = self.done.load(Ordering::Relaxed);
        let progress = match self.total {
            Some(total) => format!(" {} of {}", self.amount(done), self.amount(total)),
            None => String::new(),
        };
        let separator = if detail.is_empty() { "" } else { " " };
        let _ = writeln!(io::stderr().lock(), "{}:{progress}{separator}{}", self.title, plain(detail));
    }

    fn is_due(&self) -> bool {
        let Ok(mut said) = self.said.lock() else { return false };
        let due = said.elapsed() >= Duration::from_secs(5);
        if due {
            *said = Instant::now();
        }
        due
    }
}

impl Task for Lines {
    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
        if self.is_due() {
            self.line("");
        }
    }

    fn detail(&self, text: &str) {
        if self.is_due() {
            self.line(text);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        if seconds >= 0.5 {
            self.line(&format!("in {seconds:.1} s"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_sentence_causes_and_hint() {
        let failure = Failure::world("cannot fetch `x`").because("no route").hint("try later");
        assert_eq!(render_failure(&failure, false), "error: cannot fetch `x`\n  because: no route\nhint: try later\n");
    }

    #[test]
    fn what_comes_from_outside_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2J\u{202e}b\nc"), "a\\u{1b}[2J\\u{202e}b\nc");
    }
}
