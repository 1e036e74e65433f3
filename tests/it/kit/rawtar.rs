//! Tar archives by hand, header by header, so that any lie can be told.

/// One entry of a tar archive, as its 512-byte header and content will say.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub content: Vec<u8>,
    /// The raw size field, where it shall not be the content's length in octal.
    pub size: Option<[u8; 12]>,
    /// The raw checksum field, where it shall be wrong.
    pub checksum: Option<[u8; 8]>,
    pub device: (u32, u32),
}

impl Entry {
    /// Begins an entry of a kind (POSIX.1-2001 `typeflag`): `b'0'` file, `b'1'` hard link, `b'2'` symlink, `b'5'` folder …
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        let (name, link, content) = (name.as_ref().to_vec(), Vec::new(), Vec::new());
        Self { name, link, kind, mode, uid: 0, gid: 0, mtime: 1_700_000_000, content, size: None, checksum: None, device: (0, 0) }
    }

    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(b'0', name) }
    }

    pub fn directory(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', name)
    }

    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), mode: 0o777, ..Self::new(b'2', name) }
    }

    pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'1', name) }
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Makes the header say another size than the content has.
    pub fn claiming(mut self, size: u64) -> Self {
        self.size = Some(octal(size));
        self
    }

    /// Returns the header and the padded content, with GNU long-name entries before it where a name needs one.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, text) in [(b'L', &self.name), (b'K', &self.link)] {
            if text.len() > 100 {
                let content = [text.as_slice(), b"\0"].concat();
                out.extend(Self { content, ..Self::new(kind, "././@LongLink") }.block());
            }
        }
        out.extend(self.block());
        out
    }

    fn block(&self) -> Vec<u8> {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        put(124, &self.size.unwrap_or_else(|| octal(self.content.len() as u64)));
        put(136, &octal(self.mtime));
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        let checksum = self.checksum.unwrap_or_else(|| format!("{sum:06o}\0 ").into_bytes().try_into().unwrap());
        header[148..156].copy_from_slice(&checksum);
        let mut out = header.to_vec();
        out.extend(&self.content);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn octal(number: u64) -> [u8; 12] {
    format!("{number:011o}\0").into_bytes().try_into().unwrap()
}

/// Returns a PAX extended header (POSIX.1-2001 `pax`, section "pax Header Block"); `kind` is `b'x'`, or `b'g'` for a global one.
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let length = (1..20).map(|digits| rest + digits).find(|length| rest + length.to_string().len() == *length).unwrap();
        content.extend(format!("{length} {key}=").bytes());
        content.extend(*value);
        content.push(b'\n');
    }
    Entry { content, ..Entry::new(kind, "PaxHeaders/x") }.bytes()
}

