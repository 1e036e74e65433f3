//! The file systems of a sandbox: the tree as an overlay, and the few other mounts that programs expect.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, chownat, fsetxattr, fstat, mkdirat, openat, openat2, statat,
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount};

use super::hook::Cover;
use super::owners::Links;
use super::wire::{Ownership, Setup, Source};
use super::{Feature, Upper};

/// A step of the setup that failed.
#[derive(Debug)]
pub struct SetupError {
    pub feature: Option<Feature>,
    pub what: String,
    pub cause: io::Error,
}

/// Adds to an error what was tried, and which feature of the kernel that needs.
pub trait Step<T> {
    fn step(self, feature: impl Into<Option<Feature>>, what: impl Into<String>) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, feature: impl Into<Option<Feature>>, what: impl Into<String>) -> Result<T, SetupError> {
        self.map_err(|cause| SetupError { feature: feature.into(), what: what.into(), cause: cause.into() })
    }
}

/// The folders that the worker keeps open to see what changed.
#[derive(Debug)]
pub struct Layers {
    /// What programs wrote; the whole tree where there is no overlay.
    pub upper: OwnedFd,
    /// What they found, nearest first; empty where there is no overlay.
    pub lower: Vec<OwnedFd>,
    /// The scratch folder, where it is on disk: the worker empties it at the end, for it may hold files of other ids.
    pub scratch: Option<OwnedFd>,
    /// Whether scripts are covered, so that what is read of the tree must be as without.
    pub covered: bool,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
/// The extended attribute that says whose a file is where only one id can be mapped: `uid:gid`.
pub const OWNER_ATTRIBUTE: &str = "user.parvis.owner";

/// Builds the tree and makes it the root of this process, which must be the first of fresh mount and pid namespaces.
pub fn enter(setup: &Setup, single: bool) -> Result<(Layers, Links, Upper, Vec<Cover>), SetupError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(Feature::Mount, "make the mounts private")?;
    let scratch = OsStr::from_bytes(&setup.scratch.0);
    let mut covers = Vec::new();
    let (root, layers, upper) = match &setup.source {
        Source::Layers(folders) => {
            let lower = folders.iter().map(|folder| open_folder(&folder.0)).collect::<Result<Vec<_>, _>>()?;
            covers = Cover::find(setup, &lower).step(None, "look for scripts that have a native program")?;
            overlay(setup, scratch.as_ref(), lower, &covers)?
        }
        Source::Copy(folder) => copy(setup, &folder.0)?,
    };
    let mut links = Links::new();
    for owner in &setup.owners {
        let is_link =
            own(root.as_fd(), owner, single).step(None, format!("set the owner of `/{}`", owner.path.0.escape_ascii()))?;
        if single && is_link {
            links.insert(owner.path.0.as_slice().into(), (owner.uid, owner.gid));
        }
    }
    mount_proc(root.as_fd(), setup)?;
    mount_dev(root.as_fd(), single)?;
    mount_tmpfs(root.as_fd(), "run", "mode=755,size=256m")?;
    mount_tmpfs(root.as_fd(), "tmp", &format!("mode=1777,size={}", setup.bytes))?;
    inside(root.as_fd(), "run").and_then(|run| Ok(mkdirat(&run, "lock", Mode::from(0o1777))?)).step(None, "make `/run/lock`")?;
    rustix::process::fchdir(&root).step(None, "enter the tree")?;
    rustix::process::pivot_root(".", ".").step(Feature::Mount, "make the tree the root")?;
    unmount(".", UnmountFlags::DETACH).step(Feature::Mount, "let go of the host's files")?;
    rustix::process::chdir("/").step(None, "enter the tree")?;
    Ok((layers, links, upper, covers))
}

fn open_folder(path: &[u8]) -> Result<OwnedFd, SetupError> {
    openat(CWD, path, FOLDER | OFlags::RDONLY, Mode::empty()).step(None, format!("open the folder `{}`", path.escape_ascii()))
}

/// A path that leads to an open file or folder, whatever is mounted over its name.
pub fn fd_path(folder: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

fn text(value: &str) -> CString {
    CString::new(value).unwrap_or_default()
}

/// Opens a path below a folder as a place, following no link.
fn inside(root: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), how)?)
}

