//! What parvis says of its images to those who must know: lists of what they consist of.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::Deb;
use crate::kit::project::Project;
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
