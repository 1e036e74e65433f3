//! Where a download goes: into a file that grows until it is whole, or into memory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::StatVfs;
use rustix::io::Errno;

use crate::model::digest::{DownloadDigest, Hasher};

/// A disk that does not take what arrives.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the file system of `{folder}` is full: {needed} MiB needed, {free} MiB free")]
    Full { folder: PathBuf, needed: u64, free: u64 },
    #[error("the file system of `{folder}` cannot hold another file: it has no inodes left")]
    NoInodes { folder: PathBuf },
    #[error("cannot {action} `{path}`")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DiskError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } | Self::NoInodes { .. } => Some(
                "free some space with `parvis store prune`, or choose another folder with `--store`; a second run goes on from here"
                    .into(),
            ),
            Self::Io { .. } => None,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| explain(action, path, 0, source)
}

/// Takes in what arrives.
pub trait Sink {
    /// Returns how many bytes there are.
    fn length(&self) -> u64;
    /// Returns how many bytes there were at most since it was opened.
    fn highest(&self) -> u64;
    /// Adds bytes.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Forgets all bytes.
    fn restart(&mut self) -> io::Result<()>;
    /// Returns the digest of all bytes.
    fn digest(&self) -> DownloadDigest;
    /// Returns what the server said that this version of the file is, to be told when asking for the rest.
    fn validator(&mut self) -> &mut Option<String>;
    /// Returns the path that an error of writing is about.
    fn place(&self) -> PathBuf;
}

/// A small document in memory. It never goes on where it stopped: its length is not known.
#[derive(Default)]
pub struct Memory {
    pub bytes: Vec<u8>,
    validator: Option<String>,
}

impl Sink for Memory {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn highest(&self) -> u64 {
        0
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    fn digest(&self) -> DownloadDigest {
        DownloadDigest::of(&self.bytes)
    }

    fn validator(&mut self) -> &mut Option<String> {
        &mut self.validator
    }

    fn place(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// A file that grows: `NAME.part`, locked by the process that writes it.
pub struct Part {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    length: u64,
    highest: u64,
    validator: Option<String>,
}

impl Part {
    /// Opens the file, waiting while another process writes it, and hashes what is there already; returns `None` where
    /// meanwhile there is what it was to become. More bytes than `limit` are forgotten.
    pub async fn open(path: PathBuf, limit: u64, there: &dyn Fn() -> bool) -> Result<Option<Self>, DiskError> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(nofollow());
            let file = options.open(&path).map_err(failed("write", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(TryLockError::Error(source)) => return Err(explain("lock", &path, 0, source)),
            }
            let own = file.metadata().map_err(failed("read", &path))?;
            let same = fs::symlink_metadata(&path).is_ok_and(|status| status.ino() == own.ino() && own.is_file());
            if there() {
                if same {
                    // It was made for nothing.
                    let _ = fs::remove_file(&path);
                }
                return Ok(None);
            }
            if same {
                return Self::resume(file, path, limit).map(Some);
            }
        }
    }

    fn resume(file: File, path: PathBuf, limit: u64) -> Result<Self, DiskError> {
        let mut part = Self { file, path, hasher: Hasher::new(), length: 0, highest: 0, validator: None };
        let path = part.path.clone();
        let fail = |source| explain("write", &path, 0, source);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match part.file.read(&mut buffer).map_err(fail)? {
                0 => break,
                count => {
                    part.hasher.update(&buffer[..count]);
                    part.length += count as u64;
                }
            }
        }
        if part.length > limit {
            part.restart().map_err(fail)?;
        }
        part.highest = part.length;
        Ok(part)
    }

    /// Gives the whole file the 64 digits of its digest as name, in this folder; returns that and the size.
    pub fn finish(self, into: &Path) -> Result<(DownloadDigest, u64), DiskError> {
        let digest: DownloadDigest = self.hasher.finish();
        let path = into.join(digest.to_string());
        fs::rename(&self.path, &path).map_err(failed("write", &path))?;
        Ok((digest, self.length))
    }
}

impl Sink for Part {
    fn length(&self) -> u64 {
        self.length
    }

    fn highest(&self) -> u64 {
        self.highest
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.highest = self.highest.max(self.length);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::new();
        self.length = 0;
        self.validator = None;
        Ok(())
    }

    fn digest(&self) -> DownloadDigest {
        self.hasher.clone().finish()
    }

    fn validator(&mut self) -> &mut Option<String> {
        &mut self.validator
    }

    fn place(&self) -> PathBuf {
        self.path.clone()
    }
}

fn nofollow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed()
}

/// Refuses to start what cannot end.
pub fn require_room(folder: &Path, bytes: u64) -> Result<(), DiskError> {
    let Ok(space) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if bytes > free {
        return Err(DiskError::Full { folder: folder.into(), needed: bytes.div_ceil(1 << 20), free: free >> 20 });
    }
    Ok(())
}

/// Turns an error of the file system into one that says what to do about it.
pub fn explain(action: &'static str, path: &Path, needed: u64, source: io::Error) -> DiskError {
    let folder = path.parent().unwrap_or(path).to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => match rustix::fs::statvfs(&folder) {
            Ok(StatVfs { f_favail: 0, f_files: 1.., .. }) => DiskError::NoInodes { folder },
            Ok(space) => {
                let free = space.f_bavail.saturating_mul(space.f_frsize);
                DiskError::Full { folder, needed: needed.max(free + 1).div_ceil(1 << 20), free: free >> 20 }
            }
            Err(_) => DiskError::Io { action, path: path.into(), source },
        },
        _ => DiskError::Io { action, path: path.into(), source },
    }
}
