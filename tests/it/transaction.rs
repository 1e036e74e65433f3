//! A release as one transaction: killed anywhere and finished, two at once, one package changed between two, taken back, or exchanged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kit::badhttp::Request;
use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::fakerepo::Suite;
use crate::kit::killat::Line;
use crate::kit::world;
use crate::release::{Maker, answer, digest, of_tar};
use crate::trust::Person;

fn is_write(request: &Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "PATCH" | "POST" | "DELETE")
}

/// Returns which step of the plan a request is: what is sent, whither; digests and uploads are left out.
fn step(request: &Request) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let (place, last) = path.rsplit_once('/').unwrap_or_default();
    let place = place.split("/uploads").next().unwrap_or_default();
    let last = if last.starts_with("sha256:") || place.ends_with("/blobs") { "DIGEST" } else { last };
    format!("{} {place} {last}", request.method)
}

#[test]
fn a_release_that_is_killed_at_any_step_is_finished_by_the_same_command() {
    let maker = Maker::new();
    let whole = Registry::honest();
    let expected = answer(&maker.release(&whole, &["release", "1.0.0"], 0));
    let steps: BTreeSet<String> = whole.requests().iter().filter(|request| is_write(request)).map(step).collect();
    assert!(steps.len() > 15, "{steps:?}");
    fs::remove_dir_all(maker.project.path().join("releases")).unwrap();
    fs::remove_dir_all(maker.project.path().join("out/release")).unwrap();

    // Each run is killed at a step at which none was before: when it begins, or when it was done.
    let process = Arc::new(AtomicI32::new(0));
    let killed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (target, seen) = (process.clone(), killed.clone());
    let registry = Registry::start(Setup { referrers: true, ..Setup::default() }, move |request| {
        if !is_write(request) {
            return Act::Honest;
        }
        let mut seen = seen.lock().unwrap();
        if !seen.insert(step(request)) {
            return Act::Honest;
        }
        if let Some(process) = Pid::from_raw(target.swap(0, Ordering::SeqCst)) {
            kill_process(process, Signal::KILL).unwrap();
            if seen.len() % 2 == 0 { Act::Honest } else { Act::Close }
        } else {
            // It dies of another one at the moment; this step is for the next run.
            seen.remove(&step(request));
            Act::Close
        }
    });
    let record = maker.project.path().join("releases/1.0.0.yaml");
    let to = format!("{}/parish", registry.host());
    let arguments = ["--json", "release", "1.0.0", "--to", &to];
    let mut runs = 0;
    loop {
        let mut command = maker.command(&arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.store(i32::try_from(child.id()).unwrap(), Ordering::SeqCst);
        let output = child.wait_with_output().unwrap();
        process.store(0, Ordering::SeqCst);
        runs += 1;
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!record.exists(), "what is not whole is not recorded");
        for name in ["1.0", "1", "latest"] {
            let tag = registry.tag("parish/app", name);
            assert!(tag.is_none() || registry.tag("parish/app", "1.0.0").is_some(), "a tag floats to what is not there");
        }
        assert!(runs < 100, "{:?}", killed.lock().unwrap());
    }
    assert_eq!(*killed.lock().unwrap(), steps, "it was killed at every step");
    assert!(runs > 15, "{runs}");
    let finished = fs::read_to_string(&record).unwrap();
    for image in ["app", "base"] {
        let digest = digest(&expected, image);
        assert!(finished.contains(&digest), "{finished}");
        for name in ["1.0.0", "1.0", "1", "latest"] {
            assert_eq!(registry.tag(&format!("parish/{image}"), name).as_ref(), Some(&digest), "{image}:{name}");
        }
    }
}

