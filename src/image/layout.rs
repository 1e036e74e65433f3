//! A layout or an archive as a place where images are kept, with what is said of them.
//!
//! ```text
//! layout in a folder    referrers and lists of signatures stand in `index.json` beside the images, as oras has it
//! archive in a file     they stand in `referrers.json`, an index of its own: an engine takes every line of `index.json` for an image
//! ```
//!
//! Nothing is written here: what is added is kept in memory, and handed over as [`Additions`] in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::archive::{self, ArchiveError, Checked, Files, REFERRERS, ReadAt, TarFiles};
use super::canonical;
use super::oci::{self, Artifact, CONFIG, Descriptor, Document, INDEX, MANIFEST, REF_NAME};
use super::repository::{MOST_REFERRERS, Repository, RepositoryError, WritableRepository};
use crate::model::digest::BlobDigest;

/// The problem of a blob that is not there.
pub const MISSING: &str = "is missing";

/// What kind of place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Folder,
    Archive,
}

/// An image that a place lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// The names under which it stands.
    pub names: Vec<String>,
    /// Its manifest, or the index of its platforms.
    pub descriptor: Descriptor,
}

/// What is to be written into a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Additions {
    pub blobs: BTreeMap<BlobDigest, Vec<u8>>,
    /// The file that lists what refers to images, and its new bytes.
    pub list: (&'static str, Vec<u8>),
}

/// A line of the list of what is said of images.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    line: Descriptor,
    /// The image that an artifact names as its subject, or whose signatures a tag says these are.
    subject: BlobDigest,
    artifact: Artifact,
}

#[derive(Debug, Default)]
struct State {
    said: Vec<Said>,
    blobs: BTreeMap<BlobDigest, Vec<u8>>,
    changed: bool,
}

/// A layout or an archive.
pub struct Layout<'a> {
    files: &'a dyn Files,
    place: String,
    form: Form,
    images: Vec<ListedImage>,
    /// `index.json` as it is.
    index: Value,
    state: Mutex<State>,
}

impl<'a> Layout<'a> {
    /// Opens a place and reads its lists, and everything that stands in them and refers to an image.
    ///
    /// # Errors
    /// Refuses what has no `index.json`, more lines than [`oci::parse_index`] reads, and documents that are not what was promised.
    pub fn open(files: &'a dyn Files, place: &str, form: Form) -> Result<Self, RepositoryError> {
        let damaged = |name: &str, error: ArchiveError| from_archive(place, name, error);
        let read = |name: &'static str| archive::read_file(files, name).map_err(|error| damaged(name, error));
        let listed = |name: &'static str, bytes: &[u8]| oci::parse_index(bytes).map_err(|error| damaged(name, error.into()));
        let bytes = read("index.json")?.ok_or_else(|| RepositoryError::Refused {
            place: place.to_owned(),
            words: "it has no `index.json`, and so no manifests that could be signed".into(),
            hint: Some("make it anew with `parvis save`, `skopeo copy`, or Docker 25 or newer".into()),
        })?;
        let index = canonical::read(&bytes).map_err(|error| damaged("index.json", error.into()))?;
        let mut images: Vec<ListedImage> = Vec::new();
        let mut said = Vec::new();
        for line in listed("index.json", &bytes)?.manifests {
            match Self::said(files, &line).map_err(|error| damaged(&line.digest.to_string(), error))? {
                Some(found) => said.push(found),
                None => list(&mut images, line),
            }
        }
        if let Some(bytes) = read(REFERRERS)? {
            for line in listed(REFERRERS, &bytes)?.manifests {
                let digest = line.digest.to_string();
                let found = Self::said(files, &line).map_err(|error| damaged(&digest, error))?;
                said.push(found.ok_or_else(|| RepositoryError::Damaged {
                    place: place.to_owned(),
                    name: REFERRERS.into(),
                    problem: format!("lists `{digest}`, which refers to no image"),
                })?);
            }
        }
        let state = Mutex::new(State { said, ..State::default() });
        Ok(Self { files, place: place.to_owned(), form, images, index, state })
    }

