//! Compression whose bytes depend on nothing but the input: blocks of 1 MiB, each compressed by itself.
//!
//! A layer blob is a row of gzip members or zstd frames. Both formats define the concatenation of compressed files as
//! the compression of their concatenation (RFC 1952, section 2.2; RFC 8878, section 3), so pieces that were compressed
//! once can be put together again, and several threads can work on one layer.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes of input in a member; the last one of a piece may have fewer.
pub const BLOCK: usize = 1 << 20;

const GZIP_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Compressor {
    /// What every engine loads.
    #[default]
    Gzip,
    /// Smaller and faster; Docker before 23 cannot load it.
    Zstd,
}

/// A compression that parvis does not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression of layers: `gzip` or `zstd`")]
pub struct UnknownCompressor(String);

impl Compressor {
    /// Returns the media type of a layer (OCI image-spec, layer).
    #[must_use]
    pub const fn layer_media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compressor {
    type Err = UnknownCompressor;

    fn from_str(text: &str) -> Result<Self, UnknownCompressor> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(UnknownCompressor(text.chars().take(40).flat_map(char::escape_debug).collect())),
        }
    }
}

/// Compresses single blocks.
enum Encoder {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compressor: Compressor) -> io::Result<Self> {
        Ok(match compressor {
            Compressor::Gzip => {
                let level = libdeflater::CompressionLvl::new(GZIP_LEVEL).map_err(|_| io::Error::other("no such level"))?;
                Self::Gzip(libdeflater::Compressor::new(level))
            }
            Compressor::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }

    fn member(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                let mut member = vec![0; encoder.gzip_compress_bound(block.len())];
                let length = encoder.gzip_compress(block, &mut member).map_err(io::Error::other)?;
                member.truncate(length);
                Ok(member)
            }
            Self::Zstd(encoder) => encoder.compress(block),
        }
    }
}

/// Compresses what is written to it, on its own thread or on those of a [`Pool`]: the bytes are the same.
pub struct MemberWriter<'pool, W> {
    out: W,
    block: Vec<u8>,
    backend: Backend<'pool>,
}

enum Backend<'pool> {
    Alone(Box<Encoder>),
    Pooled { pool: &'pool Pool, waiting: VecDeque<Receiver<io::Result<Vec<u8>>>> },
}

impl<W: Write> MemberWriter<'static, W> {
    /// Starts a piece that is compressed on the thread that writes it.
    pub fn new(out: W, compressor: Compressor) -> io::Result<Self> {
        Ok(Self { out, block: Vec::new(), backend: Backend::Alone(Box::new(Encoder::new(compressor)?)) })
    }
}

impl<'pool, W: Write> MemberWriter<'pool, W> {
    /// Starts a piece that is compressed on the threads of a pool. At most `2 × threads` blocks are in memory.
    pub fn pooled(out: W, pool: &'pool Pool) -> Self {
        Self { out, block: Vec::new(), backend: Backend::Pooled { pool, waiting: VecDeque::new() } }
    }

    /// Ends the member that is being filled, so that what follows is independent of what came before.
    pub fn end_member(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        match &mut self.backend {
            Backend::Alone(encoder) => {
                let member = encoder.member(&self.block)?;
                self.block.clear();
                self.out.write_all(&member)
            }
            Backend::Pooled { pool, waiting } => {
                let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
                let (answer, answered) = channel();
                pool.jobs.send(Job { block, answer }).map_err(|_| stopped())?;
                waiting.push_back(answered);
                if waiting.len() > 2 * pool.threads {
                    write_first(waiting, &mut self.out)?;
                }
                Ok(())
            }
        }
    }

    /// Ends the piece and returns what was written to. Nothing written gives no bytes at all.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_member()?;
        if let Backend::Pooled { waiting, .. } = &mut self.backend {
            while !waiting.is_empty() {
                write_first(waiting, &mut self.out)?;
            }
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for MemberWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.end_member()?;
        }
        Ok(taken)
    }

    /// Does nothing: a flush must not move the bounds of the members.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_first<W: Write>(waiting: &mut VecDeque<Receiver<io::Result<Vec<u8>>>>, out: &mut W) -> io::Result<()> {
    match waiting.pop_front() {
        Some(answered) => out.write_all(&answered.recv().map_err(|_| stopped())??),
        None => Ok(()),
    }
}

