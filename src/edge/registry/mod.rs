//! Registries: images and what is said of them, read and written over the network (OCI distribution-spec 1.1).

mod blobs;
mod challenge;
mod credentials;
mod http;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::edge::http::{Cause, FetchOptions};
use crate::image::canonical;
use crate::image::oci::{self, Descriptor, Document, INDEX, MANIFEST};
use crate::image::repository::{MOST_REFERRERS, Repository, RepositoryError, WritableRepository};
use crate::model::digest::BlobDigest;
use crate::model::name::Tag;
use crate::model::problem::shown;
use crate::model::reference::{Pick, RegistryHost, RepositoryName};

pub use blobs::{Given, Sent, Wanted};
use http::{Ask, Payload, Trouble, Wire, following};

/// Documents that are kept in memory, so that none is asked for twice.
const KEPT: usize = 256;

/// How often a list of referrers is written anew because somebody else wrote it at the same time.
const RACES: usize = 3;

/// Tags of a repository that are looked at; one that lists more is refused.
const MOST_TAGS: usize = 10_000;

/// How registries are reached.
#[derive(Clone)]
pub struct RegistryOptions {
    pub network: FetchOptions,
    /// Speaks without encryption to registries of other machines, too.
    pub plain_http: bool,
    /// Files that `docker login` and `podman login` write, the most wanted first.
    pub credentials: Vec<PathBuf>,
    /// Certificate authorities in PEM, beside those of the system.
    pub authorities: Vec<PathBuf>,
    /// Folders in which each registry has a folder with certificates: `HOST:PORT/*.crt`.
    pub certificates: Vec<PathBuf>,
    /// Hosts to which a password may be sent for a token though they are not of the registry's domain.
    pub token_hosts: Vec<String>,
}

impl RegistryOptions {
    /// Returns the certificate files for a registry.
    fn authorities(&self, registry: &RegistryHost) -> Vec<PathBuf> {
        let mut found = self.authorities.clone();
        for folder in &self.certificates {
            let Ok(entries) = std::fs::read_dir(folder.join(registry.to_string())) else { continue };
            let paths = entries.flatten().map(|entry| entry.path());
            found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "crt")));
        }
        found
    }
}

/// What somebody wants to do in a repository; decides what tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A repository of a registry.
pub struct Remote {
    name: RepositoryName,
    /// The name in the registry's addresses.
    path: String,
    scope: String,
    wire: Wire,
    documents: Mutex<BTreeMap<BlobDigest, (String, Vec<u8>)>>,
}

impl Remote {
    /// Prepares to speak to a registry; nothing is sent yet.
    pub fn open(name: &RepositoryName, options: &RegistryOptions, access: Access) -> Result<Self, RepositoryError> {
        let wire = Wire::new(name, options).map_err(|error| RepositoryError::Unreachable {
            place: name.to_string(),
            hint: error.hint(),
            source: error.into(),
        })?;
        let path = path_in_registry(name);
        let scope = match access {
            Access::Read => format!("repository:{path}:pull"),
            Access::Write => format!("repository:{path}:pull,push"),
        };
        Ok(Self { name: name.clone(), path, scope, wire, documents: Mutex::default() })
    }

    /// Returns the repository's name.
    #[must_use]
    pub const fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns what a name picks: what its tag stands for now, or what has its digest.
    pub fn find(&self, pick: &Pick) -> Result<Option<Descriptor>, RepositoryError> {
        match pick {
            Pick::Tag(tag) => self.resolve(tag.as_str()),
            Pick::Digest(digest) => Ok(self.document(digest)?.map(|(media_type, bytes)| Descriptor::of(media_type, &bytes))),
        }
    }

