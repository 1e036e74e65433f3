//! The project's own files: they are read, fit their schemas, and every mistake in them is found.

use std::collections::BTreeMap;
use std::path::Path;

use parvis::edge::project::{ProjectFolder, SourceKind, StatCache};
use parvis::model::project::Project;
use parvis::model::recipe::{FileSource, Recipe};

const IMAGES: [&str; 12] =
    ["base", "composer_base", "composer_files", "cron", "db", "httpd", "init", "php", "proxy", "selfkeys", "tools", "update"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> ProjectFolder {
    ProjectFolder::open(root()).unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Returns what a validator says of a YAML file, read as JSON.
fn complaints(schema: &serde_json::Value, yaml: &str) -> Vec<String> {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(&value).map(|error| error.to_string()).collect()
}

#[test]
fn the_projects_own_recipes_are_read_in_building_order() {
    let project = folder().project().unwrap();
    let catalog = folder().catalog(&project.variables(None).unwrap()).unwrap();
    let names: Vec<&str> = catalog.iter().map(|member| member.recipe.name.as_str()).collect();
    let parents = ["base", "php", "tools", "cron"].map(|name| names.iter().position(|found| *found == name));
    assert!(parents.is_sorted() && parents[0] == Some(0), "{names:?}");
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, IMAGES);
}

#[test]
fn the_projects_own_recipes_need_no_advice() {
    let project = folder().project().unwrap();
    let catalog = folder().catalog(&project.variables(None).unwrap()).unwrap();
    assert_eq!(parvis::plan::lint::lint(&project, "parvis.yaml", &catalog), []);
}

#[test]
fn every_source_that_a_recipe_names_is_there() {
    let project = folder().project().unwrap();
    let catalog = folder().catalog(&project.variables(None).unwrap()).unwrap();
    let mut cache = StatCache::nowhere();
    let mut files = 0;
    for member in catalog.iter() {
        for rule in &member.recipe.files {
            if let FileSource::Project(source) = &rule.what {
                let listed = folder().sources(&member.recipe.name, source, &mut cache).unwrap();
                files += listed.iter().filter(|file| matches!(file.kind, SourceKind::File { .. })).count();
            }
        }
    }
    assert!(files >= 10, "{files}");
}

#[test]
fn the_projects_own_files_fit_the_schemas() {
    assert_eq!(complaints(&Project::schema(), &read("parvis.yaml")), [""; 0]);
    for name in IMAGES {
        assert_eq!(complaints(&Recipe::schema(), &read(&format!("recipes/{name}.yaml"))), [""; 0], "{name}");
    }
    let sample = read("src/model/recipe/sample.yaml");
    assert_eq!(complaints(&Recipe::schema(), &sample), [""; 0]);
}

#[test]
fn a_schema_refuses_what_the_reader_refuses() {
    let good = "description: x\nfrom: scratch\n";
    for bad in [
        "pakages: [a]\n",
        "packages: a\n",
        "files: [{to: /x, mode: 444}]\n",
        "files: [{to: /x, mode: '0o4'}]\n",
        "config: {user: {}}\n",
    ] {
        let text = format!("{good}{bad}");
        assert!(Recipe::parse(&"a".parse().unwrap(), "a.yaml", &text, &BTreeMap::new()).is_err(), "{bad}");
        assert_ne!(complaints(&Recipe::schema(), &text), [""; 0], "{bad}");
    }
    assert_eq!(complaints(&Recipe::schema(), good), [""; 0]);
}

#[test]
fn every_key_of_a_schema_has_a_description() {
    fn walk(at: &str, value: &serde_json::Value, lacking: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(|properties| properties.as_object()) {
            for (name, property) in properties {
                if property.get("description").is_none() {
                    lacking.push(format!("{at}.{name}"));
                }
            }
        }
        for (name, definition) in value.get("$defs").and_then(|definitions| definitions.as_object()).into_iter().flatten() {
            walk(name, definition, lacking);
        }
    }
    for schema in [Recipe::schema(), Project::schema()] {
        let mut lacking = Vec::new();
        walk("", &schema, &mut lacking);
        assert_eq!(lacking, [""; 0]);
    }
}

#[test]
fn the_pinned_keys_are_those_of_the_keyring_and_no_private_key_lies_beside_them() {
    let project = folder().project().unwrap();
    let keyring = std::fs::read(root().join(project.keyring.to_string().trim_start_matches('/'))).unwrap();
    // Tag 6 is a public key packet (RFC 9580, section 5.5.1.1); tag 5 would be a secret one.
    assert_eq!(keyring[0] & 0b1100_0000, 0b1000_0000, "an old-format packet");
    assert_eq!((keyring[0] >> 2) & 0b1111, 6);
    for suite in &project.suites {
        assert!(suite.keys.iter().all(|key| project.keys.contains(key)), "{}", suite.name);
    }
}

/// People edit the sources, Composer reads the archives.
#[test]
fn the_composer_repository_of_the_directory_is_what_its_sources_make() {
    let make = root().join("images/composer_files/annuaire/repository/make");
    let output = std::process::Command::new("python3").arg(make).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
