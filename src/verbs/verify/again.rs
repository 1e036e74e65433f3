//! `parvis verify --rebuild`: a release whose signature is good is made again, from its commit, its lock and the packages that it
//! keeps, in a store of its own and with nothing of an archive; then every digest is compared.

use std::fs;
use std::path::{Path, PathBuf};

use super::again_words as words;
use super::{from_archive, listed, small};
use crate::bundle::manifest::ARCHIVE;
use crate::edge::git::Git;
use crate::edge::layout::{self, Handed};
use crate::edge::output;
use crate::edge::project::ProjectFolder;
use crate::edge::registry::{Access, Remote};
use crate::edge::store::Store;
use crate::execute::Built;
use crate::failure::{Failure, Kind};
use crate::image::archive::TarFiles;
use crate::image::diff::{self, FileChange};
use crate::image::oci::{Descriptor, Platform};
use crate::image::repository::Repository as _;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::language::Language;
use crate::model::name::Architecture;
use crate::model::release::Release;
use crate::model::releases::{FOLDER, Record, ReleasedImage, ReleasedPlatform};
use crate::trust::rebuilt::{self, Cause, Origin, Rebuilt, RebuiltFile, RebuiltImage, SUMMARY, Verdict};
use crate::trust::statement::{Attachment, Statement, Subject};
use crate::trust::verdict::GoodRelease;
use crate::verbs::image::{Image, from_layout};
use crate::verbs::key::{Unlock, open_key};
use crate::verbs::registry::{Reach, from_repository, repository};
use crate::verbs::release::kept;
use crate::verbs::release::publish::RELEASES;
use crate::verbs::save::from_output;
use crate::verbs::workplace::{LOCK_FILE, LOCK_LIMIT, Planned, Workplace, open_store};
use crate::verbs::{Answer, Context, build, pull, push};

/// What decides images and bundles of a project, and its lock.
const SOURCES: [&str; 6] = ["parvis.yaml", LOCK_FILE, "recipes", "images", "compose", "keys"];

/// Files of an image that are listed; what else differs is counted.
const MOST_FILES: usize = 1000;

/// Options of `parvis verify --rebuild`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Build the release again from its commit, lock and kept packages, without any archive, and compare every digest; the recipes
    /// are those of the project in this folder
    #[arg(long)]
    pub rebuild: bool,
    /// Registry, perhaps with a path, that keeps the packages and images of the release (default: the one that the release names)
    #[arg(long, value_name = "REGISTRY/PREFIX", requires = "rebuild")]
    kept_in: Option<String>,
    /// Architectures to rebuild (default: all of the release)
    #[arg(long, value_name = "NAME", requires = "rebuild")]
    platform: Vec<Architecture>,
    /// Key that signs what came of the rebuild: its name, or a file in cosign's form. The verdict then hangs on each image
    #[arg(long, value_name = "NAME|FILE", requires = "rebuild")]
    attest: Option<String>,
    #[command(flatten)]
    unlock: Unlock,
}

/// One question.
pub(super) struct Again<'a> {
    options: &'a Options,
    pub(super) reach: &'a Reach,
    pub(super) context: &'a Context<'a>,
    pub(super) target: &'a str,
    pub(super) release: &'a Release,
    /// Where the release keeps packages and images.
    pub(super) prefix: Option<String>,
    language: Language,
}

/// The recipes of the release.
struct Sources {
    folder: PathBuf,
    origin: Origin,
    /// The commit has a lock, and it is not the one that was signed.
    other_lock: bool,
}

