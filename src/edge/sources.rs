//! The mirror: where the archive's files are to be had, from the command line, the host's apt, or the project.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// More of a file of apt is not read.
const LIMIT: u64 = 1 << 20;

/// Who named a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The option or the environment.
    Given,
    /// A file of the host's apt.
    Apt(PathBuf),
    /// The project's mirrors.
    Project,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => formatter.write_str("`--mirror` or `PARVIS_MIRROR`"),
            Self::Apt(path) => write!(formatter, "`{}`", path.display()),
            Self::Project => formatter.write_str("`parvis.yaml`"),
        }
    }
}

/// Where one archive is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Addresses of the folder that holds `dists/` and `pool/`, most wanted first, without a slash at the end. They may hold
    /// a user and password: never to be printed as they are.
    pub urls: Vec<String>,
    pub origin: Origin,
}

/// A mirror that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    #[error("no mirror is known for the archive `{archive}`")]
    None { archive: String },
    #[error("the mirror `{shown}` {what}")]
    Given { shown: String, what: &'static str },
    #[error("a mirror is given for the archive `{archive}`, which no suite of the project belongs to")]
    Archive { archive: String },
}

impl SourcesError {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::None { archive } => format!(
                "name one: `--mirror https://host/debian` serves all archives, `--mirror {archive}=https://host/path` this one; \
                 `PARVIS_MIRROR` and `mirrors:` in `parvis.yaml` do the same"
            ),
            Self::Given { .. } => {
                "write `https://host/debian`, `file:///srv/mirror/debian`, or `ARCHIVE=URL` for one archive".into()
            }
            Self::Archive { .. } => "the archives are those that `suites:` in `parvis.yaml` names".into(),
        }
    }
}

/// Finds the mirrors of all archives.
///
/// `given` is what the option or else the environment says: URLs or `ARCHIVE=URL`, separated by blanks. A URL that ends in
/// the name of an archive stands for all archives, each beside the others; any other is the folder that holds them. `apt`
/// is the host's folder of apt (`/etc/apt`). Each archive is taken from the first that knows it: given, apt, project.
pub fn mirrors(
    archives: &[&str],
    given: Option<&str>,
    apt: &Path,
    project: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, Mirror>, SourcesError> {
    let given = read_given(archives, given.unwrap_or_default())?;
    // What is not needed is not looked at.
    let host = if archives.iter().all(|archive| given.contains_key(*archive)) { BTreeMap::new() } else { host_mirrors(apt) };
    let find = |archive: &str| {
        let of = |urls: &Vec<String>, origin| Mirror { urls: urls.clone(), origin };
        let own = project.get(archive).filter(|urls| !urls.is_empty());
        given
            .get(archive)
            .map(|urls| of(urls, Origin::Given))
            .or_else(|| host.get(archive).cloned())
            .or_else(|| own.map(|urls| of(urls, Origin::Project)))
            .ok_or_else(|| SourcesError::None { archive: archive.into() })
    };
    archives.iter().map(|archive| Ok(((*archive).to_owned(), find(archive)?))).collect()
}

fn read_given(archives: &[&str], text: &str) -> Result<BTreeMap<String, Vec<String>>, SourcesError> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in text.split_ascii_whitespace() {
        let named = word.split_once('=').filter(|(name, _)| !name.contains([':', '/']));
        if let Some((archive, url)) = named {
            if !archives.contains(&archive) {
                return Err(SourcesError::Archive { archive: archive.chars().take(80).flat_map(char::escape_debug).collect() });
            }
            found.entry(archive.into()).or_default().push(checked(url)?);
            continue;
        }
        let url = checked(word)?;
        let (parent, last) = url.rsplit_once('/').unwrap_or((&url, ""));
        let folder = if archives.contains(&last) { parent } else { &url };
        for archive in archives {
            found.entry((*archive).into()).or_default().push(format!("{folder}/{archive}"));
        }
    }
    Ok(found)
}

