//! What a bundle says of itself: `bundle.json`, read as something that anybody may have written.
//!
//! ```json
//! {"format":1,"name":"…","version":"…","platform":"linux/amd64","description":"…",
//!  "images":[{"name":"httpd","variable":"PARVIS_IMAGE_HTTPD","reference":"REPO:TAG","manifest":"sha256:…","config":"sha256:…","size":1}],
//!  "services":[{"name":"db","kind":"service","when":null,"image":"db","health":true,"after":["selfkeys"]}],
//!  "volumes":[{"name":"database","kind":"data","description":"…"}],
//!  "parameters":[{"name":"port","variable":"PORT","kind":"port","default":"8443","question":{"en":"…","fr":"…"}}],
//!  "publish":[{"service":"proxy","port":443,"variable":"PORT","default":8443,"address":"127.0.0.1"}],
//!  "login":{"url":"https://${SERVER_NAME}:${PORT}/","user":"${ADMIN_NAME}","service":"init","command":["cat","/keys/site-admin"]},
//!  "backup":[{"file":"database.sql","service":"tools","save":["…"],"restore":["…"]},
//!            {"file":"files.tar","volume":"files","service":"tools","at":"/var/lib/files"}],
//!  "files":{"compose.yaml":"…","README.md":"…"}}
//! ```
//!
//! `files` lists every file of the folder but `bundle.json` itself and `.env`, which belongs to the user.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::image::canonical::{self, JsonError};
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::name::{ImageName, PartName, Tag, VariableName, is_ipv4};
use crate::model::problem::shown;

use crate::model::stack::is_reserved;

pub use crate::model::stack::{ParameterKind, Question, When};

/// The number of the format.
pub const FORMAT: u32 = 1;

/// The file's name in a bundle.
pub const MANIFEST: &str = "bundle.json";

/// The file that compose reads.
pub const COMPOSE: &str = "compose.yaml";

/// The file with the settings.
pub const SETTINGS: &str = ".env";

/// The archive of the images, where they travel along.
pub const ARCHIVE: &str = "images.tar";

/// How a release is checked, in words.
pub const VERIFY: &str = "VERIFY.txt";

/// What people are told of a release.
pub const NOTES: [&str; 2] = ["NOTES.md", "NOTES.fr.md"];

/// The signed statement on the release, and the keyring that says which keys may sign one.
pub const STATEMENT: [&str; 2] = [crate::trust::release::FILE, crate::trust::keyring::FILE];

/// Whether a file may stand beside those of a bundle when it comes from a release.
#[must_use]
pub fn is_of_release(name: &str) -> bool {
    name == VERIFY || NOTES.contains(&name) || STATEMENT.contains(&name)
}

/// Items that each list has at most.
const MOST: usize = 500;

/// Bytes of a text at most.
const LONGEST: usize = 4000;

/// A bundle's description of itself that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("`{MANIFEST}` cannot be read")]
    Json(#[from] JsonError),
    #[error("`{MANIFEST}` has another shape than a bundle's")]
    Shape(#[from] serde_json::Error),
    #[error("`{MANIFEST}` has the format {found}; this parvis reads {FORMAT}")]
    Format { found: u64 },
    #[error("`{MANIFEST}` contradicts itself: {0}")]
    Contradiction(String),
}

impl ManifestError {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Format { found } if *found > u64::from(FORMAT) => "take a newer parvis".into(),
            _ => format!("do not edit `{MANIFEST}`; download the bundle again, or make it with `parvis bundle compose`"),
        }
    }
}

/// An image of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledImage {
    pub name: ImageName,
    /// The variable in `.env` that says which image the services run.
    pub variable: VariableName,
    /// `REPOSITORY:TAG`, as the archive names the image.
    pub reference: String,
    pub manifest: BlobDigest,
    pub config: BlobDigest,
    /// Bytes of all its blobs.
    pub size: u64,
}

/// Whether a part of the stack stays or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// It stays.
    Service,
    /// It ends, and its exit code says how.
    Job,
}

