//! `parvis release`: all images as one numbered set, tried, signed, written down and made public in one go.
//!
//! Everything is made from the commit, the lock and the key; nothing of it depends on the clock or on chance. So a run that was killed is
//! simply run again: it makes the same bytes, finds what is there already, and goes on.

mod downloads;
mod prepare;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::downloads::Download;
use self::prepare::Intent;
use super::workplace::{LOCK_FILE, Planned, Workplace, open_store};
use super::{Answer, Context, build, test};
use crate::edge::store::Store;
use crate::execute::Built;
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor, Platform};
use crate::model::digest::FileDigest;
use crate::model::name::{Architecture, ImageName};
use crate::model::number::Number;
use crate::model::release::{FORMAT, Release};
use crate::model::releases::{FOLDER, Record, ReleasedImage, ReleasedPlatform};
use crate::screen::{size, table};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Number of the release: `1.4.0`, or `1.4.0-rc.1` for a candidate
    number: Number,
    /// Build, test and show what would be published, but publish and record nothing
    #[arg(long)]
    dry_run: bool,
    /// Build a second time, in another store and under other conditions, and compare every digest
    #[arg(long)]
    twice: bool,
    /// Allow a number below the newest, for a line that is still looked after
    #[arg(long)]
    maintenance: bool,
    /// Folder of the downloads (default: `out/release/NUMBER` in the project)
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The images of one platform, built and tried.
struct Made {
    platform: Architecture,
    built: Vec<Built>,
    tests: usize,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let intent = prepare::intent(&workplace, arguments.number, arguments.maintenance)?;
    let store = open_store(context)?;
    let mut made = Vec::new();
    for platform in workplace.project.architectures.clone() {
        made.push(make(context, &store, &platform, arguments.twice)?);
    }
    let folder = arguments
        .output
        .clone()
        .unwrap_or_else(|| workplace.folder.root().join("out/release").join(arguments.number.to_string()));
    let downloads = downloads::make(context, &workplace, &intent, &folder)?;
    let release = statement(&workplace, &intent, &made, &downloads)?;
    release.check().map_err(|error| Failure::bug("the release contradicts itself").because(error))?;
    for download in &downloads {
        download.pack(&folder, &intent, &[])?;
    }
    if !arguments.dry_run {
        record(&workplace, &intent, &release)?;
    }
    context.answer(
        || json!({"format": 1, "release": release, "folder": folder, "dryRun": arguments.dry_run, "tests": tests(&made)}),
        || lines(arguments, &release, &made, &folder),
    );
    Ok(())
}

/// Builds and tries the images of one platform.
fn make(context: &Context<'_>, store: &Store, platform: &Architecture, twice: bool) -> Result<Made, Failure> {
    let planned = Planned::make(context, store, &[], Some(platform.as_str()))?;
    let site = planned.site(context);
    let built = build::carry_out(context, &planned, &site)?;
    if twice {
        super::twice::compare(context, &planned.workplace, &site, &planned.plan, &built)?;
    }
    // Programs of another architecture may not run here; what they do is tried where they do.
    let mut tests = 0;
    if platform.as_str() == context.machine {
        let results = test::try_images(context, &planned, |_| true)?;
        for failed in results.iter().filter(|result| !result.passed()) {
            failed.lines().iter().for_each(|line| context.screen.note(line));
        }
        test::all_passed(&results)?;
        tests = results.len();
    } else {
        context.screen.note(&format!("the images for {platform} are not tested: this machine is {}", context.machine));
    }
    Ok(Made { platform: platform.clone(), built, tests })
}

fn tests(made: &[Made]) -> Value {
    made.iter().map(|made| json!({"platform": made.platform.as_str(), "passed": made.tests})).collect()
}

