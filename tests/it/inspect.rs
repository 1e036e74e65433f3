//! `parvis inspect`: one image, as it is built, as a layout, as an archive and in a registry.

use serde_json::{Value, json};

use crate::kit::badreg::Registry;
use crate::kit::project::{Project, Said};
use crate::kit::schema::assert_fits;
use crate::kit::world;
use crate::trust::Person;

fn described(said: &Said) -> Value {
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_fits("inspect", &document);
    document
}

#[test]
fn an_image_is_described_the_same_wherever_it_lies_and_more_is_known_of_one_of_the_project() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let saved = project.path().with_file_name("saved.tar").to_str().unwrap().to_owned();
    project.run(&["save", "app", "--output", &saved], 0);
    let layout = format!("{}:app", project.path().join("out").display());
    let registry = Registry::honest();
    project.run(&["push", "--tag", "1", "--to", &format!("{}/parish", registry.host())], 0);
    let remote = format!("{}/parish/app:1", registry.host());
    let describe = |image: &str| described(&project.run(&["inspect", "--json", image], 0));
    let [built, folder, archive, sent] = ["app", &layout, &saved, &remote].map(describe);
    for key in
        ["platform", "download", "manifest", "configuration", "config", "accounts", "files", "unpacked", "layers", "powerful"]
    {
        assert!(!built[key].is_null(), "{key}");
        for other in [&folder, &archive, &sent] {
            assert_eq!(built[key], other[key], "{key}");
        }
    }
    assert_eq!(sent["names"], json!([remote]));
    assert_eq!(built["config"]["command"], json!(["/usr/bin/app", "hello"]));
    assert!(built["accounts"].as_array().unwrap().contains(&json!({"name": "paroisse", "uid": 1001})));
    let package = |document: &Value, name: &str| {
        let packages = document["packages"].as_array().unwrap().clone();
        packages.into_iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("`{name}` is missing"))
    };
    let (known, foreign) = (package(&built, "app"), package(&archive, "app"));
    assert_eq!((&known["version"], &known["size"]), (&foreign["version"], &foreign["size"]));
    assert_eq!((&known["from"]["image"], &known["from"]["asked"]), (&json!("app"), &json!("recipes/app.yaml:5")));
    assert_eq!(package(&built, "libfoo")["from"]["asked"], "recipes/base.yaml:3");
    assert_eq!(foreign["from"], Value::Null);
    for place in [&built, &folder, &archive, &sent] {
        assert_eq!(place["referrers"], json!([]));
    }

    let said = project.run(&["inspect", "app", "--all"], 0).out;
    for line in ["user         paroisse\n", "recipes/app.yaml:5", "no file is setuid or setgid", "sha256:"] {
        assert!(said.contains(line), "`{line}` is missing:\n{said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let said = project.run(&["inspect", "absent"], 2);
    assert!(said.err.contains("`absent` is no image of the project") && said.err.contains("hint: "), "{}", said.err);
}

/// Runs parvis in a project with the passphrase of its key.
fn own(project: &Project, arguments: &[&str]) -> Said {
    let output = project.parvis(arguments).env("PARVIS_PASSPHRASE", "correct horse").output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{}{}", said.out, said.err);
    said
}

#[test]
fn what_is_said_of_an_image_is_judged_by_the_keys_of_whoever_looks_at_it() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let registry = Registry::honest();
    let to = format!("{}/parish", registry.host());
    project.run(&["push", "--tag", "1", "--to", &to], 0);
    let name = format!("{to}/app:1");
    own(&project, &["key", "new"]);
    own(&project, &["sign", &name]);
    own(&project, &["attest", "app", "--to", &to]);
    own(&project, &["sign"]);
    own(&project, &["attest", "app"]);
    let saved = project.path().with_file_name("saved.tar").to_str().unwrap().to_owned();
    project.run(&["save", "app", "--output", &saved], 0);
    own(&project, &["sign", &saved]);
    own(&project, &["attest", "app", "--to", &saved]);
    let layout = format!("{}:app", project.path().join("out").display());

    let person = Person::new();
    let kinds = |document: &Value| -> Vec<String> {
        let mut kinds: Vec<String> = document["referrers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|said| {
                format!(
                    "{} {} {}",
                    said["form"].as_str().unwrap(),
                    said["checked"].as_str().unwrap(),
                    said["kind"].as_str().unwrap()
                )
            })
            .collect();
        kinds.sort();
        kinds
    };
    let all = |checked: &str| {
        let bundle = [
            "https://cyclonedx.org/bom",
            "https://sigstore.dev/cosign/sign/v1",
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document",
        ];
        let mut all: Vec<String> = bundle.iter().map(|kind| format!("bundle {checked} {kind}")).collect();
        all.push(format!("tag {checked} https://sigstore.dev/cosign/sign/v1"));
        all
    };
    let look = |place: &str| described(&person.run(&["inspect", "--json", place], 0));
    for place in [&*name, &layout, &saved] {
        assert_eq!(kinds(&look(place)), all("no-key"), "{place}");
    }
    let words = person.run(&["inspect", &name], 0).out;
    assert!(words.contains("provenance (SLSA)\n") && words.contains("  signature, in cosign's older form\n"), "{words}");
    assert_eq!(words.matches("not checked: nobody is trusted here").count(), 5, "{words}");

    // Somebody else is trusted: nothing of it counts.
    person.run(&["key", "new", "other"], 0);
    person.run(&["trust", "add", &person.key("other.pub")], 0);
    assert_eq!(kinds(&look(&name)), all("refused"));
    assert_eq!(look(&name)["referrers"][0]["code"], "E02");
    let key = project.path().parent().unwrap().join(".config/parvis/keys/release.pub");
    person.run(&["trust", "add", key.to_str().unwrap(), "--name", "makers"], 0);
    for place in [&*name, &layout, &saved] {
        let found = look(place);
        assert_eq!(kinds(&found), all("good"), "{place}");
        assert_eq!(found["referrers"][0]["signer"]["name"], "makers");
    }
    assert!(person.run(&["inspect", &saved], 0).out.contains("signed by makers ("));
    // Whoever made it sees the same of what was built; nobody is trusted there.
    assert_eq!(kinds(&described(&project.run(&["inspect", "app", "--json"], 0))), all("no-key"));

    // Under another name, what was signed is about something else.
    registry.kept(|kept| {
        let copied = |(repository, digest): &(String, String)| (repository.replace("app", "copy"), digest.clone());
        kept.blobs =
            kept.blobs.iter().flat_map(|(key, bytes)| [(key.clone(), bytes.clone()), (copied(key), bytes.clone())]).collect();
        kept.manifests =
            kept.manifests.iter().flat_map(|(key, bytes)| [(key.clone(), bytes.clone()), (copied(key), bytes.clone())]).collect();
        kept.tags =
            kept.tags.iter().flat_map(|(key, digest)| [(key.clone(), digest.clone()), (copied(key), digest.clone())]).collect();
    });
    let copy = look(&name.replace("/app", "/copy"));
    assert_eq!(kinds(&copy), all("refused"));
    assert!(copy["referrers"].as_array().unwrap().iter().all(|said| said["code"] == "E04"), "{copy:#}");
}

