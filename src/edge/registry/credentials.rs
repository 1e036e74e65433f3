//! Users and passwords as `docker login` and `podman login` keep them: in a file, or with a helper program.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::image::canonical;
use crate::model::problem::shown;
use crate::model::reference::RepositoryName;

/// Bytes of a file of credentials, and of a helper's answer.
const LIMIT: u64 = 1 << 20;

/// How long a helper may take.
const HELPER_SECONDS: u64 = 10;

/// How somebody proves who they are. What is secret shows itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// What a token service takes in place of a password.
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Returns the part that nobody may see.
    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Password { password, .. } => password,
            Self::Identity(token) => token,
        }
    }
}

/// Credentials that cannot be had. Nothing of what a file or a helper says is repeated: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("`{path}` cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is no file of credentials: {problem}")]
    File { path: PathBuf, problem: &'static str },
    #[error("the credential helper `{program}` {problem}")]
    Helper { program: String, problem: String },
}

impl CredentialError {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "make it readable for you, or log in again".into(),
            Self::File { .. } => "mend it, or move it away and run `docker login` or `podman login` again".into(),
            Self::Helper { program, .. } if program.contains(['/', '\\']) => {
                "a helper is named in `config.json` by what follows `docker-credential-` in the name of its program".into()
            }
            Self::Helper { program, .. } => {
                format!("try `echo HOST | {program} get` by hand, or take the helper out of `config.json` and log in again")
            }
        }
    }
}

/// Looks for the credentials of a repository in these files, in their order; files that do not exist are passed over.
pub(super) fn find(files: &[PathBuf], repository: &RepositoryName) -> Result<Option<Credentials>, CredentialError> {
    for path in files {
        let Some(config) = read(path)? else { continue };
        if let Some(found) = (Config { path, config: &config }).find(repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let wrong = |problem| CredentialError::File { path: path.to_owned(), problem };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(wrong("it is too large"));
    }
    // Docker leaves an empty file where it was stopped at the wrong moment.
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    match canonical::read(&bytes) {
        Ok(Value::Object(config)) => Ok(Some(config)),
        Ok(_) => Err(wrong("it holds no object")),
        Err(_) => Err(wrong("it is not JSON, or has a key twice")),
    }
}

/// One file of credentials.
struct Config<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl Config<'_> {
    fn find(&self, repository: &RepositoryName) -> Result<Option<Credentials>, CredentialError> {
        let host = repository.registry().to_string();
        // What Docker calls its Hub.
        let hub = matches!(&*host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        let server = if hub { "https://index.docker.io/v1/" } else { &host };
        let helpers = self.config.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| helpers.get(&host).or_else(|| helpers.get(server)));
        if let Some(helper) = own.and_then(Value::as_str).filter(|helper| !helper.is_empty()) {
            return ask(helper, server);
        }
        // podman keeps credentials of single repositories, too; the longest name goes first.
        let full = repository.to_string();
        let names = full.match_indices('/').map(|(at, _)| full[..at].to_owned()).chain([full.clone()]);
        let mut names: Vec<String> = names.collect();
        names.reverse();
        if hub {
            names.extend(["https://index.docker.io/v1/", "index.docker.io", "docker.io"].map(str::to_owned));
        }
        names.extend([
            format!("https://{host}"),
            format!("https://{host}/"),
            format!("https://{host}/v1/"),
            format!("https://{host}/v2/"),
        ]);
        if let Some(auths) = self.config.get("auths").and_then(Value::as_object) {
            for entry in names.iter().filter_map(|name| auths.get(name)?.as_object()) {
                if let Some(found) = self.entry(entry)? {
                    return Ok(Some(found));
                }
            }
        }
        match self.config.get("credsStore").and_then(Value::as_str).filter(|helper| !helper.is_empty()) {
            Some(helper) => ask(helper, server),
            None => Ok(None),
        }
    }

    fn entry(&self, entry: &Map<String, Value>) -> Result<Option<Credentials>, CredentialError> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::Identity(token.to_owned())));
        }
        if let Some(encoded) = text("auth") {
            let wrong = || CredentialError::File { path: self.path.to_owned(), problem: "an `auth` in it cannot be read" };
            let decoded =
                STANDARD.decode(encoded.trim_end()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
            let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }));
        }
        Ok(match (text("username"), text("password")) {
            (Some(user), Some(password)) => Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }),
            _ => None,
        })
    }
}

/// Asks a helper program (the protocol of `docker-credential-helpers`), which may take its time but not all of it.
fn ask(helper: &str, server: &str) -> Result<Option<Credentials>, CredentialError> {
    let program = format!("docker-credential-{helper}");
    let failed = |problem: &str| CredentialError::Helper { program: shown(&program), problem: problem.to_owned() };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !helper.bytes().all(plain) {
        return Err(failed("is not the name of a program"));
    }
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Whatever it has started ends with it.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed("is not installed"),
        _ => failed("cannot be started"),
    })?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("cannot be spoken to"));
    };
    let server = server.to_owned();
    let (tell, told) = mpsc::channel();
    // Ends when the program does, which is killed below at the latest.
    std::thread::spawn(move || {
        // A program that does not listen may answer all the same.
        let _ = input.write_all(server.as_bytes());
        drop(input);
        let mut answer = Vec::new();
        let read = output.take(LIMIT).read_to_end(&mut answer).map(|_| answer);
        let _ = tell.send(read);
    });
    let answer = told.recv_timeout(Duration::from_secs(HELPER_SECONDS));
    let Ok(answer) = answer else {
        end(&mut child);
        return Err(failed(&format!("did not answer within {HELPER_SECONDS} seconds")));
    };
    let status = wait(&mut child).ok_or_else(|| failed(&format!("did not end within {HELPER_SECONDS} seconds")))?;
    let answer = answer.map_err(|_| failed("cannot be read"))?;
    if !status.success() {
        // The one thing that a helper says in words that all of them share.
        let words = String::from_utf8_lossy(&answer);
        if words.trim().starts_with("credentials not found in native keychain") {
            return Ok(None);
        }
        return Err(failed("failed"));
    }
    let object = canonical::read(&answer).ok();
    let text = |key: &str| object.as_ref()?.get(key)?.as_str().map(str::to_owned);
    match (text("Username"), text("Secret")) {
        (Some(user), Some(secret)) if user == "<token>" => Ok(Some(Credentials::Identity(secret))),
        (Some(user), Some(password)) => Ok(Some(Credentials::Password { user, password })),
        _ => Err(failed("gave an answer that cannot be read")),
    }
}

fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    for _ in 0..HELPER_SECONDS * 20 {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    end(child);
    None
}

fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}
