//! `parvis diff`: two builds of one project, as images, layouts and archives; and layouts that nobody should trust.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use parvis::model::digest::BlobDigest;
use serde_json::{Value, json};

use crate::kit::fakerepo::{Repo, Suite, edit, flip};
use crate::kit::project::Project;
use crate::kit::rawtar::{self, Entry};
use crate::kit::victim::Victim;
use crate::kit::world;

/// A project that was built twice: a package and a file of a recipe changed in between.
struct Twice {
    _repo: Repo,
    project: Project,
    /// The layout of the first build.
    first: PathBuf,
}

impl Twice {
    fn new() -> Self {
        let mut repo = world::archive();
        let project = Project::on(&repo);
        project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
        project.recipe(
            "web",
            "description: The program.\nfrom: base\nfiles:\n  - {from: site.conf, to: /etc/site.conf, owner: \"root:root\", mode: \"0640\"}\nconfig:\n  env: {COLOUR: blue}\n",
        );
        project.write("images/web/site.conf", "listen 80\n");
        project.run(&["lock"], 0);
        let first = project.path().with_file_name("first");
        project.run(&["build", "--output", first.to_str().unwrap()], 0);
        project.run(&["save", "base", "web", "--output", &Self::file(&project, "first.tar")], 0);
        repo.date += 60;
        repo.add(Suite::Security, &world::libfoo("1.0-1+deb13u2")).publish();
        project.run(&["lock", "--security"], 0);
        project.write("images/web/site.conf", "listen 443\n");
        edit(&project.path().join("recipes/web.yaml"), |text| text.replace("0640", "0600").replace("blue", "red"));
        project.run(&["build"], 0);
        Self { _repo: repo, project, first }
    }

    fn file(project: &Project, name: &str) -> String {
        project.path().with_file_name(name).to_str().unwrap().to_owned()
    }

    /// Returns what names an image of the first build.
    fn first(&self, image: &str) -> String {
        format!("{}:{image}", self.first.display())
    }
}

#[test]
fn a_package_and_a_file_that_changed_are_named_with_who_is_behind_them() {
    let twice = Twice::new();
    let (project, first) = (&twice.project, twice.first("web"));
    let said = project.run(&["diff", &first, "web"], 1);
    for line in [
        "  newer   libfoo  1.0-1+deb13u1 -> 1.0-1+deb13u2\n",
        "  package libfoo: ",
        "  recipe web, line 4:\n    changed /etc/site.conf  content 10 B ",
        ", mode 0640 -> 0600\n",
        "  changed Env COLOUR  blue -> red\n",
        " to download again\n",
    ] {
        assert!(said.out.contains(line), "`{line}` is missing:\n{}", said.out);
    }
    assert!(!said.out.contains("usr/lib/libfoo.so.1") && !said.out.contains("usr/bin/dash"), "{}", said.out);
    assert!(said.err.contains("differ") && said.err.contains("--files"), "{}", said.err);
    let all = project.run(&["diff", "--files", &first, "web"], 1);
    assert!(all.out.contains("    changed /usr/lib/libfoo.so.1  content "), "{}", all.out);

    let answer: Value = serde_json::from_str(&project.run(&["diff", "--json", &first, "web"], 1).out).unwrap();
    assert_eq!(answer["same"], false);
    assert_eq!(
        answer["packages"],
        json!([{"name": "libfoo", "kind": "newer", "before": "1.0-1+deb13u1", "after": "1.0-1+deb13u2"}])
    );
    let files = answer["files"].as_array().unwrap();
    let file = |path: &str| files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("`{path}` is missing"));
    assert_eq!(file("/etc/site.conf")["owner"], "recipe web, line 4");
    assert_eq!(file("/usr/lib/libfoo.so.1")["owner"], "package libfoo");
    let layers = answer["layers"].as_array().unwrap();
    let (shared, changed): (Vec<&Value>, Vec<&Value>) = layers.iter().partition(|layer| layer["shared"] == true);
    assert!(!shared.is_empty() && !changed.is_empty(), "{layers:?}");
    assert_eq!(answer["download"], changed.iter().map(|layer| layer["size"].as_u64().unwrap()).sum::<u64>());
}

