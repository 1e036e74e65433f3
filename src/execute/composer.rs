//! Composer in a sandbox: it runs without network on exactly what the lock names, and finds each file at its own address.
//!
//! Addresses are not rewritten. PHP reads `composer/offline.php` before each program, which answers for `http` and `https` with
//! the locked files; so what Composer and its plugins write down is what they write down anywhere.
//!
//! ```text
//! /parvis/offline.php      stands in for the network
//! /parvis/php/parvis.ini   makes PHP read it
//! /parvis/home/            Composer's own settings
//! /parvis/offer            the list: ADDRESS tab NAME
//! /parvis/files/<sha256>   the files
//! /parvis/missing          addresses that were asked for and are not in the list
//! /parvis/machine/         files that stand below `/tmp` or `/run`, where a sandbox has folders of its own; links lead here
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::trees::{Purpose, from_sandbox, image_accounts, path, start, words};
use super::{Site, from_store};
use crate::composer::definition::{COMPOSER_JSON, Definition};
use crate::composer::locked::COMPOSER_LOCK;
use crate::composer::{machine, requirements, said, wanted};
use crate::edge::offer::{Offer, OfferError};
use crate::edge::sandbox::{Outcome, Program, Sandbox, Stream};
use crate::failure::Failure;
use crate::image::gate;
use crate::model::address::Address;
use crate::model::digest::DownloadDigest;
use crate::model::lock::composer::LockedComposer;
use crate::model::name::{ComposerName, ImageName};
use crate::model::recipe::{ComposerRule, Recipe};
use crate::model::tree::{Change, Entry, Kind, Origin, Tree, TreePath};
use crate::plan::edits;
use crate::plan::steps::{Plan, SourceFile};
use crate::screen::Unit;

const OFFLINE: &[u8] = include_bytes!("composer/offline.php");
const INI: &[u8] = include_bytes!("composer/parvis.ini");

/// Where the parts of an offer lie in the sandbox.
const FOLDER: &str = "parvis";

/// How long one command of Composer may take.
const TIME: Duration = Duration::from_secs(3600);

/// How often Composer is asked anew while it wants further documents of repositories: as often as its packages are deep.
const ROUNDS: usize = 64;

/// Documents of repositories, and bytes of all of them, at most.
const MOST_DOCUMENTS: usize = 20_000;
const MOST_BYTES: usize = 1 << 30;

/// Where Debian has Composer, and where others put it: what a platform gets to be asked what it has.
const PROGRAM: [&[u8]; 4] = [b"usr/bin/composer", b"usr/local/bin/composer", b"usr/share/composer", b"usr/share/php"];

/// A finished image as a place where programs run.
pub struct Place<'a> {
    pub image: &'a ImageName,
    /// What lies over each other, the first on top.
    pub folders: Vec<PathBuf>,
    pub tree: &'a Tree,
}

/// The images that a step needs.
pub struct Places<'a> {
    pub with: Place<'a>,
    pub platform: Place<'a>,
}

/// Installs a project and returns the tree with it.
pub fn install(
    site: &Site<'_>,
    recipe: &Recipe,
    rule: &ComposerRule,
    places: &Places<'_>,
    before: &Tree,
) -> Result<Tree, Failure> {
    let image = &recipe.name;
    let locked = site
        .lock
        .composer(image, &rule.project)
        .ok_or_else(|| Failure::bug(format!("the plan names the Composer project of `{image}`, which is not locked")))?;
    let project = project_tree(site, recipe, rule)?;
    let definition = definition(site, rule, &project)?;
    if let Some(unknown) = rule.scripts.iter().find(|name| !definition.scripts.contains(*name)) {
        return Err(Failure::project(format!(
            "recipes/{image}.yaml, line {}: `{COMPOSER_JSON}` has no script `{unknown}`",
            rule.line
        ))
        .hint("take it out of `scripts:`, or correct its name"));
    }
    let task = site.screen.work(&format!("{image}: composer"), None, Unit::Items);
    task.detail("platform");
    let farm = site.store.kept_farm(&project, &[]).map_err(from_store)?;
    check_platform(site, image, rule, places, &farm)?;
    task.detail("install");
    let offer = offer_of(site, rule, locked, &project)?;
    let mut sandbox = open(site, &places.with, &[offer.root().to_owned(), farm])?;
    let mut arguments = vec!["install", "--no-dev", "--no-scripts", "--prefer-dist", "--optimize-autoloader"];
    if rule.authoritative {
        arguments.push("--classmap-authoritative");
    }
    run(image, rule, &mut sandbox, &arguments)?;
    for script in &rule.scripts {
        task.detail(script);
        run(image, rule, &mut sandbox, &["run-script", "--no-dev", script])?;
    }
    task.detail("take");
    let app = take(site, recipe, rule, &mut sandbox, project, &definition)?;
    sandbox.finish().map_err(from_sandbox)?;
    let mut tree = before.clone();
    let owners = owners(site, recipe, rule, &tree, places.platform.tree)?;
    let own = |entry: &Entry| Entry { uid: owners.0, gid: owners.1, ..entry.clone() };
    let app: Tree = app.iter().map(|(path, entry)| (path.clone(), own(entry))).collect();
    edits::put_tree(&mut tree, &app, rule.line).map_err(|error| Failure::project(format!("recipes/{image}.yaml, {error}")))?;
    gate::normalise(&mut tree);
    Ok(tree)
}

