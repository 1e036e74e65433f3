//! Layouts and archives to which verbs add what is said of their images.

use std::path::Path;

use super::image::from_layout;
use super::registry::from_repository;
use super::save::from_output;
use crate::edge::layout::{self, ArchiveFile, Handed};
use crate::edge::output;
use crate::failure::Failure;
use crate::image::archive::{ArchiveError, Files, TarFiles};
use crate::image::layout::{Form, Layout, append};

/// Opens a layout or an archive, lets `work` add to it, and writes what was added: nothing where the work fails.
pub fn change<T>(path: &Path, work: impl FnOnce(&Layout<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    let shown = path.display().to_string();
    match layout::open(path).map_err(|error| from_layout(&error))? {
        Handed::Folder(folder) => {
            let _held = output::hold(path).map_err(from_output)?;
            let layout = Layout::open(&folder, &shown, Form::Folder).map_err(from_repository)?;
            let done = work(&layout)?;
            if let Some(additions) = layout.additions().map_err(from_repository)? {
                output::add_to_layout(path, &additions).map_err(from_output)?;
            }
            Ok(done)
        }
        Handed::File(file) => {
            drop(file);
            change_archive(path, &shown, work)
        }
    }
}

fn change_archive<T>(path: &Path, shown: &str, work: impl FnOnce(&Layout<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    // Whoever waited sees the archive that the other one left.
    let _held = output::hold(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        .map_err(from_output)?;
    let Handed::File(file) = layout::open(path).map_err(|error| from_layout(&error))? else {
        return Err(Failure::world(format!("`{shown}` became a folder meanwhile")));
    };
    let refused = |error: ArchiveError| {
        let hint = error.hint();
        Failure::project(format!("`{shown}` cannot be used as an archive of images")).because(error).maybe_hint(hint)
    };
    let files: TarFiles<'_, ArchiveFile> = TarFiles::new(&file).map_err(refused)?;
    let files_as: &dyn Files = &files;
    let layout = Layout::open(files_as, shown, Form::Archive).map_err(from_repository)?;
    let done = work(&layout)?;
    if let Some(additions) = layout.additions().map_err(from_repository)? {
        let write = |out: &mut dyn std::io::Write| append(&file, &files, &additions, out).map_err(std::io::Error::other);
        output::write_whole(path, write).map_err(from_output)?;
    }
    Ok(done)
}
