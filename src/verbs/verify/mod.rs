//! `parvis verify`: whether something is genuine, unchanged and of its time, with nothing but itself and a trusted key.

mod again;
mod again_words;
mod gather;
mod listed;
mod memory;
pub mod rebuilt;
pub mod said;
mod words;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::image::from_layout;
use super::key::from_keys;
use super::registry::{Reach, reference};
use super::sign::repository_of;
use super::{Answer, Context, in_language};
use crate::bundle::manifest::{self, MANIFEST, SETTINGS};
use crate::bundle::settings::Settings;
use crate::edge::keys::{self, KeysError, Memory, TrustFolder};
use crate::edge::layout::{self, ArchiveFile, Handed, LayoutFolder};
use crate::edge::registry::Access;
use crate::failure::Failure;
use crate::image::archive::{self, Files, ReadAt as _, TarFiles};
use crate::image::layout::{Form, Layout};
use crate::image::oci::Descriptor;
use crate::image::repository::Repository;
use crate::model::digest::{FileDigest, Hasher};
use crate::model::language::Language;
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::rebuild;
use crate::model::reference::{Pick, Reference};
use crate::model::release::Release;
use crate::screen::{Task, Unit};
use crate::trust::bundle::Bundle;
use crate::trust::chain::Chain;
use crate::trust::key::{Fingerprint, KeyError};
use crate::trust::keyring::{self, Keyring};
use crate::trust::rebuilt::Rebuilt;
use crate::trust::release;
use crate::trust::verdict::{
    self, Anchor, Evidence, Finding, FoundFile, GoodImage, GoodRelease, ImageQuestion, Outcome, Question, Signer, Trust,
};
use crate::trust::yank;
use gather::from_place;
use memory::{Known, remember, remember_yank};
use words::Check;

/// Files of a download that the statement cannot name: itself, the list of keys, which is signed by its own root, and that it was taken
/// back, which was said later.
const SEALS: [&str; 3] = [release::FILE, keyring::FILE, yank::FILE];

/// What stands in an archive of images beside their blobs.
const IMAGES: [&str; 5] = ["index.json", "manifest.json", "oci-layout", "repositories", archive::REFERRERS];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 good (with --rebuild: and the same), 1 refused (or it differs), 3 could not decide. Codes of verdicts: E01 no signature, E02 unknown key, \
    E03 changed, E04 about something else, E05 older than what was seen, E06 past its time or taken back, E07 key replaced or revoked, \
    E08 wrong clock, E09 missing, E10 unusable key, E11 cannot be read or reached."
)]
pub struct Arguments {
    /// What to verify: a download (`.tar`), a bundle folder, a signed statement, an archive or layout of images (`:NAME` behind
    /// it picks one image), or an image in a registry (default: this folder)
    target: Option<String>,
    /// Trust this key and no other: a file that ends in `.pub`, or a `keyring.sigstore.json` (default: `parvis trust list`)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Repository that the image must be signed for (default: the one that it is in, or its name in the layout)
    #[arg(long, value_name = "REGISTRY/NAME")]
    repository: Option<String>,
    /// Product that the release must be of
    #[arg(long, value_name = "NAME")]
    product: Option<ImageName>,
    /// Take a release that is older than the newest one that this machine has seen
    #[arg(long)]
    allow_older: bool,
    /// Do not download the layers of an image in a registry: only its signatures and documents are looked at
    #[arg(long)]
    skip_layers: bool,
    #[command(flatten)]
    again: again::Options,
    #[command(flatten)]
    reach: Reach,
}

impl Arguments {
    /// Returns what another verb asks with.
    fn of_another_verb(product: Option<ImageName>, allow_older: bool) -> Self {
        let (key, again, reach) = (Vec::new(), again::Options::default(), Reach::default());
        Self { target: None, key, repository: None, product, allow_older, skip_layers: false, again, reach }
    }
}

