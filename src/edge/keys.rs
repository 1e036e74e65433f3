//! Keys on this machine: those that sign, those that are trusted, and what was seen of releases.
//!
//! ```text
//! CONFIG/keys/NAME.key                 a private key, encrypted as cosign does it; mode 0600
//! CONFIG/keys/NAME.pub                 its public half, to be handed out
//! CONFIG/keys/keyring.sigstore.json    what the root key vouches for, to be handed out as well
//! CONFIG/trust/NAME.pub                a key that is trusted
//! CONFIG/trust/NAME.keyring.json       the newest keyring of it that was seen
//! STATE/releases-seen.json             the newest release of each product that was found good
//! ```
//!
//! cosign's files are a PEM block around JSON: scrypt makes a key of the passphrase, nacl's secretbox encrypts the PKCS#8 form
//! (`go-tuf/encrypted`). The crate sigstore does both; this file looks first at what that crate would stumble over.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::der::pem;
use rustix::fs::{FlockOperation, flock};
use sigstore::crypto::signing_key::kdf;

use super::draft::DraftFile;
use crate::image::canonical;
use crate::model::name::KeyName;
use crate::trust::bundle;
use crate::trust::key::{KeyError, PublicKey, SigningKey};
use crate::trust::keyring::{self, Keyring, KeyringError};

/// How the PEM block is called, and how cosign called it before version 2.
const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const OLDER_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// Bytes of a file with a private key at most.
const LIMIT: u64 = 64 << 10;

/// A text that unlocks a key. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the first line of a file.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let failed = failed("read", path);
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text)).map_err(failed)?;
        Ok(Self(text.lines().next().unwrap_or_default().to_owned()))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passphrase(…)")
    }
}

/// A key or a folder of keys with which something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no key `{name}` in `{folder}`")]
    Absent { name: String, folder: PathBuf },
    #[error("there is a key `{name}` already, as `{path}`")]
    Exists { name: KeyName, path: PathBuf },
    #[error("`{path}` cannot be used as a key")]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("`{path}` is not an encrypted private key: {problem}")]
    Shape { path: PathBuf, problem: &'static str },
    #[error("E10: `{path}` does not open: the passphrase is wrong, or the file is damaged")]
    Passphrase { path: PathBuf },
    #[error("`{path}` cannot be used as a keyring")]
    Keyring {
        path: PathBuf,
        #[source]
        source: KeyringError,
    },
    #[error("cannot encrypt the key")]
    Encrypt(#[source] sigstore::errors::SigstoreError),
}

impl KeysError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some("make one with `parvis key new`, or name a file with `--key FILE`".into()),
            Self::Exists { name, .. } => Some(format!(
                "choose another name, or replace it with `parvis key rotate {name}`; a lost key cannot be made again"
            )),
            Self::Key { source: KeyError::Private, .. } => Some("hand out and name the file that ends in `.pub`".into()),
            Self::Shape { .. } => Some("a key of openssl becomes one with `cosign import-key-pair`".into()),
            Self::Passphrase { .. } => Some(
                "try again; if it never opens, take the copy of the key from your safe, or replace it with `parvis key rotate`"
                    .into(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("only the key's owner may read it: run this as that user".into())
            }
            _ => None,
        }
    }

    /// Whether the world outside failed, and not what somebody gave or typed.
    #[must_use]
    pub fn is_of_the_world(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() != io::ErrorKind::NotFound,
            Self::Encrypt(_) => true,
            _ => false,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    move |source| KeysError::Io { action, path: path.to_owned(), source }
}

/// Reads a file of at most so many bytes; nothing where there is none.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, KeysError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(failed("read", path)(io::Error::other(format!("it has more than {limit} bytes"))));
    }
    Ok(Some(bytes))
}

