//! The packages that an archive offers for one architecture: Packages files, read into a compact universe.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use super::control::{ControlError, Paragraph, read_paragraphs};
use super::relation::{self, InvalidRelation, Relation};
use super::release::{Compression, Listed, PackagesFile};
use super::version::Version;
use crate::model::digest::{DownloadDigest, Hasher};
use crate::model::lock::{LockedPackage, is_plain_path};
use crate::model::name::{Architecture, PackageName, Suite};

/// The suite that a package was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub suite: Suite,
    /// The archive it belongs to, as `parvis.yaml` names it.
    pub archive: String,
    /// Whether the suite carries security fixes.
    pub security: bool,
}

/// How much the archive's makers think a package is needed; the most needed first, as apt prefers providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// No priority is given: apt prefers such a package to all others.
    Unstated,
    Required,
    Important,
    Standard,
    Optional,
    Extra,
}

/// What a package may satisfy for packages of another architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultiArch {
    No,
    Same,
    Foreign,
    Allowed,
}

/// A field that names other packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    PreDepends,
    Depends,
    Recommends,
    Conflicts,
    Breaks,
    Replaces,
    Provides,
}

impl Field {
    /// Returns the name of the field as control files write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Conflicts => "Conflicts",
            Self::Breaks => "Breaks",
            Self::Replaces => "Replaces",
            Self::Provides => "Provides",
        }
    }
}

const FIELDS: [Field; 7] =
    [Field::PreDepends, Field::Depends, Field::Recommends, Field::Conflicts, Field::Breaks, Field::Replaces, Field::Provides];

/// One version of one package, as the archive offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: PackageName,
    pub version: Version,
    /// The platform's architecture, or `all`.
    pub architecture: Architecture,
    pub source: PackageName,
    /// The source package's version, where it differs from the binary's.
    pub source_version: Option<Version>,
    origin: u16,
    /// The path below the archive's address.
    pub file: Box<str>,
    /// Bytes of the .deb.
    pub size: u64,
    pub sha256: DownloadDigest,
    /// Bytes on disk, rounded to KiB by the package's maker.
    pub installed_size: u64,
    pub priority: Priority,
    pub essential: bool,
    /// `Important: yes` or `Protected: yes`: not needed by all, yet not to be removed lightly.
    pub protected: bool,
    pub multi_arch: MultiArch,
    /// How early the name was first mentioned in the Packages files; apt prefers the provider that was mentioned last.
    pub mention: u32,
    /// The relations as they were written, in one text.
    text: Box<str>,
    fields: Box<[(Field, u32)]>,
}

