//! What people are told of a release, in Markdown: its images, what is new in it, what it costs to download, how it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::language::Language;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::problem::shown;
use crate::model::release::Release;
use crate::plan::composing::ProjectDifference;
use crate::plan::news::{Moves, Upload};
use crate::screen::size;

/// Packages and commits that are listed, of each kind; what else there is is counted.
const MOST: usize = 200;

/// What the changelog of a source package says of the way between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Holes that were closed: `CVE-2026-1234`.
    pub holes: Vec<String>,
}

/// A commit that touched recipes, or what images are made from beside packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub commit: String,
    /// The first line of what was written about it.
    pub subject: String,
}

/// Bytes to download; what several images share is counted once in the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Weight {
    pub images: BTreeMap<ImageName, u64>,
    pub whole: u64,
}

/// The release before this one, and what differs.
#[derive(Debug)]
pub struct Since<'a> {
    pub version: Number,
    pub moves: &'a Moves,
    /// What changelogs say, in the order of the uploads; nothing where one cannot be read.
    pub said: Vec<Option<Said>>,
    /// What moved of Composer's packages.
    pub composer: Vec<ProjectDifference>,
    /// The newest first; nothing where git does not know the commit of that release.
    pub changes: Option<Vec<Change>>,
    /// Images that there are no longer.
    pub gone: Vec<ImageName>,
    /// What somebody fetches who has the images of that release; nothing where it is not known.
    pub fetched: Option<Weight>,
}

/// Everything that notes are made from.
#[derive(Debug)]
pub struct Notes<'a> {
    pub release: &'a Release,
    /// Bytes of all images together, what they share counted once.
    pub whole: u64,
    pub since: Option<Since<'a>>,
}

/// The words of one language.
struct Words {
    issued: &'static str,
    images: &'static str,
    image: &'static str,
    whole: &'static str,
    fetched: &'static str,
    together: &'static str,
    remaining: &'static str,
    changed: &'static str,
    urgent: &'static str,
    holes: &'static str,
    calm: &'static str,
    nothing: &'static str,
    reading: &'static str,
    security: &'static str,
    others: &'static str,
    composer: &'static str,
    gone: &'static str,
    images_gone: &'static str,
    new: &'static str,
    other: &'static str,
    more: &'static str,
    unread: &'static str,
    unnamed: &'static str,
    recipes: &'static str,
    no_recipes: &'static str,
    check: &'static str,
    how: &'static str,
    made: &'static str,
}

const ENGLISH: Words = Words {
    issued: "Issued {day}; to be relied on until {until}.",
    images: "## Images",
    image: "| image | size | digest |",
    whole: "size",
    fetched: "to download with {before}",
    together: "All images together: {whole}, what they share counted once.",
    remaining: " Whoever has {before} downloads {rest} of it.",
    changed: "## Since {before}",
    urgent: "**Security fixes: install this version soon.** Fixed source packages: {count}.",
    holes: " Holes that Debian's changelogs name: {holes}.",
    calm: "No package comes from Debian's security updates.",
    nothing: "No package of Debian changed.",
    reading: "Each line: source package, version before → now (images that have it) — holes that its changelog names.",
    security: "### Security",
    others: "### Other packages",
    composer: "### Packages of Composer",
    gone: "Packages that are no longer there: ",
    images_gone: "Images that are no longer there: ",
    new: "new",
    other: "another file of the same version",
    more: "… and {count} more.",
    unread: "its changelog cannot be read",
    unnamed: "its changelog names no CVE",
    recipes: "### Recipes",
    no_recipes: "No commit touched recipes, files of images, stacks or `parvis.yaml`.",
    check: "## Is it genuine?",
    how: "`parvis verify FILE` checks every byte of a download against the signed statement in it, with no network; `VERIFY.txt` says more.",
    made: "Made from the commit `{commit}` and the lock `{lock}`.",
};

