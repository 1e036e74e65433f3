//! The bundle that a command is about: found, read and held against its own description.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Arguments;
use super::change_words::Trouble;
use super::words::Problem;
use crate::bundle::change::Journal;
use crate::bundle::manifest::{ARCHIVE, BundledImage, COMPOSE, MANIFEST, Manifest, SETTINGS, is_of_release};
use crate::bundle::settings::Settings;
use crate::edge::engine::EngineError;
use crate::edge::place::{self, BundleFolder, PlaceError, Seekable};
use crate::failure::Failure;
use crate::image::archive::{Files as _, TarFiles};
use crate::image::canonical;
use crate::model::digest::StepKey;
use crate::model::language::Language;
use crate::verbs::{Context, bundle};

/// A demo that went from folder to folder more often is not followed.
const MOST_MOVES: usize = 20;

/// Says in the person's language what went wrong.
#[derive(Clone, Copy)]
pub struct Voice(pub Language);

impl Voice {
    pub fn problem(self, problem: Problem) -> Failure {
        problem.failure(self.0)
    }

    pub fn change(self, trouble: Trouble) -> Failure {
        self.problem(Problem::Change(trouble))
    }

    pub fn engine(self, error: EngineError) -> Failure {
        self.problem(Problem::Engine(error))
    }

    pub fn place(self, error: PlaceError) -> Failure {
        let kind = error.source.kind();
        let absent = matches!(kind, std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
        self.problem(Problem::File {
            action: error.action,
            path: error.path.display().to_string(),
            cause: error.source.to_string(),
            absent,
            full: kind == std::io::ErrorKind::StorageFull,
        })
    }
}

/// What parvis remembers of a bundle between two commands. What is lost here is found out again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// `up` has begun and the password was not shown yet.
    pub owes_password: bool,
    /// What was running when `up` last came to its end.
    pub started: Option<String>,
    /// A restore began and did not come to its end: the backup's file.
    pub restoring: Option<String>,
    pub certificates: Vec<Certificate>,
    /// Where the data were before they came to this version.
    pub came_from: Option<PathBuf>,
    /// The version that `rollback` goes back to.
    pub previous: Option<Previous>,
    /// Where the data went from here: this version does not run any more.
    pub went_to: Option<PathBuf>,
}

/// The version before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    pub folder: PathBuf,
    pub version: String,
    /// Its data, as they were when it was left.
    pub backup: PathBuf,
    /// Whether this version's jobs changed the data, so that the older one may not understand them any more.
    pub moved: bool,
}

/// A certificate as the job that makes keys announced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub name: String,
    /// The last day, `2027-12-31`.
    pub until: String,
}

/// A bundle in its folder.
pub struct Place {
    pub folder: BundleFolder,
    pub manifest: Manifest,
    pub settings: Settings,
    /// The name of the compose project.
    pub project: String,
    pub memory: Memory,
    pub voice: Voice,
    /// The digest of `bundle.json`.
    pub digest: StepKey,
}

impl Place {
    /// Finds the bundle that a command without a file is about.
    pub fn find(arguments: &Arguments, context: &Context<'_>) -> Result<Self, Failure> {
        let voice = Voice(context.language);
        let is_bundle = |folder: &PathBuf| folder.join(MANIFEST).is_file();
        let here = || Some(context.folder.clone()).filter(is_bundle);
        let of_project = || bundle::place_of_project(context).filter(is_bundle);
        let found = arguments.bundle.clone().or_else(here).or_else(of_project);
        let folder = if let Some(folder) = found {
            folder
        } else {
            let last = place::last_started(&context.state).ok_or_else(|| voice.problem(Problem::NoBundle))?;
            if !is_bundle(&last) {
                return Err(voice.problem(Problem::Gone { path: last.display().to_string() }));
            }
            last
        };
        let mut place = Self::open(&folder, voice)?;
        // The command is about the demo, wherever it went.
        for _ in 0..MOST_MOVES {
            match place.successor()? {
                Some(next) => place = next,
                None => break,
            }
        }
        Ok(place)
    }

    /// Returns the bundle that took this one's place, if that still holds.
    pub fn successor(&self) -> Result<Option<Self>, Failure> {
        let Some(folder) = self.memory.went_to.as_ref().filter(|folder| folder.join(MANIFEST).is_file()) else { return Ok(None) };
        let next = Self::open(folder, self.voice)?;
        // After `reset` there it remembers nothing, and this one is free to begin anew.
        Ok(Some(next).filter(|next| next.memory.came_from.as_deref() == Some(self.folder.path())))
    }

