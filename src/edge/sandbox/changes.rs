//! What changed in the upper layer of a sandbox since the last look.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, ResolveFlags, Stat, Statx, StatxFlags, fgetxattr, fgetxattr_query, flistxattr,
    flistxattr_query, openat, openat2, readlinkat, statat, statx,
};

use super::hook;
use super::mounts::{Layers, OWNER_ATTRIBUTE};
use super::owners::{Links, parse_owner};
use super::wire::{Bytes, Found, Reply};

/// What a path looked like; whatever is done to a file moves at least its change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, u32),
    modified: i64,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `opaque`: it hides what the layers below have in it. `attributes`: a number that differs when its attributes do.
    Directory {
        opaque: bool,
        attributes: u64,
    },
    File,
    Symlink,
    /// The mark of an overlay: what the layers below have here is gone.
    Whiteout,
    /// A device, pipe or socket: nothing that an image can hold.
    Special,
}

/// The memory of what was seen last.
#[derive(Debug)]
pub struct Scanner {
    layers: Layers,
    /// Whether owners are written down in attributes, for want of ids.
    single: bool,
    seen: BTreeMap<Box<[u8]>, (Stamp, u64)>,
    round: u64,
    /// The number of a folder without attributes.
    plain: u64,
}

/// Folders of the tree that are the sandbox's own, or that no image keeps.
const OUTSIDE: [&[u8]; 5] = [b"dev", b"proc", b"run", b"sys", b"tmp"];

/// One thing that differs from the last look, with an open file where there is content.
pub type Difference = (Reply, Option<OwnedFd>);

/// What a walk through the upper layer has found, by path.
#[derive(Default)]
struct News {
    removed: Vec<Box<[u8]>>,
    put: BTreeMap<Box<[u8]>, Stamp>,
}

impl Scanner {
    /// Takes what is there now as seen.
    pub fn new(layers: Layers, single: bool) -> io::Result<Self> {
        let mut scanner = Self { layers, single, seen: BTreeMap::new(), round: 0, plain: Attributes::default().number() };
        scanner.look()?;
        Ok(scanner)
    }

