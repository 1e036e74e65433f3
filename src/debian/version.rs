//! Versions of Debian packages and their order (Debian Policy, section 5.6.12; deb-version(7)).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version as an archive writes it. Two versions that Debian holds for equal (`1.0` and `1.00`) compare as equal.
#[derive(Debug, Clone)]
pub struct Version(Box<str>);

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{version}` is not a Debian version: {rule}")]
pub struct InvalidVersion {
    version: String,
    rule: &'static str,
}

impl Version {
    /// Returns the version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        check(text)
            .map_err(|rule| InvalidVersion { version: text.chars().take(80).flat_map(char::escape_debug).collect(), rule })?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 { Ordering::Equal } else { compare(&self.0, &other.0) }
    }
}

/// Says what is wrong with a version.
fn check(text: &str) -> Result<(), &'static str> {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) || epoch.parse::<i32>().is_err() {
        return Err("the epoch before `:` is a number below 2147483648");
    }
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    if upstream.is_empty() || revision.is_empty() {
        return Err("no part of it may be empty");
    }
    if text.len() > 256 {
        return Err("it has more than 256 characters");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'~');
    if upstream.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b':')) && revision.bytes().all(plain) {
        Ok(())
    } else {
        Err("letters, digits and `.`, `+`, `-`, `~`, `:` are what it may contain")
    }
}

/// Compares two versions that were checked.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Parts::of(left), Parts::of(right));
    left.epoch
        .cmp(&right.epoch)
        .then_with(|| compare_part(left.upstream, right.upstream))
        .then_with(|| compare_part(left.revision, right.revision))
}

struct Parts<'a> {
    epoch: u32,
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch: epoch.parse().unwrap_or(u32::MAX), upstream: upstream.as_bytes(), revision: revision.as_bytes() }
    }
}

/// Returns the rank of the character a text without digits at its front begins with; its end ranks between `~` and letters.
fn rank(text: &[u8]) -> u32 {
    match text.first() {
        Some(b'~') => 0,
        None | Some(b'0'..=b'9') => 1,
        Some(letter) if letter.is_ascii_alphabetic() => u32::from(*letter),
        Some(other) => 256 + u32::from(*other),
    }
}

fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        loop {
            let ranks = (rank(left), rank(right));
            if ranks.0 != ranks.1 {
                return ranks.0.cmp(&ranks.1);
            }
            if ranks.0 == 1 {
                break;
            }
            (left, right) = (&left[1..], &right[1..]);
        }
        let (left_number, right_number) = (take_number(&mut left), take_number(&mut right));
        let order = left_number.len().cmp(&right_number.len()).then_with(|| left_number.cmp(right_number));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits a text begins with, and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_have_debians_order() {
        let rising = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0.0~a",
            "0.0",
            "0.0-1",
            "0.0a",
            "0.9",
            "0.10~rc1-1",
            "0.10~rc1-1+b1",
            "0.10",
            "1.0-1~deb13u1",
            "1.0-1",
            "1.0-1+deb13u1",
            "1.0-1.1",
            "1.0-10",
            "1.0a7",
            "1.0+dfsg-1",
            "1.0.1",
            "9",
            "10",
            "1:0",
            "1:0.1-2-3",
            "2:0",
        ];
        for (left, right) in rising.iter().zip(&rising[1..]) {
            assert!(version(left) < version(right), "{left} < {right}");
        }
    }

    #[test]
    fn zeros_and_an_absent_revision_do_not_count() {
        for (left, right) in [("1.0", "1.00"), ("1", "0:1"), ("1", "1-0"), ("1.a", "1.a0"), ("1-00", "1")] {
            assert_eq!(version(left), version(right));
        }
        assert_eq!(version("1.00").as_str(), "1.00");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in
            ["", "1:", "-1", ":1", "a:1", "1-", "1:-1", "1 2", "1_2", "1/2", "1-2:3", "2147483648:1", "é", "1\n", "-1:1", "+1:1"]
        {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!("1".repeat(300).parse::<Version>().is_err());
    }

    fn versions() -> impl Strategy<Value = Version> {
        "([0-3]:)?[0-2][0-2a~.+:-]{0,4}(-[01a~.+]{1,3})?".prop_filter_map("is a version", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn the_order_is_total((a, b, c) in (versions(), versions(), versions())) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&a), Ordering::Equal);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn a_tilde_comes_before_and_a_plus_after(text in versions()) {
            let with = |end: &str| format!("{text}{end}").parse::<Version>();
            prop_assert!(with("~").is_ok_and(|earlier| earlier < text));
            prop_assert!(with("+").is_ok_and(|later| later > text));
        }

        #[test]
        fn any_text_is_a_version_or_refused(text in ".{0,20}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.as_str(), text.as_str());
            }
        }
    }
}
