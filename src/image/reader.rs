//! Layers that come from outside, as a tree: every entry is looked at, and nothing is written anywhere.
//!
//! Each layer is read into the union of those below it. Refused is whatever could stand elsewhere than its name says, or
//! be two things to two engines: names that leave the tree, entries below links, links out of the layer, removals of what
//! the same layer states, devices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Bound;

use super::archive::{ArchiveError, Files, FoundImage};
use super::member::Compressor;
use super::tar::WHITEOUT;
use super::untar::{RawEntry, Streamed, Untar, UntarError};
use crate::model::digest::{DiffId, FileDigest, Hasher};
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath, Xattrs, escape};

/// How much is read from outside before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of all layers of an image.
    pub entries: usize,
    /// Bytes of names, links and attributes of all layers.
    pub names: usize,
    /// Folders within folders.
    pub depth: usize,
    /// Uncompressed bytes of one layer.
    pub layer: u64,
    /// Whether names may hold what a terminal or a person misreads: control characters, changes of direction, other bytes
    /// than UTF-8.
    pub odd_names: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 400_000, names: 64 << 20, depth: 200, layer: 32 << 30, odd_names: false }
    }
}

/// What happens to the contents of files while they are read.
pub trait Sink {
    /// Hears that the next layer begins.
    fn layer(&mut self) {}

    /// Takes the content of a file and returns its digest.
    fn file(&mut self, path: &TreePath, size: u64, mode: u16, content: &mut dyn Read) -> io::Result<FileDigest>;
}

/// Keeps the digests of all contents, and the contents of the files that [`super::diff`] explains others with.
#[derive(Debug, Default)]
pub struct Hashing {
    /// The package database's own files, by path.
    pub kept: BTreeMap<TreePath, Vec<u8>>,
    /// The last layer, counted from 1, that states each of them.
    pub layers: BTreeMap<TreePath, usize>,
    layer: usize,
    size: u64,
}

/// Files that are kept, beside the lists of packages: what is installed, who has an account, what the system is.
const WANTED: [&[u8]; 4] = [b"var/lib/dpkg/status", b"etc/passwd", b"usr/lib/os-release", b"etc/os-release"];

/// Bytes of the package database that are kept in memory.
const KEPT: u64 = 64 << 20;

impl Sink for Hashing {
    fn layer(&mut self) {
        self.layer += 1;
    }

    fn file(&mut self, path: &TreePath, size: u64, _mode: u16, content: &mut dyn Read) -> io::Result<FileDigest> {
        let mut hasher = Hasher::new();
        let bytes = path.as_bytes();
        let wanted = WANTED.contains(&bytes) || bytes.starts_with(b"var/lib/dpkg/info/") && bytes.ends_with(b".list");
        let keep = wanted && self.size.saturating_add(size) <= KEPT;
        let mut kept = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = match content.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            if keep {
                kept.extend_from_slice(&buffer[..read]);
            }
        }
        if keep {
            self.size += size;
            self.kept.insert(path.clone(), kept);
            self.layers.insert(path.clone(), self.layer);
        }
        Ok(hasher.finish())
    }
}

/// A layer that is refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerReadError {
    #[error(transparent)]
    Untar(#[from] UntarError),
    #[error("the layer's entry `{name}` {problem}")]
    Entry { name: String, problem: &'static str },
    #[error("the image has more than {0} entries")]
    TooManyEntries(usize),
    #[error("the image has more than {0} bytes of names and attributes")]
    TooManyNames(usize),
    #[error("the layer is larger than {0} bytes when it is unpacked")]
    TooLarge(u64),
    #[error("the layer's content is `{found}` where the configuration promises `{expected}`")]
    DiffId { expected: DiffId, found: DiffId },
    #[error("cannot read the layer")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl LayerReadError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Untar(UntarError::Read(_)) | Self::Read(_) => None,
            Self::Untar(UntarError::Short { .. }) => Some("the file is not whole: copy or download it again".into()),
            _ => Some("do not load it anywhere: ask whom it came from, or make it again".into()),
        }
    }
}

