//! `parvis lock`, `why` and `outdated`: what is decided, and whom parvis believes.

use std::fs;

use crate::kit::fakerepo::{Repo, Suite, edit, flip};
use crate::kit::mkdeb::Deb;
use crate::kit::openpgp::Key;
use crate::kit::project::Project;
use crate::kit::world;

const DAY: i64 = 24 * 3600;

/// A package that every image has, and one to ask for.
fn archive() -> Repo {
    let mut repo = Repo::new();
    repo.add(Suite::Main, &Deb::new("base-files", "13").essential());
    repo.add(Suite::Main, &Deb::new("app", "1").depends("libfoo (>= 1-1)"));
    repo.add(Suite::Main, &Deb::new("libfoo", "1-1"));
    repo.publish();
    repo
}

fn project(repo: &Repo) -> Project {
    let project = Project::on(repo);
    project.recipe("base", "description: The base.\nfrom: scratch\npackages: [libfoo]\n");
    project.recipe("web", "description: The program.\nfrom: base\npackages: [app]\n");
    project
}

/// Returns the versions in the lock, as `name version`.
fn locked(project: &Project) -> Vec<String> {
    let lock = parvis::model::lock::Lock::parse(&project.read("parvis.lock")).unwrap();
    lock.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

#[test]
fn a_lock_is_made_kept_and_made_anew_to_the_same_bytes() {
    let mut repo = archive();
    let project = project(&repo);
    let said = project.run(&["lock"], 0);
    assert!(said.out.starts_with("2 images, 3 packages, "), "{}", said.out);
    let first = project.read("parvis.lock");
    assert_eq!(locked(&project), ["app 1", "base-files 13", "libfoo 1-1"]);
    // The archive moves on; what is locked stays.
    repo.date += 60;
    repo.add(Suite::Updates, &Deb::new("app", "2").depends("libfoo")).publish();
    project.run(&["lock", "--check"], 0);
    project.run(&["lock"], 0);
    assert_eq!(project.read("parvis.lock"), first);
    fs::remove_file(project.path().join("parvis.lock")).unwrap();
    project.run(&["lock"], 0);
    assert_eq!(locked(&project), ["app 2", "base-files 13", "libfoo 1-1"]);
}

#[test]
fn security_moves_what_it_fixes_and_check_says_so_first() {
    let mut repo = archive();
    let project = project(&repo);
    project.run(&["lock"], 0);
    repo.date += 60;
    repo.add(Suite::Updates, &Deb::new("app", "2").depends("libfoo"));
    repo.add(Suite::Security, &Deb::new("libfoo", "1-1+deb13u1")).publish();
    let outdated = project.run(&["outdated"], 0);
    assert!(outdated.out.starts_with("Security fixes (`parvis rebuild`):\n"), "{}", outdated.out);
    let before = project.read("parvis.lock");
    let check = project.run(&["lock", "--security", "--check"], 1);
    assert!(check.out.contains("  libfoo 1-1 -> 1-1+deb13u1 (security)\n"), "{}", check.out);
    assert!(check.err.contains("`parvis.lock` is not up to date"), "{}", check.err);
    assert_eq!(project.read("parvis.lock"), before);
    project.run(&["lock", "--security"], 0);
    assert_eq!(locked(&project), ["app 1", "base-files 13", "libfoo 1-1+deb13u1"]);
    project.run(&["lock", "--update", "app"], 0);
    assert_eq!(locked(&project), ["app 2", "base-files 13", "libfoo 1-1+deb13u1"]);
    project.run(&["lock", "--update", "absent"], 2);
}

#[test]
fn why_tells_the_way_from_the_recipe() {
    let repo = archive();
    let project = project(&repo);
    project.run(&["lock"], 0);
    assert_eq!(project.run(&["why", "libfoo"], 0).out, "base (amd64): recipes/base.yaml > libfoo 1-1\n");
    assert_eq!(project.run(&["why", "base-files"], 0).out, "base (amd64): essential or recommended > base-files 13\n");
    let said = project.run(&["why", "libfo"], 1);
    assert!(said.err.contains("`libfo` is not in any image") && said.err.contains("did you mean `libfoo`?"), "{}", said.err);
}

/// Runs `lock`, which must be refused with these words and leave the lock alone.
fn refused(project: &Project, arguments: &[&str], code: i32, words: &[&str]) {
    let before = fs::read(project.path().join("parvis.lock")).ok();
    let said = project.run(&[&["lock"], arguments].concat(), code);
    for word in words {
        assert!(said.err.contains(word), "`{word}` is missing in: {}", said.err);
    }
    assert_eq!(fs::read(project.path().join("parvis.lock")).ok(), before, "the lock was touched");
}

#[test]
fn a_list_that_nobody_trusted_has_signed_is_refused() {
    let mut repo = archive();
    let project = project(&repo);
    let expected = Key::Archive.fingerprint();
    for key in [Key::Unknown, Key::Expired, Key::Revoked] {
        repo.key = key;
        repo.publish();
        refused(&project, &[], 1, &["the InRelease of trixie is not believed", &expected, "hint: "]);
    }
    repo.key = Key::Archive;
    repo.publish();
    edit(&repo.inrelease(Suite::Main), |text| text.replace("Version: 13.1", "Version: 13.2"));
    refused(&project, &[], 1, &["the InRelease of trixie is not believed"]);
    repo.publish();
    edit(&repo.inrelease(Suite::Main), |text| format!("Origin: x\n{text}"));
    refused(&project, &[], 1, &["it is not one signed message", "text stands before the signed block"]);
    repo.publish();
    edit(&repo.inrelease(Suite::Main), |text| format!("{text}Origin: x\n"));
    refused(&project, &[], 1, &["text stands after the signed block"]);
    repo.publish();
    edit(&repo.inrelease(Suite::Main), |text| format!("{text}{text}"));
    refused(&project, &[], 1, &["text stands after the signed block"]);
    repo.signing = vec!["--digest-algo", "SHA1"];
    repo.publish();
    refused(&project, &[], 1, &["the InRelease of trixie is not believed"]);
}

#[test]
fn a_list_that_is_not_of_this_time_is_refused_unless_a_flag_that_is_recorded_takes_it() {
    let mut repo = archive();
    let project = project(&repo);
    repo.date -= 20 * DAY;
    repo.publish();
    refused(&project, &[], 1, &["the InRelease of trixie-updates is refused: it was valid until 14 days ago", "--allow-expired"]);
    project.run(&["lock", "--allow-expired"], 0);
    assert!(project.read("parvis.lock").contains("accepted = [\"allow-expired\"]"));
    repo.valid_for = None;
    repo.date -= 30 * DAY;
    repo.publish();
    refused(&project, &["--allow-expired"], 1, &["older than what the lock was made from", "--allow-older"]);
    refused(&project, &["--allow-older"], 1, &["it is 51 days old, and the project takes at most "]);
    repo.date += 90 * DAY;
    repo.publish();
    refused(&project, &[], 1, &["days in the future"]);
    repo.date -= 40 * DAY;
    repo.publish();
    project.run(&["lock"], 0);
    assert!(!project.read("parvis.lock").contains("accepted"), "a check that holds again is no longer recorded as passed over");
    repo.fields.insert("Codename", "forky".into());
    repo.fields.insert("Suite", "testing".into());
    repo.publish();
    refused(&project, &["--allow-expired", "--allow-older"], 1, &["it is of the suite `forky`", "hint: "]);
}

#[test]
fn a_mirror_in_mid_sync_is_asked_by_hash_else_refused() {
    let mut repo = archive();
    let project = project(&repo);
    project.run(&["lock"], 0);
    repo.mid_sync(Suite::Main, &Deb::new("newer", "1"), true);
    project.run(&["lock", "--update"], 0);
    repo.mid_sync(Suite::Main, &Deb::new("newest", "1"), false);
    let words = [
        "main/binary-amd64/Packages.xz of trixie",
        "the mirror is being changed: asking again",
        "hint: the mirror may be in mid-sync",
    ];
    refused(&project, &["--update"], 3, &words);
}

#[test]
fn a_list_with_other_bytes_than_promised_is_refused() {
    let repo = archive();
    let project = project(&repo);
    flip(&repo.index(Suite::Main));
    fs::remove_dir_all(repo.index(Suite::Main).with_file_name("by-hash")).unwrap();
    refused(&project, &[], 3, &["main/binary-amd64/Packages.xz of trixie", "and "]);
}

#[test]
fn a_list_that_breaks_the_rules_is_refused_with_its_paragraph() {
    let repo = archive();
    let project = project(&repo);
    let digest = "0".repeat(64);
    let package =
        |more: &str| format!("Package: a\nVersion: 1\nArchitecture: amd64\nFilename: p\nSize: 1\nSHA256: {digest}\n{more}\n");
    let cases = [
        (package("") + &package("size: 2\n").replace("Package: a", "Package: bb"), "paragraph 1, line 1: the field `Package`"),
        (
            package("").replace("Package: a", "Package: aa") + "Package: bb\npackage: bb\n",
            "paragraph 2, line 9: the field `package` stands twice",
        ),
        (package("X: \0\n").replace("Package: a", "Package: aa"), "contains a NUL byte"),
        (package("X: \r\n").replace("Package: a", "Package: aa"), "contains a carriage return"),
        (
            package("").replace("Package: a", "Package: aa").replace("Version: 1", "Version: 1:"),
            "the field `Version` has the value `1:`",
        ),
        (package(&format!("X: {}\n", "x".repeat(100_000_000))).replace("Package: a", "Package: aa"), "more than"),
    ];
    for (index, words) in cases {
        repo.publish_index(Suite::Main, &index);
        refused(&project, &[], 3, &["the list `main/binary-amd64/Packages.xz` of `trixie` cannot be read", words]);
    }
}

#[test]
fn a_conflict_is_told_in_words() {
    let mut repo = archive();
    let project = project(&repo);
    let told = |recipe: &str, words: &[&str]| {
        project.recipe("web", &format!("description: x\nfrom: base\npackages: [{recipe}]\n"));
        refused(&project, &[], 2, words);
    };
    repo.add(Suite::Main, &Deb::new("old", "1").depends("libfoo (>= 2)"));
    repo.add(Suite::Main, &Deb::new("mailer", "1").depends("transport"));
    repo.add(Suite::Main, &Deb::new("rival", "1").field("Conflicts", "libfoo"));
    repo.publish();
    told(
        "old",
        &[
            "the packages of `web` for amd64 cannot be chosen: `old` (asked for) needs `libfoo (>= 2)`, but the archive has `libfoo` 1-1",
        ],
    );
    told("mailer", &["`mailer` (asked for) needs `transport`, but the archive has no `transport`"]);
    told("rival", &["`rival` (asked for), but `rival` cannot be together with `libfoo`"]);
    told("ap", &["there is no package `ap`; there is `app`", "hint: did you mean `app`?"]);
}

#[test]
fn the_world_of_the_tests_can_be_locked() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    assert!(locked(&project).contains(&"libfoo 1.0-1+deb13u1".to_owned()));
}
