//! The folder `releases/`: one record per numbered release, written by `parvis release` and kept in version control.
//!
//! `releases/1.4.0.yaml` says what was released, `releases/1.4.0.lock` is the lock that it was built from, `releases/1.4.0.sigstore.json`
//! is the signed statement and `releases/keyring.sigstore.json` the list of keys that goes with it. The record repeats the statement for those
//! who read the repository.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::digest::{BlobDigest, FileDigest};
use super::moment::Moment;
use super::name::ImageName;
use super::number::Number;
use super::problem::{Problem, Source};
use super::release::{Release, ReleasedSbom};
use super::tree::TreePath;
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
    pub product: ImageName,
    pub version: Number,
    /// Counts releases and candidates of the product: a newer one has a higher sequence, whatever its number.
    pub sequence: u64,
    /// The date of the commit, so that a second run issues the same.
    pub issued: Moment,
    pub valid_until: Moment,
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
    /// Its files, SBOMs included.
    #[serde(default)]
    pub files: Vec<ReleasedFile>,
    /// The downloads as wholes. The statement travels in each of them, so it cannot name them.
    #[serde(default)]
    pub downloads: Vec<ReleasedFile>,
}

impl Record {
    /// Returns the record of a release, as its statement has it: built by this version of parvis, with this profile of the recipes,
    /// and shipping what this candidate was, where it was one.
    #[must_use]
    pub fn of(release: &Release, parvis: &str, profile: Option<String>, from: Option<Number>) -> Self {
        let Release { product, version, sequence, issued, valid_until, commit, lock, registry, images, files, sboms, .. } =
            release.clone();
        let sboms = sboms.into_iter().map(|ReleasedSbom { name, sha256, size, .. }| ReleasedFile { name, sha256, size });
        Self {
            format: FORMAT,
            product,
            version,
            sequence,
            issued,
            valid_until,
            commit,
            lock,
            parvis: parvis.to_owned(),
            profile,
            registry,
            from,
            yanked: None,
            images,
            files: files.into_iter().chain(sboms).collect(),
            downloads: Vec::new(),
        }
    }

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
        if record.commit.len() != 40 || !record.commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("commit", "`commit` is not 40 hexadecimal digits".into()));
        }
        let mut names = BTreeSet::new();
        if let Some(image) = record.images.iter().find(|image| !names.insert(&image.name)) {
            return Err(wrong(image.name.as_str(), format!("the image `{}` stands twice", image.name)));
        }
        let mut files = BTreeSet::new();
        for file in record.files.iter().chain(&record.downloads) {
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
        line(0, "product", &quoted(self.product.as_str()));
        line(0, "version", &quoted(&self.version.to_string()));
        line(0, "sequence", &self.sequence.to_string());
        line(0, "issued", &quoted(&self.issued.to_string()));
        line(0, "valid_until", &quoted(&self.valid_until.to_string()));
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
        for (key, files) in [("files", &self.files), ("downloads", &self.downloads)] {
            if !files.is_empty() {
                line(0, key, "");
            }
            for file in files {
                line(1, "- name", &quoted(&file.name));
                line(2, "sha256", &quoted(&file.sha256.to_string()));
                line(2, "size", &file.size.to_string());
            }
        }
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Returns the record as it is published: what was released, whatever was said of it later, and without the registry if that is
    /// nobody's business.
    #[must_use]
    pub fn published(&self, with_registry: bool) -> Self {
        Self { yanked: None, registry: self.registry.clone().filter(|_| with_registry), ..self.clone() }
    }

    /// Returns whether this is neither a candidate nor taken back.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.yanked.is_none() && !self.version.is_candidate()
    }
}

/// Whether a text is the name of a file of a release: a path below its folder.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let plain = TreePath::parse(name.as_bytes()).is_ok_and(|path| !path.is_root() && path.as_bytes() == name.as_bytes());
    plain && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::release::testing::release;

    fn sample() -> Record {
        let mut record = Record::of(&release(), "0.1.0", Some("annuaire".into()), Some("1.4.0-rc.2".parse().unwrap()));
        record.downloads = vec![ReleasedFile { name: "parish-1.4.0-amd64.tar".into(), sha256: FileDigest::of(b"tar"), size: 9 }];
        record.yanked = Some("it says: \"no\" — # $HOME \u{e9}\n\u{1}".into());
        record
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let record = sample();
        let text = record.render();
        assert_eq!(Record::parse(&Source::new("releases/1.4.0.yaml", &text)).unwrap(), record, "{text}");
        let least = Record {
            profile: None,
            registry: None,
            from: None,
            yanked: None,
            files: Vec::new(),
            downloads: Vec::new(),
            ..record
        };
        assert_eq!(Record::parse(&Source::new("releases/1.4.0.yaml", &least.render())).unwrap(), least);
    }

    #[test]
    fn what_contradicts_itself_is_refused_at_its_place() {
        let text = sample().render();
        let image = text.lines().skip_while(|line| *line != "images:").skip(1).take_while(|line| line.starts_with(' '));
        let twice = text.replace("files:", &format!("{}\nfiles:", image.collect::<Vec<_>>().join("\n")));
        for (wrong, message) in [
            (text.replace("format: 1", "format: 2"), "format 2"),
            (text.replace("2026-11-24T12", "2026-13-24T12"), "is no date of the form"),
            (text.replace("0123456789abcdef0", "0123456789abcdeF0"), "`commit` is not"),
            (text.replace("notes.md", "../notes.md"), "no name of a file"),
            (text.replace("product:", "produkt:"), "produkt"),
            (text.replace("\"1.4.0\"", "\"1.4\""), "not the number of a release"),
            (twice, "stands twice"),
        ] {
            let problem = Record::parse(&Source::new("releases/1.4.0.yaml", &wrong)).unwrap_err().message;
            assert!(problem.contains(message), "{message}: {problem}");
        }
    }
}
