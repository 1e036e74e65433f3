//! `parvis demo upgrade` and `rollback`: another version takes the place of the one that runs, or else nothing has happened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::backup::Wanted;
use super::change_words::{Say, Trouble};
use super::changing::{Changing, page};
use super::machine::Machine;
use super::obtain::{Obtained, obtain};
use super::place::{Place, Previous, Voice};
use super::words::{Line, Problem};
use super::{Arguments, Rollback, Upgrade, look, stop};
use crate::bundle::change::{self, Data, Journal, Kind, Outcome, Side, Step, Wish};
use crate::bundle::manifest::{ARCHIVE, Backup, MANIFEST, Manifest};
use crate::edge::place;
use crate::failure::Failure;
use crate::model::digest::FileDigest;
use crate::model::number::Number;
use crate::verbs::verify::{self, Demand, Doubt, What};
use crate::verbs::{Answer, Context};

/// Bytes that are asked for where nobody knows how large a backup becomes.
const BACKUP: u64 = 64 << 20;

pub fn upgrade(arguments: &Arguments, upgrade: &Upgrade, context: &Context<'_>) -> Answer {
    let voice = Voice(context.language);
    let from = Place::find(arguments, context)?;
    let named = |file: &Path| Place::named(&context.folder.join(file), voice);
    if let Some(journal) = from.under_way()? {
        if let Some(file) = &upgrade.file
            && file.as_os_str() != journal.to.version.as_str()
            && named(file)?.folder.path() != journal.to.folder
        {
            return Err(voice.change(Trouble::UnderWay { version: journal.to.version }));
        }
        let (outcome, changing) = take_up(journal.clone(), Wish::Forward, upgrade.timeout, arguments, context)?;
        return tell(&journal, outcome, &changing);
    }
    if let Some(file) = from.memory.restoring.clone() {
        return Err(voice.problem(Problem::HalfRestored { file }));
    }
    let file = upgrade.file.as_ref().ok_or_else(|| voice.change(Trouble::NoFile))?;
    // The running version is asked for by its number as well.
    if from.manifest.version.as_str() == file.as_os_str() && !context.folder.join(file).exists() {
        return same(&from, &from, context);
    }
    let Obtained { path, verified } = obtain(file, &from, upgrade, voice, context)?;
    let target = path.display().to_string();
    // What was named by its number must be of that one.
    let number = file.to_str().filter(|_| !context.folder.join(file).exists()).and_then(|text| text.parse().ok());
    // What is unpacked is verified before.
    let packed = !path.is_dir();
    if packed {
        genuine(What::Target(&target), number, upgrade, voice, context)?;
    }
    let to = Place::named(&path, voice)?;
    if to.digest == from.digest {
        return same(&from, &to, context);
    }
    fits(&from, &to)?;
    if !packed && !verified {
        genuine(What::Target(&target), number, upgrade, voice, context)?;
    }
    intact(&to)?;
    let previous = from.memory.previous.as_ref().map(|previous| previous.backup.clone());
    let backup = backup_of(&from, &to);
    room(&from, previous.as_deref().unwrap_or(&backup))?;
    let plan = |changing: &Changing<'_, '_>| plan(changing, Kind::Upgrade, Data::Migrate, Some(backup.clone()));
    start(from, to, upgrade.timeout, arguments, context, plan)
}

