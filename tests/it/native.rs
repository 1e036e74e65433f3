//! Native programs against the originals: the same calls in two copies of a Debian tree, which must stay the same tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use parvis::edge::sandbox::native::{Call, Reply, answer, programs};
use tempfile::TempDir;

/// The release whose programs are known.
const SUITE: &str = "trixie";

/// What the originals need, with what that needs.
const PACKAGES: [&str; 18] = [
    "bsdutils",
    "coreutils",
    "dash",
    "debconf",
    "debianutils",
    "dpkg",
    "findutils",
    "grep",
    "init-system-helpers",
    "libc-bin",
    "mawk",
    "perl",
    "perl-base",
    "php-common",
    "sed",
    "tar",
    "ucf",
    "util-linux",
];

/// Packages of which only the files are needed.
const ALONE: [&str; 1] = ["apache2"];

/// Runs a shell command of the test's own.
fn sh(script: &str, arguments: &[&Path]) -> Option<Output> {
    let output = Command::new("sh").args(["-euc", script, "sh"]).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(output)
}

/// Returns the mirror that this machine takes its own release from.
fn mirror() -> Option<String> {
    let about = fs::read_to_string("/etc/os-release").ok()?;
    let codename = about.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> = folder.chain([PathBuf::from("/etc/apt/sources.list")]).collect();
    let text: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    // A paragraph of the newer form and a line of the older one both name the mirror before the suite.
    let sources = text.iter().flat_map(|text| text.split("\n\n").chain(text.lines().filter(|line| line.starts_with("deb "))));
    sources.filter(|source| source.split_ascii_whitespace().any(|word| word == codename)).find_map(|source| {
        let lines = source.lines().filter(|line| line.starts_with("URIs:") || line.starts_with("deb "));
        lines.flat_map(str::split_ascii_whitespace).find(|word| word.contains("://")).map(str::to_owned)
    })
}

/// A Debian tree with the originals, in two copies.
struct Pair {
    place: TempDir,
}

impl Pair {
    /// Makes the trees, or nothing where a test may not: not root, no apt, no mirror.
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let place = tempfile::Builder::new().prefix("native-").tempdir().unwrap();
        let sources = place.path().join("sources.list");
        fs::write(&sources, format!("deb {} {SUITE} main\n", mirror()?)).unwrap();
        sh(DOWNLOAD.replace("PACKAGES", &PACKAGES.join(" ")).replace("ALONE", &ALONE.join(" ")).as_str(), &[place.path()])?;
        sh(UNPACK, &[place.path()]).expect("the packages unpack");
        Some(Self { place })
    }

    /// Makes both copies anew.
    fn reset(&self, prepare: impl Fn(&Path)) -> (PathBuf, PathBuf) {
        let trees = ["original", "native"].map(|name| self.place.path().join(name));
        for tree in &trees {
            sh(COPY, &[self.place.path(), tree]).unwrap();
            prepare(tree);
        }
        let [original, native] = trees;
        (original, native)
    }
}

const DOWNLOAD: &str = "
cd \"$1\"; mkdir -p lists/partial debs/partial cache
options=\"-qq -o Dir::Etc::SourceList=$1/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$1/lists
-o Dir::State::Status=/dev/null
-o Dir::Cache=$1/cache -o Dir::Cache::Archives=$1/debs -o APT::Sandbox::User=root -o Acquire::Languages=none
-o APT::Install-Recommends=false\"
apt-get $options update
apt-get $options -y --download-only install PACKAGES
cd debs; apt-get $options download ALONE
";

/// None of the programs writes below /usr: links will do there.
const COPY: &str = "
rm -rf \"$2\"; mkdir \"$2\"; cp -al \"$1/base/usr\" \"$2/\"
for f in \"$1\"/base/*; do [ \"$f\" = \"$1/base/usr\" ] || cp -a \"$f\" \"$2/\"; done
";

