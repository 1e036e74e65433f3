//! `parvis release`: all images as one numbered set, tried, signed, written down and made public in one go.
//!
//! Everything is made from the commit, the lock and the key; nothing of it depends on the clock or on chance. So a run that was killed is
//! simply run again: it makes the same bytes, finds what is there already, and goes on.

mod delta;
pub mod documents;
pub mod downloads;
pub mod kept;
pub mod prepare;
pub mod promote;
pub mod publish;
pub mod yank;

use std::path::PathBuf;

use serde_json::{Value, json};

pub use self::prepare::from_git;

use self::documents::Written;
use self::downloads::Download;
use self::prepare::Intent;
use self::publish::Registry;
pub use self::publish::{RELEASE_TYPE, RELEASES};
use super::key::{RELEASE, Unlock, from_keys, open_key};
use super::registry::Reach;
use super::workplace::{Planned, Workplace, open_store};
use super::{Answer, Context, build, gate, push, test};
use crate::edge::keys::{self, Keys};
use crate::edge::store::Store;
use crate::execute::Built;
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor, Platform};
use crate::model::digest::FileDigest;
use crate::model::name::{Architecture, ImageName, InvalidName, Tag};
use crate::model::number::Number;
use crate::model::release::{FORMAT, Release, ReleasedSbom};
use crate::model::releases::{FOLDER, Record, ReleasedFile, ReleasedImage, ReleasedPlatform};
use crate::screen::{size, table};
use crate::trust::{self, key::SigningKey};

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
    /// Registry, perhaps with a path, that the release goes to (default: `registry` in `parvis.yaml`; without one, nothing is sent)
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    to: Option<String>,
    /// Move floating tags (`1.4`, `1`, `latest`) even where somebody else moved them
    #[arg(long)]
    retake: bool,
    /// Allow a number below the newest, for a line that is still looked after
    #[arg(long)]
    maintenance: bool,
    /// The key that signs: the name of one of your own, or a file in cosign's form
    #[arg(long, value_name = "NAME|FILE", default_value = RELEASE)]
    key: String,
    #[command(flatten)]
    unlock: Unlock,
    /// Folder of the downloads (default: `out/release/NUMBER` in the project)
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Make downloads, too, with only what this earlier release lacks; its own downloads must be at hand
    #[arg(long, value_name = "NUMBER")]
    delta_from: Option<Number>,
    /// Folder with the downloads of the earlier release (default: `out/release/NUMBER` in the project)
    #[arg(long, value_name = "FOLDER", requires = "delta_from")]
    delta_base: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// The images of one platform, built and tried.
struct Made<'a> {
    planned: Planned<'a>,
    built: Vec<Built>,
    tests: usize,
    sboms: Vec<(ReleasedSbom, Written)>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    carry_out(arguments, None, context)
}