    /// Returns the tags of the repository; none where the registry does not know it.
    pub fn tags(&self) -> Result<Vec<String>, RepositoryError> {
        let damaged =
            |problem: String| RepositoryError::Damaged { place: self.place(), name: "the list of tags".into(), problem };
        let mut found = Vec::new();
        let mut path = Some(format!("{}/tags/list", self.path));
        for _ in 0..MOST_REFERRERS {
            let Some(next) = path.take() else { return Ok(found) };
            let get = async {
                let url = self.wire.url(&next).await?;
                let answer = self.wire.ask(Ask { accept: "application/json", ..Ask::new("GET", &url, &self.scope) }).await?;
                match answer.status().as_u16() {
                    200 => {}
                    404 => return Ok(None),
                    _ => return Err(self.wire.said(answer).await),
                }
                let link = answer.headers().get("link").and_then(|value| value.to_str().ok()).and_then(next_page);
                let link = link.map(|link| following(&url, link)).transpose()?;
                Ok(Some((link, self.wire.body(answer, canonical::LIMIT as u64).await?)))
            };
            let page = self.wire.wait(get).map_err(|trouble| self.explain(trouble, "the list of tags"))?;
            let Some((link, bytes)) = page else { return Ok(found) };
            let page = canonical::read(&bytes).map_err(|error| damaged(format!("cannot be read: {error}")))?;
            // A registry without tags says `null`.
            let tags = page.get("tags").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            found.extend(tags.iter().filter_map(Value::as_str).map(str::to_owned));
            if found.len() > MOST_TAGS {
                return Err(damaged(format!("has more than {MOST_TAGS} tags")));
            }
            path = link;
        }
        Err(damaged("has no end".into()))
    }

