//! Asking a registry: tokens, attempts, redirects, and bytes that go out without being held in memory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use super::RegistryOptions;
use super::challenge::{self, Challenge};
use super::credentials::{self, CredentialError, Credentials};
use crate::edge::http::part::Sink;
use crate::edge::http::transfer::{self, Promise};
use crate::edge::http::{self, Cause, ClientError, Proxies, Redirects, pause};
use crate::image::canonical;
use crate::model::problem::shown;
use crate::model::reference::{RegistryHost, RepositoryName};

const REDIRECTS: usize = 10;

/// Bytes of what a registry says went wrong.
const WORDS: u64 = 16 << 10;

/// Bytes of a token service's answer.
const TOKEN: u64 = 1 << 20;

/// Bytes that are read at once of what is sent.
const PIECE: usize = 128 << 10;

/// What a registry answers.
pub(super) type Answer = Response;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Cause(#[from] Cause),
    /// The registry's own words.
    #[error("it says {code} {reason}{words}")]
    Said { code: u16, reason: &'static str, words: String, retry_after: Option<Duration> },
    #[error("its token service `{realm}` does not give a token")]
    Token {
        realm: String,
        #[source]
        source: Box<Trouble>,
    },
    #[error("it wants the password sent to `{host}`, which is not of its domain")]
    ForeignRealm { host: String },
    #[error("it wants the password sent to `{realm}` without encryption")]
    OpenRealm { realm: String },
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("what is sent cannot be read")]
    Source(#[source] io::Error),
    /// The registry breaks the rules (OCI distribution-spec 1.1).
    #[error("it {0}")]
    Rule(String),
}

impl Trouble {
    /// Returns how often something is tried that fails like this.
    pub(super) fn tries(&self) -> u32 {
        match self {
            Self::Cause(cause) => cause.tries(),
            Self::Said { code: 408 | 429 | 500..=599, .. } => http::TRIES,
            _ => 1,
        }
    }

    /// Returns the status that the registry answered with.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Said { code, .. } | Self::Cause(Cause::Status { code, .. }) => Some(*code),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Said { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What goes out with a request.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Nothing,
    Bytes { media_type: &'a str, bytes: &'a [u8] },
    Stream { size: u64, open: &'a Open<'a>, sent: &'a Arc<AtomicU64> },
}

/// Opens what is sent; once for each attempt.
pub(super) type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a Url,
    /// What the token must be good for.
    pub(super) scope: &'a str,
    pub(super) accept: &'a str,
    pub(super) range: Option<&'a str>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: &'static str, url: &'a Url, scope: &'a str) -> Self {
        Self { method, url, scope, accept: "*/*", range: None, payload: Payload::Nothing }
    }
}

