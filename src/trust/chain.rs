//! How a security rebuild leads back to the release that it mends. Pure.
//!
//! A rebuild's statement names the release's, and that of the rebuild before, by the digests of their payloads: whoever has all of them can
//! go from one to the next. What it must not be able to do is join what does not belong together; so each has to begin with the lock that
//! the one before ended with, and all have to name one release.

use serde_json::Value;

use super::bundle::Bundle;
use super::statement::{PAYLOAD, REBUILD, Statement, StatementError, Subject};
use super::verdict::{Finding, GoodRelease, ImageQuestion, Question, Signer};
use crate::image::canonical::JsonError;
use crate::model::digest::BlobDigest;
use crate::model::moment::{InvalidMoment, Moment};
use crate::model::name::ImageName;
use crate::model::rebuild::{FORMAT, Name, Record};

/// Seconds by which a clock may be slow.
const SLOW: i64 = 3600;

/// A payload that is no statement on a rebuild.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error("it is a statement on something else than a rebuild")]
    Kind,
    #[error("it does not have the shape of a statement on a rebuild")]
    Shape(#[source] serde_json::Error),
    #[error("its format {0} is not known; a newer parvis wrote it")]
    Format(u32),
    #[error("it is about other images than it lists")]
    Subjects,
    #[error(transparent)]
    Date(#[from] InvalidMoment),
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// What a rebuild says of itself; who signed it is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    pub record: Record,
    /// The digest of the payload that is signed, the same whoever signs it.
    pub statement: BlobDigest,
    /// The date of the archive that the fixes are from.
    pub date: Moment,
}

/// Returns what a parish signs of a rebuild: what was done, about every image that there is then, on each platform and as a whole.
///
/// # Errors
/// Refuses a record that is none.
pub fn statement(record: Value) -> Result<Statement, ChainError> {
    let read: Record = serde_json::from_value(record.clone()).map_err(ChainError::Shape)?;
    let manifests = read.all.iter().map(|image| (&image.name, image.manifest));
    let indexes = read.indexes.iter().map(|index| (&index.name, index.digest));
    let subject = |(name, digest): (&ImageName, BlobDigest)| Subject { name: name.to_string(), digest };
    let subjects = manifests.chain(indexes).map(subject).collect();
    Ok(Statement { subjects, predicate_type: REBUILD.to_owned(), predicate: record })
}

impl Rebuild {
    /// Reads the record of a rebuild, as it stands in its folder.
    ///
    /// # Errors
    /// Refuses a record that is none, or is one of a newer parvis.
    pub fn of(record: Value) -> Result<Self, ChainError> {
        let statement = statement(record)?;
        let bytes = statement.to_bytes()?;
        let record: Record = serde_json::from_value(statement.predicate).map_err(ChainError::Shape)?;
        if record.format != FORMAT {
            return Err(ChainError::Format(record.format));
        }
        Ok(Self { date: record.date.parse()?, record, statement: BlobDigest::of(&bytes) })
    }

    /// Reads what was signed.
    ///
    /// # Errors
    /// Refuses what is no such statement, and one whose subjects are not exactly the images that it lists.
    pub fn parse(bundle: &Bundle) -> Result<Self, ChainError> {
        if bundle.payload_type != PAYLOAD {
            return Err(ChainError::Kind);
        }
        let stated = Statement::parse(&bundle.payload)?;
        if stated.predicate_type != REBUILD {
            return Err(ChainError::Kind);
        }
        let read = Self::of(stated.predicate)?;
        if read.statement == BlobDigest::of(&bundle.payload) { Ok(read) } else { Err(ChainError::Subjects) }
    }
}

/// A rebuild whose way back to a release is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The newest first, each with who signed it: nobody where somebody said that this may be.
    pub rebuilds: Vec<(Rebuild, Option<Signer>)>,
    /// What it began with; nothing where the project was never released.
    pub release: Option<GoodRelease>,
}

