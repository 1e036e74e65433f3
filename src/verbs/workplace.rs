//! What most verbs begin with: the project read, its lock checked against its recipes, the store opened.

use std::collections::BTreeMap;

use super::Context;
use crate::edge::project::{self as edge, ProjectFolder, SourceKind, StatCache};
use crate::edge::store::Store;
use crate::execute::{self, Site};
use crate::failure::Failure;
use crate::image::member::Compressor;
use crate::model::catalog::{Catalog, UnknownImage};
use crate::model::lock::Lock;
use crate::model::name::{Architecture, ImageName, PartName};
use crate::model::problem::{Source, shown};
use crate::model::project::{Compression, Project};
use crate::model::recipe::{ComposerRule, FileSource, Recipe};
use crate::model::stack::Stack;
use crate::plan::locking;
use crate::plan::steps::{self, Basis, Plan, SourceFile, Sources};

/// The name of the lock file in the project's folder.
pub const LOCK_FILE: &str = "parvis.lock";

/// Bytes of a lock file at most: about 40,000 packages.
pub const LOCK_LIMIT: u64 = 16 << 20;

/// A project that was read.
pub struct Workplace {
    pub folder: ProjectFolder,
    pub project: Project,
    pub catalog: Catalog,
    /// The profile, where the project has any.
    pub profile: Option<String>,
    /// The variables of the profile.
    pub variables: BTreeMap<String, String>,
}

/// A file of the folder of stacks.
pub struct StackFile {
    pub name: PartName,
    /// The profile it belongs to; one without is for every profile.
    pub profile: Option<String>,
}

impl Workplace {
    /// Finds and reads the project.
    pub fn open(context: &Context<'_>) -> Result<Self, Failure> {
        let folder = ProjectFolder::find(&context.folder).map_err(Failure::from)?;
        let project = folder.project().map_err(Failure::from)?;
        let variables = project.variables(context.profile.as_deref()).map_err(|error| {
            let hint = error.hint();
            Failure::project(error.to_string()).hint(hint)
        })?;
        let catalog = folder.catalog(&variables).map_err(Failure::from)?;
        let profile = context.profile.clone().or_else(|| project.default_profile.clone());
        Ok(Self { folder, project, catalog, profile, variables })
    }

    /// Reads the lock as it stands; `None` where there is none.
    pub fn lock_if_any(&self) -> Result<Option<Lock>, Failure> {
        read_lock(&self.folder, LOCK_FILE)
    }

