//! Which maintainer scripts run, in which order, with which arguments: what dpkg would do on a first installation.
//!
//! Packages have been unpacked before the first script runs, but for those that ask to [wait](NewPackage::waits): their preinst
//! clears the way for their files. From there on the states, the triggers and the order are dpkg's: dependencies first, preinst
//! before postinst, what is pre-depended on configured before the preinst. Where nothing is installed yet, the preinsts of the
//! essential packages run first of all, as in every bootstrap.
//!
//! Source: Debian Policy, chapters 6 and 7.2; deb-triggers(5); dpkg 1.22, `src/main/{configure,depcon,trigproc}.c`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::database::{Database, Interest, Record, State};
use super::package::{TriggerLine, canonical_path};
use super::relation::{self, Relation};
use crate::model::name::PackageName;
use crate::model::tree::{Tree, TreePath};

/// A package that has been unpacked, or is unpacked when its preinst has run.
#[derive(Debug, Clone)]
pub struct NewPackage<'a> {
    pub record: Record,
    pub triggers: &'a [TriggerLine],
    /// Its tree, with its files below `var/lib/dpkg/info`.
    pub tree: &'a Tree,
    /// Its files come after its preinst has run. Ask [`Configuration::waits`] then, and report [`Configuration::unpacked`].
    pub waits: bool,
}

/// A system that cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    #[error("the package `{package}` has the relation `{relation}`, which cannot be read")]
    Relation { package: PackageName, relation: String },
    #[error("the package `{package}` is triggered again and again by `{triggers}`")]
    Loop { package: PackageName, triggers: String },
}

/// Why a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    Preinst,
    Configure,
    Triggered,
}

/// Something that has to be in place while a script runs and to be gone afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// A copy of another file, with its mode.
    Copy { from: TreePath, to: TreePath },
    /// A file of mode 0644 with this content.
    Text { to: TreePath, text: String },
}

/// One run of a maintainer script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRun {
    pub package: PackageName,
    pub occasion: Occasion,
    /// The script, to be called by its absolute path.
    pub script: TreePath,
    pub arguments: Vec<String>,
    /// What dpkg adds to the environment.
    pub environment: BTreeMap<&'static str, String>,
    /// What dpkg has beside the script while it runs. Only a preinst has something: debconf looks for it.
    pub staged: Vec<Staged>,
}

/// How often a package may be triggered before it is taken for a loop. Real systems need one or two.
const MOST_TRIGGERED: u32 = 20;

/// The configuration of a system, script by script.
///
/// Ask for the [`next`](Self::next) script, run it, report it as [`finished`](Self::finished), and so on until there is none.
/// The database shows the states that dpkg would show in between.
#[derive(Debug)]
pub struct Configuration {
    database: Database,
    /// Which scripts each new package has.
    scripts: BTreeMap<PackageName, Scripts>,
    /// The triggers that each new package activates.
    activates: BTreeMap<PackageName, Vec<TriggerLine>>,
    dependencies: BTreeMap<PackageName, Vec<PackageName>>,
    steps: VecDeque<(PackageName, Occasion)>,
    /// Packages with triggers to process, in the order in which they were first triggered.
    deferred: VecDeque<PackageName>,
    triggered: BTreeMap<PackageName, u32>,
    running_version: String,
}

#[derive(Debug, Default)]
struct Scripts {
    preinst: bool,
    postinst: bool,
    /// The suffixes of all its files below `info`.
    members: Vec<String>,
}

