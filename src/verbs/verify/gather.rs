//! What is looked at for a verdict: signatures beside an image, and every byte of it.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use super::words::Check;
use crate::image::canonical;
use crate::image::layout::MISSING;
use crate::image::oci::{self, Artifact, Descriptor};
use crate::image::reader;
use crate::image::repository::{Repository, RepositoryError};
use crate::model::digest::BlobDigest;
use crate::model::problem::shown;
use crate::screen::Task;
use crate::trust::bundle::{BUNDLE, Bundle, LIMIT};
use crate::trust::sign::is_index;
use crate::trust::simple;
use crate::trust::statement::{REBUILD, RELEASE, SIGNATURE, YANK};
use crate::trust::verdict::{Evidence, Finding};

/// The annotation by which an artifact says what its bundle states.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// Bytes of all bundles of one image that are read.
const MOST_BYTES: u64 = 256 << 20;

/// Entries of a list in cosign's older form that are named and not read.
const MOST_OTHERS: usize = 100;

/// Bytes of a layer when it is unpacked.
const LARGEST_LAYER: u64 = 32 << 30;

/// Says what a place did, as a verdict: what cannot be reached is not refused, what is damaged is.
pub fn from_place(error: RepositoryError) -> Finding {
    match error {
        RepositoryError::Damaged { name, problem, .. } if problem == MISSING => Finding::Missing { name },
        RepositoryError::Damaged { name, problem, .. } => Finding::Changed { name, expected: String::new(), found: problem },
        error => {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                words = format!("{words}: {cause}");
                source = cause.source();
            }
            let place = match error {
                RepositoryError::Unreachable { place, .. } | RepositoryError::Refused { place, .. } => place,
                _ => String::new(),
            };
            Finding::Unreachable { place, words }
        }
    }
}

fn changed(name: &BlobDigest, found: impl std::fmt::Display) -> Finding {
    Finding::Changed { name: name.to_string(), expected: String::new(), found: found.to_string() }
}

fn missing(name: &BlobDigest) -> Finding {
    Finding::Missing { name: name.to_string() }
}

/// Something that stands beside an image.
pub struct Beside {
    /// Its artifact, or the list of signatures in which it stands.
    pub line: Descriptor,
    /// It stands in a list under a tag, as cosign wrote it before there were referrers.
    pub is_older: bool,
    pub evidence: Evidence,
}

/// Returns what stands beside an image and might be a signature of it.
pub fn evidence(place: &dyn Repository, image: &BlobDigest) -> Result<Vec<Evidence>, Finding> {
    Ok(beside(place, image, false)?.into_iter().map(|found| found.evidence).collect())
}

/// Returns what stands beside an image: what might be a signature of it, or (`all`) everything.
pub fn beside(place: &dyn Repository, image: &BlobDigest, all: bool) -> Result<Vec<Beside>, Finding> {
    let mut found = Vec::new();
    let mut left = MOST_BYTES;
    for line in place.referrers(image).map_err(from_place)? {
        let Some((_, bytes)) = place.document(&line.digest).map_err(from_place)? else { continue };
        let Ok(artifact) = oci::parse_artifact(&bytes) else {
            found.push(Beside { line, is_older: false, evidence: Evidence::Else("unreadable".into()) });
            continue;
        };
        // A list of referrers may be anybody's; what counts is what the artifact itself says.
        if artifact.subject.as_ref().is_some_and(|subject| subject.digest == *image) {
            let evidence = bundle(place, &artifact, all, &mut left)?;
            let artifact_type = Some(artifact.artifact_type);
            found.push(Beside { line: Descriptor { artifact_type, ..line }, is_older: false, evidence });
        }
    }
    if let Some((line, list)) = tagged(place, &simple::tag(image))? {
        for entry in simple::entries(&list) {
            if let Some(payload) = small(place, &entry.payload, simple::LIMIT)? {
                found.push(Beside { line: line.clone(), is_older: true, evidence: Evidence::Simple { payload, entry } });
            }
        }
    }
    for ending in ["att", "sbom"].iter().filter(|_| all) {
        if let Some((line, list)) = tagged(place, &format!("sha256-{}.{ending}", image.hex()))? {
            let evidence = |layer: &Descriptor| Evidence::Else(shown(&layer.media_type));
            let entries = list.layers.iter().take(MOST_OTHERS);
            found.extend(entries.map(|layer| Beside { line: line.clone(), is_older: true, evidence: evidence(layer) }));
        }
    }
    Ok(found)
}

/// Reads a list that stands under a tag made of an image's digest; nothing where there is none, or no list.
fn tagged(place: &dyn Repository, tag: &str) -> Result<Option<(Descriptor, Artifact)>, Finding> {
    let Some(line) = place.resolve(tag).map_err(from_place)? else { return Ok(None) };
    let Some((_, bytes)) = place.document(&line.digest).map_err(from_place)? else { return Ok(None) };
    Ok(oci::parse_artifact(&bytes).ok().map(|list| (line, list)))
}

