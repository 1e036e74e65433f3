//! `parvis test`: what the recipes promise of their images, tried in the sandbox.

use std::time::{Duration, Instant};

use serde_json::json;

use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::edge::sandbox::{End, Stream};
use crate::execute::{Room, RoomRequest, how_it_ended};
use crate::failure::Failure;
use crate::model::recipe::{Test, TestKind};
use crate::screen::Unit;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to test (default: all)
    images: Vec<String>,
    /// Architecture of the images (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, &arguments.images, arguments.platform.as_deref())?;
    let site = planned.site(context);
    let asked = |name: &str| arguments.images.is_empty() || arguments.images.iter().any(|image| image == name);
    let mut results = Vec::new();
    for recipe in planned.names.iter().filter_map(|name| planned.workplace.catalog.recipe(name)) {
        if recipe.tests.is_empty() || !asked(recipe.name.as_str()) {
            continue;
        }
        let task = context.screen.work(&format!("{}: tests", recipe.name), Some(recipe.tests.len() as u64), Unit::Items);
        let mut room = Room::enter(&site, &planned.plan, &recipe.name)?;
        for test in &recipe.tests {
            let name = describe(test);
            task.detail(&name);
            let start = Instant::now();
            let faults = try_one(&mut room, test)?;
            results.push((recipe.name.to_string(), test.line, name, faults, start.elapsed().as_secs_f64()));
            task.advance(1);
        }
        room.leave()?;
    }
    let failed = results.iter().filter(|(.., faults, _)| !faults.is_empty()).count();
    context.answer(
        || {
            let tests = results.iter().map(|(image, line, name, faults, seconds)| {
                json!({"image": image, "line": line, "test": name, "passed": faults.is_empty(), "faults": faults, "seconds": seconds})
            });
            json!({ "tests": tests.collect::<Vec<_>>(), "passed": results.len() - failed, "failed": failed })
        },
        || {
            let mut lines = Vec::new();
            for (image, line, name, faults, _) in &results {
                lines.push(format!("{} {image}: {name}", if faults.is_empty() { "ok    " } else { "FAILED" }));
                lines.extend(faults.iter().map(|fault| format!("       recipes/{image}.yaml, line {line}: {fault}")));
            }
            lines.push(format!("{} passed, {failed} failed", results.len() - failed));
            lines
        },
    );
    match failed {
        0 => Ok(()),
        1 => Err(Failure::no("1 test failed")
            .hint("the lines above say what was found; `parvis run IMAGE -- COMMAND` tries it by hand")),
        more => Err(Failure::no(format!("{more} tests failed"))
            .hint("the lines above say what was found; `parvis run IMAGE -- COMMAND` tries it by hand")),
    }
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
