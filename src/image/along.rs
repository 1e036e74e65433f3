//! What is said of images, taken along when they go from one place to another: signatures and attestations, in both forms.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::REFERRERS;
use super::layout::{Additions, subject_of};
use super::oci::{self, Descriptor, OciError, REF_NAME};
use super::repository::{Repository, RepositoryError};
use crate::model::digest::BlobDigest;

/// Bytes of one part of an artifact that are taken along: a list of all files of a large image has some MiB.
const LARGEST: u64 = 32 << 20;

/// Bytes of all of them.
const MOST_BYTES: u64 = 256 << 20;

/// Artifacts that are taken along; a layout's list has room for some more lines.
const MOST: usize = 500;

/// What stands behind a tag that is made of an image's digest.
const ENDINGS: [&str; 3] = ["sig", "att", "sbom"];

/// What is said of images.
#[derive(Debug, Default)]
pub struct Along {
    /// The lines by which a layout or an archive lists it.
    pub lines: Vec<Descriptor>,
    /// All bytes that belong to it.
    pub blobs: BTreeMap<BlobDigest, Vec<u8>>,
    /// Artifacts that were left where they are, because they are damaged, too large or too many.
    pub left: usize,
}

/// Why one artifact is not taken along.
enum Stop {
    /// It is the fault of the artifact, and no reason to leave the others.
    Unfit,
    Place(RepositoryError),
}

impl From<RepositoryError> for Stop {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Damaged { .. } => Self::Unfit,
            error => Self::Place(error),
        }
    }
}

/// Reads everything that a place knows of these images, each manifest and index by its digest.
///
/// # Errors
/// The place cannot be reached, or does not let its lists be read.
pub fn gather(place: &dyn Repository, subjects: &BTreeSet<BlobDigest>) -> Result<Along, RepositoryError> {
    let mut along = Along::default();
    for subject in subjects {
        let mut found: Vec<(BlobDigest, Option<String>)> =
            place.referrers(subject)?.into_iter().map(|line| (line.digest, None)).collect();
        for ending in ENDINGS {
            let tag = format!("sha256-{}.{ending}", subject.hex());
            found.extend(place.resolve(&tag)?.map(|line| (line.digest, Some(tag))));
        }
        for (digest, tag) in found {
            match along.take(place, subject, &digest, tag) {
                Ok(()) => {}
                Err(Stop::Unfit) => along.left += 1,
                Err(Stop::Place(error)) => return Err(error),
            }
        }
    }
    Ok(along)
}

impl Along {
    fn take(
        &mut self,
        place: &dyn Repository,
        subject: &BlobDigest,
        digest: &BlobDigest,
        tag: Option<String>,
    ) -> Result<(), Stop> {
        if self.lines.len() >= MOST {
            return Err(Stop::Unfit);
        }
        let (media_type, bytes) = place.document(digest)?.ok_or(Stop::Unfit)?;
        let artifact = oci::parse_artifact(&bytes).map_err(|_| Stop::Unfit)?;
        let mut line = Descriptor::of(media_type, &bytes);
        line.artifact_type = artifact.subject.is_some().then(|| artifact.artifact_type.clone());
        line.annotations.extend(tag.map(|tag| (REF_NAME.to_owned(), tag)));
        // What a layout would take for an image, or for something said of another one, has no place in it.
        if subject_of(&line, &artifact) != Some(*subject) {
            return Err(Stop::Unfit);
        }
        let parts: Vec<&Descriptor> = artifact.layers.iter().chain([&artifact.config]).collect();
        let sizes = parts.iter().map(|part| part.size).chain([bytes.len() as u64]);
        let held: u64 = self.blobs.values().map(|bytes| bytes.len() as u64).sum();
        if parts.iter().any(|part| part.size > LARGEST) || sizes.fold(held, u64::saturating_add) > MOST_BYTES {
            return Err(Stop::Unfit);
        }
        let mut read = BTreeMap::from([(*digest, bytes)]);
        for part in parts {
            if let std::collections::btree_map::Entry::Vacant(slot) = read.entry(part.digest) {
                let mut content = place.blob(&part.digest, part.size)?.ok_or(Stop::Unfit)?;
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(|_| Stop::Unfit)?;
                slot.insert(bytes);
            }
        }
        self.blobs.extend(read);
        self.lines.push(line);
        Ok(())
    }

    /// Returns what an archive has more because of it; `None` where nothing is said.
    ///
    /// # Errors
    /// Never: what was read can be written.
    pub fn additions(&self) -> Result<Option<Additions>, OciError> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        let list = (REFERRERS, oci::write_index(&self.lines)?.bytes);
        Ok(Some(Additions { blobs: self.blobs.clone(), list }))
    }
}
