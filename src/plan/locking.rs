//! Makes a lock: decides every package of every image, moving as little as the person asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::composing::{self, ProjectDifference};
use super::dating::keep_dates;
use super::grouping;
use super::news::fix;
use crate::debian::index::{Candidate, Universe};
use crate::debian::relation;
use crate::debian::release::Release;
use crate::debian::resolve::{Request, ResolveError, Selection, met_by, resolve};
use crate::model::catalog::Catalog;
use crate::model::lock::{ArchiveState, Lock, LockedImage, LockedPackage, WRITER};
use crate::model::name::{Architecture, ImageName, PackageName};
use crate::model::project::{Project, SuiteRule};
use crate::model::recipe::{Parent, Recipe};

/// What may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Only what the recipes ask anew; what is locked stays.
    Keep,
    /// Everything, to the newest that the archive has.
    UpdateAll,
    /// These packages, with those of the same source, to the newest.
    Update(BTreeSet<PackageName>),
    /// What a security suite has newer.
    Security,
}

/// What a lock is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub project: &'a Project,
    pub catalog: &'a Catalog,
    pub universes: &'a BTreeMap<Architecture, Universe>,
    pub archives: Vec<ArchiveState>,
    pub previous: Option<&'a Lock>,
}

/// A lock that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LockingError {
    #[error("the packages of `{image}` for {architecture} cannot be chosen: {source}")]
    Resolve { image: ImageName, architecture: Architecture, source: ResolveError },
    #[error("the lists of packages for {0} are missing")]
    Universe(Architecture),
    #[error("`{0}` is not locked, so it cannot be updated")]
    NotLocked(PackageName),
    #[error("`{name}` stands as {one} in the lists of one architecture and as {other} in those of another")]
    Disagree { name: PackageName, one: String, other: String },
}

impl LockingError {
    /// Returns what a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Resolve { source, .. } => source.hint(),
            Self::Universe(_) => None,
            Self::NotLocked(name) => Some(format!("add it to a recipe, or look with `parvis why {name}` for another name")),
            Self::Disagree { .. } => Some("the mirror is being changed: try again in an hour".into()),
        }
    }
}

/// Makes a lock.
///
/// Where nothing that is decided changes, the previous lock stays as it is, dates of the archive included: a lock says what
/// was decided and from which state of the archive, and a decision that stands is not dated anew. So the epoch changes only
/// with a package or a recipe, and the date of an image, and with it its digest, only with its own.
pub fn make(inputs: &Inputs<'_>, mode: &Mode) -> Result<Lock, LockingError> {
    let empty = Lock::empty();
    let previous = inputs.previous.unwrap_or(&empty);
    if let Mode::Update(names) = mode {
        let unknown = names.iter().find(|name| !previous.packages.iter().any(|package| package.name == **name));
        if let Some(name) = unknown {
            return Err(LockingError::NotLocked(name.clone()));
        }
    }
    let mut architectures = inputs.project.architectures.clone();
    architectures.sort();
    let mut images = Vec::new();
    let mut packages: BTreeMap<(PackageName, Architecture), LockedPackage> = BTreeMap::new();
    for architecture in &architectures {
        let universe = inputs.universes.get(architecture).ok_or_else(|| LockingError::Universe(architecture.clone()))?;
        let platform = Platform { inputs, previous, universe, architecture };
        for (image, chosen) in platform.lock(mode)? {
            images.push(image);
            for package in chosen {
                merge(&mut packages, package)?;
            }
        }
    }
    let mut archives = inputs.archives.clone();
    archives.sort_by(|left, right| left.suite.cmp(&right.suite));
    let epoch = archives.iter().map(|archive| archive.date).max().unwrap_or(0).max(previous.epoch);
    let composer = previous.composer.clone();
    let mut lock = Lock { writer: WRITER, epoch, archives, images, packages: packages.into_values().collect(), composer };
    keep_dates(&mut lock, previous, inputs.catalog);
    Ok(if stands(previous, &lock) { previous.clone() } else { lock })
}

/// Returns whether the previous lock says all that a new one does, and was made without passing over a check.
fn stands(previous: &Lock, lock: &Lock) -> bool {
    let suites = |lock: &Lock| lock.archives.iter().map(|state| (state.suite.clone(), state.archive.clone())).collect::<Vec<_>>();
    // Dates are written against the epoch, which is another one; where all else stands, they do.
    let undated = |lock: &Lock| lock.images.iter().map(|image| LockedImage { date: None, ..image.clone() }).collect::<Vec<_>>();
    (previous.writer, &previous.packages) == (lock.writer, &lock.packages)
        && undated(previous) == undated(lock)
        && suites(previous) == suites(lock)
        && previous.archives.iter().all(|state| state.accepted.is_empty())
}

/// Adds a package that may already be there for another image or architecture.
fn merge(
    packages: &mut BTreeMap<(PackageName, Architecture), LockedPackage>,
    package: LockedPackage,
) -> Result<(), LockingError> {
    let key = (package.name.clone(), package.architecture.clone());
    let Some(there) = packages.get_mut(&key) else {
        packages.insert(key, package);
        return Ok(());
    };
    if there.sha256 != package.sha256 {
        let (one, other) = (there.version.clone(), package.version);
        return Err(LockingError::Disagree { name: package.name, one, other });
    }
    there.depends.extend(package.depends);
    there.depends.sort();
    there.depends.dedup();
    Ok(())
}

