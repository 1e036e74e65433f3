//! Encrypted backups: what closes one, what opens one, and everything that is said about it.

use std::path::{Path, PathBuf};

use super::Save;
use super::place::Voice;
use super::words::Problem;
use crate::edge::place::seal::{self, Closed, Opener, PublicKey, Seal, SealError, Unsealed};
use crate::edge::place::{self, Seekable};
use crate::failure::Failure;
use crate::image::archive::ReadAt;
use crate::model::language::{Language, both};
use crate::screen::size;
use crate::verbs::Context;

/// How an encrypted backup is opened.
#[derive(Debug, clap::Args)]
pub struct Open {
    /// File whose first line is the passphrase of an encrypted backup (default: it is asked for)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with the age key that opens an encrypted backup
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<PathBuf>,
}

/// How a backup is closed.
#[derive(Debug, clap::Args)]
pub struct Close {
    /// Encrypt it with a passphrase: `age -d` opens it too
    #[arg(long)]
    encrypt: bool,
    /// Encrypt it for whoever holds the private half of this age key (`age1…`); may be given several times
    #[arg(long, value_name = "KEY", conflicts_with_all = ["encrypt", "passphrase_file"])]
    encrypt_to: Vec<String>,
}

/// Something that keeps a backup closed.
#[derive(Debug)]
pub enum Obstacle {
    NotAKey { text: String },
    NobodyTypes { file: String },
    EmptyPassphrase,
    PassphrasesDiffer,
    NeedsIdentity { file: String },
    NoIdentities { file: String },
    NotForThis { file: String, by: Closed },
    Work { file: String, bytes: u64 },
    Damaged { file: String },
    NotEncrypted { file: String },
}

impl Obstacle {
    pub fn message(&self, language: Language) -> String {
        match self {
            Self::NotAKey { text } => {
                both!(language, "`{text}` is no public key of age", "`{text}` n'est pas une clé publique d'age")
            }
            Self::NobodyTypes { file } => both!(
                language,
                "the passphrase of `{file}` is needed, and nobody is there to type it",
                "il faut la phrase secrète de `{file}`, et personne n'est là pour la taper"
            ),
            Self::EmptyPassphrase => both!(language, "the passphrase is empty", "la phrase secrète est vide"),
            Self::PassphrasesDiffer => {
                both!(language, "the two passphrases differ", "les deux phrases secrètes diffèrent")
            }
            Self::NeedsIdentity { file } => {
                both!(
                    language,
                    "to open `{file}`, the private half of its key is needed",
                    "pour ouvrir `{file}`, il faut la moitié privée de sa clé"
                )
            }
            Self::NoIdentities { file } => {
                both!(language, "`{file}` holds no private key of age", "`{file}` ne contient pas de clé privée d'age")
            }
            Self::NotForThis { file, by: Closed::ByKey } => both!(
                language,
                "this key does not open `{file}`; nothing was changed",
                "cette clé n'ouvre pas `{file}` ; rien n'a été modifié"
            ),
            Self::NotForThis { file, .. } => both!(
                language,
                "this passphrase does not open `{file}`; nothing was changed",
                "cette phrase secrète n'ouvre pas `{file}` ; rien n'a été modifié"
            ),
            Self::Work { file, bytes } => {
                let bytes = size(*bytes);
                both!(
                    language,
                    "`{file}` wants {bytes} of memory to be opened; nothing was changed",
                    "`{file}` demande {bytes} de mémoire pour être ouvert ; rien n'a été modifié"
                )
            }
            Self::Damaged { file } => both!(
                language,
                "the encrypted backup `{file}` is damaged or was altered; nothing was changed",
                "la sauvegarde chiffrée `{file}` est abîmée ou a été altérée ; rien n'a été modifié"
            ),
            Self::NotEncrypted { file } => both!(
                language,
                "`{file}` is not encrypted, but something to open it with was given",
                "`{file}` n'est pas chiffré, alors qu'on a donné de quoi l'ouvrir"
            ),
        }
    }

