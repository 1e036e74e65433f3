//! The sandbox: runs programs on a tree without network, host files or host names, and tells what they changed.
//!
//! parvis starts itself again with [`WORKER`] as its first argument; that process has one thread, builds the namespaces, becomes
//! process 1 inside, and obeys over a socket. Nothing outlives the socket.
//!
//! ```text
//! overlay   upper   what programs write: a tmpfs, or the scratch folder on disk
//!           shims   programs laid over the tree, never part of the result
//!           lower…  the caller's farms of links, never written
//! /proc /dev /run /tmp   the sandbox's own, never part of the result
//! ```

mod changes;
mod hook;
mod host;
mod ladder;
mod mounts;
pub mod native;
mod owners;
mod seccomp;
mod sys;
mod wire;
mod worker;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::tree::{TreePath, Xattrs};

pub use host::{Sandbox, Store, probe};
pub use ladder::Privilege;

/// The first argument with which parvis becomes the process inside a sandbox.
pub const WORKER: &str = "parvis-sandbox-worker";

/// Runs the process inside a sandbox, for a program whose first argument is [`WORKER`].
pub fn worker_main() -> ! {
    worker::main()
}

/// Something of the kernel or the system that a sandbox needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feature {
    UserNamespace,
    SubordinateIds,
    IdMap,
    Namespaces,
    Mount,
    Overlay,
    Proc,
    Seccomp,
    Notification,
}

impl Feature {
    /// Returns the name that people know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespaces",
            Self::SubordinateIds => "subordinate ids",
            Self::IdMap => "id maps",
            Self::Namespaces => "namespaces",
            Self::Mount => "mounting in a user namespace",
            Self::Overlay => "overlay mounts in a user namespace",
            Self::Proc => "mounting /proc in a user namespace",
            Self::Seccomp => "seccomp filters",
            Self::Notification => "seccomp notifications",
        }
    }

    /// Returns what the owner of the machine can do to have it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::UserNamespace => {
                "allow them: `sysctl user.max_user_namespaces=15000`, on Debian 10 `sysctl kernel.unprivileged_userns_clone=1`; \
                 in a container run it with `--security-opt seccomp=unconfined`"
            }
            Self::SubordinateIds => {
                "install `uidmap` and run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
            }
            Self::IdMap => "run parvis as an ordinary user, or as root outside of a container that has fewer than 65,536 ids",
            Self::Namespaces | Self::Mount => {
                "allow user namespaces their capabilities: on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; \
                 in a container run it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
            }
            Self::Overlay => "use Linux 5.11 or newer with the module `overlay`, and a scratch folder on ext4, xfs or btrfs",
            Self::Proc => "in a container run it with `--security-opt systempaths=unconfined`",
            Self::Seccomp | Self::Notification => "use Linux 5.9 or newer, built with CONFIG_SECCOMP_FILTER",
        }
    }
}

/// What `parvis doctor` says of one feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub available: bool,
    pub detail: String,
    /// What to do, where it is not available.
    pub advice: Option<&'static str>,
}

/// Where what programs write is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// In an overlay's upper layer on a tmpfs.
    Memory,
    /// In an overlay's upper layer in the scratch folder.
    Disk,
    /// In the caller's own copy of the tree, without an overlay.
    Copy,
}

/// An error of the sandbox itself; that a program failed is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the sandbox needs {}, and could not {what}", feature.name())]
    Missing {
        feature: Feature,
        what: String,
        #[source]
        cause: io::Error,
    },
    #[error("the sandbox could not {what}")]
    Refused {
        what: String,
        #[source]
        cause: io::Error,
    },
    #[error("the process inside the sandbox ended unexpectedly")]
    Died(#[source] io::Error),
    #[error("the process inside the sandbox said something out of turn")]
    Protocol,
    #[error("cannot {what}")]
    Local {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("the sandbox holds the path `{0}`, which no image can hold")]
    Path(String),
    #[error("`{path}` has more than {limit} bytes")]
    TooLarge { path: TreePath, limit: u64 },
}