/// Writes a file so that it appears whole, or not at all; `replace` is whether one may stand there already.
fn write(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> Result<(), KeysError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
    let whole = || -> io::Result<()> {
        let permissions = fs::Permissions::from_mode(mode);
        let mut draft = DraftFile::begin(folder)?;
        draft.file_mut().write_all(bytes)?;
        // The umask has no say in who may read a key.
        draft.file().set_permissions(permissions)?;
        draft.file().sync_all()?;
        if replace { draft.appear(path) } else { draft.appear_first(path) }
    };
    whole().map_err(failed("write", path))
}

/// Returns the file of a private key: encrypted, in PEM with line feeds.
fn seal(key: &SigningKey, passphrase: &Passphrase) -> Result<String, KeysError> {
    let encrypted = key.with_pkcs8(|der| kdf::encrypt(der, passphrase.0.as_bytes())).map_err(|_| {
        // Only a key that was never one cannot be written.
        KeysError::Shape { path: PathBuf::new(), problem: "it cannot be written" }
    })?;
    let encrypted = encrypted.map_err(KeysError::Encrypt)?;
    let text = pem::encode_string(LABEL, pem::LineEnding::LF, &encrypted).unwrap_or_default();
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Opens the file of a private key.
fn unseal(path: &Path, bytes: &[u8], passphrase: &Passphrase) -> Result<SigningKey, KeysError> {
    let shape = |problem| KeysError::Shape { path: path.to_owned(), problem };
    let text = std::str::from_utf8(bytes).map_err(|_| shape("it is no text"))?.trim().replace("\r\n", "\n") + "\n";
    let (label, sealed) = pem::decode_vec(text.as_bytes()).map_err(|_| shape("it is no PEM block"))?;
    if ![LABEL, OLDER_LABEL].contains(&label) {
        return Err(shape("it is a PEM block of another kind"));
    }
    let value = canonical::read(&sealed).map_err(|_| shape("what it holds is not JSON"))?;
    // The crate takes these lengths for granted, and panics where they are others.
    let length = |place: &str| {
        let text = value.pointer(place).and_then(serde_json::Value::as_str);
        text.and_then(|text| STANDARD.decode(text).ok()).map(|bytes| bytes.len())
    };
    if length("/cipher/nonce") != Some(24) || length("/kdf/salt") != Some(32) {
        return Err(shape("its salt or nonce has another length than cosign's"));
    }
    let opened = kdf::decrypt(&sealed, passphrase.0.as_bytes());
    let wrong = || KeysError::Passphrase { path: path.to_owned() };
    let der = opened.map_err(|error| match error {
        sigstore::errors::SigstoreError::PrivateKeyDecryptError(_) => shape("it was encrypted in a way that cosign does not use"),
        _ => wrong(),
    })?;
    SigningKey::from_pkcs8(&der).map_err(|source| KeysError::Key { path: path.to_owned(), source })
}

/// Reads a public key that somebody named.
pub fn public_key(path: &Path) -> Result<PublicKey, KeysError> {
    let bytes = read(path, crate::trust::key::LIMIT as u64)?;
    let bytes = bytes.ok_or_else(|| failed("read", path)(io::ErrorKind::NotFound.into()))?;
    PublicKey::from_pem(&bytes).map_err(|source| KeysError::Key { path: path.to_owned(), source })
}

/// Opens a private key that somebody named by its file.
pub fn signing_key(path: &Path, passphrase: &Passphrase) -> Result<SigningKey, KeysError> {
    let bytes = read(path, LIMIT)?.ok_or_else(|| failed("read", path)(io::ErrorKind::NotFound.into()))?;
    unseal(path, &bytes, passphrase)
}

/// Makes a key of the kernel's random numbers.
fn random() -> Result<SigningKey, KeysError> {
    loop {
        let mut bytes = [0_u8; 32];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let filled = filled.map_err(|error| failed("read", Path::new("/dev/urandom"))(error.into()))?;
        if filled == bytes.len()
            && let Some(key) = SigningKey::from_random(&bytes)
        {
            return Ok(key);
        }
    }
}

/// The folder of this user's own keys.
#[derive(Debug, Clone)]
pub struct Keys(PathBuf);

impl Keys {
    #[must_use]
    pub fn new(config: &Path) -> Self {
        Self(config.join("keys"))
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns the file of a private key.
    #[must_use]
    pub fn private(&self, name: &KeyName) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// Returns the file of a public key.
    #[must_use]
    pub fn public_file(&self, name: &KeyName) -> PathBuf {
        self.0.join(format!("{name}.pub"))
    }

    /// Makes a key that nobody had before.
    pub fn make(&self, name: &KeyName, passphrase: &Passphrase) -> Result<SigningKey, KeysError> {
        let key = random()?;
        self.keep(name, &key, passphrase)?;
        Ok(key)
    }

    fn keep(&self, name: &KeyName, key: &SigningKey, passphrase: &Passphrase) -> Result<(), KeysError> {
        let path = self.private(name);
        if path.exists() {
            return Err(KeysError::Exists { name: name.clone(), path });
        }
        write(&path, seal(key, passphrase)?.as_bytes(), 0o600, false)?;
        write(&self.public_file(name), key.public().to_pem().as_bytes(), 0o644, true)
    }

    /// Opens a key by its name.
    pub fn open(&self, name: &KeyName, passphrase: &Passphrase) -> Result<SigningKey, KeysError> {
        let path = self.private(name);
        let absent = || KeysError::Absent { name: name.to_string(), folder: self.0.clone() };
        unseal(&path, &read(&path, LIMIT)?.ok_or_else(absent)?, passphrase)
    }

    /// Whether the private half of a key is here.
    #[must_use]
    pub fn has(&self, name: &KeyName) -> bool {
        self.private(name).exists()
    }

    /// Returns the public half of a key.
    pub fn public(&self, name: &KeyName) -> Result<PublicKey, KeysError> {
        let path = self.public_file(name);
        if !path.exists() {
            return Err(KeysError::Absent { name: name.to_string(), folder: self.0.clone() });
        }
        public_key(&path)
    }

    /// Returns the names of all keys, sorted.
    pub fn names(&self) -> Result<Vec<KeyName>, KeysError> {
        names(&self.0, ".pub")
    }

    /// Gives a key another name, under which it stays.
    pub fn rename(&self, from: &KeyName, to: &KeyName) -> Result<(), KeysError> {
        for (from, to) in [(self.private(from), self.private(to)), (self.public_file(from), self.public_file(to))] {
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(failed("rename", &from))?,
            }
        }
        Ok(())
    }

    /// Returns the file of the keyring.
    #[must_use]
    pub fn keyring_file(&self) -> PathBuf {
        self.0.join(keyring::FILE)
    }

    /// Returns what the root key vouches for, where there is one.
    pub fn keyring(&self) -> Result<Option<Keyring>, KeysError> {
        read_keyring(&self.keyring_file())
    }

    /// Keeps a newly signed keyring.
    pub fn write_keyring(&self, signed: &[u8]) -> Result<(), KeysError> {
        write(&self.keyring_file(), signed, 0o644, true)
    }
}

/// Returns the names of the files with this ending, sorted.
fn names(folder: &Path, ending: &str) -> Result<Vec<KeyName>, KeysError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("read", folder))?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(ending)?.parse().ok()));
    }
    found.sort();
    Ok(found)
}

