//! `parvis demo` with a docker that is a script: what it is asked, in which order, and what a volunteer reads when it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::fakebundle::SETTINGS;
use crate::kit::fakedocker::FakeDocker;
use crate::kit::fakerepo::Repo;
use crate::kit::killat::Line;
use crate::kit::parish::{PASSWORD, World};
use crate::kit::project::{Project, Said};
use crate::kit::rawtar;
use crate::kit::world;

/// A project with one image and a stack, on an archive of its own, and the folder of its bundle.
fn project() -> (Repo, Project, PathBuf) {
    let archive = world::archive();
    let project = Project::on(&archive);
    let config = "config: {user: '33:33', cmd: [/bin/true], health: {command: [/bin/true]}}";
    let text =
        format!("description: Small.\nfrom: scratch\nfiles: [{{text: x, to: /x, owner: '0:0', mode: '0444'}}]\n{config}\n");
    project.recipe("web", &text);
    project.write("compose/site.yaml", "description: A site.\nservices: {web: {image: web}}\n");
    let folder = project.path().join("out/bundle/site");
    (archive, project, folder)
}

#[test]
fn the_first_up_loads_starts_in_order_and_tells_the_password_once() {
    let world = World::new();
    let said = world.up(0);
    assert_eq!(
        world.asked(),
        [
            "run --rm --no-deps -T selfkeys",
            "up -d --no-deps db",
            "run --rm --no-deps -T init",
            "run --rm --no-deps -T update",
            "up -d --no-deps web",
            "run --rm --no-deps -T --entrypoint cat init /keys/site-admin",
            "docker load",
        ]
    );
    for part in ["https://localhost:18443/", "admin", PASSWORD, "parish_database", "parvis demo stop"] {
        assert!(said.out.contains(part), "{}", said.out);
    }
    let steps: Vec<&str> = said.err.lines().filter(|line| line.ends_with(" s")).map(|line| line.split_at(18).0.trim()).collect();
    assert_eq!(
        steps,
        ["selfkeys  done", "db        ready", "init      done", "update    done", "web       ready"],
        "{}",
        said.err
    );
    let settings = world.bundle.settings();
    let [app, db] = [0, 1].map(|at| &world.bundle.ids[at].0);
    let expected = SETTINGS.replace("example.org/parish/app:1.4.0", app) + &format!("PARVIS_IMAGE_DB={db}\n");
    assert_eq!(settings, expected);

    let again = world.up(0);
    assert_eq!(world.asked(), ["run --rm --no-deps -T selfkeys"]);
    assert!(again.out.contains("nothing was changed") && !again.out.contains(PASSWORD), "{}", again.out);
    // From anywhere: the bundle that was started last is meant.
    assert_eq!(world.run(&["password"], 0).out, format!("{PASSWORD}\n"));
    for name in ["calls", "environment"] {
        assert!(!world.docker.get(name).contains(PASSWORD));
    }
}

#[test]
fn up_speaks_french_and_json() {
    let world = World::new();
    let said = world.command(&["up", world.bundle()]).env("LANG", "fr_FR.UTF-8").output().unwrap();
    let said = Said::from(&said);
    assert!(said.out.contains("mot de passe : ") && said.err.contains("prêt"), "{}{}", said.out, said.err);
    world.run(&["reset", "--yes"], 0);
    let said: Value = serde_json::from_str(&world.run(&["up", "--json"], 0).out).unwrap();
    assert_eq!((&said["password"], &said["changed"], &said["user"]), (&json!(PASSWORD), &json!(true), &json!("admin")));
    assert_eq!(said["steps"].as_array().unwrap().len(), 5);
    let said: Value = serde_json::from_str(&world.run(&["up", "--json"], 0).out).unwrap();
    assert_eq!((&said["password"], &said["changed"]), (&json!(null), &json!(false)));
}

#[test]
fn a_changed_setting_goes_through_every_step_and_the_shell_does_not_interfere() {
    let world = World::running();
    fs::write(world.bundle.folder.join(".env"), world.bundle.settings().replace("18443", "18444")).unwrap();
    let said =
        world.command(&["up"]).env("PORT", "1").env("COMPOSE_FILE", "/x").env("COMPOSE_PROFILES", "tools").output().unwrap();
    let said = Said::from(&said);
    assert!(said.out.contains(":18444/") && !said.out.contains(PASSWORD), "{}", said.out);
    assert_eq!(world.asked().len(), 5);
    assert_eq!(world.docker.get("environment"), "");
}