fn checked(url: &str) -> Result<String, SourcesError> {
    let wrong = |what| SourcesError::Given { shown: shown(url), what };
    let rest = ["http://", "https://", "file:///"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| wrong("is not an address that begins with `https://`, `http://` or `file:///`"))?;
    if !url.starts_with("file:") && rest.split('/').next().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    if url.contains(['?', '#']) || url.chars().any(char::is_control) {
        return Err(wrong("has characters that no mirror's address has"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Returns an address as it may be printed: without user and password.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority = rest.split('/').next().unwrap_or_default();
    let rest = match authority.rfind('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    let text = if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") };
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Reads the host's apt sources; only what is Debian's is taken. What cannot be read is passed over.
fn host_mirrors(apt: &Path) -> BTreeMap<String, Mirror> {
    let mut files = vec![apt.join("sources.list")];
    let parts = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.sort();
    files.append(&mut parts);
    let mut found: BTreeMap<String, Mirror> = BTreeMap::new();
    for file in files {
        let Some(text) = read(&file) else { continue };
        let sources = match file.extension().and_then(std::ffi::OsStr::to_str) {
            Some("list") => text.lines().filter_map(one_line).collect(),
            Some("sources") => paragraphs(&text),
            _ => Vec::new(),
        };
        for source in sources {
            for (archive, url) in source.debian() {
                let new = || Mirror { urls: Vec::new(), origin: Origin::Apt(file.clone()) };
                let urls = &mut found.entry(archive.into()).or_insert_with(new).urls;
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
    }
    found
}

fn read(path: &Path) -> Option<String> {
    // A pipe in the place of a file must not be waited for.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path).ok()?;
    file.metadata().ok().filter(fs::Metadata::is_file)?;
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// One entry of apt's sources: sources.list(5).
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    addresses: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Source {
    /// Returns the archive and address of each part of this entry that is Debian's.
    ///
    /// Vendors imitate both its suites and its paths. Debian's own has a key that says so, or none and the usual path.
    fn debian(&self) -> Vec<(&'static str, String)> {
        let signed = self.signed_by.as_ref().map(|keys| keys.contains("debian"));
        if signed == Some(false) || !self.components.iter().any(|component| component == "main") {
            return Vec::new();
        }
        let mut found = Vec::new();
        for address in self.addresses.iter().flat_map(|address| addresses(address)) {
            let usual = ["/debian", "/debian-security"].iter().any(|end| address.ends_with(end));
            if usual || signed == Some(true) {
                let archives = self.suites.iter().filter_map(|suite| archive_of(suite));
                found.extend(archives.map(|archive| (archive, address.clone())));
            }
        }
        found.dedup();
        found
    }
}

/// Returns the archive that a suite of Debian belongs to.
fn archive_of(suite: &str) -> Option<&'static str> {
    const NAMES: [&str; 15] = [
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "stable",
        "oldstable",
        "oldoldstable",
        "testing",
        "unstable",
        "stretch",
        "experimental",
        "rc-buggy",
    ];
    let is_debian = |name: &str| NAMES.contains(&name);
    let suite = suite.trim_end_matches('/');
    let security = suite.strip_suffix("-security").or_else(|| suite.strip_suffix("/updates"));
    if let Some(name) = security {
        return is_debian(name).then_some("debian-security");
    }
    let ends = ["-updates", "-proposed-updates", "-backports", "-backports-sloppy"];
    let name = ends.iter().find_map(|end| suite.strip_suffix(end)).unwrap_or(suite);
    is_debian(name).then_some("debian")
}

/// Returns the addresses that stand behind one of apt's: itself, or those in a list of mirrors on this machine.
fn addresses(address: &str) -> Vec<String> {
    if let Some(list) = address.strip_prefix("mirror+file:") {
        let text = read(&Path::new("/").join(list.trim_start_matches('/'))).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        return lines.filter_map(|line| plain(line.split_ascii_whitespace().next()?)).collect();
    }
    plain(address).into_iter().collect()
}

/// Returns an address in the form that parvis fetches from; `None` for cdrom, tor and the like.
fn plain(address: &str) -> Option<String> {
    let disk = ["file:", "copy:"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let address = disk.map_or_else(|| address.to_owned(), |path| format!("file:///{}", path.trim_start_matches('/')));
    checked(&address).ok()
}

/// Reads `deb [options] URI suite components…`.
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix(char::is_whitespace)?.trim_start();
    let mut signed_by = None;
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        signed_by = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_ascii_whitespace().map(str::to_owned);
    Some(Source { addresses: vec![words.next()?], suites: vec![words.next()?], components: words.collect(), signed_by })
}

/// Reads paragraphs of `Types:`, `URIs:`, `Suites:` and so on.
fn paragraphs(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(paragraph).collect()
}

fn paragraph(lines: &[&str]) -> Option<Source> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let value = fields.get_mut(last.as_ref()?)?;
            value.push(' ');
            value.push_str(line.trim());
        } else {
            let (name, value) = line.split_once(':')?;
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            last = Some(name.to_ascii_lowercase());
        }
    }
    let words = |name: &str| -> Vec<String> {
        fields.get(name).map(|value| value.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let off = fields.get("enabled").is_some_and(|value| matches!(&*value.to_ascii_lowercase(), "no" | "false" | "0" | "off"));
    if off || !words("types").contains(&"deb".to_owned()) {
        return None;
    }
    let signed_by = fields.get("signed-by").cloned();
    Some(Source { addresses: words("uris"), suites: words("suites"), components: words("components"), signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [&str; 2] = ["debian", "debian-security"];

    fn apt(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// Returns the addresses of both archives, as far as apt knows them.
    fn from_apt(files: &[(&str, &str)]) -> [Vec<String>; 2] {
        let folder = apt(files);
        let found = host_mirrors(folder.path());
        BOTH.map(|archive| found.get(archive).map(|mirror| mirror.urls.clone()).unwrap_or_default())
    }

    #[test]
    fn a_given_address_stands_for_all_archives_beside_each_other() {
        let read = |text| {
            let found = read_given(&BOTH, text).unwrap();
            BOTH.map(|archive| found[archive].join(" "))
        };
        let expected = ["https://m.example/debian", "https://m.example/debian-security"];
        for text in
            ["https://m.example/debian", "https://m.example/debian/", "https://m.example/debian-security", "https://m.example"]
        {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read("file:///srv/mirror"), ["file:///srv/mirror/debian", "file:///srv/mirror/debian-security"]);
        let apart = "debian=http://a.example/x debian-security=http://b.example/y http://c.example";
        assert_eq!(
            read(apart),
            ["http://a.example/x http://c.example/debian", "http://b.example/y http://c.example/debian-security"]
        );
    }

    #[test]
    fn a_given_address_that_is_none_is_refused_without_its_password() {
        for (text, expected) in [
            ("ftp://m.example/debian", "the mirror `ftp://m.example/debian` is not an address that begins with"),
            ("http:///debian", "the mirror `http:///debian` names no host"),
            ("http://me:secret@m.example/debian?x", "the mirror `http://m.example/debian?x` has characters"),
            ("me:secret@m.example", "the mirror `m.example` is not an address"),
            ("debain=http://m.example", "for the archive `debain`, which no suite"),
        ] {
            let error = read_given(&BOTH, text).unwrap_err();
            assert!(error.to_string().contains(expected) && !error.hint().is_empty(), "{error}");
        }
    }

    #[test]
    fn both_forms_of_apt_sources_are_read() {
        let list = "# deb http://old.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/debian/ bookworm main # x\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb http://s.example/debian-security bookworm-security main contrib\n";
        let expected = [vec!["http://m.example/debian".to_owned()], vec!["http://s.example/debian-security".to_owned()]];
        assert_eq!(from_apt(&[("sources.list", list)]), expected);
        let sources = "Types: deb deb-src\n# comment\nURIs: http://m.example/debian/\n http://m.example/debian\nSuites: trixie trixie-updates\n\
                       Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.pgp\n\n\
                       Types: deb\nURIs: http://s.example/debian-security\nSuites: trixie-security\nComponents: main\n\n\
                       Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n";
        assert_eq!(from_apt(&[("sources.list.d/debian.sources", sources)]), expected);
        assert_eq!(from_apt(&[("sources.list.d/debian.sources.save", sources)]).concat(), Vec::<String>::new());
    }

    #[test]
    fn other_vendors_are_not_taken_for_debian() {
        for line in [
            "deb https://vendor.example/linux/debian bookworm stable",
            "deb [signed-by=/etc/apt/keyrings/vendor.asc] https://vendor.example/linux/debian bookworm main",
            "deb https://vendor.example/php bookworm main",
            "deb https://vendor.example/debian bookworm-pgdg main",
            "deb https://vendor.example/node_20.x nodistro main",
            "deb http://vendor.example/ubuntu noble main",
            "deb cdrom:[Debian]/debian bookworm main",
            "deb tor+http://m.example/debian bookworm main",
            "deb http://m.example",
            "deb [broken http://m.example/debian bookworm main",
        ] {
            assert_eq!(from_apt(&[("sources.list", line)]).concat(), Vec::<String>::new(), "{line}");
        }
        let house = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://proxy.example/remote trixie main";
        assert_eq!(from_apt(&[("sources.list", house)])[0], ["https://proxy.example/remote"]);
    }

    #[test]
    fn mirrors_on_disk_and_lists_of_mirrors_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "# two\nhttp://a.example/debian\tpriority:1\nhttps://b.example/debian/\nftp://c.example/debian\n")
            .unwrap();
        let line = format!("deb mirror+file:{} trixie main\ndeb file:/srv/debian trixie main\n", list.display());
        assert_eq!(
            from_apt(&[("sources.list", &line)])[0],
            ["http://a.example/debian", "https://b.example/debian", "file:///srv/debian"]
        );
    }

    #[test]
    fn what_is_given_comes_before_apt_and_apt_before_the_project() {
        let folder = apt(&[("sources.list", "deb http://apt.example/debian trixie main\n")]);
        let project: BTreeMap<String, Vec<String>> =
            BOTH.iter().map(|archive| ((*archive).to_owned(), vec![format!("https://p.example/{archive}")])).collect();
        let found = mirrors(&BOTH, None, folder.path(), &project).unwrap();
        assert_eq!(found["debian"].origin, Origin::Apt(folder.path().join("sources.list")));
        assert_eq!(found["debian-security"], Mirror { urls: project["debian-security"].clone(), origin: Origin::Project });
        let found = mirrors(&BOTH, Some("http://g.example"), folder.path(), &project).unwrap();
        assert!(found.values().all(|mirror| mirror.origin == Origin::Given));
        let error = mirrors(&BOTH, Some(" "), folder.path(), &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "no mirror is known for the archive `debian-security`");
        assert!(error.hint().contains("--mirror debian-security=https://host/path"));
    }
}
