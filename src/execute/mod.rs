//! A plan meets the doors: carries out what is not recalled, and remembers it.

pub mod composer;
pub mod gates;
mod images;
mod inventory;
mod materials;
mod room;
pub mod sharing;
mod trees;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::debian::package::PackageError;
use crate::edge::store::{Item, Store, StoreError};
use crate::failure::Failure;
use crate::image::member::Compressor;
use crate::image::oci::{self, Descriptor};
use crate::model::catalog::Catalog;
use crate::model::digest::{BlobDigest, DiffId, StepKey};
use crate::model::lock::{Lock, LockedImage, LockedPackage};
use crate::model::name::{Architecture, ImageName};
use crate::model::tree::{Entry, Kind, Tree};
use crate::plan::steps::{ImagePlan, Input, Plan, Sources, Step, Work};
use crate::screen::Screen;

pub use inventory::About;
use room::run_as;
pub use room::{Room, RoomRequest, finished};
pub use trees::{read_path, words as how_it_ended};
pub use unpack::{UnpackError, Unpacked, changelog};

/// Everything a build needs beside its plan.
pub struct Site<'a> {
    pub store: &'a Store,
    pub catalog: &'a Catalog,
    pub lock: &'a Lock,
    pub sources: &'a Sources,
    pub compressor: Compressor,
    pub threads: usize,
    pub screen: &'a dyn Screen,
    /// Labels that every image of the project gets.
    pub labels: BTreeMap<String, String>,
    /// What tells two projects apart in the store's memory of last runs.
    pub project: String,
    /// Every maintainer script runs with all its programs as they are in their packages, which is slower.
    pub plain_scripts: bool,
}

/// One layer of an image, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub title: String,
    pub created_by: String,
    pub digest: BlobDigest,
    pub size: u64,
    pub diff_id: DiffId,
    pub raw_size: u64,
}

/// An image that stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub manifest: BlobDigest,
    pub manifest_size: u64,
    pub config: BlobDigest,
    pub layers: Vec<LayerRecord>,
}

impl ImageRecord {
    /// Returns how documents point to the manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(oci::MANIFEST, self.manifest, self.manifest_size)
    }

    /// Returns the bytes of all layers as they are sent.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Returns the bytes of all layers unpacked.
    #[must_use]
    pub fn raw_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.raw_size).sum()
    }
}

/// An image at the end of a build.
#[derive(Debug, Clone)]
pub struct Built {
    pub name: ImageName,
    pub record: ImageRecord,
    /// Nothing had to be done for it.
    pub recalled: bool,
    pub seconds: f64,
}

/// Whether a step is recalled, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Recalled,
    /// The reasons in words; empty where the step never ran before.
    ToDo(Vec<String>),
}

const TREE: &str = "tree-1";
const LAYERS: &str = "layers-1";
const IMAGE: &str = "image-1";
const LAST: &str = "last-1";

