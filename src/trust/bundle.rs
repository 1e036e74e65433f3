//! A signed payload as Sigstore has it: a DSSE envelope in a bundle v0.3 (sigstore/protobuf-specs, `sigstore_bundle.proto`).
//!
//! ```json
//! {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
//!  "dsseEnvelope":{"payload":"BASE64","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"BASE64"}]},
//!  "verificationMaterial":{"publicKey":{"hint":"BASE64 OF THE SHA-256 OF THE KEY"}}}
//! ```
//!
//! The envelope names no key (`keyid`): cosign refuses a bundle in which it does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::key::{PublicKey, SigningKey};
use crate::image::canonical::{self, JsonError};
use crate::model::problem::shown;

/// The media type of a bundle, and the type of the artifact that holds one.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What all types of bundles begin with; cosign 2 wrote the version as a parameter.
const FAMILY: &str = "application/vnd.dev.sigstore.bundle";

/// Bytes of a bundle at most.
pub const LIMIT: usize = 32 << 20;

/// A bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("it is not a signature bundle: {0}")]
    Shape(String),
}

/// What a bundle says of who signed it. Only a key can prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// A key, and what the bundle calls it; others write bundles without.
    Key { hint: Option<String> },
    /// A certificate for a short time, with an entry of a public log.
    Certificate,
}

/// A payload and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub material: Material,
    pub payload_type: String,
    pub payload: Vec<u8>,
    /// In DER form.
    pub signature: Vec<u8>,
}

impl Bundle {
    /// Signs a payload.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&signed_bytes(payload_type, &payload));
        let material = Material::Key { hint: Some(key.public().hint()) };
        Self { material, payload_type: payload_type.to_owned(), payload, signature }
    }

    /// Whether the payload was signed by this key. What the bundle calls its key is not believed.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&signed_bytes(&self.payload_type, &self.payload), &self.signature)
    }

    /// Whether the bundle says that this key signed it.
    #[must_use]
    pub fn names(&self, key: &PublicKey) -> bool {
        matches!(&self.material, Material::Key { hint: Some(hint) } if *hint == key.hint())
    }

    /// Returns the bundle's bytes, in one form.
    ///
    /// # Errors
    /// Never: nothing in it is a fraction.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsonError> {
        let material = match &self.material {
            Material::Key { hint: Some(hint) } => json!({"publicKey": {"hint": hint}}),
            Material::Key { hint: None } | Material::Certificate => json!({"publicKey": {}}),
        };
        canonical::to_bytes(&json!({
            "dsseEnvelope": {
                "payload": STANDARD.encode(&self.payload),
                "payloadType": self.payload_type,
                "signatures": [{"sig": STANDARD.encode(&self.signature)}],
            },
            "mediaType": BUNDLE,
            "verificationMaterial": material,
        }))
    }

    /// Reads a bundle from outside.
    ///
    /// # Errors
    /// Refuses more than [`LIMIT`], doubled keys, other base64 than the standard's, and any number of signatures but one.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let value = canonical::read_within(bytes, LIMIT)?;
        let wrong = |problem: &str| BundleError::Shape(problem.to_owned());
        let object = value.as_object().ok_or_else(|| wrong("it is no object"))?;
        let media_type = text(object, "mediaType").unwrap_or_default();
        if !media_type.starts_with(FAMILY) {
            return Err(BundleError::Shape(format!("its type is `{}`", shown(media_type))));
        }
        let envelope = object.get("dsseEnvelope").and_then(Value::as_object).ok_or_else(|| wrong("it signs no statement"))?;
        let decoded = |object: &Map<String, Value>, key: &str| text(object, key).and_then(|text| STANDARD.decode(text).ok());
        let payload_type = text(envelope, "payloadType").ok_or_else(|| wrong("it does not say what is signed"))?.to_owned();
        let payload = decoded(envelope, "payload").ok_or_else(|| wrong("what is signed cannot be read"))?;
        let signatures = envelope.get("signatures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let [signature] = signatures else { return Err(wrong("it holds another number of signatures than one")) };
        let signature = signature.as_object().and_then(|signature| decoded(signature, "sig"));
        let signature = signature.ok_or_else(|| wrong("its signature cannot be read"))?;
        let material = object.get("verificationMaterial").and_then(Value::as_object);
        let material = match material.and_then(|material| material.get("publicKey")) {
            Some(key) => {
                let hint = key.get("hint").and_then(Value::as_str).filter(|hint| !hint.is_empty());
                Material::Key { hint: hint.map(str::to_owned) }
            }
            None if material.is_some_and(|material| material.keys().any(|key| key.starts_with("certificate"))) => {
                Material::Certificate
            }
            None if material.is_some_and(|material| material.contains_key("x509CertificateChain")) => Material::Certificate,
            None => Material::Key { hint: None },
        };
        Ok(Self { material, payload_type, payload, signature })
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// Returns the bytes that a signature is of: the pre-authentication encoding (DSSE v1.0.2, `protocol.md`).
#[must_use]
pub fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;

    /// The example of DSSE's `protocol.md`.
    #[test]
    fn the_signed_bytes_are_those_of_the_standard() {
        let bytes = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_bundle_has_one_form_and_reads_back() {
        let bundle = Bundle::sign("text/plain", b"hello".to_vec(), &key(1));
        let bytes = bundle.to_bytes().unwrap();
        assert_eq!(bytes, Bundle::sign("text/plain", b"hello".to_vec(), &key(1)).to_bytes().unwrap());
        insta::assert_snapshot!("bundle", String::from_utf8(bytes.clone()).unwrap());
        let read = Bundle::parse(&bytes).unwrap();
        assert_eq!(read, bundle);
        assert!(read.is_signed_by(key(1).public()) && read.names(key(1).public()));
        assert!(!read.is_signed_by(key(2).public()) && !read.names(key(2).public()));
    }

    #[test]
    fn neither_the_payload_nor_its_type_can_be_exchanged() {
        let bundle = Bundle::sign("text/plain", b"hello".to_vec(), &key(1));
        let other = Bundle { payload: b"jello".to_vec(), ..bundle.clone() };
        assert!(!other.is_signed_by(key(1).public()));
        let other = Bundle { payload_type: "text/html".into(), ..bundle };
        assert!(!other.is_signed_by(key(1).public()));
    }

    #[test]
    fn what_is_no_bundle_or_could_be_read_in_two_ways_is_refused() {
        let good = String::from_utf8(Bundle::sign("text/plain", b"hello".to_vec(), &key(1)).to_bytes().unwrap()).unwrap();
        let signature = good.split_once("\"signatures\":").unwrap().1.split_once(']').unwrap().0.to_owned();
        for (from, to) in [
            (good.as_str(), "[]"),
            (BUNDLE, "application/vnd.oci.image.manifest.v1+json"),
            ("dsseEnvelope", "messageSignature"),
            ("\"payload\":", "\"payload\":\"aGVsbG8=\",\"payload\":"),
            ("aGVsbG8=", "aGVsbG8"),
            ("aGVsbG8=", "aGVsbG-="),
            ("\"payloadType\"", "\"payloadKind\""),
            ("\"sig\"", "\"seal\""),
            (signature.as_str(), "["),
            (signature.as_str(), &format!("{signature},{{\"sig\":\"AA==\"}}")),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Bundle::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert!(matches!(Bundle::parse(&vec![b' '; LIMIT + 1]), Err(BundleError::Json(JsonError::TooLarge { .. }))));
        let certificate = good.replace("publicKey", "certificate");
        assert_eq!(Bundle::parse(certificate.as_bytes()).unwrap().material, Material::Certificate);
    }
}
