//! parvis as a program to hand out: the list of what it consists of, which `.ci/static` puts beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the list, as `.ci/static` has it made.
fn list(program: &Path) -> Vec<u8> {
    let mut command = Command::new("python3");
    command.arg(project().join(".ci/cargo-sbom.py")).arg("x86_64-unknown-linux-gnu").arg(program);
    // What was built here needs no network to be listed.
    let output = command.current_dir(project()).env("CARGO_NET_OFFLINE", "true").env("CARGO", env!("CARGO")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_list_of_the_program_has_every_crate_in_it_with_digest_and_licence_and_none_of_the_tests() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("parvis");
    fs::write(&program, "the program").unwrap();
    let bytes = list(&program);
    assert_eq!(list(&program), bytes, "the same program gives the same list");
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&list["bomFormat"], &list["specVersion"]), (&Value::from("CycloneDX"), &Value::from("1.6")));
    let whole = &list["metadata"]["component"];
    assert_eq!(whole["hashes"][0]["content"], parvis::model::digest::FileDigest::of(b"the program").hex());
    let crates = list["components"].as_array().unwrap();
    let named = |name: &str| crates.iter().find(|one| one["name"] == name);
    for one in crates {
        assert!(
            one["hashes"][0]["content"].as_str().unwrap().len() == 64 && one["licenses"][0]["expression"].is_string(),
            "{one}"
        );
    }
    // Every direct dependency is there, linked in; what only builds it is marked; what only tests it is absent.
    let manifest = fs::read_to_string(project().join("Cargo.toml")).unwrap();
    let section = |name: &str| -> BTreeSet<String> {
        let text = manifest.split_once(&format!("[{name}]\n")).unwrap().1;
        let lines = text.lines().take_while(|line| !line.starts_with('['));
        lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).filter(|name| !name.starts_with('#')).collect()
    };
    for name in section("dependencies") {
        assert_eq!(named(&name).unwrap_or_else(|| panic!("{name}"))["scope"], "required", "{name}");
    }
    assert_eq!(named("cc").unwrap()["scope"], "excluded");
    for name in section("dev-dependencies").difference(&section("dependencies")) {
        assert!(named(name).is_none(), "{name} is of the tests");
    }
    let references: BTreeSet<&str> = crates.iter().chain([whole]).map(|one| one["bom-ref"].as_str().unwrap()).collect();
    for edge in list["dependencies"].as_array().unwrap() {
        let needed = edge["dependsOn"].as_array().unwrap();
        assert!(needed.iter().chain([&edge["ref"]]).all(|name| references.contains(name.as_str().unwrap())), "{edge}");
    }
}
