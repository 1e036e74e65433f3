//! What people download of a release: for each stack the compose bundle alone, and one file per platform with everything in it.
//!
//! Each is one tar with one folder in it. The signed statement lists what is in the folders, file by file, and travels in each of them:
//! so a download is checked with nothing but itself and a trusted key. The tar around adds nothing that could be signed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::prepare::Intent;
use crate::bundle::manifest::{MANIFEST, Manifest, SETTINGS};
use crate::edge::draft::DraftFolder;
use crate::edge::output::{self, Hashing};
use crate::failure::Failure;
use crate::model::digest::{FileDigest, Hasher};
use crate::model::name::{Architecture, ImageName, PartName};
use crate::model::number::Number;
use crate::model::releases::ReleasedFile;
use crate::verbs::save::{Which, from_output};
use crate::verbs::workplace::Workplace;
use crate::verbs::{Context, bundle};

/// One tar.
pub struct Download {
    /// Its folder, whose name is that of the tar without `.tar`.
    pub name: String,
    /// Where the files of the folder are until they are packed.
    draft: DraftFolder,
    files: Vec<Packed>,
}

/// A file of a download.
struct Packed {
    name: String,
    digest: FileDigest,
    size: u64,
    program: bool,
}

impl Download {
    /// Begins a download without files, in a draft inside a folder.
    pub fn empty(name: String, folder: &Path) -> Result<Self, Failure> {
        let draft = output::draft_folder(folder).map_err(from_output)?;
        let download = Self { name, draft, files: Vec::new() };
        Ok(download)
    }

    /// Returns the files as the statement lists them.
    pub fn listed(&self) -> impl Iterator<Item = ReleasedFile> + '_ {
        let listed =
            |file: &Packed| ReleasedFile { name: format!("{}/{}", self.name, file.name), sha256: file.digest, size: file.size };
        self.files.iter().map(listed)
    }

    /// Returns where a file of the folder is until it is packed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.draft.path().join(&self.name).join(name)
    }

    /// Returns whether a file is a program.
    pub fn is_program(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.program && file.name == name)
    }

    /// Takes in a file of the folder, with the digest of what was written to it.
    fn take(&mut self, name: &str, digest: FileDigest) -> Result<(), Failure> {
        let path = self.path(name);
        let about = fs::metadata(&path).map_err(unreadable(&path))?;
        let program = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o111 != 0;
        self.files.push(Packed { name: name.to_owned(), digest, size: about.len(), program });
        Ok(())
    }

    /// Puts a small file into the folder.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.write(name, |out| out.write_all(bytes))
    }

    /// Puts a program into the folder.
    pub fn add_program(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.add(name, bytes)?;
        self.files.iter_mut().filter(|file| file.name == name).for_each(|file| file.program = true);
        Ok(())
    }

    /// Puts a file into the folder while it is written.
    pub fn write(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            output::make_folder(folder).map_err(from_output)?;
        }
        let mut hasher = Hasher::new();
        output::write_whole(&path, |out| write(&mut Hashing { out, hasher: &mut hasher })).map_err(from_output)?;
        self.take(name, hasher.finish())
    }

    /// Writes the tar, with further files that are not listed because they speak of those that are. Returns it as a whole.
    pub fn pack(&self, folder: &Path, intent: &Intent, further: &[(&str, &[u8])]) -> Result<ReleasedFile, Failure> {
        let name = format!("{}.tar", self.name);
        let target = folder.join(&name);
        let mut members: Vec<output::Member<'_>> = Vec::new();
        for file in &self.files {
            let content = output::MemberContent::File(self.path(&file.name), file.size);
            members.push(output::Member { name: format!("{}/{}", self.name, file.name), program: file.program, content });
        }
        for (name, bytes) in further {
            let content = output::MemberContent::Bytes(bytes);
            members.push(output::Member { name: format!("{}/{name}", self.name), program: false, content });
        }
        members.sort_by(|left, right| left.name.cmp(&right.name));
        let sha256 = output::write_tar(&target, &members, intent.issued.0).map_err(from_output)?;
        let size = fs::metadata(&target).map_err(unreadable(&target))?.len();
        Ok(ReleasedFile { name, sha256, size })
    }
}

/// What a download is called, and of what it is.
pub struct Called {
    product: ImageName,
    number: Number,
    pub platform: Architecture,
    pub stack: PartName,
    /// Whether there are several stacks, which have to be told apart.
    several: bool,
    pub with_images: bool,
}

impl Called {
    /// Returns the name, without `.tar`.
    pub fn name(&self) -> String {
        self.of(self.number)
    }

    /// Returns the name of the same download of another release.
    pub fn of(&self, number: Number) -> String {
        let Self { product, platform, stack, several, with_images, .. } = self;
        let stack = if *several { format!("-{stack}") } else { String::new() };
        format!("{product}-{number}{stack}-{platform}{}", if *with_images { "" } else { "-compose" })
    }
}

/// Returns the downloads that a release has.
pub fn names(workplace: &Workplace, number: Number) -> Result<Vec<Called>, Failure> {
    let stacks = workplace.stacks()?;
    let fitting: Vec<_> = stacks.iter().filter(|stack| workplace.fits(stack)).collect();
    let mut names = Vec::new();
    for platform in &workplace.project.architectures {
        for stack in &fitting {
            for with_images in [false, true] {
                names.push(Called {
                    product: workplace.project.name.clone(),
                    number,
                    platform: platform.clone(),
                    stack: stack.name.clone(),
                    several: fitting.len() > 1,
                    with_images,
                });
            }
        }
    }
    Ok(names)
}

/// Returns the folder in which the downloads of a release are, unless another was named.
pub fn usual_folder(workplace: &Workplace, number: Number) -> PathBuf {
    workplace.folder.root().join("out/release").join(number.to_string())
}

/// Makes all downloads of the profile's stacks, in drafts beside the folder where they will stand.
///
/// The images in them are called what they are called in the registry that the release goes to.
pub fn make(
    context: &Context<'_>,
    workplace: &Workplace,
    intent: &Intent,
    registry: Option<&str>,
    folder: &Path,
) -> Result<Vec<Download>, Failure> {
    output::make_folder(folder).map_err(from_output)?;
    let mut downloads = Vec::new();
    for called in names(workplace, intent.number)? {
        let mut download = Download::empty(called.name(), folder)?;
        let platform = Some(called.platform.to_string());
        let which = Which { tag: intent.number.to_string(), platform, prefix: registry.map(str::to_owned) };
        let at = download.path("");
        let manifest = bundle::of_stack(context, called.stack.as_str(), called.with_images, &at, which)?;
        fill(&mut download, &manifest)?;
        downloads.push(download);
    }
    Ok(downloads)
}

fn fill(download: &mut Download, manifest: &Manifest) -> Result<(), Failure> {
    // What the bundle does not say of itself is small.
    for name in [MANIFEST, SETTINGS] {
        let path = download.path(name);
        let bytes = fs::read(&path).map_err(unreadable(&path))?;
        download.take(name, FileDigest::of(&bytes))?;
    }
    manifest.files.iter().try_for_each(|(name, digest)| download.take(name, *digest))
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::world(format!("cannot read `{}`", path.display())).because(error)
}