/// Reads all layers of an image from an archive or layout, and checks both digests of each.
pub fn read_image(files: &dyn Files, image: &FoundImage, limits: Limits, sink: &mut dyn Sink) -> Result<Tree, LayerReadError> {
    let mut reader = LayerReader::new(limits);
    for (layer, expected) in image.layers.iter().zip(&image.config.diff_ids) {
        let (compressor, stored) = layer.open(files)?;
        // Where nothing is said it is a plain tar: so does Docker before 25.
        let found = reader.read(BufReader::with_capacity(128 * 1024, stored), compressor, sink)?;
        if found != *expected {
            return Err(LayerReadError::DiffId { expected: *expected, found });
        }
    }
    Ok(reader.tree)
}

/// Reads layers from the bottom up into one tree.
pub struct LayerReader {
    tree: Tree,
    limits: Limits,
    /// Headers and bytes of names that may still come.
    entries_left: usize,
    names_left: usize,
}

impl LayerReader {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { tree: Tree::new(), limits, entries_left: limits.entries, names_left: limits.names }
    }

    /// Returns the union of the layers that were read.
    #[must_use]
    pub fn into_tree(self) -> Tree {
        self.tree
    }

    /// Reads a layer as it is stored, to its very end; returns the digest of the tar in it.
    ///
    /// # Errors
    /// The tree is of no use after an error.
    pub fn read<R: BufRead>(
        &mut self,
        stored: R,
        compressor: Option<Compressor>,
        sink: &mut dyn Sink,
    ) -> Result<DiffId, LayerReadError> {
        match compressor {
            None => self.read_tar(stored, sink),
            Some(Compressor::Gzip) => self.read_tar(flate2::bufread::MultiGzDecoder::new(stored), sink),
            Some(Compressor::Zstd) => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
                // 128 MiB: a larger window would be memory that the sender chooses.
                decoder.window_log_max(27)?;
                self.read_tar(decoder, sink)
            }
        }
    }

    fn read_tar<R: Read>(&mut self, tar: R, sink: &mut dyn Sink) -> Result<DiffId, LayerReadError> {
        let limit = self.limits.layer;
        sink.layer();
        let mut untar = Untar::new(Streamed(Measured { tar, hasher: Hasher::new(), left: limit }));
        let mut layer = Layer { reader: self, stated: BTreeSet::new(), emptied: BTreeSet::new() };
        let entries = || -> Result<DiffId, LayerReadError> {
            while let Some(entry) = untar.next_entry()? {
                layer.take(entry, &mut untar, sink)?;
            }
            let Streamed(measured) = untar.finish()?;
            Ok(measured.hasher.finish())
        };
        entries().map_err(|error| match error {
            LayerReadError::Untar(UntarError::Read(cause)) | LayerReadError::Read(cause)
                if cause.kind() == io::ErrorKind::FileTooLarge =>
            {
                LayerReadError::TooLarge(limit)
            }
            error => error,
        })
    }
}

/// Returns the digest of the tar in a layer, without looking at what is in it.
///
/// # Errors
/// The layer cannot be read or unpacked, or is larger than `limit`.
pub fn diff_id<R: BufRead>(stored: R, compressor: Option<Compressor>, limit: u64) -> io::Result<DiffId> {
    let tar: Box<dyn Read + '_> = match compressor {
        None => Box::new(stored),
        Some(Compressor::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Some(Compressor::Zstd) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    };
    let mut measured = Measured { tar, hasher: Hasher::new(), left: limit };
    io::copy(&mut measured, &mut io::sink())?;
    Ok(measured.hasher.finish())
}

/// Hashes a tar as it is read, up to a limit.
struct Measured<R> {
    tar: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.tar.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A layer that is being read over the tree of those below it.
struct Layer<'a> {
    reader: &'a mut LayerReader,
    /// The paths that this layer itself has stated.
    stated: BTreeSet<TreePath>,
    /// The folders whose lower content this layer has removed.
    emptied: BTreeSet<TreePath>,
}

