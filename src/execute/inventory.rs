//! What an image consists of, gathered from the lock, its tree, and the packages as they stand in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use sha1::{Digest as _, Sha1};

use super::unpack::{self, Unpacked};
use super::{Site, finished, from_store, from_unpack, read_path};
use crate::debian::control::Paragraph;
use crate::debian::copyright::{self, Declared};
use crate::failure::Failure;
use crate::image::oci::Platform;
use crate::image::sbom::{self, Component, Debian, Inventory, OwnFile, Role, Subject, Supplier};
use crate::model::address::Address;
use crate::model::digest::{FileDigest, hex};
use crate::model::licence::{self, LicenceTexts};
use crate::model::lock::LockedPackage;
use crate::model::lock::composer::{DownloadKind, LockedComposer, LockedDownload, ROOT};
use crate::model::name::{ComposerName, ImageName};
use crate::model::recipe::Recipe;
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath};
use crate::plan::steps::Plan;

/// Where packages keep what is to be read about them.
const DOC: &str = "usr/share/doc";

/// Symbolic links that are followed from one copyright file to the next.
const MOST_LINKS: usize = 8;

/// What the site does not know of an image.
pub struct About<'a> {
    /// The version of parvis.
    pub tool: &'a str,
    /// Returns the repository of an image.
    pub repository: &'a dyn Fn(&ImageName) -> String,
}

/// Where an entry came from, that was copied from the tree of another image.
pub(super) type Copied = BTreeMap<TreePath, (Origin, String)>;

