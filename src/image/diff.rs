//! What differs between two images: packages, files with who put them there, configuration, layers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::oci::Configuration;
use crate::debian::control::{ControlError, Paragraphs};
use crate::debian::version;
use crate::model::digest::DiffId;
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath, escape};
use crate::screen;

/// Where the package database says what is installed.
pub const STATUS: &str = "var/lib/dpkg/status";

/// How many files of one owner are named unless all are asked for.
const MOST_FILES: usize = 30;

/// One of the two images.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub tree: &'a Tree,
    /// The contents of `var/lib/dpkg/status` and of `var/lib/dpkg/info/*.list`, by path.
    pub database: &'a BTreeMap<TreePath, Vec<u8>>,
    pub config: &'a Configuration,
    /// The compressed size of each layer, from the bottom up.
    pub layer_sizes: &'a [u64],
}

/// A package that is another one, or on one side only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl PackageChange {
    /// Returns `added`, `removed`, `newer`, `older` or `changed`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        let (before, after) = match (&self.before, &self.after) {
            (None, _) => return "added",
            (_, None) => return "removed",
            (Some(before), Some(after)) => (before, after),
        };
        if before.parse::<version::Version>().is_err() || after.parse::<version::Version>().is_err() {
            return "changed";
        }
        match version::compare(before, after) {
            Ordering::Less => "newer",
            Ordering::Greater => "older",
            Ordering::Equal => "changed",
        }
    }
}

/// What is another one about a file; each with how it was and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aspect {
    pub name: &'static str,
    pub before: String,
    pub after: String,
}

/// A path that is another one, or on one side only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: TreePath,
    /// `added`, `removed` or `changed`.
    pub kind: &'static str,
    /// Who put it there: `package openssl`, `script of tzdata`, `recipe httpd, line 12`, `package database`; empty where nobody is known.
    pub owner: String,
    /// What is changed about it.
    pub aspects: Vec<Aspect>,
}

/// A setting of the configuration that is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A layer of the newer image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerShare {
    pub title: String,
    pub size: u64,
    /// Whether the older image has it too, so that nobody downloads it again.
    pub shared: bool,
}

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub packages: Vec<PackageChange>,
    pub files: Vec<FileChange>,
    pub config: Vec<SettingChange>,
    pub layers: Vec<LayerShare>,
    /// How many layers the older image has.
    pub layers_before: usize,
}

/// A package database that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the image's `/var/lib/dpkg/status` cannot be read")]
pub struct DatabaseError(#[from] ControlError);

/// Compares two images.
///
/// # Errors
/// Refuses a package database that is none.
pub fn diff(before: Side, after: Side) -> Result<Difference, DatabaseError> {
    let mut names: BTreeSet<&TreePath> = before.tree.iter().map(|(path, _)| path).collect();
    names.extend(after.tree.iter().map(|(path, _)| path));
    let (old_owners, new_owners) = (owners(before), owners(after));
    let file = |path: &TreePath| {
        let (old, new) = (before.tree.get(path.as_bytes()), after.tree.get(path.as_bytes()));
        if path.is_root() && (old.is_none() || new.is_none()) {
            // Engines make the root themselves; only few layers state it.
            return None;
        }
        let aspects = match (old, new) {
            (Some(old), Some(new)) => aspects(old, new),
            _ => Vec::new(),
        };
        let kind = match (old, new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ if aspects.is_empty() => return None,
            _ => "changed",
        };
        let [old, new] =
            [(old, &old_owners), (new, &new_owners)].map(|(entry, owners)| entry.map(|entry| owner(path, entry, owners)));
        // What was read from layers knows less than what was built here.
        let owner = new.filter(|owner| !owner.is_empty()).or(old).unwrap_or_default();
        Some(FileChange { path: path.clone(), kind, owner, aspects })
    };
    let known: BTreeSet<&DiffId> = before.config.diff_ids.iter().collect();
    let layers = after.config.diff_ids.iter().enumerate().map(|(index, id)| LayerShare {
        title: after.config.layer_titles.get(index).cloned().unwrap_or_default(),
        size: after.layer_sizes.get(index).copied().unwrap_or_default(),
        shared: known.contains(id),
    });
    Ok(Difference {
        packages: packages(before, after)?,
        files: names.into_iter().filter_map(file).collect(),
        config: settings(before.config, after.config),
        layers: layers.collect(),
        layers_before: before.config.diff_ids.len(),
    })
}

fn packages(before: Side, after: Side) -> Result<Vec<PackageChange>, DatabaseError> {
    let (old, new) = (installed(before)?, installed(after)?);
    Ok(two_sided(&old, &new).map(|(name, before, after)| PackageChange { name, before, after }).collect())
}

/// Returns the keys whose values differ, with both values.
fn two_sided<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, Option<String>, Option<String>)> + 'a {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .map(|name| (name.clone(), before.get(name).cloned(), after.get(name).cloned()))
        .filter(|(_, old, new)| old != new)
}

