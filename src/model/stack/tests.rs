//! Tests of reading stack files.

use super::*;
use crate::model::catalog::Catalog;
use crate::model::problem::{Problem, Source};

fn catalog() -> Catalog {
    let recipe = |name: &str| {
        let text = format!("description: x\nfrom: scratch\n# {name}\n");
        (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &text))
    };
    Catalog::parse(["db", "keys", "web", "app"].map(recipe).into(), &BTreeMap::new()).unwrap()
}

fn read(text: &str) -> Result<Stack, Problem> {
    let variables = BTreeMap::from([("web-root".to_owned(), "/app/web".to_owned())]);
    Stack::parse(&"parish".parse().unwrap(), &Source::new("compose/parish.yaml", text), &variables, &catalog())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let problem = read(text).expect_err(text);
    let hint = problem.hint.as_deref().unwrap_or("-");
    assert_eq!(format!("{}:{}: {} | {hint}", problem.line, problem.column, problem.message), expected, "{}", problem.render());
}

/// Refuses one service with these further lines.
#[track_caller]
fn service_refused(lines: &str, expected: &str) {
    let lines = lines.replace('\n', "\n    ");
    refused(&format!("{HEAD}services:\n  web:\n    image: web\n    {lines}\n"), expected);
}

const HEAD: &str = "description: x
parameters:
  name: {kind: host, default: localhost, question: {en: a, fr: b}}
  port: {kind: port, default: 8443, question: {en: a, fr: b}}
authorities: [inside]
secrets: {admin: {}}
volumes: {files: {description: x}}
";

const SAMPLE: &str = include_str!("sample.yaml");

#[test]
fn a_whole_stack_is_read_in_start_order() {
    let stack = read(SAMPLE).unwrap();
    let order: Vec<String> = stack.services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(order, ["keys", "db", "init", "update", "web", "proxy", "tools", "cron"]);
    let after = |name: &str| stack.service(name).unwrap().after.iter().map(PartName::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(after("keys"), "");
    assert_eq!(after("db"), "keys");
    assert_eq!(after("init"), "keys db");
    assert_eq!(after("update"), "keys db init");
    assert_eq!(after("web"), "keys db init update");
    assert_eq!(after("cron"), "db init update", "it has no keys");
    assert_eq!(after("proxy"), "keys web");
    assert_eq!(after("tools"), "keys db", "no job by hand waits for other jobs");
    let proxy = stack.service("proxy").unwrap();
    assert_eq!((proxy.memory, proxy.pids, proxy.stop_grace, proxy.scratch_size), (256 << 20, 64, 30, 64 << 20));
    assert_eq!(proxy.publish[0].outside, Outside::Parameter("port".parse().unwrap()));
    assert_eq!(proxy.publish[0].address, Outside::Fixed("127.0.0.1".into()));
    let names: Vec<String> =
        proxy.certificates[0].names.iter().map(|name| name.fill(str::to_owned, |name| format!("<{name}>"))).collect();
    assert_eq!(names, ["proxy", "<server-name>", "127.0.0.1"]);
    assert_eq!(proxy.certificates[1].common_name.fill(str::to_owned, |_| String::new()), "proxy");
    let url = &stack.login.as_ref().unwrap().url;
    assert_eq!(url.fill(str::to_owned, |name| format!("<{name}>")), "https://<server-name>:<port>/");
    let env = &stack.service("web").unwrap().env;
    assert_eq!(env["ROOT"].fill(str::to_owned, |_| String::new()), "/app/web");
    assert_eq!(env["DB_PORT"].fill(str::to_owned, |_| String::new()), "3306");
    let names: Vec<&str> = stack.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["server-name", "port", "parish-name"], "questions come in the order of the file");
    assert_eq!(stack.services.iter().map(|service| service.line).max(), Some(62));
}

#[test]
fn unknown_and_doubled_keys_are_refused() {
    refused("description: x\nservces: {}\n", "2:1: unknown key `servces` | did you mean `services`?");
    service_refused("comand: [a]", "11:5: unknown key `comand` | did you mean `command`?");
    service_refused("image: web", "11:5: the key `image` stands here twice | keep one of them");
    service_refused("job: sometimes", "11:10: `sometimes` is not one of `every`, `install`, `upgrade`, `manual` | -");
}

