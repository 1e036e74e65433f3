//! Steps that make trees: packages with their scripts, files, commands, removals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::room::Identity;
use super::unpack::Unpacked;
use super::{Site, TREE, composer, from_store};
use crate::debian::accounts::{AccountFiles, Accounts};
use crate::debian::compose::{self, Takeover};
use crate::debian::configure::{Configuration, ConfigureError, NewPackage, ScriptRun, Staged};
use crate::debian::database::Database;
use crate::edge::sandbox::{End, Outcome, Owner, Program, Sandbox, SandboxError, Source, Spec};
use crate::edge::store::FILE_MTIME;
use crate::failure::Failure;
use crate::image::gate;
use crate::model::digest::{DownloadDigest, FileDigest, StepKey};
use crate::model::name::{ImageName, PackageName};
use crate::model::recipe::{Parent, Recipe, RunRule};
use crate::model::tree::{Change, Entry, Kind, Origin, Tree, TreePath};
use crate::plan::edits;
use crate::plan::steps::{self, ImagePlan, Plan, Step, Work};
use crate::screen::Unit;

/// Programs that are laid over every tree while scripts run: no service is ever started in an image.
const SHIMS: [(&[u8], &[u8]); 1] = [(b"usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n")];

/// How long one maintainer script may take.
const SCRIPT_TIME: Duration = Duration::from_secs(600);

/// Paths below which scripts may write without a trace: the database is parvis's own.
const DATABASE: [&[u8]; 8] = [
    b"var/lib/dpkg/tmp.ci",
    b"var/lib/dpkg/status",
    b"var/lib/dpkg/status-old",
    b"var/lib/dpkg/lock",
    b"var/lib/dpkg/lock-frontend",
    b"var/lib/dpkg/available",
    b"var/lib/dpkg/updates",
    b"var/lib/dpkg/triggers",
];

/// The trees of a build, made or recalled when they are first needed.
pub struct Trees<'a> {
    site: &'a Site<'a>,
    plan: &'a Plan,
    packages: &'a BTreeMap<DownloadDigest, Unpacked>,
    known: BTreeMap<StepKey, Rc<Tree>>,
}

impl<'a> Trees<'a> {
    pub fn new(site: &'a Site<'a>, plan: &'a Plan, packages: &'a BTreeMap<DownloadDigest, Unpacked>) -> Self {
        Self { site, plan, packages, known: BTreeMap::new() }
    }

    /// Carries out the steps of an image that make trees and are not recalled.
    pub fn make(&mut self, image: &ImagePlan) -> Result<(), Failure> {
        let steps: Vec<&Step> = image.steps.iter().filter(|step| !matches!(step.work, Work::Layers | Work::Image)).collect();
        // What comes after a recalled step needs only that one's result.
        let mut first = steps.len();
        while first > 0 && !self.site.store.has_record(TREE, &steps[first - 1].key.hex()).map_err(from_store)? {
            first -= 1;
        }
        for (index, step) in steps.iter().enumerate().skip(first) {
            let before = match index.checked_sub(1) {
                Some(before) => self.recall(&steps[before].key)?,
                None => self.parent(&image.name)?,
            };
            let recipe = self.recipe(&image.name)?;
            let tree = match &step.work {
                Work::Packages { .. } => self.install(recipe, &before)?,
                Work::Composer => self.compose(recipe, &before)?,
                Work::Files => self.put_files(recipe, &before)?,
                Work::Run { index } => self.run(recipe, &recipe.runs[*index], &before)?,
                Work::Remove => remove(recipe, &before)?,
                Work::Layers | Work::Image => continue,
            };
            self.site.store.put_record(TREE, &step.key.hex(), tree.to_text().as_bytes()).map_err(from_store)?;
            self.site.remember(&self.plan.platform, &image.name, step)?;
            self.known.insert(step.key, Rc::new(tree));
        }
        Ok(())
    }

    /// Returns the finished tree of an image.
    pub fn finished(&mut self, image: &ImageName) -> Result<Rc<Tree>, Failure> {
        let plan = self.plan.images.iter().find(|plan| plan.name == *image);
        match plan.and_then(ImagePlan::tree_step).map(|step| step.key) {
            Some(key) => self.recall(&key),
            None => self.parent(image),
        }
    }

