//! `parvis attest`: what an image consists of, what it was made from, and what its tests found, signed and hung on the image.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::key::{RELEASE, Unlock, from_keys};
use super::registry::{Reach, from_repository};
use super::save::from_output;
use super::workplace::{LOCK_FILE, Planned, open_store};
use super::{Answer, Context};
use crate::edge::git::{Git, GitError};
use crate::edge::keys::{self, Keys};
use crate::edge::output;
use crate::edge::registry::Access;
use crate::edge::store::Store;
use crate::execute::from_store;
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor};
use crate::image::repository::Repository as _;
use crate::image::sbom::Format;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::name::{ImageName, KeyName};
use crate::model::reference::{InvalidReference, RepositoryName};
use crate::trust::key::SigningKey;
use crate::trust::provenance::{BUILDER, Commit, Material, Provenance};
use crate::trust::results::{Results, TEST_RESULT};
use crate::trust::statement::{Attachment, CYCLONEDX, SLSA, SPDX, Statement, Subject};

/// The kind of record under which test results are kept, by the digest of the image's manifest.
const RECORD: &str = "tests-1";

/// Bytes of a recipe or of `parvis.yaml` at most; both were read within narrower bounds before.
const FILE_LIMIT: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Signed are, of each image: its list in both formats, its provenance, and the results that \
    `parvis test --attest` kept. They hang on the manifest of the architecture, never inside of an index; a second run changes nothing.")]
pub struct Arguments {
    /// Images to attest, which must be built, and pushed unless `--output` is given
    #[arg(required = true)]
    images: Vec<String>,
    /// Registry, perhaps with a path, under which each image has its name (default: `registry` in `parvis.yaml`)
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    to: Option<String>,
    /// Write the statements to files of this folder, unsigned, and send nothing
    #[arg(long, short, value_name = "FOLDER", conflicts_with_all = ["to", "key"])]
    output: Option<PathBuf>,
    /// Key that signs: its name, or a file in cosign's form
    #[arg(long, value_name = "NAME|FILE", default_value = RELEASE)]
    key: String,
    /// Address that stands for who built and where
    #[arg(long, value_name = "URI", default_value = BUILDER)]
    builder: String,
    /// Architecture of the images (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    reach: Reach,
}

/// What is said of one image.
struct Said {
    image: ImageName,
    subject: Descriptor,
    /// By a short name.
    predicates: Vec<(&'static str, &'static str, Value)>,
    /// There are results of its tests, or it has no tests.
    tested: bool,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    if !arguments.builder.contains(':') || !arguments.builder.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::project(format!("`{}` is not an address", arguments.builder.escape_debug()))
            .hint("give one that you control: `https://parish.example/builders/1`"));
    }
    let store = open_store(context)?;
    let mut said = Vec::new();
    let mut prefix = arguments.to.clone();
    for name in &arguments.images {
        let planned = Planned::make(context, &store, std::slice::from_ref(name), arguments.platform.as_deref())?;
        prefix = prefix.or_else(|| planned.workplace.project.registry.clone());
        let image: ImageName = name.parse().map_err(|error| Failure::project(format!("{error}")))?;
        said.push(say(&planned, context, &image, &arguments.builder)?);
    }
    for one in said.iter().filter(|one| !one.tested) {
        context.screen.note(&format!(
            "{}: nothing is said of its tests: `parvis test --attest {}` keeps what they find",
            one.image, one.image
        ));
    }
    match &arguments.output {
        Some(folder) => write(&said, folder, context),
        None => {
            let prefix = prefix.ok_or_else(|| {
                Failure::project("it is not said in which registry the images are")
                    .hint("write `registry: registry.example/parish` into `parvis.yaml`, or add `--to registry.example/parish`")
            })?;
            hang(&said, prefix.trim_end_matches('/'), arguments, context)
        }
    }
}

