//! Tests of whole bundles.

use std::collections::BTreeMap;

use super::manifest::{BundledImage, Manifest};
use super::write::{BundleError, File, Ingredients, image_variable, keep_settings, write};
use crate::model::catalog::Catalog;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::problem::Source;
use crate::model::stack::Stack;

const SAMPLE: &str = include_str!("../model/stack/sample.yaml");

fn catalog() -> Catalog {
    let recipe = |(name, config): (&str, &str)| {
        let text = format!("description: x\nfrom: scratch\nusers: [{{name: db, uid: 990, gid: 990}}]\n{config}\n");
        (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &text))
    };
    let recipes = [
        ("db", "config: {user: db, health: {command: [ask]}}"),
        ("keys", "config: {user: '1001:1001'}"),
        ("web", "config: {user: www-data, ports: [443], health: {command: [ask]}}"),
        ("app", "config: {user: '33'}"),
    ];
    Catalog::parse(recipes.map(recipe).into(), &BTreeMap::new()).unwrap()
}

fn stack(text: &str) -> Stack {
    let variables = BTreeMap::from([("web-root".to_owned(), "/app/web".to_owned())]);
    Stack::parse(&"parish".parse().unwrap(), &Source::new("compose/parish.yaml", text), &variables, &catalog()).unwrap()
}

fn images() -> Vec<BundledImage> {
    let image = |name: &str| BundledImage {
        name: name.parse().unwrap(),
        variable: image_variable(&name.parse().unwrap()).unwrap(),
        reference: format!("example.org/parish/{name}:1.4.0"),
        manifest: BlobDigest::of(format!("manifest of {name}").as_bytes()),
        config: BlobDigest::of(format!("configuration of {name}").as_bytes()),
        size: 1000,
    };
    ["app", "db", "keys", "web"].map(image).into()
}

fn bundle(stack: &Stack, travelling: bool) -> Result<(Vec<File>, Manifest), BundleError> {
    write(&Ingredients {
        stack,
        catalog: &catalog(),
        images: &images(),
        version: &"1.4.0".parse().unwrap(),
        platform: "linux/amd64",
        archive: travelling.then(|| FileDigest::of(b"archive")),
    })
}

fn file(files: &[File], name: &str) -> String {
    let file = files.iter().find(|file| file.name == name).unwrap();
    String::from_utf8(file.bytes.clone()).unwrap()
}

#[test]
fn a_whole_bundle_looks_like_this() {
    let (files, manifest) = bundle(&stack(SAMPLE), true).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name).collect();
    assert_eq!(names, ["compose.yaml", "README.md", "LISEZMOI.md", "start.sh", ".env", "bundle.json"]);
    for name in &names[..5] {
        insta::assert_snapshot!(name.trim_start_matches('.').replace('.', "_"), file(&files, name));
    }
    let json = serde_json::to_string_pretty(&serde_json::to_value(&*manifest).unwrap()).unwrap();
    insta::assert_snapshot!("bundle_json", json);
    assert_eq!(Manifest::parse(file(&files, "bundle.json").as_bytes()).unwrap(), manifest);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let stack = stack(SAMPLE);
    assert_eq!(bundle(&stack, true).unwrap().0, bundle(&stack, true).unwrap().0);
}

#[test]
fn images_that_stay_in_a_registry_are_named_by_digest() {
    let (files, _) = bundle(&stack(SAMPLE), false).unwrap();
    assert!(!file(&files, "compose.yaml").contains("pull_policy"));
    let digest = BlobDigest::of(b"manifest of db");
    assert!(file(&files, ".env").contains(&format!("PARVIS_IMAGE_DB=example.org/parish/db:1.4.0@{digest}\n")));
    assert!(!file(&files, "start.sh").contains("docker load") && !file(&files, "README.md").contains("docker load"));
}

#[test]
fn what_means_something_to_compose_is_written_so_that_it_does_not() {
    let text = SAMPLE.replace(
        "ROOT: \"${web-root}\"",
        "ROOT: 'a$HOME $${x} \"b\" '\n      A: \"no\"\n      TIME: \"12:30\"\n      DOTS: ..\n     ",
    );
    let text = text.replace("env: {ROOT", "env:\n      ROOT").replace(", DB_PORT: 3306, PARISH: \"${parish-name}\"}", "");
    let (files, _) = bundle(&stack(&text), true).unwrap();
    let compose = file(&files, "compose.yaml");
    for line in [
        "      \"ROOT\": \"a$$HOME $${x} \\\"b\\\" \"\n",
        "      \"A\": \"no\"\n",
        "      \"TIME\": \"12:30\"\n",
        "      \"DOTS\": \"..\"\n",
    ] {
        assert!(compose.contains(line), "{line}{compose}");
    }
}

#[test]
fn an_image_that_is_missing_and_a_user_without_a_number_are_named() {
    let stack = stack(SAMPLE);
    let without = images().split_off(1);
    let ingredients = Ingredients {
        stack: &stack,
        catalog: &catalog(),
        images: &without,
        version: &"1".parse().unwrap(),
        platform: "linux/amd64",
        archive: None,
    };
    assert_eq!(write(&ingredients).unwrap_err().to_string(), "the image `app` of the stack was not built");
    let recipe = |name: &str| {
        let text = "description: x\nfrom: scratch\nconfig: {user: mysql}\n";
        (name.parse().unwrap(), Source::new(name, text))
    };
    let catalog = Catalog::parse(["app", "db", "keys", "web"].map(recipe).into(), &BTreeMap::new()).unwrap();
    let error = write(&Ingredients { catalog: &catalog, images: &images(), ..ingredients }).unwrap_err();
    assert_eq!(error.to_string(), "who `keys` runs as has no fixed number in the image `keys`");
    assert!(error.hint().unwrap().contains("recipes/keys.yaml"));
}

#[test]
fn settings_of_a_user_outlive_a_new_bundle() {
    let new = "# port\nPORT=8443\n\nNAME=x\nPARVIS_IMAGE_DB=new\n";
    let earlier = "\u{feff}PORT = 9443 # mine\r\nPARVIS_IMAGE_DB=old\nEXTRA='a'\n# words\nexport NAME=y\n";
    assert_eq!(keep_settings(new, earlier), "# port\nPORT = 9443 # mine\n\nexport NAME=y\nPARVIS_IMAGE_DB=new\nEXTRA='a'\n");
    assert_eq!(keep_settings(new, ""), new);
    assert_eq!(keep_settings(new, new), new);
}