    /// Returns the finished tree of an image's parent.
    pub fn parent(&mut self, image: &ImageName) -> Result<Rc<Tree>, Failure> {
        match self.recipe(image)?.from.clone() {
            Parent::Scratch => Ok(Rc::new(Tree::new())),
            Parent::Recipe(parent) => self.finished(&parent),
        }
    }

    fn recall(&mut self, key: &StepKey) -> Result<Rc<Tree>, Failure> {
        if let Some(tree) = self.known.get(key) {
            return Ok(Rc::clone(tree));
        }
        let tree = self.site.tree(key)?.ok_or_else(|| {
            Failure::world("the store lost a tree while it was needed")
                .hint("build again; `parvis store verify` tells what else is missing")
        })?;
        let tree = Rc::new(tree);
        self.known.insert(*key, Rc::clone(&tree));
        Ok(tree)
    }

    fn recipe(&self, image: &ImageName) -> Result<&'a Recipe, Failure> {
        self.site.catalog.recipe(image).ok_or_else(|| Failure::bug(format!("the plan names `{image}`, which has no recipe")))
    }

    fn own_packages(&self, image: &ImageName) -> Vec<&'a Unpacked> {
        self.site.packages(self.plan, image).into_iter().filter_map(|package| self.packages.get(&package.sha256)).collect()
    }

    /// Returns the folders that, laid over each other, hold what a tree has; the first lies on top.
    fn lower(&self, image: &ImageName, tree: &Tree) -> Result<Vec<PathBuf>, Failure> {
        lower(self.site, self.plan, image, self.packages, tree)
    }

    /// Unpacks packages over the parent's tree and runs their scripts.
    fn install(&self, recipe: &Recipe, parent: &Tree) -> Result<Tree, Failure> {
        let site = self.site;
        let image = &recipe.name;
        let own = self.own_packages(image);
        let database = read_database(site, parent)?;
        let waiting = waiting(site, parent, &own, database.records().next().is_none())?;
        let new: Vec<NewPackage<'_>> = own
            .iter()
            .map(|package| NewPackage {
                record: package.status.clone(),
                triggers: &package.control.triggers,
                tree: &package.tree,
                waits: waiting.contains(&package.locked.name),
            })
            .collect();
        let configuration = Configuration::new(database, &new)
            .map_err(|error| Failure::world(format!("the packages of `{image}` cannot be configured")).because(error))?;
        let first: Vec<&Unpacked> = own.iter().copied().filter(|package| !waiting.contains(&package.locked.name)).collect();
        let mut tree = unpack_over(site, image, parent, &first, configuration.database())?;
        let newest = own.iter().map(|package| package.date).max().unwrap_or(0);
        add_accounts(site, &mut tree, recipe, newest)?;
        put_database(site, &mut tree, configuration.database(), newest)?;
        let database = self.configure(image, &own, &new, &mut tree, configuration)?;
        put_database(site, &mut tree, &database, newest)?;
        gate::normalise(&mut tree);
        Ok(tree)
    }

    /// Runs the packages' scripts in their order, and takes what each changed into the tree under its name.
    fn configure(
        &self,
        image: &ImageName,
        own: &[&Unpacked],
        new: &[NewPackage<'_>],
        tree: &mut Tree,
        mut configuration: Configuration,
    ) -> Result<Database, Failure> {
        let wrong =
            |error: ConfigureError| Failure::world(format!("the packages of `{image}` cannot be configured")).because(error);
        let dates: BTreeMap<&str, i64> = own.iter().map(|package| (package.locked.name.as_str(), package.date)).collect();
        let newest = own.iter().map(|package| package.date).max().unwrap_or(0);
        let (status, unincorp) = (path(b"var/lib/dpkg/status")?, path(b"var/lib/dpkg/triggers/Unincorp")?);
        let Some(mut run) = configuration.next().map_err(wrong)? else { return Ok(configuration.into_database()) };
        let task = self.site.screen.work(&format!("{image}: scripts"), None, Unit::Items);
        let mut sandbox = start(self.site, self.lower(image, tree)?, tree, image, Purpose::Scripts)?;
        loop {
            task.detail(&format!("{} {}", run.package, run.arguments.join(" ")));
            // The trigger of a parent's package was set off by one of the new ones: it is as new as the newest.
            let date = dates.get(run.package.as_str()).copied().unwrap_or(newest);
            sandbox.write(&status, configuration.database().render_status().as_bytes(), 0o644, 0, 0).map_err(from_sandbox)?;
            let waiting =
                own.iter().zip(new).find(|(own, _)| own.locked.name == run.package && configuration.waits(&run.package));
            stage(self.site, &mut sandbox, &run, waiting.map(|(package, _)| &package.tree))?;
            script(image, &mut sandbox, &run, date)?;
            unstage(&mut sandbox, &run)?;
            take_changes(self.site, &mut sandbox, tree, &Origin::Script(run.package.clone()), date)?;
            let pending = sandbox.read(&unincorp, 1 << 20).map_err(from_sandbox)?.unwrap_or_default();
            if !pending.is_empty() {
                sandbox.write(&unincorp, b"", 0o644, 0, 0).map_err(from_sandbox)?;
            }
            configuration.finished(&run, &pending);
            task.advance(1);
            if let Some((package, new)) = waiting {
                // Its preinst has cleared the way. Nothing can be put below a sandbox that stands.
                sandbox.finish().map_err(from_sandbox)?;
                *tree = unpack_over(self.site, image, tree, &[package], configuration.database())?;
                configuration.unpacked(new);
                sandbox = start(self.site, self.lower(image, tree)?, tree, image, Purpose::Scripts)?;
            }
            match configuration.next().map_err(wrong)? {
                Some(next) => run = next,
                None => break,
            }
        }
        sandbox.finish().map_err(from_sandbox)?;
        Ok(configuration.into_database())
    }

    /// Lets Composer install a project in the sandbox of another image, and takes what it made.
    fn compose(&mut self, recipe: &Recipe, before: &Tree) -> Result<Tree, Failure> {
        let rule = recipe.composer.as_ref().ok_or_else(|| Failure::bug("the plan names a step that the recipe has not"))?;
        let (with, platform) = (self.finished(&rule.with)?, self.finished(&rule.platform)?);
        let site = self.site;
        let places = composer::Places {
            with: composer::Place { image: &rule.with, folders: self.lower(&rule.with, &with)?, tree: &with },
            platform: composer::Place { image: &rule.platform, folders: self.lower(&rule.platform, &platform)?, tree: &platform },
        };
        composer::install(site, recipe, rule, &places, before)
    }

    fn put_files(&mut self, recipe: &Recipe, before: &Tree) -> Result<Tree, Failure> {
        let mut tree = before.clone();
        let accounts = image_accounts(self.site, &tree)?;
        let wrong = |error: edits::EditError| Failure::project(format!("recipes/{}.yaml, {error}", recipe.name));
        let mut kept = Ok(());
        edits::put_files(&mut tree, recipe, self.site.sources, &accounts, |text, mode| {
            if let Err(error) = self.site.store.put_file_bytes(text.as_bytes(), mode) {
                kept = Err(from_store(error));
            }
            FileDigest::of(text.as_bytes())
        })
        .map_err(wrong)?;
        kept?;
        if !recipe.copies.is_empty() {
            let mut siblings = BTreeMap::new();
            for rule in &recipe.copies {
                siblings.insert(rule.from.clone(), self.finished(&rule.from)?);
            }
            let siblings = siblings.iter().map(|(name, tree)| (name.clone(), &**tree)).collect();
            edits::copy(&mut tree, recipe, &siblings, &accounts).map_err(wrong)?;
        }
        Ok(tree)
    }

    fn run(&self, recipe: &Recipe, rule: &RunRule, before: &Tree) -> Result<Tree, Failure> {
        let image = &recipe.name;
        let mut tree = before.clone();
        let task = self.site.screen.work(&format!("{image}: run"), None, Unit::Items);
        task.detail(&rule.command.join(" "));
        let mut sandbox = start(self.site, self.lower(image, &tree)?, &tree, image, Purpose::Commands)?;
        let Identity { uid, gid, groups, home } = super::room::run_as(self.site, &tree, rule.user.as_deref())
            .map_err(|what| Failure::project(format!("recipes/{image}.yaml, line {}: {what}", rule.line)))?;
        let env = steps::environment(&self.site.catalog.config(image), &rule.env, &home);
        let program = Program {
            env: super::room::environment(&env),
            cwd: path(rule.workdir.as_deref().unwrap_or("/").as_bytes())?,
            uid,
            gid,
            groups,
            timeout: Duration::from_secs(rule.timeout),
            ..Program::new(&rule.command)
        };
        let outcome = sandbox.run(&program, &mut |_, _| {}).map_err(from_sandbox)?;
        if !outcome.is_success() {
            let what = format!("recipes/{image}.yaml, line {}: `{}` {}", rule.line, rule.command.join(" "), words(&outcome));
            return Err(Failure::world(what).hint("the command runs without network, and sees nothing of this machine"));
        }
        let origin = Origin::Run { image: image.clone(), line: rule.line };
        take_changes(self.site, &mut sandbox, &mut tree, &origin, 0)?;
        sandbox.finish().map_err(from_sandbox)?;
        gate::normalise(&mut tree);
        Ok(tree)
    }
}

