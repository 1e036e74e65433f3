//! The keys of a stack file, as they are written; the JSON Schema is made from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::yaml::{NumberOrText, Placed};

pub(super) type Text = Placed<String>;

/// What runs together: services and jobs, and all that they share. The file's name is the stack's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "parvis stack")]
pub(super) struct Stack {
    /// What the stack is, for the person who starts it.
    pub description: Text,
    /// The profile that it belongs to; one without is for every profile.
    #[serde(default)]
    pub profile: Option<Text>,
    /// What that person may choose, each by its name; `${name}` stands for it.
    #[serde(default)]
    pub parameters: BTreeMap<String, Placed<Parameter>>,
    /// Authorities that sign certificates, made on the target at the first start.
    #[serde(default)]
    pub authorities: Vec<Text>,
    /// Passwords, made on the target at the first start.
    #[serde(default)]
    pub secrets: BTreeMap<String, Placed<Secret>>,
    /// Folders that outlive containers. Owner and mode come from the image that has the mount path.
    #[serde(default)]
    pub volumes: BTreeMap<String, Placed<Volume>>,
    /// What runs.
    pub services: BTreeMap<String, Placed<Service>>,
    /// How a person gets in.
    #[serde(default)]
    pub login: Option<Placed<Login>>,
    /// What a backup consists of, in the order of restoring.
    #[serde(default)]
    pub backup: Vec<Placed<Backup>>,
    /// How visitors are told that the site is being worked on while its version changes.
    #[serde(default)]
    pub maintenance: Option<Placed<Maintenance>>,
}

/// Something that the person who starts the stack may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameter {
    /// What a value looks like: `text`, `host`, `port`, `address`, `mail`, `login`, `zone` or `number`.
    pub kind: super::ParameterKind,
    /// The value where nobody chooses. A port or number may stand without quotes.
    pub default: Placed<NumberOrText>,
    /// The question in both languages.
    pub question: Placed<Question>,
}

/// One question, in English and French.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// In English.
    pub en: Text,
    /// In French.
    pub fr: Text,
}

/// A password that is made on the target.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    /// What it opens.
    #[serde(default)]
    pub description: Option<Text>,
}

/// A folder that outlives containers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    /// What it holds.
    pub description: Text,
}

/// A service, which stays, or a job, which ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// The image, by the name of its recipe. Program, user, health check and ports come from there.
    pub image: Text,
    /// For a job: `every` (at each start), `install` (likewise; its work is done once), `upgrade` (likewise, and before services of
    /// a new version start), or `manual` (when somebody asks). Absent for a service.
    #[serde(default)]
    pub job: Option<super::When>,
    /// Whether this job makes the keys, certificates and passwords of all others, at the first start. One job does.
    #[serde(default)]
    pub makes_keys: bool,
    /// The services that this one talks to. Order, waiting and networks follow from it.
    #[serde(default)]
    pub uses: Vec<Text>,
    /// What else must be ready, or have ended, before it starts.
    #[serde(default)]
    pub after: Vec<Text>,
    /// Arguments in place of those of the image. `$` means nothing in them.
    #[serde(default)]
    pub command: Option<Placed<Vec<Text>>>,
    /// Environment variables. Never a password: name it under `secrets`.
    #[serde(default)]
    pub env: BTreeMap<String, Placed<NumberOrText>>,
    /// Volumes, and where they are.
    #[serde(default)]
    pub mounts: Vec<Placed<Mount>>,
    /// Absolute paths of folders that are writable and empty at each start.
    #[serde(default)]
    pub scratch: Vec<Text>,
    /// How large each of them may grow, such as `64M`, which it is unless stated.
    #[serde(default)]
    pub scratch_size: Option<Text>,
    /// Passwords that it gets as files `/keys/NAME`.
    #[serde(default)]
    pub secrets: Vec<Text>,
    /// Certificates that it gets as files `/keys/AUTHORITY-server.crt` and `.key`, or `-client`.
    #[serde(default)]
    pub certificates: Vec<Placed<Certificate>>,
    /// Authorities whose certificate it gets as the file `/keys/AUTHORITY-ca.crt`, to check others.
    #[serde(default)]
    pub trusts: Vec<Text>,
    /// Ports that are reachable from outside the stack.
    #[serde(default)]
    pub publish: Vec<Placed<Publish>>,
    /// Whether it asks everybody who they are before it answers anything.
    #[serde(default)]
    pub authenticates: bool,
    /// Why it may reach the world outside; absent, it reaches nothing but what it `uses`.
    #[serde(default)]
    pub reaches_outside: Option<Text>,
    /// Rights of root that it keeps; none unless stated.
    #[serde(default)]
    pub capabilities: Vec<Placed<Capability>>,
    /// The most memory it gets, such as `512M`, which it is unless stated.
    #[serde(default)]
    pub memory: Option<Text>,
    /// The most processes and threads it has; 256 unless stated.
    #[serde(default)]
    pub pids: Option<Placed<u32>>,
    /// How long it may take to end; `30s` unless stated.
    #[serde(default)]
    pub stop_grace: Option<Text>,
}

