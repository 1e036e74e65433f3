//! From recipes to images and back: the whole program on the tiny Debian of the tests, with no network.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::kit::fakerepo::{Suite, flip};
use crate::kit::killat::Line;
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said, parvis};
use crate::kit::user::User;
use crate::kit::victim::picture;
use crate::kit::world;

/// Returns the digest of each image in the JSON answer of `build`.
pub fn digests(answer: &str) -> BTreeMap<String, String> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let images = answer["images"].as_array().unwrap().iter();
    images.map(|image| (image["name"].as_str().unwrap().into(), image["manifest"].as_str().unwrap().into())).collect()
}

/// Returns a locked project on an archive, and the digests of a first build.
pub fn built() -> (crate::kit::fakerepo::Repo, Project, BTreeMap<String, String>) {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    let digests = digests(&project.run(&["build", "--json"], 0).out);
    (repo, project, digests)
}

/// Returns the lines of `build` that a person reads when nothing is left to do.
fn says_nothing_changed(said: &Said) -> bool {
    said.out.contains("nothing changed")
}

#[test]
fn a_project_is_locked_built_tested_and_run() {
    let (_repo, project, digests) = built();
    assert_eq!(digests.keys().collect::<Vec<_>>(), ["app", "base"]);
    let lock = project.read("parvis.lock");
    assert!(lock.contains("name = \"libfoo\"\nversion = \"1.0-1+deb13u1\""), "security's version is taken:\n{lock}");
    assert!(!lock.contains("app-plugin") && !lock.contains("broken"), "only what is asked for:\n{lock}");
    project.run(&["test"], 0);
    let script = "cat /srv/welcome.txt /srv/made; id -un; stat -c %U:%G:%a /srv/welcome.txt /var/lib/app; pwd";
    let said = project.run(&["run", "app", "--workdir", "/srv", "--", "sh", "-c", script], 0);
    assert_eq!(said.out, "welcome\nmade\nparoisse\nparoisse:www-data:440\nwww-data:www-data:750\n/srv\n");
    let state = project.run(&["run", "app", "--user", "root", "--", "cat", "/var/lib/app/state"], 0);
    assert_eq!(state.out, "configured as 0 with colour = blue\n");
    assert_eq!(project.run(&["run", "app"], 0).out, "app hello\n");
    let said = project.run(&["run", "app", "--", "sh", "-c", "exit 7"], 1);
    assert!(said.err.contains("exited with 7"), "{}", said.err);
    let state = project.run(&["run", "app", "--user", "root", "--", "sh", "-c", "echo x > /srv/made; cat /srv/made"], 0);
    assert_eq!(state.out, "x\n", "a command may write");
    assert_eq!(project.run(&["run", "app", "--", "cat", "/srv/made"], 0).out, "made\n", "what it wrote is gone");
    assert!(says_nothing_changed(&project.run(&["build"], 0)));
}

#[test]
fn a_build_without_a_lock_or_with_another_one_is_refused() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    let said = project.run(&["build"], 2);
    assert!(said.err.contains("parvis.lock") && said.err.contains("hint:"), "{}", said.err);
    project.run(&["lock"], 0);
    project.recipe("base", "description: Another.\nfrom: scratch\npackages: [libfoo, app]\n");
    let said = project.run(&["build"], 2);
    assert!(said.err.contains("base") && said.err.contains("hint:"), "{}", said.err);
}

