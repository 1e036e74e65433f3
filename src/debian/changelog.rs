//! What a package's own changelog says (Debian Policy, section 4.4; deb-changelog(5)): versions, urgency, and the holes that were closed.
//!
//! The newest entry must be well-formed. Real changelogs go back thirty years, so what comes later is read as far as it can be:
//! at the first line that has no meaning the reading ends, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use super::package::{self, DataEntry, DataKind, PackageError, PackageVisitor};
use super::version::Version;
use crate::model::lock::LockedPackage;
use crate::model::name::PackageName;
use crate::model::tree::{TreePath, escape};

/// Bytes of a changelog as it stands in a package, at most; that of Linux has 2 MB.
pub const PACKED_LIMIT: u64 = 16 << 20;
/// Bytes of an unpacked changelog, at most.
const LIMIT: u64 = 64 << 20;
/// Entries of a changelog, at most; the longest known has some 2,000.
const MOST_ENTRIES: usize = 20_000;
/// Identifiers of one entry, at most: Linux names some 2,000 at once.
const MOST_IDENTIFIERS: usize = 20_000;

/// How soon an upload should be installed, as its maker thinks; the most urgent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// Another word than those that policy has.
    #[default]
    Unknown,
    Low,
    Medium,
    High,
    Emergency,
    Critical,
}

impl Urgency {
    /// Returns the word as changelogs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Emergency => "emergency",
            Self::Critical => "critical",
        }
    }

    /// Reads the word; a comment may follow it.
    fn read(text: &str) -> Self {
        let word = text.split_whitespace().next().unwrap_or_default();
        let all = [Self::Low, Self::Medium, Self::High, Self::Emergency, Self::Critical];
        all.into_iter().find(|urgency| urgency.word().eq_ignore_ascii_case(word)).unwrap_or_default()
    }
}

/// Which list an identifier is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registry {
    /// Common Vulnerabilities and Exposures: `CVE-2024-12345`.
    Cve,
    /// Debian security advisories: `DSA-5765-1`.
    Dsa,
    /// Advisories of Debian's long-term support: `DLA-3900-1`.
    Dla,
}

impl Registry {
    const ALL: [Self; 3] = [Self::Cve, Self::Dsa, Self::Dla];

    const fn word(self) -> &'static str {
        match self {
            Self::Cve => "CVE",
            Self::Dsa => "DSA",
            Self::Dla => "DLA",
        }
    }
}

/// The name of a hole or of an advisory. The order is that of years and numbers, not of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advisory {
    pub registry: Registry,
    /// The year of a CVE, the number of an advisory.
    first: u32,
    /// The number of a CVE; the revision of an advisory, or nothing where it is named without one.
    second: Option<u64>,
}

/// A text that names no hole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names neither a hole nor an advisory")]
pub struct InvalidAdvisory(String);

impl Advisory {
    /// Returns whether one name stands for what another does: an advisory without revision stands for all its revisions.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (self.registry, self.first) == (other.registry, other.first)
            && (self.second == other.second || self.registry != Registry::Cve && self.second.is_none())
    }

    /// Reads the name that a text begins with, and returns it with its length.
    fn leading(text: &str) -> Option<(Self, usize)> {
        let registry = Registry::ALL
            .into_iter()
            .find(|registry| text.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(registry.word())))?;
        let rest = text[3..].strip_prefix('-')?;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let length = digits(rest);
        let (first, rest) = rest.split_at(length);
        let second = rest.strip_prefix('-').map(|rest| (digits(rest), rest)).filter(|(length, _)| *length > 0);
        match registry {
            Registry::Cve => {
                let (more, rest) = second.filter(|(more, _)| length == 4 && (4..=12).contains(more))?;
                let name = Self { registry, first: first.parse().ok()?, second: Some(rest[..more].parse().ok()?) };
                Some((name, 3 + 1 + length + 1 + more))
            }
            Registry::Dsa | Registry::Dla => {
                if !(1..=6).contains(&length) {
                    return None;
                }
                let second = second.filter(|(more, _)| *more <= 4);
                let number = second.and_then(|(more, rest)| rest[..more].parse().ok());
                Some((
                    Self { registry, first: first.parse().ok()?, second: number },
                    4 + length + second.map_or(0, |(more, _)| 1 + more),
                ))
            }
        }
    }

    /// Returns all names in a text, each once, in their order.
    #[must_use]
    pub fn all(text: &str) -> BTreeSet<Self> {
        let mut found = BTreeSet::new();
        let mut at = 0;
        while let Some(start) = text[at..].find(['C', 'c', 'D', 'd']).map(|start| at + start) {
            let within = text[..start].chars().next_back().is_some_and(char::is_alphanumeric);
            at = start + 1;
            if let Some((name, length)) = Self::leading(&text[start..]).filter(|_| !within && found.len() < MOST_IDENTIFIERS) {
                found.insert(name);
                at = start + length;
            }
        }
        found
    }
}

