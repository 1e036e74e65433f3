//! A recipe file's text into a checked recipe.
//!
//! Substitution: `${name}` stands for a variable of the profile in every text that parvis itself reads — paths, names, owners,
//! modes, environment, labels, the description. It stands for nothing in what another program reads: `text`, `script`,
//! `command`, `entrypoint`, `cmd`, standard input and the texts a test looks for. So a shell's own `${HOME}`, `${x:-y}` and `$$`
//! are written as everywhere else, and a variable reaches a script the way it reaches any program: through `env`. Only
//! names of a variable's shape (`[a-z][a-z0-9_-]*`) are taken; `$${name}` writes `${name}`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::raw::{self, Text};
use super::{
    Account, ComposerRule, CopyRule, FileRule, FileSource, Health, ImageConfig, Owner, Owners, Parent, Port, Recipe, RemoveRule,
    RunRule, Test, TestKind,
};
use crate::model::name::{AccountName, ImageName, InvalidName, PackageName};
use crate::model::problem::{Problem, Source, shown};
use crate::model::tree::TreePath;
use crate::model::yaml::{self, OneOrMore, Placed};

/// The largest id: the two above it mean "no user" to the kernel or to programs with 16-bit ids.
const LARGEST_ID: u32 = u32::MAX - 2;

/// Signals that an engine knows by name (signal(7), without those that cannot be asked for).
const SIGNALS: [&str; 10] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL", "SIGRTMIN+3", "SIGPWR"];

impl Recipe {
    /// Reads a recipe file; `shown_path` is how messages name it.
    ///
    /// # Errors
    /// Returns the first problem of the file, with its place.
    pub fn parse(name: &ImageName, shown_path: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let source = Source::new(shown_path, text);
        let raw: raw::Recipe = yaml::parse(&source)?;
        Reader { source: &source, variables }.recipe(name, raw)
    }

    /// Returns the JSON Schema of a recipe file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::Recipe).to_value()
    }
}

