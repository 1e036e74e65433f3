//! What an attacker can do, and what each gets: the codes with which `parvis verify` answers.
//!
//! ```text
//! a registry changes bytes                      E03 here
//! a tag moves back to an older signed release   E05 here; of a download in `trust`
//! a number stands for a newer signed release    E04 here, and it is not remembered
//! newer releases are hidden                     E06 here; of a download in `trust`
//! images are swapped, releases are mixed        E04, E03 here; of a download in `trust`
//! an attestation is passed off as a signature   E01 here
//! what is said of an image is taken away        E01 here
//! an archive is altered on its way              E03 here, byte by byte; of a bundle in `trust`
//! the file of the release key is stolen         E10 here
//! the key is stolen with its passphrase         E07 here, of an image in a registry; of a download in `trust`
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use parvis::edge::keys::{Passphrase, signing_key};
use parvis::edge::registry::{Access, Remote};
use parvis::image::oci::{self, Descriptor};
use parvis::image::repository::Repository as _;
use parvis::model::digest::BlobDigest;
use parvis::trust::bundle::BUNDLE;
use parvis::trust::statement::{Attachment, SIGNATURE, SPDX, Statement, Subject};
use serde_json::json;

use crate::kit::badreg::{Registry, registry_options};
use crate::kit::project::Said;
use crate::trust::{Person, Release, World, date, layout, push};

const REPOSITORY: &str = "registry.example/parish/hello";

/// A registry with an image of the makers under a tag.
struct Place {
    world: World,
    registry: Registry,
}

impl Place {
    fn new() -> Self {
        Self { world: World::new(), registry: Registry::honest() }
    }

    /// Puts an image there, and returns its digest.
    fn image(&self, content: &str, tag: &str) -> BlobDigest {
        let folder = self.world.maker.path(content);
        let image = layout(&folder, "hello", content);
        push(&self.registry, "parish/hello", &folder, &image, tag);
        image
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/parish/hello:{tag}", self.registry.host())
    }

    fn remote(&self) -> Remote {
        let name = format!("{}/parish/hello", self.registry.host()).parse().unwrap();
        Remote::open(&name, &registry_options(), Access::Write).unwrap()
    }

    /// Hangs a signed statement on an image.
    fn hang(&self, image: &BlobDigest, bundle: Vec<u8>, claims: &str) {
        let remote = self.remote();
        let (media_type, bytes) = remote.document(image).unwrap().unwrap();
        let about = [("dev.sigstore.bundle.predicateType".to_owned(), claims.to_owned())].into();
        let layers = [Descriptor::of(BUNDLE, &bundle)];
        let subject = Descriptor::of(media_type, &bytes);
        let artifact = oci::write_artifact(BUNDLE, &layers, Some(&subject), &about).unwrap();
        Attachment { bundle, artifact }.put(&remote, image).unwrap();
    }

    /// Makes a release of an image and hangs its statement there.
    fn release(&self, sequence: u64, image: BlobDigest, change: impl FnOnce(&mut Release)) -> Release {
        let mut release = Release::new(&self.world.maker, sequence, image);
        change(&mut release);
        release.sign(&self.world.maker);
        let bundle = fs::read(release.folder.join("release.sigstore.json")).unwrap();
        self.hang(&image, bundle, "https://parvis.example/release/v1");
        release
    }

