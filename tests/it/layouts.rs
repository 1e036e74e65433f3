//! Layouts of strangers (row 12 of what parvis must survive): each defect is refused in words of its own, by whoever looks at an image
//! and by whoever verifies it, with bounded work, and nothing is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parvis::model::digest::BlobDigest;
use serde_json::{Value, json};

use crate::kit::victim::picture;
use crate::trust::{Person, layout};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A good layout of one image, to be spoiled.
struct Spoiled {
    person: Person,
    folder: PathBuf,
    /// The digests of manifest, configuration and layer.
    manifest: BlobDigest,
    config: BlobDigest,
    layer: BlobDigest,
}

impl Spoiled {
    fn new() -> Self {
        let person = Person::new();
        let folder = person.path("out");
        let manifest = layout(&folder, "registry.example/parish/hello:1", "hello");
        let value: Value = serde_json::from_slice(&fs::read(blob(&folder, &manifest)).unwrap()).unwrap();
        let of = |value: &Value| value["digest"].as_str().unwrap().parse().unwrap();
        let (config, layer) = (of(&value["config"]), of(&value["layers"][0]));
        let spoiled = Self { person, folder, manifest, config, layer };
        spoiled.person.run(&["inspect", spoiled.folder.to_str().unwrap()], 0);
        spoiled
    }

    fn path(&self, digest: &BlobDigest) -> PathBuf {
        blob(&self.folder, digest)
    }

    /// Changes the index, or a document and those that name it.
    fn index(&self, change: impl FnOnce(&mut Value)) {
        let path = self.folder.join("index.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    /// Puts a document there, and lets the index name it in place of the image.
    fn image(&self, media_type: &str, bytes: &[u8]) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        fs::write(self.path(&digest), bytes).unwrap();
        self.index(|index| {
            let line = &mut index["manifests"][0];
            line["mediaType"] = media_type.into();
            line["digest"] = digest.to_string().into();
            line["size"] = bytes.len().into();
        });
        digest
    }

    fn manifest(&self, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.path(&self.manifest)).unwrap()).unwrap();
        change(&mut value);
        self.image(MANIFEST, value.to_string().as_bytes());
    }

    fn config(&self, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.path(&self.config)).unwrap()).unwrap();
        change(&mut value);
        let bytes = value.to_string().into_bytes();
        let digest = BlobDigest::of(&bytes);
        fs::write(self.path(&digest), &bytes).unwrap();
        self.manifest(|manifest| {
            manifest["config"]["digest"] = digest.to_string().into();
            manifest["config"]["size"] = bytes.len().into();
        });
    }

    /// Signs it as it is: what is said of it is good then, and it is not.
    fn signed(self) -> Self {
        self.person.run(&["key", "new"], 0);
        self.person.run(&["sign", self.folder.to_str().unwrap()], 0);
        self.person.run(&["trust", "add", &self.person.key("release.pub")], 0);
        self
    }

    /// Expects a refusal of whoever looks at it and whoever verifies it, quickly; returns both.
    fn refused(&self) -> String {
        let target = self.folder.to_str().unwrap();
        let (before, start) = (picture(&self.folder), Instant::now());
        let looked = self.person.run(&["inspect", target], 2);
        let verified = self.person.run(&["verify", target], 1);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(looked.out.is_empty() && verified.err.contains("refused, E0"), "{looked:?} {verified:?}");
        assert_eq!(picture(&self.folder), before, "nothing is written");
        let plain = |text: &str| text.replace(target, "LAYOUT");
        format!("{}{}", plain(&looked.err), plain(&verified.err))
    }
}

