//! `parvis rebuild`: what a parish runs when a security fix is out.
//!
//! The release that it starts from is verified first. Nothing of the project is touched until everything was proven. Then the folder of the rebuild appears whole, with the new lock in it,
//! and only after that `parvis.lock` is replaced: a run that is killed between the two is finished by the next.

mod prove;
mod report;
mod upstream;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::archive::Mirrors;
use super::build::{self, carry_out, publish};
use super::changelogs::{Account, Reading};
use super::key::{Unlock, from_keys};
use super::lists::{self, Lists};
use super::lock::{Allowed, from_locking};
use super::registry::{Reach, from_repository};
use super::release::kept;
use super::test::{self, TestResult};
use super::verify::rebuilt::PARISH;
use super::workplace::{LOCK_FILE, Planned, Workplace, open_store, read_lock};
use super::{Answer, Context, gate, held, places};
use crate::edge::keys::Keys;
use crate::edge::output::{NewFolder, OutputError};
use crate::edge::project::ProjectFolder;
use crate::edge::sandbox;
use crate::edge::store::Store;
use crate::execute::Built;
use crate::failure::Failure;
use crate::image::accounts::AccountChange;
use crate::image::oci::{self, Descriptor, Platform};
use crate::image::repository::WritableRepository;
use crate::image::{canonical, proof::Proof};
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::lock::Lock;
use crate::model::name::{Architecture, ImageName, KeyName, Suite};
use crate::model::rebuild::{FOLDER, FORMAT, Name, PUBLIC_KEY, RECORD, Record, SIGNATURE};
use crate::model::releases;
use crate::plan::locking::{Inputs, Mode, make};
use crate::plan::news::{Moves, Upload, moves, order};
use crate::trust::chain::{self, Chain as Before};
use crate::trust::key::SigningKey;
use crate::trust::release;
use crate::trust::statement::{Attachment, REBUILD, RELEASE};
use upstream::{Asked, Chain, Upstream};
use words::Words;

/// Bytes of a record at most.
const RECORD_LIMIT: u64 = 16 << 20;

/// Options of `parvis rebuild`; none is needed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 where it is done or there is nothing to do, 1 where the release is not genuine (with a code, as `parvis verify` \
    has them), a test fails, or something changed that was not announced, 2 where the project is refused, 3 where it cannot be decided \
    whether the release is genuine, or the network or the disk fails. In every case but the first the project stays as it was."
)]
pub struct Arguments {
    /// The release that is rebuilt: its number, a download (`.tar`) or a folder of it, or a checkout of the project (default: the
    /// release that the lock here is of)
    #[arg(value_name = "RELEASE")]
    release: Option<String>,
    /// Take all updates of the archive, not only security fixes
    #[arg(long)]
    all: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Go on though the distribution gets no security fixes any more
    #[arg(long)]
    past_support: bool,
    /// The project was never released, so that there is no signature to check; the rebuild records it
    #[arg(long)]
    unreleased: bool,
    /// Go on from earlier rebuilds that nobody signed
    #[arg(long)]
    unsigned: bool,
    /// Take a release that is older than the newest one that this machine has seen
    #[arg(long)]
    older_release: bool,
    /// Registry, perhaps with a path, that keeps the release and its packages (default: as the release says, else `registry` in `parvis.yaml`)
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    kept_in: Option<String>,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    reach: Reach,
}

/// What is going to be done, before anything is.
pub struct Intention {
    pub name: Name,
    pub moves: Moves,
    /// In the order of the uploads.
    pub accounts: Vec<Result<Account, String>>,
    /// The images that are built anew, and those that stay.
    pub touched: Vec<ImageName>,
    pub untouched: Vec<ImageName>,
    /// Bytes that have to be fetched.
    pub fetch: u64,
    /// Updates that no security suite has and that stay where they are.
    pub waiting: usize,
    /// What it starts from.
    pub upstream: Upstream,
    /// The rebuild before, and the digest of its statement.
    pub previous: Option<(Name, BlobDigest)>,
    /// The platforms that are rebuilt.
    pub platforms: Vec<Architecture>,
    /// The platforms of the lock that this machine cannot build.
    pub left_out: Vec<Architecture>,
}

