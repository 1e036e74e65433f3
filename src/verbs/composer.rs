//! What verbs have to do with Composer projects: what they are made of, what of it is locked, what has to be fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use sha1::{Digest as _, Sha1};

use super::Context;
use super::workplace::Workplace;
use crate::composer::definition::{COMPOSER_JSON, Definition};
use crate::composer::locked::{self, COMPOSER_LOCK, Package};
use crate::composer::login::{COMPOSER_AUTH, Logins};
use crate::composer::wanted::{self, Wanted};
use crate::composer::{JsonError, LARGEST, machine};
use crate::edge::fetch::{Cause, Download, FetchError, Fetched, Fetcher};
use crate::edge::project::{SourceKind, StatCache};
use crate::edge::store::Store;
use crate::execute::composer::{Choice, Shelf, choose};
use crate::execute::from_store;
use crate::failure::Failure;
use crate::model::address::Address;
use crate::model::digest::DownloadDigest;
use crate::model::lock::Lock;
use crate::model::lock::composer::{LockedComposer, LockedDownload};
use crate::model::name::{ComposerName, ImageName};
use crate::model::project::Repository;
use crate::model::recipe::{ComposerRule, Recipe};
use crate::model::tree::TreePath;
use crate::plan::composing::{self, ProjectDifference, ProjectFiles};

/// Bytes of one archive or patch at most.
const ARCHIVE_LIMIT: u64 = 1 << 30;

/// Bytes of one file of the project that an installation takes, at most.
const OWN_LIMIT: u64 = 256 << 20;

/// Bytes of one document of a repository at most; the largest public ones have some megabytes.
const DOCUMENT_LIMIT: u64 = 64 << 20;

/// A Composer project of a recipe.
#[derive(Clone, Copy)]
pub struct Project<'a> {
    pub recipe: &'a Recipe,
    pub rule: &'a ComposerRule,
    workplace: &'a Workplace,
}

/// Returns the Composer projects of all recipes.
pub fn projects(workplace: &Workplace) -> Vec<Project<'_>> {
    let recipes = workplace.catalog.iter().map(|member| &member.recipe);
    recipes.filter_map(|recipe| recipe.composer.as_ref().map(|rule| Project { recipe, rule, workplace })).collect()
}

impl<'a> Project<'a> {
    /// Returns the project of a recipe.
    pub const fn of(workplace: &'a Workplace, recipe: &'a Recipe, rule: &'a ComposerRule) -> Self {
        Self { recipe, rule, workplace }
    }

    /// Returns the folder's name below `images/IMAGE/`.
    fn name(&self) -> String {
        String::from_utf8_lossy(self.rule.project.as_bytes()).into_owned()
    }

    /// Returns the folder's name below the project's own.
    pub fn folder(&self) -> String {
        format!("images/{}/{}", self.recipe.name, self.name())
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.workplace.folder.read(&format!("{}/{file}", self.folder()), LARGEST).map_err(Failure::from)
    }

    fn composer_json(&self) -> Result<Vec<u8>, Failure> {
        // It would become part of the image, and of what git keeps.
        if self.workplace.folder.exists(&format!("{}/auth.json", self.folder())).map_err(Failure::from)? {
            return Err(Failure::project(format!(
                "`{}/auth.json` holds passwords, and all of this folder becomes part of the image",
                self.folder()
            ))
            .hint(format!("move its content to the environment variable `{COMPOSER_AUTH}`")));
        }
        self.read(COMPOSER_JSON)?.ok_or_else(|| {
            let place = format!("recipes/{}.yaml, line {}", self.recipe.name, self.rule.line);
            Failure::project(format!("{place}: the folder `{}` holds no `{COMPOSER_JSON}`", self.folder()))
                .hint("write the project's requirements there; `parvis lock` makes composer.lock of it")
        })
    }

    fn wrong(&self, error: &JsonError) -> Failure {
        let failure = Failure::project(format!("in `{}`, {error}", self.folder()));
        if error.what.contains("sources only") {
            return failure.hint("parvis fetches archives: take a release, or a repository that offers archives");
        }
        failure.hint("correct composer.json, or remove composer.lock and run `parvis lock`")
    }

    pub fn definition(&self) -> Result<Definition, Failure> {
        Definition::parse(&self.composer_json()?).map_err(|error| self.wrong(&error))
    }

    pub fn packages(&self) -> Result<BTreeMap<ComposerName, Package>, Failure> {
        let bytes = self.read(COMPOSER_LOCK)?.unwrap_or_default();
        locked::read(&bytes).map_err(|error| self.wrong(&error))
    }

