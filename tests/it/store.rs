//! The store under accidents: full disks, kills at every call, two builds at once, damage, and stores that are read-only.
//!
//! What is hit is a process of its own: this binary again, with a task in its environment.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use parvis::edge::store::{Item, Prune, Store, StoreError};
use parvis::model::digest::{BlobDigest, FileDigest};
use parvis::model::tree::{Entry, Origin, Tree, TreePath};
use tempfile::TempDir;

use crate::kit::killat::Line;

const TASK: &str = "STORE_TASK";
const ROOT: &str = "STORE_ROOT";

/// What one whole task leaves in a store: 30 files, one more, a blob, a segment, two records.
const ITEMS: u64 = 35;

fn content(number: u32) -> Vec<u8> {
    format!("file {number} ").repeat(50 * (usize::try_from(number).unwrap() + 1)).into_bytes()
}

/// Does what a build does with a store, with both ways of writing.
fn build(root: &Path) -> Result<(), StoreError> {
    let store = Store::open(root)?;
    let mut tree = Tree::new();
    for number in 0..30 {
        let bytes = content(number);
        let digest = store.put_file_bytes(&bytes, 0o644)?;
        let path = TreePath::parse(format!("usr/share/{}/f{number}", number % 5).as_bytes()).unwrap();
        tree.put(path, Entry::file(digest, bytes.len() as u64, 0o644, 0, Origin::Parvis));
    }
    let (digest, size) = store.put_file(&mut vec![7; 300_000].as_slice(), 0o755)?;
    tree.put(TreePath::parse(b"usr/bin/x").unwrap(), Entry::file(digest, size, 0o755, 0, Origin::Parvis));
    let mut blob = store.blob_writer(None, Some(1_000_000))?;
    for _ in 0..10 {
        blob.append(&vec![1; 100_000])?;
    }
    let (digest, _) = blob.finish()?;
    let mut segment = store.segment_writer()?;
    segment.append(b"members")?;
    segment.finish("package")?;
    store.put_record("tree", "base", tree.to_text().as_bytes())?;
    store.put_record("layer", "base", digest.to_string().as_bytes())?;
    let farm = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    store.farm(&tree, &farm.path().join("farm"))?;
    Ok(())
}

/// Writes more than fits, says how that ends, and shows that the store is none the worse.
fn overfill(root: &Path) {
    let store = Store::open(root).unwrap();
    let kept = store.put_blob(b"kept").unwrap();
    let mut numbers = 0_u32..;
    let error = loop {
        let bytes = content(numbers.next().unwrap());
        if let Err(error) = store.put_file_bytes(&bytes, 0o644).and_then(|_| store.put_blob(&bytes)) {
            break error;
        }
    };
    println!("{error} ({})", error.hint().unwrap_or_default());
    assert_eq!(store.verify().unwrap().damaged, []);
    assert_eq!(store.read_blob(&kept, 10).unwrap(), b"kept");
    drop(store);
    let mut store = Store::open_alone(root).unwrap();
    store.prune(&Prune { keep: [Item::Blob(kept)].into(), ..Prune::default() }, &mut |_, _, _| Vec::new()).unwrap();
    store.put_blob(&content(200)).unwrap();
    println!("a rerun works");
}

/// Tries to write where that is not allowed, and reads.
fn read_only(root: &Path) {
    let store = Store::open(root).unwrap();
    for error in [
        store.put_blob(b"new").unwrap_err(),
        store.put_file_bytes(b"new", 0o644).unwrap_err(),
        store.put_record("kind", "new", b"new").unwrap_err(),
    ] {
        println!("{error} ({})", error.hint().unwrap_or_default());
    }
    assert_eq!(store.read_blob(&BlobDigest::of(b"old"), 10).unwrap(), b"old");
    assert_eq!(store.record("kind", "old").unwrap().unwrap(), b"old");
    println!("reading works");
}

#[test]
fn a_task_of_another_test_is_done() {
    let (Ok(task), Some(root)) = (std::env::var(TASK), std::env::var_os(ROOT)) else { return };
    let root = Path::new(&root);
    match task.as_str() {
        "build" => {
            if let Err(error) = build(root) {
                println!("{error} ({})", error.hint().unwrap_or_default());
                std::process::exit(3);
            }
        }
        "overfill" => overfill(root),
        "read-only" => read_only(root),
        other => panic!("no task `{other}`"),
    }
}

fn task(task: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["store::a_task_of_another_test_is_done", "--exact", "--nocapture"]).env(TASK, task).env(ROOT, root);
    command
}

/// Runs a task where shell lines have prepared the mounts; `None` where the machine does not let this user mount.
fn task_with_mounts(name: &str, root: &Path, lines: &str) -> Option<String> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let able = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output().unwrap();
    if !able.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&able.stderr));
        return None;
    }
    let own = task(name, root);
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-ec", &format!("{lines}\nexec \"$@\""), "sh"]).arg(own.get_program()).args(own.get_args());
    let output = command.env(TASK, name).env(ROOT, root).output().unwrap();
    Some(text(&output))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Finishes what was interrupted and looks at all of it.
