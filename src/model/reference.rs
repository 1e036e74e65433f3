//! What people call an image in a registry: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]` (OCI distribution-spec 1.1, "pulling manifests").

use std::fmt;
use std::str::FromStr;

use super::digest::BlobDigest;
use super::name::Tag;
use super::problem::shown;

/// Bytes of host and path together at most; registries have refused more (the same section).
const LONGEST: usize = 255;

/// Text that names nothing in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}")]
pub struct InvalidReference {
    text: String,
    problem: String,
    hint: &'static str,
}

impl InvalidReference {
    fn new(text: &str, problem: impl Into<String>, hint: &'static str) -> Self {
        Self { text: shown(text), problem: problem.into(), hint }
    }

    /// Returns what a person can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        self.hint
    }
}

/// The host of a registry, with its port where one is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryHost {
    /// In lowercase; an IPv6 address stands between brackets.
    host: String,
    port: Option<u16>,
}

impl RegistryHost {
    /// Returns the host without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, where one is named.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns whether it is this machine: what is sent there passes no network.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let address = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || address.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl FromStr for RegistryHost {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let hint = "a registry is a host name with perhaps a port: `registry.example`, `localhost:5000`";
        let wrong = |problem: &str| InvalidReference::new(text, problem, hint);
        let (host, port) = match text.strip_prefix('[') {
            Some(_) => match text.split_once(']') {
                Some((_, "")) => (text, None),
                Some((address, after)) => {
                    (&text[..=address.len()], Some(after.strip_prefix(':').ok_or_else(|| wrong("is no host"))?))
                }
                None => return Err(wrong("is no host")),
            },
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => None,
            Some(digits) => {
                let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
                Some(digits.parse::<u16>().ok().filter(|_| plain).ok_or_else(|| wrong("has a port that is none"))?)
            }
        };
        let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
            None => host.len() <= 253 && host.split('.').all(is_label),
        };
        if good { Ok(Self { host: host.to_ascii_lowercase(), port }) } else { Err(wrong("is no host")) }
    }
}

/// Whether a text can stand between the dots of a host name (RFC 1123, section 2.1).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A repository of a registry: where all versions of an image are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryName {
    registry: RegistryHost,
    path: String,
}

impl RepositoryName {
    /// Returns the registry's host.
    #[must_use]
    pub const fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// Returns the repository's name in its registry: `parish/httpd`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the full name with a tag.
    #[must_use]
    pub fn tagged(&self, tag: Tag) -> Reference {
        Reference { repository: self.clone(), pick: Some(Pick::Tag(tag)) }
    }

    /// Returns the full name with a digest.
    #[must_use]
    pub fn at(&self, digest: BlobDigest) -> Reference {
        Reference { repository: self.clone(), pick: Some(Pick::Digest(digest)) }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains("://") {
            return Err(InvalidReference::new(text, "has a scheme", "leave `https://` out: `registry.example/parish/httpd`"));
        }
        let no_registry = || {
            let hint =
                "write the registry too: `registry.example/parish/httpd`; Docker Hub's own images are in `docker.io/library/`";
            InvalidReference::new(text, "names no registry", hint)
        };
        let (host, path) = text.split_once('/').ok_or_else(no_registry)?;
        // A first part without dot and port is a folder to every engine, not a host.
        if !host.contains(['.', ':']) && !host.eq_ignore_ascii_case("localhost") {
            return Err(no_registry());
        }
        let registry = host.parse()?;
        if text.len() > LONGEST {
            return Err(InvalidReference::new(text, "is too long", "host and path together have at most 255 characters"));
        }
        if let Some(part) = path.split('/').find(|part| !is_component(part)) {
            let problem = format!("has the part `{}`, which no repository has", shown(part));
            let hint = "parts are of lowercase letters and digits, with `.`, `_`, `__` or `-` between them";
            return Err(InvalidReference::new(text, problem, hint));
        }
        Ok(Self { registry, path: path.to_owned() })
    }
}

/// Whether a text can stand between the slashes of a repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(letter) && part.bytes().next_back().is_some_and(letter);
    let separator = |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    ends && part.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit()).all(separator)
}

/// Which of the versions in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pick {
    Tag(Tag),
    Digest(BlobDigest),
}

