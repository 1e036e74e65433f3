//! Whether what changed in an image's accounts is the work of packages that were announced. Pure.
//!
//! A package makes its accounts by its scripts, so the package that has a file cannot be asked: `/etc/passwd` is nobody's, and whichever
//! script wrote last says nothing of the line before. So every entry is compared, and one that is new, gone or another must be named in
//! the scripts of an announced package, or in what it gives to `systemd-sysusers`.
//!
//! Source: passwd(5), group(5), shadow(5), gshadow(5); Debian Policy, section 9.2.2.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::problem::shown;

/// Where accounts stand.
pub const FILES: [&str; 4] = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"];

/// What an image says of its accounts.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// The contents of those of [`FILES`] that there are.
    pub files: BTreeMap<&'static str, Vec<u8>>,
    /// What each announced package says of accounts: its scripts, and its files for `systemd-sysusers`.
    pub texts: BTreeMap<String, Vec<Vec<u8>>>,
}

/// An account or group that an announced package made, changed, or makes no longer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountChange {
    pub name: String,
    /// `added`, `removed` or `changed`.
    pub kind: &'static str,
    /// Whether it is a group.
    pub is_group: bool,
    /// Its number, the new one where there are two.
    pub id: String,
    /// The package that names it.
    pub package: String,
}

/// Explains every change of accounts by an announced package.
///
/// Nothing needs an explanation that gives nobody anything: the day of a password's last change, where a locked password is written down, and
/// entries of the shadow files for accounts that are known.
///
/// # Errors
/// Returns every change that nothing explains, in words.
pub fn explain(before: &Stated, after: &Stated) -> Result<Vec<AccountChange>, Vec<String>> {
    let mut judge = Judge { before, after, changes: BTreeSet::new(), surprises: Vec::new() };
    for (file, is_group) in [("etc/passwd", false), ("etc/group", true)] {
        judge.accounts(file, is_group);
    }
    for (file, of) in [("etc/shadow", "etc/passwd"), ("etc/gshadow", "etc/group")] {
        judge.secrets(file, of);
    }
    if judge.surprises.is_empty() { Ok(judge.changes.into_iter().collect()) } else { Err(judge.surprises) }
}

struct Judge<'a> {
    before: &'a Stated,
    after: &'a Stated,
    changes: BTreeSet<AccountChange>,
    surprises: Vec<String>,
}

/// One line: what stands between its colons.
type Fields = Vec<String>;

/// Returns the entries of a file by name, and the names that stand twice or are none.
fn entries(stated: &Stated, file: &str) -> (BTreeMap<String, Fields>, BTreeSet<String>) {
    let (mut entries, mut odd) = (BTreeMap::new(), BTreeSet::new());
    let content = stated.files.get(file).map_or(&b""[..], Vec::as_slice);
    let length = if file == "etc/passwd" {
        7
    } else if file == "etc/shadow" {
        9
    } else {
        4
    };
    for line in String::from_utf8_lossy(content).lines().filter(|line| !line.is_empty()) {
        let mut fields: Fields = line.split(':').map(str::to_owned).collect();
        let name = fields[0].clone();
        if fields.len() != length || name.is_empty() || entries.contains_key(&name) {
            odd.insert(line.to_owned());
            continue;
        }
        if is_locked(file, &fields[1]) {
            "locked".clone_into(&mut fields[1]);
        }
        if file == "etc/shadow" {
            fields[2].clear();
        }
        entries.insert(name, fields);
    }
    (entries, odd)
}

/// Whether nobody can log in with what stands where a password would.
fn is_locked(file: &str, secret: &str) -> bool {
    // In the open files `x` says that it stands in the other one.
    secret.starts_with(['!', '*']) || secret == "x" && ["etc/passwd", "etc/group"].contains(&file)
}

