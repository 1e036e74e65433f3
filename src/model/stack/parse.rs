//! A stack file's text into a checked stack.
//!
//! `${name}` stands for a parameter of the stack, whose value the person who starts it may choose, or else for a variable of the
//! profile, which is fixed. It stands for nothing in commands. `$$` writes one `$`.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::str::FromStr;

use super::raw::{self, Text};
use super::{
    BackupRule, BackupSource, Capability, Certificate, Declared, KEYS, KEYS_OUT, LOOPBACK, LoginRule, MaintenanceRule, Mount,
    Outside, Parameter, ParameterKind, Piece, Publish, Question, Role, Service, Stack, Template, When, is_reserved, order,
};
use crate::model::catalog::Catalog;
use crate::model::name::{InvalidName, PartName, VariableName, is_ipv4};
use crate::model::problem::{Problem, Source, shown, unseen};
use crate::model::recipe::parse::{seconds, variable};
use crate::model::tree::TreePath;
use crate::model::yaml::{self, NumberOrText, Placed};

/// Memory of a service unless stated.
const MEMORY: u64 = 512 << 20;

/// Processes and threads of a service unless stated.
const PIDS: u32 = 256;

/// Bytes of a scratch folder unless stated.
const SCRATCH: u64 = 64 << 20;

/// Seconds in which a service ends, unless stated: a database needs more than the engines' own 10.
const STOP_GRACE: u64 = 30;

/// The longest name of a service: its volume is called `keys-NAME`, and both are host names' labels.
const LONGEST_SERVICE: usize = 40;

/// The name of the one network that is not internal.
pub(super) const OUTSIDE: &str = "outside";

/// Rights of root that an engine can leave to a container (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

impl Stack {
    /// Reads a stack file, whose images must be in the catalog.
    ///
    /// # Errors
    /// Returns the first problem of the file, with its place.
    pub fn parse(
        name: &PartName,
        source: &Source,
        variables: &BTreeMap<String, String>,
        catalog: &Catalog,
    ) -> Result<Self, Problem> {
        let raw: raw::Stack = yaml::parse(source)?;
        Reader { source, variables, catalog, parameters: Vec::new() }.stack(name, &raw)
    }

    /// Reads which profile a stack file belongs to, if any: the rest may make no sense with the variables of another.
    ///
    /// # Errors
    /// Returns the first problem of the file's form, with its place.
    pub fn profile(source: &Source) -> Result<Option<Placed<String>>, Problem> {
        yaml::parse::<raw::Stack>(source).map(|raw| raw.profile)
    }

    /// Returns the JSON Schema of a stack file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::Stack).to_value()
    }
}

struct Reader<'a> {
    source: &'a Source,
    variables: &'a BTreeMap<String, String>,
    catalog: &'a Catalog,
    parameters: Vec<Parameter>,
}

/// The names that services may refer to.
struct Known {
    authorities: Vec<Declared>,
    secrets: Vec<Declared>,
    volumes: Vec<Declared>,
    services: Vec<Declared>,
}

