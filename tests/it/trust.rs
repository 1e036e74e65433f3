//! Keys, signatures and verdicts: who is believed, what is refused, and with which code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use parvis::model::digest::{BlobDigest, FileDigest};
use parvis::model::moment::Moment;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::badreg::Registry;
use crate::kit::project::{Said, parvis};
use crate::kit::schema::assert_fits;

/// Somebody with a home of their own.
pub struct Person {
    home: TempDir,
}

impl Person {
    pub fn new() -> Self {
        Self { home: tempfile::Builder::new().prefix("person-").tempdir().unwrap() }
    }

    /// Returns a path below the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns a file of the person's keys.
    pub fn key(&self, name: &str) -> String {
        self.path(".config/parvis/keys").join(name).to_str().unwrap().to_owned()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = parvis(self.home.path());
        command.current_dir(self.home.path()).env("PARVIS_PASSPHRASE", "correct horse");
        command.env("PARVIS_ROOT_PASSPHRASE", "battery staple").args(arguments);
        command
    }

    /// Runs parvis and expects an exit code.
    pub fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.command(arguments).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        for secret in ["correct horse", "battery staple"] {
            assert!(!said.out.contains(secret) && !said.err.contains(secret), "{said:?}");
        }
        said
    }

    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let said = self.run(&[arguments, &["--json"]].concat(), code);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }
}

