//! Advice on a project that can be built but should be better: each with its place, the reason, and what to do.

use std::collections::{BTreeMap, BTreeSet};

use super::identity::DEBIAN_ACCOUNTS;
use crate::model::catalog::{Catalog, Member};
use crate::model::name::{AccountName, ImageName};
use crate::model::problem::shown;
use crate::model::project::Project;
use crate::model::recipe::{FileRule, FileSource, Health, Owner, Parent, Recipe};
use crate::model::tree::TreePath;

/// Parts of a variable's name that say it holds a secret.
const SECRET_NAMES: [&str; 8] = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL", "API_KEY", "PRIVATE_KEY"];

/// Suites whose name will one day mean another release.
const MOVING_SUITES: [&str; 5] = ["stable", "oldstable", "testing", "unstable", "sid"];

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Advice {
    /// The file it is about, as messages name it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// A short name of the rule, which does not change.
    pub code: &'static str,
    /// What is not well, and why.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Looks through a project; the advice is sorted by file and line.
#[must_use]
pub fn lint(project: &Project, project_file: &str, catalog: &Catalog) -> Vec<Advice> {
    let mut advice = of_project(project, project_file);
    for (line, image) in project.gates.images().filter(|(_, image)| catalog.recipe(image).is_none()) {
        let message = format!("`gates:` names the image `{image}`, which the project does not have");
        let hint = "correct the name, or take the line out".to_owned();
        advice.push(Advice { file: project_file.to_owned(), line, code: "unknown-image", message, hint });
    }
    for member in catalog.iter() {
        let mut look = Look { member, recipe: &member.recipe, line: catalog.lineage(&member.recipe.name), advice: &mut advice };
        look.recipe();
    }
    advice.sort_unstable();
    advice
}

fn of_project(project: &Project, file: &str) -> Vec<Advice> {
    let mut advice = Vec::new();
    for suite in &project.suites {
        if MOVING_SUITES.contains(&suite.name.as_str().split('-').next().unwrap_or_default()) {
            advice.push(Advice {
                file: file.to_owned(),
                line: suite.line,
                code: "moving-suite",
                message: format!("`{}` will one day mean another release", suite.name),
                hint: "write the release's own name, such as `trixie`".into(),
            });
        }
    }
    // One line of advice for all of them: they end together.
    if let Some(suite) = project.suites.iter().find(|suite| suite.support_until.is_none()) {
        advice.push(Advice {
            file: file.to_owned(),
            line: suite.line,
            code: "no-support-date",
            message: format!("nobody says until when `{}` gets security fixes, so nothing will warn before it ends", suite.name),
            hint: "add `support_until:` with the last day, as Debian announces it, to each suite".into(),
        });
    }
    if let (Some(first), true) = (project.suites.first(), project.suites.iter().all(|suite| !suite.security)) {
        advice.push(Advice {
            file: file.to_owned(),
            line: first.line,
            code: "no-security-suite",
            message: "no suite is marked as security: fixes would come with point releases only".into(),
            hint: format!("add `- {{name: {}-security, archive: debian-security, security: true}}`", first.name),
        });
    }
    advice
}

/// One recipe under the eye, with the images it stands on.
struct Look<'a> {
    member: &'a Member,
    recipe: &'a Recipe,
    /// From the image that starts from nothing to this one.
    line: Vec<&'a Recipe>,
    advice: &'a mut Vec<Advice>,
}

