//! The folder of a bundle on this machine, what stands beside it, and what the machine has room for.
//!
//! ```text
//! FOLDER/bundle.json compose.yaml README.md …    read, never written
//! FOLDER/.env                                    the user's; lines of parvis's own are changed in it
//! FOLDER/.parvis-demo.json                       what parvis remembers between two commands
//! FOLDER/.parvis-change.json                     as long as a change of version is under way: how far it has got
//! STATE/demo                                     the folder of the bundle that was started last
//! ```

pub mod seal;

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, fsync, openat2, statvfs, unlinkat,
};
use rustix::io::Errno;

use self::seal::Seal;
use super::draft::{DraftFile, DraftFolder};
use crate::bundle::backup::{self, Contents, Member};
use crate::image::archive::ReadAt;
use crate::image::tar::END;
use crate::model::digest::{BlobDigest, FileDigest, Hasher};

/// What parvis remembers in a bundle's folder.
const MEMORY: &str = ".parvis-demo.json";

/// The journal of a change of version, in the folder of the version that it leaves.
const JOURNAL: &str = ".parvis-change.json";

/// The settings in a bundle's folder.
const SETTINGS: &str = ".env";

/// Bytes of a small file at most.
const SMALL: u64 = 4 << 20;

/// A file or folder with which something could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`")]
pub struct PlaceError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    move |source| PlaceError { action, path: path.to_owned(), source }
}

/// The folder of a bundle. Nothing outside it is read through it.
#[derive(Debug)]
pub struct BundleFolder {
    path: PathBuf,
    handle: OwnedFd,
}

impl BundleFolder {
    /// Opens a folder.
    pub fn open(path: &Path) -> Result<Self, PlaceError> {
        // Compose wants a path that does not depend on where it is started.
        let path = fs::canonicalize(path).map_err(failed("open", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed("open", &path)(error.into()))?;
        Ok(Self { path, handle })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file by its name, with its size; `None` where there is none.
    pub fn file(&self, name: &str) -> Result<Option<(u64, File)>, PlaceError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let handle = match openat2(&self.handle, name, flags, Mode::empty(), within) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error.into())),
        };
        let about = fstat(&handle).map_err(|error| failed("read", &path)(error.into()))?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(failed("read", &path)(io::Error::other("it is not a file")));
        }
        Ok(Some((u64::try_from(about.st_size).unwrap_or_default(), File::from(handle))))
    }

    /// Reads a small file; `None` where there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let Some((size, file)) = self.file(name)? else { return Ok(None) };
        let path = self.path.join(name);
        if size > SMALL {
            return Err(failed("read", &path)(io::Error::other(format!("it has {size} bytes; at most {SMALL} are read"))));
        }
        let mut bytes = Vec::new();
        file.take(SMALL).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        Ok(Some(bytes))
    }

    /// Returns the digest of a file; `None` where there is none.
    pub fn digest(&self, name: &str) -> Result<Option<FileDigest>, PlaceError> {
        let Some((_, mut file)) = self.file(name)? else { return Ok(None) };
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = file.read(&mut buffer).map_err(failed("read", &self.path.join(name)))?;
            if count == 0 {
                return Ok(Some(hasher.finish()));
            }
            hasher.update(&buffer[..count]);
        }
    }

    /// Writes the settings whole, with the mode they had.
    pub fn write_settings(&self, text: &str) -> Result<(), PlaceError> {
        let mode = fs::metadata(self.path.join(SETTINGS)).map_or(0o644, |about| about.permissions().mode() & 0o777);
        self.write(SETTINGS, text.as_bytes(), mode)
    }

    /// Returns what parvis remembers of this bundle.
    pub fn memory(&self) -> Result<Option<Vec<u8>>, PlaceError> {
        self.read(MEMORY)
    }

    /// Remembers something of this bundle.
    pub fn remember(&self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.write(MEMORY, bytes, 0o600)
    }

    /// Returns the journal of the change of version that is under way.
    pub fn journal(&self) -> Result<Option<Vec<u8>>, PlaceError> {
        self.read(JOURNAL)
    }

    /// Writes the journal; a power cut does not take it any more.
    pub fn write_journal(&self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.write(JOURNAL, bytes, 0o600)
    }

    /// Removes the journal.
    pub fn remove_journal(&self) -> Result<(), PlaceError> {
        self.remove(JOURNAL).and_then(|()| self.sync())
    }

    /// Removes a file; that it is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("write", &self.path.join(name))(error.into())),
        }
    }

    /// Removes what parvis remembers of this bundle, and the folder where nothing else is left in it.
    pub fn forget(&self) {
        // A folder in which a person keeps something stays.
        let _ = self.remove(MEMORY).and_then(|()| self.remove(JOURNAL));
        let _ = fs::remove_dir(&self.path);
    }

    /// Makes sure that a power cut does not take names back that were given or removed.
    fn sync(&self) -> Result<(), PlaceError> {
        fsync(&self.handle).map_err(|error| failed("write", &self.path)(error.into()))
    }

    /// Waits for nobody: returns `None` where another parvis works on this bundle. The lock ends with the returned value.
    pub fn lock(&self) -> Result<Option<impl Drop + use<>>, PlaceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let failed = |error: Errno| failed("lock", &self.path)(error.into());
        let handle = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(failed)?;
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Held(handle))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), PlaceError> {
        let path = self.path.join(name);
        let mut draft = DraftFile::begin(&self.path).map_err(failed("write", &path))?;
        let whole = |file: &mut File| {
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        whole(draft.file_mut()).map_err(failed("write", &path))?;
        draft.appear(&path).map_err(failed("write", &path))?;
        self.sync()
    }
}

