//! `a2enmod`, its other names, and `a2query` of apache2: what of Apache is enabled.

use std::collections::BTreeMap;

use super::tree::{Seen, Tree};
use super::{Call, Reply, done, name};

/// What can be enabled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Configuration,
    Site,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Configuration => "conf",
            Self::Site => "site",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Module => "Module",
            Self::Configuration => "Conf",
            Self::Site => "Site",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Module => "mods",
            Self::Configuration => "conf",
            Self::Site => "sites",
        }
    }

    fn suffix(self) -> &'static str {
        if self == Self::Module { "load" } else { "conf" }
    }

    fn file(self, name: &str, suffix: &str) -> String {
        format!("/etc/apache2/{}-available/{name}.{suffix}", self.folder())
    }

    fn link(self, name: &str, suffix: &str) -> String {
        format!("/etc/apache2/{}-enabled/{name}.{suffix}", self.folder())
    }

    fn target(self, name: &str, suffix: &str) -> String {
        format!("../{}-available/{name}.{suffix}", self.folder())
    }
}

/// Modules that are not disabled without a question.
const ESSENTIAL: [&str; 17] = [
    "alias",
    "auth_basic",
    "authn_file",
    "authz_host",
    "authz_user",
    "autoindex",
    "deflate",
    "dir",
    "env",
    "filter",
    "logio",
    "mime",
    "negotiation",
    "setenvif",
    "unixd",
    "version",
    "watchdog",
];

/// A change to the tree.
enum Step {
    Link(String, String),
    Unlink(String),
    /// Notes who enabled or disabled what, and forgets what was noted before.
    Mark(&'static str, String),
}

/// What a call will do and say: decided whole before anything is done.
struct Plan<'a> {
    tree: &'a Tree,
    kind: Kind,
    enable: bool,
    quiet: bool,
    steps: Vec<Step>,
    /// What will stand where links were or will be.
    links: BTreeMap<String, bool>,
    stdout: String,
}

pub fn a2enmod(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Module, true)
}

pub fn a2dismod(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Module, false)
}

pub fn a2enconf(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Configuration, true)
}

pub fn a2disconf(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Configuration, false)
}

pub fn a2ensite(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Site, true)
}

pub fn a2dissite(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    switch(tree, call, Kind::Site, false)
}

fn switch(tree: &Tree, call: &Call<'_>, kind: Kind, enable: bool) -> Option<Reply> {
    if !has_perl(tree)? {
        return None;
    }
    let words = call.words()?;
    let (mut quiet, mut by_script) = (false, false);
    let count = words.iter().take_while(|word| word.starts_with('-')).count();
    for option in &words[..count] {
        match *option {
            "-q" | "--quiet" => quiet = true,
            "-m" | "--maintmode" => by_script = true,
            "-mq" | "-qm" => (quiet, by_script) = (true, true),
            _ => return None,
        }
    }
    if count == words.len() {
        return None;
    }
    let mut plan = Plan { tree, kind, enable, quiet, steps: Vec::new(), links: BTreeMap::new(), stdout: String::new() };
    for object in &words[count..] {
        plan.object(object, 0)?;
    }
    plan.say_how_to_activate()?;
    let Plan { steps, stdout, .. } = plan;
    let markers = format!(
        "/var/lib/apache2/{}/{}_by_{}",
        kind.noun(),
        if enable { "enabled" } else { "disabled" },
        if by_script { "maint" } else { "admin" }
    );
    if steps.iter().any(|step| matches!(step, Step::Mark(..))) {
        notes_named(tree, &format!("/var/lib/apache2/{}", kind.noun()), "", 0)?;
    }
    let work = || steps.iter().try_for_each(|step| step.take(tree, &markers));
    Some(done(work, Reply { stdout: stdout.into_bytes(), ..Reply::default() }))
}

/// Says whether perl is there with all its modules: what is essential of it is not enough for the originals.
fn has_perl(tree: &Tree) -> Option<bool> {
    let versions = tree.names("/usr/share/perl")?;
    Some(versions.iter().any(|version| tree.has_file(&format!("/usr/share/perl/{version}/Getopt/Std.pm")) == Some(true)))
}

impl Step {
    fn take(&self, tree: &Tree, markers: &str) -> std::io::Result<()> {
        match self {
            Self::Link(text, path) => tree.link(text, path),
            Self::Unlink(path) => tree.remove(path),
            Self::Mark(noun, name) => {
                tree.make_folders(markers)?;
                for old in notes_named(tree, &format!("/var/lib/apache2/{noun}"), name, 0).unwrap_or_default() {
                    tree.remove(&old)?;
                }
                tree.create(&format!("{markers}/{name}"), b"", 0o644).map(drop)
            }
        }
    }
}

