//! What of a project is published with a version: its files, without what the project keeps for itself, and without private addresses.
//!
//! A private address is one that nobody else can reach and that tells how somebody's network is made: addresses of RFC 1918, RFC 4193
//! and RFC 3927, names below `.lan`, `.local`, `.internal` and the like, and folders of a machine that stand for mirrors (`file://`).

use std::collections::BTreeSet;

use crate::model::problem::shown;
use crate::model::project::{PrivateKey, SourceRule};

/// Names below these are resolved inside of a network only (RFC 6762, appendix G; RFC 8375; `.internal` by ICANN's resolution 2024.07.29.06).
const PRIVATE_ZONES: [&str; 9] = ["local", "internal", "lan", "intranet", "corp", "home", "private", "localdomain", "arpa"];

/// What looks like a private name and is known to everybody.
const PUBLIC: [&str; 3] = ["rc.local", "host.docker.internal", "gateway.docker.internal"];

/// Endings of files in which an address of a folder stands for a mirror.
const SETTINGS: [&str; 8] = ["yaml", "yml", "lock", "json", "toml", "list", "sources", "ini"];

/// Endings of programs; one without is known by its first line.
const PROGRAMS: [&str; 12] = ["rs", "py", "php", "phar", "js", "cjs", "ts", "c", "h", "go", "pl", "rb"];

/// Those of the zones that are words of programs as well: behind one name only, and neither quoted nor in an address, they are a member of it.
const WORDS: [&str; 4] = ["local", "internal", "home", "private"];

/// The file of the project.
pub const PROJECT: &str = "parvis.yaml";

/// Something private in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    pub path: String,
    /// The first line is 1.
    pub line: usize,
    pub what: String,
}

/// Whether a file stays at home.
#[must_use]
pub fn is_left_out(path: &str, rule: &SourceRule) -> bool {
    rule.without.iter().any(|without| {
        let without = String::from_utf8_lossy(without.as_bytes());
        path == without || path.strip_prefix(&*without).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// Takes keys out of the text of `parvis.yaml`, each with the comment above it. What they say about publishing goes as well.
#[must_use]
pub fn without_keys(text: &str, keys: &BTreeSet<PrivateKey>) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name()).chain(["source"]).collect();
    let mut out: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let begins = |name: &&&str| line.strip_prefix(**name).is_some_and(|rest| rest.starts_with(':'));
        // Lines of a list may stand at the margin.
        let goes_on = line.is_empty() || line.starts_with([' ', '\t', '-']);
        if names.iter().find(begins).is_some() {
            inside = true;
            while out.last().is_some_and(|last| last.starts_with('#')) {
                out.pop();
            }
        } else if !inside || !goes_on {
            inside = false;
            out.push(line);
        }
    }
    let mut text = out.join("\n");
    text.push('\n');
    text
}

/// Returns the host of an address or of a registry: without scheme, port and path.
#[must_use]
pub fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

/// Finds what is private in a file. `hosts` are those of keys that are taken out: they must not stand elsewhere either. A file that is
/// no text is not looked at.
#[must_use]
pub fn search(path: &str, content: &[u8], rule: &SourceRule, hosts: &BTreeSet<String>) -> Vec<Private> {
    let Some(text) = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0')) else { return Vec::new() };
    let ends = |endings: &[&str]| path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending));
    let settings = ends(&SETTINGS);
    let program = ends(&PROGRAMS) || text.starts_with("#!");
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = addresses(line);
        words.extend(names(line, program));
        words.extend(hosts.iter().filter(|host| holds(line, host)).cloned());
        if settings {
            words.extend(folders(line));
        }
        words.retain(|word| !rule.allow.contains(word));
        words.sort();
        words.dedup();
        found.extend(words.into_iter().map(|what| Private { path: path.to_owned(), line: index + 1, what: shown(&what) }));
    }
    found
}