#[test]
fn a_release_that_is_killed_while_files_are_written_is_finished_by_the_same_command() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let expected = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
    let (root, (tar, _)) = (maker.project.path(), maker.download("1.0.0"));
    let files = |folder: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        // Drafts of what was killed are hidden, and nobody takes them for anything.
        let hidden = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(".parvis-");
        let plain = entries.filter(|path| path.is_file() && !hidden(path));
        let mut files: Vec<_> = plain.map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let (record, released) = (files(&root.join("releases")), files(tar.parent().unwrap()));
    let to = format!("{}/parish", registry.host());
    let line = Line::of(&maker.command(&["--json", "release", "1.0.0", "--to", &to]));
    let statement = tar.with_file_name("release.sigstore.json");
    let lock = root.join("releases/1.0.0.lock");
    for happened in [tar, statement, lock] {
        fs::remove_dir_all(root.join("releases")).unwrap();
        fs::remove_dir_all(root.join("out")).unwrap();
        line.killed_when(|| happened.exists(), Duration::from_secs(120));
        assert!(happened.exists());
        // The record may be whole at the moment of the kill; then the number is taken.
        if root.join("releases/1.0.0.yaml").exists() {
            fs::remove_dir_all(root.join("releases")).unwrap();
        }
        let again = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
        assert_eq!(again["release"], expected["release"], "killed at {}", happened.display());
        assert!(files(&root.join("releases")) == record && files(&root.join("out/release/1.0.0")) == released);
    }
}

#[test]
fn of_two_releases_at_once_one_is_refused_and_nothing_is_mixed() {
    let (one, two) = (Maker::new(), Maker::new());
    two.project.write("images/app/welcome.txt", "welcome elsewhere\n");
    two.commit();
    // The second one begins and ends while the first one is about to make its first tag of an image.
    let outcome: Arc<OnceLock<(Option<i32>, String)>> = Arc::new(OnceLock::new());
    let command = Arc::new(Mutex::new(None::<Command>));
    let (run, result) = (command.clone(), outcome.clone());
    let registry = Registry::start(Setup { referrers: true, ..Setup::default() }, move |request| {
        let is_tag = ["app", "base"].iter().any(|image| request.path.ends_with(&format!("/parish/{image}/manifests/1.0.0")));
        let second = if request.method == "PUT" && is_tag { run.lock().unwrap().take() } else { None };
        if let Some(mut command) = second {
            let output = command.output().unwrap();
            let _ = result.set((output.status.code(), String::from_utf8(output.stderr).unwrap()));
        }
        Act::Honest
    });
    let to = format!("{}/parish", registry.host());
    *command.lock().unwrap() = Some(two.command(&["--json", "release", "1.0.0", "--to", &to]));
    let first = answer(&one.release(&registry, &["release", "1.0.0"], 0));
    let (code, said) = outcome.get().unwrap();
    assert_eq!(*code, Some(1), "{said}");
    assert!(said.contains("release:1.0.0` is `sha256:") && said.contains("already, and would be"), "{said}");
    assert!(said.contains("hint: a release never changes: take the next number"), "{said}");
    assert!(!two.project.path().join("releases/1.0.0.yaml").exists());
    for image in ["app", "base"] {
        for name in ["1.0.0", "1.0", "1", "latest"] {
            assert_eq!(registry.tag(&format!("parish/{image}"), name), Some(digest(&first, image)), "{image}:{name}");
        }
    }
    let said = two.release(&registry, &["release", "1.0.0"], 1);
    // Both images are others; they are asked for at the same time, and one is named.
    let named = ["app", "base"].map(|image| said.err.contains(&format!("the tag `1.0.0` of `{image}` stands for")));
    assert!(named.contains(&true), "{}", said.err);
}

