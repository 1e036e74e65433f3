//! Everything that `parvis rebuild` says to a volunteer, in every language it says it in.

use super::report::Part;
use super::{Done, Intention, Rebuilt};
use crate::debian::changelog::Urgency;
use crate::failure::Failure;
use crate::model::language::Language;
use crate::model::name::ImageName;
use crate::model::rebuild::Name;
use crate::plan::news::Upload;
use crate::screen::size;
use crate::verbs::changelogs::Account;
use crate::verbs::demo::words::in_language;

/// Identifiers that a line names.
const MOST_HOLES: usize = 6;

/// The words of one language.
#[derive(Clone, Copy)]
pub struct Words(pub Language);

impl Words {
    fn say(self, english: impl Into<String>, french: impl Into<String>) -> String {
        self.0.choose(english.into(), french.into())
    }

    fn failure(self, failure: fn(String) -> Failure, message: (String, String), hint: (&str, &str)) -> Failure {
        in_language(failure(self.0.choose(message.0, message.1)).hint(self.0.choose(hint.0, hint.1)), self.0)
    }

    pub fn finishes(self, name: &Name) -> String {
        self.say(
            format!("the rebuild {name} was interrupted at its very end: finishing it"),
            format!("la reconstruction {name} a été interrompue tout à la fin : elle est terminée maintenant"),
        )
    }

    pub fn new_key(self, folder: &str) -> String {
        self.say(
            format!("your parish has no key yet: one is made in {folder}; keep its passphrase well"),
            format!("votre paroisse n’a pas encore de clé : elle est créée dans {folder} ; conservez bien sa phrase de passe"),
        )
    }

    pub fn unsigned(self) -> String {
        self.say(
            "nobody is there to type a passphrase: the rebuild will not be signed",
            "personne n’est là pour taper une phrase de passe : la reconstruction ne sera pas signée",
        )
    }

    pub fn nothing(self, waiting: usize, all: bool, finished: bool) -> Vec<String> {
        let first = if finished {
            self.say("done; no further fix is out", "terminé ; aucun autre correctif n’est paru")
        } else if all {
            self.say("nothing to do: no update is out", "rien à faire : aucune mise à jour n’est parue")
        } else {
            self.say("nothing to do: no security fix is out", "rien à faire : aucun correctif de sécurité n’est paru")
        };
        let mut lines = vec![first];
        lines.extend(self.waiting(waiting));
        lines
    }

    fn waiting(self, waiting: usize) -> Option<String> {
        (waiting > 0).then(|| {
            self.say(
                format!("{waiting} other updates, not of security, wait: `parvis rebuild --all` takes them too"),
                format!("{waiting} autres mises à jour, hors sécurité, attendent : `parvis rebuild --all` les prend aussi"),
            )
        })
    }

