//! The older form of a signature: a payload of "simple signing" beside its image, under a tag made of the image's digest.
//!
//! podman, skopeo and bootc read only this one (containers-signature.5 for the payload, cosign's `SIGNATURE_SPEC.md` for where it
//! stands). All signers of an image share one manifest there, so an entry is added and the others stay.
//!
//! ```text
//! sha256-HEX.sig    a manifest, one layer for each signature
//! └─ layer          the payload, with the annotation dev.cosignproject.cosign/signature: BASE64
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::key::{PublicKey, SigningKey};
use crate::image::canonical::{self, JsonError};
use crate::image::oci::{self, Artifact, CONFIG, Descriptor, Document, MANIFEST, OciError};
use crate::image::repository::{RepositoryError, WritableRepository};
use crate::model::digest::BlobDigest;

/// The media type of a payload.
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation that holds the signature of the payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What the payload says that it is.
const TYPE: &str = "cosign container image signature";

/// Bytes of a payload at most.
pub const LIMIT: u64 = 64 << 10;

/// Signatures that are looked at.
const MOST: usize = 100;

/// A signature in its older form that cannot be read or added.
#[derive(Debug, thiserror::Error)]
pub enum SimpleError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("`{tag}` is no list of signatures: {problem}")]
    Shape { tag: String, problem: String },
}

/// Returns the tag under which the signatures of an image stand.
#[must_use]
pub fn tag(image: &BlobDigest) -> String {
    format!("sha256-{}.sig", image.hex())
}

/// Returns the image whose signatures stand under a tag.
#[must_use]
pub fn signed_by_tag(tag: &str) -> Option<BlobDigest> {
    format!("sha256:{}", tag.strip_prefix("sha256-")?.strip_suffix(".sig")?).parse().ok()
}

/// What a payload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The repository, which podman compares with the one that it pulls from.
    pub repository: String,
    pub digest: BlobDigest,
}

impl Payload {
    /// Returns the bytes that are signed, in one form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsonError> {
        canonical::to_bytes(&json!({
            "critical": {
                "identity": {"docker-reference": self.repository},
                "image": {"docker-manifest-digest": self.digest.to_string()},
                "type": TYPE,
            },
            "optional": null,
        }))
    }

    /// Reads a payload; `None` where it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let value = canonical::read(bytes).ok()?;
        let critical = value.get("critical")?;
        let text = |object: &str, key: &str| critical.get(object)?.get(key)?.as_str().map(str::to_owned);
        if critical.as_object()?.len() != 3 || critical.get("type").and_then(Value::as_str) != Some(TYPE) {
            return None;
        }
        let digest = text("image", "docker-manifest-digest")?.parse().ok()?;
        Some(Self { repository: text("identity", "docker-reference")?, digest })
    }
}

/// One entry of the list: where the payload is, and what its annotation gives as its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub payload: Descriptor,
    /// In DER form.
    pub signature: Vec<u8>,
}

impl Entry {
    /// Whether the payload was signed by this key.
    #[must_use]
    pub fn is_signed_by(&self, payload: &[u8], key: &PublicKey) -> bool {
        key.verifies(payload, &self.signature)
    }
}

/// Returns the entries of a list of signatures that can be read; others may stand beside them.
#[must_use]
pub fn entries(list: &Artifact) -> Vec<Entry> {
    let entry = |layer: &Descriptor| {
        let signature = STANDARD.decode(layer.annotations.get(SIGNATURE)?).ok()?;
        (layer.media_type == PAYLOAD && layer.size <= LIMIT).then(|| Entry { payload: layer.clone(), signature })
    };
    list.layers.iter().take(MOST).filter_map(entry).collect()
}

