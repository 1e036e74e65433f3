//! The resolver's answers on the real archive against those of Debian's own tools.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use parvis::debian::index::{Field, Origin, Reader, Universe};
use parvis::debian::resolve::{Request, Selection, resolve};
use parvis::debian::version::Version;
use parvis::model::digest::DownloadDigest;
use parvis::model::name::PackageName;

/// The release whose archive is asked.
const RELEASE: &str = "trixie";

/// What a scratch image, or one on top of [`BASE`], asks for.
const SETS: [&str; 60] = [
    "ca-certificates tzdata openssl",
    "php8.4-cli php8.4-curl php8.4-gd php8.4-intl php8.4-mysql php8.4-opcache php8.4-xml php8.4-bcmath php8.4-mbstring php8.4-soap php8.4-zip \
     php8.4-imagick php8.4-uploadprogress php8.4-apcu",
    "composer unzip git patch libxml2-utils",
    "mariadb-client sudo rsync nano lftp gnupg openssh-client bind9-dnsutils",
    "apache2 libapache2-mod-php8.4",
    "apache2 php8.4-fpm",
    "apache2 libapache2-mod-authnz-external socat curl",
    "mariadb-server",
    "nginx",
    "nginx-full certbot python3-certbot-nginx",
    "lighttpd",
    "haproxy keepalived",
    "squid",
    "varnish",
    "postgresql",
    "postgresql-17-postgis-3",
    "redis-server",
    "memcached",
    "sqlite3",
    "slapd ldap-utils",
    "bind9",
    "unbound",
    "dnsmasq",
    "isc-dhcp-server",
    "postfix",
    "exim4",
    "dovecot-imapd dovecot-pop3d",
    "postfix dovecot-imapd rspamd opendkim",
    "spamassassin clamav-daemon",
    "mailman3-full",
    "python3",
    "python3-django python3-psycopg2",
    "python3-numpy python3-scipy python3-matplotlib",
    "ruby-full",
    "rails",
    "nodejs npm",
    "default-jre-headless",
    "default-jdk",
    "tomcat10",
    "golang",
    "rustc cargo",
    "build-essential",
    "gcc-14 g++-14 gfortran cmake ninja-build",
    "debhelper devscripts",
    "ghc",
    "erlang",
    "perl libdbi-perl libwww-perl",
    "systemd systemd-sysv dbus",
    "openssh-server",
    "samba",
    "nfs-kernel-server",
    "docker.io",
    "podman",
    "qemu-system-x86",
    "libreoffice-writer-nogui",
    "texlive-latex-base",
    "imagemagick ghostscript poppler-utils",
    "ffmpeg",
    "firefox-esr",
    "xfce4 lightdm",
];

/// The packages that the other images stand on.
const BASE: &str = "ca-certificates tzdata openssl";

/// A root for apt with the lists of the release, and what parvis reads from the same lists.
struct Archive {
    root: PathBuf,
    universe: Universe,
    /// The paragraphs of the Packages files, by name and version.
    paragraphs: BTreeMap<(String, String), String>,
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Reads the addresses of the archive and of its security archive from the host's apt sources.
fn mirrors() -> (String, String) {
    let indextargets = run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(CODENAME)",
        "Created-By: Packages",
    ]));
    let mut found = (None, None);
    for line in String::from_utf8(indextargets.stdout).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, suite, ..] = words[..] else { continue };
        let slot = if suite.ends_with("-security") { &mut found.1 } else { &mut found.0 };
        if address.starts_with("http") && slot.is_none() {
            *slot = Some(address.trim_end_matches('/').to_owned());
        }
    }
    (found.0.expect("the host's apt sources name an archive"), found.1.expect("the host's apt sources name a security archive"))
}

fn apt(root: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("APT_CONFIG", root.join("apt.conf")).env("LC_ALL", "C");
    command
}

