//! One image for two architectures: sent, signed, attested, looked at, fetched with all that is said of it, verified without a network, and
//! rebuilt.

use std::fs;

use parvis::image::oci;
use parvis::trust::bundle::Bundle;
use parvis::trust::statement::{Attachment, REBUILD, Statement};
use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::debreg::DebiansRegistry;
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::{ARCHITECTURE, Deb, KIN, OTHER};
use crate::kit::project::{Project, Said};
use crate::kit::world;
use crate::trust::{Person, blob_with};
use crate::upstream::{Released, record};

/// A project with an image for two architectures, each with a package of its own, built.
fn project() -> (Repo, Project) {
    let mut repo = world::archive();
    for architecture in [ARCHITECTURE, OTHER] {
        let page = Deb::new("page", "1.0-1").field("Architecture", architecture);
        repo.add(Suite::Main, &page.file("/usr/share/page.html", format!("<p>{architecture}\n")));
    }
    repo.publish();
    let project = Project::on(&repo);
    for_both(&project, OTHER);
    project.recipe("page", "description: A page.\nfrom: scratch\npackages: [page]\nconfig: {user: \"1001\"}\n");
    project.run(&["lock"], 0);
    for architecture in [ARCHITECTURE, OTHER] {
        project.run(&["build", "--platform", architecture], 0);
    }
    own_run(&project, &["key", "new"], 0);
    (repo, project)
}

/// Makes a project one for this machine's architecture and another.
fn for_both(project: &Project, other: &str) {
    let yaml = project.read("parvis.yaml");
    let (own, both) = (format!("architectures: [{ARCHITECTURE}]"), format!("architectures: [{ARCHITECTURE}, {other}]"));
    project.write("parvis.yaml", &yaml.replace(&own, &both));
}

fn own_run(project: &Project, arguments: &[&str], code: i32) -> Said {
    let output = project.parvis(arguments).env("PARVIS_PASSPHRASE", "correct horse").output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}{}", said.out, said.err);
    said
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// Somebody who trusts the key of the project.
fn parish(project: &Project) -> Person {
    let parish = Person::new();
    let key = project.path().parent().unwrap().join(".config/parvis/keys/release.pub");
    parish.run(&["trust", "add", key.to_str().unwrap(), "--name", "makers"], 0);
    parish
}