/// Reads a signed keyring, and returns its bytes as well; nothing where there is no file.
pub fn signed_keyring(path: &Path) -> Result<Option<(Keyring, Vec<u8>)>, KeysError> {
    let Some(bytes) = read(path, bundle::LIMIT as u64)? else { return Ok(None) };
    let keyring = Keyring::parse(&bytes).map_err(|source| KeysError::Keyring { path: path.to_owned(), source })?;
    Ok(Some((keyring, bytes)))
}

fn read_keyring(path: &Path) -> Result<Option<Keyring>, KeysError> {
    Ok(signed_keyring(path)?.map(|(keyring, _)| keyring))
}

/// A key that is trusted, and the newest keyring of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub name: KeyName,
    pub key: PublicKey,
    pub keyring: Option<Keyring>,
}

impl From<Pinned> for crate::trust::verdict::Anchor {
    fn from(Pinned { name, key, keyring, .. }: Pinned) -> Self {
        Self { name: name.to_string(), key, keyring }
    }
}

/// The folder of the keys that this user trusts.
#[derive(Debug, Clone)]
pub struct TrustFolder(PathBuf);

impl TrustFolder {
    #[must_use]
    pub fn new(config: &Path) -> Self {
        Self(config.join("trust"))
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    fn key_file(&self, name: &KeyName) -> PathBuf {
        self.0.join(format!("{name}.pub"))
    }

    fn keyring_file(&self, name: &KeyName) -> PathBuf {
        self.0.join(format!("{name}.keyring.json"))
    }

    /// Returns everything that is trusted, sorted by name.
    ///
    /// # Errors
    /// A file that cannot be read, and a keyring that its own key did not sign: nothing is trusted half.
    pub fn all(&self) -> Result<Vec<Pinned>, KeysError> {
        let mut pinned = Vec::new();
        for name in names(&self.0, ".pub")? {
            let key = public_key(&self.key_file(&name))?;
            let path = self.keyring_file(&name);
            let keyring = read_keyring(&path)?;
            if keyring.as_ref().is_some_and(|keyring| keyring.root != key) {
                return Err(KeysError::Keyring { path, source: KeyringError::Signature });
            }
            pinned.push(Pinned { name, key, keyring });
        }
        Ok(pinned)
    }

    /// Trusts a key from now on.
    pub fn add(&self, name: &KeyName, key: &PublicKey) -> Result<(), KeysError> {
        write(&self.key_file(name), key.to_pem().as_bytes(), 0o644, true)
    }

    /// Keeps a keyring of a trusted key, as it was signed.
    pub fn write_keyring(&self, name: &KeyName, signed: &[u8]) -> Result<(), KeysError> {
        write(&self.keyring_file(name), signed, 0o644, true)
    }

    /// Trusts a key no longer. Returns whether it was trusted.
    pub fn remove(&self, name: &KeyName) -> Result<bool, KeysError> {
        let mut was = false;
        for path in [self.key_file(name), self.keyring_file(name)] {
            match fs::remove_file(&path) {
                Ok(()) => was = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path)(error)),
            }
        }
        Ok(was)
    }
}

