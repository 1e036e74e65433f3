//! The documents of an image: configuration, manifest and index (OCI image-spec 1.1), written in one form and read strictly.
//!
//! They are built as plain values. The types of `oci-spec` keep annotations and labels in hash maps, have no health
//! check, and accept a document that is both a manifest and an index; the tests hold ours against them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::canonical::{self, JsonError};
use super::layer::LayerBytes;
use super::member::Compressor;
use crate::model::digest::{BlobDigest, DiffId};
use crate::model::name::Architecture;
use crate::model::recipe::{Health, ImageConfig};
use crate::model::tree::escape;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The type of [`EMPTY_BYTES`], the configuration of what is no image (OCI image-spec, guidance for an empty descriptor).
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub const EMPTY_BYTES: &[u8] = b"{}";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The annotation that names a manifest in a layout (OCI image-spec, annotations).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Layers that Docker's overlay driver can stack.
const MOST_LAYERS: usize = 127;

/// Parts of an artifact: the packages of a release are some hundreds.
const MOST_PARTS: usize = 10_000;

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// A layer, and what is in it.
    Layer { title: String, created_by: String, bytes: LayerBytes, compressor: Compressor },
    /// A change of the configuration alone.
    Configuration { created_by: String },
}

/// The image an image is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub name: String,
    pub digest: BlobDigest,
}

/// Everything that an image's documents state.
#[derive(Debug, Clone)]
pub struct ImageSpec<'a> {
    /// The image's name, for people.
    pub title: String,
    pub description: String,
    /// The version of the set of images, where there is one.
    pub version: Option<String>,
    /// Seconds since 1970: the epoch of the lock.
    pub created: i64,
    pub architecture: &'a Architecture,
    pub base: Option<Base>,
    /// What the image runs, the parent's configuration already taken in (see [`ImageConfig::inherit`]).
    pub config: &'a ImageConfig,
    /// From the bottom up, the parent's first.
    pub history: &'a [History],
}

/// A document: the bytes that are digested, and their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
    pub digest: BlobDigest,
}

impl Document {
    /// Writes a document in its one form.
    pub fn new(media_type: &'static str, value: &Value) -> Result<Self, OciError> {
        let bytes = canonical::to_bytes(value)?;
        Ok(Self { media_type, digest: BlobDigest::of(&bytes), bytes })
    }

    /// Returns how other documents point to this one.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type, self.digest, self.bytes.len() as u64)
    }
}

/// The two documents of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDocuments {
    pub config: Document,
    pub manifest: Document,
}

/// A document that is not what it should be. The messages name the document; the caller names where it came from.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the {document} {problem}")]
    Document { document: &'static str, problem: String },
    #[error("the image would have {0} layers; engines stack at most {MOST_LAYERS}")]
    TooManyLayers(usize),
    #[error("the epoch {0} is no date that can be written")]
    Epoch(i64),
    #[error("`{digest}` has {found} bytes where {expected} were promised")]
    Size { digest: BlobDigest, expected: u64, found: u64 },
    #[error("the bytes promised as `{expected}` are `{found}`")]
    Digest { expected: BlobDigest, found: BlobDigest },
}

/// Writes the configuration and the manifest of an image.
///
/// # Errors
/// Refuses more layers than engines stack, and an epoch outside the calendar.
pub fn write_image(spec: &ImageSpec) -> Result<ImageDocuments, OciError> {
    let layers: Vec<(&LayerBytes, Compressor)> = spec
        .history
        .iter()
        .filter_map(|item| match item {
            History::Layer { bytes, compressor, .. } => Some((bytes, *compressor)),
            History::Configuration { .. } => None,
        })
        .collect();
    if layers.len() > MOST_LAYERS {
        return Err(OciError::TooManyLayers(layers.len()));
    }
    let created = date(spec.created)?;
    let about = about(spec, &created);
    let (architecture, variant) = spec.architecture.oci();
    let mut config = json!({
        "architecture": architecture,
        "config": runtime(spec.config, &about),
        "created": created,
        "history": spec.history.iter().map(|item| history(item, &created)).collect::<Vec<_>>(),
        "os": "linux",
        "rootfs": {
            "diff_ids": layers.iter().map(|(layer, _)| layer.diff_id.to_string()).collect::<Vec<_>>(),
            "type": "layers",
        },
    });
    if let Some(variant) = variant {
        config["variant"] = json!(variant);
    }
    let config = Document::new(CONFIG, &config)?;
    let layer = |(layer, compressor): &(&LayerBytes, Compressor)| json!({"mediaType": compressor.layer_media_type(), "digest": layer.digest.to_string(), "size": layer.size});
    let manifest = json!({
        "annotations": about,
        "config": config.descriptor().to_value(),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    });
    let manifest = Document::new(MANIFEST, &manifest)?;
    Ok(ImageDocuments { config, manifest })
}

