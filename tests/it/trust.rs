//! Keys, signatures and verdicts: who is believed, what is refused, and with which code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::kit::project::{Said, parvis};

/// Somebody with a home of their own.
struct Person {
    home: TempDir,
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::Builder::new().prefix("person-").tempdir().unwrap() }
    }

    /// Returns a path below the home.
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns a file of the person's keys.
    fn key(&self, name: &str) -> String {
        self.path(".config/parvis/keys").join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = parvis(self.home.path());
        command.current_dir(self.home.path()).env("PARVIS_PASSPHRASE", "correct horse");
        command.env("PARVIS_ROOT_PASSPHRASE", "battery staple").args(arguments);
        command
    }

    /// Runs parvis and expects an exit code.
    fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.command(arguments).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        for secret in ["correct horse", "battery staple"] {
            assert!(!said.out.contains(secret) && !said.err.contains(secret), "{said:?}");
        }
        said
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let said = self.run(&[arguments, &["--json"]].concat(), code);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }
}

#[test]
fn a_root_key_vouches_for_a_release_key_and_a_parish_trusts_the_root_alone() {
    let (maker, parish) = (Person::new(), Person::new());
    let root = maker.json(&["key", "new", "--root"], 0);
    let release = maker.json(&["key", "new"], 0);
    assert_ne!(root["fingerprint"], release["fingerprint"]);
    let shown = maker.run(&["key", "show"], 0).out;
    assert!(shown.contains("root") && shown.contains("signs until ") && shown.contains("to be renewed before"), "{shown}");
    let mode = fs::metadata(maker.key("release.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let keyring = maker.key("keyring.sigstore.json");
    let root = root["fingerprint"].as_str().unwrap();
    // As it was copied from paper.
    let paper = root.to_lowercase().replace('-', " ");
    parish.run(&["trust", "add", &keyring, "--fingerprint", &paper, "--name", "civiparoisse"], 0);
    let listed = parish.json(&["trust", "list"], 0);
    assert_eq!(listed["trusted"][0]["fingerprint"], root);
    assert_eq!(listed["trusted"][0]["keys"][0]["fingerprint"], release["fingerprint"]);
    let other = release["fingerprint"].as_str().unwrap();
    let refused = parish.run(&["trust", "add", &keyring, "--fingerprint", other], 1).err;
    assert!(refused.contains("is another key"), "{refused}");
    parish.run(&["trust", "remove", "civiparoisse"], 0);
    assert!(parish.run(&["trust", "list"], 0).out.contains("nobody is trusted"));
}

#[test]
fn a_replaced_key_is_in_the_next_keyring_and_an_older_keyring_is_refused() {
    let (maker, parish) = (Person::new(), Person::new());
    maker.run(&["key", "new", "--root"], 0);
    let first = maker.json(&["key", "new"], 0);
    let keyring = maker.key("keyring.sigstore.json");
    let older = parish.path("older.json");
    fs::copy(&keyring, &older).unwrap();
    let second = maker.json(&["key", "rotate", "--revoke", "the laptop was stolen"], 0);
    assert_ne!(first["fingerprint"], second["fingerprint"]);
    assert!(maker.run(&["key", "show"], 0).out.contains("revoked on "));
    parish.run(&["trust", "add", &keyring, "--name", "makers"], 0);
    let listed = parish.json(&["trust", "list"], 0);
    assert_eq!(listed["trusted"][0]["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["trusted"][0]["keys"][0]["fingerprint"], second["fingerprint"]);
    let refused = parish.run(&["trust", "add", older.to_str().unwrap()], 1).err;
    assert!(refused.contains("an older list of keys"), "{refused}");
    maker.run(&["key", "rotate", "--renew"], 0);
    parish.run(&["trust", "add", &keyring], 0);
    assert_eq!(parish.json(&["trust", "list"], 0)["trusted"][0]["keyring_version"], 4);
}

#[test]
fn a_root_key_on_another_machine_vouches_for_a_key_that_it_never_sees() {
    let (office, safe) = (Person::new(), Person::new());
    safe.run(&["key", "new", "--root"], 0);
    let made = office.json(&["key", "new"], 0);
    assert!(office.run(&["key", "rotate"], 2).err.contains("the root key is not here"));
    let vouched = safe.json(&["key", "rotate", "release", "--public", &office.key("release.pub")], 0);
    assert_eq!((&vouched["fingerprint"], &vouched["private"]), (&made["fingerprint"], &Value::Null));
}

#[test]
fn no_key_is_made_without_a_passphrase_unless_that_is_asked_for() {
    let maker = Person::new();
    let without = |arguments: &[&str], code: i32| {
        let output = maker.command(arguments).env_remove("PARVIS_PASSPHRASE").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        Said::from(&output).err
    };
    assert!(without(&["key", "new"], 2).contains("nobody is there to type it"));
    let file = maker.path("empty");
    fs::write(&file, "\n").unwrap();
    assert!(without(&["key", "new", "--passphrase-file", file.to_str().unwrap()], 2).contains("is empty"));
    without(&["key", "new", "open", "--no-passphrase"], 0);
    assert!(!PathBuf::from(maker.key("release.key")).exists());
    // Nor does one appear in the list of arguments of any command.
    assert!(maker.run(&["key", "new", "--passphrase", "x"], 2).err.contains("unexpected argument"));
}

#[test]
fn a_key_is_never_overwritten() {
    let maker = Person::new();
    maker.run(&["key", "new"], 0);
    let before = fs::read(maker.key("release.key")).unwrap();
    assert!(maker.run(&["key", "new"], 2).err.contains("there is a key `release` already"));
    assert_eq!(fs::read(maker.key("release.key")).unwrap(), before);
}