#[test]
fn one_changed_package_is_told_in_the_notes_and_downloaded_alone() {
    const OLD: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
    const FIX: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001.");
    let mut maker = Maker::on(world::archive_of(&world::libfoo("1.0-1").changelog(&[OLD])));
    let registry = Registry::honest();
    let before = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
    maker.repo.date += 60;
    maker.repo.add(Suite::Security, &world::libfoo("1.0-1+deb13u1").changelog(&[FIX, OLD])).publish();
    maker.run(&["lock", "--update"], 0);
    maker.commit();
    let after = answer(&maker.release(&registry, &["release", "1.0.1", "--delta-from", "1.0.0"], 0));
    for image in ["app", "base"] {
        assert_ne!(digest(&before, image), digest(&after, image));
    }
    for (file, words) in [("NOTES.md", "### Security"), ("NOTES.fr.md", "### Sécurité")] {
        let notes = maker.project.read(&format!("out/release/1.0.1/{file}"));
        for expected in ["1.0.0", "foo", "1.0-1+deb13u1", "CVE-2025-0001", words] {
            assert!(notes.contains(expected), "{expected}: {notes}");
        }
        assert!(!notes.contains("dash"), "{notes}");
    }
    let ((old, _), (new, name)) = (maker.download("1.0.0"), maker.download("1.0.1"));
    let delta = new.with_file_name(format!("{name}-from-1.0.0.tar"));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&delta) * 2 < size(&new), "{} of {}", size(&delta), size(&new));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let place = tempfile::tempdir().unwrap();
    let made = place.path().join("made.tar");
    maker.run(&["delta", &text(&delta), &text(&old), "-o", &text(&made)], 0);
    assert!(fs::read(&made).unwrap() == fs::read(&new).unwrap());
    // The record names the downloads as wholes.
    let record = maker.project.read("releases/1.0.1.yaml");
    for path in [&delta, &new] {
        let sum = Command::new("sha256sum").arg(path).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let listed = format!("  - name: \"{}\"\n    sha256: \"{}\"\n", path.file_name().unwrap().to_str().unwrap(), &sum[..64]);
        assert!(record.contains(&listed), "{listed}{record}");
    }
}

/// Two releases of a maker, in a registry, and somebody who trusts the maker's key.
fn two() -> (Maker, Registry, Person) {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    maker.release(&registry, &["release", "1.1.0"], 0);
    maker.commit();
    let parish = trusting(&maker);
    (maker, registry, parish)
}

fn trusting(maker: &Maker) -> Person {
    let parish = Person::new();
    let key = maker.project.path().parent().unwrap().join(".config/parvis/keys/release.pub");
    parish.run(&["trust", "add", key.to_str().unwrap(), "--name", "makers"], 0);
    parish
}

fn verdict(person: &Person, target: &str, code: i32) -> Value {
    answer(&person.run(&["--json", "verify", target], code))
}

#[test]
fn what_is_exchanged_in_a_registry_is_refused_with_its_code() {
    let (maker, registry, parish) = two();
    let image = |name: &str| format!("{}/parish/{name}", registry.host());
    let manifest = |repository: &str, tag: &str| {
        let digest = registry.tag(repository, tag).unwrap();
        registry.kept(|kept| kept.manifests[&(repository.to_owned(), digest)].1.clone())
    };
    let put = |repository: &str, bytes: &[u8], tag: &str| {
        registry.put_manifest(repository, "application/vnd.oci.image.manifest.v1+json", bytes, Some(tag));
    };
    assert_eq!(verdict(&parish, &image("app:1.1.0"), 0)["release"]["version"], "1.1.0");
    // An older release is offered under the tag of the newer one.
    let (older, newer) = (manifest("parish/app", "1.0.0"), manifest("parish/app", "1.1.0"));
    put("parish/app", &older, "latest");
    assert_eq!(verdict(&parish, &image("app:latest"), 1)["code"], "E05");
    assert_eq!(
        verdict(&trusting(&maker), &image("app:latest"), 0)["release"]["version"],
        "1.0.0",
        "who saw no newer one cannot know"
    );
    // Another image stands under the name, with all that is said of it.
    let base = registry.tag("parish/base", "1.1.0").unwrap();
    let kept = registry.kept(|kept| {
        let blobs: Vec<_> = kept
            .blobs
            .iter()
            .filter(|((place, _), _)| place == "parish/base")
            .map(|((_, digest), bytes)| (digest.clone(), bytes.clone()))
            .collect();
        let manifests: Vec<_> = kept
            .manifests
            .iter()
            .filter(|((place, _), _)| place == "parish/base")
            .map(|((_, digest), value)| (digest.clone(), value.clone()))
            .collect();
        for (digest, bytes) in blobs {
            kept.blobs.insert(("parish/app".into(), digest), bytes);
        }
        for (digest, value) in manifests {
            kept.manifests.insert(("parish/app".into(), digest), value);
        }
        kept.tags.insert(("parish/app".into(), "latest".into()), base.clone())
    });
    assert!(kept.is_some());
    assert_eq!(verdict(&parish, &image("app:latest"), 1)["code"], "E04");
    // A layer has other bytes than were signed.
    put("parish/app", &newer, "latest");
    let layer: Value = serde_json::from_slice(&newer).unwrap();
    let layer = layer["layers"][0]["digest"].as_str().unwrap().to_owned();
    registry.kept(|kept| kept.blobs.get_mut(&("parish/app".to_owned(), layer)).unwrap()[20] ^= 1);
    assert_eq!(verdict(&parish, &image("app:latest"), 1)["code"], "E03");
}

