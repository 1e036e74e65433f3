//! The project: what `parvis.yaml` declares for all images, with every default put in.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::gates::{self, Gates, RawGates};
use super::name::{Architecture, ImageName, InvalidName, Suite};
use super::problem::{Problem, Source, shown};
use super::recipe::parse::is_variable;
use super::tree::TreePath;
use super::yaml::{self, Placed};

/// How old the Release file of a security suite may be: it is signed anew at least every week.
const SECURITY_DAYS: u32 = 30;

/// How old the Release file of another suite may be.
///
/// A stable suite is signed anew only with a point release, and has no `Valid-Until`. Those come about every two months, with gaps of
/// up to five months seen; 200 days leave room for such a gap and still notice a mirror that stands still.
const STABLE_DAYS: u32 = 200;

/// The number of layers of package groups that an image may have.
const LAYER_BUDGET: u32 = 12;

/// One suite that packages may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteRule {
    pub line: u32,
    /// The folder under `dists/`.
    pub name: Suite,
    /// The archive it belongs to, a key of `mirrors`: `debian`, `debian-security`.
    pub archive: String,
    /// The parts of the suite that are read; `main` unless stated.
    pub components: Vec<String>,
    /// Whether what it holds are security fixes.
    pub security: bool,
    /// Days after which its Release file is too old, whatever its own `Valid-Until` says.
    pub max_age_days: u32,
    /// The last day on which somebody mends what it holds, where that is stated. No file of an archive says it.
    pub support_until: Option<jiff::civil::Date>,
    /// Fingerprints of the keys that may sign it, 40 capital hexadecimal digits; the project's keys unless stated.
    pub keys: Vec<String>,
}

impl SuiteRule {
    /// Returns the last day of its support and how many days are left until then, below 0 where it is over; nothing where none is stated.
    #[must_use]
    pub fn support(&self, today: jiff::civil::Date) -> Option<(jiff::civil::Date, i64)> {
        let until = self.support_until?;
        Some((until, today.until(until).map_or(0, |span| i64::from(span.get_days()))))
    }
}

/// How the blobs of layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Read by every engine.
    #[default]
    Gzip,
    /// Smaller and faster; Docker 20.10 cannot load it.
    Zstd,
}

/// How images are cut into layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRule {
    /// How many layers of package groups an image may have.
    pub budget: u32,
    pub compression: Compression,
}

/// Where Composer's packages are described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repository {
    /// A folder below the project's, with packages.json.
    Folder(TreePath),
    /// The address of a repository, without packages.json and without a slash at its end.
    Address(String),
}

/// How long the statement of a release is good, where the project does not say: a year, and a month to be late.
const VALID_DAYS: u32 = 400;

/// A tag that floats with releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FloatingTag {
    /// `X.Y`: the newest `X.Y.*`.
    Minor,
    /// `X`: the newest `X.*`.
    Major,
    /// `latest`: the newest of all.
    Latest,
}

/// How releases are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRule {
    /// The tags that float with releases.
    pub tags: BTreeSet<FloatingTag>,
    /// Days after which the statement of a release is too old to be believed: what hides newer releases hides them no longer than this.
    pub valid_days: u32,
}

/// A key of `parvis.yaml` that tells how somebody's network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrivateKey {
    Registry,
    Mirrors,
}

impl PrivateKey {
    /// Returns the key's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Mirrors => "mirrors",
        }
    }
}

/// What of the project is published with its versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceRule {
    /// Files and folders that stay at home.
    pub without: Vec<TreePath>,
    /// Keys that are taken out of `parvis.yaml`.
    pub keys: BTreeSet<PrivateKey>,
    /// Addresses that look private and are not.
    pub allow: BTreeSet<String>,
}

/// A set of values for the variables that recipes use, and where its PHP packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    pub variables: BTreeMap<String, String>,
    /// Most wanted first.
    pub repositories: Vec<Repository>,
}