fn overlay(setup: &Setup, scratch: &Path, lower: Vec<OwnedFd>, covers: &[Cover]) -> Result<(OwnedFd, Layers, Upper), SetupError> {
    let place = if setup.on_disk { None } else { scratch_in_memory(setup, scratch)? };
    let (base, kind) = match place {
        Some(base) => (base, Upper::Memory),
        None => (scratch_on_disk(scratch)?, Upper::Disk),
    };
    for name in ["upper", "work", "root", "shims"] {
        mkdirat(&base, name, Mode::from(0o755)).step(None, format!("make the scratch folder `{name}`"))?;
    }
    let upper = openat(&base, "upper", FOLDER | OFlags::RDONLY, Mode::empty()).step(None, "open the upper layer")?;
    let top = lower
        .first()
        .map_or(Ok(0o755), |folder| fstat(folder).map(|stat| stat.st_mode & 0o7777))
        .step(None, "read the tree's root")?;
    rustix::fs::fchmod(&upper, Mode::from(top)).step(None, "set the mode of the tree's root")?;
    let mut layers: Vec<String> = lower.iter().map(|folder| fd_path(folder.as_fd())).collect();
    let shims = openat(&base, "shims", FOLDER | OFlags::RDONLY, Mode::empty()).step(None, "open the layer of shims")?;
    if !setup.shims.is_empty() || !covers.is_empty() || layers.is_empty() {
        rustix::fs::fchmod(&shims, Mode::from(top)).step(None, "set the mode of the layer of shims")?;
        for (path, content) in &setup.shims {
            lay_shim(shims.as_fd(), &lower, &path.0, &content.0)
                .step(None, format!("lay `/{}` over the tree", path.0.escape_ascii()))?;
        }
        for cover in covers {
            lay_shim(shims.as_fd(), &lower, cover.path.as_bytes(), &cover.text())
                .and_then(|file| cover.date(file.as_fd()))
                .step(None, format!("lay `/{}` over the tree", cover.path))?;
        }
        layers.insert(0, fd_path(shims.as_fd()));
    }
    let here = fd_path(base.as_fd());
    // `volatile`: what a crash leaves is thrown away, so nothing waits for the disk.
    let options = format!("userxattr,volatile,lowerdir={},upperdir={here}/upper,workdir={here}/work", layers.join(":"));
    let target = format!("{here}/root");
    if setup.without == Some(Feature::Overlay) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV)).step(Feature::Overlay, "mount the overlay");
    }
    mount("overlay", &*target, "overlay", MountFlags::empty(), &*text(&options)).step(Feature::Overlay, "mount the overlay")?;
    let root = openat(&base, "root", FOLDER | OFlags::PATH, Mode::empty()).step(None, "open the tree")?;
    let scratch = (kind == Upper::Disk).then_some(base);
    Ok((root, Layers { upper, lower, scratch, covered: !covers.is_empty() }, kind))
}

/// Mounts a tmpfs over the scratch folder; `None` when this kernel's tmpfs cannot hold what an overlay must write down.
fn scratch_in_memory(setup: &Setup, scratch: &Path) -> Result<Option<OwnedFd>, SetupError> {
    let options = text(&format!("mode=700,size={}", setup.bytes));
    mount("tmpfs", scratch, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &*options).step(Feature::Mount, "mount a tmpfs")?;
    let base = openat(CWD, scratch, FOLDER | OFlags::RDONLY, Mode::empty()).step(None, "open the scratch tmpfs")?;
    if fsetxattr(&base, "user.parvis.probe", b"1", XattrFlags::empty()).is_ok() {
        return Ok(Some(base));
    }
    drop(base);
    unmount(scratch, UnmountFlags::empty()).step(Feature::Mount, "unmount the tmpfs")?;
    Ok(None)
}

/// Opens the scratch folder on disk, without what a run that was killed has left there.
fn scratch_on_disk(scratch: &Path) -> Result<OwnedFd, SetupError> {
    empty_folder(scratch).step(None, format!("empty the scratch folder `{}`", scratch.as_os_str().as_bytes().escape_ascii()))?;
    let base = openat(CWD, scratch, FOLDER | OFlags::RDONLY, Mode::empty()).step(None, "open the scratch folder")?;
    fsetxattr(&base, "user.parvis.probe", b"1", XattrFlags::empty())
        .step(Feature::Overlay, format!("write extended attributes in `{}`", scratch.as_os_str().as_bytes().escape_ascii()))?;
    Ok(base)
}