#[test]
fn images_are_known_by_either_id_and_only_missing_ones_are_loaded() {
    let world = World::new();
    let [app, db] = [0, 1].map(|at| world.bundle.ids[at].clone());
    // The containerd store names images by their manifest.
    world.docker.set("images", &format!("{}\n", app.1));
    world.docker.set("loads", &format!("{}\n", db.1));
    world.up(0);
    assert!(world.bundle.settings().contains(&format!("PARVIS_IMAGE_APP={}\n", app.1)));
    let loaded = fs::read(world.path("state/loaded.tar")).unwrap();
    let files = parvis::image::archive::TarFiles::new(&loaded[..]).unwrap();
    let found = parvis::image::archive::read(&files).unwrap();
    assert_eq!(found.iter().map(|image| image.config.digest.to_string()).collect::<Vec<_>>(), [db.0]);
    assert_eq!(found[0].names, ["example.org/parish/db:1.4.0"]);
}

#[test]
fn an_image_that_is_another_after_loading_is_refused() {
    let world = World::new();
    world.docker.set("loads", &format!("{}\nsha256:{}\n", world.bundle.ids[0].0, "0".repeat(64)));
    insta::assert_snapshot!("wrong_image", world.complaint(&["up", world.bundle()], 1));
    assert!(!world.docker.has("containers/db"));
}

#[test]
fn an_archive_that_was_altered_is_not_loaded() {
    let world = World::new();
    let path = world.bundle.folder.join("images.tar");
    let good = fs::read(&path).unwrap();
    // The last bytes before the end are of a layer.
    let layer = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut bad = good.clone();
    bad[layer] ^= 1;
    fs::write(&path, &bad).unwrap();
    let said = world.up(2);
    assert!(said.err.contains("`images.tar` is refused") && said.err.contains("has other bytes than promised"), "{}", said.err);
    assert_eq!(world.docker.get("images"), "", "nothing of it was loaded");
    let foreign =
        rawtar::archive([rawtar::Entry::file("index.json", "{}").bytes(), rawtar::Entry::symlink("blobs", "/etc").bytes()]);
    for bytes in [foreign, good[..good.len() / 2].to_vec(), b"no archive".to_vec()] {
        fs::write(&path, bytes).unwrap();
        let said = world.up(2);
        assert!(said.err.contains("`images.tar` is refused"), "{}", said.err);
    }
    fs::remove_file(&path).unwrap();
    assert!(world.up(2).err.contains("neither on this machine nor in the bundle"));
}

#[test]
fn a_file_of_the_bundle_that_was_altered_is_named() {
    let world = World::new();
    let write = |name: &str, text: &str| fs::write(world.bundle.folder.join(name), text).unwrap();
    write("compose.yaml", "services: {evil: {privileged: true}}\n");
    insta::assert_snapshot!("altered", world.complaint(&["up", world.bundle()], 2));
    write("compose.yaml", "services: {}\n");
    fs::remove_file(world.bundle.folder.join("README.md")).unwrap();
    assert!(world.up(2).err.contains("lacks its file `README.md`"));
    write("README.md", "# Parish\n");
    write(".env", "PORT=18443\nhello\n");
    assert!(world.up(2).err.contains("line 2 of `.env`"));
    write(".env", "PORT=web\n");
    assert!(world.up(2).err.contains("`PORT=web` in `.env` is not a port"));
    write(".env", "COMPOSE_PROJECT_NAME=-x\n");
    assert!(world.up(2).err.contains("not a project's name"));
    write(".env", SETTINGS);
    world.bundle.change(|bundle| bundle["wombat"] = json!(1));
    assert!(world.up(2).err.contains("unknown field `wombat`"));
    assert!(world.run(&["up", world.docker.home().to_str().unwrap()], 2).err.contains("it holds no `bundle.json`"));
    assert!(world.run(&["up", "nowhere"], 2).err.contains("cannot open `nowhere`"));
    assert!(world.run(&["status"], 2).err.contains("there is no bundle here"));
    assert!(world.docker.calls().iter().all(|call| !call.contains(" up ")));
}

