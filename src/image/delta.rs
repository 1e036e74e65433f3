//! The difference between two downloads: how the newer one-file archive is put together from blobs of the older one and from new bytes.
//!
//! ```text
//! parvis delta 1
//! from civiparoisse-1.3.0-amd64        the older download: one of its name holds `NAME/images.tar`
//! to civiparoisse-1.4.0-amd64          the newer one
//! images 9f86d0…                       the digest of the newer `images.tar`
//! new 0000                             the bytes of the file `part-0000`
//! old 2c26b4… 30720                    a blob of the older `images.tar`, with its size
//! seal 5061                            the signed statement, behind a header whose size and checksum follow from it
//! ```
//!
//! The statement lists the parts of the difference, so nothing here can hold its digest, nor even its size: its header stands in three
//! pieces (`seal-head`, `seal-middle`, `seal-tail`), and the number is the header's checksum for a size of 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::ops::Range;

use super::archive::{Checked, Files, blob_name};
use super::tar::{self, END};
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::problem::shown;
use crate::model::tree::TreePath;

/// The name of the list in a difference.
pub const LIST: &str = "delta.txt";

/// The pieces of the statement's header: up to its size, up to its checksum, and the rest.
pub const SEAL: [&str; 3] = ["seal-head", "seal-middle", "seal-tail"];

/// The first line of a list.
const HEADING: &str = "parvis delta 1";

/// Lines of a list at most.
const MOST: usize = 10_000;

/// Where a header states size and checksum (POSIX.1-2001, pax, ustar header block).
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;

/// What comes next in the newer archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The bytes of this part.
    New(u32),
    /// A blob of the older archive.
    Old(BlobDigest, u64),
    /// The entry of the signed statement; the checksum of its header for a size of 0.
    Seal(u32),
}

/// The list of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The older download, without `.tar`.
    pub from: String,
    /// The newer download, without `.tar`.
    pub to: String,
    /// The digest of the newer archive of images.
    pub images: FileDigest,
    pub pieces: Vec<Piece>,
}

/// Something that is no difference, or that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error("line {line} of `{LIST}` is none of a difference: `{text}`")]
    Line { line: usize, text: String },
    #[error("`{LIST}` does not say what it makes from what")]
    Heading,
    #[error("`{0}` is missing")]
    Missing(String),
    #[error("the older archive has no blob `{0}`")]
    Base(BlobDigest),
    #[error("cannot read or write")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tar(#[from] tar::TarError),
}

/// Returns the name of the file of a part.
#[must_use]
pub fn part_name(number: u32) -> String {
    format!("part-{number:04}")
}

