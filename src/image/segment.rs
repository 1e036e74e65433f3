//! A segment: the entries of one package as they stand in a layer, compressed once and used in every image.
//!
//! Its entries come in the order of their paths, not in that of the .deb: so the tree alone gives the uncompressed bytes
//! back, a stored segment need never be inflated, and the compression can wait until the package's scripts run.
//! The root folder is left out; it belongs to no package. There is no end of archive.

use std::io::{self, Write};

use super::member::{Compressor, MemberWriter, Pool};
use super::tar::{Contents, TarError, TarWriter};
use crate::model::digest::{BlobDigest, Hasher, SegmentKey};
use crate::model::lock::WRITER;
use crate::model::tree::Tree;

/// What is known of a stored segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Bytes of tar.
    pub raw_size: u64,
    /// CRC-32 of the tar: tells a damaged file content when the tar is made again.
    pub raw_crc: u32,
    /// Bytes as stored.
    pub stored_size: u64,
    /// CRC-32 of the stored bytes: tells a damaged segment while it is copied.
    pub stored_crc: u32,
    /// The digest of the stored bytes.
    pub stored: BlobDigest,
}

impl SegmentInfo {
    /// Returns one line of text without its end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { raw_size, raw_crc, stored_size, stored_crc, stored } = self;
        format!("{raw_size} {raw_crc:08x} {stored_size} {stored_crc:08x} {}", stored.hex())
    }

    /// Reads what [`SegmentInfo::to_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.trim_end_matches('\n').split(' ').collect();
        let [raw_size, raw_crc, stored_size, stored_crc, stored] = fields[..] else { return None };
        let info = Self {
            raw_size: raw_size.parse().ok()?,
            raw_crc: u32::from_str_radix(raw_crc, 16).ok()?,
            stored_size: stored_size.parse().ok()?,
            stored_crc: u32::from_str_radix(stored_crc, 16).ok()?,
            stored: format!("sha256:{stored}").parse().ok()?,
        };
        (info.to_text() == text.trim_end_matches('\n')).then_some(info)
    }
}

/// Returns the key under which a tree's segment is stored: everything that its bytes depend on.
#[must_use]
pub fn key(tree: &Tree, compressor: Compressor) -> SegmentKey {
    let mut hasher = Hasher::new();
    hasher.update(format!("parvis-segment {WRITER} {compressor}\n").as_bytes());
    hasher.update(tree.to_text().as_bytes());
    hasher.finish()
}

/// Writes a tree as a segment; its entries and contents pass the gate.
///
/// # Errors
/// What the gate refuses, contents that cannot be read or have another size, and a failed write.
pub fn write<W: Write>(
    tree: &Tree,
    contents: &dyn Contents,
    compressor: Compressor,
    pool: Option<&Pool>,
    out: W,
) -> Result<(SegmentInfo, W), TarError> {
    let stored = Counted::hashed(out);
    let members = match pool {
        Some(pool) => MemberWriter::pooled(stored, pool),
        None => MemberWriter::new(stored, compressor)?,
    };
    let mut raw = TarWriter::guarded(Counted::plain(members));
    write_entries(tree, contents, &mut raw)?;
    let Counted { out: members, size: raw_size, crc: raw_crc, .. } = raw.into_inner();
    let Counted { out, size: stored_size, crc: stored_crc, hasher } = members.finish()?;
    let stored = hasher.unwrap_or_default().finish();
    Ok((SegmentInfo { raw_size, raw_crc: raw_crc.sum(), stored_size, stored_crc: stored_crc.sum(), stored }, out))
}

/// Writes the tar of a segment.
pub(super) fn write_entries<W: Write>(tree: &Tree, contents: &dyn Contents, out: &mut TarWriter<W>) -> Result<(), TarError> {
    tree.iter().filter(|(path, _)| !path.is_root()).try_for_each(|(path, entry)| out.put(path, entry, contents))
}

/// Passes bytes on, counts and sums them.
pub(super) struct Counted<W> {
    pub out: W,
    pub size: u64,
    pub crc: libdeflater::Crc,
    pub hasher: Option<Hasher>,
}

impl<W> Counted<W> {
    pub fn plain(out: W) -> Self {
        Self { out, size: 0, crc: libdeflater::Crc::new(), hasher: None }
    }

    pub fn hashed(out: W) -> Self {
        Self { hasher: Some(Hasher::new()), ..Self::plain(out) }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let bytes = &bytes[..written];
        self.size += written as u64;
        self.crc.update(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
