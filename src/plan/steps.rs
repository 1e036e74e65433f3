//! The plan of a build: every step with its key, known before anything runs.
//!
//! A key is the digest of everything that can change the step's result, each part under a label. The labels are what
//! `parvis plan` names when a step is no longer recalled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::catalog::Catalog;
use crate::model::digest::{FileDigest, StepKey};
use crate::model::lock::composer::{DownloadKind, LockedDownload};
use crate::model::lock::{Lock, LockedPackage};
use crate::model::name::{Architecture, ImageName, PackageName};
use crate::model::recipe::{ComposerRule, FileRule, FileSource, ImageConfig, Parent, Recipe};
use crate::model::tree::TreePath;

/// The number of the engine: raised whenever the same inputs would give another tree.
const ENGINE: u32 = 2;

/// The number of the way in which downloads are offered to Composer, and its result taken: raised whenever the same inputs would
/// give another tree.
const COMPOSER_OFFER: u32 = 1;

/// One file of a recipe's source folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path below the source; the root where the source is itself a file.
    pub path: TreePath,
    /// The content; `None` for a folder.
    pub content: Option<(FileDigest, u64)>,
}

/// What stands below each source that recipes name, by image and path below `images/NAME/`.
pub type Sources = BTreeMap<(ImageName, TreePath), Vec<SourceFile>>;

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Accounts, packages and their scripts: parent's tree → tree.
    Packages { packages: Vec<PackageName> },
    /// A PHP project with the packages that Composer installs: tree → tree.
    Composer,
    /// Declared files and copies from siblings: tree → tree.
    Files,
    /// One command in the sandbox: tree → tree. The number is its place in the recipe.
    Run { index: usize },
    /// Removal of what the recipe's patterns match: tree → tree.
    Remove,
    /// The tree as layers.
    Layers,
    /// The image's configuration and manifest.
    Image,
}

impl Work {
    /// Returns the word that people and `--json` see.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Packages { .. } => "packages",
            Self::Composer => "composer",
            Self::Files => "files",
            Self::Run { .. } => "run",
            Self::Remove => "remove",
            Self::Layers => "layers",
            Self::Image => "image",
        }
    }
}

/// One part of what a step depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// What it is, in words: `package openssl`, `file images/httpd/site.conf`, `parent base`.
    pub label: String,
    /// Its value or the digest of it.
    pub value: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub work: Work,
    /// Sorted by label.
    pub inputs: Vec<Input>,
    pub key: StepKey,
}

impl Step {
    fn new(work: Work, mut inputs: Vec<Input>) -> Self {
        inputs.sort();
        let mut text = format!("parvis-step {ENGINE}\n{}\n", work.word());
        for input in &inputs {
            // Debug quoting keeps a label or value with a newline from passing for two.
            let _ = writeln!(text, "{:?}={:?}", input.label, input.value);
        }
        let key = StepKey::of(text.as_bytes());
        Self { work, inputs, key }
    }

    /// Returns the name under which the last run of this step is remembered within its image.
    #[must_use]
    pub fn place(&self) -> String {
        match self.work {
            Work::Run { index } => format!("run-{index}"),
            _ => self.work.word().to_owned(),
        }
    }

    /// Returns in words what differs from the inputs of an earlier run of the same step, at most one line each.
    #[must_use]
    pub fn reasons(&self, earlier: &[Input]) -> Vec<String> {
        let old: BTreeMap<&str, &str> = earlier.iter().map(|input| (&*input.label, &*input.value)).collect();
        let new: BTreeMap<&str, &str> = self.inputs.iter().map(|input| (&*input.label, &*input.value)).collect();
        let mut labels: BTreeSet<&str> = old.keys().copied().collect();
        labels.extend(new.keys());
        let reason = |label: &str| match (old.get(label), new.get(label)) {
            (Some(_), None) => Some(format!("{label} is gone")),
            (None, Some(_)) => Some(format!("{label} is new")),
            (Some(old), Some(new)) if old != new => Some(format!("{label} changed")),
            _ => None,
        };
        labels.into_iter().filter_map(reason).collect()
    }
}