impl Candidate {
    /// Returns what a field says of other packages, as parts that each have alternatives.
    pub fn relations(&self, field: Field) -> Result<Vec<Vec<Relation<'_>>>, InvalidRelation> {
        relation::parse(self.written(field))
    }

    /// Returns a field as it was written; empty where it is absent.
    #[must_use]
    pub fn written(&self, field: Field) -> &str {
        let mut start = 0;
        for (name, end) in &self.fields {
            let range: Range<usize> = start..*end as usize;
            if *name == field {
                return &self.text[range];
            }
            start = range.end;
        }
        ""
    }

    /// Returns a candidate for a package that has left the archive, of which only what a lock says is known.
    ///
    /// What it provides is taken from the version that the archive has now.
    #[must_use]
    pub fn from_lock(locked: &LockedPackage, version: Version, like: Option<&Self>) -> Self {
        let names: Vec<&str> = locked.depends.iter().map(PackageName::as_str).collect();
        let mut text = names.join(", ");
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let depends = length(&text);
        text.push_str(like.map_or("", |like| like.written(Field::Provides)));
        let all = length(&text);
        Self {
            name: locked.name.clone(),
            version,
            architecture: locked.architecture.clone(),
            source: locked.source.clone(),
            source_version: locked.source_version.as_ref().and_then(|version| version.parse().ok()),
            origin: NO_ORIGIN,
            file: locked.file.as_str().into(),
            size: locked.size,
            sha256: locked.sha256,
            installed_size: locked.size.saturating_mul(4),
            priority: like.map_or(Priority::Optional, |like| like.priority),
            essential: like.is_some_and(|like| like.essential),
            protected: like.is_some_and(|like| like.protected),
            multi_arch: like.map_or(MultiArch::Allowed, |like| like.multi_arch),
            mention: like.map_or(0, |like| like.mention),
            text: text.into(),
            fields: Box::new([(Field::Depends, depends), (Field::Provides, all)]),
        }
    }

    /// Returns what a lock says of the candidate.
    #[must_use]
    pub fn to_locked(&self, suite: Suite, depends: Vec<PackageName>) -> LockedPackage {
        LockedPackage {
            name: self.name.clone(),
            version: self.version.to_string(),
            architecture: self.architecture.clone(),
            source: self.source.clone(),
            source_version: self.source_version.as_ref().map(ToString::to_string),
            suite,
            file: self.file.to_string(),
            size: self.size,
            sha256: self.sha256,
            depends,
        }
    }

    fn read(paragraph: &Paragraph<'_>, origin: u16, architectures: &[Architecture; 2]) -> Result<Self, ControlError> {
        let name: PackageName = paragraph.parsed("Package")?;
        let version: Version = paragraph.parsed("Version")?;
        let architecture = paragraph.require("Architecture")?;
        let architecture = architectures.iter().find(|known| known.as_str() == architecture);
        let (source, source_version) = source(paragraph, &name, &version)?;
        let file = paragraph.require("Filename")?;
        let file = file.strip_prefix("./").unwrap_or(file);
        if !is_plain_path(file) {
            return Err(paragraph.bad_value("Filename"));
        }
        let mut text = String::new();
        let mut fields = Vec::new();
        for field in FIELDS {
            if let Some(value) = paragraph.get(field.name()) {
                text.push_str(value);
                fields.push((field, u32::try_from(text.len()).map_err(|_| paragraph.bad_value(field.name()))?));
            }
        }
        Ok(Self {
            name,
            version,
            architecture: architecture.ok_or_else(|| paragraph.bad_value("Architecture"))?.clone(),
            source,
            source_version,
            origin,
            file: file.into(),
            size: paragraph.parsed("Size")?,
            sha256: paragraph.parsed("SHA256")?,
            installed_size: paragraph.parsed_or("Installed-Size", 0_u64)?.saturating_mul(1024),
            priority: priority(paragraph.get("Priority")),
            essential: yes(paragraph, "Essential")?,
            protected: yes(paragraph, "Important")? || yes(paragraph, "Protected")?,
            mention: 0,
            multi_arch: multi_arch(paragraph)?,
            text: text.into(),
            fields: fields.into(),
        })
    }
}

/// Reads `Source: name (version)`, which is absent where both are the binary package's.
fn source(
    paragraph: &Paragraph<'_>,
    name: &PackageName,
    version: &Version,
) -> Result<(PackageName, Option<Version>), ControlError> {
    let Some(value) = paragraph.get("Source") else { return Ok((name.clone(), None)) };
    let bad = || paragraph.bad_value("Source");
    let (source, rest) = value.split_once(' ').unwrap_or((value, ""));
    let source_version = if rest.is_empty() {
        None
    } else {
        let inside = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(bad)?;
        Some(inside.parse::<Version>().map_err(|_| bad())?).filter(|inside| inside.as_str() != version.as_str())
    };
    Ok((source.parse().map_err(|_| bad())?, source_version))
}

/// Reads a priority; one that policy does not know ranks last, as in apt.
fn priority(value: Option<&str>) -> Priority {
    match value {
        Some("required") => Priority::Required,
        Some("important") => Priority::Important,
        Some("standard") => Priority::Standard,
        Some("optional") => Priority::Optional,
        None => Priority::Unstated,
        Some(_) => Priority::Extra,
    }
}

