//! An image of the project, of a layout, of an archive or of a registry, as verbs look at it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;

use super::Context;
use super::registry::{Reach, from_repository};
use super::sign::repository_of;
use super::workplace::{Planned, Workplace, open_store};
use crate::edge::layout::{self, Handed, LayoutError};
use crate::edge::registry::Access;
use crate::execute::{self, from_store};
use crate::failure::Failure;
use crate::image::archive::{self, ArchiveError, Files, FoundImage, TarFiles};
use crate::image::canonical;
use crate::image::diff::{STATUS, Side};
use crate::image::layout::{Form, Layout};
use crate::image::oci::{self, Configuration, Descriptor, Platform};
use crate::image::placed::{self, Placed};
use crate::image::reader::{self, Hashing, LayerReadError, Limits};
use crate::image::repository::{Repository, RepositoryError};
use crate::model::digest::BlobDigest;
use crate::model::name::{Architecture, ImageName};
use crate::model::reference::Reference;
use crate::model::tree::{Tree, TreePath, escape};
use crate::screen::{Task, Unit};

/// How many images of an archive a hint names.
const MOST_NAMED: usize = 12;

/// Where an image says who its accounts are.
pub const PASSWD: &str = "etc/passwd";

/// Where it says what it is.
const RELEASE: &str = "usr/lib/os-release";

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
    /// The last layer, counted from 1, that states each file of the package database; known of what was read from layers.
    pub stated: Option<BTreeMap<TreePath, usize>>,
}

/// Where an image is, to those who ask what is said of it there.
pub struct Standing<'a> {
    pub place: &'a dyn Repository,
    pub image: BlobDigest,
    /// The index in which it stands, where there is one.
    pub index: Option<BlobDigest>,
    /// The repository that it should be of.
    pub repository: Option<String>,
}

