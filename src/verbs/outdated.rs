//! `parvis outdated`: lists what the archive has newer than a lock or an image, security apart, and what the changelogs say of it.

use serde_json::{Value, json};

use super::changelogs::{Account, Reading, urgency};
use super::held::{self, Of};
use super::lists;
use super::lock::Allowed;
use super::registry::Reach;
use super::workplace::open_store;
use super::{Answer, Context, gate, in_language};
use crate::failure::Failure;
use crate::model::language::{Language, both};
use crate::model::lock::composer::DownloadKind;
use crate::model::name::{ImageName, Suite};
use crate::plan::news::{Upload, available};
use crate::screen::{size, table};

/// How many identifiers a line names.
const MOST_HOLES: usize = 6;

/// Options of `parvis outdated`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Holes and urgency are those that Debian's own changelogs name between the two versions; what no changelog names is not told.\n\
    Exit code: 0 also where something is newer, 1 where no security fix will come any more, 2 where the project or an image is refused, 3 where the archive cannot be read."
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
    /// Do not say no though a suite gets no security fixes any more (`support_until` in `parvis.yaml`)
    #[arg(long)]
    past_support: bool,
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
    let (workplace, language) = (held::project(context)?, context.language);
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
            // What was handed over has no lock that could be moved: it is replaced.
            let mut lines = lines(&news, lock.is_none().then_some(shown.as_str()), language);
            if lines.is_empty() {
                lines.push(if arguments.security {
                    both!(language, "the archive has no security fix for it", "l’archive n’a aucun correctif de sécurité pour cela")
                } else {
                    both!(language, "the archive has nothing newer", "l’archive n’a rien de plus récent")
                });
            }
            if composer > 0 {
                lines.push(both!(
                    language,
                    "{composer} packages of Composer were not looked at: their repositories name no fixes; `parvis lock --update 'VENDOR/*' --check` says what would move",
                    "{composer} paquets de Composer n’ont pas été examinés : leurs dépôts ne signalent pas de correctif ; `parvis lock --update 'VENDOR/*' --check` dit ce qui changerait"
                ));
            }
            lines
        },
    );
    // That nothing is newer is no comfort where nothing comes any more.
    let suites: Vec<Suite> = workplace.project.suites.iter().map(|rule| rule.name.clone()).collect();
    gate::support(&workplace.project, &suites, context, arguments.past_support, |suite, until| {
        let message = both!(
            language,
            "`{suite}` got its last security fixes on {until}: holes that were found since are not listed, and stay open",
            "`{suite}` a reçu ses derniers correctifs le {until} : les failles trouvées depuis ne sont pas listées, et restent ouvertes"
        );
        let hint = language.choose(
            "move to a newer version of the project; `--past-support` only lists",
            "passez à une version plus récente du projet ; `--past-support` se contente de lister",
        );
        in_language(Failure::no(message).hint(hint), language)
    })
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

/// Returns what a person reads; `handed` is what was asked about where that is no lock.
fn lines(news: &[News], handed: Option<&str>, language: Language) -> Vec<String> {
    let (security, others): (Vec<&News>, Vec<&News>) = news.iter().partition(|one| one.upload.security);
    let mut lines = Vec::new();
    lines.extend(handed.filter(|_| !security.is_empty()).map(|shown| summary(shown, &security, language)));
    let lacks = (security.len(), handed.is_some());
    let titles = match handed {
        None => [
            ("Security fixes (`parvis rebuild`):", "Correctifs de sécurité (`parvis rebuild`) :"),
            ("Other updates (`parvis lock --update`):", "Autres mises à jour (`parvis lock --update`) :"),
        ],
        Some(_) => [("Security fixes:", "Correctifs de sécurité :"), ("Other updates:", "Autres mises à jour :")],
    };
    for ((english, french), part) in titles.into_iter().zip([security, others]) {
        if part.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(language.choose(english, french).to_owned());
        lines.extend(listing(&part, language));
        let bytes = size(part.iter().map(|one| one.upload.bytes()).sum());
        lines.push(both!(language, "to download: {bytes}", "à télécharger : {bytes}"));
    }
    if let (1.., true) = lacks {
        lines.push(both!(
            language,
            "next: ask the publisher for a newer version (`parvis demo upgrade` takes it in); in a clone of the project, `parvis rebuild` makes one",
            "ensuite : demandez à l’éditeur une version plus récente (`parvis demo upgrade` l’installe) ; dans une copie du projet, `parvis rebuild` en fait une"
        ));
    }
    lines
}

