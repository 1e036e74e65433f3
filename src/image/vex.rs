//! What was fixed, as a program reads it: an `OpenVEX` document (`OpenVEX` specification 0.2.0).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::canonical::{self, JsonError};
use super::sbom::{Debian, purl};
use crate::model::digest::{BlobDigest, FileDigest};

/// The namespace of the documents, and their predicate type in an attestation.
pub const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

/// A package of an image in which holes were closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FixedPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
}

/// An image in which holes were closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FixedImage {
    pub name: String,
    pub architecture: String,
    pub manifest: BlobDigest,
}

/// The fixed packages of each image, by the hole that was closed.
pub type Fixed = BTreeMap<String, BTreeMap<FixedImage, BTreeSet<FixedPackage>>>;

/// Returns the document: one statement for each hole, dated and named by nothing but what it says.
///
/// # Errors
/// Only where the canonical form has no room for something, which is a bug.
pub fn document(author: &str, date: &str, fixed: &Fixed) -> Result<Vec<u8>, JsonError> {
    let debian = Debian { vendor: "debian", distro: None };
    let product = |(image, packages): (&FixedImage, &BTreeSet<FixedPackage>)| {
        let qualifiers = [("arch", image.architecture.as_str())];
        let parts = packages.iter().filter_map(|package| debian.purl(&package.name, &package.version, &package.architecture));
        json!({
            "@id": purl("oci", None, &image.name, Some(&image.manifest.to_string()), &qualifiers),
            "identifiers": { "purl": purl("oci", None, &image.name, Some(&image.manifest.to_string()), &qualifiers) },
            "hashes": { "sha-256": image.manifest.hex() },
            "subcomponents": parts.map(|purl| json!({ "@id": purl })).collect::<Vec<_>>(),
        })
    };
    let statement = |(hole, images): (&String, &BTreeMap<FixedImage, BTreeSet<FixedPackage>>)| {
        json!({
            "vulnerability": { "name": hole },
            "products": images.iter().map(product).collect::<Vec<_>>(),
            "status": "fixed",
            "timestamp": date,
        })
    };
    let statements: Vec<Value> = fixed.iter().map(statement).collect();
    let mut document = json!({
        "@context": CONTEXT,
        "author": author,
        "timestamp": date,
        "version": 1,
        "tooling": concat!("parvis/", env!("CARGO_PKG_VERSION")),
        "statements": statements,
    });
    let name = FileDigest::of(&canonical::to_bytes(&document)?).hex();
    document["@id"] = json!(format!("https://openvex.dev/docs/public/vex-{name}"));
    canonical::to_bytes(&document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_what_was_fixed_where_and_gets_its_name_from_it() {
        let image = FixedImage { name: "base".into(), architecture: "amd64".into(), manifest: BlobDigest::of(b"manifest") };
        let package = FixedPackage { name: "libssl3".into(), version: "3.5.1-1+deb13u1".into(), architecture: "amd64".into() };
        let fixed: Fixed = BTreeMap::from([("CVE-2025-0001".to_owned(), BTreeMap::from([(image, BTreeSet::from([package]))]))]);
        let bytes = document("tests", "2026-11-24T12:00:00Z", &fixed).unwrap();
        assert_eq!(document("tests", "2026-11-24T12:00:00Z", &fixed).unwrap(), bytes);
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
        let other = document("tests", "2026-11-25T12:00:00Z", &fixed).unwrap();
        let name = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["@id"].clone();
        assert_ne!(name(&other), name(&document("tests", "2026-11-24T12:00:00Z", &fixed).unwrap()));
    }
}