/// Writes an index of manifests, each with its platform and annotations.
pub fn write_index(manifests: &[Descriptor]) -> Result<Document, OciError> {
    let manifests: Vec<Value> = manifests.iter().map(Descriptor::to_value).collect();
    Document::new(INDEX, &json!({"manifests": manifests, "mediaType": INDEX, "schemaVersion": 2}))
}

/// Writes the manifest of an artifact: something that is no image and says something about one, its subject
/// (OCI image-spec, manifest, `subject`). Its configuration is [`EMPTY_BYTES`], which must be stored too.
pub fn write_artifact(
    artifact_type: &str,
    layers: &[Descriptor],
    subject: Option<&Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> Result<Document, OciError> {
    let empty = json!({"digest": BlobDigest::of(EMPTY_BYTES).to_string(), "mediaType": EMPTY, "size": EMPTY_BYTES.len()});
    let mut manifest = json!({
        "artifactType": artifact_type,
        "config": empty,
        "layers": layers.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    });
    if let Some(subject) = subject {
        // Where it stands says nothing about what it is.
        let plain = Descriptor { platform: None, annotations: BTreeMap::new(), ..subject.clone() };
        manifest["subject"] = plain.to_value();
    }
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    Document::new(MANIFEST, &manifest)
}

/// Returns seconds since 1970 as RFC 3339.
fn date(epoch: i64) -> Result<String, OciError> {
    let instant = jiff::Timestamp::from_second(epoch).map_err(|_| OciError::Epoch(epoch))?;
    Ok(instant.to_string())
}

/// Returns what both documents say about the image (OCI image-spec, annotations).
fn about(spec: &ImageSpec, created: &str) -> BTreeMap<String, String> {
    let key = |name: &str| format!("org.opencontainers.image.{name}");
    let mut about = BTreeMap::from([(key("title"), spec.title.clone()), (key("created"), created.to_owned())]);
    if !spec.description.is_empty() {
        about.insert(key("description"), spec.description.clone());
    }
    if let Some(version) = &spec.version {
        about.insert(key("version"), version.clone());
    }
    if let Some(base) = &spec.base {
        about.insert(key("base.name"), base.name.clone());
        about.insert(key("base.digest"), base.digest.to_string());
    }
    about
}

fn history(item: &History, created: &str) -> Value {
    match item {
        History::Layer { title, created_by, .. } => json!({"comment": title, "created": created, "created_by": created_by}),
        History::Configuration { created_by } => json!({"created": created, "created_by": created_by, "empty_layer": true}),
    }
}

fn runtime(config: &ImageConfig, about: &BTreeMap<String, String>) -> Value {
    let mut runtime = Map::new();
    let mut set = |key: &str, value: Value| runtime.insert(key.to_owned(), value);
    let mut env = config.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    set("Env", env.iter().map(|(name, value)| json!(format!("{name}={value}"))).collect());
    // A parent's labels about itself give way to those about this image.
    let mut labels = config.labels.clone();
    labels.extend(about.clone());
    set("Labels", json!(labels));
    for (key, value) in [("User", &config.user), ("WorkingDir", &config.workdir), ("StopSignal", &config.stop_signal)] {
        if let Some(value) = value {
            set(key, json!(value));
        }
    }
    for (key, value) in [("Entrypoint", &config.entrypoint), ("Cmd", &config.cmd)] {
        if let Some(value) = value {
            set(key, json!(value));
        }
    }
    if !config.ports.is_empty() {
        let port = |port: &crate::model::recipe::Port| format!("{}/{}", port.number, if port.udp { "udp" } else { "tcp" });
        set("ExposedPorts", config.ports.iter().map(|number| (port(number), json!({}))).collect());
    }
    if !config.volumes.is_empty() {
        let volume = |path: &crate::model::tree::TreePath| format!("/{}", String::from_utf8_lossy(path.as_bytes()));
        set("Volumes", config.volumes.iter().map(|path| (volume(path), json!({}))).collect());
    }
    if let Some(health) = &config.health {
        set("Healthcheck", healthcheck(health));
    }
    Value::Object(runtime)
}

/// Returns a health check as Docker's image configuration has it, with times in nanoseconds.
fn healthcheck(health: &Health) -> Value {
    let nanoseconds = |seconds: u64| seconds.saturating_mul(1_000_000_000).min(i64::MAX.unsigned_abs());
    let test: Vec<&str> = match &health.command[..] {
        [] => vec!["NONE"],
        command => std::iter::once("CMD").chain(command.iter().map(String::as_str)).collect(),
    };
    json!({
        "Interval": nanoseconds(health.interval),
        "Retries": health.retries,
        "StartPeriod": nanoseconds(health.start_period),
        "Test": test,
        "Timeout": nanoseconds(health.timeout),
    })
}

/// The platform that a manifest of an index is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform of a Debian architecture.
    #[must_use]
    pub fn of(architecture: &Architecture) -> Self {
        let (name, variant) = architecture.oci();
        Self { architecture: name.to_owned(), os: "linux".to_owned(), variant: variant.map(str::to_owned) }
    }
}

