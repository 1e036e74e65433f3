//! Signatures of an archive: what `gpgv` or `sqv` says, and what parvis makes of it.

use std::path::Path;

use parvis::debian::release::Release;
use parvis::edge::fetch::{FetchOptions, Fetcher};
use parvis::edge::openpgp::{OpenPgpError, Verified, verify};
use parvis::edge::sources::mirrors;
use parvis::model::project::Project;

use crate::kit::openpgp::{Key, Signer};

/// Dated before all keys but the expired one signed it.
const TEXT: &str = "\
Origin: Debian
Suite: stable
Date: Mon, 01 Jan 2024 00:00:00 UTC
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
";

fn check(message: &str, keys: &[Key], allowed: &[Key]) -> Result<Verified, OpenPgpError> {
    let keyring: String = keys.iter().map(|key| key.public()).collect();
    let allowed: Vec<String> = allowed.iter().map(|key| key.fingerprint()).collect();
    verify(message.as_bytes(), keyring.as_bytes(), &allowed)
}

fn refusal(result: Result<Verified, OpenPgpError>) -> String {
    let error = result.unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause} ({})", error.hint().unwrap_or_default())
}

/// Whether the words are those of the program that is installed: `gpgv`, or else `sqv`.
fn says(words: &str, gpgv: &str, sqv: &str) -> bool {
    words.contains(gpgv) || words.contains(sqv)
}

#[test]
fn a_good_signature_gives_the_text_and_the_key() {
    let message = Signer::new().clearsign(Key::Archive, TEXT, &[]);
    let verified = check(&message, &[Key::Next, Key::Archive], &[Key::Archive]).unwrap();
    assert_eq!(verified, Verified { text: TEXT.into(), key: Key::Archive.fingerprint() });
}

#[test]
fn a_changed_byte_is_refused() {
    let message = Signer::new().clearsign(Key::Archive, TEXT, &[]).replace("stable", "stabel");
    let words = refusal(check(&message, &[Key::Archive], &[Key::Archive]));
    assert!(
        says(&words, "does not fit: the text was changed; expected is ", "Message has been manipulated; expected is "),
        "{words}"
    );
    assert!(words.contains(&Key::Archive.fingerprint()), "{words}");
}

#[test]
fn a_key_that_is_unknown_expired_revoked_or_not_allowed_is_refused_by_its_name() {
    let signer = Signer::new();
    let ring = [Key::Archive, Key::Next, Key::Expired, Key::Revoked];
    for (key, gpgv, sqv) in [
        (Key::Unknown, "a signature of the unknown key ", "Missing key "),
        (Key::Expired, "a signature of the expired key ", "was created before"),
        (Key::Revoked, "a signature of the revoked key ", "revoked"),
        (Key::Next, "has, and is not among `keys:`", "has, and is not among `keys:`"),
    ] {
        let message = signer.clearsign(key, TEXT, &[]);
        let words = refusal(check(&message, &ring, &[Key::Archive, Key::Expired, Key::Revoked]));
        assert!(says(&words, gpgv, sqv), "{key:?}: {words}");
        assert!(words.contains(&key.fingerprint()[24..]), "{key:?}: {words}");
        assert!(words.contains(&format!("; expected is {} or ", Key::Archive.fingerprint())), "{key:?}: {words}");
        assert!(words.contains("(name another mirror with `--mirror`"), "{key:?}: {words}");
    }
}

#[test]
fn a_weak_digest_is_refused() {
    let message = Signer::new().clearsign(Key::Archive, TEXT, &["--digest-algo", "SHA1"]);
    let words = refusal(check(&message, &[Key::Archive], &[Key::Archive]));
    assert!(says(&words, "weak", "no `Hash` header"), "{words}");
}

