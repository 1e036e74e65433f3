//! What is written out of sight until it is whole. A writer that is killed leaves a file without a name, which is gone with it, or a draft
//! that nobody holds any more, which the next writer in that folder removes.
//!
//! ```text
//! FOLDER/.parvis-draft-XXXXXX     a folder that is being filled; a file, where the file system has none without a name
//! ```
//!
//! Who works on a draft holds a lock on it (`flock(2)`), which ends with the process however that ends. What cannot be locked stays.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, linkat};
use rustix::io::Errno;
use tempfile::{Builder, TempDir, TempPath};

/// How the name of every draft begins.
pub const PREFIX: &str = ".parvis-draft-";

/// A file that is being written. Dropping it leaves nothing; only its owner can read it before it appears.
#[derive(Debug)]
pub struct DraftFile {
    file: File,
    /// Its name, where the file system knows no file without one.
    name: Option<TempPath>,
}

impl DraftFile {
    /// Starts a file that will stand in a folder, from which dead drafts are removed.
    pub fn begin(folder: &Path) -> io::Result<Self> {
        sweep(folder, PREFIX);
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(handle) => {
                // It is held for the moment in which a second name takes the place of an older file.
                let _ = flock(&handle, FlockOperation::NonBlockingLockExclusive);
                Ok(Self { file: handle.into(), name: None })
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => Self::named(folder),
            Err(error) => Err(error.into()),
        }
    }

    fn named(folder: &Path) -> io::Result<Self> {
        loop {
            let (file, name) = Builder::new().prefix(PREFIX).tempfile_in(folder)?.into_parts();
            if is_held(&file, &name) {
                return Ok(Self { file, name: Some(name) });
            }
        }
    }

    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Returns a path under which this process can read the file again.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.name.as_ref().map_or_else(|| own(&self.file), |name| name.to_path_buf())
    }

    /// Lets the file appear under its name, in place of what stands there.
    pub fn appear(mut self, path: &Path) -> io::Result<()> {
        if let Some(name) = self.name.take() {
            return name.persist(path).map_err(|error| error.error);
        }
        match self.link(path) {
            // A link cannot replace; a second name can be moved over the old file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let folder = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let second = Builder::new().prefix(PREFIX).make_in(folder, |name| self.link(name))?;
                second.into_temp_path().persist(path).map_err(|error| error.error)
            }
            other => other,
        }
    }

    /// Lets the file appear under its name, where nothing may stand.
    pub fn appear_first(mut self, path: &Path) -> io::Result<()> {
        match self.name.take() {
            Some(name) => name.persist_noclobber(path).map_err(|error| error.error),
            None => self.link(path),
        }
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        Ok(linkat(CWD, own(&self.file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

/// A folder that is being filled. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct DraftFolder {
    folder: TempDir,
    /// The folder itself, locked as long as it is a draft.
    held: File,
}

impl DraftFolder {
    /// Makes a folder in another one, from which dead drafts are removed.
    pub fn begin(parent: &Path) -> io::Result<Self> {
        Self::make(PREFIX, Some(parent))
    }

    /// Makes a folder where the system keeps what is temporary, with a name that begins so.
    pub fn temporary(prefix: &str) -> io::Result<Self> {
        Self::make(prefix, None)
    }

    fn make(prefix: &str, parent: Option<&Path>) -> io::Result<Self> {
        loop {
            let mut builder = Builder::new();
            builder.prefix(prefix);
            let folder = parent.map_or_else(|| builder.tempdir(), |parent| builder.tempdir_in(parent))?;
            let held = File::open(folder.path())?;
            if is_held(&held, folder.path()) {
                sweep(folder.path().parent().unwrap_or(Path::new(".")), prefix);
                return Ok(Self { folder, held });
            }
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the folder to another name with a function that does it; from then on it is no draft any more.
    pub fn appear<E>(self, rename: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        rename(self.folder.path())?;
        let Self { folder, held } = self;
        // Nothing stands under the draft's name any more.
        let _ = folder.keep();
        drop(held);
        Ok(())
    }
}

/// Locks a draft that was just made. Between the two, another process may have taken it for a dead one and removed it.
fn is_held(file: &File, path: &Path) -> bool {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => false,
        // A file system without locks: nobody can sweep there either.
        Err(_) => true,
        Ok(()) => {
            let inode = |about: io::Result<fs::Metadata>| about.ok().map(|about| about.ino());
            inode(fs::symlink_metadata(path)).is_some_and(|there| inode(file.metadata()) == Some(there))
        }
    }
}

/// Removes what killed writers have left in a folder: drafts that nobody holds.
fn sweep(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let path = entry.path();
        // A link is not followed, and a pipe not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(handle) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
        if flock(&handle, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What belongs to another user stays. The lock lasts until the draft is gone, so whoever was just making it sees that.
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// Returns the path by which this process reaches a file that it has open.
fn own(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn dead_drafts_go_and_those_that_somebody_works_on_stay() {
        let place = tempfile::tempdir().unwrap();
        let dead = [place.path().join(format!("{PREFIX}file")), place.path().join(format!("{PREFIX}folder"))];
        fs::write(&dead[0], "half").unwrap();
        fs::create_dir_all(dead[1].join("inner")).unwrap();
        fs::write(dead[1].join("inner/images.tar"), "half").unwrap();
        let others = [".parvis-demo.json", "parvis-draft-mine", "site.tar"];
        for name in others {
            fs::write(place.path().join(name), "").unwrap();
        }
        let (file, folder) = (DraftFile::named(place.path()).unwrap(), DraftFolder::begin(place.path()).unwrap());
        let unnamed = DraftFile::begin(place.path()).unwrap();
        assert!(dead.iter().all(|path| !path.exists()));
        drop(DraftFolder::begin(place.path()).unwrap());
        assert!(file.path().exists() && folder.path().exists(), "somebody works on these");
        drop((file, folder, unnamed));
        assert_eq!(names(place.path()), others);
    }

    #[test]
    fn a_link_of_a_drafts_name_leads_nowhere_and_a_pipe_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&kept, place.path().join(format!("{PREFIX}link"))).unwrap();
        rustix::fs::mknodat(CWD, place.path().join(format!("{PREFIX}pipe")), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        drop(DraftFile::begin(place.path()).unwrap());
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_file_appears_whole_also_in_place_of_another() {
        for begin in [DraftFile::begin, DraftFile::named] {
            let place = tempfile::tempdir().unwrap();
            let target = place.path().join("target");
            for text in ["one", "two"] {
                let mut draft = begin(place.path()).unwrap();
                draft.file_mut().write_all(text.as_bytes()).unwrap();
                assert_eq!(fs::read(draft.path()).unwrap(), text.as_bytes());
                draft.appear(&target).unwrap();
                assert_eq!(fs::read(&target).unwrap(), text.as_bytes());
            }
            assert!(begin(place.path()).unwrap().appear_first(&target).is_err());
            assert_eq!(names(place.path()), ["target"]);
        }
    }
}