impl Delta {
    /// Reads a list.
    ///
    /// # Errors
    /// Refuses every line that [`Delta::render`] would not write, lists without a statement or with two, and more than 10,000 lines.
    pub fn parse(text: &str) -> Result<Self, DeltaError> {
        let wrong = |line: usize, text: &str| DeltaError::Line { line: line + 1, text: shown(text) };
        let mut lines = text.lines().enumerate();
        let mut heading = |key: &str| {
            let (_, line) = lines.next().ok_or(DeltaError::Heading)?;
            line.strip_prefix(key).map(str::to_owned).ok_or(DeltaError::Heading)
        };
        let (empty, from, to, images) = (heading(HEADING)?, heading("from ")?, heading("to ")?, heading("images ")?);
        let images = images.parse().map_err(|_| DeltaError::Heading)?;
        if !empty.is_empty() || !is_plain(&from) || !is_plain(&to) || from == to {
            return Err(DeltaError::Heading);
        }
        let mut pieces = Vec::new();
        // Each thing comes once: what is made is never larger than what it is made from.
        let (mut parts, mut blobs) = (0, BTreeSet::new());
        for (number, line) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let piece = match words[..] {
                ["new", part] => part.parse().ok().map(Piece::New),
                ["old", digest, size] => {
                    let digest = format!("sha256:{digest}").parse().ok();
                    digest.zip(size.parse().ok()).map(|(digest, size)| Piece::Old(digest, size))
                }
                ["seal", sum] => sum.parse().ok().map(Piece::Seal),
                _ => None,
            };
            let piece = piece.filter(|piece| piece.to_string() == line && number < MOST).ok_or_else(|| wrong(number, line))?;
            let first = match &piece {
                Piece::New(part) => std::mem::replace(&mut parts, part + 1) == *part,
                Piece::Old(digest, _) => blobs.insert(*digest),
                Piece::Seal(_) => true,
            };
            if !first {
                return Err(wrong(number, line));
            }
            pieces.push(piece);
        }
        let seals = pieces.iter().filter(|piece| matches!(piece, Piece::Seal(_))).count();
        if seals == 1 { Ok(Self { from, to, images, pieces }) } else { Err(DeltaError::Heading) }
    }

    /// Writes the list; [`Delta::parse`] reads the same from it.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { from, to, images, pieces } = self;
        let mut out = format!("{HEADING}\nfrom {from}\nto {to}\nimages {images}\n");
        for piece in pieces {
            let _ = writeln!(out, "{piece}");
        }
        out
    }

    /// Writes the newer archive: from the files of the difference, the signed statement, and the older `images.tar`, whose blobs are
    /// checked while they pass. Whether the result is right is for the caller to say.
    ///
    /// # Errors
    /// Says what is missing or is not what it should be.
    pub fn apply(
        &self,
        own: &dyn Files,
        folder: &str,
        seal: &[u8],
        old: &dyn Files,
        out: &mut dyn Write,
    ) -> Result<(), DeltaError> {
        let copy = |name: &str, out: &mut dyn Write| -> Result<(), DeltaError> {
            let name = format!("{folder}{name}");
            let (_, mut content) = own.open(&name)?.ok_or(DeltaError::Missing(name))?;
            io::copy(&mut content, out)?;
            Ok(())
        };
        for piece in &self.pieces {
            match piece {
                Piece::New(part) => copy(&part_name(*part), out)?,
                Piece::Old(digest, size) => {
                    let found = old.open(&blob_name(digest))?.filter(|(found, _)| found == size);
                    let (_, content) = found.ok_or(DeltaError::Base(*digest))?;
                    io::copy(&mut Checked::new(content, *size, *digest), out)?;
                }
                Piece::Seal(sum) => {
                    let size = format!("{:011o}", seal.len());
                    let sum = size.bytes().fold(*sum, |sum, digit| sum.wrapping_add(u32::from(digit - b'0')));
                    copy(SEAL[0], out)?;
                    write!(out, "{size}\0")?;
                    copy(SEAL[1], out)?;
                    write!(out, "{sum:06o}\0 ")?;
                    copy(SEAL[2], out)?;
                    out.write_all(seal)?;
                    tar::write_padding(out, seal.len() as u64)?;
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Piece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New(part) => write!(formatter, "new {part:04}"),
            Self::Old(digest, size) => write!(formatter, "old {} {size}", digest.hex()),
            Self::Seal(sum) => write!(formatter, "seal {sum}"),
        }
    }
}

/// Whether a name can stand in a list and in a script without quotes: that of a download.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 200 && !name.starts_with(['-', '.']) && name.bytes().all(plain)
}

/// Bytes of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    Bytes(Vec<u8>),
    /// Of the newer archive of images.
    Images(Range<u64>),
}

/// A difference while it is made: what the newer download consists of, in its order.
#[derive(Debug, Default)]
pub struct Draft {
    pieces: Vec<Piece>,
    /// What each part consists of.
    pub parts: Vec<Vec<Run>>,
    /// The pieces of the statement's header, by name.
    pub seal: Vec<(&'static str, Vec<u8>)>,
}

impl Draft {
    fn run(&mut self, run: Run) {
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        if let (Some(Piece::New(_)), Some(part)) = (self.pieces.last(), self.parts.last_mut()) {
            part.push(run);
        } else {
            self.pieces.push(Piece::New(number));
            self.parts.push(vec![run]);
        }
    }

    /// Adds a small file.
    pub fn file(&mut self, name: &TreePath, program: bool, date: i64, bytes: &[u8]) -> Result<(), tar::TarError> {
        let mut entry = Vec::new();
        tar::write_entry(&mut entry, name, &tar::member(bytes.len() as u64, program, date), &mut &bytes[..], None)?;
        self.run(Run::Bytes(entry));
        Ok(())
    }

