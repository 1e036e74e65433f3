//! Licences as SPDX has them: expressions of identifiers, and texts of what has no identifier (SPDX 2.3, annexes A, D and E).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::digest::FileDigest;

/// Bytes of an expression that is read at most.
const LONGEST: usize = 4096;
/// How deep parentheses may stand in each other.
const DEEPEST: usize = 16;

/// The terms under which something may be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Licence {
    /// An identifier of the SPDX list, with an exception or not; or the reference to a text.
    Term(String),
    /// All of these hold.
    All(BTreeSet<Licence>),
    /// One of these may be chosen.
    Any(BTreeSet<Licence>),
}

impl Licence {
    /// Returns the licence under which all of these hold; nothing where there are none.
    #[must_use]
    pub fn all(licences: impl IntoIterator<Item = Self>) -> Option<Self> {
        let each = licences.into_iter().flat_map(|licence| match licence {
            Self::All(inner) => inner,
            other => BTreeSet::from([other]),
        });
        Self::one_or(each.collect(), Self::All)
    }

    /// Returns the licence under which one of these may be chosen; nothing where there are none.
    #[must_use]
    pub fn any(licences: impl IntoIterator<Item = Self>) -> Option<Self> {
        let each = licences.into_iter().flat_map(|licence| match licence {
            Self::Any(inner) => inner,
            other => BTreeSet::from([other]),
        });
        Self::one_or(each.collect(), Self::Any)
    }

    fn one_or(mut licences: BTreeSet<Self>, many: fn(BTreeSet<Self>) -> Self) -> Option<Self> {
        match licences.len() {
            0 => None,
            1 => licences.pop_first(),
            _ => Some(many(licences)),
        }
    }

    /// Returns the references to texts in it.
    #[must_use]
    pub fn references(&self) -> BTreeSet<&str> {
        match self {
            Self::Term(term) if term.starts_with("LicenseRef-") => BTreeSet::from([term.as_str()]),
            Self::Term(_) => BTreeSet::new(),
            Self::All(inner) | Self::Any(inner) => inner.iter().flat_map(Self::references).collect(),
        }
    }
}

impl fmt::Display for Licence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inner, word) = match self {
            Self::Term(term) => return formatter.write_str(term),
            Self::All(inner) => (inner, " AND "),
            Self::Any(inner) => (inner, " OR "),
        };
        for (index, licence) in inner.iter().enumerate() {
            if index > 0 {
                formatter.write_str(word)?;
            }
            match licence {
                Self::Term(term) => formatter.write_str(term)?,
                nested => write!(formatter, "({nested})")?,
            }
        }
        Ok(())
    }
}

/// A licence that the SPDX list does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenceText {
    /// What its users call it.
    pub name: String,
    pub text: String,
}

/// Licence texts by the reference that stands in expressions.
pub type LicenceTexts = BTreeMap<String, LicenceText>;

/// Returns the term that stands for a text, and remembers that. The same name and text always give the same reference.
pub fn refer(texts: &mut LicenceTexts, of: &str, name: &str, text: &str) -> Licence {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(60).collect();
    let digest = FileDigest::of(format!("{name}\n{text}").as_bytes()).hex();
    let reference = format!("LicenseRef-{of}-{plain}-{}", &digest[..8]);
    texts.insert(reference.clone(), LicenceText { name: name.to_owned(), text: text.to_owned() });
    Licence::Term(reference)
}

