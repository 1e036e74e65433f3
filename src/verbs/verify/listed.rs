//! What a signed statement lists beside images, made again for `parvis verify --rebuild`: lists of what is in the images, and the files of
//! bundles.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::again::Again;
use crate::bundle::manifest::{MANIFEST, NOTES, SETTINGS, VERIFY};
use crate::edge::layout::{self, Handed};
use crate::edge::registry::Access;
use crate::failure::Failure;
use crate::image::canonical;
use crate::image::repository::Repository as _;
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::problem::shown;
use crate::trust::rebuilt::RebuiltDocument;
use crate::verbs::registry::{from_repository, repository};
use crate::verbs::release::publish::RELEASES;
use crate::verbs::release::{documents, downloads};
use crate::verbs::save::Which;
use crate::verbs::workplace::Planned;
use crate::verbs::{Context, bundle};

/// Bytes of a released list at most.
const LIST_LIMIT: u64 = 64 << 20;

/// Differences of a list that are named; how many more there are is counted.
const MOST: usize = 20;

/// Characters of a value that are shown.
const SHORT: usize = 100;

/// What was made again, by the name that the statement has for it; the bytes where it is a list.
type Made = BTreeMap<String, (FileDigest, Option<Vec<u8>>)>;

/// Makes the lists and the files of bundles for a platform again, and holds them against what was signed.
pub fn compare(
    again: &Again<'_>,
    there: &Context<'_>,
    planned: &Planned<'_>,
    place: &Path,
) -> Result<Vec<RebuiltDocument>, Failure> {
    let several = planned.workplace.project.architectures.len() > 1;
    let mut made = Made::new();
    for (listed, written) in documents::sboms(there, planned, several)? {
        made.insert(listed.name, (listed.sha256, Some(written.bytes)));
    }
    let mut folders = Vec::new();
    let names = downloads::names(&planned.workplace, again.release.version)?;
    for called in names.into_iter().filter(|called| called.platform == planned.plan.platform) {
        let name = called.name();
        let folder = place.join("bundles").join(&name);
        let tag = again.release.version.to_string();
        let which = Which { tag, platform: Some(called.platform.to_string()), prefix: again.release.registry.clone() };
        let manifest = bundle::of_stack(there, called.stack.as_str(), called.with_images, &folder, which)?;
        for own in [MANIFEST, SETTINGS] {
            let path = folder.join(own);
            let bytes =
                fs::read(&path).map_err(|error| Failure::world(format!("cannot read `{}`", path.display())).because(error))?;
            made.insert(format!("{name}/{own}"), (FileDigest::of(&bytes), None));
        }
        made.extend(manifest.files.iter().map(|(file, digest)| (format!("{name}/{file}"), (*digest, None))));
        // One of them holds all images once more.
        let _ = fs::remove_dir_all(&folder);
        folders.push(format!("{name}/"));
    }
    // What tells of the way from an earlier release cannot be made from this one.
    let [english, french] = NOTES;
    let apart = |name: &str| [english, french, VERIFY].iter().any(|file| name.ends_with(&format!("/{file}")));
    let signed: BTreeMap<&str, (FileDigest, u64)> =
        again.release.files().map(|(name, digest, size)| (name, (digest, size))).collect();
    let extra = signed.keys().filter(|name| folders.iter().any(|folder| name.starts_with(folder)) && !apart(name));
    let mut names: Vec<&str> = made.keys().map(String::as_str).chain(extra.copied()).collect();
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let (released, rebuilt) = (signed.get(name), made.get(name));
        let mut document = RebuiltDocument {
            name: name.to_owned(),
            released: released.map(|(digest, _)| digest.to_string()),
            rebuilt: rebuilt.map(|(digest, _)| digest.to_string()),
            same: released.map(|(digest, _)| digest) == rebuilt.map(|(digest, _)| digest),
            differences: Vec::new(),
            more: 0,
            unread: None,
        };
        if let (false, Some((digest, size)), Some((_, Some(own)))) = (document.same, released, rebuilt) {
            match differences(again, name, *digest, *size, own) {
                Ok(mut differences) => {
                    document.more = differences.len().saturating_sub(MOST);
                    differences.truncate(MOST);
                    document.differences = differences;
                }
                Err(failure) => document.unread = Some(failure.message().to_owned()),
            }
        }
        found.push(document);
    }
    Ok(found)
}