fn yes(paragraph: &Paragraph<'_>, field: &'static str) -> Result<bool, ControlError> {
    match paragraph.get(field) {
        Some("yes") => Ok(true),
        None | Some("no") => Ok(false),
        Some(_) => Err(paragraph.bad_value(field)),
    }
}

fn multi_arch(paragraph: &Paragraph<'_>) -> Result<MultiArch, ControlError> {
    match paragraph.get("Multi-Arch") {
        None | Some("no") => Ok(MultiArch::No),
        Some("same") => Ok(MultiArch::Same),
        Some("foreign") => Ok(MultiArch::Foreign),
        Some("allowed") => Ok(MultiArch::Allowed),
        Some(_) => Err(paragraph.bad_value("Multi-Arch")),
    }
}

/// All packages that the suites of a project offer for one architecture.
#[derive(Debug, Clone)]
pub struct Universe {
    architecture: Architecture,
    origins: Vec<Origin>,
    /// Sorted by name; the versions of one name from the highest down.
    candidates: Vec<Candidate>,
    /// By the name that is provided: the packages some version of which provides it, sorted.
    provided: BTreeMap<Box<str>, Vec<PackageName>>,
}

impl Universe {
    /// Returns the architecture of the platform.
    #[must_use]
    pub const fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Returns the suite that a candidate was found in.
    #[must_use]
    pub fn origin(&self, candidate: &Candidate) -> Option<&Origin> {
        self.origins.get(usize::from(candidate.origin))
    }

    /// Returns the versions of a package, from the highest down.
    #[must_use]
    pub fn versions(&self, name: &str) -> &[Candidate] {
        let start = self.candidates.partition_point(|candidate| candidate.name.as_str() < name);
        let rest = &self.candidates[start..];
        &rest[..rest.partition_point(|candidate| candidate.name.as_str() == name)]
    }

    /// Returns the highest version of a package.
    #[must_use]
    pub fn highest(&self, name: &str) -> Option<&Candidate> {
        self.versions(name).first()
    }

    /// Returns the packages of which some version provides a name, sorted.
    #[must_use]
    pub fn providers(&self, name: &str) -> &[PackageName] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the highest version of each package, sorted by name.
    pub fn all_highest(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.chunk_by(|left, right| left.name == right.name).filter_map(<[Candidate]>::first)
    }

    /// Returns the package names that are spelled most like a text, the nearest first.
    #[must_use]
    pub fn similar(&self, text: &str) -> Vec<&PackageName> {
        let limit = text.len().div_ceil(4).min(3);
        let mut near: Vec<(usize, &PackageName)> = self
            .all_highest()
            .filter(|candidate| candidate.name.as_str().len().abs_diff(text.len()) <= limit)
            .map(|candidate| (distance(text.as_bytes(), candidate.name.as_str().as_bytes()), &candidate.name))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        near.sort();
        near.into_iter().map(|(_, name)| name).take(3).collect()
    }
}

/// Returns how many letters must be put in, left out, replaced or swapped to make one text of the other.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before = vec![0; right.len() + 1];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1; right.len() + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *b && *a == right[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            next[j + 1] = best;
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

/// The fields in which apt meets the names of packages, in its order.
const MENTIONING: [&str; 9] =
    ["Pre-Depends", "Depends", "Conflicts", "Breaks", "Recommends", "Suggests", "Replaces", "Enhances", "Provides"];

/// Reads the Packages files of several suites into one universe.
#[derive(Debug)]
pub struct Reader {
    architectures: [Architecture; 2],
    origins: Vec<Origin>,
    candidates: Vec<Candidate>,
    /// When each name was first mentioned; only looked up, never listed.
    mentions: HashMap<Box<str>, u32>,
}

/// A Packages file that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the package `{0}` has a Provides field that cannot be read")]
    Provides(PackageName, #[source] InvalidRelation),
    #[error("there are more than {MOST_ORIGINS} suites")]
    ManyOrigins,
}

const MOST_ORIGINS: u16 = 1000;
const NO_ORIGIN: u16 = u16::MAX;

