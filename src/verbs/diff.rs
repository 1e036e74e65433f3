//! `parvis diff`: what differs between two images, built here or handed over by somebody.

use serde_json::json;

use super::image::{Image, Search};
use super::registry::Reach;
use super::{Answer, Context};
use crate::failure::Failure;
use crate::image::diff;

#[derive(Debug, clap::Args)]
#[command(after_help = "Each image is one of the project (as it is built), a layout `FOLDER` or `FOLDER:NAME`, \
    an archive `FILE` or `FILE:NAME`, or one in a registry `HOST/NAME:TAG` or `HOST/NAME@sha256:…`.\n\
    Exit code: 0 where nothing differs, 1 where something does, 2 where an image is unknown, not built or refused, \
    3 where reading fails.")]
pub struct Arguments {
    /// The image as it was
    #[arg(value_name = "BEFORE")]
    before: String,
    /// The image as it is
    #[arg(value_name = "AFTER")]
    after: String,
    /// Name every file, also where there are many and where their package is another version
    #[arg(long)]
    files: bool,
    /// Architecture of the images (default: this machine's, where the project has it; an archive's only one)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let Arguments { before, after, files, platform, reach } = arguments;
    let search = Search { context, platform: platform.as_deref(), reach };
    let (old, _) = Image::find(search, before, &|_| Ok(()))?;
    let (new, _) = Image::find(search, after, &|_| Ok(()))?;
    let difference = diff::diff(old.side(), new.side()).map_err(|error| {
        Failure::project(format!("cannot compare `{before}` with `{after}`"))
            .because(error)
            .hint("one of them has a damaged package database: make it again")
    })?;
    let text = difference.to_text(*files);
    let hidden = !files && text != difference.to_text(true);
    context.answer(
        || {
            let mut document = difference.to_json();
            document["before"] = json!(before);
            document["after"] = json!(after);
            document
        },
        || text.lines().map(str::to_owned).collect(),
    );
    if difference.is_empty() {
        return Ok(());
    }
    let hint = (hidden && !context.json).then_some("`--files` names every file");
    Err(Failure::no(format!("`{before}` and `{after}` differ")).maybe_hint(hint))
}