impl FromStr for Advisory {
    type Err = InvalidAdvisory;

    fn from_str(text: &str) -> Result<Self, InvalidAdvisory> {
        let read = Self::leading(text).filter(|(_, length)| *length == text.len());
        read.map(|(name, _)| name).ok_or_else(|| InvalidAdvisory(text.chars().take(80).flat_map(char::escape_debug).collect()))
    }
}

impl fmt::Display for Advisory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.registry.word();
        match (self.registry, self.second) {
            (Registry::Cve, number) => write!(formatter, "{word}-{:04}-{:04}", self.first, number.unwrap_or_default()),
            (_, Some(revision)) => write!(formatter, "{word}-{}-{revision}", self.first),
            (_, None) => write!(formatter, "{word}-{}", self.first),
        }
    }
}

/// One upload, as the changelog tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The source package; some were renamed along the way.
    pub source: PackageName,
    pub version: Version,
    /// Where it was uploaded to: `trixie-security`, `unstable`.
    pub distributions: Vec<String>,
    pub urgency: Urgency,
    /// The same source, built once more.
    pub binary_only: bool,
    /// What was changed, as it was written, without the lines around it.
    pub text: String,
    /// Who uploaded it, and when, as it was written.
    pub signed: String,
}

impl Entry {
    /// Returns the holes and advisories that the entry names.
    #[must_use]
    pub fn advisories(&self) -> BTreeSet<Advisory> {
        Advisory::all(&self.text)
    }
}

/// A changelog that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangelogError {
    #[error("line {line} {reason}: `{found}`")]
    Line { line: usize, reason: &'static str, found: String },
    #[error("it says nothing")]
    Empty,
    #[error("it holds more than {LIMIT} bytes or {MOST_ENTRIES} entries")]
    TooLarge,
    #[error("it cannot be unpacked: {0}")]
    Packed(String),
}

/// A changelog, the newest entry first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changelog {
    /// At least one.
    pub entries: Vec<Entry>,
    /// Whether it was read to its end, and nothing said that older entries were left out.
    pub whole: bool,
}

impl Changelog {
    /// Reads a changelog.
    ///
    /// # Errors
    /// Refuses one whose newest entry breaks the rules.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChangelogError> {
        if bytes.len() as u64 > LIMIT {
            return Err(ChangelogError::TooLarge);
        }
        // Entries from before 2005 are in the encoding of their makers.
        let text = String::from_utf8_lossy(bytes);
        let mut changelog = Self { entries: Vec::new(), whole: true };
        let mut open: Option<Entry> = None;
        for (index, line) in text.lines().enumerate() {
            let refused = match take_line(line, &mut open) {
                Ok(None) => continue,
                Ok(Some(entry)) if changelog.entries.len() < MOST_ENTRIES => {
                    changelog.entries.push(entry);
                    continue;
                }
                Ok(Some(_)) => return Err(ChangelogError::TooLarge),
                Err(reason) => reason,
            };
            if !changelog.entries.is_empty() {
                changelog.whole = false;
                return Ok(changelog);
            }
            let found = escape(&line.as_bytes()[..line.len().min(80)]).replace("\\x20", " ");
            return Err(ChangelogError::Line { line: index + 1, reason: refused, found });
        }
        if changelog.entries.is_empty() {
            let line = text.lines().count();
            let unfinished =
                ChangelogError::Line { line, reason: "is the last, and nobody signed the entry", found: String::new() };
            return Err(if open.is_some() { unfinished } else { ChangelogError::Empty });
        }
        changelog.whole &= open.is_none() && !text.contains("\n# Older entries have been removed");
        Ok(changelog)
    }

    /// Unpacks and reads a changelog as it stands in a package.
    ///
    /// # Errors
    /// Refuses damaged ones, and those that are too large.
    pub fn unpack(packed: &[u8]) -> Result<Self, ChangelogError> {
        if !packed.starts_with(&[0x1f, 0x8b]) {
            return Self::parse(packed);
        }
        let mut bytes = Vec::new();
        let mut unpacked = flate2::read::MultiGzDecoder::new(packed).take(LIMIT + 1);
        unpacked.read_to_end(&mut bytes).map_err(|error| ChangelogError::Packed(error.to_string()))?;
        Self::parse(&bytes)
    }

    /// Returns the entries of a source package that are newer than one version and not newer than another.
    pub fn between<'a>(
        &'a self,
        source: &'a PackageName,
        older: &'a Version,
        newer: &'a Version,
    ) -> impl Iterator<Item = &'a Entry> {
        // Before a package got its name, versions may have counted otherwise.
        self.entries.iter().filter(move |entry| entry.source == *source && entry.version > *older && entry.version <= *newer)
    }
}

