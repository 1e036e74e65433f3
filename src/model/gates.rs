//! The gates: what an image must be like before it is handed to others, as `gates:` in `parvis.yaml` declares it.
//!
//! Every exception names one thing and says why, so that the list of exceptions can be read, and each of them taken back.

use std::collections::BTreeSet;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;

use super::name::{ImageName, InvalidName, Suite};
use super::problem::{Problem, Source, shown};
use super::tree::TreePath;
use super::yaml::Placed;

/// The images that an exception is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope(BTreeSet<ImageName>);

impl Scope {
    /// Returns whether the exception is for this image: it is named, or none is.
    #[must_use]
    pub fn covers(&self, image: &ImageName) -> bool {
        self.0.is_empty() || self.0.contains(image)
    }
}

/// What looks like a secret and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSecret {
    pub line: u32,
    pub what: Suspect,
    pub scope: Scope,
    pub why: String,
}

/// Where something looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspect {
    /// The content of a file.
    Path(TreePath),
    /// The value of an environment variable or label.
    Variable(String),
}

/// A file that may lend its owner's power to whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privilege {
    pub line: u32,
    pub path: TreePath,
    /// All permission bits, of which setuid or setgid are some; absent where only capabilities are meant.
    pub mode: Option<u16>,
    /// Names such as `cap_net_raw`, sorted.
    pub capabilities: BTreeSet<String>,
    pub scope: Scope,
    pub why: String,
}

/// An image that a gate lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    pub line: u32,
    pub image: ImageName,
    pub why: String,
}

/// How large an image may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub line: u32,
    pub image: ImageName,
    /// The profile it is for; one without is for every profile that has none of its own.
    pub profile: Option<String>,
    /// Compressed bytes of all layers.
    pub most: u64,
}

/// A suite that is used although nobody mends it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    pub line: u32,
    pub suite: Suite,
    /// The last day; an exception without an end would be forgotten.
    pub until: Date,
    pub why: String,
}

/// What `gates:` declares. Without it the gates are there all the same, with no exception.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gates {
    pub secrets: Vec<NoSecret>,
    pub privileges: Vec<Privilege>,
    pub root: Vec<Spared>,
    pub no_health_check: Vec<Spared>,
    pub size: Vec<Budget>,
    pub past_support: Vec<Overdue>,
}

impl Gates {
    /// Returns the exception that lets a suite be used past its support on this day.
    #[must_use]
    pub fn overdue(&self, suite: &Suite, today: Date) -> Option<&Overdue> {
        self.past_support.iter().find(|rule| rule.suite == *suite && rule.until >= today)
    }

    /// Returns every image that is named, with its line.
    pub fn images(&self) -> impl Iterator<Item = (u32, &ImageName)> {
        let secrets = self.secrets.iter().map(|rule| (rule.line, &rule.scope));
        let scopes = secrets.chain(self.privileges.iter().map(|rule| (rule.line, &rule.scope)));
        let limited = scopes.flat_map(|(line, scope)| scope.0.iter().map(move |image| (line, image)));
        let spared = self.root.iter().chain(&self.no_health_check).map(|rule| (rule.line, &rule.image));
        limited.chain(spared).chain(self.size.iter().map(|rule| (rule.line, &rule.image)))
    }
}

/// What an image must be like before it is handed to others. Every exception says why.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gates")]
pub(super) struct RawGates {
    /// What looks like a secret and is none.
    #[serde(default)]
    secrets: Vec<Placed<RawNoSecret>>,
    /// Files that may be setuid or setgid or have capabilities.
    #[serde(default)]
    privileges: Vec<Placed<RawPrivilege>>,
    /// Images that run as root.
    #[serde(default)]
    root: Vec<Placed<RawSpared>>,
    /// Services without a health check.
    #[serde(default)]
    no_health_check: Vec<Placed<RawSpared>>,
    /// How large images may be.
    #[serde(default)]
    size: Vec<Placed<RawBudget>>,
    /// Suites that are used although nobody mends them any more.
    #[serde(default)]
    past_support: Vec<Placed<RawOverdue>>,
}

/// What looks like a secret and is none: either `path` or `variable`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NoSecret")]
struct RawNoSecret {
    /// The absolute path of a file in the image.
    #[serde(default)]
    path: Option<Placed<String>>,
    /// The name of an environment variable or label.
    #[serde(default)]
    variable: Option<Placed<String>>,
    /// The images it is for; all unless stated.
    #[serde(default)]
    images: Vec<Placed<String>>,
    /// Why it is no secret.
    why: Placed<String>,
}

