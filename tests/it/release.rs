//! `parvis release`, `promote`, `yank` and builds from kept packages: numbered sets in a registry.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use parvis::model::digest::FileDigest;
use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::fakerepo::Repo;
use crate::kit::mkdeb::ARCHITECTURE;
use crate::kit::project::{Project, Said};
use crate::kit::world;

/// A project in version control, with a key and a registry.
pub struct Maker {
    pub repo: Repo,
    pub project: Project,
}

impl Maker {
    pub fn new() -> Self {
        Self::on(world::archive())
    }

    pub fn on(repo: Repo) -> Self {
        let project = Project::sample(&repo);
        project.run(&["lock"], 0);
        project.write(".gitignore", "out\n");
        // What a stack runs has a health check.
        let recipe = project.read("recipes/app.yaml");
        project.recipe("app", &recipe.replace("config:\n", "config:\n  health: {command: [/usr/bin/app]}\n"));
        project.write("compose/site.yaml", "description: A site.\nservices:\n  app: {image: app}\n");
        let maker = Self { repo, project };
        maker.project.git(&["init", "--quiet"]);
        maker.commit();
        maker.run(&["key", "new"], 0);
        maker
    }

    pub fn commit(&self) {
        self.project.git(&["add", "-A"]);
        self.project.git(&["commit", "--quiet", "--allow-empty", "-m", "all"]);
    }

    /// Returns the one file of a release for this platform, and the name of the folder in it.
    pub fn download(&self, number: &str) -> (PathBuf, String) {
        let name = format!("tests-{number}-{ARCHITECTURE}");
        (self.project.path().join(format!("out/release/{number}/{name}.tar")), name)
    }

    /// Returns a command line of parvis in the project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.parvis(arguments);
        command.env("PARVIS_PASSPHRASE", "correct horse");
        command
    }

    pub fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.command(arguments).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }

    pub fn release(&self, registry: &Registry, arguments: &[&str], code: i32) -> Said {
        let to = format!("{}/parish", registry.host());
        self.run(&[&["--json"], arguments, &["--to", &to]].concat(), code)
    }
}

/// Returns a file of a tar.
pub fn of_tar(tar: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOf").arg(tar).arg(name).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub fn answer(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

pub fn digest(release: &Value, image: &str) -> String {
    let images = release["release"]["images"].as_array().unwrap();
    images.iter().find(|other| other["name"] == image).unwrap()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_candidate_is_released_promoted_and_taken_back() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let tag = |name: &str| registry.tag("parish/app", name);

    let dry = answer(&maker.release(&registry, &["release", "1.4.0-rc.1", "--dry-run"], 0));
    assert_eq!((tag("1.4.0-rc.1"), maker.project.path().join("releases").exists()), (None, false), "a dry run leaves nothing");

    let candidate = answer(&maker.release(&registry, &["release", "1.4.0-rc.1"], 0));
    assert_eq!(candidate["release"], dry["release"], "what was shown is what is done");
    assert_eq!(tag("1.4.0-rc.1"), Some(digest(&candidate, "app")));
    assert_eq!((tag("latest"), tag("1.4")), (None, None), "a candidate is asked for by its number only");
    for file in ["release.sigstore.json", "NOTES.md", "NOTES.fr.md", "VERIFY.txt", "parvis.lock", "sbom/app.spdx.json"] {
        assert!(maker.project.path().join("out/release/1.4.0-rc.1").join(file).is_file(), "{file}");
    }
    maker.commit();

    let promoted = answer(&maker.release(&registry, &["promote", "1.4.0-rc.1", "1.4.0"], 0));
    assert_eq!(digest(&promoted, "app"), digest(&candidate, "app"), "the very image that was tried");
    for name in ["1.4.0", "1.4", "1", "latest"] {
        assert_eq!(tag(name), Some(digest(&candidate, "app")), "{name}");
    }
    let record = maker.project.read("releases/1.4.0.yaml");
    assert!(record.contains("from: \"1.4.0-rc.1\"") && record.contains("sequence: 2"), "{record}");
    maker.commit();

    let said = maker.release(&registry, &["release", "1.4.0"], 1);
    assert!(said.err.contains("`1.4.0` is released already"), "{}", said.err);

    // Another image, so that the tags have somewhere to go back from.
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    let said = maker.release(&registry, &["release", "1.4.1"], 1);
    assert!(said.err.contains("is not committed: `images/app/welcome.txt`"), "{}", said.err);
    maker.commit();
    let said = maker.release(&registry, &["promote", "1.4.0-rc.1", "1.4.1"], 2);
    assert!(said.err.contains("is not a candidate for `1.4.1`"), "{}", said.err);
    let newer = answer(&maker.release(&registry, &["release", "1.4.1"], 0));
    assert_ne!(digest(&newer, "app"), digest(&promoted, "app"));
    assert_eq!(tag("latest"), Some(digest(&newer, "app")));
    maker.commit();

    maker.run(&["yank", "1.4.1", "--why", "it greets twice"], 0);
    assert_eq!(tag("1.4.1"), Some(digest(&newer, "app")), "a release's own tag never moves");
    for name in ["1.4", "1", "latest"] {
        assert_eq!(tag(name), Some(digest(&promoted, "app")), "{name}");
    }
    assert!(maker.project.read("releases/1.4.1.yaml").contains("yanked: \"it greets twice\""));
}

#[test]
fn what_was_not_tried_is_not_promoted() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0-rc.1"], 0);
    maker.project.write("images/app/welcome.txt", "another\n");
    maker.commit();
    let said = maker.release(&registry, &["promote", "1.0.0-rc.1", "1.0.0"], 1);
    assert!(said.err.contains("the image `app` is not the one that `1.0.0-rc.1` has"), "{}", said.err);
    assert_eq!(registry.tag("parish/app", "1.0.0"), None);
}