/// Takes in a line; returns the entry that it ends.
fn take_line(line: &str, open: &mut Option<Entry>) -> Result<Option<Entry>, &'static str> {
    let bare = line.trim_end();
    match (bare.as_bytes().first(), &mut *open) {
        (None, Some(entry)) => entry.text.push('\n'),
        (None, None) => {}
        _ if bare.starts_with(" -- ") => {
            let mut entry = open.take().ok_or("signs an entry that has no heading")?;
            bare[4..].rfind("> ").ok_or("is no signature: `Name <address>  date` is missing")?;
            bare[4..].trim().clone_into(&mut entry.signed);
            entry.text.truncate(entry.text.trim_end().len());
            let blank = entry.text.len() - entry.text.trim_start_matches('\n').len();
            entry.text.drain(..blank);
            return Ok(Some(entry));
        }
        (Some(b' ' | b'\t'), Some(entry)) => {
            entry.text.push_str(bare);
            entry.text.push('\n');
        }
        // What editors, tools and thirty years left behind.
        (Some(b'#' | b'$' | b'/' | b';'), None) => {}
        (Some(_), None) => *open = Some(heading(bare)?),
        (Some(_), Some(_)) => return Err("begins an entry before the one above is signed"),
    }
    Ok(None)
}

/// Reads `source (version) distributions; key=value, …`.
fn heading(line: &str) -> Result<Entry, &'static str> {
    const REASON: &str = "is no heading of an entry, such as `package (1.0-1) unstable; urgency=medium`";
    let (source, rest) = line.split_once(" (").ok_or(REASON)?;
    let (version, rest) = rest.split_once(')').ok_or(REASON)?;
    let (distributions, settings) = rest.split_once(';').ok_or(REASON)?;
    let distributions: Vec<String> = distributions.split_whitespace().map(str::to_owned).collect();
    let plain = |word: &String| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'));
    if distributions.is_empty() || !distributions.iter().all(plain) {
        return Err(REASON);
    }
    let settings: BTreeMap<String, &str> = settings
        .split(',')
        .filter_map(|setting| setting.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim()))
        .collect();
    Ok(Entry {
        source: source.parse().map_err(|_| REASON)?,
        version: version.parse().map_err(|_| REASON)?,
        distributions,
        urgency: settings.get("urgency").map_or(Urgency::Unknown, |word| Urgency::read(word)),
        binary_only: settings.get("binary-only").is_some_and(|word| word.eq_ignore_ascii_case("yes")),
        text: String::new(),
        signed: String::new(),
    })
}

/// Where a package's changelogs may stand, the best first: those of a rebuild come before those of the source.
#[must_use]
pub fn paths(package: &LockedPackage) -> Vec<String> {
    let folder = format!("usr/share/doc/{}", package.name);
    let names = [format!("changelog.Debian.{}.gz", package.architecture), "changelog.Debian.gz".into(), "changelog.gz".into()];
    let plain = ["changelog.Debian".to_owned(), "changelog".to_owned()];
    names.into_iter().chain(plain).map(|name| format!("{folder}/{name}")).collect()
}

/// What a package has of changelogs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The changelog, with the entries of a rebuild before those of the source.
    Here(Changelog),
    /// Another package of the same source has it.
    With(PackageName),
    /// There is none that can be read.
    Nothing,
}

