//! What an image was made from, and how: the predicate of SLSA provenance v1 (`https://slsa.dev/provenance/v1`).
//!
//! It has no times and no number of a run: who makes an image again from the same materials makes the same provenance, too.

use serde_json::{Map, Value, json};

/// The kind of build. What its parameters mean is said at [`Provenance`]; no server need answer there.
pub const BUILD_TYPE: &str = "https://parvis.example/build/v1";

/// Who built, where nothing else was said: parvis, on a machine of whoever signs.
pub const BUILDER: &str = "https://parvis.example/builder/own-machine/v1";

/// One thing that went into an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// What people call it: a path of the project, a .deb's file name.
    pub name: String,
    /// Where it is, or what it is, where there is such an address: a package URL, a download.
    pub uri: Option<String>,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// What else is known of it.
    pub notes: Vec<(&'static str, String)>,
}

impl Material {
    /// Returns a thing of which only name and digest are known.
    #[must_use]
    pub fn new(name: impl Into<String>, sha256: impl Into<String>) -> Self {
        Self { name: name.into(), uri: None, sha256: sha256.into(), notes: Vec::new() }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"digest": {"sha256": self.sha256}, "name": self.name});
        if let Some(uri) = &self.uri {
            value["uri"] = json!(uri);
        }
        if !self.notes.is_empty() {
            value["annotations"] = self.notes.iter().map(|(key, note)| ((*key).to_owned(), json!(note))).collect();
        }
        value
    }
}

/// A program that ran while an image was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// Nothing: files were laid down, taken away or packed.
    Nothing,
    /// Maintainer scripts of packages, in dpkg's order.
    Scripts,
    /// Composer, with its plugins.
    Composer,
    /// A command of a recipe.
    Command(Vec<String>),
}

/// A step that led to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFact {
    /// The image whose step it is: the image itself, one that it stands on or copies from.
    pub image: String,
    pub step: String,
    /// The digest of everything that can change the step's result.
    pub key: String,
    pub ran: Ran,
}

impl StepFact {
    fn to_value(&self) -> Value {
        let mut value = json!({"image": self.image, "key": self.key, "step": self.step});
        match &self.ran {
            Ran::Nothing => {}
            Ran::Scripts => value["ran"] = json!("maintainer scripts"),
            Ran::Composer => value["ran"] = json!("composer"),
            Ran::Command(command) => value["ran"] = json!({"command": command}),
        }
        value
    }
}

/// The commit that a project stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// 40 hexadecimal digits.
    pub id: String,
    /// Files that matter and are other than in the commit, or not in it.
    pub changed: Vec<String>,
}

/// How an image was made.
///
/// External parameters are what a person decides: the image, its recipe, the platform, the profile whose variables recipes see. Internal
/// parameters are what parvis makes of it. Materials are complete: nothing else was read, and no step had a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub image: String,
    /// The Debian name of the architecture.
    pub platform: String,
    pub profile: Option<String>,
    /// The version of parvis.
    pub tool: String,
    /// The number of the writers of tar, gzip and JSON.
    pub writer: u32,
    pub compression: String,
    /// Who built: an address that stands for a kind of place.
    pub builder: String,
    pub commit: Option<Commit>,
    /// In order.
    pub steps: Vec<StepFact>,
    pub materials: Vec<Material>,
}

impl Provenance {
    /// Returns the predicate. Materials are sorted, each once.
    #[must_use]
    pub fn predicate(&self) -> Value {
        let mut materials = self.materials.clone();
        materials.sort();
        materials.dedup();
        let mut resolved: Vec<Value> = Vec::with_capacity(materials.len() + 1);
        let mut internal = json!({
            "compression": self.compression,
            "network": "none",
            "steps": self.steps.iter().map(StepFact::to_value).collect::<Vec<_>>(),
            "writer": self.writer,
        });
        if let Some(Commit { id, changed }) = &self.commit {
            resolved.push(json!({"digest": {"gitCommit": id}, "name": "project"}));
            internal["changedSinceCommit"] = json!(changed);
        }
        resolved.extend(materials.iter().map(Material::to_value));
        let mut external = Map::new();
        external.insert("image".into(), json!(self.image));
        external.insert("platform".into(), json!(self.platform));
        external.insert("recipe".into(), json!(format!("recipes/{}.yaml", self.image)));
        if let Some(profile) = &self.profile {
            external.insert("profile".into(), json!(profile));
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": resolved,
            },
            "runDetails": {"builder": {"id": self.builder, "version": {"parvis": self.tool}}},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Provenance {
        let step = |step: &str, ran| StepFact { image: "httpd".into(), step: step.into(), key: "5e".into(), ran };
        Provenance {
            image: "httpd".into(),
            platform: "amd64".into(),
            profile: Some("annuaire".into()),
            tool: "0.1.0".into(),
            writer: 1,
            compression: "gzip".into(),
            builder: BUILDER.into(),
            commit: Some(Commit { id: "c0".repeat(20), changed: vec!["recipes/httpd.yaml".into()] }),
            steps: vec![
                step("packages", Ran::Scripts),
                step("composer", Ran::Composer),
                step("run-0", Ran::Command(vec!["sh".into(), "-c".into(), "true".into()])),
                step("layers", Ran::Nothing),
            ],
            materials: vec![
                Material {
                    uri: Some("pkg:deb/debian/libc6@2.41-12?arch=amd64".into()),
                    notes: vec![("suite", "trixie".into())],
                    ..Material::new("libc6_2.41-12_amd64.deb", "01".repeat(32))
                },
                Material::new("images/httpd/site.conf", "02".repeat(32)),
            ],
        }
    }

    #[test]
    fn a_provenance_as_slsa_has_it() {
        insta::assert_snapshot!("provenance", serde_json::to_string_pretty(&sample().predicate()).unwrap());
    }

    #[test]
    fn the_order_in_which_materials_are_found_does_not_count() {
        let mut other = sample();
        other.materials.reverse();
        other.materials.extend(sample().materials);
        assert_eq!(other.predicate(), sample().predicate());
    }

    #[test]
    fn without_git_and_profiles_nothing_is_said_of_them() {
        let text = Provenance { commit: None, profile: None, ..sample() }.predicate().to_string();
        assert!(!text.contains("gitCommit") && !text.contains("profile") && !text.contains("changedSinceCommit"), "{text}");
    }
}