/// Why an answer is not "good": a verdict, or a command line that makes no sense.
enum Stop {
    Finding(Finding),
    Failure(Failure),
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Self {
        Self::Finding(finding)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let target = arguments.target.clone().unwrap_or_else(|| ".".to_owned());
    let mut inquiry = Inquiry::new(arguments, context)?;
    let finding = match inquiry.ask(&target) {
        Ok(()) => None,
        Err(Stop::Failure(failure)) => return Err(failure),
        Err(Stop::Finding(finding)) => Some(finding),
    };
    if finding.is_none()
        && let Some(release) = &inquiry.release
    {
        remember(&Memory::new(&context.state), release)?;
    }
    if !arguments.again.rebuild {
        return inquiry.answer(&target, finding, None);
    }
    if let Some(good) = inquiry.release.clone().filter(|_| finding.is_none() && inquiry.chain.is_none()) {
        let rebuilt = again::again(&arguments.again, &arguments.reach, context, &target, &good)?;
        inquiry.answer(&target, None, Some(&rebuilt))?;
        return again::show(&rebuilt, context);
    }
    inquiry.answer(&target, finding, None)?;
    // A bad signature has ended this already: what is left is a good one that is of no release.
    Err(again_words::no_release(&target, context.language))
}

/// What is to be genuine before something is done with it.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// What a person can name: a file, a folder, an image in a registry.
    Target(&'a str),
    /// A signed statement by itself, with the list of keys that came along.
    Statement { bytes: &'a [u8], keyring: Option<&'a [u8]>, name: &'a str },
}

/// What another verb insists on.
pub struct Demand {
    /// The product that the release must be of.
    pub product: Option<ImageName>,
    /// The number that it must have, where somebody named one.
    pub number: Option<Number>,
    /// Whether a release may be older than the newest that was seen.
    pub older: bool,
    /// The option of that verb which says so.
    pub older_option: &'static str,
}

/// Why something is not the genuine release that another verb wants.
pub enum Doubt {
    /// Nobody signed it.
    Unsigned(Failure),
    /// Whoever signed it: this machine has no key that it trusts, so nothing can be compared.
    NobodyTrusted(Failure),
    /// The verdict is no, or none can be given.
    Verdict(Failure),
}

impl From<Doubt> for Failure {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Unsigned(failure) | Doubt::NobodyTrusted(failure) | Doubt::Verdict(failure) => failure,
        }
    }
}

/// Verifies a release as `parvis verify` does, for a verb that is going to use it, and remembers it where it is good.
pub fn genuine(what: What<'_>, demand: &Demand, context: &Context<'_>) -> Result<GoodRelease, Doubt> {
    judged(what, demand, context, |inquiry| inquiry.release.take())
}

/// Verifies a security rebuild likewise, from its folder back to the release; returns who made it of what, in words.
pub fn genuine_rebuild(folder: &str, demand: &Demand, context: &Context<'_>) -> Result<String, Doubt> {
    judged(What::Target(folder), demand, context, |inquiry| {
        let (name, by, before) = inquiry.last_rebuild()?;
        Some(Check::Rebuild { name, by: by.clone(), before }.text(context.language))
    })
}

/// Verifies something, and takes out of the inquiry what it was found to be.
fn judged<T>(
    what: What<'_>,
    demand: &Demand,
    context: &Context<'_>,
    found: impl FnOnce(&mut Inquiry<'_>) -> Option<T>,
) -> Result<T, Doubt> {
    let arguments = Arguments::of_another_verb(demand.product.clone(), demand.older);
    let mut inquiry = Inquiry::new(&arguments, context).map_err(Doubt::Verdict)?;
    inquiry.number = demand.number;
    let asked = match what {
        What::Target(target) => inquiry.ask(target),
        What::Statement { bytes, keyring, name } => inquiry.ask_statement(bytes, keyring, name),
    };
    let finding = match asked {
        Ok(()) => {
            let release = inquiry.release.clone();
            if let Some(found) = found(&mut inquiry) {
                if let Some(release) = &release {
                    remember(&Memory::new(&context.state), release).map_err(Doubt::Verdict)?;
                }
                return Ok(found);
            }
            // Signatures of images alone say neither which version they are nor that they belong together.
            Finding::NoSignature { place: shown(what), others: vec!["signature".to_owned()] }
        }
        Err(Stop::Failure(failure)) => return Err(Doubt::Verdict(failure)),
        Err(Stop::Finding(finding)) => finding,
    };
    let language = context.language;
    let mut failure = refusal(&finding, language);
    if matches!(finding, Finding::Older { .. }) {
        failure = failure.hint(words::advice(&finding, language).replace("--allow-older", demand.older_option));
    }
    Err(match finding {
        Finding::NoSignature { .. } => Doubt::Unsigned(failure),
        Finding::UnknownKey { .. } | Finding::Unconfirmed { .. } if inquiry.trust.anchors.is_empty() => {
            let message = words::nobody_trusted(language);
            let advice = words::advice(&finding, language);
            Doubt::NobodyTrusted(in_language(
                Failure::world(message).because(words::sentence(&finding, language)).hint(advice),
                language,
            ))
        }
        _ => Doubt::Verdict(failure),
    })
}

fn shown(what: What<'_>) -> String {
    match what {
        What::Target(name) | What::Statement { name, .. } => name.to_owned(),
    }
}

/// One question, and what was found so far.
struct Inquiry<'a> {
    arguments: &'a Arguments,
    context: &'a Context<'a>,
    trust: Trust,
    folder: TrustFolder,
    known: Known,
    /// The number that was asked for: what is found must be of exactly that one.
    number: Option<Number>,
    checks: Vec<Check>,
    /// The release that everything was found to belong to.
    release: Option<GoodRelease>,
    /// The security rebuild of it, where it is one.
    chain: Option<Chain>,
}

