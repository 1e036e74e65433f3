//! `parvis sbom`: what an image consists of, in the formats that others read.

use std::path::PathBuf;

use serde_json::json;

use super::save::from_output;
use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::edge::output;
use crate::execute::About;
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::sbom::{Format, Inventory, Role};
use crate::model::digest::BlobDigest;
use crate::model::name::ImageName;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The list is made from the lock and from the tree of the image as it is built, and is the same on every machine."
)]
pub struct Arguments {
    /// Image of the project, which must be built
    image: String,
    /// Format of the list: SPDX 2.3, or `cyclonedx` 1.6; both are JSON
    #[arg(long, value_enum, default_value = "spdx")]
    format: Which,
    /// File to write (default: standard output)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Architecture of the image (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
}

/// A format, as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    Spdx,
    Cyclonedx,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, std::slice::from_ref(&arguments.image), arguments.platform.as_deref())?;
    let image: ImageName = arguments.image.parse().map_err(|error| Failure::project(format!("{error}")))?;
    let inventory = inventory(&planned, context, &image)?;
    let format = match arguments.format {
        Which::Spdx => Format::Spdx,
        Which::Cyclonedx => Format::CycloneDx,
    };
    let bytes = file(&inventory, format)?;
    let Some(file) = &arguments.output else {
        context.screen.raw(&bytes);
        return Ok(());
    };
    output::write_whole(file, |out| out.write_all(&bytes)).map_err(from_output)?;
    let count = |roles: &[Role]| inventory.components.values().filter(|part| roles.contains(&part.role)).count();
    let packages = count(&[Role::Package, Role::Composer]);
    let unknown = inventory.components.values().filter(|part| part.role != Role::Source && part.licence.is_none()).count();
    context.answer(
        || {
            json!({
                "file": file,
                "image": inventory.image.repository,
                "manifest": inventory.image.digest.to_string(),
                "sha256": BlobDigest::of(&bytes).to_string(),
                "packages": packages,
                "sources": count(&[Role::Source]),
                "files": inventory.files.len(),
                "without_licence": unknown,
            })
        },
        || {
            vec![format!(
                "{}: {packages} packages (of {unknown} no licence is stated for machines), {} other files, written to {}",
                image,
                inventory.files.len(),
                file.display()
            )]
        },
    );
    Ok(())
}

/// Returns the list as it stands in a file.
pub fn file(inventory: &Inventory, format: Format) -> Result<Vec<u8>, Failure> {
    let document = inventory.document(format).map_err(|error| Failure::bug("the list cannot be written").because(error))?;
    let mut bytes = canonical::to_bytes(&document).map_err(|error| Failure::bug("the list cannot be written").because(error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns what a built image consists of. Packages that the store does not have any more are fetched.
pub fn inventory(planned: &Planned<'_>, context: &Context<'_>, image: &ImageName) -> Result<Inventory, Failure> {
    let site = planned.site(context);
    let missing = site.not_unpacked(&planned.plan, image)?;
    if !missing.is_empty() {
        super::build::fetch(context, &planned.workplace, &site, &missing)?;
        site.unpack(&missing)?;
    }
    let repository = |name: &ImageName| planned.workplace.repository(name);
    let about = About { tool: env!("CARGO_PKG_VERSION"), repository: &repository };
    site.inventory(&planned.plan, image, &about)?.ok_or_else(|| {
        Failure::no(format!("the image `{image}` is not built, or not as the recipes are now"))
            .hint(format!("run `parvis build {image}`"))
    })
}
