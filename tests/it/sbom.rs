//! What parvis says of its images to those who must know: lists of what they consist of.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use parvis::edge::keys;
use parvis::edge::layout::{self, Handed};
use parvis::edge::registry::{Access, Remote};
use parvis::image::archive::TarFiles;
use parvis::image::layout::{Form, Layout};
use parvis::image::oci;
use parvis::image::repository::Repository;
use parvis::model::digest::{BlobDigest, FileDigest};
use parvis::model::lock::Lock;
use parvis::trust::bundle::Bundle;
use parvis::trust::key::PublicKey;
use parvis::trust::statement::Statement;
use serde_json::Value;

use crate::kit::badreg::{Act, Registry, Setup, registry_options};
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said};
use crate::kit::world;

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
    Files: *\nCopyright: 2020 Nobody\nLicense: GPL-2+ or Expat\n\n\
    Files: door.c\nCopyright: nobody\nLicense: public-domain\n It belongs to nobody.\n";

/// Returns an archive with packages of every kind of documentation, and a project with images of them.
pub fn project() -> (Repo, Project) {
    let mut repo = world::archive();
    let debs = [
        Deb::new("door", "1:2.0-1+b1")
            .field("Source", "doors (1:2.0-1)")
            .field("Homepage", "https://door.example/")
            .depends("door-data, libfoo")
            .file("/usr/share/doc/door-data/copyright", COPYRIGHT)
            .symlink("/usr/share/doc/door", "door-data"),
        Deb::new("door-data", "1:2.0-1").field("Source", "doors").file("/usr/share/door", "a door\n"),
        Deb::new("libdoor++1", "3").file("/usr/share/doc/libdoor++1/copyright", "It may be used by everybody.\n"),
        Deb::new("loop", "1").symlink("/usr/share/doc/loop", "loop"),
    ];
    for deb in &debs {
        repo.add(Suite::Main, deb);
    }
    repo.publish();
    let project = Project::sample(&repo);
    project.recipe("doors", "description: Doors.\nfrom: base\npackages: [door, libdoor++1, loop]\nremove: [/usr/share/doc]\n");
    project.recipe(
        "house",
        "description: A house.\nfrom: base\ncopy:\n  - {from: app, path: /srv, to: /house}\n  - {from: doors, path: /usr/share/door, to: /house/door}\n",
    );
    project.run(&["lock"], 0);
    (repo, project)
}

/// Returns a list in a format.
fn list(project: &Project, image: &str, format: &str) -> Value {
    serde_json::from_str(&project.run(&["sbom", image, "--format", format], 0).out).unwrap()
}

/// Returns what a list of SPDX says of each package, by name; a source package by its name after `source `.
fn packages(spdx: &Value) -> BTreeMap<String, &Value> {
    let name = |package: &Value| {
        let name = package["name"].as_str().unwrap();
        if package["primaryPackagePurpose"] == "SOURCE" { format!("source {name}") } else { name.to_owned() }
    };
    spdx["packages"].as_array().unwrap().iter().map(|package| (name(package), package)).collect()
}

/// Returns the relations of a list of SPDX, by the names of packages and files.
fn relations(spdx: &Value) -> Vec<String> {
    let mut names = BTreeMap::from([("SPDXRef-DOCUMENT", "the list")]);
    for (list, name) in [("packages", "name"), ("files", "fileName")] {
        let entries = spdx[list].as_array().unwrap().iter();
        names.extend(entries.map(|entry| (entry["SPDXID"].as_str().unwrap(), entry[name].as_str().unwrap())));
    }
    let name = |relation: &Value, key: &str| names[relation[key].as_str().unwrap()].to_owned();
    let relations = spdx["relationships"].as_array().unwrap().iter();
    relations
        .map(|relation| {
            let kind = relation["relationshipType"].as_str().unwrap();
            format!("{} {kind} {}", name(relation, "spdxElementId"), name(relation, "relatedSpdxElement"))
        })
        .collect()
}

