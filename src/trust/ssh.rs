//! Signatures as `ssh-keygen -Y` and git read them, by the keys that sign releases.
//!
//! Formats: the public key and the signature are those of RFC 5656 (sections 3.1 and 3.1.2), around them stands OpenSSH's `SSHSIG`
//! (`PROTOCOL.sshsig`); git puts the text behind what it signs, in the namespace `git` (gitformat-signature).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};

use super::key::{PublicKey, SigningKey};

/// The kind of key, and its curve.
const KIND: &str = "ecdsa-sha2-nistp256";
const CURVE: &str = "nistp256";

/// What git's signatures are for.
const NAMESPACE: &str = "git";

const MAGIC: &[u8] = b"SSHSIG";
const HASH: &str = "sha512";

/// Letters of a line of a signature; any number is read.
const LINE: usize = 70;

/// A text or number with its length before it (RFC 4251, section 5).
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A positive number, which has no zeros before it but one that keeps it positive.
fn number(out: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let rest = &bytes[zeros..];
    let positive = if rest.first().is_some_and(|first| first & 0x80 != 0) { &[0][..] } else { &[] };
    string(out, &[positive, rest].concat());
}

fn blob(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KIND.as_bytes());
    string(&mut blob, CURVE.as_bytes());
    string(&mut blob, &key.point());
    blob
}

/// Returns the line by which git's `gpg.ssh.allowedSignersFile` lets a key sign for somebody.
#[must_use]
pub fn allowed_signer(who: &str, key: &PublicKey) -> String {
    format!("{who} namespaces=\"{NAMESPACE}\" {KIND} {}", STANDARD.encode(blob(key)))
}

/// Signs what git hands to the signer: a tag without its signature. The same text gives the same signature.
#[must_use]
pub fn sign(text: &[u8], key: &SigningKey) -> String {
    let mut signed = MAGIC.to_vec();
    string(&mut signed, NAMESPACE.as_bytes());
    string(&mut signed, b"");
    string(&mut signed, HASH.as_bytes());
    string(&mut signed, &Sha512::digest(text));
    let (r, s) = key.sign_numbers(&signed);
    let (mut numbers, mut signature) = (Vec::new(), Vec::new());
    number(&mut numbers, &r);
    number(&mut numbers, &s);
    string(&mut signature, KIND.as_bytes());
    string(&mut signature, &numbers);

    let mut all = MAGIC.to_vec();
    all.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut all, &blob(key.public()));
    string(&mut all, NAMESPACE.as_bytes());
    string(&mut all, b"");
    string(&mut all, HASH.as_bytes());
    string(&mut all, &signature);
    let text = STANDARD.encode(all);
    let lines = (0..text.len()).step_by(LINE).map(|at| &text[at..text.len().min(at + LINE)]);
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::key::testing::key;
    use super::*;

    #[test]
    fn a_number_is_positive_and_has_no_zeros_before_it() {
        for (bytes, expected) in
            [(&[0, 0, 1][..], &[0, 0, 0, 1, 1][..]), (&[0x80, 2], &[0, 0, 0, 3, 0, 0x80, 2]), (&[0], &[0, 0, 0, 0])]
        {
            let mut out = Vec::new();
            number(&mut out, bytes);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_signature_has_one_form() {
        let signature = sign(b"tag 1.0.0\n", &key(1));
        assert_eq!(signature, sign(b"tag 1.0.0\n", &key(1)));
        assert_ne!(signature, sign(b"tag 1.0.1\n", &key(1)));
        assert!(signature.lines().all(|line| line.len() <= LINE));
        assert!(
            allowed_signer("parish", key(1).public()).starts_with(
                "parish namespaces=\"git\" ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB"
            )
        );
    }
}
