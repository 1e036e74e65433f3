//! The gate of the layers: what never enters an image, whatever made it.

use memchr::memmem;

use crate::model::tree::{Entry, Kind, TreePath};

/// Something that must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {what}")]
pub struct Refused {
    path: TreePath,
    what: &'static str,
    advice: &'static str,
}

impl Refused {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(self.advice.to_owned())
    }
}

/// Refuses an entry for its path alone.
pub fn forbid(_path: &TreePath, _entry: &Entry) -> Result<(), Refused> {
    Ok(())
}

/// How many bytes around the words `PRIVATE KEY` decide whether a key stands there.
const CONTEXT: usize = 640;

/// Looks for private keys in content as it passes.
#[derive(Default)]
pub struct Scanner {
    tail: Vec<u8>,
    found: bool,
}

impl Scanner {
    /// Starts with nothing seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes of the content.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.tail.is_empty() {
            self.tail.extend_from_slice(&bytes[..bytes.len().min(CONTEXT)]);
            self.found |= holds_key(&self.tail);
        }
        self.found |= holds_key(bytes);
        if bytes.len() >= CONTEXT {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - CONTEXT..]);
        } else if self.tail.is_empty() {
            self.tail.extend_from_slice(bytes);
        } else {
            // Fewer than CONTEXT bytes came, and all of them stand in the tail already.
            let surplus = self.tail.len().saturating_sub(CONTEXT);
            self.tail.drain(..surplus);
        }
    }

    /// Refuses the content when a private key was seen in it.
    pub fn judge(&self, path: &TreePath, entry: &Entry) -> Result<(), Refused> {
        if !self.found || may_hold_keys(path, entry) {
            return Ok(());
        }
        let advice = "keys are made on the target and mounted into the container; take the file out of the recipe";
        Err(Refused { path: path.clone(), what: "holds a private key", advice })
    }
}

fn may_hold_keys(_path: &TreePath, entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::File { .. })
}

fn holds_key(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"PRIVATE KEY").any(|at| is_key(&bytes[..at], &bytes[at + b"PRIVATE KEY".len()..]))
}

/// Returns whether the words stand in the first line of a key that is really there.
///
/// Programs that read keys hold the line too, and manuals show it with dots in place of a key: so at least 60 digits of
/// base64 must follow, which the shortest key in use (Ed25519 in PKCS #8) has.
fn is_key(before: &[u8], after: &[u8]) -> bool {
    let in_label = |byte: &&u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ';
    let label = before.iter().rev().take(48).take_while(in_label).count();
    // The label swallowed the word BEGIN as well.
    let (dashes, label) = before.split_at(before.len() - label);
    if !dashes.ends_with(b"-----") || !label.starts_with(b"BEGIN ") {
        return false;
    }
    let Some(body) = after.strip_prefix(b"-----").or_else(|| after.strip_prefix(b" BLOCK-----")) else { return false };
    let mut digits = 0;
    for line in body.split(|byte| *byte == b'\n').take(12) {
        // Headers such as `Proc-Type: 4,ENCRYPTED` and `Version: …`.
        let word = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
        if digits == 0 && line[word..].starts_with(b": ") {
            continue;
        }
        let mut rest = line;
        while let Some((&byte, after)) = rest.split_first() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => digits += 1,
                b' ' | b'\t' | b'\r' | b'"' | b'\'' | b',' => {}
                // A line end as JSON and C write it.
                b'\\' if matches!(after.first(), Some(b'n' | b'r')) => {
                    rest = &after[1..];
                    continue;
                }
                _ => return false,
            }
            rest = after;
            if digits >= 60 {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::FileDigest;
    use crate::model::tree::Origin;

    fn key(label: &str, line_end: &str) -> String {
        let line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        format!("-----BEGIN {label}-----{line_end}{line}{line_end}{line}{line_end}-----END {label}-----{line_end}")
    }

    fn refused(content: &[u8], step: usize) -> bool {
        let mut scanner = Scanner::new();
        for piece in content.chunks(step) {
            scanner.feed(piece);
        }
        let entry = Entry::file(FileDigest::of(b""), 0, 0o644, 0, Origin::Parvis);
        scanner.judge(&TreePath::parse(b"etc/x").unwrap(), &entry).is_err()
    }

    #[test]
    fn a_private_key_is_found_however_it_is_written_and_wherever_it_stands() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
            for line_end in ["\n", "\r\n", "\\n", "\n    "] {
                let content = format!("{}{}{}", "x".repeat(1000), key(label, line_end), "y".repeat(1000));
                for step in [1, 7, 64, 1000, 100_000] {
                    assert!(refused(content.as_bytes(), step), "{label} {line_end:?} {step}");
                }
            }
        }
        let encrypted =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n";
        assert!(refused(format!("{encrypted}{}", "abcd".repeat(20)).as_bytes(), 10));
    }

    #[test]
    fn a_program_that_reads_keys_and_a_manual_that_shows_one_may_pass() {
        for content in [
            "\0-----BEGIN PRIVATE KEY-----\0-----BEGIN CERTIFICATE-----\0",
            "grep -q -- '-----BEGIN RSA PRIVATE KEY-----' \"$file\" || exit 1",
            "-----BEGIN PRIVATE KEY-----\nMII...\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n",
        ] {
            for step in [1, 100] {
                assert!(!refused(content.as_bytes(), step), "{content}");
            }
        }
    }
}
