//! Fetching: files from several places at once, into a folder where each stands under its digest.

mod http;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::edge::http::part::{self, DiskError, Memory, Part, Sink};
use crate::edge::http::{ClientError, PROGRESS, pause};
use crate::model::digest::DownloadDigest;
use crate::screen::{Screen, Task, Unit};

use http::Client;

pub use crate::edge::http::{Cause, FetchOptions, Proxies};

/// How many downloads are under way at once, and how many of them from one host.
const PARALLEL: usize = 8;
const PER_HOST: usize = 6;

/// Something to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// What people call it: a package, an index.
    pub name: String,
    /// Where it is to be had, tried in this order: `http`, `https` and `file` URLs.
    pub urls: Vec<String>,
    /// What it must be. Without a digest whatever comes is kept, under the digest that it has.
    pub digest: Option<DownloadDigest>,
    /// How long it must be.
    pub size: Option<u64>,
    /// More bytes than this are refused where the size is not known.
    pub limit: u64,
}

/// Something that was fetched, or was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    pub digest: DownloadDigest,
    pub size: u64,
    /// Whether it came just now.
    pub new: bool,
}

/// Something that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("cannot fetch `{name}` from `{place}`{earlier}")]
    Place {
        name: String,
        place: String,
        earlier: String,
        #[source]
        cause: Box<Cause>,
    },
    #[error("`{name}` is to be had nowhere: no mirror is known for it")]
    Nowhere { name: String },
    #[error("{count} files are not in the store, and the network is not to be used: {names}")]
    Offline { count: usize, names: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl FetchError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Place { cause, .. } => return hint(cause),
            Self::Nowhere { .. } => "name one with `--mirror`, with `PARVIS_MIRROR`, or in `parvis.yaml`".into(),
            Self::Offline { .. } => "run it once without `--offline`".into(),
            Self::Disk(error) => return error.hint(),
            Self::Client(error) => return error.hint(),
        })
    }

    /// Returns whether the server was reached and has no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing().is_some()
    }

    /// Returns the name of a file that the server was asked for and does not have.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        let Self::Place { name, cause, .. } = self else { return None };
        let missing = match &**cause {
            Cause::Status { code, .. } => matches!(code, 404 | 410),
            Cause::File(source) => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        missing.then_some(name)
    }
}

/// Says what a person can do where a mirror fails like this.
fn hint(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::Status { code: 404 | 410, .. } | Cause::Size { .. } | Cause::Digest { .. } => {
            "the mirror may be in mid-sync or have moved on: try again later, name another with `--mirror`, or run `parvis lock --update`"
        }
        Cause::Status { code: 401 | 403, .. } => "put user and password into the mirror's URL: `https://user:password@host/…`",
        Cause::Resolve(_) | Cause::Connect(_) | Cause::Stalled(_) | Cause::Slow { .. } | Cause::Closed { .. } => {
            "check the network and the proxy settings, or name another mirror with `--mirror`; a second run goes on from here"
        }
        Cause::Status { code: 407, .. } | Cause::ProxyRefused => {
            "put user and password into the proxy's URL: `http://user:password@proxy:port`"
        }
        Cause::Tls(text) if text.contains("xpired") || text.contains("NotValidYet") => {
            "check this machine's clock; if it is right, the server's certificate has to be renewed"
        }
        Cause::Tls(text) if text.contains("UnknownIssuer") => {
            "install the package `ca-certificates`, or name the authority's certificate with `--ca-file`"
        }
        Cause::Tls(_) => "the address may lead to another server: check the mirror's URL and the proxy",
        Cause::Status { .. } | Cause::RedirectLoop(_) | Cause::Downgrade | Cause::Nonsense(_) => "name another mirror with `--mirror`",
        _ => return None,
    }
    .into())
}

/// Fetches over the network and from mirrors on disk. Nothing is started before the first fetch that needs it.
pub struct Fetcher {
    options: FetchOptions,
    network: OnceCell<(tokio::runtime::Runtime, Client)>,
}

impl Fetcher {
    /// Makes a fetcher.
    #[must_use]
    pub fn new(options: FetchOptions) -> Self {
        Self { options, network: OnceCell::new() }
    }

