//! The store: everything that was downloaded or made, under the digest of its content, shared by all builds of a user.

mod clean;
mod draft;
mod farm;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfs};
use rustix::io::Errno;

use crate::edge::draft::{DraftFile, PREFIX};
use crate::model::digest::{BlobDigest, DownloadDigest, FileDigest, Hasher};

pub use clean::{Damage, Prune, PruneReport, References, VerifyReport};
pub use draft::{BlobWriter, SegmentWriter};
pub use farm::{Farm, Fixup};

/// The number of the layout that this parvis reads and writes.
///
/// 1: as drawn at [`Store`].
pub const FORMAT: u32 = 1;

/// The date of every stored file, 1 January 1980, so that scripts in a farm see the same dates on every machine.
pub const FILE_MTIME: i64 = 315_532_800;

/// Content never becomes larger than this through [`Store::record`]; larger things are blobs.
const RECORD_LIMIT: u64 = 256 << 20;

/// The trailer of a segment: its digest.
const TRAILER: u64 = 32;

const LAYOUT: [&str; 10] = ["format", "lock", "downloads", "files", "blobs", "segments", "records", "farms", "stat", "tmp"];

/// A store that cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the file system of `{root}` is full: {needed} MiB needed, {free} MiB free")]
    Full { root: PathBuf, needed: u64, free: u64 },
    #[error("the file system of `{root}` cannot hold another file: it has no inodes left")]
    NoInodes { root: PathBuf },
    #[error("`{root}` cannot be written to")]
    ReadOnly { root: PathBuf, source: io::Error },
    #[error("the store `{root}` has format `{found}`; this parvis reads format {FORMAT}")]
    Format { root: PathBuf, found: String },
    #[error("the folder `{root}` is not a store: it holds `{found}`")]
    NotAStore { root: PathBuf, found: String },
    #[error("the store `{root}` is in use by another command")]
    InUse { root: PathBuf },
    #[error("the store has no `{path}` any more")]
    Missing { path: PathBuf },
    #[error("`{path}` is damaged: its {what}")]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{what} was promised with digest {expected} and has {found}")]
    Digest { what: &'static str, expected: String, found: String },
    #[error("{what} was promised with {expected} bytes and has {found}")]
    Size { what: &'static str, expected: u64, found: String },
    #[error("`{name}` cannot name a record or segment")]
    Name { name: String },
    #[error("the tree has two things at `{path}`")]
    Tree { path: String },
    #[error("cannot {action} `{path}`")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl StoreError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Full { .. } | Self::NoInodes { .. } => {
                "free some space with `parvis store prune`, or choose another folder with `--store`; a second run goes on from here".into()
            }
            Self::ReadOnly { .. } => "choose a folder that you may write to with `--store` or `PARVIS_STORE`".into(),
            Self::Format { .. } => "use the parvis that made it, or another folder with `--store`".into(),
            Self::NotAStore { .. } => "name an empty folder or one that does not exist yet".into(),
            Self::InUse { .. } => "run it again when the other command has ended".into(),
            Self::Missing { .. } | Self::Damaged { .. } => {
                "run `parvis store verify`, then this again: what is damaged or gone is fetched or made anew".into()
            }
            Self::Digest { .. } | Self::Size { .. } | Self::Name { .. } | Self::Tree { .. } | Self::Io { .. } => return None,
        })
    }
}

/// A content-addressed store.
///
/// ```text
/// format                       "parvis-store 1"
/// lock                         flock: shared while a command uses the store, exclusive while it is pruned
/// downloads/<sha256>           what was downloaded and verified; <sha256>.part is on its way
/// files/ab/<62 digits>.<mode>  the content of a regular file, by digest and permission bits; hard-linked into farms
/// blobs/sha256/<hex>           layers, configurations, manifests
/// segments/<key>               the compressed tar members of a package, followed by their digest (32 bytes)
/// records/<kind>/<key>         small results, each with a header that tells a torn or flipped one
/// farms/<digest>/              a tree as folders and hard links to files/, laid under overlays (see Store::kept_farm)
/// stat/<project>               digests of a project's own files, by their dates and sizes
/// tmp/                         what is being written where the file system has no nameless files
/// ```
///
/// Nothing appears under its name before it is whole: it is written as a nameless file (`O_TMPFILE`), hashed on the way, and
/// linked. A killed command leaves nothing behind. Files are not fsynced one by one: that costs a second per hundred. What
/// protects after a power cut is that a file's size only reaches the disk with its data, that every reuse compares the size,
/// that records are written after what they name and carry their own digest, and that reading a blob, segment or download
/// through the store hashes it again. `verify` hashes all.
///
/// A farm shares its files with the store: nothing may write into a farm but through an overlay.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    folder: OwnedFd,
    files: OwnedFd,
    /// Holds the flock as long as the store is open.
    lock: File,
    /// Whether nameless files can be had and linked; probed once.
    nameless: OnceLock<bool>,
    serial: AtomicU64,
    /// Distinguishes this process's names in `tmp/` from those of others.
    tag: u64,
}