#[test]
fn names_that_stand_for_nothing_are_refused() {
    service_refused("uses: [dp]", "11:12: the stack has no service `dp` | the only service is `web`");
    service_refused("secrets: [admn]", "11:15: the stack has no secret `admn` | did you mean `admin`?");
    service_refused("trusts: [outside]", "11:14: the stack has no authority `outside` | the only authority is `inside`");
    service_refused(
        "mounts: [{volume: photos, at: /photos}]",
        "11:23: the stack has no volume `photos` | the only volume is `files`",
    );
    service_refused(
        "env: {A: '${nam}'}",
        "11:15: neither a parameter of the stack nor a variable of the profile is called `nam` | did you mean `name`?",
    );
    refused("description: x\nservices:\n  web: {image: wob}\n", "3:16: the project has no image `wob` | did you mean `web`?");
    refused(
        "description: x\nservices:\n  ../web: {image: web}\n",
        "3:3: `../web` is not a name in a stack: lowercase letters, digits and `-`, starting with a letter and not ending with \
         `-`, at most 63 | -",
    );
}

#[test]
fn parameters_have_values_of_their_kind_and_names_of_their_own() {
    let parameter = |rest: &str| format!("description: x\nparameters:\n  {rest}, question: {{en: a, fr: b}}}}\nservices: {{}}\n");
    refused(
        &parameter("port: {kind: port, default: 99999"),
        "3:31: `99999` is not a value for `port` | a value is a number from 1 to 65535",
    );
    refused(
        &parameter("address: {kind: address, default: 127.1"),
        "3:28: expected a whole number, or a text, found floating point `127.1` | -",
    );
    refused(
        &parameter("compose-file: {kind: text, default: x"),
        "3:3: `COMPOSE_FILE` is a variable of the shell, of docker or of compose | choose another name for the parameter",
    );
    refused(
        &parameter("web-root: {kind: text, default: x"),
        "3:3: `web-root` is already a variable of the profile | `${…}` could mean either: rename the parameter",
    );
    refused(
        &parameter("name: {kind: text, default: \"a\\nb\""),
        "3:31: `a\\u{a}b` is not a value for `name` | a value is at most 400 characters on one line",
    );
    for (kind, good, bad) in [
        (
            ParameterKind::Host,
            &["localhost", "a.example.org", "10.0.0.1"][..],
            &["", "..", "a..b", "-a", "a_b", "1.2.3", "a b", "A", "a.1"][..],
        ),
        (ParameterKind::Port, &["1", "65535"], &["0", "65536", "+1", "01", ""]),
        (ParameterKind::Address, &["0.0.0.0", "127.0.0.1"], &["::1", "localhost", "1.2.3.04", "1.2.3"]),
        (ParameterKind::Mail, &["", "a@example.org"], &["a", "a@", "@b", "a b@c", "a@b\n"]),
        (ParameterKind::Login, &["admin", "a.b@c"], &["", "-a", "a b", "a$b", "a:b"]),
        (ParameterKind::Zone, &["Europe/Paris", "Etc/GMT+1"], &["", "/etc/passwd", "a b"]),
        (ParameterKind::Number, &["0", "15"], &["", "1.5", "-1"]),
        (ParameterKind::Text, &["", "L'Étoile", "a $b \"c\""], &[" a", "a\nb", "a\u{202e}", "a\\b", "${A}"]),
    ] {
        for value in good {
            assert!(kind.check(value).is_ok(), "{kind:?} {value:?}");
        }
        for value in bad {
            assert!(kind.check(value).is_err(), "{kind:?} {value:?}");
        }
    }
}

#[test]
fn what_waits_for_itself_is_refused() {
    let stack = |services: &str| format!("description: x\nservices:\n{services}");
    refused(&stack("  a: {image: web, uses: [a]}\n"), "3:26: `a` cannot wait for itself | remove it here");
    refused(
        &stack("  a: {image: web, uses: [b]}\n  b: {image: web, after: [c]}\n  c: {image: web, uses: [a]}\n"),
        "3:3: these wait for each other: a → b → c → a | one of them must start without the other",
    );
    // A job that uses two services does not come before one of them because of the other.
    let services = "  a: {image: web}\n  b: {image: web, uses: [a]}\n  j: {image: app, job: install, uses: [a, b]}\n";
    let order: Vec<String> = read(&stack(services)).unwrap().services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(order, ["a", "b", "j"]);
}

#[test]
fn jobs_end_and_services_stay() {
    let stack =
        |rest: &str| format!("description: x\nservices:\n  j: {{image: app, job: manual}}\n  a: {{image: web, {rest}}}\n");
    refused(
        &stack("uses: [j]"),
        "4:26: `j` is a job, which ends: nothing can talk to it | write it under `after` to wait for its end",
    );
    refused(
        &stack("after: [j]"),
        "4:27: `j` runs when somebody asks: nothing can wait for it | remove it here, or give it another `job`",
    );
    refused(&stack("job: every, publish: [{port: 80}]"), "4:41: `a` is a job, which ends: nobody could rely on its port | -");
}

