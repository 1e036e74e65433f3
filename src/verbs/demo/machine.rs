//! The machine that a demo runs on: its engine and compose, and whether they are what the bundle needs.

use super::Arguments;
use super::place::{Place, Voice};
use super::words::{Line, Problem};
use crate::edge::engine::{Compose, Container, Deployment, Engine, EngineError, Version};
use crate::edge::place;
use crate::failure::Failure;
use crate::verbs::Context;

/// The oldest engines that a bundle is written for.
const OLDEST_DOCKER: Version = Version(20, 10, 0);
const OLDEST_PODMAN: Version = Version(4, 0, 0);

/// An engine that unpacks needs this many times the compressed size: the copy it reads from, and the files.
const UNPACKED: u64 = 4;

/// The engine, and compose with the bundle.
pub struct Machine {
    pub engine: Engine,
    pub deployment: Deployment,
    voice: Voice,
}

impl Machine {
    /// Finds engine and compose, new enough for a bundle.
    pub fn find(arguments: &Arguments, place: &Place, context: &Context<'_>) -> Result<Self, Failure> {
        let voice = place.voice;
        let engine = Engine::find(arguments.engine.as_deref()).map_err(|error| voice.engine(error))?;
        let least = if engine.name() == "podman" { OLDEST_PODMAN } else { OLDEST_DOCKER };
        if Version::find(&engine.version).is_some_and(|version| version < least) {
            let (program, version) = (engine.name().to_owned(), engine.version.clone());
            return Err(voice.problem(Problem::Old { program, version, least: least.to_string() }));
        }
        let compose = Compose::find(&engine).map_err(|error| voice.engine(error))?;
        if compose.version < compose.oldest() {
            let (program, version) = (compose.name(), compose.version.to_string());
            return Err(voice.problem(Problem::Old { program, version, least: compose.oldest().to_string() }));
        }
        let using = Line::Using {
            engine: format!("{} {}", engine.name(), engine.version),
            compose: format!("{} {}", compose.name(), compose.version),
        };
        context.screen.work(place.manifest.name.as_str(), None, crate::screen::Unit::Wait).detail(&using.text(voice.0));
        let deployment = deployment(compose, place);
        Ok(Self { engine, deployment, voice })
    }

    /// Returns the same engine and compose with another bundle.
    pub fn with(&self, place: &Place) -> Self {
        let deployment = deployment(self.deployment.compose.clone(), place);
        Self { engine: self.engine.clone(), deployment, voice: self.voice }
    }

    /// Checks whether the engine can run the bundle's images, and has room for those that are missing.
    pub fn fits(&self, place: &Place, missing: u64) -> Result<(), Failure> {
        let info = self.engine.info().map_err(|error| self.voice.engine(error))?;
        if !matches!(info.system.as_str(), "linux" | "") {
            return Err(self.voice.problem(Problem::System { system: info.system }));
        }
        let (engine, bundle) = (go_name(&info.architecture), place.manifest.platform.split('/').nth(1).unwrap_or_default());
        if !engine.is_empty() && engine != bundle {
            return Err(self.voice.problem(Problem::Architecture { engine: engine.to_owned(), bundle: bundle.to_owned() }));
        }
        let needed = missing.saturating_mul(UNPACKED);
        // An engine on another machine keeps its images in a folder that is not here.
        let Some(root) = info.root.filter(|root| needed > 0 && root.exists()) else { return Ok(()) };
        match place::free(&root) {
            Some(free) if free < needed => {
                Err(self.voice.problem(Problem::Room { needed, free, folder: root.display().to_string() }))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the ports are free that nothing of the bundle's own holds.
    pub fn ports(&self, place: &Place, containers: &[Container]) -> Result<(), Failure> {
        for published in &place.manifest.publish {
            let variable = published.variable.as_ref().map_or("", |variable| variable.as_str());
            let port = match place.settings.get(variable) {
                None => published.default,
                Some(value) => value.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                    self.voice.problem(Problem::Port { variable: variable.to_owned(), value: value.to_owned() })
                })?,
            };
            let own = |container: &Container| container.service == published.service.as_str() && container.status == "running";
            let address = place.filled(&published.address);
            if containers.iter().any(own) || place::port_is_free(&address, port) {
                continue;
            }
            let others = (port.saturating_add(1)..=port.saturating_add(100)).chain(9443..=9543);
            let other = others.into_iter().find(|port| place::port_is_free(&address, *port));
            return Err(self.voice.problem(Problem::PortTaken { address, port, variable: variable.to_owned(), other }));
        }
        Ok(())
    }

    /// Returns the project's containers.
    pub fn containers(&self) -> Result<Vec<Container>, Failure> {
        self.engine.containers(&self.deployment.name).map_err(|error| self.voice.engine(error))
    }

    /// Returns the command line that runs a program of a service's image beside the services, with the service's volumes and networks.
    pub fn beside<'a>(service: &'a str, command: &'a [String]) -> Vec<&'a str> {
        let mut words = vec!["run", "--rm", "--no-deps", "-T"];
        let (program, arguments) = command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        words.extend(["--entrypoint", program, service]);
        words.extend(arguments.iter().map(String::as_str));
        words
    }

    /// Runs such a program and returns what it prints.
    pub fn ask(&self, service: &str, command: &[String]) -> Result<String, EngineError> {
        self.deployment.answer("compose run", &Self::beside(service, command))
    }
}

fn deployment(compose: Compose, place: &Place) -> Deployment {
    Deployment { compose, name: place.project.clone(), folder: place.folder.path().to_owned(), hidden: place.variables() }
}

/// Returns Go's name of an architecture, which an engine may give by the kernel's.
fn go_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" | "armhf" => "arm",
        "i386" | "i686" => "386",
        other => other,
    }
}
