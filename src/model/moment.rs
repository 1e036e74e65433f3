//! Moments as documents write them: RFC 3339 in UTC, whole seconds.

use std::fmt;
use std::str::FromStr;

/// A moment, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no date of the form `2026-11-24T12:00:00Z`")]
pub struct InvalidMoment(String);

impl Moment {
    /// Returns the date alone: `2026-11-24`.
    #[must_use]
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// Returns how many whole days passed since an earlier moment; 0 where it was none.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).max(0) / 86_400
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known =
            jiff::Timestamp::from_second(self.0).unwrap_or(if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX });
        write!(formatter, "{}", known.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let invalid = || InvalidMoment(text.chars().take(40).flat_map(char::escape_debug).collect());
        let moment = Self(text.parse::<jiff::Timestamp>().map_err(|_| invalid())?.as_second());
        // One moment has one text: neither other zones nor fractions.
        if moment.to_string() == text { Ok(moment) } else { Err(invalid()) }
    }
}

impl serde::Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_text() {
        let moment: Moment = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(
            (moment.0, moment.to_string(), moment.day()),
            (1_795_521_600, "2026-11-24T12:00:00Z".into(), "2026-11-24".into())
        );
        for text in ["2026-11-24T13:00:00+01:00", "2026-11-24T12:00:00.5Z", "2026-11-24", "2026-13-24T12:00:00Z", "", "now"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert_eq!(Moment(i64::MAX).to_string(), jiff::Timestamp::MAX.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }

    #[test]
    fn days_are_counted_and_never_less_than_none() {
        assert_eq!([86_399, 86_400, 200_000].map(|now| Moment(now).days_since(Moment(0))), [0, 1, 2]);
        assert_eq!(Moment(0).days_since(Moment(86_400)), 0);
    }
}
