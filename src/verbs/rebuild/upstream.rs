//! The release that a rebuild starts from: found, and verified before anything else is done.
//!
//! What is verified is the signed statement, by the keys that the user trusts; that it is about this lock and this product; that the
//! recipes are those of its commit, where git knows it; and, once the version of before is built, that each image is the very one that
//! was signed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::words::Words;
use super::{RECORD_LIMIT, records};
use crate::edge::git::Git;
use crate::execute::Built;
use crate::failure::Failure;
use crate::image::oci::Platform;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::name::{Architecture, ImageName};
use crate::model::number::Number;
use crate::model::rebuild::{FOLDER, Name, RECORD, Record, SIGNATURE};
use crate::model::releases;
use crate::trust::chain::Chain as Verified;
use crate::trust::verdict::GoodRelease;
use crate::trust::{keyring, release};
use crate::verbs::registry::Reach;
use crate::verbs::verify::rebuilt::{Kept, chain};
use crate::verbs::verify::{Demand, Doubt, What, genuine};
use crate::verbs::workplace::{LOCK_FILE, Workplace};
use crate::verbs::{Context, published};

/// Bytes of a signed statement at most.
const STATEMENT_LIMIT: u64 = crate::trust::bundle::LIMIT as u64;

/// Files that are named; what else differs is counted.
const MOST_NAMED: usize = 5;

/// How locks lead from the project's own back to the one that a release was of.
pub struct Chain {
    /// The lock of the release, or the first that there was.
    root: FileDigest,
    /// The rebuilds between, the newest first.
    rebuilds: Vec<(Name, Record)>,
    /// The newest release whose lock is the root.
    release: Option<Number>,
}

/// What a rebuild starts from.
pub enum Upstream {
    Release(Box<GoodRelease>),
    /// A project that was never released, because somebody said so.
    Never,
}

/// What the command line says about it.
pub struct Asked<'a> {
    pub release: Option<&'a str>,
    pub unreleased: bool,
    /// Rebuilds before this one may be unsigned.
    pub unsigned: bool,
    pub older: bool,
    /// A registry, perhaps with a path.
    pub registry: Option<&'a str>,
    pub reach: &'a Reach,
}

impl Chain {
    /// Follows the records of rebuilds back from the project's lock.
    pub fn of(workplace: &Workplace) -> Result<Option<Self>, Failure> {
        let digest = |path: &str| -> Result<Option<FileDigest>, Failure> {
            Ok(workplace.folder.read(path, RECORD_LIMIT)?.map(|bytes| FileDigest::of(&bytes)))
        };
        let Some(mut root) = digest(LOCK_FILE)? else { return Ok(None) };
        let mut known: Vec<(Name, Record)> = records(workplace)?.into_iter().collect();
        let mut rebuilds = Vec::new();
        while let Some(at) = known.iter().rposition(|(_, record)| record.lock == root && record.base_lock != root) {
            let found = known.remove(at);
            root = found.1.base_lock;
            rebuilds.push(found);
        }
        let mut release = None;
        for name in workplace.folder.entries(releases::FOLDER)? {
            let number = name.strip_suffix(".lock").and_then(|name| name.parse::<Number>().ok());
            let Some(number) = number.filter(|number| !number.is_candidate()) else { continue };
            if digest(&format!("{}/{name}", releases::FOLDER))? == Some(root) {
                release = release.max(Some(number));
            }
        }
        Ok(Some(Self { root, rebuilds, release }))
    }

    /// Returns the chain with one rebuild more.
    pub fn with(mut self, name: Name, record: Record) -> Self {
        self.rebuilds.insert(0, (name, record));
        self
    }