/// Makes a release; one that was a candidate must have the very images that the candidate had.
fn carry_out(arguments: &Arguments, candidate: Option<Number>, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let intent = prepare::intent(&workplace, arguments.number, arguments.maintenance)?;
    let candidate = candidate.map(|number| prepare::candidate(&intent, number)).transpose()?;
    let key = open_key(&arguments.key, &arguments.unlock, context)?;
    let prefix = arguments.to.as_deref().or(workplace.project.registry.as_deref());
    let registry = prefix.map(|prefix| Registry::new(context, prefix, &arguments.reach));
    prepare::names(&workplace)?;
    let bases = match arguments.delta_from {
        None => Vec::new(),
        Some(earlier) => delta::bases(&workplace, &intent, earlier, arguments.delta_base.as_deref())?,
    };
    let store = open_store(context)?;
    let mut made = Vec::new();
    for platform in &workplace.project.architectures {
        made.push(make(context, &store, platform, arguments.twice)?);
    }
    let lock = documents::lock(&workplace)?;
    let mut release = statement(&workplace, &intent, &made, &lock, registry.as_ref())?;
    if let Some(candidate) = candidate {
        prepare::same_images(candidate, &release)?;
    }
    // What stands in the way is found before anything is written.
    let tag: Tag = intent.number.to_string().parse().map_err(|error: InvalidName| Failure::bug(error.to_string()))?;
    let publication = match &registry {
        None => None,
        Some(registry) => {
            let plans = made.iter().map(|made| &made.planned);
            let images = push::gather(context, plans, &[], tag.as_str(), &registry.prefix)?;
            Some(registry.plan(images, &intent, &workplace.project.releases.tags, arguments.retake)?)
        }
    };
    let folder = arguments.output.clone().unwrap_or_else(|| downloads::usual_folder(&workplace, arguments.number));
    let mut downloads = downloads::make(context, &workplace, &intent, release.registry.as_deref(), &folder)?;
    release.sboms = made.iter().flat_map(|made| &made.sboms).map(|(listed, _)| listed.clone()).collect();
    let told = documents::notes(context, &workplace, &store, &intent, &release, &arguments.reach)?;
    for download in &mut downloads {
        told.iter().try_for_each(|file| download.add(&file.name, &file.bytes))?;
    }
    let keyring = keyring(context)?;
    downloads.extend(delta::make(&bases, &downloads, &intent, keyring.as_slice(), &folder)?);
    let written: Vec<Written> = std::iter::once(lock).chain(told).collect();
    release.files.extend(written.iter().map(Written::listed));
    release.files.extend(downloads.iter().flat_map(Download::listed));
    release.files.sort_by(|left, right| left.name.cmp(&right.name));
    release.check().map_err(|error| Failure::bug("the release contradicts itself").because(error))?;
    let seals: Vec<Written> = std::iter::once(seal(&release, &key)?).chain(keyring).collect();
    let beside: Vec<(&str, &[u8])> = seals.iter().map(|file| (file.name.as_str(), &file.bytes[..])).collect();
    let mut wholes = Vec::new();
    for download in &downloads {
        wholes.push(download.pack(&folder, &intent, &beside)?);
    }
    let lists = || made.iter().flat_map(|made| &made.sboms).map(|(_, file)| file);
    written.iter().chain(lists()).chain(&seals).try_for_each(|file| file.write(&folder))?;
    let plan = publication.as_ref().map(|publication| publish::lines(&publication.moves, &publication.images));
    if !arguments.dry_run {
        if let (Some(registry), Some(publication)) = (&registry, &publication) {
            let planned: Vec<&Planned<'_>> = made.iter().map(|made| &made.planned).collect();
            registry.send(publication, &release, &planned, &store, &key)?;
            registry.keep(&kept::all(planned.iter().copied(), context), &tag, &store)?;
            // What a demo is upgraded with: the images are in the registry anyway.
            let bundles = small_downloads(&wholes, &folder)?;
            let public: Vec<&Written> = seals.iter().chain(&written).chain(lists()).chain(&bundles).collect();
            registry.announce(&public, &tag)?;
            registry.move_tags(publication)?;
        }
        let mut record =
            Record::of(&release, env!("CARGO_PKG_VERSION"), workplace.profile.clone(), candidate.map(|found| found.version));
        record.downloads = wholes;
        write_record(&workplace, &record, &written[0].bytes, &seals)?;
    }
    context.answer(
        || {
            let moves = publication.iter().flat_map(|publication| &publication.moves);
            let moves = moves.map(|step| json!({"image": step.image, "tag": step.tag, "from": step.from, "to": step.to}));
            json!({"format": 1, "release": release, "folder": folder, "dryRun": arguments.dry_run, "tests": tests(&made),
                "tags": moves.collect::<Vec<_>>()})
        },
        || lines(arguments, &release, &made, &folder, plan),
    );
    Ok(())
}

/// Builds and tries the images of one platform.
fn make<'a>(context: &Context<'_>, store: &'a Store, platform: &Architecture, twice: bool) -> Result<Made<'a>, Failure> {
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
        test::require(context, &results)?;
        test::keep(context, &planned, &results)?;
        tests = results.len();
    } else {
        context.screen.note(&format!("the images for {platform} are not tested: this machine is {}", context.machine));
    }
    gate::require(context, &planned, &planned.names)?;
    let several = planned.workplace.project.architectures.len() > 1;
    let sboms = documents::sboms(context, &planned, several)?;
    // The packages are kept with the release; what was only unpacked before is fetched again.
    build::fetch_all(context, &planned.workplace, &site, &site.all_packages(&planned.plan))?;
    super::composer::fetch_missing(&planned.workplace, context, store, &planned.lock, &planned.names)?;
    Ok(Made { planned, built, tests, sboms })
}

fn tests(made: &[Made<'_>]) -> Value {
    made.iter().map(|made| json!({"platform": made.planned.plan.platform.as_str(), "passed": made.tests})).collect()
}

/// Returns the list of keys that says who may sign the release, where there is one.
fn keyring(context: &Context<'_>) -> Result<Option<Written>, Failure> {
    let keyring = keys::signed_keyring(&Keys::new(&context.config).keyring_file()).map_err(from_keys)?;
    Ok(keyring.map(|(_, bytes)| Written { name: trust::keyring::FILE.to_owned(), bytes }))
}

/// Returns the signed statement on the release.
fn seal(release: &Release, key: &SigningKey) -> Result<Written, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::bug("the statement cannot be written").because(error.to_string());
    let bundle = trust::release::sign(release, key).map_err(|error| failed(&error))?;
    let bytes = bundle.to_bytes().map_err(|error| failed(&error))?;
    Ok(Written { name: trust::release::FILE.to_owned(), bytes })
}

