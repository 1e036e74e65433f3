//! `parvis verify --rebuild`: somebody else makes a release again, and says whether it is the same, differs, or cannot be told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;

use parvis::model::digest::{BlobDigest, DiffId};
use parvis::trust::rebuilt::Rebuilt;
use serde_json::{Value, json};

use crate::kit::badreg::Registry;
use crate::kit::project::Said;
use crate::release::Maker;
use crate::trust::Person;

/// Somebody with a checkout of the project, who trusts the publisher's key and has a key of their own.
struct Third {
    person: Person,
    checkout: PathBuf,
}

impl Third {
    fn new(maker: &Maker) -> Self {
        let person = Person::new();
        let checkout = person.path("elsewhere/checkout");
        let output = Command::new("git").args(["clone", "--quiet"]).arg(maker.project.path()).arg(&checkout).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let third = Self { person, checkout };
        let key = maker.project.path().parent().unwrap().join(".config/parvis/keys/release.pub");
        third.person.run(&["trust", "add", key.to_str().unwrap()], 0);
        third
    }

    /// Verifies something by making it again. Nothing but the registry is to be had: the archive's address leads nowhere.
    fn again(&self, target: &str, arguments: &[&str], code: i32) -> Said {
        let all = ["-C", self.checkout.to_str().unwrap(), "--mirror", "http://127.0.0.1:9", "verify", "--rebuild", target];
        self.person.run(&[&all, arguments].concat(), code)
    }

    fn answer(&self, target: &str, arguments: &[&str], code: i32) -> Value {
        let said = self.again(target, &[&["--json"], arguments].concat(), code);
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let answer = document["rebuild"].clone();
        let validator = jsonschema::validator_for(&Rebuilt::schema()).unwrap();
        assert!(answer.is_null() || validator.is_valid(&answer), "{answer}");
        answer
    }
}

/// A project, its release 1.0.0 in a registry, and how one of its images is called there.
fn released() -> (Maker, Registry, String) {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.release(&registry, &["release", "1.0.0"], 0);
    let reference = format!("{}/parish/app:1.0.0", registry.host());
    (maker, registry, reference)
}

#[test]
fn somebody_else_makes_a_release_again_without_an_archive_and_signs_that_it_is_the_same() {
    let (maker, registry, reference) = released();
    let third = Third::new(&maker);
    third.person.run(&["key", "new", "parish"], 0);
    let answer = third.answer(&reference, &["--attest", "parish"], 0);
    assert_eq!((&answer["verdict"], &answer["origin"]), (&json!("same"), &json!("commit")), "{answer}");
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.iter().map(|image| image["name"].as_str().unwrap()).collect::<Vec<_>>(), ["app", "base"]);
    assert!(images.iter().all(|image| image["released"] == image["rebuilt"] && image["layers"].as_u64().unwrap() > 0));
    assert_eq!(answer["attested"].as_array().unwrap().len(), 2);
    // So are the lists of what is in them, in both forms, and the files of both downloads.
    let documents = answer["documents"].as_array().unwrap();
    assert!(documents.len() > 10 && documents.iter().all(|document| document["same"] == true), "{documents:#?}");
    let named = |ending: &str| documents.iter().filter(|document| document["name"].as_str().unwrap().ends_with(ending)).count();
    assert_eq!(
        ["sbom/app.spdx.json", "base.cdx.json", "/images.tar", "/compose.yaml"].map(named),
        [1, 1, 1, 2],
        "{documents:#?}"
    );
    // The verdict hangs on the image, and saying it again adds nothing.
    let summaries = |registry: &Registry| {
        let is_one =
            |(_, bytes): &&(String, Vec<u8>)| String::from_utf8_lossy(bytes).contains("slsa.dev/verification_summary/v1");
        registry.kept(|kept| kept.manifests.values().filter(is_one).count())
    };
    assert_eq!(summaries(&registry), 2);
    // The folder of downloads is made again the same way, also where it is not known to git.
    let folder = maker.project.path().join("out/release/1.0.0");
    fs::remove_dir_all(third.checkout.join(".git")).unwrap();
    let answer = third.answer(folder.to_str().unwrap(), &["--attest", "parish"], 0);
    assert_eq!((&answer["verdict"], &answer["origin"]), (&json!("same"), &json!("folder")), "{answer}");
    assert_eq!(summaries(&registry), 2);
    // Nothing of it is left: neither a second store nor a copy of the recipes.
    let left = fs::read_dir(third.person.path(".cache/parvis/tmp")).unwrap().count();
    assert_eq!(left, 0);
    // But a folder whose recipes are others proves nothing.
    fs::write(third.checkout.join("images/app/welcome.txt"), "another\n").unwrap();
    let said = third.again(&reference, &[], 3);
    assert!(said.err.contains("could not decide") && said.err.contains("nothing proves that it is the commit"), "{}", said.err);
}