impl Look<'_> {
    fn say(&mut self, line: u32, code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let file = self.member.source.path.clone();
        self.advice.push(Advice { file, line, code, message: message.into(), hint: hint.into() });
    }

    /// Returns the first line from a start on that holds a word, or the start.
    fn find(&self, start: u32, word: &str) -> u32 {
        let lines = (1_u32..).zip(self.member.source.text.lines());
        lines.skip_while(|(number, _)| *number < start).find(|(_, text)| text.contains(word)).map_or(start, |(number, _)| number)
    }

    fn recipe(&mut self) {
        self.description_and_tests();
        self.user();
        self.health();
        self.config();
        self.secrets();
        self.packages();
        self.accounts();
        self.files();
        self.runs();
        self.volumes();
    }

    fn description_and_tests(&mut self) {
        if self.recipe.description.chars().count() < 20 {
            let line = self.find(1, "description:");
            self.say(line, "thin-description", "the description does not say why the image exists", "write one whole sentence");
        }
        if self.recipe.tests.is_empty() {
            let message = format!("nothing tests the image `{}`", self.recipe.name);
            self.say(self.recipe.from_line, "no-test", message, "add `tests:`, at least with the command that people will run");
        }
    }

    /// Returns the value of the nearest image of the line that has one.
    fn nearest<T>(&self, value: impl Fn(&Recipe) -> Option<T>) -> Option<T> {
        self.line.iter().rev().find_map(|recipe| value(recipe))
    }

    fn process_user(&self) -> Option<String> {
        self.nearest(|recipe| recipe.config.user.clone())
    }

    fn user(&mut self) {
        let own = &self.recipe.config;
        if own.user.is_none() && own.cmd.is_none() && own.entrypoint.is_none() {
            return;
        }
        let user = self.process_user();
        let name = user.as_deref().and_then(|user| user.split(':').next()).unwrap_or("root");
        if self.number(name) == Some(0) {
            let line = self.find(self.recipe.config_line, "user:");
            let message = if user.is_some() { "the image runs as root" } else { "no user is named: the image runs as root" };
            self.say(
                line,
                "root-user",
                message,
                "name a user in `config:`, such as `user: \"33:33\"`; a server on a low port does not need root",
            );
        }
    }

    fn health(&mut self) {
        let line = self.recipe.config_line;
        let health: Option<Health> = self.nearest(|recipe| recipe.config.health.clone());
        if !self.recipe.config.ports.is_empty() && health.is_none() {
            let message = "the image listens on a port and has no health check: nothing will know when it is of no use";
            self.say(line, "no-health-check", message, "add `health:` with a command that fails when the service does not work");
        }
        if let Some(health) = &self.recipe.config.health {
            let line = self.find(line, "health:");
            let words = health.command.join(" ");
            if words == "true" || words == "/bin/true" || words.ends_with(" exit 0") || words.ends_with("|| true") {
                self.say(
                    line,
                    "idle-health-check",
                    "this health check cannot fail",
                    "let it ask the service for something it must answer",
                );
            }
            if words.contains("mariadb-admin ping") || words.contains("mysqladmin ping") {
                let message = "`ping` says well when access is denied";
                self.say(line, "idle-health-check", message, "run a query as the application's user");
            }
        }
    }

    fn config(&mut self) {
        let config = &self.recipe.config;
        let line = self.recipe.config_line;
        if config.stop_signal.as_deref() == Some("SIGKILL") {
            let at = self.find(line, "stop_signal:");
            self.say(
                at,
                "killed",
                "SIGKILL leaves no time to finish what is under way",
                "use `SIGTERM`, or what the program documents",
            );
        }
        for (key, words) in [("entrypoint:", &config.entrypoint), ("cmd:", &config.cmd)] {
            let Some([shell, flag, ..]) = words.as_deref() else { continue };
            if is_shell(shell) && flag.starts_with('-') && flag.contains('c') {
                let at = self.find(line, key);
                let message = "a shell stands between the engine and the program: signals do not reach it";
                self.say(at, "shell-form", message, "name the program itself, or end the script with `exec`");
            }
        }
        let labels = config.labels.values().chain(config.env.values()).filter(|value| value.ends_with(":latest")).cloned();
        for value in labels.collect::<Vec<_>>() {
            let at = self.find(line, &value);
            self.say(at, "latest", format!("`{}` means another thing each day", shown(&value)), "name a version or a digest");
        }
    }

    fn secrets(&mut self) {
        let config = self.recipe.config.env.iter().map(|(name, value)| (self.recipe.config_line, name, value));
        let runs = self.recipe.runs.iter().flat_map(|run| run.env.iter().map(|(name, value)| (run.line, name, value)));
        let labels = self.recipe.config.labels.iter().map(|(name, value)| (self.recipe.config_line, name, value));
        let all: Vec<(u32, String)> = config
            .chain(runs)
            .chain(labels)
            .filter(|(_, name, value)| names_secret(name) && !value.is_empty() && !value.starts_with('/'))
            .map(|(line, name, _)| (line, name.clone()))
            .collect();
        for (line, name) in all {
            let at = self.find(line, &name);
            let message = format!("`{}` is a secret that everyone who has the image can read", shown(&name));
            self.say(
                at,
                "secret",
                message,
                format!("hand it to the container as a file, and name the file in `{}_FILE`", shown(&name)),
            );
        }
        for (line, text) in self.texts() {
            if text.contains("PRIVATE KEY-----") {
                self.say(
                    line,
                    "secret",
                    "a private key stands in the recipe",
                    "mount it when the container starts, and make a new one: this one is known",
                );
            }
        }
    }

    /// Returns the texts of the recipe that go into the image or into a shell.
    fn texts(&self) -> Vec<(u32, String)> {
        let files = self.recipe.files.iter().filter_map(|file| match &file.what {
            FileSource::Text(text) => Some((file.line, text.clone())),
            _ => None,
        });
        files.chain(self.recipe.runs.iter().map(|run| (run.line, run.command.join("\n")))).collect()
    }

    fn packages(&mut self) {
        let mut of_parents: BTreeMap<&str, &ImageName> = BTreeMap::new();
        let ancestors = &self.line[..self.line.len().saturating_sub(1)];
        for recipe in ancestors.iter().rev() {
            of_parents.extend(recipe.packages.iter().map(|package| (package.as_str(), &recipe.name)));
        }
        let twice =
            self.recipe.packages.iter().filter_map(|package| of_parents.get(package.as_str()).map(|parent| (package, *parent)));
        for (package, parent) in twice.collect::<Vec<_>>() {
            let at = self.find(self.recipe.packages_line, package.as_str());
            self.say(at, "package-of-parent", format!("`{package}` is already asked for by `{parent}`"), "remove it here");
        }
        if self.recipe.recommends {
            let at = self.find(1, "recommends:");
            let message = "Recommends are followed: an image gets what a desktop would want";
            self.say(at, "recommends", message, "name the packages that are needed and remove `recommends`");
        }
    }

    fn accounts(&mut self) {
        let shells: Vec<(u32, String)> = self
            .recipe
            .users
            .iter()
            .filter(|account| {
                !matches!(account.shell.as_str(), "/usr/sbin/nologin" | "/sbin/nologin" | "/bin/false" | "/usr/bin/false")
            })
            .map(|account| (account.line, format!("`{}` can log in", account.name)))
            .collect();
        for (line, message) in shells {
            self.say(line, "login-shell", message, "remove `shell:`: a command can run as any user without one");
        }
        let mut said = BTreeSet::new();
        for (line, name) in self.named_owners() {
            if self.number(name.as_str()).is_none() && said.insert(name.clone()) {
                let message = format!(
                    "the id of `{name}` is whatever a package takes: volumes outlive images, and the next one may differ"
                );
                self.say(line, "floating-id", message, format!("add `{name}` to `users:` with fixed ids"));
            }
        }
    }

    fn named_owners(&self) -> Vec<(u32, AccountName)> {
        let files = self.recipe.files.iter().map(|file| (file.line, &file.owners));
        let copies = self.recipe.copies.iter().filter_map(|copy| copy.owners.as_ref().map(|owners| (copy.line, owners)));
        let names = files.chain(copies).flat_map(|(line, owners)| [(line, &owners.user), (line, &owners.group)]);
        names.filter_map(|(line, owner)| if let Owner::Name(name) = owner { Some((line, name.clone())) } else { None }).collect()
    }

    /// Returns the id that a name or number stands for, where it is fixed.
    fn number(&self, text: &str) -> Option<u32> {
        let declared = || {
            let mut accounts = self.line.iter().flat_map(|recipe| &recipe.users);
            accounts.find_map(|account| match text {
                _ if account.name.as_str() == text => Some(account.uid),
                _ if account.group.as_str() == text => Some(account.gid),
                _ => None,
            })
        };
        let debian = || DEBIAN_ACCOUNTS.iter().find(|(name, _)| *name == text).map(|(_, id)| *id);
        text.parse().ok().or_else(declared).or_else(debian)
    }

    fn owner_number(&self, owner: &Owner) -> Option<u32> {
        match owner {
            Owner::Id(id) => Some(*id),
            Owner::Name(name) => self.number(name.as_str()),
        }
    }

    fn is_volume(&self, path: &TreePath) -> bool {
        self.line.iter().flat_map(|recipe| &recipe.config.volumes).any(|volume| path.is_within(volume))
    }

    fn files(&mut self) {
        let user = self.process_user().and_then(|user| self.number(user.split(':').next()?));
        let mut found: Vec<(u32, &'static str, String, &'static str)> = Vec::new();
        for file in self.recipe.files.iter().filter(|file| !matches!(file.what, FileSource::Link(_))) {
            let modes = modes(file);
            if modes.iter().any(|(mode, directory)| mode & 0o002 != 0 && !(*directory && mode & 0o1000 != 0)) {
                let message = format!("`{}` can be changed by everyone", file.to);
                found.push((file.line, "world-writable", message, "take the 2 from the last digit of the mode"));
            }
            if modes.iter().any(|(mode, directory)| mode & 0o6000 != 0 && !directory) {
                let message = format!("`{}` lends its owner's power to whoever runs it", file.to);
                found.push((
                    file.line,
                    "setuid",
                    message,
                    "take the first digit from the mode; hardened containers ignore it anyway",
                ));
            }
            let own = user.is_some_and(|user| user != 0 && self.owner_number(&file.owners.user) == Some(user));
            if own && modes.iter().any(|(mode, _)| mode & 0o200 != 0) && !self.is_volume(&file.to) {
                let message = format!("the program can change `{}`: whoever takes it over can stay", file.to);
                found.push((file.line, "own-writable", message, "let another user own it, or make it a volume"));
            }
        }
        for (line, code, message, hint) in found {
            self.say(line, code, message, hint);
        }
    }

    fn runs(&mut self) {
        let mut found = Vec::new();
        for run in &self.recipe.runs {
            let words = run.command.join("\n");
            for line in words.lines().map(str::trim) {
                let Some((what, hint)) = declarable(line) else { continue };
                found.push((run.line, what, hint));
            }
        }
        found.dedup();
        for (line, what, hint) in found {
            self.say(
                line,
                "declare-it",
                format!("`{what}` in a script is not reviewed, cached or attributed line by line"),
                hint,
            );
        }
    }

    fn volumes(&mut self) {
        let declared = |volume: &TreePath| {
            let files = self.line.iter().flat_map(|recipe| &recipe.files);
            let copies = self.line.iter().flat_map(|recipe| &recipe.copies);
            files.into_iter().any(|file| file.to == *volume) || copies.into_iter().any(|copy| volume.is_within(&copy.to))
        };
        let missing: Vec<TreePath> = self.recipe.config.volumes.iter().filter(|volume| !declared(volume)).cloned().collect();
        for volume in missing {
            let at = self.find(self.recipe.config_line, &volume.to_string());
            let message = format!("no line of `files` makes the folder of the volume `{volume}`: an engine makes it for root");
            self.say(
                at,
                "volume-without-folder",
                message,
                format!("add `- {{directory: true, to: {volume}, owner: …, mode: \"0770\"}}`"),
            );
        }
        if self.recipe.from == Parent::Scratch
            && self.recipe.packages.is_empty()
            && self.recipe.files.is_empty()
            && self.recipe.copies.is_empty()
            && self.recipe.composer.is_none()
        {
            self.say(
                self.recipe.from_line,
                "empty-image",
                "the image holds nothing",
                "give it packages, files or a copy, or remove it",
            );
        }
    }
}

