//! What can go wrong, as a person sees it: who must act, what to say, what to do next, and the exit code.

use std::error::Error;
use std::fmt;

/// Who has to act, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer to the question is no: drift, a failed test, a refused signature.
    No,
    /// The command line or the project's files are wrong.
    Project,
    /// The world outside failed: network, disk, kernel, another program.
    World,
    /// parvis itself is wrong.
    Bug,
}

impl Kind {
    /// Returns the exit code of the process: 1, 2, 3 or 101.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Project => 2,
            Self::World => 3,
            Self::Bug => 101,
        }
    }
}

/// An error on its way to a person: one sentence, its causes, at most one hint, and perhaps the place in a file.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    /// A rendered picture of the source line, printed in place of the message when there is one.
    snippet: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
    labels: &'static Labels,
}

/// The words before the sentence, its causes and the hint, in the language of the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels {
    pub error: &'static str,
    pub because: &'static str,
    pub hint: &'static str,
}

impl Labels {
    /// The words of every message that is not for volunteers.
    pub const ENGLISH: Self = Self { error: "error:", because: "because:", hint: "hint:" };
    /// The same in French, as a French reader expects them.
    pub const FRENCH: Self = Self { error: "erreur :", because: "cause :", hint: "conseil :" };
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), snippet: None, hint: None, source: None, labels: &Labels::ENGLISH }
    }

    /// Builds a failure that says "the answer is no" (exit code 1).
    #[must_use]
    pub fn no(message: impl Into<String>) -> Self {
        Self::new(Kind::No, message)
    }

    /// Builds a failure of the command line or of the project's files (exit code 2).
    #[must_use]
    pub fn project(message: impl Into<String>) -> Self {
        Self::new(Kind::Project, message)
    }

    /// Builds a failure of the world outside (exit code 3).
    #[must_use]
    pub fn world(message: impl Into<String>) -> Self {
        Self::new(Kind::World, message)
    }

    /// Builds a failure of parvis itself (exit code 101).
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Adds the next step for the person who reads it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the hint only where there is one.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        if let Some(hint) = hint {
            self.hint = Some(hint.into());
        }
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds a cause only where there is one.
    #[must_use]
    pub fn maybe_because(mut self, source: Option<impl Into<Box<dyn Error + Send + Sync>>>) -> Self {
        if let Some(source) = source {
            self.source = Some(source.into());
        }
        self
    }

    /// Adds a rendered picture of the guilty source line.
    #[must_use]
    pub fn snippet(mut self, snippet: impl Into<String>) -> Self {
        self.snippet = Some(snippet.into());
        self
    }

    /// Sets the words of another language.
    #[must_use]
    pub fn labelled(mut self, labels: &'static Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Returns the words before the sentence, its causes and the hint.
    #[must_use]
    pub const fn labels(&self) -> &'static Labels {
        self.labels
    }

    /// Returns who has to act.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the one sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the next step, if one is known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the rendered picture of the source line, if the failure has a place in a file.
    #[must_use]
    pub fn snippet_text(&self) -> Option<&str> {
        self.snippet.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Kind::No, Kind::Project, Kind::World, Kind::Bug].map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 3, 101]);
    }

    #[test]
    fn a_failure_prints_its_message_and_keeps_its_cause_apart() {
        let failure = Failure::world("cannot read `a`").because("disk gone").hint("plug it in");
        assert_eq!(failure.to_string(), "cannot read `a`");
        assert_eq!(failure.source().map(ToString::to_string).as_deref(), Some("disk gone"));
        assert_eq!(failure.hint_text(), Some("plug it in"));
    }
}
