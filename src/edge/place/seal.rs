//! The encryption of a backup: that of age (age-encryption.org/v1), so that `age -d` opens what parvis wrote and parvis what age wrote.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use age::secrecy::ExposeSecret as _;
pub use age::secrecy::SecretString as Secret;
use age::stream::StreamReader;
pub use age::x25519::Identity as PrivateKey;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};

use super::{PlaceError, Seekable, failed};
use crate::image::archive::ReadAt;

/// How every such file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Bytes before the encrypted content at most: keys of some hundred recipients.
const HEADER: usize = 64 << 10;

/// The work of making a key of a passphrase, as a power of two: 256 MiB of memory, what `age -p` takes too.
const WORK: u8 = if cfg!(test) { 10 } else { 18 };

/// The most that a file may ask for: 1 GiB.
const MOST_WORK: u8 = 20;

/// Bytes of a file with a passphrase or with keys at most.
const SMALL: u64 = 64 << 10;

/// What a backup is encrypted with.
pub enum Seal {
    Passphrase(Secret),
    Recipients(Vec<PublicKey>),
}

/// What opens an encrypted backup.
pub enum Opener {
    Passphrase(Secret),
    Identities(Vec<PrivateKey>),
}

/// The public half of a key of age.
#[derive(Clone)]
pub struct PublicKey(x25519::Recipient);

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().map(Self).map_err(|_| ())
    }
}

/// What it takes to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is not encrypted.
    No,
    ByPassphrase,
    ByKey,
}

/// Why an encrypted backup does not open.
#[derive(Debug)]
pub enum SealError {
    /// It is not what was meant for this passphrase or these keys.
    NotForThis,
    /// Making a key of the passphrase would take this many bytes of memory.
    Work(u64),
    Damaged,
    Io(PlaceError),
}

/// Returns what it takes to open a file.
pub fn closed(path: &Path, file: &Seekable) -> Result<Closed, SealError> {
    let prefix = prefix(&file.0).map_err(failed("read", path)).map_err(SealError::Io)?;
    if !prefix.starts_with(MAGIC) {
        return Ok(Closed::No);
    }
    // Whatever the rest of the file is, a header is read to this length only; and at once, not byte by byte, each time from its beginning.
    let header = Decryptor::new_buffered(&prefix[..]).map_err(|_| SealError::Damaged)?;
    Ok(if header.is_scrypt() { Closed::ByPassphrase } else { Closed::ByKey })
}

fn prefix(file: &File) -> io::Result<Vec<u8>> {
    let (mut prefix, mut length) = (vec![0; HEADER], 0);
    loop {
        match file.read_at(&mut prefix[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    prefix.truncate(length);
    Ok(prefix)
}

/// Writes what is in one file, encrypted, into another; returns the bytes of it.
pub(super) fn write(seal: &Seal, from: &File, to: &File) -> io::Result<u64> {
    let encryptor = match seal {
        Seal::Passphrase(passphrase) => {
            let mut recipient = scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK);
            Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient))
        }
        Seal::Recipients(keys) => Encryptor::with_recipients(keys.iter().map(|key| &key.0 as &dyn Recipient)),
    };
    let encryptor = encryptor.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut out = encryptor.wrap_output(BufWriter::with_capacity(1 << 20, to))?;
    let mut source = from;
    source.seek(SeekFrom::Start(0))?;
    io::copy(&mut BufReader::with_capacity(1 << 20, source), &mut out)?;
    out.finish()?.flush()?;
    Ok(to.metadata()?.len())
}

/// An encrypted file that is read at any place. Each piece of 64 KiB is authenticated before a byte of it is handed on.
pub struct Unsealed {
    content: Mutex<StreamReader<BufReader<File>>>,
    size: u64,
}

impl Unsealed {
    /// Opens an encrypted file.
    ///
    /// # Errors
    /// [`SealError::NotForThis`] where the passphrase or the keys are others.
    pub fn open(path: &Path, file: Seekable, opener: &Opener) -> Result<Self, SealError> {
        if closed(path, &file)? == Closed::No {
            return Err(SealError::Damaged);
        }
        let header = Decryptor::new_buffered(BufReader::with_capacity(66 << 10, file.0)).map_err(refused)?;
        let stream = match opener {
            Opener::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MOST_WORK);
                header.decrypt(std::iter::once(&identity as &dyn Identity))
            }
            Opener::Identities(keys) => header.decrypt(keys.iter().map(|key| key as &dyn Identity)),
        };
        let mut content = stream.map_err(refused)?;
        // The end is authenticated like every other piece: a file that was cut short shows here.
        let size = content.seek(SeekFrom::End(0)).map_err(|_| SealError::Damaged)?;
        Ok(Self { content: Mutex::new(content), size })
    }
}

impl ReadAt for Unsealed {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.size {
            return Ok(0);
        }
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.seek(SeekFrom::Start(offset))?;
        content.read(buffer)
    }
}

fn refused(error: DecryptError) -> SealError {
    match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
            SealError::NotForThis
        }
        DecryptError::ExcessiveWork { required, .. } => {
            SealError::Work(1_u64.checked_shl(u32::from(required) + 10).unwrap_or(u64::MAX))
        }
        _ => SealError::Damaged,
    }
}

/// Reads the first line of a file: a passphrase.
pub fn passphrase(path: &Path) -> Result<Secret, PlaceError> {
    let text = small(path)?;
    Ok(Secret::from(text.lines().next().unwrap_or_default().to_owned()))
}

