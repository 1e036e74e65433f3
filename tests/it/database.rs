//! Debian's own packages, unpacked and configured by parvis, beside the same ones installed by dpkg.
//!
//! Needs root, `mmdebstrap`, and the archive that the host's apt sources name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parvis::debian::compose::unpack_tree;
use parvis::debian::configure::{Configuration, NewPackage, Occasion, ScriptRun, Staged};
use parvis::debian::database::{Database, InstalledPath, Md5, Record, info_files, needs_md5};
use parvis::debian::package::{ControlFiles, DataEntry, DataKind, Limits, PackageVisitor, read_package};
use parvis::model::digest::{DownloadDigest, FileDigest};
use parvis::model::lock::LockedPackage;
use parvis::model::name::PackageName;
use parvis::model::tree::{Entry, Kind, Origin, Tree, TreePath};

use crate::kit::mirror;

const RELEASE: &str = "trixie";

/// Dates of accounts and of all else that asks for them.
const EPOCH: &str = "1760000000";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// File contents by digest.
type Contents = BTreeMap<FileDigest, Vec<u8>>;

/// A package as parvis has unpacked it.
struct Unpacked {
    name: PackageName,
    control: ControlFiles,
    record: Record,
    tree: Tree,
}

/// Collects what a package holds.
struct Collector<'a> {
    contents: &'a mut Contents,
    control: ControlFiles,
    origin: Origin,
    tree: Tree,
    paths: Vec<InstalledPath>,
}

impl PackageVisitor for Collector<'_> {
    fn control(&mut self, control: &ControlFiles) -> io::Result<()> {
        self.control = control.clone();
        Ok(())
    }

    fn entry(&mut self, path: TreePath, entry: DataEntry, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let mut md5 = None;
        let mut value = match entry.kind {
            DataKind::Directory => Entry::directory(entry.mode, self.origin.clone()),
            DataKind::Symlink { target } => Entry::symlink(&target, entry.mtime, self.origin.clone()),
            DataKind::HardLink { target } => self.tree.get(target.as_bytes()).unwrap().clone(),
            DataKind::File { size } => {
                assert_eq!(size, bytes.len() as u64);
                if needs_md5(&self.control, &entry.shipped) {
                    let mut hasher = Md5::default();
                    hasher.update(&bytes);
                    md5 = Some(hasher.finish());
                }
                let digest = FileDigest::of(&bytes);
                self.contents.insert(digest, bytes);
                Entry::file(digest, size, entry.mode, entry.mtime, self.origin.clone())
            }
        };
        (value.uid, value.gid) = (entry.uid, entry.gid);
        self.tree.put(path, value);
        self.paths.push(InstalledPath { path: entry.shipped, md5 });
        Ok(())
    }
}

/// Reads a package file named as apt names it.
fn unpack(file: &Path, contents: &mut Contents) -> Unpacked {
    let stem = file.file_stem().unwrap().to_str().unwrap().replace("%3a", ":");
    let mut parts = stem.split('_');
    let mut part = || parts.next().unwrap();
    let name: PackageName = part().parse().unwrap();
    let expect = LockedPackage {
        name: name.clone(),
        version: part().into(),
        architecture: part().parse().unwrap(),
        source: name.clone(),
        source_version: None,
        suite: RELEASE.parse().unwrap(),
        file: "x".into(),
        size: 0,
        sha256: DownloadDigest::of(b""),
        depends: vec![],
    };
    let origin = Origin::Package(name.clone());
    let mut collector =
        Collector { contents, control: ControlFiles::default(), origin: origin.clone(), tree: Tree::new(), paths: Vec::new() };
    let control = read_package(fs::File::open(file).unwrap(), &expect, &Limits::default(), &mut collector).unwrap();
    let (mut tree, paths) = (collector.tree, collector.paths);
    for (path, mode, bytes) in info_files(&name, &control, &paths) {
        let digest = FileDigest::of(&bytes);
        tree.put(path, Entry::file(digest, bytes.len() as u64, mode, 0, origin.clone()));
        contents.insert(digest, bytes);
    }
    Unpacked { record: Record::of_package(&control, &paths).unwrap(), name, control, tree }
}

