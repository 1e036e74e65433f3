//! A binary package as it comes from an archive: reads a .deb once, from front to back, and believes nothing in it.
//!
//! Format: deb(5). The tar inside is read as dpkg reads it: ustar or GNU, with long names and nothing else. PAX headers,
//! sparse files and numbers that are not octal are refused, as two readers could see two contents in them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::control::{ControlError, Paragraph};
use crate::model::lock::LockedPackage;
use crate::model::tree::{TreePath, escape};

/// What a package may cost at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of `data.tar`, unpacked.
    pub data: u64,
    /// Bytes of `control.tar`, unpacked; it is held in memory.
    pub control: u64,
    /// Entries of `data.tar`.
    pub entries: usize,
    /// Bytes of all paths in `data.tar` together; they are held in memory.
    pub paths: usize,
    /// Bytes a decompressor may take for itself. `xz -9` needs 65 MiB.
    pub decoder: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { data: 16 << 30, control: 32 << 20, entries: 1_000_000, paths: 64 << 20, decoder: 80 << 20 }
    }
}

/// A package that was refused.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is no Debian package: at byte {offset} {reason}")]
    Container { offset: u64, reason: String },
    #[error("its `{member}` is damaged")]
    Damaged {
        member: String,
        #[source]
        source: io::Error,
    },
    #[error("its `{member}` holds more than {limit} bytes")]
    TooLarge { member: String, limit: u64 },
    #[error("its `{member}` has {reason} at byte {offset}")]
    Tar { member: String, offset: u64, reason: String },
    #[error("its `{member}` has the entry `{entry}`, which {reason}")]
    Entry { member: String, entry: String, reason: String },
    #[error("it says {field} `{found}`, but the lock says `{expected}`")]
    Mismatch { field: &'static str, found: String, expected: String },
    #[error("its control file `{file}` {reason}")]
    Control { file: String, reason: String },
    #[error("its control file is malformed")]
    Paragraph(#[from] ControlError),
    #[error("its files cannot be taken in")]
    Visitor(#[source] io::Error),
}

impl PackageError {
    /// Returns what a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(_) | Self::Visitor(_) => None,
            Self::TooLarge { .. } => Some("if the package is really that large, raise the limit of unpacked bytes".into()),
            Self::Mismatch { .. } => Some("the archive serves another package under this name: do not use this mirror".into()),
            _ => Some("the archive's own digest matched, so the package was built this way: tell its maintainer".into()),
        }
    }
}

/// A file of the control archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlMember {
    /// Permission bits.
    pub mode: u16,
    pub bytes: Vec<u8>,
}

/// A configuration file that a package declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conffile {
    /// The path as declared; dpkg's database repeats it.
    pub path: TreePath,
    /// Whether an upgrade has to remove it; such a file is not shipped.
    pub remove_on_upgrade: bool,
}

/// A line of a package's `triggers` file (deb-triggers(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerLine {
    /// Whether the package waits for the trigger; otherwise it is activated by the package's own unpacking or configuring.
    pub interest: bool,
    /// Whether an activating package waits until the trigger has been processed.
    pub awaits: bool,
    /// A name, or a path with a leading slash (a file trigger).
    pub name: String,
}

/// What the control archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControlFiles {
    /// The paragraph of `control`, as shipped.
    pub control: String,
    /// All files but `control`, by name.
    pub members: BTreeMap<String, ControlMember>,
    /// The declared configuration files, in order.
    pub conffiles: Vec<Conffile>,
    /// The lines of `triggers`, in order.
    pub triggers: Vec<TriggerLine>,
}

impl ControlFiles {
    /// Returns the value of a field of `control`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        Paragraph::only(self.control.as_bytes()).ok()?.get(name)
    }

    /// Returns whether the package may be installed for several architectures at once.
    #[must_use]
    pub fn is_multi_arch_same(&self) -> bool {
        self.field("Multi-Arch").is_some_and(|value| value.eq_ignore_ascii_case("same"))
    }
}

/// What kind of thing a package ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataKind {
    Directory,
    File {
        size: u64,
    },
    Symlink {
        target: Box<[u8]>,
    },
    /// The same file as an earlier one, by its canonical path.
    HardLink {
        target: TreePath,
    },
}

/// An entry of a package's data archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    /// The path as shipped; dpkg's file list repeats it. Differs from the canonical path for aliases such as `bin/sh`.
    pub shipped: TreePath,
    pub kind: DataKind,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// Takes in what a package holds, in the order of the package.
pub trait PackageVisitor {
    /// Is called once, before the first entry.
    fn control(&mut self, control: &ControlFiles) -> io::Result<()>;

    /// Is called for each entry with its canonical path. `content` yields exactly the file's bytes or an error; for
    /// what is no file it is empty.
    fn entry(&mut self, path: TreePath, entry: DataEntry, content: &mut dyn Read) -> io::Result<()>;
}

/// Returns where a path really stands in a system with merged `/usr`: `bin/sh` is `usr/bin/sh`.
///
/// The aliases themselves are links and stay, unless a package ships one as a folder.
#[must_use]
pub fn canonical_path(path: &TreePath, is_directory: bool) -> TreePath {
    const ALIASES: [&[u8]; 6] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32"];
    let bytes = path.as_bytes();
    let first = bytes.split(|byte| *byte == b'/').next().unwrap_or_default();
    if !ALIASES.contains(&first) || first.len() == bytes.len() && !is_directory {
        return path.clone();
    }
    // A path near the limit of length cannot be lengthened; it stays and is refused where it is used.
    TreePath::parse(&[b"usr/".as_slice(), bytes].concat()).unwrap_or_else(|_| path.clone())
}