/// The steps of one image, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    pub name: ImageName,
    pub steps: Vec<Step>,
    /// The key of the finished tree, which is the parent's where the image adds nothing; nothing for an empty image.
    pub tree: Option<StepKey>,
}

impl ImagePlan {
    /// Returns the last step that makes a tree, if the image adds anything to its parent's.
    #[must_use]
    pub fn tree_step(&self) -> Option<&Step> {
        self.steps.iter().rev().find(|step| !matches!(step.work, Work::Layers | Work::Image))
    }

    /// Returns the step that makes the layers.
    #[must_use]
    pub fn layers_step(&self) -> &Step {
        &self.steps[self.steps.len() - 2]
    }

    /// Returns the step that makes the image.
    #[must_use]
    pub fn image_step(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }
}

/// Everything a build of some images on one platform will do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub platform: Architecture,
    /// Parents and siblings that are copied from come first.
    pub images: Vec<ImagePlan>,
}

/// A lock or project from which no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the lock has nothing for the image `{image}` on {platform}")]
    NotLocked { image: ImageName, platform: Architecture },
    #[error("the source `{path}` of the image `{image}` was not read")]
    NoSource { image: ImageName, path: TreePath },
    #[error("the lock has nothing for the Composer project `{project}` of the image `{image}`")]
    NoProject { image: ImageName, project: TreePath },
    #[error("the recipe `{image}` builds on `{parent}`, which comes later")]
    Order { image: ImageName, parent: ImageName },
}

/// What the plan is made from, beside the catalog.
#[derive(Debug)]
pub struct Basis<'a> {
    pub lock: &'a Lock,
    pub platform: &'a Architecture,
    pub sources: &'a Sources,
    /// `gzip` or `zstd`.
    pub compression: &'a str,
    /// What an image's labels say of the project: name, address of its sources and the like.
    pub project: &'a str,
}

/// Makes the plan for images in build order.
///
/// # Errors
/// Where the lock or the sources do not have what a recipe needs.
pub fn make(catalog: &Catalog, names: &[ImageName], basis: &Basis<'_>) -> Result<Plan, PlanError> {
    let mut images: Vec<ImagePlan> = Vec::with_capacity(names.len());
    let mut done: BTreeMap<ImageName, usize> = BTreeMap::new();
    for name in names {
        let recipe = catalog.recipe(name).ok_or_else(|| not_locked(name, basis))?;
        let plan = image_plan(recipe, &catalog.config(name), basis, |other| {
            let at = done.get(other).ok_or_else(|| PlanError::Order { image: name.clone(), parent: other.clone() })?;
            Ok(&images[*at])
        })?;
        done.insert(name.clone(), images.len());
        images.push(plan);
    }
    Ok(Plan { platform: basis.platform.clone(), images })
}

/// The home of a command whose account is known only where its image is: in a key, in place of the path.
const HOME_OF_ACCOUNT: &str = "(of the account)";