impl Site<'_> {
    /// Returns the packages of an image and of those it stands on that the store has not unpacked.
    pub fn not_unpacked<'b>(&'b self, plan: &Plan, image: &ImageName) -> Result<Vec<&'b LockedPackage>, Failure> {
        let mut missing = Vec::new();
        for package in self.catalog.lineage(image).into_iter().flat_map(|recipe| self.packages(plan, &recipe.name)) {
            if !unpack::is_unpacked(self.store, package).map_err(from_unpack)? {
                missing.push(package);
            }
        }
        Ok(missing)
    }

    /// Unpacks packages that are at hand.
    pub fn unpack(&self, packages: &[&LockedPackage]) -> Result<(), Failure> {
        unpack::all(self, packages).map(drop)
    }

    /// Returns what a built image consists of; nothing where it, or one that it stands on, is not built.
    ///
    /// All its packages must be unpacked.
    pub fn inventory(&self, plan: &Plan, image: &ImageName, about: &About<'_>) -> Result<Option<Inventory>, Failure> {
        let lineage = self.catalog.lineage(image);
        let mut subjects = Vec::new();
        for recipe in lineage.iter().rev() {
            let Some(subject) = self.subject(plan, recipe, about)? else { return Ok(None) };
            subjects.push(subject);
        }
        let Some(tree) = finished(self, plan, image)? else { return Ok(None) };
        let copied = self.copied(plan, image, &tree)?;
        let mut gathering =
            Gathering { site: self, debian: Release::of(self, &tree)?, components: BTreeMap::new(), texts: LicenceTexts::new() };
        let mut packages: Vec<(&LockedPackage, String)> = Vec::new();
        for recipe in &lineage {
            let repository = (about.repository)(&recipe.name);
            packages.extend(self.packages(plan, &recipe.name).into_iter().map(|package| (package, repository.clone())));
        }
        gathering.debian_packages(&packages)?;
        gathering.copied_packages(plan, &copied);
        gathering.composer_packages(plan, &lineage, &tree, &copied, about);
        let files = self.own_files(&tree, &copied)?;
        let Gathering { components, texts, .. } = gathering;
        let mut subjects = subjects.into_iter();
        let own = subjects.next().ok_or_else(|| Failure::bug(format!("the catalog lacks `{image}`")))?;
        Ok(Some(Inventory {
            tool: about.tool.to_owned(),
            created: self.lock.image(image, &plan.platform).map_or(self.lock.epoch, |locked| self.lock.date(locked)),
            image: own,
            ancestors: subjects.collect(),
            components,
            files,
            texts,
        }))
    }

    fn subject(&self, plan: &Plan, recipe: &Recipe, about: &About<'_>) -> Result<Option<Subject>, Failure> {
        let Some(image) = plan.images.iter().find(|image| image.name == recipe.name) else { return Ok(None) };
        let record = self.image(&image.image_step().key)?;
        Ok(record.map(|record| Subject {
            repository: (about.repository)(&recipe.name),
            digest: record.manifest,
            platform: Platform::of(&plan.platform),
            description: recipe.description.clone(),
        }))
    }

    /// Returns who put what was copied from other images there, in those images.
    pub(super) fn copied(&self, plan: &Plan, image: &ImageName, tree: &Tree) -> Result<Copied, Failure> {
        let mut copied = Copied::new();
        for recipe in self.catalog.lineage(image) {
            for rule in &recipe.copies {
                let Some(sibling) = finished(self, plan, &rule.from)? else { continue };
                let earlier = self.copied(plan, &rule.from, &sibling)?;
                let how = format!("copied from the image {}, by recipes/{}.yaml, line {}", rule.from, recipe.name, rule.line);
                for (path, entry) in sibling.within(&rule.path) {
                    let below = path.as_bytes().get(rule.path.as_bytes().len()..).unwrap_or_default();
                    let Ok(target) = rule.to.join(below) else { continue };
                    let by = Origin::Recipe { image: recipe.name.clone(), line: rule.line };
                    if tree.get(target.as_bytes()).is_some_and(|found| found.kind == entry.kind && found.origin == by) {
                        let origin = earlier.get(path).map_or(&entry.origin, |(origin, _)| origin).clone();
                        copied.insert(target, (origin, how.clone()));
                    }
                }
            }
        }
        Ok(copied)
    }

    /// Returns the regular files that belong to no package.
    fn own_files(&self, tree: &Tree, copied: &Copied) -> Result<Vec<OwnFile>, Failure> {
        let mut files = Vec::new();
        for (path, entry) in tree.iter() {
            let Kind::File { digest, .. } = entry.kind else { continue };
            let (origin, how) = match copied.get(path) {
                Some((origin, how)) => (origin, Some(how.clone())),
                None => (&entry.origin, None),
            };
            if matches!(origin, Origin::Package(_) | Origin::Composer(_)) {
                continue;
            }
            let sha1 = self.sha1(path, &digest, entry)?;
            files.push(OwnFile { path: path.clone(), sha256: digest, sha1, origin: origin.clone(), copied: how });
        }
        Ok(files)
    }

    fn sha1(&self, path: &TreePath, digest: &FileDigest, entry: &Entry) -> Result<String, Failure> {
        let mut file = self.store.open_file(digest, entry.mode).map_err(from_store)?;
        let mut hasher = Sha1::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let read = file.read(&mut buffer);
            let read = read.map_err(|error| Failure::world(format!("cannot read `{path}` from the store")).because(error))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// What the image says of the distribution that its packages are from.
pub(super) struct Release {
    vendor: String,
    distro: Option<String>,
}

impl Release {
    pub(super) fn of(site: &Site<'_>, tree: &Tree) -> Result<Self, Failure> {
        let text = read_path(site, tree, b"usr/lib/os-release")?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let value = |key: &str| -> Option<String> {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            let value = line.trim().trim_matches(['"', '\'']);
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
            (!value.is_empty() && value.len() <= 64 && value.bytes().all(plain)).then(|| value.to_owned())
        };
        let vendor = value("ID").unwrap_or_else(|| "debian".to_owned());
        let distro = value("VERSION_ID").map(|version| format!("{vendor}-{version}"));
        Ok(Self { vendor, distro })
    }

    pub(super) fn debian(&self) -> Debian<'_> {
        Debian { vendor: &self.vendor, distro: self.distro.as_deref() }
    }
}