/// Removes what is in a folder.
pub fn empty_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a shim into its layer, below folders that look like the tree's own.
fn lay_shim(shims: BorrowedFd<'_>, lower: &[OwnedFd], path: &[u8], content: &[u8]) -> io::Result<fs::File> {
    for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let parent = &path[..end];
        let found = lower.iter().find_map(|folder| statat(folder, parent, AtFlags::SYMLINK_NOFOLLOW).ok());
        let mode = match found {
            Some(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => stat.st_mode & 0o7777,
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
            None => 0o755,
        };
        match mkdirat(shims, parent, Mode::from(mode)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => {}
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = fs::File::from(openat(shims, path, flags, Mode::from(0o755))?);
    io::Write::write_all(&mut file, content)?;
    Ok(file)
}

/// Takes a writable copy of the tree as it is, for kernels without overlay.
fn copy(setup: &Setup, folder: &[u8]) -> Result<(OwnedFd, Layers, Upper), SetupError> {
    let upper = open_folder(folder)?;
    let place = fd_path(upper.as_fd());
    mount_bind(&*place, folder).step(Feature::Mount, "mount the copy of the tree")?;
    let root = openat(CWD, folder, FOLDER | OFlags::PATH, Mode::empty()).step(None, "open the copy of the tree")?;
    let upper = openat(CWD, folder, FOLDER | OFlags::RDONLY, Mode::empty()).step(None, "open the copy of the tree")?;
    if let Some((path, _)) = setup.shims.first() {
        return Err(io::Error::from(io::ErrorKind::Unsupported))
            .step(Feature::Overlay, format!("lay `/{}` over a copy of the tree", path.0.escape_ascii()));
    }
    Ok((root, Layers { upper, lower: Vec::new(), scratch: None, covered: false }, Upper::Copy))
}

/// Sets owner, mode and attributes of one path of the tree, without following a link; returns whether it is one.
fn own(root: BorrowedFd<'_>, owner: &Ownership, single: bool) -> io::Result<bool> {
    let place = if owner.path.0.is_empty() { inside(root, ".")? } else { inside(root, &*owner.path.0)? };
    set_owner(place.as_fd(), owner.uid, owner.gid, single)?;
    if fstat(&place)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Ok(true);
    }
    let path = fd_path(place.as_fd());
    rustix::fs::chmod(&*path, Mode::from(u32::from(owner.mode)))?;
    for (name, value) in &owner.xattrs {
        rustix::fs::setxattr(&*path, &**name, &value.0, XattrFlags::empty())?;
    }
    Ok(false)
}

/// Gives an open path an owner; where one id is mapped, writes down whose it is.
pub fn set_owner(place: BorrowedFd<'_>, uid: u32, gid: u32, single: bool) -> io::Result<()> {
    if !single {
        return Ok(chownat(place, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?);
    }
    write_owner(place, uid, gid)
}

/// Writes down whose an open path is.
pub fn write_owner(place: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // The real call with the one id there is has the same side effects: setuid bits and capabilities go.
    chownat(place, c"", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH)?;
    if fstat(place)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Ok(());
    }
    let path = fd_path(place);
    Ok(rustix::fs::setxattr(&*path, OWNER_ATTRIBUTE, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty())?)
}

/// Opens a folder of the tree to mount on, making it where it is missing; a link in its place is refused.
fn mount_point(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, SetupError> {
    match mkdirat(root, name, Mode::from(0o755)) {
        Err(error) if error != rustix::io::Errno::EXIST => return Err(error).step(None, format!("make the folder `/{name}`")),
        _ => {}
    }
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, name, FOLDER | OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), how)
        .step(None, format!("mount on `/{name}`, which is no folder of its own,"))
}

