//! The images of this repository from the real archive: locked, built, tried, and run by a real Docker.
//!
//! Takes the mirror from the host's apt sources. Docker's part needs root, `dockerd` and `docker`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// This repository's project in a folder of its own, with a store of its own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("real-").tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["parvis.yaml", "parvis.lock", "recipes", "images", "keys"].map(|name| here.join(name));
        assert!(Command::new("cp").arg("-r").args(sources).arg(folder.path()).status().unwrap().success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn parvis(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_parvis"))
            .args(["--project", self.folder.path().to_str().unwrap(), "--store", self.path("store").to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs parvis, which must succeed; returns what it printed.
    fn run(&self, arguments: &[&str]) -> String {
        said(&self.parvis(arguments), &format!("parvis {}", arguments.join(" ")))
    }
}

fn said(output: &Output, what: &str) -> String {
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
            .args(["--net", "dockerd", "--iptables=false", "--ip-masq=false", "--host", &socket])
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
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Gently: the daemon ends its containerd and its mounts.
        let process = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}
