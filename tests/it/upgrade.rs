//! `parvis demo upgrade` and `rollback` with a docker that is a script: whatever fails or is killed, one whole version is left.

use std::fs;
use std::time::Duration;

use parvis::model::digest::FileDigest;
use serde_json::{Value, json};

use crate::kit::fakebundle::FakeBundle;
use crate::kit::killat::Line;
use crate::kit::parish::{PASSWORD, World};
use crate::kit::project::parvis;

const OLD: &str = "parish-1.4.0";
const NEW: &str = "parish-1.5.0";
const ROWS: &str = "one\ntwo\n";

/// A machine on which 1.4.0 runs with data, and onto which 1.5.0 was downloaded.
struct Change {
    world: World,
    new: FakeBundle,
}

impl Change {
    fn new() -> Self {
        let world = World::new();
        let new = FakeBundle::version(&world.path(NEW), "1.5.0");
        // One more that writes to the database.
        let cron =
            json!({"name": "cron", "kind": "service", "when": null, "image": "app", "health": true, "after": ["db", "update"]});
        for bundle in [&world.bundle, &new] {
            bundle.change(|bundle| bundle["services"].as_array_mut().unwrap().push(cron.clone()));
        }
        world.up(0);
        world.docker.calls();
        let docker = &world.docker;
        docker.set("loads", &new.ids.iter().map(|(config, _)| config.clone() + "\n").collect::<String>());
        docker.set("rows", ROWS);
        docker.set("tools/dump", "cat \"$S/rows\"\n");
        docker.set("tools/bring-back", "cat > \"$S/rows\"\n");
        docker.set("tools/notice", "echo \"$1\" > \"$S/notice\"\n");
        // The page comes with the password that was made, and where the database was filled.
        docker.set("inside/ask", "read u; read p; [ \"$p\" = cheval-agrafe-exact ] && echo good || echo refused\n");
        docker.fill("parish_keys-db", "db-admin", "secret");
        Self { world, new }
    }

    /// The same, where 1.5.0 changes the data.
    fn migrating() -> Self {
        let change = Self::new();
        change.world.docker.set(
            "jobs/update",
            "[ \"$folder\" = parish-1.4.0 ] || grep -qx migrated \"$S/rows\" || echo migrated >> \"$S/rows\"\n",
        );
        change
    }

    fn rule(&self, name: &str, text: &str) {
        self.world.docker.set(name, text);
    }

    fn rows(&self) -> String {
        self.world.docker.get("rows")
    }

    /// Checks that this version runs whole, with these rows, and that nothing is under way.
    #[track_caller]
    fn runs(&self, folder: &str, rows: &str) {
        let docker = &self.world.docker;
        for service in ["db", "web", "cron"] {
            assert_eq!(docker.get(&format!("containers/{service}")), "healthy\n", "{service}");
            assert_eq!(docker.get(&format!("of/{service}")), format!("{folder}\n"), "{service}");
        }
        assert_eq!(self.rows(), rows);
        assert_ne!(docker.get("notice"), "begin\n", "visitors are still shut out");
        for folder in [OLD, NEW] {
            assert!(!self.world.path(folder).join(".parvis-change.json").exists());
        }
        let status: Value = serde_json::from_str(&self.world.run(&["status", "--json"], 0).out).unwrap();
        let running = status["folder"].as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!((running, &status["well"]), (folder, &json!(true)));
        // Another `up` finds nothing to do.
        docker.calls();
        assert!(self.world.run(&["up"], 0).out.contains("nothing was changed"));
    }

    fn line(&self, arguments: &[&str]) -> Line {
        let mut line = Line::of(&self.world.command(arguments));
        line.environment.retain(|(name, _)| name != "PWD");
        line
    }
}