const UNPACK: &str = "
cd \"$1\"; mkdir -p base/usr/bin base/usr/sbin base/usr/lib base/usr/lib64 base/dev base/tmp base/run/lock base/var/lib/dpkg/info
for n in bin sbin lib lib64; do ln -s usr/$n base/$n; done
for d in debs/*.deb; do dpkg-deb --fsys-tarfile $d | tar -x -C base --keep-directory-symlink \\
--exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale; done
ln -s mawk base/usr/bin/awk; ln -sf /run base/var/run; ln -sf /run/lock base/var/lock
mknod -m 666 base/dev/null c 1 3; touch base/var/lib/dpkg/status; mkdir -p base/var/cache/debconf base/etc/systemd/system
printf 'root:x:0:0:root:/root:/bin/sh\\nwww-data:x:33:33::/:/bin/sh\\n' > base/etc/passwd
dpkg-deb -e debs/ucf_*.deb control; cp control/templates base/var/lib/dpkg/info/ucf.templates; : > base/var/lib/dpkg/info/ucf.list
(sed -n '/^Package:/p;/^Version:/p;/^Architecture:/p' control/control
printf 'Status: install ok installed\\nMaintainer: x <x@example.org>\\nDescription: x\\n\\n') > base/var/lib/dpkg/status
";

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// The environment of a maintainer script.
fn environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DPKG_MAINTSCRIPT_PACKAGE", "test"),
        ("DPKG_MAINTSCRIPT_NAME", "postinst"),
        ("DPKG_MAINTSCRIPT_ARCH", "amd64"),
        ("DPKG_ADMINDIR", "/var/lib/dpkg"),
        ("DPKG_ROOT", ""),
    ];
    pairs.map(|(name, value)| (name.into(), value.into())).to_vec()
}

/// Runs an original in a tree.
fn original(root: &Path, program: &str, arguments: &[&str]) -> Reply {
    let output = Command::new("sh")
        .args(["-c", "umask 022; root=$1; shift; exec chroot \"$root\" \"$@\"", "sh"])
        .arg(root)
        .arg("/usr/bin/env")
        .arg("-i")
        .args(environment().iter().map(|(name, value)| format!("{}={}", text(name), text(value))))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Reply { code: output.status.code().unwrap().try_into().unwrap(), stdout: output.stdout, stderr: output.stderr }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn native(root: &Path, program: &str, arguments: &[&str]) -> Option<Reply> {
    let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    let environment = environment();
    let call = Call { program, arguments: &arguments, environment: &environment, folder: b"/", umask: 0o022 };
    answer(root, &call)
}

/// Draws numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % count
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Two trees and what was seen of the calls in them.
struct Contest {
    original: PathBuf,
    native: PathBuf,
    history: String,
    answered: BTreeMap<String, [u32; 2]>,
}

impl Contest {
    fn new((original, native): (PathBuf, PathBuf)) -> Self {
        Self { original, native, history: String::new(), answered: BTreeMap::new() }
    }

    /// Changes both trees by hand.
    fn accident(&mut self, script: &str) {
        let _ = writeln!(self.history, "  accident: {script}");
        for tree in [&self.original, &self.native] {
            sh(&format!("umask 022; cd \"$1\"; {script}"), &[tree]).unwrap_or_else(|| panic!("{}", self.history));
        }
    }

    /// Makes a call on both sides and says whether the native program answered.
    fn call(&mut self, program: &str, arguments: &[&str]) -> bool {
        let _ = write!(self.history, "  {program} {arguments:?}");
        // What is only asked is asked of the same tree: the order of a folder's names is part of the answer.
        let asked = matches!(program, "phpquery" | "a2query" | "logger");
        let answer = native(&self.native, program, arguments);
        let expected = original(if asked { &self.native } else { &self.original }, program, arguments);
        self.answered.entry(program.to_owned()).or_default()[usize::from(answer.is_some())] += 1;
        let _ = writeln!(self.history, " -> {} {}", expected.code, if answer.is_some() { "native" } else { "original" });
        let answered = answer.is_some();
        let seen = answer.unwrap_or_else(|| original(&self.native, program, arguments));
        let show = |reply: &Reply| format!("{}\n{}\n{}", reply.code, text(&reply.stdout), text(&reply.stderr));
        assert_eq!(show(&seen), show(&expected), "the last of these calls differs:\n{}", self.history);
        answered
    }

    /// Makes a call that may not be left to the original.
    fn must(&mut self, program: &str, arguments: &[&str]) {
        assert!(self.call(program, arguments), "the last of these calls was left to the original:\n{}", self.history);
    }

    /// Ends the contest and says how often each native program had no answer.
    fn end(&self) {
        self.compare();
        for (program, [left, answered]) in &self.answered {
            eprintln!("{program}: {answered} calls answered, {left} left to the original");
        }
    }

    fn compare(&self) {
        let [left, right] = [&self.original, &self.native].map(|tree| picture(tree));
        for path in left.keys().chain(right.keys()) {
            assert_eq!(right.get(path), left.get(path), "`{path}` differs (native, original) after:\n{}", self.history);
        }
    }
}

/// Returns what stands at each path outside /usr, without times.
fn picture(root: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, seen: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == "usr" || name == "dev" {
                continue;
            }
            let content = if about.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if about.is_file() {
                text(&fs::read(&path).unwrap())
            } else {
                walk(&path, root, seen);
                String::new()
            };
            let mtime = if about.is_file() && name.starts_with("etc/installed/file") { about.mtime() } else { 0 };
            seen.insert(name, format!("{:o} {}:{} {mtime} {content}", about.mode(), about.uid(), about.gid()));
        }
    }
    let mut seen = BTreeMap::new();
    walk(root, root, &mut seen);
    seen
}

fn known(pair: &Pair, names: &[&str]) -> bool {
    let base = pair.place.path().join("base");
    let unknown: Vec<_> = programs().iter().filter(|program| names.contains(&program.name) && !program.is_known(&base)).collect();
    for program in &unknown {
        eprintln!("`{}` of this mirror is not one that is known: not compared", program.name);
    }
    unknown.is_empty()
}

fn prepare_php(tree: &Path) {
    let modules = [
        ("alpha", "; priority=10\nextension=alpha\n"),
        ("beta", "; configuration\n; priority=15\nextension=beta\n"),
        ("gamma", "extension=gamma\n"),
        ("delta", ";priority = 5\n"),
        ("twice", "; priority=10\n; priority=20\n"),
        ("digits", "12\n; priority=30\n"),
        ("accent", "; priorité\n; priority=40\n"),
        ("space", "; priority=\u{a0}40\n"),
    ];
    for folder in ["etc/php/8.4/mods-available", "etc/php/8.4/cli/conf.d", "etc/php/8.4/apache2/conf.d", "usr/lib/php/8.4/sapi"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for (name, text) in modules {
        fs::write(tree.join(format!("etc/php/8.4/mods-available/{name}.ini")), text).unwrap();
    }
    for sapi in ["cli", "apache2"] {
        fs::write(tree.join("usr/lib/php/8.4/sapi").join(sapi), "").unwrap();
    }
}

fn php(pair: &Pair) {
    let mut contest = Contest::new(pair.reset(prepare_php));
    contest.must("phpquery", &["-M", "-v", "8.4"]);
    for module in ["alpha", "beta", "gamma"] {
        contest.must("phpquery", &["-S", "-v", "8.4"]);
        contest.must("phpenmod", &["-q", "-v", "8.4", "-m", "-r", module]);
        for sapi in ["cli", "apache2"] {
            contest.must("phpquery", &["-v", "8.4", "-s", sapi, "-m", module]);
            contest.must("phpenmod", &["-m", "-v", "8.4", "-s", sapi, "-q", module]);
        }
        contest.must("phpquery", &["-M", "-v", "8.4"]);
    }
    contest.compare();
    for seed in 0..2 {
        let mut contest = Contest::new(pair.reset(prepare_php));
        let mut dice = Dice(seed);
        for turn in 0..22 {
            let module = dice.pick(&[
                "alpha", "beta", "gamma", "alpha", "beta", "gamma", "delta", "twice", "digits", "accent", "space", "nothing",
                "-x", "a/b", "ALL",
            ]);
            let sapi = dice.pick(&["cli", "cli", "apache2", "fpm", "ALL"]);
            let state = format!("var/lib/php/modules/8.4/{sapi}");
            match dice.below(16) {
                0 => {
                    let what = dice.pick(&["disabled_by_admin", "disabled_by_maint", "enabled_by_admin", "enabled_by_maint"]);
                    contest.accident(&format!("mkdir -p {state}/{what}; : > {state}/{what}/gamma"));
                }
                1 => contest.accident(
                    "rm -f etc/php/8.4/cli/conf.d/*alpha*; ln -s ../mods-available/alpha.ini etc/php/8.4/cli/conf.d/10-alpha.ini",
                ),
                2 => contest.accident("rm -f etc/php/8.4/cli/conf.d/20-gamma.ini; echo x > etc/php/8.4/cli/conf.d/20-gamma.ini"),
                3 => contest.accident("rm -f etc/php/8.4/*/conf.d/*beta*"),
                4 if turn > 16 => contest.accident("rm -rf etc/php/8.4/apache2/conf.d"),
                4 | 5 => drop(contest.call("phpquery", &["-v", "8.4", "-s", sapi, "-m", module])),
                6 => drop(contest.call("phpquery", &["-q", "-v", "8.4", "-s", sapi, "-m", module])),
                7 => drop(contest.call("phpenmod", &["-v", "8.4", "-s", sapi, module])),
                8 => drop(contest.call("phpenmod", &["-m", "-r", "-v", "8.4", module])),
                9 => drop(contest.call("phpenmod", &["-m", "-v", "8.4", "-s", sapi, module, "beta"])),
                10 => drop(contest.call("phpquery", &[dice.pick(&["-M", "-S", "-V", "-MS"]), "-v", dice.pick(&["8.4", "7.0"])])),
                _ => drop(contest.call("phpenmod", &["-m", "-v", "8.4", "-s", sapi, "-q", module])),
            }
        }
        contest.end();
    }
}

fn prepare_apache(tree: &Path) {
    let conffiles = "cd etc/apache2; mkdir -p conf-enabled mods-enabled sites-enabled
    mkdir -p ../../run/apache2/socks ../../run/lock/apache2
    echo '# Depends: alias status' > conf-available/needs.conf";
    sh(&format!("cd \"$1\"; {conffiles}"), &[tree]).unwrap();
}

fn apache(pair: &Pair) {
    let mut contest = Contest::new(pair.reset(prepare_apache));
    contest.must("a2enmod", &["-m", "-q", "mpm_event"]);
    for module in ["authz_host", "auth_basic", "deflate", "dir", "status", "mime", "ssl", "proxy_balancer", "alias"] {
        contest.must("a2enmod", &["-m", "-q", module]);
        contest.must("a2query", &["-m", module]);
    }
    for conf in ["charset", "security", "serve-cgi-bin", "needs"] {
        contest.must("a2enconf", &["-m", "-q", conf]);
    }
    contest.must("a2ensite", &["-q", "000-default"]);
    for question in [&["-M"][..], &["-m"], &["-c"], &["-s", "000-default"], &["-q", "-m", "php8.4"], &["-m", "dav"]] {
        contest.must("a2query", question);
    }
    contest.compare();
    contest.must("a2dismod", &["-m", "-q", "mpm_event"]);
    contest.must("a2enmod", &["-m", "-q", "mpm_prefork"]);
    contest.must("a2query", &["-M"]);
    contest.must("a2enmod", &["rewrite", "headers", "ssl", "proxy_http"]);
    contest.must("a2dissite", &["000-default"]);
    contest.must("a2query", &["-s", "000-default"]);
    contest.compare();
    for seed in 0..2 {
        let mut contest = Contest::new(pair.reset(prepare_apache));
        let mut dice = Dice(seed);
        for _ in 0..18 {
            let module = dice.pick(&[
                "ssl",
                "status",
                "mime",
                "dav_fs",
                "mpm_event",
                "mpm_prefork",
                "mpm_worker",
                "proxy_http",
                "cgi",
                "nothing",
                "authz*",
                "php.load",
                "lbmethod_byrequests",
                "session_crypto",
                "rewrite",
                "headers",
                "expires",
                "proxy_fcgi",
                "setenvif",
                "ldap",
            ]);
            let conf = dice.pick(&["charset", "security", "needs", "nothing", "my-conf", "javascript"]);
            let quiet = dice.pick(&["-q", "-m", "-mq", "--quiet", "--maintmode"]);
            match dice.below(18) {
                0 => contest.accident(
                    "mkdir -p var/lib/apache2/module/disabled_by_admin; : > var/lib/apache2/module/disabled_by_admin/mime",
                ),
                1 => contest.accident("rm -f etc/apache2/mods-enabled/mime.conf"),
                2 => {
                    contest.accident("rm -f etc/apache2/mods-enabled/status.load; echo x > etc/apache2/mods-enabled/status.load");
                }
                3 => contest.accident("ln -sf ../mods-available/gone.load etc/apache2/mods-enabled/gone.load"),
                4 => contest.accident("ln -sfn /etc/apache2/mods-available/rewrite.load etc/apache2/mods-enabled/rewrite.load"),
                5 => drop(contest.call("a2query", &["-m", module])),
                6 => drop(contest.call("a2query", &[dice.pick(&["-M", "-m", "-s", "-c", "-v", "-a"])])),
                7 => drop(contest.call("a2enconf", &[quiet, conf])),
                8 => drop(contest.call("a2disconf", &[conf])),
                9 => drop(contest.call("a2dismod", &[quiet, module])),
                10 => drop(contest.call("a2dismod", &[quiet, "-f", module])),
                11 => drop(contest.call("a2enmod", &[module, "mime"])),
                _ => drop(contest.call("a2enmod", &[quiet, module])),
            }
        }
        contest.end();
    }
}

fn prepare_systemd(tree: &Path) {
    let units = [
        ("a.timer", "[Unit]\nDescription=é\n[Install]\nWantedBy=timers.target\n"),
        ("b.service", "[Install]\n# WantedBy=x.target\n  WantedBy=multi-user.target graphical.target \nRequiredBy=c.target\n"),
        ("none.service", "[Service]\nExecStart=/bin/true\n"),
        ("also.service", "[Install]\nWantedBy=multi-user.target\nAlso=a.timer\n"),
        ("alias.service", "[Install]\nWantedBy=multi-user.target\nAlias=other.service\n"),
        ("quoted.service", "[Install]\nWantedBy=\"multi-user.target\"\n"),
        ("lower.service", "[Install]\nwantedby=multi-user.target\n"),
        ("twice.service", "[Install]\nWantedBy=multi-user.target\nWantedBy=multi-user.target\n"),
        ("blank.service", "[Install]\nWantedBy= multi-user.target\n"),
        ("of@.service", "[Install]\nWantedBy=multi-user.target\nDefaultInstance=x\n"),
    ];
    fs::create_dir_all(tree.join("usr/lib/systemd/system")).unwrap();
    for (name, text) in units {
        let path = tree.join("usr/lib/systemd/system").join(name);
        drop(fs::remove_file(&path));
        fs::write(path, text).unwrap();
    }
    fs::write(tree.join("etc/systemd/system/own.service"), "[Install]\nWantedBy=multi-user.target\n").unwrap();
}

fn systemd(pair: &Pair) {
    let program = "deb-systemd-helper";
    let mut contest = Contest::new(pair.reset(prepare_systemd));
    for unit in ["a.timer", "b.service", "none.service", "own.service"] {
        contest.must(program, &["unmask", unit]);
        contest.must(program, &["--quiet", "was-enabled", unit]);
        contest.must(program, &["enable", unit]);
        contest.must(program, &["update-state", unit]);
        contest.must(program, &["debian-installed", unit]);
        contest.must(program, &["was-enabled", unit]);
        contest.must(program, &["enable", unit]);
    }
    contest.compare();
    for seed in 0..2 {
        let mut contest = Contest::new(pair.reset(prepare_systemd));
        let mut dice = Dice(seed);
        for _ in 0..18 {
            let unit = dice.pick(&[
                "a.timer",
                "a.timer",
                "b.service",
                "none.service",
                "also.service",
                "alias.service",
                "quoted.service",
                "lower.service",
                "twice.service",
                "blank.service",
                "of@.service",
                "own.service",
                "gone.service",
                "b.service",
                "own.service",
                "none.service",
            ]);
            let action = dice.pick(&[
                "enable",
                "enable",
                "enable",
                "was-enabled",
                "update-state",
                "unmask",
                "unmask",
                "was-enabled",
                "debian-installed",
                "update-state",
                "disable",
                "mask",
                "purge",
                "is-enabled",
                "reenable",
            ]);
            match dice.below(10) {
                0 => contest.accident("rm -f etc/systemd/system/timers.target.wants/a.timer"),
                1 => contest.accident("rm -f var/lib/systemd/deb-systemd-helper-enabled/*/b.service"),
                2 => contest.accident("rm -f etc/systemd/system/a.timer; ln -s /dev/null etc/systemd/system/a.timer"),
                3 => contest.accident("rm -f etc/systemd/system/a.timer"),
                4 => contest.accident(
                    "cd etc/systemd/system; mkdir -p c.target.requires; cd c.target.requires; rm -f b.service; : > b.service",
                ),
                _ => drop(contest.call(program, &[action, unit])),
            }
        }
        contest.end();
    }
}

