//! Compose, in whichever of its forms the machine has it: a plugin of docker, a program beside it, podman's.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::process::Patience;
use super::{Engine, EngineError, Run, WORK};

/// How long compose may take to say its version: that of Debian 12 is a program of Python, which a small or busy machine starts slowly.
const START: Patience = Patience::Whole(Duration::from_secs(90));

/// A version as three numbers; what stands behind them is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Finds the first version in a text: `v2.26.1-4`, `28.2.2`, `podman-compose version 1.3.0`.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.trim_start_matches('v').splitn(3, '.').map(|part| {
                let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
                part[..end].parse::<u32>().ok()
            });
            Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A compose that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    program: String,
    /// The word that comes first where compose is a plugin.
    plugin: bool,
    pub version: Version,
}

impl Compose {
    /// Finds the newest compose that works with this engine.
    ///
    /// # Errors
    /// [`EngineError::NoCompose`] where there is none, [`EngineError::Silent`] where one is there and does not answer.
    pub fn find(engine: &Engine) -> Result<Self, EngineError> {
        let beside = if engine.name() == "podman" { "podman-compose" } else { "docker-compose" };
        Self::newest(&[(engine.program.as_str(), true), (beside, false)], START)?
            .ok_or_else(|| EngineError::NoCompose { program: engine.program.clone() })
    }

    /// Returns the newest of these programs that says its version.
    fn newest(programs: &[(&str, bool)], patience: Patience) -> Result<Option<Self>, EngineError> {
        let (mut found, mut silent) = (None::<Self>, None);
        for (program, plugin) in programs {
            let mut arguments = if *plugin { vec!["compose"] } else { Vec::new() };
            arguments.extend(["version", "--short"]);
            let arguments = arguments.into_iter().map(Into::into).collect();
            match (Run { program, action: "compose version", arguments, hidden: &[], patience }).answer() {
                Ok(said) => {
                    let other =
                        Version::find(&said).map(|version| Self { program: (*program).to_owned(), plugin: *plugin, version });
                    found = found.into_iter().chain(other).max_by_key(|compose| compose.version);
                }
                Err(error @ EngineError::Silent { .. }) => silent = Some(error),
                // It is not there, or no plugin.
                Err(_) => {}
            }
        }
        match (found, silent) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// Returns how a person would type it.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.program.rsplit('/').next().unwrap_or(&self.program);
        if self.plugin { format!("{name} compose") } else { name.to_owned() }
    }

    /// Returns the oldest version that a bundle is written for.
    #[must_use]
    pub fn oldest(&self) -> Version {
        if self.program.ends_with("podman-compose") { Version(1, 0, 4) } else { Version(1, 29, 0) }
    }
}

/// A bundle that compose runs: its folder, the project's name, and what of the environment must not get in.
#[derive(Debug)]
pub struct Deployment {
    pub compose: Compose,
    pub name: String,
    pub folder: PathBuf,
    /// Variables that stand in `.env`: it alone decides, not what happens to be set in the shell.
    pub hidden: Vec<String>,
}

impl Deployment {
    /// Runs a compose command and hands on all its lines; returns how it ended.
    pub fn lines(&self, action: &'static str, words: &[&str], line: &mut dyn FnMut(&str)) -> Result<ExitStatus, EngineError> {
        self.run(action, words, WORK).lines(line)
    }

    /// Runs a compose command and returns what it says.
    pub fn answer(&self, action: &'static str, words: &[&str]) -> Result<String, EngineError> {
        self.run(action, words, WORK).answer()
    }

    /// Runs a compose command whose standard output is data.
    pub fn stream(
        &self,
        action: &'static str,
        words: &[&str],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        self.run(action, words, WORK).stream(sink)
    }

    /// Runs a compose command that takes data on its standard input.
    pub fn feed(&self, action: &'static str, words: &[&str], input: &mut dyn Read) -> Result<(), EngineError> {
        self.run(action, words, WORK).feed(input).map(drop)
    }

    fn run<'a>(&'a self, action: &'static str, words: &[&str], patience: Patience) -> Run<'a> {
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        if self.compose.plugin {
            arguments.push("compose".into());
        }
        let path = |path: &Path| path.as_os_str().to_owned();
        arguments.extend(["--project-name".into(), self.name.clone().into()]);
        arguments.extend(["--project-directory".into(), path(&self.folder)]);
        arguments.extend(["--file".into(), path(&self.folder.join("compose.yaml"))]);
        arguments.extend(["--env-file".into(), path(&self.folder.join(".env"))]);
        arguments.extend(words.iter().map(Into::into));
        Run { program: &self.compose.program, action, arguments, hidden: &self.hidden, patience }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::engine;
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("1.29.2\n", Some(Version(1, 29, 2))),
            ("v2.26.1-4\n", Some(Version(2, 26, 1))),
            ("2.40.0+ds1-1~bpo", Some(Version(2, 40, 0))),
            ("podman-compose version 1.3", Some(Version(1, 3, 0))),
            ("docker: 'compose' is not a docker command.", None),
            ("", None),
        ] {
            assert_eq!(Version::find(said), version, "{said}");
        }
        assert!(Version(2, 26, 1) > Version(2, 3, 4));
    }

    #[test]
    fn a_compose_that_does_not_answer_is_not_one_that_is_missing() {
        let newest = |programs: &[(&str, bool)]| Compose::newest(programs, Patience::Whole(Duration::from_millis(300)));
        let (_folder, hangs) = engine("exec sleep 60");
        let (_other, answers) = engine("echo 1.29.2");
        assert!(matches!(newest(&[(&hangs.program, true)]), Err(EngineError::Silent { .. })));
        assert_eq!(newest(&[(&hangs.program, true), (&answers.program, false)]).unwrap().unwrap().version, Version(1, 29, 2));
        assert_eq!(newest(&[("/nowhere/docker-compose", false)]).unwrap(), None);
    }

    #[test]
    fn the_bundle_is_named_in_full_whatever_the_shell_says() {
        let (folder, engine) = engine(r#"[ "$2" = version ] && echo 2.26.1 || echo "$@""#);
        let compose = Compose::find(&engine).unwrap();
        assert_eq!((compose.name().as_str(), compose.version), ("docker compose", Version(2, 26, 1)));
        let deployment = Deployment { compose, name: "demo".into(), folder: folder.path().into(), hidden: Vec::new() };
        let said = deployment.answer("stop", &["stop"]).unwrap().replace(folder.path().to_str().unwrap(), "F");
        assert_eq!(said, "compose --project-name demo --project-directory F --file F/compose.yaml --env-file F/.env stop\n");
    }
}