impl Layer<'_> {
    fn take(&mut self, raw: RawEntry, content: &mut dyn Read, sink: &mut dyn Sink) -> Result<(), LayerReadError> {
        let refuse = |problem| LayerReadError::Entry { name: escape(&raw.name[..raw.name.len().min(200)]), problem };
        self.count(&raw)?;
        let path = self.path(&raw.name, raw.kind).map_err(refuse)?;
        if path.file_name().starts_with(WHITEOUT) {
            return self.remove(&path, &raw).map_err(refuse);
        }
        let kind = match raw.kind {
            b'5' => Kind::Directory,
            b'2' if raw.link.is_empty() || raw.link.len() > 4095 => return Err(refuse("is a link to nowhere")),
            b'2' => Kind::Symlink { target: raw.link.clone().into() },
            b'1' => return self.link(path, &raw).map_err(refuse),
            b'0' => Kind::File { digest: FileDigest::of(b""), size: raw.size, shared: false },
            _ => return Err(refuse("is a device or pipe")),
        };
        self.place(&path, &kind).map_err(refuse)?;
        let kind = match kind {
            Kind::File { size, .. } if size > 0 => {
                let digest = sink.file(&path, size, raw.mode, content)?;
                Kind::File { digest, size, shared: false }
            }
            kind => kind,
        };
        let is_link = matches!(kind, Kind::Symlink { .. });
        let entry = Entry {
            mtime: if kind == Kind::Directory { 0 } else { raw.mtime },
            mode: if is_link { 0o777 } else { raw.mode },
            kind,
            uid: raw.uid,
            gid: raw.gid,
            xattrs: xattrs(raw.xattrs).map_err(|problem| LayerReadError::Entry { name: path.to_string(), problem })?,
            origin: Origin::Parvis,
        };
        self.put(path, entry);
        Ok(())
    }

    /// Counts an entry against the limits of the image.
    fn count(&mut self, raw: &RawEntry) -> Result<(), LayerReadError> {
        let LayerReader { limits, entries_left, names_left, .. } = &mut *self.reader;
        let attributes: usize = raw.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        *entries_left = entries_left.checked_sub(1).ok_or(LayerReadError::TooManyEntries(limits.entries))?;
        let bytes = raw.name.len() + raw.link.len() + attributes;
        *names_left = names_left.checked_sub(bytes).ok_or(LayerReadError::TooManyNames(limits.names))?;
        Ok(())
    }

    fn put(&mut self, path: TreePath, entry: Entry) {
        self.reader.tree.put(path.clone(), entry);
        self.stated.insert(path);
    }

    /// Reads a name, which must stand inside the tree whatever stands there.
    fn path(&self, name: &[u8], kind: u8) -> Result<TreePath, &'static str> {
        if name.starts_with(b"/") {
            return Err("has an absolute name");
        }
        let path = TreePath::parse(name).map_err(|_| "has a name that leaves the tree or cannot exist in one")?;
        if kind != b'5' && (path.is_root() || name.ends_with(b"/")) {
            return Err("has the name of a folder and is none");
        }
        if path.as_bytes().split(|byte| *byte == b'/').count() > self.reader.limits.depth {
            return Err("stands in more folders than any system has");
        }
        if !self.reader.limits.odd_names && is_odd(path.as_bytes()) {
            return Err("has control characters or other bytes than UTF-8 in its name");
        }
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !folder.is_root()) {
            if folder.file_name().starts_with(WHITEOUT) {
                return Err("stands below a removal");
            }
            if self.reader.tree.get(folder.as_bytes()).is_some_and(|entry| !entry.is_directory()) {
                return Err("stands below a link or a file");
            }
            above = folder.parent();
        }
        Ok(path)
    }

    /// Makes sure that an entry of this kind can stand there, and that its folders do.
    fn place(&mut self, path: &TreePath, kind: &Kind) -> Result<(), &'static str> {
        let is_directory = *kind == Kind::Directory;
        if !is_directory && matches!(path.as_bytes(), b"dev" | b"proc" | b"sys") {
            return Err("stands where engines mount a folder, and is none");
        }
        if self.stated.contains(path) && !(is_directory && self.reader.tree.get(path.as_bytes()).is_some_and(Entry::is_directory))
        {
            return Err("stands twice in its layer");
        }
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !folder.is_root() && self.reader.tree.get(folder.as_bytes()).is_none()) {
            above = folder.parent();
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            self.reader.tree.put(folder, Entry::directory(0o755, Origin::Parvis));
        }
        Ok(())
    }

    /// Reads another name of a file, which must stand before it in the same layer.
    fn link(&mut self, path: TreePath, raw: &RawEntry) -> Result<(), &'static str> {
        let target = if raw.link.starts_with(b"/") { None } else { TreePath::parse(&raw.link).ok() };
        let target = target.filter(|target| self.stated.contains(target) && *target != path);
        let target = target.ok_or("is a hard link to nothing in its layer")?;
        let Some(mut entry) = self.reader.tree.get(target.as_bytes()).cloned() else {
            return Err("is a hard link to nothing in its layer");
        };
        let Kind::File { shared, .. } = &mut entry.kind else { return Err("is a hard link to something that is no file") };
        *shared = true;
        self.place(&path, &entry.kind)?;
        self.reader.tree.put(target, entry.clone());
        self.put(path, entry);
        Ok(())
    }

    /// Returns whether this layer states a path or something below it.
    fn states_within(&self, path: &TreePath) -> bool {
        let below = [path.as_bytes(), b"/"].concat();
        let first_below = self.stated.range::<[u8], _>((Bound::Included(&below[..]), Bound::Unbounded)).next();
        self.stated.contains(path) || first_below.is_some_and(|first| first.is_within(path))
    }

    /// Carries out a removal, of one path or of all that the layers below have in a folder.
    fn remove(&mut self, path: &TreePath, raw: &RawEntry) -> Result<(), &'static str> {
        if raw.kind != b'0' || raw.size > 0 {
            return Err("has the name of a removal and is none");
        }
        let folder = path.parent().unwrap_or_else(TreePath::root);
        let name = &path.file_name()[WHITEOUT.len()..];
        match name {
            b".wh..opq" if self.emptied.insert(folder.clone()) => {
                let below: Vec<TreePath> = self.reader.tree.within(&folder).map(|(path, _)| path.clone()).collect();
                for path in below {
                    if path != folder && !self.states_within(&path) {
                        self.reader.tree.remove(&path);
                    }
                }
                Ok(())
            }
            b"" | b"." | b".." => Err("removes what is no name"),
            _ if name.starts_with(WHITEOUT) => Err("removes a removal"),
            _ => {
                let gone = folder.join(name).map_err(|_| "removes what is no name")?;
                if self.states_within(&gone) {
                    return Err("removes what its own layer states");
                }
                self.reader.tree.remove(&gone);
                Ok(())
            }
        }
    }
}

