//! Advice on a stack that can be started but should be better.

use std::collections::BTreeMap;

use super::identity::{self, Runtime, group_number, owner_number, user_number};
use super::lint::{Advice, names_secret};
use crate::model::catalog::Catalog;
use crate::model::name::{ImageName, PartName};
use crate::model::problem::{Source, shown};
use crate::model::recipe::FileSource;
use crate::model::stack::{Declared, KEYS_OUT, Outside, Piece, Role, Service, Stack, Template};
use crate::model::tree::Tree;

/// What stands at a path of an image.
enum Place {
    /// A folder with its owner and mode.
    Folder { uid: u32, gid: u32, mode: u16 },
    /// Something else, or a folder whose owner only a build knows.
    Other,
    /// Nothing; or, as long as the image was not built, nothing that the recipes declare.
    Missing,
}

/// Looks through a stack. `trees` returns what an image holds, where it was built.
#[must_use]
pub fn lint(stack: &Stack, source: &Source, catalog: &Catalog, trees: &BTreeMap<ImageName, Tree>) -> Vec<Advice> {
    let mut look = Look { stack, source, catalog, trees, advice: Vec::new() };
    for service in &stack.services {
        look.mounts(service);
        look.scratch(service);
        look.keys(service);
        look.published(service);
        look.waited_for(service);
        look.service(service);
    }
    look.unused();
    look.shared();
    look.advice.sort_unstable();
    look.advice
}

struct Look<'a> {
    stack: &'a Stack,
    source: &'a Source,
    catalog: &'a Catalog,
    trees: &'a BTreeMap<ImageName, Tree>,
    advice: Vec<Advice>,
}

