//! A stack as a compose file: what Compose 1.29.2, 2.26 and 2.40 read alike, and no variant by hand.
//!
//! Not used, because one of them refuses it: `name:`, `include`, `start_interval`, configurations inside the file.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::BundledImage;
use super::yaml::{Node, literal};
use crate::model::name::{ImageName, PartName};
use crate::model::stack::{Certificate, KEYS, KEYS_OUT, Outside, Parameter, Role, Service, Stack, Template, When};
use crate::plan::identity::Runtime;

/// The network of what is reachable from outside. All others are internal.
const OUTSIDE: &str = "outside";

/// A log is cut off at this size; three of them are kept.
const LOG_SIZE: &str = "10m";

/// What a compose file is made from.
pub(super) struct Draft<'a> {
    pub stack: &'a Stack,
    pub images: &'a BTreeMap<&'a ImageName, &'a BundledImage>,
    pub runtimes: &'a BTreeMap<&'a PartName, Runtime>,
    /// The images stand in an archive beside the file.
    pub travelling: bool,
}

/// Returns the name of the volume with the keys of a service.
pub(super) fn key_volume(service: &PartName) -> String {
    format!("keys-{service}")
}

/// Returns the compose file, without a heading.
pub(super) fn file(draft: &Draft) -> String {
    let services = draft.stack.services.iter().map(|service| (service.name.to_string(), draft.service(service)));
    let volumes = draft.stack.volumes.iter().map(|volume| volume.name.to_string());
    let keys = draft.stack.services.iter().filter(|service| service.has_keys()).map(|service| key_volume(&service.name));
    let empty = |name: String| (name, Node::Map(Vec::new()));
    let networks: BTreeSet<String> = draft.stack.services.iter().flat_map(|service| networks(draft.stack, service)).collect();
    let network = |name: String| match name.as_str() {
        OUTSIDE => empty(name),
        _ => (name, Node::map([("internal", Some(Node::Truth(true)))])),
    };
    let part = |items: Vec<(String, Node)>| (!items.is_empty()).then_some(Node::Map(items));
    Node::map([
        ("services", part(services.collect())),
        ("networks", part(networks.into_iter().map(network).collect())),
        ("volumes", part(volumes.chain(keys).map(empty).collect())),
    ])
    .render()
}

/// Returns the networks of a service: one for each service that is used, with those that use it.
fn networks(stack: &Stack, service: &Service) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = service.uses.iter().map(ToString::to_string).collect();
    if stack.users_of(&service.name).next().is_some() {
        names.insert(service.name.to_string());
    }
    if !service.publish.is_empty() || service.reaches_outside.is_some() {
        names.insert(OUTSIDE.to_owned());
    }
    names
}

fn text(text: impl Into<String>) -> Node {
    Node::Text(text.into())
}