/// One architecture, for which all images take the same version of a package.
struct Platform<'a> {
    inputs: &'a Inputs<'a>,
    previous: &'a Lock,
    universe: &'a Universe,
    architecture: &'a Architecture,
}

type Images = Vec<(LockedImage, Vec<LockedPackage>)>;

impl Platform<'_> {
    /// Chooses the packages of all images, giving up pins that stand in the way.
    fn lock(&self, mode: &Mode) -> Result<Images, LockingError> {
        let locked = self.previous.packages_for(self.architecture);
        let mut pins: BTreeMap<PackageName, Candidate> =
            locked.values().filter_map(|package| Some((package.name.clone(), self.pin(package, &locked, mode)?))).collect();
        loop {
            let selection = Selection::pinned(self.universe, pins.values());
            let error = match self.images(&selection, &locked) {
                Err(LockingError::Resolve { image, architecture, source: ResolveError::Conflict(conflict) }) => {
                    let mut guilty: BTreeSet<PackageName> = conflict.chain.iter().chain(&conflict.involved).cloned().collect();
                    let required = relation::parse(&conflict.requirement).unwrap_or_default();
                    guilty.extend(required.iter().flatten().filter_map(|relation| relation.name.parse().ok()));
                    let source = ResolveError::Conflict(conflict);
                    (guilty, LockingError::Resolve { image, architecture, source })
                }
                other => return other,
            };
            let (guilty, error) = error;
            let before = pins.len();
            pins.retain(|name, pin| !guilty.contains(name) || self.is_highest(pin));
            if pins.len() == before {
                return Err(error);
            }
        }
    }

    fn is_highest(&self, pin: &Candidate) -> bool {
        self.universe.highest(pin.name.as_str()).is_none_or(|highest| highest.version <= pin.version)
    }

    /// Returns the version that a locked package must keep or get, or nothing where it may move to the newest.
    fn pin(&self, package: &LockedPackage, locked: &BTreeMap<&PackageName, &LockedPackage>, mode: &Mode) -> Option<Candidate> {
        let stay = || self.as_locked(package);
        match mode {
            Mode::UpdateAll => None,
            Mode::Keep => stay(),
            Mode::Update(names) => {
                let moves = names.iter().filter_map(|name| locked.get(name)).any(|other| other.source == package.source);
                if moves { None } else { stay() }
            }
            Mode::Security => {
                let locked = package.version.parse().ok();
                locked.and_then(|locked| fix(self.universe, &package.name, &locked)).cloned().or_else(stay)
            }
        }
    }

    /// Returns a locked package as the archive offers it, or as the lock knows it where it has left the archive.
    fn as_locked(&self, package: &LockedPackage) -> Option<Candidate> {
        let versions = self.universe.versions(package.name.as_str());
        let same = versions.iter().find(|candidate| candidate.sha256 == package.sha256);
        same.cloned().or_else(|| Some(Candidate::from_lock(package, package.version.parse().ok()?, versions.first())))
    }

    fn images(&self, selection: &Selection<'_>, locked: &BTreeMap<&PackageName, &LockedPackage>) -> Result<Images, LockingError> {
        let mut whole: BTreeMap<&ImageName, BTreeSet<PackageName>> = BTreeMap::new();
        let mut images = Vec::new();
        for member in self.inputs.catalog.iter() {
            let recipe = &member.recipe;
            let failed =
                |source| LockingError::Resolve { image: recipe.name.clone(), architecture: self.architecture.clone(), source };
            let asked = asked(recipe);
            let request = Request {
                installed: parent(recipe).and_then(|parent| whole.get(parent)).cloned().unwrap_or_default(),
                essential: parent(recipe).is_none() && !asked.is_empty(),
                asked,
                recommends: recipe.recommends,
            };
            let own = resolve(selection, &request).map_err(failed)?;
            let mut together = request.installed;
            together.extend(own.iter().map(|candidate| candidate.name.clone()));
            let mut packages = Vec::new();
            for candidate in own {
                let depends = met_by(selection, candidate, &together).map_err(failed)?.into_iter().collect();
                packages.push(self.locked_package(candidate, depends, locked.get(&candidate.name).copied()));
            }
            whole.insert(&recipe.name, together);
            let previous = self.previous.image(&recipe.name, self.architecture);
            let budget = usize::try_from(self.inputs.project.layers.budget).unwrap_or(usize::MAX);
            let image = LockedImage {
                name: recipe.name.clone(),
                architecture: self.architecture.clone(),
                from: from(recipe),
                asked: request.asked.into_iter().collect(),
                recommends: recipe.recommends,
                date: None,
                layers: grouping::assign(previous, &packages.iter().collect::<Vec<_>>(), budget),
            };
            images.push((image, packages));
        }
        Ok(images)
    }

    fn locked_package(&self, candidate: &Candidate, depends: Vec<PackageName>, before: Option<&LockedPackage>) -> LockedPackage {
        if let Some(before) = before.filter(|before| before.sha256 == candidate.sha256) {
            return LockedPackage { depends, ..before.clone() };
        }
        let suite = self.universe.origin(candidate).map(|origin| origin.suite.clone());
        // A candidate without origin stands for a locked package, and was handled above.
        candidate.to_locked(suite.unwrap_or_else(|| self.inputs.project.suites[0].name.clone()), depends)
    }
}

