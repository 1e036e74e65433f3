//! What an image consists of, as a value from which both formats of a software bill of materials are written.
//!
//! It is made from the lock and the tree, and says of everything who put it there; nothing is guessed from an image's files.

mod cyclonedx;
mod spdx;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use packageurl::PackageUrl;
use serde_json::Value;

use super::canonical::{self, JsonError};
use super::oci::Platform;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::licence::{Licence, LicenceTexts};
use crate::model::tree::{Origin, TreePath};

/// A format that others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3 (ISO/IEC 5962) as JSON.
    Spdx,
    /// `CycloneDX` 1.6 (ECMA-424) as JSON.
    CycloneDx,
}

/// An image of one platform, by what it is called outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The repository: `registry.example/parish/httpd`.
    pub repository: String,
    /// The digest of its manifest.
    pub digest: BlobDigest,
    pub platform: Platform,
    pub description: String,
}

/// What a component is, and what it is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A Debian package that is installed.
    Package,
    /// A Debian source package, from which installed ones were built. It is not in the image.
    Source,
    /// A package that Composer installed, or what a plugin put into one.
    Composer,
    /// A patch that was applied to a package that Composer installed.
    Patch,
}

/// Who answers for a package: a person or a team, with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplier {
    pub name: String,
    pub email: Option<String>,
}

impl Supplier {
    /// Reads a `Maintainer` field: `Name <address>`.
    #[must_use]
    pub fn parse(maintainer: &str) -> Self {
        let (name, email) = match maintainer.rsplit_once('<') {
            Some((name, rest)) => (name, Some(rest.trim_end().trim_end_matches('>'))),
            None => (maintainer, None),
        };
        let name = name.trim().trim_matches('"').to_owned();
        let email = email.map(str::trim).filter(|email| email.contains('@')).map(str::to_owned);
        Self { name, email }
    }

    /// Whether it is a team, as far as its name and address tell.
    #[must_use]
    pub fn is_team(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let words = ["team", "group", "maintainers", "developers", "packagers", "project", "debian"];
        let lists = ["@lists.", "@alioth-lists.", "@tracker.", "@packages.", "-list@", "-devel@"];
        name.split(|c: char| !c.is_ascii_alphabetic()).any(|word| words.contains(&word))
            || self.email.as_ref().is_some_and(|email| lists.iter().any(|list| email.contains(list)))
    }
}

/// One thing that the image consists of, or was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Letters, digits, `.` and `-`; no other component of the image has the same.
    pub id: String,
    pub role: Role,
    pub name: String,
    pub version: Option<String>,
    pub purl: Option<String>,
    pub summary: Option<String>,
    pub supplier: Option<Supplier>,
    pub homepage: Option<String>,
    /// As the package itself declares it.
    pub licence: Option<Licence>,
    /// Where the licence stands, or why none is known.
    pub licence_note: Option<String>,
    /// The digest of the package's file: a .deb, a distribution.
    pub sha256: Option<String>,
    /// The path or name of that file.
    pub file: Option<String>,
    /// Where it was downloaded, where that does not depend on who did it.
    pub url: Option<String>,
    /// The source package that it was built from, by its id.
    pub source: Option<String>,
    /// What it needs to work, or, for a patch, what it was applied to: ids.
    pub needs: BTreeSet<String>,
    /// The images that brought it in: the image itself or one that it stands on, as repositories.
    pub brought_by: String,
    /// What else is to be said.
    pub note: Option<String>,
}

impl Component {
    /// Returns a component of which nothing else is known.
    #[must_use]
    pub fn new(id: String, role: Role, name: String, brought_by: &str) -> Self {
        Self {
            id,
            role,
            name,
            version: None,
            purl: None,
            summary: None,
            supplier: None,
            homepage: None,
            licence: None,
            licence_note: None,
            sha256: None,
            file: None,
            url: None,
            source: None,
            needs: BTreeSet::new(),
            brought_by: brought_by.to_owned(),
            note: None,
        }
    }
}

/// A regular file that belongs to no package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    pub path: TreePath,
    pub sha256: FileDigest,
    /// SPDX wants this one of every file.
    pub sha1: String,
    pub origin: Origin,
    /// The image whose tree it was copied from, and the line of the recipe that says so.
    pub copied: Option<String>,
}

impl OwnFile {
    /// Returns an id that no other file of the image has.
    #[must_use]
    pub fn id(&self) -> String {
        format!("file-{}", &FileDigest::of(self.path.as_bytes()).hex()[..24])
    }