/// Gathers everything that can be said of an image.
fn say(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName, builder: &str) -> Result<Said, Failure> {
    let inventory = super::sbom::inventory(planned, context, image)?;
    let subject = subject(planned, context, image)?;
    let list = |format| inventory.document(format).map_err(|error| Failure::bug("the list cannot be written").because(error));
    let mut predicates = vec![
        ("spdx", SPDX, list(Format::Spdx)?),
        ("cyclonedx", CYCLONEDX, list(Format::CycloneDx)?),
        ("provenance", SLSA, provenance(planned, context, image, builder)?.predicate()),
    ];
    let recipe = planned.workplace.catalog.recipe(image);
    let has_tests = recipe.is_some_and(|recipe| !recipe.tests.is_empty());
    let results = kept_results(planned.store, &subject.digest, &recipe_digest(planned, image)?)?;
    let tested = results.is_some() || !has_tests;
    predicates.extend(results.map(|results| ("tests", TEST_RESULT, results)));
    Ok(Said { image: image.clone(), subject, predicates, tested })
}

/// Returns the manifest of a built image.
fn subject(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName) -> Result<Descriptor, Failure> {
    let step = planned.plan.images.iter().find(|plan| plan.name == *image).map(|plan| plan.image_step().key);
    let record = step.map(|key| planned.site(context).image(&key)).transpose()?.flatten();
    let record = record.ok_or_else(|| {
        Failure::no(format!("the image `{image}` is not built, or not as the recipes are now"))
            .hint(format!("run `parvis build {image}`"))
    })?;
    Ok(Descriptor {
        media_type: oci::MANIFEST.to_owned(),
        digest: record.manifest,
        size: record.manifest_size,
        artifact_type: None,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    })
}

/// Returns the digest of a file of the project.
fn digest_of(planned: &Planned<'_>, path: &str) -> Result<String, Failure> {
    let content = planned.workplace.folder.read(path, FILE_LIMIT).map_err(Failure::from)?;
    let content = content.ok_or_else(|| Failure::project(format!("`{path}` is gone")).hint("run the same command again"))?;
    Ok(FileDigest::of(&content).hex())
}

fn recipe_digest(planned: &Planned<'_>, image: &ImageName) -> Result<String, Failure> {
    digest_of(planned, &recipe_file(image))
}

fn recipe_file(image: &ImageName) -> String {
    format!("recipes/{image}.yaml")
}