    /// Adds the archive of images, with the place of each of its blobs, of which the older archive has some.
    pub fn images(
        &mut self,
        name: &TreePath,
        date: i64,
        size: u64,
        blobs: &BTreeMap<BlobDigest, Range<u64>>,
        old: &BTreeSet<(BlobDigest, u64)>,
    ) -> Result<(), tar::TarError> {
        let mut header = Vec::new();
        tar::write_headers(&mut header, name, &tar::member(size, false, date), None)?;
        self.run(Run::Bytes(header));
        let mut kept: Vec<(&Range<u64>, BlobDigest)> = blobs
            .iter()
            .filter(|(digest, place)| old.contains(&(**digest, place.end - place.start)))
            .map(|(digest, place)| (place, *digest))
            .collect();
        kept.sort_by_key(|(place, _)| place.start);
        let mut at = 0;
        for (place, digest) in kept {
            self.run(Run::Images(at..place.start));
            self.pieces.push(Piece::Old(digest, place.end - place.start));
            at = place.end;
        }
        self.run(Run::Images(at..size));
        let mut padding = Vec::new();
        tar::write_padding(&mut padding, size)?;
        self.run(Run::Bytes(padding));
        Ok(())
    }

    /// Adds the signed statement, of which nothing is known yet but its name.
    pub fn seal(&mut self, name: &TreePath, date: i64) -> Result<(), tar::TarError> {
        let mut header = Vec::new();
        tar::write_headers(&mut header, name, &tar::member(0, false, date), None)?;
        // A pax header may stand before it, with a name that is too long.
        let begin = header.len() - 512;
        let block = &header[begin..];
        let sum = block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]).map(|byte| u32::from(*byte)).sum::<u32>();
        let sum = sum + 8 * u32::from(b' ');
        self.seal = vec![
            (SEAL[0], header[..begin + SIZE.start].to_vec()),
            (SEAL[1], block[SIZE.end..CHECKSUM.start].to_vec()),
            (SEAL[2], block[CHECKSUM.end..].to_vec()),
        ];
        self.pieces.push(Piece::Seal(sum));
        Ok(())
    }

    /// Ends the archive and returns the list.
    #[must_use]
    pub fn finish(&mut self, from: &str, to: &str, images: FileDigest) -> Delta {
        self.run(Run::Bytes(END.to_vec()));
        Delta { from: from.to_owned(), to: to.to_owned(), images, pieces: self.pieces.clone() }
    }
}

