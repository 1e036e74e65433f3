//! `parvis rebuild` of a release: what it starts from is verified first, its packages are kept, and the chain to it is written down.

use std::fs;
use std::path::Path;
use std::process::Command;

use parvis::trust::bundle::Bundle;
use serde_json::Value;

use crate::kit::badreg::Registry;
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::project::{Project, Said};
use crate::kit::world;

const OLD: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
const FIX: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001.");

/// A project that was released as 1.4.0, and the archive before any fix.
struct Released {
    repo: Repo,
    maker: Project,
    registry: Registry,
}

impl Released {
    fn new() -> Self {
        let repo = world::archive_of(&world::libfoo("1.0-1").changelog(&[OLD]));
        let maker = Project::sample(&repo);
        maker.run(&["lock"], 0);
        maker.write(".gitignore", "out\n");
        maker.git(&["init", "--quiet"]);
        let released = Self { repo, maker, registry: Registry::honest() };
        released.commit();
        released.maker.run(&["key", "new", "--no-passphrase"], 0);
        let to = format!("{}/parish", released.registry.host());
        released.maker.run(&["release", "1.4.0", "--to", &to, "--no-passphrase"], 0);
        released.commit();
        released
    }

    fn commit(&self) {
        self.maker.git(&["add", "-A"]);
        self.maker.git(&["commit", "--quiet", "-m", "all"]);
    }

    /// A parish with a clone of the project, another store and nothing built.
    fn parish(&self) -> Project {
        let parish = Project::on(&self.repo);
        fs::remove_dir_all(parish.path()).unwrap();
        let cloned = Command::new("git").arg("clone").arg("--quiet").arg(self.maker.path()).arg(parish.path()).status();
        assert!(cloned.unwrap().success());
        parish
    }

    /// The maker's public key, as somebody handed it over.
    fn key(&self) -> String {
        let keys = self.maker.path().with_file_name(".config/parvis/keys/release.pub");
        keys.to_str().unwrap().to_owned()
    }

    fn trusting(&self) -> Project {
        let parish = self.parish();
        parish.run(&["trust", "add", &self.key(), "--name", "maker"], 0);
        parish
    }

    fn fix(&mut self, version: &str, uploads: &[(&str, &str, &str, &str)]) {
        self.repo.date += 60;
        self.repo.add(Suite::Security, &world::libfoo(version).changelog(uploads)).publish();
    }
}

fn record(project: &Project, name: &str) -> Value {
    serde_json::from_str(&project.read(&format!("rebuilds/{name}/rebuild.json"))).unwrap()
}

#[track_caller]
fn refuses(project: &Project, arguments: &[&str], code: i32, word: &str) -> Said {
    let before = project.read("parvis.lock");
    let said = project.run(&[&["rebuild"], arguments].concat(), code);
    assert!(said.err.contains(word), "{word}: {}", said.err);
    assert_eq!((project.read("parvis.lock"), project.path().join("rebuilds").exists()), (before, false));
    said
}

/// Changes one sign of the signed statement.
fn forge(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let mut bundle: Value = serde_json::from_str(&text).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
    let (head, tail) = payload.split_at(40);
    let other = if tail.starts_with('A') { 'B' } else { 'A' };
    bundle["dsseEnvelope"]["payload"] = format!("{head}{other}{}", &tail[1..]).into();
    fs::write(path, serde_json::to_vec(&bundle).unwrap()).unwrap();
}

