//! A package on its way from its .deb into the store: contents by digest, everything else as one record.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::{Site, from_unpack};
use crate::debian::changelog;
use crate::debian::database::{self, DatabaseError, InstalledPath, Md5};
use crate::debian::package::{
    Conffile, ControlFiles, ControlMember, DataEntry, DataKind, Limits, PackageError, PackageVisitor, TriggerLine, read_package,
};
use crate::edge::store::{Store, StoreError};
use crate::failure::Failure;
use crate::model::digest::DownloadDigest;
use crate::model::lock::LockedPackage;
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath, Xattrs};
use crate::screen::Unit;

/// The kind of record, with the number of its format.
pub const RECORD: &str = "package-1";

/// A package that could not be taken into the store.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("the package `{package}` is refused")]
    Package {
        package: String,
        #[source]
        source: PackageError,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the package `{package}` cannot be entered into the package database")]
    Database {
        package: String,
        #[source]
        source: DatabaseError,
    },
    #[error("the record of the package `{package}` in the store is not one")]
    Record { package: String },
}

/// An unpacked package: what the database and the scripts need, and its files as a tree.
#[derive(Debug, Clone)]
pub struct Unpacked {
    pub locked: LockedPackage,
    /// Its control files; scripts and templates without their bytes, which are among the files.
    pub control: ControlFiles,
    /// What the database says of it before any script has run.
    pub status: database::Record,
    /// Its files and its part of the dpkg database, contents in the store.
    pub tree: Tree,
    /// The newest date among its files: the date of what its scripts make.
    pub date: i64,
}

/// What is written down of a package.
#[derive(Serialize, Deserialize)]
struct Written {
    control: String,
    members: Vec<(String, u16)>,
    conffiles: Vec<(String, bool)>,
    triggers: Vec<(bool, bool, String)>,
    status: String,
    tree: String,
}

/// Returns whether the store has a package already.
pub fn is_unpacked(store: &Store, package: &LockedPackage) -> Result<bool, UnpackError> {
    Ok(store.has_record(RECORD, &package.sha256.hex())?)
}

/// Reads a package back from the store; `None` where it was not unpacked yet.
pub fn recall(store: &Store, package: &LockedPackage) -> Result<Option<Unpacked>, UnpackError> {
    let Some(bytes) = store.record(RECORD, &package.sha256.hex())? else { return Ok(None) };
    let invalid = || UnpackError::Record { package: package.name.to_string() };
    let written: Written = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let tree = Tree::from_text(&written.tree).map_err(|_| invalid())?;
    let status = database::Record::from_text(&written.status).map_err(|_| invalid())?;
    let conffile = |(path, remove_on_upgrade): (String, bool)| {
        Some(Conffile { path: TreePath::parse(path.as_bytes()).ok()?, remove_on_upgrade })
    };
    let control = ControlFiles {
        control: written.control,
        members: written.members.into_iter().map(|(name, mode)| (name, ControlMember { mode, bytes: Vec::new() })).collect(),
        conffiles: written.conffiles.into_iter().map(conffile).collect::<Option<_>>().ok_or_else(invalid)?,
        triggers: written.triggers.into_iter().map(|(interest, awaits, name)| TriggerLine { interest, awaits, name }).collect(),
    };
    let date = date(&tree);
    Ok(Some(Unpacked { locked: package.clone(), control, status, tree, date }))
}

/// Returns the tree that a record holds.
pub fn tree_text(record: &[u8]) -> Option<String> {
    serde_json::from_slice::<Written>(record).ok().map(|written| written.tree)
}

