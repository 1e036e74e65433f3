//! The gate of the layers: what never enters an image, whatever made it.

use memchr::memmem;

use crate::model::digest::FileDigest;
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath};

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

/// Something that was taken out of a tree, or emptied, because it has no place in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub path: TreePath,
    pub why: &'static str,
}

/// Takes out of a finished tree what scripts and commands leave behind and what differs from one build to the next.
///
/// What packages bring and what recipes declare stays. `/etc/machine-id` is emptied, which means "to be made at the first
/// start"; whatever else is listed is gone.
pub fn normalise(tree: &mut Tree) -> Vec<Removed> {
    let mut removed: Vec<Removed> = Vec::new();
    for (path, entry) in tree.iter() {
        let within_removed = removed.last().is_some_and(|last| path.is_within(&last.path));
        if !within_removed && let Some(why) = leftover(path.as_bytes(), entry) {
            removed.push(Removed { path: path.clone(), why });
        }
    }
    for Removed { path, .. } in &removed {
        tree.remove(path);
    }
    let machine_id = tree.get(MACHINE_ID).filter(|entry| size(entry) > 0 && left_behind(entry)).cloned();
    if let (Some(mut entry), Ok(path)) = (machine_id, TreePath::parse(MACHINE_ID)) {
        entry.kind = Kind::File { digest: FileDigest::of(b""), size: 0, shared: false };
        removed.push(Removed { path: path.clone(), why: "a machine's identity" });
        tree.put(path, entry);
    }
    removed
}

const MACHINE_ID: &[u8] = b"etc/machine-id";

fn size(entry: &Entry) -> u64 {
    match entry.kind {
        Kind::File { size, .. } => size,
        _ => 0,
    }
}

/// Returns whether nobody asked for the entry: no package brings it and no recipe declares it.
fn left_behind(entry: &Entry) -> bool {
    !matches!(entry.origin, Origin::Package(_) | Origin::Recipe { .. } | Origin::Composer(_))
}

/// Folders whose files are only logs, caches and state of a running system.
const EMPTIED: [(&str, &str); 10] = [
    ("run/", "state of a running system"),
    ("tmp/", "temporary files"),
    ("var/tmp/", "temporary files"),
    ("var/log/", "logs"),
    ("var/lib/apt/lists/", "package lists"),
    ("var/cache/apt/", "cache of apt"),
    ("var/cache/man/", "cache of man pages"),
    ("var/cache/fontconfig/", "cache of fonts"),
    ("var/cache/ldconfig/", "cache of ldconfig"),
    ("var/lib/dpkg/updates/", "unfinished work of dpkg"),
];

/// Files that scripts make anew each time, or that belong to one machine. A `*` stands for anything but a slash.
const LEFTOVERS: [(&str, &str); 20] = [
    ("etc/hostname", "the name of a host"),
    ("etc/resolv.conf", "the resolver of a host"),
    ("etc/passwd-", "a copy of accounts"),
    ("etc/group-", "a copy of accounts"),
    ("etc/shadow-", "a copy of accounts"),
    ("etc/gshadow-", "a copy of accounts"),
    ("etc/subuid-", "a copy of accounts"),
    ("etc/subgid-", "a copy of accounts"),
    ("etc/ssh/ssh_host_*", "keys of a host"),
    ("etc/ssl/private/ssl-cert-snakeoil.key", "a key of a host"),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", "a certificate of a host"),
    ("var/lib/dbus/machine-id", "a machine's identity"),
    ("var/lib/systemd/random-seed", "a machine's randomness"),
    ("var/lib/urandom/random-seed", "a machine's randomness"),
    ("var/lib/systemd/credential.secret", "a machine's secret"),
    ("var/cache/debconf/*-old", "a copy of answers"),
    ("var/lib/dpkg/*-old", "a copy of the package database"),
    ("root/.*_history", "history of commands"),
    ("root/.wget-hsts", "history of downloads"),
    ("etc/ssl/certs/ssl-cert-snakeoil*", "a certificate of a host"),
];

