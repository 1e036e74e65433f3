//! The statement on a release, as it is signed: one for all images, files and SBOMs, so that none can be exchanged for that of another release.
//!
//! ```json
//! {"format":1,"product":"civiparoisse","version":"1.4.0","sequence":14,
//!  "issued":"2026-11-24T12:00:00Z","validUntil":"2027-05-23T12:00:00Z","commit":"…","lock":"…","registry":"registry.example/parish",
//!  "images":[{"name":"httpd","digest":"sha256:…","platforms":[{"platform":"linux/amd64","manifest":"sha256:…","config":"sha256:…","size":1}]}],
//!  "files":[{"name":"civiparoisse-1.4.0-amd64.tar","sha256":"…","size":1}],
//!  "sboms":[{"image":"httpd","format":"spdx","name":"httpd.spdx.json","sha256":"…","size":1}]}
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::digest::{BlobDigest, FileDigest};
use super::moment::Moment;
use super::name::ImageName;
use super::number::Number;
use super::problem::shown;
use super::releases::{ReleasedFile, ReleasedImage};
use super::tree::TreePath;

/// The number of the format.
pub const FORMAT: u32 = 1;

/// Images, files and SBOMs at most, each.
const MOST: usize = 2000;

/// A form of an SBOM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SbomFormat {
    Spdx,
    CycloneDx,
}

/// A list of what is in an image, as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedSbom {
    pub image: ImageName,
    pub format: SbomFormat,
    pub name: String,
    pub sha256: FileDigest,
    pub size: u64,
}

/// What is said of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Release {
    pub format: u32,
    pub product: ImageName,
    pub version: Number,
    /// Counts the statements of the product: a newer one has a higher sequence, whatever its number.
    pub sequence: u64,
    pub issued: Moment,
    /// When nobody should rely on it any more: whoever hides newer releases can do so no longer than this.
    pub valid_until: Moment,
    /// The commit that it was built from, 40 hexadecimal digits.
    pub commit: String,
    /// The digest of `parvis.lock`.
    pub lock: FileDigest,
    /// Where its images are: `registry.example/parish`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    pub images: Vec<ReleasedImage>,
    pub files: Vec<ReleasedFile>,
    pub sboms: Vec<ReleasedSbom>,
}

/// A statement that cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the statement on the release cannot be used: {0}")]
pub struct InvalidRelease(String);

impl Release {
    /// Checks the statement.
    ///
    /// # Errors
    /// Refuses other formats, an end before the beginning, names that stand twice, and files that would stand elsewhere.
    pub fn check(&self) -> Result<(), InvalidRelease> {
        let wrong = |problem: String| Err(InvalidRelease(problem));
        if self.format != FORMAT {
            return wrong(format!("it has the format {}; this parvis reads {FORMAT}", self.format));
        }
        if self.valid_until <= self.issued || self.sequence == 0 {
            return wrong("it ends before it begins, or has no sequence number".into());
        }
        let hexadecimal = self.commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if self.commit.len() != 40 || !hexadecimal {
            return wrong("its commit is not 40 hexadecimal digits".into());
        }
        if self.images.len() > MOST || self.files.len() > MOST || self.sboms.len() > MOST {
            return wrong(format!("it lists more than {MOST} things of a kind"));
        }
        let mut images = BTreeSet::new();
        for image in &self.images {
            if !images.insert(&image.name) || image.platforms.len() > MOST {
                return wrong(format!("the image `{}` stands twice", image.name));
            }
        }
        let mut names = BTreeSet::new();
        for (name, ..) in self.files() {
            let plain = TreePath::parse(name.as_bytes()).is_ok_and(|path| !path.is_root() && path.as_bytes() == name.as_bytes());
            if !plain || name.chars().any(char::is_control) || !names.insert(name) {
                return wrong(format!("the file `{}` stands twice, or elsewhere", shown(name)));
            }
        }
        match self.sboms.iter().find(|sbom| !images.contains(&sbom.image)) {
            Some(sbom) => wrong(format!("`{}` is of an image that is not in it", shown(&sbom.name))),
            None => Ok(()),
        }
    }

    /// Returns all files, SBOMs last: name, digest and size.
    pub fn files(&self) -> impl Iterator<Item = (&str, FileDigest, u64)> {
        let files = self.files.iter().map(|file| (file.name.as_str(), file.sha256, file.size));
        files.chain(self.sboms.iter().map(|sbom| (sbom.name.as_str(), sbom.sha256, sbom.size)))
    }

    /// Returns the repository of an image: below the registry, where there is one.
    #[must_use]
    pub fn repository(&self, image: &ImageName) -> String {
        self.registry.as_ref().map_or_else(|| image.to_string(), |registry| format!("{registry}/{image}"))
    }

    /// Returns the image that this digest stands for, as a whole or on one platform.
    #[must_use]
    pub fn image_of(&self, digest: &BlobDigest) -> Option<&ReleasedImage> {
        let is_it = |image: &&ReleasedImage| image.digest == *digest || image.platforms.iter().any(|on| on.manifest == *digest);
        self.images.iter().find(is_it)
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::model::releases::ReleasedPlatform;

    /// Returns a statement for tests.
    pub fn release() -> Release {
        let on = ReleasedPlatform {
            platform: "linux/amd64".into(),
            manifest: BlobDigest::of(b"manifest"),
            config: BlobDigest::of(b"config"),
            size: 7,
        };
        let image = ReleasedImage { name: "httpd".parse().unwrap(), digest: BlobDigest::of(b"index"), platforms: vec![on] };
        let file = ReleasedFile { name: "notes.md".into(), sha256: FileDigest::of(b"notes"), size: 5 };
        let sbom = ReleasedSbom {
            image: "httpd".parse().unwrap(),
            format: SbomFormat::Spdx,
            name: "sbom/httpd.spdx.json".into(),
            sha256: FileDigest::of(b"{}"),
            size: 2,
        };
        Release {
            format: FORMAT,
            product: "civiparoisse".parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            sequence: 14,
            issued: "2026-11-24T12:00:00Z".parse().unwrap(),
            valid_until: "2027-05-23T12:00:00Z".parse().unwrap(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            lock: FileDigest::of(b"lock"),
            registry: Some("registry.example/parish".into()),
            images: vec![image],
            files: vec![file],
            sboms: vec![sbom],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::release;
    use super::*;

    #[test]
    fn an_image_is_found_by_any_of_its_digests_and_named_with_its_registry() {
        let release = release();
        release.check().unwrap();
        for digest in [b"index".as_slice(), b"manifest"] {
            assert_eq!(release.image_of(&BlobDigest::of(digest)).unwrap().name.as_str(), "httpd");
        }
        assert_eq!(release.image_of(&BlobDigest::of(b"config")), None);
        assert_eq!(release.repository(&release.images[0].name), "registry.example/parish/httpd");
    }

    #[test]
    fn a_statement_that_cannot_be_true_is_refused() {
        let wrong: [fn(&mut Release); 10] = [
            |release| release.format = 2,
            |release| release.valid_until = release.issued,
            |release| release.sequence = 0,
            |release| release.commit = "main".into(),
            |release| release.images.push(release.images[0].clone()),
            |release| release.files[0].name = "../notes.md".into(),
            |release| release.files[0].name = "/notes.md".into(),
            |release| release.files[0].name = "notes\u{1b}.md".into(),
            |release| release.files[0].name = release.sboms[0].name.clone(),
            |release| release.sboms[0].image = "other".parse().unwrap(),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut release = release();
            change(&mut release);
            assert!(release.check().is_err(), "change {number}");
        }
    }
}
