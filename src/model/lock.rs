//! The lock: everything that was resolved, so that a build decides nothing.
//!
//! `parvis.lock` is TOML with a fixed layout. Rendering a parsed lock gives the same bytes; a file that is not in that
//! layout is refused, so that two people never hold two spellings of one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;

use super::digest::DownloadDigest;
use super::name::{Architecture, ImageName, PackageName, Suite};

pub mod composer;

use composer::LockedComposer;

/// The number of the format that this parvis reads and writes.
///
/// 1: archives, images with their layers, packages; Composer projects, where there are any.
pub const FORMAT: u32 = 1;

/// The number of the writers of tar, gzip and JSON. A lock is built with the writers it names.
///
/// 1: ustar with PAX records where needed; gzip members of 1 MiB by libdeflate 1.26, level 6; compact sorted JSON.
pub const WRITER: u32 = 1;

/// The state of one suite of the archive when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveState {
    /// The suite's folder under `dists/`.
    pub suite: Suite,
    /// The archive it belongs to, as `parvis.yaml` names it (`debian`, `debian-security`).
    pub archive: String,
    /// The `Date` of its Release file, in seconds since 1970.
    pub date: i64,
    /// The `Valid-Until` of its Release file, in seconds since 1970.
    #[serde(default)]
    pub valid_until: Option<i64>,
    /// The digest of the whole InRelease file.
    pub inrelease: DownloadDigest,
    /// The fingerprint of the key whose signature was checked, 40 capital hexadecimal digits.
    pub key: String,
    /// Checks that a person chose to pass over, by the option's name (`allow-expired`, `allow-older`).
    #[serde(default)]
    pub accepted: Vec<String>,
}

/// One package, chosen once for all images of its architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    pub name: PackageName,
    pub version: String,
    /// The package's own architecture: that of the platform, or `all`.
    pub architecture: Architecture,
    /// The source package it was built from.
    pub source: PackageName,
    /// The source package's version, where it differs from the binary's.
    #[serde(default)]
    pub source_version: Option<String>,
    /// The suite it was taken from; tells whether it came from security.
    pub suite: Suite,
    /// The path below the archive's address.
    pub file: String,
    /// Bytes of the .deb.
    pub size: u64,
    /// The digest of the .deb.
    pub sha256: DownloadDigest,
    /// The packages that satisfy its Pre-Depends and Depends, sorted.
    #[serde(default)]
    pub depends: Vec<PackageName>,
}

/// The packages of one image on one architecture, beyond those of its parent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    pub name: ImageName,
    pub architecture: Architecture,
    /// The parent as the recipe names it.
    pub from: String,
    /// What the recipe asked for when the lock was made, sorted.
    #[serde(default)]
    pub asked: Vec<PackageName>,
    /// Whether Recommends were followed.
    #[serde(default)]
    pub recommends: bool,
    /// Its own date, where it was last decided anew before the lock's epoch: so an image that a fix does not touch keeps its digest.
    #[serde(default)]
    pub date: Option<i64>,
    /// The packages of each layer, sorted, in the order of the layers; all of them together are the image's own packages.
    #[serde(default)]
    pub layers: Vec<Vec<PackageName>>,
}

impl LockedImage {
    /// Returns the image's own packages, in the order of the layers.
    pub fn packages(&self) -> impl Iterator<Item = &PackageName> {
        self.layers.iter().flatten()
    }
}

