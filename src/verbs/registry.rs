//! How verbs reach registries: options that all of them share, and what they say where it did not work.

use std::path::PathBuf;

use super::Context;
use crate::edge::registry::{Access, RegistryOptions, Remote};
use crate::failure::Failure;
use crate::image::repository::RepositoryError;
use crate::model::reference::{InvalidReference, Reference, RepositoryName};

/// Options of every verb that speaks to a registry.
#[derive(Debug, Default, clap::Args)]
pub struct Reach {
    /// Speak to the registry without encryption, even if it is on another machine
    #[arg(long)]
    pub plain_http: bool,
    /// Certificate authority of the registry in PEM (default: the system's, and those in `/etc/docker/certs.d`)
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// Host that may see the registry's password for a token though it is of another domain
    #[arg(long, value_name = "HOST")]
    pub token_host: Vec<String>,
}

impl Reach {
    /// Returns all that the door needs to know.
    #[must_use]
    pub fn options(&self, context: &Context<'_>) -> RegistryOptions {
        RegistryOptions {
            network: context.fetch.clone(),
            plain_http: self.plain_http,
            credentials: context.credentials.clone(),
            authorities: self.registry_ca.clone(),
            certificates: context.certificates.clone(),
            token_hosts: self.token_host.clone(),
        }
    }

    /// Prepares to speak to a registry, which may not be done with `--offline`.
    pub fn open(&self, context: &Context<'_>, name: &RepositoryName, access: Access) -> Result<Remote, Failure> {
        if context.fetch.offline && !name.registry().is_loopback() {
            return Err(Failure::project(format!("`{name}` is on the network, which is not to be used"))
                .hint("run it again without `--offline`"));
        }
        Remote::open(name, &self.options(context), access).map_err(from_repository)
    }
}

/// Reads what somebody calls an image in a registry.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(from_reference)
}

/// Reads what an image of the project is called below a registry, perhaps with a path.
pub fn repository(prefix: &str, image: &str) -> Result<RepositoryName, Failure> {
    format!("{prefix}/{image}").parse().map_err(from_reference)
}

fn from_reference(error: InvalidReference) -> Failure {
    Failure::project(error.to_string()).hint(error.hint())
}

/// Says why a place did not give or take something.
pub fn from_repository(error: RepositoryError) -> Failure {
    let hint = error.hint();
    let message = error.to_string();
    let failure = Failure::world(message).maybe_hint(hint);
    match error {
        RepositoryError::Unreachable { source, .. } => failure.because(source),
        RepositoryError::Unsendable { source, .. } => failure.because(source),
        RepositoryError::Refused { .. } | RepositoryError::Damaged { .. } => failure,
    }
}
