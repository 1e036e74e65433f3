//! Each gate broken once.

use super::*;
use crate::model::digest::FileDigest;
use crate::model::problem::Source;
use crate::model::tree::Origin;

const SU: &str = "privileges: [{path: /usr/bin/su, mode: '4755', why: containers may not gain privileges}]";

/// An image in order, which each test spoils in one way.
struct World {
    gates: &'static str,
    recipe: &'static str,
    tree: Tree,
    user: &'static str,
    uid: Option<u32>,
    starts: bool,
    health: bool,
    service: bool,
    variables: BTreeMap<String, String>,
    bytes: u64,
    platform: &'static str,
    foreign: Vec<(TreePath, String)>,
    suspicions: Vec<Suspicion>,
    today: Date,
}

impl World {
    fn new() -> Self {
        Self {
            gates: "size: [{image: web, most: 50 MB}]",
            recipe: "description: x\nfrom: scratch\npackages: [php]\nconfig:\n  cmd: [a]\n  user: '33:33'\n  env:\n    DB_PASSWORD: x\n",
            tree: Tree::new(),
            user: "33:33",
            uid: Some(33),
            starts: true,
            health: true,
            service: true,
            variables: BTreeMap::new(),
            bytes: 50_000_000,
            platform: "linux/amd64",
            foreign: Vec::new(),
            suspicions: Vec::new(),
            today: jiff::civil::date(2026, 11, 24),
        }
    }

    fn file(&mut self, at: &str, mode: u16, origin: Origin) {
        self.tree.put(path(at), Entry::file(FileDigest::of(b"x"), 1, mode, 0, origin));
    }

    fn project(&self) -> Project {
        let key = "0123456789ABCDEF0123456789ABCDEF01234567";
        let head = format!("name: a\ndescription: x\nkeyring: k\nkeys: [{key}]\n");
        let suites = "suites:\n  - {name: trixie, archive: debian, support_until: 2028-08-09}\n";
        let profiles = "profiles: {small: {}, large: {}}\n";
        let text = format!("{head}{suites}{profiles}gates:\n  {}\n", self.gates);
        Project::parse("parvis.yaml", &text).unwrap_or_else(|problem| panic!("{}", problem.render()))
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let source = Source::new("recipes/web.yaml", self.recipe);
        let image: ImageName = "web".parse().unwrap();
        let catalog = Catalog::parse(vec![(image.clone(), source)], &BTreeMap::new()).unwrap();
        let facts = Facts {
            image: &image,
            profile: Some("small"),
            tree: &self.tree,
            user: self.user,
            uid: self.uid,
            starts: self.starts,
            has_health_check: self.health,
            service: self.service.then(|| "it has the port 80".to_owned()),
            variables: &self.variables,
            bytes: self.bytes,
            platform: self.platform,
            expected_platform: "linux/amd64",
            foreign: &self.foreign,
            suspicions: &self.suspicions,
            suites: &BTreeMap::from([("trixie".parse().unwrap(), 3)]),
        };
        judge(&facts, &self.project(), &catalog, self.today)
    }

    /// Returns what the gates say that do not simply let pass.
    fn said(&self) -> Vec<(Gate, Outcome, String)> {
        let verdicts = self.verdicts();
        for verdict in &verdicts {
            let refused = verdict.outcome == Outcome::Refused;
            assert!(!refused || verdict.hint.is_some(), "a refusal says what to do: {verdict:?}");
            assert_eq!(verdict.why.is_some(), verdict.outcome == Outcome::Allowed, "{verdict:?}");
        }
        let say = |verdict: Verdict| {
            let place = [verdict.path, verdict.origin].into_iter().flatten().collect::<Vec<_>>().join(" of ");
            (verdict.gate, verdict.outcome, place)
        };
        verdicts.into_iter().filter(|verdict| verdict.outcome != Outcome::Passed).map(say).collect()
    }

    #[track_caller]
    fn says(&self, gate: Gate, outcome: Outcome, place: &str) {
        assert_eq!(self.said(), [(gate, outcome, place.to_owned())]);
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn package(name: &str) -> Origin {
    Origin::Package(name.parse().unwrap())
}

fn recipe() -> Origin {
    Origin::Recipe { image: "web".parse().unwrap(), line: 3 }
}

#[test]
fn an_image_in_order_passes_every_gate() {
    let verdicts = World::new().verdicts();
    assert_eq!(verdicts.iter().map(|verdict| verdict.gate).collect::<Vec<_>>(), Gate::ALL);
    assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Passed), "{verdicts:?}");
}

