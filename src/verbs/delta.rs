//! `parvis delta`: a new version from an older download and one with only what that lacks, byte for byte as it was released.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::image::from_layout;
use super::save::from_output;
use super::verify::{Whole, whole};
use super::{Answer, Context, in_language};
use crate::bundle::manifest::ARCHIVE;
use crate::edge::layout::{self, ArchiveFile, Handed};
use crate::edge::output;
use crate::failure::Failure;
use crate::image::archive::{Files, TarFiles};
use crate::image::delta::{self, Delta, DeltaError};
use crate::model::language::Language;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Download with only what is new: `NAME-from-NUMBER.tar`
    delta: PathBuf,
    /// Older download, or the folder that it was unpacked to
    older: PathBuf,
    /// File to write (default: the name of the new version, beside the download with what is new)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let Arguments { delta: path, older, output } = arguments;
    let language = context.language;
    let own = whole(path, context)?;
    let file = open(path)?;
    let files = TarFiles::<ArchiveFile>::new(&file).map_err(|error| Failure::no(error.to_string()).maybe_hint(error.hint()))?;
    let list = delta::read(&files, &own.folder).map_err(|error| from_delta(error, path, older, language))?;
    let target = output.clone().unwrap_or_else(|| path.with_file_name(format!("{}.tar", list.to)));
    let job = Job { own: &own, files: &files, list: &list, older, target: &target, context };
    job.with_older()?;
    context.answer(
        || json!({"format": 1, "file": target, "from": list.from, "to": list.to, "statement": own.release.version}),
        || {
            let shown = target.display();
            vec![language.choose(
                format!("{shown} is whole; `parvis verify {shown}` says who signed it"),
                format!("{shown} est complète ; « parvis verify {shown} » dit qui l’a signée"),
            )]
        },
    );
    Ok(())
}

/// What is to be made from what.
struct Job<'a> {
    own: &'a Whole,
    files: &'a dyn Files,
    list: &'a Delta,
    older: &'a Path,
    target: &'a Path,
    context: &'a Context<'a>,
}

impl Job<'_> {
    /// Opens the older images, wherever they are, and makes the newer download.
    fn with_older(&self) -> Answer {
        let folder = self.older.is_dir();
        let path = if folder { self.older.join(ARCHIVE) } else { self.older.to_owned() };
        let file = open(&path)?;
        let other = |_| self.other();
        let outer = TarFiles::<ArchiveFile>::new(&file).map_err(other)?;
        if folder {
            return self.make(&outer);
        }
        let images = outer.within(&format!("{}/{ARCHIVE}", self.list.from)).ok_or_else(|| self.other())?;
        self.make(&TarFiles::new(&images).map_err(other)?)
    }

    /// Makes the newer download. It appears only if it is what its statement says.
    fn make(&self, older: &dyn Files) -> Answer {
        let mut wrong = None;
        let written = output::write_checked(
            self.target,
            |out| {
                self.list.apply(self.files, &self.own.folder, &self.own.seal, older, out).map_err(|error| match error {
                    DeltaError::Io(error) => error,
                    error => io::Error::other(error),
                })
            },
            |draft| match whole(draft, self.context) {
                Ok(made) if made.folder == format!("{}/", self.list.to) => Ok(()),
                made => {
                    wrong = made.err();
                    Err(io::Error::other("it is not what the statement in it says"))
                }
            },
        );
        let Err(error) = written else { return Ok(()) };
        if let Some(failure) = wrong {
            return Err(failure);
        }
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let damaged = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData);
        let base = cause.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<DeltaError>());
        if damaged || matches!(base, Some(DeltaError::Base(_))) { Err(self.other()) } else { Err(from_output(error)) }
    }

    fn other(&self) -> Failure {
        other(self.older, &self.list.from, self.context.language)
    }
}

/// Says that the older archive is another one.
fn other(older: &Path, from: &str, language: Language) -> Failure {
    let shown = older.display();
    let failure = Failure::no(language.choose(
        format!("`{shown}` is not `{from}.tar` as it was released"),
        format!("`{shown}` n’est pas `{from}.tar` telle qu’elle a été publiée"),
    ));
    in_language(
        failure.hint(language.choose(
            "name that one, or download the new version as a whole; nothing was written",
            "indiquez celle-là, ou téléchargez la nouvelle version entière ; rien n’a été écrit",
        )),
        language,
    )
}

fn from_delta(error: DeltaError, path: &Path, older: &Path, language: Language) -> Failure {
    match error {
        DeltaError::Missing(_) => in_language(
            Failure::project(language.choose(
                format!("`{}` is a whole download, or another one", path.display()),
                format!("`{}` est un téléchargement entier, ou un autre", path.display()),
            ))
            .hint(language.choose(
                format!("what makes a new version from `{}` is called `…-from-NUMBER.tar`", older.display()),
                format!("ce qui fait d’une ancienne version (`{}`) une nouvelle s’appelle `…-from-NUMÉRO.tar`", older.display()),
            )),
            language,
        ),
        error => Failure::no(format!("`{}` cannot be used", path.display())).because(error),
    }
}

fn open(path: &Path) -> Result<ArchiveFile, Failure> {
    match layout::open(path).map_err(|error| from_layout(&error))? {
        Handed::File(file) => Ok(file),
        Handed::Folder(_) => Err(Failure::project(format!("`{}` is a folder", path.display())).hint("name the download itself")),
    }
}
