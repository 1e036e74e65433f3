//! `parvis why`: says which recipe a package is there for.

use serde_json::json;

use super::workplace::Workplace;
use super::{Answer, Context};
use crate::failure::Failure;
use crate::model::name::{ImageName, PackageName};
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
