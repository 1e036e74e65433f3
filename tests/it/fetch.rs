//! Fetching from servers that break, lie and stall: what arrives is whole and right, or does not arrive.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parvis::edge::fetch::{Download, FetchError, FetchOptions, Fetched, Fetcher, Proxies};
use parvis::model::digest::DownloadDigest;
use parvis::screen::{Screen, Task, Unit};
use tempfile::TempDir;

use crate::kit::badhttp::{Act, Request, Server};

/// Larger than a socket's buffers, so that a cut comes in the middle.
const SIZE: usize = 3 << 20;

/// Counts what is shown as done.
#[derive(Default)]
struct Quiet {
    done: std::sync::Arc<AtomicU64>,
}

struct Count(std::sync::Arc<AtomicU64>);

impl Task for Count {
    fn advance(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
    fn detail(&self, _: &str) {}
}

impl Screen for Quiet {
    fn say(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn document(&self, _: &serde_json::Value) {}
    fn work(&self, _: &str, _: Option<u64>, _: Unit) -> Box<dyn Task> {
        Box::new(Count(self.done.clone()))
    }
    fn note_raw(&self, _: &[u8]) {}
    fn raw(&self, _: &[u8]) {}
}

/// A folder that is served, and one into which files are fetched.
struct World {
    served: TempDir,
    into: TempDir,
    content: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (served, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let content: Vec<u8> = (0..SIZE).map(|place| u8::try_from(place * 7 / 3 % 251).unwrap()).collect();
        fs::write(served.path().join("f.deb"), &content).unwrap();
        Self { served, into, content }
    }

    fn serve(&self, script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Server {
        Server::scripted(self.served.path(), script)
    }

    fn download(&self, urls: &[String]) -> Download {
        Download {
            name: "libc6".into(),
            urls: urls.iter().map(|url| format!("{url}/f.deb")).collect(),
            digest: Some(DownloadDigest::of(&self.content)),
            size: Some(SIZE as u64),
            limit: 0,
        }
    }

    fn fetch(&self, server: &Server) -> Result<Fetched, FetchError> {
        self.fetch_with(quick(), &[server.url()])
    }

    fn fetch_with(&self, options: FetchOptions, urls: &[String]) -> Result<Fetched, FetchError> {
        let screen = Quiet::default();
        let fetched = Fetcher::new(options).fetch(&[self.download(urls)], self.into.path(), &screen)?;
        let digest = DownloadDigest::of(&self.content);
        assert_eq!(fs::read(self.into.path().join(digest.to_string())).unwrap(), self.content);
        assert_eq!(screen.done.load(Ordering::SeqCst), SIZE as u64, "each byte is counted once");
        assert_eq!(self.files(), 1, "no part stays behind");
        Ok(fetched[0])
    }

    fn files(&self) -> usize {
        fs::read_dir(self.into.path()).unwrap().count()
    }
}

fn quick() -> FetchOptions {
    FetchOptions { stall: Duration::from_secs(1), pause: Duration::from_millis(5), ..FetchOptions::default() }
}

/// Returns the error, its cause and its hint as a person sees them.
fn words(error: &FetchError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause} ({})", error.hint().unwrap_or_default())
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn a_closed_connection_is_resumed_where_it_stopped() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier < 4 { Act::Truncate(600_000) } else { Act::Honest });
    world.fetch(&server).unwrap();
    let ranges = ranges(&server);
    assert_eq!(ranges.len(), 5);
    assert_eq!(ranges[1].as_deref(), Some("bytes=600000-"));
    assert_eq!(ranges[4].as_deref(), Some("bytes=2400000-"));
    assert!(server.requests()[4].header("if-range").is_some());
}

#[test]
fn what_an_earlier_run_left_is_continued() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier == 0 { Act::Truncate(1000) } else { Act::Status(404) });
    let error = world.fetch(&server).unwrap_err();
    assert!(words(&error).contains("cannot fetch `libc6` from `http://127.0.0.1"), "{}", words(&error));
    assert!(words(&error).contains("404 Not Found (the mirror may be in mid-sync"), "{}", words(&error));
    let second = world.serve(|_| Act::Honest);
    world.fetch_with(quick(), &[second.url()]).unwrap();
    assert_eq!(ranges(&second), [Some("bytes=1000-".into())]);
}