/// A service or job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledService {
    pub name: PartName,
    pub kind: ServiceKind,
    /// For jobs.
    pub when: Option<When>,
    pub image: ImageName,
    /// Whether its image has a health check.
    pub health: bool,
    /// What must be healthy, or have ended well, before it starts.
    pub after: Vec<PartName>,
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// What people entered.
    Data,
    /// The keys and passwords of one service.
    Keys,
}

/// A volume, by its name in the compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledVolume {
    pub name: PartName,
    pub kind: VolumeKind,
    pub description: String,
}

/// What a user may set in `.env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledParameter {
    pub name: PartName,
    pub variable: VariableName,
    pub kind: ParameterKind,
    pub default: String,
    pub question: Question,
}

/// A port that is reachable from outside the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub service: PartName,
    /// The port inside.
    pub port: u16,
    /// The variable of the port outside; absent where it cannot be changed.
    pub variable: Option<VariableName>,
    /// The port outside, unless changed.
    pub default: u16,
    /// The address it is bound to: an IPv4 address, or `${VARIABLE}`.
    pub address: String,
}

/// How a person gets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address to open, with `${VARIABLE}` for values of `.env`.
    pub url: String,
    /// The name, with `${VARIABLE}` likewise.
    pub user: String,
    /// The service that can read the password.
    pub service: PartName,
    /// Program and arguments that print it there.
    pub command: Vec<String>,
}

/// How visitors are told that the site is being worked on, and how the page is asked for meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// The service that answers visitors.
    pub service: PartName,
    /// Program and arguments, in a container of its own beside the service, after which visitors read a notice.
    pub begin: Vec<String>,
    /// Program and arguments likewise, after which they get in again.
    pub end: Vec<String>,
    /// Program and arguments, in the service's own container, that ask for the page past the notice. They get the name and the
    /// password of the first log-in as two lines, and say `good`, or `refused` where these are not good any more; or they fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Vec<String>>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBackup", into = "RawBackup")]
pub enum Backup {
    /// What a command prints; another takes it back on its standard input.
    Command { file: String, service: PartName, save: Vec<String>, restore: Vec<String> },
    /// The content of a volume, with a service that has it and the path there.
    Volume { file: String, volume: PartName, service: PartName, at: String },
}

impl Backup {
    /// Returns the file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Command { file, .. } | Self::Volume { file, .. } => file,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackup {
    file: String,
    service: PartName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    save: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restore: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<PartName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl TryFrom<RawBackup> for Backup {
    type Error = String;

    fn try_from(raw: RawBackup) -> Result<Self, String> {
        let RawBackup { file, service, .. } = raw;
        match (raw.save, raw.restore, raw.volume, raw.at) {
            (Some(save), Some(restore), None, None) => Ok(Self::Command { file, service, save, restore }),
            (None, None, Some(volume), Some(at)) => Ok(Self::Volume { file, volume, service, at }),
            _ => Err("a backup has either `save` and `restore`, or `volume` and `at`".into()),
        }
    }
}

impl From<Backup> for RawBackup {
    fn from(backup: Backup) -> Self {
        match backup {
            Backup::Command { file, service, save, restore } => {
                Self { file, service, save: Some(save), restore: Some(restore), volume: None, at: None }
            }
            Backup::Volume { file, volume, service, at } => {
                Self { file, service, save: None, restore: None, volume: Some(volume), at: Some(at) }
            }
        }
    }
}

/// What a bundle says of itself, before it was held against itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    pub format: u32,
    /// The stack's name, which is also that of the compose project.
    pub name: PartName,
    pub version: Tag,
    /// `linux/amd64` and the like, as OCI has it.
    pub platform: String,
    pub description: String,
    pub images: Vec<BundledImage>,
    /// In start order: each after what it waits for.
    pub services: Vec<BundledService>,
    pub volumes: Vec<BundledVolume>,
    pub parameters: Vec<BundledParameter>,
    pub publish: Vec<Published>,
    pub login: Option<Login>,
    pub backup: Vec<Backup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// The sha256 of each file, by name.
    pub files: BTreeMap<String, FileDigest>,
}

/// What a bundle says of itself: every name in it stands for something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest(Contents);

