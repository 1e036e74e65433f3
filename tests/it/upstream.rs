//! `parvis rebuild` of a release: what it starts from is verified first, its packages are kept, and the chain to it is written down.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use parvis::edge::keys::{Keys, Passphrase};
use parvis::trust::bundle::Bundle;
use parvis::trust::key::{PublicKey, SigningKey};
use serde_json::Value;

use crate::conditions::other_clock;
use crate::kit::badreg::Registry;
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::project::{Project, Said};
use crate::kit::user::User;
use crate::kit::world;

const OLD: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
const FIX: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001.");

/// A project that was released as 1.4.0, and the archive before any fix.
pub struct Released {
    pub repo: Repo,
    maker: Project,
    pub registry: Registry,
}

impl Released {
    fn new() -> Self {
        let repo = world::archive_of(&world::libfoo("1.0-1").changelog(&[OLD]));
        let maker = Project::sample(&repo);
        Self::of(repo, maker)
    }

    /// Locks a project and releases it.
    pub fn of(repo: Repo, maker: Project) -> Self {
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
        self.clone_to(Project::on(&self.repo))
    }

    fn clone_to(&self, parish: Project) -> Project {
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

    pub fn trusting(&self) -> Project {
        let parish = self.parish();
        parish.run(&["trust", "add", &self.key(), "--name", "maker"], 0);
        parish
    }

    fn fix(&mut self, version: &str, uploads: &[(&str, &str, &str, &str)]) {
        self.repo.date += 60;
        self.repo.add(Suite::Security, &world::libfoo(version).changelog(uploads)).publish();
    }
}

pub fn record(project: &Project, name: &str) -> Value {
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
    let said = parish.run(&["rebuild", "1.4.0", "--no-passphrase"], 0);
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
    let said = parish.run(&["rebuild", "--no-passphrase"], 0);
    assert!(said.err.contains("it goes on from the rebuild 1.4.0-sec.1, signed by parish ("), "{}", said.err);
    assert_eq!(record(&parish, "1.4.0-sec.2")["upstream"], first["upstream"]);
    assert_eq!(record(&parish, "1.4.0-sec.2")["previous"]["name"], "1.4.0-sec.1");
    let keys = [parish.path().with_file_name(".config/parvis/keys/parish.pub"), Path::new(&released.key()).to_owned()];
    walks_back(&parish, &key_of(&keys[0]), &key_of(&keys[1]), &released.registry.host());
    parish.run(&["trust", "add", &released.key(), "--name", "maker"], 0);
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

fn key_of(path: &Path) -> String {
    PublicKey::from_pem(&fs::read(path).unwrap()).unwrap().fingerprint().to_string()
}

/// A rebuild's folder and its images say what they came from.
fn walks_back(parish: &Project, own: &str, maker: &str, registry: &str) {
    let verify = |target: &str, code: i32| parish.run(&["verify", parish.path().join(target).to_str().unwrap()], code);
    for target in ["rebuilds/1.4.0-sec.2", "out", "out:app"] {
        let said = verify(target, 0);
        let way =
            format!("is the security rebuild 1.4.0-sec.2, rebuilt by parish ({own}) from release 1.4.0 of maker ({maker})\n");
        assert!(said.out.contains(&way), "{target}: {}", said.out);
        let steps = format!(
            "  1.4.0-sec.2: rebuilt by parish ({own}) from 1.4.0-sec.1\n  1.4.0-sec.1: rebuilt by parish ({own}) from release 1.4.0 of maker ({maker})\n"
        );
        assert!(said.out.contains(&steps), "{target}: {}", said.out);
        let path = parish.path().join(target);
        let document = serde_json::from_str(&parish.run(&["verify", path.to_str().unwrap(), "--json"], 0).out).unwrap();
        crate::kit::schema::assert_fits("verify", &document);
        assert_eq!(document["rebuilt"][1]["name"], "1.4.0-sec.1", "{document}");
    }
    // Who gets an image from a registry gets what is said of it.
    parish.run(&["push", "--tag", "1.4.0-sec.2", "--to", &format!("{registry}/paroisse")], 0);
    let said = parish.run(&["verify", &format!("{registry}/paroisse/app:1.4.0-sec.2")], 0);
    assert!(said.out.contains("is the security rebuild 1.4.0-sec.2, rebuilt by parish ("), "{}", said.out);
    let said = parish.run(&["inspect", &format!("{registry}/paroisse/app:1.4.0-sec.2")], 0);
    assert!(said.out.contains("  security rebuild\n                signed by parish ("), "{}", said.out);
    let french = parish.run(&["verify", parish.path().join("rebuilds/1.4.0-sec.1").to_str().unwrap(), "--lang", "fr"], 0);
    assert!(french.out.contains("est la reconstruction de sécurité 1.4.0-sec.1, faite par parish ("), "{}", french.out);
    // The folder stands for itself, wherever it is.
    let elsewhere = parish.path().with_file_name("elsewhere");
    let copy = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(&elsewhere);
        fs::create_dir(&elsewhere).unwrap();
        for entry in fs::read_dir(parish.path().join("rebuilds/1.4.0-sec.2")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), elsewhere.join(entry.file_name())).unwrap();
        }
        change(&elsewhere);
    };
    let refused = |code: i32, word: &str, change: &dyn Fn(&Path)| {
        copy(change);
        let said = parish.run(&["verify", elsewhere.to_str().unwrap()], code);
        assert!(said.err.contains(word), "{word}: {}{}", said.out, said.err);
    };
    let remove = |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    copy(&|_| {});
    assert!(parish.run(&["verify", elsewhere.to_str().unwrap()], 0).out.starts_with("good: "));
    refused(1, "refused, E01: no signature", &remove("rebuild.sigstore.json"));
    refused(1, "refused, E09: `1.4.0-sec.1.sigstore.json` is missing", &remove("1.4.0-sec.1.sigstore.json"));
    refused(1, "refused, E09: `release.sigstore.json` is missing", &remove("release.sigstore.json"));
    refused(1, "refused, E09: `report.html` is missing", &remove("report.html"));
    for name in ["rebuild.sigstore.json", "release.sigstore.json"] {
        refused(1, "refused, E03: ", &|folder| forge(&folder.join(name)));
    }
    for name in ["report.html", "parvis.lock", "rebuild.json", "openvex.json"] {
        refused(1, &format!("refused, E03: `{name}` was changed"), &|folder| {
            fs::write(folder.join(name), [fs::read(folder.join(name)).unwrap(), b" ".to_vec()].concat()).unwrap();
        });
    }
    // A statement that is not the one that was named: what was signed names its digest.
    refused(1, "refused, E09: `1.4.0-sec.1.sigstore.json` is missing", &|folder| {
        fs::copy(folder.join("rebuild.sigstore.json"), folder.join("1.4.0-sec.1.sigstore.json")).unwrap();
    });
    // Without the maker's key the rebuild is signed, and leads nowhere.
    parish.run(&["trust", "remove", "maker"], 0);
    refused(1, "refused, E02: it is signed by a key that you do not trust", &|_| {});
    assert!(parish.run(&["verify", parish.path().join("out").to_str().unwrap()], 1).err.contains("E02"));
    // Another parish trusts the maker, and has to be told who this one is.
    parish.run(&["trust", "add", elsewhere.join("parish.pub").to_str().unwrap(), "--name", "neighbour"], 0);
    refused(1, "refused, E02: it is signed by a key that you do not trust", &|_| {});
    parish.run(&["trust", "remove", "neighbour"], 0);
}

