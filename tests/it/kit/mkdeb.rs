//! Debian packages by hand (deb(5), deb-control(5)), honest and malformed.

use std::fmt::Write as _;
use std::io::Write as _;

use super::rawtar::{self, Entry};

/// An architecture for which there is no package.
pub const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

/// The architecture of the packages that hold programs: that of this machine.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// An architecture whose programs this machine runs as well as its own, where there is one. Packages of it have none all the same.
pub const KIN: Option<&str> = if cfg!(target_arch = "x86_64") { Some("i386") } else { None };

/// How a member of the package is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Xz, Self::Zstd];

    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }
}

/// A package in the making.
#[derive(Clone)]
pub struct Deb {
    fields: Vec<(String, String)>,
    entries: Vec<Entry>,
    scripts: Vec<(String, String)>,
    conffiles: Vec<String>,
    compression: Compression,
}

impl Deb {
    pub fn new(name: &str, version: &str) -> Self {
        let fields = [
            ("Package", name),
            ("Version", version),
            ("Architecture", ARCHITECTURE),
            ("Maintainer", "Nobody <nobody@invalid>"),
            ("Priority", "optional"),
            ("Section", "misc"),
            ("Description", "made by the tests\n For the tests only."),
        ];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self { fields, entries: Vec::new(), scripts: Vec::new(), conffiles: Vec::new(), compression: Compression::Gzip }
    }

    /// Sets a field of the control file, replacing one of the same name.
    pub fn field(mut self, key: &str, value: &str) -> Self {
        self.fields.retain(|(name, _)| name != key);
        self.fields.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn depends(self, on: &str) -> Self {
        self.field("Depends", on)
    }

    pub fn pre_depends(self, on: &str) -> Self {
        self.field("Pre-Depends", on)
    }

    pub fn essential(self) -> Self {
        self.field("Essential", "yes").field("Priority", "required")
    }

    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::file(dotted(path), content))
    }

    pub fn program(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::file(dotted(path), content).mode(0o755))
    }

    pub fn directory(self, path: &str) -> Self {
        self.entry(Entry::directory(dotted(path) + "/"))
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(Entry::symlink(dotted(path), target))
    }

    /// Adds an entry of `data.tar` as it is; missing parent folders are added before it.
    pub fn entry(mut self, entry: Entry) -> Self {
        let path = String::from_utf8(entry.name.clone()).unwrap_or_default();
        let inside = path.trim_end_matches('/');
        for (at, _) in inside.match_indices('/').skip(1) {
            let parent = format!("{}/", &inside[..at]).into_bytes();
            let known = |known: &Entry| known.name == parent || known.name == parent[..parent.len() - 1];
            if !self.entries.iter().any(known) {
                self.entries.push(Entry::directory(parent));
            }
        }
        self.entries.push(entry);
        self
    }

    /// Adds a file that a person may have changed and an upgrade keeps.
    pub fn conffile(mut self, path: &str, content: &str) -> Self {
        self.conffiles.push(path.to_owned());
        self.file(path, content)
    }

    /// Adds the changelog where Debian puts it: uploads as version, suite, urgency and text, the newest first.
    pub fn changelog(self, uploads: &[(&str, &str, &str, &str)]) -> Self {
        let (source, path) = (self.source().to_owned(), format!("/usr/share/doc/{}/changelog.Debian.gz", self.name()));
        let entry = |(version, suite, urgency, text): &(&str, &str, &str, &str)| {
            format!(
                "{source} ({version}) {suite}; urgency={urgency}\n\n  * {text}\n\n -- Nobody <nobody@invalid>  Tue, 01 Jul 2025 12:00:00 +0200\n\n"
            )
        };
        self.file(&path, Compression::Gzip.compress(uploads.iter().map(entry).collect::<String>().as_bytes()))
    }

    /// Adds a maintainer script (`postinst` …), or another member of the control archive (`triggers` …).
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), text.to_owned()));
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    fn value(&self, key: &str) -> &str {
        self.fields.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    pub fn name(&self) -> &str {
        self.value("Package")
    }

    pub fn version(&self) -> &str {
        self.value("Version")
    }

    pub fn architecture(&self) -> &str {
        self.value("Architecture")
    }

    pub fn source(&self) -> &str {
        let source = self.value("Source").split(' ').next().unwrap_or_default();
        if source.is_empty() { self.name() } else { source }
    }

    /// Returns the name of the file in the pool: the epoch is no part of it.
    pub fn file_name(&self) -> String {
        let version = self.version().split_once(':').map_or(self.version(), |(_, after)| after);
        format!("{}_{version}_{}.deb", self.name(), self.architecture())
    }

    /// Returns the control file's text.
    pub fn control(&self) -> String {
        self.fields.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{key}: {value}").unwrap();
            text
        })
    }

    pub fn control_tar(&self) -> Vec<u8> {
        let mut entries = vec![Entry::directory("./").bytes(), Entry::file("./control", self.control()).bytes()];
        if !self.conffiles.is_empty() {
            entries.push(Entry::file("./conffiles", self.conffiles.join("\n") + "\n").bytes());
        }
        let files = self.entries.iter().filter(|entry| entry.kind == b'0');
        let sums = files.fold(String::new(), |mut text, entry| {
            let name = String::from_utf8_lossy(&entry.name).trim_start_matches("./").to_owned();
            writeln!(text, "{}  {name}", md5(&entry.content)).unwrap();
            text
        });
        entries.push(Entry::file("./md5sums", sums).bytes());
        for (name, text) in &self.scripts {
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            entries.push(Entry::file(format!("./{name}"), text).mode(mode).bytes());
        }
        rawtar::archive(entries)
    }

    pub fn data_tar(&self) -> Vec<u8> {
        let root = Entry::directory("./").bytes();
        rawtar::archive(std::iter::once(root).chain(self.entries.iter().map(Entry::bytes)))
    }

    /// Returns the package.
    pub fn bytes(&self) -> Vec<u8> {
        ar(&self.members())
    }

    /// Returns the members of the package, for a test that changes them.
    pub fn members(&self) -> Vec<Member> {
        let extension = self.compression.extension();
        vec![
            Member::new("debian-binary", "2.0\n"),
            Member::new(&format!("control.tar{extension}"), self.compression.compress(&self.control_tar())),
            Member::new(&format!("data.tar{extension}"), self.compression.compress(&self.data_tar())),
        ]
    }
}

