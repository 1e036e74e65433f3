//! The one writer of layer tars: the same entries give the same bytes, and every common reader reads them alike.
//!
//! Format: POSIX.1-2001 (pax) with ustar headers; a pax record stands only where ustar has no room for the value.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::gate;
use crate::model::digest::FileDigest;
use crate::model::tree::{Change, Entry, Kind, Origin, TreePath, Xattrs};

/// Two zero blocks: the end of every archive.
pub const END: [u8; 1024] = [0; 1024];

/// The beginning of the name of a whiteout (OCI image-spec, layer, "Whiteouts").
pub const WHITEOUT: &[u8] = b".wh.";

const BLOCK: usize = 512;

/// The contents of regular files, wherever they are kept.
pub trait Contents: Sync {
    /// Opens the content of a file. The mode is part of where a store keeps it; it need not be checked against the digest
    /// when the layer's checksums are.
    fn open(&self, digest: &FileDigest, mode: u16) -> io::Result<Box<dyn Read + '_>>;
}

/// Something that cannot be written as an entry.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("cannot read the content of `{path}`")]
    Content {
        path: TreePath,
        #[source]
        source: io::Error,
    },
    #[error("the content of `{path}` has not the {size} bytes that its entry states")]
    Size { path: TreePath, size: u64 },
    #[error("`{path}` has a name that means a removal in a layer (`.wh.`)")]
    Reserved { path: TreePath },
    #[error("the removal of `{path}` needs a longer name than a file can have")]
    Whiteout { path: TreePath },
    #[error("cannot write the archive")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Refused(#[from] gate::Refused),
}

impl TarError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content { .. } | Self::Size { .. } => {
                Some("run `parvis store verify`; what is damaged is fetched or made again".into())
            }
            Self::Reserved { .. } => Some("give the file another name, or remove it in the recipe".into()),
            Self::Whiteout { .. } | Self::Write(_) => None,
            Self::Refused(refused) => refused.hint(),
        }
    }
}

/// Writes entries one after the other; several names of one file become hard links to the first of them.
pub struct TarWriter<W> {
    out: W,
    first_names: BTreeMap<(FileDigest, u16, u32, u32, i64, Xattrs), TreePath>,
    buffer: Vec<u8>,
    guarded: bool,
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive, or a part of one: links never lead from one part to another.
    pub fn new(out: W) -> Self {
        Self { out, first_names: BTreeMap::new(), buffer: vec![0; 128 * 1024], guarded: false }
    }

    /// Starts an archive whose entries and contents pass the [`gate`].
    pub fn guarded(out: W) -> Self {
        Self { guarded: true, ..Self::new(out) }
    }

    /// Writes one edit.
    pub fn change(&mut self, change: &Change, contents: &dyn Contents) -> Result<(), TarError> {
        match change {
            Change::Put(path, entry) => self.put(path, entry, contents),
            Change::Remove(path) => self.whiteout(path),
        }
    }

    /// Writes one entry with its content.
    pub fn put(&mut self, path: &TreePath, entry: &Entry, contents: &dyn Contents) -> Result<(), TarError> {
        if self.guarded {
            gate::forbid(path, entry)?;
        }
        if path.file_name().starts_with(WHITEOUT) {
            return Err(TarError::Reserved { path: path.clone() });
        }
        let Kind::File { digest, size, shared } = &entry.kind else {
            return write_entry(&mut self.out, path, entry, &mut io::empty(), None);
        };
        if *shared {
            let key = (*digest, entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs.clone());
            if let Some(first) = self.first_names.get(&key) {
                return write_entry(&mut self.out, path, entry, &mut io::empty(), Some(first));
            }
            self.first_names.insert(key, path.clone());
        }
        write_headers(&mut self.out, path, entry, None)?;
        if *size > 0 {
            let unreadable = |source| TarError::Content { path: path.clone(), source };
            let mut content = contents.open(digest, entry.mode).map_err(unreadable)?;
            let mut scanner = gate::Scanner::new();
            let mut inspect = |bytes: &[u8]| {
                if self.guarded {
                    scanner.feed(bytes);
                }
            };
            copy_content(&mut self.out, path, *size, &mut content, &mut self.buffer, &mut inspect)?;
            scanner.judge(path, entry)?;
        }
        Ok(())
    }

