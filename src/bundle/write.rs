//! A stack, with its images, as the files of a bundle. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::compose::{self, Draft, key_volume};
use super::guide;
use super::manifest::{
    ARCHIVE, Backup, BundledImage, BundledParameter, BundledService, BundledVolume, COMPOSE, Contents, FORMAT, Login, MANIFEST,
    Maintenance, Manifest, ManifestError, Published, SETTINGS, ServiceKind, VolumeKind,
};
use super::settings::written;
use crate::model::catalog::Catalog;
use crate::model::digest::FileDigest;
use crate::model::name::{ImageName, InvalidName, PartName, Tag, VariableName};
use crate::model::stack::{BackupSource, KEYS, Outside, Stack, Template, When};
use crate::plan::identity::{self, Runtime};

/// What a bundle is made from.
pub struct Ingredients<'a> {
    pub stack: &'a Stack,
    pub catalog: &'a Catalog,
    /// The images that the stack runs, as they were built.
    pub images: &'a [BundledImage],
    pub version: &'a Tag,
    /// As OCI has it, such as `linux/amd64`.
    pub platform: &'a str,
    /// The digest of the archive with the images, where it travels along.
    pub archive: Option<FileDigest>,
}

/// A bundle that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the image `{0}` of the stack was not built")]
    Image(ImageName),
    #[error("who `{service}` runs as has no fixed number in the image `{image}`")]
    User { service: PartName, image: ImageName },
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl BundleError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(name) => Some(format!("run `parvis build {name}`")),
            Self::User { image, .. } => {
                Some(format!("fix the ids under `users:` in `recipes/{image}.yaml`, or write numbers: `user: \"33:33\"`"))
            }
            Self::Name(_) | Self::Manifest(_) => None,
        }
    }
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub program: bool,
}

/// Returns the variable that says which image services run.
///
/// # Errors
/// An image's name may be too long for that of a variable.
pub fn image_variable(image: &ImageName) -> Result<VariableName, InvalidName> {
    format!("PARVIS_IMAGE_{}", image.as_str().to_ascii_uppercase().replace('-', "_")).parse()
}

/// Returns all files but the archive, and what the bundle says of itself.
///
/// # Errors
/// Refuses an image that is missing and a user without a fixed number.
pub fn write(ingredients: &Ingredients) -> Result<(Vec<File>, Manifest), BundleError> {
    let Ingredients { stack, catalog, version, .. } = *ingredients;
    let mut images: BTreeMap<&ImageName, &BundledImage> = BTreeMap::new();
    let mut runtimes: BTreeMap<&PartName, Runtime> = BTreeMap::new();
    for service in &stack.services {
        let found = ingredients.images.iter().find(|image| image.name == service.image);
        images.insert(&service.image, found.ok_or_else(|| BundleError::Image(service.image.clone()))?);
        let runtime = identity::runtime(catalog, &service.image);
        if runtime.user.is_none() {
            return Err(BundleError::User { service: service.name.clone(), image: service.image.clone() });
        }
        runtimes.insert(&service.name, runtime);
    }
    let travelling = ingredients.archive.is_some();
    let draft = Draft { stack, images: &images, runtimes: &runtimes, travelling };
    let heading = format!(
        "# {} {version}: made by parvis from the stack's description. Do not edit it: what may be chosen stands in `{SETTINGS}`.\n",
        stack.name
    );
    let contents = contents(ingredients, &images, &runtimes)?;
    let text = |name, text: String| File { name, bytes: text.into_bytes(), program: false };
    let mut files = vec![
        text(COMPOSE, heading + &compose::file(&draft)),
        text(guide::ENGLISH, guide::english(&contents, travelling)),
        text(guide::FRENCH, guide::french(&contents, travelling)),
    ];
    let start = guide::start(&contents, ingredients.archive.as_ref(), &FileDigest::of(&files[0].bytes));
    files.push(File { name: guide::START, bytes: start.into_bytes(), program: true });
    let mut listed: BTreeMap<String, FileDigest> =
        files.iter().map(|file| (file.name.to_owned(), FileDigest::of(&file.bytes))).collect();
    listed.extend(ingredients.archive.map(|digest| (ARCHIVE.to_owned(), digest)));
    let manifest = Manifest::new(Contents { files: listed, ..contents })?;
    files.push(text(SETTINGS, settings(&manifest, travelling)));
    files.push(File { name: MANIFEST, bytes: manifest.render()?, program: false });
    Ok((files, manifest))
}