/// Makes a release again. What stands in the way is no failure of this command but the answer that there is none.
pub fn again(
    options: &Options,
    reach: &Reach,
    context: &Context<'_>,
    target: &str,
    good: &GoodRelease,
) -> Result<Rebuilt, Failure> {
    let release = &good.release;
    let prefix = options.kept_in.as_deref().or(release.registry.as_deref()).map(push::plain_prefix);
    let again = Again { options, reach, context, target, release, prefix, language: context.language };
    // Whoever has to type a passphrase does it now, and not after an hour.
    let key = options.attest.as_deref().map(|name| open_key(name, &options.unlock, context)).transpose()?;
    if key.is_some() && again.prefix.is_none() {
        return Err(words::nowhere_to_attest(again.language));
    }
    let mut answer = Rebuilt {
        format: rebuilt::FORMAT,
        verdict: Verdict::Undecided,
        sentence: String::new(),
        reason: None,
        advice: None,
        product: release.product.to_string(),
        version: release.version.to_string(),
        commit: release.commit.clone(),
        statement: good.statement.to_string(),
        lock: release.lock.to_string(),
        origin: None,
        parvis: env!("CARGO_PKG_VERSION").to_owned(),
        platforms: Vec::new(),
        images: Vec::new(),
        made_by: again.record().map(|record| record.parvis),
        documents: Vec::new(),
        attested: Vec::new(),
    };
    match again.carry_out(&mut answer) {
        Ok(()) => answer.verdict = again.judge(&mut answer),
        Err(failure) if failure.kind() == Kind::Bug => return Err(failure),
        Err(failure) => {
            // Half of an answer is none.
            answer.images.clear();
            answer.documents.clear();
            answer.advice = failure.hint_text().map(str::to_owned);
            answer.reason = Some(with_causes(&failure));
        }
    }
    answer.sentence = words::sentence(&answer, again.language);
    if let Some(key) = key.filter(|_| answer.verdict != Verdict::Undecided) {
        answer.attested = again.attest(&answer, &key)?;
    }
    Ok(answer)
}

