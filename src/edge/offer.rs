//! An offer: a folder of files that is laid over a tree in a sandbox, and is gone with the value that made it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::tree::TreePath;

/// A folder that a sandbox takes as its uppermost layer.
#[derive(Debug)]
pub struct Offer {
    root: PathBuf,
}

/// An offer that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make `{path}`")]
pub struct OfferError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Offer {
    /// Takes over an empty folder.
    pub fn open(root: PathBuf) -> Result<Self, OfferError> {
        let offer = Self { root };
        finish(&offer.root, 0o755)?;
        Ok(offer)
    }

    /// Returns the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a folder with all above it.
    pub fn folder(&self, at: &TreePath) -> Result<(), OfferError> {
        let mut above: Vec<TreePath> =
            std::iter::successors(Some(at.clone()), TreePath::parent).take_while(|path| !path.is_root()).collect();
        above.reverse();
        for folder in above {
            let path = self.path(&folder);
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(OfferError { path, source }),
                Err(_) => {}
                Ok(()) => finish(&path, 0o755)?,
            }
        }
        Ok(())
    }

    /// Writes a file.
    pub fn write(&self, at: &TreePath, content: &[u8]) -> Result<(), OfferError> {
        let path = self.prepare(at)?;
        fs::write(&path, content).map_err(|source| OfferError { path: path.clone(), source })?;
        finish(&path, 0o644)
    }

    /// Puts a file of the store there, without copying it where the file system allows that.
    pub fn link(&self, at: &TreePath, from: &Path) -> Result<(), OfferError> {
        let path = self.prepare(at)?;
        match fs::hard_link(from, &path) {
            Ok(()) => return Ok(()),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            // Too many links, or another file system.
            Err(_) => {}
        }
        fs::copy(from, &path).map_err(|source| OfferError { path: path.clone(), source })?;
        finish(&path, 0o644)
    }

    fn prepare(&self, at: &TreePath) -> Result<PathBuf, OfferError> {
        if let Some(parent) = at.parent() {
            self.folder(&parent)?;
        }
        Ok(self.path(at))
    }

    fn path(&self, at: &TreePath) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(at.as_bytes()))
    }
}

/// Gives a path its mode whatever the umask is.
fn finish(path: &Path, mode: u32) -> Result<(), OfferError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|source| OfferError { path: path.to_owned(), source })
}

impl Drop for Offer {
    fn drop(&mut self) {
        // What cannot be removed now goes with the leftovers of dead processes.
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_readable_whatever_the_umask_and_gone_at_the_end() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("offer");
        fs::create_dir(&root).unwrap();
        let stored = place.path().join("stored");
        fs::write(&stored, "x").unwrap();
        let at = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        let offer = Offer::open(root.clone()).unwrap();
        offer.write(&at("/parvis/list"), b"a").unwrap();
        offer.link(&at("/parvis/files/x"), &stored).unwrap();
        offer.link(&at("/parvis/files/x"), &stored).unwrap();
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("parvis"), mode("parvis/list")), (0o755, 0o644));
        assert_eq!(fs::read_to_string(root.join("parvis/files/x")).unwrap(), "x");
        drop(offer);
        assert!(!root.exists() && stored.exists());
    }
}
