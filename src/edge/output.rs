//! What a build leaves where people look for it: an OCI layout in a folder, an archive in a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::model::digest::BlobDigest;

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

/// Writes a file so that it appears whole or not at all.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".parvis-").tempfile_in(folder).map_err(failed("write", path))?;
    {
        let mut out = BufWriter::with_capacity(1 << 20, draft.as_file_mut());
        write(&mut out).and_then(|()| out.flush()).map_err(failed("write", path))?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    draft.as_file().set_permissions(mode).map_err(failed("write", path))?;
    draft.persist(path).map_err(|error| failed("write", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