/// Reads a package from front to back: its control files, then its entries.
///
/// # Errors
/// Refuses what deb(5) does not allow, names that are not those of the lock, entries that leave the package's tree or
/// have no place in an image, and whatever goes beyond the limits.
pub fn read_package<R: Read>(
    deb: R,
    expect: &LockedPackage,
    limits: &Limits,
    visitor: &mut dyn PackageVisitor,
) -> Result<ControlFiles, PackageError> {
    let mut container = Container::open(deb)?;
    container.version()?;
    let control = read_control(&mut container, limits)?;
    check_identity(&control, expect)?;
    visitor.control(&control).map_err(PackageError::Visitor)?;
    read_data(&mut container, limits, visitor)?;
    if let Some(member) = container.next_known()? {
        return Err(member.refuse("stands after the data archive"));
    }
    Ok(control)
}

fn check_identity(control: &ControlFiles, expect: &LockedPackage) -> Result<(), PackageError> {
    let expected =
        [("Package", expect.name.as_str()), ("Version", expect.version.as_str()), ("Architecture", expect.architecture.as_str())];
    for (field, expected) in expected {
        let found = control.field(field).unwrap_or_default();
        if found != expected {
            let found = escape(&found.as_bytes()[..found.len().min(200)]);
            return Err(PackageError::Mismatch { field, found, expected: expected.into() });
        }
    }
    Ok(())
}

/// The outer ar archive.
struct Container<R> {
    reader: BufReader<R>,
    /// Bytes read so far.
    offset: u64,
}

/// The header of a member of the outer archive.
struct Member {
    name: String,
    size: u64,
    /// Where the header stands.
    offset: u64,
}

impl Member {
    fn refuse(&self, reason: &str) -> PackageError {
        PackageError::Container { offset: self.offset, reason: format!("the member `{}` {reason}", self.name) }
    }
}

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

impl<R: Read> Container<R> {
    fn open(deb: R) -> Result<Self, PackageError> {
        let mut container = Self { reader: BufReader::with_capacity(64 << 10, deb), offset: 0 };
        let mut magic = [0; AR_MAGIC.len()];
        container.fill(&mut magic)?;
        if &magic != AR_MAGIC {
            return Err(PackageError::Container { offset: 0, reason: "there is no `!<arch>`".into() });
        }
        Ok(container)
    }

    /// Fills the buffer and counts.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), PackageError> {
        let start = self.offset;
        self.reader.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PackageError::Container { offset: start, reason: "it ends too early".into() },
            _ => PackageError::Read(error),
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    /// Reads the next member's header; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Member>, PackageError> {
        let at_end = loop {
            match self.reader.fill_buf() {
                Ok(buffer) => break buffer.is_empty(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PackageError::Read(error)),
            }
        };
        if at_end {
            return Ok(None);
        }
        let offset = self.offset;
        let refuse = |reason: String| PackageError::Container { offset, reason };
        let mut header = [0; AR_HEADER];
        self.fill(&mut header)?;
        if &header[58..] != b"`\n" {
            return Err(refuse("there is no member header".into()));
        }
        let name = header[..16].trim_ascii_end();
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with(b".") || !name.iter().all(plain) {
            return Err(refuse(format!("the member's name is `{}`", escape(name))));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let size = header[48..58].trim_ascii_end();
        let digits = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
        let parsed = std::str::from_utf8(size).ok().filter(|_| digits).and_then(|size| size.parse().ok());
        let size = parsed.ok_or_else(|| refuse(format!("the member `{name}` has the size `{}`", escape(size))))?;
        Ok(Some(Member { name, size, offset }))
    }

    /// Reads on to the next member that deb(5) gives a meaning; those with a leading underscore have none yet.
    fn next_known(&mut self) -> Result<Option<Member>, PackageError> {
        while let Some(member) = self.next()? {
            if !member.name.starts_with('_') {
                return Ok(Some(member));
            }
            let mut body = Body::new(self, &member);
            io::copy(&mut body, &mut io::sink()).map_err(|error| damaged(&member.name, error))?;
            body.close(&member)?;
        }
        Ok(None)
    }

    /// Checks the first member, which states the version of the format.
    fn version(&mut self) -> Result<(), PackageError> {
        let member = self.next()?.filter(|member| member.name == "debian-binary");
        let offset = AR_MAGIC.len() as u64;
        let refuse = |reason: &str| PackageError::Container { offset, reason: reason.into() };
        let member = member.ok_or_else(|| refuse("the member `debian-binary` is missing"))?;
        let mut version = Vec::new();
        if member.size > 40 {
            return Err(member.refuse("is too long"));
        }
        let mut body = Body::new(self, &member);
        body.read_to_end(&mut version).map_err(|error| damaged(&member.name, error))?;
        body.close(&member)?;
        let known = version.strip_prefix(b"2.").and_then(|minor| minor.strip_suffix(b"\n"));
        if !known.is_some_and(|minor| !minor.is_empty() && minor.iter().all(u8::is_ascii_digit)) {
            return Err(member.refuse(&format!("says the format is `{}`, not 2.x", escape(&version))));
        }
        Ok(())
    }

    /// Reads on to the archive with this stem and returns how it is compressed.
    fn archive(&mut self, stem: &str) -> Result<(Member, Compression), PackageError> {
        let offset = self.offset;
        let missing = || PackageError::Container { offset, reason: format!("the member `{stem}` is missing") };
        let member = self.next_known()?.ok_or_else(missing)?;
        let Some(suffix) = member.name.strip_prefix(stem) else {
            return Err(member.refuse(&format!("stands in the place of `{stem}`")));
        };
        let compression = match suffix {
            "" => Compression::None,
            ".gz" => Compression::Gzip,
            ".xz" => Compression::Xz,
            ".zst" => Compression::Zstd,
            _ => return Err(member.refuse("is compressed in a way that is not supported (gz, xz, zst or not at all)")),
        };
        Ok((member, compression))
    }
}

