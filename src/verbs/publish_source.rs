//! `parvis publish-source`: the sources of released versions in a git repository that holds nothing else, one commit and one signed tag each.
//!
//! A commit is made from the files of the commit that was released, the release's record and its lock; author and date are those of the
//! release. So it has the same id wherever it is made. Everything becomes visible in one step, after all of it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::key::{RELEASE, Unlock, open_key};
use super::release::from_git;
use super::save::from_output;
use super::workplace::{LOCK_FILE, Workplace};
use super::{Answer, Context};
use crate::edge::draft::{self, DraftFolder};
use crate::edge::git::{Git, TreeFile};
use crate::edge::output;
use crate::failure::Failure;
use crate::model::digest::FileDigest;
use crate::model::number::Number;
use crate::model::problem::shown;
use crate::model::project::{PrivateKey, Project};
use crate::model::releases::{FOLDER, Record};
use crate::plan::source::{self, PROJECT, Private};
use crate::trust::bundle::LIMIT;
use crate::trust::key::SigningKey;
use crate::trust::ssh;

/// Files that are named; what there is more is left out.
const MOST: usize = 10;

/// Private addresses that are named, each once: a list of what may be seen is made of them. What there is more is counted.
const MOST_PRIVATE: usize = 50;

/// The branch that stands at the newest version.
const BRANCH: &str = "refs/heads/main";

/// How the file of a signed statement ends, behind the number.
const ENDING: &str = "sigstore.json";

/// What is not shown yet.
const DRAFTS: &str = "refs/parvis/";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Repository of the versions: a folder (made where there is none), or an address that `git push` takes
    #[arg(value_name = "FOLDER|REMOTE")]
    target: String,
    /// Versions to publish (default: every release that was neither taken back nor published)
    #[arg(value_name = "X.Y.Z")]
    versions: Vec<Number>,
    /// Say what would be published, and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// The key that signs: the name of one of your own, or a file in cosign's form
    #[arg(long, value_name = "NAME|FILE", default_value = RELEASE)]
    key: String,
    #[command(flatten)]
    unlock: Unlock,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let records = workplace.folder.records().map_err(Failure::from)?;
    let own = Git::open(workplace.folder.root()).map_err(from_git)?;
    let key = open_key(&arguments.key, &arguments.unlock, context)?;
    let target = Target::open(&arguments.target, arguments.dry_run)?;
    let mut there = target.versions()?;
    let mut editions = Vec::new();
    for record in wanted(&records, &arguments.versions, &there)? {
        editions.push(edition(&workplace, &own, record)?);
    }
    no_private(&editions)?;
    let mut changes = Vec::new();
    let mut lines = Vec::new();
    let mut published = Vec::new();
    for edition in &editions {
        let number = edition.record.version;
        let (commit, tree) = target.commit(edition, &there)?;
        changes.push(format!("delete {DRAFTS}{number}"));
        if let Some(known) = there.get(&number) {
            target.is_same(number, known, &tree)?;
            lines.push(format!("{number} is there already"));
            continue;
        }
        let tag = target.tag(edition, &commit, &key)?;
        changes.push(format!("create refs/tags/{number} {tag}"));
        lines.push(format!("{number}: {} files, commit {commit}", edition.files.len()));
        published.push(json!({"version": number, "commit": commit, "tree": tree, "tag": tag, "files": edition.files.len(),
            "leftOut": edition.left_out}));
        there.insert(number, commit);
    }
    if !arguments.dry_run {
        target.publish(&changes, &there)?;
    }
    let signer = ssh::allowed_signer(&who(&workplace.project), key.public());
    let removed: Vec<&str> = workplace.project.source.keys.iter().map(|key| key.name()).collect();
    context.answer(
        || {
            json!({"format": 1, "target": arguments.target, "published": published, "dryRun": arguments.dry_run, "removed": removed,
                "signer": key.public().fingerprint().to_string(), "allowedSigner": signer})
        },
        || {
            if editions.is_empty() {
                lines.push("every release is there already".into());
            }
            let left: BTreeSet<&String> = editions.iter().flat_map(|edition| &edition.left_out).collect();
            if !left.is_empty() || !removed.is_empty() {
                let left: Vec<&str> = left.into_iter().map(String::as_str).chain(removed.iter().copied()).collect();
                lines.push(format!("left out, as `source:` of {PROJECT} says: {}", left.join(", ")));
            }
            if arguments.dry_run {
                lines.push("nothing was published: leave out --dry-run for that".into());
            } else {
                lines.push(format!("with this line in a file, git checks the tags (`git -c gpg.ssh.allowedSignersFile=FILE verify-tag`): {signer}"));
            }
            lines
        },
    );
    Ok(())
}

