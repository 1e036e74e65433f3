//! One attempt to fetch one file from one place; the only file that names the HTTP library.

use std::error::Error as _;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Certificate, NoProxy, Proxy, Response, StatusCode, Url, redirect};

use super::part::Sink;
use super::{Cause, Download, FetchError, FetchOptions, Proxies};

const REDIRECTS: usize = 10;

/// What can fetch from a URL.
pub(super) struct Client(reqwest::Client);

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("redirected from https to http")]
    Downgrade,
    #[error("redirected too often")]
    Loop,
}

impl Client {
    pub(super) fn new(options: &FetchOptions) -> Result<Self, FetchError> {
        let authorities = match &options.ca_file {
            Some(path) => {
                let wrong = |what: String| FetchError::Authorities { path: path.clone(), what };
                let pem = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
                let found =
                    Certificate::from_pem_bundle(&pem).map_err(|error| wrong(format!("is not one: {}", deepest(&error))))?;
                if found.is_empty() {
                    return Err(wrong("holds no certificate".into()));
                }
                found
            }
            None => Vec::new(),
        };
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("parvis/", env!("CARGO_PKG_VERSION")))
                // Neither the environment nor the system is asked: the caller said all.
                .no_proxy()
                .referer(false)
                .redirect(redirect::Policy::custom(redirected))
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
        client.map(Self).map_err(|error| match &options.ca_file {
            Some(path) => FetchError::Authorities { path: path.clone(), what: format!("cannot be used: {}", deepest(&error)) },
            None => FetchError::Network { what: deepest(&error) },
        })
    }

    /// Goes on filling the sink from this place; on success it holds what was promised.
    pub(super) async fn attempt(
        &self,
        options: &FetchOptions,
        url: &str,
        download: &Download,
        sink: &mut dyn Sink,
        advance: &dyn Fn(u64),
    ) -> Result<(), Cause> {
        let url = Url::parse(url).map_err(|_| Cause::Url("it cannot be read"))?;
        let continued = sink.length() > 0;
        if download.size.is_none() || Some(sink.length()) != download.size {
            match url.scheme() {
                "http" | "https" => self.receive(options, url, download, sink, advance).await?,
                "file" => copy(&url, download, sink, advance)?,
                _ => return Err(Cause::Url("only http, https and file are")),
            }
        }
        let size = sink.length();
        if let Some(expected) = download.size.filter(|expected| *expected != size) {
            return Err(Cause::Closed { received: size, why: format!("{expected} bytes were promised") });
        }
        let found = sink.digest();
        match download.digest {
            Some(expected) if expected != found => {
                sink.restart().map_err(Cause::Disk)?;
                // What was there before may be to blame rather than this place.
                Err(if continued { Cause::Anew } else { Cause::Digest { expected, found } })
            }
            _ => Ok(()),
        }
    }

    async fn receive(
        &self,
        options: &FetchOptions,
        url: Url,
        download: &Download,
        sink: &mut dyn Sink,
        advance: &dyn Fn(u64),
    ) -> Result<(), Cause> {
        // Without a promised size nothing would say that the end is the end.
        if download.size.is_none() {
            sink.restart().map_err(Cause::Disk)?;
        }
        let mut request = self.0.get(url).header(ACCEPT_ENCODING, "identity");
        let offset = sink.length();
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(validator) = sink.validator() {
                request = request.header(IF_RANGE, validator.as_str());
            }
        }
        let waiting = Instant::now();
        let answer = tokio::time::timeout(options.stall, request.send()).await;
        let response =
            answer.map_err(|_| Cause::Stalled(options.stall.as_secs()))?.map_err(|error| explain(&error, 0, options, waiting))?;
        begin(&response, download, sink, offset)?;
        let mut response = response;
        let limit = download.size.unwrap_or(download.limit);
        let mut window = (Instant::now(), sink.length());
        loop {
            let chunk = tokio::time::timeout(options.stall, response.chunk())
                .await
                .map_err(|_| Cause::Stalled(options.stall.as_secs()))?;
            let Some(chunk) = chunk.map_err(|error| explain(&error, sink.length(), options, waiting))? else { break };
            if sink.length() + chunk.len() as u64 > limit {
                sink.restart().map_err(Cause::Disk)?;
                return Err(download
                    .size
                    .map_or(Cause::TooLarge(limit), |expected| Cause::Size { expected, found: "more".into() }));
            }
            sink.append(&chunk).map_err(Cause::Disk)?;
            advance(sink.length());
            if window.0.elapsed() >= options.stall {
                let seconds = options.stall.as_secs();
                if sink.length().saturating_sub(window.1) < options.slowest.saturating_mul(seconds.max(1)) {
                    return Err(Cause::Slow { slowest: options.slowest, seconds });
                }
                window = (Instant::now(), sink.length());
            }
        }
        Ok(())
    }
}

