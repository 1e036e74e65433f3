//! Steps that make bytes: segments, layers, images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::trees::Trees;
use super::unpack::Unpacked;
use super::{Built, IMAGE, ImageRecord, LAYERS, LayerRecord, Site, from_store};
use crate::edge::store::Store;
use crate::failure::Failure;
use crate::image::layer::{self, LayerBytes, LayerError, LayerPlan, PackageTree, Part, Segments};
use crate::image::oci::{self, Base, History, ImageSpec};
use crate::image::segment::{self, SegmentInfo};
use crate::image::tar::Contents;
use crate::model::digest::{DownloadDigest, FileDigest, SegmentKey};
use crate::model::name::ImageName;
use crate::model::recipe::Parent;
use crate::model::tree::{Kind, Tree, TreePath};
use crate::plan::steps::{ImagePlan, Plan};
use crate::screen::Unit;

pub const SEGMENT: &str = "segment-1";
pub const LAYER: &str = "layer-1";

/// The store, as the makers of layers see it.
struct Shelf<'a>(&'a Store);

impl Contents for Shelf<'_> {
    fn open(&self, digest: &FileDigest, mode: u16) -> io::Result<Box<dyn Read + '_>> {
        // Not hashed again: a segment's and a layer's own checks find a damaged file.
        Ok(Box::new(std::fs::File::open(self.0.file_path(digest, mode))?))
    }
}

impl Segments for Shelf<'_> {
    fn segment(&self, key: &SegmentKey) -> io::Result<Option<(SegmentInfo, Box<dyn Read + '_>)>> {
        let Some(text) = self.0.record(SEGMENT, &key.hex()).map_err(io::Error::other)? else { return Ok(None) };
        let info = std::str::from_utf8(&text).ok().and_then(SegmentInfo::from_text);
        match info {
            Some(info) if self.0.has_segment(&key.hex()) => {
                Ok(Some((info, Box::new(self.0.open_segment(&key.hex()).map_err(io::Error::other)?))))
            }
            _ => Ok(None),
        }
    }
}

/// Segments that are made while scripts run.
pub struct Making<'a> {
    state: Mutex<Progress>,
    changed: Condvar,
    stop: AtomicBool,
    site: &'a Site<'a>,
}

#[derive(Default)]
struct Progress {
    left: usize,
    failed: Option<Failure>,
}

impl Making<'_> {
    /// Waits until every segment is there.
    fn wait(&self) -> Result<(), Failure> {
        let poisoned = |_| Failure::bug("a thread that makes segments panicked");
        let mut progress = self.state.lock().map_err(poisoned)?;
        while progress.left > 0 && progress.failed.is_none() {
            progress = self.changed.wait(progress).map_err(|_| Failure::bug("a thread that makes segments panicked"))?;
        }
        progress.failed.take().map_or(Ok(()), Err)
    }

    fn done(&self, result: Result<(), Failure>) {
        if let Ok(mut progress) = self.state.lock() {
            progress.left -= 1;
            if let Err(failure) = result {
                progress.failed.get_or_insert(failure);
            }
        }
        self.changed.notify_all();
    }
}

/// Runs `body` while other threads, of lower priority, make the segments of the packages of what is to do.
pub fn with_segments<T>(
    site: &Site<'_>,
    plan: &Plan,
    to_do: &[&ImagePlan],
    packages: &BTreeMap<DownloadDigest, Unpacked>,
    body: impl FnOnce(&Making<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut queue: Vec<Tree> = Vec::new();
    for image in to_do {
        for package in site.packages(plan, &image.name) {
            let Some(package) = packages.get(&package.sha256) else { continue };
            let tree = layer::segment_tree(&package.tree);
            if !has_segment(site, &tree)? {
                queue.push(tree);
            }
        }
    }
    let making = Making {
        state: Mutex::new(Progress { left: queue.len(), failed: None }),
        changed: Condvar::new(),
        stop: AtomicBool::new(false),
        site,
    };
    // The largest first, so that no thread is left with a long one at the end.
    queue.sort_by_key(|tree| std::cmp::Reverse(bytes(tree)));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..site.threads.min(queue.len()) {
            scope.spawn(|| {
                // Scripts run one after the other and everything waits for them: they come first.
                let _ = rustix::process::nice(10);
                while let Some(tree) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if making.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    making.done(make_segment(making.site, tree));
                }
            });
        }
        let result = body(&making);
        making.stop.store(true, Ordering::Relaxed);
        result
    })
}

fn bytes(tree: &Tree) -> u64 {
    tree.iter().map(|(_, entry)| if let Kind::File { size, .. } = entry.kind { size } else { 0 }).sum()
}

fn has_segment(site: &Site<'_>, tree: &Tree) -> Result<bool, Failure> {
    let key = segment::key(tree, site.compressor).hex();
    Ok(site.store.has_record(SEGMENT, &key).map_err(from_store)? && site.store.has_segment(&key))
}

