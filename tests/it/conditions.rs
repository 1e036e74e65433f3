//! Conditions that a build must not depend on, or must say that it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kit::fakerepo::Suite;
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said};
use crate::kit::world;
use crate::pipeline::{built, digests};

/// Moves the clock of a program by some days, wherever it asks for the time of day.
const CLOCK: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#define AHEAD (DAYS * 24L * 3600)
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += AHEAD;
    return result;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
";

/// Compiles a clock that is days ahead; returns the library to load before all others.
pub fn other_clock(folder: &Path, days: u32) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, CLOCK).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-DDAYS={days}"), "-o"])
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", Said::from(&output).err);
    library
}

#[test]
fn four_hundred_days_later_a_locked_build_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let library = other_clock(folder.path(), 400);
    // The clock is really another one: a list of packages of today is too old for it.
    let (repo, project, expected) = built();
    let output = project.parvis(&["lock", "--update"]).env("LD_PRELOAD", &library).output().unwrap();
    let said = Said::from(&output);
    assert_ne!(output.status.code(), Some(0), "{}", said.out);
    assert!(said.err.contains("days") || said.err.contains("valid"), "{}", said.err);
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    let output = other.parvis(&["build", "--json"]).env("LD_PRELOAD", &library).output().unwrap();
    assert!(output.status.success(), "{}", Said::from(&output).err);
    assert_eq!(digests(&Said::from(&output).out), expected);
}

#[test]
fn dates_that_a_script_gives_to_what_it_makes_are_not_those_of_the_day() {
    // As a script would whose clock is 400 days ahead, one that is behind the age of its package, and one at the real clock.
    let script = |date: &str| {
        format!(
            "#!/bin/sh\nset -e\necho made > /srv/made\ntouch -d '{date}' /srv/made\nmkdir /srv/folder\ntouch -d '{date}' /srv/folder\nln -s made /srv/link\n"
        )
    };
    let mut layers = Vec::new();
    for date in ["2028-01-01", "2027-01-05 10:00", "now"] {
        let mut repo = world::archive();
        repo.add(Suite::Main, &Deb::new("dated", "1").directory("/srv").script("postinst", &script(date))).publish();
        let project = Project::on(&repo);
        project.recipe("base", "description: Dates.\nfrom: scratch\npackages: [libfoo, dated]\n");
        project.run(&["lock"], 0);
        let answer: serde_json::Value = serde_json::from_str(&project.run(&["build", "--json"], 0).out).unwrap();
        let own = answer["images"][0]["layers"].as_array().unwrap().iter();
        let made = own.clone().find(|layer| layer["title"] == "what the packages' scripts made").unwrap();
        layers.push(made["diff_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(layers[0], layers[2], "in the future");
    assert_eq!(layers[1], layers[2], "later than its package");
}

#[test]
fn a_package_whose_scripts_are_not_reproducible_is_named() {
    let mut repo = world::archive();
    let script = "#!/bin/sh\nset -e\ncat /proc/sys/kernel/random/uuid > /srv/random\necho same > /srv/same\n";
    repo.add(Suite::Main, &Deb::new("fickle", "1").directory("/srv").script("postinst", script)).publish();
    let project = Project::on(&repo);
    project.recipe("base", "description: Other at each build.\nfrom: scratch\npackages: [libfoo, fickle]\n");
    project.run(&["lock"], 0);
    let said = project.run(&["build", "--twice"], 1);
    assert!(
        said.err.contains("error: a second build gave other digests:\n  base: /srv/random differs (script:fickle)\n"),
        "{}",
        said.err
    );
    assert!(!said.err.contains("/srv/same"), "{}", said.err);
    assert!(said.err.contains("hint: the second build had: "), "{}", said.err);
}

#[test]
fn what_a_killed_second_build_left_is_swept_away_by_the_next() {
    let (_repo, project, _) = built();
    let temporary = tempfile::tempdir().unwrap();
    let left = temporary.path().join("parvis twice killed");
    let alive = temporary.path().join("parvis twice alive");
    for folder in [&left, &alive] {
        fs::create_dir_all(folder.join("second store")).unwrap();
    }
    let held = fs::File::open(&alive).unwrap();
    held.lock().unwrap();
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let output = project.parvis(&["build", "--twice"]).env("TMPDIR", temporary.path()).output().unwrap();
    assert!(output.status.success(), "{}", Said::from(&output).err);
    assert!(!left.exists() && alive.exists());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "its own is gone as well");
}

#[test]
fn a_layout_that_was_damaged_is_written_anew_by_a_build_that_has_nothing_to_do() {
    let (_repo, project, expected) = built();
    let out = project.path().join("out");
    let index = fs::read(out.join("index.json")).unwrap();
    for damage in [&index[..index.len() / 2], b"", b"{}"] {
        fs::write(out.join("index.json"), damage).unwrap();
        let said = project.run(&["build", "--json"], 0);
        assert_eq!(digests(&said.out), expected);
        assert_eq!(fs::read(out.join("index.json")).unwrap(), index);
    }
}

#[test]
fn a_command_without_standard_output_does_its_work() {
    let (_repo, project, _) = built();
    fs::remove_dir_all(project.path().join("out")).unwrap();
    let inner = project.parvis(&["build"]);
    for closed in [">&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(0), "{closed}: {}", said.err);
        assert!(!said.err.contains("panicked"), "{closed}: {}", said.err);
        assert!(project.path().join("out/index.json").exists());
        fs::remove_dir_all(project.path().join("out")).unwrap();
    }
}