#[test]
fn a_signature_beside_the_expected_one_does_no_harm_whatever_its_key() {
    let signer = Signer::new();
    for other in [Key::Unknown, Key::Expired, Key::Revoked, Key::Next] {
        let (first, second) = (signer.clearsign(Key::Archive, TEXT, &[]), signer.clearsign(other, TEXT, &[]));
        // Packets of one armour follow those of the other.
        let message = joined(&first, &second);
        let ring = [Key::Archive, Key::Next, Key::Expired, Key::Revoked];
        let verified = check(&message, &ring, &[Key::Archive]).unwrap();
        assert_eq!(verified.key, Key::Archive.fingerprint(), "{other:?}");
        assert!(check(&message, &[Key::Next], &[Key::Archive]).is_err(), "{other:?}");
    }
}

#[test]
fn text_around_the_block_and_two_blocks_are_refused() {
    let message = Signer::new().clearsign(Key::Archive, TEXT, &[]);
    for wrong in [format!("Origin: evil\n{message}"), format!("{message}Origin: evil\n"), format!("{message}{message}")] {
        let words = refusal(check(&wrong, &[Key::Archive], &[Key::Archive]));
        assert!(words.starts_with("it is not one signed message: "), "{words}");
    }
}

#[test]
fn a_keyring_that_is_none_is_refused() {
    let message = Signer::new().clearsign(Key::Archive, TEXT, &[]);
    for keyring in ["", "hello"] {
        let words = refusal(verify(message.as_bytes(), keyring.as_bytes(), &[Key::Archive.fingerprint()]));
        assert!(words.starts_with("the keyring holds no OpenPGP keys: "), "{words}");
    }
    assert!(verify(message.as_bytes(), &[0x99, 0xff, 0xff, 1], &[Key::Archive.fingerprint()]).is_err());
}

#[test]
fn the_real_archive_is_believed_by_the_keys_of_this_project() {
    let nothing = std::collections::BTreeMap::new();
    let archives = ["debian", "debian-security"];
    let given = std::env::var("PARVIS_MIRROR").ok();
    let Ok(mirrors) = mirrors(&archives, given.as_deref(), Path::new("/etc/apt"), &nothing) else {
        eprintln!("skipped: this machine names no mirror");
        return;
    };
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("parvis.yaml")).unwrap();
    let project = Project::parse("parvis.yaml", &text).unwrap();
    let keyring = Path::new(env!("CARGO_MANIFEST_DIR")).join(String::from_utf8(project.keyring.as_bytes().to_vec()).unwrap());
    let keyring = std::fs::read(keyring).unwrap();
    let door = Fetcher::new(FetchOptions::default());
    for rule in &project.suites {
        let suite = &rule.name;
        let urls: Vec<String> = mirrors[&rule.archive].urls.iter().map(|url| format!("{url}/dists/{suite}/InRelease")).collect();
        let message = door.fetch_bytes("InRelease", &urls, 4 << 20).unwrap();
        let verified = verify(&message, &keyring, &rule.keys).unwrap();
        let release = Release::parse(&verified.text).unwrap();
        assert_eq!(release.codename, suite.as_str());
        assert!(rule.keys.contains(&verified.key));
        let mut changed = message.clone();
        let place = message.windows(6).position(|window| window == b"Label:").unwrap();
        changed[place + 7] ^= 1;
        assert!(matches!(verify(&changed, &keyring, &rule.keys), Err(OpenPgpError::Refused { .. })));
    }
}

/// Returns the first message with the signatures of both, by `gpg --dearmor` and `--enarmor`.
fn joined(first: &str, second: &str) -> String {
    let (text, signature) = first.split_once("-----BEGIN PGP SIGNATURE-----").unwrap();
    let signature_of = |message: &str| {
        let (_, armour) = message.split_once("-----BEGIN PGP SIGNATURE-----").unwrap();
        pipe(&["--dearmor"], format!("-----BEGIN PGP SIGNATURE-----{armour}").as_bytes())
    };
    assert!(!signature.is_empty());
    let armour = pipe(&["--enarmor"], &[signature_of(first), signature_of(second)].concat());
    let armour = String::from_utf8(armour).unwrap().replace("PGP ARMORED FILE", "PGP SIGNATURE");
    let armour: Vec<&str> = armour.lines().filter(|line| !line.starts_with("Comment")).collect();
    format!("{text}{}\n", armour.join("\n"))
}

fn pipe(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let home = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("gpg")
        .arg("--homedir")
        .arg(home.path())
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}
