//! What is newer than what somebody has: by source package, because that is what is fixed and what has a changelog.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::locking::lineage;
use crate::debian::control::{ControlError, Paragraphs};
use crate::debian::index::{Candidate, Universe};
use crate::debian::version::Version;
use crate::model::lock::{Lock, LockedPackage};
use crate::model::name::{Architecture, ImageName, PackageName, Suite};
use crate::model::project::Project;

/// A package that somebody has, as a lock or the package database of an image tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub name: PackageName,
    pub version: String,
    /// The package's own architecture, or `all`.
    pub architecture: Architecture,
    pub source: PackageName,
    pub source_version: String,
    /// The images that have it, those that inherit it too.
    pub images: Vec<ImageName>,
}

impl Held {
    /// Returns the packages of a lock.
    #[must_use]
    pub fn of_lock(lock: &Lock) -> Vec<Self> {
        let images = holders(lock);
        let held = |package: &LockedPackage| Self {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            source: package.source.clone(),
            source_version: source_version(package).to_owned(),
            images: images.get(&(&package.name, &package.architecture)).cloned().unwrap_or_default(),
        };
        lock.packages.iter().map(held).collect()
    }

    /// Reads the packages of an image from its `var/lib/dpkg/status`.
    ///
    /// # Errors
    /// Refuses a database that is none.
    pub fn of_status(status: &[u8], image: &ImageName) -> Result<Vec<Self>, ControlError> {
        let mut held = Vec::new();
        for paragraph in Paragraphs::new(status, 1, 1)? {
            let paragraph = paragraph?;
            if !paragraph.get("Status").is_some_and(|status| status.ends_with(" installed")) {
                continue;
            }
            let name: PackageName = paragraph.parsed("Package")?;
            let version: Version = paragraph.parsed("Version")?;
            let (source, inside) = match paragraph.get("Source") {
                None => (name.clone(), None),
                Some(text) => {
                    let (source, inside) = text.split_once(' ').unwrap_or((text, ""));
                    let inside = inside.strip_prefix('(').and_then(|inside| inside.strip_suffix(')'));
                    (source.parse().map_err(|_| paragraph.bad_value("Source"))?, inside.map(str::to_owned))
                }
            };
            held.push(Self {
                name,
                source_version: inside.unwrap_or_else(|| version.to_string()),
                version: version.to_string(),
                architecture: paragraph.parsed("Architecture")?,
                source,
                images: vec![image.clone()],
            });
        }
        Ok(held)
    }

    /// Puts together what several images have.
    #[must_use]
    pub fn merged(all: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut merged: BTreeMap<(PackageName, Architecture, String), Self> = BTreeMap::new();
        for held in all {
            let key = (held.name.clone(), held.architecture.clone(), held.version.clone());
            match merged.get_mut(&key) {
                None => drop(merged.insert(key, held)),
                Some(there) => there.images.extend(held.images),
            }
        }
        merged.into_values().collect()
    }
}

/// Returns the version of the source that a package was built from.
#[must_use]
pub fn source_version(package: &LockedPackage) -> &str {
    package.source_version.as_deref().unwrap_or(&package.version)
}

/// Returns the images that have each package, in the order of the lock.
fn holders(lock: &Lock) -> BTreeMap<(&PackageName, &Architecture), Vec<ImageName>> {
    let mut holders: BTreeMap<_, Vec<ImageName>> = BTreeMap::new();
    for image in &lock.images {
        let names: BTreeSet<&PackageName> =
            lineage(lock, image).into_iter().flat_map(super::super::model::lock::LockedImage::packages).collect();
        for package in names.into_iter().filter_map(|name| lock.package(name, &image.architecture)) {
            let images = holders.entry((&package.name, &package.architecture)).or_default();
            if !images.contains(&image.name) {
                images.push(image.name.clone());
            }
        }
    }
    holders
}

/// A package that moves, with the rest of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The version that somebody has; nothing where the package is new.
    pub from: Option<String>,
    /// What it becomes.
    pub to: LockedPackage,
    /// Packages that need it, where it moves for their sake.
    pub needed_by: Vec<PackageName>,
}