    /// Fetches what is not yet in the folder, the largest first; returns what each download became, in their order.
    ///
    /// A download arrives as `NAME.part` (one process at a time writes it, the next goes on where it stopped), is hashed on
    /// the way, and gets the 64 digits of its digest as name only when size and digest are as promised. What is there with
    /// the promised size is taken for what its name says; who reads it checks it.
    ///
    /// # Errors
    /// The first download that no place has; the others are given up, and what came of them stays for the next run.
    pub fn fetch(&self, downloads: &[Download], into: &Path, screen: &dyn Screen) -> Result<Vec<Fetched>, FetchError> {
        let mut results: Vec<Option<Fetched>> = downloads.iter().map(|download| present(download, into)).collect();
        let mut missing: Vec<usize> = (0..downloads.len()).filter(|index| results[*index].is_none()).collect();
        if !missing.is_empty() {
            self.allowed(missing.iter().map(|index| &downloads[*index]))?;
            let bytes = missing.iter().map(|index| downloads[*index].size.unwrap_or(0)).sum();
            part::require_room(into, bytes)?;
            missing.sort_by_key(|index| downloads[*index].size);
            let title = format!("fetching {} files", missing.len());
            let task = screen.work(&title, (bytes > 0).then_some(bytes), Unit::Bytes);
            let (runtime, client) = self.network()?;
            let crew = Crew {
                options: &self.options,
                client,
                downloads,
                into,
                task: &*task,
                waiting: RefCell::new(missing),
                busy: RefCell::default(),
                freed: tokio::sync::Notify::new(),
                done: RefCell::default(),
            };
            runtime.block_on(async {
                const { assert!(PARALLEL == 8) };
                let work = || crew.work();
                tokio::try_join!(work(), work(), work(), work(), work(), work(), work(), work())
            })?;
            for (index, fetched) in crew.done.into_inner() {
                results[index] = Some(fetched);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Fetches a small document into memory.
    ///
    /// # Errors
    /// Refuses one of more than `limit` bytes.
    pub fn fetch_bytes(&self, name: &str, urls: &[String], limit: u64) -> Result<Vec<u8>, FetchError> {
        let download = Download { name: name.into(), urls: urls.to_vec(), digest: None, size: None, limit };
        self.allowed(std::iter::once(&download))?;
        let (runtime, client) = self.network()?;
        let mut memory = Memory::default();
        runtime.block_on(obtain(&self.options, client, &download, &mut memory, &|_| ()))?;
        Ok(memory.bytes)
    }

    /// Fetches documents into memory, several at a time; returns them in their order, nothing for one that the server does not have.
    ///
    /// # Errors
    /// The first that cannot be had for another reason.
    pub fn documents(&self, documents: &[Download], screen: &dyn Screen) -> Result<Vec<Option<Vec<u8>>>, FetchError> {
        self.allowed(documents.iter())?;
        let (runtime, client) = self.network()?;
        let title = format!("fetching {} documents", documents.len());
        let task = screen.work(&title, Some(documents.len() as u64), Unit::Items);
        let next = Cell::new(0);
        let done: RefCell<Vec<Option<Vec<u8>>>> = RefCell::new(vec![None; documents.len()]);
        let work = || async {
            while let Some(document) = documents.get(next.get()) {
                let index = next.replace(next.get() + 1);
                let mut memory = Memory::default();
                match obtain(&self.options, client, document, &mut memory, &|_| ()).await {
                    Ok(()) => done.borrow_mut()[index] = Some(memory.bytes),
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(error),
                }
                task.advance(1);
            }
            Ok(())
        };
        runtime.block_on(async {
            const { assert!(PARALLEL == 8) };
            tokio::try_join!(work(), work(), work(), work(), work(), work(), work(), work())
        })?;
        Ok(done.into_inner())
    }

    /// Refuses what needs the network where it is not to be used.
    fn allowed<'a>(&self, missing: impl Iterator<Item = &'a Download>) -> Result<(), FetchError> {
        let far: Vec<&str> = missing
            .filter(|download| self.options.offline && !download.urls.iter().any(|url| url.starts_with("file:")))
            .map(|download| download.name.as_str())
            .collect();
        if far.is_empty() {
            return Ok(());
        }
        let mut names = far.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if far.len() > 5 {
            names.push_str(", …");
        }
        Err(FetchError::Offline { count: far.len(), names })
    }

    fn network(&self) -> Result<&(tokio::runtime::Runtime, Client), FetchError> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Network { what: error.to_string() })?;
        let client = Client::new(&self.options)?;
        Ok(self.network.get_or_init(|| (runtime, client)))
    }
}

/// What the workers share. All of them run on one thread.
struct Crew<'a> {
    options: &'a FetchOptions,
    client: &'a Client,
    downloads: &'a [Download],
    into: &'a Path,
    task: &'a dyn Task,
    /// The largest last.
    waiting: RefCell<Vec<usize>>,
    busy: RefCell<BTreeMap<String, usize>>,
    freed: tokio::sync::Notify,
    done: RefCell<Vec<(usize, Fetched)>>,
}

