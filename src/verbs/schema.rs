//! `parvis schema`: the JSON Schemas of the files that people write, and of answers that programs read.

use super::{Answer, Context};
use crate::model::project::Project;
use crate::model::recipe::Recipe;
use crate::model::stack::Stack;
use crate::trust::rebuilt::Rebuilt;

/// Print the JSON Schema of a file that you write, for your editor, or of an answer that programs read.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which file: `project` is parvis.yaml, `recipe` is a file of recipes/, `stack` is a file of compose/;
    /// `rebuilt` is what `parvis verify --rebuild --json` says under `rebuild`.
    pub file: File,
}

/// A kind of file or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum File {
    /// The file parvis.yaml.
    Project,
    /// A file of the folder recipes/.
    Recipe,
    /// A file of the folder compose/.
    Stack,
    /// What `parvis verify --rebuild --json` says under `rebuild`.
    Rebuilt,
}

/// Prints the schema, as JSON in every case.
pub fn run(options: &Options, context: &Context<'_>) -> Answer {
    let schema = match options.file {
        File::Project => Project::schema(),
        File::Recipe => Recipe::schema(),
        File::Stack => Stack::schema(),
        File::Rebuilt => Rebuilt::schema(),
    };
    context.screen.document(&schema);
    Ok(())
}
