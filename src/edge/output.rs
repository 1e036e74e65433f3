//! What a build leaves where people look for it: an OCI layout in a folder, an archive in a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::draft::{DraftFile, DraftFolder};
use crate::image::layout::Additions;
use crate::image::tar;
use crate::model::digest::{BlobDigest, FileDigest, Hasher};
use crate::model::tree::TreePath;

/// Something that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`")]
pub struct OutputError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl OutputError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::StorageFull => Some("free some space, then run the same command again".into()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some("choose a place that you may write to with `--output`".into())
            }
            _ => None,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    move |source| OutputError { action, path: path.to_owned(), source }
}

/// Writes an OCI layout (image-spec 1.1, image-layout): the blobs first, the index last.
///
/// Blobs are hard links to the store where the file system allows, else copies. Blobs of an earlier layout that the index
/// does not need any more are removed. Returns whether anything changed.
pub fn write_layout(folder: &Path, blobs: &[(BlobDigest, PathBuf)], index: &[u8]) -> Result<bool, OutputError> {
    let place = folder.join("blobs/sha256");
    let index_path = folder.join("index.json");
    let whole = |digest: &BlobDigest| fs::symlink_metadata(place.join(digest.hex())).is_ok_and(|found| found.is_file());
    if fs::read(&index_path).is_ok_and(|found| found == index) && blobs.iter().all(|(digest, _)| whole(digest)) {
        return Ok(false);
    }
    fs::create_dir_all(&place).map_err(failed("make", &place))?;
    write_whole(&folder.join("oci-layout"), |out| out.write_all(b"{\"imageLayoutVersion\":\"1.0.0\"}"))?;
    for (digest, source) in blobs {
        let target = place.join(digest.hex());
        if whole(digest) {
            continue;
        }
        match fs::hard_link(source, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => {
                let mut content = File::open(source).map_err(failed("read", source))?;
                write_whole(&target, |out| io::copy(&mut content, out).map(drop))?;
            }
            Ok(()) => {}
        }
    }
    write_whole(&index_path, |out| out.write_all(index))?;
    for entry in fs::read_dir(&place).map_err(failed("read", &place))?.flatten() {
        let name = entry.file_name();
        let digest = name.to_str().and_then(|name| format!("sha256:{name}").parse::<BlobDigest>().ok());
        if digest.is_some_and(|digest| !blobs.iter().any(|(kept, _)| *kept == digest)) {
            fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(true)
}

/// Adds to an OCI layout: the blobs first, the list of them last. What is there already is not touched.
pub fn add_to_layout(folder: &Path, additions: &Additions) -> Result<(), OutputError> {
    let place = folder.join("blobs/sha256");
    for (digest, bytes) in &additions.blobs {
        let target = place.join(digest.hex());
        if !fs::symlink_metadata(&target).is_ok_and(|found| found.is_file()) {
            write_whole(&target, |out| out.write_all(bytes))?;
        }
    }
    let (list, bytes) = &additions.list;
    write_whole(&folder.join(list), |out| out.write_all(bytes))
}

/// Waits until nobody else holds a folder, and holds it as long as the returned value lives.
pub fn hold(folder: &Path) -> Result<File, OutputError> {
    let handle = File::open(folder).map_err(failed("open", folder))?;
    rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed("lock", folder)(error.into()))?;
    Ok(handle)
}

/// Writes a file so that it appears whole or not at all.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
    write_checked(path, write, |_| Ok(()))
}

/// Writes a file that appears only if it is good when it is read again.
pub fn write_checked(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    check: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), OutputError> {
    let mut draft = DraftFile::begin(parent(path)).map_err(failed("write", path))?;
    {
        let mut out = BufWriter::with_capacity(1 << 20, draft.file_mut());
        write(&mut out).and_then(|()| out.flush()).map_err(failed("write", path))?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    draft.file().set_permissions(mode).map_err(failed("write", path))?;
    check(&draft.path()).map_err(failed("write", path))?;
    draft.appear(path).map_err(failed("write", path))
}

/// Returns the folder that holds what a path names.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder that is filled out of sight and appears whole.
#[derive(Debug)]
pub struct NewFolder {
    draft: DraftFolder,
    target: PathBuf,
}

impl NewFolder {
    /// Begins a folder that will be called `target`, beside which it is filled.
    pub fn begin(target: &Path) -> Result<Self, OutputError> {
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        let draft = DraftFolder::begin(parent).map_err(failed("make a folder in", parent))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(draft.path(), mode).map_err(failed("write", draft.path()))?;
        Ok(Self { draft, target: target.to_owned() })
    }

    /// Writes a file of the folder; its mode is the same under every umask.
    pub fn file(
        &self,
        name: &str,
        program: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let path = self.draft.path().join(name);
        // What went wrong is said of the place that people know.
        let shown = self.target.join(name);
        let fill = || -> io::Result<()> {
            let file = File::options().write(true).create_new(true).open(&path)?;
            let mut out = BufWriter::with_capacity(1 << 20, &file);
            write(&mut out)?;
            out.flush()?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(if program { 0o755 } else { 0o644 }))
        };
        fill().map_err(failed("write", &shown))
    }

    /// Shows the folder under its name, in one step. Of what stood there, everything but the files that `own` names is kept.
    pub fn appear(self, own: impl Fn(&str) -> bool) -> Result<(), OutputError> {
        let Self { draft, target } = self;
        // Not a draft's name: what a person keeps in the old folder is not swept away where this is killed in the middle.
        let mut name = std::ffi::OsString::from(".parvis-old-");
        name.push(target.file_name().unwrap_or_default());
        let old = target.with_file_name(name);
        let rename = |from: &Path, to: &Path, flags| {
            rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags).map_err(io::Error::from)
        };
        // Two that replace one folder do so one after the other.
        let mut held = None;
        draft.appear(|draft| match rename(draft, &target, rustix::fs::RenameFlags::NOREPLACE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                held = Some(hold(parent(&target))?);
                settle(&old, &target, &own)?;
                fs::rename(draft, &old)
                    .and_then(|()| rename(&old, &target, rustix::fs::RenameFlags::EXCHANGE))
                    .map_err(failed("replace", &target))
            }
            other => other.map_err(failed("write", &target)),
        })?;
        settle(&old, &target, &own)?;
        drop(held);
        Ok(())
    }
}