#[test]
fn a_machine_that_cannot_run_the_bundle_is_told_why() {
    let world = World::new();
    let mut text = String::new();
    let mut case = |name: &str, prepare: &dyn Fn(&FakeDocker), undo: &dyn Fn(&FakeDocker)| {
        prepare(&world.docker);
        text += &["# ", name, "\n", &world.complaint(&["up", world.bundle()], 3), "\n"].concat();
        undo(&world.docker);
    };
    let rule = |lines: &'static str| move |docker: &FakeDocker| docker.set("rule", lines);
    let no_rule = |docker: &FakeDocker| docker.unset("rule");
    case(
        "no daemon",
        &rule(
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
        ),
        &no_rule,
    );
    case(
        "no permission",
        &rule("echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"),
        &no_rule,
    );
    case("old docker", &|docker| docker.set("version", "19.03.15\n"), &|docker| docker.set("version", "28.2.2\n"));
    case("old compose", &|docker| docker.set("compose-version", "1.25.0\n"), &|docker| docker.set("compose-version", "2.26.1\n"));
    case("another machine", &|docker| docker.set("info", r#"{"Architecture":"aarch64","OSType":"linux"}"#), &|docker| {
        docker.set("info", r#"{"Architecture":"x86_64","OSType":"linux"}"#);
    });
    case("full disk", &rule("[ \"$1\" = load ] && { echo 'write /x: no space left on device' >&2; exit 1; }"), &no_rule);
    case("failed load", &rule("[ \"$1\" = load ] && { echo 'open /x: \\033[2Junexpected' >&2; exit 1; }"), &no_rule);
    world.bundle.change(|bundle| bundle["images"][0]["size"] = json!(1_u64 << 60));
    fs::File::options().write(true).open(world.bundle.folder.join("images.tar")).unwrap().set_len(1 << 42).unwrap();
    world.docker.set("info", &format!(r#"{{"DockerRootDir":"{}","Architecture":"x86_64"}}"#, world.docker.home().display()));
    let said = world.complaint(&["up", world.bundle()], 3);
    // What is free differs from machine to machine.
    text += &said.split(" has ").next().unwrap().replace('\n', "");
    insta::assert_snapshot!("machine", text);
}

#[test]
fn a_machine_without_engine_or_compose_is_told_what_to_install() {
    let world = World::new();
    let mut command = world.command(&["up", world.bundle()]);
    let said = Said::from(&command.env("PATH", world.docker.bare_path()).output().unwrap());
    assert!(
        said.err.contains("neither Docker nor Podman is installed") && said.err.contains("apt-get install docker.io"),
        "{}",
        said.err
    );
    world.docker.set("compose-version", "");
    assert!(world.up(3).err.contains("there is no compose for `docker`"));
}

#[test]
fn the_newest_compose_is_taken_and_the_old_one_will_do() {
    let world = World::new();
    world.docker.set("no-plugin", "");
    world.docker.set("compose-version", "1.29.2\n");
    world.up(0);
    let calls = world.docker.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.starts_with("docker-compose --project-name parish ") && call.ends_with(" up -d --no-deps db"))
    );
}

#[test]
fn a_daemon_that_hangs_is_given_up() {
    let world = World::new();
    world.docker.set("rule", "[ \"$1\" = version ] && sleep 300\n");
    let begun = Instant::now();
    let said = world.up(3);
    assert!(said.err.contains("did not answer within 20 seconds"), "{}", said.err);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_port_that_somebody_holds_is_named_with_another_that_is_free() {
    let world = World::new();
    let held = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    fs::write(world.bundle.folder.join(".env"), format!("PORT={port}\n")).unwrap();
    let said = world.up(3);
    assert!(
        said.err.contains(&format!("the port {port} of 127.0.0.1 is taken")) && said.err.contains("for example `PORT="),
        "{}",
        said.err
    );
    assert!(world.asked().is_empty());
    // The bundle's own container may hold it.
    world.docker.set("containers/web", "healthy\n");
    world.up(0);
}

#[test]
fn a_failed_migration_leaves_the_old_containers_alone() {
    let world = World::running();
    world.bundle.change(|bundle| bundle["version"] = json!("1.5.0"));
    world.docker.set("jobs/update", "echo one; echo 'cannot \\033[31mmigrate' >&2; exit 4\n");
    let text = world.complaint(&["up", world.bundle()], 3);
    insta::assert_snapshot!("failed_migration", text);
    assert!(!world.asked().iter().any(|words| words == "up -d --no-deps web"));
    assert_eq!(world.docker.get("containers/web"), "healthy\n");
    world.docker.unset("jobs/update");
    assert!(!world.up(0).out.contains(PASSWORD));
    assert!(world.asked().iter().any(|words| words == "up -d --no-deps web"));
}

#[test]
fn a_service_that_does_not_come_up_shows_its_last_lines() {
    let world = World::new();
    let up = |seconds: &str| world.complaint(&["up", world.bundle(), "--timeout", seconds], 3);
    world.docker.set("ups/web", "echo exited > \"$S/containers/web\"; exit\n");
    let mut text = format!("# stopped\n{}", up("5"));
    world.docker.set("ups/web", "echo unhealthy > \"$S/containers/web\"; exit\n");
    text += &["# unhealthy\n", &up("1")].concat();
    world.docker.set("ups/web", "echo starting > \"$S/containers/web\"; exit\n");
    text += &["# late\n", &up("1")].concat();
    world.docker.set("ups/web", "echo 'no such network' >&2; exit 1\n");
    text += &["# refused\n", &up("1")].concat();
    insta::assert_snapshot!("services", text);
    assert!(world.run(&["status"], 1).out.contains("days left (until 2099-12-31)"));
    world.docker.unset("ups/web");
    world.docker.unset("containers/web");
    // The password was not told yet.
    assert!(world.up(0).out.contains(PASSWORD));
}

#[test]
fn jobs_that_a_killed_parvis_left_running_are_removed_first() {
    let world = World::new();
    world.docker.set("containers/init_run_1", "running\n");
    world.docker.set("containers/tools_run_1", "running\n");
    world.up(0);
    assert!(!world.docker.has("containers/init_run_1"));
    assert!(world.docker.has("containers/tools_run_1"), "somebody works in it");
}

#[test]
fn killed_at_any_point_up_finishes_the_next_time() {
    let world = World::new();
    world.docker.set("jobs/init", "sleep 0.2; echo done >> \"$S/inits\"\n");
    let line = {
        let command = world.command(&["up", world.bundle()]);
        let mut line = Line::of(&command);
        line.environment.retain(|(name, _)| name != "PWD");
        line
    };
    for milliseconds in [20, 60, 120, 250, 400, 600, 900] {
        line.killed_after(Duration::from_millis(milliseconds));
        let settings = world.bundle.settings();
        assert!(settings.starts_with("# Mine\n") && settings.contains("# The end\n"), "{settings}");
    }
    let said = world.up(0);
    assert!(said.out.contains(PASSWORD) || world.docker.get("calls").contains("/keys/site-admin"), "{}", said.out);
    assert_eq!(world.docker.get("containers/web"), "healthy\n");
    let left: Vec<_> = fs::read_dir(&world.bundle.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 7, "{left:?}");
}

#[test]
fn two_at_once_do_not_get_in_each_others_way() {
    let world = World::new();
    world.docker.set("jobs/selfkeys", "sleep 2\n");
    let mut first = world.command(&["up", world.bundle()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let said = world.up(3);
    assert!(said.err.contains("another `parvis demo` is at work"), "{}", said.err);
    assert!(first.wait().unwrap().success());
}

#[test]
fn services_whose_keys_were_renewed_start_anew() {
    let world = World::running();
    world.docker.set("jobs/selfkeys", "echo 'renewed   certificate db database server (db), which was near its end, until 2099-12-31; its service has to be started again'\n");
    let said = world.up(0);
    assert!(said.err.contains("`db` has new keys"), "{}", said.err);
    assert_eq!(world.asked(), ["run --rm --no-deps -T selfkeys", "restart db"]);
}

#[test]
fn status_tells_states_address_and_days() {
    let world = World::running();
    let said = world.run(&["status"], 0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("service  state    health "), "{}", said.out);
    assert!(lines[1].starts_with("db       running  good    "), "{}", said.out);
    assert!(said.out.contains("https://localhost:18443/") && said.out.contains("days left (until 2099-12-31)"), "{}", said.out);
    let json: Value = serde_json::from_str(&world.run(&["status", "--json"], 0).out).unwrap();
    assert_eq!((&json["well"], &json["services"][1]["health"]), (&json!(true), &json!("healthy")));
    world.docker.set("containers/web", "unhealthy\n");
    assert!(world.run(&["status"], 1).err.contains("not everything is well: web"));
    world.run(&["stop"], 0);
    let said = world.run(&["status", "--lang", "fr"], 1);
    assert!(said.out.contains("arrêté") && said.err.contains("ne tourne pas"), "{}{}", said.out, said.err);
}

#[test]
fn logs_cannot_move_the_cursor() {
    let world = World::running();
    world.docker.set("words", "db-1  | one \u{1b}[2J\ttwo\nweb-1  | three\n");
    let said = world.run(&["logs"], 0);
    assert_eq!(said.out, "db-1  | one \\u{1b}[2J    two\nweb-1  | three\n");
    world.run(&["logs", "db", "-n", "5"], 0);
    assert!(world.docker.get("calls").contains("logs --no-color --tail 5 db"));
    let json: Value = serde_json::from_str(&world.run(&["logs", "--json"], 0).out).unwrap();
    assert_eq!(json["lines"][1], json!({"container": "web-1", "line": "three"}));
    let said = world.run(&["logs", "--privileged"], 2);
    assert!(said.err.contains("--privileged"));
    assert!(world.run(&["logs", "nobody"], 2).err.contains("it has: selfkeys, db"));
}

#[test]
fn stop_and_down_keep_the_data_and_reset_asks_first() {
    let world = World::running();
    world.run(&["stop"], 0);
    assert_eq!(world.docker.get("containers/db"), "exited\n");
    world.run(&["down"], 0);
    assert!(!world.docker.has("containers/db") && world.docker.has("volumes/parish_database"));
    insta::assert_snapshot!("reset", world.complaint(&["reset"], 2));
    assert!(world.docker.has("volumes/parish_database"));
    world.docker.fill("other_database", "precious", "x");
    world.run(&["reset", "--yes"], 0);
    assert!(!world.docker.has("volumes/parish_database") && world.docker.has("volumes/other_database"));
    assert!(world.run(&["password"], 1).err.contains("never started"));
    assert!(world.up(0).out.contains(PASSWORD), "a new password is told again");
}

/// A machine on which the bundle runs and has data, and a backup of them.
fn saved() -> (World, PathBuf) {
    let world = World::running();
    world.docker.set("tools/dump", "cat \"$S/rows\"\n");
    world.docker.set("tools/bring-back", "cat > \"$S/rows\"; echo \"$@\" > \"$S/brought\"\n");
    world.docker.set("rows", "one\ntwo\n");
    world.docker.fill("parish_keys-db", "db-admin", "secret");
    let path = world.path("saved.tar");
    let said = world.run(&["backup", "saved.tar"], 0);
    assert!(said.out.contains("keep it where only you can read it"), "{}", said.out);
    (world, path)
}

#[test]
fn a_backup_comes_back_with_its_keys() {
    let (world, path) = saved();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed, "database.sql\nvolume-authorities.tar\nvolume-keys-db.tar\nbackup.json\n");
    assert!(world.run(&["backup", "saved.tar"], 2).err.contains("exists already"));
    world.run(&["backup", "saved.tar", "--yes"], 0);

    world.run(&["reset", "--yes"], 0);
    world.docker.set("rows", "");
    world.docker.calls();
    let said = world.run(&["restore", "saved.tar"], 0);
    assert!(said.out.contains("restored from `saved.tar`") && !said.out.contains(PASSWORD), "{}", said.out);
    assert_eq!(world.docker.get("rows"), "one\ntwo\n");
    assert_eq!(world.docker.get("brought"), "--all\n");
    assert_eq!(world.docker.get("volumes/parish_keys-db/db-admin"), "secret");
    // Keys first, then the database is made, filled, and brought to the bundle's version.
    let order: Vec<String> =
        world.asked().into_iter().filter(|words| words.starts_with("run") || words.starts_with("up")).collect();
    assert_eq!(
        order,
        [
            "run --rm --no-deps -T selfkeys",
            "up -d --no-deps db",
            "run --rm --no-deps -T init",
            "run --rm --no-deps -T --entrypoint bring-back tools --all",
            "run --rm --no-deps -T update",
            "up -d --no-deps web",
        ]
    );
    assert!(world.up(0).out.contains("nothing was changed"));
}

#[test]
fn a_backup_is_tried_out_beside_the_site() {
    let (world, _) = saved();
    world.docker.set("tools/dump", "cat \"$S/rows.$project\"\n");
    world.docker.set("tools/bring-back", "cat > \"$S/rows.$project\"\n");
    world.docker.set("rows.parish", "one\n");
    world.docker.calls();
    let said = world.run(&["backup", "tried.tar", "--verify"], 0);
    assert!(said.out.contains("compared: it is what was saved"), "{}", said.out);
    assert_eq!(world.docker.get("rows.parish-verify"), "one\n");
    let calls = world.docker.calls();
    let beside: Vec<&str> = calls
        .iter()
        .filter(|call| call.contains(" parish-verify "))
        .filter_map(|call| call.split_once("/.env "))
        .map(|(_, words)| words)
        .collect();
    assert_eq!(
        beside,
        [
            "down --remove-orphans",
            "run --rm --no-deps -T selfkeys",
            "up -d --no-deps db",
            "run --rm --no-deps -T init",
            "run --rm --no-deps -T --entrypoint bring-back tools --all",
            "run --rm --no-deps -T --entrypoint dump tools",
            "down --remove-orphans",
        ]
    );
    let nothing_left = || {
        assert!(!world.docker.has("volumes/parish-verify_database") && !world.docker.has("containers/db@parish-verify"));
        assert_eq!((world.docker.get("containers/web"), world.docker.get("rows.parish")), ("healthy\n".into(), "one\n".into()));
        assert!(world.run(&["up"], 0).out.contains("nothing was changed"));
    };
    nothing_left();
    world.docker.set("tools/bring-back", "tr a-z A-Z > \"$S/rows.$project\"\n");
    let said = world.run(&["backup", "tried.tar", "--yes", "--verify"], 1);
    assert!(said.err.contains("what comes back from `tried.tar` is not what was saved"), "{}", said.err);
    nothing_left();
    world.docker.set("tools/bring-back", "echo 'no such table' >&2; return 1\n");
    assert!(world.run(&["backup", "tried.tar", "--yes", "--verify"], 3).err.contains("no such table"));
    nothing_left();
}

#[test]
fn an_encrypted_backup_opens_with_its_passphrase_only() {
    let (world, plain) = saved();
    fs::write(world.path("right"), "correct horse\n").unwrap();
    fs::write(world.path("wrong"), "correct house\n").unwrap();
    world.docker.set("rows.parish", "one\n");
    let said = world.run(&["backup", "closed.age", "--encrypt", "--passphrase-file", "right", "--json"], 0);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    let bytes = fs::read(world.path("closed.age")).unwrap();
    assert_eq!((told["encrypted"].as_bool(), told["size"].as_u64()), (Some(true), Some(bytes.len() as u64)));
    assert_eq!(fs::metadata(world.path("closed.age")).unwrap().permissions().mode() & 0o777, 0o600);
    let shows =
        |bytes: &[u8]| ["secret", "backup.json", "two"].map(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes()));
    assert_eq!((shows(&fs::read(&plain).unwrap()), shows(&bytes)), ([true; 3], [false; 3]));

    insta::assert_snapshot!("closed", world.complaint(&["restore", "closed.age", "--yes"], 2));
    insta::assert_snapshot!(
        "wrong_passphrase",
        world.complaint(&["restore", "closed.age", "--yes", "--passphrase-file", "wrong"], 2)
    );
    // Nobody puts a file of his own in the place of one that he could not have written.
    insta::assert_snapshot!(
        "not_encrypted",
        world.complaint(&["restore", "saved.tar", "--yes", "--passphrase-file", "right"], 2)
    );
    assert_eq!(world.docker.get("rows"), "one\ntwo\n");

    world.run(&["reset", "--yes"], 0);
    world.docker.set("rows", "");
    world.run(&["restore", "closed.age", "--passphrase-file", "right"], 0);
    assert_eq!(world.docker.get("rows"), "one\ntwo\n");
    assert_eq!(world.docker.get("volumes/parish_keys-db/db-admin"), "secret");
}

#[test]
fn age_opens_a_backup_and_one_that_age_wrote_comes_back() {
    let (world, plain) = saved();
    let age = |arguments: &[&str]| Command::new("age").args(arguments).current_dir(world.docker.home()).output();
    if age(&["--version"]).is_err() {
        eprintln!("skipped: age was not asked: this machine has none");
        return;
    }
    let made = Command::new("age-keygen").args(["-o", "key"]).current_dir(world.docker.home()).output().unwrap();
    assert!(made.status.success());
    let key = fs::read_to_string(world.path("key")).unwrap();
    let public = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();

    insta::assert_snapshot!("no_identity", world.complaint(&["backup", "ours.age", "--encrypt-to", public, "--verify"], 2));
    assert!(!world.path("ours.age").exists());
    world.run(&["backup", "ours.age", "--encrypt-to", public], 0);
    let opened = age(&["-d", "-i", "key", "-o", "opened.tar", "ours.age"]).unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let listed = |file: &str| Command::new("tar").args(["-tf", file]).current_dir(world.docker.home()).output().unwrap().stdout;
    assert_eq!(listed("opened.tar"), listed("saved.tar"));

    let closed = age(&["-r", public, "-o", "theirs.age", "saved.tar"]).unwrap();
    assert!(closed.status.success());
    fs::remove_file(plain).unwrap();
    world.run(&["reset", "--yes"], 0);
    world.docker.set("rows", "");
    world.run(&["restore", "theirs.age", "--identity", "key"], 0);
    assert_eq!(world.docker.get("rows"), "one\ntwo\n");
}

#[test]
fn a_backup_is_whole_or_not_there() {
    let (world, path) = saved();
    fs::remove_file(&path).unwrap();
    let leftovers = || -> Vec<String> {
        let names = fs::read_dir(world.docker.home()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("saved") || name.starts_with(".parvis")).collect()
    };
    world.docker.set("tools/dump", "cat \"$S/rows\"; echo 'lost connection' >&2; return 2\n");
    assert!(world.run(&["backup", "saved.tar"], 3).err.contains("lost connection"));
    world.docker.set("tools/dump", "true\n");
    assert!(world.run(&["backup", "saved.tar"], 3).err.contains("nothing to save as `database.sql`"));
    assert!(leftovers().is_empty(), "{:?}", leftovers());
    // Killed at any point.
    world.docker.set("tools/dump", "for i in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/zero; sleep 0.05; done\n");
    let line = Line::of(&world.command(&["backup", path.to_str().unwrap(), "--bundle", world.bundle()]));
    for call in ["write", "pwrite64", "ftruncate", "fsync", "linkat", "rename"] {
        for nth in [1, 2, 3] {
            line.with_accident(call, "signal=KILL", nth);
            let file = world.path("saved.tar");
            if file.exists() {
                // The accident came after the end, or never.
                assert_eq!(
                    world.run(&["restore", "saved.tar"], 2).err.lines().next(),
                    Some("error: there are data already, which the backup would replace")
                );
                fs::remove_file(file).unwrap();
            }
        }
    }
    world.docker.set("tools/dump", "head -c 300000 /dev/zero; sleep 3; echo end\n");
    for milliseconds in [100, 300, 500] {
        line.killed_after(Duration::from_millis(milliseconds));
        assert!(!path.exists());
    }
    assert!(leftovers().is_empty(), "{:?}", leftovers());
    world.run(&["backup", "saved.tar"], 0);
}

#[test]
fn a_backup_that_is_not_as_it_was_made_changes_nothing() {
    let (world, path) = saved();
    world.docker.calls();
    insta::assert_snapshot!("data_there", world.complaint(&["restore", "saved.tar"], 2));
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[512] ^= 1;
    let mut cases: Vec<(&str, Vec<u8>)> =
        vec![("flipped", flipped), ("cut", good[..good.len() / 2].to_vec()), ("text", b"hello".to_vec()), ("empty", Vec::new())];
    cases.extend(rawtar::hostile("/parvis-outside"));
    // A hostile archive behind a good one, and one that is listed as a volume.
    for (name, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let said = world.run(&["restore", "saved.tar", "--yes"], 2);
        assert!(said.err.contains("the backup `saved.tar` is refused; nothing was changed"), "{name}: {}", said.err);
        assert!(!said.err.contains('\u{1b}'));
    }
    let calls = world.docker.calls();
    assert!(calls.iter().all(|call| !call.contains("volume rm") && !call.contains(" down")), "{calls:?}");
    assert_eq!(world.docker.get("rows"), "one\ntwo\n");
    fs::write(&path, &good).unwrap();
    world.bundle.change(|bundle| bundle["name"] = json!("other"));
    assert!(world.run(&["restore", "saved.tar", "--yes"], 2).err.contains("is of `parish`, and this bundle is `other`"));
}

#[test]
fn a_restore_that_was_interrupted_is_not_started_upon() {
    let (world, _) = saved();
    world.docker.set("tools/bring-back", "echo 'disk gone' >&2; return 1\n");
    let said = world.run(&["restore", "saved.tar", "--yes"], 3);
    assert!(said.err.contains("disk gone"), "{}", said.err);
    insta::assert_snapshot!("half_restored", world.complaint(&["up"], 2));
    world.docker.set("tools/bring-back", "cat > \"$S/rows\"\n");
    world.run(&["restore", "saved.tar", "--yes"], 0);
    world.up(0);
}

#[test]
fn a_bundle_in_a_tar_is_unpacked_beside_it() {
    let world = World::new();
    let tar = world.path("parish.tar");
    let pack = |names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-cf").arg(&tar).arg("-C").arg(world.docker.home()).args(names);
        assert!(command.status().unwrap().success());
    };
    pack(&["parish-1.4.0"]);
    world.run(&["up", "parish.tar"], 0);
    assert!(world.path("parish/bundle.json").is_file() && world.path("parish/.parvis-demo.json").is_file());
    assert!(world.run(&["up", "parish.tar"], 0).out.contains("nothing was changed"));
    world.bundle.change(|bundle| bundle["version"] = json!("2"));
    pack(&["parish-1.4.0"]);
    assert!(world.run(&["up", "parish.tar"], 2).err.contains("is another bundle"));
    fs::remove_dir_all(world.path("parish")).unwrap();
    fs::write(world.bundle.folder.join("evil.sh"), "").unwrap();
    pack(&["parish-1.4.0"]);
    assert!(world.run(&["up", "parish.tar"], 2).err.contains("evil.sh`, which is not of the bundle"));
    for (name, bytes) in rawtar::hostile("/parvis-outside") {
        fs::write(&tar, bytes).unwrap();
        let output = world.command(&["up", "parish.tar"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    assert!(!world.path("parish").exists());
}

#[test]
fn a_service_that_the_bundle_has_no_more_is_stopped_and_removed_at_the_end() {
    let world = World::running();
    for (name, state) in [("mail", "healthy"), ("tools_run_1", "running"), ("mail_run_1", "running")] {
        world.docker.set(&format!("containers/{name}"), &format!("{state}\n"));
    }
    world.docker.set("jobs/selfkeys", "return 1\n");
    world.up(3);
    assert!(world.docker.has("containers/mail"), "where a step fails, what ran before runs on");
    world.docker.set("jobs/selfkeys", "");
    let said = world.up(0);
    assert!(said.err.contains("`mail` is not in the bundle any more and was removed; its data stay"), "{}", said.err);
    let calls = world.docker.calls();
    assert!(calls.iter().any(|call| call == "docker stop -- mail"), "{calls:?}");
    assert!(!world.docker.has("containers/mail"));
    // What somebody does by hand is no service.
    assert!(world.docker.has("containers/tools_run_1") && world.docker.has("containers/mail_run_1"));
    assert!(!world.up(0).err.contains("`mail`"));
}

#[test]
fn up_in_a_project_says_that_it_builds_and_builds() {
    let docker = FakeDocker::new();
    let (_archive, project, folder) = project();
    project.run(&["lock"], 0);
    let up = |code: i32| {
        let output = project.parvis(&["demo", "up"]).env("PATH", docker.path()).stdin(Stdio::null()).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "{}{}", said.out, said.err);
        said
    };
    // This docker loads another image than it is given.
    let said = up(1);
    assert!(said.err.contains("some images are not built") && said.err.contains("building them first"), "{}", said.err);
    assert!(said.err.contains("is not the one that the bundle names"), "{}", said.err);
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("bundle.json")).unwrap()).unwrap();
    docker.set("images", &format!("{}\n", manifest["images"][0]["config"].as_str().unwrap()));
    let said = up(0);
    assert!(!said.err.contains("not built"), "{}", said.err);
}

#[test]
fn the_bundle_of_the_project_one_stands_in_comes_before_the_one_that_was_started_last() {
    let world = World::running();
    let (_archive, project, folder) = project();
    let status = || {
        let state = world.docker.home().join(".local/state");
        let mut command = project.parvis(&["demo", "status", "--json"]);
        let command = command.env("PATH", world.docker.path()).env("XDG_STATE_HOME", state).stdin(Stdio::null());
        Said::from(&command.output().unwrap())
    };
    let bundle = |said: &Said| serde_json::from_str::<Value>(&said.out).unwrap()["bundle"].clone();
    // One that is not there yet cannot be meant.
    assert_eq!(bundle(&status()), "parish");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    project.run(&["bundle", "compose"], 0);
    assert!(folder.join("bundle.json").is_file());
    assert_eq!(bundle(&status()), "site");
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_dir_all(&world.bundle.folder).unwrap();
    let said = status();
    assert!(said.err.contains("the bundle that was started last is not in `"), "{}", said.err);
    assert!(said.err.contains("hint: say where it is now with `--bundle FOLDER`"), "{}", said.err);
}
