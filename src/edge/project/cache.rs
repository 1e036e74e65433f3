//! The stat cache: digests of files that have not changed since they were last read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

use crate::edge::draft::DraftFile;
use crate::model::digest::FileDigest;
use crate::model::tree::escape;

/// The first line, with the number of the format. A file that begins otherwise is passed over.
const HEADER: &str = "parvis-stat 1\n";

/// The largest cache file that is read.
const LARGEST: u64 = 512 << 20;

/// Seconds within which two writes may leave the same time on a file (FAT counts in pairs of seconds).
const GRANULARITY: i64 = 2;

/// What tells that a file has changed. The status change time is the kernel's own: no program can set it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
    inode: u64,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size.cast_unsigned(),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }
}

/// Digests by path and stamp, kept in a file between two commands.
///
/// An entry counts only while size, both times and the inode are as they were. A file that was written less than two seconds before it was
/// digested is not remembered: a further write within the same tick of the file system's clock would leave no trace (git calls such
/// an entry racy). So a file is digested anew until it has been at rest.
#[derive(Debug)]
pub struct StatCache {
    path: Option<PathBuf>,
    entries: BTreeMap<Vec<u8>, (Stamp, FileDigest)>,
    changed: bool,
    now: i64,
}

impl StatCache {
    /// Reads the cache from a file; a file that is missing, damaged or of another format is an empty cache.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let entries = read(path).unwrap_or_default();
        Self { path: Some(path.to_owned()), entries, changed: false, now: now() }
    }

    /// Returns a cache that is kept nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { path: None, entries: BTreeMap::new(), changed: false, now: now() }
    }

    /// Writes the cache back, in one step, if anything was learnt.
    ///
    /// # Errors
    /// Returns what the disk said; the build itself does not need the cache.
    pub fn save(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let mut text = String::with_capacity(HEADER.len() + self.entries.len() * 180);
        text.push_str(HEADER);
        for (name, (stamp, digest)) in &self.entries {
            let Stamp { size, modified, changed, inode } = stamp;
            let _ = writeln!(
                text,
                "{} {size} {} {} {} {} {inode} {digest}",
                escape(name),
                modified.0,
                modified.1,
                changed.0,
                changed.1
            );
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut draft = DraftFile::begin(folder)?;
        draft.file_mut().write_all(text.as_bytes())?;
        draft.appear(path)?;
        self.changed = false;
        Ok(())
    }

    pub(super) fn recall(&self, path: &[u8], stamp: &Stamp) -> Option<FileDigest> {
        self.entries.get(path).filter(|(known, _)| known == stamp).map(|(_, digest)| *digest)
    }

    pub(super) fn remember(&mut self, path: &[u8], stamp: Stamp, digest: FileDigest) {
        // The clock is read once, before anything is digested: an older "now" only forgets more.
        if stamp.changed.0 < self.now - GRANULARITY {
            self.entries.insert(path.to_vec(), (stamp, digest));
            self.changed = true;
        }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

fn read(path: &Path) -> Option<BTreeMap<Vec<u8>, (Stamp, FileDigest)>> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    let body = text.strip_prefix(HEADER)?;
    body.lines().map(entry).collect()
}

fn entry(line: &str) -> Option<(Vec<u8>, (Stamp, FileDigest))> {
    let mut fields = line.split(' ');
    let path = crate::model::tree::unescape(fields.next()?)?;
    let size = fields.next()?.parse().ok()?;
    let modified = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let changed = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let inode = fields.next()?.parse().ok()?;
    let digest = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some((path, (Stamp { size, modified, changed, inode }, digest)))
}

#[cfg(test)]
impl StatCache {
    /// Lets seconds pass, so that a test need not sleep.
    pub(super) fn pretend_later(&mut self, seconds: i64) {
        self.now += seconds;
    }
}
