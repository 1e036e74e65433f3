//! All integration tests: one binary, one module per subject.

mod again;
mod answers;
mod architecture;
mod bundle;
mod changelog;
mod civicrm;
mod composer;
mod conditions;
mod database;
mod deb;
mod demo;
mod diff;
mod diversions;
mod drafts;
mod fetch;
mod gate;
mod inspect;
mod interruption;
mod judges;
mod kernels;
mod kit;
mod layouts;
mod lock;
mod native;
mod news;
mod numbered;
mod openpgp;
mod pipeline;
mod platforms;
mod program;
mod push;
mod real;
mod rebuild;
mod recipes;
mod registry;
mod release;
mod resolve;
mod sandbox;
mod sbom;
mod sharing;
mod signers;
mod site;
mod source;
mod store;
mod threats;
mod transaction;
mod trust;
mod upgrade;
mod upstream;
mod workflows;

use std::collections::BTreeSet;
use std::path::Path;

/// Returns the modules that a source text declares with `mod name;`.
fn declared(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';')
        })
        .map(str::to_owned)
        .collect()
}

/// Returns the modules that stand in a folder as files or as folders with a `mod.rs`.
fn present(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_source = path.extension().is_some_and(|extension| extension == "rs") && !matches!(&*name, "main" | "mod");
        if is_source || path.join("mod.rs").exists() {
            names.insert(name);
        }
    }
    names
}

#[test]
fn no_test_file_is_forgotten() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (list, folder) in [("main.rs", here.clone()), ("kit/mod.rs", here.join("kit"))] {
        let text = std::fs::read_to_string(here.join(list)).unwrap();
        let forgotten: Vec<_> = present(&folder).difference(&declared(&text)).cloned().collect();
        assert!(forgotten.is_empty(), "tests/it/{list} lacks `mod {};`", forgotten.join(";`, `mod "));
    }
}

#[test]
fn a_forgotten_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lock.rs"), "").unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    assert!(present(folder.path()).contains("lock"));
    assert!(!present(folder.path()).contains("data"));
    assert!(!declared("mod block;\n// mod lock;\nmod lock {\n").contains("lock"));
}
