//! An image of the project, of a layout or of an archive, as verbs look at it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;

use super::Context;
use super::registry::from_repository;
use super::workplace::{Planned, Workplace, open_store};
use crate::edge::layout::{self, Handed, LayoutError};
use crate::execute::{self, from_store};
use crate::failure::Failure;
use crate::image::archive::{self, ArchiveError, Files, FoundImage, TarFiles};
use crate::image::canonical;
use crate::image::diff::{STATUS, Side};
use crate::image::layout::{Form, Layout};
use crate::image::oci::{self, Configuration, Descriptor, Platform};
use crate::image::reader::{self, Hashing, LayerReadError, Limits};
use crate::image::repository::Repository as _;
use crate::model::digest::BlobDigest;
use crate::model::name::{Architecture, ImageName};
use crate::model::tree::{Tree, TreePath, escape};
use crate::screen::{Task, Unit};

/// How many images of an archive a hint names.
const MOST_NAMED: usize = 12;

/// Where an image says who its accounts are.
pub const PASSWD: &str = "etc/passwd";

/// An image with all that is compared.
pub struct Image {
    pub tree: Tree,
    /// The package database's own files, and `/etc/passwd`.
    pub database: BTreeMap<TreePath, Vec<u8>>,
    pub config: Configuration,
    pub layer_sizes: Vec<u64>,
    /// The digests of the layers as they are sent, where the place has them.
    pub layer_digests: Vec<Option<BlobDigest>>,
    pub manifest: Option<BlobDigest>,
    /// What people call it.
    pub names: Vec<String>,
    /// Where its packages are from, for an image of the project.
    pub brought: BTreeMap<String, Brought>,
    /// What refers to it; absent where the place keeps no such list.
    pub referrers: Option<Vec<Descriptor>>,
}

/// Where a package of the project is from.
#[derive(Debug, Clone)]
pub struct Brought {
    pub suite: String,
    pub source: String,
    /// The image that brings it in.
    pub image: String,
    /// The line that asks for it, as `recipes/php.yaml:14`; absent where it is there for another package.
    pub asked: Option<String>,
}

impl Image {
    /// Finds an image by what a person calls it: an image of the project comes before a folder or file of the same name.
    pub fn find(context: &Context<'_>, text: &str, platform: Option<&str>) -> Result<Self, Failure> {
        let handed = layout::locate(text);
        let mut known = Vec::new();
        if let Ok(name) = text.parse::<ImageName>() {
            match Workplace::open(context) {
                Ok(workplace) if workplace.catalog.recipe(&name).is_some() => {
                    return Self::of_project(context, workplace, &name, platform);
                }
                Ok(workplace) => known.extend(workplace.catalog.iter().map(|member| member.recipe.name.to_string())),
                Err(failure) if handed.is_none() => return Err(failure),
                Err(_) => {}
            }
        }
        let (path, name) = handed.ok_or_else(|| unknown(text, &known))?;
        match layout::open(&path).map_err(|error| from_layout(&error))? {
            Handed::Folder(folder) => Self::of_files(context, &folder, &path, Form::Folder, name, platform),
            Handed::File(file) => {
                let files = TarFiles::new(&file).map_err(|error| refused(&path, error.into()))?;
                Self::of_files(context, &files, &path, Form::Archive, name, platform)
            }
        }
    }

    /// Reads an image of the project, which must be built as the recipes are now.
    fn of_project(
        context: &Context<'_>,
        workplace: Workplace,
        name: &ImageName,
        platform: Option<&str>,
    ) -> Result<Self, Failure> {
        let store = open_store(context)?;
        let planned = Planned::of(workplace, context, &store, &[name.to_string()], platform)?;
        // Not `Failure::no`: that would say that the images differ.
        Self::of_plan(context, &planned, name)?.ok_or_else(|| {
            Failure::project(format!("the image `{name}` is not built, or not as the recipes are now"))
                .hint(format!("run `parvis build {name}`"))
        })
    }