/// Returns how a built image was made.
fn provenance(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName, builder: &str) -> Result<Provenance, Failure> {
    let (workplace, plan, site) = (&planned.workplace, &planned.plan, planned.site(context));
    let mut materials = site.materials(plan, image)?;
    let recipes = plan.images.iter().map(|image| recipe_file(&image.name));
    for path in ["parvis.yaml".to_owned(), LOCK_FILE.to_owned()].into_iter().chain(recipes) {
        let digest = digest_of(planned, &path)?;
        materials.push(Material::new(path, digest));
    }
    Ok(Provenance {
        image: image.to_string(),
        platform: plan.platform.to_string(),
        profile: workplace.profile.clone(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        writer: planned.lock.writer,
        compression: workplace.compressor().to_string(),
        builder: builder.to_owned(),
        commit: commit(planned)?,
        steps: site.step_facts(plan),
        materials,
    })
}

/// Returns the commit that the project stands at, with what differs of the files that decide images; nothing where git knows
/// nothing of the project.
fn commit(planned: &Planned<'_>) -> Result<Option<Commit>, Failure> {
    let known = Git::open(planned.workplace.folder.root()).and_then(|git| Ok((git.head()?.id, git.dirty()?)));
    match known {
        Ok((id, mut changed)) => {
            changed.retain(|path| {
                matches!(path.as_str(), "parvis.yaml" | LOCK_FILE) || path.starts_with("recipes/") || path.starts_with("images/")
            });
            changed.sort();
            Ok(Some(Commit { id, changed }))
        }
        Err(GitError::Missing | GitError::NoRepository { .. } | GitError::NoCommit { .. }) => Ok(None),
        Err(error) => Err(Failure::world(error.to_string()).maybe_hint(error.hint().map(str::to_owned))),
    }
}

/// Keeps what the tests of a built image found.
pub fn keep_results(
    planned: &Planned<'_>,
    context: &Context<'_>,
    image: &ImageName,
    tests: Vec<(String, bool)>,
) -> Result<(), Failure> {
    let subject = subject(planned, context, image)?;
    let recipe = (recipe_file(image), recipe_digest(planned, image)?);
    let bytes = serde_json::to_vec(&Results { recipe, tests }.predicate())
        .map_err(|error| Failure::bug("test results cannot be written").because(error))?;
    planned.store.put_record(RECORD, &subject.digest.hex(), &bytes).map_err(from_store)
}

/// Returns the results of an image's tests, if they are those of the recipe as it is.
fn kept_results(store: &Store, manifest: &BlobDigest, recipe: &str) -> Result<Option<Value>, Failure> {
    let kept = store.record(RECORD, &manifest.hex()).map_err(from_store)?;
    let results: Option<Value> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(results.filter(|results| results["configuration"][0]["digest"]["sha256"] == recipe))
}

/// Writes statements without signatures.
fn write(said: &[Said], folder: &std::path::Path, context: &Context<'_>) -> Answer {
    let mut files = Vec::new();
    for one in said {
        for (kind, predicate_type, predicate) in &one.predicates {
            let statement = statement(&one.image.to_string(), one, predicate_type, predicate);
            let bytes = statement.to_bytes().map_err(|error| Failure::bug("a statement cannot be written").because(error))?;
            let file = folder.join(format!("{}.{kind}.json", one.image));
            output::write_whole(&file, |out| out.write_all(&bytes)).map_err(from_output)?;
            files.push(file);
        }
    }
    context.answer(|| json!({ "files": files }), || files.iter().map(|file| format!("{} (unsigned)", file.display())).collect());
    Ok(())
}

fn statement(name: &str, said: &Said, predicate_type: &str, predicate: &Value) -> Statement {
    Statement {
        subjects: vec![Subject { name: name.to_owned(), digest: said.subject.digest }],
        predicate_type: predicate_type.to_owned(),
        predicate: predicate.clone(),
    }
}

/// Signs all statements, then hangs them on their images.
fn hang(said: &[Said], prefix: &str, arguments: &Arguments, context: &Context<'_>) -> Answer {
    let key = open_key(arguments, context)?;
    let mut work = Vec::new();
    for one in said {
        let repository: RepositoryName = format!("{prefix}/{}", one.image)
            .parse()
            .map_err(|error: InvalidReference| Failure::project(error.to_string()).hint(error.hint()))?;
        let mut attachments = Vec::new();
        for (kind, predicate_type, predicate) in &one.predicates {
            let statement = statement(&repository.to_string(), one, predicate_type, predicate);
            let attachment = Attachment::sign(&statement, &one.subject, &key)
                .map_err(|error| Failure::bug("a statement cannot be signed").because(error))?;
            attachments.push((*kind, attachment));
        }
        work.push((one, repository, attachments));
    }
    let mut lines = Vec::new();
    let mut images = Vec::new();
    for (one, repository, attachments) in &work {
        let remote = arguments.reach.open(context, repository, Access::Write)?;
        let digest = &one.subject.digest;
        if remote.document(digest).map_err(from_repository)?.is_none() {
            return Err(Failure::no(format!("`{repository}` has no image `{digest}`"))
                .hint(format!("run `parvis push {}`, then this again", one.image)));
        }
        let mut new = Vec::new();
        let mut entries = Vec::new();
        for (kind, attachment) in attachments {
            let is_new = attachment.put(&remote, digest).map_err(from_repository)?;
            new.extend(is_new.then_some(*kind));
            entries.push(json!({"kind": kind, "artifact": attachment.artifact.digest.to_string(), "new": is_new}));
        }
        lines.push(match &new[..] {
            [] => format!("{repository}@{digest}: nothing new"),
            new => format!("{repository}@{digest}: {}", new.join(", ")),
        });
        images.push(json!({"repository": repository.to_string(), "manifest": digest.to_string(), "statements": entries}));
    }
    context.answer(|| json!({ "images": images }), || lines);
    Ok(())
}

fn open_key(arguments: &Arguments, context: &Context<'_>) -> Result<SigningKey, Failure> {
    let passphrase = arguments.unlock.open(&arguments.key, context)?;
    let own = Keys::new(&context.config);
    let file = std::path::Path::new(&arguments.key);
    match arguments.key.parse::<KeyName>() {
        // What is no key of this user's may still be a file.
        Ok(name) if own.has(&name) || !file.exists() => own.open(&name, &passphrase).map_err(from_keys),
        _ => keys::signing_key(file, &passphrase).map_err(from_keys),
    }
}