    /// Returns the files that decide what is installed.
    fn files(&self) -> Result<ProjectFiles, Failure> {
        Ok(ProjectFiles {
            image: self.recipe.name.clone(),
            project: self.name(),
            composer_json: DownloadDigest::of(&self.composer_json()?),
            composer_lock: self.read(COMPOSER_LOCK)?.map(|bytes| DownloadDigest::of(&bytes)),
        })
    }

    /// Lists what an installation takes.
    fn wanted(&self) -> Result<Vec<Wanted>, Failure> {
        let definition = self.definition()?;
        let patches = match &definition.patches_file {
            Some(path) => {
                let file = String::from_utf8_lossy(path.as_bytes()).into_owned();
                let bytes = self.read(&file)?;
                Some(bytes.ok_or_else(|| {
                    Failure::project(format!("`{}/{file}` does not exist", self.folder()))
                        .hint("`extra.patches-file` in composer.json names it")
                })?)
            }
            None => None,
        };
        wanted::list(&definition, &self.packages()?, patches.as_deref()).map_err(|error| self.wrong(&error))
    }

    /// Finds a file that a project states as a path: in the project, else in a repository that is a folder.
    fn find(&self, path: &TreePath, repositories: &[Repository]) -> Result<Option<String>, Failure> {
        let below = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let folders = repositories.iter().filter_map(|repository| match repository {
            Repository::Folder(folder) => Some(String::from_utf8_lossy(folder.as_bytes()).into_owned()),
            Repository::Address(_) => None,
        });
        for folder in std::iter::once(self.folder()).chain(folders) {
            let place = format!("{folder}/{below}");
            if self.workplace.folder.exists(&place).map_err(Failure::from)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

/// Refuses a lock that was made for other projects than those there are.
pub fn check(workplace: &Workplace, lock: &Lock) -> Result<Vec<ProjectDifference>, Failure> {
    let files = projects(workplace).iter().map(Project::files).collect::<Result<Vec<_>, _>>()?;
    Ok(composing::drift(lock, &files, workplace.catalog.iter().map(|member| &member.recipe)))
}

/// What `parvis lock` was asked to do with Composer projects.
pub struct Wish<'a> {
    /// Names of Composer packages that move to the newest version.
    pub update: &'a [String],
    /// Nothing is written and nothing is made.
    pub check: bool,
}

/// Locks all Composer projects. `lock` is what was decided of Debian's packages.
pub fn lock(
    workplace: &Workplace,
    context: &Context<'_>,
    store: &Store,
    lock: &Lock,
    previous: &Lock,
    wish: &Wish<'_>,
) -> Result<Vec<LockedComposer>, Failure> {
    let projects = projects(workplace);
    let mut all = Vec::new();
    for project in &projects {
        let exists = project.read(COMPOSER_LOCK)?.is_some();
        // Looked at before anything is built for it.
        project.definition()?;
        if wish.check && !exists {
            return Err(Failure::no(format!("`{}/{COMPOSER_LOCK}` does not exist", project.folder())).hint("run `parvis lock`"));
        }
        if !exists || !wish.update.is_empty() {
            make_lock(project, context, store, lock, wish)?;
        }
        all.push(lock_project(project, context, store, previous, wish)?);
    }
    // Another profile's project is locked by whoever takes that profile, and stays.
    for other in &previous.composer {
        let current =
            all.iter().any(|locked: &LockedComposer| (&locked.image, &locked.project) == (&other.image, &other.project));
        let recipe = projects.iter().any(|project| project.recipe.name == other.image);
        let folder = format!("images/{}/{}/{COMPOSER_JSON}", other.image, other.project);
        if !current && recipe && workplace.folder.exists(&folder).map_err(Failure::from)? {
            all.push(other.clone());
        }
    }
    all.sort_by(|left, right| (&left.image, &left.project).cmp(&(&right.image, &right.project)));
    Ok(all)
}

fn lock_project(
    project: &Project<'_>,
    context: &Context<'_>,
    store: &Store,
    previous: &Lock,
    wish: &Wish<'_>,
) -> Result<LockedComposer, Failure> {
    let wanted = project.wanted()?;
    let before = previous.composer(&project.recipe.name, &project.rule.project);
    let anew = |wanted: &Wanted| wish.update.iter().any(|name| matches(name, &wanted.package));
    let mut locked = composing::kept(before, &wanted, anew);
    let repositories = project.workplace.project.repositories(context.profile.as_deref());
    let logins = logins(context)?;
    let mut downloads: BTreeMap<String, Download> = BTreeMap::new();
    let mut places = Vec::new();
    for (wanted, slot) in wanted.iter().zip(&mut locked).filter(|(_, slot)| slot.is_none()) {
        let download = match &wanted.address {
            // That it would have to be fetched is the answer.
            Address::Network(_) if wish.check => {
                *slot = Some(composing::locked(wanted, DownloadDigest::of(b"not fetched"), 0));
                continue;
            }
            Address::Network(_) => from_network(wanted.name(), wanted.places().map(|url| logins.apply(url)).collect(), None),
            Address::Project(path) => {
                if let Some(place) = project.find(path, repositories)? {
                    let bytes = project.workplace.folder.read(&place, OWN_LIMIT).map_err(Failure::from)?;
                    let bytes = bytes.ok_or_else(|| absent(project, wanted))?;
                    let known = (DownloadDigest::of(&bytes), bytes.len() as u64);
                    from_machine(wanted.name(), &project.workplace.folder.root().join(&place), Some(known))
                } else {
                    let urls = below_repositories(path, repositories, &logins);
                    if urls.is_empty() {
                        return Err(absent(project, wanted));
                    }
                    from_network(wanted.name(), urls, None)
                }
            }
            Address::Machine(path) => {
                allowed(project, path, repositories, &wanted.name())?;
                from_machine(wanted.name(), Path::new(path), None)
            }
        };
        let url = download.urls.concat();
        downloads.entry(url.clone()).or_insert(download);
        places.push((wanted, slot, url));
    }
    let fetched = fetch(context, store, &downloads.values().cloned().collect::<Vec<_>>())?;
    let by_url: BTreeMap<&String, Fetched> = downloads.keys().zip(fetched).collect();
    for (wanted, slot, url) in places {
        let fetched = by_url.get(&url).ok_or_else(|| Failure::bug(format!("`{}` was not fetched", wanted.name())))?;
        check_sha1(store, wanted, fetched)?;
        *slot = Some(composing::locked(wanted, fetched.digest, fetched.size));
    }
    let files = project.files()?;
    Ok(LockedComposer {
        image: files.image,
        project: files.project,
        composer_json: files.composer_json,
        composer_lock: files.composer_lock.ok_or_else(|| Failure::world("composer.lock went away while it was read"))?,
        downloads: locked.into_iter().flatten().collect(),
    })
}

fn absent(project: &Project<'_>, wanted: &Wanted) -> Failure {
    Failure::project(format!("in `{}`, the file `{}` of `{}` does not exist", project.folder(), wanted.url, wanted.package))
        .hint("paths are looked for in the project, then in the folders under `repositories:` of the profile")
}

/// Refuses a file of this machine that is not part of a repository which the profile names.
fn allowed(project: &Project<'_>, path: &str, repositories: &[Repository], name: &str) -> Result<(), Failure> {
    let own = project.workplace.folder.root();
    let within = repositories.iter().any(|repository| match repository {
        Repository::Address(url) => url.strip_prefix("file://").is_some_and(|folder| Path::new(path).starts_with(folder)),
        Repository::Folder(folder) => Path::new(path).starts_with(own.join(String::from_utf8_lossy(folder.as_bytes()).as_ref())),
    });
    if within {
        return Ok(());
    }
    let what =
        format!("in `{}`, `{name}` is at `file://{}`, which belongs to no repository of the profile", project.folder(), path);
    Err(Failure::project(what).hint("name the repository under `composer: {repositories: …}` of the profile in `parvis.yaml`"))
}

fn from_network(name: String, urls: Vec<String>, known: Option<(DownloadDigest, u64)>) -> Download {
    let (digest, size) = known.unzip();
    Download { name, urls, digest, size, limit: ARCHIVE_LIMIT }
}

/// Returns the places of a path that is neither in the project nor in a repository that is a folder of it: below the others.
fn below_repositories(path: &TreePath, repositories: &[Repository], logins: &Logins) -> Vec<String> {
    let addresses = repositories.iter().filter_map(|repository| match repository {
        Repository::Address(url) => Some(url),
        Repository::Folder(_) => None,
    });
    let path = String::from_utf8_lossy(path.as_bytes());
    addresses.map(|url| logins.apply(&format!("{}/{path}", url.trim_end_matches('/')))).collect()
}

/// Returns the names and passwords that the environment has for repositories.
fn logins(context: &Context<'_>) -> Result<Logins, Failure> {
    let Some(text) = &context.composer_auth else { return Ok(Logins::default()) };
    Logins::parse(text).map_err(|error| {
        Failure::project(error.to_string())
            .hint("it is what Composer reads: `{\"http-basic\": {\"HOST\": {\"username\": \"…\", \"password\": \"…\"}}}`")
    })
}

fn from_machine(name: String, path: &Path, known: Option<(DownloadDigest, u64)>) -> Download {
    let (digest, size) = known.unzip();
    Download { name, urls: vec![file_url(path)], digest, size, limit: ARCHIVE_LIMIT }
}

/// Returns the address of a file of this machine (RFC 8089).
fn file_url(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(char::from(*byte)),
            // Writing to a String cannot fail.
            other => {
                let _ = write!(url, "%{other:02X}");
            }
        }
    }
    url
}

