//! What the changelogs of newer packages say: read from the store where it has them, else from the smallest package of each source.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Context;
use super::archive::{Mirrors, from_fetch};
use crate::debian::changelog::{Advisory, Changelog, Entry, Found, Registry, Urgency};
use crate::debian::version::Version;
use crate::edge::fetch::{Download, Fetcher};
use crate::edge::store::Store;
use crate::execute::{UnpackError, changelog};
use crate::failure::Failure;
use crate::model::language::Language;
use crate::model::lock::LockedPackage;
use crate::model::name::{PackageName, Suite};
use crate::plan::news::{Upload, source_version};
use crate::screen::size;

/// How often a changelog is looked for in another package of its source.
const ROUNDS: usize = 4;

/// What the changelog of an upload says of the way from one version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The newest first; empty where the source is the same, built once more.
    pub entries: Vec<Entry>,
    /// The whole changelog that they are from.
    pub changelog: Changelog,
}

impl Account {
    /// Returns the holes and advisories that are named between the two versions.
    pub fn advisories(&self) -> BTreeSet<Advisory> {
        self.entries.iter().flat_map(Entry::advisories).collect()
    }

    /// Returns the highest urgency between the two versions.
    pub fn urgency(&self) -> Urgency {
        self.entries.iter().map(|entry| entry.urgency).max().unwrap_or_default()
    }

    /// Returns the holes alone, as people read them.
    pub fn holes(&self) -> Vec<String> {
        let cve = |name: &Advisory| name.registry == Registry::Cve;
        self.advisories().iter().filter(|name| cve(name)).map(ToString::to_string).collect()
    }

    /// Returns the document that `--json` prints.
    pub fn to_json(&self) -> Value {
        let entry = |entry: &Entry| {
            json!({ "version": entry.version.as_str(), "distributions": entry.distributions, "urgency": entry.urgency.word(),
                "text": entry.text, "signed": entry.signed })
        };
        json!({
            "urgency": self.urgency().word(),
            "advisories": self.advisories().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "entries": self.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

/// Returns an urgency as people read it.
pub fn urgency(urgency: Urgency, language: Language) -> &'static str {
    let french = match urgency {
        Urgency::Unknown => "inconnue",
        Urgency::Low => "faible",
        Urgency::Medium => "moyenne",
        Urgency::High => "haute",
        Urgency::Emergency | Urgency::Critical => "critique",
    };
    language.choose(urgency.word(), french)
}

/// Where changelogs come from.
pub struct Reading<'a> {
    pub context: &'a Context<'a>,
    pub store: &'a Store,
    pub mirrors: &'a Mirrors,
    /// The archive that each suite belongs to.
    pub archives: BTreeMap<Suite, String>,
    /// Only what the store has is read.
    pub at_hand: bool,
}

impl Reading<'_> {
    /// Reads the changelogs of uploads, in their order; for each that cannot be had, returns why in words.
    ///
    /// What has to be fetched is said before. Without the network only what the store has is read.
    pub fn read(&self, uploads: &[&Upload]) -> Result<Vec<Result<Account, String>>, Failure> {
        let wanted: Vec<Vec<&LockedPackage>> =
            uploads.iter().map(|upload| upload.packages.iter().map(|moved| &moved.to).collect()).collect();
        let found = self.changelogs(&wanted)?;
        let account = |(upload, found): (&&Upload, Result<Changelog, String>)| {
            let changelog = found?;
            let version = |text: &str| text.parse::<Version>().map_err(|error| error.to_string());
            let newer = version(&upload.newer)?;
            let entries = match &upload.older {
                Some(older) => changelog.between(&upload.source, &version(older)?, &newer).cloned().collect(),
                None => Vec::new(),
            };
            Ok(Account { entries, changelog })
        };
        Ok(uploads.iter().zip(found).map(account).collect())
    }

    /// Reads one changelog for each list of packages of one source.
    pub fn changelogs(&self, wanted: &[Vec<&LockedPackage>]) -> Result<Vec<Result<Changelog, String>>, Failure> {
        let mut searches: Vec<Search> = wanted.iter().map(|packages| Search::new(packages)).collect();
        for _ in 0..ROUNDS {
            let mut missing = Vec::new();
            for search in &mut searches {
                missing.extend(search.advance(self.store)?);
            }
            if missing.is_empty() {
                break;
            }
            if self.at_hand || self.context.fetch.offline {
                for search in searches.iter_mut().filter(|search| search.result.is_none()) {
                    search.result = Some(Err("its package is not in the store, and the network is not to be used".into()));
                }
                break;
            }
            self.fetch(&missing)?;
        }
        Ok(searches.into_iter().map(|search| search.result.unwrap_or_else(|| Err(NOTHING.into()))).collect())
    }

    fn fetch(&self, packages: &[&LockedPackage]) -> Result<(), Failure> {
        let bytes = packages.iter().map(|package| package.size).sum();
        let what = if packages.len() == 1 { "package" } else { "packages" };
        self.context.screen.note(&format!(
            "fetching {} {what} to read what changed ({}); a build takes them from the store",
            packages.len(),
            size(bytes)
        ));
        let download = |package: &&LockedPackage| {
            let archive = self.archives.get(&package.suite).ok_or_else(|| {
                Failure::project(format!("no archive is known for the suite `{}`", package.suite))
                    .hint("compare `suites:` in `parvis.yaml` with the lock")
            })?;
            Ok(Download {
                name: format!("{} {}", package.name, package.version),
                urls: self.mirrors.urls(archive, &package.file),
                digest: Some(package.sha256),
                size: Some(package.size),
                limit: package.size,
            })
        };
        let downloads = packages.iter().map(download).collect::<Result<Vec<_>, Failure>>()?;
        let fetcher = Fetcher::new(self.context.fetch.clone());
        fetcher.fetch(&downloads, &self.store.downloads(), self.context.screen).map(drop).map_err(from_fetch)
    }
}

const NOTHING: &str = "its packages hold no changelog of Debian's";

/// The way to the changelog of one source: through its packages, the smallest first.
struct Search<'a> {
    packages: Vec<&'a LockedPackage>,
    tried: BTreeSet<&'a PackageName>,
    /// Where a link pointed.
    next: Option<PackageName>,
    result: Option<Result<Changelog, String>>,
}

