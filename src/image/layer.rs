//! Layers: which entries stand in which layer, and the bytes of a layer.
//!
//! Packages come first, as whole segments that every image with the same package shares. What the finished tree has
//! otherwise is stated by up to four layers on top, from what moves least to what moves most often by hand: what the
//! scripts made, the package database, what Composer installed, the recipe's own files. The union of all layers is the finished tree, but for the
//! links between several names of one file, which only hold within a segment or within such a layer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read, Write};

use super::member::{Compressor, MemberWriter, Pool};
use super::segment::{self, Counted, SegmentInfo};
use super::tar::{Contents, END, TarError, TarWriter};
use crate::model::digest::{BlobDigest, DiffId, Hasher, SegmentKey, StepKey};
use crate::model::lock::WRITER;
use crate::model::name::PackageName;
use crate::model::tree::{Change, Entry, Kind, Origin, Tree, TreePath};

/// An unpacked package, as it goes into a group.
#[derive(Debug, Clone, Copy)]
pub struct PackageTree<'a> {
    pub name: &'a PackageName,
    pub version: &'a str,
    pub tree: &'a Tree,
}

/// One layer that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerPlan {
    /// What is in it, for people: `openssl 3.5.1 + 2 more packages`.
    pub title: String,
    /// What made it, for the history.
    pub created_by: String,
    pub parts: Vec<Part>,
}

/// A piece of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The segment of a package: stored, or to be made and stored.
    Segment { package: PackageName, tree: Tree },
    /// Edits, in the order in which they are written.
    Entries(Vec<Change>),
}

impl LayerPlan {
    /// Returns the key of the layer's bytes: everything that they depend on.
    #[must_use]
    pub fn key(&self, compressor: Compressor) -> StepKey {
        let mut hasher = Hasher::new();
        hasher.update(format!("parvis-layer {WRITER} {compressor}\n").as_bytes());
        for part in &self.parts {
            let text = match part {
                Part::Segment { tree, .. } => format!("segment {}\n", segment::key(tree, compressor)),
                Part::Entries(changes) => changes_text(changes),
            };
            hasher.update(text.as_bytes());
        }
        hasher.finish()
    }
}

/// Returns edits as text: the removals, then the tree of what is put.
fn changes_text(changes: &[Change]) -> String {
    let mut text = "entries\n".to_owned();
    let mut put = Tree::new();
    for change in changes {
        match change {
            Change::Put(path, entry) => put.put(path.clone(), entry.clone()),
            // Writing to a String cannot fail.
            Change::Remove(path) => {
                let _ = writeln!(text, "remove {path}");
            }
        }
    }
    text + &put.to_text()
}

/// Divides what an image adds to its parent into layers.
///
/// `removed` holds the paths that the recipe's `remove` takes out of the image's own packages: they are left out of the
/// packages' segments, so that their bytes are really gone.
#[must_use]
pub fn plan_layers(
    parent: &Tree,
    groups: &[Vec<PackageTree<'_>>],
    removed: &BTreeSet<TreePath>,
    finished: &Tree,
) -> Vec<LayerPlan> {
    let mut union = parent.clone();
    let mut plans = Vec::new();
    for group in groups.iter().filter(|group| !group.is_empty()) {
        let overlaps = Overlaps::of(group);
        let mut folders: BTreeMap<TreePath, Entry> = BTreeMap::new();
        let mut parts = Vec::new();
        for (index, package) in group.iter().enumerate() {
            let is_removed = |path: &TreePath| {
                finished.get(path.as_bytes()).is_none()
                    && !removed.is_empty()
                    && ancestors(path).any(|above| removed.contains(&above))
            };
            let left_out = |path: &TreePath, entry: &Entry| is_removed(path) || overlaps.replaced(index, path, entry);
            let kept = kept_tree(package.tree, left_out);
            for (path, entry) in kept.iter().filter(|(path, entry)| entry.is_directory() && !path.is_root()) {
                // As dpkg has it: base-files says what a folder is, else the first by name.
                if package.name.as_str() == "base-files" || !folders.contains_key(path) {
                    folders.insert(path.clone(), entry.clone());
                }
            }
            parts.push(Part::Segment { package: package.name.clone(), tree: segment_tree(&kept) });
        }
        let stated = folders.into_iter().map(|(path, entry)| Change::Put(path, entry)).collect();
        parts.insert(0, Part::Entries(stated));
        for part in &parts {
            match part {
                Part::Entries(changes) => changes.iter().cloned().for_each(|change| union.apply(change)),
                Part::Segment { tree, .. } => tree.iter().for_each(|(path, entry)| union.put(path.clone(), entry.clone())),
            }
        }
        plans.push(LayerPlan { title: group_title(group), created_by: group_history(group), parts });
    }
    plans.extend(top_layers(union, finished));
    plans
}

/// Where packages of one group have the same paths: the last one keeps what is no folder, so that no path stands twice in
/// a layer or as two kinds of thing.
struct Overlaps<'a> {
    last: BTreeMap<&'a TreePath, usize>,
    last_no_folder: BTreeMap<&'a TreePath, usize>,
    /// Whether some path is a folder in one package and none in another.
    mixed: bool,
}