impl Deref for Manifest {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.0
    }
}

impl Manifest {
    /// Checks what a bundle says of itself.
    ///
    /// # Errors
    /// Says which two statements do not fit, or which one cannot be true.
    pub fn new(contents: Contents) -> Result<Self, ManifestError> {
        contents.check().map_err(ManifestError::Contradiction)?;
        Ok(Self(contents))
    }

    /// Reads `bundle.json`.
    ///
    /// # Errors
    /// Refuses other formats, unknown and doubled keys, control characters, names that are paths or options, and what
    /// contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let value = canonical::read(bytes)?;
        if let Some(found) = value.get("format").and_then(serde_json::Value::as_u64).filter(|format| *format != u64::from(FORMAT))
        {
            return Err(ManifestError::Format { found });
        }
        Self::new(serde_json::from_value(value)?)
    }

    /// Returns the bytes of `bundle.json`: the one form of its JSON, and a line end.
    ///
    /// # Errors
    /// Never, as long as the value holds no fractions; it does not.
    pub fn render(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = canonical::to_bytes(&serde_json::to_value(&self.0)?)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Returns a service by name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&BundledService> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }

    /// Returns what must run, or have ended well, so that a program of this service can do its work; the service itself is left out.
    #[must_use]
    pub fn needed(&self, name: &str) -> Vec<&str> {
        let after = |name: &str| self.service(name).map(|service| &service.after[..]).unwrap_or_default();
        let mut found: Vec<&str> = Vec::new();
        let mut open: Vec<&PartName> = after(name).iter().collect();
        while let Some(name) = open.pop() {
            if !found.contains(&name.as_str()) {
                found.push(name.as_str());
                open.extend(after(name.as_str()));
            }
        }
        found
    }

    /// Returns an image by name.
    #[must_use]
    pub fn image(&self, name: &ImageName) -> Option<&BundledImage> {
        self.images.iter().find(|image| image.name == *name)
    }
}

