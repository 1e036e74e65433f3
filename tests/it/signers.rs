//! Signatures as other programs see them: openssl, skopeo and, where the machine has them, cosign, oras and `@sigstore/verify`.
//!
//! cosign is a package of Debian 13 and not of Debian 12, oras of neither; the tests with them say so where they are left out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kit::debreg::DebiansRegistry;
use crate::kit::project::Project;
use crate::kit::world;
use crate::trust::{Person, blob_with, layout};

/// An image in Debian's registry, and who signs it.
struct Place {
    person: Person,
    registry: DebiansRegistry,
    digest: String,
}

impl Place {
    fn new() -> Self {
        let (person, registry) = (Person::new(), DebiansRegistry::start());
        let folder = person.path("out");
        let digest = layout(&folder, "1", "hello").to_string();
        let place = Self { person, registry, digest };
        let target = format!("docker://{}:1", place.name());
        place.skopeo(
            &[
                "--insecure-policy",
                "copy",
                "--quiet",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &format!("oci:{}:1", folder.display()),
                &target,
            ],
            true,
        );
        place.person.run(&["key", "new"], 0);
        place
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/parish/hello", self.registry.port)
    }

    fn skopeo(&self, arguments: &[&str], good: bool) -> String {
        let output =
            Command::new("skopeo").args(arguments).env("HOME", self.person.path("")).output().expect("skopeo is installed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), good, "skopeo {arguments:?}: {said}");
        said
    }
}

#[test]
fn openssl_verifies_the_signed_bytes_of_a_bundle() {
    let person = Person::new();
    person.run(&["key", "new"], 0);
    let folder = person.path("out");
    layout(&folder, "registry.example/parish/hello:1", "hello");
    person.run(&["sign", folder.to_str().unwrap()], 0);
    let bundle: Value = serde_json::from_slice(&fs::read(blob_with(&folder, "dsseEnvelope")).unwrap()).unwrap();
    let envelope = &bundle["dsseEnvelope"];
    assert_eq!(envelope["signatures"][0].get("keyid"), None, "cosign refuses a bundle that names a key there");
    let decoded = |text: &Value| STANDARD.decode(text.as_str().unwrap()).unwrap();
    let (payload, kind) = (decoded(&envelope["payload"]), envelope["payloadType"].as_str().unwrap());
    let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    let verify = |signed: &[u8]| {
        fs::write(person.path("signed"), signed).unwrap();
        fs::write(person.path("signature"), decoded(&envelope["signatures"][0]["sig"])).unwrap();
        let command = ["dgst", "-sha256", "-verify", &person.key("release.pub"), "-signature", "signature", "signed"];
        Command::new("openssl")
            .args(command)
            .current_dir(person.path(""))
            .output()
            .expect("openssl is installed")
            .status
            .success()
    };
    assert!(verify(&signed));
    assert!(!verify(&[&signed[..], b" "].concat()));
}

#[test]
fn skopeo_takes_what_its_policy_wants_signed_and_refuses_the_rest() {
    let place = Place::new();
    let (name, key) = (place.name(), place.person.key("release.pub"));
    let wanted = json!({"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": "matchRepository"}});
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {name.clone(): [wanted]}}});
    let (policy_file, configuration) = (place.person.path("policy.json"), place.person.path("registries.d"));
    fs::write(&policy_file, policy.to_string()).unwrap();
    fs::create_dir(&configuration).unwrap();
    fs::write(configuration.join("here.yaml"), format!("docker:\n  {name}:\n    use-sigstore-attachments: true\n")).unwrap();
    let copy = |good: bool| {
        let target = place.person.path("copy");
        let _ = fs::remove_dir_all(&target);
        let (policy, configuration) = (policy_file.to_str().unwrap(), configuration.to_str().unwrap());
        let (source, target) = (format!("docker://{name}:1"), format!("dir:{}", target.display()));
        let place_of = ["--policy", policy, "--registries.d", configuration, "copy", "--quiet", "--src-tls-verify=false"];
        // What is copied to a folder keeps no signatures of this form.
        place.skopeo(&[&place_of[..], &["--remove-signatures", &source, &target]].concat(), good)
    };
    assert!(copy(false).contains("signature"));
    place.person.run(&["sign", &format!("{name}:1")], 0);
    // Debian 12 builds skopeo without this kind of signature, and it says so.
    let probe = Command::new("skopeo")
        .args(["--policy", policy_file.to_str().unwrap(), "--registries.d", configuration.to_str().unwrap()])
        .args(["copy", "--quiet", "--src-tls-verify=false", "--remove-signatures", &format!("docker://{name}:1")])
        .arg(format!("dir:{}", place.person.path("probe").display()))
        .env("HOME", place.person.path(""))
        .output()
        .expect("skopeo is installed");
    if String::from_utf8_lossy(&probe.stderr).contains("sigstore disabled") {
        eprintln!("skipped: this skopeo was built without sigstore signatures");
        return;
    }
    copy(true);
    // Another key does not do.
    place.person.run(&["key", "new", "other"], 0);
    fs::copy(place.person.key("other.pub"), &key).unwrap();
    assert!(copy(false).contains("signature"));
}

