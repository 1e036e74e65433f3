//! `parvis why`: says which recipe a package is there for.

use serde_json::json;

use super::workplace::Workplace;
use super::{Answer, Context};
use crate::composer::locked;
use crate::failure::Failure;
use crate::model::name::{ComposerName, ImageName, PackageName};
use crate::model::problem::nearest;
use crate::plan::locking::{Reason, why};

/// Options of `parvis why`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The package
    package: String,
    /// Look only at this image and those it stands on
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

/// Prints the chain from a recipe to a package, for each image that brings it in.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let lock = workplace.lock()?;
    let image: Option<ImageName> = match &arguments.image {
        None => None,
        Some(name) => {
            let member = workplace.catalog.get(name);
            Some(member.map_err(|error| Failure::project(error.to_string()).hint(error.hint()))?.recipe.name.clone())
        }
    };
    if let Ok(package) = arguments.package.parse::<ComposerName>() {
        return composer(&package, image.as_ref(), &workplace, context);
    }
    let package: PackageName = arguments.package.parse().map_err(|error| Failure::project(format!("{error}")))?;
    let reasons = why(&lock, &package, image.as_ref());
    if reasons.is_empty() {
        let near = nearest(package.as_str(), lock.packages.iter().map(|package| package.name.as_str()));
        let place = image.map_or_else(|| "any image".to_owned(), |image| format!("the image `{image}`"));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        return Err(Failure::no(format!("`{package}` is not in {place}")).maybe_hint(hint));
    }
    let version = |reason: &Reason| lock.package(&package, &reason.architecture).map_or("", |package| package.version.as_str());
    context.answer(
        || {
            let entry = |reason: &Reason| {
                json!({ "image": reason.image, "architecture": reason.architecture, "version": version(reason), "asked": reason.asked,
                    "chain": reason.chain })
            };
            json!({ "format": 1, "package": package, "reasons": reasons.iter().map(entry).collect::<Vec<_>>() })
        },
        || reasons.iter().map(|reason| line(reason, version(reason))).collect(),
    );
    Ok(())
}

fn line(reason: &Reason, version: &str) -> String {
    let chain: Vec<&str> = reason.chain.iter().map(PackageName::as_str).collect();
    let Reason { image, architecture, asked, .. } = reason;
    let start = if *asked { format!("recipes/{image}.yaml") } else { "essential or recommended".to_owned() };
    format!("{image} ({architecture}): {start} > {} {version}", chain.join(" > "))
}

/// Prints the chain from composer.json to a package, for each project that installs it.
fn composer(package: &ComposerName, image: Option<&ImageName>, workplace: &Workplace, context: &Context<'_>) -> Answer {
    let mut found = Vec::new();
    let mut known = Vec::new();
    for project in super::composer::projects(workplace) {
        if image.is_some_and(|image| *image != project.recipe.name) {
            continue;
        }
        let packages = project.packages()?;
        if let Some(locked) = packages.get(package) {
            let chain =
                locked::chain(&packages, &project.definition()?.requires, package).unwrap_or_else(|| vec![package.clone()]);
            found.push((project.recipe.name.clone(), project.folder(), chain, locked.version.clone()));
        }
        known.extend(packages.into_keys());
    }
    if found.is_empty() {
        let near =
            nearest(package.as_str(), known.iter().map(ComposerName::as_str)).map(|near| format!("did you mean `{near}`?"));
        return Err(Failure::no(format!("`{package}` is installed by no Composer project that is looked at")).maybe_hint(near));
    }
    context.answer(
        || {
            let entry = |(image, folder, chain, version): &(ImageName, String, Vec<ComposerName>, String)| {
                json!({ "image": image, "project": folder, "version": version, "chain": chain })
            };
            json!({ "format": 1, "package": package, "reasons": found.iter().map(entry).collect::<Vec<_>>() })
        },
        || {
            let line = |(image, folder, chain, version): &(ImageName, String, Vec<ComposerName>, String)| {
                let chain: Vec<&str> = chain.iter().map(ComposerName::as_str).collect();
                format!("{image}: {folder}/composer.json > {} {version}", chain.join(" > "))
            };
            found.iter().map(line).collect()
        },
    );
    Ok(())
}
