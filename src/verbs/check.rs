//! `parvis check`: are the project's files right, and what could be better?

use serde_json::json;

use super::{Answer, Context};
use crate::edge::project::{PROJECT_FILE, ProjectError, ProjectFolder, StatCache};
use crate::failure::Failure;
use crate::model::catalog::Catalog;
use crate::model::recipe::FileSource;
use crate::plan::lint::{self, Advice};

/// Check the project's files and give advice.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// End with exit code 1 when there is advice.
    #[arg(long)]
    pub strict: bool,
}

/// Reads everything that a build reads of the project, and prints advice.
pub fn run(options: &Options, context: &Context<'_>) -> Answer {
    let folder = ProjectFolder::find(&context.folder)?;
    let project = folder.project()?;
    let variables =
        project.variables(context.profile.as_deref()).map_err(|error| Failure::project(error.to_string()).hint(error.hint()))?;
    let catalog = folder.catalog(&variables)?;
    check_sources(&folder, &catalog)?;
    let advice = lint::lint(&project, PROJECT_FILE, &catalog);
    let images = catalog.len();
    context.answer(|| json!({ "format": 1, "images": images, "advice": advice }), || lines(images, &advice));
    if options.strict && !advice.is_empty() {
        return Err(Failure::no(format!("there is advice to follow: {}", count(advice.len(), "piece", "pieces"))));
    }
    Ok(())
}

/// Looks at every source that a recipe names, as a build would.
fn check_sources(folder: &ProjectFolder, catalog: &Catalog) -> Result<(), Failure> {
    let mut cache = StatCache::nowhere();
    for member in catalog.iter() {
        for rule in &member.recipe.files {
            let FileSource::Project(source) = &rule.what else { continue };
            folder.sources(&member.recipe.name, source, &mut cache).map_err(|error| {
                let hint = error.hint();
                match error {
                    ProjectError::Missing { .. } | ProjectError::Leaves { .. } | ProjectError::Kind { .. } => {
                        let word = String::from_utf8_lossy(source.as_bytes()).into_owned();
                        let problem = member.source.problem_at_word(rule.line, &word, error.to_string());
                        Failure::from(hint.into_iter().fold(problem, crate::model::problem::Problem::hint))
                    }
                    other => other.into(),
                }
            })?;
        }
    }
    Ok(())
}

fn lines(images: usize, advice: &[Advice]) -> Vec<String> {
    let mut lines = Vec::new();
    for piece in advice {
        let Advice { file, line, code, message, hint } = piece;
        lines.push(format!("{file}:{line}: {message} [{code}]"));
        lines.push(format!("    hint: {hint}"));
    }
    let images = count(images, "image", "images");
    lines.push(match advice.len() {
        0 => format!("{images}, nothing to say against"),
        number => format!("{images}, {} of advice", count(number, "piece", "pieces")),
    });
    lines
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_printed_with_its_place_its_rule_and_what_to_do() {
        let piece = Advice {
            file: "recipes/a.yaml".into(),
            line: 3,
            code: "no-test",
            message: "nothing tests it".into(),
            hint: "add one".into(),
        };
        let expected = ["recipes/a.yaml:3: nothing tests it [no-test]", "    hint: add one", "1 image, 1 piece of advice"];
        assert_eq!(lines(1, &[piece]), expected);
        assert_eq!(lines(2, &[]), ["2 images, nothing to say against"]);
    }
}