#[test]
fn a_server_that_ignores_ranges_or_refuses_them_starts_anew() {
    for act in [Act::IgnoreRange, Act::Status(416), Act::Etag("\"another\"")] {
        let world = World::new();
        let server = world.serve(move |request| match request.earlier {
            0 => Act::Truncate(600_000),
            1 => act.clone(),
            _ => Act::Honest,
        });
        world.fetch(&server).unwrap();
    }
}

#[test]
fn a_part_that_is_of_another_file_is_thrown_away() {
    let world = World::new();
    let part = world.into.path().join(format!("{}.part", DownloadDigest::of(&world.content)));
    for wrong in [vec![0; 700_000], vec![0; SIZE], vec![0; SIZE + 1]] {
        fs::write(&part, wrong).unwrap();
        let server = world.serve(|_| Act::Honest);
        world.fetch(&server).unwrap();
        fs::remove_dir_all(world.into.path()).unwrap();
        fs::create_dir(world.into.path()).unwrap();
    }
}

#[test]
fn a_part_that_was_whole_needs_no_request() {
    let world = World::new();
    fs::write(world.into.path().join(format!("{}.part", DownloadDigest::of(&world.content))), &world.content).unwrap();
    let server = world.serve(|_| Act::Close);
    let fetched = Fetcher::new(quick()).fetch(&[world.download(&[server.url()])], world.into.path(), &Quiet::default()).unwrap();
    assert_eq!((fetched[0].size, server.requests().len(), world.files()), (SIZE as u64, 0, 1));
}

#[test]
fn lies_about_content_and_length_are_refused_and_leave_nothing_under_the_name() {
    for (act, expected) in [
        (Act::Flip(99), "its digest is "),
        (Act::WrongLength(5), "3145728 bytes were promised, and the server has 3145733"),
        (Act::WrongLength(-5), "3145728 bytes were promised, and the server has 3145723"),
        (Act::Status(403), "the server says 403 Forbidden (put user and password into the mirror's URL"),
        (Act::Status(500), "the server says 500 Internal Server Error"),
        (Act::Raw(b"nonsense\r\n\r\n".to_vec()), "the server's answer makes no sense"),
        (Act::Close, "the connection was closed after 0 bytes"),
        (Act::Truncate(0), "the connection was closed after 0 bytes"),
    ] {
        let world = World::new();
        let told = act.clone();
        let server = world.serve(move |_| told.clone());
        let error = world.fetch(&server).unwrap_err();
        assert!(words(&error).contains(expected), "{act:?}: {}", words(&error));
        assert!(!world.into.path().join(DownloadDigest::of(&world.content).to_string()).exists(), "{act:?}");
        assert!(server.requests().len() <= 3, "{act:?}");
    }
}

#[test]
fn the_next_place_is_tried_and_both_are_named_when_none_has_it() {
    let world = World::new();
    let (lying, honest) = (world.serve(|_| Act::Flip(3)), world.serve(|_| Act::Honest));
    world.fetch_with(quick(), &[lying.url(), honest.url()]).unwrap();
    let world = World::new();
    let absent = world.serve(|_| Act::Status(404));
    let error = world.fetch_with(quick(), &[lying.url(), absent.url()]).unwrap_err();
    assert!(
        words(&error).contains(&format!("{}/f.deb", lying.url())) && words(&error).contains(&absent.url()),
        "{}",
        words(&error)
    );
    assert!(error.is_missing());
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier < 2 { Act::Status(503) } else { Act::Honest });
    world.fetch(&server).unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_stall_and_a_trickle_end_in_time() {
    for (act, expected) in [
        (Act::Stall(0), "nothing came for 1 seconds (check the network"),
        (Act::Stall(10), "nothing came for 1 seconds"),
        (Act::Slow(10), "less than 128 bytes per second came for 1 seconds"),
    ] {
        let world = World::new();
        let told = act.clone();
        let server = world.serve(move |_| told.clone());
        let options = FetchOptions { stall: Duration::from_millis(1500), ..quick() };
        let started = Instant::now();
        let error = world.fetch_with(options, &[server.url()]).unwrap_err();
        assert!(words(&error).contains(expected), "{act:?}: {}", words(&error));
        assert!(started.elapsed() < Duration::from_secs(5), "{act:?}: {:?}", started.elapsed());
    }
}

