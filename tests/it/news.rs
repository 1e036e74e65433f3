//! `parvis outdated` and `affected`: what is newer, and what the changelogs say of it.

use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said, parvis};

const OLD: (&str, &str, &str, &str) = ("1-1", "unstable", "medium", "First. Closes CVE-2024-0001.");
const FIX: (&str, &str, &str, &str) =
    ("1-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001 and CVE-2025-0002 (DSA-9999-1).");

/// An archive with a library of two packages, of which one has the other's documentation.
fn archive() -> Repo {
    let mut repo = Repo::new();
    repo.add(Suite::Main, &Deb::new("base-files", "13").essential());
    repo.add(Suite::Main, &Deb::new("app", "1").depends("libfoo (>= 1-1)").changelog(&[("1", "unstable", "low", "First.")]));
    for deb in foo("1-1", &[OLD]) {
        repo.add(Suite::Main, &deb);
    }
    repo.publish();
    repo
}

/// The packages of one source: the smaller one only links to the documentation of the other.
fn foo(version: &str, uploads: &[(&str, &str, &str, &str)]) -> [Deb; 2] {
    let data = "x"
        .repeat(9000)
        .into_bytes()
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ u8::try_from(at * at % 251).unwrap_or_default())
        .collect::<Vec<_>>();
    [
        Deb::new("foo-data", version).field("Source", "foo").file("/usr/share/foo", data).changelog(uploads),
        Deb::new("libfoo", version).field("Source", "foo").depends("foo-data").symlink("/usr/share/doc/libfoo", "foo-data"),
    ]
}

fn project(address: &str) -> Project {
    let project = Project::new(address);
    project.recipe("base", "description: The base.\nfrom: scratch\npackages: [libfoo]\n");
    project.recipe("web", "description: The program.\nfrom: base\npackages: [app]\n");
    project.run(&["lock"], 0);
    project
}

fn fixed(repo: &mut Repo) {
    repo.date += 60;
    repo.add(
        Suite::Updates,
        &Deb::new("app", "2").depends("libfoo").changelog(&[("2", "trixie", "low", "Closes CVE-2025-7777.")]),
    );
    for deb in foo("1-1+deb13u1", &[FIX, OLD]) {
        repo.add(Suite::Security, &deb);
    }
    repo.publish();
}

#[test]
fn security_fixes_stand_first_with_the_holes_that_their_changelog_names() {
    let mut repo = archive();
    let project = project(&repo.url());
    assert_eq!(project.run(&["outdated"], 0).out, "the archive has nothing newer\n");
    fixed(&mut repo);
    let said = project.run(&["outdated"], 0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "Security fixes (`parvis rebuild`):", "{}", said.out);
    let cells: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(cells[..4], ["foo", "1-1", "1-1+deb13u1", "trixie-security"]);
    assert_eq!(cells[6..], ["high", "base,", "web"], "{}", said.out);
    assert_eq!(lines[3], "  CVE-2025-0001, CVE-2025-0002");
    assert!(lines[4].starts_with("to download: ") && lines[6].starts_with("Other updates"), "{}", said.out);
    assert!(!said.out.contains("CVE-2025-7777"), "what is not security is not fetched: {}", said.out);
    assert!(said.err.contains("to read what changed ("), "the bytes are said before: {}", said.err);
    let again = project.run(&["outdated", "--changelogs", "--security"], 0);
    assert!(!again.err.contains("to read what changed") && !again.out.contains("Other updates"), "{}{}", again.out, again.err);
    assert!(project.run(&["outdated", "--changelogs"], 0).out.contains("  CVE-2025-7777\n"));
    let document: serde_json::Value = serde_json::from_str(&project.run(&["outdated", "--json"], 0).out).unwrap();
    crate::kit::schema::assert_fits("outdated", &document);
    let first = &document["updates"][0];
    assert_eq!((&first["from"], &first["to"], &first["security"]), (&"1-1".into(), &"1-1+deb13u1".into(), &true.into()));
    assert_eq!(first["changelog"]["advisories"], serde_json::json!(["CVE-2025-0001", "CVE-2025-0002", "DSA-9999-1"]));
    assert_eq!(first["changelog"]["urgency"], "high");
    assert_eq!(first["packages"].as_array().unwrap().len(), 2);
    assert_eq!(document["updates"][1]["changelog"], serde_json::Value::Null);
}

