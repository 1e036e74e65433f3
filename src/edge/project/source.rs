//! Sources: what a recipe takes from `images/NAME/`, listed, digested, and read again under that digest.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Stat};

use super::cache::{Stamp, StatCache};
use super::{ProjectError, ProjectFolder, check_type, failed, name_of, source_path};
use crate::model::digest::{FileDigest, Hasher};
use crate::model::name::ImageName;
use crate::model::tree::TreePath;

/// How many files and folders one source may hold.
const MOST_ENTRIES: usize = 1_000_000;

/// How deep the folders of a source may lie in each other.
const DEEPEST: usize = 100;

/// One file or folder of a source. Its owner, mode and date on the disk are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Below the source; the root for the source itself.
    pub path: TreePath,
    pub kind: SourceKind,
}

/// What an entry of a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    Directory,
    File { digest: FileDigest, size: u64 },
}

impl ProjectFolder {
    /// Lists a source of an image: itself alone where it is a file, with all it holds where it is a folder, sorted by path.
    ///
    /// # Errors
    /// Refuses what leaves the project (links too) and what is neither file nor folder.
    pub fn sources(&self, image: &ImageName, source: &TreePath, cache: &mut StatCache) -> Result<Vec<SourceFile>, ProjectError> {
        self.listed_at(&source_path(image, source), cache)
    }

    /// Lists any file or folder of the project, as [`ProjectFolder::sources`] does.
    pub fn listed(&self, path: &str, cache: &mut StatCache) -> Result<Vec<SourceFile>, ProjectError> {
        self.listed_at(path.as_bytes(), cache)
    }

    fn listed_at(&self, path: &[u8], cache: &mut StatCache) -> Result<Vec<SourceFile>, ProjectError> {
        let handle = self.open_beneath(path)?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| failed("look at", path, error.into()))?;
        let mut entries = Vec::new();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let mut walk = Walk { folder: self, base: path, cache, entries: &mut entries };
            walk.directory(&handle, &TreePath::root(), 0)?;
        } else {
            let kind = digest(path, &stat, cache, || Ok(handle))?;
            entries.push(SourceFile { path: TreePath::root(), kind });
        }
        entries.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(entries)
    }

    /// Opens a file of a source that was listed, for reading once: the end is an error unless the content has the digest.
    pub fn open_source(&self, image: &ImageName, source: &TreePath, file: &SourceFile) -> Result<CheckedSource, ProjectError> {
        let below = source
            .join(file.path.as_bytes())
            .map_err(|error| ProjectError::Name { path: file.path.to_string(), source: error })?;
        let path = source_path(image, &below);
        let SourceKind::File { digest, size } = file.kind else {
            return Err(ProjectError::Kind { path: name_of(&path), what: "a folder" });
        };
        let handle = self.open_beneath(&path)?;
        Ok(CheckedSource { file: File::from(handle), hasher: Some(Hasher::new()), left: size, digest, path: name_of(&path) })
    }
}

struct Walk<'a> {
    folder: &'a ProjectFolder,
    base: &'a [u8],
    cache: &'a mut StatCache,
    entries: &'a mut Vec<SourceFile>,
}

impl Walk<'_> {
    fn directory(&mut self, handle: &OwnedFd, at: &TreePath, depth: usize) -> Result<(), ProjectError> {
        let shown_path = self.path(at);
        self.push(SourceFile { path: at.clone(), kind: SourceKind::Directory })?;
        if depth > DEEPEST {
            return Err(ProjectError::TooMany { path: name_of(&shown_path), limit: DEEPEST });
        }
        let folder = Dir::read_from(handle).map_err(|error| failed("read", &shown_path, error.into()))?;
        for entry in folder {
            let entry = entry.map_err(|error| failed("read", &shown_path, error.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let below = at.join(name.to_bytes()).map_err(|source| ProjectError::Name { path: name_of(&shown_path), source })?;
            let path = self.path(&below);
            let stat = rustix::fs::statat(handle, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("look at", &path, error.into()))?;
            if check_type(FileType::from_raw_mode(stat.st_mode), &path)? == FileType::Directory {
                let opened = self.folder.open_beneath(&path)?;
                self.directory(&opened, &below, depth + 1)?;
            } else {
                let kind = digest(&path, &stat, self.cache, || self.folder.open_beneath(&path))?;
                self.push(SourceFile { path: below, kind })?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: SourceFile) -> Result<(), ProjectError> {
        if self.entries.len() >= MOST_ENTRIES {
            return Err(ProjectError::TooMany { path: name_of(self.base), limit: MOST_ENTRIES });
        }
        self.entries.push(entry);
        Ok(())
    }

    fn path(&self, below: &TreePath) -> Vec<u8> {
        let mut path = self.base.to_vec();
        if !below.is_root() {
            path.push(b'/');
            path.extend_from_slice(below.as_bytes());
        }
        path
    }
}

/// Returns the digest of a file: from the cache where nothing about it changed, else from its content.
fn digest(
    path: &[u8],
    stat: &Stat,
    cache: &mut StatCache,
    open: impl FnOnce() -> Result<OwnedFd, ProjectError>,
) -> Result<SourceKind, ProjectError> {
    let stamp = Stamp::of(stat);
    let size = stamp.size;
    if let Some(digest) = cache.recall(path, &stamp) {
        return Ok(SourceKind::File { digest, size });
    }
    let mut file = File::from(open()?);
    let changed = || ProjectError::Changed { path: name_of(path) };
    let mut hasher = Hasher::new();
    let mut length = 0_u64;
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read", path, error)),
        };
        hasher.update(&buffer[..count]);
        length += count as u64;
        if length > size {
            return Err(changed());
        }
    }
    let after = rustix::fs::fstat(&file).map_err(|error| failed("look at", path, error.into()))?;
    if length != size || Stamp::of(&after) != stamp {
        return Err(changed());
    }
    let digest = hasher.finish();
    cache.remember(path, stamp, digest);
    Ok(SourceKind::File { digest, size })
}

/// The content of a source, read under its digest.
pub struct CheckedSource {
    file: File,
    /// Taken at the end.
    hasher: Option<Hasher>,
    left: u64,
    digest: FileDigest,
    path: String,
}

impl Read for CheckedSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::new(io::ErrorKind::InvalidData, ProjectError::Changed { path: self.path.clone() });
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.file.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(changed)?;
        match (&mut self.hasher, count) {
            (Some(hasher), 1..) => hasher.update(&buffer[..count]),
            (hasher @ Some(_), 0) => {
                let found: Option<FileDigest> = hasher.take().map(Hasher::finish);
                if self.left != 0 || found != Some(self.digest) {
                    return Err(changed());
                }
            }
            (None, 0) => {}
            (None, _) => return Err(changed()),
        }
        Ok(count)
    }
}