impl Configuration {
    /// Starts with a parent's database and the packages that were unpacked over it, in any order.
    ///
    /// # Errors
    /// Names a package whose relations cannot be read.
    pub fn new(parent: Database, packages: &[NewPackage<'_>]) -> Result<Self, ConfigureError> {
        let mut packages: Vec<&NewPackage<'_>> = packages.iter().collect();
        packages.sort_by_key(|package| &package.record.name);
        let order = Order::new(&parent, packages.clone())?;
        let steps = order.steps();
        let dependencies = order.dependencies();
        let mut configuration = Self {
            scripts: packages.iter().map(|package| (package.record.name.clone(), scripts(package))).collect(),
            activates: packages.iter().map(|package| (package.record.name.clone(), activates(package.triggers))).collect(),
            deferred: parent
                .records()
                .filter(|record| !record.triggers_pending.is_empty())
                .map(|record| record.name.clone())
                .collect(),
            database: parent,
            dependencies,
            steps,
            triggered: BTreeMap::new(),
            running_version: String::new(),
        };
        for package in &packages {
            let mut record = package.record.clone();
            record.state = if package.waits { State::NotInstalled } else { State::Unpacked };
            configuration.database.add(record, package.triggers);
        }
        configuration.running_version =
            configuration.database.get("dpkg").map_or_else(|| "1.22.0".to_owned(), |dpkg| dpkg.version.clone());
        for package in packages.iter().filter(|package| !package.waits) {
            configuration.activate_unpacked(package);
        }
        Ok(configuration)
    }

    /// Returns whether a package's files have still to come.
    #[must_use]
    pub fn waits(&self, package: &PackageName) -> bool {
        self.database.get(package.as_str()).is_some_and(|record| record.state == State::NotInstalled)
    }

    /// Takes in that the files of a package that waited are there.
    pub fn unpacked(&mut self, package: &NewPackage<'_>) {
        self.set_state(&package.record.name, State::Unpacked);
        self.activate_unpacked(package);
    }

    /// Returns what is known of all packages at this moment.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns what is known of all packages in the end.
    #[must_use]
    pub fn into_database(self) -> Database {
        self.database
    }

    /// Returns the script that has to run now; none when all packages are installed.
    ///
    /// # Errors
    /// Names a package that is triggered without end.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be told what its last item brought about")]
    pub fn next(&mut self) -> Result<Option<ScriptRun>, ConfigureError> {
        while let Some((package, occasion)) = self.steps.front().cloned() {
            if occasion == Occasion::Configure
                && let Some(pending) = self.awaited_by_dependency(&package)
                && let Some(run) = self.triggered(&pending)?
            {
                return Ok(Some(run));
            }
            self.steps.pop_front();
            let has_script = self.scripts.get(&package).is_some_and(|scripts| match occasion {
                Occasion::Preinst => scripts.preinst,
                Occasion::Configure | Occasion::Triggered => scripts.postinst,
            });
            if occasion == Occasion::Configure {
                self.activate_declared(&package);
                self.set_state(&package, State::HalfConfigured);
                if !has_script {
                    self.configured(&package);
                }
            }
            if has_script {
                return Ok(Some(self.run(&package, occasion, &[])));
            }
        }
        while let Some(package) = self.deferred.front().cloned() {
            if let Some(run) = self.triggered(&package)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// Takes in that a script has run, with what `var/lib/dpkg/triggers/Unincorp` holds afterwards. That file has to be
    /// emptied before the next script.
    pub fn finished(&mut self, run: &ScriptRun, unincorp: &[u8]) {
        match run.occasion {
            Occasion::Preinst => {}
            Occasion::Configure | Occasion::Triggered => self.configured(&run.package),
        }
        for line in String::from_utf8_lossy(unincorp).lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(trigger) = words.next() else { continue };
            for awaiting in words {
                let awaiting = awaiting.split(':').next().unwrap_or_default();
                self.activate(trigger, Some(awaiting).filter(|name| *name != "-"));
            }
        }
    }

    /// Activates what the unpacking of a package activates: its own lines, then the paths that others wait for.
    fn activate_unpacked(&mut self, package: &NewPackage<'_>) {
        let name = package.record.name.clone();
        self.activate_declared(&name);
        let mut waited: BTreeMap<TreePath, Vec<String>> = BTreeMap::new();
        for (path, interest) in &self.database.file_triggers {
            if self.is_configured(interest.name())
                && let Ok(canonical) = TreePath::parse(path.as_bytes())
            {
                waited.entry(canonical_path(&canonical, true)).or_default().push(path.clone());
            }
        }
        if waited.is_empty() {
            return;
        }
        let mut activated = BTreeSet::new();
        for (path, _) in package.tree.iter() {
            let mut folder = Some(path.clone());
            while let Some(here) = folder {
                activated.extend(waited.get(&here).into_iter().flatten().cloned());
                folder = here.parent();
            }
        }
        for trigger in activated {
            self.activate(&trigger, Some(name.as_str()));
        }
    }

    fn activate_declared(&mut self, package: &PackageName) {
        for line in self.activates.get(package).cloned().unwrap_or_default() {
            self.activate(&line.name, line.awaits.then_some(package.as_str()));
        }
    }

    /// Notes a trigger for each package that waits for it. A package that is not configured yet does not wait: its
    /// configuration will do the work.
    fn activate(&mut self, trigger: &str, awaiting: Option<&str>) {
        let interests: Vec<Interest> = if trigger.starts_with('/') {
            let waiting = self.database.file_triggers.iter().filter(|(path, _)| path == trigger);
            waiting.map(|(_, interest)| interest.clone()).collect()
        } else {
            self.database.named_triggers.get(trigger).cloned().unwrap_or_default()
        };
        for interest in interests {
            if !self.is_configured(interest.name()) {
                continue;
            }
            let Some(record) = self.database.get_mut(interest.name()) else { continue };
            if !record.triggers_pending.iter().any(|pending| pending == trigger) {
                record.triggers_pending.insert(0, trigger.to_owned());
            }
            if record.state == State::Installed {
                record.state = State::TriggersPending;
            }
            let pending = record.name.clone();
            let awaiter = awaiting.filter(|name| interest.awaits && *name != pending.as_str());
            if let Some(awaiter) = awaiter.and_then(|name| self.database.get_mut(name)) {
                if !awaiter.triggers_awaited.contains(&interest.package) {
                    awaiter.triggers_awaited.push(interest.package.clone());
                }
                if matches!(awaiter.state, State::Installed | State::TriggersPending) {
                    awaiter.state = State::TriggersAwaited;
                }
            }
            if !self.deferred.contains(&pending) {
                self.deferred.push_back(pending);
            }
        }
    }

    fn is_configured(&self, name: &str) -> bool {
        self.database.get(name).is_some_and(|record| record.state >= State::TriggersAwaited)
    }

    fn set_state(&mut self, package: &PackageName, state: State) {
        if let Some(record) = self.database.get_mut(package.as_str()) {
            record.state = state;
        }
    }

    /// Returns a package whose triggers must be processed before another can be configured.
    fn awaited_by_dependency(&self, package: &PackageName) -> Option<PackageName> {
        let dependencies = self.dependencies.get(package).into_iter().flatten();
        dependencies
            .filter_map(|name| self.database.get(name.as_str()))
            .filter(|record| record.state == State::TriggersAwaited)
            .flat_map(|record| &record.triggers_awaited)
            .find_map(|awaited| Some(self.database.get(awaited.split(':').next()?)?.name.clone()))
    }

    /// Starts to process the triggers of a package.
    fn triggered(&mut self, package: &PackageName) -> Result<Option<ScriptRun>, ConfigureError> {
        self.deferred.retain(|name| name != package);
        let Some(record) = self.database.get_mut(package.as_str()) else { return Ok(None) };
        let triggers = std::mem::take(&mut record.triggers_pending).join(" ");
        let has_script = self.scripts.get(package).is_none_or(|scripts| scripts.postinst);
        record.state = State::HalfConfigured;
        if triggers.is_empty() || !has_script {
            self.configured(package);
            return Ok(None);
        }
        let times = self.triggered.entry(package.clone()).or_default();
        *times += 1;
        if *times > MOST_TRIGGERED {
            return Err(ConfigureError::Loop { package: package.clone(), triggers });
        }
        Ok(Some(self.run(package, Occasion::Triggered, &[&triggers])))
    }

    /// Notes that a package is configured or has processed its triggers, and releases those who waited for that.
    fn configured(&mut self, package: &PackageName) {
        let settle = |record: &mut Record| {
            record.state = match (record.triggers_awaited.is_empty(), record.triggers_pending.is_empty()) {
                (false, _) => State::TriggersAwaited,
                (true, false) => State::TriggersPending,
                (true, true) => State::Installed,
            };
        };
        let Some(record) = self.database.get_mut(package.as_str()) else { return };
        settle(record);
        let qualified = record.qualified_name();
        let waits = |record: &&Record| record.triggers_awaited.contains(&qualified);
        let waiting: Vec<PackageName> = self.database.records().filter(waits).map(|record| record.name.clone()).collect();
        for name in waiting {
            let Some(record) = self.database.get_mut(name.as_str()) else { continue };
            record.triggers_awaited.retain(|awaited| *awaited != qualified);
            if record.state == State::TriggersAwaited {
                settle(record);
            }
        }
    }

    fn run(&self, package: &PackageName, occasion: Occasion, triggers: &[&str]) -> ScriptRun {
        let record = self.database.get(package.as_str());
        let info = |suffix: &str| record.and_then(|record| record.info_path(suffix)).unwrap_or_else(TreePath::root);
        let temporary = |name: &str| TreePath::parse(format!("var/lib/dpkg/tmp.ci/{name}").as_bytes());
        let (name, mut arguments, script) = match occasion {
            Occasion::Preinst => {
                ("preinst", vec!["install".to_owned()], temporary("preinst").unwrap_or_else(|_| info("preinst")))
            }
            Occasion::Configure => ("postinst", vec!["configure".to_owned(), String::new()], info("postinst")),
            Occasion::Triggered => ("postinst", vec!["triggered".to_owned()], info("postinst")),
        };
        arguments.extend(triggers.iter().map(|triggers| (*triggers).to_owned()));
        let mut staged = Vec::new();
        if occasion == Occasion::Preinst {
            let members = self.scripts.get(package).map_or([].as_slice(), |scripts| &scripts.members);
            let copy = |suffix: &String| Some(Staged::Copy { from: info(suffix), to: temporary(suffix).ok()? });
            staged.extend(members.iter().filter_map(copy));
            let text = record.map_or_else(String::new, Record::to_control);
            staged.extend(temporary("control").map(|to| Staged::Text { to, text }));
        }
        let environment = [
            ("DPKG_ADMINDIR", "/var/lib/dpkg"),
            ("DPKG_FORCE", "security-mac,downgrade"),
            ("DPKG_MAINTSCRIPT_ARCH", record.map_or("", |record| &record.architecture)),
            ("DPKG_MAINTSCRIPT_DEBUG", "0"),
            ("DPKG_MAINTSCRIPT_NAME", name),
            ("DPKG_MAINTSCRIPT_PACKAGE", package.as_str()),
            ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
            ("DPKG_ROOT", ""),
            ("DPKG_RUNNING_VERSION", &self.running_version),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        ScriptRun { package: package.clone(), occasion, script, arguments, environment, staged }
    }
}

fn scripts(package: &NewPackage<'_>) -> Scripts {
    let mut scripts = Scripts::default();
    let Some(list) = package.record.info_path("list") else { return scripts };
    let prefix = [list.file_name().strip_suffix(b"list").unwrap_or_default()].concat();
    for (path, _) in package.tree.within(&list.parent().unwrap_or_else(TreePath::root)) {
        match path.file_name().strip_prefix(prefix.as_slice()) {
            Some(b"list") | None => continue,
            Some(b"preinst") => scripts.preinst = true,
            Some(b"postinst") => scripts.postinst = true,
            Some(_) => {}
        }
        scripts.members.push(String::from_utf8_lossy(&path.file_name()[prefix.len()..]).into_owned());
    }
    scripts
}

fn activates(triggers: &[TriggerLine]) -> Vec<TriggerLine> {
    triggers.iter().filter(|line| !line.interest).cloned().collect()
}

/// The dependencies among the new packages, by index.
struct Order<'a> {
    packages: Vec<&'a NewPackage<'a>>,
    has_postinst: Vec<bool>,
    /// What each package needs to be configured before it is.
    depends: Vec<Vec<Edge>>,
    /// The packages that provide `awk`, which scripts use without asking.
    awk: Vec<usize>,
    bootstrap: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Edge {
    to: usize,
    /// Whether it must be configured even before the preinst runs.
    pre: bool,
}

/// These come first in every bootstrap: accounts and folders before all that uses them, then what runs scripts.
const FIRST: [&str; 5] = ["base-passwd", "base-files", "libc6", "dash", "mawk"];

impl<'a> Order<'a> {
    fn new(parent: &Database, mut packages: Vec<&'a NewPackage<'a>>) -> Result<Self, ConfigureError> {
        packages.sort_by_key(|package| {
            let name = package.record.name.as_str();
            (FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len()), name)
        });
        let names: BTreeMap<&str, usize> =
            packages.iter().enumerate().map(|(index, package)| (package.record.name.as_str(), index)).collect();
        let mut provided: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, package) in packages.iter().enumerate() {
            for relation in relations(&package.record, "Provides")?.into_iter().flatten() {
                provided.entry(relation.name).or_default().push(index);
            }
        }
        let mut installed: BTreeSet<&str> = BTreeSet::new();
        for record in parent.records().filter(|record| record.state >= State::TriggersAwaited) {
            installed.insert(record.name.as_str());
            installed.extend(relations(record, "Provides")?.into_iter().flatten().map(|relation| relation.name));
        }
        let mut depends = Vec::with_capacity(packages.len());
        for (index, package) in packages.iter().enumerate() {
            let mut edges: Vec<Edge> = Vec::new();
            for (field, pre) in [("Pre-Depends", true), ("Depends", false)] {
                for group in relations(&package.record, field)? {
                    if group.iter().any(|alternative| installed.contains(alternative.name)) {
                        continue;
                    }
                    let candidate = |alternative: &Relation<'_>| {
                        let real = names.get(alternative.name).copied();
                        real.or_else(|| provided.get(alternative.name)?.first().copied())
                    };
                    match group.iter().find_map(candidate) {
                        Some(to) if to != index && edges.iter().all(|edge| edge.to != to) => edges.push(Edge { to, pre }),
                        _ => {}
                    }
                }
            }
            depends.push(edges);
        }
        let mut order = Self {
            has_postinst: packages.iter().map(|package| scripts(package).postinst).collect(),
            depends,
            awk: provided.get("awk").cloned().unwrap_or_default(),
            bootstrap: installed.is_empty(),
            packages,
        };
        while let Some(cycle) = order.cycle() {
            order.break_cycle(&cycle);
        }
        Ok(order)
    }