impl<'a> Overlaps<'a> {
    fn of(group: &[PackageTree<'a>]) -> Self {
        let mut overlaps = Self { last: BTreeMap::new(), last_no_folder: BTreeMap::new(), mixed: false };
        if group.len() < 2 {
            return overlaps;
        }
        let mut folders = BTreeSet::new();
        for (index, package) in group.iter().enumerate() {
            for (path, entry) in package.tree.iter() {
                overlaps.last.insert(path, index);
                if entry.is_directory() {
                    folders.insert(path);
                } else {
                    overlaps.last_no_folder.insert(path, index);
                }
            }
        }
        overlaps.mixed = overlaps.last_no_folder.keys().any(|path| folders.contains(path));
        overlaps
    }

    /// Returns whether a package after this one has something else at the path, or above it something that is no folder.
    fn replaced(&self, index: usize, path: &TreePath, entry: &Entry) -> bool {
        let later = |last: &BTreeMap<&TreePath, usize>, path: &TreePath| last.get(path).is_some_and(|last| *last > index);
        later(if entry.is_directory() { &self.last_no_folder } else { &self.last }, path)
            || self.mixed && ancestors(path).skip(1).any(|above| later(&self.last_no_folder, &above))
    }
}

/// Returns what a package's segment is made of: all but its folders.
///
/// Several packages have the same folders, and Docker refuses a layer in which a path stands twice: so a layer begins with
/// the folders of all its packages.
#[must_use]
pub fn segment_tree(package: &Tree) -> Tree {
    package.iter().filter(|(_, entry)| !entry.is_directory()).map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

/// Returns what of a package goes into its layer: without what is to be left out, with every parent folder stated.
///
/// Engines give a folder that no entry of the layer states whatever mode they like (Docker 20.10: 0600).
fn kept_tree(tree: &Tree, left_out: impl Fn(&TreePath, &Entry) -> bool) -> Cow<'_, Tree> {
    let has_parent =
        |path: &TreePath| path.parent().is_none_or(|parent| parent.is_root() || tree.get(parent.as_bytes()).is_some());
    if tree.iter().all(|(path, entry)| !left_out(path, entry) && has_parent(path)) {
        return Cow::Borrowed(tree);
    }
    let mut kept = Tree::new();
    for (path, entry) in tree.iter().filter(|(path, entry)| !left_out(path, entry)) {
        let missing: Vec<TreePath> = ancestors(path).skip(1).filter(|above| kept.get(above.as_bytes()).is_none()).collect();
        for above in missing {
            kept.put(above, Entry::directory(0o755, entry.origin.clone()));
        }
        kept.put(path.clone(), entry.clone());
    }
    Cow::Owned(kept)
}

/// Returns a path and all folders above it except the root, from the inside out.
fn ancestors(path: &TreePath) -> impl Iterator<Item = TreePath> + use<> {
    std::iter::successors(Some(path.clone()), TreePath::parent).take_while(|path| !path.is_root())
}

/// The layers on top, from the bottom up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Top {
    Scripts,
    Database,
    Composer,
    Recipe,
}

