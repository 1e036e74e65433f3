//! The container engine of the machine: docker or podman, by its own command line.

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Answers that take longer than this come from a daemon that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// More of what an engine says is not kept.
const LIMIT: u64 = 4 << 20;

/// An engine that does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("there is no container engine: `docker` and `podman` are not installed")]
    None,
    #[error("the container engine `{program}` is not installed")]
    Absent { program: String },
    #[error("`{program}` cannot reach its daemon")]
    Daemon { program: String },
    #[error("`{program}` may not talk to its daemon: permission denied")]
    Permission { program: String },
    #[error("`{program}` has no space left for the image")]
    Full { program: String },
    #[error("`{program}` did not answer within {seconds} seconds")]
    Silent { program: String, seconds: u64 },
    #[error("`{program} {action}` failed: {words}")]
    Failed { program: String, action: &'static str, words: String },
    #[error("`{program} {action}` said something that cannot be read: {words}")]
    Unreadable { program: String, action: &'static str, words: String },
    #[error("cannot run `{program}`")]
    Run { program: String, source: io::Error },
    #[error("the archive for `{program}` cannot be read")]
    Archive { program: String, source: io::Error },
}

impl EngineError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None | Self::Absent { .. } => {
                "images are built without one; to run them, install it: `apt-get install podman` or `docker.io`".into()
            }
            Self::Daemon { .. } | Self::Silent { .. } => "start it: `systemctl start docker`, and see `systemctl status docker`".into(),
            Self::Permission { .. } => {
                "join the group `docker` (`adduser YOU docker`, then log in anew), use `sudo`, or use podman, which needs no rights".into()
            }
            Self::Full { program } => format!("remove what is not used: `{program} system prune`"),
            _ => return None,
        })
    }
}

/// An engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    program: String,
    /// The version of the daemon, or of podman.
    pub version: String,
}

/// An image as an engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// The digest of the configuration or, with the containerd store, of the manifest.
    pub id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub repo_digests: Vec<String>,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub size: u64,
}

/// Reads `null` as the empty list that Go means by it.
fn or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Engine {
    /// Finds the engine: the one that is wanted, or else docker, or else podman.
    ///
    /// # Errors
    /// What is wrong with the wanted one, or with the first that is installed when none answers.
    pub fn find(wanted: Option<&str>) -> Result<Self, EngineError> {
        match wanted {
            Some(program) => Self::ask(program),
            None => Self::first(&["docker", "podman"]),
        }
    }

    fn first(programs: &[&str]) -> Result<Self, EngineError> {
        let mut wrong = None;
        for program in programs {
            match Self::ask(program) {
                Ok(engine) => return Ok(engine),
                Err(EngineError::Absent { .. }) => {}
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        Err(wrong.unwrap_or(EngineError::None))
    }

    fn ask(program: &str) -> Result<Self, EngineError> {
        let mut engine = Self { program: program.into(), version: String::new() };
        // A podman that poses as docker has no server, and says so by an empty answer.
        let format = if engine.name() == "podman" { "{{.Client.Version}}" } else { "{{.Server.Version}}" };
        let said = engine.run("version", &["version", "--format", format], None, Some(PATIENCE))?;
        engine.version = said.trim().chars().take(80).filter(|character| !character.is_control()).collect();
        Ok(engine)
    }

    /// Returns the program's name, without its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or(&self.program)
    }

    /// Hands an archive to the engine; returns what it says it has loaded: names, or ids where there is no name.
    pub fn load(&self, archive: &mut dyn Read) -> Result<Vec<String>, EngineError> {
        let said = self.run("load", &["load"], Some(archive), None)?;
        let loaded = said.lines().filter_map(|line| {
            ["Loaded image: ", "Loaded image(s): ", "Loaded image ID: "].iter().find_map(|start| line.trim().strip_prefix(start))
        });
        Ok(loaded.flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect())
    }

    /// Returns what the engine knows of an image; `None` where it has none of this name or id.
    pub fn inspect(&self, image: &str) -> Result<Option<Inspected>, EngineError> {
        const ACTION: &str = "image inspect";
        let said = match self.run(ACTION, &["image", "inspect", "--", image], None, Some(PATIENCE)) {
            Ok(said) => said,
            Err(EngineError::Failed { words, .. }) if is_absent(&words) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable = |words: String| EngineError::Unreadable { program: self.program.clone(), action: ACTION, words };
        let mut images: Vec<Inspected> = serde_json::from_str(&said).map_err(|error| unreadable(error.to_string()))?;
        if images.len() == 1 { Ok(images.pop()) } else { Err(unreadable(format!("{} images", images.len()))) }
    }

    /// Runs the program and returns its standard output.
    fn run(
        &self,
        action: &'static str,
        arguments: &[impl AsRef<OsStr>],
        input: Option<&mut dyn Read>,
        patience: Option<Duration>,
    ) -> Result<String, EngineError> {
        let program = || self.program.clone();
        let mut command = Command::new(&self.program);
        command.args(arguments).env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => EngineError::Absent { program: program() },
            _ => EngineError::Run { program: program(), source },
        })?;
        // Both are read while the archive is written: a full pipe would stop all three.
        let (out, complaint) = (keep(child.stdout.take()), keep(child.stderr.take()));
        let fed = match (input, child.stdin.take()) {
            (Some(archive), Some(stdin)) => feed(archive, stdin),
            _ => Ok(()),
        };
        if let Err(source) = fed {
            // Half an archive must not be taken for a whole one.
            let _ = child.kill();
            let _ = child.wait();
            return Err(EngineError::Archive { program: program(), source });
        }
        let status = wait(&mut child, patience).map_err(|source| EngineError::Run { program: program(), source })?;
        let Some(status) = status else {
            let seconds = patience.unwrap_or_default().as_secs();
            return Err(EngineError::Silent { program: program(), seconds });
        };
        let complaint = complaint.join().unwrap_or_default();
        if status.success() {
            return Ok(out.join().unwrap_or_default());
        }
        Err(self.explain(action, status, &complaint))
    }

    /// Turns what an engine complains of into what a person can act upon.
    fn explain(&self, action: &'static str, status: ExitStatus, complaint: &str) -> EngineError {
        let program = self.program.clone();
        let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
        if says(&["permission denied while trying to connect", "dial unix", "connect: permission denied"])
            && says(&["ermission denied"])
        {
            EngineError::Permission { program }
        } else if says(&[
            "Cannot connect to the Docker daemon",
            "Is the docker daemon running",
            "unable to connect to Podman socket",
        ]) {
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
}

fn is_absent(words: &str) -> bool {
    let words = words.to_lowercase();
    ["no such image", "not known", "image not found", "unable to find a name"].iter().any(|known| words.contains(known))
}

/// Writes the archive to the engine. That it stops listening is for its own words to explain.
fn feed(archive: &mut dyn Read, mut stdin: ChildStdin) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match archive.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if stdin.write_all(&buffer[..count]).is_err() {
            return Ok(());
        }
    }
}