/// Returns the project's own files where they stand in the image.
fn project_tree(site: &Site<'_>, recipe: &Recipe, rule: &ComposerRule) -> Result<Tree, Failure> {
    let files = site
        .sources
        .get(&(recipe.name.clone(), rule.project.clone()))
        .ok_or_else(|| Failure::bug(format!("the Composer project of `{}` was not read", recipe.name)))?;
    let origin = || Origin::Recipe { image: recipe.name.clone(), line: rule.line };
    let mut tree = Tree::new();
    for SourceFile { path, content } in files {
        let to = rule.to.join(path.as_bytes()).map_err(|error| Failure::project(error.to_string()))?;
        let entry = match content {
            Some((digest, bytes)) => Entry::file(*digest, *bytes, rule.mode, 0, origin()),
            None => Entry::directory(rule.directory_mode, origin()),
        };
        tree.put(to, entry);
    }
    Ok(tree)
}

fn definition(site: &Site<'_>, rule: &ComposerRule, project: &Tree) -> Result<Definition, Failure> {
    let at = below(rule, COMPOSER_JSON.as_bytes())?;
    let bytes = super::read_path(site, project, at.as_bytes())?.unwrap_or_default();
    Definition::parse(&bytes).map_err(|error| Failure::project(error.to_string()))
}

fn below(rule: &ComposerRule, path: &[u8]) -> Result<TreePath, Failure> {
    rule.to.join(path).map_err(|error| Failure::project(error.to_string()).hint("choose shorter names"))
}

/// Returns the ids of the declared owners, as this image names them, or else the platform.
fn owners(site: &Site<'_>, recipe: &Recipe, rule: &ComposerRule, own: &Tree, platform: &Tree) -> Result<(u32, u32), Failure> {
    let tree = if own.get(b"etc/passwd").is_some() { own } else { platform };
    let accounts = image_accounts(site, tree)?;
    accounts
        .resolve(&rule.owners)
        .map_err(|error| Failure::project(format!("recipes/{}.yaml, line {}: {error}", recipe.name, rule.line)))
}

/// Starts an offer with what each has.
fn new_offer(site: &Site<'_>, home: &Value) -> Result<Offer, Failure> {
    let offer = Offer::open(site.store.scratch().map_err(from_store)?).map_err(from_offer)?;
    let at = |name: &str| path(format!("{FOLDER}/{name}").as_bytes());
    offer.write(&at("offline.php")?, OFFLINE).map_err(from_offer)?;
    offer.write(&at("php/parvis.ini")?, INI).map_err(from_offer)?;
    offer.write(&at("home/config.json")?, home.to_string().as_bytes()).map_err(from_offer)?;
    offer.folder(&at("files")?).map_err(from_offer)?;
    Ok(offer)
}

/// Returns Composer's own settings: no repository but the given ones. Addresses without TLS are as good as others, for what comes
/// from them has a locked digest.
fn home(repositories: &[(String, String)]) -> Value {
    let mut all = serde_json::Map::new();
    for (name, url) in repositories {
        all.insert(name.clone(), json!({ "type": "composer", "url": url }));
    }
    // Composer's default; a project that wants it names it in `parvis.yaml`.
    all.insert("packagist".to_owned(), json!(false));
    json!({ "config": { "secure-http": false, "use-github-api": false }, "repositories": all })
}

