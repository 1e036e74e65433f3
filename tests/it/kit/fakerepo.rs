//! A signed Debian archive in a folder: suites, indexes and pool, honest until it is told otherwise.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parvis::model::digest::DownloadDigest;
use tempfile::TempDir;

use super::badhttp::Server;
use super::mkdeb::{ARCHITECTURE, Compression, Deb, KIN, OTHER, md5};
use super::openpgp::{Key, Signer};

/// A suite of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    Main,
    Updates,
    Security,
}

impl Suite {
    pub const ALL: [Self; 3] = [Self::Main, Self::Updates, Self::Security];

    /// Returns the folder below `dists`, which is also the codename.
    pub fn name(self) -> &'static str {
        ["trixie", "trixie-updates", "trixie-security"][self as usize]
    }

    /// Returns the folder of the archive that has the suite.
    pub fn archive(self) -> &'static str {
        if self == Self::Security { "debian-security" } else { "debian" }
    }
}

/// The architectures beside this machine's.
const OTHERS: [Option<&str>; 2] = [Some(OTHER), KIN];

/// The text of each architecture's index; packages for all stand in that of this machine.
type Indexes = BTreeMap<&'static str, String>;

/// The archive. Nothing is written before `publish`.
pub struct Repo {
    root: TempDir,
    signer: Signer,
    packages: BTreeMap<Suite, Vec<(Deb, Vec<u8>)>>,
    /// Who signs.
    pub key: Key,
    /// Further options of `gpg` when it signs.
    pub signing: Vec<&'static str>,
    /// `Date`, in seconds since 1970.
    pub date: i64,
    /// `Valid-Until`, in seconds after `Date`; main has none, as in Debian.
    pub valid_for: Option<i64>,
    /// Fields of the Release files that replace the honest ones; an empty value leaves the field out.
    pub fields: BTreeMap<&'static str, String>,
}

impl Repo {
    /// Makes an empty archive, dated yesterday.
    pub fn new() -> Self {
        Self {
            root: tempfile::Builder::new().prefix("archive-").tempdir().unwrap(),
            signer: Signer::new(),
            packages: Suite::ALL.map(|suite| (suite, Vec::new())).into(),
            key: Key::Archive,
            signing: Vec::new(),
            date: Timestamp::now().as_second() - 24 * 3600,
            valid_for: Some(7 * 24 * 3600),
            fields: BTreeMap::new(),
        }
    }

    /// Adds a package to a suite, from the next `publish` on.
    pub fn add(&mut self, suite: Suite, deb: &Deb) -> &mut Self {
        self.packages.get_mut(&suite).unwrap().push((deb.clone(), deb.bytes()));
        self
    }

    /// Takes a package out of a suite; its file stays in the pool, as on a mirror.
    pub fn withdraw(&mut self, suite: Suite, name: &str) -> &mut Self {
        self.packages.get_mut(&suite).unwrap().retain(|(deb, _)| deb.name() != name);
        self
    }

    /// Writes the pool, the indexes and the signed Release files. Indexes of earlier days stay in reach by their hash.
    pub fn publish(&self) -> &Self {
        for (suite, packages) in &self.packages {
            let mut indexes = Indexes::new();
            for (deb, bytes) in packages {
                let own = |other: &&str| deb.architecture() == *other;
                let index = indexes.entry(OTHERS.into_iter().flatten().find(own).unwrap_or(ARCHITECTURE)).or_default();
                let file = pool_path(deb);
                write(&self.root.path().join(suite.archive()).join(&file), bytes);
                index.push_str(&deb.control());
                let (size, sum, digest) = (bytes.len(), md5(bytes), DownloadDigest::of(bytes));
                writeln!(index, "Filename: {file}\nSize: {size}\nMD5sum: {sum}\nSHA256: {digest}\n").unwrap();
            }
            self.publish_indexes(*suite, &indexes);
        }
        self
    }

    /// Writes one suite with this text as its index.
    pub fn publish_index(&self, suite: Suite, index: &str) {
        self.publish_indexes(suite, &Indexes::from([(ARCHITECTURE, index.to_owned())]));
    }