impl std::fmt::Display for Platform {
    /// Writes it as people and other tools do: `linux/amd64`, `linux/arm/v7`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(formatter, "/{variant}"))
    }
}

/// How one document points to bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: BlobDigest,
    pub size: u64,
    /// What an artifact is, in lists of referrers.
    pub artifact_type: Option<String>,
    pub platform: Option<Platform>,
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Points to something of which nothing more is said.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: BlobDigest, size: u64) -> Self {
        let (media_type, annotations) = (media_type.into(), BTreeMap::new());
        Self { media_type, digest, size, artifact_type: None, platform: None, annotations }
    }

    /// Points to these bytes.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, BlobDigest::of(bytes), bytes.len() as u64)
    }

    /// Returns the descriptor as it stands in documents.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = json!({"digest": self.digest.to_string(), "mediaType": self.media_type, "size": self.size});
        if let Some(artifact_type) = &self.artifact_type {
            value["artifactType"] = json!(artifact_type);
        }
        if let Some(Platform { architecture, os, variant }) = &self.platform {
            value["platform"] = json!({"architecture": architecture, "os": os});
            if let Some(variant) = variant {
                value["platform"]["variant"] = json!(variant);
            }
        }
        if !self.annotations.is_empty() {
            value["annotations"] = json!(self.annotations);
        }
        value
    }

    /// Checks bytes against what was promised of them.
    ///
    /// # Errors
    /// Says which of size and digest is another one.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), OciError> {
        let found = bytes.len() as u64;
        if found != self.size {
            return Err(OciError::Size { digest: self.digest, expected: self.size, found });
        }
        let found = BlobDigest::of(bytes);
        if found != self.digest {
            return Err(OciError::Digest { expected: self.digest, found });
        }
        Ok(())
    }
}

/// A manifest that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes that were read and that its digest is of.
    pub raw: Vec<u8>,
    pub digest: BlobDigest,
    pub config: Descriptor,
    /// From the bottom up.
    pub layers: Vec<Descriptor>,
    pub annotations: BTreeMap<String, String>,
}

/// The manifest of an artifact that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub raw: Vec<u8>,
    pub digest: BlobDigest,
    /// What it is: its `artifactType`, else the type of its configuration.
    pub artifact_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// What it says something about.
    pub subject: Option<Descriptor>,
    pub annotations: BTreeMap<String, String>,
}

