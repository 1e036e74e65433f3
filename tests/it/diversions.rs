//! Packages whose preinst diverts the file of another and that ship their own at that path, beside the same installed by dpkg.

use std::process::Command;

use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said};
use crate::kit::rawtar::Entry;
use crate::kit::world;

/// What a preinst says to have a file of another package out of the way.
fn diverts(package: &str, path: &str, rename: bool) -> String {
    let rename = if rename { "--rename" } else { "--no-rename" };
    format!(
        "#!/bin/sh\nset -e\n[ ! -e /usr/share/{package} ] || {{ echo 'its files came first' >&2; exit 1; }}\n\
         dpkg-divert --quiet --package {package} --add {rename} --divert {path}.real {path}\n"
    )
}

/// Greets.
fn greet() -> Deb {
    let mut program = Entry::file("./usr/bin/greet", "#!/bin/sh\necho hello\n").mode(0o755);
    program.mtime = 1_600_000_000;
    Deb::new("greet", "1")
        .depends("dash")
        .entry(program)
        .conffile("/etc/greet.conf", "plain\n")
        .file("/usr/share/greet/note", "a\n")
        .file("/usr/share/greet/own", "\n")
}

/// Greets better: its program, and one file without `--rename`, stand where those of `greet` stood.
fn better() -> Deb {
    let preinst = [diverts("aa-better", "/usr/bin/greet", true), diverts("aa-better", "/usr/share/greet/note", false)];
    let preinst = format!("{}{}", preinst.concat(), "[ \"$(cat /usr/bin/greet.real)\" != '' ]\n");
    Deb::new("aa-better", "2")
        .depends("greet")
        .program("/usr/bin/greet", "#!/bin/sh\necho \"$(greet.real), my friend\"\n")
        .conffile("/etc/better.conf", "better\n")
        .file("/usr/share/greet/note", "b\n")
        .file("/usr/share/aa-better/readme", "read me\n")
        .script("preinst", &preinst)
        .script("postinst", "#!/bin/sh\nset -e\ngreet > /etc/greeted\n")
}

/// Diverts what the one above has put, and needs it configured first.
fn best() -> Deb {
    Deb::new("best", "3")
        .pre_depends("aa-better")
        .file("/usr/share/aa-better/readme", "read me too\n")
        .script("preinst", &diverts("best", "/usr/share/aa-better/readme", true))
}