    /// Writes one suite with the indexes of all architectures.
    fn publish_indexes(&self, suite: Suite, indexes: &Indexes) {
        let folder = self.folder(suite);
        let mut sums = String::new();
        for architecture in [Some(ARCHITECTURE)].into_iter().chain(OTHERS).flatten() {
            let index = indexes.get(architecture).map_or("", String::as_str);
            let name = format!("main/binary-{architecture}/Packages");
            writeln!(sums, " {} {} {name}", DownloadDigest::of(index.as_bytes()), index.len()).unwrap();
            for compression in [Compression::Gzip, Compression::Xz] {
                let bytes = compression.compress(index.as_bytes());
                let (digest, name) = (DownloadDigest::of(&bytes), format!("{name}{}", compression.extension()));
                write(&folder.join(&name), &bytes);
                write(&folder.join(&name).with_file_name("by-hash/SHA256").join(digest.hex()), &bytes);
                writeln!(sums, " {digest} {} {name}", bytes.len()).unwrap();
            }
        }
        self.publish_release(suite, &sums);
    }

    fn publish_release(&self, suite: Suite, sums: &str) {
        let label = if suite == Suite::Security { "Debian-Security" } else { "Debian" };
        let valid_until = self.valid_for.filter(|_| suite != Suite::Main).map(|seconds| date(self.date + seconds));
        let honest = [
            ("Origin", "Debian".to_owned()),
            ("Label", label.to_owned()),
            ("Suite", suite.name().replace("trixie", "stable")),
            ("Version", "13.1".to_owned()),
            ("Codename", suite.name().to_owned()),
            ("Date", date(self.date)),
            ("Valid-Until", valid_until.unwrap_or_default()),
            ("Acquire-By-Hash", "yes".to_owned()),
            (
                "Architectures",
                ["all", ARCHITECTURE].into_iter().chain(OTHERS.into_iter().flatten()).collect::<Vec<_>>().join(" "),
            ),
            ("Components", "main".to_owned()),
            ("Description", "Debian, as the tests have it".to_owned()),
        ];
        let mut text = String::new();
        for (key, value) in &honest {
            let value = self.fields.get(key).unwrap_or(value);
            if !value.is_empty() {
                writeln!(text, "{key}: {value}").unwrap();
            }
        }
        text.push_str("SHA256:\n");
        text.push_str(sums);
        let signed = self.signer.clearsign(self.key, &text, &self.signing);
        write(&self.inrelease(suite), signed.as_bytes());
    }

    /// Returns the folder `dists/SUITE`.
    pub fn folder(&self, suite: Suite) -> PathBuf {
        self.root.path().join(suite.archive()).join("dists").join(suite.name())
    }

    pub fn inrelease(&self, suite: Suite) -> PathBuf {
        self.folder(suite).join("InRelease")
    }

    /// Returns the compressed index, at the path that changes with each publication.
    pub fn index(&self, suite: Suite) -> PathBuf {
        self.folder(suite).join(format!("main/binary-{ARCHITECTURE}/Packages.xz"))
    }

    /// Returns the file of a package in the pool.
    pub fn pool(&self, suite: Suite, deb: &Deb) -> PathBuf {
        self.root.path().join(suite.archive()).join(pool_path(deb))
    }

    /// Puts the index of an earlier day where a mirror in mid-sync still has it, under the new Release file.
    ///
    /// With `by_hash` the new index is in reach by its hash, as Debian's mirrors have it.
    pub fn mid_sync(&mut self, suite: Suite, newer: &Deb, by_hash: bool) {
        let old = fs::read(self.index(suite)).unwrap();
        self.add(suite, newer).publish();
        let new = fs::read(self.index(suite)).unwrap();
        fs::write(self.index(suite), old).unwrap();
        if !by_hash {
            fs::remove_file(self.index(suite).with_file_name("by-hash/SHA256").join(DownloadDigest::of(&new).hex())).unwrap();
        }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Returns the address of the folder that holds `debian` and `debian-security`.
    pub fn url(&self) -> String {
        format!("file://{}", self.root.path().display())
    }

    /// Serves the archive over HTTP on loopback.
    pub fn serve(&self) -> Server {
        Server::honest(self.root.path())
    }
}

/// Changes the text of a file.
pub fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let before = fs::read_to_string(path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "the change changes `{}`", path.display());
    fs::write(path, after).unwrap();
}