/// An index that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub raw: Vec<u8>,
    pub digest: BlobDigest,
    pub manifests: Vec<Descriptor>,
}

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    pub raw: Vec<u8>,
    pub digest: BlobDigest,
    pub platform: Platform,
    pub diff_ids: Vec<DiffId>,
    /// What each line of the history says, without those of empty layers.
    pub layer_titles: Vec<String>,
    /// What each layer was made by, as the history says.
    pub made_by: Vec<String>,
    /// The `config` object as it stands there: what the image runs.
    pub runtime: Map<String, Value>,
}

impl Configuration {
    /// Returns a list of texts of the runtime configuration (`Env`, `Cmd`, `Entrypoint`).
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<&str> {
        let items = self.runtime.get(key).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns a text of the runtime configuration (`User`, `WorkingDir`); empty where it is absent.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.runtime.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads a manifest from outside.
///
/// # Errors
/// Refuses what is no manifest or could be taken for an index as well, other digests than sha256, and layers that are to
/// be fetched from elsewhere.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest, OciError> {
    let reader =
        Reader::new("manifest", bytes, &[MANIFEST, DOCKER_MANIFEST], &["manifests", "fsLayers", "history", "signatures"])?;
    let config = reader.descriptor(reader.member("config")?, "`config`")?;
    if ![CONFIG, DOCKER_CONFIG].contains(&config.media_type.as_str()) {
        return Err(reader.wrong(format!("is not that of an image: its config is `{}`", shown(&config.media_type))));
    }
    let layers = reader.descriptors("layers", MOST_LAYERS)?;
    for layer in &layers {
        if compression(&layer.media_type).is_none() {
            return Err(reader.wrong(format!("has a layer of the unknown type `{}`", shown(&layer.media_type))));
        }
    }
    let annotations = reader.texts(&reader.object, "annotations")?;
    Ok(Manifest { raw: bytes.to_vec(), digest: BlobDigest::of(bytes), config, layers, annotations })
}

/// Reads the manifest of an artifact from outside. An image is one too: of the type of its configuration.
///
/// # Errors
/// As [`parse_manifest`], but for the types of configuration and layers.
pub fn parse_artifact(bytes: &[u8]) -> Result<Artifact, OciError> {
    let reader =
        Reader::new("manifest", bytes, &[MANIFEST, DOCKER_MANIFEST], &["manifests", "fsLayers", "history", "signatures"])?;
    let config = reader.descriptor(reader.member("config")?, "`config`")?;
    let layers = reader.descriptors("layers", MOST_PARTS)?;
    let artifact_type = reader.text(&reader.object, "artifactType")?;
    let artifact_type = artifact_type.filter(|kind| !kind.is_empty()).unwrap_or_else(|| config.media_type.clone());
    let subject = match reader.object.get("subject") {
        None | Some(Value::Null) => None,
        Some(_) => Some(reader.descriptor(reader.member("subject")?, "`subject`")?),
    };
    let annotations = reader.texts(&reader.object, "annotations")?;
    Ok(Artifact { raw: bytes.to_vec(), digest: BlobDigest::of(bytes), artifact_type, config, layers, subject, annotations })
}

/// Reads an index from outside.
///
/// # Errors
/// As [`parse_manifest`].
pub fn parse_index(bytes: &[u8]) -> Result<Index, OciError> {
    let reader = Reader::new("index", bytes, &[INDEX, DOCKER_INDEX], &["config", "layers", "fsLayers"])?;
    let manifests = reader.descriptors("manifests", 1000)?;
    Ok(Index { raw: bytes.to_vec(), digest: BlobDigest::of(bytes), manifests })
}

/// Reads the configuration of an image with this many layers.
///
/// # Errors
/// Refuses another number of `diff_ids` or of history lines, and a `User` that engines would take for root.
pub fn parse_config(bytes: &[u8], layers: usize) -> Result<Configuration, OciError> {
    let reader = Reader { document: "configuration", object: read_object("configuration", bytes)? };
    let text = |key: &str| reader.text(&reader.object, key);
    let platform = Platform {
        architecture: text("architecture")?.ok_or_else(|| reader.wrong("has no `architecture`"))?,
        os: text("os")?.ok_or_else(|| reader.wrong("has no `os`"))?,
        variant: text("variant")?,
    };
    let rootfs = reader.member("rootfs")?;
    if rootfs.get("type") != Some(&json!("layers")) {
        return Err(reader.wrong("has a `rootfs` that is not of the type `layers`"));
    }
    let ids = rootfs.get("diff_ids").and_then(Value::as_array).ok_or_else(|| reader.wrong("has no `diff_ids`"))?;
    if ids.len() != layers {
        return Err(reader.wrong(format!("has {} `diff_ids` for {layers} layers", ids.len())));
    }
    let diff_id = |id: &Value| {
        let text = id.as_str().unwrap_or_default();
        text.parse::<DiffId>().map_err(|error| reader.wrong(format!("has a wrong `diff_id`: {error}")))
    };
    let diff_ids = ids.iter().map(diff_id).collect::<Result<_, _>>()?;
    let runtime = match reader.object.get("config") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(runtime)) => runtime.clone(),
        Some(_) => return Err(reader.wrong("has a `config` that is no object")),
    };
    reader.check_runtime(&runtime)?;
    let (layer_titles, made_by) = reader.history(layers)?.into_iter().unzip();
    Ok(Configuration { raw: bytes.to_vec(), digest: BlobDigest::of(bytes), platform, diff_ids, layer_titles, made_by, runtime })
}

