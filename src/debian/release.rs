//! Release files: what an archive says of one of its suites, and the frame in which that is signed.

use std::collections::BTreeMap;
use std::str;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::control::{ControlError, Paragraph};
use crate::model::digest::DownloadDigest;
use crate::model::name::Architecture;

/// An InRelease file that is not exactly one signed text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("line {line}: it contains {what}")]
    Forbidden { line: usize, what: &'static str },
    #[error("it does not begin with `{SIGNED}`: text stands before the signed block")]
    Before,
    #[error("line {line}: `{found}` is no `Hash` header that names SHA256, SHA384 or SHA512")]
    Header { line: usize, found: String },
    #[error("line {line}: `{found}` begins with `-` and is neither escaped nor the beginning of the signature")]
    Dash { line: usize, found: String },
    #[error("line {line}: `{found}` stands inside the signature")]
    Armour { line: usize, found: String },
    #[error("it ends before the signature does")]
    Cut,
    #[error("line {line}: text stands after the signed block")]
    After { line: usize },
}

const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// Returns the text of an InRelease file that is exactly one clearsigned message (RFC 9580, section 7) and nothing else.
///
/// The signature is not checked here. Nothing may stand around the block: readers that disagree on where the signed text
/// begins can be made to check one text and use another.
pub fn signed_text(raw: &[u8]) -> Result<String, FramingError> {
    let line_at = |at: usize| raw[..at].split(|byte| *byte == b'\n').count();
    let forbidden = |at: usize, what| FramingError::Forbidden { line: line_at(at), what };
    let text = str::from_utf8(raw).map_err(|error| forbidden(error.valid_up_to(), "bytes that are not UTF-8"))?;
    let odd = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if let Some(at) = text.find(odd) {
        return Err(forbidden(at, "a control character"));
    }
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut next = || lines.next().ok_or(FramingError::Cut);
    if next()?.1 != SIGNED {
        return Err(FramingError::Before);
    }
    loop {
        let (line, header) = next()?;
        if header.is_empty() {
            break;
        }
        let strong = |name: &str| matches!(name.trim(), "SHA256" | "SHA384" | "SHA512");
        if !header.strip_prefix("Hash: ").is_some_and(|names| names.split(',').all(strong)) {
            return Err(FramingError::Header { line, found: excerpt(header) });
        }
    }
    let mut signed = String::with_capacity(text.len());
    loop {
        let (line, found) = next()?;
        if found == SIGNATURE {
            break;
        }
        let content = found.strip_prefix("- ").unwrap_or(found);
        if content.len() == found.len() && found.starts_with('-') {
            return Err(FramingError::Dash { line, found: excerpt(found) });
        }
        signed.push_str(content);
        signed.push('\n');
    }
    let mut headers = true;
    loop {
        let (line, found) = next()?;
        if found == END {
            break;
        }
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let header = headers && ["Version: ", "Comment: "].iter().any(|name| found.starts_with(name));
        if !header && (found.is_empty() != headers || !found.bytes().all(base64)) {
            return Err(FramingError::Armour { line, found: excerpt(found) });
        }
        headers = header;
    }
    match lines.find(|(_, line)| !line.is_empty()) {
        None => Ok(signed),
        Some((line, _)) => Err(FramingError::After { line }),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// What a Release file says of a file below its suite's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub sha256: DownloadDigest,
    pub size: u64,
}

/// What an archive says of one suite. It is worth what the signature on its text is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub origin: String,
    pub suite: String,
    pub codename: String,
    /// Seconds since 1970.
    pub date: i64,
    /// Seconds since 1970.
    pub valid_until: Option<i64>,
    /// Whether files can be fetched by their digest, which gives consistent files while a mirror is being changed.
    pub acquire_by_hash: bool,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    /// By path below the suite's folder.
    pub files: BTreeMap<String, Listed>,
}

/// A compression of an index, as the end of its file's name tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Xz,
    Gzip,
    None,
}

/// A Packages file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagesFile {
    /// The path below the suite's folder.
    pub path: String,
    /// The path by digest, where the archive offers that.
    pub by_hash: Option<String>,
    pub listed: Listed,
    pub compression: Compression,
    /// The uncompressed file, where it is listed too: the bound of what the compressed one may become.
    pub plain: Option<Listed>,
}