/// Offers every locked file at its address.
fn offer_of(site: &Site<'_>, rule: &ComposerRule, locked: &LockedComposer, project: &Tree) -> Result<Offer, Failure> {
    let offer = new_offer(site, &home(&[]))?;
    let mut list = BTreeMap::new();
    for download in &locked.downloads {
        let from = site.store.download_path(&download.sha256);
        let gone = || Failure::world(format!("the store lost `{}` while it was needed", download.name())).hint("build again");
        if !site.store.has_download(&download.sha256, download.size) {
            return Err(gone());
        }
        let address = Address::parse(&download.url).map_err(|error| Failure::project(error.to_string()).hint(error.hint()))?;
        match address {
            Address::Network(url) => {
                offer.link(&file_at(&download.sha256)?, &from).map_err(from_offer)?;
                for url in wanted::asked_as(&url, download.reference.as_deref()) {
                    list.insert(url, download.sha256.hex());
                }
            }
            Address::Project(at) => {
                let at = below(rule, at.as_bytes())?;
                match project.get(at.as_bytes()).map(|entry| &entry.kind) {
                    None => offer.link(&at, &from).map_err(from_offer)?,
                    Some(Kind::File { digest, .. }) if digest.hex() == download.sha256.hex() => {}
                    Some(_) => {
                        return Err(
                            Failure::project(format!("`{}` changed since it was locked", download.url)).hint("run `parvis lock`")
                        );
                    }
                }
            }
            Address::Machine(at) => {
                let hidden = HIDDEN.iter().any(|folder| at.starts_with(folder));
                let at = if hidden { path(format!("{FOLDER}/machine{at}").as_bytes())? } else { path(at.as_bytes())? };
                offer.link(&at, &from).map_err(from_offer)?;
            }
        }
    }
    offer.write(&path(format!("{FOLDER}/offer").as_bytes())?, render(&list).as_bytes()).map_err(from_offer)?;
    Ok(offer)
}

fn file_at(digest: &DownloadDigest) -> Result<TreePath, Failure> {
    path(format!("{FOLDER}/files/{}", digest.hex()).as_bytes())
}

fn render(list: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = list.iter().map(|(address, name)| format!("{address}\t{name}\n")).collect();
    lines.concat()
}

/// Folders of a sandbox that hide what an offer has there.
const HIDDEN: [&str; 2] = ["/tmp/", "/run/"];

/// Links what an offer has for them into these folders.
const LINKS: &str = r#"for path in /parvis/machine/*/*; do [ ! -e "$path" ] || ln -sT "$path" "${path#/parvis/machine}"; done"#;

/// Starts a sandbox on an image with further folders on top.
fn open(site: &Site<'_>, place: &Place<'_>, above: &[PathBuf]) -> Result<Sandbox, Failure> {
    let folders = above.iter().chain(&place.folders).cloned().collect();
    let mut sandbox = start(site, folders, place.tree, place.image, Purpose::Commands)?;
    if above.iter().any(|folder| folder.join(FOLDER).join("machine").exists()) {
        let outcome = sandbox.run(&Program::new(["/bin/sh", "-c", LINKS]), &mut |_, _| {}).map_err(from_sandbox)?;
        if !outcome.is_success() {
            return Err(Failure::world(format!("in the image `{}` files of a repository cannot be put in place", place.image))
                .hint("move the repository to a folder that is neither below `/tmp` nor below `/run`"));
        }
    }
    Ok(sandbox)
}

