//! What people are told of a release, in Markdown: its images, what is new in it, what it costs to download, how it is checked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::language::Language;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::release::Release;
use crate::plan::news::{Moves, Upload};
use crate::screen::size;

/// Packages that are listed; what else moved is counted.
const MOST: usize = 200;

/// What the changelog of a source package says of the way between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Holes that were closed: `CVE-2026-1234`.
    pub holes: Vec<String>,
}

/// The release before this one, and what differs.
#[derive(Debug)]
pub struct Since<'a> {
    pub version: Number,
    pub moves: &'a Moves,
    /// What changelogs say, in the order of the uploads; nothing where one cannot be read.
    pub said: Vec<Option<Said>>,
    /// Bytes that somebody who has the images of that release fetches for this one, by image; absent where they are not known.
    pub fetched: Option<BTreeMap<ImageName, u64>>,
}

/// Everything that notes are made from.
#[derive(Debug)]
pub struct Notes<'a> {
    pub release: &'a Release,
    pub since: Option<Since<'a>>,
}

/// The words of one language.
struct Words {
    issued: &'static str,
    images: &'static str,
    image: &'static str,
    whole: &'static str,
    fetched: &'static str,
    changed: &'static str,
    nothing: &'static str,
    security: &'static str,
    others: &'static str,
    gone: &'static str,
    new: &'static str,
    more: &'static str,
    unread: &'static str,
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
    changed: "## Since {before}",
    nothing: "No package changed.",
    security: "### Security",
    others: "### Other packages",
    gone: "No longer there: ",
    new: "new",
    more: "… and {count} more.",
    unread: "its changelog cannot be read",
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
    changed: "## Depuis {before}",
    nothing: "Aucun paquet n'a changé.",
    security: "### Sécurité",
    others: "### Autres paquets",
    gone: "Ne sont plus là : ",
    new: "nouveau",
    more: "… et {count} autres.",
    unread: "son journal des changements est illisible",
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
        let fetched = self.since.as_ref().and_then(|since| Some((since.version, since.fetched.as_ref()?)));
        match fetched {
            None => {
                let _ = writeln!(out, "{}\n|---|---|---|", words.image);
            }
            Some((before, _)) => {
                let heading = words.fetched.replace("{before}", &before.to_string());
                let head = words.image.replace(&format!("| {} |", words.whole), &format!("| {} | {heading} |", words.whole));
                let _ = writeln!(out, "{head}\n|---|---|---|---|");
            }
        }
        for image in &self.release.images {
            let whole: u64 = image.platforms.iter().map(|on| on.size).sum();
            let _ = write!(out, "| {} | {} |", image.name, size(whole));
            if let Some((_, fetched)) = fetched {
                let _ = write!(out, " {} |", size(fetched.get(&image.name).copied().unwrap_or(whole)));
            }
            let _ = writeln!(out, " `{}` |", image.digest);
        }
    }
}

impl Since<'_> {
    fn write(&self, words: &Words, out: &mut String) {
        let _ = writeln!(out, "\n{}\n", words.changed.replace("{before}", &self.version.to_string()));
        if self.moves.is_empty() {
            let _ = writeln!(out, "{}", words.nothing);
            return;
        }
        let told = || self.moves.uploads.iter().zip(self.said.iter().map(Option::as_ref).chain(std::iter::repeat(None)));
        for (heading, security) in [(words.security, true), (words.others, false)] {
            let of_kind: Vec<_> = told().filter(|(upload, _)| upload.security == security).collect();
            if of_kind.is_empty() {
                continue;
            }
            let _ = writeln!(out, "{heading}\n");
            for (upload, said) in of_kind.iter().take(MOST) {
                let _ = writeln!(out, "- {}", line(words, upload, *said));
            }
            if let Some(count) = of_kind.len().checked_sub(MOST).filter(|count| *count > 0) {
                let _ = writeln!(out, "- {}", words.more.replace("{count}", &count.to_string()));
            }
            out.push('\n');
        }
        if !self.moves.removed.is_empty() {
            let gone: Vec<String> =
                self.moves.removed.iter().take(MOST).map(|(name, _, version)| format!("`{name}` {version}")).collect();
            let _ = writeln!(out, "{}{}", words.gone, gone.join(", "));
        }
    }
}

fn line(words: &Words, upload: &Upload, said: Option<&Said>) -> String {
    let from = upload.older.as_deref().unwrap_or(words.new);
    let images: Vec<&str> = upload.images.iter().map(ImageName::as_str).collect();
    let mut line = format!("`{}` {from} → {} ({})", upload.source, upload.newer, images.join(", "));
    match said {
        None if upload.security => line.push_str(&format!(" — {}", words.unread)),
        Some(said) if !said.holes.is_empty() => line.push_str(&format!(" — {}", said.holes.join(", "))),
        _ => {}
    }
    line
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
        let notes = Notes { release: &release, since: None };
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
            uploads: vec![upload("openssl", true), upload("curl", true), upload("nano", false)],
            removed: vec![("ed".parse().unwrap(), "amd64".parse().unwrap(), "1.21".into())],
        };
        let release = release();
        let said = vec![Some(Said { holes: vec!["CVE-2026-0001".into(), "CVE-2026-0002".into()] }), None, None];
        let fetched = Some(BTreeMap::from([("httpd".parse().unwrap(), 3)]));
        let since = Some(Since { version: "1.3.0".parse().unwrap(), moves: &moves, said, fetched });
        let notes = Notes { release: &release, since };
        insta::assert_snapshot!("english", notes.render(Language::English));
        insta::assert_snapshot!("french", notes.render(Language::French));
    }
}