/// Returns runs of characters of a line, each with what stands before and behind it.
fn runs(line: &str, of: impl Fn(char) -> bool) -> Vec<(&str, &str, &str)> {
    let mut runs = Vec::new();
    let mut rest = 0;
    while let Some(begin) = line[rest..].find(&of).map(|at| rest + at) {
        let end = line[begin..].find(|character| !of(character)).map_or(line.len(), |at| begin + at);
        runs.push((&line[..begin], &line[begin..end], &line[end..]));
        rest = end;
    }
    runs
}

/// Returns private addresses of machines, but not of networks (`10.0.0.0/8`): those tell nothing of anybody.
fn addresses(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (before, run, after) in runs(line, |character| character.is_ascii_digit() || character == '.') {
        let run = run.trim_end_matches('.');
        let joined = before
            .ends_with(|character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '+' | '~'))
            || after.starts_with(|character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '+' | '~'));
        let prefix: &str = after.strip_prefix('/').unwrap_or_default();
        let digits = prefix.find(|character: char| !character.is_ascii_digit()).unwrap_or(prefix.len());
        let network = (1..=2).contains(&digits) && !before.ends_with("//");
        let octets: Option<Vec<u8>> = run.split('.').map(|octet| octet.parse().ok()).collect();
        // Addresses of carriers (RFC 6598) are no less private.
        let private = octets.is_some_and(|octets| {
            octets.len() == 4
                && matches!((octets[0], octets[1]), (10, _) | (172, 16..=31) | (192, 168) | (169, 254) | (100, 64..=127))
        });
        if private && !joined && !network {
            found.push(run.to_owned());
        }
    }
    for (_, run, after) in runs(line, |character| character.is_ascii_hexdigit() || character == ':') {
        let groups: Vec<&str> = run.split(':').collect();
        let unique = |group: &str| group.len() == 4 && (group.starts_with("fc") || group.starts_with("fd"));
        if groups.len() > 3 && unique(groups[0]) && groups.iter().all(|group| group.len() <= 4) && !after.starts_with('/') {
            found.push(run.to_owned());
        }
    }
    found
}

/// Returns private names of machines. In a program, a member of a value is none.
fn names(line: &str, program: bool) -> Vec<String> {
    let mut found = Vec::new();
    let part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-');
    for (before, run, after) in runs(line, part) {
        let run = run.trim_end_matches(['.', '-']);
        let labels: Vec<&str> = run.split('.').collect();
        let zone = labels.last().is_some_and(|last| PRIVATE_ZONES.contains(last)) && !run.ends_with(".arpa")
            || run.ends_with(".home.arpa");
        let plain = labels.len() > 1
            && labels.iter().all(|label| !label.is_empty() && !label.starts_with('-'))
            && !run.chars().any(|character| character.is_ascii_uppercase());
        // A file's name in a path, a call, a variable.
        let file = before.ends_with('/') && !before.ends_with("//");
        let code = after.starts_with(['(', '_', '[']) || before.ends_with(['_', '$', '{', '\\']);
        let word = labels.len() == 2 && WORDS.contains(&labels[1]);
        let member = program && word && !before.ends_with(['"', '\'', '`', '@', '/']);
        if zone && plain && !file && !code && !member && !PUBLIC.contains(&run) {
            found.push(run.to_owned());
        }
    }
    found
}

/// Returns folders of a machine that stand where an address does.
fn folders(line: &str) -> Vec<String> {
    let end = |rest: &str| {
        rest.find(|character: char| character.is_whitespace() || "\"'`,)]}".contains(character)).unwrap_or(rest.len())
    };
    line.match_indices("file://").map(|(at, _)| line[at..at + end(&line[at..])].to_owned()).collect()
}