#[test]
fn a_release_that_breaks_off_anywhere_is_finished_by_the_same_command() {
    let maker = Maker::new();
    let whole = Registry::honest();
    let expected = answer(&maker.release(&whole, &["release", "1.0.0"], 0));
    let writes = whole.requests().iter().filter(|request| matches!(request.method.as_str(), "PUT" | "PATCH" | "POST")).count();
    fs::remove_dir_all(maker.project.path().join("releases")).unwrap();
    // Each time the registry fails for good from another write on.
    for last in [writes / 2, writes - 1] {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let state = broken.clone();
        let registry = Registry::start(Setup::default(), move |request| {
            let is_write = matches!(request.method.as_str(), "PUT" | "PATCH" | "POST");
            let over = is_write && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= last;
            if over && state.load(std::sync::atomic::Ordering::SeqCst) {
                return Act::refuse(403, "DENIED", "not now");
            }
            Act::Honest
        });
        let said = maker.release(&registry, &["release", "1.0.0"], 3);
        assert!(said.err.contains("not now"), "{}", said.err);
        assert!(!maker.project.path().join("releases/1.0.0.yaml").exists(), "what is not whole is not recorded");
        broken.store(false, std::sync::atomic::Ordering::SeqCst);
        let finished = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
        assert_eq!(finished["release"]["images"], expected["release"]["images"], "broken off at write {last}");
        for name in ["1.0.0", "1.0", "1", "latest"] {
            assert_eq!(registry.tag("parish/app", name), Some(digest(&expected, "app")), "{name} at write {last}");
        }
        fs::remove_dir_all(maker.project.path().join("releases")).unwrap();
    }
}

#[test]
fn a_tag_that_somebody_else_took_stops_a_release_before_anything_is_sent() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    let other = registry.tag("parish/base", "1.0.0").unwrap();
    let bytes = registry.kept(|kept| kept.manifests[&("parish/base".to_owned(), other.clone())].1.clone());
    registry.put_manifest("parish/app", "application/vnd.oci.image.manifest.v1+json", &bytes, Some("1.0.1"));
    maker.commit();
    registry.forget();
    let said = maker.release(&registry, &["release", "1.0.1"], 1);
    assert!(said.err.contains("the tag `1.0.1` of `app` stands for"), "{}", said.err);
    assert!(registry.requests().iter().all(|request| matches!(request.method.as_str(), "GET" | "HEAD")), "nothing was written");
}

