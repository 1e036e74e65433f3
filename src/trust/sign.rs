//! Signing an image where it is kept: in both forms, as a whole and on each platform, beside what others signed.

use super::key::SigningKey;
use super::simple::{self, Payload, SimpleError};
use super::statement::{Attachment, Statement};
use crate::image::oci::{self, Descriptor, INDEX, OciError};
use crate::image::repository::{RepositoryError, WritableRepository};

/// An image that could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    Simple(#[from] SimpleError),
    #[error("`{digest}` is not in `{place}`")]
    Absent { digest: String, place: String },
}

/// Whether something is the index of an image's platforms.
#[must_use]
pub fn is_index(descriptor: &Descriptor) -> bool {
    descriptor.media_type == INDEX || descriptor.media_type.ends_with("manifest.list.v2+json")
}

/// Returns the documents of an image that are signed: those of its platforms, then its own.
///
/// # Errors
/// The index is missing, or is none.
pub fn documents(place: &dyn WritableRepository, image: &Descriptor) -> Result<Vec<Descriptor>, SignError> {
    if !is_index(image) {
        return Ok(vec![image.clone()]);
    }
    let absent = || SignError::Absent { digest: image.digest.to_string(), place: place.place() };
    let (_, bytes) = place.document(&image.digest)?.ok_or_else(absent)?;
    let mut documents = oci::parse_index(&bytes)?.manifests;
    // What BuildKit keeps beside the platforms is no image.
    documents.retain(|document| !document.annotations.contains_key("vnd.docker.reference.type"));
    documents.push(image.clone());
    Ok(documents)
}

/// Signs an image. Returns how many signatures were not there before: none, if the same was signed before.
///
/// # Errors
/// The place does not give or take something. What was signed before that stays.
pub fn sign(place: &dyn WritableRepository, repository: &str, image: &Descriptor, key: &SigningKey) -> Result<usize, SignError> {
    let mut new = 0;
    for document in documents(place, image)? {
        let statement = Statement::signature(repository, document.digest);
        new += usize::from(Attachment::sign(&statement, &document, key)?.put(place, &document.digest)?);
        let payload = Payload { repository: repository.to_owned(), digest: document.digest };
        new += usize::from(simple::sign(place, &payload, key)?);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::super::bundle::Bundle;
    use super::super::key::testing::key;
    use super::*;
    use crate::image::archive::REFERRERS;
    use crate::image::layout::testing::sample;
    use crate::image::layout::{Form, Layout};
    use crate::image::repository::Repository as _;

    #[test]
    fn an_image_is_signed_in_both_forms_once_and_beside_other_signers() {
        let (mut files, image) = sample();
        for (signer, expected) in [(1, 2), (1, 0), (2, 2), (1, 0)] {
            let layout = Layout::open(&files, "memory", Form::Archive).unwrap();
            assert_eq!(sign(&layout, "registry.example/base", &image, &key(signer)).unwrap(), expected, "signer {signer}");
            match layout.additions().unwrap() {
                Some(additions) => files.take(additions),
                None => assert_eq!(expected, 0),
            }
        }
        let layout = Layout::open(&files, "memory", Form::Archive).unwrap();
        let referrers = layout.referrers(&image.digest).unwrap();
        assert_eq!(referrers.len(), 2);
        for referrer in referrers {
            let artifact = oci::parse_artifact(&layout.document(&referrer.digest).unwrap().unwrap().1).unwrap();
            let mut bytes = Vec::new();
            let mut content = layout.blob(&artifact.layers[0].digest, artifact.layers[0].size).unwrap().unwrap();
            std::io::Read::read_to_end(&mut content, &mut bytes).unwrap();
            let bundle = Bundle::parse(&bytes).unwrap();
            assert!([1, 2].iter().any(|signer| bundle.is_signed_by(key(*signer).public())));
        }
        let list = layout.resolve(&simple::tag(&image.digest)).unwrap().unwrap();
        let list = oci::parse_artifact(&layout.document(&list.digest).unwrap().unwrap().1).unwrap();
        let signers: Vec<_> = simple::entries(&list)
            .iter()
            .map(|entry| {
                let payload = Payload { repository: "registry.example/base".into(), digest: image.digest }.to_bytes().unwrap();
                [1, 2].into_iter().find(|signer| entry.is_signed_by(&payload, key(*signer).public()))
            })
            .collect();
        assert_eq!(signers, [Some(1), Some(2)]);
        assert_eq!(oci::parse_index(&files.0[REFERRERS]).unwrap().manifests.len(), 3);
    }

    #[test]
    fn every_platform_of_an_image_is_signed_and_the_image_itself_last() {
        let (mut files, image) = sample();
        let attestation = Descriptor {
            annotations: [("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into(),
            ..image.clone()
        };
        let index = oci::write_index(&[image.clone(), attestation]).unwrap();
        files.blob(&index.bytes);
        files.0.insert("index.json".into(), oci::write_index(&[index.descriptor()]).unwrap().bytes);
        let layout = Layout::open(&files, "memory", Form::Folder).unwrap();
        let signed: Vec<_> = documents(&layout, &index.descriptor()).unwrap().iter().map(|document| document.digest).collect();
        assert_eq!(signed, [image.digest, index.digest]);
        assert_eq!(sign(&layout, "registry.example/base", &index.descriptor(), &key(1)).unwrap(), 4);
    }
}