impl Chain {
    /// Puts a chain together, and refuses one that does not hold.
    ///
    /// # Errors
    /// Says which rebuild does not fit to what stands before it.
    pub fn new(rebuilds: Vec<(Rebuild, Option<Signer>)>, release: Option<GoodRelease>) -> Result<Self, Finding> {
        for (at, (rebuild, _)) in rebuilds.iter().enumerate() {
            let record = &rebuild.record;
            let other = |expected: String, found: String| Finding::Broken { rebuild: record.name.to_string(), expected, found };
            // The number of a rebuild is that of its release.
            let (named, known) = (record.upstream.as_ref(), release.as_ref());
            if named.map(|named| named.statement) != known.map(|known| known.statement) {
                let shown = |digest: Option<BlobDigest>| digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
                return Err(other(shown(known.map(|known| known.statement)), shown(named.map(|named| named.statement))));
            }
            let number = known.map(|known| known.release.version.release());
            if record.name.release != number {
                let number = number.map_or_else(|| "sec".to_owned(), |number| number.to_string());
                return Err(other(number, record.name.to_string()));
            }
            let before = rebuilds.get(at + 1).map(|(before, _)| before);
            let named = record.previous.as_ref();
            if named.map(|named| (named.name, named.statement)) != before.map(|before| (before.record.name, before.statement)) {
                let named = named.map_or_else(|| "-".to_owned(), |named| named.name.to_string());
                return Err(other(before.map_or_else(|| "-".to_owned(), |before| before.record.name.to_string()), named));
            }
            if before.is_some_and(|before| before.record.name >= record.name) {
                return Err(other(format!("< {}", record.name), named.map(|named| named.name.to_string()).unwrap_or_default()));
            }
            let began_with = before.map(|before| before.record.lock).or_else(|| known.map(|known| known.release.lock));
            if let Some(lock) = began_with.filter(|lock| *lock != record.base_lock) {
                return Err(other(lock.to_string(), record.base_lock.to_string()));
            }
        }
        Ok(Self { rebuilds, release })
    }

    /// Returns the name of the newest rebuild.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.rebuilds.first().map(|(rebuild, _)| rebuild.record.name)
    }

    /// Returns who signed the newest rebuild.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        self.rebuilds.first().and_then(|(_, signer)| signer.as_ref())
    }
}

