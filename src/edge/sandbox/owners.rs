//! Owners and identities where only one id is mapped: calls about them are answered here, and whose a file is is written down.
//!
//! A file's owner stands in [`OWNER_ATTRIBUTE`], so that it follows renames and copies; a symbolic link's in a list by path, for
//! links have no such attributes. Who a process is stands in a number that fork and exec hand on. What `stat` says of owners stays
//! root, and permission is that of root.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, getxattr, mkdirat, openat, openat2, readlink, statat, symlinkat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use super::mounts::{OWNER_ATTRIBUTE, fd_path, write_owner};
use super::sys::{self, Answer, Notification};

/// Whose symbolic links are, by path, where it is not root.
pub type Links = BTreeMap<Box<[u8]>, (u32, u32)>;

/// Who a process takes itself for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    user: u16,
    group: u16,
    saved_user: u16,
    saved_group: u16,
}

const ROOT: Identity = Identity { user: 0, group: 0, saved_user: 0, saved_group: 0 };
/// "Leave it as it is", in calls that change owners or identities.
const KEEP: u32 = u32::MAX;

/// Returns the number of an identity that a program starts with.
pub fn number(uid: u32, gid: u32) -> io::Result<u64> {
    let (user, group) = (id(uid)?, id(gid)?);
    Ok(Identity { user, group, saved_user: user, saved_group: group }.number())
}

/// Returns an id as the other rungs map it; all others are EINVAL there too.
fn id(id: u32) -> Result<u16, Errno> {
    u16::try_from(id).map_err(|_| Errno::INVAL)
}

impl Identity {
    fn of(process: Pid) -> io::Result<Self> {
        let number = sys::carried_number(process)?;
        if number == u64::MAX {
            return Ok(ROOT);
        }
        let part = |at: usize| {
            let bytes = number.to_le_bytes();
            u16::from_le_bytes([bytes[at], bytes[at + 1]])
        };
        Ok(Self { user: part(0), group: part(2), saved_user: part(4), saved_group: part(6) })
    }

    fn number(self) -> u64 {
        [self.saved_group, self.saved_user, self.group, self.user]
            .into_iter()
            .fold(0, |number, part| number << 16 | u64::from(part))
    }

    /// Carries out `setres[ug]id`, or refuses as the kernel would.
    fn change(&mut self, groups: bool, effective: u32, saved: u32) -> Result<(), Errno> {
        // Groups may be changed after the user: whoever does that has kept its capabilities, which nothing here tells.
        let may = groups || self.user == 0;
        let (mine, kept) = if groups { (&mut self.group, &mut self.saved_group) } else { (&mut self.user, &mut self.saved_user) };
        let known = [*mine, *kept];
        for (place, wanted) in [(mine, effective), (kept, saved)] {
            if wanted == KEEP {
                continue;
            }
            let wanted = id(wanted)?;
            if !may && !known.contains(&wanted) {
                return Err(Errno::PERM);
            }
            *place = wanted;
        }
        Ok(())
    }
}

/// Returns whether a process takes itself for root.
pub fn is_root(process: Pid) -> bool {
    Identity::of(process).is_ok_and(|identity| identity.user == 0 && identity.group == 0)
}

/// A waiting call with what it refers to.
struct Call<'a> {
    notification: &'a Notification,
    listener: BorrowedFd<'a>,
    process: Pid,
}

/// Answers the next waiting call of a listener.
pub fn answer(listener: BorrowedFd<'_>, links: &mut Links) -> io::Result<()> {
    let Some(notification) = sys::receive_notification(listener)? else { return Ok(()) };
    let verdict = match Pid::from_raw(notification.pid.cast_signed()) {
        None => Answer::Errno(libc::ESRCH),
        Some(process) => {
            let call = Call { notification: &notification, listener, process };
            call.decide(links).unwrap_or_else(|error| Answer::Errno(error.raw_os_error().unwrap_or(libc::EIO)))
        }
    };
    sys::answer_notification(listener, notification.id, &verdict)
}