/// Returns the versions of the installed packages; a second architecture of one name stands as `NAME:ARCHITECTURE`.
pub(super) fn installed(side: Side) -> Result<BTreeMap<String, String>, DatabaseError> {
    let mut versions = BTreeMap::new();
    let Some(status) = side.database.get(STATUS.as_bytes()) else { return Ok(versions) };
    for paragraph in Paragraphs::new(status, 1, 1)? {
        let paragraph = paragraph?;
        let field = |name| paragraph.get(name).map(|value: &str| escape(value.as_bytes()).replace("\\x20", " "));
        let (Some(name), Some(status), Some(version)) = (field("Package"), field("Status"), field("Version")) else { continue };
        if !status.ends_with(" installed") {
            continue;
        }
        let key =
            if versions.contains_key(&name) { format!("{name}:{}", field("Architecture").unwrap_or_default()) } else { name };
        versions.insert(key, version);
    }
    Ok(versions)
}

/// Returns the source packages of the installed packages that have another name, by the package's name.
pub(super) fn sources(side: Side) -> Result<BTreeMap<String, String>, DatabaseError> {
    let mut sources = BTreeMap::new();
    let Some(status) = side.database.get(STATUS.as_bytes()) else { return Ok(sources) };
    for paragraph in Paragraphs::new(status, 1, 1)? {
        let paragraph = paragraph?;
        // The version of the source stands behind its name where it is another one.
        let source = paragraph.get("Source").and_then(|source| source.split_whitespace().next());
        if let (Some(name), Some(source)) = (paragraph.get("Package"), source) {
            sources.insert(escape(name.as_bytes()), escape(source.as_bytes()));
        }
    }
    Ok(sources)
}

/// Returns who has each path, as the lists of the package database say.
pub(super) fn owners(side: Side<'_>) -> BTreeMap<&[u8], &[u8]> {
    let mut owners = BTreeMap::new();
    for (path, list) in side.database {
        let file = path.as_bytes().strip_prefix(b"var/lib/dpkg/info/").and_then(|file| file.strip_suffix(b".list"));
        let Some(name) = file.and_then(|file| file.split(|byte| *byte == b':').next()) else { continue };
        // Folders belong to many; the first by name is as good as any.
        for line in list.split(|byte| *byte == b'\n') {
            owners.entry(line.strip_prefix(b"/").unwrap_or(line)).or_insert(name);
        }
    }
    owners
}

pub(super) fn owner(path: &TreePath, entry: &Entry, owners: &BTreeMap<&[u8], &[u8]>) -> String {
    match &entry.origin {
        Origin::Package(name) => format!("package {name}"),
        Origin::Script(name) => format!("script of {name}"),
        Origin::Recipe { image, line } => format!("recipe {image}, line {line}"),
        Origin::Composer(name) => format!("composer package {name}"),
        Origin::Run { image, line } => format!("run of {image}, line {line}"),
        // Nothing more is known of what was read from layers.
        Origin::Parvis => match owners.get(path.as_bytes()) {
            Some(name) => format!("package {}", escape(name)),
            None if path.as_bytes().starts_with(b"var/lib/dpkg/") => "package database".to_owned(),
            None => String::new(),
        },
    }
}

