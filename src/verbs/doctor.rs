//! `parvis doctor`: can this machine build, and what to do where it cannot?

use std::path::Path;

use serde_json::json;

use super::archive::Mirrors;
use super::workplace::{Workplace, open_store};
use super::{Answer, Context};
use crate::edge::engine::Engine;
use crate::edge::openpgp;
use crate::edge::sandbox;
use crate::failure::Failure;
use crate::screen::size;

/// Bytes that the store of the whole project may need.
const ENOUGH: u64 = 5_000_000_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// One thing that was looked at.
struct Finding {
    name: String,
    /// Whether it is as it should be; `None` where parvis can do without.
    good: Option<bool>,
    detail: String,
    advice: Option<String>,
}

pub fn run(_: &Arguments, context: &Context<'_>) -> Answer {
    let mut findings = Vec::new();
    let store = open_store(context);
    match &store {
        Ok(store) => {
            let scratch = store.scratch().map_err(crate::execute::from_store)?;
            // One rung is enough: the results are the same on all of them.
            let rungs = sandbox::probe(Path::new("/proc/self/exe"), &scratch);
            let works = rungs.iter().any(|rung| rung.available);
            findings.extend(rungs.into_iter().map(|rung| Finding {
                name: format!("sandbox: {}", rung.name),
                good: if rung.available {
                    Some(true)
                } else if works {
                    None
                } else {
                    Some(false)
                },
                detail: rung.detail,
                advice: rung.advice.map(str::to_owned),
            }));
            findings.push(match store.free() {
                Ok(free) => Finding {
                    name: "disk".to_owned(),
                    good: Some(free >= ENOUGH),
                    detail: format!("{} free for the store `{}`", size(free), context.store.display()),
                    advice: (free < ENOUGH).then(|| "free some space, or choose another folder with `--store`".to_owned()),
                },
                Err(error) => bad("disk", &crate::execute::from_store(error)),
            });
        }
        Err(failure) => findings.push(bad("store", failure)),
    }
    findings.push(match openpgp::program() {
        Some(program) => good("signatures", format!("checked by {program}")),
        None => Finding {
            name: "signatures".to_owned(),
            good: Some(false),
            detail: "neither `sqv` nor `gpgv` is installed".to_owned(),
            advice: Some("`apt-get install gpgv`".to_owned()),
        },
    });
    match Workplace::open(context) {
        Ok(workplace) => {
            findings.push(good("project", format!("`{}`, {} images", workplace.project.name, workplace.catalog.len())));
            findings.push(match Mirrors::find(context, &workplace) {
                Ok(mirrors) => good("mirror", mirrors.shown().join(", ")),
                Err(failure) => bad("mirror", &failure),
            });
        }
        Err(failure) => findings.push(Finding { good: None, ..bad("project", &failure) }),
    }
    for program in ["docker", "podman"] {
        findings.push(match Engine::find(Some(program)) {
            Ok(engine) => good(program, format!("version {}", engine.version)),
            Err(error) => Finding { name: program.to_owned(), good: None, detail: error.to_string(), advice: error.hint() },
        });
    }
    let wrong = findings.iter().filter(|finding| finding.good == Some(false)).count();
    context.answer(
        || {
            let list = findings.iter().map(
                |finding| json!({"name": finding.name, "good": finding.good, "detail": finding.detail, "advice": finding.advice}),
            );
            json!({ "findings": list.collect::<Vec<_>>(), "good": wrong == 0 })
        },
        || findings.iter().flat_map(lines).collect(),
    );
    if wrong == 0 {
        Ok(())
    } else {
        Err(Failure::no("this machine cannot build yet").hint("follow the advice above, then run `parvis doctor` again"))
    }
}

fn good(name: &str, detail: String) -> Finding {
    Finding { name: name.to_owned(), good: Some(true), detail, advice: None }
}

fn bad(name: &str, failure: &Failure) -> Finding {
    Finding {
        name: name.to_owned(),
        good: Some(false),
        detail: failure.message().to_owned(),
        advice: failure.hint_text().map(str::to_owned),
    }
}

fn lines(finding: &Finding) -> Vec<String> {
    let mark = match finding.good {
        Some(true) => "ok",
        Some(false) => "NO",
        None => "-",
    };
    let mut lines = vec![format!("{mark:<3} {}: {}", finding.name, finding.detail)];
    lines.extend(finding.advice.iter().map(|advice| format!("    hint: {advice}")));
    lines
}
