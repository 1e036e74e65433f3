//! A download with only what an earlier release lacks: the earlier archive is read, and what it has is left out of the new one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::documents::Written;
use super::downloads::{self, Download};
use super::prepare::Intent;
use crate::bundle::delta::{README, SCRIPT, SUMS, readme, script};
use crate::bundle::manifest::ARCHIVE;
use crate::edge::layout::{self, ArchiveFile, Handed};
use crate::failure::Failure;
use crate::image::archive::{Files as _, TarFiles};
use crate::image::delta::{Draft, LIST, Run, part_name};
use crate::model::digest::{BlobDigest, FileDigest, Hasher};
use crate::model::number::Number;
use crate::model::problem::shown;
use crate::model::releases::{FOLDER, ReleasedFile};
use crate::model::tree::TreePath;
use crate::trust::release::FILE;
use crate::verbs::image::from_layout;
use crate::verbs::workplace::Workplace;

/// A one-file archive of an earlier release.
pub struct Base {
    /// The download that a difference to it is made of.
    to: String,
    from: String,
    version: Number,
    /// The blobs that it has, with their sizes.
    blobs: BTreeSet<(BlobDigest, u64)>,
}

/// Finds and reads the archives of an earlier release, one for each download with images. They must be those that were released.
pub fn bases(workplace: &Workplace, intent: &Intent, version: Number, folder: Option<&Path>) -> Result<Vec<Base>, Failure> {
    let record = intent.records.iter().find(|record| record.version == version).ok_or_else(|| {
        Failure::project(format!("there is no release `{version}`"))
            .hint(format!("the releases are the files of `{FOLDER}/`; `--delta-from` names one of them"))
    })?;
    let folder = folder.map_or_else(|| downloads::usual_folder(workplace, version), Path::to_owned);
    let mut bases = Vec::new();
    for to in downloads::names(workplace, intent.number)?.into_iter().filter(|to| to.with_images) {
        let from = to.of(version);
        let listed = format!("{from}/{ARCHIVE}");
        let released = record.files.iter().find(|file| file.name == listed).ok_or_else(|| {
            Failure::no(format!("the release `{version}` has no download `{from}.tar`"))
                .hint("there is nothing to make a difference to: leave out `--delta-from`, or name another release")
        })?;
        let blobs = read(&folder.join(format!("{from}.tar")), released, version)?;
        bases.push(Base { to: to.name(), from, version, blobs });
    }
    Ok(bases)
}