fn aspects(old: &Entry, new: &Entry) -> Vec<Aspect> {
    let mut aspects = Vec::new();
    let mut compare = |name, before: String, after: String| {
        if before != after {
            aspects.push(Aspect { name, before, after });
        }
    };
    compare("type", kind(old).into(), kind(new).into());
    match (&old.kind, &new.kind) {
        (Kind::File { digest, size, .. }, Kind::File { digest: new_digest, size: new_size, .. }) if digest != new_digest => {
            let shown = |size: u64, digest: String| format!("{} {}", screen::size(size), &digest[..8]);
            compare("content", shown(*size, digest.hex()), shown(*new_size, new_digest.hex()));
        }
        (Kind::Symlink { target }, Kind::Symlink { target: new_target }) => compare("target", escape(target), escape(new_target)),
        _ => {}
    }
    compare("mode", format!("{:04o}", old.mode), format!("{:04o}", new.mode));
    compare("owner", format!("{}:{}", old.uid, old.gid), format!("{}:{}", new.uid, new.gid));
    let attributes = |entry: &Entry| {
        let mut text = String::new();
        for (name, value) in &entry.xattrs {
            let _ = write!(text, "{}={} ", escape(name.as_bytes()), escape(value));
        }
        text.trim_end().to_owned()
    };
    compare("attributes", attributes(old), attributes(new));
    if aspects.is_empty() && old.mtime != new.mtime {
        // A date says little where something else is another one too.
        let date =
            |entry: &Entry| jiff::Timestamp::from_second(entry.mtime).map_or(entry.mtime.to_string(), |date| date.to_string());
        aspects.push(Aspect { name: "date", before: date(old), after: date(new) });
    }
    aspects
}

const fn kind(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::Directory => "folder",
        Kind::File { .. } => "file",
        Kind::Symlink { .. } => "link",
    }
}

fn settings(before: &Configuration, after: &Configuration) -> Vec<SettingChange> {
    two_sided(&flat(before), &flat(after)).map(|(name, before, after)| SettingChange { name, before, after }).collect()
}

/// Returns a configuration as names and texts: one for each variable and label.
fn flat(config: &Configuration) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::from([("Platform".to_owned(), shown(&config.platform.to_string()))]);
    for (key, value) in &config.runtime {
        match value {
            Value::Array(items) if key == "Env" => {
                for (name, value) in items.iter().filter_map(Value::as_str).filter_map(|item| item.split_once('=')) {
                    flat.insert(format!("Env {}", shown(name)), shown(value));
                }
            }
            Value::Object(members) if key == "Labels" => {
                for (name, value) in members {
                    flat.insert(format!("Label {}", shown(name)), shown(value.as_str().unwrap_or_default()));
                }
            }
            // Docker writes out what is not asked for.
            Value::Null | Value::Bool(false) => {}
            Value::String(text) => drop(flat.insert(shown(key), shown(text))),
            other => drop(flat.insert(shown(key), shown(&other.to_string()))),
        }
    }
    flat.retain(|_, value| !matches!(value.as_str(), "" | "{}" | "[]"));
    flat
}

/// Returns text from an image without what moves a cursor or changes the direction of a line.
pub(super) fn shown(text: &str) -> String {
    let plain = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(|character| if plain(character) { vec![character] } else { character.escape_unicode().collect() })
        .collect()
}

