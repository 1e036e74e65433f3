//! The native programs inside a sandbox: scripts that have one get another interpreter, which asks process 1 before all else.
//!
//! Such a script keeps its text, its path and its dates; only its first line names a program in [`AS`] in place of its interpreter.
//! That program asks over [`SOCKET`], and without an answer becomes the interpreter. `src/edge/sandbox/shim.c` is its source and
//! says how the two speak. A script started where `/run` is another one, as by chroot(1), finds no interpreter.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps, futimens, openat2};
use rustix::net::sockopt::socket_peercred;

use super::native::{self, Call, ORIGINALS, Reply};
use super::owners;
use super::wire::Setup;

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim"));
const FOLDER: &str = "/run/parvis";
const SOCKET: &str = "/run/parvis/native";
/// Below it lies what stands in for an interpreter, at the interpreter's own path.
const AS: &str = "/run/parvis/as";
/// How a script begins that has another interpreter.
const BEGINNING: &[u8] = b"#!/run/parvis/as/";

/// No script that is known is near this size.
const LARGEST: u64 = 1 << 20;
/// The longest question.
const LONGEST: usize = 1 << 20;
/// How long one caller may take to ask or to listen; nothing else is done meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// A script that gets another interpreter.
#[derive(Debug)]
pub struct Cover {
    /// Where it lies, without a slash at its start.
    pub path: &'static str,
    interpreter: String,
    original: Vec<u8>,
    modified: Timespec,
}

impl Cover {
    /// Returns the scripts of the tree that native programs may answer for.
    pub fn find(setup: &Setup, lower: &[OwnedFd]) -> io::Result<Vec<Self>> {
        let mut covers: Vec<Self> = Vec::new();
        if !setup.natives || PROGRAM.is_empty() {
            return Ok(covers);
        }
        for program in native::programs() {
            let path = program.original.path.trim_start_matches('/');
            // What needs an owner set, or lies under another shim, is not as it usually is.
            let special = setup.owners.iter().any(|owner| owner.path.0 == path.as_bytes())
                || setup.shims.iter().any(|(shim, _)| shim.0 == path.as_bytes());
            if special || covers.iter().any(|cover| cover.path == path) {
                continue;
            }
            covers.extend(Self::take(lower, path)?);
        }
        Ok(covers)
    }

    /// Takes the topmost file at a path, where it is an ordinary script.
    fn take(lower: &[OwnedFd], path: &'static str) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for folder in lower {
            let file = match openat2(folder, path, flags, Mode::empty(), how) {
                Ok(file) => File::from(file),
                Err(rustix::io::Errno::NOENT) => continue,
                // A link, or a mark that what lies below is gone.
                Err(_) => return Ok(None),
            };
            let about = file.metadata()?;
            if !about.is_file() || about.mode() & 0o7777 != 0o755 || about.len() > LARGEST {
                return Ok(None);
            }
            let mut original = Vec::new();
            file.take(LARGEST).read_to_end(&mut original)?;
            let modified = Timespec { tv_sec: about.mtime(), tv_nsec: about.mtime_nsec() };
            return Ok(interpreter(&original).map(|interpreter| Self { path, interpreter, original, modified }));
        }
        Ok(None)
    }

    /// Returns the script with the other interpreter.
    pub fn text(&self) -> Vec<u8> {
        let rest = self.original.iter().position(|byte| *byte == b'/').unwrap_or(0);
        [b"#!", AS.as_bytes(), &self.original[rest..]].concat()
    }

    /// Gives the covering file the date of what it covers.
    pub fn date(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(futimens(file, &Timestamps { last_access: self.modified, last_modification: self.modified })?)
    }
}

/// Returns the interpreter that a script's first line names.
fn interpreter(script: &[u8]) -> Option<String> {
    let line = script.split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let name = line.split(u8::is_ascii_whitespace).next()?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(byte);
    let usual = name.starts_with(b"/") && name.iter().all(plain) && !name.ends_with(b"/") && line.len() < 100;
    let name = String::from_utf8(name.to_vec()).ok().filter(|_| usual)?;
    name.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")).then_some(name)
}

