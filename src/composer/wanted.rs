//! Everything that an installation takes from elsewhere: distributions, what plugins download, and patches.
//!
//! Plugins are not asked, their formats are read: `extra.downloads` as civicrm/composer-downloads-plugin documents it, and
//! `extra.patches` as cweagans/composer-patches 1 does.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::Definition;
use super::json::{Json, JsonError, parse};
use super::locked::{COMPOSER_LOCK, Mirrors, Package};
use crate::model::address::Address;
use crate::model::lock::composer::{DownloadKind, name};
use crate::model::name::ComposerName;
use crate::model::problem::shown;

/// Files of an installation at most.
const MOST: usize = 20_000;

/// A file that an installation takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub kind: DownloadKind,
    pub package: String,
    pub title: Option<String>,
    pub version: Option<String>,
    pub reference: Option<String>,
    /// As it is stated.
    pub url: String,
    pub address: Address,
    /// The SHA-1 digest that it must have, where one is stated.
    pub sha1: Option<String>,
    /// Where else it is to be had.
    pub mirrors: Mirrors,
    pub licence: Vec<String>,
}

impl Wanted {
    /// Returns the addresses of the network that it may be fetched from, as Composer would try them.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        let Mirrors { before, after } = &self.mirrors;
        let all = before.iter().chain(std::iter::once(&self.url)).chain(after).map(String::as_str);
        all.filter(|url| matches!(Address::parse(url), Ok(Address::Network(_))))
    }

    /// Returns what people call it.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.kind, &self.package, self.title.as_deref(), self.version.as_deref())
    }
}

/// Lists what an installation takes, sorted by package, kind and address. `patches` is the project's own list of patches, where
/// composer.json names a file for it.
///
/// # Errors
/// Names what cannot be fetched.
pub fn list(
    definition: &Definition,
    packages: &BTreeMap<ComposerName, Package>,
    patches: Option<&[u8]>,
) -> Result<Vec<Wanted>, JsonError> {
    let mut list = Vec::new();
    for package in packages.values() {
        if let Some(dist) = &package.dist {
            let json = Json::new(COMPOSER_LOCK, &serde_json::Value::Null);
            list.push(Wanted {
                kind: DownloadKind::Dist,
                package: package.name.to_string(),
                title: None,
                version: Some(package.version.clone()),
                reference: dist.reference.clone(),
                address: address(&json, &dist.url, package.name.as_str())?,
                url: dist.url.clone(),
                sha1: dist.sha1.clone(),
                mirrors: dist.mirrors.clone(),
                licence: package.licence.clone(),
            });
        }
        if let Some(extra) = &package.extra {
            downloads(&Json::new(COMPOSER_LOCK, extra), package.name.as_str(), &mut list)?;
        }
    }
    let own = definition.json();
    if let Some(extra) = own.get("extra") {
        downloads(&extra, &definition.name, &mut list)?;
    }
    if definition.patching {
        all_patches(definition, packages, patches, &mut list)?;
    }
    if list.len() > MOST {
        return Err(own.wrong(format!("asks for more than {MOST} files")));
    }
    list.sort_by(|left, right| (&left.package, left.kind, &left.url).cmp(&(&right.package, right.kind, &right.url)));
    list.dedup_by(|second, first| (&first.package, first.kind, &first.url) == (&second.package, second.kind, &second.url));
    Ok(list)
}

fn address(json: &Json<'_>, url: &str, of: &str) -> Result<Address, JsonError> {
    Address::parse(url).map_err(|error| json.wrong(format!("has a file of `{of}` that cannot be fetched: {error}")))
}