fn stopped() -> io::Error {
    io::Error::other("a compressing thread has stopped")
}

struct Job {
    block: Vec<u8>,
    answer: Sender<io::Result<Vec<u8>>>,
}

/// Threads that compress blocks for any number of writers.
pub struct Pool {
    threads: usize,
    jobs: SyncSender<Job>,
}

impl Pool {
    /// Runs something with a pool of this many threads, which end with it.
    pub fn with<T>(compressor: Compressor, threads: usize, body: impl FnOnce(&Self) -> T) -> T {
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(compressor, &queue));
            }
            // The pool owns the only sender: when the body is done the threads see the end of the queue.
            let pool = Self { threads, jobs };
            let result = body(&pool);
            drop(pool);
            result
        })
    }
}

fn work(compressor: Compressor, queue: &Mutex<Receiver<Job>>) {
    let mut encoder = Encoder::new(compressor);
    loop {
        let Ok(Ok(job)) = queue.lock().map(|queue| queue.recv()) else { return };
        let member = match &mut encoder {
            Ok(encoder) => encoder.member(&job.block),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // A writer that gave up does not wait for its members any more.
        let _ = job.answer.send(member);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Bytes that compress somewhat and repeat nowhere at a block's bound.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"parvis\n "[usize::try_from(state >> 29).unwrap()]
        };
        (0..length).map(next).collect()
    }

    fn alone(compressor: Compressor, input: &[u8], step: usize) -> Vec<u8> {
        let mut writer = MemberWriter::new(Vec::new(), compressor).unwrap();
        for piece in input.chunks(step) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_threads_or_on_the_size_of_writes() {
        let input = sample(3 * BLOCK + 4321);
        for compressor in [Compressor::Gzip, Compressor::Zstd] {
            let expected = alone(compressor, &input, usize::MAX);
            assert_eq!(alone(compressor, &input, 65_537), expected);
            for threads in [1, 2, 5] {
                let found = Pool::with(compressor, threads, |pool| {
                    let mut writer = MemberWriter::pooled(Vec::new(), pool);
                    for piece in input.chunks(77_777) {
                        writer.write_all(piece).unwrap();
                    }
                    writer.finish().unwrap()
                });
                assert!(found == expected, "{compressor} with {threads} threads");
            }
        }
    }

    #[test]
    fn what_is_compressed_reads_back() {
        let input = sample(2 * BLOCK + 1);
        let mut found = Vec::new();
        flate2::read::MultiGzDecoder::new(&alone(Compressor::Gzip, &input, 999)[..]).read_to_end(&mut found).unwrap();
        assert!(found == input);
        assert!(zstd::decode_all(&alone(Compressor::Zstd, &input, 999)[..]).unwrap() == input);
    }

    #[test]
    fn the_header_of_a_member_tells_neither_time_nor_system() {
        assert_eq!(alone(Compressor::Gzip, b"x", 1)[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }

    /// A change of these digests is a change of every image: it needs another number in the lock (`WRITER`).
    #[test]
    fn the_bytes_are_those_of_the_writers_that_the_lock_names() {
        use crate::model::digest::BlobDigest;
        let input = sample(BLOCK + 100_000);
        let digests =
            [Compressor::Gzip, Compressor::Zstd].map(|compressor| BlobDigest::of(&alone(compressor, &input, 4096)).hex());
        let gzip = "d5dbe49b41028111dca3687f5ce607c99462cb456097cb00ec32c11f110222b5";
        let zstd = "321e03b996937dcde5875b28241af49053581a3a800acf39ca6c69faeff56628";
        assert_eq!(digests, [gzip, zstd]);
    }

    #[test]
    fn nothing_gives_no_member() {
        assert!(alone(Compressor::Gzip, b"", 1).is_empty());
    }
}