/// How a layer of this media type is compressed; `Some(None)` for a plain tar, `None` for what is no layer.
#[must_use]
pub fn compression(media_type: &str) -> Option<Option<Compressor>> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Some(None),
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Some(Some(Compressor::Gzip))
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Some(Some(Compressor::Zstd))
        }
        _ => None,
    }
}

fn shown(text: &str) -> String {
    escape(text.as_bytes().get(..text.len().min(120)).unwrap_or_default())
}

fn read_object(document: &'static str, bytes: &[u8]) -> Result<Map<String, Value>, OciError> {
    match canonical::read(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err(OciError::Document { document, problem: "is no object".into() }),
    }
}

/// Takes a document from outside apart.
struct Reader {
    document: &'static str,
    object: Map<String, Value>,
}

impl Reader {
    /// Reads a document with a version and a media type, and with nothing of another kind of document in it.
    fn new(document: &'static str, bytes: &[u8], types: &[&str], foreign: &[&str]) -> Result<Self, OciError> {
        let reader = Self { document, object: read_object(document, bytes)? };
        if reader.object.get("schemaVersion") != Some(&json!(2)) {
            return Err(reader.wrong("does not have `schemaVersion` 2"));
        }
        if let Some(key) = foreign.iter().find(|key| reader.object.contains_key(**key)) {
            return Err(reader.wrong(format!("has `{key}` too, which belongs to another kind of document")));
        }
        match reader.text(&reader.object, "mediaType")? {
            Some(found) if !types.contains(&found.as_str()) => Err(reader.wrong(format!("says that it is `{}`", shown(&found)))),
            _ => Ok(reader),
        }
    }

    fn wrong(&self, problem: impl Into<String>) -> OciError {
        OciError::Document { document: self.document, problem: problem.into() }
    }

    fn member(&self, key: &str) -> Result<&Map<String, Value>, OciError> {
        self.object.get(key).and_then(Value::as_object).ok_or_else(|| self.wrong(format!("has no object `{key}`")))
    }

