//! A registry on loopback (OCI distribution-spec 1.1) that keeps everything in memory, and breaks the rules it is asked to break.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use parvis::edge::fetch::FetchOptions;
use parvis::edge::registry::RegistryOptions;
use parvis::model::digest::BlobDigest;
use serde_json::{Value, json};

use super::badhttp::{Request, read_request};

/// What the registry does with one request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Keeps to the rules.
    Honest,
    /// Answers with this status, these headers (each ended by a line break) and this body.
    Answer(u16, String, Vec<u8>),
    /// Does what is asked, and leaves this header out of the answer.
    Without(&'static str),
    /// Does what is asked, and sends these bytes in place of the body, with a length that fits.
    Body(Vec<u8>),
    /// Does what is asked, and closes the connection after this many bytes of the body.
    Truncate(usize),
    /// Does what is asked, and says nothing for ever.
    Silence,
    /// Closes the connection before it did anything.
    Close,
}

impl Act {
    /// A refusal as registries write it.
    pub fn refuse(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::Answer(status, "Content-Type: application/json\r\n".into(), body.into_bytes())
    }
}

type Script = dyn Fn(&Request) -> Act + Send + Sync;

/// How the registry is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Keeps lists of referrers.
    pub referrers: bool,
    /// Wants a token, for which this user and password are needed; with `basic` it wants them itself.
    pub password: Option<(&'static str, &'static str)>,
    pub basic: bool,
    /// Where tokens are to be had, in place of the registry's own address.
    pub realm: Option<String>,
    /// Mounts nothing: answers 202 to everybody.
    pub no_mount: bool,
    /// Tags that exist stay as they are.
    pub immutable: bool,
}

/// What a registry holds.
#[derive(Debug, Default)]
pub struct Kept {
    /// By repository and digest.
    pub blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and digest: media type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// By repository and tag.
    pub tags: BTreeMap<(String, String), String>,
    uploads: u64,
}

/// A running registry; it ends when it is dropped.
pub struct Registry {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    setup: Setup,
    port: u16,
    script: Box<Script>,
    kept: Mutex<Kept>,
    requests: Mutex<Vec<Request>>,
    ended: AtomicBool,
}

impl Registry {
    /// Starts a registry that keeps to the rules.
    pub fn honest() -> Self {
        Self::start(Setup { referrers: true, ..Setup::default() }, |_| Act::Honest)
    }

    /// Starts a registry, asking the script what to do with each request.
    pub fn start(setup: Setup, script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            setup,
            port,
            script: Box::new(script),
            kept: Mutex::default(),
            requests: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                if let Ok(stream) = stream {
                    // A client that goes away in the middle is no fault of the registry.
                    thread::spawn(move || shared.converse(stream).unwrap_or(()));
                }
            }
        });
        Self { port, shared }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Looks at, or changes, what the registry holds.
    pub fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.shared.kept.lock().unwrap())
    }

    /// Returns what was asked so far, without the question whether there is a registry.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().iter().filter(|request| request.path != "/v2/").cloned().collect()
    }

    /// Returns what was asked so far as lines: method and path.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Forgets what was asked so far.
    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Puts a blob there.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        self.kept(|kept| kept.blobs.insert((repository.into(), digest.to_string()), bytes.to_vec()));
        digest
    }

    /// Puts a document there, perhaps under a tag.
    pub fn put_manifest(&self, repository: &str, media_type: &str, bytes: &[u8], tag: Option<&str>) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        self.kept(|kept| {
            kept.manifests.insert((repository.into(), digest.to_string()), (media_type.into(), bytes.to_vec()));
            if let Some(tag) = tag {
                kept.tags.insert((repository.into(), tag.into()), digest.to_string());
            }
        });
        digest
    }

    /// Returns the digest that a tag stands for.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.kept(|kept| kept.tags.get(&(repository.into(), tag.into())).cloned())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: Vec::new() }
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    reply(status)
        .with("Content-Type", "application/json")
        .body(json!({"errors": [{"code": code, "message": message}]}).to_string().into_bytes())
}

