//! What parvis and the process inside the sandbox say to each other, and how it crosses the socket.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Feature, Privilege, Upper};

/// Bytes that are mostly text: written as a string where they are UTF-8, else as a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Where the tree's files come from.
#[derive(Debug, Serialize, Deserialize)]
pub enum Source {
    Layers(Vec<Bytes>),
    Copy(Bytes),
}

/// Whose a path is, with the bits and attributes that a plain farm of links does not carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ownership {
    pub path: Bytes,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub xattrs: Vec<(String, Bytes)>,
}

/// What the worker sets up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    pub source: Source,
    pub scratch: Bytes,
    pub on_disk: bool,
    pub owners: Vec<Ownership>,
    pub shims: Vec<(Bytes, Bytes)>,
    pub natives: bool,
    /// Whether the loopback interface is up.
    pub loopback: bool,
    pub processes: u32,
    pub bytes: u64,
    /// Feature to pretend missing, so that tests can meet every refusal.
    pub without: Option<Feature>,
}

/// A program to run, with its three streams as descriptors beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub argv: Vec<Bytes>,
    pub env: Vec<Bytes>,
    pub cwd: Bytes,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// From parvis to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    Setup(Box<Setup>),
    Mapped(Privilege),
    Run(Run),
    Kill,
    Read(Bytes),
    /// The content comes as a descriptor.
    Write {
        path: Bytes,
        mode: u16,
        uid: u32,
        gid: u32,
    },
    Changes,
    Finish,
}

/// What the upper layer says of a path.
#[derive(Debug, Serialize, Deserialize)]
pub enum Found {
    Remove,
    Directory,
    /// The open file comes as a descriptor.
    File {
        shared: bool,
    },
    Symlink(Bytes),
}

/// From the worker to parvis.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The user namespace stands and waits for its ids.
    Unmapped,
    Ready(Upper),
    /// A feature of the kernel is missing, or a step of the setup failed.
    Failed {
        feature: Option<Feature>,
        what: String,
        errno: i32,
    },
    Exited(i32),
    Signalled(i32),
    TooManyProcesses,
    /// The open file comes as a descriptor.
    File,
    Absent,
    Done,
    Change {
        path: Bytes,
        found: Found,
        mode: u16,
        uid: u32,
        gid: u32,
        mtime: i64,
        xattrs: Vec<(String, Bytes)>,
    },
    End,
}

/// A socket that carries whole messages with their descriptors.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// More than any message has, so that a broken length does not fill the memory.
const LONGEST: usize = 256 << 20;
const MOST_DESCRIPTORS: usize = 4;

impl Channel {
    pub const fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Ends the conversation for both sides.
    pub fn close(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message and copies of the descriptors.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut frame = vec![0_u8; 4];
        serde_json::to_writer(&mut frame, message)?;
        let length = u32::try_from(frame.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        frame[..4].copy_from_slice(&length.to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sent = rustix::io::retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL))?;
        (&self.0).write_all(&frame[sent..])
    }

    /// Waits for a message; `UnexpectedEof` when the other side has gone.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut header = [0_u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut header)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (&self.0).read_exact(&mut header[received.bytes..])?;
        let length = u32::from_le_bytes(header) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        (&self.0).read_exact(&mut body)?;
        Ok((serde_json::from_slice(&body)?, descriptors))
    }
}

/// Takes a descriptor that was sent with one byte, if one was.
pub fn receive_descriptor(socket: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    })
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Seek as _;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) = (Channel::new(here), Channel::new(there));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        let path = Bytes(b"a\xff\n".to_vec());
        here.send(&Request::Read(path.clone()), &[file.as_fd()]).unwrap();
        here.send(&Request::Kill, &[]).unwrap();
        let (first, mut descriptors) = there.receive().unwrap();
        assert!(matches!(first, Request::Read(found) if found == path));
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(matches!(there.receive().unwrap(), (Request::Kill, none) if none.is_empty()));
        drop(here);
        assert_eq!(there.receive::<Request>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
