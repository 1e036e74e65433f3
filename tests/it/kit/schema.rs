//! Answers of parvis, held against the schemas that it prints of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::project::parvis;

/// Fails where an answer is not what the schema of its verb says.
pub fn assert_fits(verb: &str, answer: &Value) {
    let wrong = wrong(verb, answer);
    assert!(wrong.is_empty(), "`parvis {verb} --json` does not fit its schema: {wrong:#?}\n{answer:#}");
}

/// Fails where something that is no answer is what the schema says.
pub fn assert_fits_not(verb: &str, answer: &Value) {
    assert!(!wrong(verb, answer).is_empty(), "the schema of `parvis {verb} --json` lets this through: {answer:#}");
}

fn wrong(verb: &str, answer: &Value) -> Vec<String> {
    static KNOWN: Mutex<BTreeMap<String, Value>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let schema = known.entry(verb.to_owned()).or_insert_with(|| {
        let output = parvis(std::path::Path::new("/")).args(["schema", verb]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    });
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect()
}
