//! The file `.env` of a bundle: read as compose reads it, and changed so that every other line stays as the user wrote it.

use std::fmt::Write as _;

/// A line that is neither a setting nor a comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of `.env` is neither `NAME=value` nor a comment")]
pub struct InvalidSettings {
    pub line: usize,
}

/// The settings, with all lines in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    text: String,
    /// Name and value where the line is a setting.
    setting: Option<(String, String)>,
}

impl Settings {
    /// Reads the text of `.env`.
    ///
    /// # Errors
    /// Names the first line that compose would not understand either.
    pub fn parse(text: &str) -> Result<Self, InvalidSettings> {
        let mut lines = Vec::new();
        // Editors of another system leave a mark at the beginning and a return at each end.
        for (index, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let plain = text.trim();
            let setting = if plain.is_empty() || plain.starts_with('#') {
                None
            } else {
                Some(setting(plain).ok_or(InvalidSettings { line: index + 1 })?)
            };
            lines.push(Line { text: text.to_owned(), setting });
        }
        Ok(Self { lines })
    }

    /// Returns a value: the last one, as compose takes it; `None` also where it is empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let settings = self.lines.iter().rev().filter_map(|line| line.setting.as_ref());
        settings.into_iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the names of all settings.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| line.setting.as_ref()).map(|(name, _)| name.as_str())
    }

    /// Sets a value: where the name stands, else at the end. Returns whether anything changed.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        if self.get(name) == Some(value) {
            return false;
        }
        let line = Line { text: format!("{name}={}", written(value)), setting: Some((name.to_owned(), value.to_owned())) };
        let place = self.lines.iter_mut().rev().find(|line| line.setting.as_ref().is_some_and(|(known, _)| known == name));
        match place {
            Some(place) => *place = line,
            None => self.lines.push(line),
        }
        true
    }

    /// Returns the text.
    #[must_use]
    pub fn render(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{}", line.text);
            text
        })
    }
}

fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let name = name.trim();
    let shaped = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let valid = shaped && !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
    valid.then(|| (name.to_owned(), unquoted(value.trim())))
}

/// Takes the quotes away, or the comment behind a value without quotes: the inverse of [`written`].
fn unquoted(value: &str) -> String {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
        let end = value.find(" #").unwrap_or(value.len());
        return value[..end].trim_end().to_owned();
    };
    let mut out = String::new();
    let mut characters = value[1..].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            end if end == quote => break,
            // Between single quotes, only a quote can be escaped.
            '\\' if quote == '"' || characters.peek() == Some(&'\'') => match characters.next() {
                Some('n') if quote == '"' => out.push('\n'),
                Some(other) => out.push(other),
                None => break,
            },
            other => out.push(other),
        }
    }
    out
}

/// Returns the value of a line of `.env` that Compose 1.29, 2.26 and 2.40 read as this text; what they read differently, parameters
/// do not take ([`ParameterKind::check`](crate::model::stack::ParameterKind::check)).
#[must_use]
pub fn written(value: &str) -> String {
    let bare = !value.contains(['$', '#', '\\', '\n']) && !value.starts_with(['\'', '"']) && value.trim() == value;
    if bare {
        value.to_owned()
    } else if value.contains('$') && !value.contains(['\\', '\n']) {
        // Only between single quotes is `$` nothing but itself.
        format!("'{}'", value.replace('\'', "\\'"))
    } else {
        let escaped = [('\\', "\\\\"), ('"', "\\\""), ('$', "\\$"), ('\n', "\\n")];
        let inside = escaped.iter().fold(value.to_owned(), |text, (character, escape)| text.replace(*character, escape));
        format!("\"{inside}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# The demo's settings\r\nSERVER_NAME=localhost\n\nPORT = 8443   # seen from outside\nPARISH_NAME=\"L'Étoile \\\"A\\\"\"\nexport TZ='Europe/Paris'\nEMPTY=\n";

    #[test]
    fn values_are_read_as_compose_reads_them() {
        let settings = Settings::parse(TEXT).unwrap();
        let values = ["SERVER_NAME", "PORT", "PARISH_NAME", "TZ", "EMPTY", "OTHER"].map(|name| settings.get(name));
        assert_eq!(values, [Some("localhost"), Some("8443"), Some("L'Étoile \"A\""), Some("Europe/Paris"), None, None]);
        assert_eq!(settings.names().count(), 5);
    }

    #[test]
    fn a_change_leaves_all_other_lines_alone() {
        let mut settings = Settings::parse(TEXT).unwrap();
        assert!(settings.set("PORT", "9443"));
        assert!(settings.set("PARVIS_IMAGE_DB", "sha256:ab"));
        assert!(!settings.set("PORT", "9443"));
        let text = settings.render();
        assert_eq!(
            text,
            TEXT.replace("\r\n", "\n").replace("PORT = 8443   # seen from outside", "PORT=9443") + "PARVIS_IMAGE_DB=sha256:ab\n"
        );
    }

    #[test]
    fn of_two_values_the_last_one_counts_and_is_changed() {
        let mut settings = Settings::parse("A=1\nA=2\n").unwrap();
        assert_eq!(settings.get("A"), Some("2"));
        settings.set("A", "3");
        assert_eq!(settings.render(), "A=1\nA=3\n");
    }

    #[test]
    fn a_line_that_is_nothing_is_named() {
        for (text, line) in [("A=1\nhello\n", 2), ("=x", 1), ("1A=x", 1), ("A-B=x", 1), ("<html>", 1)] {
            assert_eq!(Settings::parse(text), Err(InvalidSettings { line }), "{text}");
        }
    }

    #[test]
    fn settings_are_quoted_as_all_three_composes_read_them() {
        // Each was tried with 1.29.2, 2.26.1 and 2.40.3.
        for (value, expected) in [
            ("Paroisse de l'Étoile", "Paroisse de l'Étoile"),
            ("a \"b\"", "a \"b\""),
            ("'a'", "\"'a'\""),
            ("\"a\"", "\"\\\"a\\\"\""),
            ("a #b", "\"a #b\""),
            ("a$b", "'a$b'"),
            ("l'a$b", "'l\\'a$b'"),
            ("12:30", "12:30"),
            ("", ""),
        ] {
            assert_eq!(written(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_reader_is_the_inverse_of_the_writer(value in "[a-zA-Z'\"\\\\ é#=/$\n\t]{0,12}") {
            prop_assert_eq!(unquoted(written(&value).trim()), value.clone());
            let mut settings = Settings::parse("A=1\n").unwrap();
            settings.set("A", &value);
            let again = Settings::parse(&settings.render()).unwrap();
            prop_assert_eq!(again.get("A").unwrap_or_default(), value);
        }
    }
}
