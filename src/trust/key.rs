//! Keys and signatures: ECDSA on the curve P-256 with SHA-256, the one kind that cosign, podman, skopeo and openssl all read.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{self, DerSignature, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

/// Bytes of a file with a public key at most.
pub const LIMIT: usize = 16 << 10;

/// How a public key begins in a file (RFC 7468, section 13).
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";

/// Bytes that are no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not a public key: it does not begin with `{BEGIN}`")]
    NoPublicKey,
    #[error("it is a private key, which nobody else may have")]
    Private,
    #[error("it is not a public key of the kind ECDSA P-256")]
    Kind,
    #[error("it is not a private key of the kind ECDSA P-256")]
    PrivateKind,
    #[error("it is not a fingerprint: {SYMBOLS} letters and digits, such as `7K2M-9QXD-…`")]
    Fingerprint,
}

/// What others know of a key: with it signatures are checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    /// `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7), in its one form.
    der: Vec<u8>,
}

impl PublicKey {
    fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der().map_err(|_| KeyError::Kind)?.into_vec();
        Ok(Self { key, der })
    }

    /// Reads a file with one public key and nothing else.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= LIMIT).ok_or(KeyError::NoPublicKey)?.trim();
        if text.contains(" PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if !text.starts_with(BEGIN) {
            return Err(KeyError::NoPublicKey);
        }
        // Other tools write CRLF.
        let text = text.replace("\r\n", "\n") + "\n";
        Self::new(VerifyingKey::from_public_key_pem(&text).map_err(|_| KeyError::Kind)?)
    }

    /// Reads the base64 text of its DER form.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let der = STANDARD.decode(text).map_err(|_| KeyError::Kind)?;
        Self::new(VerifyingKey::from_public_key_der(&der).map_err(|_| KeyError::Kind)?)
    }

    /// Returns the base64 text of its DER form.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// Returns the file that others get: PEM with line feeds.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // What was made from a key can be written as one.
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Returns the text by which a Sigstore bundle says which key it means: base64 of the SHA-256 of the DER form.
    #[must_use]
    pub fn hint(&self) -> String {
        STANDARD.encode(Sha256::digest(&self.der))
    }

    /// Returns the point of the curve that the key is, uncompressed (SEC 1, section 2.3.3).
    #[must_use]
    pub fn point(&self) -> Vec<u8> {
        self.key.to_sec1_point(false).as_bytes().to_vec()
    }

    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest: [u8; 32] = Sha256::digest(&self.der).into();
        Fingerprint::of(digest)
    }

    /// Whether a signature in DER form is one of these bytes by this key.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        DerSignature::try_from(signature).is_ok_and(|signature| self.key.verify(bytes, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.fingerprint())
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A key that signs. It does not show itself.
#[derive(Clone)]
pub struct SigningKey {
    secret: ecdsa::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a key of 32 random bytes; `None` for the few that are no number of the curve.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Option<Self> {
        Self::new(ecdsa::SigningKey::from_slice(bytes).ok()?).ok()
    }

    /// Reads the PKCS#8 form (RFC 5958).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let secret = SecretKey::from_pkcs8_der(der).map_err(|_| KeyError::PrivateKind)?;
        Self::new(secret.into())
    }

    fn new(secret: ecdsa::SigningKey) -> Result<Self, KeyError> {
        let public = PublicKey::new(*secret.verifying_key())?;
        Ok(Self { secret, public })
    }

    /// Hands the PKCS#8 form to whoever encrypts it; it is overwritten afterwards.
    pub fn with_pkcs8<T>(&self, use_it: impl FnOnce(&[u8]) -> T) -> Result<T, KeyError> {
        let der = self.secret.to_pkcs8_der().map_err(|_| KeyError::PrivateKind)?;
        Ok(use_it(der.as_bytes()))
    }

    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs bytes. The same bytes give the same signature (RFC 6979), in DER form.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.secret.sign(bytes);
        signature.as_bytes().to_vec()
    }
}

impl SigningKey {
    /// Signs bytes likewise; returns the two numbers of the signature, 32 bytes each.
    #[must_use]
    pub fn sign_numbers(&self, bytes: &[u8]) -> ([u8; 32], [u8; 32]) {
        let signature: ecdsa::Signature = self.secret.sign(bytes);
        let (r, s) = signature.split_bytes();
        (r.into(), s.into())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public.fingerprint())
    }
}

/// Symbols of a fingerprint.
const SYMBOLS: usize = 20;

/// Symbols between two hyphens.
const GROUP: usize = 4;

/// Crockford's base 32: without I, L, O and U, which are read as others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What people compare when they get a key: `7K2M-9QXD-4T0B-ZC6W-H1RE`, the first 100 bits of the SHA-256 of its DER form.
///
/// Whoever wants another key with the same fingerprint has to make about 2^100 keys: at 10^12 a second, forty thousand million
/// years. Half the length would take nineteen minutes. Two keys of one's own with equal fingerprints (2^50) gain nothing: both
/// are one's own. The full hash would be 52 symbols, and nobody compares so many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; SYMBOLS]);

