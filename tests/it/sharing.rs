//! `parvis build --cache-from --cache-to`: what one machine finished, another takes over; what is not signed or not whole, it builds.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::fakerepo::Repo;
use crate::kit::project::{Project, Said};
use crate::kit::world;
use crate::release::{Maker, answer};

/// An address at which no archive is.
const NOWHERE: [&str; 2] = ["--mirror", "http://127.0.0.1:9"];

/// Two machines with the same project, each with its own store, home and key.
struct Two {
    repo: Repo,
    first: Project,
    second: Project,
}

impl Two {
    fn new() -> Self {
        let repo = world::archive();
        let (first, second) = (Project::sample(&repo), Project::sample(&repo));
        first.run(&["lock"], 0);
        second.write("parvis.lock", &first.read("parvis.lock"));
        let two = Self { repo, first, second };
        for project in [&two.first, &two.second] {
            run(project, &["key", "new"], 0);
        }
        two
    }

    /// Returns the public key of the first machine.
    fn key(&self) -> String {
        self.first.path().parent().unwrap().join(".config/parvis/keys/release.pub").to_str().unwrap().to_owned()
    }

    /// Builds on the first machine and shares what it finished.
    fn share(&self, registry: &Registry) -> Vec<(String, String)> {
        digests(&run(&self.first, &["--json", "build", "--cache-to", &prefix(registry)], 0))
    }

    /// Builds on the second machine with what the first one shared.
    fn take(&self, registry: &Registry, more: &[&str], code: i32) -> Said {
        let key = self.key();
        let prefix = prefix(registry);
        run(&self.second, &[&["--json", "build", "--cache-from", &prefix, "--cache-key", &key], more].concat(), code)
    }
}

fn prefix(registry: &Registry) -> String {
    format!("{}/parish", registry.host())
}

fn command(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.parvis(arguments);
    command.env("PARVIS_PASSPHRASE", "correct horse");
    command
}

fn run(project: &Project, arguments: &[&str], code: i32) -> Said {
    let output = command(project, arguments).output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
    said
}

/// Returns names and manifests of built images.
fn digests(said: &Said) -> Vec<(String, String)> {
    let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    answer["images"].as_array().unwrap().iter().map(|image| (text(&image["name"]), text(&image["manifest"]))).collect()
}

/// Returns the names of images that were not built but recalled.
fn recalled(said: &Said) -> Vec<String> {
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let images = answer["images"].as_array().unwrap().iter().filter(|image| image["recalled"] == true);
    images.map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn another_machine_recalls_everything_and_builds_nothing() {
    let two = Two::new();
    let registry = Registry::honest();
    let built = two.share(&registry);
    // Sharing again packs nothing and sends nothing.
    registry.forget();
    assert_eq!(two.share(&registry), built);
    assert!(
        registry.requests().iter().all(|request| request.method == "GET" || request.method == "HEAD"),
        "{:?}",
        registry.lines()
    );
    // Without an archive nothing could be built.
    let said = two.take(&registry, &NOWHERE, 0);
    assert_eq!((digests(&said), recalled(&said)), (built.clone(), vec!["base".to_owned(), "app".to_owned()]), "{}", said.err);
    assert!(said.err.contains("2 finished images and 0 finished steps came from"), "{}", said.err);
    run(&two.second, &["store", "verify"], 0);

    // Another file in one image: the scripts of its packages are not run again, and the image comes out as without a cache.
    let third = Project::sample(&two.repo);
    for project in [&two.second, &third] {
        project.write("parvis.lock", &two.first.read("parvis.lock"));
        project.write("images/app/welcome.txt", "welcome, changed\n");
    }
    fs::remove_dir_all(two.second.store()).unwrap();
    let said = two.take(&registry, &[], 0);
    assert_eq!(recalled(&said), ["base"], "{}", said.err);
    assert!(said.err.contains("1 finished images and 2 finished steps came from"), "{}", said.err);
    assert_eq!(digests(&said), digests(&run(&third, &["--json", "build"], 0)), "a cache never changes digests");
}

#[test]
fn a_released_lock_is_shared_among_machines_that_no_archive_helps() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let released = answer(&maker.release(&registry, &["release", "1.0.0"], 0));
    let (from, key) = (prefix(&registry), maker.project.path().parent().unwrap().join(".config/parvis/keys/release.pub"));
    let key = key.to_str().unwrap();
    let build = |more: &[&str], code: i32| {
        fs::remove_dir_all(maker.project.store()).unwrap();
        let locked = ["--json", "build", "--locked", "--kept-in", &from, "--cache-from", &from, "--cache-key", key];
        maker.run(&[&NOWHERE, &locked[..], more].concat(), code)
    };
    // The first machine builds the parent and shares it.
    let said = build(&["base", "--cache-to", &from], 0);
    assert!(said.err.contains("0 finished images and 0 finished steps came from"), "{}", said.err);
    // The second one takes it over; what its own image is made of comes from where the release keeps it.
    registry.forget();
    let said = build(&[], 0);
    assert_eq!(recalled(&said), ["base"], "{}", said.err);
    for (name, manifest) in digests(&said) {
        assert_eq!(manifest, crate::release::digest(&released, &name));
    }
    assert!(registry.lines().iter().any(|line| line.contains("/packages/blobs/")), "{:?}", registry.lines());
    // Where all is finished, no package is asked for.
    maker.run(&["build", "--cache-to", &from], 0);
    registry.forget();
    assert_eq!(recalled(&build(&[], 0)), ["base", "app"]);
    assert!(registry.lines().iter().all(|line| !line.contains("/packages/")), "{:?}", registry.lines());
}

