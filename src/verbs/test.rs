//! `parvis test`: what the recipes promise of their images, tried in the sandbox.

use std::time::{Duration, Instant};

use serde_json::json;

use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::edge::sandbox::{End, Stream};
use crate::execute::{Room, RoomRequest, how_it_ended};
use crate::failure::Failure;
use crate::model::name::ImageName;
use crate::model::recipe::{Test, TestKind};
use crate::screen::Unit;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to test (default: all)
    images: Vec<String>,
    /// Architecture of the images (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// Keep the results, so that `parvis attest` can sign them
    #[arg(long)]
    attest: bool,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, &arguments.images, arguments.platform.as_deref())?;
    let asked = |name: &ImageName| arguments.images.is_empty() || arguments.images.iter().any(|image| image == name.as_str());
    let results = try_images(context, &planned, asked)?;
    if arguments.attest {
        keep(context, &planned, &results)?;
    }
    let failed = results.iter().filter(|result| !result.passed()).count();
    context.answer(
        || {
            let tests: Vec<_> = results.iter().map(TestResult::to_json).collect();
            json!({ "tests": tests, "passed": results.len() - failed, "failed": failed })
        },
        || {
            let mut lines: Vec<String> = results.iter().flat_map(TestResult::lines).collect();
            lines.push(format!("{} passed, {failed} failed", results.len() - failed));
            lines
        },
    );
    all_passed(&results)
}

/// Keeps the results of each image.
pub fn keep(context: &Context<'_>, planned: &Planned<'_>, results: &[TestResult]) -> Result<(), Failure> {
    for of_image in results.chunk_by(|one, other| one.image == other.image) {
        let test = |result: &TestResult| (format!("line {}: {}", result.line, result.name), result.passed());
        super::attest::keep_results(planned, context, &of_image[0].image, of_image.iter().map(test).collect())?;
    }
    Ok(())
}

/// What a test of a recipe found.
pub struct TestResult {
    pub image: ImageName,
    /// Its line in the recipe.
    pub line: u32,
    /// What was tried, in words.
    pub name: String,
    /// What is wrong; nothing where it passed.
    pub faults: Vec<String>,
    pub seconds: f64,
}

impl TestResult {
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    fn to_json(&self) -> serde_json::Value {
        let Self { image, line, name, faults, seconds } = self;
        let image = image.as_str();
        json!({"image": image, "line": line, "test": name, "passed": self.passed(), "faults": faults, "seconds": seconds})
    }

    /// Returns the verdict and what was found, as lines.
    fn lines(&self) -> Vec<String> {
        let Self { image, line, name, faults, .. } = self;
        let verdict = format!("{} {image}: {name}", if self.passed() { "ok    " } else { "FAILED" });
        let faults = faults.iter().map(|fault| format!("       recipes/{image}.yaml, line {line}: {fault}"));
        std::iter::once(verdict).chain(faults).collect()
    }
}

/// Runs the tests of the images of a plan that are wanted.
pub fn try_images(
    context: &Context<'_>,
    planned: &Planned<'_>,
    wanted: impl Fn(&ImageName) -> bool,
) -> Result<Vec<TestResult>, Failure> {
    let site = planned.site(context);
    let mut results = Vec::new();
    for recipe in planned.names.iter().filter_map(|name| planned.workplace.catalog.recipe(name)) {
        if recipe.tests.is_empty() || !wanted(&recipe.name) {
            continue;
        }
        let task = context.screen.work(&format!("{}: tests", recipe.name), Some(recipe.tests.len() as u64), Unit::Items);
        let mut room = Room::enter(&site, &planned.plan, &recipe.name)?;
        for test in &recipe.tests {
            let name = describe(test);
            task.detail(&name);
            let start = Instant::now();
            let faults = try_one(&mut room, test)?;
            let seconds = start.elapsed().as_secs_f64();
            results.push(TestResult { image: recipe.name.clone(), line: test.line, name, faults, seconds });
            task.advance(1);
        }
        room.leave()?;
    }
    Ok(results)
}

