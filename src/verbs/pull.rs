//! `parvis pull`: an image of a registry, byte by byte, into the store, a layout or an archive.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::registry::{Reach, from_repository, reference};
use super::save::{StoreBlobs, from_output};
use super::workplace::open_store;
use super::{Answer, Context};
use crate::edge::output;
use crate::edge::registry::{Access, Remote, Wanted};
use crate::edge::store::Store;
use crate::execute::from_store;
use crate::failure::Failure;
use crate::image::along::{self, Along};
use crate::image::archive::{self, ArchivedImage};
use crate::image::canonical;
use crate::image::oci::{self, Configuration, Descriptor, INDEX, Index, Manifest, OciError, REF_NAME};
use crate::image::repository::{Repository as _, RepositoryError};
use crate::model::digest::{BlobDigest, DownloadDigest};
use crate::model::name::Architecture;
use crate::model::problem::shown;
use crate::screen::{Unit, size};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Into a layout or an archive, signatures and attestations come along: of the image and, where all architectures \
    are fetched, of their index. `parvis verify` of what was pulled then needs no network."
)]
pub struct Arguments {
    /// Image to fetch: `registry.example/parish/httpd:1.4.0`, or with `@sha256:…` in place of the tag
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// Folder for an OCI layout, or `FILE.tar` for an archive (default: only into the store)
    #[arg(long, short, value_name = "PLACE")]
    output: Option<PathBuf>,
    /// Architecture to fetch (default: all into a layout, this machine's into an archive)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let reference = reference(&arguments.reference)?;
    let pick = reference.pick.as_ref().ok_or_else(|| {
        Failure::project(format!("`{reference}` does not say which version")).hint(format!("write `{reference}:TAG`"))
    })?;
    let place = arguments.output.as_deref().map(Place::of).transpose()?;
    let store = open_store(context)?;
    let remote = arguments.reach.open(context, &reference.repository, Access::Read)?;
    let digest = remote.find(pick).map_err(from_repository)?.ok_or_else(|| absent(&arguments.reference))?.digest;
    let (media_type, bytes) = remote.document(&digest).map_err(from_repository)?.ok_or_else(|| absent(&arguments.reference))?;
    let machine = matches!(place, Some(Place::Archive(_))).then(|| context.machine.to_owned());
    let platform = arguments.platform.clone().or(machine);
    let top = Top::read(&remote, &media_type, &bytes, digest, platform.as_deref())?;
    let images = fetch(&remote, &top, &store, context)?;
    let mut blobs = top.keep(&store, &images)?;
    let pulled = images.iter().map(Image::size).sum();
    let name = reference.to_string();
    // The store keeps images; what is said of them has its place beside them.
    let along = if place.is_some() { said_of(&remote, &top, context)? } else { Along::default() };
    match &place {
        None => {}
        Some(Place::Layout(folder)) => {
            let annotations = [(REF_NAME.to_owned(), name.clone())].into();
            for bytes in along.blobs.values() {
                let digest = store.put_blob(bytes).map_err(from_store)?;
                blobs.push((digest, store.blob_path(&digest)));
            }
            let lines = [&[Descriptor { annotations, ..top.descriptor.clone() }][..], &along.lines].concat();
            let index = oci::write_index(&lines);
            let index = index.map_err(|error| Failure::bug("the index cannot be written").because(error))?;
            output::write_layout(folder, &blobs, &index.bytes).map_err(from_output)?;
        }
        Some(Place::Archive(file)) => {
            let archived: Vec<ArchivedImage<'_>> = images
                .iter()
                .map(|image| ArchivedImage { manifest: &image.manifest, config: &image.config, names: vec![name.clone()] })
                .collect();
            let said = along.additions().map_err(|error| Failure::bug("the list cannot be written").because(error))?;
            let write = |out: &mut dyn io::Write| {
                archive::write_with(&archived, &StoreBlobs(&store), said.as_ref(), out).map(drop).map_err(io::Error::other)
            };
            output::write_whole(file, write).map_err(from_output)?;
        }
    }
    let shown_place = arguments.output.as_ref().map_or_else(|| "the store".to_owned(), |path| path.display().to_string());
    context.answer(
        || {
            let digest = top.descriptor.digest.to_string();
            json!({"reference": name, "digest": digest, "size": pulled, "output": arguments.output, "referrers": along.lines.len()})
        },
        || {
            let mut lines = vec![format!("pulled {name} into {shown_place} ({}): {}", size(pulled), top.descriptor.digest)];
            match (along.lines.len(), place.is_some()) {
                (_, false) => {}
                (0, true) => lines.push("nothing is said of it there: it is not signed".to_owned()),
                (number, true) => lines.push(format!(
                    "with {number} that {} said of it: `parvis verify` needs no network",
                    if number == 1 { "is" } else { "are" }
                )),
            }
            lines
        },
    );
    Ok(())
}