fn blob(folder: &Path, digest: &BlobDigest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

#[test]
fn a_digest_that_leads_out_of_the_layout_is_refused() {
    let spoiled = Spoiled::new();
    fs::write(spoiled.folder.join("x"), "secret").unwrap();
    spoiled.index(|index| index["manifests"][0]["digest"] = "sha256:../../x".into());
    insta::assert_snapshot!("a_digest_that_leads_out", spoiled.refused());
}

#[test]
fn another_digest_than_sha256_is_refused() {
    let spoiled = Spoiled::new();
    spoiled.index(|index| index["manifests"][0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e".into());
    insta::assert_snapshot!("another_digest", spoiled.refused());
}

#[test]
fn a_size_of_one_byte_more_or_less_is_refused() {
    let mut all = String::new();
    for (name, step) in [("more", 1), ("less", -1)] {
        for part in ["image", "config", "layer"] {
            let spoiled = Spoiled::new();
            let change = |value: &mut Value| value["size"] = (value["size"].as_i64().unwrap() + step).into();
            match part {
                "image" => spoiled.index(|index| change(&mut index["manifests"][0])),
                "config" => spoiled.manifest(|manifest| change(&mut manifest["config"])),
                _ => spoiled.manifest(|manifest| change(&mut manifest["layers"][0])),
            }
            let spoiled = if part == "layer" { spoiled.signed() } else { spoiled };
            all = format!("{all}# one byte {name} of the {part}\n{}", spoiled.refused());
        }
    }
    insta::assert_snapshot!("sizes", all);
}

#[test]
fn a_byte_behind_a_blob_is_refused() {
    let mut all = String::new();
    for part in ["image", "config", "layer"] {
        let spoiled = Spoiled::new();
        let path = spoiled.path(match part {
            "image" => &spoiled.manifest,
            "config" => &spoiled.config,
            _ => &spoiled.layer,
        });
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
        let spoiled = if part == "layer" { spoiled.signed() } else { spoiled };
        all = format!("{all}# behind the {part}\n{}", spoiled.refused());
    }
    insta::assert_snapshot!("a_byte_behind", all);
}

#[test]
fn a_missing_blob_is_named() {
    let mut all = String::new();
    for part in ["image", "config", "layer"] {
        let spoiled = Spoiled::new();
        fs::remove_file(spoiled.path(match part {
            "image" => &spoiled.manifest,
            "config" => &spoiled.config,
            _ => &spoiled.layer,
        }))
        .unwrap();
        all = format!("{all}# without the {part}\n{}", spoiled.refused());
    }
    insta::assert_snapshot!("a_missing_blob", all);
}

#[test]
fn a_manifest_of_300_mb_is_refused_unread() {
    let spoiled = Spoiled::new();
    let path = spoiled.path(&spoiled.manifest);
    fs::File::options().write(true).open(path).unwrap().set_len(300_000_000).unwrap();
    spoiled.index(|index| index["manifests"][0]["size"] = 300_000_000.into());
    insta::assert_snapshot!("a_large_manifest", spoiled.refused());
}

#[test]
fn a_document_that_is_manifest_and_index_is_refused() {
    let spoiled = Spoiled::new();
    spoiled.manifest(|manifest| manifest["manifests"] = json!([]));
    let first = spoiled.refused();
    let spoiled = Spoiled::new();
    let index = json!({"schemaVersion": 2, "manifests": [], "config": {}, "layers": []});
    spoiled.image(INDEX, index.to_string().as_bytes());
    insta::assert_snapshot!("manifest_and_index", format!("# manifest\n{first}# index\n{}", spoiled.refused()));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let spoiled = Spoiled::new();
    let text = fs::read_to_string(spoiled.path(&spoiled.manifest)).unwrap();
    spoiled.image(MANIFEST, text.replacen('{', "{\"layers\":[],", 1).as_bytes());
    insta::assert_snapshot!("a_key_twice", spoiled.refused());
}

#[test]
fn an_index_inside_itself_is_refused() {
    let spoiled = Spoiled::new();
    // It names its own file, whose digest it cannot know; and one whose inside is an index again, which it can.
    let line = |digest: &str, size: usize| json!({"mediaType": INDEX, "digest": digest, "size": size});
    let itself = BlobDigest::of(b"itself");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [line(&itself.to_string(), 200)]}).to_string();
    fs::write(spoiled.path(&itself), &index).unwrap();
    spoiled.index(|top| {
        top["manifests"][0] = line(&itself.to_string(), index.len());
    });
    let first = spoiled.refused();
    let spoiled = Spoiled::new();
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    let inner_digest = BlobDigest::of(inner.as_bytes());
    fs::write(spoiled.path(&inner_digest), &inner).unwrap();
    let middle = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [line(&inner_digest.to_string(), inner.len())]});
    spoiled.image(INDEX, middle.to_string().as_bytes());
    insta::assert_snapshot!("an_index_inside_itself", format!("# itself\n{first}# an index in an index\n{}", spoiled.refused()));
}

#[test]
fn a_user_that_engines_take_for_root_is_refused() {
    let mut all = String::new();
    for user in ["4294967296", "2147483648:33", "33:4294967296"] {
        let spoiled = Spoiled::new();
        spoiled.config(|config| config["config"]["User"] = user.into());
        all = format!("{all}# {user}\n{}", spoiled.refused());
    }
    insta::assert_snapshot!("a_user", all);
}

#[test]
fn a_layer_whose_content_was_promised_otherwise_is_refused() {
    let spoiled = Spoiled::new();
    spoiled.config(|config| config["rootfs"]["diff_ids"][0] = format!("sha256:{}", "0".repeat(64)).into());
    let spoiled = spoiled.signed();
    insta::assert_snapshot!("a_diff_id", spoiled.refused());
}

#[test]
fn another_number_of_layers_than_the_configuration_says_is_refused() {
    let mut all = String::new();
    for (name, count) in [("one more", 2), ("none", 0)] {
        let spoiled = Spoiled::new();
        spoiled.config(|config| {
            let id = config["rootfs"]["diff_ids"][0].clone();
            config["rootfs"]["diff_ids"] = vec![id; count].into();
        });
        all = format!("{all}# {name}\n{}", spoiled.refused());
    }
    let spoiled = Spoiled::new();
    spoiled.config(|config| config["history"] = json!([{"created_by": "a"}, {"created_by": "b"}]));
    insta::assert_snapshot!("layers", format!("{all}# history\n{}", spoiled.refused()));
}
