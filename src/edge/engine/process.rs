//! One run of an engine's program: fed, listened to, and given up when it hangs.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::EngineError;

/// More of what an engine says is not kept.
const LIMIT: u64 = 4 << 20;

/// Longer lines are cut.
const LINE: usize = 4000;

/// How long the rest of what a program said may take to arrive once it has ended: a child of its own may hold the pipe.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What compose takes from the environment although the command line says it.
const COMPOSE_VARIABLES: [&str; 6] = [
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "COMPOSE_PROFILES",
    "COMPOSE_ENV_FILES",
    "COMPOSE_PATH_SEPARATOR",
    "COMPOSE_DISABLE_ENV_FILE",
];

/// When a program is taken for one that hangs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// After so long.
    Whole(Duration),
    /// After so long without a sign of life: a byte that it took or gave.
    Silence(Duration),
}

/// A command line that is about to be run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub program: &'a str,
    /// What it is called when it fails.
    pub action: &'static str,
    pub arguments: Vec<OsString>,
    /// Variables of the environment that the program must not see.
    pub hidden: &'a [String],
    pub patience: Patience,
}

impl Run<'_> {
    /// Runs the program and returns its standard output.
    pub fn answer(&self) -> Result<String, EngineError> {
        let mut kept = Vec::new();
        self.stream(&mut |bytes| {
            let room = usize::try_from(LIMIT).unwrap_or(usize::MAX).saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&kept).into_owned())
    }

    /// Runs the program and hands on its standard output as it comes.
    pub fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), EngineError> {
        let mut child = self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let complaint = keep(child.stderr.take());
        let pieces = pieces(child.stdout.take());
        let status = self.listen(&mut child, &pieces, sink)?;
        self.judge(status, &complaint)
    }

    /// Runs the program and hands on the lines of both its outputs as they come; returns how it ended.
    pub fn lines(&self, line: &mut dyn FnMut(&str)) -> Result<ExitStatus, EngineError> {
        let failed = |source| EngineError::Run { program: self.program.into(), source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        let other = writer.try_clone().map_err(failed)?;
        let mut child = self.spawn(Stdio::null(), writer.into(), other.into())?;
        let pieces = pieces(Some(reader));
        let mut rest = Vec::new();
        let status = self.listen(&mut child, &pieces, &mut |bytes| {
            for byte in bytes {
                if *byte == b'\n' {
                    line(readable(&rest).trim_end());
                    rest.clear();
                } else if rest.len() < LINE {
                    rest.push(*byte);
                }
            }
            Ok(())
        })?;
        if !rest.is_empty() {
            line(readable(&rest).trim_end());
        }
        Ok(status)
    }

    /// Runs the program, writes to its standard input, and returns its standard output.
    pub fn feed(&self, input: &mut dyn Read) -> Result<String, EngineError> {
        let mut child = self.spawn(Stdio::piped(), Stdio::piped(), Stdio::piped())?;
        // Both are read while the input is written: a full pipe would stop all three.
        let (out, complaint) = (keep(child.stdout.take()), keep(child.stderr.take()));
        let (life, gone) = (AtomicU64::new(0), AtomicBool::new(false));
        let process = child.id();
        let stdin = child.stdin.take();
        // A program that stops taking bytes is ended by the thread that watches, which wakes up the one that writes.
        let (fed, status) = std::thread::scope(|scope| {
            let (done, ended) = mpsc::channel::<()>();
            let (life, gone) = (&life, &gone);
            scope.spawn(move || {
                let (mut seen, mut since) = (0, Instant::now());
                while matches!(ended.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout)) {
                    let now = life.load(Ordering::Relaxed);
                    if now != seen {
                        (seen, since) = (now, Instant::now());
                    }
                    if since.elapsed() >= self.limit() {
                        gone.store(true, Ordering::Relaxed);
                        kill_tree(process);
                        return;
                    }
                }
            });
            let fed = stdin.map_or(Ok(()), |stdin| copy(input, stdin, life));
            if fed.is_err() {
                // Half an archive must not be taken for a whole one.
                kill_tree(process);
            }
            let status = child.wait();
            drop(done);
            (fed, status)
        });
        if gone.load(Ordering::Relaxed) {
            return Err(self.silent());
        }
        fed.map_err(|source| EngineError::Archive { program: self.program.into(), source })?;
        let status = status.map_err(|source| EngineError::Run { program: self.program.into(), source })?;
        self.judge(status, &complaint)?;
        Ok(out.recv_timeout(AFTERMATH).unwrap_or_default())
    }

    fn spawn(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child, EngineError> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).env("LC_ALL", "C").stdin(stdin).stdout(stdout).stderr(stderr);
        for name in COMPOSE_VARIABLES.into_iter().chain(self.hidden.iter().map(String::as_str)) {
            command.env_remove(name);
        }
        command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => EngineError::Absent { program: self.program.into() },
            _ => EngineError::Run { program: self.program.into(), source },
        })
    }

    /// Hands on pieces until the program has ended and said all.
    fn listen(
        &self,
        child: &mut Child,
        pieces: &Receiver<Vec<u8>>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<ExitStatus, EngineError> {
        let started = Instant::now();
        let (mut heard, mut open) = (started, true);
        let mut ended: Option<(ExitStatus, Instant)> = None;
        let mut pause = Duration::from_millis(1);
        loop {
            if open {
                match pieces.recv_timeout(pause) {
                    Ok(piece) => {
                        heard = Instant::now();
                        if let Err(source) = sink(&piece) {
                            kill_tree(child.id());
                            let _ = child.wait();
                            return Err(EngineError::Sink { program: self.program.into(), source });
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => open = false,
                }
            } else if ended.is_none() {
                std::thread::sleep(pause);
            }
            pause = (pause * 2).min(Duration::from_millis(50));
            if ended.is_none() {
                let status = child.try_wait().map_err(|source| EngineError::Run { program: self.program.into(), source })?;
                ended = status.map(|status| (status, Instant::now()));
            }
            match ended {
                Some((status, _)) if !open => return Ok(status),
                // What a child of its own still writes is not waited for.
                Some((status, when)) if when.max(heard).elapsed() > AFTERMATH => return Ok(status),
                Some(_) => {}
                None => {
                    let since = if matches!(self.patience, Patience::Whole(_)) { started } else { heard };
                    if since.elapsed() >= self.limit() {
                        kill_tree(child.id());
                        let _ = child.wait();
                        return Err(self.silent());
                    }
                }
            }
        }
    }

    const fn limit(&self) -> Duration {
        match self.patience {
            Patience::Whole(limit) | Patience::Silence(limit) => limit,
        }
    }

    fn silent(&self) -> EngineError {
        EngineError::Silent { program: self.program.into(), seconds: self.limit().as_secs() }
    }

    fn judge(&self, status: ExitStatus, complaint: &Receiver<String>) -> Result<(), EngineError> {
        if status.success() {
            return Ok(());
        }
        let complaint = complaint.recv_timeout(AFTERMATH).unwrap_or_default();
        Err(explain(self.program, self.action, status, &complaint))
    }
}

/// Turns what an engine complains of into what a person can act upon.
fn explain(program: &str, action: &'static str, status: ExitStatus, complaint: &str) -> EngineError {
    let program = program.to_owned();
    let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    if says(&["permission denied while trying to connect", "dial unix", "connect: permission denied"])
        && says(&["ermission denied"])
    {
        EngineError::Permission { program }
    } else if says(&["Cannot connect to the Docker daemon", "Is the docker daemon running", "unable to connect to Podman socket"])
    {
        EngineError::Daemon { program }
    } else if says(&["no space left on device"]) {
        EngineError::Full { program }
    } else {
        let lines = complaint.lines().map(str::trim).filter(|line| !line.is_empty());
        let last: Vec<&str> = lines.rev().take(3).collect();
        let words: Vec<&str> = last.into_iter().rev().collect();
        let words = if words.is_empty() { status.to_string() } else { words.join("; ") };
        EngineError::Failed { program, action, words: words.chars().take(600).collect() }
    }
}

/// Writes the input to the program. That it stops listening is for its own words to explain.
fn copy(input: &mut dyn Read, mut stdin: ChildStdin, life: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if stdin.write_all(&buffer[..count]).is_err() {
            return Ok(());
        }
        life.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps the beginning of what a pipe says, and reads the rest.
fn keep(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut bytes = Vec::new();
        // What was read before an error is still what was said.
        let _ = pipe.by_ref().take(LIMIT).read_to_end(&mut bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Reads a pipe in a thread of its own, a few pieces ahead.
fn pieces(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(4);
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Returns a line of a program as text that stays on its line.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\t', "    ").replace('\r', "")
}

/// Ends a process and all that it started: `docker compose` is a child of `docker`, and would go on without it.
fn kill_tree(process: u32) {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(process, Signal::KILL);
    }
    children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(kill_tree);
}
