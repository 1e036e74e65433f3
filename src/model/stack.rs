//! A stack: what runs together, and how it is wired, as a value that was checked.
//!
//! A stack says only what its images do not: program, user, ports, volumes' owners and health checks are those of the recipes.

mod order;
mod parse;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::{ImageName, PartName, VariableName, is_ipv4};

/// Where a service finds its own keys, certificates and passwords.
pub const KEYS: &str = "/keys";

/// Where the job that makes keys finds one folder per service.
pub const KEYS_OUT: &str = "/out";

/// The address on which ports are published unless stated: nobody but this machine reaches it.
pub const LOOPBACK: &str = "127.0.0.1";

/// When a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// At each start.
    Every,
    /// At each start, and does its work at the first.
    Install,
    /// At each start, and before a service of a new version takes over.
    Upgrade,
    /// When somebody asks for it.
    Manual,
}

/// One question in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub en: String,
    pub fr: String,
}

/// What a parameter's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// A line of text, perhaps empty.
    Text,
    /// A host name, or an IPv4 address.
    Host,
    /// A port, 1 to 65535.
    Port,
    /// An IPv4 address of this machine, or `0.0.0.0` for all.
    Address,
    /// An address of electronic mail, perhaps none.
    Mail,
    /// A name to log in with.
    Login,
    /// A time zone, such as `Europe/Paris`.
    Zone,
    /// A whole number.
    Number,
}

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Showing others that this is the service they asked for.
    Server,
    /// Showing a server who asks.
    Client,
}

/// Something that the person who starts the stack may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub line: u32,
    pub name: PartName,
    pub kind: ParameterKind,
    pub default: String,
    pub question: Question,
}

/// A text with parameters in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub line: u32,
    pub pieces: Vec<Piece>,
}

/// A part of a text with parameters in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Parameter(PartName),
}

/// A name that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub line: u32,
    pub name: PartName,
    /// What it is; empty where nothing is said.
    pub description: String,
}

/// A volume in a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub line: u32,
    pub volume: PartName,
    /// An absolute path.
    pub at: String,
    pub read_only: bool,
}

/// A certificate that a service gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub line: u32,
    pub authority: PartName,
    pub role: Role,
    pub common_name: Template,
    /// For a server: its names and addresses, the service's own first.
    pub names: Vec<Template>,
}

/// A port outside: fixed, or a parameter's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside<T> {
    Fixed(T),
    Parameter(PartName),
}

/// A port that is reachable from outside the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub line: u32,
    /// The port in the container.
    pub port: u16,
    pub outside: Outside<u16>,
    pub address: Outside<String>,
}

/// A right of root that a service keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub line: u32,
    pub name: String,
    pub reason: Option<String>,
}

/// A service or a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub line: u32,
    pub name: PartName,
    pub image: ImageName,
    /// When it runs; absent for a service, which stays.
    pub job: Option<When>,
    /// Whether it makes the keys of all others.
    pub makes_keys: bool,
    /// What it talks to.
    pub uses: Vec<PartName>,
    /// All that must be ready, or have ended well, before it starts: what is written and what follows.
    pub after: Vec<PartName>,
    pub command: Option<Vec<String>>,
    pub env: BTreeMap<VariableName, Template>,
    pub mounts: Vec<Mount>,
    /// Absolute paths.
    pub scratch: Vec<String>,
    /// Bytes of each of them at most.
    pub scratch_size: u64,
    pub secrets: Vec<PartName>,
    pub certificates: Vec<Certificate>,
    pub trusts: Vec<PartName>,
    pub publish: Vec<Publish>,
    pub authenticates: bool,
    /// Why it may reach the world outside, where it may.
    pub reaches_outside: Option<String>,
    pub capabilities: Vec<Capability>,
    /// Bytes.
    pub memory: u64,
    pub pids: u32,
    /// Seconds.
    pub stop_grace: u64,
}

/// How a person gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRule {
    pub line: u32,
    pub user: Template,
    pub secret: PartName,
    pub service: PartName,
    pub url: Template,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRule {
    pub line: u32,
    pub file: String,
    pub what: BackupSource,
}

/// What a file of a backup is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupSource {
    /// What a command prints in a service; another reads it back.
    Command { service: PartName, save: Vec<String>, restore: Vec<String> },
    /// A volume.
    Volume(PartName),
}

/// How visitors are told that the site is being worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceRule {
    pub line: u32,
    /// The service that answers visitors.
    pub service: PartName,
    pub begin: Vec<String>,
    pub end: Vec<String>,
    pub check: Option<Vec<String>>,
}

