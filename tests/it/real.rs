//! The images of this repository from the real archive: locked, built, tried, and run by a real Docker.
//!
//! Takes the mirror from the host's apt sources. Docker's part needs root, `dockerd` and `docker`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use parvis::model::digest::FileDigest;
use tempfile::TempDir;

use crate::judges;

/// This repository's project in a folder of its own, with a store of its own.
pub struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("real-").tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["parvis.yaml", "parvis.lock", "recipes", "images", "compose", "keys"].map(|name| here.join(name));
        assert!(Command::new("cp").arg("-r").args(sources).arg(folder.path()).status().unwrap().success());
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn parvis(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_parvis"))
            .args(["--project", self.folder.path().to_str().unwrap(), "--store", self.path("store").to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs parvis, which must succeed; returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        said(&self.parvis(arguments), &format!("parvis {}", arguments.join(" ")))
    }
}

pub fn said(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_images_of_this_repository_are_built_and_keep_their_promises() {
    let place = Place::new();
    place.run(&["lock", "--update"]);
    place.run(&["lock", "--check"]);
    let table = place.run(&["build"]);
    assert!(table.contains("12 images built"), "{table}");
    let again = place.run(&["build"]);
    assert!(again.contains("nothing changed"), "{again}");
    let tests = place.run(&["test"]);
    assert!(tests.contains(" passed, 0 failed"), "{tests}");

    // The package database is one that dpkg itself finds valid.
    for image in ["base", "httpd"] {
        let root = |command: &[&str]| place.run(&[&["run", image, "--user", "root", "--"], command].concat());
        assert_eq!(root(&["dpkg", "--audit"]), "");
        // What the recipe removes or replaces is all that may differ.
        let differing = root(&["sh", "-c", "dpkg --verify || true"]);
        let declared = ["/etc/apache2/", "/var/www/html/", "/etc/timezone", "/etc/php/"];
        for line in differing.lines() {
            assert!(declared.iter().any(|path| line.contains(path)), "{image}: {line}");
        }
        let states = root(&["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n"]);
        assert!(states.lines().count() > 60 && states.lines().all(|state| state == "ii "), "{states}");
    }

    judges::lists_are_valid(&place);
    judges::apt_would_install_more(&place);
    judges::a_command_may_say_much(&place);
    place.run(&["save", "php", "httpd", "--output", place.path("images.tar").to_str().unwrap()]);
    with_docker(&place);
}

/// Hands the archive to a Docker of this test's own, if there is one to be had.
fn with_docker(place: &Place) {
    let Some(docker) = Docker::start(place) else {
        eprintln!("skipped: Docker was not tried: this needs root, dockerd and docker");
        return;
    };
    docker.run(&["load", "--input", place.path("images.tar").to_str().unwrap()]);
    let php = docker.run(&["run", "--rm", "--network", "none", "civiparoisse/php:dev", "php", "-v"]);
    assert!(php.starts_with("PHP 8.4"), "{php}");
    let arguments = ["run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--entrypoint", "apachectl"];
    docker.run(&[&arguments[..], &["civiparoisse/httpd:dev", "configtest"]].concat());
    the_site_is_started_guarded_saved_and_restored(place, &docker);
}

/// The whole stack of this repository, as a volunteer has it: `parvis demo up`, and what it promises.
fn the_site_is_started_guarded_saved_and_restored(place: &Place, docker: &Docker) {
    let demo = |arguments: &[&str]| docker.parvis(place, &[&["demo"], arguments].concat());
    let up: serde_json::Value = serde_json::from_str(&demo(&["up", "--json"])).unwrap();
    let password = up["password"].as_str().unwrap().to_owned();
    let ask = |arguments: &[&str]| docker.shell("curl", &[&["--silent", "--insecure", "--max-time", "30"], arguments].concat());
    let status = |credentials: &str| {
        ask(&["--user", credentials, "--output", "/dev/null", "--write-out", "%{http_code}", "https://localhost:8443/"])
    };
    let good = format!("admin:{password}");
    assert_eq!(ask(&["--output", "/dev/null", "--write-out", "%{http_code}", "https://localhost:8443/"]), "401");
    assert_eq!(status("admin:wrong-password"), "401");
    assert_eq!(status(&good), "200");
    let page = |path: &str| ask(&["--user", &good, &format!("https://localhost:8443{path}")]);
    assert!(page("/").contains("Paroisse de démonstration"), "{}", page("/"));
    // A person is added as a browser does it, with the token of the form.
    let form = page("/people/new");
    let token = form.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap();
    let (token, person) = (format!("token={token}"), ["first_name=Éléonore", "last_name=d’Aquitaine", "born_on=1924-02-29"]);
    let fields: Vec<&str> = [&*token].into_iter().chain(person).flat_map(|field| ["--data-urlencode", field]).collect();
    ask(&[&["--user", &good], &fields[..], &["https://localhost:8443/people/new"]].concat());
    assert!(page("/people?q=eleonore").contains("d’Aquitaine"));

    guarded(docker);
    let container = |service: &str| docker.container(service);
    let inside = |service: &str, command: &[&str]| docker.run(&[&["exec", &container(service)], command].concat());
    assert_eq!(inside("cron", &["php", "/app/bin/annuaire", "user", "list"]).trim(), "admin  administrator");
    assert!(docker.everything_said(&container("cron")).contains("birthdays from "));

    // No secret is anywhere but in the volumes of those who need it.
    let secrets = [inside("db", &["cat", "/keys/db-admin"]), inside("cron", &["cat", "/keys/db-app"]), password.clone()];
    assert!(secrets.iter().all(|secret| secret.len() > 15), "{secrets:?}");
    let mut seen = docker.run(&["image", "inspect", "civiparoisse/httpd:dev", "civiparoisse/db:dev"]);
    for name in docker.run(&["ps", "--all", "--format", "{{.Names}}"]).lines() {
        seen += &docker.run(&["inspect", name]);
        seen += &docker.everything_said(name);
    }
    let archive = fs::read(place.path("images.tar")).unwrap();
    for secret in &secrets {
        assert!(!seen.contains(secret.trim()), "a secret is in what Docker shows");
        assert!(!archive.windows(secret.len()).any(|window| window == secret.as_bytes()), "a secret is in an image");
    }

    // Nothing changes the second time; what was saved comes back after everything was removed, with the same password.
    let again: serde_json::Value = serde_json::from_str(&demo(&["up", "--json"])).unwrap();
    assert!(again["password"].is_null() && again["changed"] == serde_json::json!(false), "{again}");
    let backup = place.path("backup.tar");
    let backup = backup.to_str().unwrap();
    demo(&["backup", backup]);
    demo(&["reset", "--yes"]);
    assert_eq!(docker.run(&["volume", "ls", "--quiet"]), "");
    demo(&["restore", backup]);
    assert_eq!(status(&good), "200");
    assert!(page("/people?q=eleonore").contains("d’Aquitaine"));
    another_version_takes_its_place_or_nothing_has_happened(place, docker, &good);
    demo(&["down"]);
    assert_eq!(docker.run(&["ps", "--all", "--quiet"]), "");
}

/// A second version with a migration: first one that fails half-way, then one that does not.
fn another_version_takes_its_place_or_nothing_has_happened(place: &Place, docker: &Docker, good: &str) {
    let application = place.path("images/composer_files/annuaire");
    let pages = application.join("src/Pages.php");
    fs::write(&pages, fs::read_to_string(&pages).unwrap().replace("'/' => 'Accueil'", "'/' => 'Accueil nouveau'")).unwrap();
    let bundle = |name: &str, migration: &str| {
        fs::write(application.join("migrations/0003-note.sql"), migration).unwrap();
        place.run(&["build"]);
        let folder = place.path(name);
        place.run(&["bundle", "compose", "--with-images", "--tag", "1.5.0", "--output", folder.to_str().unwrap()]);
        folder
    };
    let page =
        || docker.shell("curl", &["--silent", "--insecure", "--max-time", "30", "--user", good, "https://localhost:8443/"]);
    let rows = || {
        let script = "$options = [PDO::MYSQL_ATTR_SSL_CA => '/keys/database-ca.crt']; \
            $db = new PDO('mysql:host=db;dbname=annuaire', 'annuaire', file_get_contents('/keys/db-app'), $options); \
            foreach (['SELECT id, household, first_name, last_name, born_on, phone, mail FROM people ORDER BY id', \
                'SELECT * FROM users ORDER BY login', 'SELECT * FROM settings ORDER BY name'] as $query) { \
                echo json_encode($db->query($query)->fetchAll(PDO::FETCH_NUM)); }";
        let rows = docker.run(&["exec", &docker.container("cron"), "php", "-r", script]);
        assert!(rows.contains("Aquitaine") && rows.contains("administrator"), "{rows}");
        FileDigest::of(rows.as_bytes())
    };
    let before = rows();
    let change = "ALTER TABLE people ADD COLUMN note VARCHAR(200) NOT NULL DEFAULT '';\n";
    let broken =
        bundle("broken", &format!("{change}UPDATE people SET last_name = 'gone';\nALTER TABLE nobody ADD COLUMN x INT;\n"));
    let output = docker.parvis_output(place, &["demo", "upgrade", "--unverified", broken.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the upgrade to `1.5.0` failed; `dev` runs again, with its data"), "{said}");
    assert_eq!(rows(), before);
    assert!(!page().contains("Accueil nouveau"));
    fs::remove_dir_all(broken).unwrap();

    let new = bundle("new", change);
    let said = docker.parvis(place, &["demo", "upgrade", "--unverified", new.to_str().unwrap(), "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["version"], &said["previous"]["moved"]), (&serde_json::json!("1.5.0"), &serde_json::json!(true)));
    assert_eq!(rows(), before);
    assert!(page().contains("Accueil nouveau"));
}

/// Holds each running container, and each link between two, against what the stack says of it.
fn guarded(docker: &Docker) {
    for (service, user) in [("db", "990"), ("httpd", "33"), ("proxy", "33"), ("cron", "33")] {
        let container = docker.container(service);
        let process = docker.run(&["inspect", "--format", "{{.State.Pid}}", &container]);
        let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.trim())).unwrap();
        let status = of_process("status");
        for expected in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", &format!("Uid:\t{user}\t")] {
            assert!(status.contains(expected), "{service}: {expected}\n{status}");
        }
        let written = docker.command(&["exec", "--user", "0", &container, "sh", "-c", "echo x > /etc/x"]).output().unwrap();
        assert!(String::from_utf8_lossy(&written.stderr).contains("Read-only file system"), "{service}: {written:?}");
        let ports = docker.run(&["port", &container]);
        let expected = if service == "proxy" { "443/tcp -> 127.0.0.1:8443\n" } else { "" };
        assert_eq!(ports, expected, "{service}");
    }
    for network in ["civiparoisse_db", "civiparoisse_httpd"] {
        assert_eq!(docker.run(&["network", "inspect", "--format", "{{.Internal}}", network]), "true\n", "{network}");
    }
    // The proxy's address in the one network that leads out: others do not get there, while the proxy itself does.
    let format = "{{(index .NetworkSettings.Networks \"civiparoisse_outside\").IPAddress}}";
    let address = docker.run(&["inspect", "--format", format, &docker.container("proxy")]);
    let connect = format!("exec 3<>/dev/tcp/{}/443", address.trim());
    for service in ["db", "httpd", "proxy", "cron"] {
        let command = ["exec", &docker.container(service), "timeout", "3", "bash", "-c", &connect];
        assert_eq!(docker.command(&command).output().unwrap().status.success(), service == "proxy", "{service}: a way out");
    }
    let refused = |service: &str, command: &[&str], expected: &str| {
        let output = docker.command(&[&["exec", &docker.container(service)], command].concat()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(expected), "{service}: {command:?}: {said}");
    };
    // Whoever has no certificate of the inner authority is refused within TLS.
    let direct = ["curl", "--silent", "--show-error", "--cacert", "/keys/inside-ca.crt", "https://httpd:444/health"];
    refused("proxy", &direct, "certificate required");
    let connect = |options: &str| {
        format!(
            "try {{ new PDO('mysql:host=db', 'annuaire', file_get_contents('/keys/db-app'), {options}); }} catch (PDOException $e) {{ fwrite(STDERR, $e->getMessage()); exit(1); }}"
        )
    };
    refused("cron", &["php", "-r", &connect("[]")], "insecure transport");
    let other =
        "[PDO::MYSQL_ATTR_SSL_CA => '/etc/ssl/certs/ca-certificates.crt', PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true]";
    refused("cron", &["php", "-d", "display_errors=stderr", "-r", &connect(other)], "Cannot connect to MySQL using SSL");
    let ours = "[PDO::MYSQL_ATTR_SSL_CA => '/keys/database-ca.crt', PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true]";
    docker.run(&["exec", &docker.container("cron"), "php", "-r", &connect(ours)]);
}

/// A daemon with its own data, socket and network, so that it touches no other.
struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn start(place: &Place) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let data = place.path("docker");
        fs::create_dir(&data).unwrap();
        let folder = |name: &str| data.join(name).to_str().unwrap().to_owned();
        let socket = format!("unix://{}", folder("socket"));
        let log = fs::File::create(data.join("log")).unwrap();
        let daemon = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"])
            .args(["dockerd", "--ip-masq=false", "--host", &socket])
            .args(["--data-root", &folder("data"), "--exec-root", &folder("exec"), "--pidfile", &folder("pid")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .ok()?;
        let docker = Self { daemon, socket };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if docker.command(&["version"]).output().ok()?.status.success() {
                return Some(docker);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        None
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        said(&self.command(arguments).output().unwrap(), &format!("docker {}", arguments.join(" ")))
    }

    /// Runs a program of this machine in the daemon's network, where its ports are.
    fn shell(&self, program: &str, arguments: &[&str]) -> String {
        said(&self.shell_output(program, arguments), &format!("{program} {}", arguments.join(" ")))
    }

    fn shell_output(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.daemon.id())).arg(program).args(arguments);
        // What `parvis demo` remembers of this machine is not for tests to change.
        let state = self.socket.trim_start_matches("unix://").replace("/socket", "/state");
        command.env("DOCKER_HOST", &self.socket).env("XDG_STATE_HOME", state).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn parvis(&self, place: &Place, arguments: &[&str]) -> String {
        said(&self.parvis_output(place, arguments), &format!("parvis {}", arguments.join(" ")))
    }

    fn parvis_output(&self, place: &Place, arguments: &[&str]) -> Output {
        let store = place.path("store");
        let everywhere = ["--project", place.folder.path().to_str().unwrap(), "--store", store.to_str().unwrap(), "--lang", "en"];
        self.shell_output(env!("CARGO_BIN_EXE_parvis"), &[&everywhere[..], arguments].concat())
    }

    /// Returns the name of a service's container, whichever compose named it.
    fn container(&self, service: &str) -> String {
        let filter = format!("label=com.docker.compose.service={service}");
        self.run(&["ps", "--filter", &filter, "--format", "{{.Names}}"]).trim().to_owned()
    }

    /// Returns what a container wrote, to either stream.
    fn everything_said(&self, container: &str) -> String {
        let output = self.command(&["logs", container]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Gently: the daemon ends its containerd and its mounts.
        let process = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}