/// Fetches the image of one manifest into a layout of its own, where it has this name. What the store has is not fetched again.
pub fn into_layout(
    remote: &Remote,
    manifest: &BlobDigest,
    name: &str,
    store: &Store,
    folder: &Path,
    context: &Context<'_>,
) -> Answer {
    let lost = || absent(&remote.name().at(*manifest).to_string());
    let (media_type, bytes) = remote.document(manifest).map_err(from_repository)?.ok_or_else(lost)?;
    let descriptor = Descriptor::of(media_type, &bytes);
    let top = Top { descriptor: descriptor.clone(), index: None, manifests: vec![descriptor] };
    let images = fetch(remote, &top, store, context)?;
    let blobs = top.keep(store, &images)?;
    let annotations = [(REF_NAME.to_owned(), name.to_owned())].into();
    let index = oci::write_index(&[Descriptor { annotations, ..top.descriptor }])
        .map_err(|error| Failure::bug("the index cannot be written").because(error))?;
    output::write_layout(folder, &blobs, &index.bytes).map(drop).map_err(from_output)
}

/// Fetches images, each of one manifest, into one archive in which they have these names. Parts that `have` gives are not fetched.
pub fn into_archive(
    wanted: &[(Remote, BlobDigest, String)],
    have: &dyn Fn(&BlobDigest) -> Option<Vec<u8>>,
    store: &Store,
    file: &Path,
    context: &Context<'_>,
) -> Answer {
    let mut images = Vec::new();
    for (remote, manifest, _) in wanted {
        let lost = || absent(&remote.name().at(*manifest).to_string());
        let (media_type, bytes) = remote.document(manifest).map_err(from_repository)?.ok_or_else(lost)?;
        let descriptor = Descriptor::of(media_type, &bytes);
        if let Ok(read) = oci::parse_manifest(&bytes) {
            for blob in read.layers.iter().filter(|blob| store.blob_size(&blob.digest) != Some(blob.size)) {
                if let Some(bytes) = have(&blob.digest) {
                    store.put_blob(&bytes).map_err(from_store)?;
                }
            }
        }
        let top = Top { descriptor: descriptor.clone(), index: None, manifests: vec![descriptor] };
        images.extend(fetch(remote, &top, store, context)?);
    }
    let archived: Vec<ArchivedImage<'_>> = images
        .iter()
        .zip(wanted)
        .map(|(image, (_, _, name))| ArchivedImage {
            manifest: &image.manifest,
            config: &image.config,
            names: vec![name.clone()],
        })
        .collect();
    let write = |out: &mut dyn io::Write| {
        archive::write_with(&archived, &StoreBlobs(store), None, out).map(drop).map_err(io::Error::other)
    };
    output::write_whole(file, write).map_err(from_output)
}