fn contents(
    ingredients: &Ingredients,
    images: &BTreeMap<&ImageName, &BundledImage>,
    runtimes: &BTreeMap<&PartName, Runtime>,
) -> Result<Contents, BundleError> {
    let stack = ingredients.stack;
    let services = stack.services.iter().map(|service| BundledService {
        name: service.name.clone(),
        kind: if service.is_service() { ServiceKind::Service } else { ServiceKind::Job },
        when: service.job,
        image: service.image.clone(),
        health: runtimes[&service.name].has_health_check,
        after: service.after.clone(),
    });
    let made_for_keys =
        |name: &PartName| stack.key_maker().is_some_and(|maker| maker.mounts.iter().any(|mount| mount.volume == *name));
    let mut volumes: Vec<BundledVolume> = Vec::new();
    for volume in &stack.volumes {
        let kind = if made_for_keys(&volume.name) { VolumeKind::Keys } else { VolumeKind::Data };
        volumes.push(BundledVolume { name: volume.name.clone(), kind, description: volume.description.clone() });
    }
    for service in stack.services.iter().filter(|service| service.has_keys()) {
        let description = format!("The keys and passwords of `{}`.", service.name);
        volumes.push(BundledVolume { name: key_volume(&service.name).parse()?, kind: VolumeKind::Keys, description });
    }
    let parameters = stack.parameters.iter().map(|parameter| BundledParameter {
        name: parameter.name.clone(),
        variable: parameter.name.variable(),
        kind: parameter.kind,
        default: parameter.default.clone(),
        question: parameter.question.clone(),
    });
    Ok(Contents {
        format: FORMAT,
        name: stack.name.clone(),
        version: ingredients.version.clone(),
        platform: ingredients.platform.to_owned(),
        description: stack.description.clone(),
        images: images.values().map(|image| (*image).clone()).collect(),
        services: services.collect(),
        volumes,
        parameters: parameters.collect(),
        publish: published(stack),
        login: stack.login.as_ref().map(|login| Login {
            url: reference(&login.url),
            user: reference(&login.user),
            service: login.service.clone(),
            command: vec!["cat".into(), format!("{KEYS}/{}", login.secret)],
        }),
        backup: stack.backup.iter().filter_map(|rule| backup(stack, &rule.file, &rule.what)).collect(),
        maintenance: stack.maintenance.as_ref().map(|rule| Maintenance {
            service: rule.service.clone(),
            begin: rule.begin.clone(),
            end: rule.end.clone(),
            check: rule.check.clone(),
        }),
        files: BTreeMap::new(),
    })
}

fn published(stack: &Stack) -> Vec<Published> {
    let default = |name: &PartName| stack.parameter(name.as_str()).and_then(|parameter| parameter.default.parse().ok());
    let published = stack.services.iter().flat_map(|service| service.publish.iter().map(move |publish| (service, publish)));
    published
        .map(|(service, publish)| {
            let (variable, default) = match &publish.outside {
                Outside::Fixed(port) => (None, *port),
                Outside::Parameter(name) => (Some(name.variable()), default(name).unwrap_or(publish.port)),
            };
            let address = match &publish.address {
                Outside::Fixed(address) => address.clone(),
                Outside::Parameter(name) => format!("${{{}}}", name.variable()),
            };
            Published { service: service.name.clone(), port: publish.port, variable, default, address }
        })
        .collect()
}

/// Returns a text with `${VARIABLE}` for each parameter.
fn reference(template: &Template) -> String {
    template.fill(str::to_owned, |name| format!("${{{}}}", name.variable()))
}

fn backup(stack: &Stack, file: &str, source: &BackupSource) -> Option<Backup> {
    let file = file.to_owned();
    match source {
        BackupSource::Command { service, save, restore } => {
            Some(Backup::Command { file, service: service.clone(), save: save.clone(), restore: restore.clone() })
        }
        BackupSource::Volume(volume) => {
            // A service that is there to be asked comes before one that is busy.
            let by_hand = stack.services.iter().filter(|service| service.job == Some(When::Manual));
            let mut all =
                by_hand.chain(&stack.services).flat_map(|service| service.mounts.iter().map(move |mount| (service, mount)));
            let (service, mount) = all.find(|(_, mount)| mount.volume == *volume && !mount.read_only)?;
            Some(Backup::Volume { file, volume: volume.clone(), service: service.name.clone(), at: mount.at.clone() })
        }
    }
}

/// Returns the text of `.env`.
fn settings(manifest: &Manifest, travelling: bool) -> String {
    let mut out = format!(
        "# The settings of {name} {version}. After a change: docker compose up -d\n# Les réglages de {name} {version}. Après un \
         changement : docker compose up -d\n\n# Names the containers and volumes: with another name, everything begins anew.\n# \
         Nomme les conteneurs et les volumes : avec un autre nom, tout recommence à neuf.\nCOMPOSE_PROJECT_NAME={name}\n",
        name = manifest.name,
        version = manifest.version,
    );
    for parameter in &manifest.parameters {
        let BundledParameter { variable, default, question, .. } = parameter;
        let _ = write!(out, "\n# {}\n# {}\n{variable}={}\n", question.en, question.fr, written(default));
    }
    out.push_str("\n# The images. Do not edit these lines.\n# Les images. Ne modifiez pas ces lignes.\n");
    for image in &manifest.images {
        // What travels along has no digest that every engine knows it by until it is loaded.
        let digest = if travelling { String::new() } else { format!("@{}", image.manifest) };
        let _ = writeln!(out, "{}={}{digest}", image.variable, image.reference);
    }
    out
}

/// Puts what a user has set in an earlier `.env` into a new one. The lines of images are those of the new bundle.
#[must_use]
pub fn keep_settings(new: &str, earlier: &str) -> String {
    let name = |line: &str| -> Option<String> {
        let (name, _) = line.trim().trim_start_matches("export ").split_once('=')?;
        name.trim().parse::<VariableName>().ok().map(|name| name.to_string()).filter(|name| !name.starts_with("PARVIS_IMAGE_"))
    };
    let lines = earlier.trim_start_matches('\u{feff}').lines();
    let mut kept: BTreeMap<String, &str> = lines.filter_map(|line| Some((name(line)?, line.trim_end()))).collect();
    let mut out = String::new();
    for line in new.lines() {
        let own = name(line).and_then(|name| kept.remove(&name));
        let _ = writeln!(out, "{}", own.unwrap_or(line));
    }
    for line in kept.values() {
        let _ = writeln!(out, "{line}");
    }
    out
}
