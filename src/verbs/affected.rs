//! `parvis affected`: which of the locks, releases, rebuilds and images that are at hand a hole or an advisory touches.
//!
//! A package is touched where it is older than the newest version whose changelog names the hole: one that was closed badly and closed again
//! is closed since then. What a tracker's file says of a source goes before its changelogs. What nothing names is not known, and never
//! called good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::archive::Mirrors;
use super::changelogs::Reading;
use super::held::{self, Of};
use super::lists;
use super::lock::Allowed;
use super::published;
use super::registry::Reach;
use super::workplace::{LOCK_FILE, Workplace, open_store, read_lock};
use super::{Answer, Context, in_language};
use crate::debian::changelog::{Advisory, Changelog};
use crate::debian::tracker::{self, Tracked};
use crate::debian::version::Version;
use crate::failure::Failure;
use crate::model::language::{Language, both};
use crate::model::lock::{Lock, LockedPackage};
use crate::model::name::{ImageName, PackageName};
use crate::model::{rebuild, releases};
use crate::plan::news::{available, source_version};

/// Releases of one registry that are looked into, the newest first.
const MOST_RELEASES: usize = 200;

/// Options of `parvis affected`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 where everything at hand has the fix, 1 where something lacks it, 2 where the project or a file is refused, \
    3 where it cannot be told: nothing that could be read names it. Not named does not mean not affected."
)]
pub struct Arguments {
    /// The hole or advisory: `CVE-2025-9230`, `DSA-6015`
    #[arg(value_name = "ID")]
    id: Advisory,
    /// Layouts or archives to look into, beside the project's lock, releases and rebuilds
    #[arg(value_name = "FILE")]
    images: Vec<String>,
    /// Registry, perhaps with a path, whose releases are looked into as well; may be given several times
    #[arg(long = "in", value_name = "REGISTRY/PREFIX")]
    registries: Vec<String>,
    /// A file of Debian's security tracker: its JSON, or its list of advisories
    #[arg(long, value_name = "FILE")]
    tracker: Option<PathBuf>,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    reach: Reach,
}

/// What is said of one source package somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// The lock, or the archive.
    place: String,
    source: PackageName,
    have: String,
    /// The version that closed it; nothing where none did yet.
    fixed: Option<String>,
    /// Whether what is there has the fix.
    has_fix: bool,
    images: Vec<ImageName>,
}

/// What closed the hole, by source package; nothing where it is known and open.
type Fixes = BTreeMap<PackageName, Option<Version>>;

