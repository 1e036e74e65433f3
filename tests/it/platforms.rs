//! One image for two architectures: sent, signed, attested, looked at, fetched with all that is said of it, and verified without a network.

use std::fs;

use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup};
use crate::kit::debreg::DebiansRegistry;
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::{ARCHITECTURE, Deb, OTHER};
use crate::kit::project::{Project, Said};
use crate::kit::world;
use crate::trust::{Person, blob_with};

/// A project with an image for two architectures, each with a package of its own, built.
fn project() -> (Repo, Project) {
    let mut repo = world::archive();
    for architecture in [ARCHITECTURE, OTHER] {
        let page = Deb::new("page", "1.0-1").field("Architecture", architecture);
        repo.add(Suite::Main, &page.file("/usr/share/page.html", format!("<p>{architecture}\n")));
    }
    repo.publish();
    let project = Project::on(&repo);
    let yaml = project.read("parvis.yaml");
    let (own, both) = (format!("architectures: [{ARCHITECTURE}]"), format!("architectures: [{ARCHITECTURE}, {OTHER}]"));
    project.write("parvis.yaml", &yaml.replace(&own, &both));
    project.recipe("page", "description: A page.\nfrom: scratch\npackages: [page]\nconfig: {user: \"1001\"}\n");
    project.run(&["lock"], 0);
    for architecture in [ARCHITECTURE, OTHER] {
        project.run(&["build", "--platform", architecture], 0);
    }
    own_run(&project, &["key", "new"], 0);
    (repo, project)
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