    /// Returns the journal of a change of version that did not come to its end, with the folder that it lies in.
    pub fn under_way(&self) -> Result<Option<Journal>, Failure> {
        let read = |folder: &BundleFolder| -> Result<Option<Journal>, Failure> {
            let Some(bytes) = folder.journal().map_err(|error| self.voice.place(error))? else { return Ok(None) };
            let journal = Journal::parse(&bytes).map_err(|error| {
                let because = std::error::Error::source(&error).map(|cause| format!("{error}: {cause}"));
                let (folder, cause) = (folder.path().display().to_string(), because.unwrap_or_else(|| error.to_string()));
                self.voice.change(Trouble::Journal { folder, cause })
            })?;
            Ok(Some(journal))
        };
        if let Some(journal) = read(&self.folder)? {
            return Ok(Some(journal));
        }
        // The journal lies where the change set out from.
        let Some(from) = self.memory.came_from.as_ref().and_then(|folder| BundleFolder::open(folder).ok()) else {
            return Ok(None);
        };
        Ok(read(&from)?.filter(|journal| journal.to.folder == self.folder.path()))
    }

    /// Refuses to touch data that are on their way from one version to another.
    pub fn nothing_under_way(&self) -> Result<(), Failure> {
        match self.under_way()? {
            Some(journal) => Err(self.voice.change(Trouble::UnderWay { version: journal.to.version })),
            None => Ok(()),
        }
    }

    /// Opens the bundle that somebody named: its folder, or a tar, which is unpacked beside itself.
    pub fn named(path: &Path, voice: Voice) -> Result<Self, Failure> {
        if path.is_dir() { Self::open(path, voice) } else { Self::open(&unpacked(path, voice)?, voice) }
    }

    /// Opens a bundle in a folder. Every file but the settings must be as it was delivered.
    pub fn open(path: &Path, voice: Voice) -> Result<Self, Failure> {
        let failed = |error| voice.place(error);
        let folder = BundleFolder::open(path).map_err(failed)?;
        let bytes = folder.read(MANIFEST).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| voice.problem(Problem::NotABundle { path: path.display().to_string() }))?;
        let manifest = parse(&bytes, voice)?;
        for (name, digest) in &manifest.files {
            // The archive is checked blob by blob when it is needed; the settings are the user's.
            if name == ARCHIVE || name == SETTINGS {
                continue;
            }
            match folder.digest(name).map_err(failed)? {
                None => return Err(voice.problem(Problem::Missing { file: name.clone() })),
                Some(found) if found != *digest => return Err(voice.problem(Problem::Altered { file: name.clone() })),
                Some(_) => {}
            }
        }
        // A folder without settings runs on the defaults.
        let text = folder.read(SETTINGS).map_err(failed)?.unwrap_or_default();
        let settings = Settings::parse(&String::from_utf8_lossy(&text))
            .map_err(|error| voice.problem(Problem::Settings { line: error.line }))?;
        let project = settings.get("COMPOSE_PROJECT_NAME").unwrap_or(manifest.name.as_str()).to_owned();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if !project.bytes().all(allowed) || project.starts_with(['-', '_']) || project.len() > 60 {
            return Err(voice.problem(Problem::ProjectName { value: project }));
        }
        let memory = folder.memory().map_err(failed)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(Self { folder, manifest, settings, project, memory, voice, digest: StepKey::of(&bytes) })
    }

    /// Lets no other parvis work on this bundle until the returned value is dropped.
    pub fn lock(&self) -> Result<impl Drop + use<>, Failure> {
        let held = self.folder.lock().map_err(|error| self.voice.place(error))?;
        held.ok_or_else(|| self.voice.problem(Problem::Busy))
    }

    /// Returns the value of a parameter's variable: the user's, else the default.
    pub fn value(&self, variable: &str) -> Option<&str> {
        let default = || self.manifest.parameters.iter().find(|parameter| parameter.variable.as_str() == variable);
        self.settings.get(variable).or_else(|| default().map(|parameter| parameter.default.as_str()))
    }

    /// Replaces each `${VARIABLE}` by its value.
    pub fn filled(&self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else { break };
            out.push_str(before);
            out.push_str(self.value(name).unwrap_or_default());
            rest = behind;
        }
        out + rest
    }

    /// Returns the image that the services run: what stands in the settings, as long as it is an Id.
    pub fn image(&self, image: &BundledImage) -> String {
        let set = self.settings.get(image.variable.as_str()).filter(|value| value.starts_with("sha256:"));
        set.unwrap_or(&image.reference).to_owned()
    }

    /// Returns the variables that only `.env` may set.
    pub fn variables(&self) -> Vec<String> {
        let images = self.manifest.images.iter().map(|image| image.variable.to_string());
        let parameters = self.manifest.parameters.iter().map(|parameter| parameter.variable.to_string());
        images.chain(parameters).chain(self.settings.names().map(str::to_owned)).collect()
    }

    /// Writes the settings, where they changed.
    pub fn save_settings(&self) -> Result<(), Failure> {
        self.folder.write_settings(&self.settings.render()).map_err(|error| self.voice.place(error))
    }

    /// Remembers what is in `memory`.
    pub fn remember(&self) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(&self.memory)
            .map_err(|error| Failure::bug("what is remembered cannot be written").because(error))?;
        self.folder.remember(&bytes).map_err(|error| self.voice.place(error))
    }

    /// Returns what tells this bundle with these settings from any other.
    pub fn fingerprint(&self) -> String {
        StepKey::of(format!("{} {} {}", self.digest, self.project, self.settings.render()).as_bytes()).hex()
    }

    /// Returns the names that the engine has for the volumes.
    pub fn volumes(&self) -> Vec<String> {
        let names = self.manifest.volumes.iter().map(|volume| volume.name.as_str());
        names.map(|name| crate::edge::engine::volume_name(&self.project, name)).collect()
    }
}