/// A lock that is held.
struct Held(#[expect(dead_code, reason = "the lock is held as long as the file is open")] OwnedFd);

impl Drop for Held {
    fn drop(&mut self) {}
}

/// A file that is read at any place.
#[derive(Debug)]
pub struct Seekable(pub File);

impl ReadAt for Seekable {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

/// Opens a file that somebody named on the command line.
pub fn open_file(path: &Path) -> Result<Seekable, PlaceError> {
    // Without waiting: a pipe would let this hang until somebody writes.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed("open", path))?;
    let about = file.metadata().map_err(failed("open", path))?;
    if about.is_file() { Ok(Seekable(file)) } else { Err(failed("open", path)(io::Error::other("it is not a file"))) }
}

/// Returns the folder that holds what a path names.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts files into a new folder, which appears whole or not at all.
pub fn unpack(folder: &Path, files: Vec<(String, Box<dyn Read + '_>)>) -> Result<(), PlaceError> {
    let draft = DraftFolder::begin(parent(folder)).map_err(failed("write", folder))?;
    for (name, mut content) in files {
        let path = draft.path().join(&name);
        let mut file = File::create_new(&path).map_err(failed("write", &folder.join(&name)))?;
        io::copy(&mut content, &mut file).map_err(failed("write", &folder.join(&name)))?;
    }
    fs::set_permissions(draft.path(), Permissions::from_mode(0o755)).map_err(failed("write", folder))?;
    draft.appear(|draft| fs::rename(draft, folder)).map_err(failed("write", folder))
}

/// A backup that is being written. Nothing of it is seen before [`BackupDraft::finish`].
#[derive(Debug)]
pub struct BackupDraft {
    path: PathBuf,
    draft: DraftFile,
    end: u64,
    date: u64,
}

impl BackupDraft {
    /// Starts a backup that nobody else may read.
    pub fn begin(path: &Path, date: u64) -> Result<Self, PlaceError> {
        Ok(Self { path: path.to_owned(), draft: DraftFile::begin(parent(path)).map_err(failed("write", path))?, end: 0, date })
    }

    /// Adds a member whose size shows only when it has been written.
    ///
    /// # Errors
    /// The writer's own error, or that of the disk.
    pub fn member<E: From<PlaceError>>(
        &mut self,
        file: &str,
        volume: Option<&str>,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), E>,
    ) -> Result<Member, E> {
        let begin = self.end;
        let mut hasher = Hasher::new();
        let mut size = 0_u64;
        let start = begin + 512;
        let out = self.draft.file();
        {
            let mut at = start;
            // Many small pieces become few writes.
            let mut pending = BufWriter::with_capacity(1 << 20, Positioned { file: out, at: &mut at });
            write(&mut |bytes| {
                hasher.update(bytes);
                size += bytes.len() as u64;
                pending.write_all(bytes)
            })?;
            pending.flush().map_err(failed("write", &self.path))?;
        }
        // The header comes last, when the size is known; until then there is a hole.
        out.write_all_at(&backup::header(file, size, self.date), begin).map_err(failed("write", &self.path))?;
        self.end = start + size.next_multiple_of(512);
        out.set_len(self.end).map_err(failed("write", &self.path))?;
        Ok(Member { file: file.to_owned(), size, sha256: hasher.finish::<BlobDigest>(), volume: volume.map(str::to_owned) })
    }

    /// Writes the list of members and lets the backup appear, encrypted where it is to be. Until then its bytes lie, readable by nobody
    /// else, in a file without a name.
    pub fn finish(mut self, contents: &Contents, seal: Option<&Seal>) -> Result<u64, PlaceError> {
        let bytes = serde_json::to_vec_pretty(contents).map_err(|error| failed("write", &self.path)(error.into()))?;
        self.member::<PlaceError>(backup::CONTENTS, None, |sink| {
            sink(&bytes).map_err(failed("write", Path::new(backup::CONTENTS)))
        })?;
        let out = self.draft.file();
        out.write_all_at(&END, self.end).and_then(|()| out.sync_all()).map_err(failed("write", &self.path))?;
        let Some(seal) = seal else {
            self.draft.appear(&self.path).map_err(failed("write", &self.path))?;
            return Ok(self.end + END.len() as u64);
        };
        let sealed = DraftFile::begin(parent(&self.path)).map_err(failed("write", &self.path))?;
        let size = seal::write(seal, out, sealed.file()).map_err(failed("write", &self.path))?;
        sealed.file().sync_all().and_then(|()| sealed.appear(&self.path)).map_err(failed("write", &self.path))?;
        Ok(size)
    }
}

/// Writes from some place of a file on.
struct Positioned<'a> {
    file: &'a File,
    at: &'a mut u64,
}

impl Write for Positioned<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, *self.at)?;
        *self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whether nobody listens on this port of this address. What cannot be tried is not in the way.