/// What was seen of releases, between two commands.
#[derive(Debug, Clone)]
pub struct Memory(PathBuf);

impl Memory {
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self(state.join("releases-seen.json"))
    }

    #[must_use]
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Returns what was written last.
    pub fn read(&self) -> Result<Option<Vec<u8>>, KeysError> {
        read(&self.0, canonical::LIMIT as u64)
    }

    /// Changes what is written; two that do so at once wait for each other.
    pub fn change(&self, change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<(), KeysError> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let handle = File::open(folder).map_err(failed("open", folder))?;
        flock(&handle, FlockOperation::LockExclusive).map_err(|error| failed("lock", folder)(error.into()))?;
        let before = self.read()?;
        match change(before.as_deref()) {
            Some(after) if before.as_deref() != Some(&after) => write(&self.0, &after, 0o600, true),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `cosign generate-key-pair` 3.1.1 and the passphrase `pw`.
    const COSIGN: &str = include_str!("keys/cosign.key");
    const COSIGN_PUBLIC: &str = include_str!("keys/cosign.pub");

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.into())
    }

    #[test]
    fn a_key_of_cosign_opens_with_its_passphrase_and_no_other() {
        let path = Path::new("cosign.key");
        let key = unseal(path, COSIGN.as_bytes(), &passphrase("pw")).unwrap();
        assert_eq!(key.public(), &PublicKey::from_pem(COSIGN_PUBLIC.as_bytes()).unwrap());
        let error = unseal(path, COSIGN.as_bytes(), &passphrase("pW")).unwrap_err();
        assert!(matches!(error, KeysError::Passphrase { .. }) && error.to_string().starts_with("E10: `cosign.key`"), "{error}");
        let older = COSIGN.replace("SIGSTORE", "COSIGN").replace('\n', "\r\n");
        assert!(unseal(path, older.as_bytes(), &passphrase("pw")).is_ok());
    }

    #[test]
    fn a_damaged_key_is_refused_and_never_a_panic() {
        let path = Path::new("cosign.key");
        let sealed = pem::decode_vec(COSIGN.as_bytes()).unwrap().1;
        let value = canonical::read(&sealed).unwrap();
        let with = |place: &str, text: serde_json::Value| {
            let mut value = value.clone();
            *value.pointer_mut(place).unwrap() = text;
            pem::encode_string(LABEL, pem::LineEnding::LF, &canonical::to_bytes(&value).unwrap()).unwrap()
        };
        for (damaged, wanted) in [
            (with("/cipher/nonce", "AAAA".into()), "salt or nonce"),
            (with("/kdf/salt", "AAAA".into()), "salt or nonce"),
            (with("/kdf/params/N", 1_073_741_824.into()), "a way that cosign does not use"),
            (with("/cipher/name", "rot13".into()), "a way that cosign does not use"),
            (with("/ciphertext", "AAAA".into()), "damaged"),
            (COSIGN.replace("ENCRYPTED SIGSTORE ", ""), "another kind"),
            (COSIGN[..200].to_owned(), "no PEM block"),
            (String::new(), "no PEM block"),
        ] {
            let error = unseal(path, damaged.as_bytes(), &passphrase("pw")).unwrap_err().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let keys = Keys::new(place.path());
        let made = keys.make(&name("release"), &passphrase("open")).unwrap();
        let permissions = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((permissions(keys.private(&name("release"))), permissions(keys.folder().to_owned())), (0o600, 0o700));
        let text = fs::read_to_string(keys.private(&name("release"))).unwrap();
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
                && text.ends_with("-----\n")
                && !text.contains('\r')
        );
        assert_eq!(keys.open(&name("release"), &passphrase("open")).unwrap().public(), made.public());
        assert_eq!(keys.public(&name("release")).unwrap(), *made.public());
        assert!(matches!(keys.make(&name("release"), &passphrase("open")), Err(KeysError::Exists { .. })));
        assert!(matches!(keys.open(&name("root"), &passphrase("open")), Err(KeysError::Absent { .. })));
        keys.rename(&name("release"), &name("release-old")).unwrap();
        assert_eq!(keys.names().unwrap(), [name("release-old")]);
        assert_eq!(fs::read_dir(keys.folder()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file_and_does_not_show_itself() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("passphrase");
        fs::write(&path, "correct horse\r\nsecond line\n").unwrap();
        let read = Passphrase::read(&path).unwrap();
        assert_eq!(read, passphrase("correct horse"));
        assert_eq!(format!("{read:?}"), "Passphrase(…)");
    }

    #[test]
    fn a_keyring_that_another_key_signed_is_not_believed_from_the_disk_either() {
        use crate::trust::key::testing::key;
        let place = tempfile::tempdir().unwrap();
        let trust = TrustFolder::new(place.path());
        let signed = crate::trust::keyring::testing::keyring().sign(&key(9)).unwrap().to_bytes().unwrap();
        trust.add(&name("a"), key(9).public()).unwrap();
        trust.write_keyring(&name("a"), &signed).unwrap();
        assert_eq!(trust.all().unwrap()[0].keyring.as_ref().map(|keyring| keyring.version), Some(1));
        trust.add(&name("b"), key(8).public()).unwrap();
        trust.write_keyring(&name("b"), &signed).unwrap();
        assert!(matches!(trust.all(), Err(KeysError::Keyring { .. })));
        assert!(trust.remove(&name("b")).unwrap() && !trust.remove(&name("b")).unwrap());
        assert_eq!(trust.all().unwrap().len(), 1);
    }

    #[test]
    fn what_is_remembered_is_changed_by_one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let memory = Memory::new(&place.path().join("state"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    memory.change(|before| Some([before.unwrap_or_default(), b"x"].concat())).unwrap();
                });
            }
        });
        assert_eq!(memory.read().unwrap().unwrap(), b"xxxxxxxx");
    }
}