impl Fingerprint {
    /// Returns the fingerprint of the key that a bundle's hint stands for: both are of the same hash.
    #[must_use]
    pub fn of_hint(hint: &str) -> Option<Self> {
        STANDARD.decode(hint).ok()?.try_into().ok().map(Self::of)
    }

    fn of(digest: [u8; 32]) -> Self {
        let mut symbols = [0; SYMBOLS];
        let bits = digest.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
        for (at, bit) in bits.take(SYMBOLS * 5).enumerate() {
            symbols[at / 5] = symbols[at / 5] << 1 | u8::try_from(bit).unwrap_or_default();
        }
        Self(symbols.map(|value| ALPHABET[usize::from(value)]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.0.chunks(GROUP).map(|group| group.iter().copied().map(char::from).collect()).collect();
        formatter.write_str(&groups.join("-"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = KeyError;

    /// Reads what somebody copied from paper: in small letters, with other gaps, with O for 0 and I or L for 1.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let symbol = |character: char| match character.to_ascii_uppercase() {
            'O' => Some(b'0'),
            'I' | 'L' => Some(b'1'),
            other => u8::try_from(other).ok().filter(|byte| ALPHABET.contains(byte)),
        };
        let copied = text.chars().filter(|character| !character.is_whitespace() && *character != '-');
        let symbols: Vec<u8> = copied.map(symbol).collect::<Option<_>>().ok_or(KeyError::Fingerprint)?;
        symbols.try_into().map(Self).map_err(|_| KeyError::Fingerprint)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// Returns a key that everybody has: for tests.
    pub fn key(number: u8) -> SigningKey {
        SigningKey::from_random(&[number; 32]).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::key;
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The vector of RFC 6979, section A.2.5: P-256, SHA-256, the message `sample`.
    #[test]
    fn a_signature_is_the_one_that_the_standard_computes() {
        let secret = hex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        let key = SigningKey::from_random(&secret.try_into().unwrap()).unwrap();
        let r = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716";
        let s = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8";
        let signature = key.sign(b"sample");
        assert_eq!(signature, hex(&format!("3046 022100{r} 022100{s}")));
        assert!(key.public().verifies(b"sample", &signature));
    }

    #[test]
    fn another_message_another_key_or_a_longer_signature_is_refused() {
        let signature = key(1).sign(b"a");
        assert!(key(1).public().verifies(b"a", &signature));
        assert!(!key(1).public().verifies(b"b", &signature));
        assert!(!key(2).public().verifies(b"a", &signature));
        assert!(!key(1).public().verifies(b"a", &[&signature[..], b"\0"].concat()));
        assert!(!key(1).public().verifies(b"a", b""));
    }

    #[test]
    fn a_public_key_reads_back_from_its_file_whoever_wrote_the_line_ends() {
        let public = key(1).public().clone();
        let pem = public.to_pem();
        assert!(pem.starts_with(BEGIN) && pem.ends_with("-----END PUBLIC KEY-----\n") && !pem.contains('\r'));
        assert_eq!(PublicKey::from_pem(pem.as_bytes()).unwrap(), public);
        assert_eq!(PublicKey::from_pem(pem.replace('\n', "\r\n").as_bytes()).unwrap(), public);
        assert_eq!(PublicKey::from_base64(&public.to_base64()).unwrap(), public);
    }

    #[test]
    fn what_is_no_public_key_is_refused_and_a_private_one_is_named() {
        let pem = key(1).public().to_pem();
        for wrong in ["", "words", &pem[1..], &format!("{pem}{pem}"), &format!("words\n{pem}"), &pem.replace("MFk", "MFl")] {
            assert!(PublicKey::from_pem(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
        assert_eq!(PublicKey::from_pem(private.as_bytes()), Err(KeyError::Private));
        // Ed25519: cosign signs with a variant of it that others do not verify.
        let ed25519 =
            format!("{BEGIN}\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n");
        assert_eq!(PublicKey::from_pem(ed25519.as_bytes()), Err(KeyError::Kind));
    }

    #[test]
    fn a_fingerprint_is_read_as_people_copy_it() {
        let fingerprint = key(1).public().fingerprint();
        let text = fingerprint.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (24, 4));
        let copied = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(copied.parse(), Ok(fingerprint));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replace(&text[..1], "U")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
        assert_ne!(key(2).public().fingerprint(), fingerprint);
        // The first 100 bits of 0x00 0x44 0x32 0x14 0xC7 …: the symbols count up from 0.
        let mut counting = [0_u8; 32];
        counting[..5].copy_from_slice(&[0x00, 0x44, 0x32, 0x14, 0xc7]);
        assert!(Fingerprint::of(counting).to_string().starts_with("0123-4567-0"));
    }

    #[test]
    fn a_private_key_does_not_show_itself() {
        let shown = format!("{:?}", key(1));
        assert!(shown.starts_with("SigningKey(") && shown.len() == "SigningKey()".len() + 24, "{shown}");
        let again = key(1).with_pkcs8(SigningKey::from_pkcs8).unwrap().unwrap();
        assert_eq!(again.public(), key(1).public());
        assert_eq!(SigningKey::from_pkcs8(b"\x30\x00").err(), Some(KeyError::PrivateKind));
    }
}
