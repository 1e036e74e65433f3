//! What is written out of sight until it is whole: nothing of a killed run is left after the next one, and nothing of a living one is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::badreg::Registry;
use crate::kit::killat::Line;
use crate::kit::project::Said;
use crate::release::Maker;

/// Returns everything below a folder whose name is one of parvis's own.
fn drafts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(".parvis-") {
            found.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(drafts(&path));
        }
    }
    found
}

/// Waits until something is the case.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_killed_releases_left_is_gone_after_the_next_one() {
    let maker = Maker::new();
    let registry = Registry::honest();
    let to = format!("{}/parish", registry.host());
    let line = Line::of(&maker.command(&["--json", "release", "1.0.0", "--to", &to]));
    let project = maker.project.path();
    let folder = project.join("out/release/1.0.0");
    // Killed while the first download is filled, while the second is, and where a download or a file of the record appears.
    for wanted in [1, 2] {
        line.killed_when(|| drafts(&folder).len() >= wanted, Duration::from_secs(120));
        assert!(drafts(&folder).len() >= wanted, "killed too late");
    }
    for nth in [3, 20] {
        line.with_accident("linkat", "signal=KILL", nth);
    }
    let before = drafts(&project).len();
    assert!(before > 0);
    let output = line.run();
    assert!(output.status.success(), "{}", Said::from(&output).err);
    assert_eq!(drafts(&project), Vec::<PathBuf>::new(), "of {before}");
    // The folder of a sandbox goes with the next command that has the store for itself.
    maker.run(&["store", "verify"], 0);
    let left: Vec<_> = fs::read_dir(maker.project.store().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn what_a_living_run_writes_is_not_taken_for_something_dead() {
    let maker = Maker::new();
    let folder = maker.project.path().join("out/release/1.0.0");
    let arguments = ["--json", "release", "1.0.0", "--dry-run"];
    let mut first = maker.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the first run has a draft", || !drafts(&folder).is_empty());
    let process = Pid::from_raw(i32::try_from(first.id()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let held = drafts(&folder);
    maker.run(&arguments, 0);
    let left = drafts(&folder);
    kill_process(process, Signal::CONT).unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!((left, drafts(&folder)), (held, Vec::new()));
}

#[test]
fn an_archive_and_a_bundle_that_are_killed_anywhere_are_whole_after_the_next_run_with_what_a_person_keeps_there() {
    let maker = Maker::new();
    let place = tempfile::tempdir().unwrap();
    let (archive, bundle) = (place.path().join("images.tar"), place.path().join("site"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    maker.run(&["build"], 0);
    let save = Line::of(&maker.command(&["save", "app", "--output", &text(&archive)]));
    let output = save.with_accident("linkat", "signal=KILL", 1);
    assert!(!output.status.success(), "{}", Said::from(&output).err);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "a file without a name is gone with its writer");
    assert!(save.run().status.success());
    let whole = fs::read(&archive).unwrap();
    // In place of an older one it has a name for a moment.
    save.with_accident("renameat", "signal=KILL", 1);
    assert_eq!((drafts(place.path()).len(), fs::read(&archive).unwrap() == whole), (1, true));
    assert!(save.run().status.success());
    assert!(drafts(place.path()).is_empty() && fs::read(&archive).unwrap() == whole);

    let make = Line::of(&maker.command(&["bundle", "compose", "--output", &text(&bundle)]));
    let output = make.run();
    assert!(output.status.success(), "{}", Said::from(&output).err);
    fs::write(bundle.join("backup.tar"), "rows").unwrap();
    let mut left = 0;
    for (call, nth) in [("renameat2", 1), ("rename", 1), ("renameat2", 2), ("rename", 2), ("unlinkat", 1), ("unlinkat", 3)] {
        make.with_accident(call, "signal=KILL", nth);
        left += drafts(place.path()).len();
        assert!(bundle.join("bundle.json").exists(), "one of the two versions is there: {call} {nth}");
        let output = make.run();
        assert!(output.status.success(), "killed at {call} {nth}: {}", Said::from(&output).err);
        assert_eq!(drafts(place.path()), Vec::<PathBuf>::new(), "killed at {call} {nth}");
        assert_eq!(fs::read(bundle.join("backup.tar")).unwrap(), b"rows", "killed at {call} {nth}");
    }
    assert!(left > 2, "only {left} drafts were ever left");
}
