//! Where a download goes: into a file that grows until it is whole, or into memory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::{Download, FetchError, Fetched};
use crate::model::digest::{DownloadDigest, Hasher};

/// Takes in what arrives.
pub(super) trait Sink {
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
pub(super) struct Memory {
    pub(super) bytes: Vec<u8>,
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
pub(super) struct Part {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    length: u64,
    highest: u64,
    validator: Option<String>,
}

impl Part {
    /// Opens the file, waiting while another process writes it, and hashes what is there already; returns `None` where the
    /// download was finished meanwhile.
    pub(super) async fn open(download: &Download, into: &Path) -> Result<Option<Self>, FetchError> {
        let path = match &download.digest {
            Some(digest) => into.join(format!("{digest}.part")),
            // What has no digest yet is continued by whoever asks for the same place.
            None => into.join(format!("{}.part", DownloadDigest::of(download.urls.join("\n").as_bytes()))),
        };
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(nofollow());
            let file = options.open(&path).map_err(FetchError::io("write", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(TryLockError::Error(source)) => return Err(explain("lock", &path, 0, source)),
            }
            let own = file.metadata().map_err(FetchError::io("read", &path))?;
            let same = fs::symlink_metadata(&path).is_ok_and(|status| status.ino() == own.ino() && own.is_file());
            if present(download, into).is_some() {
                if same {
                    // It was made for nothing.
                    let _ = fs::remove_file(&path);
                }
                return Ok(None);
            }
            if same {
                return Self::resume(file, path, download).map(Some);
            }
        }
    }

    fn resume(file: File, path: PathBuf, download: &Download) -> Result<Self, FetchError> {
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
        if part.length > download.size.unwrap_or(download.limit) {
            part.restart().map_err(fail)?;
        }
        part.highest = part.length;
        Ok(part)
    }

    /// Gives the whole file its name.
    pub(super) fn finish(self, into: &Path) -> Result<Fetched, FetchError> {
        let digest: DownloadDigest = self.hasher.finish();
        let path = into.join(digest.to_string());
        fs::rename(&self.path, &path).map_err(FetchError::io("write", &path))?;
        Ok(Fetched { digest, size: self.length, new: true })
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

/// Returns a download that is in the folder with its promised size; one of another size is removed.
pub(super) fn present(download: &Download, into: &Path) -> Option<Fetched> {
    let digest = download.digest?;
    let path = into.join(digest.to_string());
    let status = fs::symlink_metadata(&path).ok()?;
    if status.is_file() && download.size.is_none_or(|size| size == status.len()) {
        return Some(Fetched { digest, size: status.len(), new: false });
    }
    let _ = fs::remove_file(&path);
    None
}

/// Refuses to start what cannot end.
pub(super) fn require_room(folder: &Path, bytes: u64) -> Result<(), FetchError> {
    let Ok(space) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if bytes > free {
        return Err(FetchError::Full { folder: folder.into(), needed: bytes.div_ceil(1 << 20), free: free >> 20 });
    }
    Ok(())
}

/// Turns an error of the file system into one that says what to do about it.
pub(super) fn explain(action: &'static str, path: &Path, needed: u64, source: io::Error) -> FetchError {
    let folder = path.parent().unwrap_or(path).to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => match rustix::fs::statvfs(&folder) {
            Ok(StatVfs { f_favail: 0, f_files: 1.., .. }) => FetchError::NoInodes { folder },
            Ok(space) => {
                let free = space.f_bavail.saturating_mul(space.f_frsize);
                FetchError::Full { folder, needed: needed.max(free + 1).div_ceil(1 << 20), free: free >> 20 }
            }
            Err(_) => FetchError::Io { action, path: path.into(), source },
        },
        _ => FetchError::Io { action, path: path.into(), source },
    }
}