#[test]
fn a_variable_that_holds_a_secret_is_refused_with_the_line_of_the_recipe() {
    let mut world = World::new();
    world.variables.insert("DB_PASSWORD".into(), "hunter2".into());
    world.says(Gate::Secrets, Outcome::Refused, "recipes/web.yaml:8");
    world.gates = "secrets: [{variable: DB_PASSWORD, why: the database listens to nobody}]";
    world.says(Gate::Secrets, Outcome::Allowed, "recipes/web.yaml:8");
    for (name, value) in [("DB_PASSWORD_FILE", "/run/secrets/db"), ("DB_PASSWORD", ""), ("SESSION_KEY", "/keys/session")] {
        world.variables = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(world.said(), [], "{name}");
    }
}

#[test]
fn a_file_that_holds_a_secret_is_refused_with_who_put_it_there() {
    let mut world = World::new();
    world.file("etc/app.conf", 0o644, recipe());
    world.suspicions.push(Suspicion {
        path: path("etc/app.conf"),
        what: "a token of GitHub".into(),
        line: Some(4),
        origin: recipe().in_words(),
        hidden_in: None,
    });
    world.says(Gate::Secrets, Outcome::Refused, "/etc/app.conf of recipes/web.yaml:3");
    assert!(world.verdicts()[0].message.contains("a token of GitHub in line 4"));
    world.gates = "secrets: [{path: /etc/app.conf, images: [web], why: the token opens nothing}]";
    world.says(Gate::Secrets, Outcome::Allowed, "/etc/app.conf of recipes/web.yaml:3");
    world.gates = "secrets: [{path: /etc/app.conf, images: [other], why: the token opens nothing}]";
    world.says(Gate::Secrets, Outcome::Refused, "/etc/app.conf of recipes/web.yaml:3");
    world.suspicions[0].hidden_in = Some("base".parse().unwrap());
    assert!(world.verdicts()[0].message.ends_with("removed but still in a layer of `base`"));
}

#[test]
fn a_setuid_file_passes_only_by_its_path_and_its_whole_mode() {
    let mut world = World::new();
    world.file("usr/bin/su", 0o4755, package("util-linux"));
    world.says(Gate::Privileges, Outcome::Refused, "/usr/bin/su of package util-linux");
    world.gates = SU;
    world.says(Gate::Privileges, Outcome::Allowed, "/usr/bin/su of package util-linux");
    for mode in [0o6755, 0o4777, 0o2755] {
        world.file("usr/bin/su", mode, package("util-linux"));
        world.says(Gate::Privileges, Outcome::Refused, "/usr/bin/su of package util-linux");
    }
    world.file("usr/bin/su", 0o755, package("util-linux"));
    world.tree.put(path("var/mail"), Entry::directory(0o2775, package("base-files")));
    assert_eq!(world.said(), [], "a folder lends nobody anything");
}

#[test]
fn capabilities_are_read_and_allowed_by_name() {
    let mut world = World::new();
    let mut ping = Entry::file(FileDigest::of(b"x"), 1, 0o755, 0, package("iputils-ping"));
    // VFS_CAP_REVISION_2 with the effective bit, and cap_net_raw (13); then cap_bpf (39) beyond 32 bits.
    let value = |low: u32, high: u32| [0x0200_0001_u32, low, 0, high, 0].map(u32::to_le_bytes).concat();
    ping.xattrs.insert("security.capability".into(), value(1 << 13, 0));
    assert_eq!(capabilities(&ping), ["cap_net_raw"]);
    world.tree.put(path("usr/bin/ping"), ping.clone());
    world.says(Gate::Privileges, Outcome::Refused, "/usr/bin/ping of package iputils-ping");
    world.gates = "privileges: [{path: /usr/bin/ping, capabilities: [cap_net_raw], why: it asks hosts whether they live}]";
    world.says(Gate::Privileges, Outcome::Allowed, "/usr/bin/ping of package iputils-ping");
    ping.xattrs.insert("security.capability".into(), value(1 << 13, 1 << 7));
    assert_eq!(capabilities(&ping), ["cap_bpf", "cap_net_raw"]);
    world.tree.put(path("usr/bin/ping"), ping.clone());
    world.says(Gate::Privileges, Outcome::Refused, "/usr/bin/ping of package iputils-ping");
    ping.xattrs.insert("security.capability".into(), vec![1]);
    world.tree.put(path("usr/bin/ping"), ping);
    world.says(Gate::Privileges, Outcome::Refused, "/usr/bin/ping of package iputils-ping");
}

