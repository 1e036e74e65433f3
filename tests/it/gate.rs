//! `parvis gate`: images that may be handed to others, and each way in which one may not.

use serde_json::Value;

use crate::kit::fakerepo::edit;
use crate::kit::project::Project;
use crate::kit::world;

const BUDGET: &str = "gates:\n  size: [{image: base, most: 1 GB}]\n";

fn site(project: &Project, more: &str) {
    let head = "description: The program.\nfrom: base\n";
    project.recipe("web", &format!("{head}{more}"));
}

/// Builds, asks the gates, and returns what they say for people and for programs.
fn gate(project: &Project, code: i32) -> (String, Value) {
    project.run(&["build"], 0);
    let said = project.run(&["gate"], code);
    assert_eq!(said.err.contains("error: "), code == 1, "{}", said.err);
    let answer = serde_json::from_str(&project.run(&["gate", "--json"], code).out).unwrap();
    (format!("{}{}", said.out, said.err), answer)
}

#[test]
fn an_image_passes_or_is_refused_with_the_path_and_the_line_that_put_it_there() {
    let repo = world::archive();
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    site(&project, "config: {user: '33:33', cmd: [/usr/bin/app]}\n");
    project.run(&["lock"], 0);
    let (words, answer) = gate(&project, 0);
    assert!(words.contains("2 images passed 7 gates"), "{words}");
    assert_eq!((&answer["format"], answer["images"].as_array().unwrap().len()), (&1.into(), 2));
    assert_eq!(answer["images"][0]["verdicts"][0]["outcome"], "passed");

    // What is taken out again stays in the layer below.
    edit(&project.path().join("recipes/base.yaml"), |text| {
        format!("{text}files:\n  - {{text: 'api_key = a1b2c3d4', to: /etc/app.conf, owner: 'root:root', mode: '0644'}}\n")
    });
    site(&project, "remove: [/etc/app.conf]\nconfig: {user: '33:33', cmd: [/usr/bin/app]}\n");
    let (words, answer) = gate(&project, 1);
    for part in [
        "`/etc/app.conf` (recipes/base.yaml:5): a password in `api_key` in line 1",
        "a password in `api_key` in line 1, removed but still in a layer of `base`",
        "the image `base` may not be handed on",
        "hint: ",
    ] {
        assert!(words.contains(part), "`{part}` is missing:\n{words}");
    }
    assert_eq!(answer["images"][1]["passed"], false);
    let why = "gates:\n  secrets: [{path: /etc/app.conf, why: the key opens a test server only}]\n";
    edit(&project.path().join("parvis.yaml"), |text| format!("{text}{why}"));
    let (words, _) = gate(&project, 0);
    assert!(words.contains("1 allowed") && !words.contains("note: "), "{words}");
    let all = project.run(&["gate", "web", "--all"], 0).out;
    assert!(all.contains("why: the key opens a test server only"), "{all}");
    edit(&project.path().join("recipes/base.yaml"), |text| text.split("files:").next().unwrap().to_owned());
    site(&project, "config: {user: '33:33', cmd: [/usr/bin/app]}\n");
    let (words, answer) = gate(&project, 0);
    assert!(words.contains("no image needs the exception for `/etc/app.conf`: take it out"), "{words}");
    assert_eq!(answer["idle"][0]["what"], "/etc/app.conf");
}

#[test]
fn each_gate_is_closed_by_what_it_is_there_for() {
    let repo = world::archive();
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    site(&project, "config: {user: '33:33'}\n");
    project.run(&["lock"], 0);
    let elf = "7f454c46020101000000000000000000020028000100000000000000";
    let elf: Vec<u8> = (0..elf.len()).step_by(2).map(|at| u8::from_str_radix(&elf[at..at + 2], 16).unwrap()).collect();
    project.write("images/web/tool", "");
    std::fs::write(project.path().join("images/web/tool"), elf).unwrap();
    let config = "config: {user: '33:33', cmd: [a]";
    let file = |rest: &str| format!("files:\n  - {{{rest}, owner: 'root:root'}}\n{config}}}\n");
    for (gate_name, recipe, words) in [
        ("secrets", format!("{config}, env: {{DB_PASSWORD: hunter2}}}}\n"), "recipes/web.yaml:3: `DB_PASSWORD` is set"),
        ("secrets", file("text: 'x', to: /root/.netrc, mode: '0600'"), "`/root/.netrc` (recipes/web.yaml:4)"),
        (
            "privileges",
            file("text: x, to: /usr/bin/x, mode: '4755'"),
            "`/usr/bin/x` (recipes/web.yaml:4): mode 4755, runs as user 0",
        ),
        ("root", "config: {cmd: [a]}\n".to_owned(), "no user is named: it runs as root"),
        ("root", "config: {cmd: [a], user: '0:33'}\n".to_owned(), "recipes/web.yaml:3: it runs as `0:33`, which is root"),
        ("health", format!("{config}, ports: [80]}}\n"), "it has no health check, and it listens on port 80/tcp"),
        ("architecture", file("from: tool, to: /usr/bin/tool, mode: '0755'"), "a program for armhf in an image for `linux/"),
    ] {
        site(&project, &recipe);
        let (said, answer) = gate(&project, 1);
        assert!(said.contains(words), "`{words}` is missing:\n{said}");
        let verdicts = answer["images"][1]["verdicts"].as_array().unwrap();
        let refused: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["outcome"] == "refused").collect();
        assert_eq!(refused.iter().map(|verdict| &verdict["gate"]).collect::<Vec<_>>(), [gate_name], "{said}");
    }
    site(&project, "config: {user: '33:33', cmd: [a]}\n");
    edit(&project.path().join("parvis.yaml"), |text| format!("{text}{}", BUDGET.replace("1 GB", "1 kB")));
    let (said, _) = gate(&project, 1);
    assert!(said.contains("are to be downloaded; at most 1.0 kB were agreed on"), "{said}");
    edit(&project.path().join("parvis.yaml"), |text| {
        text.replace("1 kB", "1 GB").replace("security: false}", "security: false, support_until: 2020-01-01}")
    });
    let (said, _) = gate(&project, 1);
    assert!(said.contains("which got its last security fixes on 2020-01-01"), "{said}");
}

#[test]
fn what_is_refused_is_not_sent() {
    let repo = world::archive();
    let project = Project::on(&repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\nconfig: {cmd: [a]}\n");
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    // Nobody listens there: who tried to send would fail with another exit code.
    let push = ["push", "--to", "127.0.0.1:9/tests"];
    let said = project.run(&push, 1);
    assert!(said.err.contains("the image `base` may not be handed on: recipes/base.yaml:4: no user is named"), "{}", said.err);
    edit(&project.path().join("recipes/base.yaml"), |text| text.replace("cmd: [a]", "cmd: [a], user: '33'"));
    project.run(&["build"], 0);
    project.run(&push, 3);
}

#[test]
fn an_image_that_is_not_built_is_not_judged() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    let said = project.run(&["gate", "base"], 2);
    assert!(said.err.contains("`base` is not built") && said.err.contains("parvis build base"), "{}", said.err);
}
