//! Archives and layouts of images: the hybrid that every engine loads, written; what people hand over, read.
//!
//! ```text
//! oci-layout                 {"imageLayoutVersion":"1.0.0"}
//! index.json                 every image by name        for skopeo, podman, containerd
//! manifest.json              the same images once more  for `docker load` without the containerd store
//! blobs/sha256/DIGEST        manifests, configurations and layers, each once
//! referrers.json             signatures and other things that are said of the images, in an archive that was signed
//! ```
//!
//! `manifest.json` points into `blobs/`. A reader of one list and a reader of the other must see the same images: an
//! archive in which they differ is refused.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::ops::Range;

use serde_json::{Value, json};

use super::canonical::{self, JsonError, LIMIT};
use super::layout::Additions;
use super::member::Compressor;
use super::oci::{self, Configuration, Descriptor, Document, INDEX, Manifest, OciError, REF_NAME};
use super::tar::{self, END, TarError};
use super::untar::{Skip, Untar, UntarError};
use crate::model::digest::{BlobDigest, FileDigest, Hasher};
use crate::model::tree::{Entry, Origin, TreePath, escape};

/// The annotation by which containerd names an image that it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The registry that is meant by a name without one, and its folder that is meant by a name without a folder.
const DOCKER: &str = "docker.io/";
const OFFICIAL: &str = "library/";

/// The folder of the blobs in an archive or a layout.
const BLOBS: &str = "blobs/sha256";

/// The list of what is said of the images of an archive. Engines do not know it, and that is why it is not `index.json`.
pub const REFERRERS: &str = "referrers.json";

/// Files in an archive that is read; there are some hundreds of layers in a large one.
const MOST_FILES: usize = 20_000;

/// An image that goes into an archive.
#[derive(Debug, Clone)]
pub struct ArchivedImage<'a> {
    pub manifest: &'a Manifest,
    pub config: &'a Configuration,
    /// Full names with tags: `registry.example/httpd:1.4.0`.
    pub names: Vec<String>,
}

/// Blobs, wherever they are kept.
pub trait Blobs {
    /// Opens a blob.
    fn open(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + '_>>;
}

/// An archive or layout that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot read the blob `{digest}`")]
    Blob {
        digest: BlobDigest,
        #[source]
        source: io::Error,
    },
    #[error("the blob `{digest}` is missing")]
    MissingBlob { digest: BlobDigest },
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error(transparent)]
    Untar(#[from] UntarError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("`{0}` holds no images: it has neither an `index.json` nor a `manifest.json`")]
    Foreign(&'static str),
    #[error("`index.json` and `manifest.json` do not state the same images")]
    TwoContents,
    #[error("`{file}` {problem}")]
    File { file: String, problem: String },
    #[error("cannot read or write the archive")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Blob { .. } => Some("run `parvis store verify`; what is damaged is made again".into()),
            Self::Foreign(_) => Some("make one with `parvis save`, `docker save` or `skopeo copy`".into()),
            Self::MissingBlob { .. }
            | Self::Untar(UntarError::Short { .. })
            | Self::Oci(OciError::Size { .. } | OciError::Digest { .. }) => {
                Some("the file is not whole: copy or download it again".into())
            }
            Self::TwoContents | Self::Untar(UntarError::Wrong { .. }) => {
                Some("do not load it anywhere: ask whom it came from, or make it again".into())
            }
            Self::Tar(error) => error.hint(),
            _ => None,
        }
    }
}