/// Makes a root for apt, and has it fetch the lists of these sources.
fn prepare(root: &Path, sources: &str) {
    for folder in [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/apt/sources.list"), sources).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let here = root.to_str().unwrap();
    let configuration = format!(
        "Dir \"{here}\";\nDir::State::status \"{here}/var/lib/dpkg/status\";\nAPT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"\";\n"
    );
    fs::write(root.join("apt.conf"), configuration).unwrap();
    run(apt(root, "apt-get").args(["-q", "update"]));
}

/// Prepares the root once, and reads its lists.
fn archive() -> &'static Archive {
    static ARCHIVE: OnceLock<Archive> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apt");
        let (main, security) = mirrors();
        let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        let sources = format!(
            "deb {signed} {main} {RELEASE} main\ndeb {signed} {main} {RELEASE}-updates main\ndeb {signed} {security} {RELEASE}-security main\n"
        );
        prepare(&root, &sources);
        let mut reader = Reader::new(&"amd64".parse().unwrap());
        let mut paragraphs = BTreeMap::new();
        for suite in [RELEASE.to_owned(), format!("{RELEASE}-updates"), format!("{RELEASE}-security")] {
            let filter = ["Created-By: Packages".to_owned(), format!("Release: {suite}")];
            let found = run(apt(&root, "apt-get").args(["indextargets", "--format", "$(FILENAME)"]).args(filter));
            let list = String::from_utf8(found.stdout).unwrap();
            let text = fs::read_to_string(list.trim()).unwrap();
            let origin = Origin { security: suite.ends_with("security"), suite: suite.parse().unwrap(), archive: "debian".into() };
            reader.read(&origin, text.as_bytes()).unwrap();
            for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
                let field = |name| paragraph.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                paragraphs.insert((field("Package: "), field("Version: ")), paragraph.to_owned());
            }
        }
        Archive { root, universe: reader.finish().unwrap(), paragraphs }
    })
}

/// Returns apt upon a package database, with the lists of the real archive.
pub fn apt_upon(status: &Path) -> Command {
    apt_in(archive(), status)
}

fn apt_in(archive: &Archive, status: &Path) -> Command {
    let mut command = apt(&archive.root, "apt-get");
    let status = status.display();
    command.args(["-o", &format!("Dir::State::status={status}"), "-o", &format!("Dir::Cache::pkgcache={status}.bin")]);
    command
}

/// Asks apt, with a package database that holds these packages.
///
/// The addresses of what it would download are the answer of `--simulate` without its reckoning of an order, which takes ten times as
/// long.
fn ask_apt(archive: &Archive, status: &Path, asked: &[&str], recommends: bool) -> BTreeMap<String, String> {
    let output = run(apt_in(archive, status)
        .args(["-qq", "-y", "--no-remove", "--print-uris", "-o", &format!("APT::Install-Recommends={recommends}"), "install"])
        .args(asked));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let mut parts = line.split_whitespace().nth(1).unwrap().split('_');
            let mut part = || parts.next().unwrap().replace("%3a", ":").replace("%7e", "~");
            (part(), part())
        })
        .collect()
}

fn ask_parvis(archive: &Archive, request: &Request) -> BTreeMap<String, String> {
    let chosen = resolve(&Selection::highest(&archive.universe), request).unwrap_or_else(|error| panic!("{request:?}: {error}"));
    chosen.into_iter().map(|candidate| (candidate.name.to_string(), candidate.version.to_string())).collect()
}

/// Writes a package database in which these packages are installed.
fn write_status(archive: &Archive, file: &Path, packages: &BTreeMap<String, String>) {
    let mut text = String::new();
    for (name, version) in packages {
        text += &archive.paragraphs[&(name.clone(), version.clone())];
        text += "\nStatus: install ok installed\n\n";
    }
    fs::write(file, text).unwrap();
}

fn difference(apt: &BTreeMap<String, String>, parvis: &BTreeMap<String, String>) -> String {
    let only = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| -> Vec<String> {
        one.iter()
            .filter(|(name, version)| other.get(*name) != Some(version))
            .map(|(name, version)| format!("{name} {version}"))
            .collect()
    };
    format!("only apt: {:?}; only parvis: {:?}", only(apt, parvis), only(parvis, apt))
}

