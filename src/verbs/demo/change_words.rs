//! Everything that `parvis demo upgrade` and `rollback` say to a volunteer, in every language they say it in.

use crate::bundle::change::Kind as Way;
use crate::failure::Kind;
use crate::model::language::Language;
use crate::model::language::both;
use crate::screen::size;

/// Something that stops a change of version.
#[derive(Debug)]
pub enum Trouble {
    NoFile,
    SameFolder {
        folder: String,
    },
    OtherStack {
        name: String,
        own: String,
    },
    Older {
        version: String,
        own: String,
    },
    Replaced {
        version: String,
        folder: String,
    },
    OtherVersion {
        version: String,
        folder: String,
    },
    SuccessorGone {
        folder: String,
    },
    UnderWay {
        version: String,
    },
    Journal {
        folder: String,
        cause: String,
    },
    Room {
        needed: u64,
        free: u64,
        folder: String,
    },
    Page {
        words: String,
    },
    PageRefused,
    Undone {
        way: Way,
        from: String,
        to: String,
        cause: String,
    },
    Stuck {
        from: String,
        backup: Option<String>,
        cause: String,
    },
    Unfinished {
        to: String,
        cause: String,
    },
    NoPrevious,
    PreviousGone {
        version: String,
        folder: String,
    },
    LosesData {
        version: String,
        current: String,
    },
    /// A number was named, and nobody knows where that release is.
    NoRegistry {
        version: String,
    },
    NotPublished {
        place: String,
    },
    /// The registry has something else under this number.
    OtherNumber {
        version: String,
        place: String,
    },
    /// The registry has the release, and no bundle of it for this machine.
    NoBundleThere {
        place: String,
    },
    /// What is built here is not that rebuild.
    OtherBuilt {
        version: String,
    },
    /// Nobody signed the new version, or nobody is trusted who could have.
    Unverified {
        unsigned: bool,
        cause: String,
    },
}