    pub fn unsupported(self, suite: &str, until: &str) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("`{suite}` got its last security fixes on {until}: a rebuild would not make it safe"),
                format!("`{suite}` a reçu ses derniers correctifs le {until} : une reconstruction ne le rendrait pas sûr"),
            ),
            (
                "move to a newer version of the project; `--past-support` goes on nevertheless",
                "passez à une version plus récente du projet ; `--past-support` continue malgré tout",
            ),
        )
    }

    pub fn support_ends(self, suite: &str, until: &str, left: i64) -> String {
        self.say(
            format!("`{suite}` gets security fixes until {until} ({left} days): plan the move to a newer version"),
            format!(
                "`{suite}` reçoit des correctifs jusqu’au {until} ({left} jours) : prévoyez le passage à une version plus récente"
            ),
        )
    }

    pub fn builds_base(self) -> String {
        self.say(
            "the present version is not built here yet: building it first, to compare with",
            "la version actuelle n’est pas encore construite ici : elle l’est d’abord, pour pouvoir comparer",
        )
    }

    pub fn no_base(self, failure: Failure) -> Failure {
        let hint = failure.hint_text().map(str::to_owned);
        let cause = failure.message().to_owned();
        let text = self.say(
            "the present version cannot be built, so there is nothing to compare with",
            "la version actuelle ne peut pas être construite : il n’y a rien à quoi comparer",
        );
        let again = Failure::world(text).because(cause).maybe_hint(hint);
        in_language(again, self.0)
    }

    pub fn surprises(self, image: &str, surprises: &[String]) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("in `{image}` something changed that was not announced: {}", surprises.join("; ")),
                format!("dans `{image}`, quelque chose a changé sans avoir été annoncé : {}", surprises.join(" ; ")),
            ),
            (
                "nothing was replaced; tell the maintainers of the project, with this message",
                "rien n’a été remplacé ; signalez-le aux responsables du projet, avec ce message",
            ),
        )
    }

    fn urgency(self, urgency: Urgency) -> String {
        let french = match urgency {
            Urgency::Unknown => "inconnue",
            Urgency::Low => "faible",
            Urgency::Medium => "moyenne",
            Urgency::High => "haute",
            Urgency::Emergency | Urgency::Critical => "critique",
        };
        self.say(urgency.word(), french)
    }

    /// Returns why something moves, in one line.
    fn why(self, upload: &Upload, account: &Result<Account, String>) -> String {
        let reason = if upload.security {
            self.say("security fix", "correctif de sécurité")
        } else if upload.needed_by().is_empty() {
            self.say("update", "mise à jour")
        } else {
            let by: Vec<String> = upload.needed_by().iter().map(|name| format!("`{name}`")).collect();
            self.say(format!("needed by {}", by.join(", ")), format!("nécessaire à {}", by.join(", ")))
        };
        let said = match account {
            Err(_) => self.say("its changelog could not be read", "son journal n’a pas pu être lu"),
            Ok(account) => {
                let holes = account.holes();
                let urgency = self.urgency(account.urgency());
                let named = match holes.len() {
                    0 => self.say("names no CVE", "ne cite aucune CVE"),
                    count if count > MOST_HOLES => {
                        let more = count - MOST_HOLES;
                        let first = holes[..MOST_HOLES].join(", ");
                        self.say(format!("{first} and {more} more"), format!("{first} et {more} autres"))
                    }
                    _ => holes.join(", "),
                };
                self.say(format!("urgency {urgency}: {named}"), format!("urgence {urgency} : {named}"))
            }
        };
        self.say(format!("{reason}, {said}"), format!("{reason}, {said}"))
    }

    fn from_to(upload: &Upload) -> String {
        upload.older.as_ref().map_or_else(|| upload.newer.clone(), |older| format!("{older} → {}", upload.newer))
    }

    fn images(images: &[ImageName]) -> String {
        images.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ")
    }

    pub fn intention(self, intention: &Intention) -> Vec<String> {
        let Intention { name, moves, accounts, touched, untouched, fetch, waiting } = intention;
        let mut lines = vec![self.say(format!("This will change ({name}):"), format!("Voici ce qui va changer ({name}) :"))];
        for (upload, account) in moves.uploads.iter().zip(accounts) {
            lines.push(format!("  {} {}", upload.source, Self::from_to(upload)));
            lines.push(format!("    {}", self.why(upload, account)));
            let images = Self::images(&upload.images);
            lines.push(self.say(format!("    in {images}"), format!("    dans {images}")));
        }
        for (package, _, version) in &moves.removed {
            lines.push(self.say(
                format!("  {package} {version} is no longer needed"),
                format!("  {package} {version} n’est plus nécessaire"),
            ));
        }
        lines.push(self.say(
            format!("to download: {}; images built anew: {} of {}", size(*fetch), touched.len(), touched.len() + untouched.len()),
            format!(
                "à télécharger : {} ; images reconstruites : {} sur {}",
                size(*fetch),
                touched.len(),
                touched.len() + untouched.len()
            ),
        ));
        lines.extend(self.waiting(*waiting));
        lines
    }

    pub fn done(self, done: &Done, signed: Option<&str>, place: &str) -> Vec<String> {
        let (fresh, all) = done.bytes();
        let (name, tests) = (&done.intention.name, done.tests.len());
        vec![
            String::new(),
            self.say(
                format!("{name} is built: {tests} tests passed, and nothing changed but what is listed above"),
                format!("{name} est construite : {tests} tests réussis, et rien n’a changé hors de la liste ci-dessus"),
            ),
            self.say(
                format!("new bytes in images: {} of {}", size(fresh), size(all)),
                format!("octets nouveaux dans les images : {} sur {}", size(fresh), size(all)),
            ),
            self.say(format!("report: {place}/report.html"), format!("rapport : {place}/rapport.html")),
            signed.map_or_else(
                || self.say("it is not signed", "elle n’est pas signée"),
                |key| self.say(format!("signed by your key {key}"), format!("signée par votre clé {key}")),
            ),
            self.say(
                "next: try it with `parvis demo up`, then keep the folder `rebuilds/` and `parvis.lock` in version control",
                "ensuite : essayez-la avec `parvis demo up`, puis conservez le dossier `rebuilds/` et `parvis.lock` dans votre dépôt",
            ),
        ]
    }

    /// Returns the report, part by part.
    #[expect(clippy::too_many_lines, reason = "one sentence after the other, as they are read")]
    pub fn report(self, done: &Done) -> Vec<Part> {
        let Intention { name, moves, accounts, untouched, .. } = &done.intention;
        let project = &done.project;
        let (fresh, all) = done.bytes();
        let day = done.date.split('T').next().unwrap_or(&done.date);
        let mut parts = vec![
            Part::Title(self.say(format!("{project}: security rebuild {name}"), format!("{project} : reconstruction de sécurité {name}"))),
            Part::Text(self.say(
                format!("Fixes that Debian had published by {day} were put into the images. Nothing else changed: this was checked file by file."),
                format!("Les correctifs publiés par Debian jusqu’au {day} ont été intégrés aux images. Rien d’autre n’a changé : cela a été vérifié fichier par fichier."),
            )),
            Part::Heading(self.say("What changes, and why", "Ce qui change, et pourquoi")),
        ];
        let item = |(upload, account): (&Upload, &Result<Account, String>)| {
            format!("`{}` {}: {}", upload.source, Self::from_to(upload), self.why(upload, account))
        };
        let mut items: Vec<String> = moves.uploads.iter().zip(accounts).map(item).collect();
        items.extend(moves.removed.iter().map(|(package, _, version)| {
            self.say(format!("`{package}` {version}: no longer needed"), format!("`{package}` {version} : plus nécessaire"))
        }));
        parts.push(Part::List(items));
        parts.push(Part::Heading(self.say("Images", "Images")));
        let head = [
            ("image", "image"),
            ("packages that changed", "paquets changés"),
            ("new bytes", "octets nouveaux"),
            ("size", "taille"),
            ("digest", "empreinte"),
        ];
        let row = |image: &Rebuilt| {
            vec![
                image.name.to_string(),
                image.changed.len().to_string(),
                size(image.fresh),
                size(image.after.record.size()),
                format!("`{}`", image.after.record.manifest),
            ]
        };
        parts.push(Part::Table(
            head.iter().map(|(english, french)| self.say(*english, *french)).collect(),
            done.images.iter().map(row).collect(),
        ));
        parts.push(Part::Text(self.say(
            format!("New bytes in all, each counted once: {}, where these images have {}.", size(fresh), size(all)),
            format!("Octets nouveaux en tout, chacun compté une fois : {}, sur {} pour ces images.", size(fresh), size(all)),
        )));
        if !untouched.is_empty() {
            let images = Self::images(untouched);
            parts.push(Part::Text(
                self.say(format!("Unchanged, to the digest: {images}."), format!("Inchangées, jusqu’à l’empreinte : {images}.")),
            ));
        }
        parts.push(Part::Heading(self.say("What was checked", "Ce qui a été vérifié")));
        let scripts: std::collections::BTreeSet<&String> = done.images.iter().flat_map(|image| &image.proof.by_scripts).collect();
        let mut checked = vec![
            self.say(
                format!("{} tests of the rebuilt images passed.", done.tests.len()),
                format!("{} tests des images reconstruites ont réussi.", done.tests.len()),
            ),
            self.say(
                "Every file that differs belongs to a package that is listed above, to the package database, or is made by a script of a package.",
                "Chaque fichier qui diffère appartient à un paquet de la liste ci-dessus, à la base des paquets, ou est produit par un script de paquet.",
            ),
        ];
        if !scripts.is_empty() {
            let listed: Vec<String> = scripts.iter().map(|path| format!("`{path}`")).collect();
            let listed = listed.join(", ");
            checked.push(self.say(format!("Made anew by scripts: {listed}."), format!("Refaits par des scripts : {listed}.")));
        }
        parts.push(Part::List(checked));
        parts.push(Part::Heading(self.say("What is not known", "Ce que l’on ne sait pas")));
        parts.push(Part::List(vec![
            self.say(
                "The holes are those that Debian’s changelogs name. One that no changelog names may have been closed as well, or may still be open.",
                "Les failles sont celles que citent les journaux de Debian. Une faille qu’aucun journal ne cite peut avoir été corrigée, ou être encore ouverte.",
            ),
            self.say(
                "Who stands by this rebuild: the signature is in `rebuild.sigstore.json` beside this report; where that file is missing, nobody signed.",
                "Qui en répond : la signature est dans `rebuild.sigstore.json`, à côté de ce rapport ; si ce fichier manque, personne n’a signé.",
            ),
        ]));
        parts.push(Part::Heading(self.say("What to do next", "Que faire ensuite")));
        parts.push(Part::List(vec![
            self.say("Try it: `parvis demo up`.", "Essayez-la : `parvis demo up`."),
            self.say(
                "Keep `parvis.lock` and the folder `rebuilds/` in version control.",
                "Conservez `parvis.lock` et le dossier `rebuilds/` dans votre dépôt.",
            ),
            self.say(
                "To go back, restore the `parvis.lock` of before and run `parvis build`.",
                "Pour revenir en arrière, restaurez le `parvis.lock` précédent et lancez `parvis build`.",
            ),
        ]));
        parts.push(Part::Heading(self.say("What Debian says", "Ce qu’en dit Debian")));
        for (upload, account) in moves.uploads.iter().zip(accounts) {
            for entry in account.iter().flat_map(|account| &account.entries) {
                let distributions = entry.distributions.join(" ");
                parts.push(Part::Text(format!("`{}` {} ({distributions})", upload.source, entry.version)));
                parts.push(Part::Quote(format!("{}\n\n -- {}", entry.text, entry.signed)));
            }
        }
        parts
    }
}
