//! A release in its registry: first everything that only its digest names, then the tags, each compared before and after.

use super::prepare::Intent;
use crate::edge::registry::{Access, Given, Remote};
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor, EMPTY_BYTES};
use crate::image::repository::{Repository as _, WritableRepository as _};
use crate::model::digest::{BlobDigest, DownloadDigest};
use crate::model::name::{ImageName, Tag};
use crate::model::project::FloatingTag;
use crate::model::release::Release;
use crate::model::releases::Record;
use crate::plan::publish::{self, TagConflict, TagMove, Tags};
use crate::screen::{Unit, size};
use crate::trust::key::SigningKey;
use crate::trust::statement::{Attachment, Subject};
use crate::trust::yank::Yank;
use crate::trust::{self, sign};
use crate::verbs::Context;
use crate::verbs::push::{Known, PushedImage};
use crate::verbs::registry::{Reach, from_repository, repository};
use crate::verbs::release::documents::Written;
use crate::verbs::workplace::Planned;
use crate::verbs::{attest, push};

use super::kept::{Kept, PACKAGES};

/// The repository of the statements and of what goes with them.
pub const RELEASES: &str = "release";

/// What the list of kept packages is (`artifactType`).
pub const PACKAGES_TYPE: &str = "application/vnd.parvis.packages.v1+json";

/// What the artifact of a release is.
pub const RELEASE_TYPE: &str = "application/vnd.parvis.release.v1+json";

/// A registry that a release goes to.
pub struct Registry<'a> {
    context: &'a Context<'a>,
    pub prefix: String,
    reach: &'a Reach,
}

/// What will change in a registry.
pub struct Publication {
    pub images: Vec<PushedImage>,
    pub moves: Vec<TagMove>,
}

impl<'a> Registry<'a> {
    /// Takes a registry, perhaps with a path, as somebody wrote it.
    pub fn new(context: &'a Context<'a>, prefix: &str, reach: &'a Reach) -> Self {
        Self { context, prefix: push::plain_prefix(prefix), reach }
    }

    fn open(&self, name: &str, access: Access) -> Result<Remote, Failure> {
        self.reach.open(self.context, &repository(&self.prefix, name)?, access)
    }

    /// Returns what these tags stand for now.
    pub fn tags(&self, images: &[ImageName], tags: &[String]) -> Result<Tags, Failure> {
        let mut found = Tags::new();
        for image in images {
            let remote = self.open(image.as_str(), Access::Read)?;
            for tag in tags {
                let there = remote.resolve(tag).map_err(from_repository)?;
                found.extend(there.map(|there| ((image.clone(), tag.clone()), there.digest)));
            }
        }
        Ok(found)
    }

    /// Plans the publication; nothing is sent.
    pub fn plan(
        &self,
        images: Vec<PushedImage>,
        intent: &Intent,
        rules: &std::collections::BTreeSet<FloatingTag>,
        retake: bool,
    ) -> Result<Publication, Failure> {
        let floating = publish::floating(intent.number, &intent.records, rules);
        let mut all = vec![intent.number.to_string()];
        all.extend(floating.iter().cloned());
        let names: Vec<ImageName> = images.iter().map(|image| image.name.clone()).collect();
        let present = self.tags(&names, &all)?;
        let digests = images.iter().map(|image| Ok((image.name.clone(), BlobDigest::of(&image.top()?.1))));
        let digests = digests.collect::<Result<Vec<_>, Failure>>()?;
        let moves = publish::tag_moves(intent.number, &digests, &floating, &present, &intent.records, retake);
        Ok(Publication { images, moves: moves.map_err(from_conflict)? })
    }

