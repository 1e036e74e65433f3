//! A change of version as a value: its steps, what undoes each, and the journal by which a killed one is taken up again.
//!
//! ```text
//! settings images notice quiet backup │ data services check        │ commit open tidy
//! the old containers still stand:     │ data and containers change: │ the new version was found good:
//! going back means starting them      │ going back takes the backup │ it stays, whatever happens
//! ```
//!
//! The journal is written before each step, so that it names the step that may be half done. What a step does may be done again,
//! with one exception: data that were half brought to another version are taken from the backup first.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::manifest::{Backup, Manifest, ServiceKind, When};
use crate::model::digest::StepKey;

/// The number of the journal's format.
pub const FORMAT: u32 = 1;

/// One step, in the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The user's settings are put into the new bundle.
    Settings,
    /// The engine gets the new images.
    Images,
    /// Visitors read that the site is being worked on.
    Notice,
    /// Whatever could change data is stopped.
    Quiet,
    /// Everything is saved.
    Backup,
    /// The new version's jobs bring the data to it, while the old containers stand; or another backup is brought back.
    Data,
    /// The new version's services take the place of the old ones.
    Services,
    /// The page is asked for.
    Check,
    /// It is written down that the new version is the one that runs.
    Commit,
    /// Visitors get in.
    Open,
    /// What is older than the version before is removed.
    Tidy,
}

/// How far a change has got, as far as going back is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Data and containers are those of the old version.
    Untouched,
    /// They may be of either version, or half changed.
    Touched,
    /// They are those of the new version, which was found good.
    Settled,
}

impl Step {
    pub const ALL: [Self; 11] = [
        Self::Settings,
        Self::Images,
        Self::Notice,
        Self::Quiet,
        Self::Backup,
        Self::Data,
        Self::Services,
        Self::Check,
        Self::Commit,
        Self::Open,
        Self::Tidy,
    ];

    /// Returns what may have happened when this step has begun.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Settings | Self::Images | Self::Notice | Self::Quiet | Self::Backup => Stage::Untouched,
            Self::Data | Self::Services | Self::Check => Stage::Touched,
            Self::Commit | Self::Open | Self::Tidy => Stage::Settled,
        }
    }

    /// Returns what brings the old version back when this step has begun, in order.
    #[must_use]
    pub const fn undone_by(self) -> &'static [Undo] {
        match self {
            Self::Notice => &[Undo::Open],
            Self::Quiet | Self::Backup => &[Undo::Start, Undo::Open],
            Self::Data | Self::Services | Self::Check => &[Undo::Restore, Undo::Open],
            Self::Settings | Self::Images | Self::Commit | Self::Open | Self::Tidy => &[],
        }
    }
}

/// One step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// The old services that were stopped are started.
    Start,
    /// The old version's data are brought back from the backup, and all its services started.
    Restore,
    /// Visitors get in.
    Open,
}

/// One of the two versions: where its bundle is, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    pub folder: PathBuf,
    pub version: String,
    /// The digest of its `bundle.json`.
    pub digest: StepKey,
}

/// What the new version does with the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// Its own jobs bring them to it.
    Migrate,
    /// They are taken from this backup, which it made itself.
    Restore(PathBuf),
}

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Upgrade,
    Rollback,
}

/// How the page answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    /// It came.
    Good,
    /// The first password is not good any more, so nobody but its owner can ask for the page.
    Refused,
}

/// A change of version under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub format: u32,
    pub kind: Kind,
    /// The name of the compose project.
    pub project: String,
    pub from: Side,
    pub to: Side,
    /// The file into which the old version's data are saved; absent where they are so broken that they cannot be.
    pub backup: Option<PathBuf>,
    pub data: Data,
    /// The volumes that there were before.
    pub volumes: Vec<String>,
    /// How the page answered before; absent where it could not be asked for, or was not good.
    pub page: Option<Page>,
    /// Whether visitors were told. Where they could not be, that they cannot be told otherwise is no failure either.
    pub notice: bool,
    /// Whether the data that were saved are other ones since the new version's jobs ran.
    pub moved: bool,
    /// The step that was begun last.
    pub step: Step,
    /// Whether it is being undone.
    pub undoing: bool,
}

/// A journal that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("it was written by a newer parvis (format {0})")]
    Newer(u64),
    #[error("it cannot be read")]
    Shape(#[from] serde_json::Error),
}

