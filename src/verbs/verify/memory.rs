//! What this machine has seen of releases: the newest that was found good, for each product and each trusted key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::edge::keys::Memory;
use crate::failure::Failure;
use crate::image::canonical;
use crate::model::digest::BlobDigest;
use crate::model::number::Number;
use crate::trust::key::Fingerprint;
use crate::trust::verdict::{GoodRelease, Seen};
use crate::trust::yank::Yank;
use crate::verbs::key::from_keys;

/// Products that are remembered.
const MOST: usize = 1000;

/// The newest release of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "it is the name in the file")]
struct Product {
    product: String,
    /// The trusted key: what somebody else calls by the same name is another product.
    anchor: Fingerprint,
    version: Number,
    sequence: u64,
    statement: BlobDigest,
    key: Fingerprint,
    repositories: BTreeSet<String>,
}

/// A release that its publisher took back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TakenBack {
    product: String,
    anchor: Fingerprint,
    version: Number,
    why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    products: Vec<Product>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken_back: Vec<TakenBack>,
}

impl Known {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// A file that cannot be read: without it an older release would be believed.
    pub fn read(memory: &Memory) -> Result<Self, Failure> {
        let Some(bytes) = memory.read().map_err(from_keys)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(|error| {
            Failure::world(format!("`{}` is damaged", memory.file().display()))
                .because(error)
                .hint("remove it; parvis then forgets which releases it has seen")
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(serde_json::from_value(canonical::read(bytes)?)?)
    }

    /// Returns the newest release that was seen of a product.
    pub fn seen(&self, product: &str, anchor: Fingerprint) -> Option<Seen> {
        let known = self.products.iter().find(|known| known.product == product && known.anchor == anchor)?;
        let Product { version, sequence, statement, key, .. } = known.clone();
        Some(Seen { version, sequence, statement, key })
    }

    /// Returns why a release was taken back by whoever signs under a trusted key.
    pub fn taken_back(&self, product: &str, anchor: Fingerprint, version: Number) -> Option<String> {
        let known = |known: &&TakenBack| known.product == product && known.anchor == anchor && known.version == version;
        self.taken_back.iter().find(known).map(|known| known.why.clone())
    }

    /// Takes in that a release was taken back; what was said first stays. Returns whether that is new.
    pub fn take_back(&mut self, yank: &Yank, anchor: Fingerprint) -> bool {
        let product = yank.product.to_string();
        if self.taken_back(&product, anchor, yank.version).is_some() {
            return false;
        }
        self.taken_back.push(TakenBack { product, anchor, version: yank.version, why: yank.why.clone() });
        let more = self.taken_back.len().saturating_sub(MOST);
        self.taken_back.drain(..more);
        true
    }

    /// Returns the product, seen under one of these trusted keys, that has a repository.
    pub fn product_of(&self, repository: &str, anchors: &[Fingerprint]) -> Option<&str> {
        let has = |known: &&Product| known.repositories.contains(repository) && anchors.contains(&known.anchor);
        self.products.iter().find(has).map(|known| known.product.as_str())
    }

    /// Takes in a good release; an older one changes nothing.
    fn take(&mut self, good: &GoodRelease) {
        let release = &good.release;
        let own = |known: &Product| known.product == release.product.as_str() && known.anchor == good.signer.anchor;
        let newer = |known: &&Product| own(known) && known.sequence > release.sequence;
        // Who goes back from a release that was taken back is at the older one.
        let counts = |known: &&Product| self.taken_back(&known.product, known.anchor, known.version).is_none();
        if self.products.iter().filter(newer).any(|known| counts(&known)) {
            return;
        }
        self.products.retain(|known| !own(known));
        self.products.push(Product {
            product: release.product.to_string(),
            anchor: good.signer.anchor,
            version: release.version,
            sequence: release.sequence,
            statement: good.statement,
            key: good.signer.key,
            repositories: release.images.iter().map(|image| release.repository(&image.name)).collect(),
        });
        let more = self.products.len().saturating_sub(MOST);
        self.products.drain(..more);
    }
}

/// Remembers that a release was taken back, whatever is found of it.
pub fn remember_yank(memory: &Memory, yank: &Yank, anchor: Fingerprint) -> Result<(), Failure> {
    let change = |before: Option<&[u8]>| {
        let mut known = before.map_or_else(|| Ok(Known::default()), Known::parse).ok()?;
        known.take_back(yank, anchor);
        canonical::to_bytes(&serde_json::to_value(&known).ok()?).ok()
    };
    memory.change(change).map_err(from_keys)
}

/// Remembers a good release.
pub fn remember(memory: &Memory, good: &GoodRelease) -> Result<(), Failure> {
    let change = |before: Option<&[u8]>| {
        let mut known = before.map_or_else(|| Ok(Known::default()), Known::parse).ok()?;
        known.take(good);
        canonical::to_bytes(&serde_json::to_value(&known).ok()?).ok()
    };
    memory.change(change).map_err(from_keys)
}