/// A connection to one registry, for several threads. The network is driven by a thread of its own.
pub(super) struct Wire {
    options: RegistryOptions,
    registry: RegistryHost,
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
    /// Dropped to end the thread that drives the network.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    base: OnceLock<Url>,
    repository: RepositoryName,
    credentials: OnceLock<Option<Credentials>>,
    challenge: Mutex<Option<Challenge>>,
    /// One thread at a time asks for a token; the others use it.
    asking: tokio::sync::Mutex<()>,
    tokens: Mutex<BTreeMap<String, Token>>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Wire {
    pub(super) fn new(repository: &RepositoryName, options: &RegistryOptions) -> Result<Self, ClientError> {
        let network = |error: io::Error| ClientError::Network { what: error.to_string() };
        let registry = api_host(repository.registry());
        let authorities = options.authorities(repository.registry());
        let mut options = options.clone();
        if registry.is_loopback() {
            // What is meant for this machine, perhaps in the clear, is no proxy's business.
            options.network.proxies = Proxies::default();
        }
        let client = http::client(&options.network, &authorities, Redirects::Show)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(network)?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let handle = runtime.handle().clone();
        let drive = move || {
            // Its end is that the other side is dropped.
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("registry".into()).spawn(drive).map_err(network)?;
        Ok(Self {
            options,
            registry,
            client,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
            base: OnceLock::new(),
            repository: repository.clone(),
            credentials: OnceLock::new(),
            challenge: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
            tokens: Mutex::default(),
        })
    }

    /// Waits for what needs the network.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Returns an address below the registry's `/v2/`. The parts are values that were parsed.
    pub(super) async fn url(&self, path: &str) -> Result<Url, Trouble> {
        let base = self.base().await?;
        base.join(path).map_err(|_| Trouble::Rule(format!("cannot be asked for `{}`", shown(path))))
    }

    /// Returns the address of the API, with which scheme is found out once.
    async fn base(&self) -> Result<Url, Trouble> {
        if let Some(base) = self.base.get() {
            return Ok(base.clone());
        }
        let with = |scheme: &str| {
            let text = format!("{scheme}://{}/v2/", self.registry);
            Url::parse(&text).map_err(|_| Trouble::Rule(format!("has the address `{}`, which is none", shown(&text))))
        };
        let base = if self.options.plain_http {
            with("http")?
        } else if self.registry.is_loopback() {
            // What passes no network needs no encryption, and may have it. This question holds no secret.
            let plain = with("http")?;
            match transfer::send(&self.options.network, self.client.get(plain.clone())).await {
                Ok(answer) if answer.status() != StatusCode::BAD_REQUEST => plain,
                Err(Cause::Connect(why)) => return Err(Cause::Connect(why).into()),
                _ => with("https")?,
            }
        } else {
            with("https")?
        };
        Ok(self.base.get_or_init(|| base).clone())
    }

    /// Asks until there is an answer that is no passing trouble, a few times at most.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        let mut tries = 0;
        loop {
            let trouble = match self.attempt(ask).await {
                Ok(answer) if !passes(answer.status()) => return Ok(answer),
                Ok(answer) => self.said(answer).await,
                Err(trouble) => trouble,
            };
            tries += 1;
            if tries >= trouble.tries() {
                return Err(trouble);
            }
            self.rest(&trouble, tries).await;
        }
    }

    /// Asks once. Whatever the registry answers is returned, but for redirects of what is read, which are followed.
    pub(super) async fn attempt(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        let reads = matches!(ask.method, "GET" | "HEAD");
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.authorized(Ask { url: &url, ..ask }).await?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            if !reads {
                return Err(Trouble::Rule("sends what is written elsewhere".into()));
            }
            url = location(&url, answer.headers())?;
        }
        Err(Cause::RedirectLoop(REDIRECTS).into())
    }

    /// Waits before the next attempt: as long as the registry asks, within bounds.
    pub(super) async fn rest(&self, trouble: &Trouble, tries: u32) {
        let cause = Cause::Status { code: 0, reason: "", retry_after: trouble.retry_after() };
        tokio::time::sleep(pause(&self.options.network, &cause, tries)).await;
    }