/// What is asked about an image where it is, while that is open.
pub type Ask<'a, T> = &'a dyn Fn(&Standing<'_>) -> Result<T, Failure>;

/// Where and how an image is looked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub context: &'a Context<'a>,
    pub platform: Option<&'a str>,
    pub reach: &'a Reach,
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
    /// Finds an image by what a person calls it: an image of the project comes before a folder or file of the same name, and
    /// those before an image in a registry. What was asked is answered where the place keeps what is said of images.
    pub fn find<T>(search: Search<'_>, text: &str, ask: Ask<'_, T>) -> Result<(Self, Option<T>), Failure> {
        let handed = layout::locate(text);
        let mut known = Vec::new();
        if let Ok(name) = text.parse::<ImageName>() {
            match Workplace::open(search.context) {
                Ok(workplace) if workplace.catalog.recipe(&name).is_some() => {
                    return Self::of_project(search, workplace, &name, ask);
                }
                Ok(workplace) => known.extend(workplace.catalog.iter().map(|member| member.recipe.name.to_string())),
                Err(failure) if handed.is_none() => return Err(failure),
                Err(_) => {}
            }
        }
        let Some((path, name)) = handed else {
            let Ok(reference) = text.parse::<Reference>() else { return Err(unknown(text, &known)) };
            return Self::of_registry(search, &reference, ask);
        };
        match layout::open(&path).map_err(|error| from_layout(&error))? {
            Handed::Folder(folder) => Self::of_files(search, &folder, (&path, Form::Folder), name, ask),
            Handed::File(file) => {
                let files = TarFiles::new(&file).map_err(|error| refused(&path, error.into()))?;
                Self::of_files(search, &files, (&path, Form::Archive), name, ask)
            }
        }
    }

    /// Reads an image of a layout or archive.
    pub fn handed(context: &Context<'_>, text: &str) -> Result<Self, Failure> {
        let reach = Reach::default();
        Self::find(Search { context, platform: None, reach: &reach }, text, &|_| Ok(())).map(|(image, _)| image)
    }

    /// Reads an image of the project, which must be built as the recipes are now.
    fn of_project<T>(
        search: Search<'_>,
        workplace: Workplace,
        name: &ImageName,
        ask: Ask<'_, T>,
    ) -> Result<(Self, Option<T>), Failure> {
        let context = search.context;
        let store = open_store(context)?;
        let planned = Planned::of(workplace, context, &store, &[name.to_string()], search.platform)?;
        // Not `Failure::no`: that would say that the images differ.
        let image = Self::of_plan(context, &planned, name)?.ok_or_else(|| {
            Failure::project(format!("the image `{name}` is not built, or not as the recipes are now"))
                .hint(format!("run `parvis build {name}`"))
        })?;
        // What was signed before it is sent anywhere stands beside what was built.
        let out = planned.workplace.folder.root().join("out");
        let answered = match (image.manifest, out.join("index.json").is_file()) {
            (Some(manifest), true) => match layout::open(&out).map_err(|error| from_layout(&error))? {
                Handed::Folder(folder) => about(&folder, (&out, Form::Folder), manifest, ask)?,
                Handed::File(_) => None,
            },
            _ => None,
        };
        Ok((image, answered))
    }

    /// Reads an image of a registry: its documents, then its layers as they come, each compared with its digests.
    fn of_registry<T>(search: Search<'_>, wanted: &Reference, ask: Ask<'_, T>) -> Result<(Self, Option<T>), Failure> {
        let pick = wanted.pick.as_ref().ok_or_else(|| {
            Failure::project(format!("`{wanted}` does not say which image")).hint("add a tag or a digest behind the name")
        })?;
        let asked = platform_of(search.platform)?;
        let remote = search.reach.open(search.context, &wanted.repository, Access::Read)?;
        let absent = || {
            Failure::project(format!("there is no `{wanted}`")).hint(
                "check the name and the tag; a registry may also say so of what is not for everybody: log in with `docker login`",
            )
        };
        let top = remote.find(pick).map_err(from_repository)?.ok_or_else(absent)?;
        let lines = placed::manifests(&remote, &top).map_err(from_document)?;
        let line = fitting(&lines, wanted, asked.as_ref(), search.context.machine)?;
        let (placed, image) = Placed::open(&remote, line).map_err(from_document)?;
        let found = &image.config.platform;
        if let Some(asked) = asked.as_ref().map(Platform::of).filter(|asked| !is_for(found, asked)) {
            return Err(Failure::project(format!("`{wanted}` is for `{found}`, and not for `{asked}`")));
        }
        let sizes: Vec<u64> = image.layers.iter().filter_map(|layer| Some(layer.descriptor.as_ref()?.size)).collect();
        let read = Self::read(search.context, &placed, &image, sizes, &wanted.to_string());
        let mut read = read.map_err(|error| from_registry(wanted, placed.last(), error))?;
        read.names = vec![wanted.to_string()];
        let index = (top.digest != line.digest).then_some(top.digest);
        let repository = Some(wanted.repository.to_string());
        let answered = ask(&Standing { place: &remote, image: line.digest, index, repository })?;
        Ok((read, Some(answered)))
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
        for at in [STATUS, PASSWD, RELEASE] {
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
            stated: None,
        }))
    }

    /// Reads an image of a layout or archive.
    fn of_files<T>(
        search: Search<'_>,
        files: &dyn Files,
        (path, form): (&Path, Form),
        name: Option<&str>,
        ask: Ask<'_, T>,
    ) -> Result<(Self, Option<T>), Failure> {
        let platform = platform_of(search.platform)?;
        let images = archive::read(files).map_err(|error| refused(path, error.into()))?;
        let image = choose(&images, path, name, platform.as_ref())?;
        let mut sizes = Vec::new();
        for layer in &image.layers {
            let opened = files.open(&layer.file).map_err(|error| refused(path, error.into()))?;
            sizes.push(opened.map_or(0, |(size, _)| size));
        }
        let place = path.display().to_string();
        let read = Self::read(search.context, files, image, sizes, &place).map_err(|error| refused(path, error))?;
        let answered = match &image.manifest {
            Some(manifest) => about(files, (path, form), manifest.digest, ask)?,
            None => None,
        };
        Ok((read, answered))
    }

    /// Reads the layers of an image.
    fn read(
        context: &Context<'_>,
        files: &dyn Files,
        image: &FoundImage,
        layer_sizes: Vec<u64>,
        place: &str,
    ) -> Result<Self, LayerReadError> {
        let task = context.screen.work("reading", Some(layer_sizes.iter().sum()), Unit::Bytes);
        task.detail(place);
        let mut hashing = Hashing::default();
        let counted = Counted { files, task: &*task };
        let tree = reader::read_image(&counted, image, Limits::default(), &mut hashing)?;
        Ok(Self {
            tree,
            database: hashing.kept,
            config: image.config.clone(),
            layer_sizes,
            layer_digests: image.layers.iter().map(|layer| layer.descriptor.as_ref().map(|found| found.digest)).collect(),
            manifest: image.manifest.as_ref().map(|manifest| manifest.digest),
            names: image.names.clone(),
            brought: BTreeMap::new(),
            stated: Some(hashing.layers),
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

/// Asks about an image of a layout or archive; nothing is answered where an archive has no place for what is said of images.
fn about<T>(files: &dyn Files, (path, form): (&Path, Form), image: BlobDigest, ask: Ask<'_, T>) -> Result<Option<T>, Failure> {
    let place = Layout::open(files, &path.display().to_string(), form).map_err(from_repository)?;
    let mut index = None;
    let mut names = Vec::new();
    for listed in place.images() {
        let own = placed::manifests(&place, &listed.descriptor).map_err(from_repository)?;
        if own.iter().any(|line| line.digest == image) {
            index = index.or((listed.descriptor.digest != image).then_some(listed.descriptor.digest));
            names.extend(listed.names.iter().map(String::as_str));
        }
    }
    let repository = names.first().and_then(|name| repository_of(name, None));
    ask(&Standing { place: &place, image, index, repository }).map(Some)
}

fn platform_of(name: Option<&str>) -> Result<Option<Architecture>, Failure> {
    name.map(str::parse).transpose().map_err(|error: crate::model::name::InvalidName| {
        Failure::project(error.to_string()).hint("for example `--platform amd64`")
    })
}

fn is_for(found: &Platform, asked: &Platform) -> bool {
    let variant = found.variant.is_none() || found.variant == asked.variant;
    (&found.os, &found.architecture) == (&asked.os, &asked.architecture) && variant
}

/// Chooses from the images of an index: the one that was asked for, the only one, or that of this machine.
fn fitting<'a>(
    lines: &'a [Descriptor],
    wanted: &Reference,
    asked: Option<&Architecture>,
    machine: &str,
) -> Result<&'a Descriptor, Failure> {
    if let [only] = lines {
        return Ok(only);
    }
    let machine = machine.parse::<Architecture>().ok();
    let platform = asked.or(machine.as_ref()).map(Platform::of);
    let fits = |line: &&Descriptor| {
        platform.as_ref().is_some_and(|asked| line.platform.as_ref().is_some_and(|found| is_for(found, asked)))
    };
    let mut found = lines.iter().filter(fits);
    if let (Some(line), None) = (found.next(), found.next()) {
        return Ok(line);
    }
    let name = |line: &Descriptor| Some(escape(line.platform.as_ref()?.to_string().as_bytes()));
    let has: Vec<String> = lines.iter().filter_map(name).collect();
    Err(Failure::project(format!("`{wanted}` has {} images, and not one that is meant", lines.len()))
        .hint(format!("choose with `--platform`, or by digest; it has: {}", has.join(", "))))
}

/// Says why a document of a registry was not read.
fn from_document(error: RepositoryError) -> Failure {
    let is_damaged = matches!(error, RepositoryError::Damaged { .. });
    let failure = from_repository(error);
    if is_damaged { failure.hint("do not use the image: ask whom it came from, or push it again") } else { failure }
}

/// Says why a layer of a registry was not read.
fn from_registry(wanted: &Reference, layer: Option<BlobDigest>, error: LayerReadError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| "run the same command again; if it stays so, do not use the image".to_owned());
    let layer = layer.map_or_else(String::new, |layer| format!("the layer `{layer}` of "));
    // Whether it is an entry, the bytes or the network: the last of the causes names it.
    let mut cause: &(dyn Error + 'static) = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure::world(format!("{layer}`{wanted}` cannot be used")).because(cause.to_string()).hint(hint)
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
    let other = "a layout folder, an archive file, or an image in a registry (`registry.example/parish/httpd:1.4.0`)";
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