/// Returns a command of Composer in the project's folder.
fn program(rule: &ComposerRule, arguments: &[&str]) -> Program {
    let always = ["--no-interaction", "--no-ansi"];
    let argv: Vec<&str> = std::iter::once("composer").chain(arguments.iter().copied()).chain(always).collect();
    let env = BTreeMap::from(
        [
            ("COMPOSER_ALLOW_SUPERUSER", "1"),
            ("COMPOSER_CACHE_DIR", "/dev/null"),
            ("COMPOSER_FUND", "0"),
            ("COMPOSER_HOME", "/parvis/home"),
            ("COMPOSER_MEMORY_LIMIT", "-1"),
            ("COMPOSER_NO_AUDIT", "1"),
            ("HOME", "/tmp"),
            ("LC_ALL", "C.UTF-8"),
            // Plugins start other programs by their names.
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            // The image's own folder of further settings, then the offer's.
            ("PHP_INI_SCAN_DIR", ":/parvis/php"),
            ("TZ", "UTC0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    Program { env: super::room::environment(&env), cwd: rule.to.clone(), timeout: TIME, ..Program::new(&argv) }
}

/// Runs Composer, and returns how it ended and what it said. The last lines are those that tell why it failed.
fn call(sandbox: &mut Sandbox, program: &Program) -> Result<(Outcome, Vec<u8>), Failure> {
    let mut said = Vec::new();
    let mut hear = |_: Stream, bytes: &[u8]| {
        said.extend_from_slice(bytes);
        let excess = said.len().saturating_sub(said::MOST);
        said.drain(..excess);
    };
    let outcome = sandbox.run(program, &mut hear).map_err(from_sandbox)?;
    let last_lines = said::telling(&said);
    Ok((Outcome { last_lines, ..outcome }, said))
}

/// Runs a command of Composer that must succeed.
fn run(image: &ImageName, rule: &ComposerRule, sandbox: &mut Sandbox, arguments: &[&str]) -> Result<(), Failure> {
    let (outcome, _) = call(sandbox, &program(rule, arguments))?;
    if outcome.is_success() {
        return Ok(());
    }
    let missing = missing(sandbox)?;
    let failure = failed(image, rule, arguments, &outcome);
    Err(match missing.first() {
        Some(address) => {
            let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            let address = crate::model::address::without_user(address);
            Failure::project(format!("{}\nit asked for `{address}`{more}, which is not locked", failure.message())).hint(
                "`parvis lock` finds distributions, `extra.downloads` and `extra.patches`; what a plugin fetches otherwise cannot be built without network",
            )
        }
        None => failure.hint("the lines above are Composer's own; it ran without network and without anything of this machine"),
    })
}

fn failed(image: &ImageName, rule: &ComposerRule, arguments: &[&str], outcome: &Outcome) -> Failure {
    let what = format!("recipes/{image}.yaml, line {}: `composer {}` {}", rule.line, arguments.join(" "), words(outcome));
    Failure::world(what)
}

/// Returns the addresses that were asked for and are not offered, each once.
fn missing(sandbox: &mut Sandbox) -> Result<Vec<String>, Failure> {
    let file = path(format!("{FOLDER}/missing").as_bytes())?;
    let bytes = sandbox.read(&file, 16 << 20).map_err(from_sandbox)?.unwrap_or_default();
    let lines: BTreeSet<&str> = std::str::from_utf8(&bytes).unwrap_or_default().lines().filter(|line| !line.is_empty()).collect();
    Ok(lines.into_iter().map(str::to_owned).collect())
}

/// Asks the platform whether it has what the packages require.
///
/// The question is Composer's own, put to the PHP of the platform: where that image has no Composer, the program of the other
/// image is laid over it, without any of its PHP.
fn check_platform(
    site: &Site<'_>,
    image: &ImageName,
    rule: &ComposerRule,
    places: &Places<'_>,
    project: &std::path::Path,
) -> Result<(), Failure> {
    let Places { with, platform } = places;
    let offer = new_offer(site, &home(&[]))?;
    let mut above = vec![offer.root().to_owned(), project.to_owned()];
    if rule.with != rule.platform {
        above.push(site.store.kept_farm(&composer_itself(with.tree), &[]).map_err(from_store)?);
    }
    let mut sandbox = open(site, platform, &above)?;
    let mut answer = Vec::new();
    let arguments = ["check-platform-reqs", "--no-dev", "--lock", "--no-plugins", "--format=json"];
    let outcome = sandbox
        .run(&program(rule, &arguments), &mut |stream, bytes| {
            // An honest answer has some kilobytes.
            if stream == Stream::Output && answer.len() < 4 << 20 {
                answer.extend_from_slice(bytes);
            }
        })
        .map_err(from_sandbox)?;
    sandbox.finish().map_err(from_sandbox)?;
    let unmet = requirements::unmet(&answer).filter(|unmet| outcome.is_success() || !unmet.is_empty());
    let Some(unmet) = unmet else {
        let failure = failed(image, rule, &arguments, &outcome);
        return Err(Failure::world(format!("{}\nit ran in the image `{}`", failure.message(), rule.platform))
            .hint("the platform must be able to run `php` as a command, with the extensions that Composer itself needs"));
    };
    if unmet.is_empty() {
        return Ok(());
    }
    Err(Failure::no(format!("the packages of `{image}` cannot run in the image `{}`: {}", rule.platform, unmet.join("; ")))
        .hint(format!("choose other versions of them, or give the recipe `{}` what is missing", rule.platform)))
}

/// Returns the part of an image that is Composer, with the folders above it.
fn composer_itself(tree: &Tree) -> Tree {
    let mut part = Tree::new();
    for root in PROGRAM {
        let Ok(root) = TreePath::parse(root) else { continue };
        for (path, entry) in tree.within(&root) {
            for above in std::iter::successors(path.parent(), TreePath::parent).take_while(|above| !above.is_root()) {
                if part.get(above.as_bytes()).is_none() {
                    part.put(above, Entry::directory(0o755, Origin::Parvis));
                }
            }
            part.put(path.clone(), entry.clone());
        }
    }
    part
}

/// Returns the project as the installation left it, with declared modes, and each file under the name of its package.
fn take(
    site: &Site<'_>,
    recipe: &Recipe,
    rule: &ComposerRule,
    sandbox: &mut Sandbox,
    mut project: Tree,
    definition: &Definition,
) -> Result<Tree, Failure> {
    let mut refused = None;
    let mut keep = |content: &mut dyn std::io::Read, _: u16| {
        site.store.put_file(content, rule.mode).map_err(|error| {
            let told = std::io::Error::other(error.to_string());
            refused = Some(from_store(error));
            told
        })
    };
    let changes = sandbox.changes(&mut keep).map_err(from_sandbox);
    for change in refused.map_or(changes, Err)? {
        if !change.path().is_within(&rule.to) {
            continue;
        }
        if let Change::Put(at, entry) = change {
            let mode = match entry.kind {
                Kind::Directory => rule.directory_mode,
                Kind::File { .. } => rule.mode,
                Kind::Symlink { .. } => 0o777,
            };
            let origin = Origin::Recipe { image: recipe.name.clone(), line: rule.line };
            let mut kind = entry.kind;
            if let Kind::File { shared, .. } = &mut kind {
                *shared = false;
            }
            // Dates would tell the day of the build; attributes nobody declared.
            project.put(at, Entry { kind, mode, mtime: 0, xattrs: BTreeMap::new(), origin, ..entry });
        } else {
            project.remove(change.path());
        }
    }
    let packages = installed(site, rule, &project, definition)?;
    let owned: Vec<(TreePath, ComposerName)> =
        project.iter().filter_map(|(path, _)| Some((path.clone(), owner_of(path, &packages)?.clone()))).collect();
    for (path, name) in owned {
        if let Some(mut entry) = project.get(path.as_bytes()).cloned() {
            entry.origin = Origin::Composer(name);
            project.put(path, entry);
        }
    }
    edits::exclude(&mut project, &rule.to, &rule.exclude);
    Ok(project)
}

/// Returns where each package was installed, as Composer itself writes it down.
fn installed(
    site: &Site<'_>,
    rule: &ComposerRule,
    project: &Tree,
    definition: &Definition,
) -> Result<BTreeMap<TreePath, ComposerName>, Failure> {
    let folder = below(rule, &[definition.vendor.as_bytes(), b"/composer"].concat())?;
    let file = folder.join(b"installed.json").map_err(|error| Failure::project(error.to_string()))?;
    let bytes = super::read_path(site, project, file.as_bytes())?.unwrap_or_default();
    let list: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut places = BTreeMap::new();
    for package in list["packages"].as_array().into_iter().flatten() {
        let (Some(name), Some(at)) = (package["name"].as_str(), package["install-path"].as_str()) else { continue };
        let (Ok(name), Some(at)) = (name.parse(), walk(&folder, at)) else { continue };
        if at.is_within(&rule.to) && at != rule.to {
            places.insert(at, name);
        }
    }
    Ok(places)
}

/// Follows a relative path from a folder, by its letters.
fn walk(folder: &TreePath, relative: &str) -> Option<TreePath> {
    let mut at = folder.clone();
    for part in relative.split('/') {
        at = match part {
            "" | "." => at,
            ".." => at.parent()?,
            name => at.join(name.as_bytes()).ok()?,
        };
    }
    Some(at)
}

fn owner_of<'a>(path: &TreePath, packages: &'a BTreeMap<TreePath, ComposerName>) -> Option<&'a ComposerName> {
    std::iter::successors(Some(path.clone()), TreePath::parent).find_map(|above| packages.get(&above))
}

/// A place that documents of repositories come from: content by address, nothing where the server has no such document.
pub type Documents<'a> = &'a mut dyn FnMut(&[String]) -> Result<Vec<Option<Vec<u8>>>, Failure>;

/// What a project's packages are chosen from.
pub struct Choice<'a> {
    pub recipe: &'a Recipe,
    pub rule: &'a ComposerRule,
    /// Addresses of repositories, and folders of the project with their content, most wanted first.
    pub repositories: &'a [Shelf],
    /// Packages that move, where not all are chosen anew.
    pub update: &'a [String],
}