/// Returns a file of the tree as it would be without this: a copy of a covered script names its interpreter again.
pub fn restored(file: OwnedFd) -> io::Result<OwnedFd> {
    let mut file = File::from(file);
    let mut beginning = [0; BEGINNING.len()];
    if file.read_exact_at(&mut beginning, 0).is_err() || beginning != BEGINNING {
        return Ok(file.into());
    }
    let memory = rustix::fs::memfd_create("parvis", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut copy = File::from(memory);
    copy.write_all(b"#!")?;
    file.seek(io::SeekFrom::Start((b"#!".len() + AS.len()) as u64))?;
    io::copy(&mut file, &mut copy)?;
    copy.rewind()?;
    Ok(copy.into())
}

/// Where callers are heard.
#[derive(Debug)]
pub struct Hook {
    listener: UnixListener,
    /// What every covering file looks like while nobody has changed it.
    covers: BTreeMap<&'static str, Stamp>,
}

type Stamp = [i128; 7];

fn stamp(about: &Metadata) -> Stamp {
    let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()].map(i128::from);
    [about.dev().into(), about.ino().into(), about.size().into(), times[0], times[1], times[2], times[3]]
}

impl Hook {
    /// Lays what the covering scripts need into `/run`. This process must be in the tree.
    pub fn new(covers: &[Cover]) -> io::Result<Option<Self>> {
        if covers.is_empty() {
            return Ok(None);
        }
        for folder in [FOLDER, ORIGINALS, AS] {
            fs::create_dir_all(folder)?;
        }
        let mut stamps = BTreeMap::new();
        for cover in covers {
            let stand_in = format!("{AS}{}", cover.interpreter);
            fs::create_dir_all(Path::new(&stand_in).parent().unwrap_or(Path::new(AS)))?;
            executable(&stand_in, PROGRAM)?;
            let path = format!("/{}", cover.path);
            stamps.insert(cover.path, stamp(&fs::symlink_metadata(path)?));
            for program in native::programs().iter().filter(|program| program.original.path.trim_start_matches('/') == cover.path)
            {
                executable(&format!("{ORIGINALS}/{}", program.name), &cover.original)?;
            }
        }
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self { listener, covers: stamps }))
    }

    /// Hears one caller. Whatever goes wrong, the caller learns of it by the closed socket and runs the script.
    pub fn serve(&self, single: bool) {
        let Ok((socket, _)) = self.listener.accept() else { return };
        let _ = converse(&socket, |question| {
            let peer = socket_peercred(&socket).ok()?;
            let is_root = peer.uid.is_root() && peer.gid.is_root() && (!single || owners::is_root(peer.pid));
            if is_root { self.answer(question) } else { None }
        });
    }

    /// Forgets those who asked and are dead by now.
    pub fn forget(&self) {
        while self.listener.accept().is_ok() {}
    }

    fn answer(&self, question: &Question) -> Option<Reply> {
        let name = std::str::from_utf8(question.path.rsplit(|byte| *byte == b'/').next()?).ok()?;
        let program = native::programs().iter().find(|program| program.name == name)?;
        let expected = self.covers.get(program.original.path.trim_start_matches('/'))?;
        let path = Path::new(std::ffi::OsStr::from_bytes(&question.path));
        // What was asked for has to be what was laid there, and not what somebody made of it.
        if !path.is_absolute() || stamp(&fs::metadata(path).ok()?) != *expected {
            return None;
        }
        let Question { folder, umask, arguments, environment, .. } = question;
        native::answer(Path::new("/"), &Call { program: name, arguments, environment, folder, umask: *umask })
    }
}

impl AsFd for Hook {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn executable(path: &str, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What a caller asks.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    umask: u32,
    path: Vec<u8>,
    folder: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Question {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (numbers, text) = bytes.split_first_chunk::<12>()?;
        let number = |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        let (umask, arguments, variables) = (number(0), number(4), number(8));
        let mut texts = text.strip_suffix(&[0])?.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let (path, folder) = (texts.next()?, texts.next()?);
        let rest: Vec<Vec<u8>> = texts.collect();
        let (arguments, variables) = (usize::try_from(arguments).ok()?, usize::try_from(variables).ok()?);
        if arguments.checked_add(variables)? != rest.len() {
            return None;
        }
        let (arguments, variables) = rest.split_at_checked(arguments)?;
        let pair = |variable: &Vec<u8>| {
            let equals = variable.iter().position(|byte| *byte == b'=')?;
            Some((variable[..equals].to_vec(), variable[equals + 1..].to_vec()))
        };
        let environment = variables.iter().map(pair).collect::<Option<_>>()?;
        Some(Self { umask, path, folder, arguments: arguments.to_vec(), environment })
    }
}

/// Reads a question and sends the answer, all within a fixed time.
fn converse(socket: &UnixStream, answer: impl FnOnce(&Question) -> Option<Reply>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut length = [0; 4];
    read_until(socket, &mut length, deadline)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST + 12 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut question = vec![0; length];
    read_until(socket, &mut question, deadline)?;
    let question = Question::parse(&question).ok_or(io::ErrorKind::InvalidData)?;
    let mut message = vec![0; 12];
    if let Some(Reply { code, stdout, stderr }) = answer(&question) {
        let length = |text: &[u8]| u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidData).map(u32::to_le_bytes);
        message[..2].copy_from_slice(&[1, code]);
        message[4..8].copy_from_slice(&length(&stdout)?);
        message[8..].copy_from_slice(&length(&stderr)?);
        message.extend([stdout, stderr].concat());
    }
    let mut left = &*message;
    while !left.is_empty() {
        socket.set_write_timeout(Some(remaining(deadline)?))?;
        let written = retried((&mut &*socket).write(left))?;
        left = &left[written..];
    }
    Ok(())
}