fn fetch(context: &Context<'_>, store: &Store, downloads: &[Download]) -> Result<Vec<Fetched>, Failure> {
    let fetcher = Fetcher::new(context.fetch.clone());
    fetcher.fetch(downloads, &store.downloads(), context.screen).map_err(from_fetch)
}

/// Turns what fetching says into what a person reads: no Debian mirror is to blame.
fn from_fetch(error: FetchError) -> Failure {
    let hint = match &error {
        FetchError::Place { cause, .. } => Some(match **cause {
            Cause::Digest { .. } | Cause::Size { .. } => {
                "the server has another file there than the one that was locked: find out why before `parvis lock --update VENDOR/PACKAGE` takes it"
                    .to_owned()
            }
            Cause::Status { code: 404 | 410, .. } => "it has moved or was withdrawn: take another version of the package".to_owned(),
            Cause::Status { code: 401 | 403, .. } => {
                format!("it wants a name and a password: give them in the environment variable `{COMPOSER_AUTH}`, as Composer reads it")
            }
            Cause::Status { .. } => "the server does not give it to everybody, or not now: try again later".to_owned(),
            Cause::TooLarge(_) => "no archive of a package is so large".to_owned(),
            Cause::Tls(_) | Cause::ProxyRefused => error.hint().unwrap_or_default(),
            _ => "check the network and the proxy settings; a second run goes on from here".to_owned(),
        }),
        _ => error.hint(),
    };
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}