impl Top {
    fn of(change: &Change) -> Self {
        let Change::Put(path, entry) = change else { return Self::Scripts };
        let path = path.as_bytes();
        match entry.origin {
            Origin::Recipe { .. } => Self::Recipe,
            Origin::Composer(_) => Self::Composer,
            Origin::Parvis => Self::Database,
            // What changes with every package that is installed, although a script writes it.
            _ if !entry.is_directory() && (path.starts_with(b"var/lib/dpkg/") || path == b"etc/ld.so.cache") => Self::Database,
            Origin::Package(_) | Origin::Script(_) | Origin::Run { .. } => Self::Scripts,
        }
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Scripts => ("what the packages' scripts made", "parvis: dpkg --configure, run"),
            Self::Database => ("package database and accounts", "parvis: dpkg database"),
            Self::Composer => ("packages of Composer", "parvis: composer install"),
            Self::Recipe => ("files of the recipe", "parvis: files, copy"),
        }
    }
}

fn top_layers(mut union: Tree, finished: &Tree) -> Vec<LayerPlan> {
    // Engines make the root folder themselves; a layer states it only where it is another one.
    let root = || (TreePath::root(), Entry::directory(0o755, Origin::Parvis));
    if union.get(b"").is_none() {
        let (path, entry) = root();
        union.put(path, entry);
    }
    let with_root;
    let finished = if finished.get(b"").is_some() {
        finished
    } else {
        with_root = finished.iter().map(|(path, entry)| (path.clone(), entry.clone())).chain([root()]).collect();
        &with_root
    };
    let mut layers: BTreeMap<Top, Vec<Change>> = BTreeMap::new();
    for change in union.changes_to(finished) {
        let unchanged = matches!(&change, Change::Put(path, entry) if union.get(path.as_bytes()).is_some_and(|old| same_but_links(old, entry)));
        if !unchanged {
            layers.entry(Top::of(&change)).or_default().push(change);
        }
    }
    let plan = |(top, changes): (Top, Vec<Change>)| {
        let (title, created_by) = top.words();
        let parts = vec![Part::Entries(with_parents(changes, finished))];
        LayerPlan { title: title.to_owned(), created_by: created_by.to_owned(), parts }
    };
    layers.into_iter().map(plan).collect()
}

/// Returns whether two entries differ at most in whether the file has other names.
fn same_but_links(old: &Entry, new: &Entry) -> bool {
    let alone = |entry: &Entry| {
        let mut entry = entry.clone();
        if let Kind::File { shared, .. } = &mut entry.kind {
            *shared = false;
        }
        entry
    };
    old.same_bytes(new) || alone(old).same_bytes(&alone(new))
}

/// Adds the folders above each edit as the finished tree has them, and puts all into the order of their paths.
fn with_parents(changes: Vec<Change>, finished: &Tree) -> Vec<Change> {
    let mut sorted: BTreeMap<TreePath, Change> = BTreeMap::new();
    for change in &changes {
        for above in ancestors(change.path()).skip(1) {
            if let Some(entry) = finished.get(above.as_bytes()) {
                sorted.insert(above.clone(), Change::Put(above, entry.clone()));
            }
        }
    }
    sorted.extend(changes.into_iter().map(|change| (change.path().clone(), change)));
    sorted.into_values().collect()
}

fn group_title(group: &[PackageTree]) -> String {
    let size = |package: &PackageTree| package.tree.iter().map(|(_, entry)| file_size(entry)).sum::<u64>();
    let largest = group.iter().max_by(|a, b| size(a).cmp(&size(b)).then_with(|| b.name.cmp(a.name)));
    let named = largest.map(|package| format!("{} {}", package.name, package.version)).unwrap_or_default();
    match group.len() {
        0 | 1 => named,
        2 => format!("{named} + 1 more package"),
        more => format!("{named} + {} more packages", more - 1),
    }
}

fn group_history(group: &[PackageTree]) -> String {
    let mut text = "parvis: packages".to_owned();
    for package in group {
        let _ = write!(text, " {}={}", package.name, package.version);
    }
    text
}

const fn file_size(entry: &Entry) -> u64 {
    match entry.kind {
        Kind::File { size, .. } => size,
        _ => 0,
    }
}

/// Where stored segments are kept.
pub trait Segments: Sync {
    /// Opens a stored segment; `None` where there is none of this key.
    fn segment(&self, key: &SegmentKey) -> io::Result<Option<(SegmentInfo, Box<dyn Read + '_>)>>;
}

/// What came out of a layer's assembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBytes {
    /// The digest of the compressed layer.
    pub digest: BlobDigest,
    /// Bytes of the compressed layer.
    pub size: u64,
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub raw_size: u64,
}

