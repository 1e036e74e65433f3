//! Bundles: read by every compose and YAML reader that the machine has, made by parvis from a project, started by their script.
//!
//! `PARVIS_TEST_COMPOSE` may name further compose programs, with blanks between them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use parvis::bundle::manifest::{BundledImage, Manifest};
use parvis::bundle::write::{self, File, Ingredients, image_variable};
use parvis::model::catalog::Catalog;
use parvis::model::digest::{BlobDigest, FileDigest};
use parvis::model::problem::Source;
use parvis::model::stack::Stack;
use parvis::model::yaml;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::kit::fakerepo::Repo;
use crate::kit::project::Project;
use crate::kit::user::User;
use crate::kit::world;

/// Returns the compose programs that this machine has.
fn composes() -> Vec<Vec<String>> {
    let works = |words: &Vec<String>| {
        let run = Command::new(&words[0]).args(&words[1..]).arg("version").stdin(Stdio::null()).output();
        run.is_ok_and(|output| output.status.success())
    };
    let named = std::env::var("PARVIS_TEST_COMPOSE").unwrap_or_default();
    let named = named.split_whitespace().map(|program| vec![program.to_owned()]);
    let usual = [&["docker", "compose"][..], &["docker-compose"], &["/usr/libexec/docker/cli-plugins/docker-compose"]];
    let usual = usual.iter().map(|words| words.iter().map(ToString::to_string).collect());
    let found: Vec<Vec<String>> = named.chain(usual).filter(works).collect();
    assert!(!found.is_empty(), "this machine has no compose: apt-get install docker-compose");
    found
}

fn ok(output: &Output, what: &str) -> String {
    assert!(
        output.status.success(),
        "{what}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Reads YAML as `PyYAML` does, which is a reader of YAML 1.1.
fn by_python(text: &str) -> Value {
    let place = tempfile::NamedTempFile::new().unwrap();
    fs::write(place.path(), text).unwrap();
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))";
    let output = Command::new("/usr/bin/python3").args(["-c", program]).arg(place.path()).output().unwrap();
    serde_json::from_str(&ok(&output, "python3 with python3-yaml")).unwrap()
}

/// Reads a folder as compose does, and returns what it understood.
fn by_compose(words: &[String], folder: &Path) -> Value {
    let run = |further: &[&str]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--profile", "*", "config"]).args(further).current_dir(folder);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
    };
    // The first Compose prints only YAML, its successors' YAML is not everybody's: a bare `=`, for one.
    serde_json::from_slice(&run(&["--format", "json"]).stdout).unwrap_or_else(|_| by_python(&ok(&run(&[]), &words.join(" "))))
}

fn catalog() -> Catalog {
    let recipe = |name: &str| {
        let config = "config: {user: '33:33', ports: [443], health: {command: [ask]}}";
        let text = format!("description: x\nfrom: scratch\n{config}\n");
        (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &text))
    };
    Catalog::parse(["app", "db", "keys", "web"].map(recipe).into(), &BTreeMap::new()).unwrap()
}

fn bundle(stack: &str) -> Vec<File> {
    let catalog = catalog();
    let variables = BTreeMap::from([("web-root".to_owned(), "/app/web".to_owned())]);
    let source = Source::new("compose/parish.yaml", stack);
    let stack = Stack::parse(&"parish".parse().unwrap(), &source, &variables, &catalog).unwrap();
    let image = |name: &str| BundledImage {
        name: name.parse().unwrap(),
        variable: image_variable(&name.parse().unwrap()).unwrap(),
        reference: format!("example.org/parish/{name}:1.4.0"),
        manifest: BlobDigest::of(b"manifest"),
        config: BlobDigest::of(b"configuration"),
        size: 1000,
    };
    let images = ["app", "db", "keys", "web"].map(image);
    let ingredients = Ingredients {
        stack: &stack,
        catalog: &catalog,
        images: &images,
        version: &"1.4.0".parse().unwrap(),
        platform: "linux/amd64",
        archive: Some(FileDigest::of(b"archive")),
    };
    write::write(&ingredients).unwrap().0
}

fn put(files: &[File], folder: &Path) {
    for file in files {
        fs::write(folder.join(file.name), &file.bytes).unwrap();
    }
}

fn text(files: &[File], name: &str) -> String {
    String::from_utf8(files.iter().find(|file| file.name == name).unwrap().bytes.clone()).unwrap()
}

