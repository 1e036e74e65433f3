//! The container engine of the machine: docker or podman, by its own command line.

mod compose;
mod containers;
mod process;

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;

pub use self::compose::{Compose, Deployment, Version};
pub use self::containers::{Container, Info, volume_name};
use self::process::{Patience, Run};

/// Answers that take longer than this come from a daemon that hangs.
const ANSWER: Patience = Patience::Whole(Duration::from_secs(20));

/// Work that gives no sign of life for so long is given up.
const WORK: Patience = Patience::Silence(Duration::from_secs(900));

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
    #[error("what `{program}` says cannot be kept")]
    Sink { program: String, source: io::Error },
    #[error("there is no compose for `{program}`")]
    NoCompose { program: String },
}

impl EngineError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None | Self::Absent { .. } => {
                "images are built without one; to run them, install it: `apt-get install podman` or `docker.io`".into()
            }
            Self::Daemon { .. } => "start it: `systemctl start docker`, and see `systemctl status docker`".into(),
            Self::Silent { .. } => "this machine is busy, or something hangs: try again, and see `systemctl status docker`".into(),
            Self::Permission { .. } => {
                "join the group `docker` (`adduser YOU docker`, then log in anew), use `sudo`, or use podman, which needs no rights".into()
            }
            Self::Full { program } => format!("remove what is not used: `{program} system prune`"),
            Self::NoCompose { .. } => "install it: `apt-get install docker-compose` (or `docker-compose-plugin`, `podman-compose`)".into(),
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
        let said = engine.run("version", &["version", "--format", format], ANSWER).answer()?;
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
        let said = self.run("load", &["load"], WORK).feed(archive)?;
        let loaded = said.lines().filter_map(|line| {
            ["Loaded image: ", "Loaded image(s): ", "Loaded image ID: "].iter().find_map(|start| line.trim().strip_prefix(start))
        });
        Ok(loaded.flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect())
    }

    /// Returns what the engine knows of an image; `None` where it has none of this name or id.
    pub fn inspect(&self, image: &str) -> Result<Option<Inspected>, EngineError> {
        const ACTION: &str = "image inspect";
        let said = match self.run(ACTION, &["image", "inspect", "--", image], ANSWER).answer() {
            Ok(said) => said,
            Err(EngineError::Failed { words, .. }) if is_absent(&words) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable = |words: String| EngineError::Unreadable { program: self.program.clone(), action: ACTION, words };
        let mut images: Vec<Inspected> = serde_json::from_str(&said).map_err(|error| unreadable(error.to_string()))?;
        if images.len() == 1 { Ok(images.pop()) } else { Err(unreadable(format!("{} images", images.len()))) }
    }

    fn run<'a>(&'a self, action: &'static str, arguments: &[&str], patience: Patience) -> Run<'a> {
        Run { program: &self.program, action, arguments: arguments.iter().map(Into::into).collect(), hidden: &[], patience }
    }
}

fn is_absent(words: &str) -> bool {
    let words = words.to_lowercase();
    ["no such image", "not known", "image not found", "unable to find a name"].iter().any(|known| words.contains(known))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    /// Makes a program of this name that does what the shell lines say.
    pub(super) fn program(name: &str, lines: &str) -> (tempfile::TempDir, String) {
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

    pub(super) fn engine(lines: &str) -> (tempfile::TempDir, Engine) {
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
        // A child of the program holds its outputs, as compose does.
        for lines in ["exec sleep 60", "sleep 60 & wait", "sleep 60"] {
            let (_folder, engine) = engine(lines);
            let started = Instant::now();
            for patience in [Patience::Whole(Duration::from_millis(100)), Patience::Silence(Duration::from_millis(100))] {
                let run = engine.run("version", &["version"], patience);
                assert!(matches!(run.answer(), Err(EngineError::Silent { .. })));
                assert!(matches!(run.feed(&mut io::repeat(0)), Err(EngineError::Silent { .. })));
                assert!(matches!(run.lines(&mut |_| {}), Err(EngineError::Silent { .. })));
            }
            assert!(started.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn a_program_that_says_something_now_and_then_does_not_hang() {
        let (_folder, engine) = engine("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done");
        let run = engine.run("version", &[], Patience::Silence(Duration::from_millis(400)));
        assert_eq!(run.answer().unwrap(), "1\n2\n3\n4\n5\n");
    }

    #[test]
    fn lines_of_both_outputs_come_in_order_and_are_cut_where_they_are_endless() {
        let (_folder, engine) =
            engine("echo one; echo two >&2; printf 'a\\tb\\r\\n'; head -c 100000 /dev/zero | tr '\\0' x; exit 3");
        let mut lines = Vec::new();
        let status = engine.run("logs", &[], ANSWER).lines(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(
            (status.code(), lines.len(), &lines[..3]),
            (Some(3), 4, &["one".to_owned(), "two".into(), "a    b".into()][..])
        );
        assert_eq!(lines[3].len(), 4000);
    }

    #[test]
    fn a_full_disk_ends_a_program_whose_words_are_kept() {
        let (_folder, engine) = engine("yes");
        let error = engine.run("run", &[], WORK).stream(&mut |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(matches!(error, EngineError::Sink { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    }
}