#[test]
fn the_same_inputs_give_the_same_bytes_wherever_and_whoever_builds() {
    let (repo, project, expected) = built();
    let build = |with: &dyn Fn(&mut Command), options: &[&str]| {
        let other = Project::sample(&repo);
        other.write("parvis.lock", &project.read("parvis.lock"));
        let mut command = other.parvis(&[&["build", "--json"], options].concat());
        with(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", Said::from(&output).err);
        digests(&Said::from(&output).out)
    };
    assert_eq!(build(&|_| (), &["--threads", "1"]), expected, "one thread, another folder");
    assert_eq!(build(&|_| (), &["--threads", "7"]), expected, "seven threads");
    let strange = |command: &mut Command| {
        command
            .env("TZ", "Pacific/Kiritimati")
            .env("LANG", "tr_TR.UTF-8")
            .env("LC_ALL", "de_DE.UTF-8")
            .env("SOURCE_DATE_EPOCH", "1");
    };
    assert_eq!(build(&strange, &[]), expected, "another zone and language");
    let masked = |command: &mut Command| {
        let inner = std::mem::replace(command, Command::new("sh"));
        command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    };
    assert_eq!(build(&masked, &[]), expected, "another umask");
}

#[test]
fn an_ordinary_user_builds_the_same_bytes() {
    for with_subordinate_ids in [true, false] {
        let Some(user) = User::new(with_subordinate_ids) else { return };
        let (repo, project, expected) = built();
        fs::set_permissions(repo.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let own = Project::sample(&repo);
        own.write("parvis.lock", &project.read("parvis.lock"));
        user.own(own.path().parent().unwrap());
        let output = user.command(&own.parvis(&["build", "--json"])).output().unwrap();
        assert!(output.status.success(), "with sub-ids {with_subordinate_ids}: {}", Said::from(&output).err);
        assert_eq!(digests(&Said::from(&output).out), expected, "with sub-ids {with_subordinate_ids}");
    }
}

#[test]
fn a_security_fix_moves_what_it_must_and_nothing_else() {
    let mut repo = world::archive();
    repo.withdraw(Suite::Security, "libfoo").publish();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    let before = project.read("parvis.lock");
    project.run(&["build"], 0);
    project.run(&["lock", "--check"], 0);
    repo.date += 60;
    repo.add(Suite::Security, &world::libfoo("1.0-1+deb13u1")).publish();
    let said = project.run(&["outdated"], 0);
    assert!(said.out.contains("\nfoo ") && said.out.contains("1.0-1+deb13u1"), "{}", said.out);
    project.run(&["lock", "--security"], 0);
    let after = project.read("parvis.lock");
    let versions = |lock: &str| lock.lines().filter(|line| line.starts_with("version = ")).map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (versions(&before), versions(&after));
    let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
    assert_eq!(moved, [(&"version = \"1.0-1\"".to_owned(), &"version = \"1.0-1+deb13u1\"".to_owned())]);
    project.run(&["build"], 0);
    assert!(says_nothing_changed(&project.run(&["build", "--offline"], 0)));
}

#[test]
fn a_full_disk_is_told_in_mebibytes_and_the_next_build_works() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (repo, project, expected) = built();
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    fs::create_dir_all(other.store()).unwrap();
    for small in ["3m", "9m", "14m"] {
        // The mount lives and dies with the shell's own mount namespace.
        let script = format!(
            "store=$1; shift; mount -t tmpfs -o size={small} none $store || exit 99; \"$@\" > /dev/null 2> $store.said; code=$?; cat $store.said >&2; \
             mount -o remount,size=400m $store; [ $code = 3 ] || exit 98; exec \"$@\""
        );
        let inner = other.parvis(&["build", "--json"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(other.store()).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = command.output().unwrap();
        let said = Said::from(&output);
        assert!(output.status.success(), "{small}, {:?}: {}", output.status, said.err);
        assert_eq!(digests(&said.out), expected, "{small}");
        if small == "14m" && said.err.contains("in the image `") {
            // So late it may also be a script that finds no space, and says so itself.
            continue;
        }
        let full = said.err.lines().find(|line| line.contains("is full: ")).unwrap_or_else(|| panic!("{small}: {}", said.err));
        assert!(full.contains(" MiB needed, ") && full.ends_with(" MiB free"), "{small}: {full}");
        assert!(said.err.contains("hint: free some space"), "{small}: {}", said.err);
    }
}

#[test]
fn what_is_damaged_in_the_store_is_found_and_made_anew() {
    let (_repo, project, expected) = built();
    let largest = |kind: &str| {
        let mut files = Vec::new();
        let mut folders = vec![project.store().join(kind)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.into_iter().max_by_key(|path| (path.metadata().unwrap().len(), path.clone())).unwrap()
    };
    for kinds in
        [&["blobs"][..], &["files"], &["downloads"], &["segments"], &["records"], &["blobs", "segments"], &["blobs", "files"]]
    {
        let damaged: Vec<_> = kinds.iter().map(|kind| largest(kind)).collect();
        for path in &damaged {
            flip(path);
        }
        let said = project.run(&["store", "verify"], 1);
        for path in &damaged {
            let name = path.strip_prefix(project.store()).unwrap().display().to_string();
            assert!(said.out.contains("damaged: ") && said.out.contains(&name), "{kinds:?}: `{name}` is not in\n{}", said.out);
        }
        fs::remove_dir_all(project.path().join("out")).unwrap();
        assert_eq!(digests(&project.run(&["build", "--json"], 0).out), expected, "{kinds:?}");
        project.run(&["store", "verify"], 0);
        assert_eq!(project.run(&["run", "app"], 0).out, "app hello\n", "{kinds:?}");
    }
    let lost = largest("files");
    fs::remove_file(&lost).unwrap();
    let said = project.run(&["store", "verify"], 1);
    assert!(said.out.contains("records/") && said.out.contains("something that it refers to is gone"), "{}", said.out);
    assert_eq!(digests(&project.run(&["build", "--json"], 0).out), expected);
    assert!(lost.exists());
}

#[test]
fn a_plan_says_why_and_a_changed_file_makes_only_what_it_must() {
    let (_repo, project, before) = built();
    let plan = project.run(&["plan"], 0);
    assert!(plan.out.ends_with("\nnothing to do\n") && !plan.out.contains("because"), "{}", plan.out);
    project.write("images/app/welcome.txt", "welcome, all\n");
    let plan = project.run(&["plan"], 0);
    assert!(plan.out.contains("because") && plan.out.contains("welcome.txt"), "{}", plan.out);
    assert!(plan.out.lines().filter(|line| line.starts_with("base ")).all(|line| line.ends_with("recalled")), "{}", plan.out);
    assert!(plan.out.lines().any(|line| line.starts_with("app ") && line.contains("packages") && line.ends_with("recalled")));
    let after = digests(&project.run(&["build", "--json"], 0).out);
    assert_eq!(after["base"], before["base"]);
    assert_ne!(after["app"], before["app"]);
    assert_eq!(project.run(&["run", "app", "--", "cat", "/srv/welcome.txt"], 0).out, "welcome, all\n");
    project.write("images/app/welcome.txt", "welcome\n");
    assert_eq!(digests(&project.run(&["build", "--json"], 0).out), before);
}

#[test]
fn a_command_sees_the_environment_that_the_image_inherits_and_its_key_names_it() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    let base = |greeting: &str, label: &str| {
        let env = format!(
            "config:\n  env: {{GREETING: {greeting}, UNDER: base}}\n  workdir: /tmp\n  user: nobody\n  labels: {{note: {label}}}\n"
        );
        project.recipe("base", &format!("description: What all images share.\nfrom: scratch\npackages: [libfoo]\n{env}"));
    };
    let script = r#"echo "$GREETING $UNDER $OWN $HOME $PATH $(pwd) $(id -u)" > /seen"#;
    project.recipe(
        "app",
        &format!(
            "description: x\nfrom: base\nrun:\n  - command: [sh, -c, '{script}']\n    env: {{OWN: mine, UNDER: own}}\nconfig:\n  env: {{OWN: image}}\n"
        ),
    );
    base("hello", "a");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let seen = || project.run(&["run", "app", "--", "cat", "/seen"], 0).out;
    assert_eq!(seen(), format!("hello own mine /root {path} / 0\n"));
    // What the command does not see does not make it run again.
    base("hello", "b");
    let plan = project.run(&["plan"], 0).out;
    assert!(plan.lines().any(|line| line.starts_with("app ") && line.contains("run-0") && line.ends_with("recalled")), "{plan}");
    // What it sees does, and the plan says which.
    base("goodbye", "b");
    let plan = project.run(&["plan"], 0).out;
    assert!(plan.contains("because variable GREETING changed\n"), "{plan}");
    assert!(
        plan.lines().any(|line| line.starts_with("base ") && line.contains("packages") && line.ends_with("recalled")),
        "{plan}"
    );
    project.run(&["build"], 0);
    assert_eq!(seen(), format!("goodbye own mine /root {path} / 0\n"));
}

#[test]
fn a_command_has_the_home_of_its_account_as_engines_give_it() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    let user = "users:\n  - {name: anna, uid: 1234, gid: 1234, home: /srv/anna}\nconfig: {user: '1234:33'}\n";
    project.recipe("base", &format!("description: x\nfrom: scratch\npackages: [libfoo]\n{user}"));
    let run = "run:\n  - {command: [sh, -c, 'test $HOME = /srv/anna'], user: anna}\n";
    project.recipe("app", &format!("description: x\nfrom: base\n{run}"));
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let home = |options: &[&str]| {
        let arguments = [&["run", "app"], options, &["--", "sh", "-c", "echo $HOME"]].concat();
        project.run(&arguments, 0).out
    };
    assert_eq!(home(&[]), "/srv/anna\n", "a number is looked up, too");
    assert_eq!(home(&["--user", "root"]), "/root\n");
    assert_eq!(home(&["--user", "4711"]), "/\n", "whom the image does not know");
    assert_eq!(home(&["--env", "HOME=/tmp"]), "/tmp\n", "what is asked for is given");
}

#[test]
fn building_twice_at_once_compares_every_digest() {
    let (_repo, project, expected) = built();
    let said = project.run(&["build", "--twice", "--json"], 0);
    assert_eq!(digests(&said.out), expected);
    assert!(said.err.contains("built twice: the same digests"), "{}", said.err);
}

#[test]
fn a_test_that_fails_is_named_and_the_answer_is_no() {
    let (_repo, project, _) = built();
    let recipe = project.read("recipes/app.yaml");
    project.write(
        "recipes/app.yaml",
        &(recipe + "  - command: [app, hello]\n    stdout: [goodbye]\n  - command: [sh, -c, \"exit 4\"]\n"),
    );
    project.run(&["build"], 0);
    let said = project.run(&["test"], 1);
    for line in
        ["ok     app: app hello\n", "FAILED app: app hello\n", "`goodbye` is not in standard output", "1 passed, 2 failed\n"]
    {
        assert!(said.out.contains(line), "`{line}` is not in\n{}", said.out);
    }
    assert!(said.out.contains("it exited with 4 instead of exiting with 0"), "{}", said.out);
    assert!(said.err.contains("2 tests failed"), "{}", said.err);
}

#[test]
fn a_script_that_fails_is_named_with_its_last_words() {
    let mut repo = world::archive();
    let script = "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9; do echo \"line $i\"; done\necho 'no such thing' >&2\nexit 5\n";
    repo.add(Suite::Main, &Deb::new("failing", "1").script("postinst", script)).publish();
    let project = Project::sample(&repo);
    project.recipe("broken", "description: It does not work.\nfrom: base\npackages: [failing]\n");
    project.run(&["lock"], 0);
    let said = project.run(&["build"], 3);
    for words in [
        "`broken`",
        "`failing`",
        "failing.postinst configure",
        "exited with 5\n",
        "  | line 9\n",
        "  | no such thing\n",
        "hint: ",
    ] {
        assert!(said.err.contains(words), "`{words}` is not in\n{}", said.err);
    }
    // The others can be built, and what was made is kept.
    project.run(&["build", "app"], 0);
}

#[test]
fn a_saved_archive_is_read_by_others() {
    let (_repo, project, expected) = built();
    let file = project.path().join("images.tar");
    project.run(&["save", "app", "base", "--output", file.to_str().unwrap()], 0);
    let script = r#"
import hashlib, json, sys, tarfile
with tarfile.open(sys.argv[1], "r:") as archive:
    names = archive.getnames()
    assert len(names) == len(set(names)), names
    read = lambda name: archive.extractfile(name).read()
    for name in names:
        if name.startswith("blobs/sha256/") and archive.getmember(name).isfile():
            assert hashlib.sha256(read(name)).hexdigest() == name[13:], name
    index = json.loads(read("index.json"))
    assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"
    for image in json.loads(read("manifest.json")):
        config = json.loads(read(image["Config"]))
        assert len(image["Layers"]) == len(config["rootfs"]["diff_ids"]), image
        assert all(layer in names for layer in image["Layers"]), image
    print(*sorted(image["digest"] for image in index["manifests"]), sep="\n")
"#;
    let output = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();
    let said = Said::from(&output);
    let mut wanted: Vec<&str> = expected.values().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), wanted, "{}", said.err);
}

