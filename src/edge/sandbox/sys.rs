//! The system calls that no safe library offers: the only file of parvis that may say `unsafe`.

#![expect(unsafe_code, reason = "fork, exec, unshare and seccomp have no safe form")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// One instruction of a seccomp filter.
pub type Instruction = libc::sock_filter;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves the process into new namespaces. The process must have one thread.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the callers never ask for a new file table, which is what could break borrowed descriptors.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Forks; returns `None` in the child. The process must have one thread.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: with one thread no lock can be held by another one.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(Pid::from_raw(i32::try_from(pid).unwrap_or(0)))
}

/// Returns the number of a request as the C library takes it: that of musl as the same bits with a sign.
#[cfg(target_env = "musl")]
const fn number(request: u32) -> libc::c_int {
    request.cast_signed()
}

/// Returns the number of a request as the C library takes it.
#[cfg(not(target_env = "musl"))]
fn number(request: u32) -> libc::c_ulong {
    request.into()
}

/// Sets the flags of an interface (netdevice(7)).
const SET_FLAGS: u32 = 0x8914;

/// Raises the loopback interface of this network namespace, which a new one has but leaves down (netdevice(7)).
pub fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zeros are a valid request: numbers, and a name that ends at once.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the kernel reads a request of this shape and keeps no pointer to it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), number(SET_FLAGS), &raw const request) }.into())?;
    Ok(())
}

/// A program about to be started.
pub struct Spawn<'a> {
    /// The paths to try, in order.
    pub candidates: &'a [CString],
    pub argv: &'a [CString],
    pub env: &'a [CString],
    pub cwd: &'a CString,
    /// User, group and further groups; `None` leaves the caller's.
    pub ids: Option<(u32, u32, &'a [u32])>,
    /// Standard input, output and error; all above 2.
    pub streams: [BorrowedFd<'a>; 3],
    /// The number that it carries; see [`carried_number`].
    pub number: Option<u64>,
    /// A filter whose notifications the parent answers, and the socket on which the child sends its listener.
    pub notify: Option<(&'a [Instruction], BorrowedFd<'a>)>,
}

/// Where starting a program failed.
#[derive(Debug)]
pub struct SpawnError {
    /// What was tried, as a verb: `enter the folder`, `execute`.
    pub what: &'static str,
    pub cause: io::Error,
}

/// The step in which a filter is installed.
pub const INSTALL: &str = "install the filter for";

const WHATS: [&str; 7] = [
    "start a process for",
    "connect the streams of",
    INSTALL,
    "set the groups for",
    "set the user for",
    "enter the folder for",
    "execute",
];

struct Shared<'a> {
    spawn: &'a Spawn<'a>,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    step: AtomicI32,
    errno: AtomicI32,
}

/// Starts a program in a new session, without copying the caller's memory; returns once it was executed.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Pid, SpawnError> {
    let terminated = |list: &[CString]| list.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (terminated(spawn.argv), terminated(spawn.env));
    let shared = Shared { spawn, argv: &argv, env: &env, step: AtomicI32::new(0), errno: AtomicI32::new(0) };
    let mut stack = vec![0_u128; 4096];
    // SAFETY: the child runs `child` on its own stack while this process waits (CLONE_VFORK), and touches only `shared`.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, ptr::from_ref(&shared).cast_mut().cast())
    };
    let failed = |errno| {
        let what =
            usize::try_from(shared.step.load(Ordering::Relaxed)).ok().and_then(|step| WHATS.get(step)).unwrap_or(&WHATS[0]);
        SpawnError { what, cause: io::Error::from_raw_os_error(errno) }
    };
    let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Err(failed(io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    };
    match shared.errno.load(Ordering::Relaxed) {
        0 => Ok(pid),
        errno => {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(failed(errno))
        }
    }
}