/// Returns the variables that a command in an image sees: those that every command has, those of the image with what it
/// inherits, and the command's own, each over the ones before. The key of a `run` step names the same.
#[must_use]
pub fn environment(config: &ImageConfig, own: &BTreeMap<String, String>, home: &str) -> BTreeMap<String, String> {
    let always = [("HOME", home), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
    let mut variables: BTreeMap<String, String> =
        always.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for more in [&config.env, own] {
        variables.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    variables
}

fn not_locked(image: &ImageName, basis: &Basis<'_>) -> PlanError {
    PlanError::NotLocked { image: image.clone(), platform: basis.platform.clone() }
}

fn image_plan<'a>(
    recipe: &Recipe,
    config: &ImageConfig,
    basis: &Basis<'_>,
    earlier: impl Fn(&ImageName) -> Result<&'a ImagePlan, PlanError>,
) -> Result<ImagePlan, PlanError> {
    let locked = basis.lock.image(&recipe.name, basis.platform).ok_or_else(|| not_locked(&recipe.name, basis))?;
    let parent = match &recipe.from {
        Parent::Scratch => None,
        Parent::Recipe(name) => Some(earlier(name)?),
    };
    let mut trees = TreeSteps { recipe, steps: Vec::new(), before: parent.and_then(|parent| parent.tree) };

    let packages: Vec<&LockedPackage> = locked.packages().filter_map(|name| basis.lock.package(name, basis.platform)).collect();
    // What is nothing but files of its own needs neither accounts nor a package database.
    let only_files = recipe.composer.is_some() || !recipe.files.is_empty() || !recipe.copies.is_empty();
    if !packages.is_empty() || !recipe.users.is_empty() || parent.is_none() && !only_files {
        let mut inputs: Vec<Input> =
            packages.iter().map(|package| input(&format!("package {}", package.name), &package.sha256.hex())).collect();
        inputs.extend(recipe.users.iter().map(|user| {
            let account = format!(
                "{}:{}:{}:{}:{}:{}:{:?}",
                user.uid, user.gid, user.group, user.comment, user.home, user.shell, user.groups
            );
            input(&format!("user {}", user.name), &account)
        }));
        inputs.push(input("platform", basis.platform.as_str()));
        inputs.push(input("writer", &basis.lock.writer.to_string()));
        let mut names: Vec<PackageName> = packages.iter().map(|package| package.name.clone()).collect();
        names.sort();
        trees.push(Work::Packages { packages: names }, inputs);
    }
    if let Some(rule) = &recipe.composer {
        trees.push(Work::Composer, composer_inputs(recipe, rule, basis, &earlier)?);
    }
    if !recipe.files.is_empty() || !recipe.copies.is_empty() {
        let mut inputs = file_inputs(recipe, basis)?;
        for copy in &recipe.copies {
            let rule = format!("{} {} {:?}", copy.path, copy.to, copy.owners);
            let source = earlier(&copy.from)?.tree.map_or_else(String::new, |key| key.to_string());
            inputs.push(input(&format!("copy from {}{}", copy.from, copy.path), &format!("{source} {rule}")));
        }
        trees.push(Work::Files, inputs);
    }
    for (index, run) in recipe.runs.iter().enumerate() {
        let command = format!("{:?} {:?} {:?} {}", run.command, run.user, run.workdir, run.timeout);
        let mut inputs = vec![input("command", &command)];
        // Exactly what the command sees, and nothing of the configuration that it does not.
        let root = run.user.as_deref().is_none_or(|user| matches!(user.split(':').next(), Some("root" | "0")));
        let seen = environment(config, &run.env, if root { "/root" } else { HOME_OF_ACCOUNT });
        inputs.extend(seen.iter().map(|(name, value)| input(&format!("variable {name}"), value)));
        trees.push(Work::Run { index }, inputs);
    }
    if !recipe.removes.is_empty() {
        let inputs = recipe.removes.iter().map(|rule| input(&format!("pattern {}", rule.pattern), "")).collect();
        trees.push(Work::Remove, inputs);
    }

    let mut steps = trees.steps;
    let mut inputs = vec![
        input("compression", basis.compression),
        input("layer assignment", &format!("{:?}", locked.layers)),
        input("writer", &basis.lock.writer.to_string()),
        input("tree", &trees.before.map_or_else(String::new, |key| key.to_string())),
    ];
    if let Some(parent) = parent {
        inputs.push(input(&format!("layers of {}", parent.name), &parent.layers_step().key.to_string()));
    }
    let layers = Step::new(Work::Layers, inputs);
    let mut inputs = vec![
        input("configuration", &format!("{:?}", recipe.config)),
        input("description", &recipe.description),
        input("date", &basis.lock.date(locked).to_string()),
        input("layers", &layers.key.to_string()),
        input("platform", basis.platform.as_str()),
        input("project", basis.project),
    ];
    if let Some(parent) = parent {
        inputs.push(input(&format!("parent {}", parent.name), &parent.image_step().key.to_string()));
    }
    steps.push(layers);
    steps.push(Step::new(Work::Image, inputs));
    Ok(ImagePlan { name: recipe.name.clone(), steps, tree: trees.before })
}

/// The steps that make trees, each upon the one before.
struct TreeSteps<'a> {
    recipe: &'a Recipe,
    steps: Vec<Step>,
    before: Option<StepKey>,
}

