//! `parvis bundle`: what people need to run a stack, in a folder.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::save::{Built, Which, from_output};
use super::workplace::{StackFile, Workplace, open_store};
use super::{Answer, Context, build};
use crate::bundle::manifest::{ARCHIVE, MANIFEST, Manifest, SETTINGS};
use crate::bundle::write::{self, BundleError, Ingredients, keep_settings};
use crate::edge::output::{self, Hashing, NewFolder};
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::oci::Platform;
use crate::model::digest::{FileDigest, Hasher};
use crate::model::name::{InvalidName, Tag};
use crate::model::problem::{nearest, shown};
use crate::model::stack::Stack;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// For docker-compose: a folder with the compose file, its settings and a guide
    Compose(ComposeArguments),
}

#[derive(Debug, clap::Args)]
struct ComposeArguments {
    /// Stack, a file of `compose/` (default: the only one of the profile)
    stack: Option<String>,
    /// Put the images in, so that it starts with no registry and no network
    #[arg(long)]
    with_images: bool,
    /// Folder to write; one that parvis wrote is replaced, and its `.env` kept (default: `out/bundle/STACK`)
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Bytes of an earlier `.env` at most.
const SETTINGS_LIMIT: u64 = 1 << 20;

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let Kind::Compose(arguments) = &arguments.kind;
    let (folder, manifest) = compose(arguments, context)?;
    context.answer(
        || {
            json!({
                "format": 1,
                "folder": folder,
                "name": manifest.name,
                "version": manifest.version,
                "platform": manifest.platform,
                "files": manifest.files,
                "images": manifest.images,
            })
        },
        || {
            let mut lines: Vec<String> = manifest.images.iter().map(|image| image.reference.clone()).collect();
            let next = if arguments.with_images { "start.sh" } else { "README.md" };
            lines.push(format!("the bundle of `{}` is in {} (begin with `{next}` there)", manifest.name, folder.display()));
            lines
        },
    );
    Ok(())
}

/// Writes the bundle of the profile's only stack, without images, to its usual place; returns the folder. Images that are not built, or
/// not as the recipes are now, are built first, which `before` is to announce.
pub fn of_project(context: &Context<'_>, before: &dyn Fn()) -> Result<PathBuf, Failure> {
    let workplace = Workplace::open(context)?;
    build::make_sure(context, &images(&find(&workplace, None)?), before)?;
    let arguments = ComposeArguments { stack: None, with_images: false, output: None, which: Which::tagged("dev") };
    compose(&arguments, context).map(|(folder, _)| folder)
}

/// Returns where [`of_project`] writes, whether there is something or not; nothing where the folder is not that of a project with one stack.
pub fn place_of_project(context: &Context<'_>) -> Option<PathBuf> {
    let workplace = Workplace::open(context).ok()?;
    let stack = find(&workplace, None).ok()?;
    Some(usual_place(&workplace, &stack))
}

fn usual_place(workplace: &Workplace, stack: &Stack) -> PathBuf {
    workplace.folder.root().join("out/bundle").join(stack.name.as_str())
}

/// Writes the bundle of a stack into a folder that is not there yet; returns what it says of itself.
pub fn of_stack(context: &Context<'_>, stack: &str, with_images: bool, folder: &Path, which: Which) -> Result<Manifest, Failure> {
    let arguments = ComposeArguments { stack: Some(stack.to_owned()), with_images, output: Some(folder.to_owned()), which };
    compose(&arguments, context).map(|(_, manifest)| manifest)
}

/// Writes the bundle; returns its folder and what it says of itself.
fn compose(arguments: &ComposeArguments, context: &Context<'_>) -> Result<(PathBuf, Manifest), Failure> {
    let workplace = Workplace::open(context)?;
    let stack = find(&workplace, arguments.stack.as_deref())?;
    let folder = arguments.output.clone().unwrap_or_else(|| usual_place(&workplace, &stack));
    let earlier = earlier(&folder, &stack)?;
    let store = open_store(context)?;
    let built = Built::find(context, &store, &images(&stack), &arguments.which)?;
    let version: Tag = arguments.which.tag.parse().map_err(|error: InvalidName| Failure::project(error.to_string()))?;
    let platform = Platform::of(&workplace.platform(context, arguments.which.platform.as_deref())?);
    let platform = format!("{}/{}", platform.os, platform.architecture);

    let draft = NewFolder::begin(&folder).map_err(from_output)?;
    let mut archive = None;
    if arguments.with_images {
        let mut hasher = Hasher::new();
        draft.file(ARCHIVE, false, |out| built.write(&store, &mut Hashing { out, hasher: &mut hasher })).map_err(from_output)?;
        archive = Some(hasher.finish::<FileDigest>());
    }
    let bundled = built.bundled().map_err(|error| Failure::project(error.to_string()))?;
    let ingredients = Ingredients {
        stack: &stack,
        catalog: &workplace.catalog,
        images: &bundled,
        version: &version,
        platform: &platform,
        archive,
    };
    let (files, manifest) = write::write(&ingredients).map_err(from_bundle)?;
    for file in &files {
        let kept = match &earlier {
            Some(Earlier { settings: Some(settings), .. }) if file.name == SETTINGS => {
                keep_settings(&String::from_utf8_lossy(&file.bytes), settings).into_bytes()
            }
            _ => file.bytes.clone(),
        };
        draft.file(file.name, file.program, |out| out.write_all(&kept)).map_err(from_output)?;
    }
    let own = |name: &str| {
        name == MANIFEST || name == SETTINGS || earlier.as_ref().is_some_and(|earlier| earlier.manifest.files.contains_key(name))
    };
    draft.appear(own).map_err(from_output)?;
    Ok((folder, manifest))
}