pub(super) fn parent(recipe: &Recipe) -> Option<&ImageName> {
    match &recipe.from {
        Parent::Scratch => None,
        Parent::Recipe(name) => Some(name),
    }
}

fn from(recipe: &Recipe) -> String {
    parent(recipe).map_or_else(|| "scratch".to_owned(), ToString::to_string)
}

fn asked(recipe: &Recipe) -> BTreeSet<PackageName> {
    recipe.packages.iter().cloned().collect()
}

/// One thing in which two locks, or a lock and the recipes, differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    ImageAdded {
        image: ImageName,
        architecture: Architecture,
    },
    ImageRemoved {
        image: ImageName,
        architecture: Architecture,
    },
    Parent {
        image: ImageName,
        locked: String,
        recipe: String,
    },
    Asked {
        image: ImageName,
        added: Vec<PackageName>,
        removed: Vec<PackageName>,
    },
    Recommends {
        image: ImageName,
        recipe: bool,
    },
    PackageAdded {
        name: PackageName,
        architecture: Architecture,
        version: String,
        security: bool,
    },
    PackageRemoved {
        name: PackageName,
        architecture: Architecture,
        version: String,
    },
    PackageMoved {
        name: PackageName,
        architecture: Architecture,
        from: String,
        to: String,
        security: bool,
    },
    /// The same version, with other dependencies, path or digest.
    PackageChanged {
        name: PackageName,
        architecture: Architecture,
    },
    Layers {
        image: ImageName,
        architecture: Architecture,
    },
    Archives,
    Composer(ProjectDifference),
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[PackageName]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mark = |security: &bool| if *security { " (security)" } else { "" };
        match self {
            Self::ImageAdded { image, architecture } => write!(formatter, "image `{image}` for {architecture} is not locked yet"),
            Self::ImageRemoved { image, architecture } => {
                write!(formatter, "image `{image}` for {architecture} has no recipe any more")
            }
            Self::Parent { image, locked, recipe } => {
                write!(formatter, "image `{image}` stands on `{recipe}`, and was locked on `{locked}`")
            }
            Self::Asked { image, added, removed } if removed.is_empty() => {
                write!(formatter, "image `{image}` asks for {} too", list(added))
            }
            Self::Asked { image, added, removed } if added.is_empty() => {
                write!(formatter, "image `{image}` no longer asks for {}", list(removed))
            }
            Self::Asked { image, added, removed } => {
                write!(formatter, "image `{image}` asks for {} too, no longer for {}", list(added), list(removed))
            }
            Self::Recommends { image, recipe: true } => write!(formatter, "image `{image}` wants recommended packages"),
            Self::Recommends { image, recipe: false } => {
                write!(formatter, "image `{image}` no longer wants recommended packages")
            }
            Self::PackageAdded { name, version, security, .. } => write!(formatter, "+ {name} {version}{}", mark(security)),
            Self::PackageRemoved { name, version, .. } => write!(formatter, "- {name} {version}"),
            Self::PackageMoved { name, from, to, security, .. } => write!(formatter, "  {name} {from} -> {to}{}", mark(security)),
            Self::PackageChanged { name, .. } => write!(formatter, "  {name}: what it depends on, or its file"),
            Self::Layers { image, architecture } => write!(formatter, "  layers of `{image}` for {architecture}"),
            Self::Archives => write!(formatter, "  the state of the archive"),
            Self::Composer(difference) => difference.fmt(formatter),
        }
    }
}