fn parse(bytes: &[u8], voice: Voice) -> Result<Manifest, Failure> {
    Manifest::parse(bytes).map_err(|error| {
        let because = std::error::Error::source(&error).map(|cause| format!("{error}: {cause}"));
        voice.problem(Problem::Manifest { cause: because.unwrap_or_else(|| error.to_string()) })
    })
}

/// Unpacks a bundle beside its tar, in a folder of the same name; one that is there already is taken as it is.
fn unpacked(path: &Path, voice: Voice) -> Result<PathBuf, Failure> {
    let source = place::open_file(path).map_err(|error| voice.place(error))?;
    let shown = path.display().to_string();
    let no_bundle = || voice.problem(Problem::NotABundle { path: shown.clone() });
    let damaged = |error: &dyn std::error::Error| voice.problem(Problem::Manifest { cause: format!("`{shown}`: {error}") });
    let files = TarFiles::<Seekable>::new(&source).map_err(|error| damaged(&error))?;
    let open = |name: &str| files.open(name).map_err(|error| damaged(&error));
    // Either the files themselves, or one folder that holds them.
    let names: Vec<&str> = files.names().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let top = names.iter().find_map(|name| name.strip_suffix(MANIFEST).filter(|top| top.matches('/').count() <= 1));
    let top = top.filter(|top| top.is_empty() || top.ends_with('/')).ok_or_else(no_bundle)?;
    let read = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
        let Some((size, content)) = open(&format!("{top}{name}"))? else { return Ok(None) };
        let mut bytes = Vec::new();
        let limit = canonical::LIMIT as u64;
        content.take(limit.min(size)).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        Ok(Some(bytes))
    };
    let bytes = read(MANIFEST)?.ok_or_else(no_bundle)?;
    let manifest = parse(&bytes, voice)?;
    let known = |name: &str| {
        [MANIFEST, SETTINGS, ARCHIVE, COMPOSE].contains(&name) || manifest.files.contains_key(name) || is_of_release(name)
    };
    let mut content: Vec<(String, Box<dyn Read + '_>)> = Vec::new();
    for name in &names {
        let own = name.strip_prefix(top).filter(|own| known(own)).ok_or_else(|| {
            voice.problem(Problem::Manifest { cause: format!("`{shown}` holds `{name}`, which is not of the bundle") })
        })?;
        let (_, file) = open(name)?.ok_or_else(no_bundle)?;
        content.push((own.to_owned(), file));
    }
    let folder = path.with_extension("");
    if folder == path || folder.exists() {
        let there = BundleFolder::open(&folder).and_then(|there| there.read(MANIFEST)).ok().flatten();
        return if there.as_ref() == Some(&bytes) {
            Ok(folder)
        } else {
            Err(voice.problem(Problem::Unpacked { folder: folder.display().to_string() }))
        };
    }
    place::unpack(&folder, content).map_err(|error| voice.place(error))?;
    Ok(folder)
}