impl Look<'_> {
    fn say(&mut self, line: u32, code: &'static str, message: String, hint: impl Into<String>) {
        self.advice.push(Advice { file: self.source.path.clone(), line, code, message, hint: hint.into() });
    }

    fn runtime(&self, service: &Service) -> Runtime {
        identity::runtime(self.catalog, &service.image)
    }

    /// Finds what stands at an absolute path: in the built image, else in what the recipes declare.
    fn place(&self, image: &ImageName, path: &str) -> Place {
        let below = path.trim_start_matches('/').as_bytes();
        if let Some(tree) = self.trees.get(image) {
            return match tree.get(below) {
                Some(entry) if entry.is_directory() => Place::Folder { uid: entry.uid, gid: entry.gid, mode: entry.mode },
                Some(_) => Place::Other,
                None => Place::Missing,
            };
        }
        let line = self.catalog.lineage(image);
        let rule = line.iter().rev().flat_map(|recipe| &recipe.files).find(|rule| rule.to.as_bytes() == below);
        if let Some(rule) = rule {
            let uid = owner_number(&rule.owners.user, |name| user_number(&line, name));
            let gid = owner_number(&rule.owners.group, |name| group_number(&line, name));
            return match (&rule.what, uid, gid) {
                (FileSource::Directory | FileSource::Project(_), Some(uid), Some(gid)) => {
                    Place::Folder { uid, gid, mode: rule.directory_mode }
                }
                _ => Place::Other,
            };
        }
        // A copy brings owners that only a build knows.
        let copied = line
            .iter()
            .flat_map(|recipe| &recipe.copies)
            .any(|copy| below.strip_prefix(copy.to.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")));
        if copied { Place::Other } else { Place::Missing }
    }

    fn mounts(&mut self, service: &Service) {
        for mount in &service.mounts {
            let (name, image, at) = (&service.name, &service.image, &mount.at);
            match self.place(image, at) {
                Place::Missing => {
                    let message = format!("the image `{image}` has no folder `{at}`: the volume would belong to root");
                    let hint = format!("add `{at}` to `files:` in `recipes/{image}.yaml`, with the owner that `{name}` runs as");
                    self.say(mount.line, "mount-missing", message, hint);
                }
                Place::Folder { uid, gid, mode } => {
                    let runtime = self.runtime(service);
                    let needed = if mount.read_only { 0o5 } else { 0o7 };
                    if let Some(user) = runtime.user.filter(|user| !may(*user, &runtime.groups, (uid, gid, mode), needed)) {
                        let what = if mount.read_only { "read" } else { "write" };
                        let message = format!(
                            "`{name}` runs as {}:{} and cannot {what} in `{at}`, which belongs to {uid}:{gid} with mode {mode:04o}",
                            user.0, user.1
                        );
                        let hint = format!("change the owner or mode of `{at}` in `recipes/{image}.yaml`");
                        self.say(mount.line, "mount-owner", message, hint);
                    }
                }
                Place::Other => {}
            }
        }
    }

    /// A folder in memory belongs to root; and where the image has one at that path, older runtimes give it the mode of that one.
    fn scratch(&mut self, service: &Service) {
        for path in &service.scratch {
            let (name, image) = (&service.name, &service.image);
            let runtime = self.runtime(service);
            if let Place::Folder { mode, .. } = self.place(image, path)
                && runtime.user.is_some_and(|user| !may(user, &runtime.groups, (0, 0, mode), 0o7))
            {
                let message = format!(
                    "the scratch folder `{path}` of `{name}` would have the mode {mode:04o} of the image's, and be root's"
                );
                let hint = format!("declare `{path}` in `recipes/{image}.yaml` with the mode 1777");
                self.say(service.line, "scratch-mode", message, hint);
            }
        }
    }

    /// The folder in which keys are made decides who may read them.
    fn keys(&mut self, service: &Service) {
        let (Some(maker), true) = (self.stack.key_maker(), service.has_keys()) else { return };
        let (name, image) = (&service.name, &maker.image);
        let at = format!("{KEYS_OUT}/{name}");
        let hint = format!("declare `{at}` in `recipes/{image}.yaml`, with the group that `{name}` runs with");
        match self.place(image, &at) {
            Place::Missing => {
                let message = format!("the image `{image}` has no folder `{at}`: nobody could write the keys of `{name}`");
                self.say(service.line, "keys-missing", message, hint);
            }
            Place::Folder { uid, gid, mode } => {
                let runtime = self.runtime(service);
                if let Some(user) = runtime.user.filter(|user| !may(*user, &runtime.groups, (uid, gid, mode), 0o5)) {
                    let message = format!(
                        "`{name}` runs as {}:{} and cannot read its keys: `{at}` belongs to {uid}:{gid} with mode {mode:04o}",
                        user.0, user.1
                    );
                    self.say(service.line, "keys-owner", message, hint);
                }
            }
            Place::Other => {}
        }
    }

    /// Whether a port is safe to publish cannot be seen from outside the program. So the stack has to state both halves in a form that
    /// something else relies on: the certificate is made and mounted because of the one, `authenticates` is the stack's word for the other.
    fn published(&mut self, service: &Service) {
        let name = &service.name;
        let ports = self.runtime(service).ports;
        for publish in &service.publish {
            let port = publish.port;
            if !service.certificates.iter().any(|certificate| certificate.role == Role::Server) {
                let message = format!("`{name}` is published on its port {port} and has no certificate: what passes can be read");
                let hint = "add `certificates: [{authority: …, as: server}]`, and let the program use it";
                self.say(publish.line, "published-plain", message, hint);
            }
            if !service.authenticates {
                let message = format!("`{name}` is published on its port {port}, and nothing says that it asks who is there");
                let hint = "put a proxy that asks before it, or write `authenticates: true` where it asks itself";
                self.say(publish.line, "published-open", message, hint);
            }
            if !ports.iter().any(|exposed| exposed.number == port && !exposed.udp) {
                let message =
                    format!("`{name}` is published on its port {port}, on which its image does not say that it listens");
                let hint = format!("add {port} to `ports:` in `recipes/{}.yaml`, or correct it here", service.image);
                self.say(publish.line, "port-unknown", message, hint);
            }
        }
    }

    fn waited_for(&mut self, service: &Service) {
        if !service.is_service() {
            return;
        }
        let name = &service.name;
        let runtime = self.runtime(service);
        let waits = self.stack.services.iter().find(|other| other.after.contains(name));
        if let (Some(other), false) = (waits, runtime.has_health_check) {
            let message =
                format!("`{}` waits for `{name}`, whose image has no health check: it would not wait at all", other.name);
            let hint =
                format!("add `health:` to `recipes/{}.yaml`, with a command that fails when it is of no use", service.image);
            self.say(service.line, "no-health-check", message, hint);
        }
        if let (Some(user), true) = (self.stack.users_of(name).next(), runtime.ports.is_empty()) {
            let message = format!("`{}` uses `{name}`, whose image says of no port that it listens there", user.name);
            self.say(service.line, "port-unknown", message, format!("add `ports:` to `recipes/{}.yaml`", service.image));
        }
    }

    fn service(&mut self, service: &Service) {
        for capability in service.capabilities.iter().filter(|capability| capability.reason.is_none()) {
            let message = format!("`{}` keeps the right {} of root without a reason", service.name, capability.name);
            self.say(capability.line, "capability", message, "add `reason:`, or remove it");
        }
        for (name, value) in &service.env {
            let text = value.pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if !text.is_empty()));
            let path = matches!(value.pieces.first(), Some(Piece::Text(text)) if text.starts_with('/'));
            let filled = text || value.parameters().next().is_some();
            if names_secret(name.as_str()) && filled && !path {
                let message = format!("`{name}` looks like a secret, which everyone who may ask the engine can read");
                self.say(value.line, "secret", message, "name it under `secrets:`; the program finds it in `/keys/NAME`");
            }
        }
        if let Some(reason) = service.reaches_outside.as_ref().filter(|reason| reason.chars().count() < 10) {
            let message =
                format!("`{}` may reach the world outside because of `{}`, which says little", service.name, shown(reason));
            self.say(service.line, "reaches-outside", message, "say what it reaches, and why");
        }
    }

    fn unused(&mut self) {
        let stack = self.stack;
        let services = || stack.services.iter();
        let in_secrets = |name: &PartName| services().any(|service| service.secrets.contains(name));
        let in_mounts = |name: &PartName| services().any(|service| service.mounts.iter().any(|mount| mount.volume == *name));
        let in_certificates = |name: &PartName| {
            services().any(|service| service.certificates.iter().any(|certificate| certificate.authority == *name))
        };
        let of =
            |kind: &'static str, declared: &[Declared], used: &dyn Fn(&PartName) -> bool| -> Vec<(u32, &'static str, PartName)> {
                let unused = declared.iter().filter(|declared| !used(&declared.name));
                unused.map(|declared| (declared.line, kind, declared.name.clone())).collect()
            };
        let mut unused = of("secret", &stack.secrets, &in_secrets);
        unused.extend(of("volume", &stack.volumes, &in_mounts));
        unused.extend(of("authority", &stack.authorities, &in_certificates));
        let parameters: Vec<&PartName> = self.parameters();
        let lonely = stack.parameters.iter().filter(|parameter| !parameters.contains(&&parameter.name));
        unused.extend(lonely.map(|parameter| (parameter.line, "parameter", parameter.name.clone())));
        for (line, kind, name) in unused {
            self.say(line, "unused", format!("nothing uses the {kind} `{name}`"), "remove it, or give it to who needs it");
        }
        for service in &stack.services {
            let lonely = |certificate: &&crate::model::stack::Certificate| {
                certificate.role == Role::Server
                    && service.publish.is_empty()
                    && !services().any(|other| other.trusts.contains(&certificate.authority))
            };
            for certificate in service.certificates.iter().filter(lonely) {
                let authority = &certificate.authority;
                let message = format!("nobody trusts `{authority}`: nobody can check the certificate of `{}`", service.name);
                self.say(
                    certificate.line,
                    "unused",
                    message,
                    format!("add `trusts: [{authority}]` to who talks to `{}`", service.name),
                );
            }
        }
    }

    /// Returns all parameters that something refers to.
    fn parameters(&self) -> Vec<&PartName> {
        fn of<T>(outside: &Outside<T>) -> Option<&PartName> {
            match outside {
                Outside::Fixed(_) => None,
                Outside::Parameter(name) => Some(name),
            }
        }
        let mut found: Vec<&PartName> = Vec::new();
        for service in &self.stack.services {
            found.extend(service.publish.iter().flat_map(|publish| of(&publish.outside).into_iter().chain(of(&publish.address))));
            let certificates = service.certificates.iter().flat_map(|one| one.names.iter().chain([&one.common_name]));
            found.extend(service.env.values().chain(certificates).flat_map(Template::parameters));
        }
        found.extend(self.stack.login.iter().flat_map(|login| [&login.url, &login.user]).flat_map(Template::parameters));
        found
    }

    /// What several images see of one volume must be the same to all of them.
    fn shared(&mut self) {
        let mut found: Vec<(u32, String, String)> = Vec::new();
        for volume in &self.stack.volumes {
            let users: Vec<_> = self
                .stack
                .services
                .iter()
                .flat_map(|service| {
                    service.mounts.iter().filter(|mount| mount.volume == volume.name).map(move |mount| (service, mount))
                })
                .collect();
            let Some(((first, place), others)) = users.split_first() else { continue };
            for (other, mount) in others {
                let folders =
                    [(first, &place.at), (other, &mount.at)].map(|(service, at)| match self.place(&service.image, at) {
                        Place::Folder { uid, gid, .. } => Some((uid, gid)),
                        _ => None,
                    });
                if let [Some(one), Some(two)] = folders
                    && one != two
                {
                    let message = format!(
                        "the volume `{}` belongs to {}:{} in `{}` and to {}:{} in `{}`: who starts first decides",
                        volume.name, one.0, one.1, first.image, two.0, two.1, other.image
                    );
                    found.push((mount.line, message, "give the folder the same owner by number in both recipes".into()));
                }
                let (one, two) = (self.catalog.lineage(&first.image), self.catalog.lineage(&other.image));
                for account in one.iter().flat_map(|recipe| &recipe.users) {
                    let Some(id) = two.iter().flat_map(|recipe| &recipe.users).find(|also| also.name == account.name) else {
                        continue;
                    };
                    if (id.uid, id.gid) != (account.uid, account.gid) {
                        let message = format!(
                            "`{}` is {}:{} in `{}` and {}:{} in `{}`, which share the volume `{}`",
                            account.name, account.uid, account.gid, first.image, id.uid, id.gid, other.image, volume.name
                        );
                        found.push((mount.line, message, "fix the same ids under `users:` in both recipes".into()));
                    }
                }
            }
        }
        for (line, message, hint) in found {
            self.say(line, "id-differs", message, hint);
        }
    }
}

