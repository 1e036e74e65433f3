//! `parvis demo up`: images provided, then jobs and services one after the other, each waited for.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machine::Machine;
use super::place::{Certificate, Place, Voice};
use super::words::{Line, Problem};
use super::{Arguments, Up, images, upgrade};
use crate::bundle::manifest::{Backup, BundledService, MANIFEST, ServiceKind, When};
use crate::edge::engine::Container;
use crate::edge::place;
use crate::edge::project::ProjectFolder;
use crate::failure::Failure;
use crate::screen::Unit;
use crate::verbs::{Answer, Context, bundle};

/// Lines of a container that failed, shown before the failure.
const LAST_LINES: usize = 20;

/// A service whose check fails may recover within this time.
const RECOVERY: Duration = Duration::from_secs(15);

/// A service without a check must run so long to be taken for one that stays.
const SETTLED: Duration = Duration::from_millis(700);

/// Starts of a service, one after the other, that say that it will not come up.
const STARTS: u64 = 3;

pub fn run(arguments: &Arguments, up: &Up, context: &Context<'_>) -> Answer {
    let voice = Voice(context.language);
    let mut place = match &up.file {
        Some(file) => Place::named(file, voice)?,
        None if arguments.bundle.is_none() && in_project(context) => {
            Place::named(&bundle::of_project(context, &|| context.screen.note(&Line::Building.text(context.language)))?, voice)?
        }
        None => Place::find(arguments, context)?,
    };
    if let Some(folder) = upgrade::settle(&place, up.timeout, arguments, context)?
        && up.file.is_none()
    {
        place = Place::open(&folder, voice)?;
    }
    let _held = place.lock()?;
    if let Some(file) = place.memory.restoring.clone() {
        return Err(voice.problem(Problem::HalfRestored { file }));
    }
    let machine = Machine::find(arguments, &place, context)?;
    upgrade::is_current(&place, &machine, context)?;
    let containers = machine.containers()?;
    machine.ports(&place, &containers)?;
    let volumes = machine.engine.volumes().map_err(|error| voice.engine(error))?;
    if !place.volumes().iter().any(|name| volumes.contains(name)) {
        place.memory.owes_password = true;
        place.memory.started = None;
    }
    images::provide(&mut place, &machine, context)?;
    place::started(&context.state, place.folder.path());
    let fingerprint = place.fingerprint();
    let unchanged = place.memory.started.as_ref() == Some(&fingerprint) && all_well(&place, &containers);
    if !unchanged {
        place.memory.started = None;
        place.remember()?;
    }
    let mut starting =
        Starting { place: &mut place, machine: &machine, context, timeout: Duration::from_secs(up.timeout), done: Vec::new() };
    starting.all(unchanged, None)?;
    starting.drop_others()?;
    let steps = std::mem::take(&mut starting.done);
    place.memory.started = Some(fingerprint);
    place.remember()?;
    tell(&mut place, &machine, context, unchanged, steps)
}

/// Returns whether this is the folder of a project with a stack, and not that of a bundle.
fn in_project(context: &Context<'_>) -> bool {
    !context.folder.join(MANIFEST).is_file()
        && ProjectFolder::find(&context.folder).and_then(|folder| folder.stack_names()).is_ok_and(|names| !names.is_empty())
}

/// Returns whether every service that stays runs well.
pub fn all_well(place: &Place, containers: &[Container]) -> bool {
    let services = place.manifest.services.iter().filter(|service| service.kind == ServiceKind::Service);
    services.into_iter().all(|service| {
        let mut own = containers.iter().filter(|container| container.service == service.name.as_str() && !container.one_off);
        own.next().is_some_and(Container::is_well)
    })
}