impl Site<'_> {
    /// Returns whether a step's result stands in the store, and if not, what changed since it last ran.
    pub fn state(&self, platform: &Architecture, image: &ImageName, step: &Step) -> Result<State, Failure> {
        let kind = match step.work {
            Work::Layers => LAYERS,
            Work::Image => IMAGE,
            _ => TREE,
        };
        if self.store.has_record(kind, &step.key.hex()).map_err(from_store)? {
            return Ok(State::Recalled);
        }
        let last = self.store.record(LAST, &self.last_key(platform, image, step)).map_err(from_store)?;
        let earlier: Option<Vec<(String, String)>> = last.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let earlier = earlier.map(|inputs| inputs.into_iter().map(|(label, value)| Input { label, value }).collect::<Vec<_>>());
        Ok(State::ToDo(earlier.map_or_else(Vec::new, |earlier| {
            let reasons = step.reasons(&earlier);
            if reasons.is_empty() { vec!["its result is gone from the store".to_owned()] } else { reasons }
        })))
    }

    fn last_key(&self, platform: &Architecture, image: &ImageName, step: &Step) -> String {
        let place = format!("{}\n{platform}\n{image}\n{}", self.project, step.place());
        StepKey::of(place.as_bytes()).hex()
    }

    fn remember(&self, platform: &Architecture, image: &ImageName, step: &Step) -> Result<(), Failure> {
        let inputs: Vec<(&str, &str)> = step.inputs.iter().map(|input| (&*input.label, &*input.value)).collect();
        let bytes = serde_json::to_vec(&inputs).map_err(|error| Failure::bug("inputs cannot be written down").because(error))?;
        self.store.put_record(LAST, &self.last_key(platform, image, step), &bytes).map_err(from_store)
    }

    /// Returns a finished image; `None` where it was not built, or a blob of it is gone.
    pub fn image(&self, key: &StepKey) -> Result<Option<ImageRecord>, Failure> {
        let Some(bytes) = self.store.record(IMAGE, &key.hex()).map_err(from_store)? else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<ImageRecord>(&bytes) else { return Ok(None) };
        let whole = record.layers.iter().all(|layer| self.store.blob_size(&layer.digest) == Some(layer.size))
            && self.store.blob_size(&record.manifest) == Some(record.manifest_size)
            && self.store.blob_size(&record.config).is_some();
        Ok(whole.then_some(record))
    }

    /// Returns the tree that a step made; `None` where it was not made.
    pub fn tree(&self, key: &StepKey) -> Result<Option<Tree>, Failure> {
        let Some(bytes) = self.store.record(TREE, &key.hex()).map_err(from_store)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|error| Failure::world("a tree in the store is not text").because(error))?;
        Tree::from_text(&text).map(Some).map_err(|error| Failure::world("a tree in the store cannot be read").because(error))
    }

    /// Returns the packages that an image's own step takes.
    fn packages<'b>(&'b self, plan: &Plan, image: &ImageName) -> Vec<&'b LockedPackage> {
        self.lock
            .image(image, &plan.platform)
            .into_iter()
            .flat_map(LockedImage::packages)
            .filter_map(|name| self.lock.package(name, &plan.platform))
            .collect()
    }

    /// Returns the same place of work with another store.
    #[must_use]
    pub fn with_store<'b>(&'b self, store: &'b Store) -> Site<'b> {
        Site { store, labels: self.labels.clone(), project: self.project.clone(), ..*self }
    }

    /// Returns all packages of a plan, each once.
    pub fn all_packages(&self, plan: &Plan) -> Vec<&LockedPackage> {
        let all = plan.images.iter().flat_map(|image| self.packages(plan, &image.name));
        all.map(|package| (package.sha256, package)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Returns the packages that must be at hand for what is to do, each once.
    pub fn wanted(&self, plan: &Plan) -> Result<Vec<&LockedPackage>, Failure> {
        let mut wanted = BTreeMap::new();
        for image in &plan.images {
            if self.image(&image.image_step().key)?.is_some() {
                continue;
            }
            for package in self.packages(plan, &image.name) {
                wanted.insert(package.sha256, package);
            }
        }
        Ok(wanted.into_values().collect())
    }

    /// Returns the images whose own tree has to be made.
    pub fn to_do(&self, plan: &Plan) -> Result<Vec<ImageName>, Failure> {
        let mut to_do = Vec::new();
        for image in &plan.images {
            let there = self.image(&image.image_step().key)?.is_some();
            let tree =
                image.tree_step().map_or(Ok(true), |step| self.store.has_record(TREE, &step.key.hex())).map_err(from_store)?;
            if !there && !tree {
                to_do.push(image.name.clone());
            }
        }
        Ok(to_do)
    }

    /// Returns those of the wanted packages that have to be downloaded first.
    pub fn missing<'b>(&self, wanted: &[&'b LockedPackage]) -> Result<Vec<&'b LockedPackage>, Failure> {
        let mut missing = Vec::new();
        for package in wanted {
            let there = unpack::is_unpacked(self.store, package).map_err(from_unpack)?
                || self.store.has_download(&package.sha256, package.size);
            if !there {
                missing.push(*package);
            }
        }
        Ok(missing)
    }

    /// Returns whether every image of a plan stands in the store.
    pub fn is_finished(&self, plan: &Plan) -> Result<bool, Failure> {
        for image in &plan.images {
            if self.image(&image.image_step().key)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the trees of a plan's images, and neither layers nor images. All their packages must be at hand.
    pub fn make_trees(&self, plan: &Plan) -> Result<(), Failure> {
        let mut wanted = Vec::new();
        for image in &plan.images {
            let key = image.tree_step().map(|step| step.key.hex());
            if key.is_none_or(|key| self.store.has_record(TREE, &key).is_ok_and(|there| !there)) {
                wanted.extend(self.packages(plan, &image.name));
            }
        }
        let packages = unpack::all(self, &wanted)?;
        let mut trees = trees::Trees::new(self, plan, &packages);
        plan.images.iter().try_for_each(|image| trees.make(image))
    }

    /// Carries out a plan. All packages that are wanted must be at hand.
    pub fn build(&self, plan: &Plan) -> Result<Vec<Built>, Failure> {
        let mut recalled: BTreeMap<&ImageName, ImageRecord> = BTreeMap::new();
        for image in &plan.images {
            if let Some(record) = self.image(&image.image_step().key)? {
                recalled.insert(&image.name, record);
            }
        }
        if recalled.len() == plan.images.len() {
            let built = |image: &ImagePlan| {
                recalled.remove(&image.name).map(|record| Built {
                    name: image.name.clone(),
                    record,
                    recalled: true,
                    seconds: 0.0,
                })
            };
            return Ok(plan.images.iter().filter_map(built).collect());
        }
        let done: BTreeSet<&ImageName> = recalled.keys().copied().collect();
        let to_do: Vec<&ImagePlan> = plan.images.iter().filter(|image| !done.contains(&image.name)).collect();
        let packages = unpack::all(self, &self.wanted(plan)?)?;
        let made = images::with_segments(self, plan, &to_do, &packages, |segments| {
            let mut trees = trees::Trees::new(self, plan, &packages);
            let mut seconds: BTreeMap<&ImageName, f64> = BTreeMap::new();
            for image in &to_do {
                let start = Instant::now();
                trees.make(image)?;
                seconds.insert(&image.name, start.elapsed().as_secs_f64());
            }
            images::finish(self, plan, &to_do, &packages, segments, &mut trees, &mut seconds)
        })?;
        let mut made: BTreeMap<ImageName, Built> = made.into_iter().map(|built| (built.name.clone(), built)).collect();
        let built = |image: &ImagePlan| {
            let old = recalled.remove(&image.name);
            let old = old.map(|record| Built { name: image.name.clone(), record, recalled: true, seconds: 0.0 });
            old.or_else(|| made.remove(&image.name))
        };
        Ok(plan.images.iter().filter_map(built).collect())
    }
}

/// Turns what the store says into what a person reads.
pub fn from_store(error: StoreError) -> Failure {
    let hint = error.hint();
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}

/// Returns what the store said, where it is what stopped a reader or writer.
fn store_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e StoreError> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| match error.downcast_ref::<io::Error>() {
        Some(carrier) => carrier.get_ref().and_then(|inner| inner.downcast_ref()),
        None => error.downcast_ref(),
    })
}