#[test]
fn layers_are_compressed_with_zstd_by_choice() {
    let (_repo, project, gzip) = built();
    project.write("parvis.yaml", &(project.read("parvis.yaml") + "layers: {compression: zstd}\n"));
    let plan = project.run(&["plan"], 0).out;
    assert!(plan.contains("because compression changed\n"), "{plan}");
    assert!(plan.lines().all(|line| !line.contains(" packages ") || line.ends_with("recalled")), "no script runs again: {plan}");
    let zstd = digests(&project.run(&["build", "--json"], 0).out);
    assert!(zstd.iter().all(|(name, digest)| gzip[name] != *digest));
    let blob = |digest: &str| project.path().join("out/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let manifest: Value = serde_json::from_slice(&fs::read(blob(&zstd["app"])).unwrap()).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        let tested = Command::new("zstd").arg("--test").arg(blob(layer["digest"].as_str().unwrap())).output().unwrap();
        assert!(tested.status.success(), "{}", Said::from(&tested).err);
    }
    assert_eq!(project.run(&["run", "app"], 0).out, "app hello\n");
    project.run(&["build", "--twice"], 0);
}

#[test]
fn recipes_that_go_in_circles_or_have_no_parent_are_the_projects_fault() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    let refused = |words: &[&str]| {
        for verb in ["check", "lock", "build", "plan"] {
            let said = project.run(&[verb], 2);
            for words in words {
                assert!(said.err.contains(words), "{verb}: `{words}` is not in\n{}", said.err);
            }
        }
    };
    project.recipe("base", "description: A circle.\nfrom: app\npackages: [libfoo]\n");
    refused(&["recipes/", "base", "app"]);
    project.recipe("base", "description: No parent.\nfrom: bsae\npackages: [libfoo]\n");
    refused(&["recipes/base.yaml", "`bsae`"]);
}