/// Names what failed beside the result, and says no where something did.
pub fn require(context: &Context<'_>, results: &[TestResult]) -> Answer {
    for line in results.iter().filter(|result| !result.passed()).flat_map(TestResult::lines) {
        context.screen.note(&line);
    }
    all_passed(results)
}

/// Says no where a test failed.
fn all_passed(results: &[TestResult]) -> Answer {
    let message = match results.iter().filter(|result| !result.passed()).count() {
        0 => return Ok(()),
        1 => "1 test failed".to_owned(),
        more => format!("{more} tests failed"),
    };
    Err(Failure::no(message).hint("the lines above say what was found; `parvis run IMAGE -- COMMAND` tries it by hand"))
}

fn describe(test: &Test) -> String {
    match &test.what {
        TestKind::Command { command, .. } => command.join(" "),
        TestKind::File { path, exists: true, .. } => path.to_string(),
        TestKind::File { path, exists: false, .. } => format!("{path} is absent"),
    }
}

/// Returns what is wrong, in words; nothing where the test passes.
fn try_one(room: &mut Room<'_>, test: &Test) -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    match &test.what {
        TestKind::Command { command, user, env, stdin, exit, stdout, stderr, absent, timeout } => {
            let request = RoomRequest {
                command: command.clone(),
                user: user.clone(),
                workdir: None,
                env: env.clone(),
                stdin: stdin.clone().into_bytes(),
                timeout: Some(Duration::from_secs(*timeout)),
                output_limit: None,
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let outcome = room.run(&request, &mut |stream, bytes| {
                let kept = if stream == Stream::Error { &mut err } else { &mut out };
                kept.extend_from_slice(&bytes[..bytes.len().min((4_usize << 20).saturating_sub(kept.len()))]);
            })?;
            let (out, err) = (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned());
            if outcome.end != End::Exited(i32::from(*exit)) {
                faults.push(format!("it {} instead of exiting with {exit}", how_it_ended(&outcome)));
            }
            let lacks = |what: &str, text: &str, wanted: &[String]| -> Vec<String> {
                wanted
                    .iter()
                    .filter(|wanted| !text.contains(wanted.as_str()))
                    .map(|wanted| format!("`{wanted}` is not in {what}"))
                    .collect()
            };
            faults.extend(lacks("standard output", &out, stdout));
            faults.extend(lacks("standard error", &err, stderr));
            faults.extend(
                absent
                    .iter()
                    .filter(|text| out.contains(text.as_str()) || err.contains(text.as_str()))
                    .map(|text| format!("`{text}` is in the output")),
            );
        }
        TestKind::File { path, exists, owners, mode, contains } => {
            let Some(entry) = room.tree().get(path.as_bytes()).cloned() else {
                return Ok(if *exists { vec![format!("`{path}` is absent")] } else { faults });
            };
            if !exists {
                return Ok(vec![format!("`{path}` is there ({})", entry.origin)]);
            }
            if let Some(owners) = owners {
                let (uid, gid) = room.owners(owners)?;
                if (entry.uid, entry.gid) != (uid, gid) {
                    faults.push(format!("`{path}` is owned by {}:{} instead of {uid}:{gid}", entry.uid, entry.gid));
                }
            }
            if let Some(mode) = mode.filter(|mode| *mode != entry.mode) {
                faults.push(format!("`{path}` has mode {:04o} instead of {mode:04o}", entry.mode));
            }
            if !contains.is_empty() {
                let content = room.content(path.as_bytes())?.unwrap_or_default();
                let content = String::from_utf8_lossy(&content);
                faults.extend(
                    contains
                        .iter()
                        .filter(|text| !content.contains(text.as_str()))
                        .map(|text| format!("`{text}` is not in `{path}`")),
                );
            }
        }
    }
    Ok(faults)
}