    /// Reads the lock, which must match the recipes.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let lock = self.lock_if_any()?.ok_or_else(|| {
            Failure::project(format!("there is no `{LOCK_FILE}`: nothing is decided yet")).hint("run `parvis lock`")
        })?;
        locking::matches(&lock, &self.catalog, &self.project.architectures).map_err(|differences| {
            let what = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Failure::project(format!("`{LOCK_FILE}` does not match the recipes: {what}")).hint("run `parvis lock`")
        })?;
        let differences = super::composer::check(self, &lock)?;
        if differences.is_empty() {
            return Ok(lock);
        }
        let what = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Err(Failure::project(format!("`{LOCK_FILE}` does not match the project: {what}")).hint("run `parvis lock`"))
    }

    /// Returns the platform to build for: the machine's own where the project has it, else the project's first.
    pub fn platform(&self, context: &Context<'_>, asked: Option<&str>) -> Result<Architecture, Failure> {
        let listed = || self.project.architectures.iter().map(Architecture::as_str).collect::<Vec<_>>().join(", ");
        let found = |name: &str| self.project.architectures.iter().find(|known| known.as_str() == name).cloned();
        match asked {
            Some(name) => found(name).ok_or_else(|| {
                Failure::project(format!("the project is not built for `{name}`"))
                    .hint(format!("parvis.yaml lists: {}", listed()))
            }),
            None => found(context.machine)
                .or_else(|| self.project.architectures.first().cloned())
                .ok_or_else(|| Failure::project("`parvis.yaml` names no architecture").hint("add `architectures: [amd64]`")),
        }
    }

    /// Returns what an image is called outside, without a tag: the registry of the project and its own name.
    pub fn repository(&self, image: &ImageName) -> String {
        let prefix = self.project.registry.clone().unwrap_or_else(|| self.project.name.to_string());
        format!("{prefix}/{image}")
    }

    /// Returns the images asked for with all they need, in build order; all images where none is named.
    pub fn select(&self, names: &[String]) -> Result<Vec<ImageName>, Failure> {
        let all: Vec<String> = self.catalog.iter().map(|member| member.recipe.name.to_string()).collect();
        let names = if names.is_empty() { &all[..] } else { names };
        let chosen = self.catalog.select(names).map_err(from_unknown_image)?;
        Ok(chosen.into_iter().map(|recipe| recipe.name.clone()).collect())
    }

    /// Reads and digests what the recipes take from `images/`.
    pub fn sources(&self, names: &[ImageName], store: &Store) -> Result<Sources, Failure> {
        let mut cache = StatCache::load(&store.root().join("stat").join(self.tag()));
        let mut sources = Sources::new();
        for recipe in names.iter().filter_map(|name| self.catalog.recipe(name)) {
            for path in project_sources(recipe) {
                let files = self.folder.sources(&recipe.name, path, &mut cache).map_err(Failure::from)?;
                let files = files.into_iter().map(|file| SourceFile {
                    path: file.path,
                    content: match file.kind {
                        SourceKind::Directory => None,
                        SourceKind::File { digest, size } => Some((digest, size)),
                    },
                });
                sources.insert((recipe.name.clone(), path.clone()), files.collect());
            }
            if let Some(rule) = &recipe.composer {
                let files = self.project_files(recipe, rule, &mut cache)?.into_iter().map(|(file, _)| file).collect();
                sources.insert((recipe.name.clone(), rule.project.clone()), files);
            }
        }
        // A cache that cannot be written only costs time.
        let _ = cache.save();
        Ok(sources)
    }

    /// Takes the files of `images/` that a build needs into the store, unless they are there.
    pub fn take_sources(&self, names: &[ImageName], store: &Store) -> Result<(), Failure> {
        let mut cache = StatCache::load(&store.root().join("stat").join(self.tag()));
        for recipe in names.iter().filter_map(|name| self.catalog.recipe(name)) {
            for rule in &recipe.files {
                let FileSource::Project(path) = &rule.what else { continue };
                for file in self.folder.sources(&recipe.name, path, &mut cache).map_err(Failure::from)? {
                    let SourceKind::File { digest, size } = file.kind else { continue };
                    if store.has_file(&digest, rule.mode, size) {
                        continue;
                    }
                    let mut content = self.folder.open_source(&recipe.name, path, &file).map_err(Failure::from)?;
                    store.put_file(&mut content, rule.mode).map_err(execute::from_store)?;
                }
            }
            if let Some(rule) = &recipe.composer {
                self.take_project(recipe, rule, store, &mut cache)?;
            }
        }
        Ok(())
    }

    /// Returns all stacks, sorted by name, with the profile that each belongs to.
    pub fn stacks(&self) -> Result<Vec<StackFile>, Failure> {
        let mut stacks = Vec::new();
        for name in self.folder.stack_names().map_err(Failure::from)? {
            let (profile, source) = self.folder.stack_profile(&name).map_err(Failure::from)?;
            if let Some(word) = profile.as_ref().filter(|word| !self.project.profiles.contains_key(&word.value)) {
                let problem = word.problem(&source, format!("the project has no profile `{}`", shown(&word.value)));
                return Err(problem.did_you_mean(&word.value, self.project.profiles.keys().map(String::as_str)).into());
            }
            stacks.push(StackFile { name, profile: profile.map(|word| word.value) });
        }
        Ok(stacks)
    }

    /// Returns whether a stack may run with the profile at hand.
    pub fn fits(&self, stack: &StackFile) -> bool {
        stack.profile.is_none() || stack.profile == self.profile
    }

    /// Reads a stack, with the file it stands in.
    pub fn stack(&self, name: &PartName) -> Result<(Stack, Source), Failure> {
        self.folder.stack(name, &self.variables, &self.catalog).map_err(Failure::from)
    }

    /// Lists a Composer project, without what Composer installed in it before.
    fn project_files(
        &self,
        recipe: &Recipe,
        rule: &ComposerRule,
        cache: &mut StatCache,
    ) -> Result<Vec<(SourceFile, edge::SourceFile)>, Failure> {
        let vendor = super::composer::Project::of(self, recipe, rule).definition()?.vendor;
        let files = self.folder.sources(&recipe.name, &rule.project, cache).map_err(Failure::from)?;
        let pair = |file: edge::SourceFile| {
            let content = match file.kind {
                SourceKind::Directory => None,
                SourceKind::File { digest, size } => Some((digest, size)),
            };
            (SourceFile { path: file.path.clone(), content }, file)
        };
        Ok(files.into_iter().filter(|file| !file.path.is_within(&vendor)).map(pair).collect())
    }

    /// Takes the files of a Composer project into the store, unless they are there.
    fn take_project(&self, recipe: &Recipe, rule: &ComposerRule, store: &Store, cache: &mut StatCache) -> Result<(), Failure> {
        for (_, file) in self.project_files(recipe, rule, cache)? {
            let SourceKind::File { digest, size } = file.kind else { continue };
            if !store.has_file(&digest, rule.mode, size) {
                let mut content = self.folder.open_source(&recipe.name, &rule.project, &file).map_err(Failure::from)?;
                store.put_file(&mut content, rule.mode).map_err(execute::from_store)?;
            }
        }
        Ok(())
    }

    /// Adds the files of one Composer project to what was read, and takes them into the store.
    pub fn add_project(&self, recipe: &Recipe, rule: &ComposerRule, store: &Store, sources: &mut Sources) -> Result<(), Failure> {
        let mut cache = StatCache::nowhere();
        self.take_project(recipe, rule, store, &mut cache)?;
        let files = self.project_files(recipe, rule, &mut cache)?.into_iter().map(|(file, _)| file).collect();
        sources.insert((recipe.name.clone(), rule.project.clone()), files);
        Ok(())
    }

    /// Returns what tells this project from others in the store: its name and place.
    fn tag(&self) -> String {
        let place = format!("{} {}", self.project.name, self.folder.root().display());
        crate::model::digest::StepKey::of(place.as_bytes()).hex()
    }

    /// Returns the plan of a build.
    pub fn plan(&self, names: &[ImageName], lock: &Lock, platform: &Architecture, sources: &Sources) -> Result<Plan, Failure> {
        let labels = format!("{:?}", self.labels());
        let compression = self.compressor().to_string();
        let basis = Basis { lock, platform, sources, compression: &compression, project: &labels };
        steps::make(&self.catalog, names, &basis)
            .map_err(|error| Failure::project(error.to_string()).hint("run `parvis lock`, then try again"))
    }

    /// Returns how layers are compressed.
    pub fn compressor(&self) -> Compressor {
        match self.project.layers.compression {
            Compression::Gzip => Compressor::Gzip,
            Compression::Zstd => Compressor::Zstd,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("org.opencontainers.image.vendor".to_owned(), self.project.name.to_string())])
    }

    /// Returns the place of work of a build.
    pub fn site<'a>(&'a self, context: &Context<'a>, store: &'a Store, lock: &'a Lock, sources: &'a Sources) -> Site<'a> {
        Site {
            store,
            catalog: &self.catalog,
            lock,
            sources,
            compressor: self.compressor(),
            threads: context.threads,
            screen: context.screen,
            labels: self.labels(),
            project: self.tag(),
            plain_scripts: false,
        }
    }
}