/// An inventory in the making.
struct Gathering<'a> {
    site: &'a Site<'a>,
    debian: Release,
    components: BTreeMap<String, Component>,
    texts: LicenceTexts,
}

impl Gathering<'_> {
    fn add(&mut self, component: Component) {
        self.components.insert(component.id.clone(), component);
    }

    /// Adds packages, each with the repository of the image that brought it in, and their sources.
    fn debian_packages(&mut self, packages: &[(&LockedPackage, String)]) -> Result<(), Failure> {
        // One package at a time is in memory; of each, only its folder of documentation is kept.
        let mut docs = Tree::new();
        let mut said = Vec::with_capacity(packages.len());
        for (locked, _) in packages {
            let unpacked = unpack::recall(self.site.store, locked).map_err(from_unpack)?;
            let unpacked = unpacked.ok_or_else(|| {
                Failure::world(format!("the store has no `{}` any more", locked.name)).hint("run `parvis build`, then this again")
            })?;
            keep_docs(&unpacked, &mut docs);
            said.push(Said::of(&unpacked));
        }
        let ids: BTreeSet<String> = packages.iter().map(|(locked, _)| sbom::id(&["deb", locked.name.as_str()])).collect();
        let mut read: BTreeMap<FileDigest, Option<Declared>> = BTreeMap::new();
        for ((locked, brought_by), said) in packages.iter().zip(said) {
            let source = self.source(locked);
            let id = sbom::id(&["deb", locked.name.as_str()]);
            let mut component = Component::new(id, Role::Package, locked.name.to_string(), brought_by);
            match copyright_of(locked, &docs) {
                None => component.licence_note = Some("the package has no copyright file".to_owned()),
                Some((path, digest, entry)) => {
                    let declared = match read.entry(digest) {
                        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                        std::collections::btree_map::Entry::Vacant(new) => new.insert(self.read_copyright(&digest, &entry)?),
                    };
                    if let Some(declared) = declared {
                        component.licence = Some(declared.licence.clone());
                        component.licence_note = Some(format!("from {path} (sha256:{})", digest.hex()));
                        self.texts.extend(declared.texts.clone());
                    } else {
                        component.licence_note = Some(format!(
                            "{path} (sha256:{}) is not in the format that machines read, or not soundly",
                            digest.hex()
                        ));
                    }
                }
            }
            let needs = locked.depends.iter().map(|name| sbom::id(&["deb", name.as_str()]));
            self.add(Component {
                version: Some(locked.version.clone()),
                purl: self.debian.debian().purl(locked.name.as_str(), &locked.version, locked.architecture.as_str()),
                summary: said.summary,
                supplier: said.supplier,
                homepage: said.homepage,
                sha256: Some(locked.sha256.hex()),
                file: Some(locked.file.clone()),
                source: Some(source),
                needs: needs.filter(|id| ids.contains(id)).collect(),
                note: Some(format!("from the suite {}", locked.suite)),
                ..component
            });
        }
        Ok(())
    }

    /// Adds the source of a package and returns its id.
    fn source(&mut self, locked: &LockedPackage) -> String {
        let version = locked.source_version.as_ref().unwrap_or(&locked.version);
        let id = sbom::id(&["src", locked.source.as_str(), version]);
        let component = Component::new(id.clone(), Role::Source, locked.source.to_string(), "");
        self.add(Component {
            version: Some(version.clone()),
            purl: self.debian.debian().purl(locked.source.as_str(), version, "source"),
            ..component
        });
        id
    }

    fn read_copyright(&self, digest: &FileDigest, entry: &Entry) -> Result<Option<Declared>, Failure> {
        let file = self.site.store.open_file(digest, entry.mode).map_err(from_store)?;
        let mut content = Vec::new();
        file.take(copyright::LIMIT + 1)
            .read_to_end(&mut content)
            .map_err(|error| Failure::world("cannot read a copyright file from the store").because(error))?;
        Ok(if content.len() as u64 > copyright::LIMIT { None } else { copyright::declared(&content) })
    }

    /// Adds packages of which only files were copied from another image.
    fn copied_packages(&mut self, plan: &Plan, copied: &Copied) {
        for (origin, how) in copied.values() {
            let Origin::Package(name) = origin else { continue };
            let Some(locked) = self.site.lock.package(name, &plan.platform) else { continue };
            let id = sbom::id(&["deb", name.as_str()]);
            if self.components.contains_key(&id) {
                continue;
            }
            let source = self.source(locked);
            let component = Component::new(id, Role::Package, name.to_string(), "");
            self.add(Component {
                version: Some(locked.version.clone()),
                purl: self.debian.debian().purl(name.as_str(), &locked.version, locked.architecture.as_str()),
                sha256: Some(locked.sha256.hex()),
                file: Some(locked.file.clone()),
                source: Some(source),
                note: Some(format!("not installed: only some of its files, {how}")),
                ..component
            });
        }
    }

    /// Adds what Composer installed of the projects of these images, and of those that they copy from.
    fn composer_packages(&mut self, plan: &Plan, lineage: &[&Recipe], tree: &Tree, copied: &Copied, about: &About<'_>) {
        let own = tree.iter().map(|(_, entry)| &entry.origin);
        let origins = own.chain(copied.values().map(|(origin, _)| origin));
        let present: BTreeSet<&ComposerName> = origins
            .filter_map(|origin| match origin {
                Origin::Composer(name) => Some(name),
                _ => None,
            })
            .collect();
        let mut images: Vec<&ImageName> = lineage.iter().map(|recipe| &recipe.name).collect();
        let mut next = 0;
        while let Some(image) = images.get(next).copied() {
            let lineage = self.site.catalog.lineage(image);
            let more = lineage
                .iter()
                .flat_map(|recipe| std::iter::once(&recipe.name).chain(recipe.copies.iter().map(|rule| &rule.from)));
            for name in more {
                if !images.contains(&name) && plan.images.iter().any(|known| known.name == *name) {
                    images.push(name);
                }
            }
            next += 1;
        }
        for project in self.site.lock.composer.iter().filter(|project| images.contains(&&project.image)) {
            let repository = (about.repository)(&project.image);
            for download in &project.downloads {
                let belongs = |name: &ComposerName| name.as_str() == download.package;
                let of_project = download.package == ROOT || !download.package.contains('/');
                if of_project || present.iter().any(|name| belongs(name)) {
                    self.download(project, download, &repository);
                }
            }
        }
    }

    fn download(&mut self, project: &LockedComposer, download: &LockedDownload, repository: &str) {
        let LockedDownload { kind, package, title, version, reference, url, sha256, licence, .. } = download;
        let of = sbom::id(&["composer", package]);
        let digest = sha256.hex();
        let (id, role, name) = match kind {
            DownloadKind::Dist => (of.clone(), Role::Composer, package.clone()),
            DownloadKind::Download => (
                sbom::id(&["download", package, &digest[..16]]),
                Role::Composer,
                title.clone().unwrap_or_else(|| package.clone()),
            ),
            DownloadKind::Patch => {
                (sbom::id(&["patch", package, &digest[..16]]), Role::Patch, title.clone().unwrap_or_else(|| download.name()))
            }
        };
        let address = match Address::parse(url) {
            Ok(Address::Network(address)) => Some(address),
            _ => None,
        };
        let purl = match (kind, package.split_once('/'), &address) {
            (DownloadKind::Dist, Some((vendor, name)), _) => sbom::purl("composer", Some(vendor), name, version.as_deref(), &[]),
            (DownloadKind::Download, _, Some(address)) => {
                let checksum = format!("sha256:{digest}");
                sbom::purl("generic", None, &name, version.as_deref(), &[("checksum", &checksum), ("download_url", address)])
            }
            _ => None,
        };
        let place = format!("of the Composer project images/{}/{}", project.image, project.project);
        let note = match (kind, reference) {
            (DownloadKind::Dist, Some(reference)) => format!("{place}; source reference {reference}"),
            (DownloadKind::Dist, None) => place,
            (DownloadKind::Download, _) => format!("put into {package}, {place}"),
            (DownloadKind::Patch, _) => format!("applied to {package}, {place}"),
        };
        let needs = if role == Role::Patch { BTreeSet::from([of]) } else { BTreeSet::new() };
        let declared = licence::choice(licence, "composer", &mut self.texts);
        let needs = needs.into_iter().filter(|id| self.components.contains_key(id)).collect();
        let component = Component::new(id, role, name, repository);
        self.add(Component {
            version: version.clone(),
            purl,
            licence: declared,
            licence_note: (!licence.is_empty()).then(|| "as composer.lock says".to_owned()),
            sha256: Some(digest),
            file: address.is_none().then(|| url.clone()),
            url: address,
            needs,
            note: Some(note),
            ..component
        });
    }
}

