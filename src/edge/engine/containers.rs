//! What runs on an engine: containers, volumes and images of one project, as the engine itself tells it.
//!
//! Compose's own tables changed their form from version to version; the labels that it puts on what it makes did not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::process::Patience;
use super::{ANSWER, Engine, EngineError, WORK, is_absent};

/// The label by which a container, network or volume belongs to a project.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const FOLDER: &str = "com.docker.compose.project.working_dir";
const VOLUME: &str = "com.docker.compose.volume";

/// A program inside a container that answers a question may take longer than the engine itself.
const ANSWER_INSIDE: Patience = Patience::Whole(Duration::from_secs(60));

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The folder in which it keeps images and volumes; on another machine where the engine is.
    pub root: Option<PathBuf>,
    /// The architecture by the kernel's or by Go's name.
    pub architecture: String,
    /// `linux`, or something else.
    pub system: String,
}

/// A container of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub service: String,
    /// The Id of its image.
    pub image: String,
    /// Whether `run` made it, not `up`.
    pub one_off: bool,
    /// `created`, `running`, `restarting`, `exited`, `paused` or `dead`.
    pub status: String,
    /// `starting`, `healthy` or `unhealthy`, where the service has a check.
    pub health: Option<String>,
    /// What the last check said.
    pub complaint: Option<String>,
    /// When the last check began, as the engine writes it down, and whether it was good.
    pub checked: Option<(String, bool)>,
    pub exit_code: i64,
    /// When it was last started, as RFC 3339 has it.
    pub started: String,
    pub restarts: u64,
    /// The names of the volumes that it holds.
    pub volumes: Vec<String>,
    /// The folder of the bundle that it was made from, as compose wrote it down.
    pub folder: Option<PathBuf>,
}

