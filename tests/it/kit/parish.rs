//! A machine with a docker that is a script, on which a parish's bundle is started.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::fakebundle::FakeBundle;
use super::fakedocker::FakeDocker;
use super::project::{Said, parvis};
use super::schema::assert_fits;

/// The password of the first log-in, which nothing but two commands may print.
pub const PASSWORD: &str = "cheval-agrafe-exact";

/// A machine with a docker and a downloaded bundle.
pub struct World {
    pub docker: FakeDocker,
    pub bundle: FakeBundle,
}

impl World {
    pub fn new() -> Self {
        let docker = FakeDocker::new();
        let bundle = FakeBundle::new(&docker.home().join("parish-1.4.0"));
        docker.set("loads", &bundle.ids.iter().map(|(config, _)| config.clone() + "\n").collect::<String>());
        docker.set("tools/cat", &format!("echo {PASSWORD}\n"));
        docker.set("jobs/selfkeys", "echo 'kept      certificate db database server (db), until 2099-12-31'\n");
        Self { docker, bundle }
    }

    /// A machine on which the bundle runs.
    pub fn running() -> Self {
        let world = Self::new();
        world.up(0);
        world.docker.calls();
        world
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = parvis(self.docker.home());
        command.env("PATH", self.docker.path()).arg("demo").args(arguments).stdin(Stdio::null()).current_dir(self.docker.home());
        command
    }

    pub fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.command(arguments).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis demo {}\n{}{}", arguments.join(" "), said.out, said.err);
        if code == 0 && arguments.contains(&"--json") {
            assert_fits("demo", &serde_json::from_str(&said.out).unwrap());
        }
        said
    }

    pub fn bundle(&self) -> &str {
        self.bundle.folder.to_str().unwrap()
    }

    pub fn up(&self, code: i32) -> Said {
        self.run(&["up", self.bundle()], code)
    }

    /// Returns what a failing command says in both languages, without what differs from run to run.
    pub fn complaint(&self, arguments: &[&str], code: i32) -> String {
        ["en", "fr"]
            .map(|language| {
                let said = self.run(&[arguments, &["--lang", language]].concat(), code);
                self.plain(&said.err)
            })
            .join("\n")
    }

    pub fn plain(&self, text: &str) -> String {
        let mut out = String::new();
        for line in text.lines().filter(|line| !line.ends_with(" s")) {
            out += &line.replace(self.docker.home().to_str().unwrap(), "HOME");
            out.push('\n');
        }
        out
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.docker.home().join(name)
    }

    /// Returns what compose was asked, without its options.
    pub fn asked(&self) -> Vec<String> {
        let calls = self.docker.calls();
        calls
            .iter()
            .filter_map(|call| call.split_once("/.env ").map(|(_, words)| words.to_owned()))
            .chain(calls.iter().filter(|call| *call == "docker load").cloned())
            .collect()
    }
}
