//! `parvis demo backup` and `restore`: everything that `reset` would remove, in one file, and back.

use std::time::Duration;

use serde_json::json;

use super::machine::Machine;
use super::place::Place;
use super::start::Starting;
use super::words::{Line, Problem};
use super::{Arguments, Copy, images, look, stop};
use crate::bundle::backup::{self, Contents, Member};
use crate::bundle::manifest::{Backup, VolumeKind, When};
use crate::edge::engine::{EngineError, volume_name};
use crate::edge::place::{self, BackupDraft, PlaceError};
use crate::failure::Failure;
use crate::screen::Unit;
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
pub fn save(arguments: &Arguments, copy: &Copy, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    let voice = place.voice;
    let path = context.folder.join(&copy.file);
    let shown = copy.file.display().to_string();
    if path.exists() && !copy.yes {
        return Err(voice.problem(Problem::FileExists { file: shown }));
    }
    let _held = place.lock()?;
    let items = items(&place);
    if items.is_empty() {
        return Err(voice.problem(Problem::NothingToSave));
    }
    let machine = Machine::find(arguments, &place, context)?;
    let there = stop::existing(&place, &machine)?;
    if there.is_empty() {
        return Err(voice.problem(Problem::NoData));
    }
    for item in &items {
        if let Item::Command { service, .. } = item
            && !look::can_work(&place, &machine, service)?
        {
            return Err(voice.problem(Problem::NotRunning));
        }
    }
    let date = u64::try_from(context.now).unwrap_or_default();
    let mut draft = BackupDraft::begin(&path, date).map_err(|error| voice.place(error))?;
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
            let saved = match item {
                Item::Command { service, save, .. } => {
                    machine.deployment.stream("compose run", &Machine::beside(service, save), &mut sink)
                }
                Item::Volume { volume, .. } => {
                    machine.engine.read_volume(&helper(&place), &volume_name(&place.project, volume), &mut sink)
                }
            };
            saved.map_err(Broken::Engine)
        });
        drop(task);
        let member = member.map_err(|error| match error {
            Broken::Engine(EngineError::Sink { source, .. }) => {
                voice.place(PlaceError { action: "write", path: path.clone(), source })
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
    let size = draft.finish(&contents).map_err(|error| voice.place(error))?;
    context.answer(
        || json!({"file": path, "size": size, "members": contents.members}),
        || vec![Line::Saved { file: shown.clone(), size }.text(context.language)],
    );
    Ok(())
}

/// Brings a backup back. It is checked whole before anything is touched.
pub fn restore(arguments: &Arguments, copy: &Copy, context: &Context<'_>) -> Answer {
    let mut place = Place::find(arguments, context)?;
    let voice = place.voice;
    let path = context.folder.join(&copy.file);
    let shown = copy.file.display().to_string();
    let _held = place.lock()?;
    let source = place::open_file(&path).map_err(|error| voice.place(error))?;
    let refused = |error: backup::BackupError| voice.problem(Problem::Backup { file: shown.clone(), cause: whole(&error) });
    let opened = backup::Backup::open(&source).map_err(refused)?;
    if opened.contents.name != place.manifest.name.as_str() {
        let (name, own) = (opened.contents.name.chars().take(80).collect(), place.manifest.name.to_string());
        return Err(voice.problem(Problem::OtherBundle { file: shown, name, own }));
    }
    let items = items(&place);
    let pairs = paired(&items, &opened.contents.members).map_err(refused)?;
    let task = context.screen.work(&Line::Checking.text(context.language), Some(pairs.len() as u64), Unit::Items);
    for (_, member) in &pairs {
        opened.verify(member).map_err(refused)?;
        task.advance(1);
    }
    drop(task);

    let machine = Machine::find(arguments, &place, context)?;
    let there = stop::existing(&place, &machine)?;
    if !there.is_empty() && !copy.yes {
        return Err(voice.problem(Problem::DataThere));
    }
    images::provide(&mut place, &machine, context)?;
    place::started(&context.state, place.folder.path());
    stop::remove(&mut place, &machine, &[])?;
    place.memory.restoring = Some(path.display().to_string());
    place.remember()?;
    machine.engine.remove_volumes(&there).map_err(|error| voice.engine(error))?;
    let say = |item: &Item| {
        let what = Line::Restoring { what: item.file().to_owned() };
        context.screen.work(&what.text(context.language), None, Unit::Bytes)
    };
    let image = helper(&place);
    for (item, member) in &pairs {
        let Item::Volume { volume, .. } = item else { continue };
        let _task = say(item);
        machine.engine.make_volume(&place.project, volume).map_err(|error| voice.engine(error))?;
        let mut bytes = opened.member(member).map_err(refused)?;
        let filled = machine.engine.fill_volume(&image, &volume_name(&place.project, volume), &mut bytes);
        filled.map_err(|error| voice.engine(error))?;
    }
    let at = commands_at(&place, &items);
    let mut bring_back = |machine: &Machine| -> Result<(), Failure> {
        for (item, member) in &pairs {
            let Item::Command { service, restore, .. } = item else { continue };
            let _task = say(item);
            let mut bytes = opened.member(member).map_err(refused)?;
            let fed = machine.deployment.feed("compose run", &Machine::beside(service, restore), &mut bytes);
            fed.map_err(|error| voice.engine(error))?;
        }
        Ok(())
    };
    let timeout = Duration::from_secs(copy.timeout);
    let mut starting = Starting { place: &mut place, machine: &machine, context, timeout, done: Vec::new() };
    starting.all(false, Some((at, &mut bring_back)))?;
    place.memory.restoring = None;
    place.memory.started = Some(place.fingerprint());
    place.remember()?;
    let url = place.manifest.login.as_ref().map(|login| place.filled(&login.url));
    context.answer(
        || json!({"file": path, "created": opened.contents.created, "version": opened.contents.version, "url": url}),
        || {
            let restored = Line::Restored { file: shown.clone(), created: opened.contents.created.clone() };
            let address = url.clone().map(|url| Line::Address { url });
            [Some(restored), address].into_iter().flatten().map(|line| line.text(context.language)).collect()
        },
    );
    Ok(())
}

/// Pairs what the bundle wants back with what the backup has. Nothing may be left over on the backup's side.
fn paired<'a>(items: &'a [Item], members: &'a [Member]) -> Result<Vec<(&'a Item, &'a Member)>, backup::BackupError> {
    let mut pairs = Vec::new();
    for item in items {
        let same = |member: &&Member| member.file == item.file() && member.volume.as_deref() == item.volume();
        match members.iter().find(same) {
            Some(member) => pairs.push((item, member)),
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
fn commands_at(place: &Place, items: &[Item]) -> usize {
    let services = &place.manifest.services;
    let index = |name: &str| services.iter().position(|service| service.name.as_str() == name);
    let upgrade = services.iter().position(|service| service.when == Some(When::Upgrade));
    let needed = items.iter().filter_map(|item| match item {
        Item::Command { service, .. } => place.manifest.needed(service).into_iter().filter_map(index).max(),
        Item::Volume { .. } => None,
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
    use crate::model::digest::BlobDigest;

    #[test]
    fn a_backup_holds_what_the_bundle_wants_and_nothing_else() {
        let items = [
            Item::Command { file: "database.sql".into(), service: "tools".into(), save: Vec::new(), restore: Vec::new() },
            Item::Volume { file: "volume-keys-db.tar".into(), volume: "keys-db".into() },
        ];
        let member = |file: &str, volume: Option<&str>| Member {
            file: file.into(),
            size: 1,
            sha256: BlobDigest::of(b""),
            volume: volume.map(Into::into),
        };
        let (sql, keys) = (member("database.sql", None), member("volume-keys-db.tar", Some("keys-db")));
        assert_eq!(paired(&items, &[sql.clone(), keys.clone()]).map(|pairs| pairs.len()).unwrap(), 2);
        assert_eq!(paired(&items, std::slice::from_ref(&sql)).map(|pairs| pairs.len()).unwrap(), 1);
        let said = |members: &[Member]| paired(&items, members).err().unwrap().to_string();
        assert_eq!(said(std::slice::from_ref(&keys)), "it lacks `database.sql`");
        assert_eq!(
            said(&[sql.clone(), member("volume-keys-db.tar", Some("other"))]),
            "it holds `volume-keys-db.tar`, which it does not list"
        );
        assert_eq!(said(&[sql, keys, member("more.tar", Some("more"))]), "it holds `more.tar`, which it does not list");
    }
}