impl Difference {
    /// Returns whether nothing differs, in the files or in how they are divided into layers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
            && self.files.is_empty()
            && self.config.is_empty()
            && self.layers.iter().all(|layer| layer.shared)
    }

    /// Returns how many bytes somebody with the older image downloads for the newer one.
    #[must_use]
    pub fn download(&self) -> u64 {
        self.layers.iter().filter(|layer| !layer.shared).map(|layer| layer.size).sum()
    }

    /// Returns lines for people. The files of packages that are another version are only counted, unless all are asked for.
    #[must_use]
    pub fn to_text(&self, all_files: bool) -> String {
        if self.is_empty() {
            return "no difference\n".to_owned();
        }
        let mut text = String::new();
        let out = &mut text;
        // Writing to a String cannot fail.
        heading(out, "packages", self.packages.len());
        for change in &self.packages {
            let _ =
                writeln!(out, "  {}", two_values(change.kind(), &change.name, change.before.as_deref(), change.after.as_deref()));
        }
        heading(out, "files", self.files.len());
        self.files_text(out, all_files);
        heading(out, "configuration", self.config.len());
        for change in &self.config {
            let kind = match (&change.before, &change.after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            };
            let _ = writeln!(out, "  {}", two_values(kind, &change.name, change.before.as_deref(), change.after.as_deref()));
        }
        let shared = self.layers.iter().filter(|layer| layer.shared);
        let (count, size) = (shared.clone().count(), shared.map(|layer| layer.size).sum());
        let _ = writeln!(
            out,
            "layers: {count} of {} shared ({}), {} to download again",
            self.layers.len(),
            screen::size(size),
            screen::size(self.download())
        );
        for layer in self.layers.iter().filter(|layer| !layer.shared) {
            let _ = writeln!(out, "  {:>9}  {}", screen::size(layer.size), shown(&layer.title));
        }
        text
    }

    fn files_text(&self, out: &mut String, all: bool) {
        let moved: BTreeSet<String> = self.packages.iter().map(|change| format!("package {}", change.name)).collect();
        let mut by_owner: BTreeMap<&str, Vec<&FileChange>> = BTreeMap::new();
        for file in &self.files {
            by_owner.entry(&file.owner).or_default().push(file);
        }
        for (owner, files) in by_owner {
            let shown_owner = if owner.is_empty() { "of no package" } else { owner };
            if moved.contains(owner) && !all {
                let count = |kind: &str| files.iter().filter(|file| file.kind == kind).count();
                let (added, removed, changed) = (count("added"), count("removed"), count("changed"));
                let _ = writeln!(out, "  {shown_owner}: {changed} changed, {added} added, {removed} removed");
                continue;
            }
            let _ = writeln!(out, "  {shown_owner}:");
            let most = if all { files.len() } else { MOST_FILES };
            for file in files.iter().take(most) {
                let aspects: Vec<String> =
                    file.aspects.iter().map(|aspect| format!("{} {} -> {}", aspect.name, aspect.before, aspect.after)).collect();
                let _ = writeln!(out, "{}", format!("    {:<8}{}  {}", file.kind, file.path, aspects.join(", ")).trim_end());
            }
            if files.len() > most {
                let _ = writeln!(out, "    and {} more", files.len() - most);
            }
        }
    }

    /// Returns the difference as a document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let aspect = |aspect: &Aspect| (aspect.name.to_owned(), json!({"before": aspect.before, "after": aspect.after}));
        let file = |file: &FileChange| {
            let changed: Map<String, Value> = file.aspects.iter().map(aspect).collect();
            json!({"path": file.path.to_string(), "kind": file.kind, "owner": file.owner, "changed": changed})
        };
        let package = |change: &PackageChange| json!({"name": change.name, "kind": change.kind(), "before": change.before, "after": change.after});
        let setting = |change: &SettingChange| json!({"name": change.name, "before": change.before, "after": change.after});
        let layer = |layer: &LayerShare| json!({"title": layer.title, "size": layer.size, "shared": layer.shared});
        json!({
            "same": self.is_empty(),
            "packages": self.packages.iter().map(package).collect::<Vec<_>>(),
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
            "config": self.config.iter().map(setting).collect::<Vec<_>>(),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "download": self.download(),
        })
    }
}

fn heading(out: &mut String, what: &str, count: usize) {
    if count > 0 {
        let _ = writeln!(out, "{what}: {count}");
    }
}