/// The version of before and that of afterwards, on one platform.
struct Pair<'a> {
    platform: Architecture,
    before: Planned<'a>,
    after: Planned<'a>,
}

/// An image before and after.
pub struct Rebuilt {
    pub name: ImageName,
    pub platform: Architecture,
    pub before: Built,
    pub after: Built,
    /// Bytes of layers that the image before does not have.
    pub fresh: u64,
    /// The packages of it that are another version, new, or gone.
    pub changed: BTreeSet<String>,
    pub proof: Proof,
}

/// What was done.
pub struct Done {
    pub intention: Intention,
    pub images: Vec<Rebuilt>,
    /// All images, as they are now, one platform after the other.
    pub all: Vec<(Architecture, Built)>,
    /// What a registry will know each image of several platforms by.
    pub indexes: Vec<(ImageName, BlobDigest)>,
    pub tests: Vec<TestResult>,
    /// The platforms whose images were not tested.
    pub untested: Vec<Architecture>,
    pub project: String,
    pub base_lock: FileDigest,
    pub lock: FileDigest,
    /// The date of the archive that the fixes are from, RFC 3339.
    pub date: String,
    /// What stands beside the record: the lock, the report, the holes that were closed.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Rebuilds what security fixes touch.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    match arguments.release.as_deref().and_then(|text| upstream::checkout(text, &context.folder)) {
        Some(folder) => rebuild(arguments, None, &Context { folder, ..context.clone() }),
        None => rebuild(arguments, arguments.release.as_deref(), context),
    }
}

fn rebuild(arguments: &Arguments, release: Option<&str>, context: &Context<'_>) -> Answer {
    let words = Words(context.language);
    let store = open_store(context)?;
    let workplace = Workplace::open(context)?;
    // Refuses where there is no lock, or one of other recipes.
    workplace.lock()?;
    let chain = Chain::of(&workplace)?.ok_or_else(|| Failure::bug("the lock is gone"))?;
    let Arguments { unreleased, unsigned, older_release: older, kept_in, reach, .. } = arguments;
    let (unreleased, unsigned) = (*unreleased, *unsigned);
    let asked = Asked { release, unreleased, unsigned, older: *older, registry: kept_in.as_deref(), reach };
    let upstream = upstream::find(context, words, &workplace, &chain, &asked)?;
    let mut before = chain.verify(context, words, &workplace, &upstream, &asked)?;
    let (mut chain, mut finished) = (chain, Vec::new());
    while let Some((name, record, lock)) = unfinished(&workplace)? {
        // Whoever could write this folder could choose every package: it is verified as the others are.
        chain = chain.with(name, record);
        before = chain.verify(context, words, &workplace, &upstream, &asked)?;
        context.screen.note(&words.finishes(&name));
        if arguments.dry_run {
            break;
        }
        settle(context, &store, &lock, Some(name))?;
        finished.push(name.to_string());
    }
    let base = workplace.lock()?;
    let suites: Vec<Suite> = base.archives.iter().map(|state| state.suite.clone()).collect();
    let ended = |suite: &str, until: &str| words.unsupported(suite, until);
    gate::support(&workplace.project, &suites, context, arguments.past_support, ended)?;
    let Lists { universes, archives } = lists::read(&workplace, context, &store, Some(&base), &arguments.allowed.names())?;
    let (project, catalog) = (&workplace.project, &workplace.catalog);
    let inputs = Inputs { project, catalog, universes: &universes, archives, previous: Some(&base) };
    let mode = if arguments.all { Mode::UpdateAll } else { Mode::Security };
    let newer = make(&inputs, &mode).map_err(|error| from_locking(&error))?;
    let images: Vec<ImageName> = catalog.iter().map(|member| member.recipe.name.clone()).collect();
    let waiting = crate::plan::news::available(&crate::plan::news::Held::of_lock(&newer), &images, &universes).len();
    let moves = moves(&base, &newer, project);
    if moves.is_empty() {
        let document = json!({ "format": FORMAT, "name": Value::Null, "finished": finished, "waiting": waiting });
        context.answer(|| document, || words.nothing(waiting, arguments.all, !finished.is_empty()));
        return Ok(());
    }
    let name = Name::next(upstream.version(), &names(&workplace)?);
    let registry = kept_in.clone().or_else(|| upstream.registry().map(str::to_owned)).or_else(|| project.registry.clone());
    let (pairs, left_out) = pairs(context, words, &workplace, &store, &base, &newer)?;
    let (accounts, touched, untouched) = (Vec::new(), Vec::new(), Vec::new());
    let previous = before.rebuilds.first().map(|(before, _)| (before.record.name, before.statement));
    let platforms = pairs.iter().map(|pair| pair.platform.clone()).collect();
    let intention =
        Intention { name, moves, accounts, touched, untouched, fetch: 0, waiting, upstream, previous, platforms, left_out };
    let intention = intend(context, intention, &pairs)?;
    if !context.json {
        words.intention(&intention).iter().for_each(|line| context.screen.say(line));
    }
    if arguments.dry_run {
        if context.json {
            let mut document = intention.to_json();
            document["fetch"] = json!(intention.fetch);
            document["waiting"] = json!(intention.waiting);
            context.screen.document(&document);
        }
        return Ok(());
    }
    // Whoever has to type a passphrase does it now, and not after an hour.
    let key = parish_key(&arguments.unlock, context, words)?;
    let kept = registry.as_deref().map(|prefix| (prefix, reach));
    let done = carry(context, words, intention, &chain, &pairs, kept)?;
    keep(&workplace, &done, &before, key.as_ref())?;
    settle(context, &store, &newer, Some(done.intention.name))?;
    let signed = key.map(|key| key.public().fingerprint().to_string());
    context.answer(|| done.to_json(), || words.done(&done, signed.as_deref(), &place(&workplace, &done.intention.name)));
    Ok(())
}