/// The bytes of a member; a file that ends within them is an error.
struct Body<'a, R> {
    container: &'a mut Container<R>,
    left: u64,
}

impl<'a, R: Read> Body<'a, R> {
    fn new(container: &'a mut Container<R>, member: &Member) -> Self {
        Self { container, left: member.size }
    }

    /// Checks that the member was read whole, and skips the byte that makes its length even.
    fn close(self, member: &Member) -> Result<(), PackageError> {
        if self.left > 0 {
            let offset = self.container.offset;
            let reason = format!("the member `{}` goes on after its content", member.name);
            return Err(PackageError::Container { offset, reason });
        }
        if member.size % 2 == 1 {
            let offset = self.container.offset;
            let mut padding = [0];
            self.container.fill(&mut padding)?;
            if padding != *b"\n" {
                return Err(PackageError::Container { offset, reason: format!("the padding of `{}` is missing", member.name) });
            }
        }
        Ok(())
    }
}

impl<R: Read> BufRead for Body<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.container.reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the package ends too early"));
        }
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        Ok(&buffer[..length])
    }

    fn consume(&mut self, amount: usize) {
        self.container.reader.consume(amount);
        self.container.offset += amount as u64;
        self.left -= amount as u64;
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let buffer = self.fill_buf()?;
        let length = buffer.len().min(into.len());
        into[..length].copy_from_slice(&buffer[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[derive(Debug, Clone, Copy)]
enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// Returns the unpacked bytes of one compressed stream; what follows the stream stays unread.
fn decompress<'a, B: BufRead>(body: &'a mut B, compression: Compression, memory: u64) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(body)),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(memory, 0).map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(body, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?.single_frame();
            decoder.window_log_max(memory.max(1 << 10).ilog2())?;
            Box::new(decoder)
        }
    })
}

/// Why unpacked bytes could not be had; travels inside [`io::Error`] through the readers above it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the compressed stream is damaged")]
    Stream(#[source] io::Error),
    #[error("there is too much of it")]
    TooLarge,
    #[error("it ends too early")]
    Short,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}

fn damaged(member: &str, source: io::Error) -> PackageError {
    PackageError::Damaged { member: member.into(), source }
}

/// Unpacked bytes up to a limit. Knows how many of the last ones were zero, which is how a tar must end.
struct Limited<R> {
    inner: R,
    left: u64,
    total: u64,
    zeros: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => Fault::Stream(error).into(),
        })?;
        self.left = self.left.checked_sub(length as u64).ok_or(Fault::TooLarge)?;
        self.total += length as u64;
        match into[..length].iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (length - last - 1) as u64,
            None => self.zeros += length as u64,
        }
        Ok(length)
    }
}

/// The content of one entry; a tar that ends within it is an error.
struct Content<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        if length == 0 && self.left > 0 && !into.is_empty() {
            return Err(Fault::Short.into());
        }
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

/// The header of an entry of a tar, with the long names that came before it.
struct TarHeader {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: i64,
    size: u64,
}

