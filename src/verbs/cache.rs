//! `parvis build --cache-from --cache-to`: finished steps shared between machines through a registry.
//!
//! A cache saves time and never decides anything: what is missing, unsigned, damaged or out of reach is built here. That a result is of a
//! step is believed of those who are trusted; everything else is compared with its digest before it is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;

use super::key::{RELEASE, Unlock, from_keys, open_key};
use super::registry::{Reach, from_repository, repository};
use super::workplace::Planned;
use super::{Answer, Context, push};
use crate::edge::keys::{self, TrustFolder};
use crate::edge::registry::{Access, Given, Remote, Wanted};
use crate::execute::sharing::{self, IMAGE_LIMIT, OF_IMAGE, OF_TREE, TREE_LIMIT, parts_of, worth_sharing};
use crate::execute::{Site, from_store};
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor, EMPTY_BYTES};
use crate::image::repository::{Repository as _, RepositoryError, WritableRepository as _};
use crate::model::digest::{BlobDigest, DownloadDigest, StepKey};
use crate::model::lock::LockedPackage;
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::plan::steps::{ImagePlan, Plan};
use crate::screen::Unit;
use crate::trust::bundle::{BUNDLE, Bundle, LIMIT};
use crate::trust::cached::{Cached, Part, name};
use crate::trust::key::SigningKey;
use crate::trust::verdict::{Anchor, Trust};

/// The repository of finished steps, beside the images.
const STEPS: &str = "steps";

/// What a finished step is (`artifactType`).
const STEP_TYPE: &str = "application/vnd.parvis.step.v1+json";

/// Refusals that are told one by one.
const MOST_TOLD: usize = 5;

/// Options of verbs that share finished steps.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the options")]
pub struct Cache {
    /// Registry, perhaps with a path, from which steps are taken that a trusted key says are finished; what is not there, or not
    /// as it was signed, is built
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    cache_from: Option<String>,
    /// Registry, perhaps with a path, to which finished steps are sent, signed
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    cache_to: Option<String>,
    /// Believe this key and no other of steps: a file that ends in `.pub`, or a `keyring.sigstore.json` (default: `parvis trust list`)
    #[arg(long, value_name = "FILE", requires = "cache_from")]
    cache_key: Vec<PathBuf>,
    /// Key that signs steps: its name, or a file in cosign's form (default: `release`)
    #[arg(long, value_name = "NAME|FILE", requires = "cache_to")]
    cache_signer: Option<String>,
    #[command(flatten)]
    unlock: Unlock,
}

/// Fetches those of the packages that are not at hand.
pub type Bring<'a> = dyn Fn(&[&LockedPackage]) -> Answer + 'a;

impl Cache {
    /// Takes what others have finished of a plan; nothing where that is not asked for. `bring` fetches packages: no tree travels with
    /// what they contain.
    pub fn take(
        &self,
        context: &Context<'_>,
        planned: &Planned<'_>,
        site: &Site<'_>,
        reach: &Reach,
        bring: &Bring<'_>,
    ) -> Answer {
        let Some(prefix) = &self.cache_from else { return Ok(()) };
        let anchors = self.anchors(context)?;
        if anchors.is_empty() {
            return Err(Failure::project("steps of others are to be taken, and no key is trusted to say whose they are")
                .hint("name one with `--cache-key FILE`, or `parvis trust add FILE`"));
        }
        let remote = reach.open(context, &repository(&push::plain_prefix(prefix), STEPS)?, Access::Read)?;
        let there = Shelf { remote: &remote, trust: Trust::new(anchors), now: Moment(context.now) };
        let (images, refused) = (BTreeMap::new(), Vec::new());
        let mut taking = Taking { context, planned, site, shelf: &there, bring, images, trees: 0, refused };
        if let Err(trouble) = taking.take() {
            match trouble {
                Trouble::Refused(why) => taking.refused.push(why),
                Trouble::Failed(failure) => return Err(failure),
                Trouble::Away(error) => {
                    let failure = from_repository(error);
                    context.screen.note(&format!("finished steps of others cannot be had, everything is built here: {failure}"));
                    taking.images.clear();
                }
            }
        }
        taking.finish(prefix)
    }

    /// Returns who is believed of steps: the keys that were named, else those that the user trusts.
    fn anchors(&self, context: &Context<'_>) -> Result<Vec<Anchor>, Failure> {
        if self.cache_key.is_empty() {
            let pinned = TrustFolder::new(&context.config).all().map_err(from_keys)?;
            return Ok(pinned.into_iter().map(Anchor::from).collect());
        }
        let anchor = |path: &PathBuf| {
            let name = path.display().to_string();
            match keys::public_key(path) {
                Ok(key) => Ok(Anchor { name, key, keyring: None }),
                Err(error) => match keys::signed_keyring(path) {
                    Ok(Some((keyring, _))) => Ok(Anchor { name, key: keyring.root.clone(), keyring: Some(keyring) }),
                    _ => Err(from_keys(error)),
                },
            }
        };
        self.cache_key.iter().map(anchor).collect()
    }

