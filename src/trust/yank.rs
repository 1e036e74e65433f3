//! The statement by which a publisher takes a release back: signed like the release, and hung on the same images.

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::key::SigningKey;
use super::statement::{PAYLOAD, Statement, StatementError, Subject, YANK};
use crate::image::canonical::JsonError;
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::model::number::Number;

/// The name of the signed statement beside downloads.
pub const FILE: &str = "yank.sigstore.json";

/// The number of the format.
const FORMAT: u32 = 1;

/// Bytes of a reason at most.
const LONGEST: usize = 2000;

/// What is said of a release that nobody should use any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yank {
    format: u32,
    pub product: ImageName,
    pub version: Number,
    /// When it was taken back.
    pub issued: Moment,
    /// A sentence for those who use it.
    pub why: String,
}

impl Yank {
    #[must_use]
    pub const fn new(product: ImageName, version: Number, issued: Moment, why: String) -> Self {
        Self { format: FORMAT, product, version, issued, why }
    }

    /// Returns the statement about the images of the release.
    ///
    /// # Errors
    /// Refuses a value that cannot be written.
    pub fn statement(&self, subjects: Vec<Subject>) -> Result<Statement, serde_json::Error> {
        Ok(Statement { subjects, predicate_type: YANK.into(), predicate: serde_json::to_value(self)? })
    }

    /// Reads a signed payload. Who signed it is for others to say.
    ///
    /// # Errors
    /// Refuses another predicate, another format, unknown keys, and a reason that nobody would read.
    pub fn parse(bundle: &Bundle) -> Result<Self, YankError> {
        if bundle.payload_type != PAYLOAD {
            return Err(YankError::Kind);
        }
        let statement = Statement::parse(&bundle.payload)?;
        if statement.predicate_type != YANK {
            return Err(YankError::Kind);
        }
        let yank: Self = serde_json::from_value(statement.predicate)?;
        if yank.format != FORMAT || yank.why.trim().is_empty() || yank.why.len() > LONGEST {
            return Err(YankError::Kind);
        }
        Ok(yank)
    }

    /// Signs the statement; its bytes are the file [`FILE`].
    ///
    /// # Errors
    /// As [`Self::statement`].
    pub fn sign(&self, subjects: Vec<Subject>, key: &SigningKey) -> Result<Bundle, YankError> {
        Ok(self.statement(subjects)?.sign(key)?)
    }
}

/// A signed payload that takes nothing back.
#[derive(Debug, thiserror::Error)]
pub enum YankError {
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("it is not a statement that takes a release back")]
    Kind,
    #[error("it does not have the shape of a statement that takes a release back")]
    Shape(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;
    use crate::model::digest::BlobDigest;
    use crate::model::release::testing::release;

    fn subjects() -> Vec<Subject> {
        vec![Subject { name: "registry.example/parish/httpd".into(), digest: BlobDigest::of(b"index") }]
    }

    #[test]
    fn a_signed_yank_reads_back_and_has_one_form() {
        let release = release();
        let yank = Yank::new(release.product, release.version, release.issued, "it loses letters".into());
        let bundle = yank.sign(subjects(), &key(1)).unwrap();
        assert_eq!(bundle, yank.sign(subjects(), &key(1)).unwrap());
        let said = String::from_utf8(bundle.payload.clone()).unwrap();
        let predicate = r#""predicate":{"format":1,"issued":"2026-11-24T12:00:00Z","product":"civiparoisse","version":"1.4.0","why":"it loses letters"}"#;
        assert!(said.contains(predicate) && said.contains(&format!(r#""predicateType":"{YANK}""#)), "{said}");
        assert_eq!(Yank::parse(&bundle).unwrap(), yank);
        for change in [
            |statement: &mut Statement| statement.predicate_type = "https://x.example".into(),
            |statement: &mut Statement| statement.predicate["format"] = 2.into(),
            |statement: &mut Statement| statement.predicate["x"] = 1.into(),
            |statement: &mut Statement| statement.predicate["why"] = " ".into(),
            |statement: &mut Statement| statement.predicate["version"] = "1.4".into(),
        ] {
            let mut statement = yank.statement(subjects()).unwrap();
            change(&mut statement);
            assert!(Yank::parse(&statement.sign(&key(1)).unwrap()).is_err());
        }
    }
}
