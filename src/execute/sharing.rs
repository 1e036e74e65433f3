//! Finished steps as bytes for another machine's store, and taken from another's: only after everything in them was compared.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{IMAGE, ImageRecord, Site, TREE, from_store};
use crate::failure::Failure;
use crate::image::{canonical, oci};
use crate::model::digest::{BlobDigest, FileDigest, StepKey};
use crate::model::tree::{Entry, Kind, Origin, Tree};
use crate::plan::steps::{ImagePlan, Step, Work};
use crate::trust::cached::Part;

/// Bytes of a tree's text at most: some 400,000 files.
pub const TREE_LIMIT: u64 = 64 << 20;

/// Bytes of an image's record at most.
pub const IMAGE_LIMIT: u64 = 1 << 20;

/// The kind of an image's record.
pub const OF_IMAGE: &str = IMAGE;

/// The kind of a tree's record.
pub const OF_TREE: &str = TREE;

/// The content of a file that is in no package.
type Loose = (FileDigest, u16, u64);

/// The record of an image, and the blobs that belong to it.
pub type SharedImage = (Vec<u8>, Vec<Part>);

/// Why what came from elsewhere is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("its record cannot be read")]
    Record,
    #[error("its `{0}` is not what its record says")]
    Content(String),
    #[error("its `{0}` is not here")]
    Missing(String),
    #[error("it cannot be unpacked")]
    Unpack(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] crate::edge::store::StoreError),
}

/// Returns the steps of an image whose trees are worth sharing: those in which programs ran, and the last.
pub fn worth_sharing(image: &ImagePlan) -> impl Iterator<Item = &Step> {
    let last = image.tree_step().map(|step| step.key);
    let ran = |step: &&Step| match &step.work {
        Work::Packages { packages } => !packages.is_empty(),
        Work::Composer | Work::Run { .. } => true,
        Work::Files | Work::Remove | Work::Layers | Work::Image => false,
    };
    image.steps.iter().filter(move |step| ran(step) || Some(step.key) == last && !matches!(step.work, Work::Layers | Work::Image))
}

/// Returns what a tree holds that no package has, each content once, in the order of the paths.
fn loose(tree: &Tree) -> Vec<Loose> {
    let mut seen = BTreeSet::new();
    let of = |entry: &Entry| match (&entry.kind, &entry.origin) {
        (_, Origin::Package(_)) => None,
        (Kind::File { digest, size, .. }, _) => Some((*digest, entry.mode & 0o777, *size)),
        _ => None,
    };
    tree.iter().filter_map(|(_, entry)| of(entry)).filter(|item| seen.insert(*item)).collect()
}

/// Returns the manifest and the layers that an image's record needs. The configuration's size stands in the manifest.
pub fn parts_of(bytes: &[u8]) -> Result<(Part, Vec<Part>), TakeError> {
    let record: ImageRecord = serde_json::from_slice(bytes).map_err(|_| TakeError::Record)?;
    let layers = record.layers.iter().map(|layer| Part { digest: layer.digest, size: layer.size });
    Ok((Part { digest: record.manifest, size: record.manifest_size }, layers.collect()))
}

/// Keeps why reading failed apart from why the store did.
struct Watched<R> {
    content: R,
    broken: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).map_err(|error| {
            let shown = io::Error::new(error.kind(), error.to_string());
            self.broken = Some(error);
            shown
        })
    }
}