/// Says of the release all that is to be signed.
fn statement(workplace: &Workplace, intent: &Intent, made: &[Made], downloads: &[Download]) -> Result<Release, Failure> {
    let lock = workplace.folder.read(LOCK_FILE, super::workplace::LOCK_LIMIT).map_err(Failure::from)?.unwrap_or_default();
    let names: Vec<&ImageName> = made.iter().flat_map(|made| made.built.iter().map(|image| &image.name)).collect();
    let mut images = Vec::new();
    for name in workplace.catalog.iter().map(|member| &member.recipe.name).filter(|name| names.contains(name)) {
        images.push(released(name, made)?);
    }
    images.sort_by(|left, right| left.name.cmp(&right.name));
    let mut files: Vec<_> = downloads.iter().flat_map(Download::files).collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Release {
        format: FORMAT,
        product: intent.product.clone(),
        version: intent.number,
        sequence: intent.sequence,
        issued: intent.issued,
        valid_until: intent.valid_until,
        commit: intent.commit.clone(),
        lock: FileDigest::of(&lock),
        registry: workplace.project.registry.clone(),
        images,
        files,
        sboms: Vec::new(),
    })
}

/// Returns an image of the release on all its platforms.
fn released(name: &ImageName, made: &[Made]) -> Result<ReleasedImage, Failure> {
    let mut platforms = Vec::new();
    let mut descriptors = Vec::new();
    for made in made {
        let Some(image) = made.built.iter().find(|image| image.name == *name) else { continue };
        let (record, platform) = (&image.record, Platform::of(&made.platform));
        platforms.push(ReleasedPlatform {
            platform: platform.to_string(),
            manifest: record.manifest,
            config: record.config,
            size: record.size(),
        });
        descriptors.push(Descriptor {
            media_type: oci::MANIFEST.to_owned(),
            digest: record.manifest,
            size: record.manifest_size,
            artifact_type: None,
            platform: Some(platform),
            annotations: std::collections::BTreeMap::new(),
        });
    }
    let digest = match &platforms[..] {
        [only] => only.manifest,
        _ => oci::write_index(&descriptors).map_err(|error| Failure::bug("an index cannot be written").because(error))?.digest,
    };
    Ok(ReleasedImage { name: name.clone(), digest, platforms })
}

/// Writes the record of the release and its lock into the project, to be committed.
fn record(workplace: &Workplace, intent: &Intent, release: &Release) -> Answer {
    let record = Record::of(release, env!("CARGO_PKG_VERSION"), workplace.profile.clone(), None);
    let lock = workplace.folder.read(LOCK_FILE, super::workplace::LOCK_LIMIT).map_err(Failure::from)?.unwrap_or_default();
    workplace.folder.make_folder(FOLDER).map_err(Failure::from)?;
    let number = intent.number;
    workplace.folder.replace(&format!("{FOLDER}/{number}.lock"), &lock).map_err(Failure::from)?;
    workplace.folder.replace(&format!("{FOLDER}/{number}.yaml"), record.render().as_bytes()).map_err(Failure::from)
}

fn lines(arguments: &Arguments, release: &Release, made: &[Made], folder: &std::path::Path) -> Vec<String> {
    let rows: Vec<Vec<String>> = release
        .images
        .iter()
        .map(|image| {
            let bytes: u64 = image.platforms.iter().map(|on| on.size).sum();
            let digest = image.digest.to_string().chars().take(19).collect();
            vec![image.name.to_string(), digest, size(bytes)]
        })
        .collect();
    let mut lines = table(&["image", "digest", "size"], &rows);
    lines.push(String::new());
    let tests: usize = made.iter().map(|made| made.tests).sum();
    let what = format!("{} {}: {} images, {tests} tests passed", release.product, release.version, release.images.len());
    lines.push(format!("{what}; the downloads are in {}", folder.display()));
    if arguments.dry_run {
        lines.push("nothing was published and nothing recorded: leave out --dry-run for that".into());
    } else {
        let number = release.version;
        lines.push(format!("commit {FOLDER}/{number}.yaml and {FOLDER}/{number}.lock: the next release is counted from them"));
    }
    lines
}