fn remove(recipe: &Recipe, before: &Tree) -> Result<Tree, Failure> {
    let mut tree = before.clone();
    edits::remove(&mut tree, &recipe.removes)
        .map_err(|error| Failure::project(format!("recipes/{}.yaml, {error}", recipe.name)))?;
    Ok(tree)
}

/// Puts in place what a script expects beside itself while it runs.
///
/// What a package that is not unpacked yet has beside its script comes from its own tree.
fn stage(site: &Site<'_>, sandbox: &mut Sandbox, run: &ScriptRun, waiting: Option<&Tree>) -> Result<(), Failure> {
    for folder in staging_folders(run) {
        sandbox.run(&Program::new(["/usr/bin/mkdir", "-p", "--", &folder]), &mut |_, _| {}).map_err(from_sandbox)?;
    }
    for staged in &run.staged {
        let (to, bytes, mode) = match staged {
            Staged::Copy { from, to } => {
                let content = match waiting {
                    Some(tree) => read_path(site, tree, from.as_bytes())?,
                    None => sandbox.read(from, 16 << 20).map_err(from_sandbox)?,
                };
                (to, content.unwrap_or_default(), 0o755)
            }
            Staged::Text { to, text } => (to, text.clone().into_bytes(), 0o644),
        };
        sandbox.write(to, &bytes, mode, 0, 0).map_err(from_sandbox)?;
    }
    Ok(())
}

