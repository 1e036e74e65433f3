//! `parvis release`, `promote`, `yank` and builds from kept packages: numbered sets in a registry.

use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::fakerepo::Repo;
use crate::kit::project::{Project, Said};
use crate::kit::world;

/// A project in version control, with a key and a registry.
struct Maker {
    _repo: Repo,
    project: Project,
}

impl Maker {
    fn new() -> Self {
        let repo = world::archive();
        let project = Project::sample(&repo);
        project.run(&["lock"], 0);
        project.write(".gitignore", "out\n");
        let maker = Self { _repo: repo, project };
        maker.project.git(&["init", "--quiet"]);
        maker.commit();
        maker.run(&["key", "new"], 0);
        maker
    }

    fn commit(&self) {
        self.project.git(&["add", "-A"]);
        self.project.git(&["commit", "--quiet", "--allow-empty", "-m", "all"]);
    }

    fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.project.parvis(arguments).env("PARVIS_PASSPHRASE", "correct horse").output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }

    fn release(&self, registry: &Registry, arguments: &[&str], code: i32) -> Said {
        let to = format!("{}/parish", registry.host());
        self.run(&[&["--json"], arguments, &["--to", &to]].concat(), code)
    }
}

fn answer(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

fn digest(release: &Value, image: &str) -> String {
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
    std::fs::remove_dir_all(maker.project.path().join("releases")).unwrap();
    // Each time the registry fails for good from another write on.
    for last in [1, writes / 3, writes / 2, writes - 3, writes - 1] {
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
        std::fs::remove_dir_all(maker.project.path().join("releases")).unwrap();
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
    std::fs::remove_dir_all(maker.project.store()).unwrap();
    let from = format!("{}/parish", registry.host());
    let arguments = ["--json", "--mirror", "http://127.0.0.1:9", "build", "--locked", "--kept-in", &from];
    let built = answer(&maker.run(&arguments, 0));
    for image in built["images"].as_array().unwrap() {
        assert_eq!(image["manifest"], digest(&released, image["name"].as_str().unwrap()));
    }
}