#[test]
fn an_upgrade_saves_migrates_replaces_and_keeps_the_old_version() {
    let change = Change::migrating();
    let said = change.world.run(&["upgrade", "--unverified", NEW], 0);
    let asked: Vec<String> = change.world.asked().into_iter().filter(|words| !words.contains("site-admin")).collect();
    assert_eq!(
        asked,
        [
            "run --rm --no-deps -T --entrypoint notice web begin",
            "stop cron",
            "run --rm --no-deps -T --entrypoint dump tools",
            "run --rm --no-deps -T selfkeys",
            "run --rm --no-deps -T init",
            "run --rm --no-deps -T update",
            "run --rm --no-deps -T --entrypoint dump tools",
            "up -d --no-deps db",
            "up -d --no-deps web",
            "up -d --no-deps cron",
            "run --rm --no-deps -T --entrypoint notice web end",
            "docker load",
        ]
    );
    assert!(
        said.out.contains("version `1.5.0` runs; `1.4.0` is kept") && said.out.contains("takes the data of before"),
        "{}",
        said.out
    );
    change.runs(NEW, "one\ntwo\nmigrated\n");
    assert!(change.world.path(OLD).join("backup-before-1.5.0.tar").is_file());
    // The user's settings came along; the images are the new ones.
    let settings = change.new.settings();
    for line in ["PORT=18443   # outside", "PARISH_NAME=\"L'Étoile\"", &format!("PARVIS_IMAGE_APP={}", change.new.ids[0].0)] {
        assert!(settings.contains(line), "{settings}");
    }
    // The folder of the old version leads to the new one, and does not start by itself.
    let old = change.world.path(OLD);
    let said = change.world.run(&["status", "--bundle", old.to_str().unwrap()], 0);
    assert!(said.out.contains(":18443/"));
    assert!(change.world.run(&["up", OLD], 2).err.contains("another version took this one's place: `1.5.0`"));
    assert!(change.world.run(&["upgrade", "--unverified", NEW], 0).out.contains("runs already; nothing was changed"));
    assert!(!change.world.docker.get("calls").contains(PASSWORD));
}

#[test]
fn going_back_takes_the_data_along_where_they_were_changed_and_asks_first() {
    let change = Change::migrating();
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    change.rule("rows", "one\ntwo\nmigrated\nthree\n");
    insta::assert_snapshot!("rollback_loses", change.world.complaint(&["rollback"], 2));
    change.runs(NEW, "one\ntwo\nmigrated\nthree\n");
    let said = change.world.run(&["rollback", "--yes", "--json"], 0);
    let said: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&said["kind"], &said["version"], &said["previous"]), (&json!("rollback"), &json!("1.4.0"), &json!(null)));
    change.runs(OLD, ROWS);
    assert_eq!(change.world.docker.get("volumes/parish_keys-db/db-admin"), "secret");
    // What was there before going back is kept too, and one may come again.
    assert!(change.world.path(NEW).join("backup-before-1.4.0.tar").is_file());
    assert!(change.world.run(&["rollback"], 1).err.contains("no version to go back to"));
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    change.runs(NEW, "one\ntwo\nmigrated\n");
}

#[test]
fn going_back_keeps_the_data_where_they_were_left_as_they_are() {
    let change = Change::new();
    let said = change.world.run(&["upgrade", "--unverified", NEW], 0);
    assert!(said.out.contains("(the data stay)"), "{}", said.out);
    change.rule("rows", "one\ntwo\nthree\n");
    change.world.run(&["rollback"], 0);
    change.runs(OLD, "one\ntwo\nthree\n");
}

#[test]
fn going_back_that_fails_leaves_the_new_version_and_its_data() {
    let change = Change::migrating();
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    change.rule("rows", "one\ntwo\nmigrated\nthree\n");
    change.rule(
        "inside/ask",
        "read u; read p; [ \"$(cat \"$S/of/web\")\" = parish-1.5.0 ] && echo good || { echo 'HTTP 500' >&2; exit 1; }\n",
    );
    insta::assert_snapshot!("rollback_undone", change.world.complaint(&["rollback", "--yes", "--timeout", "2"], 3));
    change.runs(NEW, "one\ntwo\nmigrated\nthree\n");
}

