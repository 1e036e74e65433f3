//! `phpquery` and `phpenmod` of php-common: which modules of PHP are enabled.

use super::tree::{Seen, Tree};
use super::{Call, Original, Reply, done, name};

pub const LIBRARY: Original =
    Original::new("/usr/lib/php/php-helper", &["72445eb0e4d94093f9f5b78038370b01741222cb7498f15ccb5cf8d476dbd83a"]);

#[derive(Default)]
struct Options<'a> {
    version: Option<&'a str>,
    sapi: Option<&'a str>,
    module: Option<&'a str>,
    flags: Vec<&'a str>,
    rest: Vec<&'a str>,
}

/// Reads options of one letter, each with its value as a word of its own, none twice.
fn options<'a>(words: &[&'a str], flags: &[&str], with_module: bool) -> Option<Options<'a>> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = match *word {
            "-v" => &mut options.version,
            "-s" => &mut options.sapi,
            "-m" if with_module => &mut options.module,
            flag if flags.contains(&flag) && !options.flags.contains(&flag) => {
                options.flags.push(flag);
                continue;
            }
            other => {
                options.rest = [other].into_iter().chain(words.copied()).collect();
                break;
            }
        };
        if value.replace(name(words.next()?)?).is_some() {
            return None;
        }
    }
    let all = [options.version, options.sapi].contains(&Some("ALL"));
    (!all && options.rest.iter().all(|word| name(word).is_some())).then_some(options)
}

pub fn phpquery(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let words = call.words()?;
    let options = options(&words, &["-q", "-S", "-M"], true)?;
    let version = options.version.filter(|_| options.rest.is_empty())?;
    let quiet = options.flags.contains(&"-q");
    let reply = match (options.flags.contains(&"-S"), options.flags.contains(&"-M"), options.sapi, options.module) {
        (true, false, None, None) => lines(&sapis(tree, version)?),
        (false, true, None, None) => lines(&listed(tree, &format!("/var/lib/php/modules/{version}/registry"))?),
        (false, false, Some(sapi), Some(module)) => {
            let state = State::of(tree, version, sapi, module)?;
            let mut stdout = state.words(sapi, module).into_bytes();
            if quiet {
                stdout.clear();
            }
            Reply { code: state.code(), stdout, ..Reply::default() }
        }
        _ => return None,
    };
    Some(reply)
}

fn lines(names: &[String]) -> Reply {
    Reply { stdout: names.iter().flat_map(|name| [name, "\n"]).collect::<String>().into_bytes(), ..Reply::default() }
}

/// Returns the names in a folder as find(1) gives them, when the shell takes each for one word.
fn listed(tree: &Tree, folder: &str) -> Option<Vec<String>> {
    let names = tree.names(folder)?;
    // From ten thousand names on find(1) sorts them.
    let plain = names.len() < 1000 && names.iter().all(|entry| super::word(entry.as_bytes()).and_then(name).is_some());
    plain.then_some(names)
}

fn sapis(tree: &Tree, version: &str) -> Option<Vec<String>> {
    listed(tree, &format!("/usr/lib/php/{version}/sapi"))
}

