//! Relations between packages: the values of Depends, Conflicts, Provides and their like (Debian Policy, chapter 7).

use std::cmp::Ordering;
use std::fmt;

use super::version::Version;

/// How a version must stand to the one a relation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Earlier,
    AtMost,
    Exactly,
    AtLeast,
    Later,
}

impl Operator {
    /// Returns whether a version stands so to another.
    #[must_use]
    pub fn holds(self, version: &Version, named: &Version) -> bool {
        let order = version.cmp(named);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Exactly => order == Ordering::Equal,
            Self::AtLeast => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        }
    }
}

/// One package that a relation names, with what is said of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    pub name: &'a str,
    /// What stands after a colon: `any`, `native`, or an architecture.
    pub qualifier: Option<&'a str>,
    pub version: Option<(Operator, Version)>,
    /// The architectures in brackets; each with `true` where it is excluded by `!`.
    pub architectures: Vec<(bool, &'a str)>,
    /// The build profiles in angle brackets, as they are written.
    pub profiles: Option<&'a str>,
}

impl Relation<'_> {
    /// Returns whether the relation speaks of this architecture.
    #[must_use]
    pub fn is_for(&self, architecture: &str) -> bool {
        let named = |(_, name): &(bool, &str)| *name == architecture || *name == "any" || *name == "linux-any";
        match self.architectures.first() {
            None => true,
            Some((true, _)) => !self.architectures.iter().any(named),
            Some((false, _)) => self.architectures.iter().any(named),
        }
    }

    /// Returns whether a version is one that the relation asks for.
    #[must_use]
    pub fn accepts(&self, version: &Version) -> bool {
        self.version.as_ref().is_none_or(|(operator, named)| operator.holds(version, named))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(formatter, " ({} {version})", operator.sign())?;
        }
        Ok(())
    }
}

/// A relation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a relation between packages: {rule}")]
pub struct InvalidRelation {
    text: String,
    rule: &'static str,
}

/// Reads a list of relations: parts joined by `,`, each with alternatives joined by `|`.
pub fn parse(text: &str) -> Result<Vec<Vec<Relation<'_>>>, InvalidRelation> {
    let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
    // Policy knows no empty part; a comma at the end was written by enough tools that every reader takes it.
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    parts.into_iter().map(|part| part.split('|').map(|alternative| relation(alternative.trim())).collect()).collect()
}

fn relation(text: &str) -> Result<Relation<'_>, InvalidRelation> {
    let refuse = |rule| InvalidRelation { text: text.chars().take(80).flat_map(char::escape_debug).collect(), rule };
    let end = text.find([' ', '\t', '\n', '(', '[', '<']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let (name, qualifier) = word.split_once(':').map_or((word, None), |(name, qualifier)| (name, Some(qualifier)));
    if !is_name(name) || qualifier.is_some_and(|qualifier| !is_name(qualifier)) {
        return Err(refuse("it begins with the name of a package"));
    }
    let mut relation = Relation { name, qualifier, version: None, architectures: Vec::new(), profiles: None };
    let mut rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or_else(|| refuse("the parenthesis is not closed"))?;
        relation.version = Some(constraint(inside).map_err(refuse)?);
        rest = after.trim_start();
    }
    if let Some(inside) = rest.strip_prefix('[') {
        let (inside, after) = inside.split_once(']').ok_or_else(|| refuse("the bracket is not closed"))?;
        let names = inside.split_ascii_whitespace();
        relation.architectures = names.map(|name| name.strip_prefix('!').map_or((false, name), |name| (true, name))).collect();
        let excluded = relation.architectures.iter().filter(|(excluded, _)| *excluded).count();
        if relation.architectures.is_empty() || (excluded != 0 && excluded != relation.architectures.len()) {
            return Err(refuse("the architectures in brackets are all named or all excluded"));
        }
        rest = after.trim_start();
    }
    if rest.starts_with('<') && rest.ends_with('>') {
        relation.profiles = Some(rest);
    } else if !rest.is_empty() {
        return Err(refuse("something stands after its end"));
    }
    Ok(relation)
}

fn constraint(text: &str) -> Result<(Operator, Version), &'static str> {
    let text = text.trim();
    let end = text.find(|character| !matches!(character, '<' | '>' | '=')).unwrap_or(text.len());
    let (sign, version) = text.split_at(end);
    // `<` and `>` are old spellings that dpkg still reads as `<=` and `>=`.
    let operator = match sign {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::AtMost,
        "=" => Operator::Exactly,
        ">=" | ">" => Operator::AtLeast,
        ">>" => Operator::Later,
        _ => return Err("the version begins with `<<`, `<=`, `=`, `>=` or `>>`"),
    };
    let version = version.trim().parse().map_err(|_| "what stands in parentheses is no version")?;
    Ok((operator, version))
}

/// Returns whether this can be the name of a package; those of virtual packages are less strict than those of real ones.
fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_versions_and_qualifiers_are_read() {
        let parts = parse("libc6 (>= 2.38), debconf (>= 0.5)\n | debconf-2.0, python3:any (>>3~), a [amd64 i386] <!nocheck> <x>")
            .unwrap();
        let shown: Vec<Vec<String>> = parts.iter().map(|part| part.iter().map(ToString::to_string).collect()).collect();
        let expected =
            vec![vec!["libc6 (>= 2.38)"], vec!["debconf (>= 0.5)", "debconf-2.0"], vec!["python3:any (>> 3~)"], vec!["a"]];
        assert_eq!(shown, expected);
        let last = &parts[3][0];
        assert!(last.is_for("i386") && !last.is_for("arm64"));
        assert_eq!(last.profiles, Some("<!nocheck> <x>"));
    }

    #[test]
    fn excluded_architectures_are_the_others() {
        let parts = parse("a [!amd64 !arm64]").unwrap();
        assert!(!parts[0][0].is_for("amd64") && parts[0][0].is_for("i386"));
    }

    #[test]
    fn nothing_is_no_relation_and_a_last_comma_is_passed_over() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("a, b,\n").map(|parts| parts.len()), Ok(2));
    }

    #[test]
    fn the_signs_compare_as_they_say() {
        let accepts = |text: &str, version: &str| parse(text).unwrap()[0][0].accepts(&version.parse().unwrap());
        let table = [
            ("<<", [true, false, false]),
            ("<=", [true, true, false]),
            ("=", [false, true, false]),
            (">=", [false, true, true]),
            (">>", [false, false, true]),
        ];
        for (sign, expected) in table {
            assert_eq!(["1", "2", "3"].map(|version| accepts(&format!("a ({sign} 2)"), version)), expected, "{sign}");
        }
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        let wrong = [
            "a b",
            "a (1)",
            "a (>= 1",
            "a (>= 1:)",
            "a (=> 1)",
            ", a",
            "a,, b",
            "a |",
            "-a",
            "a: (>= 1)",
            "a [amd64",
            "a []",
            "a [!i386 amd64]",
            "a <x",
            "a (>= 1) b",
            "ä",
            "../a",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