impl Question<'_> {
    /// Judges the signed statement on one rebuild: who signed it. The user's own key counts as well.
    ///
    /// # Errors
    /// Says why it is not good.
    pub fn rebuild(&self, bundle: &Bundle, name: &str) -> Result<(Rebuild, Signer), Finding> {
        let mut trust = self.trust.clone();
        trust.anchors.extend(trust.own.take());
        let rebuild = match Rebuild::parse(bundle) {
            Ok(rebuild) => rebuild,
            Err(error) => {
                // Whoever signed it decides what that means.
                trust.signer_of_bundle(bundle, name, self.now, self.now)?;
                return Err(Finding::Changed { name: name.to_owned(), expected: String::new(), found: error.to_string() });
            }
        };
        let signer = trust.signer_of_bundle(bundle, name, rebuild.date, self.now)?;
        if self.now.0.saturating_add(SLOW) < rebuild.date.0 {
            return Err(Finding::Clock { now: self.now, issued: rebuild.date });
        }
        Ok((rebuild, signer))
    }

    /// Judges the statement on a rebuild that stands beside an image: who signed it, and whether it names the image.
    ///
    /// # Errors
    /// Says why it is not good.
    pub fn rebuild_of(&self, image: &ImageQuestion<'_>, bundle: &Bundle) -> Result<Signer, Finding> {
        let (rebuild, signer) = self.rebuild(bundle, "rebuild")?;
        if rebuild.record.image_of(&image.digest).is_some() {
            return Ok(signer);
        }
        Err(Finding::Other { expected: image.digest.to_string(), found: rebuild.record.name.to_string() })
    }

    /// Walks from the statement on a rebuild to that on its release, through whatever statements are at hand.
    ///
    /// # Errors
    /// Says where the chain is broken.
    pub fn chain(&self, bundle: &Bundle, others: &[&Bundle]) -> Result<Chain, Finding> {
        let find = |digest: BlobDigest| others.iter().find(|other| BlobDigest::of(&other.payload) == digest);
        let (mut rebuild, mut signer) = self.rebuild(bundle, "rebuild")?;
        let mut rebuilds = Vec::new();
        // Each names a digest of what was there before it: there is no way round in a circle.
        while let Some(previous) = rebuild.record.previous.clone() {
            rebuilds.push((rebuild, Some(signer)));
            let name = previous.name.to_string();
            // One that stands in its place and is another says more than that it is missing.
            let like = |other: &&&Bundle| Rebuild::parse(other).is_ok_and(|other| other.record.name == previous.name);
            let before = find(previous.statement).or_else(|| others.iter().find(like));
            let before = before.ok_or_else(|| Finding::Missing { name: previous.name.statement_file() })?;
            (rebuild, signer) = self.rebuild(before, &name)?;
        }
        let release = match &rebuild.record.upstream {
            None => None,
            Some(named) => {
                let name = format!("{} {}", named.product, named.version);
                let bundle = find(named.statement).or_else(|| others.iter().find(|other| Rebuild::parse(other).is_err()));
                let bundle = bundle.ok_or_else(|| Finding::Missing { name: super::release::FILE.to_owned() })?;
                // The number that was asked for is the rebuild's.
                Some(self.release_of(bundle, &name, None)?)
            }
        };
        rebuilds.push((rebuild, Some(signer)));
        Chain::new(rebuilds, release)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::key::testing::key;
    use super::super::verdict::{Anchor, Evidence, GoodImage, Trust};
    use super::*;
    use crate::model::release::testing::release;

    /// A release, and two rebuilds of it, each of which may be changed before it is named by the next.
    fn chain(first: impl Fn(&mut Value), second: impl Fn(&mut Value)) -> Result<Chain, Finding> {
        asked(first, second, |question, upstream, one, two| question.chain(two, &[upstream, one]))
    }

    /// Asks something about them: the statement on the release, and those on both rebuilds.
    fn asked<T>(
        first: impl Fn(&mut Value),
        second: impl Fn(&mut Value),
        ask: impl FnOnce(&Question<'_>, &Bundle, &Bundle, &Bundle) -> T,
    ) -> T {
        let upstream = super::super::release::sign(&release(), &key(1)).unwrap();
        let digest = |bundle: &Bundle| BlobDigest::of(&bundle.payload);
        let lock = |number: u8| format!("{number:02x}").repeat(32);
        let record = |name: &str, base: String, gave: u8, previous: Value| {
            let of = json!({"product": release().product, "version": release().version, "statement": digest(&upstream), "lock": release().lock});
            let image = json!({"name": "app", "platform": "amd64", "manifest": digest(&upstream)});
            json!({"format": 1, "name": name, "date": "2026-11-24T12:00:00Z", "upstream": of, "previous": previous,
                "base_lock": base, "lock": lock(gave), "all": [image]})
        };
        let version = release().version.release();
        let mut one = record(&format!("{version}-sec.1"), release().lock.to_string(), 1, Value::Null);
        first(&mut one);
        let one = statement(one).unwrap().sign(&key(2)).unwrap();
        let previous = json!({"name": Rebuild::parse(&one).unwrap().record.name.to_string(), "statement": digest(&one)});
        let mut two = record(&format!("{version}-sec.2"), lock(1), 2, previous);
        second(&mut two);
        let two = statement(two).unwrap().sign(&key(2)).unwrap();
        let anchor = |number: u8| Anchor { name: number.to_string(), key: key(number).public().clone(), keyring: None };
        let trust = Trust::new(vec![anchor(1)]).with_own(Some(anchor(2)));
        let now = release().issued.max("2026-11-24T12:00:00Z".parse().unwrap());
        let (seen, taken_back) = (|_: &str, _| None, |_: &str, _, _| None);
        let question =
            Question { now, trust: &trust, seen: &seen, taken_back: &taken_back, product: None, number: None, older: false };
        ask(&question, &upstream, &one, &two)
    }

    #[test]
    fn a_chain_leads_from_one_statement_to_the_next_and_ends_at_the_release() {
        let good = chain(|_| {}, |_| {}).unwrap();
        assert_eq!((good.rebuilds.len(), good.signer().unwrap().name.as_str()), (2, "2"));
        assert_eq!(good.release.unwrap().signer.name, "1");
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let version = release().version.release();
        let nothing = |_: &mut Value| {};
        let set = |path: &'static str, value: Value| move |record: &mut Value| *record.pointer_mut(path).unwrap() = value.clone();
        let digest = format!("sha256:{}", "0".repeat(64));
        let broken = |found: Result<Chain, Finding>, what: &str| {
            assert!(matches!(found, Err(Finding::Broken { .. })), "{what}: {found:?}");
        };
        broken(chain(set("/base_lock", json!("0".repeat(64))), nothing), "the first began with another lock");
        broken(chain(nothing, set("/base_lock", json!("0".repeat(64)))), "the second began with another lock");
        broken(chain(nothing, set("/upstream/statement", json!(digest))), "the second is of another release");
        broken(chain(nothing, set("/upstream", Value::Null)), "the second is of no release");
        broken(chain(set("/name", json!("9.9.9-sec.1")), nothing), "the first is of another number");
        broken(chain(nothing, set("/name", json!("9.9.9-sec.2"))), "the second is of another number, and newer");
        broken(chain(set("/name", json!(format!("{version}-sec.2"))), nothing), "two of one number");
        broken(chain(set("/name", json!(format!("{version}-sec.3"))), nothing), "an older number upon a newer one");
        broken(chain(nothing, set("/previous/name", json!(format!("{version}-sec.9")))), "the name is not that of the statement");
        let found = chain(nothing, set("/previous/statement", json!(digest)));
        assert!(matches!(found, Err(Finding::Broken { .. })), "{found:?}");
    }

    #[test]
    fn who_signed_what_is_no_rebuild_decides_what_that_means() {
        let unknown = super::super::release::sign(&release(), &key(3)).unwrap();
        let (known, unknown) = asked(
            |_| {},
            |_| {},
            |question, upstream, _, _| (question.rebuild(upstream, "one").map(drop), question.rebuild(&unknown, "one").map(drop)),
        );
        assert!(matches!(known, Err(Finding::Changed { .. })), "{known:?}");
        assert!(matches!(unknown, Err(Finding::UnknownKey { .. })), "{unknown:?}");
    }

    #[test]
    fn a_rebuild_of_another_day_than_this_machine_knows_is_not_decided() {
        let found = chain(|_| {}, |record| record["date"] = json!("2999-01-01T00:00:00Z"));
        assert!(matches!(found, Err(Finding::Clock { .. })), "{found:?}");
    }

    #[test]
    fn an_image_is_one_that_the_rebuild_names_under_the_name_that_it_has_there() {
        let judged = |repository: &str, other: bool| {
            asked(
                |_| {},
                |_| {},
                |question, upstream, one, two| {
                    let listed = Rebuild::parse(two).unwrap().record.all[0].manifest;
                    let digest = if other { BlobDigest::of(b"another") } else { listed };
                    let image = ImageQuestion { place: "here", digest, repository: Some(repository), released: None };
                    let evidence = [upstream, one, two].map(|bundle| Evidence::Bundle(bundle.clone()));
                    (question.image(&image, &evidence), question.rebuild_of(&image, two))
                },
            )
        };
        let (found, of) = judged("registry.example/parish/app", false);
        assert!(matches!(found, Ok(GoodImage::Rebuild(_))) && of.is_ok(), "{found:?}");
        let (found, _) = judged("registry.example/parish/db", false);
        assert!(matches!(found, Err(Finding::Other { .. })), "under another name: {found:?}");
        let (found, of) = judged("registry.example/parish/app", true);
        assert!(found.is_err() && matches!(of, Err(Finding::Other { .. })), "another image: {found:?}");
    }

    #[test]
    fn a_statement_has_the_images_that_it_lists_as_subjects_and_no_others() {
        let record = json!({"format": 1, "name": "sec.1", "date": "2026-11-24T12:00:00Z", "upstream": null,
            "base_lock": "1".repeat(64), "lock": "2".repeat(64),
            "all": [{"name": "app", "platform": "amd64", "manifest": format!("sha256:{}", "3".repeat(64))}]});
        let good = statement(record.clone()).unwrap();
        assert!(Rebuild::parse(&good.sign(&key(1)).unwrap()).is_ok());
        // An image of several platforms is signed as a whole too, and an index that is only listed is none that was signed.
        let mut several = record.clone();
        several["indexes"] = json!([{"name": "app", "digest": format!("sha256:{}", "4".repeat(64))}]);
        let whole = statement(several).unwrap();
        assert_eq!(whole.subjects[1].digest.hex(), "4".repeat(64));
        let read = Rebuild::parse(&whole.sign(&key(1)).unwrap()).unwrap().record;
        let named = |digit: &str| read.image_of(&format!("sha256:{}", digit.repeat(64)).parse().unwrap()).map(ImageName::as_str);
        assert_eq!([named("3"), named("4"), named("5")], [Some("app"), Some("app"), None]);
        let mut less = whole;
        less.subjects.pop();
        assert!(matches!(Rebuild::parse(&less.sign(&key(1)).unwrap()), Err(ChainError::Subjects)));
        let mut more = good.clone();
        more.subjects.push(Subject { name: "other".into(), digest: BlobDigest::of(b"other") });
        assert!(matches!(Rebuild::parse(&more.sign(&key(1)).unwrap()), Err(ChainError::Subjects)));
        let mut kind = good.sign(&key(1)).unwrap();
        kind.payload_type = "application/json".into();
        assert!(matches!(Rebuild::parse(&kind), Err(ChainError::Kind)));
        let other = Statement { predicate_type: "https://x.example".into(), ..good };
        assert!(matches!(Rebuild::parse(&other.sign(&key(1)).unwrap()), Err(ChainError::Kind)));
        let mut newer = record;
        newer["format"] = 2.into();
        assert!(matches!(Rebuild::of(newer), Err(ChainError::Format(2))));
    }
}