impl Trouble {
    /// Returns who has to act.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoPrevious
            | Self::NotPublished { .. }
            | Self::OtherNumber { .. }
            | Self::NoBundleThere { .. }
            | Self::Unverified { unsigned: true, .. } => Kind::No,
            Self::NoFile
            | Self::NoRegistry { .. }
            | Self::OtherBuilt { .. }
            | Self::SameFolder { .. }
            | Self::OtherStack { .. }
            | Self::Older { .. }
            | Self::Replaced { .. }
            | Self::OtherVersion { .. }
            | Self::SuccessorGone { .. }
            | Self::UnderWay { .. }
            | Self::Journal { .. }
            | Self::PreviousGone { .. }
            | Self::LosesData { .. } => Kind::Project,
            Self::Room { .. }
            | Self::Unverified { unsigned: false, .. }
            | Self::Page { .. }
            | Self::PageRefused
            | Self::Undone { .. }
            | Self::Stuck { .. }
            | Self::Unfinished { .. } => Kind::World,
        }
    }

    /// Returns what lies behind it.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Journal { cause, .. }
            | Self::Undone { cause, .. }
            | Self::Stuck { cause, .. }
            | Self::Unverified { cause, .. }
            | Self::Unfinished { cause, .. } => Some(cause.clone()),
            Self::Page { words } => Some(words.clone()),
            _ => None,
        }
    }

    /// Returns the sentence.
    #[expect(clippy::too_many_lines, reason = "one sentence for each trouble, in both languages")]
    pub fn message(&self, language: Language) -> String {
        match self {
            Self::NoFile => both!(language, "no new version was named", "aucune nouvelle version n'est indiquée"),
            Self::NoRegistry { version } => both!(
                language,
                "there is no file `{version}`, and it is not known in which registry the release {version} is",
                "il n'y a pas de fichier `{version}`, et le registre où se trouve la version {version} n'est pas connu"
            ),
            Self::NotPublished { place } => {
                both!(language, "there is no release `{place}`", "il n'y a pas de version `{place}`")
            }
            Self::OtherNumber { version, place } => both!(
                language,
                "refused, E04: `{place}` is signed as the release {version}",
                "refusé, E04 : `{place}` est signé comme version {version}"
            ),
            Self::NoBundleThere { place } => {
                both!(language, "`{place}` has no bundle for this machine", "`{place}` n'a pas de livraison pour cette machine")
            }
            Self::OtherBuilt { version } => both!(
                language,
                "what is built in this project is not the rebuild {version}",
                "ce qui est construit dans ce projet n'est pas la reconstruction {version}"
            ),
            Self::SameFolder { folder } => both!(
                language,
                "the new version is in `{folder}`, from which the present one runs",
                "la nouvelle version est dans `{folder}`, d'où tourne la version actuelle"
            ),
            Self::OtherStack { name, own } => {
                both!(
                    language,
                    "this is a bundle of `{name}`, and `{own}` runs",
                    "c'est une livraison de `{name}`, et c'est `{own}` qui tourne"
                )
            }
            Self::Older { version, own } => both!(
                language,
                "version `{version}` is older than `{own}`, which runs",
                "la version `{version}` est plus ancienne que `{own}`, qui tourne"
            ),
            Self::Replaced { version, folder } => both!(
                language,
                "another version took this one's place: `{version}` in `{folder}`",
                "une autre version a remplacé celle-ci : `{version}` dans `{folder}`"
            ),
            Self::OtherVersion { version, folder } => both!(
                language,
                "the data belong to another version: `{version}` in `{folder}`",
                "les données appartiennent à une autre version : `{version}` dans `{folder}`"
            ),
            Self::SuccessorGone { folder } => both!(
                language,
                "the data went to another version, which is not in `{folder}` any more",
                "les données sont passées à une autre version, qui n'est plus dans `{folder}`"
            ),
            Self::UnderWay { version } => both!(
                language,
                "the change to version `{version}` was interrupted",
                "le passage à la version `{version}` a été interrompu"
            ),
            Self::Journal { folder, .. } => both!(
                language,
                "the change of version noted in `{folder}` cannot be taken up",
                "le changement de version noté dans `{folder}` ne peut pas être repris"
            ),
            Self::Room { needed, free, folder } => {
                let (needed, free) = (size(*needed), size(*free));
                both!(
                    language,
                    "the backup needs about {needed}, and `{folder}` has {free} free",
                    "la sauvegarde demande environ {needed}, et il reste {free} dans `{folder}`"
                )
            }
            Self::Page { .. } => both!(language, "the page does not come", "la page ne s'affiche pas"),
            Self::PageRefused => both!(
                language,
                "the page refuses a password that was good before",
                "la page refuse un mot de passe qui était bon auparavant"
            ),
            Self::Undone { way: Way::Upgrade, from, to, .. } => both!(
                language,
                "the upgrade to `{to}` failed; `{from}` runs again, with its data",
                "la mise à jour vers `{to}` a échoué ; `{from}` tourne de nouveau, avec ses données"
            ),
            Self::Undone { way: Way::Rollback, from, to, .. } => both!(
                language,
                "going back to `{to}` failed; `{from}` runs again, with its data",
                "le retour à `{to}` a échoué ; `{from}` tourne de nouveau, avec ses données"
            ),
            Self::Stuck { from, .. } => both!(
                language,
                "version `{from}` could not be brought back yet",
                "la version `{from}` n'a pas encore pu être rétablie"
            ),
            Self::Unfinished { to, .. } => both!(
                language,
                "version `{to}` runs, but the change is not finished",
                "la version `{to}` tourne, mais le changement n'est pas terminé"
            ),
            Self::NoPrevious => {
                both!(language, "there is no version to go back to", "il n'y a pas de version à laquelle revenir")
            }
            Self::PreviousGone { version, folder } => both!(
                language,
                "version `{version}` is not in `{folder}` any more",
                "la version `{version}` n'est plus dans `{folder}`"
            ),
            Self::LosesData { version, .. } => both!(
                language,
                "going back to `{version}` takes its data along: what was entered since then would be gone",
                "revenir à `{version}` ramène aussi ses données : ce qui a été saisi depuis disparaîtrait"
            ),
            Self::Unverified { unsigned: true, .. } => both!(
                language,
                "nobody signed the new version: whose it is cannot be told",
                "personne n'a signé la nouvelle version : on ne peut pas savoir de qui elle vient"
            ),
            Self::Unverified { unsigned: false, .. } => both!(
                language,
                "whose the new version is cannot be decided: nobody is trusted on this machine",
                "impossible de décider de qui vient la nouvelle version : aucune clé de confiance n'est connue sur cette machine"
            ),
        }
    }

    /// Returns the next step.
    #[expect(clippy::too_many_lines, reason = "one sentence for each trouble, in both languages")]
    pub fn hint(&self, language: Language) -> String {
        match self {
            Self::NoFile => both!(
                language,
                "name the folder or the .tar that you downloaded: `parvis demo upgrade FILE`",
                "indiquez le dossier ou le .tar que vous avez téléchargé : `parvis demo upgrade FICHIER`"
            ),
            Self::NoRegistry { .. } => both!(
                language,
                "name the .tar that you downloaded, or say where it is: `parvis demo upgrade 1.5.0 --in registry.example/parish`",
                "indiquez le .tar que vous avez téléchargé, ou dites où elle est : `parvis demo upgrade 1.5.0 --in registry.example/paroisse`"
            ),
            Self::NotPublished { .. } => both!(
                language,
                "check the number, and the registry that `--in` names",
                "vérifiez le numéro, et le registre qu'indique `--in`"
            ),
            Self::OtherNumber { .. } => {
                both!(language, "do not use it; ask the publisher", "ne l'utilisez pas ; demandez à l'éditeur")
            }
            Self::NoBundleThere { .. } => both!(
                language,
                "download the .tar for this machine, and name that",
                "téléchargez le .tar pour cette machine, et indiquez-le"
            ),
            Self::OtherBuilt { .. } => both!(
                language,
                "the newest rebuild is the one that can be tried; `parvis rebuild` finishes one that was interrupted",
                "seule la dernière reconstruction peut être essayée ; `parvis rebuild` termine celle qui a été interrompue"
            ),
            Self::SameFolder { .. } => both!(
                language,
                "unpack each version into a folder of its own: the present one is needed to go back",
                "dépaquetez chaque version dans son propre dossier : l'actuelle est nécessaire pour revenir en arrière"
            ),
            Self::OtherStack { .. } => both!(
                language,
                "name the demo that is meant with `--bundle FOLDER`",
                "indiquez la démonstration concernée avec `--bundle DOSSIER`"
            ),
            Self::Older { .. } => both!(
                language,
                "to go back to the version before: `parvis demo rollback`",
                "pour revenir à la version précédente : `parvis demo rollback`"
            ),
            Self::Replaced { .. } => both!(
                language,
                "`parvis demo up` without a file starts that one; `parvis demo rollback` goes back",
                "`parvis demo up` sans fichier démarre celle-là ; `parvis demo rollback` revient en arrière"
            ),
            Self::OtherVersion { .. } => both!(
                language,
                "`parvis demo upgrade FILE` changes the version, and keeps the way back open",
                "`parvis demo upgrade FICHIER` change de version, en gardant la possibilité de revenir"
            ),
            Self::SuccessorGone { .. } => both!(
                language,
                "put that folder back; or bring the data of this version back: `parvis demo restore --yes FILE`, with its `backup-before-….tar`",
                "remettez ce dossier à sa place ; ou ramenez les données de cette version : `parvis demo restore --yes FICHIER`, avec son `backup-before-….tar`"
            ),
            Self::UnderWay { .. } => both!(
                language,
                "`parvis demo upgrade` goes on with it, `parvis demo rollback` goes back",
                "`parvis demo upgrade` le reprend, `parvis demo rollback` revient en arrière"
            ),
            Self::Journal { .. } => both!(
                language,
                "put the folders of both versions back as they were, then `parvis demo rollback`",
                "remettez les dossiers des deux versions comme ils étaient, puis `parvis demo rollback`"
            ),
            Self::Room { .. } => {
                both!(language, "free some space, then try again", "libérez de la place, puis recommencez")
            }
            Self::Page { .. } | Self::PageRefused => {
                both!(
                    language,
                    "look what the services say: `parvis demo logs`",
                    "regardez ce que disent les services : `parvis demo logs`"
                )
            }
            Self::Undone { to, .. } => both!(
                language,
                "nothing is lost; show the lines above to whoever gave you `{to}`, or try again later",
                "rien n'est perdu ; montrez les lignes ci-dessus à qui vous a remis `{to}`, ou réessayez plus tard"
            ),
            Self::Stuck { backup: Some(backup), .. } => both!(
                language,
                "mend what is said above, then `parvis demo rollback` tries again; the data are safe in `{backup}`",
                "réparez ce qui est dit ci-dessus, puis `parvis demo rollback` réessaie ; les données sont à l'abri dans `{backup}`"
            ),
            Self::Stuck { backup: None, .. } => both!(
                language,
                "mend what is said above, then `parvis demo rollback` tries again",
                "réparez ce qui est dit ci-dessus, puis `parvis demo rollback` réessaie"
            ),
            Self::Unfinished { .. } => both!(
                language,
                "mend what is said above, then `parvis demo upgrade` finishes it",
                "réparez ce qui est dit ci-dessus, puis `parvis demo upgrade` le termine"
            ),
            Self::NoPrevious => both!(
                language,
                "only an upgrade leaves one, and only the last version is kept",
                "seule une mise à jour en laisse une, et seule la dernière est gardée"
            ),
            Self::PreviousGone { .. } => both!(
                language,
                "put that folder back where it was, or unpack its .tar there again",
                "remettez ce dossier à sa place, ou dépaquetez-y de nouveau son .tar"
            ),
            Self::LosesData { current, .. } => both!(
                language,
                "add `--yes` if that is what you want; what there is now is saved first, beside `{current}`",
                "ajoutez `--yes` si c'est bien ce que vous voulez ; l'état actuel est d'abord sauvegardé, à côté de `{current}`"
            ),
            Self::Unverified { unsigned: true, .. } => both!(
                language,
                "download it again from the publisher's own place; `--unverified` takes it all the same, if you made it yourself",
                "téléchargez-la à nouveau depuis le site de l'éditeur ; `--unverified` la prend malgré tout, si vous l'avez faite vous-même"
            ),
            Self::Unverified { unsigned: false, .. } => both!(
                language,
                "`parvis trust add FILE`, once, with the publisher's key and its fingerprint on paper; `--unverified` goes on without",
                "une fois `parvis trust add FICHIER`, avec la clé de l'éditeur et son empreinte sur papier ; `--unverified` continue sans"
            ),
        }
    }
}

