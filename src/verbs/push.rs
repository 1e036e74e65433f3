//! `parvis push`: built images sent to a registry, so that nobody ever sees half of one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use serde_json::{Value, json};

use super::registry::{Reach, from_repository, repository};
use super::save::{Built, BuiltImage, Which};
use super::workplace::{Planned, Workplace, open_store};
use super::{Answer, Context, gate, rebuild};
use crate::edge::registry::{Access, Given, Remote, Sent};
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor, Platform};
use crate::image::repository::Repository as _;
use crate::model::digest::BlobDigest;
use crate::model::name::{Architecture, ImageName, Tag};
use crate::model::reference::RepositoryName;
use crate::screen::{Task, Unit, size};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to push (default: all)
    images: Vec<String>,
    /// Tag that the images get
    #[arg(long, value_name = "TAG", default_value = "dev")]
    tag: String,
    /// Registry, perhaps with a path, under which each image gets its name (default: `registry` in `parvis.yaml`)
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    to: Option<String>,
    /// Architecture to push, may be given several times (default: all of the project)
    #[arg(long, value_name = "NAME")]
    platform: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let prefix = prefix(arguments.to.as_deref().or(workplace.project.registry.as_deref()))?;
    let tag: Tag = arguments
        .tag
        .parse()
        .map_err(|error: crate::model::name::InvalidName| Failure::project(error.to_string()).hint(Tag::RULE))?;
    // In the project's order, however they are named: an index of the same images is the same.
    let mut platforms = workplace.project.architectures.clone();
    if !arguments.platform.is_empty() {
        let named = arguments.platform.iter().map(|name| workplace.platform(context, Some(name)));
        let named = named.collect::<Result<BTreeSet<_>, _>>()?;
        platforms.retain(|platform| named.contains(platform));
    }
    let store = open_store(context)?;
    let plan = |platform: &Architecture| Planned::make(context, &store, &arguments.images, Some(platform.as_str()));
    let planned = platforms.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let images = gather(context, planned.iter(), &arguments.images, &arguments.tag, &prefix)?;
    let names: Vec<ImageName> = images.iter().map(|image| image.name.clone()).collect();
    planned.iter().try_for_each(|planned| gate::require(context, planned, &names))?;
    let bytes = images.iter().map(PushedImage::size).sum();
    let task = context.screen.work("push", Some(bytes), Unit::Bytes);
    let mut pushed = Vec::new();
    let mut known = Known::new();
    for image in &images {
        let remote = arguments.reach.open(context, &image.repository, Access::Write)?;
        task.detail(image.name.as_str());
        pushed.push(image.push(&remote, Some(&tag), &store, &mut known, &*task)?);
        let manifests = image.manifests().map(|manifest| Descriptor::of(oci::MANIFEST, &manifest.raw));
        let (kind, top) = image.top()?;
        let index = (kind == oci::INDEX).then(|| Descriptor::of(oci::INDEX, &top));
        for descriptor in manifests.chain(index) {
            rebuild::accompany(&workplace, &remote, &descriptor)?;
        }
    }
    drop(task);
    context.answer(
        || json!({"images": pushed.iter().map(Outcome::json).collect::<Vec<_>>()}),
        || pushed.iter().map(Outcome::line).collect(),
    );
    Ok(())
}

/// Returns what stands before an image's name: a registry, perhaps with a path.
pub fn prefix(text: Option<&str>) -> Result<String, Failure> {
    let hint = "write `registry: registry.example/parish` into `parvis.yaml`, or add `--to registry.example/parish`";
    let text = text.ok_or_else(|| Failure::project("it is not said to which registry").hint(hint))?;
    Ok(plain_prefix(text))
}

/// Returns a registry with a path as everything of parvis's own is named below it.
pub fn plain_prefix(text: &str) -> String {
    text.trim_end_matches('/').to_owned()
}

/// An image with all the architectures that are pushed of it.
pub struct PushedImage {
    pub name: ImageName,
    pub repository: RepositoryName,
    /// Repositories of the images it is built on, the nearest first.
    ancestors: Vec<RepositoryName>,
    /// In the order of the project's architectures.
    variants: Vec<(Architecture, BuiltImage)>,
}

/// Which blobs are known to be in which repository, because this command has just put them there.
pub type Known = BTreeMap<BlobDigest, RepositoryName>;

/// Finds all that is to be pushed, before anything is: of one plan for each architecture, all images where none is named.
pub fn gather<'a>(
    context: &Context<'_>,
    plans: impl Iterator<Item = &'a Planned<'a>>,
    names: &[String],
    tag: &str,
    prefix: &str,
) -> Result<Vec<PushedImage>, Failure> {
    let repository_of = |name: &ImageName| repository(prefix, name.as_str());
    let mut images: Vec<PushedImage> = Vec::new();
    for planned in plans {
        let platform = &planned.plan.platform;
        let which = Which { tag: tag.to_owned(), platform: Some(platform.to_string()), prefix: None };
        for built in Built::of(context, planned, names, &which)?.into_images() {
            let variant = |built| (platform.clone(), built);
            match images.iter_mut().find(|image| image.name == built.recipe) {
                Some(image) => image.variants.push(variant(built)),
                None => images.push(PushedImage {
                    name: built.recipe.clone(),
                    repository: repository_of(&built.recipe)?,
                    ancestors: built.ancestors.iter().map(repository_of).collect::<Result<_, _>>()?,
                    variants: vec![variant(built)],
                }),
            }
        }
    }
    Ok(images)
}

impl PushedImage {
    /// Returns the bytes of all its blobs.
    pub fn size(&self) -> u64 {
        let blobs = self.variants.iter().flat_map(|(_, image)| image.manifest.layers.iter().chain([&image.manifest.config]));
        blobs.map(|blob| blob.size).sum()
    }

