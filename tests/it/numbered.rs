//! `parvis demo upgrade 1.5.0`: a new version that is named by its number comes from the registry, and is verified before anything of it is used.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use parvis::image::oci::{self, Descriptor};
use parvis::model::digest::{BlobDigest, FileDigest};
use serde_json::{Value, json};

use crate::kit::badreg::Registry;
use crate::kit::fakebundle::FakeBundle;
use crate::kit::parish::World;
use crate::kit::project::parvis;

const STEM: &str = "parish-1.5.0-amd64-compose";
const TYPE: &str = "application/vnd.parvis.release.v1+json";

/// A machine on which 1.4.0 runs, and a registry with the release 1.5.0.
struct Published {
    world: World,
    registry: Registry,
    /// The folder of 1.5.0 at those who publish.
    made: FakeBundle,
}

impl Published {
    fn new() -> Self {
        let (world, registry) = (World::running(), Registry::honest());
        let made = FakeBundle::version(&world.path(&format!("made/{STEM}")), "1.5.0");
        let published = Self { world, registry, made };
        let docker = &published.world.docker;
        docker.set("loads", &published.made.ids.iter().map(|(config, _)| config.clone() + "\n").collect::<String>());
        docker.set("rows", "one\n");
        docker.set("tools/dump", "cat \"$S/rows\"\n");
        docker.set("tools/bring-back", "cat > \"$S/rows\"\n");
        docker.set("tools/notice", "true\n");
        docker.set("inside/ask", "echo good\n");
        docker.fill("parish_keys-db", "db-admin", "secret");
        published.push_images();
        published.made.change(|bundle| drop(bundle["files"].as_object_mut().unwrap().remove("images.tar")));
        fs::remove_file(published.made.folder.join("images.tar")).unwrap();
        published.publish("1.5.0", "1.5.0", 2);
        published
    }

    fn push_images(&self) {
        let folder = self.world.path("blobs");
        fs::create_dir(&folder).unwrap();
        let tar = Command::new("tar").arg("-xf").arg(self.made.folder.join("images.tar")).arg("-C").arg(&folder).status();
        assert!(tar.unwrap().success());
        for name in ["app", "db"] {
            for blob in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
                self.registry.put_blob(&format!("parish/{name}"), &fs::read(blob.unwrap().path()).unwrap());
            }
        }
        for (name, (_, manifest)) in ["app", "db"].iter().zip(&self.made.ids) {
            let bytes = fs::read(folder.join("blobs/sha256").join(manifest.strip_prefix("sha256:").unwrap())).unwrap();
            self.registry.put_manifest(&format!("parish/{name}"), oci::MANIFEST, &bytes, None);
        }
    }

    fn prefix(&self) -> String {
        format!("{}/parish", self.registry.host())
    }

    fn run(&self, arguments: &[&str]) {
        let said = parvis(self.world.docker.home()).args(arguments).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Signs the bundle as the release of this number, and puts that under a tag.
    fn publish(&self, version: &str, tag: &str, sequence: u64) {
        let (folder, world) = (&self.made.folder, &self.world);
        if !world.path(".config/parvis/keys/release.pub").exists() {
            self.run(&["key", "new", "--no-passphrase"]);
        }
        let listed = |name: &str| {
            let bytes = fs::read(folder.join(name)).unwrap();
            json!({"name": format!("{STEM}/{name}"), "sha256": FileDigest::of(&bytes), "size": bytes.len()})
        };
        let image = |(name, (config, manifest)): (&&str, &(String, String))| {
            let on = json!({"platform": "linux/amd64", "manifest": manifest, "config": config, "size": 1});
            json!({"name": name, "digest": manifest, "platforms": [on]})
        };
        let day =
            |days: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + days * 86_400).unwrap().to_string();
        let images: Vec<Value> = ["app", "db"].iter().zip(&self.made.ids).map(image).collect();
        let files = [".env", "README.md", "bundle.json", "compose.yaml"].map(listed);
        let statement = json!({
            "format": 1, "product": "parish", "version": version, "sequence": sequence, "issued": day(-1), "validUntil": day(100),
            "commit": "0".repeat(40), "lock": FileDigest::of(b"lock"), "registry": self.prefix(),
            "images": images,
            "files": files, "sboms": [],
        });
        let file = folder.join("unsigned.json");
        fs::write(&file, statement.to_string()).unwrap();
        self.run(&["sign", file.to_str().unwrap(), "--no-passphrase"]);
        fs::remove_file(file).unwrap();
        let tar = self.pack();
        let seal = fs::read(folder.join("release.sigstore.json")).unwrap();
        self.announce(&[("release.sigstore.json", &seal), (&format!("{STEM}.tar"), &tar)], tag);
    }

    fn pack(&self) -> Vec<u8> {
        let file = self.world.path("made.tar");
        let mut tar = Command::new("tar");
        assert!(tar.arg("-C").arg(self.world.path("made")).arg("-cf").arg(&file).arg(STEM).status().unwrap().success());
        fs::read(&file).unwrap()
    }

    fn announce(&self, files: &[(&str, &[u8])], tag: &str) {
        let layer = |(name, bytes): &(&str, &[u8])| {
            self.registry.put_blob("parish/release", bytes);
            let annotations = [("org.opencontainers.image.title".to_owned(), (*name).to_owned())].into();
            Descriptor { annotations, ..Descriptor::of("application/octet-stream", bytes) }
        };
        let layers: Vec<Descriptor> = files.iter().map(layer).collect();
        let artifact = oci::write_artifact(TYPE, &layers, None, &std::collections::BTreeMap::new()).unwrap();
        self.registry.put_manifest("parish/release", artifact.media_type, &artifact.bytes, Some(tag));
    }

    fn trust(&self) {
        let key = self.world.path(".config/parvis/keys/release.pub").display().to_string();
        self.run(&["trust", "add", &key, "--name", "makers"]);
    }

    /// Refuses, and has touched and left nothing.
    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, word: &str) {
        let said = self.world.run(&[&["upgrade"], arguments].concat(), code);
        assert!(said.err.contains(word), "{word}: {}", said.err);
        let calls = self.world.docker.calls();
        assert!(calls.iter().all(|call| !call.contains(" stop ") && call != "docker load"), "{calls:?}");
        assert!(
            !self.world.path(STEM).exists() && !self.world.path(&format!("{STEM}/images.tar")).exists(),
            "something is there"
        );
    }

    fn folder(&self) -> PathBuf {
        let status: Value = serde_json::from_str(&self.world.run(&["status", "--json"], 0).out).unwrap();
        status["folder"].as_str().unwrap().into()
    }
}

