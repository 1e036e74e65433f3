//! composer.json: what a project asks for.

use std::collections::BTreeSet;

use super::json::{Json, JsonError, parse};
use crate::model::address::Address;
use crate::model::lock::composer::ROOT;
use crate::model::name::ComposerName;
use crate::model::problem::shown;
use crate::model::tree::TreePath;

/// The file that makes a folder a Composer project.
pub const COMPOSER_JSON: &str = "composer.json";

/// A project's composer.json.
#[derive(Debug, Clone)]
pub struct Definition {
    value: serde_json::Value,
    /// Its name; [`ROOT`] where it has none.
    pub name: String,
    /// Where packages are installed, below the project.
    pub vendor: TreePath,
    /// The packages that it requires for production, without `php` and extensions.
    pub requires: BTreeSet<ComposerName>,
    /// The names of its scripts.
    pub scripts: BTreeSet<String>,
    /// Addresses of the repositories that it names itself.
    pub repositories: Vec<Address>,
    /// A file of the project that lists patches.
    pub patches_file: Option<TreePath>,
    /// Whether packages may have others patched, as the plugin of that name decides it.
    pub patching: bool,
}

impl Definition {
    /// Reads composer.json.
    ///
    /// # Errors
    /// Where it is not JSON, or what parvis must know of it is not of its kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let value = parse(COMPOSER_JSON, bytes)?;
        let json = Json::new(COMPOSER_JSON, &value);
        let name = match json.text("name")? {
            Some(name) => {
                name.parse::<ComposerName>().map_err(|error| json.wrong(format!("has no usable name: {error}")))?.to_string()
            }
            None => ROOT.to_owned(),
        };
        let vendor = json.at(&["config", "vendor-dir"]).map(|folder| folder.as_text("config.vendor-dir")).transpose()?;
        let path = |text: &str, key: &str| match Address::parse(text) {
            Ok(Address::Project(path)) => Ok(path),
            _ => Err(json.wrong(format!("has `{}` at `{key}`, which is no path below the project", shown(text)))),
        };
        let mut requires = BTreeSet::new();
        for (name, _) in json.get("require").map_or_else(|| Ok(Vec::new()), |require| require.members("require"))? {
            requires.extend(requirement(&json, name)?);
        }
        let scripts = json.get("scripts").map_or_else(|| Ok(Vec::new()), |scripts| scripts.members("scripts"))?;
        let scripts = scripts.into_iter().map(|(name, _)| name.to_owned()).collect();
        let extra = json.get("extra");
        let file = extra.map_or(Ok(None), |extra| extra.text("patches-file"))?;
        let has = |key: &str| {
            extra.and_then(|extra| extra.get(key)).is_some_and(|value| value.items(key).is_ok_and(|items| !items.is_empty()))
        };
        let enabled = extra.and_then(|extra| extra.get("enable-patching")).is_some_and(|value| value.is_true());
        Ok(Self {
            name,
            vendor: path(vendor.unwrap_or("vendor"), "config.vendor-dir")?,
            requires,
            scripts,
            repositories: repositories(&json)?,
            patching: has("patches") || has("patches-ignore") || file.is_some() || enabled,
            // A project's own list makes the file count for nothing.
            patches_file: file.filter(|_| !has("patches")).map(|file| path(file, "extra.patches-file")).transpose()?,
            value,
        })
    }

    /// Returns the whole document.
    #[must_use]
    pub const fn json(&self) -> Json<'_> {
        Json::new(COMPOSER_JSON, &self.value)
    }
}

/// Returns the package that a requirement names; nothing for PHP, its extensions and Composer's own interfaces.
pub(super) fn requirement(json: &Json<'_>, name: &str) -> Result<Option<ComposerName>, JsonError> {
    if !name.contains('/') {
        return Ok(None);
    }
    name.to_ascii_lowercase().parse().map(Some).map_err(|error| json.wrong(format!("requires something unusable: {error}")))
}

/// Returns the addresses of the repositories of type `composer`.
fn repositories(json: &Json<'_>) -> Result<Vec<Address>, JsonError> {
    let mut addresses = Vec::new();
    let repositories = json.get("repositories").map_or_else(|| Ok(Vec::new()), |list| list.items("repositories"))?;
    for repository in repositories {
        // `{"name": false}` turns a repository off.
        let Ok(Some("composer")) = repository.text("type") else { continue };
        let Some(url) = repository.text("url")? else { continue };
        let address =
            Address::parse(url).map_err(|error| json.wrong(format!("names a repository that cannot be asked: {error}")))?;
        addresses.push(address);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parvis_must_know_of_a_project_is_read() {
        let text = r#"{"name": "acme/site", "require": {"php": ">=8.2", "ext-pdo": "*", "Acme/Mail": "^1"},
            "config": {"vendor-dir": "web/lib"}, "scripts": {"post-install-cmd": ["@build"], "build": "x"},
            "repositories": [{"type": "composer", "url": "https://r.example.org/8"}, {"type": "path", "url": "../x"}, {"other": false}],
            "extra": {"patches-file": "patches.json"}}"#;
        let definition = Definition::parse(text.as_bytes()).unwrap();
        assert_eq!(definition.name, "acme/site");
        assert_eq!(definition.vendor.to_string(), "/web/lib");
        assert_eq!(definition.requires.iter().map(ComposerName::as_str).collect::<Vec<_>>(), ["acme/mail"]);
        assert!(definition.scripts.contains("build") && definition.patching);
        assert_eq!(definition.repositories, [Address::Network("https://r.example.org/8".into())]);
        assert_eq!(definition.patches_file.unwrap().to_string(), "/patches.json");
        let bare = Definition::parse(b"{}").unwrap();
        assert_eq!((bare.name.as_str(), bare.vendor.to_string().as_str(), bare.patching), (ROOT, "/vendor", false));
    }

    #[test]
    fn what_leaves_the_project_is_refused() {
        for (text, expected) in [
            (r#"{"name": "../x"}"#, "`composer.json` has no usable name: `../x` is not the name of a Composer package"),
            (
                r#"{"config": {"vendor-dir": "../../vendor"}}"#,
                "`composer.json` has `../../vendor` at `config.vendor-dir`, which is no path below the project",
            ),
            (
                r#"{"config": {"vendor-dir": "/usr"}}"#,
                "`composer.json` has `/usr` at `config.vendor-dir`, which is no path below the project",
            ),
            (
                r#"{"extra": {"patches-file": "https://x.example/p.json"}}"#,
                "`composer.json` has `https://x.example/p.json` at `extra.patches-file`, which is no path below the project",
            ),
            (
                r#"{"repositories": [{"type": "composer", "url": "https://me:secret@r.example"}]}"#,
                "`composer.json` names a repository that cannot be asked: the address `https://r.example` holds a user name or password",
            ),
            (r#"{"require": {"a/b/c": "*"}}"#, "`composer.json` requires something unusable: `a/b/c` is not"),
            (r#"{"name": 3}"#, "`composer.json` has something else than a text at `name`"),
        ] {
            let error = Definition::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