/// What a package says of itself.
#[derive(Default)]
struct Said {
    supplier: Option<Supplier>,
    homepage: Option<String>,
    summary: Option<String>,
}

impl Said {
    fn of(package: &Unpacked) -> Self {
        // It was read when the package was unpacked.
        let Ok(control) = Paragraph::only(package.control.control.as_bytes()) else { return Self::default() };
        let first_line = |field: &str| control.get(field).and_then(|value| value.lines().next()).map(str::to_owned);
        let is_address = |text: &String| {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'{' | b'}'));
            plain && (text.starts_with("https://") || text.starts_with("http://"))
        };
        Self {
            supplier: first_line("Maintainer").map(|field| Supplier::parse(&field)),
            homepage: first_line("Homepage").filter(is_address),
            summary: first_line("Description"),
        }
    }
}

/// Keeps what leads to copyright files: they are read from the packages, because recipes may remove them from images.
fn keep_docs(package: &Unpacked, docs: &mut Tree) {
    let depth = DOC.split('/').count();
    for (path, entry) in package.tree.iter() {
        let parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        let in_docs = path.as_bytes().strip_prefix(DOC.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
        let link = parts.len() == depth + 1 && matches!(entry.kind, Kind::Symlink { .. });
        let copyright = parts.len() == depth + 2 && parts.last().is_some_and(|name| *name == b"copyright");
        if in_docs && (link || copyright) {
            docs.put(path.clone(), entry.clone());
        }
    }
}

/// Finds a package's copyright file, which may be another package's.
fn copyright_of(package: &LockedPackage, docs: &Tree) -> Option<(TreePath, FileDigest, Entry)> {
    let mut path = TreePath::parse(format!("{DOC}/{}/copyright", package.name).as_bytes()).ok()?;
    for _ in 0..MOST_LINKS {
        if let Some(entry) = docs.get(path.as_bytes()) {
            match &entry.kind {
                Kind::File { digest, .. } => return Some((path, *digest, entry.clone())),
                Kind::Symlink { target } => path = follow(&path, target)?,
                Kind::Directory => return None,
            }
        } else {
            let folder = path.parent()?;
            let Some(Kind::Symlink { target }) = docs.get(folder.as_bytes()).map(|entry| &entry.kind) else { return None };
            path = follow(&folder, target)?.join(path.file_name()).ok()?;
        }
    }
    None
}

/// Returns where a link at a path leads.
fn follow(link: &TreePath, target: &[u8]) -> Option<TreePath> {
    let mut parts: Vec<&[u8]> = match target.first() {
        Some(b'/') => Vec::new(),
        _ => link.as_bytes().split(|byte| *byte == b'/').collect(),
    };
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    TreePath::parse(&parts.join(&b'/')).ok()
}