fn unstage(sandbox: &mut Sandbox, run: &ScriptRun) -> Result<(), Failure> {
    for folder in staging_folders(run) {
        sandbox.run(&Program::new(["/usr/bin/rm", "-rf", "--", &folder]), &mut |_, _| {}).map_err(from_sandbox)?;
    }
    Ok(())
}

fn staging_folders(run: &ScriptRun) -> BTreeSet<String> {
    let folder = |staged: &Staged| match staged {
        Staged::Copy { to, .. } | Staged::Text { to, .. } => to.parent().map(|folder| folder.to_string()),
    };
    run.staged.iter().filter_map(folder).collect()
}

/// Runs a maintainer script as dpkg would.
fn script(image: &ImageName, sandbox: &mut Sandbox, run: &ScriptRun, date: i64) -> Result<(), Failure> {
    let mut env = vec![
        "DEBCONF_NONINTERACTIVE_SEEN=true".to_owned(),
        "DEBIAN_FRONTEND=noninteractive".to_owned(),
        "HOME=/root".to_owned(),
        "LC_ALL=C.UTF-8".to_owned(),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        // passwd(1) and others take it for today.
        format!("SOURCE_DATE_EPOCH={date}"),
        "TZ=UTC0".to_owned(),
    ];
    env.extend(run.environment.iter().map(|(name, value)| format!("{name}={value}")));
    let mut argv = vec![run.script.to_string()];
    argv.extend(run.arguments.iter().cloned());
    let program = Program { env: env.into_iter().map(String::into_bytes).collect(), timeout: SCRIPT_TIME, ..Program::new(&argv) };
    let outcome = sandbox.run(&program, &mut |_, _| {}).map_err(from_sandbox)?;
    if outcome.is_success() {
        return Ok(());
    }
    let what =
        format!("in the image `{image}` the script `{}` of the package `{}` {}", argv.join(" "), run.package, words(&outcome));
    Err(Failure::world(what)
        .hint("the lines above are the script's own; it ran without network and without anything of this machine"))
}

