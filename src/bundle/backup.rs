//! A backup of a demo: one tar that says what it holds, checked whole before anything of it is used.
//!
//! ```text
//! database.sql         what a command of the bundle printed
//! files.tar            a volume, with owners and modes
//! keys-db.tar          …
//! backup.json          the members with size and sha256; it comes last, because only then is all known
//! ```

use std::collections::BTreeSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::image::archive::{ArchiveError, Checked, Files, ReadAt, TarFiles};
use crate::image::canonical::{self, JsonError};
use crate::image::untar::{RawEntry, Streamed, Untar, UntarError};
use crate::model::digest::BlobDigest;
use crate::model::tree::{TreePath, escape};

/// The number of the format. 1: members in any order, `backup.json` last.
pub const FORMAT: u32 = 1;

/// The member that describes the others.
pub const CONTENTS: &str = "backup.json";

/// Symbolic links in one volume at most.
const MOST_LINKS: usize = 100_000;

/// One member of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub file: String,
    pub size: u64,
    pub sha256: BlobDigest,
    /// The volume whose content it is; absent for what a command printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    pub format: u32,
    /// The bundle's name and version at the time.
    pub name: String,
    pub version: String,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    pub members: Vec<Member>,
}

/// A backup that must not be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it is no backup of a demo: it holds no `{CONTENTS}`")]
    Foreign,
    #[error("its format {0} is newer than this parvis")]
    Newer(u64),
    #[error("its `{CONTENTS}` cannot be read")]
    Contents(#[source] JsonError),
    #[error("its `{CONTENTS}` has another shape")]
    Shape(#[source] serde_json::Error),
    #[error("it holds `{0}`, which it does not list")]
    Unlisted(String),
    #[error("it lacks `{0}`")]
    Missing(String),
    #[error("`{0}` in it was altered or is damaged")]
    Altered(String),
    #[error("`{file}` in it is hostile: `{entry}` {problem}")]
    Hostile { file: String, entry: String, problem: &'static str },
    #[error("`{file}` in it cannot be read")]
    Untar {
        file: String,
        #[source]
        source: UntarError,
    },
    #[error("it cannot be read")]
    Archive(#[from] ArchiveError),
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// A backup whose list of members was read; their contents were not yet.
pub struct Backup<'a, S: ?Sized> {
    files: TarFiles<'a, S>,
    pub contents: Contents,
}

impl<'a, S: ReadAt + ?Sized> Backup<'a, S> {
    /// Reads what a backup says of itself.
    ///
    /// # Errors
    /// Refuses members that are not listed, missing, listed twice or of another size.
    pub fn open(source: &'a S) -> Result<Self, BackupError> {
        let files = TarFiles::new(source)?;
        let (size, content) = files.open(CONTENTS)?.ok_or(BackupError::Foreign)?;
        if size > canonical::LIMIT as u64 {
            return Err(BackupError::Contents(JsonError::TooLarge { size, limit: canonical::LIMIT }));
        }
        let mut bytes = Vec::new();
        content.take(canonical::LIMIT as u64).read_to_end(&mut bytes)?;
        let value = canonical::read(&bytes).map_err(BackupError::Contents)?;
        if let Some(format) = value.get("format").and_then(serde_json::Value::as_u64).filter(|format| *format > FORMAT.into()) {
            return Err(BackupError::Newer(format));
        }
        let contents: Contents = serde_json::from_value(value).map_err(BackupError::Shape)?;
        let mut listed = BTreeSet::from([CONTENTS.as_bytes()]);
        for member in &contents.members {
            let shown = || escape(&member.file.as_bytes()[..member.file.len().min(200)]);
            if !is_plain(&member.file) || !listed.insert(member.file.as_bytes()) {
                return Err(BackupError::Unlisted(shown()));
            }
            match files.open(&member.file)? {
                None => return Err(BackupError::Missing(shown())),
                Some((size, _)) if size != member.size => return Err(BackupError::Altered(shown())),
                Some(_) => {}
            }
        }
        if let Some(unlisted) = files.names().find(|name| !listed.contains(name)) {
            return Err(BackupError::Unlisted(escape(&unlisted[..unlisted.len().min(200)])));
        }
        Ok(Self { files, contents })
    }

    /// Opens a member; the reader fails at its end where it is not what `backup.json` says.
    pub fn member(&self, member: &Member) -> Result<impl Read + use<'_, 'a, S>, BackupError> {
        let (_, content) = self.files.open(&member.file)?.ok_or_else(|| BackupError::Missing(member.file.clone()))?;
        Ok(Checked::new(content, member.size, member.sha256))
    }

    /// Reads a member whole, and looks into it where it is a volume.
    pub fn verify(&self, member: &Member) -> Result<(), BackupError> {
        let mut content = self.member(member)?;
        let looked = if member.volume.is_some() { inspect(&member.file, &mut content) } else { Ok(()) };
        // A member that is altered is called so, whatever the alteration broke.
        match io::copy(&mut content, &mut io::sink()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(BackupError::Altered(member.file.clone())),
            Err(error) => Err(error.into()),
            Ok(_) => looked,
        }
    }
}

/// Returns whether a name is that of one file in no folder.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 100 && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// Looks into the tar of a volume: whoever unpacks it must not be led out of the volume.
fn inspect(file: &str, content: &mut dyn Read) -> Result<(), BackupError> {
    let mut links: BTreeSet<TreePath> = BTreeSet::new();
    let unreadable = |source| BackupError::Untar { file: file.to_owned(), source };
    let mut untar = Untar::new(Streamed(content));
    while let Some(entry) = untar.next_entry().map_err(unreadable)? {
        let shown = escape(&entry.name[..entry.name.len().min(200)]);
        let hostile = |problem| BackupError::Hostile { file: file.to_owned(), entry: shown.clone(), problem };
        let path = judge(&entry, &links).map_err(hostile)?;
        if entry.kind == b'2' {
            links.insert(path);
            if links.len() > MOST_LINKS {
                return Err(hostile("is one link too many"));
            }
        }
    }
    untar.finish().map(drop).map_err(unreadable)
}

fn judge(entry: &RawEntry, links: &BTreeSet<TreePath>) -> Result<TreePath, &'static str> {
    let inside = |name: &[u8]| -> Result<TreePath, &'static str> {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let name = if name == b"." { b"" } else { name };
        // A path of a tree may begin with a slash; for whoever unpacks it is another place then.
        if name.starts_with(b"/") {
            return Err("leads out of the volume");
        }
        let path = TreePath::parse(name).map_err(|_| "leads out of the volume")?;
        let bytes = path.as_bytes();
        let through = (0..bytes.len()).filter(|at| bytes[*at] == b'/').filter_map(|at| TreePath::parse(&bytes[..at]).ok());
        if through.into_iter().any(|above| links.contains(&above)) { Err("leads through a link") } else { Ok(path) }
    };
    let path = inside(&entry.name)?;
    if path.is_root() && entry.kind != b'5' || links.contains(&path) {
        return Err("takes the place of something else");
    }
    match entry.kind {
        b'0' if entry.mode & 0o4000 != 0 => return Err("gives the rights of its owner to whoever runs it"),
        b'1' if links.contains(&inside(&entry.link)?) => return Err("is a second name of a link"),
        b'0' | b'1' | b'2' | b'5' => {}
        _ => return Err("is neither a file nor a folder nor a link"),
    }
    Ok(path)
}

/// Returns the tar header of a member (POSIX.1-2001 ustar; sizes from 8 GiB on as GNU writes them).
#[must_use]
pub fn header(name: &str, size: u64, date: u64) -> [u8; 512] {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size > 0o777_7777_7777 {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    } else {
        put(124, format!("{size:011o}\0").as_bytes());
    }
    put(136, format!("{:011o}\0", date.min(0o777_7777_7777)).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a backup by hand: members, and what is changed in their list before it is written.
    fn backup(members: &[(&str, Option<&str>, &[u8])], change: impl Fn(&mut Contents)) -> Vec<u8> {
        let mut contents = Contents {
            format: FORMAT,
            name: "demo".into(),
            version: "1".into(),
            created: "2026-11-24T09:00:00Z".into(),
            members: Vec::new(),
        };
        let mut out = Vec::new();
        let mut put = |name: &str, bytes: &[u8]| {
            out.extend(header(name, bytes.len() as u64, 0));
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(512), 0);
        };
        for (file, volume, bytes) in members {
            put(file, bytes);
            contents.members.push(Member {
                file: (*file).into(),
                size: bytes.len() as u64,
                sha256: BlobDigest::of(bytes),
                volume: volume.map(Into::into),
            });
        }
        change(&mut contents);
        put(CONTENTS, &serde_json::to_vec(&contents).unwrap());
        out.extend([0; 1024]);
        out
    }

    fn check(bytes: &[u8]) -> Result<(), BackupError> {
        let backup = Backup::open(bytes)?;
        backup.contents.members.iter().try_for_each(|member| backup.verify(member))
    }

    fn said(bytes: &[u8]) -> String {
        check(bytes).expect_err("it was accepted").to_string()
    }

    fn tar(entries: &[(u8, &str, &str, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, name, link, mode) in entries {
            let mut block = header(name, 0, 0);
            block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
            block[156] = *kind;
            block[157..157 + link.len()].copy_from_slice(link.as_bytes());
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            out.extend(block);
        }
        out.extend([0; 1024]);
        out
    }

    #[test]
    fn a_backup_reads_back() {
        let volume =
            tar(&[(b'5', "./", "", 0o2770), (b'0', "./a", "", 0o440), (b'2', "./b", "/etc", 0o777), (b'1', "./c", "./a", 0o440)]);
        let bytes = backup(&[("database.sql", None, b"insert"), ("files.tar", Some("files"), &volume)], |_| {});
        let opened = Backup::open(&bytes[..]).unwrap();
        check(&bytes).unwrap();
        let mut text = String::new();
        opened.member(&opened.contents.members[0]).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "insert");
    }

    #[test]
    fn a_large_size_is_written_as_tar_reads_it() {
        let mut source = header("a", 9 << 30, 0).to_vec();
        source.extend([0; 512]);
        let entry = Untar::new(Streamed(&source[..])).next_entry().unwrap().unwrap();
        assert_eq!((entry.size, entry.mode), (9 << 30, 0o600));
    }

    #[test]
    fn what_is_altered_missing_or_added_is_named() {
        let good: &[(&str, Option<&str>, &[u8])] = &[("a", None, b"one"), ("b", None, b"two")];
        let mut flipped = backup(good, |_| {});
        flipped[512] ^= 1;
        assert_eq!(said(&flipped), "`a` in it was altered or is damaged");
        let named = |change: fn(&mut Contents)| said(&backup(good, change));
        assert_eq!(named(|contents| contents.members[1].size = 4), "`b` in it was altered or is damaged");
        assert_eq!(named(|contents| contents.members.truncate(1)), "it holds `b`, which it does not list");
        assert_eq!(named(|contents| contents.members[0].file = "c".into()), "it lacks `c`");
        assert_eq!(named(|contents| contents.members[0].file = "../c".into()), "it holds `../c`, which it does not list");
        assert_eq!(named(|contents| contents.members[0].file = "b".into()), "it holds `b`, which it does not list");
        assert_eq!(named(|contents| contents.format = 2), "its format 2 is newer than this parvis");
        assert_eq!(said(&[0; 1024]), "it is no backup of a demo: it holds no `backup.json`");
        assert!(matches!(check(&backup(good, |_| {})[..1000]), Err(BackupError::Archive(_))));
        assert!(matches!(check(b"hello"), Err(BackupError::Archive(_))));
    }

    #[test]
    fn a_volume_that_leads_out_of_itself_is_refused() {
        type Case<'a> = (&'a str, &'a [(u8, &'a str, &'a str, u32)]);
        let cases: &[Case<'_>] = &[
            ("dot-dot", &[(b'0', "../x", "", 0o644)]),
            ("dot-dot inside", &[(b'0', "./a/../../x", "", 0o644)]),
            ("absolute", &[(b'0', "/etc/x", "", 0o644)]),
            ("through a link", &[(b'2', "./a", "/etc", 0o777), (b'0', "./a/x", "", 0o644)]),
            ("over a link", &[(b'2', "./a", "/etc", 0o777), (b'0', "./a", "", 0o644)]),
            ("a hard link out", &[(b'1', "./a", "../x", 0o644)]),
            ("an absolute hard link", &[(b'1', "./a", "/etc/passwd", 0o644)]),
            ("a hard link to a link", &[(b'2', "./a", "/etc", 0o777), (b'1', "./b", "a", 0o644)]),
            ("a hard link through a link", &[(b'2', "./a", "/etc", 0o777), (b'1', "./b", "a/passwd", 0o644)]),
            ("a device", &[(b'3', "./a", "", 0o644)]),
            ("a pipe", &[(b'6', "./a", "", 0o644)]),
            ("setuid", &[(b'0', "./a", "", 0o4755)]),
            ("the root as a link", &[(b'2', "./", "/", 0o777)]),
        ];
        for (name, entries) in cases {
            let bytes = backup(&[("files.tar", Some("files"), &tar(entries))], |_| {});
            let error = check(&bytes).err().unwrap_or_else(|| panic!("{name} was accepted"));
            assert!(matches!(error, BackupError::Hostile { .. }), "{name}: {error}");
        }
        let behind = [tar(&[]), b"more".to_vec()].concat();
        assert!(matches!(check(&backup(&[("files.tar", Some("files"), &behind)], |_| {})), Err(BackupError::Untar { .. })));
    }
}