    /// Returns the scratch folder, where it is on disk.
    pub fn scratch(&self) -> Option<BorrowedFd<'_>> {
        self.layers.scratch.as_ref().map(AsFd::as_fd)
    }

    /// Reports what differs from the last look: removals first, each list in the order of the paths.
    pub fn differences(&mut self, links: &Links, report: &mut dyn FnMut(Difference) -> io::Result<()>) -> io::Result<()> {
        let News { mut removed, put } = self.look()?;
        removed.sort();
        for path in removed {
            let path = Bytes(path.into());
            report((Reply::Change { path, found: Found::Remove, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }, None))?;
        }
        for (path, stamp) in put {
            if let Some(difference) = self.describe(&path, &stamp, links)? {
                report(difference)?;
            }
        }
        Ok(())
    }

    /// Walks the upper layer and remembers it.
    fn look(&mut self) -> io::Result<News> {
        self.round += 1;
        let mut news = News::default();
        let mut folders: Vec<(Box<[u8]>, bool)> = vec![(Box::default(), false)];
        // A kernel buffer of this size takes some hundred names at a time.
        let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
        while let Some((folder, anew)) = folders.pop() {
            self.look_into(&folder, anew, &mut buffer, &mut folders, &mut news)?;
        }
        let round = self.round;
        let mut last: Option<Box<[u8]>> = None;
        self.seen.retain(|path, (stamp, seen)| {
            let stays = *seen == round;
            // A whiteout that went away uncovers the same lower entry only as a part of a folder that was removed.
            let below = last.as_ref().is_some_and(|last| path.starts_with(last) && path.get(last.len()) == Some(&b'/'));
            if !stays && !below && stamp.kind != Kind::Special {
                if stamp.kind != Kind::Whiteout {
                    news.removed.push(path.clone());
                }
                last = Some(path.clone());
            }
            stays
        });
        Ok(news)
    }

    fn look_into(
        &mut self,
        folder: &[u8],
        anew: bool,
        buffer: &mut [MaybeUninit<u8>],
        folders: &mut Vec<(Box<[u8]>, bool)>,
        news: &mut News,
    ) -> io::Result<()> {
        let handle = self.open(folder, OFlags::DIRECTORY | OFlags::RDONLY)?;
        if folder.is_empty() {
            let stamp = look_at(handle.as_fd(), b"", self.seen.get(b"".as_slice()).map(|(stamp, _)| stamp))?;
            self.note(b"", stamp, false, news);
        }
        let mut path = folder.to_vec();
        let mut entries = RawDir::new(&handle, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || folder.is_empty() && OUTSIDE.contains(&name) {
                continue;
            }
            path.truncate(folder.len());
            if !folder.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let stamp = look_at(handle.as_fd(), name, self.seen.get(path.as_slice()).map(|(stamp, _)| stamp))?;
            let hides = self.note(&path, stamp, anew, news);
            if matches!(stamp.kind, Kind::Directory { .. }) {
                folders.push((path.as_slice().into(), hides));
            }
        }
        Ok(())
    }

    /// Remembers a path; returns whether all below it counts as new.
    fn note(&mut self, path: &[u8], stamp: Stamp, anew: bool, news: &mut News) -> bool {
        let round = self.round;
        // Most paths are known: only a new one is copied.
        let before = if let Some((seen, when)) = self.seen.get_mut(path) {
            *when = round;
            Some(std::mem::replace(seen, stamp))
        } else {
            self.seen.insert(path.into(), (stamp, round));
            None
        };
        let opaque = |stamp: &Stamp| matches!(stamp.kind, Kind::Directory { opaque: true, .. });
        let hides = opaque(&stamp) && before.is_none_or(|before| !opaque(&before) || before.inode != stamp.inode);
        if hides && !anew {
            news.removed.push(path.into());
        }
        let same = before == Some(stamp) && !anew;
        match stamp.kind {
            Kind::Whiteout if !same => news.removed.push(path.into()),
            Kind::Special if before.map_or_else(|| self.below(path).is_some(), |before| before.kind != Kind::Special) => {
                news.removed.push(path.into());
            }
            Kind::Whiteout | Kind::Special => {}
            Kind::Directory { .. } if !hides && !anew && before.is_some_and(|before| same_folder(&before, &stamp)) => {}
            Kind::Directory { opaque: false, .. } if before.is_none() && !anew && self.only_copied_up(path, &stamp) => {}
            _ if same => {}
            _ => {
                news.put.insert(path.into(), stamp);
            }
        }
        anew || hides
    }

    /// Returns whether a folder is in the upper layer only because something in it is.
    fn only_copied_up(&self, path: &[u8], stamp: &Stamp) -> bool {
        self.below(path).is_some_and(|stat| (stat.st_mode, stat.st_uid, stat.st_gid) == (stamp.mode, stamp.uid, stamp.gid))
            && stamp.kind == Kind::Directory { opaque: false, attributes: self.plain }
    }

    /// Returns what the layers below have at a path.
    fn below(&self, path: &[u8]) -> Option<Stat> {
        let path = if path.is_empty() { b"." } else { path };
        self.layers.lower.iter().find_map(|folder| statat(folder, path, AtFlags::SYMLINK_NOFOLLOW).ok())
    }

    /// Returns the group that a new file has from its folder, where only one id is mapped.
    fn group_handed_on(&self, path: &[u8]) -> u32 {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let parent = &path[..slash.unwrap_or(0)];
        let hands_on = self.seen.get(parent).is_some_and(|(stamp, _)| stamp.mode & libc::S_ISGID != 0);
        if !hands_on || self.below(path).is_some() {
            return 0;
        }
        let folder = self.open(parent, OFlags::DIRECTORY | OFlags::RDONLY);
        let owner = folder.and_then(|folder| read_attributes(folder.as_fd())).ok().and_then(|attributes| attributes.owner);
        owner.map_or(0, |(_, gid)| gid)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(openat2(&self.layers.upper, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
    }

    /// Describes a path as it stands in the upper layer; `None` when it is nothing that an image can hold.
    fn describe(&self, path: &[u8], stamp: &Stamp, links: &Links) -> io::Result<Option<Difference>> {
        let mut mode = u16::try_from(stamp.mode & 0o7777).unwrap_or(0);
        let mut handle = None;
        let mut attributes = Attributes::default();
        if matches!(stamp.kind, Kind::Directory { .. } | Kind::File) {
            let open = self.open(path, OFlags::RDONLY)?;
            attributes = read_attributes(open.as_fd())?;
            handle = Some(if self.layers.covered && stamp.kind == Kind::File { hook::restored(open)? } else { open });
        }
        let (found, mtime) = match stamp.kind {
            Kind::Directory { .. } => {
                handle = None;
                (Found::Directory, 0)
            }
            Kind::File => (Found::File { shared: stamp.links > 1 }, stamp.modified),
            Kind::Symlink => {
                mode = 0o777;
                (Found::Symlink(Bytes(readlinkat(&self.layers.upper, path, Vec::new())?.into_bytes())), stamp.modified)
            }
            Kind::Whiteout | Kind::Special => return Ok(None),
        };
        let (uid, gid) = match stamp.kind {
            _ if !self.single => (stamp.uid, stamp.gid),
            Kind::Symlink => links.get(path).copied().unwrap_or((0, 0)),
            _ => attributes.owner.unwrap_or_else(|| (0, self.group_handed_on(path))),
        };
        let change = Reply::Change { path: Bytes(path.to_vec()), found, mode, uid, gid, mtime, xattrs: attributes.kept };
        Ok(Some((change, handle)))
    }
}

/// Looks at one entry of a folder; what its attributes say is known from before where its change time has not moved.
fn look_at(folder: BorrowedFd<'_>, name: &[u8], before: Option<&Stamp>) -> io::Result<Stamp> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let found: Statx = statx(folder, name, flags, StatxFlags::BASIC_STATS)?;
    let mode = u32::from(found.stx_mode);
    let changed = (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec);
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => match before {
            Some(Stamp { changed: then, inode, kind: kind @ Kind::Directory { .. }, .. })
                if *then == changed && *inode == found.stx_ino =>
            {
                *kind
            }
            _ => directory(folder, name)?,
        },
        libc::S_IFREG => Kind::File,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFCHR if found.stx_rdev_major == 0 && found.stx_rdev_minor == 0 => Kind::Whiteout,
        _ => Kind::Special,
    };
    Ok(Stamp {
        inode: found.stx_ino,
        changed,
        modified: found.stx_mtime.tv_sec,
        size: found.stx_size,
        mode,
        uid: found.stx_uid,
        gid: found.stx_gid,
        links: found.stx_nlink,
        kind,
    })
}

