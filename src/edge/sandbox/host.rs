//! Outside the sandbox: starts it, gives it its ids, and speaks with the process inside.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

use super::ladder::{self, Privilege};
use super::wire::{self, Bytes, Channel, Found, Ownership, Reply, Request, Setup};
use super::{End, Feature, Finding, Outcome, Owner, Program, SandboxError, Source, Spec, Stream, Upper, WORKER};
use crate::model::digest::FileDigest;
use crate::model::tree::{Change, Entry, Kind, Origin, TreePath, escape};

/// Takes the content of a file; returns its digest and size.
pub type Store<'a> = &'a mut dyn FnMut(&mut dyn Read, u16) -> io::Result<(FileDigest, u64)>;

/// A tree in which programs run. Dropping it ends all of them.
#[derive(Debug)]
pub struct Sandbox {
    channel: Channel,
    worker: Child,
    privilege: Privilege,
    upper: Upper,
}

impl Sandbox {
    /// Builds the namespaces and mounts and waits until programs can run.
    pub fn start(spec: &Spec) -> Result<Self, SandboxError> {
        let rungs: &[Privilege] = match spec.privilege {
            Some(_) => spec.privilege.as_slice(),
            None if rustix::process::geteuid().is_root() => &[Privilege::Root],
            None if ladder::subordinate_ids().is_ok() => &[Privilege::SubordinateIds, Privilege::SingleId],
            None => &[Privilege::SingleId],
        };
        let mut last = Err(SandboxError::Protocol);
        for &rung in rungs {
            last = Self::start_on(spec, rung);
            // The results are the same on every rung, so that the next may be tried; anything else is told.
            if !matches!(last, Err(SandboxError::Missing { feature: Feature::SubordinateIds | Feature::IdMap, .. })) {
                break;
            }
        }
        last
    }

    fn start_on(spec: &Spec, privilege: Privilege) -> Result<Self, SandboxError> {
        let (ours, theirs) = UnixStream::pair().map_err(local("make a socket"))?;
        let worker = std::process::Command::new(&spec.program)
            .arg(WORKER)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(local("start parvis again for the sandbox"))?;
        // From here on, dropping ends the worker.
        let mut sandbox = Self { channel: Channel::new(ours), worker, privilege, upper: Upper::Memory };
        sandbox.tell(&Request::Setup(Box::new(setup(spec))), &[])?;
        match sandbox.hear()? {
            (Reply::Unmapped, _) => {}
            (reply, _) => return Err(unexpected(reply)),
        }
        if let Err(missing) = pretend(spec, privilege).and_then(|()| ladder::map(sandbox.worker.id(), privilege)) {
            let feature = if privilege == Privilege::SubordinateIds { Feature::SubordinateIds } else { Feature::IdMap };
            let what = format!("give the user namespace its ids: {}", missing.0);
            return Err(SandboxError::Missing { feature, what, cause: io::ErrorKind::PermissionDenied.into() });
        }
        sandbox.tell(&Request::Mapped(privilege), &[])?;
        match sandbox.hear()? {
            (Reply::Ready(upper), _) => sandbox.upper = upper,
            (reply, _) => return Err(unexpected(reply)),
        }
        Ok(sandbox)
    }

    /// Returns the rung that was taken.
    #[must_use]
    pub const fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Returns where what programs write is kept.
    #[must_use]
    pub const fn upper(&self) -> Upper {
        self.upper
    }