/// Keeps the beginning of what a pipe says, and reads the rest.
fn keep(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return String::new() };
        let mut bytes = Vec::new();
        // What was read before an error is still what was said.
        let _ = pipe.by_ref().take(LIMIT).read_to_end(&mut bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end; `None` where it took too long, and was ended.
fn wait(child: &mut Child, patience: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(patience) = patience else { return child.wait().map(Some) };
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    while started.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Makes a program of this name that does what the shell lines say.
    fn program(name: &str, lines: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        // Written by another process: no thread of this one that starts a program at this moment holds the file open.
        let write = format!("cat > {0} && chmod 755 {0}", path.display());
        let mut shell = Command::new("sh").args(["-c", &write]).stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{lines}\n").as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    }

    fn engine(lines: &str) -> (tempfile::TempDir, Engine) {
        let (folder, program) = program("docker", lines);
        (folder, Engine { program, version: String::new() })
    }

    #[test]
    fn the_first_engine_that_answers_is_taken() {
        let (_first, broken) =
            program("docker", "echo 'Cannot connect to the Docker daemon at unix:///x. Is it running?' >&2; exit 1");
        let (_second, podman) = program("podman", r#"[ "$3" = "{{.Client.Version}}" ] && echo 5.4.2"#);
        let found = Engine::first(&["parvis-no-engine", &broken, &podman]).unwrap();
        assert_eq!((found.name(), found.version.as_str()), ("podman", "5.4.2"));
        assert!(matches!(Engine::first(&["parvis-no-engine", &broken]), Err(EngineError::Daemon { .. })));
        assert!(matches!(Engine::first(&["parvis-no-engine"]), Err(EngineError::None)));
        assert!(matches!(Engine::find(Some("parvis-no-engine")), Err(EngineError::Absent { .. })));
    }

    #[test]
    fn what_an_engine_complains_of_becomes_something_to_do() {
        for (complaint, expected, hint) in [
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "cannot reach its daemon",
                "start it",
            ),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
                "permission denied",
                "group `docker`",
            ),
            (
                "Got permission denied: Get: dial unix /var/run/docker.sock: connect: permission denied",
                "permission denied",
                "group `docker`",
            ),
            ("write /layer.tar: no space left on device", "has no space left", "system prune"),
            ("open manifest.json: no such file", "docker load` failed: open manifest.json: no such file", ""),
        ] {
            let (_folder, engine) = engine(&format!("echo '{complaint}' >&2; exit 1"));
            let error = engine.load(&mut io::empty()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{error}: {:?}", error.hint());
        }
    }

    #[test]
    fn an_archive_is_handed_over_whole_and_its_names_come_back() {
        let (folder, engine) =
            engine(r#"cat > "$0.tar"; echo 'Loaded image: base:1'; echo 'Loaded image ID: sha256:ab'; yes | head -c 300000 >&2"#);
        let archive: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(engine.load(&mut archive.as_slice()).unwrap(), ["base:1", "sha256:ab"]);
        assert_eq!(std::fs::read(folder.path().join("docker.tar")).unwrap(), archive);
    }

    #[test]
    fn an_engine_that_stops_listening_explains_itself() {
        let (_folder, engine) = engine("echo 'no space left on device' >&2; exit 1");
        assert!(matches!(engine.load(&mut io::repeat(0).take(10 << 20)), Err(EngineError::Full { .. })));
    }

    #[test]
    fn an_archive_that_breaks_off_is_not_loaded() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("damaged"))
            }
        }
        let (_folder, engine) = engine("cat > /dev/null; echo 'Loaded image: base:1'");
        assert!(matches!(engine.load(&mut Broken), Err(EngineError::Archive { .. })));
    }

    #[test]
    fn an_image_is_described_or_absent() {
        let (_folder, engine) = engine(
            r#"[ "$4" = gone ] && { echo "Error response from daemon: No such image: gone" >&2; exit 1; }
               echo '[{"Id":"sha256:ab","RepoTags":["base:1"],"RepoDigests":null,"Architecture":"amd64","Size":7,"Other":{}}]'"#,
        );
        assert_eq!(engine.inspect("gone").unwrap(), None);
        let found = engine.inspect("base:1").unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.repo_tags.len(), found.repo_digests.len(), found.size), ("sha256:ab", 1, 0, 7));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let (_folder, engine) = engine("exec sleep 60");
        let started = Instant::now();
        let error = engine.run("version", &["version"], None, Some(Duration::from_millis(100))).unwrap_err();
        assert!(matches!(error, EngineError::Silent { .. }));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