#[test]
fn a_stall_in_the_middle_goes_on_over_a_new_connection() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier == 0 { Act::Stall(600_000) } else { Act::Honest });
    world.fetch(&server).unwrap();
    assert_eq!(ranges(&server)[1].as_deref(), Some("bytes=600000-"));
}

#[test]
fn a_redirect_loop_ends() {
    let world = World::new();
    let server = world.serve(|_| Act::Redirect("/f.deb".into()));
    let error = world.fetch(&server).unwrap_err();
    assert!(words(&error).contains("redirected more than 10 times"), "{}", words(&error));
    assert!(server.requests().len() <= 12);
}

#[test]
fn a_redirect_to_another_host_carries_no_credentials() {
    let world = World::new();
    let target = world.serve(|_| Act::Honest);
    let to = format!("{}/f.deb", target.url());
    let server = world.serve(move |_| Act::Redirect(to.clone()));
    world.fetch_with(quick(), &[server.url_with("me:secret")]).unwrap();
    assert!(server.requests()[0].header("authorization").is_some(), "the first host gets what the URL says");
    target.assert_no_credentials();
    assert!(target.requests()[0].header("referer").is_none());
}

#[test]
fn credentials_of_urls_and_proxies_are_never_shown() {
    let world = World::new();
    let server = world.serve(|_| Act::Status(401));
    let error = world.fetch_with(quick(), &[server.url_with("me:secret")]).unwrap_err();
    assert!(!format!("{} {error:?}", words(&error)).contains("secret"), "{error:?}");
    let proxies = Proxies { http: Some("::me:secret@".into()), ..Proxies::default() };
    let error = world.fetch_with(FetchOptions { proxies, ..quick() }, &[server.url()]).unwrap_err();
    assert!(!format!("{} {error:?}", words(&error)).contains("secret"), "{error:?}");
    assert!(words(&error).contains("is not a proxy's address (it should look like"), "{}", words(&error));
}

#[test]
fn a_proxy_that_wants_a_password_is_understood_and_exceptions_go_around_it() {
    let world = World::new();
    let (proxy, server) = (world.serve(|_| Act::Status(407)), world.serve(|_| Act::Honest));
    let proxies = Proxies { http: Some(proxy.url()), https: Some(proxy.url()), ..Proxies::default() };
    let options = FetchOptions { proxies, ..quick() };
    for url in [server.url(), "https://mirror.invalid".into()] {
        let error = world.fetch_with(options.clone(), &[url]).unwrap_err();
        assert!(words(&error).contains("put user and password into the proxy's URL"), "{}", words(&error));
    }
    let mut around = options;
    around.proxies.except = Some("127.0.0.1".into());
    world.fetch_with(around, &[server.url()]).unwrap();
}

#[test]
fn no_connection_and_no_host_are_said_apart() {
    let world = World::new();
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let error = world.fetch_with(quick(), &[format!("http://127.0.0.1:{port}")]).unwrap_err();
    assert!(words(&error).contains("no connection: ") && words(&error).contains("refused"), "{}", words(&error));
    let error = world.fetch_with(quick(), &["http://parvis.invalid".into()]).unwrap_err();
    assert!(words(&error).contains("the host is not known"), "{}", words(&error));
}

#[test]
fn many_files_come_at_once_but_not_too_many_from_one_host() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    static MOST: AtomicU64 = AtomicU64::new(0);
    let world = World::new();
    let mut downloads = Vec::new();
    let server = world.serve(|_| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Act::Honest
    });
    for number in 0..60_u32 {
        let content = format!("package {number}").repeat(usize::try_from(number).unwrap() + 1);
        fs::write(world.served.path().join(number.to_string()), &content).unwrap();
        downloads.push(Download {
            name: number.to_string(),
            urls: vec![format!("{}/{number}", server.url())],
            digest: Some(DownloadDigest::of(content.as_bytes())),
            size: Some(content.len() as u64),
            limit: 0,
        });
    }
    let door = Fetcher::new(quick());
    let fetched = door.fetch(&downloads, world.into.path(), &Quiet::default()).unwrap();
    assert!(fetched.iter().zip(&downloads).all(|(fetched, asked)| Some(fetched.digest) == asked.digest && fetched.new));
    assert_eq!(MOST.load(Ordering::SeqCst), 6);
    let order: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(order[..6].contains(&"/59".into()) && order[54..].contains(&"/0".into()), "the largest come first: {order:?}");
    let again = door.fetch(&downloads, world.into.path(), &Quiet::default()).unwrap();
    assert!(again.iter().all(|fetched| !fetched.new));
    assert_eq!((server.requests().len(), world.files()), (60, 60));
}

