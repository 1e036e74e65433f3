//! Runs a program and lets an accident happen at one of its system calls, or after a while.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command line that can be run again and again.
#[derive(Debug, Clone)]
pub struct Line {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Line {
    /// Takes program, arguments and the variables set on a command; the command's other variables are not passed on.
    pub fn of(command: &Command) -> Self {
        let environment = command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        let arguments = command.get_args().map(OsString::from).collect();
        Self { program: command.get_program().into(), arguments, environment }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Output {
        self.under(&[]).output().unwrap()
    }

    /// Runs it with an accident at the n-th such system call of one of its processes: `signal=KILL`, `error=ENOSPC` …
    ///
    /// Returns the output; where the accident never came, the run simply ended.
    pub fn with_accident(&self, call: &str, accident: &str, nth: usize) -> Output {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{accident}:when={nth}"));
        self.under(&["strace", "-f", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject]).output().unwrap()
    }

    /// Runs it and kills it, with all that it started in its session, after a while.
    pub fn killed_after(&self, delay: Duration) -> Output {
        self.killed_when(|| false, delay)
    }

    /// Runs it and kills it likewise, once something has happened; at the latest after a while.
    pub fn killed_when(&self, happened: impl Fn() -> bool, limit: Duration) -> Output {
        let end = Instant::now() + limit;
        let child = self.under(&["setsid", "--wait"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let session = child.id();
        while !happened() && Instant::now() < end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
        }
        // `setsid` execs in place or forks; in both cases the whole tree is killed from the leaves up.
        kill_tree(session);
        child.wait_with_output().unwrap()
    }

    fn under(&self, wrapper: &[&str]) -> Command {
        let mut words = wrapper.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(self.environment.iter().cloned());
        command.stdin(Stdio::null());
        command
    }
}

/// Sends SIGKILL to a process and to all its descendants, so that nothing survives its parent.
fn kill_tree(process: u32) {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let kill = |process: u32| {
        if let Some(process) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    };
    kill(process);
    children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(kill_tree);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn shell(script: &str) -> Line {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env("GREETING", "hello");
        Line::of(&command)
    }

    #[test]
    fn a_line_runs_with_its_own_environment_only() {
        assert_eq!(shell("echo $GREETING; echo ${HOME-none}").run().stdout, b"hello\nnone\n");
    }

    #[test]
    fn the_accident_comes_at_the_call_that_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("cd {}; mkdir one; mkdir two; mkdir three", folder.path().display());
        // Each mkdir is a process of its own, so the first call of any of them is hit.
        let output = shell(&script).with_accident("mkdir", "error=ENOSPC", 1);
        assert!(String::from_utf8(output.stderr).unwrap().contains("No space left on device"));
        assert!(!folder.path().join("one").exists());
        let output = shell(&format!("cd {}; exec mkdir a b c", folder.path().display())).with_accident("mkdir", "signal=KILL", 2);
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
        assert!(folder.path().join("a").exists() && !folder.path().join("c").exists());
    }

    #[test]
    fn a_killed_program_leaves_no_child_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let before = Instant::now();
        shell(&format!("(sleep 1; echo late > {}) & sleep 30", mark.display())).killed_after(Duration::from_millis(200));
        assert!(before.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists());
    }
}