impl Container {
    /// Returns whether it does what it is there for.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.status == "running" && self.health.as_deref().is_none_or(|health| health == "healthy")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    #[serde(alias = "ID")]
    id: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    restart_count: u64,
    #[serde(default)]
    mounts: Option<Vec<RawMount>>,
    state: RawState,
    config: RawConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawMount {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    started_at: String,
    #[serde(default, alias = "Healthcheck")]
    health: Option<RawHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    #[serde(default)]
    status: String,
    #[serde(default)]
    log: Option<Vec<RawCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    #[serde(default)]
    start: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl From<RawContainer> for Container {
    fn from(raw: RawContainer) -> Self {
        let mut labels = raw.config.labels.unwrap_or_default();
        let health = raw.state.health.filter(|health| !matches!(health.status.as_str(), "" | "none"));
        let last = health.as_ref().and_then(|health| health.log.as_ref()?.last());
        let complaint = last.map(|check| check.output.trim().to_owned());
        let checked = last.filter(|check| !check.start.is_empty()).map(|check| (check.start.clone(), check.exit_code == 0));
        let mounts = raw.mounts.unwrap_or_default().into_iter();
        Self {
            id: raw.id,
            service: labels.remove(SERVICE).unwrap_or_default(),
            image: with_algorithm(&raw.image),
            // Python's compose writes `True`, Go's too.
            one_off: labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")),
            status: raw.state.status,
            complaint: complaint.filter(|words| !words.is_empty()),
            checked,
            health: health.map(|health| health.status),
            exit_code: raw.state.exit_code,
            started: raw.state.started_at,
            restarts: raw.restart_count,
            volumes: mounts.filter(|mount| mount.r#type == "volume").map(|mount| mount.name).collect(),
            folder: labels.remove(FOLDER).filter(|folder| folder.starts_with('/')).map(PathBuf::from),
        }
    }
}

/// Writes an Id as docker does; podman leaves the algorithm away.
fn with_algorithm(id: &str) -> String {
    if id.len() == 64 { format!("sha256:{id}") } else { id.to_owned() }
}

impl Engine {
    /// Returns what the engine says of itself.
    pub fn info(&self) -> Result<Info, EngineError> {
        const ACTION: &str = "info";
        let said = self.run(ACTION, &["info", "--format", "{{json .}}"], ANSWER).answer()?;
        let value: Value = serde_json::from_str(&said).map_err(|error| self.unreadable(ACTION, error.to_string()))?;
        let text = |pointers: [&str; 2]| {
            pointers.iter().find_map(|pointer| value.pointer(pointer)?.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let root = text(["/DockerRootDir", "/store/graphRoot"]);
        Ok(Info {
            root: (!root.is_empty()).then(|| root.into()),
            architecture: text(["/Architecture", "/host/arch"]),
            system: text(["/OSType", "/host/os"]),
        })
    }

    /// Returns the Ids of all images.
    pub fn image_ids(&self) -> Result<BTreeSet<String>, EngineError> {
        let said = self.run("image ls", &["image", "ls", "--all", "--quiet", "--no-trunc"], ANSWER).answer()?;
        Ok(said.lines().map(|line| with_algorithm(line.trim())).collect())
    }

    /// Returns the containers of a project, also those that have ended, sorted by service.
    pub fn containers(&self, project: &str) -> Result<Vec<Container>, EngineError> {
        const ACTION: &str = "container inspect";
        let filter = format!("label={PROJECT}={project}");
        loop {
            let listed = self.run("ps", &["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter], ANSWER).answer()?;
            let mut arguments = vec!["container", "inspect", "--"];
            arguments.extend(listed.lines().map(str::trim).filter(|id| !id.is_empty()));
            if arguments.len() == 3 {
                return Ok(Vec::new());
            }
            let said = match self.run(ACTION, &arguments, ANSWER).answer() {
                Ok(said) => said,
                // One of them has ended and gone meanwhile.
                Err(EngineError::Failed { words, .. }) if is_absent(&words) => continue,
                Err(error) => return Err(error),
            };
            let raw: Vec<RawContainer> =
                serde_json::from_str(&said).map_err(|error| self.unreadable(ACTION, error.to_string()))?;
            let mut found: Vec<Container> = raw.into_iter().map(Container::from).collect();
            found.sort_by(|one, other| (&one.service, &one.started).cmp(&(&other.service, &other.started)));
            return Ok(found);
        }
    }

    /// Stops containers as gently as they wish.
    pub fn stop_containers(&self, ids: &[&str]) -> Result<(), EngineError> {
        let arguments: Vec<&str> = ["stop", "--"].iter().chain(ids).copied().collect();
        if ids.is_empty() { Ok(()) } else { self.run("stop", &arguments, WORK).answer().map(drop) }
    }

    /// Removes containers, running or not.
    pub fn remove_containers(&self, ids: &[&str]) -> Result<(), EngineError> {
        let arguments: Vec<&str> = ["rm", "--force", "--volumes", "--"].iter().chain(ids).copied().collect();
        if ids.is_empty() { Ok(()) } else { self.run("rm", &arguments, WORK).answer().map(drop) }
    }

    /// Runs a program in a running container, writes to its standard input, and returns what it prints.
    pub fn inside(&self, container: &str, command: &[String], input: &mut dyn Read) -> Result<String, EngineError> {
        let mut arguments = vec!["exec", "--interactive", container];
        arguments.extend(command.iter().map(String::as_str));
        self.run("exec", &arguments, ANSWER_INSIDE).feed(input)
    }

    /// Removes images; one that something still uses stays.
    pub fn remove_images(&self, ids: &[String]) -> Result<(), EngineError> {
        for id in ids {
            match self.run("image rm", &["image", "rm", "--", id], WORK).answer() {
                Ok(_) | Err(EngineError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the last lines that a container said.
    pub fn last_lines(&self, container: &str, count: usize) -> Result<Vec<String>, EngineError> {
        let mut lines = Vec::new();
        let tail = count.to_string();
        self.run("logs", &["logs", "--tail", &tail, container], ANSWER).lines(&mut |line| lines.push(line.to_owned()))?;
        Ok(lines)
    }

    /// Returns the names of all volumes.
    pub fn volumes(&self) -> Result<BTreeSet<String>, EngineError> {
        let said = self.run("volume ls", &["volume", "ls", "--quiet"], ANSWER).answer()?;
        Ok(said.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Makes an empty volume that compose takes for its own.
    pub fn make_volume(&self, project: &str, volume: &str) -> Result<(), EngineError> {
        let (of, named) = (format!("{PROJECT}={project}"), format!("{VOLUME}={volume}"));
        let name = volume_name(project, volume);
        self.run("volume create", &["volume", "create", "--label", &of, "--label", &named, &name], ANSWER).answer().map(drop)
    }

    /// Removes volumes with all they hold.
    pub fn remove_volumes(&self, names: &[String]) -> Result<(), EngineError> {
        if names.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["volume", "rm", "--"];
        arguments.extend(names.iter().map(String::as_str));
        self.run("volume rm", &arguments, WORK).answer().map(drop)
    }

    /// Writes the content of a volume as a tar, with owners and modes, by the `tar` of an image.
    pub fn read_volume(
        &self,
        image: &str,
        volume: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        let mount = format!("{volume}:/volume:ro");
        let mut arguments = helper(&["DAC_READ_SEARCH"]);
        arguments.extend(["--volume", &mount, image, "--numeric-owner", "--sort=name", "--create", "--file=-"]);
        arguments.extend(["--directory=/volume", "."]);
        self.run("run tar", &arguments, WORK).stream(sink)
    }

    /// Unpacks a tar into a volume, with owners and modes, by the `tar` of an image.
    pub fn fill_volume(&self, image: &str, volume: &str, archive: &mut dyn Read) -> Result<(), EngineError> {
        let mount = format!("{volume}:/volume");
        let mut arguments = helper(&["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"]);
        arguments.extend(["--interactive", "--volume", &mount, image, "--numeric-owner", "--same-owner", "--same-permissions"]);
        arguments.extend(["--extract", "--file=-", "--directory=/volume"]);
        self.run("run tar", &arguments, WORK).feed(archive).map(drop)
    }

    fn unreadable(&self, action: &'static str, words: String) -> EngineError {
        EngineError::Unreadable { program: self.program.clone(), action, words }
    }
}

/// Returns the beginning of a command line that runs `tar` as root with no rights but these over one volume, and nothing else.
fn helper<'a>(capabilities: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "--rm", "--network", "none", "--read-only", "--user", "0:0", "--entrypoint", "tar"];
    arguments.extend(["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--log-driver", "none"]);
    arguments.extend(capabilities.iter().flat_map(|capability| ["--cap-add", capability]));
    arguments
}

/// Returns the name that compose gives a project's volume.
#[must_use]
pub fn volume_name(project: &str, volume: &str) -> String {
    format!("{project}_{volume}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::engine;

    #[test]
    fn a_container_is_what_its_labels_and_state_say() {
        let (_folder, engine) = engine(
            r#"case "$1" in ps) echo aa;; container) cat <<'JSON'
[{"Id":"aa","Image":"sha256:11","RestartCount":2,"Name":"/demo-db-1","State":{"Status":"running","ExitCode":0,"StartedAt":"2026-11-24T08:00:00.5Z",
"Health":{"Status":"unhealthy","Log":[{"Output":"old"},{"Start":"2026-11-24T08:00:05Z","ExitCode":1,"Output":"no TLS\n"}]}},"Config":{"Labels":{"com.docker.compose.service":"db","com.docker.compose.oneoff":"False"}}},
{"Id":"bb","Image":"22","State":{"Status":"exited","ExitCode":1,"Health":null},"Config":{"Labels":null}}]
JSON
;; esac"#,
        );
        let found = engine.containers("demo").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].service.as_str(), found[0].is_well()), ("", false));
        let db = &found[1];
        assert_eq!((db.service.as_str(), db.one_off, db.restarts), ("db", false, 2));
        assert_eq!((db.health.as_deref(), db.complaint.as_deref()), (Some("unhealthy"), Some("no TLS")));
        assert_eq!((&db.checked, &found[0].checked), (&Some(("2026-11-24T08:00:05Z".into(), false)), &None));
    }

    #[test]
    fn docker_and_podman_describe_themselves() {
        let docker = r#"{"DockerRootDir":"/var/lib/docker","Architecture":"x86_64","OSType":"linux"}"#;
        let podman = r#"{"host":{"arch":"amd64","os":"linux"},"store":{"graphRoot":"/home/a/.local"}}"#;
        for (said, architecture, root) in [(docker, "x86_64", "/var/lib/docker"), (podman, "amd64", "/home/a/.local")] {
            let (_folder, engine) = engine(&format!("echo '{said}'"));
            let info = engine.info().unwrap();
            assert_eq!((info.architecture.as_str(), info.root), (architecture, Some(root.into())));
        }
    }
}