    /// Writes the removal of a path and all below it.
    pub fn whiteout(&mut self, path: &TreePath) -> Result<(), TarError> {
        let mut name = path.as_bytes()[..path.as_bytes().len() - path.file_name().len()].to_vec();
        name.extend_from_slice(WHITEOUT);
        name.extend_from_slice(path.file_name());
        if path.is_root() || path.file_name().len() + WHITEOUT.len() > 255 {
            return Err(TarError::Whiteout { path: path.clone() });
        }
        Ok(Header { kind: b'0', name: &name, ..Header::default() }.write(&mut self.out)?)
    }

    /// Returns what was written to, without the end of the archive.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Writes one entry: its headers, its content, and zeros up to the next block.
///
/// With `hard_link` the entry is another name of a file that stands before it in the same archive.
pub fn write_entry(
    out: &mut dyn Write,
    path: &TreePath,
    entry: &Entry,
    content: &mut dyn Read,
    hard_link: Option<&TreePath>,
) -> Result<(), TarError> {
    write_headers(out, path, entry, hard_link)?;
    match (&entry.kind, hard_link) {
        (Kind::File { size, .. }, None) => copy_content(out, path, *size, content, &mut vec![0; 128 * 1024], &mut |_| ()),
        _ => Ok(()),
    }
}

/// Returns the entry of a file in a download: root's, of one date.
#[must_use]
pub fn member(size: u64, program: bool, date: i64) -> Entry {
    // The digest is no part of a tar's header.
    Entry::file(FileDigest::from([0; 32]), size, if program { 0o755 } else { 0o644 }, date, Origin::Parvis)
}

/// Writes the headers of an entry alone.
pub fn write_headers(out: &mut dyn Write, path: &TreePath, entry: &Entry, hard_link: Option<&TreePath>) -> io::Result<()> {
    let mut name = path.as_bytes().to_vec();
    let (kind, size, link) = match (&entry.kind, hard_link) {
        (Kind::Directory, _) => {
            name.extend_from_slice(if path.is_root() { b"./" } else { b"/" });
            (b'5', 0, &[][..])
        }
        (Kind::File { .. }, Some(first)) => (b'1', 0, first.as_bytes()),
        (Kind::File { size, .. }, None) => (b'0', *size, &[][..]),
        (Kind::Symlink { target }, _) => (b'2', 0, &target[..]),
    };
    let Entry { mode, uid, gid, mtime, .. } = *entry;
    // The other name already states the attributes of the file that both are.
    let no_xattrs = Xattrs::new();
    let xattrs = if hard_link.is_some() { &no_xattrs } else { &entry.xattrs };
    Header { kind, name: &name, link, mode, uid, gid, size, mtime, xattrs: Some(xattrs) }.write(out)
}

fn copy_content(
    out: &mut dyn Write,
    path: &TreePath,
    size: u64,
    content: &mut dyn Read,
    buffer: &mut [u8],
    inspect: &mut dyn FnMut(&[u8]),
) -> Result<(), TarError> {
    let unreadable = |source| TarError::Content { path: path.clone(), source };
    let mut missing = size;
    loop {
        let read = match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(unreadable)?,
        };
        if read == 0 {
            break;
        }
        missing = missing.checked_sub(read as u64).ok_or_else(|| TarError::Size { path: path.clone(), size })?;
        inspect(&buffer[..read]);
        out.write_all(&buffer[..read])?;
    }
    if missing > 0 {
        return Err(TarError::Size { path: path.clone(), size });
    }
    Ok(write_padding(out, size)?)
}

/// Writes the zeros behind a content of this size.
pub(super) fn write_padding(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let used = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    if used > 0 { out.write_all(&END[..BLOCK - used]) } else { Ok(()) }
}

/// What one header states.
#[derive(Default)]
struct Header<'a> {
    kind: u8,
    name: &'a [u8],
    link: &'a [u8],
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    xattrs: Option<&'a Xattrs>,
}

