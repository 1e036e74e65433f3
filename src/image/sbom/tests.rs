//! Tests of the lists: what they say, and that nothing in them hangs in the air.

use super::*;
use crate::model::licence;

fn sample() -> Inventory {
    let platform = Platform { architecture: "amd64".into(), os: "linux".into(), variant: None };
    let subject = |name: &str| Subject {
        repository: format!("registry.example/parish/{name}"),
        digest: BlobDigest::of(name.as_bytes()),
        platform: platform.clone(),
        description: "What it is.".into(),
    };
    let image = subject("httpd");
    let debian = Debian { vendor: "debian", distro: Some("debian-13") };
    let mut texts = LicenceTexts::new();
    let public_domain = licence::refer(&mut texts, "debian", "public-domain", "It belongs to nobody.");
    let mit = Licence::Term("MIT".into());
    let mut components = BTreeMap::new();
    let mut add = |component: Component| components.insert(component.id.clone(), component);
    let source = id(&["src", "libfoo++", "1:1.0-1"]);
    add(Component {
        version: Some("1:1.0-1".into()),
        purl: debian.purl("libfoo++", "1:1.0-1", "source"),
        ..Component::new(source.clone(), Role::Source, "libfoo++".into(), &image.repository)
    });
    let base = subject("base");
    let libfoo = id(&["deb", "libfoo++1"]);
    add(Component {
        version: Some("1:1.0-1+b1".into()),
        purl: debian.purl("libfoo++1", "1:1.0-1+b1", "amd64"),
        summary: Some("the library".into()),
        supplier: Some(Supplier::parse("Debian Foo Team (nice) <foo@lists.example>")),
        homepage: Some("https://foo.example/".into()),
        licence: Licence::all([mit.clone(), public_domain]),
        licence_note: Some("from /usr/share/doc/libfoo++1/copyright".into()),
        sha256: Some(FileDigest::of(b"deb").hex()),
        file: Some("pool/f/foo.deb".into()),
        source: Some(source),
        ..Component::new(libfoo.clone(), Role::Package, "libfoo++1".into(), &base.repository)
    });
    add(Component {
        version: Some("2".into()),
        licence: Some(mit.clone()),
        needs: [libfoo].into(),
        ..Component::new(id(&["deb", "app"]), Role::Package, "app".into(), &image.repository)
    });
    let composer = id(&["composer", "acme/a"]);
    add(Component {
        version: Some("1.0".into()),
        licence: Licence::any([mit, Licence::Term("GPL-2.0-or-later".into())]),
        url: Some("https://dist.example/a.zip".into()),
        ..Component::new(composer.clone(), Role::Composer, "acme/a".into(), &image.repository)
    });
    add(Component {
        url: Some("https://dist.example/a.patch".into()),
        needs: [composer].into(),
        ..Component::new(id(&["patch", "1"]), Role::Patch, "repairs the door".into(), &image.repository)
    });
    let file = |path: &str, origin| OwnFile {
        path: TreePath::parse(path.as_bytes()).unwrap(),
        sha256: FileDigest::of(path.as_bytes()),
        sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709".into(),
        origin,
        copied: None,
    };
    Inventory {
        tool: "0.1.0".into(),
        created: 1_763_000_000,
        image,
        ancestors: vec![base],
        components,
        files: vec![
            file("etc/made by app", Origin::Script("app".parse().unwrap())),
            file("srv/index.html", Origin::Recipe { image: "httpd".parse().unwrap(), line: 12 }),
        ],
        texts,
    }
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap()
}

#[test]
fn an_inventory_as_spdx() {
    insta::assert_snapshot!("spdx", pretty(&sample().document(Format::Spdx).unwrap()));
}

#[test]
fn an_inventory_as_cyclonedx() {
    insta::assert_snapshot!("cyclonedx", pretty(&sample().document(Format::CycloneDx).unwrap()));
}

