//! `parvis yank`: says of a release that nobody should use it any more. Its own tags stay; those that float go back.

use std::path::Path;

use serde_json::json;

use super::publish::Registry;
use crate::failure::Failure;
use crate::model::number::Number;
use crate::model::releases::FOLDER;
use crate::verbs::registry::Reach;
use crate::verbs::workplace::Workplace;
use crate::verbs::{Answer, Context};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Number of the release
    number: Number,
    /// Why, in a sentence that those who use it will read
    #[arg(long, value_name = "SENTENCE")]
    why: String,
    /// Registry, perhaps with a path, that the release went to (default: as it was recorded)
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    to: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let records = workplace.folder.records().map_err(Failure::from)?;
    let number = arguments.number;
    let path = format!("{FOLDER}/{number}.yaml");
    let mut record = records.iter().find(|record| record.version == number).cloned().ok_or_else(|| {
        Failure::project(format!("there is no release `{number}`")).hint(format!("the releases are the files of `{FOLDER}/`"))
    })?;
    let why = arguments.why.trim();
    if why.is_empty() {
        return Err(Failure::project("nobody would know why").hint("give a sentence with `--why`"));
    }
    // Written first: tags that did not move yet are moved by a second run.
    record.yanked = Some(why.to_owned());
    workplace.folder.replace(&path, record.render().as_bytes()).map_err(Failure::from)?;
    let prefix = arguments.to.as_deref().or(record.registry.as_deref());
    let moves = match prefix {
        None => Vec::new(),
        Some(prefix) => {
            let registry = Registry::new(context, prefix, &arguments.reach);
            registry.take_back(&record, &records, &workplace.project.releases.tags)?
        }
    };
    context.answer(
        || {
            let moves = moves.iter().map(|step| json!({"image": step.image, "tag": step.tag, "from": step.from, "to": step.to}));
            json!({"format": 1, "yanked": number, "why": why, "record": Path::new(&path), "tags": moves.collect::<Vec<_>>()})
        },
        || {
            let mut lines: Vec<String> =
                moves.iter().map(|step| format!("{}:{} goes back to {}", step.image, step.tag, step.to)).collect();
            lines.push(format!("{number} is taken back: commit {path}, so that everybody reads why"));
            lines
        },
    );
    Ok(())
}