/// Says whether a lock was made for these recipes.
///
/// # Errors
/// Returns all that differs.
pub fn matches(lock: &Lock, catalog: &Catalog, architectures: &[Architecture]) -> Result<(), Vec<Difference>> {
    let mut differences = Vec::new();
    for architecture in architectures {
        for member in catalog.iter() {
            match lock.image(&member.recipe.name, architecture) {
                None => differences
                    .push(Difference::ImageAdded { image: member.recipe.name.clone(), architecture: architecture.clone() }),
                Some(image) => compare_recipe(image, &member.recipe, &mut differences),
            }
        }
    }
    for image in &lock.images {
        if catalog.recipe(&image.name).is_none() || !architectures.contains(&image.architecture) {
            let (image, architecture) = (image.name.clone(), image.architecture.clone());
            differences.push(Difference::ImageRemoved { image, architecture });
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

fn compare_recipe(image: &LockedImage, recipe: &Recipe, differences: &mut Vec<Difference>) {
    let name = || image.name.clone();
    if image.from != from(recipe) {
        differences.push(Difference::Parent { image: name(), locked: image.from.clone(), recipe: from(recipe) });
    }
    let (locked, wanted): (BTreeSet<_>, _) = (image.asked.iter().cloned().collect(), asked(recipe));
    if locked != wanted {
        let added = wanted.difference(&locked).cloned().collect();
        let removed = locked.difference(&wanted).cloned().collect();
        differences.push(Difference::Asked { image: name(), added, removed });
    }
    if image.recommends != recipe.recommends {
        differences.push(Difference::Recommends { image: name(), recipe: recipe.recommends });
    }
}

/// Returns what differs between two locks, packages first.
#[must_use]
pub fn differences(before: &Lock, after: &Lock, project: &Project) -> Vec<Difference> {
    let index = |lock: &'_ Lock| -> BTreeMap<(PackageName, Architecture), LockedPackage> {
        lock.packages.iter().map(|package| ((package.name.clone(), package.architecture.clone()), package.clone())).collect()
    };
    let (old, new) = (index(before), index(after));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let security = |package: &LockedPackage| project.suites.iter().any(|suite| suite.security && suite.name == package.suite);
    let mut found: Vec<Difference> = keys
        .into_iter()
        .filter_map(|key| {
            let (name, architecture) = key.clone();
            match (old.get(key), new.get(key)) {
                (None, Some(to)) => {
                    Some(Difference::PackageAdded { name, architecture, version: to.version.clone(), security: security(to) })
                }
                (Some(from), None) => Some(Difference::PackageRemoved { name, architecture, version: from.version.clone() }),
                (Some(from), Some(to)) if from.version != to.version => Some(Difference::PackageMoved {
                    name,
                    architecture,
                    from: from.version.clone(),
                    to: to.version.clone(),
                    security: security(to),
                }),
                (Some(from), Some(to)) if from != to => Some(Difference::PackageChanged { name, architecture }),
                _ => None,
            }
        })
        .collect();
    for image in &after.images {
        match before.image(&image.name, &image.architecture) {
            None => found.push(Difference::ImageAdded { image: image.name.clone(), architecture: image.architecture.clone() }),
            Some(old) if old.layers != image.layers && found.is_empty() => {
                found.push(Difference::Layers { image: image.name.clone(), architecture: image.architecture.clone() });
            }
            Some(_) => {}
        }
    }
    for image in before.images.iter().filter(|image| after.image(&image.name, &image.architecture).is_none()) {
        found.push(Difference::ImageRemoved { image: image.name.clone(), architecture: image.architecture.clone() });
    }
    found.extend(composing::differences(&before.composer, &after.composer).into_iter().map(Difference::Composer));
    if found.is_empty() && before != after {
        found.push(Difference::Archives);
    }
    found
}

/// Why a package is in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The image that brings the package in; those that stand on it inherit it.
    pub image: ImageName,
    pub architecture: Architecture,
    /// From what the recipe asks for down to the package.
    pub chain: Vec<PackageName>,
    /// Whether the first of the chain is asked for; else it is essential, or recommended by another.
    pub asked: bool,
}

/// Returns, for each image that brings a package in, the shortest chain that leads to it.
#[must_use]
pub fn why(lock: &Lock, package: &PackageName, image: Option<&ImageName>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for locked in &lock.images {
        let line = lineage(lock, locked);
        let wanted = image.is_none_or(|image| *image == locked.name);
        let bringing = if image.is_some() { line.iter().copied().find(|image| has(image, package)) } else { Some(locked) };
        let Some(bringing) = bringing.filter(|bringing| wanted && has(bringing, package)) else { continue };
        let line = lineage(lock, bringing);
        let present: BTreeSet<&PackageName> = line.iter().flat_map(|image| image.packages()).collect();
        let packages = lock.packages_for(&bringing.architecture);
        let search = |roots: &mut dyn Iterator<Item = &PackageName>| chain(&packages, &present, roots, package);
        let asked = search(&mut bringing.asked.iter().chain(line.iter().flat_map(|image| &image.asked)));
        let reason =
            |chain, asked| Reason { image: bringing.name.clone(), architecture: bringing.architecture.clone(), chain, asked };
        reasons.push(if let Some(chain) = asked {
            reason(chain, true)
        } else {
            let needed: BTreeSet<&PackageName> =
                present.iter().filter_map(|name| packages.get(*name)).flat_map(|package| &package.depends).collect();
            let mut roots = present.iter().copied().filter(|name| !needed.contains(name));
            reason(search(&mut roots).unwrap_or_else(|| vec![package.clone()]), false)
        });
    }
    reasons
}

fn has(image: &LockedImage, package: &PackageName) -> bool {
    image.packages().any(|name| name == package)
}

/// Returns an image and those it stands on, from the top down.
pub(super) fn lineage<'a>(lock: &'a Lock, image: &'a LockedImage) -> Vec<&'a LockedImage> {
    let mut line = vec![image];
    while let Some(parent) = line.last().and_then(|last| lock.images.iter().find(|image| is_parent(image, last))) {
        // A lock is outside data: a circle must end.
        if line.len() > lock.images.len() {
            break;
        }
        line.push(parent);
    }
    line
}

fn is_parent(image: &LockedImage, of: &LockedImage) -> bool {
    image.name.as_str() == of.from && image.architecture == of.architecture
}

/// Returns the shortest way along dependencies from one of the roots to a package.
fn chain(
    packages: &BTreeMap<&PackageName, &LockedPackage>,
    present: &BTreeSet<&PackageName>,
    roots: &mut dyn Iterator<Item = &PackageName>,
    package: &PackageName,
) -> Option<Vec<PackageName>> {
    let mut came: BTreeMap<&PackageName, Option<&PackageName>> = BTreeMap::new();
    let mut open: Vec<&PackageName> = Vec::new();
    for root in roots {
        let root = packages.get_key_value(root).map(|(root, _)| *root).filter(|root| present.contains(root));
        if let Some(root) = root.filter(|root| !came.contains_key(root)) {
            came.insert(root, None);
            open.push(root);
        }
    }
    let mut next = 0;
    while let Some(name) = open.get(next).copied() {
        next += 1;
        if name == package {
            let mut chain = vec![name.clone()];
            let mut above = came.get(name).copied().flatten();
            while let Some(name) = above {
                chain.push(name.clone());
                above = came.get(name).copied().flatten();
            }
            chain.reverse();
            return Some(chain);
        }
        for below in packages.get(name).into_iter().flat_map(|package| &package.depends) {
            if present.contains(below) && !came.contains_key(below) {
                came.insert(below, Some(name));
                open.push(below);
            }
        }
    }
    None
}

/// The option that takes lists that are past their time, and what a lock records of it.
pub const ALLOW_EXPIRED: &str = "allow-expired";
/// The option that takes lists that are older than those of the last lock, and what a lock records of it.
pub const ALLOW_OLDER: &str = "allow-older";

const DAY: i64 = 86_400;

/// A Release file that is not of the suite, or not of this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    #[error("it is of the suite `{found}`")]
    OtherSuite { found: String },
    #[error("it is dated {days} days in the future")]
    Future { days: i64 },
    #[error("it was valid until {days} days ago")]
    Expired { days: i64 },
    #[error("it is {days} days old, and the project takes at most {most}")]
    TooOld { days: i64, most: u32 },
    #[error("it is {days} days older than what the lock was made from")]
    Older { days: i64 },
}