#[test]
fn a_number_is_fetched_from_the_registry_and_verified_before_it_is_loaded() {
    let published = Published::new();
    let prefix = published.prefix();
    let named = format!("{prefix}:1.5.0");
    // The bundle that runs does not say where it is from.
    published.refused(&["1.5.0"], 2, "it is not known in which registry the release 1.5.0 is");
    published.refused(&["1.5.0", "--lang", "fr"], 2, "le registre où se trouve la version 1.5.0 n'est pas connu");
    published.refused(&["1.5.0", "--in", &prefix], 3, "whose the new version is cannot be decided: nobody is trusted");
    published.trust();
    published.refused(&["1.6.0", "--in", &prefix], 1, &format!("there is no release `{prefix}/release:1.6.0`"));
    published.refused(&["1.5.0", "--in", "127.0.0.1:9/parish"], 3, "127.0.0.1:9/parish/release");
    let said = published.world.run(&["upgrade", &named], 0);
    assert!(said.err.contains("genuine: parish 1.5.0, signed by makers ("), "{}", said.err);
    assert!(said.out.contains("version `1.5.0` runs; `1.4.0` is kept"), "{}", said.out);
    assert_eq!(published.folder(), published.world.path(STEM));
    assert!(published.world.path(STEM).join("images.tar").is_file());
    // It says where it is from, so that the next number is enough; this one runs already.
    assert!(published.world.run(&["upgrade", "1.5.0"], 0).out.contains("this very version `1.5.0` runs already"));
    let said = published.world.run(&["upgrade", "1.6.0"], 1);
    assert!(said.err.contains(&format!("there is no release `{prefix}/release:1.6.0`")), "{}", said.err);
    assert!(published.world.run(&["rollback"], 0).out.contains("version `1.4.0` runs again"));
    // What was fetched is there, and is verified again.
    published.registry.kept(|kept| kept.manifests.retain(|(repository, _), _| repository == "parish/release"));
    assert!(published.world.run(&["upgrade", &named], 0).out.contains("version `1.5.0` runs"));
}

#[test]
fn what_a_registry_forges_is_refused_before_it_is_used() {
    let published = Published::new();
    published.trust();
    let prefix = published.prefix();
    let ask = ["1.5.0", "--in", &prefix];
    let seal = fs::read(published.made.folder.join("release.sigstore.json")).unwrap();
    let tar = published.pack();
    let name = format!("{STEM}.tar");
    // Another number's statement; none; one that was changed.
    published.publish("1.6.0", "1.5.0", 1);
    published.refused(&ask, 1, "refused, E04: ");
    published.announce(&[(&name, &tar)], "1.5.0");
    published.refused(&ask, 1, "there is no release");
    let mut forged: Value = serde_json::from_slice(&seal).unwrap();
    let payload = forged["dsseEnvelope"]["payload"].as_str().unwrap().replacen('A', "B", 1);
    forged["dsseEnvelope"]["payload"] = payload.into();
    let forged = serde_json::to_vec(&forged).unwrap();
    published.announce(&[("release.sigstore.json", &forged), (&name, &tar)], "1.5.0");
    published.refused(&ask, 1, "refused, E03: ");
    // No bundle for this machine; another bundle than the one that was signed.
    published.announce(&[("release.sigstore.json", &seal)], "1.5.0");
    published.refused(&ask, 1, "has no bundle for this machine");
    let compose = published.made.folder.join("compose.yaml");
    fs::write(&compose, "services: []\n").unwrap();
    fs::write(published.made.folder.join("release.sigstore.json"), &seal).unwrap();
    published.announce(&[("release.sigstore.json", &seal), (&name, &published.pack())], "1.5.0");
    published.refused(&ask, 1, "refused, E03: ");
    fs::write(&compose, "services: {}\n").unwrap();
    published.announce(&[("release.sigstore.json", &seal), (&name, &tar)], "1.5.0");
    // A layer that is another one.
    let layers = published.registry.kept(|kept| {
        let before = kept.blobs.clone();
        for ((repository, digest), bytes) in &mut kept.blobs {
            if repository == "parish/app" && *digest != BlobDigest::of(b"").to_string() {
                bytes.reverse();
            }
        }
        before
    });
    let said = published.world.run(&["upgrade", "1.5.0", "--in", &prefix], 3);
    assert!(said.err.contains("sha256:"), "{}", said.err);
    assert!(!published.world.path(STEM).join("images.tar").exists());
    assert!(published.world.docker.calls().iter().all(|call| !call.contains(" stop ") && call != "docker load"));
    published.registry.kept(|kept| kept.blobs = layers);
    assert!(published.world.run(&["upgrade", "1.5.0", "--in", &prefix], 0).out.contains("version `1.5.0` runs"));
}