fn check_sha1(store: &Store, wanted: &Wanted, fetched: &Fetched) -> Result<(), Failure> {
    let Some(expected) = &wanted.sha1 else { return Ok(()) };
    let unreadable =
        |error: std::io::Error| Failure::world(format!("cannot read `{}` from the store", wanted.name())).because(error);
    let mut file = store.open_download(&fetched.digest).map_err(from_store)?;
    let (mut sum, mut buffer) = (Sha1::new(), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => sum.update(&buffer[..count]),
        }
    }
    let mut found = String::with_capacity(40);
    for byte in sum.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(found, "{byte:02x}");
    }
    if found == *expected {
        return Ok(());
    }
    Err(Failure::no(format!("`{}` has the checksum {found}, and composer.lock says {expected}", wanted.name()))
        .hint("the server has another file there than the one that Composer chose: find out why before you lock it"))
}

/// Returns the downloads of the projects of some images, each once.
pub fn downloads<'a>(
    workplace: &Workplace,
    lock: &'a Lock,
    images: &[ImageName],
) -> Vec<(&'a LockedComposer, &'a LockedDownload)> {
    let mut found = BTreeMap::new();
    for project in projects(workplace).iter().filter(|project| images.contains(&project.recipe.name)) {
        let Some(locked) = lock.composer(&project.recipe.name, &project.rule.project) else { continue };
        found.extend(locked.downloads.iter().map(|download| (download.sha256, (locked, download))));
    }
    found.into_values().collect()
}