/// What `parvis.yaml` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The name of the set of images.
    pub name: ImageName,
    pub description: String,
    /// Where images are pushed: host, perhaps port, perhaps path; no scheme.
    pub registry: Option<String>,
    /// In the order of the file; at least one.
    pub suites: Vec<SuiteRule>,
    /// Addresses of each archive, most wanted first; empty where the environment, an option or the host names them.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// At least one; `amd64` unless stated.
    pub architectures: Vec<Architecture>,
    /// The file with the archive keys, below the project's folder.
    pub keyring: TreePath,
    /// Fingerprints of the keys that may sign a suite, 40 capital hexadecimal digits.
    pub keys: Vec<String>,
    pub profiles: BTreeMap<String, Profile>,
    /// The profile that is taken where none is asked for.
    pub default_profile: Option<String>,
    pub layers: LayerRule,
    pub releases: ReleaseRule,
    /// What `parvis publish-source` publishes.
    pub source: SourceRule,
    /// What an image must be like before it is handed to others.
    pub gates: Gates,
}

/// What all images of a project share: where packages come from, whom to trust, and which values recipes get.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "parvis project", rename = "Project")]
struct RawProject {
    /// The name of the set of images.
    name: Placed<String>,
    /// What the images are for.
    description: Placed<String>,
    /// Where images are pushed: host, perhaps port and path, without a scheme.
    #[serde(default)]
    registry: Option<Placed<String>>,
    /// The suites that packages come from.
    suites: Placed<Vec<Placed<RawSuite>>>,
    /// Addresses of each archive, most wanted first. Without them they come from the command line, the environment or the host's apt.
    #[serde(default)]
    mirrors: BTreeMap<String, Vec<Placed<String>>>,
    /// The architectures that images are built for; `amd64` unless stated.
    #[serde(default)]
    architectures: Vec<Placed<String>>,
    /// The file with the archive keys, below the project's folder.
    keyring: Placed<String>,
    /// Fingerprints of the keys that may sign a suite.
    keys: Placed<Vec<Placed<String>>>,
    /// Sets of values for the variables that recipes use.
    #[serde(default)]
    profiles: BTreeMap<String, Placed<RawProfile>>,
    /// The profile that is taken where none is asked for; the only one, where there is only one.
    #[serde(default)]
    default_profile: Option<Placed<String>>,
    /// How images are cut into layers.
    #[serde(default)]
    layers: Option<Placed<RawLayers>>,
    /// How releases are made.
    #[serde(default)]
    releases: Option<RawReleases>,
    /// What `parvis publish-source` leaves out.
    #[serde(default)]
    source: Option<RawSource>,
    /// What an image must be like before it is pushed.
    #[serde(default)]
    gates: Option<RawGates>,
}

/// One suite that packages may come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Suite")]
struct RawSuite {
    /// The folder under `dists/`, such as `trixie-security`.
    name: Placed<String>,
    /// The archive it belongs to: `debian` or `debian-security`.
    archive: Placed<String>,
    /// The parts of the suite that are read; `main` unless stated.
    #[serde(default)]
    components: Vec<Placed<String>>,
    /// Whether what it holds are security fixes.
    #[serde(default)]
    security: bool,
    /// Days after which its Release file is too old; 30 for security, 200 for others unless stated.
    #[serde(default)]
    max_age_days: Option<Placed<u32>>,
    /// The last day on which it gets security fixes, such as 2028-08-09: `parvis gate` warns half a year before, and refuses after.
    #[serde(default)]
    support_until: Option<Placed<String>>,
    /// Fingerprints of the keys that may sign it; the project's keys unless stated.
    #[serde(default)]
    keys: Vec<Placed<String>>,
}

/// A set of values for variables.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Profile")]
struct RawProfile {
    /// The values that `${name}` stands for in recipes.
    #[serde(default)]
    variables: BTreeMap<String, Placed<String>>,
    /// Where Composer's packages come from.
    #[serde(default)]
    composer: Option<RawComposer>,
}