/// Whether the machine has a program.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs cosign with the passphrase of the tests; nothing where the machine has none.
fn cosign(person: &Person, arguments: &[&str]) -> Option<Output> {
    if !has("cosign") {
        eprintln!("skipped: cosign was not asked: this machine has none (Debian 13 has the package, Debian 12 has not)");
        return None;
    }
    let mut command = Command::new("cosign");
    command.args(arguments).current_dir(person.path("")).env("HOME", person.path("")).env("COSIGN_PASSWORD", "correct horse");
    Some(command.stdin(Stdio::null()).output().unwrap())
}

/// Whether cosign is of version 3, which looks for bundles by itself and asks a file where its services are.
fn is_third(person: &Person) -> bool {
    cosign(person, &["sign", "--help"]).is_some_and(|help| String::from_utf8_lossy(&help.stdout).contains("--signing-config"))
}

#[test]
fn cosign_and_parvis_verify_what_the_other_signed_with_each_others_keys() {
    let place = Place::new();
    let person = &place.person;
    if cosign(person, &["version"]).is_none() {
        return;
    }
    // Version 3 asks a file where its services are; none are. Version 2 is told not to use its log.
    fs::write(person.path("none.json"), r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}"#).unwrap();
    let third = is_third(person);
    let signing: &[&str] = if third { &["--signing-config", "none.json"] } else { &["--tlog-upload=false"] };
    let run = |arguments: &[&str], good: bool| {
        let output = cosign(person, arguments).unwrap();
        assert_eq!(output.status.success(), good, "cosign {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let image = format!("{}@{}", place.name(), place.digest);
    let lenient = ["--insecure-ignore-tlog", "--allow-insecure-registry"];
    let verify = |key: &str, good: bool| run(&[&["verify", "--key", key], &lenient[..], &[&image]].concat(), good);
    run(&["generate-key-pair"], true);
    let (own, own_private) = (person.key("release.pub"), person.key("release.key"));

    verify(&own, false);
    person.run(&["sign", &image], 0);
    verify(&own, true);
    verify("cosign.pub", false);
    // parvis signs with the key that cosign made, and cosign with that of parvis.
    person.run(&["sign", &image, "--key", person.path("cosign.key").to_str().unwrap()], 0);
    verify("cosign.pub", true);
    verify(&own, true);
    let other = Place::new();
    fs::copy(&own_private, other.person.path("theirs.key")).unwrap();
    let image = format!("{}@{}", other.name(), other.digest);
    let theirs = other.person.path("theirs.key");
    fs::copy(person.path("none.json"), other.person.path("none.json")).unwrap();
    let command = [&["sign", "--key", theirs.to_str().unwrap(), "--allow-insecure-registry", "-y"], signing, &[&image]].concat();
    let output = cosign(&other.person, &command);
    assert!(output.is_some_and(|output| output.status.success()));
    other.person.run(&["verify", &image, "--key", &own], 0);
    other.person.run(&["verify", &image, "--key", &other.person.key("release.pub")], 1);
}

#[test]
fn what_is_attested_is_verified_by_cosign_and_discovered_by_oras() {
    if !has("cosign") && !has("oras") {
        eprintln!("skipped: neither cosign nor oras was asked: this machine has none of them");
        return;
    }
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    project.run(&["build", "base"], 0);
    let (person, registry) = (Person::new(), DebiansRegistry::start());
    let to = format!("127.0.0.1:{}/parish", registry.port);
    person.run(&["key", "new"], 0);
    let key = person.key("release.key");
    let pushed = project.run(&["push", "base", "--to", &to, "--json"], 0).out;
    let pushed: Value = serde_json::from_str(&pushed).unwrap();
    let image = format!("{to}/base@{}", pushed["images"][0]["digest"].as_str().unwrap());
    let output =
        project.parvis(&["attest", "base", "--to", &to, "--key", &key]).env("PARVIS_PASSPHRASE", "correct horse").output();
    assert!(output.unwrap().status.success());

    let public = person.key("release.pub");
    if has("cosign") {
        fs::write(person.path("root.json"), r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#)
            .unwrap();
        // Version 2 looks for bundles only when it is told to, and then wants a file with no log in it.
        let third = is_third(&person);
        let bundles: &[&str] = if third { &[] } else { &["--new-bundle-format", "--trusted-root", "root.json"] };
        for (kind, good) in [("spdxjson", true), ("cyclonedx", true), ("slsaprovenance1", true), ("vuln", false)] {
            let lenient = ["--insecure-ignore-tlog", "--allow-insecure-registry", "--type", kind, &image];
            let output = cosign(&person, &[&["verify-attestation", "--key", &public], bundles, &lenient].concat()).unwrap();
            assert_eq!(output.status.success(), good, "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    if has("oras") {
        let output = Command::new("oras").args(["discover", "--plain-http", "--format", "json", &image]).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let kinds = ["https://spdx.dev/Document", "https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"];
        assert!(kinds.iter().all(|kind| found.contains(kind)), "{found}{}", String::from_utf8_lossy(&output.stderr));
    } else {
        eprintln!("skipped: oras was not asked: this machine has none");
    }
}

#[test]
fn sigstores_own_library_takes_a_bundle_and_refuses_a_changed_one() {
    let person = Person::new();
    let modules = person.path("modules");
    let install =
        ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=20000", "--prefix"];
    let packages = ["@sigstore/verify@3", "@sigstore/bundle@4"];
    let installed = Command::new("npm").args(install).arg(&modules).args(packages).env("HOME", person.path("")).output();
    let version =
        Command::new("node").arg("--version").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_new =
        |version: &str| version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok()) >= Some(20);
    if !installed.is_ok_and(|output| output.status.success()) || !version.is_ok_and(|version| is_new(&version)) {
        eprintln!("skipped: @sigstore/verify was not asked: it needs node 20 and npm's packages, which cannot be had here");
        return;
    }
    person.run(&["key", "new"], 0);
    person.run(&["key", "new", "other"], 0);
    let folder = person.path("out");
    layout(&folder, "registry.example/parish/hello:1", "hello");
    person.run(&["sign", folder.to_str().unwrap()], 0);
    let bundle = blob_with(&folder, "dsseEnvelope");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sigstore.cjs");
    let verify = |bundle: &Path, key: &str| {
        let output = Command::new("node").arg(&script).args([&modules, bundle]).arg(person.key(key)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("SIGNATURE_ERROR"), "{said}");
        output.status.success()
    };
    assert!(verify(&bundle, "release.pub"));
    assert!(!verify(&bundle, "other.pub"));
    let changed = person.path("changed.json");
    fs::write(&changed, fs::read_to_string(&bundle).unwrap().replacen("\"eyJ", "\"eyK", 1)).unwrap();
    assert!(!verify(&changed, "release.pub"));
}
