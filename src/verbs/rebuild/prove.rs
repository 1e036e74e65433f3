//! The proof: each image that was built anew is held against the one before, and nothing may differ that was not announced.

use std::collections::BTreeSet;

use super::words::Words;
use super::{Intention, Rebuilt};
use crate::execute::{self, Built};
use crate::failure::Failure;
use crate::image::accounts::{self, Stated};
use crate::image::{diff, proof};
use crate::model::name::{ImageName, PackageName};
use crate::model::tree::{Origin, Tree};
use crate::verbs::Context;
use crate::verbs::image::Image;
use crate::verbs::workplace::Planned;

/// Surprises that are named.
const MOST_NAMED: usize = 20;

/// The parts of a package in which its accounts are made or named, by the ending of their files in the package database.
const SCRIPTS: [&str; 5] = ["preinst", "postinst", "prerm", "postrm", "config"];

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
        let accounts = [(before, &old), (after, &new)].map(|(planned, image)| stated(context, planned, &image.tree, &announced));
        let [was, is] = accounts;
        let proof = proof::prove(&difference, &announced, accounts::explain(&was?, &is?)).map_err(|surprises| {
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

/// Reads what an image says of its accounts, and what announced packages say of theirs.
fn stated(context: &Context<'_>, planned: &Planned<'_>, tree: &Tree, announced: &BTreeSet<&str>) -> Result<Stated, Failure> {
    let site = planned.site(context);
    let mut stated = Stated::default();
    for file in accounts::FILES {
        stated.files.extend(execute::read_path(&site, tree, file.as_bytes())?.map(|content| (file, content)));
    }
    for (path, entry) in tree.iter() {
        let text = path.to_string();
        let package = match (text.strip_prefix("/var/lib/dpkg/info/"), &entry.origin) {
            (Some(file), _) => file.rsplit_once('.').filter(|(_, kind)| SCRIPTS.contains(kind)).map(|(name, _)| name.to_owned()),
            (None, Origin::Package(name)) if text.starts_with("/usr/lib/sysusers.d/") => Some(name.to_string()),
            _ => None,
        };
        // Of packages that stand in several architectures the file has both in its name.
        let package = package.map(|name| name.split(':').next().unwrap_or_default().to_owned());
        let Some(package) = package.filter(|name| announced.contains(name.as_str())) else { continue };
        if let Some(content) = execute::read_path(&site, tree, path.as_bytes())? {
            stated.texts.entry(package).or_default().push(content);
        }
    }
    Ok(stated)
}