/// Where Composer's packages come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Composer")]
struct RawComposer {
    /// Repositories, most wanted first. `parvis lock` asks them where composer.lock is missing; a build asks nobody.
    repositories: Vec<Placed<RawRepository>>,
}

/// A repository of Composer packages: either `path` or `url`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Repository")]
struct RawRepository {
    /// A folder of the project, with packages.json.
    #[serde(default)]
    path: Option<Placed<String>>,
    /// The address of a repository: `https`, `http`, or `file` for a folder of this machine.
    #[serde(default)]
    url: Option<Placed<String>>,
}

/// How images are cut into layers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Layers")]
struct RawLayers {
    /// How many layers of package groups an image may have; 12 unless stated.
    #[serde(default)]
    budget: Option<Placed<u32>>,
    /// How layers are compressed; `gzip` unless stated, which every engine reads.
    #[serde(default)]
    compression: Compression,
}

/// How releases are made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Releases")]
struct RawReleases {
    /// The tags that float with releases; all of them unless stated.
    #[serde(default)]
    tags: Option<Vec<FloatingTag>>,
    /// Days after which a release's signed statement is no longer believed; 400 unless stated.
    #[serde(default)]
    valid_days: Option<Placed<u32>>,
}

/// What `parvis publish-source` leaves out. This key itself is never published.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Source")]
struct RawSource {
    /// Files and folders of the project that stay at home.
    #[serde(default)]
    without: Vec<Placed<String>>,
    /// Keys that are taken out of this file, and whose hosts may not stand in any other.
    #[serde(default)]
    keys: Vec<PrivateKey>,
    /// Names and addresses that look private and may be published all the same.
    #[serde(default)]
    allow: Vec<String>,
}

impl Project {
    /// Reads the project file; `shown_path` is how messages name it.
    ///
    /// # Errors
    /// Returns the first problem of the file, with its place.
    pub fn parse(shown_path: &str, text: &str) -> Result<Self, Problem> {
        let source = Source::new(shown_path, text);
        let raw: RawProject = yaml::parse(&source)?;
        Reader { source: &source }.project(&raw)
    }

    /// Returns the JSON Schema of the project file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(RawProject).to_value()
    }

    /// Returns the variables of a profile, or of the default one where none is named.
    ///
    /// # Errors
    /// Returns the names of the profiles there are, where the one that is asked for is not among them.
    pub fn variables(&self, profile: Option<&str>) -> Result<BTreeMap<String, String>, UnknownProfile> {
        let Some(name) = profile.or(self.default_profile.as_deref()) else { return Ok(BTreeMap::new()) };
        self.profiles
            .get(name)
            .map(|profile| profile.variables.clone())
            .ok_or_else(|| UnknownProfile { name: shown(name), known: self.profiles.keys().cloned().collect() })
    }

    /// Returns the repositories of Composer packages of a profile, or of the default one where none is named.
    #[must_use]
    pub fn repositories(&self, profile: Option<&str>) -> &[Repository] {
        let profile = profile.or(self.default_profile.as_deref()).and_then(|name| self.profiles.get(name));
        profile.map_or(&[], |profile| &profile.repositories)
    }
}

/// A profile that the project does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the project has no profile `{name}`")]
pub struct UnknownProfile {
    name: String,
    known: Vec<String>,
}

