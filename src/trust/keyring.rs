//! The keys that a root key vouches for: which sign releases, from when to when, and which must not be believed any more.
//!
//! ```json
//! {"format":1,"version":3,"issued":"2026-11-24T12:00:00Z","expires":"2027-12-29T12:00:00Z",
//!  "root":"BASE64 OF THE ROOT KEY",
//!  "keys":[{"name":"release","key":"BASE64","from":"2026-11-24T12:00:00Z","until":"2028-11-23T12:00:00Z"}],
//!  "revoked":[{"key":"7K2M-…","since":"2026-11-24T12:00:00Z","why":"the laptop was stolen"}]}
//! ```
//!
//! It travels signed, as a bundle of its own payload type, so that no other signature of the root key can be taken for one.

use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, BundleError};
use super::key::{Fingerprint, PublicKey, SigningKey};
use crate::image::canonical::{self, JsonError};
use crate::model::moment::Moment;
use crate::model::name::KeyName;

/// The type of the signed payload.
pub const PAYLOAD: &str = "application/vnd.parvis.keyring.v1+json";

/// The name of a signed keyring beside a release.
pub const FILE: &str = "keyring.sigstore.json";

/// The number of the format.
const FORMAT: u32 = 1;

/// Keys in a keyring at most.
const MOST: usize = 500;

/// A keyring that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("it is not a keyring")]
    Kind,
    #[error("it does not have the shape of a keyring")]
    Shape(#[source] serde_json::Error),
    #[error("the keyring contradicts itself")]
    Contradiction,
    #[error("the keyring was not signed by the root key that it names")]
    Signature,
}

/// A key that signs releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseKey {
    pub name: KeyName,
    pub key: PublicKey,
    /// Since when the root vouches for it. What it signs may have been issued before: a release bears the date of its commit.
    pub from: Moment,
    /// What is issued later does not count.
    pub until: Moment,
}

/// A key that must not be believed any more, whatever it signed and whenever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedKey {
    pub key: Fingerprint,
    pub since: Moment,
    pub why: String,
}

/// What a root key vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyring {
    format: u32,
    /// A newer keyring has a higher one.
    pub version: u64,
    pub issued: Moment,
    /// After this nobody knows whether a key was revoked meanwhile.
    pub expires: Moment,
    pub root: PublicKey,
    pub keys: Vec<ReleaseKey>,
    pub revoked: Vec<RevokedKey>,
}

