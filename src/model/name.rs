//! Names that come from people and archives, each checked once.

use std::fmt;
use std::str::FromStr;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not {kind}: {rule}")]
pub struct InvalidName {
    name: String,
    kind: &'static str,
    rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// What such a name is made of.
            pub const RULE: &'static str = $rule;

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    let name = text.chars().take(80).flat_map(char::escape_debug).collect();
                    Err(InvalidName { name, kind: $kind, rule: $rule })
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Whether all bytes are of a class, the first of a narrower one, and the length is within bounds.
fn shaped(text: &str, length: std::ops::RangeInclusive<usize>, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().next().is_some_and(first) && text.bytes().all(rest)
}

const fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

name_type!(
    /// The name of an image and of its recipe file: one component of an OCI repository name.
    ImageName,
    "an image name",
    "lowercase letters, digits, `-` and `_`, starting with a letter, at most 64",
    |text| shaped(text, 1..=64, |b| b.is_ascii_lowercase(), |b| lower_or_digit(b) || b == b'-' || b == b'_')
);
name_type!(
    /// The name of a Debian binary or source package (Debian Policy, section 5.6.1).
    PackageName,
    "a Debian package name",
    "lowercase letters, digits, `+`, `-` and `.`, at least two, starting with a letter or digit",
    |text| shaped(text, 2..=128, lower_or_digit, |b| lower_or_digit(b) || matches!(b, b'+' | b'-' | b'.'))
);
name_type!(
    /// The name of a Debian architecture, as `dpkg --print-architecture` prints it.
    Architecture,
    "a Debian architecture",
    "one of the names `dpkg-architecture -L` lists, such as `amd64` or `arm64`",
    |text| shaped(text, 2..=32, lower_or_digit, |b| lower_or_digit(b) || b == b'-')
);
name_type!(
    /// The name of a suite, as it stands in a mirror's `dists` folder.
    Suite,
    "a suite",
    "lowercase letters, digits, `-`, `.`, such as `trixie-security`",
    |text| shaped(text, 2..=64, lower_or_digit, |b| lower_or_digit(b) || matches!(b, b'-' | b'.'))
);
name_type!(
    /// The name of a user or group in an image.
    AccountName,
    "a user or group name",
    "lowercase letters, digits, `-`, `_` and `.`, starting with a letter or `_`, at most 32",
    |text| shaped(text, 1..=32, |b| b.is_ascii_lowercase() || b == b'_', |b| lower_or_digit(b) || matches!(b, b'-' | b'_' | b'.'))
);

name_type!(
    /// The name of a part of a stack: a service, a volume, a secret, an authority, a parameter. A service's is its host name, too.
    PartName,
    "a name in a stack",
    "lowercase letters, digits and `-`, starting with a letter and not ending with `-`, at most 63",
    |text| shaped(text, 1..=63, |b| b.is_ascii_lowercase(), |b| lower_or_digit(b) || b == b'-') && !text.ends_with('-')
);
name_type!(
    /// The name of a key that signs, or of one that is trusted; it is part of the names of files.
    KeyName,
    "the name of a key",
    "lowercase letters, digits, `-`, `_` and `.`, starting with a letter or digit, at most 64",
    |text| shaped(text, 1..=64, lower_or_digit, |b| lower_or_digit(b) || matches!(b, b'-' | b'_' | b'.'))
);
name_type!(
    /// The name of a variable that compose takes from `.env`, and of an environment variable.
    VariableName,
    "the name of a variable",
    "capital letters, digits and `_`, starting with a letter, at most 64",
    |text| shaped(text, 1..=64, |b| b.is_ascii_uppercase(), |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
);
name_type!(
    /// The tag of an image, and so the number of a version (OCI distribution-spec 1.1, pulling manifests).
    Tag,
    "a tag",
    "letters, digits, `.`, `_` and `-`, at most 128, not starting with `.` or `-`",
    |text| shaped(text, 1..=128, |b| b.is_ascii_alphanumeric() || b == b'_', |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
);

/// Whether a text is an IPv4 address: four numbers up to 255, none with a zero before it, which some readers take for octal.
#[must_use]
pub fn is_ipv4(text: &str) -> bool {
    let number = |part: &str| part.parse::<u8>().is_ok_and(|number| number.to_string() == part);
    text.split('.').count() == 4 && text.split('.').all(number)
}

impl PartName {
    /// Returns the variable that stands for the part: capitals, with `_` for `-`.
    #[must_use]
    pub fn variable(&self) -> VariableName {
        VariableName(self.0.to_ascii_uppercase().replace('-', "_").into())
    }
}

name_type!(
    /// The name of a Composer package: vendor and project.
    ComposerName,
    "the name of a Composer package",
    "`vendor/project` in letters, digits, `-`, `_` and `.`, each starting with a letter or digit",
    |text| {
        let part = |text: &str| {
            shaped(text, 1..=128, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        text.split_once('/').is_some_and(|(vendor, project)| part(vendor) && part(project))
    }
);

impl Architecture {
    /// Returns the OCI (Go) name of the architecture and its variant, where there is one.
    ///
    /// Source: the platform table of the OCI image index specification and the `GOARCH` values of Go.
    #[must_use]
    pub fn oci(&self) -> (&str, Option<&'static str>) {
        match self.as_str() {
            "i386" => ("386", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v5")),
            "arm64" => ("arm64", Some("v8")),
            "ppc64el" => ("ppc64le", None),
            other => (other, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_debian_are_accepted() {
        for name in ["libstdc++6", "php8.4-cli", "0ad", "g++"] {
            assert!(name.parse::<PackageName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_are_paths_or_options_are_refused() {
        for name in ["../x", "-x", "a/b", "", "A", "a b", "é", "a\u{1b}"] {
            assert!(name.parse::<PackageName>().is_err(), "{name}");
            assert!(name.parse::<ImageName>().is_err(), "{name}");
            assert!(name.parse::<AccountName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_part_has_a_variable_of_its_own() {
        let variable = "server-name".parse::<PartName>().unwrap().variable();
        assert_eq!(variable.as_str().parse(), Ok(variable));
        for name in ["a_b", "-a", "a-", "1a", "a.b", "..", ""] {
            assert!(name.parse::<PartName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_composer_package_has_a_vendor_and_is_no_path() {
        for name in ["acme/directory", "symfony/polyfill-php8.4", "a/b_c"] {
            assert!(name.parse::<ComposerName>().is_ok(), "{name}");
        }
        for name in ["php", "a/b/c", "../x", "a/..", "/a", "a/", "a b/c", "a/-x", "a/b\nc", "é/a"] {
            assert!(name.parse::<ComposerName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_refused_name_is_shown_without_control_characters() {
        let error = "a\u{1b}[31m".parse::<ImageName>().unwrap_err().to_string();
        assert!(error.starts_with(r"`a\u{1b}[31m` is not an image name"), "{error}");
    }
}