#[test]
fn an_image_is_the_same_whatever_it_is_handed_over_in() {
    let twice = Twice::new();
    let project = &twice.project;
    let saved = Twice::file(project, "first.tar");
    let packed = Twice::file(project, "packed.tar");
    assert!(Command::new("tar").arg("-C").arg(&twice.first).args(["-cf", &packed, "."]).status().unwrap().success());
    let old_docker = Twice::file(project, "docker.tar");
    fs::write(&old_docker, as_docker_saved_once(&twice.first, "web")).unwrap();
    let first = twice.first("web");
    for other in [&format!("{saved}:web"), &format!("{saved}:tests/web:dev"), &format!("{packed}:web"), &old_docker] {
        let said = project.run(&["diff", &first, other], 0);
        assert_eq!(said.out, "no difference\n", "{other}");
    }
    let second = format!("{}:web", project.path().join("out").display());
    assert_eq!(project.run(&["diff", "web", &second], 0).out, "no difference\n");
    assert_eq!(project.run(&["diff", &second, "web"], 0).out, "no difference\n");
    let answer: Value = serde_json::from_str(&project.run(&["diff", "--json", "web", "web"], 0).out).unwrap();
    assert_eq!((&answer["same"], &answer["download"]), (&json!(true), &json!(0)));
    // Who put a file there is known also where only the older image was built here.
    let back = project.run(&["diff", "web", &old_docker], 1);
    assert!(back.out.contains("  recipe web, line 4:\n    changed /etc/site.conf"), "{}", back.out);
    assert!(back.out.contains("  older   libfoo"), "{}", back.out);
}

#[test]
fn an_image_that_is_not_known_or_not_built_is_told_apart_from_one_that_differs() {
    let twice = Twice::new();
    let project = &twice.project;
    let folder = twice.first.display().to_string();
    let lonely = twice.first("base");
    let refuse = |arguments: &[&str], words: &[&str]| {
        let said = project.run(&[&["diff"], arguments].concat(), 2);
        for word in words.iter().chain(&["hint: "]) {
            assert!(said.err.contains(word), "`{word}` is missing:\n{}", said.err);
        }
        assert_eq!(said.out, "");
    };
    refuse(&["wbe", "web"], &["`wbe` is no image of the project", "base, web"]);
    refuse(&["web", "/absent.tar"], &["`/absent.tar` is no image"]);
    refuse(&[&folder, "web"], &["holds 2 images that could be meant", "`base` (amd64), `web` (amd64)"]);
    refuse(&[&format!("{folder}:absent"), "web"], &["holds no image `absent`", "`base` (amd64), `web` (amd64)"]);
    refuse(&[&lonely, "web", "--platform", "arm64"], &["holds no image `base` for `arm64`", "`base` (amd64)"]);
    refuse(&[project.path().to_str().unwrap(), "web"], &["holds no images", "parvis save"]);
    refuse(&["/dev/null", "web"], &["`/dev/null` is neither a folder nor a file"]);
    project.write("images/web/site.conf", "listen 8080\n");
    refuse(&[&lonely, "web"], &["`web` is not built, or not as the recipes are now", "parvis build web"]);
    project.run(&["diff", &lonely, &lonely], 0);
}

#[test]
fn a_layout_that_is_damaged_or_leads_elsewhere_is_refused_by_its_name() {
    let victim = Victim::new();
    let place = tempfile::tempdir().unwrap();
    let good = layout(&place.path().join("good"), &rawtar::archive([Entry::file("a", "good").bytes()]));
    let project = Project::new("file:///absent");
    project.run(&["diff", good.to_str().unwrap(), good.to_str().unwrap()], 0);
    let refused = |bad: &Path, about: &str| {
        let said = project.run(&["diff", good.to_str().unwrap(), bad.to_str().unwrap()], 2);
        assert!(said.err.contains(bad.to_str().unwrap()), "{about}: the file is not named:\n{}", said.err);
        assert!(said.err.contains("because: ") && said.err.contains("hint: "), "{about}:\n{}", said.err);
        assert!(!said.err.chars().any(|character| character.is_control() && character != '\n'), "{about}: {:?}", said.err);
    };
    for (about, bytes) in rawtar::hostile(victim.path()) {
        refused(&layout(&place.path().join("bad"), &bytes), about);
    }
    for (about, spoil) in spoilers() {
        let bad = layout(&place.path().join("bad"), &rawtar::archive([Entry::file("a", "bad").bytes()]));
        spoil(&bad, victim.path());
        refused(&bad, about);
    }
    let cut = place.path().join("cut.tar");
    fs::write(&cut, &rawtar::archive([Entry::file("index.json", [b' '; 5000]).bytes()])[..2000]).unwrap();
    refused(&cut, "an archive that is cut off");
    victim.assert_unchanged();
}