#[test]
fn a_list_names_every_package_with_source_licence_maintainer_and_digest() {
    let (_repo, project) = project();
    project.run(&["build", "doors"], 0);
    let spdx = list(&project, "doors", "spdx");
    let packages = packages(&spdx);
    let door = packages["door"];
    assert_eq!(door["versionInfo"], "1:2.0-1+b1");
    assert_eq!(door["supplier"], "Person: Nobody (nobody@invalid)");
    assert_eq!(door["homepage"], "https://door.example/");
    let licence = door["licenseDeclared"].as_str().unwrap();
    let text = &spdx["hasExtractedLicensingInfos"][0];
    assert_eq!(licence, format!("{} AND (GPL-2.0-or-later OR MIT)", text["licenseId"].as_str().unwrap()), "behind a link");
    assert_eq!(text["extractedText"], "It belongs to nobody.");
    let locator = door["externalRefs"][0]["referenceLocator"].as_str().unwrap();
    assert!(locator.starts_with("pkg:deb/debian/door@1:2.0-1%2Bb1?arch=") && locator.ends_with("&distro=debian-13"), "{locator}");
    let lock = project.read("parvis.lock");
    let sha256 = lock.split_once("name = \"door\"").unwrap().1.split_once("sha256 = \"").unwrap().1.split('"').next().unwrap();
    assert_eq!(door["checksums"][0]["checksumValue"], sha256);
    let unread = packages["libdoor++1"];
    assert_eq!(unread["licenseDeclared"], "NOASSERTION");
    assert!(unread["licenseComments"].as_str().unwrap().contains("/usr/share/doc/libdoor++1/copyright"));
    assert_eq!(packages["loop"]["licenseComments"], "the package has no copyright file");
    assert_eq!(packages["libfoo"]["versionInfo"], "1.0-1+deb13u1", "the parent's packages are the image's, too");
    assert_eq!(packages["source doors"]["versionInfo"], "1:2.0-1");

    let relations = relations(&spdx);
    for expected in [
        "the list DESCRIBES tests/doors",
        "tests/doors DESCENDANT_OF tests/base",
        "tests/doors CONTAINS door",
        "tests/doors CONTAINS libfoo",
        "tests/base CONTAINS libfoo",
        "door DEPENDS_ON door-data",
        "door DEPENDS_ON libfoo",
        "door GENERATED_FROM doors",
        "door-data GENERATED_FROM doors",
        "./etc/profile GENERATED_FROM base-files",
    ] {
        assert!(relations.iter().any(|relation| relation == expected), "{expected}:\n{}", relations.join("\n"));
    }
    for unexpected in ["tests/base CONTAINS door", "tests/doors CONTAINS doors"] {
        assert!(!relations.iter().any(|relation| relation == unexpected), "{unexpected}");
    }
}