/// Reads which blobs an archive has, which must be the one that was released.
fn read(path: &Path, released: &ReleasedFile, version: Number) -> Result<BTreeSet<(BlobDigest, u64)>, Failure> {
    if !path.is_file() {
        return Err(Failure::project(format!("there is no `{}`", path.display())).hint(format!(
            "a difference is made to the download of `{version}`: put it there, or name its folder with `--delta-base`"
        )));
    }
    let wrong = || {
        Failure::no(format!("`{}` is not the download that was released as `{version}`", path.display()))
            .hint("take the one that people downloaded: `parvis verify` says which it is")
    };
    let Handed::File(file) = layout::open(path).map_err(|error| from_layout(&error))? else { return Err(wrong()) };
    let unreadable = |error: io::Error| Failure::world(format!("cannot read `{}`", path.display())).because(error);
    let outer = TarFiles::<ArchiveFile>::new(&file).map_err(|_| wrong())?;
    let (size, mut content) = outer.open(&released.name).map_err(unreadable)?.ok_or_else(wrong)?;
    if size != released.size {
        return Err(wrong());
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    if hasher.finish::<FileDigest>() != released.sha256 {
        return Err(wrong());
    }
    let inner = outer.within(&released.name).ok_or_else(wrong)?;
    let blobs = TarFiles::new(&inner).map_err(|_| wrong())?.blobs();
    Ok(blobs.into_iter().map(|(digest, place)| (digest, place.end - place.start)).collect())
}

/// Makes the differences to earlier archives; `beside` are the files that go into every download without being listed.
pub fn make(
    bases: &[Base],
    all: &[Download],
    intent: &Intent,
    beside: &[Written],
    folder: &Path,
) -> Result<Vec<Download>, Failure> {
    let mut deltas = Vec::new();
    for base in bases {
        let whole = all.iter().find(|download| download.name == base.to);
        let whole = whole.ok_or_else(|| Failure::bug(format!("the download `{}` was not made", base.to)))?;
        deltas.push(difference(base, whole, intent, beside, folder)?);
    }
    Ok(deltas)
}

fn difference(base: &Base, whole: &Download, intent: &Intent, beside: &[Written], folder: &Path) -> Result<Download, Failure> {
    let bug = |error: &dyn std::error::Error| Failure::bug("a difference cannot be made").because(error.to_string());
    let path = whole.path(ARCHIVE);
    let unreadable =
        |error: &dyn std::error::Error| Failure::world(format!("cannot read `{}`", path.display())).because(error.to_string());
    let Handed::File(images) = layout::open(&path).map_err(|error| from_layout(&error))? else {
        return Err(Failure::bug(format!("`{}` is no file", path.display())));
    };
    let blobs = TarFiles::<ArchiveFile>::new(&images).map_err(|error| unreadable(&error))?.blobs();
    let mut names: Vec<String> = whole.listed().map(|file| file.name).collect();
    names.extend(beside.iter().map(|file| format!("{}/{}", whole.name, file.name)));
    names.push(format!("{}/{FILE}", whole.name));
    names.sort();
    let (date, mut draft, mut of_images) = (intent.issued.0, Draft::default(), None);
    for name in &names {
        let place = TreePath::parse(name.as_bytes()).map_err(|error| bug(&error))?;
        let own = name.strip_prefix(&format!("{}/", whole.name)).unwrap_or_default();
        if own == FILE {
            draft.seal(&place, date).map_err(|error| bug(&error))?;
        } else if let Some(file) = beside.iter().find(|file| file.name == own) {
            draft.file(&place, false, date, &file.bytes).map_err(|error| bug(&error))?;
        } else if let Some(file) = whole.listed().find(|file| file.name == *name) {
            if own == ARCHIVE {
                draft.images(&place, date, file.size, &blobs, &base.blobs).map_err(|error| bug(&error))?;
                of_images = Some(file.sha256);
            } else {
                let bytes = std::fs::read(whole.path(own)).map_err(|error| unreadable(&error))?;
                draft.file(&place, whole.is_program(own), date, &bytes).map_err(|error| bug(&error))?;
            }
        }
    }
    let of_images = of_images.ok_or_else(|| Failure::bug(format!("`{}` has no images", whole.name)))?;
    let delta = draft.finish(&base.from, &base.to, of_images);
    let name = format!("{}-from-{}", base.to, base.version);
    let mut made = Download::empty(name, folder)?;
    for (number, runs) in draft.parts.iter().enumerate() {
        let part = part_name(u32::try_from(number).unwrap_or(u32::MAX));
        made.write(&part, |out| runs.iter().try_for_each(|run| copy(run, &path, out)))?;
    }
    for (name, bytes) in &draft.seal {
        made.add(name, bytes)?;
    }
    made.add(LIST, delta.render().as_bytes())?;
    made.add(README, readme(&delta, &made.name).as_bytes())?;
    made.add_program(SCRIPT, script(&delta, FILE).as_bytes())?;
    let sums: Vec<String> = made.listed().map(|file| format!("{}  {}\n", file.sha256, own_name(&made, &file.name))).collect();
    made.add(SUMS, sums.concat().as_bytes())?;
    Ok(made)
}

fn own_name(download: &Download, name: &str) -> String {
    shown(name.strip_prefix(&format!("{}/", download.name)).unwrap_or(name))
}

/// Writes a run of bytes, perhaps from the new archive of images.
fn copy(run: &Run, images: &PathBuf, out: &mut dyn Write) -> io::Result<()> {
    match run {
        Run::Bytes(bytes) => out.write_all(bytes),
        Run::Images(range) => {
            let mut file = File::open(images)?;
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end - range.start;
            if io::copy(&mut file.take(length), out)? == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
    }
}