/// Writes a tree into a folder.
fn materialise(tree: &Tree, contents: &Contents, root: &Path) {
    for (path, entry) in tree.iter() {
        let to = root.join(std::str::from_utf8(path.as_bytes()).unwrap());
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(&to).unwrap(),
            Kind::File { digest, .. } => fs::write(&to, &contents[digest]).unwrap(),
            Kind::Symlink { target } => symlink(std::str::from_utf8(target).unwrap(), &to).unwrap(),
        }
        std::os::unix::fs::lchown(&to, Some(entry.uid), Some(entry.gid)).unwrap();
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            fs::set_permissions(&to, fs::Permissions::from_mode(u32::from(entry.mode))).unwrap();
        }
    }
}

fn write_database(database: &Database, root: &Path) {
    for (path, mode, bytes) in database.shared_files() {
        let to = root.join(std::str::from_utf8(path.as_bytes()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(&to, bytes).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(u32::from(mode))).unwrap();
    }
}

/// Returns a command that runs inside a folder, with `/proc` and `/dev`.
fn inside(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = r#"mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@""#;
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(root);
    command.env_clear().envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LC_ALL", "C.UTF-8")]);
    command.env("SOURCE_DATE_EPOCH", EPOCH);
    command.envs([("DEBIAN_FRONTEND", "noninteractive"), ("DEBCONF_NONINTERACTIVE_SEEN", "true"), ("PERL_DL_NONLAZY", "1")]);
    command
}

/// Runs one maintainer script as dpkg would, and returns what it left in `Unincorp`.
fn run_script(root: &Path, script: &ScriptRun) -> Vec<u8> {
    let place = |path: &TreePath| root.join(std::str::from_utf8(path.as_bytes()).unwrap());
    let temporary = root.join("var/lib/dpkg/tmp.ci");
    if !script.staged.is_empty() {
        fs::create_dir_all(&temporary).unwrap();
    }
    for staged in &script.staged {
        match staged {
            Staged::Copy { from, to } => drop(fs::copy(place(from), place(to)).unwrap()),
            Staged::Text { to, text } => fs::write(place(to), text).unwrap(),
        }
    }
    run(inside(root)
        .arg(place(&script.script).strip_prefix(root).map(|path| Path::new("/").join(path)).unwrap())
        .args(&script.arguments)
        .envs(&script.environment));
    let _ = fs::remove_dir_all(temporary);
    let unincorp = root.join("var/lib/dpkg/triggers/Unincorp");
    let left = fs::read(&unincorp).unwrap();
    fs::write(unincorp, "").unwrap();
    left
}

/// Unpacks and configures packages in a folder; returns the runs of scripts in their order.
fn install(debs: &[PathBuf], root: &Path) -> Vec<String> {
    let mut contents = Contents::new();
    let unpacked: Vec<Unpacked> = debs.iter().map(|deb| unpack(deb, &mut contents)).collect();
    let packages: Vec<NewPackage> = unpacked
        .iter()
        .map(|package| NewPackage {
            record: package.record.clone(),
            triggers: &package.control.triggers,
            tree: &package.tree,
            waits: false,
        })
        .collect();
    let mut configuration = Configuration::new(Database::default(), &packages).unwrap();
    let trees: Vec<_> = unpacked.iter().map(|package| (&package.name, &package.tree)).collect();
    let (tree, takeovers) = unpack_tree(&Tree::new(), &trees, configuration.database(), &[]).unwrap();
    assert_eq!(takeovers, []);
    assert!(tree.iter().all(|(_, entry)| entry.origin != Origin::Parvis), "Debian's packages bring all their folders");
    materialise(&tree, &contents, root);
    let mut runs = Vec::new();
    write_database(configuration.database(), root);
    while let Some(script) = configuration.next().unwrap() {
        write_database(configuration.database(), root);
        let unincorp = run_script(root, &script);
        let occasion = if script.occasion == Occasion::Preinst { "preinst" } else { "postinst" };
        runs.push(format!("{} {occasion} {}", script.package, script.arguments.join(" ")));
        configuration.finished(&script, &unincorp);
    }
    write_database(configuration.database(), root);
    runs
}

/// Describes what stands at each path below a folder, where it can be compared.
fn describe(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            let name = at.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let data = fs::symlink_metadata(&at).unwrap();
            let what = if data.is_dir() {
                "folder".to_owned()
            } else if data.is_symlink() {
                format!("-> {}", fs::read_link(&at).unwrap().display())
            } else if data.is_file() {
                FileDigest::of(&fs::read(&at).unwrap()).to_string()
            } else {
                "other".to_owned()
            };
            found.insert(name, format!("{:o} {}:{} {what}", data.mode() & 0o7777, data.uid(), data.gid()));
            if data.is_dir() {
                walk(root, &at, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// What mmdebstrap and apt leave behind, what tells the time, and what depends on the order of two diversions.
const APART: [&str; 16] = [
    "dev",
    "etc/apt/apt.conf.d",
    "etc/apt/sources.list",
    "etc/fstab",
    "etc/hostname",
    "etc/resolv.conf",
    "proc",
    "tmp",
    "var/cache/apt",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt",
    "var/lib/dpkg/arch",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/available",
    "var/log",
];

/// Installs the same packages with dpkg, and returns their package files.
fn install_with_dpkg(root: &Path) -> Vec<PathBuf> {
    let (main, security) = mirror::addresses();
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", "--include=apache2", "--skip=cleanup,essential/unlink,download/empty"])
        .arg("--aptopt=APT::Keep-Downloaded-Packages \"true\"")
        .args([RELEASE.as_ref(), root.as_os_str()])
        .args([format!("deb {main} {RELEASE} main"), format!("deb {security} {RELEASE}-security main")])
        .env("SOURCE_DATE_EPOCH", EPOCH));
    let cache = fs::read_dir(root.join("var/cache/apt/archives")).unwrap().map(|entry| entry.unwrap().path());
    cache.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect()
}

#[test]
fn debian_installed_by_parvis_is_debian_installed_by_dpkg() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can install Debian with dpkg");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
    let debs = install_with_dpkg(&theirs);
    assert!(debs.len() > 100, "{} packages", debs.len());
    fs::create_dir(&ours).unwrap();
    let runs = install(&debs, &ours);
    assert!(runs.contains(&"libc-bin postinst triggered ldconfig".to_owned()), "{runs:?}");

    let (theirs, found) = (describe(&theirs), describe(&ours));
    assert_eq!(found["var/lib/dpkg/status"], theirs["var/lib/dpkg/status"], "the database is the same");
    let apart = |name: &str| APART.iter().any(|apart| Path::new(name).starts_with(apart));
    let names: BTreeSet<&String> = found.keys().chain(theirs.keys()).filter(|name| !apart(name)).collect();
    assert!(names.len() > 5000, "{} paths", names.len());
    let differs: Vec<String> = names
        .into_iter()
        .filter(|name| found.get(*name) != theirs.get(*name))
        .map(|name| format!("{name}: {:?}, with dpkg {:?}", found.get(name), theirs.get(name)))
        .collect();
    assert!(differs.is_empty(), "{}", differs.join("\n"));

    for question in [["dpkg", "--audit"], ["dpkg", "--verify"]] {
        let answer = run(inside(&ours).args(question)).stdout;
        assert!(answer.is_empty(), "{question:?}: {}", String::from_utf8_lossy(&answer));
    }
    let list = String::from_utf8(run(inside(&ours).args(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n"])).stdout).unwrap();
    assert_eq!(list.lines().filter(|line| *line == "ii ").count(), debs.len(), "{list}");
    run(inside(&ours).args(["apt-get", "check"]));
}
