//! The hands that carry out a change of version: the two bundles, the engine, and what each step does with them.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::backup::{self, Wanted};
use super::change_words::{Say, Trouble};
use super::machine::Machine;
use super::place::{Place, Previous};
use super::start::{Starting, read_password};
use super::words::Problem;
use super::{images, stop};
use crate::bundle::change::{self, Data, Hands, Journal, Kind, Page, Step, Undo};
use crate::bundle::manifest::{MANIFEST, Maintenance, SETTINGS};
use crate::bundle::settings::Settings;
use crate::bundle::write::keep_settings;
use crate::edge::engine::{Container, EngineError};
use crate::edge::place::{self, BundleFolder};
use crate::failure::Failure;
use crate::verbs::Context;

/// A page may need so long after all services are well: connections are made anew, caches are filled.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both versions, and the machine.
pub struct Changing<'a, 'b> {
    pub from: Place,
    pub to: Place,
    /// The engine with the old bundle.
    pub old: Machine,
    /// The engine with the new one.
    pub new: Machine,
    pub context: &'a Context<'b>,
    /// How long each service may take until it is ready.
    pub timeout: Duration,
    /// What was done, for `--json`.
    pub done: Vec<serde_json::Value>,
}

impl Changing<'_, '_> {
    fn say(&self, say: &Say) {
        self.context.screen.note(&say.text(self.context.language));
    }

    /// Returns what the old version has against visitors, or else the new one.
    fn maintenance(&self) -> Option<(&Machine, &Maintenance)> {
        let old = self.from.manifest.maintenance.as_ref().map(|rule| (&self.old, rule));
        old.or_else(|| self.to.manifest.maintenance.as_ref().map(|rule| (&self.new, rule)))
    }

    fn old_start(&mut self) -> Starting<'_, '_> {
        Starting { place: &mut self.from, machine: &self.old, context: self.context, timeout: self.timeout, done: Vec::new() }
    }

    fn new_start(&mut self) -> Starting<'_, '_> {
        Starting { place: &mut self.to, machine: &self.new, context: self.context, timeout: self.timeout, done: Vec::new() }
    }

    /// Removes what a killed parvis may have left running: the same must not happen twice at a time.
    pub fn sweep(&mut self) -> Result<(), Failure> {
        self.old_start().sweep()?;
        self.new_start().sweep()
    }

    /// Puts the user's settings into the new bundle.
    pub fn carry_settings(&mut self) -> Result<(), Failure> {
        let text = keep_settings(&self.to.settings.render(), &self.from.settings.render());
        let failed = |line| self.to.voice.problem(Problem::Settings { line });
        self.to.settings = Settings::parse(&text).map_err(|error| failed(error.line))?;
        self.to.settings.set("COMPOSE_PROJECT_NAME", &self.from.project);
        self.to.project.clone_from(&self.from.project);
        Ok(())
    }

    /// Tells visitors. The site is closed either way, so one that cannot tell them is no reason to stop.
    fn notice(&self, journal: &mut Journal) {
        let Some(rule) = &self.from.manifest.maintenance else {
            return self.say(&Say::NoNotice);
        };
        journal.notice = self.old.ask(rule.service.as_str(), &rule.begin).is_ok();
        self.say(if journal.notice { &Say::Notice } else { &Say::NoNotice });
    }

    /// Lets visitors in, by the version that runs now.
    fn open(&self, now: Side, journal: &Journal) -> Result<(), Failure> {
        let (place, machine) = match now {
            Side::Old => (&self.from, &self.old),
            Side::New => (&self.to, &self.new),
        };
        let own = place.manifest.maintenance.as_ref().map(|rule| (machine, rule));
        // A version that knows no notice does not obey one either; but the flag should not stay for the next that does.
        let Some((machine, rule)) = own.or_else(|| self.maintenance()) else { return Ok(()) };
        match machine.ask(rule.service.as_str(), &rule.end) {
            Err(error) if journal.notice => Err(place.voice.engine(error)),
            _ => Ok(()),
        }
    }

    fn quiet(&self) -> Result<(), Failure> {
        let names = change::quieted(&self.from.manifest);
        if names.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = ["stop"].into_iter().chain(names.iter().copied()).collect();
        self.old.deployment.answer("compose stop", &words).map_err(|error| self.from.voice.engine(error))?;
        self.say(&Say::Quiet { services: names.join(", ") });
        Ok(())
    }

    fn save(&self, journal: &Journal) -> Result<(), Failure> {
        let Some(path) = &journal.backup else { return Ok(()) };
        let saved = backup::write(&self.from, &self.old, path, None, self.context)?;
        self.say(&Say::Saved { file: path.display().to_string(), size: saved.size });
        Ok(())
    }

