//! Inside the sandbox: the process that builds it, is its process 1, and starts every program.

use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, renameat, unlinkat};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, pidfd_open,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit, wait, waitpid,
};
use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set};

use super::changes::Scanner;
use super::hook::{self, Hook};
use super::mounts::{self, SetupError, Step as _};
use super::owners::{self, Links};
use super::wire::{self, Bytes, Channel, Reply, Request, Run, Setup};
use super::{Feature, Privilege, Upper, seccomp, sys};

/// Carries out what the other end of standard input asks, until it goes away.
pub fn main() -> ! {
    let code = match converse() {
        Ok(()) => 0,
        Err(error) => {
            // Whoever started this learns of it by the closed socket.
            drop(error);
            1
        }
    };
    std::process::exit(code)
}

fn converse() -> io::Result<()> {
    let socket = sys::take_standard_input()?;
    sys::close_inherited(socket.as_fd())?;
    // A signal from the terminal is for parvis, which then closes the socket.
    let _ = rustix::process::setsid();
    let channel = Channel::new(UnixStream::from(socket));
    let (Request::Setup(setup), _) = channel.receive()? else { return Err(io::ErrorKind::InvalidData.into()) };
    match build(&channel, &setup) {
        Ok(Some(privilege)) => first_process(&channel, &setup, privilege),
        Ok(None) => Ok(()),
        Err(error) => refuse(&channel, &error),
    }
}

fn refuse(channel: &Channel, error: &SetupError) -> io::Result<()> {
    let SetupError { feature, what, cause } = error;
    channel.send(&Reply::Failed { feature: *feature, what: what.clone(), errno: cause.raw_os_error().unwrap_or(0) }, &[])
}

/// Makes the namespaces; returns in process 1 of the new ones, and, with `None`, in its parent once all is over.
fn build(channel: &Channel, setup: &Setup) -> Result<Option<Privilege>, SetupError> {
    let pretend = |feature| match setup.without {
        Some(missing) if missing == feature => Err(io::Error::from_raw_os_error(libc::EPERM)),
        _ => Ok(()),
    };
    pretend(Feature::UserNamespace)
        .and_then(|()| sys::unshare(UnshareFlags::NEWUSER))
        .step(Feature::UserNamespace, "make a user namespace")?;
    channel.send(&Reply::Unmapped, &[]).step(None, "ask for the ids")?;
    let (Request::Mapped(privilege), _) = channel.receive().step(None, "wait for the ids")? else {
        return Err(io::Error::from(io::ErrorKind::InvalidData)).step(None, "wait for the ids");
    };
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    pretend(Feature::Namespaces)
        .and_then(|()| sys::unshare(flags))
        .step(Feature::Namespaces, "make the mount, process, network, ipc and host name namespaces")?;
    // Only what `/proc/self/cgroup` shows depends on it, and old kernels lack it.
    let _ = sys::unshare(UnshareFlags::NEWCGROUP);
    if privilege != Privilege::SingleId {
        rustix::thread::set_thread_groups(&[]).step(Feature::IdMap, "leave the groups of the host")?;
    }
    rustix::system::sethostname(b"localhost").step(Feature::Namespaces, "set the host name")?;
    match sys::fork().step(None, "start the first process")? {
        None => Ok(Some(privilege)),
        Some(child) => {
            let _ = waitpid(Some(child), WaitOptions::empty());
            Ok(None)
        }
    }
}

/// What docker leaves to a container, without devices and the network.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

struct Worker<'a> {
    channel: &'a Channel,
    setup: &'a Setup,
    single: bool,
    root: OwnedFd,
    null: OwnedFd,
    scanner: Scanner,
    links: Links,
    /// What answers programs where one id is mapped.
    owners: Option<Registrar>,
    /// What answers scripts that have a native program.
    hook: Option<Hook>,
}

/// The means of answering calls about owners.
struct Registrar {
    filter: Vec<sys::Instruction>,
    /// A program about to start sends its listener through the second.
    sockets: (UnixStream, UnixStream),
}

