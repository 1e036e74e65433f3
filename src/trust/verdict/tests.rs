//! The threat table: each row, and each code.

use serde_json::json;

use super::super::key::testing::key;
use super::super::keyring::RevokedKey;
use super::super::keyring::testing::keyring;
use super::*;
use crate::model::release::testing::release;

const REPOSITORY: &str = "registry.example/parish/httpd";

fn moment(text: &str) -> Moment {
    text.parse().unwrap()
}

fn now() -> Moment {
    moment("2026-12-01T00:00:00Z")
}

/// Trusts the root key 9, which vouches for the key 1, and the key 5 by itself.
fn trust() -> Trust {
    let root = Anchor { name: "civiparoisse".into(), key: key(9).public().clone(), keyring: Some(keyring()) };
    let alone = Anchor { name: "friend".into(), key: key(5).public().clone(), keyring: None };
    Trust::new(vec![root, alone])
}

fn nothing(_: &str, _: Fingerprint, _: Number) -> Option<String> {
    None
}

fn with<T>(trust: &Trust, seen: Option<Seen>, now: Moment, ask: impl FnOnce(&Question<'_>) -> T) -> T {
    let seen = |_: &str, _: Fingerprint| seen.clone();
    ask(&Question { now, trust, seen: &seen, taken_back: &nothing, product: None, number: None, older: false })
}

fn judge(bundle: &Bundle) -> Result<GoodRelease, Finding> {
    with(&trust(), None, now(), |question| question.release(bundle, "release.sigstore.json"))
}

fn signed(change: impl Fn(&mut Release), signer: u8) -> Bundle {
    let mut release = release();
    change(&mut release);
    release::sign(&release, &key(signer)).unwrap()
}

fn seen(sequence: u64, bundle: &Bundle, signer: u8) -> Seen {
    Seen {
        version: "1.4.0".parse().unwrap(),
        sequence,
        statement: BlobDigest::of(&bundle.payload),
        key: key(signer).public().fingerprint(),
    }
}

#[test]
fn a_release_that_a_vouched_key_signed_is_good() {
    let good = judge(&signed(|_| {}, 1)).unwrap();
    assert_eq!((good.signer.name.as_str(), good.signer.vouched), ("release", Some(("civiparoisse".into(), 1))));
    assert_eq!((good.replaced, good.compared), (None, false));
    let good = judge(&signed(|_| {}, 5)).unwrap();
    assert_eq!((good.signer.name.as_str(), good.signer.vouched), ("friend", None));
}

#[test]
fn e02_an_unknown_key_is_refused_with_its_fingerprint() {
    let finding = judge(&signed(|_| {}, 7)).unwrap_err();
    assert_eq!((finding.code(), finding.outcome()), ("E02", Outcome::Refused));
    assert_eq!(finding, Finding::UnknownKey { claimed: Some(key(7).public().fingerprint()), certificate: false });
    // A hint that names a trusted key does not make it one; it only says that the bytes were changed.
    let bundle = Bundle { material: Material::Key { hint: Some(key(1).public().hint()) }, ..signed(|_| {}, 7) };
    assert_eq!(judge(&bundle).unwrap_err().code(), "E03");
    let bundle = Bundle { material: Material::Certificate, ..signed(|_| {}, 7) };
    assert_eq!(judge(&bundle).unwrap_err(), Finding::UnknownKey { claimed: None, certificate: true });
}

#[test]
fn e03_a_changed_statement_is_refused() {
    let mut bundle = signed(|_| {}, 1);
    let at = bundle.payload.windows(5).position(|bytes| bytes == b"1.4.0").unwrap();
    bundle.payload[at] = b'9';
    assert_eq!(judge(&bundle).unwrap_err().code(), "E03");
}

#[test]
fn e04_another_product_or_another_kind_of_statement_is_refused() {
    let bundle = signed(|_| {}, 1);
    let no_memory = |_: &str, _: Fingerprint| None;
    let trust = trust();
    let question = Question {
        now: now(),
        trust: &trust,
        seen: &no_memory,
        taken_back: &nothing,
        product: Some("annuaire"),
        number: None,
        older: false,
    };
    assert_eq!(question.release(&bundle, "x").unwrap_err().code(), "E04");
    let sbom = Statement { predicate_type: statement::SPDX.into(), ..Statement::signature(REPOSITORY, BlobDigest::of(b"x")) };
    assert_eq!(judge(&sbom.sign(&key(1)).unwrap()).unwrap_err().code(), "E04");
    // A list of keys is no release either, though the root signed it.
    let bundle = keyring().sign(&key(9)).unwrap();
    assert_eq!(judge(&bundle).unwrap_err().code(), "E04");
}

#[test]
fn e04_a_release_of_another_number_than_the_one_that_was_named_is_refused() {
    let bundle = signed(|_| {}, 1);
    let ask = |number: &str| {
        let (trust, no_memory) = (trust(), |_: &str, _: Fingerprint| None);
        let number = Some(number.parse().unwrap());
        Question { now: now(), trust: &trust, seen: &no_memory, taken_back: &nothing, product: None, number, older: false }
            .release(&bundle, "x")
    };
    assert!(ask("1.4.0").is_ok());
    for other in ["1.3.9", "1.5.0", "1.4.0-rc.1", "1.4.0-sec.1"] {
        let finding = ask(other).unwrap_err();
        assert!(matches!(&finding, Finding::OtherNumber { found, .. } if found == "civiparoisse 1.4.0"), "{finding:?}");
        assert_eq!((finding.code(), finding.outcome()), ("E04", Outcome::Refused));
    }
}

#[test]
fn e05_an_older_release_is_refused_unless_it_is_wanted() {
    let bundle = signed(|_| {}, 1);
    let ask = |seen: Seen, older: bool| {
        let seen = |_: &str, _: Fingerprint| Some(seen.clone());
        let trust = trust();
        Question { now: now(), trust: &trust, seen: &seen, taken_back: &nothing, product: None, number: None, older }
            .release(&bundle, "x")
    };
    assert_eq!(ask(seen(15, &bundle, 1), false).unwrap_err().code(), "E05");
    assert!(ask(seen(15, &bundle, 1), true).unwrap().compared);
    assert!(ask(seen(14, &bundle, 1), false).is_ok());
    assert!(ask(seen(13, &bundle, 1), false).is_ok());
    // Two statements of one number: whoever serves the other one mixes releases.
    let other = signed(|release| release.files.clear(), 1);
    assert!(matches!(ask(seen(14, &other, 1), true), Err(Finding::Twice { sequence: 14, .. })));
}

#[test]
fn e06_a_release_or_a_list_of_keys_past_its_time_is_refused_with_its_age() {
    let bundle = signed(|_| {}, 1);
    let at = |now: &str| with(&trust(), None, moment(now), |question| question.release(&bundle, "x"));
    assert!(at("2027-05-23T12:00:00Z").is_ok());
    let finding = at("2027-06-23T12:00:00Z").unwrap_err();
    assert!(matches!(&finding, Finding::Expired { product: Some(_), days: 31, .. }), "{finding:?}");
    assert_eq!((finding.code(), finding.outcome()), ("E06", Outcome::Refused));
    assert!(matches!(at("2028-06-23T12:00:00Z"), Err(Finding::Expired { product: None, .. })));
}

#[test]
fn e07_a_revoked_key_counts_nowhere_and_never() {
    let mut trust = trust();
    let revoke = |trust: &mut Trust, signer: u8| {
        let mut keyring = keyring();
        keyring.version = 2 + u64::from(signer);
        keyring.keys.clear();
        keyring.revoked.push(RevokedKey { key: key(signer).public().fingerprint(), since: keyring.issued, why: "stolen".into() });
        assert_eq!(trust.take(keyring), Some("civiparoisse".into()));
    };
    revoke(&mut trust, 1);
    let finding = with(&trust, None, now(), |question| question.release(&signed(|_| {}, 1), "x")).unwrap_err();
    assert_eq!((finding.code(), finding.outcome()), ("E07", Outcome::Refused));
    assert!(matches!(finding, Finding::Revoked { .. }));
    // Not even where it is trusted by itself, nor when the bundle does not name its key.
    revoke(&mut trust, 5);
    for bundle in [signed(|_| {}, 5), Bundle { material: Material::Key { hint: None }, ..signed(|_| {}, 5) }] {
        let finding = with(&trust, None, now(), |question| question.release(&bundle, "x")).unwrap_err();
        assert!(matches!(finding, Finding::Revoked { .. }), "{finding:?}");
    }
}

#[test]
fn e07_an_older_list_of_keys_does_not_bring_a_revoked_key_back() {
    let mut trust = trust();
    let mut newer = keyring();
    newer.version = 2;
    newer.keys.clear();
    assert!(trust.take(newer).is_some());
    assert_eq!(trust.take(keyring()), None);
    assert!(with(&trust, None, now(), |question| question.release(&signed(|_| {}, 1), "x")).is_err());
}

#[test]
fn e07_a_replaced_key_is_good_where_the_root_says_so_and_refused_where_a_stranger_does() {
    let old = signed(|release| release.sequence = 13, 2);
    let good = with(&trust(), Some(seen(13, &old, 2)), now(), |question| question.release(&signed(|_| {}, 1), "x")).unwrap();
    assert_eq!(good.replaced, Some(key(2).public().fingerprint()));

    let mut strange = keyring();
    strange.root = key(8).public().clone();
    strange.keys[0].key = key(7).public().clone();
    let mut trust = trust();
    assert_eq!(trust.take(strange), None);
    let finding = with(&trust, None, now(), |question| question.release(&signed(|_| {}, 7), "x")).unwrap_err();
    assert_eq!(finding, Finding::Unconfirmed { key: key(7).public().fingerprint(), root: key(8).public().fingerprint() });
    assert_eq!(finding.code(), "E07");
}

#[test]
fn e07_a_key_whose_time_is_over_signs_nothing_new() {
    let late = signed(
        |release| {
            release.issued = moment("2028-06-01T00:00:00Z");
            release.valid_until = moment("2029-06-01T00:00:00Z");
        },
        1,
    );
    let finding = with(&trust(), None, moment("2028-07-01T00:00:00Z"), |question| question.release(&late, "x")).unwrap_err();
    assert!(matches!(finding, Finding::OutOfTime { .. }), "{finding:?}");
}

#[test]
fn e08_a_clock_before_the_release_decides_nothing() {
    let bundle = signed(|_| {}, 1);
    let at = |now: &str| with(&trust(), None, moment(now), |question| question.release(&bundle, "x"));
    let finding = at("2026-11-20T00:00:00Z").unwrap_err();
    assert_eq!((finding.code(), finding.outcome()), ("E08", Outcome::Undecided));
    assert!(at("2026-11-24T11:30:00Z").is_ok(), "half an hour is no wrong clock");
    assert!(matches!(at("2000-01-01T00:00:00Z"), Err(Finding::Clock { .. })));
}

#[test]
fn e09_and_e03_files_are_there_and_as_promised() {
    let release = release();
    let right: BTreeMap<String, FoundFile> =
        release.files().map(|(name, digest, size)| (name.to_owned(), Some((digest, size)))).collect();
    assert_eq!(files(release.files(), &right).unwrap(), (2, 7));
    let mut missing = right.clone();
    missing.insert("sbom/httpd.spdx.json".into(), None);
    assert_eq!(files(release.files(), &missing).unwrap_err(), Finding::Missing { name: "sbom/httpd.spdx.json".into() });
    let mut changed = right.clone();
    changed.insert("notes.md".into(), Some((FileDigest::of(b"other"), 5)));
    assert_eq!(files(release.files(), &changed).unwrap_err().code(), "E03");
    let mut longer = right;
    longer.insert("notes.md".into(), Some((FileDigest::of(b"notes"), 6)));
    assert_eq!(files(release.files(), &longer).unwrap_err().code(), "E03");
}

fn image(evidence: &[Evidence]) -> Result<GoodImage, Finding> {
    image_as(REPOSITORY, None, evidence)
}

fn image_as(repository: &str, released: Option<&str>, evidence: &[Evidence]) -> Result<GoodImage, Finding> {
    let image = ImageQuestion { place: "here", digest: BlobDigest::of(b"index"), repository: Some(repository), released };
    with(&trust(), None, now(), |question| question.image(&image, evidence))
}

fn plain(repository: &str, content: &[u8], signer: u8) -> Evidence {
    Evidence::Bundle(Statement::signature(repository, BlobDigest::of(content)).sign(&key(signer)).unwrap())
}

fn simple(repository: &str, content: &[u8], signer: u8) -> Evidence {
    let payload = Payload { repository: repository.into(), digest: BlobDigest::of(content) }.to_bytes().unwrap();
    let descriptor = crate::image::oci::write_index(&[]).unwrap().descriptor();
    let entry = Entry { payload: descriptor, signature: key(signer).sign(&payload) };
    Evidence::Simple { payload, entry }
}

#[test]
fn an_image_is_good_by_either_form_and_by_a_release_that_names_it() {
    for evidence in [plain(REPOSITORY, b"index", 1), simple(REPOSITORY, b"index", 1), plain("", b"index", 1)] {
        assert!(matches!(image(&[evidence]), Ok(GoodImage::Signature { .. })));
    }
    let release = Evidence::Bundle(signed(|_| {}, 1));
    assert!(matches!(image(&[plain(REPOSITORY, b"index", 1), release]), Ok(GoodImage::Release(_))));
}

#[test]
fn e01_nothing_that_counts_as_a_signature() {
    assert_eq!(image(&[]).unwrap_err().code(), "E01");
    // An SBOM, signed by a trusted key, is no signature of the image.
    let sbom = Statement {
        predicate_type: statement::SPDX.into(),
        predicate: json!({}),
        ..Statement::signature(REPOSITORY, BlobDigest::of(b"index"))
    };
    let evidence = [Evidence::Bundle(sbom.sign(&key(1)).unwrap()), Evidence::Else("application/strange".into())];
    let finding = image(&evidence).unwrap_err();
    assert_eq!(
        finding,
        Finding::NoSignature { place: "here".into(), others: vec!["application/strange".into(), statement::SPDX.into()] }
    );
    assert_eq!(finding.outcome(), Outcome::Refused);
}

#[test]
fn e01_whoever_takes_the_statement_away_does_not_get_a_plain_signature_believed() {
    let plain = plain(REPOSITORY, b"index", 1);
    let finding = image_as(REPOSITORY, Some("civiparoisse"), &[plain]).unwrap_err();
    assert_eq!(finding, Finding::NoStatement { product: "civiparoisse".into() });
}

#[test]
fn e04_a_signature_of_another_image_or_under_another_name_is_refused() {
    for evidence in [
        plain(REPOSITORY, b"other", 1),
        simple(REPOSITORY, b"other", 1),
        plain("registry.example/other/httpd", b"index", 1),
        simple("x.example/httpd", b"index", 1),
    ] {
        assert_eq!(image(&[evidence]).unwrap_err().code(), "E04");
    }
    let elsewhere = Evidence::Bundle(signed(|release| (release.images.clear(), release.sboms.clear()).0, 5));
    assert!(image(std::slice::from_ref(&elsewhere)).is_err());
    let release = Evidence::Bundle(signed(|release| release.registry = Some("mirror.example".into()), 1));
    assert_eq!(image(&[release]).unwrap_err().code(), "E04");
    // A name without a registry is that of a layout: its last part decides.
    for name in ["httpd", "civiparoisse/httpd"] {
        assert!(image_as(name, None, &[plain(REPOSITORY, b"index", 1)]).is_ok());
    }
    assert_eq!(image_as("proxy", None, &[plain(REPOSITORY, b"index", 1)]).unwrap_err().code(), "E04");
}

#[test]
fn e05_a_tag_moved_back_to_an_older_signed_image_is_refused() {
    let newer = signed(|release| release.sequence = 15, 1);
    let older = Evidence::Bundle(signed(|_| {}, 1));
    let question = ImageQuestion {
        place: "here",
        digest: BlobDigest::of(b"index"),
        repository: Some(REPOSITORY),
        released: Some("civiparoisse"),
    };
    let judge = |evidence: &[Evidence]| with(&trust(), Some(seen(15, &newer, 1)), now(), |ask| ask.image(&question, evidence));
    assert_eq!(judge(&[plain(REPOSITORY, b"index", 1), older.clone()]).unwrap_err().code(), "E05");
    // An image that is the same in both belongs to the newer one.
    assert!(judge(&[older, Evidence::Bundle(newer.clone())]).is_ok());
}

#[test]
fn junk_beside_a_good_signature_changes_nothing() {
    let good = plain(REPOSITORY, b"index", 1);
    let junk = [
        Evidence::Else("application/strange".into()),
        plain(REPOSITORY, b"index", 7),
        plain(REPOSITORY, b"other", 1),
        Evidence::Bundle(signed(|_| {}, 7)),
    ];
    for one in junk {
        assert!(image(&[one.clone(), good.clone()]).is_ok() && image(&[good.clone(), one]).is_ok());
    }
}

#[test]
fn every_code_is_refused_or_undecided_and_never_both() {
    let undecided: Vec<_> = [
        Finding::Clock { now: now(), issued: now() },
        Finding::Key { words: String::new() },
        Finding::Unreachable { place: String::new(), words: String::new() },
    ]
    .iter()
    .map(|finding| (finding.code(), finding.outcome()))
    .collect();
    assert_eq!(undecided, ["E08", "E10", "E11"].map(|code| (code, Outcome::Undecided)));
    assert_eq!(Finding::Unlisted { name: "x".into() }.outcome(), Outcome::Refused);
}