    /// Returns the type and the bytes of what the tag will stand for: the manifest, or an index of several.
    pub fn top(&self) -> Result<(String, Vec<u8>), Failure> {
        let descriptor = |(architecture, image): &(Architecture, BuiltImage)| Descriptor {
            platform: Some(Platform::of(architecture)),
            ..Descriptor::of(oci::MANIFEST, &image.manifest.raw)
        };
        match &self.variants[..] {
            [(_, only)] => Ok((oci::MANIFEST.to_owned(), only.manifest.raw.clone())),
            several => {
                let listed: Vec<Descriptor> = several.iter().map(descriptor).collect();
                let index = oci::write_index(&listed);
                let index = index.map_err(|error| Failure::bug("the index cannot be written").because(error))?;
                Ok((index.media_type.to_owned(), index.bytes))
            }
        }
    }

    /// Returns the manifests of all architectures.
    pub fn manifests(&self) -> impl Iterator<Item = &crate::image::oci::Manifest> {
        self.variants.iter().map(|(_, image)| &image.manifest)
    }

    /// Sends what the registry lacks: blobs, then manifests, then the tag; without one, the image is known by its digest only.
    pub fn push(
        &self,
        remote: &Remote,
        tag: Option<&Tag>,
        store: &Store,
        known: &mut Known,
        task: &dyn Task,
    ) -> Result<Outcome, Failure> {
        let (media_type, bytes) = self.top()?;
        let digest = BlobDigest::of(&bytes);
        let mut outcome = Outcome {
            image: self.name.clone(),
            reference: tag.map_or_else(|| self.repository.to_string(), |tag| self.repository.tagged(tag.clone()).to_string()),
            digest,
            platforms: self.variants.iter().map(|(architecture, _)| architecture.clone()).collect(),
            changed: false,
            sent: (0, 0),
            mounted: 0,
            present: 0,
        };
        let there = match tag {
            Some(tag) => remote.resolve(tag.as_str()).map_err(from_repository)?.is_some_and(|before| before.digest == digest),
            None => remote.document(&digest).map_err(from_repository)?.is_some(),
        };
        if there {
            task.advance(self.size());
            self.remember(known);
            return Ok(outcome);
        }
        outcome.changed = true;
        for (_, image) in &self.variants {
            let manifest = &image.manifest;
            // A registry takes a manifest only when all of it is there.
            if remote.document(&manifest.digest).map_err(from_repository)?.is_some() {
                outcome.present += manifest.layers.len() + 1;
                task.advance(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.size).sum());
                continue;
            }
            self.send_blobs(image, remote, store, known, task, &mut outcome)?;
            if self.variants.len() > 1 {
                remote.put_manifest(oci::MANIFEST, &manifest.raw, None).map_err(from_repository)?;
            }
        }
        remote.put_manifest(&media_type, &bytes, tag).map_err(from_repository)?;
        self.remember(known);
        Ok(outcome)
    }

    fn send_blobs(
        &self,
        image: &BuiltImage,
        remote: &Remote,
        store: &Store,
        known: &Known,
        task: &dyn Task,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let manifest = &image.manifest;
        let mut given: Vec<Given> = Vec::new();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if given.iter().any(|earlier| earlier.digest == blob.digest) {
                continue;
            }
            // One that is certain, or else the one that is likeliest: what is asked for in vain costs time.
            let other =
                known.get(&blob.digest).or_else(|| self.ancestors.first().filter(|_| blob.digest != manifest.config.digest));
            let others = other.filter(|other| **other != self.repository).cloned().into_iter().collect();
            given.push(Given { digest: blob.digest, size: blob.size, others });
        }
        let open = |digest: &BlobDigest| -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(store.open_blob(digest).map_err(io::Error::other)?))
        };
        let results = remote.send_all(&given, &open, task).map_err(from_repository)?;
        for (blob, sent) in given.iter().zip(results) {
            match sent {
                Sent::Present => outcome.present += 1,
                Sent::Mounted => outcome.mounted += 1,
                Sent::Uploaded => outcome.sent = (outcome.sent.0 + 1, outcome.sent.1 + blob.size),
            }
        }
        Ok(())
    }

    fn remember(&self, known: &mut Known) {
        let layers = self.variants.iter().flat_map(|(_, image)| &image.manifest.layers);
        for layer in layers {
            known.entry(layer.digest).or_insert_with(|| self.repository.clone());
        }
    }
}

/// What became of an image.
pub struct Outcome {
    image: ImageName,
    reference: String,
    digest: BlobDigest,
    platforms: Vec<Architecture>,
    /// Whether the tag stood for something else before.
    changed: bool,
    /// Blobs that went over the network, and their bytes.
    pub sent: (usize, u64),
    /// Blobs that the registry had in another repository, and in this one.
    mounted: usize,
    present: usize,
}

impl Outcome {
    fn json(&self) -> Value {
        json!({
            "image": self.image.as_str(),
            "reference": self.reference,
            "digest": self.digest.to_string(),
            "platforms": self.platforms.iter().map(Architecture::as_str).collect::<Vec<_>>(),
            "changed": self.changed,
            "sent": {"blobs": self.sent.0, "bytes": self.sent.1},
            "mounted": self.mounted,
            "present": self.present,
        })
    }

    fn line(&self) -> String {
        let Self { reference, digest, sent: (blobs, bytes), mounted, present, .. } = self;
        if !self.changed {
            return format!("nothing to push: {reference} is {digest}");
        }
        let mut parts = vec![format!("{} sent", size(*bytes))];
        if *mounted + *present > 0 {
            parts.push(format!("{} of {} parts were there", mounted + present, blobs + mounted + present));
        }
        format!("pushed {reference} ({}): {digest}", parts.join(", "))
    }
}