/// Moves from an old folder into the new one what is not parvis's own, then removes it. There may be none.
fn settle(old: &Path, target: &Path, own: impl Fn(&str) -> bool) -> Result<(), OutputError> {
    let entries = match fs::read_dir(old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", old))?,
    };
    for entry in entries {
        let name = entry.map_err(failed("read", old))?.file_name();
        let is_own = name.to_str().is_some_and(&own);
        if !is_own && !target.join(&name).exists() {
            fs::rename(old.join(&name), target.join(&name)).map_err(failed("keep", &target.join(&name)))?;
        }
    }
    fs::remove_dir_all(old).map_err(failed("remove", old))
}

/// What stands in a tar: bytes at hand, or a file of a known size.
#[derive(Debug, Clone)]
pub enum MemberContent<'a> {
    Bytes(&'a [u8]),
    File(PathBuf, u64),
}

/// A file of a tar.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub name: String,
    pub program: bool,
    pub content: MemberContent<'a>,
}

/// Hashes what passes.
pub struct Hashing<'a> {
    pub out: &'a mut dyn Write,
    pub hasher: &'a mut Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a tar of files, all owned by root and of one date, in the order that is given; it appears whole or not at all. Returns its
/// digest.
pub fn write_tar(path: &Path, members: &[Member<'_>], date: i64) -> Result<FileDigest, OutputError> {
    let mut hasher = Hasher::new();
    write_whole(path, |out| {
        let out = &mut Hashing { out, hasher: &mut hasher };
        for member in members {
            let name = TreePath::parse(member.name.as_bytes()).map_err(io::Error::other)?;
            let mut put = |size: u64, content: &mut dyn Read| {
                let entry = tar::member(size, member.program, date);
                tar::write_entry(out, &name, &entry, content, None).map_err(io::Error::other)
            };
            match &member.content {
                MemberContent::Bytes(bytes) => put(bytes.len() as u64, &mut &bytes[..])?,
                MemberContent::File(path, size) => put(*size, &mut File::open(path)?)?,
            }
        }
        out.write_all(&[0; 1024])
    })?;
    Ok(hasher.finish())
}

/// Makes a folder with those above it, unless it is there.
pub fn make_folder(path: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(path).map_err(failed("make", path))
}

/// Makes a folder for drafts inside another, on the same file system; it goes when the value is dropped.
pub fn draft_folder(within: &Path) -> Result<DraftFolder, OutputError> {
    DraftFolder::begin(within).map_err(failed("make a folder in", within))
}

/// Reads a file of at most `limit` bytes; nothing where there is none, or where it is no file.
pub fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, OutputError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
        Ok(found) if !found.is_file() || found.len() > limit => return Ok(None),
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(failed("read", path))
}

/// Whether a name is free for a folder: nothing stands there, or an empty folder.
pub fn is_free(folder: &Path) -> Result<bool, OutputError> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed("look at", folder)(error)),
        Ok(found) if !found.is_dir() => return Ok(false),
        Ok(_) => {}
    }
    Ok(fs::read_dir(folder).map_err(failed("read", folder))?.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_and_keeps_what_is_not_its_own() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("bundle");
        let make = |content: &[u8]| {
            let folder = NewFolder::begin(&target).unwrap();
            folder.file("a", false, |out| out.write_all(content)).unwrap();
            assert!(content != b"one" || !target.exists(), "nothing is seen before it is whole");
            folder.file("b", true, |out| out.write_all(b"b")).unwrap();
            folder.appear(|name| ["a", "b", "old"].contains(&name)).unwrap();
        };
        assert!(is_free(&target).unwrap());
        make(b"one");
        assert!(!is_free(&target).unwrap());
        fs::write(target.join("old"), "").unwrap();
        fs::write(target.join("backup.sql"), "rows").unwrap();
        make(b"two");
        let mut names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b", "backup.sql"]);
        assert_eq!(fs::read(target.join("a")).unwrap(), b"two");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no draft is left");
        drop(NewFolder::begin(&target).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nor one that was given up");
    }

    #[test]
    fn a_layout_is_written_once_and_loses_what_it_does_not_need() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        let blob = |content: &[u8]| {
            let digest = BlobDigest::of(content);
            fs::write(store.join(digest.hex()), content).unwrap();
            (digest, store.join(digest.hex()))
        };
        let (one, two) = (blob(b"one"), blob(b"two"));
        let out = folder.path().join("out");
        assert!(write_layout(&out, &[one.clone(), two.clone()], b"{1}").unwrap());
        assert!(!write_layout(&out, &[one.clone(), two.clone()], b"{1}").unwrap());
        assert!(write_layout(&out, std::slice::from_ref(&two), b"{2}").unwrap());
        assert!(!out.join("blobs/sha256").join(one.0.hex()).exists());
        assert_eq!(fs::read(out.join("blobs/sha256").join(two.0.hex())).unwrap(), b"two");
    }

    #[test]
    fn a_file_that_cannot_be_finished_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.tar");
        fs::write(&path, "old").unwrap();
        assert!(write_whole(&path, |out| out.write_all(b"new").and(Err(io::Error::other("no")))).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