    /// Returns the packages of a cycle, each depending on the next and the last on the first.
    fn cycle(&self) -> Option<Vec<usize>> {
        let mut done = vec![false; self.packages.len()];
        for start in 0..self.packages.len() {
            // The path, and how many edges of each package on it were followed.
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some((here, followed)) = path.last_mut() {
                let Some(edge) = self.depends[*here].get(*followed).filter(|_| !done[*here]) else {
                    done[*here] = true;
                    path.pop();
                    continue;
                };
                *followed += 1;
                if let Some(at) = path.iter().position(|(index, _)| *index == edge.to) {
                    return Some(path[at..].iter().map(|(index, _)| *index).collect());
                }
                if !done[edge.to] {
                    path.push((edge.to, 0));
                }
            }
        }
        None
    }

    /// Forgets one dependency of a cycle: best that of a package with nothing to run, never a Pre-Depends if it can be helped.
    fn break_cycle(&mut self, cycle: &[usize]) {
        let cost = |position: &usize| {
            let (from, to) = (cycle[*position], cycle[(position + 1) % cycle.len()]);
            let pre = self.depends[from].iter().any(|edge| edge.to == to && edge.pre);
            (pre, self.has_postinst[from], cycle.len() - position)
        };
        if let Some(position) = (0..cycle.len()).min_by_key(cost) {
            let (from, to) = (cycle[position], cycle[(position + 1) % cycle.len()]);
            self.depends[from].retain(|edge| edge.to != to);
        }
    }

