//! composer.lock: the packages that Composer chose, each with its distribution.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::requirement;
use super::json::{Json, JsonError, parse};
use crate::model::name::ComposerName;
use crate::model::problem::shown;

/// The file in which Composer keeps its decision.
pub const COMPOSER_LOCK: &str = "composer.lock";

/// Packages of a lock at most; a large site has some hundred.
const MOST: usize = 5000;

/// The archive of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dist {
    pub url: String,
    pub reference: Option<String>,
    /// The SHA-1 digest, where the repository gives one.
    pub sha1: Option<String>,
    /// Where the repository says that it is to be had too: what Composer tries before the address, and what after it.
    pub mirrors: Mirrors,
}

/// Further addresses of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirrors {
    pub before: Vec<String>,
    pub after: Vec<String>,
}

/// A package that is installed for production.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: ComposerName,
    pub version: String,
    /// Nothing for a package without files, or one that lies in the project itself.
    pub dist: Option<Dist>,
    pub licence: Vec<String>,
    /// The packages that it requires, without `php` and extensions.
    pub requires: BTreeSet<ComposerName>,
    /// The names that it stands for, beside its own.
    pub provides: BTreeSet<ComposerName>,
    pub extra: Option<serde_json::Value>,
}

/// Reads the packages of composer.lock, without those for development, by name.
///
/// # Errors
/// Where it is not a lock of Composer 2, or a package has no archive that parvis could fetch.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<ComposerName, Package>, JsonError> {
    let value = parse(COMPOSER_LOCK, bytes)?;
    let json = Json::new(COMPOSER_LOCK, &value);
    let list = json.get("packages").ok_or_else(|| json.wrong("has no list of packages"))?.items("packages")?;
    if list.len() > MOST {
        return Err(json.wrong(format!("has more than {MOST} packages")));
    }
    let mut packages = BTreeMap::new();
    for entry in list {
        let package = package(&entry)?;
        let name = package.name.clone();
        if packages.insert(name.clone(), package).is_some() {
            return Err(json.wrong(format!("has the package `{name}` twice")));
        }
    }
    Ok(packages)
}