impl<'a> Inquiry<'a> {
    fn new(arguments: &'a Arguments, context: &'a Context<'a>) -> Result<Self, Failure> {
        Ok(Self {
            arguments,
            context,
            trust: Trust::default(),
            folder: TrustFolder::new(&context.config),
            known: Known::read(&Memory::new(&context.state))?,
            number: None,
            checks: Vec::new(),
            release: None,
            chain: None,
        })
    }

    /// Judges a signed statement that is at hand.
    fn ask_statement(&mut self, bytes: &[u8], keyring: Option<&[u8]>, name: &str) -> Result<(), Stop> {
        self.trust = self.trusted()?;
        if let Some(keyring) = keyring {
            self.keyring(keyring)?;
        }
        self.statement_bytes(bytes, name).map(drop)
    }

    fn ask(&mut self, target: &str) -> Result<(), Stop> {
        self.trust = self.trusted()?;
        let Some((path, name)) = layout::locate(target) else { return self.registry(&reference(target)?) };
        self.number = self.number.or_else(|| name?.rsplit(':').next()?.parse().ok());
        match layout::open(&path).map_err(|error| from_layout(&error))? {
            Handed::Folder(folder) => self.in_folder(&path, &folder, name),
            Handed::File(file) => {
                let mut first = [0];
                let unreadable = |error: io::Error| unreadable(&path, &error);
                if file.read_at(&mut first, 0).map_err(unreadable)? == 1 && first == *b"{" {
                    return self.statement_file(&path, &file);
                }
                match TarFiles::new(&file) {
                    Ok(files) => self.in_tar(&path, &files, name),
                    Err(error) => self.listed_file(&path, from_archive(&path, error)),
                }
            }
        }
    }

    /// Returns whose signatures count: with keys that were named, those and not even the user's own.
    fn trusted(&self) -> Result<Trust, Stop> {
        let own = if self.arguments.key.is_empty() { rebuilt::own(self.context)? } else { None };
        Ok(Trust::new(self.anchors()?).with_own(own))
    }

    /// Returns whom to trust: the keys that were named, else those of the user's folder.
    fn anchors(&self) -> Result<Vec<Anchor>, Stop> {
        if self.arguments.key.is_empty() {
            return Ok(pinned(&self.folder)?);
        }
        let anchor = |name: String, key, keyring| Anchor { name, key, keyring };
        let mut anchors = Vec::new();
        for path in &self.arguments.key {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match keys::public_key(path) {
                Ok(key) => anchors.push(anchor(name, key, None)),
                Err(KeysError::Key { source: KeyError::NoPublicKey, .. } | KeysError::Io { .. }) if path.is_file() => {
                    let (keyring, _) = keys::signed_keyring(path)
                        .map_err(unusable)?
                        .ok_or_else(|| unreadable(path, &io::ErrorKind::NotFound.into()))?;
                    anchors.push(anchor(name, keyring.root.clone(), Some(keyring)));
                }
                Err(error) => return Err(unusable(error).into()),
            }
        }
        Ok(anchors)
    }

    /// Takes in a list of keys that came along. One that renews a trusted one is kept, whatever the verdict will be.
    fn keyring(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Ok(keyring) = Keyring::parse(bytes) else { return Ok(()) };
        if let Some(name) = self.trust.take(keyring)
            && self.arguments.key.is_empty()
            && let Ok(name) = name.parse()
        {
            self.folder.write_keyring(&name, bytes).map_err(from_keys)?;
        }
        Ok(())
    }

    /// Takes in that a release was taken back, if who says so is trusted. It is remembered, whatever the verdict will be.
    fn taken_back(&mut self, bundle: &Bundle) -> Result<(), Stop> {
        let Some((yank, signer)) = self.question(|question| question.yank(bundle)) else { return Ok(()) };
        if self.known.take_back(&yank, signer.anchor) {
            remember_yank(&Memory::new(&self.context.state), &yank, signer.anchor)?;
        }
        Ok(())
    }

    /// Takes in what stands in a folder beside a statement: the list of keys, and whether the release was taken back.
    fn seals(&mut self, files: &dyn Files, folder: &str) -> Result<(), Stop> {
        if let Some(bytes) = small(files, &format!("{folder}{}", keyring::FILE))? {
            self.keyring(&bytes)?;
        }
        if let Some(bytes) = small(files, &format!("{folder}{}", yank::FILE))?
            && let Ok(bundle) = Bundle::parse(&bytes)
        {
            self.taken_back(&bundle)?;
        }
        Ok(())
    }

