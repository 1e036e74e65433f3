//! Where a file of a Composer project is to be had: an address of the network, or a path of the project.

use super::problem::shown;
use super::tree::TreePath;

/// Characters of an address at most.
const LONGEST: usize = 2048;

/// A place that parvis fetches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An `http` or `https` URL with a host, and neither user nor password.
    Network(String),
    /// A path below the project, or below a repository that is a folder of it.
    Project(TreePath),
    /// An absolute path of this machine, as a path or a `file` URL. Good only below a repository that the profile names.
    Machine(String),
}

/// An address that is not one of those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address `{shown}` {what}")]
pub struct InvalidAddress {
    shown: String,
    what: &'static str,
}

impl InvalidAddress {
    /// Returns what a person can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        "parvis fetches from `https://` and `http://` without password, and from paths below the project"
    }
}

impl Address {
    /// Reads an address as a repository, a project or a lock states it.
    ///
    /// # Errors
    /// Refuses other schemes, users and passwords, and paths that leave the project. What is shown holds no password.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = |what| InvalidAddress { shown: without_user(text), what };
        if text.is_empty() || text.len() > LONGEST {
            return Err(wrong("is empty or too long"));
        }
        if text.chars().any(char::is_control) {
            return Err(wrong("holds control characters"));
        }
        let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
        match scheme {
            Some("http" | "https") => {
                let rest = text.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                if authority.is_empty() {
                    return Err(wrong("names no host"));
                }
                if authority.contains('@') {
                    return Err(wrong("holds a user name or password"));
                }
                if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>')) {
                    return Err(wrong("has characters that no address has"));
                }
                Ok(Self::Network(text.to_owned()))
            }
            Some("file") => {
                let path = text.strip_prefix("file://").filter(|path| path.starts_with('/')).unwrap_or_default();
                if path.is_empty() || path.contains(['%', '\\']) || path.split('/').any(|part| matches!(part, "." | "..")) {
                    return Err(wrong("is no plain path of this machine"));
                }
                Ok(Self::Machine(path.to_owned()))
            }
            Some(_) => Err(wrong("has a scheme that parvis does not fetch")),
            // What other programs read as a host and a path on it.
            None if text.split('/').next().is_some_and(|first| first.contains(':')) => {
                Err(wrong("has a scheme that parvis does not fetch"))
            }
            // Composer takes it for a file of this machine, with or without `file://`.
            None if text.starts_with('/') && !text.contains(['%', '\\', '?', '#']) && !text.starts_with("//") => {
                if text.split('/').any(|part| matches!(part, "." | "..")) {
                    return Err(wrong("is no plain path of this machine"));
                }
                Ok(Self::Machine(text.to_owned()))
            }
            None if text.starts_with('/') || text.contains('\\') || text.split('/').any(|part| part == "..") => {
                Err(wrong("leaves the project"))
            }
            None => match TreePath::parse(text.as_bytes()) {
                Ok(path) if !path.is_root() => Ok(Self::Project(path)),
                _ => Err(wrong("is no path of a file")),
            },
        }
    }

    /// Returns the scheme, host and port of an address of the network.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        let Self::Network(text) = self else { return None };
        let start = text.find("://")? + 3;
        let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |end| start + end);
        Some(&text[..end])
    }
}

/// Whether a text is the scheme of a URL (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Returns an address as it may be printed: what stands before an `@` in its authority is left out, and so is a query.
#[must_use]
pub fn without_user(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let rest = authority.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { shown(rest) } else { shown(&format!("{scheme}://{rest}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_network_and_paths_of_the_project_are_taken() {
        let url = "https://dist.example.org/a-1.0.zip?ref=x";
        let address = Address::parse(url).unwrap();
        assert_eq!((address.origin(), address.clone()), (Some("https://dist.example.org"), Address::Network(url.into())));
        for text in ["repository/dist/a.zip", "./repository/dist/a.zip"] {
            let path = TreePath::parse(b"repository/dist/a.zip").unwrap();
            assert_eq!(Address::parse(text).unwrap(), Address::Project(path));
        }
        for text in ["file:///srv/a.zip", "/srv/a.zip"] {
            assert_eq!(Address::parse(text).unwrap(), Address::Machine("/srv/a.zip".into()));
        }
    }

    #[test]
    fn everything_else_is_refused_without_its_password() {
        for (text, expected) in [
            ("", "the address `` is empty or too long"),
            ("ftp://h.example/a", "the address `ftp://h.example/a` has a scheme that parvis does not fetch"),
            ("secret@host:a/b.git", "the address `host:a/b.git` has a scheme that parvis does not fetch"),
            ("phar://a.phar", "the address `phar://a.phar` has a scheme that parvis does not fetch"),
            ("data:text/plain,x", "the address `data:text/plain,x` has a scheme that parvis does not fetch"),
            ("https://me:secret@h.example/a", "the address `https://h.example/a` holds a user name or password"),
            ("https://secret@h.example/a?token=secret", "the address `https://h.example/a` holds a user name or password"),
            ("https:///a", "the address `https:///a` names no host"),
            ("https:a", "the address `https:a` names no host"),
            ("https://h.example/a b", "the address `https://h.example/a b` has characters that no address has"),
            ("https://h.example/\u{e9}", "the address `https://h.example/\u{e9}` has characters that no address has"),
            ("a\tb", "the address `a\\u{9}b` holds control characters"),
            ("https://h.example/a\nhttps://x", "the address `https://h.example/a\\u{a}https://x` holds control characters"),
            ("../a.zip", "the address `../a.zip` leaves the project"),
            ("a/../../b", "the address `a/../../b` leaves the project"),
            ("/srv/../etc/passwd", "the address `/srv/../etc/passwd` is no plain path of this machine"),
            ("//host/etc/passwd", "the address `//host/etc/passwd` leaves the project"),
            ("a\\..\\b", "the address `a\\..\\b` leaves the project"),
            ("file:///srv/../etc/passwd", "the address `file:///srv/../etc/passwd` is no plain path of this machine"),
            ("file://host/a", "the address `file://host/a` is no plain path of this machine"),
            ("file:///srv/%2e%2e/a", "the address `file:///srv/%2e%2e/a` is no plain path of this machine"),
            (".", "the address `.` is no path of a file"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
