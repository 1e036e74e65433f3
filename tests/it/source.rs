//! `parvis publish-source`: versions in a git repository that holds nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use parvis::model::project::{Project, SourceRule};
use parvis::plan::source::search;
use serde_json::Value;

use crate::kit::badreg::Registry;
use crate::release::{Maker, answer, digest};

/// Runs git in a folder, with nobody's configuration.
fn git(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(folder).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
    command.output().unwrap()
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = git(folder, arguments);
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A maker with the releases 1.0.0 and 1.1.0, of which each greets in another way.
fn two_releases(registry: &Registry) -> (Maker, Vec<Value>) {
    let maker = Maker::new();
    maker.project.write("images/app/welcome.txt", "what was thought of first\n");
    maker.commit();
    maker.project.write("images/app/welcome.txt", "welcome\n");
    maker.project.write("notes/todo.txt", "call Marie at 10.1.2.3\n");
    maker.project.write("README.md", "Build it: `parvis build --locked`\n");
    let settings = maker.project.read("parvis.yaml");
    let own = "\n# Ours alone.\nregistry: registry.parish.lan/parish\nsource:\n  without: [notes]\n  keys: [registry]\n";
    maker.project.write("parvis.yaml", &(settings + own));
    maker.commit();
    let mut releases = vec![answer(&maker.release(registry, &["release", "1.0.0"], 0))];
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    releases.push(answer(&maker.release(registry, &["release", "1.1.0"], 0)));
    maker.commit();
    (maker, releases)
}

#[test]
fn a_published_version_is_one_commit_with_a_signed_tag_and_builds_to_the_same_digests() {
    let registry = Registry::honest();
    let (maker, releases) = two_releases(&registry);
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (place.path().join("one.git"), place.path().join("two.git"));
    let publish =
        |target: &str, further: &[&str], code: i32| maker.run(&[&["--json", "publish-source", target], further].concat(), code);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // Somewhere else they are pushed to, one after the other.
    said(place.path(), &["init", "--quiet", "--bare", "two.git"]);
    let address = format!("file://{}", two.display());
    answer(&publish(&address, &["1.0.0"], 0));
    answer(&publish(&address, &[], 0));
    publish(&text(&one), &["--dry-run"], 0);
    assert!(!one.exists(), "a dry run leaves nothing");
    let made = answer(&publish(&text(&one), &[], 0));
    let versions: Vec<&Value> = made["published"].as_array().unwrap().iter().map(|version| &version["version"]).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0"]);
    assert_eq!(made["published"][0]["leftOut"][0], "notes/todo.txt");
    let refs = |folder: &Path| said(folder, &["for-each-ref"]);
    assert_eq!(refs(&one), refs(&two), "ids do not depend on where and when");
    assert_eq!(refs(&one).lines().count(), 3, "{}", refs(&one));
    assert_eq!(said(&one, &["rev-parse", "main"]), said(&one, &["rev-parse", "1.1.0^{commit}"]));
    assert_eq!(said(&one, &["rev-list", "--all", "--count"]), "2");
    assert_eq!(said(&one, &["fsck", "--strict", "--no-dangling"]), "");
    let before = refs(&one);
    let again = answer(&publish(&text(&one), &["1.0.0", "1.1.0"], 0));
    assert_eq!((again["published"].as_array().unwrap().len(), refs(&one)), (0, before.clone()));
    // And where no number is named, as it is from day to day.
    for (target, folder) in [(text(&one), &one), (address.clone(), &two)] {
        let again = answer(&publish(&target, &[], 0));
        assert_eq!((again["published"].as_array().unwrap().len(), refs(folder)), (0, before.clone()));
    }

    // Nothing of what led to a version, and nothing private, is in any object.
    let objects = git(&one, &["cat-file", "--batch-all-objects", "--batch"]).stdout;
    let objects = String::from_utf8_lossy(&objects).into_owned();
    for private in ["thought of first", "somebody@example.org", "Somebody", "parish.lan", "Marie", "notes"] {
        assert!(!objects.contains(private), "{private}");
    }
    assert!(objects.contains("welcome again"));

    // git believes the tag of the key that signed, and of no other.
    let signers = place.path().join("signers");
    let line = made["allowedSigner"].as_str().unwrap();
    let checked = |line: &str, tag: &str| {
        fs::write(&signers, format!("{line}\n")).unwrap();
        let allowed = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        let output = git(&one, &["-c", &allowed, "verify-tag", tag]);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for tag in ["1.0.0", "1.1.0"] {
        let (good, words) = checked(line, tag);
        assert!(good && words.contains("Good \"git\" signature for release@tests.invalid"), "{words}");
    }
    maker.run(&["key", "new", "other"], 0);
    let third = place.path().join("three.git");
    let other = answer(&publish(&text(&third), &["--key", "other"], 0));
    let (good, words) = checked(other["allowedSigner"].as_str().unwrap(), "1.0.0");
    assert!(!good, "{words}");
    // A tag that was changed afterwards.
    let tag = said(&one, &["cat-file", "tag", "1.0.0"]).replace("lock ", "lock 0") + "\n";
    let file = place.path().join("tag");
    fs::write(&file, tag).unwrap();
    let id = said(&one, &["hash-object", "-t", "tag", "-w", file.to_str().unwrap()]);
    assert!(!checked(line, &id).0);

    // Somebody else builds each from what was published.
    for (release, tag) in releases.iter().zip(["1.0.0", "1.1.0"]) {
        let folder = place.path().join(tag);
        said(place.path(), &["clone", "--quiet", "--branch", tag, &text(&one), &text(&folder)]);
        let store = place.path().join(format!("store-{tag}"));
        let from = format!("{}/parish", registry.host());
        let mut command = crate::kit::project::parvis(place.path());
        command.args(["--json", "--mirror", "http://127.0.0.1:9", "--store"]).arg(&store).arg("--project").arg(&folder);
        let output = command.args(["build", "--locked", "--kept-in", &from]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let built: Value = serde_json::from_slice(&output.stdout).unwrap();
        for image in built["images"].as_array().unwrap() {
            assert_eq!(image["manifest"], digest(release, image["name"].as_str().unwrap()), "{tag}");
        }
        let record = fs::read_to_string(folder.join(format!("releases/{tag}.yaml"))).unwrap();
        assert!(!record.contains("registry:") && folder.join(format!("releases/{tag}.lock")).is_file(), "{record}");
    }
}

#[test]
fn this_repository_shows_nothing_private_but_what_its_own_rule_lets_through() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(here.join("parvis.yaml")).unwrap();
    let rule = Project::parse("parvis.yaml", &text).unwrap().source;
    // Also where this is no repository, as in an archive of it.
    let without = ["target", "out", ".git", "releases"].map(|name| here.join(name));
    let mut folders = vec![here.to_owned()];
    let (mut private, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() && !without.contains(&path) {
                folders.push(path.clone());
            }
            if !path.is_file() || path == here.join("parvis.yaml") {
                continue;
            }
            let (name, content) = (path.strip_prefix(here).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            let all = search(&name, &content, &SourceRule::default(), &BTreeSet::new());
            seen.extend(all.into_iter().map(|private| private.what));
            private.extend(search(&name, &content, &rule, &BTreeSet::new()));
        }
    }
    assert!(private.is_empty(), "name what may be seen under `source:` in parvis.yaml: {private:?}");
    let unused: Vec<&String> = rule.allow.difference(&seen).collect();
    assert!(unused.is_empty(), "`source:` in parvis.yaml names what stands nowhere: {unused:?}");
}

#[test]
fn what_is_private_or_was_published_otherwise_is_refused() {
    let registry = Registry::honest();
    let (maker, _) = two_releases(&registry);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("one.git");
    let text = target.to_str().unwrap().to_owned();
    let publish = |further: &[&str], code: i32| maker.run(&[&["publish-source", &text], further].concat(), code).err;
    let settings = maker.project.read("parvis.yaml");
    let rule = |with: &str| {
        let (before, _) = settings.split_once("source:\n").unwrap();
        maker.project.write("parvis.yaml", &format!("{before}{with}"));
    };
    rule("source: {keys: [registry]}\n");
    let said = publish(&[], 1);
    // Each once, with where it stands first: it is in both versions.
    let line = "notes/todo.txt:1: `10.1.2.3` (in 1.0.0), and in one more place\n";
    assert!(said.contains(line) && said.contains("hint: under `source:`"), "{said}");
    rule("source: {without: [notes]}\n");
    let said = publish(&[], 1);
    assert!(said.contains("`registry.parish.lan` (in 1.0.0)"), "{said}");
    assert!(said.contains("parvis.yaml:"), "{said}");
    assert!(!git(&target, &["rev-parse", "--verify", "main"]).status.success(), "nothing was published");
    rule("source: {without: [notes], keys: [registry], allow: [\"x\"]}\n");
    publish(&["1.0.0"], 0);
    // The rule changed since: the same number would be something else.
    rule("source: {without: [notes, README.md], keys: [registry]}\n");
    let said = publish(&["1.0.0"], 1);
    assert!(said.contains("`1.0.0` is published already, with other files: `README.md`"), "{said}");
    assert!(publish(&["3.0.0"], 2).contains("there is no release `3.0.0`"));
    maker.run(&["yank", "1.1.0", "--why", "it greets twice", "--to", &format!("{}/parish", registry.host())], 0);
    assert!(publish(&["1.1.0"], 1).contains("was taken back: it greets twice"));
    // A repository of something else, and a folder that is none.
    let own = maker.project.path().join(".git");
    assert!(maker.run(&["publish-source", own.to_str().unwrap()], 1).err.contains("none of a published version"));
    assert!(maker.run(&["publish-source", place.path().to_str().unwrap()], 2).err.contains("is no repository to publish in"));
}