/// Says what a hole touches.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let (workplace, language) = (held::project(context)?, context.language);
    let store = open_store(context)?;
    let current = workplace.lock_if_any()?;
    let places = places(&workplace, context, arguments)?;
    let lists = lists::read(&workplace, context, &store, current.as_ref(), &arguments.allowed.names())?;
    let mut names = BTreeSet::from([arguments.id]);
    let mut tracked_fixes = Fixes::new();
    if let Some(path) = &arguments.tracker {
        let Tracked { said, holes } = tracked(&workplace, path, &arguments.id)?;
        for said in said {
            later(&mut tracked_fixes, said.source, said.fixed);
        }
        names.extend(holes);
    }
    // Newer packages tell of fixes that are missing; their changelogs are fetched. Of the others, what is at hand is read.
    let mut newer = Vec::new();
    for Of { held, images, .. } in &places {
        for upload in available(held, images, &lists.universes) {
            let packages: Vec<LockedPackage> = upload.packages.into_iter().map(|moved| moved.to).collect();
            if !newer.contains(&packages) {
                newer.push(packages);
            }
        }
    }
    let mut own: Vec<Vec<LockedPackage>> = Vec::new();
    for lock in places.iter().filter_map(|place| place.lock.as_ref()) {
        own.extend(by_source(lock).into_iter().filter(|packages| !own.contains(packages)).collect::<Vec<_>>());
    }
    let mirrors = Mirrors::find(context, &workplace)?;
    let reading = |at_hand| Reading { context, store: &store, mirrors: &mirrors, archives: held::archives(&workplace), at_hand };
    let total = newer.len() + own.len();
    let mut read = reading(false).changelogs(&newer.iter().map(|packages| packages.iter().collect()).collect::<Vec<_>>())?;
    read.extend(reading(true).changelogs(&own.iter().map(|packages| packages.iter().collect()).collect::<Vec<_>>())?);
    let read: Vec<Changelog> = read.into_iter().flatten().collect();
    let mut fixes = Fixes::new();
    for (source, version) in read.iter().filter_map(|changelog| closed(changelog, &names)) {
        later(&mut fixes, source, Some(version));
    }
    fixes.extend(tracked_fixes);
    let findings = findings(&places, &fixes);
    let unread = total - read.len();
    let shown = arguments.id.to_string();
    context.answer(
        || {
            json!({ "format": 1, "id": shown, "names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "looked_at": places.iter().map(|place| &place.shown).collect::<Vec<_>>(), "unread": unread,
                "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>() })
        },
        || lines(&shown, &places, &findings, unread, language),
    );
    let lacking: Vec<&Finding> = findings.iter().filter(|finding| !finding.has_fix).collect();
    if lacking.is_empty() && !findings.is_empty() {
        return Ok(());
    }
    let failure = if lacking.is_empty() {
        Failure::world(both!(
            language,
            "nothing that could be read names `{shown}`: whether it touches you cannot be told",
            "rien de ce qui a pu être lu ne cite `{shown}` : impossible de dire si cette faille vous touche"
        ))
    } else {
        let message = both!(language, "`{shown}` touches what is listed above", "`{shown}` touche ce qui est listé ci-dessus");
        Failure::no(message)
    };
    let has_lock = |finding: &&Finding| places.iter().any(|place| place.shown == finding.place && place.lock.is_some());
    let (english, french) = if lacking.is_empty() {
        (
            "give a file of Debian's security tracker with `--tracker`",
            "donnez un fichier du suivi de sécurité de Debian avec `--tracker`",
        )
    } else if lacking.iter().all(|finding| finding.fixed.is_none()) {
        ("no fix is out yet: look again tomorrow", "aucun correctif n’est encore paru : regardez de nouveau demain")
    } else if lacking.iter().any(has_lock) {
        ("`parvis rebuild` takes the fixes that are out", "`parvis rebuild` prend les correctifs parus")
    } else {
        (
            "ask the publisher for a newer version (`parvis demo upgrade` takes it in); in a clone of the project, `parvis rebuild` makes one",
            "demandez à l’éditeur une version plus récente (`parvis demo upgrade` l’installe) ; dans une copie du projet, `parvis rebuild` en fait une",
        )
    };
    Err(in_language(failure.hint(language.choose(english, french)), language))
}

/// Returns everything that is looked into: the project's lock, those of releases and rebuilds, those of registries, and what was named.
fn places(workplace: &Workplace, context: &Context<'_>, arguments: &Arguments) -> Result<Vec<Of>, Failure> {
    let mut paths = vec![LOCK_FILE.to_owned()];
    for name in workplace.folder.entries(releases::FOLDER)? {
        if name.ends_with(".lock") {
            paths.push(format!("{}/{name}", releases::FOLDER));
        }
    }
    for name in workplace.folder.entries(rebuild::FOLDER)? {
        paths.push(format!("{}/{name}/{LOCK_FILE}", rebuild::FOLDER));
    }
    let mut places = Vec::new();
    for path in paths {
        places.extend(read_lock(&workplace.folder, &path)?.map(|lock| held::of_lock(lock, &path)));
    }
    for prefix in &arguments.registries {
        let numbers = published::numbers(context, prefix, &arguments.reach)?;
        if numbers.is_empty() {
            return Err(
                Failure::world(format!("`{prefix}` has no releases")).hint("write it as `registry:` in `parvis.yaml` has it")
            );
        }
        for number in numbers.into_iter().rev().take(MOST_RELEASES) {
            places.extend(held::of_registry(context, prefix, number, &arguments.reach)?);
        }
    }
    for image in &arguments.images {
        places.push(held::find(workplace, context, Some(image), None, &arguments.reach)?);
    }
    if places.is_empty() {
        return Err(Failure::project(format!("there is no `{LOCK_FILE}` and no release to look into")).hint("run `parvis lock`"));
    }
    Ok(places)
}

fn tracked(workplace: &Workplace, path: &std::path::Path, id: &Advisory) -> Result<Tracked, Failure> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| Failure::project(format!("cannot open `{shown}`")).because(error))?;
    // The tracker knows a release by the name of its main suite.
    let codename = workplace.project.suites.iter().find(|suite| !suite.security).map_or("", |suite| suite.name.as_str());
    tracker::read(file, id, codename).map_err(|error| {
        Failure::project(format!("`{shown}` is refused: {error}"))
            .hint("save `tracker/data/json` of Debian's security tracker as it is")
    })
}