/// Returns the files beside the blobs, by their names: those of an archive, and of a layout in a folder.
pub fn documents(images: &[ArchivedImage]) -> Result<Vec<(&'static str, Vec<u8>)>, ArchiveError> {
    let mut listed = Vec::new();
    let mut docker = Vec::new();
    for image in images {
        let Manifest { raw, digest, config, layers, .. } = image.manifest;
        let descriptor = Descriptor {
            platform: Some(image.config.platform.clone()),
            ..Descriptor::new(oci::MANIFEST, *digest, raw.len() as u64)
        };
        // Nobody finds an image without a name by anything but its digest.
        let unnamed = image.names.is_empty().then(|| descriptor.clone());
        listed.extend(unnamed.into_iter().chain(image.names.iter().map(|name| {
            let annotations = [(REF_NAME.to_owned(), name.clone()), (CONTAINERD_NAME.to_owned(), with_registry(name))];
            Descriptor { annotations: annotations.into(), ..descriptor.clone() }
        })));
        docker.push(json!({
            "Config": blob_name(&config.digest),
            "Layers": layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Vec<_>>(),
            "RepoTags": image.names,
        }));
    }
    Ok(vec![
        ("oci-layout", canonical::to_bytes(&json!({"imageLayoutVersion": "1.0.0"}))?),
        ("index.json", oci::write_index(&listed)?.bytes),
        ("manifest.json", canonical::to_bytes(&Value::Array(docker))?),
    ])
}

/// Writes an archive. Blobs that several images share stand in it once; each is checked while it is copied.
pub fn write<W: Write>(images: &[ArchivedImage], blobs: &dyn Blobs, out: W) -> Result<W, ArchiveError> {
    write_with(images, blobs, None, out)
}

/// Writes an archive with what is said of its images.
pub fn write_with<W: Write>(
    images: &[ArchivedImage],
    blobs: &dyn Blobs,
    said: Option<&Additions>,
    mut out: W,
) -> Result<W, ArchiveError> {
    for (name, bytes) in documents(images)? {
        write_file(&mut out, name, bytes.len() as u64, &mut &bytes[..])?;
    }
    for folder in ["blobs", BLOBS] {
        let entry = Entry::directory(0o755, Origin::Parvis);
        tar::write_entry(&mut out, &path(folder)?, &entry, &mut io::empty(), None)?;
    }
    let mut small: BTreeMap<BlobDigest, &[u8]> = BTreeMap::new();
    let mut layers: BTreeMap<BlobDigest, u64> = BTreeMap::new();
    for ArchivedImage { manifest, config, .. } in images {
        small.insert(manifest.digest, &manifest.raw);
        small.insert(config.digest, &config.raw);
        layers.extend(manifest.layers.iter().map(|layer| (layer.digest, layer.size)));
    }
    for (digest, bytes) in &small {
        write_file(&mut out, &blob_name(digest), bytes.len() as u64, &mut &bytes[..])?;
    }
    for (digest, size) in layers.iter().filter(|(digest, _)| !small.contains_key(*digest)) {
        let content = blobs.open(digest).map_err(|source| ArchiveError::Blob { digest: *digest, source })?;
        let mut content = Checked::new(content, *size, *digest);
        write_file(&mut out, &blob_name(digest), *size, &mut content)?;
    }
    if let Some(Additions { blobs, list: (name, bytes) }) = said {
        for (digest, bytes) in blobs.iter().filter(|(digest, _)| !small.contains_key(*digest) && !layers.contains_key(*digest)) {
            write_file(&mut out, &blob_name(digest), bytes.len() as u64, &mut &bytes[..])?;
        }
        write_file(&mut out, name, bytes.len() as u64, &mut &bytes[..])?;
    }
    out.write_all(&END)?;
    Ok(out)
}

pub(super) fn blob_name(digest: &BlobDigest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn path(name: &str) -> Result<TreePath, ArchiveError> {
    TreePath::parse(name.as_bytes()).map_err(|error| ArchiveError::File { file: name.to_owned(), problem: error.to_string() })
}

pub(super) fn write_file(out: &mut dyn Write, name: &str, size: u64, content: &mut dyn Read) -> Result<(), ArchiveError> {
    // The writer of tars does not look at the digest of what it writes.
    let entry = Entry::file(FileDigest::from([0; 32]), size, 0o644, 0, Origin::Parvis);
    Ok(tar::write_entry(out, &path(name)?, &entry, content, None)?)
}

/// Reads content that has a promised size and digest, and fails at its end when it is another.
pub struct Checked<R> {
    content: R,
    missing: u64,
    hasher: Hasher,
    digest: BlobDigest,
}

impl<R: Read> Checked<R> {
    /// Starts reading.
    pub fn new(content: R, size: u64, digest: BlobDigest) -> Self {
        Self { content, missing: size, hasher: Hasher::new(), digest }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("`{}` {what}", self.digest));
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.content.read(buffer)?;
        self.missing = self.missing.checked_sub(read as u64).ok_or_else(|| damaged("is longer than promised"))?;
        self.hasher.update(&buffer[..read]);
        if read == 0 {
            if self.missing > 0 {
                return Err(damaged("is shorter than promised"));
            }
            if self.hasher.clone().finish::<BlobDigest>() != self.digest {
                return Err(damaged("has other bytes than promised"));
            }
        }
        Ok(read)
    }
}