    /// Sends images, signatures and attestations; no tag is touched.
    pub fn send(
        &self,
        publication: &Publication,
        release: &Release,
        planned: &[&Planned<'_>],
        store: &Store,
        key: &SigningKey,
    ) -> Result<u64, Failure> {
        let statement =
            trust::release::statement(release).map_err(|error| Failure::bug("the statement cannot be written").because(error))?;
        let task = self.context.screen.work("push", Some(publication.images.iter().map(PushedImage::size).sum()), Unit::Bytes);
        let mut known = Known::new();
        let mut sent = 0;
        for image in &publication.images {
            let remote = self.reach.open(self.context, &image.repository, Access::Write)?;
            task.detail(image.name.as_str());
            sent += image.push(&remote, None, store, &mut known, &*task)?.sent.1;
            let (media_type, bytes) = image.top()?;
            let top = Descriptor::of(media_type, &bytes);
            sign::sign(&remote, &image.repository.to_string(), &top, key).map_err(crate::verbs::sign::from_sign)?;
            // Whoever has one image of the release finds what is said of all.
            Attachment::sign(&statement, &top, key)
                .map_err(|error| Failure::bug("the statement cannot be signed").because(error))?
                .put(&remote, &top.digest)
                .map_err(from_repository)?;
        }
        drop(task);
        for planned in planned {
            attest::attest(planned, self.context, &self.prefix, key, self.reach)?;
        }
        Ok(sent)
    }

    /// Keeps the packages, each under its own digest, so that the release can be built when the archive has moved on.
    pub fn keep(&self, kept: &[Kept], tag: &Tag, store: &Store) -> Result<(), Failure> {
        let remote = self.open(PACKAGES, Access::Write)?;
        let given: Vec<Given> =
            kept.iter().map(|kept| Given { digest: kept.blob(), size: kept.size, others: Vec::new() }).collect();
        let task = self.context.screen.work("packages", Some(kept.iter().map(|kept| kept.size).sum()), Unit::Bytes);
        let open = |digest: &BlobDigest| -> std::io::Result<Box<dyn std::io::Read + Send>> {
            let download = DownloadDigest::from(*digest.bytes());
            Ok(Box::new(store.open_download(&download).map_err(std::io::Error::other)?))
        };
        remote.send_all(&given, &open, &*task).map_err(from_repository)?;
        drop(task);
        let layers: Vec<Descriptor> = kept
            .iter()
            .map(|kept| named(&kept.name, Descriptor::new("application/octet-stream", kept.blob(), kept.size)))
            .collect();
        Self::artifact(&remote, PACKAGES_TYPE, &layers, tag)
    }

    /// Puts the statement and what goes with it where people find them by the number.
    pub fn announce(&self, files: &[&Written], tag: &Tag) -> Result<(), Failure> {
        let remote = self.open(RELEASES, Access::Write)?;
        for file in files {
            remote.put_blob(&file.bytes).map_err(from_repository)?;
        }
        let layers: Vec<Descriptor> =
            files.iter().map(|file| named(&file.name, Descriptor::of(media_type(&file.name), &file.bytes))).collect();
        Self::artifact(&remote, RELEASE_TYPE, &layers, tag)
    }

    /// Stores an artifact under a tag that never moves.
    fn artifact(remote: &Remote, artifact_type: &str, layers: &[Descriptor], tag: &Tag) -> Result<(), Failure> {
        let document = oci::write_artifact(artifact_type, layers, None, &std::collections::BTreeMap::new())
            .map_err(|error| Failure::bug("an artifact cannot be written").because(error))?;
        match remote.resolve(tag.as_str()).map_err(from_repository)? {
            Some(there) if there.digest == document.digest => Ok(()),
            Some(there) => Err(Failure::no(format!(
                "`{}:{tag}` is `{}` already, and would be `{}`",
                remote.name(),
                there.digest,
                document.digest
            ))
            .hint("a release never changes: take the next number")),
            None => {
                remote.put_blob(EMPTY_BYTES).map_err(from_repository)?;
                remote.put_document(&document, Some(tag.as_str())).map_err(from_repository)
            }
        }
    }

    /// Moves tags, each only from what it was planned from.
    pub fn move_tags(&self, publication: &Publication) -> Result<(), Failure> {
        for step in &publication.moves {
            let Some(image) = publication.images.iter().find(|image| image.name == step.image) else { continue };
            self.move_tag(step, &image.top()?)?;
        }
        Ok(())
    }

    /// Moves one tag to a document that the registry has.
    pub fn move_tag(&self, step: &TagMove, (media_type, bytes): &(String, Vec<u8>)) -> Result<(), Failure> {
        let remote = self.open(step.image.as_str(), Access::Write)?;
        let tag: Tag = step.tag.parse().map_err(|error: crate::model::name::InvalidName| Failure::bug(error.to_string()))?;
        let stands_for = || -> Result<Option<BlobDigest>, Failure> {
            Ok(remote.resolve(&step.tag).map_err(from_repository)?.map(|there| there.digest))
        };
        let before = stands_for()?;
        if before == Some(step.to) {
            return Ok(());
        }
        let changed = |found: Option<BlobDigest>| {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| format!("`{found}`"));
            Failure::no(format!(
                "somebody else moved the tag `{}` of `{}` meanwhile: it stands for {found}",
                step.tag, step.image
            ))
            .hint("find out who releases at the same time, then run the same command again")
        };
        if before != step.from {
            return Err(changed(before));
        }
        remote.put_manifest(media_type, bytes, Some(&tag)).map_err(from_repository)?;
        match stands_for()? {
            Some(found) if found == step.to => Ok(()),
            other => Err(changed(other)),
        }
    }