impl Draft<'_> {
    fn service(&self, service: &Service) -> Node {
        let runtime = &self.runtimes[&service.name];
        let (user, group) = runtime.user.unwrap_or_default();
        let networks = networks(self.stack, service);
        let low_port = runtime.ports.iter().any(|port| port.number < 1024);
        let environment: Vec<(String, Node)> =
            service.env.iter().map(|(name, value)| (name.to_string(), text(self.fill(value)))).collect();
        let restart = if service.is_service() { "unless-stopped" } else { "no" };
        Node::map([
            ("image", Some(text(self.image(&service.image)))),
            // An image that was not loaded is not looked for under the same name elsewhere.
            ("pull_policy", self.travelling.then(|| text("never"))),
            ("command", self.command(service)),
            ("environment", (!environment.is_empty()).then_some(Node::Map(environment))),
            ("user", Some(text(format!("{user}:{group}")))),
            // With a group in `user`, engines do not look for further ones in the image.
            ("group_add", Node::texts(runtime.groups.iter().map(ToString::to_string))),
            ("read_only", Some(Node::Truth(true))),
            ("cap_drop", Node::texts(["ALL"])),
            ("cap_add", Node::texts(service.capabilities.iter().map(|capability| capability.name.as_str()))),
            ("security_opt", Node::texts(["no-new-privileges:true"])),
            // So that a server on a low port needs no right of root, whatever the engine's own setting is.
            ("sysctls", low_port.then(|| Node::map([("net.ipv4.ip_unprivileged_port_start", Some(text("0")))]))),
            ("mem_limit", Some(text(format!("{}m", service.memory >> 20)))),
            ("pids_limit", Some(Node::Number(service.pids.into()))),
            ("tmpfs", Node::texts(service.scratch.iter().map(|path| scratch(service, path)))),
            ("volumes", self.volumes(service)),
            ("networks", Node::texts(networks.iter().cloned())),
            ("network_mode", networks.is_empty().then(|| text("none"))),
            (
                "ports",
                Node::texts(service.publish.iter().map(|publish| {
                    let address = self.outside(&publish.address, Clone::clone);
                    let port = self.outside(&publish.outside, ToString::to_string);
                    format!("{address}:{port}:{}", publish.port)
                })),
            ),
            ("depends_on", self.depends_on(service)),
            ("profiles", (service.job == Some(When::Manual)).then(|| Node::texts([service.name.as_str()])).flatten()),
            ("restart", Some(text(restart))),
            ("stop_grace_period", Some(text(format!("{}s", service.stop_grace)))),
            (
                "logging",
                Some(Node::map([
                    ("driver", Some(text("json-file"))),
                    ("options", Some(Node::map([("max-file", Some(text("3"))), ("max-size", Some(text(LOG_SIZE)))]))),
                ])),
            ),
        ])
    }

    fn image(&self, name: &ImageName) -> String {
        let image = self.images[name];
        format!("${{{}:-{}@{}}}", image.variable, image.reference, image.manifest)
    }

    fn command(&self, service: &Service) -> Option<Node> {
        if service.makes_keys {
            return Node::texts(self.orders());
        }
        service.command.as_ref().and_then(|words| Node::texts(words.iter().map(|word| literal(word))))
    }

    /// Returns what the job that makes keys has to make, word by word: no value can become two of them.
    fn orders(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut order = |parts: &[&str]| words.extend(parts.iter().map(|part| (*part).to_owned()));
        for authority in &self.stack.authorities {
            order(&["authority", authority.name.as_str()]);
        }
        for service in &self.stack.services {
            for Certificate { authority, role, common_name, names, .. } in &service.certificates {
                let names: Vec<String> = names.iter().map(|name| self.fill(name)).collect();
                let (role, names) = match role {
                    Role::Server => ("server", names.join(",")),
                    Role::Client => ("client", "-".to_owned()),
                };
                let common_name = self.fill(common_name);
                order(&["certificate", service.name.as_str(), authority.as_str(), role, &common_name, &names]);
            }
        }
        for service in &self.stack.services {
            service.trusts.iter().for_each(|authority| order(&["trust", service.name.as_str(), authority.as_str()]));
        }
        for service in &self.stack.services {
            service.secrets.iter().for_each(|secret| order(&["secret", service.name.as_str(), secret.as_str()]));
        }
        words
    }

    fn volumes(&self, service: &Service) -> Option<Node> {
        let volume = |source: String, target: &str, read_only: bool| {
            Node::map([
                ("type", Some(text("volume"))),
                ("source", Some(text(source))),
                ("target", Some(text(target))),
                ("read_only", read_only.then_some(Node::Truth(true))),
            ])
        };
        let mut volumes: Vec<Node> =
            service.mounts.iter().map(|mount| volume(mount.volume.to_string(), &mount.at, mount.read_only)).collect();
        if service.has_keys() {
            volumes.push(volume(key_volume(&service.name), KEYS, true));
        }
        if service.makes_keys {
            let others = self.stack.services.iter().filter(|other| other.has_keys());
            volumes.extend(others.map(|other| volume(key_volume(&other.name), &format!("{KEYS_OUT}/{}", other.name), false)));
        }
        (!volumes.is_empty()).then_some(Node::List(volumes))
    }

    fn depends_on(&self, service: &Service) -> Option<Node> {
        let waits = service.after.iter().filter_map(|name| self.stack.service(name.as_str())).map(|other| {
            let condition = match other.job {
                Some(_) => "service_completed_successfully",
                None if self.runtimes[&other.name].has_health_check => "service_healthy",
                None => "service_started",
            };
            (other.name.to_string(), Node::map([("condition", Some(text(condition)))]))
        });
        let waits: Vec<(String, Node)> = waits.collect();
        (!waits.is_empty()).then_some(Node::Map(waits))
    }

    fn outside<T>(&self, outside: &Outside<T>, fixed: impl Fn(&T) -> String) -> String {
        match outside {
            Outside::Fixed(value) => fixed(value),
            Outside::Parameter(name) => self.parameter(name),
        }
    }

    /// Returns a text as compose is to read it: variables for parameters, everything else as it is.
    fn fill(&self, template: &Template) -> String {
        template.fill(literal, |name| self.parameter(name))
    }

    fn parameter(&self, name: &PartName) -> String {
        self.stack.parameter(name.as_str()).map(variable).unwrap_or_default()
    }
}

/// Returns the reference to a variable of `.env`, with its default where compose can read that.
fn variable(parameter: &Parameter) -> String {
    let Parameter { name, kind, default, .. } = parameter;
    let name = name.variable();
    let empty = if kind.may_be_empty() { "" } else { ":" };
    // A default ends at the first brace in Compose 1.29, and later ones put variables into it.
    if default.contains(['$', '{', '}', '\\']) {
        return format!("${{{name}{empty}?it is missing in .env}}");
    }
    format!("${{{name}{empty}-{default}}}")
}

/// Returns a folder in memory. Everybody may write to it, for Podman knows no owner of such a folder; and nobody else is in the container.
fn scratch(service: &Service, path: &str) -> String {
    format!("{path}:size={}k,mode=1777", service.scratch_size >> 10)
}
