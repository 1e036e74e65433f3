//! `parvis inspect`: what an image consists of, and what is said of it.

use serde_json::{Value, json};

use super::image::{Brought, Image, Search};
use super::registry::Reach;
use super::verify::said::{Judge, Said};
use super::{Answer, Context};
use crate::failure::Failure;
use crate::image::inspect::{Layers, inspect};
use crate::model::tree::escape;

#[derive(Debug, clap::Args)]
#[command(after_help = "The image is one of the project (as it is built), a layout `FOLDER` or `FOLDER:NAME`, \
    an archive `FILE` or `FILE:NAME`, or one in a registry `HOST/NAME:TAG` or `HOST/NAME@sha256:…`, whose layers are read in full. \
    What is signed is judged by the keys of `parvis trust list`; `parvis verify` says whether the image is good.")]
pub struct Arguments {
    /// The image
    image: String,
    /// Name every package, and the packages and digest of every layer
    #[arg(long)]
    all: bool,
    /// Architecture of the image (default: this machine's, where there are several; an archive's only one)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let judge = Judge::new(context)?;
    let search = Search { context, platform: arguments.platform.as_deref(), reach: &arguments.reach };
    let (image, said) = Image::find(search, &arguments.image, &|standing| {
        let said = judge.said(standing.place, &standing.image, standing.index.as_ref(), standing.repository.as_deref())?;
        Ok((standing.index, said))
    })?;
    let (index, said) = said.map_or((None, None), |(index, said)| (index, Some(said)));
    let layers = Layers { digests: &image.layer_digests, stated: image.stated.as_ref() };
    let found = inspect(image.side(), layers).map_err(|error| {
        Failure::project(format!("cannot look into `{}`", arguments.image))
            .because(error)
            .hint("its package database is damaged: make it again")
    })?;
    let manifest = image.manifest.map(|digest| digest.to_string());
    context.answer(
        || {
            let about = |name: &str| {
                image.brought.get(name).map_or(
                    Value::Null,
                    |from| json!({"suite": from.suite, "source": from.source, "image": from.image, "asked": from.asked}),
                )
            };
            let mut document = found.to_json(&about);
            document["image"] = json!(arguments.image);
            document["names"] = json!(image.names);
            document["index"] = json!(index.map(|digest| digest.to_string()));
            document["manifest"] = json!(manifest);
            document["configuration"] = json!(image.config.digest.to_string());
            document["referrers"] = json!(said.as_ref().map(|said| said.iter().map(Said::to_json).collect::<Vec<_>>()));
            document
        },
        || {
            let names: Vec<String> = image.names.iter().map(|name| escape(name.as_bytes())).collect();
            let name = if names.is_empty() { arguments.image.clone() } else { names.join(", ") };
            let mut lines = vec![format!("{:<12} {name} for {}", "image", found.platform)];
            lines.extend(index.map(|index| format!("{:<12} {index}", "index")));
            lines.push(format!("{:<12} {}", "manifest", manifest.as_deref().unwrap_or("unknown: this archive keeps none")));
            lines.push(format!("{:<12} {}", "config", image.config.digest));
            lines.extend(found.lines(arguments.all, &|name| image.brought.get(name).map(words).unwrap_or_default()));
            lines.push(String::new());
            match said.as_deref() {
                None => {
                    lines
                        .push("nothing is kept here that could be said of the image: look at it where it was sent to".to_owned());
                }
                Some([]) => lines.push("nothing here is said of the image: it is not signed".to_owned()),
                Some(several) => {
                    lines.push("said of the image (`parvis verify` says whether it is good)".to_owned());
                    lines.extend(several.iter().flat_map(Said::lines));
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