/// Plans both versions on every platform of the lock that this machine can build; returns also those that it cannot.
fn pairs<'a>(
    context: &Context<'_>,
    words: Words,
    workplace: &Workplace,
    store: &'a Store,
    base: &Lock,
    newer: &Lock,
) -> Result<(Vec<Pair<'a>>, Vec<Architecture>), Failure> {
    let machine = |platform: &&Architecture| sandbox::runs(platform.as_str(), context.machine);
    let (here, elsewhere): (Vec<&Architecture>, Vec<&Architecture>) = workplace.project.architectures.iter().partition(machine);
    let left_out: Vec<Architecture> = elsewhere.into_iter().cloned().collect();
    if !left_out.is_empty() {
        context.screen.note(&words.left_out(&left_out));
    }
    if here.is_empty() {
        return Err(words.no_platform());
    }
    let mut pairs = Vec::new();
    for platform in here {
        let plan = |lock: &Lock| {
            Planned::with_lock(Workplace::open(context)?, lock.clone(), context, store, &[], Some(platform.as_str()))
        };
        pairs.push(Pair { platform: platform.clone(), before: plan(base)?, after: plan(newer)? });
    }
    Ok((pairs, left_out))
}

/// Opens the parish's key, which is made when it is first needed; nothing where nobody can give a passphrase.
fn parish_key(unlock: &Unlock, context: &Context<'_>, words: Words) -> Result<Option<SigningKey>, Failure> {
    let keys = Keys::new(&context.config);
    let name: KeyName = PARISH.parse().map_err(|error| Failure::bug("the parish's key has no name").because(error))?;
    let new = !keys.has(&name);
    if new {
        context.screen.note(&words.new_key(&keys.folder().display().to_string()));
    }
    let Some(passphrase) = unlock.if_anybody(PARISH, new, context)? else {
        context.screen.note(&words.unsigned());
        return Ok(None);
    };
    if new { keys.make(&name, &passphrase) } else { keys.open(&name, &passphrase) }.map(Some).map_err(from_keys)
}

/// Finds a rebuild whose lock should have replaced the project's, and did not.
fn unfinished(workplace: &Workplace) -> Result<Option<(Name, Record, Lock)>, Failure> {
    let Some(current) = workplace.folder.read(LOCK_FILE, RECORD_LIMIT)? else { return Ok(None) };
    let current = FileDigest::of(&current);
    for (name, record) in records(workplace)?.into_iter().rev() {
        if record.base_lock == current && record.lock != current {
            let path = format!("{FOLDER}/{name}/{LOCK_FILE}");
            let bytes = workplace.folder.read(&path, RECORD_LIMIT)?.unwrap_or_default();
            if FileDigest::of(&bytes) == record.lock {
                return Ok(read_lock(&workplace.folder, &path)?.map(|lock| (name, record, lock)));
            }
        }
    }
    Ok(None)
}