#[must_use]
pub fn port_is_free(address: &str, port: u16) -> bool {
    let address: IpAddr = address.parse().unwrap_or(Ipv4Addr::LOCALHOST.into());
    !matches!(TcpListener::bind((address, port)), Err(error) if error.kind() == ErrorKind::AddrInUse)
}

/// Returns the bytes that an ordinary user can still write where this path is; `None` where there is no such path.
#[must_use]
pub fn free(path: &Path) -> Option<u64> {
    // The engine's folder may be closed to others, but its file system is that of the nearest open folder above.
    path.ancestors().find_map(|path| statvfs(path).ok()).map(|about| about.f_bavail.saturating_mul(about.f_frsize))
}

/// Returns the bytes of a file; `None` where there is none.
#[must_use]
pub fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|about| about.len())
}

/// Returns the folder of the bundle that was started last.
#[must_use]
pub fn last_started(state: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(state.join("demo")).ok()?;
    let path = PathBuf::from(text.trim_end_matches('\n'));
    path.is_absolute().then_some(path)
}

/// Remembers the folder of the bundle that was started. A machine without such a place is asked for the folder next time.
pub fn started(state: &Path, folder: &Path) {
    let text = format!("{}\n", folder.display());
    if fs::create_dir_all(state).is_ok() {
        let Ok(mut draft) = DraftFile::begin(state) else { return };
        if draft.file_mut().write_all(text.as_bytes()).is_ok() {
            let _ = draft.appear(&state.join("demo"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::bundle::backup::Backup;

    #[test]
    fn nothing_outside_a_bundle_is_read() {
        let place = tempfile::tempdir().unwrap();
        let bundle = place.path().join("bundle");
        fs::create_dir(&bundle).unwrap();
        fs::write(place.path().join("secret"), "secret").unwrap();
        fs::write(bundle.join("bundle.json"), "{}").unwrap();
        symlink("../secret", bundle.join("compose.yaml")).unwrap();
        let folder = BundleFolder::open(&bundle).unwrap();
        assert_eq!(folder.read("bundle.json").unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(folder.read("absent").unwrap(), None);
        for name in ["compose.yaml", "../secret"] {
            assert!(folder.read(name).is_err(), "{name}");
        }
    }

    #[test]
    fn settings_keep_their_mode_and_one_parvis_works_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let folder = BundleFolder::open(place.path()).unwrap();
        fs::write(place.path().join(".env"), "A=1").unwrap();
        fs::set_permissions(place.path().join(".env"), Permissions::from_mode(0o640)).unwrap();
        folder.write_settings("A=2").unwrap();
        assert_eq!(fs::metadata(place.path().join(".env")).unwrap().permissions().mode() & 0o777, 0o640);
        let held = folder.lock().unwrap();
        assert!(held.is_some() && folder.lock().unwrap().is_none());
        drop(held);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn a_backup_appears_whole_and_only_for_its_owner() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("backup.tar");
        let mut draft = BackupDraft::begin(&path, 0).unwrap();
        let mut members = Vec::new();
        for (file, size) in [("a", 0), ("b", 511), ("c", 3_000_000)] {
            let bytes = vec![b'x'; size];
            members.push(
                draft
                    .member::<PlaceError>(file, None, |sink| {
                        bytes.chunks(700).try_for_each(sink).map_err(failed("write", Path::new("x")))
                    })
                    .unwrap(),
            );
        }
        assert!(!path.exists());
        let contents = Contents { format: 1, name: "n".into(), version: "1".into(), created: String::new(), members };
        let size = draft.finish(&contents, None).unwrap();
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.len(), about.permissions().mode() & 0o777), (size, 0o600));
        let source = open_file(&path).unwrap();
        let backup = Backup::open(&source).unwrap();
        assert_eq!(backup.contents, contents);
        contents.members.iter().for_each(|member| backup.verify(member).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_backup_that_cannot_be_finished_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("backup.tar");
        let mut draft = BackupDraft::begin(&path, 0).unwrap();
        let result =
            draft.member::<PlaceError>("a", None, |_| Err(failed("write", Path::new("a"))(ErrorKind::StorageFull.into())));
        assert!(result.is_err());
        drop(draft);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_taken() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!port_is_free("127.0.0.1", port));
        drop(listener);
        assert!(port_is_free("127.0.0.1", port));
    }

    #[test]
    fn the_bundle_that_was_started_last_is_remembered() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        assert_eq!(last_started(&state), None);
        started(&state, Path::new("/a/b"));
        assert_eq!(last_started(&state), Some("/a/b".into()));
    }
}