/// Compares the answers to sets, some of them with Recommends, on a database that holds `installed`.
fn compare<'a>(
    archive: &Archive,
    name: &str,
    installed: &BTreeMap<String, String>,
    essential: bool,
    questions: impl Iterator<Item = (&'a str, bool)>,
) {
    let status = archive.root.join(name);
    write_status(archive, &status, installed);
    let essentials: Vec<&str> =
        archive.universe.all_highest().filter(|candidate| candidate.essential).map(|candidate| candidate.name.as_str()).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (set, recommends) in questions {
        count += 1;
        let request = Request {
            installed: installed.keys().map(|name| name.parse().unwrap()).collect(),
            asked: set.split_whitespace().map(|name| name.parse().unwrap()).collect(),
            essential,
            recommends,
        };
        let mut asked: Vec<&str> = if essential { essentials.clone() } else { Vec::new() };
        asked.extend(request.asked.iter().map(PackageName::as_str));
        let apt = ask_apt(archive, &status, &asked, recommends);
        let parvis = ask_parvis(archive, &request);
        assert!(!apt.is_empty() || installed.keys().any(|name| set.contains(name.as_str())), "{set}: apt says nothing");
        if apt != parvis {
            wrong.push(format!("{set} (recommends: {recommends}): {}", difference(&apt, &parvis)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} answers differ:\n{}", wrong.len(), count, wrong.join("\n"));
}

#[test]
fn an_image_from_nothing_gets_what_apt_would_install() {
    let questions = SETS.map(|set| (set, false)).into_iter().chain(SETS.into_iter().step_by(2).map(|set| (set, true)));
    compare(archive(), "nothing.status", &BTreeMap::new(), true, questions);
}

#[test]
fn an_image_with_a_parent_gets_what_apt_would_install() {
    let archive = archive();
    let asked = BASE.split_whitespace().map(|name| name.parse().unwrap()).collect();
    let base = ask_parvis(archive, &Request { asked, essential: true, ..Request::default() });
    let questions = SETS.into_iter().take(12).flat_map(|set| [(set, false), (set, true)]);
    compare(archive, "base.status", &base, false, questions);
}

#[test]
fn the_whole_archive_can_be_read() {
    let archive = archive();
    let fields =
        [Field::PreDepends, Field::Depends, Field::Recommends, Field::Conflicts, Field::Breaks, Field::Replaces, Field::Provides];
    for candidate in archive.universe.all_highest() {
        for field in fields {
            assert!(candidate.relations(field).is_ok(), "{} {}", candidate.name, field.name());
        }
    }
}

/// The real archive seldom leaves apt a choice between equal providers; this one does nothing else.
#[test]
fn among_providers_the_same_is_taken_as_apt_takes() {
    let packages = [
        ("aa", "Depends: virtual"),
        ("ab", "Depends: other\nSuggests: gg"),
        ("ac", "Depends: third"),
        ("ad", "Depends: fourth (>= 1)"),
        ("ae", "Depends: ff | virtual"),
        ("af", "Depends: fifth"),
        ("bb", "Provides: virtual"),
        ("cc", "Provides: virtual, fourth"),
        ("ff", "Provides: other, fourth (= 2)"),
        ("gg", "Provides: other"),
        ("hh", "Provides: fifth\nPriority: optional"),
        ("hi", "Provides: fifth"),
        ("hj", "Provides: fifth\nPriority: required"),
        ("ii", "Provides: third\nPriority: optional"),
        ("jj", "Provides: third\nPriority: standard"),
        ("kk", "Provides: third\nProtected: yes"),
        ("third", "Depends: absent"),
    ];
    let digest = DownloadDigest::of(b"");
    let paragraph = |(name, more): &(&str, &str)| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: x\nDescription: x\nFilename: ./{name}_1_amd64.deb\nSize: 1\n\
             SHA256: {digest}\n{more}\n\n"
        )
    };
    let text = packages.iter().map(paragraph).collect::<Vec<_>>().concat();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("repository")).unwrap();
    fs::write(root.path().join("repository/Packages"), &text).unwrap();
    prepare(root.path(), &format!("deb [trusted=yes] file:{}/repository ./\n", root.path().display()));
    let mut reader = Reader::new(&"amd64".parse().unwrap());
    let origin = Origin { suite: "main".parse().unwrap(), archive: "debian".into(), security: false };
    reader.read(&origin, text.as_bytes()).unwrap();
    let archive = Archive { root: root.path().to_owned(), universe: reader.finish().unwrap(), paragraphs: BTreeMap::new() };
    let questions = ["aa", "ab", "ac", "ad", "ae", "af", "aa ab ac ad ae af"].map(|set| (set, false)).into_iter();
    compare(&archive, "nothing.status", &BTreeMap::new(), false, questions);
}

#[test]
fn versions_compare_as_dpkg_compares_them() {
    let versions = [
        "0",
        "0~",
        "0.0",
        "00",
        "1",
        "1.0",
        "1.0-1",
        "1.0-1~bpo1",
        "1.0-1+b1",
        "1.0-1+deb13u1",
        "1.0+dfsg-1",
        "1.0a-1",
        "1.0.1",
        "1:0",
        "1:1-0",
        "1.0-01",
        "2~rc1",
        "2~~",
        "2",
        "1.0-a",
        "1.0-1-1",
        "3+",
        "3-+",
    ];
    for left in versions {
        for right in versions {
            let order = left.parse::<Version>().unwrap().cmp(&right.parse().unwrap());
            let sign = match order {
                std::cmp::Ordering::Less => "lt",
                std::cmp::Ordering::Equal => "eq",
                std::cmp::Ordering::Greater => "gt",
            };
            run(Command::new("dpkg").args(["--compare-versions", left, sign, right]));
        }
    }
}