    /// Hangs on each image of a release that is taken back what is said of it.
    pub fn tell(&self, yanked: &Record, yank: &Yank, subjects: Vec<Subject>, key: &SigningKey) -> Result<(), Failure> {
        let statement =
            yank.statement(subjects).map_err(|error| Failure::bug("the statement cannot be written").because(error))?;
        for image in &yanked.images {
            let remote = self.open(image.name.as_str(), Access::Write)?;
            // What is not there any more cannot be fetched by anybody either.
            let Some((media_type, bytes)) = remote.document(&image.digest).map_err(from_repository)? else { continue };
            let top = Descriptor::of(&media_type, &bytes);
            Attachment::sign(&statement, &top, key)
                .map_err(|error| Failure::bug("the statement cannot be signed").because(error))?
                .put(&remote, &top.digest)
                .map_err(from_repository)?;
        }
        Ok(())
    }

    /// Moves the tags that float to a release that is taken back to the one before.
    pub fn take_back(
        &self,
        yanked: &Record,
        records: &[Record],
        rules: &std::collections::BTreeSet<FloatingTag>,
    ) -> Result<Vec<TagMove>, Failure> {
        let names: Vec<ImageName> = yanked.images.iter().map(|image| image.name.clone()).collect();
        let number = yanked.version;
        let tags = [format!("{}.{}", number.major, number.minor), number.major.to_string(), "latest".to_owned()];
        let moves = publish::tag_moves_after_yank(yanked, records, rules, &self.tags(&names, &tags)?);
        for step in &moves {
            let remote = self.open(step.image.as_str(), Access::Read)?;
            let document = remote.document(&step.to).map_err(from_repository)?.ok_or_else(|| {
                Failure::no(format!("the registry has no image `{}` of `{}` any more", step.to, step.image))
                    .hint("push it again, then run the same command again")
            })?;
            self.move_tag(step, &document)?;
        }
        Ok(moves)
    }
}

/// Returns how a list points to a file.
fn named(name: &str, file: Descriptor) -> Descriptor {
    Descriptor { annotations: [("org.opencontainers.image.title".to_owned(), name.to_owned())].into(), ..file }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("json") => "application/json",
        Some("md") => "text/markdown",
        _ => "text/plain",
    }
}

/// Says in words what tags will do.
pub fn lines(moves: &[TagMove], images: &[PushedImage]) -> Vec<String> {
    let mut tags: Vec<&str> = Vec::new();
    for step in moves {
        if !tags.contains(&step.tag.as_str()) {
            tags.push(&step.tag);
        }
    }
    let bytes: u64 = images.iter().map(PushedImage::size).sum();
    let what = format!("{} images, {} where the registry has nothing of them", images.len(), size(bytes));
    vec![what, if tags.is_empty() { "no tag moves".to_owned() } else { format!("tags: {}", tags.join(", ")) }]
}

fn from_conflict(error: TagConflict) -> Failure {
    let hint = error.hint();
    Failure::no(error.to_string()).hint(hint)
}