impl UnknownProfile {
    /// Returns the likely name, or all there are.
    #[must_use]
    pub fn hint(&self) -> String {
        match super::problem::nearest(&self.name, self.known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.known.is_empty() => "add it under `profiles:` in `parvis.yaml`".into(),
            None => {
                format!("the profiles are {}", self.known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

struct Reader<'a> {
    source: &'a Source,
}

impl Reader<'_> {
    fn project(&self, raw: &RawProject) -> Result<Project, Problem> {
        if raw.description.value.trim().is_empty() {
            return Err(raw
                .description
                .problem(self.source, "the description is empty")
                .hint("say in one sentence what the images are for"));
        }
        let keys = self.keys(&raw.keys.value)?;
        let suites = self.suites(&raw.suites, &keys)?;
        let mut architectures = raw.architectures.iter().map(|name| self.name(name)).collect::<Result<Vec<Architecture>, _>>()?;
        if architectures.is_empty() {
            architectures.extend("amd64".parse());
        }
        self.no_double(&raw.architectures)?;
        if let Some(all) = raw.architectures.iter().find(|name| name.value == "all") {
            return Err(all.problem(self.source, "`all` is no machine's architecture").hint("write `amd64` or `arm64`"));
        }
        let profiles = self.profiles(&raw.profiles)?;
        let gates = raw.gates.as_ref().map(|raw| {
            let names: Vec<&Suite> = suites.iter().map(|suite| &suite.name).collect();
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            gates::read(self.source, raw, &names, &known)
        });
        Ok(Project {
            name: self.name(&raw.name)?,
            description: raw.description.value.trim().to_owned(),
            registry: raw.registry.as_ref().map(|registry| self.registry(registry)).transpose()?,
            mirrors: self.mirrors(&raw.mirrors, &suites)?,
            suites,
            architectures,
            keyring: self.keyring(&raw.keyring)?,
            keys,
            default_profile: self.default_profile(raw.default_profile.as_ref(), &profiles)?,
            profiles,
            layers: self.layers(raw.layers.as_ref())?,
            releases: self.releases(raw.releases.as_ref())?,
            source: self.published(raw.source.as_ref())?,
            gates: gates.transpose()?.unwrap_or_default(),
        })
    }

    fn suites(&self, suites: &Placed<Vec<Placed<RawSuite>>>, keys: &[String]) -> Result<Vec<SuiteRule>, Problem> {
        if suites.value.is_empty() {
            return Err(suites.problem(self.source, "the project has no suite").hint("add `- {name: trixie, archive: debian}`"));
        }
        let mut seen = BTreeSet::new();
        let mut rules = Vec::new();
        for suite in &suites.value {
            let raw = &suite.value;
            let rule = self.suite(suite, keys)?;
            if !seen.insert(rule.name.clone()) {
                return Err(raw.name.problem(self.source, format!("the suite `{}` stands here twice", rule.name)));
            }
            if rule.keys.is_empty() {
                let problem = raw.name.problem(self.source, format!("no key may sign the suite `{}`", rule.name));
                return Err(problem.hint("add the fingerprints of the archive's keys under `keys:`"));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn suite(&self, suite: &Placed<RawSuite>, keys: &[String]) -> Result<SuiteRule, Problem> {
        let raw = &suite.value;
        let default_days = if raw.security { SECURITY_DAYS } else { STABLE_DAYS };
        let max_age_days = raw.max_age_days.as_ref().map_or(default_days, |days| days.value);
        if let Some(days) = raw.max_age_days.as_ref().filter(|days| !(1..=3650).contains(&days.value)) {
            return Err(days.problem(self.source, format!("{} days are not between 1 and 3650", days.value)));
        }
        let mut components =
            raw.components.iter().map(|component| self.plain(component, "a component")).collect::<Result<Vec<_>, _>>()?;
        if components.is_empty() {
            components.push("main".into());
        }
        Ok(SuiteRule {
            line: suite.line,
            name: self.name(&raw.name)?,
            archive: self.plain(&raw.archive, "the name of an archive")?,
            components,
            security: raw.security,
            max_age_days,
            support_until: raw.support_until.as_ref().map(|day| gates::date(self.source, day)).transpose()?,
            keys: if raw.keys.is_empty() { keys.to_vec() } else { self.keys(&raw.keys)? },
        })
    }

    /// Reads a name that becomes part of an address or of a file's name.
    fn plain(&self, text: &Placed<String>, what: &str) -> Result<String, Problem> {
        let name = &text.value;
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if plain && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase()) && name.len() <= 64 {
            return Ok(name.clone());
        }
        Err(text.problem(self.source, format!("`{}` is not {what}", shown(name))).hint("use lowercase letters, digits and `-`"))
    }

    fn mirrors(
        &self,
        mirrors: &BTreeMap<String, Vec<Placed<String>>>,
        suites: &[SuiteRule],
    ) -> Result<BTreeMap<String, Vec<String>>, Problem> {
        let archives: BTreeSet<&str> = suites.iter().map(|suite| suite.archive.as_str()).collect();
        let mut checked = BTreeMap::new();
        for (archive, addresses) in mirrors {
            for address in addresses {
                let text = &address.value;
                let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
                let host = rest.split('/').next().unwrap_or_default();
                if host.is_empty() || text.contains(char::is_whitespace) || text.contains(['?', '#']) {
                    let problem = address.problem(self.source, format!("`{}` is not the address of a mirror", shown(text)));
                    return Err(problem.hint("write it with `http://` or `https://`, up to the folder that holds `dists/`"));
                }
                if host.contains('@') {
                    let problem = address.problem(self.source, "the address holds a user name or password");
                    return Err(problem.hint("remove it: this file is public"));
                }
                if !archives.contains(archive.as_str()) {
                    let problem = self.source.problem_at_word(
                        address.line,
                        archive,
                        format!("no suite belongs to the archive `{}`", shown(archive)),
                    );
                    return Err(problem.did_you_mean(archive, archives.iter().copied()));
                }
            }
            let trimmed = addresses.iter().map(|address| address.value.trim_end_matches('/').to_owned());
            checked.insert(archive.clone(), trimmed.collect());
        }
        Ok(checked)
    }

    fn keys(&self, keys: &[Placed<String>]) -> Result<Vec<String>, Problem> {
        self.no_double(keys)?;
        keys.iter().map(|key| self.fingerprint(key)).collect()
    }

    fn fingerprint(&self, key: &Placed<String>) -> Result<String, Problem> {
        let digits: String = key.value.chars().filter(|character| *character != ' ').collect::<String>().to_ascii_uppercase();
        if digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(digits);
        }
        let problem = key.problem(self.source, format!("`{}` is not the fingerprint of a key", shown(&key.value)));
        Err(problem.hint("write all 40 hexadecimal digits: the short forms can be forged"))
    }

    fn keyring(&self, keyring: &Placed<String>) -> Result<TreePath, Problem> {
        self.below(keyring, "this is the project's folder, not a file", "keys/debian.gpg")
    }

    /// Reads a path below the project's folder.
    fn below(&self, path: &Placed<String>, not_root: &str, example: &str) -> Result<TreePath, Problem> {
        let text = &path.value;
        let hint = format!("write a path below the project's folder, such as `{example}`");
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(path.problem(self.source, format!("`{}` leaves the project", shown(text))).hint(hint));
        }
        match TreePath::parse(text.as_bytes()) {
            Ok(path) if !path.is_root() => Ok(path),
            Ok(_) => Err(path.problem(self.source, not_root).hint(hint)),
            Err(error) => Err(path.problem(self.source, error.to_string()).hint(hint)),
        }
    }

    fn registry(&self, registry: &Placed<String>) -> Result<String, Problem> {
        let text = &registry.value;
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'/');
        if text.bytes().all(plain) && !text.contains("//") && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Ok(text.trim_end_matches('/').to_owned());
        }
        let problem = registry.problem(self.source, format!("`{}` is not a registry", shown(text)));
        Err(problem.hint("write host, port and path in lowercase, without `https://`"))
    }

    fn profiles(&self, profiles: &BTreeMap<String, Placed<RawProfile>>) -> Result<BTreeMap<String, Profile>, Problem> {
        let mut checked = BTreeMap::new();
        for (name, raw) in profiles {
            if !is_variable(name) {
                let problem =
                    self.source.problem_at_word(raw.line, name, format!("`{}` is not the name of a profile", shown(name)));
                return Err(problem.hint("use lowercase letters, digits, `-` and `_`"));
            }
            let mut variables = BTreeMap::new();
            for (variable, value) in &raw.value.variables {
                if !is_variable(variable) {
                    let message = format!("`{}` is not the name of a variable", shown(variable));
                    let problem = self.source.problem_at_word(value.line, variable, message);
                    return Err(problem.hint("use lowercase letters, digits, `-` and `_`"));
                }
                variables.insert(variable.clone(), value.value.clone());
            }
            let repositories = raw.value.composer.iter().flat_map(|composer| &composer.repositories);
            let repositories = repositories.map(|repository| self.repository(repository)).collect::<Result<_, _>>()?;
            checked.insert(name.clone(), Profile { variables, repositories });
        }
        Ok(checked)
    }

    fn repository(&self, repository: &Placed<RawRepository>) -> Result<Repository, Problem> {
        match (&repository.value.path, &repository.value.url) {
            (Some(path), None) => {
                self.below(path, "this is the project's folder itself", "images/app/repository").map(Repository::Folder)
            }
            (None, Some(url)) => {
                let text = url.value.trim_end_matches('/');
                let text = text.strip_suffix("/packages.json").unwrap_or(text);
                let rest = ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
                let rest = rest.unwrap_or_default();
                let plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['?', '#', '"', '\\']);
                if rest.is_empty() || !plain || rest.split('/').any(|part| part == "..") {
                    let problem = url.problem(self.source, format!("`{}` is not the address of a repository", shown(text)));
                    return Err(problem
                        .hint("write it with `https://`, `http://` or `file:///`, up to the folder that holds packages.json"));
                }
                if rest.split('/').next().is_some_and(|host| host.contains('@')) {
                    let problem = url.problem(self.source, "the address holds a user name or password");
                    return Err(problem.hint("remove it: this file is public"));
                }
                Ok(Repository::Address(text.to_owned()))
            }
            _ => Err(repository.problem(self.source, "a repository has either `path` or `url`")),
        }
    }

