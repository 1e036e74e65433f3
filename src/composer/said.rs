//! What Composer prints when it fails: which lines tell why, and which requirements no repository meets.

use crate::model::problem::shown;

/// Lines of a failure that are passed on, at most.
const LINES: usize = 24;

/// Bytes of what Composer prints that are looked at.
pub const MOST: usize = 1 << 20;

/// What only says how Composer runs here, which is wanted.
const NOISE: [&str; 5] = [
    "Composer is operating significantly slower than normal",
    "Plugins have been disabled automatically",
    "Warning: Accessing ",
    "Read <https://getcomposer.org/doc/articles/troubleshooting.md>",
    "Use the option --with-all-dependencies",
];

/// Returns the last lines that say why Composer failed: without the way through its own code and the reminder of its options.
#[must_use]
pub fn telling(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let mut lines: Vec<String> = Vec::new();
    let mut skipping = false;
    for line in text.lines().map(str::trim_end) {
        // A trace ends with an empty line; a second exception, which may be the cause, follows its own heading.
        skipping = line == "Exception trace:" || skipping && !line.is_empty();
        let usage = line.contains(" [--") && line.contains("] [");
        if skipping || usage || NOISE.iter().any(|noise| line.contains(noise)) {
            continue;
        }
        let last_is_empty = lines.last().is_none_or(String::is_empty);
        if !(line.is_empty() && last_is_empty) {
            lines.push(shown(line));
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.split_off(lines.len().saturating_sub(LINES))
}

/// A requirement of composer.json that no repository meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub package: String,
    pub wanted: Option<String>,
    /// The versions that there are, as Composer lists them; nothing where there is no such package.
    pub there: Option<String>,
}

/// Finds what Composer says of requirements of the project itself: `Root composer.json requires NAME VERSION…, found NAME[VERSIONS]…`.
#[must_use]
pub fn refusals(said: &[u8]) -> Vec<Refusal> {
    let text = String::from_utf8_lossy(said);
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("Root composer.json requires ") else { continue };
        let Some((asked, answer)) = rest.split_once(", ") else { continue };
        let asked = asked.split(" (exact version match").next().unwrap_or_default();
        let (package, wanted) = asked.split_once(' ').map_or((asked, None), |(package, wanted)| (package, Some(wanted)));
        // Of `NAME VERSION (exact version match: A or B), found …` the first comma may stand within the parentheses.
        let versions = line.split_once(&format!("found {package}[")).and_then(|(_, rest)| rest.split_once(']'));
        let there = match versions {
            Some((versions, rest)) if rest.contains("does not match") => Some(versions),
            None if answer.contains("could not be found") || line.contains("could not be found") => None,
            _ => continue,
        };
        found.push(Refusal { package: shown(package), wanted: wanted.map(shown), there: there.map(shown) });
    }
    found
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.package)?;
        if let Some(wanted) = &self.wanted {
            write!(formatter, " {wanted}")?;
        }
        match &self.there {
            Some(there) => write!(formatter, ": there is {there}"),
            None => write!(formatter, ": there is no such package"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_repository_has_is_told_with_what_there_is() {
        let said = "Your requirements could not be resolved to an installable set of packages.\n\n  Problem 1\n    \
            - Root composer.json requires drush/drush 13.7.2 (exact version match: 13.7.2 or 13.7.2.0), found drush/drush[13.5.0, ..., 13.6.0] but it does not match the constraint.\n  Problem 2\n    \
            - Root composer.json requires acme/none, it could not be found in any version, there may be a typo in the package name.\n  Problem 3\n    \
            - Root composer.json requires acme/a ^2 -> satisfiable by acme/a[2.0].\n    - acme/a 2.0 requires php ~7.4 -> your php version does not satisfy that requirement.\n";
        let lines: Vec<String> = refusals(said.as_bytes()).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["drush/drush 13.7.2: there is 13.5.0, ..., 13.6.0", "acme/none: there is no such package"],
            "what others require is left to Composer's own words"
        );
        assert!(refusals(b"\xff").is_empty());
    }

    #[test]
    fn of_a_failure_its_cause_is_told_and_not_the_way_there() {
        let said = "Composer is operating significantly slower than normal because you do not have the PHP curl extension enabled.\n\
            Installing\n\nIn Plugin.php line 28:\n\n  [RuntimeException]\n  Cannot apply patch \u{1b}[31m!\n\n\nException trace:\n  at Plugin.php:28\n fetch() at x.php:1\n\n\
            install [--prefer-source] [--prefer-dist] [--dry-run]\n\n";
        let lines = telling(said.as_bytes());
        let expected =
            ["Installing", "", "In Plugin.php line 28:", "", "  [RuntimeException]", r"  Cannot apply patch \u{1b}[31m!"];
        assert_eq!(lines, expected);
        assert_eq!(telling("x\n".repeat(100).as_bytes()).len(), LINES);
    }
}
