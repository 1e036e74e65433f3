//! `parvis save`: images in one file that docker, podman and skopeo read.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde_json::json;

use super::workplace::{Planned, Workplace, open_store};
use super::{Answer, Context};
use crate::bundle::manifest::BundledImage;
use crate::bundle::write::image_variable;
use crate::edge::output::{self, OutputError};
use crate::edge::store::Store;
use crate::execute::{ImageRecord, from_store};
use crate::failure::Failure;
use crate::image::archive::{self, ArchivedImage, Blobs};
use crate::image::canonical;
use crate::image::oci::{self, Configuration, Manifest};
use crate::model::digest::BlobDigest;
use crate::model::name::{ImageName, InvalidName, Tag};
use crate::screen::size;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to save
    #[arg(required = true)]
    images: Vec<String>,
    /// File to write; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Which images, and what they are called outside.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Tag that the images get
    #[arg(long, value_name = "TAG", default_value = "dev")]
    pub tag: String,
    /// Architecture of the images (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    pub platform: Option<String>,
    /// The registry, perhaps with a path, that their names begin with (default: as the project has it).
    #[arg(skip)]
    pub prefix: Option<String>,
}

impl Which {
    /// Names images by a tag, for the machine's own architecture.
    pub fn tagged(tag: &str) -> Self {
        Self { tag: tag.to_owned(), platform: None, prefix: None }
    }

    fn name(&self, workplace: &Workplace, image: &ImageName) -> String {
        let repository = match &self.prefix {
            Some(prefix) => format!("{prefix}/{image}"),
            None => workplace.repository(image),
        };
        format!("{repository}:{}", self.tag)
    }
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let images = Built::find(context, &store, &arguments.images, &arguments.which)?;
    if arguments.output.as_os_str() == "-" {
        let mut out = Raw(context);
        return images.write(&store, &mut out).map_err(|error| Failure::world("cannot write the archive").because(error));
    }
    output::write_whole(&arguments.output, |out| images.write(&store, out)).map_err(from_output)?;
    let names: Vec<&str> = images.0.iter().map(|image| image.name.as_str()).collect();
    let bytes: u64 = images.0.iter().map(|image| image.record.size()).sum();
    context.answer(
        || json!({"file": arguments.output, "images": names}),
        || {
            let mut lines: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            lines.push(format!(
                "saved to {} (at most {}; `docker load -i {}` takes it)",
                arguments.output.display(),
                size(bytes),
                arguments.output.display()
            ));
            lines
        },
    );
    Ok(())
}

/// Says what could not be written.
pub fn from_output(error: OutputError) -> Failure {
    let hint = error.hint();
    let because = std::error::Error::source(&error).map(ToString::to_string);
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(because)
}

/// Images of the project as they stand in the store.
pub struct Built(Vec<BuiltImage>);

/// One of them.
pub struct BuiltImage {
    pub recipe: ImageName,
    /// The recipes that it is built on, the nearest first.
    pub ancestors: Vec<ImageName>,
    /// The full name with its tag.
    pub name: String,
    record: ImageRecord,
    pub manifest: Manifest,
    pub config: Configuration,
}

impl Built {
    /// Finds images, all where none is named, which must be built as the recipes are now.
    pub fn find(context: &Context<'_>, store: &Store, images: &[String], which: &Which) -> Result<Self, Failure> {
        if which.tag.parse::<Tag>().is_err() {
            return Err(Failure::project(format!("`{}` is not a tag", which.tag.escape_debug())).hint(Tag::RULE));
        }
        Self::of(context, &Planned::make(context, store, images, which.platform.as_deref())?, images, which)
    }

    /// Finds images of a plan, all where none is named.
    pub fn of(context: &Context<'_>, planned: &Planned<'_>, images: &[String], which: &Which) -> Result<Self, Failure> {
        let store = planned.store;
        let (workplace, plan, site) = (&planned.workplace, &planned.plan, planned.site(context));
        let mut found = Vec::new();
        let asked = |name: &ImageName| images.is_empty() || images.iter().any(|asked| asked == name.as_str());
        for image in plan.images.iter().filter(|image| asked(&image.name)) {
            let name = &image.name;
            let record = site.image(&image.image_step().key)?.ok_or_else(|| {
                Failure::no(format!("the image `{name}` is not built, or not as the recipes are now")).hint(
                    match &which.platform {
                        Some(platform) => format!("run `parvis build {name} --platform {platform}`"),
                        None => format!("run `parvis build {name}`"),
                    },
                )
            })?;
            let damaged = |error: oci::OciError| {
                Failure::world(format!("the documents of `{name}` in the store are damaged"))
                    .because(error)
                    .hint("run `parvis store verify`, then build again")
            };
            let read = |digest: &BlobDigest| store.read_blob(digest, canonical::LIMIT as u64).map_err(from_store);
            let manifest = oci::parse_manifest(&read(&record.manifest)?).map_err(damaged)?;
            let config = oci::parse_config(&read(&record.config)?, manifest.layers.len()).map_err(damaged)?;
            let parent = |name: &ImageName| workplace.catalog.recipe(name)?.parent().cloned();
            found.push(BuiltImage {
                recipe: name.clone(),
                ancestors: std::iter::successors(parent(name), parent).collect(),
                name: which.name(workplace, name),
                record,
                manifest,
                config,
            });
        }
        Ok(Self(found))
    }

    /// Returns each image as a bundle lists it.
    pub fn bundled(&self) -> Result<Vec<BundledImage>, InvalidName> {
        let bundled = |image: &BuiltImage| {
            Ok(BundledImage {
                name: image.recipe.clone(),
                variable: image_variable(&image.recipe)?,
                reference: image.name.clone(),
                manifest: image.record.manifest,
                config: image.record.config,
                size: image.record.size() + image.record.manifest_size + image.config.raw.len() as u64,
            })
        };
        self.0.iter().map(bundled).collect()
    }

    /// Returns the images, each after those that it is built on.
    pub fn into_images(self) -> Vec<BuiltImage> {
        self.0
    }

    /// Returns the full names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|image| image.name.as_str()).collect()
    }

    /// Returns the digests of the manifests.
    pub fn digests(&self) -> BTreeSet<BlobDigest> {
        self.0.iter().map(|image| image.manifest.digest).collect()
    }

    /// Writes the archive.
    pub fn write(&self, store: &Store, out: &mut dyn Write) -> io::Result<()> {
        let images: Vec<ArchivedImage<'_>> = self
            .0
            .iter()
            .map(|image| ArchivedImage { manifest: &image.manifest, config: &image.config, names: vec![image.name.clone()] })
            .collect();
        archive::write(&images, &StoreBlobs(store), out).map(drop).map_err(io::Error::other)
    }
}

/// The store, as the writers of archives see it.
pub struct StoreBlobs<'a>(pub &'a Store);

impl Blobs for StoreBlobs<'_> {
    fn open(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.open_blob(digest).map_err(io::Error::other)?))
    }
}

/// Standard output.
struct Raw<'a>(&'a Context<'a>);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.screen.raw(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