/// Returns everything that a document says under a key, wherever it stands.
fn all_under<'a>(document: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match document {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key {
                    found.push(value);
                }
                all_under(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| all_under(item, key, found)),
        _ => {}
    }
}

fn texts_under(document: &Value, keys: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for key in keys {
        all_under(document, key, &mut found);
    }
    found.into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn every_id_stands_once_and_whatever_is_referred_to_is_there() {
    let spdx = sample().document(Format::Spdx).unwrap();
    let cyclonedx = sample().document(Format::CycloneDx).unwrap();
    for (document, own, references) in
        [(&spdx, "SPDXID", &["spdxElementId", "relatedSpdxElement"][..]), (&cyclonedx, "bom-ref", &["ref"][..])]
    {
        let ids = texts_under(document, &[own]);
        let once: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "{ids:?}");
        for reference in texts_under(document, references) {
            assert!(once.contains(&reference), "{reference} is nowhere");
        }
    }
    let mut lists = Vec::new();
    all_under(&cyclonedx, "dependsOn", &mut lists);
    let ids = texts_under(&cyclonedx, &["bom-ref"]);
    for reference in lists.iter().filter_map(|list| list.as_array()).flatten() {
        assert!(ids.contains(&reference.as_str().unwrap().to_owned()), "{reference} is nowhere");
    }
    let plain = |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    assert!(texts_under(&spdx, &["SPDXID"]).iter().all(plain));
}

#[test]
fn a_document_is_named_after_everything_in_it() {
    let first = sample();
    let mut second = sample();
    second.files[0].sha256 = FileDigest::of(b"other");
    for (format, name) in [(Format::Spdx, "documentNamespace"), (Format::CycloneDx, "serialNumber")] {
        let name = |inventory: &Inventory| inventory.document(format).unwrap()[name].as_str().unwrap().to_owned();
        assert_eq!(name(&first), name(&sample()));
        assert_ne!(name(&first), name(&second));
    }
}

#[test]
fn different_parts_have_different_ids() {
    let lists: [&[&str]; 8] = [
        &["deb", "a+b"],
        &["deb", "a-b"],
        &["deb", "aX2bb"],
        &["src", "a", "1-1"],
        &["src", "a-1", "1"],
        &["src", "a", "1~1"],
        &["src", "a", "1_1"],
        &["src", "a-N-1-1"],
    ];
    let ids: BTreeSet<String> = lists.iter().map(|parts| id(parts)).collect();
    assert_eq!(ids.len(), lists.len(), "{ids:?}");
}

#[test]
fn package_urls_are_encoded() {
    let debian = Debian { vendor: "debian", distro: Some("debian-13") };
    assert_eq!(
        debian.purl("libstdc++6", "1:14.2.0~rc1-19+b1", "amd64").unwrap(),
        "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0~rc1-19%2Bb1?arch=amd64&distro=debian-13"
    );
    assert_eq!(purl("composer", Some("acme"), "a", Some("1.0"), &[]).unwrap(), "pkg:composer/acme/a@1.0");
}

#[test]
fn a_maintainer_is_a_team_or_a_person() {
    for (field, name, email, team) in [
        (
            "Debian OpenSSL Team <pkg-openssl@alioth-lists.example>",
            "Debian OpenSSL Team",
            Some("pkg-openssl@alioth-lists.example"),
            true,
        ),
        ("Ada Example <ada@example.org>", "Ada Example", Some("ada@example.org"), false),
        ("\"Ada, Example\" <ada@example.org>", "Ada, Example", Some("ada@example.org"), false),
        ("Dpkg Developers <dpkg@lists.example>", "Dpkg Developers", Some("dpkg@lists.example"), true),
        ("Ada", "Ada", None, false),
    ] {
        let supplier = Supplier::parse(field);
        assert_eq!((supplier.name.as_str(), supplier.email.as_deref(), supplier.is_team()), (name, email, team), "{field}");
    }
}