/// A lock that was read and found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The number of the writers that builds of this lock use.
    pub writer: u32,
    /// Seconds since 1970: the newest archive date, and the upper bound of every date in images.
    pub epoch: i64,
    /// Sorted by suite.
    pub archives: Vec<ArchiveState>,
    /// Sorted by architecture, then parents first, then by name.
    pub images: Vec<LockedImage>,
    /// Sorted by name, then by architecture.
    pub packages: Vec<LockedPackage>,
    /// Sorted by image, then by project.
    pub composer: Vec<LockedComposer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    format: u32,
    writer: u32,
    epoch: i64,
    #[serde(default)]
    archive: Vec<ArchiveState>,
    #[serde(default)]
    image: Vec<LockedImage>,
    #[serde(default)]
    package: Vec<LockedPackage>,
    #[serde(default)]
    composer: Vec<LockedComposer>,
}

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("it is not a lock file")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("it has format {found}; this parvis reads format {FORMAT}")]
    Format { found: u32 },
    #[error("it names writers {found}; this parvis has writers 1 to {WRITER}")]
    Writer { found: u32 },
    #[error("line {line} is not what `parvis lock` would write there: `{found}`")]
    Layout { line: usize, found: String },
    #[error("the image `{image}` names the package `{package}`, which the lock does not have for {architecture}")]
    MissingPackage { image: ImageName, package: PackageName, architecture: Architecture },
    #[error("{what} `{name}` stands in it twice")]
    Twice { what: &'static str, name: String },
    #[error("`{of}` cannot be fetched: {source}")]
    Address { of: String, source: super::address::InvalidAddress },
    #[error("the package `{package}` has the path `{file}`, which is not a plain path below an archive")]
    Path { package: PackageName, file: String },
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// Refuses another format, dangling names, paths that leave the archive, and any layout but the one [`Lock::render`] gives.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct Versions {
            format: u32,
        }
        let versions: Versions = toml::from_str(text).map_err(|error| LockError::Syntax(Box::new(error)))?;
        if versions.format != FORMAT {
            return Err(LockError::Format { found: versions.format });
        }
        let raw: RawLock = toml::from_str(text).map_err(|error| LockError::Syntax(Box::new(error)))?;
        debug_assert_eq!(raw.format, FORMAT);
        if !(1..=WRITER).contains(&raw.writer) {
            return Err(LockError::Writer { found: raw.writer });
        }
        let lock = Self {
            writer: raw.writer,
            epoch: raw.epoch,
            archives: raw.archive,
            images: raw.image,
            packages: raw.package,
            composer: raw.composer,
        };
        lock.check()?;
        let rendered = lock.render();
        if rendered != text {
            let (line, found) = text
                .lines()
                .zip(rendered.lines())
                .enumerate()
                .find(|(_, (found, expected))| found != expected)
                .map_or((text.lines().count(), String::new()), |(index, (found, _))| {
                    (index + 1, found.chars().take(80).collect())
                });
            return Err(LockError::Layout { line, found });
        }
        Ok(lock)
    }

    fn check(&self) -> Result<(), LockError> {
        let mut known = BTreeSet::new();
        for package in &self.packages {
            if !known.insert((&package.name, &package.architecture)) {
                return Err(LockError::Twice { what: "the package", name: format!("{}:{}", package.name, package.architecture) });
            }
            if !is_plain_path(&package.file) {
                return Err(LockError::Path {
                    package: package.name.clone(),
                    file: super::tree::escape(package.file.as_bytes()),
                });
            }
        }
        let mut images = BTreeSet::new();
        for image in &self.images {
            if !images.insert((&image.name, &image.architecture)) {
                return Err(LockError::Twice { what: "the image", name: format!("{} for {}", image.name, image.architecture) });
            }
            let mut own = BTreeSet::new();
            for package in image.packages() {
                if self.package(package, &image.architecture).is_none() {
                    let (image, architecture) = (image.name.clone(), image.architecture.clone());
                    return Err(LockError::MissingPackage { image, package: package.clone(), architecture });
                }
                if !own.insert(package) {
                    return Err(LockError::Twice { what: "the package", name: format!("{package} in {}", image.name) });
                }
            }
        }
        composer::check(&self.composer)
    }

    /// Returns the lock in which nothing is decided yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self { writer: WRITER, epoch: 0, archives: Vec::new(), images: Vec::new(), packages: Vec::new(), composer: Vec::new() }
    }

    /// Returns what was locked for the Composer project of an image.
    #[must_use]
    pub fn composer(&self, image: &ImageName, project: &super::tree::TreePath) -> Option<&LockedComposer> {
        self.composer.iter().find(|locked| locked.image == *image && locked.project.as_bytes() == project.as_bytes())
    }

    /// Returns the package of this name for a platform: its own architecture, or `all`.
    #[must_use]
    pub fn package(&self, name: &PackageName, platform: &Architecture) -> Option<&LockedPackage> {
        let start = self.packages.partition_point(|package| package.name < *name);
        self.packages[start..]
            .iter()
            .take_while(|package| package.name == *name)
            .find(|package| package.architecture == *platform || package.architecture.as_str() == "all")
    }

    /// Returns what was locked for an image.
    #[must_use]
    pub fn image(&self, name: &ImageName, platform: &Architecture) -> Option<&LockedImage> {
        self.images.iter().find(|image| image.name == *name && image.architecture == *platform)
    }

    /// Returns the `created` of an image, in seconds since 1970.
    #[must_use]
    pub fn date(&self, image: &LockedImage) -> i64 {
        image.date.unwrap_or(self.epoch)
    }

    /// Returns the packages by name for one platform.
    #[must_use]
    pub fn packages_for(&self, platform: &Architecture) -> BTreeMap<&PackageName, &LockedPackage> {
        self.packages
            .iter()
            .filter(|package| package.architecture == *platform || package.architecture.as_str() == "all")
            .map(|package| (&package.name, package))
            .collect()
    }

    /// Returns the file's bytes.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(1024 + self.packages.len() * 420);
        let out = &mut text;
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "# Written by `parvis lock`. Everything that was resolved; edit the recipes, not this file.\n\
             format = {FORMAT}\nwriter = {}\nepoch = {}\n",
            self.writer, self.epoch
        );
        for archive in &self.archives {
            out.push_str("\n[[archive]]\n");
            string(out, "suite", archive.suite.as_str());
            string(out, "archive", &archive.archive);
            let _ = writeln!(out, "date = {}", archive.date);
            if let Some(valid_until) = archive.valid_until {
                let _ = writeln!(out, "valid_until = {valid_until}");
            }
            string(out, "inrelease", &archive.inrelease.hex());
            string(out, "key", &archive.key);
            strings(out, "accepted", archive.accepted.iter().map(String::as_str));
        }
        for image in &self.images {
            out.push_str("\n[[image]]\n");
            string(out, "name", image.name.as_str());
            string(out, "architecture", image.architecture.as_str());
            string(out, "from", &image.from);
            strings(out, "asked", image.asked.iter().map(PackageName::as_str));
            if image.recommends {
                out.push_str("recommends = true\n");
            }
            if let Some(date) = image.date {
                let _ = writeln!(out, "date = {date}");
            }
            if !image.layers.is_empty() {
                out.push_str("layers = [\n");
                for layer in &image.layers {
                    out.push_str("  [\n");
                    for package in layer {
                        let _ = writeln!(out, "    \"{package}\",");
                    }
                    out.push_str("  ],\n");
                }
                out.push_str("]\n");
            }
        }
        for package in &self.packages {
            out.push_str("\n[[package]]\n");
            string(out, "name", package.name.as_str());
            string(out, "version", &package.version);
            string(out, "architecture", package.architecture.as_str());
            string(out, "source", package.source.as_str());
            if let Some(version) = &package.source_version {
                string(out, "source_version", version);
            }
            string(out, "suite", package.suite.as_str());
            string(out, "file", &package.file);
            let _ = writeln!(out, "size = {}", package.size);
            string(out, "sha256", &package.sha256.hex());
            strings(out, "depends", package.depends.iter().map(PackageName::as_str));
        }
        composer::render(&mut text, &self.composer);
        text
    }
}

