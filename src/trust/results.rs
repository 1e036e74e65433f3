//! What tests of an image found: the predicate of in-toto's test results (`https://in-toto.io/attestation/test-result/v0.1`).

use serde_json::{Value, json};

/// The predicate's type.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The tests of one image, as they were run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The file that states the tests, and its sha256 in hexadecimal digits.
    pub recipe: (String, String),
    /// What was tried, in words and in the order of the recipe, and whether it was as promised.
    pub tests: Vec<(String, bool)>,
}

impl Results {
    /// Returns the predicate. It has neither times nor durations: the same image gives the same results.
    #[must_use]
    pub fn predicate(&self) -> Value {
        let names = |wanted: bool| -> Vec<&str> {
            self.tests.iter().filter(|(_, passed)| *passed == wanted).map(|(name, _)| name.as_str()).collect()
        };
        let failed = names(false);
        let (name, sha256) = &self.recipe;
        json!({
            "configuration": [{"digest": {"sha256": sha256}, "name": name}],
            "failedTests": failed,
            "passedTests": names(true),
            "result": if failed.is_empty() { "PASSED" } else { "FAILED" },
            "warnedTests": [],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_test_that_fails_is_the_result() {
        let results = |passed| Results {
            recipe: ("recipes/app.yaml".into(), "0a".into()),
            tests: vec![("line 3: app hello".into(), true), ("line 5: /srv is there".into(), passed)],
        };
        assert_eq!(
            results(false).predicate(),
            json!({
                "configuration": [{"digest": {"sha256": "0a"}, "name": "recipes/app.yaml"}],
                "failedTests": ["line 5: /srv is there"],
                "passedTests": ["line 3: app hello"],
                "result": "FAILED",
                "warnedTests": [],
            })
        );
        assert_eq!(results(true).predicate()["result"], "PASSED");
    }
}