/// What verbs begin with that look at images: what is to be done for them, and all it was decided from.
pub struct Planned<'a> {
    pub workplace: Workplace,
    pub lock: Lock,
    pub store: &'a Store,
    /// The images asked for with all they need, in build order.
    pub names: Vec<ImageName>,
    sources: Sources,
    pub plan: Plan,
}

impl<'a> Planned<'a> {
    /// Makes the plan for images, all where none is named.
    pub fn make(context: &Context<'_>, store: &'a Store, images: &[String], platform: Option<&str>) -> Result<Self, Failure> {
        Self::of(Workplace::open(context)?, context, store, images, platform)
    }

    /// Makes the plan for images of a project that was read.
    pub fn of(
        workplace: Workplace,
        context: &Context<'_>,
        store: &'a Store,
        images: &[String],
        platform: Option<&str>,
    ) -> Result<Self, Failure> {
        let lock = workplace.lock()?;
        Self::with_lock(workplace, lock, context, store, images, platform)
    }

    /// Makes the plan for images of a project with a lock that fits its recipes, and that need not stand in its folder.
    pub fn with_lock(
        workplace: Workplace,
        lock: Lock,
        context: &Context<'_>,
        store: &'a Store,
        images: &[String],
        platform: Option<&str>,
    ) -> Result<Self, Failure> {
        let platform = workplace.platform(context, platform)?;
        let names = workplace.select(images)?;
        let sources = workplace.sources(&names, store)?;
        let plan = workplace.plan(&names, &lock, &platform, &sources)?;
        Ok(Self { workplace, lock, store, names, sources, plan })
    }

    /// Returns the place of work of a build.
    #[must_use]
    pub fn site<'b>(&'b self, context: &Context<'b>) -> Site<'b> {
        self.workplace.site(context, self.store, &self.lock, &self.sources)
    }
}

fn project_sources(recipe: &Recipe) -> impl Iterator<Item = &crate::model::tree::TreePath> {
    recipe.files.iter().filter_map(|rule| match &rule.what {
        FileSource::Project(path) => Some(path),
        _ => None,
    })
}

/// Reads a lock of a project's folder; `None` where there is none.
pub fn read_lock(folder: &ProjectFolder, path: &str) -> Result<Option<Lock>, Failure> {
    let Some(bytes) = folder.read(path, LOCK_LIMIT).map_err(Failure::from)? else { return Ok(None) };
    parse_lock(bytes, path).map(Some)
}

/// Reads a lock that stands at this place.
pub fn parse_lock(bytes: Vec<u8>, place: &str) -> Result<Lock, Failure> {
    let text = String::from_utf8(bytes).map_err(|error| Failure::project(format!("`{place}` is not text")).because(error))?;
    Lock::parse(&text).map_err(|error| {
        Failure::project(format!("`{place}` cannot be used: {error}"))
            .maybe_because(std::error::Error::source(&error).map(ToString::to_string))
            .hint("it is written by `parvis lock` only: restore it from version control, or run `parvis lock` again")
    })
}

/// Opens the store.
pub fn open_store(context: &Context<'_>) -> Result<Store, Failure> {
    Store::open(&context.store).map_err(execute::from_store)
}

fn from_unknown_image(error: UnknownImage) -> Failure {
    let hint = error.hint();
    Failure::project(error.to_string()).hint(hint)
}
