//! `parvis outdated`: lists what the archive has newer than a lock or an image, security apart, and what the changelogs say of it.

use serde_json::{Value, json};

use super::changelogs::{Account, Reading};
use super::held::{self, Of};
use super::lists;
use super::lock::Allowed;
use super::registry::Reach;
use super::workplace::{Workplace, open_store};
use super::{Answer, Context};
use crate::model::lock::composer::DownloadKind;
use crate::model::name::ImageName;
use crate::plan::news::{Upload, available};
use crate::screen::{size, table};

/// How many identifiers a line names.
const MOST_HOLES: usize = 6;

/// Options of `parvis outdated`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Holes and urgency are those that Debian's own changelogs name between the two versions; what no changelog names is not told.\n\
    Exit code: 0 also where something is newer, 2 where the project or an image is refused, 3 where the archive cannot be read."
)]
pub struct Arguments {
    /// The number of a release or rebuild, an image of the project, or a layout, archive, download or folder of a release (default: the
    /// project's lock)
    #[arg(value_name = "WHAT")]
    what: Option<String>,
    /// Registry, perhaps with a path, that has the release of that number (default: the project's folder, then `registry` in `parvis.yaml`)
    #[arg(long = "in", value_name = "REGISTRY/PREFIX")]
    kept_in: Option<String>,
    /// Only what a security suite fixes
    #[arg(long)]
    security: bool,
    /// Read the changelogs of all that is newer, not only of security fixes: more is fetched
    #[arg(long)]
    changelogs: bool,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    reach: Reach,
}

/// What the archive has newer, with what its changelog says where it was read.
struct News {
    upload: Upload,
    account: Option<Result<Account, String>>,
}

/// Compares with the archive of now.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let Of { held, images, lock, shown } =
        held::find(&workplace, context, arguments.what.as_deref(), arguments.kept_in.as_deref(), &arguments.reach)?;
    let store = open_store(context)?;
    let lists = lists::read(&workplace, context, &store, lock.as_ref(), &arguments.allowed.names())?;
    let uploads: Vec<Upload> =
        available(&held, &images, &lists.universes).into_iter().filter(|upload| upload.security || !arguments.security).collect();
    let mirrors = super::archive::Mirrors::find(context, &workplace)?;
    let reading = Reading { context, store: &store, mirrors: &mirrors, archives: held::archives(&workplace), at_hand: false };
    let wanted: Vec<&Upload> = uploads.iter().filter(|upload| upload.security || arguments.changelogs).collect();
    let mut accounts = reading.read(&wanted)?.into_iter();
    let news: Vec<News> = uploads
        .into_iter()
        .map(|upload| {
            let account = if upload.security || arguments.changelogs { accounts.next() } else { None };
            News { upload, account }
        })
        .collect();
    let composer = lock.as_ref().map_or(0, |lock| {
        lock.composer.iter().flat_map(|project| &project.downloads).filter(|one| one.kind == DownloadKind::Dist).count()
    });
    context.answer(
        || {
            json!({ "format": 2, "of": shown, "updates": news.iter().map(document).collect::<Vec<_>>(),
                "composer": { "packages": composer, "looked_at": false } })
        },
        || {
            let mut lines = lines(&news);
            if lines.is_empty() {
                lines.push(
                    if arguments.security { "the archive has no security fix for it" } else { "the archive has nothing newer" }
                        .to_owned(),
                );
            }
            if composer > 0 {
                lines.push(format!(
                    "{composer} packages of Composer were not looked at: their repositories name no fixes; `parvis lock --update 'VENDOR/*' --check` says what would move"
                ));
            }
            lines
        },
    );
    Ok(())
}

fn document(news: &News) -> Value {
    let mut document = news.upload.to_json();
    match &news.account {
        None => {}
        Some(Ok(account)) => document["changelog"] = account.to_json(),
        Some(Err(why)) => document["changelog"] = json!({ "unread": why }),
    }
    document
}

fn lines(news: &[News]) -> Vec<String> {
    let (security, others): (Vec<&News>, Vec<&News>) = news.iter().partition(|one| one.upload.security);
    let mut lines = Vec::new();
    for (title, part) in [("Security fixes (`parvis rebuild`):", security), ("Other updates (`parvis lock --update`):", others)] {
        if part.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let bytes = part.iter().map(|one| one.upload.bytes()).sum();
        lines.push(title.to_owned());
        let read = part.iter().any(|one| one.account.is_some());
        let head = ["source", "have", "available", "suite", "size", "urgency", "images"];
        let row = |one: &&News| {
            let Upload { source, older, newer, suite, images, .. } = &one.upload;
            let urgency = match &one.account {
                Some(Ok(account)) => account.urgency().word(),
                _ => "?",
            };
            let mut row = vec![
                source.to_string(),
                older.clone().unwrap_or_default(),
                newer.clone(),
                suite.to_string(),
                size(one.upload.bytes()),
                urgency.to_owned(),
                listed(images),
            ];
            if !read {
                row.remove(5);
            }
            row
        };
        let head: Vec<&str> = head.into_iter().filter(|name| read || *name != "urgency").collect();
        let table = table(&head, &part.iter().map(row).collect::<Vec<_>>());
        let mut rows = table.into_iter();
        lines.extend(rows.next());
        for (line, one) in rows.zip(&part) {
            lines.push(line);
            lines.extend(said(one).map(|said| format!("  {said}")));
        }
        lines.push(format!("to download: {}", size(bytes)));
    }
    lines
}

/// Returns what the changelog says of an update, in one line.
fn said(news: &News) -> Option<String> {
    Some(match news.account.as_ref()? {
        Err(why) => format!("no changelog: {why}"),
        Ok(account) => {
            let holes = account.holes();
            match holes.len() {
                0 if account.entries.is_empty() => "the same source, built once more".to_owned(),
                0 => "its changelog names no CVE".to_owned(),
                count if count > MOST_HOLES => format!("{}, and {} more", holes[..MOST_HOLES].join(", "), count - MOST_HOLES),
                _ => holes.join(", "),
            }
        }
    })
}

/// Returns images as a cell of a table names them.
fn listed(images: &[ImageName]) -> String {
    match images {
        [] => "none".to_owned(),
        [one, two, three, _, more @ ..] => format!("{one}, {two}, {three} and {} more", more.len() + 1),
        few => few.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", "),
    }
}
