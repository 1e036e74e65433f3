//! What is written about a release beside its images: lists of what is in them, notes, the lock, how it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::prepare::Intent;
use crate::bundle::manifest::{NOTES, VERIFY};
use crate::bundle::notes::{Change, Notes, Said, Since, Weight, how_to_verify};
use crate::edge::git::Git;
use crate::edge::output;
use crate::edge::registry::Access;
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::oci;
use crate::image::repository::Repository as _;
use crate::image::sbom::Format;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::language::Language;
use crate::model::lock::Lock;
use crate::model::name::ImageName;
use crate::model::release::{Release, ReleasedSbom, SbomFormat};
use crate::model::releases::{FOLDER, Record, ReleasedFile};
use crate::plan::{composing, news};
use crate::verbs::archive::Mirrors;
use crate::verbs::changelogs::Reading;
use crate::verbs::registry::{Reach, repository};
use crate::verbs::save::from_output;
use crate::verbs::workplace::{LOCK_FILE, LOCK_LIMIT, Planned, Workplace};
use crate::verbs::{Context, held, sbom};

/// What a person writes of the images; what the lock moves is told by package.
const WRITTEN: [&str; 5] = ["parvis.yaml", "recipes", "images", "compose", "keys"];

/// A small file of the release.
pub struct Written {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Written {
    /// Returns the file as the statement lists it.
    pub fn listed(&self) -> ReleasedFile {
        ReleasedFile { name: self.name.clone(), sha256: FileDigest::of(&self.bytes), size: self.bytes.len() as u64 }
    }

    /// Writes the file into the folder of the release.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(&self.name);
        if let Some(above) = path.parent() {
            output::make_folder(above).map_err(from_output)?;
        }
        output::write_whole(&path, |out| out.write_all(&self.bytes)).map_err(from_output)
    }
}

/// Lists what is in each image of a platform, in both formats.
pub fn sboms(context: &Context<'_>, planned: &Planned<'_>, several: bool) -> Result<Vec<(ReleasedSbom, Written)>, Failure> {
    let mut sboms = Vec::new();
    for image in &planned.names {
        let inventory = sbom::inventory(planned, context, image)?;
        let platform = if several { format!("-{}", planned.plan.platform) } else { String::new() };
        for (format, kind, ending) in
            [(Format::Spdx, SbomFormat::Spdx, "spdx"), (Format::CycloneDx, SbomFormat::CycloneDx, "cdx")]
        {
            let bytes = sbom::file(&inventory, format)?;
            let written = Written { name: format!("sbom/{image}{platform}.{ending}.json"), bytes };
            let ReleasedFile { name, sha256, size } = written.listed();
            sboms.push((ReleasedSbom { image: image.clone(), format: kind, name, sha256, size }, written));
        }
    }
    Ok(sboms)
}

/// Writes what people are told: the notes in both languages, and how the release is checked.
pub fn notes(
    context: &Context<'_>,
    workplace: &Workplace,
    store: &Store,
    intent: &Intent,
    release: &Release,
    reach: &Reach,
) -> Result<Vec<Written>, Failure> {
    let lock = workplace.lock()?;
    let before = intent.previous().map(|record| earlier_lock(workplace, record).map(|lock| (record, lock))).transpose()?;
    let moves = before.as_ref().map(|(_, before)| news::moves(before, &lock, &workplace.project));
    let manifests = Manifests { context, store, reach };
    let since = match (&before, &moves) {
        (Some((record, earlier)), Some(moves)) => Some(Since {
            version: record.version,
            moves,
            said: said(context, workplace, store, moves)?,
            composer: composing::differences(&earlier.composer, &lock.composer),
            changes: changes(context, workplace, record, release),
            gone: gone(record, release),
            fetched: manifests.fetched(record, release),
        }),
        _ => None,
    };
    let nothing = BTreeSet::new();
    let whole = manifests.weight(release, &nothing).map_or(0, |weight| weight.whole);
    let notes = Notes { release, whole, since };
    let of = |name: &str, text: String| Written { name: name.to_owned(), bytes: text.into_bytes() };
    let [english, french] = NOTES;
    Ok(vec![
        of(english, notes.render(Language::English)),
        of(french, notes.render(Language::French)),
        of(VERIFY, how_to_verify(&intent.product, intent.number)),
    ])
}

/// Returns the images that an earlier release had and this one has not.
fn gone(before: &Record, release: &Release) -> Vec<ImageName> {
    let names = before.images.iter().map(|image| &image.name);
    names.filter(|name| !release.images.iter().any(|image| image.name == **name)).cloned().collect()
}

