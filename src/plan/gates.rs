//! The gates before an image is handed to others: a function of what the image is, what the project allows, and the day.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::lint::names_secret;
use crate::model::catalog::Catalog;
use crate::model::gates::{CAPABILITIES, Gates, Spared, Suspect};
use crate::model::name::{ImageName, Suite};
use crate::model::project::Project;
use crate::model::recipe::ImageConfig;
use crate::model::tree::{Entry, Tree, TreePath};
use crate::screen::size;

/// Days before the end of a suite's support from which on it is said.
pub const NOTICE_DAYS: i64 = 183;

/// One of the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// No key, password or token is in the image.
    Secrets,
    /// No file lends more power than is allowed.
    Privileges,
    /// Nothing runs as root.
    Root,
    /// A service says whether it is well.
    Health,
    /// Nobody downloads more than was agreed on.
    Size,
    /// Everything is for the machine it says it is for.
    Architecture,
    /// Somebody still mends what is in it.
    Support,
}

impl Gate {
    pub const ALL: [Self; 7] =
        [Self::Secrets, Self::Privileges, Self::Root, Self::Health, Self::Size, Self::Architecture, Self::Support];

    /// Returns the name as it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Privileges => "privileges",
            Self::Root => "root",
            Self::Health => "health",
            Self::Size => "size",
            Self::Architecture => "architecture",
            Self::Support => "support",
        }
    }
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There is nothing to say against the image.
    Passed,
    /// There would be, but `parvis.yaml` allows it.
    Allowed,
    /// It may be handed on, and somebody should look after it.
    Warned,
    /// It may not be handed on.
    Refused,
}

/// What one gate says of one image, or of one thing in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    pub gate: Gate,
    pub outcome: Outcome,
    /// What is the case, in words.
    pub message: String,
    /// The path in the image that it is about.
    pub path: Option<String>,
    /// Who put it there: `package util-linux`, or the line of a recipe as `recipes/httpd.yaml:12`.
    pub origin: Option<String>,
    /// Where allowed: the reason that `parvis.yaml` gives.
    pub why: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A content that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    pub path: TreePath,
    /// What it looks like, in words.
    pub what: String,
    pub line: Option<u32>,
    /// Who put it there, as [`Origin::in_words`](crate::model::tree::Origin::in_words) says.
    pub origin: Option<String>,
    /// The image in whose layer it lies, where the layers above hide it: whoever has the image has that layer too.
    pub hidden_in: Option<ImageName>,
}

/// Everything about an image that the gates look at.
#[derive(Debug)]
pub struct Facts<'a> {
    pub image: &'a ImageName,
    /// The profile it was built for, where the project has any.
    pub profile: Option<&'a str>,
    pub tree: &'a Tree,
    /// The user as the configuration has it; empty for none.
    pub user: &'a str,
    /// The user's number, where the image knows it.
    pub uid: Option<u32>,
    /// Whether the image has a command or an entrypoint.
    pub starts: bool,
    pub has_health_check: bool,
    /// Why the image is taken for a service, where it is: a half-sentence.
    pub service: Option<String>,
    /// Environment variables and labels, by name.
    pub variables: &'a BTreeMap<String, String>,
    /// Compressed bytes of all layers.
    pub bytes: u64,
    /// As the configuration says: `linux/arm64/v8`.
    pub platform: &'a str,
    /// As the project builds it.
    pub expected_platform: &'a str,
    /// Programs for another machine, with its name.
    pub foreign: &'a [(TreePath, String)],
    pub suspicions: &'a [Suspicion],
    /// The suites its packages are from, with how many are from each.
    pub suites: &'a BTreeMap<Suite, usize>,
}

/// Asks all gates; the verdicts stand in the order of [`Gate::ALL`], at least one for each.
#[must_use]
pub fn judge(facts: &Facts<'_>, project: &Project, catalog: &Catalog, today: Date) -> Vec<Verdict> {
    let mut judge = Judge { facts, gates: &project.gates, catalog, verdicts: Vec::new() };
    judge.secrets();
    judge.privileges();
    judge.root();
    judge.health();
    judge.size();
    judge.architecture();
    judge.support(project, today);
    judge.verdicts
}

struct Judge<'a> {
    facts: &'a Facts<'a>,
    gates: &'a Gates,
    catalog: &'a Catalog,
    verdicts: Vec<Verdict>,
}