#[test]
fn files_of_no_package_are_named_with_the_line_that_put_them_there() {
    let (_repo, project) = project();
    project.run(&["build", "house"], 0);
    let spdx = list(&project, "house", "spdx");
    let who: BTreeMap<&str, &str> = spdx["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["fileName"].as_str().unwrap(), file["comment"].as_str().unwrap()))
        .collect();
    assert_eq!(who["./etc/profile"], "made or changed by a maintainer script of base-files");
    let copied = "copied from the image app, by recipes/house.yaml, line 4";
    assert_eq!(who["./house/welcome.txt"], format!("put there by recipes/app.yaml, line 7; {copied}"));
    assert_eq!(who["./house/made"], format!("made or changed by the command at recipes/app.yaml, line 10; {copied}"));
    assert!(who["./var/lib/dpkg/status"].starts_with("written by parvis"));
    assert!(!who.contains_key("./house/door"), "it belongs to a package");
    assert!(!who.contains_key("./usr/share/foo/00.txt"), "it belongs to a package");
    let packages = packages(&spdx);
    let note = packages["door-data"]["comment"].as_str().unwrap();
    assert!(note.starts_with("not installed: only some of its files, copied from the image doors"), "{note}");
    assert!(!packages.contains_key("app"), "nothing of it is there");

    let cyclonedx = list(&project, "house", "cyclonedx");
    let components = cyclonedx["components"].as_array().unwrap();
    let welcome = components.iter().find(|component| component["name"] == "/house/welcome.txt").unwrap();
    assert_eq!(welcome["properties"][0]["value"], who["./house/welcome.txt"]);
    assert_eq!(components.iter().filter(|component| component["type"] == "file").count(), who.len());
}

#[test]
fn a_list_is_the_same_wherever_it_is_made_and_whatever_else_was_decided() {
    let (repo, project) = project();
    project.run(&["build", "doors"], 0);
    let other = Project::on(&repo);
    for file in ["recipes/base.yaml", "recipes/app.yaml", "recipes/doors.yaml", "recipes/house.yaml", "parvis.lock"] {
        other.write(file, &project.read(file));
    }
    other.write("images/app/welcome.txt", "welcome\n");
    other.run(&["build", "doors"], 0);
    for format in ["spdx", "cyclonedx"] {
        let lists = [&project, &other].map(|project| {
            let mut command = project.parvis(&["sbom", "doors", "--format", format]);
            command.env("TZ", "Pacific/Kiritimati").env("SOURCE_DATE_EPOCH", "1").output().unwrap().stdout
        });
        assert!(!lists[0].is_empty() && lists[0] == lists[1], "{format}");
    }
    // What the store has lost is fetched again.
    std::fs::remove_dir_all(project.store().join("records/package-1")).unwrap();
    assert_eq!(list(&project, "doors", "spdx"), list(&other, "doors", "spdx"));
}

#[test]
fn a_list_is_made_of_built_images_only_and_written_whole() {
    let (_repo, project) = project();
    let said = project.run(&["sbom", "doors"], 1);
    assert!(said.err.contains("`doors` is not built") && said.err.contains("parvis build doors"), "{}", said.err);
    let said = project.run(&["sbom", "dors"], 2);
    assert!(said.err.contains("did you mean `doors`?"), "{}", said.err);
    project.run(&["build", "doors"], 0);
    let file = project.path().join("doors.json");
    let said = project.run(&["sbom", "doors", "--output", file.to_str().unwrap(), "--json"], 0);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(project.read("doors.json"), project.run(&["sbom", "doors"], 0).out);
    assert!(answer["packages"].as_u64().unwrap() > 8 && answer["sources"].as_u64().unwrap() > 2, "{answer}");
    let said = project.run(&["sbom", "doors", "--output", "/dev/full/x"], 3);
    assert!(said.err.contains("`/dev/full/x`"), "{}", said.err);
}

#[test]
fn packages_of_composer_are_listed_also_where_they_were_copied() {
    let repo = crate::composer::archive();
    let (project, server, _folder) = crate::composer::project(&repo);
    project.recipe("web", "description: The site.\nfrom: base\ncopy:\n  - {from: files, path: /app, to: /app}\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    for image in ["files", "web"] {
        let spdx = list(&project, image, "spdx");
        let packages = packages(&spdx);
        let package = packages["acme/a"];
        assert_eq!(package["licenseDeclared"], "MIT", "{image}");
        assert_eq!(package["downloadLocation"], format!("{}/a-1.zip", server.url()), "{image}");
        assert_eq!(package["externalRefs"][0]["referenceLocator"], "pkg:composer/acme/a@1.0", "{image}");
        assert!(package["comment"].as_str().unwrap().ends_with("source reference abc"), "{package}");
        let relations = relations(&spdx);
        for expected in [
            format!("tests/{image} CONTAINS acme/a"),
            format!("tests/{image} CONTAINS font"),
            "far PATCH_FOR acme/a".to_owned(),
            "near PATCH_FOR acme/a".to_owned(),
        ] {
            assert!(relations.contains(&expected), "{image}, {expected}:\n{}", relations.join("\n"));
        }
        let of_package = |file: &Value| file["fileName"].as_str().unwrap().contains("vendor/acme/a/");
        assert!(!spdx["files"].as_array().unwrap().iter().any(of_package), "they belong to the package");
        let cyclonedx = list(&project, image, "cyclonedx");
        let part = cyclonedx["components"].as_array().unwrap().iter().find(|part| part["name"] == "acme/a").unwrap();
        assert_eq!(part["pedigree"]["patches"].as_array().unwrap().len(), 2, "{part}");
    }
    assert!(!packages(&list(&project, "base", "spdx")).contains_key("acme/a"));
}

/// Writes the statements on an image without signatures and returns one of them.
fn statement(project: &Project, image: &str, kind: &str) -> Value {
    let folder = project.path().join("statements");
    std::fs::create_dir_all(&folder).unwrap();
    project.run(&["attest", image, "--output", folder.to_str().unwrap()], 0);
    serde_json::from_str(&project.read(&format!("statements/{image}.{kind}.json"))).unwrap()
}

#[test]
fn a_provenance_names_everything_that_went_in_and_every_program_that_ran() {
    let (_repo, project) = project();
    let digests = crate::pipeline::digests(&project.run(&["build", "house", "--json"], 0).out);
    let provenance = statement(&project, "house", "provenance");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(provenance["subject"][0]["digest"]["sha256"], digests["house"].trim_start_matches("sha256:"));
    let definition = &provenance["predicate"]["buildDefinition"];
    let inputs: BTreeMap<&str, &str> = definition["resolvedDependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| (input["name"].as_str().unwrap(), input["digest"]["sha256"].as_str().unwrap_or("git")))
        .collect();
    let sum = |path: &str| FileDigest::of(project.read(path).as_bytes()).hex();
    for path in
        ["parvis.yaml", "parvis.lock", "recipes/house.yaml", "recipes/base.yaml", "recipes/app.yaml", "images/app/welcome.txt"]
    {
        assert_eq!(inputs[path], sum(path), "{path}");
    }
    let lock = Lock::parse(&project.read("parvis.lock")).unwrap();
    for package in &lock.packages {
        assert_eq!(inputs[package.file.rsplit('/').next().unwrap()], package.sha256.hex(), "{}", package.name);
    }
    for archive in &lock.archives {
        let name = format!("{} dists/{}/InRelease", archive.archive, archive.suite);
        assert_eq!(inputs[name.as_str()], archive.inrelease.hex());
    }
    assert!(!inputs.contains_key("project"), "git knows nothing of it");
    let ran: Vec<String> = definition["internalParameters"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| !step["ran"].is_null())
        .map(|step| format!("{} {}", step["image"].as_str().unwrap(), step["ran"]))
        .collect();
    let command = r#"app {"command":["sh","-c","echo made > /srv/made"]}"#;
    let scripts = r#" "maintainer scripts""#;
    assert_eq!(ran, [format!("base{scripts}"), format!("app{scripts}"), command.to_owned(), format!("doors{scripts}")]);
    assert_eq!(definition["internalParameters"]["network"], "none");
}

#[test]
fn a_provenance_names_the_commit_and_says_what_differs_from_it() {
    let (_repo, project) = project();
    project.run(&["build", "app"], 0);
    project.git(&["init", "--quiet"]);
    project.write(".gitignore", "out\nstatements\n");
    project.git(&["add", "-A"]);
    project.git(&["commit", "--quiet", "-m", "all"]);
    let id =
        String::from_utf8(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(project.path()).output().unwrap().stdout)
            .unwrap();
    let said = |project: &Project| {
        let definition = statement(project, "app", "provenance")["predicate"]["buildDefinition"].clone();
        let commit = definition["resolvedDependencies"][0].clone();
        assert_eq!((&commit["name"], commit["digest"]["gitCommit"].as_str()), (&Value::from("project"), Some(id.trim())));
        definition["internalParameters"]["changedSinceCommit"].clone()
    };
    assert_eq!(said(&project), serde_json::json!([]));
    project.write("images/app/notes.txt", "new\n");
    project.write("recipes/house.yaml", "description: Another.\nfrom: base\n");
    project.write("README.md", "what is no input\n");
    assert_eq!(said(&project), serde_json::json!(["images/app/notes.txt", "recipes/house.yaml"]));
}

#[test]
fn results_of_tests_are_said_of_the_image_that_was_tested_and_no_other() {
    let (_repo, project) = project();
    project.run(&["build", "app"], 0);
    let folder = project.path().join("statements");
    std::fs::create_dir_all(&folder).unwrap();
    let said = project.run(&["attest", "app", "--output", folder.to_str().unwrap()], 0);
    assert!(said.err.contains("parvis test --attest app") && !folder.join("app.tests.json").exists(), "{}", said.err);
    project.run(&["test", "app", "--attest"], 0);
    let results = statement(&project, "app", "tests");
    assert_eq!(results["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
    let predicate = &results["predicate"];
    assert_eq!((&predicate["result"], &predicate["passedTests"][0]), (&"PASSED".into(), &"line 15: app hello".into()));
    assert_eq!(
        predicate["configuration"][0]["digest"]["sha256"],
        FileDigest::of(project.read("recipes/app.yaml").as_bytes()).hex()
    );

    // Another test of the same image was not tried yet.
    let recipe = project.read("recipes/app.yaml").replace("[\"app hello\"]", "[\"app goodbye\"]");
    project.write("recipes/app.yaml", &recipe);
    std::fs::remove_file(folder.join("app.tests.json")).unwrap();
    project.run(&["attest", "app", "--output", folder.to_str().unwrap()], 0);
    assert!(!folder.join("app.tests.json").exists());
    project.run(&["test", "app", "--attest"], 1);
    let predicate = statement(&project, "app", "tests")["predicate"].clone();
    assert_eq!((&predicate["result"], &predicate["failedTests"][0]), (&"FAILED".into(), &"line 15: app hello".into()));
}

/// Puts a built image into a registry.
fn push(project: &Project, registry: &Registry, repository: &str, digest: &str) {
    let blob = |digest: &str| std::fs::read(project.path().join("out/blobs").join(digest.replace(':', "/"))).unwrap();
    let manifest = blob(digest);
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    for part in parsed["layers"].as_array().unwrap().iter().chain([&parsed["config"]]) {
        registry.put_blob(repository, &blob(part["digest"].as_str().unwrap()));
    }
    registry.put_manifest(repository, "application/vnd.oci.image.manifest.v1+json", &manifest, Some("dev"));
}

#[test]
fn everything_that_is_said_hangs_on_the_image_signed_and_once() {
    let (_repo, project) = project();
    let digests = crate::pipeline::digests(&project.run(&["build", "app", "--json"], 0).out);
    project.run(&["test", "app", "--attest"], 0);
    let own = |arguments: &[&str], code: i32| {
        let output = project.parvis(arguments).env("PARVIS_PASSPHRASE", "correct horse").output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}{}", said.out, said.err);
        assert!(!said.out.contains("horse") && !said.err.contains("horse"));
        said
    };
    own(&["key", "new"], 0);
    let key = keys::public_key(&project.path().parent().unwrap().join(".config/parvis/keys/release.pub")).unwrap();
    for referrers in [true, false] {
        let registry = Registry::start(Setup { referrers, ..Setup::default() }, |_| Act::Honest);
        let to = format!("{}/parish", registry.host());
        let said = own(&["attest", "app", "--to", &to], 1);
        assert!(said.err.contains("has no image") && said.err.contains("parvis push app"), "{}", said.err);
        assert!(registry.kept(|kept| kept.manifests.is_empty()), "nothing is sent for an image that is not there");
        push(&project, &registry, "parish/app", &digests["app"]);
        let before = registry.tag("parish/app", "dev");
        let said = own(&["attest", "app", "--to", &to], 0);
        assert!(said.out.contains(": spdx, cyclonedx, provenance, tests\nby the key "), "{}", said.out);
        let requests = registry.lines().len();
        let said = own(&["attest", "app", "--to", &to], 0);
        assert!(said.out.contains(": nothing new\n"), "{}", said.out);
        let writes = |lines: &[String]| lines.iter().filter(|line| !line.starts_with("GET") && !line.starts_with("HEAD")).count();
        assert_eq!(writes(&registry.lines()[requests..]), 0, "{:?}", &registry.lines()[requests..]);
        assert_eq!(registry.tag("parish/app", "dev"), before, "the image itself is as it was");

        let name = format!("{to}/app").parse().unwrap();
        let remote = Remote::open(&name, &registry_options(), Access::Read).unwrap();
        let subject = digests["app"].parse().unwrap();
        assert_eq!(said_of(&remote, subject, &key, &format!("{to}/app")), ALL);
    }
    let said = own(&["attest", "app", "--to", "127.0.0.1:1/x", "--key", "other"], 2);
    assert!(said.err.contains("no key `other`"), "{}", said.err);
    let said = own(&["attest", "app", "--builder", "me"], 2);
    assert!(said.err.contains("`me` is not an address"), "{}", said.err);

    let archive = project.path().join("app.tar");
    let archive = archive.to_str().unwrap();
    own(&["save", "app", "--output", archive], 0);
    let out = project.path().join("out");
    let subject: BlobDigest = digests["app"].parse().unwrap();
    let places = [
        (&["attest", "app"][..], out.as_path(), Form::Folder),
        (&["attest", "app", "--to", archive], Path::new(archive), Form::Archive),
    ];
    for (arguments, path, form) in places {
        let images = || with_layout(path, form, |layout| layout.images().to_vec());
        let before = images();
        let said = own(arguments, 0);
        assert!(
            said.out.starts_with("tests/app@") && said.out.contains(": spdx, cyclonedx, provenance, tests\n"),
            "{}",
            said.out
        );
        let said = own(arguments, 0);
        assert!(said.out.contains(": nothing new\n"), "{}", said.out);
        assert_eq!(images(), before, "the images are as they were");
        with_layout(path, form, |layout| assert_eq!(said_of(layout, subject, &key, "tests/app"), ALL));
    }
    own(&["build", "doors", "--output", project.path().join("elsewhere").to_str().unwrap()], 0);
    let said = own(&["attest", "doors"], 1);
    assert!(said.err.contains("has no image `doors` as it is built now"), "{}", said.err);
}

/// The kinds of statements that are made of an image with tests.
const ALL: [&str; 4] = [
    "https://cyclonedx.org/bom",
    "https://in-toto.io/attestation/test-result/v0.1",
    "https://slsa.dev/provenance/v1",
    "https://spdx.dev/Document",
];

/// Reads everything that is said of an image, which one key must have signed; returns the kinds, sorted.
fn said_of(place: &dyn Repository, subject: BlobDigest, key: &PublicKey, name: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    for referrer in place.referrers(&subject).unwrap() {
        let (_, bytes) = place.document(&referrer.digest).unwrap().unwrap();
        let artifact = oci::parse_artifact(&bytes).unwrap();
        assert_eq!(artifact.subject.unwrap().digest, subject);
        let mut bundle = Vec::new();
        let layer = &artifact.layers[0];
        place.blob(&layer.digest, layer.size).unwrap().unwrap().read_to_end(&mut bundle).unwrap();
        let bundle = Bundle::parse(&bundle).unwrap();
        assert!(bundle.is_signed_by(key));
        let statement = Statement::parse(&bundle.payload).unwrap();
        assert_eq!((statement.subjects[0].name.as_str(), statement.subjects[0].digest), (name, subject));
        kinds.push(statement.predicate_type);
    }
    kinds.sort();
    kinds
}

fn with_layout<T>(path: &Path, form: Form, look: impl FnOnce(&Layout<'_>) -> T) -> T {
    match layout::open(path).unwrap() {
        Handed::Folder(folder) => look(&Layout::open(&folder, "folder", form).unwrap()),
        Handed::File(file) => look(&Layout::open(&TarFiles::new(&file).unwrap(), "file", form).unwrap()),
    }
}