struct Reader<'a> {
    source: &'a Source,
    variables: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn recipe(&self, name: &ImageName, raw: raw::Recipe) -> Result<Recipe, Problem> {
        let description = self.text(&raw.description)?.trim().to_owned();
        if description.is_empty() {
            return Err(raw
                .description
                .problem(self.source, "the description is empty")
                .hint("say in one sentence why the image exists"));
        }
        let first_line = raw.description.line.min(raw.from.line);
        let packages_line = raw.packages.as_ref().map_or(first_line, |packages| packages.line);
        let config_line = raw.config.as_ref().map_or(first_line, |config| config.line);
        let config = raw.config.map(|config| config.value).unwrap_or_default();
        Ok(Recipe {
            name: name.clone(),
            description,
            from: self.parent(&raw.from)?,
            from_line: raw.from.line,
            users: self.users(&raw.users)?,
            packages: self.packages(raw.packages.as_ref().map_or(&[], |packages| &packages.value))?,
            packages_line,
            recommends: raw.recommends,
            composer: raw.composer.as_ref().map(|composer| self.composer(composer)).transpose()?,
            files: self.files(&raw.files)?,
            copies: raw.copy.iter().map(|copy| self.copy(copy)).collect::<Result<_, _>>()?,
            runs: raw.run.iter().map(|run| self.run(run)).collect::<Result<_, _>>()?,
            removes: raw.remove.iter().map(|pattern| self.remove(pattern)).collect::<Result<_, _>>()?,
            config: self.config(&config)?,
            config_line,
            tests: raw.tests.iter().map(|test| self.test(test)).collect::<Result<_, _>>()?,
        })
    }

    fn parent(&self, from: &Text) -> Result<Parent, Problem> {
        let text = self.text(from)?;
        if text == "scratch" {
            return Ok(Parent::Scratch);
        }
        if text.contains(['/', ':', '@', '.']) {
            let message = format!("`{}` is an image of a registry, which cannot be a parent yet", shown(&text));
            return Err(from.problem(self.source, message).hint("start from `scratch` or from another recipe of the project"));
        }
        self.name(from).map(Parent::Recipe)
    }

    fn users(&self, users: &[Placed<raw::User>]) -> Result<Vec<Account>, Problem> {
        let (mut names, mut ids, mut groups) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut accounts: Vec<Account> = Vec::new();
        for user in users {
            let account = self.user(user)?;
            let raw = &user.value;
            if !names.insert(account.name.clone()) {
                return Err(raw.name.problem(self.source, format!("the user `{}` stands here twice", account.name)));
            }
            if let Some(other) = ids.insert(account.uid, account.name.clone()) {
                return Err(raw.uid.problem(self.source, format!("`{other}` already has the uid {}", account.uid)));
            }
            let gid = groups.entry(account.group.clone()).or_insert(account.gid);
            if *gid != account.gid {
                return Err(raw.gid.problem(self.source, format!("the group `{}` already has the gid {gid}", account.group)));
            }
            accounts.push(account);
        }
        for (group, gid) in &groups {
            let Some((other, _)) = groups.iter().find(|(other, id)| *id == gid && *other != group) else { continue };
            let Some(user) = users.iter().rfind(|user| user.value.gid.value == *gid) else { continue };
            return Err(user
                .value
                .gid
                .problem(self.source, format!("the groups `{group}` and `{other}` have the same gid {gid}")));
        }
        Ok(accounts)
    }

    fn user(&self, user: &Placed<raw::User>) -> Result<Account, Problem> {
        let raw = &user.value;
        let name: AccountName = self.name(&raw.name)?;
        for id in [&raw.uid, &raw.gid] {
            if id.value > LARGEST_ID || id.value == u32::from(u16::MAX) {
                return Err(id
                    .problem(self.source, format!("the id {} means \"nobody\" to some programs", id.value))
                    .hint("choose another, such as 1001"));
            }
        }
        let field = |field: Option<&Text>, default: &str| -> Result<String, Problem> {
            let Some(field) = field else { return Ok(default.to_owned()) };
            let text = self.text(field)?;
            if text.contains([':', '\n']) {
                return Err(field.problem(self.source, "an account's fields hold neither `:` nor line ends"));
            }
            Ok(text)
        };
        let path = |text: Option<&Text>, default: &str| -> Result<String, Problem> {
            let value = field(text, default)?;
            match text {
                Some(text) if !value.starts_with('/') => Err(self.not_absolute(text, &value)),
                _ => Ok(value),
            }
        };
        Ok(Account {
            line: user.line,
            uid: raw.uid.value,
            gid: raw.gid.value,
            group: raw.group.as_ref().map_or_else(|| Ok(name.clone()), |group| self.name(group))?,
            comment: field(raw.comment.as_ref(), "")?,
            home: path(raw.home.as_ref(), "/nonexistent")?,
            shell: path(raw.shell.as_ref(), "/usr/sbin/nologin")?,
            groups: raw.groups.iter().map(|group| self.name(group)).collect::<Result<_, _>>()?,
            name,
        })
    }

    fn packages(&self, packages: &[Text]) -> Result<Vec<PackageName>, Problem> {
        let mut seen = BTreeSet::new();
        let mut names = Vec::with_capacity(packages.len());
        for package in packages {
            let text = self.text(package)?;
            if text.contains(['=', ':', ' ']) {
                let message = format!("`{}` is more than a package name", shown(&text));
                return Err(package
                    .problem(self.source, message)
                    .hint("write the name alone: `parvis lock` chooses version and architecture"));
            }
            let name: PackageName = self.name(package)?;
            if !seen.insert(name.clone()) {
                return Err(package
                    .problem(self.source, format!("the package `{name}` stands here twice"))
                    .hint("keep one of them"));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn files(&self, files: &[Placed<raw::File>]) -> Result<Vec<FileRule>, Problem> {
        let mut places: BTreeMap<TreePath, u32> = BTreeMap::new();
        let mut rules = Vec::with_capacity(files.len());
        for file in files {
            let rule = self.file(file)?;
            if let Some(line) = places.insert(rule.to.clone(), file.line) {
                return Err(file.value.to.problem(self.source, format!("`{}` is already put there by line {line}", rule.to)));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn file(&self, file: &Placed<raw::File>) -> Result<FileRule, Problem> {
        let raw = &file.value;
        let what = match (&raw.from, &raw.text, &raw.directory, &raw.link) {
            (Some(from), None, None, None) => FileSource::Project(self.project_path(from)?),
            (None, Some(text), None, None) => FileSource::Text(text.value.clone()),
            (None, None, Some(Placed { value: true, .. }), None) => FileSource::Directory,
            (None, None, None, Some(link)) => FileSource::Link(self.link(link)?),
            _ => {
                let message = "a line of `files` has exactly one of `from`, `text`, `directory: true` and `link`";
                return Err(file.problem(self.source, message));
            }
        };
        let to = self.below_root(&raw.to)?;
        let is_link = matches!(what, FileSource::Link(_));
        let missing = |key: &str, example: &str| {
            file.problem(self.source, format!("the {key} of `{to}` is not declared"))
                .hint(format!("add `{key}: {example}`: nothing is taken from the disk"))
        };
        let owners = match &raw.owner {
            Some(owner) => self.owners(owner)?,
            None if is_link => Owners { user: Owner::Id(0), group: Owner::Id(0) },
            None => return Err(missing("owner", "\"root:root\"")),
        };
        let mode = match &raw.mode {
            Some(mode) if is_link => {
                return Err(mode.problem(self.source, "a link has no mode of its own").hint("remove `mode`"));
            }
            Some(mode) => self.mode(mode)?,
            None if is_link => 0o777,
            None => return Err(missing("mode", if what == FileSource::Directory { "\"0755\"" } else { "\"0444\"" })),
        };
        let directory_mode = match (&raw.directory_mode, &what) {
            (Some(mode), FileSource::Project(_)) => self.mode(mode)?,
            (Some(mode), _) => {
                return Err(mode.problem(self.source, "`directory_mode` is for folders of the project").hint("use `mode`"));
            }
            (None, FileSource::Directory) => mode,
            (None, _) => mode & 0o777 | (mode & 0o444) >> 2,
        };
        Ok(FileRule { line: file.line, to, what, owners, mode, directory_mode })
    }

    fn link(&self, link: &Text) -> Result<String, Problem> {
        let target = self.text(link)?;
        if target.is_empty() || target.contains('\n') {
            return Err(link.problem(self.source, "this cannot be the target of a link"));
        }
        Ok(target)
    }

    /// Reads a path below `images/NAME/`.
    fn project_path(&self, from: &Text) -> Result<TreePath, Problem> {
        let text = self.text(from)?;
        let hint = "write a path below the image's own folder `images/NAME/`";
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(from.problem(self.source, format!("`{}` leaves the project", shown(&text))).hint(hint));
        }
        TreePath::parse(text.as_bytes()).map_err(|error| from.problem(self.source, error.to_string()).hint(hint))
    }

    fn composer(&self, composer: &Placed<raw::Composer>) -> Result<ComposerRule, Problem> {
        let raw = &composer.value;
        let project = self.project_path(&raw.project)?;
        if project.is_root() {
            return Err(raw
                .project
                .problem(self.source, "the project has no folder of its own")
                .hint("put it into a folder below `images/NAME/`, so that each profile can have another"));
        }
        let mode = self.mode(&raw.mode)?;
        let script = |script: &Text| {
            let name = &script.value;
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.'));
            if plain && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) {
                return Ok(name.clone());
            }
            let problem = script.problem(self.source, format!("`{}` is not the name of a script", shown(name)));
            Err(problem.hint("write a key of `scripts` in composer.json, such as `post-install-cmd`"))
        };
        Ok(ComposerRule {
            line: composer.line,
            project,
            to: self.below_root(&raw.to)?,
            with: self.name(&raw.with)?,
            with_line: raw.with.line,
            platform: self.name(&raw.platform)?,
            platform_line: raw.platform.line,
            owners: self.owners(&raw.owner)?,
            mode,
            directory_mode: raw.directory_mode.as_ref().map_or(Ok(mode & 0o777 | (mode & 0o444) >> 2), |mode| self.mode(mode))?,
            exclude: raw.exclude.iter().map(|pattern| self.below_project(pattern)).collect::<Result<_, _>>()?,
            scripts: raw.scripts.iter().map(script).collect::<Result<_, _>>()?,
            authoritative: raw.authoritative,
        })
    }

    /// Reads a pattern of paths below a project.
    fn below_project(&self, pattern: &Text) -> Result<String, Problem> {
        let text = self.text(pattern)?;
        let hint = "write it as it stands in the project, such as `repository` or `vendor/*/*/tests/**`";
        if text.starts_with('/') {
            return Err(pattern.problem(self.source, format!("`{}` is not below the project", shown(&text))).hint(hint));
        }
        self.pattern(pattern, &text)?;
        Ok(text)
    }

    fn copy(&self, copy: &Placed<raw::Copy>) -> Result<CopyRule, Problem> {
        let raw = &copy.value;
        let path = self.below_root(&raw.path)?;
        Ok(CopyRule {
            line: copy.line,
            from: self.name(&raw.from)?,
            to: raw.to.as_ref().map_or_else(|| Ok(path.clone()), |to| self.below_root(to))?,
            path,
            owners: raw.owner.as_ref().map(|owner| self.owners(owner)).transpose()?,
        })
    }

    fn run(&self, run: &Placed<raw::Run>) -> Result<RunRule, Problem> {
        let raw = &run.value;
        let command = self.command(raw.command.as_ref(), raw.script.as_ref())?;
        Ok(RunRule {
            line: run.line,
            command: command.ok_or_else(|| run.problem(self.source, "this run has neither `command` nor `script`"))?,
            user: raw.user.as_ref().map(|user| self.user_and_group(user)).transpose()?,
            workdir: raw.workdir.as_ref().map(|workdir| self.absolute(workdir)).transpose()?,
            env: self.env(&raw.env)?,
            timeout: self.seconds(raw.timeout.as_ref(), 600)?,
        })
    }

    /// Returns the words of `command`, or of the shell that carries out `script`.
    fn command(&self, command: Option<&Placed<Vec<Text>>>, script: Option<&Text>) -> Result<Option<Vec<String>>, Problem> {
        match (command, script) {
            (Some(_), Some(script)) => Err(script.problem(self.source, "`command` and `script` exclude each other")),
            (None, Some(script)) if script.value.trim().is_empty() => Err(script.problem(self.source, "the script is empty")),
            (None, Some(script)) => Ok(Some(vec!["/bin/sh".into(), "-euc".into(), script.value.clone()])),
            (Some(command), None) if command.value.first().is_none_or(|program| program.value.is_empty()) => {
                Err(command.problem(self.source, "the command is empty").hint("write the program first: `[php, -v]`"))
            }
            (Some(command), None) => Ok(Some(words(&command.value))),
            (None, None) => Ok(None),
        }
    }

    fn remove(&self, pattern: &Text) -> Result<RemoveRule, Problem> {
        let text = self.absolute(pattern)?;
        self.pattern(pattern, &text[1..])?;
        Ok(RemoveRule { line: pattern.line, pattern: text })
    }

    /// Refuses a pattern that is not made of plain names.
    fn pattern(&self, pattern: &Text, text: &str) -> Result<(), Problem> {
        let names: Vec<&str> = text.split('/').collect();
        if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
            let message = format!("`{}` is not a plain path or pattern", shown(&pattern.value));
            return Err(pattern.problem(self.source, message).hint("write it without `.`, `..` and doubled or final `/`"));
        }
        if names.iter().any(|name| name.contains("**") && *name != "**") {
            return Err(pattern.problem(self.source, "`**` stands for whole folders").hint("write it between two `/`"));
        }
        Ok(())
    }

    fn config(&self, raw: &raw::Config) -> Result<ImageConfig, Problem> {
        let mut labels = BTreeMap::new();
        for (name, value) in &raw.labels {
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(value.problem(self.source, format!("`{}` is not the name of a label", shown(name))));
            }
            labels.insert(name.clone(), self.text(value)?);
        }
        let mut ports = raw.ports.iter().map(|port| self.port(port)).collect::<Result<Vec<_>, _>>()?;
        ports.sort_unstable();
        Ok(ImageConfig {
            entrypoint: raw.entrypoint.as_deref().map(words),
            cmd: raw.cmd.as_deref().map(words),
            env: self.env(&raw.env)?,
            user: raw.user.as_ref().map(|user| self.user_and_group(user)).transpose()?,
            workdir: raw.workdir.as_ref().map(|workdir| self.absolute(workdir)).transpose()?,
            ports,
            volumes: raw.volumes.iter().map(|volume| self.below_root(volume)).collect::<Result<_, _>>()?,
            stop_signal: raw.stop_signal.as_ref().map(|signal| self.signal(signal)).transpose()?,
            health: raw.health.as_ref().map(|health| self.health(health)).transpose()?,
            labels,
        })
    }

    fn health(&self, health: &Placed<raw::Health>) -> Result<Health, Problem> {
        let raw = &health.value;
        let command = self.command(raw.command.as_ref(), raw.script.as_ref())?;
        let retries = raw.retries.as_ref().map_or(3, |retries| retries.value);
        if retries == 0 {
            return Err(health
                .problem(self.source, "`retries: 0` means the engine's own figure")
                .hint("write how many failures count"));
        }
        Ok(Health {
            command: command
                .ok_or_else(|| health.problem(self.source, "this health check has neither `command` nor `script`"))?,
            interval: self.seconds(raw.interval.as_ref(), 30)?.max(1),
            timeout: self.seconds(raw.timeout.as_ref(), 10)?.max(1),
            start_period: self.seconds(raw.start_period.as_ref(), 10)?,
            retries,
        })
    }

    fn signal(&self, signal: &Text) -> Result<String, Problem> {
        let name = self.text(signal)?;
        if SIGNALS.contains(&name.as_str()) {
            return Ok(name);
        }
        let problem = signal.problem(self.source, format!("`{}` is not a signal to stop with", shown(&name)));
        let prefixed = format!("SIG{name}");
        Err(problem
            .hint("write its full name, such as `SIGTERM`")
            .did_you_mean(if name.starts_with("SIG") { &name } else { &prefixed }, SIGNALS))
    }

    fn port(&self, port: &Placed<yaml::NumberOrText>) -> Result<Port, Problem> {
        let text = self.substitute(port, &port.value.0)?;
        let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let number = number.parse::<u16>().ok().filter(|number| *number != 0 && !text.starts_with('+'));
        match (number, protocol) {
            (Some(number), "tcp" | "udp") => Ok(Port { number, udp: protocol == "udp" }),
            _ => Err(port
                .problem(self.source, format!("`{}` is not a port", shown(&text)))
                .hint("write `443`, `443/tcp` or `53/udp`")),
        }
    }

    fn test(&self, test: &Placed<raw::Test>) -> Result<Test, Problem> {
        let raw = &test.value;
        let what = match (self.command(raw.command.as_ref(), raw.script.as_ref())?, &raw.file) {
            (Some(command), None) => self.command_test(command, test)?,
            (None, Some(path)) => self.file_test(path, test)?,
            _ => return Err(test.problem(self.source, "a test has exactly one of `command`, `script` and `file`")),
        };
        Ok(Test { line: test.line, what })
    }

    fn command_test(&self, command: Vec<String>, test: &Placed<raw::Test>) -> Result<TestKind, Problem> {
        let raw = &test.value;
        if raw.exists.is_some() || raw.owner.is_some() || raw.mode.is_some() || raw.contains.is_some() {
            return Err(test.problem(self.source, "`exists`, `owner`, `mode` and `contains` are for tests of a `file`"));
        }
        Ok(TestKind::Command {
            command,
            user: raw.user.as_ref().map(|user| self.user_and_group(user)).transpose()?,
            env: self.env(&raw.env)?,
            stdin: raw.stdin.as_ref().map(|stdin| stdin.value.clone()).unwrap_or_default(),
            exit: raw.exit.as_ref().map_or(0, |exit| exit.value),
            stdout: texts(raw.stdout.as_ref()),
            stderr: texts(raw.stderr.as_ref()),
            absent: texts(raw.absent.as_ref()),
            timeout: self.seconds(raw.timeout.as_ref(), 60)?.max(1),
        })
    }

    fn file_test(&self, path: &Text, test: &Placed<raw::Test>) -> Result<TestKind, Problem> {
        let raw = &test.value;
        let for_commands =
            raw.user.is_some() || !raw.env.is_empty() || raw.stdin.is_some() || raw.exit.is_some() || raw.timeout.is_some();
        if for_commands || raw.stdout.is_some() || raw.stderr.is_some() || raw.absent.is_some() {
            return Err(test.problem(self.source, "a test of a `file` has only `exists`, `owner`, `mode` and `contains`"));
        }
        let exists = raw.exists.as_ref().is_none_or(|exists| exists.value);
        if !exists && (raw.owner.is_some() || raw.mode.is_some() || raw.contains.is_some()) {
            return Err(test.problem(self.source, "what does not exist has no owner, mode or content"));
        }
        Ok(TestKind::File {
            path: self.below_root(path)?,
            exists,
            owners: raw.owner.as_ref().map(|owner| self.owners(owner)).transpose()?,
            mode: raw.mode.as_ref().map(|mode| self.mode(mode)).transpose()?,
            contains: texts(raw.contains.as_ref()),
        })
    }

    /// Reads an absolute path that is not the root itself.
    fn below_root(&self, text: &Text) -> Result<TreePath, Problem> {
        let value = self.absolute(text)?;
        let path = TreePath::parse(value.as_bytes()).map_err(|error| text.problem(self.source, error.to_string()))?;
        if path.is_root() {
            return Err(text.problem(self.source, "this is the root of the image").hint("name something below it"));
        }
        Ok(path)
    }

    fn absolute(&self, text: &Text) -> Result<String, Problem> {
        let value = self.text(text)?;
        if value.starts_with('/') { Ok(value) } else { Err(self.not_absolute(text, &value)) }
    }

    fn not_absolute(&self, text: &Text, value: &str) -> Problem {
        text.problem(self.source, format!("`{}` is not an absolute path", shown(value))).hint("paths in the image start with `/`")
    }

    fn owners(&self, owner: &Text) -> Result<Owners, Problem> {
        let text = self.text(owner)?;
        let invalid = || {
            let message = format!("`{}` is not an owner", shown(&text));
            owner.problem(self.source, message).hint("write `user:group`, by name or number, such as \"root:www-data\"")
        };
        let (user, group) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Owners { user: self::owner(user).ok_or_else(invalid)?, group: self::owner(group).ok_or_else(invalid)? })
    }

    fn user_and_group(&self, user: &Text) -> Result<String, Problem> {
        let text = self.text(user)?;
        if text.splitn(2, ':').all(|part| owner(part).is_some()) {
            return Ok(text);
        }
        let message = format!("`{}` is not a user", shown(&text));
        Err(user.problem(self.source, message).hint("write `user` or `user:group`, by name or number below 4294967294"))
    }

    fn mode(&self, mode: &Text) -> Result<u16, Problem> {
        let text = self.text(mode)?;
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        u16::from_str_radix(&text, 8).ok().filter(|_| octal).ok_or_else(|| {
            let message = format!("`{}` is not a mode", shown(&text));
            mode.problem(self.source, message).hint("write three or four octal digits in quotes, such as \"0440\"")
        })
    }

    fn seconds(&self, duration: Option<&Text>, default: u64) -> Result<u64, Problem> {
        let Some(duration) = duration else { return Ok(default) };
        let text = self.text(duration)?;
        self::seconds(&text).ok_or_else(|| {
            let message = format!("`{}` is not a duration of at most a day", shown(&text));
            duration.problem(self.source, message).hint("write a number with `s`, `m` or `h`, such as `90s`")
        })
    }

    fn env(&self, env: &BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, Problem> {
        let mut values = BTreeMap::new();
        for (name, value) in env {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if !name.bytes().all(plain) || name.bytes().next().is_none_or(|first| first.is_ascii_digit()) {
                let message = format!("`{}` is not the name of an environment variable", shown(name));
                return Err(self.source.problem_at_word(value.line, name, message).hint("use letters, digits and `_`"));
            }
            values.insert(name.clone(), self.text(value)?);
        }
        Ok(values)
    }

    fn name<T: FromStr<Err = InvalidName>>(&self, text: &Text) -> Result<T, Problem> {
        self.text(text)?.parse().map_err(|error: InvalidName| text.problem(self.source, error.to_string()))
    }

    /// Returns a text with the profile's variables put in.
    fn text(&self, text: &Text) -> Result<String, Problem> {
        self.substitute(text, &text.value)
    }

    fn substitute<T>(&self, place: &Placed<T>, text: &str) -> Result<String, Problem> {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            result.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$$") {
                result.push('$');
                rest = after;
            } else if let Some((name, after)) = variable(rest) {
                let Some(value) = self.variables.get(name) else {
                    let problem = self.source.problem_at_word(
                        place.line,
                        &format!("${{{name}}}"),
                        format!("the variable `{name}` is not declared"),
                    );
                    let problem = problem.hint("declare it in the profile of `parvis.yaml`; for the text itself write `$${`");
                    return Err(problem.did_you_mean(name, self.variables.keys().map(String::as_str)));
                };
                result.push_str(value);
                rest = after;
            } else {
                result.push('$');
                rest = &rest[1..];
            }
        }
        result.push_str(rest);
        Ok(result)
    }
}

