//! The numbers of releases: `X.Y.Z`, its candidates `X.Y.Z-rc.N` before it, and its security rebuilds `X.Y.Z-sec.N` after it.
//!
//! The form is Semantic Versioning's; the order is not. There, whatever follows a hyphen comes before the release, but a rebuild with
//! security fixes is newer than the release it rebuilds. So the grammar is closed: nothing else may follow the hyphen.

use std::fmt;
use std::str::FromStr;

/// What a number stands for beside `X.Y.Z`; the order of the variants is that of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// `-rc.N`: to be tried before it becomes a release.
    Candidate(u32),
    Release,
    /// `-sec.N`: the release, with security fixes of packages and nothing else.
    Security(u32),
}

/// The number of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
    pub stage: Stage,
}

/// A text that is not the number of a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the number of a release: {problem}")]
pub struct InvalidNumber {
    text: String,
    problem: &'static str,
}

impl InvalidNumber {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "three numbers, such as `1.4.0`; `1.4.0-rc.1` for a candidate, `1.4.0-sec.1` for a security rebuild"
    }
}

impl Number {
    /// Returns the number of the release that this belongs to: that which a candidate becomes, or that which a rebuild is of.
    #[must_use]
    pub const fn release(self) -> Self {
        Self { stage: Stage::Release, ..self }
    }

    /// Returns whether this is one to be tried first.
    #[must_use]
    pub const fn is_candidate(self) -> bool {
        matches!(self.stage, Stage::Candidate(_))
    }

    /// Returns the number of the next security rebuild.
    #[must_use]
    pub const fn next_rebuild(self) -> Self {
        let count = if let Stage::Security(count) = self.stage { count } else { 0 };
        Self { stage: Stage::Security(count.saturating_add(1)), ..self }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match self.stage {
            Stage::Candidate(count) => write!(formatter, "-rc.{count}"),
            Stage::Release => Ok(()),
            Stage::Security(count) => write!(formatter, "-sec.{count}"),
        }
    }
}

impl FromStr for Number {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        let wrong = |problem| InvalidNumber { text: text.chars().take(80).flat_map(char::escape_debug).collect(), problem };
        let number = |part: &str| {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong("its parts are digits"));
            }
            if part.len() > 1 && part.starts_with('0') {
                return Err(wrong("a part begins with `0`"));
            }
            part.parse().map_err(|_| wrong("a part is too large"))
        };
        let (release, after) = text.split_once('-').map_or((text, None), |(release, after)| (release, Some(after)));
        let parts: Vec<&str> = release.split('.').collect();
        let [major, minor, patch] = parts[..] else { return Err(wrong("it does not have three parts")) };
        let stage = match after.map(|after| after.split_once('.')) {
            None => Stage::Release,
            Some(Some(("rc", count))) => Stage::Candidate(number(count)?),
            Some(Some(("sec", count))) => Stage::Security(number(count)?),
            Some(_) => return Err(wrong("only `-rc.N` and `-sec.N` may follow")),
        };
        if let Stage::Candidate(0) | Stage::Security(0) = stage {
            return Err(wrong("candidates and rebuilds are counted from 1"));
        }
        Ok(Self { major: number(major)?, minor: number(minor)?, patch: number(patch)?, stage })
    }
}

impl serde::Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn candidates_come_before_their_release_and_rebuilds_after_it() {
        let sorted = [
            "1.4.0-rc.1",
            "1.4.0-rc.2",
            "1.4.0-rc.10",
            "1.4.0",
            "1.4.0-sec.1",
            "1.4.0-sec.2",
            "1.4.1-rc.1",
            "1.4.1",
            "1.10.0",
            "2.0.0",
        ];
        for pair in sorted.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{} is not before {}", pair[0], pair[1]);
        }
        for text in sorted {
            assert_eq!(number(text).to_string(), text);
        }
    }

    #[test]
    fn a_rebuild_is_counted_on() {
        assert_eq!(number("1.4.0").next_rebuild(), number("1.4.0-sec.1"));
        assert_eq!(number("1.4.0-sec.9").next_rebuild(), number("1.4.0-sec.10"));
        assert_eq!(number("1.4.0-sec.9").release(), number("1.4.0"));
    }

    #[test]
    fn whatever_else_is_refused_with_the_reason() {
        for (text, problem) in [
            ("", "three parts"),
            ("1.4", "three parts"),
            ("1.4.0.1", "three parts"),
            ("v1.4.0", "are digits"),
            ("1..0", "are digits"),
            ("1.+4.0", "are digits"),
            ("01.4.0", "begins with `0`"),
            ("1.4.4294967296", "too large"),
            ("1.4.0-beta", "only `-rc.N`"),
            ("1.4.0-rc", "only `-rc.N`"),
            ("1.4.0-rc.", "are digits"),
            ("1.4.0-rc.0", "from 1"),
            ("1.4.0-rc.1-sec.1", "are digits"),
            ("1.4.0+build", "are digits"),
            ("1.4.0\u{1b}", "are digits"),
        ] {
            let error = text.parse::<Number>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(!error.contains('\u{1b}'));
        }
    }
}
