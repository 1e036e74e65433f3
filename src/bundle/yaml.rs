//! YAML that every reader reads alike: YAML 1.1, YAML 1.2, and compose, which puts variables in for `$`.

use std::fmt::Write as _;

/// A value of a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A text, as the reader is to have it.
    Text(String),
    Number(u64),
    Truth(bool),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// Words that a reader of YAML 1.1 or 1.2 takes for something else than a text.
const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];

impl Node {
    /// Makes a map whose values may be absent.
    #[must_use]
    pub fn map<const N: usize>(items: [(&str, Option<Self>); N]) -> Self {
        let items = items.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)));
        Self::Map(items.collect())
    }

    /// Makes a list of texts; nothing of an empty one.
    #[must_use]
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Option<Self> {
        let items: Vec<Self> = texts.into_iter().map(|text| Self::Text(text.into())).collect();
        (!items.is_empty()).then_some(Self::List(items))
    }

    /// Returns the document.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(items) => {
                for (key, value) in items {
                    let _ = write!(out, "{:1$}{2}:", "", depth * 2, scalar(key));
                    value.write_after(out, depth + 1);
                }
            }
            Self::List(items) => {
                for item in items {
                    let _ = write!(out, "{:1$}-", "", depth * 2);
                    item.write_item(out, depth + 1);
                }
            }
            plain => {
                let _ = writeln!(out, "{}", plain.inline());
            }
        }
    }

    /// Writes what stands behind a key: on the same line where it is one.
    fn write_after(&self, out: &mut String, depth: usize) {
        match self {
            Self::List(_) | Self::Map(_) if !self.is_empty() => {
                out.push('\n');
                self.write(out, depth);
            }
            plain => {
                let _ = writeln!(out, " {}", plain.inline());
            }
        }
    }

    /// Writes what stands behind a dash: a map begins on the same line.
    fn write_item(&self, out: &mut String, depth: usize) {
        if matches!(self, Self::Map(_)) && !self.is_empty() {
            let mut inner = String::new();
            self.write(&mut inner, depth);
            let _ = write!(out, " {}", inner.trim_start());
        } else {
            self.write_after(out, depth);
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Map(items) => items.is_empty(),
            _ => false,
        }
    }

    fn inline(&self) -> String {
        match self {
            Self::Text(text) => scalar(text),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::List(_) => "[]".into(),
            Self::Map(_) => "{}".into(),
        }
    }
}

/// Writes a text: bare where it is a plain word, else between double quotes.
fn scalar(text: &str) -> String {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let plain = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase()) && text.bytes().all(word);
    if plain && !WORDS.contains(&text) { text.to_owned() } else { quoted(text) }
}

/// Writes a text between double quotes, on one line (YAML 1.2, section 5.7; the escapes are those of YAML 1.1, too).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // What a reader folds, drops or refuses: controls, line ends of Unicode, marks, and what is no character.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Returns a text that compose reads as it is: it puts variables in for a single `$`.
#[must_use]
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::problem::Source;
    use crate::model::yaml;

    #[test]
    fn a_document_is_indented_and_quoted_where_it_must() {
        let node = Node::map([
            ("name", Some(Node::Text("db".into()))),
            ("absent", None),
            ("no", Some(Node::Text("no".into()))),
            ("time", Some(Node::Text("12:30".into()))),
            ("number", Some(Node::Number(3))),
            ("empty", Some(Node::Map(Vec::new()))),
            (
                "list",
                Some(Node::List(vec![
                    Node::map([("a", Some(Node::Truth(true))), ("b", Node::texts(["x", ""]))]),
                    Node::Text("- a".into()),
                ])),
            ),
        ]);
        let expected = "name: db\n\"no\": \"no\"\ntime: \"12:30\"\nnumber: 3\nempty: {}\nlist:\n  - a: true\n    b:\n      - x\n      - \"\"\n  - \"- a\"\n";
        assert_eq!(node.render(), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(texts in proptest::collection::btree_map("\\PC{1,12}", "[\\PC\\n\\t\u{85}\u{2028}\u{feff}]{0,12}", 1..6)) {
            let node = Node::Map(texts.iter().map(|(key, value)| (key.clone(), Node::Text(value.clone()))).collect());
            let source = Source::new("x", &node.render());
            // The strict reader of project files refuses characters that nobody sees; this is about what it takes.
            let read: Result<BTreeMap<String, String>, _> = yaml::parse(&source);
            if let Ok(read) = read {
                prop_assert_eq!(read, texts);
            } else {
                prop_assert!(source.text.chars().any(|character| crate::model::problem::shown(&character.to_string()) != character.to_string() && character != '\n'));
            }
        }
    }
}