/// The files of an archive or a layout, wherever they are.
pub trait Files: Sync {
    /// Opens a file by its name in the archive, with its size; `None` where there is none.
    fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>>;
}

/// Something that can be read at any place, by several threads.
pub trait ReadAt: Sync {
    /// Reads some bytes from this place on; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

/// A part of something, which is read as if there were nothing else.
pub struct Slice<'a, S: ?Sized> {
    source: &'a S,
    offset: u64,
    pub size: u64,
}

impl<S: ReadAt + ?Sized> ReadAt for Slice<'_, S> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        match self.offset.checked_add(offset) {
            Some(at) if left > 0 => self.source.read_at(&mut buffer[..left], at),
            _ => Ok(0),
        }
    }
}

/// A reader that starts at some place.
struct At<'a, S: ?Sized> {
    source: &'a S,
    offset: u64,
}

impl<S: ReadAt + ?Sized> Read for At<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl<S: ReadAt + ?Sized> Skip for At<'_, S> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.offset = self.offset.checked_add(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

/// The files of an archive, found by one walk over its headers.
pub struct TarFiles<'a, S: ?Sized> {
    source: &'a S,
    places: BTreeMap<Vec<u8>, (u64, u64)>,
    /// What each file takes up with its headers, and where the end of the archive begins.
    spans: BTreeMap<Vec<u8>, Range<u64>>,
    end: u64,
}

impl<'a, S: ReadAt + ?Sized> TarFiles<'a, S> {
    /// Walks over an archive.
    ///
    /// # Errors
    /// Refuses names that stand twice, too many entries, and what [`Untar`] refuses.
    pub fn new(source: &'a S) -> Result<Self, ArchiveError> {
        let mut places = BTreeMap::new();
        let mut spans = BTreeMap::new();
        let mut begin = 0;
        let mut links: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut untar = Untar::new(At { source, offset: 0 });
        while let Some(entry) = untar.next_entry()? {
            let file = escape(&entry.name[..entry.name.len().min(200)]);
            let wrong = |problem: &str| ArchiveError::File { file: file.clone(), problem: problem.to_owned() };
            let name = TreePath::parse(&entry.name).map_err(|_| wrong("is a name that no archive of images has"))?;
            let name = name.as_bytes().to_vec();
            let after = untar.position().saturating_add(entry.size.checked_next_multiple_of(512).unwrap_or(u64::MAX));
            spans.insert(name.clone(), std::mem::replace(&mut begin, after)..after);
            match entry.kind {
                b'5' => continue,
                b'0' => {
                    if places.insert(name, (untar.position(), entry.size)).is_some() {
                        return Err(wrong("stands twice in the archive"));
                    }
                }
                // Docker before 25 links layers that it wrote once already: `../OTHER/layer.tar`.
                b'2' => links.push((name, entry.link)),
                _ => return Err(wrong("is neither a file nor a folder")),
            }
            if places.len() + links.len() > MOST_FILES {
                return Err(wrong("is one file too many"));
            }
        }
        for (name, target) in links {
            let of_docker = || Some(target.strip_prefix(b"../")?).filter(|target| !target.windows(2).any(|two| two == b".."));
            let place = of_docker().and_then(|target| places.get(target)).copied();
            let file = escape(&name[..name.len().min(200)]);
            let place =
                place.ok_or_else(|| ArchiveError::File { file: file.clone(), problem: "is a link out of the archive".into() })?;
            if places.insert(name, place).is_some() {
                return Err(ArchiveError::File { file, problem: "stands twice in the archive".into() });
            }
        }
        Ok(Self { source, places, spans, end: begin })
    }