/// Fetches what is said of the image, and of the images of its index. What cannot be had is left there, and said so: without it the image
/// is what it is, and `parvis verify` does not find it good.
fn said_of(remote: &Remote, top: &Top, context: &Context<'_>) -> Result<Along, Failure> {
    let subjects = top.manifests.iter().chain([&top.descriptor]).map(|line| line.digest).collect();
    let along = match along::gather(remote, &subjects) {
        Ok(along) => along,
        Err(error @ RepositoryError::Unreachable { .. }) => return Err(from_repository(error)),
        Err(error) => {
            context.screen.note(&format!("what is said of the image was not fetched: {error}"));
            Along::default()
        }
    };
    if along.left > 0 {
        let number = along.left;
        context.screen.note(&format!("{number} of what is said of the image was left there: damaged, too large or too much"));
    }
    Ok(along)
}

fn absent(name: &str) -> Failure {
    Failure::no(format!("there is no `{}`", shown(name)))
        .hint("check the name and the tag; a registry may also say so of what is not for everybody: log in with `docker login`")
}

/// Where an image is written to.
enum Place {
    Layout(PathBuf),
    Archive(PathBuf),
}

impl Place {
    fn of(path: &Path) -> Result<Self, Failure> {
        if path.extension().is_some_and(|extension| extension == "tar") && !path.is_dir() {
            return Ok(Self::Archive(path.to_owned()));
        }
        // What a layout does not need is removed from it: it had better be one.
        if output::is_free(path).map_err(from_output)? || path.join("oci-layout").is_file() {
            return Ok(Self::Layout(path.to_owned()));
        }
        Err(Failure::project(format!("`{}` is neither a layout nor empty", path.display()))
            .hint("name a new folder, or a file that ends with `.tar`"))
    }
}

/// What was asked for: an image, or several under one name.
struct Top {
    descriptor: Descriptor,
    /// The index, where all its images are wanted.
    index: Option<Vec<u8>>,
    /// The manifests of the images.
    manifests: Vec<Descriptor>,
}

impl Top {
    fn read(
        remote: &Remote,
        media_type: &str,
        bytes: &[u8],
        digest: BlobDigest,
        platform: Option<&str>,
    ) -> Result<Self, Failure> {
        let size = bytes.len() as u64;
        let plain = |media_type: &str| Descriptor::new(media_type, digest, size);
        // Whatever its type is called: what can be read as one of the two cannot be read as the other.
        if let Ok(index) = oci::parse_index(bytes) {
            let wanted = wanted(&index, platform, &remote.place())?;
            if let (Some(_), [only]) = (platform, &wanted[..]) {
                return Ok(Self { descriptor: only.clone(), index: None, manifests: wanted });
            }
            return Ok(Self { descriptor: plain(media_type), index: Some(bytes.to_vec()), manifests: wanted });
        }
        if media_type == INDEX {
            return Err(damaged(remote, &digest, oci::parse_index(bytes).err()));
        }
        Ok(Self { descriptor: plain(media_type), index: None, manifests: vec![plain(media_type)] })
    }

    /// Keeps the documents in the store, and returns all that belongs to the image with where it stands there.
    fn keep(&self, store: &Store, images: &[Image]) -> Result<Vec<(BlobDigest, PathBuf)>, Failure> {
        let mut digests = BTreeSet::new();
        for bytes in self.index.iter().chain(images.iter().flat_map(|image| [&image.manifest.raw, &image.config.raw])) {
            digests.insert(store.put_blob(bytes).map_err(from_store)?);
        }
        digests.extend(images.iter().flat_map(|image| &image.manifest.layers).map(|layer| layer.digest));
        Ok(digests.into_iter().map(|digest| (digest, store.blob_path(&digest))).collect())
    }
}