/// Reads a duration of at most a day: a number with `s`, `m` or `h`.
pub(in crate::model) fn seconds(text: &str) -> Option<u64> {
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds <= 86_400)
}

/// Splits `${name}` off the start of a text, where the name has a variable's shape.
pub(in crate::model) fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix("${")?.split_once('}')?;
    is_variable(name).then_some((name, after))
}

/// Whether a text can be the name of a profile's variable.
pub(in crate::model) fn is_variable(name: &str) -> bool {
    name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

fn owner(text: &str) -> Option<Owner> {
    if text.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
        let id = text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse::<u32>().ok())??;
        return (id <= LARGEST_ID).then_some(Owner::Id(id));
    }
    text.parse().ok().map(Owner::Name)
}

fn words(texts: &[Text]) -> Vec<String> {
    texts.iter().map(|text| text.value.clone()).collect()
}

fn texts(texts: Option<&Placed<OneOrMore>>) -> Vec<String> {
    texts.map(|texts| words(&texts.value.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recipe, Problem> {
        let variables = [("web-root", "/app/web"), ("uid", "1001"), ("zone", "Europe/Paris")];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Recipe::parse(&"httpd".parse().unwrap(), "recipes/httpd.yaml", text, &variables)
    }

    /// Reads a recipe whose first two lines are in order.
    fn with(rest: &str) -> Result<Recipe, Problem> {
        read(&format!("description: x\nfrom: php\n{rest}\n"))
    }

    #[track_caller]
    fn refused(rest: &str, expected: &str) {
        let problem = with(rest).expect_err(rest);
        assert_eq!(format!("{}:{}: {}", problem.line, problem.column, problem.message), expected, "{}", problem.render());
    }

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_whole_recipe_is_read() {
        let recipe = read(include_str!("sample.yaml")).unwrap();
        assert_eq!(recipe.from, Parent::Recipe("php".parse().unwrap()));
        assert_eq!((recipe.packages_line, recipe.packages.len(), recipe.recommends), (15, 2, false));
        let account = &recipe.users[0];
        assert_eq!((account.line, account.uid, account.gid, account.group.as_str()), (6, 1001, 1001, "paroisse"));
        assert_eq!((account.home.as_str(), account.shell.as_str()), ("/nonexistent", "/usr/sbin/nologin"));
        let lines: Vec<u32> = recipe.files.iter().map(|file| file.line).collect();
        assert_eq!(lines, [18, 23, 27, 31]);
        assert_eq!((recipe.files[0].mode, recipe.files[0].directory_mode), (0o440, 0o550));
        assert_eq!(recipe.files[1].what, FileSource::Text("a=${NOT} ${zone}\n".into()));
        assert_eq!(recipe.files[2].to, path("/app/web"));
        assert_eq!(recipe.files[3].what, FileSource::Link("../mods-available/ssl.load".into()));
        assert_eq!(recipe.copies[0].to, path("/app"));
        assert_eq!(recipe.runs[0].command, ["/bin/sh", "-euc", "echo \"${HOME:-$$}\"\n"]);
        assert_eq!((recipe.runs[0].timeout, recipe.runs[0].env["ZONE"].as_str()), (120, "Europe/Paris"));
        assert_eq!(recipe.removes[0].pattern, "/usr/share/doc/**");
        assert_eq!(
            recipe.config.ports,
            [Port { number: 53, udp: true }, Port { number: 80, udp: false }, Port { number: 444, udp: false }]
        );
        let health = recipe.config.health.unwrap();
        assert_eq!((health.interval, health.timeout, health.start_period, health.retries), (10, 5, 20, 3));
        assert_eq!(recipe.config_line, 51);
        let TestKind::Command { stdout, exit, absent, .. } = &recipe.tests[0].what else { panic!("{:?}", recipe.tests[0]) };
        assert_eq!((stdout.as_slice(), *exit, absent.len()), (["8.4".to_owned()].as_slice(), 1, 2));
        let TestKind::File { mode, owners, exists, .. } = &recipe.tests[1].what else { panic!("{:?}", recipe.tests[1]) };
        assert_eq!((*mode, *exists), (Some(0o440), true));
        assert_eq!(owners.as_ref().unwrap().user, Owner::Id(1001));
    }

    #[test]
    fn the_image_says_why_it_exists() {
        let problem = read("description: ' '\nfrom: scratch\n").unwrap_err();
        assert_eq!((problem.line, problem.message.as_str()), (1, "the description is empty"));
        assert_eq!(read("from: scratch\n").unwrap_err().message, "the key `description` is missing");
    }

    #[test]
    fn an_unknown_key_of_any_part_is_refused_with_the_likely_word() {
        for (text, line, key, hint) in [
            ("pakages: [a]", 3, "pakages", "did you mean `packages`?"),
            ("users:\n  - {name: a, uuid: 1, gid: 1}", 4, "uuid", "did you mean `uid`?"),
            ("config:\n  entry_point: [a]", 4, "entry_point", "did you mean `entrypoint`?"),
            ("tests:\n  - comand: [a]", 4, "comand", "did you mean `command`?"),
        ] {
            let problem = with(text).unwrap_err();
            assert_eq!((problem.line, problem.message.as_str()), (line, format!("unknown key `{key}`").as_str()), "{text}");
            assert_eq!(problem.hint.as_deref(), Some(hint), "{text}");
        }
    }

    #[test]
    fn a_registry_image_as_parent_is_refused_for_now() {
        let problem = read("description: x\nfrom: debian:trixie\n").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "recipes/httpd.yaml:2:7: `debian:trixie` is an image of a registry, which cannot be a parent yet"
        );
    }

    #[test]
    fn a_file_source_that_leaves_the_project_is_refused() {
        for source in ["../../etc/passwd", "/etc/passwd", "a/../../b"] {
            refused(
                &format!("files: [{{from: {source}, to: /x, owner: 'root:root', mode: '0444'}}]"),
                &format!("3:16: `{source}` leaves the project"),
            );
        }
    }

    #[test]
    fn owner_and_mode_are_always_declared() {
        refused("files:\n  - {text: a, to: /x, mode: '0444'}", "4:5: the owner of `/x` is not declared");
        refused("files:\n  - {text: a, to: /x, owner: 'a:b'}", "4:5: the mode of `/x` is not declared");
        refused("files:\n  - {text: a, to: /x, owner: root, mode: '0444'}", "4:30: `root` is not an owner");
        refused("files:\n  - {text: a, to: /x, owner: '4294967296:0', mode: '0444'}", "4:30: `4294967296:0` is not an owner");
        refused("files:\n  - {link: a, to: /x, mode: '0444'}", "4:29: a link has no mode of its own");
    }

    #[test]
    fn a_mode_without_quotes_is_refused_with_its_quotes() {
        let problem = with("files:\n  - {text: a, to: /x, owner: 'a:b', mode: 0440}").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("put it in quotes: \"0440\""));
        refused("files:\n  - {text: a, to: /x, owner: 'a:b', mode: '0o44'}", "4:43: `0o44` is not a mode");
        refused("files:\n  - {text: a, to: /x, owner: 'a:b', mode: '17777'}", "4:43: `17777` is not a mode");
        refused("files:\n  - {text: a, to: /x, owner: 'a:b', mode: '888'}", "4:43: `888` is not a mode");
    }

    #[test]
    fn a_line_of_files_puts_one_thing_in_one_place() {
        let one = "a line of `files` has exactly one of `from`, `text`, `directory: true` and `link`";
        refused("files: [{to: /x}]", &format!("3:9: {one}"));
        refused("files: [{text: a, link: b, to: /x}]", &format!("3:9: {one}"));
        refused("files: [{directory: false, to: /x}]", &format!("3:9: {one}"));
        refused("files: [{link: a, to: x}]", "3:23: `x` is not an absolute path");
        refused("files: [{link: a, to: /}]", "3:23: this is the root of the image");
        refused("files:\n  - {link: a, to: /x}\n  - {link: a, to: //x/}", "5:19: `/x` is already put there by line 4");
    }

    #[test]
    fn a_composer_project_says_where_with_what_and_for_which_php() {
        let rule = |rest: &str| {
            format!("composer: {{project: app, to: /app, with: tool, platform: php, owner: '1:2', mode: '0440'{rest}}}")
        };
        let recipe = with(&rule(", exclude: [repository, 'vendor/**/tests'], scripts: [post-install-cmd]")).unwrap();
        let composer = recipe.composer.unwrap();
        assert_eq!((composer.to, composer.mode, composer.directory_mode), (path("/app"), 0o440, 0o550));
        assert_eq!((composer.exclude.len(), composer.scripts.len(), composer.authoritative), (2, 1, false));
        assert_eq!((composer.line, composer.with_line), (3, 3));
        refused("composer: {project: app}", "3:12: the key `to` is missing");
        refused(&rule(", exclude: [/a]"), "3:101: `/a` is not below the project");
        refused(&rule(", exclude: [../a]"), "3:101: `../a` is not a plain path or pattern");
        refused(&rule(", scripts: ['@php x']"), "3:101: `@php x` is not the name of a script");
        refused(&rule("").replace("project: app", "project: ../app"), "3:21: `../app` leaves the project");
        refused(&rule("").replace("project: app", "project: ."), "3:21: the project has no folder of its own");
        refused(&rule("").replace("mode: '0440'", "mode: '999'"), "3:83: `999` is not a mode");
    }

    #[test]
    fn ids_are_given_once_and_never_mean_nobody() {
        let user = |name: &str, uid: u32, gid: u32| format!("  - {{name: {name}, uid: {uid}, gid: {gid}, group: g{gid}}}\n");
        refused(&format!("users:\n{}{}", user("a", 1, 1), user("a", 2, 2)), "5:12: the user `a` stands here twice");
        refused(&format!("users:\n{}{}", user("a", 1, 1), user("b", 1, 2)), "5:20: `a` already has the uid 1");
        refused(&format!("users:\n{}", user("a", 65535, 1)), "4:20: the id 65535 means \"nobody\" to some programs");
        refused(&format!("users:\n{}", user("a", u32::MAX, 1)), "4:20: the id 4294967295 means \"nobody\" to some programs");
        refused(
            "users:\n  - {name: a, uid: 1, gid: 1}\n  - {name: b, uid: 2, gid: 2, group: a}",
            "5:28: the group `a` already has the gid 1",
        );
        refused(
            "users:\n  - {name: a, uid: 1, gid: 1}\n  - {name: b, uid: 2, gid: 1}",
            "5:28: the groups `a` and `b` have the same gid 1",
        );
        refused("users:\n  - {name: a, uid: 1, gid: 1, home: 'x:y'}", "4:37: an account's fields hold neither `:` nor line ends");
    }

    #[test]
    fn a_package_is_a_name_and_stands_once() {
        refused("packages: [php, php]", "3:17: the package `php` stands here twice");
        refused("packages: [php=8.4]", "3:12: `php=8.4` is more than a package name");
        refused("packages: ['libc6:i386']", "3:12: `libc6:i386` is more than a package name");
        refused(
            "packages: [-y]",
            "3:12: `-y` is not a Debian package name: lowercase letters, digits, `+`, `-` and `.`, at least two, starting with a letter or digit",
        );
    }

    #[test]
    fn a_user_that_overflows_is_refused() {
        for user in ["4294967296", "4294967295:0", "a:b:c", "", "root:", "-1"] {
            refused(&format!("config: {{user: '{user}'}}"), &format!("3:16: `{user}` is not a user"));
        }
        for user in ["paroisse", "1001", "1001:www-data", "4294967293"] {
            assert_eq!(with(&format!("config: {{user: '{user}'}}")).unwrap().config.user.as_deref(), Some(user));
        }
    }

    #[test]
    fn ports_durations_and_signals_are_checked() {
        for port in ["0", "65536", "80/sctp", "'+80'", "'80/'", "http"] {
            assert!(with(&format!("config: {{ports: [{port}]}}")).is_err(), "{port}");
        }
        for duration in ["10", "ten", "'-1s'", "2d", "99999999999999999999s", "25h", "s"] {
            assert!(with(&format!("run: [{{command: [a], timeout: {duration}}}]")).is_err(), "{duration}");
        }
        let problem = with("config: {stop_signal: TERM}").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("did you mean `SIGTERM`?"));
    }

    #[test]
    fn commands_are_whole() {
        refused("run: [{user: root}]", "3:7: this run has neither `command` nor `script`");
        refused("run: [{command: []}]", "3:17: the command is empty");
        refused("run: [{command: [a], script: b}]", "3:30: `command` and `script` exclude each other");
        refused(
            "tests: [{command: [a], mode: '0444'}]",
            "3:9: `exists`, `owner`, `mode` and `contains` are for tests of a `file`",
        );
        refused("tests: [{file: /a, exit: 1}]", "3:9: a test of a `file` has only `exists`, `owner`, `mode` and `contains`");
        refused("tests: [{file: /a, exists: false, mode: '0444'}]", "3:9: what does not exist has no owner, mode or content");
        refused("config: {env: {'A B': x}}", "3:17: `A B` is not the name of an environment variable");
    }

    #[test]
    fn patterns_stay_inside_the_image() {
        for pattern in ["usr/share", "/usr/../etc", "/usr//x", "/usr/", "/", "/a**/b"] {
            assert!(with(&format!("remove: ['{pattern}']")).is_err(), "{pattern}");
        }
    }

    #[test]
    fn variables_are_put_in_where_parvis_itself_reads() {
        let recipe = with("config: {workdir: '${web-root}', env: {A: '$${uid} ${uid} $PATH ${PATH} $'}}").unwrap();
        assert_eq!(recipe.config.workdir.as_deref(), Some("/app/web"));
        assert_eq!(recipe.config.env["A"], "${uid} 1001 $PATH ${PATH} $");
        let recipe = with("run: [{script: 'echo ${uid} $$'}]\nconfig: {cmd: ['${uid}']}").unwrap();
        assert_eq!((recipe.runs[0].command[2].as_str(), recipe.config.cmd.unwrap()[0].as_str()), ("echo ${uid} $$", "${uid}"));
    }

    #[test]
    fn an_unknown_variable_is_refused_in_its_place() {
        let problem = with("config:\n  env:\n    ZONE: at ${zome}").unwrap_err();
        assert_eq!((problem.line, problem.column, problem.message.as_str()), (5, 14, "the variable `zome` is not declared"));
        assert_eq!(problem.hint.as_deref(), Some("did you mean `zone`?"));
    }

    #[test]
    fn a_value_put_in_is_checked_like_any_other() {
        let variables = [("user".to_owned(), "a:b:c".to_owned())].into_iter().collect();
        let text = "description: x\nfrom: php\nconfig: {user: '${user}'}\n";
        let problem = Recipe::parse(&"a".parse().unwrap(), "a.yaml", text, &variables).unwrap_err();
        assert_eq!(problem.message, "`a:b:c` is not a user");
    }
}