    /// Returns the parts of the archive, without its end and without one of its files.
    #[must_use]
    pub fn without(&self, name: &str) -> Vec<Range<u64>> {
        match self.spans.get(name.as_bytes()) {
            Some(span) => vec![0..span.start, span.end..self.end],
            None => std::iter::once(0..self.end).collect(),
        }
    }

    /// Returns the blobs by their names, and where each of them stands. Whether they are what they are called is not looked at.
    #[must_use]
    pub fn blobs(&self) -> BTreeMap<BlobDigest, Range<u64>> {
        let blob = |(name, (offset, size)): (&Vec<u8>, &(u64, u64))| {
            let hex = std::str::from_utf8(name).ok()?.strip_prefix(BLOBS)?.strip_prefix('/')?;
            Some((format!("sha256:{hex}").parse().ok()?, *offset..offset.saturating_add(*size)))
        };
        self.places.iter().filter_map(blob).collect()
    }

    /// Returns a file of the archive as something that can itself be read at any place: an archive in an archive.
    #[must_use]
    pub fn within(&self, name: &str) -> Option<Slice<'a, S>> {
        let (offset, size) = *self.places.get(name.as_bytes())?;
        Some(Slice { source: self.source, offset, size })
    }

    /// Returns the names of all files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(Vec::as_slice)
    }
}

/// Returns a reader of a part of something.
pub(super) fn part<S: ReadAt + ?Sized>(source: &S, span: Range<u64>) -> impl Read {
    At { source, offset: span.start }.take(span.end.saturating_sub(span.start))
}

impl<S: ReadAt + ?Sized> Files for TarFiles<'_, S> {
    fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
        let Some(&(offset, size)) = self.places.get(name.as_bytes()) else { return Ok(None) };
        Ok(Some((size, Box::new(At { source: self.source, offset }.take(size)))))
    }
}

/// An image that was found in an archive or layout.
#[derive(Debug, Clone)]
pub struct FoundImage {
    /// The names under which it is listed.
    pub names: Vec<String>,
    /// Its manifest; absent in archives of Docker before 25.
    pub manifest: Option<Manifest>,
    pub config: Configuration,
    /// From the bottom up.
    pub layers: Vec<FoundLayer>,
}

/// A layer in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLayer {
    /// Its file in the archive.
    pub file: String,
    /// Its promised digest and size; absent in archives of Docker before 25.
    pub descriptor: Option<Descriptor>,
}

impl FoundLayer {
    /// Opens the layer as it is stored, checked against what was promised, and says how it is compressed.
    pub fn open<'a>(&self, files: &'a dyn Files) -> Result<(Option<Compressor>, Box<dyn Read + 'a>), ArchiveError> {
        let missing = || ArchiveError::File { file: self.file.clone(), problem: "is missing".into() };
        let (size, content) = files.open(&self.file)?.ok_or_else(missing)?;
        let Some(descriptor) = &self.descriptor else { return Ok((None, content)) };
        if size != descriptor.size {
            return Err(OciError::Size { digest: descriptor.digest, expected: descriptor.size, found: size }.into());
        }
        let compressor = oci::compression(&descriptor.media_type).flatten();
        Ok((compressor, Box::new(Checked::new(content, size, descriptor.digest))))
    }
}