fn mount_tmpfs(root: BorrowedFd<'_>, name: &str, options: &str) -> Result<(), SetupError> {
    let target = mount_point(root, name)?;
    mount("tmpfs", &*fd_path(target.as_fd()), "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &*text(options))
        .step(Feature::Mount, format!("mount a tmpfs on `/{name}`"))
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// What tells of the host's hardware and keys, as OCI runtimes hide it.
const MASKED: [&str; 10] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"];
/// What would let a program that has the host's user id 0 steer the host.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

fn mount_proc(root: BorrowedFd<'_>, setup: &Setup) -> Result<(), SetupError> {
    let target = mount_point(root, "proc")?;
    if setup.without == Some(Feature::Proc) {
        return Err(io::Error::from_raw_os_error(libc::EPERM)).step(Feature::Proc, "mount /proc");
    }
    mount("proc", &*fd_path(target.as_fd()), "proc", QUIET, None::<&CStr>).step(Feature::Proc, "mount /proc")?;
    let proc = inside(root, "proc").step(None, "open /proc")?;
    let base = fd_path(proc.as_fd());
    if pid_limit_is_the_namespaces_own() {
        // What forks faster than the watch can look meets this. The kernel uses the first 300 numbers once only.
        let most = setup.processes.saturating_add(316).min(1 << 22);
        fs::write(format!("{base}/sys/kernel/pid_max"), most.to_string()).step(Feature::Proc, "limit the processes")?;
    }
    for name in READ_ONLY {
        let path = format!("{base}/{name}");
        match mount_bind(&*path, &*path) {
            Err(rustix::io::Errno::NOENT) => continue,
            result => result.step(Feature::Mount, format!("mount `/proc/{name}`"))?,
        }
        mount_remount(&*path, MountFlags::BIND | MountFlags::RDONLY | QUIET, c"")
            .step(Feature::Mount, format!("make `/proc/{name}` read-only"))?;
    }
    for name in MASKED {
        let path = format!("{base}/{name}");
        let Ok(stat) = rustix::fs::lstat(&*path) else { continue };
        let hidden = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            mount("tmpfs", &*path, "tmpfs", QUIET | MountFlags::RDONLY, c"size=0,mode=555")
        } else {
            mount_bind("/dev/null", &*path)
        };
        hidden.step(Feature::Mount, format!("hide `/proc/{name}`"))?;
    }
    Ok(())
}

/// Returns whether `pid_max` belongs to the pid namespace: since Linux 6.14. Before, it is the whole machine's and must not be touched.
fn pid_limit_is_the_namespaces_own() -> bool {
    let system = rustix::system::uname();
    let mut numbers =
        system.release().to_str().unwrap_or_default().split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes a small `/dev`. The nodes are the host's, seen through read-only mounts: no chmod inside reaches them.
fn mount_dev(root: BorrowedFd<'_>, single: bool) -> Result<(), SetupError> {
    let target = mount_point(root, "dev")?;
    mount("tmpfs", &*fd_path(target.as_fd()), "tmpfs", MountFlags::NOSUID, c"mode=755,size=64k")
        .step(Feature::Mount, "mount a tmpfs on `/dev`")?;
    let dev = inside(root, "dev").step(None, "open `/dev`")?;
    let base = fd_path(dev.as_fd());
    for name in DEVICES {
        let path = format!("{base}/{name}");
        fs::write(&path, "").step(None, format!("make `/dev/{name}`"))?;
        mount_bind(&*format!("/dev/{name}"), &*path).step(Feature::Mount, format!("mount `/dev/{name}`"))?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount_remount(&*path, flags, c"").step(Feature::Mount, format!("make `/dev/{name}` read-only"))?;
    }
    for (name, target) in LINKS {
        std::os::unix::fs::symlink(target, format!("{base}/{name}")).step(None, format!("make `/dev/{name}`"))?;
    }
    for name in ["pts", "shm"] {
        mkdirat(&dev, name, Mode::from(0o755)).step(None, format!("make `/dev/{name}`"))?;
    }
    // Group 5 is `tty` in Debian; with one mapped id there is none.
    let options = if single { c"newinstance,ptmxmode=0666,mode=620" } else { c"newinstance,ptmxmode=0666,mode=620,gid=5" };
    mount("devpts", &*format!("{base}/pts"), "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
        .step(Feature::Mount, "mount `/dev/pts`")?;
    mount("tmpfs", &*format!("{base}/shm"), "tmpfs", QUIET, c"mode=1777,size=64m").step(Feature::Mount, "mount `/dev/shm`")
}