#[test]
fn two_architectures_are_sent_signed_attested_fetched_and_verified_without_a_network() {
    let (_repo, project) = project();
    for debians in [true, false] {
        let (debian, honest) = (debians.then(DebiansRegistry::start), (!debians).then(Registry::honest));
        let host =
            debian.as_ref().map_or_else(|| honest.as_ref().unwrap().host(), |registry| format!("127.0.0.1:{}", registry.port));
        let (to, name) = (format!("{host}/parish"), format!("{host}/parish/page:1"));
        let pushed = json(&project.run(&["push", "page", "--tag", "1", "--to", &to, "--json"], 0));
        let index = pushed["images"][0]["digest"].as_str().unwrap().to_owned();
        let parish = parish(&project);
        assert!(parish.run(&["verify", &name], 1).err.contains("E01"));
        own_run(&project, &["sign", &name], 0);
        assert!(own_run(&project, &["sign", &name], 0).out.contains("was signed already"));

        // Each architecture has statements of its own.
        let hung = json(&own_run(&project, &["attest", "page", "--to", &to, "--json"], 0));
        let images = hung["images"].as_array().unwrap();
        let platforms: Vec<&str> = images.iter().map(|image| image["platform"].as_str().unwrap()).collect();
        assert_eq!(platforms, [ARCHITECTURE, OTHER]);
        assert_ne!(images[0]["manifest"], images[1]["manifest"]);
        assert!(
            images.iter().all(|image| image["statements"].as_array().unwrap().iter().all(|said| said["new"] == true)),
            "{hung:#}"
        );
        let again = own_run(&project, &["attest", "page", "--to", &to], 0).out;
        assert_eq!(again.matches(": nothing new\n").count(), 2, "{again}");

        let manifests: Vec<String> = images.iter().map(|image| image["manifest"].as_str().unwrap().to_owned()).collect();
        parish.run(&["verify", &name], 0);
        for manifest in &manifests {
            parish.run(&["verify", &format!("{to}/page@{manifest}")], 0);
        }
        for (platform, manifest) in platforms.iter().zip(&manifests) {
            let found = json(&parish.run(&["inspect", &name, "--json", "--platform", platform], 0));
            assert_eq!((found["index"].as_str(), found["manifest"].as_str()), (Some(&*index), Some(&**manifest)));
            assert!(found["packages"].as_array().unwrap().iter().any(|package| package["name"] == "page"), "{found:#}");
            let said = found["referrers"].as_array().unwrap();
            assert!(said.iter().all(|said| said["checked"] == "good" && said["signer"]["name"] == "makers"), "{found:#}");
            let of = |what: &str| said.iter().filter(|said| said["of"] == what).count();
            assert_eq!((of("index"), of("image")), (2, 2 + 3), "both forms of the signature, and three statements");
        }
        let said = parish.run(&["inspect", &name, "--platform", "riscv64"], 2).err;
        assert!(said.contains("not one that is meant") && said.contains("linux/amd64, linux/arm64"), "{said}");

        let (whole, one) = (parish.path("whole"), parish.path("one.tar"));
        let (whole_text, one_text) = (whole.to_str().unwrap().to_owned(), one.to_str().unwrap().to_owned());
        let pulled = json(&parish.run(&["pull", &name, "--json", "--output", &whole_text], 0));
        assert_eq!((pulled["digest"].as_str(), pulled["referrers"].as_u64()), (Some(&*index), Some(3 * 2 + 2 * 3)));
        let said = parish.run(&["pull", &name, "--platform", OTHER, "--output", &one_text], 0).out;
        assert!(said.contains("with 5 that are said of it: `parvis verify` needs no network"), "{said}");
        let before = fs::read(whole.join("index.json")).unwrap();
        parish.run(&["pull", &name, "--output", &whole_text], 0);
        assert_eq!(fs::read(whole.join("index.json")).unwrap(), before, "nothing changes when nothing changed");

        // No registry any more.
        drop((debian, honest));
        assert!(parish.run(&["verify", &name], 3).err.contains("E11"));
        for place in [&whole_text, &one_text] {
            let found = json(&parish.run(&["verify", "--json", place], 0));
            let checks: Vec<&str> =
                found["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
            assert_eq!(checks, ["signature", "name", "blobs"], "{place}");
            let refused = Person::new().run(&["verify", place], 1).err;
            assert!(refused.contains("E02"), "{refused}");
        }
        let found = json(&parish.run(&["inspect", "--json", &whole_text, "--platform", OTHER], 0));
        assert_eq!(found["referrers"].as_array().unwrap().len(), 2 + 2 + 3);
        let layer = blob_with(&whole, "\"history\"");
        let mut bytes = fs::read(&layer).unwrap();
        bytes[20] ^= 1;
        fs::write(&layer, bytes).unwrap();
        assert!(parish.run(&["verify", &whole_text], 1).err.contains("E03"));
    }
}

#[test]
fn what_is_said_of_an_image_and_damaged_does_not_keep_the_image_from_coming() {
    let (_repo, project) = project();
    let registry = Registry::honest();
    let (to, name) = (format!("{}/parish", registry.host()), format!("{}/parish/page:1", registry.host()));
    project.run(&["push", "page", "--tag", "1", "--to", &to], 0);
    let parish = parish(&project);
    let out = parish.path("unsigned");
    let said = parish.run(&["pull", &name, "--output", out.to_str().unwrap()], 0).out;
    assert!(said.contains("nothing is said of it there: it is not signed"), "{said}");
    own_run(&project, &["sign", &name], 0);
    // Every bundle is damaged: the older form still says who signed it.
    registry.kept(|kept| {
        for bytes in kept.blobs.values_mut().filter(|bytes| bytes.windows(12).any(|part| part == b"dsseEnvelope")) {
            bytes[40] ^= 1;
        }
    });
    let out = parish.path("damaged");
    let said = parish.run(&["pull", &name, "--output", out.to_str().unwrap()], 0);
    assert!(said.err.contains("3 of what is said of the image was left there"), "{}", said.err);
    parish.run(&["verify", out.to_str().unwrap()], 0);

    // A registry that does not let its lists be read.
    let registry = Registry::start(Setup { referrers: true, ..Setup::default() }, |request| {
        if request.path.contains("/referrers/") { Act::refuse(403, "DENIED", "not for you") } else { Act::Honest }
    });
    let (to, name) = (format!("{}/parish", registry.host()), format!("{}/parish/page:1", registry.host()));
    project.run(&["push", "page", "--tag", "1", "--to", &to], 0);
    let out = parish.path("closed");
    let said = parish.run(&["pull", &name, "--output", out.to_str().unwrap()], 0);
    assert!(said.err.contains("was not fetched") && said.err.contains("not for you"), "{}", said.err);
    assert!(parish.run(&["verify", out.to_str().unwrap()], 1).err.contains("E01"));
}

const OLD: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
const FIX: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001.");

fn package(name: &str, version: &str, architecture: &str) -> Deb {
    let uploads = if version == OLD.0 { vec![OLD] } else { vec![FIX, OLD] };
    let content = format!("{name} {version} for {architecture}\n");
    Deb::new(name, version)
        .field("Architecture", architecture)
        .file(&format!("/usr/share/{name}.txt"), content)
        .changelog(&uploads)
}

/// A release of three images for two architectures, and an archive that has since fixed one package for both and one for the other alone.
fn released(kin: &str) -> Released {
    let mut repo = world::archive();
    for name in ["page", "note", "still"] {
        repo.add(Suite::Main, &package(name, OLD.0, ARCHITECTURE)).add(Suite::Main, &package(name, OLD.0, kin));
    }
    repo.publish();
    let project = Project::on(&repo);
    for_both(&project, kin);
    for name in ["page", "note", "still"] {
        let recipe = format!("description: A file.\nfrom: scratch\npackages: [{name}]\nconfig: {{user: \"1001\"}}\n");
        project.recipe(name, &recipe);
    }
    let mut released = Released::of(repo, project);
    released.repo.date += 60;
    for (name, architecture) in [("page", ARCHITECTURE), ("page", kin), ("note", kin)] {
        released.repo.add(Suite::Security, &package(name, FIX.0, architecture));
    }
    released.repo.publish();
    released
}

#[test]
fn one_rebuild_is_of_both_architectures_and_a_registry_has_it_as_a_whole() {
    // Where a machine runs no programs but its own, the other architecture is left out.
    let Some(kin) = KIN else { return };
    let released = released(kin);
    let parish = released.trusting();
    let said = parish.run(&["rebuild", "--dry-run"], 0).out;
    assert!(said.contains("    in page\n") && said.contains(&format!("    in note (only for {kin})\n")), "{said}");
    assert!(said.contains(&format!("for the architectures {ARCHITECTURE}, {kin}\n")), "{said}");
    let said = parish.run(&["rebuild", "--no-passphrase"], 0);
    assert!(said.err.contains(&format!("the images for {kin} are not tested")), "{}", said.err);
    assert!(!said.err.contains("nobody signed images of"), "both were compared with the release: {}", said.err);
    let record = record(&parish, "1.4.0-sec.1");
    crate::kit::schema::assert_fits("rebuild", &record);
    let of = |list: &str, key: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        record[list].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one[key]))).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, platform)| ((*name).to_owned(), (*platform).to_owned())).collect()
    };
    assert_eq!(of("images", "platform"), pairs(&[("page", ARCHITECTURE), ("note", kin), ("page", kin)]));
    assert_eq!(of("all", "platform").len(), 6);
    assert_eq!((&record["untouched"], &record["untested"]), (&serde_json::json!(["still"]), &serde_json::json!([kin])));
    // What is signed is each manifest, and each image as a whole.
    let bundle = Bundle::parse(parish.read("rebuilds/1.4.0-sec.1/rebuild.sigstore.json").as_bytes()).unwrap();
    let subjects = Statement::parse(&bundle.payload).unwrap().subjects;
    let subjects: Vec<(String, String)> =
        subjects.into_iter().map(|subject| (subject.name, subject.digest.to_string())).collect();
    assert_eq!(subjects, [of("all", "manifest"), of("indexes", "digest")].concat());
    let report = parish.read("rebuilds/1.4.0-sec.1/report.md");
    assert!(report.contains(&format!("Whether the images for {kin} do what they should")), "{report}");
    let verify = |target: &str, code: i32| parish.run(&["verify", target], code);
    for target in ["rebuilds/1.4.0-sec.1", "out"] {
        verify(parish.path().join(target).to_str().unwrap(), 0);
    }

    let to = format!("{}/paroisse", released.registry.host());
    let push = |more: &[&str]| parish.run(&[&["push", "--tag", "1.4.0-sec.1", "--to", &to], more].concat(), 0).out;
    push(&[]);
    let again = push(&["--platform", kin, "--platform", ARCHITECTURE]);
    assert_eq!(again.matches("nothing to push").count(), 3, "the order in which they are named changes nothing: {again}");
    for (name, digest) in of("indexes", "digest").into_iter().chain(of("all", "manifest")) {
        let way = "is the security rebuild 1.4.0-sec.1, rebuilt by parish (";
        assert!(verify(&format!("{to}/{name}@{digest}"), 0).out.contains(way));
        let said = verify(&format!("{to}/{name}:1.4.0-sec.1"), 0).out;
        assert!(said.contains(way) && said.contains("of maker ("), "{said}");
    }
    let whole = parish.path().with_file_name("whole");
    parish.run(&["pull", &format!("{to}/page:1.4.0-sec.1"), "--output", whole.to_str().unwrap()], 0);
    verify(whole.to_str().unwrap(), 0);

    // Another list of the same manifests, under the tag and with the statement hung on it, is none that anybody signed.
    let tag = released.registry.tag("paroisse/page", "1.4.0-sec.1").unwrap();
    let (kind, honest) = released.registry.kept(|kept| kept.manifests[&("paroisse/page".to_owned(), tag)].clone());
    let mut lists = oci::parse_index(&honest).unwrap().manifests;
    lists.reverse();
    for forged in [lists.clone(), lists[..1].to_vec()] {
        let forged = oci::write_index(&forged).unwrap();
        let statement = fs::read(parish.path().join("rebuilds/1.4.0-sec.1/rebuild.sigstore.json")).unwrap();
        let hung = Attachment::of(statement, REBUILD, &forged.descriptor()).unwrap();
        released.registry.put_manifest("paroisse/page", &kind, &forged.bytes, Some("1.4.0-sec.1"));
        released.registry.put_blob("paroisse/page", &hung.bundle);
        released.registry.put_blob("paroisse/page", oci::EMPTY_BYTES);
        released.registry.put_manifest("paroisse/page", oci::MANIFEST, &hung.artifact.bytes, None);
        let said = verify(&format!("{to}/page:1.4.0-sec.1"), 1);
        assert!(said.err.contains("refused, E01: no signature"), "{}", said.err);
    }
}

#[test]
fn an_architecture_that_this_machine_cannot_run_is_left_out_and_said() {
    let released = released(OTHER);
    let parish = released.trusting();
    let said = parish.run(&["rebuild", "--no-passphrase"], 0);
    if parish.path().join("rebuilds/1.4.0-sec.1/report.md").exists() && said.err.contains("are not tested") {
        return; // It is emulated here.
    }
    assert!(said.err.contains(&format!("cannot run its programs: {OTHER}")), "{}", said.err);
    let record = record(&parish, "1.4.0-sec.1");
    assert_eq!((&record["left_out"], &record["indexes"]), (&serde_json::json!([OTHER]), &serde_json::json!([])));
    let to = format!("{}/paroisse", released.registry.host());
    parish.run(&["push", "--tag", "1.4.0-sec.1", "--to", &to, "--platform", ARCHITECTURE], 0);
    assert!(parish.run(&["verify", &format!("{to}/page:1.4.0-sec.1")], 0).out.contains("is the security rebuild 1.4.0-sec.1"));
}