/// A layer that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("the segment of the package `{package}` is not stored")]
    Missing { package: PackageName },
    #[error("the stored segment of the package `{package}` is damaged")]
    DamagedSegment { package: PackageName },
    #[error("the stored files of the package `{package}` are damaged")]
    DamagedFiles { package: PackageName },
    #[error("cannot read the stored segment of the package `{package}`")]
    Segment {
        package: PackageName,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("cannot write a layer")]
    Write(#[from] io::Error),
}

impl LayerError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } | Self::DamagedSegment { .. } | Self::DamagedFiles { .. } | Self::Segment { .. } => {
                Some("run `parvis store verify`; what is damaged is fetched or made again".into())
            }
            Self::Tar(error) => error.hint(),
            Self::Write(_) => None,
        }
    }
}

/// Writes a layer's blob and returns both of its digests.
///
/// Stored segments are copied as they are; their tar is made again from the files, only to be hashed. Checksums tell
/// when the two do not belong together.
pub fn assemble<W: Write>(
    parts: &[Part],
    contents: &dyn Contents,
    segments: &dyn Segments,
    compressor: Compressor,
    pool: Option<&Pool>,
    out: W,
) -> Result<(LayerBytes, W), LayerError> {
    let mut diff = Hasher::new();
    let mut raw_size = 0;
    let mut blob = Counted::hashed(out);
    for part in parts {
        raw_size += match part {
            Part::Segment { package, tree } => copy_segment(package, tree, contents, segments, compressor, &mut diff, &mut blob)?,
            Part::Entries(changes) => {
                let mut tar = TarWriter::guarded(Split { diff: &mut diff, size: 0, out: members(&mut blob, compressor, pool)? });
                changes.iter().try_for_each(|change| tar.change(change, contents))?;
                let Split { size, out, .. } = tar.into_inner();
                out.finish()?;
                size
            }
        };
    }
    let mut end = members(&mut blob, compressor, None)?;
    end.write_all(&END)?;
    end.finish()?;
    diff.update(&END);
    let raw_size = raw_size + END.len() as u64;
    let Counted { out, size, hasher, .. } = blob;
    let digest = hasher.unwrap_or_default().finish();
    Ok((LayerBytes { digest, size, diff_id: diff.finish(), raw_size }, out))
}

fn members<W: Write>(out: W, compressor: Compressor, pool: Option<&Pool>) -> io::Result<MemberWriter<'_, W>> {
    match pool {
        Some(pool) => Ok(MemberWriter::pooled(out, pool)),
        None => MemberWriter::new(out, compressor),
    }
}

/// Copies a stored segment and hashes the tar that it holds; returns the size of the tar.
fn copy_segment<W: Write>(
    package: &PackageName,
    tree: &Tree,
    contents: &dyn Contents,
    segments: &dyn Segments,
    compressor: Compressor,
    diff: &mut Hasher,
    blob: &mut Counted<W>,
) -> Result<u64, LayerError> {
    let unreadable = |source| LayerError::Segment { package: package.clone(), source };
    let found = segments.segment(&segment::key(tree, compressor)).map_err(unreadable)?;
    let (info, mut stored) = found.ok_or_else(|| LayerError::Missing { package: package.clone() })?;

    let mut copy = Counted::plain(&mut *blob);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stored.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) if copy.size + read as u64 <= info.stored_size => copy.write_all(&buffer[..read])?,
            Ok(_) => return Err(LayerError::DamagedSegment { package: package.clone() }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    if (copy.size, copy.crc.sum()) != (info.stored_size, info.stored_crc) {
        return Err(LayerError::DamagedSegment { package: package.clone() });
    }

    let mut tar = TarWriter::new(Counted::plain(Split { diff, size: 0, out: io::sink() }));
    segment::write_entries(tree, contents, &mut tar)?;
    let raw = tar.into_inner();
    if (raw.size, raw.crc.sum()) != (info.raw_size, info.raw_crc) {
        return Err(LayerError::DamagedFiles { package: package.clone() });
    }
    Ok(raw.size)
}

/// Hashes the tar on its way to the compressor.
struct Split<'a, W> {
    diff: &'a mut Hasher,
    size: u64,
    out: W,
}

