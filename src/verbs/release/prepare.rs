//! What a release is made from, and whether it may be made: the commit, the number, the lock.

use crate::edge::git::{Git, GitError};
use crate::failure::Failure;
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::releases::{FOLDER, Record};
use crate::plan::publish;
use crate::verbs::workplace::Workplace;

/// Paths that are named when a tree is not clean; what else differs is counted.
const MOST: usize = 5;

/// Everything about a release that is decided before anything is built.
pub struct Intent {
    pub product: ImageName,
    pub number: Number,
    pub sequence: u64,
    pub issued: Moment,
    pub valid_until: Moment,
    pub commit: String,
    /// The releases that were made before, oldest number first.
    pub records: Vec<Record>,
}

impl Intent {
    /// Returns the newest usable release before this one.
    pub fn previous(&self) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.is_usable() && record.version < self.number)
    }

    /// Returns the beginning of the names of downloads: `civiparoisse-1.4.0`.
    pub fn stem(&self) -> String {
        format!("{}-{}", self.product, self.number)
    }
}

/// Decides what the release will be.
///
/// # Errors
/// Refuses what is not committed, a number that is not greater, and a lock that does not match.
pub fn intent(workplace: &Workplace, number: Number, maintenance: bool) -> Result<Intent, Failure> {
    let records = workplace.folder.records().map_err(Failure::from)?;
    publish::next(number, &records, maintenance).map_err(|error| {
        let hint = error.hint();
        Failure::no(error.to_string()).hint(hint)
    })?;
    let git = Git::open(workplace.folder.root()).map_err(from_git)?;
    let commit = git.head().map_err(from_git)?;
    clean(&git, number)?;
    workplace.lock()?;
    let issued = Moment(commit.date);
    Ok(Intent {
        product: workplace.project.name.clone(),
        number,
        sequence: records.iter().map(|record| record.sequence).max().unwrap_or(0) + 1,
        issued,
        valid_until: Moment(commit.date.saturating_add(i64::from(workplace.project.releases.valid_days) * 86_400)),
        commit: commit.id,
        records,
    })
}

/// Refuses a tree with something that is not in the commit, but for what an earlier run for this number wrote.
fn clean(git: &Git, number: Number) -> Result<(), Failure> {
    let own = format!("{FOLDER}/{number}.");
    let dirty: Vec<String> = git.dirty().map_err(from_git)?.into_iter().filter(|path| !path.starts_with(&own)).collect();
    if dirty.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = dirty.iter().take(MOST).map(|path| format!("`{}`", path.escape_debug())).collect();
    let more = dirty.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Failure::no(format!("what would be released is not committed: {}{more}", named.join(", ")))
        .hint("commit it, or put it away: a release names the commit that it was made from"))
}

/// Says what git could not do.
pub fn from_git(error: GitError) -> Failure {
    let hint = error.hint();
    let because = std::error::Error::source(&error).map(ToString::to_string);
    let failure = match error {
        GitError::NoRepository { .. } | GitError::NoCommit { .. } => Failure::project(error.to_string()),
        _ => Failure::world(error.to_string()),
    };
    failure.maybe_hint(hint).maybe_because(because)
}