/// Unpacks a downloaded package into the store. Its digest is checked while it is read.
pub fn unpack(store: &Store, package: &LockedPackage) -> Result<Unpacked, UnpackError> {
    let refused = |source| UnpackError::Package { package: format!("{} {}", package.name, package.version), source };
    let invalid = || UnpackError::Record { package: package.name.to_string() };
    let deb = store.open_download(&package.sha256)?;
    let mut files = Files {
        store,
        origin: Origin::Package(package.name.clone()),
        control: ControlFiles::default(),
        tree: Tree::new(),
        installed: Vec::new(),
    };
    let mut control = read_package(deb, package, &Limits::default(), &mut files).map_err(refused)?;
    let Files { mut tree, installed, origin, .. } = files;
    let status = database::Record::of_package(&control, &installed)
        .map_err(|source| UnpackError::Database { package: package.name.to_string(), source })?;
    let date = date(&tree);
    for (path, mode, bytes) in database::info_files(&package.name, &control, &installed) {
        let digest = store.put_file_bytes(&bytes, mode)?;
        tree.put(path, Entry::file(digest, bytes.len() as u64, mode, date, origin.clone()));
    }
    // A package states the folders of its files, but not those of the database.
    for folder in ["var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info"] {
        let folder = TreePath::parse(folder.as_bytes()).map_err(|_| invalid())?;
        if tree.get(folder.as_bytes()).is_none() {
            tree.put(folder, Entry::directory(0o755, Origin::Parvis));
        }
    }
    for member in control.members.values_mut() {
        member.bytes = Vec::new();
    }
    let written = Written {
        control: control.control.clone(),
        members: control.members.iter().map(|(name, member)| (name.clone(), member.mode)).collect(),
        conffiles: control
            .conffiles
            .iter()
            .map(|file| (String::from_utf8_lossy(file.path.as_bytes()).into_owned(), file.remove_on_upgrade))
            .collect(),
        triggers: control.triggers.iter().map(|line| (line.interest, line.awaits, line.name.clone())).collect(),
        status: status.to_text(),
        tree: tree.to_text(),
    };
    store.kept_farm(&tree, &[])?;
    let bytes = serde_json::to_vec(&written).map_err(|_| invalid())?;
    store.put_record(RECORD, &package.sha256.hex(), &bytes)?;
    Ok(Unpacked { locked: package.clone(), control, status, tree, date })
}

/// Reads the changelog of a package that is at hand, unpacked or as it was downloaded; `None` where it is not.
pub fn changelog(store: &Store, package: &LockedPackage) -> Result<Option<changelog::Found>, UnpackError> {
    let refused = |source| UnpackError::Package { package: format!("{} {}", package.name, package.version), source };
    if let Some(unpacked) = recall(store, package)? {
        let folder = format!("usr/share/doc/{}", package.name);
        if let Some(Entry { kind: Kind::Symlink { target }, .. }) = unpacked.tree.get(folder.as_bytes()) {
            return Ok(Some(changelog::linked(target).map_or(changelog::Found::Nothing, changelog::Found::With)));
        }
        let mut packed = Vec::new();
        for path in changelog::paths(package) {
            let Some(Entry { kind: Kind::File { digest, size, .. }, mode, .. }) = unpacked.tree.get(path.as_bytes()) else {
                packed.push(None);
                continue;
            };
            let mut bytes = Vec::new();
            if *size <= changelog::PACKED_LIMIT && store.has_file(digest, *mode, *size) {
                let read = store.open_file(digest, *mode)?.read_to_end(&mut bytes);
                read.map_err(|error| refused(PackageError::Read(error)))?;
            }
            packed.push(Some(bytes));
        }
        if packed.iter().flatten().any(|bytes| !bytes.is_empty()) {
            let found = changelog::together(&packed);
            return Ok(Some(found.map_or(changelog::Found::Nothing, changelog::Found::Here)));
        }
    }
    if !store.has_download(&package.sha256, package.size) {
        return Ok(None);
    }
    changelog::of_package(store.open_download(&package.sha256)?, package).map(Some).map_err(refused)
}