/// Finds the images of an archive or layout. No layer is read.
///
/// # Errors
/// Refuses documents that [`oci`] refuses, blobs that are missing or not what was promised, and two lists of images that
/// differ.
pub fn read(files: &dyn Files) -> Result<Vec<FoundImage>, ArchiveError> {
    let index = read_file(files, "index.json")?;
    let docker = read_file(files, "manifest.json")?;
    let listed = match &index {
        Some(bytes) => Some(from_index(files, bytes)?),
        None => None,
    };
    let by_docker = match &docker {
        Some(bytes) => Some(from_docker(files, bytes)?),
        None => None,
    };
    match (listed, by_docker) {
        (Some(listed), Some(by_docker)) => {
            let contents = |images: &[FoundImage]| -> BTreeSet<(BlobDigest, Vec<String>)> {
                images
                    .iter()
                    .map(|image| (image.config.digest, image.layers.iter().map(|layer| layer.file.clone()).collect()))
                    .collect()
            };
            if contents(&listed) == contents(&by_docker) { Ok(listed) } else { Err(ArchiveError::TwoContents) }
        }
        (Some(images), None) | (None, Some(images)) => Ok(images),
        (None, None) => Err(ArchiveError::Foreign("the archive")),
    }
}

pub(super) fn read_file(files: &dyn Files, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some((size, content)) = files.open(name)? else { return Ok(None) };
    if size > LIMIT as u64 {
        return Err(JsonError::TooLarge { size, limit: LIMIT }.into());
    }
    let mut bytes = Vec::new();
    content.take(LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Reads a blob that is a document, and checks it.
pub(super) fn read_blob(files: &dyn Files, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
    let missing = ArchiveError::MissingBlob { digest: descriptor.digest };
    let bytes = read_file(files, &blob_name(&descriptor.digest))?.ok_or(missing)?;
    descriptor.verify(&bytes)?;
    Ok(bytes)
}

/// Returns a name as containerd keeps it: always with a registry. Docker 26 and 28, where containerd keeps their images, list one that was
/// imported under a shorter name, but do not find it by that name.
fn with_registry(name: &str) -> String {
    let registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    match name.split_once('/') {
        Some((first, _)) if registry(first) => name.to_owned(),
        Some(_) => format!("{DOCKER}{name}"),
        None => format!("{DOCKER}{OFFICIAL}{name}"),
    }
}

/// Returns a name as people write it.
fn without_registry(name: &str) -> &str {
    let Some(short) = name.strip_prefix(DOCKER) else { return name };
    short.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')).unwrap_or(short)
}

fn from_index(files: &dyn Files, bytes: &[u8]) -> Result<Vec<FoundImage>, ArchiveError> {
    let mut images: BTreeMap<BlobDigest, FoundImage> = BTreeMap::new();
    let mut order = Vec::new();
    for outer in oci::parse_index(bytes)?.manifests {
        let name = name_of(&outer);
        // An index may hold the index of an image for several platforms; none goes deeper.
        let inner = if is_index(&outer) { oci::parse_index(&read_blob(files, &outer)?)?.manifests } else { vec![outer] };
        for descriptor in inner {
            if descriptor.annotations.contains_key("vnd.docker.reference.type") {
                // An attestation, which is an image in form only.
                continue;
            }
            if is_index(&descriptor) {
                return Err(ArchiveError::File { file: "index.json".into(), problem: "has an index in an index in it".into() });
            }
            if says_something_of_others(files, &descriptor)? {
                continue;
            }
            let image = match images.entry(descriptor.digest) {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => {
                    order.push(descriptor.digest);
                    slot.insert(from_manifest(files, &descriptor)?)
                }
            };
            image.names.extend(name.clone().filter(|name| !image.names.contains(name)));
        }
    }
    Ok(order.iter().filter_map(|digest| images.remove(digest)).collect())
}

/// Returns the name that a line of `index.json` gives its image.
pub(super) fn name_of(line: &Descriptor) -> Option<String> {
    let name = line.annotations.get(CONTAINERD_NAME).map(|name| without_registry(name));
    name.or_else(|| line.annotations.get(REF_NAME).map(String::as_str)).map(str::to_owned)
}

/// Whether something is no image, but a signature or the like of one.
fn says_something_of_others(files: &dyn Files, descriptor: &Descriptor) -> Result<bool, ArchiveError> {
    let artifact = oci::parse_artifact(&read_blob(files, descriptor)?)?;
    Ok(super::layout::subject_of(descriptor, &artifact).is_some())
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    descriptor.media_type == INDEX || descriptor.media_type.ends_with("manifest.list.v2+json")
}

fn from_manifest(files: &dyn Files, descriptor: &Descriptor) -> Result<FoundImage, ArchiveError> {
    let manifest = oci::parse_manifest(&read_blob(files, descriptor)?)?;
    let config = oci::parse_config(&read_blob(files, &manifest.config)?, manifest.layers.len())?;
    let layer = |layer: &Descriptor| FoundLayer { file: blob_name(&layer.digest), descriptor: Some(layer.clone()) };
    let layers: Vec<FoundLayer> = manifest.layers.iter().map(layer).collect();
    for Descriptor { digest, .. } in &manifest.layers {
        if files.open(&blob_name(digest))?.is_none() {
            return Err(ArchiveError::MissingBlob { digest: *digest });
        }
    }
    Ok(FoundImage { names: Vec::new(), manifest: Some(manifest), config, layers })
}

/// Reads the list that `docker save` writes.
fn from_docker(files: &dyn Files, bytes: &[u8]) -> Result<Vec<FoundImage>, ArchiveError> {
    let wrong = |problem: &str| ArchiveError::File { file: "manifest.json".into(), problem: problem.to_owned() };
    let list = canonical::read(bytes)?;
    let list = list.as_array().filter(|list| list.len() <= 1000).ok_or_else(|| wrong("is no list of images"))?;
    let texts = |value: Option<&Value>| -> Option<Vec<String>> {
        match value {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(value) => value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        }
    };
    let mut images = Vec::new();
    for item in list {
        let names = texts(item.get("RepoTags")).ok_or_else(|| wrong("has names that are no texts"))?;
        let layers = texts(item.get("Layers")).ok_or_else(|| wrong("has layers that are no texts"))?;
        let config = item.get("Config").and_then(Value::as_str).ok_or_else(|| wrong("has an image without a `Config`"))?;
        let bytes = read_file(files, config)?.ok_or_else(|| wrong("names a `Config` that is missing"))?;
        let config_digest = BlobDigest::of(&bytes);
        // Docker names it by its digest in both of its forms; a name that lies would hide another image.
        let stated = config.strip_prefix(BLOBS).map_or(config.strip_suffix(".json"), |name| name.strip_prefix('/'));
        if stated != Some(config_digest.hex().as_str()) {
            return Err(wrong("names a `Config` whose bytes are others than its name promises"));
        }
        let config = oci::parse_config(&bytes, layers.len())?;
        let layers = layers.into_iter().map(|file| FoundLayer { file, descriptor: None }).collect();
        images.push(FoundImage { names, manifest: None, config, layers });
    }
    Ok(images)
}

/// Reads back documents that parvis has just written, as those of an image to archive.
pub fn reread(config: &Document, manifest: &Document) -> Result<(Manifest, Configuration), OciError> {
    let manifest = oci::parse_manifest(&manifest.bytes)?;
    let config = oci::parse_config(&config.bytes, manifest.layers.len())?;
    Ok((manifest, config))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::image::layer::{LayerPlan, PackageTree, assemble, plan_layers};
    use crate::image::oci::{History, ImageSpec, write_image};
    use crate::image::tar::testing::Memory;
    use crate::model::recipe::ImageConfig;
    use crate::model::tree::Tree;

    pub struct MemoryBlobs(pub BTreeMap<BlobDigest, Vec<u8>>);

    impl Blobs for MemoryBlobs {
        fn open(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + '_>> {
            self.0.get(digest).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    struct NoSegments;

    impl crate::image::layer::Segments for NoSegments {
        fn segment(
            &self,
            _: &crate::model::digest::SegmentKey,
        ) -> io::Result<Option<(crate::image::segment::SegmentInfo, Box<dyn Read + '_>)>> {
            Ok(None)
        }
    }

    /// Makes an image of a tree on top of another image's tree and history.
    pub fn image(
        memory: &Memory,
        blobs: &mut MemoryBlobs,
        (parent, below): (&Tree, &[History]),
        tree: &Tree,
        config: &ImageConfig,
    ) -> (Manifest, Configuration, Vec<History>) {
        let groups: &[Vec<PackageTree>] = &[];
        let mut history = below.to_vec();
        for LayerPlan { title, created_by, parts } in plan_layers(parent, groups, &BTreeSet::new(), tree) {
            let (bytes, blob) = assemble(&parts, memory, &NoSegments, Compressor::Gzip, None, Vec::new()).unwrap();
            blobs.0.insert(bytes.digest, blob);
            history.push(History::Layer { title, created_by, bytes, compressor: Compressor::Gzip });
        }
        let written = write_image(&ImageSpec {
            title: "test".into(),
            description: String::new(),
            version: None,
            created: 1_763_000_000,
            architecture: &"amd64".parse().unwrap(),
            base: None,
            config,
            history: &history,
        })
        .unwrap();
        let (manifest, configuration) = reread(&written.config, &written.manifest).unwrap();
        (manifest, configuration, history)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tar::testing::{Memory, path};
    use super::testing::{MemoryBlobs, image};
    use super::*;
    use crate::model::recipe::ImageConfig;
    use crate::model::tree::Tree;

    /// Two images that share a layer, in one archive.
    fn sample() -> (MemoryBlobs, Vec<u8>) {
        let mut memory = Memory::default();
        let mut blobs = MemoryBlobs(BTreeMap::new());
        let mut base = Tree::new();
        base.put(path("etc"), Entry::directory(0o755, Origin::Parvis));
        base.put(path("etc/hello"), memory.file(b"hello"));
        let mut child = base.clone();
        child.put(path("etc/more"), memory.file(b"more"));
        let config = ImageConfig::default();
        let (base_manifest, base_config, history) = image(&memory, &mut blobs, (&Tree::new(), &[]), &base, &config);
        let (manifest, configuration, _) = image(&memory, &mut blobs, (&base, &history), &child, &config);
        let images = [
            ArchivedImage { manifest: &base_manifest, config: &base_config, names: vec!["example.org/base:1".into()] },
            ArchivedImage {
                manifest: &manifest,
                config: &configuration,
                names: vec!["example.org/child:1".into(), "child:1".into()],
            },
        ];
        let archive = write(&images, &blobs, Vec::new()).unwrap();
        assert_eq!(archive, write(&images, &blobs, Vec::new()).unwrap());
        (blobs, archive)
    }

    fn found(archive: &[u8]) -> Result<Vec<FoundImage>, ArchiveError> {
        read(&TarFiles::new(archive)?)
    }

    #[test]
    fn an_archive_reads_back_and_holds_each_blob_once() {
        let (blobs, archive) = sample();
        let files = TarFiles::new(&archive[..]).unwrap();
        let images = read(&files).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[1].names, ["example.org/child:1", "child:1"]);
        assert_eq!(images[0].layers[0], images[1].layers[0]);
        assert_eq!(files.places.len(), 3 + 4 + blobs.0.len());
        for layer in &images[1].layers {
            let mut bytes = Vec::new();
            let (compressor, mut content) = layer.open(&files).unwrap();
            content.read_to_end(&mut bytes).unwrap();
            assert_eq!(compressor, Some(Compressor::Gzip));
            assert_eq!(blobs.0[&layer.descriptor.as_ref().unwrap().digest], bytes);
        }
    }

    /// Writes an archive again with some files changed, dropped or added.
    fn rewritten(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
        let files = TarFiles::new(archive).unwrap();
        let mut out = Vec::new();
        for name in files.places.keys() {
            let name = std::str::from_utf8(name).unwrap();
            let mut bytes = Vec::new();
            files.open(name).unwrap().unwrap().1.read_to_end(&mut bytes).unwrap();
            if let Some(bytes) = change(name, bytes) {
                write_file(&mut out, name, bytes.len() as u64, &mut &bytes[..]).unwrap();
            }
        }
        out.extend_from_slice(&END);
        out
    }

    #[test]
    fn containerd_reads_names_in_full_and_people_in_short() {
        for (short, full) in [
            ("base:1", "docker.io/library/base:1"),
            ("parish/base:1", "docker.io/parish/base:1"),
            ("library/x/base:1", "docker.io/library/x/base:1"),
            ("localhost/base:1", "localhost/base:1"),
            ("host:5000/base:1", "host:5000/base:1"),
            ("registry.example/base:1", "registry.example/base:1"),
        ] {
            assert_eq!((with_registry(short).as_str(), without_registry(full)), (full, short));
        }
    }

    #[test]
    fn either_list_of_images_suffices() {
        let (_, archive) = sample();
        for dropped in ["index.json", "manifest.json"] {
            let images = found(&rewritten(&archive, |name, bytes| (name != dropped).then_some(bytes))).unwrap();
            assert_eq!(images.len(), 2, "without {dropped}");
            assert_eq!(images[1].layers.len(), 2);
        }
        let neither = rewritten(&archive, |name, bytes| (!name.contains(".json")).then_some(bytes));
        assert!(matches!(found(&neither), Err(ArchiveError::Foreign(_))));
    }

    #[test]
    fn an_archive_that_shows_docker_another_image_is_refused() {
        let (_, archive) = sample();
        let archive = rewritten(&archive, |name, bytes| {
            if name != "manifest.json" {
                return Some(bytes);
            }
            let mut list = canonical::read(&bytes).unwrap();
            list.as_array_mut().unwrap().remove(0);
            Some(canonical::to_bytes(&list).unwrap())
        });
        assert!(matches!(found(&archive), Err(ArchiveError::TwoContents)));
    }

    #[test]
    fn blobs_that_are_damaged_longer_or_missing_are_refused() {
        let (_, archive) = sample();
        let images = found(&archive).unwrap();
        let manifest = blob_name(&images[0].manifest.as_ref().unwrap().digest);
        let layer = images[0].layers[0].clone();
        let with = |file: &str, change: fn(Vec<u8>) -> Option<Vec<u8>>| {
            rewritten(&archive, |name, bytes| if name == file { change(bytes) } else { Some(bytes) })
        };
        let flip = |mut bytes: Vec<u8>| {
            bytes[30] ^= 1;
            Some(bytes)
        };
        let longer = |bytes: Vec<u8>| Some([bytes, vec![b' ']].concat());
        assert!(matches!(found(&with(&manifest, flip)), Err(ArchiveError::Oci(OciError::Digest { .. }))));
        assert!(matches!(found(&with(&manifest, longer)), Err(ArchiveError::Oci(OciError::Size { .. }))));
        assert!(matches!(found(&with(&manifest, |_| None)), Err(ArchiveError::MissingBlob { .. })));
        assert!(matches!(found(&with(&layer.file, |_| None)), Err(ArchiveError::MissingBlob { .. })));

        let damaged = with(&layer.file, flip);
        let files = TarFiles::new(&damaged[..]).unwrap();
        let read = layer.open(&files).unwrap().1.read_to_end(&mut Vec::new());
        assert!(read.unwrap_err().to_string().contains("has other bytes than promised"));
        let longer = with(&layer.file, longer);
        assert!(layer.open(&TarFiles::new(&longer[..]).unwrap()).is_err());
    }

    #[test]
    fn a_blob_that_is_not_what_the_manifest_says_does_not_get_into_an_archive() {
        let (mut blobs, archive) = sample();
        let images = found(&archive).unwrap();
        let manifest = images[0].manifest.clone().unwrap();
        for bytes in blobs.0.values_mut() {
            bytes[30] ^= 1;
        }
        let image = ArchivedImage { manifest: &manifest, config: &images[0].config, names: Vec::new() };
        let error = write(&[image], &blobs, Vec::new()).unwrap_err();
        assert!(matches!(error, ArchiveError::Tar(TarError::Content { .. })), "{error:?}");
    }
}