/// Reads `extra.downloads`: an object by name, in which `*` holds what all others take where they state nothing.
fn downloads(extra: &Json<'_>, package: &str, list: &mut Vec<Wanted>) -> Result<(), JsonError> {
    let Some(downloads) = extra.get("downloads") else { return Ok(()) };
    let defaults = downloads.get("*");
    for (id, download) in downloads.members("extra.downloads")? {
        if id == "*" {
            continue;
        }
        if id.is_empty() || id.len() > 200 || id.chars().any(char::is_control) {
            return Err(extra.wrong(format!("has a download of `{package}` with the name `{}`", shown(id))));
        }
        download.members(&format!("extra.downloads.{id}"))?;
        let field = |key: &str| match download.get(key) {
            Some(value) => value.as_text(key).map(Some),
            None => defaults.and_then(|defaults| defaults.get(key)).map(|value| value.as_text(key)).transpose(),
        };
        let version = field("version")?;
        if version.is_some_and(|version| version.len() > 200 || version.chars().any(char::is_control)) {
            return Err(extra.wrong(format!("has a strange version of the download `{}` of `{package}`", shown(id))));
        }
        if field("type")? == Some("git") {
            let what = format!("has the download `{}` of `{package}`, which is a git repository and not an archive", shown(id));
            return Err(extra.wrong(what));
        }
        let url =
            field("url")?.ok_or_else(|| extra.wrong(format!("has no address of the download `{}` of `{package}`", shown(id))))?;
        let url = url.replace("{$id}", id).replace("{$version}", version.unwrap_or_default());
        list.push(Wanted {
            kind: DownloadKind::Download,
            package: package.to_owned(),
            title: Some(id.to_owned()),
            version: version.map(str::to_owned),
            reference: None,
            address: address(extra, &url, package)?,
            url,
            sha1: None,
            mirrors: Mirrors::default(),
            licence: Vec::new(),
        });
    }
    Ok(())
}

/// Reads the patches of the project and of its packages, for packages that are installed and without what the project ignores.
fn all_patches(
    definition: &Definition,
    packages: &BTreeMap<ComposerName, Package>,
    file: Option<&[u8]>,
    list: &mut Vec<Wanted>,
) -> Result<(), JsonError> {
    let own = definition.json();
    let extra = own.get("extra");
    let nobody = BTreeSet::new();
    if let Some(patches) = extra.and_then(|extra| extra.get("patches")) {
        patches_of(&patches, packages, &nobody, list)?;
    }
    if let (Some(path), Some(bytes)) = (&definition.patches_file, file) {
        let name = path.to_string();
        let name = name.trim_start_matches('/');
        let value = parse(name, bytes)?;
        let json = Json::new(name, &value);
        let patches = json.get("patches").ok_or_else(|| json.wrong("has no `patches`"))?;
        patches_of(&patches, packages, &nobody, list)?;
    }
    for package in packages.values() {
        let Some(value) = &package.extra else { continue };
        let Some(patches) = Json::new(COMPOSER_LOCK, value).get("patches") else { continue };
        let mut ignored = BTreeSet::new();
        if let Some(ignore) = extra.and_then(|extra| extra.at(&["patches-ignore", package.name.as_str()])) {
            for (target, patches) in ignore.members("extra.patches-ignore")? {
                for patch in patches.items("extra.patches-ignore")? {
                    ignored.insert((target, patch.as_text("extra.patches-ignore")?));
                }
            }
        }
        patches_of(&patches, packages, &ignored, list)?;
    }
    Ok(())
}

/// Reads `{"vendor/package": {"description": "address"}}`, or with objects that have `description` and `url`.
fn patches_of(
    patches: &Json<'_>,
    packages: &BTreeMap<ComposerName, Package>,
    ignored: &BTreeSet<(&str, &str)>,
    list: &mut Vec<Wanted>,
) -> Result<(), JsonError> {
    for (target, patches) in patches.members("extra.patches")? {
        let Some(package) = packages.get(target) else { continue };
        let named = match patches.members("extra.patches") {
            Ok(members) => members,
            Err(_) => patches.items("extra.patches")?.into_iter().map(|item| ("", item)).collect(),
        };
        for (title, patch) in named {
            let (title, url) = match patch.as_text("extra.patches") {
                Ok(url) => (title, url),
                Err(error) => {
                    let title = patch.text("description")?.unwrap_or(title);
                    (title, patch.text("url")?.ok_or(error)?)
                }
            };
            if ignored.contains(&(target, url)) {
                continue;
            }
            if title.len() > 1000 {
                return Err(patches.wrong(format!("describes a patch of `{target}` in more than 1000 bytes")));
            }
            list.push(Wanted {
                kind: DownloadKind::Patch,
                package: package.name.to_string(),
                title: Some(title.to_owned()).filter(|title| !title.is_empty()),
                version: Some(package.version.clone()),
                reference: None,
                address: address(&patches, url, target)?,
                url: url.to_owned(),
                sha1: None,
                mirrors: Mirrors::default(),
                licence: Vec::new(),
            });
        }
    }
    Ok(())
}