#[test]
fn a_root_key_vouches_for_a_release_key_and_a_parish_trusts_the_root_alone() {
    let (maker, parish) = (Person::new(), Person::new());
    let root = maker.json(&["key", "new", "--root"], 0);
    let release = maker.json(&["key", "new"], 0);
    assert_ne!(root["fingerprint"], release["fingerprint"]);
    let shown = maker.run(&["key", "show"], 0).out;
    assert!(shown.contains("root") && shown.contains("signs until ") && shown.contains("to be renewed before"), "{shown}");
    let mode = fs::metadata(maker.key("release.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let keyring = maker.key("keyring.sigstore.json");
    let root = root["fingerprint"].as_str().unwrap();
    // As it was copied from paper.
    let paper = root.to_lowercase().replace('-', " ");
    parish.run(&["trust", "add", &keyring, "--fingerprint", &paper, "--name", "civiparoisse"], 0);
    let listed = parish.json(&["trust", "list"], 0);
    assert_eq!(listed["trusted"][0]["fingerprint"], root);
    assert_eq!(listed["trusted"][0]["keys"][0]["fingerprint"], release["fingerprint"]);
    let other = release["fingerprint"].as_str().unwrap();
    let refused = parish.run(&["trust", "add", &keyring, "--fingerprint", other], 1).err;
    assert!(refused.contains("is another key"), "{refused}");
    parish.run(&["trust", "remove", "civiparoisse"], 0);
    assert!(parish.run(&["trust", "list"], 0).out.contains("nobody is trusted"));
}

#[test]
fn a_replaced_key_is_in_the_next_keyring_and_an_older_keyring_is_refused() {
    let (maker, parish) = (Person::new(), Person::new());
    maker.run(&["key", "new", "--root"], 0);
    let first = maker.json(&["key", "new"], 0);
    let keyring = maker.key("keyring.sigstore.json");
    let older = parish.path("older.json");
    fs::copy(&keyring, &older).unwrap();
    let second = maker.json(&["key", "rotate", "--revoke", "the laptop was stolen"], 0);
    assert_ne!(first["fingerprint"], second["fingerprint"]);
    assert!(maker.run(&["key", "show"], 0).out.contains("revoked on "));
    parish.run(&["trust", "add", &keyring, "--name", "makers"], 0);
    let listed = parish.json(&["trust", "list"], 0);
    assert_eq!(listed["trusted"][0]["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["trusted"][0]["keys"][0]["fingerprint"], second["fingerprint"]);
    let refused = parish.run(&["trust", "add", older.to_str().unwrap()], 1).err;
    assert!(refused.contains("an older list of keys"), "{refused}");
    maker.run(&["key", "rotate", "--renew"], 0);
    parish.run(&["trust", "add", &keyring], 0);
    assert_eq!(parish.json(&["trust", "list"], 0)["trusted"][0]["keyring_version"], 4);
}

#[test]
fn a_root_key_on_another_machine_vouches_for_a_key_that_it_never_sees() {
    let (office, safe) = (Person::new(), Person::new());
    safe.run(&["key", "new", "--root"], 0);
    let made = office.json(&["key", "new"], 0);
    assert!(office.run(&["key", "rotate"], 2).err.contains("the root key is not here"));
    let vouched = safe.json(&["key", "rotate", "release", "--public", &office.key("release.pub")], 0);
    assert_eq!((&vouched["fingerprint"], &vouched["private"]), (&made["fingerprint"], &Value::Null));
}

#[test]
fn no_key_is_made_without_a_passphrase_unless_that_is_asked_for() {
    let maker = Person::new();
    let without = |arguments: &[&str], code: i32| {
        let output = maker.command(arguments).env_remove("PARVIS_PASSPHRASE").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        Said::from(&output).err
    };
    assert!(without(&["key", "new"], 2).contains("nobody is there to type it"));
    let file = maker.path("empty");
    fs::write(&file, "\n").unwrap();
    assert!(without(&["key", "new", "--passphrase-file", file.to_str().unwrap()], 2).contains("is empty"));
    without(&["key", "new", "open", "--no-passphrase"], 0);
    assert!(!PathBuf::from(maker.key("release.key")).exists());
    // Nor does one appear in the list of arguments of any command.
    assert!(maker.run(&["key", "new", "--passphrase", "x"], 2).err.contains("unexpected argument"));
}

#[test]
fn a_key_is_never_overwritten() {
    let maker = Person::new();
    maker.run(&["key", "new"], 0);
    let before = fs::read(maker.key("release.key")).unwrap();
    assert!(maker.run(&["key", "new"], 2).err.contains("there is a key `release` already"));
    assert_eq!(fs::read(maker.key("release.key")).unwrap(), before);
}

/// Makes a layout with one image under a name, with this content in its only layer; returns the image's digest.
pub fn layout(folder: &Path, name: &str, content: &str) -> BlobDigest {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = BlobDigest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "hello", content.as_bytes()).unwrap();
    let mut layer = put(&tar.into_inner().unwrap());
    layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let rootfs = json!({"type": "layers", "diff_ids": [layer["digest"]]});
    let mut config = put(json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).to_string().as_bytes());
    config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut line = put(manifest.to_string().as_bytes());
    line["mediaType"] = MANIFEST.into();
    line["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let digest = line["digest"].as_str().unwrap().parse().unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [line]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    digest
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const REPOSITORY: &str = "registry.example/parish/hello";

/// Puts all files of a folder into a tar.
pub fn tar_of(folder: &Path, target: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(target).unwrap());
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { names.push(path) }
        }
    }
    names.sort();
    for path in names {
        let mut header = tar::Header::new_ustar();
        let bytes = fs::read(&path).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path.strip_prefix(folder).unwrap(), &bytes[..]).unwrap();
    }
    tar.finish().unwrap();
}

/// Somebody who makes things, and somebody who trusts them.
pub struct World {
    pub maker: Person,
    pub parish: Person,
}

impl World {
    pub fn new() -> Self {
        let world = Self { maker: Person::new(), parish: Person::new() };
        world.maker.run(&["key", "new", "--root"], 0);
        world.maker.run(&["key", "new"], 0);
        world.parish.run(&["trust", "add", &world.maker.key("keyring.sigstore.json"), "--name", "makers"], 0);
        world
    }

    /// Asks the parish for a verdict, and expects good (nothing), or a code.
    pub fn verdict(&self, arguments: &[&str], code: Option<&str>) -> Value {
        let exit = match code {
            None => 0,
            Some("E08" | "E10" | "E11") => 3,
            Some(_) => 1,
        };
        let found = self.parish.json(&[&["verify"], arguments].concat(), exit);
        assert_eq!(found["code"].as_str(), code, "{found:#}");
        assert_fits("verify", &found);
        assert_eq!(
            found["verdict"],
            if exit == 0 {
                "good"
            } else if exit == 1 {
                "refused"
            } else {
                "undecided"
            }
        );
        found
    }
}