fn make_segment(site: &Site<'_>, tree: &Tree) -> Result<(), Failure> {
    let key = segment::key(tree, site.compressor).hex();
    let out = site.store.segment_writer().map_err(from_store)?;
    let (info, out) = segment::write(tree, &Shelf(site.store), site.compressor, None, out)
        .map_err(|error| from_layer(LayerError::Tar(error)))?;
    out.finish(&key).map_err(from_store)?;
    site.store.put_record(SEGMENT, &key, info.to_text().as_bytes()).map_err(from_store)
}

/// Makes the layers and images of what is to do, when its trees are there.
pub fn finish(
    site: &Site<'_>,
    plan: &Plan,
    to_do: &[&ImagePlan],
    packages: &BTreeMap<DownloadDigest, Unpacked>,
    segments: &Making<'_>,
    trees: &mut Trees<'_>,
    seconds: &mut BTreeMap<&ImageName, f64>,
) -> Result<Vec<Built>, Failure> {
    {
        let task = site.screen.work("compress", None, Unit::Items);
        task.detail("packages");
        segments.wait()?;
    }
    let mut built = Vec::new();
    for image in to_do {
        let start = Instant::now();
        let layers = make_layers(site, plan, image, packages, trees)?;
        let record = make_image(site, plan, image, layers)?;
        let bytes =
            serde_json::to_vec(&record).map_err(|error| Failure::bug("an image cannot be written down").because(error))?;
        let step = image.image_step();
        site.store.put_record(IMAGE, &step.key.hex(), &bytes).map_err(from_store)?;
        site.remember(&plan.platform, &image.name, step)?;
        let seconds = seconds.get(&image.name).copied().unwrap_or(0.0) + start.elapsed().as_secs_f64();
        built.push(Built { name: image.name.clone(), record, recalled: false, seconds });
    }
    Ok(built)
}

/// Returns the image's own layers, from the bottom up.
fn make_layers(
    site: &Site<'_>,
    plan: &Plan,
    image: &ImagePlan,
    packages: &BTreeMap<DownloadDigest, Unpacked>,
    trees: &mut Trees<'_>,
) -> Result<Vec<LayerRecord>, Failure> {
    let step = image.layers_step();
    if let Some(bytes) = site.store.record(LAYERS, &step.key.hex()).map_err(from_store)?
        && let Ok(layers) = serde_json::from_slice::<Vec<LayerRecord>>(&bytes)
        && layers.iter().all(|layer| site.store.blob_size(&layer.digest) == Some(layer.size))
    {
        return Ok(layers);
    }
    let parent = trees.parent(&image.name)?;
    let finished = trees.finished(&image.name)?;
    let mut groups: Vec<Vec<PackageTree<'_>>> = Vec::new();
    for group in site.lock.image(&image.name, &plan.platform).into_iter().flat_map(|locked| &locked.layers) {
        let locked = group.iter().filter_map(|name| site.lock.package(name, &plan.platform));
        let unpacked = locked.filter_map(|package| packages.get(&package.sha256));
        groups.push(
            unpacked
                .map(|package| PackageTree { name: &package.locked.name, version: &package.locked.version, tree: &package.tree })
                .collect(),
        );
    }
    let removed = removed(site, image, &groups, &finished);
    let plans = layer::plan_layers(&parent, &groups, &removed, &finished);
    for plan in &plans {
        for part in &plan.parts {
            if let Part::Segment { tree, .. } = part
                && !has_segment(site, tree)?
            {
                make_segment(site, tree)?;
            }
        }
    }
    let layers = assemble_all(site, &plans)?;
    let bytes = serde_json::to_vec(&layers).map_err(|error| Failure::bug("layers cannot be written down").because(error))?;
    site.store.put_record(LAYERS, &step.key.hex(), &bytes).map_err(from_store)?;
    site.remember(&plan.platform, &image.name, step)?;
    Ok(layers)
}

/// Returns what of the image's own packages the recipe's patterns took out.
fn removed(site: &Site<'_>, image: &ImagePlan, groups: &[Vec<PackageTree<'_>>], finished: &Tree) -> BTreeSet<TreePath> {
    let mut removed = BTreeSet::new();
    if site.catalog.recipe(&image.name).is_none_or(|recipe| recipe.removes.is_empty()) {
        return removed;
    }
    for package in groups.iter().flatten() {
        let gone = package.tree.iter().filter(|(path, _)| finished.get(path.as_bytes()).is_none());
        removed.extend(gone.map(|(path, _)| path.clone()));
    }
    removed
}