/// A repository to choose from.
pub enum Shelf {
    Address(String),
    /// Every document of a repository that is a folder, by its path there.
    Folder(BTreeMap<TreePath, Vec<u8>>),
}

/// Lets Composer choose the packages of a project, and returns composer.lock.
///
/// Composer says which documents of the repositories it wants; they are fetched, and it is asked again until it wants no more. So
/// what it decides is what it would decide with a network.
pub fn choose(site: &Site<'_>, plan: &Plan, choice: &Choice<'_>, documents: Documents<'_>) -> Result<Vec<u8>, Failure> {
    let Choice { recipe, rule, .. } = choice;
    let gone = || Failure::bug(format!("the image `{}` was not made", rule.with));
    let tree = super::finished(site, plan, &rule.with)?.ok_or_else(gone)?;
    let folders = super::trees::lower(site, plan, &rule.with, &BTreeMap::new(), &tree)?;
    let place = Place { image: &rule.with, folders, tree: &tree };
    let mut repositories = Vec::new();
    for (number, shelf) in choice.repositories.iter().enumerate() {
        let url = match shelf {
            Shelf::Address(url) => machine::disguised(url),
            Shelf::Folder(_) => format!("file:///{FOLDER}/repositories/{number}"),
        };
        repositories.push((format!("parvis-{number}"), url));
    }
    let offer = new_offer(site, &home(&repositories))?;
    for (number, shelf) in choice.repositories.iter().enumerate() {
        let Shelf::Folder(files) = shelf else { continue };
        for (at, content) in files {
            let at = path(format!("{FOLDER}/repositories/{number}").as_bytes())?.join(at.as_bytes());
            let at = at.map_err(|error| Failure::project(error.to_string()))?;
            offer.write(&at, content).map_err(from_offer)?;
        }
    }
    let list_at = path(format!("{FOLDER}/offer").as_bytes())?;
    let missing_at = path(format!("{FOLDER}/missing").as_bytes())?;
    offer.write(&list_at, b"").map_err(from_offer)?;
    let project = project_tree(site, recipe, rule)?;
    let farm = site.store.kept_farm(&project, &[]).map_err(from_store)?;
    let mut sandbox = open(site, &place, &[offer.root().to_owned(), farm])?;
    let mut arguments = vec!["update", "--no-install", "--no-scripts", "--no-plugins", "--no-audit", "--no-progress"];
    if !choice.update.is_empty() {
        arguments.push("--with-all-dependencies");
        arguments.push("--");
        arguments.extend(choice.update.iter().map(String::as_str));
    }
    let task = site.screen.work(&format!("{}: composer", recipe.name), None, Unit::Items);
    let mut list: BTreeMap<String, String> = BTreeMap::new();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        task.detail("choose");
        let (outcome, said) = call(&mut sandbox, &update_program(rule, &arguments))?;
        let wanted: Vec<String> = missing(&mut sandbox)?.into_iter().filter(|address| !list.contains_key(address)).collect();
        if wanted.is_empty() {
            if !outcome.is_success() {
                return Err(not_chosen(choice, &arguments, &outcome, &said::refusals(&said)));
            }
            let at = below(rule, COMPOSER_LOCK.as_bytes())?;
            let made = sandbox.read(&at, crate::composer::LARGEST).map_err(from_sandbox)?;
            sandbox.finish().map_err(from_sandbox)?;
            let made = made.map(machine::unveiled_document);
            return made.ok_or_else(|| Failure::world(format!("Composer made no `{COMPOSER_LOCK}`")));
        }
        if list.len() + wanted.len() > MOST_DOCUMENTS {
            return Err(Failure::world(format!("Composer asks the repositories for more than {MOST_DOCUMENTS} documents")));
        }
        for (address, content) in wanted.iter().zip(documents(&wanted)?) {
            let name = match content {
                Some(content) => {
                    bytes += content.len();
                    if bytes > MOST_BYTES {
                        return Err(Failure::world(format!("the repositories send more than {MOST_BYTES} bytes")));
                    }
                    let digest = DownloadDigest::of(&content);
                    sandbox.write(&file_at(&digest)?, &content, 0o644, 0, 0).map_err(from_sandbox)?;
                    digest.hex()
                }
                None => "-".to_owned(),
            };
            list.insert(address.clone(), name);
        }
        sandbox.write(&list_at, render(&list).as_bytes(), 0o644, 0, 0).map_err(from_sandbox)?;
        sandbox.write(&missing_at, b"", 0o644, 0, 0).map_err(from_sandbox)?;
    }
    Err(Failure::world(format!("Composer still asks for documents of the repositories after {ROUNDS} rounds")))
}