fn from_unpack(error: UnpackError) -> Failure {
    match error {
        UnpackError::Store(error) => from_store(error),
        // A full disk is not the package's fault.
        UnpackError::Package { source: PackageError::Visitor(ref cause), .. } if store_error(cause).is_some() => {
            let cause = store_error(cause);
            Failure::world(cause.map_or_else(String::new, ToString::to_string)).maybe_hint(cause.and_then(StoreError::hint))
        }
        UnpackError::Package { ref source, .. } => {
            let hint = source.hint();
            Failure::world(error.to_string()).maybe_hint(hint).maybe_because(Some(source.to_string()))
        }
        UnpackError::Database { ref source, .. } => Failure::world(error.to_string()).because(source.to_string()),
        UnpackError::Record { .. } => Failure::world(error.to_string()).hint("run `parvis store verify`, then build again"),
    }
}

/// Removes from the store what speaks of things that are gone, so that the next build makes them anew.
pub fn forget_lost(root: &Path, lost: &[Item]) -> Result<(), Failure> {
    let mut store = Store::open_alone(root).map_err(from_store)?;
    // A farm may still link to what was damaged.
    store.remove_farms().map_err(from_store)?;
    // An image does not say of which trees it was made, and one of those may be lost: all images are put together again.
    store.remove_records(lost, IMAGE).map_err(from_store)
}

/// Returns what a record of the store refers to, so that pruning keeps it.
pub fn references(kind: &str, key: &str, content: &[u8]) -> Vec<Item> {
    let files = |tree: &str| -> Vec<Item> {
        let tree = Tree::from_text(tree).unwrap_or_default();
        let file = |entry: &Entry| match entry.kind {
            Kind::File { digest, .. } => Some(Item::file(digest, entry.mode)),
            _ => None,
        };
        tree.iter().filter_map(|(_, entry)| file(entry)).collect()
    };
    let layers = |layers: &[LayerRecord]| -> Vec<Item> { layers.iter().map(|layer| Item::Blob(layer.digest)).collect() };
    match kind {
        IMAGE => serde_json::from_slice::<ImageRecord>(content).map_or_else(
            |_| Vec::new(),
            |image| {
                let mut items = layers(&image.layers);
                items.extend([Item::Blob(image.manifest), Item::Blob(image.config)]);
                items
            },
        ),
        LAYERS => serde_json::from_slice::<Vec<LayerRecord>>(content).map_or_else(|_| Vec::new(), |found| layers(&found)),
        TREE => std::str::from_utf8(content).map_or_else(|_| Vec::new(), files),
        images::LAYER => serde_json::from_slice::<LayerRecord>(content).map_or_else(|_| Vec::new(), |layer| layers(&[layer])),
        images::SEGMENT => vec![Item::Segment(key.into())],
        unpack::RECORD => unpack::tree_text(content).map_or_else(Vec::new, |tree| files(&tree)),
        _ => Vec::new(),
    }
}