    fn dependencies(&self) -> BTreeMap<PackageName, Vec<PackageName>> {
        let name = |index: usize| self.packages[index].record.name.clone();
        let edges = |index: usize| self.depends[index].iter().map(|edge| name(edge.to)).collect();
        (0..self.packages.len()).map(|index| (name(index), edges(index))).collect()
    }

    fn steps(&self) -> VecDeque<(PackageName, Occasion)> {
        let mut steps = Steps { order: self, preinst: BTreeSet::new(), configured: BTreeSet::new(), queue: VecDeque::new() };
        if self.bootstrap {
            let essential = self.essential();
            for &index in &essential {
                steps.preinst_only(index);
            }
            for index in self.awk.iter().chain(&essential).filter(|index| essential.contains(index)) {
                steps.configure(*index);
            }
        }
        for index in 0..self.packages.len() {
            steps.preinst(index);
        }
        for index in 0..self.packages.len() {
            steps.configure(index);
        }
        steps.queue
    }

    /// Returns the essential packages and all that they need.
    fn essential(&self) -> BTreeSet<usize> {
        let mut queue: Vec<usize> =
            (0..self.packages.len()).filter(|index| self.packages[*index].record.is_essential()).collect();
        let mut essential = BTreeSet::new();
        while let Some(index) = queue.pop() {
            if essential.insert(index) {
                queue.extend(self.depends[index].iter().map(|edge| edge.to));
            }
        }
        essential
    }
}

