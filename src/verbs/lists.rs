//! The archive's lists of packages: fetched from a mirror, believed only when signed and of this time, and read.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use super::Context;
use super::workplace::Workplace;
use crate::debian::index::{Origin, Reader, Universe, unpack};
use crate::debian::release::{PackagesFile, Release};
use crate::edge::fetch::{Cause, Download, FetchError, Fetcher};
use crate::edge::http::part::DiskError;
use crate::edge::openpgp::{self, OpenPgpError, Verified};
use crate::edge::sources::{self, Mirror};
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::model::digest::{DownloadDigest, StepKey};
use crate::model::lock::{ArchiveState, Lock};
use crate::model::name::Architecture;
use crate::model::project::SuiteRule;
use crate::plan::locking::judge;

/// Where the host's apt keeps its sources.
const APT: &str = "/etc/apt";
/// Bytes of a keyring at most.
const KEYRING_LIMIT: u64 = 4 << 20;
/// Bytes of a signed Release file at most; that of Debian 13 has 140 kB.
const RELEASE_LIMIT: u64 = 16 << 20;
/// Bytes of a compressed list at most; that of Debian 13 has 10 MB.
const LIST_LIMIT: u64 = 1 << 30;
/// How often everything is asked for anew while a mirror is being changed.
const TRIES: u32 = 3;
/// Where the store keeps the last signed Release files that were believed.
const RECORD: &str = "inrelease";

/// What the archive says now.
pub struct Lists {
    pub universes: BTreeMap<Architecture, Universe>,
    pub archives: Vec<ArchiveState>,
}

/// A suite that was believed.
struct Suite<'a> {
    rule: &'a SuiteRule,
    mirror: &'a Mirror,
    release: Release,
    state: ArchiveState,
    raw: Vec<u8>,
}

/// Fetches, checks and reads the lists of all suites of a project.
///
/// `allowed` names the checks that may fail. Nothing is replaced before everything is there and right.
pub fn read(
    workplace: &Workplace,
    context: &Context<'_>,
    store: &Store,
    previous: Option<&Lock>,
    allowed: &[&str],
) -> Result<Lists, Failure> {
    let project = &workplace.project;
    let mirrors = mirrors(workplace, context)?;
    let keyring = keyring(workplace)?;
    let fetcher = Fetcher::new(context.fetch.clone());
    let mut pause = context.fetch.pause;
    let mut tries = 1;
    let (suites, files) = loop {
        let mut suites = Vec::new();
        for rule in &project.suites {
            let mirror = mirrors.get(&rule.archive).ok_or_else(|| Failure::bug(format!("no mirror of `{}`", rule.archive)))?;
            let state = previous.and_then(|lock| lock.archives.iter().find(|state| state.suite == rule.name));
            suites.push(suite(&fetcher, store, context, rule, mirror, &keyring, state, allowed)?);
        }
        let files = lists(&suites, &project.architectures)?;
        let downloads: Vec<Download> = files.iter().map(download).collect();
        match fetcher.fetch(&downloads, &store.downloads(), context.screen) {
            Ok(_) => break (suites, files),
            Err(error) if tries < TRIES && is_changing(&error) => {
                context.screen.note("the mirror is being changed: asking again");
                thread::sleep(pause);
                (tries, pause) = (tries + 1, pause * 2);
            }
            Err(error) => return Err(from_fetch(error)),
        }
    };
    let mut universes = BTreeMap::new();
    for architecture in &project.architectures {
        let mut reader = Reader::new(architecture);
        for List { rule, file, .. } in files.iter().filter(|list| list.architecture == architecture) {
            let origin = Origin { suite: rule.name.clone(), archive: rule.archive.clone(), security: rule.security };
            let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
                Failure::world(format!("the list `{}` of `{}` cannot be read", file.path, rule.name)).because(error)
            };
            let packed = store.open_download(&file.listed.sha256).map_err(|error| unreadable(error.into()))?;
            let list = unpack(file, packed).map_err(|error| unreadable(error.into()))?;
            reader.read(&origin, list).map_err(|error| unreadable(error.into()))?;
        }
        let universe = reader.finish().map_err(|error| Failure::world("the lists of packages cannot be read").because(error))?;
        universes.insert(architecture.clone(), universe);
    }
    for suite in &suites {
        // Without it the next run asks the mirror; nothing else is lost.
        let _ = store.put_record(RECORD, &record_key(suite.rule, suite.mirror), &suite.raw);
    }
    Ok(Lists { universes, archives: suites.into_iter().map(|suite| suite.state).collect() })
}

fn mirrors(workplace: &Workplace, context: &Context<'_>) -> Result<BTreeMap<String, Mirror>, Failure> {
    let mut archives: Vec<&str> = workplace.project.suites.iter().map(|suite| suite.archive.as_str()).collect();
    archives.sort_unstable();
    archives.dedup();
    let given = context.mirrors.join(" ");
    sources::mirrors(&archives, Some(&given), Path::new(APT), &workplace.project.mirrors).map_err(|error| {
        let hint = error.hint();
        Failure::project(error.to_string()).hint(hint)
    })
}