#[test]
fn a_release_that_was_taken_back_is_refused_by_whoever_hears_of_it() {
    let (maker, registry, parish) = two();
    let image = |tag: &str| format!("{}/parish/app:{tag}", registry.host());
    assert_eq!(verdict(&parish, &image("1.1.0"), 0)["release"]["version"], "1.1.0");
    let (tar, name) = maker.download("1.1.0");
    let place = tempfile::tempdir().unwrap();
    let alone = place.path().join(format!("{name}.tar"));
    fs::copy(&tar, &alone).unwrap();
    let alone = alone.to_str().unwrap().to_owned();
    verdict(&parish, &alone, 0);

    maker.run(&["key", "new", "other"], 0);
    maker.run(&["yank", "1.1.0", "--why", "it greets twice", "--key", "other"], 0);
    assert_eq!(verdict(&parish, &image("1.1.0"), 0)["verdict"], "good", "what a stranger says of it does not count");
    maker.run(&["yank", "1.1.0", "--why", "it greets twice"], 0);
    let signed = maker.project.read("releases/1.1.0.yank.sigstore.json");
    let writes = || registry.requests().iter().filter(|request| is_write(request)).count();
    let before = writes();
    maker.run(&["yank", "1.1.0", "--why", "it greets twice"], 0);
    assert_eq!((writes(), maker.project.read("releases/1.1.0.yank.sigstore.json")), (before, signed.clone()), "once is enough");

    let told = verdict(&parish, &image("1.1.0"), 1);
    assert_eq!((&told["code"], &told["verdict"]), (&"E06".into(), &"refused".into()), "{told}");
    assert!(told["sentence"].as_str().unwrap().contains("the publisher took tests 1.1.0 back: it greets twice"), "{told}");
    let french = parish.run(&["--lang", "fr", "verify", &image("1.1.0")], 1).err;
    assert!(
        french.contains("refusé, E06 : l'éditeur a retiré tests 1.1.0 : it greets twice") && french.contains("conseil : "),
        "{french}"
    );
    // It is remembered for the download that nobody told; and who had it may go back.
    assert_eq!(verdict(&parish, &alone, 1)["code"], "E06");
    assert_eq!(verdict(&parish, &image("latest"), 0)["release"]["version"], "1.0.0");
    assert_eq!(verdict(&parish, &maker.download("1.0.0").0.display().to_string(), 0)["verdict"], "good");

    // Somebody else hears of it from the file beside a download; a file that was changed says nothing, and makes nothing bad.
    let second = trusting(&maker);
    verdict(&second, &alone, 0);
    let beside = place.path().join("yank.sigstore.json");
    let mut value: Value = serde_json::from_str(&signed).unwrap();
    let payload = value["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
    let turned = payload.replacen('a', "b", 1);
    assert_ne!(turned, payload);
    value["dsseEnvelope"]["payload"] = turned.into();
    fs::write(&beside, value.to_string()).unwrap();
    verdict(&second, &alone, 0);
    fs::write(&beside, "{").unwrap();
    verdict(&second, &alone, 0);
    fs::write(&beside, &signed).unwrap();
    assert_eq!(verdict(&second, &alone, 1)["code"], "E06");
    fs::remove_file(&beside).unwrap();
    assert_eq!(verdict(&second, &alone, 1)["code"], "E06", "it is not forgotten");
    assert_eq!(verdict(&trusting(&maker), tar.to_str().unwrap(), 1)["code"], "E06", "the maker's own folder has it");
    let bundle: Value = serde_json::from_slice(&of_tar(&tar, &format!("{name}/bundle.json"))).unwrap();
    assert_eq!(bundle["version"], "1.1.0");
}