/// A file with the power of its owner: `mode`, `capabilities` or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Privilege")]
struct RawPrivilege {
    /// The absolute path of the file in the image.
    path: Placed<String>,
    /// All four digits of its mode, such as "4755".
    #[serde(default)]
    mode: Option<Placed<String>>,
    /// Its capabilities, such as `cap_net_raw`.
    #[serde(default)]
    capabilities: Vec<Placed<String>>,
    /// The images it is for; all unless stated.
    #[serde(default)]
    images: Vec<Placed<String>>,
    /// Why it is needed, or does no harm.
    why: Placed<String>,
}

/// An image that a gate lets through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Spared")]
struct RawSpared {
    /// The image.
    image: Placed<String>,
    /// Why.
    why: Placed<String>,
}

/// How large an image may be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget")]
struct RawBudget {
    /// The image.
    image: Placed<String>,
    /// The profile it is for; every profile unless stated.
    #[serde(default)]
    profile: Option<Placed<String>>,
    /// What somebody downloads who has none of it, such as `150 MB` (a million bytes each).
    most: Placed<String>,
}

/// A suite that is used although nobody mends it any more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Overdue")]
struct RawOverdue {
    /// The suite.
    suite: Placed<String>,
    /// The last day of the exception, such as 2029-01-31.
    until: Placed<String>,
    /// Why it cannot be left yet.
    why: Placed<String>,
}

/// The names of capabilities by their numbers (capabilities(7)).
pub const CAPABILITIES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// Reads `gates:`; the suites and profiles are those of the project.
pub(super) fn read(source: &Source, raw: &RawGates, suites: &[&Suite], profiles: &[&str]) -> Result<Gates, Problem> {
    let reader = Reader { source };
    let overdue = |rule: &Placed<RawOverdue>| {
        let RawOverdue { suite, until, why } = &rule.value;
        let name: Suite = reader.name(suite)?;
        if !suites.contains(&&name) {
            let problem = suite.problem(source, format!("the project has no suite `{name}`"));
            return Err(problem.did_you_mean(name.as_str(), suites.iter().map(|suite| suite.as_str())));
        }
        Ok(Overdue { line: rule.line, suite: name, until: date(source, until)?, why: reader.why(why)? })
    };
    let budget = |rule: &Placed<RawBudget>| {
        let RawBudget { image, profile, most } = &rule.value;
        if let Some(profile) = profile.as_ref().filter(|profile| !profiles.contains(&profile.value.as_str())) {
            let problem = profile.problem(source, format!("the project has no profile `{}`", shown(&profile.value)));
            return Err(problem.did_you_mean(&profile.value, profiles.iter().copied()));
        }
        let profile = profile.as_ref().map(|profile| profile.value.clone());
        Ok(Budget { line: rule.line, image: reader.name(image)?, profile, most: reader.bytes(most)? })
    };
    let gates = Gates {
        secrets: raw.secrets.iter().map(|rule| reader.no_secret(rule)).collect::<Result<_, _>>()?,
        privileges: raw.privileges.iter().map(|rule| reader.privilege(rule)).collect::<Result<_, _>>()?,
        root: raw.root.iter().map(|rule| reader.spared(rule)).collect::<Result<_, _>>()?,
        no_health_check: raw.no_health_check.iter().map(|rule| reader.spared(rule)).collect::<Result<_, _>>()?,
        size: raw.size.iter().map(budget).collect::<Result<_, _>>()?,
        past_support: raw.past_support.iter().map(overdue).collect::<Result<_, _>>()?,
    };
    let mut seen = BTreeSet::new();
    match raw.size.iter().zip(&gates.size).find(|(_, budget)| !seen.insert((&budget.image, &budget.profile))) {
        Some((rule, budget)) => {
            let message = format!("`{}` has two budgets", budget.image);
            Err(rule.value.image.problem(source, message).hint("keep one of them"))
        }
        None => Ok(gates),
    }
}

/// Reads a day.
pub(super) fn date(source: &Source, text: &Placed<String>) -> Result<Date, Problem> {
    let plain = text.value.len() == 10 && text.value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    text.value.parse().ok().filter(|_| plain).ok_or_else(|| {
        text.problem(source, format!("`{}` is not a day", shown(&text.value))).hint("write year, month and day: `2028-08-09`")
    })
}