fn assert_sound(root: &Path, what: &str) {
    let store = Store::open(root).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = store.verify().unwrap();
    assert_eq!((report.damaged, report.foreign), (vec![], vec![]), "{what}");
    drop(store);
    build(root).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = Store::open(root).unwrap().verify().unwrap();
    assert_eq!((report.checked, report.damaged, report.foreign), (ITEMS, vec![], vec![]), "{what}");
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0, "{what}");
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("store-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A folder in memory where there is one: dozens of new stores would wait for the disk.
fn quick_folder() -> TempDir {
    tempfile::Builder::new().prefix("store-").tempdir_in("/dev/shm").unwrap_or_else(|_| folder())
}

#[test]
fn a_full_disk_is_named_with_what_is_needed_and_free() {
    let folder = folder();
    let mount = format!("mount -t tmpfs -o size=3m none {}", folder.path().display());
    let Some(said) = task_with_mounts("overfill", &folder.path().join("store"), &mount) else { return };
    assert!(said.contains("/store` is full: 1 MiB needed, 0 MiB free (free some space with `parvis store prune`"), "{said}");
    assert!(said.contains("a rerun works"), "{said}");
}

#[test]
fn a_disk_without_inodes_is_told_from_a_full_one() {
    let folder = folder();
    let mount = format!("mount -t tmpfs -o size=90m,nr_inodes=400 none {}", folder.path().display());
    let Some(said) = task_with_mounts("overfill", &folder.path().join("store"), &mount) else { return };
    assert!(said.contains("cannot hold another file: it has no inodes left (free some space"), "{said}");
    assert!(said.contains("a rerun works"), "{said}");
}

#[test]
fn a_read_only_store_can_be_read_and_says_that_it_cannot_be_written() {
    let folder = folder();
    let root = folder.path().join("store");
    let store = Store::open(&root).unwrap();
    store.put_blob(b"old").unwrap();
    store.put_record("kind", "old", b"old").unwrap();
    drop(store);
    let lines = format!("mount --bind {0} {0}\nmount -o remount,ro,bind {0}", root.display());
    let Some(said) = task_with_mounts("read-only", &root, &lines) else { return };
    let complaint = format!("`{}` cannot be written to (choose a folder that you may write to", root.display());
    assert_eq!(said.matches(&complaint).count(), 3, "{said}");
    assert!(said.contains("reading works"), "{said}");
}

#[test]
fn an_immutable_folder_is_said_to_be_read_only() {
    let folder = folder();
    let chattr =
        |flag: &str| Command::new("chattr").arg(flag).arg(folder.path()).output().is_ok_and(|output| output.status.success());
    if !chattr("+i") {
        eprintln!("skipped: chattr +i is not allowed here");
        return;
    }
    let error = Store::open(&folder.path().join("store")).unwrap_err();
    assert!(chattr("-i"));
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
}

#[test]
fn every_failing_call_is_reported_and_a_rerun_finishes() {
    for (call, error, said) in [
        ("linkat", "ENOSPC", &["is full"][..]),
        // The first one is for the file that makes a folder a store.
        ("linkat", "EIO", &["cannot write", "cannot make `"]),
        ("renameat", "EXDEV", &["cannot "]),
        ("renameat", "ENOSPC", &["is full"]),
        ("utimensat", "EIO", &["cannot write"]),
        // Of the store, or of a tree that is laid out.
        ("fchmod", "EPERM", &["cannot be written to", "cannot set the mode of `"]),
        ("mkdirat", "ENOSPC", &["is full"]),
        ("flock", "EIO", &["cannot lock"]),
    ] {
        let mut came = 0;
        for nth in [1, 2, 7, 34] {
            let folder = quick_folder();
            let root = folder.path().join("store");
            let output = Line::of(&task("build", &root)).with_accident(call, &format!("error={error}"), nth);
            let what = format!("{call} {error} {nth}: {}", text(&output));
            if output.status.code() == Some(3) {
                came += 1;
                assert!(said.iter().any(|said| text(&output).contains(said)), "{what}");
            } else {
                // The call never came, or was one without which the store does as well: the probe for nameless files, a draft's lock.
                assert!(output.status.success(), "{what}");
            }
            assert_sound(&root, &what);
        }
        assert!(came > 0, "{call} {error} never came");
    }
}

#[test]
fn a_kill_at_any_call_leaves_a_sound_store() {
    for call in ["linkat", "renameat", "openat", "write", "fchmod", "mkdirat"] {
        let mut killed = 0;
        for nth in [1, 20, 36, 70] {
            let folder = quick_folder();
            let root = folder.path().join("store");
            let output = Line::of(&task("build", &root)).with_accident(call, "signal=KILL", nth);
            killed += u32::from(output.status.signal() == Some(9));
            assert_sound(&root, &format!("{call} {nth}"));
        }
        assert!(killed > 0, "{call}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_sound_store() {
    let folder = quick_folder();
    for delay in 0..15 {
        let root = folder.path().join("store");
        Line::of(&task("build", &root)).killed_after(Duration::from_millis(3 * delay));
        assert_sound(&root, &format!("after {} ms", 3 * delay));
        if delay % 5 == 0 {
            fs::remove_dir_all(&root).unwrap();
        }
    }
}

#[test]
fn builds_at_once_share_a_store_while_another_wants_to_prune_it() {
    let folder = folder();
    let root = folder.path().join("store");
    let mut builds: Vec<_> = (0..4).map(|_| task("build", &root).stdout(std::process::Stdio::null()).spawn().unwrap()).collect();
    let (mut pruned, mut refused) = (0, 0);
    while builds.iter_mut().any(|build| build.try_wait().unwrap().is_none()) {
        match Store::open_alone(&root) {
            Ok(mut store) => {
                store.prune(&Prune { unused_for: Duration::from_secs(3600), ..Prune::default() }, &mut |_, _, _| vec![]).unwrap();
                pruned += 1;
            }
            Err(StoreError::InUse { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(builds.iter_mut().all(|build| build.wait().unwrap().success()));
    assert!(refused > 0, "{pruned} prunes");
    assert_sound(&root, "builds at once");
}

#[test]
fn a_blob_in_use_is_never_removed_under_a_build() {
    let folder = folder();
    let root = folder.path().join("store");
    let store = Store::open(&root).unwrap();
    let digest = store.put_blob(b"in use").unwrap();
    let mut other = Store::open(&root).unwrap();
    assert!(matches!(other.prune(&Prune::default(), &mut |_, _, _| vec![]), Err(StoreError::InUse { .. })));
    assert!(store.blob_size(&digest).is_some());
}

#[test]
fn a_farm_on_another_file_system_is_copied_with_modes_and_dates() {
    let other = Path::new("/dev/shm");
    let folder = folder();
    if fs::metadata(other).is_ok_and(|other| other.dev() == fs::metadata(folder.path()).unwrap().dev()) {
        return;
    }
    let farm = tempfile::tempdir_in(other).unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let digest = store.put_file_bytes(b"hello", 0o4755).unwrap();
    let tree: Tree =
        [(TreePath::parse(b"usr/bin/x").unwrap(), Entry::file(digest, 5, 0o4755, 0, Origin::Parvis))].into_iter().collect();
    let made = store.farm(&tree, &farm.path().join("root")).unwrap();
    let status = fs::metadata(farm.path().join("root/usr/bin/x")).unwrap();
    assert_eq!((status.mode() & 0o7777, status.mtime(), status.nlink()), (0o755, parvis::edge::store::FILE_MTIME, 1));
    assert_eq!(made.fixups[0].mode, 0o4755);
    // What is copied is checked on the way.
    let path = store.file_path(&digest, 0o4755);
    fs::write(&path, "hellO").unwrap();
    assert!(matches!(store.farm(&tree, &farm.path().join("again")), Err(StoreError::Damaged { .. })));
    assert!(!path.exists());
}

#[test]
fn more_links_than_a_file_system_allows_become_copies() {
    let folder = folder();
    let root = folder.path().join("store");
    drop(Store::open(&root).unwrap());
    // The first link of each thread: the probe's, which does not mind, and those of the farm.
    let output = Line::of(&task("build", &root)).with_accident("linkat", "error=EMLINK", 1);
    assert!(output.status.success(), "{}", text(&output));
    assert_sound(&root, "beyond the limit of links");
}

#[test]
fn damage_of_every_kind_is_found_and_made_good_by_a_rerun() {
    let folder = folder();
    let root = folder.path().join("store");
    build(&root).unwrap();
    let store = Store::open(&root).unwrap();
    let mut content = Vec::new();
    store.open_segment("package").unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, b"members");
    let file = store.file_path(&FileDigest::of(&self::content(3)), 0o644);
    let blob = store.blob_path(&BlobDigest::of(&vec![1; 1_000_000]));
    let (segment, record) = (root.join("segments/package"), root.join("records/tree/base"));
    let damaged = [blob, file, record, segment];
    for (number, path) in damaged.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        if number % 2 == 0 {
            bytes[middle] ^= 4;
        } else {
            bytes.truncate(middle);
        }
        fs::write(path, bytes).unwrap();
    }
    let report = store.verify().unwrap();
    assert_eq!(report.damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), damaged.iter().collect::<Vec<_>>());
    assert!(report.damaged.iter().all(|damage| damage.removed));
    drop(store);
    assert_sound(&root, "after damage");
}
