//! A recipe: how one image is built, as a value that was checked.

use std::collections::BTreeMap;

use super::name::{AccountName, ImageName, PackageName};
use super::tree::TreePath;

pub(super) mod parse;
mod raw;

/// Where an image starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// Nothing at all.
    Scratch,
    /// Another recipe of the project.
    Recipe(ImageName),
}

/// A user that exists with these ids before any package is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub line: u32,
    pub name: AccountName,
    pub uid: u32,
    pub gid: u32,
    /// The name of the primary group; the user's own name unless stated.
    pub group: AccountName,
    /// The comment field (GECOS).
    pub comment: String,
    pub home: String,
    pub shell: String,
    /// Further groups, which must exist by the time the accounts are made.
    pub groups: Vec<AccountName>,
}

/// An owner by name or by number, resolved against the image's own `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Name(AccountName),
    Id(u32),
}

/// User and group of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    pub user: Owner,
    pub group: Owner,
}

/// One line of `files`: something that the recipe puts into the image, with declared owner and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRule {
    pub line: u32,
    pub to: TreePath,
    pub what: FileSource,
    pub owners: Owners,
    /// Mode of files (for a folder source: of each file in it). Ignored for links.
    pub mode: u16,
    /// Mode of the folder itself, and for a folder source of each folder in it.
    pub directory_mode: u16,
}

/// What a line of `files` puts there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A file or folder below `images/NAME/`.
    Project(TreePath),
    /// Text that stands in the recipe itself.
    Text(String),
    /// An empty folder.
    Directory,
    /// A symbolic link with this target.
    Link(String),
}

/// `composer`: a PHP project with the packages that its composer.lock names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposerRule {
    pub line: u32,
    /// The project's folder below `images/NAME/`, with composer.json.
    pub project: TreePath,
    /// Where the project stands in the image.
    pub to: TreePath,
    /// The image in which Composer runs, with the line that says so.
    pub with: ImageName,
    pub with_line: u32,
    /// The image whose PHP must have what the packages require, with the line that says so.
    pub platform: ImageName,
    pub platform_line: u32,
    pub owners: Owners,
    /// Mode of every file.
    pub mode: u16,
    /// Mode of every folder.
    pub directory_mode: u16,
    /// Patterns below the project, of what is not in the image.
    pub exclude: Vec<String>,
    /// Names of scripts of composer.json that run after the installation; no other does.
    pub scripts: Vec<String>,
    /// Whether the autoloader knows no class but those that were there when the image was built.
    pub authoritative: bool,
}

/// One line of `copy`: a subtree of a sibling image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRule {
    pub line: u32,
    pub from: ImageName,
    pub path: TreePath,
    pub to: TreePath,
    /// New owners for all that is copied; kept where absent.
    pub owners: Option<Owners>,
}

/// One line of `remove`: a path with `*`, `?` and `**`, matched against the whole tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveRule {
    pub line: u32,
    pub pattern: String,
}

/// One entry of `run`: a command in the sandbox, with no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRule {
    pub line: u32,
    pub command: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub env: BTreeMap<String, String>,
    /// Seconds after which the command is killed.
    pub timeout: u64,
}

/// A health check, as Docker's image configuration has it. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub command: Vec<String>,
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub retries: u32,
}

/// A published or listened port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub number: u16,
    /// Udp instead of tcp.
    pub udp: bool,
}

/// The image configuration of a recipe. What is absent comes from the parent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub ports: Vec<Port>,
    pub volumes: Vec<TreePath>,
    pub stop_signal: Option<String>,
    pub health: Option<Health>,
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Returns the configuration of an image that states `own` and is built on one that has this.
    ///
    /// As in a Dockerfile: a new entrypoint drops the parent's command; variables, ports, volumes and labels add up.
    #[must_use]
    pub fn inherit(&self, own: &Self) -> Self {
        let mut config = self.clone();
        if own.entrypoint.is_some() {
            config.entrypoint.clone_from(&own.entrypoint);
            config.cmd = None;
        }
        if own.cmd.is_some() {
            config.cmd.clone_from(&own.cmd);
        }
        let replace = |inherited: &mut Option<String>, own: &Option<String>| {
            if own.is_some() {
                inherited.clone_from(own);
            }
        };
        replace(&mut config.user, &own.user);
        replace(&mut config.workdir, &own.workdir);
        replace(&mut config.stop_signal, &own.stop_signal);
        if own.health.is_some() {
            config.health.clone_from(&own.health);
        }
        config.env.extend(own.env.clone());
        config.labels.extend(own.labels.clone());
        config.ports.extend(&own.ports);
        config.volumes.extend(own.volumes.iter().cloned());
        config
    }
}

/// One test of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    pub line: u32,
    pub what: TestKind,
}

/// What a test looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestKind {
    /// A command in the image, with what it must do.
    Command {
        command: Vec<String>,
        user: Option<String>,
        env: BTreeMap<String, String>,
        stdin: String,
        exit: u8,
        /// Texts that standard output must contain.
        stdout: Vec<String>,
        /// Texts that standard error must contain.
        stderr: Vec<String>,
        /// Texts that neither may contain.
        absent: Vec<String>,
        timeout: u64,
    },
    /// A path in the image, with what it must be.
    File { path: TreePath, exists: bool, owners: Option<Owners>, mode: Option<u16>, contains: Vec<String> },
}

/// One image, as its recipe declares it.
///
/// The parts take effect in this order: users, packages, composer, files, copy, run, remove. Then come the configuration and the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub name: ImageName,
    /// Why the image exists.
    pub description: String,
    pub from: Parent,
    /// The line of `from:`, for messages.
    pub from_line: u32,
    pub users: Vec<Account>,
    pub packages: Vec<PackageName>,
    /// The line where the list of packages begins (or of the file's first key), for messages.
    pub packages_line: u32,
    /// Whether Recommends are followed.
    pub recommends: bool,
    pub composer: Option<ComposerRule>,
    pub files: Vec<FileRule>,
    pub copies: Vec<CopyRule>,
    pub runs: Vec<RunRule>,
    pub removes: Vec<RemoveRule>,
    pub config: ImageConfig,
    /// The line of the first key of `config:` (or of the file's first key), for messages.
    pub config_line: u32,
    pub tests: Vec<Test>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_entrypoint_drops_the_parents_command_and_keeps_its_variables() {
        let parent = ImageConfig {
            entrypoint: Some(vec!["a".into()]),
            cmd: Some(vec!["b".into()]),
            env: [("TZ".to_owned(), "Europe/Paris".to_owned())].into(),
            ..ImageConfig::default()
        };
        let own = ImageConfig {
            entrypoint: Some(vec!["c".into()]),
            env: [("X".to_owned(), "1".to_owned())].into(),
            ..ImageConfig::default()
        };
        let config = parent.inherit(&own);
        assert_eq!((config.entrypoint, config.cmd, config.env.len()), (own.entrypoint, None, 2));
        assert_eq!(parent.inherit(&ImageConfig::default()), parent);
    }
}