    /// Asks something that depends on whom to trust, what was seen, and what time it is.
    fn question<T>(&self, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let seen = |product: &str, anchor: Fingerprint| self.known.seen(product, anchor);
        let taken_back = |product: &str, anchor, version| self.known.taken_back(product, anchor, version);
        ask(&Question {
            now: Moment(self.context.now),
            trust: &self.trust,
            seen: &seen,
            taken_back: &taken_back,
            product: self.arguments.product.as_ref().map(ImageName::as_str),
            number: self.number,
            older: self.arguments.allow_older,
        })
    }

    fn checked(&mut self, check: Check) {
        if !self.checks.contains(&check) {
            self.checks.push(check);
        }
    }

    fn is_release(&mut self, good: GoodRelease) -> Result<(), Finding> {
        if let Some(other) = self.release.as_ref().filter(|other| other.statement != good.statement) {
            // Two statements in one place: a mixture, and be each of its parts genuine.
            let called = |good: &GoodRelease| format!("{} {}", good.release.product, good.release.version);
            return Err(Finding::Other { expected: called(other), found: called(&good) });
        }
        self.checked(Check::Signature(good.signer.clone()));
        if let Some(before) = good.replaced {
            self.checked(Check::Replaced { before });
        }
        let days = Moment(self.context.now).days_since(good.release.issued);
        self.checked(Check::Validity { until: good.release.valid_until.day(), days });
        if good.compared {
            self.checked(Check::Sequence { sequence: good.release.sequence });
        }
        self.release = Some(good);
        Ok(())
    }

    /// Judges the signed statement in a file, with the list of keys beside it.
    fn statement(&mut self, files: &dyn Files, folder: &str) -> Result<Release, Stop> {
        let at = |name: &str| format!("{folder}{name}");
        self.seals(files, folder)?;
        let name = at(release::FILE);
        let bytes = small(files, &name)?.ok_or_else(|| Finding::Missing { name: name.clone() })?;
        self.statement_bytes(&bytes, &name)
    }

    fn statement_bytes(&mut self, bytes: &[u8], name: &str) -> Result<Release, Stop> {
        let bundle = parse_bundle(bytes, name)?;
        let good = self.question(|question| question.release(&bundle, name))?;
        let release = good.release.clone();
        self.is_release(good)?;
        Ok(release)
    }

    /// A signed statement by itself; of its files those are looked at that stand beside it.
    fn statement_file(&mut self, path: &Path, file: &ArchiveFile) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        let content = Reader { file, offset: 0 };
        content.take(crate::trust::bundle::LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        let name = path.display().to_string();
        if let Err(finding) = parse_bundle(&bytes, &name) {
            return self.listed_file(path, finding);
        }
        let Some(folder) = beside(path)? else { return Ok(()) };
        self.seals(&folder, "")?;
        let release = self.statement_bytes(&bytes, &name)?;
        let there: Vec<_> = release.files().filter(|(name, ..)| matches!(folder.open(name), Ok(Some(_)))).collect();
        self.files(&there, &|name| folder.open(name))
    }

    /// A file that is neither a statement nor an archive: one that the statement beside it names, an SBOM for instance.
    fn listed_file(&mut self, path: &Path, otherwise: Finding) -> Result<(), Stop> {
        let (Some(folder), Some(name)) = (beside(path)?, path.file_name().and_then(|name| name.to_str())) else {
            return Err(otherwise.into());
        };
        if small(&folder, release::FILE)?.is_none() {
            return Err(otherwise.into());
        }
        let release = self.statement(&folder, "")?;
        let own: Vec<_> = release.files().filter(|(listed, ..)| *listed == name).collect();
        if own.is_empty() {
            return Err(otherwise.into());
        }
        self.files(&own, &|name| folder.open(name))
    }

    fn in_folder(&mut self, path: &Path, folder: &LayoutFolder, name: Option<&str>) -> Result<(), Stop> {
        let has = |name: &str| Ok::<bool, Finding>(folder.open(name).map_err(|error| unreadable(path, &error))?.is_some());
        let (signed, bundle, layout) = (has(release::FILE)?, has(MANIFEST)?, has("index.json")?);
        if !bundle && !layout && (has(rebuild::SIGNATURE)? || has(rebuild::RECORD)?) {
            return self.rebuild_folder(path, folder);
        }
        // A bundle is what would be started: nothing else in its folder may stand for it.
        if layout && !bundle {
            return self.images(folder, &path.display().to_string(), Form::Folder, name);
        }
        if !signed && bundle {
            return Err(Finding::NoSignature { place: path.display().to_string(), others: Vec::new() }.into());
        }
        if !signed {
            return Err(Failure::project(format!("`{}` holds nothing that could be verified", path.display()))
                .hint(format!(
                    "name a download, a folder with `{}`, an archive or layout of images, or an image in a registry",
                    release::FILE
                ))
                .into());
        }
        let release = self.statement(folder, "")?;
        if bundle {
            return self.bundle_folder(path, folder, &release);
        }
        // A folder of downloads: files stand in it, or in the download that has their folder's name.
        let mut tars = BTreeMap::new();
        for (name, ..) in release.files() {
            let Some((stem, _)) = name.split_once('/') else { continue };
            let tar = path.join(format!("{stem}.tar"));
            if !tars.contains_key(stem) && tar.is_file() {
                let Handed::File(file) = layout::open(&tar).map_err(|error| from_layout(&error))? else { continue };
                tars.insert(stem.to_owned(), file);
            }
        }
        let mut opened = BTreeMap::new();
        for (stem, file) in &tars {
            let files = TarFiles::new(file).map_err(|error| from_archive(&path.join(format!("{stem}.tar")), error))?;
            listed_only(&files, &format!("{stem}/"), &release)?;
            opened.insert(stem.as_str(), files);
        }
        let expected: Vec<_> = release.files().collect();
        self.files(&expected, &|name| {
            let tar = name.split_once('/').and_then(|(stem, _)| opened.get(stem));
            tar.map_or_else(|| folder.open(name), |files| files.open(name))
        })
    }

