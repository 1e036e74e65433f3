//! Rules of the store, each with a store of its own.

use std::io::Read as _;
use std::time::Duration;

use super::*;
use crate::model::tree::{Entry, Origin, Tree, TreePath};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn no_references(_: &str, _: &str, _: &[u8]) -> Vec<Item> {
    Vec::new()
}

#[test]
fn a_file_is_kept_once_for_each_set_of_permission_bits() {
    let (_folder, store) = store();
    let digest = store.put_file_bytes(b"hello", 0o4755).unwrap();
    assert_eq!(store.put_file(&mut b"hello".as_slice(), 0o755).unwrap(), (digest, 5));
    assert_eq!(store.put_file_bytes(b"hello", 0o644).unwrap(), digest);
    let modes = [0o755, 0o644].map(|mode| fs::metadata(store.file_path(&digest, mode)).unwrap().permissions());
    assert_eq!(modes.map(|mode| std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777), [0o755, 0o644]);
    assert_eq!(store.verify().unwrap().checked, 2);
}

#[test]
fn a_file_cut_short_by_a_power_failure_is_written_again() {
    let (_folder, store) = store();
    let digest = store.put_file_bytes(b"hello", 0o644).unwrap();
    fs::write(store.file_path(&digest, 0o644), b"").unwrap();
    assert!(!store.has_file(&digest, 0o644, 5));
    store.put_file_bytes(b"hello", 0o644).unwrap();
    assert_eq!(fs::read(store.file_path(&digest, 0o644)).unwrap(), b"hello");
}

#[test]
fn a_blob_that_is_not_what_was_promised_never_appears() {
    let (_folder, store) = store();
    let digest = BlobDigest::of(b"layer");
    let mut writer = store.blob_writer(Some(digest), None).unwrap();
    writer.append(b"other").unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::Digest { .. })));
    let mut writer = store.blob_writer(None, Some(4)).unwrap();
    assert!(matches!(writer.append(b"layer"), Err(StoreError::Size { .. })));
    drop(writer);
    let mut writer = store.blob_writer(None, Some(6)).unwrap();
    writer.append(b"layer").unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::Size { .. })));
    assert_eq!(store.verify().unwrap(), VerifyReport::default());
    assert_eq!(store.put_blob(b"layer").unwrap(), digest);
    assert_eq!(store.blob_size(&digest), Some(5));
    assert_eq!(store.read_blob(&digest, 5).unwrap(), b"layer");
    assert!(matches!(store.read_blob(&digest, 4), Err(StoreError::Size { .. })));
}

#[test]
fn a_flipped_bit_is_found_on_reading_and_the_thing_is_gone_after() {
    let (_folder, store) = store();
    let digest = store.put_blob(b"layer").unwrap();
    flip(&store.blob_path(&digest));
    assert!(matches!(store.read_blob(&digest, 9), Err(StoreError::Damaged { .. })));
    assert!(matches!(store.read_blob(&digest, 9), Err(StoreError::Missing { .. })));
    let mut writer = store.segment_writer().unwrap();
    writer.append(b"members").unwrap();
    assert_eq!(writer.finish("k").unwrap(), 7);
    flip(&store.root().join("segments/k"));
    let mut text = String::new();
    assert!(store.open_segment("k").unwrap().read_to_string(&mut text).is_err());
    assert!(!store.has_segment("k"));
}

#[test]
fn a_segment_reads_back_without_its_trailer() {
    let (_folder, store) = store();
    let mut writer = store.segment_writer().unwrap();
    writer.append(b"members").unwrap();
    writer.finish("k").unwrap();
    let mut segment = store.open_segment("k").unwrap();
    let mut text = String::new();
    segment.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), segment.size()), ("members", 7));
    assert!(matches!(store.open_segment("other"), Err(StoreError::Missing { .. })));
}

#[test]
fn a_record_is_replaced_whole_and_a_damaged_one_counts_as_absent() {
    let (_folder, store) = store();
    store.put_record("tree", "a", b"one").unwrap();
    store.put_record("tree", "a", b"").unwrap();
    assert_eq!(store.record("tree", "a").unwrap(), Some(Vec::new()));
    store.put_record("tree", "a", b"three").unwrap();
    assert_eq!(store.record("tree", "a").unwrap(), Some(b"three".to_vec()));
    let path = store.root().join("records/tree/a");
    let whole = fs::read(&path).unwrap();
    for torn in [&whole[..whole.len() - 1], &whole[..10], &[]] {
        fs::write(&path, torn).unwrap();
        assert_eq!(store.record("tree", "a").unwrap(), None);
        assert!(!path.exists());
    }
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let (_folder, store) = store();
    for name in ["../x", "a/b", "", ".", ".x", "a b", "a\u{1b}"] {
        assert!(matches!(store.put_record("kind", name, b""), Err(StoreError::Name { .. })), "{name}");
        assert!(matches!(store.put_record(name, "key", b""), Err(StoreError::Name { .. })), "{name}");
        assert!(matches!(store.open_segment(name), Err(StoreError::Name { .. })), "{name}");
    }
}

#[test]
fn an_item_reads_back_from_its_path() {
    let digest = FileDigest::of(b"");
    for item in [
        Item::file(digest, 0o4000),
        Item::file(digest, 0o755),
        Item::Blob(BlobDigest::of(b"")),
        Item::Download(DownloadDigest::of(b"")),
        Item::Segment("k".into()),
        Item::Record { kind: "a".into(), key: "b".into() },
    ] {
        assert_eq!(Item::parse(item.path().to_str().unwrap()), Some(item));
    }
    let hex = digest.hex();
    for path in [format!("files/{}/{}.0644", &hex[..2], &hex[2..]), format!("blobs/md5/{hex}"), "records/a".into()] {
        assert_eq!(Item::parse(&path), None, "{path}");
    }
}

