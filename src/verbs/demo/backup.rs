//! `parvis demo backup` and `restore`: everything that `reset` would remove, in one file, and back.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::machine::Machine;
use super::place::{Memory, Place, Voice};
use super::sealing::Sealing;
use super::start::Starting;
use super::words::{Line, Problem};
use super::{Arguments, Copy, Save, images, look, stop};
use crate::bundle::backup::{self, Contents, Member};
use crate::bundle::manifest::{Backup, VolumeKind, When};
use crate::edge::engine::{Container, EngineError, volume_name};
use crate::edge::place::seal::Seal;
use crate::edge::place::{self, BackupDraft, PlaceError};
use crate::failure::Failure;
use crate::image::archive::ReadAt;
use crate::model::digest::{BlobDigest, Hasher};
use crate::screen::{Task, Unit};
use crate::verbs::{Answer, Context};

/// One thing that is saved and brought back.
enum Item {
    Command { file: String, service: String, save: Vec<String>, restore: Vec<String> },
    Volume { file: String, volume: String },
}

impl Item {
    fn file(&self) -> &str {
        match self {
            Self::Command { file, .. } | Self::Volume { file, .. } => file,
        }
    }

    fn volume(&self) -> Option<&str> {
        match self {
            Self::Command { .. } => None,
            Self::Volume { volume, .. } => Some(volume),
        }
    }
}

/// Returns what the bundle wants saved, and the keys with it: data without their keys cannot be opened.
fn items(place: &Place) -> Vec<Item> {
    let mut items: Vec<Item> = place
        .manifest
        .backup
        .iter()
        .map(|item| match item.clone() {
            Backup::Command { file, service, save, restore } => {
                Item::Command { file, service: service.to_string(), save, restore }
            }
            Backup::Volume { file, volume, .. } => Item::Volume { file, volume: volume.to_string() },
        })
        .collect();
    for volume in place.manifest.volumes.iter().filter(|volume| volume.kind == VolumeKind::Keys) {
        let name = volume.name.as_str();
        if !items.iter().any(|item| item.volume() == Some(name)) {
            items.push(Item::Volume { file: format!("volume-{name}.tar"), volume: name.to_owned() });
        }
    }
    items
}

/// An error of either side of a pipe.
enum Broken {
    Engine(EngineError),
    Place(PlaceError),
}