/// Returns the addresses under which Composer asks for a file: the stated one, and the one that it makes of it for the large
/// hosts of sources, which must name the reference (`Composer\Util\Url::updateDistReference`).
#[must_use]
pub fn asked_as(url: &str, reference: Option<&str>) -> BTreeSet<String> {
    let mut addresses = BTreeSet::from([url.to_owned()]);
    addresses.extend(reference.and_then(|reference| with_reference(url, reference)));
    addresses
}

fn with_reference(url: &str, reference: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let (host, path) = rest.split_once('/')?;
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    match (host, parts.as_slice()) {
        ("github.com" | "www.github.com", [owner, project, word @ ("zipball" | "tarball"), _]) => {
            Some(format!("https://api.github.com/repos/{owner}/{project}/{word}/{reference}"))
        }
        ("github.com" | "www.github.com", [owner, project, "archive", file]) => {
            let file = file.to_ascii_lowercase();
            let stem = file.strip_suffix(".gz").unwrap_or(&file);
            let word = match stem.rsplit_once('.')? {
                (_, "zip") => "zipball",
                (_, "tar") => "tarball",
                _ => return None,
            };
            Some(format!("https://api.github.com/repos/{owner}/{project}/{word}/{reference}"))
        }
        ("api.github.com", ["repos", owner, project, rest]) => {
            let word = rest.split('/').next().filter(|word| matches!(*word, "zipball" | "tarball"))?;
            Some(format!("https://api.github.com/repos/{owner}/{project}/{word}/{reference}"))
        }
        ("bitbucket.org" | "www.bitbucket.org", [owner, project, "get", file]) => {
            let ending = [".zip", ".tar.gz", ".tar.bz2"].into_iter().find(|ending| file.ends_with(ending))?;
            Some(format!("https://bitbucket.org/{owner}/{project}/get/{reference}{ending}"))
        }
        ("gitlab.com" | "www.gitlab.com", ["api", "v3" | "v4", "projects", rest]) => {
            let (project, archive) = rest.split_once("/repository/archive.")?;
            let (ending, _) = archive.split_once("?sha=")?;
            Some(format!("https://gitlab.com/api/v4/projects/{project}/repository/archive.{ending}?sha={reference}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::locked;
    use super::*;

    fn wanted(definition: &str, packages: &str, patches: Option<&str>) -> Result<Vec<String>, JsonError> {
        let definition = Definition::parse(definition.as_bytes())?;
        let packages = locked::read(format!(r#"{{"packages": [{packages}]}}"#).as_bytes())?;
        let list = list(&definition, &packages, patches.map(str::as_bytes))?;
        Ok(list.into_iter().map(|wanted| format!("{} <{}>", wanted.name(), wanted.url)).collect())
    }

    fn package(name: &str, extra: &str) -> String {
        format!(
            r#"{{"name": "{name}", "version": "1.0", "dist": {{"type": "zip", "url": "https://d.example/{name}.zip"}}, "extra": {extra}}}"#
        )
    }

    #[test]
    fn downloads_take_what_they_do_not_state_from_the_star() {
        let extra = r#"{"downloads": {
            "*": {"url": "https://x.example/{$id}/{$version}.zip", "path": "lib/{$id}", "version": "9"},
            "jquery": {"version": "3.7.1"}, "font": {}, "tool": {"url": "https://y.example/{$id}", "type": "phar"}}}"#;
        assert_eq!(
            wanted("{}", &package("acme/a", extra), None).unwrap(),
            [
                "acme/a 1.0 <https://d.example/acme/a.zip>",
                "download `font` of acme/a <https://x.example/font/9.zip>",
                "download `jquery` of acme/a <https://x.example/jquery/3.7.1.zip>",
                "download `tool` of acme/a <https://y.example/tool>",
            ]
        );
        let own = r#"{"name": "acme/site", "extra": {"downloads": {"map": {"url": "files/map.zip", "path": "web/map"}}}}"#;
        assert_eq!(wanted(own, "", None).unwrap(), ["download `map` of acme/site <files/map.zip>"]);
    }

    #[test]
    fn patches_come_from_the_project_its_file_and_its_packages() {
        let packages = [
            package(
                "acme/a",
                r#"{"patches": {"acme/b": {"theirs": "https://p.example/theirs.patch", "bad": "https://p.example/bad.patch"}}}"#,
            ),
            package("acme/b", "{}"),
        ]
        .join(",");
        let list = |definition: &str, file: Option<&str>| -> Vec<String> {
            wanted(definition, &packages, file).unwrap().into_iter().filter(|name| name.starts_with("patch")).collect()
        };
        let theirs = [
            "patch `bad` of acme/b <https://p.example/bad.patch>".to_owned(),
            "patch `theirs` of acme/b <https://p.example/theirs.patch>".to_owned(),
        ];
        assert!(list("{}", None).is_empty(), "a project without patches of its own has to enable them");
        assert_eq!(list(r#"{"extra": {"enable-patching": true}}"#, None), theirs);
        let own = r#"{"extra": {"patches": {"acme/b": {"ours": "patches/ours.patch"}, "acme/none": {"x": "y"}},
            "patches-file": "ignored.json", "patches-ignore": {"acme/a": {"acme/b": {"why": "https://p.example/bad.patch"}}}}}"#;
        assert_eq!(list(own, None), [theirs[1].clone(), "patch `ours` of acme/b <patches/ours.patch>".to_owned()]);
        let file = r#"{"patches": {"acme/a": [{"description": "new form", "url": "https://p.example/new.patch"}]}}"#;
        assert_eq!(
            list(r#"{"extra": {"patches-file": "p.json"}}"#, Some(file))[0],
            "patch `new form` of acme/a <https://p.example/new.patch>"
        );
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_without_its_password() {
        let download = |text: &str| package("acme/a", &format!(r#"{{"downloads": {{"x": {text}}}}}"#));
        for (text, expected) in [
            (
                download(r#"{"type": "git", "url": "https://g.example/a@main"}"#),
                "has the download `x` of `acme/a`, which is a git repository and not an archive",
            ),
            (download("{}"), "has no address of the download `x` of `acme/a`"),
            (download("3"), "has something else than an object at `extra.downloads.x`"),
            (
                download(r#"{"url": "https://me:secret@x.example/a"}"#),
                "has a file of `acme/a` that cannot be fetched: the address `https://x.example/a` holds a user name or password",
            ),
            (
                download(r#"{"url": "../../../etc/passwd"}"#),
                "has a file of `acme/a` that cannot be fetched: the address `../../../etc/passwd` leaves the project",
            ),
            (
                download(r#"{"url": "{$version}", "version": "php://filter/x"}"#),
                "has a file of `acme/a` that cannot be fetched: the address `php://filter/x` has a scheme that parvis does not fetch",
            ),
            (package("acme/a", r#"{"patches": {"acme/a": {"x": 3}}}"#), "has something else than a text at `extra.patches`"),
        ] {
            let error = wanted(r#"{"extra": {"enable-patching": true}}"#, &text, None).unwrap_err().to_string();
            assert_eq!(error, format!("`composer.lock` {expected}"));
        }
    }

    #[test]
    fn the_large_hosts_are_asked_for_the_reference() {
        let asked = |url: &str| asked_as(url, Some("abc")).into_iter().collect::<Vec<_>>();
        let api = "https://api.github.com/repos/acme/a/zipball/abc";
        assert_eq!(asked("https://github.com/acme/a/archive/v1.0.zip"), [api, "https://github.com/acme/a/archive/v1.0.zip"]);
        assert_eq!(asked("https://github.com/acme/a/zipball/v1"), [api, "https://github.com/acme/a/zipball/v1"]);
        assert_eq!(asked(api), [api]);
        let gitlab = "https://gitlab.com/api/v4/projects/acme%2Fa/repository/archive.zip?sha=abc";
        assert_eq!(asked(gitlab), [gitlab]);
        assert_eq!(asked("https://d.example/a.zip"), ["https://d.example/a.zip"]);
        assert_eq!(asked_as("https://github.com/acme/a/archive/v1.0.zip", None).len(), 1);
    }
}