/// What an entry is refused with.
enum Refusal {
    Reason(String),
    Error(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.into())
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

/// Reads one archive of the package and hands over its entries.
fn read_archive<R: Read>(
    container: &mut Container<R>,
    stem: &str,
    limit: u64,
    memory: u64,
    take: &mut dyn FnMut(TarHeader, &mut dyn Read) -> Result<(), Refusal>,
) -> Result<(), PackageError> {
    let (member, compression) = container.archive(stem)?;
    let mut body = Body::new(container, &member);
    let decoder = decompress(&mut body, compression, memory).map_err(|error| damaged(&member.name, error))?;
    let reader = read_tar(Limited { inner: decoder, left: limit, total: 0, zeros: 0 }, &member.name, limit, take)?;
    drop(reader);
    body.close(&member)
}

/// Long names are for paths, which have at most 4,095 bytes and a NUL.
const LONG_NAME: u64 = 4096;

fn read_tar<R: Read>(
    reader: Limited<R>,
    member: &str,
    limit: u64,
    take: &mut dyn FnMut(TarHeader, &mut dyn Read) -> Result<(), Refusal>,
) -> Result<Limited<R>, PackageError> {
    let classify =
        |error: io::Error, other: fn(&str, io::Error) -> PackageError| match error.get_ref().map(|inner| inner.downcast_ref()) {
            Some(Some(Fault::TooLarge)) => PackageError::TooLarge { member: member.into(), limit },
            Some(Some(Fault::Stream(_) | Fault::Short)) => damaged(member, error),
            _ => other(member, error),
        };
    let mut archive = tar::Archive::new(reader);
    let (mut long_name, mut long_link) = (None, None);
    let mut end = 0;
    for entry in archive.entries().map_err(|error| classify(error, damaged))?.raw(true) {
        let mut entry = entry.map_err(|error| classify(error, damaged))?;
        let offset = entry.raw_header_position();
        let refuse = |reason: &str| PackageError::Tar { member: member.into(), offset, reason: reason.into() };
        let mut header = tar_header(entry.header()).map_err(refuse)?;
        end = entry.raw_file_position() + header.size.next_multiple_of(512);
        let long = match header.kind {
            b'L' => Some(&mut long_name),
            b'K' => Some(&mut long_link),
            _ => None,
        };
        if let Some(long) = long {
            if long.is_some() || header.size > LONG_NAME {
                return Err(refuse("a long name that is too long or comes twice"));
            }
            let mut name = Vec::new();
            Content { inner: &mut entry, left: header.size }.read_to_end(&mut name).map_err(|error| classify(error, damaged))?;
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            name.truncate(end);
            *long = Some(name);
            continue;
        }
        header.name = long_name.take().unwrap_or(header.name);
        header.link = long_link.take().unwrap_or(header.link);
        let shown = escape(&header.name[..header.name.len().min(200)]);
        let left = header.size;
        take(header, &mut Content { inner: &mut entry, left }).map_err(|refusal| match refusal {
            Refusal::Reason(reason) => PackageError::Entry { member: member.into(), entry: shown, reason },
            Refusal::Error(error) => classify(error, |_, error| PackageError::Visitor(error)),
        })?;
    }
    let mut reader = archive.into_inner();
    let refuse = |reason: &str| PackageError::Tar { member: member.into(), offset: end, reason: reason.into() };
    if long_name.is_some() || long_link.is_some() {
        return Err(refuse("a long name for nothing"));
    }
    io::copy(&mut reader, &mut io::sink()).map_err(|error| classify(error, damaged))?;
    // Two blocks of zeros end a tar; whatever came after them, another reader could take for entries.
    let tail = reader.total.saturating_sub(end);
    if tail < 1024 || tail % 512 != 0 || reader.zeros < tail {
        return Err(refuse("no proper end"));
    }
    Ok(reader)
}

/// Reads what dpkg reads of a tar header.
fn tar_header(header: &tar::Header) -> Result<TarHeader, &'static str> {
    let old = header.as_old();
    let number = |field: &[u8]| octal(field).ok_or("a header with a number that is not octal");
    // Only in POSIX headers is there a prefix; GNU ones have dates in its place.
    let prefix = header.as_ustar().map_or(b"".as_slice(), |ustar| text(&ustar.prefix));
    let name = if prefix.is_empty() { text(&old.name).to_vec() } else { [prefix, b"/", text(&old.name)].concat() };
    let size = number(&old.size)?;
    let kind = old.linkflag[0];
    if size > 0 && matches!(kind, b'1' | b'2' | b'5') {
        return Err("a header of a folder or link with content");
    }
    Ok(TarHeader {
        name,
        link: text(&old.linkname).to_vec(),
        kind,
        mode: u16::try_from(number(&old.mode)? & 0o7777).unwrap_or_default(),
        uid: u32::try_from(number(&old.uid)?).map_err(|_| "an impossible owner")?,
        gid: u32::try_from(number(&old.gid)?).map_err(|_| "an impossible group")?,
        mtime: i64::try_from(number(&old.mtime)?).map_err(|_| "an impossible date")?,
        size,
    })
}

/// Returns the bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field).trim_ascii();
    let valid = !digits.is_empty() && digits.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    std::str::from_utf8(digits).ok().filter(|_| valid).and_then(|digits| u64::from_str_radix(digits, 8).ok())
}

fn read_control<R: Read>(container: &mut Container<R>, limits: &Limits) -> Result<ControlFiles, PackageError> {
    let mut members = BTreeMap::new();
    read_archive(container, "control.tar", limits.control, limits.decoder, &mut |header, content| {
        let name = header.name.strip_prefix(b"./").unwrap_or(&header.name);
        match header.kind {
            b'5' if matches!(name, b"" | b"." | b"./") => return Ok(()),
            b'0' | 0 => {}
            _ => return Err("is neither a file nor the archive's own folder".into()),
        }
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
        // `list` is the name of dpkg's own file list.
        if name.is_empty() || name.len() > 50 || name.starts_with(b".") || name == b"list" || !name.iter().all(plain) {
            return Err("is not a name that a control file can have".into());
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let name = String::from_utf8_lossy(name).into_owned();
        match members.insert(name, ControlMember { mode: header.mode & 0o777, bytes }) {
            Some(_) => Err("comes twice".into()),
            None => Ok(()),
        }
    })?;
    let refuse = |file: &str, reason: &str| PackageError::Control { file: file.into(), reason: reason.into() };
    let control = members.remove("control").ok_or_else(|| refuse("control", "is missing"))?;
    Paragraph::only(&control.bytes)?;
    let control = String::from_utf8(control.bytes).map_err(|_| refuse("control", "is not UTF-8"))?;
    let text = |file: &str| {
        let bytes = members.get(file).map_or(b"".as_slice(), |member| &member.bytes);
        std::str::from_utf8(bytes).map_err(|_| refuse(file, "is not UTF-8"))
    };
    let conffiles = parse_conffiles(text("conffiles")?).map_err(|reason| refuse("conffiles", &reason))?;
    let triggers = parse_triggers(text("triggers")?).map_err(|reason| refuse("triggers", &reason))?;
    Ok(ControlFiles { control, members, conffiles, triggers })
}

fn has_line(line: &str) -> String {
    format!("has the line `{}`", escape(&line.as_bytes()[..line.len().min(200)]))
}

fn parse_conffiles(text: &str) -> Result<Vec<Conffile>, String> {
    let parse = |line: &str| {
        let (remove_on_upgrade, path) = match line.trim_end().strip_prefix("remove-on-upgrade ") {
            Some(path) => (true, path.trim_start()),
            None => (false, line.trim_end()),
        };
        let path = path.strip_prefix('/').and_then(|path| TreePath::parse(path.as_bytes()).ok());
        path.filter(|path| !path.is_root()).map(|path| Conffile { path, remove_on_upgrade }).ok_or_else(|| has_line(line))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
}

fn parse_triggers(text: &str) -> Result<Vec<TriggerLine>, String> {
    let mut triggers = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(directive) = words.next() else { continue };
        let (interest, awaits) = match directive {
            "interest" | "interest-await" => (true, true),
            "interest-noawait" => (true, false),
            "activate" | "activate-await" => (false, true),
            "activate-noawait" => (false, false),
            _ => return Err(has_line(line)),
        };
        let (Some(name), None) = (words.next(), words.next()) else { return Err(has_line(line)) };
        if !is_trigger_name(name) {
            return Err(has_line(line));
        }
        triggers.push(TriggerLine { interest, awaits, name: name.into() });
    }
    Ok(triggers)
}

/// Whether a trigger can have this name: a path, or what dpkg writes as a file's name below `triggers/`.
fn is_trigger_name(name: &str) -> bool {
    match name.strip_prefix('/') {
        Some(path) => {
            name.bytes().all(|byte| byte.is_ascii_graphic())
                && path.split('/').all(|component| !matches!(component, "" | "." | ".."))
        }
        None => {
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                // These are files of dpkg's own.
                && !matches!(name, "File" | "Lock" | "Unincorp")
        }
    }
}

/// What stands at a path of the package that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Directory,
    File,
    Symlink,
}

