//! `parvis attest`: what an image consists of, what it was made from, and what its tests found, signed and hung on the image.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::key::{RELEASE, Unlock, open_key};
use super::registry::{Reach, from_repository, repository};
use super::save::from_output;
use super::workplace::{LOCK_FILE, Planned, Workplace, open_store};
use super::{Answer, Context, places};
use crate::edge::git::{Git, GitError};
use crate::edge::layout;
use crate::edge::output;
use crate::edge::registry::Access;
use crate::edge::store::Store;
use crate::execute::from_store;
use crate::failure::Failure;
use crate::image::oci::Descriptor;
use crate::image::repository::WritableRepository;
use crate::image::sbom::Format;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::name::{Architecture, ImageName};
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
    `parvis test --attest` kept. They hang on the manifest of each architecture, never inside of an index; a second run changes nothing.")]
pub struct Arguments {
    /// Images to attest, as they are built now
    #[arg(required = true)]
    images: Vec<String>,
    /// Where the images are: a layout folder, an archive, or the registry (perhaps with a path) to which they were pushed
    /// (default: `out` in the project)
    #[arg(long, value_name = "FOLDER|FILE|REGISTRY/PREFIX")]
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
    /// Architecture of the images, may be given several times (default: in a registry all of the project, else this machine's)
    #[arg(long, value_name = "NAME")]
    platform: Vec<String>,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    reach: Reach,
}

/// What is said of one image.
struct Said {
    image: ImageName,
    platform: Architecture,
    /// What it is called outside, by the project.
    repository: String,
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
    let workplace = Workplace::open(context)?;
    let place = match &arguments.to {
        None => Place::Path(workplace.folder.root().join("out")),
        Some(text) => match layout::locate(text) {
            Some((path, None)) => Place::Path(path),
            _ => Place::Registry(super::push::plain_prefix(text)),
        },
    };
    let platforms: BTreeSet<Architecture> = match (&place, &arguments.platform[..]) {
        // As `parvis push` sends them: an index of all.
        (Place::Registry(_), []) => workplace.project.architectures.iter().cloned().collect(),
        (Place::Path(_), []) => [workplace.platform(context, None)?].into(),
        (_, named) => named.iter().map(|name| workplace.platform(context, Some(name))).collect::<Result<_, _>>()?,
    };
    drop(workplace);
    let store = open_store(context)?;
    let mut said = Vec::new();
    for name in &arguments.images {
        let image: ImageName = name.parse().map_err(|error| Failure::project(format!("{error}")))?;
        for platform in &platforms {
            let planned = Planned::make(context, &store, std::slice::from_ref(name), Some(platform.as_str()))?;
            said.push(say(&planned, context, &image, &arguments.builder)?);
        }
    }
    for one in said.iter().filter(|one| !one.tested) {
        let image = &one.image;
        let of = if platforms.len() > 1 { format!("{image} for {}", one.platform) } else { image.to_string() };
        context.screen.note(&format!("{of}: nothing is said of its tests: `parvis test --attest {image}` keeps what they find"));
    }
    if let Some(folder) = &arguments.output {
        return write(&said, folder, platforms.len() > 1, context);
    }
    let key = open_key(&arguments.key, &arguments.unlock, context)?;
    let hung = hang(&said, &place, &key, &arguments.reach, context)?;
    context.answer(
        || json!({"key": key.public().fingerprint(), "images": hung.iter().map(Hung::json).collect::<Vec<_>>()}),
        || {
            let mut lines: Vec<String> = hung.iter().map(Hung::line).collect();
            lines.push(format!("by the key {}", key.public().fingerprint()));
            lines
        },
    );
    Ok(())
}

/// Gathers everything that can be said of an image.
fn say(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName, builder: &str) -> Result<Said, Failure> {
    let subject = subject(planned, context, image)?;
    let inventory = super::sbom::inventory(planned, context, image)?;
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
    let repository = planned.workplace.repository(image);
    let platform = planned.plan.platform.clone();
    Ok(Said { image: image.clone(), platform, repository, subject, predicates, tested })
}

