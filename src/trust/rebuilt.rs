//! What came of making a release again: the same bytes, others, or no answer; and that verdict as something that is signed.
//!
//! Signed is a verification summary (`https://slsa.dev/verification_summary/v1`), one for each image. It has no time: who makes the
//! same release again and finds the same says so in the same bytes.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

/// The predicate of a verification summary.
pub const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";

/// Who verified: parvis, on a machine of whoever signs. No server need answer there, nor at the next.
const VERIFIER: &str = "https://parvis.example/verifier/own-machine/v1";

/// What was asked: that the image, made again from the lock and the kept packages, has the same digest.
const POLICY: &str = "https://parvis.example/policy/same-bytes/v1";

/// The level that an image has that was made again; levels of others do not begin with `SLSA_`.
const LEVEL: &str = "PARVIS_REBUILT";

/// The number of the format of the answer.
pub const FORMAT: u32 = 1;

/// How it ended. None of the three stands for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every image that was made again has the digest that was signed.
    Same,
    /// At least one has another, and was made from the very recipes, lock and packages of the release.
    Differs,
    /// It could not be made again, or not from what is proven to be the same.
    Undecided,
}

/// Where the recipes were from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The commit that the signed statement names.
    Commit,
    /// A folder with the release's lock: equal digests prove that its recipes are the release's, different ones prove nothing.
    Folder,
}

/// Why a file could differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A package ships it, and the kept package has it otherwise.
    Package,
    /// A script of a package makes it.
    Script,
    /// The recipe takes it from `images/`, or declares it.
    Recipe,
    /// A command of the recipe makes it.
    Command,
    /// Composer installs it.
    Composer,
    /// It is the package database.
    Database,
    /// Nothing of the recipes or the lock puts it there.
    Nobody,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebuiltFile {
    pub path: String,
    /// `added`: only the rebuilt image has it; `removed`: only the released one has it; `changed`.
    pub kind: String,
    /// Who puts it there, as `parvis diff` says it: `package openssl`, `recipe httpd, line 12`.
    pub owner: String,
    pub cause: Cause,
    /// The same in words.
    pub why: String,
    /// What of it differs: content, mode, owner, date.
    pub aspects: Vec<String>,
}

/// One image on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebuiltImage {
    pub name: String,
    /// As OCI names it: `linux/amd64`.
    pub platform: String,
    /// The digests of the manifests.
    pub released: String,
    pub rebuilt: String,
    pub same: bool,
    /// The layers of the rebuilt image, and the titles of those that the released one does not have.
    pub layers: usize,
    pub other_layers: Vec<String>,
    /// Settings that differ, by name.
    pub settings: Vec<String>,
    pub files: Vec<RebuiltFile>,
    /// Files that differ and are not listed, because there are too many.
    pub more_files: usize,
    /// Why no files are named, where the released image could not be read.
    pub unread: Option<String>,
}

/// Something else that the statement lists: what is in an image, or a file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebuiltDocument {
    /// As the statement names it.
    pub name: String,
    /// Its digests; absent where it was not released, or cannot be made again.
    pub released: Option<String>,
    pub rebuilt: Option<String>,
    pub same: bool,
    /// The parts of a list that differ, with what was released and what came of it.
    pub differences: Vec<String>,
    /// Parts that differ and are not listed, because there are too many.
    pub more: usize,
    /// Why no parts are named, where the released list could not be read.
    pub unread: Option<String>,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rebuilt {
    pub format: u32,
    pub verdict: Verdict,
    /// In words.
    pub sentence: String,
    /// Why there is no answer, and what can be done; absent where there is one.
    pub reason: Option<String>,
    pub advice: Option<String>,
    pub product: String,
    pub version: String,
    pub commit: String,
    /// The digests of the signed statement and of the lock.
    pub statement: String,
    pub lock: String,
    /// Where the recipes were from; absent where none were found.
    pub origin: Option<Origin>,
    /// The version of parvis that made it again.
    pub parvis: String,
    pub platforms: Vec<String>,
    pub images: Vec<RebuiltImage>,
    /// The version of parvis that made the release, where its record is at hand. Another one may word lists and guides otherwise.
    pub made_by: Option<String>,
    /// Lists of what is in the images, and files of bundles.
    pub documents: Vec<RebuiltDocument>,
    /// Where the signed verdict hangs now: references of images.
    pub attested: Vec<String>,
}

impl Rebuilt {
    /// Returns the JSON Schema of the answer.
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Returns what is signed of one image of the release, in its repository.
    #[must_use]
    pub fn predicate(&self, image: &RebuiltImage, repository: &str) -> Value {
        let digest = |text: &str| json!({"sha256": text.strip_prefix("sha256:").unwrap_or(text)});
        let level = if image.same { LEVEL } else { "FAILED" };
        json!({
            "verifier": {"id": VERIFIER, "version": {"parvis": self.parvis}},
            "resourceUri": format!("{repository}@{}", image.released),
            "policy": {"uri": POLICY},
            "inputAttestations": [{"uri": format!("{} {}", self.product, self.version), "digest": digest(&self.statement)}],
            "verificationResult": if image.same { "PASSED" } else { "FAILED" },
            "verifiedLevels": [level],
            "parvis_commit": self.commit,
            "parvis_lock": digest(&self.lock),
            "parvis_platform": image.platform,
            "parvis_rebuilt": digest(&image.rebuilt),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Rebuilt {
        let image = |name: &str, same: bool| RebuiltImage {
            name: name.into(),
            platform: "linux/amd64".into(),
            released: format!("sha256:{}", "a".repeat(64)),
            rebuilt: format!("sha256:{}", if same { "a" } else { "b" }.repeat(64)),
            same,
            layers: 2,
            other_layers: if same { Vec::new() } else { vec!["recipe files".into()] },
            settings: Vec::new(),
            files: Vec::new(),
            more_files: 0,
            unread: None,
        };
        Rebuilt {
            format: FORMAT,
            verdict: Verdict::Differs,
            sentence: "in words".into(),
            reason: None,
            advice: None,
            product: "civiparoisse".into(),
            version: "1.4.0".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            statement: format!("sha256:{}", "c".repeat(64)),
            lock: "d".repeat(64),
            origin: Some(Origin::Commit),
            parvis: "0.1.0".into(),
            platforms: vec!["linux/amd64".into()],
            images: vec![image("httpd", true), image("db", false)],
            made_by: None,
            documents: Vec::new(),
            attested: Vec::new(),
        }
    }

    #[test]
    fn each_image_gets_a_summary_of_its_own_and_only_one_that_is_the_same_passes() {
        let answer = sample();
        let summaries: Vec<Value> = answer
            .images
            .iter()
            .map(|image| answer.predicate(image, &format!("registry.example/parish/{}", image.name)))
            .collect();
        insta::assert_snapshot!("summaries", serde_json::to_string_pretty(&summaries).unwrap());
    }

    #[test]
    fn the_answer_fits_its_schema() {
        let validator = jsonschema::validator_for(&Rebuilt::schema()).unwrap();
        let mut answer = serde_json::to_value(sample()).unwrap();
        assert!(validator.is_valid(&answer));
        answer["verdict"] = json!("good");
        assert!(!validator.is_valid(&answer), "a fourth outcome");
    }
}