fn prepare_ucf(tree: &Path) {
    let folder = tree.join("usr/share/new");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..14 {
        let path = folder.join(format!("file-{number}.conf"));
        drop(fs::remove_file(&path));
        fs::write(&path, format!("number {number}\n").repeat(if number == 3 { 3000 } else { 1 })).unwrap();
        let mode = if number == 4 { 0o4750 } else { 0o644 };
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + number)).unwrap();
    }
    drop(fs::remove_file(folder.join("link.conf")));
    symlink("file-1.conf", folder.join("link.conf")).unwrap();
    fs::create_dir_all(tree.join("etc/installed/below")).unwrap();
    symlink("below", tree.join("etc/installed/side")).unwrap();
}

fn ucf(pair: &Pair) {
    let mut contest = Contest::new(pair.reset(prepare_ucf));
    let paths = |number: usize| (format!("/usr/share/new/file-{number}.conf"), format!("/etc/installed/file-{number}.conf"));
    let (new, installed) = paths(0);
    assert!(!contest.call("ucf", &[&new, &installed]), "the first call brings ucf's questions into debconf's databases");
    for number in 1..12 {
        let (new, installed) = paths(number);
        contest.must("ucf", &[&new, &installed]);
        contest.must("ucfr", &["php8.4-common", &installed]);
        contest.must("ucfr", &["--force", "php8.4-common", &installed]);
        if number % 4 == 2 {
            contest.compare();
        }
    }
    contest.compare();
    for seed in 0..2 {
        let mut contest = Contest::new(pair.reset(prepare_ucf));
        let mut dice = Dice(seed);
        contest.call("ucf", &[&new, &installed]);
        for turn in 0..16 {
            let number = dice.below(14);
            let (new, installed) = paths(number);
            let below = format!("/etc/installed/{}/x.conf", dice.pick(&["below", "side", "gone", "a b", "../up", "./a"]));
            match dice.below(15) {
                0 => contest.accident("echo changed >> etc/installed/file-1.conf"),
                1 => contest.accident("rm -f etc/installed/file-2.conf"),
                2 => contest.accident(
                    "printf '/etc/installed/file-5.conf\\n/etc/installed/file-5.moved\\n:\\n' > var/lib/dpkg/diversions",
                ),
                3 => contest.accident("rm -f var/lib/ucf/registry.3"),
                4 => contest.accident("cp var/lib/ucf/hashfile var/lib/ucf/hashfile.tmp"),
                5 if turn > 11 => contest.accident(
                    "printf 'Name: ucf/title\\nTemplate: ucf/title\\nOwners: ucf\\n\\n' > var/cache/debconf/config.dat",
                ),
                5 | 6 => drop(contest.call("ucf", &["--three-way", &new, &installed])),
                7 => drop(contest.call("ucf", &["/usr/share/new/link.conf", &below])),
                8 => drop(contest.call("ucf", &[&new, &below])),
                9 => drop(contest.call("ucfr", &[dice.pick(&["other", "php8.4-common"]), &installed])),
                10 => drop(contest.call("ucfr", &["-p", "php8.4-common", &installed])),
                11 => drop(contest.call("ucfr", &["-f", "other", &below])),
                _ => drop(contest.call("ucf", &[&new, &installed])),
            }
            if turn % 8 == 7 {
                contest.compare();
            }
        }
        contest.end();
    }
}

