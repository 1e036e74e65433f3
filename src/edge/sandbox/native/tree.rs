//! The tree as a native program may touch it: every path from the root, through no link.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_NOW, fstat, mkdirat, openat, openat2,
    readlinkat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// No file that the native programs read is near this size; a larger one goes to the original.
const READ_LIMIT: usize = 32 << 20;

/// What stands at a path.
pub enum Seen {
    Absent,
    File(Box<Stat>),
    Folder,
    Link(Vec<u8>),
    Other,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp([i128; 7]);

impl Stamp {
    pub fn of(stat: &Stat) -> Self {
        Self([
            i128::from(stat.st_dev),
            i128::from(stat.st_ino),
            i128::from(stat.st_size),
            i128::from(stat.st_mtime),
            i128::from(stat.st_mtime_nsec),
            i128::from(stat.st_ctime),
            i128::from(stat.st_ctime_nsec),
        ])
    }
}

/// Digests of files already read, by their state and by what was masked.
static DIGESTS: Mutex<BTreeMap<(Stamp, &'static str), String>> = Mutex::new(BTreeMap::new());

/// A tree, by its root. All paths are absolute, as the programs inside name them.
pub struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub fn open(root: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(Self { root: openat(CWD, root, flags, Mode::empty()).ok()? })
    }

    fn reach(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, inside(path), flags | OFlags::CLOEXEC, mode, how)
    }