#[test]
fn a_release_with_a_file_that_its_commit_does_not_have_is_named_by_file_and_recipe() {
    let maker = Maker::new();
    let registry = Registry::honest();
    // git is told to look away: what is released and signed is not what the commit has.
    maker.project.git(&["update-index", "--assume-unchanged", "images/app/welcome.txt"]);
    maker.project.write("images/app/welcome.txt", "a back door\n");
    maker.release(&registry, &["release", "1.0.0"], 0);
    let third = Third::new(&maker);
    let reference = format!("{}/parish/app:1.0.0", registry.host());
    third.person.run(&["verify", &reference], 0);
    let answer = third.answer(&reference, &[], 1);
    assert_eq!(answer["verdict"], "differs");
    let app = &answer["images"][0];
    assert_eq!((app["name"].as_str(), app["same"].as_bool()), (Some("app"), Some(false)));
    assert_eq!(answer["images"][1]["same"], true, "the other image is what it should be");
    let files = app["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!((&files[0]["path"], &files[0]["cause"]), (&json!("/srv/welcome.txt"), &json!("recipe")));
    let said = third.again(&reference, &["--lang", "fr"], 1);
    assert!(
        said.out.contains("/srv/welcome.txt: diffère (recipe app, line") && said.err.contains("différent : 1 images sur 2"),
        "{said:?}"
    );
    // A lock that the commit does not have is no better, though the release can be built from it.
    maker.project.git(&["update-index", "--assume-unchanged", "parvis.lock"]);
    maker.project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo, dash]\n");
    maker.run(&["lock"], 0);
    maker.commit();
    maker.release(&registry, &["release", "1.0.1"], 0);
    let third = Third::new(&maker);
    let said = third.again(&reference.replace("1.0.0", "1.0.1"), &[], 1);
    assert!(said.err.contains("was not made from the lock of its commit"), "{}", said.err);
}

#[test]
fn lists_and_bundle_files_that_the_commit_does_not_give_are_named_though_the_images_are_the_same() {
    let maker = Maker::new();
    let registry = Registry::honest();
    // git is told to look away again: neither file has a say in the images.
    let recipe = maker.project.read("recipes/app.yaml");
    let stack = "description: Another site.\nservices:\n  app: {image: app}\n";
    for (file, text) in [("recipes/app.yaml", format!("# A line more.\n{recipe}")), ("compose/site.yaml", stack.to_owned())] {
        maker.project.git(&["update-index", "--assume-unchanged", file]);
        maker.project.write(file, &text);
    }
    maker.release(&registry, &["release", "1.0.0"], 0);
    let third = Third::new(&maker);
    let reference = format!("{}/parish/app:1.0.0", registry.host());
    let answer = third.answer(&reference, &[], 1);
    assert_eq!(answer["verdict"], "differs");
    assert!(answer["images"].as_array().unwrap().iter().all(|image| image["same"] == true), "{answer}");
    let other = |document: &&Value| document["same"] == false;
    let others: Vec<&Value> = answer["documents"].as_array().unwrap().iter().filter(other).collect();
    let list = others.iter().find(|document| document["name"] == "sbom/app.spdx.json").unwrap();
    assert!(list["differences"].as_array().unwrap().iter().any(|part| part.as_str().unwrap().contains("line ")), "{list}");
    assert!(others.iter().any(|document| document["name"].as_str().unwrap().ends_with("/bundle.json")), "{others:#?}");
    let said = third.again(&reference, &["--lang", "fr"], 1);
    assert!(said.out.contains("sbom/app.spdx.json diffère") && said.err.contains("inventaires et fichiers signés"), "{said:?}");
}

