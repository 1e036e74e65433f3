//! Digests: one type per thing that is digested, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A digest in text that is not 64 lowercase hexadecimal digits, or has another algorithm than sha256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sha256 digest (64 lowercase hexadecimal digits)")]
pub struct InvalidDigest(String);

/// Hashes bytes as they pass.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts with nothing hashed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes taken in, as the digest of the thing that `D` stands for.
    #[must_use]
    pub fn finish<D: From<[u8; 32]>>(self) -> D {
        D::from(self.0.finalize().into())
    }
}

/// Parses 64 lowercase hexadecimal digits.
fn parse_hex(text: &str) -> Result<[u8; 32], InvalidDigest> {
    let invalid = || InvalidDigest(text.chars().take(80).collect());
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return Err(invalid());
    }
    let mut digest = [0_u8; 32];
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
            return Err(invalid());
        };
        *byte = high << 4 | low;
    }
    Ok(digest)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Returns bytes as hexadecimal digits in small letters.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Returns the digest of these bytes.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }

            /// Returns the 64 hexadecimal digits, without the algorithm's name.
            #[must_use]
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// Returns the 32 bytes.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}{}", $prefix, hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), &hex(&self.0)[..12])
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                match text.strip_prefix($prefix) {
                    Some(hex) => parse_hex(hex).map(Self),
                    None => Err(InvalidDigest(text.chars().take(80).collect())),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// The digest of a blob as it is stored and sent: a compressed layer, a config, a manifest. Written `sha256:…`.
    BlobDigest, "sha256:"
);
digest_type!(
    /// The digest of an uncompressed layer tar (`diff_id` of the OCI image configuration). Written `sha256:…`.
    DiffId, "sha256:"
);
digest_type!(
    /// The digest of a regular file's content. Written as 64 digits.
    FileDigest, ""
);
digest_type!(
    /// The digest of something downloaded and named in the lock: a .deb, an index, a distribution. Written as 64 digits.
    DownloadDigest, ""
);
digest_type!(
    /// The key of a stored segment of a layer: the digest of everything that its bytes depend on.
    SegmentKey, ""
);
digest_type!(
    /// The digest of a tree's text form.
    TreeDigest, ""
);
digest_type!(
    /// The key of a step of the plan: the digest of everything that can change its result.
    StepKey, ""
);

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = BlobDigest::of(b"");
        assert_eq!(digest.to_string(), format!("sha256:{EMPTY}"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(FileDigest::of(b"").to_string(), EMPTY);
    }

    #[test]
    fn a_digest_in_capitals_is_refused() {
        assert!(format!("sha256:{}", EMPTY.to_uppercase()).parse::<BlobDigest>().is_err());
    }

    #[test]
    fn a_digest_that_is_a_path_or_another_algorithm_is_refused() {
        for text in ["sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", EMPTY, "sha256:", ""] {
            assert!(text.parse::<BlobDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once() {
        let mut hasher = Hasher::new();
        hasher.update(b"par");
        hasher.update(b"vis");
        assert_eq!(hasher.finish::<DiffId>(), DiffId::of(b"parvis"));
    }
}
