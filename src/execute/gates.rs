//! What the gates look at, collected from the store: each content is read once for all images and all times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inventory::Copied;
use super::{ImageRecord, Site, finished, from_store, read_path, run_as};
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::oci::{self, Configuration, Platform};
use crate::image::secrets::{self, Found, Scanner};
use crate::model::digest::StepKey;
use crate::model::name::{ImageName, Suite};
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath, escape, unescape};
use crate::plan::gates::{Facts, Suspicion};
use crate::plan::steps::Plan;
use crate::screen::Unit;

/// What was found in a set of files that came together.
const RECORD: &str = "scan-1";

/// What the gates look at, of one image that is built.
pub struct Evidence {
    image: ImageName,
    tree: Tree,
    config: Configuration,
    uid: Option<u32>,
    variables: BTreeMap<String, String>,
    bytes: u64,
    platform: String,
    expected_platform: String,
    foreign: Vec<(TreePath, String)>,
    suspicions: Vec<Suspicion>,
    suites: BTreeMap<Suite, usize>,
}

impl Evidence {
    /// Returns the facts of an image built for a profile; `service` says why it is taken for a service, where a stack runs it as one.
    #[must_use]
    pub fn facts<'a>(&'a self, profile: Option<&'a str>, service: Option<String>) -> Facts<'a> {
        let ports: Vec<&String> = self
            .config
            .runtime
            .get("ExposedPorts")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|ports| ports.keys())
            .collect();
        let listens = || ports.first().map(|port| format!("it listens on port {port}"));
        let test = self.config.runtime.get("Healthcheck").and_then(|health| health.get("Test")).and_then(Value::as_array);
        let first = test.and_then(|test| test.first()).and_then(Value::as_str);
        Facts {
            image: &self.image,
            profile,
            tree: &self.tree,
            user: self.config.text("User"),
            uid: self.uid,
            starts: !self.config.texts("Entrypoint").is_empty() || !self.config.texts("Cmd").is_empty(),
            has_health_check: first.is_some_and(|word| word != "NONE"),
            service: service.or_else(listens),
            variables: &self.variables,
            bytes: self.bytes,
            platform: &self.platform,
            expected_platform: &self.expected_platform,
            foreign: &self.foreign,
            suspicions: &self.suspicions,
            suites: &self.suites,
        }
    }
}

/// Collects what the gates look at; `None` where the image is not built.
pub fn evidence(site: &Site<'_>, plan: &Plan, image: &ImageName) -> Result<Option<Evidence>, Failure> {
    let Some(step) = plan.images.iter().find(|planned| planned.name == *image).map(|planned| planned.image_step().key) else {
        return Err(Failure::bug(format!("the plan lacks `{image}`")));
    };
    let (Some(record), Some(tree)) = (site.image(&step)?, finished(site, plan, image)?) else { return Ok(None) };
    let config = configuration(site, image, &record)?;
    let uid = match config.text("User") {
        "" => Some(0),
        user => run_as(site, &tree, Some(user)).ok().map(|identity| identity.uid),
    };
    let mut variables = BTreeMap::new();
    for (name, value) in config.texts("Env").iter().filter_map(|item| item.split_once('=')) {
        variables.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in config.runtime.get("Labels").and_then(Value::as_object).into_iter().flatten() {
        variables.entry(name.clone()).or_insert_with(|| value.as_str().unwrap_or_default().to_owned());
    }
    let (suspicions, foreign) = contents(site, plan, image, &tree)?;
    Ok(Some(Evidence {
        image: image.clone(),
        uid,
        variables,
        bytes: record.size(),
        platform: shown(&config.platform),
        expected_platform: shown(&Platform::of(&plan.platform)),
        foreign,
        suspicions,
        suites: suites(site, plan, image),
        tree,
        config,
    }))
}

fn configuration(site: &Site<'_>, image: &ImageName, record: &ImageRecord) -> Result<Configuration, Failure> {
    let bytes = site.store.read_blob(&record.config, canonical::LIMIT as u64).map_err(from_store)?;
    oci::parse_config(&bytes, record.layers.len()).map_err(|error| {
        Failure::world(format!("the configuration of `{image}` in the store is damaged"))
            .because(error)
            .hint("run `parvis store verify`, then build again")
    })
}

fn shown(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// Returns the suites that the packages of an image and of its parents are from.
fn suites(site: &Site<'_>, plan: &Plan, image: &ImageName) -> BTreeMap<Suite, usize> {
    let mut suites = BTreeMap::new();
    for recipe in site.catalog.lineage(image) {
        for package in site.packages(plan, &recipe.name) {
            *suites.entry(package.suite.clone()).or_insert(0) += 1;
        }
    }
    suites
}

type Seen = (Vec<Suspicion>, Vec<(TreePath, String)>);

/// Returns what looks like a secret in any layer of an image, and its programs for another machine.
///
/// The tree is the union of the layers, so it lacks what an upper layer removes or replaces; of that, the trees of the images below
/// tell. Within one image no layer holds what its tree lacks: layers are planned from the finished tree, and of a package's files
/// those that the recipe removes never enter a segment.
fn contents(site: &Site<'_>, plan: &Plan, image: &ImageName, tree: &Tree) -> Result<Seen, Failure> {
    let expected = plan.platform.as_str();
    let (mut suspicions, mut foreign) = (Vec::new(), Vec::new());
    let mut known = BTreeSet::new();
    for recipe in site.catalog.lineage(image).iter().rev() {
        let below = if recipe.name == *image { None } else { finished(site, plan, &recipe.name)? };
        let hidden_in = below.is_some().then(|| recipe.name.clone());
        let looked_at = below.as_ref().unwrap_or(tree);
        let copied = site.copied(plan, &recipe.name, looked_at)?;
        let scans = scan(site, &recipe.name, looked_at, &copied)?;
        for (path, found) in scans.iter().flat_map(|scan| &scan.found) {
            let Some((path, entry)) = entry(looked_at, path) else { continue };
            let stays = hidden_in.is_some() && tree.get(path.as_bytes()).is_some_and(|above| above.kind == entry.kind);
            if !stays && known.insert((path.clone(), found.clone())) {
                suspicions.push(Suspicion {
                    path,
                    what: found.what.clone(),
                    line: found.line,
                    origin: entry.origin.in_words(),
                    hidden_in: hidden_in.clone(),
                });
            }
        }
        let programs = scans.iter().flat_map(|scan| &scan.programs).filter(|_| hidden_in.is_none());
        let others = programs.filter(|(_, machine)| machine != expected);
        foreign.extend(others.filter_map(|(path, machine)| Some((entry(tree, path)?.0, machine.clone()))));
    }
    if let Some(shadow) = read_path(site, tree, b"etc/shadow")? {
        let path = super::trees::path(b"etc/shadow")?;
        let origin = tree.get(path.as_bytes()).and_then(|entry| entry.origin.in_words());
        let suspicion = |(account, what): (String, &str)| Suspicion {
            path: path.clone(),
            what: format!("the account `{account}` {what}"),
            line: None,
            origin: origin.clone(),
            hidden_in: None,
        };
        suspicions.extend(secrets::open_accounts(&shadow).into_iter().map(suspicion));
    }
    Ok((suspicions, foreign))
}

fn entry<'a>(tree: &'a Tree, path: &str) -> Option<(TreePath, &'a Entry)> {
    let path = TreePath::parse(&unescape(path)?).ok()?;
    tree.get(path.as_bytes()).map(|entry| (path, entry))
}

/// What was found in files that came together: a package's, or those of everybody else.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Scan {
    /// By path, escaped as in a tree's text form.
    found: Vec<(String, Found)>,
    /// Programs that no package of Debian brought, with the machine they are for.
    programs: Vec<(String, String)>,
}