#[test]
fn a_release_is_built_again_from_its_own_packages_when_the_archive_is_gone() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let released = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
    fs::remove_dir_all(maker.project.store()).unwrap();
    let from = format!("{}/parish", registry.host());
    let arguments = ["--json", "--mirror", "http://127.0.0.1:9", "build", "--locked", "--kept-in", &from];
    let built = answer(&maker.run(&arguments, 0));
    for image in built["images"].as_array().unwrap() {
        assert_eq!(image["manifest"], digest(&released, image["name"].as_str().unwrap()));
    }
}

#[test]
fn what_people_download_names_the_images_as_the_registry_has_them() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    let (tar, folder) = maker.download("1.0.0");
    let bundle: Value = serde_json::from_slice(&of_tar(&tar, &format!("{folder}/bundle.json"))).unwrap();
    let name = format!("{}/parish/app:1.0.0", registry.host());
    assert_eq!(bundle["images"][0]["reference"], name);
    let alone = tar.with_file_name(format!("{folder}-compose.tar"));
    let settings = String::from_utf8(of_tar(&alone, &format!("{folder}-compose/.env"))).unwrap();
    assert!(settings.contains(&format!("PARVIS_IMAGE_APP={name}@sha256:")), "{settings}");
}

/// What the script of a difference needs beside its shell.
const TOOLS: [&str; 7] = ["tar", "sha256sum", "cat", "mkdir", "mv", "rm", "wc"];

