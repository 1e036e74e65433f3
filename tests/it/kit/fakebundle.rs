//! A bundle made by hand: six parts, two images, an archive of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use parvis::image::archive::{self, ArchivedImage, Blobs};
use parvis::image::layer::LayerBytes;
use parvis::image::member::Compressor;
use parvis::image::oci::{History, ImageSpec, write_image};
use parvis::model::digest::{BlobDigest, DiffId, FileDigest};
use parvis::model::recipe::ImageConfig;
use serde_json::{Value, json};

use super::rawtar;

/// The settings as a user left them.
pub const SETTINGS: &str = "# Mine\nSERVER_NAME=localhost\nPORT=18443   # outside\nPARISH_NAME=\"L'Étoile\"\nPARVIS_IMAGE_APP=example.org/parish/app:1.4.0\n\n# The end\n";

/// A bundle's folder.
pub struct FakeBundle {
    pub folder: PathBuf,
    /// Id by configuration and by manifest, of each image.
    pub ids: Vec<(String, String)>,
}

struct InMemory(BTreeMap<BlobDigest, Vec<u8>>);

impl Blobs for InMemory {
    fn open(&self, digest: &BlobDigest) -> std::io::Result<Box<dyn std::io::Read + '_>> {
        self.0
            .get(digest)
            .map(|bytes| Box::new(&bytes[..]) as Box<dyn std::io::Read>)
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

impl FakeBundle {
    /// Makes the bundle, with its images in it.
    pub fn new(folder: &Path) -> Self {
        Self::version(folder, "1.4.0")
    }

    /// Makes a bundle of some version, with images of its own.
    pub fn version(folder: &Path, version: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut blobs = InMemory(BTreeMap::new());
        let mut images = Vec::new();
        let mut parsed = Vec::new();
        for name in ["app", "db"] {
            let tar = rawtar::archive([rawtar::Entry::file("who", format!("{name} {version}")).bytes()]);
            let blob = gzip(&tar);
            let bytes = LayerBytes {
                digest: BlobDigest::of(&blob),
                size: blob.len() as u64,
                diff_id: DiffId::of(&tar),
                raw_size: tar.len() as u64,
            };
            blobs.0.insert(bytes.digest, blob);
            let history = [History::Layer { title: name.into(), created_by: "test".into(), bytes, compressor: Compressor::Gzip }];
            let written = write_image(&ImageSpec {
                title: name.into(),
                description: String::new(),
                version: None,
                created: 1_763_000_000,
                architecture: &"amd64".parse().unwrap(),
                base: None,
                config: &ImageConfig::default(),
                history: &history,
            })
            .unwrap();
            images.push(json!({
                "name": name, "variable": format!("PARVIS_IMAGE_{}", name.to_uppercase()),
                "reference": format!("example.org/parish/{name}:{version}"),
                "manifest": written.manifest.digest, "config": written.config.digest, "size": 1000,
            }));
            parsed.push((
                format!("example.org/parish/{name}:{version}"),
                archive::reread(&written.config, &written.manifest).unwrap(),
            ));
        }
        let ids = parsed.iter().map(|(_, (manifest, config))| (config.digest.to_string(), manifest.digest.to_string())).collect();
        let archived: Vec<ArchivedImage<'_>> = parsed
            .iter()
            .map(|(name, (manifest, config))| ArchivedImage { manifest, config, names: vec![name.clone()] })
            .collect();
        fs::write(folder.join("images.tar"), archive::write(&archived, &blobs, Vec::new()).unwrap()).unwrap();
        fs::write(folder.join("compose.yaml"), "services: {}\n").unwrap();
        fs::write(folder.join("README.md"), "# Parish\n").unwrap();
        fs::write(folder.join(".env"), SETTINGS.replace(":1.4.0", &format!(":{version}"))).unwrap();
        let bundle = Self { folder: folder.to_owned(), ids };
        bundle.describe(version, &images);
        bundle
    }

    /// Writes `bundle.json` again with a change.
    pub fn change(&self, change: impl Fn(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.folder.join("bundle.json")).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.folder.join("bundle.json"), serde_json::to_vec(&value).unwrap()).unwrap();
    }

    fn describe(&self, version: &str, images: &[Value]) {
        let digest = |name: &str| FileDigest::of(&fs::read(self.folder.join(name)).unwrap());
        let service = |name: &str, kind: &str, when: Option<&str>, image: &str, after: &[&str]| json!({"name": name, "kind": kind, "when": when, "image": image, "health": kind == "service", "after": after});
        let parameter = |name: &str, variable: &str, kind: &str, default: &str| json!({"name": name, "variable": variable, "kind": kind, "default": default, "question": {"en": "?", "fr": "?"}});
        let value = json!({
            "format": 1, "name": "parish", "version": version, "platform": "linux/amd64", "description": "A site.",
            "images": images,
            "services": [
                service("selfkeys", "job", Some("every"), "app", &[]),
                service("db", "service", None, "db", &["selfkeys"]),
                service("init", "job", Some("install"), "app", &["selfkeys", "db"]),
                service("update", "job", Some("upgrade"), "app", &["db", "init"]),
                service("web", "service", None, "app", &["db", "init", "update"]),
                service("tools", "job", Some("manual"), "app", &["db"]),
            ],
            "volumes": [
                {"name": "authorities", "kind": "keys", "description": "Keys."},
                {"name": "keys-db", "kind": "keys", "description": "Keys."},
                {"name": "database", "kind": "data", "description": "What was entered."},
            ],
            "parameters": [
                parameter("server-name", "SERVER_NAME", "host", "localhost"), parameter("port", "PORT", "port", "18443"),
                parameter("parish-name", "PARISH_NAME", "text", "Parish"),
            ],
            "publish": [{"service": "web", "port": 443, "variable": "PORT", "default": 18443, "address": "127.0.0.1"}],
            "login": {"url": "https://${SERVER_NAME}:${PORT}/", "user": "admin", "service": "init", "command": ["cat", "/keys/site-admin"]},
            "backup": [{"file": "database.sql", "service": "tools", "save": ["dump"], "restore": ["bring-back", "--all"]}],
            "maintenance": {"service": "web", "begin": ["notice", "begin"], "end": ["notice", "end"], "check": ["ask"]},
            "files": {"compose.yaml": digest("compose.yaml"), "README.md": digest("README.md"), "images.tar": digest("images.tar")},
        });
        fs::write(self.folder.join("bundle.json"), serde_json::to_vec(&value).unwrap()).unwrap();
    }

    pub fn settings(&self) -> String {
        fs::read_to_string(self.folder.join(".env")).unwrap()
    }
}

/// Compresses as layers are compressed.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