    fn default_profile(
        &self,
        default: Option<&Placed<String>>,
        profiles: &BTreeMap<String, Profile>,
    ) -> Result<Option<String>, Problem> {
        match default {
            Some(name) if profiles.contains_key(&name.value) => Ok(Some(name.value.clone())),
            Some(name) => {
                let problem = name.problem(self.source, format!("the project has no profile `{}`", shown(&name.value)));
                Err(problem.did_you_mean(&name.value, profiles.keys().map(String::as_str)))
            }
            None if profiles.len() == 1 => Ok(profiles.keys().next().cloned()),
            None => Ok(None),
        }
    }

    fn releases(&self, releases: Option<&RawReleases>) -> Result<ReleaseRule, Problem> {
        let days = releases.and_then(|releases| releases.valid_days.as_ref());
        if let Some(days) = days.filter(|days| !(1..=3650).contains(&days.value)) {
            let problem = days.problem(self.source, format!("{} days are not between 1 and 3650", days.value));
            return Err(problem.hint("longer than the time between two releases, shorter than the support of the suite"));
        }
        let tags = releases.and_then(|releases| releases.tags.clone());
        let all = || vec![FloatingTag::Minor, FloatingTag::Major, FloatingTag::Latest];
        Ok(ReleaseRule {
            tags: tags.unwrap_or_else(all).into_iter().collect(),
            valid_days: days.map_or(VALID_DAYS, |days| days.value),
        })
    }