/// Signs a record as if it were that of a rebuild.
fn sign_as(key: &SigningKey, record: Value, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let bytes = parvis::image::canonical::to_bytes(&record).unwrap();
    fs::write(folder.join("rebuild.json"), bytes).unwrap();
    let bundle = parvis::trust::chain::statement(record).unwrap().sign(key).unwrap();
    fs::write(folder.join("rebuild.sigstore.json"), bundle.to_bytes().unwrap()).unwrap();
}

#[test]
fn a_rebuild_goes_on_only_from_rebuilds_that_are_signed_and_follow_from_the_release() {
    let mut released = Released::new();
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    let parish = released.trusting();
    parish.run(&["rebuild", "--no-passphrase"], 0);
    released.fix("1.0-1+deb13u2", &[("1.0-1+deb13u2", "trixie-security", "low", "Closes CVE-2025-0002."), FIX, OLD]);
    let folder = parish.path().join("rebuilds/1.4.0-sec.1");
    let (signature, honest) = (folder.join("rebuild.sigstore.json"), record(&parish, "1.4.0-sec.1"));
    let keys = Keys::new(&parish.path().with_file_name(".config/parvis"));
    let key = keys.open(&"parish".parse().unwrap(), &Passphrase::new(String::new())).unwrap();
    let tried = |arguments: &[&str], code: i32, word: &str| {
        let lock = parish.read("parvis.lock");
        let said = parish.run(&[&["rebuild", "--no-passphrase"], arguments].concat(), code);
        assert!(said.err.contains(word), "{word}: {}", said.err);
        assert!(said.err.contains("hint: restore the folder `rebuilds/` from") || arguments.contains(&"fr"), "{}", said.err);
        assert_eq!((parish.read("parvis.lock"), parish.path().join("rebuilds/1.4.0-sec.2").exists()), (lock, false));
    };
    let good = fs::read(&signature).unwrap();
    forge(&signature);
    tried(&[], 1, "refused, E03: ");
    fs::remove_file(&signature).unwrap();
    tried(&[], 1, "refused, E01: no signature was found in `rebuilds/1.4.0-sec.1/rebuild.sigstore.json`");
    fs::write(&signature, &good).unwrap();
    // The record beside the signature is another one, which leads to the same lock.
    let mut other = honest.clone();
    other["all"] = serde_json::json!([]);
    fs::write(folder.join("rebuild.json"), parvis::image::canonical::to_bytes(&other).unwrap()).unwrap();
    tried(&[], 1, "refused, E03: `rebuilds/1.4.0-sec.1/rebuild.json` was changed");
    // Somebody else signed it.
    sign_as(&SigningKey::from_random(&[7; 32]).unwrap(), honest.clone(), &folder);
    tried(&[], 1, "refused, E02: ");
    tried(&["--lang", "fr"], 1, "refusé, E02 : ");
    // Signed by the parish, and about another release, another beginning, another number.
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut other = honest.clone();
        change(&mut other);
        sign_as(&key, other, &folder);
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    forged(&|record| record["upstream"]["statement"] = digest.clone().into());
    tried(&[], 1, "refused, E04: the rebuild 1.4.0-sec.1 does not follow from what stands before it");
    forged(&|record| record["upstream"] = Value::Null);
    tried(&[], 1, "refused, E04: ");
    forged(&|record| record["previous"] = serde_json::json!({"name": "1.4.0-sec.7", "statement": digest}));
    tried(&[], 1, "refused, E04: ");
    forged(&|record| record["name"] = "1.5.0-sec.1".into());
    tried(&[], 1, "refused, E04: ");
    // Signed by the parish, and not about the images that are here.
    let other = |project: &Project, code: i32, word: &str| {
        let said = project.run(&["rebuild", "--no-passphrase"], code);
        assert!(said.err.contains(word), "{word}: {}", said.err);
    };
    forged(&|record| drop(record["all"].as_array_mut().unwrap().remove(0)));
    other(&parish, 1, "refused, E03: `base` is an image of the project here, and what was signed does not name it");
    forged(&|record| {
        let mut more = record["all"][0].clone();
        more["name"] = "gone".into();
        record["all"].as_array_mut().unwrap().push(more);
    });
    other(&parish, 1, "refused, E09: `gone` was signed, and is no image of the project here");
    forged(&|record| record["all"][0]["manifest"] = digest.clone().into());
    other(&parish, 1, "refused, E03: `base`, built from what is here, is not what was signed");
    // A rebuild that would be finished is one that is verified before.
    sign_as(&key, honest.clone(), &folder);
    let mut more = honest.clone();
    let present = parish.read("parvis.lock");
    parish.run(&["lock", "--security"], 0);
    let lock = parish.read("parvis.lock");
    parish.write("parvis.lock", &present);
    more["name"] = "1.4.0-sec.9".into();
    more["base_lock"] = honest["lock"].clone();
    more["lock"] = parvis::model::digest::FileDigest::of(lock.as_bytes()).to_string().into();
    more["previous"] = serde_json::json!({"name": "1.4.0-sec.1", "statement": digest});
    let ninth = parish.path().join("rebuilds/1.4.0-sec.9");
    sign_as(&SigningKey::from_random(&[7; 32]).unwrap(), more.clone(), &ninth);
    fs::write(ninth.join("parvis.lock"), &lock).unwrap();
    tried(&[], 1, "refused, E02: ");
    sign_as(&key, more, &ninth);
    tried(&[], 1, "refused, E04: the rebuild 1.4.0-sec.9 does not follow");
    // A lock that is not the one which it names is not taken, and its number not given again.
    fs::write(ninth.join("parvis.lock"), format!("{lock}\n")).unwrap();
    let said = parish.run(&["rebuild", "--no-passphrase", "--dry-run"], 0);
    assert!(!said.err.contains("was interrupted") && said.out.contains("(1.4.0-sec.10)"), "{}{}", said.out, said.err);
    fs::remove_dir_all(&ninth).unwrap();
    // Nobody signed it, and somebody says so.
    fs::remove_file(&signature).unwrap();
    let said = parish.run(&["rebuild", "--no-passphrase", "--unsigned"], 0);
    assert!(said.err.contains("it goes on from the rebuild 1.4.0-sec.1, which nobody signed"), "{}", said.err);
    assert_eq!(record(&parish, "1.4.0-sec.2")["previous"]["name"], "1.4.0-sec.1");
    let said = parish.run(&["verify", parish.path().join("rebuilds/1.4.0-sec.2").to_str().unwrap()], 1);
    assert!(said.err.contains("E09: `1.4.0-sec.1.sigstore.json` is missing"), "{}", said.err);
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

    // The statement of another release stands in the place of the one that is asked for.
    for ending in ["sigstore.json", "lock"] {
        let copy = |number: &str| parish.path().join(format!("releases/{number}.{ending}"));
        fs::copy(copy("1.4.0"), copy("1.5.0")).unwrap();
    }
    refuses(&parish, &["1.5.0"], 1, "refused, E04: the signature is about another release: `tests 1.4.0`, and not 1.5.0");
    for ending in ["sigstore.json", "lock"] {
        fs::remove_file(parish.path().join(format!("releases/1.5.0.{ending}"))).unwrap();
    }
    // A number that was published is never given again, though its folder is not here.
    parish.write("releases/1.4.0-sec.1.lock", "another\n");
    assert!(parish.run(&["rebuild", "--dry-run"], 0).out.contains("(1.4.0-sec.2)"));
    fs::remove_file(parish.path().join("releases/1.4.0-sec.1.lock")).unwrap();

    let stranger = released.parish();
    stranger.run(&["key", "new", "--no-passphrase"], 0);
    let own = stranger.path().with_file_name(".config/parvis/keys/release.pub");
    stranger.run(&["trust", "add", own.to_str().unwrap(), "--name", "own"], 0);
    refuses(&stranger, &[], 1, "refused, E02: ");
    parish.run(&["rebuild"], 0);
}

