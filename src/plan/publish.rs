//! How a release becomes visible: which number may come next, which tags it gets, and in which order things are sent.
//!
//! Whatever is named by its digest is sent first, in any order, and seen by nobody. Then the number's own tag of each image, which is
//! set once and never moved; last the tags that float (`1.4`, `1`, `latest`). A run that was killed is repeated: what is there already
//! is left alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::digest::BlobDigest;
use crate::model::name::ImageName;
use crate::model::number::{Number, Stage};
use crate::model::project::FloatingTag;
use crate::model::releases::Record;

/// A number that cannot be released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("`{0}` is released already")]
    Taken(Number),
    #[error("`{number}` is not greater than `{newest}`, which is released already")]
    NotGreater { number: Number, newest: Number },
    #[error("`{number}` is not greater than `{newest}`, the newest of all")]
    OldLine { number: Number, newest: Number },
    #[error("`{0}` is a number that only `parvis rebuild` gives")]
    Rebuild(Number),
}

impl NumberError {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Taken(number) => format!("a release never changes: take a greater number, or `parvis yank {number}`"),
            Self::NotGreater { newest, .. } => {
                let next = Number { patch: newest.patch.saturating_add(1), stage: Stage::Release, ..*newest };
                format!("the next one is `{next}`, or a greater one")
            }
            Self::OldLine { number, .. } => {
                format!("add `--maintenance` if `{}.{}` is still looked after beside newer releases", number.major, number.minor)
            }
            Self::Rebuild(number) => {
                format!("release `{}`, or run `parvis rebuild`", Number { patch: number.patch + 1, ..number.release() })
            }
        }
    }
}

/// Decides whether a number may be released after those that were.
///
/// # Errors
/// Says which release stands in its way.
pub fn next(number: Number, records: &[Record], maintenance: bool) -> Result<(), NumberError> {
    if let Stage::Security(_) = number.stage {
        return Err(NumberError::Rebuild(number));
    }
    if records.iter().any(|record| record.version == number) {
        return Err(NumberError::Taken(number));
    }
    let line = |record: &&Record| (record.version.major, record.version.minor) == (number.major, number.minor);
    let newest = |of: &mut dyn Iterator<Item = &Record>| of.map(|record| record.version).max().filter(|newest| *newest > number);
    if let Some(newest) = newest(&mut records.iter().filter(line)) {
        return Err(NumberError::NotGreater { number, newest });
    }
    match newest(&mut records.iter()) {
        Some(newest) if !maintenance => Err(NumberError::OldLine { number, newest }),
        _ => Ok(()),
    }
}

/// Returns the tags that float to a release: those for which no other usable release is newer.
#[must_use]
pub fn floating(number: Number, records: &[Record], rules: &BTreeSet<FloatingTag>) -> Vec<String> {
    if number.is_candidate() {
        return Vec::new();
    }
    let newest_of = |scope: &dyn Fn(Number) -> bool| {
        !records.iter().any(|record| record.is_usable() && record.version > number && scope(record.version))
    };
    let same_major = |other: Number| other.major == number.major;
    let candidates = [
        (
            FloatingTag::Minor,
            format!("{}.{}", number.major, number.minor),
            newest_of(&|other| same_major(other) && other.minor == number.minor),
        ),
        (FloatingTag::Major, number.major.to_string(), newest_of(&same_major)),
        (FloatingTag::Latest, "latest".to_owned(), newest_of(&|_| true)),
    ];
    candidates.into_iter().filter(|(rule, _, newest)| rules.contains(rule) && *newest).map(|(_, tag, _)| tag).collect()
}

/// A tag of one image, and what it is to stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagMove {
    pub image: ImageName,
    pub tag: String,
    /// What it stands for now.
    pub from: Option<BlobDigest>,
    pub to: BlobDigest,
}

/// A tag that stands for something that parvis did not put there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagConflict {
    #[error("the tag `{tag}` of `{image}` stands for `{found}`, and the release has `{wanted}`")]
    Taken { image: ImageName, tag: String, found: BlobDigest, wanted: BlobDigest },
    #[error("the tag `{tag}` of `{image}` stands for `{found}`, which no release of this project has")]
    Foreign { image: ImageName, tag: String, found: BlobDigest },
}

impl TagConflict {
    /// Returns the next step.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "a release's tag never moves: take the next number, or find out who pushed the other image",
            Self::Foreign { .. } => "find out who moved it; `parvis release --retake` moves it nevertheless",
        }
    }
}