    fn text(&self, object: &Map<String, Value>, key: &str) -> Result<Option<String>, OciError> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(format!("has a `{key}` that is no text"))),
        }
    }

    fn texts(&self, object: &Map<String, Value>, key: &str) -> Result<BTreeMap<String, String>, OciError> {
        let texts = match object.get(key) {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(texts)) => texts,
            Some(_) => return Err(self.wrong(format!("has `{key}` that are no object"))),
        };
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        texts.iter().map(text).collect::<Option<_>>().ok_or_else(|| self.wrong(format!("has `{key}` that are no texts")))
    }

    fn descriptors(&self, key: &str, most: usize) -> Result<Vec<Descriptor>, OciError> {
        let items = self.object.get(key).and_then(Value::as_array).ok_or_else(|| self.wrong(format!("has no list `{key}`")))?;
        if items.len() > most {
            return Err(self.wrong(format!("has {} `{key}`; at most {most} are read", items.len())));
        }
        let item = |(index, item): (usize, &Value)| {
            let place = format!("item {index} of `{key}`");
            let item = item.as_object().ok_or_else(|| self.wrong(format!("has {place} that is no object")))?;
            self.descriptor(item, &place)
        };
        items.iter().enumerate().map(item).collect()
    }

    fn descriptor(&self, object: &Map<String, Value>, place: &str) -> Result<Descriptor, OciError> {
        let wrong = |problem: String| self.wrong(format!("has {place} {problem}"));
        let media_type = self.text(object, "mediaType")?.ok_or_else(|| wrong("without a `mediaType`".into()))?;
        let digest = self.text(object, "digest")?.unwrap_or_default();
        let digest = digest.parse().map_err(|error| wrong(format!("with a wrong digest: {error}")))?;
        let size = object.get("size").and_then(Value::as_u64).filter(|size| i64::try_from(*size).is_ok());
        let size = size.ok_or_else(|| wrong("without a right `size`".into()))?;
        if object.get("urls").is_some_and(|urls| urls.as_array().is_none_or(|urls| !urls.is_empty())) {
            return Err(wrong("that is to be fetched from elsewhere (`urls`)".into()));
        }
        let platform = match object.get("platform").and_then(Value::as_object) {
            None => None,
            Some(platform) => Some(Platform {
                architecture: self.text(platform, "architecture")?.unwrap_or_default(),
                os: self.text(platform, "os")?.unwrap_or_default(),
                variant: self.text(platform, "variant")?,
            }),
        };
        let artifact_type = self.text(object, "artifactType")?;
        let annotations = self.texts(object, "annotations")?;
        Ok(Descriptor { media_type, digest, size, artifact_type, platform, annotations })
    }

    fn check_runtime(&self, runtime: &Map<String, Value>) -> Result<(), OciError> {
        // Engines have read numbers above the range of a 32-bit integer as 0, which is root.
        let user = self.text(runtime, "User")?.unwrap_or_default();
        for part in user.split(':') {
            let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if number && !part.parse::<i32>().is_ok_and(|id| id >= 0) || part.bytes().any(|byte| !byte.is_ascii_graphic()) {
                return Err(self.wrong(format!("has the `User` `{}`, which is no user", shown(&user))));
            }
        }
        for key in ["Env", "Cmd", "Entrypoint"] {
            let usable = match runtime.get(key) {
                None | Some(Value::Null) => true,
                Some(Value::Array(items)) => items.iter().all(|item| {
                    item.as_str()
                        .is_some_and(|text| !text.contains('\0') && (key != "Env" || text.find('=').is_some_and(|at| at > 0)))
                }),
                Some(_) => false,
            };
            if !usable {
                return Err(self.wrong(format!("has a `{key}` that cannot be used")));
            }
        }
        Ok(())
    }

    /// Returns what the history says of each layer; empty texts where there is none.
    /// Returns title and origin of each layer.
    fn history(&self, layers: usize) -> Result<Vec<(String, String)>, OciError> {
        let items = match self.object.get("history") {
            None | Some(Value::Null) => return Ok(vec![Default::default(); layers]),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.wrong("has a `history` that is no list")),
        };
        let mut titles = Vec::new();
        for item in items.iter().filter(|item| item.get("empty_layer") != Some(&Value::Bool(true))) {
            let item = item.as_object().ok_or_else(|| self.wrong("has a line of `history` that is no object"))?;
            let made_by = self.text(item, "created_by")?.unwrap_or_default();
            let title = self.text(item, "comment")?.filter(|comment| !comment.is_empty());
            titles.push((title.unwrap_or_else(|| made_by.clone()), made_by));
        }
        if !items.is_empty() && titles.len() != layers {
            return Err(self.wrong(format!("has a `history` of {} layers for {layers}", titles.len())));
        }
        titles.resize(layers, Default::default());
        Ok(titles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::recipe::Port;

    fn layer(letter: u8) -> LayerBytes {
        LayerBytes {
            digest: BlobDigest::of(&[letter]),
            size: 1000 + u64::from(letter),
            diff_id: DiffId::of(&[letter]),
            raw_size: 9999,
        }
    }

    fn sample() -> ImageDocuments {
        let config = ImageConfig {
            entrypoint: Some(vec!["/usr/sbin/apachectl".into()]),
            cmd: Some(vec!["-DFOREGROUND".into()]),
            env: [("LANG".to_owned(), "C.UTF-8".to_owned()), ("TZ".to_owned(), "Europe/Paris".to_owned())].into(),
            user: Some("1001:33".into()),
            workdir: Some("/app".into()),
            ports: vec![Port { number: 444, udp: false }, Port { number: 53, udp: true }],
            volumes: vec![crate::model::tree::TreePath::parse(b"app/web/sites").unwrap()],
            stop_signal: Some("SIGWINCH".into()),
            health: Some(Health { command: vec!["check".into()], interval: 30, timeout: 5, start_period: 10, retries: 3 }),
            labels: [("org.example.team".to_owned(), "parish".to_owned())].into(),
        };
        let history = [
            History::Layer {
                title: "libc6 2.41-12 + 8 more packages".into(),
                created_by: "parvis: packages libc6=2.41-12".into(),
                bytes: layer(1),
                compressor: Compressor::Gzip,
            },
            History::Layer {
                title: "files of the recipe".into(),
                created_by: "parvis: files".into(),
                bytes: layer(2),
                compressor: Compressor::Zstd,
            },
            History::Configuration { created_by: "parvis: entrypoint, user".into() },
        ];
        write_image(&ImageSpec {
            title: "httpd".into(),
            description: "the inner web server".into(),
            version: Some("1.4.0".into()),
            created: 1_763_000_000,
            architecture: &"arm64".parse().unwrap(),
            base: Some(Base { name: "registry.example/php".into(), digest: BlobDigest::of(b"php") }),
            config: &config,
            history: &history,
        })
        .unwrap()
    }

    #[test]
    fn an_artifact_names_its_subject_and_is_read_back() {
        let ImageDocuments { manifest, .. } = sample();
        let layer = Descriptor { media_type: "text/plain".into(), ..manifest.descriptor() };
        let about = [("key".to_owned(), "value".to_owned())].into();
        let written =
            write_artifact("application/example", std::slice::from_ref(&layer), Some(&manifest.descriptor()), &about).unwrap();
        let read = parse_artifact(&written.bytes).unwrap();
        assert_eq!((read.artifact_type.as_str(), read.digest), ("application/example", written.digest));
        assert_eq!((read.layers, read.subject, read.annotations), (vec![layer], Some(manifest.descriptor()), about));
        assert_eq!(read.config.digest, BlobDigest::of(EMPTY_BYTES));
        assert!(parse_manifest(&written.bytes).unwrap_err().to_string().contains("not that of an image"));
        assert_eq!(parse_artifact(&manifest.bytes).unwrap().artifact_type, CONFIG);
    }

    #[test]
    fn the_documents_are_those_that_people_were_shown() {
        let ImageDocuments { config, manifest } = sample();
        let text = |bytes: &[u8]| serde_json::to_string_pretty(&canonical::read(bytes).unwrap()).unwrap();
        insta::assert_snapshot!("configuration", text(&config.bytes));
        insta::assert_snapshot!("manifest", text(&manifest.bytes));
    }

    #[test]
    fn the_types_of_oci_spec_read_what_is_written() {
        let ImageDocuments { config, manifest } = sample();
        let read = oci_spec::image::ImageManifest::from_reader(&manifest.bytes[..]).unwrap();
        assert_eq!((read.layers().len(), read.config().digest().to_string()), (2, config.digest.to_string()));
        let read = oci_spec::image::ImageConfiguration::from_reader(&config.bytes[..]).unwrap();
        assert_eq!(read.rootfs().diff_ids().len(), 2);
        assert_eq!(read.created().as_deref(), Some("2025-11-13T02:13:20Z"));
        let index =
            write_index(&[Descriptor { platform: Some(Platform::of(&"armhf".parse().unwrap())), ..manifest.descriptor() }])
                .unwrap();
        assert_eq!(oci_spec::image::ImageIndex::from_reader(&index.bytes[..]).unwrap().manifests().len(), 1);
        assert_eq!(parse_index(&index.bytes).unwrap().manifests[0].digest, manifest.digest);
    }

    #[test]
    fn what_is_written_is_accepted_by_the_strict_reader() {
        let ImageDocuments { config, manifest } = sample();
        let read = parse_manifest(&manifest.bytes).unwrap();
        read.config.verify(&config.bytes).unwrap();
        let read = parse_config(&config.bytes, read.layers.len()).unwrap();
        assert_eq!(read.texts("Entrypoint"), ["/usr/sbin/apachectl"]);
        assert_eq!(read.layer_titles, ["libc6 2.41-12 + 8 more packages", "files of the recipe"]);
    }

    /// Changes a document in one place and returns what the reader says of it.
    fn refusal(bytes: &[u8], from: &str, to: &str, read: impl Fn(&[u8]) -> Option<OciError>) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        let error = read(text.replacen(from, to, 1).as_bytes()).unwrap_or_else(|| panic!("{to} was accepted"));
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}\n")
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let manifest = sample().manifest.bytes;
        let digest = BlobDigest::of(&[1]).to_string();
        let digest = digest.as_str();
        let mut said = String::new();
        for (from, to) in [
            (r#""schemaVersion":2"#, r#""schemaVersion":1"#),
            (r#""schemaVersion":2"#, r#""manifests":[],"schemaVersion":2"#),
            (r#""schemaVersion":2"#, r#""fsLayers":[],"schemaVersion":2"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"layers":[]"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"Layers":[]"#),
            (
                r#""mediaType":"application/vnd.oci.image.manifest.v1+json""#,
                r#""mediaType":"application/vnd.oci.image.index.v1+json""#,
            ),
            (digest, "sha256:../../x"),
            (digest, "md5:d41d8cd98f00b204e9800998ecf8427e"),
            (r#""size":1001"#, r#""size":-1"#),
            (r#""size":1001"#, r#""size":1001.5"#),
            (r#""size":1001"#, r#""size":99999999999999999999"#),
            (r#""size":1001"#, r#""size":1001,"urls":["https://elsewhere.example/x"]"#),
            ("layer.v1.tar+gzip", "layer.v1.rar"),
            ("image.config.v1+json", "empty.v1+json"),
        ] {
            said += &refusal(&manifest, from, to, |bytes| parse_manifest(bytes).err());
        }
        insta::assert_snapshot!("hostile_manifests", said);
    }

    #[test]
    fn hostile_configurations_are_refused() {
        let config = sample().config.bytes;
        let mut said = String::new();
        for (from, to) in [
            (r#""User":"1001:33""#, r#""User":"4294967296""#),
            (r#""User":"1001:33""#, r#""User":"0:2147483648""#),
            (r#""User":"1001:33""#, r#""User":"99999999999999999999""#),
            (r#""User":"1001:33""#, r#""User":"root\n""#),
            (r#""User":"1001:33""#, r#""User":7"#),
            ("LANG=C.UTF-8", "=x"),
            (r#""type":"layers""#, r#""type":"other""#),
            (r#""os":"linux","#, ""),
            (r#""empty_layer":true"#, r#""empty_layer":false"#),
            (r#""diff_ids":["#, r#""diff_ids":["sha256:00","#),
        ] {
            said += &refusal(&config, from, to, |bytes| parse_config(bytes, 2).err());
        }
        said += &parse_config(&config, 3).unwrap_err().to_string();
        insta::assert_snapshot!("hostile_configurations", said);
    }

    #[test]
    fn bytes_that_are_longer_shorter_or_other_than_promised_are_refused() {
        let document = sample().config;
        let descriptor = document.descriptor();
        assert!(descriptor.verify(&document.bytes).is_ok());
        let shorter = &document.bytes[1..];
        let longer = [&document.bytes[..], b"\n"].concat();
        let mut other = document.bytes.clone();
        other[0] ^= 1;
        assert!(matches!(descriptor.verify(shorter), Err(OciError::Size { .. })));
        assert!(matches!(descriptor.verify(&longer), Err(OciError::Size { .. })));
        assert!(matches!(descriptor.verify(&other), Err(OciError::Digest { .. })));
    }
}