impl Release {
    /// Reads the text of a Release file whose signature was checked.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let paragraph = Paragraph::only(text.as_bytes())?;
        let date = |name: &'static str| -> Result<Option<i64>, ControlError> {
            let value = paragraph.get(name);
            value.map(|value| seconds(value).ok_or_else(|| paragraph.bad_value(name))).transpose()
        };
        let text = |name| paragraph.get(name).unwrap_or_default().to_owned();
        let words = |name| paragraph.get(name).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        paragraph.require("Date")?;
        let mut files = BTreeMap::new();
        for line in paragraph.require("SHA256")?.lines().filter(|line| !line.is_empty()) {
            let (path, listed) = listed(line).ok_or_else(|| paragraph.bad_value("SHA256"))?;
            if files.insert(path.to_owned(), listed).is_some_and(|other| other != listed) {
                return Err(paragraph.bad_value("SHA256"));
            }
        }
        Ok(Self {
            origin: text("Origin"),
            suite: text("Suite"),
            codename: text("Codename"),
            date: date("Date")?.unwrap_or_default(),
            valid_until: date("Valid-Until")?,
            acquire_by_hash: paragraph.get("Acquire-By-Hash").is_some_and(|value| value == "yes"),
            architectures: words("Architectures"),
            components: words("Components"),
            files,
        })
    }

    /// Returns the smallest Packages file of a component for an architecture, or `None` where the suite has none.
    #[must_use]
    pub fn packages_file(&self, component: &str, architecture: &Architecture) -> Option<PackagesFile> {
        let plain_path = format!("{component}/binary-{architecture}/Packages");
        let plain = self.files.get(&plain_path).copied();
        [("Packages.xz", Compression::Xz), ("Packages.gz", Compression::Gzip), ("Packages", Compression::None)]
            .into_iter()
            .find_map(|(name, compression)| {
                let folder = format!("{component}/binary-{architecture}");
                let path = format!("{folder}/{name}");
                let listed = *self.files.get(&path)?;
                let by_hash = self.acquire_by_hash.then(|| format!("{folder}/by-hash/SHA256/{}", listed.sha256.hex()));
                Some(PackagesFile { path, by_hash, listed, compression, plain })
            })
    }
}

/// Reads ` DIGEST SIZE PATH`.
fn listed(line: &str) -> Option<(&str, Listed)> {
    let mut words = line.split_ascii_whitespace();
    let sha256 = words.next()?.parse().ok()?;
    let size = words.next()?;
    let size = size.bytes().all(|byte| byte.is_ascii_digit()).then(|| size.parse().ok())??;
    let path = words.next()?;
    words.next().is_none().then_some((path, Listed { sha256, size }))
}