/// The version of the SPDX list that identifiers are taken from, as `3.29`.
#[must_use]
pub fn list_version() -> String {
    spdx::license_version().split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Returns the SPDX identifier that a name stands for, in whatever case it is written.
///
/// Names of the GNU licences are also read as Debian (`GPL-2+`) and older SPDX lists (`GPL-2.0`) write them.
#[must_use]
pub fn identifier(name: &str) -> Option<String> {
    if let Some(gnu) = gnu(name) {
        return Some(gnu);
    }
    // The list calls one certain licence by the name of a company that has published under many.
    if matches!(name, "NONE" | "NOASSERTION" | "Intel") {
        return None;
    }
    let known = spdx::identifiers::LICENSES.iter().find(|licence| licence.name.eq_ignore_ascii_case(name));
    known.filter(|licence| !matches!(licence.name, "NONE" | "NOASSERTION")).map(|licence| licence.name.to_owned())
}

/// Returns the identifier of a GNU licence: family, version, and whether later versions will do.
fn gnu(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let (family, rest) = ["AGPL", "LGPL", "GPL", "GFDL-NIV", "GFDL"]
        .iter()
        .find_map(|family| Some((*family, name.strip_prefix(family)?.strip_prefix('-')?)))?;
    let suffixes = [("+", "or-later"), ("-OR-LATER", "or-later"), ("-ONLY", "only")];
    let (version, suffix) =
        suffixes.iter().find_map(|(text, suffix)| Some((rest.strip_suffix(text)?, *suffix))).unwrap_or((rest, "only"));
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let known = match family {
        "GFDL-NIV" => format!("GFDL-{version}-no-invariants-{suffix}"),
        _ => format!("{family}-{version}-{suffix}"),
    };
    spdx::license_id(&known).map(|licence| licence.name.to_owned())
}

/// Returns the SPDX identifier of an exception to a licence, from the words after `with`.
///
/// Only where these words can mean no more than one of the list's texts.
#[must_use]
pub fn exception(licence: &str, words: &str) -> Option<&'static str> {
    if let Some(known) = spdx::identifiers::EXCEPTIONS.iter().find(|known| known.name.eq_ignore_ascii_case(words)) {
        return Some(known.name);
    }
    let words = words.to_ascii_lowercase();
    let words = words.trim_end_matches("exceptions").trim_end_matches("exception").trim_end_matches([' ', '-']);
    let later = licence.starts_with("GPL-3.0");
    Some(match words {
        "libtool" if licence.starts_with("GPL-2.0") => "Libtool-exception",
        "bison" if later => "Bison-exception-2.2",
        "gcc runtime library" | "gcc-runtime-library" if later => "GCC-exception-3.1",
        "llvm" if licence == "Apache-2.0" => "LLVM-exception",
        "linux-syscall-note" if licence.starts_with("GPL-2.0") => "Linux-syscall-note",
        "classpath" if licence.starts_with("GPL-2.0") => "Classpath-exception-2.0",
        _ => return None,
    })
}

/// Reads an expression: names joined by `and` and `or`, `with` an exception, in parentheses.
///
/// `and` binds closer than `or`; after a comma either binds loosest (Debian's copyright-format 1.0, licence syntax). What a name
/// stands for is asked of `term`, with the words after `with` where there are any. Nothing where it is no such expression.
pub fn parse(text: &str, term: &mut dyn FnMut(&str, Option<&str>) -> Licence) -> Option<Licence> {
    if text.len() > LONGEST {
        return None;
    }
    let spaced = text.replace(',', " , ").replace('(', " ( ").replace(')', " ) ");
    let mut parser = Parser { words: spaced.split_ascii_whitespace().collect(), at: 0, depth: 0, term };
    let licence = parser.expression()?;
    parser.peek().is_none().then_some(licence)
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    depth: usize,
    term: &'a mut dyn FnMut(&str, Option<&str>) -> Licence,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn expression(&mut self) -> Option<Licence> {
        let mut licence = self.choice()?;
        while self.take(",") {
            licence = if self.take("and") {
                Licence::all([licence, self.choice()?])?
            } else if self.take("or") {
                Licence::any([licence, self.choice()?])?
            } else {
                return None;
            };
        }
        Some(licence)
    }

    fn choice(&mut self) -> Option<Licence> {
        let mut licences = vec![self.conjunction()?];
        while self.take("or") {
            licences.push(self.conjunction()?);
        }
        Licence::any(licences)
    }

    fn conjunction(&mut self) -> Option<Licence> {
        let mut licences = vec![self.single()?];
        while self.take("and") {
            licences.push(self.single()?);
        }
        Licence::all(licences)
    }

    fn single(&mut self) -> Option<Licence> {
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEEPEST {
                return None;
            }
            let licence = self.expression()?;
            self.depth -= 1;
            return self.take(")").then_some(licence);
        }
        let name = self.name()?;
        if !self.take("with") {
            return Some((self.term)(name, None));
        }
        let mut words = vec![self.name()?];
        while let Some(word) = self.name() {
            words.push(word);
        }
        Some((self.term)(name, Some(&words.join(" "))))
    }

    fn name(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        let joins = ["and", "or", "with", "and/or", ",", "(", ")"].iter().any(|join| join.eq_ignore_ascii_case(word));
        (!joins).then(|| {
            self.at += 1;
            word
        })
    }
}

