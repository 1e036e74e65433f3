//! OpenPGP: whether a signed message comes from one of the keys that are expected.
//!
//! A program checks, not a crate: `gpgv` (Debian 12 and before) or `sqv` (Debian 13) is on every machine that has apt, is
//! what apt itself trusts for the same files, and gets its fixes from the machine's own updates. The crates were weighed: one
//! checks only the mathematics, not expiry, revocation or the binding of subkeys, for a hundred more crates; the other is
//! LGPL. What the programs do not decide is decided here: that the message is one signed block with nothing around it,
//! that the digest of the signature is not weak, and that the key is one of those that the project names.
//!
//! The two differ in one thing. `gpgv` refuses a key that has expired. `sqv` accepts what such a key signed while it was
//! valid, by the date that the signature itself gives; it is therefore told to refuse signatures that are older than the
//! `Date` of the text. What an expired key can still sign then looks old, and is refused for its age.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::draft::{DraftFolder, PREFIX};
use crate::debian::release::{FramingError, Release, signed_text};

/// Digest algorithms that a signature may have: SHA-256, SHA-384, SHA-512 (RFC 9580, section 9.5).
const STRONG: [&str; 3] = ["8", "9", "10"];

/// How far the clocks of those who write and those who sign may be apart, in seconds.
const CLOCKS: i64 = 86_400;

/// A message whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed, as the program that checked it gives it out, with one newline at its end.
    pub text: String,
    /// The fingerprint of the primary key: 40 capital hexadecimal digits.
    pub key: String,
}

/// A message that is not to be believed, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    #[error("it is not one signed message")]
    Framing(#[source] FramingError),
    #[error("no expected key has signed it: {found}; expected is {expected}")]
    Refused { found: String, expected: String },
    #[error("the keyring holds no OpenPGP keys: {0}")]
    Keyring(&'static str),
    #[error("the signature cannot be checked: neither `gpgv` nor a `sqv` that reads signed texts is installed")]
    NoProgram,
    #[error("the signature cannot be checked: `{program}` {what}")]
    Program { program: &'static str, what: String },
    #[error("the signature cannot be checked: no temporary file")]
    Io(#[source] io::Error),
}

impl OpenPgpError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProgram => "install one of them: `apt-get install gpgv` (`sqv` from Debian 13 on)".into(),
            Self::Keyring(_) => "`keyring:` in `parvis.yaml` names the file; `gpg --export KEY` writes one".into(),
            Self::Refused { .. } | Self::Framing(_) => {
                "name another mirror with `--mirror`; if the archive has new keys, compare them with what Debian publishes, then \
                 add them to the keyring and to `keys:` in `parvis.yaml`"
                    .into()
            }
            Self::Program { .. } | Self::Io(_) => return None,
        })
    }
}

/// Returns the name of the program that would check signatures; `None` where there is none.
#[must_use]
pub fn program() -> Option<&'static str> {
    ["sqv", "gpgv"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// A program that checks signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Gpgv,
    Sqv,
}

/// Checks a signed Release file (`InRelease`).
///
/// The keyring is in ASCII armour or binary. `allowed` are fingerprints of primary keys: a good signature by any other key
/// of the keyring counts as none. Signatures by keys that the keyring lacks do no harm beside a good one.
///
/// # Errors
/// Names the keys that were found and those that were expected.
pub fn verify(message: &[u8], keyring: &[u8], allowed: &[String]) -> Result<Verified, OpenPgpError> {
    verify_with(&[("gpgv", Program::Gpgv), ("sqv", Program::Sqv)], message, keyring, allowed)
}

