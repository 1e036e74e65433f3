//! `parvis rebuild`: only fixes move, it is shown before, proven after, numbered, and told to volunteers.

use parvis::trust::bundle::Bundle;
use parvis::trust::key::PublicKey;
use parvis::trust::statement::Statement;

use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::project::Project;
use crate::kit::world;

const OLD: (&str, &str, &str, &str) = ("1.0-1", "unstable", "medium", "First.");
const FIX: (&str, &str, &str, &str) = ("1.0-1+deb13u1", "trixie-security", "high", "Closes CVE-2025-0001 <script>.");

/// An archive without a fix, and a project with its images built.
fn built() -> (Repo, Project) {
    let repo = world::archive_of(&world::libfoo("1.0-1").changelog(&[OLD]));
    let project = Project::sample(&repo);
    project.recipe("other", "description: Without the library.\nfrom: scratch\npackages: [dash]\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    (repo, project)
}

fn fix(repo: &mut Repo) {
    repo.date += 60;
    repo.add(Suite::Security, &world::libfoo("1.0-1+deb13u1").changelog(&[FIX, OLD])).publish();
}

/// Returns the digests of the images in the layout, by name.
pub fn digests(project: &Project) -> Vec<(String, String)> {
    let index: serde_json::Value = serde_json::from_str(&project.read("out/index.json")).unwrap();
    // What is said of images has no name.
    let one = |image: &serde_json::Value| {
        let name = image["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
        Some((name.to_owned(), image["digest"].as_str().unwrap().to_owned()))
    };
    index["manifests"].as_array().unwrap().iter().filter_map(one).collect()
}

#[test]
fn a_fix_is_shown_built_proven_numbered_and_told() {
    let (mut repo, project) = built();
    let said = project.run(&["rebuild"], 3);
    assert!(
        said.err.contains("could not decide whether this is genuine") && said.err.contains("`--unreleased` says so"),
        "{}",
        said.err
    );
    let said = project.run(&["rebuild", "--unreleased"], 0);
    assert_eq!(said.out, "nothing to do: no security fix is out\n");
    let json = |arguments: &[&str]| {
        let said = project.run(&[&["rebuild", "--unreleased", "--json"], arguments].concat(), 0);
        let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        crate::kit::schema::assert_fits("rebuild", &document);
        document
    };
    assert_eq!(json(&[])["name"], serde_json::Value::Null);
    assert!(!project.path().join("rebuilds").exists());
    let (before, lock) = (digests(&project), project.read("parvis.lock"));
    fix(&mut repo);
    let said = project.run(&["rebuild", "--unreleased", "--dry-run"], 0);
    assert!(said.out.starts_with("This will change (sec.1):\n  foo 1.0-1 → 1.0-1+deb13u1\n"), "{}", said.out);
    assert!(said.out.contains("    security fix, urgency high: CVE-2025-0001\n    in base, app\n"), "{}", said.out);
    assert!(said.out.contains("images built anew: 2 of 3\n"), "{}", said.out);
    assert_eq!(json(&["--dry-run"])["name"], "sec.1");
    assert_eq!((project.read("parvis.lock"), project.path().join("rebuilds").exists()), (lock.clone(), false));

    let said = project.run(&["rebuild", "--unreleased"], 0);
    assert!(said.out.contains("sec.1 is built: 1 tests passed, and nothing changed but what is listed above\n"), "{}", said.out);
    assert!(project.read("parvis.lock").contains("1.0-1+deb13u1"));
    assert_eq!(project.read("parvis.lock"), project.read("rebuilds/sec.1/parvis.lock"));
    let after = digests(&project);
    let same: Vec<&str> = after.iter().filter(|image| before.contains(image)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(same, ["other"], "an image without the library keeps its digest");
    let record: serde_json::Value = serde_json::from_str(&project.read("rebuilds/sec.1/rebuild.json")).unwrap();
    crate::kit::schema::assert_fits("rebuild", &record);
    assert_eq!(record["touched"], serde_json::json!(["base", "app"]));
    assert_eq!(record["upstream"], serde_json::Value::Null, "that nothing was verified is written down");
    assert_eq!(record["updates"][0]["changelog"]["advisories"], serde_json::json!(["CVE-2025-0001"]));
    let vex = project.read("rebuilds/sec.1/openvex.json");
    assert!(
        vex.contains("\"https://openvex.dev/ns/v0.2.0\"") && vex.contains("pkg:deb/debian/libfoo@1.0-1%2Bdeb13u1?arch="),
        "{vex}"
    );
    for (name, digest) in after.iter().filter(|(name, _)| name != "other") {
        assert!(vex.contains(&format!("pkg:oci/{name}@{digest}")), "{vex}");
    }
    let report = project.read("rebuilds/sec.1/report.md");
    assert!(report.contains("- `foo` 1.0-1 → 1.0-1+deb13u1: security fix, urgency high: CVE-2025-0001\n"), "{report}");
    let page = project.read("rebuilds/sec.1/rapport.html");
    assert!(page.contains("correctif de sécurité, urgence haute\u{a0}: CVE-2025-0001") && !page.contains("<script>"), "{page}");

    assert!(said.err.contains("the rebuild will not be signed") && said.out.contains("it is not signed\n"), "{}", said.err);
    assert!(!project.path().join("rebuilds/sec.1/rebuild.sigstore.json").exists());

    let again = project.run(&["rebuild", "--unreleased", "--lang", "fr"], 0);
    assert_eq!(again.out, "rien à faire : aucun correctif de sécurité n’est paru\n");
    assert!(!project.path().join("rebuilds/sec.2").exists());
}

#[test]
fn the_parish_signs_with_a_key_that_is_made_when_it_is_first_needed() {
    let (mut repo, project) = built();
    fix(&mut repo);
    let said = project.run(&["rebuild", "--unreleased", "--no-passphrase"], 0);
    assert!(
        said.err.contains("your parish has no key yet") && said.out.contains("signed by your key "),
        "{}{}",
        said.out,
        said.err
    );
    let key = PublicKey::from_pem(project.read("rebuilds/sec.1/parish.pub").as_bytes()).unwrap();
    let bundle = Bundle::parse(project.read("rebuilds/sec.1/rebuild.sigstore.json").as_bytes()).unwrap();
    assert!(bundle.is_signed_by(&key));
    let statement = Statement::parse(&bundle.payload).unwrap();
    let subjects: Vec<(String, String)> =
        statement.subjects.iter().map(|subject| (subject.name.clone(), subject.digest.to_string())).collect();
    assert_eq!(subjects, digests(&project));
    let record: serde_json::Value = serde_json::from_str(&project.read("rebuilds/sec.1/rebuild.json")).unwrap();
    assert_eq!(statement.predicate, record);
}

#[test]
fn a_fix_below_declared_accounts_is_no_surprise() {
    let (mut repo, project) = built();
    project.recipe(
        "other",
        "description: A library beside an account.\nfrom: scratch\nusers:\n  - {name: paroisse, uid: 1001, gid: 1001}\npackages: [libfoo]\n",
    );
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    fix(&mut repo);
    project.run(&["rebuild", "--unreleased"], 0);
    let record: serde_json::Value = serde_json::from_str(&project.read("rebuilds/sec.1/rebuild.json")).unwrap();
    assert_eq!(record["touched"], serde_json::json!(["base", "app", "other"]));
}

/// A library whose script writes accounts down as `useradd` does.
fn with_accounts(version: &str, more: &str) -> crate::kit::mkdeb::Deb {
    let uploads = if version == OLD.0 { vec![OLD] } else { vec![FIX, OLD] };
    let script = format!(
        "#!/bin/sh\nset -e\n[ \"$1\" = configure ] || exit 0\n[ -e /etc/shadow ] || echo 'root:*:20000:0:99999:7:::' > /etc/shadow\n{more}"
    );
    world::libfoo(version).changelog(&uploads).script("postinst", &script)
}

/// What a script does to add an account, on a day long after this one: its clock is the machine's.
const SVC: &str = "for name in svc; do\n\
    echo \"$name:x:990:990::/var/lib/svc:/usr/sbin/nologin\" >> /etc/passwd\n\
    echo \"$name:x:990:\" >> /etc/group\n\
    echo \"$name:!:99999::::::\" >> /etc/shadow\ndone\n";

#[test]
fn an_account_that_a_fix_brings_is_told_of_and_one_that_it_does_not_name_is_refused() {
    let mut repo = world::archive_of(&with_accounts(OLD.0, ""));
    let project = Project::sample(&repo);
    // Where the recipe has accounts of its own, nobody but parvis wrote the file last.
    project.recipe(
        "own",
        "description: Accounts of its own.\nfrom: base\nusers:\n  - {name: paroisse, uid: 1001, gid: 1001}\ntests: [{file: /etc/shadow, contains: [\"svc:!:\"]}]\n",
    );
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let (before, lock) = (digests(&project), project.read("parvis.lock"));
    repo.date += 60;
    let mut refused = |more: &str, words: &str| {
        repo.withdraw(Suite::Security, "libfoo");
        repo.add(Suite::Security, &with_accounts(FIX.0, more)).publish();
        let said = project.run(&["rebuild", "--unreleased"], 1);
        assert!(said.err.contains("changed that was not announced: ") && said.err.contains(words), "{words}: {}", said.err);
        assert_eq!((digests(&project), project.read("parvis.lock")), (before.clone(), lock.clone()));
        assert!(!project.path().join("rebuilds").exists());
    };
    // A name that is put together stands nowhere in the package; and what opens something is refused, whoever names it.
    let evil = SVC.replace("in svc", "in svc \"ev${1#configur}il\"");
    refused(&evil, "the account `eveil` is added, and no package that was announced names it");
    refused(
        &format!("{SVC}echo 'svc2::991:991::/:/bin/sh' >> /etc/passwd\n"),
        "the account `svc2` has another password, or none",
    );
    refused(&format!("{SVC}echo 'toor:x:0:0::/:/bin/sh' >> /etc/passwd\n"), "the account `toor` has the number of root");
    repo.withdraw(Suite::Security, "libfoo");
    repo.add(Suite::Security, &with_accounts(FIX.0, SVC)).publish();
    let said = project.run(&["rebuild", "--unreleased", "--lang", "fr"], 0);
    assert!(
        said.out.contains("  `libfoo` crée le nouveau compte `svc` (numéro 990) ; aucun mot de passe ne l’ouvre\n"),
        "{}",
        said.out
    );
    let report = project.read("rebuilds/sec.1/report.md");
    assert!(report.contains("- `libfoo` makes the new account `svc` (number 990); no password opens it\n"), "{report}");
    assert!(report.contains("- `libfoo` makes the new group `svc` (number 990)\n"), "{report}");
    assert!(!report.contains("`/etc/passwd`"), "what was compared line by line is not only listed: {report}");
    let record: serde_json::Value = serde_json::from_str(&project.read("rebuilds/sec.1/rebuild.json")).unwrap();
    crate::kit::schema::assert_fits("rebuild", &record);
    assert_eq!(record["touched"], serde_json::json!(["base", "app", "own"]));
    assert_eq!(record["images"][2]["accounts"][0]["name"], "svc");
    // The day is that of the package, and not what the script took it for.
    let said = project.run(&["run", "own", "--", "cat", "/etc/shadow"], 0);
    assert!(said.out.contains("svc:!:19675::::::\n") && said.out.contains("root:*:19675:"), "{}", said.out);
}

#[test]
fn a_rebuild_that_fails_its_tests_changes_nothing() {
    let (mut repo, project) = built();
    project.recipe(
        "app",
        &project.read("recipes/app.yaml").replace("tests:\n", "tests:\n  - {file: /usr/lib/libfoo.new, exists: false}\n"),
    );
    project.run(&["build"], 0);
    let (before, lock) = (digests(&project), project.read("parvis.lock"));
    repo.date += 60;
    let broken = world::libfoo("1.0-1+deb13u1").changelog(&[FIX, OLD]).file("/usr/lib/libfoo.new", "new");
    repo.add(Suite::Security, &broken).publish();
    let said = project.run(&["rebuild", "--unreleased"], 1);
    assert!(said.err.contains("FAILED app: /usr/lib/libfoo.new is absent"), "{}", said.err);
    assert_eq!((digests(&project), project.read("parvis.lock")), (before, lock));
    assert!(!project.path().join("rebuilds").exists());
}

#[test]
fn a_suite_that_nobody_mends_any_more_is_not_rebuilt_unless_told() {
    let (mut repo, project) = built();
    fix(&mut repo);
    let suites = project.read("parvis.yaml");
    let ends = |day: &str| {
        project.write("parvis.yaml", &suites.replace("security: true}", &format!("security: true, support_until: {day}}}")));
    };
    ends("2020-01-31");
    let said = project.run(&["rebuild", "--unreleased", "--lang", "fr"], 1);
    assert!(said.err.contains("a reçu ses derniers correctifs le 2020-01-31") && said.err.contains("conseil : "), "{}", said.err);
    let said = project.run(&["rebuild", "--unreleased", "--past-support", "--dry-run"], 0);
    assert!(said.err.contains("got its last security fixes on 2020-01-31"), "{}", said.err);
    let said = project.run(&["lock", "--security"], 1);
    assert!(said.err.contains("got its last security fixes on 2020-01-31") && said.err.contains("hint: "), "{}", said.err);
    let said = project.run(&["lock", "--security", "--lang", "fr"], 1);
    assert!(said.err.contains("n’est pas sûr") && said.err.contains("conseil : faites passer"), "{}", said.err);
    project.run(&["lock", "--past-support", "--check"], 0);
    // What there is is listed; that it is all is not said.
    let said = project.run(&["outdated"], 1);
    assert!(
        said.out.contains("1.0-1+deb13u1") && said.err.contains("holes that were found since are not listed"),
        "{}",
        said.err
    );
    let said = project.run(&["outdated", "--lang", "fr"], 1);
    assert!(said.out.contains("Correctifs de sécurité") && said.err.contains("restent ouvertes"), "{}", said.err);
    let said = project.run(&["outdated", "--past-support"], 0);
    assert!(said.err.contains("got its last security fixes on 2020-01-31"), "{}", said.err);
    project.run(&["lock", "--past-support"], 0);
    // Half a year before, both say so and go on.
    let soon = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().checked_add(jiff::Span::new().days(100)).unwrap();
    ends(&soon.to_string());
    for arguments in [&["rebuild", "--unreleased", "--dry-run"][..], &["lock", "--check"], &["outdated"]] {
        let said = project.run(arguments, 0);
        assert!(said.err.contains(&format!("until {soon}")) && said.err.contains(" days"), "{}", said.err);
        let said = project.run(&[arguments, &["--lang", "fr"]].concat(), 0);
        assert!(said.err.contains(&format!("jusqu’au {soon}")) && said.err.contains(" jours"), "{}", said.err);
    }
    ends("2999-01-31");
    assert!(!project.run(&["rebuild", "--unreleased", "--dry-run"], 0).err.contains("2999"));
}
