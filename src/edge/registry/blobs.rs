//! Blobs on their way to a registry and from it, however large.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::http::{Answer, Ask, Open, Payload, Trouble, location};
use super::{CONTENT_DIGEST, Remote};
use crate::edge::http::part::{self, Part, Sink as _};
use crate::edge::http::transfer::{self, Promise};
use crate::edge::http::{Cause, PROGRESS};
use crate::image::repository::RepositoryError;
use crate::model::digest::{BlobDigest, DownloadDigest, Hasher};
use crate::model::problem::shown;
use crate::model::reference::RepositoryName;
use crate::screen::Task;

/// Blobs that are under way at once.
const PARALLEL: usize = 6;

/// How a blob came to be in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was there.
    Present,
    /// The registry had it in another repository.
    Mounted,
    /// It went over the network.
    Uploaded,
}

/// A blob that is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub digest: BlobDigest,
    pub size: u64,
}

/// A blob that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub digest: BlobDigest,
    pub size: u64,
    /// Other repositories of the same registry that may have it, the likeliest first.
    pub others: Vec<RepositoryName>,
}

/// Opens a blob that is to be sent.
pub type OpenBlob<'a> = dyn Fn(&BlobDigest) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// Does something for each of many, several at once, in any order; returns what came of them in theirs.
fn at_once<T: Sync, R: Send, E: Send>(items: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    let failed: Mutex<Option<E>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    match work(item) {
                        Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result)),
                        Err(error) => {
                            // The others end what they have begun.
                            next.store(items.len(), Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

impl Remote {
    /// Makes sure that the repository has some blobs, several at once; returns how each came there, in their order.
    pub fn send_all(&self, blobs: &[Given], open: &OpenBlob<'_>, task: &dyn Task) -> Result<Vec<Sent>, RepositoryError> {
        at_once(blobs, |blob| {
            let others: Vec<String> = blob.others.iter().map(super::path_in_registry).collect();
            self.send(&blob.digest, blob.size, &others, &|| open(&blob.digest), &|more| task.advance(more))
        })
    }

    /// Makes sure that the repository has a blob. It is taken over from the first of the other repositories of the same
    /// registry that has it, else sent. `advance` hears of bytes that are done.
    pub(super) fn send(
        &self,
        digest: &BlobDigest,
        size: u64,
        others: &[String],
        open: &Open<'_>,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<Sent, RepositoryError> {
        let sent = Arc::new(AtomicU64::new(0));
        let counted = AtomicU64::new(0);
        let report = || {
            // An attempt that begins anew counts only what is new.
            let (now, before) = (sent.load(Ordering::Relaxed).min(size), counted.load(Ordering::Relaxed));
            if let Some(more) = now.checked_sub(before).filter(|more| *more > 0) {
                counted.store(now, Ordering::Relaxed);
                advance(more);
            }
        };
        let result = self.wire.wait(async {
            let mut storing = Box::pin(self.store(digest, size, others, open, &sent));
            loop {
                match tokio::time::timeout(Duration::from_millis(100), &mut storing).await {
                    Ok(result) => return result,
                    Err(_) => report(),
                }
            }
        });
        if result.is_ok() {
            sent.store(size, Ordering::Relaxed);
            report();
        }
        result.map_err(|trouble| self.explain(trouble, &digest.to_string()))
    }

    async fn store(
        &self,
        digest: &BlobDigest,
        size: u64,
        others: &[String],
        open: &Open<'_>,
        sent: &Arc<AtomicU64>,
    ) -> Result<Sent, Trouble> {
        let mut tries = 0;
        loop {
            let trouble = match self.store_once(digest, size, others, open, sent).await {
                Ok(how) => return Ok(how),
                Err(trouble) => trouble,
            };
            tries += 1;
            if tries >= trouble.tries() {
                return Err(trouble);
            }
            self.wire.rest(&trouble, tries).await;
        }
    }

    async fn store_once(
        &self,
        digest: &BlobDigest,
        size: u64,
        others: &[String],
        open: &Open<'_>,
        sent: &Arc<AtomicU64>,
    ) -> Result<Sent, Trouble> {
        let url = self.wire.url(&format!("{}/blobs/{digest}", self.path)).await?;
        let found = self.wire.attempt(Ask::new("HEAD", &url, &self.scope)).await?;
        match found.status().as_u16() {
            200 => return Ok(Sent::Present),
            404 => {}
            _ => return Err(self.wire.said(found).await),
        }
        let mut place = None;
        for other in others {
            let url = self.wire.url(&format!("{}/blobs/uploads/?mount={digest}&from={other}", self.path)).await?;
            let scope = format!("{} repository:{other}:pull", self.scope);
            // A token service may refuse to speak of another repository at all: then the blob is sent.
            let Ok(answer) = self.wire.attempt(Ask::new("POST", &url, &scope)).await else { continue };
            match answer.status().as_u16() {
                201 => return Ok(Sent::Mounted),
                // Not there: the registry has begun an upload instead.
                202 => {
                    place = Some(location(&url, answer.headers())?);
                    break;
                }
                // One that knows nothing of taking over is asked plainly.
                _ => {}
            }
        }
        let mut place = if let Some(place) = place {
            place
        } else {
            let url = self.wire.url(&format!("{}/blobs/uploads/", self.path)).await?;
            let answer = self.wire.attempt(Ask::new("POST", &url, &self.scope)).await?;
            match answer.status().as_u16() {
                202 => location(&url, answer.headers())?,
                _ => return Err(self.wire.said(answer).await),
            }
        };
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let payload = Payload::Stream { size, open, sent };
        let answer = self.wire.attempt(Ask { payload, ..Ask::new("PUT", &place, &self.scope) }).await?;
        if !matches!(answer.status().as_u16(), 200 | 201 | 204) {
            return Err(self.wire.said(answer).await);
        }
        let stored = answer.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        match stored.filter(|stored| *stored != digest.to_string()) {
            Some(stored) => Err(Trouble::Rule(format!("stored `{digest}` under another digest, `{}`", shown(stored)))),
            None => Ok(Sent::Uploaded),
        }
    }

    /// Fetches blobs into a folder, several at once, where each stands under the 64 digits of its digest. One that was cut
    /// off goes on where it stopped, in this run or a later one.
    pub fn fetch(&self, wanted: &[Wanted], into: &Path, task: &dyn Task) -> Result<(), RepositoryError> {
        let bytes = wanted.iter().map(|blob| blob.size).sum();
        part::require_room(into, bytes).map_err(|error| self.disk(error))?;
        at_once(wanted, |blob| self.fetch_one(blob, into, task)).map(drop)
    }

    fn fetch_one(&self, blob: &Wanted, into: &Path, task: &dyn Task) -> Result<(), RepositoryError> {
        let hex = blob.digest.hex();
        let digest = DownloadDigest::from(*blob.digest.bytes());
        let there = || std::fs::symlink_metadata(into.join(&hex)).is_ok_and(|found| found.is_file() && found.len() == blob.size);
        if there() {
            if hashed(&into.join(&hex)).is_ok_and(|found| found == blob.digest) {
                task.advance(blob.size);
                return Ok(());
            }
            // Damaged since it came.
            let _ = std::fs::remove_file(into.join(&hex));
        }
        let opened = self.wire.wait(Part::open(into.join(format!("{hex}.part")), blob.size, &there));
        let Some(mut part) = opened.map_err(|error| self.disk(error))? else { return Ok(()) };
        let counted = AtomicU64::new(0);
        let advance = |height: u64| {
            if let Some(more) = height.checked_sub(counted.load(Ordering::Relaxed)) {
                task.advance(more);
                counted.store(height, Ordering::Relaxed);
            }
        };
        let promise = Promise { digest: Some(digest), size: Some(blob.size), limit: blob.size };
        let filled = self.wire.wait(async {
            let url = self.wire.url(&format!("{}/blobs/{}", self.path, blob.digest)).await?;
            let mut tries = 0;
            loop {
                let before = part.highest();
                let trouble = match self.wire.fill(&url, &self.scope, &promise, &mut part, &advance).await {
                    Ok(()) => return Ok(()),
                    Err(trouble) => trouble,
                };
                let cut = matches!(trouble, Trouble::Cause(Cause::Closed { .. } | Cause::Stalled(_) | Cause::Slow { .. }));
                if cut && part.highest() >= before + PROGRESS {
                    tries = 0;
                    continue;
                }
                tries += 1;
                if tries >= trouble.tries() {
                    return Err(trouble);
                }
                self.wire.rest(&trouble, tries).await;
            }
        });
        match filled {
            Ok(()) => part.finish(into).map(drop).map_err(|error| self.disk(error)),
            Err(Trouble::Cause(Cause::Disk(source))) => Err(self.disk(part::explain("write", &part.place(), blob.size, source))),
            Err(trouble) if trouble.status() == Some(404) => Err(RepositoryError::Damaged {
                place: self.name.to_string(),
                name: blob.digest.to_string(),
                problem: "is part of the image, and is not there".into(),
            }),
            Err(trouble) => Err(self.explain(trouble, &blob.digest.to_string())),
        }
    }

    fn disk(&self, error: part::DiskError) -> RepositoryError {
        RepositoryError::Unreachable { place: self.name.to_string(), hint: error.hint(), source: error.into() }
    }
}

/// Returns the digest of a file.
fn hashed(path: &Path) -> io::Result<BlobDigest> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// A blob that is read as it comes.
pub(super) struct Reader<'a> {
    remote: &'a Remote,
    digest: BlobDigest,
    size: u64,
    received: u64,
    hasher: Hasher,
    answer: Option<Answer>,
    piece: io::Cursor<Vec<u8>>,
    tries: u32,
}

impl<'a> Reader<'a> {
    /// Asks for a blob; `None` where there is none.
    pub(super) fn open(remote: &'a Remote, digest: &BlobDigest, size: u64) -> Result<Option<Self>, Trouble> {
        let mut reader = Self {
            remote,
            digest: *digest,
            size,
            received: 0,
            hasher: Hasher::new(),
            answer: None,
            piece: io::Cursor::default(),
            tries: 0,
        };
        Ok(reader.ask()?.then_some(reader))
    }

    /// Asks for what is missing; returns whether the blob is there.
    fn ask(&mut self) -> Result<bool, Trouble> {
        let wire = &self.remote.wire;
        let (received, size) = (self.received, self.size);
        self.answer = wire.wait(async {
            let url = wire.url(&format!("{}/blobs/{}", self.remote.path, self.digest)).await?;
            let range = format!("bytes={received}-");
            let ask = Ask { range: (received > 0).then_some(&*range), ..Ask::new("GET", &url, &self.remote.scope) };
            let answer = wire.ask(ask).await?;
            match answer.status().as_u16() {
                404 if received == 0 => return Ok(None),
                200 if received == 0 => {}
                206 if received > 0 => {
                    let range = answer.headers().get("content-range").and_then(transfer::content_range);
                    if range.is_none_or(|(start, _)| start != received) {
                        return Err(Cause::Anew.into());
                    }
                }
                200 | 206 => return Err(Cause::Anew.into()),
                _ => return Err(wire.said(answer).await),
            }
            if let Some(length) = answer.content_length().filter(|length| received + length != size) {
                return Err(Cause::Size { expected: size, found: (received + length).to_string() }.into());
            }
            Ok(Some(answer))
        })?;
        Ok(self.answer.is_some())
    }

    fn fail(&self, trouble: Trouble) -> io::Error {
        io::Error::other(self.remote.explain(trouble, &self.digest.to_string()))
    }

    /// Takes in the next piece; returns whether there was one.
    fn take(&mut self) -> io::Result<bool> {
        let Some(answer) = &mut self.answer else { return Ok(false) };
        let trouble = match self.remote.wire.wait(self.remote.wire.piece(answer, self.received)) {
            Ok(Some(piece)) => {
                self.received += piece.len() as u64;
                if self.received > self.size {
                    return Err(self.fail(Cause::Size { expected: self.size, found: "more".into() }.into()));
                }
                self.hasher.update(&piece);
                self.piece = io::Cursor::new(piece);
                return Ok(true);
            }
            Ok(None) if self.received == self.size => {
                self.answer = None;
                let (expected, found) = (DownloadDigest::from(*self.digest.bytes()), self.hasher.clone().finish());
                if expected != found {
                    return Err(self.fail(Cause::Digest { expected, found }.into()));
                }
                return Ok(false);
            }
            Ok(None) => {
                Trouble::from(Cause::Closed { received: self.received, why: format!("{} bytes were promised", self.size) })
            }
            Err(cause) => Trouble::from(cause),
        };
        self.tries += 1;
        if self.tries >= trouble.tries() {
            return Err(self.fail(trouble));
        }
        self.remote.wire.wait(self.remote.wire.rest(&trouble, self.tries));
        self.ask().map_err(|trouble| self.fail(trouble))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.answer.is_none() || !self.take()? {
                return Ok(read);
            }
        }
    }
}