fn read_until(socket: &UnixStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        match (&mut &*socket).read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            result => {
                let read = retried(result)?;
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}

/// Takes an interrupted call for one that moved nothing.
fn retried(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        result => result,
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()).ok_or(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &[u8], arguments: u32, variables: u32) -> Vec<u8> {
        [&0o22_u32.to_le_bytes(), &arguments.to_le_bytes(), &variables.to_le_bytes(), text].concat()
    }

    #[test]
    fn a_question_is_answered_over_the_socket_or_left_to_the_script() {
        for reply in [Some(Reply { code: 3, stdout: b"out".to_vec(), stderr: b"error".to_vec() }), None] {
            let (here, there) = UnixStream::pair().unwrap();
            let body = question(b"/usr/bin/ucf\0/root\0-q\0a b\0\0A=1=2\0B=\0", 3, 2);
            (&here).write_all(&[&u32::try_from(body.len()).unwrap().to_le_bytes(), &*body].concat()).unwrap();
            let mut asked = None;
            let found = reply.is_some();
            converse(&there, |question| {
                assert_eq!((question.umask, &*question.path, &*question.folder), (0o22, &b"/usr/bin/ucf"[..], &b"/root"[..]));
                assert_eq!(question.arguments, [&b"-q"[..], b"a b", b""]);
                asked = Some(question.environment.clone());
                reply
            })
            .unwrap();
            assert_eq!(asked.unwrap(), [(b"A".to_vec(), b"1=2".to_vec()), (b"B".to_vec(), Vec::new())]);
            drop(there);
            let mut said = Vec::new();
            (&here).read_to_end(&mut said).unwrap();
            let expected: &[u8] = if found { b"\x01\x03\0\0\x03\0\0\0\x05\0\0\0outerror" } else { &[0; 12] };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_question_that_is_not_whole_is_no_question() {
        let good = question(b"/x\0/\0a\0A=1\0", 1, 1);
        assert!(Question::parse(&good).is_some());
        for odd in [
            question(b"/x\0/\0a\0A=1", 1, 1),
            question(b"/x\0/\0a\0A=1\0", 2, 1),
            question(b"/x\0/\0a\0A=1\0", u32::MAX, 3),
            question(b"/x\0/\0a\0A\0", 1, 1),
            question(b"/x\0", 0, 0),
            question(b"", 0, 0),
            vec![0; 11],
        ] {
            assert_eq!(Question::parse(&odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_caller_that_hangs_or_asks_too_much_is_left_alone() {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(&[9, 0, 0, 0, 1]).unwrap();
        let start = Instant::now();
        assert!(converse(&there, |_| panic!("nothing was asked")).is_err());
        assert!((1.9..5.0).contains(&start.elapsed().as_secs_f64()));
        (&here).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(converse(&there, |_| panic!("nothing was asked")).is_err());
    }

    #[test]
    fn a_script_gets_another_interpreter_and_its_own_back() {
        for (first, expected) in [
            ("#!/bin/sh", Some("#!/run/parvis/as/bin/sh")),
            ("#!/usr/bin/perl -w", Some("#!/run/parvis/as/usr/bin/perl -w")),
            ("#!/usr/bin/env perl", Some("#!/run/parvis/as/usr/bin/env perl")),
            ("#!sh", None),
            ("#! /bin/sh", None),
            ("#!", None),
            ("#!/", None),
            ("#!/../bin/sh", None),
            ("\x7fELF", None),
        ] {
            let original = format!("{first}\necho text\n").into_bytes();
            let found = interpreter(&original);
            assert_eq!(found.is_some(), expected.is_some(), "{first}");
            let (Some(interpreter), Some(expected)) = (found, expected) else { continue };
            let modified = Timespec { tv_sec: 0, tv_nsec: 0 };
            let text = Cover { path: "x", interpreter, original: original.clone(), modified }.text();
            assert_eq!(String::from_utf8_lossy(&text), format!("{expected}\necho text\n"));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&text).unwrap();
            let mut back = Vec::new();
            File::from(restored(file.into()).unwrap()).read_to_end(&mut back).unwrap();
            assert_eq!(back, original);
        }
    }
}