/// Chooses from an index: the images of one platform, or all.
fn wanted(index: &Index, platform: Option<&str>, place: &str) -> Result<Vec<Descriptor>, Failure> {
    let Some(name) = platform else {
        return Ok(index.manifests.clone());
    };
    let architecture: Architecture =
        name.parse().map_err(|error| Failure::project(format!("{error}")).hint("write it as Debian does: `amd64`, `arm64`"))?;
    let (oci_name, variant) = architecture.oci();
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| {
            platform.os == "linux"
                && platform.architecture == oci_name
                && (platform.variant.is_none() || platform.variant.as_deref() == variant)
        })
    };
    let found: Vec<Descriptor> = index.manifests.iter().filter(fits).cloned().collect();
    if found.len() == 1 {
        return Ok(found);
    }
    let listed: BTreeSet<String> =
        index.manifests.iter().filter_map(|item| Some(shown(&item.platform.as_ref()?.architecture))).collect();
    let listed: Vec<String> = listed.into_iter().collect();
    let how_often = if found.is_empty() { "no image".to_owned() } else { format!("{} images", found.len()) };
    Err(Failure::no(format!("`{place}` has {how_often} for `{name}`"))
        .hint(format!("it has: {}; choose with `--platform`", listed.join(", "))))
}

/// An image whose documents were read.
struct Image {
    manifest: Manifest,
    config: Configuration,
}

impl Image {
    fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).sum::<u64>()
            + (self.config.raw.len() + self.manifest.raw.len()) as u64
    }
}

/// Fetches all that is missing in the store, and reads the documents strictly.
fn fetch(remote: &Remote, top: &Top, store: &Store, context: &Context<'_>) -> Result<Vec<Image>, Failure> {
    let mut manifests = Vec::new();
    for descriptor in &top.manifests {
        let name = remote.name().at(descriptor.digest).to_string();
        let (_, bytes) = remote.document(&descriptor.digest).map_err(from_repository)?.ok_or_else(|| absent(&name))?;
        let read = descriptor.verify(&bytes).and_then(|()| oci::parse_manifest(&bytes));
        manifests.push(read.map_err(|error| damaged(remote, &descriptor.digest, Some(error)))?);
    }
    let mut wanted: Vec<Wanted> = Vec::new();
    for blob in manifests.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config])) {
        let fresh = !wanted.iter().any(|known| known.digest == blob.digest);
        if fresh && !is_whole(store, &blob.digest, blob.size)? {
            wanted.push(Wanted { digest: blob.digest, size: blob.size });
        }
    }
    let task = context.screen.work("pull", Some(wanted.iter().map(|blob| blob.size).sum()), Unit::Bytes);
    task.detail(&remote.place());
    remote.fetch(&wanted, &store.downloads(), &*task).map_err(from_repository)?;
    for blob in &wanted {
        store.keep_download(&DownloadDigest::from(*blob.digest.bytes())).map_err(from_store)?;
    }
    let mut images = Vec::new();
    for manifest in manifests {
        let bytes = store.read_blob(&manifest.config.digest, canonical::LIMIT as u64).map_err(from_store)?;
        let config = manifest.config.verify(&bytes).and_then(|()| oci::parse_config(&bytes, manifest.layers.len()));
        let config = config.map_err(|error| damaged(remote, &manifest.config.digest, Some(error)))?;
        images.push(Image { manifest, config });
    }
    Ok(images)
}

/// Whether a blob is in the store, and is what its name says.
fn is_whole(store: &Store, digest: &BlobDigest, size: u64) -> Result<bool, Failure> {
    if store.blob_size(digest) != Some(size) {
        return Ok(false);
    }
    let mut content = store.open_blob(digest).map_err(from_store)?;
    // One that is damaged is removed by whoever reads it, and fetched like others.
    Ok(io::copy(&mut content, &mut io::sink()).is_ok())
}

fn damaged(remote: &Remote, digest: &BlobDigest, error: Option<OciError>) -> Failure {
    let name = remote.name().at(*digest);
    let failure = Failure::world(format!("`{name}` cannot be used"));
    failure.maybe_because(error.map(|error| error.to_string())).hint("do not use it: ask whom it came from, or push it again")
}
