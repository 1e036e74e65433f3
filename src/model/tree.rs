//! A file tree as a value: what stands where, whose it is, and who put it there.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::digest::{FileDigest, TreeDigest};
use super::name::{ComposerName, ImageName, PackageName};

/// A path inside a tree: relative, no empty, `.` or `..` component, at most 4,095 bytes; the root is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<[u8]>);

/// A path that would leave the tree or cannot exist in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{path}` {reason}")]
pub struct InvalidPath {
    path: String,
    reason: &'static str,
}

impl TreePath {
    /// Returns the path of the tree's root.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([]))
    }

    /// Reads a path as archives and people write it: `./usr/bin/`, `/usr/bin` and `usr/bin` are the same.
    ///
    /// # Errors
    /// Refuses `..`, NUL bytes, and paths or components longer than the kernel's limits (4,095 and 255 bytes).
    pub fn parse(text: &[u8]) -> Result<Self, InvalidPath> {
        let refuse = |reason| InvalidPath { path: escape(&text[..text.len().min(200)]), reason };
        let mut path = Vec::with_capacity(text.len());
        for component in text.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("contains `..`")),
                _ if component.contains(&0) => return Err(refuse("contains a NUL byte")),
                _ if component.len() > 255 => return Err(refuse("has a component of more than 255 bytes")),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        if path.len() > 4095 {
            return Err(refuse("is longer than 4,095 bytes"));
        }
        Ok(Self(path.into()))
    }

    /// Returns the bytes, without a slash at either end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether this is the root of the tree.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the folder that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Returns the last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        &self.0[start..]
    }

    /// Returns the path of something below this one.
    ///
    /// # Errors
    /// As [`TreePath::parse`].
    pub fn join(&self, below: &[u8]) -> Result<Self, InvalidPath> {
        Self::parse(&[&self.0, b"/".as_slice(), below].concat())
    }

    /// Returns whether this path is `folder` or stands below it.
    #[must_use]
    pub fn is_within(&self, folder: &Self) -> bool {
        folder.is_root() || self.0.starts_with(&folder.0) && (self.0.len() == folder.0.len() || self.0[folder.0.len()] == b'/')
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("/")?;
        formatter.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Who put an entry where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// It was unpacked from a package.
    Package(PackageName),
    /// A maintainer script or trigger of a package made or changed it.
    Script(PackageName),
    /// A line of a recipe declares it.
    Recipe { image: ImageName, line: u32 },
    /// A command of a recipe's `run` made or changed it.
    Run { image: ImageName, line: u32 },
    /// It belongs to a package that Composer installed.
    Composer(ComposerName),
    /// parvis wrote it: the dpkg database, accounts, folders that nothing else claims.
    Parvis,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(formatter, "package:{name}"),
            Self::Script(name) => write!(formatter, "script:{name}"),
            Self::Recipe { image, line } => write!(formatter, "recipe:{image}:{line}"),
            Self::Run { image, line } => write!(formatter, "run:{image}:{line}"),
            Self::Composer(name) => write!(formatter, "composer:{name}"),
            Self::Parvis => formatter.write_str("parvis"),
        }
    }
}

impl Origin {
    /// Returns who it is in a person's words, `package openssl` or `recipes/httpd.yaml:12`; `None` for parvis itself.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        Some(match self {
            Self::Package(name) => format!("package {name}"),
            Self::Script(name) => format!("script of {name}"),
            Self::Recipe { image, line } => format!("recipes/{image}.yaml:{line}"),
            Self::Run { image, line } => format!("run of recipes/{image}.yaml:{line}"),
            Self::Composer(name) => format!("composer package {name}"),
            Self::Parvis => return None,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let place = |rest: &str| -> Option<(ImageName, u32)> {
            let (image, line) = rest.split_once(':')?;
            Some((image.parse().ok()?, line.parse().ok()?))
        };
        Some(match kind {
            "package" => Self::Package(rest.parse().ok()?),
            "script" => Self::Script(rest.parse().ok()?),
            "recipe" => place(rest).map(|(image, line)| Self::Recipe { image, line })?,
            "run" => place(rest).map(|(image, line)| Self::Run { image, line })?,
            "composer" => Self::Composer(rest.parse().ok()?),
            "parvis" if rest.is_empty() => Self::Parvis,
            _ => return None,
        })
    }
}

/// What kind of thing an entry is. Devices, sockets and pipes have no place in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file. `shared` says that it is one of several hard links with the same content and metadata.
    File { digest: FileDigest, size: u64, shared: bool },
    /// A symbolic link, with its target as written.
    Symlink { target: Box<[u8]> },
}