/// Whether a user has rights (`rwx` as 4, 2 and 1) to a folder, as the kernel looks at it.
fn may((user, group): (u32, u32), groups: &[u32], (uid, gid, mode): (u32, u32, u16), needed: u16) -> bool {
    let granted = if user == uid {
        mode >> 6
    } else if group == gid || groups.contains(&gid) {
        mode >> 3
    } else {
        mode
    };
    // Root without capabilities is bound by modes like anybody.
    granted & needed == needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tree::{Entry, Origin, TreePath};

    const RECIPES: [(&str, &str); 4] = [
        (
            "keys",
            "files: [{directory: true, to: /out/web, owner: 'paroisse:www-data', mode: '2750'}]\nconfig: {user: '1001:1001'}",
        ),
        (
            "web",
            "files: [{directory: true, to: /data, owner: 'paroisse:www-data', mode: '0770'}]\nconfig: {user: '33:33', ports: [443], health: {command: [ask]}}",
        ),
        ("other", "files: [{directory: true, to: /data, owner: 'root:www-data', mode: '0750'}]\nconfig: {user: '33:33'}"),
        (
            "moved",
            "from: scratch\nusers: [{name: paroisse, uid: 1002, gid: 1002}]\nfiles: [{directory: true, to: /data, owner: 'paroisse:www-data', mode: '0770'}]\nconfig: {user: '33:33'}",
        ),
    ];

    fn catalog() -> Catalog {
        let recipe = |(name, rest): (&str, &str)| {
            let users = "from: scratch\nusers: [{name: paroisse, uid: 1001, gid: 1001}]\n";
            let text = if rest.starts_with("from") { rest.to_owned() } else { format!("{users}{rest}") };
            (name.parse().unwrap(), Source::new(name, &format!("description: x\n{text}\n")))
        };
        Catalog::parse(RECIPES.map(recipe).into(), &BTreeMap::new()).unwrap()
    }

    const HEAD: &str = "description: x
parameters: {port: {kind: port, default: 8443, question: {en: a, fr: b}}}
authorities: [outside]
secrets: {admin: {}}
volumes: {data: {description: x}}
services:
  keys: {image: keys, job: every, makes_keys: true}
";

    const WEB: &str = "  web:
    image: web
    certificates: [{authority: outside, as: server}]
    authenticates: true
    secrets: [admin]
    mounts: [{volume: data, at: /data}]
    publish: [{port: 443, as: '${port}'}]
";

    fn advice(services: &str, trees: &BTreeMap<ImageName, Tree>) -> Vec<String> {
        let source = Source::new("compose/site.yaml", &format!("{HEAD}{services}"));
        let catalog = catalog();
        let stack = Stack::parse(&"site".parse().unwrap(), &source, &BTreeMap::new(), &catalog).unwrap();
        let advice = lint(&stack, &source, &catalog, trees);
        advice.iter().map(|piece| format!("{}: {}: {}", piece.line, piece.code, piece.message)).collect()
    }

    /// The advice on a stack in which something was replaced.
    #[track_caller]
    fn said(from: &str, to: &str, expected: &[&str]) {
        assert!(WEB.contains(from), "{from}");
        assert_eq!(advice(&WEB.replace(from, to), &BTreeMap::new()), expected);
    }

    #[test]
    fn a_good_stack_gets_no_advice() {
        assert_eq!(advice(WEB, &BTreeMap::new()), [""; 0]);
    }

    #[test]
    fn a_scratch_folder_that_stands_in_the_image_is_for_everybody() {
        let message =
            "8: scratch-mode: the scratch folder `/data` of `web` would have the mode 0770 of the image's, and be root's";
        said(
            "mounts: [{volume: data, at: /data}]",
            "mounts: [{volume: data, at: /x}]\n    scratch: [/data]",
            &[message, "13: mount-missing: the image `web` has no folder `/x`: the volume would belong to root"],
        );
    }

    #[test]
    fn a_mount_needs_a_folder_that_the_user_can_write_to() {
        said(
            "at: /data",
            "at: /nowhere",
            &["13: mount-missing: the image `web` has no folder `/nowhere`: the volume would belong to root"],
        );
        let other = WEB.to_owned() + "  b: {image: other, mounts: [{volume: data, at: /data}]}\n";
        assert_eq!(
            advice(&other, &BTreeMap::new()),
            [
                "15: id-differs: the volume `data` belongs to 1001:33 in `web` and to 0:33 in `other`: who starts first decides",
                "15: mount-owner: `b` runs as 33:33 and cannot write in `/data`, which belongs to 0:33 with mode 0750",
            ]
        );
        let read_only = other.replace("at: /data}]}", "at: /data, read_only: true}]}");
        assert_eq!(advice(&read_only, &BTreeMap::new()).len(), 1, "reading it may");
    }

    #[test]
    fn what_was_built_counts_more_than_what_was_written() {
        let mut tree = Tree::new();
        let mut folder = Entry::directory(0o700, Origin::Parvis);
        folder.uid = 990;
        tree.put(TreePath::parse(b"data").unwrap(), folder);
        let trees = BTreeMap::from([("web".parse().unwrap(), tree)]);
        assert_eq!(
            advice(WEB, &trees),
            ["13: mount-owner: `web` runs as 33:33 and cannot write in `/data`, which belongs to 990:0 with mode 0700",]
        );
    }

    #[test]
    fn keys_are_made_in_a_folder_that_their_service_can_read() {
        let second = WEB.to_owned() + "  more: {image: other, secrets: [admin]}\n";
        assert_eq!(
            advice(&second, &BTreeMap::new()),
            ["15: keys-missing: the image `keys` has no folder `/out/more`: nobody could write the keys of `more`",]
        );
        let mut tree = Tree::new();
        tree.put(TreePath::parse(b"out").unwrap(), Entry::directory(0o755, Origin::Parvis));
        tree.put(TreePath::parse(b"out/web").unwrap(), Entry::directory(0o750, Origin::Parvis));
        let trees = BTreeMap::from([("keys".parse().unwrap(), tree)]);
        assert_eq!(
            advice(WEB, &trees),
            ["8: keys-owner: `web` runs as 33:33 and cannot read its keys: `/out/web` belongs to 0:0 with mode 0750",]
        );
    }

    #[test]
    fn a_published_port_is_encrypted_asks_who_is_there_and_exists() {
        said(
            "    authenticates: true\n",
            "",
            &["13: published-open: `web` is published on its port 443, and nothing says that it asks who is there"],
        );
        said(
            "    certificates: [{authority: outside, as: server}]\n",
            "",
            &[
                "3: unused: nothing uses the authority `outside`",
                "13: published-plain: `web` is published on its port 443 and has no certificate: what passes can be read",
            ],
        );
        said(
            "port: 443",
            "port: 444",
            &["14: port-unknown: `web` is published on its port 444, on which its image does not say that it listens"],
        );
    }

    #[test]
    fn what_nothing_uses_is_named() {
        said("    secrets: [admin]\n", "", &["4: unused: nothing uses the secret `admin`"]);
        said("    mounts: [{volume: data, at: /data}]\n", "", &["5: unused: nothing uses the volume `data`"]);
        said(", as: '${port}'", "", &["2: unused: nothing uses the parameter `port`"]);
        let inner = WEB.replace("    publish: [{port: 443, as: '${port}'}]\n", "    env: {P: '${port}'}\n");
        assert_eq!(
            advice(&inner, &BTreeMap::new()),
            ["10: unused: nobody trusts `outside`: nobody can check the certificate of `web`",]
        );
    }

    #[test]
    fn waiting_needs_a_health_check_and_talking_a_port() {
        let services = WEB.to_owned() + "  b: {image: other}\n  c: {image: other, uses: [b]}\n";
        assert_eq!(
            advice(&services, &BTreeMap::new()),
            [
                "15: no-health-check: `c` waits for `b`, whose image has no health check: it would not wait at all",
                "15: port-unknown: `c` uses `b`, whose image says of no port that it listens there",
            ]
        );
    }

    #[test]
    fn ids_are_the_same_in_images_that_share_a_volume() {
        let services = WEB.to_owned() + "  b: {image: moved, mounts: [{volume: data, at: /data}]}\n";
        assert_eq!(
            advice(&services, &BTreeMap::new()),
            [
                "15: id-differs: `paroisse` is 1001:1001 in `web` and 1002:1002 in `moved`, which share the volume `data`",
                "15: id-differs: the volume `data` belongs to 1001:33 in `web` and to 1002:33 in `moved`: who starts first decides",
            ]
        );
    }

    #[test]
    fn rights_have_reasons_and_secrets_no_variable() {
        let services = WEB.to_owned()
            + "    capabilities: [{add: CHOWN}]\n    env: {DB_PASSWORD: hunter2, A_TOKEN: /keys/token, B_SECRET: ''}\n    reaches_outside: mail\n";
        assert_eq!(
            advice(&services, &BTreeMap::new()),
            [
                "8: reaches-outside: `web` may reach the world outside because of `mail`, which says little",
                "15: capability: `web` keeps the right CHOWN of root without a reason",
                "16: secret: `DB_PASSWORD` looks like a secret, which everyone who may ask the engine can read",
            ]
        );
    }
}
