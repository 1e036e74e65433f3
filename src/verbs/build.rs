//! `parvis build`: carries out the plan and leaves an OCI layout.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::archive::{Mirrors, from_fetch};
use super::cache::Cache;
use super::registry::Reach;
use super::release::kept;
use super::workplace::{LOCK_FILE, Planned, Workplace, open_store};
use super::{Answer, Context};
use crate::edge::fetch::{Download, FetchError, Fetcher};
use crate::edge::layout::{self, Handed};
use crate::edge::output;
use crate::edge::store::Store;
use crate::execute::{Built, Site};
use crate::failure::Failure;
use crate::image::layout::{Form, Layout};
use crate::image::oci::{self, Descriptor, Platform};
use crate::model::lock::LockedPackage;
use crate::model::name::Architecture;
use crate::screen::{size, table};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to build, with all they need (default: all)
    images: Vec<String>,
    /// Architecture to build for (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// Folder of the OCI layout (default: `out` in the project)
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Build a second time, in another store and under other conditions, and compare every digest
    #[arg(long)]
    twice: bool,
    /// Take packages from where releases keep them, `packages` in the project's registry, and not from the archive
    #[arg(long)]
    locked: bool,
    /// Registry, perhaps with a path, whose releases keep the packages (default: `registry` in `parvis.yaml`)
    #[arg(long, value_name = "REGISTRY/PREFIX", requires = "locked")]
    kept_in: Option<String>,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    reach: Reach,
    /// Run every program of maintainer scripts as it is in its package, even where parvis can do the same faster
    #[arg(long, hide = true)]
    plain_scripts: bool,
    /// Make what `parvis run` and `parvis test` need, and neither layers nor images
    #[arg(long, hide = true, conflicts_with_all = ["twice", "output"])]
    trees: bool,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let start = Instant::now();
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, &arguments.images, arguments.platform.as_deref())?;
    let Planned { workplace, plan, .. } = &planned;
    let site = Site { plain_scripts: arguments.plain_scripts, ..planned.site(context) };
    let signer = arguments.cache.signer(context)?;
    let (kept_in, reach) = (arguments.kept_in.as_deref(), &arguments.reach);
    arguments.cache.take(context, &planned, &site, reach, &|packages| {
        if arguments.locked {
            kept::fetch_packages(context, &planned, &site, packages, kept_in, reach)
        } else {
            fetch(context, workplace, &site, packages)
        }
    })?;
    if arguments.locked {
        // What others have finished needs no packages any more.
        kept::fetch(context, &planned, &site, kept_in, reach)?;
    }
    if arguments.trees {
        prepare(context, &planned, &site)?;
        return site.make_trees(&planned.plan);
    }
    let built = carry_out(context, &planned, &site)?;
    let folder = arguments.output.clone().unwrap_or_else(|| workplace.folder.root().join("out"));
    publish(&store, &folder, &built, &plan.platform)?;
    arguments.cache.give(context, &planned, &site, &arguments.reach, signer.as_ref())?;
    if arguments.twice {
        super::twice::compare(context, workplace, &site, plan, &built)?;
    }
    context.answer(|| report_json(&built, &folder.display().to_string()), || report(&built, start.elapsed().as_secs_f64()));
    Ok(())
}

/// Carries out a plan: fetches what is missing, and builds what is not recalled.
pub fn carry_out(context: &Context<'_>, planned: &Planned<'_>, site: &Site<'_>) -> Result<Vec<Built>, Failure> {
    prepare(context, planned, site)?;
    site.build(&planned.plan)
}

/// Brings everything to hand that a plan takes from elsewhere.
pub fn prepare(context: &Context<'_>, planned: &Planned<'_>, site: &Site<'_>) -> Answer {
    let Planned { workplace, plan, names, .. } = planned;
    let wanted = site.wanted(plan)?;
    fetch(context, workplace, site, &wanted)?;
    super::composer::fetch_missing(workplace, context, site.store, site.lock, &site.to_do(plan)?)?;
    if !site.is_finished(plan)? {
        workplace.take_sources(names, site.store)?;
    }
    Ok(())
}

/// Builds those of these images that are not in the store as the recipes are now, and tells before it begins.
pub fn make_sure(context: &Context<'_>, images: &[String], before: &dyn Fn()) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, images, None)?;
    let site = planned.site(context);
    if !site.is_finished(&planned.plan)? {
        before();
        carry_out(context, &planned, &site)?;
    }
    Ok(())
}

/// An archive keeps the newest of each package; a lock is older than its archive before long.
fn gone(error: FetchError) -> Failure {
    let Some(name) = error.missing().map(str::to_owned) else { return from_fetch(error) };
    let cause = from_fetch(error);
    Failure::world(format!("`{LOCK_FILE}` names `{name}`, which the archive does not have (any more)"))
        .because(cause.message())
        .hint("run `parvis lock --update`, which says what moves; or name a mirror that keeps old packages with `--mirror`")
}