/// A volume in a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mount {
    /// The volume.
    pub volume: Text,
    /// The absolute path in the image, where a folder with the right owner and mode must be.
    pub at: Text,
    /// Whether the service may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A certificate with its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    /// The authority that signs it.
    pub authority: Text,
    /// What it is good for.
    #[serde(rename = "as")]
    pub role: super::Role,
    /// Names and IP addresses of a server, beside the service's own.
    #[serde(default)]
    pub names: Vec<Text>,
    /// The common name; the service's name unless stated.
    #[serde(default)]
    pub common_name: Option<Text>,
}

/// A port that is reachable from outside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    /// The port in the container.
    pub port: Placed<u16>,
    /// The port outside: a number, or `${name}` of a parameter of the kind `port`. The same unless stated.
    #[serde(default, rename = "as")]
    pub outside: Option<Placed<NumberOrText>>,
    /// The machine's address: an IPv4 address, or `${name}` of a parameter of the kind `address`; `127.0.0.1` unless stated.
    #[serde(default)]
    pub address: Option<Text>,
}

/// A right of root that is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Capability {
    /// Its name without `CAP_`, such as `NET_BIND_SERVICE`.
    pub add: Text,
    /// Why it cannot do without.
    #[serde(default)]
    pub reason: Option<Text>,
}

/// How a person gets in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The name to give, perhaps with `${name}`.
    pub user: Text,
    /// The secret that is the password.
    pub secret: Text,
    /// A service that gets this secret.
    pub service: Text,
    /// The address to open, perhaps with `${name}`.
    pub url: Text,
}

/// One file of a backup: a `service` with `save` and `restore`, or a `volume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    /// The file's name.
    pub file: Text,
    /// The service in which the commands run.
    #[serde(default)]
    pub service: Option<Text>,
    /// The command that prints the file.
    #[serde(default)]
    pub save: Option<Placed<Vec<Text>>>,
    /// The command that reads it back on its standard input.
    #[serde(default)]
    pub restore: Option<Placed<Vec<Text>>>,
    /// The volume that the file is made from.
    #[serde(default)]
    pub volume: Option<Text>,
}

/// How visitors are told that the site is being worked on, and how the page is asked for meanwhile.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Maintenance {
    /// The service that answers visitors. It must keep the notice in a volume, so that it outlives its containers.
    pub service: Text,
    /// The command, in a container of its own with the service's volumes, after which visitors read a notice.
    pub begin: Placed<Vec<Text>>,
    /// The command likewise, after which they get in again.
    pub end: Placed<Vec<Text>>,
    /// The command, in the service's own container, that asks for the page past the notice. It gets the name and the password of
    /// `login` as two lines on its standard input, and prints `good`, or `refused` where these are not good any more; or it fails.
    #[serde(default)]
    pub check: Option<Placed<Vec<Text>>>,
}