    /// A bundle as it was unpacked: its files, but for the settings, which are the user's.
    fn bundle_folder(&mut self, path: &Path, folder: &LayoutFolder, release: &Release) -> Result<(), Stop> {
        let bytes = small(folder, MANIFEST)?.ok_or_else(|| Finding::Missing { name: MANIFEST.into() })?;
        let digest = FileDigest::of(&bytes);
        let changed = |found: String| Finding::Changed { name: MANIFEST.into(), expected: String::new(), found };
        let own = release
            .files()
            .find(|(name, known, _)| *known == digest && (*name == MANIFEST || name.ends_with(&format!("/{MANIFEST}"))));
        let (own, ..) = own.ok_or_else(|| changed("it is of another release".into()))?;
        let prefix = own.strip_suffix(MANIFEST).unwrap_or_default().to_owned();
        let expected: Vec<_> =
            release.files().filter(|(name, ..)| name.starts_with(&prefix) && name[prefix.len()..] != *SETTINGS).collect();
        self.files(&expected, &|name| folder.open(&name[prefix.len()..]))?;
        // Compose reads these by itself, and lets them change everything.
        for stem in ["compose", "docker-compose", "compose.override", "docker-compose.override"] {
            for ending in ["yaml", "yml"] {
                let name = format!("{stem}.{ending}");
                let listed = expected.iter().any(|(listed, ..)| listed[prefix.len()..] == name);
                if !listed && path.join(&name).exists() {
                    return Err(Finding::Unlisted { name }.into());
                }
            }
        }
        let bundle = manifest::Manifest::parse(&bytes).map_err(|error| changed(error.to_string()))?;
        for image in &bundle.images {
            if release.image_of(&image.manifest).is_none() {
                return Err(Finding::Other { expected: image.reference.clone(), found: image.manifest.to_string() }.into());
            }
        }
        self.checked(Check::Images { count: bundle.images.len() });
        // The settings are the user's, as long as they start what was signed.
        let text = small(folder, SETTINGS)?.unwrap_or_default();
        let unlisted = |what: String| Finding::Unlisted { name: format!("{SETTINGS}: {what}") };
        let settings = Settings::parse(&String::from_utf8_lossy(&text)).map_err(|error| unlisted(error.line.to_string()))?;
        match bundle.misled_by(&settings) {
            Some((name, value)) => Err(unlisted(format!("{name}={}", crate::model::problem::shown(value))).into()),
            None => Ok(()),
        }
    }

    fn in_tar(&mut self, path: &Path, files: &TarFiles<'_, ArchiveFile>, name: Option<&str>) -> Result<(), Stop> {
        let has_images = files.names().any(|name| name == b"index.json");
        let Some(folder) = sealed_folder(files, has_images) else {
            // A bundle that nobody signed.
            let bundle = |name: &[u8]| name == MANIFEST.as_bytes() || name.ends_with(format!("/{MANIFEST}").as_bytes());
            if !has_images && files.names().any(bundle) {
                return Err(Finding::NoSignature { place: path.display().to_string(), others: Vec::new() }.into());
            }
            // What is started from an archive could stand beside its images, which alone are signed.
            let of_images = |name: &[u8]| IMAGES.iter().any(|known| known.as_bytes() == name) || name.starts_with(b"blobs/");
            let sealed = |name: &[u8]| SEALS.iter().any(|known| known.as_bytes() == name);
            if let Some(other) = files.names().find(|name| has_images && !of_images(name) && !sealed(name)) {
                return Err(Finding::Unlisted { name: crate::model::problem::shown(&String::from_utf8_lossy(other)) }.into());
            }
            return self.images(files, &path.display().to_string(), Form::Archive, name);
        };
        // The publisher may have said more since, beside the download.
        if let Some(beside) = beside(path)? {
            self.seals(&beside, "")?;
        }
        let release = self.statement(files, &folder)?;
        listed_only(files, &folder, &release)?;
        let expected: Vec<_> = release.files().filter(|(name, ..)| name.starts_with(&folder)).collect();
        self.files(&expected, &|name| files.open(name))
    }

