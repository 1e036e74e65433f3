//! `parvis inspect`: what an image consists of.

use serde_json::{Value, json};

use super::image::{Brought, Image};
use super::{Answer, Context};
use crate::failure::Failure;
use crate::image::inspect::{inspect, kind_of};
use crate::model::tree::escape;

#[derive(Debug, clap::Args)]
#[command(after_help = "The image is one of the project (as it is built), a layout `FOLDER` or `FOLDER:NAME`, \
    or an archive `FILE` or `FILE:NAME`.")]
pub struct Arguments {
    /// The image
    image: String,
    /// Name every package, and the packages and digest of every layer
    #[arg(long)]
    all: bool,
    /// Architecture of the image (default: this machine's, where the project has it; an archive's only one)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let image = Image::find(context, &arguments.image, arguments.platform.as_deref())?;
    let found = inspect(image.side(), &image.layer_digests).map_err(|error| {
        Failure::project(format!("cannot look into `{}`", arguments.image))
            .because(error)
            .hint("its package database is damaged: make it again")
    })?;
    let manifest = image.manifest.map(|digest| digest.to_string());
    context.answer(
        || {
            let about = |name: &str| {
                image.brought.get(name).map_or(Value::Null, |from| {
                    json!({"suite": from.suite, "source": from.source, "image": from.image, "asked": from.asked})
                })
            };
            let mut document = found.to_json(&about);
            document["image"] = json!(arguments.image);
            document["names"] = json!(image.names);
            document["manifest"] = json!(manifest);
            document["configuration"] = json!(image.config.digest.to_string());
            let referrer = |referrer: &crate::image::oci::Descriptor| {
                json!({"digest": referrer.digest.to_string(), "type": referrer.artifact_type, "size": referrer.size})
            };
            document["referrers"] =
                json!(image.referrers.as_ref().map(|referrers| referrers.iter().map(referrer).collect::<Vec<_>>()));
            document
        },
        || {
            let names: Vec<String> = image.names.iter().map(|name| escape(name.as_bytes())).collect();
            let name = if names.is_empty() { arguments.image.clone() } else { names.join(", ") };
            let mut lines = vec![format!("{:<12} {name} for {}", "image", found.platform)];
            lines.push(format!("{:<12} {}", "manifest", manifest.as_deref().unwrap_or("unknown: this archive keeps none")));
            lines.push(format!("{:<12} {}", "config", image.config.digest));
            lines.extend(found.lines(arguments.all, &|name| image.brought.get(name).map(words).unwrap_or_default()));
            lines.push(String::new());
            match image.referrers.as_deref() {
                None => lines.push("signatures are kept where the image is sent to; here are none".to_owned()),
                Some([]) => lines.push("nothing here refers to the image: it is not signed".to_owned()),
                Some(several) => {
                    lines.push("refers to the image (`parvis verify` says whether it is good)".to_owned());
                    lines.extend(several.iter().map(|referrer| format!("  {}  {}", &referrer.digest.hex()[..12], kind_of(referrer))));
                }
            }
            lines
        },
    );
    Ok(())
}

/// Says where a package of the project is from.
fn words(from: &Brought) -> String {
    let Brought { suite, image, asked, .. } = from;
    match asked {
        Some(line) => format!("{suite}, {line}"),
        None => format!("{suite}, for another in {image}"),
    }
}
