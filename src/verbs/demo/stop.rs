//! `parvis demo stop`, `down` and `reset`: less and less is left.

use serde_json::json;

use super::Arguments;
use super::machine::Machine;
use super::place::{Memory, Place};
use super::words::{Line, Problem};
use crate::edge::place::BundleFolder;
use crate::failure::Failure;
use crate::verbs::{Answer, Context};

/// Stops the containers.
pub fn stop(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    let _held = place.lock()?;
    let machine = Machine::find(arguments, &place, context)?;
    machine.deployment.answer("compose stop", &["stop"]).map_err(|error| place.voice.engine(error))?;
    context.answer(|| json!({"stopped": place.project}), || vec![Line::Stopped.text(context.language)]);
    Ok(())
}

/// Removes containers and networks.
pub fn down(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    let _held = place.lock()?;
    let machine = Machine::find(arguments, &place, context)?;
    take_down(&place, &machine)?;
    context.answer(|| json!({"removed": place.project}), || vec![Line::Down.text(context.language)]);
    Ok(())
}

/// Removes everything.
pub fn reset(arguments: &Arguments, yes: bool, context: &Context<'_>) -> Answer {
    let mut place = Place::find(arguments, context)?;
    let _held = place.lock()?;
    let machine = Machine::find(arguments, &place, context)?;
    let mut volumes = existing(&place, &machine)?;
    let under_way = place.under_way()?;
    // In the middle of a change of version, there may be volumes that only the other version has.
    let other = under_way.iter().flat_map(|journal| [&journal.from.folder, &journal.to.folder]);
    for other in other.filter(|folder| *folder != place.folder.path()).filter_map(|folder| Place::open(folder, place.voice).ok())
    {
        let more = existing(&other, &machine)?;
        volumes.extend(more.into_iter().filter(|name| !place.volumes().contains(name)));
    }
    if !yes {
        let word = place.project.clone();
        let question = Line::AskReset { volumes: volumes.join(", "), word: word.clone() }.text(context.language);
        match context.screen.ask(&question) {
            None => return Err(place.voice.problem(Problem::Confirm)),
            Some(answer) if answer != word => return Err(place.voice.problem(Problem::Refused)),
            Some(_) => {}
        }
    }
    take_down(&place, &machine)?;
    machine.engine.remove_volumes(&volumes).map_err(|error| place.voice.engine(error))?;
    if let Some(journal) = under_way {
        let removed = BundleFolder::open(&journal.from.folder).and_then(|folder| folder.remove_journal());
        removed.map_err(|error| place.voice.place(error))?;
    }
    place.memory = Memory::default();
    place.remember()?;
    context.answer(|| json!({"removed": place.project, "volumes": volumes}), || vec![Line::Reset.text(context.language)]);
    Ok(())
}

/// Returns the project's volumes that exist.
pub fn existing(place: &Place, machine: &Machine) -> Result<Vec<String>, Failure> {
    let all = machine.engine.volumes().map_err(|error| place.voice.engine(error))?;
    Ok(place.volumes().into_iter().filter(|name| all.contains(name)).collect())
}

/// Removes containers and networks; the data stay.
pub fn take_down(place: &Place, machine: &Machine) -> Result<(), Failure> {
    let failed = |error| place.voice.engine(error);
    // What `run` made is not always compose's to remove, and would hold the networks.
    let containers = machine.containers()?;
    let single: Vec<&str> =
        containers.iter().filter(|container| container.one_off).map(|container| container.id.as_str()).collect();
    machine.engine.remove_containers(&single).map_err(failed)?;
    machine.deployment.answer("compose down", &["down", "--remove-orphans"]).map_err(failed)?;
    Ok(())
}