    /// Stores a document as it stands under its digest or, where one is given, under a tag. Tells whether the registry took
    /// notice of its subject.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8], tag: Option<&Tag>) -> Result<bool, RepositoryError> {
        let digest = BlobDigest::of(bytes);
        let called = tag.map_or_else(|| digest.to_string(), Tag::to_string);
        let put = async {
            let url = self.wire.url(&format!("{}/manifests/{called}", self.path)).await?;
            let payload = Payload::Bytes { media_type, bytes };
            let answer = self.wire.ask(Ask { payload, ..Ask::new("PUT", &url, &self.scope) }).await?;
            if !matches!(answer.status().as_u16(), 200 | 201) {
                return Err(self.wire.said(answer).await);
            }
            let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
            if let Some(stored) = header(CONTENT_DIGEST).filter(|stored| *stored != digest.to_string()) {
                return Err(Trouble::Rule(format!("stored `{digest}` under another digest, `{}`", shown(&stored))));
            }
            Ok(header(SUBJECT).is_some())
        };
        let noticed = self.wire.wait(put).map_err(|trouble| self.explain(trouble, &called))?;
        self.keep(digest, media_type, bytes);
        Ok(noticed)
    }

    fn keep(&self, digest: BlobDigest, media_type: &str, bytes: &[u8]) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        if documents.len() < KEPT {
            documents.insert(digest, (media_type.to_owned(), bytes.to_vec()));
        }
    }

    /// Asks for a document by tag or digest.
    fn get(&self, called: &str, expected: Option<&BlobDigest>) -> Result<Option<(Descriptor, Vec<u8>)>, RepositoryError> {
        let damaged = |problem: String| RepositoryError::Damaged { place: self.place(), name: called.to_owned(), problem };
        let accept = ACCEPTED.join(", ");
        let get = async {
            let url = self.wire.url(&format!("{}/manifests/{called}", self.path)).await?;
            let answer = self.wire.ask(Ask { accept: &accept, ..Ask::new("GET", &url, &self.scope) }).await?;
            if answer.status().as_u16() == 404 {
                return Ok(None);
            }
            if answer.status().as_u16() != 200 {
                return Err(self.wire.said(answer).await);
            }
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let (kind, promised) = (header("content-type").unwrap_or_default(), header(CONTENT_DIGEST));
            Ok(Some((kind, promised, self.wire.body(answer, canonical::LIMIT as u64).await?)))
        };
        let Some((kind, promised, bytes)) = self.wire.wait(get).map_err(|trouble| self.explain(trouble, called))? else {
            return Ok(None);
        };
        let digest = BlobDigest::of(&bytes);
        match expected {
            Some(expected) if *expected != digest => return Err(damaged(format!("has other bytes: their digest is `{digest}`"))),
            None if promised.as_ref().is_some_and(|promised| *promised != digest.to_string()) => {
                let promised = shown(&promised.unwrap_or_default());
                return Err(damaged(format!("was promised as `{promised}`, and its bytes are `{digest}`")));
            }
            _ => {}
        }
        let media_type = media_type(&kind, &bytes).map_err(damaged)?;
        self.keep(digest, &media_type, &bytes);
        Ok(Some((Descriptor::new(media_type, digest, bytes.len() as u64), bytes)))
    }

    /// Returns what the registry's own list of referrers says; `None` where it keeps none.
    fn listed(&self, subject: &BlobDigest) -> Result<Option<Vec<Descriptor>>, RepositoryError> {
        let name = format!("the referrers of {subject}");
        let damaged = |problem: String| RepositoryError::Damaged { place: self.place(), name: name.clone(), problem };
        let mut found: Vec<Descriptor> = Vec::new();
        let mut path = Some(format!("{}/referrers/{subject}", self.path));
        // An empty page would be one more to ask for, without end.
        for _ in 0..MOST_REFERRERS {
            let Some(next) = path.take() else { break };
            let get = async {
                let url = self.wire.url(&next).await?;
                let answer = self.wire.ask(Ask { accept: INDEX, ..Ask::new("GET", &url, &self.scope) }).await?;
                let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
                // Registries without it answer in several ways; what is no index is none of it.
                let is_index = header("content-type").is_some_and(|kind| kind.starts_with(INDEX));
                match answer.status().as_u16() {
                    200 if is_index => {}
                    200 | 400 | 404 | 405 | 501 => return Ok(None),
                    _ => return Err(self.wire.said(answer).await),
                }
                let link = header("link").and_then(next_page);
                let link = link.map(|link| following(&url, link)).transpose()?;
                Ok(Some((link, self.wire.body(answer, canonical::LIMIT as u64).await?)))
            };
            let Some((link, bytes)) = self.wire.wait(get).map_err(|trouble| self.explain(trouble, &name))? else {
                return Ok(None);
            };
            let page = oci::parse_index(&bytes).map_err(|error| damaged(format!("cannot be read: {error}")))?;
            found.extend(page.manifests);
            self.count(found.len(), &name)?;
            path = link;
        }
        Ok(Some(found))
    }

    /// Returns what stands under the tag that takes the place of a list of referrers (distribution-spec, "referrers tag schema").
    fn tagged(&self, subject: &BlobDigest) -> Result<Option<Vec<u8>>, RepositoryError> {
        let tag = fallback_tag(subject);
        let Some((descriptor, bytes)) = self.get(&tag, None)? else { return Ok(None) };
        if descriptor.media_type != INDEX {
            let problem = format!("is `{}` where an index was expected", shown(&descriptor.media_type));
            return Err(RepositoryError::Damaged { place: self.place(), name: tag, problem });
        }
        Ok(Some(bytes))
    }

    fn read_tagged(&self, subject: &BlobDigest) -> Result<Vec<Descriptor>, RepositoryError> {
        let Some(bytes) = self.tagged(subject)? else { return Ok(Vec::new()) };
        let index = oci::parse_index(&bytes).map_err(|error| RepositoryError::Damaged {
            place: self.place(),
            name: fallback_tag(subject),
            problem: format!("cannot be read: {error}"),
        })?;
        Ok(index.manifests)
    }

    fn count(&self, found: usize, name: &str) -> Result<(), RepositoryError> {
        if found <= MOST_REFERRERS {
            return Ok(());
        }
        let problem = format!("are more than {MOST_REFERRERS}");
        Err(RepositoryError::Damaged { place: self.place(), name: name.to_owned(), problem })
    }

    /// Adds an artifact to the tag that takes the place of a list of referrers, and keeps whatever others wrote there.
    fn append(&self, subject: &BlobDigest, entry: &Value, digest: &BlobDigest) -> Result<(), RepositoryError> {
        let tag = fallback_tag(subject);
        let damaged = |problem: String| RepositoryError::Damaged { place: self.place(), name: tag.clone(), problem };
        let name = tag.parse::<Tag>().map_err(|error| damaged(error.to_string()))?;
        for _ in 0..RACES {
            // The document as it stands: members that parvis does not know are those of others.
            let mut index = match self.tagged(subject)? {
                Some(bytes) => canonical::read(&bytes).map_err(|error| damaged(format!("cannot be read: {error}")))?,
                None => json!({"manifests": [], "mediaType": INDEX, "schemaVersion": 2}),
            };
            let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
            let manifests = manifests.ok_or_else(|| damaged("has no list `manifests`".into()))?;
            let ours = digest.to_string();
            if manifests.iter().any(|known| known.get("digest").and_then(Value::as_str) == Some(&ours)) {
                return Ok(());
            }
            manifests.push(entry.clone());
            self.count(manifests.len(), &tag)?;
            let bytes = canonical::to_bytes(&index).map_err(|error| damaged(format!("cannot be extended: {error}")))?;
            oci::parse_index(&bytes).map_err(|error| damaged(format!("cannot be extended: {error}")))?;
            self.put_manifest(INDEX, &bytes, Some(&name))?;
            // Two who write at once overwrite each other: whoever is missing afterwards writes again.
        }
        if self.read_tagged(subject)?.iter().any(|known| known.digest == *digest) {
            return Ok(());
        }
        Err(RepositoryError::Refused {
            place: self.place(),
            words: format!("`{tag}` was written by others each time, or is not kept"),
            hint: Some("run the same command again".into()),
        })
    }

    /// Says how to be somebody whom the registry knows.
    fn login(&self) -> String {
        let host = self.name.registry();
        let login = format!("log in with `docker login {host}` or `podman login {host}`");
        if self.wire.is_logged_in() { format!("the password that was kept is not taken: {login}") } else { login }
    }

    /// Says what became of a request for something.
    fn explain(&self, trouble: Trouble, name: &str) -> RepositoryError {
        let place = self.place();
        let host = self.name.registry();
        match trouble {
            Trouble::Cause(cause @ (Cause::Size { .. } | Cause::Digest { .. } | Cause::TooLarge(_))) => {
                RepositoryError::Damaged { place, name: name.to_owned(), problem: format!("is not what was promised: {cause}") }
            }
            Trouble::Said { code: 408 | 429 | 500..=599, .. } => {
                let hint = "the registry has troubles of its own: run the same command again later, it goes on from here";
                RepositoryError::Unreachable { place, source: trouble.into(), hint: Some(hint.into()) }
            }
            Trouble::Said { code, .. } => {
                let hint = match code {
                    401 => Some(self.login()),
                    403 => {
                        Some(format!("ask whoever runs `{host}` for the right to this repository, or log in as somebody else"))
                    }
                    413 => Some("ask whoever runs the registry, or the proxy before it, to let larger files pass".into()),
                    _ => None,
                };
                RepositoryError::Refused { place, words: trouble.to_string(), hint }
            }
            Trouble::Token { ref realm, ref source } => match (source.status(), &**source) {
                (Some(400..=407 | 409..=428), _) | (_, Trouble::Rule(_)) => {
                    let words = format!("its token service `{realm}` gives no token: {source}");
                    RepositoryError::Refused { place, words, hint: Some(self.login()) }
                }
                _ => {
                    let words: Box<dyn std::error::Error + Send + Sync> = format!("{trouble}: {source}").into();
                    let hint = "the registry has troubles of its own: run the same command again later";
                    RepositoryError::Unreachable { place, source: words, hint: Some(hint.into()) }
                }
            },
            Trouble::ForeignRealm { host: ref realm } => {
                let hint = format!("if whoever runs the registry says so too, add `--token-host {realm}`");
                RepositoryError::Refused { place, words: trouble.to_string(), hint: Some(hint) }
            }
            Trouble::OpenRealm { .. } => RepositoryError::Refused {
                place,
                words: trouble.to_string(),
                hint: Some("a password would be read by anybody on the way: ask whoever runs the registry".into()),
            },
            Trouble::Rule(_) => RepositoryError::Refused {
                place,
                words: trouble.to_string(),
                hint: Some("it does not keep to the rules of registries: tell whoever runs it".into()),
            },
            Trouble::Source(source) => RepositoryError::Unsendable { place, name: name.to_owned(), source },
            Trouble::Credentials(error) => RepositoryError::Unreachable { place, hint: Some(error.hint()), source: error.into() },
            Trouble::Client(error) => RepositoryError::Unreachable { place, hint: error.hint(), source: error.into() },
            Trouble::Cause(cause) => {
                let hint = hint(&cause, host);
                RepositoryError::Unreachable { place, source: cause.into(), hint }
            }
        }
    }
}