fn first_process(channel: &Channel, setup: &Setup, privilege: Privilege) -> io::Result<()> {
    let single = privilege == Privilege::SingleId;
    match prepare(channel, setup, single) {
        Ok((mut worker, upper)) => {
            channel.send(&Reply::Ready(upper), &[])?;
            // However the conversation ends: parvis may have been killed in the middle of anything.
            let served = worker.serve();
            worker.leave().and(served)
        }
        Err(error) => refuse(channel, &error),
    }
}

fn prepare<'a>(channel: &'a Channel, setup: &'a Setup, single: bool) -> Result<(Worker<'a>, Upper), SetupError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(None, "be bound to parvis")?;
    rustix::process::umask(Mode::from(0));
    if setup.loopback {
        sys::raise_loopback().step(Feature::Namespaces, "raise the loopback interface")?;
        // As in a container of Docker since 20.10 and of Podman: every port is open to everyone. Written while `/proc` is the host's,
        // where this path is still that of the own network. Where it is read-only, as in a container, a server on a low port says so.
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    }
    let (layers, links, upper, covers) = mounts::enter(setup, single)?;
    rustix::process::umask(Mode::from(0o022));
    let hook = Hook::new(&covers).step(None, "lay out the native programs")?;
    limit(setup).step(None, "set the limits")?;
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step(None, "open /dev/null")?;
    for standard in [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout] {
        standard(&null).step(None, "let go of the host's streams")?;
    }
    for number in 0..64 {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else { continue };
        if !CAPABILITIES.contains(capability) {
            // What this kernel does not know, nobody has.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // Programs inside have this process's user id: they must not look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(None, "close process 1")?;
    if setup.without == Some(Feature::Seccomp) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL)).step(Feature::Seccomp, "install the filter of system calls");
    }
    sys::install_filter(&seccomp::forbid()).step(Feature::Seccomp, "install the filter of system calls")?;
    let root = openat(CWD, "/", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(None, "open the tree")?;
    let scanner = Scanner::new(layers, single).step(None, "look at the tree")?;
    let owners = if single { Some(registrar(setup)?) } else { None };
    Ok((Worker { channel, setup, single, root, null, scanner, links, owners, hook }, upper))
}

fn registrar(setup: &Setup) -> Result<Registrar, SetupError> {
    if setup.without == Some(Feature::Notification) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL)).step(Feature::Notification, "answer changes of owner");
    }
    let sockets = UnixStream::pair().step(None, "make a socket")?;
    sockets.0.set_nonblocking(true).step(None, "make a socket")?;
    Ok(Registrar { filter: seccomp::ask(), sockets })
}

/// Sets the limits that every program inherits, the same on every machine where it may.
fn limit(setup: &Setup) -> io::Result<()> {
    let set = |resource, soft: u64, hard: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) })
    };
    set(Resource::Core, 0, 0)?;
    set(Resource::Nofile, 1024, 4096)?;
    set(Resource::Stack, 8 << 20, u64::MAX)?;
    set(Resource::Fsize, setup.bytes, setup.bytes)?;
    // A brake that the root user is exempt from. The watch in `wait` is the limit, whatever the kernel.
    let processes = u64::from(setup.processes).saturating_add(16);
    Ok(set(Resource::Nproc, processes, processes)?)
}

/// How often the number of processes is looked at while a program runs.
const PATIENCE: Duration = Duration::from_millis(50);
const WATCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

