//! Throw-away archive keys, good and bad, and signatures by them. `gpg` makes both, so that parvis is judged by another program.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A key that the tests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The archive's own.
    Archive,
    /// A second good one, for archives that roll over.
    Next,
    /// A good key that nobody pinned.
    Unknown,
    /// A key that expired in 2021.
    Expired,
    /// A key that its owner revoked.
    Revoked,
}

impl Key {
    pub const ALL: [Self; 5] = [Self::Archive, Self::Next, Self::Unknown, Self::Expired, Self::Revoked];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn file(self, kind: &str) -> PathBuf {
        made_once().join(format!("{}.{kind}", self.name()))
    }

    /// Returns the public key in ASCII armour.
    pub fn public(self) -> String {
        fs::read_to_string(self.file("public")).unwrap()
    }

    /// Returns the fingerprint: 40 capital hexadecimal digits.
    pub fn fingerprint(self) -> String {
        fs::read_to_string(self.file("fingerprint")).unwrap()
    }
}

/// A place where the secret keys can be used; the agent that serves it ends with it.
pub struct Signer {
    home: TempDir,
}

impl Signer {
    pub fn new() -> Self {
        let signer = Self { home: empty_home() };
        let files = Key::ALL.map(|key| key.file("secret").display().to_string());
        let mut arguments = vec!["--import"];
        arguments.extend(files.iter().map(String::as_str));
        gpg(signer.home.path(), &arguments, b"");
        signer
    }

    /// Returns the text as a signed message (RFC 9580, section 7), with further options of `gpg` (`--digest-algo SHA1` …).
    pub fn clearsign(&self, key: Key, text: &str, options: &[&str]) -> String {
        let user = format!("{}!", key.fingerprint());
        let mut arguments = vec!["--local-user", &user, "--clearsign"];
        if key == Key::Expired {
            arguments.splice(0..0, ["--faked-system-time", "20200601T000000!"]);
        }
        arguments.splice(0..0, options.iter().copied());
        String::from_utf8(gpg(self.home.path(), &arguments, text.as_bytes())).unwrap()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        end_agent(self.home.path());
    }
}

/// Returns the folder of the keys, which are made by the first test that needs them.
fn made_once() -> &'static Path {
    let folder = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/keys-1"));
    if folder.exists() {
        return folder;
    }
    // Tests run side by side, in one process or in many.
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.exists() {
        let making = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        for key in Key::ALL {
            make(key, making.path());
        }
        fs::rename(making.keep(), folder).unwrap();
    }
    folder
}

fn make(key: Key, folder: &Path) {
    let home = empty_home();
    let gpg = |arguments: &[&str], input: &[u8]| gpg(home.path(), arguments, input);
    let user = format!("parvis tests, {} <nobody@invalid>", key.name());
    let (time, expires) = if key == Key::Expired { ("20200101T000000!", "1y") } else { ("20240101T000000!", "never") };
    gpg(&["--faked-system-time", time, "--quick-generate-key", &user, "ed25519", "sign", expires], b"");
    let listing = String::from_utf8(gpg(&["--with-colons", "--list-keys"], b"")).unwrap();
    let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
    let fingerprint = line.split(':').nth(9).unwrap();
    let write = |kind: &str, content: &[u8]| fs::write(folder.join(format!("{}.{kind}", key.name())), content).unwrap();
    write("fingerprint", fingerprint.as_bytes());
    write("secret", &gpg(&["--armor", "--export-secret-keys"], b""));
    if key == Key::Revoked {
        let certificate = fs::read_to_string(home.path().join(format!("openpgp-revocs.d/{fingerprint}.rev"))).unwrap();
        // A colon keeps people from importing it by accident.
        gpg(&["--import"], certificate.replace(":-----", "-----").as_bytes());
    }
    write("public", &gpg(&["--armor", "--export"], b""));
    end_agent(home.path());
}

fn empty_home() -> TempDir {
    // Below /tmp: the agent's socket has a path of at most 107 bytes.
    tempfile::Builder::new().prefix("gpg-").tempdir_in("/tmp").unwrap()
}

fn gpg(home: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home).args([
        "--batch",
        "--quiet",
        "--no-tty",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("`gpg` is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn end_agent(home: &Path) {
    // Where no agent runs there is nothing to end.
    let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "gpg-agent"]).output();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what gpgv says of a message when it trusts one key.
    fn gpgv(key: Key, message: &str) -> (bool, String) {
        let folder = empty_home();
        let (ring, file) = (folder.path().join("ring.gpg"), folder.path().join("message"));
        gpg(folder.path(), &["--dearmor", "--output", ring.to_str().unwrap(), key.file("public").to_str().unwrap()], b"");
        fs::write(&file, message).unwrap();
        let output = Command::new("gpgv").args(["--status-fd", "1", "--keyring"]).arg(&ring).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn each_key_is_what_its_name_says() {
        let signer = Signer::new();
        let expected = [
            (Key::Archive, "VALIDSIG"),
            (Key::Next, "VALIDSIG"),
            (Key::Unknown, "VALIDSIG"),
            (Key::Expired, "EXPKEYSIG"),
            (Key::Revoked, "REVKEYSIG"),
        ];
        for (key, word) in expected {
            let message = signer.clearsign(key, "Origin: Debian\n", &[]);
            let (_, status) = gpgv(key, &message);
            assert!(status.contains(word) && status.contains(&key.fingerprint()), "{key:?}: {status}");
            assert!(key.public().contains("BEGIN PGP PUBLIC KEY BLOCK"));
            let (good, status) = gpgv(Key::Archive, &message);
            assert_eq!(good, key == Key::Archive, "{status}");
        }
        let weak = signer.clearsign(Key::Archive, "Origin: Debian\n", &["--digest-algo", "SHA1"]);
        assert!(weak.contains("Hash: SHA1"), "{weak}");
    }
}