struct Reader<'a> {
    source: &'a Source,
}

impl Reader<'_> {
    fn no_secret(&self, rule: &Placed<RawNoSecret>) -> Result<NoSecret, Problem> {
        let RawNoSecret { path, variable, images, why } = &rule.value;
        let what = match (path, variable) {
            (Some(path), None) => Suspect::Path(self.path(path)?),
            (None, Some(variable)) => Suspect::Variable(variable.value.clone()),
            _ => return Err(rule.problem(self.source, "an exception has either `path` or `variable`")),
        };
        Ok(NoSecret { line: rule.line, what, scope: self.scope(images)?, why: self.why(why)? })
    }

    fn privilege(&self, rule: &Placed<RawPrivilege>) -> Result<Privilege, Problem> {
        let RawPrivilege { path, mode, capabilities, images, why } = &rule.value;
        let mode = mode.as_ref().map(|mode| self.mode(mode)).transpose()?;
        let capabilities = capabilities.iter().map(|name| self.capability(name)).collect::<Result<BTreeSet<_>, _>>()?;
        if mode.is_none() && capabilities.is_empty() {
            let problem = rule.problem(self.source, "neither `mode` nor `capabilities` says which power is meant");
            return Err(problem.hint("add `mode: \"4755\"`, as `parvis gate` names it"));
        }
        let (scope, why) = (self.scope(images)?, self.why(why)?);
        Ok(Privilege { line: rule.line, path: self.path(path)?, mode, capabilities, scope, why })
    }

    fn spared(&self, rule: &Placed<RawSpared>) -> Result<Spared, Problem> {
        let RawSpared { image, why } = &rule.value;
        Ok(Spared { line: rule.line, image: self.name(image)?, why: self.why(why)? })
    }

    fn scope(&self, images: &[Placed<String>]) -> Result<Scope, Problem> {
        images.iter().map(|image| self.name(image)).collect::<Result<_, _>>().map(Scope)
    }

    fn name<T: std::str::FromStr<Err = InvalidName>>(&self, text: &Placed<String>) -> Result<T, Problem> {
        text.value.parse().map_err(|error: InvalidName| text.problem(self.source, error.to_string()))
    }

    /// Reads a reason: whoever reads the list later has nothing else to go by.
    fn why(&self, why: &Placed<String>) -> Result<String, Problem> {
        let text = why.value.trim();
        if text.chars().count() < 15 || !text.contains(' ') {
            let problem = why.problem(self.source, "this is no reason that somebody else would understand");
            return Err(problem.hint("say in a sentence why it is right that this passes"));
        }
        Ok(text.to_owned())
    }

    fn path(&self, path: &Placed<String>) -> Result<TreePath, Problem> {
        let wrong = |message: String| path.problem(self.source, message).hint("write the whole path, such as `/usr/bin/su`");
        if !path.value.starts_with('/') || path.value.contains(['*', '?']) {
            return Err(wrong(format!("`{}` is not the path of one file", shown(&path.value))));
        }
        TreePath::parse(path.value.as_bytes()).map_err(|error| wrong(error.to_string()))
    }

    fn mode(&self, mode: &Placed<String>) -> Result<u16, Problem> {
        let digits = mode.value.len() == 4 && mode.value.bytes().all(|byte| (b'0'..b'8').contains(&byte));
        let bits = u16::from_str_radix(&mode.value, 8).ok().filter(|bits| digits && bits & 0o6000 != 0);
        bits.ok_or_else(|| {
            let problem = mode.problem(self.source, format!("`{}` is no mode with setuid or setgid", shown(&mode.value)));
            problem.hint("write four digits in quotes, such as \"4755\"")
        })
    }

    fn capability(&self, name: &Placed<String>) -> Result<String, Problem> {
        if CAPABILITIES.contains(&name.value.as_str()) {
            return Ok(name.value.clone());
        }
        let problem = name.problem(self.source, format!("`{}` is no capability", shown(&name.value)));
        Err(problem.did_you_mean(&name.value, CAPABILITIES))
    }

    /// Reads bytes as [`crate::screen::size`] writes them, without a fraction.
    fn bytes(&self, text: &Placed<String>) -> Result<u64, Problem> {
        let read = |text: &str| {
            let (number, unit) = text.split_once(' ')?;
            let unit = match unit {
                "kB" => 1000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                _ => return None,
            };
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|number| digits && *number > 0)?.checked_mul(unit)
        };
        read(&text.value).ok_or_else(|| {
            text.problem(self.source, format!("`{}` is no size", shown(&text.value))).hint("write `800 kB`, `150 MB` or `2 GB`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::project::Project;
    use super::*;

    fn read(gates: &str) -> Result<Gates, Problem> {
        let key = "0123456789ABCDEF0123456789ABCDEF01234567";
        let head = format!("name: parish\ndescription: x\nkeyring: keys/a.gpg\nkeys: [{key}]\n");
        let suites = "suites: [{name: trixie, archive: debian, support_until: 2028-08-09}]\n";
        Project::parse("parvis.yaml", &format!("{head}{suites}gates:\n  {gates}\n")).map(|project| project.gates)
    }

    const WHY: &str = "why: it does no harm here";

    #[test]
    fn a_policy_is_read_with_its_reasons() {
        let su = read(&format!("privileges: [{{path: /usr/bin/su, mode: '4755', {WHY}}}]")).unwrap().privileges;
        assert_eq!((su[0].path.to_string(), su[0].mode, su[0].line), ("/usr/bin/su".into(), Some(0o4755), 7));
        assert!(su[0].scope.covers(&"a".parse().unwrap()), "an exception without images is for all");
        let ping = read(&format!("privileges: [{{path: /bin/ping, capabilities: [cap_net_raw], images: [a], {WHY}}}]")).unwrap();
        assert_eq!(ping.privileges[0].capabilities, BTreeSet::from(["cap_net_raw".to_owned()]));
        assert!(!ping.privileges[0].scope.covers(&"b".parse().unwrap()));
        let size = read("size: [{image: a, most: 150 MB}, {image: b, most: 3 kB}]").unwrap().size;
        assert_eq!([size[0].most, size[1].most], [150_000_000, 3000]);
        let late = read(&format!("past_support: [{{suite: trixie, until: 2029-01-31, {WHY}}}]")).unwrap().past_support;
        assert_eq!(late[0].until.to_string(), "2029-01-31");
        assert_eq!(read("{}").unwrap(), Gates::default());
    }

    #[test]
    fn an_exception_without_a_reason_or_without_an_end_is_refused() {
        for (gates, expected) in [
            ("root: [{image: a}]", "the key `why` is missing"),
            ("root: [{image: a, why: ok}]", "this is no reason that somebody else would understand"),
            ("root: [{image: a, why: becausebecausebecause}]", "this is no reason that somebody else would understand"),
            ("roots: []", "unknown key `roots`"),
            (&format!("secrets: [{{{WHY}}}]"), "an exception has either `path` or `variable`"),
            (&format!("secrets: [{{path: /a, variable: B, {WHY}}}]"), "an exception has either `path` or `variable`"),
            (&format!("secrets: [{{path: '/etc/*', {WHY}}}]"), "`/etc/*` is not the path of one file"),
            (&format!("privileges: [{{path: usr/bin/su, mode: '4755', {WHY}}}]"), "`usr/bin/su` is not the path of one file"),
            (&format!("privileges: [{{path: /su, mode: '0755', {WHY}}}]"), "`0755` is no mode with setuid or setgid"),
            (&format!("privileges: [{{path: /su, {WHY}}}]"), "neither `mode` nor `capabilities` says which power is meant"),
            (&format!("privileges: [{{path: /su, capabilities: [net_raw], {WHY}}}]"), "`net_raw` is no capability"),
            ("size: [{image: a, most: 150MB}]", "`150MB` is no size"),
            ("size: [{image: a, most: 0 MB}]", "`0 MB` is no size"),
            ("size: [{image: a, most: 99999999999 GB}]", "`99999999999 GB` is no size"),
            ("size: [{image: a, most: 1 MB}, {image: a, most: 2 MB}]", "`a` has two budgets"),
            ("size: [{image: a, most: 1 MB, profile: b}]", "the project has no profile `b`"),
            (&format!("past_support: [{{suite: trixie, {WHY}}}]"), "the key `until` is missing"),
            (&format!("past_support: [{{suite: trixie, until: soon, {WHY}}}]"), "`soon` is not a day"),
            (&format!("past_support: [{{suite: trixie, until: 2029-02-30, {WHY}}}]"), "`2029-02-30` is not a day"),
            (&format!("past_support: [{{suite: trixi, until: 2029-01-31, {WHY}}}]"), "the project has no suite `trixi`"),
        ] {
            assert_eq!(read(gates).unwrap_err().message, expected, "{gates}");
        }
    }
}
