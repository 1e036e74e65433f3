//! A Docker of a test's own, with what runs in it: no other daemon, network or volume of the machine is touched.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parvis::model::digest::FileDigest;

use super::checkout::{Checkout, said};

/// A daemon with its own data, socket and network.
pub struct Docker {
    daemon: Child,
    folder: PathBuf,
}

impl Docker {
    /// Starts a daemon. `None` where the machine has none or this is not root; one that does not start is a failure.
    pub fn start(folder: &Path) -> Option<Self> {
        let is_there =
            |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !rustix::process::geteuid().is_root() || !is_there("dockerd") || !is_there("docker") {
            return None;
        }
        fs::create_dir_all(folder.join("bin")).unwrap();
        let inside = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let log = fs::File::create(folder.join("log")).unwrap();
        let daemon = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"])
            .args(["dockerd", "--ip-masq=false", "--host", &format!("unix://{}", inside("socket"))])
            .args(["--data-root", &inside("data"), "--exec-root", &inside("exec"), "--pidfile", &inside("pid")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self { daemon, folder: folder.to_owned() };
        let start = Instant::now();
        while !docker.command(&["version"]).output().unwrap().status.success() {
            let log = || fs::read_to_string(folder.join("log")).unwrap();
            let ended = docker.daemon.try_wait().unwrap().is_some();
            assert!(!ended && start.elapsed() < Duration::from_secs(60), "dockerd does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(docker)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.address()]).args(arguments);
        command
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        said(&self.command(arguments).output().unwrap(), &format!("docker {}", arguments.join(" ")))
    }

    /// Returns a program of this machine in the daemon's network, where its ports are.
    pub fn beside(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network())).arg(program).args(arguments);
        // What `parvis demo` remembers of this machine is not for tests to change; programs of the test's own come first.
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap());
        command.env("DOCKER_HOST", self.address()).env("XDG_STATE_HOME", self.folder.join("state")).env("PATH", path);
        command.stdin(Stdio::null());
        command
    }

    /// Returns the file that stands for the daemon's network.
    pub fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.daemon.id())
    }

    pub fn shell(&self, program: &str, arguments: &[&str]) -> String {
        said(&self.beside(program, arguments).output().unwrap(), &format!("{program} {}", arguments.join(" ")))
    }

    /// Has everybody on this machine find another program under this name.
    pub fn install(&self, name: &str, program: &[u8]) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn parvis(&self, place: &Checkout, arguments: &[&str]) -> String {
        said(&self.parvis_command(place, arguments).output().unwrap(), &format!("parvis {}", arguments.join(" ")))
    }

    pub fn parvis_command(&self, place: &Checkout, arguments: &[&str]) -> Command {
        let (project, store) = (place.path(""), place.path("store"));
        let everywhere = ["--project", project.to_str().unwrap(), "--store", store.to_str().unwrap(), "--lang", "en"];
        self.beside(env!("CARGO_BIN_EXE_parvis"), &[&everywhere[..], arguments].concat())
    }

    /// Returns compose at work on a bundle's folder, as somebody without parvis calls it.
    pub fn compose(&self, bundle: &Path, arguments: &[&str]) -> Command {
        let plugin = self.beside("docker", &["compose", "version"]).output().unwrap().status.success();
        let (program, first) = if plugin { ("docker", &["compose"][..]) } else { ("docker-compose", &[][..]) };
        let mut command = self.beside(program, &[first, arguments].concat());
        command.current_dir(bundle);
        command
    }

    /// Returns the containers of a service, also those of jobs.
    pub fn containers(&self, service: &str) -> Vec<String> {
        let filter = format!("label=com.docker.compose.service={service}");
        self.run(&["ps", "--filter", &filter, "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// Returns the name of a service's container, whichever compose named it.
    pub fn container(&self, service: &str) -> String {
        self.containers(service).into_iter().next().unwrap_or_else(|| panic!("`{service}` does not run"))
    }

    /// Runs a program in a service's container.
    pub fn inside(&self, service: &str, command: &[&str]) -> String {
        self.run(&[&["exec", &self.container(service)], command].concat())
    }

    /// Returns what a container wrote, to either stream.
    pub fn everything_said(&self, container: &str) -> String {
        let output = self.command(&["logs", container]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Returns a folder for what a program leaves behind.
    pub fn home(&self) -> PathBuf {
        let home = self.folder.join("home");
        fs::create_dir_all(&home).unwrap();
        home
    }

    /// Returns the folder in which the daemon keeps everything, images, logs and volumes among them.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns the folder of a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.data().join("volumes").join(name).join("_data")
    }

    /// Returns the digest of a volume with the names, owners, modes, dates and contents of everything in it.
    pub fn volume_digest(&self, name: &str) -> FileDigest {
        let output = Command::new("tar")
            // With dates to the second.
            .args(["--sort=name", "--numeric-owner", "--format=gnu"])
            // Dated anew by each run of the job that makes keys.
            .args(["--exclude=./.lock", "--create", "--directory"])
            .arg(self.volume(name))
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000, "{name}: {}", String::from_utf8_lossy(&output.stderr));
        FileDigest::of(&output.stdout)
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

/// A machine outside, joined with the daemon's network by one link, on which somebody listens.
pub struct Outside {
    machine: Child,
}

impl Outside {
    /// Where it listens, at port 80: an address that is nobody's (RFC 5737).
    pub const ADDRESS: &str = "203.0.113.2";

    pub fn beside(docker: &Docker) -> Self {
        let listen = "import socket; own = socket.create_server(('203.0.113.2', 80)); print('listens', flush=True)\nwhile True: own.accept()";
        let script = "echo made; read joined; ip link set lo up; ip address add 203.0.113.2/30 dev world; ip link set world up; \
            ip route add default via 203.0.113.1; exec python3 -c \"$1\"";
        let mut machine = Command::new("unshare")
            .args(["--net", "sh", "-c", script, "sh", listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Before this line its network is still this machine's.
        let mut lines = BufReader::new(machine.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "made");
        let process = machine.id().to_string();
        docker.shell("ip", &["link", "add", "towards", "type", "veth", "peer", "name", "world", "netns", &process]);
        docker.shell("ip", &["address", "add", "203.0.113.1/30", "dev", "towards"]);
        docker.shell("ip", &["link", "set", "towards", "up"]);
        machine.stdin.take().unwrap().write_all(b"joined\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "listens");
        Self { machine }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}
