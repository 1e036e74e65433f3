//! The subcommands: one file each, its options beside its function.

pub mod check;
pub mod schema;

use std::path::PathBuf;

use serde_json::Value;

use crate::failure::Failure;
use crate::screen::Screen;

/// What the command line and the environment said, read once.
pub struct Context<'a> {
    /// The folder in which, or above which, `parvis.yaml` is looked for.
    pub folder: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// Mirrors given by option or environment, as `URL` or `ARCHIVE=URL`.
    pub mirrors: Vec<String>,
    /// The profile whose variables recipes see; the project's default where absent.
    pub profile: Option<String>,
    /// Nothing may be fetched.
    pub offline: bool,
    /// Results are printed as JSON.
    pub json: bool,
    /// How many threads do the heavy work.
    pub threads: usize,
    /// Seconds since 1970 at the start of the program.
    pub now: i64,
    /// What the environment says of proxies and certificates for fetching.
    pub proxy: Proxies,
    /// Where people read.
    pub screen: &'a dyn Screen,
}

/// How the network is reached.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    pub none: Option<String>,
    /// A PEM file of further certificate authorities.
    pub certificates: Option<PathBuf>,
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