/// Returns the modes that a line of `files` gives, each with whether it is a folder's.
fn modes(file: &FileRule) -> Vec<(u16, bool)> {
    match file.what {
        FileSource::Directory => vec![(file.directory_mode, true)],
        FileSource::Text(_) => vec![(file.mode, false)],
        FileSource::Project(_) => vec![(file.mode, false), (file.directory_mode, true)],
        FileSource::Link(_) => Vec::new(),
    }
}

fn is_shell(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash"))
}

pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    !name.ends_with("_FILE") && (SECRET_NAMES.iter().any(|part| name.contains(part)) || name.ends_with("_KEY"))
}

/// Returns the command of a script line that the recipe can declare, with how.
fn declarable(line: &str) -> Option<(&'static str, &'static str)> {
    let mut words = line.split_whitespace();
    Some(match words.next()? {
        "rm" => ("rm", "write the path under `remove:`"),
        "ln" => ("ln", "write it under `files:` with `link:`"),
        "mkdir" | "install" => ("mkdir", "write it under `files:` with `directory: true`"),
        "chmod" => ("chmod", "write the mode under `files:`"),
        "chown" => ("chown", "write the owner under `files:`"),
        "useradd" | "adduser" | "groupadd" | "addgroup" | "usermod" => {
            ("useradd", "write the account under `users:`, with fixed ids")
        }
        "a2enmod" | "a2enconf" | "a2ensite" | "phpenmod" => ("a2enmod", "write the link it makes under `files:`"),
        "apt" | "apt-get" | "dpkg" => ("apt-get", "write the package under `packages:`; a script has no network"),
        "curl" | "wget" | "git" => ("curl", "put the file into `images/NAME/`; a script has no network"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::problem::Source;

    const PROJECT: &str = "name: parish\ndescription: x\nkeyring: keys/a.gpg\nkeys: [0123456789ABCDEF0123456789ABCDEF01234567]\n";
    const SUITES: &str = "suites:\n  - {name: trixie, archive: debian, support_until: 2028-08-09}\n  \
         - {name: trixie-security, archive: a, security: true, support_until: 2028-08-09}\n";

    fn codes(recipes: &[(&str, &str)]) -> Vec<(u32, &'static str)> {
        all(recipes).into_iter().map(|advice| (advice.line, advice.code)).collect()
    }

    fn all(recipes: &[(&str, &str)]) -> Vec<Advice> {
        let project = Project::parse("parvis.yaml", &format!("{PROJECT}{SUITES}")).unwrap();
        let files = recipes.iter().map(|(name, text)| {
            let text = format!("description: Says why the image exists.\n{text}");
            (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &text))
        });
        lint(&project, "parvis.yaml", &Catalog::parse(files.collect(), &BTreeMap::new()).unwrap())
    }

    /// Lints one image that is in order but for what is added.
    fn one(rest: &str) -> Vec<(u32, &'static str)> {
        codes(&[("a", &format!("from: scratch\npackages: [php]\ntests: [{{command: [php, -v]}}]\n{rest}\n"))])
    }

    #[test]
    fn an_image_in_order_gets_no_advice() {
        assert_eq!(one(""), []);
        assert_eq!(
            one("config: {user: '33:33', cmd: [php], env: {KEYS: /keys, DB_PASSWORD_FILE: /run/a, MONKEY: x, API_TOKEN: ''}}"),
            []
        );
        assert_eq!(one("files:\n  - {directory: true, to: /tmp, owner: 'root:root', mode: '1777'}"), []);
    }

    #[test]
    fn root_is_advised_against_where_something_runs() {
        assert_eq!(one("config:\n  cmd: [php]"), [(6, "root-user")]);
        assert_eq!(one("config:\n  cmd: [php]\n  user: '0:33'"), [(7, "root-user")]);
        assert_eq!(one("config:\n  user: root"), [(6, "root-user")]);
        let parent = ("a", "from: scratch\npackages: [php]\ntests: [{command: [a]}]\nconfig: {user: '33'}\n");
        assert_eq!(codes(&[parent, ("b", "from: a\ntests: [{command: [a]}]\nconfig: {cmd: [php]}\n")]), []);
    }

    #[test]
    fn a_service_is_checked_for_use() {
        assert_eq!(one("config:\n  user: '33'\n  ports: [80]"), [(6, "no-health-check")]);
        assert_eq!(one("config:\n  user: '33'\n  ports: [80]\n  health:\n    command: ['true']"), [(8, "idle-health-check")]);
        assert_eq!(one("config:\n  user: '33'\n  health:\n    script: mariadb-admin ping"), [(7, "idle-health-check")]);
    }

    #[test]
    fn secrets_are_found_by_their_names_and_marks() {
        assert_eq!(one("config:\n  env:\n    DB_PASSWORD: x\n    SESSION_KEY: x"), [(7, "secret"), (8, "secret")]);
        assert_eq!(one("config:\n  labels:\n    org.example.token: x"), [(7, "secret")]);
    }

    #[test]
    fn a_private_key_in_a_recipe_is_found() {
        let key = "files:\n  - text: '-----BEGIN PRIVATE KEY-----'\n    to: /k\n    owner: 'root:root'\n    mode: '0400'";
        assert_eq!(one(key), [(6, "secret")]);
        assert_eq!(one("run:\n  - command: [a]\n    env:\n      API_KEY: x"), [(8, "secret")]);
    }

    #[test]
    fn modes_that_let_others_write_are_found() {
        let file = |owner: &str, mode: &str| {
            format!("config: {{user: '33'}}\nfiles:\n  - {{text: a, to: /x, owner: '{owner}', mode: '{mode}'}}")
        };
        assert_eq!(one(&file("root:root", "0666")), [(7, "world-writable")]);
        assert_eq!(one(&file("root:root", "4555")), [(7, "setuid")]);
        assert_eq!(one(&file("www-data:root", "0640")), [(7, "own-writable")]);
        assert_eq!(one(&file("33:root", "0640")), [(7, "own-writable")]);
        assert_eq!(one(&file("33:root", "0440")), []);
        assert_eq!(one(&file("mysql:root", "0440")), [(7, "floating-id")]);
    }

    #[test]
    fn a_volume_has_a_folder_that_its_user_may_write_to() {
        assert_eq!(one("config:\n  user: '33'\n  volumes:\n    - /data"), [(8, "volume-without-folder")]);
        let declared =
            "files:\n  - {directory: true, to: /data, owner: '33:33', mode: '0770'}\nconfig: {user: '33', volumes: [/data]}";
        assert_eq!(one(declared), []);
    }

    #[test]
    fn what_can_be_declared_is_not_done_in_a_script() {
        assert_eq!(
            one("run:\n  - script: |\n      ln -s a b\n      a2enmod ssl\n      php x"),
            [(6, "declare-it"), (6, "declare-it")]
        );
        assert_eq!(one("config: {user: '33', cmd: [/bin/sh, -c, php]}"), [(5, "shell-form")]);
        assert_eq!(one("config: {stop_signal: SIGKILL, labels: {a: 'php:latest'}}"), [(5, "killed"), (5, "latest")]);
    }

    #[test]
    fn packages_are_asked_for_once_in_a_line_of_images() {
        let parent = ("a", "from: scratch\npackages: [php]\ntests: [{command: [a]}]\n");
        let child = ("b", "from: a\npackages:\n  - curl\n  - php\nrecommends: true\ntests: [{command: [a]}]\n");
        assert_eq!(codes(&[parent, child]), [(5, "package-of-parent"), (6, "recommends")]);
    }

    #[test]
    fn images_without_tests_reason_or_content_are_found() {
        assert_eq!(codes(&[("a", "from: scratch\n")]), [(2, "empty-image"), (2, "no-test")]);
        assert_eq!(one("users:\n  - {name: a, uid: 5, gid: 5, shell: /bin/sh}"), [(6, "login-shell")]);
    }

    #[test]
    fn moving_suites_and_missing_security_are_found() {
        let project =
            Project::parse("parvis.yaml", &format!("{PROJECT}suites:\n  - {{name: stable-updates, archive: debian}}\n")).unwrap();
        let advice = lint(&project, "parvis.yaml", &Catalog::parse(Vec::new(), &BTreeMap::new()).unwrap());
        let codes: Vec<_> = advice.iter().map(|advice| (advice.line, advice.code)).collect();
        assert_eq!(codes, [(6, "moving-suite"), (6, "no-security-suite"), (6, "no-support-date")]);
    }

    #[test]
    fn an_exception_for_an_image_that_is_not_there_is_found() {
        let text = format!("{PROJECT}{SUITES}gates:\n  size: [{{image: absent, most: 1 MB}}]\n");
        let project = Project::parse("parvis.yaml", &text).unwrap();
        let advice = lint(&project, "parvis.yaml", &Catalog::parse(Vec::new(), &BTreeMap::new()).unwrap());
        assert_eq!(advice.iter().map(|advice| (advice.line, advice.code)).collect::<Vec<_>>(), [(9, "unknown-image")]);
    }
}