/// Who brought files, as far as it decides what is looked for in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Debian: only what is a secret wherever it stands.
    Package,
    /// Strangers: the machine of programs as well. Their tests and manuals are full of passwords that open nothing.
    Composer,
    /// The project: passwords in settings as well.
    Own,
}

/// Looks through the files of a tree.
///
/// Nothing is read twice: what was found stands in the store under a key of the rules and of all paths and contents of the set, and a
/// content's digest cannot come to stand for another content. A package is the same set in every image that has all of it, so it is read
/// once for all of them; and an image that is the same as yesterday costs a few small records.
fn scan(site: &Site<'_>, image: &ImageName, tree: &Tree, copied: &Copied) -> Result<Vec<Scan>, Failure> {
    let mut sets: BTreeMap<_, Vec<(&TreePath, &Entry)>> = BTreeMap::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| matches!(entry.kind, Kind::File { size, .. } if size > 0)) {
        // A library stays one when a recipe copies it from the image that it was installed in.
        let set = match copied.get(path).map_or(&entry.origin, |(origin, _)| origin) {
            Origin::Package(name) => (Source::Package, Some(name.as_str())),
            Origin::Composer(name) => (Source::Composer, Some(name.as_str())),
            Origin::Parvis => (Source::Package, None),
            Origin::Script(_) | Origin::Recipe { .. } | Origin::Run { .. } => (Source::Own, None),
        };
        sets.entry(set).or_default().push((path, entry));
    }
    let mut scans = Vec::new();
    let mut task = None;
    for ((source, _), files) in &sets {
        let mut text = format!("parvis-scan {} {source:?}\n", secrets::RULES);
        for (path, entry) in files {
            if let Kind::File { digest, .. } = &entry.kind {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{} {}", escape(path.as_bytes()), digest.hex());
            }
        }
        let key = StepKey::of(text.as_bytes()).hex();
        let known = site.store.record(RECORD, &key).map_err(from_store)?;
        if let Some(scan) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            scans.push(scan);
            continue;
        }
        let task = task.get_or_insert_with(|| site.screen.work(&format!("{image}: secrets"), None, Unit::Bytes));
        let mut scan = Scan::default();
        for (path, entry) in files {
            task.advance(look(site, *source, path, entry, &mut scan)?);
        }
        let bytes = serde_json::to_vec(&scan).map_err(|error| Failure::bug("a scan cannot be written down").because(error))?;
        site.store.put_record(RECORD, &key, &bytes).map_err(from_store)?;
        scans.push(scan);
    }
    Ok(scans)
}

/// Looks through one file; returns its size.
fn look(site: &Site<'_>, source: Source, path: &TreePath, entry: &Entry, scan: &mut Scan) -> Result<u64, Failure> {
    let Kind::File { digest, size, .. } = &entry.kind else { return Ok(0) };
    let unreadable = |error: std::io::Error| {
        Failure::world(format!("cannot read `{path}` from the store"))
            .because(error)
            .hint("run `parvis store verify`, then build again")
    };
    // Reading to the end compares the content with its digest.
    let mut content = site.store.open_file(digest, entry.mode).map_err(from_store)?;
    let mut scanner = Scanner::new(source == Source::Own);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => scanner.feed(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    let name = escape(path.as_bytes());
    if source != Source::Package
        && let Some(machine) = secrets::machine(scanner.head())
    {
        scan.programs.push((name.clone(), machine));
    }
    let by_name = secrets::by_name(path.file_name()).filter(|_| source == Source::Own);
    scan.found.extend(scanner.finish().into_iter().chain(by_name).map(|found| (name.clone(), found)));
    Ok(*size)
}