    pub fn hint(&self, language: Language) -> String {
        match self {
            Self::NotAKey { .. } => both!(
                language,
                "it begins with `age1`; `age-keygen -o FILE` makes a key and prints its public half",
                "elle commence par `age1` ; `age-keygen -o FICHIER` crée une clé et affiche sa moitié publique"
            ),
            Self::NobodyTypes { .. } => both!(
                language,
                "name a file whose first line it is with `--passphrase-file FILE`",
                "indiquez avec `--passphrase-file FICHIER` un fichier dont elle est la première ligne"
            ),
            Self::EmptyPassphrase => {
                both!(language, "choose some words that nobody guesses", "choisissez quelques mots que personne ne devine")
            }
            Self::PassphrasesDiffer => both!(language, "run the same command again", "relancez la même commande"),
            Self::NeedsIdentity { .. } => both!(
                language,
                "name the file of that key with `--identity FILE`",
                "indiquez le fichier de cette clé avec `--identity FICHIER`"
            ),
            Self::NoIdentities { .. } => both!(
                language,
                "a line in it begins with `AGE-SECRET-KEY-1`, as `age-keygen` writes it; where that file is itself encrypted, open it with age first",
                "une de ses lignes commence par `AGE-SECRET-KEY-1`, comme l'écrit `age-keygen` ; si ce fichier est lui-même chiffré, ouvrez-le d'abord avec age"
            ),
            Self::NotForThis { .. } => both!(
                language,
                "try again; without it nobody can open this backup",
                "essayez encore ; sans elle, personne ne peut ouvrir cette sauvegarde"
            ),
            Self::Work { .. } => both!(
                language,
                "parvis did not write it so; whoever did can open it with `age -d` and encrypt it again",
                "parvis ne l'a pas écrit ainsi ; qui l'a fait peut l'ouvrir avec `age -d` et le chiffrer de nouveau"
            ),
            Self::Damaged { .. } => both!(language, "use another copy of the backup", "prenez une autre copie de la sauvegarde"),
            Self::NotEncrypted { .. } => both!(
                language,
                "if it is really the backup that you mean, leave that away",
                "si c'est bien la sauvegarde voulue, ne l'indiquez pas"
            ),
        }
    }
}

fn obstacle(voice: Voice, obstacle: Obstacle) -> Failure {
    voice.problem(Problem::Sealed(obstacle))
}

impl Open {
    /// Opens a backup as somebody named it on the command line: with a passphrase or a key where it is encrypted.
    pub fn source(&self, path: &Path, shown: &str, voice: Voice, context: &Context<'_>) -> Result<Box<dyn ReadAt>, Failure> {
        let file = place::open_file(path).map_err(|error| voice.place(error))?;
        let by = seal::closed(path, &file).map_err(|error| refused(voice, shown, Closed::No, error))?;
        let opener = match by {
            Closed::No if self.passphrase_file.is_some() || self.identity.is_some() => {
                return Err(obstacle(voice, Obstacle::NotEncrypted { file: shown.to_owned() }));
            }
            Closed::No => return Ok(Box::new(file)),
            Closed::ByKey => Opener::Identities(self.identities(shown, voice)?),
            Closed::ByPassphrase => Opener::Passphrase(self.passphrase(shown, false, voice, context)?),
        };
        unsealed(path, file, &opener, shown, by, voice)
    }

    fn identities(&self, shown: &str, voice: Voice) -> Result<Vec<seal::PrivateKey>, Failure> {
        let Some(path) = &self.identity else {
            return Err(obstacle(voice, Obstacle::NeedsIdentity { file: shown.to_owned() }));
        };
        let found = seal::identities(path).map_err(|error| voice.place(error))?;
        found.ok_or_else(|| obstacle(voice, Obstacle::NoIdentities { file: path.display().to_string() }))
    }

    /// Returns the passphrase of a backup. That of a `new` one is asked for twice: mistyped, nobody would ever know it.
    fn passphrase(&self, shown: &str, new: bool, voice: Voice, context: &Context<'_>) -> Result<seal::Secret, Failure> {
        let passphrase = if let Some(file) = &self.passphrase_file {
            seal::passphrase(file).map_err(|error| voice.place(error))?
        } else {
            let ask = |question: Question| context.screen.ask_secret(&question.text(context.language, shown));
            let Some(typed) = ask(Question::Passphrase) else {
                return Err(obstacle(voice, Obstacle::NobodyTypes { file: shown.to_owned() }));
            };
            if new && ask(Question::Again).as_ref() != Some(&typed) {
                return Err(obstacle(voice, Obstacle::PassphrasesDiffer));
            }
            seal::Secret::from(typed)
        };
        if seal::is_empty(&passphrase) { Err(obstacle(voice, Obstacle::EmptyPassphrase)) } else { Ok(passphrase) }
    }
}

/// What closes a new backup, and opens it again to try it out.
pub struct Sealing {
    pub seal: Seal,
    opener: Option<Opener>,
    by: Closed,
}

