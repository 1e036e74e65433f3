//! SPDX 2.3 as JSON.

use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::{Component, Inventory, OwnFile, Role, SbomError, Subject, Supplier, name_of};
use crate::model::digest::hex;
use crate::model::licence;
use crate::model::tree::{Origin, TreePath};

/// The id of what holds the files of no package.
const OWN_FILES: &str = "SPDXRef-own-files";

/// What SPDX says where nothing is asserted.
const UNKNOWN: &str = "NOASSERTION";

pub(super) fn document(inventory: &Inventory, created: &str) -> Result<Value, SbomError> {
    let image = "SPDXRef-image";
    let mut packages = vec![subject(&inventory.image, image)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", image)];
    let mut below = image.to_owned();
    for ancestor in &inventory.ancestors {
        let id = ancestor_id(ancestor);
        packages.push(subject(ancestor, &id));
        relations.push(relation(&below, "DESCENDANT_OF", &id));
        below = id;
    }
    for component in inventory.components.values() {
        packages.push(package(component));
        relate(inventory, component, image, &mut relations);
    }
    if !inventory.files.is_empty() {
        packages.push(own_files(inventory));
        relations.push(relation(image, "CONTAINS", OWN_FILES));
    }
    for file in &inventory.files {
        let id = format!("SPDXRef-{}", file.id());
        relations.push(relation(OWN_FILES, "CONTAINS", &id));
        // The word says that the package's own file is not this one, but that it came of the package.
        let maker = super::id(&["deb", maker(file).unwrap_or_default()]);
        if inventory.components.contains_key(&maker) {
            relations.push(relation(&id, "GENERATED_FROM", &format!("SPDXRef-{maker}")));
        }
    }
    let texts = inventory.texts.iter().map(|(id, text)| json!({"extractedText": text.text, "licenseId": id, "name": text.name}));
    let mut document = json!({
        "SPDXID": "SPDXRef-DOCUMENT",
        "creationInfo": {
            "comment": "Made from the lock and the tree of the image; no file was scanned.",
            "created": created,
            "creators": [format!("Tool: parvis-{}", inventory.tool)],
            "licenseListVersion": licence::list_version(),
        },
        "dataLicense": "CC0-1.0",
        "files": inventory.files.iter().map(file).collect::<Vec<_>>(),
        "hasExtractedLicensingInfos": texts.collect::<Vec<_>>(),
        "name": format!("{}@{}", inventory.image.repository, inventory.image.digest),
        "packages": packages,
        "relationships": relations,
        "spdxVersion": "SPDX-2.3",
    });
    let name = name_of(&document)?;
    document["documentNamespace"] = json!(format!("urn:parvis:sbom:sha256:{}", name.hex()));
    Ok(document)
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"relatedSpdxElement": to, "relationshipType": kind, "spdxElementId": from})
}

fn ancestor_id(ancestor: &Subject) -> String {
    format!("SPDXRef-{}", super::id(&["image", ancestor.repository.rsplit('/').next().unwrap_or_default()]))
}

/// Writes what a component is to the image and to others.
fn relate(inventory: &Inventory, component: &Component, image: &str, relations: &mut Vec<Value>) {
    let id = format!("SPDXRef-{}", component.id);
    match component.role {
        Role::Package | Role::Composer => {
            relations.push(relation(image, "CONTAINS", &id));
            let bringer = inventory.ancestors.iter().find(|ancestor| ancestor.repository == component.brought_by);
            relations.extend(bringer.map(|bringer| relation(&ancestor_id(bringer), "CONTAINS", &id)));
        }
        Role::Source | Role::Patch => {}
    }
    relations.extend(component.source.iter().map(|source| relation(&id, "GENERATED_FROM", &format!("SPDXRef-{source}"))));
    let need = if component.role == Role::Patch { "PATCH_FOR" } else { "DEPENDS_ON" };
    relations.extend(component.needs.iter().map(|other| relation(&id, need, &format!("SPDXRef-{other}"))));
}