/// What there is newer of one source package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub source: PackageName,
    /// The version of the source that somebody has, the oldest where there are several; nothing where it is new.
    pub older: Option<String>,
    pub newer: String,
    pub suite: Suite,
    /// Whether a security suite has it.
    pub security: bool,
    /// At least one, sorted by name, then by architecture.
    pub packages: Vec<Moved>,
    /// The images that have one of them, those that inherit it too.
    pub images: Vec<ImageName>,
}

impl Upload {
    /// Returns the bytes of all its packages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packages.iter().map(|moved| moved.to.size).sum()
    }

    /// Returns the packages that need something of it, where none of it moves for its own sake.
    #[must_use]
    pub fn needed_by(&self) -> BTreeSet<&PackageName> {
        self.packages.iter().flat_map(|moved| &moved.needed_by).filter(|_| !self.security).collect()
    }

    /// Returns the document that `--json` prints.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let package = |moved: &Moved| {
            json!({ "package": moved.to.name, "architecture": moved.to.architecture, "from": moved.from, "to": moved.to.version,
                "bytes": moved.to.size, "needed_by": moved.needed_by })
        };
        json!({
            "source": self.source,
            "from": self.older,
            "to": self.newer,
            "suite": self.suite,
            "security": self.security,
            "packages": self.packages.iter().map(package).collect::<Vec<_>>(),
            "images": self.images,
            "bytes": self.bytes(),
        })
    }
}

/// Gathers moves by source: those of security first, then by name.
#[derive(Default)]
struct Gathered {
    uploads: BTreeMap<(bool, PackageName, String), Upload>,
    order: Vec<ImageName>,
}

impl Gathered {
    fn add(&mut self, moved: Moved, older: Option<&str>, security: bool, images: &[ImageName]) {
        let newer = source_version(&moved.to).to_owned();
        let key = (!security, moved.to.source.clone(), newer.clone());
        let upload = self.uploads.entry(key).or_insert_with(|| Upload {
            source: moved.to.source.clone(),
            older: None,
            newer,
            suite: moved.to.suite.clone(),
            security,
            packages: Vec::new(),
            images: Vec::new(),
        });
        let older = older.filter(|older| {
            let parsed = |text: &str| text.parse::<Version>().ok();
            upload.older.as_deref().and_then(parsed).is_none_or(|known| parsed(older).is_some_and(|older| older < known))
        });
        upload.older = older.map(str::to_owned).or_else(|| upload.older.take());
        upload.packages.push(moved);
        upload.images.extend(images.iter().cloned());
    }

    fn finish(self) -> Vec<Upload> {
        let Self { uploads, order } = self;
        let mut uploads: Vec<Upload> = uploads.into_values().collect();
        for upload in &mut uploads {
            upload
                .packages
                .sort_by(|left, right| (&left.to.name, &left.to.architecture).cmp(&(&right.to.name, &right.to.architecture)));
            let place = |image: &ImageName| order.iter().position(|known| known == image).unwrap_or(usize::MAX);
            upload.images.sort_by(|left, right| (place(left), left).cmp(&(place(right), right)));
            upload.images.dedup();
        }
        uploads
    }
}

/// Returns what the archive has newer than what somebody has: what a security suite fixes first, then by name.
///
/// `images` is the order in which images are named. Of a package that a security suite fixes, the fix is told, though another suite may have something newer still.
#[must_use]
pub fn available(held: &[Held], images: &[ImageName], universes: &BTreeMap<Architecture, Universe>) -> Vec<Upload> {
    let mut gathered = Gathered { order: images.to_vec(), ..Gathered::default() };
    for held in held {
        let platform = universes.iter().find(|(name, _)| **name == held.architecture || held.architecture.as_str() == "all");
        let (Some((_, universe)), Ok(version)) = (platform, held.version.parse::<Version>()) else { continue };
        let fix = fix(universe, &held.name, &version);
        let highest = universe.highest(held.name.as_str()).filter(|highest| highest.version > version);
        let Some(to) = fix.or(highest).and_then(|to| locked(universe, to)) else { continue };
        let moved = Moved { from: Some(held.version.clone()), to, needed_by: Vec::new() };
        gathered.add(moved, Some(&held.source_version), fix.is_some(), &held.images);
    }
    gathered.finish()
}

/// Returns the highest version that a security suite has above another.
#[must_use]
pub fn fix<'a>(universe: &'a Universe, name: &PackageName, above: &Version) -> Option<&'a Candidate> {
    let secure = |candidate: &&Candidate| universe.origin(candidate).is_some_and(|origin| origin.security);
    universe.versions(name.as_str()).iter().filter(secure).find(|candidate| candidate.version > *above)
}