/// The entries of a package so far, against which each new one is checked.
struct Checker<'a> {
    limits: &'a Limits,
    seen: BTreeMap<TreePath, Seen>,
    path_bytes: usize,
}

impl Checker<'_> {
    fn check(&mut self, header: &TarHeader) -> Result<(TreePath, DataEntry), Refusal> {
        let shipped = relative(&header.name)?;
        let is_directory = header.kind == b'5';
        let path = canonical_path(&shipped, is_directory);
        self.path_bytes = self.path_bytes.saturating_add(path.as_bytes().len());
        if self.seen.len() >= self.limits.entries || self.path_bytes > self.limits.paths {
            return Err("is one too many".into());
        }
        if path.is_root() && !is_directory {
            return Err("is the root, but no folder".into());
        }
        let mut parent = path.parent();
        while let Some(folder) = parent {
            match self.seen.get(&folder) {
                Some(Seen::Symlink) => return Err(format!("goes through the link `{folder}` of the same package").into()),
                Some(Seen::File) => return Err(format!("goes through the file `{folder}` of the same package").into()),
                // The folders above this one were looked at when it came.
                Some(Seen::Directory) => break,
                None => parent = folder.parent(),
            }
        }
        let (seen, kind) = match header.kind {
            b'5' => (Seen::Directory, DataKind::Directory),
            b'0' | b'7' | 0 if !header.name.ends_with(b"/") => (Seen::File, DataKind::File { size: header.size }),
            b'1' => (Seen::File, DataKind::HardLink { target: self.hard_link(&header.link)? }),
            b'2' if header.link.is_empty() || header.link.len() > 4095 => return Err("is a link to nowhere".into()),
            b'2' => (Seen::Symlink, DataKind::Symlink { target: header.link.clone().into() }),
            b'3' | b'4' => return Err("is a device".into()),
            b'6' => return Err("is a named pipe".into()),
            b'x' | b'g' => return Err("is a PAX header, which dpkg does not read either".into()),
            other => return Err(format!("has the type `{}`", escape(&[other])).into()),
        };
        if self.seen.contains_key(&path) {
            return Err("comes twice".into());
        }
        if seen != Seen::Directory && self.holds(&path) {
            return Err("is no folder, but the package has put something into it".into());
        }
        self.seen.insert(path.clone(), seen);
        let TarHeader { mode, uid, gid, mtime, .. } = *header;
        Ok((path, DataEntry { shipped, kind, mode, uid, gid, mtime }))
    }

    /// Returns whether anything below a path has come before.
    fn holds(&self, path: &TreePath) -> bool {
        let below = [path.as_bytes(), b"/"].concat();
        let mut after = self.seen.range::<[u8], _>((Bound::Excluded(below.as_slice()), Bound::Unbounded));
        after.next().is_some_and(|(next, _)| next.as_bytes().starts_with(&below))
    }

    /// Returns the canonical path of an earlier file of the package.
    fn hard_link(&self, target: &[u8]) -> Result<TreePath, Refusal> {
        let target = canonical_path(&relative(target)?, false);
        match self.seen.get(&target) {
            Some(Seen::File) => Ok(target),
            _ => Err(format!("is a hard link to `{target}`, which is no earlier file of the package").into()),
        }
    }
}

/// Reads a path of an entry, which has to be relative and to fit on one line of a file list.
fn relative(name: &[u8]) -> Result<TreePath, Refusal> {
    if name.is_empty() {
        return Err("has no name".into());
    }
    if name.starts_with(b"/") {
        return Err("is an absolute path".into());
    }
    if name.contains(&b'\n') {
        return Err("has a line break in its path".into());
    }
    TreePath::parse(name).map_err(|error| Refusal::Reason(format!("cannot be: {error}")))
}

