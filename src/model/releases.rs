//! The folder `releases/`: one record per numbered release, written by `parvis release` and kept in version control.
//!
//! `releases/1.4.0.yaml` says what was released, `releases/1.4.0.lock` is the lock that it was built from, `releases/1.4.0.md` and
//! `releases/1.4.0.fr.md` tell people. What is signed is the release statement; the record repeats it for those who read the repository.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::digest::{BlobDigest, FileDigest};
use super::name::ImageName;
use super::number::Number;
use super::problem::{Problem, Source};
use super::yaml;

/// The number of the format.
pub const FORMAT: u32 = 1;

/// The folder's name in a project.
pub const FOLDER: &str = "releases";

/// One image of a release, on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedPlatform {
    /// As OCI names it: `linux/amd64`.
    pub platform: String,
    pub manifest: BlobDigest,
    pub config: BlobDigest,
    /// Bytes of its blobs, compressed.
    pub size: u64,
}

/// One image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedImage {
    pub name: ImageName,
    /// What its tags stand for: the manifest where there is one platform, else the index.
    pub digest: BlobDigest,
    pub platforms: Vec<ReleasedPlatform>,
}

/// A file that people download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedFile {
    pub name: String,
    pub sha256: FileDigest,
    pub size: u64,
}

/// What is known of a release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format: u32,
    pub product: String,
    pub version: Number,
    /// Counts releases and candidates of the product: a newer one has a higher sequence, whatever its number.
    pub sequence: u64,
    /// When it was issued, RFC 3339 in UTC: the date of the commit, so that a second run issues the same.
    pub issued: String,
    pub valid_until: String,
    /// The commit that it was built from, 40 hexadecimal digits.
    pub commit: String,
    /// The digest of `parvis.lock`.
    pub lock: FileDigest,
    /// The version of parvis that built it.
    pub parvis: String,
    /// The profile of the recipes.
    #[serde(default)]
    pub profile: Option<String>,
    /// Where its images are: `registry.example/parish`.
    #[serde(default)]
    pub registry: Option<String>,
    /// The candidate that became this release.
    #[serde(default)]
    pub from: Option<Number>,
    /// Why nobody should use it any more.
    #[serde(default)]
    pub yanked: Option<String>,
    pub images: Vec<ReleasedImage>,
    #[serde(default)]
    pub files: Vec<ReleasedFile>,
}

/// What a new record is made of; the format's number is ours to add.
#[derive(Debug, Clone)]
pub struct Draft {
    pub product: String,
    pub version: Number,
    pub sequence: u64,
    pub issued: String,
    pub valid_until: String,
    pub commit: String,
    pub lock: FileDigest,
    pub parvis: String,
    pub profile: Option<String>,
    pub registry: Option<String>,
    pub from: Option<Number>,
    pub images: Vec<ReleasedImage>,
    pub files: Vec<ReleasedFile>,
}

