//! What a lock says of a Composer project: every archive and patch that its installation takes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use super::{LockError, string, strings};
use crate::model::address::Address;
use crate::model::digest::DownloadDigest;
use crate::model::name::ImageName;

/// The name that Composer itself gives to a project that has none.
pub const ROOT: &str = "__root__";

/// What a download is to Composer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DownloadKind {
    /// The distribution of a package.
    Dist,
    /// An archive or file that a plugin puts into a package (`extra.downloads`).
    Download,
    /// A patch that a plugin applies to a package (`extra.patches`).
    Patch,
}

impl DownloadKind {
    /// Returns the word that stands in the lock and in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Download => "download",
            Self::Patch => "patch",
        }
    }
}

/// One file that an installation takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDownload {
    pub kind: DownloadKind,
    /// The package that it is, goes into or is applied to; [`ROOT`] for the project itself where that has no name.
    pub package: String,
    /// What its author calls it: the name of a download, the description of a patch.
    #[serde(default)]
    pub title: Option<String>,
    /// The package's version; of a download its own, where it has one.
    #[serde(default)]
    pub version: Option<String>,
    /// What identifies the source that a distribution was made from.
    #[serde(default)]
    pub reference: Option<String>,
    /// Where it is: an address, or a path below the project or a repository of the profile.
    pub url: String,
    pub size: u64,
    pub sha256: DownloadDigest,
    /// The package's licences, by their SPDX names.
    #[serde(default)]
    pub licence: Vec<String>,
}

impl LockedDownload {
    /// Returns what people call it.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.kind, &self.package, self.title.as_deref(), self.version.as_deref())
    }
}

/// Returns what people call a download: `acme/a 1.0`, `download jquery of acme/a`.
#[must_use]
pub fn name(kind: DownloadKind, package: &str, title: Option<&str>, version: Option<&str>) -> String {
    match (kind, title, version) {
        (DownloadKind::Dist, _, Some(version)) => format!("{package} {version}"),
        (DownloadKind::Dist, _, None) => package.to_owned(),
        (_, Some(title), _) => format!("{} `{}` of {package}", kind.word(), crate::model::problem::shown(title)),
        (_, None, _) => format!("{} of {package}", kind.word()),
    }
}

/// A Composer project of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedComposer {
    pub image: ImageName,
    /// The project's folder below `images/IMAGE/`.
    pub project: String,
    /// The digest of composer.json.
    pub composer_json: DownloadDigest,
    /// The digest of composer.lock.
    pub composer_lock: DownloadDigest,
    /// Sorted by package, kind and address.
    #[serde(default, rename = "download")]
    pub downloads: Vec<LockedDownload>,
}

/// Refuses what stands twice.
pub(super) fn check(projects: &[LockedComposer]) -> Result<(), LockError> {
    let mut known = BTreeSet::new();
    for project in projects {
        if !known.insert((&project.image, &project.project)) {
            let name = format!("{} of {}", project.project, project.image);
            return Err(LockError::Twice { what: "the Composer project", name });
        }
        let place = |of: String, text: &str| Address::parse(text).map_err(|source| LockError::Address { of, source });
        place(format!("the project of {}", project.image), &project.project)?;
        let mut own = BTreeSet::new();
        for download in &project.downloads {
            place(download.name(), &download.url)?;
            if !own.insert((&download.package, download.kind, &download.url)) {
                return Err(LockError::Twice { what: "the download", name: download.name() });
            }
        }
    }
    Ok(())
}

/// Writes the projects after everything else: a lock without any is as it was before there were such projects.
pub(super) fn render(out: &mut String, projects: &[LockedComposer]) {
    for project in projects {
        out.push_str("\n[[composer]]\n");
        string(out, "image", project.image.as_str());
        string(out, "project", &project.project);
        string(out, "composer_json", &project.composer_json.hex());
        string(out, "composer_lock", &project.composer_lock.hex());
        for download in &project.downloads {
            out.push_str("\n[[composer.download]]\n");
            string(out, "kind", download.kind.word());
            string(out, "package", &download.package);
            let optional = [("title", &download.title), ("version", &download.version), ("reference", &download.reference)];
            for (key, value) in optional {
                if let Some(value) = value {
                    string(out, key, value);
                }
            }
            string(out, "url", &download.url);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "size = {}", download.size);
            string(out, "sha256", &download.sha256.hex());
            strings(out, "licence", download.licence.iter().map(String::as_str));
        }
    }
}