fn small(pair: &Pair) {
    let program = "dpkg-maintscript-helper";
    let mut contest = Contest::new(pair.reset(|_| ()));
    for version in ["1.2.4~", "2023.4~~", "1:4.7-2~", "2.37-7~", "2:4.0.4-7~"] {
        contest.must(program, &["rm_conffile", "/etc/apt/apt.conf.d/20changelog", version, "--", "configure", ""]);
    }
    contest.must(program, &["mv_conffile", "/etc/a", "/etc/b", "1.0", "--", "configure", ""]);
    contest.must("logger", &["-p", "daemon.debug", "-t", "php8.4-xml", "php_invoke dom: already enabled"]);
    let odd: [&[&str]; 14] = [
        &["rm_conffile", "/etc/a", "1.0", "--", "configure", "0.9"],
        &["rm_conffile", "/etc/a", "1.0", "test", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "--", "configure", ""],
        &["rm_conffile", "etc/a", "1.0", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "1.0-", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "a1.0", "--", "configure", ""],
        &["rm_conffile", "/etc/a", ":1.0", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "1:2:3", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "1.0", "--"],
        &["rm_conffile", "/etc/a", "1.0"],
        &["rm_conffile", "/etc/a", "1.0", "--", "abort-upgrade", "1"],
        &["mv_conffile", "/etc/a", "--", "configure", ""],
        &["supports", "rm_conffile"],
        &[],
    ];
    for arguments in odd {
        contest.call(program, arguments);
    }
    contest.call("logger", &["-p", "daemon.none", "-t", "x", "message"]);
    contest.compare();
}

/// Names of programs, and what is done with them.
type Family = (&'static [&'static str], fn(&Pair));

#[test]
fn native_programs_leave_what_the_originals_leave() {
    let Some(pair) = Pair::new() else {
        eprintln!("the originals were not compared: that takes root, apt-get and a mirror");
        return;
    };
    let families: [Family; 5] = [
        (&["phpenmod", "phpquery"], php),
        (&["a2query"], apache),
        (&["deb-systemd-helper"], systemd),
        (&["ucf", "ucfr"], ucf),
        (&["dpkg-maintscript-helper", "logger"], small),
    ];
    for (names, family) in families {
        if known(&pair, names) {
            family(&pair);
        }
    }
}
