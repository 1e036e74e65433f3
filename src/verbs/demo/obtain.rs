//! A new version that is named by its number: fetched from its registry, or made of what was built in the project.

use std::path::{Path, PathBuf};

use super::change_words::{Say, Trouble};
use super::place::{Place, Voice};
use super::upgrade::{genuine, genuine_rebuild};
use super::{Upgrade, words};
use crate::bundle::manifest::{ARCHIVE, MANIFEST};
use crate::edge::output;
use crate::edge::place::Seekable;
use crate::edge::registry::Access;
use crate::failure::Failure;
use crate::image::archive::{Files as _, TarFiles};
use crate::model::digest::BlobDigest;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::rebuild;
use crate::model::reference::{Pick, Reference};
use crate::model::release::Release;
use crate::trust::bundle::Bundle;
use crate::trust::{keyring, release};
use crate::verbs::registry::repository;
use crate::verbs::release::downloads;
use crate::verbs::release::publish::RELEASES;
use crate::verbs::save::{Which, from_output};
use crate::verbs::verify::What;
use crate::verbs::workplace::{Workplace, open_store};
use crate::verbs::{Context, bundle, published, pull, rebuild as rebuilds};

/// Bytes of a download without images.
const COMPOSE_LIMIT: u64 = 64 << 20;

/// Bytes of a layer that is taken from the version that runs, instead of being fetched.
const LAYER_LIMIT: u64 = 1 << 30;

/// A new version on this machine.
pub struct Obtained {
    pub path: PathBuf,
    /// Whose it is was verified already, in another way than by a statement in its folder.
    pub verified: bool,
}

/// Finds what somebody named: a file or folder, a version of the project, or a release in a registry. What is fetched is verified before.
pub fn obtain(named: &Path, from: &Place, upgrade: &Upgrade, voice: Voice, context: &Context<'_>) -> Result<Obtained, Failure> {
    let path = context.folder.join(named);
    let text = named.to_str().filter(|_| !path.exists());
    let Some(text) = text else { return Ok(Obtained { path, verified: false }) };
    if let Ok(name) = text.parse::<rebuild::Name>()
        && let Some(path) = rebuilt(name, from, upgrade, voice, context)?
    {
        return Ok(Obtained { path, verified: true });
    }
    if let Ok(number) = text.parse::<Number>() {
        if let Some(path) = released(number, from, context)? {
            return Ok(Obtained { path, verified: false });
        }
        let prefix =
            upgrade.kept_in.clone().or_else(|| home(from)).or_else(|| Workplace::open(context).ok()?.project.registry.clone());
        let prefix = prefix.ok_or_else(|| voice.change(Trouble::NoRegistry { version: text.to_owned() }))?;
        return fetch(&prefix, number, from, upgrade, voice, context);
    }
    match text.parse::<Reference>() {
        Ok(Reference { repository, pick: Some(Pick::Tag(tag)) }) if tag.as_str().parse::<Number>().is_ok() => {
            let name = repository.to_string();
            let prefix = name.strip_suffix(&format!("/{RELEASES}")).unwrap_or(&name).to_owned();
            let number = tag.as_str().parse().map_err(|_| voice.change(Trouble::NoFile))?;
            fetch(&prefix, number, from, upgrade, voice, context)
        }
        // What is no name of a release is a file that is not there.
        _ => Ok(Obtained { path, verified: false }),
    }
}

/// Returns the registry that the running version is from, as the statement in its folder says. What is found there is verified by itself.
fn home(from: &Place) -> Option<String> {
    let bytes = from.folder.read(release::FILE).ok()??;
    release::parse(&Bundle::parse(&bytes).ok()?).ok()?.registry
}

/// Returns the download of a release that was made in this project.
fn released(number: Number, from: &Place, context: &Context<'_>) -> Result<Option<PathBuf>, Failure> {
    let Ok(workplace) = Workplace::open(context) else { return Ok(None) };
    let folder = downloads::usual_folder(&workplace, number);
    let fitting = downloads::names(&workplace, number)?.into_iter().find(|called| {
        called.with_images && called.stack.as_str() == from.manifest.name.as_str() && called.platform.as_str() == context.machine
    });
    Ok(fitting.map(|called| folder.join(format!("{}.tar", called.name()))).filter(|path| path.is_file()))
}

/// Makes the bundle of a security rebuild of this project, whose images are the newest that were built. The rebuild is verified first.
fn rebuilt(
    name: rebuild::Name,
    from: &Place,
    upgrade: &Upgrade,
    voice: Voice,
    context: &Context<'_>,
) -> Result<Option<PathBuf>, Failure> {
    let Ok(workplace) = Workplace::open(context) else { return Ok(None) };
    let Some(record) = rebuilds::record(&workplace, name)? else { return Ok(None) };
    let folder = workplace.folder.root().join(rebuild::FOLDER).join(name.to_string());
    genuine_rebuild(&folder, upgrade, voice, context)?;
    let stack = from.manifest.name.as_str();
    let place = workplace.folder.root().join("out/bundle").join(format!("{stack}-{name}"));
    if !place.join(MANIFEST).is_file() {
        let other = || voice.change(Trouble::OtherBuilt { version: name.to_string() });
        if rebuilds::lock_of(&workplace)? != Some(record.lock) {
            return Err(other());
        }
        bundle::of_stack(context, stack, true, &place, Which::tagged(&name.to_string()))?;
    }
    let made = Place::open(&place, voice)?;
    let is_of_it = |image: &crate::bundle::manifest::BundledImage| {
        record.all.iter().any(|listed| listed.name.as_str() == image.name.as_str() && listed.manifest == image.manifest)
    };
    if !made.manifest.images.iter().all(is_of_it) {
        return Err(voice.change(Trouble::OtherBuilt { version: name.to_string() }));
    }
    Ok(Some(place))
}

