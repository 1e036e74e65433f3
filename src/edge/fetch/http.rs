//! One attempt to fetch one file from one place.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use reqwest::Url;

use super::{Download, FetchError};
use crate::edge::http::part::Sink;
use crate::edge::http::transfer::{self, Promise};
use crate::edge::http::{self, Cause, FetchOptions, Redirects};

/// What can fetch from a URL.
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(options: &FetchOptions) -> Result<Self, FetchError> {
        Ok(Self(http::client(options, &[], Redirects::Follow)?))
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
        let promise = Promise { digest: download.digest, size: download.size, limit: download.limit };
        let continued = sink.length() > 0;
        if download.size.is_none() || Some(sink.length()) != download.size {
            match url.scheme() {
                "http" | "https" => {
                    let request = self.0.get(url).headers(transfer::missing(&promise, sink)?);
                    let response = transfer::send(options, request).await?;
                    transfer::take_in(options, response, &promise, sink, advance).await?;
                }
                "file" => copy(&url, download, sink, advance)?,
                _ => return Err(Cause::Url("only http, https and file are")),
            }
        }
        promise.check(sink, continued)
    }
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