/// A script that tells all that diversions are about, in a system with few programs.
const LOOK: &str = r#"
for f in /usr/bin/greet* /etc/greet* /etc/better* /usr/share/greet/* /usr/share/aa-better/* /var/lib/dpkg/diversions; do
    [ -e "$f" ] || continue
    stat -c '%n %a %U %G %s' "$f"
    cat "$f"
done
for p in greet aa-better; do
    cat /var/lib/dpkg/info/$p.list
    dpkg-query -W -f '${Package} ${Version} ${Status}\n${Conffiles}\n' $p
done
dpkg-divert --list
dpkg --verify greet aa-better
dpkg --audit
greet
"#;

fn archive(debs: &[Deb]) -> Repo {
    let mut repo = world::archive();
    for deb in debs {
        repo.add(Suite::Main, deb);
    }
    repo.publish();
    repo
}

/// Returns what stands in a system that dpkg has installed; the packages come in the given order.
fn by_dpkg(debs: &[Deb]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let most = world::packages().iter().filter(|deb| !["broken", "app", "app-plugin"].contains(&deb.name()));
    let root = world::installed_by_dpkg(place.path(), &most.chain(debs).collect::<Vec<_>>());
    let mut chroot = Command::new("chroot");
    let output =
        chroot.arg(&root).args(["sh", "-c", LOOK]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    let said = Said::from(&output);
    assert_eq!(said.err, "");
    Some(said.out)
}

fn look(project: &Project, image: &str) -> String {
    project.run(&["run", image, "--user", "root", "--", "sh", "-c", LOOK], 0).out
}

#[test]
fn a_package_that_diverts_a_file_and_ships_its_own_is_installed_as_by_dpkg() {
    let debs = [greet(), better()];
    let repo = archive(&debs);
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    project.recipe("one", "description: Both at once.\nfrom: base\npackages: [greet, aa-better]\n");
    project.recipe("lower", "description: The one that is diverted.\nfrom: base\npackages: [greet]\n");
    project.recipe("upper", "description: The one that diverts.\nfrom: lower\npackages: [aa-better]\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let one = look(&project, "one");
    assert!(one.ends_with("\nhello, my friend\n"), "{one}");
    assert_eq!(look(&project, "upper"), one, "in one image or in two");
    assert_eq!(look(&project, "lower").lines().last(), Some("hello"));
    project.run(&["build", "--twice"], 0);
    if let Some(expected) = by_dpkg(&debs) {
        assert_eq!(one, expected);
    }
}

#[test]
fn what_was_diverted_can_be_diverted_again_by_another() {
    let debs = [greet(), better(), best()];
    let repo = archive(&debs);
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    project.recipe("one", "description: All at once.\nfrom: base\npackages: [best]\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let one = look(&project, "one");
    assert!(one.contains("/usr/share/aa-better/readme 644 root root 12\nread me too\n"), "{one}");
    assert!(one.contains("/usr/share/aa-better/readme.real 644 root root 8\nread me\n"), "{one}");
    if let Some(expected) = by_dpkg(&debs) {
        assert_eq!(one, expected);
    }
}

#[test]
fn the_layers_of_a_diverted_file_hold_what_the_image_has() {
    let repo = archive(&[greet(), better()]);
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo, greet]\n");
    project.recipe("upper", "description: The one that diverts.\nfrom: base\npackages: [aa-better]\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let diff = project.run(&["diff", "base", "upper"], 1).out;
    assert!(diff.contains("  package aa-better: 2 changed, 8 added, 0 removed\n"), "{diff}");
    assert!(diff.contains("    added   /usr/bin/greet.real\n"), "{diff}");
    // What was moved has the date that it had.
    let layer = |title: &str| {
        let answer: serde_json::Value = serde_json::from_str(&project.run(&["build", "--json"], 0).out).unwrap();
        let images = answer["images"].as_array().unwrap();
        let image = images.iter().find(|image| image["name"] == "upper").unwrap();
        let layers = image["layers"].as_array().unwrap();
        let layer = layers.iter().rev().find(|layer| layer["title"] == title).unwrap_or_else(|| panic!("{layers:?}"));
        layer["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
    };
    let scripts = project.path().join("out/blobs/sha256").join(layer("what the packages' scripts made"));
    let mut tar = Command::new("tar");
    let listing = tar.args(["--list", "--verbose", "--utc", "--numeric-owner", "--file"]).arg(scripts).output().unwrap();
    let listing = Said::from(&listing).out;
    let line = listing.lines().find(|line| line.ends_with("usr/bin/greet.real")).unwrap_or_else(|| panic!("{listing}"));
    assert!(line.contains(" 2020-09-13 12:26 "), "{line}");
}

#[test]
fn a_package_that_takes_a_file_without_diverting_it_is_refused() {
    let thief = Deb::new("thief", "1").program("/usr/bin/greet", "mine\n").script("preinst", "#!/bin/sh\nexit 0\n");
    let repo = archive(&[greet(), thief]);
    let project = Project::on(&repo);
    project.recipe("base", "description: Two that do not fit.\nfrom: scratch\npackages: [libfoo, greet, thief]\n");
    project.run(&["lock"], 0);
    let said = project.run(&["build"], 2);
    assert!(
        said.err
            .contains("the packages of `base` do not fit together: `/usr/bin/greet` is shipped by `thief`, but `package:greet`"),
        "{}",
        said.err
    );
    assert!(said.err.contains("hint: leave out `greet` or `thief`; neither says that it replaces the other"), "{}", said.err);
}
