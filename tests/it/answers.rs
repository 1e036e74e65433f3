//! What verbs say with `--json`, held against the schemas that `parvis schema` prints of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kit::badreg::Registry;
use crate::kit::schema::{assert_fits, assert_fits_not};
use crate::release::Maker;

/// Says something and holds the answer against the schema of the verb.
fn said(maker: &Maker, verb: &str, arguments: &[&str], code: i32) -> Value {
    let said = maker.run(&[&["--json"], arguments].concat(), code);
    let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said:?}"));
    assert_fits(verb, &answer);
    // A schema that lets everything through would be none.
    let mut more = answer.clone();
    more["more"] = json!(1);
    assert_fits_not(verb, &more);
    let first = answer.as_object().unwrap().keys().next().unwrap().clone();
    let mut fewer = answer.clone();
    fewer.as_object_mut().unwrap().remove(&first);
    assert_fits_not(verb, &fewer);
    answer
}

#[test]
fn a_project_is_locked_planned_built_and_judged_in_the_words_of_the_schemas() {
    let maker = Maker::new();
    said(&maker, "lock", &["lock"], 0);
    said(&maker, "plan", &["plan"], 0);
    said(&maker, "build", &["build"], 0);
    said(&maker, "plan", &["plan"], 0);
    said(&maker, "gate", &["gate"], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    let plan = said(&maker, "plan", &["plan"], 0);
    assert!(plan["steps"].as_array().unwrap().iter().any(|step| !step["because"].as_array().unwrap().is_empty()), "{plan}");
    maker.project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo, dash]\n");
    let lock = said(&maker, "lock", &["lock"], 0);
    assert!(!lock["changes"].as_array().unwrap().is_empty(), "{lock}");
}

#[test]
fn keys_signatures_and_what_goes_to_registries_are_told_in_the_words_of_the_schemas() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let to = format!("{}/parish", registry.host());
    said(&maker, "key", &["key", "new", "other"], 0);
    said(&maker, "key", &["key", "show"], 0);
    let key = maker.project.path().parent().unwrap().join(".config/parvis/keys/other.pub");
    said(&maker, "trust", &["trust", "add", key.to_str().unwrap()], 0);
    said(&maker, "trust", &["trust", "list"], 0);
    said(&maker, "trust", &["trust", "remove", "other"], 0);
    maker.run(&["build"], 0);
    said(&maker, "push", &["push", "--to", &to, "--tag", "1.0.0"], 0);
    said(&maker, "push", &["push", "--to", &to, "--tag", "1.0.0"], 0);
    let image = format!("{to}/app:1.0.0");
    said(&maker, "sign", &["sign", &image], 0);
    said(&maker, "sign", &["sign", &image], 0);
    said(&maker, "attest", &["attest", "app", "--to", &to], 0);
    let place = tempfile::tempdir().unwrap();
    said(&maker, "attest", &["attest", "app", "--output", place.path().to_str().unwrap()], 0);
    let archive = place.path().join("app.tar");
    said(&maker, "pull", &["pull", &image, "--output", archive.to_str().unwrap()], 0);
    said(&maker, "pull", &["pull", &image], 0);
}

#[test]
fn releases_are_told_in_the_words_of_the_schemas() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let to = format!("{}/parish", registry.host());
    said(&maker, "release", &["release", "1.0.0", "--dry-run"], 0);
    said(&maker, "release", &["release", "1.0.0", "--to", &to], 0);
    maker.project.write("images/app/welcome.txt", "welcome again\n");
    maker.commit();
    said(&maker, "release", &["release", "1.1.0-rc.1", "--to", &to], 0);
    maker.commit();
    said(&maker, "promote", &["promote", "1.1.0-rc.1", "1.1.0", "--to", &to], 0);
    maker.commit();
    maker.project.write("images/app/welcome.txt", "welcome for the third time\n");
    maker.commit();
    said(&maker, "release", &["release", "1.2.0", "--to", &to, "--delta-from", "1.0.0"], 0);
    maker.commit();
    let ((old, _), (new, name)) = (maker.download("1.0.0"), maker.download("1.2.0"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let delta = new.with_file_name(format!("{name}-from-1.0.0.tar"));
    let place = tempfile::tempdir().unwrap();
    let made = place.path().join("made.tar");
    said(&maker, "delta", &["delta", &text(&delta), &text(&old), "--output", &text(&made)], 0);
    assert!(fs::read(&made).unwrap() == fs::read(&new).unwrap());
    let yank = said(&maker, "yank", &["yank", "1.2.0", "--why", "it greets thrice"], 0);
    assert!(!yank["tags"].as_array().unwrap().is_empty(), "{yank}");
    maker.commit();
    let sources = place.path().join("sources");
    let published = said(&maker, "publish-source", &["publish-source", &text(&sources)], 0);
    assert!(!published["published"].as_array().unwrap().is_empty(), "{published}");
}
