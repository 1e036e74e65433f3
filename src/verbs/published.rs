//! A release as its registry has it under its number: the signed statement, and what goes with it.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::Context;
use super::registry::{Reach, from_repository, repository};
use super::release::{RELEASE_TYPE, RELEASES};
use crate::edge::registry::{Access, Remote};
use crate::failure::Failure;
use crate::image::oci::{self, Descriptor};
use crate::image::repository::Repository as _;
use crate::model::number::Number;

/// How an artifact names its files.
const TITLE: &str = "org.opencontainers.image.title";

/// What goes with a release.
pub struct Published {
    remote: Remote,
    files: BTreeMap<String, Descriptor>,
}

/// Returns where a release of this number stands below a registry, perhaps with a path.
pub fn place(prefix: &str, number: Number) -> String {
    format!("{}/{RELEASES}:{number}", prefix.trim_end_matches('/'))
}

/// Finds what goes with a release; nothing where the registry has no such number.
pub fn find(context: &Context<'_>, prefix: &str, number: Number, reach: &Reach) -> Result<Option<Published>, Failure> {
    let remote = reach.open(context, &repository(prefix.trim_end_matches('/'), RELEASES)?, Access::Read)?;
    let Some(found) = remote.resolve(&number.to_string()).map_err(from_repository)? else { return Ok(None) };
    let place = place(prefix, number);
    let damaged = |problem: String| Failure::world(format!("`{place}` {problem}")).hint("ask those who publish there");
    let (_, bytes) =
        remote.document(&found.digest).map_err(from_repository)?.ok_or_else(|| damaged("was there, and is gone".into()))?;
    let artifact = oci::parse_artifact(&bytes).map_err(|error| damaged(format!("cannot be read: {error}")))?;
    if artifact.artifact_type != RELEASE_TYPE {
        return Err(damaged("is something else than a release".into()));
    }
    let named = |mut layer: Descriptor| Some((layer.annotations.remove(TITLE)?, layer));
    Ok(Some(Published { files: artifact.layers.into_iter().filter_map(named).collect(), remote }))
}

/// Returns the numbers of the releases that a registry has, oldest first.
pub fn numbers(context: &Context<'_>, prefix: &str, reach: &Reach) -> Result<Vec<Number>, Failure> {
    let remote = reach.open(context, &repository(prefix.trim_end_matches('/'), RELEASES)?, Access::Read)?;
    let mut numbers: Vec<Number> = remote.tags().map_err(from_repository)?.iter().filter_map(|tag| tag.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

impl Published {
    /// Reads a file of at most so many bytes; its digest is compared.
    pub fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Some(listed) = self.files.get(name) else { return Ok(None) };
        let place = self.remote.place();
        let damaged = |problem: String| Failure::world(format!("`{name}` of `{place}` {problem}"));
        if listed.size > limit {
            return Err(damaged(format!("has more than {limit} bytes")));
        }
        let Some(mut content) = self.remote.blob(&listed.digest, listed.size).map_err(from_repository)? else {
            return Err(damaged("is listed, and not there".into()));
        };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|error| damaged("cannot be read".into()).because(error))?;
        Ok(Some(bytes))
    }
}