/// Values that some reader takes for something else than a text, and some hundred by chance.
fn values() -> Vec<String> {
    let known = [
        "no",
        "yes",
        "on",
        "off",
        "true",
        "null",
        "~",
        "12:30",
        "0440",
        "1e3",
        "0x1f",
        "1_000",
        ".5",
        ".inf",
        "2026-11-24",
        "..",
        "../x",
        "",
        " ",
        " a ",
        "a: b",
        "a #b",
        "#",
        "-",
        "- a",
        "? a",
        "'",
        "\"",
        "''",
        "\\",
        "a\\n",
        "$",
        "$$",
        "$HOME",
        "${HOME}",
        "$${HOME}",
        "${HOME:-x}",
        "{",
        "}",
        "[a]",
        "{a: b}",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "=",
        "<<",
        "---",
        "é",
        "L'Étoile",
        "日本",
        "🕊",
        "a\u{a0}b",
    ];
    let mut runner = TestRunner::deterministic();
    let strategy = "[a-z0-9'\"\\\\$#{}:,\\[\\]&*!|>%@`~?=<. é-]{0,10}";
    let random = (0..300).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    known.map(str::to_owned).into_iter().chain(random).collect()
}

#[test]
fn three_readers_and_every_compose_of_the_machine_read_what_was_meant() {
    let values = values();
    let name = |index: usize| format!("V{index}");
    let env: BTreeMap<String, String> =
        values.iter().enumerate().map(|(index, value)| (name(index), value.replace('$', "$$"))).collect();
    let command: Vec<&String> = values.iter().collect();
    let stack = format!(
        "description: x\nservices:\n  web:\n    image: web\n    command: {}\n    env: {}\n",
        serde_json::to_string(&command).unwrap(),
        serde_json::to_string(&env).unwrap()
    );
    let files = bundle(&stack);
    let folder = tempfile::tempdir().unwrap();
    put(&files, folder.path());
    let compose = text(&files, "compose.yaml");
    let strict: Value = yaml::parse(&Source::new("compose.yaml", &compose)).unwrap();
    let mut readers = vec![("the strict reader".to_owned(), strict), ("python".to_owned(), by_python(&compose))];
    readers.extend(composes().into_iter().map(|words| (words.join(" "), by_compose(&words, folder.path()))));
    for (reader, read) in readers {
        let web = &read["services"]["web"];
        for (index, value) in values.iter().enumerate() {
            // Compose prints what it would read again, so `$` is doubled there, too.
            let found = [&web["environment"][name(index)], &web["command"][index]]
                .map(|found| found.as_str().map(|text| text.replace("$$", "$")));
            assert_eq!(found, [Some(value.clone()), Some(value.clone())], "{reader} reads {value:?}");
        }
    }
}

#[test]
fn every_compose_of_the_machine_takes_defaults_and_settings_as_they_were_meant() {
    let values =
        ["localhost", "L'Étoile", "a \"b\"", "a $b", "$", "'a'", "\"a\"", "a #b", "12:30", "no", "", "é: {x}", "l'a$b", "}"];
    let parameter = |(index, value): (usize, &&str)| {
        format!("  p{index}: {{kind: text, default: {}, question: {{en: a, fr: b}}}}\n", json!(value))
    };
    let parameters: String = values.iter().enumerate().map(parameter).collect();
    let env: Vec<String> = (0..values.len()).map(|index| format!("V{index}: \"<${{p{index}}}>\"")).collect();
    let stack =
        format!("description: x\nparameters:\n{parameters}services:\n  web: {{image: web, env: {{{}}}}}\n", env.join(", "));
    let files = bundle(&stack);
    for words in composes() {
        let folder = tempfile::tempdir().unwrap();
        put(&files, folder.path());
        let web = &by_compose(&words, folder.path())["services"]["web"];
        for (index, value) in values.iter().enumerate() {
            let found = web["environment"][format!("V{index}")].as_str().unwrap().replace("$$", "$");
            assert_eq!(found, format!("<{value}>"), "{}", words.join(" "));
        }
        assert_eq!(web["image"], "example.org/parish/web:1.4.0");
    }
}