impl Judge<'_> {
    /// Compares users or groups.
    fn accounts(&mut self, file: &'static str, is_group: bool) {
        let ((old, _), (new, odd)) = (entries(self.before, file), entries(self.after, file));
        self.odd(file, &odd);
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), new.get(name));
            if before == after {
                continue;
            }
            let id = |fields: Option<&Fields>| fields.map(|fields| fields[2].clone()).unwrap_or_default();
            let (was, is) = (id(before), id(after));
            let kind = match (before, after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            };
            let what = if is_group { "the group" } else { "the account" };
            if !is_group && is.parse() == Ok(0_u32) && was != is {
                self.surprises.push(format!("{what} `{}` has the number of root", shown(name)));
                continue;
            }
            if after.is_some_and(|fields| fields[1] != "locked" && before.is_none_or(|before| before[1] != fields[1])) {
                self.surprises.push(format!("{what} `{}` has another password, or none", shown(name)));
                continue;
            }
            // Who joins a group, or leaves it, explains that as well as the group does.
            let only_members = is_group && before.zip(after).is_some_and(|(before, after)| before[2] == after[2]);
            let package = self.named(name, after.is_some()).or_else(|| {
                let members = members(before?, after?);
                let mut by = members.iter().map(|(member, joins)| self.named(member, *joins));
                let first = by.next()?;
                by.fold(first, Option::and).filter(|_| only_members)
            });
            match package {
                Some(package) => {
                    let id = if is.is_empty() { was } else { is };
                    self.changes.insert(AccountChange { name: shown(name), kind, is_group, id, package });
                }
                None if kind == "changed" && was != is => self.surprises.push(format!(
                    "{what} `{}` has the number {is} in place of {was}, and no package that was announced names it",
                    shown(name)
                )),
                None => {
                    self.surprises
                        .push(format!("{what} `{}` is {kind}, and no package that was announced names it", shown(name)));
                }
            }
        }
    }

    /// Compares what the shadow files say of known accounts.
    fn secrets(&mut self, file: &'static str, of: &'static str) {
        let ((old, _), (new, odd)) = (entries(self.before, file), entries(self.after, file));
        self.odd(file, &odd);
        let known = entries(self.after, of).0;
        for (name, fields) in &new {
            let before = old.get(name);
            if before == Some(fields) {
                continue;
            }
            let opens = fields[1] != "locked" && before.is_none_or(|before| before[1] != fields[1]);
            if opens {
                self.surprises.push(format!("`{}` has another password, or none", shown(name)));
            } else if before.is_none() && !known.contains_key(name) {
                self.surprises.push(format!("`/{file}` has an entry for `{}`, which is no account", shown(name)));
            }
        }
    }

    /// Takes in lines that no program makes; those of before are what they were.
    fn odd(&mut self, file: &'static str, odd: &BTreeSet<String>) {
        let before = entries(self.before, file).1;
        for line in odd.difference(&before) {
            let name = line.split(':').next().unwrap_or_default();
            self.surprises.push(format!("`/{file}` has a second or malformed entry for `{}`", shown(name)));
        }
    }

    /// Returns the announced package whose texts name an account.
    fn named(&self, name: &str, now: bool) -> Option<String> {
        let stated = if now { self.after } else { self.before };
        let names = |texts: &Vec<Vec<u8>>| texts.iter().any(|text| has_word(text, name.as_bytes()));
        stated.texts.iter().find(|(_, texts)| names(texts)).map(|(package, _)| package.clone())
    }
}

/// Returns who joined a group (or left it).
fn members<'a>(before: &'a Fields, after: &'a Fields) -> Vec<(&'a str, bool)> {
    let list = |fields: &'a Fields| -> BTreeSet<&'a str> { fields[3].split(',').filter(|name| !name.is_empty()).collect() };
    let (old, new) = (list(before), list(after));
    let joined = new.difference(&old).map(|name| (*name, true));
    joined.chain(old.difference(&new).map(|name| (*name, false))).collect()
}