/// Says where the demo is to be seen, and whatever else a person has to know.
fn tell(place: &mut Place, machine: &Machine, context: &Context<'_>, unchanged: bool, steps: Vec<Value>) -> Answer {
    let login = place.manifest.login.clone();
    let mut password = None;
    if let Some(login) = login.as_ref().filter(|_| place.memory.owes_password) {
        password = Some(read_password(machine, login.service.as_str(), &login.command, place.voice)?);
    }
    let (url, user) = match &login {
        Some(login) => (Some(place.filled(&login.url)), Some(place.filled(&login.user))),
        None => (None, None),
    };
    let volumes = place.volumes();
    let language = context.language;
    context.answer(
        || {
            let mut answer = json!({
                "bundle": place.manifest.name, "version": place.manifest.version, "folder": place.folder.path(),
                "changed": !unchanged, "url": url, "user": user, "volumes": volumes, "steps": steps,
            });
            if let Some(password) = &password {
                answer["password"] = json!(password);
            }
            answer
        },
        || {
            let mut lines = Vec::new();
            if unchanged {
                lines.push(Line::Unchanged);
            }
            lines.extend(url.clone().map(|url| Line::Address { url }));
            lines.extend(user.clone().map(|user| Line::Login { user }));
            lines.extend(password.clone().map(|password| Line::Password { password }));
            lines.extend((login.is_some() && password.is_none()).then_some(Line::PasswordLater));
            lines.push(Line::Data { volumes: volumes.join(", ") });
            lines.push(Line::Stop);
            lines.iter().map(|line| line.text(language)).collect()
        },
    );
    if place.memory.owes_password && password.is_some() {
        place.memory.owes_password = false;
        place.remember()?;
    }
    Ok(())
}

/// Has the password read by the one service that may.
pub fn read_password(machine: &Machine, service: &str, command: &[String], voice: Voice) -> Result<String, Failure> {
    let said = machine.ask(service, command).map_err(|error| voice.engine(error))?;
    let password = said.trim_end_matches(['\r', '\n']).to_owned();
    let odd = password.is_empty() || password.len() > 200 || password.chars().any(char::is_control);
    if odd { Err(voice.problem(Problem::NoData)) } else { Ok(password) }
}

/// Something to be done between two steps of a start: where in the list, and what.
pub type Between<'a> = (usize, &'a mut dyn FnMut(&Machine) -> Result<(), Failure>);

/// A start under way.
pub struct Starting<'a, 'b> {
    pub place: &'a mut Place,
    pub machine: &'a Machine,
    pub context: &'a Context<'b>,
    /// How long each service may take until it is ready.
    pub timeout: Duration,
    /// What was done, for `--json`.
    pub done: Vec<Value>,
}

impl Starting<'_, '_> {
    /// Goes through all services and jobs in the manifest's order; where nothing changed, only the jobs of every start run.
    pub fn all(&mut self, unchanged: bool, mut between: Option<Between<'_>>) -> Result<(), Failure> {
        self.sweep()?;
        let services = self.place.manifest.services.clone();
        for (index, service) in services.iter().enumerate() {
            if let Some((at, act)) = &mut between
                && *at == index
            {
                act(self.machine)?;
            }
            match (service.kind, service.when) {
                (ServiceKind::Job, Some(When::Manual)) => {}
                (ServiceKind::Job, Some(When::Every)) => self.job(service)?,
                _ if unchanged => {}
                (ServiceKind::Job, _) => self.job(service)?,
                (ServiceKind::Service, _) => self.service(service)?,
            }
        }
        if let Some((at, act)) = &mut between
            && *at >= services.len()
        {
            act(self.machine)?;
        }
        Ok(())
    }

    /// Runs the jobs of every start. Services are left as they are, but those that jobs talk to and that were not there before are started.
    pub fn jobs(&mut self, standing: &[&str]) -> Result<(), Failure> {
        self.sweep()?;
        let services = self.place.manifest.services.clone();
        let is_job = |service: &BundledService| service.kind == ServiceKind::Job && service.when != Some(When::Manual);
        let needed = self.needed(&services);
        for service in &services {
            let name = service.name.as_str();
            if is_job(service) {
                self.job(service)?;
            } else if service.kind == ServiceKind::Service && needed.contains(name) && !standing.contains(&name) {
                self.service(service)?;
            }
        }
        Ok(())
    }