const FRENCH: Words = Words {
    issued: "Publiée le {day} ; fiable jusqu'au {until}.",
    images: "## Images",
    image: "| image | taille | empreinte |",
    whole: "taille",
    fetched: "à télécharger avec {before}",
    together: "Toutes les images ensemble : {whole}, les parties communes comptées une fois.",
    remaining: " Qui a déjà {before} en télécharge {rest}.",
    changed: "## Depuis {before}",
    urgent: "**Corrections de sécurité : installez cette version sans tarder.** Paquets source corrigés : {count}.",
    holes: " Failles nommées par les journaux de Debian : {holes}.",
    calm: "Aucun paquet ne vient des mises à jour de sécurité de Debian.",
    nothing: "Aucun paquet de Debian n'a changé.",
    reading: "Chaque ligne : paquet source, version avant → maintenant (images qui l'ont) — failles nommées par son journal.",
    security: "### Sécurité",
    others: "### Autres paquets",
    composer: "### Paquets de Composer",
    gone: "Paquets qui ne sont plus là : ",
    images_gone: "Images qui ne sont plus là : ",
    new: "nouveau",
    other: "autre fichier de la même version",
    more: "… et {count} autres.",
    unread: "son journal des changements est illisible",
    unnamed: "son journal ne nomme aucune CVE",
    recipes: "### Recettes",
    no_recipes: "Aucun commit n'a touché les recettes, les fichiers des images, les piles ou `parvis.yaml`.",
    check: "## Est-elle authentique ?",
    how: "`parvis verify FICHIER` compare chaque octet d'un téléchargement à la déclaration signée qu'il contient, sans réseau ; `VERIFY.txt` en dit plus.",
    made: "Faite à partir du commit `{commit}` et du verrou `{lock}`.",
};

impl Notes<'_> {
    /// Writes the notes in a language.
    #[must_use]
    pub fn render(&self, language: Language) -> String {
        let words = match language {
            Language::English => &ENGLISH,
            Language::French => &FRENCH,
        };
        let release = self.release;
        let mut out = format!("# {} {}\n\n", release.product, release.version);
        let issued = words.issued.replace("{day}", &release.issued.day()).replace("{until}", &release.valid_until.day());
        let _ = writeln!(out, "{issued}\n\n{}\n", words.images);
        self.images(words, &mut out);
        if let Some(since) = &self.since {
            since.write(words, &mut out);
        }
        let made = words.made.replace("{commit}", &release.commit).replace("{lock}", &release.lock.to_string());
        let _ = writeln!(out, "\n{}\n\n{}\n\n{made}", words.check, words.how);
        out
    }

    fn images(&self, words: &Words, out: &mut String) {
        let fetched = self.since.as_ref().and_then(|since| Some((since.version.to_string(), since.fetched.as_ref()?)));
        match &fetched {
            None => {
                let _ = writeln!(out, "{}\n|---|---|---|", words.image);
            }
            Some((before, _)) => {
                let heading = words.fetched.replace("{before}", before);
                let head = words.image.replace(&format!("| {} |", words.whole), &format!("| {} | {heading} |", words.whole));
                let _ = writeln!(out, "{head}\n|---|---|---|---|");
            }
        }
        for image in &self.release.images {
            let whole: u64 = image.platforms.iter().map(|on| on.size).sum();
            let _ = write!(out, "| {} | {} |", image.name, size(whole));
            if let Some((_, fetched)) = &fetched {
                let _ = write!(out, " {} |", size(fetched.images.get(&image.name).copied().unwrap_or(whole)));
            }
            let _ = writeln!(out, " `{}` |", image.digest);
        }
        let _ = write!(out, "\n{}", words.together.replace("{whole}", &size(self.whole)));
        if let Some((before, fetched)) = &fetched {
            out.push_str(&words.remaining.replace("{before}", before).replace("{rest}", &size(fetched.whole)));
        }
        out.push('\n');
        let gone: Vec<&str> = self.since.iter().flat_map(|since| &since.gone).map(ImageName::as_str).collect();
        if !gone.is_empty() {
            let _ = writeln!(out, "\n{}{}.", words.images_gone, gone.join(", "));
        }
    }
}

