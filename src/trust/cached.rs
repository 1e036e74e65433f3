//! What machines tell each other of finished steps: that a step with this key gave this result, signed by whoever carried it out.
//!
//! A step's key is the digest of everything that it was made from, but nobody can tell from a result that it is that step's: this one
//! thing has to be believed of somebody. Everything else is compared with its digest.

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::key::SigningKey;
use super::statement::{PAYLOAD, Statement, Subject};
use crate::image::canonical::JsonError;
use crate::model::digest::{BlobDigest, StepKey};
use crate::model::problem::shown;

/// The predicate; no server need answer there.
pub const CACHED: &str = "https://parvis.example/step/v1";

/// A blob with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub digest: BlobDigest,
    pub size: u64,
}

impl Part {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: BlobDigest::of(bytes), size: bytes.len() as u64 }
    }

    fn to_value(self) -> Value {
        json!({"digest": {"sha256": self.digest.hex()}, "size": self.size})
    }

    fn from_value(value: &Value) -> Option<Self> {
        let digest = value.get("digest")?.get("sha256")?.as_str()?;
        Some(Self { digest: format!("sha256:{digest}").parse().ok()?, size: value.get("size")?.as_u64()? })
    }
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The kind of record that the store keeps of it.
    pub kind: String,
    pub key: StepKey,
    /// The record.
    pub record: Part,
    /// The record and what else belongs to it, packed; absent where the record travels alone.
    pub packed: Option<Part>,
}

/// A signed payload that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is about something else: {0}")]
pub struct NotCached(String);

/// Returns the name of a step's result in a registry: a tag.
#[must_use]
pub fn name(kind: &str, key: &StepKey) -> String {
    format!("{kind}-{}", key.hex())
}

impl Cached {
    /// Signs it. The same result and key give the same bytes.
    ///
    /// # Errors
    /// As [`Statement::to_bytes`].
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, JsonError> {
        let statement = Statement {
            subjects: vec![Subject { name: name(&self.kind, &self.key), digest: self.record.digest }],
            predicate_type: CACHED.to_owned(),
            predicate: json!({
                "kind": self.kind,
                "key": self.key.hex(),
                "record": self.record.to_value(),
                "packed": self.packed.map(Part::to_value),
            }),
        };
        statement.sign(key)?.to_bytes()
    }

    /// Reads what was signed of one step. Who signed it is for others to say.
    ///
    /// # Errors
    /// Refuses another predicate, another step, and a subject that is not the record.
    pub fn parse(bundle: &Bundle, kind: &str, key: &StepKey) -> Result<Self, NotCached> {
        let other = |what: &str| NotCached(shown(what));
        if bundle.payload_type != PAYLOAD {
            return Err(other(&bundle.payload_type));
        }
        let statement = Statement::parse(&bundle.payload).map_err(|error| other(&error.to_string()))?;
        if statement.predicate_type != CACHED {
            return Err(other(&statement.predicate_type));
        }
        let wanted = name(kind, key);
        let [subject] = &statement.subjects[..] else { return Err(other("several steps")) };
        let text = |member: &str| statement.predicate.get(member).and_then(Value::as_str);
        if subject.name != wanted || text("kind") != Some(kind) || text("key") != Some(&key.hex()) {
            return Err(other(&subject.name));
        }
        let record = statement.predicate.get("record").and_then(Part::from_value).filter(|part| part.digest == subject.digest);
        let record = record.ok_or_else(|| other("a record that it does not name"))?;
        let packed = match statement.predicate.get("packed") {
            None | Some(Value::Null) => None,
            Some(packed) => Some(Part::from_value(packed).ok_or_else(|| other("a part that it does not name"))?),
        };
        Ok(Self { kind: kind.to_owned(), key: *key, record, packed })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;

    fn sample() -> Cached {
        Cached {
            kind: "tree-1".into(),
            key: StepKey::of(b"inputs"),
            record: Part::of(b"record"),
            packed: Some(Part::of(b"record and contents")),
        }
    }

    #[test]
    fn a_signed_step_reads_back_and_has_one_form() {
        let bytes = sample().sign(&key(1)).unwrap();
        assert_eq!(bytes, sample().sign(&key(1)).unwrap());
        let bundle = Bundle::parse(&bytes).unwrap();
        assert!(bundle.is_signed_by(key(1).public()));
        assert_eq!(Cached::parse(&bundle, "tree-1", &sample().key).unwrap(), sample());
        let alone = Cached { packed: None, ..sample() };
        let bundle = Bundle::parse(&alone.sign(&key(1)).unwrap()).unwrap();
        assert_eq!(Cached::parse(&bundle, "tree-1", &sample().key).unwrap(), alone);
    }

    #[test]
    fn a_step_does_not_pass_for_another() {
        let bundle = Bundle::parse(&sample().sign(&key(1)).unwrap()).unwrap();
        assert!(Cached::parse(&bundle, "image-1", &sample().key).is_err());
        assert!(Cached::parse(&bundle, "tree-1", &StepKey::of(b"other inputs")).is_err());
        let changed = |change: &dyn Fn(&mut Statement)| {
            let mut statement = Statement::parse(&bundle.payload).unwrap();
            change(&mut statement);
            Cached::parse(&statement.sign(&key(1)).unwrap(), "tree-1", &sample().key)
        };
        assert!(changed(&|_| {}).is_ok());
        assert!(changed(&|statement| statement.predicate_type = "https://slsa.dev/provenance/v1".into()).is_err());
        assert!(changed(&|statement| statement.subjects[0].digest = BlobDigest::of(b"other")).is_err());
        assert!(changed(&|statement| statement.subjects.push(statement.subjects[0].clone())).is_err());
        assert!(changed(&|statement| statement.predicate["key"] = json!("00")).is_err());
        assert!(changed(&|statement| statement.predicate["packed"]["size"] = json!("7")).is_err());
        assert!(changed(&|statement| statement.predicate["record"]["digest"]["sha256"] = json!("../../x")).is_err());
    }
}