pub fn rollback(arguments: &Arguments, rollback: &Rollback, context: &Context<'_>) -> Answer {
    let voice = Voice(context.language);
    let mut from = Place::find(arguments, context)?;
    if let Some(journal) = from.under_way()? {
        let (outcome, changing) = take_up(journal.clone(), Wish::Back, rollback.timeout, arguments, context)?;
        if !matches!(outcome, Outcome::Done) {
            return tell(&journal, outcome, &changing);
        }
        // It was too late for that; now it can be left like any other version.
        drop(changing);
        from = Place::find(arguments, context)?;
    }
    let Previous { folder, version, backup, moved } =
        from.memory.previous.clone().ok_or_else(|| voice.change(Trouble::NoPrevious))?;
    let gone = || voice.change(Trouble::PreviousGone { version: version.clone(), folder: folder.display().to_string() });
    if !folder.join(MANIFEST).is_file() {
        return Err(gone());
    }
    let to = Place::open(&folder, voice)?;
    if to.manifest.version.as_str() != version || to.manifest.name != from.manifest.name {
        return Err(gone());
    }
    let data = if moved { Data::Restore(backup.clone()) } else { Data::Migrate };
    if moved {
        Wanted::open(&to, &backup, &backup.display().to_string())?.check(&to, context)?;
        if !rollback.yes {
            match context.screen.ask(&Say::AskLoss { version: version.clone() }.text(context.language)) {
                None => {
                    let current = from.folder.path().display().to_string();
                    return Err(voice.change(Trouble::LosesData { version, current }));
                }
                Some(answer) if answer != version => return Err(voice.problem(Problem::Refused)),
                Some(_) => {}
            }
        }
    }
    let safety = backup_of(&from, &to);
    room(&from, &backup)?;
    let plan = |changing: &Changing<'_, '_>| {
        let saved = can_save(changing)?;
        if !saved && !moved {
            return Err(voice.problem(Problem::NotRunning));
        }
        if !saved {
            context.screen.note(&Say::NotSaved.text(context.language));
        }
        plan(changing, Kind::Rollback, data.clone(), saved.then(|| safety.clone()))
    };
    start(from, to, rollback.timeout, arguments, context, plan)
}

/// Takes up a change that was interrupted, for `up`: what was not finished is undone. Returns the bundle that runs then.
pub fn settle(place: &Place, timeout: u64, arguments: &Arguments, context: &Context<'_>) -> Result<Option<PathBuf>, Failure> {
    let Some(journal) = place.under_way()? else { return Ok(None) };
    let (outcome, changing) = take_up(journal.clone(), Wish::Back, timeout, arguments, context)?;
    match outcome {
        Outcome::Done => Ok(Some(journal.to.folder)),
        Outcome::Back => Ok(Some(journal.from.folder)),
        outcome => Err(failure(&journal, outcome, changing.from.voice)),
    }
}

/// Refuses to start a version on the data of another one.
pub fn is_current(place: &Place, machine: &Machine, context: &Context<'_>) -> Result<(), Failure> {
    let shown = |place: &Place| (place.manifest.version.to_string(), place.folder.path().display().to_string());
    if let Some(next) = place.successor()? {
        let (version, folder) = shown(&next);
        return Err(place.voice.change(Trouble::Replaced { version, folder }));
    }
    if stop::existing(place, machine)?.is_empty() {
        return Ok(());
    }
    if let Some(folder) = place.memory.went_to.as_ref().filter(|folder| !folder.join(MANIFEST).is_file()) {
        return Err(place.voice.change(Trouble::SuccessorGone { folder: folder.display().to_string() }));
    }
    let containers = machine.containers()?;
    let folders = containers.into_iter().filter_map(|container| container.folder).chain(place::last_started(&context.state));
    for folder in folders.filter(|folder| folder != place.folder.path()) {
        // A folder that is gone, or is no bundle any more, says nothing.
        let Ok(other) = Place::open(&folder, place.voice) else { continue };
        let same_demo = other.project == place.project && other.manifest.name == place.manifest.name;
        if same_demo && other.digest != place.digest && other.successor().is_ok_and(|next| next.is_none()) {
            let (version, folder) = shown(&other);
            return Err(place.voice.change(Trouble::OtherVersion { version, folder }));
        }
    }
    Ok(())
}

/// Answers where the version that is wanted is the one that is there.
fn same(from: &Place, to: &Place, context: &Context<'_>) -> Answer {
    let folder = from.folder.path().display().to_string();
    // A new version that was unpacked over the old one is not what runs.
    if from.folder.path() == to.folder.path() && from.memory.started.as_ref() != Some(&from.fingerprint()) {
        return Err(from.voice.change(Trouble::SameFolder { folder }));
    }
    let version = from.manifest.version.to_string();
    context.answer(
        || json!({"kind": Kind::Upgrade, "changed": false, "version": version, "folder": folder}),
        || vec![Say::Same { version: version.clone() }.text(context.language)],
    );
    Ok(())
}