#[test]
fn whatever_fails_the_old_version_is_back_with_its_data() {
    let change = Change::migrating();
    let new = |lines: &str| format!("[ \"$folder\" = parish-1.5.0 ] && {{ {lines} }}\ntrue\n");
    let becomes =
        |state: &str| new(&format!("echo {state} > \"$S/containers/$service\"; echo \"$folder\" > \"$S/of/$service\"; exit;"));
    // The file of the state, what stands in it, and what stands there otherwise.
    let cases = [
        ("load", "rule", "[ \"$1\" = load ] && { echo 'write /x: no space left on device' >&2; exit 1; }\n".to_owned()),
        ("dump", "tools/dump", "echo 'lost connection' >&2; exit 2\n".to_owned()),
        ("keys", "jobs/selfkeys", new("echo 'no keys' >&2; exit 1;")),
        ("migration", "jobs/update", new("echo half >> \"$S/rows\"; echo 'cannot migrate' >&2; exit 4;")),
        ("database", "ups/db", becomes("exited")),
        ("unhealthy", "ups/web", becomes("unhealthy")),
        ("no health", "ups/web", becomes("starting")),
        ("page", "inside/ask", "read u; read p; [ \"$(cat \"$S/of/web\")\" = parish-1.4.0 ] && echo good || { echo 'the answer is 500' >&2; exit 1; }\n".to_owned()),
        ("refused", "inside/ask", "read u; read p; [ \"$(cat \"$S/of/web\")\" = parish-1.4.0 ] && echo good || echo refused\n".to_owned()),
    ];
    let mut text = String::new();
    for (name, file, lines) in cases {
        let before = change.world.docker.has(file).then(|| change.world.docker.get(file));
        change.rule(file, &lines);
        let said = change.world.run(&["upgrade", "--unverified", NEW, "--timeout", "2"], 3).err;
        assert!(said.contains("error: the upgrade to `1.5.0` failed; `1.4.0` runs again, with its data\n"), "{name}: {said}");
        let because = said.lines().find(|line| line.trim_start().starts_with("because:")).unwrap_or_default();
        text += &format!("{name:<10} {}\n", because.trim());
        match before {
            Some(before) => change.rule(file, &before),
            None => change.world.docker.unset(file),
        }
        change.runs(OLD, ROWS);
        assert_eq!(change.world.docker.get("volumes/parish_keys-db/db-admin"), "secret", "{name}");
    }
    insta::assert_snapshot!("undone", text);
    insta::assert_snapshot!("undone_whole", {
        change.rule("jobs/update", &new("echo 'cannot migrate' >&2; exit 4;"));
        change.world.complaint(&["upgrade", "--unverified", NEW], 3)
    });
    change.rule("jobs/update", "true\n");
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    change.runs(NEW, ROWS);
}

#[test]
fn what_was_good_before_the_change_has_to_be_found_good_once_more() {
    let change = Change::migrating();
    // Docker calls a service well until its check has failed several times; each check that was made since fails.
    change.rule("checks/web", "[ \"$(cat \"$S/of/cron\")\" = parish-1.4.0 ] && echo 0 || echo 1");
    let said = change.world.run(&["upgrade", "--unverified", NEW, "--timeout", "2"], 3).err;
    assert!(said.contains("error: the upgrade to `1.5.0` failed; `1.4.0` runs again, with its data\n"), "{said}");
    assert!(said.contains("`web`") && said.contains("it lacks its table"), "{said}");
    change.runs(OLD, ROWS);
    change.rule("checks/web", "echo 0");
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    change.runs(NEW, "one\ntwo\nmigrated\n");
}

#[test]
fn that_visitors_cannot_be_told_is_no_reason_to_stop() {
    let change = Change::new();
    change.rule("tools/notice", "echo 'cannot write' >&2; exit 1\n");
    let said = change.world.run(&["upgrade", "--unverified", NEW], 0);
    assert!(said.err.contains("they find the site closed"), "{}", said.err);
    change.runs(NEW, ROWS);
}

