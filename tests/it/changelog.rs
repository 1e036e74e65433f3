//! Changelogs in packages: where they stand, and that those of real packages can be read.

use std::fs;

use parvis::debian::changelog::{Changelog, Found, Urgency, of_package};
use parvis::model::digest::DownloadDigest;
use parvis::model::lock::LockedPackage;

use crate::kit::mkdeb::{Compression, Deb};

/// Returns what a lock says of a package.
fn locked(deb: &Deb) -> LockedPackage {
    let bytes = deb.bytes();
    LockedPackage {
        name: deb.name().parse().unwrap(),
        version: deb.version().into(),
        architecture: deb.architecture().parse().unwrap(),
        source: deb.source().parse().unwrap(),
        source_version: None,
        suite: "trixie".parse().unwrap(),
        file: "pool/main/x".into(),
        size: bytes.len() as u64,
        sha256: DownloadDigest::of(&bytes),
        depends: Vec::new(),
    }
}

fn found(deb: &Deb) -> Found {
    of_package(&deb.bytes()[..], &locked(deb)).unwrap()
}

#[test]
fn a_package_tells_its_changelog_or_who_has_it() {
    let text =
        "foo (1-2) unstable; urgency=high\n\n  * CVE-2025-0001\n\n -- A <a@example.org>  Tue, 01 Jul 2025 12:00:00 +0200\n";
    let packed = Compression::Gzip.compress(text.as_bytes());
    let foo = || Deb::new("libfoo", "1-2").field("Source", "foo");
    let Found::Here(changelog) = found(&foo().file("/usr/share/doc/libfoo/changelog.Debian.gz", &packed)) else { panic!() };
    assert_eq!((changelog.entries.len(), changelog.entries[0].urgency), (1, Urgency::High));
    let native = foo().file("/usr/share/doc/libfoo/changelog.gz", &packed);
    assert!(matches!(found(&native), Found::Here(_)));
    // What the program's makers wrote is not what Debian's did.
    let foreign = foo().file("/usr/share/doc/libfoo/changelog.gz", Compression::Gzip.compress(b"Changes in 1\n"));
    assert_eq!(found(&foreign), Found::Nothing);
    assert_eq!(found(&foo().file("/usr/share/doc/other/changelog.Debian.gz", &packed)), Found::Nothing);
    let link = foo().symlink("/usr/share/doc/libfoo", "foo-common");
    assert_eq!(found(&link), Found::With("foo-common".parse().unwrap()));
    assert_eq!(found(&foo().symlink("/usr/share/doc/libfoo", "../../../etc")), Found::Nothing);
    assert!(of_package(&foo().bytes()[..], &locked(&Deb::new("libfoo", "1-3"))).is_err(), "another version is refused");
}

#[test]
fn the_changelogs_of_this_machine_can_all_be_read() {
    let mut read = 0;
    for folder in fs::read_dir("/usr/share/doc").into_iter().flatten().flatten() {
        let Ok(packed) = fs::read(folder.path().join("changelog.Debian.gz")) else { continue };
        let changelog = Changelog::unpack(&packed).unwrap_or_else(|error| panic!("{}: {error}", folder.path().display()));
        assert!(!changelog.entries[0].signed.is_empty());
        assert_ne!(changelog.entries[0].urgency, Urgency::Unknown, "{}", folder.path().display());
        read += 1;
    }
    // An image of Debian without documentation has none.
    assert!(read > 10 || !std::path::Path::new("/usr/share/doc/apt/changelog.gz").exists(), "{read}");
}
