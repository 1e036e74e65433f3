//! A build that is killed or interrupted at any moment: the next one finishes it, and nothing is left behind.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::killat::Line;
use crate::kit::project::{Project, Said};
use crate::kit::victim::Victim;
use crate::pipeline::{built, digests};

/// Moments of less than a limit, other ones at every run of the tests.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        Self(u64::from(std::process::id()))
    }

    fn next(&mut self, limit: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % limit)
    }
}

/// Returns what processes, mounts and open files speak of a folder: what a build left behind.
fn left_behind(folder: &str) -> Vec<String> {
    let mut left = Vec::new();
    for process in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
        // A process may end while it is looked at.
        let read = |name: &str| String::from_utf8_lossy(&fs::read(process.join(name)).unwrap_or_default()).into_owned();
        if read("cmdline").contains(folder) || read("mountinfo").contains(folder) {
            left.push(format!("{}: {}", process.display(), read("cmdline").replace('\0', " ")));
        }
    }
    left
}

/// Expects that nothing of a build lives, and that nobody holds the lock of its store.
fn assert_nothing_left(project: &Project, what: &str) {
    let store = project.store().display().to_string();
    // The kernel takes a moment to end the processes of a sandbox whose first one is gone.
    let end = Instant::now() + Duration::from_secs(5);
    let mut left = left_behind(&store);
    while !left.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        left = left_behind(&store);
    }
    assert!(left.is_empty(), "{what}: {left:?}");
    if let Ok(lock) = fs::File::open(project.store().join("lock")) {
        lock.try_lock().unwrap_or_else(|_| panic!("{what}: the lock is held"));
    }
}

/// Expects that a store holds nothing half done after a build that ended well.
fn assert_clean(project: &Project, what: &str) {
    project.run(&["store", "verify"], 0);
    let left: Vec<_> = fs::read_dir(project.store().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[test]
fn a_build_killed_at_a_system_call_is_finished_by_the_next_one() {
    let (repo, project, expected) = built();
    let victim = Victim::new();
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    let line = Line::of(&other.parvis(&["build", "--json"]));
    for (call, nth) in [("renameat2", 1), ("linkat", 30), ("mount", 4), ("linkat", 200), ("unlinkat", 2), ("renameat2", 9)] {
        // Where the call is never made, the build ends well.
        line.with_accident(call, "signal=KILL", nth);
        assert_nothing_left(&other, call);
        let output = line.run();
        assert!(output.status.success(), "killed at {call} {nth}: {}", Said::from(&output).err);
        assert_eq!(digests(&Said::from(&output).out), expected, "killed at {call} {nth}");
        assert_clean(&other, call);
        fs::remove_dir_all(other.store()).unwrap();
    }
    victim.assert_unchanged();
}

#[test]
fn of_two_hundred_kills_none_is_seen_in_the_result() {
    const KILLS: usize = 200;
    let (repo, project, expected) = built();
    let victim = Victim::new();
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    let line = Line::of(&other.parvis(&["build", "--json"]));
    // How long a build takes here, so that the kills fall into all of it.
    let start = Instant::now();
    assert!(line.run().status.success());
    let whole = u64::try_from(start.elapsed().as_millis()).unwrap().max(10);
    let (mut moments, mut killed, mut rounds) = (Moments::new(), 0, 0);
    while killed < KILLS {
        fs::remove_dir_all(other.store()).unwrap();
        let mut told = "killed after".to_owned();
        // Upon each other, until one build has ended before its time had come.
        for kill in 0..12 {
            let moment = moments.next(if kill == 0 { whole } else { whole / 2 });
            let _ = write!(told, " {moment:?}");
            if line.killed_after(moment).status.success() {
                break;
            }
            killed += 1;
        }
        assert_nothing_left(&other, &told);
        let output = line.run();
        assert!(output.status.success(), "{told}: {}", Said::from(&output).err);
        assert_eq!(digests(&Said::from(&output).out), expected, "{told}");
        assert_clean(&other, &told);
        rounds += 1;
        assert!(rounds <= KILLS, "{killed} kills in {rounds} builds");
    }
    victim.assert_unchanged();
}

/// Builds on a terminal of its own and presses Ctrl-C there; returns the exit code and what the terminal showed.
fn interrupted(project: &Project, arguments: &[&str], after: Duration, presses: usize) -> (Option<i32>, String) {
    let inner = project.parvis(arguments);
    let words: Vec<_> = inner.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("exec '{}' {}", inner.get_program().display(), words.join(" "));
    // Where the tests were started in the background, the key would be ignored by all that they start.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", "script", "--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    // Before it has said something the terminal may have nobody in its foreground, and a key would be lost.
    let mut shown = vec![0; 1];
    let mut screen = child.stdout.take().unwrap();
    let first = screen.read(&mut shown).unwrap();
    shown.truncate(first);
    std::thread::sleep(after);
    for _ in 0..presses {
        // The terminal makes a signal of it, for all that runs in its foreground.
        let _ = keys.write_all(b"\x03").and_then(|()| keys.flush());
        std::thread::sleep(Duration::from_millis(5));
    }
    screen.read_to_end(&mut shown).unwrap();
    let code = child.wait().unwrap().code();
    drop(keys);
    (code, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn a_build_interrupted_at_its_terminal_once_or_twice_is_finished_by_the_next_one() {
    let (repo, project, expected) = built();
    let other = Project::sample(&repo);
    other.write("parvis.lock", &project.read("parvis.lock"));
    let mut moments = Moments::new();
    let mut stopped = 0;
    for round in 0..8 {
        let presses = 1 + round % 2;
        let moment = moments.next(400);
        let told = format!("{presses} times Ctrl-C after {moment:?}");
        let (code, text) = interrupted(&other, &["build"], moment, presses);
        assert!(matches!(code, Some(0 | 130)), "{told}: {code:?} {text}");
        assert!(!text.contains("panicked"), "{told}: {text}");
        stopped += usize::from(code == Some(130));
        assert_nothing_left(&other, &told);
        assert_eq!(digests(&other.run(&["build", "--json"], 0).out), expected, "{told}");
        assert_clean(&other, &told);
        fs::remove_dir_all(other.store()).unwrap();
    }
    assert!(stopped > 1, "only {stopped} of 8 builds were stopped");
}