impl Worker<'_> {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (request, descriptors) = match self.channel.receive() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                result => result?,
            };
            match request {
                Request::Run(run) => self.run(&run, &descriptors)?,
                Request::Read(path) => self.read(&path.0)?,
                Request::Write { path, mode, uid, gid } => {
                    let content = descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
                    let result = self.write(&path.0, content, mode, (uid, gid));
                    self.report(&format!("write `/{}`", path.0.escape_ascii()), result)?;
                }
                Request::Changes => self.changes()?,
                Request::Finish => {
                    self.leave()?;
                    return self.channel.send(&Reply::Done, &[]);
                }
                // The program that was to be killed has just ended.
                Request::Kill => {}
                Request::Setup(_) | Request::Mapped(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn report(&self, what: &str, result: io::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => self.channel.send(&Reply::Done, &[]),
            Err(error) => self.fail(what, &error),
        }
    }

    fn fail(&self, what: &str, error: &io::Error) -> io::Result<()> {
        self.fail_for_want_of(None, what, error)
    }

    fn fail_for_want_of(&self, feature: Option<Feature>, what: &str, error: &io::Error) -> io::Result<()> {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.channel.send(&Reply::Failed { feature, what: what.to_owned(), errno }, &[])
    }

    /// Ends all programs, and removes what only this process may remove: files of other ids in the scratch folder.
    fn leave(&self) -> io::Result<()> {
        sys::kill_all();
        match self.scanner.scratch() {
            Some(scratch) => mounts::empty_folder(mounts::fd_path(scratch).as_ref()),
            None => Ok(()),
        }
    }

    fn run(&mut self, run: &Run, streams: &[OwnedFd]) -> io::Result<()> {
        let strings = |list: &[Bytes]| {
            list.iter()
                .map(|text| CString::new(text.0.as_slice()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| io::ErrorKind::InvalidInput)
        };
        let (argv, env, cwd) = (strings(&run.argv)?, strings(&run.env)?, CString::new(run.cwd.0.as_slice())?);
        let candidates = candidates(run)?;
        let [output, error, input @ ..] = streams else { return Err(io::ErrorKind::InvalidData.into()) };
        let input = input.first().unwrap_or(&self.null);
        let started = sys::spawn(&sys::Spawn {
            candidates: &candidates,
            argv: &argv,
            env: &env,
            cwd: &cwd,
            ids: if self.single { None } else { Some((run.uid, run.gid, &run.groups)) },
            streams: [input.as_fd(), output.as_fd(), error.as_fd()],
            number: if self.single { Some(owners::number(run.uid, run.gid)?) } else { None },
            notify: self.owners.as_ref().map(|owners| (owners.filter.as_slice(), owners.sockets.1.as_fd())),
        });
        let listener = self.owners.as_ref().and_then(|owners| wire::receive_descriptor(&owners.sockets.0));
        match started {
            Ok(pid) => {
                let reply = self.wait(pid, listener)?;
                self.channel.send(&reply, &[])
            }
            Err(error) => {
                let name = run.argv.first().map(|name| name.0.escape_ascii().to_string()).unwrap_or_default();
                let folder = run.cwd.0.escape_ascii();
                let what = error.what.replace("the folder", &format!("the folder `{folder}`"));
                // The only filter that a program gets of its own is the one whose notifications are answered.
                let feature = (error.what == sys::INSTALL).then_some(Feature::Notification);
                self.fail_for_want_of(feature, &format!("{what} `{name}`"), &error.cause)
            }
        }
    }

    /// Waits for a program, then ends everything that it left behind.
    fn wait(&mut self, program: Pid, mut listener: Option<OwnedFd>) -> io::Result<Reply> {
        let ended = pidfd_open(program, PidfdFlags::empty())?;
        let mut verdict = None;
        let mut status = None;
        let mut looked = Instant::now();
        while status.is_none() {
            let mut watched = vec![PollFd::new(&ended, PollFlags::IN), PollFd::new(self.channel, PollFlags::IN)];
            watched.extend(self.hook.iter().map(|hook| PollFd::new(hook, PollFlags::IN)));
            let place = watched.len();
            watched.extend(listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
            match poll(&mut watched, Some(&WATCH)) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let (told, asked) =
                (!watched[1].revents().is_empty(), watched.get(place).map_or(PollFlags::empty(), PollFd::revents));
            let called = self.hook.as_ref().filter(|_| watched[2].revents().contains(PollFlags::IN));
            if let Some(hook) = called {
                hook.serve(self.single);
            }
            if asked.contains(PollFlags::IN)
                && let Some(listener) = &listener
            {
                owners::answer(listener.as_fd(), &mut self.links)?;
            }
            if asked.contains(PollFlags::IN) || called.is_some() {
                // Answers are many: the rest waits for a pause, but not for long.
                if !told && watched[0].revents().is_empty() && looked.elapsed() < PATIENCE {
                    continue;
                }
            }
            if !asked.is_empty() && !asked.contains(PollFlags::IN) {
                listener = None;
            }
            if told {
                match self.channel.receive()?.0 {
                    Request::Kill => sys::kill_all(),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            while let Ok(Some((pid, found))) = wait(WaitOptions::NOHANG) {
                if pid == program {
                    status = Some(found);
                }
            }
            looked = Instant::now();
            if status.is_none() && process_count()? > self.setup.processes as usize {
                verdict = Some(Reply::TooManyProcesses);
                sys::kill_all();
            }
        }
        let reply = outcome(status);
        // A program that the brake on processes made fail ends before the watch sees them: the cause is what is told.
        if verdict.is_none() && !matches!(reply, Reply::Exited(0)) && process_count()? > self.setup.processes as usize {
            verdict = Some(Reply::TooManyProcesses);
        }
        sys::kill_all();
        while wait(WaitOptions::empty()).is_ok() {}
        if let Some(hook) = &self.hook {
            hook.forget();
        }
        Ok(verdict.unwrap_or(reply))
    }

    /// Opens a path inside the tree, where no link leads out of it.
    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
    }

    fn read(&self, path: &[u8]) -> io::Result<()> {
        let regular = |file: &OwnedFd| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
        match self.open(path, OFlags::RDONLY) {
            Ok(file) if regular(&file) => {
                let file = if self.hook.is_some() { hook::restored(file)? } else { file };
                self.channel.send(&Reply::File, &[file.as_fd()])
            }
            Ok(_) => self.channel.send(&Reply::Absent, &[]),
            Err(error) if error.raw_os_error().is_some_and(|code| matches!(code, libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
                self.channel.send(&Reply::Absent, &[])
            }
            Err(error) => self.fail(&format!("read `/{}`", path.escape_ascii()), &error),
        }
    }

    /// Puts a file in the place of whatever file or link stands there, whole or not at all.
    fn write(&self, path: &[u8], content: OwnedFd, mode: u16, (uid, gid): (u32, u32)) -> io::Result<()> {
        const TEMPORARY: &str = ".parvis-write";
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = slash.map_or((b"".as_slice(), path), |slash| (&path[..slash], &path[slash + 1..]));
        let folder = self.open(parent, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let _ = unlinkat(&folder, TEMPORARY, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, TEMPORARY, flags, Mode::from(0o600))?);
        let written = io::copy(&mut File::from(content), &mut file).and_then(|_| {
            if self.single {
                mounts::write_owner(file.as_fd(), uid, gid)?;
            } else {
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(&file, Mode::from(u32::from(mode)))?;
            Ok(renameat(&folder, TEMPORARY, &folder, name)?)
        });
        if written.is_err() {
            let _ = unlinkat(&folder, TEMPORARY, AtFlags::empty());
        }
        written
    }

    fn changes(&mut self) -> io::Result<()> {
        let channel = self.channel;
        let mut broken = false;
        let result = self.scanner.differences(&self.links, &mut |(reply, file)| {
            let files: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
            channel.send(&reply, &files).inspect_err(|_| broken = true)
        });
        match result {
            Ok(()) => channel.send(&Reply::End, &[]),
            Err(error) if broken => Err(error),
            Err(error) => self.fail("look at what changed in the tree", &error),
        }
    }
}

/// Returns the paths that a program's name may stand for, as a shell would look for it.
fn candidates(run: &Run) -> io::Result<Vec<CString>> {
    let name =
        run.argv.first().map(|name| name.0.as_slice()).filter(|name| !name.is_empty()).ok_or(io::ErrorKind::InvalidInput)?;
    if name.contains(&b'/') {
        return Ok(vec![CString::new(name)?]);
    }
    let path = run.env.iter().find_map(|variable| variable.0.strip_prefix(b"PATH=")).unwrap_or(b"/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(path.split(|byte| *byte == b':').map(|folder| CString::new([folder, b"/", name].concat())).collect::<Result<_, _>>()?)
}

fn outcome(status: Option<WaitStatus>) -> Reply {
    let status = status.map(|status| (status.exit_status(), status.terminating_signal()));
    match status {
        Some((Some(code), _)) => Reply::Exited(code),
        Some((None, Some(signal))) => Reply::Signalled(signal),
        _ => Reply::Signalled(0),
    }
}

/// Counts the processes of the sandbox, without the first one.
fn process_count() -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        count += usize::from(entry?.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    }
    Ok(count.saturating_sub(1))
}
