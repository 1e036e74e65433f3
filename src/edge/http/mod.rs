//! What the doors to the network stand on: one HTTP client, its limits, and what can go wrong between two machines.

pub mod part;
pub mod transfer;

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Certificate, NoProxy, Proxy, Url, redirect};

use crate::model::digest::DownloadDigest;

const REDIRECTS: usize = 10;

/// How often one place is tried while nothing new arrives.
pub const TRIES: u32 = 3;

/// An attempt that brought this many new bytes is no failure: the next one goes on from there.
pub const PROGRESS: u64 = 64 << 10;

/// Proxies, as the `http_proxy` family of variables has them.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// For what has none of its own.
    pub all: Option<String>,
    /// Hosts and networks that are reached directly, separated by commas.
    pub except: Option<String>,
}

/// How the network is used.
#[derive(Clone)]
pub struct FetchOptions {
    /// Refuses to use the network.
    pub offline: bool,
    pub proxies: Proxies,
    /// Certificate authorities in PEM, beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// A connection that brings nothing, or less than `slowest` bytes per second, for this long is given up.
    pub stall: Duration,
    pub slowest: u64,
    /// The pause after a first failure; it doubles.
    pub pause: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            offline: false,
            proxies: Proxies::default(),
            ca_file: None,
            stall: Duration::from_secs(30),
            // Eight connections share a modem of 56 kbit/s at seven times this.
            slowest: 128,
            pause: Duration::from_millis(500),
        }
    }
}

/// Why one place did not do.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the server says {code} {reason}")]
    Status { code: u16, reason: &'static str, retry_after: Option<Duration> },
    #[error("it is not a URL that parvis fetches: {0}")]
    Url(&'static str),
    #[error("the host is not known: {0}")]
    Resolve(String),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the server cannot prove who it is: {0}")]
    Tls(String),
    #[error("the proxy wants a user and password")]
    ProxyRefused,
    #[error("nothing came for {0} seconds")]
    Stalled(u64),
    #[error("less than {slowest} bytes per second came for {seconds} seconds")]
    Slow { slowest: u64, seconds: u64 },
    #[error("the connection was closed after {received} bytes: {why}")]
    Closed { received: u64, why: String },
    #[error("{expected} bytes were promised, and the server has {found}")]
    Size { expected: u64, found: String },
    #[error("its digest is {found}, and {expected} was promised")]
    Digest { expected: DownloadDigest, found: DownloadDigest },
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("redirected from https to http")]
    Downgrade,
    #[error("redirected more than {0} times")]
    RedirectLoop(usize),
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
    /// What was there could not be continued; the next attempt starts anew.
    #[error("the server cannot go on where it stopped")]
    Anew,
    #[error("the file cannot be read")]
    File(#[source] io::Error),
    /// The disk on this side; no other place would help.
    #[error("it cannot be written")]
    Disk(#[source] io::Error),
}

impl Cause {
    /// Returns how often a place is tried that fails like this and brings nothing new.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        match self {
            Self::Connect(_)
            | Self::Resolve(_)
            | Self::Closed { .. }
            | Self::Anew
            | Self::Status { code: 408 | 429 | 500..=599, .. } => TRIES,
            _ => 1,
        }
    }
}

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the certificate file `{path}` {what}")]
    Authorities { path: PathBuf, what: String },
    #[error("the proxy `{proxy}` is not a proxy's address")]
    Proxy { proxy: String },
    #[error("the network cannot be used: {what}")]
    Network { what: String },
}

impl ClientError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Authorities { .. } => "it must hold certificates in PEM: `-----BEGIN CERTIFICATE-----`".into(),
            Self::Proxy { .. } => "it should look like `http://proxy.example:3128`".into(),
            Self::Network { .. } => return None,
        })
    }
}

/// What a client does when it is sent elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// Goes there, within bounds. Credentials are dropped where the host changes.
    Follow,
    /// Hands the answer to whoever asked.
    Show,
}