#[test]
fn what_was_tampered_with_is_refused_and_built_here() {
    let two = Two::new();
    let registry = Registry::honest();
    let built = two.share(&registry);
    let steps = "parish/steps".to_owned();
    let kept = registry.kept(|kept| (kept.blobs.clone(), kept.tags.clone()));
    // Every blob in turn of its kind: a byte of each is another one.
    let again = |what: &str| {
        fs::remove_dir_all(two.second.store()).unwrap_or(());
        let said = two.take(&registry, &[], 0);
        assert_eq!(digests(&said), built, "{what}");
        assert!(said.err.contains("refused, and built here instead"), "{what}: {}", said.err);
        run(&two.second, &["store", "verify"], 0);
        said
    };
    registry.kept(|kept| {
        for ((repository, _), bytes) in &mut kept.blobs {
            if *repository == steps {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
        }
    });
    again("all blobs");
    registry.kept(|now| now.blobs.clone_from(&kept.0));
    // Only what is packed, and only what an image consists of: statements stay as they were.
    registry.kept(|now| {
        for ((repository, _), bytes) in &mut now.blobs {
            if *repository == steps && !bytes.starts_with(b"{") {
                bytes.pop();
            }
        }
    });
    again("layers and contents");
    registry.kept(|now| now.blobs.clone_from(&kept.0));
    // A signed result of another step under this step's name.
    registry.kept(|now| {
        let images: Vec<_> = now.tags.keys().filter(|(_, tag)| tag.starts_with("image-")).cloned().collect();
        let other = now.tags[&images[0]].clone();
        now.tags.insert(images[1].clone(), other);
    });
    let said = again("a swapped name");
    assert!(said.err.contains("it is about something else"), "{}", said.err);
    registry.kept(|now| now.tags.clone_from(&kept.1));
    // Nobody whom the second machine trusts.
    fs::remove_dir_all(two.second.store()).unwrap();
    let own = two
        .key()
        .replace(two.first.path().parent().unwrap().to_str().unwrap(), two.second.path().parent().unwrap().to_str().unwrap());
    let from = prefix(&registry);
    let said = run(&two.second, &["--json", "build", "--cache-from", &from, "--cache-key", &own], 0);
    assert!(said.err.contains("E02, no key that is trusted signed it") && recalled(&said).is_empty(), "{}", said.err);
    assert_eq!(digests(&said), built);
    let said = run(&two.second, &["build", "--cache-from", &from], 2);
    assert!(said.err.contains("no key is trusted"), "{}", said.err);
}

#[test]
fn a_build_that_is_killed_while_it_shares_or_takes_leaves_nothing_half() {
    let two = Two::new();
    let (stop, count) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
    let (at, seen) = (Arc::clone(&stop), Arc::clone(&count));
    let silent = Arc::new(AtomicBool::new(false));
    let reached = Arc::clone(&silent);
    let registry = Registry::start(Setup { referrers: true, ..Setup::default() }, move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) >= at.load(Ordering::SeqCst) {
            reached.store(true, Ordering::SeqCst);
            return Act::Silence;
        }
        Act::Honest
    });
    let kill = |project: &Project, arguments: &[&str], after: usize| {
        silent.store(false, Ordering::SeqCst);
        count.store(0, Ordering::SeqCst);
        stop.store(after, Ordering::SeqCst);
        let mut child = command(project, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !silent.load(Ordering::SeqCst) {
            assert!(
                child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120),
                "request {after} never came"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        stop.store(usize::MAX, Ordering::SeqCst);
    };
    let (key, prefix) = (two.key(), prefix(&registry));
    let built = digests(&run(&two.first, &["--json", "build"], 0));
    let share = ["build", "--cache-to", &prefix];
    let take = ["build", "--cache-from", &prefix, "--cache-key", &key];
    for after in [3, 9, 20] {
        kill(&two.first, &share, after);
        // Whatever is there already is whole: it is taken, or it is not there.
        fs::remove_dir_all(two.second.store()).unwrap_or(());
        let said = two.take(&registry, &[], 0);
        assert!(digests(&said) == built && !said.err.contains("refused"), "killed at {after}: {}", said.err);
    }
    assert_eq!(two.share(&registry), built);
    for after in [2, 6, 11] {
        fs::remove_dir_all(two.second.store()).unwrap();
        kill(&two.second, &[&NOWHERE, &take[..]].concat(), after);
        run(&two.second, &["store", "verify"], 0);
        let said = two.take(&registry, &NOWHERE, 0);
        assert_eq!((digests(&said), recalled(&said).len()), (built.clone(), 2), "killed at {after}");
    }
}
