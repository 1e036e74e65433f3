//! This repository's own project in a folder of its own, with a store of its own: real packages from the host's mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A copy of the project, and what is made of it.
pub struct Checkout {
    folder: TempDir,
}

impl Checkout {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("real-").tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["parvis.yaml", "parvis.lock", "recipes", "images", "compose", "keys"].map(|name| here.join(name));
        assert!(Command::new("cp").arg("-r").args(sources).arg(folder.path()).status().unwrap().success());
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, project: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
        command.arg("--project").arg(project).arg("--store").arg(self.path("store")).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn parvis(&self, arguments: &[&str]) -> Output {
        self.command(self.folder.path(), arguments).output().unwrap()
    }

    /// Runs parvis, which must succeed; returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        said(&self.parvis(arguments), &format!("parvis {}", arguments.join(" ")))
    }

    /// Returns a file out of a package of the suite that the project builds from: a tool that this machine's own suite has too old.
    pub fn file_of_package(&self, package: &str, path: &str) -> Vec<u8> {
        let project = self.path(&format!("for-{package}"));
        fs::create_dir_all(project.join("recipes")).unwrap();
        let sources = ["parvis.yaml", "keys"].map(|name| self.path(name));
        assert!(Command::new("cp").arg("-r").args(sources).arg(&project).status().unwrap().success());
        let recipe = format!("description: A tool of the tests.\nfrom: scratch\npackages: [base-files, coreutils, {package}]\n");
        fs::write(project.join("recipes/tool.yaml"), recipe).unwrap();
        for arguments in [&["lock"][..], &["build", "--trees"]] {
            said(&self.command(&project, arguments).output().unwrap(), &format!("parvis {}", arguments.join(" ")));
        }
        let output = self.command(&project, &["run", "tool", "--", "cat", path]).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// Returns what a program printed that must have succeeded.
pub fn said(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