#[test]
fn two_builds_at_once_are_both_right() {
    let (repo, project, expected) = built();
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    let line = Line::of(&other.parvis(&["build", "--json"]));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..2).map(|_| scope.spawn(|| line.run())).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    for output in answers {
        assert!(output.status.success(), "{}", Said::from(&output).err);
        assert_eq!(digests(&Said::from(&output).out), expected);
    }
}

#[test]
fn a_package_that_the_mirror_changed_is_refused_and_named() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    flip(&repo.pool(Suite::Security, &world::libfoo("1.0-1+deb13u1")));
    let said = project.run(&["build"], 3);
    assert!(said.err.contains("libfoo") && said.err.contains("hint:"), "{}", said.err);
}

#[test]
fn a_lock_whose_packages_have_left_the_archive_says_which_and_what_to_do() {
    let mut repo = world::archive();
    let served = repo.serve();
    let project = Project::new(&served.url());
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    project.run(&["lock"], 0);
    // A newer one has come, and the old one's file is gone, as in Debian's archive a day later.
    let old = repo.pool(Suite::Security, &world::libfoo("1.0-1+deb13u1"));
    repo.date += 60;
    repo.withdraw(Suite::Security, "libfoo").add(Suite::Security, &world::libfoo("1.0-1+deb13u2")).publish();
    fs::remove_file(&old).unwrap();
    let said = project.run(&["build"], 3);
    let told = "error: `parvis.lock` names `libfoo 1.0-1+deb13u1`, which the archive does not have (any more)\n";
    assert!(said.err.contains(told), "{}", said.err);
    assert!(said.err.contains("cannot fetch `libfoo 1.0-1+deb13u1` from `http://"), "{}", said.err);
    assert!(said.err.contains("hint: run `parvis lock --update`, which says what moves"), "{}", said.err);
    // Nothing is made of half the packages, and the hint helps.
    assert!(!project.path().join("out").exists());
    project.run(&["lock", "--update"], 0);
    project.run(&["build"], 0);
    // The same of a mirror on disk.
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    fs::remove_file(repo.pool(Suite::Security, &world::libfoo("1.0-1+deb13u2"))).unwrap();
    let said = project.run(&["build"], 3);
    assert!(said.err.contains("names `libfoo 1.0-1+deb13u2`, which the archive does not have"), "{}", said.err);
}