/// Says why an entry is taken out, if it is.
fn leftover(path: &[u8], entry: &Entry) -> Option<&'static str> {
    if !left_behind(entry) {
        return None;
    }
    if path.ends_with(b".pyc") || path.ends_with(b"/__pycache__") {
        return Some("compiled Python");
    }
    if let Kind::Symlink { target } = &entry.kind {
        // The links by hash that `update-ca-certificates` and `make-ssl-cert` make.
        return target.ends_with(b"ssl-cert-snakeoil.pem").then_some("a certificate of a host");
    }
    let emptied = EMPTIED.iter().find(|(folder, _)| path.starts_with(folder.as_bytes()));
    // Folders stay: programs expect them, with the owners that the scripts gave them. Those below /run are made at each start.
    if let Some((folder, why)) =
        emptied.filter(|(folder, _)| !entry.is_directory() || matches!(*folder, "run/" | "tmp/" | "var/tmp/"))
    {
        return (path.len() > folder.len()).then_some(why);
    }
    let named = |pattern: &str| match pattern.split_once('*') {
        None => path == pattern.as_bytes(),
        Some((head, tail)) => {
            let middle = path.strip_prefix(head.as_bytes()).and_then(|rest| rest.strip_suffix(tail.as_bytes()));
            middle.is_some_and(|middle| !middle.contains(&b'/'))
        }
    };
    LEFTOVERS.iter().find(|(pattern, _)| !entry.is_directory() && named(pattern)).map(|(_, why)| *why)
}

/// Refuses an entry for its path, whoever declares it.
///
/// # Errors
/// Names the path: an identity or key of one machine, a host's name or resolver, or something that [`normalise`] takes out
/// and nobody asked for.
pub fn forbid(path: &TreePath, entry: &Entry) -> Result<(), Refused> {
    let refused = |what, advice| Err(Refused { path: path.clone(), what, advice });
    let bytes = path.as_bytes();
    if size(entry) > 0 && [MACHINE_ID, b"var/lib/dbus/machine-id"].contains(&bytes) {
        return refused("holds a machine's identity", "leave it empty: it is made when a machine starts");
    }
    if size(entry) > 0 && [&b"etc/hostname"[..], b"etc/resolv.conf"].contains(&bytes) {
        return refused(
            "holds what a host is called or asks for names",
            "engines mount their own over it; take it out of the recipe",
        );
    }
    let host_key = bytes.starts_with(b"etc/ssh/ssh_host_") && bytes.ends_with(b"_key");
    let private = bytes.starts_with(b"etc/ssl/private/") && !matches!(entry.origin, Origin::Package(_));
    if size(entry) > 0 && (host_key || private) {
        return refused("stands where private keys are kept", KEYS_ADVICE);
    }
    match leftover(bytes, entry) {
        Some(_) => refused("was left behind by a script", "this is a mistake in parvis: such files are taken out before"),
        None => Ok(()),
    }
}

const KEYS_ADVICE: &str = "keys are made on the target and mounted into the container; take the file out of the image";

/// Returns `/etc/shadow` with no password change later than the epoch: `useradd` writes the day of the build.
#[must_use]
pub fn clamp_shadow(content: &[u8], epoch: i64) -> Vec<u8> {
    let today = epoch.div_euclid(86_400);
    let line = |line: &[u8]| {
        let mut fields: Vec<Vec<u8>> = line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        if let Some(day) = fields.get_mut(2) {
            let later = std::str::from_utf8(day).ok().and_then(|day| day.parse::<i64>().ok()).is_some_and(|day| day > today);
            if later {
                *day = today.to_string().into_bytes();
            }
        }
        fields.join(&b':')
    };
    content.split(|byte| *byte == b'\n').map(line).collect::<Vec<_>>().join(&b'\n')
}