    /// Reads what a line stands for, where it is something that is said of an image.
    fn said(files: &dyn Files, line: &Descriptor) -> Result<Option<Said>, ArchiveError> {
        if archive::is_index(line) {
            return Ok(None);
        }
        let artifact = oci::parse_artifact(&archive::read_blob(files, line)?)?;
        Ok(subject_of(line, &artifact).map(|subject| Said { line: line.clone(), subject, artifact }))
    }

    /// Returns the images, in the order in which they are listed.
    #[must_use]
    pub fn images(&self) -> &[ListedImage] {
        &self.images
    }

    /// Returns the lines of what is said of these images, and the blobs that they need.
    #[must_use]
    pub fn said_of(&self, subjects: &BTreeSet<BlobDigest>) -> (Vec<Descriptor>, BTreeSet<BlobDigest>) {
        let state = self.state();
        let said: Vec<&Said> = state.said.iter().filter(|said| subjects.contains(&said.subject)).collect();
        let blobs = said.iter().flat_map(|said| {
            let parts = said.artifact.layers.iter().chain([&said.artifact.config]);
            parts.map(|part| part.digest).chain([said.line.digest])
        });
        (said.iter().map(|said| said.line.clone()).collect(), blobs.collect())
    }

    /// Returns what is to be written; `None` where nothing was added.
    ///
    /// # Errors
    /// Never: what was read can be written.
    pub fn additions(self) -> Result<Option<Additions>, RepositoryError> {
        let Self { place, form, mut index, state, images, .. } = self;
        let State { said, blobs, changed } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !changed {
            return Ok(None);
        }
        let failed = |error: oci::OciError| from_archive(&place, "index.json", error.into());
        let lines: Vec<Descriptor> = said.into_iter().map(|said| said.line).collect();
        let list = match form {
            Form::Archive => (REFERRERS, oci::write_index(&lines).map_err(failed)?.bytes),
            Form::Folder => {
                // What stands there is kept as it is, whatever else others wrote beside it.
                let digests: BTreeSet<String> = images.iter().map(|image| image.descriptor.digest.to_string()).collect();
                let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
                if let Some(manifests) = manifests {
                    let is_image =
                        |line: &Value| line.get("digest").and_then(Value::as_str).is_some_and(|digest| digests.contains(digest));
                    manifests.retain(is_image);
                    manifests.extend(lines.iter().map(Descriptor::to_value));
                }
                ("index.json", canonical::to_bytes(&index).map_err(|error| failed(error.into()))?)
            }
        };
        Ok(Some(Additions { blobs, list }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, name: &BlobDigest, error: ArchiveError) -> RepositoryError {
        from_archive(&self.place, &name.to_string(), error)
    }

    fn bytes(&self, digest: &BlobDigest) -> Result<Option<Vec<u8>>, RepositoryError> {
        if let Some(bytes) = self.state().blobs.get(digest) {
            return Ok(Some(bytes.clone()));
        }
        let bytes = archive::read_file(self.files, &archive::blob_name(digest)).map_err(|error| self.damaged(digest, error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let found = BlobDigest::of(&bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(self.damaged(digest, oci::OciError::Digest { expected: *digest, found }.into()))
        }
    }
}

/// Adds a line to the images; several lines can name one image.
fn list(images: &mut Vec<ListedImage>, line: Descriptor) {
    let name = archive::name_of(&line);
    match images.iter_mut().find(|image| image.descriptor.digest == line.digest) {
        Some(image) => image.names.extend(name),
        None => images.push(ListedImage { names: name.into_iter().collect(), descriptor: line }),
    }
}

/// Returns the image that something is said of: an artifact names it as its subject, cosign's older lists have it in their tag.
/// What an engine could run is an image, whatever else it says of itself.
pub(super) fn subject_of(line: &Descriptor, artifact: &Artifact) -> Option<BlobDigest> {
    if artifact.config.media_type != CONFIG
        && let Some(subject) = &artifact.subject
    {
        return Some(subject.digest);
    }
    if artifact.layers.iter().any(|layer| oci::compression(&layer.media_type).is_some()) {
        return None;
    }
    let (hex, _) = line.annotations.get(REF_NAME)?.strip_prefix("sha256-")?.split_once('.')?;
    format!("sha256:{hex}").parse().ok()
}

/// Says of a place what its reader says of an archive.
#[must_use]
pub fn from_archive(place: &str, name: &str, error: ArchiveError) -> RepositoryError {
    match error {
        ArchiveError::Io(source) => RepositoryError::Unreachable { place: place.to_owned(), source: source.into(), hint: None },
        ArchiveError::MissingBlob { digest } => {
            RepositoryError::Damaged { place: place.to_owned(), name: digest.to_string(), problem: MISSING.into() }
        }
        error => {
            let mut problem = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                problem = format!("{problem}: {cause}");
                source = cause.source();
            }
            RepositoryError::Damaged {
                place: place.to_owned(),
                name: name.to_owned(),
                problem: format!("cannot be used: {problem}"),
            }
        }
    }
}

impl Repository for Layout<'_> {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn resolve(&self, tag: &str) -> Result<Option<Descriptor>, RepositoryError> {
        let image = self.images.iter().find(|image| image.names.iter().any(|name| name == tag));
        if let Some(image) = image {
            return Ok(Some(image.descriptor.clone()));
        }
        let tagged = |said: &&Said| said.line.annotations.get(REF_NAME).is_some_and(|name| name == tag);
        Ok(self.state().said.iter().find(tagged).map(|said| said.line.clone()))
    }

    fn document(&self, digest: &BlobDigest) -> Result<Option<(String, Vec<u8>)>, RepositoryError> {
        let Some(bytes) = self.bytes(digest)? else { return Ok(None) };
        let value = canonical::read(&bytes).map_err(|error| self.damaged(digest, error.into()))?;
        let kind = if value.get("manifests").is_some() { INDEX } else { MANIFEST };
        let media_type = value.get("mediaType").and_then(Value::as_str).unwrap_or(kind);
        Ok(Some((media_type.to_owned(), bytes)))
    }

    fn blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Box<dyn Read + '_>>, RepositoryError> {
        if let Some(bytes) = self.state().blobs.get(digest) {
            return Ok(Some(Box::new(io::Cursor::new(bytes.clone()))));
        }
        let opened = self.files.open(&archive::blob_name(digest)).map_err(|error| self.damaged(digest, error.into()))?;
        let Some((found, content)) = opened else { return Ok(None) };
        if found != size {
            return Err(self.damaged(digest, oci::OciError::Size { digest: *digest, expected: size, found }.into()));
        }
        Ok(Some(Box::new(Checked::new(content, size, *digest))))
    }