#[test]
fn a_newer_release_in_the_place_of_the_one_that_is_rebuilt_is_refused_and_not_remembered() {
    let mut released = Released::new();
    let parish = released.trusting();
    let to = format!("{}/parish", released.registry.host());
    released.maker.write("images/app/welcome.txt", "welcome to 1.5.0\n");
    released.commit();
    released.maker.run(&["release", "1.5.0", "--to", &to, "--no-passphrase"], 0);
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    let statement = parish.path().join("releases/1.4.0.sigstore.json");
    let honest = fs::read(&statement).unwrap();
    fs::copy(released.maker.path().join("releases/1.5.0.sigstore.json"), &statement).unwrap();
    let word = "refused, E04: the signature is about another release: `tests 1.5.0`, and not 1.4.0";
    refuses(&parish, &["1.4.0"], 1, word);
    refuses(&parish, &[], 1, word);
    fs::write(&statement, &honest).unwrap();
    parish.run(&["rebuild", "1.4.0", "--dry-run"], 0);
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

/// How a parish runs parvis: its user where the tests may make one, its umask, its clock, and what its environment says.
struct Ways<'a> {
    user: Option<&'a User>,
    umask: &'a str,
    clock: Option<&'a Path>,
    environment: &'a [(&'a str, &'a str)],
}

