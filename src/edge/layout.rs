//! Images that people hand over, opened to be read: a layout in a folder, an archive in a file.
//!
//! ```text
//! FOLDER                a layout: `index.json` and `blobs/sha256/…` are opened below it, and no link is followed
//! FILE                  an archive: read at any place, never unpacked
//! FOLDER:NAME FILE:NAME one image of several
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::image::archive::{Files, ReadAt};
use crate::model::tree::TreePath;

/// What somebody handed over.
#[derive(Debug)]
pub enum Handed {
    Folder(LayoutFolder),
    File(ArchiveFile),
}

/// Something that cannot be opened as a layout or archive.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("cannot open `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is neither a folder nor a file")]
    Kind { path: PathBuf },
    #[error("`{path}` is compressed as a whole")]
    Compressed { path: PathBuf, program: &'static str },
}

impl LayoutError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it readable for you, or copy it to a place of yours".into())
            }
            Self::Open { .. } => None,
            Self::Kind { .. } => Some("save the image to a file first; a pipe cannot be read twice".into()),
            Self::Compressed { program, .. } => Some(format!("unpack it with `{program}`, then name the file that this leaves")),
        }
    }
}

/// Divides `PATH:NAME` where a path stands; `None` where nothing stands at any reading of it.
#[must_use]
pub fn locate(text: &str) -> Option<(PathBuf, Option<&str>)> {
    if Path::new(text).exists() {
        return Some((text.into(), None));
    }
    let parts = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    parts
        .into_iter()
        .find(|(path, name)| !name.is_empty() && Path::new(path).exists())
        .map(|(path, name)| (path.into(), Some(name)))
}

/// Opens a layout folder or an archive file. The path itself may be a link; nothing below it may.
pub fn open(path: &Path) -> Result<Handed, LayoutError> {
    let failed = |source: io::Error| LayoutError::Open { path: path.to_owned(), source };
    // Without waiting: a pipe would let this hang until somebody writes.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let about = fstat(&handle).map_err(|error| failed(error.into()))?;
    match FileType::from_raw_mode(about.st_mode) {
        FileType::Directory => Ok(Handed::Folder(LayoutFolder(handle))),
        FileType::RegularFile => {
            let file = ArchiveFile(File::from(handle));
            let mut start = [0; 4];
            let read = file.0.read_at(&mut start, 0).map_err(failed)?;
            match program(&start[..read]) {
                Some(program) => Err(LayoutError::Compressed { path: path.to_owned(), program }),
                None => Ok(Handed::File(file)),
            }
        }
        _ => Err(LayoutError::Kind { path: path.to_owned() }),
    }
}

/// Returns the program that unpacks a file with this beginning, where it is compressed.
fn program(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd] => Some("unzstd"),
        [0xfd, b'7', b'z', b'X'] => Some("unxz"),
        _ => None,
    }
}

/// A layout in a folder.
#[derive(Debug)]
pub struct LayoutFolder(OwnedFd);

impl Files for LayoutFolder {
    fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
        // Names come from the layout's own documents: only one that says where it leads is opened.
        let plain = TreePath::parse(name.as_bytes()).is_ok_and(|path| !path.is_root() && path.as_bytes() == name.as_bytes());
        if !plain {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let handle = match openat2(&self.0, name, flags, Mode::empty(), within) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => return Err(io::Error::other(format!("`{name}` is a link, which is not followed"))),
            Err(error) => return Err(io::Error::new(io::Error::from(error).kind(), format!("cannot open `{name}`: {error}"))),
        };
        let stat = fstat(&handle)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other(format!("`{name}` is not a file")));
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        // A file that grows meanwhile is read as long as it was.
        Ok(Some((size, Box::new(File::from(handle).take(size)))))
    }
}

/// An archive in a file.
#[derive(Debug)]
pub struct ArchiveFile(File);

impl ReadAt for ArchiveFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(folder: &Path, name: &str) -> io::Result<Option<String>> {
        let Ok(Handed::Folder(layout)) = open(folder) else { panic!("`{}` is no folder", folder.display()) };
        let Some((size, mut content)) = layout.open(name)? else { return Ok(None) };
        let mut text = String::new();
        content.read_to_string(&mut text)?;
        assert_eq!(size, text.len() as u64);
        Ok(Some(text))
    }

    #[test]
    fn nothing_outside_a_layout_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let layout = place.path().join("layout");
        fs::create_dir_all(layout.join("blobs")).unwrap();
        fs::write(place.path().join("secret"), "secret").unwrap();
        fs::write(layout.join("index.json"), "{}").unwrap();
        symlink("../secret", layout.join("link")).unwrap();
        symlink(place.path(), layout.join("above")).unwrap();
        symlink(&layout, place.path().join("own")).unwrap();
        assert_eq!(read(&layout, "index.json").unwrap().as_deref(), Some("{}"));
        assert_eq!(read(&place.path().join("own"), "index.json").unwrap().as_deref(), Some("{}"));
        for name in
            ["../secret", "/etc/hostname", "blobs/../../secret", "", ".", "a\0b", "absent", "index.json/x", "./index.json"]
        {
            assert_eq!(read(&layout, name).unwrap(), None, "{name:?}");
        }
        for name in ["link", "above/secret", "blobs"] {
            assert!(read(&layout, name).unwrap_err().to_string().starts_with(&format!("`{name}` is ")), "{name}");
        }
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(open(&pipe), Err(LayoutError::Kind { .. })));
        assert!(read(place.path(), "pipe").unwrap_err().to_string().contains("is not a file"));
    }

    #[test]
    fn a_compressed_archive_is_known_by_its_beginning() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.tar.gz");
        fs::write(&file, [0x1f, 0x8b, 8, 0]).unwrap();
        assert!(open(&file).unwrap_err().hint().unwrap().contains("gunzip"));
        fs::write(&file, "").unwrap();
        assert!(matches!(open(&file), Ok(Handed::File(_))));
    }

    #[test]
    fn a_name_follows_the_path_that_stands_there() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a:1.tar");
        fs::write(&file, "").unwrap();
        let text = file.to_str().unwrap();
        assert_eq!(locate(text), Some((file.clone(), None)));
        let named = format!("{text}:tests/base:dev");
        assert_eq!(locate(&named), Some((file.clone(), Some("tests/base:dev"))));
        assert_eq!(locate(&format!("{text}:")), None);
        assert_eq!(locate("/absent:base"), None);
    }
}