    /// Opens the key that signs what is shared; whoever has to type a passphrase does it before anything is built.
    pub fn signer(&self, context: &Context<'_>) -> Result<Option<SigningKey>, Failure> {
        if self.cache_to.is_none() {
            return Ok(None);
        }
        open_key(self.cache_signer.as_deref().unwrap_or(RELEASE), &self.unlock, context).map(Some)
    }

    /// Sends what is finished of a plan; nothing where that is not asked for.
    pub fn give(
        &self,
        context: &Context<'_>,
        planned: &Planned<'_>,
        site: &Site<'_>,
        reach: &Reach,
        key: Option<&SigningKey>,
    ) -> Answer {
        let (Some(prefix), Some(key)) = (&self.cache_to, key) else { return Ok(()) };
        let remote = reach.open(context, &repository(&push::plain_prefix(prefix), STEPS)?, Access::Write)?;
        let own = Anchor { name: "own".into(), key: key.public().clone(), keyring: None };
        let there = Shelf { remote: &remote, trust: Trust::new(vec![own]), now: Moment(context.now) };
        let task = context.screen.work("share", Some(planned.plan.images.len() as u64), Unit::Items);
        let mut sent = 0;
        for image in &planned.plan.images {
            task.detail(image.name.as_str());
            for step in worth_sharing(image) {
                // What is there, signed by the same key, is not packed again.
                if there.has(OF_TREE, &step.key)? {
                    continue;
                }
                let Some((record, packed)) = site.share_tree(&step.key)? else { continue };
                let cached = Cached { kind: OF_TREE.to_owned(), key: step.key, record, packed: Some(packed) };
                there.put(&cached, &[packed], site, key, context)?;
                sent += 1;
            }
            let step = image.image_step().key;
            if !there.has(OF_IMAGE, &step)?
                && let Some((bytes, parts)) = site.share_image(&step)?
            {
                let record = Part::of(&bytes);
                remote.put_blob(&bytes).map_err(from_repository)?;
                let cached = Cached { kind: OF_IMAGE.to_owned(), key: step, record, packed: None };
                there.put(&cached, &parts, site, key, context)?;
                sent += 1;
            }
            task.advance(1);
        }
        drop(task);
        context.screen.note(&format!("{sent} finished steps went to {prefix}"));
        Ok(())
    }
}

/// Why something does not come from a cache.
enum Trouble {
    /// This one thing is not what it should be.
    Refused(String),
    /// The registry cannot be reached.
    Away(RepositoryError),
    /// It is not the cache's fault.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<RepositoryError> for Trouble {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Damaged { .. } => Self::Refused(error.to_string()),
            error => Self::Away(error),
        }
    }
}

/// Finished steps in a registry, and who is believed of them.
struct Shelf<'a> {
    remote: &'a Remote,
    trust: Trust,
    now: Moment,
}