impl Since<'_> {
    fn write(&self, words: &Words, out: &mut String) {
        let _ = writeln!(out, "\n{}\n", words.changed.replace("{before}", &self.version.to_string()));
        self.debian(words, out);
        let moved: Vec<String> = self.composer.iter().filter_map(|difference| of_composer(words, difference)).collect();
        if !moved.is_empty() {
            let _ = writeln!(out, "\n{}\n", words.composer);
            list(words, &moved, out);
        }
        let Some(changes) = &self.changes else { return };
        let _ = writeln!(out, "\n{}\n", words.recipes);
        if changes.is_empty() {
            let _ = writeln!(out, "{}", words.no_recipes);
        }
        let line =
            |change: &Change| format!("`{}` {}", change.commit.get(..12).unwrap_or(&change.commit), plain(&change.subject));
        list(words, &changes.iter().map(line).collect::<Vec<_>>(), out);
    }

    fn debian(&self, words: &Words, out: &mut String) {
        if self.moves.is_empty() {
            let _ = writeln!(out, "{}", words.nothing);
            return;
        }
        let told = || self.moves.uploads.iter().zip(self.said.iter().map(Option::as_ref).chain(std::iter::repeat(None)));
        let fixed = self.moves.uploads.iter().filter(|upload| upload.security).count();
        let holes: BTreeSet<&String> = self.said.iter().flatten().flat_map(|said| &said.holes).collect();
        match fixed {
            0 => out.push_str(words.calm),
            count => out.push_str(&words.urgent.replace("{count}", &count.to_string())),
        }
        if !holes.is_empty() {
            out.push_str(&words.holes.replace("{holes}", &holes.len().to_string()));
        }
        out.push('\n');
        if !self.moves.uploads.is_empty() {
            let _ = writeln!(out, "\n{}", words.reading);
        }
        for (heading, security) in [(words.security, true), (words.others, false)] {
            let of_kind = told().filter(|(upload, _)| upload.security == security);
            let lines: Vec<String> = of_kind.map(|(upload, said)| line(words, upload, said)).collect();
            if !lines.is_empty() {
                let _ = writeln!(out, "\n{heading}\n");
                list(words, &lines, out);
            }
        }
        // A package that was there for two architectures went once.
        let gone: BTreeSet<String> = self.moves.removed.iter().map(|(name, _, version)| format!("`{name}` {version}")).collect();
        if !gone.is_empty() {
            let named: Vec<&str> = gone.iter().take(MOST).map(String::as_str).collect();
            let _ = writeln!(out, "\n{}{}", words.gone, named.join(", "));
        }
    }
}

/// Writes a list, and how much of it is left out.
fn list(words: &Words, lines: &[String], out: &mut String) {
    for line in lines.iter().take(MOST) {
        let _ = writeln!(out, "- {line}");
    }
    if let Some(count) = lines.len().checked_sub(MOST).filter(|count| *count > 0) {
        let _ = writeln!(out, "- {}", words.more.replace("{count}", &count.to_string()));
    }
}

fn line(words: &Words, upload: &Upload, said: Option<&Said>) -> String {
    let from = upload.older.as_deref().unwrap_or(words.new);
    let images: Vec<&str> = upload.images.iter().map(ImageName::as_str).collect();
    let mut line = format!("`{}` {from} → {} ({})", upload.source, upload.newer, images.join(", "));
    match said {
        None if upload.security => line.push_str(&format!(" — {}", words.unread)),
        Some(said) if !said.holes.is_empty() => line.push_str(&format!(" — {}", said.holes.join(", "))),
        // That none is named is no proof that none was closed; it is said where people look for one.
        Some(_) if upload.security && upload.older.is_some() => line.push_str(&format!(" — {}", words.unnamed)),
        _ => {}
    }
    line
}

/// Says what moved of Composer's packages; nothing of what is written in the project's own files.
fn of_composer(words: &Words, difference: &ProjectDifference) -> Option<String> {
    Some(match difference {
        ProjectDifference::Moved { package, from, to } => format!("{} {} → {}", plain(package), plain(from), plain(to)),
        ProjectDifference::Added { name } => format!("{} ({})", plain(name), words.new),
        ProjectDifference::Changed { name } => format!("{} ({})", plain(name), words.other),
        ProjectDifference::Removed { name } => format!("~~{}~~", plain(name)),
        _ => return None,
    })
}