fn verify_with(
    programs: &[(&str, Program)],
    message: &[u8],
    keyring: &[u8],
    allowed: &[String],
) -> Result<Verified, OpenPgpError> {
    signed_text(message).map_err(OpenPgpError::Framing)?;
    let keyring = binary(keyring).map_err(OpenPgpError::Keyring)?;
    let folder = DraftFolder::temporary(PREFIX).map_err(OpenPgpError::Io)?;
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).map_err(OpenPgpError::Io);
    write("keyring.gpg", &keyring)?;
    write("message", message)?;
    for (path, program) in programs {
        let answer = match program {
            Program::Gpgv => gpgv(path, folder.path()),
            Program::Sqv => sqv(path, folder.path()),
        };
        let Some(signatures) = answer? else { continue };
        let good = signatures.iter().find_map(|signature| match signature {
            Signature::Good { key } if allowed.contains(key) => Some(key.clone()),
            _ => None,
        });
        // One that does not fit the text says that the text is not what somebody signed.
        let broken = signatures.iter().any(|signature| matches!(signature, Signature::Bad { .. }));
        return match good.filter(|_| !broken) {
            Some(key) => Ok(Verified { text: text(folder.path(), path)?, key }),
            None => Err(OpenPgpError::Refused { found: describe(&signatures), expected: list(allowed) }),
        };
    }
    Err(OpenPgpError::NoProgram)
}

/// What a program says of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Signature {
    Good {
        key: String,
    },
    /// Does not fit the text.
    Bad {
        key: String,
    },
    /// Does not count, for this reason.
    Worthless {
        key: String,
        why: &'static str,
    },
    /// In the program's own words.
    Words(String),
}

fn describe(signatures: &[Signature]) -> String {
    let words: Vec<String> = signatures
        .iter()
        .map(|signature| match signature {
            Signature::Good { key } => format!("the key {key} has, and is not among `keys:`"),
            Signature::Bad { key } => format!("the signature of {key} does not fit: the text was changed"),
            Signature::Worthless { key, why } => format!("{why} {key}"),
            Signature::Words(words) => words.clone(),
        })
        .collect();
    if words.is_empty() { "it has no signature".into() } else { words.join(", ") }
}

fn list(keys: &[String]) -> String {
    if keys.is_empty() { "no key at all".into() } else { keys.join(" or ") }
}

/// Returns the text that the program wrote.
fn text(folder: &Path, program: &str) -> Result<String, OpenPgpError> {
    let program = if program.ends_with("sqv") { "sqv" } else { "gpgv" };
    let wrong = |what: &str| OpenPgpError::Program { program, what: what.into() };
    let bytes = fs::read(folder.join("text")).map_err(|_| wrong("gave out no text"))?;
    let mut text = String::from_utf8(bytes).map_err(|_| wrong("gave out a text that is not UTF-8"))?;
    // One program keeps the last newline and the other does not.
    text.truncate(text.trim_end_matches('\n').len());
    text.push('\n');
    Ok(text)
}

/// Runs a program; `None` where it is not installed.
fn run(program: &'static str, command: &mut Command) -> Result<Option<Output>, OpenPgpError> {
    // Neither a language nor a policy of the machine may change what the answer is.
    command.env("LC_ALL", "C").env_remove("GNUPGHOME").env("SEQUOIA_CRYPTO_POLICY", "").stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.code().is_none() => {
            Err(OpenPgpError::Program { program, what: format!("ended by itself: {}", output.status) })
        }
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenPgpError::Program { program, what: format!("cannot be started: {error}") }),
    }
}

fn gpgv(path: &str, folder: &Path) -> Result<Option<Vec<Signature>>, OpenPgpError> {
    let mut command = Command::new(path);
    command.arg("--homedir").arg(folder).args(["--status-fd", "1", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160"]);
    command.arg("--keyring").arg(folder.join("keyring.gpg")).arg("--output").arg(folder.join("text"));
    let Some(output) = run("gpgv", command.arg(folder.join("message")))? else { return Ok(None) };
    let status = String::from_utf8_lossy(&output.stdout);
    if !status.contains("[GNUPG:] ") {
        let what = format!("says {}", last_line(&output.stderr));
        return Err(OpenPgpError::Program { program: "gpgv", what });
    }
    Ok(Some(read_status(&status)))
}

/// Reads the status lines of `GnuPG` (its `doc/DETAILS`): one group of lines per signature, each begun by `NEWSIG`.
fn read_status(status: &str) -> Vec<Signature> {
    let lines = status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] "));
    let mut groups: Vec<Vec<Vec<&str>>> = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match (words[0], groups.last_mut()) {
            ("NEWSIG", _) => groups.push(Vec::new()),
            (_, Some(group)) => group.push(words),
            // What stands before the first signature is about none.
            (_, None) => {}
        }
    }
    groups.iter().map(|group| read_group(group)).collect()
}

