//! `parvis lock`: decides every package of every image, and writes the decision down.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::composer::Wish;
use super::lists::{self, Lists};
use super::workplace::{LOCK_FILE, Workplace, open_store};
use super::{Answer, Context, in_language};
use crate::failure::Failure;
use crate::model::language::both;
use crate::model::lock::Lock;
use crate::model::name::{ComposerName, PackageName, Suite};
use crate::plan::dating::keep_dates;
use crate::plan::locking::{ALLOW_EXPIRED, ALLOW_OLDER, Difference, Inputs, LockingError, Mode, differences, make};

/// Options of `parvis lock`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Move these packages, and those of the same source, to the newest version; all of Debian's where none is named. A name with
    /// a vendor (`vendor/package`, `vendor/*`) is one of Composer
    #[arg(long, num_args = 0.., value_name = "PACKAGE", conflicts_with = "security")]
    update: Option<Vec<String>>,
    /// Move only what a security suite fixes
    #[arg(long)]
    security: bool,
    /// Write nothing; end with exit code 1 where the lock would change
    #[arg(long)]
    check: bool,
    /// Go on though a suite gets no security fixes any more (`support_until` in `parvis.yaml`)
    #[arg(long)]
    past_support: bool,
    #[command(flatten)]
    allowed: Allowed,
}

/// Checks of the archive's lists that a person may pass over.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Allowed {
    /// Take lists that are past their time; the lock records it
    #[arg(long)]
    allow_expired: bool,
    /// Take lists that are older than those of the last lock; the lock records it
    #[arg(long)]
    allow_older: bool,
}

impl Allowed {
    /// Returns the names of the checks.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.allow_expired, ALLOW_EXPIRED), (self.allow_older, ALLOW_OLDER)];
        all.into_iter().filter_map(|(allowed, name)| allowed.then_some(name)).collect()
    }
}

/// Makes the lock anew, and says what changed.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let previous = workplace.lock_if_any()?;
    let (mode, composer) = mode(arguments)?;
    let suites: Vec<Suite> = workplace.project.suites.iter().map(|rule| rule.name.clone()).collect();
    let language = context.language;
    let ended = |suite: &str, until: &str| {
        let message = both!(
            language,
            "`{suite}` got its last security fixes on {until}: what is locked from it is not safe",
            "`{suite}` a reçu ses derniers correctifs le {until} : ce qui en est verrouillé n’est pas sûr"
        );
        let hint = language.choose(
            "move the project to a newer suite; `--past-support` goes on nevertheless",
            "faites passer le projet à une suite plus récente ; `--past-support` continue malgré tout",
        );
        in_language(Failure::no(message).hint(hint), language)
    };
    super::gate::support(&workplace.project, &suites, context, arguments.past_support, ended)?;
    let store = open_store(context)?;
    let Lists { universes, archives } = lists::read(&workplace, context, &store, previous.as_ref(), &arguments.allowed.names())?;
    for state in archives.iter().filter(|state| !state.accepted.is_empty()) {
        context.screen.note(&format!("`{}` was taken only because of --{}", state.suite, state.accepted.join(" and --")));
    }
    let (project, catalog) = (&workplace.project, &workplace.catalog);
    let inputs = Inputs { project, catalog, universes: &universes, archives, previous: previous.as_ref() };
    let mut lock = make(&inputs, &mode).map_err(|error| from_locking(&error))?;
    let nothing = Lock::empty();
    let before = previous.as_ref().unwrap_or(&nothing);
    let wish = Wish { update: &composer, check: arguments.check };
    lock.composer = super::composer::lock(&workplace, context, &store, &lock, before, &wish)?;
    keep_dates(&mut lock, before, catalog);
    let found = differences(before, &lock, project);
    let changed = lock != *before;
    if changed && !arguments.check {
        workplace.folder.replace(LOCK_FILE, lock.render().as_bytes())?;
    }
    context
        .answer(|| document(&lock, &found), || if previous.is_none() { vec![summary(&lock, &[])] } else { lines(&lock, &found) });
    if changed && arguments.check {
        return Err(Failure::no(format!("`{LOCK_FILE}` is not up to date"))
            .hint("run `parvis lock` with the same options, without `--check`"));
    }
    Ok(())
}

/// Returns what may move of Debian's packages, and which packages of Composer: those whose names have a vendor.
fn mode(arguments: &Arguments) -> Result<(Mode, Vec<String>), Failure> {
    if arguments.security {
        return Ok((Mode::Security, Vec::new()));
    }
    match &arguments.update {
        None => Ok((Mode::Keep, Vec::new())),
        Some(names) if names.is_empty() => Ok((Mode::UpdateAll, Vec::new())),
        Some(names) => {
            let (composer, debian): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.contains('/'));
            for name in &composer {
                let plain: Result<ComposerName, _> = name.replace('*', "x").parse();
                plain.map_err(|_| {
                    Failure::project(format!("`{}` is not the name of a Composer package", name.escape_debug()))
                        .hint("write `vendor/package`, or `vendor/*`")
                })?;
            }
            let names = debian.iter().map(|name| name.parse::<PackageName>()).collect::<Result<BTreeSet<_>, _>>();
            let names = names.map_err(|error| Failure::project(error.to_string()).hint("name packages as Debian does"))?;
            let mode = if names.is_empty() { Mode::Keep } else { Mode::Update(names) };
            Ok((mode, composer.into_iter().cloned().collect()))
        }
    }
}

/// Turns what locking says into what a person reads.
pub fn from_locking(error: &LockingError) -> Failure {
    let hint = error.hint();
    Failure::project(error.to_string()).maybe_hint(hint)
}

fn lines(lock: &Lock, found: &[Difference]) -> Vec<String> {
    found.iter().map(ToString::to_string).chain([summary(lock, found)]).collect()
}

fn summary(lock: &Lock, found: &[Difference]) -> String {
    let size = crate::screen::size(lock.packages.iter().map(|package| package.size).sum());
    let images = lock.images.len();
    let what = format!("{images} {}, {} packages, {size}", if images == 1 { "image" } else { "images" }, lock.packages.len());
    match found.len() {
        0 => what,
        1 => format!("{what}; 1 change"),
        count => format!("{what}; {count} changes"),
    }
}

fn document(lock: &Lock, found: &[Difference]) -> Value {
    json!({
        "format": 1,
        "images": lock.images.len(),
        "packages": lock.packages.len(),
        "epoch": lock.epoch,
        "changes": found.iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(difference: &Difference) -> Value {
    let text = difference.to_string();
    match difference {
        Difference::PackageAdded { name, version, security, .. } => {
            json!({ "package": name, "to": version, "security": security, "text": text.trim() })
        }
        Difference::PackageRemoved { name, version, .. } => json!({ "package": name, "from": version, "text": text.trim() }),
        Difference::PackageMoved { name, from, to, security, .. } => {
            json!({ "package": name, "from": from, "to": to, "security": security, "text": text.trim() })
        }
        _ => json!({ "text": text.trim() }),
    }
}