/// What a sandbox is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Maintainer scripts.
    Scripts,
    /// Commands of a recipe that build.
    Commands,
    /// A finished image that is tried: only here may programs talk to each other over the loopback interface.
    Room,
}

/// Starts a sandbox on these folders. Native programs answer for maintainer scripts alone.
pub(super) fn start(
    site: &Site<'_>,
    lower: Vec<PathBuf>,
    tree: &Tree,
    image: &ImageName,
    purpose: Purpose,
) -> Result<Sandbox, Failure> {
    let scratch = site.store.scratch().map_err(from_store)?;
    let shims = SHIMS.iter().map(|(at, content)| Ok((path(at)?, content.to_vec()))).collect::<Result<_, Failure>>()?;
    let owners = tree.iter().filter_map(|(path, entry)| owner(path, entry)).collect();
    let natives = purpose == Purpose::Scripts && !site.plain_scripts;
    let loopback = purpose == Purpose::Room;
    let spec = Spec { owners, shims, natives, loopback, ..Spec::new(Source::Layers(lower), scratch) };
    Sandbox::start(&spec).map_err(|error| {
        let failure = from_sandbox(error);
        let message = format!("cannot start a sandbox for the image `{image}`: {}", failure.message());
        Failure::world(message).maybe_hint(failure.hint_text())
    })
}

/// Returns in words how a program ended, with the last it said.
pub fn words(outcome: &Outcome) -> String {
    let end = match outcome.end {
        End::Exited(code) => format!("exited with {code}"),
        End::Signalled(number) => format!("was ended by signal {number}"),
        End::TimedOut => "took too long and was ended".to_owned(),
        End::TooMuchOutput => "said too much and was ended".to_owned(),
        End::TooManyProcesses => "started too many processes and was ended".to_owned(),
    };
    outcome.last_lines.iter().fold(end, |text, line| format!("{text}\n  | {line}"))
}

/// Returns the folders that, laid over each other, hold what a tree has; the first lies on top.
///
/// Each package lies in the store as a folder of its own; what the tree has otherwise is one more on top of them.
pub(super) fn lower(
    site: &Site<'_>,
    plan: &Plan,
    image: &ImageName,
    packages: &BTreeMap<DownloadDigest, Unpacked>,
    tree: &Tree,
) -> Result<Vec<PathBuf>, Failure> {
    let mut union = Tree::new();
    let mut folders = Vec::new();
    for recipe in site.catalog.lineage(image) {
        for locked in site.packages(plan, &recipe.name) {
            let recalled;
            let package = if let Some(package) = packages.get(&locked.sha256) {
                package
            } else {
                recalled = super::unpack::recall(site.store, locked).map_err(super::from_unpack)?;
                // What a parent had from a package that is gone from the store comes with the rest.
                let Some(package) = &recalled else { continue };
                package
            };
            folders.push(site.store.kept_farm(&package.tree, &[]).map_err(from_store)?);
            for (path, entry) in package.tree.iter() {
                union.put(path.clone(), entry.clone());
            }
        }
    }
    // Overlayfs takes at most 500 folders; half as many are as slow as they should ever be.
    if folders.len() > 400 {
        return Ok(vec![site.store.kept_farm(tree, &[]).map_err(from_store)?]);
    }
    let (rest, hidden) = beyond(&union, tree);
    folders.push(site.store.kept_farm(&rest, &hidden).map_err(from_store)?);
    folders.reverse();
    Ok(folders)
}

/// Returns what a farm of `tree` has beyond a farm of `union`, and what it has not. Owners and dates do not count: no farm has them.
fn beyond(union: &Tree, tree: &Tree) -> (Tree, Vec<TreePath>) {
    let bare = |tree: &Tree| -> Tree {
        tree.iter()
            .map(|(path, entry)| {
                let mode = if entry.is_directory() { 0o755 } else { entry.mode & 0o777 };
                let mut kind = entry.kind.clone();
                if let Kind::File { shared, .. } = &mut kind {
                    *shared = false;
                }
                (path.clone(), Entry { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new(), origin: Origin::Parvis })
            })
            .collect()
    };
    let (mut rest, mut hidden) = (Tree::new(), Vec::new());
    for change in bare(union).changes_to(&bare(tree)) {
        match change {
            Change::Put(path, entry) => rest.put(path, entry),
            Change::Remove(path) => hidden.push(path),
        }
    }
    (rest, hidden)
}