fn read_group(group: &[Vec<&str>]) -> Signature {
    let line = |keyword: &str| group.iter().find(|words| words[0] == keyword);
    let word = |words: &[&str], index: usize| words.get(index).map_or_else(String::new, |word| (*word).to_owned());
    let named = |keyword: &str| line(keyword).map(|words| word(words, 1));
    if let Some(key) = named("BADSIG") {
        return Signature::Bad { key };
    }
    for (keyword, why) in [
        ("REVKEYSIG", "a signature of the revoked key"),
        ("EXPKEYSIG", "a signature of the expired key"),
        ("EXPSIG", "an expired signature of the key"),
        ("NO_PUBKEY", "a signature of the unknown key"),
    ] {
        if let Some(key) = named(keyword) {
            // The long name of an unknown key stands in another line, when it is known at all.
            let long = line("ERRSIG").map(|words| word(words, 8)).filter(|key| key.len() >= 40);
            return Signature::Worthless { key: long.unwrap_or(key), why };
        }
    }
    if let Some(key) = named("ERRSIG") {
        return Signature::Worthless { key, why: "a signature of a weak or unknown kind of the key" };
    }
    // VALIDSIG fingerprint date seconds expires version reserved algorithm digest class primary-fingerprint
    match (line("GOODSIG"), line("VALIDSIG")) {
        (Some(_), Some(valid)) if valid.len() >= 11 => {
            let key = word(valid, 10);
            if STRONG.contains(&valid[8]) {
                Signature::Good { key }
            } else {
                Signature::Worthless { key, why: "a signature with a weak digest of the key" }
            }
        }
        _ => Signature::Words("a signature that `gpgv` says nothing about".into()),
    }
}

fn sqv(path: &str, folder: &Path) -> Result<Option<Vec<Signature>>, OpenPgpError> {
    let Some(first) = sqv_since(path, folder, None)? else { return Ok(None) };
    if !first.iter().any(|signature| matches!(signature, Signature::Good { .. })) {
        return Ok(Some(first));
    }
    let release = Release::parse(&text(folder, "sqv")?).map_err(|error| OpenPgpError::Program {
        program: "sqv",
        what: format!("found signatures of a text whose date cannot be read: {error}"),
    })?;
    sqv_since(path, folder, Some(release.date.saturating_sub(CLOCKS)))
}

fn sqv_since(path: &str, folder: &Path, since: Option<i64>) -> Result<Option<Vec<Signature>>, OpenPgpError> {
    let mut command = Command::new(path);
    command.arg("--keyring").arg(folder.join("keyring.gpg")).arg("--output").arg(folder.join("text"));
    if let Some(since) = since.and_then(|since| jiff::Timestamp::from_second(since).ok()) {
        // The text of the first run is not to be taken for that of a second one that fails.
        fs::remove_file(folder.join("text")).map_err(OpenPgpError::Io)?;
        command.arg("--not-before").arg(since.to_string());
    }
    let Some(output) = run("sqv", command.arg("--cleartext").arg(folder.join("message")))? else { return Ok(None) };
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // Fingerprints of the primary keys whose signatures hold, one per line, are all it prints.
        let keys = String::from_utf8_lossy(&output.stdout);
        let fingerprint = |line: &&str| line.len() >= 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        return Ok(Some(keys.lines().filter(fingerprint).map(|key| Signature::Good { key: key.to_uppercase() }).collect()));
    }
    // Debian 12 has one that knows detached signatures only.
    let knows = !complaint.contains("--cleartext");
    Ok(knows.then(|| vec![Signature::Words(in_words(&complaint))]))
}

/// Returns what `sqv` complained of, in one line.
fn in_words(complaint: &str) -> String {
    let mut words = String::new();
    for line in complaint.lines().map(str::trim).filter(|line| !line.is_empty()).take(12) {
        let line = line.trim_end_matches('.');
        let _ = write!(words, "{}{}", if words.is_empty() { "" } else { ", " }, line.chars().take(200).collect::<String>());
    }
    words
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().last().unwrap_or("nothing").chars().take(200).flat_map(char::escape_debug).collect()
}