fn read_data<R: Read>(
    container: &mut Container<R>,
    limits: &Limits,
    visitor: &mut dyn PackageVisitor,
) -> Result<(), PackageError> {
    let mut checker = Checker { limits, seen: BTreeMap::new(), path_bytes: 0 };
    read_archive(container, "data.tar", limits.data, limits.decoder, &mut |header, content| {
        let (path, entry) = checker.check(&header)?;
        Ok(visitor.entry(path, entry, content)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const CONTROL: &[u8] = b"Package: hello\nVersion: 1:2-3\nArchitecture: amd64\nMulti-Arch: same\nDescription: x\n";

    fn locked() -> LockedPackage {
        LockedPackage {
            name: "hello".parse().unwrap(),
            version: "1:2-3".into(),
            architecture: "amd64".parse().unwrap(),
            source: "hello".parse().unwrap(),
            source_version: None,
            suite: "trixie".parse().unwrap(),
            file: "pool/h.deb".into(),
            size: 1,
            sha256: crate::model::digest::DownloadDigest::of(b""),
            depends: vec![],
        }
    }

    /// An entry of a tar: name, type, link target, content.
    type Item<'a> = (&'a str, u8, &'a str, &'a [u8]);

    fn block(name: &str, kind: u8, link: &str, size: &str) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, b"0000755\x000000000\x000000042\0");
        put(124, size.as_bytes());
        put(136, b"14000000000\0        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar  \0");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8; 512]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn tar(items: &[Item]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, kind, link, content) in items {
            tar.extend(block(name, *kind, link, &format!("{:011o}", content.len())));
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut member = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).into_bytes();
        member.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            member.push(b'\n');
        }
        member
    }

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let members = members.iter().flat_map(|(name, bytes)| member(name, bytes));
        AR_MAGIC.iter().copied().chain(members).collect()
    }

    fn deb(data: &[Item]) -> Vec<u8> {
        let control = tar(&[("./control", b'0', "", CONTROL)]);
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &tar(data))])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// Writes down what it is handed.
    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl PackageVisitor for Recorder {
        fn control(&mut self, _: &ControlFiles) -> io::Result<()> {
            self.0.push("control".into());
            Ok(())
        }

        fn entry(&mut self, path: TreePath, entry: DataEntry, content: &mut dyn Read) -> io::Result<()> {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            self.0.push(format!("{path} {} {:o} {}:{} {text}", entry.shipped, entry.mode, entry.uid, entry.gid));
            Ok(())
        }
    }

    fn read_within(deb: &[u8], limits: &Limits) -> Result<(ControlFiles, Vec<String>), PackageError> {
        let mut recorder = Recorder::default();
        read_package(deb, &locked(), limits, &mut recorder).map(|control| (control, recorder.0))
    }

    fn read(deb: &[u8]) -> Result<(ControlFiles, Vec<String>), PackageError> {
        read_within(deb, &Limits::default())
    }

    fn refusal(deb: &[u8]) -> String {
        let error = read(deb).expect_err("the package is refused");
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    }

    fn with_data(name: &str, bytes: &[u8]) -> Vec<u8> {
        let control = tar(&[("./control", b'0', "", CONTROL)]);
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (name, bytes)])
    }

    const FILES: [Item; 3] = [("./", b'5', "", b""), ("./bin/", b'5', "", b""), ("./bin/hi", b'0', "", b"hello")];

    #[test]
    fn a_package_is_read_in_each_compression() {
        let control = tar(&[
            ("./", b'5', "", b""),
            ("./control", b'0', "", CONTROL),
            ("./conffiles", b'0', "", b"/etc/hi\nremove-on-upgrade /etc/old\n"),
            ("./triggers", b'0', "", b"# two\ninterest-noawait /usr/share/hi # here\nactivate ldconfig\n"),
            ("./postinst", b'0', "", b"#!/bin/sh\n"),
        ]);
        let data = tar(&FILES);
        let archives = [
            ("control.tar", control.clone(), "data.tar", data.clone()),
            ("control.tar.gz", gzip(&control), "data.tar.gz", gzip(&data)),
            ("control.tar.xz", xz(&control), "data.tar.xz", xz(&data)),
            ("control.tar.zst", zst(&control), "data.tar.zst/", zst(&data)),
        ];
        for (control_name, control, data_name, data) in archives {
            let deb =
                ar(&[("debian-binary", b"2.0\n"), ("_x", b"?"), (control_name, &control), (data_name, &data), ("_sig", b"")]);
            let (control, entries) = read(&deb).unwrap();
            assert_eq!(entries, ["control", "/ / 755 0:34 ", "/usr/bin /bin 755 0:34 ", "/usr/bin/hi /bin/hi 755 0:34 hello"]);
            assert_eq!(control.members.keys().map(String::as_str).collect::<Vec<_>>(), ["conffiles", "postinst", "triggers"]);
            assert!(control.is_multi_arch_same());
            assert_eq!(control.conffiles.len(), 2);
            assert!(control.conffiles[1].remove_on_upgrade);
            let trigger = |interest, awaits, name: &str| TriggerLine { interest, awaits, name: name.into() };
            assert_eq!(control.triggers, [trigger(true, false, "/usr/share/hi"), trigger(false, true, "ldconfig")]);
        }
    }

    #[test]
    fn a_package_that_is_not_the_locked_one_is_refused() {
        let mut other = locked();
        other.version = "1:2-4".into();
        let error = read_package(deb(&FILES).as_slice(), &other, &Limits::default(), &mut Recorder::default()).unwrap_err();
        assert_eq!(error.to_string(), "it says Version `1:2-3`, but the lock says `1:2-4`");
    }

    #[test]
    fn a_malformed_container_is_refused_with_the_offset() {
        let control = tar(&[("./control", b'0', "", CONTROL)]);
        let data = tar(&FILES);
        let sized = |size: &str| {
            let mut deb = deb(&FILES);
            let at = 8 + 64 + 48;
            deb[at..at + 10].copy_from_slice(format!("{size:<10}").as_bytes());
            deb
        };
        let binary = ("debian-binary", b"2.0\n".as_slice());
        let cases: [(Vec<u8>, &str); 15] = [
            (b"PK\x03\x04 is no ar".to_vec(), "at byte 0 there is no `!<arch>`"),
            (b"!<ar".to_vec(), "at byte 0 it ends too early"),
            (ar(&[]), "at byte 8 the member `debian-binary` is missing"),
            (ar(&[("debian-binary", b"3.0\n")]), "at byte 8 the member `debian-binary` says the format is `3.0\\x0a`, not 2.x"),
            (sized("-1"), "at byte 72 the member `control.tar` has the size `-1`"),
            (sized(""), "at byte 72 the member `control.tar` has the size ``"),
            (sized("+9"), "at byte 72 the member `control.tar` has the size `+9`"),
            (sized("9999999999"), "its `control.tar` is damaged"),
            (ar(&[binary, ("control.tar", &control)])[..100].to_vec(), "at byte 72 it ends too early"),
            (ar(&[binary, ("control.tar", &control)]), "the member `data.tar` is missing"),
            (ar(&[binary, ("data.tar", &data)]), "at byte 72 the member `data.tar` stands in the place of `control.tar`"),
            (ar(&[binary, ("control.tar", &control), ("data.tar", &data), ("data.tar", &data)]), "stands after the data archive"),
            (ar(&[binary, ("../x", &data)]), "at byte 72 the member's name is `../x`"),
            (ar(&[binary, ("control.tar.lzma", &data)]), "at byte 72 the member `control.tar.lzma` is compressed in a way"),
            ([deb(&FILES), b"tail".to_vec()].concat(), "it ends too early"),
        ];
        for (deb, expected) in cases {
            let found = refusal(&deb);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn a_package_cut_anywhere_is_refused() {
        for bytes in [tar(&FILES), gzip(&tar(&FILES)), xz(&tar(&FILES)), zst(&tar(&FILES))] {
            let name = if bytes[0] == b'.' {
                "data.tar"
            } else {
                ["data.tar.gz", "data.tar.xz", "data.tar.zst"][match bytes[0] {
                    0x1f => 0,
                    0xfd => 1,
                    _ => 2,
                }]
            };
            let whole = with_data(name, &bytes);
            assert!(read(&whole).is_ok(), "{name}");
            let start = whole.len() - bytes.len() - bytes.len() % 2;
            for end in (start..whole.len()).step_by(bytes.len() / 40 + 1) {
                assert!(read(&whole[..end]).is_err(), "{name} cut at {end}");
                // The same with an honest size in the container.
                assert!(read(&with_data(name, &bytes[..end - start])).is_err(), "{name} with {} bytes", end - start);
            }
        }
    }

    #[test]
    fn bytes_after_the_compressed_stream_are_refused() {
        for (name, bytes) in
            [("data.tar.gz", gzip(&tar(&FILES))), ("data.tar.xz", xz(&tar(&FILES))), ("data.tar.zst", zst(&tar(&FILES)))]
        {
            let found = refusal(&with_data(name, &[bytes.clone(), b"more".to_vec()].concat()));
            assert!(found.ends_with(&format!("the member `{name}` goes on after its content")), "{found}");
            assert!(read(&with_data(name, &[bytes.clone(), bytes].concat())).is_err(), "{name} twice");
        }
        let found = refusal(&with_data("data.tar", &[tar(&FILES), tar(&FILES)].concat()));
        assert!(found.starts_with("its `data.tar` has no proper end at byte"), "{found}");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let limits = Limits { data: 1 << 20, ..Limits::default() };
        let zeros = tar(&[("./zeros", b'0', "", &vec![0; 8 << 20])]);
        for (name, bytes) in [("data.tar.gz", gzip(&zeros)), ("data.tar.xz", xz(&zeros)), ("data.tar.zst", zst(&zeros))] {
            let error = read_within(&with_data(name, &bytes), &limits).unwrap_err();
            assert_eq!(error.to_string(), format!("its `{name}` holds more than 1048576 bytes"));
        }
        let control = tar(&[("./control", b'0', "", CONTROL), ("./md5sums", b'0', "", &vec![0; 8 << 20])]);
        let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &gzip(&control)), ("data.tar", &tar(&FILES))]);
        let limits = Limits { control: 1 << 20, ..Limits::default() };
        assert!(matches!(read_within(&deb, &limits), Err(PackageError::TooLarge { .. })));
    }

    #[test]
    fn a_decompressor_that_wants_much_memory_is_refused() {
        let limits = Limits { decoder: 1 << 20, ..Limits::default() };
        let deb = with_data("data.tar.xz", &xz(&tar(&FILES)));
        assert!(matches!(read_within(&deb, &limits), Err(PackageError::Damaged { .. })));
        // A frame with a window of 4 GiB.
        let deb = with_data("data.tar.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 22 << 3, 0, 0, 0]);
        let found = refusal(&deb);
        assert!(found.starts_with("its `data.tar.zst` is damaged"), "{found}");
    }

    #[test]
    fn an_entry_that_has_no_place_in_an_image_is_refused_by_name() {
        let cases: [(&[Item], &str); 22] = [
            (&[("../x", b'0', "", b"")], "`../x`, which cannot be: the path `../x` contains `..`"),
            (&[("a/../../x", b'0', "", b"")], "contains `..`"),
            (&[("/etc/passwd", b'0', "", b"")], "`/etc/passwd`, which is an absolute path"),
            (&[("", b'0', "", b"")], "which has no name"),
            (&[("./", b'2', "/", b"")], "which is the root, but no folder"),
            (&[(".", b'0', "", b"")], "which is the root, but no folder"),
            (
                &[("./a", b'2', "/etc", b""), ("./a/passwd", b'0', "", b"x")],
                "which goes through the link `/a` of the same package",
            ),
            (&[("./a", b'0', "", b""), ("./a/b/c", b'0', "", b"x")], "which goes through the file `/a` of the same package"),
            (
                &[("./a/b", b'0', "", b""), ("./a", b'2', "/", b"")],
                "`./a`, which is no folder, but the package has put something",
            ),
            (&[("./a", b'0', "", b""), ("./a", b'0', "", b"")], "which comes twice"),
            (&[("./bin/a", b'0', "", b""), ("./usr/bin/a", b'0', "", b"")], "`./usr/bin/a`, which comes twice"),
            (&[("./a", b'1', "../../etc/shadow", b"")], "contains `..`"),
            (&[("./a", b'1', "./b", b""), ("./b", b'0', "", b"")], "is a hard link to `/b`, which is no earlier file"),
            (&[("./b", b'2', "c", b""), ("./a", b'1', "./b", b"")], "is a hard link to `/b`, which is no earlier file"),
            (&[("./n", b'3', "", b"")], "`./n`, which is a device"),
            (&[("./n", b'4', "", b"")], "which is a device"),
            (&[("./n", b'6', "", b"")], "which is a named pipe"),
            (&[("./n", b'S', "", b"")], "which has the type `S`"),
            (&[("./n", b'x', "", b"30 path=../../etc/passwd\n")], "which is a PAX header"),
            (&[("./n\u{1b}[2J\n", b'0', "", b"")], r"`./n\x1b[2J\x0a`, which has a line break in its path"),
            (&[("./n/", b'0', "", b"")], "which has the type `0`"),
            (&[("./n", b'2', "", b"")], "which is a link to nowhere"),
        ];
        for (items, expected) in cases {
            let found = refusal(&deb(items));
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn a_malformed_tar_is_refused_with_the_offset() {
        let mut negative = block("./a", b'0', "", "");
        negative[124..136].copy_from_slice(&[0xff; 12]);
        seal(&mut negative);
        let mut binary = block("./a", b'0', "", "");
        binary[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\0\0");
        seal(&mut binary);
        let huge = block("./a", b'0', "", "77777777777");
        let mut unsealed = block("./a", b'0', "", "00000000000");
        unsealed[0] = b'!';
        let long = |content: &[u8]| tar(&[("././@LongLink", b'L', "", content)]);
        let cases = [
            (negative.to_vec(), "its `data.tar` is damaged: size overflow"),
            (binary.to_vec(), "its `data.tar` has a header with a number that is not octal at byte 0"),
            ([huge.to_vec(), vec![7; 512]].concat(), "its `data.tar` is damaged: it ends too early"),
            (unsealed.to_vec(), "its `data.tar` is damaged: archive header checksum mismatch"),
            (long(b"./a"), "its `data.tar` has a long name for nothing at byte"),
            (long(&[b'a'; 5000]), "its `data.tar` has a long name that is too long or comes twice at byte 0"),
            (tar(&[("./a", b'5', "", b"x")]), "its `data.tar` has a header of a folder or link with content at byte 0"),
            (block("./a", b'0', "", "00000000000").to_vec(), "its `data.tar` has no proper end at byte 512"),
        ];
        for (data, expected) in cases {
            let found = refusal(&with_data("data.tar", &data));
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn a_long_name_belongs_to_the_next_entry() {
        let name = format!("./{}/{}\0", "a".repeat(200), "b".repeat(200));
        let items: [Item; 3] =
            [("././@LongLink", b'L', "", name.as_bytes()), ("./cut", b'0', "", b"x"), ("./next", b'0', "", b"y")];
        let (_, entries) = read(&deb(&items)).unwrap();
        assert!(entries[1].starts_with(&format!("/{}/{} ", "a".repeat(200), "b".repeat(200))));
        assert!(entries[2].starts_with("/next "));
    }

    #[test]
    fn too_many_entries_and_too_long_paths_are_refused() {
        let names: Vec<String> = (0..30).map(|number| format!("./{number}")).collect();
        let items: Vec<Item> = names.iter().map(|name| (name.as_str(), b'0', "", b"".as_slice())).collect();
        for limits in [Limits { entries: 20, ..Limits::default() }, Limits { paths: 30, ..Limits::default() }] {
            let error = read_within(&deb(&items), &limits).unwrap_err();
            assert!(error.to_string().ends_with("which is one too many"), "{error}");
        }
    }

    #[test]
    fn a_control_archive_holds_files_with_plain_names_only() {
        let cases: [(&[Item], &str); 9] = [
            (&[("./x", b'0', "", b"")], "its control file `control` is missing"),
            (&[("./../x", b'0', "", b"")], "which is not a name that a control file can have"),
            (&[("./list", b'0', "", b"")], "which is not a name that a control file can have"),
            (&[("./postinst", b'2', "/bin/sh", b"")], "which is neither a file nor"),
            (&[("./control", b'0', "", b""), ("./control", b'0', "", b"")], "which comes twice"),
            (&[("./control", b'0', "", b"\xff")], "its control file is malformed: paragraph 1, line 1: it is not UTF-8"),
            (&[("./control", b'0', "", b"Package: a\nPackage: b\n")], "the field `Package` stands twice in the paragraph"),
            (
                &[("./control", b'0', "", CONTROL), ("./triggers", b'0', "", b"interest a b\n")],
                "has the line `interest\\x20a\\x20b`",
            ),
            (
                &[("./control", b'0', "", CONTROL), ("./triggers", b'0', "", b"interest ../x\n")],
                "has the line `interest\\x20../x`",
            ),
        ];
        for (items, expected) in cases {
            let found = refusal(&ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar(items)), ("data.tar", &tar(&FILES))]));
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn aliases_of_merged_usr_are_followed_but_not_the_aliases_themselves() {
        let canonical = |text: &str, folder| canonical_path(&TreePath::parse(text.as_bytes()).unwrap(), folder).to_string();
        assert_eq!(canonical("lib64/ld.so", false), "/usr/lib64/ld.so");
        assert_eq!(canonical("lib", false), "/lib");
        assert_eq!(canonical("lib", true), "/usr/lib");
        assert_eq!(canonical("library/x", false), "/library/x");
        assert_eq!(canonical("etc/bin", false), "/etc/bin");
    }
}