impl Judge<'_> {
    fn say(&mut self, gate: Gate, outcome: Outcome, message: impl Into<String>) -> &mut Verdict {
        let message = message.into();
        self.verdicts.push(Verdict { gate, outcome, message, path: None, origin: None, why: None, hint: None });
        let last = self.verdicts.len() - 1;
        &mut self.verdicts[last]
    }

    /// Says something about a path: refused, unless a reason is given.
    fn about(&mut self, gate: Gate, path: &TreePath, message: String, why: Option<&str>, hint: &str) {
        let origin = self.facts.tree.get(path.as_bytes()).and_then(|entry| entry.origin.in_words());
        let verdict = self.weigh(gate, message, why, hint);
        (verdict.path, verdict.origin) = (Some(path.to_string()), origin);
    }

    fn weigh(&mut self, gate: Gate, message: impl Into<String>, why: Option<&str>, hint: &str) -> &mut Verdict {
        let outcome = if why.is_some() { Outcome::Allowed } else { Outcome::Refused };
        let verdict = self.say(gate, outcome, message);
        verdict.why = why.map(str::to_owned);
        verdict.hint = why.is_none().then(|| hint.to_owned());
        verdict
    }

    /// Says that a gate has nothing to say, where it said nothing.
    fn passed(&mut self, gate: Gate, message: &str) {
        if self.verdicts.iter().all(|verdict| verdict.gate != gate) {
            self.say(gate, Outcome::Passed, message);
        }
    }

    /// Returns the line of a word in the nearest recipe whose configuration states it; where none does, of the image's own.
    fn configured_at(&self, word: &str, states: impl Fn(&ImageConfig) -> bool) -> Option<String> {
        let line = self.catalog.lineage(self.facts.image);
        let recipe = line.iter().rev().find(|recipe| states(&recipe.config)).or(line.last())?;
        let source = &self.catalog.get(recipe.name.as_str()).ok()?.source;
        let mut lines = (1_u32..).zip(source.text.lines()).skip_while(|(number, _)| *number < recipe.config_line);
        let at = lines.find(|(_, text)| text.contains(word)).map_or(recipe.config_line, |(number, _)| number);
        Some(format!("{}:{at}", source.path))
    }

    fn secrets(&mut self) {
        let (facts, gates) = (self.facts, self.gates);
        let excuse = |is: &dyn Fn(&Suspect) -> bool| {
            let rule = gates.secrets.iter().find(|rule| rule.scope.covers(facts.image) && is(&rule.what));
            rule.map(|rule| rule.why.as_str())
        };
        for (name, value) in facts.variables {
            if !names_secret(name) || value.is_empty() || value.starts_with('/') {
                continue;
            }
            let why = excuse(&|what| matches!(what, Suspect::Variable(known) if known == name));
            let message = format!("`{name}` is set to a secret that everyone who has the image can read");
            let origin = self.configured_at(name, |config| config.env.contains_key(name) || config.labels.contains_key(name));
            let hint = format!("hand it to the container as a file, and name the file in `{name}_FILE`");
            self.weigh(Gate::Secrets, message, why, &hint).origin = origin;
        }
        let of_path = |path: &TreePath| excuse(&|what| matches!(what, Suspect::Path(known) if known == path));
        for Suspicion { path, what, line, origin, hidden_in } in facts.suspicions {
            let line = line.map(|line| format!(" in line {line}")).unwrap_or_default();
            let below =
                hidden_in.as_ref().map(|image| format!(", removed but still in a layer of `{image}`")).unwrap_or_default();
            let hint = "take it out, and make a new one: this one is known; mount secrets when the container starts";
            let verdict = self.weigh(Gate::Secrets, format!("{what}{line}{below}"), of_path(path), hint);
            (verdict.path, verdict.origin) = (Some(path.to_string()), origin.clone());
        }
        self.passed(Gate::Secrets, "no key, password or token was found in files, variables and labels");
    }

    fn privileges(&mut self) {
        let (facts, gates) = (self.facts, self.gates);
        for (path, entry) in facts.tree.iter() {
            // On a folder setgid only hands its group on to what is made in it.
            let special = if entry.is_directory() { 0 } else { entry.mode & 0o6000 };
            let capabilities = capabilities(entry);
            if special == 0 && capabilities.is_empty() {
                continue;
            }
            let mode = (special != 0).then_some(entry.mode);
            let rule = gates.privileges.iter().find(|rule| {
                let same = rule.mode == mode && rule.capabilities.iter().eq(&capabilities);
                rule.scope.covers(facts.image) && rule.path == *path && same
            });
            let mut powers = Vec::new();
            if special & 0o4000 != 0 {
                powers.push(format!("runs as user {}", entry.uid));
            }
            if special & 0o2000 != 0 {
                powers.push(format!("runs as group {}", entry.gid));
            }
            if !capabilities.is_empty() {
                powers.push(format!("has {}", capabilities.join(", ")));
            }
            let message = format!("mode {:04o}, {}", entry.mode, powers.join(", "));
            let hint = "`remove:` the file in the recipe, or allow it under `gates: privileges:`";
            self.about(Gate::Privileges, path, message, rule.map(|rule| rule.why.as_str()), hint);
        }
        self.passed(Gate::Privileges, "no file is setuid or setgid or has capabilities");
    }

    fn root(&mut self) {
        let facts = self.facts;
        if !facts.starts {
            return self.passed(Gate::Root, "the image starts nothing");
        }
        let user = facts.user.split(':').next().unwrap_or_default();
        let why = self.spared(&self.gates.root);
        let message = match facts.uid {
            _ if user.is_empty() => "no user is named: it runs as root".to_owned(),
            Some(0) => format!("it runs as `{}`, which is root", facts.user),
            None => format!("nobody knows which user `{}` is: engines will not start it", facts.user),
            Some(uid) => return self.passed(Gate::Root, &format!("it runs as user {uid}")),
        };
        let origin = self.configured_at("user:", |config| config.user.is_some());
        let hint = "name a user in `config:` of the recipe, or list the image under `gates: root:` with a reason";
        self.weigh(Gate::Root, message, why, hint).origin = origin;
    }

    fn health(&mut self) {
        match (&self.facts.service, self.facts.has_health_check) {
            (_, true) => self.passed(Gate::Health, "it has a health check"),
            (None, false) => self.passed(Gate::Health, "it is no service: no stack runs it as one, and it has no port"),
            (Some(reason), false) => {
                let why = self.spared(&self.gates.no_health_check);
                let message = format!("it has no health check, and {reason}");
                let hint = "add `health:` to `config:` of the recipe, with a command that fails when the service is of no use";
                let origin = self.configured_at("config:", |_| false);
                self.weigh(Gate::Health, message, why, hint).origin = origin;
            }
        }
    }

    fn spared<'b>(&self, rules: &'b [Spared]) -> Option<&'b str> {
        rules.iter().find(|rule| rule.image == *self.facts.image).map(|rule| rule.why.as_str())
    }

    fn size(&mut self) {
        let bytes = self.facts.bytes;
        let budgets = || self.gates.size.iter().filter(|budget| budget.image == *self.facts.image);
        let own = budgets().find(|budget| budget.profile.is_some() && budget.profile.as_deref() == self.facts.profile);
        let Some(budget) = own.or_else(|| budgets().find(|budget| budget.profile.is_none())) else {
            let message = format!("{}; no budget is set under `gates: size:`", size(bytes));
            return self.passed(Gate::Size, &message);
        };
        if bytes <= budget.most {
            return self.passed(Gate::Size, &format!("{} of at most {}", size(bytes), size(budget.most)));
        }
        let message = format!("{} are to be downloaded; at most {} were agreed on", size(bytes), size(budget.most));
        let hint = format!("`parvis inspect {}` lists what is large; or raise the budget in `parvis.yaml`", self.facts.image);
        self.weigh(Gate::Size, message, None, &hint).origin = Some(format!("parvis.yaml:{}", budget.line));
    }

    fn architecture(&mut self) {
        let (found, expected) = (self.facts.platform, self.facts.expected_platform);
        if found != expected {
            let message = format!("it says that it is for `{found}`, and was built for `{expected}`");
            self.weigh(Gate::Architecture, message, None, "build it again; if it stays so this is a mistake in parvis");
        }
        for (path, machine) in self.facts.foreign {
            let message = format!("a program for {machine} in an image for `{expected}`: it will not start");
            self.about(
                Gate::Architecture,
                path,
                message,
                None,
                "bring the file for each architecture, or take it from a package",
            );
        }
        self.passed(Gate::Architecture, &format!("everything is for {expected}"));
    }

    fn support(&mut self, project: &Project, today: Date) {
        for (suite, packages) in self.facts.suites {
            let rule = project.suites.iter().find(|rule| rule.name == *suite);
            let at = rule.map(|rule| format!("parvis.yaml:{}", rule.line));
            let Some((until, left)) = rule.and_then(|rule| rule.support(today)) else {
                let verdict = self.say(Gate::Support, Outcome::Passed, format!("nobody says until when `{suite}` is mended"));
                verdict.hint = Some(format!("add `support_until:` to the suite `{suite}` in `parvis.yaml`"));
                verdict.origin = at;
                continue;
            };
            let has = if *packages == 1 { "1 package is".to_owned() } else { format!("{packages} packages are") };
            if left < 0 {
                let overdue = project.gates.overdue(suite, today);
                let message = format!("{has} from `{suite}`, which got its last security fixes on {until}");
                let hint = "move to a newer suite; or list it under `gates: past_support:` with a reason and a last day";
                self.weigh(Gate::Support, message, overdue.map(|rule| rule.why.as_str()), hint).origin = at;
            } else if left <= NOTICE_DAYS {
                let message = format!("{has} from `{suite}`, which gets security fixes until {until}: {left} days from now");
                let verdict = self.say(Gate::Support, Outcome::Warned, message);
                verdict.hint = Some("plan the move to a newer suite".to_owned());
                verdict.origin = at;
            }
        }
        self.passed(Gate::Support, "what is in it still gets security fixes");
    }
}