/// What the tags of a registry stand for, by image and tag.
pub type Tags = BTreeMap<(ImageName, String), BlobDigest>;

/// Plans the tags of a release: its own first, then those that float.
///
/// # Errors
/// Refuses to move the release's own tag, and floating tags that somebody else moved unless they are to be retaken.
pub fn tag_moves(
    number: Number,
    images: &[(ImageName, BlobDigest)],
    floating: &[String],
    present: &Tags,
    records: &[Record],
    retake: bool,
) -> Result<Vec<TagMove>, TagConflict> {
    let known = |image: &ImageName, digest: &BlobDigest| {
        records.iter().flat_map(|record| &record.images).any(|known| known.name == *image && known.digest == *digest)
    };
    let own = number.to_string();
    let mut moves = Vec::new();
    for tag in std::iter::once(&own).chain(floating) {
        for (image, to) in images {
            let from = present.get(&(image.clone(), tag.clone())).copied();
            let (image, tag, to) = (image.clone(), tag.clone(), *to);
            match from {
                Some(found) if found == to => {}
                Some(found) if tag == own => return Err(TagConflict::Taken { image, tag, found, wanted: to }),
                Some(found) if !retake && !known(&image, &found) => return Err(TagConflict::Foreign { image, tag, found }),
                _ => moves.push(TagMove { image, tag, from, to }),
            }
        }
    }
    Ok(moves)
}