/// Writes a layout of one image with one layer, in place of what stood there, and returns its folder.
fn layout(folder: &Path, layer: &[u8]) -> PathBuf {
    let _ = fs::remove_dir_all(folder);
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = BlobDigest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [{"created_by": "a test"}],
        "rootfs": {"type": "layers", "diff_ids": [BlobDigest::of(layer).to_string()]},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    folder.to_owned()
}

type Spoiler = fn(&Path, &str);

/// Returns ways to spoil a layout; each gets its folder and a folder outside.
fn spoilers() -> Vec<(&'static str, Spoiler)> {
    fn layer(folder: &Path) -> PathBuf {
        let files = fs::read_dir(folder.join("blobs/sha256")).unwrap().map(|file| file.unwrap().path());
        files.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    }
    fn index(folder: &Path, from: &str, to: &str) {
        edit(&folder.join("index.json"), |text| text.replace(from, to));
    }
    vec![
        ("a bit of a layer", |folder, _| flip(&layer(folder))),
        ("a layer that is missing", |folder, _| fs::remove_file(layer(folder)).unwrap()),
        ("a layer that is longer", |folder, _| fs::write(layer(folder), [0; 9000]).unwrap()),
        ("a layer that is a link", |folder, outside| {
            fs::remove_file(layer(folder)).unwrap();
            symlink(format!("{outside}/precious"), layer_name(folder)).unwrap();
        }),
        ("an index that is a link", |folder, outside| {
            fs::remove_file(folder.join("index.json")).unwrap();
            symlink(format!("{outside}/precious"), folder.join("index.json")).unwrap();
        }),
        ("an index that is cut off", |folder, _| edit(&folder.join("index.json"), |text| text[..40].to_owned())),
        ("an index of 5 MB", |folder, _| fs::write(folder.join("index.json"), vec![b' '; 5_000_000]).unwrap()),
        ("a digest that is a path", |folder, _| index(folder, "sha256:", "sha256:../../")),
        ("another kind of digest", |folder, _| index(folder, "sha256:", "md5:")),
        ("another size", |folder, _| index(folder, "\"size\":", "\"size\":1")),
        ("a key that stands twice", |folder, _| index(folder, "{\"manifests\"", "{\"manifests\":[],\"manifests\"")),
        ("blobs that are elsewhere", |folder, outside| {
            fs::rename(folder.join("blobs"), folder.with_file_name("elsewhere")).unwrap();
            symlink(outside, folder.join("blobs")).unwrap();
            fs::remove_dir_all(folder.with_file_name("elsewhere")).unwrap();
        }),
    ]
}

/// Returns the place of the layer that the manifest of a layout names.
fn layer_name(folder: &Path) -> PathBuf {
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    let blob = |digest: &Value| format!("blobs/sha256/{}", digest.as_str().unwrap().trim_start_matches("sha256:"));
    let manifest = read(&blob(&read("index.json")["manifests"][0]["digest"]));
    folder.join(blob(&manifest["layers"][0]["digest"]))
}

/// Returns an image of a layout in the form that Docker saved before it knew layouts: plain layers, no manifest of the image.
fn as_docker_saved_once(layout: &Path, name: &str) -> Vec<u8> {
    let read = |digest: &Value| {
        let digest = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        (fs::read(layout.join("blobs/sha256").join(&digest)).unwrap(), digest)
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let called = |image: &&Value| image["annotations"]["org.opencontainers.image.ref.name"] == name;
    let image = index["manifests"].as_array().unwrap().iter().find(called).unwrap();
    let manifest: Value = serde_json::from_slice(&read(&image["digest"]).0).unwrap();
    let (config, config_digest) = read(&manifest["config"]["digest"]);
    let mut pieces = vec![Entry::file(format!("{config_digest}.json"), config).bytes()];
    let mut layers = Vec::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let (stored, digest) = read(&layer["digest"]);
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&*stored), &mut plain).unwrap();
        pieces.push(Entry::directory(format!("{digest}/")).bytes());
        pieces.push(Entry::file(format!("{digest}/layer.tar"), plain).bytes());
        layers.push(format!("{digest}/layer.tar"));
    }
    let list = json!([{"Config": format!("{config_digest}.json"), "Layers": layers, "RepoTags": [format!("{name}:1")]}]);
    pieces.push(Entry::file("manifest.json", list.to_string()).bytes());
    rawtar::archive(pieces)
}
