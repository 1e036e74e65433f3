//! A small project in a folder of its own, and parvis run in it with nothing of this machine's environment.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::fakerepo::{Repo, Suite};
use super::openpgp::Key;

/// A project, its store and the archive it takes packages from.
pub struct Project {
    place: TempDir,
    /// Options that name the mirrors.
    mirrors: Vec<String>,
}

impl Project {
    /// Makes a project without recipes that trusts the archive's key and takes packages from this address of an archive.
    pub fn new(address: &str) -> Self {
        Self::called("project-", address)
    }

    /// Makes one whose folder begins with this name.
    fn called(name: &str, address: &str) -> Self {
        let place = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        // Another user may run parvis here.
        fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mirrors = ["debian", "debian-security"].map(|archive| format!("--mirror={archive}={address}/{archive}")).to_vec();
        let project = Self { place, mirrors };
        project.trust(&[Key::Archive]);
        project
    }

    /// Makes a project on the archive's folder.
    pub fn on(repo: &Repo) -> Self {
        Self::new(&repo.url())
    }

    /// Makes a project without recipes on an archive, in a folder whose name begins with this.
    pub fn in_folder(repo: &Repo, name: &str) -> Self {
        Self::called(name, &repo.url())
    }

    /// Makes a project with the images `base` and `app` (which has a parent, files, a user and tests), on the archive of the tests.
    pub fn sample(repo: &Repo) -> Self {
        let project = Self::on(repo);
        project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
        project.recipe(
            "app",
            r#"description: The program.
from: base
users:
  - {name: paroisse, uid: 1001, gid: 1001}
packages: [app]
files:
  - {from: welcome.txt, to: /srv/welcome.txt, owner: "paroisse:www-data", mode: "0440"}
  - {directory: true, to: /srv/data, owner: "paroisse:www-data", mode: "0770"}
run:
  - command: [sh, -c, "echo made > /srv/made"]
config:
  user: paroisse
  cmd: [/usr/bin/app, hello]
tests:
  - command: [app, hello]
    stdout: ["app hello"]
"#,
        );
        project.write("images/app/welcome.txt", "welcome\n");
        project
    }

    /// Writes `parvis.yaml` and the keyring so that these keys, and no others, may sign.
    pub fn trust(&self, keys: &[Key]) {
        let fingerprints: Vec<String> = keys.iter().map(|key| format!("\"{}\"", key.fingerprint())).collect();
        let mut text = "name: tests\ndescription: A project of the tests.\nkeyring: keys/archive.asc\n".to_owned();
        writeln!(text, "keys: [{}]\narchitectures: [{}]\nsuites:", fingerprints.join(", "), super::mkdeb::ARCHITECTURE).unwrap();
        for suite in Suite::ALL {
            let (name, archive, security) = (suite.name(), suite.archive(), suite == Suite::Security);
            writeln!(text, "  - {{name: {name}, archive: {archive}, security: {security}}}").unwrap();
        }
        self.write("parvis.yaml", &text);
        self.write("keys/archive.asc", &keys.iter().map(|key| key.public()).collect::<String>());
    }

    pub fn recipe(&self, name: &str, text: &str) {
        self.write(&format!("recipes/{name}.yaml"), text);
    }

    /// Writes a file of the project; folders are made where needed.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// Returns the project's folder.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("project")
    }

    /// Returns the folder of the store that `parvis` uses here.
    pub fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    /// Returns a command line of parvis in this project: verb and further arguments.
    pub fn parvis(&self, arguments: &[&str]) -> Command {
        let mut command = parvis(self.place.path());
        command.arg("--project").arg(self.path()).arg("--store").arg(self.store()).args(&self.mirrors).args(arguments);
        command
    }

    /// Runs git in the project's folder.
    pub fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false"]);
        let output = command.args(arguments).current_dir(self.path()).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs parvis and expects an exit code.
    pub fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = self.parvis(arguments).output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }
}

/// Returns parvis with a clean environment: a home of its own, no language, no colours, nothing else.
pub fn parvis(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C").env("HOME", home).current_dir("/");
    command
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
}

impl From<&Output> for Said {
    fn from(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("parvis says only UTF-8");
        Self { out: text(&output.stdout), err: text(&output.stderr) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::world;

    #[test]
    fn a_project_lies_in_a_folder_of_its_own() {
        let project = Project::sample(&world::archive());
        assert!(project.read("parvis.yaml").contains(&Key::Archive.fingerprint()));
        assert!(project.read("images/app/welcome.txt").starts_with("welcome"));
        let command = project.parvis(&["lock"]);
        assert_eq!(command.get_envs().filter(|(_, value)| value.is_some()).count(), 3);
        assert_eq!(project.run(&["--version"], 0).err, "");
    }
}