/// What a keyring says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// What it signs counts at that moment.
    InForce(&'a ReleaseKey),
    /// Its time was over.
    OutOfTime(&'a ReleaseKey),
    Revoked(&'a RevokedKey),
    /// The keyring does not know it.
    Unknown,
}

impl Keyring {
    /// Starts a keyring.
    #[must_use]
    pub const fn new(root: PublicKey, version: u64, issued: Moment, expires: Moment) -> Self {
        Self { format: FORMAT, version, issued, expires, root, keys: Vec::new(), revoked: Vec::new() }
    }

    /// Signs the keyring with its root key.
    ///
    /// # Errors
    /// Refuses another key than the root that it names, and what contradicts itself.
    pub fn sign(&self, root: &SigningKey) -> Result<Bundle, KeyringError> {
        if *root.public() != self.root {
            return Err(KeyringError::Signature);
        }
        self.check()?;
        let bytes = canonical::to_bytes(&serde_json::to_value(self).map_err(KeyringError::Shape)?)?;
        Ok(Bundle::sign(PAYLOAD, bytes, root))
    }

    /// Reads a signed keyring: the signature is that of the root key that it names. Whether that one is trusted is for others to say.
    ///
    /// # Errors
    /// Refuses other payloads, unknown and doubled keys, what contradicts itself, and another signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let bundle = Bundle::parse(bytes)?;
        if bundle.payload_type != PAYLOAD {
            return Err(KeyringError::Kind);
        }
        let keyring: Self = serde_json::from_value(canonical::read(&bundle.payload)?).map_err(KeyringError::Shape)?;
        keyring.check()?;
        if bundle.is_signed_by(&keyring.root) { Ok(keyring) } else { Err(KeyringError::Signature) }
    }

    fn check(&self) -> Result<(), KeyringError> {
        let own = |key: &ReleaseKey| key.key == self.root || key.until <= key.from;
        let twice = self.keys.iter().enumerate().any(|(at, key)| self.keys[..at].iter().any(|other| other.key == key.key));
        let many = self.keys.len() > MOST || self.revoked.len() > MOST;
        if self.format != FORMAT || self.version == 0 || self.expires <= self.issued || many || twice || self.keys.iter().any(own)
        {
            return Err(KeyringError::Contradiction);
        }
        Ok(())
    }

    /// Returns what the keyring says of a key and of something that was issued at this moment.
    #[must_use]
    pub fn standing(&self, key: &PublicKey, issued: Moment) -> Standing<'_> {
        let fingerprint = key.fingerprint();
        if let Some(revoked) = self.revoked.iter().find(|revoked| revoked.key == fingerprint) {
            return Standing::Revoked(revoked);
        }
        match self.keys.iter().find(|known| known.key == *key) {
            None => Standing::Unknown,
            Some(known) if issued <= known.until => Standing::InForce(known),
            Some(known) => Standing::OutOfTime(known),
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::super::key::testing::key;
    use super::*;

    /// Returns a keyring of the root key 9 with the release key 1, for tests.
    pub fn keyring() -> Keyring {
        let moment = |text: &str| text.parse().unwrap();
        let (from, until) = (moment("2026-01-01T00:00:00Z"), moment("2028-01-01T00:00:00Z"));
        let release = ReleaseKey { name: "release".parse().unwrap(), key: key(1).public().clone(), from, until };
        let mut keyring = Keyring::new(key(9).public().clone(), 1, from, moment("2027-12-31T00:00:00Z"));
        keyring.keys.push(release);
        keyring
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::testing::keyring;
    use super::*;

    #[test]
    fn a_signed_keyring_reads_back() {
        let bundle = keyring().sign(&key(9)).unwrap();
        insta::assert_snapshot!("keyring", String::from_utf8(bundle.payload.clone()).unwrap());
        assert_eq!(Keyring::parse(&bundle.to_bytes().unwrap()).unwrap(), keyring());
    }

    #[test]
    fn a_keyring_is_signed_by_its_own_root_and_nobody_else() {
        assert!(matches!(keyring().sign(&key(1)), Err(KeyringError::Signature)));
        let payload = keyring().sign(&key(9)).unwrap().payload;
        let other = Bundle::sign(PAYLOAD, payload.clone(), &key(1)).to_bytes().unwrap();
        assert!(matches!(Keyring::parse(&other), Err(KeyringError::Signature)));
        let other = Bundle::sign("text/plain", payload, &key(9)).to_bytes().unwrap();
        assert!(matches!(Keyring::parse(&other), Err(KeyringError::Kind)));
    }

    #[test]
    fn a_keyring_that_contradicts_itself_is_refused() {
        let wrong: [fn(&mut Keyring); 6] = [
            |keyring| keyring.format = 2,
            |keyring| keyring.version = 0,
            |keyring| keyring.expires = keyring.issued,
            |keyring| keyring.keys.push(keyring.keys[0].clone()),
            |keyring| keyring.keys[0].until = keyring.keys[0].from,
            |keyring| keyring.keys[0].key = keyring.root.clone(),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut keyring = keyring();
            change(&mut keyring);
            assert!(matches!(keyring.sign(&key(9)), Err(KeyringError::Contradiction)), "change {number}");
        }
    }

    #[test]
    fn a_key_counts_until_its_end_and_never_once_revoked() {
        let mut keyring = keyring();
        let at = |text: &str| text.parse().unwrap();
        let public = key(1).public().clone();
        assert!(matches!(keyring.standing(&public, at("2026-06-01T00:00:00Z")), Standing::InForce(_)));
        assert!(matches!(keyring.standing(&public, at("2025-06-01T00:00:00Z")), Standing::InForce(_)));
        assert!(matches!(keyring.standing(&public, at("2028-06-01T00:00:00Z")), Standing::OutOfTime(_)));
        assert_eq!(keyring.standing(key(2).public(), at("2026-06-01T00:00:00Z")), Standing::Unknown);
        keyring.revoked.push(RevokedKey { key: public.fingerprint(), since: keyring.issued, why: "stolen".into() });
        assert!(matches!(keyring.standing(&public, at("2026-06-01T00:00:00Z")), Standing::Revoked(_)));
    }
}