/// Whether a name stands in a line as a whole.
fn holds(line: &str, host: &str) -> bool {
    let part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-');
    runs(line, part).iter().any(|(_, run, _)| run.trim_end_matches(['.', '-']) == host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tree::TreePath;

    fn found(path: &str, text: &str) -> Vec<String> {
        let hosts = BTreeSet::from(["registry.example".to_owned()]);
        let rule = SourceRule { allow: ["known.internal".to_owned()].into(), ..SourceRule::default() };
        search(path, text.as_bytes(), &rule, &hosts)
            .into_iter()
            .map(|private| format!("{}: {}", private.line, private.what))
            .collect()
    }

    #[test]
    fn private_addresses_are_found_with_their_lines() {
        for (text, expected) in [
            ("a\nmirror: http://10.1.2.3/debian\n", "2: 10.1.2.3"),
            ("at 192.168.0.7.", "1: 192.168.0.7"),
            ("172.31.255.1:5000", "1: 172.31.255.1"),
            ("http://10.0.0.0/8", "1: 10.0.0.0"),
            ("169.254.1.1", "1: 169.254.1.1"),
            ("100.64.0.9", "1: 100.64.0.9"),
            ("[fd12:3456:789a::1]:443", "1: fd12:3456:789a::1"),
            ("https://git.parish.lan/x", "1: git.parish.lan"),
            ("write to admin@mail.internal", "1: mail.internal"),
            ("host nas.local.", "1: nas.local"),
            ("box.home.arpa", "1: box.home.arpa"),
            ("push to registry.example:5000/parish", "1: registry.example"),
            ("url: \"file:///srv/mirror\"", "1: file:///srv/mirror"),
        ] {
            assert_eq!(found("x.yaml", text), [expected], "{text}");
        }
        for (text, expected) in [
            ("let host = \"nas.local\";", "1: nas.local"),
            ("// https://nas.local/x", "1: nas.local"),
            ("'me@mail.internal'", "1: mail.internal"),
            ("connect(git.parish.lan)", "1: git.parish.lan"),
        ] {
            assert_eq!(found("x.py", text), [expected], "{text}");
        }
    }

    #[test]
    fn what_everybody_may_see_is_let_through() {
        for text in [
            "127.0.0.1 localhost 8.8.8.8 172.32.0.1 100.128.0.1",
            "RemoteIPInternalProxy 10.0.0.0/8 172.16.0.0/12",
            "version 10.1.2.3-1 v10.1.2.3 10.1.2 110.1.2.3 10.1.2.3.4",
            "~/.local/share /etc/rc.local /etc/fail2ban/jail.local rc.local",
            "self.local() $x.local Foo.Internal www.local.example 7.in-addr.arpa",
            "host.docker.internal known.internal other-registry.example",
            "fd12:34 fd:12:34:56 sha256:fd12",
        ] {
            assert_eq!(found("x.yaml", text), Vec::<String>::new(), "{text}");
        }
        let program = "user.home.clone() &edition.private, self.local {x.internal}";
        assert_eq!(found("x.rs", program), Vec::<String>::new());
        assert_eq!(found("x", &format!("#!/bin/sh\n{program}")), Vec::<String>::new());
        assert_eq!(found("README.md", "such as `file:///srv/mirror`"), Vec::<String>::new());
        assert_eq!(found("x.bin", "\u{0}10.1.2.3"), Vec::<String>::new());
    }

    #[test]
    fn keys_go_with_their_comments_and_nothing_else_does() {
        let text = "name: a\n\n# Ours.\n# Private.\nregistry: r.lan/a\n# Where.\nmirrors:\n  debian:\n\n  - http://m.lan\nsuites:\n- name: t\nsource:\n  without: [x]\nkeys: []\n";
        let all = BTreeSet::from([PrivateKey::Registry, PrivateKey::Mirrors]);
        assert_eq!(without_keys(text, &all), "name: a\n\nsuites:\n- name: t\nkeys: []\n");
        assert_eq!(without_keys("name: a\nregistry: b\n", &BTreeSet::new()), "name: a\nregistry: b\n");
    }

    #[test]
    fn a_folder_that_stays_at_home_is_left_out_with_all_in_it() {
        let rule = SourceRule { without: vec![TreePath::parse(b"notes").unwrap()], ..SourceRule::default() };
        let left: Vec<bool> = ["notes", "notes/a", "notes.md", "a/notes"].iter().map(|path| is_left_out(path, &rule)).collect();
        assert_eq!(left, [true, true, false, false]);
        assert_eq!(
            [host("https://a.lan:80/x"), host("r.example:5000/p"), host("r.example")],
            ["a.lan", "r.example", "r.example"]
        );
    }
}
