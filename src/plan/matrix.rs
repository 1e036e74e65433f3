//! A plan divided among machines: which image can be built where, and after which others.
//!
//! The stages follow from what images need of each other; within a stage nothing waits for anything. Machines hand results on through the
//! registry (`parvis build --cache-from --cache-to`), so a stage finds what the one before it made. The shape is that of
//! `strategy.matrix` in a workflow of GitHub: an object whose `include` lists the jobs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::steps::Plan;
use crate::model::catalog::Catalog;
use crate::model::name::ImageName;

/// The number of the format.
pub const FORMAT: u32 = 1;

/// One image on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Job {
    pub image: String,
    /// Debian's name of the architecture, as `--platform` takes it.
    pub platform: String,
    /// A machine of GitHub that runs programs of this architecture.
    pub runner: String,
    /// The stage, counted from 1.
    pub stage: usize,
    /// The images that must be finished before.
    pub needs: Vec<String>,
    /// The key of the image's last step: where it is the same, so is the image.
    pub key: String,
    /// Steps that are not in the store of whoever made the plan.
    pub steps: usize,
}

/// The jobs that can be done at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stage {
    pub include: Vec<Job>,
}

/// All jobs of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Matrix {
    pub format: u32,
    /// One after the other.
    pub stages: Vec<Stage>,
    /// The same jobs in one list, for who has only one machine of each kind.
    pub include: Vec<Job>,
}

impl Matrix {
    /// Divides plans, one for each architecture. `to_do` counts the steps of an image that are left.
    ///
    /// # Errors
    /// Those of `to_do`.
    pub fn make<E>(catalog: &Catalog, plans: &[&Plan], to_do: impl Fn(&Plan, &ImageName) -> Result<usize, E>) -> Result<Self, E> {
        let mut include = Vec::new();
        for plan in plans {
            let mut stages: BTreeMap<&ImageName, usize> = BTreeMap::new();
            // Whatever an image needs stands before it.
            for image in &plan.images {
                let needs: Vec<&ImageName> = catalog.needs(&image.name);
                let stage = 1 + needs.iter().filter_map(|name| stages.get(name)).max().copied().unwrap_or(0);
                stages.insert(&image.name, stage);
                include.push(Job {
                    image: image.name.to_string(),
                    platform: plan.platform.to_string(),
                    runner: runner(plan.platform.as_str()).to_owned(),
                    stage,
                    needs: needs.into_iter().map(ToString::to_string).collect(),
                    key: image.image_step().key.hex(),
                    steps: to_do(plan, &image.name)?,
                });
            }
        }
        include
            .sort_by(|left, right| (left.stage, &left.platform, &left.image).cmp(&(right.stage, &right.platform, &right.image)));
        let mut stages = vec![Stage::default(); include.last().map_or(0, |job| job.stage)];
        for job in &include {
            stages[job.stage - 1].include.push(job.clone());
        }
        Ok(Self { format: FORMAT, stages, include })
    }

    /// Returns the JSON Schema of the answer.
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// Returns a machine of GitHub for an architecture; its own label where GitHub has none, for machines of one's own.
fn runner(platform: &str) -> &str {
    match platform {
        "amd64" => "ubuntu-24.04",
        "arm64" => "ubuntu-24.04-arm",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::StepKey;
    use crate::model::problem::Source;
    use crate::plan::steps::{ImagePlan, Step, Work};

    fn matrix() -> Matrix {
        let recipes = [
            ("base", "from: scratch"),
            ("files", "from: scratch"),
            ("php", "from: base"),
            ("httpd", "from: php\ncopy: [{from: files, path: /app}]"),
            ("db", "from: base"),
        ];
        let file = |(name, rest): &(&str, &str)| {
            (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &format!("description: x\n{rest}\n")))
        };
        let catalog = Catalog::parse(recipes.iter().map(file).collect(), &BTreeMap::new()).unwrap();
        let step = |name: &ImageName, work: Work| Step { work, inputs: Vec::new(), key: StepKey::of(name.as_str().as_bytes()) };
        let plan = |platform: &str| Plan {
            platform: platform.parse().unwrap(),
            images: catalog
                .iter()
                .map(|member| &member.recipe.name)
                .map(|name| ImagePlan {
                    name: name.clone(),
                    steps: vec![step(name, Work::Layers), step(name, Work::Image)],
                    tree: None,
                })
                .collect(),
        };
        Matrix::make::<()>(&catalog, &[&plan("amd64"), &plan("arm64")], |_, image| Ok(image.as_str().len())).unwrap()
    }

    #[test]
    fn an_image_is_built_after_all_that_it_needs_and_no_later() {
        let stages: Vec<Vec<String>> = matrix()
            .stages
            .iter()
            .map(|stage| stage.include.iter().map(|job| format!("{} {}", job.image, job.platform)).collect())
            .collect();
        assert_eq!(stages[0], ["base amd64", "files amd64", "base arm64", "files arm64"]);
        assert_eq!(stages[1], ["db amd64", "php amd64", "db arm64", "php arm64"]);
        assert_eq!(stages[2], ["httpd amd64", "httpd arm64"]);
        let matrix = matrix();
        for job in &matrix.include {
            let before = |need: &String| matrix.include.iter().any(|other| other.image == *need && other.stage < job.stage);
            assert!(job.needs.iter().all(before), "{job:?}");
        }
        assert_eq!(matrix.include.last().unwrap().runner, "ubuntu-24.04-arm");
        let validator = jsonschema::validator_for(&Matrix::schema()).unwrap();
        assert!(validator.is_valid(&serde_json::to_value(&matrix).unwrap()));
    }
}
