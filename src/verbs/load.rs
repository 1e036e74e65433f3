//! `parvis load`: built images handed to docker or podman.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::save::{Built, Which};
use super::workplace::open_store;
use super::{Answer, Context};
use crate::edge::engine::{Engine, EngineError};
use crate::failure::Failure;
use crate::screen::{Task, Unit};

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
    match hand_over(&engine, &*task, |out| images.write(&store, out))? {
        HandOver::Loaded => {}
        HandOver::Engine(error) => return Err(from_engine(error)),
        HandOver::Source(error) => return Err(Failure::world("cannot write the archive").because(error)),
    }
    drop(task);
    let names = images.names();
    context.answer(
        || json!({"engine": engine.name(), "version": engine.version, "images": names}),
        || names.iter().map(|name| format!("{} has {name}", engine.name())).collect(),
    );
    Ok(())
}

/// How the handing over of an archive ended.
#[derive(Debug)]
pub enum HandOver {
    Loaded,
    /// The engine did not take it.
    Engine(EngineError),
    /// It could not be written, or was not what it promised to be.
    Source(io::Error),
}

/// Hands an archive to an engine while it is written.
pub fn hand_over(
    engine: &Engine,
    task: &dyn Task,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
) -> Result<HandOver, Failure> {
    let (reader, mut writer) = io::pipe().map_err(|error| Failure::world("cannot make a pipe").because(error))?;
    let whole = AtomicBool::new(false);
    let (loaded, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let result = write(&mut writer);
            whole.store(result.is_ok(), Ordering::Release);
            drop(writer);
            result
        });
        let mut reader = Counted { reader, task, whole: &whole };
        let loaded = engine.load(&mut reader);
        // Whoever still writes gets a broken pipe instead of waiting for ever.
        drop(reader);
        (loaded, writing.join())
    });
    let written = written.map_err(|_| Failure::bug("the thread that writes the archive panicked"))?;
    Ok(match (loaded, written) {
        // An engine that stops listening breaks the pipe: its own words tell more.
        (Err(error), Err(source)) if is_broken_pipe(&source) => HandOver::Engine(error),
        // What stands behind the last image need not be listened to.
        (Ok(_), Err(source)) if is_broken_pipe(&source) => HandOver::Loaded,
        (_, Err(source)) => HandOver::Source(source),
        (Err(error), Ok(())) => HandOver::Engine(error),
        (Ok(_), Ok(())) => HandOver::Loaded,
    })
}

fn is_broken_pipe(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        // The error inside an `io::Error` is not its source, but stands in its place.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

/// The reading end of the pipe. Its end is an error unless all was written: half an archive must not be loaded.
struct Counted<'a> {
    reader: io::PipeReader,
    task: &'a dyn Task,
    whole: &'a AtomicBool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.task.advance(count as u64);
        if count == 0 && !buffer.is_empty() && !self.whole.load(Ordering::Acquire) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// Turns what an engine says into what a person reads.
pub fn from_engine(error: EngineError) -> Failure {
    let hint = error.hint();
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}
