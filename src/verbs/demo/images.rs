//! The images of a bundle: those that the engine lacks are handed to it, and what it has then is held against the bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::machine::Machine;
use super::place::{Place, Voice};
use super::words::{Line, Problem};
use crate::bundle::manifest::{ARCHIVE, BundledImage};
use crate::edge::engine::EngineError;
use crate::edge::place::Seekable;
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::archive::{self, ArchiveError, ArchivedImage, Blobs, Files, FoundImage, TarFiles};
use crate::model::digest::BlobDigest;
use crate::screen::Unit;
use crate::verbs::Context;
use crate::verbs::load::{HandOver, hand_over};
use crate::verbs::save::{Built, Which};
use crate::verbs::workplace::open_store;

/// Makes sure that the engine has every image, and writes their Ids into the settings.
///
/// An Id is the digest of the configuration or, with the containerd store, that of the manifest. Either one stands for the
/// image's whole content; a name stands for nothing.
pub fn provide(place: &mut Place, machine: &Machine, context: &Context<'_>) -> Result<(), Failure> {
    let voice = place.voice;
    let ids = |machine: &Machine| machine.engine.image_ids().map_err(|error| voice.engine(error));
    let mut there = present(&place.manifest.images, &ids(machine)?);
    let missing: Vec<&BundledImage> =
        place.manifest.images.iter().filter(|image| !there.contains_key(image.name.as_str())).collect();
    let archive = place.folder.file(ARCHIVE).map_err(|error| voice.place(error))?;
    let sizes: u64 = missing.iter().map(|image| image.size).sum();
    // Layers that images share are counted for each of them; the archive holds them once.
    let bytes = archive.as_ref().map_or(sizes, |(size, _)| sizes.min(*size));
    machine.fits(place, bytes)?;
    if !missing.is_empty() {
        match archive {
            Some((_, file)) => load_archive(&missing, Seekable(file), machine, context, voice)?,
            None => load_built(&missing, machine, context, voice)?,
        }
        there = present(&place.manifest.images, &ids(machine)?);
    }
    let mut changed = false;
    for image in &place.manifest.images {
        let id = there
            .get(image.name.as_str())
            .ok_or_else(|| voice.problem(Problem::WrongImage { image: image.reference.clone() }))?;
        changed |= place.settings.set(image.variable.as_str(), id);
    }
    if changed { place.save_settings() } else { Ok(()) }
}

/// Returns the images that the engine has, with the Ids it has them under.
fn present(images: &[BundledImage], ids: &BTreeSet<String>) -> BTreeMap<String, String> {
    let id = |image: &BundledImage| [image.config, image.manifest].iter().map(ToString::to_string).find(|id| ids.contains(id));
    images.iter().filter_map(|image| Some((image.name.to_string(), id(image)?))).collect()
}

/// Hands the missing images of the bundle's archive to the engine; every blob is checked while it passes.
fn load_archive(
    missing: &[&BundledImage],
    source: Seekable,
    machine: &Machine,
    context: &Context<'_>,
    voice: Voice,
) -> Result<(), Failure> {
    let refused = |error: &ArchiveError| {
        let mut cause = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        voice.problem(Problem::Images { cause })
    };
    let files = TarFiles::new(&source).map_err(|error| refused(&error))?;
    let found = archive::read(&files).map_err(|error| refused(&error))?;
    let mut images = Vec::new();
    for image in missing {
        let is_it = |found: &&FoundImage| {
            found.config.digest == image.config
                && found.manifest.as_ref().is_some_and(|manifest| manifest.digest == image.manifest)
        };
        let found = found.iter().find(is_it).ok_or_else(|| absent(&[image], voice))?;
        let Some(manifest) = &found.manifest else { return Err(absent(&[image], voice)) };
        // Only the bundle's own names: another one in the archive could take the place of somebody else's image.
        images.push(ArchivedImage { manifest, config: &found.config, names: vec![image.reference.clone()] });
    }
    let blobs: BTreeMap<BlobDigest, u64> =
        images.iter().flat_map(|image| &image.manifest.layers).map(|layer| (layer.digest, layer.size)).collect();
    let task = context.screen.work(&Line::Loading.text(voice.0), Some(blobs.values().sum()), Unit::Bytes);
    let over = hand_over(&machine.engine, &*task, |out| {
        archive::write(&images, &ArchiveBlobs(&files), out).map(drop).map_err(|error| io::Error::other(Box::new(error)))
    })?;
    match over {
        HandOver::Loaded => Ok(()),
        HandOver::Engine(error) => Err(voice.engine(error)),
        HandOver::Source(error) => {
            let error = error.downcast::<ArchiveError>().unwrap_or_else(ArchiveError::Io);
            Err(refused(&error))
        }
    }
}

struct ArchiveBlobs<'a>(&'a dyn Files);

impl Blobs for ArchiveBlobs<'_> {
    fn open(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + '_>> {
        let found = self.0.open(&format!("blobs/sha256/{}", digest.hex()))?;
        found.map(|(_, content)| content).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Hands the project's own images to the engine, as `parvis load` does.
fn load_built(missing: &[&BundledImage], machine: &Machine, context: &Context<'_>, voice: Voice) -> Result<(), Failure> {
    let names: Vec<String> = missing.iter().map(|image| image.name.to_string()).collect();
    let built = || -> Result<(Store, Built), Failure> {
        let store = open_store(context)?;
        let tag = missing.first().and_then(|image| image.reference.rsplit_once(':')).map_or("dev", |(_, tag)| tag);
        let built = Built::find(context, &store, &names, &Which::tagged(tag))?;
        Ok((store, built))
    };
    let Ok((store, built)) = built() else { return Err(absent(missing, voice)) };
    if built.digests() != missing.iter().map(|image| image.manifest).collect::<BTreeSet<_>>() {
        return Err(absent(missing, voice));
    }
    let task = context.screen.work(&Line::Loading.text(voice.0), Some(missing.iter().map(|image| image.size).sum()), Unit::Bytes);
    match hand_over(&machine.engine, &*task, |out| built.write(&store, out))? {
        HandOver::Loaded => Ok(()),
        HandOver::Engine(error) => Err(voice.engine(error)),
        HandOver::Source(source) => Err(voice.engine(EngineError::Archive { program: machine.engine.name().to_owned(), source })),
    }
}

/// Names what is to be had nowhere.
fn absent(images: &[&BundledImage], voice: Voice) -> Failure {
    let images = images.iter().map(|image| image.reference.as_str()).collect::<Vec<_>>().join(", ");
    voice.problem(Problem::NoImages { images })
}