impl Reader<'_> {
    fn stack(mut self, name: &PartName, raw: &raw::Stack) -> Result<Stack, Problem> {
        if raw.description.value.trim().is_empty() {
            return Err(raw
                .description
                .problem(self.source, "the description is empty")
                .hint("say in one sentence what the stack is"));
        }
        self.parameters = self.parameters(raw)?;
        let known = Known {
            authorities: self.authorities(&raw.authorities)?,
            secrets: self.declared(&raw.secrets, |secret| secret.description.as_ref())?,
            volumes: self.declared(&raw.volumes, |volume| Some(&volume.description))?,
            services: self.declared(&raw.services, |_| None)?,
        };
        self.check_names(&known)?;
        let mut services = Vec::new();
        for declared in &known.services {
            if let Some(raw) = raw.services.get(declared.name.as_str()) {
                services.push(self.service(declared, raw, &known)?);
            }
        }
        self.key_maker(&services)?;
        self.ports(&services)?;
        for service in &services {
            self.relations(service, &services, raw)?;
        }
        let services = order::arrange(self.source, services)?;
        let login = raw.login.as_ref().map(|login| self.login(login, &known, &services)).transpose()?;
        let backup = self.backups(&raw.backup, &known, &services)?;
        let maintenance = raw.maintenance.as_ref().map(|rule| self.maintenance(rule, &known, &services)).transpose()?;
        Ok(Stack {
            name: name.clone(),
            description: raw.description.value.trim().to_owned(),
            parameters: self.parameters,
            authorities: known.authorities,
            secrets: known.secrets,
            volumes: known.volumes,
            services,
            login,
            backup,
            maintenance,
        })
    }

    fn parameters(&self, raw: &raw::Stack) -> Result<Vec<Parameter>, Problem> {
        let declared = self.declared(&raw.parameters, |_| None)?;
        let mut parameters: Vec<Parameter> = Vec::new();
        for Declared { line, name, .. } in declared {
            let Some(raw) = raw.parameters.get(name.as_str()) else { continue };
            let variable = name.variable();
            if is_reserved(variable.as_str()) {
                let problem =
                    self.at_key(&name, line, format!("`{variable}` is a variable of the shell, of docker or of compose"));
                return Err(problem.hint("choose another name for the parameter"));
            }
            if self.variables.contains_key(name.as_str()) {
                let message = format!("`{name}` is already a variable of the profile");
                return Err(self.at_key(&name, line, message).hint("`${…}` could mean either: rename the parameter"));
            }
            let default = &raw.value.default;
            let value = default.value.0.clone();
            if let Err(rule) = raw.value.kind.check(&value) {
                let message = format!("`{}` is not a value for `{name}`", shown(&value));
                return Err(default.problem(self.source, message).hint(format!("a value is {rule}")));
            }
            let question = &raw.value.question.value;
            for words in [&question.en, &question.fr] {
                self.one_line(words, "a question")?;
            }
            let question = Question { en: question.en.value.clone(), fr: question.fr.value.clone() };
            parameters.push(Parameter { line, name, kind: raw.value.kind, default: value, question });
        }
        Ok(parameters)
    }

    fn authorities(&self, raw: &[Text]) -> Result<Vec<Declared>, Problem> {
        let mut authorities: Vec<Declared> = Vec::new();
        for text in raw {
            let name: PartName = self.name(text)?;
            if authorities.iter().any(|other| other.name == name) {
                return Err(text
                    .problem(self.source, format!("the authority `{name}` stands here twice"))
                    .hint("keep one of them"));
            }
            authorities.push(Declared { line: text.line, name, description: String::new() });
        }
        Ok(authorities)
    }

    /// Reads the names of a map, in the order of the file.
    fn declared<T>(
        &self,
        raw: &BTreeMap<String, Placed<T>>,
        description: impl Fn(&T) -> Option<&Text>,
    ) -> Result<Vec<Declared>, Problem> {
        let mut declared = Vec::new();
        for (name, value) in raw {
            let line = self.key_line(name, value.line);
            let parsed = name.parse::<PartName>().map_err(|error| self.at_key(name, line, error.to_string()))?;
            let description = match description(&value.value) {
                Some(text) => self.one_line(text, "a description")?,
                None => String::new(),
            };
            declared.push(Declared { line, name: parsed, description });
        }
        declared.sort_by_key(|declared| declared.line);
        Ok(declared)
    }

    fn check_names(&self, known: &Known) -> Result<(), Problem> {
        for Declared { line, name, .. } in &known.services {
            if name.as_str().len() > LONGEST_SERVICE {
                let message = format!("the name of the service `{name}` has more than {LONGEST_SERVICE} characters");
                return Err(self.at_key(name, *line, message));
            }
            if name.as_str() == OUTSIDE {
                let message = "no service can be called `outside`: that is the network of the published ones";
                return Err(self.at_key(name, *line, message));
            }
        }
        match known.volumes.iter().find(|volume| volume.name.as_str().starts_with("keys-")) {
            Some(Declared { line, name, .. }) => Err(self
                .at_key(name, *line, format!("the volume `{name}` has the name of one that is made for keys"))
                .hint("choose a name that does not begin with `keys-`")),
            None => Ok(()),
        }
    }

    fn service(&self, declared: &Declared, raw: &Placed<raw::Service>, known: &Known) -> Result<Service, Problem> {
        let Declared { line, name, .. } = declared;
        let raw = &raw.value;
        let image = self.name(&raw.image)?;
        if self.catalog.recipe(&image).is_none() {
            let problem = raw.image.problem(self.source, format!("the project has no image `{image}`"));
            let images = self.catalog.iter().map(|member| member.recipe.name.as_str());
            return Err(problem.hint(format!("write it in `recipes/{image}.yaml`")).did_you_mean(image.as_str(), images));
        }
        if raw.makes_keys && raw.job != Some(When::Every) {
            let problem = self.at_key(name, *line, format!("`{name}` makes keys, but not at each start"));
            return Err(problem.hint("add `job: every`: it has to add what a new version needs"));
        }
        if let (true, Some(command)) = (raw.makes_keys, &raw.command) {
            let message = "the command of the job that makes keys follows from the stack";
            return Err(command.problem(self.source, message).hint("remove `command`"));
        }
        let service = Service {
            line: *line,
            name: name.clone(),
            image,
            job: raw.job,
            makes_keys: raw.makes_keys,
            uses: self.services(&raw.uses, name, known)?,
            after: self.services(&raw.after, name, known)?,
            command: raw.command.as_ref().map(|command| self.command(command)).transpose()?,
            env: self.env(&raw.env)?,
            mounts: raw.mounts.iter().map(|mount| self.mount(mount, known)).collect::<Result<_, _>>()?,
            scratch: raw.scratch.iter().map(|path| self.path(path)).collect::<Result<_, _>>()?,
            scratch_size: self.size(raw.scratch_size.as_ref(), SCRATCH)?,
            secrets: self.known(&raw.secrets, "secret", &known.secrets)?,
            certificates: self.certificates(&raw.certificates, name, known)?,
            trusts: self.known(&raw.trusts, "authority", &known.authorities)?,
            publish: raw.publish.iter().map(|publish| self.publish(publish)).collect::<Result<_, _>>()?,
            authenticates: raw.authenticates,
            reaches_outside: raw.reaches_outside.as_ref().map(|reason| self.one_line(reason, "the reason")).transpose()?,
            capabilities: self.capabilities(&raw.capabilities)?,
            memory: self.size(raw.memory.as_ref(), MEMORY)?,
            pids: raw.pids.as_ref().map_or(PIDS, |pids| pids.value),
            stop_grace: self.seconds(raw.stop_grace.as_ref())?,
        };
        if let Some(pids) = raw.pids.as_ref().filter(|pids| pids.value == 0) {
            return Err(pids.problem(self.source, "nothing runs with no process at all"));
        }
        if service.job.is_some() && !raw.publish.is_empty() {
            return Err(
                raw.publish[0].problem(self.source, format!("`{name}` is a job, which ends: nobody could rely on its port"))
            );
        }
        self.places(&service, raw)?;
        Ok(service)
    }

    /// Refuses two things at one place, and one inside another that hides it.
    fn places(&self, service: &Service, raw: &raw::Service) -> Result<(), Problem> {
        let mut taken: Vec<(&str, String)> = Vec::new();
        if service.has_keys() {
            taken.push((KEYS, "the keys".to_owned()));
        }
        if service.makes_keys {
            taken.push((KEYS_OUT, "the folders of all keys".to_owned()));
        }
        let mounts = raw.mounts.iter().zip(&service.mounts);
        let mounts = mounts.map(|(raw, mount)| (&raw.value.at, &mount.at, format!("the volume `{}`", mount.volume)));
        let scratch = raw.scratch.iter().zip(&service.scratch).map(|(raw, path)| (raw, path, "a scratch folder".to_owned()));
        for (text, path, what) in mounts.chain(scratch) {
            if let Some((other, owner)) = taken.iter().find(|(other, _)| overlap(other, path)) {
                let message = format!("`{}` is where {owner} stands, at `{other}`", shown(path));
                return Err(text.problem(self.source, message).hint("choose a place of its own"));
            }
            taken.push((path, what));
        }
        Ok(())
    }

    fn services(&self, raw: &[Text], own: &PartName, known: &Known) -> Result<Vec<PartName>, Problem> {
        let names = self.known(raw, "service", &known.services)?;
        match raw.iter().zip(&names).find(|(_, name)| *name == own) {
            Some((text, _)) => Err(text.problem(self.source, format!("`{own}` cannot wait for itself")).hint("remove it here")),
            None => Ok(names),
        }
    }

    /// Reads a list of names that were declared.
    fn known(&self, raw: &[Text], kind: &str, declared: &[Declared]) -> Result<Vec<PartName>, Problem> {
        let mut names: Vec<PartName> = Vec::new();
        for text in raw {
            let name = self.one_known(text, kind, declared)?;
            if names.contains(&name) {
                return Err(text.problem(self.source, format!("the {kind} `{name}` stands here twice")).hint("keep one of them"));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn one_known(&self, text: &Text, kind: &str, declared: &[Declared]) -> Result<PartName, Problem> {
        let name = declared.iter().map(|declared| &declared.name).find(|name| name.as_str() == text.value);
        name.cloned().ok_or_else(|| {
            let problem = text.problem(self.source, format!("the stack has no {kind} `{}`", shown(&text.value)));
            let (singular, plural) = (kind, if kind == "authority" { "authorities".to_owned() } else { format!("{kind}s") });
            let hint = match declared {
                [] => format!("declare it under `{plural}:`"),
                [only] => format!("the only {singular} is `{}`", only.name),
                all => {
                    let all: Vec<String> = all.iter().map(|declared| format!("`{}`", declared.name)).collect();
                    format!("the {plural} are {}", all.join(", "))
                }
            };
            problem.hint(hint).did_you_mean(&text.value, declared.iter().map(|declared| declared.name.as_str()))
        })
    }

    fn command(&self, command: &Placed<Vec<Text>>) -> Result<Vec<String>, Problem> {
        let words: Vec<String> = command.value.iter().map(|word| word.value.clone()).collect();
        if words.is_empty() {
            return Err(command
                .problem(self.source, "the command is empty")
                .hint("write its words as a list: `[cron, --every, 15m]`"));
        }
        Ok(words)
    }

    fn program(&self, command: &Placed<Vec<Text>>) -> Result<Vec<String>, Problem> {
        let words = self.command(command)?;
        match command.value.first().filter(|word| word.value.is_empty() || word.value.starts_with('-')) {
            Some(word) => Err(word.problem(self.source, format!("`{}` is not a program", shown(&word.value)))),
            None => Ok(words),
        }
    }

    fn env(&self, raw: &BTreeMap<String, Placed<NumberOrText>>) -> Result<BTreeMap<VariableName, Template>, Problem> {
        let mut env = BTreeMap::new();
        for (name, value) in raw {
            let parsed = name.parse::<VariableName>().map_err(|error| self.at_key(name, value.line, error.to_string()))?;
            let template = self.template(value.line, value.column, &value.value.0)?;
            env.insert(parsed, template);
        }
        Ok(env)
    }

    fn mount(&self, mount: &Placed<raw::Mount>, known: &Known) -> Result<Mount, Problem> {
        let raw = &mount.value;
        Ok(Mount {
            line: mount.line,
            volume: self.one_known(&raw.volume, "volume", &known.volumes)?,
            at: self.path(&raw.at)?,
            read_only: raw.read_only,
        })
    }

    /// Reads an absolute path that is not the root and that neither compose nor an engine could take for something else.
    fn path(&self, text: &Text) -> Result<String, Problem> {
        let value = &text.value;
        let Some(below) = value.strip_prefix('/') else {
            let problem = text.problem(self.source, format!("`{}` is not an absolute path", shown(value)));
            return Err(problem.hint("paths in the image start with `/`"));
        };
        let tree = TreePath::parse(below.as_bytes()).map_err(|error| text.problem(self.source, error.to_string()))?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'+');
        if tree.is_root() || tree.as_bytes() != below.as_bytes() || !below.bytes().all(allowed) {
            let problem = text.problem(self.source, format!("`{}` cannot be a mount path", shown(value)));
            return Err(problem.hint("use letters, digits, `.`, `_`, `-` and `+` between single `/`"));
        }
        if ["proc", "sys", "dev"].contains(&below.split('/').next().unwrap_or_default()) {
            return Err(text.problem(self.source, format!("`{}` belongs to the kernel", shown(value))));
        }
        Ok(value.clone())
    }

    fn certificates(
        &self,
        raw: &[Placed<raw::Certificate>],
        service: &PartName,
        known: &Known,
    ) -> Result<Vec<Certificate>, Problem> {
        let mut certificates: Vec<Certificate> = Vec::new();
        for certificate in raw {
            let raw = &certificate.value;
            let authority = self.one_known(&raw.authority, "authority", &known.authorities)?;
            if certificates.iter().any(|other| other.authority == authority && other.role == raw.role) {
                let message = format!("`{service}` has such a certificate of `{authority}` already");
                return Err(raw.authority.problem(self.source, message).hint("one certificate may have several `names`"));
            }
            if let (Role::Client, Some(name)) = (raw.role, raw.names.first()) {
                let problem = name.problem(self.source, "a client has no names beside its common name");
                return Err(problem.hint("remove `names`, or write `as: server`"));
            }
            let own = Template { line: certificate.line, pieces: vec![Piece::Text(service.to_string())] };
            let common_name = raw.common_name.as_ref().map(|name| self.host_template(name)).transpose()?;
            let mut names = Vec::new();
            if raw.role == Role::Server {
                names.push(own.clone());
                for name in &raw.names {
                    let template = self.host_template(name)?;
                    if names.iter().any(|other| other.pieces == template.pieces) {
                        return Err(name.problem(self.source, format!("`{}` stands here twice", shown(&name.value))));
                    }
                    names.push(template);
                }
            }
            let common_name = common_name.unwrap_or(own);
            certificates.push(Certificate { line: certificate.line, authority, role: raw.role, common_name, names });
        }
        Ok(certificates)
    }

    /// Reads a host name or address, or a parameter that is one.
    fn host_template(&self, text: &Text) -> Result<Template, Problem> {
        let template = self.template(text.line, text.column, &text.value)?;
        let fits = match &template.pieces[..] {
            [Piece::Text(name)] => ParameterKind::Host.check(name).is_ok(),
            [Piece::Parameter(name)] => self.kind_of(name) == Some(ParameterKind::Host),
            _ => false,
        };
        if fits {
            return Ok(template);
        }
        let problem = text.problem(self.source, format!("`{}` is not a host name", shown(&text.value)));
        Err(problem.hint("write a host name, an IPv4 address, or `${name}` of a parameter of the kind `host`"))
    }

    fn publish(&self, publish: &Placed<raw::Publish>) -> Result<Publish, Problem> {
        let raw = &publish.value;
        if raw.port.value == 0 {
            return Err(raw.port.problem(self.source, "0 is not a port"));
        }
        let outside = match &raw.outside {
            None => Outside::Fixed(raw.port.value),
            Some(text) => match self.reference(text.line, text.column, &text.value.0, ParameterKind::Port)? {
                Outside::Parameter(name) => Outside::Parameter(name),
                Outside::Fixed(number) => {
                    let port = number.parse::<u16>().ok().filter(|number| *number != 0);
                    Outside::Fixed(port.ok_or_else(|| {
                        let problem = text.problem(self.source, format!("`{}` is not a port", shown(&number)));
                        problem.hint("write a number, or `${name}` of a parameter of the kind `port`")
                    })?)
                }
            },
        };
        let address = match &raw.address {
            None => Outside::Fixed(LOOPBACK.to_owned()),
            Some(text) => match self.reference(text.line, text.column, &text.value, ParameterKind::Address)? {
                Outside::Fixed(address) if !is_ipv4(&address) => {
                    let problem = text.problem(self.source, format!("`{}` is not an IPv4 address", shown(&address)));
                    return Err(problem.hint("write one such as `127.0.0.1`, or `${name}` of a parameter of the kind `address`"));
                }
                address => address,
            },
        };
        Ok(Publish { line: publish.line, port: raw.port.value, outside, address })
    }

    /// Reads a text, or a parameter of a kind.
    fn reference(&self, line: u32, column: u32, text: &str, kind: ParameterKind) -> Result<Outside<String>, Problem> {
        let template = self.template(line, column, text)?;
        match &template.pieces[..] {
            [Piece::Parameter(name)] if self.kind_of(name) == Some(kind) => Ok(Outside::Parameter(name.clone())),
            [Piece::Text(text)] => Ok(Outside::Fixed(text.clone())),
            _ => {
                let kind = format!("{kind:?}").to_lowercase();
                let problem = self.source.problem(line, column, format!("`{}` is not of the kind `{kind}`", shown(text)));
                Err(problem.hint(format!("write `${{name}}` of a parameter with `kind: {kind}`, and nothing else")))
            }
        }
    }

    fn kind_of(&self, name: &PartName) -> Option<ParameterKind> {
        self.parameters.iter().find(|parameter| parameter.name == *name).map(|parameter| parameter.kind)
    }

    fn capabilities(&self, raw: &[Placed<raw::Capability>]) -> Result<Vec<Capability>, Problem> {
        let mut capabilities: Vec<Capability> = Vec::new();
        for capability in raw {
            let add = &capability.value.add;
            let name = add.value.strip_prefix("CAP_").unwrap_or(&add.value);
            if !CAPABILITIES.contains(&name) {
                let problem = add.problem(self.source, format!("`{}` is not a right of root", shown(&add.value)));
                return Err(problem
                    .hint("write its name as in capabilities(7), such as `NET_BIND_SERVICE`")
                    .did_you_mean(name, CAPABILITIES));
            }
            if capabilities.iter().any(|other| other.name == name) {
                return Err(add.problem(self.source, format!("`{name}` stands here twice")).hint("keep one of them"));
            }
            let reason = capability.value.reason.as_ref().map(|reason| self.one_line(reason, "the reason")).transpose()?;
            capabilities.push(Capability { line: capability.line, name: name.to_owned(), reason });
        }
        Ok(capabilities)
    }

    /// Exactly one job makes keys, where any are needed.
    fn key_maker(&self, services: &[Service]) -> Result<(), Problem> {
        let mut makers = services.iter().filter(|service| service.makes_keys);
        match (makers.next(), makers.next()) {
            (Some(first), Some(second)) => {
                let message = format!("`{}` makes keys already", first.name);
                Err(self.at_key(&second.name, second.line, message).hint("keep `makes_keys` on one of them"))
            }
            (None, _) => match services.iter().find(|service| service.has_keys()) {
                Some(Service { line, name, .. }) => Err(self
                    .at_key(name, *line, format!("nothing makes the keys of `{name}`"))
                    .hint("add a job with `job: every` and `makes_keys: true`")),
                None => Ok(()),
            },
            (Some(maker), None) if maker.has_keys() || !maker.uses.is_empty() || !maker.after.is_empty() => Err(self
                .at_key(
                    &maker.name,
                    maker.line,
                    format!("`{}` makes the keys of others: it comes first and has none", maker.name),
                )
                .hint("remove its `uses`, `after`, `secrets`, `certificates` and `trusts`")),
            (Some(_), None) => Ok(()),
        }
    }

    /// Refuses two services on one port outside.
    fn ports(&self, services: &[Service]) -> Result<(), Problem> {
        let mut taken: Vec<(u16, &Publish, &PartName)> = Vec::new();
        for service in services {
            for publish in &service.publish {
                let port = match &publish.outside {
                    Outside::Fixed(port) => *port,
                    Outside::Parameter(name) => {
                        let default = self.parameters.iter().find(|parameter| parameter.name == *name);
                        default.and_then(|parameter| parameter.default.parse().ok()).unwrap_or_default()
                    }
                };
                let apart = |other: &Publish| match (&other.address, &publish.address) {
                    (Outside::Fixed(one), Outside::Fixed(two)) => one != two && one != "0.0.0.0" && two != "0.0.0.0",
                    _ => false,
                };
                if let Some((_, _, other)) = taken.iter().find(|(number, other, _)| *number == port && !apart(other)) {
                    let message = format!("`{other}` is already published on the port {port}");
                    let hint = "give each a port, or a parameter with a default, of its own";
                    return Err(self.source.problem_at_word(publish.line, "port", message).hint(hint));
                }
                taken.push((port, publish, &service.name));
            }
        }
        Ok(())
    }

    /// Refuses to talk to, or to wait for, what is not there by then.
    fn relations(&self, service: &Service, services: &[Service], raw: &raw::Stack) -> Result<(), Problem> {
        let Some(raw) = raw.services.get(service.name.as_str()) else { return Ok(()) };
        let find = |name: &PartName| services.iter().find(|other| other.name == *name);
        for (text, name) in raw.value.uses.iter().zip(&service.uses) {
            if find(name).is_some_and(|other| other.job.is_some()) {
                let problem = text.problem(self.source, format!("`{name}` is a job, which ends: nothing can talk to it"));
                return Err(problem.hint("write it under `after` to wait for its end"));
            }
        }
        for (text, name) in raw.value.after.iter().zip(&service.after) {
            if find(name).is_some_and(|other| other.job == Some(When::Manual)) {
                let problem = text.problem(self.source, format!("`{name}` runs when somebody asks: nothing can wait for it"));
                return Err(problem.hint("remove it here, or give it another `job`"));
            }
        }
        Ok(())
    }

    fn login(&self, login: &Placed<raw::Login>, known: &Known, services: &[Service]) -> Result<LoginRule, Problem> {
        let raw = &login.value;
        let secret = self.one_known(&raw.secret, "secret", &known.secrets)?;
        let service = self.one_known(&raw.service, "service", &known.services)?;
        if !services.iter().any(|other| other.name == service && other.secrets.contains(&secret)) {
            let problem = raw.service.problem(self.source, format!("`{service}` does not get the secret `{secret}`"));
            return Err(problem.hint(format!("name a service that has `secrets: [{secret}]`")));
        }
        if !raw.url.value.starts_with("https://") && !raw.url.value.starts_with("http://") {
            return Err(raw.url.problem(self.source, format!("`{}` is not the address of a page", shown(&raw.url.value))));
        }
        Ok(LoginRule {
            line: login.line,
            user: self.shown_template(&raw.user)?,
            secret,
            service,
            url: self.shown_template(&raw.url)?,
        })
    }

    /// Reads a text with parameters that is filled in by whoever shows it.
    fn shown_template(&self, text: &Text) -> Result<Template, Problem> {
        let template = self.template(text.line, text.column, &text.value)?;
        if template.pieces.iter().any(|piece| matches!(piece, Piece::Text(words) if words.contains('$'))) {
            let problem = text.problem(self.source, format!("`{}` has a `$` that stands for no parameter", shown(&text.value)));
            return Err(problem.hint("remove it"));
        }
        Ok(template)
    }

    fn backups(&self, raw: &[Placed<raw::Backup>], known: &Known, services: &[Service]) -> Result<Vec<BackupRule>, Problem> {
        let mut rules: Vec<BackupRule> = Vec::new();
        for backup in raw {
            let item = &backup.value;
            let file = item.file.value.clone();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if file.is_empty() || file.len() > 100 || !file.bytes().all(allowed) || file.starts_with(['.', '-']) {
                let problem = item.file.problem(self.source, format!("`{}` is not the name of a file", shown(&file)));
                return Err(problem.hint("use letters, digits, `.`, `_` and `-`, such as `database.sql`"));
            }
            if rules.iter().any(|rule| rule.file == file) {
                return Err(item.file.problem(self.source, format!("the file `{file}` stands here twice")));
            }
            let what = match (&item.service, &item.save, &item.restore, &item.volume) {
                (Some(service), Some(save), Some(restore), None) => BackupSource::Command {
                    service: self.one_known(service, "service", &known.services)?,
                    save: self.program(save)?,
                    restore: self.program(restore)?,
                },
                (None, None, None, Some(volume)) => {
                    let name = self.one_known(volume, "volume", &known.volumes)?;
                    let mounted = |service: &Service| service.mounts.iter().any(|mount| mount.volume == name && !mount.read_only);
                    if !services.iter().any(mounted) {
                        let problem = volume.problem(self.source, format!("no service can write to the volume `{name}`"));
                        return Err(problem.hint("mount it in one of them: that one's image makes the backup"));
                    }
                    BackupSource::Volume(name)
                }
                _ => {
                    let message = "a file of a backup has either `service`, `save` and `restore`, or `volume`";
                    return Err(backup.problem(self.source, message));
                }
            };
            rules.push(BackupRule { line: backup.line, file, what });
        }
        Ok(rules)
    }

    fn maintenance(
        &self,
        rule: &Placed<raw::Maintenance>,
        known: &Known,
        services: &[Service],
    ) -> Result<MaintenanceRule, Problem> {
        let raw = &rule.value;
        let service = self.one_known(&raw.service, "service", &known.services)?;
        let fits = |other: &&Service| other.name == service && other.is_service();
        let Some(answering) = services.iter().find(fits) else {
            return Err(raw.service.problem(self.source, format!("`{service}` is a job, which answers nobody")));
        };
        if !answering.mounts.iter().any(|mount| !mount.read_only) {
            let problem = raw.service.problem(self.source, format!("`{service}` has no volume to keep the notice in"));
            return Err(problem.hint("mount one that it can write to: the notice must outlive its containers"));
        }
        Ok(MaintenanceRule {
            line: rule.line,
            service,
            begin: self.program(&raw.begin)?,
            end: self.program(&raw.end)?,
            check: raw.check.as_ref().map(|check| self.program(check)).transpose()?,
        })
    }

    fn one_line(&self, text: &Text, what: &str) -> Result<String, Problem> {
        let value = text.value.trim();
        if value.is_empty() {
            return Err(text.problem(self.source, format!("{what} is empty")));
        }
        if value.contains('\n') || value.len() > 1000 {
            return Err(text.problem(self.source, format!("{what} is one line of at most 1000 characters")));
        }
        Ok(value.to_owned())
    }

    fn size(&self, text: Option<&Text>, default: u64) -> Result<u64, Problem> {
        let Some(text) = text else { return Ok(default) };
        let value = &text.value;
        let unit: u64 = match value.bytes().last() {
            Some(b'K') => 1 << 10,
            Some(b'M') => 1 << 20,
            Some(b'G') => 1 << 30,
            _ => 0,
        };
        let digits =
            value.get(..value.len().saturating_sub(1)).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let bytes = digits.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
        // Engines refuse less than 6 MiB of memory.
        bytes.filter(|bytes| (6 << 20..=1 << 40).contains(bytes)).ok_or_else(|| {
            let problem = text.problem(self.source, format!("`{}` is not a size between 6M and 1024G", shown(value)));
            problem.hint("write a number with `M` or `G`, such as `512M`")
        })
    }

    fn seconds(&self, text: Option<&Text>) -> Result<u64, Problem> {
        let Some(text) = text else { return Ok(STOP_GRACE) };
        seconds(&text.value).ok_or_else(|| {
            let problem = text.problem(self.source, format!("`{}` is not a duration of at most a day", shown(&text.value)));
            problem.hint("write a number with `s`, `m` or `h`, such as `90s`")
        })
    }

    /// Reads a text with `${name}` in it.
    fn template(&self, line: u32, column: u32, text: &str) -> Result<Template, Problem> {
        if let Some(character) = text.chars().find(|character| unseen(*character)) {
            let message = format!("the character U+{:04X} stands in this text", u32::from(character));
            return Err(self.source.problem(line, column, message).hint("write one line of what can be seen"));
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$$") {
                literal.push('$');
                rest = after;
            } else if let Some((name, after)) = variable(rest) {
                rest = after;
                if let Some(parameter) = self.parameters.iter().find(|parameter| parameter.name.as_str() == name) {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Parameter(parameter.name.clone()));
                } else if let Some(value) = self.variables.get(name) {
                    literal.push_str(value);
                } else {
                    let message = format!("neither a parameter of the stack nor a variable of the profile is called `{name}`");
                    let problem = self.source.problem_at_word(line, &format!("${{{name}}}"), message);
                    let names = self.parameters.iter().map(|parameter| parameter.name.as_str());
                    let names = names.chain(self.variables.keys().map(String::as_str));
                    return Err(problem
                        .hint("declare it under `parameters:`; for the text itself write `$${`")
                        .did_you_mean(name, names));
                }
            } else {
                literal.push('$');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Template { line, pieces })
    }

    fn name<T: FromStr<Err = InvalidName>>(&self, text: &Text) -> Result<T, Problem> {
        text.value.parse().map_err(|error: InvalidName| text.problem(self.source, error.to_string()))
    }

    /// Returns the line of a key, whose value begins on a given line: that one, or one above it.
    fn key_line(&self, key: &str, value: u32) -> u32 {
        let is_key = |line: &u32| {
            let text = self.source.line(*line).trim_start();
            let text = text.strip_prefix(['"', '\'']).unwrap_or(text);
            text.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
        };
        let inline = self.source.line(value).contains(&format!("{key}:"));
        if inline { value } else { (1..value).rev().find(is_key).unwrap_or(value) }
    }

    fn at_key(&self, key: &(impl Borrow<str> + ?Sized), line: u32, message: impl Into<String>) -> Problem {
        self.source.problem_at_word(line, key.borrow(), message)
    }
}

/// Whether two paths are one, or one is inside the other.
fn overlap(one: &str, two: &str) -> bool {
    let inside =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside(one, two) || inside(two, one)
}