impl Again<'_> {
    /// Says how it ended, once everything was made.
    fn judge(&self, answer: &mut Rebuilt) -> Verdict {
        // Another parvis words lists and guides otherwise: that says nothing of the release.
        let other_words = answer.made_by.as_ref().is_some_and(|other| *other != answer.parvis);
        let documents = other_words || answer.documents.iter().all(|document| document.same);
        let same = !answer.images.is_empty() && answer.images.iter().all(|image| image.same) && documents;
        match answer.origin {
            _ if same => Verdict::Same,
            Some(Origin::Commit) => Verdict::Differs,
            _ => {
                answer.reason = Some(words::unproven(&answer.commit, self.language));
                answer.advice = Some(words::check_out(&answer.commit, self.language));
                Verdict::Undecided
            }
        }
    }

    /// Makes all images and compares them.
    fn carry_out(&self, answer: &mut Rebuilt) -> Answer {
        let prefix = self.prefix.as_deref().ok_or_else(|| words::keeps_nothing(self.language))?;
        let own = open_store(self.context)?;
        // It goes away with this process, however that ends: the next one that has the store for itself empties this folder.
        let place = output::draft_folder(&own.root().join("tmp")).map_err(from_output)?;
        let sources = self.sources(&place.path().join("sources"))?;
        answer.origin = Some(sources.origin);
        if sources.other_lock {
            // The statement contradicts itself; there is nothing that could be built from both.
            answer.reason = Some(words::other_lock(&answer.commit, self.language));
            return Ok(());
        }
        let there = Context {
            folder: sources.folder,
            store: place.path().join("store"),
            profile: self.profile(),
            mirrors: Vec::new(),
            json: false,
            ..self.context.clone()
        };
        // Packages come from where the release keeps them, or not at all.
        let mut alone = there.clone();
        alone.fetch.offline = true;
        let store = open_store(&there)?;
        let platforms = self.platforms(&there)?;
        for platform in &platforms {
            answer.platforms.push(Platform::of(platform).to_string());
        }
        for platform in &platforms {
            let on = Platform::of(platform).to_string();
            let names: Vec<String> = self.of_platform(&on).map(|(image, _)| image.name.to_string()).collect();
            let planned = Planned::make(&there, &store, &names, Some(platform.as_str()))
                .map_err(|failure| words::other_recipes(&failure, self.language))?;
            let site = planned.site(&there);
            kept::fetch(&there, &planned, &site, Some(prefix), self.reach)?;
            let built = build::carry_out(&alone, &planned, &planned.site(&alone))?;
            for (image, on) in self.of_platform(&on) {
                let made = built.iter().find(|made| made.name == image.name);
                let made = made.ok_or_else(|| Failure::bug(format!("`{}` was not built", image.name)))?;
                let compared = self.compare(&there, &planned, (image, on), made, place.path())?;
                answer.images.push(compared);
            }
            answer.documents.extend(listed::compare(self, &there, &planned, place.path())?);
        }
        Ok(())
    }

    fn of_platform<'b>(&'b self, platform: &'b str) -> impl Iterator<Item = (&'b ReleasedImage, &'b ReleasedPlatform)> {
        let images = self.release.images.iter();
        images.flat_map(move |image| image.platforms.iter().filter(move |on| on.platform == platform).map(move |on| (image, on)))
    }

    /// Returns the architectures to build for, by Debian's names.
    fn platforms(&self, there: &Context<'_>) -> Result<Vec<Architecture>, Failure> {
        let workplace = Workplace::open(there).map_err(|failure| words::other_recipes(&failure, self.language))?;
        if workplace.project.name != self.release.product {
            return Err(words::other_project(workplace.project.name.as_str(), self.release.product.as_str(), self.language));
        }
        let has = |architecture: &&Architecture| self.of_platform(&Platform::of(architecture).to_string()).next().is_some();
        if let Some(other) = self.options.platform.iter().find(|asked| !has(asked)) {
            return Err(words::no_platform(other.as_str(), self.language));
        }
        let all: Vec<Architecture> = workplace.project.architectures.iter().filter(has).cloned().collect();
        let known: Vec<String> = all.iter().map(|architecture| Platform::of(architecture).to_string()).collect();
        let mut released = self.release.images.iter().flat_map(|image| &image.platforms);
        if let Some(other) = released.find(|on| !known.contains(&on.platform)).filter(|_| self.options.platform.is_empty()) {
            return Err(words::no_platform(&other.platform, self.language));
        }
        Ok(if self.options.platform.is_empty() { all } else { self.options.platform.clone() })
    }

    /// Returns the record of the release, where the project here has it.
    fn record(&self) -> Option<Record> {
        let records = ProjectFolder::find(&self.context.folder).ok()?.records().ok()?;
        records.into_iter().find(|record| record.version == self.release.version && record.lock == self.release.lock)
    }

    /// Returns the profile: the one asked for, else the one that the record of the release names.
    fn profile(&self) -> Option<String> {
        self.context.profile.clone().or_else(|| self.record()?.profile)
    }

    /// Finds the recipes: the commit that the statement names, else a folder with the release's lock.
    fn sources(&self, into: &Path) -> Result<Sources, Failure> {
        let checkout = ProjectFolder::find(&self.context.folder).map_err(|error| {
            let failure = Failure::from(error);
            words::no_project(&failure, self.language)
        })?;
        let commit = &self.release.commit;
        if let Ok(git) = Git::open(checkout.root())
            && git.has(commit).unwrap_or(false)
        {
            output::make_folder(into).map_err(from_output)?;
            git.export(commit, &SOURCES, into).map_err(crate::verbs::release::prepare::from_git)?;
            let lock = into.join(LOCK_FILE);
            let known = fs::read(&lock).ok();
            let other_lock = known.as_ref().is_some_and(|bytes| FileDigest::of(bytes) != self.release.lock);
            if known.is_none() {
                // A project may keep its lock out of git.
                let bytes = self.lock(&checkout)?;
                output::write_whole(&lock, |out| out.write_all(&bytes)).map_err(from_output)?;
            }
            return Ok(Sources { folder: into.to_owned(), origin: Origin::Commit, other_lock });
        }
        let found = checkout.read(LOCK_FILE, LOCK_LIMIT).map_err(Failure::from)?.unwrap_or_default();
        if FileDigest::of(&found) != self.release.lock {
            return Err(words::other_checkout(&checkout.root().display().to_string(), commit, self.language));
        }
        Ok(Sources { folder: checkout.root().to_owned(), origin: Origin::Folder, other_lock: false })
    }

    /// Finds the lock where the commit does not have it: in the records of the project, beside the statement, in the registry.
    fn lock(&self, checkout: &ProjectFolder) -> Result<Vec<u8>, Failure> {
        let is_it = |bytes: &Vec<u8>| FileDigest::of(bytes) == self.release.lock;
        let recorded = checkout.read(&format!("{FOLDER}/{}.lock", self.release.version), LOCK_LIMIT).map_err(Failure::from)?;
        if let Some(bytes) = recorded.filter(is_it) {
            return Ok(bytes);
        }
        if let Some((path, _)) = layout::locate(self.target) {
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")).to_owned() };
            if let Ok(Handed::Folder(folder)) = layout::open(&folder)
                && let Ok(Some(bytes)) = small(&folder, LOCK_FILE)
                && is_it(&bytes)
            {
                return Ok(bytes);
            }
        }
        let listed = self.release.files().find(|(name, ..)| *name == LOCK_FILE);
        if let (Some(prefix), Some((_, digest, size))) = (&self.prefix, listed.filter(|(.., size)| *size <= LOCK_LIMIT)) {
            let remote = self.reach.open(self.context, &repository(prefix, RELEASES)?, Access::Read)?;
            if let Some(mut content) = remote.blob(&BlobDigest::from(*digest.bytes()), size).map_err(from_repository)? {
                let mut bytes = Vec::new();
                content
                    .read_to_end(&mut bytes)
                    .map_err(|error| Failure::world(format!("`{LOCK_FILE}` cannot be read")).because(error))?;
                return Ok(bytes);
            }
        }
        Err(words::no_lock(self.language))
    }

    /// Holds a rebuilt image against the released one.
    fn compare(
        &self,
        there: &Context<'_>,
        planned: &Planned<'_>,
        (image, on): (&ReleasedImage, &ReleasedPlatform),
        made: &Built,
        place: &Path,
    ) -> Result<RebuiltImage, Failure> {
        let mut compared = RebuiltImage {
            name: image.name.to_string(),
            platform: on.platform.clone(),
            released: on.manifest.to_string(),
            rebuilt: made.record.manifest.to_string(),
            same: on.manifest == made.record.manifest,
            layers: made.record.layers.len(),
            other_layers: Vec::new(),
            settings: Vec::new(),
            files: Vec::new(),
            more_files: 0,
            unread: None,
        };
        if compared.same {
            return Ok(compared);
        }
        let read = self.released_image(there, planned.store, image, on, place).and_then(|before| {
            let after = Image::of_plan(there, planned, &image.name)?;
            let after = after.ok_or_else(|| Failure::bug(format!("`{}` is not in the store", image.name)))?;
            let difference = diff::diff(before.side(), after.side())
                .map_err(|error| Failure::project(format!("the released `{}` is damaged", image.name)).because(error))?;
            Ok(difference)
        });
        match read {
            Err(failure) if failure.kind() == Kind::Bug => return Err(failure),
            Err(failure) => compared.unread = Some(with_causes(&failure)),
            Ok(difference) => {
                compared.other_layers =
                    difference.layers.iter().filter(|layer| !layer.shared).map(|layer| layer.title.clone()).collect();
                compared.settings = difference.config.iter().map(|change| change.name.clone()).collect();
                compared.more_files = difference.files.len().saturating_sub(MOST_FILES);
                let file = |change: &FileChange| self.file(change, planned);
                compared.files = difference.files.iter().take(MOST_FILES).map(file).collect();
            }
        }
        Ok(compared)
    }

    fn file(&self, change: &FileChange, planned: &Planned<'_>) -> RebuiltFile {
        let (cause, name) = cause(&change.owner);
        let (lock, platform) = (&planned.lock, &planned.plan.platform);
        let package = name.parse().ok().and_then(|name| lock.package(&name, platform));
        let version = package.map(|package| package.version.clone()).unwrap_or_default();
        RebuiltFile {
            path: change.path.to_string(),
            kind: change.kind.to_owned(),
            owner: change.owner.clone(),
            cause,
            why: words::why(cause, name, &version, self.language),
            aspects: change
                .aspects
                .iter()
                .map(|aspect| format!("{}: {} → {}", aspect.name, aspect.before, aspect.after))
                .collect(),
        }
    }

    /// Reads a released image: from the registry, else from the download that was verified.
    fn released_image(
        &self,
        there: &Context<'_>,
        store: &Store,
        image: &ReleasedImage,
        on: &ReleasedPlatform,
        place: &Path,
    ) -> Result<Image, Failure> {
        let folder = place.join(format!("released-{}", on.manifest.hex()));
        let name = image.name.as_str();
        let fetched = self.remote(name, Access::Read).and_then(|remote| {
            pull::into_layout(&remote, &on.manifest, name, store, &folder, there)?;
            Image::handed(there, &folder.display().to_string())
        });
        let unreachable = match fetched {
            Ok(image) => return Ok(image),
            Err(failure) => failure,
        };
        let Some((path, _)) = layout::locate(self.target) else { return Err(unreachable) };
        let local = if path.join(ARCHIVE).is_file() { Some(path.join(ARCHIVE)) } else { inner_archive(&path, place)? };
        let local = local.unwrap_or(path);
        Image::handed(there, &format!("{}:{}", local.display(), on.manifest)).map_err(|_| unreachable)
    }

    fn remote(&self, image: &str, access: Access) -> Result<Remote, Failure> {
        let prefix = self.prefix.as_deref().ok_or_else(|| words::keeps_nothing(self.language))?;
        self.reach.open(self.context, &repository(prefix, image)?, access)
    }

    /// Signs the verdict on each image, and hangs it there.
    fn attest(&self, answer: &Rebuilt, key: &crate::trust::key::SigningKey) -> Result<Vec<String>, Failure> {
        let mut attested = Vec::new();
        for image in &answer.images {
            let remote = self.remote(&image.name, Access::Write)?;
            let digest: BlobDigest = image.released.parse().map_err(|_| Failure::bug("a digest cannot be read back"))?;
            let place = format!("{}@{digest}", remote.name());
            let (media_type, bytes) = remote
                .document(&digest)
                .map_err(from_repository)?
                .ok_or_else(|| words::not_there(&place, &answer.sentence, self.language))?;
            let subject = Descriptor::of(media_type, &bytes);
            let repository = remote.name().to_string();
            let statement = Statement {
                predicate: answer.predicate(image, &repository),
                subjects: vec![Subject { name: repository, digest }],
                predicate_type: SUMMARY.to_owned(),
            };
            Attachment::sign(&statement, &subject, key)
                .map_err(|error| Failure::bug("the verdict cannot be signed").because(error))?
                .put(&remote, &digest)
                .map_err(from_repository)?;
            attested.push(place);
        }
        Ok(attested)
    }
}