/// Returns what hard links to shared files cannot carry of an entry.
fn owner(path: &TreePath, entry: &Entry) -> Option<Owner> {
    let plain = match entry.kind {
        Kind::Directory => entry.mode == 0o755,
        Kind::File { .. } => entry.mode & 0o7000 == 0,
        Kind::Symlink { .. } => true,
    };
    let Entry { uid, gid, mode, xattrs, .. } = entry;
    let carried = plain && *uid == 0 && *gid == 0 && xattrs.is_empty();
    (!carried).then(|| Owner { path: path.clone(), uid: *uid, gid: *gid, mode: *mode, xattrs: xattrs.clone() })
}

/// Takes what a command changed into the tree, under the name of who ran it.
///
/// Dates are made independent of the day: what was written now gets the given date; what kept the date of a stored file
/// keeps the tree's, or that of the file that was moved.
/// Where the day of each password's last change stands.
const SHADOW: &[u8] = b"etc/shadow";

/// Returns `/etc/shadow` as it would be had the script run on the day of its package: not every program asks the environment what day it is.
/// A command of a recipe has no day; there it is that of the newest entry before.
fn dated_shadow(site: &Site<'_>, kind: Kind, mode: u16, old: Option<&Entry>, date: i64) -> Result<Kind, Failure> {
    let Kind::File { digest, .. } = &kind else { return Ok(kind) };
    let read = |digest: &FileDigest, mode: u16| -> Result<Vec<u8>, Failure> {
        let mut content = Vec::new();
        let mut file = site.store.open_file(digest, mode).map_err(from_store)?;
        let read = std::io::Read::read_to_end(&mut file, &mut content);
        read.map_err(|error| Failure::world("cannot read `/etc/shadow` from the store").because(error))?;
        Ok(content)
    };
    // What an older package's script finds there was dated before.
    let before = match old {
        Some(Entry { kind: Kind::File { digest, .. }, mode, .. }) => gate::newest_in_shadow(&read(digest, *mode)?),
        _ => 0,
    };
    let latest = date.max(before);
    if latest == 0 {
        return Ok(kind);
    }
    let content = read(digest, mode)?;
    let dated = gate::clamp_shadow(&content, latest);
    if dated == content {
        return Ok(kind);
    }
    let digest = site.store.put_file_bytes(&dated, mode).map_err(from_store)?;
    Ok(Kind::File { digest, size: dated.len() as u64, shared: false })
}

fn take_changes(site: &Site<'_>, sandbox: &mut Sandbox, tree: &mut Tree, origin: &Origin, date: i64) -> Result<(), Failure> {
    // What the store says is what a person can act on, not that the sandbox could not go on.
    let mut refused = None;
    let mut keep = |content: &mut dyn std::io::Read, mode: u16| {
        site.store.put_file(content, mode).map_err(|error| {
            let told = std::io::Error::other(error.to_string());
            refused = Some(from_store(error));
            told
        })
    };
    let changes = sandbox.changes(&mut keep).map_err(from_sandbox);
    // What was moved keeps its date, as on any disk. Removals come first.
    let mut moved: BTreeMap<FileDigest, i64> = BTreeMap::new();
    for change in refused.map_or(changes, Err)? {
        if DATABASE.iter().any(|own| is_within(change.path().as_bytes(), own)) {
            continue;
        }
        match change {
            Change::Remove(path) => {
                let gone = tree.within(&path).filter_map(|(_, entry)| match entry.kind {
                    Kind::File { digest, .. } => Some((digest, entry.mtime)),
                    _ => None,
                });
                moved.extend(gone);
                tree.remove(&path);
            }
            Change::Put(path, mut entry) => {
                let old = tree.get(path.as_bytes());
                if path.as_bytes() == SHADOW {
                    entry.kind = dated_shadow(site, entry.kind, entry.mode, old, date)?;
                }
                entry.mtime = match (&entry.kind, old) {
                    (Kind::Directory, _) => 0,
                    (kind, Some(old)) if entry.mtime == FILE_MTIME && same_content(kind, &old.kind) => old.mtime,
                    (Kind::File { digest, .. }, None) if entry.mtime == FILE_MTIME && moved.contains_key(digest) => moved[digest],
                    _ if entry.mtime > FILE_MTIME && entry.mtime < date => entry.mtime,
                    _ => date,
                };
                entry.origin = origin.clone();
                // A folder whose content changed is copied up, but is itself what it was.
                if old.is_none_or(|old| !old.same_bytes(&entry)) {
                    tree.put(path, entry);
                }
            }
        }
    }
    Ok(())
}

