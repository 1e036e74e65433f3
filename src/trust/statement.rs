//! What is signed of an image or a file: a statement (in-toto Statement v1), and the artifact by which it hangs on its image.

use serde_json::{Value, json};

use super::bundle::{self, BUNDLE, Bundle};
use super::key::SigningKey;
use crate::image::canonical::{self, JsonError};
use crate::image::oci::{self, Descriptor, Document, EMPTY_BYTES, OciError};
use crate::image::repository::{RepositoryError, WritableRepository};
use crate::model::digest::BlobDigest;
use crate::model::problem::shown;

/// The type of a signed payload that is a statement (in-toto attestation, `envelope.md`).
pub const PAYLOAD: &str = "application/vnd.in-toto+json";

/// The type of a statement, and that of the version before, which cosign's attestations still have.
const TYPE: &str = "https://in-toto.io/Statement/v1";
const OLDER: &str = "https://in-toto.io/Statement/v0.1";

/// The predicate of a plain signature: "this is ours", as cosign 3 writes it.
pub const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The predicates of attestations that `cosign verify-attestation` knows by a short name.
pub const SLSA: &str = "https://slsa.dev/provenance/v1";
pub const SPDX: &str = "https://spdx.dev/Document";
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";
/// The predicate of the statement on a whole release; no server need answer there.
pub const RELEASE: &str = "https://parvis.example/release/v1";

/// The predicate of the statement by which a release is taken back; no server need answer there either.
pub const YANK: &str = "https://parvis.example/yank/v1";

/// The predicate of the statement on a security rebuild.
pub const REBUILD: &str = "https://parvis.example/rebuild/v1";

/// Subjects of a statement at most.
const MOST_SUBJECTS: usize = 10_000;

/// The annotations by which cosign finds the bundles that it looks for.
const CONTENT: &str = "dev.sigstore.bundle.content";
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// A payload that is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("it is not a statement: {0}")]
    Shape(String),
}

/// One thing that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// A repository or a file's name. Others leave it empty.
    pub name: String,
    pub digest: BlobDigest,
}

/// What is said of some things.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub subjects: Vec<Subject>,
    /// What is said, as an address that stands for a kind.
    pub predicate_type: String,
    pub predicate: Value,
}

impl Statement {
    /// Returns the plain signature of an image: no more than that the signer stands by it.
    #[must_use]
    pub fn signature(repository: &str, digest: BlobDigest) -> Self {
        let subjects = vec![Subject { name: repository.to_owned(), digest }];
        Self { subjects, predicate_type: SIGNATURE.into(), predicate: json!({}) }
    }

    /// Returns the bytes that are signed, in one form.
    ///
    /// # Errors
    /// Refuses a predicate with fractions.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsonError> {
        let subject = |subject: &Subject| json!({"digest": {"sha256": subject.digest.hex()}, "name": subject.name});
        canonical::to_bytes(&json!({
            "_type": TYPE,
            "predicate": self.predicate,
            "predicateType": self.predicate_type,
            "subject": self.subjects.iter().map(subject).collect::<Vec<_>>(),
        }))
    }

    /// Reads a signed payload.
    ///
    /// # Errors
    /// Refuses other types, doubled keys, no subject and too many, and a subject without a sha256.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let value = canonical::read_within(bytes, bundle::LIMIT)?;
        let wrong = |problem: &str| StatementError::Shape(problem.to_owned());
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        match text("_type") {
            Some(TYPE | OLDER) => {}
            other => return Err(StatementError::Shape(format!("its type is `{}`", shown(other.unwrap_or_default())))),
        }
        let predicate_type = text("predicateType").ok_or_else(|| wrong("it does not say what it states"))?.to_owned();
        let subjects = value.get("subject").and_then(Value::as_array).filter(|subjects| !subjects.is_empty());
        let subjects = subjects.ok_or_else(|| wrong("it is about nothing"))?;
        if subjects.len() > MOST_SUBJECTS {
            return Err(StatementError::Shape(format!(
                "it is about {} things; at most {MOST_SUBJECTS} are read",
                subjects.len()
            )));
        }
        let subject = |subject: &Value| {
            let digest = subject.get("digest")?.get("sha256")?.as_str()?;
            let name = match subject.get("name") {
                None | Some(Value::Null) => "",
                Some(name) => name.as_str()?,
            };
            Some(Subject { name: name.to_owned(), digest: format!("sha256:{digest}").parse().ok()? })
        };
        let subjects = subjects.iter().map(subject).collect::<Option<_>>();
        let subjects = subjects.ok_or_else(|| wrong("it is about something that it does not name by a sha256"))?;
        let predicate = value.get("predicate").cloned().unwrap_or(Value::Null);
        Ok(Self { subjects, predicate_type, predicate })
    }

    /// Signs the statement.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn sign(&self, key: &SigningKey) -> Result<Bundle, JsonError> {
        Ok(Bundle::sign(PAYLOAD, self.to_bytes()?, key))
    }
}