impl From<Draft> for Record {
    fn from(draft: Draft) -> Self {
        let Draft {
            product,
            version,
            sequence,
            issued,
            valid_until,
            commit,
            lock,
            parvis,
            profile,
            registry,
            from,
            images,
            files,
        } = draft;
        let format = FORMAT;
        let yanked = None;
        Self {
            format,
            product,
            version,
            sequence,
            issued,
            valid_until,
            commit,
            lock,
            parvis,
            profile,
            registry,
            from,
            yanked,
            images,
            files,
        }
    }
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// Refuses another format, dates and commits that are none, and names that stand twice.
    pub fn parse(source: &Source) -> Result<Self, Problem> {
        let record: Self = yaml::parse(source)?;
        let wrong = |word: &str, message: String| {
            let line = source.text.lines().position(|line| line.contains(word)).map_or(1, |index| index + 1);
            source.problem_at_word(u32::try_from(line).unwrap_or(1), word, message)
        };
        if record.format != FORMAT {
            return Err(wrong("format", format!("this record has the format {}; this parvis reads {FORMAT}", record.format)));
        }
        for (word, date) in [("issued", &record.issued), ("valid_until", &record.valid_until)] {
            if date.parse::<jiff::Timestamp>().is_err() {
                return Err(wrong(word, format!("`{word}` is no date of the form `2026-11-24T12:00:00Z`")));
            }
        }
        if record.commit.len() != 40 || !record.commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("commit", "`commit` is not 40 hexadecimal digits".into()));
        }
        let mut names = BTreeSet::new();
        if let Some(image) = record.images.iter().find(|image| !names.insert(&image.name)) {
            return Err(wrong(image.name.as_str(), format!("the image `{}` stands twice", image.name)));
        }
        let mut files = BTreeSet::new();
        for file in &record.files {
            if !is_file_name(&file.name) {
                return Err(wrong("files", format!("`{}` is no name of a file", file.name.escape_debug())));
            }
            if !files.insert(&file.name) {
                return Err(wrong(&file.name, format!("the file `{}` stands twice", file.name)));
            }
        }
        Ok(record)
    }

    /// Writes the record; [`Record::parse`] reads the same from it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# Written by `parvis release`. What is signed is the release statement; this is for people and for `parvis affected`.\n",
        );
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut line = |depth: usize, key: &str, value: &str| {
            let _ = writeln!(out, "{:1$}{key}: {value}", "", depth * 2);
        };
        line(0, "format", &self.format.to_string());
        line(0, "product", &quoted(&self.product));
        line(0, "version", &quoted(&self.version.to_string()));
        line(0, "sequence", &self.sequence.to_string());
        line(0, "issued", &quoted(&self.issued));
        line(0, "valid_until", &quoted(&self.valid_until));
        line(0, "commit", &quoted(&self.commit));
        line(0, "lock", &quoted(&self.lock.to_string()));
        line(0, "parvis", &quoted(&self.parvis));
        let from = self.from.map(|from| from.to_string());
        let optional = [("profile", &self.profile), ("registry", &self.registry), ("from", &from), ("yanked", &self.yanked)];
        for (key, value) in optional {
            if let Some(value) = value {
                line(0, key, &quoted(value));
            }
        }
        line(0, "images", if self.images.is_empty() { "[]" } else { "" }.trim_end());
        for image in &self.images {
            line(1, "- name", &quoted(image.name.as_str()));
            line(2, "digest", &quoted(&image.digest.to_string()));
            line(2, "platforms", if image.platforms.is_empty() { "[]" } else { "" });
            for on in &image.platforms {
                line(3, "- platform", &quoted(&on.platform));
                line(4, "manifest", &quoted(&on.manifest.to_string()));
                line(4, "config", &quoted(&on.config.to_string()));
                line(4, "size", &on.size.to_string());
            }
        }
        if !self.files.is_empty() {
            line(0, "files", "");
        }
        for file in &self.files {
            line(1, "- name", &quoted(&file.name));
            line(2, "sha256", &quoted(&file.sha256.to_string()));
            line(2, "size", &file.size.to_string());
        }
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Returns whether this is neither a candidate nor taken back.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.yanked.is_none() && !self.version.is_candidate()
    }
}

/// Whether a text is the name of a file of a release: one part, of plain characters, not hidden.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'~');
    (1..=200).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let platform = ReleasedPlatform {
            platform: "linux/amd64".into(),
            manifest: BlobDigest::of(b"manifest"),
            config: BlobDigest::of(b"config"),
            size: 1234,
        };
        let mut record = Record::from(Draft {
            product: "civiparoisse".into(),
            version: "1.4.0".parse().unwrap(),
            sequence: 3,
            issued: "2026-11-24T12:00:00Z".into(),
            valid_until: "2027-11-24T12:00:00Z".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            lock: FileDigest::of(b"lock"),
            parvis: "0.1.0".into(),
            profile: Some("annuaire".into()),
            registry: Some("registry.example/parish".into()),
            from: Some("1.4.0-rc.2".parse().unwrap()),
            images: vec![ReleasedImage {
                name: "base".parse().unwrap(),
                digest: BlobDigest::of(b"manifest"),
                platforms: vec![platform],
            }],
            files: vec![ReleasedFile { name: "civiparoisse-1.4.0.tar".into(), sha256: FileDigest::of(b"tar"), size: 9 }],
        });
        record.yanked = Some("it says: \"no\" — # $HOME \u{e9}\n\u{1}".into());
        record
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let record = sample();
        let text = record.render();
        assert_eq!(Record::parse(&Source::new("releases/1.4.0.yaml", &text)).unwrap(), record, "{text}");
        let least = Record { profile: None, registry: None, from: None, yanked: None, files: Vec::new(), ..record };
        assert_eq!(Record::parse(&Source::new("releases/1.4.0.yaml", &least.render())).unwrap(), least);
    }

    #[test]
    fn what_contradicts_itself_is_refused_at_its_place() {
        let text = sample().render();
        let image = text.lines().skip_while(|line| *line != "images:").skip(1).take_while(|line| line.starts_with(' '));
        let twice = text.replace("files:", &format!("{}\nfiles:", image.collect::<Vec<_>>().join("\n")));
        for (wrong, message) in [
            (text.replace("format: 1", "format: 2"), "format 2"),
            (text.replace("2026-11-24T12", "2026-13-24T12"), "`issued` is no date"),
            (text.replace("0123456789abcdef0", "0123456789abcdeF0"), "`commit` is not"),
            (text.replace("civiparoisse-1.4.0.tar", "../tar"), "no name of a file"),
            (text.replace("product:", "produkt:"), "produkt"),
            (text.replace("\"1.4.0\"", "\"1.4\""), "not the number of a release"),
            (twice, "stands twice"),
        ] {
            let problem = Record::parse(&Source::new("releases/1.4.0.yaml", &wrong)).unwrap_err().message;
            assert!(problem.contains(message), "{message}: {problem}");
        }
    }
}