/// Refuses another stack, an older version, and the folder of the one that runs.
fn fits(from: &Place, to: &Place) -> Result<(), Failure> {
    let text = ToString::to_string;
    if from.manifest.name != to.manifest.name {
        return Err(from.voice.change(Trouble::OtherStack { name: text(&to.manifest.name), own: text(&from.manifest.name) }));
    }
    if from.folder.path() == to.folder.path() {
        return Err(from.voice.change(Trouble::SameFolder { folder: from.folder.path().display().to_string() }));
    }
    let number = |manifest: &Manifest| manifest.version.as_str().parse::<Number>().ok();
    // Versions that are no numbers have no order.
    if let (Some(old), Some(new)) = (number(&from.manifest), number(&to.manifest))
        && new < old
    {
        return Err(from.voice.change(Trouble::Older { version: new.to_string(), own: old.to_string() }));
    }
    Ok(())
}

/// Verifies whose the new version is, as `parvis verify` does; nothing was touched yet.
///
/// A bad verdict ends it. Where nobody signed, or nobody is trusted here, a person may decide: that is said and asked, never assumed.
pub fn genuine(
    what: What<'_>,
    number: Option<Number>,
    upgrade: &Upgrade,
    voice: Voice,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let demand = Demand { number, ..demand(upgrade) };
    let good = verify::genuine(what, &demand, context).map(|good| {
        let (product, version) = (good.release.product.to_string(), good.release.version.to_string());
        let (name, key) = (good.signer.name, good.signer.key.to_string());
        Say::Verified { product, version, name, key }.text(context.language)
    });
    taken(good, upgrade, voice, context)
}

/// Verifies a security rebuild of the project likewise.
pub fn genuine_rebuild(folder: &Path, upgrade: &Upgrade, voice: Voice, context: &Context<'_>) -> Result<(), Failure> {
    let what = verify::genuine_rebuild(&folder.display().to_string(), &demand(upgrade), context);
    taken(what.map(|what| Say::VerifiedRebuild { what }.text(context.language)), upgrade, voice, context)
}

fn demand(upgrade: &Upgrade) -> Demand {
    Demand { product: None, number: None, older: upgrade.allow_older, older_option: "--allow-older" }
}

/// Says what was found; what nobody can judge is asked about.
fn taken(found: Result<String, Doubt>, upgrade: &Upgrade, voice: Voice, context: &Context<'_>) -> Result<(), Failure> {
    let (unsigned, failure) = match found {
        Ok(good) => {
            context.screen.note(&good);
            return Ok(());
        }
        Err(Doubt::Verdict(failure)) => return Err(failure),
        Err(Doubt::Unsigned(failure)) => (true, failure),
        Err(Doubt::NobodyTrusted(failure)) => (false, failure),
    };
    let cause = failure.message().to_owned();
    if upgrade.unverified {
        context.screen.note(&Say::NotVerified { cause }.text(context.language));
        return Ok(());
    }
    let yes = context.language.choose("yes", "oui");
    match context.screen.ask(&Say::AskUnverified { cause: cause.clone(), yes }.text(context.language)) {
        None => Err(voice.change(Trouble::Unverified { unsigned, cause })),
        Some(answer) if answer == yes => Ok(()),
        Some(_) => Err(voice.problem(Problem::Refused)),
    }
}

/// Checks whether the images are those that the bundle promises; every other file was held against `bundle.json` when it was opened.
fn intact(to: &Place) -> Result<(), Failure> {
    let expected: Option<&FileDigest> = to.manifest.files.get(ARCHIVE);
    let found = to.folder.digest(ARCHIVE).map_err(|error| to.voice.place(error))?;
    match (expected, found) {
        (Some(expected), Some(found)) if found != *expected => {
            let cause = format!("its digest is {found}, and `{MANIFEST}` promises {expected}");
            Err(to.voice.problem(Problem::Images { cause }))
        }
        _ => Ok(()),
    }
}

/// Returns where the data of the version that is left are saved.
fn backup_of(from: &Place, to: &Place) -> PathBuf {
    from.folder.path().join(format!("backup-before-{}.tar", to.manifest.version))
}

/// Checks whether a backup finds room; the last one says about how large it becomes.
fn room(from: &Place, last: &Path) -> Result<(), Failure> {
    let needed = place::size(last).map_or(BACKUP, |size| size + size / 4 + BACKUP);
    match place::free(from.folder.path()) {
        Some(free) if free < needed => {
            Err(from.voice.change(Trouble::Room { needed, free, folder: from.folder.path().display().to_string() }))
        }
        _ => Ok(()),
    }
}