    fn data(&mut self, journal: &mut Journal) -> Result<(), Failure> {
        match &journal.data {
            Data::Migrate => {
                let standing: Vec<String> = self.from.manifest.services.iter().map(|service| service.name.to_string()).collect();
                let standing: Vec<&str> = standing.iter().map(String::as_str).collect();
                self.new_start().jobs(&standing)?;
                // Where it cannot be known, they are taken for moved: going back then takes the backup.
                let same = journal.backup.as_ref().map(|path| backup::is_as_saved(&self.from, &self.old, path));
                journal.moved = !matches!(same, Some(Ok(true)));
                Ok(())
            }
            Data::Restore(path) => {
                let wanted = Wanted::open(&self.to, path, &path.display().to_string())?;
                wanted.check(&self.to, self.context)?;
                let kept = self.from.manifest.maintenance.as_ref().map(|rule| rule.service.to_string());
                wanted.bring_back(&mut self.to, &self.new, kept.as_deref(), self.timeout, self.context)?;
                journal.moved = true;
                Ok(())
            }
        }
    }

    /// Puts the new version's services in the place of the old ones, and removes those that it does not have.
    fn services(&mut self) -> Result<(), Failure> {
        let mut starting = self.new_start();
        starting.services()?;
        starting.drop_others()
    }