fn subject(subject: &Subject, id: &str) -> Value {
    let mut package = json!({
        "SPDXID": id,
        "checksums": [{"algorithm": "SHA256", "checksumValue": subject.digest.hex()}],
        "copyrightText": UNKNOWN,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "name": subject.repository,
        "primaryPackagePurpose": "CONTAINER",
        "supplier": UNKNOWN,
        "versionInfo": subject.digest.to_string(),
    });
    set(&mut package, "description", (!subject.description.is_empty()).then_some(&subject.description));
    set_purl(&mut package, subject.purl().as_deref());
    package
}

/// Returns what holds the files of no package: a package of which each file is listed, as SPDX wants it of all that contain files.
fn own_files(inventory: &Inventory) -> Value {
    let mut sums: Vec<&str> = inventory.files.iter().map(|file| file.sha1.as_str()).collect();
    sums.sort_unstable();
    let code = hex(&Sha1::digest(sums.concat()));
    json!({
        "SPDXID": OWN_FILES,
        "comment": "Files that belong to no package: of recipes, of maintainer scripts, of commands, of the package database.",
        "copyrightText": UNKNOWN,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": true,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "licenseInfoFromFiles": [UNKNOWN],
        "name": format!("{}: files of no package", inventory.image.repository),
        "packageVerificationCode": {"packageVerificationCodeValue": code},
        "supplier": UNKNOWN,
    })
}

fn package(component: &Component) -> Value {
    let licence = component.licence.as_ref().map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{}", component.id),
        "copyrightText": UNKNOWN,
        "downloadLocation": component.url.as_deref().unwrap_or(UNKNOWN),
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "name": component.name,
        "primaryPackagePurpose": match component.role {
            Role::Package | Role::Composer => "LIBRARY",
            Role::Source => "SOURCE",
            Role::Patch => "OTHER",
        },
        "supplier": component.supplier.as_ref().map_or_else(|| UNKNOWN.to_owned(), actor),
    });
    set(&mut package, "versionInfo", component.version.as_ref());
    set(&mut package, "summary", component.summary.as_ref());
    set(&mut package, "homepage", component.homepage.as_ref());
    set(&mut package, "licenseComments", component.licence_note.as_ref());
    set(&mut package, "packageFileName", component.file.as_ref());
    set(&mut package, "comment", component.note.as_ref());
    if let Some(sha256) = &component.sha256 {
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
    }
    set_purl(&mut package, component.purl.as_deref());
    package
}

fn set(object: &mut Value, key: &str, value: Option<&String>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

fn set_purl(package: &mut Value, purl: Option<&str>) {
    if let Some(purl) = purl {
        package["externalRefs"] =
            json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceLocator": purl, "referenceType": "purl"}]);
    }
}

/// Returns a person or organisation as SPDX writes them. Parentheses belong to the address.
fn actor(supplier: &Supplier) -> String {
    let kind = if supplier.is_team() { "Organization" } else { "Person" };
    let name: String = supplier.name.chars().filter(|c| !matches!(c, '(' | ')') && !c.is_control()).collect();
    match &supplier.email {
        Some(email) => format!("{kind}: {} ({email})", name.trim()),
        None => format!("{kind}: {}", name.trim()),
    }
}

/// Returns the Debian package whose script made a file.
fn maker(file: &OwnFile) -> Option<&str> {
    match &file.origin {
        Origin::Script(name) => Some(name.as_str()),
        _ => None,
    }
}

fn file(file: &OwnFile) -> Value {
    let mut entry = Map::new();
    entry.insert("SPDXID".into(), json!(format!("SPDXRef-{}", file.id())));
    let checksums = [("SHA1", file.sha1.clone()), ("SHA256", file.sha256.hex())]
        .map(|(algorithm, value)| json!({"algorithm": algorithm, "checksumValue": value}));
    entry.insert("checksums".into(), json!(checksums));
    entry.insert("comment".into(), json!(file.who()));
    entry.insert("copyrightText".into(), json!(UNKNOWN));
    entry.insert("fileName".into(), json!(file_name(&file.path)));
    entry.insert("licenseConcluded".into(), json!(UNKNOWN));
    entry.insert("licenseInfoInFiles".into(), json!([UNKNOWN]));
    Value::Object(entry)
}

fn file_name(path: &TreePath) -> String {
    format!(".{path}")
}
