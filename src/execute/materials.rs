//! What a built image was made from, and which steps led to it, gathered from the plan, the lock and the project's files.

use super::inventory::Release;
use super::{Site, finished};
use crate::failure::Failure;
use crate::image::sbom;
use crate::model::address::Address;
use crate::model::lock::composer::DownloadKind;
use crate::model::name::ImageName;
use crate::model::tree::escape;
use crate::plan::steps::{Plan, Step, Work};
use crate::trust::provenance::{Material, Ran, StepFact};

impl Site<'_> {
    /// Returns the steps of a plan, in order.
    #[must_use]
    pub fn step_facts(&self, plan: &Plan) -> Vec<StepFact> {
        let fact = |image: &ImageName, step: &Step| StepFact {
            image: image.to_string(),
            step: step.place(),
            key: step.key.hex(),
            ran: match &step.work {
                Work::Packages { packages } if packages.is_empty() => Ran::Nothing,
                Work::Packages { .. } => Ran::Scripts,
                Work::Composer => Ran::Composer,
                Work::Run { index } => {
                    let rule = self.catalog.recipe(image).and_then(|recipe| recipe.runs.get(*index));
                    Ran::Command(rule.map(|rule| rule.command.clone()).unwrap_or_default())
                }
                Work::Files | Work::Remove | Work::Layers | Work::Image => Ran::Nothing,
            },
        };
        plan.images.iter().flat_map(|image| image.steps.iter().map(|step| fact(&image.name, step))).collect()
    }

    /// Returns everything that a plan for one image takes, but for the project's own descriptions: packages, distributions, files of
    /// `images/`, and the state of the archive by which packages were chosen.
    pub fn materials(&self, plan: &Plan, image: &ImageName) -> Result<Vec<Material>, Failure> {
        let mut materials = Vec::new();
        let tree = finished(self, plan, image)?.unwrap_or_default();
        let release = Release::of(self, &tree)?;
        for package in self.all_packages(plan) {
            let file = package.file.rsplit('/').next().unwrap_or(&package.file);
            materials.push(Material {
                uri: release.debian().purl(package.name.as_str(), &package.version, package.architecture.as_str()),
                notes: vec![("file", package.file.clone()), ("suite", package.suite.to_string())],
                ..Material::new(file, package.sha256.hex())
            });
        }
        for state in &self.lock.archives {
            let mut notes = vec![("date", state.date.to_string()), ("key", state.key.clone())];
            if !state.accepted.is_empty() {
                notes.push(("accepted", state.accepted.join(" ")));
            }
            let name = format!("{} dists/{}/InRelease", state.archive, state.suite);
            materials.push(Material { notes, ..Material::new(name, state.inrelease.hex()) });
        }
        let is_planned = |name: &ImageName| plan.images.iter().any(|image| image.name == *name);
        for project in self.lock.composer.iter().filter(|project| is_planned(&project.image)) {
            let folder = format!("images/{}/{}", project.image, project.project);
            materials.push(Material::new(format!("{folder}/composer.json"), project.composer_json.hex()));
            materials.push(Material::new(format!("{folder}/composer.lock"), project.composer_lock.hex()));
            for download in &project.downloads {
                let purl = match (download.kind, download.package.split_once('/')) {
                    (DownloadKind::Dist, Some((vendor, name))) => {
                        sbom::purl("composer", Some(vendor), name, download.version.as_deref(), &[])
                    }
                    _ => None,
                };
                let address = match Address::parse(&download.url) {
                    Ok(Address::Network(address)) => Some(address),
                    _ => None,
                };
                let place = if address.is_some() { "url" } else { "path" };
                materials.push(Material {
                    uri: purl.or(address),
                    notes: vec![("kind", download.kind.word().to_owned()), (place, download.url.clone())],
                    ..Material::new(download.name(), download.sha256.hex())
                });
            }
        }
        for ((image, source), files) in self.sources.iter().filter(|((image, _), _)| is_planned(image)) {
            for file in files {
                let Some((digest, _)) = file.content else { continue };
                let parts = [source.as_bytes(), file.path.as_bytes()];
                let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(escape).collect();
                materials.push(Material::new(format!("images/{image}/{}", parts.join("/")), digest.hex()));
            }
        }
        Ok(materials)
    }
}