impl Ways<'_> {
    fn run(&self, project: &Project, arguments: &[&str]) -> Said {
        let inner = project.parvis(arguments);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {}; exec \"$@\"", self.umask), "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().current_dir("/").envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.envs(self.environment.iter().copied());
        command.envs(self.clock.map(|clock| ("LD_PRELOAD", clock)));
        let output = match self.user {
            Some(user) => user.command(&command).output(),
            None => command.output(),
        };
        let output = output.unwrap();
        let said = Said::from(&output);
        assert!(output.status.success(), "{arguments:?}: {}{}", said.out, said.err);
        said
    }
}

/// The same release, the same state of the archive, the same parvis: all else is another.
#[test]
fn two_parishes_and_the_maintainer_get_the_same_bytes_on_whatever_day() {
    let mut released = Released::new();
    released.fix("1.0-1+deb13u1", &[FIX, OLD]);
    for folder in [released.repo.path(), released.maker.path().parent().unwrap()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let clock = |days: u32| {
        let folder = place.path().join(days.to_string());
        fs::create_dir(&folder).unwrap();
        other_clock(&folder, days)
    };
    let (three, five) = (clock(3), clock(5));
    let key = place.path().join("maker.pub");
    fs::copy(released.key(), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let user = User::new(true);
    let plain = |umask, clock, environment| Ways { user: None, umask, clock, environment };
    let all = [
        (released.clone_to(Project::on(&released.repo)), plain("077", None, &[("LANG", "C")][..])),
        (
            released.clone_to(Project::on(&released.repo)),
            Ways {
                user: user.as_ref(),
                umask: "022",
                clock: Some(&three),
                environment: &[("LANG", "fr_FR.UTF-8"), ("TZ", "Asia/Tokyo")],
            },
        ),
        (
            released.clone_to(Project::in_folder(&released.repo, "une paroisse \u{e9}loign\u{e9}e")),
            plain("002", Some(&five), &[("LC_ALL", "tr_TR.UTF-8"), ("TZ", "America/Lima")][..]),
        ),
    ];
    let mut made = Vec::new();
    for (at, (project, ways)) in all.iter().enumerate() {
        if let Some(user) = ways.user {
            user.own(project.path().parent().unwrap());
        }
        ways.run(project, &["trust", "add", key.to_str().unwrap(), "--name", &format!("maker-{at}")]);
        let threads = (at + 1).to_string();
        let said = ways.run(project, &["rebuild", "--no-passphrase", "--threads", &threads]);
        // Only what is said to a person knows of the day: the clock was really another one.
        let out = project.path().join("rebuilds/1.4.0-sec.1");
        let days = |text: &str| ways.run(project, &["verify", out.to_str().unwrap(), "--lang", "en"]).out.contains(text);
        assert!(days(&format!("issued {} days ago", [0, 3, 5][at])), "{at}");
        assert_eq!(said.out.contains("est construite"), at == 1, "{}", said.out);
        let mut files: Vec<String> =
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // Whose signature it is differs, and what it is of does not.
        files.retain(|name| !["rebuild.sigstore.json", "parish.pub"].contains(&name.as_str()));
        files.sort();
        assert!(files.len() == 8, "{files:?}");
        let read = |name: &String| project.read(&format!("rebuilds/1.4.0-sec.1/{name}"));
        let bundle = Bundle::parse(project.read("rebuilds/1.4.0-sec.1/rebuild.sigstore.json").as_bytes()).unwrap();
        let contents: Vec<(String, String)> = files.iter().map(|name| (name.clone(), read(name))).collect();
        made.push((contents, bundle.payload, crate::rebuild::digests(project), project.read("parvis.lock")));
    }
    for other in &made[1..] {
        for (one, other) in made[0].0.iter().zip(&other.0) {
            assert_eq!(one, other);
        }
        assert!((&made[0].1, &made[0].2, &made[0].3) == (&other.1, &other.2, &other.3));
    }
}