    fn referrers(&self, subject: &BlobDigest) -> Result<Vec<Descriptor>, RepositoryError> {
        let state = self.state();
        let of_it = |said: &&Said| said.subject == *subject && said.artifact.subject.is_some();
        let mut found: Vec<Descriptor> = state.said.iter().filter(of_it).map(|said| said.line.clone()).collect();
        found.sort_by_key(|line| line.digest);
        found.dedup_by_key(|line| line.digest);
        if found.len() > MOST_REFERRERS {
            return Err(RepositoryError::Damaged {
                place: self.place.clone(),
                name: subject.to_string(),
                problem: format!("has {} referrers; at most {MOST_REFERRERS} are read", found.len()),
            });
        }
        Ok(found)
    }
}

impl WritableRepository for Layout<'_> {
    fn put_blob(&self, content: &[u8]) -> Result<(), RepositoryError> {
        let digest = BlobDigest::of(content);
        let there = self.files.open(&archive::blob_name(&digest)).map_err(|error| self.damaged(&digest, error.into()))?;
        if there.is_none() {
            self.state().blobs.insert(digest, content.to_vec());
        }
        Ok(())
    }

    fn put_document(&self, document: &Document, tag: Option<&str>) -> Result<(), RepositoryError> {
        let artifact = oci::parse_artifact(&document.bytes).map_err(|error| self.damaged(&document.digest, error.into()))?;
        let mut line = document.descriptor();
        line.artifact_type = artifact.subject.is_some().then(|| artifact.artifact_type.clone());
        line.annotations.extend(tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
        let subject = subject_of(&line, &artifact).ok_or_else(|| RepositoryError::Refused {
            place: self.place.clone(),
            words: format!("`{}` refers to no image", document.digest),
            hint: None,
        })?;
        self.put_blob(&document.bytes)?;
        let mut state = self.state();
        let same = |said: &Said| match tag {
            Some(tag) => said.line.annotations.get(REF_NAME).is_some_and(|name| name == tag),
            None => said.line.digest == document.digest,
        };
        state.said.retain(|said| !same(said));
        state.said.push(Said { line, subject, artifact });
        state.changed = true;
        Ok(())
    }
}