impl Contents {
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format {} is not {FORMAT}", self.format));
        }
        let (os, architecture) = self.platform.split_once('/').unwrap_or_default();
        if os != "linux"
            || architecture.is_empty()
            || !architecture.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return Err(format!("`{}` is not a platform", shown(&self.platform)));
        }
        text(&self.description)?;
        let lengths = [self.images.len(), self.services.len(), self.volumes.len(), self.parameters.len(), self.publish.len()];
        if lengths.into_iter().chain([self.backup.len(), self.files.len()]).any(|length| length > MOST) {
            return Err(format!("it lists more than {MOST} things of a kind"));
        }
        let variables = self.variables()?;
        self.check_services()?;
        unique("volume", self.volumes.iter().map(|volume| volume.name.as_str()))?;
        self.volumes.iter().try_for_each(|volume| text(&volume.description))?;
        self.check_outside(&variables)?;
        self.check_backup()?;
        self.check_maintenance()?;
        self.check_files()
    }

    /// Returns the first setting with which something else would be started than the bundle has: another image, or another compose file or
    /// engine, whose names compose takes from `.env` as well. All others are the user's.
    #[must_use]
    pub fn misled_by<'a>(&self, settings: &'a Settings) -> Option<(&'a str, &'a str)> {
        let value = |name: &'a str| settings.get(name).map(|value| (name, value));
        settings.names().filter_map(value).find(|(name, value)| {
            let leads = ["COMPOSE_", "DOCKER_", "CONTAINER_", "PODMAN_"].iter().any(|prefix| name.starts_with(prefix));
            let is_own = |image: &BundledImage| {
                *value == image.reference || [image.config, image.manifest].iter().any(|digest| digest.to_string() == *value)
            };
            let image = self.images.iter().find(|image| image.variable.as_str() == *name);
            image.map_or(leads && *name != "COMPOSE_PROJECT_NAME", |image| !is_own(image))
        })
    }

    /// Returns the variables of the parameters.
    fn variables(&self) -> Result<BTreeSet<&str>, String> {
        unique("image", self.images.iter().map(|image| image.name.as_str()))?;
        unique("parameter", self.parameters.iter().map(|parameter| parameter.name.as_str()))?;
        let all = self.images.iter().map(|image| image.variable.as_str());
        let all: Vec<&str> = all.chain(self.parameters.iter().map(|parameter| parameter.variable.as_str())).collect();
        unique("variable", all.iter().copied())?;
        for image in &self.images {
            if !is_reference(&image.reference) {
                return Err(format!("`{}` is not a name with a tag", shown(&image.reference)));
            }
            if !image.variable.as_str().starts_with("PARVIS_IMAGE_") {
                return Err(format!("the variable `{}` cannot be that of an image", image.variable));
            }
        }
        for parameter in &self.parameters {
            // Compose, docker and the shell would take these for themselves.
            let name = parameter.variable.as_str();
            if is_reserved(name) {
                return Err(format!("the variable `{name}` is not a parameter's"));
            }
            let Question { en, fr } = &parameter.question;
            [en, fr, &parameter.default].into_iter().try_for_each(|words| text(words))?;
        }
        Ok(self.parameters.iter().map(|parameter| parameter.variable.as_str()).collect())
    }

    fn check_services(&self) -> Result<(), String> {
        unique("service", self.services.iter().map(|service| service.name.as_str()))?;
        let mut before: BTreeSet<&PartName> = BTreeSet::new();
        for service in &self.services {
            if !self.images.iter().any(|image| image.name == service.image) {
                return Err(format!("`{}` runs `{}`, which is not among the images", service.name, service.image));
            }
            if service.when.is_some() != (service.kind == ServiceKind::Job) {
                return Err(format!("`{}` is either a job with `when`, or a service without", service.name));
            }
            if let Some(other) = service.after.iter().find(|other| !before.contains(other)) {
                return Err(format!("`{}` waits for `{other}`, which does not stand before it", service.name));
            }
            before.insert(&service.name);
        }
        Ok(())
    }

    fn known_service(&self, name: &PartName) -> Result<(), String> {
        let known = self.services.iter().any(|service| service.name == *name);
        if known { Ok(()) } else { Err(format!("`{name}` is not among the services")) }
    }

    fn check_outside(&self, variables: &BTreeSet<&str>) -> Result<(), String> {
        for published in &self.publish {
            self.known_service(&published.service)?;
            if published.port == 0 || published.default == 0 {
                return Err(format!("`{}` publishes the port 0", published.service));
            }
            if let Some(variable) = published.variable.as_ref().filter(|name| !variables.contains(name.as_str())) {
                return Err(format!("`{variable}` is not among the parameters"));
            }
            if !is_ipv4(&published.address) {
                let name = published.address.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
                if name.is_none_or(|name| !variables.contains(name)) {
                    return Err(format!("`{}` is not an address", shown(&published.address)));
                }
            }
        }
        let Some(login) = &self.login else { return Ok(()) };
        self.known_service(&login.service)?;
        command(&login.command)?;
        if !login.url.starts_with("https://") && !login.url.starts_with("http://") {
            return Err(format!("`{}` is not the address of a page", shown(&login.url)));
        }
        template(&login.url, variables)?;
        template(&login.user, variables)
    }

    fn check_backup(&self) -> Result<(), String> {
        unique("file", self.backup.iter().map(Backup::file))?;
        for item in &self.backup {
            if !is_plain(item.file()) {
                return Err(format!("`{}` is not the name of a file", shown(item.file())));
            }
            match item {
                Backup::Command { service, save, restore, .. } => {
                    self.known_service(service)?;
                    command(save)?;
                    command(restore)?;
                }
                Backup::Volume { volume, service, at, .. } => {
                    self.known_service(service)?;
                    if !self.volumes.iter().any(|known| known.name == *volume) {
                        return Err(format!("`{volume}` is not among the volumes"));
                    }
                    text(at)?;
                    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
                    if !at.strip_prefix('/').is_some_and(|path| path.split('/').all(plain)) {
                        return Err(format!("`{}` is not an absolute path", shown(at)));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_maintenance(&self) -> Result<(), String> {
        let Some(Maintenance { service, begin, end, check }) = &self.maintenance else { return Ok(()) };
        self.known_service(service)?;
        [Some(begin), Some(end), check.as_ref()].into_iter().flatten().try_for_each(|words| command(words))
    }

    fn check_files(&self) -> Result<(), String> {
        if let Some(name) = self.files.keys().find(|name| !is_plain(name) || *name == MANIFEST) {
            return Err(format!("`{}` is not the name of a file of it", shown(name)));
        }
        if self.files.contains_key(COMPOSE) { Ok(()) } else { Err(format!("`{COMPOSE}` is not among the files")) }
    }
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("the {kind} `{}` stands there twice", shown(name)));
        }
    }
    Ok(())
}

/// Checks a text that a person reads, or a program takes as one argument.
fn text(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("a text has more than {LONGEST} bytes"));
    }
    // `shown` changes what could move a cursor or turn the writing round, and cuts what is long.
    let part: String = text.chars().take(LONGEST).collect();
    let hidden = part.chars().find(|character| shown(&character.to_string()) != character.to_string());
    hidden.map_or(Ok(()), |character| Err(format!("the character U+{:04X} stands in a text", u32::from(character))))
}