#[test]
fn one_job_makes_the_keys() {
    service_refused(
        "secrets: [admin]",
        "9:3: nothing makes the keys of `web` | add a job with `job: every` and `makes_keys: true`",
    );
    service_refused(
        "makes_keys: true",
        "9:3: `web` makes keys, but not at each start | add `job: every`: it has to add what a new version needs",
    );
    service_refused(
        "makes_keys: true\njob: every\nsecrets: [admin]",
        "9:3: `web` makes the keys of others: it comes first and has none | remove its `uses`, `after`, `secrets`, `certificates` \
         and `trusts`",
    );
    service_refused(
        "makes_keys: true\njob: every\ncommand: [a]",
        "13:14: the command of the job that makes keys follows from the stack | remove `command`",
    );
    refused(
        "description: x\nservices:\n  a: {image: web, job: every, makes_keys: true}\n  b: {image: web, job: every, makes_keys: true}\n",
        "4:3: `a` makes keys already | keep `makes_keys` on one of them",
    );
}

#[test]
fn two_things_at_one_place_are_refused() {
    service_refused(
        "scratch: [/tmp, /tmp]",
        "11:21: `/tmp` is where a scratch folder stands, at `/tmp` | choose a place of its own",
    );
    service_refused(
        "mounts: [{volume: files, at: /var/lib}]\nscratch: [/var/lib/x]",
        "12:15: `/var/lib/x` is where the volume `files` stands, at `/var/lib` | choose a place of its own",
    );
    service_refused(
        "secrets: [admin]\nscratch: [/keys]",
        "12:15: `/keys` is where the keys stands, at `/keys` | choose a place of its own",
    );
    for (path, message) in [
        ("tmp", "`tmp` is not an absolute path | paths in the image start with `/`"),
        ("/", "`/` cannot be a mount path | use letters, digits, `.`, `_`, `-` and `+` between single `/`"),
        ("/a:b", "`/a:b` cannot be a mount path | use letters, digits, `.`, `_`, `-` and `+` between single `/`"),
        ("/a//b", "`/a//b` cannot be a mount path | use letters, digits, `.`, `_`, `-` and `+` between single `/`"),
        ("/proc/x", "`/proc/x` belongs to the kernel | -"),
    ] {
        service_refused(&format!("scratch: [{path}]"), &format!("11:15: {message}"));
    }
    let problem = read(&format!("{HEAD}services:\n  web: {{image: web, scratch: [/a/../b]}}\n")).unwrap_err();
    assert!(problem.message.contains(".."), "{problem}");
}

#[test]
fn one_port_belongs_to_one_service() {
    let stack = |one: &str, two: &str| {
        format!("{HEAD}services:\n  a: {{image: web, publish: [{one}]}}\n  b: {{image: web, publish: [{two}]}}\n")
    };
    refused(
        &stack("{port: 80, as: '${port}'}", "{port: 8443}"),
        "10:30: `a` is already published on the port 8443 | give each a port, or a parameter with a default, of its own",
    );
    read(&stack("{port: 80, address: 127.0.0.1}", "{port: 80, address: 127.0.0.2}")).unwrap();
    assert!(read(&stack("{port: 80, address: 127.0.0.1}", "{port: 80, address: 0.0.0.0}")).is_err());
    service_refused("publish: [{port: 0}]", "11:22: 0 is not a port | -");
    service_refused(
        "publish: [{port: 443, as: '${name}'}]",
        "11:31: `${name}` is not of the kind `port` | write `${name}` of a parameter with `kind: port`, and nothing else",
    );
    service_refused(
        "publish: [{port: 443, address: example.org}]",
        "11:36: `example.org` is not an IPv4 address | write one such as `127.0.0.1`, or `${name}` of a parameter of the kind \
         `address`",
    );
}

#[test]
fn certificates_are_one_of_a_kind_and_name_hosts() {
    service_refused(
        "certificates: [{authority: inside, as: server}, {authority: inside, as: server}]",
        "11:65: `web` has such a certificate of `inside` already | one certificate may have several `names`",
    );
    service_refused(
        "certificates: [{authority: inside, as: client, names: [a]}]",
        "11:60: a client has no names beside its common name | remove `names`, or write `as: server`",
    );
    for name in ["'*.example.org'", "'a,b'", "'${port}'", "'a ${name}'"] {
        let lines = format!("certificates: [{{authority: inside, as: server, names: [{name}]}}]");
        let text = format!("{HEAD}services:\n  web:\n    image: web\n    {lines}\n");
        let problem = read(&text).expect_err(name);
        assert!(problem.message.ends_with("is not a host name"), "{problem}");
    }
}