#[must_use]
pub fn is_empty(passphrase: &Secret) -> bool {
    passphrase.expose_secret().is_empty()
}

/// Reads the private keys of a file, one a line as `age-keygen` writes them; returns nothing where it holds anything else.
pub fn identities(path: &Path) -> Result<Option<Vec<PrivateKey>>, PlaceError> {
    let text = small(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| line.parse().ok()).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty()))
}

fn small(path: &Path) -> Result<String, PlaceError> {
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(SMALL).read_to_string(&mut text)).map_err(failed("read", path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::edge::place::open_file;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    /// Returns some bytes that span several pieces, the same bytes encrypted, and the folder of both.
    fn sealed(seal: &Seal) -> (Vec<u8>, tempfile::TempDir) {
        let place = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(place.path().join("plain"), &bytes).unwrap();
        let to = File::create(place.path().join("sealed")).unwrap();
        let size = write(seal, &File::open(place.path().join("plain")).unwrap(), &to).unwrap();
        assert_eq!(fs::metadata(place.path().join("sealed")).unwrap().len(), size);
        (bytes, place)
    }

    fn open(path: &Path, opener: &Opener) -> Result<Unsealed, SealError> {
        Unsealed::open(path, open_file(path).unwrap(), opener)
    }

    fn whole(content: &Unsealed) -> io::Result<Vec<u8>> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 100_000]);
        loop {
            match content.read_at(&mut buffer, bytes.len() as u64)? {
                0 => return Ok(bytes),
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn what_a_passphrase_closed_it_opens_and_no_other_does() {
        let (bytes, place) = sealed(&Seal::Passphrase(secret("open")));
        let path = place.path().join("sealed");
        assert_eq!(closed(&path, &open_file(&path).unwrap()).unwrap(), Closed::ByPassphrase);
        let content = open(&path, &Opener::Passphrase(secret("open"))).unwrap();
        assert_eq!(whole(&content).unwrap(), bytes);
        let mut some = [0; 5];
        assert_eq!((content.read_at(&mut some, 700_001).unwrap(), &some[..]), (5, &bytes[700_001..700_006]));
        assert_eq!((content.read_at(&mut some, 3).unwrap(), &some[..]), (5, &bytes[3..8]));
        assert_eq!(content.read_at(&mut some, 900_000).unwrap(), 0);
        assert!(matches!(open(&path, &Opener::Passphrase(secret("Open"))), Err(SealError::NotForThis)));
        let key = Opener::Identities(vec![x25519::Identity::generate()]);
        assert!(matches!(open(&path, &key), Err(SealError::NotForThis)));
    }

    #[test]
    fn each_of_several_keys_opens_what_was_closed_for_them() {
        let keys = [x25519::Identity::generate(), x25519::Identity::generate()];
        let public = |key: &x25519::Identity| key.to_public().to_string().parse::<PublicKey>().unwrap();
        let (bytes, place) = sealed(&Seal::Recipients(keys.iter().map(public).collect()));
        let path = place.path().join("sealed");
        assert_eq!(closed(&path, &open_file(&path).unwrap()).unwrap(), Closed::ByKey);
        for key in keys {
            let file = place.path().join("key");
            fs::write(&file, format!("# created: today\n\n{}\n", key.to_string().expose_secret())).unwrap();
            let opener = Opener::Identities(identities(&file).unwrap().unwrap());
            assert_eq!(whole(&open(&path, &opener).unwrap()).unwrap(), bytes);
        }
        let other = Opener::Identities(vec![x25519::Identity::generate()]);
        assert!(matches!(open(&path, &other), Err(SealError::NotForThis)));
        assert!("age1foreign".parse::<PublicKey>().is_err());
    }

    #[test]
    fn what_was_altered_or_cut_short_is_not_handed_on() {
        let key = x25519::Identity::generate();
        let (_, place) = sealed(&Seal::Recipients(vec![PublicKey(key.to_public())]));
        let path = place.path().join("sealed");
        let good = fs::read(&path).unwrap();
        let opener = Opener::Identities(vec![key]);
        let told = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            open(&path, &opener).map_err(|_| io::ErrorKind::InvalidData.into()).and_then(|content| whole(&content))
        };
        assert!(told(&good).is_ok());
        let mut altered = good.clone();
        altered[good.len() / 2] ^= 1;
        assert!(told(&altered).is_err());
        // At the end of a piece, at the end of the header, within it.
        for length in [good.len() - 1, good.len() - good.len() % 65_552, 300, 40, MAGIC.len()] {
            assert!(told(&good[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_header_is_read_to_a_length_and_its_work_to_a_limit() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sealed");
        let mut long = MAGIC.to_vec();
        long.extend(std::iter::repeat_n(&b"-> X25519 AAAA\nAAAA\n"[..], 100_000).flatten());
        fs::write(&path, long).unwrap();
        assert!(matches!(closed(&path, &open_file(&path).unwrap()), Err(SealError::Damaged)));

        let (_, place) = sealed(&Seal::Passphrase(secret("open")));
        let path = place.path().join("sealed");
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|four| four == b" 10\n").unwrap();
        let greedy = [&bytes[..at], b" 30\n", &bytes[at + 4..]].concat();
        fs::write(&path, greedy).unwrap();
        let opened = open(&path, &Opener::Passphrase(secret("open")));
        assert!(matches!(opened, Err(SealError::Work(bytes)) if bytes == 1 << 40));
    }
}