    /// Runs the jobs that stand before a place in the manifest's order, and starts the services that they talk to.
    pub fn before(&mut self, place: usize) -> Result<(), Failure> {
        self.sweep()?;
        let mut services = self.place.manifest.services.clone();
        services.truncate(place);
        let wanted = self.needed(&services);
        for service in services {
            match service.kind {
                ServiceKind::Job if service.when != Some(When::Manual) => self.job(&service)?,
                ServiceKind::Service if wanted.contains(service.name.as_str()) => self.service(&service)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns what the jobs among these talk to, or wait for.
    fn needed(&self, services: &[BundledService]) -> BTreeSet<String> {
        let jobs = services.iter().filter(|service| service.kind == ServiceKind::Job && service.when != Some(When::Manual));
        let backups = self.place.manifest.backup.iter().filter_map(|item| match item {
            Backup::Command { service, .. } => Some(service.as_str()),
            Backup::Volume { .. } => None,
        });
        let names = jobs.map(|job| job.name.as_str()).chain(backups);
        names.flat_map(|name| self.place.manifest.needed(name)).map(str::to_owned).collect()
    }

    /// Starts all services; jobs have run already.
    pub fn services(&mut self) -> Result<(), Failure> {
        let services = self.place.manifest.services.clone();
        services.iter().filter(|service| service.kind == ServiceKind::Service).try_for_each(|service| self.service(service))
    }

    /// Removes jobs that a killed parvis left running: two of a kind must not work side by side.
    pub fn sweep(&self) -> Result<(), Failure> {
        let is_job = |name: &str| {
            let service = self.place.manifest.service(name);
            service.is_some_and(|service| service.kind == ServiceKind::Job && service.when != Some(When::Manual))
        };
        let containers = self.machine.containers()?;
        let left = containers.iter().filter(|container| container.one_off && is_job(&container.service));
        let left: Vec<&str> = left.map(|container| container.id.as_str()).collect();
        self.machine.engine.remove_containers(&left).map_err(|error| self.place.voice.engine(error))
    }

    /// Removes the services of an earlier version that this one has no more: only now that everything else is well, and without their
    /// volumes. What somebody runs by hand is left alone.
    pub fn drop_others(&self) -> Result<(), Failure> {
        let containers = self.machine.containers()?;
        let others = containers.iter().filter(|container| !container.one_off && !container.service.is_empty());
        let others = others.filter(|container| self.place.manifest.service(&container.service).is_none());
        let (ids, names): (Vec<&str>, BTreeSet<&str>) =
            others.map(|container| (container.id.as_str(), container.service.as_str())).unzip();
        let engine = &self.machine.engine;
        engine
            .stop_containers(&ids)
            .and_then(|()| engine.remove_containers(&ids))
            .map_err(|error| self.place.voice.engine(error))?;
        for name in names {
            self.context.screen.note(&Line::Dropped { service: name.to_owned() }.text(self.context.language));
        }
        Ok(())
    }

    fn job(&mut self, service: &BundledService) -> Result<(), Failure> {
        let name = service.name.as_str();
        let started = Instant::now();
        let task = self.context.screen.work(name, None, Unit::Wait);
        let mut last = VecDeque::new();
        let mut certificates = Vec::new();
        let mut renewed = Vec::new();
        let words = ["run", "--rm", "--no-deps", "-T", name];
        let ended = self.machine.deployment.lines("compose run", &words, &mut |line| {
            if is_of_compose(line) || line.is_empty() {
                return;
            }
            task.detail(line);
            certificates.extend(certificate(line));
            renewed.extend(renewal(line));
            keep(&mut last, line);
        });
        drop(task);
        let status = ended.map_err(|error| self.place.voice.engine(error))?;
        if !status.success() {
            self.show(name, last);
            return Err(self.place.voice.problem(Problem::Job { name: name.to_owned(), code: status.code() }));
        }
        if !certificates.is_empty() && certificates != self.place.memory.certificates {
            // At once: `status` tells of them also where a later step fails.
            self.place.memory.certificates = certificates;
            self.place.remember()?;
        }
        self.progress(name, &Line::Done, started);
        self.renew(&renewed)
    }

    /// Starts anew what still holds keys that are not good any more.
    fn renew(&mut self, services: &[String]) -> Result<(), Failure> {
        let containers = self.machine.containers()?;
        for name in services {
            let runs = containers
                .iter()
                .any(|container| container.service == *name && !container.one_off && container.status == "running");
            let Some(service) = self.place.manifest.service(name).cloned().filter(|_| runs) else { continue };
            self.context.screen.note(&Line::Renewed { service: name.clone() }.text(self.context.language));
            let restarted = self.machine.deployment.answer("compose restart", &["restart", name]);
            restarted.map_err(|error| self.place.voice.engine(error))?;
            self.wait(&service, Instant::now())?;
        }
        Ok(())
    }

    fn service(&mut self, service: &BundledService) -> Result<(), Failure> {
        let name = service.name.as_str();
        let started = Instant::now();
        let mut last = VecDeque::new();
        let words = ["up", "-d", "--no-deps", name];
        let task = self.context.screen.work(name, None, Unit::Wait);
        let ended = self.machine.deployment.lines("compose up", &words, &mut |line| {
            task.detail(line);
            keep(&mut last, line);
        });
        drop(task);
        let status = ended.map_err(|error| self.place.voice.engine(error))?;
        if !status.success() {
            // Somebody else may have taken the port since it was tried.
            if last.iter().any(|line| line.contains("port is already allocated") || line.contains("address already in use")) {
                self.machine.ports(self.place, &[])?;
            }
            self.show(name, last);
            return Err(self.place.voice.problem(Problem::Start { name: name.to_owned() }));
        }
        self.wait(service, started)
    }

    /// Waits until a service does what it is there for.
    fn wait(&mut self, service: &BundledService, started: Instant) -> Result<(), Failure> {
        let name = service.name.as_str();
        let task = self.context.screen.work(name, None, Unit::Wait);
        let begun = Instant::now();
        let mut bad_since: Option<Instant> = None;
        let (mut starts_before, mut well_since) = (None, None);
        let mut pause = Duration::from_millis(100);
        let problem = loop {
            let containers = self.machine.containers()?;
            let own = containers.into_iter().rfind(|container| container.service == name && !container.one_off);
            if let Some(container) = own {
                let starts = container.restarts.saturating_sub(*starts_before.get_or_insert(container.restarts));
                let bad = container.health.as_deref() == Some("unhealthy");
                // Without a check of its own, a service that ends at once would look well at the right moment.
                let settled = container.is_well()
                    && (container.health.is_some() || well_since.get_or_insert_with(Instant::now).elapsed() >= SETTLED);
                if !container.is_well() {
                    well_since = None;
                }
                if settled {
                    drop(task);
                    let line = if service.health { Line::Ready } else { Line::Started };
                    self.progress(name, &line, started);
                    return Ok(());
                }
                bad_since = if bad { bad_since.or(Some(Instant::now())) } else { None };
                if matches!(container.status.as_str(), "exited" | "dead") || starts >= STARTS {
                    break (container.id, Problem::Stopped { name: name.to_owned(), code: container.exit_code });
                }
                let late = begun.elapsed() >= self.timeout;
                if bad && late || bad_since.is_some_and(|since| since.elapsed() >= RECOVERY) {
                    break (container.id, Problem::Unhealthy { name: name.to_owned(), words: container.complaint });
                }
                if late {
                    break (container.id, Problem::Late { name: name.to_owned(), seconds: self.timeout.as_secs() });
                }
                task.detail(container.health.as_deref().unwrap_or(&container.status));
            } else if begun.elapsed() >= self.timeout {
                return Err(self.place.voice.problem(Problem::Late { name: name.to_owned(), seconds: self.timeout.as_secs() }));
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(600));
        };
        drop(task);
        let (container, problem) = problem;
        // That the lines cannot be had is no reason to hide the failure.
        self.show(name, self.machine.engine.last_lines(&container, LAST_LINES).unwrap_or_default());
        Err(self.place.voice.problem(problem))
    }

    fn show(&self, name: &str, lines: impl IntoIterator<Item = String>) {
        self.context.screen.note(&Line::LastLines { name: name.to_owned() }.text(self.context.language));
        lines.into_iter().for_each(|line| self.context.screen.note(&format!("  {line}")));
    }

    fn progress(&mut self, name: &str, how: &Line, started: Instant) {
        let width = self.place.manifest.services.iter().map(|service| service.name.as_str().len()).max().unwrap_or_default();
        let tenths = started.elapsed().as_millis() / 100;
        let how = how.text(self.context.language);
        let (point, unit) = (self.context.language.choose('.', ','), "s");
        self.context.screen.note(&format!("{name:<width$}  {how:<8} {:>4}{point}{} {unit}", tenths / 10, tenths % 10));
        self.done
            .push(json!({"service": name, "milliseconds": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)}));
    }
}

/// Returns whether compose itself says this, of the container that it makes for a job.
fn is_of_compose(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["Container" | "Network" | "Volume", _, state] => {
            matches!(state, "Creating" | "Created" | "Starting" | "Started" | "Running" | "Recreate" | "Recreated")
        }
        // Compose 1.29: `Creating demo_init_run ... done`.
        [first, _, "..."] | [first, _, "...", _] => matches!(first, "Creating" | "Starting" | "Recreating"),
        _ => false,
    }
}

/// Reads a line of the job that makes keys about a certificate or an authority:
/// `kept certificate SERVICE AUTHORITY server (NAME), until 2027-12-31`.
fn certificate(line: &str) -> Option<Certificate> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = match words[..] {
        ["kept" | "made" | "renewed", "certificate", service, authority, usage, ..] => format!("{service} {authority} {usage}"),
        ["kept" | "made" | "renewed", "authority", authority, ..] => format!("authority {}", authority.trim_end_matches(',')),
        _ => return None,
    };
    let until = words.iter().position(|word| *word == "until").and_then(|at| words.get(at + 1)?.get(..10))?;
    until.parse::<jiff::civil::Date>().ok()?;
    Some(Certificate { name: name.chars().take(80).collect(), until: until.to_owned() })
}