/// Puts the layers together, several at a time; those that the store has are recalled.
fn assemble_all(site: &Site<'_>, plans: &[LayerPlan]) -> Result<Vec<LayerRecord>, Failure> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<LayerRecord, Failure>>>> = plans.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..site.threads.min(plans.len()) {
            scope.spawn(|| {
                while let Some((plan, slot)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    plans.get(index).zip(results.get(index))
                } {
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(assemble(site, plan));
                    }
                }
            });
        }
    });
    let unfinished = || Failure::bug("a thread that makes layers panicked");
    results.into_iter().map(|slot| slot.into_inner().ok().flatten().ok_or_else(unfinished)?).collect()
}

fn assemble(site: &Site<'_>, plan: &LayerPlan) -> Result<LayerRecord, Failure> {
    let key = plan.key(site.compressor).hex();
    if let Some(bytes) = site.store.record(LAYER, &key).map_err(from_store)?
        && let Ok(layer) = serde_json::from_slice::<LayerRecord>(&bytes)
        && site.store.blob_size(&layer.digest) == Some(layer.size)
    {
        return Ok(LayerRecord { title: plan.title.clone(), created_by: plan.created_by.clone(), ..layer });
    }
    let shelf = Shelf(site.store);
    let out = site.store.blob_writer(None, None).map_err(from_store)?;
    let (bytes, out) = layer::assemble(&plan.parts, &shelf, &shelf, site.compressor, None, out).map_err(from_layer)?;
    out.finish().map_err(from_store)?;
    let record = LayerRecord {
        title: plan.title.clone(),
        created_by: plan.created_by.clone(),
        digest: bytes.digest,
        size: bytes.size,
        diff_id: bytes.diff_id,
        raw_size: bytes.raw_size,
    };
    let bytes = serde_json::to_vec(&record).map_err(|error| Failure::bug("a layer cannot be written down").because(error))?;
    site.store.put_record(LAYER, &key, &bytes).map_err(from_store)?;
    Ok(record)
}

fn from_layer(error: LayerError) -> Failure {
    // A full disk is not the layer's fault.
    if let Some(cause) = super::store_error(&error) {
        return Failure::world(cause.to_string()).maybe_hint(cause.hint());
    }
    let hint = match &error {
        LayerError::Tar(crate::image::tar::TarError::Refused(refused)) => refused.hint(),
        LayerError::DamagedSegment { .. } | LayerError::DamagedFiles { .. } | LayerError::Missing { .. } => {
            Some("run `parvis store verify`, then build again: what is damaged is made anew".to_owned())
        }
        _ => None,
    };
    let refused = matches!(error, LayerError::Tar(crate::image::tar::TarError::Refused(_)));
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let failure = if refused { Failure::no(error.to_string()) } else { Failure::world(error.to_string()) };
    failure.maybe_hint(hint).maybe_because(cause)
}

/// Writes the documents of an image whose layers are there.
fn make_image(site: &Site<'_>, plan: &Plan, image: &ImagePlan, own: Vec<LayerRecord>) -> Result<ImageRecord, Failure> {
    let recipe = site
        .catalog
        .recipe(&image.name)
        .ok_or_else(|| Failure::bug(format!("the plan names `{}`, which has no recipe", image.name)))?;
    let parent = match &recipe.from {
        Parent::Scratch => None,
        Parent::Recipe(parent) => {
            let gone = || Failure::bug(format!("`{parent}` is not built before `{}`", image.name));
            let step = plan.images.iter().find(|plan| plan.name == *parent).ok_or_else(gone)?.image_step();
            Some((parent, site.image(&step.key)?.ok_or_else(gone)?))
        }
    };
    let base = parent.as_ref().map(|(name, record)| Base { name: name.to_string(), digest: record.manifest });
    let mut layers = parent.map(|(_, record)| record.layers).unwrap_or_default();
    layers.extend(own);
    let mut history: Vec<History> = layers
        .iter()
        .map(|layer| History::Layer {
            title: layer.title.clone(),
            created_by: layer.created_by.clone(),
            bytes: LayerBytes { digest: layer.digest, size: layer.size, diff_id: layer.diff_id, raw_size: layer.raw_size },
            compressor: site.compressor,
        })
        .collect();
    history.push(History::Configuration { created_by: format!("parvis: recipe {}", image.name) });
    let mut config = site.catalog.config(&image.name);
    config.labels.extend(site.labels.clone());
    let spec = ImageSpec {
        title: image.name.to_string(),
        description: recipe.description.trim().to_owned(),
        version: None,
        created: site.lock.image(&image.name, &plan.platform).map_or(site.lock.epoch, |locked| site.lock.date(locked)),
        architecture: &plan.platform,
        base,
        config: &config,
        history: &history,
    };
    let documents = oci::write_image(&spec)
        .map_err(|error| Failure::project(format!("the image `{}` cannot be described: {error}", image.name)))?;
    for document in [&documents.config, &documents.manifest] {
        site.store.put_blob(&document.bytes).map_err(from_store)?;
    }
    Ok(ImageRecord {
        manifest: documents.manifest.digest,
        manifest_size: documents.manifest.bytes.len() as u64,
        config: documents.config.digest,
        layers,
    })
}