#[test]
fn a_rebuild_starts_from_a_verified_release_and_keeps_the_chain_to_it() {
    let mut released = Released::new();
    let parish = released.parish();
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    // Nobody said yet whom to trust.
    let said = refuses(&parish, &[], 3, "could not decide: it is signed, but nobody has said on this machine");
    assert!(said.err.contains("parvis trust add FILE"), "{}", said.err);
    refuses(&parish, &["--lang", "fr"], 3, "impossible de décider");
    refuses(&parish, &["--unreleased"], 2, "`parvis.lock` is that of the release 1.4.0");
    parish.run(&["trust", "add", &released.key(), "--name", "maker"], 0);
    refuses(&parish, &["1.3.0"], 2, "`parvis.lock` is of `1.4.0`, not of `1.3.0`");
    let said = parish.run(&["rebuild", "1.4.0"], 0);
    assert!(said.err.contains("it starts from tests 1.4.0 of ") && said.err.contains("signed by maker"), "{}", said.err);
    let first = record(&parish, "1.4.0-sec.1");
    let statement = fs::read(parish.path().join("releases/1.4.0.sigstore.json")).unwrap();
    let payload = Bundle::parse(&statement).unwrap().payload;
    let digest = parvis::model::digest::BlobDigest::of(&payload).to_string();
    assert_eq!((&first["upstream"]["version"], &first["upstream"]["statement"]), (&"1.4.0".into(), &digest.clone().into()));
    assert!(parish.read("rebuilds/1.4.0-sec.1/report.md").contains(&digest));
    // The maintainer gets the same, and so does whoever begins from the folder of downloads; it says only another thing of the key.
    let maker = &released.maker;
    maker.run(&["trust", "add", &released.key(), "--name", "own"], 0);
    maker.run(&["rebuild", maker.path().join("out/release/1.4.0").to_str().unwrap()], 0);
    for file in ["rebuild.json", "parvis.lock", "openvex.json", "report.html", "rapport.md"] {
        let path = format!("rebuilds/1.4.0-sec.1/{file}");
        assert_eq!(parish.read(&path), maker.read(&path), "{file}");
    }
    // The next one goes through the first to the release.
    released.repo.date += 60;
    let second = ("1.0-1+deb13u2", "trixie-security", "low", "Closes CVE-2025-0002.");
    released.fix("1.0-1+deb13u2", &[second, FIX, OLD]);
    let lock = parish.read("releases/1.4.0.lock");
    parish.run(&["rebuild"], 0);
    assert_eq!(record(&parish, "1.4.0-sec.2")["upstream"], first["upstream"]);
    let report = parish.read("rebuilds/1.4.0-sec.2/report.md");
    assert!(report.contains("CVE-2025-0002") && !report.contains("CVE-2025-0001"), "{report}");
    // Whoever goes back to the release and rebuilds gets what was made before, and no second thing under its name.
    parish.write("parvis.lock", &lock);
    let said = parish.run(&["rebuild"], 0);
    assert!(said.err.contains("1.4.0-sec.1 was interrupted") && said.err.contains("1.4.0-sec.2 was interrupted"), "{}", said.err);
    assert_eq!(parish.read("parvis.lock"), parish.read("rebuilds/1.4.0-sec.2/parvis.lock"));
    assert!(!parish.path().join("rebuilds/1.4.0-sec.3").exists());
    // Rebuilds are looked at by their names, and releases where the registry has them.
    let outdated = |arguments: &[&str]| parish.run(&[&["outdated"], arguments].concat(), 0).out;
    assert!(outdated(&["1.4.0-sec.1"]).contains("1.0-1+deb13u1  1.0-1+deb13u2"));
    assert_eq!(outdated(&["1.4.0-sec.2"]), "the archive has nothing newer\n");
    let prefix = format!("{}/parish", released.registry.host());
    assert!(outdated(&["1.4.0", "--in", &prefix]).contains("1.0-1+deb13u2"));
    assert!(outdated(&[parish.path().join("rebuilds/1.4.0-sec.1").to_str().unwrap()]).contains("1.0-1+deb13u2"));
    assert!(outdated(&["app"]).contains("the archive has nothing newer"));
    let said = parish.run(&["affected", "CVE-2025-0002", "--in", &prefix], 1);
    assert!(
        said.out.contains(&format!("{prefix}/release:1.4.0:\n  foo 1.0-1: AFFECTED, fixed in 1.0-1+deb13u2")),
        "{}",
        said.out
    );
    parish.run(&["affected", "CVE-2025-0002", "--in", &format!("{prefix}/other")], 3);
}

#[test]
fn what_is_not_the_signed_release_is_not_rebuilt() {
    let mut released = Released::new();
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    let parish = released.trusting();
    let statement = parish.path().join("releases/1.4.0.sigstore.json");
    let honest = fs::read(&statement).unwrap();
    forge(&statement);
    refuses(&parish, &[], 1, "refused, E03: ");
    refuses(&parish, &["--dry-run", "--lang", "fr"], 1, "refusé, E03 : ");
    // Without it in the project, the registry has it; without that, nobody knows.
    fs::remove_file(&statement).unwrap();
    assert!(parish.run(&["rebuild", "--dry-run"], 0).err.contains("it starts from tests 1.4.0"));
    refuses(&parish, &["--kept-in", "127.0.0.1:9/parish"], 3, "127.0.0.1:9/parish/release");
    let elsewhere = format!("{}/other", released.registry.host());
    refuses(&parish, &["--kept-in", &elsewhere], 3, "could not decide, E01: no signed statement on the release 1.4.0");
    fs::write(&statement, &honest).unwrap();

    let lock = parish.read("parvis.lock");
    parish.run(&["lock", "--security"], 0);
    refuses(&parish, &["1.4.0"], 1, "refused, E04: `parvis.lock` is not the one that was signed with the release 1.4.0");
    parish.write("parvis.lock", &lock);
    parish.write("images/app/welcome.txt", "another\n");
    refuses(&parish, &[], 1, "refused, E03: these files are not as they were when 1.4.0 was signed: `images/app/welcome.txt`");
    // Where git knows nothing, the images tell.
    fs::remove_dir_all(parish.path().join(".git")).unwrap();
    let said = refuses(&parish, &[], 1, "refused, E03: `app`, built from what is here, is not what was signed");
    assert!(said.err.contains("is not at hand here"), "{}", said.err);
    parish.write("images/app/welcome.txt", "welcome\n");

    let stranger = released.parish();
    stranger.run(&["key", "new", "--no-passphrase"], 0);
    let own = stranger.path().with_file_name(".config/parvis/keys/release.pub");
    stranger.run(&["trust", "add", own.to_str().unwrap(), "--name", "own"], 0);
    refuses(&stranger, &[], 1, "refused, E02: ");
    parish.run(&["rebuild"], 0);
}

#[test]
fn a_release_whose_packages_left_the_archive_is_rebuilt_from_those_it_kept() {
    let mut released = Released::new();
    let old = released.repo.pool(Suite::Main, &world::libfoo("1.0-1"));
    let data = released.repo.pool(Suite::Main, world::packages().iter().find(|deb| deb.name() == "libfoo-data").unwrap());
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    for file in [old, data] {
        fs::remove_file(file).unwrap();
    }
    let parish = released.trusting();
    let nowhere = released.registry.kept(|kept| std::mem::take(&mut kept.manifests));
    let said = parish.run(&["rebuild", "--kept-in", "127.0.0.1:9/parish"], 3);
    assert!(said.err.contains("the present version cannot be built"), "{}", said.err);
    released.registry.kept(|kept| kept.manifests = nowhere);
    let said = parish.run(&["rebuild"], 0);
    let kept = format!("taking what the release kept in {}/parish", released.registry.host());
    assert!(said.err.contains(&kept), "{}", said.err);
    assert!(parish.read("parvis.lock").contains("1.0-1+deb13u1"));
}