/// Returns whether a name shows something else than it is.
fn is_odd(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return true };
    let misleading = |character: char| {
        character.is_control() || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().any(misleading)
}

/// Returns the attributes that images keep.
fn xattrs(found: BTreeMap<String, Vec<u8>>) -> Result<Xattrs, &'static str> {
    if found.keys().any(|name| name.starts_with("trusted.")) {
        return Err("has an attribute that only the kernel's own file systems set");
    }
    Ok(found.into_iter().filter(|(name, _)| name == "security.capability" || name.starts_with("user.")).collect())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::super::layer::tests::{PACKAGES, Stored, alone, any_tree, groups, package};
    use super::super::layer::{Part, assemble, plan_layers};
    use super::super::segment;
    use super::super::tar::testing::{Memory, path};
    use super::super::tar::{END, TarWriter};
    use super::*;
    use crate::model::tree::Change;

    /// Headers by hand: what no honest writer writes.
    struct RawTar(Vec<u8>);

    impl RawTar {
        fn new() -> Self {
            Self(Vec::new())
        }

        fn entry(self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
            self.sized(kind, name, link, content, content.len())
        }

        fn sized(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8], size: usize) -> Self {
            let mut block = [0_u8; 512];
            block[..name.len()].copy_from_slice(name);
            block[100..107].copy_from_slice(b"0000644");
            block[108..115].copy_from_slice(b"0000000");
            block[116..123].copy_from_slice(b"0000000");
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
            block[136..147].copy_from_slice(b"00000000000");
            block[156] = kind;
            block[157..157 + link.len()].copy_from_slice(link);
            block[257..265].copy_from_slice(b"ustar\x0000");
            Self::sum(&mut block);
            self.0.extend_from_slice(&block);
            self.0.extend_from_slice(content);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
            self
        }

        fn sum(block: &mut [u8]) {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }

        fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
            let mut body = Vec::new();
            for (key, value) in records {
                let rest = key.len() + value.len() + 3;
                let length = (rest..rest + 9).find(|length| rest + length.to_string().len() == *length).unwrap();
                body.extend_from_slice(format!("{length} {key}=").as_bytes());
                body.extend_from_slice(value);
                body.push(b'\n');
            }
            self.entry(kind, b"pax", b"", &body)
        }

        fn end(mut self) -> Vec<u8> {
            self.0.extend_from_slice(&END);
            self.0
        }
    }

    fn read(layers: &[Vec<u8>]) -> Result<Tree, LayerReadError> {
        let mut reader = LayerReader::new(Limits::default());
        for layer in layers {
            reader.read(&layer[..], None, &mut Hashing::default())?;
        }
        Ok(reader.into_tree())
    }

    fn said(error: &LayerReadError) -> String {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one line for each case")]
    fn hostile_layers_are_refused() {
        let new = RawTar::new;
        let long = "a/".repeat(5000);
        let huge = vec![b'x'; 10 << 20];
        let below = |lower: RawTar, upper: RawTar| vec![lower.end(), upper.end()];
        let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
            ("dot-dot", vec![new().entry(b'0', b"../x", b"", b"x").end()]),
            ("dot-dot inside", vec![new().entry(b'0', b"a/../../x", b"", b"x").end()]),
            ("absolute", vec![new().entry(b'0', b"/etc/passwd", b"", b"x").end()]),
            (
                "a link, then a write through it",
                vec![new().entry(b'2', b"a", b"/etc", b"").entry(b'0', b"a/passwd", b"", b"x").end()],
            ),
            (
                "a write through a lower link",
                below(new().entry(b'2', b"a", b"/etc", b""), new().entry(b'0', b"a/passwd", b"", b"x")),
            ),
            ("a hard link out", vec![new().entry(b'1', b"a", b"../../etc/passwd", b"").end()]),
            ("an absolute hard link", vec![new().entry(b'1', b"a", b"/etc/passwd", b"").end()]),
            ("a hard link to nothing", vec![new().entry(b'1', b"a", b"b", b"").end()]),
            ("a hard link into a lower layer", below(new().entry(b'0', b"b", b"", b"x"), new().entry(b'1', b"a", b"b", b""))),
            ("a hard link to a link", vec![new().entry(b'2', b"b", b"c", b"").entry(b'1', b"a", b"b", b"").end()]),
            ("a body behind a hard link", vec![new().entry(b'0', b"b", b"", b"x").entry(b'1', b"a", b"b", b"x").end()]),
            ("a pax path out", vec![new().pax(b'x', &[("path", b"../x")]).entry(b'0', b"ok", b"", b"x").end()]),
            ("a pax path with a NUL", vec![new().pax(b'x', &[("path", b"a\0b")]).entry(b'0', b"ok", b"", b"x").end()]),
            ("two pax paths", vec![new().pax(b'x', &[("path", b"a"), ("path", b"b")]).entry(b'0', b"ok", b"", b"x").end()]),
            ("a global pax path", vec![new().pax(b'g', &[("path", b"a")]).entry(b'0', b"ok", b"", b"x").end()]),
            ("a pax header at the end", vec![new().pax(b'x', &[("path", b"a")]).end()]),
            ("a smuggled size", vec![new().pax(b'x', &[("size", b"0")]).entry(b'0', b"ok", b"", &[b'x'; 1024]).end()]),
            ("a smuggled size the other way", vec![new().pax(b'x', &[("size", b"1024")]).entry(b'0', b"ok", b"", b"").end()]),
            (
                "GNU and pax names",
                vec![new().entry(b'L', b"l", b"", b"a\0").pax(b'x', &[("path", b"b")]).entry(b'0', b"c", b"", b"").end()],
            ),
            ("a root that is a link", vec![new().entry(b'2', b"./", b"/", b"").end()]),
            ("a root that is a file", vec![new().entry(b'0', b".", b"", b"x").end()]),
            ("a file named as a folder", vec![new().entry(b'0', b"a/", b"", b"").end()]),
            ("dev as a link", vec![new().entry(b'2', b"dev", b"/etc", b"").end()]),
            ("proc as a link", vec![new().entry(b'2', b"./proc", b"/etc", b"").end()]),
            ("the removal of nothing", vec![new().entry(b'0', b"a/.wh.", b"", b"").end()]),
            ("the removal of ..", vec![new().entry(b'0', b".wh...", b"", b"").end()]),
            ("the removal of .", vec![new().entry(b'0', b".wh..", b"", b"").end()]),
            ("a removal out of the tree", vec![new().entry(b'0', b".wh../x", b"", b"").end()]),
            ("the removal of a removal", vec![new().entry(b'0', b".wh..wh.x", b"", b"").end()]),
            ("a removal with content", vec![new().entry(b'0', b".wh.x", b"", b"x").end()]),
            ("a removal that is a folder", vec![new().entry(b'5', b".wh.x/", b"", b"").end()]),
            ("an entry below a removal", vec![new().entry(b'0', b".wh.x/y", b"", b"").end()]),
            (
                "the removal of what the layer states",
                vec![new().entry(b'0', b"x/y", b"", b"").entry(b'0', b".wh.x", b"", b"").end()],
            ),
            (
                "an opaque folder through a link",
                below(new().entry(b'2', b"a", b"/", b""), new().entry(b'0', b"a/.wh..wh..opq", b"", b"")),
            ),
            ("a device", vec![new().entry(b'3', b"a", b"", b"").end()]),
            ("a block device", vec![new().entry(b'4', b"a", b"", b"").end()]),
            ("a pipe", vec![new().entry(b'6', b"a", b"", b"").end()]),
            ("a sparse file", vec![new().entry(b'S', b"a", b"", b"").end()]),
            ("a sparse pax file", vec![new().pax(b'x', &[("GNU.sparse.size", b"9")]).entry(b'0', b"a", b"", b"x").end()]),
            ("an unknown type", vec![new().entry(b'Z', b"a", b"", b"").end()]),
            (
                "an attribute of 10 MB",
                vec![new().pax(b'x', &[("SCHILY.xattr.user.x", &huge[..])]).entry(b'0', b"a", b"", b"").end()],
            ),
            (
                "an attribute of overlayfs",
                vec![new().pax(b'x', &[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).entry(b'5', b"a/", b"", b"").end()],
            ),
            ("depth 5,000", vec![new().pax(b'x', &[("path", long.as_bytes())]).entry(b'0', b"a", b"", b"x").end()]),
            ("depth 1,000", vec![new().pax(b'x', &[("path", &long.as_bytes()[..2001])]).entry(b'0', b"a", b"", b"x").end()]),
            ("no UTF-8", vec![new().entry(b'0', b"a\xff", b"", b"x").end()]),
            ("a line end", vec![new().entry(b'0', b"a\nb", b"", b"x").end()]),
            ("an escape", vec![new().entry(b'0', b"a\x1b[2J", b"", b"x").end()]),
            ("another direction", vec![new().entry(b'0', "a\u{202e}b".as_bytes(), b"", b"x").end()]),
            ("a file twice", vec![new().entry(b'0', b"a", b"", b"x").entry(b'0', b"a", b"", b"y").end()]),
            ("a folder, then a link", vec![new().entry(b'5', b"a/", b"", b"").entry(b'2', b"a", b"/", b"").end()]),
            ("no end", vec![new().entry(b'0', b"a", b"", b"x").0]),
            ("a cut body", vec![new().sized(b'0', b"a", b"", b"x", 4096).0]),
            ("an archive behind the end", vec![[new().end(), new().entry(b'0', b"a", b"", b"").end()].concat()]),
            ("half an end", vec![[vec![0; 512], new().entry(b'0', b"a", b"", b"").end()].concat()]),
            (
                "a wrong checksum",
                vec![{
                    let mut tar = new().entry(b'0', b"a", b"", b"").end();
                    tar[0] = b'b';
                    tar
                }],
            ),
            (
                "a size that is none",
                vec![{
                    let mut tar = new().entry(b'0', b"a", b"", b"").end();
                    tar[124] = 0xff;
                    RawTar::sum(&mut tar[..512]);
                    tar
                }],
            ),
            (
                "a size without end",
                vec![{
                    let mut tar = new().entry(b'0', b"a", b"", b"").end();
                    tar[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
                    RawTar::sum(&mut tar[..512]);
                    tar
                }],
            ),
        ];
        let mut text = String::new();
        for (name, layers) in cases {
            let error = read(&layers).err().unwrap_or_else(|| panic!("{name} was accepted"));
            let _ = writeln!(text, "{name}: {}", said(&error));
        }
        assert!(text.bytes().all(|byte| byte == b'\n' || (32..127).contains(&byte)), "{text:?}");
        insta::assert_snapshot!("hostile_layers", text);
    }

    #[test]
    fn a_million_empty_entries_and_a_bomb_are_refused_early() {
        struct Endless(u32, Vec<u8>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.1.is_empty() {
                    self.0 += 1;
                    self.1 = RawTar::new().entry(b'0', format!("{:07}", self.0).as_bytes(), b"", b"").0;
                }
                let read = self.1.len().min(buffer.len());
                buffer[..read].copy_from_slice(&self.1[..read]);
                self.1.drain(..read);
                Ok(read)
            }
        }
        let limits = Limits { entries: 10_000, ..Limits::default() };
        let error =
            LayerReader::new(limits).read(BufReader::new(Endless(0, Vec::new())), None, &mut Hashing::default()).unwrap_err();
        assert!(matches!(error, LayerReadError::TooManyEntries(10_000)), "{error}");

        let bomb = RawTar::new().sized(b'0', b"a", b"", b"", 1 << 30).0;
        let bomb = BufReader::new(bomb.chain(io::repeat(0)));
        let limits = Limits { layer: 1 << 20, ..Limits::default() };
        let error = LayerReader::new(limits).read(bomb, None, &mut Hashing::default()).unwrap_err();
        assert!(matches!(error, LayerReadError::TooLarge(_)), "{error}");

        let names = Limits { names: 10, ..Limits::default() };
        let tar = RawTar::new().entry(b'0', b"abcdefghijk", b"", b"").end();
        let error = LayerReader::new(names).read(&tar[..], None, &mut Hashing::default()).unwrap_err();
        assert!(matches!(error, LayerReadError::TooManyNames(10)), "{error}");
    }

    #[test]
    fn odd_names_are_read_where_that_is_asked_for() {
        let tar = RawTar::new().entry(b'0', b"a\xff\n", b"", b"x").end();
        let mut reader = LayerReader::new(Limits { odd_names: true, ..Limits::default() });
        reader.read(&tar[..], None, &mut Hashing::default()).unwrap();
        assert_eq!(reader.into_tree().iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), [r"/a\xff\x0a"]);
    }

    #[test]
    fn an_opaque_folder_hides_what_is_below_and_keeps_what_its_layer_states() {
        let lower = RawTar::new()
            .entry(b'0', b"a/old", b"", b"x")
            .entry(b'0', b"a/b/old", b"", b"x")
            .entry(b'0', b"a-b", b"", b"x")
            .end();
        let upper = RawTar::new().entry(b'0', b"a/b/new", b"", b"x").entry(b'0', b"a/.wh..wh..opq", b"", b"").end();
        let tree = read(&[lower, upper]).unwrap();
        assert_eq!(tree.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["/a", "/a-b", "/a/b", "/a/b/new"]);
    }

    #[test]
    fn large_numbers_and_long_names_of_gnu_are_read() {
        let name = [&b"n".repeat(200)[..], b"\0"].concat();
        let mut tar = RawTar::new().entry(b'L', b"././@LongLink", b"", &name).entry(b'0', b"short", b"", b"x").end();
        tar[1024 + 108..1024 + 116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff");
        RawTar::sum(&mut tar[1024..1536]);
        let tree = read(&[tar]).unwrap();
        assert_eq!(tree.get(&b"n".repeat(200)).unwrap().uid, u32::MAX);
    }

    #[test]
    fn a_layer_whose_tar_is_another_than_the_configuration_promises_is_seen() {
        let tar = RawTar::new().entry(b'0', b"a", b"", b"x").end();
        let found = LayerReader::new(Limits::default()).read(&tar[..], None, &mut Hashing::default()).unwrap();
        assert_eq!(found, DiffId::of(&tar));
        let padded = [tar, vec![0; 9000]].concat();
        let found = LayerReader::new(Limits::default()).read(&padded[..], None, &mut Hashing::default()).unwrap();
        assert_eq!(found, DiffId::of(&padded), "what stands behind the end counts too");
    }

    fn memory() -> Memory {
        let mut memory = Memory::default();
        for letter in 0..4 {
            memory.file(&[letter]);
        }
        memory
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            packages in prop::collection::vec(any_tree(), 3),
            first in any_tree(),
            second in any_tree(),
            compressor in prop_oneof![Just(Compressor::Gzip), Just(Compressor::Zstd)],
        ) {
            let memory = memory();
            let mut reader = LayerReader::new(Limits::default());
            let mut stored = Stored::default();
            let names = PACKAGES.map(package);
            let steps = [(&Tree::new(), groups(&names, &packages), &first), (&first, Vec::new(), &second)];
            for (parent, groups, tree) in steps {
                for plan in plan_layers(parent, &groups, &BTreeSet::new(), tree) {
                    for part in &plan.parts {
                        if let Part::Segment { tree, .. } = part {
                            let written = segment::write(tree, &memory, compressor, None, Vec::new()).unwrap();
                            stored.0.insert(segment::key(tree, compressor), written);
                        }
                    }
                    let (bytes, blob) = assemble(&plan.parts, &memory, &stored, compressor, None, Vec::new()).unwrap();
                    let found = reader.read(&blob[..], Some(compressor), &mut Hashing::default()).unwrap();
                    prop_assert_eq!(found, bytes.diff_id);
                }
            }
            let found = alone(&reader.into_tree());
            prop_assert!(found.same_files(&alone(&second)), "{}\n{}", found.to_text(), alone(&second).to_text());
        }

        #[test]
        fn no_bytes_whatever_make_the_reader_panic(start in any_tree(), at in 0_usize..4096, byte in any::<u8>()) {
            let memory = memory();
            let mut tar = TarWriter::new(Vec::new());
            for (path, entry) in start.iter() {
                tar.put(path, entry, &memory).unwrap();
            }
            let mut tar = tar.into_inner();
            if let Some(target) = tar.get_mut(at) {
                *target = byte;
                let block = at / 512 * 512;
                RawTar::sum(&mut tar[block..block + 512]);
            }
            let _ = read(&[tar]);
        }
    }

    #[test]
    fn links_between_names_come_back_as_links() {
        let memory = memory();
        let mut file = Memory::default().file(&[1]);
        if let Kind::File { shared, .. } = &mut file.kind {
            *shared = true;
        }
        let changes = ["a", "b"].map(|name| Change::Put(path(name), file.clone())).to_vec();
        let (_, blob) =
            assemble(&[Part::Entries(changes)], &memory, &Stored::default(), Compressor::Gzip, None, Vec::new()).unwrap();
        let mut reader = LayerReader::new(Limits::default());
        reader.read(&blob[..], Some(Compressor::Gzip), &mut Hashing::default()).unwrap();
        let tree = reader.into_tree();
        assert!(["a", "b"].iter().all(|name| tree.get(name.as_bytes()).unwrap().same_bytes(&file)));
    }
}