impl Sealing {
    /// Returns what a backup is to be encrypted with; nothing where it is not to be.
    pub fn asked(options: &Save, shown: &str, voice: Voice, context: &Context<'_>) -> Result<Option<Self>, Failure> {
        let (close, open) = (&options.close, &options.copy.open);
        if !close.encrypt_to.is_empty() {
            let key = |text: &String| {
                text.parse::<PublicKey>()
                    .map_err(|()| obstacle(voice, Obstacle::NotAKey { text: text.chars().take(80).collect() }))
            };
            let keys = close.encrypt_to.iter().map(key).collect::<Result<_, _>>()?;
            // Whoever wants it tried out has to be able to open it, and hears of that before anything is saved.
            let opener = options.verify.then(|| open.identities(shown, voice)).transpose()?.map(Opener::Identities);
            return Ok(Some(Self { seal: Seal::Recipients(keys), opener, by: Closed::ByKey }));
        }
        if !close.encrypt && open.passphrase_file.is_none() {
            return Ok(None);
        }
        let passphrase = open.passphrase(shown, true, voice, context)?;
        let opener = Some(Opener::Passphrase(passphrase.clone()));
        Ok(Some(Self { seal: Seal::Passphrase(passphrase), opener, by: Closed::ByPassphrase }))
    }

    /// Opens what was just written.
    pub fn source(&self, path: &Path, shown: &str, voice: Voice) -> Result<Box<dyn ReadAt>, Failure> {
        let file = place::open_file(path).map_err(|error| voice.place(error))?;
        match &self.opener {
            Some(opener) => unsealed(path, file, opener, shown, self.by, voice),
            None => Err(obstacle(voice, Obstacle::NeedsIdentity { file: shown.to_owned() })),
        }
    }
}

fn unsealed(
    path: &Path,
    file: Seekable,
    opener: &Opener,
    shown: &str,
    by: Closed,
    voice: Voice,
) -> Result<Box<dyn ReadAt>, Failure> {
    let content = Unsealed::open(path, file, opener).map_err(|error| refused(voice, shown, by, error))?;
    Ok(Box::new(content))
}

fn refused(voice: Voice, shown: &str, by: Closed, error: SealError) -> Failure {
    let file = shown.to_owned();
    obstacle(
        voice,
        match error {
            SealError::NotForThis => Obstacle::NotForThis { file, by },
            SealError::Work(bytes) => Obstacle::Work { file, bytes },
            SealError::Damaged => Obstacle::Damaged { file },
            SealError::Io(error) => return voice.place(error),
        },
    )
}

/// What somebody at a terminal is asked.
#[derive(Clone, Copy)]
enum Question {
    Passphrase,
    Again,
}

impl Question {
    fn text(self, language: Language, file: &str) -> String {
        match self {
            Self::Passphrase => both!(language, "Passphrase of `{file}`:", "Phrase secrète de `{file}` :"),
            Self::Again => both!(language, "The same once more:", "La même, encore une fois :"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn obstacles() -> Vec<Obstacle> {
        let file = || "a.tar".to_owned();
        vec![
            Obstacle::NotAKey { text: "age2".into() },
            Obstacle::NobodyTypes { file: file() },
            Obstacle::EmptyPassphrase,
            Obstacle::PassphrasesDiffer,
            Obstacle::NeedsIdentity { file: file() },
            Obstacle::NoIdentities { file: "key".into() },
            Obstacle::NotForThis { file: file(), by: Closed::ByPassphrase },
            Obstacle::NotForThis { file: file(), by: Closed::ByKey },
            Obstacle::Work { file: file(), bytes: 1 << 40 },
            Obstacle::Damaged { file: file() },
            Obstacle::NotEncrypted { file: file() },
        ]
    }

    #[test]
    fn every_obstacle_is_told_in_every_language() {
        let mut shown = String::new();
        for language in Language::ALL {
            for obstacle in obstacles() {
                let failure = Problem::Sealed(obstacle).failure(language);
                let labels = failure.labels();
                let _ = writeln!(shown, "{} {}", labels.error, failure.message());
                let _ = writeln!(shown, "{} {}", labels.hint, failure.hint_text().unwrap());
            }
            for question in [Question::Passphrase, Question::Again] {
                let _ = writeln!(shown, "{}", question.text(language, "a.tar"));
            }
        }
        insta::assert_snapshot!("obstacles", shown);
    }
}
