//! The workflows for GitHub: they cannot be run here, but what is written in them can be read, and every command line of parvis tried.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kit::project::parvis;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows")
}

/// Returns all workflows by name.
fn workflows() -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            let text = fs::read_to_string(&path).unwrap();
            let value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text, value));
        }
    }
    assert!(found.len() >= 3, "check, release, stage");
    found
}

/// Returns all steps of a workflow.
fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().unwrap().values();
    jobs.filter_map(|job| job["steps"].as_array()).flatten().collect()
}

/// Returns the words of a command line, with something plausible in place of each variable.
fn words(line: &str) -> Vec<String> {
    let mut line = line.split(['>', '|']).next().unwrap().trim().to_owned();
    for (variable, value) in [
        ("$NUMBER", "1.4.0"),
        ("$REGISTRY", "registry.example/parish"),
        ("$IMAGE", "httpd"),
        ("$FIRST", "base"),
        ("$PLATFORM", "amd64"),
    ] {
        line = line.replace(variable, value);
    }
    assert!(!line.contains('$'), "an unknown variable in `{line}`");
    line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect()
}

/// Returns what the command line says of words: whether it takes them.
fn is_accepted(words: &[String]) -> bool {
    let home = tempfile::tempdir().unwrap();
    parvis(home.path()).args(words).arg("--help").output().unwrap().status.success()
}

#[test]
fn every_command_line_of_parvis_in_a_workflow_is_one_that_it_takes() {
    let mut tried = 0;
    for (name, _, workflow) in workflows() {
        for step in steps(&workflow) {
            for line in step["run"].as_str().unwrap_or_default().lines() {
                let Some(rest) = line.trim().strip_prefix("./parvis ") else { continue };
                assert!(is_accepted(&words(rest)), "{name}: `{line}`");
                tried += 1;
            }
        }
    }
    assert!(tried >= 6, "{tried}");
    assert!(!is_accepted(&words("build --cache-fromm x")) && !is_accepted(&words("releas 1.4.0")));
}

/// Whether a step gives commands to git, itself or in the script that it calls.
fn needs_git(step: &Value) -> bool {
    let run = step["run"].as_str().unwrap_or_default();
    run.contains("prepare.sh") || run.lines().any(|line| line.trim().starts_with("git "))
}

#[test]
fn a_container_has_git_before_the_checkout_of_a_job_that_needs_it() {
    let mut tried = 0;
    for (name, _, workflow) in workflows() {
        for (job, about) in workflow["jobs"].as_object().unwrap() {
            let steps = about["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
            if about["container"].is_null() || !steps.iter().any(needs_git) {
                continue;
            }
            let checkout =
                steps.iter().position(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("/checkout@"))).unwrap();
            let installs = |step: &Value| {
                let run = step["run"].as_str().unwrap_or_default();
                run.contains("apt-get install") && run.split_whitespace().any(|word| word == "git")
            };
            assert!(steps[..checkout].iter().any(installs), "{name}: `{job}` gets no `.git`");
            tried += 1;
        }
    }
    assert!(tried >= 3, "{tried}");
}

#[test]
fn workflows_pin_actions_and_put_nothing_from_outside_into_the_text_of_a_command() {
    for (name, text, workflow) in workflows() {
        assert!(workflow["permissions"]["contents"] == "read", "{name} says what it may do");
        for step in steps(&workflow) {
            if let Some(action) = step["uses"].as_str() {
                let pin = action.split_once('@').unwrap().1;
                assert!(pin.len() == 40 && pin.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: `{action}`");
            }
            let run = step["run"].as_str().unwrap_or_default();
            assert!(!run.contains("${{"), "{name}: `{run}`");
        }
        let of_jobs = workflow["jobs"].as_object().unwrap();
        for (job, about) in of_jobs {
            let needs = match &about["needs"] {
                Value::String(one) => vec![one.clone()],
                Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
                _ => Vec::new(),
            };
            assert!(needs.iter().all(|need| of_jobs.contains_key(need)), "{name}: `{job}` needs {needs:?}");
            if let Some(called) = about["uses"].as_str() {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(called).is_file(), "{name}: `{called}`");
            }
        }
        assert!(!text.contains('\t'), "{name}");
    }
}

#[test]
fn there_are_as_many_stages_as_the_projects_images_have_generations() {
    let store = tempfile::tempdir().unwrap();
    let project = env!("CARGO_MANIFEST_DIR");
    let output = parvis(store.path()).args(["-C", project, "plan", "--matrix"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let matrix: Value = serde_json::from_slice(&output.stdout).unwrap();
    let validator = jsonschema::validator_for(&parvis::plan::matrix::Matrix::schema()).unwrap();
    assert!(validator.is_valid(&matrix));
    let generations = matrix["stages"].as_array().unwrap().len();
    let (_, _, release) = workflows().into_iter().find(|(name, ..)| name == "release.yml").unwrap();
    let stages = release["jobs"].as_object().unwrap().keys().filter(|job| job.starts_with("stage-")).count();
    assert!((3..=stages).contains(&generations), "{generations} generations, {stages} stages");
    // Each job of a stage is one image that needs nothing of its own stage or a later one.
    for (at, stage) in matrix["stages"].as_array().unwrap().iter().enumerate() {
        for job in stage["include"].as_array().unwrap() {
            assert_eq!(job["stage"], at + 1, "{job}");
        }
    }
}
