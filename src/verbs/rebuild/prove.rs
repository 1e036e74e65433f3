//! The proof: each image that was built anew is held against the one before, and nothing may differ that was not announced.

use std::collections::BTreeSet;

use super::words::Words;
use super::{Intention, Rebuilt};
use crate::execute::Built;
use crate::failure::Failure;
use crate::image::{diff, proof};
use crate::model::name::{ImageName, PackageName};
use crate::verbs::Context;
use crate::verbs::image::Image;
use crate::verbs::workplace::Planned;

/// Surprises that are named.
const MOST_NAMED: usize = 20;

/// Proves it for all images, and tells those that came out otherwise with what changed.
pub fn all(
    context: &Context<'_>,
    words: Words,
    intention: &Intention,
    before: &Planned<'_>,
    after: &Planned<'_>,
    built: (&[Built], &[Built]),
) -> Result<Vec<Rebuilt>, Failure> {
    let platform = &after.plan.platform;
    let announced: BTreeSet<&str> = intention.moves.names(platform).into_iter().map(PackageName::as_str).collect();
    let find = |built: &[Built], name: &ImageName| {
        built.iter().find(|built| built.name == *name).cloned().ok_or_else(|| Failure::bug(format!("`{name}` was not built")))
    };
    for name in &intention.untouched {
        if find(built.0, name)?.record.manifest != find(built.1, name)?.record.manifest {
            return Err(words.surprises(name.as_str(), &["it is another one, though nothing of it was to change".to_owned()]));
        }
    }
    let mut images = Vec::new();
    for name in &intention.touched {
        if find(built.0, name)?.record.manifest == find(built.1, name)?.record.manifest {
            continue;
        }
        let read = |planned: &Planned<'_>| {
            Image::of_plan(context, planned, name)?.ok_or_else(|| Failure::bug(format!("`{name}` is not in the store")))
        };
        let (old, new) = (read(before)?, read(after)?);
        let difference = diff::diff(old.side(), new.side())
            .map_err(|error| Failure::bug(format!("the package database of `{name}` cannot be read")).because(error))?;
        let proof = proof::prove(&difference, &announced).map_err(|surprises| {
            let more = surprises.len().saturating_sub(MOST_NAMED);
            let mut named: Vec<String> = surprises.into_iter().take(MOST_NAMED).collect();
            if more > 0 {
                named.push(format!("… {more}"));
            }
            words.surprises(name.as_str(), &named)
        })?;
        images.push(Rebuilt {
            name: name.clone(),
            platform: platform.clone(),
            before: find(built.0, name)?,
            after: find(built.1, name)?,
            fresh: difference.download(),
            changed: difference.packages.iter().map(|change| change.name.clone()).collect(),
            proof,
        });
    }
    Ok(images)
}