    /// Reads an image of a plan; nothing where it was not built.
    pub fn of_plan(context: &Context<'_>, planned: &Planned<'_>, name: &ImageName) -> Result<Option<Self>, Failure> {
        let (plan, site) = (&planned.plan, planned.site(context));
        let step = plan.images.iter().find(|image| image.name == *name).map(|image| image.image_step().key);
        let step = step.ok_or_else(|| Failure::bug(format!("the plan lacks `{name}`")))?;
        let Some(record) = site.image(&step)? else { return Ok(None) };
        let Some(tree) = execute::finished(&site, plan, name)? else { return Ok(None) };
        let config = planned.store.read_blob(&record.config, canonical::LIMIT as u64).map_err(from_store)?;
        let config = oci::parse_config(&config, record.layers.len()).map_err(|error| {
            Failure::world(format!("the configuration of `{name}` in the store is damaged"))
                .because(error)
                .hint("run `parvis store verify`, then build again")
        })?;
        // The tree itself says whose each file is; only the versions stand in the database.
        let mut database = BTreeMap::new();
        for at in [STATUS, PASSWD] {
            let path = TreePath::parse(at.as_bytes()).map_err(|error| Failure::bug(error.to_string()))?;
            database.extend(execute::read_path(&site, &tree, at.as_bytes())?.map(|content| (path, content)));
        }
        Ok(Some(Self {
            tree,
            database,
            config,
            layer_sizes: record.layers.iter().map(|layer| layer.size).collect(),
            layer_digests: record.layers.iter().map(|layer| Some(layer.digest)).collect(),
            manifest: Some(record.manifest),
            names: vec![name.to_string()],
            brought: brought(planned, name),
            referrers: None,
        }))
    }

    /// Reads an image of a layout or archive.
    fn of_files(
        context: &Context<'_>,
        files: &dyn Files,
        path: &Path,
        form: Form,
        name: Option<&str>,
        platform: Option<&str>,
    ) -> Result<Self, Failure> {
        let platform: Option<Architecture> =
            platform.map(str::parse).transpose().map_err(|error: crate::model::name::InvalidName| {
                Failure::project(error.to_string()).hint("for example `--platform amd64`")
            })?;
        let images = archive::read(files).map_err(|error| refused(path, error.into()))?;
        let image = choose(&images, path, name, platform.as_ref())?;
        let mut layer_sizes = Vec::new();
        for layer in &image.layers {
            let opened = files.open(&layer.file).map_err(|error| refused(path, error.into()))?;
            layer_sizes.push(opened.map_or(0, |(size, _)| size));
        }
        let task = context.screen.work("reading", Some(layer_sizes.iter().sum()), Unit::Bytes);
        task.detail(&path.display().to_string());
        let mut hashing = Hashing::default();
        let counted = Counted { files, task: &*task };
        let tree = reader::read_image(&counted, image, Limits::default(), &mut hashing).map_err(|error| refused(path, error))?;
        Ok(Self {
            tree,
            database: hashing.kept,
            config: image.config.clone(),
            layer_sizes,
            layer_digests: image.layers.iter().map(|layer| layer.descriptor.as_ref().map(|found| found.digest)).collect(),
            manifest: image.manifest.as_ref().map(|manifest| manifest.digest),
            names: image.names.clone(),
            brought: BTreeMap::new(),
            referrers: referrers(files, path, form, image)?,
        })
    }

    pub fn side(&self) -> Side<'_> {
        Side { tree: &self.tree, database: &self.database, config: &self.config, layer_sizes: &self.layer_sizes }
    }
}

/// Returns where each package of an image and of its parents is from.
fn brought(planned: &Planned<'_>, image: &ImageName) -> BTreeMap<String, Brought> {
    let (catalog, lock, platform) = (&planned.workplace.catalog, &planned.lock, &planned.plan.platform);
    let mut brought = BTreeMap::new();
    for recipe in catalog.lineage(image) {
        let Some(locked) = lock.image(&recipe.name, platform) else { continue };
        let source = catalog.get(recipe.name.as_str()).ok().map(|member| &member.source);
        for package in locked.packages().filter_map(|name| lock.package(name, platform)) {
            let asked = source.filter(|_| recipe.packages.contains(&package.name)).map(|source| {
                let mut lines = (1_u32..).zip(source.text.lines()).skip_while(|(number, _)| *number < recipe.packages_line);
                let is_named = |text: &str| text.split([' ', ',', '[', ']']).any(|word| word == package.name.as_str());
                let line = lines.find(|(_, text)| is_named(text)).map_or(recipe.packages_line, |(number, _)| number);
                format!("{}:{line}", source.path)
            });
            let from = Brought {
                suite: package.suite.to_string(),
                source: package.source.to_string(),
                image: recipe.name.to_string(),
                asked,
            };
            brought.insert(package.name.to_string(), from);
        }
    }
    brought
}

/// Returns what refers to an image of a layout or archive; nothing where it has no place for such a list.
fn referrers(files: &dyn Files, path: &Path, form: Form, image: &FoundImage) -> Result<Option<Vec<Descriptor>>, Failure> {
    let Some(manifest) = &image.manifest else { return Ok(None) };
    let place = Layout::open(files, &path.display().to_string(), form).map_err(from_repository)?;
    place.referrers(&manifest.digest).map(Some).map_err(from_repository)
}