/// Plans the tags when a release is taken back: its own stay, those that float go to the newest usable release of their scope.
///
/// A tag for which none is left stays where it is: removing it would break those who use it, without telling them why.
#[must_use]
pub fn tag_moves_after_yank(yanked: &Record, records: &[Record], rules: &BTreeSet<FloatingTag>, present: &Tags) -> Vec<TagMove> {
    let mut moves = Vec::new();
    let mut usable: Vec<&Record> =
        records.iter().filter(|record| record.is_usable() && record.version != yanked.version).collect();
    usable.sort_by_key(|record| std::cmp::Reverse(record.version));
    let rest: Vec<Record> = usable.iter().map(|record| (*record).clone()).collect();
    for tag in floating(yanked.version, &rest, rules) {
        let number = yanked.version;
        let scope = |other: &&&Record| match tag.split('.').count() {
            2 => (other.version.major, other.version.minor) == (number.major, number.minor),
            _ => tag == "latest" || other.version.major == number.major,
        };
        let Some(successor) = usable.iter().find(scope) else { continue };
        for image in &yanked.images {
            let from = present.get(&(image.name.clone(), tag.clone())).copied();
            let to = successor.images.iter().find(|other| other.name == image.name).map(|other| other.digest);
            if let Some(to) = to.filter(|to| from == Some(image.digest) && Some(*to) != from) {
                moves.push(TagMove { image: image.name.clone(), tag: tag.clone(), from, to });
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::release::Release;
    use crate::model::release::testing::release;
    use crate::model::releases::ReleasedImage;

    fn all() -> BTreeSet<FloatingTag> {
        [FloatingTag::Minor, FloatingTag::Major, FloatingTag::Latest].into()
    }

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    fn image(version: &str) -> (ImageName, BlobDigest) {
        ("httpd".parse().unwrap(), BlobDigest::of(version.as_bytes()))
    }

    fn record(version: &str) -> Record {
        let (name, digest) = image(version);
        let images = vec![ReleasedImage { name, digest, platforms: Vec::new() }];
        Record::of(&Release { version: number(version), images, ..release() }, "0.1.0", None, None)
    }

    fn records(versions: &[&str]) -> Vec<Record> {
        versions.iter().map(|version| record(version)).collect()
    }

    fn present(tags: &[(&str, &str)]) -> Tags {
        tags.iter().map(|(tag, version)| ((image("").0, (*tag).to_owned()), image(version).1)).collect()
    }

    fn shown(moves: &[TagMove]) -> Vec<&str> {
        moves.iter().map(|tag| tag.tag.as_str()).collect()
    }

    #[test]
    fn a_number_must_be_greater_than_what_was_released() {
        let released = records(&["1.3.0", "1.4.0-rc.1", "1.4.0", "2.0.0-rc.1"]);
        let refused = |text: &str, maintenance| next(number(text), &released, maintenance).unwrap_err();
        assert_eq!(refused("1.4.0", false), NumberError::Taken(number("1.4.0")));
        assert_eq!(
            refused("1.4.0-rc.2", true),
            NumberError::NotGreater { number: number("1.4.0-rc.2"), newest: number("1.4.0") }
        );
        assert_eq!(refused("1.4.1", false), NumberError::OldLine { number: number("1.4.1"), newest: number("2.0.0-rc.1") });
        assert_eq!(refused("1.4.1-sec.1", true), NumberError::Rebuild(number("1.4.1-sec.1")));
        for (text, maintenance) in [("1.4.1", true), ("2.0.0-rc.2", false), ("2.0.0", false), ("1.3.1", true)] {
            next(number(text), &released, maintenance).unwrap();
        }
        next(number("0.1.0"), &[], false).unwrap();
    }

    #[test]
    fn a_tag_floats_to_the_newest_of_its_scope() {
        let released = records(&["1.3.0", "2.0.0", "3.0.0-rc.1"]);
        assert_eq!(floating(number("2.1.0"), &released, &all()), ["2.1", "2", "latest"]);
        assert_eq!(floating(number("1.4.0"), &released, &all()), ["1.4", "1"]);
        assert_eq!(floating(number("1.2.9"), &released, &all()), ["1.2"]);
        assert!(floating(number("3.0.0-rc.2"), &released, &all()).is_empty(), "a candidate is asked for by its number only");
        assert_eq!(floating(number("2.1.0"), &released, &[FloatingTag::Minor, FloatingTag::Major].into()), ["2.1", "2"]);
        let mut yanked = released;
        yanked[1].yanked = Some("broken".into());
        assert_eq!(floating(number("1.4.0"), &yanked, &all()), ["1.4", "1", "latest"]);
    }

    #[test]
    fn own_tags_come_first_and_what_is_there_is_left_alone() {
        let before = records(&["1.3.0"]);
        let there = present(&[("latest", "1.3.0"), ("1", "1.4.0")]);
        let moves =
            tag_moves(number("1.4.0"), &[image("1.4.0")], &["1".into(), "latest".into()], &there, &before, false).unwrap();
        assert_eq!(shown(&moves), ["1.4.0", "latest"]);
        assert_eq!(moves[1].from, Some(image("1.3.0").1));
        let done = present(&[("1.4.0", "1.4.0"), ("1", "1.4.0"), ("latest", "1.4.0")]);
        let again = tag_moves(number("1.4.0"), &[image("1.4.0")], &["1".into(), "latest".into()], &done, &before, false);
        assert_eq!(again.unwrap(), []);
    }

    #[test]
    fn the_tag_of_a_release_never_moves() {
        let there = present(&[("1.4.0", "other")]);
        let conflict = tag_moves(number("1.4.0"), &[image("1.4.0")], &[], &there, &[], true).unwrap_err();
        assert!(matches!(conflict, TagConflict::Taken { .. }), "{conflict}");
    }

    #[test]
    fn a_floating_tag_that_somebody_else_moved_is_left_alone_unless_retaken() {
        let there = present(&[("latest", "other")]);
        let plan =
            |retake| tag_moves(number("1.4.0"), &[image("1.4.0")], &["latest".into()], &there, &records(&["1.3.0"]), retake);
        assert!(matches!(plan(false).unwrap_err(), TagConflict::Foreign { .. }));
        assert_eq!(shown(&plan(true).unwrap()), ["1.4.0", "latest"]);
    }

    #[test]
    fn what_floated_to_a_yanked_release_goes_back_to_the_one_before() {
        let three = records(&["1.3.0", "1.4.0", "1.4.1"]);
        let there = present(&[("1.4.1", "1.4.1"), ("1.4", "1.4.1"), ("1", "1.4.1"), ("latest", "other")]);
        let moves = tag_moves_after_yank(&three[2], &three, &all(), &there);
        assert_eq!(shown(&moves), ["1.4", "1"], "its own tag stays, and what somebody else moved stays");
        assert!(moves.iter().all(|tag| tag.to == image("1.4.0").1));
        let moves = tag_moves_after_yank(&three[1], &three, &all(), &present(&[("1.4", "1.4.1"), ("latest", "1.4.1")]));
        assert_eq!(moves, [], "a newer release has the tags");
        let only = records(&["1.4.1"]);
        assert_eq!(tag_moves_after_yank(&only[0], &only, &all(), &there), [], "nothing is left to point to");
    }
}