/// What is asked for where a document is wanted.
const ACCEPTED: [&str; 4] = [
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Headers of the distribution-spec.
const CONTENT_DIGEST: &str = "docker-content-digest";
const SUBJECT: &str = "oci-subject";

/// Returns the path of a repository in addresses: Docker Hub's own images have a folder that nobody writes.
fn path_in_registry(name: &RepositoryName) -> String {
    let hub = matches!(&*name.registry().to_string(), "docker.io" | "index.docker.io" | "registry-1.docker.io");
    if hub && !name.path().contains('/') { format!("library/{}", name.path()) } else { name.path().to_owned() }
}

fn fallback_tag(subject: &BlobDigest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Returns the next page that a `Link` header names (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
    next.then_some(address)
}

/// Returns the type of a document: what it says itself, else what the registry says. The two may not differ, because then
/// one program would take it for a manifest and another for an index (CVE-2021-41190).
fn media_type(served: &str, bytes: &[u8]) -> Result<String, String> {
    let served = served.split(';').next().unwrap_or_default().trim();
    let document = canonical::read(bytes).map_err(|error| format!("cannot be read: {error}"))?;
    let own = document.get("mediaType").and_then(Value::as_str);
    match own {
        Some(own) if ACCEPTED.contains(&served) && served != own => {
            Err(format!("is served as `{served}`, and says that it is `{}`", shown(own)))
        }
        Some(own) => Ok(own.to_owned()),
        None if ACCEPTED.contains(&served) => Ok(served.to_owned()),
        None => Err(format!("is served as `{}`, which is no image", shown(served))),
    }
}

/// Says what a person can do where a registry cannot be reached.
fn hint(cause: &Cause, host: &RegistryHost) -> Option<String> {
    Some(match cause {
        Cause::Tls(text) if text.contains("xpired") || text.contains("NotValidYet") => {
            "check this machine's clock; if it is right, the registry's certificate has to be renewed".into()
        }
        Cause::Tls(text) if text.contains("UnknownIssuer") => {
            format!(
                "put the certificate of its authority into `/etc/docker/certs.d/{host}/ca.crt`, or name it with `--registry-ca`"
            )
        }
        Cause::Tls(text) if text.contains("certificate") => {
            "the address may lead to another server: check it and the proxy".into()
        }
        Cause::Tls(_) => "if the registry is in your own network and has no certificate, add `--plain-http`".into(),
        Cause::ProxyRefused => "put user and password into the proxy's URL: `http://user:password@proxy:port`".into(),
        Cause::Downgrade => "the registry sends away from https: tell whoever runs it".into(),
        Cause::Resolve(_) | Cause::Connect(_) => "check the name, the network and the proxy settings".into(),
        Cause::Stalled(_) | Cause::Slow { .. } | Cause::Closed { .. } | Cause::Anew => {
            "run the same command again: it goes on from here".into()
        }
        _ => return None,
    })
}

impl Repository for Remote {
    fn place(&self) -> String {
        self.name.to_string()
    }

    fn resolve(&self, tag: &str) -> Result<Option<Descriptor>, RepositoryError> {
        let tag = tag.parse::<Tag>().map_err(|error| RepositoryError::Refused {
            place: self.place(),
            words: error.to_string(),
            hint: Some(Tag::RULE.into()),
        })?;
        Ok(self.get(tag.as_str(), None)?.map(|(descriptor, _)| descriptor))
    }

    fn document(&self, digest: &BlobDigest) -> Result<Option<(String, Vec<u8>)>, RepositoryError> {
        let known = self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if known.is_some() {
            return Ok(known);
        }
        Ok(self.get(&digest.to_string(), Some(digest))?.map(|(descriptor, bytes)| (descriptor.media_type, bytes)))
    }

    fn blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Box<dyn Read + '_>>, RepositoryError> {
        let reader = blobs::Reader::open(self, digest, size).map_err(|trouble| self.explain(trouble, &digest.to_string()))?;
        Ok(reader.map(|reader| Box::new(reader) as Box<dyn Read>))
    }

    fn referrers(&self, subject: &BlobDigest) -> Result<Vec<Descriptor>, RepositoryError> {
        // What was written before a registry had a list of its own, or by somebody who did not trust it, stands under the tag.
        let mut found = self.listed(subject)?.unwrap_or_default();
        found.extend(self.read_tagged(subject)?);
        found.sort_by_key(|descriptor| descriptor.digest);
        found.dedup_by_key(|descriptor| descriptor.digest);
        self.count(found.len(), &format!("the referrers of {subject}"))?;
        Ok(found)
    }
}

impl WritableRepository for Remote {
    fn put_blob(&self, content: &[u8]) -> Result<(), RepositoryError> {
        let bytes = content.to_vec();
        let open = || Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
        let digest = BlobDigest::of(content);
        self.send(&digest, content.len() as u64, &[], &open, &|_| ()).map(drop)
    }

    fn put_document(&self, document: &Document, tag: Option<&str>) -> Result<(), RepositoryError> {
        let tag = tag.map(|tag| {
            tag.parse::<Tag>().map_err(|error| RepositoryError::Refused {
                place: self.place(),
                words: error.to_string(),
                hint: Some(Tag::RULE.into()),
            })
        });
        let noticed = self.put_manifest(document.media_type, &document.bytes, tag.transpose()?.as_ref())?;
        if document.media_type != MANIFEST {
            return Ok(());
        }
        let damaged =
            |problem: String| RepositoryError::Damaged { place: self.place(), name: document.digest.to_string(), problem };
        let artifact = oci::parse_artifact(&document.bytes).map_err(|error| damaged(error.to_string()))?;
        let Some(subject) = &artifact.subject else { return Ok(()) };
        let is_listed = |list: &[Descriptor]| list.iter().any(|known| known.digest == document.digest);
        // A registry that says so and does not list it would hide what was said of the image.
        if noticed && self.listed(&subject.digest)?.is_some_and(|list| is_listed(&list)) {
            return Ok(());
        }
        let mut entry = json!({
            "artifactType": artifact.artifact_type,
            "digest": document.digest.to_string(),
            "mediaType": document.media_type,
            "size": document.bytes.len(),
        });
        if !artifact.annotations.is_empty() {
            entry["annotations"] = json!(artifact.annotations);
        }
        self.append(&subject.digest, &entry, &document.digest)
    }
}