fn package(json: &Json<'_>) -> Result<Package, JsonError> {
    let name = json.text("name")?.ok_or_else(|| json.wrong("has a package without a name"))?;
    let name: ComposerName = name.parse().map_err(|error| json.wrong(format!("has a package with a wrong name: {error}")))?;
    let version = json.text("version")?.ok_or_else(|| json.wrong(format!("has no version of `{name}`")))?;
    if version.is_empty() || version.len() > 200 || version.chars().any(char::is_control) {
        return Err(json.wrong(format!("has the version `{}` of `{name}`, which is none", shown(version))));
    }
    let names = |key: &str| -> Result<BTreeSet<ComposerName>, JsonError> {
        let members = json.get(key).map_or_else(|| Ok(Vec::new()), |members| members.members(key))?;
        let names = members.into_iter().map(|(name, _)| requirement(json, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().flatten().collect())
    };
    let (mut provides, replaces) = (names("provide")?, names("replace")?);
    provides.extend(replaces);
    let licence = match json.get("license") {
        Some(one) if one.as_text("license").is_ok() => vec![one.as_text("license")?.to_owned()],
        Some(list) => {
            list.items("license")?.iter().map(|item| item.as_text("license").map(str::to_owned)).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    if let Some(strange) = licence.iter().find(|licence| licence.len() > 200 || licence.chars().any(char::is_control)) {
        return Err(json.wrong(format!("has the licence `{}` of `{name}`, which is none", shown(strange))));
    }
    Ok(Package {
        dist: dist(json, &name, version)?,
        version: version.to_owned(),
        licence,
        requires: names("require")?,
        provides,
        extra: json.get("extra").map(|extra| extra.to_value()),
        name,
    })
}

fn dist(json: &Json<'_>, name: &ComposerName, version: &str) -> Result<Option<Dist>, JsonError> {
    if json.text("type")? == Some("metapackage") {
        return Ok(None);
    }
    let Some(dist) = json.get("dist") else {
        return Err(json.wrong(format!("has the package `{name}` {} as a repository of sources only", shown(version))));
    };
    let kind = dist.text("type")?.unwrap_or_default();
    match kind {
        // It lies in the project, and its files are those of the project.
        "path" => return Ok(None),
        "zip" | "tar" | "gzip" | "xz" | "phar" | "file" => {}
        _ => {
            return Err(
                json.wrong(format!("has a distribution of `{name}` of the kind `{}`, which parvis does not fetch", shown(kind)))
            );
        }
    }
    let url = dist.text("url")?.ok_or_else(|| json.wrong(format!("has no address of `{name}`")))?;
    let reference = dist.text("reference")?.filter(|reference| !reference.is_empty());
    if let Some(strange) = reference.filter(|reference| reference.len() > 200 || reference.chars().any(char::is_control)) {
        return Err(json.wrong(format!("has the reference `{}` of `{name}`, which is none", shown(strange))));
    }
    let sha1 = dist.text("shasum")?.filter(|sum| !sum.is_empty());
    if let Some(strange) = sha1.filter(|sum| sum.len() != 40 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err(json.wrong(format!("has the checksum `{}` of `{name}`, which is no SHA-1", shown(strange))));
    }
    let mut mirrors = Mirrors::default();
    for mirror in dist.get("mirrors").map_or_else(|| Ok(Vec::new()), |mirrors| mirrors.items("mirrors"))? {
        let Some(template) = mirror.text("url")? else { continue };
        let filled = template
            .replace("%package%", name.as_str())
            .replace("%version%", &normalized(version))
            .replace("%prettyVersion%", version)
            .replace("%reference%", reference.unwrap_or_default())
            .replace("%type%", kind);
        let list = if mirror.get("preferred").is_some_and(|preferred| preferred.is_true()) {
            &mut mirrors.before
        } else {
            &mut mirrors.after
        };
        list.push(filled);
    }
    let (url, reference) = (url.to_owned(), reference.map(str::to_owned));
    Ok(Some(Dist { url, reference, sha1: sha1.map(str::to_ascii_lowercase), mirrors }))
}

/// Returns a version of plain numbers as Composer compares it: with four of them. Any other is left as it is.
fn normalized(version: &str) -> String {
    let plain = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let numbers: Vec<&str> = plain.split('.').collect();
    if numbers.len() > 4 || numbers.iter().any(|number| number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit())) {
        return version.to_owned();
    }
    format!("{plain}{}", ".0".repeat(4 - numbers.len()))
}

/// Returns the shortest way from what a project requires to a package, following what packages provide and replace.
#[must_use]
pub fn chain(
    packages: &BTreeMap<ComposerName, Package>,
    roots: &BTreeSet<ComposerName>,
    package: &ComposerName,
) -> Option<Vec<ComposerName>> {
    let meets = |required: &ComposerName| -> Vec<ComposerName> {
        let own = packages.contains_key(required).then(|| required.clone());
        let others = packages.values().filter(|other| other.provides.contains(required)).map(|other| other.name.clone());
        own.into_iter().chain(others).collect()
    };
    let mut came: BTreeMap<ComposerName, Option<ComposerName>> = BTreeMap::new();
    let mut open: Vec<ComposerName> = Vec::new();
    for root in roots.iter().flat_map(meets) {
        if !came.contains_key(&root) {
            came.insert(root.clone(), None);
            open.push(root);
        }
    }
    let mut next = 0;
    while let Some(name) = open.get(next).cloned() {
        next += 1;
        if name == *package {
            let mut chain = vec![name.clone()];
            let mut above = came.get(&name).cloned().flatten();
            while let Some(name) = above {
                above = came.get(&name).cloned().flatten();
                chain.push(name);
            }
            chain.reverse();
            return Some(chain);
        }
        for below in packages.get(&name).into_iter().flat_map(|package| &package.requires).flat_map(meets) {
            if !came.contains_key(&below) {
                came.insert(below.clone(), Some(name.clone()));
                open.push(below);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(package: &str) -> Result<BTreeMap<ComposerName, Package>, JsonError> {
        read(format!(r#"{{"packages": [{package}], "packages-dev": [{{"name": "../x"}}]}}"#).as_bytes())
    }

    #[test]
    fn a_package_is_read_with_its_distribution() {
        let packages = lock(
            r#"{"name": "acme/a", "version": "v1.2.0", "type": "library", "license": ["MIT", "GPL-2.0-or-later"],
                "source": {"type": "git", "url": "https://g.example/a.git", "reference": "abc"},
                "dist": {"type": "zip", "url": "https://d.example/a.zip", "reference": "abc", "shasum": "", "mirrors": [
                    {"url": "https://m.example/%package%/%version%-%reference%.%type%", "preferred": true},
                    {"url": "https://n.example/%prettyVersion%", "preferred": false}]},
                "require": {"php": "^8", "acme/b-implementation": "*"}, "extra": []},
               {"name": "acme/b", "version": "2", "type": "metapackage", "provide": {"acme/b-implementation": "1"}},
               {"name": "acme/c", "version": "3", "dist": {"type": "path", "url": "packages/c"}}"#,
        )
        .unwrap();
        let name = |text: &str| text.parse::<ComposerName>().unwrap();
        let a = &packages[&name("acme/a")];
        let dist = Dist {
            url: "https://d.example/a.zip".into(),
            reference: Some("abc".into()),
            sha1: None,
            mirrors: Mirrors {
                before: vec!["https://m.example/acme/a/1.2.0.0-abc.zip".into()],
                after: vec!["https://n.example/v1.2.0".into()],
            },
        };
        assert_eq!((a.dist.as_ref(), a.licence.len(), a.version.as_str()), (Some(&dist), 2, "v1.2.0"));
        assert!(packages[&name("acme/b")].dist.is_none() && packages[&name("acme/c")].dist.is_none());
        let found = chain(&packages, &[name("acme/a")].into(), &name("acme/b"));
        assert_eq!(found, Some(vec![name("acme/a"), name("acme/b")]));
        assert_eq!(chain(&packages, &[name("acme/a")].into(), &name("acme/c")), None);
    }

    #[test]
    fn a_package_that_cannot_be_fetched_or_is_none_is_named() {
        let dist =
            |rest: &str| format!(r#"{{"name": "acme/a", "version": "1", "dist": {{"type": "zip", "url": "a.zip"{rest}}}}}"#);
        for (text, expected) in [
            (
                r#"{"name": "../../etc", "version": "1"}"#.to_owned(),
                "has a package with a wrong name: `../../etc` is not the name",
            ),
            (r#"{"name": "a/..", "version": "1"}"#.to_owned(), "has a package with a wrong name: `a/..` is not the name"),
            (r#"{"name": "acme/a"}"#.to_owned(), "has no version of `acme/a`"),
            (r#"{"name": "acme/a", "version": "1\n2"}"#.to_owned(), r"has the version `1\u{a}2` of `acme/a`, which is none"),
            (r#"{"name": "acme/a", "version": "1"}"#.to_owned(), "has the package `acme/a` 1 as a repository of sources only"),
            (dist("").replace("zip\"", "hg\""), "has a distribution of `acme/a` of the kind `hg`, which parvis does not fetch"),
            (dist(r#", "shasum": "abc""#), "has the checksum `abc` of `acme/a`, which is no SHA-1"),
            (dist(r#", "reference": "a\u0000""#), r"has the reference `a\u{0}` of `acme/a`, which is none"),
            (format!("{0},{0}", dist("")), "has the package `acme/a` twice"),
        ] {
            let error = lock(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`composer.lock` {expected}")), "{error}");
        }
        assert_eq!(read(b"{}").unwrap_err().to_string(), "`composer.lock` has no list of packages");
        let many = vec![dist(""); 5001].join(",");
        assert_eq!(lock(&many).unwrap_err().to_string(), "`composer.lock` has more than 5000 packages");
    }
}