/// Reads a date as Release files write it (`Sat, 12 Sep 2026 07:55:41 UTC`) and returns the seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let local = ["UTC", "GMT", "Z", "+0000"].iter().find_map(|zone| text.strip_suffix(zone))?;
    let time = DateTime::strptime("%a, %d %b %Y %H:%M:%S", local.trim_end()).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "Origin: Debian\nSuite: stable-security\nCodename: trixie-security\n\
        Date: Wed, 18 Nov 2026 22:17:43 UTC\nValid-Until: Wed, 25 Nov 2026 22:17:43 UTC\nAcquire-By-Hash: yes\n\
        Architectures: all amd64\nComponents: main contrib\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n \
        f61f27bd17de546264aa58f40f3aafaac7021e0ef69c17f6b1b4cd7664a037ec       20 main/binary-amd64/Packages.xz\n";

    fn framed(text: &str) -> String {
        format!("{SIGNED}\nHash: SHA256\n\n{text}\n{SIGNATURE}\n\niQIzBAEBCAAdFiEE+/=\n=abcd\n{END}\n")
    }

    #[test]
    fn a_release_is_read() {
        let release = Release::parse(RELEASE).unwrap();
        assert_eq!((&*release.origin, &*release.suite, &*release.codename), ("Debian", "stable-security", "trixie-security"));
        assert_eq!((release.date, release.valid_until), (1_795_040_263, Some(1_795_645_063)));
        assert_eq!(release.components, ["main", "contrib"]);
        let file = release.packages_file("main", &"amd64".parse().unwrap()).unwrap();
        assert_eq!(file.path, "main/binary-amd64/Packages.xz");
        let digest = "f61f27bd17de546264aa58f40f3aafaac7021e0ef69c17f6b1b4cd7664a037ec";
        assert_eq!(file.by_hash, Some(format!("main/binary-amd64/by-hash/SHA256/{digest}")));
        assert_eq!((file.listed.size, file.plain.unwrap().size, file.compression), (20, 0, Compression::Xz));
        assert_eq!(release.packages_file("main", &"arm64".parse().unwrap()), None);
    }

    #[test]
    fn a_release_without_date_or_with_a_bad_one_is_refused() {
        let without = RELEASE.replace("Date: Wed, 18 Nov 2026 22:17:43 UTC\n", "");
        assert_eq!(Release::parse(&without).unwrap_err().to_string(), "paragraph 1, line 1: the field `Date` is missing");
        for bad in [
            "Wed, 18 Nov 2026 22:17:43",
            "Wed, 18 Nov 2026 22:17:43 CET",
            "Tue, 18 Nov 2026 22:17:43 UTC",
            "tomorrow",
            "Wed, 31 Nov 2026 22:17:43 UTC",
        ] {
            let error = Release::parse(&RELEASE.replace("Wed, 18 Nov 2026 22:17:43 UTC", bad)).unwrap_err().to_string();
            assert_eq!(error, format!("paragraph 1, line 4: the field `Date` has the value `{bad}`"));
        }
    }

    #[test]
    fn a_list_with_two_digests_for_one_path_or_a_bad_line_is_refused() {
        let twice = RELEASE.replace("Packages.xz", "Packages");
        assert!(Release::parse(&twice).is_err());
        for bad in [" +20 ", " -20 ", " 99999999999999999999 ", " 20 x "] {
            assert!(Release::parse(&RELEASE.replace(" 20 ", bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_signed_block_gives_its_text() {
        assert_eq!(signed_text(framed(RELEASE.trim_end()).as_bytes()).as_deref(), Ok(RELEASE));
        assert_eq!(signed_text(framed("- -----x").as_bytes()).as_deref(), Ok("-----x\n"));
    }

    #[test]
    fn anything_but_one_signed_block_is_refused() {
        let good = framed("A: 1");
        let cases = [
            (
                format!("x\n{good}"),
                "it does not begin with `-----BEGIN PGP SIGNED MESSAGE-----`: text stands before the signed block",
            ),
            (
                format!("\n{good}"),
                "it does not begin with `-----BEGIN PGP SIGNED MESSAGE-----`: text stands before the signed block",
            ),
            (format!("{good}x"), "line 10: text stands after the signed block"),
            (format!("{good}{good}"), "line 10: text stands after the signed block"),
            (good.replace("A: 1", "A: 1\0"), "line 4: it contains a control character"),
            (good.replace("A: 1", "A: 1\r"), "line 4: it contains a control character"),
            (good.replace("SHA256", "SHA1"), "line 2: `Hash: SHA1` is no `Hash` header that names SHA256, SHA384 or SHA512"),
            (
                good.replace("Hash: SHA256", "Comment: x"),
                "line 2: `Comment: x` is no `Hash` header that names SHA256, SHA384 or SHA512",
            ),
            (
                good.replace("A: 1", SIGNED),
                "line 4: `-----BEGIN PGP SIGNED MESSAGE-----` begins with `-` and is neither escaped nor the beginning of the signature",
            ),
            (
                good.replace("A: 1", &format!("{SIGNATURE} ")),
                "line 4: `-----BEGIN PGP SIGNATURE----- ` begins with `-` and is neither escaped nor the beginning of the signature",
            ),
            (good.replace("=abcd", "A: 1"), "line 8: `A: 1` stands inside the signature"),
            (good.replace("=abcd", "Version: 1"), "line 8: `Version: 1` stands inside the signature"),
            (good.replace("=abcd", ""), "line 8: `` stands inside the signature"),
            (good.replace(&format!("{END}\n"), ""), "it ends before the signature does"),
            (format!("{SIGNED}\n"), "it ends before the signature does"),
            (String::new(), "it ends before the signature does"),
        ];
        for (text, expected) in cases {
            assert_eq!(signed_text(text.as_bytes()).unwrap_err().to_string(), expected);
        }
        assert!(signed_text(b"\xff").is_err());
    }
}