/// Returns the manifest of a built image.
fn subject(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName) -> Result<Descriptor, Failure> {
    let step = planned.plan.images.iter().find(|plan| plan.name == *image).map(|plan| plan.image_step().key);
    let record = step.map(|key| planned.site(context).image(&key)).transpose()?.flatten();
    let record = record.ok_or_else(|| {
        let platform = &planned.plan.platform;
        Failure::no(format!("the image `{image}` is not built for `{platform}`, or not as the recipes are now"))
            .hint(format!("run `parvis build {image} --platform {platform}`"))
    })?;
    Ok(record.descriptor())
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

/// Writes statements without signatures, where there are several architectures with that in the files' names.
fn write(said: &[Said], folder: &std::path::Path, several: bool, context: &Context<'_>) -> Answer {
    let mut files = Vec::new();
    for one in said {
        for (kind, predicate_type, predicate) in &one.predicates {
            let statement = statement(&one.repository, one, predicate_type, predicate);
            let bytes = statement.to_bytes().map_err(|error| Failure::bug("a statement cannot be written").because(error))?;
            let platform = if several { format!(".{}", one.platform) } else { String::new() };
            let file = folder.join(format!("{}{platform}.{kind}.json", one.image));
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

/// Where images are, on which statements are hung.
enum Place {
    /// A layout or an archive.
    Path(PathBuf),
    /// What stands before an image's name in a registry.
    Registry(String),
}

/// An image with what is hung on it, signed.
struct Signed<'a> {
    said: &'a Said,
    /// What the image is called where it is.
    repository: String,
    attachments: Vec<(&'static str, Attachment)>,
}

/// Signs all statements, then hangs them on their images.
fn hang(said: &[Said], place: &Place, key: &SigningKey, reach: &Reach, context: &Context<'_>) -> Result<Vec<Hung>, Failure> {
    let mut signed = Vec::new();
    for one in said {
        let repository = match place {
            Place::Path(_) => one.repository.clone(),
            Place::Registry(prefix) => format!("{prefix}/{}", one.image),
        };
        let mut attachments = Vec::new();
        for (kind, predicate_type, predicate) in &one.predicates {
            let statement = statement(&repository, one, predicate_type, predicate);
            let attachment = Attachment::sign(&statement, &one.subject, key)
                .map_err(|error| Failure::bug("a statement cannot be signed").because(error))?;
            attachments.push((*kind, attachment));
        }
        signed.push(Signed { said: one, repository, attachments });
    }
    match place {
        Place::Path(path) => {
            places::change(path, |layout| signed.iter().map(|one| one.hang(layout, &path.display().to_string())).collect())
        }
        Place::Registry(prefix) => {
            let hang = |one: &Signed<'_>| {
                let name = repository(prefix, one.said.image.as_str())?;
                one.hang(&reach.open(context, &name, Access::Write)?, &one.repository)
            };
            signed.iter().map(hang).collect()
        }
    }
}

/// Says of built images all that can be said, signed, in a registry that has them.
pub fn attest(planned: &Planned<'_>, context: &Context<'_>, prefix: &str, key: &SigningKey, reach: &Reach) -> Answer {
    let images = planned.names.iter();
    let said = images.map(|image| say(planned, context, image, BUILDER)).collect::<Result<Vec<_>, _>>()?;
    hang(&said, &Place::Registry(prefix.to_owned()), key, reach, context).map(drop)
}

/// What hangs on an image now: kind, digest of the artifact, and whether it was not there before.
struct Hung {
    repository: String,
    platform: Architecture,
    manifest: BlobDigest,
    statements: Vec<(&'static str, BlobDigest, bool)>,
}

impl Signed<'_> {
    fn hang(&self, place: &dyn WritableRepository, shown: &str) -> Result<Hung, Failure> {
        let (image, digest) = (&self.said.image, &self.said.subject.digest);
        if place.document(digest).map_err(from_repository)?.is_none() {
            return Err(Failure::no(format!("`{shown}` has no image `{image}` as it is built now ({digest})"))
                .hint(format!("run `parvis build {image}`, `parvis push {image}` or `parvis save {image}`, then this again")));
        }
        let mut statements = Vec::new();
        for (kind, attachment) in &self.attachments {
            let is_new = attachment.put(place, digest).map_err(from_repository)?;
            statements.push((*kind, attachment.artifact.digest, is_new));
        }
        let platform = self.said.platform.clone();
        Ok(Hung { repository: self.repository.clone(), platform, manifest: *digest, statements })
    }
}

impl Hung {
    fn json(&self) -> Value {
        let statement = |(kind, artifact, is_new): &(&str, BlobDigest, bool)| json!({"kind": kind, "artifact": artifact.to_string(), "new": is_new});
        let statements: Vec<Value> = self.statements.iter().map(statement).collect();
        let (platform, manifest) = (self.platform.as_str(), self.manifest.to_string());
        json!({"repository": self.repository, "platform": platform, "manifest": manifest, "statements": statements})
    }

    fn line(&self) -> String {
        let new: Vec<&str> = self.statements.iter().filter(|(.., is_new)| *is_new).map(|(kind, ..)| *kind).collect();
        let what = if new.is_empty() { "nothing new".to_owned() } else { new.join(", ") };
        format!("{}@{}: {what}", self.repository, self.manifest)
    }
}