/// Fetches what the projects of some images lack in the store.
pub fn fetch_missing(
    workplace: &Workplace,
    context: &Context<'_>,
    store: &Store,
    lock: &Lock,
    images: &[ImageName],
) -> Result<(), Failure> {
    let repositories = workplace.project.repositories(context.profile.as_deref());
    let logins = logins(context)?;
    let lacking = downloads(workplace, lock, images).into_iter();
    let lacking: Vec<_> = lacking.filter(|(_, download)| !store.has_download(&download.sha256, download.size)).collect();
    // The lock names an archive's address; the mirrors of it stand in composer.lock.
    let mut places: BTreeMap<(ImageName, String), Vec<String>> = BTreeMap::new();
    for project in projects(workplace) {
        let image = &project.recipe.name;
        if lacking.iter().any(|(locked, _)| locked.image == *image) {
            let wanted = project.wanted()?.into_iter();
            places
                .extend(wanted.map(|wanted| ((image.clone(), wanted.url.clone()), wanted.places().map(str::to_owned).collect())));
        }
    }
    let mut missing = Vec::new();
    for (locked, download) in lacking {
        let known = Some((download.sha256, download.size));
        let address = Address::parse(&download.url).map_err(|error| Failure::project(error.to_string()).hint(error.hint()))?;
        let project = projects(workplace).into_iter().find(|project| project.recipe.name == locked.image);
        let project = project.ok_or_else(|| Failure::bug(format!("`{}` has no Composer project", locked.image)))?;
        missing.push(match address {
            Address::Network(url) => {
                let places = places.get(&(locked.image.clone(), url.clone())).cloned().unwrap_or_else(|| vec![url.clone()]);
                from_network(download.name(), places.iter().map(|url| logins.apply(url)).collect(), known)
            }
            Address::Project(path) => {
                if let Some(place) = project.find(&path, repositories)? {
                    from_machine(download.name(), &workplace.folder.root().join(place), known)
                } else {
                    let urls = below_repositories(&path, repositories, &logins);
                    if urls.is_empty() {
                        let what = format!("in `{}`, the file `{}` is gone", project.folder(), download.url);
                        return Err(Failure::project(what).hint("run `parvis lock`"));
                    }
                    from_network(download.name(), urls, known)
                }
            }
            Address::Machine(path) => {
                allowed(&project, &path, repositories, &download.name())?;
                from_machine(download.name(), Path::new(&path), known)
            }
        });
    }
    if missing.is_empty() {
        return Ok(());
    }
    fetch(context, store, &missing).map(drop)
}

/// Lets Composer choose, in the image that the recipe names for it, and writes composer.lock.
fn make_lock(project: &Project<'_>, context: &Context<'_>, store: &Store, lock: &Lock, wish: &Wish<'_>) -> Result<(), Failure> {
    let Project { recipe, rule, workplace } = *project;
    let own: BTreeSet<String> = project.packages_if_any()?;
    for name in wish.update {
        let known = own.iter().any(|own| matches(name, own));
        if !known {
            return Err(Failure::project(format!(
                "`{}/{COMPOSER_LOCK}` has no package `{name}`, so it cannot be updated",
                project.folder()
            ))
            .hint("name it as composer.json does, or remove composer.lock to choose all packages anew"));
        }
    }
    let repositories = workplace.project.repositories(context.profile.as_deref());
    let definition = project.definition()?;
    let mut shelves = Vec::new();
    for repository in repositories {
        shelves.push(match repository {
            Repository::Address(url) => Shelf::Address(url.clone()),
            Repository::Folder(folder) => Shelf::Folder(documents_of(workplace, folder)?),
        });
    }
    if shelves.is_empty() && definition.repositories.is_empty() && !definition.requires.is_empty() {
        return Err(Failure::project(format!(
            "`{}/{COMPOSER_LOCK}` does not exist, and no repository is named to choose packages from",
            project.folder()
        ))
        .hint("add `composer: {repositories: [{url: https://…}]}` to the profile in `parvis.yaml`"));
    }
    context.screen.note(&format!("`{}/{COMPOSER_LOCK}` is made by Composer in the image `{}`", project.folder(), rule.with));
    let platform = workplace.platform(context, None)?;
    let names = workplace.select(&[rule.with.to_string()])?;
    let mut sources = workplace.sources(&names, store)?;
    let plan = workplace.plan(&names, lock, &platform, &sources)?;
    workplace.take_sources(&names, store)?;
    workplace.add_project(recipe, rule, store, &mut sources)?;
    let site = workplace.site(context, store, lock, &sources);
    super::build::fetch(context, workplace, &site, &site.all_packages(&plan))?;
    site.make_trees(&plan)?;
    let addresses = repositories.iter().filter_map(|repository| match repository {
        Repository::Address(url) => Address::parse(url).ok(),
        Repository::Folder(_) => None,
    });
    let asked: Vec<Address> = addresses.chain(definition.repositories.iter().cloned()).collect();
    let ask = Ask { fetcher: Fetcher::new(context.fetch.clone()), asked, logins: logins(context)? };
    let mut documents = |urls: &[String]| ask.documents(context, urls);
    let choice = Choice { recipe, rule, repositories: &shelves, update: wish.update };
    let made = choose(&site, &plan, &choice, &mut documents)?;
    locked::read(&made).map_err(|error| project.wrong(&error))?;
    let file = format!("{}/{COMPOSER_LOCK}", project.folder());
    if !wish.check {
        return workplace.folder.replace(&file, &made).map_err(Failure::from);
    }
    if project.read(COMPOSER_LOCK)?.is_some_and(|before| before == made) {
        return Ok(());
    }
    Err(Failure::no(format!("`{file}` is not up to date")).hint("run `parvis lock` with the same options, without `--check`"))
}

