//! What keeps a store sound and small: hashing all again, and removing what nobody has used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::{Item, Store, StoreError, plain};

/// One thing that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    pub path: PathBuf,
    /// What is wrong, in words.
    pub what: String,
    /// Whether it was removed, so that the next build makes or fetches it again.
    pub removed: bool,
}

/// What hashing all again found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub checked: u64,
    pub bytes: u64,
    /// Sorted by path.
    pub damaged: Vec<Damage>,
    /// Names that no store has, left alone.
    pub foreign: Vec<PathBuf>,
}

/// What to remove.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// What was used within this time stays.
    pub unused_for: Duration,
    /// What stays in any case, with all that it refers to.
    pub keep: BTreeSet<Item>,
    /// Counts only.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub removed: u64,
    pub removed_bytes: u64,
    pub kept: u64,
    pub kept_bytes: u64,
}

/// Returns what a record refers to, from its kind, key and content.
pub type References<'a> = dyn FnMut(&str, &str, &[u8]) -> Vec<Item> + 'a;

/// All that is in a store.
#[derive(Default)]
struct Inventory {
    items: BTreeMap<Item, Found>,
    foreign: Vec<PathBuf>,
    /// Downloads on their way.
    partial: Vec<Found>,
}

struct Found {
    path: PathBuf,
    bytes: u64,
    unused_for: Duration,
}