#[test]
fn without_the_network_it_is_said_which_changelogs_were_not_read() {
    let mut repo = archive();
    let server = repo.serve();
    let project = project(&server.url());
    fixed(&mut repo);
    let lists = project.run(&["lock", "--security", "--check"], 1);
    assert!(lists.out.contains("libfoo"), "{}", lists.out);
    let said = project.run(&["outdated", "--offline"], 0);
    assert!(
        said.out.contains("  no changelog: its package is not in the store, and the network is not to be used\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("  ?  "), "an urgency that is not known is not made up: {}", said.out);
}

#[test]
fn a_hole_touches_what_is_older_than_the_version_whose_changelog_closed_it() {
    let mut repo = archive();
    let project = project(&repo.url());
    std::fs::create_dir(project.path().join("releases")).unwrap();
    project.write("releases/1.0.0.lock", &project.read("parvis.lock"));
    fixed(&mut repo);
    let said = project.run(&["affected", "CVE-2025-0001"], 1);
    let expected = "parvis.lock:\n  foo 1-1: AFFECTED, fixed in 1-1+deb13u1, in base, web\n\
        releases/1.0.0.lock:\n  foo 1-1: AFFECTED, fixed in 1-1+deb13u1, in base, web\n\
        what no changelog names may be affected all the same\n";
    assert!(said.out.starts_with(expected), "{}", said.out);
    assert!(said.err.contains("hint: `parvis rebuild` takes the fixes that are out"), "{}", said.err);
    let document = serde_json::from_str(&project.run(&["affected", "CVE-2025-0001", "--json"], 1).out).unwrap();
    crate::kit::schema::assert_fits("affected", &document);
    // An advisory is known by its number, a hole that is closed by its entry.
    project.run(&["affected", "dsa-9999"], 1);
    assert!(project.run(&["affected", "CVE-2024-0001"], 0).out.contains("  foo 1-1: fixed (since 1-1), in base, web\n"));
    project.run(&["lock", "--security"], 0);
    let said = project.run(&["affected", "CVE-2025-0001"], 1);
    assert!(said.out.starts_with("parvis.lock:\n  foo 1-1+deb13u1: fixed (since 1-1+deb13u1), in base, web\n"), "{}", said.out);
    assert!(said.out.contains("releases/1.0.0.lock:\n  foo 1-1: AFFECTED"), "{}", said.out);
}

#[test]
fn a_hole_that_was_closed_badly_is_closed_since_it_was_closed_again() {
    let mut repo = archive();
    let project = project(&repo.url());
    fixed(&mut repo);
    project.run(&["lock", "--security"], 0);
    repo.date += 60;
    let again = ("1-1+deb13u2", "trixie-security", "high", "The fix of CVE-2025-0001 was not whole.");
    for deb in foo("1-1+deb13u2", &[again, FIX, OLD]) {
        repo.add(Suite::Security, &deb);
    }
    repo.publish();
    let said = project.run(&["affected", "CVE-2025-0001"], 1);
    assert!(said.out.contains("  foo 1-1+deb13u1: AFFECTED, fixed in 1-1+deb13u2, in base, web\n"), "{}", said.out);
    assert!(project.run(&["affected", "CVE-2025-0002"], 0).out.contains("fixed (since 1-1+deb13u1)"));
    // Whoever keeps the tracker knows better than a changelog.
    project.write(
        "tracker.json",
        r#"{"foo": {"CVE-2025-0001": {"releases": {"trixie": {"status": "resolved", "fixed_version": "1-1+deb13u1"}}}}}"#,
    );
    let file = project.path().join("tracker.json").display().to_string();
    let said = project.run(&["affected", "CVE-2025-0001", "--tracker", &file], 0);
    assert!(said.out.contains("  foo 1-1+deb13u1: fixed (since 1-1+deb13u1), in base, web\n"), "{}", said.out);
    project.run(&["lock", "--security"], 0);
    assert!(project.run(&["affected", "CVE-2025-0001"], 0).out.contains("fixed (since 1-1+deb13u2)"));
}

#[test]
fn what_nothing_names_is_not_called_good() {
    let repo = archive();
    let project = project(&repo.url());
    let said = project.run(&["affected", "CVE-2099-0001"], 3);
    assert!(
        said.out.contains("  no changelog of its packages names CVE-2099-0001\nwhat no changelog names may be"),
        "{}",
        said.out
    );
    assert!(said.err.contains("cannot be told") && said.err.contains("--tracker"), "{}", said.err);
    let tracker = |text: &str| project.write("tracker.json", text);
    let file = project.path().join("tracker.json").display().to_string();
    tracker(r#"{"foo": {"CVE-2099-0001": {"releases": {"trixie": {"status": "open"}}}}}"#);
    let said = project.run(&["affected", "CVE-2099-0001", "--tracker", &file], 1);
    assert!(said.out.contains("  foo 1-1: AFFECTED, no fix is out, in base, web\n"), "{}", said.out);
    tracker("[01 Jan 2099] DSA-8888-1 foo - security update\n\t{CVE-2099-0001}\n\t[trixie] - foo 1-1\n");
    assert!(
        project
            .run(&["affected", "DSA-8888", "--tracker", &file], 0)
            .out
            .contains("  foo 1-1: fixed (since 1-1), in base, web\n")
    );
    tracker("what");
    project.run(&["affected", "DSA-8888", "--tracker", &file], 2);
    project.run(&["affected", "USN-1"], 2);
}

#[test]
fn a_bundle_is_asked_about_as_it_was_downloaded_and_as_it_was_unpacked() {
    let mut repo = archive();
    let maker = project(&repo.url());
    let config = "config: {user: '33:33', cmd: [/bin/app], health: {command: [/bin/app]}}";
    maker.recipe("web", &format!("description: The program.\nfrom: base\npackages: [app]\n{config}\n"));
    maker.write("compose/site.yaml", "description: A site.\nservices: {web: {image: web}}\n");
    maker.run(&["build"], 0);
    let bundle = maker.path().with_file_name("site");
    let make = |more: &[&str]| {
        maker.run(&[&["bundle", "compose", "--output", bundle.to_str().unwrap()], more].concat(), 0);
        bundle.to_str().unwrap().to_owned()
    };
    // Whoever asks has the project and neither lock nor images.
    let asking = Project::new(&repo.url());
    asking.recipe("base", &maker.read("recipes/base.yaml"));
    let folder = make(&[]);
    let said = asking.run(&["outdated", &folder], 2);
    assert!(said.err.contains("does not bring them along") && said.err.contains("without `-compose`"), "{}", said.err);
    std::fs::remove_dir_all(&bundle).unwrap();
    make(&["--with-images"]);
    let tar = maker.path().with_file_name("site.tar");
    let packed =
        std::process::Command::new("tar").arg("-C").arg(bundle.parent().unwrap()).arg("-cf").arg(&tar).arg("site").status();
    assert!(packed.unwrap().success());
    fixed(&mut repo);
    for what in [tar.to_str().unwrap(), &folder] {
        let lines = |arguments: &[&str]| asking.run(&[&["outdated", what], arguments].concat(), 0).out;
        let said = lines(&[]);
        assert!(said.lines().next().unwrap().ends_with(" lacks 1 security fix (urgency: high)"), "{said}");
        assert!(said.contains("  high     web\n  CVE-2025-0001, CVE-2025-0002\n"), "{said}");
        assert!(said.ends_with("in a clone of the project, `parvis rebuild` makes one\n"), "{said}");
        let said = lines(&["--lang", "fr", "--security"]);
        assert!(said.contains(" : il manque 1 correctif de sécurité (urgence : haute)\n\nCorrectifs de sécurité :\n"), "{said}");
        assert!(said.contains("à télécharger : ") && !said.contains("to download"), "{said}");
        let said = asking.run(&["affected", "CVE-2025-0001", what], 1);
        assert!(said.out.contains("  foo 1-1: AFFECTED, fixed in 1-1+deb13u1, in web\n"), "{}", said.out);
        assert!(said.err.contains("hint: ask the publisher for a newer version"), "{}", said.err);
        let said = asking.run(&["affected", "CVE-2025-0001", what, "--lang", "fr"], 1);
        assert!(said.out.contains("  foo 1-1 : TOUCHÉ, corrigé dans 1-1+deb13u1, dans web\n"), "{}", said.out);
        assert!(said.err.contains("conseil : demandez à l’éditeur"), "{}", said.err);
    }
    // Without a project nobody knows whom to believe.
    for (language, words) in
        [("en", "hint: run it in a clone of the project"), ("fr", "conseil : lancez-la dans une copie du projet")]
    {
        let output = parvis(maker.path().parent().unwrap())
            .args(["outdated", tar.to_str().unwrap(), "--lang", language])
            .output()
            .unwrap();
        let said = Said::from(&output);
        assert!(output.status.code() == Some(2) && said.err.contains(words), "{}", said.err);
    }
}
