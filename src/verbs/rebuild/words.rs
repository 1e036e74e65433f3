//! Everything that `parvis rebuild` says to a volunteer, in every language it says it in.

use std::collections::BTreeSet;

use super::report::Part;
use super::upstream::Upstream;
use super::{Done, Intention, Rebuilt};
use crate::failure::Failure;
use crate::image::accounts::AccountChange;
use crate::model::language::Language;
use crate::model::name::{Architecture, ImageName};
use crate::model::number::Number;
use crate::model::rebuild::Name;
use crate::plan::news::Upload;
use crate::trust::verdict::{GoodRelease, Signer};
use crate::verbs::changelogs::{Account, urgency};
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

    fn bytes(self, bytes: u64) -> String {
        self.0.size(bytes)
    }

    pub fn finishes(self, name: &Name) -> String {
        self.say(
            format!("the rebuild {name} was interrupted at its very end: finishing it"),
            format!("la reconstruction {name} a été interrompue tout à la fin : elle est terminée maintenant"),
        )
    }

    pub fn is_released(self, number: Number) -> Failure {
        self.failure(
            Failure::project,
            (format!("`parvis.lock` is that of the release {number}"), format!("`parvis.lock` est celui de la version {number}")),
            ("leave out `--unreleased`: its signature is verified", "sans `--unreleased`, sa signature est vérifiée"),
        )
    }

    pub fn other_release(self, asked: Number, is: Number) -> Failure {
        in_language(
            Failure::project(self.say(
                format!("`parvis.lock` is of `{is}`, not of `{asked}`"),
                format!("`parvis.lock` est de `{is}`, pas de `{asked}`"),
            ))
            .hint(self.say(
                format!("check out the version `{asked}` of the project, then run `parvis rebuild`"),
                format!("placez-vous sur la version `{asked}` du projet, puis lancez `parvis rebuild`"),
            )),
            self.0,
        )
    }

    pub fn is_candidate(self, number: Number) -> Failure {
        self.failure(
            Failure::project,
            (
                format!("{number} is a candidate, and no release"),
                format!("{number} est une version candidate, pas une version publiée"),
            ),
            ("rebuild the release that it became", "reconstruisez la version qu’elle est devenue"),
        )
    }

    pub fn no_release(self) -> Failure {
        self.failure(
            Failure::world,
            (
                "could not decide whether this is genuine: `parvis.lock` is that of no release known here".into(),
                "impossible de décider si c’est authentique : `parvis.lock` n’est celui d’aucune version connue ici".into(),
            ),
            (
                "name the release: its number, or the download (`.tar`) or folder that you have of it; where the project was never released, \
                 `--unreleased` says so",
                "indiquez la version : son numéro, ou le téléchargement (`.tar`) ou dossier que vous en avez ; si le projet n’a jamais été \
                 publié, `--unreleased` le dit",
            ),
        )
    }

    pub fn no_statement(self, number: Number, place: &str) -> Failure {
        self.failure(
            Failure::world,
            (
                format!(
                    "could not decide, E01: no signed statement on the release {number} is at hand (`{place}` was looked for)"
                ),
                format!(
                    "impossible de décider, E01 : aucune déclaration signée de la version {number} (`{place}` a été cherché)"
                ),
            ),
            (
                "name the download that you have of it, or a registry with `--kept-in`",
                "indiquez le téléchargement que vous en avez, ou un registre avec `--kept-in`",
            ),
        )
    }

    pub fn nobody_trusted(self, failure: Failure) -> Failure {
        let hint = self.say(
            "compare the publisher's fingerprint with the one that you have on paper, then `parvis trust add FILE` with their key, once",
            "comparez l’empreinte de l’éditeur avec celle que vous avez sur papier, puis une fois `parvis trust add FICHIER` avec sa clé",
        );
        in_language(failure.hint(hint), self.0)
    }

    pub fn about_else(self, found: &str) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("refused, E04: the statement is about something else: `{found}`"),
                format!("refusé, E04 : la déclaration porte sur autre chose : `{found}`"),
            ),
            ("do not use it; ask the publisher", "ne l’utilisez pas ; demandez à l’éditeur"),
        )
    }

    pub fn other_lock(self, version: Number) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("refused, E04: `parvis.lock` is not the one that was signed with the release {version}"),
                format!("refusé, E04 : `parvis.lock` n’est pas celui qui a été signé avec la version {version}"),
            ),
            (
                "check out the project at that version; what was rebuilt before is known by the folder `rebuilds/`",
                "placez-vous sur cette version du projet ; ce qui a été reconstruit avant se reconnaît au dossier `rebuilds/`",
            ),
        )
    }

    pub fn other_recipes(self, version: Number, files: &str) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("refused, E03: these files are not as they were when {version} was signed: {files}"),
                format!("refusé, E03 : ces fichiers ne sont pas tels qu’à la signature de {version} : {files}"),
            ),
            (
                "check out the project at that version; what you changed on purpose is another version, which `parvis release` makes",
                "placez-vous sur cette version du projet ; ce que vous avez changé exprès est une autre version, que fait `parvis release`",
            ),
        )
    }

    pub fn other_base(self, image: &str, signed: &str, built: &str) -> Failure {
        self.failure(
            Failure::no,
            (
                format!("refused, E03: `{image}`, built from what is here, is not what was signed: `{signed}` was, this is `{built}`"),
                format!("refusé, E03 : `{image}`, construite à partir d’ici, n’est pas ce qui a été signé : `{signed}` l’a été, ceci est `{built}`"),
            ),
            (
                "check out the project at the version of the release, with the parvis that it names in `releases/`",
                "placez-vous sur la version publiée du projet, avec le parvis indiqué dans `releases/`",
            ),
        )
    }

    pub fn not_named(self, image: &str) -> Failure {
        self.unlike_signed(
            format!("refused, E03: `{image}` is an image of the project here, and what was signed does not name it"),
            format!("refusé, E03 : `{image}` est ici une image du projet, et ce qui a été signé ne la nomme pas"),
        )
    }

    pub fn gone(self, image: &str) -> Failure {
        self.unlike_signed(
            format!("refused, E09: `{image}` was signed, and is no image of the project here"),
            format!("refusé, E09 : `{image}` a été signée, et n’est pas une image du projet ici"),
        )
    }

    fn unlike_signed(self, english: String, french: String) -> Failure {
        self.failure(
            Failure::no,
            (english, french),
            ("check out the project at the version of the release", "placez-vous sur la version publiée du projet"),
        )
    }

    pub fn platform_unsigned(self, platform: &Architecture) -> String {
        self.say(
            format!("nobody signed images of {platform} before: they are made of the signed lock, and compared with nothing else"),
            format!("personne n’a signé d’images {platform} auparavant : elles sont faites d’après le verrou signé, sans autre comparaison"),
        )
    }

    pub fn no_commit(self, commit: &str) -> String {
        self.say(
            format!("the signed commit {commit}… is not at hand here: the images are compared with what was signed instead"),
            format!("le commit signé {commit}… n’est pas ici : ce sont les images qui sont comparées à ce qui a été signé"),
        )
    }

    pub fn verified(self, good: &GoodRelease) -> String {
        let (release, signer) = (&good.release, &good.signer);
        let (product, version, day) = (&release.product, release.version, release.issued.day());
        self.say(
            format!("it starts from {product} {version} of {day}, signed by {} ({})", signer.name, signer.key),
            format!("elle part de {product} {version} du {day}, signée par {} ({})", signer.name, signer.key),
        )
    }

    /// Says on which earlier rebuild this one stands.
    pub fn goes_on_from(self, name: Name, signer: Option<&Signer>) -> String {
        match signer {
            Some(Signer { name: by, key, .. }) => self.say(
                format!("it goes on from the rebuild {name}, signed by {by} ({key})"),
                format!("elle continue la reconstruction {name}, signée par {by} ({key})"),
            ),
            None => self.say(
                format!("it goes on from the rebuild {name}, which nobody signed"),
                format!("elle continue la reconstruction {name}, que personne n’a signée"),
            ),
        }
    }

    /// Says what can be done where an earlier rebuild is not good.
    pub fn bad_chain(self, failure: Failure) -> Failure {
        let hint = self.say(
            "restore the folder `rebuilds/` from version control. If another volunteer of your parish signed it, compare the fingerprint with \
             theirs, then `parvis trust add` with the `parish.pub` beside it, once. If nobody signed it and you know why, `--unsigned` goes on",
            "restaurez le dossier `rebuilds/` depuis votre dépôt. Si un autre bénévole de votre paroisse a signé, comparez l’empreinte avec la \
             sienne, puis une fois `parvis trust add` avec le `parish.pub` qui se trouve à côté. Si personne n’a signé et que vous savez pourquoi, \
             `--unsigned` continue",
        );
        in_language(failure.hint(hint), self.0)
    }

    pub fn left_out(self, platforms: &[Architecture]) -> String {
        let listed = platforms.iter().map(Architecture::as_str).collect::<Vec<_>>().join(", ");
        self.say(
            format!("left out, because this machine cannot run its programs: {listed} (`qemu-user-static` changes that)"),
            format!("laissé de côté, car cette machine ne peut pas en exécuter les programmes : {listed} (`qemu-user-static` y remédie)"),
        )
    }

    pub fn no_platform(self) -> Failure {
        self.failure(
            Failure::world,
            (
                "this machine can run the programs of none of the project's architectures".into(),
                "cette machine ne peut exécuter les programmes d’aucune des architectures du projet".into(),
            ),
            ("install `qemu-user-static`, or use another machine", "installez `qemu-user-static`, ou prenez une autre machine"),
        )
    }

    pub fn untested(self, platform: &Architecture) -> String {
        self.say(
            format!("the images for {platform} are not tested: this machine is another"),
            format!("les images pour {platform} ne sont pas testées : cette machine est d’une autre sorte"),
        )
    }

    fn untested_report(self, platform: &Architecture) -> String {
        self.say(
            format!("Whether the images for {platform} do what they should: they were built and compared, and not tested, because the machine that made them is another."),
            format!("Si les images pour {platform} fonctionnent : elles ont été construites et comparées, mais pas essayées, car la machine qui les a faites est d’une autre sorte."),
        )
    }

    pub fn takes_kept(self, why: &str, place: &str) -> String {
        self.say(
            format!("{why}: taking what the release kept in {place}"),
            format!("{why} : on prend ce que la version a conservé dans {place}"),
        )
    }

    pub fn new_key(self, folder: &str) -> String {
        self.say(
            format!("your parish has no key yet: one is made in {folder}; keep its passphrase well"),
            format!("votre paroisse n’a pas encore de clé : elle est créée dans {folder} ; conservez bien sa phrase secrète"),
        )
    }

    pub fn unsigned(self) -> String {
        self.say(
            "nobody is there to type a passphrase: the rebuild will not be signed",
            "personne n’est là pour taper une phrase secrète : la reconstruction ne sera pas signée",
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
                let urgency = urgency(account.urgency(), self.0);
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

    /// Tells of accounts that announced packages made, changed or make no longer, each once.
    fn accounts(self, done: &Done) -> Vec<String> {
        let changes: BTreeSet<&AccountChange> = done.images.iter().flat_map(|image| &image.proof.accounts).collect();
        changes.into_iter().map(|change| self.account(change)).collect()
    }

    fn account(self, AccountChange { name, kind, is_group, id, package }: &AccountChange) -> String {
        match (*kind, is_group) {
            ("added", false) => self.say(
                format!("`{package}` makes the new account `{name}` (number {id}); no password opens it"),
                format!("`{package}` crée le nouveau compte `{name}` (numéro {id}) ; aucun mot de passe ne l’ouvre"),
            ),
            ("added", true) => self.say(
                format!("`{package}` makes the new group `{name}` (number {id})"),
                format!("`{package}` crée le nouveau groupe `{name}` (numéro {id})"),
            ),
            ("removed", false) => self.say(
                format!("`{package}` does not make the account `{name}` (number {id}) any more"),
                format!("`{package}` ne crée plus le compte `{name}` (numéro {id})"),
            ),
            ("removed", true) => self.say(
                format!("`{package}` does not make the group `{name}` (number {id}) any more"),
                format!("`{package}` ne crée plus le groupe `{name}` (numéro {id})"),
            ),
            (_, false) => self.say(
                format!("`{package}` changes the account `{name}` (number {id})"),
                format!("`{package}` modifie le compte `{name}` (numéro {id})"),
            ),
            (_, true) => self.say(
                format!("`{package}` changes the group `{name}` (number {id}) or who is in it"),
                format!("`{package}` modifie le groupe `{name}` (numéro {id}) ou ses membres"),
            ),
        }
    }

    /// Says on which of the platforms a source moves, where it is not all of them; the text goes on a line.
    fn only_on(self, upload: &Upload, platforms: &[Architecture]) -> String {
        let on: BTreeSet<&str> = upload.packages.iter().map(|moved| moved.to.architecture.as_str()).collect();
        if on.contains("all") || platforms.iter().all(|platform| on.contains(platform.as_str())) {
            return String::new();
        }
        let on = on.into_iter().collect::<Vec<_>>().join(", ");
        self.say(format!(" (only for {on})"), format!(" (seulement pour {on})"))
    }

    fn images(images: &[ImageName]) -> String {
        images.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ")
    }

    pub fn intention(self, intention: &Intention) -> Vec<String> {
        let Intention { name, moves, accounts, touched, untouched, fetch, waiting, .. } = intention;
        let mut lines = vec![self.say(format!("This will change ({name}):"), format!("Voici ce qui va changer ({name}) :"))];
        for (upload, account) in moves.uploads.iter().zip(accounts) {
            lines.push(format!("  {} {}", upload.source, Self::from_to(upload)));
            lines.push(format!("    {}", self.why(upload, account)));
            let (images, only) = (Self::images(&upload.images), self.only_on(upload, &intention.platforms));
            lines.push(self.say(format!("    in {images}{only}"), format!("    dans {images}{only}")));
        }
        for (package, _, version) in &moves.removed {
            lines.push(self.say(
                format!("  {package} {version} is no longer needed"),
                format!("  {package} {version} n’est plus nécessaire"),
            ));
        }
        lines.push(self.say(
            format!(
                "to download: {}; images built anew: {} of {}",
                self.bytes(*fetch),
                touched.len(),
                touched.len() + untouched.len()
            ),
            format!(
                "à télécharger : {} ; images reconstruites : {} sur {}",
                self.bytes(*fetch),
                touched.len(),
                touched.len() + untouched.len()
            ),
        ));
        if intention.platforms.len() > 1 {
            let listed = intention.platforms.iter().map(Architecture::as_str).collect::<Vec<_>>().join(", ");
            lines.push(self.say(format!("for the architectures {listed}"), format!("pour les architectures {listed}")));
        }
        lines.extend(self.waiting(*waiting));
        lines
    }

    pub fn done(self, done: &Done, signed: Option<&str>, place: &str) -> Vec<String> {
        let (fresh, all) = done.bytes();
        let (name, tests) = (&done.intention.name, done.tests.len());
        let mut lines = vec![
            String::new(),
            self.say(
                format!("{name} is built: {tests} tests passed, and nothing changed but what is listed above"),
                format!("{name} est construite : {tests} tests réussis, et rien n’a changé hors de la liste ci-dessus"),
            ),
            self.say(
                format!("to download, for whoever has the version before: {} of {}", self.bytes(fresh), self.bytes(all)),
                format!("à télécharger, pour qui a la version précédente : {} sur {}", self.bytes(fresh), self.bytes(all)),
            ),
            self.say(format!("report: {place}/report.html"), format!("rapport : {place}/rapport.html")),
            signed.map_or_else(
                || self.say("it is not signed", "elle n’est pas signée"),
                |key| self.say(format!("signed by your key {key}"), format!("signée par votre clé {key}")),
            ),
            self.say(
                format!("next: `parvis demo upgrade {name}` on the machine of the site, then keep the folder `rebuilds/` and `parvis.lock` in version control"),
                format!("ensuite : `parvis demo upgrade {name}` sur la machine du site, puis conservez le dossier `rebuilds/` et `parvis.lock` dans votre dépôt"),
            ),
        ];
        lines.splice(2..2, self.accounts(done).into_iter().map(|line| format!("  {line}")));
        lines
    }

    fn starts_from(self, upstream: &Upstream) -> String {
        match upstream {
            Upstream::Never => self.say(
                "It starts from a state of the project that was never released: there was no signature to verify.",
                "Elle part d’un état du projet qui n’a jamais été publié : il n’y avait pas de signature à vérifier.",
            ),
            Upstream::Release(good) => {
                let (product, version, day) = (&good.release.product, good.release.version, good.release.issued.day());
                let (key, statement) = (&good.signer.key, &good.statement);
                self.say(
                    format!("It starts from {product} {version} of {day}, whose signature (key {key}, statement `{statement}`) was verified, and whose images were built again and compared."),
                    format!("Elle part de {product} {version} du {day}, dont la signature (clé {key}, déclaration `{statement}`) a été vérifiée, et dont les images ont été refaites et comparées."),
                )
            }
        }
    }

    /// Returns in one sentence how many fixes there are, how urgent they are, and whether the images work.
    fn in_short(self, done: &Done) -> String {
        let Intention { moves, accounts, touched, untouched, .. } = &done.intention;
        let fixes: Vec<&Result<Account, String>> =
            moves.uploads.iter().zip(accounts).filter(|(upload, _)| upload.security).map(|(_, account)| account).collect();
        let read = || fixes.iter().filter_map(|account| account.as_ref().ok());
        let highest = urgency(read().map(Account::urgency).max().unwrap_or_default(), self.0);
        let holes: BTreeSet<String> = read().flat_map(Account::holes).collect();
        let (count, closed, tests) = (fixes.len(), holes.len(), done.tests.len());
        let (built, all) = (touched.len(), touched.len() + untouched.len());
        self.say(
            format!(
                "In short: security fixes: {count} (highest urgency: {highest}); holes that they name as closed: {closed}; images built anew: {built} of {all}; tests passed: {tests}."
            ),
            format!(
                "En bref : correctifs de sécurité : {count} (urgence la plus haute : {highest}) ; failles qu’ils déclarent corrigées : {closed} ; images reconstruites : {built} sur {all} ; essais réussis : {tests}."
            ),
        )
    }

    /// Returns what a volunteer does now, in this order.
    fn next_steps(self, done: &Done) -> Vec<String> {
        let name = &done.intention.name;
        vec![
            self.say(
                format!("Where the site runs on this machine: `parvis demo upgrade {name}`. It saves everything first; without a site, `parvis demo up` starts one."),
                format!("Si le site tourne sur cette machine : `parvis demo upgrade {name}`. Tout est d’abord sauvegardé ; sans site, `parvis demo up` en démarre un."),
            ),
            self.say(
                format!("Keep it: `git add parvis.lock rebuilds`, then `git commit -m {name}`."),
                format!("Conservez-la : `git add parvis.lock rebuilds`, puis `git commit -m {name}`."),
            ),
            self.say(
                format!("Where your site takes its images from a registry: `parvis push --tag {name}`. Others check with `parvis verify` whose it is."),
                format!("Si votre site prend ses images dans un registre : `parvis push --tag {name}`. Les autres vérifient avec `parvis verify` de qui elle vient."),
            ),
            self.say(
                "If something does not work: `parvis demo rollback` brings the version before back. To undo the rebuild itself, restore the `parvis.lock` of before (`git checkout HEAD~1 -- parvis.lock` after the second step), run `parvis build`, \
                 and tell the maintainers.",
                "Si quelque chose ne va pas : `parvis demo rollback` rétablit la version précédente. Pour annuler la reconstruction elle-même, restaurez le `parvis.lock` précédent (`git checkout HEAD~1 -- parvis.lock` après la deuxième étape), lancez \
                 `parvis build`, et prévenez les responsables du projet.",
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
            Part::Text(self.in_short(done)),
        ];
        parts.push(Part::Heading(self.say("What to do next", "Que faire ensuite")));
        parts.push(Part::Steps(self.next_steps(done)));
        parts.push(Part::Heading(self.say("What it starts from", "De quoi elle part")));
        parts.push(Part::Text(self.starts_from(&done.intention.upstream)));
        if !done.intention.left_out.is_empty() {
            parts.push(Part::Text(self.left_out(&done.intention.left_out)));
        }
        parts.push(Part::Heading(self.say("What changes, and why", "Ce qui change, et pourquoi")));
        let item = |(upload, account): (&Upload, &Result<Account, String>)| {
            let (why, only) = (self.why(upload, account), self.only_on(upload, &done.intention.platforms));
            self.say(
                format!("`{}` {}: {why}{only}", upload.source, Self::from_to(upload)),
                format!("`{}` {} : {why}{only}", upload.source, Self::from_to(upload)),
            )
        };
        let mut items: Vec<String> = moves.uploads.iter().zip(accounts).map(item).collect();
        items.extend(moves.removed.iter().map(|(package, _, version)| {
            self.say(format!("`{package}` {version}: no longer needed"), format!("`{package}` {version} : plus nécessaire"))
        }));
        items.extend(self.accounts(done));
        parts.push(Part::List(items));
        parts.push(Part::Heading(self.say("Images", "Images")));
        let head = [
            ("image", "image"),
            ("packages that changed", "paquets changés"),
            ("to download", "à télécharger"),
            ("size", "taille"),
            ("digest", "empreinte"),
        ];
        let several = done.intention.platforms.len() > 1;
        let row = |image: &Rebuilt| {
            vec![
                if several { format!("{} ({})", image.name, image.platform) } else { image.name.to_string() },
                image.changed.len().to_string(),
                self.bytes(image.fresh),
                self.bytes(image.after.record.size()),
                format!("`{}`", image.after.record.manifest),
            ]
        };
        parts.push(Part::Table(
            head.iter().map(|(english, french)| self.say(*english, *french)).collect(),
            done.images.iter().map(row).collect(),
        ));
        parts.push(Part::Text(self.say(
            format!(
                "To download in all, for whoever has the version before: {}, where these images have {}.",
                self.bytes(fresh),
                self.bytes(all)
            ),
            format!(
                "À télécharger en tout, pour qui a la version précédente : {}, sur {} pour ces images.",
                self.bytes(fresh),
                self.bytes(all)
            ),
        )));
        let indexes = done.indexes.iter().filter(|(name, _)| !untouched.contains(name));
        let rows: Vec<Vec<String>> = indexes.map(|(name, digest)| vec![name.to_string(), format!("`{digest}`")]).collect();
        if !rows.is_empty() {
            parts.push(Part::Text(self.say(
                "What a registry knows each of them by, all architectures together:",
                "Ce par quoi un registre connaît chacune, toutes architectures réunies :",
            )));
            parts.push(Part::Table(vec![self.say("image", "image"), self.say("digest", "empreinte")], rows));
        }
        if !untouched.is_empty() {
            let images = Self::images(untouched);
            parts.push(Part::Text(
                self.say(format!("Unchanged, to the digest: {images}."), format!("Inchangées, jusqu’à l’empreinte : {images}.")),
            ));
        }
        parts.push(Part::Heading(self.say("What was checked", "Ce qui a été vérifié")));
        let scripts: BTreeSet<&String> = done.images.iter().flat_map(|image| &image.proof.by_scripts).collect();
        let checked = vec![
            self.say(
                format!("{} tests of the rebuilt images passed.", done.tests.len()),
                format!("{} tests des images reconstruites ont réussi.", done.tests.len()),
            ),
            self.say(
                "Every file that differs belongs to a package that is listed above, to the package database, or is made by a script of a package.",
                "Chaque fichier qui diffère appartient à un paquet de la liste ci-dessus, à la base des paquets, ou est produit par un script de paquet.",
            ),
        ];
        parts.push(Part::List(checked));
        if !scripts.is_empty() {
            let count = scripts.len();
            let title =
                self.say(format!("Made anew by scripts: {count} files"), format!("Refaits par des scripts : {count} fichiers"));
            parts.push(Part::Fold(title, scripts.into_iter().map(|path| format!("`{path}`")).collect()));
        }
        parts.push(Part::Heading(self.say("What is not known", "Ce que l’on ne sait pas")));
        let mut unknown: Vec<String> = done.untested.iter().map(|platform| self.untested_report(platform)).collect();
        unknown.extend([
            self.say(
                "The holes are those that Debian’s changelogs name. One that no changelog names may have been closed as well, or may still be open.",
                "Les failles sont celles que citent les journaux de Debian. Une faille qu’aucun journal ne cite peut avoir été corrigée, ou être encore ouverte.",
            ),
            self.say(
                "Who stands by this rebuild: the signature is in `rebuild.sigstore.json` beside this report; where that file is missing, nobody signed.",
                "Qui en répond : la signature est dans `rebuild.sigstore.json`, à côté de ce rapport ; si ce fichier manque, personne n’a signé.",
            ),
        ]);
        parts.push(Part::List(unknown));
        parts.push(Part::Heading(self.say("What Debian says", "Ce qu’en dit Debian (en anglais)")));
        for (upload, account) in moves.uploads.iter().zip(accounts) {
            for entry in account.iter().flat_map(|account| &account.entries) {
                let distributions = entry.distributions.join(" ");
                parts.push(Part::Quote {
                    title: format!("`{}` {} ({distributions})", upload.source, entry.version),
                    text: format!("{}\n\n -- {}", entry.text, entry.signed),
                });
            }
        }
        parts
    }
}