/// Returns why a file could differ, and the name of what puts it there.
fn cause(owner: &str) -> (Cause, &str) {
    let known = [
        ("package database", Cause::Database),
        ("package ", Cause::Package),
        ("script of ", Cause::Script),
        ("recipe ", Cause::Recipe),
        ("run of ", Cause::Command),
        ("composer package ", Cause::Composer),
    ];
    let found = known.into_iter().find_map(|(word, cause)| Some((cause, owner.strip_prefix(word)?)));
    found.unwrap_or((Cause::Nobody, ""))
}

/// Takes the archive of images out of a download; nothing where there is none in it.
fn inner_archive(path: &Path, place: &Path) -> Result<Option<PathBuf>, Failure> {
    let Handed::File(file) = layout::open(path).map_err(|error| from_layout(&error))? else { return Ok(None) };
    let refused = |finding| Failure::world(format!("`{}` cannot be read: {finding:?}", path.display()));
    let files = TarFiles::new(&file).map_err(|error| refused(from_archive(path, error)))?;
    let inside =
        files.names().find_map(|name| std::str::from_utf8(name).ok().filter(|name| name.ends_with(&format!("/{ARCHIVE}"))));
    let Some(name) = inside.map(str::to_owned) else { return Ok(None) };
    let copy = place.join(ARCHIVE);
    let unreadable = |error| Failure::world(format!("`{}` cannot be read", path.display())).because(error);
    let opened = crate::image::archive::Files::open(&files, &name).map_err(unreadable)?;
    let Some((_, mut content)) = opened else { return Ok(None) };
    output::write_whole(&copy, |out| std::io::copy(&mut content, out).map(drop)).map_err(from_output)?;
    Ok(Some(copy))
}

/// Returns what went wrong with everything that led to it, in one line.
fn with_causes(failure: &Failure) -> String {
    let mut text = failure.message().to_owned();
    let mut source = std::error::Error::source(failure);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Shows what came of it; a good verdict is no failure.
pub fn show(answer: &Rebuilt, context: &Context<'_>) -> Answer {
    let language = context.language;
    if !context.json {
        for line in words::lines(answer, language) {
            context.screen.say(&line);
        }
    }
    words::outcome(answer, language)
}