fn two_values(kind: &str, name: &str, before: Option<&str>, after: Option<&str>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{kind:<8}{name}  {before} -> {after}"),
        (value, None) | (None, value) => format!("{kind:<8}{name}  {}", value.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::oci::parse_config;
    use super::super::tar::testing::{Memory, path};
    use super::*;

    fn config(layers: &[u8], runtime: &Value) -> Configuration {
        let ids: Vec<String> = layers.iter().map(|letter| DiffId::of(&[*letter]).to_string()).collect();
        let history: Vec<Value> = layers.iter().map(|letter| json!({"comment": format!("layer {letter}")})).collect();
        let document = json!({
            "architecture": "amd64", "os": "linux", "config": runtime, "history": history,
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        parse_config(document.to_string().as_bytes(), layers.len()).unwrap()
    }

    fn database(entries: &[(&str, &str)]) -> BTreeMap<TreePath, Vec<u8>> {
        entries.iter().map(|(at, text)| (path(at), text.as_bytes().to_vec())).collect()
    }

    fn status(packages: &[(&str, &str, &str)]) -> String {
        let mut text = String::new();
        for (name, version, state) in packages {
            let _ = writeln!(text, "Package: {name}\nStatus: install ok {state}\nArchitecture: amd64\nVersion: {version}\n");
        }
        text
    }

    fn sample() -> Difference {
        let mut memory = Memory::default();
        let mut file = |content: &str, origin: &Origin| Entry { origin: origin.clone(), ..memory.file(content.as_bytes()) };
        let recipe = Origin::Recipe { image: "httpd".parse().unwrap(), line: 12 };
        let parvis = Origin::Parvis;
        let mut before: Tree = [
            (path("etc"), Entry::directory(0o755, Origin::Parvis)),
            (path("etc/conf"), file("old", &recipe)),
            (path("etc/date"), file("same", &parvis)),
            (path("etc/link"), Entry::symlink(b"a\x1b", 0, Origin::Parvis)),
            (path("usr/bin/openssl"), file("openssl 1", &parvis)),
            (path("usr/bin/other"), file("other", &parvis)),
        ]
        .into_iter()
        .collect();
        before.put(path("same"), file("same", &parvis));
        let mut after = before.clone();
        let mut conf = file("newer", &recipe);
        (conf.mode, conf.uid) = (0o600, 33);
        after.put(path("etc/conf"), conf);
        after.put(path("etc/link"), Entry::symlink(b"b", 0, Origin::Parvis));
        after.put(path("usr/bin/openssl"), file("openssl 2", &parvis));
        after.put(path("new"), file("new", &Origin::Script("tzdata".parse().unwrap())));
        let mut dated = file("same", &parvis);
        dated.mtime += 1;
        after.put(path("etc/date"), dated);
        after.remove(&path("usr/bin/other"));
        let list = ("var/lib/dpkg/info/openssl:amd64.list", "/.\n/usr/bin/openssl\n/usr/bin/other\n");
        let packages = [("openssl", "3.5.1-1", "installed"), ("gone", "1", "installed"), ("half", "1", "config-files")];
        let old_status = status(&packages);
        let new_status = status(&[("openssl", "3.5.1-1+deb13u1", "installed"), ("php", "2:8.4", "installed")]);
        let old = database(&[list, ("var/lib/dpkg/status", &old_status)]);
        let new = database(&[list, ("var/lib/dpkg/status", &new_status)]);
        let runtime = |user: &str, label: &str| json!({"User": user, "Env": ["A=1"], "Labels": {"x": label}, "Cmd": ["a"]});
        diff(
            Side {
                tree: &before,
                database: &old,
                config: &config(&[1, 2, 3], &runtime("root", "1")),
                layer_sizes: &[10, 20, 30],
            },
            Side {
                tree: &after,
                database: &new,
                config: &config(&[1, 4, 5], &runtime("1001", "\u{1b}[2J")),
                layer_sizes: &[10, 2_000_000, 50],
            },
        )
        .unwrap()
    }

    #[test]
    fn a_difference_is_told_with_who_is_behind_it() {
        let difference = sample();
        insta::assert_snapshot!("difference", difference.to_text(false));
        insta::assert_snapshot!("difference_all_files", difference.to_text(true));
        insta::assert_snapshot!("difference_json", serde_json::to_string_pretty(&difference.to_json()).unwrap());
        assert_eq!(difference.download(), 2_000_050);
        assert!(!difference.to_text(true).contains('\u{1b}'));
    }

    #[test]
    fn many_files_of_one_owner_are_named_only_when_asked_for() {
        let mut memory = Memory::default();
        let after: Tree = (0..100).map(|number| (path(&format!("{number:03}")), memory.file(b""))).collect();
        let config = config(&[1], &json!({}));
        let (before, none) = (Tree::new(), BTreeMap::new());
        let [before, after] = [&before, &after].map(|tree| Side { tree, database: &none, config: &config, layer_sizes: &[1] });
        let difference = diff(before, after).unwrap();
        let few = difference.to_text(false);
        assert!(few.contains("/029\n    and 70 more\n") && !few.contains("/030"), "{few}");
        assert!(difference.to_text(true).contains("/099\n"));
    }

    #[test]
    fn the_same_image_twice_is_no_difference() {
        let tree: Tree = [(path("a"), Entry::directory(0o755, Origin::Parvis))].into_iter().collect();
        let config = config(&[1], &json!({}));
        let side = Side { tree: &tree, database: &BTreeMap::new(), config: &config, layer_sizes: &[1] };
        let difference = diff(side, side).unwrap();
        assert!(difference.is_empty());
        assert_eq!(difference.to_text(true), "no difference\n");
    }

    #[test]
    fn a_package_of_two_architectures_is_two() {
        let text = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
                    Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 1\n";
        let (tree, config) = (Tree::new(), config(&[], &json!({})));
        let database = database(&[("var/lib/dpkg/status", text)]);
        let versions = installed(Side { tree: &tree, database: &database, config: &config, layer_sizes: &[] }).unwrap();
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["libc6", "libc6:i386"]);
    }
}
