//! An image of a repository, read as those of layouts and archives are: its documents first, its layers when they are asked for.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use super::archive::{ArchiveError, Files, FoundImage, FoundLayer, blob_name, is_index};
use super::canonical;
use super::layout::from_archive;
use super::oci::{self, Descriptor, OciError};
use super::repository::{Repository, RepositoryError};
use crate::model::digest::BlobDigest;

/// The layers of an image of a repository.
pub struct Placed<'a> {
    place: &'a dyn Repository,
    layers: BTreeMap<String, (BlobDigest, u64)>,
    /// The layer that was opened last.
    last: Mutex<Option<BlobDigest>>,
}

/// Returns the manifests that a descriptor stands for: those of its index, or itself. Attestations of other tools inside of an
/// index, which are images in form only, are left out.
///
/// # Errors
/// Refuses an index in an index, and what is not what was promised.
pub fn manifests(place: &dyn Repository, top: &Descriptor) -> Result<Vec<Descriptor>, RepositoryError> {
    if !is_index(top) {
        return Ok(vec![top.clone()]);
    }
    let index = oci::parse_index(&document(place, top)?).map_err(|error| damaged(place, &top.digest, error))?;
    let mut found = index.manifests;
    found.retain(|line| !line.annotations.contains_key("vnd.docker.reference.type"));
    if found.iter().any(is_index) {
        let problem = "has an index in it".to_owned();
        return Err(RepositoryError::Damaged { place: place.place(), name: top.digest.to_string(), problem });
    }
    Ok(found)
}

impl<'a> Placed<'a> {
    /// Reads the two documents of an image.
    ///
    /// # Errors
    /// Refuses documents that are missing, or not what was promised.
    pub fn open(place: &'a dyn Repository, line: &Descriptor) -> Result<(Self, FoundImage), RepositoryError> {
        let manifest = oci::parse_manifest(&document(place, line)?).map_err(|error| damaged(place, &line.digest, error))?;
        let config = small(place, &manifest.config)?;
        let config = oci::parse_config(&config, manifest.layers.len());
        let config = config.map_err(|error| damaged(place, &manifest.config.digest, error))?;
        let named = |layer: &Descriptor| (blob_name(&layer.digest), (layer.digest, layer.size));
        let layers = manifest.layers.iter().map(named).collect();
        let layer = |layer: &Descriptor| FoundLayer { file: blob_name(&layer.digest), descriptor: Some(layer.clone()) };
        let found = manifest.layers.iter().map(layer).collect();
        Ok((
            Self { place, layers, last: Mutex::default() },
            FoundImage { names: Vec::new(), manifest: Some(manifest), config, layers: found },
        ))
    }
}

impl Placed<'_> {
    /// Returns the layer that was opened last: where reading failed, it is the one that failed.
    #[must_use]
    pub fn last(&self) -> Option<BlobDigest> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Placed<'_> {
    fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
        let Some((digest, size)) = self.layers.get(name) else { return Ok(None) };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(*digest);
        let content = self.place.blob(digest, *size).map_err(io::Error::other)?;
        Ok(content.map(|content| (*size, content)))
    }
}

fn document(place: &dyn Repository, line: &Descriptor) -> Result<Vec<u8>, RepositoryError> {
    let (_, bytes) = place.document(&line.digest)?.ok_or_else(|| missing(place, &line.digest))?;
    line.verify(&bytes).map_err(|error| damaged(place, &line.digest, error))?;
    Ok(bytes)
}

/// Reads a configuration, which is a blob and yet a document.
fn small(place: &dyn Repository, blob: &Descriptor) -> Result<Vec<u8>, RepositoryError> {
    if blob.size > canonical::LIMIT as u64 {
        let problem = format!("has {} bytes; at most {} are read", blob.size, canonical::LIMIT);
        return Err(RepositoryError::Damaged { place: place.place(), name: blob.digest.to_string(), problem });
    }
    let mut content = place.blob(&blob.digest, blob.size)?.ok_or_else(|| missing(place, &blob.digest))?;
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => RepositoryError::Unreachable { place: place.place(), source: source.into(), hint: None },
        _ => {
            let problem = format!("cannot be used: {source}");
            RepositoryError::Damaged { place: place.place(), name: blob.digest.to_string(), problem }
        }
    })?;
    blob.verify(&bytes).map_err(|error| damaged(place, &blob.digest, error))?;
    Ok(bytes)
}

fn damaged(place: &dyn Repository, digest: &BlobDigest, error: OciError) -> RepositoryError {
    from_archive(&place.place(), &digest.to_string(), error.into())
}

fn missing(place: &dyn Repository, digest: &BlobDigest) -> RepositoryError {
    from_archive(&place.place(), &digest.to_string(), ArchiveError::MissingBlob { digest: *digest })
}