/// Whether a text has a word, and not only as a part of another.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
    !word.is_empty()
        && text.windows(word.len()).enumerate().any(|(at, found)| {
            found == word && !inside(at.checked_sub(1).and_then(|at| text.get(at))) && !inside(text.get(at + word.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: [&str; 4] = [
        "root:*:0:0:root:/root:/bin/sh\nbus:x:100:100::/:/usr/sbin/nologin\n",
        "root:*:0:\nssl:x:90:\nbus:x:100:\n",
        "root:*:20000:0:99999:7:::\nbus:!:20000::::::\n",
        "root:*::\nssl:!::\nbus:!::\n",
    ];

    fn stated(files: [&str; 4], text: &str) -> Stated {
        let files = FILES.into_iter().zip(files).map(|(file, content)| (file, content.as_bytes().to_vec())).collect();
        Stated { files, texts: BTreeMap::from([("newpkg".to_owned(), vec![text.as_bytes().to_vec()])]) }
    }

    /// Adds lines to the four files and lets them be judged.
    fn added(lines: [&str; 4], text: &str) -> Result<Vec<AccountChange>, Vec<String>> {
        let files: Vec<String> = BEFORE.iter().zip(lines).map(|(before, line)| format!("{before}{line}")).collect();
        explain(&stated(BEFORE, ""), &stated([&files[0], &files[1], &files[2], &files[3]], text))
    }

    fn changed(file: usize, from: &str, to: &str, text: &str) -> Result<Vec<AccountChange>, Vec<String>> {
        let other = BEFORE[file].replace(from, to);
        assert_ne!(other, BEFORE[file]);
        let mut after = BEFORE;
        after[file] = &other;
        explain(&stated(BEFORE, ""), &stated(after, text))
    }

    const SVC: [&str; 4] =
        ["svc:x:101:101::/var/lib/svc:/usr/sbin/nologin\n", "svc:x:101:\n", "svc:!:20500::::::\n", "svc:!::\n"];
    const SCRIPT: &str = "#!/bin/sh\nadduser --system --group svc\n";

    #[test]
    fn an_account_that_an_announced_package_names_is_told_of() {
        let shown: Vec<String> = added(SVC, SCRIPT)
            .unwrap()
            .iter()
            .map(|change| {
                let AccountChange { name, kind, is_group, id, package } = change;
                format!("{name} {kind} {is_group} {id} {package}")
            })
            .collect();
        assert_eq!(shown, ["svc added false 101 newpkg", "svc added true 101 newpkg"]);
        // A word of its own, and not a part of another.
        for text in ["adduser svc2", "adduser my_svc", "adduser svc-x", ""] {
            let surprises = added(SVC, text).unwrap_err();
            assert_eq!(surprises[0], "the account `svc` is added, and no package that was announced names it", "{text}");
        }
        // One that is made no longer was named before.
        let (with, without) = (stated(BEFORE, "adduser bus"), BEFORE.map(|text| text.replace("bus:", "gone:")));
        let gone =
            BEFORE.map(|text| text.lines().filter(|line| !line.starts_with("bus")).map(|line| format!("{line}\n")).collect());
        let gone: [String; 4] = gone;
        let after = stated([&gone[0], &gone[1], &gone[2], &gone[3]], "");
        assert_eq!(explain(&with, &after).unwrap()[0].kind, "removed");
        assert!(explain(&stated(BEFORE, ""), &after).is_err());
        let renamed = stated([&without[0], &without[1], &without[2], &without[3]], "");
        assert!(explain(&with, &renamed).is_err(), "another name in its place");
    }

    #[test]
    fn what_gives_nobody_anything_needs_no_explanation() {
        assert_eq!(changed(2, "bus:!:20000:", "bus:!:20500:", ""), Ok(Vec::new()), "the day of the last change");
        assert_eq!(changed(0, "root:*:", "root:x:", ""), Ok(Vec::new()), "the password stands in the other file");
        let mut before = BEFORE;
        (before[2], before[3]) = ("", "");
        assert_eq!(explain(&stated(before, ""), &stated(BEFORE, "")), Ok(Vec::new()), "shadow files of known accounts");
    }

    #[test]
    fn what_gives_somebody_something_is_a_surprise_whatever_a_package_names() {
        let refused = |found: Result<Vec<AccountChange>, Vec<String>>, words: &str| {
            let surprises = found.unwrap_err().join("; ");
            assert!(surprises.contains(words), "{words}: {surprises}");
        };
        let all = "root bus svc ssl";
        refused(added(["svc:x:0:0::/:/bin/sh\n", "", "", ""], all), "`svc` has the number of root");
        refused(changed(0, "bus:x:100:", "bus:x:0:", all), "`bus` has the number of root");
        refused(changed(0, "root:*:", "root::", all), "the account `root` has another password, or none");
        refused(changed(2, "root:*:", "root:$6$x$y:", all), "`root` has another password, or none");
        refused(changed(3, "ssl:!:", "ssl::", all), "`ssl` has another password, or none");
        refused(added(["root::0:0::/:/bin/sh\n", "", "", ""], all), "second or malformed entry for `root`");
        refused(added(["bus2\n", "", "", ""], all), "second or malformed entry for `bus2`");
        refused(added(["", "", "evil:!:1::::::\n", ""], all), "an entry for `evil`, which is no account");
    }

    #[test]
    fn numbers_and_members_are_compared() {
        let number = "the account `bus` has the number 101 in place of 100, and no package that was announced names it";
        assert_eq!(changed(0, "bus:x:100:", "bus:x:101:", "").unwrap_err(), [number]);
        assert_eq!(changed(0, "bus:x:100:", "bus:x:101:", "adduser bus").unwrap().len(), 1);
        assert!(changed(0, "nologin", "bash", "").is_err(), "a shell");
        let joins = |text: &str| changed(1, "ssl:x:90:", "ssl:x:90:bus", text);
        assert!(joins("").is_err());
        for text in ["adduser bus ssl", "bus", "ssl"] {
            assert_eq!(joins(text).unwrap()[0].name, "ssl");
        }
        let two = |text: &str| changed(1, "ssl:x:90:", "ssl:x:90:bus,root", text);
        assert!(two("bus").is_err(), "nobody named the second");
        assert!(two("bus root").is_ok());
        assert!(changed(1, "ssl:x:90:", "ssl:x:91:bus", "bus").is_err(), "who joins does not explain the number");
    }
}