/// Puts together what stands under the paths of [`paths`]: the contents of files, in their order.
///
/// The first file that can be read is the changelog; where that is one of a rebuild, the one of the source is added. A native
/// package has only `changelog.gz`, which in others is what the makers of the program wrote: such a one is no changelog of Debian's and cannot be read.
#[must_use]
pub fn together(packed: &[Option<Vec<u8>>]) -> Option<Changelog> {
    let mut read = packed.iter().flatten().filter_map(|bytes| Changelog::unpack(bytes).ok());
    let mut first = read.next()?;
    if first.entries.iter().all(|entry| entry.binary_only)
        && let Some(source) = read.next()
    {
        first.entries.extend(source.entries);
        first.whole = source.whole;
    }
    Some(first)
}

/// Returns the package whose documentation a link at `usr/share/doc/NAME` shows.
#[must_use]
pub fn linked(target: &[u8]) -> Option<PackageName> {
    let name = target.strip_prefix(b"/usr/share/doc/").unwrap_or(target);
    std::str::from_utf8(name).ok()?.trim_end_matches('/').trim_start_matches("./").parse().ok()
}

/// Reads a package's changelog from its .deb.
///
/// # Errors
/// Where the file is no package, or another than the one that is expected.
pub fn of_package<R: Read>(deb: R, expect: &LockedPackage) -> Result<Found, PackageError> {
    let paths = paths(expect);
    let mut search =
        Search { folder: format!("usr/share/doc/{}", expect.name), found: vec![None; paths.len()], paths, link: None };
    package::read_package(deb, expect, &package::Limits::default(), &mut search)?;
    Ok(match (together(&search.found), search.link) {
        (Some(changelog), _) => Found::Here(changelog),
        (None, Some(other)) => Found::With(other),
        (None, None) => Found::Nothing,
    })
}

struct Search {
    folder: String,
    paths: Vec<String>,
    found: Vec<Option<Vec<u8>>>,
    link: Option<PackageName>,
}