/// Finds the one image that is meant.
fn choose<'a>(
    images: &'a [FoundImage],
    path: &Path,
    name: Option<&str>,
    platform: Option<&Architecture>,
) -> Result<&'a FoundImage, Failure> {
    let place = path.display();
    let wanted = platform.map(Platform::of);
    let fits = |image: &&FoundImage| {
        wanted.as_ref().is_none_or(|asked| {
            (&asked.os, &asked.architecture) == (&image.config.platform.os, &image.config.platform.architecture)
        })
    };
    let named = |exact: bool| -> Vec<&FoundImage> {
        images.iter().filter(|image| name.is_none_or(|name| is_called(image, name, exact))).filter(fits).collect()
    };
    let found = Some(named(true)).filter(|found| !found.is_empty()).unwrap_or_else(|| named(false));
    match (&found[..], name) {
        (&[image], _) => Ok(image),
        ([], None) if images.is_empty() => {
            Err(Failure::project(format!("`{place}` holds no image")).hint("make it again with `parvis save` or `parvis build`"))
        }
        ([], name) => {
            let name = name.map(|name| format!(" `{name}`")).unwrap_or_default();
            let platform = platform.map(|platform| format!(" for `{platform}`")).unwrap_or_default();
            Err(Failure::project(format!("`{place}` holds no image{name}{platform}"))
                .hint(format!("it holds {}", listed(images.iter()))))
        }
        (several, _) => {
            let hint = format!("name one as `{place}:NAME`, or add `--platform`; it holds {}", listed(several.iter().copied()));
            Err(Failure::project(format!("`{place}` holds {} images that could be meant", several.len())).hint(hint))
        }
    }
}

/// Returns whether an image is listed under a name; unless exactly, a name without its registry or its tag will do.
fn is_called(image: &FoundImage, name: &str, exact: bool) -> bool {
    let digest = image.manifest.as_ref().map(|manifest| manifest.digest.to_string());
    let short = |listed: &str| {
        let last = listed.rsplit('/').next().unwrap_or(listed);
        last == name || last.split(':').next() == Some(name) || listed.ends_with(&format!("/{name}"))
    };
    digest.is_some_and(|digest| digest == name) || image.names.iter().any(|listed| listed == name || !exact && short(listed))
}

/// Returns images as a hint names them.
fn listed<'a>(images: impl Iterator<Item = &'a FoundImage>) -> String {
    let one = |image: &FoundImage| {
        let digest =
            || image.manifest.as_ref().map_or_else(|| image.config.digest.to_string(), |manifest| manifest.digest.to_string());
        let name = image.names.first().map_or_else(digest, |name| escape(name.as_bytes()));
        format!("`{name}` ({})", escape(image.config.platform.architecture.as_bytes()))
    };
    let mut names: Vec<String> = images.map(one).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

fn unknown(text: &str, known: &[String]) -> Failure {
    let other = "a layout folder or an archive file";
    let hint =
        if known.is_empty() { format!("give {other}") } else { format!("the project has {}; or give {other}", known.join(", ")) };
    Failure::project(format!("`{text}` is no image of the project, and no such folder or file is there")).hint(hint)
}

pub fn from_layout(error: &LayoutError) -> Failure {
    let hint = error.hint();
    let cause = error.source().map(ToString::to_string);
    let failure = if cause.is_some() { Failure::world(error.to_string()) } else { Failure::project(error.to_string()) };
    failure.maybe_hint(hint).maybe_because(cause)
}

/// Says which folder or file is refused. What the system itself reports is no fault of the image.
pub fn refused(path: &Path, error: LayerReadError) -> Failure {
    let mut of_system = false;
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        of_system |= error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some());
        cause = error.source();
    }
    let place = path.display();
    let hint =
        error.hint().or_else(|| (!of_system).then(|| "the file is damaged, or no image: copy or make it again".to_owned()));
    let failure = if of_system {
        Failure::world(format!("cannot read `{place}`"))
    } else {
        Failure::project(format!("`{place}` is refused"))
    };
    match error {
        // Its text would speak of an archive that has no name.
        LayerReadError::Archive(ArchiveError::Foreign(_)) => {
            Failure::project(format!("`{place}` holds no images: it has neither an `index.json` nor a `manifest.json`"))
                .maybe_hint(hint)
        }
        error => failure.because(error).maybe_hint(hint),
    }
}

/// Files whose reading a person sees advance.
struct Counted<'a> {
    files: &'a dyn Files,
    task: &'a dyn Task,
}

impl Files for Counted<'_> {
    fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
        let opened = self.files.open(name)?;
        Ok(opened.map(|(size, content)| (size, Box::new(Advancing { content, task: self.task }) as Box<dyn Read>)))
    }
}

struct Advancing<'a> {
    content: Box<dyn Read + 'a>,
    task: &'a dyn Task,
}

impl Read for Advancing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.task.advance(read as u64);
        Ok(read)
    }
}
