//! What is asked about: the project's lock, that of a release or of a rebuild, or the images of a layout or an archive.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::image::{from_layout, refused};
use super::published;
use super::registry::Reach;
use super::workplace::{LOCK_FILE, LOCK_LIMIT, Workplace, parse_lock, read_lock};
use super::{Context, in_language};
use crate::bundle::manifest::{ARCHIVE, MANIFEST};
use crate::edge::layout::{self, ArchiveFile, Handed};
use crate::edge::project::ProjectFolder;
use crate::failure::Failure;
use crate::image::archive::{self, ArchiveError, Files, FoundImage, TarFiles};
use crate::image::diff::STATUS;
use crate::image::reader::{self, Hashing, Limits};
use crate::model::language::both;
use crate::model::lock::Lock;
use crate::model::name::{ImageName, Suite};
use crate::model::number::Number;
use crate::model::{rebuild, releases};
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

/// Opens the project, without which nobody knows which archive is to be asked, and by which keys it is known.
pub fn project(context: &Context<'_>) -> Result<Workplace, Failure> {
    if ProjectFolder::find(&context.folder).is_err() {
        let language = context.language;
        let message = language.choose(
            "there is no project here, which says which archive to ask and by which keys to believe it",
            "il n’y a pas de projet ici : c’est lui qui dit quelle archive interroger, et à quelles clés la reconnaître",
        );
        let hint = language.choose(
            "run it in a clone of the project; without one, ask the publisher whether a newer version is out",
            "lancez-la dans une copie du projet ; à défaut, demandez à l’éditeur si une version plus récente est parue",
        );
        return Err(in_language(Failure::project(message).hint(hint), language));
    }
    Workplace::open(context)
}

/// Finds what is asked about; the project's lock where nothing is named. `kept_in` is a registry that has releases.
pub fn find(
    workplace: &Workplace,
    context: &Context<'_>,
    what: Option<&str>,
    kept_in: Option<&str>,
    reach: &Reach,
) -> Result<Of, Failure> {
    let own = || {
        workplace.lock_if_any()?.ok_or_else(|| {
            Failure::project(format!("there is no `{LOCK_FILE}`: nothing is decided yet")).hint("run `parvis lock`")
        })
    };
    let Some(what) = what else { return Ok(of_lock(own()?, LOCK_FILE)) };
    if let Some(of) = numbered(workplace, context, what, kept_in, reach)? {
        return Ok(of);
    }
    if let Some(name) = what.parse::<ImageName>().ok().filter(|name| workplace.catalog.recipe(name).is_some()) {
        let Of { mut held, lock, .. } = of_lock(own()?, LOCK_FILE);
        held.retain(|held| held.images.contains(&name));
        for held in &mut held {
            held.images.retain(|image| *image == name);
        }
        return Ok(Of { held, images: vec![name], lock, shown: format!("{what} in {LOCK_FILE}") });
    }
    let found = layout::locate(what).filter(|(_, name)| name.is_none());
    let (path, _) = found.ok_or_else(|| {
        Failure::project(format!("`{what}` is neither an image of the project, the number of a release, nor a folder or archive"))
            .hint("leave it out for the project's own lock; an image in a registry is fetched with `parvis pull` first")
    })?;
    let shown = path.display().to_string();
    // The folder of a release or of a rebuild has the lock beside all else.
    let lock = path.join(LOCK_FILE);
    if lock.is_file()
        && !path.join("index.json").exists()
        && let Handed::Folder(folder) = layout::open(&path).map_err(|error| from_layout(&error))?
    {
        let unreadable = |error: std::io::Error| Failure::world(format!("cannot read `{}`", lock.display())).because(error);
        let (_, file) = folder.open(LOCK_FILE).map_err(unreadable)?.ok_or_else(|| unreadable(ErrorKind::NotFound.into()))?;
        let mut bytes = Vec::new();
        file.take(LOCK_LIMIT).read_to_end(&mut bytes).map_err(unreadable)?;
        return Ok(of_lock(parse_lock(bytes, &lock.display().to_string())?, &lock.display().to_string()));
    }
    let held = of_path(context, &path)?;
    Ok(Of { images: order(held.iter().flat_map(|held| &held.images)), held, lock: None, shown })
}