/// What the extended attributes of a file or folder say.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Attributes {
    opaque: bool,
    /// The owner that is written down where one id is mapped.
    owner: Option<(u32, u32)>,
    /// What an image keeps: capabilities, and the user's that are not an overlay's or ours.
    kept: Vec<(String, Bytes)>,
}

impl Attributes {
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

fn read_attributes(handle: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    let mut names = vec![
        0_u8;
        match flistxattr_query(handle) {
            Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(attributes),
            result => result?,
        }
    ];
    let length = flistxattr(handle, &mut names[..])?;
    for name in names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name != "security.capability" && !name.starts_with("user.") {
            continue;
        }
        let mut value = vec![0_u8; fgetxattr_query(handle, name)?];
        let length = fgetxattr(handle, name, &mut value[..])?;
        value.truncate(length);
        match name {
            "user.overlay.opaque" => attributes.opaque = value == b"y",
            OWNER_ATTRIBUTE => attributes.owner = parse_owner(&value),
            _ if name.starts_with("user.overlay.") || name.starts_with("user.parvis.") => {}
            _ => attributes.kept.push((name.to_owned(), Bytes(value))),
        }
    }
    attributes.kept.sort();
    Ok(attributes)
}

/// Reads what a folder's attributes say, as one number that differs when they do.
fn directory(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Kind> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = if name.is_empty() { b"." } else { name };
    let attributes = read_attributes(openat(folder, name, flags, Mode::empty())?.as_fd())?;
    Ok(Kind::Directory { opaque: attributes.opaque, attributes: attributes.number() })
}

/// Returns whether nothing that an image keeps of a folder differs: its dates do not count.
fn same_folder(before: &Stamp, now: &Stamp) -> bool {
    before.changed == now.changed || (before.mode, before.uid, before.gid, before.kind) == (now.mode, now.uid, now.gid, now.kind)
}
