//! The language in which a person is spoken to.

use crate::screen::size;

/// A language that every text for volunteers exists in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    English,
    French,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::French];

    /// Returns the language of a locale's name (`fr_FR.UTF-8`, `fr`), as POSIX writes it; English where it is another.
    #[must_use]
    pub fn of_locale(locale: &str) -> Self {
        let language = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("fr") { Self::French } else { Self::English }
    }

    /// Returns the language's two letters (ISO 639-1).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    /// Returns bytes as people read them: French counts in octets, and has a comma.
    #[must_use]
    pub fn size(self, bytes: u64) -> String {
        let text = size(bytes);
        match self {
            Self::English => text,
            // Neither the number nor its unit stands alone at the end of a line.
            Self::French => text.replace('.', ",").replace('B', "o").replace(' ', "\u{a0}"),
        }
    }

    /// Returns one of two texts.
    #[must_use]
    pub fn choose<T>(self, english: T, french: T) -> T {
        match self {
            Self::English => english,
            Self::French => french,
        }
    }
}

/// Returns a text in the person's language: both stand side by side, so that neither is forgotten.
macro_rules! both {
    ($language:expr, $english:literal, $french:literal $(,)?) => {
        match $language {
            $crate::model::language::Language::English => format!($english),
            $crate::model::language::Language::French => format!($french),
        }
    };
}
pub(crate) use both;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_the_language_has_them() {
        assert_eq!([999, 3_450_000].map(|bytes| Language::French.size(bytes)), ["999\u{a0}o", "3,4\u{a0}Mo"]);
        assert_eq!(Language::English.size(3_450_000), "3.4 MB");
    }

    #[test]
    fn a_locale_names_its_language() {
        for (locale, language) in [
            ("fr_FR.UTF-8", Language::French),
            ("fr", Language::French),
            ("fr@euro", Language::French),
            ("FR-CH", Language::French),
            ("C.UTF-8", Language::English),
            ("POSIX", Language::English),
            ("frr_DE", Language::English),
            ("de_DE", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }
}