impl Journal {
    /// Reads a journal.
    ///
    /// # Errors
    /// Refuses what is no journal, and the formats of newer versions.
    pub fn parse(bytes: &[u8]) -> Result<Self, JournalError> {
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        if let Some(format) = value.get("format").and_then(serde_json::Value::as_u64).filter(|format| *format > FORMAT.into()) {
            return Err(JournalError::Newer(format));
        }
        Ok(serde_json::from_value(value)?)
    }

    /// Returns what is to be done with a change that was killed.
    #[must_use]
    pub const fn course(&self, wish: Wish) -> Course {
        match (self.step.stage(), self.undoing, wish) {
            (Stage::Settled, ..) => Course::From(self.step),
            (_, _, Wish::Back) => Course::Back,
            (_, true, Wish::Forward) => Course::BackThenAgain,
            (Stage::Untouched, false, Wish::Forward) => Course::From(Step::Settings),
            // Half of it may be done, and doing it twice may do it wrong.
            (Stage::Touched, false, Wish::Forward) if matches!(self.step, Step::Data) => Course::BackThenAgain,
            (Stage::Touched, false, Wish::Forward) => Course::From(Step::Services),
        }
    }
}

/// What a person wants of a change that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Forward,
    Back,
}

/// What is done with a change that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It goes on with this step.
    From(Step),
    /// The old version is brought back.
    Back,
    /// The old version is brought back, then everything is done again.
    BackThenAgain,
}

/// Whatever carries out a change.
pub trait Hands {
    type Error;

    /// Writes the journal down, so that a power cut does not take it.
    fn write(&mut self, journal: &Journal) -> Result<(), Self::Error>;
    /// Removes the journal.
    fn forget(&mut self, journal: &Journal) -> Result<(), Self::Error>;
    /// Takes a step; it may learn something for the journal.
    fn perform(&mut self, step: Step, journal: &mut Journal) -> Result<(), Self::Error>;
    /// Takes a step back.
    fn revert(&mut self, undo: Undo, journal: &Journal) -> Result<(), Self::Error>;
}

/// How a change ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<E> {
    /// The new version runs.
    Done,
    /// The old version was brought back, as was wished.
    Back,
    /// A step failed, and the old version was brought back.
    Undone { step: Step, error: E },
    /// The old version could not be brought back, perhaps after a step failed; the journal stays for the next try.
    Stuck { first: Option<E>, error: E },
    /// The new version runs, but something that comes after could not be done; the journal stays for the next try.
    Unfinished { error: E },
}

/// Carries out a change from its beginning.
pub fn begin<H: Hands>(journal: &mut Journal, hands: &mut H) -> Outcome<H::Error> {
    forward(journal, Step::Settings, hands)
}

/// Takes up a change that was killed.
pub fn resume<H: Hands>(journal: &mut Journal, wish: Wish, hands: &mut H) -> Outcome<H::Error> {
    match journal.course(wish) {
        Course::From(step) => forward(journal, step, hands),
        Course::Back => match back(journal, hands).and_then(|()| hands.forget(journal)) {
            Ok(()) => Outcome::Back,
            Err(error) => Outcome::Stuck { first: None, error },
        },
        Course::BackThenAgain => {
            if let Err(error) = back(journal, hands) {
                return Outcome::Stuck { first: None, error };
            }
            journal.undoing = false;
            forward(journal, Step::Settings, hands)
        }
    }
}

fn forward<H: Hands>(journal: &mut Journal, first: Step, hands: &mut H) -> Outcome<H::Error> {
    for step in Step::ALL.into_iter().filter(|step| *step >= first) {
        let before = journal.step;
        journal.step = step;
        let written = hands.write(journal).inspect_err(|_| {
            // This step was not begun; what is to be undone are those before it.
            if step > first {
                journal.step = before;
            }
        });
        if let Err(first) = written.and_then(|()| hands.perform(step, journal)) {
            if journal.step.stage() == Stage::Settled {
                return Outcome::Unfinished { error: first };
            }
            return match back(journal, hands).and_then(|()| hands.forget(journal)) {
                Ok(()) => Outcome::Undone { step, error: first },
                Err(error) => Outcome::Stuck { first: Some(first), error },
            };
        }
    }
    match hands.forget(journal) {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Unfinished { error },
    }
}

fn back<H: Hands>(journal: &mut Journal, hands: &mut H) -> Result<(), H::Error> {
    journal.undoing = true;
    hands.write(journal)?;
    journal.step.undone_by().iter().try_for_each(|undo| hands.revert(*undo, journal))
}