/// Reads the records of all rebuilds, by name.
fn records(workplace: &Workplace) -> Result<BTreeMap<Name, Record>, Failure> {
    let mut records = BTreeMap::new();
    for name in names(workplace)? {
        let path = format!("{FOLDER}/{name}/{RECORD}");
        let Some(bytes) = workplace.folder.read(&path, RECORD_LIMIT)? else { continue };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::project(format!("`{path}` cannot be read")).because(error).hint("restore it from version control")
        })?;
        if record.format == FORMAT {
            records.insert(name, record);
        }
    }
    Ok(records)
}

/// Reads the record of one rebuild; nothing where there is none.
pub fn record(workplace: &Workplace, name: Name) -> Result<Option<Record>, Failure> {
    Ok(records(workplace)?.remove(&name))
}

/// Returns the digest of the project's lock.
pub fn lock_of(workplace: &Workplace) -> Result<Option<FileDigest>, Failure> {
    Ok(workplace.folder.read(LOCK_FILE, RECORD_LIMIT)?.map(|bytes| FileDigest::of(&bytes)))
}

/// Returns the names that were given to rebuilds, here or in published releases.
fn names(workplace: &Workplace) -> Result<Vec<Name>, Failure> {
    let rebuilds = workplace.folder.entries(FOLDER)?;
    let releases = workplace.folder.entries(releases::FOLDER)?;
    let published = releases.iter().filter_map(|name| name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".lock")));
    let mut names: Vec<Name> =
        rebuilds.iter().map(String::as_str).chain(published).filter_map(|name| name.parse().ok()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Works out everything that is shown before anything is done. Only changelogs are fetched for it.
fn intend(context: &Context<'_>, mut intention: Intention, pairs: &[Pair<'_>]) -> Result<Intention, Failure> {
    let key = |planned: &Planned<'_>, name: &ImageName| {
        planned.plan.images.iter().find(|image| image.name == *name).map(|image| image.image_step().key)
    };
    let changes = |name: &ImageName| pairs.iter().any(|pair| key(&pair.before, name) != key(&pair.after, name));
    let names = pairs.first().map_or(&[][..], |pair| &pair.after.names);
    (intention.touched, intention.untouched) = names.iter().cloned().partition(changes);
    let mut fetched = BTreeMap::new();
    for pair in pairs {
        let site = pair.after.site(context);
        let missing = site.missing(&site.wanted(&pair.after.plan)?)?;
        fetched.extend(missing.into_iter().map(|package| (package.sha256, package.size)));
    }
    intention.fetch = fetched.values().sum();
    intention.accounts = accounts(context, pairs, &intention.moves)?;
    Ok(intention)
}

/// Reads what the changelogs say of all moves.
fn accounts(context: &Context<'_>, pairs: &[Pair<'_>], moves: &Moves) -> Result<Vec<Result<Account, String>>, Failure> {
    let Some(Pair { after, .. }) = pairs.first() else { return Ok(Vec::new()) };
    let mirrors = Mirrors::find(context, &after.workplace)?;
    let reading =
        Reading { context, store: after.store, mirrors: &mirrors, archives: held::archives(&after.workplace), at_hand: false };
    reading.read(&moves.uploads.iter().collect::<Vec<&Upload>>())
}