impl TreeSteps<'_> {
    fn push(&mut self, work: Work, mut inputs: Vec<Input>) {
        if let Some(before) = self.before {
            let label = match (self.steps.last(), &self.recipe.from) {
                (None, Parent::Recipe(parent)) => format!("tree of {parent}"),
                _ => "the step before".to_owned(),
            };
            inputs.push(input(&label, &before.to_string()));
        }
        let step = Step::new(work, inputs);
        self.before = Some(step.key);
        self.steps.push(step);
    }
}

/// Everything that an installation by Composer depends on.
fn composer_inputs<'a>(
    recipe: &Recipe,
    rule: &ComposerRule,
    basis: &Basis<'_>,
    earlier: &impl Fn(&ImageName) -> Result<&'a ImagePlan, PlanError>,
) -> Result<Vec<Input>, PlanError> {
    let missing = || PlanError::NoProject { image: recipe.name.clone(), project: rule.project.clone() };
    let locked = basis.lock.composer(&recipe.name, &rule.project).ok_or_else(missing)?;
    let files = basis.sources.get(&(recipe.name.clone(), rule.project.clone())).ok_or_else(missing)?;
    let ComposerRule { to, owners, mode, directory_mode, exclude, scripts, authoritative, line, .. } = rule;
    let declared = format!("{to} {owners:?} {mode:o} {directory_mode:o} {exclude:?} {scripts:?} {authoritative} line {line}");
    let tree = |image: &ImageName| Ok(earlier(image)?.tree.map_or_else(String::new, |key| key.to_string()));
    let mut inputs = vec![
        input("declaration of composer", &declared),
        input("offer", &COMPOSER_OFFER.to_string()),
        input(&format!("tree of {}, in which Composer runs", rule.with), &tree(&rule.with)?),
        input(&format!("tree of {}, the platform", rule.platform), &tree(&rule.platform)?),
    ];
    for file in files {
        let value = file.content.as_ref().map_or_else(|| "folder".to_owned(), |(digest, _)| digest.hex());
        inputs.push(input(&source_label(&recipe.name, &rule.project, &file.path), &value));
    }
    for download in &locked.downloads {
        // The version moves with the digest; so one label says what changed, and not that one thing went and another came.
        let LockedDownload { kind, package, title, url, sha256, .. } = download;
        let label = match kind {
            DownloadKind::Dist => format!("composer package {package}"),
            DownloadKind::Download => format!("download {} of {package}", title.as_deref().unwrap_or(url)),
            DownloadKind::Patch => format!("patch {url} of {package}"),
        };
        inputs.push(input(&label, &format!("{sha256} {url} {:?}", download.reference)));
    }
    Ok(inputs)
}

fn source_label(image: &ImageName, source: &TreePath, path: &TreePath) -> String {
    let below = if path.is_root() { String::new() } else { path.to_string() };
    format!("file images/{image}{source}{below}")
}

fn file_inputs(recipe: &Recipe, basis: &Basis<'_>) -> Result<Vec<Input>, PlanError> {
    let mut inputs = Vec::new();
    for rule in &recipe.files {
        let FileRule { to, what, owners, mode, directory_mode, line } = rule;
        // The line is part of the tree: it says who put a file there.
        let declared = format!("{owners:?} {mode:o} {directory_mode:o} line {line}");
        let label = format!("declaration of {to}");
        match what {
            FileSource::Project(path) => {
                let key = (recipe.name.clone(), path.clone());
                let files = basis
                    .sources
                    .get(&key)
                    .ok_or_else(|| PlanError::NoSource { image: recipe.name.clone(), path: path.clone() })?;
                inputs.push(input(&label, &format!("{path} {declared}")));
                for file in files {
                    let value = file.content.as_ref().map_or_else(|| "folder".to_owned(), |(digest, _)| digest.hex());
                    inputs.push(input(&format!("{} for {to}", source_label(&recipe.name, path, &file.path)), &value));
                }
            }
            other => inputs.push(input(&label, &format!("{other:?} {declared}"))),
        }
    }
    Ok(inputs)
}

fn input(label: &str, value: &str) -> Input {
    Input { label: label.to_owned(), value: value.to_owned() }
}