    /// Runs a program to its end, and ends whatever it leaves behind.
    pub fn run(&mut self, program: &Program, on_output: &mut dyn FnMut(Stream, &[u8])) -> Result<Outcome, SandboxError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|cause| local("make a pipe")(cause.into()));
        let ((output, output_end), (error, error_end)) = (pipe()?, pipe()?);
        let input = if program.stdin.is_empty() { None } else { Some(in_memory(&program.stdin)?) };
        let bytes = |list: &[Vec<u8>]| list.iter().cloned().map(Bytes).collect();
        let request = Request::Run(wire::Run {
            argv: bytes(&program.argv),
            env: bytes(&program.env),
            cwd: Bytes([b"/", program.cwd.as_bytes()].concat()),
            uid: program.uid,
            gid: program.gid,
            groups: program.groups.clone(),
        });
        let streams: Vec<BorrowedFd<'_>> =
            [Some(&output_end), Some(&error_end), input.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
        self.tell(&request, &streams)?;
        drop((output_end, error_end, input));
        self.follow(program, [output, error], on_output)
    }

    /// Reads what a program says until it has ended.
    fn follow(
        &self,
        program: &Program,
        pipes: [OwnedFd; 2],
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        let deadline = Instant::now().checked_add(program.timeout);
        let [output, error] = pipes.map(|pipe| Some(File::from(pipe)));
        let mut streams = [(Stream::Output, output), (Stream::Error, error)];
        let mut tail = Tail::default();
        let mut left = program.output_limit;
        let mut verdict = None;
        let mut end = None;
        let mut buffer = vec![0_u8; 64 << 10];
        while end.is_none() || streams.iter().any(|(_, pipe)| pipe.is_some()) {
            let wait = deadline.filter(|_| verdict.is_none()).map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if wait == Some(Duration::ZERO) && end.is_none() {
                verdict = Some(End::TimedOut);
                self.tell(&Request::Kill, &[])?;
                continue;
            }
            let ready = self.wait_for(&streams, end.is_none(), wait)?;
            for ((stream, pipe), _) in streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                let read =
                    pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut buffer)).map_err(local("read the output of a program"))?;
                if read == 0 {
                    *pipe = None;
                    continue;
                }
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(read);
                left -= taken as u64;
                tail.push(&buffer[..taken]);
                on_output(*stream, &buffer[..taken]);
                if taken < read && verdict.is_none() {
                    verdict = Some(End::TooMuchOutput);
                    if end.is_none() {
                        self.tell(&Request::Kill, &[])?;
                    }
                }
            }
            if ready[2] {
                end = Some(match self.hear()?.0 {
                    Reply::Exited(code) => End::Exited(code),
                    Reply::Signalled(signal) => End::Signalled(signal),
                    Reply::TooManyProcesses => End::TooManyProcesses,
                    reply => return Err(unexpected(reply)),
                });
            }
        }
        Ok(Outcome { end: verdict.or(end).unwrap_or(End::Signalled(0)), last_lines: tail.lines() })
    }

    /// Waits until one of the two streams or the worker has something to say.
    fn wait_for(
        &self,
        streams: &[(Stream, Option<File>); 2],
        listen: bool,
        wait: Option<Duration>,
    ) -> Result<[bool; 3], SandboxError> {
        let mut ready = [false; 3];
        let mut watched = Vec::with_capacity(3);
        let mut places = Vec::with_capacity(3);
        for (place, (_, pipe)) in streams.iter().enumerate() {
            if let Some(pipe) = pipe {
                watched.push(PollFd::new(pipe, PollFlags::IN));
                places.push(place);
            }
        }
        if listen {
            watched.push(PollFd::new(&self.channel, PollFlags::IN));
            places.push(2);
        }
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut watched, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(ready),
            result => result.map_err(|cause| local("wait for a program")(cause.into()))?,
        };
        for (place, watched) in places.into_iter().zip(watched) {
            ready[place] = !watched.revents().is_empty();
        }
        Ok(ready)
    }

    /// Reads a regular file of the tree, following links inside it; `None` where there is none.
    pub fn read(&mut self, path: &TreePath, limit: u64) -> Result<Option<Vec<u8>>, SandboxError> {
        self.tell(&Request::Read(Bytes(path.as_bytes().to_vec())), &[])?;
        match self.hear()? {
            (Reply::File, mut files) if files.len() == 1 => {
                let mut content = Vec::new();
                let file = File::from(files.remove(0));
                file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(local("read a file of the sandbox"))?;
                if content.len() as u64 > limit {
                    return Err(SandboxError::TooLarge { path: path.clone(), limit });
                }
                Ok(Some(content))
            }
            (Reply::Absent, _) => Ok(None),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Puts a file into the tree, whole or not at all, in place of a file or link; its folder must exist.
    pub fn write(&mut self, path: &TreePath, content: &[u8], mode: u16, uid: u32, gid: u32) -> Result<(), SandboxError> {
        let content = in_memory(content)?;
        self.tell(&Request::Write { path: Bytes(path.as_bytes().to_vec()), mode, uid, gid }, &[content.as_fd()])?;
        match self.hear()? {
            (Reply::Done, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Returns what changed since the start or the last call, removals first, each in the order of the paths.
    ///
    /// `store` takes the content of every file that was written or touched; an entry may be equal to what the caller knows.
    /// Origins are [`Origin::Parvis`]: who ran is the caller's to know.
    pub fn changes(&mut self, store: Store<'_>) -> Result<Vec<Change>, SandboxError> {
        self.tell(&Request::Changes, &[])?;
        let mut changes = Vec::new();
        // The worker goes on to the end whatever happens here; what it says must be heard.
        let mut failed = None;
        loop {
            match self.hear()? {
                (Reply::Change { path, found, mode, uid, gid, mtime, xattrs }, files) if failed.is_none() => {
                    let entry = |kind| Entry {
                        kind,
                        mode,
                        uid,
                        gid,
                        mtime,
                        xattrs: xattrs.into_iter().map(|(name, value)| (name, value.0)).collect(),
                        origin: Origin::Parvis,
                    };
                    match change(&path.0, found, files, mode, entry, store) {
                        Ok(change) => changes.push(change),
                        Err(error) => failed = Some(error),
                    }
                }
                (Reply::Change { .. }, _) => {}
                (Reply::End, _) => return failed.map_or(Ok(changes), Err),
                (reply, _) => return Err(unexpected(reply)),
            }
        }
    }

    /// Ends everything, and waits until nothing is left of it.
    pub fn finish(mut self) -> Result<(), SandboxError> {
        self.tell(&Request::Finish, &[])?;
        match self.hear()? {
            (Reply::Done, _) => {}
            (reply, _) => return Err(unexpected(reply)),
        }
        self.worker.wait().map(drop).map_err(local("wait for the end of the sandbox"))
    }

    fn tell(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        match self.channel.send(request, descriptors) {
            // Why the worker went away may still be in the socket: the next `hear` tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(SandboxError::Died),
        }
    }

    fn hear(&self) -> Result<(Reply, Vec<OwnedFd>), SandboxError> {
        self.channel.receive().map_err(SandboxError::Died)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.channel.close();
        // The worker ends with its socket; waiting leaves no zombie, and no mount on a folder that is removed next.
        let _ = self.worker.wait();
    }
}

fn local(what: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |cause| SandboxError::Local { what, cause }
}

fn unexpected(reply: Reply) -> SandboxError {
    let Reply::Failed { feature, what, errno } = reply else { return SandboxError::Protocol };
    let cause = io::Error::from_raw_os_error(errno);
    match feature {
        Some(feature) => SandboxError::Missing { feature, what, cause },
        None => SandboxError::Refused { what, cause },
    }
}

fn pretend(spec: &Spec, privilege: Privilege) -> Result<(), ladder::Missing> {
    match spec.without {
        Some(Feature::SubordinateIds) if privilege == Privilege::SubordinateIds => {
            Err(ladder::Missing("there are none".to_owned()))
        }
        Some(Feature::IdMap) => Err(ladder::Missing("it may not be written".to_owned())),
        _ => Ok(()),
    }
}

/// Puts bytes where a descriptor can carry them, whatever their number.
fn in_memory(content: &[u8]) -> Result<OwnedFd, SandboxError> {
    let file = memfd_create("parvis", MemfdFlags::CLOEXEC).map_err(|cause| local("hold a file in memory")(cause.into()))?;
    let mut file = File::from(file);
    file.write_all(content).and_then(|()| file.rewind()).map_err(local("hold a file in memory"))?;
    Ok(file.into())
}

fn setup(spec: &Spec) -> Setup {
    let path = |path: &Path| Bytes(path.as_os_str().as_bytes().to_vec());
    let source = match &spec.source {
        Source::Layers(folders) => wire::Source::Layers(folders.iter().map(|folder| path(folder)).collect()),
        Source::Copy(folder) => wire::Source::Copy(path(folder)),
    };
    let ownership = |owner: &Owner| Ownership {
        path: Bytes(owner.path.as_bytes().to_vec()),
        uid: owner.uid,
        gid: owner.gid,
        mode: owner.mode,
        xattrs: owner.xattrs.iter().map(|(name, value)| (name.clone(), Bytes(value.clone()))).collect(),
    };
    Setup {
        source,
        scratch: path(&spec.scratch),
        on_disk: spec.on_disk,
        owners: spec.owners.iter().map(ownership).collect(),
        shims: spec.shims.iter().map(|(path, content)| (Bytes(path.as_bytes().to_vec()), Bytes(content.clone()))).collect(),
        natives: spec.natives,
        loopback: spec.loopback,
        processes: spec.limits.processes,
        bytes: spec.limits.bytes,
        without: spec.without,
    }
}

fn change(
    path: &[u8],
    found: Found,
    files: Vec<OwnedFd>,
    mode: u16,
    entry: impl FnOnce(Kind) -> Entry,
    store: Store<'_>,
) -> Result<Change, SandboxError> {
    let path = TreePath::parse(path).map_err(|_| SandboxError::Path(escape(path)))?;
    let kind = match found {
        Found::Remove => return Ok(Change::Remove(path)),
        Found::Directory => Kind::Directory,
        Found::Symlink(target) => Kind::Symlink { target: target.0.into() },
        Found::File { shared } => {
            let mut file = files.into_iter().next().map(File::from).ok_or(SandboxError::Protocol)?;
            let (digest, size) = store(&mut file, mode).map_err(local("store a file of the sandbox"))?;
            Kind::File { digest, size, shared }
        }
    };
    Ok(Change::Put(path, entry(kind)))
}

/// The end of what a program said, bounded in lines and bytes.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
}

const TAIL_BYTES: usize = 16 << 10;
const TAIL_LINES: usize = 20;
const TAIL_COLUMNS: usize = 400;

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
    }

    fn lines(self) -> Vec<String> {
        let bytes = Vec::from(self.bytes);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let printable =
            |line: &&str| line.chars().take(TAIL_COLUMNS).map(|char| if is_plain(char) { char } else { '\u{fffd}' }).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(printable).collect()
    }
}

/// Returns whether a character neither moves the cursor nor turns the writing direction.
fn is_plain(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || char == '\t'
}

/// Tries every rung on this machine, with an existing empty folder as scratch.
#[must_use]
pub fn probe(program: &Path, scratch: &Path) -> Vec<Finding> {
    let root = rustix::process::geteuid().is_root();
    let rungs: &[Privilege] = if root { &[Privilege::Root] } else { &[Privilege::SubordinateIds, Privilege::SingleId] };
    rungs.iter().map(|rung| find(program, scratch, *rung)).collect()
}

fn find(program: &Path, scratch: &Path, rung: Privilege) -> Finding {
    let name = match rung {
        Privilege::Root => "sandbox as root",
        Privilege::SubordinateIds => "sandbox with subordinate ids",
        Privilege::SingleId => "sandbox with a single id",
    };
    let mut spec = Spec::new(Source::Layers(Vec::new()), scratch.to_owned());
    program.clone_into(&mut spec.program);
    spec.privilege = Some(rung);
    match Sandbox::start(&spec) {
        Ok(sandbox) => {
            let detail = match sandbox.upper() {
                Upper::Memory => "scripts write in memory",
                Upper::Disk => "scripts write on disk, for this kernel's tmpfs has no extended attributes",
                Upper::Copy => "scripts write in a copy of the tree",
            };
            Finding { name, available: true, detail: detail.to_owned(), advice: None }
        }
        Err(error) => {
            let advice = if let SandboxError::Missing { feature, .. } = &error { Some(feature.advice()) } else { None };
            Finding { name, available: false, detail: described(&error), advice }
        }
    }
}

/// Returns an error with its causes on one line.
fn described(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", described(source)))
}