#[test]
fn two_fetchers_at_once_fetch_a_file_once() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier == 0 { Act::Stall(600_000) } else { Act::Honest });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                Fetcher::new(quick()).fetch(&[world.download(&[server.url()])], world.into.path(), &Quiet::default()).unwrap()
            });
        }
    });
    assert_eq!((ranges(&server).len(), world.files()), (2, 1));
}

#[test]
fn offline_names_what_is_missing_and_a_mirror_on_disk_still_works() {
    let world = World::new();
    let offline = FetchOptions { offline: true, ..quick() };
    let server = world.serve(|_| Act::Honest);
    let error = world.fetch_with(offline.clone(), &[server.url()]).unwrap_err();
    assert_eq!(
        words(&error),
        "1 files are not in the store, and the network is not to be used: `libc6` (run it once without `--offline`)"
    );
    let disk = format!("file://{}", world.served.path().display());
    world.fetch_with(offline.clone(), &[server.url(), disk.clone()]).unwrap();
    assert_eq!(server.requests().len(), 0);
    let bytes = Fetcher::new(offline).fetch_bytes("InRelease", &[format!("{disk}/f.deb")], SIZE as u64).unwrap();
    assert_eq!(bytes, world.content);
}

#[test]
fn a_pipe_or_a_gap_in_a_mirror_on_disk_is_refused() {
    let world = World::new();
    let disk = format!("file://{}", world.served.path().display());
    fs::remove_file(world.served.path().join("f.deb")).unwrap();
    let error = world.fetch_with(quick(), std::slice::from_ref(&disk)).unwrap_err();
    assert!(error.is_missing());
    assert!(Command::new("mkfifo").arg(world.served.path().join("f.deb")).status().unwrap().success());
    let error = world.fetch_with(quick(), &[disk]).unwrap_err();
    assert!(words(&error).contains("the file cannot be read"), "{}", words(&error));
}

#[test]
fn a_document_larger_than_its_limit_is_refused() {
    let world = World::new();
    let server = world.serve(|_| Act::Honest);
    let error = Fetcher::new(quick()).fetch_bytes("InRelease", &[format!("{}/f.deb", server.url())], 1000).unwrap_err();
    assert!(words(&error).contains("it is larger than 1000 bytes"), "{}", words(&error));
}

#[test]
fn what_has_no_digest_yet_is_kept_under_the_digest_it_has() {
    let world = World::new();
    let server = world.serve(|request| if request.earlier == 0 { Act::Truncate(600_000) } else { Act::Honest });
    let download = Download { digest: None, size: None, limit: SIZE as u64, ..world.download(&[server.url()]) };
    let fetched = Fetcher::new(quick()).fetch(&[download], world.into.path(), &Quiet::default()).unwrap();
    assert_eq!(fetched[0].digest, DownloadDigest::of(&world.content));
    assert_eq!(fs::read(world.into.path().join(fetched[0].digest.to_string())).unwrap(), world.content);
}

/// `openssl s_server` with a certificate that is wrong in one way.
pub struct TlsServer {
    child: Child,
    pub port: u16,
    /// Its authority is there as `ca.pem`.
    pub folder: TempDir,
}