#[test]
fn building_changes_nothing_in_the_project_but_its_output() {
    let (_repo, project, _) = built();
    let before = picture(&project.path());
    project.run(&["build"], 0);
    project.run(&["plan"], 0);
    project.run(&["check"], 0);
    assert_eq!(picture(&project.path()), before);
}

#[test]
fn every_command_has_help_and_a_wrong_one_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| parvis(home.path()).args(arguments).output().unwrap();
    assert!(run(&["--help"]).status.success());
    assert_eq!(run(&["biuld"]).status.code(), Some(2));
    let nowhere = parvis(home.path()).args(["build", "--project"]).arg(Path::new("/nonexistent")).output().unwrap();
    let said = Said::from(&nowhere);
    assert_eq!(nowhere.status.code(), Some(2), "{}", said.err);
    assert!(said.err.contains("`/nonexistent`") && said.err.contains("hint:"), "{}", said.err);
}

#[test]
fn output_without_a_terminal_is_plain_lines() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    for arguments in [&["lock"][..], &["build"], &["plan"], &["test"]] {
        let said = project.run(arguments, 0);
        let text = said.out + &said.err;
        assert!(!text.contains(['\u{1b}', '\r']), "parvis {}: {text:?}", arguments[0]);
    }
}

#[test]
fn a_terminal_that_is_narrow_dumb_or_without_colours_is_respected() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    let on_terminal = |variables: &str, arguments: &[&str]| {
        let inner = project.parvis(arguments);
        let words: Vec<_> = inner.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let line = format!("stty cols 20 rows 5; {variables} '{}' {}", inner.get_program().display(), words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(std::process::Stdio::null());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let is_coloured = |text: &str| {
        text.split("\u{1b}[")
            .skip(1)
            .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
    };
    let (code, text) = on_terminal("TERM=xterm", &["build", "absent"]);
    assert!(code == Some(2) && is_coloured(&text), "{code:?} {text:?}");
    let (code, text) = on_terminal("TERM=xterm NO_COLOR=1", &["build", "absent"]);
    assert!(code == Some(2) && !is_coloured(&text), "{code:?} {text:?}");
    let (code, text) = on_terminal("TERM=xterm NO_COLOR=1 LANG=C", &["build"]);
    assert!(code == Some(0) && !is_coloured(&text) && text.contains("2 images built"), "{code:?} {text:?}");
    let (code, text) = on_terminal("TERM=dumb", &["build"]);
    assert!(
        code == Some(0) && !text.contains('\u{1b}') && says_nothing_changed(&Said { out: text.clone(), err: String::new() }),
        "{text:?}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let (_repo, project, _) = built();
    let inner = project.parvis(&["build", "--json"]);
    let mut command = Command::new("bash");
    command.args(["-c", "\"$@\" | true; exit ${PIPESTATUS[0]}", "bash"]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = command.output().unwrap();
    let said = Said::from(&output);
    assert_ne!(output.status.code(), Some(101), "{}", said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
}
