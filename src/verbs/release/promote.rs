//! `parvis promote`: a candidate becomes the release, with the very images that were tried.

use super::{Arguments as Release, carry_out};
use crate::model::number::Number;
use crate::verbs::{Answer, Context};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// Candidate that was tried: `1.4.0-rc.2`
    candidate: Number,
    #[command(flatten)]
    release: Release,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    carry_out(&arguments.release, Some(arguments.candidate), context)
}