/// Returns in one sentence how it stands with something that was handed over.
fn summary(shown: &str, security: &[&News], language: Language) -> String {
    let read = security.iter().filter_map(|one| one.account.as_ref()?.as_ref().ok());
    let highest = read.map(Account::urgency).max().unwrap_or_default();
    let (count, highest) = (security.len(), urgency(highest, language));
    match count {
        1 => both!(
            language,
            "{shown} lacks 1 security fix (urgency: {highest})",
            "{shown} : il manque 1 correctif de sécurité (urgence : {highest})"
        ),
        _ => both!(
            language,
            "{shown} lacks {count} security fixes (highest urgency: {highest})",
            "{shown} : il manque {count} correctifs de sécurité (urgence la plus haute : {highest})"
        ),
    }
}

/// Returns the table of some updates, each with what its changelog says below it.
fn listing(part: &[&News], language: Language) -> Vec<String> {
    let read = part.iter().any(|one| one.account.is_some());
    let head = [
        ("source", "source"),
        ("have", "ici"),
        ("available", "disponible"),
        ("suite", "suite"),
        ("size", "taille"),
        ("urgency", "urgence"),
        ("images", "images"),
    ];
    let row = |one: &&News| {
        let Upload { source, older, newer, suite, images, .. } = &one.upload;
        let urgency = match &one.account {
            Some(Ok(account)) => urgency(account.urgency(), language),
            _ => "?",
        };
        let mut row = vec![
            source.to_string(),
            older.clone().unwrap_or_default(),
            newer.clone(),
            suite.to_string(),
            size(one.upload.bytes()),
            urgency.to_owned(),
            listed(images, language),
        ];
        if !read {
            row.remove(5);
        }
        row
    };
    let head = head.into_iter().filter(|(name, _)| read || *name != "urgency");
    let head: Vec<&str> = head.map(|(english, french)| language.choose(english, french)).collect();
    let mut rows = table(&head, &part.iter().map(row).collect::<Vec<_>>()).into_iter();
    let mut lines: Vec<String> = rows.next().into_iter().collect();
    for (line, one) in rows.zip(part) {
        lines.push(line);
        lines.extend(said(one, language).map(|said| format!("  {said}")));
    }
    lines
}

/// Returns what the changelog says of an update, in one line.
fn said(news: &News, language: Language) -> Option<String> {
    Some(match news.account.as_ref()? {
        Err(why) => both!(language, "no changelog: {why}", "journal non lu : {why}"),
        Ok(account) => {
            let holes = account.holes();
            match holes.len() {
                0 if account.entries.is_empty() => {
                    both!(language, "the same source, built once more", "la même source, construite une fois de plus")
                }
                0 => both!(language, "its changelog names no CVE", "son journal ne cite aucune CVE"),
                count if count > MOST_HOLES => {
                    let (first, more) = (holes[..MOST_HOLES].join(", "), count - MOST_HOLES);
                    both!(language, "{first}, and {more} more", "{first} et {more} autres")
                }
                _ => holes.join(", "),
            }
        }
    })
}

/// Returns images as a cell of a table names them.
fn listed(images: &[ImageName], language: Language) -> String {
    match images {
        [] => language.choose("none", "aucune").to_owned(),
        [one, two, three, _, more @ ..] => {
            let more = more.len() + 1;
            both!(language, "{one}, {two}, {three} and {more} more", "{one}, {two}, {three} et {more} autres")
        }
        few => few.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", "),
    }
}