/// Whether a package is one of those that a person names; `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(name),
        Some((head, tail)) => name.starts_with(head) && (tail.contains('*') || name.ends_with(tail)),
    }
}

impl Project<'_> {
    fn packages_if_any(&self) -> Result<BTreeSet<String>, Failure> {
        if self.read(COMPOSER_LOCK)?.is_none() {
            return Ok(BTreeSet::new());
        }
        Ok(self.packages()?.into_keys().map(|name| name.to_string()).collect())
    }
}

/// Reads the documents of a repository that is a folder of the project.
fn documents_of(workplace: &Workplace, folder: &TreePath) -> Result<BTreeMap<TreePath, Vec<u8>>, Failure> {
    let shown = String::from_utf8_lossy(folder.as_bytes()).into_owned();
    let listed = workplace.folder.listed(&shown, &mut StatCache::nowhere()).map_err(Failure::from)?;
    let mut documents = BTreeMap::new();
    for file in listed {
        if matches!(file.kind, SourceKind::File { .. }) && file.path.as_bytes().ends_with(b".json") {
            let place = format!("{shown}/{}", String::from_utf8_lossy(file.path.as_bytes()));
            let content = workplace.folder.read(&place, DOCUMENT_LIMIT).map_err(Failure::from)?;
            documents.insert(file.path, content.unwrap_or_default());
        }
    }
    if !documents.contains_key(b"packages.json".as_slice()) {
        return Err(Failure::project(format!("the repository `{shown}` holds no `packages.json`"))
            .hint("`composer: {repositories: …}` of the profile in `parvis.yaml` names it"));
    }
    Ok(documents)
}

/// Fetches documents of repositories that are asked anyway; what a repository says of other hosts is not followed.
struct Ask {
    fetcher: Fetcher,
    asked: Vec<Address>,
    logins: Logins,
}

impl Ask {
    fn documents(&self, context: &Context<'_>, urls: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let folders: Vec<String> = self.asked.iter().filter_map(folder_url).collect();
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        let mut downloads = Vec::with_capacity(urls.len());
        for url in urls {
            let urls = match machine::unveiled(url, &folders) {
                Some(places) => places,
                None => vec![self.place(url)?],
            };
            let name = crate::model::address::without_user(urls.first().unwrap_or(url));
            downloads.push(Download { name, urls, digest: None, size: None, limit: DOCUMENT_LIMIT });
        }
        let mut answers = self.fetcher.documents(&downloads, context.screen).map_err(from_fetch)?;
        for (url, answer) in urls.iter().zip(&mut answers) {
            if url.ends_with("/packages.json") && machine::unveiled(url, &folders).is_some() {
                *answer = answer.take().map(machine::disguised_document);
            }
        }
        Ok(answers)
    }

    /// Returns where a document of the network is fetched from.
    fn place(&self, url: &str) -> Result<String, Failure> {
        let address = Address::parse(url).map_err(|error| Failure::project(error.to_string()).hint(error.hint()))?;
        let known = address.origin().is_some_and(|origin| self.asked.iter().any(|asked| asked.origin() == Some(origin)));
        if known {
            return Ok(self.logins.apply(url));
        }
        let name = crate::model::address::without_user(url);
        let what = format!("Composer asks for `{name}`, which is on the host of no repository that is named");
        Err(Failure::project(what).hint("add the repository to the profile in `parvis.yaml`, if it is one that you trust"))
    }
}

/// Returns the address of a repository that is a folder of this machine.
fn folder_url(address: &Address) -> Option<String> {
    match address {
        Address::Machine(path) => Some(format!("file://{}", path.trim_end_matches('/'))),
        Address::Network(_) | Address::Project(_) => None,
    }
}