    /// Returns what stands at a path, or nothing when the way there is not plain.
    pub fn look(&self, path: &str) -> Option<Seen> {
        let place = match self.reach(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::NOENT) => return Some(Seen::Absent),
            Err(_) => return None,
        };
        let stat = fstat(&place).ok()?;
        Some(match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => Seen::File(Box::new(stat)),
            rustix::fs::FileType::Directory => Seen::Folder,
            rustix::fs::FileType::Symlink => Seen::Link(readlinkat(&place, "", Vec::new()).ok()?.into_bytes()),
            _ => Seen::Other,
        })
    }

    /// Returns the state of a regular file.
    pub fn file(&self, path: &str) -> Option<Box<Stat>> {
        if let Seen::File(stat) = self.look(path)? { Some(stat) } else { None }
    }

    pub fn is_folder(&self, path: &str) -> Option<bool> {
        Some(matches!(self.look(path)?, Seen::Folder))
    }

    pub fn is_absent(&self, path: &str) -> Option<bool> {
        Some(matches!(self.look(path)?, Seen::Absent))
    }

    /// Says whether a regular file stands at a path; anything else but nothing gives no answer.
    pub fn has_file(&self, path: &str) -> Option<bool> {
        match self.look(path)? {
            Seen::File(_) => Some(true),
            Seen::Absent => Some(false),
            _ => None,
        }
    }

    /// Reads a regular file whole.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.read_with_state(path).map(|(bytes, _)| bytes)
    }

    /// Reads a regular file whole, with its state before.
    pub fn read_with_state(&self, path: &str) -> Option<(Vec<u8>, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(self.reach(path, flags, Mode::empty()).ok()?);
        let stat = fstat(&file).ok()?;
        let size = usize::try_from(stat.st_size).ok().filter(|size| *size <= READ_LIMIT)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::with_capacity(size + 1);
        file.take(READ_LIMIT as u64 + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() == size).then_some((bytes, stat))
    }

    /// Returns the names in a folder in the order in which the kernel gives them: none where there is no folder.
    pub fn names(&self, path: &str) -> Option<Vec<String>> {
        let folder = match self.reach(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Some(Vec::new()),
            Err(_) => return None,
        };
        let mut names = Vec::new();
        for entry in Dir::new(folder).ok()? {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Some(names)
    }

    /// Returns the SHA-256 of a file, in which the rest of a line after `mask` counts for nothing.
    pub fn digest(&self, path: &str, mask: &'static str) -> Option<String> {
        let key = (Stamp::of(&*self.file(path)?), mask);
        let mut known = DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known.get(&key) {
            return Some(digest.clone());
        }
        let (bytes, stat) = self.read_with_state(path)?;
        let digest = masked_digest(&bytes, mask);
        known.insert((Stamp::of(&stat), mask), digest.clone());
        Some(digest)
    }

    /// Says whether a file has an access control list.
    pub fn has_acl(&self, path: &str) -> Option<bool> {
        let file = self.reach(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let mut value = [0_u8; 1];
        match rustix::fs::fgetxattr(&file, "system.posix_acl_access", &mut value[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Some(false),
            _ => Some(true),
        }
    }

    /// Makes a file that was not there, with this mode whatever the process masks.
    pub fn create(&self, path: &str, bytes: &[u8], mode: u32) -> io::Result<File> {
        self.store(path, bytes, mode, OFlags::EXCL)
    }

    /// Writes a file in place, or makes it.
    pub fn overwrite(&self, path: &str, bytes: &[u8], mode: u32) -> io::Result<File> {
        self.store(path, bytes, mode, OFlags::TRUNC)
    }

    fn store(&self, path: &str, bytes: &[u8], mode: u32, how: OFlags) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | how;
        let mut file = File::from(self.reach(path, flags, Mode::from(0o600))?);
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }

    /// Makes an empty file, or gives the one that stands there the time of now, as touch(1) does.
    pub fn touch(&self, path: &str) -> io::Result<()> {
        if matches!(self.look(path), Some(Seen::Absent)) {
            return self.create(path, b"", 0o644).map(drop);
        }
        self.set_times(path, None)
    }

    /// Sets the times of a file: to those given, or to now.
    pub fn set_times(&self, path: &str, times: Option<&Stat>) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = times.map_or(Timestamps { last_access: now, last_modification: now }, timestamps);
        Ok(utimensat(&self.root, inside(path), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a folder and those above it, 0755, as `mkdir -p` does under the usual mask.
    pub fn make_folders(&self, path: &str) -> io::Result<()> {
        if matches!(self.look(path), Some(Seen::Folder)) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            self.make_folders(above)?;
        }
        mkdirat(&self.root, inside(path), Mode::from(0o755))?;
        // What the process masks must not show; a set-group-id bit that the folder above hands down must.
        let folder = self.reach(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mode = fstat(&folder)?.st_mode & 0o7777;
        if mode & 0o777 != 0o755 {
            rustix::fs::fchmod(&folder, Mode::from(mode & 0o7000 | 0o755))?;
        }
        Ok(())
    }

    pub fn link(&self, text: &str, path: &str) -> io::Result<()> {
        Ok(symlinkat(text, &self.root, inside(path))?)
    }

    /// Removes a file or a link; nothing there is as good.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        match unlinkat(&self.root, inside(path), AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.root, inside(from), &self.root, inside(to))?)
    }
}

/// Gives a file the times of another.
pub fn copy_times(file: &File, stat: &Stat) -> io::Result<()> {
    rustix::fs::futimens(file.as_fd(), &timestamps(stat)).map_err(Into::into)
}

fn timestamps(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn inside(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    if path.is_empty() { "." } else { path }
}

fn masked_digest(bytes: &[u8], mask: &str) -> String {
    let mut hasher = Sha256::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        hasher.update(if !mask.is_empty() && line.starts_with(mask.as_bytes()) { mask.as_bytes() } else { line });
    }
    hexadecimal(&hasher.finalize())
}

/// Returns bytes as digits, two for each.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_through_a_link_or_out_of_the_tree() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::fs::write(root.path().join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.path().join("side")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        assert!(matches!(tree.look("/real/file"), Some(Seen::File(_))));
        assert!(matches!(tree.look("/side"), Some(Seen::Link(text)) if text == b"real"));
        assert!(matches!(tree.look("/gone/file"), Some(Seen::Absent)));
        for path in ["/side/file", "/out/passwd", "/../etc/passwd", "/real/file/x"] {
            assert!(tree.look(path).is_none(), "{path}");
            assert!(tree.read(path).is_none(), "{path}");
            assert!(tree.create(path, b"", 0o644).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_made_has_its_mode_whatever_the_process_masks() {
        use std::os::unix::fs::MetadataExt as _;
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.make_folders("/a/b").unwrap();
        tree.create("/a/b/c", b"text", 0o664).unwrap();
        let mode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!([mode("a"), mode("a/b"), mode("a/b/c")], [0o755, 0o755, 0o664]);
        assert!(tree.create("/a/b/c", b"", 0o644).is_err(), "a file that is there is not made again");
    }
}