impl Call<'_> {
    fn decide(&self, links: &mut Links) -> io::Result<Answer> {
        let identity = Identity::of(self.process)?;
        let argument = |index| self.argument(index);
        let [first, second, third] = [0, 1, 2].map(argument);
        // Whoever is not root changes only what is in force.
        let saved = |wanted| if identity.user == 0 { wanted } else { KEEP };
        match i64::from(self.notification.data.nr) {
            libc::SYS_getuid => Ok(Answer::Value(identity.saved_user.into())),
            libc::SYS_geteuid => Ok(Answer::Value(identity.user.into())),
            libc::SYS_getgid => Ok(Answer::Value(identity.saved_group.into())),
            libc::SYS_getegid => Ok(Answer::Value(identity.group.into())),
            libc::SYS_setgroups => Ok(Answer::Value(0)),
            libc::SYS_setuid => self.become_other(identity, false, first, saved(first)),
            libc::SYS_setgid => self.become_other(identity, true, first, saved(first)),
            libc::SYS_setreuid => self.become_other(identity, false, second, if first == KEEP { KEEP } else { second }),
            libc::SYS_setregid => self.become_other(identity, true, second, if first == KEEP { KEEP } else { second }),
            libc::SYS_setresuid => self.become_other(identity, false, second, third),
            libc::SYS_setresgid => self.become_other(identity, true, second, third),
            libc::SYS_fchown => own(identity, &self.descriptor(first)?, (second, third), links),
            libc::SYS_fchownat => own(identity, &self.place(first, 1, argument(4))?, (third, argument(3)), links),
            libc::SYS_mkdirat => self.make_folder(identity, first, 1, third),
            libc::SYS_symlinkat => self.make_link(identity, 0, second, 2, links),
            libc::SYS_openat => self.open(identity, first, 1, third, argument(3)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => own(identity, &self.place(AT_CWD, 0, 0)?, (second, third), links),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => own(identity, &self.place(AT_CWD, 0, NO_FOLLOW)?, (second, third), links),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => self.make_folder(identity, AT_CWD, 0, second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_symlink => self.make_link(identity, 0, AT_CWD, 1, links),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => self.open(identity, AT_CWD, 0, second, third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => {
                let flags = (OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC).bits();
                self.open(identity, AT_CWD, 0, flags, second)
            }
            _ => Ok(Answer::Continue),
        }
    }

    /// Returns the low half of an argument: all of what ids, modes, flags and descriptors have.
    fn argument(&self, index: usize) -> u32 {
        let bytes = self.notification.data.args[index].to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn become_other(&self, mut identity: Identity, groups: bool, effective: u32, saved: u32) -> io::Result<Answer> {
        identity.change(groups, effective, saved)?;
        // A thread's group leader carries the number for all of its threads.
        sys::carry_number(self.process, identity.number())?;
        Ok(Answer::Value(0))
    }

    /// Reads a text from the memory of the process.
    fn text(&self, index: usize) -> io::Result<Vec<u8>> {
        const LONGEST: usize = 4096;
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.process.as_raw_nonzero()))?;
        let mut address = self.notification.data.args[index];
        let mut text = Vec::new();
        while text.len() < LONGEST {
            let mut part = [0_u8; 256];
            // Not across a page's end: the next page may not be there.
            let room = usize::try_from(4096 - address % 4096).unwrap_or(1).min(part.len());
            let length = memory.read_at(&mut part[..room], address)?;
            if length == 0 {
                return Err(Errno::FAULT.into());
            }
            if let Some(end) = part[..length].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&part[..end]);
                // The process is still the one that asked, and so was the memory.
                let alive = sys::notification_is_alive(self.listener, self.notification.id);
                return if alive { Ok(text) } else { Err(Errno::SRCH.into()) };
            }
            text.extend_from_slice(&part[..length]);
            address += length as u64;
        }
        Err(Errno::NAMETOOLONG.into())
    }

    /// Opens what a descriptor of the process refers to.
    fn descriptor(&self, descriptor: u32) -> io::Result<OwnedFd> {
        let process = self.process.as_raw_nonzero();
        let path = match descriptor {
            AT_CWD => format!("/proc/{process}/cwd"),
            _ => format!("/proc/{process}/fd/{descriptor}"),
        };
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => Errno::BADF.into(),
            error => error.into(),
        })
    }

    /// Opens a place below a folder of the process.
    fn below(&self, folder: u32, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let base = if path.starts_with(b"/") {
            openat(CWD, format!("/proc/{}/root", self.process.as_raw_nonzero()), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?
        } else {
            self.descriptor(folder)?
        };
        // A link such as `/proc/self/fd/1` would be this process's own here.
        let resolve = if path.starts_with(b"/") { ResolveFlags::IN_ROOT } else { ResolveFlags::empty() };
        Ok(openat2(base, path, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS)?)
    }

    fn place(&self, folder: u32, path: usize, flags: u32) -> io::Result<OwnedFd> {
        let path = self.text(path)?;
        if path.is_empty() && flags & AtFlags::EMPTY_PATH.bits() != 0 {
            return self.descriptor(folder);
        }
        let follow = if flags & NO_FOLLOW == 0 { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.below(folder, &path, follow)
    }

    /// Opens the folder in which a path's last name stands or will stand.
    fn parent(&self, folder: u32, path: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let trimmed = &path[..end];
        let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let parent: &[u8] = if start == 0 { b"." } else { &trimmed[..start] };
        if trimmed[start..].is_empty() {
            return Err(if path.is_empty() { Errno::NOENT } else { Errno::EXIST }.into());
        }
        Ok((self.below(folder, parent, OFlags::DIRECTORY)?, trimmed[start..].to_vec()))
    }

    /// Runs something with the process's file mode mask.
    fn with_mask<T>(&self, create: impl FnOnce() -> rustix::io::Result<T>) -> io::Result<T> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.as_raw_nonzero()))?;
        let mask =
            status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok()).unwrap_or(0o022);
        let own = rustix::process::umask(Mode::from(mask));
        let result = create();
        rustix::process::umask(own);
        Ok(result?)
    }

    fn make_folder(&self, identity: Identity, folder: u32, path: usize, mode: u32) -> io::Result<Answer> {
        if identity == ROOT {
            return Ok(Answer::Continue);
        }
        let (parent, name) = self.parent(folder, &self.text(path)?)?;
        self.with_mask(|| mkdirat(&parent, &*name, Mode::from(mode & 0o7777)))?;
        let place = openat(&parent, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        write_owner(place.as_fd(), identity.user.into(), inherited_group(&parent, identity)?)?;
        Ok(Answer::Value(0))
    }

    fn make_link(&self, identity: Identity, target: usize, folder: u32, path: usize, links: &mut Links) -> io::Result<Answer> {
        if identity == ROOT && links.is_empty() {
            return Ok(Answer::Continue);
        }
        let (parent, name) = self.parent(folder, &self.text(path)?)?;
        symlinkat(&*self.text(target)?, &parent, &*name)?;
        let place = openat(&parent, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        links.insert(tree_path(&place)?, (identity.user.into(), inherited_group(&parent, identity)?));
        Ok(Answer::Value(0))
    }

    /// Opens, in place of the process, a file that may have to be made.
    fn open(&self, identity: Identity, folder: u32, path: usize, flags: u32, mode: u32) -> io::Result<Answer> {
        if identity == ROOT {
            return Ok(Answer::Continue);
        }
        let path = self.text(path)?;
        let Ok((parent, name)) = self.parent(folder, &path) else { return Ok(Answer::Continue) };
        if path.ends_with(b"/") || statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(Answer::Continue);
        }
        let wanted = OFlags::from_bits_retain(flags);
        let flags = wanted | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = self.with_mask(|| openat(&parent, &*name, flags, Mode::from(mode & 0o7777)))?;
        let place = openat(&parent, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        write_owner(place.as_fd(), identity.user.into(), inherited_group(&parent, identity)?)?;
        Ok(Answer::Open { file, close_on_exec: wanted.contains(OFlags::CLOEXEC) })
    }
}

const AT_CWD: u32 = libc::AT_FDCWD.cast_unsigned();
const NO_FOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();

/// Returns the group of what is made in a folder: the folder's where it hands it on, else the process's.
fn inherited_group(parent: &OwnedFd, identity: Identity) -> io::Result<u32> {
    let hands_on = fstat(parent)?.st_mode & libc::S_ISGID != 0;
    Ok(if hands_on { owner(parent).map_or(0, |(_, gid)| gid) } else { identity.group.into() })
}

/// Returns the owner that is written down for a file or folder.
fn owner(place: &OwnedFd) -> Option<(u32, u32)> {
    let mut value = [0_u8; 32];
    let length = getxattr(fd_path(place.as_fd()), OWNER_ATTRIBUTE, &mut value[..]).ok()?;
    parse_owner(value.get(..length)?)
}

/// Reads `uid:gid`.
pub fn parse_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Returns the path of an open place inside the tree, without a slash at its start.
pub fn tree_path(place: &OwnedFd) -> io::Result<Box<[u8]>> {
    let path = readlink(fd_path(place.as_fd()), Vec::new())?.into_bytes();
    Ok(path.strip_prefix(b"/").unwrap_or(&path).into())
}

fn own(identity: Identity, place: &OwnedFd, (uid, gid): (u32, u32), links: &mut Links) -> io::Result<Answer> {
    let kind = fstat(place)?.st_mode & libc::S_IFMT;
    let is_link = kind == libc::S_IFLNK;
    let path = if is_link { tree_path(place)? } else { Box::default() };
    let before = if is_link { links.get(&path).copied() } else { owner(place) }.unwrap_or((0, 0));
    let chosen = |wanted, before| if wanted == KEEP { before } else { wanted };
    let after = (chosen(uid, before.0), chosen(gid, before.1));
    for id_after in [after.0, after.1] {
        id(id_after)?;
    }
    let user = u32::from(identity.user);
    let may = user == 0 || before.0 == user && after.0 == before.0 && [before.1, identity.group.into()].contains(&after.1);
    if !may {
        return Ok(Answer::Errno(libc::EPERM));
    }
    match kind {
        libc::S_IFREG | libc::S_IFDIR => write_owner(place.as_fd(), after.0, after.1)?,
        libc::S_IFLNK => {
            write_owner(place.as_fd(), after.0, after.1)?;
            links.insert(path, after);
        }
        // Pipes, sockets and devices are never part of the result.
        _ => {}
    }
    Ok(Answer::Value(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_changes_as_the_kernel_would_have_it() {
        let mut identity = ROOT;
        identity.change(true, 34, 34).unwrap();
        identity.change(false, 33, KEEP).unwrap();
        assert_eq!(identity.change(false, 0, KEEP), Ok(()));
        identity.change(false, 33, 33).unwrap();
        assert_eq!(identity.change(false, 0, KEEP), Err(Errno::PERM));
        assert_eq!(identity.change(true, 34, 34), Ok(()));
        assert_eq!(identity, Identity { user: 33, group: 34, saved_user: 33, saved_group: 34 });
        assert_eq!({ ROOT }.change(false, 70_000, KEEP), Err(Errno::INVAL));
    }
}