impl Store {
    /// Hashes everything in the store again, on all cores; removes what is damaged, unless it may not.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let Inventory { items, foreign, .. } = self.walk()?;
        let items: Vec<(&Item, &Found)> = items.iter().collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut own = VerifyReport::default();
            let mut buffer = vec![0; 128 << 10];
            while let Some((item, found)) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                own.checked += 1;
                own.bytes += found.bytes;
                if let Err(error) = self.check(item, &mut buffer) {
                    let what = match error {
                        StoreError::Damaged { what, .. } => format!("its {what}"),
                        // Another command has removed it meanwhile.
                        StoreError::Missing { .. } => continue,
                        other => return Err(other),
                    };
                    // Reading it has removed it already, where that was possible.
                    let _ = fs::remove_file(&found.path);
                    own.damaged.push(Damage {
                        path: found.path.clone(),
                        what,
                        removed: fs::symlink_metadata(&found.path).is_err(),
                    });
                }
            }
            Ok(own)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let mut report = VerifyReport { foreign, ..VerifyReport::default() };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let own = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                report.checked += own.checked;
                report.bytes += own.bytes;
                report.damaged.extend(own.damaged);
            }
            Ok::<(), StoreError>(())
        })?;
        report.damaged.sort();
        Ok(report)
    }

    /// Returns the records that refer to what the store has not, sorted.
    pub fn dangling(&self, references: &mut References<'_>) -> Result<Vec<Item>, StoreError> {
        let items = self.walk()?.items;
        let mut dangling = Vec::new();
        for item in items.keys() {
            if let Item::Record { kind, key } = item
                && let Ok(content) = self.read_record(item)
                && references(kind, key, &content).iter().any(|needed| !items.contains_key(needed))
            {
                dangling.push(item.clone());
            }
        }
        Ok(dangling)
    }

    /// Removes these records, and all of one kind, so that the next build makes anew what they stood for.
    ///
    /// Like [`Store::prune`] it needs a store that was opened with [`Store::open_alone`].
    pub fn remove_records(&mut self, records: &[Item], kind: &str) -> Result<(), StoreError> {
        self.lock.try_lock().map_err(|_| StoreError::InUse { root: self.root().into() })?;
        let is_doomed = |item: &Item| records.contains(item) || matches!(item, Item::Record { kind: own, .. } if own == kind);
        for (_, found) in self.walk()?.items.iter().filter(|(item, _)| is_doomed(item)) {
            fs::remove_file(&found.path).map_err(|source| self.explain("write", &found.path, 0, source))?;
        }
        Ok(())
    }

    fn check(&self, item: &Item, buffer: &mut [u8]) -> Result<(), StoreError> {
        let mut reader = match item {
            Item::Record { .. } => return self.read_record(item).map(drop),
            Item::Segment(key) => self.open_segment(key)?,
            Item::Download(digest) => self.open_download(digest)?,
            Item::Blob(digest) => self.open_blob(digest)?,
            Item::File(digest, mode) => {
                let path = self.root().join(item.path());
                let status = fs::symlink_metadata(&path).map_err(|source| self.explain("read", &path, 0, source))?;
                if std::os::unix::fs::PermissionsExt::mode(&status.permissions()) & 0o7777 != u32::from(*mode) {
                    return Err(StoreError::Damaged { path, what: "mode is not what its name says" });
                }
                self.open_file(digest, *mode)?
            }
        };
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(source) => return Err(self.explain("read", &self.root().join(item.path()), 0, source)),
            }
        }
    }

    /// Removes what nobody has used for a time, except what stays and what that refers to.
    ///
    /// A record that stays keeps what `references` finds in its kind, key and content. Only a store that was opened with
    /// [`Store::open_alone`] can be pruned: nothing is removed under a running build.
    pub fn prune(&mut self, wish: &Prune, references: &mut References<'_>) -> Result<PruneReport, StoreError> {
        self.lock.try_lock().map_err(|_| StoreError::InUse { root: self.root().into() })?;
        let Inventory { items, partial, .. } = self.walk()?;
        let young = items.iter().filter(|(_, found)| found.unused_for <= wish.unused_for && !wish.unused_for.is_zero());
        let mut open: Vec<Item> = wish.keep.iter().chain(young.map(|(item, _)| item)).cloned().collect();
        let mut keep = BTreeSet::new();
        while let Some(item) = open.pop() {
            if let Item::Record { kind, key } = &item
                && !keep.contains(&item)
                && let Ok(content) = self.read_record(&item)
            {
                open.extend(references(kind, key, &content));
            }
            keep.insert(item);
        }
        let mut report = PruneReport::default();
        let doomed_parts = partial.iter().filter(|found| found.unused_for >= wish.unused_for);
        // Records go first: one that stays behind after a power cut must find what it names.
        let doomed = items.iter().rev().filter(|(item, _)| !keep.contains(item)).map(|(_, found)| found);
        for found in doomed.chain(doomed_parts) {
            if !wish.dry_run {
                fs::remove_file(&found.path).map_err(|source| self.explain("write", &found.path, 0, source))?;
            }
            report.removed += 1;
            report.removed_bytes += found.bytes;
        }
        for (_, found) in items.iter().filter(|(item, _)| keep.contains(item)) {
            report.kept += 1;
            report.kept_bytes += found.bytes;
        }
        Ok(report)
    }

    /// Lists all that is in the store.
    fn walk(&self) -> Result<Inventory, StoreError> {
        let Inventory { mut items, mut foreign, mut partial } = Inventory::default();
        let now = SystemTime::now();
        let mut folders: Vec<PathBuf> = ["downloads", "files", "blobs", "segments", "records"].map(PathBuf::from).into();
        while let Some(folder) = folders.pop() {
            let whole = self.root().join(&folder);
            for entry in fs::read_dir(&whole).map_err(|source| plain("read", &whole, source))? {
                let entry = entry.map_err(|source| plain("read", &whole, source))?;
                let path = folder.join(entry.file_name());
                let status = match entry.metadata() {
                    Ok(status) => status,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(plain("read", &entry.path(), source)),
                };
                if status.is_dir() {
                    if path.components().count() <= 3 {
                        folders.push(path);
                    } else {
                        foreign.push(entry.path());
                    }
                    continue;
                }
                let found = Found { path: entry.path(), bytes: status.len(), unused_for: since(&status, now) };
                if folder == Path::new("downloads") && path.extension().is_some_and(|extension| extension == "part") {
                    partial.push(found);
                } else if let Some(item) = path.to_str().and_then(Item::parse) {
                    items.insert(item, found);
                } else {
                    foreign.push(entry.path());
                }
            }
        }
        foreign.sort();
        Ok(Inventory { items, foreign, partial })
    }
}

/// Returns how long ago the inode was made, linked or touched; the date of the content is the same for all.
fn since(status: &fs::Metadata, now: SystemTime) -> Duration {
    use std::os::unix::fs::MetadataExt as _;
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(status.ctime()).unwrap_or(0));
    now.duration_since(used).unwrap_or_default()
}