fn keyring(workplace: &Workplace) -> Result<Vec<u8>, Failure> {
    let path = String::from_utf8_lossy(workplace.project.keyring.as_bytes()).into_owned();
    workplace.folder.read(&path, KEYRING_LIMIT)?.ok_or_else(|| {
        Failure::project(format!("the keyring `{path}` does not exist"))
            .hint("`keyring:` in `parvis.yaml` names the file with the archive's public keys")
    })
}

/// Fetches the signed Release file of a suite and decides whether to believe it.
#[expect(clippy::too_many_arguments, reason = "they are what one decision rests on, and it is called in one place")]
fn suite<'a>(
    fetcher: &Fetcher,
    store: &Store,
    context: &Context<'_>,
    rule: &'a SuiteRule,
    mirror: &'a Mirror,
    keyring: &[u8],
    previous: Option<&ArchiveState>,
    allowed: &[&str],
) -> Result<Suite<'a>, Failure> {
    let name = format!("InRelease of {}", rule.name);
    let kept = || store.record(RECORD, &record_key(rule, mirror)).ok().flatten();
    let raw = if let Some(raw) = context.fetch.offline.then(kept).flatten() {
        raw
    } else {
        fetcher.fetch_bytes(&name, &addresses(mirror, rule, "InRelease"), RELEASE_LIMIT).map_err(from_fetch)?
    };
    let Verified { text, key } = openpgp::verify(&raw, keyring, &rule.keys).map_err(|error| {
        let hint = error.hint();
        let message = format!("the {name} is not believed: {error}");
        match error {
            OpenPgpError::Framing(cause) => Failure::no(message).because(cause),
            OpenPgpError::Refused { .. } => Failure::no(message),
            other => Failure::world(message).because(other),
        }
        .maybe_hint(hint)
    })?;
    let release = Release::parse(&text).map_err(|error| Failure::world(format!("the {name} cannot be read")).because(error))?;
    let accepted = judge(&release, rule, context.now, previous, allowed).map_err(|stale| {
        let hint = stale.hint();
        Failure::no(format!("the {name} is refused: {stale}")).hint(hint)
    })?;
    let state = ArchiveState {
        suite: rule.name.clone(),
        archive: rule.archive.clone(),
        date: release.date,
        valid_until: release.valid_until,
        inrelease: DownloadDigest::of(&raw),
        key,
        accepted,
    };
    Ok(Suite { rule, mirror, release, state, raw })
}

fn record_key(rule: &SuiteRule, mirror: &Mirror) -> String {
    StepKey::of(format!("{} {}", rule.name, mirror.urls.join(" ")).as_bytes()).hex()
}

fn addresses(mirror: &Mirror, rule: &SuiteRule, path: &str) -> Vec<String> {
    mirror.urls.iter().map(|url| format!("{url}/dists/{}/{path}", rule.name)).collect()
}

/// A Packages file of a suite.
struct List<'a> {
    architecture: &'a Architecture,
    rule: &'a SuiteRule,
    mirror: &'a Mirror,
    file: PackagesFile,
}

/// Names the Packages files of all suites, components and architectures.
fn lists<'a>(suites: &[Suite<'a>], architectures: &'a [Architecture]) -> Result<Vec<List<'a>>, Failure> {
    let mut lists = Vec::new();
    for architecture in architectures {
        for Suite { rule, mirror, release, .. } in suites {
            for component in &rule.components {
                let file = release.packages_file(component, architecture).ok_or_else(|| {
                    Failure::project(format!("the suite `{}` has no component `{component}` for {architecture}", rule.name))
                        .hint("compare `suites:` and `architectures:` in `parvis.yaml` with what the mirror has")
                })?;
                lists.push(List { architecture, rule, mirror, file });
            }
        }
    }
    Ok(lists)
}

fn download(list: &List<'_>) -> Download {
    let List { rule, mirror, file, .. } = list;
    let paths = file.by_hash.iter().chain([&file.path]);
    Download {
        name: format!("{} of {}", file.path, rule.name),
        urls: paths.flat_map(|path| addresses(mirror, rule, path)).collect(),
        digest: Some(file.listed.sha256),
        size: Some(file.listed.size),
        limit: LIST_LIMIT,
    }
}

/// Returns whether a failure is one of those that a mirror gives while it is being changed.
fn is_changing(error: &FetchError) -> bool {
    let FetchError::Place { cause, .. } = error else { return false };
    error.is_missing() || matches!(**cause, Cause::Digest { .. } | Cause::Size { .. })
}

fn from_fetch(error: FetchError) -> Failure {
    let hint = error.hint();
    let message = error.to_string();
    let failure = Failure::world(message).maybe_hint(hint);
    match error {
        FetchError::Place { cause, .. } => failure.because(cause),
        FetchError::Disk(DiskError::Io { source, .. }) => failure.because(source),
        _ => failure,
    }
}
