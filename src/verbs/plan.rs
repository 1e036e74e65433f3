//! `parvis plan`: prints the plan that `build` would carry out.

use serde_json::json;

use super::workplace::{Planned, Workplace, open_store};
use super::{Answer, Context};
use crate::edge::store::Store;
use crate::execute::State;
use crate::failure::Failure;
use crate::model::name::ImageName;
use crate::plan::matrix::Matrix;
use crate::plan::steps::Plan;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to plan, with all they need (default: all)
    images: Vec<String>,
    /// Architecture to plan for (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// Divide the plan among machines: JSON in the shape of a matrix of GitHub's workflows, in stages, for all architectures
    #[arg(long)]
    matrix: bool,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    if arguments.matrix {
        return matrix(arguments, context, &store);
    }
    let planned = Planned::make(context, &store, &arguments.images, arguments.platform.as_deref())?;
    let (site, plan) = (planned.site(context), &planned.plan);
    let mut lines = Vec::new();
    let mut steps = Vec::new();
    let mut to_do = 0;
    for image in &plan.images {
        for step in &image.steps {
            let state = site.state(&plan.platform, &image.name, step)?;
            let (recalled, reasons) = match state {
                State::Recalled => (true, Vec::new()),
                State::ToDo(reasons) => (false, reasons),
            };
            to_do += usize::from(!recalled);
            let word = if recalled { "recalled" } else { "to do" };
            lines.push(format!("{:<16} {:<9} {}  {word}", image.name.as_str(), step.place(), &step.key.hex()[..12]));
            lines.extend(reasons.iter().map(|reason| format!("{:<26} because {reason}", "")));
            steps.push(json!({
                "image": image.name.as_str(),
                "step": step.place(),
                "key": step.key.hex(),
                "recalled": recalled,
                "because": reasons,
                "inputs": step.inputs.iter().map(|input| json!({"label": input.label, "value": input.value})).collect::<Vec<_>>(),
            }));
        }
    }
    lines.push(String::new());
    lines.push(match to_do {
        0 => "nothing to do".to_owned(),
        1 => "1 step to do".to_owned(),
        more => format!("{more} steps to do"),
    });
    context.answer(|| json!({ "platform": plan.platform.as_str(), "steps": steps }), || lines);
    Ok(())
}

/// Divides the plans of all architectures, or of the one that is asked for.
fn matrix(arguments: &Arguments, context: &Context<'_>, store: &Store) -> Answer {
    let workplace = Workplace::open(context)?;
    let platforms: Vec<String> = match &arguments.platform {
        Some(platform) => vec![platform.clone()],
        None => workplace.project.architectures.iter().map(ToString::to_string).collect(),
    };
    let plan = |platform: &String| Planned::make(context, store, &arguments.images, Some(platform));
    let planned = platforms.iter().map(plan).collect::<Result<Vec<_>, Failure>>()?;
    let plans: Vec<&Plan> = planned.iter().map(|planned| &planned.plan).collect();
    let to_do = |plan: &Plan, name: &ImageName| -> Result<usize, Failure> {
        let mut count = 0;
        for planned in planned.iter().filter(|planned| planned.plan.platform == plan.platform) {
            let site = planned.site(context);
            for step in plan.images.iter().filter(|image| image.name == *name).flat_map(|image| &image.steps) {
                count += usize::from(site.state(&plan.platform, name, step)? != State::Recalled);
            }
        }
        Ok(count)
    };
    let matrix = Matrix::make(&workplace.catalog, &plans, to_do)?;
    context.screen.document(&json!(matrix));
    Ok(())
}