/// Writes a list of signatures: its configuration and its manifest.
fn write(layers: &[Descriptor]) -> Result<[Document; 2], OciError> {
    // Nobody runs it: cosign writes the same empty texts.
    let config = Document::new(
        CONFIG,
        &json!({
            "architecture": "",
            "config": {},
            "os": "",
            "rootfs": {"diff_ids": layers.iter().map(|layer| layer.digest.to_string()).collect::<Vec<_>>(), "type": "layers"},
        }),
    )?;
    let manifest = json!({
        "config": config.descriptor().to_value(),
        "layers": layers.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    });
    Ok([config, Document::new(MANIFEST, &manifest)?])
}

/// Points to a payload, with its signature in Base64.
fn signed(payload: &[u8], signature: String) -> Descriptor {
    Descriptor { annotations: [(SIGNATURE.to_owned(), signature)].into(), ..Descriptor::of(PAYLOAD, payload) }
}

/// Signs an image of a place in the older form. Returns whether the signature was not there before.
pub fn sign(place: &dyn WritableRepository, payload: &Payload, key: &SigningKey) -> Result<bool, SimpleError> {
    let tag = tag(&payload.digest);
    let bytes = payload.to_bytes()?;
    let signature = STANDARD.encode(key.sign(&bytes));
    let layer = signed(&bytes, signature);
    let mut layers = match place.resolve(&tag)? {
        None => Vec::new(),
        Some(found) => {
            let shape = |problem: String| SimpleError::Shape { tag: tag.clone(), problem };
            let document = place.document(&found.digest)?.ok_or_else(|| shape("it is missing".into()))?;
            let list = oci::parse_artifact(&document.1).map_err(|error| shape(error.to_string()))?;
            list.layers
        }
    };
    let own =
        |other: &Descriptor| other.digest == layer.digest && other.annotations.get(SIGNATURE) == layer.annotations.get(SIGNATURE);
    if layers.iter().any(own) {
        return Ok(false);
    }
    if layers.len() >= MOST {
        return Err(SimpleError::Shape { tag, problem: format!("it holds {} signatures already", layers.len()) });
    }
    layers.push(layer);
    let [config, manifest] = write(&layers)?;
    place.put_blob(&bytes)?;
    place.put_blob(&config.bytes)?;
    place.put_document(&manifest, Some(&tag))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;

    fn sample() -> Payload {
        Payload { repository: "registry.example/parish/httpd".into(), digest: BlobDigest::of(b"image") }
    }

    #[test]
    fn a_payload_has_one_form_and_reads_back() {
        let bytes = sample().to_bytes().unwrap();
        insta::assert_snapshot!("payload", String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(Payload::parse(&bytes), Some(sample()));
        let good = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            (TYPE, "atomic container signature"),
            ("\"critical\":{", "\"critical\":{\"more\":1,"),
            ("sha256:", "md5:"),
            ("docker-reference\":\"", "docker-reference\":7,\"x\":\""),
            ("\"critical\":{", "\"critical\":{},\"critical\":{"),
        ] {
            assert_eq!(Payload::parse(good.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn the_tag_stands_for_the_image_and_for_nothing_else() {
        let digest = BlobDigest::of(b"image");
        assert_eq!(signed_by_tag(&tag(&digest)), Some(digest));
        for other in ["latest", "sha256-00.sig", &tag(&digest)[..70], &format!("x{}", tag(&digest))] {
            assert_eq!(signed_by_tag(other), None, "{other}");
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let bytes = sample().to_bytes().unwrap();
        let signature = key(1).sign(&bytes);
        let layer = signed(&bytes, STANDARD.encode(&signature));
        let strange = Descriptor { media_type: "text/plain".into(), ..layer.clone() };
        let [config, manifest] = write(&[strange, layer.clone()]).unwrap();
        insta::assert_snapshot!("list", String::from_utf8([config.bytes, manifest.bytes.clone()].join(&b'\n')).unwrap());
        let read = entries(&oci::parse_artifact(&manifest.bytes).unwrap());
        assert_eq!(read, [Entry { payload: layer, signature }]);
        assert!(read[0].is_signed_by(&bytes, key(1).public()) && !read[0].is_signed_by(&bytes, key(2).public()));
    }
}