/// Returns the licence that names of the SPDX list, or expressions of them, offer for a choice, as Composer has it.
///
/// What the list does not have is referred to by its name alone, as no text is known.
#[must_use]
pub fn choice(names: &[String], of: &str, texts: &mut LicenceTexts) -> Option<Licence> {
    let unknown = |texts: &mut LicenceTexts, name: &str| {
        refer(texts, of, name, &format!("The package names the licence `{name}`; its text is not known here."))
    };
    let mut licences = Vec::new();
    for text in names.iter().filter(|text| !text.trim().is_empty()) {
        let mut found = Vec::new();
        let parsed = parse(text, &mut |name, with| {
            let known = identifier(name);
            let term = match (known, with) {
                (Some(known), None) => Some(known),
                (Some(known), Some(words)) => exception(&known, words).map(|exception| format!("{known} WITH {exception}")),
                (None, _) => None,
            };
            found.push(term.is_some());
            Licence::Term(term.unwrap_or_default())
        });
        licences.push(match parsed {
            Some(licence) if found.iter().all(|found| *found) => licence,
            _ => unknown(texts, text),
        });
    }
    Licence::any(licences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<String> {
        let mut term = |name: &str, with: Option<&str>| {
            Licence::Term(with.map_or_else(|| name.to_owned(), |with| format!("{name} WITH {}", with.replace(' ', "_"))))
        };
        parse(text, &mut term).map(|licence| licence.to_string())
    }

    #[test]
    fn and_binds_closer_than_or_and_a_comma_loosest() {
        for (text, expected) in [
            ("A", "A"),
            ("B or A", "A OR B"),
            ("A or B and C", "A OR (B AND C)"),
            ("A or B, and C", "C AND (A OR B)"),
            ("(A or B) and (C OR D)", "(A OR B) AND (C OR D)"),
            ("A and B, or C", "C OR (A AND B)"),
            ("A with the X exception or B", "A WITH the_X_exception OR B"),
            ("A and A", "A"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_none() {
        for text in ["", "A or", "and B", "A, B and C", "public domain", "A and/or B", "(A", "A)", "A with", "A with and B", "()"]
        {
            assert_eq!(plain(text), None, "{text}");
        }
        assert_eq!(plain(&"(".repeat(2000)), None);
        assert_eq!(plain(&format!("{}A{}", "(".repeat(17), ")".repeat(17))), None);
        assert_eq!(plain(&"A or ".repeat(1000)), None);
    }

    #[test]
    fn names_of_gnu_licences_are_read_as_everybody_writes_them() {
        for (name, expected) in [
            ("GPL-2", "GPL-2.0-only"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("gpl-2.0+", "GPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("LGPL-3.0-or-later", "LGPL-3.0-or-later"),
            ("AGPL-3", "AGPL-3.0-only"),
            ("GFDL-1.3+", "GFDL-1.3-or-later"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
            ("mit", "MIT"),
            ("ZLIB", "Zlib"),
        ] {
            assert_eq!(identifier(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["GPL", "GPL-7", "LGPL", "other", "NOASSERTION", "Intel", "", "GPL-2+-with-x"] {
            assert_eq!(identifier(name), None, "{name}");
        }
    }

    #[test]
    fn an_exception_is_named_only_where_its_text_is_certain() {
        assert_eq!(exception("GPL-3.0-or-later", "Bison exception"), Some("Bison-exception-2.2"));
        assert_eq!(exception("GPL-2.0-or-later", "Bison exception"), None);
        assert_eq!(exception("GPL-3.0-or-later", "Autoconf exception"), None);
        assert_eq!(exception("Apache-2.0", "LLVM-exception"), Some("LLVM-exception"));
    }

    #[test]
    fn composer_offers_a_choice_and_unknown_names_become_references() {
        let mut texts = LicenceTexts::new();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shown = |licence: Option<Licence>| licence.map(|licence| licence.to_string());
        let first = choice(&names(&["GPL-2.0+", "MIT"]), "composer", &mut texts);
        assert_eq!(shown(first).as_deref(), Some("GPL-2.0-or-later OR MIT"));
        let second = choice(&names(&["(LGPL-2.1-only or GPL-3.0-or-later)"]), "composer", &mut texts);
        assert_eq!(shown(second).as_deref(), Some("GPL-3.0-or-later OR LGPL-2.1-only"));
        assert!(texts.is_empty());
        let third = choice(&names(&["proprietary"]), "composer", &mut texts).unwrap();
        assert_eq!(third.references().into_iter().collect::<Vec<_>>(), texts.keys().collect::<Vec<_>>());
        assert!(third.to_string().starts_with("LicenseRef-composer-proprietary-"));
        assert_eq!(choice(&[], "composer", &mut texts), None);
    }
}