    /// Reads files in full and compares them with what the statement promises.
    fn files(&mut self, expected: &[(&str, FileDigest, u64)], open: &Open<'_>) -> Result<(), Stop> {
        let (count, bytes) = compare(expected, open, self.context)?;
        if count > 0 {
            self.checked(Check::Files { count, bytes });
        }
        Ok(())
    }

    /// The images of a layout or archive, or the one of this name.
    fn images(&mut self, files: &dyn Files, place: &str, form: Form, name: Option<&str>) -> Result<(), Stop> {
        // An engine that reads the one list must see what one that reads the other sees.
        archive::read(files).map_err(|error| from_archive(Path::new(place), error))?;
        let layout = Layout::open(files, place, form).map_err(from_place)?;
        self.seals(files, "")?;
        let mut beside = Vec::new();
        if let Some(bytes) = small(files, release::FILE)? {
            beside.push(Evidence::Bundle(parse_bundle(&bytes, release::FILE)?));
        }
        let images: Vec<_> = layout
            .images()
            .iter()
            .filter(|image| name.is_none_or(|name| image.names.iter().any(|known| known == name)))
            .collect();
        if images.is_empty() {
            return Err(Failure::project(format!("`{place}` holds no such image"))
                .hint("`parvis diff` and `skopeo inspect` say what is in it")
                .into());
        }
        let task = self.context.screen.work("verify", None, Unit::Bytes);
        for image in images {
            let named = self.arguments.repository.clone().or_else(|| repository_of(image.names.first()?, None));
            let shown = image.names.first().cloned().unwrap_or_else(|| image.descriptor.digest.to_string());
            self.image(&layout, &image.descriptor, named.as_deref(), &shown, &beside)?;
            self.checked(gather::hash(&layout, &image.descriptor, &shown, &*task)?);
        }
        Ok(())
    }

    fn registry(&mut self, wanted: &Reference) -> Result<(), Stop> {
        let remote = self.arguments.reach.open(self.context, &wanted.repository, Access::Read)?;
        let absent = || Failure::no(format!("there is no `{wanted}`")).hint("look at its name and tag");
        // A tag is asked for once: all that follows is about one digest.
        let pick = wanted
            .pick
            .as_ref()
            .ok_or_else(|| Failure::project(format!("`{wanted}` does not say which image")).hint("add a tag or a digest"))?;
        if let Pick::Tag(tag) = pick {
            self.number = self.number.or_else(|| tag.as_str().parse().ok());
        }
        let image = remote.find(pick).map_err(from_place)?.ok_or_else(absent)?;
        let named = self.arguments.repository.clone().unwrap_or_else(|| wanted.repository.to_string());
        self.image(&remote, &image, Some(&named), &wanted.to_string(), &[])?;
        if !self.arguments.skip_layers {
            let task = self.context.screen.work("verify", None, Unit::Bytes);
            self.checked(gather::hash(&remote, &image, &wanted.to_string(), &*task)?);
        }
        Ok(())
    }

    /// Judges an image by its signatures.
    fn image(
        &mut self,
        place: &dyn Repository,
        image: &Descriptor,
        repository: Option<&str>,
        shown: &str,
        beside: &[Evidence],
    ) -> Result<(), Stop> {
        let mut evidence = gather::evidence(place, &image.digest)?;
        evidence.extend_from_slice(beside);
        for found in &evidence {
            if let Evidence::Bundle(bundle) = found {
                self.taken_back(bundle)?;
            }
        }
        let anchors: Vec<Fingerprint> = self.trust.anchors.iter().map(|anchor| anchor.key.fingerprint()).collect();
        let released = repository.and_then(|repository| self.known.product_of(repository, &anchors));
        let place = if shown.starts_with(&place.place()) { shown.to_owned() } else { format!("{}: {shown}", place.place()) };
        let asked = ImageQuestion { place: &place, digest: image.digest, repository, released };
        match self.question(|question| question.image(&asked, &evidence))? {
            GoodImage::Release(good) => {
                self.is_release(*good)?;
                if let Some(repository) = repository {
                    self.checked(Check::Name(repository.to_owned()));
                }
            }
            GoodImage::Rebuild(chain) => self.is_rebuild(*chain)?,
            GoodImage::Signature { signer, named } => {
                self.checked(Check::Signature(signer));
                if let Some(name) = named {
                    self.checked(Check::Name(name));
                }
            }
        }
        Ok(())
    }

    /// Whether the bytes themselves were read, and not only what is said of them.
    fn is_read(&self) -> bool {
        self.checks.iter().any(|check| matches!(check, Check::Blobs { .. } | Check::Files { .. }))
    }