impl Shelf<'_> {
    /// Looks for the result of a step; nothing where there is none.
    fn find(&self, kind: &str, key: &StepKey) -> Result<Option<Cached>, Trouble> {
        let tag = name(kind, key);
        let refused = |what: &dyn std::fmt::Display| Trouble::Refused(format!("`{tag}`: {what}"));
        let Some(found) = self.remote.resolve(&tag)? else { return Ok(None) };
        let Some((_, bytes)) = self.remote.document(&found.digest)? else { return Ok(None) };
        let artifact = oci::parse_artifact(&bytes).map_err(|error| refused(&error))?;
        let signed = artifact.layers.iter().find(|layer| layer.media_type == BUNDLE && layer.size <= LIMIT as u64);
        let signed = signed.ok_or_else(|| refused(&"nobody signed it"))?;
        let bundle = self.read(&Part { digest: signed.digest, size: signed.size })?;
        let bundle = Bundle::parse(&bundle).map_err(|error| refused(&error))?;
        self.trust.signer_of_bundle(&bundle, &tag, self.now, self.now).map_err(|finding| {
            let why = if finding.code() == "E02" {
                "no key that is trusted signed it"
            } else {
                "its signature does not count (any more)"
            };
            Trouble::Refused(format!("`{tag}`: {}, {why}", finding.code()))
        })?;
        Cached::parse(&bundle, kind, key).map(Some).map_err(|error| refused(&error))
    }

    fn has(&self, kind: &str, key: &StepKey) -> Result<bool, Failure> {
        match self.find(kind, key) {
            Ok(found) => Ok(found.is_some()),
            Err(Trouble::Refused(_)) => Ok(false),
            Err(Trouble::Away(error)) => Err(from_repository(error)),
            Err(Trouble::Failed(failure)) => Err(failure),
        }
    }

    /// Reads a small blob, compared with its digest.
    fn read(&self, part: &Part) -> Result<Vec<u8>, Trouble> {
        let name = part.digest.to_string();
        let gone = || Trouble::Refused(format!("`{name}` is gone"));
        let mut content = self.remote.blob(&part.digest, part.size)?.ok_or_else(gone)?;
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|error| Trouble::Refused(format!("`{name}`: {error}")))?;
        Ok(bytes)
    }

    /// Sends the parts of a step, then what is signed of it: the name comes last.
    fn put(&self, cached: &Cached, parts: &[Part], site: &Site<'_>, key: &SigningKey, context: &Context<'_>) -> Answer {
        let failed =
            |error: &dyn std::error::Error| Failure::bug("a finished step cannot be described").because(error.to_string());
        let given: Vec<Given> =
            parts.iter().map(|part| Given { digest: part.digest, size: part.size, others: Vec::new() }).collect();
        let task = context.screen.work("share", Some(given.iter().map(|given| given.size).sum()), Unit::Bytes);
        let open = |digest: &BlobDigest| -> std::io::Result<Box<dyn std::io::Read + Send>> {
            Ok(Box::new(site.store.open_blob(digest).map_err(std::io::Error::other)?))
        };
        self.remote.send_all(&given, &open, &*task).map_err(from_repository)?;
        drop(task);
        let bundle = cached.sign(key).map_err(|error| failed(&error))?;
        let plain = |part: &Part| Descriptor::new("application/octet-stream", part.digest, part.size);
        let mut layers = vec![Descriptor::of(BUNDLE, &bundle)];
        // A registry keeps what a manifest names.
        layers.extend(cached.packed.is_none().then(|| plain(&cached.record)));
        layers.extend(parts.iter().map(plain));
        let document = oci::write_artifact(STEP_TYPE, &layers, None, &BTreeMap::new()).map_err(|error| failed(&error))?;
        for bytes in [EMPTY_BYTES, &bundle] {
            self.remote.put_blob(bytes).map_err(from_repository)?;
        }
        self.remote.put_document(&document, Some(&name(&cached.kind, &cached.key))).map_err(from_repository)
    }
}

/// What is being taken for a plan.
struct Taking<'a> {
    context: &'a Context<'a>,
    planned: &'a Planned<'a>,
    site: &'a Site<'a>,
    shelf: &'a Shelf<'a>,
    bring: &'a Bring<'a>,
    /// Records of images whose blobs are in the store; they are put there last.
    images: BTreeMap<ImageName, Vec<u8>>,
    trees: usize,
    refused: Vec<String>,
}

