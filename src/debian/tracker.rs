//! What Debian's security tracker says, from a file that somebody gives: its JSON, or its list of advisories (`data/DSA/list`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::changelog::{Advisory, Registry};
use super::version::Version;
use crate::model::name::PackageName;

/// Bytes of a file at most; the JSON had 70 MB in 2026.
pub const LIMIT: u64 = 512 << 20;

/// A source package in which a hole is, or was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub source: PackageName,
    /// The version that closed it; nothing while it is open. Version 0 says that the suite never had it.
    pub fixed: Option<Version>,
}

/// What the tracker says of one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracked {
    pub said: Vec<Said>,
    /// The holes that an advisory is about.
    pub holes: BTreeSet<Advisory>,
}

/// A file that is not of the tracker.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    #[error("it cannot be read as the tracker's JSON")]
    Json(#[from] serde_json::Error),
    #[error("it cannot be read")]
    Read(#[from] std::io::Error),
    #[error("it holds more than {LIMIT} bytes")]
    TooLarge,
    #[error("it is neither the tracker's JSON nor its list of advisories")]
    Kind,
}

/// Reads what a file of the tracker says of a hole or an advisory, for one release of Debian by its codename.
///
/// # Errors
/// Refuses files that are none of the tracker's, and too large ones.
pub fn read(file: impl Read, name: &Advisory, codename: &str) -> Result<Tracked, TrackerError> {
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(TrackerError::TooLarge);
    }
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {
            let mut reader = serde_json::Deserializer::from_slice(&bytes);
            let said = Sources { hole: &name.to_string(), codename }.deserialize(&mut reader)?;
            reader.end()?;
            Ok(Tracked { said, holes: BTreeSet::new() })
        }
        Some(b'[') => Ok(list(&String::from_utf8_lossy(&bytes), name, codename)),
        _ => Err(TrackerError::Kind),
    }
}

/// Reads the list of advisories: `[date] DSA-1-1 package - what`, then indented `{CVE-… …}` and `[codename] - package version`.
fn list(text: &str, name: &Advisory, codename: &str) -> Tracked {
    let mut tracked = Tracked::default();
    let mut wanted = false;
    let mut pending: Vec<Said> = Vec::new();
    let mut close = |wanted: bool, pending: &mut Vec<Said>| {
        if wanted {
            tracked.said.append(pending);
        }
        pending.clear();
    };
    let mut holes = BTreeSet::new();
    for line in text.lines() {
        let body = line.trim();
        if !line.starts_with(['\t', ' ']) {
            close(wanted, &mut pending);
            wanted = Advisory::all(body).iter().any(|other| name.covers(other));
        } else if body.starts_with('{') {
            let named = Advisory::all(body);
            if wanted {
                holes.extend(named.iter().filter(|hole| hole.registry == Registry::Cve));
            }
            wanted |= named.contains(name);
        } else if let Some((source, version)) =
            body.strip_prefix(&format!("[{codename}] - ")).and_then(|rest| rest.split_once(' '))
            && let (Ok(source), Ok(version)) = (source.parse(), version.trim().parse())
        {
            pending.push(Said { source, fixed: Some(version) });
        }
    }
    close(wanted, &mut pending);
    Tracked { holes, ..tracked }
}

/// The tracker's JSON: `{source: {hole: {releases: {codename: {status, fixed_version}}}}}`; only one hole and release is kept.
struct Sources<'a> {
    hole: &'a str,
    codename: &'a str,
}

impl<'de> DeserializeSeed<'de> for Sources<'_> {
    type Value = Vec<Said>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = Vec<Said>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("source packages with their holes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut said = Vec::new();
        while let Some(source) = map.next_key::<String>()? {
            let Some(hole) = map.next_value_seed(Holes(self.hole))? else { continue };
            let Some(release) = hole.releases.get(self.codename) else { continue };
            let fixed = match (release.status.as_str(), &release.fixed_version) {
                ("resolved", Some(version)) => Some(version.parse().map_err(A::Error::custom)?),
                _ => None,
            };
            if let Ok(source) = source.parse() {
                said.push(Said { source, fixed });
            }
        }
        Ok(said)
    }
}

struct Holes<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Holes<'_> {
    type Value = Option<Hole>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Holes<'_> {
    type Value = Option<Hole>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the holes of a source package")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Hole {
    releases: BTreeMap<String, Release>,
}

#[derive(Deserialize)]
struct Release {
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, name: &str) -> Vec<String> {
        let tracked = read(text.as_bytes(), &name.parse().unwrap(), "trixie").unwrap();
        let said = |said: &Said| format!("{} {:?}", said.source, said.fixed.as_ref().map(Version::as_str));
        tracked.said.iter().map(said).chain(tracked.holes.iter().map(ToString::to_string)).collect()
    }

    #[test]
    fn the_json_says_which_version_of_a_release_closed_a_hole() {
        let text = r#"{"openssl": {"CVE-2025-0001": {"scope": "remote", "releases": {
            "trixie": {"status": "resolved", "fixed_version": "3.5-1+deb13u1", "repositories": {"trixie": "3.5-1"}, "urgency": "high"},
            "sid": {"status": "open"}}}, "CVE-2025-0002": {"releases": {"trixie": {"status": "open", "urgency": "low"}}}},
            "curl": {"CVE-2025-0001": {"releases": {"bookworm": {"status": "open"}}}}}"#;
        assert_eq!(told(text, "CVE-2025-0001"), [r#"openssl Some("3.5-1+deb13u1")"#]);
        assert_eq!(told(text, "CVE-2025-0002"), ["openssl None"]);
        assert!(told(text, "CVE-2025-0003").is_empty());
        for broken in ["", "CVE-2025-0001", "{\"openssl\": []}", "{} {}"] {
            assert!(read(broken.as_bytes(), &"CVE-2025-0001".parse().unwrap(), "trixie").is_err(), "{broken}");
        }
    }

    #[test]
    fn the_list_says_which_holes_an_advisory_is_about() {
        let text = "[30 Sep 2025] DSA-6015-1 openssl - security update\n\t{CVE-2025-0001 CVE-2025-0002}\n\t[bookworm] - openssl 3.0-1\n\
            \t[trixie] - openssl 3.5-1+deb13u1\n[01 Oct 2025] DSA-6016-1 curl - security update\n\t{CVE-2025-0003}\n\t[trixie] - curl 8-1\n";
        assert_eq!(told(text, "DSA-6015"), [r#"openssl Some("3.5-1+deb13u1")"#, "CVE-2025-0001", "CVE-2025-0002"]);
        assert_eq!(told(text, "CVE-2025-0003"), [r#"curl Some("8-1")"#]);
        assert!(told(text, "DSA-1").is_empty());
    }
}