impl<W: Write> Write for Split<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.diff.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::tar::testing::{Memory, path};
    use super::*;

    pub(in crate::image) fn package(text: &str) -> PackageName {
        text.parse().unwrap()
    }

    pub(in crate::image) const PACKAGES: [&str; 3] = ["base-files", "libc6", "openssl"];

    fn any_origin() -> impl Strategy<Value = Origin> {
        prop_oneof![
            Just(Origin::Parvis),
            Just(Origin::Script(package("libc6"))),
            Just(Origin::Package(package("libc6"))),
            Just(Origin::Recipe { image: "httpd".parse().unwrap(), line: 7 }),
        ]
    }

    /// Contents are single letters, so that a [`Memory`] can hold them all.
    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            3 => Just(None),
            4 => (0_u8..4, any::<bool>()).prop_map(|(letter, shared)| Some((Some(letter), shared))),
            1 => Just(Some((None, false))),
        ];
        (kind, prop_oneof![Just(0o755_u16), Just(0o700)], 0_u32..2, 0_i64..2, any_origin()).prop_map(
            |(kind, mode, uid, mtime, origin)| {
                let mut entry = match kind {
                    None => Entry::directory(mode, origin),
                    Some((None, _)) => Entry::symlink(b"elsewhere", mtime, origin),
                    Some((Some(letter), shared)) => {
                        let mut entry = Memory::default().file(&[letter]);
                        (entry.mode, entry.mtime, entry.origin) = (mode, mtime, origin);
                        if let Kind::File { shared: is_shared, .. } = &mut entry.kind {
                            *is_shared = shared;
                        }
                        entry
                    }
                };
                entry.uid = uid;
                entry
            },
        )
    }

    /// Builds a tree in which every parent is a folder, as in any real one.
    pub(in crate::image) fn any_tree() -> impl Strategy<Value = Tree> {
        let paths = prop::collection::vec("[abc]", 0..4).prop_map(|parts| parts.join("/"));
        prop::collection::vec((paths, any_entry()), 0..14).prop_map(|entries| {
            let mut tree = Tree::new();
            for (at, entry) in entries {
                let at = path(&at);
                if at.is_root() && !entry.is_directory() {
                    continue;
                }
                for folder in ancestors(&at).skip(1).collect::<Vec<_>>().into_iter().rev() {
                    if !tree.get(folder.as_bytes()).is_some_and(Entry::is_directory) {
                        tree.put(folder, Entry::directory(0o755, Origin::Parvis));
                    }
                }
                tree.put(at, entry);
            }
            tree
        })
    }

    /// Carries a plan's layers out on a tree, and fails where an entry has no folder in the same layer to stand in.
    fn apply(union: &mut Tree, plans: &[LayerPlan]) {
        for plan in plans {
            let mut stated = BTreeSet::new();
            let mut put = |union: &mut Tree, change: Change| {
                for folder in ancestors(change.path()).skip(1) {
                    assert!(stated.contains(&folder), "{}: {folder} is not stated for {}", plan.title, change.path());
                }
                let twice = !stated.insert(change.path().clone());
                let folder = matches!(&change, Change::Put(_, entry) if entry.is_directory());
                assert!(
                    !twice || folder || union.get(change.path().as_bytes()).is_some_and(Entry::is_directory),
                    "{}",
                    change.path()
                );
                union.apply(change);
            };
            for part in &plan.parts {
                match part {
                    Part::Segment { tree, .. } => {
                        for (path, entry) in tree.iter().filter(|(path, _)| !path.is_root()) {
                            put(union, Change::Put(path.clone(), entry.clone()));
                        }
                    }
                    Part::Entries(changes) => changes.iter().for_each(|change| put(union, change.clone())),
                }
            }
        }
    }

    /// Returns a tree as layers can state it: with a root, and without links between names.
    pub(in crate::image) fn alone(tree: &Tree) -> Tree {
        let mut alone: Tree = [(TreePath::root(), Entry::directory(0o755, Origin::Parvis))].into_iter().collect();
        for (path, entry) in tree.iter() {
            let mut entry = entry.clone();
            if let Kind::File { shared, .. } = &mut entry.kind {
                *shared = false;
            }
            alone.put(path.clone(), entry);
        }
        alone
    }

    pub(in crate::image) fn groups<'a>(names: &'a [PackageName], trees: &'a [Tree]) -> Vec<Vec<PackageTree<'a>>> {
        let packages: Vec<_> = names.iter().zip(trees).map(|(name, tree)| PackageTree { name, version: "1", tree }).collect();
        vec![packages[..1].to_vec(), packages[1..].to_vec()]
    }

    proptest! {
        #[test]
        fn the_union_of_the_layers_is_the_finished_tree(
            parent in any_tree(),
            trees in prop::collection::vec(any_tree(), 3),
            removed in prop::collection::btree_set("[abc](/[abc])?", 0..2),
            finished in any_tree(),
        ) {
            let names = PACKAGES.map(package);
            let removed = removed.iter().map(|text| path(text)).collect();
            let plans = plan_layers(&parent, &groups(&names, &trees), &removed, &finished);
            let mut union = parent.clone();
            if union.get(b"").is_none() {
                union.put(TreePath::root(), Entry::directory(0o755, Origin::Parvis));
            }
            apply(&mut union, &plans);
            prop_assert!(alone(&union).same_files(&alone(&finished)), "{}\n{}", union.to_text(), finished.to_text());
        }
    }

    fn sample() -> (Memory, Tree, Tree) {
        let mut memory = Memory::default();
        let origin = || Origin::Package(package("openssl"));
        let mut tree = Tree::new();
        for folder in ["", "usr", "usr/share", "usr/share/doc"] {
            tree.put(path(folder), Entry::directory(0o755, origin()));
        }
        for (at, content) in [("usr/openssl", "program"), ("usr/share/doc/a", "secret"), ("usr/share/doc/b", "b")] {
            tree.put(path(at), Entry { origin: origin(), ..memory.file(content.as_bytes()) });
        }
        let mut finished = tree.clone();
        finished.remove(&path("usr/share/doc"));
        let script = Origin::Script(package("openssl"));
        finished.put(path("usr/made"), Entry { origin: script, ..memory.file(b"made") });
        finished.put(path("usr/status"), memory.file(b"status"));
        let recipe = Origin::Recipe { image: "base".parse().unwrap(), line: 3 };
        finished.put(path("usr/page"), Entry { origin: recipe, ..memory.file(b"page") });
        (memory, tree, finished)
    }

    #[test]
    fn no_path_stands_twice_in_a_layer_whatever_its_packages_share() {
        let mut memory = Memory::default();
        let (one, two): (PackageName, PackageName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let mut tree = |file: &str| -> Tree {
            let entry = memory.file(file.as_bytes());
            ["usr", "usr/share"]
                .map(|at| (path(at), Entry::directory(0o755, Origin::Parvis)))
                .into_iter()
                .chain([(path(file), entry)])
                .collect()
        };
        let (first, second) = (tree("usr/share/a"), tree("usr/share/b"));
        let group =
            vec![PackageTree { name: &one, version: "1", tree: &first }, PackageTree { name: &two, version: "1", tree: &second }];
        let finished: Tree = first.iter().chain(second.iter()).map(|(path, entry)| (path.clone(), entry.clone())).collect();
        for plan in plan_layers(&Tree::new(), &[group], &BTreeSet::new(), &finished) {
            let mut seen = BTreeSet::new();
            for part in &plan.parts {
                let paths: Vec<TreePath> = match part {
                    Part::Entries(changes) => changes.iter().map(|change| change.path().clone()).collect(),
                    Part::Segment { tree, .. } => tree.iter().map(|(path, _)| path.clone()).collect(),
                };
                for path in paths {
                    assert!(seen.insert(path.clone()), "{path} stands twice in `{}`", plan.title);
                }
            }
        }
    }

    #[test]
    fn what_the_recipe_removes_is_in_no_layer_and_needs_no_whiteout() {
        let (_, tree, finished) = sample();
        let name = package("openssl");
        let groups = [vec![PackageTree { name: &name, version: "3.5.1", tree: &tree }]];
        let plans = plan_layers(&Tree::new(), &groups, &BTreeSet::from([path("usr/share/doc")]), &finished);
        let shown = format!("{plans:?}");
        assert!(!shown.contains("share/doc"), "{shown}");
        let plans = plan_layers(&Tree::new(), &groups, &BTreeSet::new(), &finished);
        assert!(format!("{plans:?}").contains("Remove(/usr/share/doc)"));
    }

    #[test]
    fn layers_come_in_the_order_packages_scripts_database_recipe() {
        let (_, tree, finished) = sample();
        let name = package("openssl");
        let other = package("libssl3t64");
        let empty = Tree::new();
        let group = vec![
            PackageTree { name: &other, version: "3.5.1", tree: &empty },
            PackageTree { name: &name, version: "3.5.1", tree: &tree },
        ];
        let plans = plan_layers(&Tree::new(), &[group], &BTreeSet::new(), &finished);
        let titles: Vec<_> = plans.iter().map(|plan| plan.title.as_str()).collect();
        let top = ["what the packages' scripts made", "package database and accounts", "files of the recipe"];
        assert_eq!(titles[0], "openssl 3.5.1 + 1 more package");
        assert_eq!(titles[1..], top);
    }

    #[derive(Default)]
    pub(in crate::image) struct Stored(pub BTreeMap<SegmentKey, (SegmentInfo, Vec<u8>)>);

    impl Segments for Stored {
        fn segment(&self, key: &SegmentKey) -> io::Result<Option<(SegmentInfo, Box<dyn Read + '_>)>> {
            Ok(self.0.get(key).map(|(info, bytes)| (*info, Box::new(&bytes[..]) as Box<dyn Read>)))
        }
    }

    #[test]
    fn both_digests_of_a_layer_are_those_of_its_bytes() {
        let (memory, tree, finished) = sample();
        let name = package("openssl");
        let groups = [vec![PackageTree { name: &name, version: "3.5.1", tree: &tree }]];
        for compressor in [Compressor::Gzip, Compressor::Zstd] {
            let files = segment_tree(&tree);
            let (info, bytes) = segment::write(&files, &memory, compressor, None, Vec::new()).unwrap();
            let key = segment::key(&files, compressor);
            let stored = Stored([(key, (info, bytes.clone()))].into());
            for plan in plan_layers(&Tree::new(), &groups, &BTreeSet::new(), &finished) {
                let (found, blob) = assemble(&plan.parts, &memory, &stored, compressor, None, Vec::new()).unwrap();
                let pooled =
                    Pool::with(compressor, 2, |pool| assemble(&plan.parts, &memory, &stored, compressor, Some(pool), Vec::new()));
                assert_eq!(pooled.unwrap(), (found, blob.clone()));
                let mut raw = Vec::new();
                match compressor {
                    Compressor::Gzip => flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut raw).unwrap(),
                    Compressor::Zstd => zstd::stream::read::Decoder::new(&blob[..]).unwrap().read_to_end(&mut raw).unwrap(),
                };
                assert_eq!((found.digest, found.size), (BlobDigest::of(&blob), blob.len() as u64));
                assert_eq!((found.diff_id, found.raw_size), (DiffId::of(&raw), raw.len() as u64));
            }
            // Damage is told, not built in.
            let plan = &plan_layers(&Tree::new(), &groups, &BTreeSet::new(), &finished)[0];
            let mut damaged = bytes;
            damaged[20] ^= 1;
            let stored = Stored([(key, (info, damaged))].into());
            let assembled = assemble(&plan.parts, &memory, &stored, compressor, None, Vec::new());
            assert!(matches!(assembled, Err(LayerError::DamagedSegment { .. })));
        }
    }

    #[test]
    fn a_damaged_file_is_told_when_its_layer_is_put_together() {
        let (mut memory, tree, finished) = sample();
        let files = segment_tree(&tree);
        let (info, bytes) = segment::write(&files, &memory, Compressor::Gzip, None, Vec::new()).unwrap();
        let stored = Stored([(segment::key(&files, Compressor::Gzip), (info, bytes))].into());
        memory.0.insert(crate::model::digest::FileDigest::of(b"program"), b"pr0gram".to_vec());
        let name = package("openssl");
        let groups = [vec![PackageTree { name: &name, version: "3.5.1", tree: &tree }]];
        let plan = &plan_layers(&Tree::new(), &groups, &BTreeSet::new(), &finished)[0];
        let assembled = assemble(&plan.parts, &memory, &stored, Compressor::Gzip, None, Vec::new());
        assert!(matches!(assembled, Err(LayerError::DamagedFiles { .. })));
    }
}