/// Returns the capabilities that a file gives, by name and sorted (capabilities(7), `struct vfs_ns_cap_data`).
#[must_use]
pub fn capabilities(entry: &Entry) -> Vec<String> {
    let Some(value) = entry.xattrs.get("security.capability") else { return Vec::new() };
    let word = |at: usize| value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    // Revision, permitted and inheritable below bit 32, and from there on.
    let bits = u64::from(word(4) | word(8)) | u64::from(word(12) | word(16)) << 32;
    let name = |bit: usize| CAPABILITIES.get(bit).map_or_else(|| format!("cap_{bit}"), |name| (*name).to_owned());
    let mut names: Vec<String> = (0..64).filter(|bit| bits >> bit & 1 == 1).map(name).collect();
    if names.is_empty() {
        names.push("an attribute of capabilities that cannot be read".to_owned());
    }
    names.sort();
    names
}

/// Returns the exceptions for paths, variables and images that no verdict needed: whoever reads the list should not find them in it.
#[must_use]
pub fn idle(gates: &Gates, verdicts: &[(&ImageName, &[Verdict])]) -> Vec<(u32, String)> {
    let allowed = || {
        let all = verdicts.iter().flat_map(|(image, verdicts)| verdicts.iter().map(move |verdict| (*image, verdict)));
        all.filter(|(_, verdict)| verdict.outcome == Outcome::Allowed)
    };
    let at = |gate: Gate, path: &TreePath| {
        let path = path.to_string();
        allowed().any(|(_, verdict)| verdict.gate == gate && verdict.path.as_ref() == Some(&path))
    };
    let mut idle = Vec::new();
    for rule in &gates.secrets {
        match &rule.what {
            Suspect::Path(path) if !at(Gate::Secrets, path) => idle.push((rule.line, format!("`{path}`"))),
            Suspect::Variable(name) => {
                let begin = format!("`{name}` ");
                if !allowed().any(|(_, verdict)| verdict.gate == Gate::Secrets && verdict.message.starts_with(&begin)) {
                    idle.push((rule.line, format!("`{name}`")));
                }
            }
            Suspect::Path(_) => {}
        }
    }
    let privileges = gates.privileges.iter().filter(|rule| !at(Gate::Privileges, &rule.path));
    idle.extend(privileges.map(|rule| (rule.line, format!("`{}`", rule.path))));
    for (gate, rules) in [(Gate::Root, &gates.root), (Gate::Health, &gates.no_health_check)] {
        let unused = rules.iter().filter(|rule| !allowed().any(|(image, verdict)| verdict.gate == gate && *image == rule.image));
        idle.extend(unused.map(|rule| (rule.line, format!("`{}`", rule.image))));
    }
    idle.sort();
    idle
}

#[cfg(test)]
mod tests;