impl Reader {
    /// Starts with no package, for one architecture.
    #[must_use]
    pub fn new(architecture: &Architecture) -> Self {
        // `all` is the name of an architecture, so that it can be parsed.
        let all = "all".parse().unwrap_or_else(|_| architecture.clone());
        Self { architectures: [architecture.clone(), all], origins: Vec::new(), candidates: Vec::new(), mentions: HashMap::new() }
    }

    /// Notes the names that a paragraph mentions, in the order in which apt meets them.
    fn mention(&mut self, paragraph: &Paragraph<'_>) {
        let own = paragraph.get("Package").unwrap_or_default();
        let related = MENTIONING.iter().filter_map(|field| paragraph.get(field)).flat_map(|value| value.split([',', '|']));
        for part in std::iter::once(own).chain(related) {
            let part = part.trim_start();
            let name = &part[..part.find([' ', '(', '\n', '\t']).unwrap_or(part.len())];
            if !name.contains(':') && !self.mentions.contains_key(name) {
                let number = u32::try_from(self.mentions.len()).unwrap_or(u32::MAX);
                self.mentions.insert(name.into(), number);
            }
        }
    }

    /// Takes in a Packages file of a suite; a suite's files come one after the other, the suites in the project's order.
    pub fn read(&mut self, origin: &Origin, packages: impl Read) -> Result<(), IndexError> {
        if self.origins.last() != Some(origin) {
            self.origins.push(origin.clone());
        }
        let number =
            u16::try_from(self.origins.len()).ok().filter(|count| *count <= MOST_ORIGINS).ok_or(IndexError::ManyOrigins)? - 1;
        read_paragraphs(packages, |paragraph| {
            self.mention(paragraph);
            self.candidates.push(Candidate::read(paragraph, number, &self.architectures)?);
            Ok(())
        })
    }

    /// Puts everything in order: of equal versions the one from security stays, then the one of the first suite.
    pub fn finish(self) -> Result<Universe, IndexError> {
        let Self { architectures: [architecture, _], origins, mut candidates, mentions } = self;
        for candidate in &mut candidates {
            candidate.mention = mentions.get(candidate.name.as_str()).copied().unwrap_or(u32::MAX);
        }
        drop(mentions);
        let rank = |candidate: &Candidate| {
            (!origins.get(usize::from(candidate.origin)).is_some_and(|origin| origin.security), candidate.origin)
        };
        candidates.sort_by(|left, right| {
            left.name.cmp(&right.name).then_with(|| right.version.cmp(&left.version)).then_with(|| rank(left).cmp(&rank(right)))
        });
        candidates.dedup_by(|later, earlier| later.name == earlier.name && later.version == earlier.version);
        candidates.shrink_to_fit();
        let mut provided: BTreeMap<Box<str>, Vec<PackageName>> = BTreeMap::new();
        for candidate in &candidates {
            let unreadable = |error| IndexError::Provides(candidate.name.clone(), error);
            for relation in candidate.relations(Field::Provides).map_err(unreadable)?.iter().flatten() {
                let names = match provided.get_mut(relation.name) {
                    Some(names) => names,
                    None => provided.entry(relation.name.into()).or_default(),
                };
                if names.last() != Some(&candidate.name) {
                    names.push(candidate.name.clone());
                }
            }
        }
        Ok(Universe { architecture, origins, candidates, provided })
    }
}

/// How much memory the decompression of a list may take; `xz -9` needs 65 MiB.
const MEMORY: u64 = 128 << 20;

/// Unpacks a Packages file. Reading it to its end checks that it is what the Release file lists, and no byte more.
///
/// # Errors
/// Refuses a compressed file whose uncompressed form the Release file does not list: nothing would bound it.
pub fn unpack<'a>(file: &PackagesFile, content: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let content = BufReader::new(content);
    let plain: Box<dyn BufRead + 'a> = match file.compression {
        Compression::None => Box::new(content),
        Compression::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(content))),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(BufReader::new(liblzma::bufread::XzDecoder::new_stream(content, stream)))
        }
    };
    let listed = if file.compression == Compression::None { Some(file.listed) } else { file.plain };
    let unbounded = || io::Error::other("the Release file does not list its uncompressed form");
    Ok(Box::new(Exactly { inner: plain, listed: listed.ok_or_else(unbounded)?, read: 0, hasher: Some(Hasher::new()) }))
}