    /// Sends a request with what proves who asks, where the registry itself is asked and wants it.
    async fn authorized(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        let base = self.base().await?;
        // No other address ever sees a token or password (CVE-2020-15157).
        if ask.url.origin() != base.origin() {
            return self.once(ask, None).await;
        }
        let header = self.proof(ask.scope, None).await?;
        let answer = self.once(ask, header.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let values = answer.headers().get_all(WWW_AUTHENTICATE);
        let Some(wanted) = challenge::read(values.iter().filter_map(|value| value.to_str().ok())) else { return Ok(answer) };
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
        match self.proof(ask.scope, header.as_ref()).await? {
            Some(renewed) => self.once(ask, Some(renewed)).await,
            None => Ok(answer),
        }
    }

    async fn once(&self, ask: Ask<'_>, header: Option<HeaderValue>) -> Result<Response, Trouble> {
        let method = Method::from_bytes(ask.method.as_bytes()).unwrap_or(Method::GET);
        let mut request = self.client.request(method, ask.url.clone()).header(ACCEPT, ask.accept);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        if let Some(range) = ask.range {
            request = request.header(reqwest::header::RANGE, range);
        }
        let options = &self.options.network;
        match ask.payload {
            Payload::Nothing if matches!(ask.method, "POST" | "PUT") => {
                Ok(transfer::send(options, request.header(CONTENT_LENGTH, 0)).await?)
            }
            Payload::Nothing => Ok(transfer::send(options, request).await?),
            Payload::Bytes { media_type, bytes } => {
                Ok(transfer::send(options, request.header(CONTENT_TYPE, media_type).body(bytes.to_vec())).await?)
            }
            Payload::Stream { size, open, sent } => {
                let source = open().map_err(Trouble::Source)?;
                sent.store(0, Ordering::Relaxed);
                let failure = Arc::new(Mutex::new(None));
                let outgoing = Outgoing { source, sent: Arc::clone(sent), failure: Arc::clone(&failure) };
                let request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, size)
                    .body(reqwest::Body::wrap_stream(outgoing));
                let answer = self.pushed(request, size, sent).await;
                // What was to be sent is to blame rather than the registry, which only sees that nothing comes.
                match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    Some(error) => Err(Trouble::Source(error)),
                    None => answer,
                }
            }
        }
    }

    /// Sends much: as long as something goes out, the answer may take its time.
    async fn pushed(&self, request: reqwest::RequestBuilder, size: u64, sent: &AtomicU64) -> Result<Response, Trouble> {
        let options = &self.options.network;
        let waiting = Instant::now();
        let mut seen = 0;
        let mut answer = Box::pin(request.send());
        loop {
            // When all is sent, the registry still has to hash it and put it in its place.
            let patience = if seen >= size { options.stall.saturating_mul(4) } else { options.stall };
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(answer) => return Ok(answer.map_err(|error| http::explain(&error, seen, options, waiting))?),
                Err(_) if sent.load(Ordering::Relaxed) > seen => seen = sent.load(Ordering::Relaxed),
                Err(_) => return Err(Cause::Stalled(patience.as_secs()).into()),
            }
        }
    }

    /// Returns what proves who asks; nothing where nobody wants to know. What was `refused` is not tried again.
    async fn proof(&self, scope: &str, refused: Option<&HeaderValue>) -> Result<Option<HeaderValue>, Trouble> {
        let wanted = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match wanted {
            None => Ok(None),
            Some(Challenge::Basic) => match self.credentials()? {
                Some(Credentials::Password { user, password }) => {
                    Ok(Some(basic(user, password)?).filter(|header| Some(header) != refused))
                }
                _ => Ok(None),
            },
            Some(Challenge::Bearer { realm, service }) => {
                let _asking = self.asking.lock().await;
                let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned();
                if let Some(token) = known.filter(|token| Some(&token.header) != refused && token.good_until > Instant::now()) {
                    return Ok(Some(token.header));
                }
                let fail = |source: Trouble| match source {
                    Trouble::Cause(_) | Trouble::Said { .. } | Trouble::Rule(_) => {
                        Trouble::Token { realm: http::shown(&realm), source: Box::new(source) }
                    }
                    other => other,
                };
                let token = self.token(&realm, service.as_deref(), scope).await.map_err(fail)?;
                self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.to_owned(), token.clone());
                Ok(Some(token.header))
            }
        }
    }

    /// Whether a password or token of a person was found.
    pub(super) fn is_logged_in(&self) -> bool {
        self.credentials.get().is_some_and(Option::is_some)
    }

    fn credentials(&self) -> Result<Option<&Credentials>, Trouble> {
        if let Some(known) = self.credentials.get() {
            return Ok(known.as_ref());
        }
        let found = credentials::find(&self.options.credentials, &self.repository)?;
        Ok(self.credentials.get_or_init(|| found).as_ref())
    }

    /// Asks a token service.
    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<Token, Trouble> {
        let mut url = Url::parse(realm).map_err(|_| Trouble::Rule("names a token service that is no address".into()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let base = self.base().await?;
        let near = host.parse::<RegistryHost>().is_ok_and(|host| host.is_loopback()) && self.registry.is_loopback();
        let own = self.options.plain_http && url.host_str() == base.host_str();
        if url.scheme() != "https" && !(url.scheme() == "http" && (near || own)) {
            return Err(Trouble::OpenRealm { realm: http::shown(realm) });
        }
        let credentials = self.credentials()?;
        let trusted = challenge::may_give_tokens(&self.registry, &host) || self.options.token_hosts.contains(&host);
        if credentials.is_some() && !trusted {
            return Err(Trouble::ForeignRealm { host: shown(&host) });
        }
        // A user and password in the address would be those of whoever wrote it.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let mut tries = 0;
        loop {
            let trouble = match self.ask_for_token(&url, service, scope, credentials).await {
                Ok(token) => return Ok(token),
                Err(trouble) => trouble,
            };
            tries += 1;
            if tries >= trouble.tries() {
                return Err(trouble);
            }
            self.rest(&trouble, tries).await;
        }
    }

    async fn ask_for_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Token, Trouble> {
        let mut fields: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        // Several scopes are several fields.
        fields.extend(scope.split(' ').map(|scope| ("scope", scope)));
        let request = if let Some(Credentials::Identity(token)) = credentials {
            fields.extend([("grant_type", "refresh_token"), ("client_id", "parvis"), ("refresh_token", token)]);
            // An address writes fields as a form does.
            let mut form = realm.clone();
            form.query_pairs_mut().clear().extend_pairs(fields);
            let form = form.query().unwrap_or_default().to_owned();
            self.client.post(realm.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        } else {
            let mut url = realm.clone();
            url.query_pairs_mut().extend_pairs(fields);
            let request = self.client.get(url);
            match credentials {
                Some(Credentials::Password { user, password }) => request.header(AUTHORIZATION, basic(user, password)?),
                _ => request,
            }
        };
        let asked = Instant::now();
        let answer = transfer::send(&self.options.network, request).await?;
        if !answer.status().is_success() {
            return Err(self.said(answer).await);
        }
        let bytes = self.body(answer, TOKEN).await?;
        let rule = || Trouble::Rule("answers with something else than a token".into());
        let object = canonical::read(&bytes).map_err(|_| rule())?;
        let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = text("token").or_else(|| text("access_token")).ok_or_else(rule)?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| rule())?;
        header.set_sensitive(true);
        // 60 seconds where nothing is said (Docker's token specification); a little less, for the way.
        let seconds = object.get("expires_in").and_then(Value::as_u64).unwrap_or(60).clamp(10, 24 * 3600);
        Ok(Token { header, good_until: asked + Duration::from_secs(seconds - seconds.div_ceil(10)) })
    }

    /// Turns an answer that is a refusal into the registry's own words.
    pub(super) async fn said(&self, answer: Response) -> Trouble {
        let status = answer.status();
        let retry_after = transfer::retry_after(answer.headers());
        let body = self.body(answer, WORDS).await.unwrap_or_default();
        let words = self.clean(&words(&body));
        let words = if words.is_empty() { words } else { format!(": {words}") };
        Trouble::Said {
            code: status.as_u16(),
            reason: status.canonical_reason().unwrap_or("(no standard status)"),
            words,
            retry_after,
        }
    }

    /// Takes secrets out of what a registry says, which may repeat what it was sent.
    fn clean(&self, words: &str) -> String {
        let mut secrets: Vec<String> = Vec::new();
        if let Some(credentials) = self.credentials.get().and_then(Option::as_ref) {
            secrets.push(credentials.secret().to_owned());
            if let Credentials::Password { user, password } = credentials {
                secrets.push(STANDARD.encode(format!("{user}:{password}")));
            }
        }
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.extend(tokens.values().filter_map(|token| Some(token.header.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())));
        let mut clean = words.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            clean = clean.replace(secret, "…");
        }
        shown(&clean)
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// Refuses one of more than `limit` bytes, and one that stalls.
    pub(super) async fn body(&self, mut answer: Response, limit: u64) -> Result<Vec<u8>, Trouble> {
        let too_large = || Trouble::from(Cause::TooLarge(limit));
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.piece(&mut answer, bytes.len() as u64).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads the next piece of an answer.
    pub(super) async fn piece(&self, answer: &mut Response, received: u64) -> Result<Option<Vec<u8>>, Cause> {
        let options = &self.options.network;
        let waiting = Instant::now();
        let piece = tokio::time::timeout(options.stall, answer.chunk()).await;
        let piece = piece.map_err(|_| Cause::Stalled(options.stall.as_secs()))?;
        let piece = piece.map_err(|error| http::explain(&error, received, options, waiting))?;
        Ok(piece.map(|piece| piece.to_vec()))
    }

    /// Goes on filling a sink; one attempt.
    pub(super) async fn fill(
        &self,
        url: &Url,
        scope: &str,
        promise: &Promise,
        sink: &mut dyn Sink,
        advance: &dyn Fn(u64),
    ) -> Result<(), Trouble> {
        let continued = sink.length() > 0;
        if promise.size != Some(sink.length()) {
            let range = format!("bytes={}-", sink.length());
            let ask = Ask { range: continued.then_some(&*range), ..Ask::new("GET", url, scope) };
            let answer = self.attempt(ask).await?;
            if !answer.status().is_success() && answer.status() != StatusCode::RANGE_NOT_SATISFIABLE {
                return Err(self.said(answer).await);
            }
            transfer::take_in(&self.options.network, answer, promise, sink, advance).await?;
        }
        Ok(promise.check(sink, continued)?)
    }
}

/// Returns the address that a `Location` leads to, which nothing secret may follow in the clear.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let text = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| Trouble::Rule("does not say where to go on".into()))?;
    let rule = || Trouble::Rule("says where to go on, and it is no address".into());
    let url = from.join(text).map_err(|_| rule())?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if from.scheme() == "http" => Ok(url),
        "http" => Err(Cause::Downgrade.into()),
        _ => Err(rule()),
    }
}