/// Reads a list of at most so many bytes as its lines can have.
///
/// # Errors
/// As [`Delta::parse`].
pub fn read(own: &dyn Files, folder: &str) -> Result<Delta, DeltaError> {
    let name = format!("{folder}{LIST}");
    let (size, content) = own.open(&name)?.ok_or_else(|| DeltaError::Missing(name.clone()))?;
    let limit = 100 * MOST as u64;
    if size > limit {
        return Err(DeltaError::Heading);
    }
    let mut text = String::new();
    content.take(limit).read_to_string(&mut text)?;
    Delta::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::archive::TarFiles;

    fn sample() -> Delta {
        Delta {
            from: "parish-1.3.0-amd64".into(),
            to: "parish-1.4.0-amd64".into(),
            images: FileDigest::of(b"images"),
            pieces: vec![Piece::New(0), Piece::Old(BlobDigest::of(b"blob"), 4), Piece::Seal(5061), Piece::New(1)],
        }
    }

    #[test]
    fn a_list_is_read_back_as_it_was_written() {
        assert_eq!(Delta::parse(&sample().render()).unwrap(), sample());
    }

    #[test]
    fn a_list_that_leads_elsewhere_is_refused() {
        let text = sample().render();
        for (what, with) in [
            ("delta 1", "delta 2"),
            ("from parish", "from ../parish"),
            ("from parish", "from -parish"),
            ("to parish-1.4.0", "to parish 1.4.0"),
            ("to parish-1.4.0", "to parish-1.3.0"),
            ("images ", "images x"),
            ("new 0000", "new 0"),
            ("new 0000", "new ../0"),
            ("new 0001", "newer 0001"),
            (" 4\n", " 04\n"),
            (" 4\n", " 4 \n"),
            ("seal 5061", "new 0002"),
            ("new 0001", "seal 1"),
            ("new 0001", "new 0000"),
            ("new 0001", "new 0002"),
            ("seal", &format!("{}\nseal", sample().pieces[1])),
        ] {
            let changed = text.replacen(what, with, 1);
            assert_ne!(changed, text);
            assert!(Delta::parse(&changed).is_err(), "{changed}");
        }
        let many: String = (2..10_000).map(|part| format!("new {part:04}\n")).collect();
        assert!(Delta::parse(&format!("{text}{many}")).is_err());
    }

    struct InMemory(BTreeMap<String, Vec<u8>>);

    impl Files for InMemory {
        fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
            Ok(self.0.get(name).map(|bytes| (bytes.len() as u64, Box::new(&bytes[..]) as Box<dyn Read>)))
        }
    }

    #[test]
    fn what_was_taken_apart_is_put_together_to_the_same_bytes() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        let (kept, fresh) = (vec![1; 700], vec![2; 300]);
        let mut images = Vec::new();
        for bytes in [&kept, &fresh] {
            let name = blob_name(&BlobDigest::of(bytes));
            tar::write_entry(&mut images, &path(&name), &tar::member(bytes.len() as u64, false, 0), &mut &bytes[..], None)
                .unwrap();
        }
        images.extend_from_slice(&END);
        let old = InMemory(BTreeMap::from([(blob_name(&BlobDigest::of(&kept)), kept.clone())]));
        // Statements of which the size is unknown before, and a name for which a header has no room.
        for (seal, folder) in [(vec![b'{'; 1000], "to".to_owned()), (vec![b'{'; 70_000], format!("{}é", "x".repeat(120)))] {
            let files = TarFiles::new(&images[..]).unwrap();
            let blobs = files.blobs();
            let mut draft = Draft::default();
            draft.file(&path("to/a"), true, 7, b"small").unwrap();
            let have = BTreeSet::from([(BlobDigest::of(&kept), 700)]);
            draft.images(&path("to/images.tar"), 7, images.len() as u64, &blobs, &have).unwrap();
            draft.seal(&path(&format!("{folder}/seal")), 7).unwrap();
            let delta = draft.finish("from", "to", FileDigest::of(&images));
            assert_eq!(delta.pieces.len(), 5);

            let mut own = BTreeMap::new();
            for (number, runs) in draft.parts.iter().enumerate() {
                let bytes = runs.iter().flat_map(|run| match run {
                    Run::Bytes(bytes) => bytes.clone(),
                    Run::Images(range) => {
                        images[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
                    }
                });
                own.insert(format!("d/{}", part_name(u32::try_from(number).unwrap())), bytes.collect());
            }
            own.extend(draft.seal.iter().map(|(name, bytes)| (format!("d/{name}"), bytes.clone())));
            own.insert("d/delta.txt".into(), delta.render().into_bytes());
            let own = InMemory(own);
            assert_eq!(read(&own, "d/").unwrap(), delta);
            let mut made = Vec::new();
            delta.apply(&own, "d/", &seal, &old, &mut made).unwrap();

            let mut expected = Vec::new();
            for (name, program, bytes) in
                [("to/a", true, &b"small"[..]), ("to/images.tar", false, &images), (&format!("{folder}/seal"), false, &seal)]
            {
                let entry = tar::member(bytes.len() as u64, program, 7);
                tar::write_entry(&mut expected, &path(name), &entry, &mut &bytes[..], None).unwrap();
            }
            expected.extend_from_slice(&END);
            assert!(made == expected);

            let other = InMemory(BTreeMap::new());
            assert!(matches!(delta.apply(&own, "d/", &seal, &other, &mut io::sink()), Err(DeltaError::Base(_))));
            let changed = InMemory(BTreeMap::from([(blob_name(&BlobDigest::of(&kept)), vec![3; 700])]));
            assert!(matches!(delta.apply(&own, "d/", &seal, &changed, &mut io::sink()), Err(DeltaError::Io(_))));
        }
    }
}
