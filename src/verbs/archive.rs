//! What verbs that need the Debian archive share: where it is, how it is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Context;
use super::workplace::Workplace;
use crate::edge::fetch::FetchError;
use crate::edge::sources::{self, Mirror};
use crate::failure::Failure;

/// Where the host's apt keeps its sources.
const APT: &str = "/etc/apt";

/// Where each archive is to be had.
#[derive(Debug)]
pub struct Mirrors(BTreeMap<String, Mirror>);

impl Mirrors {
    /// Finds the mirrors of all archives of the project.
    pub fn find(context: &Context<'_>, workplace: &Workplace) -> Result<Self, Failure> {
        let archives: BTreeSet<&str> = workplace.project.suites.iter().map(|suite| suite.archive.as_str()).collect();
        let archives: Vec<&str> = archives.into_iter().collect();
        let given = (!context.mirrors.is_empty()).then(|| context.mirrors.join(" "));
        let found = sources::mirrors(&archives, given.as_deref(), Path::new(APT), &workplace.project.mirrors);
        found.map(Self).map_err(|error| {
            let hint = error.hint();
            Failure::project(error.to_string()).hint(hint)
        })
    }

    /// Says in words where each archive comes from; no user or password of an address is shown.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.0.iter().map(|(archive, mirror)| format!("{archive} from {}", mirror.origin)).collect()
    }

    /// Returns the addresses of a file of an archive, most wanted first.
    #[must_use]
    pub fn urls(&self, archive: &str, file: &str) -> Vec<String> {
        // A plus in a file name is a blank to some servers.
        let file = file.replace('%', "%25").replace('+', "%2B").replace('~', "%7E");
        self.0.get(archive).into_iter().flat_map(|mirror| &mirror.urls).map(|url| format!("{url}/{file}")).collect()
    }
}

/// Turns what fetching says into what a person reads.
pub fn from_fetch(error: FetchError) -> Failure {
    let hint = error.hint();
    Failure::world(error.to_string()).maybe_hint(hint).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}