/// Reads the service that got a new certificate in place of an old one, which it still has in its memory.
fn renewal(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    (words.next() == Some("renewed") && words.next() == Some("certificate")).then(|| words.next().map(str::to_owned)).flatten()
}

/// Keeps a line among the last ones, which are shown where a step fails.
fn keep(last: &mut VecDeque<String>, line: &str) {
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    last.push_back(line.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_job_that_makes_keys_says_is_understood() {
        let read = |line: &str| certificate(line).map(|found| format!("{} {}", found.name, found.until));
        for (line, expected, renewed) in [
            ("kept      certificate db database server (db), until 2027-12-26", Some("db database server 2027-12-26"), None),
            (
                "renewed   certificate proxy outside server (localhost), which was near its end, until 2027-12-26; its service has to be started again",
                Some("proxy outside server 2027-12-26"),
                Some("proxy"),
            ),
            ("made      authority outside, until 2036-11-22", Some("authority outside 2036-11-22"), None),
            ("renewed   authority outside: it may now vouch for a,b; who had imported it imports the new one", None, None),
            ("made      secret db db-admin", None, None),
            ("kept certificate db database server (db), until tomorrow", None, None),
            ("until", None, None),
        ] {
            assert_eq!(read(line).as_deref(), expected, "{line}");
            assert_eq!(renewal(line).as_deref(), renewed, "{line}");
        }
    }

    #[test]
    fn what_compose_says_is_not_taken_for_the_jobs_words() {
        for line in [" Container demo-init-run-1  Created", " Network demo_db  Creating", "Creating demo_init_run ... done"] {
            assert!(is_of_compose(line), "{line}");
        }
        for line in ["Container ships are large", "Creating the database ... ", "done", ""] {
            assert!(!is_of_compose(line), "{line}");
        }
    }
}