/// A signed statement as the artifact that refers to its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The bundle: the artifact's only layer.
    pub bundle: Vec<u8>,
    pub artifact: Document,
}

impl Attachment {
    /// Signs a statement on an image, and makes the artifact that hangs it there. The same inputs give the same bytes.
    ///
    /// # Errors
    /// As [`Statement::to_bytes`].
    pub fn sign(statement: &Statement, subject: &Descriptor, key: &SigningKey) -> Result<Self, OciError> {
        Self::of(statement.sign(key)?.to_bytes()?, &statement.predicate_type, subject)
    }

    /// Makes the artifact that hangs a bundle on an image.
    ///
    /// # Errors
    /// Refuses what has no one form as JSON.
    pub fn of(bundle: Vec<u8>, predicate_type: &str, subject: &Descriptor) -> Result<Self, OciError> {
        let layer = Descriptor::of(BUNDLE, &bundle);
        let about = [(CONTENT, "dsse-envelope"), (PREDICATE, predicate_type)];
        let about = about.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let artifact = oci::write_artifact(BUNDLE, &[layer], Some(subject), &about)?;
        Ok(Self { bundle, artifact })
    }

    /// Hangs the statement on its image. Returns whether it was not there before.
    pub fn put(&self, place: &dyn WritableRepository, subject: &BlobDigest) -> Result<bool, RepositoryError> {
        if place.referrers(subject)?.iter().any(|referrer| referrer.digest == self.artifact.digest) {
            return Ok(false);
        }
        place.put_blob(EMPTY_BYTES)?;
        place.put_blob(&self.bundle)?;
        place.put_document(&self.artifact, None)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;

    fn sample() -> Statement {
        Statement::signature("registry.example/parish/httpd", BlobDigest::of(b"image"))
    }

    #[test]
    fn a_statement_has_one_form_and_reads_back() {
        let bytes = sample().to_bytes().unwrap();
        insta::assert_snapshot!("statement", String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(Statement::parse(&bytes).unwrap(), sample());
        let older = String::from_utf8(bytes).unwrap().replace(TYPE, OLDER);
        assert_eq!(Statement::parse(older.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        let good = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
        let subjects = good.split_once("\"subject\":").unwrap().1.trim_end_matches('}');
        let many = format!("[{}]", vec![subjects.trim_matches(['[', ']']); MOST_SUBJECTS + 1].join(","));
        for (from, to) in [
            (good.as_str(), "null"),
            (TYPE, "https://in-toto.io/Statement/v2"),
            ("predicateType", "predicateKind"),
            (subjects, "[]"),
            (subjects, &many),
            ("sha256", "sha512"),
            ("\"name\":\"registry", "\"name\":7,\"x\":\"registry"),
            ("\"_type\":", "\"_type\":\"\",\"_type\":"),
            ("{\"sha256\":\"", "{\"sha256\":\"../../"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Statement::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn an_attachment_refers_to_its_image_and_is_the_same_each_time() {
        let subject = oci::write_index(&[]).unwrap().descriptor();
        let statement = Statement::signature("registry.example/parish/httpd", subject.digest);
        let made = Attachment::sign(&statement, &subject, &key(1)).unwrap();
        assert_eq!(made, Attachment::sign(&statement, &subject, &key(1)).unwrap());
        insta::assert_snapshot!("attachment", String::from_utf8(made.artifact.bytes.clone()).unwrap());
        let artifact = oci::parse_artifact(&made.artifact.bytes).unwrap();
        assert_eq!((artifact.artifact_type.as_str(), artifact.subject), (BUNDLE, Some(subject)));
        artifact.layers[0].verify(&made.bundle).unwrap();
        let bundle = Bundle::parse(&made.bundle).unwrap();
        assert!(bundle.is_signed_by(key(1).public()));
        assert_eq!(Statement::parse(&bundle.payload).unwrap(), statement);
    }
}