impl Stale {
    /// Returns the option that takes it nevertheless.
    #[must_use]
    pub const fn option(&self) -> Option<&'static str> {
        match self {
            Self::OtherSuite { .. } => None,
            Self::Future { .. } | Self::Expired { .. } | Self::TooOld { .. } => Some(ALLOW_EXPIRED),
            Self::Older { .. } => Some(ALLOW_OLDER),
        }
    }

    /// Returns what a person can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::OtherSuite { .. } => {
                "compare `suites:` in `parvis.yaml` with the mirror; a release that was renamed is named anew there".into()
            }
            Self::Future { .. } => {
                format!("check this machine's clock; `--{ALLOW_EXPIRED}` takes it nevertheless, and the lock records it")
            }
            Self::Expired { .. } | Self::TooOld { .. } => {
                format!(
                    "the mirror stands still: name another with `--mirror`; `--{ALLOW_EXPIRED}` takes it nevertheless, and the lock records it"
                )
            }
            Self::Older { .. } => {
                format!(
                    "the mirror is behind: name another with `--mirror`; `--{ALLOW_OLDER}` takes it nevertheless, and the lock records it"
                )
            }
        }
    }
}

/// Holds a Release file against its suite and the time, and returns the options that were needed to take it.
///
/// # Errors
/// Returns the first check that fails and is not allowed to.
pub fn judge(
    release: &Release,
    rule: &SuiteRule,
    now: i64,
    previous: Option<&ArchiveState>,
    allowed: &[&str],
) -> Result<Vec<String>, Stale> {
    let name = rule.name.as_str();
    if release.suite != name && release.codename != name {
        let found = if release.codename.is_empty() { &release.suite } else { &release.codename };
        return Err(Stale::OtherSuite { found: found.chars().take(60).flat_map(char::escape_debug).collect() });
    }
    let age = now.saturating_sub(release.date);
    let most = i64::from(rule.max_age_days).saturating_mul(DAY);
    let expired = release.valid_until.map(|until| now.saturating_sub(until)).filter(|late| *late > 0);
    let older = previous.map(|state| state.date.saturating_sub(release.date)).filter(|gap| *gap > 0);
    let complaints = [
        (age < -DAY).then_some(Stale::Future { days: age.saturating_neg() / DAY }),
        expired.map(|late| Stale::Expired { days: late / DAY }),
        (age > most).then_some(Stale::TooOld { days: age / DAY, most: rule.max_age_days }),
        older.map(|gap| Stale::Older { days: gap / DAY }),
    ];
    let mut accepted = BTreeSet::new();
    for complaint in complaints.into_iter().flatten() {
        match complaint.option().filter(|option| allowed.contains(option)) {
            Some(option) => accepted.insert(option.to_owned()),
            None => return Err(complaint),
        };
    }
    Ok(accepted.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::index::{Origin, Reader};
    use crate::model::digest::DownloadDigest;
    use crate::model::problem::Source;

    const DATE: i64 = 1_795_000_000;

    fn project() -> Project {
        let text = format!(
            "name: demo\ndescription: x\nsuites:\n  - {{name: trixie, archive: debian}}\n  - {{name: trixie-security, archive: debian-security, \
             security: true}}\nkeyring: keys/a.pgp\nkeys: [{}]\n",
            "A".repeat(40)
        );
        Project::parse("parvis.yaml", &text).unwrap()
    }

    fn catalog(recipes: &[(&str, &str, &str)]) -> Catalog {
        let files = recipes.iter().map(|(name, from, packages)| {
            let mut text = format!("description: x\nfrom: {from}\npackages: [{packages}]\n");
            if *name == "project" {
                text = "description: x\nfrom: scratch\ncomposer:\n  project: p\n  to: /app\n  with: tls\n  platform: tls\n  owner: \"root:root\"\n  mode: \"0440\"\n".into();
            }
            (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &text))
        });
        Catalog::parse(files.collect(), &BTreeMap::new()).unwrap()
    }

    /// Makes a universe of packages written as `name version; Field: value; …`, for main and for security.
    fn universes(main: &[&str], security: &[&str]) -> BTreeMap<Architecture, Universe> {
        let architecture: Architecture = "amd64".parse().unwrap();
        let mut reader = Reader::new(&architecture);
        for (suite, packages) in [("trixie", main), ("trixie-security", security)] {
            let mut text = String::new();
            for package in packages {
                let mut parts = package.split("; ");
                let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
                let digest = DownloadDigest::of(package.as_bytes()).hex();
                let head = [
                    "Package: ",
                    name,
                    "\nVersion: ",
                    version,
                    "\nArchitecture: amd64\nFilename: p\nSize: 1000\nSHA256: ",
                    &digest,
                ]
                .concat();
                text += &[&[head.as_str()], parts.collect::<Vec<_>>().as_slice(), &["\n"]].concat().join("\n");
            }
            let origin = Origin { suite: suite.parse().unwrap(), archive: "debian".into(), security: suite != "trixie" };
            reader.read(&origin, text.as_bytes()).unwrap();
        }
        BTreeMap::from([(architecture, reader.finish().unwrap())])
    }

    fn state(suite: &str, date: i64) -> ArchiveState {
        ArchiveState {
            suite: suite.parse().unwrap(),
            archive: "debian".into(),
            date,
            valid_until: None,
            inrelease: DownloadDigest::of(&date.to_le_bytes()),
            key: "A".repeat(40),
            accepted: vec![],
        }
    }

    struct World {
        project: Project,
        catalog: Catalog,
        universes: BTreeMap<Architecture, Universe>,
        date: i64,
    }

    impl World {
        fn new(recipes: &[(&str, &str, &str)], main: &[&str], security: &[&str]) -> Self {
            Self { project: project(), catalog: catalog(recipes), universes: universes(main, security), date: DATE }
        }

        fn lock(&self, previous: Option<&Lock>, mode: &Mode) -> Result<Lock, LockingError> {
            let archives = vec![state("trixie-security", self.date), state("trixie", self.date - 5)];
            let (project, catalog, universes) = (&self.project, &self.catalog, &self.universes);
            let lock = make(&Inputs { project, catalog, universes, archives, previous }, mode)?;
            assert_eq!(Lock::parse(&lock.render()).unwrap(), lock);
            Ok(lock)
        }
    }

    fn versions(lock: &Lock) -> String {
        lock.packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect::<Vec<_>>().join(" ")
    }

    const RECIPES: [(&str, &str, &str); 2] = [("base", "scratch", "ssl"), ("web", "base", "web")];
    const OLD: [&str; 5] = [
        "bash 1; Essential: yes; Depends: libc",
        "libc 1",
        "ssl 1; Depends: libc, libssl (= 1); Source: ssl",
        "libssl 1; Source: ssl",
        "web 1; Depends: libssl | nothing",
    ];
    const NEW: [&str; 5] = [
        "bash 2; Essential: yes; Depends: libc",
        "libc 2",
        "ssl 1; Depends: libc, libssl (= 1); Source: ssl",
        "libssl 1; Source: ssl",
        "web 2; Depends: libssl | nothing",
    ];
    const FIXES: [&str; 2] = ["ssl 1+deb13u1; Depends: libc, libssl (= 1+deb13u1); Source: ssl", "libssl 1+deb13u1; Source: ssl"];

    fn first() -> Lock {
        World::new(&RECIPES, &OLD, &[]).lock(None, &Mode::Keep).unwrap()
    }

    #[test]
    fn a_first_lock_holds_every_package_once_and_its_image() {
        let lock = first();
        assert_eq!(versions(&lock), "bash=1 libc=1 libssl=1 ssl=1 web=1");
        assert_eq!(lock.epoch, DATE);
        let names = |image: usize| lock.images[image].packages().map(PackageName::as_str).collect::<BTreeSet<_>>();
        assert_eq!(names(0), BTreeSet::from(["bash", "libc", "libssl", "ssl"]));
        assert_eq!(names(1), BTreeSet::from(["web"]));
        assert_eq!(lock.packages[4].depends, ["libssl".parse().unwrap()]);
    }

    #[test]
    fn what_is_locked_stays_to_the_byte_though_the_archive_moves() {
        let mut world = World::new(&RECIPES, &NEW, &FIXES);
        world.date += 1000;
        let before = first();
        assert_eq!(world.lock(Some(&before), &Mode::Keep).unwrap().render(), before.render());
    }

    #[test]
    fn a_locked_package_that_left_the_archive_stays() {
        let before = first();
        let recipes = [("base", "scratch", "ssl"), ("web", "base", "web, more")];
        let world = World::new(&recipes, &[&NEW[..2], &["web 2", "more 1; Depends: libc"]].concat(), &FIXES);
        let lock = world.lock(Some(&before), &Mode::Keep).unwrap();
        assert_eq!(versions(&lock), "bash=1 libc=1 libssl=1 more=1 ssl=1 web=1");
    }

    #[test]
    fn security_moves_only_what_a_security_suite_fixes() {
        let mut world = World::new(&RECIPES, &NEW, &FIXES);
        world.date += 1000;
        let lock = world.lock(Some(&first()), &Mode::Security).unwrap();
        assert_eq!(versions(&lock), "bash=1 libc=1 libssl=1+deb13u1 ssl=1+deb13u1 web=1");
        assert_eq!(lock.epoch, DATE + 1000);
        let shown: Vec<String> = differences(&first(), &lock, &world.project).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["  libssl 1 -> 1+deb13u1 (security)", "  ssl 1 -> 1+deb13u1 (security)"]);
    }

    #[test]
    fn an_image_that_a_fix_does_not_touch_keeps_its_date() {
        let recipes = [("base", "scratch", "bash"), ("tls", "base", "ssl"), ("web", "tls", "web"), ("mail", "base", "libc")];
        let mut world = World::new(&recipes, &NEW, &FIXES);
        let first = World::new(&recipes, &OLD, &[]).lock(None, &Mode::Keep).unwrap();
        world.date += 1000;
        let second = world.lock(Some(&first), &Mode::Security).unwrap();
        let dates = |lock: &Lock| -> Vec<String> {
            lock.images.iter().map(|image| format!("{} {}", image.name, lock.date(image) - DATE)).collect()
        };
        assert_eq!(dates(&second), ["base 0", "mail 0", "tls 1000", "web 1000"]);
        assert_eq!(Lock::parse(&second.render()).unwrap(), second);
        world.date += 1000;
        assert_eq!(world.lock(Some(&second), &Mode::Security).unwrap(), second, "a decision that stands is not dated anew");
        let third = world.lock(Some(&second), &Mode::Update(BTreeSet::from(["web".parse().unwrap()]))).unwrap();
        assert_eq!(dates(&third), ["base 0", "mail 0", "tls 1000", "web 2000"]);
    }

    #[test]
    fn an_image_whose_project_is_installed_with_a_fixed_one_keeps_its_date() {
        let recipes = [("tls", "scratch", "ssl, bash"), ("project", "scratch", "")];
        let mut world = World::new(&recipes, &NEW, &FIXES);
        let first = World::new(&recipes, &OLD, &[]).lock(None, &Mode::Keep).unwrap();
        world.date += 1000;
        let second = world.lock(Some(&first), &Mode::Security).unwrap();
        let date = |name: &str| {
            let image = second.images.iter().find(|image| image.name.as_str() == name).unwrap();
            second.date(image) - DATE
        };
        assert_eq!((date("tls"), date("project")), (1000, 0));
    }

    #[test]
    fn what_a_fix_needs_moves_with_it() {
        let fixes = ["ssl 1+deb13u1; Depends: libc (>= 2), libssl; Source: ssl"];
        let lock = World::new(&RECIPES, &NEW, &fixes).lock(Some(&first()), &Mode::Security).unwrap();
        assert_eq!(versions(&lock), "bash=1 libc=2 libssl=1 ssl=1+deb13u1 web=1");
    }

    #[test]
    fn updating_one_package_moves_its_source_and_nothing_else() {
        let world = World::new(&RECIPES, &NEW, &FIXES);
        let update = |name: &str| world.lock(Some(&first()), &Mode::Update(BTreeSet::from([name.parse().unwrap()])));
        assert_eq!(versions(&update("libssl").unwrap()), "bash=1 libc=1 libssl=1+deb13u1 ssl=1+deb13u1 web=1");
        assert_eq!(versions(&update("web").unwrap()), "bash=1 libc=1 libssl=1 ssl=1 web=2");
        assert_eq!(update("absent").unwrap_err().to_string(), "`absent` is not locked, so it cannot be updated");
        let all = world.lock(Some(&first()), &Mode::UpdateAll).unwrap();
        assert_eq!(versions(&all), "bash=2 libc=2 libssl=1+deb13u1 ssl=1+deb13u1 web=2");
    }

    #[test]
    fn a_conflict_names_the_image() {
        let error = World::new(&RECIPES, &["ssl 1; Depends: gone"], &[]).lock(None, &Mode::Keep).unwrap_err();
        let expected =
            "the packages of `base` for amd64 cannot be chosen: `ssl` (asked for) needs `gone`, but the archive has no `gone`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_lock_of_other_recipes_is_told_apart() {
        let lock = first();
        let architectures = ["amd64".parse().unwrap()];
        let told = |recipes: &[(&str, &str, &str)]| match matches(&lock, &catalog(recipes), &architectures) {
            Ok(()) => Vec::new(),
            Err(differences) => differences.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(told(&RECIPES), Vec::<String>::new());
        let changed = told(&[("base", "scratch", "ssl, curl"), ("web", "scratch", "nginx"), ("new", "base", "")]);
        let expected = [
            "image `base` asks for `curl` too",
            "image `new` for amd64 is not locked yet",
            "image `web` stands on `scratch`, and was locked on `base`",
            "image `web` asks for `nginx` too, no longer for `web`",
        ];
        assert_eq!(changed, expected);
        assert_eq!(told(&[("base", "scratch", "ssl")]), ["image `web` for amd64 has no recipe any more"]);
    }

    #[test]
    fn the_way_from_a_recipe_to_a_package_is_told() {
        let lock = first();
        let told = |name: &str, image: Option<&str>| -> Vec<String> {
            let image: Option<ImageName> = image.map(|image| image.parse().unwrap());
            let reasons = why(&lock, &name.parse().unwrap(), image.as_ref());
            let chain = |reason: &Reason| reason.chain.iter().map(PackageName::as_str).collect::<Vec<_>>().join(" > ");
            reasons.iter().map(|reason| format!("{}: {} {}", reason.image, chain(reason), reason.asked)).collect()
        };
        assert_eq!(told("libssl", None), ["base: ssl > libssl true"]);
        assert_eq!(told("libssl", Some("web")), ["base: ssl > libssl true"]);
        assert_eq!(told("bash", None), ["base: bash false"]);
        assert_eq!(told("absent", None), Vec::<String>::new());
        assert_eq!(told("web", Some("base")), Vec::<String>::new());
    }

    #[test]
    fn what_the_archive_has_newer_is_listed_security_first() {
        use super::super::news::{Held, available, order};
        let found =
            available(&Held::of_lock(&first()), &order(first().images.iter().map(|image| &image.name)), &universes(&NEW, &FIXES));
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                format!("{} {}>{} {} {:?}", one.source, one.older.as_deref().unwrap(), one.newer, one.security, one.images)
            })
            .collect();
        let all = r#"[ImageName("base"), ImageName("web")]"#;
        let expected = [
            format!("ssl 1>1+deb13u1 true {all}"),
            format!("bash 1>2 false {all}"),
            format!("libc 1>2 false {all}"),
            r#"web 1>2 false [ImageName("web")]"#.to_owned(),
        ];
        assert_eq!(shown, expected);
        assert_eq!(found[0].packages.len(), 2);
    }

    #[test]
    fn moves_tell_why_and_which_images_they_touch() {
        use super::super::news::{Moved, moves};
        let fixes = ["ssl 1+deb13u1; Depends: libc (>= 2), libssl, more; Source: ssl"];
        let main = [&NEW[..], &["more 3; Source: ssl"]].concat();
        let world = World::new(&RECIPES, &main, &fixes);
        let second = world.lock(Some(&first()), &Mode::Security).unwrap();
        let moved = moves(&first(), &second, &world.project);
        let shown: Vec<String> = moved
            .uploads
            .iter()
            .flat_map(|upload| upload.packages.iter().map(move |package| (upload, package)))
            .map(|(upload, package)| {
                let Moved { from, to, needed_by } = package;
                format!("{} {from:?} {} {} {needed_by:?} {}", to.name, to.version, upload.security, upload.images.len())
            })
            .collect();
        let expected = [
            r#"ssl Some("1") 1+deb13u1 true [] 2"#,
            r#"libc Some("1") 2 false [PackageName("ssl")] 2"#,
            r#"more None 3 false [PackageName("ssl")] 2"#,
        ];
        assert_eq!(shown, expected);
        assert_eq!(moved.names(&"amd64".parse().unwrap()).len(), 3);
        assert!(moves(&second, &second, &world.project).is_empty());
        let back = moves(&second, &first(), &world.project);
        assert_eq!(back.removed, [("more".parse().unwrap(), "amd64".parse().unwrap(), "3".to_owned())]);
    }

    fn release(date: i64, valid_until: Option<i64>) -> Release {
        Release {
            origin: "Debian".into(),
            suite: "stable-security".into(),
            codename: "trixie-security".into(),
            date,
            valid_until,
            acquire_by_hash: true,
            architectures: vec![],
            components: vec![],
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn a_list_that_is_not_of_this_time_is_refused_unless_asked_for() {
        let project = project();
        let rule = &project.suites[1];
        let judged = |release: &Release, previous: Option<i64>, allowed: &[&str]| {
            let previous = previous.map(|date| state("trixie-security", date));
            judge(release, rule, DATE, previous.as_ref(), allowed).map_err(|stale| stale.to_string())
        };
        assert_eq!(judged(&release(DATE - DAY, Some(DATE + DAY)), Some(DATE - DAY), &[]), Ok(vec![]));
        let cases = [
            (release(DATE + 3 * DAY, None), None, ALLOW_EXPIRED, "it is dated 3 days in the future"),
            (release(DATE - 9 * DAY, Some(DATE - 2 * DAY)), None, ALLOW_EXPIRED, "it was valid until 2 days ago"),
            (release(DATE - 40 * DAY, None), None, ALLOW_EXPIRED, "it is 40 days old, and the project takes at most 30"),
            (
                release(DATE - 9 * DAY, None),
                Some(DATE - 2 * DAY),
                ALLOW_OLDER,
                "it is 7 days older than what the lock was made from",
            ),
        ];
        for (release, previous, option, expected) in cases {
            assert_eq!(judged(&release, previous, &[]), Err(expected.to_owned()));
            assert_eq!(judged(&release, previous, &[option]), Ok(vec![option.to_owned()]));
        }
        let other = Release { suite: "testing".into(), codename: "forky".into(), ..release(DATE, None) };
        assert_eq!(judged(&other, None, &[ALLOW_EXPIRED, ALLOW_OLDER]), Err("it is of the suite `forky`".to_owned()));
    }
}
