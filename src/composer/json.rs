//! JSON as strangers write it: read strictly, within limits, and asked for what it holds.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::model::problem::shown;

/// Bytes of a document at most; the lock of a large site has one million.
pub const LARGEST: u64 = 16 << 20;

/// A document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` {what}")]
pub struct JsonError {
    pub file: String,
    pub what: String,
}

/// A value of a document that knows the document's name.
#[derive(Debug, Clone, Copy)]
pub struct Json<'a> {
    file: &'a str,
    value: &'a Value,
}

/// Reads a document. Refused: what is not JSON, or is nested deeper than 128, and keys that stand twice in one object.
///
/// # Errors
/// Says what is wrong, with line and column.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let wrong = |what: String| JsonError { file: file.to_owned(), what };
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(format!("is larger than {LARGEST} bytes")));
    }
    // The one mark that editors of another system write, and that PHP refuses too.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(wrong("begins with a byte order mark, which Composer refuses".to_owned()));
    }
    let Strict(value) = serde_json::from_slice(bytes).map_err(|error| wrong(format!("is not what it should be: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(wrong("is not a JSON object".to_owned())) }
}

impl<'a> Json<'a> {
    /// Wraps a whole document.
    #[must_use]
    pub const fn new(file: &'a str, value: &'a Value) -> Self {
        Self { file, value }
    }

    /// Returns an error about this document.
    #[must_use]
    pub fn wrong(&self, what: impl Into<String>) -> JsonError {
        JsonError { file: self.file.to_owned(), what: what.into() }
    }

    /// Returns what stands under a key; nothing where it is absent or null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { value, ..*self })
    }

    /// Returns what stands under a row of keys.
    #[must_use]
    pub fn at(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(*self, |value, key| value.get(key))
    }

    /// Returns the text under a key.
    ///
    /// # Errors
    /// Where it is something else than a text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, JsonError> {
        self.get(key).map(|value| value.as_text(key)).transpose()
    }

    /// Returns this value as a text; `name` is what a message calls it.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn as_text(&self, name: &str) -> Result<&'a str, JsonError> {
        self.value.as_str().ok_or_else(|| self.wrong(format!("has something else than a text at `{}`", shown(name))))
    }

    /// Returns a copy of the value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.value.clone()
    }

    /// Returns whether this is `true`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// Returns the members of an object. PHP writes an empty object as an empty list.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn members(&self, name: &str) -> Result<Vec<(&'a str, Self)>, JsonError> {
        match self.value {
            Value::Object(members) => Ok(members.iter().map(|(key, value)| (key.as_str(), Self { value, ..*self })).collect()),
            Value::Array(items) if items.is_empty() => Ok(Vec::new()),
            _ => Err(self.wrong(format!("has something else than an object at `{}`", shown(name)))),
        }
    }

    /// Returns the items of a list; those of an object in the order of its keys.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn items(&self, name: &str) -> Result<Vec<Self>, JsonError> {
        match self.value {
            Value::Array(items) => Ok(items.iter().map(|value| Self { value, ..*self }).collect()),
            Value::Object(members) => Ok(members.values().map(|value| Self { value, ..*self }).collect()),
            _ => Err(self.wrong(format!("has something else than a list at `{}`", shown(name)))),
        }
    }
}

/// A value without doubled keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(Number::from_f64(value).map_or(Value::Null, Value::Number)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(Value::String(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Strict, A::Error> {
                let mut items = Vec::new();
                while let Some(Strict(item)) = sequence.next_element()? {
                    items.push(item);
                }
                Ok(Strict(Value::Array(items)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut members = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    let Strict(value) = map.next_value()?;
                    if members.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key `{}` stands twice in one object", shown(&key))));
                    }
                    members.insert(key, value);
                }
                Ok(Strict(Value::Object(members)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        assert_eq!(parse("composer.json", text.as_bytes()).unwrap_err().to_string(), format!("`composer.json` {expected}"));
    }

    #[test]
    fn what_composer_and_parvis_could_read_differently_is_refused() {
        refused("[]", "is not a JSON object");
        refused("\u{feff}{}", "begins with a byte order mark, which Composer refuses");
        let twice = "is not what it should be: the key `name` stands twice in one object at line 1 column 25";
        refused(r#"{"name":"a/b","name":"c"}"#, twice);
        refused(r#"{"a":{"name":"","name":2}} "#, twice);
        refused("{", "is not what it should be: EOF while parsing an object at line 1 column 1");
        assert!(parse("a", b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_bomb_is_refused_at_once() {
        let start = Instant::now();
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        refused(&deep, "is not what it should be: recursion limit exceeded at line 1 column 132");
        refused(&" ".repeat(17 << 20), "is larger than 16777216 bytes");
        assert!(start.elapsed().as_secs() < 1);
    }

    #[test]
    fn an_empty_object_of_php_is_one() {
        let value = parse("a", br#"{"extra":[],"list":{"0":"x"},"none":null}"#).unwrap();
        let json = Json::new("a", &value);
        assert_eq!(json.get("extra").unwrap().members("extra").unwrap().len(), 0);
        assert_eq!(json.get("list").unwrap().items("list").unwrap().len(), 1);
        assert!(json.get("none").is_none() && json.at(&["list", "0", "x"]).is_none());
        let error = json.get("list").unwrap().text("0").unwrap();
        assert_eq!(error, Some("x"));
    }
}
