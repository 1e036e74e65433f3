//! An HTTP/1.1 server on loopback that serves a folder honestly, or tells the lies it is asked to tell.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lowercase.
    pub headers: Vec<(String, String)>,
    /// How many requests for the same path came before this one.
    pub earlier: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Serves the file, or the asked part of it.
    Honest,
    /// Closes the connection after this many bytes of the body.
    Truncate(u64),
    /// Sends this many bytes of the body, then nothing, and keeps the connection.
    Stall(u64),
    /// Sends this many bytes each second.
    Slow(u64),
    /// Sends the whole file with 200 though a part was asked for.
    IgnoreRange,
    /// Says a length that is larger or smaller by this many bytes.
    WrongLength(i64),
    /// Serves honestly, with this entity tag.
    Etag(&'static str),
    /// Changes one bit of the byte at this place of the file.
    Flip(u64),
    /// Answers with this status and no body.
    Status(u16),
    /// Redirects (302) to this address.
    Redirect(String),
    /// Sends these bytes in place of an answer.
    Raw(Vec<u8>),
    /// Closes the connection without an answer.
    Close,
}

type Script = dyn Fn(&Request) -> Act + Send + Sync;

/// A running server; it ends when it is dropped.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Serves a folder honestly.
    pub fn honest(folder: impl Into<PathBuf>) -> Self {
        Self::scripted(folder, |_| Act::Honest)
    }

    /// Serves a folder, asking the script what to do with each request.
    pub fn scripted(folder: impl Into<PathBuf>, script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let shared = Arc::new(Shared {
            folder: folder.into(),
            script: Box::new(script),
            requests: Arc::clone(&requests),
            ended: Arc::clone(&ended),
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    // A client that goes away in the middle is no fault of the server.
                    thread::spawn(move || shared.converse(stream).unwrap_or(()));
                }
            }
        });
        Self { port, requests, ended }
    }

    /// Returns the address of the folder, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the address with credentials in it, and under another host name.
    pub fn url_with(&self, credentials: &str) -> String {
        format!("http://{credentials}@localhost:{}", self.port)
    }

    /// Returns what was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Asserts that no request carried credentials of any kind.
    pub fn assert_no_credentials(&self) {
        for request in self.requests() {
            for name in ["authorization", "proxy-authorization", "cookie"] {
                assert!(request.header(name).is_none(), "`{name}` was sent with {} {}", request.method, request.path);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

struct Shared {
    folder: PathBuf,
    script: Box<Script>,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Shared {
    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(mut request) = read_request(&mut reader)? {
            {
                let mut requests = self.requests.lock().unwrap();
                request.earlier = requests.iter().filter(|known| known.path == request.path).count();
                requests.push(request.clone());
            }
            let act = (self.script)(&request);
            if !self.answer(&request, &act, &mut writer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers one request and returns whether the connection lives on.
    fn answer(&self, request: &Request, act: &Act, writer: &mut TcpStream) -> std::io::Result<bool> {
        match act {
            Act::Close => return Ok(false),
            Act::Raw(bytes) => {
                writer.write_all(bytes)?;
                return Ok(false);
            }
            Act::Status(status) => return empty(writer, *status, "").map(|()| true),
            Act::Redirect(to) => return empty(writer, 302, &format!("Location: {to}\r\n")).map(|()| true),
            _ => {}
        }
        let path = decoded(request.path.split('?').next().unwrap_or_default().trim_start_matches('/'));
        let inside = !path.split('/').any(|part| part == "..");
        let file = if inside { std::fs::File::open(self.folder.join(&path)).ok() } else { None };
        let Some(mut file) = file.filter(|file| file.metadata().is_ok_and(|about| about.is_file())) else {
            return empty(writer, 404, "").map(|()| true);
        };
        let about = file.metadata()?;
        let total = about.len();
        let modified = about.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let etag = if let Act::Etag(etag) = act { (*etag).to_owned() } else { format!("\"{total:x}-{modified:x}\"") };
        let current = request.header("if-range").is_none_or(|tag| tag == etag);
        let range =
            if matches!(act, Act::IgnoreRange) || !current { None } else { request.header("range").and_then(parse_range) };
        let (first, last) = match range {
            Some((first, _)) if first >= total => {
                return empty(writer, 416, &format!("Content-Range: bytes */{total}\r\n")).map(|()| true);
            }
            Some((first, last)) => (first, last.unwrap_or(u64::MAX).min(total - 1)),
            None => (0, total.saturating_sub(1)),
        };
        let length = if total == 0 { 0 } else { last - first + 1 };
        let claimed = if let Act::WrongLength(by) = act { length.saturating_add_signed(*by) } else { length };
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {claimed}\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\n")?;
        if range.is_some() {
            write!(writer, "Content-Range: bytes {first}-{last}/{total}\r\n")?;
        }
        writer.write_all(b"\r\n")?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        file.seek(SeekFrom::Start(first))?;
        let stop = if let Act::Truncate(bytes) | Act::Stall(bytes) = act { (*bytes).min(length) } else { length };
        let mut sent = 0;
        let mut buffer = vec![0_u8; 1 << 16];
        while sent < stop {
            let slice = if let Act::Slow(bytes) = act { (*bytes).min(buffer.len() as u64) } else { buffer.len() as u64 };
            let want = usize::try_from(slice.min(stop - sent)).unwrap();
            file.read_exact(&mut buffer[..want])?;
            if let Act::Flip(place) = act {
                let here = place
                    .checked_sub(first + sent)
                    .and_then(|offset| usize::try_from(offset).ok())
                    .filter(|offset| *offset < want);
                if let Some(offset) = here {
                    buffer[offset] ^= 1;
                }
            }
            writer.write_all(&buffer[..want])?;
            sent += want as u64;
            if matches!(act, Act::Slow(_)) {
                thread::sleep(Duration::from_secs(1));
            }
        }
        if matches!(act, Act::Stall(_)) {
            while !self.ended.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(matches!(act, Act::Honest | Act::Etag(_) | Act::IgnoreRange | Act::Flip(_)))
    }
}

pub fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((key, value)) => headers.push((key.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(Some(Request { method, path, headers, earlier: 0 })),
        }
    }
}

/// Returns a path without its `%2B` and the like.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        text.push(code.map_or('%', char::from));
        text.push_str(&part[if code.is_some() { 2 } else { 0 }..]);
    }
    text
}

fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}

fn empty(writer: &mut TcpStream, status: u16, headers: &str) -> std::io::Result<()> {
    write!(writer, "HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\n{headers}\r\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "0123456789").unwrap();
        folder
    }

    /// Sends one request and returns all that comes back before the connection closes or falls silent.
    fn ask(server: &Server, headers: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        write!(stream, "GET /f HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            answer.extend(&buffer[..count]);
        }
        String::from_utf8(answer).unwrap()
    }

    fn with(act: Act) -> (TempDir, Server) {
        let folder = folder();
        let server = Server::scripted(folder.path(), move |_| act.clone());
        (folder, server)
    }

    #[test]
    fn an_honest_server_sends_files_and_their_parts() {
        let folder = folder();
        let server = Server::honest(folder.path());
        assert!(ask(&server, "").ends_with("\r\n\r\n0123456789"));
        let part = ask(&server, "Range: bytes=7-\r\n");
        assert!(
            part.starts_with("HTTP/1.1 206 ") && part.contains("Content-Range: bytes 7-9/10") && part.ends_with("\r\n\r\n789"),
            "{part}"
        );
        assert!(ask(&server, "Range: bytes=10-\r\n").starts_with("HTTP/1.1 416 "));
        assert!(ask(&server, "Range: bytes=7-\r\nIf-Range: \"old\"\r\n").ends_with("0123456789"));
        assert_eq!(server.requests().iter().map(|request| request.earlier).collect::<Vec<_>>(), [0, 1, 2, 3]);
        server.assert_no_credentials();
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let (_folder, server) = with(Act::Honest);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(stream, "GET /../../etc/passwd HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
    }

    #[test]
    fn every_lie_is_told() {
        let lies: [(Act, &str); 11] = [
            (Act::Truncate(4), "\r\n\r\n0123"),
            (Act::Stall(3), "\r\n\r\n012"),
            (Act::Slow(2), "\r\n\r\n01"),
            (Act::IgnoreRange, "\r\n\r\n0123456789"),
            (Act::WrongLength(5), "Content-Length: 13"),
            (Act::WrongLength(-5), "Content-Length: 3"),
            (Act::Etag("\"x\""), "ETag: \"x\""),
            (Act::Flip(9), "\r\n\r\n012345678"),
            (Act::Status(503), "HTTP/1.1 503 "),
            (Act::Redirect("http://elsewhere.invalid/".into()), "Location: http://elsewhere.invalid/"),
            (Act::Raw(b"nonsense".to_vec()), "nonsense"),
        ];
        for (act, expected) in lies {
            let range = if matches!(act, Act::IgnoreRange | Act::WrongLength(_)) { "Range: bytes=2-\r\n" } else { "" };
            let (_folder, server) = with(act.clone());
            let answer = ask(&server, range);
            assert!(answer.contains(expected), "{act:?}: {answer}");
        }
        assert!(ask(&with(Act::Flip(9)).1, "").ends_with("0123456788"));
        assert_eq!(ask(&with(Act::Close).1, ""), "");
    }

    #[test]
    #[should_panic(expected = "`authorization` was sent")]
    fn credentials_that_leave_are_seen() {
        let (_folder, server) = with(Act::Honest);
        assert!(server.url_with("u:p").starts_with("http://u:p@localhost:"));
        ask(&server, "Authorization: Basic eA==\r\n");
        server.assert_no_credentials();
    }
}
