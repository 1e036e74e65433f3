//! `parvis demo upgrade 1.5.0`: a new version that is named by its number comes from the registry, and is verified before anything of it is used.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use parvis::image::oci::{self, Descriptor};
use parvis::model::digest::{BlobDigest, FileDigest};
use serde_json::{Value, json};

use crate::kit::badreg::Registry;
use crate::kit::fakebundle::FakeBundle;
use crate::kit::fakedocker::FakeDocker;
use crate::kit::fakerepo::Suite;
use crate::kit::mkdeb::Deb;
use crate::kit::parish::World;
use crate::kit::project::{Said, parvis};
use crate::kit::world;
use crate::release::{Maker, of_tar};

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

/// A project that was released and runs on this machine.
struct Own {
    maker: Maker,
    docker: FakeDocker,
}

impl Own {
    fn new() -> Self {
        let own = Self { maker: Maker::on(world::archive_of(&fixed("1.0-1", &[FIRST]))), docker: FakeDocker::new() };
        let project = &own.maker.project;
        fs::remove_file(project.path().join("compose/site.yaml")).unwrap();
        let stack = "description: A site.\nvolumes: {data: {description: What people bring.}}\nservices:\n  \
            app: {image: app, mounts: [{volume: data, at: /srv/data}]}\n\
            backup:\n  - {file: data.tar, volume: data}\n";
        project.write("compose/parish.yaml", stack);
        own.docker.set("stack-volumes", "data\n");
        own.maker.commit();
        let key = project.path().with_file_name(".config/parvis/keys/release.pub");
        own.maker.run(&["trust", "add", key.to_str().unwrap(), "--name", "makers"], 0);
        own
    }

    /// 1.4.0 is released, and runs.
    fn running(registry: &Registry) -> Self {
        let own = Self::new();
        own.maker.release(registry, &["release", "1.4.0"], 0);
        own.maker.commit();
        let first = own.loads_release("1.4.0");
        own.demo(&["demo", "up", &first], 0);
        own
    }

    /// Runs parvis in the project; what docker loads is what the folder's images are.
    fn demo(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.maker.command(arguments).env("PATH", self.docker.path()).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }

    /// docker will know the images of this download or folder after it loaded them.
    fn loads(&self, bundle: &[u8]) {
        let bundle: Value = serde_json::from_slice(bundle).unwrap();
        let ids = bundle["images"].as_array().unwrap().iter().map(|image| format!("{}\n", image["config"].as_str().unwrap()));
        self.docker.set("loads", &ids.collect::<String>());
    }

    fn loads_release(&self, number: &str) -> String {
        let (tar, name) = self.maker.download(number);
        self.loads(&of_tar(&tar, &format!("{name}/bundle.json")));
        tar.display().to_string()
    }
}

const FIRST: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
const SECOND: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001.");

fn fixed(version: &str, uploads: &[(&str, &str, &str, &str)]) -> Deb {
    world::libfoo(version).changelog(uploads)
}

#[test]
fn in_a_project_a_number_is_what_was_made_there() {
    let registry = Registry::honest();
    let mut own = Own::running(&registry);
    own.maker.project.write("images/app/welcome.txt", "welcome again\n");
    own.maker.commit();
    own.maker.release(&registry, &["release", "1.4.1"], 0);
    own.maker.commit();
    // Of the download in `out/release`; the registry is not asked.
    registry.kept(|kept| kept.manifests.clear());
    own.loads_release("1.4.1");
    let said = own.demo(&["demo", "upgrade", "1.4.1"], 0);
    assert!(said.err.contains("genuine: tests 1.4.1, signed by makers ("), "{}", said.err);
    assert!(said.out.contains("version `1.4.1` runs; `1.4.0` is kept"), "{}", said.out);

    own.maker.repo.date += 60;
    own.maker.repo.add(Suite::Security, &fixed("1.0-1+deb13u1", &[SECOND, FIRST])).publish();
    own.demo(&["demo", "upgrade", "1.4.1-sec.1", "--in", "127.0.0.1:9/parish"], 3);
    own.maker.run(&["rebuild", "--no-passphrase"], 0);
    // The bundle of a rebuild is made when it is wanted first.
    let folder = own.maker.project.path().join("out/bundle/parish-1.4.1-sec.1");
    own.maker.run(&["bundle", "compose", "--with-images", "--output", folder.to_str().unwrap()], 0);
    own.loads(&fs::read(folder.join("bundle.json")).unwrap());
    fs::remove_dir_all(&folder).unwrap();
    let said = own.demo(&["demo", "upgrade", "1.4.1-sec.1"], 0);
    assert!(said.out.contains("version `1.4.1-sec.1` runs; `1.4.1` is kept"), "{}", said.out);
    assert!(said.err.contains("rebuilt by parish (") && said.err.contains("from release 1.4.1 of makers ("), "{}", said.err);
    assert!(folder.join("images.tar").is_file());
}

#[test]
fn a_rebuild_that_is_not_what_is_built_here_is_refused() {
    let registry = Registry::honest();
    let mut own = Own::running(&registry);
    own.maker.repo.date += 60;
    own.maker.repo.add(Suite::Security, &fixed("1.0-1+deb13u1", &[SECOND, FIRST])).publish();
    own.maker.run(&["rebuild", "--no-passphrase"], 0);
    own.docker.calls();
    // Built again with other files: these are not the images that the rebuild signed.
    own.maker.project.write("images/app/welcome.txt", "forged\n");
    own.maker.run(&["build"], 0);
    let said = own.demo(&["demo", "upgrade", "1.4.0-sec.1"], 2);
    assert!(said.err.contains("what is built in this project is not the rebuild 1.4.0-sec.1"), "{}", said.err);
    // Its record is another one than was signed.
    own.maker.project.write(
        "rebuilds/1.4.0-sec.1/rebuild.json",
        &own.maker.project.read("rebuilds/1.4.0-sec.1/rebuild.json").replacen("1.4.0", "1.4.1", 1),
    );
    let said = own.demo(&["demo", "upgrade", "1.4.0-sec.1"], 1);
    assert!(said.err.contains("refused, E0"), "{}", said.err);
    let calls = own.docker.calls();
    assert!(calls.iter().all(|call| !call.contains(" stop ") && call != "docker load"), "{calls:?}");
}