/// Changes one bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn pool_path(deb: &Deb) -> String {
    let source = deb.source();
    let letter = if source.starts_with("lib") { &source[..4] } else { &source[..1] };
    format!("pool/main/{letter}/{source}/{}", deb.file_name())
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs apt in a folder of its own, on this archive alone, and returns its output.
    fn apt(repo: &Repo, address: &str, arguments: &[&str]) -> (bool, String) {
        let place = tempfile::tempdir().unwrap();
        for folder in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ] {
            fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        // The fetching user of apt must be able to read the archive.
        for folder in [place.path(), repo.path()] {
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        fs::write(place.path().join("var/lib/dpkg/status"), "").unwrap();
        let key = place.path().join("key.asc");
        fs::write(&key, Key::Archive.public()).unwrap();
        let sources = Suite::ALL
            .map(|suite| format!("deb [signed-by={}] {address}/{} {} main\n", key.display(), suite.archive(), suite.name()));
        fs::write(place.path().join("etc/apt/sources.list"), sources.concat()).unwrap();
        let configuration = format!(
            "Dir \"{}\";\nAPT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n",
            place.path().display()
        );
        fs::write(place.path().join("apt.conf"), configuration).unwrap();
        let mut said = String::new();
        let mut good = true;
        for arguments in [&["update", "-q", "--error-on=any"][..], arguments] {
            let mut command = Command::new("apt-get");
            command.args(arguments).env("APT_CONFIG", place.path().join("apt.conf")).env("LC_ALL", "C");
            let output = command.output().unwrap();
            good &= output.status.success();
            said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
        }
        (good, said)
    }

    fn sample() -> Repo {
        let mut repo = Repo::new();
        repo.add(Suite::Main, &Deb::new("libfoo", "1-1").field("Source", "foo"));
        repo.add(Suite::Main, &Deb::new("app", "1").depends("libfoo (>= 1-1)"));
        repo.add(Suite::Security, &Deb::new("libfoo", "1-1+deb13u1").field("Source", "foo"));
        repo.publish();
        repo
    }

    #[test]
    fn apt_takes_the_archive_from_a_folder_and_from_the_server() {
        let repo = sample();
        let server = repo.serve();
        for address in [repo.url(), server.url()] {
            let (good, said) = apt(&repo, &address, &["install", "-s", "app"]);
            assert!(good && said.contains("Inst libfoo (1-1+deb13u1 Debian-Security:13.1/stable-security "), "{said}");
            assert!(said.contains("Inst app (1 "), "{said}");
        }
        assert!(server.requests().iter().any(|request| request.path.contains("/by-hash/SHA256/")));
    }

    #[test]
    fn apt_refuses_the_archive_once_it_is_broken() {
        let refused = |repo: &Repo, word: &str| {
            let (good, said) = apt(repo, &repo.url(), &["check"]);
            assert!(!good && said.contains(word), "{word}: {said}");
        };
        let mut repo = sample();
        edit(&repo.inrelease(Suite::Main), |text| text.replace("Version: 13.1", "Version: 13.2"));
        refused(&repo, "is not signed");
        for key in [Key::Unknown, Key::Expired] {
            repo.key = key;
            repo.publish();
            refused(&repo, "is not signed");
        }
        repo.key = Key::Archive;
        repo.valid_for = Some(60);
        repo.publish();
        refused(&repo, "expired");
        repo.valid_for = None;
        repo.fields.insert("Codename", "sid".into());
        repo.publish();
        assert!(fs::read_to_string(repo.inrelease(Suite::Main)).unwrap().contains("Codename: sid\nDate"));
        repo.fields.clear();
        repo.publish();
        flip(&repo.index(Suite::Main));
        fs::remove_dir_all(repo.index(Suite::Main).with_file_name("by-hash")).unwrap();
        fs::remove_file(repo.index(Suite::Main).with_extension("gz")).unwrap();
        refused(&repo, "Hash Sum mismatch");
    }

    #[test]
    fn a_mirror_in_mid_sync_serves_old_indexes_under_a_new_release() {
        let mut repo = sample();
        let old = fs::read(repo.index(Suite::Main)).unwrap();
        repo.mid_sync(Suite::Main, &Deb::new("newer", "1"), true);
        assert_eq!(fs::read(repo.index(Suite::Main)).unwrap(), old);
        let (good, said) = apt(&repo, &repo.url(), &["install", "-s", "newer"]);
        assert!(good, "by hash the new index is there: {said}");
        repo.mid_sync(Suite::Main, &Deb::new("newest", "1"), false);
        assert!(!apt(&repo, &repo.url(), &["install", "-s", "newest"]).0);
    }

    #[test]
    fn a_withdrawn_package_stays_in_the_pool() {
        let mut repo = sample();
        repo.withdraw(Suite::Main, "app").publish();
        let index = fs::read(repo.index(Suite::Main).with_extension("gz")).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(index.as_slice()), &mut text).unwrap();
        assert!(text.contains("Package: libfoo") && !text.contains("Package: app"));
        assert!(repo.pool(Suite::Main, &Deb::new("app", "1")).exists());
    }
}