enum State {
    NoModule,
    Enabled(&'static str),
    /// A file stands where the link should be, of which nothing is said.
    File,
    Disabled(&'static str, u8),
}

impl State {
    fn of(tree: &Tree, version: &str, sapi: &str, module: &str) -> Option<Self> {
        if !tree.is_folder(&format!("/usr/lib/php/{version}"))?
            || tree.is_absent(&format!("/usr/lib/php/{version}/sapi/{sapi}"))?
        {
            return None;
        }
        if !tree.has_file(&target(version, module))? {
            return Some(Self::NoModule);
        }
        let priority = priority(tree, version, module)?;
        let marked = |what: &str| Some(!tree.is_absent(&marker(version, sapi, what, module))?);
        Some(match tree.look(&live_link(version, sapi, module, priority))? {
            Seen::Link(text) if text == target(version, module).as_bytes() => Self::Enabled(if marked("enabled_by_admin")? {
                "local administrator"
            } else if marked("enabled_by_maint")? {
                "maintainer script"
            } else {
                "unknown"
            }),
            Seen::File(_) => Self::File,
            Seen::Absent if marked("disabled_by_admin")? => Self::Disabled("local administrator", 32),
            Seen::Absent if marked("disabled_by_maint")? => Self::Disabled("maintainer script", 33),
            Seen::Absent => Self::Disabled("unknown", 1),
            _ => return None,
        })
    }

    fn code(&self) -> u8 {
        match self {
            Self::NoModule => 1,
            Self::Enabled(_) | Self::File => 0,
            Self::Disabled(_, code) => *code,
        }
    }

    fn words(&self, sapi: &str, module: &str) -> String {
        match self {
            Self::NoModule => format!("No module matches {module}\n"),
            Self::Enabled(by) => format!("{module} (Enabled for {sapi} by {by})\n"),
            Self::File => String::new(),
            Self::Disabled(by, _) => format!("No module matches {module} (Disabled for {sapi} by {by})\n"),
        }
    }
}

fn marker(version: &str, sapi: &str, what: &str, module: &str) -> String {
    format!("/var/lib/php/modules/{version}/{sapi}/{what}/{module}")
}

fn target(version: &str, module: &str) -> String {
    format!("/etc/php/{version}/mods-available/{module}.ini")
}

fn live_link(version: &str, sapi: &str, module: &str, priority: u32) -> String {
    format!("/etc/php/{version}/{sapi}/conf.d/{priority:02}-{module}.ini")
}

/// Returns the priority that a module's file asks for.
fn priority(tree: &Tree, version: &str, module: &str) -> Option<u32> {
    let mut found = None;
    for line in tree.read(&target(version, module))?.split(|byte| *byte == b'\n') {
        // A line of digits alone ends the search of the original.
        if !line.is_empty() && line.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let Some(rest) = line.strip_prefix(b";").map(<[u8]>::trim_ascii_start).and_then(|rest| rest.strip_prefix(b"priority"))
        else {
            if line.starts_with(b";") && line.windows(8).any(|part| part == b"priority") && !line.is_ascii() {
                return None;
            }
            continue;
        };
        if !line.is_ascii() || line.contains(&0x0b) {
            return None;
        }
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii) else { continue };
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let text = std::str::from_utf8(value).ok()?;
        // The digits as they stand are part of the link's name.
        let number: u32 = text.parse().ok()?;
        if found.replace(number).is_some() || format!("{number:02}") != text {
            return None;
        }
    }
    Some(found.unwrap_or(20))
}

pub fn phpenmod(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let words = call.words()?;
    let options = options(&words, &["-q", "-m", "-r"], false)?;
    let version = options.version?;
    let [module] = *options.rest else { return None };
    if !options.flags.contains(&"-m") {
        return None;
    }
    let priority = priority(tree, version, module)?;
    let sapis = options.sapi.map_or_else(|| sapis(tree, version), |sapi| Some(vec![sapi.to_owned()]))?;
    for sapi in &sapis {
        let may = match State::of(tree, version, sapi, module)? {
            State::Enabled(_) | State::Disabled(_, 1 | 33) => true,
            State::NoModule | State::File | State::Disabled(..) => false,
        };
        let folders = [format!("/etc/php/{version}/{sapi}/conf.d"), format!("/var/lib/php/modules/{version}/{sapi}")];
        if !may || !tree.is_folder(&folders[0])? || !markers_are_plain(tree, &folders[1], module)? {
            return None;
        }
    }
    let registry = options.flags.contains(&"-r").then(|| format!("/var/lib/php/modules/{version}/registry"));
    if let Some(registry) = &registry {
        tree.look(registry)?;
        tree.has_file(&format!("{registry}/{module}"))?;
    }
    let work = || {
        for sapi in &sapis {
            let link = live_link(version, sapi, module, priority);
            if matches!(tree.look(&link), Some(Seen::Absent)) {
                tree.link(&target(version, module), &link)?;
            }
            record(tree, version, sapi, module)?;
        }
        let Some(registry) = registry else { return Ok(()) };
        tree.make_folders(&registry)?;
        tree.touch(&format!("{registry}/{module}"))
    };
    Some(done(work, Reply::default()))
}

const MARKERS: [&str; 4] = ["disabled_by_admin", "disabled_by_maint", "enabled_by_admin", "enabled_by_maint"];

/// Says whether the folders of markers, where they are, are folders, and the markers files.
fn markers_are_plain(tree: &Tree, folder: &str, module: &str) -> Option<bool> {
    for marker in MARKERS {
        if !matches!(tree.look(&format!("{folder}/{marker}"))?, Seen::Folder | Seen::Absent) {
            return Some(false);
        }
        tree.has_file(&format!("{folder}/{marker}/{module}"))?;
    }
    Some(true)
}

/// Notes that a maintainer script enabled the module, unless that or more was noted before.
fn record(tree: &Tree, version: &str, sapi: &str, module: &str) -> std::io::Result<()> {
    let path = |what: &str| marker(version, sapi, what, module);
    let stands = |what: &str| !matches!(tree.look(&path(what)), Some(Seen::Absent));
    if stands("enabled_by_admin") || stands("enabled_by_maint") {
        return Ok(());
    }
    for what in ["disabled_by_admin", "disabled_by_maint"] {
        if stands(what) {
            tree.remove(&path(what))?;
        }
    }
    tree.make_folders(&format!("/var/lib/php/modules/{version}/{sapi}/enabled_by_maint"))?;
    tree.create(&path("enabled_by_maint"), b"", 0o644).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_read_as_the_original_reads_it_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/php/8.4/mods-available");
        std::fs::create_dir_all(&folder).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let read = |text: &str| {
            std::fs::write(folder.join("x.ini"), text).unwrap();
            priority(&tree, "8.4", "x")
        };
        assert_eq!(read("extension=x\n"), Some(20));
        assert_eq!(read("; priority=15\n"), Some(15));
        assert_eq!(read(";priority = 05 \n"), Some(5));
        assert_eq!(read("; priority=x\n# priority=10\n ; priority=11\n"), Some(20));
        for odd in ["; priority=5\n", "; priority=10\n; priority=20\n", "12\n", "; priority=\u{a0}10\n", "; priorité priority\n"]
        {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn options_are_words_of_their_own() {
        let flags = ["-q", "-m"];
        let read = |words: &[&str]| {
            options(words, &flags, false).map(|options| (options.version.map(str::to_owned), options.rest.len()))
        };
        assert_eq!(read(&["-m", "-v", "8.4", "xml"]), Some((Some("8.4".to_owned()), 1)));
        for odd in [&["-v8.4"][..], &["-v"], &["-m", "-m"], &["-v", "8.4", "-v", "8.3"], &["-v", "ALL"], &["-mq"], &["xml", "-m"]]
        {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }
}