/// Writes an archive again with what was added: what stands in it is copied byte by byte, the list and the new blobs come last.
///
/// # Errors
/// The archive's reader or the writer fails.
pub fn append<S: ReadAt + ?Sized>(
    source: &S,
    files: &TarFiles<'_, S>,
    additions: &Additions,
    out: &mut dyn Write,
) -> Result<(), ArchiveError> {
    let (list, bytes) = &additions.list;
    for span in files.without(list) {
        let mut content = archive::part(source, span.clone());
        let copied = io::copy(&mut content, out)?;
        if copied != span.end - span.start {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    for (digest, bytes) in &additions.blobs {
        archive::write_file(out, &archive::blob_name(digest), bytes.len() as u64, &mut &bytes[..])?;
    }
    archive::write_file(out, list, bytes.len() as u64, &mut &bytes[..])?;
    Ok(out.write_all(&super::tar::END)?)
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// Files in memory.
    #[derive(Debug, Clone, Default)]
    pub struct MemoryFiles(pub BTreeMap<String, Vec<u8>>);

    impl Files for MemoryFiles {
        fn open(&self, name: &str) -> io::Result<Option<(u64, Box<dyn Read + '_>)>> {
            Ok(self.0.get(name).map(|bytes| (bytes.len() as u64, Box::new(&bytes[..]) as Box<dyn Read>)))
        }
    }

    impl MemoryFiles {
        /// Adds a blob and returns its digest.
        pub fn blob(&mut self, bytes: &[u8]) -> BlobDigest {
            let digest = BlobDigest::of(bytes);
            self.0.insert(archive::blob_name(&digest), bytes.to_vec());
            digest
        }

        /// Takes in what was added to a layout of these files.
        pub fn take(&mut self, additions: Additions) {
            self.0.extend(additions.blobs.iter().map(|(digest, bytes)| (archive::blob_name(digest), bytes.clone())));
            self.0.insert(additions.list.0.into(), additions.list.1);
        }
    }

    /// Returns a layout with one image, `base`, and that image.
    pub fn sample() -> (MemoryFiles, Descriptor) {
        let mut files = MemoryFiles::default();
        let layer = files.blob(b"layer");
        let text = format!(
            r#"{{"architecture":"amd64","config":{{}},"os":"linux","rootfs":{{"diff_ids":["{layer}"],"type":"layers"}}}}"#
        );
        let config = files.blob(text.as_bytes());
        let manifest = serde_json::json!({
            "config": {"digest": config.to_string(), "mediaType": CONFIG, "size": text.len()},
            "layers": [{"digest": layer.to_string(), "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 5}],
            "mediaType": MANIFEST, "schemaVersion": 2,
        });
        let manifest = Document::new(MANIFEST, &manifest).unwrap();
        files.blob(&manifest.bytes);
        let line = Descriptor { annotations: [(REF_NAME.to_owned(), "base".to_owned())].into(), ..manifest.descriptor() };
        files.0.insert("index.json".into(), oci::write_index(std::slice::from_ref(&line)).unwrap().bytes);
        (files, line)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{MemoryFiles, sample};
    use super::*;

    fn artifact(subject: &Descriptor, word: &str) -> Document {
        let about = [("word".to_owned(), word.to_owned())].into();
        oci::write_artifact("application/example", &[], Some(subject), &about).unwrap()
    }

    /// Adds two referrers and a list under a tag, twice, and returns the files afterwards.
    fn added(form: Form) -> (MemoryFiles, Descriptor, [Document; 2]) {
        let (mut files, image) = sample();
        let artifacts = ["one", "two"].map(|word| artifact(&image, word));
        let tag = format!("sha256-{}.sig", image.digest.hex());
        for _ in 0..2 {
            let layout = Layout::open(&files, "memory", form).unwrap();
            layout.put_blob(oci::EMPTY_BYTES).unwrap();
            for artifact in &artifacts {
                layout.put_document(artifact, None).unwrap();
                layout.put_document(artifact, Some(&tag)).unwrap();
            }
            assert_eq!(layout.referrers(&image.digest).unwrap().len(), 2, "what was added is seen at once");
            let additions = layout.additions().unwrap().unwrap();
            files.take(additions);
        }
        (files, image, artifacts)
    }

    #[test]
    fn what_is_said_of_an_image_stands_beside_it_and_is_found_again() {
        for (form, list) in [(Form::Folder, "index.json"), (Form::Archive, REFERRERS)] {
            let (files, image, artifacts) = added(form);
            let lines = oci::parse_index(&files.0[list]).unwrap().manifests;
            assert_eq!(lines.len(), if form == Form::Folder { 4 } else { 3 }, "{list}: the tag moved, and nothing stands twice");
            let layout = Layout::open(&files, "memory", form).unwrap();
            assert_eq!(layout.images(), [ListedImage { names: vec!["base".into()], descriptor: image.clone() }]);
            let mut expected: Vec<_> = artifacts.iter().map(|artifact| artifact.digest).collect();
            expected.sort();
            let found: Vec<_> = layout.referrers(&image.digest).unwrap().iter().map(|line| line.digest).collect();
            assert_eq!(found, expected);
            let tag = format!("sha256-{}.sig", image.digest.hex());
            assert_eq!(layout.resolve(&tag).unwrap().unwrap().digest, artifacts[1].digest);
            assert_eq!(layout.document(&found[0]).unwrap().unwrap().0, MANIFEST);
            assert_eq!(layout.said_of(&[image.digest].into()).0.len(), 3);
            assert_eq!(layout.additions().unwrap(), None, "nothing was added, so nothing is written");
            // Everybody else still sees one image.
            assert_eq!(archive::read(&files).unwrap().len(), 1);
        }
    }

    #[test]
    fn lines_of_others_are_kept_as_they_are() {
        let (mut files, image) = sample();
        let text = String::from_utf8(files.0["index.json"].clone()).unwrap();
        let text = text.replacen("\"digest\"", "\"data\":\"aGVsbG8=\",\"digest\"", 1).replacen(
            '{',
            "{\"annotations\":{\"a\":\"b\"},",
            1,
        );
        files.0.insert("index.json".into(), text.into_bytes());
        let layout = Layout::open(&files, "memory", Form::Folder).unwrap();
        layout.put_document(&artifact(&image, "one"), None).unwrap();
        let list = String::from_utf8(layout.additions().unwrap().unwrap().list.1).unwrap();
        assert!(list.contains("\"data\":\"aGVsbG8=\"") && list.contains("\"annotations\":{\"a\":\"b\"}"), "{list}");
    }

    #[test]
    fn an_image_cannot_hide_as_something_said_of_another() {
        let (mut files, image) = sample();
        // It names a subject, and has a layer that an engine would unpack.
        let layer = Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            digest: BlobDigest::of(b"layer"),
            size: 5,
            ..image.clone()
        };
        let hidden = oci::write_artifact("application/example", &[layer], Some(&image), &BTreeMap::new()).unwrap();
        let text = String::from_utf8(hidden.bytes).unwrap().replace(oci::EMPTY, CONFIG);
        let digest = files.blob(text.as_bytes());
        let tag = format!("sha256-{}.sig", image.digest.hex());
        let line =
            Descriptor { digest, size: text.len() as u64, annotations: [(REF_NAME.to_owned(), tag)].into(), ..image.clone() };
        files.0.insert("index.json".into(), oci::write_index(&[image, line]).unwrap().bytes);
        assert_eq!(Layout::open(&files, "memory", Form::Folder).unwrap().images().len(), 2);
    }

    #[test]
    fn too_many_referrers_are_refused_and_a_loop_ends() {
        let (mut files, image) = sample();
        let one = artifact(&image, "one");
        files.blob(&one.bytes);
        files.0.insert("index.json".into(), oci::write_index(&vec![one.descriptor(); 10_000]).unwrap().bytes);
        assert!(matches!(Layout::open(&files, "memory", Form::Folder), Err(RepositoryError::Damaged { .. })));
        // Two artifacts that refer to each other cannot be made: each would need the other's digest. One can refer to a third that refers back to the image.
        let two = artifact(&one.descriptor(), "two");
        files.blob(&two.bytes);
        files
            .0
            .insert("index.json".into(), oci::write_index(&[image.clone(), one.descriptor(), two.descriptor()]).unwrap().bytes);
        let layout = Layout::open(&files, "memory", Form::Folder).unwrap();
        assert_eq!(layout.referrers(&image.digest).unwrap().len(), 1);
        assert_eq!(layout.referrers(&two.digest).unwrap(), []);
    }

    #[test]
    fn a_damaged_or_missing_artifact_is_named() {
        let (files, image, artifacts) = added(Form::Folder);
        let name = archive::blob_name(&artifacts[0].digest);
        for change in [None, Some(b"{}".to_vec())] {
            let mut files = files.clone();
            match change {
                None => drop(files.0.remove(&name)),
                Some(bytes) => drop(files.0.insert(name.clone(), bytes)),
            }
            let error = Layout::open(&files, "memory", Form::Folder).err().unwrap().to_string();
            assert!(error.contains(&artifacts[0].digest.to_string()), "{error}");
        }
        let layout = Layout::open(&files, "memory", Form::Folder).unwrap();
        assert_eq!(layout.document(&BlobDigest::of(b"absent")).unwrap(), None);
        assert!(layout.blob(&image.digest, image.size + 1).is_err());
    }

    #[test]
    fn an_archive_keeps_its_bytes_and_gets_what_was_added_behind_them() {
        let (files, image) = sample();
        let mut tar = Vec::new();
        for (name, bytes) in &files.0 {
            archive::write_file(&mut tar, name, bytes.len() as u64, &mut &bytes[..]).unwrap();
        }
        let kept = tar.len();
        tar.extend_from_slice(&super::super::tar::END);
        let mut grown = tar.clone();
        for word in ["one", "two"] {
            let source = grown.clone();
            let files = TarFiles::new(&source[..]).unwrap();
            let layout = Layout::open(&files, "memory", Form::Archive).unwrap();
            layout.put_document(&artifact(&image, word), None).unwrap();
            let additions = layout.additions().unwrap().unwrap();
            grown.clear();
            append(&source[..], &files, &additions, &mut grown).unwrap();
        }
        assert_eq!(grown[..kept], tar[..kept]);
        let files = TarFiles::new(&grown[..]).unwrap();
        assert_eq!(Layout::open(&files, "memory", Form::Archive).unwrap().referrers(&image.digest).unwrap().len(), 2);
        assert_eq!(archive::read(&files).unwrap().len(), 1);
    }
}
