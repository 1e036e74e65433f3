//! `parvis push` and `parvis pull`: images of a project in a registry and back.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parvis::edge::registry::{Access, Remote};
use parvis::image::oci;
use parvis::image::repository::{Repository as _, WritableRepository as _};
use parvis::model::digest::BlobDigest;
use serde_json::Value;

use super::fetch::TlsServer;
use super::pipeline::built;
use crate::kit::badhttp::{Act as Answer, Request, Server};
use crate::kit::badreg::{Act, Registry, Setup, base64, registry_options};
use crate::kit::debreg::DebiansRegistry;
use crate::kit::mkdeb::{ARCHITECTURE, OTHER};
use crate::kit::project::{Project, Said, parvis};
use crate::kit::world;

fn push(project: &Project, registry: &Registry, more: &[&str], code: i32) -> Said {
    let to = format!("{}/parish", registry.host());
    project.run(&[&["push", "--tag", "1.4.0", "--to", &to], more].concat(), code)
}

/// Runs parvis on a machine that has only this folder.
fn elsewhere(folder: &Path, arguments: &[&str], code: i32) -> Said {
    let store = folder.join("store");
    let output = parvis(folder).arg("--store").arg(store).args(arguments).output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
    said
}

fn answer(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// Returns the blobs that a manifest of a registry names.
fn blobs(registry: &Registry, repository: &str, digest: &str) -> BTreeSet<String> {
    let bytes = registry.kept(|kept| kept.manifests[&(repository.to_owned(), digest.to_owned())].1.clone());
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.chain([&manifest["config"]]).map(|blob| blob["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn images_are_pushed_once_and_parts_of_their_parents_are_taken_over() {
    let (_repo, project, digests) = built();
    let registry = Registry::honest();
    let said = push(&project, &registry, &[], 0);
    for name in ["base", "app"] {
        let tagged = registry.tag(&format!("parish/{name}"), "1.4.0");
        assert_eq!(tagged.as_ref(), Some(&digests[name]));
        assert!(blobs(&registry, &format!("parish/{name}"), &digests[name]).len() > 1);
    }
    let last = said.out.lines().last().unwrap();
    assert!(last.starts_with(&format!("pushed {}/parish/app:1.4.0 (", registry.host())), "{last}");
    assert!(last.ends_with(&digests["app"]) && last.contains("parts were there"), "{last}");
    let mounts = registry.lines().iter().filter(|line| line.contains("mount=") && line.contains("from=parish/base")).count();
    assert!(mounts > 0, "{:?}", registry.lines());

    registry.forget();
    let said = push(&project, &registry, &[], 0);
    assert_eq!(
        said.out.lines().last(),
        Some(&*format!("nothing to push: {}/parish/app:1.4.0 is {}", registry.host(), digests["app"]))
    );
    assert_eq!(registry.lines(), ["GET /v2/parish/base/manifests/1.4.0", "GET /v2/parish/app/manifests/1.4.0"]);

    // Another tag of the same image is one small document.
    registry.forget();
    let said = project.run(&["push", "app", "--json", "--tag", "1.4", "--to", &format!("{}/parish", registry.host())], 0);
    assert_eq!(answer(&said)["images"][0]["sent"]["blobs"], 0);
    assert_eq!(registry.requests().iter().filter(|request| request.method != "GET").count(), 1);
    assert_eq!(registry.tag("parish/app", "1.4"), registry.tag("parish/app", "1.4.0"));
}

/// Row 15: a registry that mounts nothing begins an upload instead, and that one is used.
#[test]
fn a_registry_that_takes_nothing_over_gets_it_by_the_uploads_that_it_began() {
    let (_repo, project, digests) = built();
    let registry = Registry::start(Setup { referrers: true, no_mount: true, ..Setup::default() }, |_| Act::Honest);
    push(&project, &registry, &[], 0);
    let mut parts = 0;
    for name in ["base", "app"] {
        let repository = format!("parish/{name}");
        assert_eq!(registry.tag(&repository, "1.4.0").as_ref(), Some(&digests[name]));
        parts += blobs(&registry, &repository, &digests[name]).len();
    }
    let lines = registry.lines();
    let begun = |mount: bool| lines.iter().filter(|line| line.starts_with("POST ") && line.contains("mount=") == mount).count();
    assert!(begun(true) > 0, "{lines:?}");
    assert_eq!(begun(true) + begun(false), parts, "an upload for each part, and none that is left: {lines:?}");
}

#[test]
fn what_is_pulled_is_what_was_pushed() {
    let (_repo, project, digests) = built();
    let registry = Registry::honest();
    push(&project, &registry, &[], 0);
    let name = format!("{}/parish/app:1.4.0", registry.host());
    // A machine that has nothing yet.
    let other = tempfile::tempdir().unwrap();
    let layout = other.path().join("layout");
    let pull = |place: &str, code: i32, more: &[&str]| {
        elsewhere(other.path(), &[&["pull", &name, "--output", place], more].concat(), code)
    };
    let said = pull(layout.to_str().unwrap(), 0, &[]);
    assert!(
        said.out.starts_with(&format!("pulled {name} into {} (", layout.display()))
            && said.out.ends_with(&format!(": {}\nnothing is said of it there: it is not signed\n", digests["app"]))
    );
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let digest = BlobDigest::of(&fs::read(entry.path()).unwrap());
        assert_eq!(digest.hex(), entry.file_name().to_str().unwrap());
    }
    let found = fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
    assert_eq!(found, blobs(&registry, "parish/app", &digests["app"]).len() + 1);
    let archive = other.path().join("app.tar");
    registry.forget();
    let said = pull(archive.to_str().unwrap(), 0, &["--json"]);
    assert_eq!(answer(&said)["digest"], digests["app"]);
    assert!(registry.lines().iter().all(|line| !line.contains("/blobs/")), "what is in the store is not fetched again");
    let same = elsewhere(other.path(), &["diff", layout.to_str().unwrap(), archive.to_str().unwrap()], 0);
    assert!(same.out.contains("no difference"), "{}", same.out);
    let verified = elsewhere(other.path(), &["store", "verify"], 0);
    assert!(verified.out.contains(", 0 damaged"), "{}", verified.out);

    // By digest, and what is not there.
    let by_digest = format!("{}/parish/app@{}", registry.host(), digests["app"]);
    elsewhere(other.path(), &["pull", &by_digest], 0);
    let said = elsewhere(other.path(), &["pull", &name.replace("1.4.0", "2")], 1);
    assert!(said.err.contains("there is no `") && said.err.contains("hint: "), "{}", said.err);
    let said = elsewhere(other.path(), &["pull", name.trim_end_matches(":1.4.0")], 2);
    assert!(said.err.contains("does not say which version"), "{}", said.err);
    let said = pull(other.path().to_str().unwrap(), 2, &[]);
    assert!(said.err.contains("neither a layout nor empty"), "{}", said.err);
}

#[test]
fn a_damaged_part_is_neither_kept_nor_written() {
    let (_repo, project, digests) = built();
    let registry = Registry::honest();
    push(&project, &registry, &[], 0);
    let blob = blobs(&registry, "parish/app", &digests["app"]).into_iter().next().unwrap();
    registry.kept(|kept| kept.blobs.get_mut(&("parish/app".into(), blob.clone())).unwrap()[0] ^= 1);
    let other = tempfile::tempdir().unwrap();
    let (store, layout) = (other.path().join("store"), other.path().join("layout"));
    let name = format!("{}/parish/app:1.4.0", registry.host());
    let arguments = ["pull", &name, "--output", layout.to_str().unwrap()];
    let said = elsewhere(other.path(), &arguments, 3);
    assert!(said.err.contains(&blob) && said.err.contains("is not what was promised"), "{}", said.err);
    assert!(!layout.exists() && !store.join("blobs/sha256").join(&blob[7..]).exists());
    registry.kept(|kept| kept.blobs.get_mut(&("parish/app".into(), blob.clone())).unwrap()[0] ^= 1);
    elsewhere(other.path(), &arguments, 0);
}

#[test]
fn several_architectures_are_pushed_as_one_index_and_pulled_one_by_one_or_together() {
    let repo = world::archive();
    let project = Project::on(&repo);
    let yaml = project.read("parvis.yaml");
    let (own, both) = (format!("architectures: [{ARCHITECTURE}]"), format!("architectures: [{ARCHITECTURE}, {OTHER}]"));
    project.write("parvis.yaml", &yaml.replace(&own, &both));
    project.recipe(
        "page",
        "description: A page.\nfrom: scratch\nfiles:\n  - {from: page.html, to: /page.html, owner: \"0:0\", mode: \"0644\"}\n",
    );
    project.write("images/page/page.html", "<p>\n");
    project.run(&["lock"], 0);
    project.run(&["build", "--platform", ARCHITECTURE], 0);
    let registry = Registry::honest();
    let said = push(&project, &registry, &[], 1);
    assert!(said.err.contains(&format!("run `parvis build page --platform {OTHER}`")), "{}", said.err);
    assert_eq!(registry.lines(), Vec::<String>::new(), "nothing is sent before all is there");
    project.run(&["build", "--platform", OTHER], 0);
    push(&project, &registry, &[], 0);
    let said = push(&project, &registry, &["--json"], 0);
    let (index, platforms) = (&answer(&said)["images"][0]["digest"], &answer(&said)["images"][0]["platforms"]);
    assert_eq!((platforms[0].as_str(), platforms[1].as_str()), (Some(ARCHITECTURE), Some(OTHER)));
    assert_eq!(Some(index.as_str().unwrap().to_owned()), registry.tag("parish/page", "1.4.0"));

    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}/parish/page:1.4.0", registry.host());
    let pull = |place: &str, more: &[&str], code: i32| {
        let place = folder.path().join(place);
        elsewhere(folder.path(), &[&["pull", &name, "--json", "--output", place.to_str().unwrap()], more].concat(), code)
    };
    assert_eq!(answer(&pull("whole", &[], 0))["digest"], *index);
    let blobs = fs::read_dir(folder.path().join("whole/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 1 + 2 + 2 + 1, "the index, two manifests and configurations, one layer");
    let one = answer(&pull("one.tar", &["--platform", OTHER], 0));
    let manifest: Value = registry.kept(|kept| {
        let key = ("parish/page".to_owned(), index.as_str().unwrap().to_owned());
        serde_json::from_slice(&kept.manifests[&key].1).unwrap()
    });
    assert_eq!(one["digest"], manifest["manifests"][1]["digest"]);
    let said = pull("none", &["--platform", "riscv64"], 1);
    assert!(said.err.contains("has no image for `riscv64`") && said.err.contains("it has: amd64, arm64"), "{}", said.err);
}

/// Row 16: a push killed at each of its requests leaves the old tag, and the next one sends only what is missing.
#[test]
fn a_push_killed_at_any_request_leaves_the_old_tag_and_is_finished_by_the_next() {
    let (_repo, project, digests) = built();
    let old = "sha256:0000000000000000000000000000000000000000000000000000000000000000".to_owned();
    let whole = Registry::honest();
    project.run(&["push", "app", "--tag", "1.4.0", "--to", &format!("{}/parish", whole.host())], 0);
    let requests = whole.requests().len();
    let parts = blobs(&whole, "parish/app", &digests["app"]).len();
    assert!(requests > 2 * parts, "{requests}");
    for nth in 0..requests {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let registry = Registry::start(Setup { referrers: true, ..Setup::default() }, move |_: &Request| {
            if count.fetch_add(1, Ordering::SeqCst) == nth { Act::Silence } else { Act::Honest }
        });
        registry.kept(|kept| kept.tags.insert(("parish/app".into(), "1.4.0".into()), old.clone()));
        let to = format!("{}/parish", registry.host());
        let arguments = ["push", "app", "--tag", "1.4.0", "--to", &to];
        let mut child = project.parvis(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while seen.load(Ordering::SeqCst) <= nth {
            assert!(start.elapsed() < Duration::from_secs(20), "request {nth} never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The others that are under way may end.
        std::thread::sleep(Duration::from_millis(30));
        child.kill().unwrap();
        child.wait().unwrap();
        let tag = registry.tag("parish/app", "1.4.0").unwrap();
        // Only the very last request moves the tag, and it was carried out before nothing came back.
        let last = registry.lines().last().is_some_and(|line| line == "PUT /v2/parish/app/manifests/1.4.0");
        assert_eq!(tag == old, !last, "request {nth}: {:?}", registry.lines());
        let there: BTreeSet<String> = registry.kept(|kept| kept.blobs.keys().map(|(_, digest)| digest.clone()).collect());
        registry.forget();
        project.run(&arguments, 0);
        assert_eq!(registry.tag("parish/app", "1.4.0").as_ref(), Some(&digests["app"]));
        let sent = registry.lines().iter().filter(|line| line.starts_with("PUT") && line.contains("/uploads/")).count();
        assert_eq!(sent, parts - there.len(), "request {nth}");
    }
}

#[test]
fn a_project_says_where_to_and_who_may() {
    let (_repo, project, _) = built();
    let said = project.run(&["push", "base"], 2);
    insta::assert_snapshot!(said.err, @r"
    error: it is not said to which registry
    hint: write `registry: registry.example/parish` into `parvis.yaml`, or add `--to registry.example/parish`
    ");
    let said = project.run(&["push", "base", "--to", "parish"], 2);
    assert!(said.err.contains("`parish/base` names no registry"), "{}", said.err);
    let said = project.run(&["push", "base", "--to", "registry.example/parish", "--offline"], 2);
    assert!(said.err.contains("not to be used"), "{}", said.err);

    let setup = Setup { password: Some(("paroisse", "s3cret-pa55")), ..Setup::default() };
    let registry = Registry::start(setup, |_| Act::Honest);
    project.write("parvis.yaml", &format!("{}registry: {}/parish\n", project.read("parvis.yaml"), registry.host()));
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let said = project.run(&["push", "base"], 3);
    assert!(said.err.contains("log in with `docker login"), "{}", said.err);
    // Where docker keeps what it was told.
    let auth = serde_json::json!({"auths": {registry.host(): {"auth": base64("paroisse:s3cret-pa55")}}});
    let home = project.path().parent().unwrap().to_owned();
    fs::create_dir(home.join(".docker")).unwrap();
    fs::write(home.join(".docker/config.json"), auth.to_string()).unwrap();
    project.run(&["push", "base"], 0);
    assert!(registry.tag("parish/base", "dev").is_some());
}

/// Row 17: a credential helper that is missing, hangs, fails, prints secrets; a file that is none.
#[test]
fn credential_helpers_and_files_that_are_broken_are_named_and_keep_their_secrets() {
    use std::os::unix::fs::PermissionsExt as _;

    let (_repo, project, _) = built();
    let registry = Registry::start(Setup { password: Some(("paroisse", "s3cret-pa55")), ..Setup::default() }, |_| Act::Honest);
    let to = format!("{}/parish", registry.host());
    let home = project.path().parent().unwrap().to_owned();
    let tools = home.join("tools");
    fs::create_dir(&tools).unwrap();
    fs::create_dir(home.join(".docker")).unwrap();
    let helper = |name: &str, script: &str| {
        let path = tools.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper(
        "good",
        "read server; echo \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"paroisse\\\",\\\"Secret\\\":\\\"s3cret-pa55\\\"}\"",
    );
    helper("token", "echo '{\"Username\":\"<token>\",\"Secret\":\"s3cret-pa55\"}'");
    helper("hangs", "echo s3cret-pa55; echo s3cret-pa55 >&2; sleep 1000");
    helper("fails", "echo s3cret-pa55; echo s3cret-pa55 >&2; exit 1");
    helper("talks", "echo 'the password is s3cret-pa55'");
    helper("empty", "echo 'credentials not found in native keychain'; exit 1");
    let mut all = String::new();
    for (name, config) in [
        ("store", r#"{"credsStore":"good"}"#.to_owned()),
        ("helper of the host", format!(r#"{{"credsStore":"fails","credHelpers":{{"{}":"good"}}}}"#, registry.host())),
        ("identity token", r#"{"credsStore":"token"}"#.to_owned()),
        ("missing", r#"{"credsStore":"none"}"#.to_owned()),
        ("a path", r#"{"credsStore":"../../bin/sh"}"#.to_owned()),
        ("hangs", r#"{"credsStore":"hangs"}"#.to_owned()),
        ("fails", r#"{"credsStore":"fails"}"#.to_owned()),
        ("talks", r#"{"credsStore":"talks"}"#.to_owned()),
        ("knows nothing", r#"{"credsStore":"empty"}"#.to_owned()),
        ("not JSON", "s3cret-pa55".to_owned()),
        ("a key twice", r#"{"auths":{},"auths":{}}"#.to_owned()),
        ("not base64", format!(r#"{{"auths":{{"{}":{{"auth":"s3cret-pa55!"}}}}}}"#, registry.host())),
    ] {
        fs::write(home.join(".docker/config.json"), config).unwrap();
        let start = Instant::now();
        let mut command = project.parvis(&["push", "base", "--to", &to]);
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display()));
        let output = command.output().unwrap();
        let said = Said::from(&output);
        assert!(start.elapsed() < Duration::from_secs(15), "{name}");
        assert!(!said.err.contains("s3cret") && !said.out.contains("s3cret"), "{name}: {}", said.err);
        // How long it took is another thing each time.
        let errors = said.err.lines().filter(|line| !line.starts_with("push: ")).map(|line| format!("{line}\n"));
        let words = if output.status.success() { "pushed\n".into() } else { errors.collect::<String>() };
        let place = home.to_str().unwrap();
        write!(all, "# {name}\n{}", words.replace(&registry.host(), "registry.example").replace(place, "HOME")).unwrap();
    }
    insta::assert_snapshot!("credential_helpers", all);
}

#[test]
fn debians_registry_takes_what_parvis_sends_and_skopeo_reads_it() {
    let (_repo, project, digests) = built();
    let registry = DebiansRegistry::start();
    let to = format!("127.0.0.1:{}/parish", registry.port);
    project.run(&["push", "--tag", "1.4.0", "--to", &to], 0);
    let said = project.run(&["push", "--tag", "1.4.0", "--to", &to], 0);
    assert!(said.out.lines().all(|line| line.starts_with("nothing to push: ")), "{}", said.out);

    // skopeo copies it, byte by byte, and parvis sees no difference.
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("skopeo");
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().expect("skopeo is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let target = format!("oci:{}:app", layout.display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--preserve-digests", &format!("docker://{to}/app:1.4.0"), &target]);
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{to}/app:1.4.0")]);
    assert_eq!(BlobDigest::of(&raw).to_string(), digests["app"]);
    let pulled = folder.path().join("parvis");
    elsewhere(folder.path(), &["pull", &format!("{to}/app:1.4.0"), "--output", pulled.to_str().unwrap()], 0);
    let same = elsewhere(folder.path(), &["diff", layout.to_str().unwrap(), pulled.to_str().unwrap()], 0);
    assert!(same.out.contains("no difference"), "{}", same.out);

    // What is said about it is found by the tag that takes the place of a list.
    let options = registry_options();
    let place = Remote::open(&format!("{to}/app").parse().unwrap(), &options, Access::Write).unwrap();
    let subject = place.resolve("1.4.0").unwrap().unwrap();
    place.put_blob(oci::EMPTY_BYTES).unwrap();
    let mut expected = BTreeSet::new();
    for word in ["one", "two"] {
        let about = [("word".to_owned(), word.to_owned())].into();
        let document = oci::write_artifact("application/example", &[], Some(&subject), &about).unwrap();
        place.put_document(&document, None).unwrap();
        expected.insert(document.digest);
    }
    let found: BTreeSet<BlobDigest> = place.referrers(&subject.digest).unwrap().iter().map(|entry| entry.digest).collect();
    assert_eq!(found, expected);
}

/// Row 14: a certificate that nobody vouches for, and one that somebody does.
#[test]
fn a_registry_proves_who_it_is() {
    let (_repo, project, _) = built();
    let said = project.run(&["push", "base", "--to", "127.0.0.1:9/parish", "--registry-ca", "/dev/null"], 3);
    assert!(
        said.err.contains("the certificate file `/dev/null` holds no certificate") && said.err.contains("hint: "),
        "{}",
        said.err
    );
    let said = project.run(&["push", "base", "--to", "127.0.0.1:9/parish"], 3);
    assert!(said.err.contains("no connection") && said.err.contains("hint: check the name"), "{}", said.err);

    let server = TlsServer::new("IP:127.0.0.1", "2", tempfile::tempdir().unwrap());
    let (to, authority) = (format!("127.0.0.1:{}/parish", server.port), server.folder.path().join("ca.pem"));
    let said = project.run(&["push", "base", "--to", &to], 3);
    assert!(said.err.contains("cannot prove who it is") && said.err.contains("/etc/docker/certs.d/127.0.0.1:"), "{}", said.err);
    // Behind the certificate is a server that knows nothing of registries.
    let said = project.run(&["push", "base", "--to", &to, "--registry-ca", authority.to_str().unwrap()], 3);
    assert!(!said.err.contains("cannot prove who it is"), "{}", said.err);
    let folder = project.path().parent().unwrap().join(".config/containers/certs.d").join(to.trim_end_matches("/parish"));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&authority, folder.join("ca.crt")).unwrap();
    let said = project.run(&["push", "base", "--to", &to], 3);
    assert!(!said.err.contains("cannot prove who it is"), "{}", said.err);
}

/// Row 14 once more: what is wrong with a certificate is said, with what to do about it; and a proxy is no registry.
#[test]
fn an_expired_certificate_another_host_and_a_proxy_that_wants_a_password_are_told_apart() {
    let (_repo, project, _) = built();
    for (names, days, cause, hint) in [
        (
            "IP:127.0.0.1",
            "-1",
            "xpired",
            "hint: check this machine's clock; if it is right, the registry's certificate has to be renewed",
        ),
        ("DNS:elsewhere.example", "2", "elsewhere.example", "hint: the address may lead to another server"),
    ] {
        let server = TlsServer::new(names, days, tempfile::tempdir().unwrap());
        let (to, authority) = (format!("127.0.0.1:{}/parish", server.port), server.folder.path().join("ca.pem"));
        let authority = authority.to_str().unwrap();
        let tag = format!("{to}/base:1");
        for arguments in
            [&["push", "base", "--to", &to][..], &["pull", &tag], &["verify", &tag], &["inspect", &tag], &["sign", &tag]]
        {
            // Signing asks for the key first, and there is none.
            let is_sign = arguments[0] == "sign";
            let said = project.run(&[arguments, &["--registry-ca", authority]].concat(), if is_sign { 2 } else { 3 });
            let expected = !is_sign && arguments[0] != "verify";
            assert!(
                !expected || said.err.contains("cannot prove who it is") && said.err.contains(hint),
                "{arguments:?}: {}",
                said.err
            );
            assert!(is_sign || said.err.contains(cause), "{arguments:?}: {}", said.err);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let proxy = Server::scripted(folder.path(), |_| Answer::Status(407));
    let mut command = project.parvis(&["push", "base", "--to", "registry.example/parish"]);
    let output = command.env("HTTPS_PROXY", proxy.url()).output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(3), "{}", said.err);
    assert!(said.err.contains("hint: put user and password into the proxy's URL"), "{}", said.err);
}