/// Says why Composer chose nothing: what the project asks for by name and no repository has, or else in its own words.
fn not_chosen(choice: &Choice<'_>, arguments: &[&str], outcome: &Outcome, refusals: &[said::Refusal]) -> Failure {
    let Choice { recipe, rule, .. } = choice;
    if refusals.is_empty() {
        return failed(&recipe.name, rule, arguments, outcome)
            .hint("the lines above are Composer's own; the repositories are those of the profile in `parvis.yaml`");
    }
    let file = format!("images/{}/{}/{COMPOSER_JSON}", recipe.name, String::from_utf8_lossy(rule.project.as_bytes()));
    let lines: Vec<String> = refusals.iter().map(|refusal| format!("\n  {refusal}")).collect();
    Failure::project(format!("`{file}` asks for what no repository has:{}", lines.concat())).hint(format!(
        "ask in `{file}` for a version that is there, or name a repository that has it under `composer:` of the profile in `parvis.yaml`"
    ))
}

/// Returns `composer update` with names after `--`, which must come last.
fn update_program(rule: &ComposerRule, arguments: &[&str]) -> Program {
    let end = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let mut program = program(rule, &arguments[..end]);
    program.argv.extend(arguments[end..].iter().map(|argument| argument.as_bytes().to_vec()));
    program
}