/// Takes packages from the store, unpacking those that were not yet, several at a time.
pub fn all(site: &Site<'_>, wanted: &[&LockedPackage]) -> Result<BTreeMap<DownloadDigest, Unpacked>, Failure> {
    let mut order = wanted.to_vec();
    // The largest first, so that no thread is left with a long one at the end.
    order.sort_by_key(|package| std::cmp::Reverse(package.size));
    let fresh =
        order.iter().map(|package| Ok(if is_unpacked(site.store, package)? { 0 } else { package.size })).sum::<Result<u64, _>>();
    let fresh = fresh.map_err(from_unpack)?;
    let task = (fresh > 0).then(|| site.screen.work("unpack", Some(fresh), Unit::Bytes));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut own = Vec::new();
        while let Some(package) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let unpacked = if let Some(unpacked) = recall(site.store, package)? {
                unpacked
            } else {
                let unpacked = unpack(site.store, package)?;
                if let Some(task) = &task {
                    task.detail(package.name.as_str());
                    task.advance(package.size);
                }
                unpacked
            };
            own.push((package.sha256, unpacked));
        }
        Ok(own)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..site.threads.min(order.len())).map(|_| scope.spawn(work)).collect();
        let mut packages = BTreeMap::new();
        for thread in threads {
            let own = thread.join().map_err(|_| Failure::bug("a thread that unpacks panicked"))?;
            packages.extend(own.map_err(from_unpack)?);
        }
        Ok(packages)
    })
}

fn date(tree: &Tree) -> i64 {
    tree.iter().map(|(_, entry)| entry.mtime).max().unwrap_or(0)
}

/// Takes a package's files into the store.
struct Files<'a> {
    store: &'a Store,
    origin: Origin,
    control: ControlFiles,
    tree: Tree,
    /// What the database has to know of each entry, in the order of the package.
    installed: Vec<InstalledPath>,
}

impl PackageVisitor for Files<'_> {
    fn control(&mut self, control: &ControlFiles) -> io::Result<()> {
        self.control = control.clone();
        Ok(())
    }

    fn entry(&mut self, path: TreePath, data: DataEntry, content: &mut dyn Read) -> io::Result<()> {
        let mut md5 = None;
        let kind = match data.kind {
            DataKind::Directory => Kind::Directory,
            DataKind::Symlink { target } => Kind::Symlink { target },
            DataKind::File { .. } => {
                let needs_md5 = database::needs_md5(&self.control, &data.shipped);
                let mut summed = Summed { content, sum: needs_md5.then(Md5::default) };
                let (digest, size) = self.store.put_file(&mut summed, data.mode).map_err(io::Error::other)?;
                md5 = summed.sum.map(Md5::finish);
                Kind::File { digest, size, shared: false }
            }
            DataKind::HardLink { target } => self.share(&target)?,
        };
        let is_directory = kind == Kind::Directory;
        let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { data.mode };
        let mtime = if is_directory { 0 } else { data.mtime };
        let entry = Entry { kind, mode, uid: data.uid, gid: data.gid, mtime, xattrs: Xattrs::new(), origin: self.origin.clone() };
        self.installed.push(InstalledPath { path: data.shipped, md5 });
        self.tree.put(path, entry);
        Ok(())
    }
}

impl Files<'_> {
    /// Marks the first name of a file as shared and returns what the second name is.
    fn share(&mut self, target: &TreePath) -> io::Result<Kind> {
        let mut first =
            self.tree.get(target.as_bytes()).cloned().ok_or_else(|| io::Error::other(format!("no `{target}` to link to")))?;
        let Kind::File { shared, .. } = &mut first.kind else {
            return Err(io::Error::other(format!("`{target}` is no file to link to")));
        };
        *shared = true;
        let kind = first.kind.clone();
        self.tree.put(target.clone(), first);
        Ok(kind)
    }
}

/// Passes a file's content on, and sums it where the database asks for that.
struct Summed<'a> {
    content: &'a mut dyn Read,
    sum: Option<Md5>,
}

impl Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&buffer[..count]);
        }
        Ok(count)
    }
}