/// Applies a difference with its script, in a folder, with nothing but these tools.
fn by_script(shell: &[&str], delta: &Path, arguments: &[&Path], place: &Path) -> (bool, String) {
    let tools = place.join("tools");
    if !tools.exists() {
        fs::create_dir(&tools).unwrap();
        for tool in TOOLS {
            symlink(Path::new("/usr/bin").join(tool), tools.join(tool)).unwrap();
        }
    }
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(delta.join("apply.sh")).args(arguments).current_dir(place);
    let output = command.env_clear().env("PATH", &tools).env("LANG", "fr_FR.UTF-8").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn unpack(tar: &Path, place: &Path) {
    let status = Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(place).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_difference_and_the_older_download_give_the_newer_one_byte_for_byte() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    let said = maker.release(&registry, &["release", "1.1.0", "--delta-from", "0.9.0"], 2);
    assert!(said.err.contains("there is no release `0.9.0`"), "{}", said.err);
    let elsewhere = maker.project.path().join("keys");
    let said =
        maker.release(&registry, &["release", "1.1.0", "--delta-from", "1.0.0", "--delta-base", elsewhere.to_str().unwrap()], 2);
    assert!(said.err.contains("a difference is made to the download of `1.0.0`"), "{}", said.err);
    let made = answer(&maker.release(&registry, &["release", "1.1.0", "--delta-from", "1.0.0"], 0));
    let ((old, _), (new, name)) = (maker.download("1.0.0"), maker.download("1.1.0"));
    let whole = fs::read(&new).unwrap();
    let delta = new.with_file_name(format!("{name}-from-1.0.0.tar"));
    let size = fs::metadata(&delta).unwrap().len();
    assert!(size * 3 < whole.len() as u64, "{size} of {}", whole.len());
    let listed = made["release"]["files"].as_array().unwrap().iter();
    assert!(listed.clone().any(|file| file["name"] == format!("{name}-from-1.0.0/apply.sh")), "{made}");
    maker.run(&["key", "show"], 0);
    let key = maker.project.path().parent().unwrap().join(".config/parvis/keys/release.pub");
    maker.run(&["verify", delta.to_str().unwrap(), "--key", key.to_str().unwrap()], 0);

    // With parvis, from the file and from the folder that it was unpacked to.
    let place = tempfile::tempdir().unwrap();
    unpack(&old, place.path());
    let folder = place.path().join(old.file_stem().unwrap());
    for (number, older) in [&old, &folder].into_iter().enumerate() {
        let target = place.path().join(format!("{number}.tar"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        maker.run(&["delta", &text(&delta), &text(older), "-o", &text(&target)], 0);
        assert!(fs::read(&target).unwrap() == whole, "from {}", older.display());
        maker.run(&["verify", &text(&target), "--key", key.to_str().unwrap()], 0);
    }

    // With its script.
    unpack(&delta, place.path());
    let unpacked = place.path().join(delta.file_stem().unwrap());
    let target = place.path().join(format!("{name}.tar"));
    for shell in [&["/bin/sh"][..], &["/bin/bash", "--posix"], &["/bin/busybox", "sh"]] {
        if !Path::new(shell[0]).exists() {
            continue;
        }
        for older in [&old, &folder] {
            let (good, said) = by_script(shell, &unpacked, &[older], place.path());
            assert!(good && said.contains("est complète"), "{shell:?}: {said}");
            assert!(fs::read(&target).unwrap() == whole, "{shell:?} from {}", older.display());
            fs::remove_file(&target).unwrap();
        }
    }
}

/// Returns bytes of which one is another.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Returns where the largest blob stands that a difference takes from the older download.
fn taken(delta: &Path, older: &[u8]) -> Range<usize> {
    let folder = delta.file_stem().unwrap().to_str().unwrap();
    let list = String::from_utf8(of_tar(delta, &format!("{folder}/delta.txt"))).unwrap();
    let blobs = list.lines().filter_map(|line| line.strip_prefix("old ")?.split_once(' '));
    let (size, digest) = blobs.map(|(digest, size)| (size.parse::<usize>().unwrap(), digest)).max().unwrap();
    let is_it = |at: &usize| older.get(*at..at + size).is_some_and(|bytes| FileDigest::of(bytes).to_string() == digest);
    let start = (0..older.len()).step_by(512).find(is_it).unwrap();
    start..start + size
}

#[test]
fn whatever_byte_of_the_older_download_is_another_one_the_newer_is_exact_or_refused() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    maker.release(&registry, &["release", "1.1.0", "--delta-from", "1.0.0"], 0);
    let ((old, _), (new, name)) = (maker.download("1.0.0"), maker.download("1.1.0"));
    let delta = new.with_file_name(format!("{name}-from-1.0.0.tar"));
    let (kept, whole) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
    let place = tempfile::tempdir().unwrap();
    unpack(&delta, place.path());
    let unpacked = place.path().join(delta.file_stem().unwrap());
    let (older, target) = (place.path().join("older.tar"), place.path().join("new.tar"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // Both look at what they take, and neither at what they do not: padding, and blobs that only the older images had.
    let tried = |at: usize| {
        fs::write(&older, flipped(&kept, at)).unwrap();
        let check = |(good, said): (bool, String)| {
            assert_eq!(good, target.exists(), "byte {at}: {said}");
            assert!(!good || fs::read(&target).unwrap() == whole, "byte {at} gives something else");
            let _ = fs::remove_file(&target);
            good
        };
        let output = maker.command(&["delta", &text(&delta), &text(&older), "-o", &text(&target)]).output().unwrap();
        let with_parvis = check((output.status.success(), Said::from(&output).err));
        let with_script = check(by_script(&["/bin/sh"], &unpacked, &[&older, &target], place.path()));
        assert_eq!(with_parvis, with_script, "byte {at}");
        with_script
    };
    let blob = taken(&delta, &kept);
    assert!(!tried(blob.start) && !tried(blob.end - 1), "a blob that is taken");
    assert!(!tried(blob.start - 512), "its header");
    let padding = blob.end.next_multiple_of(512) - 1;
    assert!(padding < blob.end || tried(padding), "what stands behind it");
    let list = b"org.opencontainers.image.ref.name";
    assert!(tried(kept.windows(list.len()).position(|bytes| bytes == list).unwrap()), "the list of the older images");
    for part in 0..40 {
        tried(kept.len() * part / 40 + 7 * part);
    }
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "the older archive, the unpacked difference, the tools: {left:?}");
}

#[test]
fn a_difference_is_refused_where_anything_is_not_as_it_was_released() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    let (old, _) = maker.download("1.0.0");
    let kept = fs::read(&old).unwrap();
    // The archive of images is most of it.
    let half = kept.len() / 2;
    fs::write(&old, flipped(&kept, half)).unwrap();
    let said = maker.release(&registry, &["release", "1.1.0", "--delta-from", "1.0.0"], 1);
    assert!(said.err.contains("is not the download that was released as `1.0.0`"), "{}", said.err);
    fs::write(&old, &kept).unwrap();
    maker.release(&registry, &["release", "1.1.0", "--delta-from", "1.0.0"], 0);
    let (new, name) = maker.download("1.1.0");
    let delta = new.with_file_name(format!("{name}-from-1.0.0.tar"));
    let changed = flipped(&kept, taken(&delta, &kept).start + 100);

    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("new.tar");
    let copy = place.path().join("delta.tar");
    let older = place.path().join("older.tar");
    let count = || fs::read_dir(place.path()).unwrap().count();
    let apply = |delta: &Path, older: &Path, code: i32| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let said = maker.run(&["--lang", "fr", "delta", &text(delta), &text(older), "-o", &text(&target)], code).err;
        assert!(!target.exists());
        said
    };
    // An older download that is another one, was damaged, or is cut short.
    fs::write(&older, &changed).unwrap();
    assert!(apply(&delta, &older, 1).contains("telle qu’elle a été publiée"));
    assert!(apply(&delta, &new, 1).contains("telle qu’elle a été publiée"));
    fs::write(&older, &kept[..half]).unwrap();
    assert!(apply(&delta, &older, 1).contains("telle qu’elle a été publiée"));
    assert!(apply(&new, &old, 2).contains("est un téléchargement entier"));
    // A byte of each file of the difference.
    let bytes = fs::read(&delta).unwrap();
    let listed = Command::new("tar").args(["-tRf"]).arg(&delta).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut blocks = Vec::new();
    for line in listed.lines().filter(|line| !line.contains("NUL")) {
        let (block, file) = line.strip_prefix("block ").unwrap().split_once(": ").unwrap();
        blocks.push((block.parse::<usize>().unwrap(), file.to_owned()));
    }
    assert!(blocks.len() > 10, "{listed}");
    for (block, file) in &blocks {
        let mut bytes = bytes.clone();
        bytes[block * 512 + 512] ^= 1;
        fs::write(&copy, &bytes).unwrap();
        let said = apply(&copy, &old, 1);
        assert!(said.contains("E03"), "{file}: {said}");
    }
    fs::write(&copy, &bytes[..bytes.len() / 2]).unwrap();
    assert!(apply(&copy, &old, 1).contains("E0"));
    assert_eq!(count(), 2, "nothing half-written is left");

    // The same with the script; only what it cannot check, the statement itself, is left to `parvis verify`.
    fs::remove_file(&copy).unwrap();
    unpack(&delta, place.path());
    let unpacked = place.path().join(delta.file_stem().unwrap());
    let script = |older: &Path| {
        let (good, said) = by_script(&["/bin/sh"], &unpacked, &[older, &target], place.path());
        assert!(!good && !target.exists(), "{said}");
        said
    };
    fs::write(&older, &changed).unwrap();
    assert!(script(&older).contains("ceci ne va qu'avec celle-là"));
    assert!(script(&new).contains("ceci ne va qu'avec celle-là"));
    fs::write(&older, &kept[..half]).unwrap();
    assert!(script(&older).contains("ceci ne va qu'avec celle-là"));
    for (_, file) in &blocks {
        let path = place.path().join(file);
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["apply.sh", "release.sigstore.json"].contains(&name) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let mut other = bytes.clone();
        other[0] ^= 1;
        fs::write(&path, other).unwrap();
        assert!(script(&old).contains("a été modifié"), "{name}");
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(count(), 3, "the older archive, the unpacked difference, the tools");
}