/// The steps so far. The graph has no cycles any more, so each walk ends.
struct Steps<'a> {
    order: &'a Order<'a>,
    preinst: BTreeSet<usize>,
    configured: BTreeSet<usize>,
    queue: VecDeque<(PackageName, Occasion)>,
}

impl Steps<'_> {
    fn push(&mut self, index: usize, occasion: Occasion) {
        self.queue.push_back((self.order.packages[index].record.name.clone(), occasion));
    }

    fn preinst_only(&mut self, index: usize) {
        if self.preinst.insert(index) {
            self.push(index, Occasion::Preinst);
        }
    }

    fn preinst(&mut self, index: usize) {
        if self.preinst.contains(&index) {
            return;
        }
        for edge in self.order.depends[index].iter().filter(|edge| edge.pre) {
            self.configure(edge.to);
        }
        self.preinst_only(index);
    }

    fn configure(&mut self, index: usize) {
        if !self.configured.insert(index) {
            return;
        }
        for edge in &self.order.depends[index] {
            self.configure(edge.to);
        }
        self.preinst(index);
        self.push(index, Occasion::Configure);
    }
}

fn relations<'a>(record: &'a Record, field: &str) -> Result<Vec<Vec<Relation<'a>>>, ConfigureError> {
    let value = record.field(field).unwrap_or_default();
    relation::parse(value).map_err(|error| ConfigureError::Relation { package: record.name.clone(), relation: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::FileDigest;
    use crate::model::tree::{Entry, Origin};

    /// A package: name, further fields, scripts and paths, triggers.
    type Sketch<'a> = (&'a str, &'a str, &'a [&'a str], &'a [TriggerLine]);

    fn record(name: &str, fields: &str) -> Record {
        let text = format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n{fields}");
        Record::from_text(&text).unwrap()
    }

    fn line(interest: bool, awaits: bool, name: &str) -> TriggerLine {
        TriggerLine { interest, awaits, name: name.into() }
    }

    fn tree(name: &str, items: &[&str]) -> Tree {
        let path = |item: &str| match item.strip_prefix('/') {
            Some(path) => TreePath::parse(path.as_bytes()).unwrap(),
            None => TreePath::parse(format!("var/lib/dpkg/info/{name}.{item}").as_bytes()).unwrap(),
        };
        items.iter().map(|item| (path(item), Entry::file(FileDigest::of(b""), 0, 0o755, 0, Origin::Parvis))).collect()
    }

    fn configuration(parent: Database, sketches: &[Sketch<'_>]) -> Configuration {
        let trees: Vec<Tree> = sketches.iter().map(|(name, _, items, _)| tree(name, items)).collect();
        let new = |((name, fields, _, triggers), tree)| NewPackage { record: record(name, fields), triggers, tree, waits: false };
        let packages: Vec<NewPackage<'_>> = sketches.iter().copied().zip(&trees).map(new).collect();
        Configuration::new(parent, &packages).unwrap()
    }

    /// A parent in which these packages are installed.
    fn parent(packages: &[(&str, &str, &[TriggerLine])]) -> Database {
        let mut database = Database::default();
        for (name, fields, triggers) in packages {
            database.add(record(name, fields), triggers);
        }
        database
    }

    /// Runs to the end; `calls` says what the scripts write to `Unincorp`. Returns `package argument …`.
    fn runs(configuration: &mut Configuration, calls: &[(&str, &str)]) -> Vec<String> {
        let mut runs = Vec::new();
        while let Some(run) = configuration.next().unwrap() {
            let shown = format!("{} {}", run.package, run.arguments.join(" ")).trim_end().to_owned();
            let unincorp = calls.iter().find(|(call, _)| *call == shown).map_or("", |(_, text)| text);
            configuration.finished(&run, unincorp.as_bytes());
            runs.push(shown);
        }
        runs
    }

    fn assert_all_installed(configuration: &Configuration) {
        for record in configuration.database().records() {
            assert_eq!(record.state, State::Installed, "{}", record.name);
            assert!(record.triggers_pending.is_empty() && record.triggers_awaited.is_empty(), "{}", record.name);
        }
    }

    const BOTH: &[&str] = &["preinst", "postinst"];
    const POST: &[&str] = &["postinst"];

    #[test]
    fn a_bootstrap_runs_the_preinsts_of_what_is_essential_first_and_configures_awk_first() {
        let mut configuration = configuration(
            Database::default(),
            &[
                ("app", "Depends: base-files\n", BOTH, &[]),
                ("base-files", "Essential: yes\nPre-Depends: awk\n", BOTH, &[]),
                ("base-passwd", "Essential: yes\nDepends: libc6\n", BOTH, &[]),
                ("libc6", "Depends: libgcc-s1\n", BOTH, &[]),
                ("libgcc-s1", "Depends: libc6\n", &[], &[]),
                ("mawk", "Provides: awk\nPre-Depends: libc6\n", POST, &[]),
            ],
        );
        let runs = runs(&mut configuration, &[]);
        assert_eq!(
            runs,
            [
                "base-passwd install",
                "base-files install",
                "libc6 install",
                "libc6 configure",
                "mawk configure",
                "base-passwd configure",
                "base-files configure",
                "app install",
                "app configure"
            ]
        );
        assert_all_installed(&configuration);
    }

    #[test]
    fn a_package_that_waits_is_in_no_database_before_its_preinst_has_run() {
        let parent = parent(&[("base-files", "Essential: yes\n", &[]), ("man", "", &[line(true, false, "/usr/share/man")])]);
        let tree = tree("aa", &["preinst", "postinst", "/usr/share/man/aa"]);
        let waiting = NewPackage { record: record("aa", ""), triggers: &[], tree: &tree, waits: true };
        let mut configuration = Configuration::new(parent, std::slice::from_ref(&waiting)).unwrap();
        let run = configuration.next().unwrap().unwrap();
        assert_eq!(run.occasion, Occasion::Preinst);
        assert!(configuration.waits(&run.package) && !configuration.database().render_status().contains("Package: aa\n"));
        assert!(configuration.database().get("man").unwrap().triggers_pending.is_empty(), "its files are not there yet");
        configuration.finished(&run, b"");
        configuration.unpacked(&waiting);
        assert!(!configuration.waits(&run.package) && configuration.database().render_status().contains("Package: aa\n"));
        assert_eq!(configuration.database().get("man").unwrap().triggers_pending, ["/usr/share/man"]);
        assert_eq!(runs(&mut configuration, &[]), ["aa configure", "man triggered /usr/share/man"]);
        assert_all_installed(&configuration);
    }

    #[test]
    fn what_is_pre_depended_on_is_configured_before_the_preinst() {
        let parent = parent(&[("base-files", "Essential: yes\n", &[])]);
        let sketches: [Sketch<'_>; 3] = [
            ("aa", "Pre-Depends: cc | dd\nDepends: base-files\n", BOTH, &[]),
            ("bb", "Provides: dd\n", BOTH, &[]),
            ("cc", "Depends: bb (>= 1)\n", BOTH, &[]),
        ];
        let expected = ["bb install", "cc install", "bb configure", "cc configure", "aa install", "aa configure"];
        let found = runs(&mut configuration(parent, &sketches), &[]);
        let at = |run: &str| found.iter().position(|found| found == run).unwrap();
        assert_eq!(found.len(), expected.len());
        for (before, after) in [
            ("bb configure", "cc configure"),
            ("cc configure", "aa install"),
            ("cc install", "cc configure"),
            ("bb install", "bb configure"),
        ] {
            assert!(at(before) < at(after), "{before} before {after}: {found:?}");
        }
    }

    #[test]
    fn a_dependency_that_the_parent_satisfies_orders_nothing() {
        let parent = parent(&[("old", "Provides: mta\n", &[])]);
        let sketches: [Sketch<'_>; 2] = [("aa", "Depends: zz | mta\n", POST, &[]), ("zz", "Depends: aa\n", POST, &[])];
        assert_eq!(runs(&mut configuration(parent, &sketches), &[]), ["aa configure", "zz configure"]);
    }

    #[test]
    fn a_cycle_is_broken_at_a_package_with_nothing_to_run() {
        for (first, second, third) in [("aa", "bb", "cc"), ("cc", "aa", "bb"), ("bb", "cc", "aa")] {
            let fields = [second, third, first].map(|name| format!("Depends: {name}\n"));
            let sketches: [Sketch<'_>; 3] =
                [(first, &fields[0], &[], &[]), (second, &fields[1], POST, &[]), (third, &fields[2], POST, &[])];
            // The first one's dependency is forgotten; the third needs the first, the second needs the third.
            let found = runs(&mut configuration(Database::default(), &sketches), &[]);
            assert_eq!(found, [format!("{third} configure"), format!("{second} configure")]);
        }
    }

    #[test]
    fn unpacking_triggers_those_in_the_parent_who_wait_for_a_folder_once() {
        let interests = [line(true, false, "/lib/modules"), line(true, false, "/usr/share/man")];
        let parent = parent(&[("man-db", "", &interests), ("other", "", &[line(true, true, "/opt")])]);
        let items = ["/usr/share/man/man1/a.1", "/usr/share/man/man1/b.1", "/usr/lib/modules/x", "/usr/share/manual"];
        let mut configuration = configuration(parent, &[("aa", "", &items, &[]), ("bb", "", &items[..1], &[])]);
        let status = configuration.database().get("man-db").unwrap();
        assert_eq!(status.state, State::TriggersPending);
        assert_eq!(runs(&mut configuration, &[]), ["man-db triggered /usr/share/man /lib/modules"]);
        assert_all_installed(&configuration);
    }

    #[test]
    fn a_package_that_is_not_configured_yet_is_not_triggered() {
        let waits = [line(true, false, "greet"), line(true, false, "/usr/share/greet")];
        let calls = [line(false, false, "greet")];
        let sketches: [Sketch<'_>; 3] = [
            ("before", "", &["postinst", "/usr/share/greet/x"], &calls),
            ("greeter", "Depends: before\n", POST, &waits),
            ("later", "Depends: greeter\n", &[], &calls),
        ];
        let found = runs(&mut configuration(Database::default(), &sketches), &[]);
        assert_eq!(found, ["before configure", "greeter configure", "greeter triggered greet"], "only by the last");
    }

    #[test]
    fn the_order_in_which_packages_are_given_does_not_matter() {
        let waits = [line(true, false, "/a"), line(true, false, "t")];
        let sketches: [Sketch<'_>; 3] = [("aa", "", BOTH, &waits), ("bb", "Depends: aa\n", BOTH, &waits), ("cc", "", POST, &[])];
        let mut reversed = sketches;
        reversed.reverse();
        let [mut one, mut other] = [sketches, reversed].map(|sketches| configuration(Database::default(), &sketches));
        assert_eq!(runs(&mut one, &[]), runs(&mut other, &[]));
        assert_eq!(one.into_database(), other.into_database());
    }

    #[test]
    fn scripts_trigger_through_unincorp() {
        let parent =
            parent(&[("one", "", &[line(true, false, "t1"), line(true, false, "/a/b")]), ("two", "", &[line(true, true, "t2")])]);
        let mut configuration = configuration(parent, &[("aa", "", POST, &[])]);
        let calls = [("aa configure", "t1 -\n/a/b -\n/a -\nunknown aa\n"), ("one triggered /a/b t1", "t2 one\n")];
        assert_eq!(runs(&mut configuration, &calls), ["aa configure", "one triggered /a/b t1", "two triggered t2"]);
        assert_all_installed(&configuration);
    }

    #[test]
    fn who_depends_on_a_package_that_awaits_a_trigger_waits_too() {
        let parent = parent(&[("helper", "", &[line(true, true, "help")])]);
        let mut configuration =
            configuration(parent, &[("aa", "", POST, &[line(false, true, "help")]), ("bb", "Depends: aa\n", POST, &[])]);
        assert_eq!(configuration.database().get("aa").unwrap().triggers_awaited, ["helper"]);
        assert_eq!(runs(&mut configuration, &[]), ["aa configure", "helper triggered help", "bb configure"]);
        assert_all_installed(&configuration);
    }

    #[test]
    fn an_endless_chain_of_triggers_is_refused() {
        let parent = parent(&[("one", "", &[line(true, false, "t1")]), ("two", "", &[line(true, false, "t2")])]);
        let mut configuration = configuration(parent, &[("aa", "", &[], &[line(false, false, "t1")])]);
        let error = loop {
            match configuration.next() {
                Ok(Some(run)) => {
                    let text = if run.package.as_str() == "one" { "t2 -\n" } else { "t1 -\n" };
                    configuration.finished(&run, text.as_bytes());
                }
                Ok(None) => panic!("it ends"),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(error, "the package `one` is triggered again and again by `t1`");
    }

    #[test]
    fn a_script_gets_what_dpkg_gives_it() {
        let parent = parent(&[("dpkg", "Description: x\n", &[])]);
        let mut configuration =
            configuration(parent, &[("aa", "Description: x\n", &["list", "templates", "preinst", "postinst"], &[])]);
        let run = configuration.next().unwrap().unwrap();
        assert_eq!(run.script.to_string(), "/var/lib/dpkg/tmp.ci/preinst");
        assert_eq!(run.arguments, ["install"]);
        assert_eq!(run.environment["DPKG_MAINTSCRIPT_NAME"], "preinst");
        assert_eq!(run.environment["DPKG_MAINTSCRIPT_PACKAGE"], "aa");
        assert_eq!(run.environment["DPKG_RUNNING_VERSION"], "1");
        assert_eq!(run.staged.len(), 4, "its members but the list, and control: {:?}", run.staged);
        assert_eq!(configuration.database().get("aa").unwrap().state, State::Unpacked);
        configuration.finished(&run, b"");
        let run = configuration.next().unwrap().unwrap();
        assert_eq!(run.script.to_string(), "/var/lib/dpkg/info/aa.postinst");
        assert_eq!((run.arguments, run.staged), (vec!["configure".to_owned(), String::new()], vec![]));
        assert_eq!(configuration.database().get("aa").unwrap().state, State::HalfConfigured);
    }
}