/// Finds the lock of a release or of a rebuild: in the project, else in the registry.
fn numbered(
    workplace: &Workplace,
    context: &Context<'_>,
    what: &str,
    kept_in: Option<&str>,
    reach: &Reach,
) -> Result<Option<Of>, Failure> {
    let rebuilt = what.parse::<rebuild::Name>().is_ok();
    let Some(number) = what.parse::<Number>().ok().map(Some).or_else(|| rebuilt.then_some(None)) else { return Ok(None) };
    let paths = [format!("{}/{what}.lock", releases::FOLDER), format!("{}/{what}/{LOCK_FILE}", rebuild::FOLDER)];
    for path in paths.iter().filter(|path| kept_in.is_none() && (rebuilt || path.ends_with(".lock"))) {
        if let Some(lock) = read_lock(&workplace.folder, path)? {
            return Ok(Some(of_lock(lock, path)));
        }
    }
    if let (Some(number), Some(prefix)) = (number, kept_in.or(workplace.project.registry.as_deref()))
        && let Some(of) = of_registry(context, prefix, number, reach)?
    {
        return Ok(Some(of));
    }
    Err(Failure::project(format!("there is no `{}`: no release `{what}` is known here", paths[0]))
        .hint("fetch the project's newest state, name an image's archive, or a registry that has the release with `--in`"))
}

/// Returns the lock that a registry has of a release; nothing where it has no such release.
pub fn of_registry(context: &Context<'_>, prefix: &str, number: Number, reach: &Reach) -> Result<Option<Of>, Failure> {
    let Some(found) = published::find(context, prefix, number, reach)? else { return Ok(None) };
    let place = published::place(prefix, number);
    let bytes = found
        .file(LOCK_FILE, LOCK_LIMIT)?
        .ok_or_else(|| Failure::world(format!("`{place}` has no `{LOCK_FILE}`")).hint("ask those who publish there"))?;
    Ok(Some(of_lock(parse_lock(bytes, &place)?, &place)))
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
        Handed::Folder(folder) => {
            let has = |name: &str| folder.open(name).map(|found| found.is_some());
            let unreadable = |error: std::io::Error| Failure::world(format!("cannot read `{}`", path.display())).because(error);
            // A bundle as it was unpacked has its images in one file.
            if has("index.json").map_err(unreadable)? {
                return of_files(context, &folder, path);
            }
            if has(ARCHIVE).map_err(unreadable)? {
                return of_path(context, &path.join(ARCHIVE));
            }
            if has(MANIFEST).map_err(unreadable)? {
                return Err(no_images(context, path));
            }
            of_files(context, &folder, path)
        }
        Handed::File(file) => {
            let wrong = |error: ArchiveError| refused(path, error.into());
            let files = TarFiles::new(&file).map_err(wrong)?;
            // The images of a download are an archive in its one folder.
            let inner = files.names().find(|name| {
                let folder = name.strip_suffix(format!("/{ARCHIVE}").as_bytes());
                folder.is_some_and(|folder| !folder.contains(&b'/'))
            });
            match inner.and_then(|name| files.within(std::str::from_utf8(name).ok()?)) {
                Some(inner) => of_files(context, &TarFiles::new(&inner).map_err(wrong)?, path),
                None if is_bundle(&files) => Err(no_images(context, path)),
                None => of_files(context, &files, path),
            }
        }
    }
}

/// Whether a download is a bundle, with its images or without.
fn is_bundle(files: &TarFiles<'_, ArchiveFile>) -> bool {
    files.names().any(|name| name.ends_with(format!("/{MANIFEST}").as_bytes()))
}

/// Says that a bundle has no images: they are fetched from a registry.
fn no_images(context: &Context<'_>, path: &Path) -> Failure {
    let (path, language) = (path.display(), context.language);
    let message = both!(
        language,
        "`{path}` says which images it runs, and does not bring them along",
        "`{path}` dit quelles images il utilise, mais ne les contient pas"
    );
    let hint = language.choose(
        "name the download with the images in it (without `-compose` in its name), or the number of the release",
        "indiquez le téléchargement qui contient les images (sans `-compose` dans son nom), ou le numéro de la version",
    );
    in_language(Failure::project(message).hint(hint), language)
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