/// Extended attributes by name. Only `security.capability` and `user.*` are kept in images.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (0o7777). Always 0o777 for a symbolic link.
    pub mode: u16,
    /// Numeric owner inside the image.
    pub uid: u32,
    /// Numeric group inside the image.
    pub gid: u32,
    /// Seconds since 1970. Always 0 for a folder: its date would tell what else was unpacked beside it.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// Who put it there.
    pub origin: Origin,
}

impl Entry {
    /// Returns a folder owned by root.
    #[must_use]
    pub fn directory(mode: u16, origin: Origin) -> Self {
        Self { kind: Kind::Directory, mode, uid: 0, gid: 0, mtime: 0, xattrs: Xattrs::new(), origin }
    }

    /// Returns a regular file owned by root.
    #[must_use]
    pub fn file(digest: FileDigest, size: u64, mode: u16, mtime: i64, origin: Origin) -> Self {
        let kind = Kind::File { digest, size, shared: false };
        Self { kind, mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::new(), origin }
    }

    /// Returns a symbolic link owned by root.
    #[must_use]
    pub fn symlink(target: &[u8], mtime: i64, origin: Origin) -> Self {
        let kind = Kind::Symlink { target: target.into() };
        Self { kind, mode: 0o777, uid: 0, gid: 0, mtime, xattrs: Xattrs::new(), origin }
    }

    /// Returns whether this is a folder.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Returns whether both would be the same in a layer, whoever put them there.
    #[must_use]
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.mode == other.mode
            && self.uid == other.uid
            && self.gid == other.gid
            && self.mtime == other.mtime
            && self.xattrs == other.xattrs
    }
}

/// One edit of a tree, as a layer states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry stands at the path from now on. A folder keeps what is in it unless it replaces something else.
    Put(TreePath, Entry),
    /// The path and all below it is gone (a whiteout).
    Remove(TreePath),
}

impl Change {
    /// Returns the path that is changed.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Put(path, _) | Self::Remove(path) => path,
        }
    }
}

/// A text form that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of a tree's text form {reason}")]
pub struct InvalidTree {
    line: usize,
    reason: &'static str,
}

/// A file tree: every entry by its path, folders before what is in them.
///
/// The text form has one line per entry, fields separated by one space, bytes outside printable ASCII as `\xNN`:
///
/// ```text
/// parvis-tree 1
/// . d 755 0 0 0 package:base-files
/// usr/bin/env f 755 0 0 1749000000 48536 5b1c… package:coreutils
/// usr/bin/perl5.40.1 h 755 0 0 1749000000 4000000 77aa… package:perl-base
/// bin l 777 0 0 1749000000 usr/bin package:base-files
/// usr/bin/ping f 755 0 0 1749000000 90000 09af… package:iputils-ping security.capability=0100000200…
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

const HEADER: &str = "parvis-tree 1\n";

impl Tree {
    /// Returns the tree with nothing in it, not even a root.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the entry at a path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns all entries in the order of their paths; a folder comes before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter()
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns a folder's own entry and all entries below it.
    pub fn within<'a>(&'a self, folder: &'a TreePath) -> impl Iterator<Item = (&'a TreePath, &'a Entry)> {
        self.entries
            .range(folder.clone()..)
            .take_while(|(path, _)| path.0.starts_with(&folder.0))
            .filter(|(path, _)| path.is_within(folder))
    }

    /// Puts an entry at a path. What stood below a path that is no folder any more is gone.
    pub fn put(&mut self, path: TreePath, entry: Entry) {
        let keeps_children = entry.is_directory() && self.entries.get(&path).is_none_or(Entry::is_directory);
        if !keeps_children {
            self.remove(&path);
        }
        self.entries.insert(path, entry);
    }

    /// Removes a path and all below it; returns whether there was anything.
    pub fn remove(&mut self, path: &TreePath) -> bool {
        match self.entries.get(path) {
            Some(entry) if !entry.is_directory() => self.entries.remove(path).is_some(),
            found => {
                let found = found.is_some();
                let doomed: Vec<TreePath> = self.within(path).map(|(path, _)| path.clone()).collect();
                for path in &doomed {
                    self.entries.remove(path);
                }
                found || !doomed.is_empty()
            }
        }
    }

    /// Carries out one edit.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put(path, entry) => self.put(path, entry),
            Change::Remove(path) => {
                self.remove(&path);
            }
        }
    }

    /// Returns the edits that turn this tree into the newer one; origins do not count.
    ///
    /// A removed folder is one edit. Entries come in the order of their paths, removals first.
    #[must_use]
    pub fn changes_to(&self, newer: &Self) -> Vec<Change> {
        let mut removals: Vec<Change> = Vec::new();
        let mut last: Option<&TreePath> = None;
        for path in self.entries.keys() {
            if newer.entries.contains_key(path) || last.is_some_and(|folder| path.is_within(folder)) {
                continue;
            }
            // Something that is no folder in the newer tree takes the old folder's content with it.
            let swallowed = path.parent().is_some_and(|parent| newer.get(&parent.0).is_some_and(|entry| !entry.is_directory()));
            if !swallowed {
                removals.push(Change::Remove(path.clone()));
            }
            last = Some(path);
        }
        let puts = newer.entries.iter().filter(|(path, entry)| self.get(&path.0).is_none_or(|old| !old.same_bytes(entry)));
        removals.extend(puts.map(|(path, entry)| Change::Put(path.clone(), entry.clone())));
        removals
    }

    /// Returns whether both trees would unpack to the same files, whoever put them there.
    #[must_use]
    pub fn same_files(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|((a, x), (b, y))| a == b && x.same_bytes(y))
    }

    /// Returns the text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(HEADER.len() + self.entries.len() * 160);
        text.push_str(HEADER);
        for (path, entry) in &self.entries {
            write_entry(&mut text, path, entry);
            text.push('\n');
        }
        text
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Names the first line that the text form cannot have.
    pub fn from_text(text: &str) -> Result<Self, InvalidTree> {
        let body = text.strip_prefix(HEADER).ok_or(InvalidTree { line: 1, reason: "is not `parvis-tree 1`" })?;
        let mut entries = BTreeMap::new();
        for (index, line) in body.lines().enumerate() {
            let line_number = index + 2;
            let (path, entry) = read_entry(line).ok_or(InvalidTree { line: line_number, reason: "is not an entry" })?;
            if entries.insert(path, entry).is_some() {
                return Err(InvalidTree { line: line_number, reason: "repeats a path" });
            }
        }
        Ok(Self { entries })
    }

    /// Returns the digest of the text form.
    #[must_use]
    pub fn digest(&self) -> TreeDigest {
        TreeDigest::of(self.to_text().as_bytes())
    }
}