/// Returns the commits since an earlier release that touched what a person writes of the images; nothing where git does not know.
fn changes(context: &Context<'_>, workplace: &Workplace, before: &Record, release: &Release) -> Option<Vec<Change>> {
    let root = workplace.folder.root();
    let found = Git::open(root).and_then(|git| git.log(&before.commit, &release.commit, &WRITTEN));
    match found {
        Ok(commits) => Some(commits.into_iter().map(|(commit, subject)| Change { commit, subject }).collect()),
        Err(error) => {
            context.screen.note(&format!("the notes do not list what changed in the recipes since {}: {error}", before.version));
            None
        }
    }
}

/// Returns the lock as it stands.
pub fn lock(workplace: &Workplace) -> Result<Written, Failure> {
    let bytes = workplace.folder.read(LOCK_FILE, LOCK_LIMIT).map_err(Failure::from)?.unwrap_or_default();
    Ok(Written { name: LOCK_FILE.to_owned(), bytes })
}

/// Reads the lock that an earlier release was built from.
fn earlier_lock(workplace: &Workplace, record: &Record) -> Result<Lock, Failure> {
    let path = format!("{FOLDER}/{}.lock", record.version);
    let wrong = |problem: String| {
        Failure::project(format!("`{path}` {problem}")).hint("`parvis release` wrote it: restore it from version control")
    };
    let bytes = workplace.folder.read(&path, LOCK_LIMIT).map_err(Failure::from)?.ok_or_else(|| wrong("is gone".into()))?;
    if FileDigest::of(&bytes) != record.lock {
        return Err(wrong("is another lock than the release was built from".into()));
    }
    Lock::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| wrong(format!("cannot be used: {error}")))
}

/// Reads what the changelogs of newer packages say: a new state of the suite mends holes, too. The packages are at hand, for images were
/// built from them.
fn said(context: &Context<'_>, workplace: &Workplace, store: &Store, moves: &news::Moves) -> Result<Vec<Option<Said>>, Failure> {
    if moves.uploads.is_empty() {
        return Ok(Vec::new());
    }
    let mirrors = Mirrors::find(context, workplace)?;
    let reading = Reading { context, store, mirrors: &mirrors, archives: held::archives(workplace), at_hand: false };
    let accounts = reading.read(&moves.uploads.iter().collect::<Vec<_>>())?;
    Ok(accounts.into_iter().map(|account| account.ok().map(|account| Said { holes: account.holes() })).collect())
}

/// Where manifests are read from: the store, else the registry of the release that they are of.
struct Manifests<'a> {
    context: &'a Context<'a>,
    store: &'a Store,
    reach: &'a Reach,
}

impl Manifests<'_> {
    /// Returns the layers of an image, with their sizes.
    fn layers(&self, image: &ImageName, digest: &BlobDigest, registry: Option<&str>) -> Option<Vec<(BlobDigest, u64)>> {
        let here = self.store.read_blob(digest, canonical::LIMIT as u64).ok();
        let bytes = here.or_else(|| {
            let place = repository(registry?, image.as_str()).ok()?;
            let remote = self.reach.open(self.context, &place, Access::Read).ok()?;
            Some(remote.document(digest).ok()??.1)
        })?;
        let layers = oci::parse_manifest(&bytes).ok()?.layers.into_iter();
        Some(layers.map(|layer| (layer.digest, layer.size)).collect())
    }

    /// Returns what the images of a release weigh, but for the layers that somebody has.
    fn weight(&self, release: &Release, known: &BTreeSet<BlobDigest>) -> Option<Weight> {
        let mut weight = Weight::default();
        let mut counted = BTreeSet::new();
        for image in &release.images {
            let mut own = BTreeMap::new();
            for on in &image.platforms {
                own.extend(self.layers(&image.name, &on.manifest, None)?.into_iter().filter(|(layer, _)| !known.contains(layer)));
            }
            weight.images.insert(image.name.clone(), own.values().sum());
            weight.whole += own.iter().filter(|(layer, _)| counted.insert(**layer)).map(|(_, size)| size).sum::<u64>();
        }
        Some(weight)
    }

    /// Returns what somebody with the images of an earlier release fetches for these. Nothing where a manifest of that one cannot be had.
    fn fetched(&self, before: &Record, release: &Release) -> Option<Weight> {
        let mut known = BTreeSet::new();
        for image in &before.images {
            for on in &image.platforms {
                let Some(layers) = self.layers(&image.name, &on.manifest, before.registry.as_deref()) else {
                    let (name, version) = (&image.name, before.version);
                    self.context.screen.note(&format!(
                        "the notes do not say what is to be downloaded with {version}: its manifest of `{name}` is neither in the store nor to be had from its registry"
                    ));
                    return None;
                };
                known.extend(layers.into_iter().map(|(layer, _)| layer));
            }
        }
        self.weight(release, &known)
    }
}
