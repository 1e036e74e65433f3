//! `parvis plan`: prints the plan that `build` would carry out.

use serde_json::json;

use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::execute::State;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to plan, with all they need (default: all)
    images: Vec<String>,
    /// Architecture to plan for (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
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