    /// Waits until each service with a check of its own was found good once more. A container that stayed may have been good with what
    /// it had before it, and says so until it has failed several times.
    fn settled(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut before: Option<Vec<(String, Option<String>)>> = None;
        loop {
            let containers = self.new.containers()?;
            let own = containers
                .iter()
                .filter(|container| !container.one_off && self.to.manifest.service(&container.service).is_some());
            let own: Vec<&Container> = own.filter(|container| container.checked.is_some()).collect();
            let when = |container: &Container| container.checked.as_ref().map(|(when, _)| when.clone());
            let Some(before) = &before else {
                before = Some(own.iter().map(|container| (container.id.clone(), when(container))).collect());
                continue;
            };
            let anew = |container: &Container| {
                let good = container.checked.as_ref().is_some_and(|(_, good)| *good);
                good && container.is_well() && !before.contains(&(container.id.clone(), when(container)))
            };
            let Some(bad) = own.iter().find(|container| !anew(container)) else { return Ok(()) };
            if begun.elapsed() >= self.timeout {
                let name = bad.service.clone();
                return Err(self.to.voice.problem(Problem::Unhealthy { name, words: bad.complaint.clone() }));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn check(&self, journal: &Journal) -> Result<(), Failure> {
        self.settled()?;
        let begun = Instant::now();
        loop {
            let failure = match page(&self.to, &self.new) {
                Ok(None) => return Ok(()),
                Ok(Some(Page::Good)) => {
                    self.say(&Say::PageGood);
                    return Ok(());
                }
                Ok(Some(Page::Refused)) if journal.page != Some(Page::Good) => {
                    self.say(&Say::PageAsBefore);
                    return Ok(());
                }
                Ok(Some(Page::Refused)) => self.to.voice.change(Trouble::PageRefused),
                Err(failure) => failure,
            };
            if begun.elapsed() >= PATIENCE.min(self.timeout) {
                return Err(failure);
            }
            std::thread::sleep(Duration::from_secs(2).min(self.timeout));
        }
    }

    /// Writes down which version runs, so that every other command finds it.
    fn commit(&mut self, journal: &Journal) -> Result<(), Failure> {
        let backup = journal.backup.clone().filter(|_| journal.kind == Kind::Upgrade);
        let (from, to) = (&mut self.from, &mut self.to);
        to.memory.previous = backup.map(|backup| Previous {
            folder: journal.from.folder.clone(),
            version: journal.from.version.clone(),
            backup,
            moved: journal.moved,
        });
        to.memory.came_from = Some(journal.from.folder.clone());
        to.memory.went_to = None;
        to.memory.owes_password = from.memory.owes_password;
        to.memory.restoring = None;
        to.memory.started = Some(to.fingerprint());
        to.remember()?;
        from.memory.went_to = Some(journal.to.folder.clone());
        from.memory.started = None;
        from.remember()?;
        place::started(&self.context.state, &journal.to.folder);
        Ok(())
    }

    /// Removes the version before the one that was left: two are kept.
    fn tidy(&mut self, journal: &Journal) -> Result<(), Failure> {
        let own = [&journal.from.folder, &journal.to.folder];
        let Some(gone) = self.from.memory.previous.clone().filter(|_| journal.kind == Kind::Upgrade) else { return Ok(()) };
        if !own.contains(&&gone.folder)
            && let Ok(place) = Place::open(&gone.folder, self.from.voice)
        {
            let ids = |place: &Place| -> Vec<String> {
                place.manifest.images.iter().map(|image| place.image(image)).filter(|id| id.starts_with("sha256:")).collect()
            };
            let mut unused = ids(&place);
            let used = [ids(&self.from), ids(&self.to)].concat();
            unused.retain(|id| !used.contains(id));
            self.new.engine.remove_images(&unused).map_err(|error| self.to.voice.engine(error))?;
            remove_bundle(&place, &gone.backup);
            self.say(&Say::Forgotten { version: gone.version });
        }
        self.from.memory.previous = None;
        self.from.remember()
    }

    fn restore(&mut self, journal: &Journal) -> Result<(), Failure> {
        self.say(&Say::GoingBack { from: journal.from.version.clone() });
        images::provide(&mut self.from, &self.old, self.context)?;
        match &journal.backup {
            Some(path) => {
                let wanted = Wanted::open(&self.from, path, &path.display().to_string())?;
                wanted.check(&self.from, self.context)?;
                let kept = self.from.manifest.maintenance.as_ref().map(|rule| rule.service.to_string());
                wanted.bring_back(&mut self.from, &self.old, kept.as_deref(), self.timeout, self.context)?;
            }
            // What could not be saved is left as it is.
            None => self.old_start().all(false, None)?,
        }
        // What only the new version has, and made.
        let there = stop::existing(&self.to, &self.new)?;
        let own = self.from.volumes();
        let new: Vec<String> =
            there.into_iter().filter(|volume| !own.contains(volume) && !journal.volumes.contains(volume)).collect();
        self.new.engine.remove_volumes(&new).map_err(|error| self.from.voice.engine(error))
    }
}

/// Which of the two versions.
#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

impl Hands for Changing<'_, '_> {
    type Error = Failure;

    fn write(&mut self, journal: &Journal) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(journal)
            .map_err(|error| Failure::bug("the journal of a change cannot be written").because(error))?;
        self.from.folder.write_journal(&bytes).map_err(|error| self.from.voice.place(error))
    }

    fn forget(&mut self, _: &Journal) -> Result<(), Failure> {
        self.from.folder.remove_journal().map_err(|error| self.from.voice.place(error))
    }

    fn perform(&mut self, step: Step, journal: &mut Journal) -> Result<(), Failure> {
        let begun = Instant::now();
        match step {
            Step::Settings => self.carry_settings().and_then(|()| self.to.save_settings()),
            Step::Images => images::provide(&mut self.to, &self.new, self.context),
            Step::Notice => {
                self.notice(journal);
                Ok(())
            }
            Step::Quiet => self.quiet(),
            Step::Backup => self.save(journal),
            Step::Data => self.data(journal),
            Step::Services => self.services(),
            Step::Check => self.check(journal),
            Step::Commit => self.commit(journal),
            Step::Open => self.open(Side::New, journal),
            Step::Tidy => self.tidy(journal),
        }?;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.done.push(serde_json::json!({"step": step, "milliseconds": milliseconds}));
        Ok(())
    }

    fn revert(&mut self, undo: Undo, journal: &Journal) -> Result<(), Failure> {
        match undo {
            Undo::Start => self.old_start().services(),
            Undo::Restore => self.restore(journal),
            Undo::Open => self.open(Side::Old, journal),
        }?;
        // A later `up` finds everything as it left it.
        if undo == Undo::Open {
            self.from.memory.started = Some(self.from.fingerprint());
            self.from.remember()?;
        }
        Ok(())
    }
}

/// Asks for the page with the first log-in; `None` where the bundle does not say how.
pub fn page(place: &Place, machine: &Machine) -> Result<Option<Page>, Failure> {
    let voice = place.voice;
    let rule = place.manifest.maintenance.as_ref();
    let Some((rule, check)) = rule.and_then(|rule| Some((rule, rule.check.as_ref()?))) else { return Ok(None) };
    let Some(login) = &place.manifest.login else { return Ok(None) };
    let containers = machine.containers()?;
    let own = containers.iter().rfind(|container| container.service == rule.service.as_str() && !container.one_off);
    let container = own.ok_or_else(|| voice.problem(Problem::NotRunning))?;
    let password = read_password(machine, login.service.as_str(), &login.command, voice)?;
    let lines = format!("{}\n{password}\n", place.filled(&login.user));
    let said = machine.engine.inside(&container.id, check, &mut lines.as_bytes().take(lines.len() as u64));
    match said {
        Ok(said) if said.trim() == "good" => Ok(Some(Page::Good)),
        Ok(said) if said.trim() == "refused" => Ok(Some(Page::Refused)),
        Ok(said) => Err(voice.change(Trouble::Page { words: said.trim().chars().take(200).collect() })),
        Err(EngineError::Failed { words, .. }) => Err(voice.change(Trouble::Page { words })),
        Err(error) => Err(voice.engine(error)),
    }
}

/// Removes the files of a bundle that are as they were delivered, what parvis made beside them, and the folder where nothing else is
/// left in it. Whatever a person put there stays.
fn remove_bundle(place: &Place, backup: &Path) {
    let folder: &BundleFolder = &place.folder;
    // What cannot be removed is in nobody's way.
    let remove = |name: &str| drop(folder.remove(name));
    for (name, digest) in &place.manifest.files {
        if name != SETTINGS && folder.digest(name).ok().flatten().as_ref() == Some(digest) {
            remove(name);
        }
    }
    if let (Some(above), Some(name)) = (backup.parent(), backup.file_name().and_then(std::ffi::OsStr::to_str))
        && above == folder.path()
    {
        remove(name);
    }
    [SETTINGS, MANIFEST].into_iter().for_each(remove);
    folder.forget();
}