    /// Asks for a verdict on a tag, as an image that was released under its own name.
    fn verdict(&self, tag: &str, code: Option<&str>) -> String {
        let found = self.world.verdict(&[&self.name(tag), "--repository", REPOSITORY], code);
        found["sentence"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_registry_that_changes_bytes_gets_nothing() {
    let place = Place::new();
    let image = place.image("hello", "1");
    let name = place.name("1");
    let parts: Vec<_> = place.registry.kept(|kept| kept.blobs.keys().cloned().collect());
    place.world.maker.run(&["sign", &name], 0);
    place.world.verdict(&[&name], None);
    for part in &parts {
        let flip = |at: usize| place.registry.kept(|kept| kept.blobs.get_mut(part).unwrap()[at] ^= 1);
        // The manifest lies there as a blob, too, and nobody asks for that.
        let is_manifest = part.1 == image.to_string();
        flip(3);
        place.world.verdict(&[&name], (!is_manifest).then_some("E03"));
        flip(3);
    }
    // Another document under the digest that was asked for.
    let key = ("parish/hello".to_owned(), image.to_string());
    let by_digest = format!("{}/parish/hello@{image}", place.registry.host());
    place.registry.kept(|kept| kept.manifests.get_mut(&key).unwrap().1.push(b' '));
    place.world.verdict(&[&by_digest], Some("E03"));
    // Under a tag it is another image, of which nothing is said.
    place.world.verdict(&[&name], Some("E03"));
}

#[test]
fn a_tag_that_moves_back_to_an_older_release_is_noticed_by_who_saw_the_newer_one() {
    let place = Place::new();
    let [old, new] = [("old", 1), ("new", 2)].map(|(content, sequence)| {
        let image = place.image(content, "stable");
        place.release(sequence, image, |_| {});
        image
    });
    let said = place.verdict("stable", None);
    assert!(said.contains("civiparoisse 1.2.0 of "), "{said}");
    place.registry.kept(|kept| kept.tags.insert(("parish/hello".into(), "stable".into()), old.to_string()));
    let said = place.verdict("stable", Some("E05"));
    assert!(said.contains("1.1.0 (number 1) is older than 1.2.0 (number 2)"), "{said}");
    place.registry.kept(|kept| kept.tags.insert(("parish/hello".into(), "stable".into()), new.to_string()));
    place.verdict("stable", None);
}

#[test]
fn a_newer_release_under_an_older_number_is_refused_and_not_remembered() {
    let place = Place::new();
    let [old, new] = [("old", 1), ("new", 2)].map(|(content, sequence)| {
        let image = place.image(content, &format!("1.{sequence}.0"));
        place.release(sequence, image, |_| {});
        image
    });
    let stands_for = |tag: &str, image: BlobDigest| {
        place.registry.kept(|kept| kept.tags.insert(("parish/hello".into(), tag.into()), image.to_string()));
    };
    stands_for("1.1.0", new);
    let said = place.verdict("1.1.0", Some("E04"));
    assert!(said.contains("the signature is about another release: `civiparoisse 1.2.0`, and not 1.1.0"), "{said}");
    // Had it been remembered, the genuine one would be the older one of two.
    stands_for("1.1.0", old);
    place.verdict("1.1.0", None);
    place.verdict("1.2.0", None);
    place.verdict("1.1.0", Some("E05"));
    // One image of both: the statement of the number that was named is the one that speaks.
    place.release(3, old, |_| {});
    stands_for("1.3.0", old);
    assert!(place.verdict("1.3.0", None).contains("civiparoisse 1.3.0 of "));
    place.verdict("1.1.0", Some("E05"));
    stands_for("stable", old);
    assert!(place.verdict("stable", None).contains("civiparoisse 1.3.0 of "));
}

#[test]
fn who_hides_newer_releases_wins_time_until_the_old_one_ends() {
    let place = Place::new();
    let image = place.image("hello", "stable");
    place.release(1, image, |release| {
        release.value["issued"] = date(-200).into();
        release.value["validUntil"] = date(-20).into();
    });
    let said = place.verdict("stable", Some("E06"));
    assert!(said.contains("20 days ago"), "{said}");
}

#[test]
fn swapped_images_and_mixed_releases_are_refused() {
    let place = Place::new();
    let image = place.image("hello", "1");
    place.release(1, image, |_| {});
    place.verdict("1", None);
    // A genuine image of the same makers, in the place of another one.
    let other = ["--repository", "registry.example/parish/other"];
    place.world.verdict(&[&[&*place.name("1")], &other[..]].concat(), Some("E04"));
    // The statement of one release on the image of another.
    let mixed = place.image("mixed", "2");
    let statement = fs::read(place.world.maker.path("release-1/release.sigstore.json")).unwrap();
    place.hang(&mixed, statement, "https://parvis.example/release/v1");
    place.verdict("2", Some("E04"));
}

#[test]
fn an_attestation_is_no_signature_whatever_it_is_called() {
    let place = Place::new();
    let image = place.image("hello", "1");
    let key = signing_key(Path::new(&place.world.maker.key("release.key")), &Passphrase::new("correct horse".into())).unwrap();
    let subjects = vec![Subject { name: REPOSITORY.into(), digest: image }];
    let list = Statement { subjects, predicate_type: SPDX.into(), predicate: json!({}) };
    let bundle = list.sign(&key).unwrap().to_bytes().unwrap();
    place.hang(&image, bundle.clone(), SPDX);
    let said = place.verdict("1", Some("E01"));
    assert!(said.contains(SPDX), "{said}");
    // It calls itself a signature on the outside.
    place.hang(&image, bundle, SIGNATURE);
    place.verdict("1", Some("E01"));
    place.world.maker.run(&["sign", &place.name("1")], 0);
    place.world.verdict(&[&place.name("1")], None);
}

#[test]
fn taking_away_what_is_said_of_an_image_makes_it_no_better() {
    let place = Place::new();
    let image = place.image("hello", "1");
    let keep = |kept: &mut crate::kit::badreg::Kept| kept.manifests.retain(|(_, digest), _| *digest == image.to_string());
    place.world.maker.run(&["sign", &place.name("1")], 0);
    place.world.verdict(&[&place.name("1")], None);
    place.registry.kept(|kept| {
        keep(kept);
        kept.tags.retain(|(_, tag), _| tag == "1");
    });
    place.world.verdict(&[&place.name("1")], Some("E01"));
    // Once a release was seen, a plain signature does not stand in for its statement.
    place.release(1, image, |_| {});
    place.verdict("1", None);
    place.registry.kept(keep);
    sign_as(&place, &image);
    let said = place.verdict("1", Some("E01"));
    assert!(said.contains("the statement on the release is missing, though `civiparoisse` had one before"), "{said}");
}

/// Hangs a plain signature of the makers on an image, for its own name.
fn sign_as(place: &Place, image: &BlobDigest) {
    let key = signing_key(Path::new(&place.world.maker.key("release.key")), &Passphrase::new("correct horse".into())).unwrap();
    let bundle = Statement::signature(REPOSITORY, *image).sign(&key).unwrap().to_bytes().unwrap();
    place.hang(image, bundle, SIGNATURE);
}

#[test]
fn no_byte_of_an_archive_can_be_altered_without_a_refusal() {
    let world = World::new();
    let folder = world.maker.path("out");
    layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    let archive: PathBuf = world.maker.path("images.tar");
    crate::trust::tar_of(&folder, &archive);
    let target = archive.to_str().unwrap().to_owned();
    world.maker.run(&["sign", &target], 0);
    world.verdict(&[&target], None);
    let right = fs::read(&archive).unwrap();
    let (mut refused, mut same) = (0, 0);
    for at in (0..right.len()).step_by(right.len() / 160) {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        fs::write(&archive, &wrong).unwrap();
        let output = world.parish.command(&["verify", &target, "--json"]).output().unwrap();
        let said = Said::from(&output);
        match output.status.code() {
            // Refused, or nothing that can be read as an archive any more.
            Some(1..=3) => refused += 1,
            // Padding of the tar, or one of the two forms of the signature: what an engine takes is as it was signed.
            Some(0) => same += usize::from(right[at] == 0 || said.out.contains("\"good\"")),
            other => panic!("byte {at}: {other:?} {said:?}"),
        }
    }
    assert!(refused > 60, "{refused} refused, {same} the same");
    // Of what is run, no byte: layer, configuration, manifest.
    for part in ["hello\0", "diff_ids", "layers\":"] {
        let begin = right.windows(part.len()).position(|window| window == part.as_bytes()).unwrap();
        for at in begin..begin + part.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 2;
            fs::write(&archive, &wrong).unwrap();
            let output = world.parish.command(&["verify", &target]).output().unwrap();
            assert_ne!(output.status.code(), Some(0), "byte {at} of {part:?}");
        }
    }
}

#[test]
fn the_file_of_a_key_is_worth_nothing_without_its_passphrase() {
    let world = World::new();
    let folder = world.maker.path("out");
    layout(&folder, &format!("{REPOSITORY}:1"), "hello");
    let folder = folder.to_str().unwrap();
    let thief = Person::new();
    let stolen = thief.path("stolen.key");
    fs::copy(world.maker.key("release.key"), &stolen).unwrap();
    for passphrase in ["", "password", "correct horse battery"] {
        let mut command = thief.command(&["sign", folder, "--key", stolen.to_str().unwrap()]);
        let output = command.env("PARVIS_PASSPHRASE", passphrase).output().unwrap();
        let said = Said::from(&output);
        assert_ne!(output.status.code(), Some(0), "{passphrase}");
        assert!(said.err.contains("E10: ") || passphrase.is_empty(), "{}", said.err);
    }
    world.verdict(&[folder], Some("E01"));
    // Each try costs what scrypt costs: cosign's parameters of today, and not less.
    let text = fs::read_to_string(&stolen).unwrap();
    let encoded: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let key: serde_json::Value = serde_json::from_slice(&key).unwrap();
    assert_eq!((&key["kdf"]["name"], key["kdf"]["params"]["N"].as_u64() >= Some(32_768)), (&json!("scrypt"), true), "{key:#}");
}

#[test]
fn a_stolen_key_counts_until_the_root_revokes_it() {
    let place = Place::new();
    let image = place.image("hello", "1");
    place.world.maker.run(&["sign", &place.name("1")], 0);
    place.world.verdict(&[&place.name("1")], None);
    place.world.maker.run(&["key", "rotate", "--revoke", "the laptop was stolen"], 0);
    // Until the parish has the new list, it cannot know.
    place.world.verdict(&[&place.name("1")], None);
    place.world.parish.run(&["trust", "add", &place.world.maker.key("keyring.sigstore.json")], 0);
    let found = place.world.verdict(&[&place.name("1")], Some("E07"));
    assert!(found["sentence"].as_str().unwrap().contains("the laptop was stolen"), "{found:#}");
    // Signed again with the key of now, it is good, and what the thief signed stands beside it.
    place.world.maker.run(&["sign", &place.name("1")], 0);
    place.world.verdict(&[&place.name("1")], None);
    assert_eq!(place.registry.tag("parish/hello", "1"), Some(image.to_string()));
}