/// What runs together: every name in it stands for something in it, and nothing waits for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    pub name: PartName,
    pub description: String,
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    pub authorities: Vec<Declared>,
    pub secrets: Vec<Declared>,
    pub volumes: Vec<Declared>,
    /// In start order: each after all it waits for.
    pub services: Vec<Service>,
    pub login: Option<LoginRule>,
    pub backup: Vec<BackupRule>,
    pub maintenance: Option<MaintenanceRule>,
}

impl Stack {
    /// Returns a service by name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }

    /// Returns a parameter by name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name.as_str() == name)
    }

    /// Returns the services that talk to this one.
    pub fn users_of<'a>(&'a self, name: &'a PartName) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| service.uses.contains(name))
    }

    /// Returns the job that makes the keys of all others.
    #[must_use]
    pub fn key_maker(&self) -> Option<&Service> {
        self.services.iter().find(|service| service.makes_keys)
    }
}

impl Service {
    /// Returns whether it gets keys, certificates or passwords.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !(self.secrets.is_empty() && self.certificates.is_empty() && self.trusts.is_empty())
    }

    /// Returns whether it stays.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.job.is_none()
    }
}

impl Template {
    /// Returns the text with something in place of each parameter.
    #[must_use]
    pub fn fill(&self, mut text: impl FnMut(&str) -> String, mut parameter: impl FnMut(&PartName) -> String) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(words) => text(words),
            Piece::Parameter(name) => parameter(name),
        });
        pieces.collect()
    }

    /// Returns the parameters in it.
    pub fn parameters(&self) -> impl Iterator<Item = &PartName> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Parameter(name) => Some(name),
        })
    }
}

impl ParameterKind {
    /// Returns whether a value may be empty.
    #[must_use]
    pub const fn may_be_empty(self) -> bool {
        matches!(self, Self::Text | Self::Mail)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// Says what a value of this kind looks like.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        if value.chars().any(super::problem::unseen) || value.len() > 400 {
            return Err("at most 400 characters on one line");
        }
        if value.is_empty() {
            return if self.may_be_empty() { Ok(()) } else { Err("something: it cannot be empty") };
        }
        let all = |allowed: fn(u8) -> bool| value.bytes().all(allowed);
        let number = value.parse::<u32>().ok().filter(|number| number.to_string() == value);
        let (right, rule) = match self {
            // There is no way to write these in `.env` that Compose 1.29 and its successors read alike.
            Self::Text => (
                value.trim() == value && !value.contains('\\') && !value.contains("${"),
                "a line of text without blanks at its ends, and without `\\` and `${`",
            ),
            Self::Host => (is_host(value), "a host name in small letters such as `www.example.org`, or an IPv4 address"),
            Self::Port => (number.is_some_and(|port| (1..=65535).contains(&port)), "a number from 1 to 65535"),
            Self::Address => (is_ipv4(value), "an IPv4 address such as `127.0.0.1`"),
            Self::Mail => (is_mail(value), "an address such as `name@example.org`"),
            Self::Login => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
                (all(allowed) && !value.starts_with(['.', '-', '@']), "letters, digits, `.`, `_`, `-` and `@`")
            }
            Self::Zone => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
                (all(allowed) && !value.starts_with(['/', '-']), "a time zone such as `Europe/Paris`")
            }
            Self::Number => (number.is_some(), "a whole number"),
        };
        if right { Ok(()) } else { Err(rule) }
    }
}

/// Whether a text is a host name (RFC 1123, section 2.1), in small letters so that it is one name everywhere, or an IPv4 address.
fn is_host(text: &str) -> bool {
    let label = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&part.len()) && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
    };
    // A name whose last part is a number is taken for an address by some readers.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && if numeric { is_ipv4(text) } else { text.split('.').all(label) }
}

fn is_mail(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".!%&*+/=?^_|~-".contains(&byte);
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && name.bytes().all(allowed) && is_host(&host.to_ascii_lowercase()))
}

/// Whether compose, docker, a dynamic linker or a shell takes a variable of this name for its own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 8] = ["PATH", "HOME", "USER", "SHELL", "IFS", "ENV", "PWD", "HOSTNAME"];
    const BEGINNINGS: [&str; 6] = ["PARVIS_", "COMPOSE_", "DOCKER_", "BUILDKIT_", "LD_", "BASH_"];
    let begins = || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    NAMES.contains(&name) || begins() || name.to_lowercase().ends_with("_proxy")
}