/// What the child does between clone and exec: system calls and nothing else, for it runs in its parent's memory.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to a `Shared` that lives until the child has gone or executed.
    let shared = unsafe { &*argument.cast::<Shared<'_>>() };
    // SAFETY: plain system calls on values that outlive the child's stay in this memory.
    let errno = unsafe { become_program(shared) };
    shared.errno.store(errno, Ordering::Relaxed);
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

unsafe fn become_program(shared: &Shared<'_>) -> c_int {
    let spawn = shared.spawn;
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    let step = |number| shared.step.store(number, Ordering::Relaxed);
    // SAFETY: see the caller.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::syscall(libc::SYS_setsid);
        step(1);
        for (wanted, stream) in (0..).zip(spawn.streams) {
            if libc::syscall(libc::SYS_dup3, stream.as_raw_fd(), wanted, 0) < 0 {
                return errno();
            }
        }
        step(2);
        if let Some((filter, socket)) = spawn.notify {
            match install(filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).map_err(|error| error.raw_os_error()) {
                Ok(listener) => {
                    if !send_descriptor(socket, listener) {
                        return errno();
                    }
                }
                Err(code) => return code.unwrap_or(libc::EINVAL),
            }
        }
        if let Some((uid, gid, groups)) = spawn.ids {
            step(3);
            if libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) < 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
            {
                return errno();
            }
            step(4);
            if libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0 {
                return errno();
            }
        }
        if let Some(number) = spawn.number
            && set_carried(0, number) < 0
        {
            return errno();
        }
        step(5);
        if libc::syscall(libc::SYS_chdir, spawn.cwd.as_ptr()) < 0 {
            return errno();
        }
        step(6);
        let mut worst = libc::ENOENT;
        for candidate in spawn.candidates {
            libc::syscall(libc::SYS_execve, candidate.as_ptr(), shared.argv.as_ptr(), shared.env.as_ptr());
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => worst = libc::EACCES,
                other => return other,
            }
        }
        worst
    }
}

/// Sends one descriptor over a socket, without touching the heap.
unsafe fn send_descriptor(socket: BorrowedFd<'_>, descriptor: c_int) -> bool {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        descriptor: c_int,
        padding: c_int,
    }
    // SAFETY: all-zero bytes are valid for these C structures; the pointers outlive the call.
    unsafe {
        let mut byte = 0_u8;
        let mut part = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
        let mut control: Control = std::mem::zeroed();
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        let length = size_of::<libc::cmsghdr>() + size_of::<c_int>();
        control.header.cmsg_len = length as _;
        control.descriptor = descriptor;
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = ptr::from_mut(&mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, 0) == 1
    }
}

unsafe fn install(filter: &[Instruction], flags: libc::c_ulong) -> io::Result<c_int> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program; it neither keeps nor changes it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(result).map(|descriptor| c_int::try_from(descriptor).unwrap_or(-1))
}

/// Puts a filter on this process and all that it starts. Needs `CAP_SYS_ADMIN` in the user namespace.
pub fn install_filter(filter: &[Instruction]) -> io::Result<()> {
    // SAFETY: a filter can only forbid.
    unsafe { install(filter, 0) }.map(drop)
}

/// A system call that waits for an answer.
pub type Notification = libc::seccomp_notif;

// `_IOWR('!', 0, struct seccomp_notif)`, `_IOWR('!', 1, struct seccomp_notif_resp)`, `_IOW('!', 2, __u64)` of linux/seccomp.h.
const NOTIFY_RECEIVE: u32 = 0xc050_2100;
const NOTIFY_SEND: u32 = 0xc018_2101;
const NOTIFY_ID_VALID: u32 = 0x4008_2102;
// `_IOW('!', 3, struct seccomp_notif_addfd)`.
const NOTIFY_ADD_DESCRIPTOR: u32 = 0x4018_2103;