#[test]
fn rights_sizes_and_times_are_known_ones() {
    service_refused(
        "capabilities: [{add: NET_BIND_SERVIC}]",
        "11:26: `NET_BIND_SERVIC` is not a right of root | did you mean `NET_BIND_SERVICE`?",
    );
    service_refused("memory: 512", "11:13: `512` could be read as a number or as yes or no | put it in quotes: \"512\"");
    service_refused(
        "memory: 1M",
        "11:13: `1M` is not a size between 6M and 1024G | write a number with `M` or `G`, such as `512M`",
    );
    service_refused("pids: 0", "11:11: nothing runs with no process at all | -");
    service_refused(
        "stop_grace: 2 minutes",
        "11:17: `2 minutes` is not a duration of at most a day | write a number with `s`, `m` or `h`, such as `90s`",
    );
}

#[test]
fn a_value_has_one_line() {
    service_refused(
        "env: {A: \"a\\nb\"}",
        "11:14: the character U+000A stands in this text | write one line of what can be seen",
    );
    service_refused(
        "env: {a-b: x}",
        "11:11: `a-b` is not the name of a variable: capital letters, digits and `_`, starting with a letter, at most 64 | -",
    );
}

#[test]
fn the_login_and_the_backup_can_work() {
    let stack = |rest: &str| {
        format!(
            "{HEAD}services:\n  keys: {{image: keys, job: every, makes_keys: true}}\n  web: {{image: web, secrets: [admin]}}\n{rest}\n"
        )
    };
    refused(
        &stack("login: {user: a, secret: admin, service: keys, url: 'https://x/'}"),
        "11:42: `keys` does not get the secret `admin` | name a service that has `secrets: [admin]`",
    );
    refused(
        &stack("login: {user: a, secret: admin, service: web, url: 'javascript:x'}"),
        "11:52: `javascript:x` is not the address of a page | -",
    );
    refused(
        &stack("login: {user: a$, secret: admin, service: web, url: 'https://x/'}"),
        "11:15: `a$` has a `$` that stands for no parameter | remove it",
    );
    refused(
        &stack("backup: [{file: ../x, volume: files}]"),
        "11:17: `../x` is not the name of a file | use letters, digits, `.`, `_` and `-`, such as `database.sql`",
    );
    refused(
        &stack("backup: [{file: x, volume: files}]"),
        "11:28: no service can write to the volume `files` | mount it in one of them: that one's image makes the backup",
    );
    refused(
        &stack("backup: [{file: x, volume: files, service: web}]"),
        "11:10: a file of a backup has either `service`, `save` and `restore`, or `volume` | -",
    );
    refused(&stack("backup: [{file: x, service: web, save: [--x], restore: [load]}]"), "11:41: `--x` is not a program | -");
}

#[test]
fn a_problem_is_drawn_in_its_file() {
    let problem = read("description: x\nservices:\n  web:\n    image: web\n    uses: [dp]\n").unwrap_err();
    let expected = "error: the stack has no service `dp`
 --> compose/parish.yaml:5:12
  |
5 |     uses: [dp]
  |            ^^";
    assert_eq!(problem.render(), expected);
}

#[test]
fn the_schema_takes_the_sample_and_no_unknown_key() {
    let schema = Stack::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let sample: serde_json::Value = crate::model::yaml::parse(&Source::new("x", SAMPLE)).unwrap();
    let errors: Vec<String> = validator.iter_errors(&sample).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut wrong = sample;
    wrong["services"]["web"]["wombat"] = true.into();
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn a_notice_is_shown_by_a_service_that_can_keep_it() {
    let rule = |text: &str| format!("{SAMPLE}maintenance: {{{text}}}\n");
    let stack = read(&rule("service: db, begin: [notice, \"on\"], end: [notice, \"off\"]")).unwrap();
    let read = stack.maintenance.unwrap();
    assert_eq!((read.service.as_str(), read.end.join(" ").as_str(), read.check), ("db", "notice off", None));
    let line = SAMPLE.lines().count() + 1;
    let cases = [
        (
            "service: web, begin: [a], end: [b]",
            "24: `web` has no volume to keep the notice in | mount one that it can write to: the notice must outlive its containers",
        ),
        ("service: init, begin: [a], end: [b]", "24: `init` is a job, which answers nobody | -"),
        ("service: db, begin: [-a], end: [b]", "36: `-a` is not a program | -"),
        ("service: db, begin: [a]", "28: the key `end` is missing | -"),
    ];
    for (text, expected) in cases {
        refused(&rule(text), &format!("{line}:{expected}"));
    }
}