fn dotted(path: &str) -> String {
    format!("./{}", path.trim_start_matches('/'))
}

pub fn md5(bytes: &[u8]) -> String {
    use md5::Digest as _;
    md5::Md5::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// One member of an ar archive, as its 60-byte header and content will say.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub content: Vec<u8>,
    /// The raw text of the size field, where it shall not be the content's length.
    pub size: Option<String>,
    /// The two bytes that end the header.
    pub end: [u8; 2],
}

impl Member {
    pub fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        Self { name: name.to_owned(), content: content.as_ref().to_vec(), size: None, end: *b"`\n" }
    }
}

/// Returns an ar archive.
pub fn ar(members: &[Member]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for member in members {
        let size = member.size.clone().unwrap_or_else(|| member.content.len().to_string());
        out.extend(format!("{:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}", member.name, 0, 0, 0, 100_644).bytes());
        out.extend(member.end);
        out.extend(&member.content);
        if member.content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// Returns named files that are no packages, though each begins as one.
pub fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let deb = Deb::new("bad", "1").file("/usr/share/bad", "bad");
    let with = |change: fn(&mut Vec<Member>)| {
        let mut members = deb.members();
        change(&mut members);
        ar(&members)
    };
    let honest = deb.bytes();
    let mut trailing = honest.clone();
    trailing.extend(b"more");
    vec![
        ("empty", Vec::new()),
        ("no ar", b"PK\x03\x04 not an ar archive at all".to_vec()),
        ("magic only", b"!<arch>\n".to_vec()),
        ("ends inside a header", honest[..40].to_vec()),
        ("ends inside a member", honest[..honest.len() - 100].to_vec()),
        ("trailing bytes", trailing),
        ("negative size", with(|members| members[1].size = Some("-1".into()))),
        ("size beyond the file", with(|members| members[2].size = Some("9999999999".into()))),
        ("size that is no number", with(|members| members[1].size = Some("0x10".into()))),
        ("empty size", with(|members| members[1].size = Some(String::new()))),
        ("header without its end", with(|members| members[1].end = *b"xx")),
        ("no debian-binary", with(|members| drop(members.remove(0)))),
        ("no control", with(|members| drop(members.remove(1)))),
        ("no data", with(|members| drop(members.remove(2)))),
        ("control after data", with(|members| members.swap(1, 2))),
        ("two controls", with(|members| members.insert(1, members[1].clone()))),
        ("two datas", with(|members| members.push(members[2].clone()))),
        ("a name with a path", with(|members| members[2].name = "../data.tar.gz".into())),
        ("format 3.0", with(|members| members[0].content = b"3.0\n".to_vec())),
        ("unknown compression", with(|members| members[2].name = "data.tar.lzo".into())),
        ("compression that is not what the name says", with(|members| members[2].name = "data.tar.xz".into())),
        ("cut compressed data", with(|members| members[2].content.truncate(60))),
        ("bytes after the compressed data", with(|members| members[2].content.extend(b"more"))),
    ]
}

/// Returns a package whose data unpacks to this many bytes of nothing.
pub fn bomb(compression: Compression, size: u64) -> Vec<u8> {
    let header = Entry::file("./bomb", "").claiming(size).bytes();
    let zeros = vec![0_u8; 1 << 20];
    let blocks = size.div_ceil(1 << 20);
    let mut data = Vec::new();
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut data, flate2::Compression::best());
            encoder.write_all(&header).unwrap();
            (0..blocks).for_each(|_| encoder.write_all(&zeros).unwrap());
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut data, 0);
            encoder.write_all(&header).unwrap();
            (0..blocks).for_each(|_| encoder.write_all(&zeros).unwrap());
            encoder.finish().unwrap();
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut data, 1).unwrap();
            encoder.write_all(&header).unwrap();
            (0..blocks).for_each(|_| encoder.write_all(&zeros).unwrap());
            encoder.finish().unwrap();
        }
        Compression::None => panic!("a bomb is compressed"),
    }
    let mut members = Deb::new("bomb", "1").compression(compression).members();
    members[2].content = data;
    ar(&members)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    fn dpkg_deb(option: &str, bytes: &[u8]) -> Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Command::new("dpkg-deb").arg(option).arg(file.path()).env("LC_ALL", "C").output().unwrap()
    }

    #[test]
    fn dpkg_deb_reads_what_is_written() {
        for compression in Compression::ALL {
            let deb = Deb::new("libfoo", "1:2-3")
                .depends("libc6 (>= 2)")
                .conffile("/etc/foo.conf", "a = 1\n")
                .program("/usr/bin/foo", "#!/bin/sh\n")
                .symlink("/usr/bin/bar", "foo")
                .directory("/var/lib/foo")
                .script("postinst", "#!/bin/sh\ntrue\n")
                .compression(compression);
            assert_eq!(deb.file_name(), format!("libfoo_2-3_{ARCHITECTURE}.deb"));
            let listing = String::from_utf8(dpkg_deb("--contents", &deb.bytes()).stdout).unwrap();
            let names: Vec<&str> = listing.lines().map(|line| &line[line.find("./").unwrap()..]).collect();
            let expected =
                "./ ./etc/ ./etc/foo.conf ./usr/ ./usr/bin/ ./usr/bin/foo ./usr/bin/bar>foo ./var/ ./var/lib/ ./var/lib/foo/";
            assert_eq!(names.join(" ").replace(" -> ", ">"), expected);
            let about = String::from_utf8(dpkg_deb("--info", &deb.bytes()).stdout).unwrap();
            assert!(about.contains("Depends: libc6 (>= 2)") && about.contains("postinst"), "{about}");
        }
    }

    #[test]
    fn dpkg_deb_refuses_nearly_all_that_is_malformed() {
        let taken: Vec<_> = malformed()
            .into_iter()
            .filter(|(_, bytes)| dpkg_deb("--contents", bytes).status.success())
            .map(|(name, _)| name)
            .collect();
        // dpkg-deb is lenient in these: a stricter reader is wanted, and an honest test kit says so.
        let lenient = ["trailing bytes", "two datas", "bytes after the compressed data"];
        assert!(taken.iter().all(|name| lenient.contains(name)), "{taken:?}");
    }

    #[test]
    fn a_bomb_is_small_before_it_bursts() {
        for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            assert!(bomb(compression, 64 << 20).len() < 200_000);
        }
    }
}