fn from_offer(error: OfferError) -> Failure {
    Failure::world(error.to_string()).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_belongs_to_the_package_that_is_installed_nearest_above_it() {
        let folder = at("app/vendor/composer");
        assert_eq!(walk(&folder, "../acme/a"), Some(at("app/vendor/acme/a")));
        assert_eq!(walk(&folder, "../../web/core"), Some(at("app/web/core")));
        assert_eq!(walk(&folder, "../../../../../etc"), None);
        let name = |text: &str| text.parse::<ComposerName>().unwrap();
        let packages = BTreeMap::from([(at("app/web"), name("acme/web")), (at("app/web/core"), name("acme/core"))]);
        assert_eq!(owner_of(&at("app/web/core/x.php"), &packages), Some(&name("acme/core")));
        assert_eq!(owner_of(&at("app/web/x.php"), &packages), Some(&name("acme/web")));
        assert_eq!(owner_of(&at("app/webb"), &packages), None);
    }

    #[test]
    fn only_composer_itself_is_laid_over_a_platform() {
        let file = || Entry::file(crate::model::digest::FileDigest::of(b""), 0, 0o755, 0, Origin::Parvis);
        let tree: Tree = ["usr/bin/composer", "usr/bin/php", "usr/lib/php/intl.so", "usr/share/php/Composer/autoload.php"]
            .into_iter()
            .map(|path| (at(path), file()))
            .collect();
        let part = composer_itself(&tree);
        let files: Vec<String> =
            part.iter().filter(|(_, entry)| !entry.is_directory()).map(|(path, _)| path.to_string()).collect();
        assert_eq!(files, ["/usr/bin/composer", "/usr/share/php/Composer/autoload.php"]);
        assert!(part.get(b"usr/share").is_some_and(Entry::is_directory));
    }
}