/// An image in a registry, or all versions of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub repository: RepositoryName,
    /// Absent where neither tag nor digest is named. Nothing is ever taken in its place.
    pub pick: Option<Pick>,
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            None => write!(formatter, "{}", self.repository),
            Some(Pick::Tag(tag)) => write!(formatter, "{}:{tag}", self.repository),
            Some(Pick::Digest(digest)) => write!(formatter, "{}@{digest}", self.repository),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        // Neither is repeated in what is said of it.
        if let Some(at) = text.find('@').filter(|at| text.find('/').is_none_or(|slash| *at < slash)) {
            let hint = "leave them out and use `docker login` or `podman login`: parvis reads what these keep";
            return Err(InvalidReference::new(&text[at + 1..], "has a user or password before it", hint));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse::<BlobDigest>().map_err(|error| {
                    let hint = "a digest is `sha256:` and 64 lowercase hexadecimal digits";
                    InvalidReference::new(text, format!("has a wrong digest: {error}"), hint)
                })?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        // The host's port comes before the first slash.
        let tag = match name.rfind(':').filter(|at| name.find('/').is_some_and(|slash| slash < *at)) {
            Some(_) if name.contains("://") => None,
            Some(at) => Some((&name[..at], &name[at + 1..])),
            None => None,
        };
        let Some((name, tag)) = tag else {
            return Ok(Self { repository: name.parse()?, pick: digest.map(Pick::Digest) });
        };
        if digest.is_some() {
            let hint = "leave one of the two out; the digest alone always means the same bytes";
            return Err(InvalidReference::new(text, "has both a tag and a digest", hint));
        }
        let repository = name.parse()?;
        let tag = tag
            .parse()
            .map_err(|_| InvalidReference::new(text, format!("has the tag `{}`, which is none", shown(tag)), Tag::RULE))?;
        Ok(Self { repository, pick: Some(Pick::Tag(tag)) })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_is_taken_apart_and_printed_as_it_was() {
        for (text, host, port, path, pick) in [
            ("registry.example/parish/httpd:1.4.0", "registry.example", None, "parish/httpd", "1.4.0"),
            ("localhost:5000/a", "localhost", Some(5000), "a", ""),
            ("localhost/a:b", "localhost", None, "a", "b"),
            ("127.0.0.1:80/a/b/c:_x", "127.0.0.1", Some(80), "a/b/c", "_x"),
            ("[::1]:5000/a:1", "[::1]", Some(5000), "a", "1"),
            ("[fd00::1]/a", "[fd00::1]", None, "a", ""),
            ("r.example/a.b_c__d---e/f", "r.example", None, "a.b_c__d---e/f", ""),
        ] {
            let read: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let registry = read.repository.registry();
            assert_eq!((registry.host(), registry.port(), read.repository.path()), (host, port, path), "{text}");
            assert_eq!(read.pick, (!pick.is_empty()).then(|| Pick::Tag(pick.parse().unwrap())), "{text}");
            assert_eq!(read.to_string(), text);
        }
        let digest = format!("registry.example/parish/httpd@{DIGEST}");
        let read: Reference = digest.parse().unwrap();
        assert_eq!(read.pick, Some(Pick::Digest(DIGEST.parse().unwrap())));
        assert_eq!((read.to_string(), read.repository.at(DIGEST.parse().unwrap())), (digest, read));
    }

    #[test]
    fn capitals_of_a_host_mean_nothing() {
        assert_eq!("Registry.Example/a".parse(), "registry.example/a".parse::<Reference>());
    }

    #[test]
    fn what_names_nothing_is_refused_with_a_hint() {
        let long = format!("r.example/{}", "a/".repeat(123) + "a");
        let mut said = String::new();
        for text in [
            "httpd",
            "httpd:1",
            "library/httpd",
            "https://registry.example/httpd",
            "registry.example/",
            "registry.example//a",
            "registry.example/a/",
            "registry.example/../a",
            "registry.example/A",
            "registry.example/a..b",
            "registry.example/a___b",
            "registry.example/-a",
            "registry.example/a:",
            "registry.example/a:.b",
            "registry.example/a:b c",
            "registry.example/a@sha256:../../x",
            "registry.example/a@md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("registry.example/a:1@{DIGEST}"),
            "registry.example:0/a",
            "registry.example:65536/a",
            "registry.example:080/a",
            "registry.example:/a",
            "registry..example/a",
            "-registry.example/a",
            "user:password@registry.example/a",
            "registry.example:x@y/a",
            "[::1/a",
            "[::1]5000/a",
            "[::g]:1/a",
            "registry.example/a?x=1",
            "registry.example/a%2e",
            "registry.example/\u{1b}[2J",
            "registry.example/a\n",
            &long,
            "",
        ] {
            let error = text.parse::<Reference>().map(|read| read.to_string()).expect_err(text);
            writeln!(said, "{error}\n    {}", error.hint()).unwrap();
        }
        insta::assert_snapshot!("refused_references", said);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, loopback) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9:1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("128.0.0.1", false),
            ("[fd00::1]", false),
        ] {
            assert_eq!(host.parse::<RegistryHost>().unwrap().is_loopback(), loopback, "{host}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_printed_as_something_that_means_the_same(text in "[a-z0-9.:/@_-]{1,40}") {
            if let Ok(read) = format!("r.example/{text}").parse::<Reference>() {
                prop_assert_eq!(read.to_string().parse::<Reference>(), Ok(read));
            }
        }
    }
}