/// Returns the keyring in binary form, from ASCII armour (RFC 9580, section 6) where need be.
fn binary(keyring: &[u8]) -> Result<Vec<u8>, &'static str> {
    match keyring.first() {
        None => return Err("it is empty"),
        // The first bit of every OpenPGP packet is set.
        Some(0x80..) => return Ok(keyring.to_vec()),
        Some(_) => {}
    }
    let text = str::from_utf8(keyring).map_err(|_| "it is neither binary nor ASCII armour")?;
    let (mut packets, mut digits, mut inside, mut header) = (Vec::new(), String::new(), false, false);
    for line in text.lines().map(str::trim_end) {
        match line {
            "-----BEGIN PGP PUBLIC KEY BLOCK-----" => (inside, header) = (true, true),
            "-----END PGP PUBLIC KEY BLOCK-----" if inside => {
                packets.extend(base64(&digits).ok_or("a line of its armour cannot be read")?);
                (inside, digits) = (false, String::new());
            }
            _ if !inside => {}
            "" => header = false,
            _ if header && line.contains(": ") => {}
            // The checksum guards against accidents of copying, which the keys' own signatures notice too.
            _ if line.starts_with('=') => {}
            _ => digits.push_str(line),
        }
    }
    if inside || packets.is_empty() { Err("it has no whole `PGP PUBLIC KEY BLOCK`") } else { Ok(packets) }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: x\n-----BEGIN PGP SIGNATURE-----\n\nAAAA\n\
                        -----END PGP SIGNATURE-----\n";

    #[test]
    fn armour_is_read_and_nonsense_refused() {
        let armour = |text: &str| {
            format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\n{text}\n-----END PGP PUBLIC KEY BLOCK-----\n")
        };
        assert_eq!(binary(armour("mQEN\nBA==\n=abcd").as_bytes()).unwrap(), [0x99, 1, 13, 4]);
        assert_eq!(binary((armour("mQEN") + &armour("mQEN")).as_bytes()).unwrap(), [0x99, 1, 13, 0x99, 1, 13]);
        assert_eq!(binary(&[0x99, 1]).unwrap(), [0x99, 1]);
        for wrong in ["", "hello", &armour("m!EN"), &armour("mQEN").replace("-----END", "")] {
            assert!(binary(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn status_lines_are_judged_signature_by_signature() {
        let status = |lines: &str| read_status(&format!("[GNUPG:] {}", lines.replace("; ", "\n[GNUPG:] ")));
        let valid = "VALIDSIG SUB 2026-09-12 1 0 4 0 1 8 01 PRIMARY";
        let key = || "PRIMARY".to_owned();
        assert_eq!(status(&format!("NEWSIG; GOODSIG X name; {valid}")), [Signature::Good { key: key() }]);
        let weak = valid.replace("1 8 01", "1 2 01");
        assert!(matches!(status(&format!("NEWSIG; GOODSIG X name; {weak}"))[..], [Signature::Worthless { .. }]));
        for bad in ["EXPKEYSIG X name", "REVKEYSIG X name", "EXPSIG X name", "ERRSIG X 1 8 01 1 9 -", "NO_PUBKEY X"] {
            // Valid only says that the mathematics is right.
            let found = status(&format!("NEWSIG; {bad}; {valid}; NEWSIG; GOODSIG X name"));
            assert!(matches!(found[..], [Signature::Worthless { .. }, Signature::Words(_)]), "{bad}: {found:?}");
        }
        assert!(matches!(status("NEWSIG; BADSIG X name")[..], [Signature::Bad { .. }]));
        assert_eq!(status(&format!("GOODSIG X name; {valid}")), [], "outside of a signature nothing counts");
    }

    #[test]
    fn without_a_program_nothing_is_believed() {
        let error = verify_with(&[("parvis-no-such-gpgv", Program::Gpgv)], GOOD.as_bytes(), &[0x99], &[]).unwrap_err();
        assert!(matches!(error, OpenPgpError::NoProgram));
        assert!(error.hint().unwrap().contains("apt-get install gpgv"));
    }
}