    fn answer(&self, target: &str, finding: Option<Finding>, rebuilt: Option<&Rebuilt>) -> Answer {
        let language = self.context.language;
        let day =
            |good: &GoodRelease| (good.release.product.to_string(), good.release.version.to_string(), good.release.issued.day());
        let released = self.release.as_ref().map(day);
        let good = || match self.last_rebuild() {
            Some((name, by, before)) => words::rebuilt(target, &name, by, &before, language),
            None => words::good(target, released.as_ref(), self.is_read(), language),
        };
        let sentence = finding.as_ref().map_or_else(good, |finding| words::sentence(finding, language));
        if self.context.json {
            let mut document = self.json(target, &sentence, finding.as_ref());
            if self.arguments.again.rebuild {
                document["rebuild"] = json!(rebuilt);
            }
            self.context.screen.document(&document);
        }
        let Some(finding) = finding else {
            if !self.context.json {
                self.context.screen.say(&sentence);
                for check in &self.checks {
                    self.context.screen.say(&format!("  {}", check.text(language)));
                }
                if self.release.is_none() && self.chain.is_none() {
                    self.context.screen.note(&words::not_compared(language));
                }
            }
            return Ok(());
        };
        Err(refusal(&finding, language))
    }

    fn json(&self, target: &str, sentence: &str, finding: Option<&Finding>) -> Value {
        let language = self.context.language;
        let verdict = match finding.map(Finding::outcome) {
            None => "good",
            Some(Outcome::Refused) => "refused",
            Some(Outcome::Undecided) => "undecided",
        };
        let signer = |signer: &Signer| json!({"name": signer.name, "fingerprint": signer.key, "root": signer.vouched.as_ref().map(|(root, _)| root)});
        let signers: Vec<Value> = self
            .checks
            .iter()
            .filter_map(|check| if let Check::Signature(found) = check { Some(signer(found)) } else { None })
            .collect();
        let release = self.release.as_ref().map(|good| {
            let Release { product, version, sequence, issued, valid_until, .. } = &good.release;
            json!({"product": product, "version": version, "sequence": sequence, "issued": issued, "valid_until": valid_until, "statement": good.statement})
        });
        json!({
            "target": target,
            "verdict": verdict,
            "code": finding.map(Finding::code),
            "sentence": sentence,
            "advice": finding.map(|finding| words::advice(finding, language)),
            "signers": signers,
            "release": release,
            "rebuilt": self.chain.as_ref().map(rebuilt::to_json),
            "checks": self.checks.iter().map(|check| json!({"check": check.name(), "text": check.text(language)})).collect::<Vec<_>>(),
        })
    }
}

/// Returns whom the user trusts.
fn pinned(folder: &TrustFolder) -> Result<Vec<Anchor>, Finding> {
    let pinned = folder.all().map_err(unusable)?;
    Ok(pinned.into_iter().map(Anchor::from).collect())
}

fn unusable(error: KeysError) -> Finding {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Finding::Key { words: format!("{error}{cause}") }
}

/// How a file is opened by the name that the statement gives it.
type Open<'a> = dyn Fn(&str) -> io::Result<Option<(u64, Box<dyn Read + 'a>)>> + 'a;

/// Returns digest and size of a file; nothing where it is missing. One of another size than promised is not read.
fn digest(open: &Open<'_>, name: &str, promised: u64, task: &dyn Task) -> Result<FoundFile, Finding> {
    let failed = |error: io::Error| unreadable(Path::new(name), &error);
    let Some((size, mut content)) = open(name).map_err(failed)? else { return Ok(None) };
    if size != promised {
        let (expected, found) = (format!("{promised} B"), format!("{size} B"));
        return Err(Finding::Changed { name: name.to_owned(), expected, found });
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer).map_err(failed)? {
            0 => return Ok(Some((hasher.finish(), size))),
            count => {
                hasher.update(&buffer[..count]);
                task.advance(count as u64);
            }
        }
    }
}

/// Opens the folder in which a file is.
fn beside(path: &Path) -> Result<Option<LayoutFolder>, Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match layout::open(folder).map_err(|error| from_layout(&error))? {
        Handed::Folder(folder) => Ok(Some(folder)),
        Handed::File(_) => Ok(None),
    }
}

/// Returns the folder of a download, with its slash: that with the statement in it.
fn sealed_folder(files: &TarFiles<'_, ArchiveFile>, has_images: bool) -> Option<String> {
    let sealed = files.names().filter_map(|name| std::str::from_utf8(name).ok()?.strip_suffix(release::FILE));
    let folder = sealed.filter(|folder| folder.is_empty() || folder.ends_with('/') && folder.matches('/').count() == 1).min();
    folder.filter(|folder| !folder.is_empty() || !has_images).map(str::to_owned)
}