/// Builds, tests and proves. Nothing but the store is written.
fn carry(
    context: &Context<'_>,
    words: Words,
    mut intention: Intention,
    chain: &Chain,
    pairs: &[Pair<'_>],
    kept: Option<(&str, &Reach)>,
) -> Result<Done, Failure> {
    let Some(Pair { before, after, .. }) = pairs.first() else { return Err(words.no_platform()) };
    let (base_lock, lock) = (&before.lock, &after.lock);
    let project = after.workplace.project.name.to_string();
    let (mut all, mut images, mut tests, mut untested) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Pair { platform, before, after } in pairs {
        if !before.site(context).is_finished(&before.plan)? {
            context.screen.note(&words.builds_base());
        }
        let old = obtain(context, words, before, kept).map_err(|failure| words.no_base(failure))?;
        intention.upstream.is_base(context, words, chain, platform, &old)?;
        let new = obtain(context, words, after, kept)?;
        // Programs of another architecture do the same, some forty times slower.
        if platform.as_str() == context.machine {
            let found = test::try_images(context, after, |name| intention.touched.contains(name))?;
            test::require(context, &found)?;
            tests.extend(found);
        } else {
            context.screen.note(&words.untested(platform));
            untested.push(platform.clone());
        }
        images.extend(prove::all(context, words, &intention, before, after, (&old, &new))?);
        all.extend(new.into_iter().map(|built| (platform.clone(), built)));
    }
    // What was made anew and came out the same was not touched.
    let came_out = std::mem::take(&mut intention.touched);
    let changed = |name: &ImageName| images.iter().any(|image: &Rebuilt| image.name == *name);
    let (touched, same): (Vec<ImageName>, Vec<ImageName>) = came_out.into_iter().partition(changed);
    intention.touched = touched;
    intention.untouched.extend(same);
    // Everything is at hand now, so whichever run this is reads the same package of each source.
    intention.accounts = accounts(context, pairs, &intention.moves)?;
    let digest = |lock: &Lock| FileDigest::of(lock.render().as_bytes());
    let date = jiff::Timestamp::from_second(lock.epoch)
        .map_err(|error| Failure::project(format!("the archive's date is none: {error}")).hint("run `parvis lock`"))?;
    let (date, files, indexes) = (date.to_string(), Vec::new(), indexes(&all)?);
    let (base_lock, lock_digest) = (digest(base_lock), digest(lock));
    let mut done = Done { intention, images, all, indexes, tests, untested, project, base_lock, lock: lock_digest, date, files };
    let vex = report::vex(&done).map_err(|error| Failure::bug("the list of closed holes cannot be written").because(error))?;
    let reports = report::FILES.map(|(name, language, html)| (name, report::write(&done, language, html).into_bytes()));
    done.files = [(LOCK_FILE, lock.render().into_bytes()), ("openvex.json", vex)].into_iter().chain(reports).collect();
    Ok(done)
}

/// Returns the index that `parvis push` makes of each image which is there for several platforms: it is signed along, so that whoever
/// asks a registry for the image as a whole is answered as well.
fn indexes(all: &[(Architecture, Built)]) -> Result<Vec<(ImageName, BlobDigest)>, Failure> {
    let mut indexes = Vec::new();
    for name in order(all.iter().map(|(_, built)| &built.name)) {
        let of_it = all.iter().filter(|(_, built)| built.name == name);
        let manifests: Vec<Descriptor> = of_it
            .map(|(platform, built)| Descriptor { platform: Some(Platform::of(platform)), ..built.record.descriptor() })
            .collect();
        if manifests.len() > 1 {
            let index = oci::write_index(&manifests);
            let index = index.map_err(|error| Failure::bug("the index of an image cannot be written").because(error))?;
            indexes.push((name, index.digest));
        }
    }
    Ok(indexes)
}

/// Builds one version, with packages from the archive or, where it has them no longer, from where the release keeps them.
fn obtain(
    context: &Context<'_>,
    words: Words,
    planned: &Planned<'_>,
    kept: Option<(&str, &Reach)>,
) -> Result<Vec<Built>, Failure> {
    let site = planned.site(context);
    if let Err(failure) = build::prepare(context, planned, &site) {
        let Some((prefix, reach)) = kept else { return Err(failure) };
        context.screen.note(&words.takes_kept(failure.message(), prefix));
        if let Err(other) = kept::fetch_those_there(context, planned, &site, prefix, reach) {
            context.screen.note(other.message());
        }
    }
    carry_out(context, planned, &site)
}

fn place(workplace: &Workplace, name: &Name) -> String {
    workplace.folder.root().join(FOLDER).join(name.to_string()).display().to_string()
}

/// Writes the folder of the rebuild, which appears whole, signed where there is a key.
fn keep(workplace: &Workplace, done: &Done, before: &Before, key: Option<&SigningKey>) -> Answer {
    let bug = |error: canonical::JsonError| Failure::bug("the record of the rebuild cannot be written").because(error);
    let document = done.to_json();
    let record = canonical::to_bytes(&document).map_err(bug)?;
    let target = workplace.folder.root().join(FOLDER).join(done.intention.name.to_string());
    let failed = |error: OutputError| {
        let hint = error.hint();
        Failure::world(error.to_string())
            .maybe_hint(hint)
            .maybe_because(std::error::Error::source(&error).map(ToString::to_string))
    };
    let folder = NewFolder::begin(&target).map_err(failed)?;
    let mut files: Vec<(String, Vec<u8>)> = vec![(RECORD.to_owned(), record)];
    files.extend(done.files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
    // The way back goes along, so that the folder alone can be verified.
    for (name, _) in &before.rebuilds {
        if let Some(bytes) = workplace.folder.read(&format!("{FOLDER}/{}/{SIGNATURE}", name.record.name), RECORD_LIMIT)? {
            files.push((name.record.name.statement_file(), bytes));
        }
    }
    if let Upstream::Release(good) = &done.intention.upstream {
        files.push((release::FILE.to_owned(), good.bundle.to_bytes().map_err(bug)?));
    }
    if let Some(key) = key {
        let statement = chain::statement(document).map_err(|error| Failure::bug("the rebuild states nothing").because(error))?;
        let bundle = statement.sign(key).and_then(|bundle| bundle.to_bytes()).map_err(bug)?;
        files.push((SIGNATURE.to_owned(), bundle));
        files.push((PUBLIC_KEY.to_owned(), key.public().to_pem().into_bytes()));
    }
    for (name, bytes) in &files {
        folder.file(name, false, |out| out.write_all(bytes)).map_err(failed)?;
    }
    folder.appear(|_| false).map_err(failed)
}

/// Makes a lock the project's, and leaves the layout of its images in `out/`, with what the rebuild of this name says of them.
fn settle(context: &Context<'_>, store: &Store, lock: &Lock, name: Option<Name>) -> Answer {
    let workplace = Workplace::open(context)?;
    let planned = Planned::with_lock(workplace, lock.clone(), context, store, &[], None)?;
    let built = carry_out(context, &planned, &planned.site(context))?;
    let folder = &planned.workplace.folder;
    let out = folder.root().join("out");
    // The lock comes last: as long as it is the old one, the next run knows that something is left to do.
    publish(store, &out, &built, &planned.plan.platform)?;
    if let Some(name) = name {
        hang(folder, name, &out)?;
    }
    folder.replace(LOCK_FILE, lock.render().as_bytes()).map_err(Failure::from)
}

/// Hangs the signed statement on a rebuild, and those that lead back to its release, on each image of a layout.
fn hang(folder: &ProjectFolder, name: Name, out: &Path) -> Answer {
    let statements = statements(folder, name)?;
    if statements.is_empty() {
        return Ok(());
    }
    places::change(out, |layout| layout.images().iter().try_for_each(|image| put(&statements, layout, &image.descriptor)))
}

/// Returns the signed statement on a rebuild, and those that lead back to its release, each with what it states; none where nobody signed.
fn statements(folder: &ProjectFolder, name: Name) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let place = format!("{FOLDER}/{name}");
    let mut statements = Vec::new();
    if folder.read(&format!("{place}/{SIGNATURE}"), RECORD_LIMIT)?.is_none() {
        return Ok(statements);
    }
    for file in folder.entries(&place)? {
        let kind = match file.as_str() {
            release::FILE => RELEASE,
            file if file.ends_with(".sigstore.json") => REBUILD,
            _ => continue,
        };
        statements.extend(folder.read(&format!("{place}/{file}"), RECORD_LIMIT)?.map(|bytes| (kind, bytes)));
    }
    Ok(statements)
}

/// Hangs statements on an image.
fn put(statements: &[(&'static str, Vec<u8>)], place: &dyn WritableRepository, image: &Descriptor) -> Answer {
    for (kind, bundle) in statements {
        let attachment = Attachment::of(bundle.clone(), kind, image)
            .map_err(|error| Failure::bug("a statement cannot be hung on an image").because(error))?;
        attachment.put(place, &image.digest).map_err(from_repository)?;
    }
    Ok(())
}

/// Hangs what the newest signed rebuild with this image says on it, where one has it, so that whoever gets it can see where it comes from.
pub fn accompany(workplace: &Workplace, place: &dyn WritableRepository, image: &Descriptor) -> Answer {
    for (name, record) in records(workplace)?.into_iter().rev() {
        if record.image_of(&image.digest).is_some() {
            let statements = statements(&workplace.folder, name)?;
            if !statements.is_empty() {
                return put(&statements, place, image);
            }
        }
    }
    Ok(())
}

impl Intention {
    fn to_json(&self) -> Value {
        let upload = |(upload, account): (&Upload, &Result<Account, String>)| {
            let mut document = upload.to_json();
            document["changelog"] = match account {
                Ok(account) => account.to_json(),
                Err(why) => json!({ "unread": why }),
            };
            document
        };
        let removed = |(name, architecture, version): &(_, _, String)| {
            let (name, architecture): (&crate::model::name::PackageName, &crate::model::name::Architecture) =
                (name, architecture);
            json!({ "package": name, "architecture": architecture, "from": version })
        };
        json!({
            "format": FORMAT,
            "name": self.name.to_string(),
            "release": self.name.release,
            "upstream": self.upstream.to_json(),
            "previous": self.previous.map(|(name, statement)| json!({ "name": name.to_string(), "statement": statement })),
            "updates": self.moves.uploads.iter().zip(&self.accounts).map(upload).collect::<Vec<_>>(),
            "removed": self.moves.removed.iter().map(removed).collect::<Vec<_>>(),
            "touched": self.touched,
            "untouched": self.untouched,
            "left_out": self.left_out,
        })
    }
}

impl Done {
    /// Returns the bytes of layers that no image before has, and those of all layers of the images that were built, each counted once.
    fn bytes(&self) -> (u64, u64) {
        let layers = |built: fn(&Rebuilt) -> &Built| {
            let layers = self.images.iter().flat_map(move |image| &built(image).record.layers);
            layers.map(|layer| (layer.digest, layer.size)).collect::<BTreeMap<_, _>>()
        };
        let (old, new) = (layers(|image| &image.before), layers(|image| &image.after));
        let fresh = new.iter().filter(|(digest, _)| !old.contains_key(digest)).map(|(_, size)| size).sum();
        (fresh, new.values().sum())
    }

    /// Returns what is written down and printed: nothing in it is of this machine or of this hour.
    fn to_json(&self) -> Value {
        let mut document = self.intention.to_json();
        let account = |change: &AccountChange| {
            let AccountChange { name, kind, is_group, id, package } = change;
            json!({ "name": name, "kind": kind, "group": is_group, "id": id, "package": package })
        };
        let image = |image: &Rebuilt| {
            json!({
                "name": image.name,
                "platform": image.platform,
                "before": image.before.record.manifest.to_string(),
                "after": image.after.record.manifest.to_string(),
                "bytes": image.after.record.size(),
                "new_bytes": image.fresh,
                "by_scripts": image.proof.by_scripts,
                "accounts": image.proof.accounts.iter().map(account).collect::<Vec<_>>(),
            })
        };
        let one = |(platform, built): &(Architecture, Built)| json!({ "name": built.name, "platform": platform, "manifest": built.record.manifest.to_string() });
        let index = |(name, digest): &(ImageName, BlobDigest)| json!({ "name": name, "digest": digest.to_string() });
        let test = |test: &TestResult| json!({ "image": test.image, "line": test.line, "test": test.name });
        let file =
            |(name, bytes): &(&str, Vec<u8>)| json!({ "name": name, "sha256": FileDigest::of(bytes), "size": bytes.len() });
        for (key, value) in [
            ("files", self.files.iter().map(file).collect()),
            ("project", json!(self.project)),
            ("date", json!(self.date)),
            ("base_lock", json!(self.base_lock.to_string())),
            ("lock", json!(self.lock.to_string())),
            ("parvis", json!(env!("CARGO_PKG_VERSION"))),
            ("images", self.images.iter().map(image).collect()),
            ("all", self.all.iter().map(one).collect()),
            ("indexes", self.indexes.iter().map(index).collect()),
            ("tests", self.tests.iter().map(test).collect()),
            ("untested", json!(self.untested)),
        ] {
            document[key] = value;
        }
        document
    }
}