/// Returns whether a path stays below an archive's address and means the same in a URL as on a disk.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#'))
}

/// Writes `key = "value"`; values are quoted as TOML basic strings.
fn string(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {}", quoted(value));
}

/// Writes a list on one line, or nothing where it is empty.
fn strings<'a>(out: &mut String, key: &str, values: impl Iterator<Item = &'a str>) {
    let values: Vec<String> = values.map(quoted).collect();
    if !values.is_empty() {
        let _ = writeln!(out, "{key} = [{}]", values.join(", "));
    }
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            _ if character.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let name = |text: &str| text.parse::<PackageName>().unwrap();
        let package = |text: &str, depends: &[&str]| LockedPackage {
            name: name(text),
            version: "1:2.0~rc1-3+b1".into(),
            architecture: "amd64".parse().unwrap(),
            source: name(text),
            source_version: Some("1:2.0~rc1-3".into()),
            suite: "trixie-security".parse().unwrap(),
            file: format!("pool/main/l/{text}/{text}_2.0~rc1-3+b1_amd64.deb"),
            size: 12,
            sha256: DownloadDigest::of(text.as_bytes()),
            depends: depends.iter().map(|text| name(text)).collect(),
        };
        Lock {
            writer: WRITER,
            epoch: 1_763_000_000,
            archives: vec![ArchiveState {
                suite: "trixie".parse().unwrap(),
                archive: "debian".into(),
                date: 1_763_000_000,
                valid_until: None,
                inrelease: DownloadDigest::of(b"x"),
                key: "0".repeat(40),
                accepted: vec!["allow-older".into()],
            }],
            images: vec![LockedImage {
                name: "base".parse().unwrap(),
                architecture: "amd64".parse().unwrap(),
                from: "scratch".into(),
                asked: vec![name("libssl3")],
                recommends: false,
                date: Some(1_762_000_000),
                layers: vec![vec![name("libc6")], vec![name("libssl3")]],
            }],
            packages: vec![package("libc6", &[]), package("libssl3", &["libc6"])],
            composer: Vec::new(),
        }
    }

    #[test]
    fn rendering_a_parsed_lock_gives_the_same_bytes() {
        let lock = sample();
        let text = lock.render();
        let parsed = Lock::parse(&text).unwrap();
        assert_eq!(parsed, lock);
        assert_eq!(parsed.render(), text);
    }

    fn with_composer() -> Lock {
        let download = |kind, title: Option<&str>, url: &str| composer::LockedDownload {
            kind,
            package: "acme/a".into(),
            title: title.map(str::to_owned),
            version: Some("1.0".into()),
            reference: None,
            url: url.into(),
            size: 7,
            sha256: DownloadDigest::of(url.as_bytes()),
            licence: vec!["MIT".into()],
        };
        let project = LockedComposer {
            image: "files".parse().unwrap(),
            project: "site".into(),
            composer_json: DownloadDigest::of(b"{}"),
            composer_lock: DownloadDigest::of(b"{ }"),
            downloads: vec![
                download(composer::DownloadKind::Dist, None, "dist/a.zip"),
                download(composer::DownloadKind::Patch, Some("says \"why\""), "https://p.example/a.patch"),
            ],
        };
        Lock { composer: vec![project], ..sample() }
    }

    #[test]
    fn a_composer_project_stands_behind_all_else_and_reads_back() {
        let (without, with) = (sample().render(), with_composer().render());
        assert!(with.starts_with(&without));
        assert_eq!(Lock::parse(&with).unwrap(), with_composer());
        assert_eq!(Lock::parse(&without).unwrap().composer, []);
    }

    #[test]
    fn a_download_of_a_lock_is_at_an_address_that_parvis_fetches() {
        for url in ["../../etc/passwd", "ftp://h.example/a", "https://me:secret@h.example/a", "php://input"] {
            let mut lock = with_composer();
            lock.composer[0].downloads[0].url = url.into();
            let error = Lock::parse(&lock.render()).unwrap_err();
            assert!(matches!(error, LockError::Address { .. }), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let mut lock = with_composer();
        lock.composer[0].downloads[1] = lock.composer[0].downloads[0].clone();
        assert_eq!(Lock::parse(&lock.render()).unwrap_err().to_string(), "the download `acme/a 1.0` stands in it twice");
        lock.composer[0].project = "../x".into();
        assert!(matches!(Lock::parse(&lock.render()), Err(LockError::Address { .. })));
    }

    #[test]
    fn another_spelling_of_a_lock_is_refused_with_its_line() {
        let text = sample().render().replace("writer = 1", "writer =  1");
        assert!(matches!(Lock::parse(&text), Err(LockError::Layout { line: 3, .. })));
    }

    #[test]
    fn a_newer_format_is_refused_before_anything_else_is_read() {
        let text = sample().render().replace("format = 1", "format = 9\nnovelty = true");
        assert!(matches!(Lock::parse(&text), Err(LockError::Format { found: 9 })));
    }

    #[test]
    fn a_path_that_leaves_the_archive_is_refused() {
        for path in ["../../etc/passwd", "/etc/passwd", "pool//x", "pool/x?y"] {
            let mut lock = sample();
            lock.packages[0].file = path.into();
            assert!(matches!(Lock::parse(&lock.render()), Err(LockError::Path { .. })), "{path}");
        }
    }

    #[test]
    fn a_package_that_is_not_locked_is_named() {
        let mut lock = sample();
        lock.packages.remove(0);
        assert!(matches!(Lock::parse(&lock.render()), Err(LockError::MissingPackage { .. })));
    }
}
