//! What is written about a release beside its images: lists of what is in them, notes, the lock, how it is checked.

use std::collections::BTreeMap;
use std::path::Path;

use super::prepare::Intent;
use crate::bundle::manifest::{NOTES, VERIFY};
use crate::bundle::notes::{Notes, Said, Since, how_to_verify};
use crate::edge::output;
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::oci;
use crate::image::sbom::Format;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::language::Language;
use crate::model::lock::Lock;
use crate::model::name::ImageName;
use crate::model::release::{Release, ReleasedSbom, SbomFormat};
use crate::model::releases::{FOLDER, Record, ReleasedFile};
use crate::plan::news;
use crate::verbs::archive::Mirrors;
use crate::verbs::changelogs::Reading;
use crate::verbs::save::from_output;
use crate::verbs::workplace::{LOCK_FILE, LOCK_LIMIT, Planned, Workplace};
use crate::verbs::{Context, held, sbom};

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
) -> Result<Vec<Written>, Failure> {
    let lock = workplace.lock()?;
    let before = intent.previous().map(|record| earlier_lock(workplace, record).map(|lock| (record, lock))).transpose()?;
    let moves = before.as_ref().map(|(_, before)| news::moves(before, &lock, &workplace.project));
    let since = match (&before, &moves) {
        (Some((record, _)), Some(moves)) => Some(Since {
            version: record.version,
            moves,
            said: said(context, workplace, store, moves)?,
            fetched: fetched(store, record, release),
        }),
        _ => None,
    };
    let notes = Notes { release, since };
    let of = |name: &str, text: String| Written { name: name.to_owned(), bytes: text.into_bytes() };
    let [english, french] = NOTES;
    Ok(vec![
        of(english, notes.render(Language::English)),
        of(french, notes.render(Language::French)),
        of(VERIFY, how_to_verify(&intent.product, intent.number)),
    ])
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

/// Reads what the changelogs of fixed packages say. Others are not fetched for it.
fn said(context: &Context<'_>, workplace: &Workplace, store: &Store, moves: &news::Moves) -> Result<Vec<Option<Said>>, Failure> {
    if !moves.uploads.iter().any(|upload| upload.security) {
        return Ok(moves.uploads.iter().map(|_| None).collect());
    }
    let mirrors = Mirrors::find(context, workplace)?;
    let reading = Reading { context, store, mirrors: &mirrors, archives: held::archives(workplace), at_hand: false };
    let secure: Vec<_> = moves.uploads.iter().filter(|upload| upload.security).collect();
    let mut accounts = reading.read(&secure)?.into_iter();
    let of_upload = |upload: &news::Upload| {
        let account = if upload.security { accounts.next() } else { None };
        account?.ok().map(|account| Said { holes: account.holes() })
    };
    Ok(moves.uploads.iter().map(of_upload).collect())
}

/// Returns what somebody with the images of an earlier release fetches for each image: blobs that the same image had not. Nothing
/// where an earlier manifest is not at hand any more.
fn fetched(store: &Store, before: &Record, release: &Release) -> Option<BTreeMap<ImageName, u64>> {
    let layers = |digest: &BlobDigest| {
        let bytes = store.read_blob(digest, canonical::LIMIT as u64).ok()?;
        Some(oci::parse_manifest(&bytes).ok()?.layers)
    };
    let mut fetched = BTreeMap::new();
    for image in &release.images {
        let earlier = before.images.iter().find(|earlier| earlier.name == image.name);
        let mut known = std::collections::BTreeSet::new();
        for on in earlier.into_iter().flat_map(|earlier| &earlier.platforms) {
            known.extend(layers(&on.manifest)?.into_iter().map(|layer| layer.digest));
        }
        let mut bytes = 0;
        for on in &image.platforms {
            bytes +=
                layers(&on.manifest)?.iter().filter(|layer| !known.contains(&layer.digest)).map(|layer| layer.size).sum::<u64>();
        }
        fetched.insert(image.name.clone(), bytes);
    }
    Some(fetched)
}