    fn published(&self, raw: Option<&RawSource>) -> Result<SourceRule, Problem> {
        let Some(raw) = raw else { return Ok(SourceRule::default()) };
        let without = raw.without.iter().map(|path| self.below(path, "this is the whole project", "notes"));
        Ok(SourceRule {
            without: without.collect::<Result<_, _>>()?,
            keys: raw.keys.iter().copied().collect(),
            allow: raw.allow.iter().cloned().collect(),
        })
    }

    fn layers(&self, layers: Option<&Placed<RawLayers>>) -> Result<LayerRule, Problem> {
        let budget = layers.and_then(|layers| layers.value.budget.as_ref());
        if let Some(budget) = budget.filter(|budget| !(1..=100).contains(&budget.value)) {
            let problem = budget.problem(self.source, format!("{} layers are not between 1 and 100", budget.value));
            return Err(problem.hint("engines refuse images of more than 127 layers, parents included"));
        }
        Ok(LayerRule {
            budget: budget.map_or(LAYER_BUDGET, |budget| budget.value),
            compression: layers.map(|layers| layers.value.compression).unwrap_or_default(),
        })
    }

    fn no_double(&self, texts: &[Placed<String>]) -> Result<(), Problem> {
        let mut seen = BTreeSet::new();
        match texts.iter().find(|text| !seen.insert(&text.value)) {
            Some(double) => Err(double.problem(self.source, format!("`{}` stands here twice", shown(&double.value)))),
            None => Ok(()),
        }
    }

