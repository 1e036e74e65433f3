//! A stack: what runs together, as a value that was checked.

use serde::{Deserialize, Serialize};

/// When a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// A line of text.
    Text,
    /// A host name, or an address.
    Host,
    /// A port, 1 to 65535.
    Port,
    /// An IPv4 address of this machine, or `0.0.0.0` for all.
    Address,
    /// An address of electronic mail.
    Mail,
    /// A name to log in with.
    Login,
    /// A time zone, such as `Europe/Paris`.
    Zone,
    /// A whole number.
    Number,
}
