//! What a release is made from, and whether it may be made: the commit, the number, the lock.

use crate::edge::git::{Git, GitError};
use crate::failure::Failure;
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::problem::shown;
use crate::model::release::Release;
use crate::model::releases::{FOLDER, Record};
use crate::plan::publish;
use crate::trust::keyring;
use crate::verbs::workplace::Workplace;

use super::kept::PACKAGES;
use super::publish::RELEASES;

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

/// Finds the candidate that becomes a release.
pub fn candidate(intent: &Intent, number: Number) -> Result<&Record, Failure> {
    if !number.is_candidate() || number.release() != intent.number {
        return Err(Failure::project(format!("`{number}` is not a candidate for `{}`", intent.number))
            .hint(format!("a candidate is called `{}-rc.1`", intent.number)));
    }
    let known = || intent.records.iter().filter(|record| record.version.is_candidate()).map(|record| record.version.to_string());
    let found = intent.records.iter().find(|record| record.version == number).ok_or_else(|| {
        let known = known().collect::<Vec<_>>().join(", ");
        let hint = if known.is_empty() { "there is no candidate yet".to_owned() } else { format!("the candidates are {known}") };
        Failure::project(format!("there is no candidate `{number}`")).hint(hint)
    })?;
    match &found.yanked {
        Some(why) => Err(Failure::no(format!("the candidate `{number}` was taken back: {}", shown(why)))),
        None => Ok(found),
    }
}

/// Refuses a release whose images are not those of its candidate.
pub fn same_images(candidate: &Record, release: &Release) -> Result<(), Failure> {
    let other = release.images.iter().find(|image| !candidate.images.contains(image));
    let other = other.map(|image| &image.name);
    let gone =
        candidate.images.iter().map(|image| &image.name).find(|name| !release.images.iter().any(|image| image.name == **name));
    match other.or(gone) {
        None => Ok(()),
        Some(name) => Err(Failure::no(format!("the image `{name}` is not the one that `{}` has", candidate.version))
            .hint("what was not tried is not released: make a new candidate from what there is now")),
    }
}

/// Refuses images whose names the registry needs for what goes with a release.
pub fn names(workplace: &Workplace) -> Result<(), Failure> {
    let reserved = [PACKAGES, RELEASES];
    match workplace.catalog.iter().find(|member| reserved.contains(&member.recipe.name.as_str())) {
        None => Ok(()),
        Some(member) => Err(Failure::project(format!("an image of a release cannot be called `{}`", member.recipe.name))
            .hint("in the registry, this name is that of what goes with the images: give the image another one")),
    }
}

/// Refuses a tree with something that is not in the commit, but for what an earlier run for this number wrote.
fn clean(git: &Git, number: Number) -> Result<(), Failure> {
    let own = format!("{FOLDER}/{number}.");
    let keyring = format!("{FOLDER}/{}", keyring::FILE);
    let is_own = |path: &String| path.starts_with(&own) || *path == keyring;
    let dirty: Vec<String> = git.dirty().map_err(from_git)?.into_iter().filter(|path| !is_own(path)).collect();
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