fn command(words: &[String]) -> Result<(), String> {
    if words.first().is_none_or(|program| program.is_empty() || program.starts_with('-')) || words.len() > MOST {
        return Err("a command has no program".into());
    }
    // A script among the arguments may have several lines.
    let lines = words.iter().flat_map(|word| word.split(['\n', '\t']));
    lines.into_iter().try_for_each(text)
}

/// Checks a text with `${VARIABLE}` in it.
fn template(words: &str, variables: &BTreeSet<&str>) -> Result<(), String> {
    text(words)?;
    let mut parts = words.split('$');
    parts.next();
    for part in parts {
        let name = part.strip_prefix('{').and_then(|part| part.split_once('}')).map(|(name, _)| name);
        if name.is_none_or(|name| !variables.contains(name)) {
            return Err(format!("`{}` refers to something that is not among the parameters", shown(words)));
        }
    }
    Ok(())
}

/// Whether a name is that of one file in no folder, and no option of a program.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=100).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// Whether a text is `REPOSITORY:TAG` (OCI distribution-spec 1.1; the first part may be a host with a port).
#[must_use]
pub fn is_reference(text: &str) -> bool {
    let Some((repository, tag)) = text.rsplit_once(':') else { return false };
    let component = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner)
    };
    let host = |part: &str| {
        let (name, port) = part.rsplit_once(':').unwrap_or((part, "1"));
        component(name) && port.parse::<u16>().is_ok()
    };
    let (first, rest) = repository.split_once('/').map_or((None, repository), |(first, rest)| (Some(first), rest));
    text.len() <= 400 && tag.parse::<Tag>().is_ok() && first.is_none_or(host) && rest.split('/').all(component)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A bundle of one service that waits for one job.
    pub fn sample() -> Contents {
        let digest = BlobDigest::of(b"x");
        let part = |name: &str| name.parse::<PartName>().unwrap();
        let image = |name: &str| BundledImage {
            name: name.parse().unwrap(),
            variable: format!("PARVIS_IMAGE_{}", name.to_uppercase()).parse().unwrap(),
            reference: format!("example.org:5000/parish/{name}:1.4.0"),
            manifest: digest,
            config: digest,
            size: 10,
        };
        let service = |name: &str, kind, when, after: &[&str]| BundledService {
            name: part(name),
            kind,
            when,
            image: name.parse().unwrap(),
            health: true,
            after: after.iter().map(|name| part(name)).collect(),
        };
        let parameter = |name: &str, kind, default: &str| BundledParameter {
            name: part(name),
            variable: part(name).variable(),
            kind,
            default: default.into(),
            question: Question { en: "Which?".into(), fr: "Lequel ?".into() },
        };
        Contents {
            format: FORMAT,
            name: part("parish"),
            version: "1.4.0".parse().unwrap(),
            platform: "linux/amd64".into(),
            description: "A parish’s site.".into(),
            images: vec![image("init"), image("web")],
            services: vec![
                service("init", ServiceKind::Job, Some(When::Install), &[]),
                service("web", ServiceKind::Service, None, &["init"]),
            ],
            volumes: vec![BundledVolume { name: part("files"), kind: VolumeKind::Data, description: "Photos.".into() }],
            parameters: vec![
                parameter("server-name", ParameterKind::Host, "localhost"),
                parameter("port", ParameterKind::Port, "8443"),
            ],
            publish: vec![Published {
                service: part("web"),
                port: 443,
                variable: Some("PORT".parse().unwrap()),
                default: 8443,
                address: "127.0.0.1".into(),
            }],
            login: Some(Login {
                url: "https://${SERVER_NAME}:${PORT}/".into(),
                user: "admin".into(),
                service: part("init"),
                command: vec!["cat".into(), "/keys/site-admin".into()],
            }),
            backup: vec![
                Backup::Command {
                    file: "database.sql".into(),
                    service: part("init"),
                    save: vec!["dump".into()],
                    restore: vec!["restore".into()],
                },
                Backup::Volume {
                    file: "files.tar".into(),
                    volume: part("files"),
                    service: part("web"),
                    at: "/var/lib/files".into(),
                },
            ],
            maintenance: Some(Maintenance {
                service: part("web"),
                begin: vec!["notice".into(), "on".into()],
                end: vec!["notice".into(), "off".into()],
                check: Some(vec!["ask".into()]),
            }),
            files: BTreeMap::from([(COMPOSE.to_owned(), FileDigest::of(b"services:"))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::testing::sample;
    use super::*;

    #[test]
    fn settings_that_start_something_else_are_found() {
        let bundle = sample();
        let misled = |text: &str| {
            let settings = Settings::parse(text).unwrap();
            bundle.misled_by(&settings).map(|(name, value)| format!("{name}={value}"))
        };
        let own = BlobDigest::of(b"x");
        for harmless in [
            "PORT=1\nOTHER=2\nCOMPOSE_PROJECT_NAME=mine\nCOMPOSE_FILE=\n".to_owned(),
            format!("PARVIS_IMAGE_WEB={own}\nPARVIS_IMAGE_INIT=example.org:5000/parish/init:1.4.0\n"),
        ] {
            assert_eq!(misled(&harmless), None, "{harmless}");
        }
        for bad in [
            "COMPOSE_FILE=other.yaml",
            "DOCKER_HOST=tcp://other.example",
            "PARVIS_IMAGE_WEB=example.org:5000/parish/init:1.4.0",
            "PARVIS_IMAGE_WEB=other.example/web:1.4.0",
            "PARVIS_IMAGE_INIT=sha256:ab",
        ] {
            assert_eq!(misled(&format!("PORT=1\n{bad}\n")).as_deref(), Some(bad));
        }
    }

    #[test]
    fn what_is_written_reads_back_and_has_one_form() {
        let manifest = Manifest::new(sample()).unwrap();
        let bytes = manifest.render().unwrap();
        let again = Manifest::parse(&bytes).unwrap();
        assert_eq!(again, manifest);
        assert_eq!(again.render().unwrap(), bytes);
        let pretty = serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(&bytes).unwrap()).unwrap();
        assert_eq!(Manifest::parse(&pretty).unwrap().render().unwrap(), bytes);
        assert_eq!(manifest.service("web").unwrap().after[0].as_str(), "init");
    }

    /// Returns what is said of a manifest in which one place has another value.
    fn changed(place: &str, value: Value) -> String {
        let mut document = serde_json::to_value(sample()).unwrap();
        if let Some(slot) = document.pointer_mut(place) {
            *slot = value;
        } else {
            let (parent, key) = place.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        }
        let error = Manifest::parse(&serde_json::to_vec(&document).unwrap()).expect_err(place);
        let because = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {because}")
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let cases = [
            ("/format", json!(2), "has the format 2; this parvis reads 1"),
            ("/wombat", json!(1), "unknown field `wombat`"),
            ("/images/0/wombat", json!(1), "unknown field `wombat`"),
            ("/platform", json!("windows/amd64"), "`windows/amd64` is not a platform"),
            ("/description", json!("a\u{1b}[2J"), "the character U+001B stands in a text"),
            ("/images/0/name", json!("web"), "the image `web` stands there twice"),
            ("/images/0/variable", json!("PATH"), "the variable `PATH` cannot be that of an image"),
            ("/images/0/variable", json!("PARVIS_IMAGE_WEB"), "the variable `PARVIS_IMAGE_WEB` stands there twice"),
            ("/images/0/reference", json!("--privileged"), "`--privileged` is not a name with a tag"),
            ("/images/0/reference", json!("web"), "`web` is not a name with a tag"),
            ("/images/0/reference", json!("../web:1"), "`../web:1` is not a name with a tag"),
            ("/images/0/manifest", json!("sha256:../../x"), "is not a sha256 digest"),
            ("/services/0/name", json!("../x"), "`../x` is not a name in a stack"),
            ("/services/0/image", json!("other"), "`init` runs `other`, which is not among the images"),
            ("/services/0/when", json!(null), "`init` is either a job with `when`, or a service without"),
            ("/services/0/after", json!(["web"]), "`init` waits for `web`, which does not stand before it"),
            ("/services/1/after", json!(["web"]), "`web` waits for `web`, which does not stand before it"),
            ("/parameters/0/variable", json!("COMPOSE_FILE"), "the variable `COMPOSE_FILE` is not a parameter's"),
            ("/parameters/0/variable", json!("HTTPS_PROXY"), "the variable `HTTPS_PROXY` is not a parameter's"),
            ("/parameters/0/default", json!("a\nb"), "the character U+000A stands in a text"),
            ("/publish/0/service", json!("other"), "`other` is not among the services"),
            ("/publish/0/port", json!(0), "publishes the port 0"),
            ("/publish/0/variable", json!("OTHER"), "`OTHER` is not among the parameters"),
            ("/publish/0/address", json!("127.0.0.1 -v /:/host"), "is not an address"),
            ("/publish/0/address", json!("${OTHER}"), "is not an address"),
            ("/login/url", json!("javascript:alert(1)"), "is not the address of a page"),
            ("/login/url", json!("https://${HOME}/"), "refers to something that is not among the parameters"),
            ("/login/url", json!("https://$PORT/"), "refers to something that is not among the parameters"),
            ("/login/service", json!("other"), "`other` is not among the services"),
            ("/login/command", json!([]), "a command has no program"),
            ("/login/command", json!(["--rm"]), "a command has no program"),
            ("/backup/0/file", json!("../database.sql"), "`../database.sql` is not the name of a file"),
            ("/backup/0/file", json!("files.tar"), "the file `files.tar` stands there twice"),
            ("/backup/0/restore", json!(null), "a backup has either"),
            ("/backup/1/volume", json!("other"), "`other` is not among the volumes"),
            ("/backup/1/at", json!("/a/../b"), "is not an absolute path"),
            ("/maintenance/service", json!("other"), "`other` is not among the services"),
            ("/maintenance/begin", json!(["-c", "x"]), "a command has no program"),
            ("/maintenance/check", json!(["a\u{1b}"]), "the character U+001B stands in a text"),
            ("/files/..", json!(FileDigest::of(b"x")), "`..` is not the name of a file of it"),
            ("/files", json!({}), "`compose.yaml` is not among the files"),
            ("/volumes/0/description", json!("x".repeat(5000)), "a text has more than 4000 bytes"),
        ];
        for (place, value, expected) in cases {
            let said = changed(place, value.clone());
            assert!(said.contains(expected), "{place} = {value}: {said}");
        }
    }

    #[test]
    fn a_doubled_key_is_refused() {
        let text = String::from_utf8(Manifest::new(sample()).unwrap().render().unwrap()).unwrap();
        let doubled = text.replacen("\"format\":1", "\"format\":1,\"format\":1", 1);
        assert!(matches!(Manifest::parse(doubled.as_bytes()), Err(ManifestError::Json(JsonError::Syntax(_)))));
    }
}
