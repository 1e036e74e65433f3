//! parvis run a second time under other conditions: another folder, store, user, umask, time zone, language, thread count.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::draft::DraftFolder;

/// The user that stands for anybody, where parvis runs as root and may choose: Debian's `nobody`.
const ANYBODY: u32 = 65_534;

/// A second run that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    #[error("cannot {action} `{path}` for the second build")]
    Prepare {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the second build failed")]
    Failed {
        #[source]
        said: Said,
    },
}

/// The last lines of a program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(String);

/// A place for the second run: a copy of the project, a store with the same downloads.
#[derive(Debug)]
pub struct Elsewhere {
    folder: DraftFolder,
    user: Option<u32>,
}

/// What the folder of a second build is called at the beginning.
const PREFIX: &str = "parvis twice ";

impl Elsewhere {
    /// Copies what a build reads of a project, and links the downloads it needs.
    pub fn prepare(project: &Path, downloads: &[PathBuf]) -> Result<Self, AgainError> {
        let folder = DraftFolder::temporary(PREFIX).map_err(failed("make", Path::new("a temporary folder")))?;
        let user = rustix::process::geteuid().is_root().then_some(ANYBODY);
        let place = Self { folder, user };
        let copy = place.project();
        fs::create_dir(&copy).map_err(failed("make", &copy))?;
        for name in ["parvis.yaml", "parvis.lock", "recipes", "images", "keys"] {
            let from = project.join(name);
            if from.exists() {
                copy_all(&from, &copy.join(name))?;
            }
        }
        let shelf = place.store().join("downloads");
        fs::create_dir_all(&shelf).map_err(failed("make", &shelf))?;
        for download in downloads {
            let to = shelf.join(download.file_name().unwrap_or_default());
            // A copy: what belongs to another user cannot be linked back into the first store.
            fs::copy(download, &to).map_err(failed("copy", download))?;
        }
        if let Some(user) = place.user {
            give_all(place.folder.path(), user)?;
        }
        Ok(place)
    }

    /// Returns the second store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("second store")
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project elsewhere")
    }

    /// Says in words what is different there.
    #[must_use]
    pub fn conditions(&self) -> String {
        let user = if self.user.is_some() { "user nobody, " } else { "" };
        format!("{user}another folder and store, umask 077, Kiritimati, Turkish, one thread, plain scripts")
    }

    /// Runs parvis there and returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, AgainError> {
        let program = Path::new("/proc/self/exe");
        // A user who may not enter the program's folder can still run a copy.
        let copy = self.folder.path().join("parvis");
        fs::copy(program, &copy).map_err(failed("copy", program))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(failed("copy", &copy))?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(&copy)
            .arg("--project")
            .arg(self.project())
            .arg("--store")
            .arg(self.store());
        command.args(arguments).env_clear().stdin(Stdio::null()).current_dir("/");
        command.envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("TZ", "Pacific/Kiritimati"),
            ("LANG", "tr_TR.UTF-8"),
            ("LC_ALL", "tr_TR.UTF-8"),
        ]);
        command.env("HOME", self.folder.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let output = command.output().map_err(failed("run", &copy))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(AgainError::Failed { said: Said(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()) })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AgainError {
    move |source| AgainError::Prepare { action, path: path.to_owned(), source }
}

fn copy_all(from: &Path, to: &Path) -> Result<(), AgainError> {
    let status = fs::symlink_metadata(from).map_err(failed("read", from))?;
    if status.is_dir() {
        fs::create_dir(to).map_err(failed("make", to))?;
        for entry in fs::read_dir(from).map_err(failed("read", from))? {
            let entry = entry.map_err(failed("read", from))?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if status.is_file() {
        fs::copy(from, to).map_err(failed("copy", from))?;
    }
    Ok(())
}

fn give_all(path: &Path, user: u32) -> Result<(), AgainError> {
    lchown(path, Some(user), Some(user)).map_err(failed("give away", path))?;
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed("read", path))? {
            give_all(&entry.map_err(failed("read", path))?.path(), user)?;
        }
    }
    Ok(())
}