fn same_content(new: &Kind, old: &Kind) -> bool {
    match (new, old) {
        (Kind::File { digest, .. }, Kind::File { digest: old, .. }) => digest == old,
        _ => new == old,
    }
}

fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Writes the shared files of the package database into a tree.
fn put_database(site: &Site<'_>, tree: &mut Tree, database: &Database, date: i64) -> Result<(), Failure> {
    for (path, mode, bytes) in database.shared_files() {
        let digest = site.store.put_file_bytes(&bytes, mode).map_err(from_store)?;
        // No package need have the folder of the triggers, and a layer states every folder.
        let folders = std::iter::successors(path.parent(), TreePath::parent);
        let missing: Vec<TreePath> = folders.take_while(|folder| tree.get(folder.as_bytes()).is_none()).collect();
        for folder in missing {
            tree.put(folder, Entry::directory(0o755, Origin::Parvis));
        }
        tree.put(path, Entry::file(digest, bytes.len() as u64, mode, date, Origin::Parvis));
    }
    Ok(())
}

/// Reads the package database of a tree.
fn read_database(site: &Site<'_>, tree: &Tree) -> Result<Database, Failure> {
    let mut files = BTreeMap::new();
    for path in Database::files_of(tree) {
        if let Some(bytes) = read_path(site, tree, path.as_bytes())? {
            files.insert(path, bytes);
        }
    }
    Database::read(&files).map_err(|error| Failure::world("the package database of the parent image is damaged").because(error))
}

/// Returns the packages that are unpacked when their preinst has run, as dpkg does with all: those whose preinst diverts files,
/// and that ship what stands elsewhere already.
///
/// Unpacking everything first gives the same tree for all others, and one sandbox for all scripts. What is essential is
/// never waited for in a bootstrap: nothing would run without it.
fn waiting(site: &Site<'_>, parent: &Tree, own: &[&Unpacked], bootstrap: bool) -> Result<BTreeSet<PackageName>, Failure> {
    let mut waiting = BTreeSet::new();
    for (index, package) in own.iter().enumerate() {
        let preinst = package.status.info_path("preinst");
        let Some(preinst) = preinst.filter(|path| package.tree.get(path.as_bytes()).is_some()) else { continue };
        if bootstrap && package.status.is_essential() {
            continue;
        }
        let script = read_path(site, &package.tree, preinst.as_bytes())?.unwrap_or_default();
        if !script.windows(DIVERT.len()).any(|window| window == DIVERT) {
            continue;
        }
        let has = |tree: &Tree, path: &TreePath| tree.get(path.as_bytes()).is_some_and(|entry| !entry.is_directory());
        let is_taken = |path: &TreePath| {
            let others = own.iter().enumerate().filter(|(other, _)| *other != index);
            has(parent, path) || others.into_iter().any(|(_, other)| has(&other.tree, path))
        };
        if package.tree.iter().any(|(path, entry)| !entry.is_directory() && is_taken(path)) {
            waiting.insert(package.locked.name.clone());
        }
    }
    Ok(waiting)
}

/// The program with which a script says that another package's file belongs elsewhere.
const DIVERT: &[u8] = b"dpkg-divert";