#[test]
fn every_compose_of_the_machine_understands_the_sample() {
    let files = bundle(include_str!("../../src/model/stack/sample.yaml"));
    for words in composes() {
        let folder = tempfile::tempdir().unwrap();
        put(&files, folder.path());
        fs::write(folder.path().join(".env"), text(&files, ".env").replace("PORT=8443", "PORT=9443")).unwrap();
        let read = by_compose(&words, folder.path());
        let services = &read["services"];
        let who = words.join(" ");
        assert_eq!(services["proxy"]["depends_on"]["web"]["condition"], "service_healthy", "{who}");
        assert_eq!(services["web"]["depends_on"]["update"]["condition"], "service_completed_successfully", "{who}");
        assert_eq!(services["keys"]["network_mode"], "none", "{who}");
        assert_eq!(read["networks"]["db"]["internal"], true, "{who}");
        assert!(serde_json::to_string(&services["proxy"]["ports"]).unwrap().contains("9443"), "{who}");
        let orders: Vec<&str> = services["keys"]["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let order = ["certificate", "proxy", "outside", "server", "localhost", "proxy,localhost,127.0.0.1"];
        assert!(orders.windows(order.len()).any(|words| words == order), "{who}: {orders:?}");
        for (name, service) in services.as_object().unwrap() {
            assert_eq!(service["read_only"], true, "{who}: {name}");
            assert_eq!(service["cap_drop"], json!(["ALL"]), "{who}: {name}");
            assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{who}: {name}");
        }
    }
}

const STACK: &str = "description: A site.
parameters:
  port: {kind: port, default: 8443, question: {en: Which port?, fr: Quel port ?}}
secrets: {admin: {}}
services:
  keys: {image: keys, job: every, makes_keys: true}
  update: {image: web, job: upgrade, secrets: [admin], uses: [web]}
  web: {image: web, secrets: [admin], publish: [{port: 443, as: \"${port}\"}]}
login: {user: admin, secret: admin, service: web, url: \"https://localhost:${port}/\"}
";

/// A project with a stack of two images.
fn project() -> (Repo, Project) {
    let archive = world::archive();
    let project = Project::on(&archive);
    for name in ["keys", "web"] {
        let config = "config: {user: \"33:33\", cmd: [/bin/true], ports: [443], health: {command: [/bin/true]}}";
        project.recipe(name, &format!("description: A small image.\nfrom: scratch\nfiles: [{{text: x, to: /x, owner: \"0:0\", mode: \"0444\"}}]\n{config}\n"));
    }
    project.write("compose/site.yaml", STACK);
    (archive, project)
}

fn built() -> (Repo, Project) {
    let (archive, project) = project();
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    (archive, project)
}

/// Returns every file of a folder with its mode.
fn contents(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        (path.file_name().unwrap().to_str().unwrap().to_owned(), (mode, fs::read(&path).unwrap()))
    };
    entries.map(read).collect()
}

#[test]
fn a_bundle_appears_whole_and_keeps_what_is_not_its_own() {
    let (_archive, project) = built();
    let said = project.run(&["bundle", "compose", "--with-images", "--tag", "1.4.0", "--json"], 0);
    let folder = project.path().join("out/bundle/site");
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&answer["name"], &answer["version"]), (&json!("site"), &json!("1.4.0")));
    let first = contents(&folder);
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, [".env", "LISEZMOI.md", "README.md", "bundle.json", "compose.yaml", "images.tar", "start.sh"]);
    let manifest = Manifest::parse(&first["bundle.json"].1).unwrap();
    for (name, digest) in &manifest.files {
        assert_eq!(FileDigest::of(&first[name].1), *digest, "{name}");
    }
    assert_eq!(manifest.image(&"web".parse().unwrap()).unwrap().reference, "tests/web:1.4.0");

    let settings = String::from_utf8(first[".env"].1.clone()).unwrap();
    fs::write(folder.join(".env"), settings.replace("PORT=8443", "PORT=9443")).unwrap();
    fs::write(folder.join("database.sql"), "rows").unwrap();
    project.run(&["bundle", "compose", "--tag", "1.4.1"], 0);
    let second = contents(&folder);
    let settings = String::from_utf8(second[".env"].1.clone()).unwrap();
    assert!(settings.contains("\nPORT=9443\n") && settings.contains("web:1.4.1@sha256:"), "{settings}");
    assert_eq!(second["database.sql"].1, b"rows");
    assert!(!second.contains_key("images.tar"), "an archive that belongs to the earlier bundle is gone");
    assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn the_same_project_gives_the_same_bundle_whoever_makes_it_and_wherever() {
    let (_archive, project) = built();
    let make = |place: &Path, user: Option<&User>, umask: &str, zone: &str| {
        let folder = place.join("bundle");
        let inner = project.parvis(&["bundle", "compose", "--with-images", "--output", folder.to_str().unwrap()]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("TZ", zone).env("LC_ALL", "C.UTF-8");
        let mut command = match user {
            Some(user) => user.command(&command),
            None => command,
        };
        ok(&command.output().unwrap(), "parvis bundle");
        contents(&folder)
    };
    let place = tempfile::tempdir().unwrap();
    let first = make(place.path(), None, "022", "UTC");
    let other = tempfile::tempdir().unwrap();
    assert!(first == make(other.path(), None, "077", "Pacific/Kiritimati"));
    if let Some(user) = User::new(false) {
        let third = tempfile::tempdir().unwrap();
        user.own(third.path());
        user.own(&project.store());
        assert!(first == make(third.path(), Some(&user), "027", "Europe/Paris"));
    }
}

#[test]
fn a_foreign_folder_is_left_alone_and_mistakes_are_named() {
    let (_archive, project) = project();
    let error = |arguments: &[&str], code: i32| project.run(arguments, code).err;
    assert_eq!(error(&["bundle", "compose", "sit"], 2), "error: the project has no stack `sit`\nhint: did you mean `site`?\n");
    project.run(&["lock"], 0);
    assert_eq!(
        error(&["bundle", "compose"], 1),
        "error: the image `keys` is not built, or not as the recipes are now\nhint: run `parvis build keys`\n"
    );
    assert!(!project.path().join("out/bundle/site").exists());
    project.run(&["build"], 0);
    let foreign = project.path().join("mine");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "x").unwrap();
    let shown = foreign.display();
    assert_eq!(
        error(&["bundle", "compose", "-o", foreign.to_str().unwrap()], 2),
        format!(
            "error: `{shown}` exists and holds no bundle of `site`\nhint: name another folder with `--output`; nothing there was touched\n"
        )
    );
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    project.write("compose/site.yaml", &STACK.replace("secrets: [admin], publish", "secrets: [amin], publish"));
    let said = error(&["bundle", "compose"], 2);
    assert!(said.contains("--> compose/site.yaml:8:31") && said.ends_with("hint: did you mean `admin`?\n"), "{said}");
    project.write("compose/other.yaml", STACK);
    assert_eq!(error(&["bundle", "compose"], 2), "error: the project has several stacks\nhint: name one of `other`, `site`\n");
}

#[test]
fn a_stack_that_belongs_to_another_profile_is_neither_checked_nor_taken() {
    let (_archive, project) = project();
    let settings = project.read("parvis.yaml");
    project.write("parvis.yaml", &format!("{settings}\ndefault_profile: small\nprofiles: {{small: {{}}, large: {{}}}}\n"));
    project.write("compose/site.yaml", &format!("profile: small\n{STACK}"));
    // With the variables and images of the profile `small`, this one makes no sense.
    let large = STACK.replace("image: keys", "image: others");
    assert_ne!(large, STACK);
    project.write("compose/large.yaml", &format!("profile: large\n{large}"));
    project.run(&["check"], 0);
    let said = project.run(&["check", "--profile", "large"], 2).err;
    assert!(said.contains("--> compose/large.yaml:"), "{said}");
    let error = |arguments: &[&str]| project.run(arguments, 2).err;
    assert_eq!(
        error(&["bundle", "compose", "large"]),
        "error: the stack `large` belongs to the profile `large`, not to `small`\nhint: add `--profile large`\n"
    );
    // The only one of the profile is taken, and one without a profile is for all of them.
    project.run(&["lock"], 0);
    assert!(project.run(&["bundle", "compose"], 1).err.contains("is not built"), "the stack `site` was taken");
    project.write("compose/large.yaml", STACK);
    assert_eq!(error(&["bundle", "compose"]), "error: the project has several stacks\nhint: name one of `large`, `site`\n");
    project.write("compose/large.yaml", &format!("profile: larg\n{STACK}"));
    let said = error(&["check"]);
    assert!(said.contains("the project has no profile `larg`") && said.ends_with("hint: did you mean `large`?\n"), "{said}");
    project.write("compose/large.yaml", &format!("profile: large\n{STACK}"));
    project.write("compose/site.yaml", &format!("profile: large\n{STACK}"));
    assert!(error(&["bundle", "compose"]).starts_with("error: no stack belongs to the profile `small`\nhint: describe it"));
}

/// Runs the script of a bundle with a docker that says what it is told to.
fn start(folder: &Path, tools: &Path, language: &str) -> (Output, String) {
    let log = tools.join("log");
    let _ = fs::remove_file(&log);
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let mut command = Command::new("/bin/sh");
    command.arg(folder.join("start.sh")).env_clear().env("PATH", path).env("LANG", language).env("LOG", &log);
    (command.output().unwrap(), fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn the_script_runs_only_what_was_built() {
    let files = bundle(STACK);
    let folder = tempfile::tempdir().unwrap();
    put(&files, folder.path());
    fs::write(folder.path().join("images.tar"), "archive").unwrap();
    let tools = tempfile::tempdir().unwrap();
    // Before the load no image is there; after it, the Id is that of the configuration, or what the test says.
    let docker = |id: &str, running: &str| {
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> \"$LOG\"\ncase \"$*\" in\n'compose ps'*) echo '{running}';;\n'image inspect'*) grep -q ^load \"$LOG\" || exit 1; echo '{id}';;\nesac\n"
        );
        fs::write(tools.path().join("docker"), script).unwrap();
        fs::set_permissions(tools.path().join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let id = BlobDigest::of(b"configuration").to_string();
    docker(&id, "");
    let (output, log) = start(folder.path(), tools.path(), "C");
    let said = ok(&output, "start.sh");
    assert!(said.contains("open https://localhost:8443/ and log in as admin"), "{said}");
    assert!(log.contains("load -q -i images.tar\n") && log.ends_with("compose up -d\n") && !log.contains(" run "), "{log}");
    let settings = fs::read_to_string(folder.path().join(".env")).unwrap();
    assert!(settings.contains(&format!("\nPARVIS_IMAGE_WEB={id}\n")) && settings.contains("\nPORT=8443\n"), "{settings}");

    assert!(said.ends_with("\ndocker compose run --rm --no-deps -T --entrypoint cat web /keys/admin\n"), "{said}");

    docker(&id, "something runs");
    let (output, log) = start(folder.path(), tools.path(), "C");
    ok(&output, "start.sh");
    let order: Vec<usize> = ["-T keys\n", "-T update\n", "up -d\n"].iter().map(|part| log.find(part).unwrap()).collect();
    assert!(order.is_sorted(), "{log}");

    docker(&BlobDigest::of(b"another image of that name").to_string(), "");
    let (output, log) = start(folder.path(), tools.path(), "fr_FR.UTF-8");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !log.contains("up -d"), "{log}");
    assert!(said.starts_with("erreur : ces images ne sont pas celles de ce paquet : example.org/parish/keys:1.4.0"), "{said}");

    // Where compose is a program of its own, it is called and named by that name.
    docker(&id, "");
    let plugin = fs::read_to_string(tools.path().join("docker")).unwrap();
    let alone = plugin.replacen("case", "[ \"$1\" != compose ] || exit 1\ncase", 1);
    fs::write(tools.path().join("docker"), alone).unwrap();
    fs::write(tools.path().join("docker-compose"), plugin.replace("$*", "compose $*")).unwrap();
    fs::set_permissions(tools.path().join("docker-compose"), fs::Permissions::from_mode(0o755)).unwrap();
    let (output, log) = start(folder.path(), tools.path(), "C");
    let said = ok(&output, "start.sh");
    assert!(said.ends_with("\ndocker-compose run --rm --no-deps -T --entrypoint cat web /keys/admin\n"), "{said}");
    assert!(log.ends_with("compose up -d\n"), "{log}");

    docker(&id, "");
    fs::write(folder.path().join("images.tar"), "cut short").unwrap();
    let (output, log) = start(folder.path(), tools.path(), "C");
    assert!(!output.status.success() && !log.contains("load -q"), "{log}");
    fs::write(folder.path().join("compose.yaml"), "services: {}").unwrap();
    let (output, _) = start(folder.path(), tools.path(), "C");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "error: compose.yaml was changed or is not whole; download it again\n");
}
