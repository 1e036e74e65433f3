//! What is being written: nameless until it is whole and is what was promised.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{FILE_MTIME, Item, Store, StoreError, named, regular_size, stored_mode};
use crate::model::digest::{BlobDigest, DownloadDigest, FileDigest, Hasher};

/// A file on its way into the store. Dropping it leaves nothing.
pub(super) struct Draft<'a> {
    store: &'a Store,
    file: File,
    /// The name in `tmp/`, where the file has one.
    name: Option<String>,
    size: u64,
}

impl Store {
    /// Keeps the content of a regular file; returns its digest and size.
    pub fn put_file(&self, content: &mut dyn Read, mode: u16) -> Result<(FileDigest, u64), StoreError> {
        let mut draft = self.draft("tmp")?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.explain("read", Path::new("the content of a file"), 0, source)),
            };
            hasher.update(&buffer[..count]);
            draft.append(&buffer[..count])?;
        }
        let digest = hasher.finish();
        let size = draft.size;
        draft.publish(&Item::file(digest, mode), stored_mode(mode))?;
        Ok((digest, size))
    }

    /// Keeps the content of a small regular file; quick where the store has it already.
    pub fn put_file_bytes(&self, content: &[u8], mode: u16) -> Result<FileDigest, StoreError> {
        let digest = FileDigest::of(content);
        let item = Item::file(digest, mode);
        if self.size_of(&item) != Some(content.len() as u64) {
            let mut draft = self.draft(&format!("files/{:02x}", digest.bytes()[0]))?;
            draft.append(content)?;
            draft.publish(&item, stored_mode(mode))?;
        }
        Ok(digest)
    }

    /// Starts a blob. A digest or size that is given must come out in the end.
    pub fn blob_writer(&self, digest: Option<BlobDigest>, size: Option<u64>) -> Result<BlobWriter<'_>, StoreError> {
        Ok(BlobWriter { draft: self.draft("blobs/sha256")?, hasher: Hasher::new(), digest, expected: size })
    }

    /// Keeps a small blob.
    pub fn put_blob(&self, content: &[u8]) -> Result<BlobDigest, StoreError> {
        let digest = BlobDigest::of(content);
        let mut writer = self.blob_writer(Some(digest), Some(content.len() as u64))?;
        writer.append(content)?;
        writer.finish().map(|(digest, _)| digest)
    }

    /// Makes a blob of a download that was verified.
    pub fn keep_download(&self, digest: &DownloadDigest) -> Result<BlobDigest, StoreError> {
        let blob = BlobDigest::from(*digest.bytes());
        let (from, to) = (Item::Download(*digest).path(), Item::Blob(blob).path());
        let fail = |error: Errno| self.explain("write", &self.root.join(&to), 0, error.into());
        // The same mode and date that other blobs have; the name comes last.
        rustix::fs::utimensat(&self.folder, &from, &fixed_date(), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        rustix::fs::chmodat(&self.folder, &from, Mode::from_raw_mode(0o644), AtFlags::empty()).map_err(fail)?;
        rustix::fs::renameat(&self.folder, &from, &self.folder, &to).map_err(fail)?;
        Ok(blob)
    }

    /// Starts a segment.
    pub fn segment_writer(&self) -> Result<SegmentWriter<'_>, StoreError> {
        Ok(SegmentWriter { draft: self.draft("segments")?, hasher: Hasher::new() })
    }

    /// Starts a file that will be linked into this folder or, without nameless files, renamed from `tmp/`.
    fn draft(&self, folder: &str) -> Result<Draft<'_>, StoreError> {
        if *self.nameless.get_or_init(|| self.probe_nameless()) {
            let file =
                self.open_nameless(folder).map_err(|error| self.explain("write", &self.root.join(folder), 0, error.into()))?;
            return Ok(Draft { store: self, file, name: None, size: 0 });
        }
        self.named_draft()
    }

    pub(super) fn named_draft(&self) -> Result<Draft<'_>, StoreError> {
        let name = format!("tmp/{:016x}-{}", self.tag, self.serial.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Draft { store: self, file: file.into(), name: Some(name), size: 0 }),
            Err(error) => Err(self.explain("write", &self.root.join(name), 0, error.into())),
        }
    }

    fn open_nameless(&self, folder: &str) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, folder, flags, Mode::from_raw_mode(0o600)).map(File::from)
    }

    /// Some file systems have no `O_TMPFILE`, and some roots no `/proc` to link one through.
    fn probe_nameless(&self) -> bool {
        let name = format!("tmp/{:016x}-probe", self.tag);
        let linked = self.open_nameless("tmp").and_then(|file| link(&file, self, &name));
        if linked.is_ok() {
            let _ = rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty());
        }
        // A full disk is no reason to do without: the first draft will say what is wrong.
        !matches!(linked, Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::XDEV | Errno::PERM))
    }
}

