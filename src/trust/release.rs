//! The statement on a release as a signed payload: every image, file and SBOM is a subject, the release itself the predicate.

use serde_json::Value;

use super::bundle::Bundle;
use super::key::SigningKey;
use super::statement::{PAYLOAD, RELEASE, Statement, StatementError, Subject};
use crate::image::canonical::{self, JsonError};
use crate::model::digest::BlobDigest;
use crate::model::release::{InvalidRelease, Release};

/// The name of the signed statement in a folder of downloads, in a bundle, in an archive.
pub const FILE: &str = "release.sigstore.json";

/// A signed payload that is no statement on a release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Invalid(#[from] InvalidRelease),
    #[error("it is a statement on something else than a release")]
    Kind,
    #[error("it does not have the shape of a statement on a release")]
    Shape(#[source] serde_json::Error),
    #[error("it is about other things than it lists")]
    Subjects,
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// Returns what a statement on this release is about, sorted: images by their repositories, files by their names.
#[must_use]
pub fn subjects(release: &Release) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for image in &release.images {
        let name = release.repository(&image.name);
        let digests = [image.digest].into_iter().chain(image.platforms.iter().map(|on| on.manifest));
        subjects.extend(digests.map(|digest| Subject { name: name.clone(), digest }));
    }
    let file = |name: &str, digest: [u8; 32]| Subject { name: name.to_owned(), digest: BlobDigest::from(digest) };
    subjects.extend(release.files().map(|(name, digest, _)| file(name, *digest.bytes())));
    subjects.sort();
    subjects.dedup();
    subjects
}

/// Returns the statement on a release.
///
/// # Errors
/// Refuses a release that cannot be true.
pub fn statement(release: &Release) -> Result<Statement, ReleaseError> {
    release.check()?;
    let predicate = serde_json::to_value(release).map_err(ReleaseError::Shape)?;
    Ok(Statement { subjects: subjects(release), predicate_type: RELEASE.into(), predicate })
}

/// Signs the statement on a release. The bundle's bytes are the file [`FILE`]; the same statement can hang on every image.
///
/// # Errors
/// As [`statement`].
pub fn sign(release: &Release, key: &SigningKey) -> Result<Bundle, ReleaseError> {
    Ok(statement(release)?.sign(key)?)
}

/// Reads the release from a signed payload. Who signed it is for others to say.
///
/// # Errors
/// Refuses another predicate, unknown keys, and subjects that are not exactly the things that the release lists.
pub fn parse(bundle: &Bundle) -> Result<Release, ReleaseError> {
    if bundle.payload_type != PAYLOAD {
        return Err(ReleaseError::Kind);
    }
    let Statement { subjects: mut stated, predicate_type, predicate } = Statement::parse(&bundle.payload)?;
    if predicate_type != RELEASE {
        return Err(ReleaseError::Kind);
    }
    let release = from_value(predicate)?;
    stated.sort();
    if stated == subjects(&release) { Ok(release) } else { Err(ReleaseError::Subjects) }
}

/// Reads a release that is not signed yet: the predicate alone, as a file.
///
/// # Errors
/// As [`parse`].
pub fn parse_unsigned(bytes: &[u8]) -> Result<Release, ReleaseError> {
    from_value(canonical::read(bytes)?)
}

fn from_value(value: Value) -> Result<Release, ReleaseError> {
    let release: Release = serde_json::from_value(value).map_err(ReleaseError::Shape)?;
    release.check()?;
    Ok(release)
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;
    use crate::model::release::testing::release;

    #[test]
    fn a_signed_release_reads_back_and_has_one_form() {
        let bundle = sign(&release(), &key(1)).unwrap();
        assert_eq!(bundle, sign(&release(), &key(1)).unwrap());
        insta::assert_snapshot!("release", String::from_utf8(bundle.payload.clone()).unwrap());
        let read = Bundle::parse(&bundle.to_bytes().unwrap()).unwrap();
        assert!(read.is_signed_by(key(1).public()));
        assert_eq!(parse(&read).unwrap(), release());
        assert_eq!(parse_unsigned(&serde_json::to_vec(&release()).unwrap()).unwrap(), release());
    }

    /// Signs a statement that was changed.
    fn changed(change: impl Fn(&mut Statement)) -> Result<Release, ReleaseError> {
        let mut statement = statement(&release()).unwrap();
        change(&mut statement);
        parse(&statement.sign(&key(1)).unwrap())
    }

    #[test]
    fn what_is_listed_and_what_is_stated_must_be_the_same_things() {
        assert!(changed(|_| {}).is_ok());
        assert!(matches!(changed(|statement| drop(statement.subjects.pop())), Err(ReleaseError::Subjects)));
        let digest = BlobDigest::of(b"other");
        assert!(matches!(changed(|statement| statement.subjects[0].digest = digest), Err(ReleaseError::Subjects)));
        let more = Subject { name: "more".into(), digest };
        assert!(matches!(changed(|statement| statement.subjects.push(more.clone())), Err(ReleaseError::Subjects)));
    }

    #[test]
    fn other_kinds_and_unknown_keys_are_refused() {
        assert!(matches!(changed(|statement| statement.predicate_type = "https://x.example".into()), Err(ReleaseError::Kind)));
        assert!(matches!(changed(|statement| statement.predicate["x"] = 1.into()), Err(ReleaseError::Shape(_))));
        assert!(matches!(changed(|statement| statement.predicate["format"] = 2.into()), Err(ReleaseError::Invalid(_))));
        let bundle = Bundle::sign("text/plain", statement(&release()).unwrap().to_bytes().unwrap(), &key(1));
        assert!(matches!(parse(&bundle), Err(ReleaseError::Kind)));
    }
}