/// Returns whether everything runs that a backup needs.
fn can_save(changing: &Changing<'_, '_>) -> Result<bool, Failure> {
    for item in &changing.from.manifest.backup {
        if let Backup::Command { service, .. } = item
            && !look::can_work(&changing.from, &changing.old, service.as_str())?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks for what the old version did not ask, where somebody is there to answer.
fn ask_new_values(changing: &mut Changing<'_, '_>) {
    let context = changing.context;
    let known = |name: &str| changing.from.manifest.parameters.iter().any(|parameter| parameter.variable.as_str() == name);
    let new: Vec<_> = changing.to.manifest.parameters.iter().filter(|new| !known(new.variable.as_str())).cloned().collect();
    for parameter in new {
        let variable = parameter.variable.as_str();
        let default = changing.to.value(variable).unwrap_or_default().to_owned();
        let question = context.language.choose(&parameter.question.en, &parameter.question.fr).clone();
        let question = Say::AskValue { question, default }.text(context.language);
        if let Some(answer) = context.screen.ask(&question).filter(|answer| !answer.is_empty()) {
            changing.to.settings.set(variable, &answer);
        }
    }
}

/// Writes down what is going to happen.
fn plan(changing: &Changing<'_, '_>, kind: Kind, data: Data, backup: Option<PathBuf>) -> Result<Journal, Failure> {
    let side = |place: &Place| Side {
        folder: place.folder.path().to_owned(),
        version: place.manifest.version.to_string(),
        digest: place.digest,
    };
    let volumes = changing.new.engine.volumes().map_err(|error| changing.to.voice.engine(error))?;
    Ok(Journal {
        format: change::FORMAT,
        kind,
        project: changing.from.project.clone(),
        from: side(&changing.from),
        to: side(&changing.to),
        backup,
        data,
        volumes: changing.to.volumes().into_iter().filter(|name| volumes.contains(name)).collect(),
        // A page that does not come before is no reason to stay with what is broken.
        page: page(&changing.from, &changing.old).ok().flatten(),
        notice: false,
        moved: false,
        step: Step::Settings,
        undoing: false,
    })
}

/// Begins a change.
fn start(
    from: Place,
    to: Place,
    timeout: u64,
    arguments: &Arguments,
    context: &Context<'_>,
    plan: impl FnOnce(&Changing<'_, '_>) -> Result<Journal, Failure>,
) -> Answer {
    let voice = from.voice;
    let _held = (from.lock()?, to.lock()?);
    from.nothing_under_way()?;
    let mut changing = both(from, to, timeout, arguments, context)?;
    if stop::existing(&changing.from, &changing.old)?.is_empty() {
        return Err(voice.problem(Problem::NoData));
    }
    changing.carry_settings()?;
    let containers = changing.old.containers()?;
    changing.new.ports(&changing.to, &containers)?;
    let mut journal = plan(&changing)?;
    if journal.kind == Kind::Upgrade {
        if !can_save(&changing)? {
            return Err(voice.problem(Problem::NotRunning));
        }
        ask_new_values(&mut changing);
    }
    let (old, new) = (journal.from.version.clone(), journal.to.version.clone());
    context.screen.note(&Say::Begins { from: old, to: new }.text(context.language));
    // From either folder, the journal is found.
    changing.to.memory.came_from = Some(changing.from.folder.path().to_owned());
    changing.to.remember()?;
    let outcome = change::begin(&mut journal, &mut changing);
    tell(&journal, outcome, &changing)
}

/// Takes up a change that was interrupted.
fn take_up<'a, 'b>(
    mut journal: Journal,
    wish: Wish,
    timeout: u64,
    arguments: &Arguments,
    context: &'a Context<'b>,
) -> Result<(Outcome<Failure>, Changing<'a, 'b>), Failure> {
    let voice = Voice(context.language);
    let open = |side: &Side| -> Result<Place, Failure> {
        let mut place = Place::open(&side.folder, voice)?;
        place.project.clone_from(&journal.project);
        if place.digest == side.digest {
            return Ok(place);
        }
        let folder = journal.from.folder.display().to_string();
        let cause = format!("`{}` is not the bundle that it was", side.folder.display());
        Err(voice.change(Trouble::Journal { folder, cause }))
    };
    let (from, to) = (open(&journal.from)?, open(&journal.to)?);
    let _held = (from.lock()?, to.lock()?);
    let mut changing = both(from, to, timeout, arguments, context)?;
    let say = match (journal.course(wish), wish) {
        (change::Course::Back, _) => Say::BackAgain { from: journal.from.version.clone() },
        _ => Say::Again { to: journal.to.version.clone() },
    };
    context.screen.note(&say.text(context.language));
    changing.sweep()?;
    let outcome = change::resume(&mut journal, wish, &mut changing);
    Ok((outcome, changing))
}

/// Finds the machine for both versions.
fn both<'a, 'b>(
    from: Place,
    mut to: Place,
    timeout: u64,
    arguments: &Arguments,
    context: &'a Context<'b>,
) -> Result<Changing<'a, 'b>, Failure> {
    to.project.clone_from(&from.project);
    let old = Machine::find(arguments, &from, context)?;
    let new = old.with(&to);
    Ok(Changing { from, to, old, new, context, timeout: Duration::from_secs(timeout), done: Vec::new() })
}

/// Says how a change ended.
fn tell(journal: &Journal, outcome: Outcome<Failure>, changing: &Changing<'_, '_>) -> Answer {
    let context = changing.context;
    let (done, place) = match outcome {
        Outcome::Done => (true, &changing.to),
        Outcome::Back => (false, &changing.from),
        outcome => return Err(failure(journal, outcome, changing.from.voice)),
    };
    let url = place.manifest.login.as_ref().map(|login| place.filled(&login.url));
    let previous = place.memory.previous.as_ref();
    let said = match (done, journal.kind) {
        (true, Kind::Upgrade) => Say::Upgraded { from: journal.from.version.clone(), to: journal.to.version.clone() },
        (true, Kind::Rollback) => Say::BackTo { to: journal.to.version.clone() },
        (false, _) => Say::BackTo { to: journal.from.version.clone() },
    };
    let saved = journal.backup.as_ref().filter(|path| path.is_file());
    context.answer(
        || {
            json!({
                "kind": journal.kind, "changed": done, "version": place.manifest.version, "folder": place.folder.path(), "url": url,
                "backup": saved, "previous": previous.map(|previous| json!({
                    "version": previous.version, "folder": previous.folder, "moved": previous.moved,
                })),
                "steps": Value::Array(changing.done.clone()),
            })
        },
        || {
            let mut lines = vec![said.text(context.language)];
            lines.extend(url.clone().map(|url| Line::Address { url }.text(context.language)));
            lines.extend(previous.map(|previous| Say::Rollback { moved: previous.moved }.text(context.language)));
            lines
        },
    );
    Ok(())
}

/// Turns an end that is no good one into what a person reads.
fn failure(journal: &Journal, outcome: Outcome<Failure>, voice: Voice) -> Failure {
    let (from, to) = (journal.from.version.clone(), journal.to.version.clone());
    let backup = journal.backup.as_ref().filter(|path| path.is_file()).map(|path| path.display().to_string());
    voice.change(match outcome {
        Outcome::Undone { error, .. } => Trouble::Undone { way: journal.kind, from, to, cause: whole(&error, voice) },
        Outcome::Unfinished { error } => Trouble::Unfinished { to, cause: whole(&error, voice) },
        Outcome::Stuck { first, error } => {
            let first = first.map(|first| format!(" ({})", whole(&first, voice))).unwrap_or_default();
            Trouble::Stuck { from, backup, cause: whole(&error, voice) + &first }
        }
        Outcome::Done | Outcome::Back => return Failure::bug("a good end was taken for a bad one"),
    })
}

/// Returns a failure's sentence with its causes.
fn whole(failure: &Failure, voice: Voice) -> String {
    let mut text = failure.to_string();
    let colon = voice.0.choose(":", " :");
    let mut source = std::error::Error::source(failure);
    while let Some(error) = source {
        text = format!("{text}{colon} {error}");
        source = error.source();
    }
    text
}