impl From<PlaceError> for Broken {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

/// Saves everything to one file, which appears whole or not at all.
pub fn save(arguments: &Arguments, options: &Save, context: &Context<'_>) -> Answer {
    let copy = &options.copy;
    let place = Place::find(arguments, context)?;
    let voice = place.voice;
    let path = context.folder.join(&copy.file);
    let shown = copy.file.display().to_string();
    if path.exists() && !copy.yes {
        return Err(voice.problem(Problem::FileExists { file: shown }));
    }
    let _held = place.lock()?;
    place.nothing_under_way()?;
    let machine = Machine::find(arguments, &place, context)?;
    let sealing = Sealing::asked(options, &shown, voice, context)?;
    let Saved { members, size } = write(&place, &machine, &path, sealing.as_ref().map(|sealing| &sealing.seal), context)?;
    if options.verify {
        let timeout = Duration::from_secs(copy.timeout);
        let wanted = match &sealing {
            Some(sealing) => Wanted::of(&place, sealing.source(&path, &shown, voice)?, &shown)?,
            None => Wanted::open(&place, &path, &shown)?,
        };
        wanted.try_out(&place, &machine, timeout, context)?;
    }
    context.answer(
        || json!({"file": path, "size": size, "members": members, "encrypted": sealing.is_some(), "verified": options.verify}),
        || {
            let verified = options.verify.then(|| Line::Verified.text(context.language));
            [Line::Saved { file: shown.clone(), size, encrypted: sealing.is_some() }.text(context.language)]
                .into_iter()
                .chain(verified)
                .collect()
        },
    );
    Ok(())
}

/// What was saved.
pub struct Saved {
    pub members: Vec<Member>,
    /// Bytes of the file.
    pub size: u64,
}

/// Writes a backup, encrypted where something to close it with is given.
pub fn write(
    place: &Place,
    machine: &Machine,
    path: &Path,
    seal: Option<&Seal>,
    context: &Context<'_>,
) -> Result<Saved, Failure> {
    let voice = place.voice;
    let items = items(place);
    if items.is_empty() {
        return Err(voice.problem(Problem::NothingToSave));
    }
    let there = stop::existing(place, machine)?;
    if there.is_empty() {
        return Err(voice.problem(Problem::NoData));
    }
    for item in &items {
        if let Item::Command { service, .. } = item
            && !look::can_work(place, machine, service)?
        {
            return Err(voice.problem(Problem::NotRunning));
        }
    }
    let date = u64::try_from(context.now).unwrap_or_default();
    let mut draft = BackupDraft::begin(path, date).map_err(|error| voice.place(error))?;
    let mut members = Vec::new();
    for item in &items {
        // A volume that no service has made yet holds nothing.
        if item.volume().is_some_and(|volume| !there.contains(&volume_name(&place.project, volume))) {
            continue;
        }
        let what = Line::Saving { what: item.file().to_owned() }.text(context.language);
        let task = context.screen.work(&what, None, Unit::Bytes);
        let member = draft.member::<Broken>(item.file(), item.volume(), |sink| {
            let mut sink = |bytes: &[u8]| {
                task.advance(bytes.len() as u64);
                sink(bytes)
            };
            read(place, machine, item, &mut sink).map_err(Broken::Engine)
        });
        drop(task);
        let member = member.map_err(|error| match error {
            Broken::Engine(EngineError::Sink { source, .. }) => {
                voice.place(PlaceError { action: "write", path: path.to_owned(), source })
            }
            Broken::Engine(error) => voice.engine(error),
            Broken::Place(error) => voice.place(error),
        })?;
        if member.size == 0 {
            // A dump of nothing is a failure that did not say so.
            return Err(voice.problem(Problem::Empty { what: item.file().to_owned() }));
        }
        members.push(member);
    }
    let created = jiff::Timestamp::from_second(context.now).map(|time| time.to_string()).unwrap_or_default();
    let contents = Contents {
        format: backup::FORMAT,
        name: place.manifest.name.to_string(),
        version: place.manifest.version.to_string(),
        created,
        members,
    };
    let size = draft.finish(&contents, seal).map_err(|error| voice.place(error))?;
    Ok(Saved { members: contents.members, size })
}

/// Hands on what is saved of one thing.
fn read(place: &Place, machine: &Machine, item: &Item, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), EngineError> {
    match item {
        Item::Command { service, save, .. } => machine.deployment.stream("compose run", &Machine::beside(service, save), sink),
        Item::Volume { volume, .. } => machine.engine.read_volume(&helper(place), &volume_name(&place.project, volume), sink),
    }
}

/// Returns whether the data are, byte by byte, those that a backup holds. Keys are no data.
pub fn is_as_saved(place: &Place, machine: &Machine, path: &Path) -> Result<bool, Failure> {
    let source = place::open_file(path).map_err(|error| place.voice.place(error))?;
    are_as_in(place, machine, &source)
}

fn are_as_in(place: &Place, machine: &Machine, source: &dyn ReadAt) -> Result<bool, Failure> {
    let Ok(opened) = backup::Backup::open(source) else { return Ok(false) };
    let is_key =
        |name: &str| place.manifest.volumes.iter().any(|volume| volume.name.as_str() == name && volume.kind == VolumeKind::Keys);
    for item in items(place) {
        if item.volume().is_some_and(is_key) {
            continue;
        }
        let Some(member) = opened.contents.members.iter().find(|member| member.file == item.file()) else { return Ok(false) };
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut sink = |bytes: &[u8]| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            Ok(())
        };
        read(place, machine, &item, &mut sink).map_err(|error| place.voice.engine(error))?;
        if (size, hasher.finish::<BlobDigest>()) != (member.size, member.sha256) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Brings a backup back. It is checked whole before anything is touched.
pub fn restore(arguments: &Arguments, copy: &Copy, context: &Context<'_>) -> Answer {
    let mut place = Place::find(arguments, context)?;
    let voice = place.voice;
    let path = context.folder.join(&copy.file);
    let shown = copy.file.display().to_string();
    let _held = place.lock()?;
    place.nothing_under_way()?;
    let wanted = Wanted::of(&place, copy.open.source(&path, &shown, voice, context)?, &shown)?;
    wanted.check(&place, context)?;
    let machine = Machine::find(arguments, &place, context)?;
    let there = stop::existing(&place, &machine)?;
    if !there.is_empty() && !copy.yes {
        return Err(voice.problem(Problem::DataThere));
    }
    images::provide(&mut place, &machine, context)?;
    place::started(&context.state, place.folder.path());
    stop::take_down(&place, &machine)?;
    // Whatever there was elsewhere, the data are here from now on.
    let Memory { came_from, previous, .. } = std::mem::take(&mut place.memory);
    place.memory = Memory { restoring: Some(path.display().to_string()), came_from, previous, ..Memory::default() };
    place.remember()?;
    wanted.bring_back(&mut place, &machine, None, Duration::from_secs(copy.timeout), context)?;
    place.memory.restoring = None;
    place.memory.started = Some(place.fingerprint());
    place.remember()?;
    let url = place.manifest.login.as_ref().map(|login| place.filled(&login.url));
    let Contents { created, version, .. } = wanted.contents;
    context.answer(
        || json!({"file": path, "created": created, "version": version, "url": url}),
        || {
            let restored = Line::Restored { file: shown.clone(), created: created.clone() };
            let address = url.clone().map(|url| Line::Address { url });
            [Some(restored), address].into_iter().flatten().map(|line| line.text(context.language)).collect()
        },
    );
    Ok(())
}

/// A backup that is to be brought back, with what the bundle does with each of its members.
pub struct Wanted {
    source: Box<dyn ReadAt>,
    shown: String,
    pub contents: Contents,
    pairs: Vec<(Item, Member)>,
}

impl Wanted {
    /// Opens a backup of this stack that is not encrypted.
    pub fn open(place: &Place, path: &Path, shown: &str) -> Result<Self, Failure> {
        let source = place::open_file(path).map_err(|error| place.voice.place(error))?;
        Self::of(place, Box::new(source), shown)
    }

    /// Reads what a backup of this stack says of itself, and pairs its members with what the bundle wants back.
    fn of(place: &Place, source: Box<dyn ReadAt>, shown: &str) -> Result<Self, Failure> {
        let voice = place.voice;
        let refused = |error: backup::BackupError| refusal(voice, shown, &error);
        let contents = backup::Backup::open(&*source).map_err(refused)?.contents;
        if contents.name != place.manifest.name.as_str() {
            let (name, own) = (contents.name.chars().take(80).collect(), place.manifest.name.to_string());
            return Err(voice.problem(Problem::OtherBundle { file: shown.to_owned(), name, own }));
        }
        let pairs = paired(items(place), &contents.members).map_err(refused)?;
        Ok(Self { source, shown: shown.to_owned(), contents, pairs })
    }

    /// Reads every member whole.
    pub fn check(&self, place: &Place, context: &Context<'_>) -> Result<(), Failure> {
        let refused = |error: backup::BackupError| refusal(place.voice, &self.shown, &error);
        let opened = backup::Backup::open(&*self.source).map_err(refused)?;
        let task = context.screen.work(&Line::Checking.text(context.language), Some(self.pairs.len() as u64), Unit::Items);
        for (_, member) in &self.pairs {
            opened.verify(member).map_err(refused)?;
            task.advance(1);
        }
        Ok(())
    }

    /// Removes the data, fills them anew and starts everything. Of a service that is `kept`, the container stays, and its volumes are
    /// filled as they are.
    pub fn bring_back(
        &self,
        place: &mut Place,
        machine: &Machine,
        kept: Option<&str>,
        timeout: Duration,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let voice = place.voice;
        let is_kept = |container: &&Container| {
            kept == Some(container.service.as_str()) && !container.one_off && container.status == "running"
        };
        let containers = machine.containers()?;
        let held: Vec<&String> = containers.iter().filter(is_kept).flat_map(|container| &container.volumes).collect();
        let others: Vec<&str> =
            containers.iter().filter(|container| !is_kept(container)).map(|container| container.id.as_str()).collect();
        machine.engine.remove_containers(&others).map_err(|error| voice.engine(error))?;
        let mut there = stop::existing(place, machine)?;
        there.retain(|volume| !held.contains(&volume));
        machine.engine.remove_volumes(&there).map_err(|error| voice.engine(error))?;
        self.fill_volumes(place, machine, &held, context)?;
        let mut fill = |machine: &Machine| self.fill_databases(voice, machine, context);
        let at = commands_at(place);
        let mut starting = Starting { place, machine, context, timeout, done: Vec::new() };
        starting.all(false, Some((at, &mut fill)))
    }

    /// Fills the volumes; those that are `held` by a container are there already.
    fn fill_volumes(&self, place: &Place, machine: &Machine, held: &[&String], context: &Context<'_>) -> Result<(), Failure> {
        let voice = place.voice;
        let refused = |error: backup::BackupError| refusal(voice, &self.shown, &error);
        let opened = backup::Backup::open(&*self.source).map_err(refused)?;
        let image = helper(place);
        for (item, member) in &self.pairs {
            let Item::Volume { volume, .. } = item else { continue };
            let _task = restoring(item, context);
            let name = volume_name(&place.project, volume);
            if !held.contains(&&name) {
                machine.engine.make_volume(&place.project, volume).map_err(|error| voice.engine(error))?;
            }
            let mut bytes = opened.member(member).map_err(refused)?;
            machine.engine.fill_volume(&image, &name, &mut bytes).map_err(|error| voice.engine(error))?;
        }
        Ok(())
    }

    /// Has the commands take back what they saved.
    fn fill_databases(&self, voice: Voice, machine: &Machine, context: &Context<'_>) -> Result<(), Failure> {
        let refused = |error: backup::BackupError| refusal(voice, &self.shown, &error);
        let opened = backup::Backup::open(&*self.source).map_err(refused)?;
        for (item, member) in &self.pairs {
            let Item::Command { service, restore, .. } = item else { continue };
            let _task = restoring(item, context);
            let mut bytes = opened.member(member).map_err(refused)?;
            let fed = machine.deployment.feed("compose run", &Machine::beside(service, restore), &mut bytes);
            fed.map_err(|error| voice.engine(error))?;
        }
        Ok(())
    }

    /// Brings the backup back beside the site, in a project of its own that is removed again, and compares what is there then with what
    /// was saved. Nothing that answers anybody is started, so no port is taken.
    fn try_out(&self, place: &Place, machine: &Machine, timeout: Duration, context: &Context<'_>) -> Result<(), Failure> {
        let voice = place.voice;
        let mut trial = Place::open(place.folder.path(), voice)?;
        trial.project = format!("{}-verify", place.project);
        let beside = machine.with(&trial);
        let remove = |trial: &Place| {
            stop::take_down(trial, &beside)?;
            let volumes = stop::existing(trial, &beside)?;
            beside.engine.remove_volumes(&volumes).map_err(|error| voice.engine(error))
        };
        // What a killed one left.
        remove(&trial)?;
        let compared = self.fill_volumes(&trial, &beside, &[], context).and_then(|()| {
            let at = commands_at(&trial);
            let mut starting = Starting { place: &mut trial, machine: &beside, context, timeout, done: Vec::new() };
            starting.before(at)?;
            self.fill_databases(voice, &beside, context)?;
            are_as_in(&trial, &beside, &*self.source)
        });
        let removed = remove(&trial);
        match compared {
            Ok(true) => removed,
            Ok(false) => Err(voice.problem(Problem::NotAsSaved { file: self.shown.clone() })),
            Err(failure) => Err(failure),
        }
    }
}

fn restoring(item: &Item, context: &Context<'_>) -> Box<dyn Task> {
    let what = Line::Restoring { what: item.file().to_owned() };
    context.screen.work(&what.text(context.language), None, Unit::Bytes)
}

fn refusal(voice: Voice, shown: &str, error: &backup::BackupError) -> Failure {
    voice.problem(Problem::Backup { file: shown.to_owned(), cause: whole(error) })
}

/// Pairs what the bundle wants back with what the backup has. Nothing may be left over on the backup's side.
fn paired(items: Vec<Item>, members: &[Member]) -> Result<Vec<(Item, Member)>, backup::BackupError> {
    let mut pairs: Vec<(Item, Member)> = Vec::new();
    for item in items {
        let same = |member: &&Member| member.file == item.file() && member.volume.as_deref() == item.volume();
        match members.iter().find(same) {
            Some(member) => pairs.push((item, member.clone())),
            // A service that an older version did not have gets new keys.
            None if item.volume().is_some() => {}
            None => return Err(backup::BackupError::Missing(item.file().to_owned())),
        }
    }
    match members.iter().find(|member| !pairs.iter().any(|(_, paired)| paired.file == member.file)) {
        Some(member) => Err(backup::BackupError::Unlisted(member.file.clone())),
        None => Ok(pairs),
    }
}

/// Returns before which step the commands bring back what they saved: once everything they need runs and is installed, and
/// before the data are brought to the bundle's version.
fn commands_at(place: &Place) -> usize {
    let services = &place.manifest.services;
    let index = |name: &str| services.iter().position(|service| service.name.as_str() == name);
    let upgrade = services.iter().position(|service| service.when == Some(When::Upgrade));
    let needed = place.manifest.backup.iter().filter_map(|item| match item {
        Backup::Command { service, .. } => place.manifest.needed(service.as_str()).into_iter().filter_map(index).max(),
        Backup::Volume { .. } => None,
    });
    let installed = services.iter().rposition(|service| service.when == Some(When::Install));
    let ready = needed.max().max(installed).map_or(0, |last| last + 1);
    upgrade.filter(|upgrade| *upgrade >= ready).unwrap_or(ready)
}

/// Returns the image whose `tar` reads and fills volumes: that of the first service, which has every key in its hands anyway.
fn helper(place: &Place) -> String {
    let image = place.manifest.services.first().and_then(|service| place.manifest.image(&service.image));
    image.map(|image| place.image(image)).unwrap_or_default()
}

/// Returns an error with all its causes.
fn whole(error: &backup::BackupError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_holds_what_the_bundle_wants_and_nothing_else() {
        let items = || {
            vec![
                Item::Command { file: "database.sql".into(), service: "tools".into(), save: Vec::new(), restore: Vec::new() },
                Item::Volume { file: "volume-keys-db.tar".into(), volume: "keys-db".into() },
            ]
        };
        let member = |file: &str, volume: Option<&str>| Member {
            file: file.into(),
            size: 1,
            sha256: BlobDigest::of(b""),
            volume: volume.map(Into::into),
        };
        let (sql, keys) = (member("database.sql", None), member("volume-keys-db.tar", Some("keys-db")));
        assert_eq!(paired(items(), &[sql.clone(), keys.clone()]).map(|pairs| pairs.len()).unwrap(), 2);
        assert_eq!(paired(items(), std::slice::from_ref(&sql)).map(|pairs| pairs.len()).unwrap(), 1);
        let said = |members: &[Member]| paired(items(), members).err().unwrap().to_string();
        assert_eq!(said(std::slice::from_ref(&keys)), "it lacks `database.sql`");
        assert_eq!(
            said(&[sql.clone(), member("volume-keys-db.tar", Some("other"))]),
            "it holds `volume-keys-db.tar`, which it does not list"
        );
        assert_eq!(said(&[sql, keys, member("more.tar", Some("more"))]), "it holds `more.tar`, which it does not list");
    }
}