/// Returns the services that are stopped so that nothing changes the data: all but the one that shows the notice, and those that
/// jobs and backups talk to.
#[must_use]
pub fn quieted(manifest: &Manifest) -> Vec<&str> {
    let commands = manifest.backup.iter().filter_map(|item| match item {
        Backup::Command { service, .. } => Some(service.as_str()),
        Backup::Volume { .. } => None,
    });
    let jobs = manifest.services.iter().filter(|service| service.when.is_some_and(|when| when != When::Manual));
    let mut kept: Vec<&str> = commands.chain(jobs.map(|job| job.name.as_str())).flat_map(|name| manifest.needed(name)).collect();
    kept.extend(manifest.maintenance.as_ref().map(|maintenance| maintenance.service.as_str()));
    let services = manifest.services.iter().filter(|service| service.kind == ServiceKind::Service);
    services.map(|service| service.name.as_str()).filter(|name| !kept.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What a bundle's folder, an engine and its volumes look like to somebody who does not look closely.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct World {
        journal: Option<Journal>,
        /// `old`, `new`, or `half` of a migration.
        data: &'static str,
        backup: Option<&'static str>,
        /// Of which version the containers are.
        services: &'static str,
        stopped: bool,
        notice: bool,
        current: &'static str,
    }

    impl World {
        fn old() -> Self {
            Self { journal: None, data: "old", backup: None, services: "old", stopped: false, notice: false, current: "old" }
        }

        /// Nothing is under way, and everything is of one version.
        fn is(&self, version: &str) -> bool {
            self.journal.is_none()
                && (self.data, self.services, self.current) == (version, version, version)
                && !self.stopped
                && !self.notice
        }
    }

    /// Hands that die after so many movements, or fail at some step.
    struct Mortal<'a> {
        world: &'a mut World,
        breath: usize,
        failing: Option<Step>,
    }

    /// Why hands stopped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Stop {
        Dead,
        Failed,
    }

    impl Mortal<'_> {
        fn breathe(&mut self) -> Result<(), Stop> {
            self.breath = self.breath.checked_sub(1).ok_or(Stop::Dead)?;
            Ok(())
        }
    }

    impl Hands for Mortal<'_> {
        type Error = Stop;

        fn write(&mut self, journal: &Journal) -> Result<(), Stop> {
            self.breathe()?;
            self.world.journal = Some(journal.clone());
            Ok(())
        }

        fn forget(&mut self, _: &Journal) -> Result<(), Stop> {
            self.breathe()?;
            self.world.journal = None;
            Ok(())
        }

        fn perform(&mut self, step: Step, _: &mut Journal) -> Result<(), Stop> {
            self.breathe()?;
            if step == Step::Data {
                // A migration that is begun on anything but the old data is one that was done twice.
                assert_eq!(self.world.data, "old", "a migration was begun upon half-changed data");
                self.world.data = "half";
                self.breathe()?;
            }
            if step == Step::Services {
                assert_eq!(self.world.data, "new");
                self.world.services = "mixed";
                self.breathe()?;
            }
            if self.failing == Some(step) {
                return Err(Stop::Failed);
            }
            match step {
                Step::Notice => self.world.notice = true,
                Step::Quiet => self.world.stopped = true,
                Step::Backup => {
                    assert!(self.world.stopped && self.world.notice, "a backup of data that change");
                    self.world.backup = Some(self.world.data);
                }
                Step::Data => self.world.data = "new",
                Step::Services => (self.world.services, self.world.stopped) = ("new", false),
                Step::Commit => self.world.current = "new",
                Step::Open => self.world.notice = false,
                Step::Settings | Step::Images | Step::Check | Step::Tidy => {}
            }
            self.breathe()
        }

        fn revert(&mut self, undo: Undo, _: &Journal) -> Result<(), Stop> {
            self.breathe()?;
            match undo {
                Undo::Start => (self.world.services, self.world.stopped) = ("old", false),
                Undo::Restore => {
                    self.world.services = "mixed";
                    self.breathe()?;
                    self.world.data = "half";
                    self.breathe()?;
                    self.world.data = self.world.backup.expect("there is no backup to go back to");
                    (self.world.services, self.world.stopped) = ("old", false);
                }
                Undo::Open => self.world.notice = false,
            }
            self.breathe()
        }
    }

    fn journal() -> Journal {
        let side =
            |name: &str| Side { folder: Path::new(name).into(), version: name.into(), digest: StepKey::of(name.as_bytes()) };
        Journal {
            format: FORMAT,
            kind: Kind::Upgrade,
            project: "parish".into(),
            from: side("old"),
            to: side("new"),
            backup: Some("backup.tar".into()),
            data: Data::Migrate,
            volumes: vec!["parish_database".into()],
            page: Some(Page::Good),
            notice: false,
            moved: false,
            step: Step::Settings,
            undoing: false,
        }
    }

    fn dead(outcome: &Outcome<Stop>) -> bool {
        matches!(
            outcome,
            Outcome::Undone { error: Stop::Dead, .. }
                | Outcome::Stuck { error: Stop::Dead, .. }
                | Outcome::Unfinished { error: Stop::Dead }
        )
    }

    /// Takes up what the journal says, again and again, with so many movements each time.
    fn until_settled(world: &mut World, wish: Wish, breaths: &[usize]) {
        for breath in breaths.iter().copied().chain([1000]) {
            let Some(mut journal) = world.journal.clone() else { return };
            let outcome = resume(&mut journal, wish, &mut Mortal { world, breath, failing: None });
            assert!(dead(&outcome) || world.journal.is_none(), "{outcome:?} {world:?}");
        }
    }

    #[test]
    fn a_change_that_nothing_disturbs_ends_at_the_new_version() {
        let mut world = World::old();
        let outcome = begin(&mut journal(), &mut Mortal { world: &mut world, breath: 1000, failing: None });
        assert_eq!(outcome, Outcome::Done);
        assert!(world.is("new"), "{world:?}");
    }

    #[test]
    fn wherever_a_step_fails_the_old_version_is_back_or_the_new_one_stays() {
        for failing in Step::ALL {
            let mut world = World::old();
            let outcome = begin(&mut journal(), &mut Mortal { world: &mut world, breath: 1000, failing: Some(failing) });
            if failing.stage() == Stage::Settled {
                assert_eq!(outcome, Outcome::Unfinished { error: Stop::Failed });
                until_settled(&mut world, Wish::Back, &[]);
                assert!(world.is("new"), "{failing:?} {world:?}");
            } else {
                assert_eq!(outcome, Outcome::Undone { step: failing, error: Stop::Failed });
                assert!(world.is("old"), "{failing:?} {world:?}");
            }
        }
    }

    #[test]
    fn killed_anywhere_it_goes_on_or_back_and_killed_again_meanwhile_too() {
        let mut kills = 0;
        for breath in 0.. {
            let mut killed = World::old();
            let outcome = begin(&mut journal(), &mut Mortal { world: &mut killed, breath, failing: None });
            if outcome == Outcome::Done {
                break;
            }
            assert!(dead(&outcome), "{outcome:?}");
            kills += 1;
            let settled = killed.journal.as_ref().is_some_and(|journal| journal.step.stage() == Stage::Settled);
            for wish in [Wish::Forward, Wish::Back] {
                for again in 0..40 {
                    for third in [0, 3, 7, 1000] {
                        let mut world = killed.clone();
                        let begun = world.journal.is_some();
                        until_settled(&mut world, wish, &[again, third]);
                        let expected = if begun && (wish == Wish::Forward || settled) { "new" } else { "old" };
                        assert!(world.is(expected), "killed after {breath}, {again}, {third}, {wish:?}: {world:?}");
                    }
                }
            }
        }
        assert!(kills > 25, "{kills}");
    }

    #[test]
    fn a_failure_that_is_killed_while_it_is_undone_still_ends_at_the_old_version() {
        for failing in Step::ALL.into_iter().filter(|step| step.stage() != Stage::Settled) {
            for breath in 0..60 {
                let mut world = World::old();
                begin(&mut journal(), &mut Mortal { world: &mut world, breath, failing: Some(failing) });
                until_settled(&mut world, Wish::Back, &[2, 4]);
                assert!(world.is("old"), "{failing:?} {breath}: {world:?}");
            }
        }
    }

    #[test]
    fn a_journal_reads_back_and_one_of_the_future_is_refused() {
        let bytes = serde_json::to_vec(&journal()).unwrap();
        assert_eq!(Journal::parse(&bytes).unwrap(), journal());
        let text = String::from_utf8(bytes).unwrap();
        assert!(matches!(Journal::parse(text.replace("\"format\":1", "\"format\":2").as_bytes()), Err(JournalError::Newer(2))));
        for bad in [text.replace("\"notice\"", ""), text.replace("\"undoing\"", "\"un\""), "{}".into(), String::new()] {
            assert!(bad == text || Journal::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