/// Makes a client that asks neither the environment nor the system for anything but certificate authorities.
pub fn client(
    options: &FetchOptions,
    more_authorities: &[PathBuf],
    redirects: Redirects,
) -> Result<reqwest::Client, ClientError> {
    let mut authorities = Vec::new();
    for path in options.ca_file.iter().chain(more_authorities) {
        authorities.extend(certificates(path)?);
    }
    let builder = || {
        let policy = match redirects {
            Redirects::Follow => redirect::Policy::custom(redirected),
            Redirects::Show => redirect::Policy::none(),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("parvis/", env!("CARGO_PKG_VERSION")))
            // Neither the environment nor the system is asked: the caller said all.
            .no_proxy()
            .referer(false)
            .redirect(policy)
            .connect_timeout(options.stall.min(Duration::from_secs(15)));
        for proxy in proxies(&options.proxies)? {
            builder = builder.proxy(proxy);
        }
        Ok(builder)
    };
    let whole = builder()?.tls_certs_merge(authorities.clone()).build();
    // A machine without any certificate authority can still fetch what is signed otherwise, over http.
    let client = match whole {
        Err(_) if authorities.is_empty() => builder()?.tls_certs_only([]).build(),
        other => other,
    };
    client.map_err(|error| match &options.ca_file {
        Some(path) => ClientError::Authorities { path: path.clone(), what: format!("cannot be used: {}", deepest(&error)) },
        None => ClientError::Network { what: deepest(&error) },
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let wrong = |what: String| ClientError::Authorities { path: path.to_owned(), what };
    let pem = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(format!("is not one: {}", deepest(&error))))?;
    if found.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(found) }
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("redirected from https to http")]
    Downgrade,
    #[error("redirected too often")]
    Loop,
}

/// Follows redirects within bounds. The library drops credentials where the host changes.
fn redirected(attempt: redirect::Attempt<'_>) -> redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(Refused::Loop);
    }
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if secure && attempt.url().scheme() != "https" {
        return attempt.error(Refused::Downgrade);
    }
    attempt.follow()
}

fn proxies(proxies: &Proxies) -> Result<Vec<Proxy>, ClientError> {
    let except = proxies.except.as_deref().and_then(NoProxy::from_string);
    let given = [(&proxies.http, "http"), (&proxies.https, "https"), (&proxies.all, "all")]
        .into_iter()
        .filter_map(|(url, kind)| Some((url.as_deref().filter(|url| !url.is_empty())?, kind)));
    given
        .map(|(url, kind)| {
            let proxy = match kind {
                "http" => Proxy::http(url),
                "https" => Proxy::https(url),
                _ => Proxy::all(url),
            };
            proxy.map(|proxy| proxy.no_proxy(except.clone())).map_err(|_| ClientError::Proxy { proxy: shown(url) })
        })
        .collect()
}

/// Returns how long to wait before the next attempt: as long as the server asks, within bounds, or longer each time.
#[must_use]
pub fn pause(options: &FetchOptions, cause: &Cause, tries: u32) -> Duration {
    let own = options.pause.saturating_mul(1 << tries.saturating_sub(1).min(6));
    match cause {
        Cause::Status { retry_after: Some(asked), .. } => (*asked).min(options.stall).max(own),
        _ => own,
    }
}

/// Sorts an error of the library by what a person can do about it.
pub fn explain(error: &reqwest::Error, received: u64, options: &FetchOptions, since: Instant) -> Cause {
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        match source.downcast_ref() {
            Some(Refused::Downgrade) => return Cause::Downgrade,
            Some(Refused::Loop) => return Cause::RedirectLoop(REDIRECTS),
            None => chain.push(source.to_string()),
        }
        next = source.source();
    }
    let deepest = chain.last().cloned().unwrap_or_else(|| "no reason is given".into());
    let says = |words: &[&str]| chain.iter().any(|text| words.iter().any(|word| text.to_lowercase().contains(word)));
    if says(&["proxy auth", "407"]) {
        Cause::ProxyRefused
    } else if says(&["certificate", "handshake", "received corrupt message", "alert"]) {
        Cause::Tls(deepest)
    } else if says(&["dns error", "lookup"]) {
        Cause::Resolve(deepest)
    } else if error.is_timeout() {
        Cause::Stalled(since.elapsed().min(options.stall).as_secs())
    } else if error.is_connect() {
        Cause::Connect(deepest)
    } else if says(&["parse", "invalid http", "unexpected message"]) {
        Cause::Nonsense(deepest)
    } else {
        Cause::Closed { received, why: deepest }
    }
}

fn deepest(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    source.to_string()
}

/// Returns the host and port of a URL.
#[must_use]
pub fn host(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))).unwrap_or_default()
}

/// Returns a URL as it may be printed: without user, password and query.
#[must_use]
pub fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) if url.has_host() || url.scheme() == "file" => {
            // Neither can be set on a URL without host, which has neither.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            if url.query().is_some() {
                url.set_query(Some("…"));
            }
            url.set_fragment(None);
            url.to_string()
        }
        _ => "(not a URL)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_url_has_no_user_password_or_query() {
        assert_eq!(shown("https://me:secret@host/path?token=secret#x"), "https://host/path?%E2%80%A6");
        assert_eq!(shown("me:secret@host"), "(not a URL)");
    }
}
