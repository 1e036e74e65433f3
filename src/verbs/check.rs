//! `parvis check`: are the project's files right, and what could be better?

use std::collections::BTreeMap;

use serde_json::json;

use super::workplace::{Workplace, open_store};
use super::{Answer, Context};
use crate::edge::project::{PROJECT_FILE, ProjectError, ProjectFolder, StatCache};
use crate::execute;
use crate::failure::Failure;
use crate::model::catalog::Catalog;
use crate::model::name::ImageName;
use crate::model::recipe::FileSource;
use crate::model::tree::Tree;
use crate::plan::lint::{self, Advice};
use crate::plan::wiring;

/// Check the project's files and give advice.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// End with exit code 1 when there is advice.
    #[arg(long)]
    pub strict: bool,
}

/// Reads everything that a build reads of the project, and prints advice.
pub fn run(options: &Options, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let Workplace { folder, project, catalog, .. } = &workplace;
    check_sources(folder, catalog)?;
    let mut advice = lint::lint(project, PROJECT_FILE, catalog);
    let mut trees = None;
    // The images of another profile are others: its stacks are checked with it.
    for file in workplace.stacks()?.iter().filter(|file| workplace.fits(file)) {
        let (stack, source) = workplace.stack(&file.name)?;
        let trees = trees.get_or_insert_with(|| built_trees(&workplace, context));
        advice.extend(wiring::lint(&stack, &source, catalog, trees));
    }
    advice.sort_unstable();
    let images = catalog.len();
    context.answer(|| json!({ "format": 1, "images": images, "advice": advice }), || lines(images, &advice));
    if options.strict && !advice.is_empty() {
        return Err(Failure::no(format!("there is advice to follow: {}", count(advice.len(), "piece", "pieces"))));
    }
    Ok(())
}

/// Returns what the images hold that are built as the recipes are now. A project that was never locked or built has none.
fn built_trees(workplace: &Workplace, context: &Context<'_>) -> BTreeMap<ImageName, Tree> {
    let read = || -> Result<BTreeMap<ImageName, Tree>, Failure> {
        let store = open_store(context)?;
        let lock = workplace.lock()?;
        let platform = workplace.platform(context, None)?;
        let names = workplace.select(&[])?;
        let sources = workplace.sources(&names, &store)?;
        let plan = workplace.plan(&names, &lock, &platform, &sources)?;
        let site = workplace.site(context, &store, &lock, &sources);
        let mut trees = BTreeMap::new();
        for image in &plan.images {
            if let Some(tree) = execute::finished(&site, &plan, &image.name)? {
                trees.insert(image.name.clone(), tree);
            }
        }
        Ok(trees)
    };
    // Advice from the recipes alone is better than none.
    read().unwrap_or_default()
}

/// Looks at every source that a recipe names, as a build would.
fn check_sources(folder: &ProjectFolder, catalog: &Catalog) -> Result<(), Failure> {
    let mut cache = StatCache::nowhere();
    for member in catalog.iter() {
        if let Some(rule) = &member.recipe.composer {
            let listed = folder.sources(&member.recipe.name, &rule.project, &mut cache);
            let listed = listed.map_err(Failure::from)?;
            if !listed.iter().any(|file| file.path.as_bytes() == b"composer.json") {
                let word = String::from_utf8_lossy(rule.project.as_bytes()).into_owned();
                let message = format!("the folder `images/{}/{word}` holds no `composer.json`", member.recipe.name);
                return Err(member
                    .source
                    .problem_at_word(rule.line, &word, message)
                    .hint("write the project's requirements there")
                    .into());
            }
        }
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