/// Returns the address of the next page, which must be of the same place.
pub(super) fn following(url: &Url, link: &str) -> Result<String, Trouble> {
    let joined = url.join(link).map_err(|_| Trouble::Rule("names a next page that is no address".into()))?;
    if joined.origin() != url.origin() {
        return Err(Trouble::Rule("names a next page that is elsewhere".into()));
    }
    Ok(joined.to_string())
}

/// Whether a status is that of a trouble that may pass.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500..=599)
}

/// Returns the host that answers for a registry: Docker Hub's is not called as the Hub is.
fn api_host(registry: &RegistryHost) -> RegistryHost {
    let hub = matches!(&*registry.to_string(), "docker.io" | "index.docker.io");
    "registry-1.docker.io".parse().ok().filter(|_| hub).unwrap_or_else(|| registry.clone())
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Trouble> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::try_from(text).map_err(|_| Trouble::Rule("cannot be given this password".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Returns what an answer says for people (OCI distribution-spec, error codes).
fn words(body: &[u8]) -> String {
    let object = canonical::read(body).ok();
    let errors = object.as_ref().and_then(|object| object.get("errors")?.as_array());
    let one = |error: &Value| {
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let both = [text("code"), text("message")].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        both.join(": ")
    };
    let said: Vec<String> = errors.into_iter().flatten().take(3).map(one).filter(|text| !text.is_empty()).collect();
    let said = if errors.is_some() {
        said.join("; ")
    } else {
        // What is no document may be a proxy's page; its first line tells enough.
        let text = String::from_utf8_lossy(body);
        let line = text.trim().lines().next().unwrap_or_default().to_owned();
        if line.starts_with('<') { String::new() } else { line }
    };
    said.chars().take(300).collect()
}

/// What goes out, read piece by piece.
struct Outgoing {
    source: Box<dyn Read + Send>,
    sent: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl futures_core::Stream for Outgoing {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            match self.source.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Poll::Ready(Some(Err(io::Error::other("the source failed"))));
                }
            }
        }
        self.sent.fetch_add(filled as u64, Ordering::Relaxed);
        piece.truncate(filled);
        Poll::Ready((filled > 0).then_some(Ok(piece)))
    }
}