impl TlsServer {
    pub fn new(names: &str, days: &str, folder: TempDir) -> Self {
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let run = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let (ca, ca_key, key, request, extensions, certificate) =
            (at("ca.pem"), at("ca.key"), at("key.pem"), at("request.pem"), at("extensions"), at("certificate.pem"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        run(&[&["req", "-x509", "-subj", "/CN=parvis test", "-days", "2", "-keyout", &ca_key, "-out", &ca], curve.as_slice()]
            .concat());
        run(&[&["req", "-subj", "/CN=x", "-keyout", &key, "-out", &request], curve.as_slice()].concat());
        fs::write(&extensions, format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n")).unwrap();
        run(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-days",
            days,
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-HTTP", "-key", &key, "-cert", &certificate, "-accept", &format!("127.0.0.1:{port}")])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, folder }
    }

    fn fetch(&self, ca_file: Option<&Path>) -> Result<Vec<u8>, FetchError> {
        self.fetch_answer(ca_file, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    }

    /// Fetches what the server answers with, headers and all.
    fn fetch_answer(&self, ca_file: Option<&Path>, answer: &str) -> Result<Vec<u8>, FetchError> {
        fs::write(self.folder.path().join("document"), answer).unwrap();
        let options = FetchOptions { ca_file: ca_file.map(Into::into), stall: Duration::from_secs(10), ..quick() };
        Fetcher::new(options).fetch_bytes("document", &[format!("https://127.0.0.1:{}/document", self.port)], 100)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_refused_with_the_reason() {
    let mut server = TlsServer::new("IP:127.0.0.1", "2", tempfile::tempdir().unwrap());
    let authority = server.folder.path().join("ca.pem");
    assert_eq!(server.fetch(Some(&authority)).unwrap(), b"hello");
    let error = server.fetch(None).unwrap_err();
    assert!(words(&error).contains("UnknownIssuer (install the package `ca-certificates`, or name"), "{}", words(&error));
    server = TlsServer::new("DNS:elsewhere.example", "2", tempfile::tempdir().unwrap());
    let authority = server.folder.path().join("ca.pem");
    let error = server.fetch(Some(&authority)).unwrap_err();
    assert!(
        words(&error).contains("the server cannot prove who it is: ") && words(&error).contains("elsewhere.example"),
        "{}",
        words(&error)
    );
    server = TlsServer::new("IP:127.0.0.1", "-1", tempfile::tempdir().unwrap());
    let authority = server.folder.path().join("ca.pem");
    let error = server.fetch(Some(&authority)).unwrap_err();
    assert!(words(&error).contains("xpired") && words(&error).contains("check this machine's clock"), "{}", words(&error));
}

#[test]
fn a_certificate_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let world = World::new();
    let server = world.serve(|_| Act::Honest);
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, expected) in [(None, "cannot be read"), (Some(""), "holds no certificate"), (Some(torn), "")] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let error = world.fetch_with(FetchOptions { ca_file: Some(path.clone()), ..quick() }, &[server.url()]).unwrap_err();
        assert!(words(&error).starts_with(&format!("the certificate file `{}` {expected}", path.display())), "{}", words(&error));
        assert!(words(&error).contains("-----BEGIN CERTIFICATE-----"));
    }
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let world = World::new();
    let target = world.serve(|_| Act::Honest);
    let server = TlsServer::new("IP:127.0.0.1", "2", tempfile::tempdir().unwrap());
    let answer = format!("HTTP/1.0 302 Found\r\nLocation: {}/f.deb\r\nContent-Length: 0\r\n\r\n", target.url());
    let error = server.fetch_answer(Some(&server.folder.path().join("ca.pem")), &answer).unwrap_err();
    assert!(words(&error).contains("redirected from https to http"), "{}", words(&error));
    assert_eq!(target.requests().len(), 0);
}

#[test]
fn a_full_disk_is_said_before_anything_is_fetched() {
    let world = World::new();
    let server = world.serve(|_| Act::Honest);
    let download = Download { size: Some(1 << 60), ..world.download(&[server.url()]) };
    let error = Fetcher::new(quick()).fetch(&[download], world.into.path(), &Quiet::default()).unwrap_err();
    assert!(words(&error).contains("MiB needed, ") && words(&error).contains(" MiB free"), "{}", words(&error));
    assert_eq!((server.requests().len(), world.files()), (0, 0));
}

#[test]
fn memory_stays_flat_whatever_the_size() {
    let world = World::new();
    let file = fs::File::create(world.served.path().join("f.deb")).unwrap();
    file.set_len(256 << 20).unwrap();
    let server = world.serve(|_| Act::Honest);
    let download = Download { digest: None, size: None, limit: 1 << 30, ..world.download(&[server.url()]) };
    let before = peak();
    let fetched = Fetcher::new(quick()).fetch(&[download], world.into.path(), &Quiet::default()).unwrap();
    assert_eq!(fetched[0].size, 256 << 20);
    // Tests of the same process run beside this one.
    assert!(peak() - before < 100_000, "{} kB more", peak() - before);
}

/// Returns the most memory this process ever had, in kB.
fn peak() -> u64 {
    let mut status = String::new();
    fs::File::open("/proc/self/status").unwrap().read_to_string(&mut status).unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}
