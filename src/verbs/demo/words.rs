//! Everything that `parvis demo` says to a volunteer, in every language it says it in.

use super::change_words::Trouble;
use super::sealing::Obstacle;
use crate::edge::engine::EngineError;
use crate::failure::{Failure, Kind};
use crate::model::language::{Language, both};
use crate::screen::size;
pub use crate::verbs::in_language;

/// Something that stops a command.
#[derive(Debug)]
pub enum Problem {
    NoBundle,
    Gone { path: String },
    NotABundle { path: String },
    Manifest { cause: String },
    Altered { file: String },
    Missing { file: String },
    Settings { line: usize },
    ProjectName { value: String },
    Port { variable: String, value: String },
    Busy,
    Engine(EngineError),
    Old { program: String, version: String, least: String },
    Architecture { engine: String, bundle: String },
    System { system: String },
    Room { needed: u64, free: u64, folder: String },
    PortTaken { address: String, port: u16, variable: String, other: Option<u16> },
    NoImages { images: String },
    Images { cause: String },
    WrongImage { image: String },
    Job { name: String, code: Option<i32> },
    Start { name: String },
    Stopped { name: String, code: i64 },
    Unhealthy { name: String, words: Option<String> },
    Late { name: String, seconds: u64 },
    NotRunning,
    Unwell { services: String },
    NoData,
    NoPassword,
    UnknownService { name: String, known: String },
    Confirm,
    Refused,
    FileExists { file: String },
    NothingToSave,
    Backup { file: String, cause: String },
    OtherBundle { file: String, name: String, own: String },
    DataThere,
    File { action: &'static str, path: String, cause: String, absent: bool, full: bool },
    Unpacked { folder: String },
    Empty { what: String },
    HalfRestored { file: String },
    NotAsSaved { file: String },
    Sealed(Obstacle),
    Change(Trouble),
}

impl Problem {
    /// Returns who has to act.
    const fn kind(&self) -> Kind {
        match self {
            Self::WrongImage { .. }
            | Self::NotAsSaved { .. }
            | Self::NotRunning
            | Self::Unwell { .. }
            | Self::NoData
            | Self::Refused => Kind::No,
            Self::NoBundle
            | Self::Gone { .. }
            | Self::NotABundle { .. }
            | Self::Manifest { .. }
            | Self::Altered { .. }
            | Self::Missing { .. }
            | Self::Settings { .. }
            | Self::ProjectName { .. }
            | Self::Port { .. }
            | Self::NoImages { .. }
            | Self::Images { .. }
            | Self::UnknownService { .. }
            | Self::Confirm
            | Self::FileExists { .. }
            | Self::NothingToSave
            | Self::NoPassword
            | Self::Backup { .. }
            | Self::OtherBundle { .. }
            | Self::DataThere
            | Self::Unpacked { .. }
            | Self::HalfRestored { .. }
            | Self::Sealed(_) => Kind::Project,
            Self::Change(trouble) => trouble.kind(),
            Self::File { absent, .. } => {
                if *absent {
                    Kind::Project
                } else {
                    Kind::World
                }
            }
            _ => Kind::World,
        }
    }

    /// Returns the failure that a person reads.
    pub fn failure(self, language: Language) -> Failure {
        let message = self.message(language);
        let failure = match self.kind() {
            Kind::No => Failure::no(message),
            Kind::Project => Failure::project(message),
            Kind::World => Failure::world(message),
            Kind::Bug => Failure::bug(message),
        };
        let failure = failure.maybe_hint(self.hint(language)).maybe_because(self.cause());
        in_language(failure, language)
    }