/// Unpacks packages over a tree, whose diversions they keep to.
fn unpack_over(
    site: &Site<'_>,
    image: &ImageName,
    below: &Tree,
    packages: &[&Unpacked],
    database: &Database,
) -> Result<Tree, Failure> {
    let diversions = read_path(site, below, b"var/lib/dpkg/diversions")?.unwrap_or_default();
    let diversions = compose::parse_diversions(&String::from_utf8_lossy(&diversions));
    let trees: Vec<_> = packages.iter().map(|package| (&package.locked.name, &package.tree)).collect();
    let (mut tree, takeovers) = compose::unpack_tree(below, &trees, database, &diversions).map_err(|error| {
        let hint = error.hint();
        Failure::project(format!("the packages of `{image}` do not fit together: {error}")).maybe_hint(hint)
    })?;
    for takeover in &takeovers {
        strike_from_list(site, &mut tree, takeover)?;
    }
    Ok(tree)
}

/// Takes a path that another package took over off its first owner's list, as dpkg does.
fn strike_from_list(site: &Site<'_>, tree: &mut Tree, takeover: &Takeover) -> Result<(), Failure> {
    let info = path(b"var/lib/dpkg/info")?;
    let is_list = |name: &[u8]| {
        let stem = name.strip_suffix(b".list").unwrap_or_default();
        stem.split(|byte| *byte == b':').next() == Some(takeover.from.as_str().as_bytes())
    };
    let lists: Vec<TreePath> =
        tree.within(&info).filter(|(path, _)| is_list(path.file_name())).map(|(path, _)| path.clone()).collect();
    for list in lists {
        let (Some(content), Some(mut entry)) = (read_path(site, tree, list.as_bytes())?, tree.get(list.as_bytes()).cloned())
        else {
            continue;
        };
        let kept = compose::strike_off(&content, &[&takeover.path]);
        let digest = site.store.put_file_bytes(&kept, entry.mode).map_err(from_store)?;
        entry.kind = Kind::File { digest, size: kept.len() as u64, shared: false };
        entry.origin = Origin::Parvis;
        tree.put(list, entry);
    }
    Ok(())
}

/// Returns the accounts of an image, as its own files state them.
pub(super) fn image_accounts(site: &Site<'_>, tree: &Tree) -> Result<Accounts, Failure> {
    let passwd = read_path(site, tree, b"etc/passwd")?.unwrap_or_default();
    let group = read_path(site, tree, b"etc/group")?.unwrap_or_default();
    Accounts::parse(&passwd, &group).map_err(|error| Failure::world(format!("the accounts of the image are damaged: {error}")))
}

/// Returns the content of a file of a tree; `None` where there is no regular file.
pub fn read_path(site: &Site<'_>, tree: &Tree, at: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let Some(Entry { kind: Kind::File { digest, .. }, mode, .. }) = tree.get(at) else { return Ok(None) };
    let mut content = Vec::new();
    let mut file = site.store.open_file(digest, *mode).map_err(from_store)?;
    std::io::Read::read_to_end(&mut file, &mut content).map_err(|error| {
        Failure::world(format!("cannot read `/{}` from the store", String::from_utf8_lossy(at))).because(error)
    })?;
    Ok(Some(content))
}

pub(super) fn path(text: &[u8]) -> Result<TreePath, Failure> {
    TreePath::parse(text).map_err(|error| Failure::bug(error.to_string()))
}

/// Turns what the sandbox says into what a person reads.
pub(super) fn from_sandbox(error: SandboxError) -> Failure {
    let hint = error.hint();
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}

/// Adds the recipe's users to the accounts that packages will find.
fn add_accounts(site: &Site<'_>, tree: &mut Tree, recipe: &Recipe, date: i64) -> Result<(), Failure> {
    let missing = || Failure::bug("a file of the tree cannot be read");
    let read = |path: &TreePath| read_path(site, tree, path.as_bytes())?.ok_or_else(missing);
    let before = AccountFiles::of_tree(tree, read)?;
    let mut files = before.clone();
    files.add(&recipe.users, date / 86_400).map_err(|error| {
        let place = error.line().map_or_else(String::new, |line| format!(", line {line}"));
        let hint = error.hint();
        Failure::project(format!("recipes/{}.yaml{place}: {error}", recipe.name)).maybe_hint(hint)
    })?;
    if files == before {
        return Ok(());
    }
    for (path, mode, gid, bytes) in files.into_files() {
        let digest = site.store.put_file_bytes(&bytes, mode).map_err(from_store)?;
        let entry = Entry::file(digest, bytes.len() as u64, mode, date, Origin::Parvis);
        tree.put(path, Entry { gid, ..entry });
    }
    Ok(())
}