/// A download that is what the statement in it says, whoever signed that.
pub struct Whole {
    /// Its folder, with the slash.
    pub folder: String,
    /// The bytes of the statement's file.
    pub seal: Vec<u8>,
    pub release: Release,
}

/// Reads a download in full, and compares it with the statement in it. Nothing is asked of who signed.
pub fn whole(path: &Path, context: &Context<'_>) -> Result<Whole, Failure> {
    let file = match layout::open(path).map_err(|error| from_layout(&error))? {
        Handed::File(file) => file,
        Handed::Folder(_) => {
            return Err(Failure::project(format!("`{}` is a folder", path.display())).hint("name the download itself"));
        }
    };
    whole_tar(path, &file, context).map_err(|finding| refusal(&finding, context.language))
}

fn whole_tar(path: &Path, file: &ArchiveFile, context: &Context<'_>) -> Result<Whole, Finding> {
    let files = TarFiles::new(file).map_err(|error| from_archive(path, error))?;
    let none = || Finding::NoSignature { place: path.display().to_string(), others: Vec::new() };
    let folder = sealed_folder(&files, false).ok_or_else(none)?;
    let name = format!("{folder}{}", release::FILE);
    let seal = small(&files, &name)?.ok_or_else(|| Finding::Missing { name: name.clone() })?;
    let release = release::parse(&parse_bundle(&seal, &name)?).map_err(|error| Finding::Changed {
        name,
        expected: String::new(),
        found: error.to_string(),
    })?;
    listed_only(&files, &folder, &release)?;
    let expected: Vec<_> = release.files().filter(|(name, ..)| name.starts_with(&folder)).collect();
    compare(&expected, &|name| files.open(name), context)?;
    Ok(Whole { folder, seal, release })
}

/// Reads files in full and compares them with what is promised of them. Returns how many there are, and their bytes.
fn compare(expected: &[(&str, FileDigest, u64)], open: &Open<'_>, context: &Context<'_>) -> Result<(usize, u64), Finding> {
    let task = context.screen.work("verify", Some(expected.iter().map(|(_, _, size)| size).sum()), Unit::Bytes);
    let mut found: BTreeMap<String, FoundFile> = BTreeMap::new();
    for (name, _, size) in expected {
        task.detail(name);
        found.insert((*name).to_owned(), digest(open, name, *size, &*task)?);
    }
    verdict::files(expected.iter().copied(), &found)
}

/// Says in the person's language why something is not good.
fn refusal(finding: &Finding, language: Language) -> Failure {
    let refused = finding.outcome() == Outcome::Refused;
    let colon = language.choose(":", " :");
    let sentence = words::sentence(finding, language);
    let message = format!("{}, {}{colon} {sentence}", words::verdict(refused, language), finding.code());
    let failure = if refused { Failure::no(message) } else { Failure::world(message) };
    in_language(failure.hint(words::advice(finding, language)), language)
}

/// Refuses a download in which something stands that the statement does not name.
fn listed_only(files: &TarFiles<'_, ArchiveFile>, folder: &str, release: &Release) -> Result<(), Finding> {
    for name in files.names() {
        let name = String::from_utf8_lossy(name);
        let inside = name.strip_prefix(folder);
        let sealed = inside.is_some_and(|inside| SEALS.contains(&inside));
        if !sealed && (inside.is_none() || !release.files().any(|(listed, ..)| listed == name)) {
            return Err(Finding::Unlisted { name: crate::model::problem::shown(&name) });
        }
    }
    Ok(())
}

fn parse_bundle(bytes: &[u8], name: &str) -> Result<Bundle, Finding> {
    Bundle::parse(bytes).map_err(|error| Finding::Changed {
        name: name.to_owned(),
        expected: String::new(),
        found: error.to_string(),
    })
}

/// Reads a small file of a place; nothing where there is none.
fn small(files: &dyn Files, name: &str) -> Result<Option<Vec<u8>>, Finding> {
    let failed = |error: io::Error| unreadable(Path::new(name), &error);
    let Some((size, content)) = files.open(name).map_err(failed)? else { return Ok(None) };
    let limit = crate::trust::bundle::LIMIT as u64;
    if size > limit {
        return Err(Finding::Changed { name: name.to_owned(), expected: format!("≤ {limit} B"), found: format!("{size} B") });
    }
    let mut bytes = Vec::new();
    content.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Reads an archive's file from its beginning.
struct Reader<'a> {
    file: &'a ArchiveFile,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    Finding::Unreachable { place: path.display().to_string(), words: error.to_string() }
}

/// Says what is wrong with an archive: what the system reports is no fault of it.
fn from_archive(path: &Path, error: archive::ArchiveError) -> Finding {
    from_place(crate::image::layout::from_archive(&path.display().to_string(), &path.display().to_string(), error))
}