/// Something said along the way or at the end of a change.
#[derive(Debug)]
pub enum Say {
    Begins { from: String, to: String },
    Again { to: String },
    BackAgain { from: String },
    Notice,
    NoNotice,
    Quiet { services: String },
    Saved { file: String, size: u64 },
    NotSaved,
    PageGood,
    PageAsBefore,
    GoingBack { from: String },
    Upgraded { from: String, to: String },
    BackTo { to: String },
    Same { version: String },
    Rollback { moved: bool },
    Forgotten { version: String },
    AskLoss { version: String },
    AskValue { question: String, default: String },
    Verified { product: String, version: String, name: String, key: String },
    VerifiedRebuild { what: String },
    NotVerified { cause: String },
    Fetches { place: String },
    AskUnverified { cause: String, yes: &'static str },
}

impl Say {
    /// Returns the text.
    pub fn text(&self, language: Language) -> String {
        match self {
            Self::Begins { from, to } => both!(language, "from `{from}` to `{to}`", "de `{from}` à `{to}`"),
            Self::Again { to } => both!(
                language,
                "the change to `{to}` was interrupted; it is taken up again",
                "le passage à `{to}` avait été interrompu ; il est repris"
            ),
            Self::BackAgain { from } => both!(
                language,
                "a change of version was interrupted; `{from}` is brought back",
                "un changement de version avait été interrompu ; `{from}` est rétablie"
            ),
            Self::Notice => both!(
                language,
                "visitors read that the site is being worked on",
                "les visiteurs lisent que le site est en cours de mise à jour"
            ),
            Self::NoNotice => both!(
                language,
                "visitors cannot be told by this version; they find the site closed",
                "cette version ne sait pas prévenir les visiteurs ; ils trouvent le site fermé"
            ),
            Self::Quiet { services } => both!(language, "stopped meanwhile: {services}", "arrêtés entre-temps : {services}"),
            Self::Saved { file, size: bytes } => {
                let size = size(*bytes);
                both!(language, "saved to `{file}` ({size})", "sauvegardé dans `{file}` ({size})")
            }
            Self::NotSaved => both!(
                language,
                "what there is now cannot be saved, because the database does not work",
                "l'état actuel ne peut pas être sauvegardé, car la base de données ne fonctionne pas"
            ),
            Self::PageGood => both!(language, "the page comes", "la page s'affiche"),
            Self::PageAsBefore => both!(
                language,
                "the page asks for a password, as before (the first one is not good any more)",
                "la page demande un mot de passe, comme avant (le premier n'est plus valable)"
            ),
            Self::GoingBack { from } => {
                both!(language, "`{from}` is brought back", "la version `{from}` est rétablie")
            }
            Self::Upgraded { from, to } => {
                both!(language, "version `{to}` runs; `{from}` is kept", "la version `{to}` tourne ; `{from}` est gardée")
            }
            Self::BackTo { to } => both!(language, "version `{to}` runs again", "la version `{to}` tourne de nouveau"),
            Self::Same { version } => both!(
                language,
                "this very version `{version}` runs already; nothing was changed",
                "cette même version `{version}` tourne déjà ; rien n'a été modifié"
            ),
            Self::Rollback { moved: false } => both!(
                language,
                "back: `parvis demo rollback` (the data stay)",
                "revenir en arrière : `parvis demo rollback` (les données restent)"
            ),
            Self::Rollback { moved: true } => both!(
                language,
                "back: `parvis demo rollback` (takes the data of before along: this version changed them)",
                "revenir en arrière : `parvis demo rollback` (ramène les données d'avant : cette version les a transformées)"
            ),
            Self::Forgotten { version } => both!(
                language,
                "version `{version}` is not kept any longer: its images and files are removed",
                "la version `{version}` n'est plus gardée : ses images et ses fichiers sont supprimés"
            ),
            Self::AskLoss { version } => both!(
                language,
                "going back to `{version}` takes its data along: what was entered since then is gone from the site\ntype `{version}` to agree:",
                "revenir à `{version}` ramène aussi ses données : ce qui a été saisi depuis disparaît du site\ntapez `{version}` pour accepter :"
            ),
            Self::AskValue { question, default } => both!(language, "{question} [{default}]", "{question} [{default}]"),
            Self::Verified { product, version, name, key } => both!(
                language,
                "genuine: {product} {version}, signed by {name} ({key})",
                "authentique : {product} {version}, signé par {name} ({key})"
            ),
            Self::VerifiedRebuild { what } => both!(language, "genuine: {what}", "authentique : {what}"),
            Self::Fetches { place } => both!(
                language,
                "fetching what the present version lacks from {place}",
                "récupération depuis {place} de ce qui manque à la version actuelle"
            ),
            Self::NotVerified { cause } => {
                both!(language, "goes on unverified ({cause})", "continue sans vérification ({cause})")
            }
            Self::AskUnverified { cause, yes } => both!(
                language,
                "whose the new version is cannot be told: {cause}\ntype `{yes}` if you know where it is from:",
                "on ne peut pas savoir de qui vient la nouvelle version : {cause}\ntapez `{yes}` si vous savez d'où elle vient :"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::words::Problem;
    use super::*;

    fn troubles() -> Vec<Trouble> {
        let text = |text: &str| text.to_owned();
        let undone = |way| Trouble::Undone { way, from: text("1.4.0"), to: text("1.5.0"), cause: text("cause") };
        vec![
            Trouble::NoFile,
            Trouble::NoRegistry { version: text("1.5.0") },
            Trouble::NotPublished { place: text("r.example/p/release:1.5.0") },
            Trouble::OtherNumber { version: text("1.6.0"), place: text("r.example/p/release:1.5.0") },
            Trouble::NoBundleThere { place: text("r.example/p/release:1.5.0") },
            Trouble::OtherBuilt { version: text("1.4.0-sec.1") },
            Trouble::SameFolder { folder: text("/p") },
            Trouble::OtherStack { name: text("a"), own: text("b") },
            Trouble::Older { version: text("1.3.0"), own: text("1.4.0") },
            Trouble::Replaced { version: text("1.5.0"), folder: text("/p") },
            Trouble::OtherVersion { version: text("1.4.0"), folder: text("/p") },
            Trouble::SuccessorGone { folder: text("/p") },
            Trouble::UnderWay { version: text("1.5.0") },
            Trouble::Journal { folder: text("/p"), cause: text("cause") },
            Trouble::Room { needed: 2_000_000_000, free: 1_000_000, folder: text("/p") },
            Trouble::Page { words: text("the answer is 500") },
            Trouble::PageRefused,
            undone(Way::Upgrade),
            undone(Way::Rollback),
            Trouble::Stuck { from: text("1.4.0"), backup: Some(text("/p/b.tar")), cause: text("cause") },
            Trouble::Stuck { from: text("1.4.0"), backup: None, cause: text("cause") },
            Trouble::Unfinished { to: text("1.5.0"), cause: text("cause") },
            Trouble::NoPrevious,
            Trouble::PreviousGone { version: text("1.4.0"), folder: text("/p") },
            Trouble::LosesData { version: text("1.4.0"), current: text("/p") },
            Trouble::Unverified { unsigned: true, cause: text("cause") },
            Trouble::Unverified { unsigned: false, cause: text("cause") },
        ]
    }

    #[test]
    fn every_trouble_is_told_in_every_language() {
        let mut shown = String::new();
        for (one, other) in troubles().into_iter().zip(troubles()) {
            let failures = [Problem::Change(one).failure(Language::English), Problem::Change(other).failure(Language::French)];
            assert_ne!(failures[0].message(), failures[1].message());
            for failure in &failures {
                let message = failure.message();
                assert!(!message.ends_with(['.', ' ']) && !message.contains('{') && message.len() > 10, "{message}");
                let labels = failure.labels();
                let _ = writeln!(shown, "{} {message}", labels.error);
                let _ = writeln!(shown, "{} {}", labels.hint, failure.hint_text().unwrap());
            }
        }
        insta::assert_snapshot!("troubles", shown);
    }

    #[test]
    fn every_word_on_the_way_is_told_in_every_language() {
        let text = |text: &str| text.to_owned();
        let said = [
            Say::Begins { from: text("1.4.0"), to: text("1.5.0") },
            Say::Again { to: text("1.5.0") },
            Say::BackAgain { from: text("1.4.0") },
            Say::Notice,
            Say::NoNotice,
            Say::Quiet { services: text("web, cron") },
            Say::Saved { file: text("/p/b.tar"), size: 12_000_000 },
            Say::NotSaved,
            Say::PageGood,
            Say::PageAsBefore,
            Say::GoingBack { from: text("1.4.0") },
            Say::Upgraded { from: text("1.4.0"), to: text("1.5.0") },
            Say::BackTo { to: text("1.4.0") },
            Say::Same { version: text("1.5.0") },
            Say::Rollback { moved: false },
            Say::Rollback { moved: true },
            Say::Forgotten { version: text("1.3.0") },
            Say::AskLoss { version: text("1.4.0") },
            Say::AskValue { question: text("Which port?"), default: text("8443") },
            Say::Verified { product: text("parish"), version: text("1.5.0"), name: text("maker"), key: text("ABCD") },
            Say::VerifiedRebuild { what: text("1.5.0-sec.1: rebuilt") },
            Say::NotVerified { cause: text("cause") },
            Say::Fetches { place: text("registry.example/parish") },
            Say::AskUnverified { cause: text("cause"), yes: "yes" },
        ];
        let mut shown = String::new();
        for (say, language) in said.iter().flat_map(|say| Language::ALL.map(|language| (say, language))) {
            let text = say.text(language);
            assert!(!text.is_empty() && !text.contains('{'), "{text}");
            let _ = writeln!(shown, "{}: {text}", language.code());
        }
        insta::assert_snapshot!("said", shown);
    }
}