impl Header<'_> {
    /// Writes the header block, and before it the pax records of what it has no room for.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut records = BTreeMap::new();
        let split = split_name(self.name);
        if split.is_none() {
            records.insert("path".to_owned(), self.name.to_vec());
        }
        let link_fits = fits(self.link, 100);
        if !link_fits {
            records.insert("linkpath".to_owned(), self.link.to_vec());
        }
        let uid = number(&mut records, "uid", u64::from(self.uid), 7);
        let gid = number(&mut records, "gid", u64::from(self.gid), 7);
        let size = number(&mut records, "size", self.size, 11);
        let mtime = if let Ok(mtime) = u64::try_from(self.mtime) {
            number(&mut records, "mtime", mtime, 11)
        } else {
            records.insert("mtime".to_owned(), self.mtime.to_string().into_bytes());
            0
        };
        for (name, value) in self.xattrs.into_iter().flatten() {
            records.insert(format!("SCHILY.xattr.{name}"), value.clone());
        }
        if !records.is_empty() {
            let body = pax_body(&records);
            // GNU tar, Go and Python give their pax headers names of this kind; no reader looks at it.
            let name = (&b""[..], &b"././@PaxHeader"[..]);
            out.write_all(&block(b'x', name, b"", [0o644, 0, 0, body.len() as u64, 0]))?;
            out.write_all(&body)?;
            write_padding(out, body.len() as u64)?;
        }
        // What a reader without pax would see of a name that does not fit.
        let shown = split.unwrap_or((b"", b"././@LongName"));
        let link = if link_fits { self.link } else { b"././@LongLink" };
        out.write_all(&block(self.kind, shown, link, [u64::from(self.mode), uid, gid, size, mtime]))
    }
}

/// Returns what the header field holds: the value, or 0 where it stands in a pax record.
fn number(records: &mut BTreeMap<String, Vec<u8>>, name: &str, value: u64, digits: u32) -> u64 {
    if value < 1 << (3 * digits) {
        return value;
    }
    records.insert(name.to_owned(), value.to_string().into_bytes());
    0
}

/// Returns whether text can stand in a ustar field. Bytes that are no UTF-8 cannot stand in a pax record either, so they
/// stay in the header where there is room for them, as every tar writes them.
fn fits(text: &[u8], room: usize) -> bool {
    text.len() <= room && (text.is_ascii() || std::str::from_utf8(text).is_err())
}

/// Splits a name at a slash into the prefix and name fields of ustar; `None` where it needs a pax record.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if fits(name, 100) {
        return Some((b"", name));
    }
    if !fits(name, 256) {
        return None;
    }
    // The longest prefix that leaves a name; a folder's last slash does not count.
    let end = name.len().saturating_sub(1).min(156);
    let slash = name[..end].iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (rest.len() <= 100).then_some((prefix, rest))
}

/// Renders records as `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_body(records: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// Returns a header block; the numbers are mode, uid, gid, size and mtime, each of which fits its field.
fn block(kind: u8, (prefix, name): (&[u8], &[u8]), link: &[u8], numbers: [u64; 5]) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut field = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let [mode, uid, gid, size, mtime] = numbers;
    field(0, name);
    for (at, value) in [(100, mode), (108, uid), (116, gid), (329, 0), (337, 0)] {
        field(at, format!("{value:07o}").as_bytes());
    }
    for (at, value) in [(124, size), (136, mtime)] {
        field(at, format!("{value:011o}").as_bytes());
    }
    field(148, b"        ");
    field(156, &[kind]);
    field(157, link);
    field(257, b"ustar\x0000");
    field(345, prefix);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Contents in memory, for the tests of this room.
#[cfg(test)]
pub(super) mod testing {
    use super::{BTreeMap, Contents, Entry, FileDigest, Read, TreePath, io};
    use crate::model::tree::Origin;

    #[derive(Default)]
    pub struct Memory(pub BTreeMap<FileDigest, Vec<u8>>);

    impl Memory {
        /// Keeps a content and returns the file that has it.
        pub fn file(&mut self, content: &[u8]) -> Entry {
            let digest = FileDigest::of(content);
            self.0.insert(digest, content.to_vec());
            Entry::file(digest, content.len() as u64, 0o644, 1_700_000_000, Origin::Parvis)
        }
    }