/// Takes the next waiting call from a listener; `None` when its process has died meanwhile.
pub fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: the kernel wants a zeroed structure and fills it.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    // SAFETY: the structure has the size that the request number states.
    match check(unsafe { libc::ioctl(listener.as_raw_fd(), number(NOTIFY_RECEIVE), &raw mut notification) }.into()) {
        Ok(_) => Ok(Some(notification)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the process that made a waiting call is still there, so that its pid means what it meant.
pub fn notification_is_alive(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes.
    unsafe { libc::ioctl(listener.as_raw_fd(), number(NOTIFY_ID_VALID), &raw const id) == 0 }
}

/// How a waiting call ends.
#[derive(Debug)]
pub enum Answer {
    /// The kernel carries it out as if nobody had asked.
    Continue,
    /// It returns this number.
    Value(u32),
    /// It fails with this error number.
    Errno(i32),
    /// It returns a new descriptor for this file.
    Open { file: OwnedFd, close_on_exec: bool },
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    wanted: u32,
    wanted_flags: u32,
}

/// Answers a waiting call. A process that died meanwhile is no error.
pub fn answer_notification(listener: BorrowedFd<'_>, id: u64, answer: &Answer) -> io::Result<()> {
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    let sent = match answer {
        Answer::Continue => {
            response.flags = 1; // SECCOMP_USER_NOTIF_FLAG_CONTINUE
            None
        }
        Answer::Value(value) => {
            response.val = i64::from(*value);
            None
        }
        Answer::Errno(errno) => {
            response.error = -errno;
            None
        }
        Answer::Open { file, close_on_exec } => {
            let wanted_flags = if *close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
            // SECCOMP_ADDFD_FLAG_SEND: the call returns the descriptor's number.
            let add = AddDescriptor { id, flags: 2, source: file.as_raw_fd().cast_unsigned(), wanted: 0, wanted_flags };
            // SAFETY: the structure has the size that the request number states.
            Some(unsafe { libc::ioctl(listener.as_raw_fd(), number(NOTIFY_ADD_DESCRIPTOR), &raw const add) })
        }
    };
    // SAFETY: as above.
    let sent = sent.unwrap_or_else(|| unsafe { libc::ioctl(listener.as_raw_fd(), number(NOTIFY_SEND), &raw const response) });
    match check(sent.into()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Reads the number that a process and all that it starts carry; `u64::MAX` when it was never set.
///
/// It is the soft limit of real-time CPU time, which nothing in a sandbox uses, and which fork and exec hand on.
pub fn carried_number(pid: Pid) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure.
    check(unsafe { libc::prlimit(pid.as_raw_nonzero().get(), libc::RLIMIT_RTTIME, ptr::null(), &raw mut limit) }.into())?;
    Ok(limit.rlim_cur)
}

/// Sets the number that a process and all that it starts carry.
pub fn carry_number(pid: Pid, number: u64) -> io::Result<()> {
    // SAFETY: the kernel reads the structure.
    check(unsafe { set_carried(pid.as_raw_nonzero().get(), number) }).map(drop)
}

unsafe fn set_carried(pid: c_int, number: u64) -> libc::c_long {
    let limit = libc::rlimit { rlim_cur: number, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads the structure.
    unsafe { libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_RTTIME, &raw const limit, ptr::null::<libc::rlimit>()) }
}

/// Takes standard input as the control socket and puts nothing in its place.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    // SAFETY: the worker runs before anything else uses standard input, and replaces it at once.
    unsafe {
        let socket = check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 10).into())?;
        Ok(OwnedFd::from_raw_fd(c_int::try_from(socket).unwrap_or(-1)))
    }
}

/// Closes every descriptor above the standard ones that was inherited by mistake, except one.
pub fn close_inherited(except: BorrowedFd<'_>) -> io::Result<()> {
    let except = except.as_raw_fd();
    // SAFETY: the worker calls this before it opens anything.
    unsafe {
        check(libc::syscall(libc::SYS_close_range, 3, except - 1, 0))?;
        check(libc::syscall(libc::SYS_close_range, except + 1, c_int::MAX, 0))?;
    }
    Ok(())
}

/// Kills every other process of the pid namespace; only its first process may call this.
pub fn kill_all() {
    // SAFETY: the caller is process 1 of its own pid namespace, so that `-1` reaches nothing outside.
    unsafe {
        if libc::getpid() == 1 {
            libc::kill(-1, libc::SIGKILL);
        }
    }
}
