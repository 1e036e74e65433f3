//! What a registry says that it wants to see before it answers (RFC 9110, section 11.6.1), and where a password may go.

use crate::model::reference::RegistryHost;

/// Characters of a challenge that are read.
const LONGEST: usize = 4096;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token that is to be had at `realm`.
    Bearer { realm: String, service: Option<String> },
}

/// Reads the values of `WWW-Authenticate`; a token is preferred to sending a password each time.
pub(super) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for value in values.filter(|value| value.len() <= LONGEST) {
        for (scheme, parameters) in schemes(value) {
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            match parameter("realm") {
                Some(realm) if scheme.eq_ignore_ascii_case("bearer") => {
                    return Some(Challenge::Bearer { realm, service: parameter("service") });
                }
                _ if scheme.eq_ignore_ascii_case("basic") => found = Some(Challenge::Basic),
                _ => {}
            }
        }
    }
    found
}

type Parameters = Vec<(String, String)>;

/// Takes a header apart: schemes, each with its parameters.
fn schemes(value: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(after) = after.trim_start().strip_prefix('=') {
            let (text, after) = parameter(after.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), text));
            }
            rest = after;
        } else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',']);
        if word.is_empty() && !rest.is_empty() {
            // A stray `=`: whatever follows is not understood.
            return found;
        }
    }
    found
}

/// Reads the value of a parameter, perhaps between quotes; returns it and what follows.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// Whether a registry may have its tokens given out by that host: itself, or one of the same domain.
///
/// A registry is free to name any address, and a password that follows there is gone (CVE-2020-15157, CVE-2026-33540).
/// `registry.example.org` may name `example.org` and `auth.example.org`, and no host may name one of another domain.
pub(super) fn may_give_tokens(registry: &RegistryHost, realm: &str) -> bool {
    let (own, realm) = (registry.host(), realm.to_ascii_lowercase());
    if own == realm {
        return true;
    }
    let is_address = |host: &str| host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    let Some((_, domain)) = own.split_once('.').filter(|(_, domain)| domain.contains('.')) else {
        // `example.org` itself: only what stands below it.
        return own.contains('.') && !is_address(own) && realm.ends_with(&format!(".{own}"));
    };
    !is_address(own) && (realm == domain || realm.ends_with(&format!(".{domain}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull,push""#,
                bearer("https://auth.example/token", Some("r.example")),
            ),
            (r#"bearer REALM="https://a.example/\"t", error=invalid_token"#, bearer("https://a.example/\"t", None)),
            ("Bearer realm=https://a.example/t , service=x", bearer("https://a.example/t", Some("x"))),
            (r#"Basic realm="x", Bearer realm="https://a.example/t""#, bearer("https://a.example/t", None)),
            (r#"Basic realm="a, Bearer realm=b""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=x", None),
            ("=,=\"", None),
            ("", None),
        ] {
            assert_eq!(read([header].into_iter()), expected, "{header}");
        }
        assert_eq!(read([&*format!("Basic {}", "x".repeat(LONGEST))].into_iter()), None);
    }

    #[test]
    fn a_password_goes_to_the_registrys_own_domain_and_nowhere_else() {
        for (registry, realm, good) in [
            ("registry.example.org", "registry.example.org", true),
            ("registry.example.org", "auth.example.org", true),
            ("registry.example.org", "example.org", true),
            ("registry.example.org", "Auth.Example.Org", true),
            ("registry-1.docker.io", "auth.docker.io", true),
            ("example.org", "auth.example.org", true),
            ("example.org", "other.org", false),
            ("registry.example.org", "notexample.org", false),
            ("registry.example.org", "example.org.other", false),
            ("registry.example.org", "org", false),
            ("localhost:5000", "localhost", true),
            ("localhost:5000", "a.localhost", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "9.0.0.1", false),
            ("10.0.0.1", "a.0.0.1", false),
            ("[::1]:5000", "[::1]", true),
            ("[::1]:5000", "::1", false),
        ] {
            assert_eq!(may_give_tokens(&registry.parse().unwrap(), realm), good, "{registry} {realm}");
        }
    }
}
