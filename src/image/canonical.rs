//! The one writer of JSON that is digested or signed, and a reader that takes no document two readers could take for two.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The largest document that is read, as registries have it for manifests.
pub const LIMIT: usize = 4 << 20;

/// A document that cannot be read, or cannot be written in only one way.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the document has {size} bytes; at most {limit} are read")]
    TooLarge { size: u64, limit: usize },
    #[error("the document is not JSON, or could be read in two ways")]
    Syntax(#[source] serde_json::Error),
    #[error("the number {0} has no single way to be written")]
    Fraction(f64),
}

/// Returns a value as JSON in its one form: keys sorted by their bytes, no spaces, whole numbers only.
///
/// # Errors
/// Refuses fractions.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, JsonError> {
    let mut bytes = Vec::new();
    write(&mut bytes, value)?;
    Ok(bytes)
}

fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Number(number) => {
            if let Some(fraction) = number.as_f64().filter(|_| number.is_f64()) {
                return Err(JsonError::Fraction(fraction));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(out, item)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(out, &Value::String(key.clone()))?;
                out.push(b':');
                write(out, member)?;
            }
            out.push(b'}');
        }
        // Null, truth values and strings have one form already.
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
    Ok(())
}

/// Reads a document from outside.
///
/// # Errors
/// Refuses more than [`LIMIT`] bytes, a key that stands twice in one object, text after the document, and more than
/// 128 levels.
pub fn read(bytes: &[u8]) -> Result<Value, JsonError> {
    read_within(bytes, LIMIT)
}

/// Reads a document from outside, as [`read`] does, that may have this many bytes.
pub fn read_within(bytes: &[u8], limit: usize) -> Result<Value, JsonError> {
    if bytes.len() > limit {
        return Err(JsonError::TooLarge { size: bytes.len() as u64, limit });
    }
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(JsonError::Syntax)
}

/// A value in which no key stands twice. `serde_json` itself takes the last one.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictVisitor.deserialize(deserializer).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(StrictVisitor)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // Go takes keys that differ only in case for the same one.
        let mut seen = BTreeSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.to_lowercase()) {
                return Err(de::Error::custom(format!("the key {key:?} stands twice in one object")));
            }
            map.insert(key, access.next_value_seed(StrictVisitor)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_at_every_level_and_nothing_is_spaced() {
        let value = json!({"b": [1, {"d": null, "c": "é\n"}], "a": true});
        let bytes = to_bytes(&value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"a":true,"b":[1,{"c":"é\n","d":null}]}"#);
        assert!(to_bytes(&json!(0.5)).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({"z": -3, "a": {"k": [u64::MAX, "x"]}});
        assert_eq!(read(&to_bytes(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth_and_in_any_case() {
        for text in
            [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"b":2,"a":1}]}"#, r#"{"layers":[],"Layers":[]}"#, r#"{"a":1,"\u0061":2}"#]
        {
            assert!(matches!(read(text.as_bytes()), Err(JsonError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn endless_and_bottomless_documents_are_refused() {
        assert!(matches!(read(&vec![b' '; LIMIT + 1]), Err(JsonError::TooLarge { .. })));
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
        assert!(read(b"{} {}").is_err());
    }
}
