//! The packages that releases keep in their registry: a release can be built when the archive has moved on.

use std::collections::BTreeSet;

use crate::edge::registry::{Access, Wanted};
use crate::execute::Site;
use crate::failure::Failure;
use crate::image::repository::RepositoryError;
use crate::model::digest::{BlobDigest, DownloadDigest};
use crate::model::lock::LockedPackage;
use crate::screen::Unit;
use crate::verbs::registry::{Reach, from_repository, repository};
use crate::verbs::workplace::Planned;
use crate::verbs::{Answer, Context, composer, push};

/// The repository, beside the images, that keeps packages: each once, as a blob under its own digest.
pub const PACKAGES: &str = "packages";

/// A package of Debian or of Composer, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    pub digest: DownloadDigest,
    pub name: String,
    pub size: u64,
}

impl Kept {
    /// Returns the digest by which a registry knows it.
    pub fn blob(&self) -> BlobDigest {
        BlobDigest::from(*self.digest.bytes())
    }
}

/// Returns the packages of Debian and of Composer that images are built from, each once, by digest.
pub fn all<'a>(plans: impl Iterator<Item = &'a Planned<'a>>, context: &Context<'_>) -> Vec<Kept> {
    let mut kept = BTreeSet::new();
    for planned in plans {
        let Planned { workplace, plan, names, lock, .. } = planned;
        let file = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let site = planned.site(context);
        let packages = site.all_packages(plan).into_iter();
        kept.extend(packages.map(|package| Kept { digest: package.sha256, name: file(&package.file), size: package.size }));
        let archives = composer::downloads(workplace, lock, names).into_iter();
        kept.extend(archives.map(|(_, download)| Kept { digest: download.sha256, name: download.name(), size: download.size }));
    }
    let mut kept: Vec<Kept> = kept.into_iter().collect();
    kept.dedup_by(|left, right| left.digest == right.digest);
    kept
}

/// Returns the packages that a build wants and the store lacks.
fn missing(planned: &Planned<'_>, site: &Site<'_>) -> Result<Vec<Wanted>, Failure> {
    let Planned { workplace, plan, lock, .. } = planned;
    let debian = site.missing(&site.wanted(plan)?)?;
    let archives = composer::downloads(workplace, lock, &site.to_do(plan)?);
    let archives = archives.into_iter().map(|(_, download)| (download.sha256, download.size));
    Ok(absent(site, debian.into_iter().map(|package| (package.sha256, package.size)).chain(archives)))
}

/// Returns what of this is not among the store's downloads.
fn absent(site: &Site<'_>, wanted: impl Iterator<Item = (DownloadDigest, u64)>) -> Vec<Wanted> {
    let wanted: BTreeSet<_> = wanted.filter(|(digest, size)| !site.store.has_download(digest, *size)).collect();
    wanted.into_iter().map(|(digest, size)| Wanted { digest: BlobDigest::from(*digest.bytes()), size }).collect()
}

/// Fetches the packages that a build wants and the store lacks from where releases keep them.
pub fn fetch(context: &Context<'_>, planned: &Planned<'_>, site: &Site<'_>, prefix: Option<&str>, reach: &Reach) -> Answer {
    fetch_these(context, planned, site, &missing(planned, site)?, prefix, reach)
}

/// Fetches those of these packages that are not at hand from where releases keep them.
pub fn fetch_packages(
    context: &Context<'_>,
    planned: &Planned<'_>,
    site: &Site<'_>,
    packages: &[&LockedPackage],
    prefix: Option<&str>,
    reach: &Reach,
) -> Answer {
    let missing = site.missing(packages)?.into_iter().map(|package| (package.sha256, package.size));
    fetch_these(context, planned, site, &absent(site, missing), prefix, reach)
}

fn fetch_these(
    context: &Context<'_>,
    planned: &Planned<'_>,
    site: &Site<'_>,
    wanted: &[Wanted],
    prefix: Option<&str>,
    reach: &Reach,
) -> Answer {
    if wanted.is_empty() {
        return Ok(());
    }
    let prefix = push::prefix(prefix.or(planned.workplace.project.registry.as_deref()))?;
    let remote = reach.open(context, &repository(&prefix, PACKAGES)?, Access::Read)?;
    let task = context.screen.work("packages", Some(wanted.iter().map(|one| one.size).sum()), Unit::Bytes);
    remote.fetch(wanted, &site.store.downloads(), &*task).map_err(from_repository)
}

/// Fetches those of the packages that a build wants and the store lacks which a release kept; others are left for the archive.
pub fn fetch_those_there(context: &Context<'_>, planned: &Planned<'_>, site: &Site<'_>, prefix: &str, reach: &Reach) -> Answer {
    let Err(all) = fetch(context, planned, site, Some(prefix), reach) else { return Ok(()) };
    let remote = reach.open(context, &repository(&push::plain_prefix(prefix), PACKAGES)?, Access::Read)?;
    let mut came = false;
    for one in missing(planned, site)? {
        let task = context.screen.work("packages", Some(one.size), Unit::Bytes);
        match remote.fetch(&[one], &site.store.downloads(), &*task) {
            Ok(()) => came = true,
            Err(RepositoryError::Damaged { .. }) => {}
            Err(error) => return Err(from_repository(error)),
        }
    }
    if came { Ok(()) } else { Err(all) }
}