    impl Contents for Memory {
        fn open(&self, digest: &FileDigest, _mode: u16) -> io::Result<Box<dyn Read + '_>> {
            let content = self.0.get(digest).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(Box::new(&content[..]))
        }
    }

    pub fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Memory, path};
    use super::*;
    use crate::model::tree::{Origin, Tree};

    fn shared(mut entry: Entry) -> Entry {
        if let Kind::File { shared, .. } = &mut entry.kind {
            *shared = true;
        }
        entry
    }

    /// Every case that a header has: long names, other alphabets, large numbers, attributes, links, removals.
    fn sample() -> (Memory, Vec<Change>) {
        let mut memory = Memory::default();
        let long = "d".repeat(90);
        let mut file = |content: &[u8]| memory.file(content);
        let mut huge_id = file(b"x");
        (huge_id.uid, huge_id.gid, huge_id.mtime) = (2_097_152, u32::MAX, -5);
        let mut ping = file(&[7; 513]);
        ping.mode = 0o4755;
        // No line end in it: the tar crate looks for the end of a pax record there, and not where its length says.
        ping.xattrs.insert("security.capability".into(), b"\x01\0\0\x02\0 \0=\0\0\0\0\0\0\0\0\0\0\0".to_vec());
        let perl = shared(file(b"perl"));
        let link = |target: &str| Entry::symlink(target.as_bytes(), 8_589_934_592, Origin::Parvis);
        let directory = |mode| Entry::directory(mode, Origin::Parvis);
        let puts = vec![
            (String::new(), directory(0o750)),
            ("usr".into(), directory(0o1777)),
            ("usr/perl".into(), perl.clone()),
            ("usr/perl5".into(), perl),
            ("usr/alone".into(), shared(file(b"alone"))),
            ("usr/ping".into(), ping),
            ("usr/empty".into(), file(b"")),
            ("usr/huge".into(), huge_id),
            (format!("usr/{long}"), directory(0o755)),
            (format!("usr/{long}/{}", "e".repeat(99)), file(b"e")),
            (format!("usr/{long}/{}", "f".repeat(100)), file(b"f")),
            (format!("usr/{long}/{}", "g".repeat(101)), file(b"g")),
            (format!("usr/{long}/h/{long}/{}", "h".repeat(99)), directory(0o700)),
            ("usr/Főtanúsítvány".into(), file("ő".as_bytes())),
            ("usr/link".into(), link(&"t".repeat(101))),
            ("usr/lien".into(), link("é")),
            ("usr/new\nline = 1".into(), file(b"n")),
        ];
        let mut changes: Vec<Change> = puts.into_iter().map(|(at, entry)| Change::Put(path(&at), entry)).collect();
        changes.push(Change::Remove(path("usr/gone")));
        (memory, changes)
    }

    fn archive(memory: &Memory, changes: &[Change]) -> Vec<u8> {
        let mut writer = TarWriter::guarded(Vec::new());
        changes.iter().try_for_each(|change| writer.change(change, memory)).unwrap();
        let mut bytes = writer.into_inner();
        bytes.extend_from_slice(&END);
        bytes
    }

    /// A change of this digest is a change of every image: it needs another number in the lock (`WRITER`).
    #[test]
    fn the_bytes_are_those_of_the_writer_that_the_lock_names() {
        use crate::model::digest::DiffId;
        let (memory, changes) = sample();
        let bytes = archive(&memory, &changes);
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(DiffId::of(&bytes).hex(), "7fc5d40e4dd6e9af97f27415054bb4e689c5d06d423de1e9a36e03ce8e3cd82c");
    }

    fn hex_digit(nibble: u8) -> Option<char> {
        char::from_digit(nibble.into(), 16)
    }

    /// Returns what a reader found, one line per entry.
    fn seen_by_the_tar_crate(bytes: &[u8]) -> Vec<String> {
        let mut archive = ::tar::Archive::new(bytes);
        let mut lines = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path_bytes().into_owned();
            let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
            let header = entry.header().clone();
            let mut numbers =
                [header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()].map(|number| number.to_string());
            let mut xattrs = Vec::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                match record.key().unwrap() {
                    "uid" => numbers[0] = record.value().unwrap().into(),
                    "gid" => numbers[1] = record.value().unwrap().into(),
                    "mtime" => numbers[2] = record.value().unwrap().into(),
                    key if key.starts_with("SCHILY.xattr.") => xattrs.extend_from_slice(record.value_bytes()),
                    _ => {}
                }
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let kind = char::from(header.as_bytes()[156]);
            let text =
                |bytes: &[u8]| bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hex_digit).collect::<String>();
            let mode = header.mode().unwrap();
            let content = FileDigest::of(&content);
            let name = name.strip_suffix(b"/").unwrap_or(&name);
            lines.push(format!(
                "{} {kind} {mode:o} {} {content} {} {}",
                text(name),
                numbers.join(" "),
                text(&link),
                text(&xattrs)
            ));
        }
        lines
    }

    #[test]
    fn python_and_the_tar_crate_read_the_same() {
        let script = r#"
import sys, tarfile, hashlib, io
for entry in (archive := tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))):
    text = lambda name: name.encode("utf-8", "surrogateescape").hex()
    content = archive.extractfile(entry).read() if entry.isreg() else b""
    xattrs = "".join(text(value) for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr."))
    print(text(entry.name), entry.type.decode(), "%o" % entry.mode, entry.uid, entry.gid, int(entry.mtime),
          hashlib.sha256(content).hexdigest(), text(entry.linkname), xattrs)
"#;
        let (memory, changes) = sample();
        let bytes = archive(&memory, &changes);
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is there");
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let found = String::from_utf8(output.stdout).unwrap();
        let found: Vec<&str> = found.lines().collect();
        let expected = seen_by_the_tar_crate(&bytes);
        assert_eq!(found.len(), changes.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn two_names_of_one_file_become_a_link_to_the_first() {
        let (memory, changes) = sample();
        let lines = seen_by_the_tar_crate(&archive(&memory, &changes));
        assert_eq!(lines.iter().filter(|line| line.contains(" 1 644 ")).count(), 1, "{lines:#?}");
    }

    #[test]
    fn a_content_of_another_size_than_stated_is_an_error() {
        for content in [&b"1234"[..], b"123456", b""] {
            let entry = Entry::file(FileDigest::of(b""), 5, 0o644, 0, Origin::Parvis);
            let written = write_entry(&mut Vec::new(), &path("a"), &entry, &mut &content[..], None);
            assert!(matches!(written, Err(TarError::Size { size: 5, .. })), "{written:?}");
        }
    }

    #[test]
    fn a_file_that_would_be_read_as_a_removal_is_refused() {
        let entry = Memory::default().file(b"");
        let written = TarWriter::new(Vec::new()).put(&path("a/.wh.b"), &entry, &Memory::default());
        assert!(matches!(written, Err(TarError::Reserved { .. })));
    }

    #[test]
    fn a_segment_has_the_bytes_of_its_tree_and_knows_their_sums() {
        use super::super::{member::Compressor, segment};
        let (memory, changes) = sample();
        let tree: Tree = changes
            .into_iter()
            .filter_map(|change| match change {
                Change::Put(path, entry) => Some((path, entry)),
                Change::Remove(_) => None,
            })
            .collect();
        let (info, stored) = segment::write(&tree, &memory, Compressor::Gzip, None, Vec::new()).unwrap();
        let mut raw = Vec::new();
        flate2::read::MultiGzDecoder::new(&stored[..]).read_to_end(&mut raw).unwrap();
        assert_eq!((info.raw_size, info.raw_crc), (raw.len() as u64, libdeflater::crc32(&raw)));
        assert_eq!((info.stored_size, info.stored_crc), (stored.len() as u64, libdeflater::crc32(&stored)));
        assert_eq!(segment::SegmentInfo::from_text(&info.to_text()), Some(info));
        assert!(raw.starts_with(b"usr/\0"), "the root folder belongs to no package");
    }
}