/// Reads the stack that is asked for, or the only one of the profile.
fn find(workplace: &Workplace, asked: Option<&str>) -> Result<Stack, Failure> {
    const DESCRIBE: &str = "describe it in `compose/NAME.yaml`; `parvis schema stack` has the keys";
    let stacks = workplace.stacks()?;
    let fitting: Vec<&StackFile> = stacks.iter().filter(|stack| workplace.fits(stack)).collect();
    let listed = || fitting.iter().map(|stack| format!("`{}`", stack.name)).collect::<Vec<_>>().join(", ");
    let profile = workplace.profile.as_deref().unwrap_or_default();
    let file = match (asked, &fitting[..]) {
        (Some(asked), _) => {
            let file = stacks.iter().find(|stack| stack.name.as_str() == asked).ok_or_else(|| {
                let hint = match nearest(asked, stacks.iter().map(|stack| stack.name.as_str())) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if fitting.is_empty() => DESCRIBE.into(),
                    None => format!("the stacks are {}", listed()),
                };
                Failure::project(format!("the project has no stack `{}`", shown(asked))).hint(hint)
            })?;
            if let Some(other) = file.profile.as_deref().filter(|_| !workplace.fits(file)) {
                return Err(Failure::project(format!(
                    "the stack `{asked}` belongs to the profile `{other}`, not to `{profile}`"
                ))
                .hint(format!("add `--profile {other}`")));
            }
            file
        }
        (None, [only]) => only,
        (None, []) if stacks.is_empty() => return Err(Failure::project("the project has no stack").hint(DESCRIBE)),
        (None, []) => {
            return Err(Failure::project(format!("no stack belongs to the profile `{profile}`")).hint(DESCRIBE));
        }
        (None, _) => return Err(Failure::project("the project has several stacks").hint(format!("name one of {}", listed()))),
    };
    Ok(workplace.stack(&file.name)?.0)
}

/// Returns the names of the images that a stack runs.
fn images(stack: &Stack) -> Vec<String> {
    let mut images: Vec<String> = stack.services.iter().map(|service| service.image.to_string()).collect();
    images.sort_unstable();
    images.dedup();
    images
}

/// A bundle that stands where the new one goes.
struct Earlier {
    manifest: Manifest,
    settings: Option<String>,
}

/// Looks at what stands where the bundle goes: nothing, an earlier bundle of the same stack, or something that is left alone.
fn earlier(folder: &Path, stack: &Stack) -> Result<Option<Earlier>, Failure> {
    if output::is_free(folder).map_err(from_output)? {
        return Ok(None);
    }
    let found = output::read_small(&folder.join(MANIFEST), canonical::LIMIT as u64).map_err(from_output)?;
    let manifest = found.and_then(|bytes| Manifest::parse(&bytes).ok()).filter(|manifest| manifest.name == stack.name);
    let Some(manifest) = manifest else {
        return Err(Failure::project(format!("`{}` exists and holds no bundle of `{}`", folder.display(), stack.name))
            .hint("name another folder with `--output`; nothing there was touched"));
    };
    let settings = output::read_small(&folder.join(SETTINGS), SETTINGS_LIMIT).map_err(from_output)?;
    let settings = settings.map(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| Failure::project(format!("`{}` is not text", folder.join(SETTINGS).display())).hint("save it as UTF-8"))
    });
    Ok(Some(Earlier { manifest, settings: settings.transpose()? }))
}

fn from_bundle(error: BundleError) -> Failure {
    let hint = error.hint();
    let because = std::error::Error::source(&error).map(ToString::to_string);
    let failure = if matches!(error, BundleError::Manifest(_)) { Failure::bug } else { Failure::project };
    failure(error.to_string()).maybe_hint(hint).maybe_because(because)
}