/// Returns the second at which the newest day of a password's change in `/etc/shadow` begins; 0 where there is none.
#[must_use]
pub fn newest_in_shadow(content: &[u8]) -> i64 {
    let day = |line: &[u8]| std::str::from_utf8(line.split(|byte| *byte == b':').nth(2)?).ok()?.parse::<i64>().ok();
    content.split(|byte| *byte == b'\n').filter_map(day).max().unwrap_or(0).saturating_mul(86_400)
}

/// How many bytes around the words `PRIVATE KEY` decide whether a key stands there.
const CONTEXT: usize = 640;

/// Looks for private keys in content as it passes.
#[derive(Default)]
pub struct Scanner {
    /// The first bytes of the content, which tell what kind of file it is.
    head: Vec<u8>,
    tail: Vec<u8>,
    found: bool,
}

/// How programs, libraries and archives of objects begin.
const PROGRAMS: [&[u8]; 2] = [b"\x7fELF", b"!<arch>\n"];

impl Scanner {
    /// Starts with nothing seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes of the content.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(&bytes[..bytes.len().min(8_usize.saturating_sub(self.head.len()))]);
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
        // Libraries carry keys to test themselves with (libgnutls.so does); nobody loses a key by compiling it.
        let program = PROGRAMS.iter().any(|magic| self.head.starts_with(magic));
        if !self.found || program || may_hold_keys(path, entry) {
            return Ok(());
        }
        Err(Refused { path: path.clone(), what: "holds a private key", advice: KEYS_ADVICE })
    }
}