    /// Verifies every rebuild between the release and the project's lock: who signed it, and that each begins with what was there before it.
    pub fn verify(
        &self,
        context: &Context<'_>,
        words: Words,
        workplace: &Workplace,
        upstream: &Upstream,
        asked: &Asked<'_>,
    ) -> Result<Verified, Failure> {
        let mut read = Vec::new();
        for (name, _) in &self.rebuilds {
            let path = |file: &str| format!("{FOLDER}/{name}/{file}");
            let bytes = |file: &str| workplace.folder.read(&path(file), RECORD_LIMIT);
            read.push((bytes(RECORD)?.unwrap_or_default(), bytes(SIGNATURE)?, path(SIGNATURE)));
        }
        let kept: Vec<Kept<'_>> =
            read.iter().map(|(record, signature, name)| Kept { record, signature: signature.as_deref(), name }).collect();
        let (release, never) = match upstream {
            Upstream::Release(good) => (Some(good.as_ref()), false),
            Upstream::Never => (None, true),
        };
        let verified = chain(&kept, release, asked.unsigned || never, context).map_err(|failure| words.bad_chain(failure))?;
        for (rebuild, signer) in &verified.rebuilds {
            context.screen.note(&words.goes_on_from(rebuild.record.name, signer.as_ref()));
        }
        Ok(verified)
    }
}

/// Finds and verifies what a rebuild starts from.
pub fn find(
    context: &Context<'_>,
    words: Words,
    workplace: &Workplace,
    chain: &Chain,
    asked: &Asked<'_>,
) -> Result<Upstream, Failure> {
    if asked.unreleased {
        return match chain.release {
            None => Ok(Upstream::Never),
            Some(number) => Err(words.is_released(number)),
        };
    }
    let product = Some(workplace.project.name.clone());
    let demand = Demand { product, number: None, older: asked.older, older_option: "--older-release" };
    let number = asked.release.and_then(|text| text.parse::<Number>().ok());
    let good = match (asked.release, number) {
        (Some(path), None) => genuine(What::Target(path), &demand, context).map_err(|doubt| in_words(doubt, words))?,
        (_, number) => {
            if let (Some(number), Some(known)) = (number, chain.release)
                && number.release() != known.release()
            {
                return Err(words.other_release(number, known));
            }
            let number = chain.release.or(number).ok_or_else(|| words.no_release())?;
            let (bytes, keyring, place) = statement(context, words, workplace, number, asked)?;
            let what = What::Statement { bytes: &bytes, keyring: keyring.as_deref(), name: &place };
            // A newer one in its place would be remembered, and the one that was meant be refused from then on.
            let demand = Demand { number: Some(number), ..demand };
            genuine(what, &demand, context).map_err(|doubt| in_words(doubt, words))?
        }
    };
    let version = good.release.version;
    if version.is_candidate() {
        return Err(words.is_candidate(version));
    }
    if number.is_some_and(|number| number.release() != version.release()) {
        return Err(words.about_else(&format!("{} {version}", good.release.product)));
    }
    if good.release.lock != chain.root {
        return Err(words.other_lock(version));
    }
    same_recipes(context, words, workplace, &good)?;
    context.screen.note(&words.verified(&good));
    Ok(Upstream::Release(Box::new(good)))
}

/// Without a trusted key nobody can decide; all else is a verdict.
fn in_words(doubt: Doubt, words: Words) -> Failure {
    match doubt {
        Doubt::NobodyTrusted(failure) => words.nobody_trusted(failure),
        doubt => doubt.into(),
    }
}

/// A signed statement, the list of keys that goes with it, and where it was found.
type Found = (Vec<u8>, Option<Vec<u8>>, String);

/// Finds the signed statement on a release: in the project, else in its registry.
fn statement(
    context: &Context<'_>,
    words: Words,
    workplace: &Workplace,
    number: Number,
    asked: &Asked<'_>,
) -> Result<Found, Failure> {
    let folder = releases::FOLDER;
    let path = format!("{folder}/{number}.sigstore.json");
    if let Some(bytes) = workplace.folder.read(&path, STATEMENT_LIMIT)? {
        let keyring = workplace.folder.read(&format!("{folder}/{}", keyring::FILE), STATEMENT_LIMIT)?;
        return Ok((bytes, keyring, path));
    }
    let recorded = workplace.folder.records()?.into_iter().find(|record| record.version == number);
    let prefix = asked.registry.map(str::to_owned).or_else(|| recorded?.registry).or_else(|| workplace.project.registry.clone());
    let Some(prefix) = prefix else { return Err(words.no_statement(number, &path)) };
    let place = published::place(&prefix, number);
    let found = published::find(context, &prefix, number, asked.reach)?;
    let read = |name: &str| found.as_ref().map_or(Ok(None), |found| found.file(name, STATEMENT_LIMIT));
    let bytes = read(release::FILE)?.ok_or_else(|| words.no_statement(number, &place))?;
    Ok((bytes, read(keyring::FILE)?, place))
}