fn link(file: &File, store: &Store, name: impl rustix::path::Arg) -> Result<(), Errno> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, own, &store.folder, name, AtFlags::SYMLINK_FOLLOW)
}

/// Returns the one date that stored files have.
pub(super) fn fixed_date() -> Timestamps {
    let date = Timespec { tv_sec: FILE_MTIME, tv_nsec: 0 };
    Timestamps { last_access: date, last_modification: date }
}

impl Draft<'_> {
    /// Adds bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let size = self.size + bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| self.store.explain("write", &self.place(), bytes.len() as u64, source))?;
        self.size = size;
        Ok(())
    }

    /// Gives the file its place, unless a whole one stands there already.
    pub(super) fn publish(mut self, item: &Item, mode: u16) -> Result<(), StoreError> {
        let path = item.path();
        let fail = |error: Errno| self.store.explain("write", &self.store.root.join(&path), self.size, error.into());
        if regular_size(&self.store.folder, &path) == Some(self.size) {
            return Ok(());
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode.into())).map_err(fail)?;
        rustix::fs::futimens(&self.file, &fixed_date()).map_err(fail)?;
        if self.name.is_some() {
            return self.rename(&path);
        }
        match link(&self.file, self.store, &path) {
            Err(Errno::EXIST) if regular_size(&self.store.folder, &path) == Some(self.size) => Ok(()),
            // What stands there was cut short by a power failure, or is no file at all.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.store.folder, &path, AtFlags::empty()).map_err(fail)?;
                link(&self.file, self.store, &path).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }

    /// Gives the file its place in any case.
    pub(super) fn replace(mut self, path: &str) -> Result<(), StoreError> {
        self.rename(Path::new(path))
    }

    fn rename(&mut self, path: &Path) -> Result<(), StoreError> {
        if let Some(name) = &self.name {
            rustix::fs::renameat(&self.store.folder, name, &self.store.folder, path)
                .map_err(|error| self.store.explain("write", &self.store.root.join(path), self.size, error.into()))?;
            self.name = None;
        }
        Ok(())
    }

    fn place(&self) -> PathBuf {
        self.store.root.join(self.name.as_deref().unwrap_or("tmp"))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(self.store.folder.as_fd(), name, AtFlags::empty());
        }
    }
}

/// Writes a blob: hashes on the way, and checks what was promised before the blob appears.
pub struct BlobWriter<'a> {
    draft: Draft<'a>,
    hasher: Hasher,
    digest: Option<BlobDigest>,
    expected: Option<u64>,
}

impl BlobWriter<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// Refuses the first byte beyond the promised size.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let size = self.draft.size + bytes.len() as u64;
        match self.expected {
            Some(expected) if size > expected => Err(StoreError::Size { what: "a blob", expected, found: "more".into() }),
            _ => {
                self.hasher.update(bytes);
                self.draft.append(bytes)
            }
        }
    }

    /// Returns how many bytes were written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.draft.size
    }

    /// Puts the blob into the store under its digest; returns that and the size.
    pub fn finish(self) -> Result<(BlobDigest, u64), StoreError> {
        let found: BlobDigest = self.hasher.finish();
        let size = self.draft.size;
        if let Some(expected) = self.expected.filter(|expected| *expected != size) {
            return Err(StoreError::Size { what: "a blob", expected, found: size.to_string() });
        }
        if let Some(expected) = self.digest.filter(|expected| *expected != found) {
            return Err(StoreError::Digest { what: "a blob", expected: expected.to_string(), found: found.to_string() });
        }
        self.draft.publish(&Item::Blob(found), 0o644)?;
        Ok((found, size))
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a segment.
pub struct SegmentWriter<'a> {
    draft: Draft<'a>,
    hasher: Hasher,
}

impl SegmentWriter<'_> {
    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.draft.append(bytes)
    }

    /// Puts the segment into the store under this key; returns its size.
    pub fn finish(mut self, key: &str) -> Result<u64, StoreError> {
        let item = Item::Segment(named(key)?.into());
        let size = self.draft.size;
        let digest: FileDigest = self.hasher.finish();
        self.draft.append(digest.bytes())?;
        self.draft.publish(&item, 0o644)?;
        Ok(size)
    }
}

impl Write for SegmentWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
