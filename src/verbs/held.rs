//! What is asked about: the project's lock, that of a release or of a rebuild, or the images of a layout or an archive.

use std::collections::BTreeMap;
use std::path::Path;

use super::Context;
use super::image::{from_layout, refused};
use super::workplace::{LOCK_FILE, Workplace, read_lock};
use crate::edge::layout::{self, Handed};
use crate::failure::Failure;
use crate::image::archive::{self, Files, FoundImage, TarFiles};
use crate::image::diff::STATUS;
use crate::image::reader::{self, Hashing, Limits};
use crate::model::lock::Lock;
use crate::model::name::{ImageName, Suite};
use crate::model::number::Number;
use crate::model::releases;
use crate::plan::news::{Held, order};

/// The packages that somebody has.
pub struct Of {
    pub held: Vec<Held>,
    /// Its images, in the order in which they are named.
    pub images: Vec<ImageName>,
    /// The lock that says so, where it is one.
    pub lock: Option<Lock>,
    /// What people call it.
    pub shown: String,
}

/// Finds what is asked about; the project's lock where nothing is named.
pub fn find(workplace: &Workplace, context: &Context<'_>, what: Option<&str>) -> Result<Of, Failure> {
    let Some(what) = what else {
        let lock = workplace.lock_if_any()?.ok_or_else(|| {
            Failure::project(format!("there is no `{LOCK_FILE}`: nothing is decided yet")).hint("run `parvis lock`")
        })?;
        return Ok(of_lock(lock, LOCK_FILE));
    };
    if what.parse::<Number>().is_ok() {
        let path = format!("{}/{what}.lock", releases::FOLDER);
        let lock = read_lock(&workplace.folder, &path)?.ok_or_else(|| {
            Failure::project(format!("there is no `{path}`: no release `{what}` is known here"))
                .hint("fetch the project's newest state, or name an image's archive")
        })?;
        return Ok(of_lock(lock, &path));
    }
    let found = layout::locate(what).filter(|(_, name)| name.is_none());
    let (path, _) = found.ok_or_else(|| {
        Failure::project(format!("`{what}` is neither the number of a release nor a layout or archive"))
            .hint("leave it out for the project's own lock")
    })?;
    let held = of_path(context, &path)?;
    Ok(Of { images: order(held.iter().flat_map(|held| &held.images)), held, lock: None, shown: path.display().to_string() })
}

/// Returns what a lock says.
pub fn of_lock(lock: Lock, shown: &str) -> Of {
    let images = order(lock.images.iter().map(|image| &image.name));
    Of { held: Held::of_lock(&lock), images, lock: Some(lock), shown: shown.to_owned() }
}

/// Returns the archive that each suite of the project belongs to.
pub fn archives(workplace: &Workplace) -> BTreeMap<Suite, String> {
    workplace.project.suites.iter().map(|rule| (rule.name.clone(), rule.archive.clone())).collect()
}

/// Reads the package databases of all images of a layout or archive.
pub fn of_path(context: &Context<'_>, path: &Path) -> Result<Vec<Held>, Failure> {
    match layout::open(path).map_err(|error| from_layout(&error))? {
        Handed::Folder(folder) => of_files(context, &folder, path),
        Handed::File(file) => {
            let files = TarFiles::new(&file).map_err(|error| refused(path, error.into()))?;
            of_files(context, &files, path)
        }
    }
}

fn of_files(context: &Context<'_>, files: &dyn Files, path: &Path) -> Result<Vec<Held>, Failure> {
    let images = archive::read(files).map_err(|error| refused(path, error.into()))?;
    let task = context.screen.work("reading", Some(images.len() as u64), crate::screen::Unit::Items);
    let mut held = Vec::new();
    for image in &images {
        let name = name(image).ok_or_else(|| Failure::bug("an image has no name that can be shown"))?;
        task.detail(name.as_str());
        let mut hashing = Hashing::default();
        reader::read_image(files, image, Limits::default(), &mut hashing).map_err(|error| refused(path, error))?;
        if let Some(status) = hashing.kept.get(STATUS.as_bytes()) {
            held.extend(Held::of_status(status, &name).map_err(|error| {
                Failure::project(format!("the package database of `{name}` in `{}` cannot be read", path.display()))
                    .because(error)
                    .hint("the image is damaged, or was not made from Debian's packages")
            })?);
        }
        task.advance(1);
    }
    Ok(Held::merged(held))
}

/// Returns what an image is called: the last part of its first name, without the tag.
fn name(image: &FoundImage) -> Option<ImageName> {
    let short = |name: &String| {
        let last = name.rsplit('/').next().unwrap_or(name);
        last.split([':', '@']).next().unwrap_or(last).parse().ok()
    };
    let digest = || format!("image-{}", &image.config.digest.hex()[..12]).parse().ok();
    image.names.iter().find_map(short).or_else(digest)
}