impl PackageVisitor for Search {
    fn control(&mut self, _: &package::ControlFiles) -> io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, path: TreePath, entry: DataEntry, content: &mut dyn Read) -> io::Result<()> {
        if let DataKind::Symlink { target } = &entry.kind
            && path.as_bytes() == self.folder.as_bytes()
        {
            self.link = linked(target);
        }
        let place = self.paths.iter().position(|wanted| wanted.as_bytes() == path.as_bytes());
        match (place, entry.kind) {
            (Some(place), DataKind::File { size }) if size <= PACKED_LIMIT => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                self.found[place] = Some(bytes);
            }
            _ => drop(io::copy(content, &mut io::sink())?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "openssl (3.5.1-1+deb13u1) trixie-security; urgency=HIGH (a comment), binary-only=no

  * CVE-2025-9230 (Out-of-bounds read & write), cve-2025-123456
    (see DSA-6015-1)

 -- A Maintainer <a@example.org>  Tue, 30 Sep 2025 12:00:00 +0200

openssl (3.5.1-1) unstable; urgency=medium

  * New upstream version. Not CVE-99-1, xCVE-2025-0001 or CVE-2025-1.

 -- B Maintainer <b@example.org>  Tue, 01 Jul 2025 12:00:00 +0200

# Older entries have been removed from this changelog.
";

    fn names(text: &str) -> Vec<String> {
        Advisory::all(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn entries_say_version_urgency_and_what_they_close() {
        let read = Changelog::parse(SAMPLE.as_bytes()).unwrap();
        assert!(!read.whole, "older entries are missing");
        let [new, old] = &read.entries[..] else { panic!("{read:?}") };
        assert_eq!((new.source.as_str(), new.version.as_str(), new.urgency), ("openssl", "3.5.1-1+deb13u1", Urgency::High));
        assert_eq!(new.distributions, ["trixie-security"]);
        assert!(new.text.starts_with("  * CVE-2025-9230") && new.text.ends_with("DSA-6015-1)"), "{:?}", new.text);
        assert_eq!(new.signed, "A Maintainer <a@example.org>  Tue, 30 Sep 2025 12:00:00 +0200");
        assert_eq!(names(&new.text), ["CVE-2025-9230", "CVE-2025-123456", "DSA-6015-1"]);
        assert_eq!((old.urgency, names(&old.text)), (Urgency::Medium, Vec::new()));
    }

    #[test]
    fn entries_between_two_versions_are_those_of_the_same_source() {
        let text = SAMPLE.replace("# Older", "ssleay (9:9-1) unstable; urgency=low\n\n  * Old.\n\n -- C <c@x>  date\n# Older");
        let read = Changelog::parse(text.as_bytes()).unwrap();
        assert_eq!(read.entries.len(), 3);
        let source: PackageName = "openssl".parse().unwrap();
        let count = |older: &str, newer: &str| read.between(&source, &older.parse().unwrap(), &newer.parse().unwrap()).count();
        assert_eq!(count("3.5.1-1", "3.5.1-1+deb13u1"), 1);
        assert_eq!(count("3.5.1-1+deb13u1", "3.5.1-1+deb13u1"), 0);
        assert_eq!(count("3.0", "9:99"), 2);
    }

    #[test]
    fn the_newest_entry_must_be_well_formed_and_older_ones_end_the_reading() {
        for (broken, words) in [
            ("openssl 3.5 unstable; urgency=low\n", "line 1 is no heading"),
            ("openssl (1:) unstable; urgency=low\n", "line 1 is no heading"),
            ("openssl (1) un\u{7}stable; urgency=low\n", "line 1 is no heading"),
            ("openssl (1) unstable; urgency=low\n\n  * x\n -- nobody\n", "line 4 is no signature"),
            ("openssl (1) unstable; urgency=low\n\n  * x\n", "line 3 is the last"),
            ("openssl (1) unstable; urgency=low\nopenssl (0) unstable; urgency=low\n", "line 2 begins an entry"),
            (" -- A <a@x>  date\n", "line 1 signs an entry"),
            ("\n\n", "it says nothing"),
        ] {
            let error = Changelog::parse(broken.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(words), "{broken}: {error}");
        }
        let old = format!("{SAMPLE}\nWed Jan  3 1996  Somebody\n\n  * the first release\n");
        let read = Changelog::parse(old.as_bytes()).unwrap();
        assert_eq!((read.entries.len(), read.whole), (2, false));
        let latin = SAMPLE.replace("B Maintainer", "J\u{f6}rg").into_bytes();
        assert_eq!(Changelog::parse(&latin).unwrap().entries.len(), 2);
    }

    #[test]
    fn a_packed_changelog_that_is_damaged_or_endless_is_refused() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(SAMPLE.as_bytes()).unwrap();
        let packed = gzip.finish().unwrap();
        assert_eq!(Changelog::unpack(&packed).unwrap().entries.len(), 2);
        assert!(matches!(Changelog::unpack(&packed[..packed.len() / 2]), Err(ChangelogError::Packed(_))));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut io::repeat(b'\n').take(LIMIT + 10), &mut gzip).unwrap();
        assert_eq!(Changelog::unpack(&gzip.finish().unwrap()), Err(ChangelogError::TooLarge));
    }

    #[test]
    fn an_advisory_without_revision_stands_for_all_of_them() {
        let name = |text: &str| text.parse::<Advisory>().unwrap();
        assert!(name("dsa-6015").covers(&name("DSA-6015-2")));
        assert!(!name("DSA-6015-1").covers(&name("DSA-6015-2")) && !name("DSA-6015-1").covers(&name("DLA-6015-1")));
        assert!(name("CVE-2025-0001").covers(&name("cve-2025-0001")));
        for text in ["CVE-2025", "CVE-2025-1", "CVE-2025-0001 ", "DSA", "DSA-", "USN-1-1", "", "CVE-2025-0001\n"] {
            assert!(text.parse::<Advisory>().is_err(), "{text}");
        }
        assert!(name("CVE-2025-9999") < name("CVE-2025-10000"));
    }

    #[test]
    fn a_rebuild_stands_before_its_source_and_a_foreign_changelog_is_none() {
        let rebuild = "openssl (3.5.1-1+b1) sid; urgency=low, binary-only=yes\n\n  * Rebuild.\n\n -- B <b@x>  date\n";
        let packed = |text: &str| Some(text.as_bytes().to_vec());
        let read = together(&[packed(rebuild), packed(SAMPLE), None]).unwrap();
        assert_eq!((read.entries.len(), read.entries[0].binary_only, read.whole), (3, true, false));
        assert_eq!(together(&[None, None, packed("Changes in 3.5.1\n=====\n")]), None);
        assert_eq!(linked(b"libssl3t64").unwrap().as_str(), "libssl3t64");
        assert_eq!(linked(b"/usr/share/doc/openssl/").unwrap().as_str(), "openssl");
        assert_eq!(linked(b"../../evil"), None);
    }
}
