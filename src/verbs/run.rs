//! `parvis run`: a command in a built image, in the sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::edge::sandbox::Stream;
use crate::execute::{Room, RoomRequest, how_it_ended};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Image to run
    image: String,
    /// User or number, `USER` or `USER:GROUP` (default: the image's)
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Folder to start in (default: the image's)
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Environment variable, `NAME=VALUE`
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Architecture of the image (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// Command and its arguments (default: the image's own)
    #[arg(last = true)]
    command: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, std::slice::from_ref(&arguments.image), arguments.platform.as_deref())?;
    let image = planned
        .names
        .iter()
        .find(|name| name.as_str() == arguments.image)
        .cloned()
        .ok_or_else(|| Failure::bug("the image asked for is not among those selected"))?;
    let site = planned.site(context);
    let mut env = BTreeMap::new();
    for pair in &arguments.env {
        let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Failure::project(format!("`--env {pair}` is not `NAME=VALUE`")).hint("for example `--env LANG=C.UTF-8`")
        })?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let mut room = Room::enter(&site, &planned.plan, &image)?;
    let command = if arguments.command.is_empty() { room.own_command() } else { arguments.command.clone() };
    if command.is_empty() {
        return Err(Failure::project(format!("the image `{image}` has no command of its own"))
            .hint(format!("name one: `parvis run {image} -- COMMAND`")));
    }
    let request = RoomRequest {
        command,
        user: arguments.user.clone(),
        workdir: arguments.workdir.clone(),
        env,
        stdin: Vec::new(),
        // A person looks on, and has Ctrl-C.
        timeout: Some(Duration::MAX),
        output_limit: Some(u64::MAX),
    };
    let outcome = room.run(&request, &mut |stream, bytes| {
        if stream == Stream::Error {
            context.screen.note_raw(bytes);
        } else {
            context.screen.raw(bytes);
        }
    })?;
    room.leave()?;
    if outcome.is_success() {
        return Ok(());
    }
    Err(Failure::no(format!("`{}` in the image `{image}` {}", request.command.join(" "), how_it_ended(&outcome)))
        .hint("it ran without network and without anything of this machine"))
}