/// Passes on what it reads as long as it can be what was listed.
struct Exactly<R> {
    inner: R,
    listed: Listed,
    read: u64,
    /// Gone once the end was seen and found right.
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it {what}"));
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > self.listed.size {
            return Err(wrong("is longer than the Release file lists"));
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        if count > 0 {
            self.hasher.iter_mut().for_each(|hasher| hasher.update(bytes));
        } else if !buffer.is_empty() {
            let digest = self.hasher.take().map(Hasher::finish::<DownloadDigest>);
            if self.read < self.listed.size || digest.is_some_and(|digest| digest != self.listed.sha256) {
                return Err(wrong("is not what the Release file lists"));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paragraph(name: &str, version: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}_{version}.deb\nSize: 1\n\
             SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n{more}\n"
        )
    }

    fn universe(suites: &[(&str, bool, String)]) -> Result<Universe, IndexError> {
        let mut reader = Reader::new(&"amd64".parse().unwrap());
        for (suite, security, text) in suites {
            let origin = Origin { suite: suite.parse().unwrap(), archive: "debian".into(), security: *security };
            reader.read(&origin, text.as_bytes())?;
        }
        reader.finish()
    }

    #[test]
    fn the_highest_version_of_all_suites_is_the_candidate() {
        let suites = [
            ("main", false, paragraph("aa", "1.0", "") + &paragraph("bb", "2", "")),
            ("updates", false, paragraph("aa", "1.1", "")),
            ("security", true, paragraph("aa", "1.0+s1", "")),
        ];
        let universe = universe(&suites).unwrap();
        let versions: Vec<_> = universe.versions("aa").iter().map(|candidate| candidate.version.as_str()).collect();
        assert_eq!(versions, ["1.1", "1.0+s1", "1.0"]);
        assert_eq!(universe.all_highest().map(|candidate| candidate.name.as_str()).collect::<Vec<_>>(), ["aa", "bb"]);
        assert!(universe.versions("cc").is_empty());
    }

    #[test]
    fn a_version_in_two_suites_comes_from_security_else_from_the_first() {
        let suites = [
            ("main", false, paragraph("aa", "1", "") + &paragraph("bb", "1", "")),
            ("updates", false, paragraph("bb", "1", "")),
            ("security", true, paragraph("aa", "1", "")),
        ];
        let universe = universe(&suites).unwrap();
        let suite = |name| universe.origin(universe.highest(name).unwrap()).unwrap().suite.to_string();
        assert_eq!((suite("aa"), suite("bb")), ("security".to_owned(), "main".to_owned()));
        assert_eq!(universe.versions("aa").len(), 1);
    }

    #[test]
    fn fields_are_kept_as_they_were_written() {
        let more = "Depends: bb (>= 1),\n cc\nPre-Depends: dd\nProvides: virtual (= 1), virtual, other\nEssential: yes\nInstalled-Size: 2\n\
                    Multi-Arch: foreign\nPriority: required\nSource: src (0.9)\n";
        let universe = universe(&[("main", false, paragraph("aa", "1", more))]).unwrap();
        let candidate = universe.highest("aa").unwrap();
        assert_eq!(candidate.written(Field::Depends), "bb (>= 1),\n cc");
        assert_eq!(candidate.written(Field::PreDepends), "dd");
        assert_eq!(candidate.written(Field::Recommends), "");
        assert_eq!((candidate.essential, candidate.installed_size, candidate.multi_arch), (true, 2048, MultiArch::Foreign));
        assert_eq!((candidate.source.as_str(), candidate.source_version.as_ref().map(Version::as_str)), ("src", Some("0.9")));
        assert_eq!(universe.providers("virtual").len(), 1);
        assert_eq!(universe.providers("other").len(), 1);
    }

    #[test]
    fn a_package_that_cannot_be_trusted_is_refused_with_its_place() {
        let cases = [
            (paragraph("aa", "1:", ""), "paragraph 1, line 2: the field `Version` has the value `1:`"),
            (paragraph("a_", "1", ""), "paragraph 1, line 1: the field `Package` has the value `a_`"),
            (
                paragraph("aa", "1", "").replace("amd64", "arm64"),
                "paragraph 1, line 3: the field `Architecture` has the value `arm64`",
            ),
            (
                paragraph("aa", "1", "").replace("pool", ".."),
                "paragraph 1, line 4: the field `Filename` has the value `../aa_1.deb`",
            ),
            (paragraph("aa", "1", "").replace("Size: 1", "Size: -1"), "paragraph 1, line 5: the field `Size` has the value `-1`"),
            (paragraph("aa", "1", "").replace("SHA256", "MD5"), "paragraph 1, line 1: the field `SHA256` is missing"),
            (paragraph("aa", "1", "Essential: maybe\n"), "paragraph 1, line 7: the field `Essential` has the value `maybe`"),
            (paragraph("aa", "1", "Source: b (1\n"), "paragraph 1, line 7: the field `Source` has the value `b (1`"),
        ];
        for (text, expected) in cases {
            assert_eq!(universe(&[("main", false, text)]).unwrap_err().to_string(), expected);
        }
        let error = universe(&[("main", false, paragraph("aa", "1", "Provides: b (= \n"))]).unwrap_err();
        assert_eq!(error.to_string(), "the package `aa` has a Provides field that cannot be read");
    }

    #[test]
    fn a_name_that_is_nearly_right_is_found() {
        let universe = universe(&[("main", false, paragraph("apache2", "1", "") + &paragraph("nginx", "1", ""))]).unwrap();
        assert_eq!(universe.similar("apahce2").first().map(|name| name.as_str()), Some("apache2"));
        assert!(universe.similar("mariadb").is_empty());
    }

    fn packed(text: &[u8], listed: &[u8]) -> (PackagesFile, Vec<u8>) {
        let mut xz = liblzma::read::XzEncoder::new(text, 6);
        let mut packed = Vec::new();
        xz.read_to_end(&mut packed).unwrap();
        let of = |bytes: &[u8]| Listed { sha256: DownloadDigest::of(bytes), size: bytes.len() as u64 };
        let file = PackagesFile {
            path: "p".into(),
            by_hash: None,
            listed: of(&packed),
            compression: Compression::Xz,
            plain: Some(of(listed)),
        };
        (file, packed)
    }

    #[test]
    fn a_list_is_read_only_as_the_release_file_lists_it() {
        let unpacked = |text: &[u8], listed: &[u8], more: &[u8]| {
            let (file, mut bytes) = packed(text, listed);
            bytes.extend_from_slice(more);
            let mut out = Vec::new();
            unpack(&file, bytes.as_slice()).and_then(|mut list| list.read_to_end(&mut out)).map_err(|error| error.to_string())
        };
        assert_eq!(unpacked(b"Package: a", b"Package: a", b""), Ok(10));
        assert_eq!(unpacked(b"Package: a", b"Package: b", b"").unwrap_err(), "it is not what the Release file lists");
        assert_eq!(unpacked(b"Package", b"Package: b", b"").unwrap_err(), "it is not what the Release file lists");
        assert_eq!(
            unpacked(&vec![b'x'; 10_000_000], b"Package: b", b"").unwrap_err(),
            "it is longer than the Release file lists"
        );
        assert!(unpacked(b"Package: a", b"Package: a", b"trailing").is_err());
        let (mut file, bytes) = packed(b"a", b"a");
        file.plain = None;
        assert!(unpack(&file, bytes.as_slice()).is_err());
    }
}