/// Fetches those of the wanted packages that are not at hand.
pub fn fetch(context: &Context<'_>, workplace: &Workplace, site: &Site<'_>, wanted: &[&LockedPackage]) -> Answer {
    fetch_these(context, workplace, site, site.missing(wanted)?)
}

/// Fetches the .deb files of packages, also of those of which only what was made of them is at hand.
pub fn fetch_all(context: &Context<'_>, workplace: &Workplace, site: &Site<'_>, packages: &[&LockedPackage]) -> Answer {
    let absent = packages.iter().filter(|package| !site.store.has_download(&package.sha256, package.size)).copied();
    fetch_these(context, workplace, site, absent.collect())
}

fn fetch_these(context: &Context<'_>, workplace: &Workplace, site: &Site<'_>, missing: Vec<&LockedPackage>) -> Answer {
    if missing.is_empty() {
        return Ok(());
    }
    let mirrors = Mirrors::find(context, workplace)?;
    let archive_of = |package: &LockedPackage| {
        site.lock.archives.iter().find(|state| state.suite == package.suite).map(|state| state.archive.clone())
    };
    let mut downloads = Vec::with_capacity(missing.len());
    for package in missing {
        let archive = archive_of(package).ok_or_else(|| {
            Failure::project(format!("the lock does not say from which archive the suite `{}` comes", package.suite))
                .hint("run `parvis lock`")
        })?;
        downloads.push(Download {
            name: format!("{} {}", package.name, package.version),
            urls: mirrors.urls(&archive, &package.file),
            digest: Some(package.sha256),
            size: Some(package.size),
            limit: package.size,
        });
    }
    let fetcher = Fetcher::new(context.fetch.clone());
    fetcher.fetch(&downloads, &site.store.downloads(), context.screen).map_err(gone)?;
    Ok(())
}

/// Writes the OCI layout of finished images.
pub fn publish(store: &Store, folder: &std::path::Path, built: &[Built], platform: &Architecture) -> Answer {
    let descriptors: Vec<Descriptor> = built
        .iter()
        .map(|image| Descriptor {
            platform: Some(Platform::of(platform)),
            annotations: BTreeMap::from([(oci::REF_NAME.to_owned(), image.name.to_string())]),
            ..image.record.descriptor()
        })
        .collect();
    let mut descriptors = descriptors;
    let mut blobs = BTreeMap::new();
    // What was signed before and is still the same image stays signed.
    if let Ok(Handed::Folder(before)) = layout::open(folder)
        && let Ok(before) = Layout::open(&before, "", Form::Folder)
    {
        let (lines, needed) = before.said_of(&descriptors.iter().map(|line| line.digest).collect());
        descriptors.extend(lines);
        blobs.extend(needed.into_iter().map(|digest| (digest, folder.join("blobs/sha256").join(digest.hex()))));
    }
    let index =
        oci::write_index(&descriptors).map_err(|error| Failure::bug("the layout's index cannot be written").because(error))?;
    for image in built {
        let record = &image.record;
        for digest in [record.manifest, record.config].into_iter().chain(record.layers.iter().map(|layer| layer.digest)) {
            blobs.insert(digest, store.blob_path(&digest));
        }
    }
    let blobs: Vec<_> = blobs.into_iter().collect();
    output::write_layout(folder, &blobs, &index.bytes).map_err(|error| {
        let hint = error.hint();
        Failure::world(error.to_string())
            .maybe_hint(hint)
            .maybe_because(std::error::Error::source(&error).map(ToString::to_string))
    })?;
    Ok(())
}

fn report(built: &[Built], seconds: f64) -> Vec<String> {
    let rows: Vec<Vec<String>> = built
        .iter()
        .map(|image| {
            vec![
                image.name.to_string(),
                image.record.manifest.to_string().chars().take(19).collect(),
                size(image.record.size()),
                image.record.layers.len().to_string(),
                if image.recalled { "recalled" } else { "built" }.to_owned(),
                format!("{:.1}", image.seconds),
            ]
        })
        .collect();
    let mut lines = table(&["image", "digest", "size", "layers", "", "seconds"], &rows);
    lines.push(String::new());
    let count = built.iter().filter(|image| !image.recalled).count();
    lines.push(match count {
        0 => format!("nothing changed ({seconds:.2} s)"),
        1 => format!("1 image built in {seconds:.1} s"),
        more => format!("{more} images built in {seconds:.1} s"),
    });
    lines
}

fn report_json(built: &[Built], folder: &str) -> serde_json::Value {
    let images: Vec<_> = built
        .iter()
        .map(|image| {
            json!({
                "name": image.name.as_str(),
                "manifest": image.record.manifest.to_string(),
                "config": image.record.config.to_string(),
                "size": image.record.size(),
                "raw_size": image.record.raw_size(),
                "layers": image.record.layers,
                "recalled": image.recalled,
                "seconds": image.seconds,
            })
        })
        .collect();
    json!({ "layout": folder, "images": images })
}