/// Returns what somebody wrote as text that Markdown leaves as it is.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for character in shown(text).chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '~' | '#' | '!' | '|') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Says, in both languages, how a release is checked: the text of `VERIFY.txt`.
#[must_use]
pub fn how_to_verify(product: &ImageName, number: Number) -> String {
    format!(
        "{product} {number}\n\n\
        IS THIS GENUINE?\n\
        \n\
        release.sigstore.json lists every file of this folder with its SHA-256, and is signed. With parvis and the publisher's key:\n\
        \n\
        \x20   parvis trust add PUBLISHER.pub      # once; compare the fingerprint with the one you have on paper\n\
        \x20   parvis verify FILE.tar              # the download as it came, or the folder\n\
        \n\
        Nothing else is needed, no network either. An answer other than \"good\" says what to do.\n\
        \n\
        EST-CE AUTHENTIQUE ?\n\
        \n\
        release.sigstore.json contient l'empreinte SHA-256 de chaque fichier de ce dossier, et il est signé. Avec parvis et la clé de l'éditeur :\n\
        \n\
        \x20   parvis trust add EDITEUR.pub        # une seule fois ; comparez l'empreinte à celle que vous avez sur papier\n\
        \x20   parvis verify FICHIER.tar           # le téléchargement tel quel, ou le dossier\n\
        \n\
        Rien d'autre n'est nécessaire, pas même le réseau. Toute réponse autre que « authentique » dit quoi faire.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::release::testing::release;

    #[test]
    fn a_first_release_says_what_there_is_and_how_it_is_checked() {
        let release = release();
        let notes = Notes { release: &release, whole: 7, since: None };
        insta::assert_snapshot!("first", notes.render(Language::English));
    }

    #[test]
    fn a_later_one_says_what_changed_and_what_it_costs() {
        use crate::model::lock::LockedPackage;
        use crate::plan::news::Moved;
        let package = |name: &str, version: &str| LockedPackage {
            name: name.parse().unwrap(),
            version: version.into(),
            architecture: "amd64".parse().unwrap(),
            source: "openssl".parse().unwrap(),
            source_version: None,
            suite: "trixie-security".parse().unwrap(),
            file: "pool/o.deb".into(),
            size: 1_000_000,
            sha256: crate::model::digest::DownloadDigest::of(b"deb"),
            depends: Vec::new(),
        };
        let upload = |source: &str, security: bool| Upload {
            source: source.parse().unwrap(),
            older: security.then(|| "3.5.1-1".to_owned()),
            newer: "3.5.1-1+deb13u1".into(),
            suite: "trixie-security".parse().unwrap(),
            security,
            packages: vec![Moved { from: None, to: package("libssl3t64", "3.5.1-1+deb13u1"), needed_by: Vec::new() }],
            images: vec!["base".parse().unwrap(), "httpd".parse().unwrap()],
        };
        let moves = Moves {
            uploads: vec![upload("openssl", true), upload("curl", true), upload("zlib", true), upload("nano", false)],
            removed: ["amd64", "arm64"].map(|on| ("ed".parse().unwrap(), on.parse().unwrap(), "1.21".into())).into(),
        };
        let release = release();
        let said =
            vec![Some(Said { holes: vec!["CVE-2026-0001".into(), "CVE-2026-0002".into()] }), None, Some(Said::default()), None];
        let fetched = Some(Weight { images: BTreeMap::from([("httpd".parse().unwrap(), 3)]), whole: 3 });
        let change = |commit: &str, subject: &str| Change { commit: commit.repeat(20), subject: subject.into() };
        let since = Since {
            version: "1.3.0".parse().unwrap(),
            moves: &moves,
            said,
            composer: vec![
                ProjectDifference::Moved { package: "drupal/core".into(), from: "10.3.1".into(), to: "10.3.2".into() },
                ProjectDifference::Added { name: "acme/new 1.0".into() },
                ProjectDifference::Changed { name: "download `jquery` of acme/a".into() },
                ProjectDifference::Removed { name: "acme/old_one 2.0".into() },
                ProjectDifference::Definition { folder: "images/files/site".into() },
            ],
            changes: Some(vec![change("ab", "httpd: a longer time limit"), change("cd", "db: <b>*[quicker](x)*</b>\u{1b}[1m")]),
            gone: vec!["cron".parse().unwrap()],
            fetched,
        };
        let notes = Notes { release: &release, whole: 7, since: Some(since) };
        insta::assert_snapshot!("english", notes.render(Language::English));
        insta::assert_snapshot!("french", notes.render(Language::French));
    }
    #[test]
    fn a_release_in_which_only_recipes_changed_says_so() {
        let release = release();
        let moves = Moves::default();
        let since = |changes| Since {
            version: "1.3.0".parse().unwrap(),
            moves: &moves,
            said: Vec::new(),
            composer: Vec::new(),
            changes,
            gone: Vec::new(),
            fetched: None,
        };
        let text = |changes| Notes { release: &release, whole: 7, since: Some(since(changes)) }.render(Language::English);
        assert!(text(Some(Vec::new())).contains("No package of Debian changed.\n\n### Recipes\n\nNo commit touched recipes"));
        assert!(!text(None).contains("### Recipes"), "what git does not know is not said to be nothing");
        let many = (0..=MOST).map(|number| Change { commit: format!("{number:040}"), subject: "x".into() }).collect();
        assert!(text(Some(many)).contains("\n- … and 1 more.\n"));
    }
}