/// Who a commit and a tag are by: the product, at a place that is nowhere (RFC 2606).
fn who(project: &Project) -> String {
    format!("release@{}.invalid", project.name)
}

/// Chooses the releases to publish, the lowest number first.
fn wanted<'a>(records: &'a [Record], asked: &[Number], there: &BTreeMap<Number, String>) -> Result<Vec<&'a Record>, Failure> {
    let mut wanted: Vec<&Record> = if asked.is_empty() {
        records.iter().filter(|record| record.is_usable() && !there.contains_key(&record.version)).collect()
    } else {
        let find = |number: &Number| {
            let found = records.iter().find(|record| record.version == *number);
            let found = found.ok_or_else(|| {
                Failure::project(format!("there is no release `{number}`"))
                    .hint(format!("the releases are the files of `{FOLDER}/`"))
            })?;
            match &found.yanked {
                Some(why) => Err(Failure::no(format!("the release `{number}` was taken back: {}", shown(why)))),
                None if number.is_candidate() => Err(Failure::no(format!("`{number}` is a candidate"))
                    .hint("publish the release that it becomes: a candidate is there to be tried")),
                None => Ok(found),
            }
        };
        asked.iter().map(find).collect::<Result<_, Failure>>()?
    };
    wanted.sort_by_key(|record| record.version);
    wanted.dedup_by_key(|record| record.version);
    Ok(wanted)
}

/// A version as it is published.
struct Edition<'a> {
    record: &'a Record,
    author: String,
    files: Vec<TreeFile>,
    /// What of the commit is not published.
    left_out: Vec<String>,
    private: Vec<Private>,
}

/// Makes of the commit that was released what is published.
fn edition<'a>(workplace: &Workplace, own: &Git, record: &'a Record) -> Result<Edition<'a>, Failure> {
    let number = record.version;
    let rule = &workplace.project.source;
    let all = own
        .contents(&record.commit)
        .map_err(|error| from_git(error).hint(format!("the release `{number}` was made from this commit: fetch it")))?;
    let wrong = |what: &str| {
        Failure::project(format!("the commit of `{number}` {what}")).hint(format!("`{FOLDER}/{number}.yaml` names it"))
    };
    let mut hosts = hosts(&workplace.project, &rule.keys);
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    let mut lock = None;
    for mut file in all {
        if source::is_left_out(&file.path, rule) {
            left_out.push(file.path);
            continue;
        }
        // Of releases, a version has its own.
        if file.path.starts_with(&format!("{FOLDER}/")) {
            continue;
        }
        if file.path == PROJECT {
            let text = String::from_utf8(file.content).map_err(|_| wrong("has a `parvis.yaml` that is no text"))?;
            let before = Project::parse(PROJECT, &text)?;
            hosts.extend(self::hosts(&before, &rule.keys));
            let text = source::without_keys(&text, &rule.keys);
            let after = Project::parse(PROJECT, &text)?;
            let gone = |key: &PrivateKey| match key {
                PrivateKey::Registry => after.registry.is_none(),
                PrivateKey::Mirrors => after.mirrors.is_empty(),
            };
            if !rule.keys.iter().all(gone) || after.name != before.name || after.suites.len() != before.suites.len() {
                return Err(
                    wrong("has a `parvis.yaml` out of which keys cannot be taken").hint("write one key a line, at the margin")
                );
            }
            file.content = text.into_bytes();
        }
        if file.path == LOCK_FILE {
            if FileDigest::of(&file.content) != record.lock {
                return Err(wrong("has another lock than the release"));
            }
            lock = Some(TreeFile { path: format!("{FOLDER}/{number}.lock"), ..file.clone() });
        }
        files.push(file);
    }
    files.push(lock.ok_or_else(|| wrong("has no lock"))?);
    let published = record.published(!rule.keys.contains(&PrivateKey::Registry)).render();
    files.push(TreeFile { path: format!("{FOLDER}/{number}.yaml"), mode: "100644".into(), content: published.into_bytes() });
    // What was signed names the registry, and cannot be signed again without it.
    let statement = format!("{FOLDER}/{number}.{ENDING}");
    match workplace.folder.read(&statement, LIMIT as u64).map_err(Failure::from)? {
        Some(_) if record.registry.is_some() && rule.keys.contains(&PrivateKey::Registry) => left_out.push(statement),
        Some(content) => files.push(TreeFile { path: statement, mode: "100644".into(), content }),
        None => {}
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    let private = files.iter().flat_map(|file| source::search(&file.path, &file.content, rule, &hosts)).collect();
    let author = format!("{} <{}>", workplace.project.name, who(&workplace.project));
    Ok(Edition { record, author, files, left_out, private })
}