#[test]
fn a_changed_image_of_a_registry_is_not_described() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let registry = Registry::honest();
    project.run(&["push", "app", "--tag", "1", "--to", &format!("{}/parish", registry.host())], 0);
    let name = format!("{}/parish/app:1", registry.host());
    let parts: Vec<(String, String)> = registry.kept(|kept| kept.blobs.keys().cloned().collect());
    for part in parts.iter().filter(|(repository, _)| repository == "parish/app") {
        let flip = || registry.kept(|kept| *kept.blobs.get_mut(part).unwrap().last_mut().unwrap() ^= 1);
        flip();
        let said = project.run(&["inspect", &name], 3);
        assert!(said.out.is_empty() && said.err.contains(&part.1) && said.err.contains("hint: "), "{}", said.err);
        flip();
        let bytes = registry.kept(|kept| kept.blobs.remove(part).unwrap());
        let said = project.run(&["inspect", &name], 3);
        assert!(said.err.contains(&part.1) && said.err.contains("missing"), "{}", said.err);
        registry.kept(|kept| kept.blobs.insert(part.clone(), bytes));
    }
    project.run(&["inspect", &name], 0);
    let said = project.run(&["inspect", &name.replace(":1", ":2")], 2);
    assert!(said.err.contains("there is no `") && said.err.contains("hint: check the name"), "{}", said.err);
    let said = project.run(&["inspect", name.trim_end_matches(":1")], 2);
    assert!(said.err.contains("does not say which image"), "{}", said.err);
    let said = project.run(&["inspect", "--offline", "registry.example/parish/app:1"], 2);
    assert!(said.err.contains("not to be used"), "{}", said.err);
}
