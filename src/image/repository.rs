//! Where images are kept together with what is said of them: a registry, a layout, an archive. The doors implement it.

use std::io::Read;

use super::oci::{Descriptor, Document};
use crate::model::digest::BlobDigest;

/// Referrers of one subject that are looked at; a place that lists more is refused.
pub const MOST_REFERRERS: usize = 1000;

/// Why a place did not give or take something.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is known of what was asked: the network, the server or the disk failed.
    #[error("cannot reach `{place}`")]
    Unreachable {
        place: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        hint: Option<String>,
    },
    /// The place answered that this may not be done.
    #[error("`{place}` refused: {words}")]
    Refused { place: String, words: String, hint: Option<String> },
    /// What was to be stored there cannot be read.
    #[error("`{name}` cannot be sent to `{place}`")]
    Unsendable {
        place: String,
        name: String,
        #[source]
        source: std::io::Error,
    },
    /// The place gave something else than what was promised.
    #[error("`{name}` in `{place}` {problem}")]
    Damaged { place: String, name: String, problem: String },
}

impl RepositoryError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { hint, .. } | Self::Refused { hint, .. } => hint.clone(),
            Self::Unsendable { .. } => Some("run `parvis store verify`; what is damaged is made again".into()),
            Self::Damaged { .. } => None,
        }
    }
}

/// A place that is read.
///
/// Everything that it gives was compared with its digest, or is while it is read; and nothing is larger than it may be.
pub trait Repository: Sync {
    /// Returns what people call it: `registry.example/parish/httpd`, or the path of a file.
    fn place(&self) -> String;

    /// Returns what a tag (in a layout or archive: a name) stands for.
    fn resolve(&self, tag: &str) -> Result<Option<Descriptor>, RepositoryError>;

    /// Returns the media type and the bytes of a manifest, an index or an artifact, at most 4 MiB.
    fn document(&self, digest: &BlobDigest) -> Result<Option<(String, Vec<u8>)>, RepositoryError>;

    /// Opens a blob of that size. What differs from its digest is an error at its end.
    fn blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Box<dyn Read + '_>>, RepositoryError>;

    /// Returns the artifacts that have this digest as their subject, each once, sorted by digest. Their `artifact_type` may be a
    /// guess of others: whoever needs it reads it from the artifact.
    fn referrers(&self, subject: &BlobDigest) -> Result<Vec<Descriptor>, RepositoryError>;
}

/// A place that is written to as well.
pub trait WritableRepository: Repository {
    /// Stores small bytes.
    fn put_blob(&self, content: &[u8]) -> Result<(), RepositoryError>;

    /// Stores a document whose blobs and manifests are there, under its digest and, where one is given, a tag. One with a
    /// `subject` is listed among the referrers of that afterwards, whatever the place knows of referrers.
    fn put_document(&self, document: &Document, tag: Option<&str>) -> Result<(), RepositoryError>;
}