/// Returns an old GNU sparse file: the map says where in a file of `real_size` bytes the content's pieces belong.
pub fn sparse(name: &str, real_size: u64, map: &[(u64, u64)], content: &[u8]) -> Vec<u8> {
    assert!(map.len() <= 4, "an extended sparse header is not written");
    let mut block = Entry { content: content.to_vec(), ..Entry::new(b'S', name) }.bytes();
    block[257..265].copy_from_slice(b"ustar  \0");
    for (index, (offset, length)) in map.iter().enumerate() {
        block[386 + index * 24..][..12].copy_from_slice(&octal(*offset));
        block[398 + index * 24..][..12].copy_from_slice(&octal(*length));
    }
    block[483..495].copy_from_slice(&octal(real_size));
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Returns an archive of raw pieces, with the two empty blocks at its end.
pub fn archive<I: IntoIterator<Item = Vec<u8>>>(pieces: I) -> Vec<u8> {
    let mut out: Vec<u8> = pieces.into_iter().flatten().collect();
    out.extend([0; 1024]);
    out
}

/// Returns named archives that no reader may take as they are; each would write outside, lie or overwhelm if believed.
///
/// `outside` is an absolute path that must not change.
pub fn hostile(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let file = |name: &str| Entry::file(name, "bad").bytes();
    let up = "../".repeat(12);
    let deep = "d/".repeat(5000);
    let inside_out = format!("{up}{}/bad", outside.trim_start_matches('/'));
    let absolute = format!("{outside}/bad");
    vec![
        ("dot-dot", archive([file(&inside_out)])),
        ("dot-dot in the middle", archive([Entry::directory("a/").bytes(), file("a/../../bad")])),
        ("symlink, then a file through it", archive([Entry::symlink("a", outside).bytes(), file("a/bad")])),
        ("symlink up, then a file through it", archive([Entry::symlink("a", &up).bytes(), file(&format!("a/{absolute}"))])),
        (
            "folder replaced by a symlink",
            archive([Entry::directory("a/").bytes(), Entry::symlink("a", outside).bytes(), file("a/bad")]),
        ),
        ("hard link out", archive([Entry::hard_link("a", &inside_out).bytes()])),
        ("hard link to nothing", archive([Entry::hard_link("a", "missing").bytes()])),
        ("hard link to itself", archive([Entry::hard_link("a", "a").bytes()])),
        ("hard link through a symlink", archive([Entry::symlink("a", outside).bytes(), Entry::hard_link("b", "a/bad").bytes()])),
        ("PAX path", archive([pax(b'x', &[("path", inside_out.as_bytes())]), file("a")])),
        ("PAX link path", archive([pax(b'x', &[("linkpath", inside_out.as_bytes())]), Entry::hard_link("a", "b").bytes()])),
        (
            "PAX size smaller than the header's",
            archive([pax(b'x', &[("size", b"0")]), Entry::file("a", file("smuggled")).bytes()]),
        ),
        ("PAX size that is no number", archive([pax(b'x', &[("size", b"-1")]), file("a")])),
        ("PAX path with NUL", archive([pax(b'x', &[("path", b"a\0b")]), file("a")])),
        ("global PAX path", archive([pax(b'g', &[("path", inside_out.as_bytes())]), file("a")])),
        (
            "PAX record with a wrong length",
            archive([Entry { content: b"99 path=x\n".to_vec(), ..Entry::new(b'x', "p") }.bytes(), file("a")]),
        ),
        ("root as a symlink", archive([Entry::symlink("./", outside).bytes(), file("./bad")])),
        ("root as a file", archive([file(".")])),
        ("`dev` as a symlink", archive([Entry::symlink("dev", outside).bytes(), file("dev/bad")])),
        ("device", archive([Entry { device: (1, 1), ..Entry::new(b'4', "disk") }.bytes()])),
        ("character device", archive([Entry { device: (1, 3), ..Entry::new(b'3', "null") }.bytes()])),
        ("fifo", archive([Entry::new(b'6', "fifo").bytes()])),
        ("kind that does not exist", archive([Entry::new(b'Z', "a").bytes()])),
        ("size beyond the archive", archive([Entry::file("a", "x").claiming(1 << 32).bytes()])),
        ("negative size", archive([Entry { size: Some([0xff; 12]), ..Entry::file("a", "x") }.bytes()])),
        ("size that is no number", archive([Entry { size: Some(*b"99999999999\0"), ..Entry::file("a", "x") }.bytes()])),
        ("wrong checksum", archive([Entry { checksum: Some(*b"000000\0 "), ..Entry::file("a", "x") }.bytes()])),
        ("sparse file of 8 GB", archive([sparse("a", (1 << 33) - 1, &[(1 << 32, 3)], b"abc")])),
        ("file below a file", archive([file("a"), file("a/b")])),
        ("depth of 5000", archive([Entry::directory(deep).bytes()])),
        ("name of 300 bytes", archive([file(&"n".repeat(300))])),
        ("ends inside a header", file("a")[..300].to_vec()),
        ("ends inside a file", Entry::file("a", [0; 5000]).bytes()[..2000].to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn names(archive: &[u8]) -> Vec<String> {
        let mut reader = tar::Archive::new(archive);
        reader.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn what_is_written_reads_back_with_another_reader() {
        let long = "l".repeat(150);
        let pieces = [
            Entry::directory("a/").bytes(),
            Entry::file("a/b", "hello").mode(0o4755).owner(7, 8).bytes(),
            Entry::symlink("a/c", "b").bytes(),
            Entry::hard_link("a/d", "a/b").bytes(),
            Entry::file(&long, "").bytes(),
            pax(b'x', &[("path", b"p\xc3\xa9")]),
            Entry::file("short", "").bytes(),
            sparse("holes", 4096, &[(4093, 3)], b"abc"),
        ];
        let archive = archive(pieces);
        assert_eq!(names(&archive), ["a/", "a/b", "a/c", "a/d", &long, "pé", "holes"]);
        let mut reader = tar::Archive::new(archive.as_slice());
        let mut entries = reader.entries().unwrap();
        let mut file = entries.nth(1).unwrap().unwrap();
        let header = file.header();
        assert_eq!((header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0o4755, 7, 8));
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
        assert_eq!(entries.last().unwrap().unwrap().size(), 4096);
    }

    #[test]
    fn a_length_record_counts_its_own_digits() {
        // 97 bytes without the digits: two digits would make 99, which has two; 98 would make 100 only with three.
        for length in 0..200 {
            let value = vec![b'x'; length];
            let header = pax(b'x', &[("path", &value)]);
            let size = header[512..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
            assert!(header[512..].starts_with(format!("{size} path=").as_bytes()));
        }
    }

    #[test]
    fn tar_itself_finds_the_hostile_archives_bad_or_dangerous() {
        let victim = crate::kit::victim::Victim::new();
        let catalogue = hostile(victim.path());
        let mut refused = 0;
        for (_, bytes) in &catalogue {
            let mut tar = Command::new("tar");
            tar.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = tar.spawn().unwrap();
            // A reader that refuses early closes the pipe.
            let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes);
            refused += usize::from(!child.wait().unwrap().success());
        }
        assert!(refused >= 5, "{refused} of {} are malformed", catalogue.len());
        victim.assert_unchanged();
    }
}