impl SandboxError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { feature, .. } => Some(feature.advice().to_owned()),
            Self::Refused { what, .. } if what.starts_with("enter the folder") => Some(
                "a folder to start in has to stand in the image: declare it among its `files` with `directory: true`".to_owned(),
            ),
            // ENOEXEC of execve(2).
            Self::Refused { what, cause } if what.starts_with("execute") && cause.raw_os_error() == Some(libc::ENOEXEC) => Some(
                "it is made for another architecture than this machine's: install `qemu-user-static`, which lets the machine run it (slowly), or \
                 build on a machine of that architecture; or it is a script without a first line such as `#!/bin/sh`"
                    .to_owned(),
            ),
            Self::Refused { what, .. } if what.starts_with("execute") => {
                Some("name a program of the image, by its path or as one that its `PATH` has".to_owned())
            }
            _ => None,
        }
    }
}

/// Returns whether programs of an architecture, by Debian's name, run on this machine: its own, or one that the kernel hands to an emulator.
#[must_use]
pub fn runs(architecture: &str, machine: &str) -> bool {
    if architecture == machine || (architecture, machine) == ("i386", "amd64") {
        return true;
    }
    // As the package `qemu-user-static` calls them.
    let emulator = match architecture {
        "arm64" => "aarch64",
        "armhf" | "armel" => "arm",
        "ppc64el" => "ppc64le",
        "amd64" => "x86_64",
        other => other,
    };
    let plain = emulator.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let registered = || std::fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/qemu-{emulator}"));
    plain && registered().is_ok_and(|text| text.starts_with("enabled"))
}

/// Where a sandbox takes its tree from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Folders that an overlay puts over each other, the first on top. Nothing is written to them.
    Layers(Vec<PathBuf>),
    /// A folder that is changed in place, for kernels without overlay.
    Copy(PathBuf),
}

/// Whose a path is, where the farm of links does not say it: owner, all twelve mode bits, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub path: TreePath,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub xattrs: Xattrs,
}

/// How much the programs of a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes at the same time.
    pub processes: u32,
    /// Bytes that are written, in memory or to one file.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: 1024, bytes: 8 << 30 }
    }
}

/// What a sandbox is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program that has [`WORKER`] as first argument run [`worker_main`]: parvis itself.
    pub program: PathBuf,
    pub source: Source,
    /// An existing folder for the sandbox alone: a mount point, or the home of what programs write. It is emptied.
    pub scratch: PathBuf,
    pub owners: Vec<Owner>,
    /// Executable files that shadow the tree's and are never part of the result.
    pub shims: Vec<(TreePath, Vec<u8>)>,
    /// Lets native programs answer for those scripts of Debian that have one: faster, with the same results.
    pub natives: bool,
    /// Lets programs reach each other under 127.0.0.1, and still nothing else: servers are tried so. Builds do without.
    pub loopback: bool,
    pub limits: Limits,
    /// The rung to take; the highest that works when not given.
    pub privilege: Option<Privilege>,
    /// Keeps what programs write on disk although memory could.
    pub on_disk: bool,
    /// Behaves as a machine without this feature, so that every refusal can be seen.
    pub without: Option<Feature>,
}

impl Spec {
    /// Returns a sandbox on a tree, with nothing else asked for.
    #[must_use]
    pub fn new(source: Source, scratch: PathBuf) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            source,
            scratch,
            owners: Vec::new(),
            shims: Vec::new(),
            natives: false,
            loopback: false,
            limits: Limits::default(),
            privilege: None,
            on_disk: false,
            without: None,
        }
    }
}

/// A program to run. It sees of the environment what stands here, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub env: Vec<Vec<u8>>,
    pub cwd: TreePath,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    /// Bytes of output after which it is stopped.
    pub output_limit: u64,
}

impl Program {
    /// Returns a program that runs as root in `/` with an empty environment, for at most an hour and 64 MiB of output.
    pub fn new<T: AsRef<[u8]>>(argv: impl IntoIterator<Item = T>) -> Self {
        Self {
            argv: argv.into_iter().map(|word| word.as_ref().to_vec()).collect(),
            env: Vec::new(),
            cwd: TreePath::root(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(3600),
            output_limit: 64 << 20,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signalled(i32),
    TimedOut,
    TooMuchOutput,
    TooManyProcesses,
}

/// How a program ended, and its last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    /// The last lines of both streams, at most 20, safe to print.
    pub last_lines: Vec<String>,
}

impl Outcome {
    /// Returns whether it exited with 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }
}

/// Which of a program's streams something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Output,
    Error,
}
