//! `parvis schema`: the JSON Schemas of the files that people write, and of answers that programs read.

use serde_json::Value;

use super::{Answer, Context};
use crate::failure::Failure;
use crate::model::project::Project;
use crate::model::recipe::Recipe;
use crate::model::stack::Stack;
use crate::plan::matrix::Matrix;
use crate::trust::rebuilt::Rebuilt;

/// Print the JSON Schema of a file that you write, for your editor, or of an answer that programs read.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which file: `project` is parvis.yaml, `recipe` is a file of recipes/, `stack` is a file of compose/;
    /// `rebuilt` is what `parvis verify --rebuild --json` says under `rebuild`, `matrix` what `parvis plan --matrix` says,
    /// others are what the verb of that name says with `--json`.
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
    /// What `parvis verify --json` says.
    Verify,
    /// What `parvis inspect --json` says.
    Inspect,
    /// What `parvis outdated --json` says.
    Outdated,
    /// What `parvis affected --json` says.
    Affected,
    /// What `parvis rebuild --json` says, and the file `rebuild.json`.
    Rebuild,
    /// What `parvis plan --matrix` says.
    Matrix,
    /// What `parvis build --json` says.
    Build,
    /// What `parvis plan --json` says.
    Plan,
    /// What `parvis lock --json` says.
    Lock,
    /// What `parvis gate --json` says.
    Gate,
    /// What `parvis push --json` says.
    Push,
    /// What `parvis pull --json` says.
    Pull,
    /// What `parvis sign --json` says.
    Sign,
    /// What `parvis attest --json` says.
    Attest,
    /// What `parvis key --json` says.
    Key,
    /// What `parvis trust --json` says.
    Trust,
    /// What `parvis release --json` says.
    Release,
    /// What `parvis promote --json` says.
    Promote,
    /// What `parvis yank --json` says.
    Yank,
    /// What `parvis delta --json` says.
    Delta,
    /// What `parvis publish-source --json` says.
    PublishSource,
    /// What `parvis demo --json` says.
    Demo,
}

/// Prints the schema, as JSON in every case.
pub fn run(options: &Options, context: &Context<'_>) -> Answer {
    let schema = match options.file {
        File::Project => Project::schema(),
        File::Recipe => Recipe::schema(),
        File::Stack => Stack::schema(),
        File::Rebuilt => Rebuilt::schema(),
        File::Verify => answer(include_str!("schema/verify.json"))?,
        File::Inspect => answer(include_str!("schema/inspect.json"))?,
        File::Outdated => answer(include_str!("schema/outdated.json"))?,
        File::Affected => answer(include_str!("schema/affected.json"))?,
        File::Rebuild => answer(include_str!("schema/rebuild.json"))?,
        File::Matrix => Matrix::schema(),
        File::Build => answer(include_str!("schema/build.json"))?,
        File::Plan => answer(include_str!("schema/plan.json"))?,
        File::Lock => answer(include_str!("schema/lock.json"))?,
        File::Gate => answer(include_str!("schema/gate.json"))?,
        File::Push => answer(include_str!("schema/push.json"))?,
        File::Pull => answer(include_str!("schema/pull.json"))?,
        File::Sign => answer(include_str!("schema/sign.json"))?,
        File::Attest => answer(include_str!("schema/attest.json"))?,
        File::Key => answer(include_str!("schema/key.json"))?,
        File::Trust => answer(include_str!("schema/trust.json"))?,
        File::Yank => answer(include_str!("schema/yank.json"))?,
        File::Delta => answer(include_str!("schema/delta.json"))?,
        File::PublishSource => answer(include_str!("schema/publish-source.json"))?,
        File::Demo => answer(include_str!("schema/demo.json"))?,
        // A candidate that is promoted is released.
        File::Release | File::Promote => answer(include_str!("schema/release.json"))?,
    };
    context.screen.document(&schema);
    Ok(())
}

/// Reads the schema of an answer. Answers are put together where they are given, so their schemas are written; tests hold each
/// against what parvis says.
fn answer(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::bug("a schema cannot be read").because(error))
}