/// Returns the hosts that keys name.
fn hosts(project: &Project, keys: &BTreeSet<PrivateKey>) -> BTreeSet<String> {
    let of = |key: &PrivateKey| -> Vec<&str> {
        match key {
            PrivateKey::Registry => project.registry.iter().map(|registry| source::host(registry)).collect(),
            PrivateKey::Mirrors => project.mirrors.values().flatten().map(|mirror| source::host(mirror)).collect(),
        }
    };
    keys.iter().flat_map(of).map(str::to_owned).collect()
}

/// Refuses to publish what is private.
fn no_private(editions: &[Edition<'_>]) -> Answer {
    // By what would be seen: who has to decide on each wants it once, and all of it.
    let mut places: BTreeMap<&str, Vec<(Number, &Private)>> = BTreeMap::new();
    for edition in editions {
        for private in &edition.private {
            places.entry(&private.what).or_default().push((edition.record.version, private));
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let line = |(what, places): (&&str, &Vec<(Number, &Private)>)| {
        let (number, Private { path, line, .. }) = places[0];
        let more = match places.len() - 1 {
            0 => String::new(),
            1 => ", and in one more place".to_owned(),
            more => format!(", and in {more} more places"),
        };
        format!("{}:{line}: `{what}` (in {number}){more}", shown(path))
    };
    let more = places.len().saturating_sub(MOST_PRIVATE);
    let more = if more > 0 { format!("\nand {more} others") } else { String::new() };
    let listed = places.iter().take(MOST_PRIVATE).map(line).collect::<Vec<_>>().join("\n");
    Err(Failure::no(format!("private addresses would be published:\n{listed}{more}")).hint(format!(
        "under `source:` in {PROJECT}, `keys: [registry, mirrors]` takes these keys out of it, `without:` leaves files at home, and `allow:` \
         lists what may be seen"
    )))
}

/// The repository that versions are published in.
struct Target {
    git: Git,
    /// The copy of a repository elsewhere, which goes at the end.
    copy: Option<DraftFolder>,
}

impl Target {
    fn open(target: &str, dry_run: bool) -> Result<Self, Failure> {
        let path = Path::new(target);
        let scratch = || {
            DraftFolder::temporary(draft::PREFIX)
                .map_err(|error| Failure::world("cannot make a folder for the repository").because(error))
        };
        let has = |name: &str| path.join(name).exists();
        let is_repository = has("HEAD") && has("objects") && has("refs");
        // A dry run leaves nothing behind.
        if !path.exists() && is_remote(target) || is_repository && dry_run {
            let copy = scratch()?;
            let target = if path.exists() { path.canonicalize().unwrap_or_else(|_| path.to_owned()) } else { target.into() };
            let target = target.as_os_str();
            let git = Git::at(copy.path());
            let arguments =
                ["clone", "--quiet", "--bare", "--"].map(std::ffi::OsStr::new).into_iter().chain([target, ".".as_ref()]);
            git.run("fetch the repository", arguments).map_err(from_git)?;
            return Ok(Self { git, copy: Some(copy) });
        }
        if output::is_free(path).map_err(from_output)? {
            let copy = if dry_run { Some(scratch()?) } else { None };
            let place = copy.as_ref().map_or(path, |copy| copy.path());
            output::make_folder(place).map_err(from_output)?;
            return Ok(Self { git: Git::init_bare(place).map_err(from_git)?, copy });
        }
        if !is_repository {
            return Err(Failure::project(format!("`{target}` is no repository to publish in")).hint(
                "name a folder that is empty or not there yet: a repository without a working tree is made in it (`git init --bare`)",
            ));
        }
        Ok(Self { git: Git::at(path), copy: None })
    }

    /// Returns the commits of the versions that are there.
    fn versions(&self) -> Result<BTreeMap<Number, String>, Failure> {
        let answer = self.git.run("list the versions", ["for-each-ref", "--format=%(refname) %(objectname) %(*objectname)"]);
        let answer = String::from_utf8_lossy(&answer.map_err(from_git)?).into_owned();
        let (mut versions, mut main, mut drafts) = (BTreeMap::new(), None, Vec::new());
        for line in answer.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, object, commit] = words[..] else { continue };
            match name.strip_prefix("refs/tags/").map(str::parse::<Number>) {
                None if name.starts_with(DRAFTS) => drafts.push(name.to_owned()),
                None if name == BRANCH => main = Some(object.to_owned()),
                Some(Ok(number)) if !commit.is_empty() => {
                    versions.insert(number, commit.to_owned());
                }
                _ => return Err(foreign(name)),
            }
        }
        for draft in drafts {
            self.git.run("remove what an earlier run left", ["update-ref", "-d", &draft]).map_err(from_git)?;
        }
        match main {
            Some(commit) if !versions.values().any(|known| *known == commit) => Err(foreign(BRANCH)),
            _ => Ok(versions),
        }
    }

    /// Makes the commit of a version after the version before it; returns its id and that of its tree. Nobody sees it yet.
    fn commit(&self, edition: &Edition<'_>, there: &BTreeMap<Number, String>) -> Result<(String, String), Failure> {
        let Edition { record, author, files, .. } = edition;
        let (number, date) = (record.version, record.issued.0);
        let name = format!("{DRAFTS}{number}");
        let message = format!("{} {number}\n", record.product);
        let mut stream = format!(
            "feature done\nreset {name}\ncommit {name}\ncommitter {author} {date} +0000\ndata {}\n{message}\n",
            message.len()
        )
        .into_bytes();
        if let Some((_, parent)) = there.range(..number).next_back() {
            stream.extend_from_slice(format!("from {parent}\n").as_bytes());
        }
        stream.extend_from_slice(b"deleteall\n");
        for TreeFile { path, mode, content } in files {
            if path.chars().any(char::is_control) || path.starts_with('"') {
                return Err(Failure::project(format!("`{}` is a name that cannot be published", shown(path)))
                    .hint("give the file another one"));
            }
            stream.extend_from_slice(format!("M {mode} inline {path}\ndata {}\n", content.len()).as_bytes());
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        stream.extend_from_slice(b"done\n");
        self.git
            .run_fed("write the version", ["fast-import", "--quiet", "--force", "--date-format=raw"], &[], &stream)
            .map_err(from_git)?;
        Ok((self.id(&format!("{name}^{{commit}}"))?, self.id(&format!("{name}^{{tree}}"))?))
    }

    fn id(&self, name: &str) -> Result<String, Failure> {
        let answer = self.git.run("read what was written", ["rev-parse", "--verify", "--quiet", name]).map_err(from_git)?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// Refuses a version that was published with other files.
    fn is_same(&self, number: Number, known: &str, tree: &str) -> Answer {
        let found = self.id(&format!("{known}^{{tree}}"))?;
        if found == tree {
            return Ok(());
        }
        let answer = self.git.run("compare the versions", ["diff", "--name-only", "-z", &found, tree]).map_err(from_git)?;
        let answer = String::from_utf8_lossy(&answer);
        let names: Vec<String> =
            answer.split('\0').filter(|name| !name.is_empty()).take(MOST).map(|name| format!("`{}`", shown(name))).collect();
        Err(Failure::no(format!("`{number}` is published already, with other files: {}", names.join(", ")))
            .hint(format!("a version never changes: publish the next one, or undo what changed under `source:` in {PROJECT}")))
    }

    /// Makes the signed tag of a version.
    fn tag(&self, edition: &Edition<'_>, commit: &str, key: &SigningKey) -> Result<String, Failure> {
        let Edition { record, author, .. } = edition;
        let (number, date) = (record.version, record.issued.0);
        let mut text = format!(
            "object {commit}\ntype commit\ntag {number}\ntagger {author} {date} +0000\n\n{} {number}\n\nlock {}\n",
            record.product, record.lock
        );
        for image in &record.images {
            let _ = writeln!(text, "{} {}", image.name, image.digest);
        }
        let signature = ssh::sign(text.as_bytes(), key);
        text.push_str(&signature);
        let answer = self.git.run_fed("write the tag", ["mktag"], &[], text.as_bytes()).map_err(from_git)?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// Shows everything in one step, the branch at the newest version.
    fn publish(&self, changes: &[String], there: &BTreeMap<Number, String>) -> Answer {
        let Some(newest) = there.values().next_back() else { return Ok(()) };
        // One a line, and no line is empty: git refuses that.
        let branch = format!("update {BRANCH} {newest}");
        let input: String = changes.iter().chain([&branch]).map(|change| format!("{change}\n")).collect();
        self.git.run_fed("show the versions", ["update-ref", "--stdin"], &[], input.as_bytes()).map_err(from_git)?;
        if self.copy.is_some() {
            let tags = changes.iter().filter_map(|change| change.strip_prefix("create ")?.split(' ').next()).map(str::to_owned);
            let refs: Vec<String> = std::iter::once(BRANCH.to_owned()).chain(tags).map(|name| format!("{name}:{name}")).collect();
            let arguments = ["push", "--quiet", "--atomic", "origin"].map(str::to_owned).into_iter().chain(refs);
            self.git.run("push the versions", arguments).map_err(from_git)?;
        }
        Ok(())
    }
}

/// Whether something is an address, and no path of this machine (git-push, "GIT URLS").
fn is_remote(target: &str) -> bool {
    let host = target.split_once(':').map(|(host, _)| host);
    target.contains("://") || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

fn foreign(name: &str) -> Failure {
    Failure::no(format!("the repository has `{}`, which is none of a published version", shown(name)))
        .hint("publish in a repository that holds nothing else: an empty one")
}
