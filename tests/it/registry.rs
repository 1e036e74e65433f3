//! Registries: the door, against a registry of the tests that keeps to the rules or breaks them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parvis::edge::fetch::{FetchOptions, Proxies};
use parvis::edge::registry::{Access, RegistryOptions, Remote, Wanted};
use parvis::image::oci::{self, Descriptor, Document, EMPTY_BYTES};
use parvis::image::repository::{Repository as _, RepositoryError, WritableRepository as _};
use parvis::model::digest::BlobDigest;
use parvis::screen::Task;

use crate::kit::badhttp::Request;
use crate::kit::badreg::{self, Act, Registry, Setup};

/// Waits for nothing longer than a test may take.
fn hasty() -> RegistryOptions {
    RegistryOptions {
        network: FetchOptions { stall: Duration::from_secs(1), pause: Duration::from_millis(1), ..FetchOptions::default() },
        ..badreg::registry_options()
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

/// Answers the first requests for this path with something else.
fn first(times: usize, method: &'static str, part: &'static str, act: Act) -> impl Fn(&Request) -> Act + Send + Sync {
    let left = AtomicUsize::new(times);
    move |request| {
        let meant = request.method == method && request.path.contains(part);
        let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if meant && take() { act.clone() } else { Act::Honest }
    }
}

const ALWAYS: usize = usize::MAX;

/// Puts a small image with a tag into a registry of this kind, and returns what came of it.
fn write(setup: Setup, options: &RegistryOptions, script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> String {
    let registry = Registry::start(setup, script);
    let place = remote_with(&registry, options);
    let image = oci::write_artifact("application/example", &[], None, &BTreeMap::new()).unwrap();
    let written = place.put_blob(EMPTY_BYTES).and_then(|()| place.put_document(&image, Some("1.4.0")));
    match written {
        Ok(()) => {
            assert_eq!(registry.tag("parish/httpd", "1.4.0"), Some(image.digest.to_string()));
            "written".into()
        }
        Err(error) => {
            assert_eq!(registry.tag("parish/httpd", "1.4.0"), None, "the tag comes last");
            said(&error, &registry)
        }
    }
}

#[test]
fn troubles_that_pass_are_waited_for() {
    for (times, method, part, act) in [
        (2, "HEAD", "/blobs/", Act::refuse(500, "UNKNOWN", "internal error")),
        (2, "POST", "/uploads/", Act::refuse(500, "UNKNOWN", "internal error")),
        (2, "PUT", "/uploads/", Act::refuse(503, "UNAVAILABLE", "later")),
        (2, "PUT", "/manifests/", Act::refuse(502, "UNAVAILABLE", "later")),
        (2, "PUT", "/uploads/", Act::Close),
        (1, "PUT", "/uploads/", Act::Without("Location")),
        (1, "PUT", "/manifests/", Act::Without("Location")),
        (ALWAYS, "PUT", "/", Act::Without("Docker-Content-Digest")),
    ] {
        let what = format!("{times} {method} {part} {act:?}");
        assert_eq!(write(Setup::default(), &hasty(), first(times, method, part, act)), "written", "{what}");
    }
}

#[test]
fn a_registry_that_asks_for_time_gets_it() {
    let busy = Act::Answer(429, "Retry-After: 1\r\n".into(), Vec::new());
    let start = Instant::now();
    let options = RegistryOptions { network: FetchOptions { stall: Duration::from_secs(5), ..hasty().network }, ..hasty() };
    assert_eq!(write(Setup::default(), &options, first(1, "POST", "/uploads/", busy)), "written");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_registry_with_defects_is_refused_in_its_own_words() {
    let long = Act::Answer(400, "Content-Type: text/plain\r\n".into(), vec![b'x'; 5 << 20]);
    let control = Act::refuse(400, "\u{1b}[31mX", "line\nline\u{202e}");
    let mut said = String::new();
    for (name, act, method, part) in [
        ("500 for ever", Act::refuse(500, "UNKNOWN", "disk full"), "PUT", "/uploads/"),
        ("429 for ever", Act::refuse(429, "TOOMANYREQUESTS", "slow down"), "HEAD", "/blobs/"),
        ("no place to send to", Act::Without("Location"), "POST", "/uploads/"),
        ("a place that is none", Act::Answer(202, "Location: ftp://x/\r\n".into(), Vec::new()), "POST", "/uploads/"),
        ("uploads are redirected", Act::Answer(307, "Location: /v2/x\r\n".into(), Vec::new()), "PUT", "/uploads/"),
        ("no right", Act::refuse(403, "DENIED", "requested access to the resource is denied"), "POST", "/uploads/"),
        ("too large", Act::Answer(413, String::new(), b"<html>Too large</html>".to_vec()), "PUT", "/uploads/"),
        ("immutable tag", Act::refuse(409, "TAG_IMMUTABLE", "the tag 1.4.0 is immutable"), "PUT", "/manifests/"),
        ("words without end", long, "PUT", "/manifests/"),
        ("words that paint", control, "PUT", "/manifests/"),
        (
            "another digest",
            Act::Answer(201, format!("Docker-Content-Digest: {}\r\n", BlobDigest::of(b"x")), Vec::new()),
            "PUT",
            "/manifests/",
        ),
        ("silence", Act::Silence, "POST", "/uploads/"),
        ("the line is cut", Act::Close, "PUT", "/manifests/"),
        ("token wanted and not understood", Act::Answer(401, "WWW-Authenticate: Negotiate\r\n".into(), Vec::new()), "HEAD", "/"),
    ] {
        write!(said, "# {name}\n{}\n", write(Setup::default(), &hasty(), first(ALWAYS, method, part, act))).unwrap();
    }
    insta::assert_snapshot!("defects", said);
}

/// Options with a file as `docker login` writes it.
fn logged_in(file: &tempfile::NamedTempFile, host: &str, user: &str, password: &str) -> RegistryOptions {
    let auth = badreg::base64(&format!("{user}:{password}"));
    std::fs::write(file.path(), serde_json::json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    RegistryOptions { credentials: vec![file.path().to_owned()], ..hasty() }
}

const PASSWORD: Option<(&str, &str)> = Some(("paroisse", "s3cret-pa55"));

#[test]
fn a_password_is_shown_to_the_token_service_and_the_token_to_the_registry() {
    for basic in [false, true] {
        let registry = Registry::start(Setup { password: PASSWORD, basic, ..Setup::default() }, |_| Act::Honest);
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55");
        remote_with(&registry, &options).put_blob(b"content").unwrap();
        let requests = registry.requests();
        let tokens: Vec<_> = requests.iter().filter(|request| request.path.starts_with("/token")).collect();
        assert_eq!(tokens.len(), usize::from(!basic), "one token for all requests");
        if !basic {
            assert!(tokens[0].path.contains("scope=repository%3Aparish%2Fhttpd%3Apull%2Cpush"), "{}", tokens[0].path);
            assert!(tokens[0].path.contains("service=a+registry"), "{}", tokens[0].path);
        }
        for request in requests.iter().filter(|request| !request.path.starts_with("/token")) {
            let header = request.header("authorization");
            assert!(header.is_none_or(|header| header.starts_with("Basic") == basic), "{} {}", request.method, request.path);
        }
        let without = requests.iter().filter(|request| request.header("authorization").is_none()).count();
        assert_eq!(without, 1, "only the question that brings the challenge");
    }
}

#[test]
fn refused_passwords_and_tokens_end_in_words_without_the_password() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut all = String::new();
    let mut note = |name: &str, registry: &Registry, options: &RegistryOptions| {
        let error = remote_with(registry, options).resolve("1.4.0").unwrap_err();
        let words = said(&error, registry);
        for secret in ["s3cret-pa55", "a.token", &badreg::base64("paroisse:s3cret-pa55")] {
            assert!(!words.contains(secret) && !format!("{error:?}").contains(secret), "{name}: {error:?}");
        }
        write!(all, "# {name}\n{words}\n").unwrap();
        registry.requests().len()
    };
    let protected = || Setup { password: PASSWORD, ..Setup::default() };

    let registry = Registry::start(protected(), |_| Act::Honest);
    note("nobody is logged in", &registry, &hasty());
    note("a wrong password", &registry, &logged_in(&file, &registry.host(), "paroisse", "wrong"));

    let registry = Registry::start(Setup { basic: true, ..protected() }, |_| Act::Honest);
    note("nobody is logged in, and no tokens", &registry, &hasty());
    note("a wrong password, and no tokens", &registry, &logged_in(&file, &registry.host(), "paroisse", "wrong"));

    let forever = |request: &Request| {
        if request.path.starts_with("/token") {
            return Act::Honest;
        }
        let port = request.header("host").unwrap().to_owned();
        let words = format!("you said {}", request.header("authorization").unwrap_or("nothing"));
        let body = serde_json::json!({"errors": [{"code": "UNAUTHORIZED", "message": words}]}).to_string();
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{port}/token\"\r\n");
        Act::Answer(401, challenge, body.into_bytes())
    };
    let registry = Registry::start(protected(), forever);
    let asked = note("401 for ever", &registry, &logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55"));
    assert!(asked <= 4, "{asked} requests");

    let registry = Registry::start(protected(), first(ALWAYS, "GET", "/token", Act::refuse(503, "UNAVAILABLE", "no tokens")));
    note("503 for tokens", &registry, &logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55"));

    let not_a_token = Act::Answer(200, String::new(), b"{\"token\": \"a\\nb\"}".to_vec());
    let registry = Registry::start(protected(), first(ALWAYS, "GET", "/token", not_a_token));
    note("a token that is none", &registry, &logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55"));
    insta::assert_snapshot!("refused_passwords", all);
}

#[test]
fn a_password_never_goes_to_another_host() {
    let thief = Registry::honest();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut all = String::new();
    for realm in
        ["https://tokens.elsewhere.example/token", "http://tokens.elsewhere.example/token", "file:///etc/passwd", "nonsense"]
    {
        let setup = Setup { password: PASSWORD, realm: Some(realm.into()), ..Setup::default() };
        let registry = Registry::start(setup, |_| Act::Honest);
        let options = logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55");
        let error = remote_with(&registry, &options).put_blob(b"content").unwrap_err();
        write!(all, "# {realm}\n{}\n", said(&error, &registry)).unwrap();
    }
    insta::assert_snapshot!("foreign_realms", all);

    // Blobs may be elsewhere, and uploads may go there: what is secret stays.
    let content = vec![5; 1000];
    let place = thief.host().replace("127.0.0.1", "localhost");
    let digest = thief.put_blob("far", &content);
    let elsewhere = format!("Location: http://{place}/v2/far/blobs/{digest}\r\n");
    let upload = format!("Location: http://{place}/v2/far/blobs/uploads/1\r\n");
    let setup = Setup { password: PASSWORD, ..Setup::default() };
    let registry = Registry::start(setup, move |request| match &*request.method {
        "GET" if request.path.contains("/blobs/") => Act::Answer(307, elsewhere.clone(), Vec::new()),
        "POST" => Act::Answer(202, upload.clone(), Vec::new()),
        _ => Act::Honest,
    });
    let remote = remote_with(&registry, &logged_in(&file, &registry.host(), "paroisse", "s3cret-pa55"));
    remote.put_blob(b"other").unwrap();
    let mut read = Vec::new();
    remote.blob(&digest, 1000).unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    assert_eq!(thief.requests().len(), 2);
    assert!(registry.requests().iter().any(|request| request.header("authorization").is_some()));
    for request in thief.requests() {
        assert_eq!(request.header("authorization"), None, "{} {}", request.method, request.path);
    }
}

#[test]
fn what_is_served_damaged_is_refused_within_bounds() {
    let image = oci::write_artifact("application/example", &[], None, &BTreeMap::new()).unwrap();
    let content = vec![3; 100_000];
    let (right, kind) = (image.bytes.clone(), "application/vnd.oci.image.manifest.v1+json");
    let served = |headers: &str, body: Vec<u8>| Act::Answer(200, headers.to_owned(), body);
    let typed = format!("Content-Type: {kind}\r\n");
    let other = [&right[..], b" "].concat();
    let mut all = String::new();
    for (name, act) in [
        ("300 MB", served(&format!("{typed}X: y\r\n"), vec![b' '; 5 << 20])),
        ("other bytes", served(&typed, other)),
        ("cut off", Act::Truncate(10)),
        ("not JSON", served(&typed, b"<html>".to_vec())),
        ("a promise that is not kept", served(&format!("{typed}Docker-Content-Digest: sha256:../../x\r\n"), right.clone())),
        ("another type", served("Content-Type: application/vnd.oci.image.index.v1+json\r\n", right.clone())),
        ("no type", served("", b"{}".to_vec())),
        ("a key twice", served(&typed, b"{\"schemaVersion\":2,\"schemaVersion\":2}".to_vec())),
        ("redirected for ever", Act::Answer(302, "Location: /v2/parish/httpd/manifests/1.4.0\r\n".into(), Vec::new())),
        ("silence", Act::Silence),
        ("500 for ever", Act::refuse(500, "UNKNOWN", "internal error")),
    ] {
        let registry = Registry::start(Setup::default(), first(ALWAYS, "GET", "/manifests/", act));
        registry.put_manifest("parish/httpd", kind, &image.bytes, Some("1.4.0"));
        let error = remote(&registry).resolve("1.4.0").map(|found| format!("{found:?}"));
        let by_digest = remote(&registry).document(&image.digest).map(|found| format!("{:?}", found.map(|(kind, _)| kind)));
        writeln!(all, "# {name}").unwrap();
        for outcome in [error, by_digest] {
            all += &outcome.unwrap_or_else(|error| said(&error, &registry));
            all += "\n";
        }
    }
    let error = remote(&Registry::honest()).resolve("../../x").unwrap_err().to_string();
    assert!(
        error.ends_with("`../../x` is not a tag: letters, digits, `.`, `_` and `-`, at most 128, not starting with `.` or `-`"),
        "{error}"
    );
    insta::assert_snapshot!("damaged_documents", all);

    let mut all = String::new();
    let longer = [&content[..], b"x"].concat();
    let mut changed = content.clone();
    changed[50_000] ^= 1;
    for (name, times, act) in [
        ("longer than promised", ALWAYS, Act::Body(longer)),
        ("shorter than promised", ALWAYS, Act::Body(content[1..].to_vec())),
        ("other bytes", ALWAYS, Act::Body(changed)),
        ("cut off each time", ALWAYS, Act::Truncate(10)),
        ("cut off twice", 2, Act::Truncate(30_000)),
        ("silence", ALWAYS, Act::Silence),
        ("404", ALWAYS, Act::refuse(404, "BLOB_UNKNOWN", "blob unknown")),
    ] {
        let registry = Registry::start(Setup::default(), first(times, "GET", "/blobs/", act.clone()));
        let digest = registry.put_blob("parish/httpd", &content);
        let read = || -> Result<String, String> {
            let remote = remote(&registry);
            let blob = remote.blob(&digest, 100_000).map_err(|error| said(&error, &registry))?;
            let Some(mut blob) = blob else { return Ok("there is none".into()) };
            let mut bytes = Vec::new();
            blob.read_to_end(&mut bytes).map_err(|error| error.to_string().replace(&registry.host(), "registry.example"))?;
            assert_eq!(bytes, content);
            Ok("whole".into())
        };
        let outcome = read().unwrap_or_else(|error| error);
        write!(all, "# {name}\n{outcome}\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start(Setup::default(), first(times, "GET", "/blobs/", act));
        registry.put_blob("parish/httpd", &content);
        let wanted = [Wanted { digest, size: 100_000 }];
        let outcome = match remote(&registry).fetch(&wanted, folder.path(), &Nobody) {
            Ok(()) => {
                assert_eq!(std::fs::read(folder.path().join(digest.hex())).unwrap(), content);
                "whole".into()
            }
            Err(error) => {
                assert!(!folder.path().join(digest.hex()).exists(), "{name}");
                said(&error, &registry)
            }
        };
        writeln!(all, "{outcome}").unwrap();
    }
    insta::assert_snapshot!("damaged_blobs", all);
}

/// Nobody looks at the progress.
struct Nobody;

impl Task for Nobody {
    fn advance(&self, _by: u64) {}
    fn detail(&self, _text: &str) {}
}

#[test]
fn a_blob_that_was_cut_off_goes_on_where_it_stopped() {
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(Setup::default(), first(3, "GET", "/blobs/", Act::Truncate(70_000)));
    let digest = registry.put_blob("parish/httpd", &content);
    let wanted = [Wanted { digest, size: content.len() as u64 }];
    remote(&registry).fetch(&wanted, folder.path(), &Nobody).unwrap();
    assert_eq!(std::fs::read(folder.path().join(digest.hex())).unwrap(), content);
    let ranges: Vec<Option<String>> =
        registry.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    let expected = [None, Some("bytes=70000-"), Some("bytes=140000-"), Some("bytes=210000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
}

#[test]
fn a_list_of_referrers_is_read_page_by_page_and_not_without_end() {
    let subject = BlobDigest::of(b"subject");
    let kind = "application/vnd.oci.image.index.v1+json";
    let page = move |number: usize| {
        let entries: Vec<_> = (0..60)
            .map(|entry| {
                let digest = BlobDigest::of(format!("{number} {entry}").as_bytes()).to_string();
                serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7})
            })
            .collect();
        serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string().into_bytes()
    };
    for (pages, expected) in [(3, Some(180)), (usize::MAX, None)] {
        let registry = Registry::start(Setup::default(), move |request| {
            if !request.path.contains("/referrers/") {
                return Act::Honest;
            }
            let number = request.path.split_once("?page=").map_or(1, |(_, number)| number.parse().unwrap());
            let link = if number < pages {
                format!("Link: </v2/parish/httpd/referrers/{subject}?page={}>; rel=\"next\"\r\n", number + 1)
            } else {
                String::new()
            };
            Act::Answer(200, format!("Content-Type: {kind}\r\n{link}"), page(number))
        });
        let found = remote(&registry).referrers(&subject).map(|found| found.len());
        match expected {
            Some(count) => assert_eq!(found.unwrap(), count),
            None => assert_eq!(
                said(&found.unwrap_err(), &registry),
                format!("`the referrers of {subject}` in `registry.example/parish/httpd` are more than 1000")
            ),
        }
        assert!(registry.requests().len() < 20);
    }
}

#[test]
fn what_is_meant_for_this_machine_goes_through_no_proxy() {
    let (registry, proxy) = (Registry::honest(), Registry::honest());
    let address = Some(format!("http://{}", proxy.host()));
    let proxies = Proxies { http: address.clone(), all: address, ..Proxies::default() };
    let options = RegistryOptions { network: FetchOptions { proxies, ..hasty().network }, ..hasty() };
    remote_with(&registry, &options).put_blob(b"content").unwrap();
    assert_eq!((registry.lines().len(), proxy.lines().len()), (3, 0));
}
