//! A reader of tars from outside that takes nothing two readers could see two contents in.
//!
//! It reads what engines and builders write: ustar, GNU long names and numbers, and pax. Where these formats leave room for
//! two meanings — a pax size beside another size, a body behind a link, a record of sparse files, something behind the end —
//! the archive is refused and not interpreted.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::model::tree::escape;

/// The most that the extended headers of one entry may hold.
const EXTENDED: u64 = 1 << 20;

/// The largest size that a ustar header can state.
const USTAR_SIZE: u64 = 0o777_7777_7777;

/// An archive that is not one, or could be read in two ways.
#[derive(Debug, thiserror::Error)]
pub enum UntarError {
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    #[error("the archive is cut off at byte {offset}")]
    Short { offset: u64 },
    #[error("the archive is damaged or hostile at byte {offset}: {problem}")]
    Wrong { offset: u64, problem: String },
}

/// A header with everything that the extended headers before it say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawEntry {
    /// Where the header begins.
    pub offset: u64,
    /// The type: `0`, `1`, `2`, `5`, or that of a device (`3`, `4`) or pipe (`6`).
    pub kind: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: i64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Something that is read from front to back, in which bytes can be passed over.
pub trait Skip: Read {
    /// Passes over bytes; whether they are there may only show at the next read.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// Passes over bytes by reading them.
pub struct Streamed<R>(pub R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Streamed<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())? == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Reads entries one after the other.
pub struct Untar<R> {
    input: R,
    offset: u64,
    /// What the current entry's body still has, and the zeros behind it.
    body: u64,
    padding: u64,
    ended: bool,
}

impl<R: Skip> Untar<R> {
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, body: 0, padding: 0, ended: false }
    }

    /// Returns the next entry; its body can then be read from this reader. `None` behind the last one.
    pub fn next_entry(&mut self) -> Result<Option<RawEntry>, UntarError> {
        let mut extended = Extended::default();
        loop {
            self.skip_body()?;
            let start = self.offset;
            let wrong = |problem: String| UntarError::Wrong { offset: start, problem };
            let Some(block) = self.header_block()? else {
                return if extended.is_empty() { Ok(None) } else { Err(wrong("an extended header without an entry".into())) };
            };
            let header = parse_header(&block).map_err(|problem| wrong(problem.into()))?;
            match header.kind {
                b'x' | b'g' | b'L' | b'K' => {
                    let body = self.extended_body(start, &header)?;
                    extended.take(header.kind, body).map_err(wrong)?;
                }
                _ => {
                    let mut entry = extended.apply(header).map_err(wrong)?;
                    entry.offset = start;
                    self.begin_body(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Returns where the current entry's body goes on.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Reads to the end of the input, behind the last entry: nothing but zeros may stand there.
    pub fn finish(mut self) -> Result<R, UntarError> {
        debug_assert!(self.ended);
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = self.input.read(&mut buffer)?;
            if read == 0 {
                return Ok(self.input);
            }
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(UntarError::Wrong { offset: self.offset, problem: "something stands behind its end".into() });
            }
            self.offset += read as u64;
        }
    }

    fn begin_body(&mut self, size: u64) {
        self.body = size;
        self.padding = (512 - size % 512) % 512;
    }

    fn skip_body(&mut self) -> Result<(), UntarError> {
        let rest = self.body.checked_add(self.padding).ok_or(UntarError::Short { offset: self.offset })?;
        (self.body, self.padding) = (0, 0);
        let offset = self.offset;
        self.offset = offset.checked_add(rest).ok_or(UntarError::Short { offset })?;
        self.input.skip(rest).map_err(|error| short(error, offset))
    }

    fn block(&mut self) -> Result<[u8; 512], UntarError> {
        let mut block = [0; 512];
        self.input.read_exact(&mut block).map_err(|error| short(error, self.offset))?;
        self.offset += 512;
        Ok(block)
    }

    /// Returns the next block, or `None` for the two blocks of zeros that end an archive.
    fn header_block(&mut self) -> Result<Option<[u8; 512]>, UntarError> {
        if self.ended {
            return Ok(None);
        }
        let block = self.block()?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        if self.block()?.iter().any(|byte| *byte != 0) {
            return Err(UntarError::Wrong { offset: self.offset - 512, problem: "an entry behind a block of zeros".into() });
        }
        self.ended = true;
        Ok(None)
    }

    fn extended_body(&mut self, start: u64, header: &RawEntry) -> Result<Vec<u8>, UntarError> {
        if header.size > EXTENDED {
            let problem = format!("extended headers of {} bytes; at most {EXTENDED} are read", header.size);
            return Err(UntarError::Wrong { offset: start, problem });
        }
        self.begin_body(header.size);
        let mut body = Vec::new();
        self.read_to_end(&mut body).map_err(|error| short(error, start))?;
        Ok(body)
    }
}

impl<R: Skip> Read for Untar<R> {
    /// Reads from the body of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.body).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.body -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }
}

fn short(error: io::Error, offset: u64) -> UntarError {
    if error.kind() == io::ErrorKind::UnexpectedEof { UntarError::Short { offset } } else { UntarError::Read(error) }
}

fn parse_header(block: &[u8; 512]) -> Result<RawEntry, &'static str> {
    let sum = octal(&block[148..156]).ok_or("a checksum that is no number")?;
    let found: u64 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    if sum != found {
        return Err("a header whose checksum is wrong");
    }
    let posix = &block[257..265] == b"ustar\x0000";
    if !posix && &block[257..265] != b"ustar  \0" {
        return Err("a header that is neither ustar nor GNU");
    }
    let kind = match block[156] {
        0 | b'0' | b'7' => b'0',
        kind @ (b'1'..=b'6' | b'x' | b'g' | b'L' | b'K') => kind,
        b'S' => return Err("a sparse file"),
        _ => return Err("an entry of an unknown type"),
    };
    let mut name = text(&block[..100]).to_vec();
    let prefix = text(&block[345..500]);
    // GNU keeps other things where ustar has the prefix.
    if posix && !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let small = |range: std::ops::Range<usize>| number(&block[range]).and_then(|value| u32::try_from(value).ok());
    Ok(RawEntry {
        offset: 0,
        kind,
        name,
        link: text(&block[157..257]).to_vec(),
        mode: u16::try_from(number(&block[100..108]).ok_or("a mode that is no number")? & 0o7777).unwrap_or_default(),
        uid: small(108..116).ok_or("a user that is no number")?,
        gid: small(116..124).ok_or("a group that is no number")?,
        size: number(&block[124..136]).filter(|size| *size <= i64::MAX.unsigned_abs()).ok_or("a size that is no number")?,
        mtime: number(&block[136..148]).and_then(|time| i64::try_from(time).ok()).ok_or("a date that is no number")?,
        xattrs: BTreeMap::new(),
    })
}

/// Returns a field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Reads octal digits between spaces, ended by a space, a NUL or the field; an empty field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads a number in octal or, when its first bit is set, in GNU's base 256. Negative ones are none.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, rest @ ..] => rest.iter().try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte))),
        [first, ..] if *first > 0x80 => None,
        _ => octal(field),
    }
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extended {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.long_name.is_none() && self.long_link.is_none()
    }

    fn take(&mut self, kind: u8, mut body: Vec<u8>) -> Result<(), String> {
        match kind {
            b'x' => {
                if !self.records.is_empty() {
                    return Err("two pax headers for one entry".into());
                }
                self.records = parse_pax(&body)?;
            }
            // What a global header says of names or sizes would hold for entries that readers may not connect with it.
            b'g' => {
                if let Some(key) = parse_pax(&body)?.keys().find(|key| *key != b"comment") {
                    return Err(format!("a global header that sets `{}`", escape(&key[..key.len().min(60)])));
                }
            }
            _ => {
                if body.pop() != Some(0) || body.contains(&0) {
                    return Err("a long name that has no end, or two".into());
                }
                let slot = if kind == b'L' { &mut self.long_name } else { &mut self.long_link };
                if slot.replace(body).is_some() {
                    return Err("two long names for one entry".into());
                }
            }
        }
        Ok(())
    }

    fn apply(self, mut entry: RawEntry) -> Result<RawEntry, String> {
        let Self { records, long_name, long_link } = self;
        if (long_name.is_some() || long_link.is_some()) && !records.is_empty() {
            return Err("both a pax header and a GNU long name".into());
        }
        entry.name = long_name.unwrap_or(entry.name);
        entry.link = long_link.unwrap_or(entry.link);
        for (key, value) in records {
            let wrong = || format!("a pax record `{}` that cannot be read", escape(&key[..key.len().min(60)]));
            let digits = || std::str::from_utf8(&value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match &key[..] {
                b"path" | b"linkpath" if value.is_empty() || value.contains(&0) => return Err(wrong()),
                b"path" => entry.name = value,
                b"linkpath" => entry.link = value,
                b"uid" => entry.uid = digits().and_then(|text| text.parse().ok()).ok_or_else(wrong)?,
                b"gid" => entry.gid = digits().and_then(|text| text.parse().ok()).ok_or_else(wrong)?,
                b"mtime" => entry.mtime = whole_seconds(&value).ok_or_else(wrong)?,
                b"size" => {
                    let size: u64 = digits().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
                    let one_meaning = entry.size == size || entry.size == 0 && size > USTAR_SIZE;
                    if !one_meaning || i64::try_from(size).is_err() {
                        return Err(format!("two sizes, {} and {size}, for one entry", entry.size));
                    }
                    entry.size = size;
                }
                _ if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.realsize") => return Err("a sparse file".into()),
                b"hdrcharset" if value != b"BINARY" => return Err("names in an unknown alphabet".into()),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        let name = String::from_utf8(name.to_vec()).map_err(|_| wrong())?;
                        entry.xattrs.insert(name, value);
                    }
                    // Dates of access, names of users and comments do not enter a tree.
                }
            }
        }
        if entry.kind != b'0' && entry.size != 0 {
            return Err("a body behind an entry that is no file".into());
        }
        Ok(entry)
    }
}

/// Returns the whole seconds before a date; fractions are cut off, as engines do.
fn whole_seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(fraction) && digits(seconds.strip_prefix('-').unwrap_or(seconds))).then(|| seconds.parse().ok())?
}

/// Reads records of the form `LENGTH KEY=VALUE\n`.
fn parse_pax(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let wrong = || "a pax header that cannot be read".to_owned();
    let mut records = BTreeMap::new();
    while !body.is_empty() {
        let space = body.iter().take(12).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let digits = std::str::from_utf8(&body[..space]).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length: usize = digits.and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        let record = body.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(wrong)?;
        let (key, value) = (record[..equals].to_vec(), record[equals + 1..].to_vec());
        if records.insert(key, value).is_some() {
            return Err("a pax record that stands twice".into());
        }
        body = &body[length..];
    }
    Ok(records)
}