/// Returns the name of a file in a layout's folder of blobs whose bytes contain a text.
pub fn blob_with(folder: &Path, text: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let has = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text);
    entries.map(|entry| entry.unwrap().path()).find(has).unwrap()
}

#[test]
fn a_layout_and_an_archive_are_good_when_signed_and_refused_when_one_byte_is_changed() {
    let world = World::new();
    let folder = world.maker.path("out");
    layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    let archive = world.maker.path("images.tar");
    tar_of(&folder, &archive);
    let (folder, archive) = (folder.to_str().unwrap(), archive.to_str().unwrap());
    for target in [folder, archive] {
        world.verdict(&[target], Some("E01"));
        assert!(world.maker.run(&["sign", target], 0).out.contains("signed"));
        let bytes = || fs::read(Path::new(target).join("index.json")).or_else(|_| fs::read(target)).unwrap();
        let signed = bytes();
        assert!(world.maker.run(&["sign", target], 0).out.contains("was signed already"));
        assert_eq!(bytes(), signed, "{target}: signing twice changes nothing");
        let good = world.verdict(&[target], None);
        let checks: Vec<_> = good["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
        assert_eq!(checks, ["signature", "name", "blobs"]);
        assert_eq!(good["signers"][0]["root"], "makers");
        world.verdict(&[target, "--repository", "registry.example/parish/other"], Some("E04"));
        // Nobody is trusted by those who trust nobody.
        let refused = Person::new().json(&["verify", target], 1);
        assert_eq!(refused["code"], "E02");
    }
    // A layer, a configuration, a signature: each changed byte is found.
    let text = |name: &str| fs::read_to_string(Path::new(folder).join(name)).unwrap();
    assert!(text("index.json").contains(".sig\""));
    for (content, code) in [("hello\0", "E03"), ("diff_ids", "E03"), ("dsseEnvelope", "E03"), ("artifactType", "E03")] {
        let path = blob_with(Path::new(folder), content);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        let at = wrong.len() / 2;
        wrong[at] ^= 1;
        fs::write(&path, wrong).unwrap();
        world.verdict(&[folder], Some(code));
        fs::write(&path, [&right[..], b"\n"].concat()).unwrap();
        world.verdict(&[folder], Some(code));
        fs::remove_file(&path).unwrap();
        // One of the two forms suffices.
        world.verdict(&[folder], (content != "dsseEnvelope").then_some("E09"));
        fs::write(&path, right).unwrap();
    }
    world.verdict(&[folder], None);
    let mut bytes = fs::read(archive).unwrap();
    let at = bytes.windows(6).position(|window| window == b"hello\0").unwrap() + 512;
    bytes[at] ^= 1;
    fs::write(archive, bytes).unwrap();
    world.verdict(&[archive], Some("E03"));
}

#[test]
fn a_signature_is_added_beside_that_of_another_and_either_suffices() {
    let world = World::new();
    let second = Person::new();
    second.run(&["key", "new"], 0);
    let folder = world.maker.path("out");
    layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    let folder = folder.to_str().unwrap();
    second.run(&["sign", folder], 0);
    world.verdict(&[folder], Some("E02"));
    world.maker.run(&["sign", folder], 0);
    world.verdict(&[folder], None);
    second.run(&["verify", folder, "--key", &second.key("release.pub")], 0);
    let unusable = second.run(&["verify", folder, "--key", &second.key("release.key")], 3).err;
    assert!(unusable.contains("could not decide, E10: "), "{unusable}");
}

#[test]
fn a_verdict_is_said_in_french_with_what_to_do() {
    let world = World::new();
    let folder = world.maker.path("out");
    layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    let folder = folder.to_str().unwrap();
    let refused = world.parish.run(&["verify", folder, "--lang", "fr"], 1).err;
    assert!(refused.starts_with("erreur : refusé, E01 : aucune signature n'a été trouvée"), "{refused}");
    assert!(refused.contains("conseil : ne l'utilisez pas"), "{refused}");
    world.maker.run(&["sign", folder], 0);
    let good = world.parish.run(&["verify", folder, "--lang", "fr"], 0);
    assert!(good.out.starts_with("bon : ") && good.out.contains("dont makers se porte garant"), "{good:?}");
    assert!(good.err.contains("son âge n'est pas connu"), "{good:?}");
}

/// A release of one image, with downloads in a folder.
pub struct Release {
    pub folder: PathBuf,
    pub value: Value,
}

impl Release {
    /// Makes downloads: one with a bundle's files, and an SBOM.
    pub fn new(maker: &Person, sequence: u64, image: BlobDigest) -> Self {
        let folder = maker.path(&format!("release-{sequence}"));
        let inside = folder.join("hello");
        fs::create_dir_all(&inside).unwrap();
        let number = format!("1.{sequence}.0");
        let bundle = Bundle::of(&number, image);
        let files =
            [("compose.yaml", "services: {}\n".to_owned()), ("bundle.json", bundle), ("hello.spdx.json", "{}".to_owned())];
        let mut listed = Vec::new();
        let mut sboms = Vec::new();
        for (name, content) in &files {
            let name = if name.ends_with("spdx.json") { (*name).to_owned() } else { format!("hello/{name}") };
            fs::write(folder.join(&name), content).unwrap();
            let digest = FileDigest::of(content.as_bytes());
            if name.ends_with("spdx.json") {
                sboms.push(json!({"image": "hello", "format": "spdx", "name": name, "sha256": digest, "size": content.len()}));
            } else {
                listed.push(json!({"name": name, "sha256": digest, "size": content.len()}));
            }
        }
        let on = json!({"platform": "linux/amd64", "manifest": image, "config": image, "size": 1});
        let value = json!({
            "format": 1, "product": "civiparoisse", "version": number, "sequence": sequence,
            "issued": date(-1), "validUntil": date(100), "commit": "0".repeat(40), "lock": FileDigest::of(b"lock"),
            "registry": "registry.example/parish",
            "images": [{"name": "hello", "digest": image, "platforms": [on]}], "files": listed, "sboms": sboms,
        });
        Self { folder, value }
    }

    /// Signs the statement, and puts it with the list of keys where a download has it.
    pub fn sign(&self, maker: &Person) {
        let unsigned = self.folder.join("unsigned.json");
        fs::write(&unsigned, self.value.to_string()).unwrap();
        maker.run(&["sign", unsigned.to_str().unwrap()], 0);
        fs::remove_file(unsigned).unwrap();
        fs::copy(maker.key("keyring.sigstore.json"), self.folder.join("keyring.sigstore.json")).unwrap();
        for name in ["release.sigstore.json", "keyring.sigstore.json"] {
            fs::copy(self.folder.join(name), self.folder.join("hello").join(name)).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Makes a download of the bundle's folder.
    fn tar(&self) -> String {
        let (draft, target) = (self.folder.with_extension("draft"), self.folder.join("hello.tar"));
        fs::create_dir_all(&draft).unwrap();
        let status = Command::new("cp").arg("-r").arg(self.folder.join("hello")).arg(&draft).status().unwrap();
        assert!(status.success());
        tar_of(&draft, &target);
        fs::remove_dir_all(draft).unwrap();
        target.to_str().unwrap().to_owned()
    }
}

struct Bundle;

impl Bundle {
    /// Returns a `bundle.json` with one image.
    fn of(version: &str, image: BlobDigest) -> String {
        let image = json!({"name": "hello", "variable": "PARVIS_IMAGE_HELLO", "reference": "registry.example/parish/hello:1", "manifest": image, "config": image, "size": 1});
        json!({
            "format": 1, "name": "hello", "version": version, "platform": "linux/amd64", "description": "", "images": [image],
            "services": [], "volumes": [], "parameters": [], "publish": [], "login": null, "backup": [],
            "files": {"compose.yaml": FileDigest::of(b"services: {}\n")},
        })
        .to_string()
    }
}

/// Returns the date so many days from now.
pub fn date(days: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Moment(i64::try_from(now).unwrap() + days * 86_400).to_string()
}

#[test]
fn a_release_is_good_as_a_download_a_folder_a_bundle_and_a_statement() {
    let world = World::new();
    let release = Release::new(&world.maker, 1, BlobDigest::of(b"image"));
    release.sign(&world.maker);
    let tar = release.tar();
    for (target, files) in [
        (tar.clone(), "2 files"),
        (release.path("hello"), "2 files"),
        (release.path(""), "3 files"),
        (release.path("release.sigstore.json"), "3 files"),
        (release.path("hello.spdx.json"), "1 files"),
    ] {
        let good = world.verdict(&[&target], None);
        let checks: Vec<_> = good["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
        assert!(checks.starts_with(&["signature", "validity"]) && checks.contains(&"files"), "{target}: {checks:?}");
        assert!(good["checks"].to_string().contains(files), "{target}: {good:#}");
        assert_eq!((&good["release"]["product"], &good["release"]["sequence"]), (&json!("civiparoisse"), &json!(1)));
        world.verdict(&[&target, "--product", "annuaire"], Some("E04"));
    }
    let said = world.parish.run(&["verify", &tar], 0).out;
    assert!(said.starts_with(&format!("good: {tar} is civiparoisse 1.1.0 of ")), "{said}");
    assert!(said.contains("not older than what was seen on this machine (number 1)"), "{said}");
}

#[test]
fn every_change_of_a_download_is_refused() {
    let world = World::new();
    let release = Release::new(&world.maker, 1, BlobDigest::of(b"image"));
    release.sign(&world.maker);
    let inside = |name: &str| release.folder.join("hello").join(name);
    let refused = |code: &str| {
        world.verdict(&[&release.path("hello")], Some(code));
        world.verdict(&[&release.tar()], Some(code));
    };
    let compose = fs::read(inside("compose.yaml")).unwrap();
    fs::write(inside("compose.yaml"), "services: []\n").unwrap();
    refused("E03");
    fs::write(inside("compose.yaml"), "").unwrap();
    refused("E03");
    fs::remove_file(inside("compose.yaml")).unwrap();
    refused("E09");
    fs::write(inside("compose.yaml"), compose).unwrap();
    // Compose would read it by itself.
    fs::write(inside("compose.override.yaml"), "services: {}\n").unwrap();
    refused("E03");
    fs::remove_file(inside("compose.override.yaml")).unwrap();
    world.verdict(&[&release.path("hello")], None);
    // The settings are the user's.
    fs::write(inside(".env"), "PORT=1\n").unwrap();
    world.verdict(&[&release.path("hello")], None);
    // They are not where compose would start something else with them.
    for bad in ["COMPOSE_FILE=/tmp/other.yaml\n", "DOCKER_HOST=tcp://other.example\n", "<html>\n"] {
        fs::write(inside(".env"), format!("PORT=1\n{bad}")).unwrap();
        world.verdict(&[&release.path("hello")], Some("E03"));
    }
    fs::remove_file(inside(".env")).unwrap();

    release.tar();
    fs::remove_file(release.folder.join("hello.spdx.json")).unwrap();
    world.verdict(&[&release.path("")], Some("E09"));
    let statement = fs::read_to_string(inside("release.sigstore.json")).unwrap();
    fs::write(inside("release.sigstore.json"), statement.replacen("eyJ", "eyK", 1)).unwrap();
    refused("E03");
    fs::write(inside("release.sigstore.json"), statement.replace("\"payload\":", "\"payload\":\"\",\"payload\":")).unwrap();
    refused("E03");
    fs::remove_file(inside("release.sigstore.json")).unwrap();
    world.verdict(&[&release.path("hello")], Some("E01"));
}

#[test]
fn signed_images_do_not_vouch_for_a_bundle_that_stands_beside_them() {
    let world = World::new();
    let folder = world.maker.path("out");
    let image = layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    world.maker.run(&["sign", folder.to_str().unwrap()], 0);
    let archive = world.maker.path("images.tar");
    let verdicts = |code: Option<&str>| {
        tar_of(&folder, &archive);
        world.verdict(&[archive.to_str().unwrap()], code);
        world.verdict(&[folder.to_str().unwrap()], code);
    };
    // As a folder would carry its referrers: an archive has them in a list of its own, but may have them here as well.
    verdicts(None);
    fs::write(folder.join("bundle.json"), Bundle::of("1.0.0", image)).unwrap();
    tar_of(&folder, &archive);
    world.verdict(&[archive.to_str().unwrap()], Some("E03"));
    world.verdict(&[folder.to_str().unwrap()], Some("E01"));
}

#[test]
fn parts_of_two_releases_do_not_make_one() {
    let world = World::new();
    let releases = [1, 2].map(|sequence| {
        let release = Release::new(&world.maker, sequence, BlobDigest::of(&[u8::try_from(sequence).unwrap()]));
        release.sign(&world.maker);
        release
    });
    // Each file is genuine, and the mixture is not.
    fs::copy(releases[0].path("hello/bundle.json"), releases[1].path("hello/bundle.json")).unwrap();
    world.verdict(&[&releases[1].path("hello")], Some("E03"));
    world.verdict(&[&releases[1].tar()], Some("E03"));
}

#[test]
fn an_older_release_is_refused_once_a_newer_one_was_seen() {
    let world = World::new();
    let releases = [1, 2].map(|sequence| {
        let release = Release::new(&world.maker, sequence, BlobDigest::of(b"image"));
        release.sign(&world.maker);
        release.tar()
    });
    world.verdict(&[&releases[0]], None);
    world.verdict(&[&releases[1]], None);
    let refused = world.verdict(&[&releases[0]], Some("E05"));
    assert!(refused["sentence"].as_str().unwrap().contains("civiparoisse 1.1.0 (number 1) is older than 1.2.0 (number 2)"));
    world.verdict(&[&releases[0], "--allow-older"], None);
    // To take an older one on purpose is not to forget the newer one.
    world.verdict(&[&releases[0]], Some("E05"));
    // Somebody else has not seen it.
    let other = Person::new();
    other.run(&["verify", &releases[0], "--key", &world.maker.key("keyring.sigstore.json")], 0);
    let memory = world.parish.path(".local/state/parvis/releases-seen.json");
    fs::write(&memory, "{").unwrap();
    assert!(world.parish.run(&["verify", &releases[0]], 3).err.contains("is damaged"));
}

#[test]
fn a_release_counts_between_its_two_dates() {
    let world = World::new();
    let key = world.maker.key("release.pub");
    for (sequence, issued, until, code) in [(1, -300, -100, Some("E06")), (2, 10, 100, Some("E08")), (3, -300, 100, None)] {
        let mut release = Release::new(&world.maker, sequence, BlobDigest::of(b"image"));
        release.value["issued"] = date(issued).into();
        release.value["validUntil"] = date(until).into();
        release.sign(&world.maker);
        let tar = release.tar();
        let found = world.verdict(&[&tar, "--key", &key], code);
        if code == Some("E06") {
            assert!(found["sentence"].as_str().unwrap().contains("100 days ago"), "{found:#}");
        }
        world.verdict(&[&tar], code);
    }
}

#[test]
fn a_revoked_key_is_refused_by_those_who_got_the_new_list_and_stays_so() {
    let world = World::new();
    let stolen = Release::new(&world.maker, 1, BlobDigest::of(b"image"));
    stolen.sign(&world.maker);
    let old = stolen.tar();
    world.verdict(&[&old], None);
    world.maker.run(&["key", "rotate", "--revoke", "the laptop was stolen"], 0);
    let next = Release::new(&world.maker, 2, BlobDigest::of(b"image"));
    next.sign(&world.maker);
    // The new list came along with the new release, and the root confirms the new key.
    let good = world.verdict(&[&next.tar()], None);
    assert!(good["checks"].as_array().unwrap().iter().any(|check| check["check"] == "replaced-key"), "{good:#}");
    // The older list that travels with the old release does not bring the key back.
    let refused = world.verdict(&[&old, "--allow-older"], Some("E07"));
    assert!(refused["sentence"].as_str().unwrap().contains("the laptop was stolen"), "{refused:#}");
    // A stranger's list of keys confirms nothing.
    let stranger = World::new();
    let forged = Release::new(&stranger.maker, 3, BlobDigest::of(b"image"));
    forged.sign(&stranger.maker);
    world.verdict(&[&forged.tar()], Some("E07"));
}

/// Puts an image with all that is said of it into a registry.
pub fn push(registry: &Registry, repository: &str, folder: &Path, image: &BlobDigest, tag: &str) {
    for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
        registry.put_blob(repository, &fs::read(entry.unwrap().path()).unwrap());
    }
    let bytes = fs::read(folder.join("blobs/sha256").join(image.hex())).unwrap();
    registry.put_manifest(repository, MANIFEST, &bytes, Some(tag));
}

#[test]
fn an_image_in_a_registry_is_judged_by_its_signatures_and_its_bytes() {
    let world = World::new();
    let registry = Registry::honest();
    let folder = world.maker.path("out");
    let image = layout(&folder, "hello", "hello");
    push(&registry, "parish/hello", &folder, &image, "1");
    let name = format!("{}/parish/hello:1", registry.host());
    world.verdict(&[&name], Some("E01"));
    world.maker.run(&["sign", &name], 0);
    world.verdict(&[&name], None);
    assert!(world.maker.run(&["sign", &name], 0).out.contains("was signed already"));
    // The same image and signature under another name.
    let other = layout(&world.maker.path("copy"), "hello", "hello");
    push(&registry, "parish/copy", &world.maker.path("copy"), &other, "1");
    let copied = format!("{}/parish/copy:1", registry.host());
    world.verdict(&[&copied], Some("E01"));
    world.maker.run(&["sign", &copied], 0);
    world.verdict(&[&copied, "--repository", REPOSITORY], Some("E04"));
    // Nobody answers: that is no bad signature.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    world.verdict(&[&format!("{address}/parish/hello:1")], Some("E11"));
}

#[test]
fn ten_thousand_referrers_unknown_kinds_and_other_images_end_in_a_refusal() {
    let world = World::new();
    let folder = world.maker.path("out");
    let image = layout(&folder, "hello", "hello");
    let target = folder.to_str().unwrap().to_owned();
    let index = fs::read_to_string(folder.join("index.json")).unwrap();
    let add = |documents: &[Value], times: usize| {
        let mut value: Value = serde_json::from_str(&index).unwrap();
        for document in documents {
            let bytes = document.to_string().into_bytes();
            let digest = BlobDigest::of(&bytes);
            fs::write(folder.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
            let line = json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len(), "artifactType": "application/x"});
            value["manifests"].as_array_mut().unwrap().extend(std::iter::repeat_n(line, times));
        }
        fs::write(folder.join("index.json"), value.to_string()).unwrap();
    };
    let subject = |digest: &BlobDigest| json!({"mediaType": MANIFEST, "digest": digest, "size": 2});
    let artifact = |subject: Value| {
        let empty = BlobDigest::of(b"{}");
        fs::write(folder.join("blobs/sha256").join(empty.hex()), "{}").unwrap();
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2});
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/strange", "config": empty, "layers": [empty], "subject": subject})
    };
    let strange = artifact(subject(&image));
    add(std::slice::from_ref(&strange), 1);
    let found = world.verdict(&[&target], Some("E01"));
    assert!(found["sentence"].as_str().unwrap().contains("application/strange"), "{found:#}");
    add(std::slice::from_ref(&strange), 10_000);
    world.verdict(&[&target], Some("E03"));
    // One refers to the image, the next to that one, and so on.
    let mut chain = vec![strange];
    for _ in 0..50 {
        let last = BlobDigest::of(chain.last().unwrap().to_string().as_bytes());
        chain.push(artifact(subject(&last)));
    }
    add(&chain, 1);
    world.verdict(&[&target], Some("E01"));
}