impl Taking<'_> {
    fn take(&mut self) -> Result<(), Trouble> {
        let planned = self.planned;
        let plan = &planned.plan;
        for image in &plan.images {
            if self.site.image(&image.image_step().key)?.is_none() {
                match self.image(image) {
                    Ok(Some(record)) => drop(self.images.insert(image.name.clone(), record)),
                    Ok(None) => {}
                    Err(Trouble::Refused(why)) => self.refused.push(why),
                    Err(other) => return Err(other),
                }
            }
        }
        // Whoever is built here needs the trees of those it is built on. One that cannot be had is built as well.
        let mut asked: BTreeSet<ImageName> = BTreeSet::new();
        loop {
            let to_do: Vec<String> = self.to_do()?.iter().map(ToString::to_string).collect();
            if to_do.is_empty() {
                return Ok(());
            }
            let needed = planned.workplace.select(&to_do)?;
            let Some(image) = plan.images.iter().find(|image| needed.contains(&image.name) && !asked.contains(&image.name))
            else {
                return Ok(());
            };
            asked.insert(image.name.clone());
            if !self.tree(image)? {
                self.images.remove(&image.name);
            }
        }
    }

    /// Returns the images that are neither here nor taken.
    fn to_do(&self) -> Result<Vec<ImageName>, Failure> {
        let mut to_do = Vec::new();
        for image in &self.planned.plan.images {
            if !self.images.contains_key(&image.name) && self.site.image(&image.image_step().key)?.is_none() {
                to_do.push(image.name.clone());
            }
        }
        Ok(to_do)
    }

    /// Fetches an image's record and blobs.
    fn image(&self, image: &ImagePlan) -> Result<Option<Vec<u8>>, Trouble> {
        let key = image.image_step().key;
        let Some(cached) = self.shelf.find(OF_IMAGE, &key)? else { return Ok(None) };
        let refused = |what: &dyn std::fmt::Display| Trouble::Refused(format!("`{}`: {what}", image.name));
        if cached.record.size > IMAGE_LIMIT {
            return Err(refused(&"its record is too large"));
        }
        let bytes = self.shelf.read(&cached.record)?;
        let (manifest, mut parts) = parts_of(&bytes).map_err(|error| refused(&error))?;
        if manifest.size > IMAGE_LIMIT * 4 {
            return Err(refused(&"its manifest is too large"));
        }
        self.fetch(&[manifest])?;
        let document = self.site.store.read_blob(&manifest.digest, manifest.size).map_err(from_store)?;
        let parsed = oci::parse_manifest(&document).map_err(|error| refused(&error))?;
        parts.push(Part { digest: parsed.config.digest, size: parsed.config.size });
        self.fetch(&parts)?;
        Ok(Some(bytes))
    }

    /// Brings blobs into the store, each compared with its digest.
    fn fetch(&self, parts: &[Part]) -> Result<(), Trouble> {
        let store = self.site.store;
        let mut wanted: Vec<Wanted> = Vec::new();
        for part in parts {
            if store.blob_size(&part.digest) != Some(part.size) && !wanted.iter().any(|known| known.digest == part.digest) {
                wanted.push(Wanted { digest: part.digest, size: part.size });
            }
        }
        let task = self.context.screen.work("take", Some(wanted.iter().map(|one| one.size).sum()), Unit::Bytes);
        self.shelf.remote.fetch(&wanted, &store.downloads(), &*task)?;
        for one in &wanted {
            store.keep_download(&DownloadDigest::from(*one.digest.bytes())).map_err(from_store)?;
        }
        Ok(())
    }

    /// Makes sure that an image that something is built on has its tree here, as far as others have it. Returns whether it has.
    fn tree(&mut self, image: &ImagePlan) -> Result<bool, Trouble> {
        let Some(last) = image.tree_step() else { return Ok(true) };
        if self.site.tree(&last.key)?.is_some() {
            return Ok(true);
        }
        // The latest step that somebody has spares those before it.
        let steps: Vec<StepKey> = worth_sharing(image).map(|step| step.key).collect();
        for key in steps.into_iter().rev() {
            let taken = match self.shelf.find(OF_TREE, &key) {
                Ok(Some(cached)) => self.packed(image, &cached),
                Ok(None) => continue,
                Err(trouble) => Err(trouble),
            };
            match taken {
                Ok(()) => {
                    self.trees += 1;
                    return Ok(key == last.key);
                }
                Err(Trouble::Refused(why)) => self.refused.push(why),
                Err(other) => return Err(other),
            }
        }
        Ok(false)
    }

    fn packed(&self, image: &ImagePlan, cached: &Cached) -> Result<(), Trouble> {
        let refused = |what: &dyn std::fmt::Display| Trouble::Refused(format!("`{}`: {what}", name(&cached.kind, &cached.key)));
        let packed = cached.packed.ok_or_else(|| refused(&"it has no content"))?;
        if cached.record.size > TREE_LIMIT {
            return Err(refused(&"its record is too large"));
        }
        // Most of a tree is its packages: they come from where this build has them from.
        let needed = self.planned.workplace.select(&[image.name.to_string()])?;
        let plan = &self.planned.plan;
        let images = plan.images.iter().filter(|image| needed.contains(&image.name)).cloned().collect();
        let lineage = Plan { platform: plan.platform.clone(), images };
        let packages = self.site.all_packages(&lineage);
        (self.bring)(&packages)?;
        self.site.unpack(&packages)?;
        let mut content = self.shelf.remote.blob(&packed.digest, packed.size)?.ok_or_else(|| refused(&"its content is gone"))?;
        self.site.take_tree(&cached.key, &cached.record, &mut content).map_err(|error| match error {
            sharing::TakeError::Store(error) => Trouble::Failed(from_store(error)),
            error => refused(&error),
        })
    }

    /// Puts the records of images into the store, and tells what came.
    fn finish(mut self, prefix: &str) -> Answer {
        let mut count = 0;
        for image in &self.planned.plan.images {
            let Some(bytes) = self.images.get(&image.name) else { continue };
            match self.site.take_image(&image.image_step().key, bytes) {
                Ok(()) => count += 1,
                Err(sharing::TakeError::Store(error)) => return Err(from_store(error)),
                Err(error) => self.refused.push(format!("`{}`: {error}", image.name)),
            }
        }
        let trees = self.trees;
        self.context.screen.note(&format!("{count} finished images and {trees} finished steps came from {prefix}"));
        for why in self.refused.iter().take(MOST_TOLD) {
            self.context.screen.note(&format!("refused, and built here instead: {why}"));
        }
        let more = self.refused.len().saturating_sub(MOST_TOLD);
        if more > 0 {
            self.context.screen.note(&format!("and {more} more were refused"));
        }
        Ok(())
    }
}
