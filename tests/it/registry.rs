//! Registries: the door, against a registry of the tests that keeps to the rules or breaks them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use parvis::edge::fetch::FetchOptions;
use parvis::edge::registry::{Access, RegistryOptions, Remote};
use parvis::image::oci::{self, Descriptor, Document, EMPTY_BYTES};
use parvis::image::repository::{Repository as _, RepositoryError, WritableRepository as _};
use parvis::model::digest::BlobDigest;

use crate::kit::badreg::{Act, Registry, Setup};

/// Waits for nothing longer than a test may take.
fn hasty() -> RegistryOptions {
    RegistryOptions {
        network: FetchOptions { stall: Duration::from_millis(700), pause: Duration::from_millis(1), ..FetchOptions::default() },
        plain_http: false,
        credentials: Vec::new(),
        authorities: Vec::new(),
        certificates: Vec::new(),
        token_hosts: Vec::new(),
    }
}

fn remote_with(registry: &Registry, options: &RegistryOptions) -> Remote {
    Remote::open(&format!("{}/parish/httpd", registry.host()).parse().unwrap(), options, Access::Write).unwrap()
}

fn remote(registry: &Registry) -> Remote {
    remote_with(registry, &hasty())
}

/// Returns an error with its cause, as people read it, without the port that differs each time.
fn said(error: &RepositoryError, registry: &Registry) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!("\n  because: {cause}")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("{error}{cause}{hint}").replace(&registry.host(), "registry.example")
}

/// Something that is said about an image, with the subject it is said about.
fn artifact(subject: &Descriptor, word: &str) -> Document {
    let about = BTreeMap::from([("word".to_owned(), word.to_owned())]);
    oci::write_artifact("application/example", &[], Some(subject), &about).unwrap()
}

#[test]
fn what_is_written_is_read_back_byte_by_byte() {
    let registry = Registry::honest();
    let place = remote(&registry);
    let content = vec![7; 300_000];
    place.put_blob(&content).unwrap();
    place.put_blob(EMPTY_BYTES).unwrap();
    let image = oci::write_artifact("application/example", &[], None, &BTreeMap::new()).unwrap();
    place.put_document(&image, Some("1.4.0")).unwrap();

    let fresh = remote(&registry);
    let found = fresh.resolve("1.4.0").unwrap().unwrap();
    assert_eq!(found, image.descriptor());
    assert_eq!(fresh.document(&found.digest).unwrap().unwrap(), (image.media_type.to_owned(), image.bytes.clone()));
    assert_eq!((fresh.resolve("none").unwrap(), fresh.document(&BlobDigest::of(b"x")).unwrap()), (None, None));
    let mut read = Vec::new();
    fresh.blob(&BlobDigest::of(&content), 300_000).unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    assert!(fresh.blob(&BlobDigest::of(b"x"), 1).unwrap().is_none());
}

#[test]
fn what_is_there_is_not_sent_again() {
    let registry = Registry::honest();
    remote(&registry).put_blob(b"content").unwrap();
    registry.forget();
    remote(&registry).put_blob(b"content").unwrap();
    assert_eq!(registry.lines(), [format!("HEAD /v2/parish/httpd/blobs/{}", BlobDigest::of(b"content"))]);
}

#[test]
fn referrers_are_listed_with_and_without_the_registrys_help_and_none_is_lost() {
    for referrers in [true, false] {
        let registry = Registry::start(Setup { referrers, ..Setup::default() }, |_| Act::Honest);
        let place = remote(&registry);
        place.put_blob(EMPTY_BYTES).unwrap();
        let image = oci::write_artifact("application/image", &[], None, &BTreeMap::new()).unwrap();
        place.put_document(&image, None).unwrap();
        assert_eq!(place.referrers(&image.digest).unwrap(), []);
        let mut expected = Vec::new();
        for word in ["one", "two", "three"] {
            let document = artifact(&image.descriptor(), word);
            // From places of their own, as several people would.
            let place = remote(&registry);
            place.put_document(&document, None).unwrap();
            place.put_document(&document, None).unwrap();
            expected.push(document.digest);
            expected.sort();
            let found: Vec<BlobDigest> = place.referrers(&image.digest).unwrap().iter().map(|found| found.digest).collect();
            assert_eq!(found, expected, "with {referrers}");
        }
        let tag = format!("sha256-{}", image.digest.hex());
        assert_eq!(registry.tag("parish/httpd", &tag).is_none(), referrers);
    }
}

/// Another implementation reads what parvis wrote, and the other way round.
#[test]
fn oci_client_and_parvis_read_each_other() {
    use oci_client::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
    use oci_client::manifest::{OciImageManifest, OciManifest};
    use oci_client::secrets::RegistryAuth;

    let registry = Registry::honest();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client =
        Client::new(ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push: true, ..ClientConfig::default() });
    let name = |tag: &str| format!("{}/parish/httpd:{tag}", registry.host()).parse::<oci_client::Reference>().unwrap();

    let layers = [ImageLayer::oci_v1_gzip(vec![9; 10_000], None)];
    let config = Config::oci_v1(b"{}".to_vec(), None);
    let theirs = OciImageManifest::build(&layers, &config, None);
    runtime.block_on(client.push(&name("theirs"), &layers, config, &RegistryAuth::Anonymous, Some(theirs))).unwrap();
    let place = remote(&registry);
    let found = place.resolve("theirs").unwrap().unwrap();
    let read = oci::parse_manifest(&place.document(&found.digest).unwrap().unwrap().1).unwrap();
    let mut layer = Vec::new();
    place.blob(&read.layers[0].digest, read.layers[0].size).unwrap().unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, vec![9; 10_000]);

    let about = BTreeMap::new();
    let ours = oci::write_artifact("application/example", &read.layers, Some(&found), &about).unwrap();
    place.put_blob(EMPTY_BYTES).unwrap();
    place.put_document(&ours, Some("ours")).unwrap();
    let (manifest, digest) = runtime.block_on(client.pull_manifest(&name("ours"), &RegistryAuth::Anonymous)).unwrap();
    let OciManifest::Image(manifest) = manifest else { panic!("{manifest:?}") };
    assert_eq!((digest, manifest.layers.len()), (ours.digest.to_string(), 1));
    let subject = format!("{}/parish/httpd@{}", registry.host(), found.digest).parse().unwrap();
    let referrers = runtime.block_on(client.pull_referrers(&subject, None)).unwrap();
    assert_eq!(referrers.manifests.iter().map(|entry| entry.digest.clone()).collect::<Vec<_>>(), [ours.digest.to_string()]);
}