/// Puts another layer with another library into the store of whoever makes the release, under the name of the honest one.
fn doctor(maker: &Maker) {
    let store = maker.project.store();
    let (mut doctored, honest) = (0, b"the library, version 1.0-1");
    for entry in fs::read_dir(store.join("records/layer-1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let mut record: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        let blob = |digest: &str| store.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        let stored = fs::read(blob(record["digest"].as_str().unwrap())).unwrap();
        let mut raw = Vec::new();
        flate2::read::MultiGzDecoder::new(&stored[..]).read_to_end(&mut raw).unwrap();
        let Some(at) = raw.windows(honest.len()).position(|window| window == honest) else { continue };
        raw[at..at + 3].copy_from_slice(b"BAD");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&raw).unwrap();
        let stored = encoder.finish().unwrap();
        let digest = BlobDigest::of(&stored);
        fs::write(blob(&digest.to_string()), &stored).unwrap();
        record["digest"] = json!(digest.to_string());
        record["size"] = json!(stored.len());
        record["diff_id"] = json!(DiffId::of(&raw).to_string());
        let content = serde_json::to_vec(&record).unwrap();
        let sum = parvis::model::digest::FileDigest::of(&content);
        let header = format!("parvis-record 1 {:016x} {sum}\n", content.len());
        fs::write(&path, [header.as_bytes(), &content].concat()).unwrap();
        doctored += 1;
    }
    assert!(doctored > 0, "no layer has the library");
    for kind in ["layers-1", "image-1"] {
        fs::remove_dir_all(store.join("records").join(kind)).unwrap();
    }
}

#[test]
fn a_signed_release_whose_layer_is_not_its_packages_is_named_by_file_and_package() {
    let maker = Maker::new();
    let registry = Registry::honest();
    maker.run(&["build"], 0);
    doctor(&maker);
    maker.release(&registry, &["release", "1.0.0"], 0);
    let third = Third::new(&maker);
    let reference = format!("{}/parish/base:1.0.0", registry.host());
    third.person.run(&["verify", &reference], 0);
    third.person.run(&["key", "new", "parish"], 0);
    let answer = third.answer(&reference, &["--attest", "parish"], 1);
    assert_eq!(answer["verdict"], "differs");
    for image in answer["images"].as_array().unwrap() {
        let files = image["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!((&files[0]["path"], &files[0]["owner"]), (&json!("/usr/lib/libfoo.so.1"), &json!("package libfoo")));
        assert!(files[0]["why"].as_str().unwrap().contains("the package `libfoo` 1.0-1"), "{files:?}");
    }
    let failed = registry.kept(|kept| {
        let blobs = kept.blobs.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        blobs.filter(|text| text.contains("dsseEnvelope")).count()
    });
    assert!(failed > 0 && answer["attested"].as_array().unwrap().len() == 2, "a bad verdict is signed as well");
}

#[test]
fn what_cannot_be_made_again_is_neither_the_same_nor_different() {
    let (maker, registry, reference) = released();
    let third = Third::new(&maker);
    // A stranger's key: the signature is refused, and nothing is built.
    let stranger = Third::new(&maker);
    stranger.person.run(&["trust", "remove", "release"], 0);
    let said = stranger.again(&reference, &[], 1);
    assert!(said.err.contains("E0"), "{}", said.err);
    // Another project, which does not know the commit.
    let other = Maker::new();
    other.project.write("recipes/base.yaml", "description: Another.\nfrom: scratch\npackages: [dash]\n");
    other.run(&["lock"], 0);
    let mut elsewhere = Third::new(&maker);
    elsewhere.checkout = other.project.path();
    let said = elsewhere.again(&reference, &["--attest", "nobody"], 2);
    assert!(said.err.contains("nobody"), "a key that is not there is found out first: {}", said.err);
    let answer = elsewhere.answer(&reference, &[], 3);
    assert!(
        answer["verdict"] == "undecided" && answer["reason"].as_str().unwrap().contains("are not those of the release"),
        "{answer}"
    );
    // The registry lost what the release was made from.
    registry.kept(|kept| kept.blobs.retain(|(repository, _), _| repository != "parish/packages"));
    let answer = third.answer(&reference, &[], 3);
    assert!(answer["verdict"] == "undecided" && answer["images"].as_array().unwrap().is_empty(), "{answer}");
    let said = third.again(&reference, &["--lang", "fr"], 3);
    assert!(said.err.contains("impossible de dire si tests 1.0.0"), "{}", said.err);
}
