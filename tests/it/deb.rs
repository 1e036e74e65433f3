//! Packages that lie: each is refused with what is wrong and where, in bounded memory and time (hostile inputs, by hand).

use std::fmt::Write as _;
use std::io::{self, Read};

use parvis::debian::package::{ControlFiles, DataEntry, Limits, PackageError, PackageVisitor, read_package};
use parvis::model::digest::DownloadDigest;
use parvis::model::lock::LockedPackage;
use parvis::model::tree::TreePath;

use crate::kit::mkdeb::{ARCHITECTURE, Compression, Deb, Member, ar, bomb, malformed};
use crate::kit::rawtar;

/// Takes everything in and keeps the number of bytes only.
#[derive(Default)]
struct Counter {
    bytes: u64,
}

impl PackageVisitor for Counter {
    fn control(&mut self, _: &ControlFiles) -> io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, _: TreePath, _: DataEntry, content: &mut dyn Read) -> io::Result<()> {
        self.bytes += io::copy(content, &mut io::sink())?;
        Ok(())
    }
}

fn locked(name: &str, version: &str) -> LockedPackage {
    LockedPackage {
        name: name.parse().unwrap(),
        version: version.into(),
        architecture: ARCHITECTURE.parse().unwrap(),
        source: name.parse().unwrap(),
        source_version: None,
        suite: "trixie".parse().unwrap(),
        file: "pool/main/x".into(),
        size: 1,
        sha256: DownloadDigest::of(b""),
        depends: Vec::new(),
    }
}

fn read(bytes: &[u8], name: &str, limits: &Limits) -> Result<u64, PackageError> {
    let mut counter = Counter::default();
    read_package(bytes, &locked(name, "1"), limits, &mut counter).map(|_| counter.bytes)
}

/// Returns an error with its causes, as a person would read it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    text
}

fn verdicts(cases: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> String {
    let mut lines = String::new();
    for (case, bytes) in cases {
        let verdict = match read(&bytes, "bad", &Limits::default()) {
            Ok(_) => "TAKEN".to_owned(),
            Err(error) => said(&error),
        };
        assert!(!verdict.contains(|character: char| character.is_control()), "{case}: {verdict:?}");
        writeln!(lines, "{case}: {verdict}").unwrap();
    }
    lines
}

#[test]
fn malformed_packages_are_refused_with_the_offset() {
    let verdicts = verdicts(malformed());
    assert!(!verdicts.contains("TAKEN"), "{verdicts}");
    insta::assert_snapshot!(verdicts);
}

#[test]
fn hostile_entries_are_refused_by_name() {
    let packages = rawtar::hostile("/srv/victim").into_iter().map(|(case, data)| {
        let mut members = Deb::new("bad", "1").compression(Compression::None).members();
        members[2] = Member::new("data.tar", data);
        (case, ar(&members))
    });
    let verdicts = verdicts(packages);
    assert!(!verdicts.contains("TAKEN"), "{verdicts}");
    insta::assert_snapshot!(verdicts);
}

#[test]
fn a_package_under_another_name_or_version_is_refused() {
    for (deb, expected) in [
        (Deb::new("evil", "1"), "it says Package `evil`, but the lock says `bad`"),
        (Deb::new("bad", "2"), "it says Version `2`, but the lock says `1`"),
        (Deb::new("bad", "1").field("Architecture", "all"), "it says Architecture `all`"),
    ] {
        let error = read(&deb.bytes(), "bad", &Limits::default()).unwrap_err();
        assert!(said(&error).contains(expected), "{}", said(&error));
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limits = Limits { data: 1 << 20, ..Limits::default() };
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let error = read(&bomb(compression, 128 << 20), "bomb", &limits).unwrap_err();
        assert!(said(&error).contains("holds more than 1048576 bytes"), "{}", said(&error));
    }
}