impl Reply {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

impl Shared {
    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(mut request) = read_request(&mut reader)? {
            if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&&*request.method) {
                // TLS, for one.
                return Ok(());
            }
            {
                let mut requests = self.requests.lock().unwrap();
                request.earlier = requests.iter().filter(|known| known.path == request.path).count();
                requests.push(request.clone());
            }
            let act = if request.path == "/v2/" { Act::Honest } else { (self.script)(&request) };
            if matches!(act, Act::Close) {
                return Ok(());
            }
            let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let mut answer = match &act {
                Act::Answer(status, headers, body) => {
                    write!(writer, "HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
                    if request.method != "HEAD" {
                        writer.write_all(body)?;
                    }
                    continue;
                }
                _ => self.answer(&request, &body),
            };
            if let Act::Silence = act {
                while !self.ended.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(50));
                }
                return Ok(());
            }
            if let Act::Without(name) = act {
                answer.headers.retain(|(known, _)| *known != name);
            }
            if let Act::Body(bytes) = &act {
                answer.body.clone_from(bytes);
            }
            write!(writer, "HTTP/1.1 {} Honest\r\nContent-Length: {}\r\n", answer.status, answer.body.len())?;
            for (name, value) in &answer.headers {
                write!(writer, "{name}: {value}\r\n")?;
            }
            writer.write_all(b"\r\n")?;
            if request.method != "HEAD" {
                let end = if let Act::Truncate(bytes) = act { bytes.min(answer.body.len()) } else { answer.body.len() };
                writer.write_all(&answer.body[..end])?;
                if matches!(act, Act::Truncate(_)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, body: &[u8]) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let field = |name: &str| {
            let fields = query.split('&').filter_map(|field| field.split_once('='));
            fields.clone().find(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":").replace("%2F", "/"))
        };
        if path == "/token" {
            return self.token(request, body);
        }
        if let Some(refused) = self.unauthorized(request) {
            return refused;
        }
        if path == "/v2/" {
            return reply(200);
        }
        let mut kept = self.kept.lock().unwrap();
        let Some(path) = path.strip_prefix("/v2/") else { return refusal(404, "NOT_FOUND", "page not found") };
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return tags(&kept, repository, &field);
        }
        for (kind, at) in ["/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"].map(|kind| (kind, path.find(kind))) {
            let Some(at) = at else { continue };
            let (repository, name) = (path[..at].to_owned(), path[at + kind.len()..].to_owned());
            return match kind {
                "/blobs/uploads/" => self.upload(&mut kept, request, repository, &name, body, &field),
                "/blobs/" => blob(&kept, request, (repository, name)),
                "/manifests/" => self.manifest(&mut kept, request, repository, name, body),
                _ if self.setup.referrers => referrers(&kept, &repository, &name),
                _ => reply(404).body(b"404 page not found\n".to_vec()),
            };
        }
        refusal(404, "NOT_FOUND", "page not found")
    }

    fn token(&self, request: &Request, body: &[u8]) -> Reply {
        let authorized = match self.setup.password {
            Some((user, password)) => {
                let basic = request.header("authorization") == Some(&format!("Basic {}", base64(&format!("{user}:{password}"))));
                basic || String::from_utf8_lossy(body).contains(&format!("refresh_token={password}"))
            }
            None => true,
        };
        if !authorized {
            return refusal(401, "UNAUTHORIZED", "incorrect username or password");
        }
        reply(200)
            .with("Content-Type", "application/json")
            .body(json!({"token": "a.token", "expires_in": 300}).to_string().into_bytes())
    }

    fn unauthorized(&self, request: &Request) -> Option<Reply> {
        let (user, password) = self.setup.password?;
        let header = request.header("authorization").unwrap_or_default();
        let challenge = if self.setup.basic {
            if header == format!("Basic {}", base64(&format!("{user}:{password}"))) {
                return None;
            }
            "Basic realm=\"a registry\"".to_owned()
        } else {
            if header == "Bearer a.token" {
                return None;
            }
            let realm = self.setup.realm.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}/token", self.port));
            format!("Bearer realm=\"{realm}\",service=\"a registry\",scope=\"repository:x:pull\"")
        };
        Some(refusal(401, "UNAUTHORIZED", "authentication required").with("WWW-Authenticate", challenge))
    }

    fn upload(
        &self,
        kept: &mut Kept,
        request: &Request,
        repository: String,
        _session: &str,
        body: &[u8],
        field: &dyn Fn(&str) -> Option<String>,
    ) -> Reply {
        match &*request.method {
            "POST" => {
                if let (Some(digest), Some(from), false) = (field("mount"), field("from"), self.setup.no_mount)
                    && let Some(content) = kept.blobs.get(&(from, digest.clone())).cloned()
                {
                    kept.blobs.insert((repository.clone(), digest.clone()), content);
                    return reply(201)
                        .with("Location", format!("/v2/{repository}/blobs/{digest}"))
                        .with("Docker-Content-Digest", digest);
                }
                kept.uploads += 1;
                reply(202).with("Location", format!("/v2/{repository}/blobs/uploads/{}?state=x", kept.uploads))
            }
            "PUT" => {
                let digest = BlobDigest::of(body).to_string();
                if field("digest").as_deref() != Some(&digest) {
                    return refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
                }
                kept.blobs.insert((repository.clone(), digest.clone()), body.to_vec());
                reply(201).with("Location", format!("/v2/{repository}/blobs/{digest}")).with("Docker-Content-Digest", digest)
            }
            _ => refusal(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    fn manifest(&self, kept: &mut Kept, request: &Request, repository: String, name: String, body: &[u8]) -> Reply {
        if request.method == "PUT" {
            let digest = BlobDigest::of(body).to_string();
            let is_tag = !name.starts_with("sha256:");
            if is_tag
                && self.setup.immutable
                && kept.tags.get(&(repository.clone(), name.clone())).is_some_and(|old| *old != digest)
            {
                return refusal(409, "TAG_IMMUTABLE", "the tag 1.4.0 is immutable");
            }
            let document: Value = serde_json::from_slice(body).unwrap();
            let blobs = [&document["config"]].into_iter().chain(document["layers"].as_array().into_iter().flatten());
            let there = |kept: &Kept, kind: &Value| {
                kept.blobs.contains_key(&(repository.clone(), kind["digest"].as_str().unwrap_or_default().to_owned()))
            };
            if document.get("config").is_some() && !blobs.clone().all(|blob| there(kept, blob)) {
                return refusal(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
            }
            // The list under a tag names what others keep, which need not be there.
            let manifests = document["manifests"].as_array().into_iter().flatten();
            let known = |manifest: &Value| {
                kept.manifests.contains_key(&(repository.clone(), manifest["digest"].as_str().unwrap_or_default().to_owned()))
            };
            if !manifests.clone().all(known) {
                return refusal(400, "MANIFEST_UNKNOWN", "manifest unknown to registry");
            }
            let kind = request.header("content-type").unwrap_or_default().to_owned();
            kept.manifests.insert((repository.clone(), digest.clone()), (kind, body.to_vec()));
            if is_tag {
                kept.tags.insert((repository.clone(), name.clone()), digest.clone());
            }
            let answer =
                reply(201).with("Location", format!("/v2/{repository}/manifests/{digest}")).with("Docker-Content-Digest", digest);
            return match document["subject"]["digest"].as_str() {
                Some(subject) if self.setup.referrers => answer.with("OCI-Subject", subject),
                _ => answer,
            };
        }
        let digest = if name.starts_with("sha256:") { Some(name) } else { kept.tags.get(&(repository.clone(), name)).cloned() };
        match digest.and_then(|digest| Some((digest.clone(), kept.manifests.get(&(repository, digest))?))) {
            Some((digest, (kind, bytes))) => {
                reply(200).with("Content-Type", kind).with("Docker-Content-Digest", digest).body(bytes.clone())
            }
            None => refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }
}

fn blob(kept: &Kept, request: &Request, place: (String, String)) -> Reply {
    let Some(bytes) = kept.blobs.get(&place) else { return refusal(404, "BLOB_UNKNOWN", "blob unknown to registry") };
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match range {
        Some(start) if start < bytes.len() => reply(206)
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(bytes[start..].to_vec()),
        Some(_) => reply(416),
        None => reply(200).with("Content-Type", "application/octet-stream").body(bytes.clone()),
    }
}

/// Lists tags, two on each page where nobody wants more at once.
fn tags(kept: &Kept, repository: &str, field: &dyn Fn(&str) -> Option<String>) -> Reply {
    let all: Vec<&String> = kept.tags.keys().filter(|(place, _)| place == repository).map(|(_, tag)| tag).collect();
    if all.is_empty() {
        return refusal(404, "NAME_UNKNOWN", "repository name not known to registry");
    }
    let last = field("last").unwrap_or_default();
    let page: Vec<&String> = all.into_iter().filter(|tag| **tag > last).take(2).collect();
    let body = json!({"name": repository, "tags": page}).to_string().into_bytes();
    let answer = reply(200).with("Content-Type", "application/json").body(body);
    match page.get(1) {
        Some(next) => answer.with("Link", format!("</v2/{repository}/tags/list?last={next}&n=2>; rel=\"next\"")),
        None => answer,
    }
}

fn referrers(kept: &Kept, repository: &str, subject: &str) -> Reply {
    let of = kept.manifests.iter().filter(|((place, _), (_, bytes))| {
        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
        place == repository && document["subject"]["digest"] == subject
    });
    let listed: Vec<Value> = of
        .map(|((_, digest), (kind, bytes))| {
            let document: Value = serde_json::from_slice(bytes).unwrap();
            json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "artifactType": document["artifactType"]})
        })
        .collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    reply(200)
        .with("Content-Type", kind)
        .body(json!({"schemaVersion": 2, "mediaType": kind, "manifests": listed}).to_string().into_bytes())
}

/// Returns text as base64, as it stands in an `Authorization` header.
pub fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Returns how a registry of a test is reached: by nobody in particular, with nothing special.
pub fn registry_options() -> RegistryOptions {
    RegistryOptions {
        network: FetchOptions::default(),
        plain_http: false,
        credentials: Vec::new(),
        authorities: Vec::new(),
        certificates: Vec::new(),
        token_hosts: Vec::new(),
    }
}