/// Makes sure that what follows is what the sink lacks.
fn begin(response: &Response, download: &Download, sink: &mut dyn Sink, offset: u64) -> Result<(), Cause> {
    let headers = response.headers();
    let validator = validator(headers);
    match response.status() {
        StatusCode::PARTIAL_CONTENT if offset > 0 => {
            let range = headers.get(CONTENT_RANGE).and_then(content_range);
            let fits =
                range.is_some_and(|(start, total)| start == offset && total.is_none_or(|total| Some(total) == download.size));
            let changed = sink.validator().as_ref().is_some_and(|known| validator.as_ref().is_some_and(|new| new != known));
            if !fits || changed {
                sink.restart().map_err(Cause::Disk)?;
                return Err(Cause::Anew);
            }
        }
        StatusCode::OK => sink.restart().map_err(Cause::Disk)?,
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
            sink.restart().map_err(Cause::Disk)?;
            return Err(Cause::Anew);
        }
        status => {
            let retry_after =
                headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
            return Err(Cause::Status {
                code: status.as_u16(),
                reason: status.canonical_reason().unwrap_or("(no standard status)"),
                retry_after,
            });
        }
    }
    if let (Some(length), Some(expected)) = (response.content_length(), download.size) {
        let found = sink.length().saturating_add(length);
        if found != expected {
            return Err(Cause::Size { expected, found: found.to_string() });
        }
    }
    *sink.validator() = validator;
    Ok(())
}

/// Returns what names this version of the file: a strong entity tag, or its date (RFC 9110, section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED))
}

/// Reads `bytes START-END/TOTAL`; the total may be `*`.
fn content_range(value: &HeaderValue) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

/// Copies from a mirror on disk.
fn copy(url: &Url, download: &Download, sink: &mut dyn Sink, advance: &dyn Fn(u64)) -> Result<(), Cause> {
    let path = url.to_file_path().map_err(|()| Cause::Url("a file URL has the form `file:///path`"))?;
    sink.restart().map_err(Cause::Disk)?;
    // A pipe in the place of a file must not be waited for.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(Cause::File)?;
    let status = file.metadata().map_err(Cause::File)?;
    if !status.is_file() {
        return Err(Cause::File(io::Error::other("it is not a regular file")));
    }
    if let Some(expected) = download.size.filter(|expected| *expected != status.len()) {
        return Err(Cause::Size { expected, found: status.len().to_string() });
    }
    let limit = download.size.unwrap_or(download.limit);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = file.read(&mut buffer).map_err(Cause::File)?;
        if count == 0 {
            return Ok(());
        }
        if sink.length() + count as u64 > limit {
            sink.restart().map_err(Cause::Disk)?;
            return Err(Cause::TooLarge(limit));
        }
        sink.append(&buffer[..count]).map_err(Cause::Disk)?;
        advance(sink.length());
    }
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

fn proxies(proxies: &Proxies) -> Result<Vec<Proxy>, FetchError> {
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
            proxy.map(|proxy| proxy.no_proxy(except.clone())).map_err(|_| FetchError::Proxy { proxy: shown(url) })
        })
        .collect()
}

/// Sorts an error of the library by what a person can do about it.
fn explain(error: &reqwest::Error, received: u64, options: &FetchOptions, since: Instant) -> Cause {
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
pub(super) fn host(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))).unwrap_or_default()
}

/// Returns a URL as it may be printed: without user, password and query.
pub(super) fn shown(url: &str) -> String {
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

    #[test]
    fn only_a_range_that_says_where_it_starts_is_read() {
        let range = |text| content_range(&HeaderValue::from_static(text));
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for text in ["bytes */10", "5-9/10", "bytes 5/10", "bytes -9/10", "bytes 5-9/x"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
