//! Receiving one file: from where it stopped, within its promised size, never slower than allowed.

use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::part::Sink;
use super::{Cause, FetchOptions, explain};
use crate::model::digest::DownloadDigest;

/// What is known of a file before it comes.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// Without one whatever comes is kept.
    pub digest: Option<DownloadDigest>,
    pub size: Option<u64>,
    /// More bytes than this are refused where the size is not known.
    pub limit: u64,
}

impl Promise {
    /// Checks what a sink holds when nothing more comes.
    ///
    /// # Errors
    /// Says what is not as promised; other bytes are forgotten.
    pub fn check(&self, sink: &mut dyn Sink, continued: bool) -> Result<(), Cause> {
        let size = sink.length();
        if let Some(expected) = self.size.filter(|expected| *expected != size) {
            return Err(Cause::Closed { received: size, why: format!("{expected} bytes were promised") });
        }
        let found = sink.digest();
        match self.digest {
            Some(expected) if expected != found => {
                sink.restart().map_err(Cause::Disk)?;
                // What was there before may be to blame rather than this place.
                Err(if continued { Cause::Anew } else { Cause::Digest { expected, found } })
            }
            _ => Ok(()),
        }
    }
}

/// Returns what a request must say to get what is missing.
pub fn missing(promise: &Promise, sink: &mut dyn Sink) -> Result<HeaderMap, Cause> {
    // Without a promised size nothing would say that the end is the end.
    if promise.size.is_none() {
        sink.restart().map_err(Cause::Disk)?;
    }
    let mut headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    if sink.length() > 0 {
        let range = HeaderValue::try_from(format!("bytes={}-", sink.length()));
        headers.extend(range.map(|range| (RANGE, range)).ok());
        let validator = sink.validator().as_ref().and_then(|validator| HeaderValue::try_from(validator).ok());
        headers.extend(validator.map(|validator| (IF_RANGE, validator)));
    }
    Ok(headers)
}

/// Sends a request and waits for the beginning of its answer.
pub async fn send(options: &FetchOptions, request: RequestBuilder) -> Result<Response, Cause> {
    let waiting = Instant::now();
    let answer = tokio::time::timeout(options.stall, request.send()).await;
    answer.map_err(|_| Cause::Stalled(options.stall.as_secs()))?.map_err(|error| explain(&error, 0, options, waiting))
}

/// Takes in the answer to a request for what is [`missing`].
pub async fn take_in(
    options: &FetchOptions,
    mut response: Response,
    promise: &Promise,
    sink: &mut dyn Sink,
    advance: &dyn Fn(u64),
) -> Result<(), Cause> {
    let waiting = Instant::now();
    begin(&response, promise, sink)?;
    let limit = promise.size.unwrap_or(promise.limit);
    let mut window = (Instant::now(), sink.length());
    loop {
        let chunk =
            tokio::time::timeout(options.stall, response.chunk()).await.map_err(|_| Cause::Stalled(options.stall.as_secs()))?;
        let Some(chunk) = chunk.map_err(|error| explain(&error, sink.length(), options, waiting))? else { break };
        if sink.length() + chunk.len() as u64 > limit {
            sink.restart().map_err(Cause::Disk)?;
            return Err(promise.size.map_or(Cause::TooLarge(limit), |expected| Cause::Size { expected, found: "more".into() }));
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

/// Makes sure that what follows is what the sink lacks.
fn begin(response: &Response, promise: &Promise, sink: &mut dyn Sink) -> Result<(), Cause> {
    let offset = sink.length();
    let headers = response.headers();
    let validator = validator(headers);
    match response.status() {
        StatusCode::PARTIAL_CONTENT if offset > 0 => {
            let range = headers.get(CONTENT_RANGE).and_then(content_range);
            let fits =
                range.is_some_and(|(start, total)| start == offset && total.is_none_or(|total| Some(total) == promise.size));
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
            let retry_after = retry_after(headers);
            return Err(Cause::Status {
                code: status.as_u16(),
                reason: status.canonical_reason().unwrap_or("(no standard status)"),
                retry_after,
            });
        }
    }
    if let (Some(length), Some(expected)) = (response.content_length(), promise.size) {
        let found = sink.length().saturating_add(length);
        if found != expected {
            return Err(Cause::Size { expected, found: found.to_string() });
        }
    }
    *sink.validator() = validator;
    Ok(())
}

/// Returns how long the server asks to be left alone.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs)
}

/// Returns what names this version of the file: a strong entity tag, or its date (RFC 9110, section 13.1.5).
pub fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED))
}

/// Reads `bytes START-END/TOTAL`; the total may be `*`.
pub fn content_range(value: &HeaderValue) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

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
