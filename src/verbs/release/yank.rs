//! `parvis yank`: says of a release that nobody should use it any more. Its own tags stay; those that float go back.
//!
//! What is said is signed. It stands beside the record, beside the downloads, and hangs on each image in the registry, where `parvis
//! verify` finds it.

use std::path::Path;

use serde_json::json;

use super::downloads;
use super::publish::Registry;
use crate::edge::output;
use crate::failure::Failure;
use crate::model::moment::Moment;
use crate::model::number::Number;
use crate::model::releases::{FOLDER, Record};
use crate::trust::bundle::{Bundle, LIMIT};
use crate::trust::key::SigningKey;
use crate::trust::statement::Subject;
use crate::trust::yank::{FILE, Yank};
use crate::verbs::key::{RELEASE, Unlock, open_key};
use crate::verbs::registry::Reach;
use crate::verbs::save::from_output;
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
    /// The key that signs: the name of one of your own, or a file in cosign's form
    #[arg(long, value_name = "NAME|FILE", default_value = RELEASE)]
    key: String,
    #[command(flatten)]
    unlock: Unlock,
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
    let key = open_key(&arguments.key, &arguments.unlock, context)?;
    // Written first: what is not public yet is made so by a second run, with the same bytes.
    let file = format!("{FOLDER}/{number}.{FILE}");
    let (yank, bytes) = signed(&workplace, &record, why, &file, &key, context)?;
    record.yanked = Some(why.to_owned());
    workplace.folder.replace(&file, &bytes).map_err(Failure::from)?;
    workplace.folder.replace(&path, record.render().as_bytes()).map_err(Failure::from)?;
    let downloads = downloads::usual_folder(&workplace, number);
    if downloads.is_dir() {
        output::write_whole(&downloads.join(FILE), |out| out.write_all(&bytes)).map_err(from_output)?;
    }
    let prefix = arguments.to.as_deref().or(record.registry.as_deref());
    let moves = match prefix {
        None => Vec::new(),
        Some(prefix) => {
            let registry = Registry::new(context, prefix, &arguments.reach);
            registry.tell(&record, &yank, subjects(&record), &key)?;
            registry.take_back(&record, &records, &workplace.project.releases.tags)?
        }
    };
    context.answer(
        || {
            let moves = moves.iter().map(|step| json!({"image": step.image, "tag": step.tag, "from": step.from, "to": step.to}));
            json!({"format": 1, "yanked": number, "why": why, "record": Path::new(&path), "statement": Path::new(&file),
                "tags": moves.collect::<Vec<_>>()})
        },
        || {
            let mut lines: Vec<String> =
                moves.iter().map(|step| format!("{}:{} goes back to {}", step.image, step.tag, step.to)).collect();
            lines.push(format!("{number} is taken back: commit {path} and {file}, so that everybody reads why"));
            lines.push(format!("put {file} beside the downloads, as `{FILE}`: `parvis verify` reads it there"));
            lines
        },
    );
    Ok(())
}

/// Returns the signed statement: that of an earlier run, where it says the same and is by the same key.
fn signed(
    workplace: &Workplace,
    record: &Record,
    why: &str,
    file: &str,
    key: &SigningKey,
    context: &Context<'_>,
) -> Result<(Yank, Vec<u8>), Failure> {
    if let Some(bytes) = workplace.folder.read(file, LIMIT as u64).map_err(Failure::from)?
        && let Ok(bundle) = Bundle::parse(&bytes)
        && bundle.is_signed_by(key.public())
        && let Ok(yank) = Yank::parse(&bundle)
        && (&yank.product, yank.version, yank.why.as_str()) == (&record.product, record.version, why)
    {
        return Ok((yank, bytes));
    }
    let failed = |error: &dyn std::error::Error| Failure::bug("the statement cannot be written").because(error.to_string());
    let yank = Yank::new(record.product.clone(), record.version, Moment(context.now), why.to_owned());
    let bundle = yank.sign(subjects(record), key).map_err(|error| failed(&error))?;
    if Yank::parse(&bundle).is_err() {
        return Err(Failure::project("the reason is too long").hint("give one sentence with `--why`"));
    }
    let bytes = bundle.to_bytes().map_err(|error| failed(&error))?;
    Ok((yank, bytes))
}

/// Returns the images that a release is, by their repositories.
fn subjects(record: &Record) -> Vec<Subject> {
    let name = |image: &crate::model::name::ImageName| {
        record.registry.as_ref().map_or_else(|| image.to_string(), |registry| format!("{registry}/{image}"))
    };
    record.images.iter().map(|image| Subject { name: name(&image.name), digest: image.digest }).collect()
}