/// Returns what an artifact says.
fn bundle(place: &dyn Repository, artifact: &Artifact, all: bool, left: &mut u64) -> Result<Evidence, Finding> {
    let layer = artifact.layers.iter().find(|layer| layer.media_type == BUNDLE);
    let Some(layer) = layer else { return Ok(Evidence::Else(shown(&artifact.artifact_type))) };
    // What it says of itself is not believed where it would make it a signature; otherwise there is no reason to read it.
    let is_signature = |kind: &&String| [SIGNATURE, RELEASE, REBUILD, YANK].contains(&kind.as_str());
    if let Some(kind) = artifact.annotations.get(PREDICATE).filter(|kind| !all && !is_signature(kind)) {
        return Ok(Evidence::Else(shown(kind)));
    }
    if layer.size > *left {
        return Err(changed(&artifact.digest, "there is more beside the image than is read"));
    }
    *left -= layer.size;
    let bytes = small(place, layer, LIMIT as u64)?;
    Ok(match bytes.map(|bytes| Bundle::parse(&bytes)) {
        Some(Ok(bundle)) => Evidence::Bundle(bundle),
        Some(Err(_)) => Evidence::Else("unreadable".into()),
        None => Evidence::Else("missing".into()),
    })
}

/// Reads a blob of at most so many bytes; nothing where it is missing or larger.
fn small(place: &dyn Repository, blob: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, Finding> {
    if blob.size > limit {
        return Ok(None);
    }
    let Some(mut content) = place.blob(&blob.digest, blob.size).map_err(from_place)? else { return Ok(None) };
    let mut bytes = Vec::new();
    read(&blob.digest, &mut content, |content| content.read_to_end(&mut bytes).map(drop))?;
    Ok(Some(bytes))
}

/// Reads something whose bytes are checked on the way.
fn read<T>(name: &BlobDigest, content: &mut dyn Read, take: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> Result<T, Finding> {
    take(content).map_err(|error| match error.kind() {
        // The system's own errors have a number; what a checking reader says has none.
        _ if error.raw_os_error().is_some() => Finding::Unreachable { place: name.to_string(), words: error.to_string() },
        io::ErrorKind::TimedOut
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Finding::Unreachable { place: name.to_string(), words: error.to_string() },
        _ => changed(name, error),
    })
}

/// Counts what passes.
struct Counted<'a> {
    content: Box<dyn Read + 'a>,
    task: &'a dyn Task,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.task.advance(count as u64);
        Ok(count)
    }
}

/// Reads an image in full: its documents, its configurations, and each layer as it is stored and as it unpacks.
pub fn hash(place: &dyn Repository, image: &Descriptor, name: &str, task: &dyn Task) -> Result<Check, Finding> {
    let mut seen = BTreeSet::new();
    let mut bytes = 0_u64;
    let document =
        |digest: &BlobDigest| place.document(digest).map_err(from_place)?.map(|(_, bytes)| bytes).ok_or_else(|| missing(digest));
    let mut manifests = vec![image.clone()];
    if is_index(image) {
        let index = document(&image.digest)?;
        bytes += index.len() as u64;
        seen.insert(image.digest);
        manifests = oci::parse_index(&index).map_err(|error| changed(&image.digest, error))?.manifests;
    }
    for line in manifests {
        if line.annotations.contains_key("vnd.docker.reference.type") || !seen.insert(line.digest) {
            continue;
        }
        let raw = document(&line.digest)?;
        line.verify(&raw).map_err(|error| changed(&line.digest, error))?;
        let manifest = oci::parse_manifest(&raw).map_err(|error| changed(&line.digest, error))?;
        bytes += raw.len() as u64;
        let config = small(place, &manifest.config, canonical::LIMIT as u64)?.ok_or_else(|| missing(&manifest.config.digest))?;
        let config =
            oci::parse_config(&config, manifest.layers.len()).map_err(|error| changed(&manifest.config.digest, error))?;
        if seen.insert(manifest.config.digest) {
            bytes += manifest.config.size;
        }
        for (layer, promised) in manifest.layers.iter().zip(&config.diff_ids) {
            task.detail(&format!("{name} {}", &layer.digest.to_string()[..19]));
            if !seen.insert(layer.digest) {
                continue;
            }
            let content = place.blob(&layer.digest, layer.size).map_err(from_place)?.ok_or_else(|| missing(&layer.digest))?;
            let mut content = Counted { content, task };
            let compressor = oci::compression(&layer.media_type).flatten();
            let found = read(&layer.digest, &mut content, |content| {
                let mut stored = BufReader::with_capacity(128 << 10, content);
                let found = reader::diff_id(&mut stored, compressor, LARGEST_LAYER)?;
                // To its very end, where its digest is compared.
                io::copy(&mut stored, &mut io::sink())?;
                Ok(found)
            })?;
            if found != *promised {
                return Err(Finding::Changed {
                    name: layer.digest.to_string(),
                    expected: promised.to_string(),
                    found: found.to_string(),
                });
            }
            bytes += layer.size;
        }
    }
    Ok(Check::Blobs { image: name.to_owned(), count: seen.len(), bytes })
}