/// Returns whether a key there is known to everybody: packages bring keys of their tests and examples along.
///
/// Elsewhere even a package's key is refused, because a program would use it.
fn may_hold_keys(path: &TreePath, entry: &Entry) -> bool {
    let harmless = |component: &[u8]| {
        let name = component.to_ascii_lowercase();
        ["test", "tests", "testdata", "example", "examples"].iter().any(|word| {
            let rest = name.strip_suffix(word.as_bytes());
            rest.is_some_and(|rest| rest.last().is_none_or(|before| matches!(before, b'-' | b'_' | b'.')))
        })
    };
    let path = path.as_bytes();
    matches!(entry.origin, Origin::Package(_))
        && (path.starts_with(b"usr/share/doc/") || path.split(|byte| *byte == b'/').any(harmless))
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
    use super::super::tar::testing::path;
    use super::*;

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
            &format!("\x7fELF\x02\x01\x01 a library that tests itself with {}", key("RSA PRIVATE KEY", "\n")),
            "grep -q -- '-----BEGIN RSA PRIVATE KEY-----' \"$file\" || exit 1",
            "-----BEGIN PRIVATE KEY-----\nMII...\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n",
        ] {
            for step in [1, 100] {
                assert!(!refused(content.as_bytes(), step), "{content}");
            }
        }
    }

    #[test]
    fn a_packages_keys_may_pass_only_where_no_program_uses_them() {
        let mut scanner = Scanner::new();
        scanner.feed(key("PRIVATE KEY", "\n").as_bytes());
        let package = Origin::Package("libx".parse().unwrap());
        let recipe = Origin::Recipe { image: "httpd".parse().unwrap(), line: 1 };
        let judge = |at: &str, origin: &Origin| {
            scanner.judge(&path(at), &Entry::file(FileDigest::of(b""), 1, 0o644, 0, origin.clone())).is_ok()
        };
        for at in ["usr/share/doc/libx/key.pem", "usr/lib/python3/tests/key.pem", "usr/share/mysql/mysql-test/key.pem"] {
            assert!(judge(at, &package) && !judge(at, &recipe), "{at}");
        }
        for at in ["etc/libx/key.pem", "usr/share/latest/key.pem", "usr/share/contest/key.pem"] {
            assert!(!judge(at, &package), "{at}");
        }
    }

    fn file(origin: Origin) -> Entry {
        Entry::file(FileDigest::of(b"x"), 1, 0o644, 0, origin)
    }

    #[test]
    fn what_differs_from_one_build_to_the_next_is_taken_out() {
        let script = || Origin::Script("libc6".parse().unwrap());
        let gone = [
            "var/cache/ldconfig/aux-cache",
            "var/log/alternatives.log",
            "var/log/apt/term.log",
            "var/lib/apt/lists/deb_InRelease",
            "var/cache/apt/pkgcache.bin",
            "var/cache/debconf/config.dat-old",
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/diversions-old",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "etc/ssl/private/ssl-cert-snakeoil.key",
            "etc/ssl/certs/ssl-cert-snakeoil.pem",
            "etc/hostname",
            "etc/resolv.conf",
            "etc/shadow-",
            "var/lib/dbus/machine-id",
            "var/lib/systemd/random-seed",
            "run/apache2/pid",
            "tmp/x/y",
            "usr/lib/python3/x/__pycache__",
            "usr/lib/python3/x/__pycache__/a.pyc",
            "root/.bash_history",
        ];
        let kept = [
            "etc/ssl/private",
            "var/log/apt",
            "var/lib/dpkg/status",
            "var/lib/dpkg/info/x-old/y",
            "etc/shadow",
            "etc/ld.so.cache",
            "etc/machine-id",
            "tmp",
            "run",
        ];
        let mut tree = Tree::new();
        for at in gone.iter().chain(&kept) {
            let folder = ["etc/ssl/private", "var/log/apt", "tmp", "run", "usr/lib/python3/x/__pycache__"].contains(at);
            tree.put(path(at), if folder { Entry::directory(0o755, script()) } else { file(script()) });
        }
        tree.put(path("etc/ssl/certs/0a1b2c.0"), Entry::symlink(b"ssl-cert-snakeoil.pem", 0, script()));
        let before = tree.clone();
        let removed = normalise(&mut tree);
        let left: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
        let mut expected: Vec<String> = kept.iter().map(|at| format!("/{at}")).collect();
        expected.sort();
        assert_eq!(left, expected);
        assert_eq!(size(tree.get(MACHINE_ID).unwrap()), 0);
        assert!(removed.iter().any(|removed| removed.path == path("etc/machine-id")));
        assert!(normalise(&mut tree).is_empty());
        // What was not taken out does not pass the gate either.
        for (path, entry) in tree.iter() {
            assert_eq!(forbid(path, entry), Ok(()));
        }
        for removed in &removed {
            assert!(forbid(&removed.path, before.get(removed.path.as_bytes()).unwrap()).is_err(), "{}", removed.path);
        }
    }

    #[test]
    fn what_packages_bring_and_recipes_declare_stays_unless_it_is_a_secret() {
        let package = || Origin::Package("libx".parse().unwrap());
        let recipe = || Origin::Recipe { image: "httpd".parse().unwrap(), line: 1 };
        let mut tree = Tree::new();
        tree.put(path("usr/lib/python3/a.pyc"), file(package()));
        tree.put(path("var/log/apache2/error.log"), Entry::symlink(b"/dev/stderr", 0, recipe()));
        tree.put(path("run/apache2"), Entry::directory(0o755, recipe()));
        assert!(normalise(&mut tree).is_empty());
        assert!(tree.iter().all(|(path, entry)| forbid(path, entry).is_ok()));
        for at in ["etc/machine-id", "etc/hostname", "etc/resolv.conf", "etc/ssh/ssh_host_rsa_key", "etc/ssl/private/server.key"]
        {
            assert!(forbid(&path(at), &file(recipe())).is_err(), "{at}");
        }
    }

    #[test]
    fn no_password_was_changed_after_the_epoch() {
        let content = b"root:*:20414:0:99999:7:::\nold:!:1::::::\nnever:!::0:::::\n";
        let clamped = clamp_shadow(content, 86_400 * 20_000 + 5);
        assert_eq!(clamped, b"root:*:20000:0:99999:7:::\nold:!:1::::::\nnever:!::0:::::\n");
    }
}