#[test]
fn what_runs_as_root_is_refused_by_name_number_and_silence() {
    let mut world = World::new();
    for (user, uid) in
        [("", Some(0)), ("0", Some(0)), ("0:33", Some(0)), ("root", Some(0)), ("toor", Some(0)), ("nobodyknows", None)]
    {
        (world.user, world.uid) = (user, uid);
        world.gates = "{}";
        world.says(Gate::Root, Outcome::Refused, "recipes/web.yaml:6");
        world.gates = "root: [{image: web, why: it binds its folders itself}]";
        world.says(Gate::Root, Outcome::Allowed, "recipes/web.yaml:6");
    }
    (world.user, world.starts) = ("", false);
    assert_eq!(world.said(), [], "what starts nothing runs as nobody");
}

#[test]
fn a_service_without_a_health_check_is_refused() {
    let mut world = World::new();
    world.health = false;
    world.says(Gate::Health, Outcome::Refused, "recipes/web.yaml:5");
    world.gates = "no_health_check: [{image: web, why: its port is for one request only}]";
    world.says(Gate::Health, Outcome::Allowed, "recipes/web.yaml:5");
    (world.gates, world.service) = ("{}", false);
    assert_eq!(world.said(), [], "a job ends and says how");
}

#[test]
fn an_image_above_its_budget_is_refused() {
    let mut world = World::new();
    world.bytes += 1;
    world.says(Gate::Size, Outcome::Refused, "parvis.yaml:9");
    world.gates = "size: [{image: web, most: 60 MB, profile: small}, {image: web, most: 50 MB}]";
    assert_eq!(world.said(), [], "the profile's own budget comes first");
    world.gates = "size: [{image: web, most: 60 MB}, {image: web, most: 50 MB, profile: large}]";
    assert_eq!(world.said(), []);
    world.gates = "{}";
    assert_eq!(world.said(), []);
}

#[test]
fn what_is_for_another_machine_is_refused() {
    let mut world = World::new();
    world.platform = "linux/arm64/v8";
    world.says(Gate::Architecture, Outcome::Refused, "");
    let mut world = World::new();
    world.file("usr/local/bin/tool", 0o755, recipe());
    world.foreign.push((path("usr/local/bin/tool"), "arm64".into()));
    world.says(Gate::Architecture, Outcome::Refused, "/usr/local/bin/tool of recipes/web.yaml:3");
}

#[test]
fn the_end_of_a_suite_is_said_half_a_year_before_and_is_the_end_the_day_after() {
    use jiff::civil::date;
    let mut world = World::new();
    for (day, outcome) in [
        (date(2028, 2, 7), None),
        (date(2028, 2, 8), Some(Outcome::Warned)),
        (date(2028, 8, 9), Some(Outcome::Warned)),
        (date(2028, 8, 10), Some(Outcome::Refused)),
        (date(2040, 1, 1), Some(Outcome::Refused)),
    ] {
        world.today = day;
        match outcome {
            None => assert_eq!(world.said(), [], "{day}"),
            Some(outcome) => world.says(Gate::Support, outcome, "parvis.yaml:6"),
        }
    }
    world.gates = "past_support: [{suite: trixie, until: 2028-12-31, why: the next one lacks a module}]";
    world.today = date(2028, 12, 31);
    world.says(Gate::Support, Outcome::Allowed, "parvis.yaml:6");
    world.today = date(2029, 1, 1);
    world.says(Gate::Support, Outcome::Refused, "parvis.yaml:6");
}

#[test]
fn an_exception_that_nothing_needs_is_named() {
    let mut world = World::new();
    world.gates = SU;
    let web: ImageName = "web".parse().unwrap();
    let gates = world.project().gates;
    let verdicts = world.verdicts();
    assert_eq!(idle(&gates, &[(&web, &verdicts)]), [(9, "`/usr/bin/su`".to_owned())]);
    world.file("usr/bin/su", 0o4755, package("util-linux"));
    assert_eq!(idle(&gates, &[(&web, &world.verdicts())]), []);
}