    fn cause(&self) -> Option<String> {
        match self {
            Self::Manifest { cause } | Self::Images { cause } | Self::Backup { cause, .. } | Self::File { cause, .. } => {
                Some(cause.clone())
            }
            Self::Unhealthy { words, .. } => words.clone(),
            Self::Change(trouble) => trouble.cause(),
            Self::Engine(EngineError::Failed { words, .. } | EngineError::Unreadable { words, .. }) => Some(words.clone()),
            Self::Engine(error) => std::error::Error::source(error).map(ToString::to_string),
            _ => None,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one sentence for each problem")]
    fn message(&self, language: Language) -> String {
        match self {
            Self::NoBundle => both!(language, "there is no bundle here", "il n'y a pas de livraison ici"),
            Self::Gone { path } => both!(
                language,
                "the bundle that was started last is not in `{path}` any more",
                "la livraison démarrée en dernier n'est plus dans `{path}`"
            ),
            Self::NotABundle { path } => both!(
                language,
                "`{path}` is not a bundle: it holds no `bundle.json`",
                "`{path}` n'est pas une livraison : il ne contient pas de `bundle.json`"
            ),
            Self::Manifest { .. } => both!(language, "`bundle.json` cannot be used", "`bundle.json` est inutilisable"),
            Self::Altered { file } => both!(
                language,
                "`{file}` is not the file that came with the bundle",
                "`{file}` n'est pas le fichier livré : il a été modifié"
            ),
            Self::Missing { file } => {
                both!(language, "the bundle lacks its file `{file}`", "il manque à la livraison le fichier `{file}`")
            }
            Self::Settings { line } => both!(
                language,
                "line {line} of `.env` is neither `NAME=value` nor a comment",
                "la ligne {line} de `.env` n'est ni `NOM=valeur` ni un commentaire"
            ),
            Self::ProjectName { value } => both!(
                language,
                "`COMPOSE_PROJECT_NAME={value}` in `.env` is not a project's name",
                "`COMPOSE_PROJECT_NAME={value}` dans `.env` n'est pas un nom de projet"
            ),
            Self::Port { variable, value } => both!(
                language,
                "`{variable}={value}` in `.env` is not a port",
                "`{variable}={value}` dans `.env` n'est pas un port"
            ),
            Self::Busy => both!(
                language,
                "another `parvis demo` is at work on this bundle",
                "un autre `parvis demo` travaille déjà sur cette livraison"
            ),
            Self::Engine(error) => engine_message(error, language),
            Self::Sealed(obstacle) => obstacle.message(language),
            Self::Change(trouble) => trouble.message(language),
            Self::Old { program, version, least } => both!(
                language,
                "`{program}` {version} is too old: at least {least} is needed",
                "`{program}` {version} est trop ancien : il faut au moins la version {least}"
            ),
            Self::Architecture { engine, bundle } => both!(
                language,
                "this machine is `{engine}`, and the bundle is made for `{bundle}`",
                "cette machine est de type `{engine}`, et la livraison est faite pour `{bundle}`"
            ),
            Self::System { system } => both!(
                language,
                "the container engine runs `{system}` containers, and the bundle needs `linux`",
                "le moteur de conteneurs est réglé pour `{system}`, et la livraison demande `linux`"
            ),
            Self::Room { needed, free, folder } => {
                let (needed, free) = (size(*needed), size(*free));
                both!(
                    language,
                    "the images need about {needed}, and `{folder}` has {free} free",
                    "les images demandent environ {needed}, et il reste {free} dans `{folder}`"
                )
            }
            Self::PortTaken { address, port, .. } => both!(
                language,
                "the port {port} of {address} is taken by another program",
                "le port {port} de {address} est déjà utilisé par un autre programme"
            ),
            Self::NoImages { images } => both!(
                language,
                "these images are neither on this machine nor in the bundle: {images}",
                "ces images ne sont ni sur cette machine ni dans la livraison : {images}"
            ),
            Self::Images { .. } => both!(language, "`images.tar` is refused", "`images.tar` est refusé"),
            Self::WrongImage { image } => both!(
                language,
                "the image `{image}` on this machine is not the one that the bundle names",
                "l'image `{image}` de cette machine n'est pas celle que désigne la livraison"
            ),
            Self::Job { name, code } => {
                let code = code.map_or_else(|| "?".to_owned(), |code| code.to_string());
                both!(language, "the job `{name}` failed (exit code {code})", "la tâche `{name}` a échoué (code {code})")
            }
            Self::Start { name } => {
                both!(language, "the service `{name}` could not be started", "le service `{name}` n'a pas pu être démarré")
            }
            Self::Stopped { name, code } => both!(
                language,
                "the service `{name}` stopped (exit code {code})",
                "le service `{name}` s'est arrêté (code {code})"
            ),
            Self::Unhealthy { name, .. } => both!(
                language,
                "the service `{name}` runs, and its own check says that it does not work",
                "le service `{name}` tourne, mais son propre contrôle dit qu'il ne fonctionne pas"
            ),
            Self::Late { name, seconds } => both!(
                language,
                "the service `{name}` was not ready after {seconds} s",
                "le service `{name}` n'était pas prêt au bout de {seconds} s"
            ),
            Self::NotRunning => both!(language, "the demo is not running", "la démonstration ne tourne pas"),
            Self::Unwell { services } => {
                both!(language, "not everything is well: {services}", "tout ne va pas bien : {services}")
            }
            Self::NoData => {
                both!(
                    language,
                    "the demo was never started: there are no data",
                    "la démonstration n'a jamais démarré : il n'y a pas de données"
                )
            }
            Self::NoPassword => {
                both!(language, "this bundle has no password", "cette livraison n'a pas de mot de passe")
            }
            Self::UnknownService { name, .. } => {
                both!(language, "the bundle has no service `{name}`", "la livraison n'a pas de service `{name}`")
            }
            Self::Confirm => both!(
                language,
                "this removes data, and nobody is at a terminal to agree",
                "cette commande efface des données, et personne n'est au terminal pour l'accepter"
            ),
            Self::Refused => both!(language, "nothing was changed", "rien n'a été modifié"),
            Self::FileExists { file } => both!(language, "`{file}` exists already", "`{file}` existe déjà"),
            Self::NothingToSave => {
                both!(language, "this bundle does not say what to back up", "cette livraison ne dit pas quoi sauvegarder")
            }
            Self::Backup { file, .. } => both!(
                language,
                "the backup `{file}` is refused; nothing was changed",
                "la sauvegarde `{file}` est refusée ; rien n'a été modifié"
            ),
            Self::OtherBundle { file, name, own } => both!(
                language,
                "the backup `{file}` is of `{name}`, and this bundle is `{own}`",
                "la sauvegarde `{file}` est celle de `{name}`, et cette livraison est `{own}`"
            ),
            Self::DataThere => both!(
                language,
                "there are data already, which the backup would replace",
                "il y a déjà des données, que la sauvegarde remplacerait"
            ),
            Self::File { action, path, .. } => {
                let french = match *action {
                    "read" => "lire",
                    "write" => "écrire",
                    "open" => "ouvrir",
                    _ => "utiliser",
                };
                both!(language, "cannot {action} `{path}`", "impossible de {french} `{path}`")
            }
            Self::Unpacked { folder } => both!(
                language,
                "`{folder}` exists already, and is another bundle",
                "`{folder}` existe déjà, et c'est une autre livraison"
            ),
            Self::Empty { what } => both!(
                language,
                "there was nothing to save as `{what}`, which cannot be right",
                "il n'y avait rien à sauvegarder dans `{what}`, ce qui est anormal"
            ),
            Self::NotAsSaved { file } => both!(
                language,
                "what comes back from `{file}` is not what was saved",
                "ce qui revient de `{file}` n'est pas ce qui a été sauvegardé"
            ),
            Self::HalfRestored { file } => both!(
                language,
                "the restore from `{file}` was interrupted: the data are not whole",
                "la restauration depuis `{file}` a été interrompue : les données sont incomplètes"
            ),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one piece of advice for each problem")]
    fn hint(&self, language: Language) -> Option<String> {
        Some(match self {
            Self::NoBundle | Self::NotABundle { .. } => both!(
                language,
                "name the folder or the .tar that you downloaded: `parvis demo up FILE`",
                "indiquez le dossier ou le .tar que vous avez téléchargé : `parvis demo up FICHIER`"
            ),
            Self::Gone { .. } => both!(
                language,
                "say where it is now with `--bundle FOLDER`; where it was deleted, `parvis demo up FILE` with the same download finds the data",
                "dites où elle est maintenant avec `--bundle DOSSIER` ; si elle a été supprimée, `parvis demo up FICHIER` avec le même téléchargement retrouve les données"
            ),
            Self::Manifest { .. } | Self::Missing { .. } => both!(
                language,
                "the bundle is not whole: download or unpack it again, and keep your `.env`",
                "la livraison est incomplète : téléchargez-la ou dépaquetez-la de nouveau, en gardant votre `.env`"
            ),
            Self::Altered { file } => both!(
                language,
                "put the original `{file}` back from the download; your own settings belong in `.env`",
                "remettez le `{file}` d'origine ; vos propres réglages vont dans `.env`"
            ),
            Self::Settings { .. } => {
                both!(language, "correct this line, or put `#` before it", "corrigez cette ligne, ou mettez `#` devant")
            }
            Self::ProjectName { .. } => both!(
                language,
                "lowercase letters, digits, `-` and `_`, starting with a letter or digit",
                "des minuscules, des chiffres, `-` et `_`, en commençant par une lettre ou un chiffre"
            ),
            Self::Port { variable, .. } => both!(
                language,
                "a number from 1 to 65535, for example `{variable}=8443`",
                "un nombre de 1 à 65535, par exemple `{variable}=8443`"
            ),
            Self::Busy => {
                both!(language, "wait until it has finished, then try again", "attendez qu'il ait fini, puis recommencez")
            }
            Self::Engine(error) => return engine_hint(error, language),
            Self::Sealed(obstacle) => obstacle.hint(language),
            Self::Change(trouble) => trouble.hint(language),
            Self::Old { .. } => both!(
                language,
                "install a newer one: `apt-get install docker.io docker-compose`",
                "installez une version plus récente : `apt-get install docker.io docker-compose`"
            ),
            Self::Architecture { .. } => both!(
                language,
                "download the bundle that is made for this machine",
                "téléchargez la livraison faite pour cette machine"
            ),
            Self::System { .. } => {
                both!(language, "switch the engine to Linux containers", "réglez le moteur sur les conteneurs Linux")
            }
            Self::Room { .. } => both!(
                language,
                "free some space, for example with `docker system prune`, then try again",
                "libérez de la place, par exemple avec `docker system prune`, puis recommencez"
            ),
            Self::PortTaken { variable, other, .. } => match other {
                Some(other) => both!(
                    language,
                    "write another one into `.env`, for example `{variable}={other}`, then try again",
                    "écrivez-en un autre dans `.env`, par exemple `{variable}={other}`, puis recommencez"
                ),
                None => both!(
                    language,
                    "end that program, or write another port into `.env` as `{variable}=…`",
                    "arrêtez ce programme, ou écrivez un autre port dans `.env` : `{variable}=…`"
                ),
            },
            Self::NoImages { .. } => both!(
                language,
                "download the bundle with images, or load them first with `docker load`",
                "téléchargez la livraison avec ses images, ou chargez-les d'abord avec `docker load`"
            ),
            Self::Images { .. } => both!(
                language,
                "download the bundle again; do not load this file anywhere",
                "téléchargez la livraison de nouveau ; ne chargez ce fichier nulle part"
            ),
            Self::WrongImage { image } => both!(
                language,
                "remove it with `docker image rm {image}`, then try again; if it comes back, ask whom the bundle came from",
                "supprimez-la avec `docker image rm {image}`, puis recommencez ; si elle revient, demandez à qui vous a remis la livraison"
            ),
            Self::Job { name, .. } => both!(
                language,
                "what ran before still runs; the last lines of `{name}` are above; `parvis demo up` tries again",
                "ce qui tournait avant tourne encore ; les dernières lignes de `{name}` sont ci-dessus ; `parvis demo up` recommence"
            ),
            Self::Start { .. } => both!(
                language,
                "what the engine said is above; `parvis demo up` tries again",
                "ce qu'a dit le moteur est ci-dessus ; `parvis demo up` recommence"
            ),
            Self::Stopped { name, .. } | Self::Unhealthy { name, .. } | Self::Late { name, .. } => both!(
                language,
                "its last lines are above, all of them with `parvis demo logs {name}`; `parvis demo up` tries again",
                "ses dernières lignes sont ci-dessus, toutes avec `parvis demo logs {name}` ; `parvis demo up` recommence"
            ),
            Self::NotRunning | Self::Unwell { .. } | Self::NoData => {
                both!(language, "start it: `parvis demo up`", "démarrez-la : `parvis demo up`")
            }
            Self::UnknownService { known, .. } => both!(language, "it has: {known}", "elle a : {known}"),
            Self::Confirm => both!(
                language,
                "add `--yes` if that is what you want; keep a copy first: `parvis demo backup FILE`",
                "ajoutez `--yes` si c'est bien ce que vous voulez ; gardez d'abord une copie : `parvis demo backup FICHIER`"
            ),
            Self::FileExists { .. } => both!(
                language,
                "choose another name, or add `--yes` to replace it",
                "choisissez un autre nom, ou ajoutez `--yes` pour le remplacer"
            ),
            Self::Backup { .. } => both!(
                language,
                "use another copy of the backup; do not unpack this one",
                "prenez une autre copie de la sauvegarde ; ne dépaquetez pas celle-ci"
            ),
            Self::OtherBundle { .. } => both!(
                language,
                "name the bundle it belongs to with `--bundle FOLDER`",
                "indiquez la livraison à laquelle elle appartient avec `--bundle DOSSIER`"
            ),
            Self::DataThere => both!(
                language,
                "add `--yes` to replace them; keep a copy first: `parvis demo backup FILE`",
                "ajoutez `--yes` pour les remplacer ; gardez d'abord une copie : `parvis demo backup FICHIER`"
            ),
            Self::File { absent, full, .. } => match (absent, full) {
                (true, _) => both!(language, "look whether the name is right", "vérifiez que le nom est juste"),
                (_, true) => {
                    both!(language, "free some space, then try again", "libérez de la place, puis recommencez")
                }
                _ => both!(
                    language,
                    "look whether you may read and write there",
                    "vérifiez que vous avez le droit de lire et d'écrire à cet endroit"
                ),
            },
            Self::Unpacked { folder } => both!(
                language,
                "start that one with `parvis demo up {folder}`, or rename it",
                "démarrez celle-là avec `parvis demo up {folder}`, ou renommez-la"
            ),
            Self::Empty { .. } => both!(
                language,
                "look what the services say: `parvis demo logs`",
                "regardez ce que disent les services : `parvis demo logs`"
            ),
            Self::NotAsSaved { .. } => both!(
                language,
                "save again; if that stays so, show it to whoever gave you the bundle",
                "sauvegardez de nouveau ; si cela persiste, montrez-le à qui vous a remis la livraison"
            ),
            Self::HalfRestored { file } => both!(
                language,
                "do it again: `parvis demo restore --yes {file}`; or begin anew with `parvis demo reset`",
                "recommencez : `parvis demo restore --yes {file}` ; ou repartez de zéro avec `parvis demo reset`"
            ),
            Self::NoPassword | Self::NothingToSave | Self::Refused => return None,
        })
    }
}

fn engine_message(error: &EngineError, language: Language) -> String {
    match error {
        EngineError::None => both!(
            language,
            "there is no container engine: neither Docker nor Podman is installed",
            "il n'y a pas de moteur de conteneurs : ni Docker ni Podman n'est installé"
        ),
        EngineError::Absent { program } => {
            both!(language, "the program `{program}` is not installed", "le programme `{program}` n'est pas installé")
        }
        EngineError::Daemon { program } => {
            both!(language, "`{program}` is installed, and does not run", "`{program}` est installé, mais ne tourne pas")
        }
        EngineError::Permission { program } => {
            both!(language, "you may not use `{program}`", "vous n'avez pas le droit d'utiliser `{program}`")
        }
        EngineError::Full { program } => {
            both!(language, "the disk of `{program}` is full", "le disque de `{program}` est plein")
        }
        EngineError::Silent { program, seconds } => both!(
            language,
            "`{program}` did not answer within {seconds} seconds",
            "`{program}` n'a pas répondu en {seconds} secondes"
        ),
        EngineError::Failed { program, action, .. } => {
            both!(language, "`{program} {action}` failed", "`{program} {action}` a échoué")
        }
        EngineError::Unreadable { program, action, .. } => both!(
            language,
            "`{program} {action}` said something that cannot be read",
            "`{program} {action}` a donné une réponse illisible"
        ),
        EngineError::Run { program, .. } => {
            both!(language, "cannot run `{program}`", "impossible de lancer `{program}`")
        }
        EngineError::Archive { program, .. } => both!(
            language,
            "what is meant for `{program}` cannot be read",
            "ce qui est destiné à `{program}` ne peut pas être lu"
        ),
        EngineError::Sink { program, .. } => {
            both!(language, "what `{program}` says cannot be kept", "ce que dit `{program}` ne peut pas être conservé")
        }
        EngineError::NoCompose { program } => {
            both!(language, "there is no compose for `{program}`", "il n'y a pas de compose pour `{program}`")
        }
    }
}

fn engine_hint(error: &EngineError, language: Language) -> Option<String> {
    Some(match error {
        EngineError::None | EngineError::Absent { .. } => both!(
            language,
            "install it as the administrator: `apt-get install docker.io docker-compose`",
            "installez-le en tant qu'administrateur : `apt-get install docker.io docker-compose`"
        ),
        EngineError::Daemon { .. } => both!(
            language,
            "start it as the administrator: `systemctl start docker`",
            "démarrez-le en tant qu'administrateur : `systemctl start docker`"
        ),
        EngineError::Silent { .. } => both!(
            language,
            "this machine is busy, or something hangs: try again in a moment; if that does not help, as the administrator: `systemctl restart docker`",
            "cette machine est occupée, ou quelque chose est bloqué : réessayez dans un moment ; sinon, en tant qu'administrateur : `systemctl restart docker`"
        ),
        EngineError::Permission { .. } => both!(
            language,
            "the administrator types `adduser YOU docker`, then you log in anew; or put `sudo` before the command",
            "l'administrateur tape `adduser VOUS docker`, puis vous ouvrez une nouvelle session ; ou mettez `sudo` devant la commande"
        ),
        EngineError::Full { program } => both!(
            language,
            "remove what is not used: `{program} system prune`",
            "supprimez ce qui ne sert plus : `{program} system prune`"
        ),
        EngineError::NoCompose { .. } => both!(
            language,
            "install it as the administrator: `apt-get install docker-compose`",
            "installez-le en tant qu'administrateur : `apt-get install docker-compose`"
        ),
        EngineError::Sink { .. } => both!(
            language,
            "look whether the disk is full, then try again",
            "vérifiez que le disque n'est pas plein, puis recommencez"
        ),
        EngineError::Failed { .. } | EngineError::Unreadable { .. } | EngineError::Run { .. } | EngineError::Archive { .. } => {
            return None;
        }
    })
}

/// Something said along the way or at the end.
#[derive(Debug)]
pub enum Line {
    Using { engine: String, compose: String },
    Loading,
    Ready,
    Started,
    Done,
    Unchanged,
    Renewed { service: String },
    Building,
    Dropped { service: String },
    Address { url: String },
    Login { user: String },
    Password { password: String },
    PasswordLater,
    Data { volumes: String },
    Stop,
    LastLines { name: String },
    Stopped,
    Down,
    AskReset { volumes: String, word: String },
    Reset,
    Saved { file: String, size: u64, encrypted: bool },
    Saving { what: String },
    Verified,
    Checking,
    Restoring { what: String },
    Restored { file: String, created: String },
    Expires { name: String, days: i64, date: String },
    ExpiryUnknown,
    Column(Column),
    State(String),
    Health(String),
}

/// A heading of the table of `status`.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    Service,
    State,
    Health,
    Since,
}

impl Line {
    /// Returns the text.
    #[expect(clippy::too_many_lines, reason = "one sentence for each line")]
    pub fn text(&self, language: Language) -> String {
        match self {
            Self::Using { engine, compose } => both!(language, "with {engine} and {compose}", "avec {engine} et {compose}"),
            Self::Loading => both!(language, "images", "images"),
            Self::Ready => both!(language, "ready", "prêt"),
            Self::Started => both!(language, "started", "lancé"),
            Self::Done => both!(language, "done", "fait"),
            Self::Unchanged => {
                both!(language, "everything runs already; nothing was changed", "tout tourne déjà ; rien n'a été modifié")
            }
            Self::Renewed { service } => {
                both!(language, "`{service}` has new keys and is started anew", "`{service}` a de nouvelles clés et redémarre")
            }
            Self::Building => both!(
                language,
                "some images are not built, or not as the recipes are now: building them first, which may take some minutes",
                "des images ne sont pas construites, ou pas selon les recettes actuelles : construction d'abord, ce qui peut prendre quelques minutes"
            ),
            Self::Dropped { service } => both!(
                language,
                "`{service}` is not in the bundle any more and was removed; its data stay",
                "`{service}` ne fait plus partie de la livraison et a été supprimé ; ses données restent"
            ),
            Self::Address { url } => both!(language, "address:   {url}", "adresse :      {url}"),
            Self::Login { user } => both!(language, "user:      {user}", "utilisateur :  {user}"),
            Self::Password { password } => both!(
                language,
                "password:  {password}   (shown this once; again with `parvis demo password`)",
                "mot de passe : {password}   (affiché cette seule fois ; à revoir avec `parvis demo password`)"
            ),
            Self::PasswordLater => {
                both!(language, "password:  `parvis demo password` shows it", "mot de passe : `parvis demo password` l'affiche")
            }
            Self::Data { volumes } => both!(
                language,
                "the data are in these volumes of the engine: {volumes}",
                "les données sont dans ces volumes du moteur : {volumes}"
            ),
            Self::Stop => both!(
                language,
                "stop with `parvis demo stop` (the data stay), save with `parvis demo backup FILE`",
                "arrêter : `parvis demo stop` (les données restent) ; sauvegarder : `parvis demo backup FICHIER`"
            ),
            Self::LastLines { name } => both!(language, "the last lines of `{name}`:", "les dernières lignes de `{name}` :"),
            Self::Stopped => both!(
                language,
                "stopped; the data stay; `parvis demo up` starts again",
                "arrêté ; les données restent ; `parvis demo up` redémarre"
            ),
            Self::Down => both!(
                language,
                "containers and networks are removed; the data stay; `parvis demo up` starts again",
                "conteneurs et réseaux sont supprimés ; les données restent ; `parvis demo up` redémarre"
            ),
            Self::AskReset { volumes, word } => both!(
                language,
                "this removes all data and keys for good: {volumes}\ntype `{word}` to agree:",
                "ceci efface définitivement toutes les données et les clés : {volumes}\ntapez `{word}` pour accepter :"
            ),
            Self::Reset => both!(
                language,
                "all data and keys are removed; `parvis demo up` begins anew with new keys and a new password",
                "toutes les données et les clés sont effacées ; `parvis demo up` recommence avec de nouvelles clés et un nouveau mot de passe"
            ),
            Self::Saved { file, size: bytes, encrypted: true } => {
                let size = size(*bytes);
                both!(
                    language,
                    "saved to `{file}` ({size}), encrypted: without what opens it nobody gets it back, so keep that elsewhere",
                    "sauvegardé dans `{file}` ({size}), chiffré : sans ce qui l'ouvre, il est perdu ; gardez-le donc ailleurs"
                )
            }
            Self::Saved { file, size: bytes, .. } => {
                let size = size(*bytes);
                both!(
                    language,
                    "saved to `{file}` ({size}); it holds passwords and keys: keep it where only you can read it",
                    "sauvegardé dans `{file}` ({size}) ; ce fichier contient mots de passe et clés : gardez-le à l'abri"
                )
            }
            Self::Verified => both!(
                language,
                "brought back beside the site and compared: it is what was saved",
                "remise en place à côté du site et comparée : c'est bien ce qui a été sauvegardé"
            ),
            Self::Saving { what } => both!(language, "saving {what}", "sauvegarde de {what}"),
            Self::Checking => both!(language, "checking the backup", "contrôle de la sauvegarde"),
            Self::Restoring { what } => both!(language, "restoring {what}", "restauration de {what}"),
            Self::Restored { file, created } => both!(
                language,
                "restored from `{file}`, made {created}; the password is the one of that time",
                "restauré depuis `{file}`, créée le {created} ; le mot de passe est celui de l'époque"
            ),
            Self::Expires { name, days, date } => both!(
                language,
                "certificate {name}: {days} days left (until {date})",
                "certificat {name} : encore {days} jours (jusqu'au {date})"
            ),
            Self::ExpiryUnknown => both!(
                language,
                "certificates: `parvis demo up` tells until when they are good",
                "certificats : `parvis demo up` dit jusqu'à quand ils sont valables"
            ),
            Self::Column(column) => match column {
                Column::Service => both!(language, "service", "service"),
                Column::State => both!(language, "state", "état"),
                Column::Health => both!(language, "health", "santé"),
                Column::Since => both!(language, "since", "depuis"),
            },
            Self::State(state) => match state.as_str() {
                "running" => both!(language, "running", "en marche"),
                "exited" => both!(language, "stopped", "arrêté"),
                "created" => both!(language, "created", "créé"),
                "restarting" => both!(language, "restarting", "redémarre"),
                "paused" => both!(language, "paused", "en pause"),
                "absent" => both!(language, "absent", "absent"),
                "dead" => both!(language, "dead", "mort"),
                other => other.to_owned(),
            },
            Self::Health(health) => match health.as_str() {
                "healthy" => both!(language, "good", "bonne"),
                "unhealthy" => both!(language, "bad", "mauvaise"),
                "starting" => both!(language, "not yet known", "pas encore connue"),
                _ => "-".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// One of each, with values that show where they stand.
    fn problems() -> Vec<Problem> {
        let text = |text: &str| text.to_owned();
        let file = |absent, full| Problem::File { action: "write", path: text("/p"), cause: text("cause"), absent, full };
        let program = || text("docker");
        let failed = || (program(), "load", text("words"));
        let (one, other) = (failed(), failed());
        let io = || std::io::Error::other("cause");
        vec![
            Problem::NoBundle,
            Problem::Gone { path: text("/p") },
            Problem::NotABundle { path: text("/p") },
            Problem::Manifest { cause: text("cause") },
            Problem::Altered { file: text("compose.yaml") },
            Problem::Missing { file: text("README.md") },
            Problem::Settings { line: 7 },
            Problem::ProjectName { value: text("-x") },
            Problem::Port { variable: text("PORT"), value: text("x") },
            Problem::Busy,
            Problem::Engine(EngineError::None),
            Problem::Engine(EngineError::Absent { program: program() }),
            Problem::Engine(EngineError::Daemon { program: program() }),
            Problem::Engine(EngineError::Permission { program: program() }),
            Problem::Engine(EngineError::Full { program: program() }),
            Problem::Engine(EngineError::Silent { program: program(), seconds: 20 }),
            Problem::Engine(EngineError::Failed { program: one.0, action: one.1, words: one.2 }),
            Problem::Engine(EngineError::Unreadable { program: other.0, action: other.1, words: other.2 }),
            Problem::Engine(EngineError::Run { program: program(), source: io() }),
            Problem::Engine(EngineError::Archive { program: program(), source: io() }),
            Problem::Engine(EngineError::Sink { program: program(), source: io() }),
            Problem::Engine(EngineError::NoCompose { program: program() }),
            Problem::Old { program: program(), version: text("19.3.0"), least: text("20.10.0") },
            Problem::Old { program: text("docker-compose"), version: text("1.25.0"), least: text("1.29.0") },
            Problem::Architecture { engine: text("arm64"), bundle: text("amd64") },
            Problem::System { system: text("windows") },
            Problem::Room { needed: 2_000_000_000, free: 1_000_000, folder: text("/var/lib/docker") },
            Problem::PortTaken { address: text("127.0.0.1"), port: 8443, variable: text("PORT"), other: Some(8444) },
            Problem::PortTaken { address: text("127.0.0.1"), port: 8443, variable: text("PORT"), other: None },
            Problem::NoImages { images: text("a, b") },
            Problem::Images { cause: text("cause") },
            Problem::WrongImage { image: text("a:1") },
            Problem::Job { name: text("update"), code: Some(4) },
            Problem::Start { name: text("web") },
            Problem::Stopped { name: text("web"), code: 2 },
            Problem::Unhealthy { name: text("web"), words: Some(text("no TLS")) },
            Problem::Late { name: text("web"), seconds: 180 },
            Problem::NotRunning,
            Problem::Unwell { services: text("web") },
            Problem::NoData,
            Problem::NoPassword,
            Problem::UnknownService { name: text("x"), known: text("web, db") },
            Problem::Confirm,
            Problem::Refused,
            Problem::FileExists { file: text("a.tar") },
            Problem::NothingToSave,
            Problem::Backup { file: text("a.tar"), cause: text("cause") },
            Problem::OtherBundle { file: text("a.tar"), name: text("a"), own: text("b") },
            Problem::DataThere,
            file(false, false),
            file(true, false),
            file(false, true),
            Problem::Unpacked { folder: text("/p") },
            Problem::Empty { what: text("database.sql") },
            Problem::HalfRestored { file: text("a.tar") },
            Problem::NotAsSaved { file: text("a.tar") },
        ]
    }

    #[test]
    fn every_problem_is_told_in_every_language() {
        let mut shown = String::new();
        for (one, other) in problems().into_iter().zip(problems()) {
            let (english, french) = (one.failure(Language::English), other.failure(Language::French));
            assert_ne!(english.message(), french.message());
            assert_eq!((english.kind(), english.hint_text().is_some()), (french.kind(), french.hint_text().is_some()));
            for failure in [&english, &french] {
                // A sentence that names a thing; the hint says what to do.
                let message = failure.message();
                assert!(!message.ends_with(['.', ' ']) && !message.contains('{') && message.len() > 10, "{message}");
                let labels = failure.labels();
                let _ = writeln!(shown, "{} {message}", labels.error);
                if let Some(hint) = failure.hint_text() {
                    let _ = writeln!(shown, "{} {hint}", labels.hint);
                }
            }
        }
        insta::assert_snapshot!("problems", shown);
    }

    #[test]
    fn every_line_is_told_in_every_language() {
        let text = |text: &str| text.to_owned();
        let lines = || {
            [
                Line::Using { engine: text("docker 28"), compose: text("docker compose 2.40") },
                Line::Loading,
                Line::Ready,
                Line::Started,
                Line::Done,
                Line::Unchanged,
                Line::Renewed { service: text("db") },
                Line::Building,
                Line::Dropped { service: text("mail") },
                Line::Address { url: text("https://localhost/") },
                Line::Login { user: text("admin") },
                Line::Password { password: text("word") },
                Line::PasswordLater,
                Line::Data { volumes: text("a, b") },
                Line::Stop,
                Line::LastLines { name: text("db") },
                Line::Stopped,
                Line::Down,
                Line::AskReset { volumes: text("a, b"), word: text("parish") },
                Line::Reset,
                Line::Saved { file: text("a.tar"), size: 1000, encrypted: false },
                Line::Saved { file: text("a.tar"), size: 1000, encrypted: true },
                Line::Saving { what: text("a") },
                Line::Verified,
                Line::Checking,
                Line::Restoring { what: text("a") },
                Line::Restored { file: text("a.tar"), created: text("2026-11-24T09:00:00Z") },
                Line::Expires { name: text("outside"), days: 12, date: text("2026-12-06") },
                Line::ExpiryUnknown,
                Line::Column(Column::State),
                Line::State(text("running")),
                Line::State(text("exited")),
                Line::Health(text("healthy")),
                Line::Health(text("unhealthy")),
            ]
        };
        let mut shown = String::new();
        for line in lines() {
            for language in Language::ALL {
                let text = line.text(language);
                assert!(!text.is_empty() && !text.contains('{'), "{text}");
                let _ = writeln!(shown, "{}: {text}", language.code());
            }
        }
        insta::assert_snapshot!("lines", shown);
    }
}