#[test]
fn a_store_of_a_newer_format_and_a_folder_that_is_none_are_refused() {
    let (folder, store) = store();
    let root = store.root().to_owned();
    drop(store);
    fs::write(root.join("format"), "parvis-store 9\n").unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Format { found, .. }) if found == "parvis-store 9"));
    fs::write(root.join("format"), "").unwrap();
    assert!(Store::open(&root).is_ok(), "a power cut came before the content");
    fs::write(folder.path().join("letter.txt"), "").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::NotAStore { .. })));
}

#[test]
fn a_store_in_use_is_not_pruned() {
    let (_folder, store) = store();
    let root = store.root().to_owned();
    let second = Store::open(&root).unwrap();
    drop(store);
    assert!(matches!(Store::open_alone(&root), Err(StoreError::InUse { .. })));
    drop(second);
    assert!(Store::open_alone(&root).is_ok());
}

#[test]
fn pruning_keeps_what_a_kept_record_refers_to() {
    let (_folder, store) = store();
    let root = store.root().to_owned();
    let kept = store.put_blob(b"kept").unwrap();
    store.put_blob(b"dropped").unwrap();
    store.put_record("step", "a", b"").unwrap();
    fs::write(store.downloads().join("x.part"), b"12345").unwrap();
    drop(store);
    let mut store = Store::open_alone(&root).unwrap();
    let wish = Prune { keep: [Item::Record { kind: "step".into(), key: "a".into() }].into(), dry_run: true, ..Prune::default() };
    let mut references = |kind: &str, key: &str, _: &[u8]| {
        assert_eq!((kind, key), ("step", "a"));
        vec![Item::Blob(kept)]
    };
    let dry = store.prune(&wish, &mut references).unwrap();
    assert_eq!((dry.removed, dry.removed_bytes, dry.kept), (2, 12, 2));
    assert_eq!(store.prune(&Prune { dry_run: false, ..wish }, &mut references).unwrap(), dry);
    assert_eq!(store.verify().unwrap().checked, 2);
    let young = Prune { unused_for: Duration::from_secs(600), ..Prune::default() };
    assert_eq!(store.prune(&young, &mut references).unwrap().removed, 0);
    assert_eq!(store.prune(&Prune::default(), &mut no_references).unwrap().kept, 0);
}

#[test]
fn verification_names_what_is_damaged_and_what_is_foreign() {
    let (_folder, store) = store();
    let digest = store.put_file_bytes(b"hello", 0o644).unwrap();
    let file = store.file_path(&digest, 0o644);
    flip(&file);
    store.put_record("tree", "a", b"one").unwrap();
    let record = store.root().join("records/tree/a");
    flip(&record);
    let foreign = store.root().join("downloads/readme");
    fs::write(&foreign, "").unwrap();
    let report = store.verify().unwrap();
    assert_eq!(
        report.damaged.iter().map(|damage| (&damage.path, damage.removed)).collect::<Vec<_>>(),
        [(&file, true), (&record, true)]
    );
    assert_eq!(report.foreign, [foreign]);
    assert_eq!(store.verify().unwrap().damaged, []);
}

#[test]
fn a_farm_is_the_tree_and_lists_what_links_cannot_carry() {
    let (folder, store) = store();
    let origin = Origin::Parvis;
    let mut tree = Tree::new();
    tree.put(path(""), Entry::directory(0o755, origin.clone()));
    tree.put(path("tmp"), Entry::directory(0o1777, origin.clone()));
    let digest = store.put_file_bytes(b"hello", 0o644).unwrap();
    tree.put(path("etc/a"), Entry::file(digest, 5, 0o644, 9, origin.clone()));
    tree.put(path("etc-b"), Entry::file(FileDigest::of(b""), 0, 0o640, 9, origin.clone()));
    let secret = store.put_file_bytes(b"x", 0o4055).unwrap();
    tree.put(path("etc/s"), Entry { uid: 7, ..Entry::file(secret, 1, 0o4055, 9, origin.clone()) });
    tree.put(path("link"), Entry::symlink(b"/etc", 9, origin));
    let into = folder.path().join("farm");
    let farm = store.farm(&tree, &into).unwrap();
    let fixups: Vec<_> = farm.fixups.iter().map(|fixup| (fixup.path.to_string(), fixup.mode, fixup.uid)).collect();
    assert_eq!(fixups, [("/etc/s".to_owned(), 0o4055, 7), ("/tmp".to_owned(), 0o1777, 0)]);
    assert_eq!(fs::read(into.join("etc/a")).unwrap(), b"hello");
    assert_eq!(fs::read_link(into.join("link")).unwrap(), Path::new("/etc"));
    let status = fs::metadata(into.join("etc-b")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&status), FILE_MTIME);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&status) & 0o7777, 0o640);
    fs::remove_file(store.file_path(&digest, 0o644)).unwrap();
    assert!(matches!(store.farm(&tree, &folder.path().join("again")), Err(StoreError::Missing { .. })));
}

#[test]
fn a_farm_of_a_tree_with_a_file_below_a_link_writes_nothing_outside() {
    let (folder, store) = store();
    let victim = folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    let origin = Origin::Parvis;
    let target = victim.to_str().unwrap().as_bytes();
    let digest = store.put_file_bytes(b"hello", 0o644).unwrap();
    let tree: Tree = [
        (path("a"), Entry::symlink(target, 0, origin.clone())),
        (path("a/b"), Entry::file(digest, 5, 0o644, 0, origin.clone())),
        (path("a/c"), Entry::directory(0o755, origin)),
    ]
    .into_iter()
    .collect();
    assert!(matches!(store.farm(&tree, &folder.path().join("farm")), Err(StoreError::Tree { .. })));
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}
