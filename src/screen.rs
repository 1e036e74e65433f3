//! How the rooms speak to a person, without knowing who prints.

use serde_json::Value;

/// The sole way to a person. One file implements it for terminals and pipes.
pub trait Screen: Sync {
    /// Prints a line of the result.
    fn say(&self, line: &str);
    /// Prints a line beside the result: a warning or advice.
    fn note(&self, line: &str);
    /// Asks a person at a terminal for a line; `None` where nobody sits there.
    fn ask(&self, _question: &str) -> Option<String> {
        None
    }
    /// Asks a person at a terminal for a passphrase, which is not shown; `None` where nobody sits there.
    fn ask_secret(&self, _question: &str) -> Option<String> {
        None
    }
    /// Prints a document as JSON, with a final newline.
    fn document(&self, value: &Value);
    /// Starts a piece of work that takes a while. Dropping it ends it.
    fn work(&self, title: &str, total: Option<u64>, unit: Unit) -> Box<dyn Task>;
    /// Prints bytes as they are: the standard output of a command.
    fn raw(&self, bytes: &[u8]);
    /// Prints bytes as they are beside the result: the standard error of a command.
    fn note_raw(&self, bytes: &[u8]);
}

/// What a piece of work counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Items,
    /// Nothing: it is waited for, and whoever waits says in a line of its own how it ended.
    Wait,
}

/// A piece of work under way.
pub trait Task: Send + Sync {
    /// Adds to what is done.
    fn advance(&self, by: u64);
    /// Says what is being done now.
    fn detail(&self, text: &str);
}

/// Lays rows out as columns, two spaces apart; columns that hold only numbers are set to the right.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let numeric =
        |column: usize| rows.iter().all(|row| row[column].starts_with(|first: char| first.is_ascii_digit() || first == '-'));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([head[column].chars().count()]).max().unwrap_or(0))
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = widths[column];
                if !rows.is_empty() && numeric(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines
}

/// Returns bytes as people say them: `812 B`, `3.4 MB`, in powers of 1,000.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_a_thousand() {
        assert_eq!([0, 999, 1000, 3_450_000, 12_000_000_000].map(size), ["0 B", "999 B", "1.0 kB", "3.4 MB", "12.0 GB"]);
    }

    #[test]
    fn a_table_sets_numbers_to_the_right() {
        let rows = [vec!["base".to_owned(), "1.0".to_owned()], vec!["httpd".to_owned(), "12.5".to_owned()]];
        assert_eq!(table(&["image", "seconds"], &rows), ["image  seconds", "base       1.0", "httpd     12.5"]);
    }
}
