//! The subcommands: one file each, its options beside its function.

pub mod affected;
pub mod archive;
pub mod attest;
pub mod build;
pub mod bundle;
pub mod cache;
mod changelogs;
pub mod check;
mod composer;
pub mod delta;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod gate;
mod held;
mod image;
pub mod inspect;
pub mod key;
mod lists;
pub mod load;
pub mod lock;
pub mod outdated;
mod places;
pub mod plan;
pub mod publish_source;
mod published;
pub mod pull;
pub mod push;
pub mod rebuild;
pub mod registry;
pub mod release;
pub mod run;
pub mod save;
pub mod sbom;
pub mod schema;
pub mod sign;
pub mod store;
pub mod test;
pub mod trust;
mod twice;
pub mod verify;
pub mod why;
pub mod workplace;

use std::path::PathBuf;

use serde_json::Value;

use crate::edge::fetch::FetchOptions;
use crate::edge::keys::Passphrase;
use crate::failure::{Failure, Labels};
use crate::model::language::Language;
use crate::screen::Screen;

/// What the command line and the environment said, read once.
#[derive(Clone)]
pub struct Context<'a> {
    /// The folder in which, or above which, `parvis.yaml` is looked for.
    pub folder: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// The folder in which parvis remembers things between two commands; what is lost there is asked for again.
    pub state: PathBuf,
    /// The folder of what the user decided: keys, and which others are trusted.
    pub config: PathBuf,
    /// The passphrase of the key that signs, from the environment.
    pub passphrase: Option<Passphrase>,
    /// The passphrase of the root key, likewise.
    pub root_passphrase: Option<Passphrase>,
    /// The language of what volunteers read.
    pub language: Language,
    /// Mirrors given by option or environment, as `URL` or `ARCHIVE=URL`.
    pub mirrors: Vec<String>,
    /// The profile whose variables recipes see; the project's default where absent.
    pub profile: Option<String>,
    /// Results are printed as JSON.
    pub json: bool,
    /// The machine's architecture by Debian's name.
    pub machine: &'static str,
    /// How many threads do the heavy work.
    pub threads: usize,
    /// Seconds since 1970 at the start of the program.
    pub now: i64,
    /// How the network is reached.
    pub fetch: FetchOptions,
    /// Files with users and passwords for registries, the most wanted first.
    pub credentials: Vec<PathBuf>,
    /// Folders with certificates for registries.
    pub certificates: Vec<PathBuf>,
    /// Names and passwords for Composer's repositories, as Composer reads them. Never printed.
    pub composer_auth: Option<String>,
    /// Where people read.
    pub screen: &'a dyn Screen,
}

impl Context<'_> {
    /// Prints a result: as JSON where asked, else as the lines that `people` makes.
    pub fn answer(&self, json: impl FnOnce() -> Value, people: impl FnOnce() -> Vec<String>) {
        if self.json {
            self.screen.document(&json());
        } else {
            for line in people() {
                self.screen.say(&line);
            }
        }
    }
}

/// What every verb returns.
pub type Answer = Result<(), Failure>;

/// Gives a failure the words of a language around it.
pub fn in_language(failure: Failure, language: Language) -> Failure {
    if language == Language::French { failure.labelled(&Labels::FRENCH) } else { failure }
}