    fn name<T: FromStr<Err = InvalidName>>(&self, text: &Placed<String>) -> Result<T, Problem> {
        text.value.parse().map_err(|error: InvalidName| text.problem(self.source, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789ABCDEF0123456789ABCDEF01234567";

    fn read(rest: &str) -> Result<Project, Problem> {
        let suites = if rest.contains("suites:") { "" } else { "suites: [{name: trixie, archive: debian}]\n" };
        let keys = if rest.contains("\nkeys:") { String::new() } else { format!("keys: [{KEY}]\n") };
        Project::parse("parvis.yaml", &format!("name: parish\ndescription: x\nkeyring: keys/a.gpg\n{keys}{suites}{rest}\n"))
    }

    #[track_caller]
    fn refused(rest: &str, expected: &str) {
        let problem = read(rest).expect_err(rest);
        assert_eq!(format!("{}:{}: {}", problem.line, problem.column, problem.message), expected, "{}", problem.render());
    }

    #[test]
    fn every_default_is_put_in() {
        let project = read(
            "suites:\n  - {name: trixie, archive: debian}\n  - {name: trixie-security, archive: debian-security, security: true}",
        )
        .unwrap();
        let ages: Vec<u32> = project.suites.iter().map(|suite| suite.max_age_days).collect();
        assert_eq!(ages, [200, 30]);
        assert_eq!(project.suites[0].components, ["main"]);
        assert_eq!(project.suites[1].keys, [KEY]);
        assert_eq!(project.architectures, ["amd64".parse().unwrap()]);
        assert_eq!((project.releases.tags.len(), project.releases.valid_days), (3, 400));
        assert_eq!(project.layers, LayerRule { budget: 12, compression: Compression::Gzip });
        assert_eq!((project.registry, project.default_profile, project.mirrors.len()), (None, None, 0));
    }

    #[test]
    fn the_only_profile_is_the_default_one() {
        let project = read("profiles: {annuaire: {variables: {zone: Europe/Paris}}}").unwrap();
        assert_eq!(project.variables(None).unwrap()["zone"], "Europe/Paris");
        let error = project.variables(Some("anuaire")).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.hint().as_str()),
            ("the project has no profile `anuaire`", "did you mean `annuaire`?")
        );
        refused("default_profile: b\nprofiles: {a: {}}", "6:18: the project has no profile `b`");
        refused("profiles: {A: {}}", "6:12: `A` is not the name of a profile");
        refused("profiles: {a: {variables: {B: x}}}", "6:28: `B` is not the name of a variable");
    }

    #[test]
    fn a_key_is_named_by_its_whole_fingerprint() {
        refused("\nkeys: [0xDEADBEEF]", "6:8: `0xDEADBEEF` could be read as a number or as yes or no");
        refused("\nkeys: [DEADBEEFDEADBEEF]", "6:8: `DEADBEEFDEADBEEF` is not the fingerprint of a key");
        let spaced = "0123 4567 89ab cdef 0123  4567 89ab cdef 0123 4567";
        assert_eq!(read(&format!("\nkeys: [{spaced}]")).unwrap().keys, [KEY]);
        refused("\nkeys: []", "4:17: no key may sign the suite `trixie`");
    }

    #[test]
    fn a_mirror_is_an_address_of_an_archive_and_holds_no_password() {
        let project = read("mirrors: {debian: ['https://mirror.example/debian/']}").unwrap();
        assert_eq!(project.mirrors["debian"], ["https://mirror.example/debian"]);
        refused("mirrors: {debian: ['ftp://mirror.example']}", "6:20: `ftp://mirror.example` is not the address of a mirror");
        refused("mirrors: {debian: ['https://']}", "6:20: `https://` is not the address of a mirror");
        refused("mirrors: {debian: ['https://a:b@mirror.example']}", "6:20: the address holds a user name or password");
        let problem = read("mirrors: {debain: ['https://mirror.example']}").unwrap_err();
        assert_eq!((problem.column, problem.hint.as_deref()), (11, Some("did you mean `debian`?")));
    }

    #[test]
    fn a_repository_of_a_profile_is_a_folder_or_an_address_without_password() {
        let repositories = |text: &str| read(&format!("profiles: {{a: {{composer: {{repositories: [{text}]}}}}}}"));
        let project = repositories("{path: images/app/repository}, {url: 'https://r.example/8/packages.json'}").unwrap();
        let expected = [
            Repository::Folder(TreePath::parse(b"images/app/repository").unwrap()),
            Repository::Address("https://r.example/8".into()),
        ];
        assert_eq!(project.repositories(None), expected);
        assert_eq!(project.repositories(Some("b")), []);
        for (text, expected) in [
            ("{path: ../x}", "`../x` leaves the project"),
            ("{path: /srv}", "`/srv` leaves the project"),
            ("{url: 'ftp://r.example'}", "`ftp://r.example` is not the address of a repository"),
            ("{url: 'https://r.example/?x'}", "`https://r.example/?x` is not the address of a repository"),
            ("{url: 'https://'}", "`https:` is not the address of a repository"),
            ("{url: 'file:///srv/../etc'}", "`file:///srv/../etc` is not the address of a repository"),
            ("{url: 'https://me:secret@r.example'}", "the address holds a user name or password"),
            ("{}", "a repository has either `path` or `url`"),
            ("{path: a, url: 'https://r.example'}", "a repository has either `path` or `url`"),
        ] {
            assert_eq!(repositories(text).unwrap_err().message, expected, "{text}");
        }
    }

    #[test]
    fn what_leaves_the_project_is_refused() {
        for keyring in ["/etc/keys", "../keys", "."] {
            let text = format!(
                "name: a\ndescription: x\nkeyring: {keyring}\nkeys: [{KEY}]\nsuites: [{{name: trixie, archive: debian}}]\n"
            );
            assert_eq!(Project::parse("parvis.yaml", &text).unwrap_err().line, 3, "{keyring}");
        }
        refused(
            "suites: [{name: ../x, archive: debian}]",
            "5:17: `../x` is not a suite: lowercase letters, digits, `-`, `.`, such as `trixie-security`",
        );
        refused("suites: [{name: trixie, archive: ../x}]", "5:34: `../x` is not the name of an archive");
        refused("suites: [{name: trixie, archive: a, components: [main/x]}]", "5:50: `main/x` is not a component");
    }

    #[test]
    fn figures_out_of_bounds_are_refused() {
        refused("layers: {budget: 0}", "6:18: 0 layers are not between 1 and 100");
        refused("releases: {valid_days: 0}", "6:24: 0 days are not between 1 and 3650");
        refused("releases: {tags: [patch]}", "6:19: `patch` is not one of `minor`, `major`, `latest`");
        refused("layers: {compression: lzma}", "6:23: `lzma` is not one of `gzip`, `zstd`");
        refused("suites: [{name: trixie, archive: a, max_age_days: 0}]", "5:51: 0 days are not between 1 and 3650");
        refused("suites: []", "5:9: the project has no suite");
        refused("architectures: [amd64, amd64]", "6:24: `amd64` stands here twice");
        refused("architectures: [all]", "6:17: `all` is no machine's architecture");
        refused("registry: https://r.example", "6:11: `https://r.example` is not a registry");
    }
}
