//! Whether nothing but what was announced changed from one image to the next.

use std::collections::BTreeSet;

use super::accounts::{AccountChange, FILES};
use super::diff::{Difference, FileChange};

/// Settings that follow from what changed: when the image was decided anew, and on which one it stands.
const FOLLOWING: [&str; 2] = ["Label org.opencontainers.image.created", "Label org.opencontainers.image.base.digest"];

/// What changed beside the files of announced packages, and may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Paths that scripts of packages or of the recipe made anew, sorted.
    pub by_scripts: Vec<String>,
    /// Paths of the package database, as many as changed.
    pub database: usize,
    /// Paths of announced packages, as many as changed.
    pub files: usize,
    /// Accounts and groups that announced packages made, changed, or make no longer.
    pub accounts: Vec<AccountChange>,
}

/// Holds what differs against the names of the packages that were announced.
///
/// Files may differ that belong to an announced package, that a script makes, or that are the package database; files of accounts in their
/// date, and in entries that an announced package explains. Everything else is a surprise: a package that nobody announced, its files, the
/// recipe's own files, a setting of the image.
///
/// # Errors
/// Returns every surprise, in words.
pub fn prove(
    difference: &Difference,
    announced: &BTreeSet<&str>,
    accounts: Result<Vec<AccountChange>, Vec<String>>,
) -> Result<Proof, Vec<String>> {
    let mut surprises = Vec::new();
    for change in &difference.packages {
        // A second architecture of one name stands as `NAME:ARCHITECTURE`.
        if !announced.contains(change.name.split(':').next().unwrap_or_default()) {
            surprises.push(format!("the package `{}` is {}", change.name, change.kind()));
        }
    }
    let mut proof = Proof::default();
    match accounts {
        Ok(accounts) => proof.accounts = accounts,
        Err(unexplained) => surprises.extend(unexplained),
    }
    for FileChange { path, kind, owner, aspects } in &difference.files {
        let is_script = owner.starts_with("script of ") || owner.starts_with("run of ");
        let is_accounts = FILES.iter().any(|file| file.as_bytes() == path.as_bytes());
        // What stands in them was compared entry by entry. What parvis itself writes is as old as the newest package of the image.
        let is_compared = *kind != "removed" && aspects.iter().all(|aspect| ["content", "date"].contains(&aspect.name));
        match owner.strip_prefix("package ") {
            Some(name) if announced.contains(name) => proof.files += 1,
            // Scripts of dpkg itself are no less than the database that it keeps.
            _ if is_database(path.as_bytes()) => proof.database += 1,
            _ if is_accounts && is_compared && (is_script || owner.is_empty()) => proof.database += 1,
            _ if is_script && !is_accounts => proof.by_scripts.push(path.to_string()),
            _ if owner.is_empty() => surprises.push(format!("`{path}` is {kind}, and nobody is known to have put it there")),
            _ => surprises.push(format!("`{path}` is {kind} ({owner})")),
        }
    }
    for change in difference.config.iter().filter(|change| !FOLLOWING.contains(&change.name.as_str())) {
        surprises.push(format!("the setting `{}` of the image is another one", change.name));
    }
    if surprises.is_empty() { Ok(proof) } else { Err(surprises) }
}

fn is_database(path: &[u8]) -> bool {
    path == b"var/lib/dpkg" || path.starts_with(b"var/lib/dpkg/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::diff::{Aspect, PackageChange, SettingChange};
    use crate::model::tree::TreePath;

    fn difference(files: &[(&str, &str)]) -> Difference {
        let file = |(path, owner): &(&str, &str)| FileChange {
            path: TreePath::parse(path.as_bytes()).unwrap(),
            kind: "changed",
            owner: (*owner).into(),
            aspects: Vec::new(),
        };
        Difference {
            packages: vec![PackageChange { name: "libssl3".into(), before: Some("1".into()), after: Some("2".into()) }],
            files: files.iter().map(file).collect(),
            config: Vec::new(),
            layers: Vec::new(),
            layers_before: 0,
        }
    }

    #[test]
    fn announced_packages_scripts_and_the_database_may_change() {
        let files = [
            ("usr/lib/libssl.so.3", "package libssl3"),
            ("etc/ld.so.cache", "script of libc-bin"),
            ("var/lib/dpkg/status", "package database"),
        ];
        let proof = prove(&difference(&files), &BTreeSet::from(["libssl3"]), Ok(Vec::new())).unwrap();
        let expected = Proof { by_scripts: vec!["/etc/ld.so.cache".into()], database: 1, files: 1, accounts: Vec::new() };
        assert_eq!(proof, expected);
    }

    #[test]
    fn whatever_nobody_announced_is_a_surprise() {
        let surprises = |files: &[(&str, &str)], announced: &[&str]| {
            prove(&difference(files), &announced.iter().copied().collect(), Ok(Vec::new())).unwrap_err()
        };
        assert_eq!(surprises(&[], &["other"]), ["the package `libssl3` is newer"]);
        for (path, owner, message) in [
            ("usr/bin/curl", "package curl", "`/usr/bin/curl` is changed (package curl)"),
            ("etc/app.conf", "recipe web, line 3", "`/etc/app.conf` is changed (recipe web, line 3)"),
            ("app/index.php", "composer package acme/a", "`/app/index.php` is changed (composer package acme/a)"),
            ("evil", "", "`/evil` is changed, and nobody is known to have put it there"),
        ] {
            assert_eq!(surprises(&[(path, owner)], &["libssl3"]), [message]);
        }
        let mut changed = difference(&[]);
        changed.config.push(SettingChange { name: FOLLOWING[0].into(), before: Some("then".into()), after: Some("now".into()) });
        changed.config.push(SettingChange { name: "User".into(), before: Some("www".into()), after: None });
        assert_eq!(
            prove(&changed, &BTreeSet::from(["libssl3"]), Ok(Vec::new())).unwrap_err(),
            ["the setting `User` of the image is another one"]
        );
    }

    #[test]
    fn files_of_accounts_may_be_dated_anew_and_have_what_was_explained() {
        let prove = |path: &str, owner: &str, aspect: &'static str| {
            let mut found = difference(&[(path, owner)]);
            found.files[0].aspects = vec![Aspect { name: aspect, before: "1".into(), after: "2".into() }];
            super::prove(&found, &BTreeSet::from(["libssl3"]), Ok(Vec::new())).is_ok()
        };
        for owner in ["", "script of adduser"] {
            assert!(prove("etc/passwd", owner, "date") && prove("etc/group", owner, "content"));
            assert!(!prove("etc/shadow", owner, "mode") && !prove("etc/gshadow", owner, "owner"));
        }
        assert!(!prove("etc/hosts", "", "date") && !prove("etc/passwd", "files recipes/a.yaml:3", "date"));
        let removed = |path: &str, owner: &str| {
            let mut found = difference(&[(path, owner)]);
            found.files[0].kind = "removed";
            super::prove(&found, &BTreeSet::from(["libssl3"]), Ok(Vec::new())).is_ok()
        };
        assert!(removed("etc/other", "script of adduser") && !removed("etc/shadow", "script of adduser"));
        let unexplained = super::prove(&difference(&[]), &BTreeSet::from(["libssl3"]), Err(vec!["an account".into()]));
        assert_eq!(unexplained.unwrap_err(), ["an account"]);
    }
}