/// Returns what a lock would say of a candidate, but for what it depends on.
fn locked(universe: &Universe, candidate: &Candidate) -> Option<LockedPackage> {
    Some(candidate.to_locked(universe.origin(candidate)?.suite.clone(), Vec::new()))
}

/// What a lock that moved has otherwise than the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moves {
    pub uploads: Vec<Upload>,
    /// Packages that are no longer there, with their versions.
    pub removed: Vec<(PackageName, Architecture, String)>,
}

impl Moves {
    /// Returns the names of all packages that are another version, new, or gone on a platform.
    #[must_use]
    pub fn names(&self, platform: &Architecture) -> BTreeSet<&PackageName> {
        let moved = self.uploads.iter().flat_map(|upload| &upload.packages).map(|moved| (&moved.to.name, &moved.to.architecture));
        let removed = self.removed.iter().map(|(name, architecture, _)| (name, architecture));
        let here = |(_, of): &(&PackageName, &Architecture)| of.as_str() == "all" || *of == platform;
        moved.chain(removed).filter(here).map(|(name, _)| name).collect()
    }

    /// Returns whether nothing moved.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.uploads.is_empty() && self.removed.is_empty()
    }
}

/// Returns what a lock has otherwise than another one, and why.
#[must_use]
pub fn moves(before: &Lock, after: &Lock, project: &Project) -> Moves {
    let index = |lock: &'_ Lock| -> BTreeMap<(PackageName, Architecture), LockedPackage> {
        lock.packages.iter().map(|package| ((package.name.clone(), package.architecture.clone()), package.clone())).collect()
    };
    let (old, new) = (index(before), index(after));
    let images = holders(after);
    let is_security = |suite: &Suite| project.suites.iter().any(|rule| rule.security && rule.name == *suite);
    let sources: BTreeMap<&PackageName, &str> =
        before.packages.iter().map(|package| (&package.source, source_version(package))).collect();
    let changed = |package: &&LockedPackage| {
        old.get(&(package.name.clone(), package.architecture.clone())).is_none_or(|old| old.sha256 != package.sha256)
    };
    let moving: Vec<&LockedPackage> = after.packages.iter().filter(changed).collect();
    let mut gathered = Gathered { order: order(after.images.iter().map(|image| &image.name)), ..Gathered::default() };
    for package in &moving {
        let key = (package.name.clone(), package.architecture.clone());
        let from = old.get(&key);
        let security = is_security(&package.suite);
        let needed = |other: &&&LockedPackage| !security && other.depends.contains(&package.name);
        let needed_by: BTreeSet<PackageName> = moving.iter().filter(needed).map(|other| other.name.clone()).collect();
        let older = from.map(source_version).or_else(|| sources.get(&package.source).copied());
        let moved = Moved {
            from: from.map(|from| from.version.clone()),
            to: (*package).clone(),
            needed_by: needed_by.into_iter().collect(),
        };
        let holders = images.get(&(&package.name, &package.architecture)).map_or(&[][..], Vec::as_slice);
        gathered.add(moved, older, security, holders);
    }
    let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
    let removed = gone.map(|((name, architecture), package)| (name.clone(), architecture.clone(), package.version.clone()));
    Moves { uploads: gathered.finish(), removed: removed.collect() }
}

/// Returns images in the order in which they are first named.
#[must_use]
pub fn order<'a>(images: impl Iterator<Item = &'a ImageName>) -> Vec<ImageName> {
    let mut order = Vec::new();
    for image in images {
        if !order.contains(image) {
            order.push(image.clone());
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_for_one_platform_is_not_for_another() {
        let removed = [("only", "arm64"), ("both", "all"), ("own", "amd64")];
        let removed = removed.map(|(name, of)| (name.parse().unwrap(), of.parse().unwrap(), "1".to_owned())).to_vec();
        let moves = Moves { removed, ..Moves::default() };
        let names = |platform: &str| -> Vec<String> {
            moves.names(&platform.parse().unwrap()).into_iter().map(ToString::to_string).collect()
        };
        assert_eq!((names("amd64"), names("arm64")), (vec!["both".into(), "own".into()], vec!["both".into(), "only".into()]));
    }
}