/// Says of the images of the release all that is to be signed.
fn statement(
    workplace: &Workplace,
    intent: &Intent,
    made: &[Made<'_>],
    lock: &Written,
    registry: Option<&Registry<'_>>,
) -> Result<Release, Failure> {
    let names: Vec<&ImageName> = made.iter().flat_map(|made| made.built.iter().map(|image| &image.name)).collect();
    let mut images = Vec::new();
    for name in workplace.catalog.iter().map(|member| &member.recipe.name).filter(|name| names.contains(name)) {
        images.push(released(name, made)?);
    }
    images.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Release {
        format: FORMAT,
        product: intent.product.clone(),
        version: intent.number,
        sequence: intent.sequence,
        issued: intent.issued,
        valid_until: intent.valid_until,
        commit: intent.commit.clone(),
        lock: FileDigest::of(&lock.bytes),
        registry: registry.map(|registry| registry.prefix.clone()),
        images,
        files: Vec::new(),
        sboms: Vec::new(),
    })
}

/// Returns an image of the release on all its platforms.
fn released(name: &ImageName, made: &[Made<'_>]) -> Result<ReleasedImage, Failure> {
    let mut platforms = Vec::new();
    let mut descriptors = Vec::new();
    for made in made {
        let Some(image) = made.built.iter().find(|image| image.name == *name) else { continue };
        let (record, platform) = (&image.record, Platform::of(&made.planned.plan.platform));
        platforms.push(ReleasedPlatform {
            platform: platform.to_string(),
            manifest: record.manifest,
            config: record.config,
            size: record.size(),
        });
        descriptors.push(Descriptor { platform: Some(platform), ..record.descriptor() });
    }
    let digest = match &platforms[..] {
        [only] => only.manifest,
        _ => oci::write_index(&descriptors).map_err(|error| Failure::bug("an index cannot be written").because(error))?.digest,
    };
    Ok(ReleasedImage { name: name.clone(), digest, platforms })
}

/// Reads the downloads without images.
fn small_downloads(wholes: &[ReleasedFile], folder: &std::path::Path) -> Result<Vec<Written>, Failure> {
    let small = wholes.iter().filter(|whole| whole.name.ends_with("-compose.tar"));
    small
        .map(|whole| {
            let path = folder.join(&whole.name);
            let bytes = std::fs::read(&path)
                .map_err(|error| Failure::world(format!("cannot read `{}`", path.display())).because(error))?;
            Ok(Written { name: whole.name.clone(), bytes })
        })
        .collect()
}

/// Writes the record of the release, its lock and what is signed of it into the project, to be committed: so whoever has the project
/// can verify which release it is, without a network.
fn write_record(workplace: &Workplace, record: &Record, lock: &[u8], seals: &[Written]) -> Answer {
    workplace.folder.make_folder(FOLDER).map_err(Failure::from)?;
    let number = record.version;
    workplace.folder.replace(&format!("{FOLDER}/{number}.lock"), lock).map_err(Failure::from)?;
    for seal in seals {
        let name = if seal.name == trust::release::FILE { format!("{number}.sigstore.json") } else { seal.name.clone() };
        workplace.folder.replace(&format!("{FOLDER}/{name}"), &seal.bytes).map_err(Failure::from)?;
    }
    workplace.folder.replace(&format!("{FOLDER}/{number}.yaml"), record.render().as_bytes()).map_err(Failure::from)
}

fn lines(
    arguments: &Arguments,
    release: &Release,
    made: &[Made<'_>],
    folder: &std::path::Path,
    plan: Option<Vec<String>>,
) -> Vec<String> {
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
    match (&release.registry, plan) {
        (Some(registry), Some(plan)) => {
            let word = if arguments.dry_run { "would go" } else { "went" };
            lines.push(format!("{word} to {registry}: {}", plan.join("; ")));
        }
        _ => lines.push("no registry is named: nothing is sent anywhere".into()),
    }
    if arguments.dry_run {
        lines.push("nothing was published and nothing recorded: leave out --dry-run for that".into());
    } else {
        lines.push(format!(
            "commit the folder {FOLDER}: the next release is counted from it, and rebuilds verify what they start from by it"
        ));
    }
    lines
}
