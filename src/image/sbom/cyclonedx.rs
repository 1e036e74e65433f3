//! `CycloneDX` 1.6 as JSON.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Component, Inventory, OwnFile, Role, SbomError, Subject, name_of};
use crate::model::digest::hex;
use crate::model::licence::{Licence, LicenceTexts};

pub(super) fn document(inventory: &Inventory, created: &str) -> Result<Value, SbomError> {
    let root = "image";
    let components = inventory.contained().map(|part| component(inventory, part)).chain(inventory.files.iter().map(file));
    let dependencies = inventory.contained().map(|part| dependency(&part.id, part.needs.iter().map(String::as_str)));
    let all = inventory.contained().map(|part| part.id.as_str());
    let mut image = subject(&inventory.image, root);
    if let [parent, ..] = &inventory.ancestors[..] {
        let ancestors = inventory.ancestors.iter().map(|ancestor| subject(ancestor, &ancestor.digest.to_string()));
        image["pedigree"] = json!({
            "ancestors": ancestors.collect::<Vec<_>>(),
            "notes": format!("built on {}", parent.repository),
        });
    }
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "components": components.collect::<Vec<_>>(),
        "dependencies": std::iter::once(dependency(root, all)).chain(dependencies).collect::<Vec<_>>(),
        "metadata": {
            "component": image,
            "lifecycles": [{"phase": "build"}],
            "timestamp": created,
            "tools": {"components": [{"name": "parvis", "type": "application", "version": inventory.tool}]},
        },
        "specVersion": "1.6",
        "version": 1,
    });
    let name = name_of(&document)?;
    document["serialNumber"] = json!(format!("urn:uuid:{}", uuid(name.bytes())));
    Ok(document)
}

/// Returns the UUID that stands for a digest (RFC 9562, version 8).
fn uuid(digest: &[u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex(&bytes[range])).join("-")
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": format!("parvis:{name}"), "value": value})
}

fn dependency<'a>(of: &str, on: impl Iterator<Item = &'a str>) -> Value {
    json!({"dependsOn": on.collect::<BTreeSet<_>>(), "ref": of})
}

fn sha256(hex: &str) -> Value {
    json!({"alg": "SHA-256", "content": hex})
}

fn subject(subject: &Subject, reference: &str) -> Value {
    let mut component = json!({
        "bom-ref": reference,
        "hashes": [sha256(&subject.digest.hex())],
        "name": subject.repository,
        "type": "container",
        "version": subject.digest.to_string(),
    });
    if !subject.description.is_empty() {
        component["description"] = json!(subject.description);
    }
    if let Some(purl) = subject.purl() {
        component["purl"] = json!(purl);
    }
    component
}

fn component(inventory: &Inventory, part: &Component) -> Value {
    let mut component = json!({"bom-ref": part.id, "name": part.name, "type": "library"});
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            component[key] = value;
        }
    };
    let text = |value: &Option<String>| value.as_ref().map(|value| json!(value));
    set("version", text(&part.version));
    set("purl", text(&part.purl));
    set("description", text(&part.summary));
    set("hashes", part.sha256.as_ref().map(|hex| json!([sha256(hex)])));
    set(
        "supplier",
        part.supplier.as_ref().map(|supplier| {
            let contact = supplier.email.iter().map(|email| json!({"email": email})).collect::<Vec<_>>();
            if contact.is_empty() { json!({"name": supplier.name}) } else { json!({"contact": contact, "name": supplier.name}) }
        }),
    );
    if let Some(licence) = &part.licence {
        set("licenses", Some(licences(licence)));
        // An expression has no place for texts.
        let texts = texts(licence, &inventory.texts);
        set("evidence", (!texts.is_empty()).then(|| json!({"licenses": texts})));
    }
    let references = [("website", &part.homepage), ("distribution", &part.url)];
    let references = references.into_iter().filter_map(|(kind, url)| Some(json!({"type": kind, "url": url.as_ref()?})));
    let references: Vec<_> = references.collect();
    set("externalReferences", (!references.is_empty()).then(|| json!(references)));
    set("pedigree", pedigree(inventory, part));
    let mut properties = vec![property("brought-by", &part.brought_by)];
    let more = [("file", &part.file), ("licence", &part.licence_note), ("note", &part.note)];
    properties.extend(more.into_iter().filter_map(|(name, value)| Some(property(name, value.as_ref()?))));
    set("properties", Some(json!(properties)));
    component
}

/// Returns what a package was built from, and what was changed in it since.
fn pedigree(inventory: &Inventory, part: &Component) -> Option<Value> {
    let source = part.source.as_ref().and_then(|id| inventory.components.get(id)).map(|source| {
        // Several packages have the same source, and a reference stands once only.
        let mut ancestor = json!({"name": source.name, "type": "library"});
        for (key, value) in [("purl", &source.purl), ("version", &source.version)] {
            if let Some(value) = value {
                ancestor[key] = json!(value);
            }
        }
        json!([ancestor])
    });
    let patches = inventory.components.values().filter(|other| other.role == Role::Patch && other.needs.contains(&part.id));
    let patches: Vec<Value> = patches
        .map(|patch| {
            let mut entry = json!({"type": "unofficial"});
            if let Some(url) = &patch.url {
                entry["diff"] = json!({"url": url});
            }
            entry["resolves"] = json!([{"name": patch.name, "type": "defect"}]);
            entry
        })
        .collect();
    match (source, patches.is_empty()) {
        (None, true) => None,
        (Some(source), true) => Some(json!({"ancestors": source})),
        (None, false) => Some(json!({"patches": patches})),
        (Some(source), false) => Some(json!({"ancestors": source, "patches": patches})),
    }
}

fn licences(licence: &Licence) -> Value {
    let text = licence.to_string();
    let plain = matches!(licence, Licence::Term(_)) && !text.contains(' ') && !text.starts_with("LicenseRef-");
    if plain {
        json!([{"license": {"acknowledgement": "declared", "id": text}}])
    } else {
        json!([{"acknowledgement": "declared", "expression": text}])
    }
}

fn texts(licence: &Licence, texts: &LicenceTexts) -> Vec<Value> {
    let known = licence.references().into_iter().filter_map(|reference| Some((reference, texts.get(reference)?)));
    known
        .map(|(reference, text)| {
            json!({"license": {"name": reference, "text": {"content": text.text, "contentType": "text/plain"}}})
        })
        .collect()
}

fn file(file: &OwnFile) -> Value {
    json!({
        "bom-ref": file.id(),
        "hashes": [{"alg": "SHA-1", "content": file.sha1}, sha256(&file.sha256.hex())],
        "name": file.path.to_string(),
        "properties": [property("origin", &file.who())],
        "type": "file",
    })
}
