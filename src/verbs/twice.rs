//! `parvis build --twice`: the same build under other conditions, and every digest compared.

use std::collections::BTreeMap;

use super::workplace::Workplace;
use super::{Answer, Context};
use crate::edge::again::{AgainError, Elsewhere};
use crate::edge::store::Store;
use crate::execute::{Built, Site, from_store};
use crate::failure::Failure;
use crate::model::tree::Change;
use crate::plan::steps::Plan;
use crate::screen::Unit;

/// Differences that are named; what else differs is counted.
const MOST: usize = 20;

/// Builds again elsewhere and compares with what was built here.
pub fn compare(context: &Context<'_>, workplace: &Workplace, site: &Site<'_>, plan: &Plan, built: &[Built]) -> Answer {
    let packages = site.all_packages(plan);
    let missing = packages.iter().filter(|package| !site.store.has_download(&package.sha256, package.size)).count();
    if missing > 0 {
        return Err(Failure::world(format!(
            "{missing} of the packages are not in the store any more, only what was made of them"
        ))
        .hint("build with an empty `--store` first, then again with `--twice`"));
    }
    let images: Vec<_> = plan.images.iter().map(|image| image.name.clone()).collect();
    super::composer::fetch_missing(workplace, context, site.store, site.lock, &images)?;
    let composer = super::composer::downloads(workplace, site.lock, &images);
    let composer = composer.iter().map(|(_, download)| site.store.download_path(&download.sha256));
    let downloads: Vec<_> = packages.iter().map(|package| site.store.download_path(&package.sha256)).chain(composer).collect();
    let elsewhere = Elsewhere::prepare(workplace.folder.root(), &downloads).map_err(from_again)?;
    let task = context.screen.work("again", None, Unit::Items);
    task.detail(&elsewhere.conditions());
    let mut arguments =
        vec!["--offline", "--json", "--threads", "1", "build", "--plain-scripts", "--platform", plan.platform.as_str()];
    if let Some(profile) = &context.profile {
        arguments.splice(0..0, ["--profile", profile]);
    }
    arguments.extend(built.iter().map(|image| image.name.as_str()));
    let answer = elsewhere.run(&arguments).map_err(from_again)?;
    drop(task);
    let unreadable = || Failure::bug("the second build's answer cannot be read");
    let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|_| unreadable())?;
    let second: BTreeMap<&str, &str> = answer["images"]
        .as_array()
        .ok_or_else(unreadable)?
        .iter()
        .filter_map(|image| Some((image["name"].as_str()?, image["manifest"].as_str()?)))
        .collect();
    let differing: Vec<&Built> = built
        .iter()
        .filter(|image| second.get(image.name.as_str()) != Some(&image.record.manifest.to_string().as_str()))
        .collect();
    if differing.is_empty() {
        context.screen.note(&format!("built twice: the same digests ({})", elsewhere.conditions()));
        return Ok(());
    }
    let other = Store::open(&elsewhere.store()).map_err(from_store)?;
    let mut lines = Vec::new();
    for image in differing {
        lines.extend(differences(site, &other, plan, image)?);
    }
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    Err(Failure::no(format!("a second build gave other digests:\n{}", lines.join("\n")))
        .hint(format!("the second build had: {}", elsewhere.conditions())))
}

/// Names what differs between the first and the second build of an image.
fn differences(site: &Site<'_>, other: &Store, plan: &Plan, image: &Built) -> Result<Vec<String>, Failure> {
    let name = &image.name;
    let Some(steps) = plan.images.iter().find(|plan| plan.name == *name) else { return Ok(Vec::new()) };
    let second_site = site.with_store(other);
    let mut lines = Vec::new();
    if let Some(step) = steps.tree_step()
        && let (Some(first), Some(second)) = (site.tree(&step.key)?, second_site.tree(&step.key)?)
    {
        for change in first.changes_to(&second) {
            let path = change.path();
            let origin = first
                .get(path.as_bytes())
                .or_else(|| second.get(path.as_bytes()))
                .map(|entry| entry.origin.to_string())
                .unwrap_or_default();
            let how = match change {
                Change::Remove(_) => "only in the first",
                Change::Put(..) if first.get(path.as_bytes()).is_none() => "only in the second",
                Change::Put(..) => "differs",
            };
            lines.push(format!("  {name}: {path} {how} ({origin})"));
        }
    }
    let second = second_site.image(&steps.image_step().key)?;
    for layer in &image.record.layers {
        let same = second.as_ref().is_some_and(|second| second.layers.iter().any(|other| other.digest == layer.digest));
        if !same {
            lines.push(format!("  {name}: the layer `{}` differs", layer.title));
        }
    }
    if lines.is_empty() {
        lines.push(format!("  {name}: its configuration or manifest differs"));
    }
    Ok(lines)
}

fn from_again(error: AgainError) -> Failure {
    Failure::world(error.to_string()).maybe_because(std::error::Error::source(&error).map(ToString::to_string))
}