/// Reads a released list, and says in which of its parts the one that was made again differs.
fn differences(again: &Again<'_>, name: &str, digest: FileDigest, size: u64, own: &[u8]) -> Result<Vec<String>, Failure> {
    let bytes = released(again, name, digest, size)?;
    let read = |bytes: &[u8]| {
        canonical::read_within(bytes, usize::try_from(LIST_LIMIT).unwrap_or(usize::MAX))
            .map_err(|error| Failure::world(format!("`{name}` cannot be read")).because(error))
    };
    let (before, after) = (read(&bytes)?, read(own)?);
    let mut found = Vec::new();
    walk("", &before, &after, &mut found);
    Ok(found)
}

/// Finds a released list: beside what was verified, else in the registry.
fn released(again: &Again<'_>, name: &str, digest: FileDigest, size: u64) -> Result<Vec<u8>, Failure> {
    if let Some((path, _)) = layout::locate(again.target) {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")).to_owned() };
        if let Ok(Handed::Folder(folder)) = layout::open(&folder)
            && let Ok(Some(bytes)) = super::small(&folder, name)
            && FileDigest::of(&bytes) == digest
        {
            return Ok(bytes);
        }
    }
    let gone = || Failure::world(format!("the released `{name}` is neither beside the statement nor in the registry"));
    let prefix = again.prefix.as_deref().filter(|_| size <= LIST_LIMIT).ok_or_else(gone)?;
    let remote = again.reach.open(again.context, &repository(prefix, RELEASES)?, Access::Read)?;
    let mut content = remote.blob(&BlobDigest::from(*digest.bytes()), size).map_err(from_repository)?.ok_or_else(gone)?;
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|error| gone().because(error))?;
    Ok(bytes)
}

/// Names the parts in which two documents differ. Parts of a list are told by what they are called, not by their place.
fn walk(path: &str, released: &Value, rebuilt: &Value, found: &mut Vec<String>) {
    match (released, rebuilt) {
        _ if released == rebuilt => {}
        (Value::Object(before), Value::Object(after)) => {
            let pairs =
                |map: &serde_json::Map<String, Value>| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            parts(path, &pairs(before), &pairs(after), found);
        }
        (Value::Array(before), Value::Array(after)) => match (by_name(before), by_name(after)) {
            (Some(before), Some(after)) => parts(path, &before, &after, found),
            _ => found.push(format!("{path}: {} → {}", short(released), short(rebuilt))),
        },
        _ => found.push(format!("{path}: {} → {}", short(released), short(rebuilt))),
    }
}

fn parts(path: &str, before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { shown(key) } else { format!("{path}/{}", shown(key)) };
    for (key, value) in before {
        match after.get(key) {
            Some(other) => walk(&below(key), value, other, found),
            None => found.push(format!("{}: {} → ∅", below(key), short(value))),
        }
    }
    for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        found.push(format!("{}: ∅ → {}", below(key), short(value)));
    }
}

/// Returns the parts of a list by their names; nothing where some have none, or one name stands for two.
fn by_name(list: &[Value]) -> Option<BTreeMap<String, Value>> {
    let name = |part: &Value| {
        let known = ["SPDXID", "bom-ref", "ref", "fileName", "name"];
        known.iter().find_map(|key| part.get(key)?.as_str().map(str::to_owned))
    };
    let named: BTreeMap<String, Value> = list.iter().map(|part| Some((name(part)?, part.clone()))).collect::<Option<_>>()?;
    (named.len() == list.len()).then_some(named)
}

fn short(value: &Value) -> String {
    let text = shown(&value.to_string());
    if text.chars().count() <= SHORT { text } else { text.chars().take(SHORT).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_of_a_list_are_told_by_their_names_and_not_by_their_place() {
        let before = json!({"creators": ["Tool: parvis-0.1.0"], "packages": [
            {"SPDXID": "SPDXRef-a", "versionInfo": "1"}, {"SPDXID": "SPDXRef-b", "versionInfo": "2"},
        ]});
        let after = json!({"creators": ["Tool: parvis-0.2.0"], "packages": [
            {"SPDXID": "SPDXRef-c", "versionInfo": "3"}, {"SPDXID": "SPDXRef-b", "versionInfo": "2.1"},
        ]});
        let mut found = Vec::new();
        walk("", &before, &after, &mut found);
        assert_eq!(
            found,
            [
                "creators: [\"Tool: parvis-0.1.0\"] → [\"Tool: parvis-0.2.0\"]",
                "packages/SPDXRef-a: {\"SPDXID\":\"SPDXRef-a\",\"versionInfo\":\"1\"} → ∅",
                "packages/SPDXRef-b/versionInfo: \"2\" → \"2.1\"",
                "packages/SPDXRef-c: ∅ → {\"SPDXID\":\"SPDXRef-c\",\"versionInfo\":\"3\"}",
            ]
        );
        found.clear();
        walk("", &before, &before, &mut found);
        assert!(found.is_empty());
    }
}