impl Site<'_> {
    /// Returns the record of a finished image, and the blobs that belong to it; nothing where it is not finished.
    pub fn share_image(&self, key: &StepKey) -> Result<Option<SharedImage>, Failure> {
        let Some(record) = self.image(key)? else { return Ok(None) };
        let Some(bytes) = self.store.record(IMAGE, &key.hex()).map_err(from_store)? else { return Ok(None) };
        let config = self.store.blob_size(&record.config).unwrap_or_default();
        let mut parts =
            vec![Part { digest: record.manifest, size: record.manifest_size }, Part { digest: record.config, size: config }];
        parts.extend(record.layers.iter().map(|layer| Part { digest: layer.digest, size: layer.size }));
        Ok(Some((bytes, parts)))
    }

    /// Packs a finished tree with what no package has of it into a blob of the store. Returns what its record is, and the blob;
    /// nothing where the step was not carried out, or a content is gone.
    pub fn share_tree(&self, key: &StepKey) -> Result<Option<(Part, Part)>, Failure> {
        let Some(text) = self.store.record(TREE, &key.hex()).map_err(from_store)? else { return Ok(None) };
        let Some(tree) = self.tree(key)? else { return Ok(None) };
        let failed = |error: io::Error| match super::store_error(&error) {
            Some(cause) => Failure::world(cause.to_string()).maybe_hint(cause.hint()),
            None => Failure::world("a finished step cannot be packed").because(error),
        };
        let blob = self.store.blob_writer(None, None).map_err(from_store)?;
        // Fast: it is read once or twice.
        let mut out = GzEncoder::new(blob, flate2::Compression::new(4));
        out.write_all(&text).map_err(failed)?;
        for (digest, mode, size) in loose(&tree) {
            if !self.store.has_file(&digest, mode, size) {
                return Ok(None);
            }
            let mut content = self.store.open_file(&digest, mode).map_err(from_store)?;
            io::copy(&mut content, &mut out).map_err(failed)?;
        }
        let (digest, size) = out.finish().map_err(failed)?.finish().map_err(from_store)?;
        Ok(Some((Part::of(&text), Part { digest, size })))
    }

    /// Takes in a tree that was packed elsewhere, with what no package has of it. Its packages must be unpacked here. The record comes
    /// last: nothing of a tree is seen that is not whole.
    ///
    /// # Errors
    /// Refuses another record than was promised, contents that are not the tree's, and a tree of which something is not here.
    pub fn take_tree(&self, key: &StepKey, record: &Part, packed: &mut dyn Read) -> Result<(), TakeError> {
        if record.size > TREE_LIMIT {
            return Err(TakeError::Record);
        }
        let mut packed = GzDecoder::new(packed);
        let mut text = Vec::new();
        packed.by_ref().take(record.size).read_to_end(&mut text).map_err(TakeError::Unpack)?;
        if Part::of(&text) != *record {
            return Err(TakeError::Content("record".into()));
        }
        let tree = std::str::from_utf8(&text).ok().and_then(|text| Tree::from_text(text).ok()).ok_or(TakeError::Record)?;
        for (digest, mode, size) in loose(&tree) {
            let mut content = Watched { content: packed.by_ref().take(size), broken: None };
            let put = self.store.put_file(&mut content, mode);
            if let Some(why) = content.broken {
                return Err(TakeError::Unpack(why));
            }
            if put? != (digest, size) {
                return Err(TakeError::Content(digest.hex()));
            }
        }
        // To the end, where the packed bytes are compared with their digest.
        if io::copy(&mut packed.by_ref().take(1), &mut io::sink()).map_err(TakeError::Unpack)? > 0 {
            return Err(TakeError::Content("end".into()));
        }
        io::copy(&mut packed.into_inner(), &mut io::sink()).map_err(TakeError::Unpack)?;
        for (path, entry) in tree.iter() {
            if let Kind::File { digest, size, .. } = entry.kind
                && !self.store.has_file(&digest, entry.mode, size)
            {
                return Err(TakeError::Missing(path.to_string()));
            }
        }
        Ok(self.store.put_record(TREE, &key.hex(), &text)?)
    }

    /// Takes in the record of an image whose blobs are in the store.
    ///
    /// # Errors
    /// Refuses a record that its own manifest and configuration contradict, and one of which a blob is missing.
    pub fn take_image(&self, key: &StepKey, bytes: &[u8]) -> Result<(), TakeError> {
        let record: ImageRecord = serde_json::from_slice(bytes).map_err(|_| TakeError::Record)?;
        let wrong = |what: &str| TakeError::Content(what.to_owned());
        let limit = canonical::LIMIT as u64;
        let manifest = self.store.read_blob(&record.manifest, limit)?;
        let parsed = oci::parse_manifest(&manifest).map_err(|_| wrong("manifest"))?;
        let layers: Vec<(BlobDigest, u64)> = parsed.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let promised: Vec<(BlobDigest, u64)> = record.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        if manifest.len() as u64 != record.manifest_size || parsed.config.digest != record.config || layers != promised {
            return Err(wrong("manifest"));
        }
        let config = self.store.read_blob(&record.config, limit)?;
        let config = oci::parse_config(&config, layers.len()).map_err(|_| wrong("configuration"))?;
        if config.diff_ids.iter().ne(record.layers.iter().map(|layer| &layer.diff_id)) {
            return Err(wrong("configuration"));
        }
        if let Some((digest, _)) = promised.iter().find(|(digest, size)| self.store.blob_size(digest) != Some(*size)) {
            return Err(TakeError::Missing(digest.to_string()));
        }
        Ok(self.store.put_record(IMAGE, &key.hex(), bytes)?)
    }
}