impl Store {
    /// Opens the store in this folder, making it where there is none, and keeps it from being pruned until dropped.
    ///
    /// # Errors
    /// Refuses a newer format and a folder with other things in it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self::prepare(root)?;
        // Whoever is alone may clean away what dead processes left. Waiting is for the moments of a prune only.
        match store.lock.try_lock() {
            Ok(()) => store.empty_tmp(),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(store.explain("lock", root, 0, source)),
        }
        store.lock.lock_shared().map_err(|source| store.explain("lock", root, 0, source))?;
        Ok(store)
    }

    /// Opens the store for this command alone.
    ///
    /// # Errors
    /// Says so where another command uses it.
    pub fn open_alone(root: &Path) -> Result<Self, StoreError> {
        let store = Self::prepare(root)?;
        match store.lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { root: root.into() }),
            Err(TryLockError::Error(source)) => return Err(store.explain("lock", root, 0, source)),
        }
        store.empty_tmp();
        Ok(store)
    }

    fn prepare(root: &Path) -> Result<Self, StoreError> {
        let fail = |action| move |source| plain(action, root, source);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(fail("make"))?;
        if !read_format(root)? {
            make_layout(root)?;
        }
        let path = root.join("lock");
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        // A flock needs no right to write: a store on a read-only file system can be read.
        let lock = lock.or_else(|_| File::open(&path)).map_err(fail("lock"))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| plain("open", root, error.into()))?;
        let files = rustix::fs::openat(&folder, "files", flags, Mode::empty())
            .map_err(|error| plain("open", &root.join("files"), error.into()))?;
        let mut tag = [0; 8];
        rustix::rand::getrandom(&mut tag, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| plain("open", root, error.into()))?;
        Ok(Self {
            root: root.into(),
            folder,
            files,
            lock,
            nameless: OnceLock::new(),
            serial: AtomicU64::new(0),
            tag: u64::from_ne_bytes(tag),
        })
    }

    /// Returns the store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the bytes that are free for the store.
    pub fn free(&self) -> Result<u64, StoreError> {
        let found = rustix::fs::fstatvfs(&self.folder).map_err(|error| plain("look at", &self.root, error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Makes an empty folder for one sandbox. It goes away with the leftovers of dead processes.
    pub fn scratch(&self) -> Result<PathBuf, StoreError> {
        let serial = self.serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let place = self.root.join(format!("tmp/{:016x}-scratch-{serial}", self.tag));
        fs::DirBuilder::new().mode(0o700).create(&place).map_err(|source| self.explain("make", &place, 0, source))?;
        Ok(place)
    }

    /// Returns the folder into which verified downloads go, each under the 64 digits of its digest.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Returns where a download stands, or will.
    #[must_use]
    pub fn download_path(&self, digest: &DownloadDigest) -> PathBuf {
        self.root.join(Item::Download(*digest).path())
    }

    /// Returns whether a download is there with its size; its content is checked when it is read.
    #[must_use]
    pub fn has_download(&self, digest: &DownloadDigest, size: u64) -> bool {
        self.size_of(&Item::Download(*digest)) == Some(size)
    }

    /// Opens a download; reading it to its end checks it.
    pub fn open_download(&self, digest: &DownloadDigest) -> Result<Checked, StoreError> {
        self.checked(&Item::Download(*digest), *digest.bytes())
    }

    /// Returns where the content of a regular file stands, or will.
    #[must_use]
    pub fn file_path(&self, digest: &FileDigest, mode: u16) -> PathBuf {
        self.root.join(Item::file(*digest, mode).path())
    }

    /// Returns whether the content of a file is there with its size.
    #[must_use]
    pub fn has_file(&self, digest: &FileDigest, mode: u16, size: u64) -> bool {
        self.size_of(&Item::file(*digest, mode)) == Some(size)
    }

    /// Opens the content of a regular file; reading it to its end checks it.
    pub fn open_file(&self, digest: &FileDigest, mode: u16) -> Result<Checked, StoreError> {
        self.checked(&Item::file(*digest, mode), *digest.bytes())
    }

    /// Returns where a blob stands, or will.
    #[must_use]
    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.root.join(Item::Blob(*digest).path())
    }

    /// Returns the size of a blob that is there.
    #[must_use]
    pub fn blob_size(&self, digest: &BlobDigest) -> Option<u64> {
        self.size_of(&Item::Blob(*digest))
    }

    /// Opens a blob; reading it to its end checks it.
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<Checked, StoreError> {
        self.checked(&Item::Blob(*digest), *digest.bytes())
    }

    /// Reads a small blob, checked.
    ///
    /// # Errors
    /// Refuses one of more than `limit` bytes.
    pub fn read_blob(&self, digest: &BlobDigest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let mut reader = self.open_blob(digest)?;
        if reader.size > limit {
            return Err(StoreError::Size { what: "a blob", expected: limit, found: reader.size.to_string() });
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|source| self.explain("read", &path, 0, source))?;
        Ok(bytes)
    }

    /// Returns whether a segment is there.
    #[must_use]
    pub fn has_segment(&self, key: &str) -> bool {
        named(key).is_ok() && self.size_of(&Item::Segment(key.into())).is_some_and(|size| size >= TRAILER)
    }

    /// Opens a segment; reading it to its end checks it.
    pub fn open_segment(&self, key: &str) -> Result<Checked, StoreError> {
        let item = Item::Segment(named(key)?.into());
        let path = self.root.join(item.path());
        let (file, size) = self.open_regular(&item)?;
        let Some(size) = size.checked_sub(TRAILER) else {
            return Err(StoreError::Damaged { path, what: "end is missing" });
        };
        let mut expected = [0; 32];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut expected, size)
            .map_err(|source| self.explain("read", &path, 0, source))?;
        self.touch(&item);
        Ok(Checked { file, path, size, left: size, expected, hasher: Some(Hasher::new()) })
    }

    /// Returns a small result that was kept; `None` where there is none or where it is damaged, which also removes it.
    pub fn record(&self, kind: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let item = Item::Record { kind: named(kind)?.into(), key: named(key)?.into() };
        let path = self.root.join(item.path());
        match self.read_record(&item) {
            Ok(bytes) => {
                self.touch(&item);
                Ok(Some(bytes))
            }
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(StoreError::Damaged { .. }) => {
                // Where it cannot be removed it is still refused each time.
                let _ = fs::remove_file(path);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether a small result is there, without reading it.
    pub fn has_record(&self, kind: &str, key: &str) -> Result<bool, StoreError> {
        let item = Item::Record { kind: named(kind)?.into(), key: named(key)?.into() };
        Ok(self.size_of(&item).is_some())
    }

    fn read_record(&self, item: &Item) -> Result<Vec<u8>, StoreError> {
        let path = self.root.join(item.path());
        let damaged = |what| StoreError::Damaged { path: path.clone(), what };
        let (file, size) = self.open_regular(item)?;
        if size > RECORD_LIMIT {
            return Err(damaged("size is out of bounds"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(RECORD_LIMIT).read_to_end(&mut bytes).map_err(|source| self.explain("read", &path, 0, source))?;
        let body = record_header(&[]).len();
        let (header, content) = bytes.split_at_checked(body).ok_or_else(|| damaged("header is missing"))?;
        if header != record_header(content).as_bytes() {
            return Err(damaged("content is not what was written"));
        }
        bytes.drain(..body);
        Ok(bytes)
    }

    /// Keeps a small result, in place of an older one.
    pub fn put_record(&self, kind: &str, key: &str, content: &[u8]) -> Result<(), StoreError> {
        let folder = format!("records/{}", named(kind)?);
        let name = format!("{folder}/{}", named(key)?);
        match rustix::fs::mkdirat(&self.folder, &folder, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.explain("make", Path::new(&folder), 0, error.into())),
        }
        let mut draft = self.named_draft()?;
        draft.append(record_header(content).as_bytes())?;
        draft.append(content)?;
        draft.replace(&name)
    }

    /// Opens something by digest so that reading it to its end checks it.
    fn checked(&self, item: &Item, expected: [u8; 32]) -> Result<Checked, StoreError> {
        let (file, size) = self.open_regular(item)?;
        self.touch(item);
        Ok(Checked { file, path: self.root.join(item.path()), size, left: size, expected, hasher: Some(Hasher::new()) })
    }

    /// Opens something that must be a regular file; returns its size too.
    fn open_regular(&self, item: &Item) -> Result<(File, u64), StoreError> {
        let relative = item.path();
        let path = self.root.join(&relative);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, &relative, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(StoreError::Missing { path }),
            Err(error) => return Err(self.explain("open", &path, 0, error.into())),
        };
        let status = file.metadata().map_err(|source| self.explain("read", &path, 0, source))?;
        if !status.is_file() {
            return Err(StoreError::Damaged { path, what: "type is not a regular file" });
        }
        Ok((file, status.len()))
    }

    fn size_of(&self, item: &Item) -> Option<u64> {
        regular_size(self.folder.as_fd(), item.path())
    }

    /// Notes that something was used today, which is what pruning by age asks. Failing to note it does no harm.
    fn touch(&self, item: &Item) {
        const DAY: u64 = 86_400;
        let path = item.path();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        let stale = rustix::fs::statat(&self.folder, &path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|status| now.saturating_sub(u64::try_from(status.st_ctime).unwrap_or(0)) > DAY);
        if stale {
            let _ = rustix::fs::utimensat(&self.folder, &path, &draft::fixed_date(), AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    fn empty_tmp(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return };
        for entry in entries.flatten() {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }

    /// Turns an error of the file system into one that says what to do about it.
    fn explain(&self, action: &'static str, path: &Path, needed: u64, source: io::Error) -> StoreError {
        explain(&self.root, action, path, needed, source)
    }
}

fn explain(root: &Path, action: &'static str, path: &Path, needed: u64, source: io::Error) -> StoreError {
    // A refused reader or writer of this file travels through `Read` and `Write` as an `io::Error`.
    let source = match source.downcast::<StoreError>() {
        Ok(own) => return own,
        Err(source) => source,
    };
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => match rustix::fs::statvfs(root) {
            Ok(StatVfs { f_favail: 0, f_files: 1.., .. }) => StoreError::NoInodes { root: root.into() },
            Ok(space) => {
                let free = space.f_bavail.saturating_mul(space.f_frsize);
                StoreError::Full { root: root.into(), needed: needed.max(free + 1).div_ceil(1 << 20), free: free >> 20 }
            }
            Err(_) => StoreError::Io { action, path: path.into(), source },
        },
        Some(Errno::ROFS | Errno::PERM | Errno::ACCESS) if matches!(action, "make" | "write") => {
            StoreError::ReadOnly { root: root.into(), source }
        }
        _ => StoreError::Io { action, path: path.into(), source },
    }
}

fn plain(action: &'static str, root: &Path, source: io::Error) -> StoreError {
    explain(root, action, root, 0, source)
}

/// Checks the store's format; returns whether the store has one yet.
fn read_format(root: &Path) -> Result<bool, StoreError> {
    let path = root.join("format");
    match fs::read(&path) {
        Ok(text) if text == format!("parvis-store {FORMAT}\n").as_bytes() => Ok(true),
        // A power cut can leave a name without its content.
        Ok(text) if text.is_empty() => Ok(false),
        Ok(text) => {
            let text = String::from_utf8_lossy(&text[..text.len().min(40)]);
            Err(StoreError::Format { root: root.into(), found: text.trim().escape_debug().to_string() })
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(plain("read", &path, source)),
    }
}

/// Makes the folders of a new store; two commands may do so at once. The format comes last: with it the store is whole.
fn make_layout(root: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(root).map_err(|source| plain("read", root, source))? {
        let name = entry.map_err(|source| plain("read", root, source))?.file_name();
        if !LAYOUT.iter().any(|known| name == *known) && !name.to_string_lossy().starts_with(PREFIX) {
            return Err(StoreError::NotAStore { root: root.into(), found: name.to_string_lossy().escape_debug().to_string() });
        }
    }
    let fail = |source| plain("make", root, source);
    let builder = || {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
    };
    for name in ["downloads", "files", "blobs/sha256", "segments", "records", "farms", "stat", "tmp"] {
        builder().create(root.join(name)).map_err(fail)?;
    }
    for prefix in 0..=255_u8 {
        builder().create(root.join(format!("files/{prefix:02x}"))).map_err(fail)?;
    }
    let mut format = DraftFile::begin(root).map_err(fail)?;
    writeln!(format.file_mut(), "parvis-store {FORMAT}").map_err(fail)?;
    format.appear(&root.join("format")).map_err(fail)
}

/// One thing in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    Download(DownloadDigest),
    /// The permission bits are those that the stored file has, see [`Item::file`].
    File(FileDigest, u16),
    Blob(BlobDigest),
    Segment(String),
    Record {
        kind: String,
        key: String,
    },
}

impl Item {
    /// Returns the item that holds the content of a file with this mode.
    #[must_use]
    pub fn file(digest: FileDigest, mode: u16) -> Self {
        Self::File(digest, stored_mode(mode))
    }

    /// Returns the path below the store's folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Download(digest) => format!("downloads/{digest}"),
            Self::File(digest, mode) => {
                let hex = digest.hex();
                format!("files/{}/{}.{mode:o}", &hex[..2], &hex[2..])
            }
            Self::Blob(digest) => format!("blobs/sha256/{}", digest.hex()),
            Self::Segment(key) => format!("segments/{key}"),
            Self::Record { kind, key } => format!("records/{kind}/{key}"),
        }
        .into()
    }

    /// Returns the item whose path this is.
    fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        Some(match kind {
            "downloads" => Self::Download(rest.parse().ok()?),
            "files" => {
                let (prefix, rest) = rest.split_once('/')?;
                let (rest, mode) = rest.split_once('.')?;
                let mode = u16::from_str_radix(mode, 8).ok().filter(|found| format!("{found:o}") == mode && *found <= 0o777)?;
                Self::File(format!("{prefix}{rest}").parse().ok()?, mode)
            }
            "blobs" => Self::Blob(format!("sha256:{}", rest.strip_prefix("sha256/")?).parse().ok()?),
            "segments" => Self::Segment(named(rest).ok()?.into()),
            "records" => {
                let (kind, key) = rest.split_once('/')?;
                Self::Record { kind: named(kind).ok()?.into(), key: named(key).ok()?.into() }
            }
            _ => return None,
        })
    }
}

/// Returns the permission bits with which content is stored: those asked for, and the right to read it again.
const fn stored_mode(mode: u16) -> u16 {
    mode & 0o777 | 0o400
}

/// Returns the size of a regular file.
fn regular_size(folder: impl AsFd, path: impl rustix::path::Arg) -> Option<u64> {
    let status = rustix::fs::statat(folder, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(status.st_mode) == FileType::RegularFile).then(|| u64::try_from(status.st_size).ok())?
}

/// Checks a name that becomes part of a path.
fn named(name: &str) -> Result<&str, StoreError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'~');
    if (1..=200).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('.') {
        Ok(name)
    } else {
        Err(StoreError::Name { name: name.chars().take(80).flat_map(char::escape_debug).collect() })
    }
}

/// Returns the line before a record's content, of the same length for every content.
fn record_header(content: &[u8]) -> String {
    format!("parvis-record 1 {:016x} {}\n", content.len(), FileDigest::of(content))
}

/// Reads something from the store; the read that would return the end returns an error instead where the digest is another.
pub struct Checked {
    file: File,
    path: PathBuf,
    size: u64,
    left: u64,
    expected: [u8; 32],
    hasher: Option<Hasher>,
}

impl Checked {
    /// Returns how many bytes there are in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Removes what is damaged, so that it is fetched or made again; where that is not possible it is refused each time.
    fn damaged(&self, what: &'static str) -> io::Error {
        let _ = fs::remove_file(&self.path);
        io::Error::other(StoreError::Damaged { path: self.path.clone(), what })
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 && !buffer.is_empty() {
            let found = self.hasher.take().map(Hasher::finish::<FileDigest>);
            return match found {
                Some(found) if found.bytes() != &self.expected => Err(self.damaged("content is not what its name says")),
                _ => Ok(0),
            };
        }
        let count = self.file.read(&mut buffer[..length])?;
        if count == 0 && length > 0 {
            return Err(self.damaged("end is missing"));
        }
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