impl<'a> Search<'a> {
    fn new(packages: &[&'a LockedPackage]) -> Self {
        let mut packages = packages.to_vec();
        packages.sort_by_key(|package| (package.size, &package.name));
        Self { packages, tried: BTreeSet::new(), next: None, result: None }
    }

    /// Goes on as far as the store has packages; returns the one that has to be fetched first.
    fn advance(&mut self, store: &Store) -> Result<Option<&'a LockedPackage>, Failure> {
        while self.result.is_none() {
            let left = |package: &&&LockedPackage| !self.tried.contains(&package.name);
            let at_hand = |package: &&&LockedPackage| store.has_download(&package.sha256, package.size);
            let linked = self.next.take().and_then(|name| self.packages.iter().find(|package| package.name == name));
            let candidates = || self.packages.iter().filter(left);
            let chosen =
                linked.filter(|package| left(package)).or_else(|| candidates().find(at_hand)).or_else(|| candidates().next());
            let Some(package) = chosen.copied() else {
                self.result = Some(Err(NOTHING.into()));
                break;
            };
            match changelog(store, package) {
                Ok(None) => {
                    self.next = Some(package.name.clone());
                    return Ok(Some(package));
                }
                Ok(Some(Found::Here(found))) if is_of(&found, package) => self.result = Some(Ok(found)),
                Ok(Some(Found::With(other))) => self.next = Some(other),
                Ok(Some(_)) => {}
                Err(UnpackError::Store(error)) => return Err(crate::execute::from_store(error)),
                // A package that is refused here is refused by the build, with all that there is to say.
                Err(error) => self.result = Some(Err(error.to_string())),
            }
            self.tried.insert(&package.name);
        }
        Ok(None)
    }
}

/// Returns whether a changelog is that of a package's source and version: a changelog of another is a mistake of its maker.
fn is_of(changelog: &Changelog, package: &LockedPackage) -> bool {
    let version = source_version(package).parse::<Version>();
    changelog.entries.iter().any(|entry| entry.source == package.source && version.as_ref() == Ok(&entry.version))
}
