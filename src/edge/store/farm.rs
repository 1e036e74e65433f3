//! A tree made real: folders and hard links to stored files, and a list of what links cannot carry.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::draft::fixed_date;
use super::{Item, Store, StoreError, explain, plain, regular_size, stored_mode};
use crate::model::digest::{FileDigest, Hasher, TreeDigest};
use crate::model::tree::{Entry, Kind, Tree, TreePath, Xattrs};

/// The mode of every folder in a farm until the fix-ups are applied.
const FOLDER_MODE: u16 = 0o755;

/// Folders and hard links in parallel: more threads wait for the same journal.
const THREADS: usize = 2;

/// What a farm lacks: owner, mode or attributes that hard links to shared files cannot carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixup {
    pub path: TreePath,
    pub uid: u32,
    pub gid: u32,
    /// All 12 bits, as the tree has them. Not to be applied to a symbolic link.
    pub mode: u16,
    pub xattrs: Xattrs,
}

/// A farm that was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Farm {
    /// In the order of the paths. To be applied through an overlay: the files are the store's.
    pub fixups: Vec<Fixup>,
}

/// Something that stands in a folder and is none.
struct Leaf<'a> {
    folder: TreePath,
    path: &'a TreePath,
    entry: &'a Entry,
}

impl Store {
    /// Makes a tree real in an empty folder, which is created where it is absent: folders (0755), symbolic links, and hard
    /// links to the store's files, all owned by the caller and dated by the store. Parents that the tree lacks are made.
    ///
    /// Files are copied where they cannot be linked: on another file system, or beyond its limit of links.
    ///
    /// # Errors
    /// [`StoreError::Missing`] names content that the store does not have in its full size.
    pub fn farm(&self, tree: &Tree, into: &Path) -> Result<Farm, StoreError> {
        match std::fs::create_dir(into) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => return Err(plain("make", into, source)),
            _ => {}
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(into, flags, Mode::empty()).map_err(|error| plain("open", into, error.into()))?;
        // A caller's umask must not show: it would be the mode of `/` in the sandbox, where not only root goes in.
        rustix::fs::fchmod(&root, Mode::from_raw_mode(FOLDER_MODE.into()))
            .map_err(|error| plain("set the mode of", into, error.into()))?;
        let fail = |path: &TreePath, error: Errno| match error {
            Errno::EXIST | Errno::NOTDIR => StoreError::Tree { path: path.to_string() },
            error => explain(into, "write", &into.join(os(path)), 0, error.into()),
        };
        // No link exists before all folders do, and none can take a folder's place: nothing leads out of the farm.
        for (path, entry) in tree.iter() {
            if entry.is_directory() {
                make_folder(&root, path).map_err(|error| fail(path, error))?;
            }
        }
        let mut leaves: Vec<Leaf<'_>> = tree
            .iter()
            .filter(|(_, entry)| !entry.is_directory())
            .map(|(path, entry)| Leaf { folder: path.parent().unwrap_or_else(TreePath::root), path, entry })
            .collect();
        leaves.sort_by(|left, right| left.folder.cmp(&right.folder));
        let share = leaves.len().div_ceil(THREADS).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                leaves.chunks(share).map(|leaves| scope.spawn(|| self.make_leaves(&root, leaves, &fail))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        Ok(Farm { fixups: tree.iter().filter_map(|(path, entry)| fixup(path, entry)).collect() })
    }

    /// Returns the folder of a farm that stays in the store: made once, laid under the overlays of any number of sandboxes.
    ///
    /// Each of `hidden` becomes a whiteout as overlayfs knows it, a device 0:0: it hides what lower layers have there.
    /// Farms stay because removing one costs more than making it: the file system writes a journal entry per link.
    pub fn kept_farm(&self, tree: &Tree, hidden: &[TreePath]) -> Result<PathBuf, StoreError> {
        let mut hasher = Hasher::new();
        hasher.update(tree.to_text().as_bytes());
        for path in hidden {
            hasher.update(format!("hidden {path}\n").as_bytes());
        }
        let key: TreeDigest = hasher.finish();
        let place = self.root().join("farms").join(key.hex());
        if place.is_dir() {
            return Ok(place);
        }
        let draft = self.root().join(format!("tmp/{:016x}-farm-{}", self.tag, self.serial.fetch_add(1, Ordering::Relaxed)));
        self.farm(tree, &draft)?;
        for path in hidden {
            Self::hide(&draft, path)?;
        }
        match std::fs::rename(&draft, &place) {
            // Another build was quicker.
            Err(_) if place.is_dir() => std::fs::remove_dir_all(&draft).map_err(|source| plain("remove", &draft, source))?,
            other => other.map_err(|source| self.explain("write", &place, 0, source))?,
        }
        Ok(place)
    }

    fn hide(farm: &Path, path: &TreePath) -> Result<(), StoreError> {
        let fail = |error: Errno| plain("write", &farm.join(os(path)), error.into());
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(farm, flags, Mode::empty()).map_err(fail)?;
        let folder = open_folder(&root, &path.parent().unwrap_or_else(TreePath::root)).map_err(fail)?;
        // Anybody may make this one device (Linux 5.8).
        rustix::fs::mknodat(&folder, path.file_name(), FileType::CharacterDevice, Mode::empty(), 0).map_err(fail)
    }

    /// Removes all farms; they are made again when they are needed.
    pub fn remove_farms(&mut self) -> Result<(), StoreError> {
        self.lock.try_lock().map_err(|_| StoreError::InUse { root: self.root().into() })?;
        let farms = self.root().join("farms");
        for entry in std::fs::read_dir(&farms).map_err(|source| plain("read", &farms, source))? {
            let path = entry.map_err(|source| plain("read", &farms, source))?.path();
            std::fs::remove_dir_all(&path).map_err(|source| plain("remove", &path, source))?;
        }
        Ok(())
    }

    fn make_leaves(
        &self,
        root: &OwnedFd,
        leaves: &[Leaf<'_>],
        fail: &(impl Fn(&TreePath, Errno) -> StoreError + Sync),
    ) -> Result<(), StoreError> {
        for leaves in leaves.chunk_by(|left, right| left.folder == right.folder) {
            let Some(Leaf { folder: path, .. }) = leaves.first() else { continue };
            let folder = open_folder(root, path).map_err(|error| fail(path, error))?;
            for leaf in leaves {
                let name = leaf.path.file_name();
                match &leaf.entry.kind {
                    Kind::Directory => {}
                    Kind::Symlink { target } => {
                        rustix::fs::symlinkat(&**target, &folder, name).map_err(|error| fail(leaf.path, error))?;
                    }
                    Kind::File { digest, size, .. } => {
                        self.link_file(digest, *size, leaf.entry.mode, &folder, name, |error| fail(leaf.path, error))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn link_file(
        &self,
        digest: &FileDigest,
        size: u64,
        mode: u16,
        folder: &OwnedFd,
        name: &[u8],
        fail: impl Fn(Errno) -> StoreError,
    ) -> Result<(), StoreError> {
        if size == 0 {
            // One shared empty file would soon have more links than a file system allows.
            return new_file(folder, name, mode).map(drop).map_err(fail);
        }
        let item = Item::file(*digest, mode);
        let path = item.path();
        // Below `files/`: one folder less to walk through, twelve thousand times.
        let below = path.strip_prefix("files").unwrap_or(&path);
        if regular_size(&self.files, below) != Some(size) {
            return Err(StoreError::Missing { path: self.root().join(&path) });
        }
        match rustix::fs::linkat(&self.files, below, folder, name, AtFlags::empty()) {
            Err(Errno::MLINK | Errno::XDEV) => {
                let mut content = self.open_file(digest, mode)?;
                let mut copy = new_file(folder, name, mode).map_err(&fail)?;
                std::io::copy(&mut content, &mut copy).map_err(|source| self.explain("write", &path, size, source))?;
                rustix::fs::futimens(&copy, &fixed_date()).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }
}

/// Makes a folder and the parents it lacks.
fn make_folder(root: &OwnedFd, path: &TreePath) -> Result<(), Errno> {
    if path.is_root() {
        return Ok(());
    }
    match rustix::fs::mkdirat(root, path.as_bytes(), Mode::from_raw_mode(FOLDER_MODE.into())) {
        Ok(()) => {
            // A caller's umask must not show.
            rustix::fs::chmodat(root, path.as_bytes(), Mode::from_raw_mode(FOLDER_MODE.into()), AtFlags::empty())
        }
        // As the parent of an earlier one, or on a second run into the same folder, which the files will refuse.
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            make_folder(root, &path.parent().ok_or(Errno::NOENT)?)?;
            make_folder(root, path)
        }
        Err(error) => Err(error),
    }
}

/// Opens a folder of the farm, making it where only something in it has an entry.
fn open_folder(root: &OwnedFd, path: &TreePath) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_root() {
        return rustix::fs::openat(root, ".", flags, Mode::empty());
    }
    match rustix::fs::openat(root, path.as_bytes(), flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            make_folder(root, path)?;
            rustix::fs::openat(root, path.as_bytes(), flags, Mode::empty())
        }
        other => other,
    }
}

fn new_file(folder: &OwnedFd, name: &[u8], mode: u16) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder.as_fd(), name, flags, Mode::from_raw_mode(0o600))?);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(stored_mode(mode).into()))?;
    rustix::fs::futimens(&file, &fixed_date())?;
    Ok(file)
}

fn fixup(path: &TreePath, entry: &Entry) -> Option<Fixup> {
    let made = match entry.kind {
        Kind::Directory => FOLDER_MODE,
        Kind::File { .. } => stored_mode(entry.mode),
        Kind::Symlink { .. } => entry.mode,
    };
    let Entry { mode, uid, gid, xattrs, .. } = entry;
    let carried = *mode == made && *uid == 0 && *gid == 0 && xattrs.is_empty();
    (!carried).then(|| Fixup { path: path.clone(), uid: *uid, gid: *gid, mode: *mode, xattrs: xattrs.clone() })
}

fn os(path: &TreePath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(path.as_bytes()).into()
}