/// Signs a bundle as a release, with a key of whoever calls it.
fn sign(world: &World, bundle: &FakeBundle, sequence: u64) {
    let run = |arguments: &[&str]| {
        let mut command = parvis(world.docker.home());
        let said = command.args(arguments).arg("--no-passphrase").output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    if !world.path(".config/parvis/keys/release.pub").exists() {
        run(&["key", "new"]);
    }
    let listed = |name: &str| {
        let bytes = fs::read(bundle.folder.join(name)).unwrap();
        json!({"name": format!("parish/{name}"), "sha256": FileDigest::of(&bytes), "size": bytes.len()})
    };
    let image = |(name, (config, manifest)): (&&str, &(String, String))| {
        let on = json!({"platform": "linux/amd64", "manifest": manifest, "config": config, "size": 1});
        json!({"name": name, "digest": manifest, "platforms": [on]})
    };
    let names = ["app", "db"];
    let files = ["README.md", "bundle.json", "compose.yaml", "images.tar"].map(listed);
    let day = |days: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + days * 86_400).unwrap().to_string();
    let statement = json!({
        "format": 1, "product": "parish", "version": "1.5.0", "sequence": sequence, "issued": day(-1), "validUntil": day(100),
        "commit": "0".repeat(40), "lock": FileDigest::of(b"lock"), "registry": "example.org/parish",
        "images": names.iter().zip(&bundle.ids).map(image).collect::<Vec<_>>(),
        "files": files, "sboms": [],
    });
    let file = bundle.folder.join("unsigned.json");
    fs::write(&file, statement.to_string()).unwrap();
    run(&["sign", file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_new_version_is_verified_before_anything_is_touched() {
    let change = Change::new();
    let world = &change.world;
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let said = world.run(&[&["upgrade"], arguments].concat(), code);
        assert!(said.err.contains(word), "{word}: {}", said.err);
        let calls = world.docker.calls();
        assert!(
            calls.iter().all(|call| !call.contains(" stop ") && !call.contains("begin") && call != "docker load"),
            "{calls:?}"
        );
    };
    refused(&[NEW], 1, "nobody signed the new version");
    refused(&[NEW, "--lang", "fr"], 1, "personne n'a signé la nouvelle version");
    sign(world, &change.new, 2);
    refused(&[NEW], 3, "whose the new version is cannot be decided: nobody is trusted on this machine");
    let trust = |file: &str, name: &str| {
        let said = parvis(world.docker.home()).args(["trust", "add", file, "--name", name]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    let key = world.path(".config/parvis/keys/release.pub").display().to_string();
    trust(&key, "makers");
    // Whatever is bad stays bad, also for whoever would go on unverified.
    let archive = change.new.folder.join("images.tar");
    let good = fs::read(&archive).unwrap();
    fs::write(&archive, [&good[..], b"x"].concat()).unwrap();
    refused(&[NEW, "--unverified"], 1, "refused, E03: `parish/images.tar` was changed");
    refused(&[NEW, "--unverified", "--lang", "fr"], 1, "refusé, E03 : ");
    fs::write(&archive, &good).unwrap();
    let packed = world.path("given/parish-1.5.0.tar");
    let pack = || {
        fs::create_dir_all(packed.parent().unwrap()).unwrap();
        let (home, name) = (world.docker.home(), "--transform=s,^parish-1.5.0,parish,");
        let mut tar = std::process::Command::new("tar");
        tar.arg("--exclude=.env").arg("--exclude=.parvis*").arg(name).arg("-C").arg(home).arg("-cf").arg(&packed).arg(NEW);
        assert!(tar.status().unwrap().success());
    };
    fs::write(change.new.folder.join("compose.yaml"), "services: []\n").unwrap();
    pack();
    refused(&[packed.to_str().unwrap()], 1, "refused, E03: ");
    assert!(!packed.with_extension("").exists(), "what is refused is not unpacked");
    fs::write(change.new.folder.join("compose.yaml"), "services: {}\n").unwrap();
    pack();
    let said = world.run(&["upgrade", packed.to_str().unwrap()], 0);
    assert!(said.err.contains("genuine: parish 1.5.0, signed by makers ("), "{}", said.err);
    // It is remembered: an older one is refused from now on, and another's key as well.
    world.docker.calls();
    sign(world, &change.new, 1);
    change.new.change(|bundle| bundle["description"] = json!("Another."));
    sign(world, &change.new, 1);
    refused(&[NEW], 1, "refused, E05: ");
}

#[test]
fn what_cannot_be_a_new_version_changes_nothing() {
    let change = Change::new();
    let refused = |expected: &str, code: i32, arguments: &[&str]| {
        let said = change.world.run(arguments, code);
        assert!(said.err.contains(expected), "{arguments:?}: {}", said.err);
        let calls = change.world.docker.calls();
        assert!(
            calls.iter().all(|call| !call.contains(" stop ") && !call.contains("begin") && call != "docker load"),
            "{calls:?}"
        );
    };
    refused("no new version was named", 2, &["upgrade"]);
    refused("it holds no `bundle.json`", 2, &["upgrade", "--unverified", "."]);
    let archive = change.world.path(NEW).join("images.tar");
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    bad[3000] ^= 1;
    fs::write(&archive, bad).unwrap();
    refused("`images.tar` is refused", 2, &["upgrade", "--unverified", NEW]);
    fs::write(&archive, good).unwrap();
    change.new.change(|bundle| bundle["version"] = json!("1.4.0-rc.1"));
    refused("version `1.4.0-rc.1` is older than `1.4.0`", 2, &["upgrade", "--unverified", NEW]);
    change.new.change(|bundle| (bundle["version"], bundle["name"]) = (json!("1.5.0"), json!("other")));
    refused("this is a bundle of `other`, and `parish` runs", 2, &["upgrade", "--unverified", NEW]);
    change.new.change(|bundle| bundle["name"] = json!("parish"));
    // To start a new version upon the data without an upgrade is what a volunteer would try.
    refused("the data belong to another version: `1.4.0`", 2, &["up", NEW]);
    change.world.bundle.change(|bundle| bundle["version"] = json!("1.5.0"));
    refused("from which the present one runs", 2, &["upgrade", "--unverified", OLD]);
    change.world.bundle.change(|bundle| bundle["version"] = json!("1.4.0"));
    refused("no version to go back to", 1, &["rollback"]);
    change.world.run(&["stop"], 0);
    change.world.docker.calls();
    refused("the demo is not running", 1, &["upgrade", "--unverified", NEW]);
    change.world.run(&["reset", "--yes"], 0);
    change.world.docker.calls();
    refused("never started", 1, &["upgrade", "--unverified", NEW]);
}

#[test]
fn a_security_rebuild_is_newer_and_a_new_parameter_keeps_its_default() {
    let change = Change::new();
    change.new.change(|bundle| {
        bundle["version"] = json!("1.4.0-sec.1");
        let more = json!({"name": "tz", "variable": "TZ", "kind": "zone", "default": "Europe/Paris", "question": {"en": "?", "fr": "?"}});
        bundle["parameters"].as_array_mut().unwrap().push(more);
    });
    fs::write(change.world.path(NEW).join(".env"), "PORT=1\nTZ=Europe/Brussels\n").unwrap();
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    let settings = change.new.settings();
    assert!(settings.contains("PORT=18443") && settings.contains("TZ=Europe/Brussels"), "{settings}");
    assert!(settings.contains("COMPOSE_PROJECT_NAME=parish\n"), "{settings}");
}

#[test]
fn services_that_the_new_version_lacks_go_and_come_back_with_the_old_one() {
    let change = Change::new();
    // An old version with a service more.
    let more = json!({"name": "chat", "kind": "service", "when": null, "image": "app", "health": true, "after": ["db"]});
    change.world.bundle.change(|bundle| bundle["services"].as_array_mut().unwrap().push(more.clone()));
    change.world.run(&["up"], 0);
    assert!(change.world.docker.has("containers/chat"));
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    assert!(!change.world.docker.has("containers/chat"));
    change.world.run(&["rollback"], 0);
    assert_eq!(change.world.docker.get("containers/chat"), "healthy\n");
}

#[test]
fn two_versions_are_kept() {
    let change = Change::new();
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    let kept = change.world.docker.get("images");
    assert!(change.world.bundle.ids.iter().all(|(config, _)| kept.contains(config)));
    let third = FakeBundle::version(&change.world.path("parish-1.6.0"), "1.6.0");
    fs::write(change.world.path(OLD).join("notes.txt"), "mine").unwrap();
    change.world.docker.set("loads", &third.ids.iter().map(|(config, _)| config.clone() + "\n").collect::<String>());
    let said = change.world.run(&["upgrade", "--unverified", "parish-1.6.0"], 0);
    assert!(said.err.contains("version `1.4.0` is not kept any longer"), "{}", said.err);
    let kept = change.world.docker.get("images");
    assert!(change.world.bundle.ids.iter().all(|(config, _)| !kept.contains(config)));
    assert!(change.new.ids.iter().all(|(config, _)| kept.contains(config)));
    let left: Vec<_> = fs::read_dir(change.world.path(OLD)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"], "what a person put there stays");
    change.world.run(&["rollback"], 0);
    change.runs(NEW, ROWS);
}

/// Waits in one place of an upgrade, and kills it there; returns the machine as it was left.
fn killed_in(file: &str, lines: &str) -> Change {
    let change = Change::migrating();
    let before = change.world.docker.has(file).then(|| change.world.docker.get(file));
    change.rule(file, &format!("{lines}; : > \"$S/reached\"; sleep 60\n{}", before.clone().unwrap_or_default()));
    let line = change.line(&["upgrade", "--unverified", change.world.path(NEW).to_str().unwrap()]);
    let output = line.killed_when(|| change.world.docker.has("reached"), Duration::from_secs(30));
    assert!(change.world.docker.has("reached"), "{file} was never reached: {output:?}");
    change.world.docker.unset("reached");
    match before {
        Some(before) => change.rule(file, &before),
        None => change.world.docker.unset(file),
    }
    change
}

/// Where an upgrade is killed: a file of the machine's state in which it waits, and what happens there before.
const KILLS: [(&str, &str); 9] = [
    ("rule", "[ \"$1\" = load ] || return 0"),
    ("tools/notice", "[ \"$1\" = begin ] && echo begin > \"$S/notice\""),
    ("rule", "case \"$*\" in *' stop cron') echo exited > \"$S/containers/cron\";; *) return 0;; esac"),
    ("tools/dump", "head -c 2 \"$S/rows\""),
    ("jobs/selfkeys", "[ \"$folder\" = parish-1.5.0 ] || return 0"),
    ("jobs/update", "echo half >> \"$S/rows\""),
    ("ups/db", "echo exited > \"$S/containers/db\""),
    ("ups/web", "true"),
    ("inside/ask", "[ \"$(cat \"$S/of/web\")\" = parish-1.5.0 ] || { echo good; return 0; }"),
];

#[test]
fn killed_at_each_step_it_goes_on() {
    for (file, lines) in KILLS {
        let change = killed_in(file, lines);
        assert!(change.world.run(&["backup", "x.tar"], 2).err.contains("was interrupted"), "{file}");
        let said = change.world.run(&["upgrade"], 0);
        assert!(said.err.contains("was interrupted; it is taken up again"), "{}", said.err);
        change.runs(NEW, "one\ntwo\nmigrated\n");
    }
}

#[test]
fn killed_at_each_step_it_goes_back() {
    for (index, (file, lines)) in KILLS.into_iter().enumerate() {
        let change = killed_in(file, lines);
        // By either of two commands, from either of the two folders.
        let folder = change.world.path(if index % 2 == 0 { OLD } else { NEW });
        let command = if index % 3 == 0 { "up" } else { "rollback" };
        let said = change.world.run(&[command, "--bundle", folder.to_str().unwrap()], 0);
        assert!(said.err.contains("`1.4.0` is brought back"), "{}", said.err);
        change.runs(OLD, ROWS);
    }
}

#[test]
fn killed_when_the_new_version_was_found_good_it_stays() {
    let change = killed_in("tools/notice", "[ \"$1\" = end ] || { echo \"$1\" > \"$S/notice\"; return 0; }");
    assert!(change.world.run(&["status"], 0).err.contains("the change to version `1.5.0` was interrupted"));
    change.world.run(&["up"], 0);
    change.runs(NEW, "one\ntwo\nmigrated\n");
}

#[test]
fn an_old_version_that_cannot_be_brought_back_yet_is_said_to_be_and_tried_again() {
    let change = Change::migrating();
    change.rule("jobs/update", "[ \"$folder\" = parish-1.5.0 ] && { echo half >> \"$S/rows\"; exit 4; }\ntrue\n");
    change.rule("tools/bring-back", "echo 'disk gone' >&2; exit 1\n");
    let said = change.world.complaint(&["upgrade", "--unverified", NEW], 3);
    insta::assert_snapshot!("stuck", said);
    assert_eq!(change.world.docker.get("notice"), "begin\n", "visitors must not come upon half of the data");
    change.rule("tools/bring-back", "cat > \"$S/rows\"\n");
    change.rule("jobs/update", "true\n");
    change.world.run(&["rollback"], 0);
    change.runs(OLD, ROWS);
}

#[test]
fn a_version_whose_data_went_to_one_that_is_gone_is_not_started() {
    let change = Change::migrating();
    change.world.run(&["upgrade", "--unverified", NEW], 0);
    fs::remove_dir_all(change.world.path(NEW)).unwrap();
    let old = change.world.path(OLD);
    let old = old.to_str().unwrap();
    assert!(change.world.run(&["up", OLD], 2).err.contains("the data went to another version"));
    change.world.run(&["restore", "--bundle", old, "--yes", &format!("{old}/backup-before-1.5.0.tar")], 0);
    change.runs(OLD, ROWS);
}

#[test]
fn reset_ends_a_change_that_was_interrupted() {
    let change = killed_in("jobs/update", "echo half >> \"$S/rows\"");
    change.world.run(&["reset", "--yes"], 0);
    assert!(!change.world.docker.has("volumes/parish_database"));
    assert!(change.world.run(&["up", NEW], 0).out.contains(PASSWORD));
}