    /// Says in words who put the file there.
    #[must_use]
    pub fn who(&self) -> String {
        let who = match &self.origin {
            Origin::Package(name) => format!("from the package {name}"),
            Origin::Script(name) => format!("made or changed by a maintainer script of {name}"),
            Origin::Recipe { image, line } => format!("put there by recipes/{image}.yaml, line {line}"),
            Origin::Run { image, line } => format!("made or changed by the command at recipes/{image}.yaml, line {line}"),
            Origin::Composer(name) => format!("from the Composer package {name}"),
            Origin::Parvis => "written by parvis: package database, accounts".to_owned(),
        };
        match &self.copied {
            Some(copied) => format!("{who}; {copied}"),
            None => who,
        }
    }
}

/// Everything that an image consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The version of parvis.
    pub tool: String,
    /// Seconds since 1970: the date of the image, by its lock. Nothing else of the lock is stated as a whole: it may move without
    /// this image.
    pub created: i64,
    pub image: Subject,
    /// The images that it stands on, its parent first.
    pub ancestors: Vec<Subject>,
    /// By id.
    pub components: BTreeMap<String, Component>,
    /// In the order of their paths.
    pub files: Vec<OwnFile>,
    /// The texts that licences refer to.
    pub texts: LicenceTexts,
}

/// A list that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the number {0} is no date that can be written")]
    Epoch(i64),
}

impl Inventory {
    /// Returns the document in a format. The same inventory gives the same document.
    ///
    /// # Errors
    /// Refuses a date outside the calendar.
    pub fn document(&self, format: Format) -> Result<Value, SbomError> {
        let created = jiff::Timestamp::from_second(self.created).map_err(|_| SbomError::Epoch(self.created))?.to_string();
        Ok(match format {
            Format::Spdx => spdx::document(self, &created)?,
            Format::CycloneDx => cyclonedx::document(self, &created)?,
        })
    }

    /// Returns the components that are in the image.
    fn contained(&self) -> impl Iterator<Item = &Component> {
        self.components.values().filter(|component| matches!(component.role, Role::Package | Role::Composer))
    }
}

/// Returns the 32 bytes that name a document: those of its content's digest.
fn name_of(document: &Value) -> Result<FileDigest, JsonError> {
    Ok(FileDigest::of(&canonical::to_bytes(document)?))
}

/// Returns an id from parts, each of which may be any text: no two lists of parts give the same.
#[must_use]
pub fn id(parts: &[&str]) -> String {
    let mut id = String::new();
    for part in parts {
        if !id.is_empty() {
            id.push_str(SEPARATOR);
        }
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => id.push(char::from(byte)),
                // Writing to a String cannot fail.
                _ => drop(write!(id, "X{byte:02x}")),
            }
        }
    }
    id
}

/// Stands between the parts of an id. Capitals come from nothing else.
const SEPARATOR: &str = "-N-";

/// What tells packages of one name apart.
#[derive(Debug, Clone, Copy)]
pub struct Debian<'a> {
    /// Who made the distribution, as its os-release calls itself: `debian`.
    pub vendor: &'a str,
    /// The distribution and its version: `debian-13`.
    pub distro: Option<&'a str>,
}

impl Debian<'_> {
    /// Returns the package URL of a binary package, or of a source package for the architecture `source` (purl-spec, type `deb`).
    #[must_use]
    pub fn purl(&self, name: &str, version: &str, architecture: &str) -> Option<String> {
        let qualifiers: Vec<_> =
            [Some(("arch", architecture)), self.distro.map(|distro| ("distro", distro))].into_iter().flatten().collect();
        purl("deb", Some(self.vendor), name, Some(version), &qualifiers)
    }
}

/// Returns a package URL; nothing where a part cannot stand in one.
#[must_use]
pub fn purl(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    version: Option<&str>,
    qualifiers: &[(&str, &str)],
) -> Option<String> {
    let mut purl = PackageUrl::new(kind, name).ok()?;
    if let Some(namespace) = namespace {
        purl.with_namespace(namespace).ok()?;
    }
    if let Some(version) = version {
        purl.with_version(version).ok()?;
    }
    for (key, value) in qualifiers {
        purl.add_qualifier(*key, *value).ok()?;
    }
    Some(purl.to_string())
}

impl Subject {
    /// Returns the package URL of the image (purl-spec, type `oci`).
    #[must_use]
    pub fn purl(&self) -> Option<String> {
        let name = self.repository.rsplit('/').next().unwrap_or(&self.repository);
        let qualifiers = [("arch", self.platform.architecture.as_str()), ("repository_url", self.repository.as_str())];
        // Where no registry is named, there is no address either.
        let known = if self.repository.contains(['.', ':']) { &qualifiers[..] } else { &qualifiers[..1] };
        purl("oci", None, name, Some(&self.digest.to_string()), known)
    }
}

#[cfg(test)]
mod tests;