/// Returns the files of a name below a folder, or nothing when the folder holds more than folders and files.
fn notes_named(tree: &Tree, folder: &str, name: &str, depth: u8) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for entry in tree.names(folder)? {
        let path = format!("{folder}/{entry}");
        match tree.look(&path)? {
            Seen::File(_) if entry == name => found.push(path),
            Seen::File(_) => {}
            Seen::Folder if depth < 4 => found.extend(notes_named(tree, &path, name, depth + 1)?),
            _ => return None,
        }
    }
    Some(found)
}

impl Plan<'_> {
    fn say(&mut self, text: &str) {
        self.stdout.push_str(text);
    }

    fn inform(&mut self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Plans for one object by its name.
    fn object(&mut self, object: &str, depth: u8) -> Option<()> {
        let plain = name(object)?;
        // The original takes a suffix away, and any character before it with it.
        let suffixed = plain.ends_with(self.kind.suffix());
        let special = self.kind == Kind::Module && matches!(plain, "cgi" | "cache_disk");
        if suffixed || special || depth > 16 || !self.tree.has_file(&self.kind.file(plain, self.kind.suffix()))? {
            return None;
        }
        if self.enable { self.enable(plain, depth) } else { self.disable(plain) }
    }

    /// Says whether a link is there and leads where it should.
    fn is_linked(&self, name: &str, suffix: &str) -> Option<bool> {
        let path = self.kind.link(name, suffix);
        if let Some(there) = self.links.get(&path) {
            return Some(*there);
        }
        match self.tree.look(&path)? {
            Seen::Absent => Some(false),
            Seen::Link(text) if text == self.kind.target(name, suffix).as_bytes() => Some(true),
            _ => None,
        }
    }

    fn add(&mut self, name: &str, suffix: &str) {
        let path = self.kind.link(name, suffix);
        self.links.insert(path.clone(), true);
        self.steps.push(Step::Link(self.kind.target(name, suffix), path));
    }

    fn take_away(&mut self, name: &str, suffix: &str) {
        let path = self.kind.link(name, suffix);
        self.links.insert(path.clone(), false);
        self.steps.push(Step::Unlink(path));
    }

    fn enable(&mut self, name: &str, depth: u8) -> Option<()> {
        let kind = self.kind;
        let text = self.tree.read(&kind.file(name, kind.suffix()))?;
        let needed = named_in_header(&text, "Depends")?;
        if kind == Kind::Module {
            for other in needed {
                self.inform(&format!("Considering dependency {other} for {name}:\n"));
                self.object(&other, depth + 1)?;
            }
            for other in named_in_header(&text, "Conflicts")? {
                self.inform(&format!("Considering conflict {other} for {name}:\n"));
                // A link that dangles would be removed, one that is right is an error.
                if super::name(&other).is_none() || self.is_linked(&other, "load")? {
                    return None;
                }
            }
        } else {
            for other in needed {
                self.inform(&format!("Checking dependency {other} for {name}:\n"));
                let modules =
                    Plan { kind: Kind::Module, links: BTreeMap::new(), steps: Vec::new(), stdout: String::new(), ..*self };
                let there = super::name(&other).is_some() && modules.is_linked(&other, "load")?;
                if !there || !self.tree.has_file(&Kind::Module.file(&other, "load"))? {
                    return None;
                }
            }
        }
        let extra = kind == Kind::Module && self.tree.has_file(&kind.file(name, "conf"))?;
        let extra_is_linked = if extra { self.is_linked(name, "conf")? } else { true };
        match (self.is_linked(name, kind.suffix())?, extra_is_linked) {
            (true, true) => self.inform(&format!("{} {name} already enabled\n", kind.title())),
            (true, false) => {
                self.say(&format!("Enabling config file {name}.conf.\n"));
                self.add(name, "conf");
            }
            (false, extra_is_linked) => {
                if !extra_is_linked {
                    self.add(name, "conf");
                }
                self.say(&format!("Enabling {} {name}.\n", kind.noun()));
                if kind == Kind::Module && name == "ssl" {
                    self.inform(SSL);
                }
                self.add(name, kind.suffix());
                self.steps.push(Step::Mark(kind.noun(), name.to_owned()));
            }
        }
        Some(())
    }

    fn disable(&mut self, name: &str) -> Option<()> {
        let kind = self.kind;
        if kind == Kind::Module && (ESSENTIAL.contains(&name) || self.is_needed(name)?) {
            return None;
        }
        let extra = kind == Kind::Module && self.tree.has_file(&kind.file(name, "conf"))? && self.is_linked(name, "conf")?;
        match (self.is_linked(name, kind.suffix())?, extra) {
            (true, extra) => {
                self.take_away(name, kind.suffix());
                if extra {
                    self.take_away(name, "conf");
                }
                self.steps.push(Step::Mark(kind.noun(), name.to_owned()));
                self.say(&format!("{} {name} disabled.\n", kind.title()));
            }
            (false, true) => {
                self.say(&format!("Disabling stale config file {name}.conf.\n"));
                self.take_away(name, "conf");
            }
            (false, false) => self.inform(&format!("{} {name} already disabled\n", kind.title())),
        }
        Some(())
    }

    /// Says whether a module that stays enabled needs this one.
    fn is_needed(&self, name: &str) -> Option<bool> {
        for file in self.tree.names("/etc/apache2/mods-enabled")? {
            let Some(other) = file.strip_suffix(".load").filter(|_| !file.starts_with('.')) else { continue };
            super::name(other)?;
            if self.is_linked(other, "load")? {
                let text = self.tree.read(&Kind::Module.file(other, "load"))?;
                if named_in_header(&text, "Depends")?.iter().any(|needed| needed == name) {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    fn say_how_to_activate(&mut self) -> Option<()> {
        if !self.steps.is_empty() && !self.quiet {
            match self.tree.look("/proc/1/exe")? {
                Seen::Absent => {}
                Seen::Link(text) if !text.windows(7).any(|part| part == b"systemd") => {}
                _ => return None,
            }
            let verb = if self.kind == Kind::Module { "restart" } else { "reload" };
            self.say(&format!("To activate the new configuration, you need to run:\n  service apache2 {verb}\n"));
        }
        Some(())
    }
}

const SSL: &str = "See /usr/share/doc/apache2/README.Debian.gz on how to configure SSL and create self-signed certificates.\n";

/// Returns the names after `# Depends:` or `# Conflicts:` in the comments with which a file begins.
fn named_in_header(text: &[u8], field: &str) -> Option<Vec<String>> {
    for line in text.split(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(line).ok()?;
        let value = line.strip_prefix("# ").and_then(|rest| rest.strip_prefix(field)).and_then(|rest| rest.strip_prefix(':'));
        if let Some(value) = value.filter(|value| value.starts_with(|first: char| first.is_ascii_whitespace())) {
            return value.is_ascii().then(|| value.split_ascii_whitespace().map(str::to_owned).collect());
        }
        let begin = line.trim_ascii_start();
        if !begin.is_empty() && !begin.starts_with('#') {
            break;
        }
    }
    Some(Vec::new())
}

/// Who enabled or disabled something, in the order in which the notes are read.
const BY: [(&str, &str, u8); 2] = [("maint", "maintainer script", 33), ("admin", "site administrator", 32)];

pub fn a2query(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let words = call.words()?;
    let (quiet, words) =
        words.split_first().filter(|(first, _)| **first == "-q").map_or((false, &*words), |(_, rest)| (true, rest));
    if !has_perl(tree)? {
        return None;
    }
    // The original asks apache2ctl first, which makes these folders.
    for folder in ["/run/apache2/socks", "/run/lock/apache2"] {
        if !tree.is_folder(folder)? {
            return None;
        }
    }
    let runs = [("/var/run", "/run"), ("/var/lock", "/run/lock")];
    for (link, text) in runs {
        if !matches!(tree.look(link)?, Seen::Link(target) if target == text.as_bytes()) {
            return None;
        }
    }
    let modules = enabled(tree, Kind::Module)?;
    let engines: Vec<&str> = modules.iter().map(String::as_str).filter(|module| is_engine(module)).collect();
    if engines.len() > 1 {
        return None;
    }
    let (kind, wanted) = match *words {
        ["-M"] => {
            let engine = engine(tree, engines.first()?)?;
            let stdout = if quiet { Vec::new() } else { format!("{engine}\n").into_bytes() };
            return Some(Reply { stdout, ..Reply::default() });
        }
        [option] => (kind_of(option)?, None),
        [option, wanted] => (kind_of(option)?, Some(name(wanted)?)),
        _ => return None,
    };
    let names = if kind == Kind::Module { modules } else { enabled(tree, kind)? };
    let mut reply = match wanted {
        None => asked_for_all(tree, kind, &names)?,
        Some(wanted) if wanted.starts_with("mod") || wanted.contains(".conf") || wanted.contains(".load") => return None,
        Some(wanted) => asked_for(tree, kind, &names, wanted)?,
    };
    if quiet {
        reply.stdout.clear();
        reply.stderr.clear();
    }
    Some(reply)
}

fn kind_of(option: &str) -> Option<Kind> {
    match option {
        "-m" => Some(Kind::Module),
        "-c" => Some(Kind::Configuration),
        "-s" => Some(Kind::Site),
        _ => None,
    }
}

/// Returns what is enabled, in the order of the folder.
fn enabled(tree: &Tree, kind: Kind) -> Option<Vec<String>> {
    let suffix = format!(".{}", kind.suffix());
    let folder = format!("/etc/apache2/{}-enabled", kind.folder());
    if !tree.is_folder(&folder)? {
        return None;
    }
    let mut names = Vec::new();
    for file in tree.names(&folder)? {
        if let Some(stem) = file.strip_suffix(&suffix) {
            if stem.contains(&suffix) || super::word(stem.as_bytes()).and_then(name).is_none() {
                return None;
            }
            names.push(stem.to_owned());
        }
    }
    Some(names)
}

const ENGINES: [&str; 3] = ["event", "prefork", "worker"];

fn is_engine(module: &str) -> bool {
    ENGINES.iter().any(|engine| module.contains(&format!("mpm_{engine}")))
}

/// Returns the way of working that a module is, when its file loads just that.
fn engine<'a>(tree: &Tree, module: &'a str) -> Option<&'a str> {
    let engine = module.strip_prefix("mpm_").filter(|engine| ENGINES.contains(engine))?;
    let target = Kind::Module.target(module, "load");
    let linked = matches!(tree.look(&Kind::Module.link(module, "load"))?, Seen::Link(text) if text == target.as_bytes());
    let text = tree.read(&Kind::Module.file(module, "load"))?;
    let loads = format!("LoadModule mpm_{engine}_module ");
    let lines: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#") && !line.is_empty()).collect();
    (linked && lines.len() == 1 && lines[0].starts_with(loads.as_bytes())).then_some(engine)
}

fn asked_for_all(tree: &Tree, kind: Kind, names: &[String]) -> Option<Reply> {
    if names.is_empty() {
        return None;
    }
    let mut stdout = Vec::new();
    for name in names {
        stdout.extend(asked_for(tree, kind, names, name)?.stdout);
    }
    Some(Reply { stdout, ..Reply::default() })
}

fn asked_for(tree: &Tree, kind: Kind, names: &[String], wanted: &str) -> Option<Reply> {
    let noted = |what: &str| {
        BY.iter().find_map(|(by, words, code)| {
            match tree.is_absent(&format!("/var/lib/apache2/{}/{what}_by_{by}/{wanted}", kind.noun())) {
                Some(true) => None,
                Some(false) => Some(Some((*words, *code))),
                None => Some(None),
            }
        })
    };
    if names.iter().any(|name| name == wanted) {
        let by = noted("enabled").map_or(Some("unknown"), |found| found.map(|(words, _)| words))?;
        return Some(Reply { stdout: format!("{wanted} (enabled by {by})\n").into_bytes(), ..Reply::default() });
    }
    let (by, code) = match noted("disabled") {
        None => (String::new(), 1),
        Some(found) => found.map(|(words, code)| (format!(" (disabled by {words})"), code))?,
    };
    Some(Reply { code, stderr: format!("No {} matches {wanted}{by}\n", kind.noun()).into_bytes(), ..Reply::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_comments_at_the_beginning_of_a_file_are_read() {
        let read = |text: &str| named_in_header(text.as_bytes(), "Depends");
        assert_eq!(
            read("# a\n\n# Depends: dbd  authz_core \nLoadModule x\n"),
            Some(vec!["dbd".to_owned(), "authz_core".to_owned()])
        );
        assert_eq!(read("LoadModule x\n# Depends: dbd\n"), Some(vec![]));
        assert_eq!(read("#Depends: dbd\n# Conflicts: x\n"), Some(vec![]));
        assert_eq!(read("# Depends: é\n"), None);
    }

    #[test]
    fn what_needs_itself_is_left_to_the_original() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/apache2/mods-available", "etc/apache2/mods-enabled", "usr/share/perl/5.40.1/Getopt"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("usr/share/perl/5.40.1/Getopt/Std.pm"), "").unwrap();
        std::fs::write(root.path().join("etc/apache2/mods-available/a.load"), "# Depends: b\n").unwrap();
        std::fs::write(root.path().join("etc/apache2/mods-available/b.load"), "# Depends: a\n").unwrap();
        std::fs::write(root.path().join("etc/apache2/mods-available/c.load"), "LoadModule c\n").unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let call = |name: &str| {
            let arguments = [b"-mq".to_vec(), name.as_bytes().to_vec()];
            a2enmod(&tree, &Call { program: "a2enmod", arguments: &arguments, environment: &[], folder: b"/", umask: 0o022 })
        };
        assert_eq!(call("a"), None);
        assert!(std::fs::read_dir(root.path().join("etc/apache2/mods-enabled")).unwrap().next().is_none(), "nothing was written");
        assert_eq!(call("c").unwrap().stdout, b"Enabling module c.\n");
        assert!(root.path().join("var/lib/apache2/module/enabled_by_maint/c").exists());
    }
}
