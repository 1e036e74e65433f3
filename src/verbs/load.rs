//! `parvis load`: built images handed to docker or podman.

use std::io;

use serde_json::json;

use super::save::{Built, Which};
use super::workplace::open_store;
use super::{Answer, Context};
use crate::edge::engine::{Engine, EngineError};
use crate::failure::Failure;
use crate::screen::Unit;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to load
    #[arg(required = true)]
    images: Vec<String>,
    /// Engine to load them into: `docker` or `podman` (default: the first that answers)
    #[arg(long, value_name = "PROGRAM")]
    engine: Option<String>,
    #[command(flatten)]
    which: Which,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let images = Built::find(context, &store, &arguments.images, &arguments.which)?;
    let engine = Engine::find(arguments.engine.as_deref()).map_err(from_engine)?;
    let task = context.screen.work("load", None, Unit::Items);
    task.detail(&format!("{} {}", engine.name(), engine.version));
    let (mut reader, mut writer) = io::pipe().map_err(|error| Failure::world("cannot make a pipe").because(error))?;
    let (loaded, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let result = images.write(&store, &mut writer);
            drop(writer);
            result
        });
        let loaded = engine.load(&mut reader);
        // Whoever still writes gets a broken pipe instead of waiting for ever.
        drop(reader);
        (loaded, writing.join())
    });
    drop(task);
    loaded.map_err(from_engine)?;
    written
        .map_err(|_| Failure::bug("the thread that writes the archive panicked"))?
        .map_err(|error| Failure::world("cannot write the archive").because(error))?;
    let names = images.names();
    context.answer(
        || json!({"engine": engine.name(), "version": engine.version, "images": names}),
        || names.iter().map(|name| format!("{} has {name}", engine.name())).collect(),
    );
    Ok(())
}

/// Turns what an engine says into what a person reads.
pub fn from_engine(error: EngineError) -> Failure {
    let hint = error.hint();
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}