impl FromIterator<(TreePath, Entry)> for Tree {
    fn from_iter<I: IntoIterator<Item = (TreePath, Entry)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

fn write_entry(text: &mut String, path: &TreePath, entry: &Entry) {
    let shown = if path.is_root() { ".".to_owned() } else { escape(&path.0) };
    let letter = match entry.kind {
        Kind::Directory => 'd',
        Kind::File { shared: false, .. } => 'f',
        Kind::File { shared: true, .. } => 'h',
        Kind::Symlink { .. } => 'l',
    };
    let Entry { mode, uid, gid, mtime, origin, .. } = entry;
    // Writing to a String cannot fail.
    let _ = write!(text, "{shown} {letter} {mode:o} {uid} {gid} {mtime} ");
    match &entry.kind {
        Kind::Directory => {}
        Kind::File { digest, size, .. } => {
            let _ = write!(text, "{size} {digest} ");
        }
        Kind::Symlink { target } => {
            let _ = write!(text, "{} ", escape(target));
        }
    }
    let _ = write!(text, "{origin}");
    for (name, value) in &entry.xattrs {
        let _ = write!(text, " {}=", escape(name.as_bytes()));
        for byte in value {
            let _ = write!(text, "{byte:02x}");
        }
    }
}

fn read_entry(line: &str) -> Option<(TreePath, Entry)> {
    let mut fields = line.split(' ');
    let path = match fields.next()? {
        "." => TreePath::root(),
        shown => TreePath::parse(&unescape(shown)?).ok()?,
    };
    let letter = fields.next()?;
    let mode = u16::from_str_radix(fields.next()?, 8).ok().filter(|mode| *mode <= 0o7777)?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let mtime = fields.next()?.parse().ok()?;
    let kind = match letter {
        "d" => Kind::Directory,
        "f" | "h" => {
            let size = fields.next()?.parse().ok()?;
            Kind::File { digest: fields.next()?.parse().ok()?, size, shared: letter == "h" }
        }
        "l" => Kind::Symlink { target: unescape(fields.next()?)?.into() },
        _ => return None,
    };
    let origin = Origin::parse(fields.next()?)?;
    let mut xattrs = Xattrs::new();
    for field in fields {
        let (name, value) = field.split_once('=')?;
        let bytes = (0..value.len()).step_by(2).map(|at| u8::from_str_radix(value.get(at..at + 2)?, 16).ok());
        xattrs.insert(String::from_utf8(unescape(name)?).ok()?, bytes.collect::<Option<_>>()?);
    }
    Some((path, Entry { kind, mode, uid, gid, mtime, xattrs, origin }))
}

/// Returns bytes as printable ASCII without spaces: everything else, and the backslash, becomes `\xNN`.
///
/// What comes from outside is shown and stored in this form, so that it can neither move a cursor nor break a line.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let digits = after.strip_prefix(b"x")?.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[3..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn file(content: &[u8]) -> Entry {
        Entry::file(FileDigest::of(content), content.len() as u64, 0o644, 7, Origin::Parvis)
    }

    fn directory() -> Entry {
        Entry::directory(0o755, Origin::Parvis)
    }

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        for text in ["usr/bin", "/usr/bin", "./usr//bin/", "usr/./bin"] {
            assert_eq!(path(text).as_bytes(), b"usr/bin", "{text}");
        }
        assert!(path("./").is_root());
    }

    #[test]
    fn a_path_that_leaves_the_tree_is_refused() {
        for text in [b"../x".as_slice(), b"a/../../b", b"a/..", b"a\0b"] {
            assert!(TreePath::parse(text).is_err(), "{}", escape(text));
        }
        assert!(TreePath::parse(&[b'a'; 256]).is_err());
        assert!(TreePath::parse("a/".repeat(5000).as_bytes()).is_err());
    }

    #[test]
    fn within_does_not_take_siblings_with_the_same_beginning() {
        let tree: Tree = ["a", "a-b", "a/b", "ab", "a/b/c"].into_iter().map(|text| (path(text), directory())).collect();
        let found: Vec<_> = tree.within(&path("a")).map(|(path, _)| path.to_string()).collect();
        assert_eq!(found, ["/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn a_file_put_over_a_folder_takes_its_content_away() {
        let mut tree: Tree = [("a", directory()), ("a/b", file(b"x"))].map(|(at, entry)| (path(at), entry)).into_iter().collect();
        tree.put(path("a"), file(b"y"));
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn a_folder_put_over_a_folder_keeps_its_content() {
        let mut tree: Tree = [("a", directory()), ("a/b", file(b"x"))].map(|(at, entry)| (path(at), entry)).into_iter().collect();
        tree.put(path("a"), Entry::directory(0o700, Origin::Parvis));
        assert_eq!((tree.len(), tree.get(b"a").unwrap().mode), (2, 0o700));
    }

    #[test]
    fn a_removed_folder_is_one_change() {
        let old: Tree = [("a", directory()), ("a/b", file(b"x")), ("a/c", file(b"y"))]
            .map(|(at, entry)| (path(at), entry))
            .into_iter()
            .collect();
        assert_eq!(old.changes_to(&Tree::new()), [Change::Remove(path("a"))]);
    }

    #[test]
    fn names_from_outside_are_shown_without_control_characters() {
        let shown = TreePath::parse("x\u{1b}[2J\n\u{202e}".as_bytes()).unwrap().to_string();
        assert_eq!(shown, r"/x\x1b[2J\x0a\xe2\x80\xae");
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(Kind::Directory),
            (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, shared)| Kind::File {
                digest: digest.into(),
                size,
                shared
            }),
            prop::collection::vec(1_u8.., 1..20).prop_map(|target| Kind::Symlink { target: target.into() }),
        ];
        let origin = prop_oneof![
            Just(Origin::Parvis),
            Just(Origin::Package("libc6".parse().unwrap())),
            Just(Origin::Script("tzdata".parse().unwrap())),
            (1_u32..).prop_map(|line| Origin::Recipe { image: "httpd".parse().unwrap(), line }),
        ];
        let xattrs =
            prop::collection::btree_map("(user|security)\\.[a-z =]{1,8}", prop::collection::vec(any::<u8>(), 0..8), 0..2)
                .prop_map(|xattrs| xattrs.into_iter().map(|(name, value)| (name.replace('=', "-"), value)).collect());
        (kind, 0_u16..0o10000, any::<u32>(), any::<u32>(), any::<i64>(), xattrs, origin)
            .prop_map(|(kind, mode, uid, gid, mtime, xattrs, origin)| Entry { kind, mode, uid, gid, mtime, xattrs, origin })
    }

    /// Builds a tree in which every parent is a folder, as in any real one.
    fn any_tree() -> impl Strategy<Value = Tree> {
        let paths = prop::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"));
        prop::collection::vec((paths, any_entry()), 0..12).prop_map(|entries| {
            let mut tree = Tree::new();
            for (at, entry) in entries {
                let at = path(&at);
                let mut parent = at.parent();
                while let Some(folder) = parent.filter(|folder| !folder.is_root()) {
                    if !tree.get(folder.as_bytes()).is_some_and(Entry::is_directory) {
                        tree.put(folder.clone(), directory());
                    }
                    parent = folder.parent();
                }
                tree.put(at, entry);
            }
            tree
        })
    }

    proptest! {
        #[test]
        fn the_text_form_reads_back(tree in any_tree()) {
            prop_assert_eq!(Tree::from_text(&tree.to_text()), Ok(tree));
        }

        #[test]
        fn applying_the_changes_gives_the_newer_tree(old in any_tree(), newer in any_tree()) {
            let mut tree = old.clone();
            for change in old.changes_to(&newer) {
                tree.apply(change);
            }
            prop_assert!(tree.same_files(&newer), "{}\n{}", tree.to_text(), newer.to_text());
        }
    }
}