impl Crew<'_> {
    async fn work(&self) -> Result<(), FetchError> {
        while !self.waiting.borrow().is_empty() {
            let Some((index, host)) = self.take() else {
                self.freed.notified().await;
                continue;
            };
            let fetched = self.fetch(&self.downloads[index]).await?;
            self.done.borrow_mut().push((index, fetched));
            self.busy.borrow_mut().entry(host).and_modify(|count| *count -= 1);
            self.freed.notify_waiters();
        }
        Ok(())
    }

    /// Takes the largest download whose host is not too busy.
    fn take(&self) -> Option<(usize, String)> {
        let (mut waiting, mut busy) = (self.waiting.borrow_mut(), self.busy.borrow_mut());
        let place =
            waiting.iter().rposition(|index| busy.get(&host(&self.downloads[*index])).is_none_or(|count| *count < PER_HOST))?;
        let index = waiting.remove(place);
        let host = host(&self.downloads[index]);
        *busy.entry(host.clone()).or_default() += 1;
        Some((index, host))
    }

    async fn fetch(&self, download: &Download) -> Result<Fetched, FetchError> {
        self.task.detail(&download.name);
        let counted = Cell::new(0);
        let advance = |height: u64| {
            if let Some(new) = height.checked_sub(counted.get()) {
                self.task.advance(new);
                counted.set(height);
            }
        };
        let name = match &download.digest {
            Some(digest) => format!("{digest}.part"),
            // What has no digest yet is continued by whoever asks for the same place.
            None => format!("{}.part", DownloadDigest::of(download.urls.join("\n").as_bytes())),
        };
        let limit = download.size.unwrap_or(download.limit);
        let there = || present(download, self.into).is_some();
        let Some(mut part) = Part::open(self.into.join(name), limit, &there).await? else {
            // Another process has just finished it.
            advance(download.size.unwrap_or(0));
            return present(download, self.into).ok_or_else(|| FetchError::Nowhere { name: download.name.clone() });
        };
        obtain(self.options, self.client, download, &mut part, &advance).await?;
        let (digest, size) = part.finish(self.into)?;
        Ok(Fetched { digest, size, new: true })
    }
}

fn host(download: &Download) -> String {
    download.urls.first().map(|url| crate::edge::http::host(url)).unwrap_or_default()
}

/// Fills a sink from the first place that can.
async fn obtain(
    options: &FetchOptions,
    client: &Client,
    download: &Download,
    sink: &mut dyn Sink,
    advance: &dyn Fn(u64),
) -> Result<(), FetchError> {
    let mut failures: Vec<(String, Cause)> = Vec::new();
    let near = |url: &&String| !options.offline || url.starts_with("file:");
    for url in download.urls.iter().filter(near) {
        let mut tries = 0;
        let cause = loop {
            let before = sink.highest();
            let cause = match client.attempt(options, url, download, sink, advance).await {
                Ok(()) => return Ok(()),
                Err(Cause::Disk(source)) => {
                    return Err(part::explain("write", &sink.place(), download.size.unwrap_or(0), source).into());
                }
                Err(cause) => cause,
            };
            // The highest byte seen can only grow to the limit: a server that starts anew each time makes no progress.
            let cut = matches!(cause, Cause::Closed { .. } | Cause::Stalled(_) | Cause::Slow { .. });
            if cut && sink.highest() >= before + PROGRESS {
                tries = 0;
                continue;
            }
            tries += 1;
            if tries >= cause.tries() {
                break cause;
            }
            if !matches!(cause, Cause::Anew) {
                tokio::time::sleep(pause(options, &cause, tries)).await;
            }
        };
        failures.push((crate::edge::http::shown(url), cause));
    }
    let Some((place, cause)) = failures.pop() else { return Err(FetchError::Nowhere { name: download.name.clone() }) };
    let earlier: Vec<String> = failures.iter().map(|(place, cause)| format!(", nor from `{place}` ({cause})")).collect();
    Err(FetchError::Place { name: download.name.clone(), place, earlier: earlier.concat(), cause: Box::new(cause) })
}

/// Returns a download that is in the folder with its promised size; one of another size is removed.
fn present(download: &Download, into: &Path) -> Option<Fetched> {
    let digest = download.digest?;
    let path = into.join(digest.to_string());
    let status = fs::symlink_metadata(&path).ok()?;
    if status.is_file() && download.size.is_none_or(|size| size == status.len()) {
        return Some(Fetched { digest, size: status.len(), new: false });
    }
    let _ = fs::remove_file(&path);
    None
}
