//! The folder `rebuilds/`: one folder per security rebuild, written by `parvis rebuild` and never changed afterwards.
//!
//! ```text
//! rebuilds/1.4.0-sec.1/        the name: of a project without numbers, sec.1
//! ├── rebuild.json             what was done, for programs; canonical JSON
//! ├── parvis.lock              the lock that it gave
//! ├── openvex.json             the holes that were closed
//! ├── report.md  report.html   the report in English
//! ├── rapport.md rapport.html  the report in French
//! ├── rebuild.sigstore.json    what was done, about every image, signed by the parish; where there is a key
//! ├── parish.pub               the key that signed
//! ├── 1.4.0-sec.0.sigstore.json  the statements of the rebuilds before, where there are some
//! └── release.sigstore.json    the statement on the release that all this began with
//! ```
//!
//! The statements are copies, so that the folder alone leads back to the release.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::digest::{BlobDigest, FileDigest};
use super::name::ImageName;
use super::number::{Number, Stage};

/// The folder's name in a project.
pub const FOLDER: &str = "rebuilds";
/// The number of the format of `rebuild.json`.
pub const FORMAT: u32 = 1;
/// The file that says what was done.
pub const RECORD: &str = "rebuild.json";

/// The signed statement.
pub const SIGNATURE: &str = "rebuild.sigstore.json";
/// The key that signed it.
pub const PUBLIC_KEY: &str = "parish.pub";

/// The name of a rebuild: it is given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The release that was rebuilt; nothing where the project has no numbers.
    pub release: Option<Number>,
    /// Counted from 1, for each release on its own.
    pub count: u32,
}

impl Name {
    /// Returns the first name that was not given yet.
    #[must_use]
    pub fn next(release: Option<Number>, given: &[Self]) -> Self {
        let last = given.iter().filter(|name| name.release == release).map(|name| name.count).max();
        Self { release, count: last.unwrap_or(0).saturating_add(1) }
    }

    /// Returns the file in which the statement on this rebuild goes along with the next ones.
    #[must_use]
    pub fn statement_file(self) -> String {
        format!("{self}.sigstore.json")
    }

    /// Returns the number of a rebuilt release.
    #[must_use]
    pub fn number(self) -> Option<Number> {
        self.release.map(|release| Number { stage: Stage::Security(self.count), ..release })
    }
}

impl From<Number> for Name {
    fn from(number: Number) -> Self {
        let count = if let Stage::Security(count) = number.stage { count } else { 0 };
        Self { release: Some(number.release()), count }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => number.fmt(formatter),
            None => write!(formatter, "sec.{}", self.count),
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let loose = |text: &str| {
            let count = text.strip_prefix("sec.")?;
            let plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
            Some(Self { release: None, count: count.parse().ok().filter(|_| plain)? })
        };
        let numbered = |text: &str| text.parse::<Number>().ok().filter(|number| matches!(number.stage, Stage::Security(_)));
        loose(text).or_else(|| numbered(text).map(Self::from)).ok_or(InvalidName)
    }
}

/// A text that is not the name of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither `sec.N` nor `X.Y.Z-sec.N`")]
pub struct InvalidName;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What another run has to know of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    pub format: u32,
    pub name: Name,
    #[serde(default)]
    pub project: String,
    /// The date of the archive that the fixes are from.
    pub date: String,
    /// The release that it began with; nothing where the project was never released.
    pub upstream: Option<RecordedRelease>,
    /// The rebuild that it began with; nothing where that was the release itself.
    #[serde(default)]
    pub previous: Option<Previous>,
    /// The digest of the lock that it began with.
    pub base_lock: FileDigest,
    /// The digest of the lock that it gave.
    pub lock: FileDigest,
    /// All images as they were afterwards.
    #[serde(default)]
    pub all: Vec<RecordedImage>,
    /// What a registry knows an image of several platforms by.
    #[serde(default)]
    pub indexes: Vec<RecordedIndex>,
    /// The files beside the record that people and programs read.
    #[serde(default)]
    pub files: Vec<RecordedFile>,
}

/// A file of a rebuild's folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedFile {
    pub name: String,
    pub sha256: FileDigest,
    pub size: u64,
}

/// A release as a rebuild names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedRelease {
    pub product: ImageName,
    pub version: Number,
    /// The digest of the signed statement.
    pub statement: BlobDigest,
    pub lock: FileDigest,
}

/// The rebuild before, as the next one names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Previous {
    pub name: Name,
    /// The digest of its statement, whoever signed that.
    pub statement: BlobDigest,
}

impl Record {
    /// Returns the name of the image that this digest stands for, as a whole or on one platform.
    #[must_use]
    pub fn image_of(&self, digest: &BlobDigest) -> Option<&ImageName> {
        let on_one = self.all.iter().find(|image| image.manifest == *digest).map(|image| &image.name);
        on_one.or_else(|| self.indexes.iter().find(|index| index.digest == *digest).map(|index| &index.name))
    }
}

/// The index of an image's manifests, in the order of the project's architectures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedIndex {
    pub name: ImageName,
    pub digest: BlobDigest,
}

/// An image that a rebuild left, built anew or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedImage {
    pub name: ImageName,
    /// By Debian's name.
    pub platform: String,
    pub manifest: BlobDigest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_for_each_release_and_never_given_twice() {
        let given: Vec<Name> = ["sec.1", "sec.10", "1.4.0-sec.2", "1.5.0-sec.7"].map(|text| text.parse().unwrap()).to_vec();
        let next = |release: Option<&str>| Name::next(release.map(|text| text.parse().unwrap()), &given).to_string();
        assert_eq!([next(None), next(Some("1.4.0")), next(Some("1.6.0"))], ["sec.11", "1.4.0-sec.3", "1.6.0-sec.1"]);
        for name in &given {
            assert_eq!(name.to_string().parse::<Name>().unwrap(), *name);
        }
        for text in ["", "sec.", "sec.0", "sec.01", "sec.-1", "1.4.0", "1.4.0-rc.1", "sec.1/..", "sec.99999999999"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