/// Returns the packages of a lock, those of one source and version together.
fn by_source(lock: &Lock) -> Vec<Vec<LockedPackage>> {
    let mut sources: BTreeMap<(PackageName, String), Vec<LockedPackage>> = BTreeMap::new();
    for package in &lock.packages {
        let key = (package.source.clone(), source_version(package).to_owned());
        sources.entry(key).or_default().push(package.clone());
    }
    sources.into_values().collect()
}

/// Returns the newest upload of a changelog that names one of these.
///
/// An older one that names it as well may have closed it badly. A newer one may only repeat it, as merged branches do; then a package is
/// called affected that is not, which is the better mistake.
fn closed(changelog: &Changelog, names: &BTreeSet<Advisory>) -> Option<(PackageName, Version)> {
    let naming = changelog
        .entries
        .iter()
        .filter(|entry| entry.advisories().iter().any(|found| names.iter().any(|name| name.covers(found))));
    naming.max_by(|left, right| left.version.cmp(&right.version)).map(|entry| (entry.source.clone(), entry.version.clone()))
}

/// Takes in what closed it for a source: the later of two versions, and none where one says that it is open.
fn later(fixes: &mut Fixes, source: PackageName, version: Option<Version>) {
    match fixes.get_mut(&source) {
        None => drop(fixes.insert(source, version)),
        Some(known) => *known = known.take().zip(version).map(|(known, version)| known.max(version)),
    }
}

fn findings(places: &[Of], fixes: &Fixes) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for Of { held, shown, .. } in places {
        for held in held {
            let Some(cure) = fixes.get(&held.source) else { continue };
            let Ok(have) = held.source_version.parse::<Version>() else { continue };
            let has_fix = cure.as_ref().is_some_and(|cure| have >= *cure);
            let finding = Finding {
                place: shown.clone(),
                source: held.source.clone(),
                have: held.source_version.clone(),
                fixed: cure.as_ref().map(ToString::to_string),
                has_fix,
                images: held.images.clone(),
            };
            let same = |other: &&mut Finding| (&other.place, &other.source, &other.have) == (shown, &held.source, &finding.have);
            match findings.iter_mut().find(same) {
                Some(there) => there.images.extend(finding.images),
                None => findings.push(finding),
            }
        }
    }
    for finding in &mut findings {
        finding.images.sort();
        finding.images.dedup();
    }
    findings
}

impl Finding {
    fn to_json(&self) -> Value {
        json!({ "place": self.place, "source": self.source, "have": self.have, "fixed": self.fixed, "affected": !self.has_fix,
            "images": self.images })
    }
}

fn lines(id: &str, places: &[Of], findings: &[Finding], unread: usize, language: Language) -> Vec<String> {
    let mut lines = Vec::new();
    for Of { shown, .. } in places {
        lines.push(both!(language, "{shown}:", "{shown} :"));
        let here: Vec<&Finding> = findings.iter().filter(|finding| finding.place == *shown).collect();
        if here.is_empty() {
            lines.push(both!(
                language,
                "  no changelog of its packages names {id}",
                "  aucun journal de ses paquets ne cite {id}"
            ));
        }
        for finding in here {
            let Finding { source, have, images, .. } = finding;
            let images = images.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ");
            lines.push(match (&finding.fixed, finding.has_fix) {
                (Some(fixed), true) => both!(
                    language,
                    "  {source} {have}: fixed (since {fixed}), in {images}",
                    "  {source} {have} : corrigé (depuis {fixed}), dans {images}"
                ),
                (Some(fixed), false) => both!(
                    language,
                    "  {source} {have}: AFFECTED, fixed in {fixed}, in {images}",
                    "  {source} {have} : TOUCHÉ, corrigé dans {fixed}, dans {images}"
                ),
                (None, _) => both!(
                    language,
                    "  {source} {have}: AFFECTED, no fix is out, in {images}",
                    "  {source} {have} : TOUCHÉ, aucun correctif n’est paru, dans {images}"
                ),
            });
        }
    }
    lines.push(both!(
        language,
        "what no changelog names may be affected all the same",
        "ce qu’aucun journal ne cite peut être touché malgré tout"
    ));
    if unread > 0 {
        lines.push(both!(
            language,
            "{unread} changelogs were not at hand and not read: `parvis build` brings them",
            "{unread} journaux n’étaient pas disponibles et n’ont pas été lus : `parvis build` les apporte"
        ));
    }
    lines
}