/// Fetches a release from its registry into a folder beside that of the running version.
fn fetch(
    prefix: &str,
    number: Number,
    from: &Place,
    upgrade: &Upgrade,
    voice: Voice,
    context: &Context<'_>,
) -> Result<Obtained, Failure> {
    let place = published::place(prefix, number);
    let absent = || voice.change(Trouble::NotPublished { place: place.clone() });
    let found = published::find(context, prefix, number, &upgrade.reach)?.ok_or_else(absent)?;
    let limit = crate::trust::bundle::LIMIT as u64;
    let seal = found.file(release::FILE, limit)?.ok_or_else(absent)?;
    let keyring = found.file(keyring::FILE, limit)?;
    // Who says so is asked before anything else is fetched, and of the folder once more.
    genuine(What::Statement { bytes: &seal, keyring: keyring.as_deref(), name: &place }, Some(number), upgrade, voice, context)?;
    let stated = Bundle::parse(&seal).ok().and_then(|bundle| release::parse(&bundle).ok()).ok_or_else(absent)?;
    if stated.version != number {
        return Err(voice.change(Trouble::OtherNumber { version: stated.version.to_string(), place }));
    }
    let stem = stem(&stated, from, context).ok_or_else(|| voice.change(Trouble::NoBundleThere { place: place.clone() }))?;
    let parent = from.folder.path().parent().unwrap_or_else(|| Path::new("."));
    let folder = parent.join(&stem);
    if !folder.join(MANIFEST).is_file() {
        let name = format!("{stem}.tar");
        let tar =
            found.file(&name, COMPOSE_LIMIT)?.ok_or_else(|| voice.change(Trouble::NoBundleThere { place: place.clone() }))?;
        let path = parent.join(&name);
        output::write_whole(&path, |out| out.write_all(&tar)).map_err(from_output)?;
        genuine(What::Target(&path.display().to_string()), Some(number), upgrade, voice, context)?;
        Place::named(&path, voice)?;
    }
    let to = Place::open(&folder, voice)?;
    if !folder.join(ARCHIVE).is_file() {
        context.screen.note(&Say::Fetches { place: prefix.to_owned() }.text(context.language));
        images(prefix, &stated, &to, from, upgrade, context)?;
    }
    Ok(Obtained { path: folder, verified: false })
}

/// Returns what the download without images is called that fits to this machine and to what runs.
fn stem(release: &Release, from: &Place, context: &Context<'_>) -> Option<String> {
    let ending = format!("-{}-compose", context.machine);
    let stems = release.files().filter_map(|(name, ..)| name.strip_suffix(&format!("/{MANIFEST}")));
    let fitting: Vec<&str> = stems.filter(|stem| stem.ends_with(&ending) && !stem.contains('/')).collect();
    let own = format!("-{}{ending}", from.manifest.name);
    match &fitting[..] {
        [only] => Some((*only).to_owned()),
        several => several.iter().find(|stem| stem.ends_with(&own)).map(|stem| (*stem).to_owned()),
    }
}

/// Fetches the images that the statement names into the folder of the new version, without the layers that the running one has.
fn images(
    prefix: &str,
    release: &Release,
    to: &Place,
    from: &Place,
    upgrade: &Upgrade,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let store = open_store(context)?;
    let mut wanted = Vec::new();
    for image in &to.manifest.images {
        if release.image_of(&image.manifest).is_none() {
            let (image, reference) = (image.manifest.to_string(), image.reference.clone());
            return Err(words::Problem::WrongImage { image: format!("{reference} ({image})") }.failure(context.language));
        }
        let name: ImageName = image.name.clone();
        let remote = upgrade.reach.open(context, &repository(prefix, name.as_str())?, Access::Read)?;
        wanted.push((remote, image.manifest, image.reference.clone()));
    }
    let older = from.folder.file(ARCHIVE).map_err(|error| from.voice.place(error))?.map(|(_, file)| Seekable(file));
    // An archive that cannot be read is no reason to stop: then everything is fetched.
    let older = older.as_ref().and_then(|file| TarFiles::new(file).ok());
    let have = |digest: &BlobDigest| -> Option<Vec<u8>> {
        let (size, mut layer) = older.as_ref()?.open(&format!("blobs/sha256/{}", digest.hex())).ok()??;
        let mut bytes = Vec::new();
        if size > LAYER_LIMIT {
            return None;
        }
        layer.read_to_end(&mut bytes).ok()?;
        Some(bytes).filter(|bytes| BlobDigest::of(bytes) == *digest)
    };
    pull::into_archive(&wanted, &have, &store, &to.folder.path().join(ARCHIVE), context)
}