/// Refuses recipes that are not those of the signed commit, where git knows it. Images are compared in any case.
fn same_recipes(context: &Context<'_>, words: Words, workplace: &Workplace, good: &GoodRelease) -> Result<(), Failure> {
    let commit = good.release.commit.as_str();
    let changed = Git::open(workplace.folder.root()).and_then(|git| git.changed_since(commit, &["recipes", "images"]));
    match changed {
        Ok(changed) if changed.is_empty() => Ok(()),
        Ok(mut changed) => {
            let more = changed.len().saturating_sub(MOST_NAMED);
            changed.truncate(MOST_NAMED);
            let mut named: Vec<String> = changed.iter().map(|path| format!("`{}`", path.escape_debug())).collect();
            if more > 0 {
                named.push(format!("… {more}"));
            }
            Err(words.other_recipes(good.release.version, &named.join(", ")))
        }
        // No git, no repository, or not this commit: the images tell.
        Err(_) => {
            context.screen.note(&words.no_commit(&commit[..12.min(commit.len())]));
            Ok(())
        }
    }
}

impl Upstream {
    /// Returns the release that is rebuilt.
    pub fn version(&self) -> Option<Number> {
        match self {
            Self::Release(good) => Some(good.release.version.release()),
            Self::Never => None,
        }
    }

    /// Returns where the release is kept.
    pub fn registry(&self) -> Option<&str> {
        match self {
            Self::Release(good) => good.release.registry.as_deref(),
            Self::Never => None,
        }
    }

    /// Returns what is written down of it: the same for all who rebuild the release.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Never => Value::Null,
            Self::Release(good) => {
                let release = &good.release;
                json!({
                    "product": release.product,
                    "version": release.version,
                    "sequence": release.sequence,
                    "issued": release.issued,
                    "statement": good.statement,
                    "key": good.signer.key,
                    "commit": release.commit,
                    "lock": release.lock,
                })
            }
        }
    }

    /// Refuses a version of before that is not what was signed, or what the last rebuild made: each image, no more and no fewer.
    pub fn is_base(
        &self,
        context: &Context<'_>,
        words: Words,
        chain: &Chain,
        platform: &Architecture,
        built: &[Built],
    ) -> Result<(), Failure> {
        let signed: BTreeMap<&ImageName, BlobDigest> = match (chain.rebuilds.first(), self) {
            (Some((_, record)), _) => {
                let here = record.all.iter().filter(|one| one.platform == platform.as_str());
                here.map(|one| (&one.name, one.manifest)).collect()
            }
            (None, Self::Release(good)) => {
                // As OCI names it, which is not always as Debian does: i386 is `linux/386`.
                let on = Platform::of(platform).to_string();
                let images = good.release.images.iter();
                let found = images.filter_map(|one| Some((one, one.platforms.iter().find(|other| other.platform == on)?)));
                found.map(|(one, there)| (&one.name, there.manifest)).collect()
            }
            (None, Self::Never) => return Ok(()),
        };
        // A rebuild on a machine that could not run this platform's programs left it out, and its lock is signed all the same.
        if signed.is_empty() {
            context.screen.note(&words.platform_unsigned(platform));
            return Ok(());
        }
        for image in built {
            match signed.get(&image.name) {
                None => return Err(words.not_named(image.name.as_str())),
                Some(digest) if *digest != image.record.manifest => {
                    let (signed, built) = (digest.to_string(), image.record.manifest.to_string());
                    return Err(words.other_base(image.name.as_str(), &signed, &built));
                }
                Some(_) => {}
            }
        }
        match signed.keys().find(|name| !built.iter().any(|image| image.name == ***name)) {
            Some(name) => Err(words.gone(name.as_str())),
            None => Ok(()),
        }
    }
}

/// Returns the folder of a source checkout that somebody named in place of a release.
pub fn checkout(text: &str, here: &Path) -> Option<std::path::PathBuf> {
    if text.parse::<Number>().is_ok() {
        return None;
    }
    Some(here.join(text)).filter(|folder| folder.join("parvis.yaml").is_file())
}
