//! What people download of a release: for each stack the compose bundle alone, and one file per platform with everything in it.
//!
//! Each is one tar with one folder in it. The signed statement lists what is in the folders, file by file, and travels in each of them:
//! so a download is checked with nothing but itself and a trusted key. The tar around adds nothing that could be signed.

use std::fs;
use std::path::{Path, PathBuf};

use super::prepare::Intent;
use crate::bundle::manifest::{MANIFEST, Manifest, SETTINGS};
use crate::edge::output;
use crate::failure::Failure;
use crate::model::digest::FileDigest;
use crate::model::releases::ReleasedFile;
use crate::verbs::save::{Which, from_output};
use crate::verbs::workplace::Workplace;
use crate::verbs::{Context, bundle};

/// One tar.
pub struct Download {
    /// Its folder, whose name is that of the tar without `.tar`.
    pub name: String,
    /// Where the files of the folder are until they are packed.
    draft: tempfile::TempDir,
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
    /// Returns the files as the statement lists them.
    pub fn files(&self) -> Vec<ReleasedFile> {
        let listed =
            |file: &Packed| ReleasedFile { name: format!("{}/{}", self.name, file.name), sha256: file.digest, size: file.size };
        self.files.iter().map(listed).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.draft.path().join(&self.name).join(name)
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
        output::write_whole(&self.path(name), |out| out.write_all(bytes)).map_err(from_output)?;
        self.take(name, FileDigest::of(bytes))
    }

    /// Writes the tar, with further files that are not listed because they speak of those that are.
    pub fn pack(&self, folder: &Path, intent: &Intent, further: &[(&str, &[u8])]) -> Result<PathBuf, Failure> {
        let target = folder.join(format!("{}.tar", self.name));
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
        output::write_tar(&target, &members, intent.issued.0).map_err(from_output)?;
        Ok(target)
    }
}

/// Makes all downloads of the profile's stacks, in drafts beside the folder where they will stand.
pub fn make(context: &Context<'_>, workplace: &Workplace, intent: &Intent, folder: &Path) -> Result<Vec<Download>, Failure> {
    output::make_folder(folder).map_err(from_output)?;
    let mut downloads = Vec::new();
    let stacks = workplace.stacks()?;
    let fitting: Vec<_> = stacks.iter().filter(|stack| workplace.fits(stack)).collect();
    for platform in &workplace.project.architectures {
        for stack in &fitting {
            for with_images in [false, true] {
                let mut name = intent.stem();
                if fitting.len() > 1 {
                    name = format!("{name}-{}", stack.name);
                }
                name = if with_images { format!("{name}-{platform}") } else { format!("{name}-{platform}-compose") };
                let draft = output::draft_folder(folder).map_err(from_output)?;
                let mut download = Download { name, draft, files: Vec::new() };
                let which = Which { tag: intent.number.to_string(), platform: Some(platform.to_string()) };
                let at = download.path("");
                let manifest = bundle::of_stack(context, stack.name.as_str(), with_images, &at, which)?;
                fill(&mut download, &manifest)?;
                downloads.push(download);
            }
        }
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
