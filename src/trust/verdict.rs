//! The verdict: from what was found to good, refused, or could not decide. Pure, so that every code has its test.
//!
//! Doors gather facts; nothing here knows where they come from. What was not checked is not in the answer.

use std::collections::BTreeMap;

use super::bundle::{Bundle, Material};
use super::chain::{Chain, Rebuild};
use super::key::{Fingerprint, PublicKey};
use super::keyring::{Keyring, Standing};
use super::release::{self, ReleaseError};
use super::simple::{Entry, Payload};
use super::statement::{self, REBUILD, RELEASE, SIGNATURE, Statement};
use super::yank::{self, Yank};
use crate::model::digest::{BlobDigest, FileDigest};
use crate::model::moment::Moment;
use crate::model::name::ImageName;
use crate::model::number::Number;
use crate::model::problem::shown;
use crate::model::rebuild::Name;
use crate::model::release::Release;

/// Seconds by which a clock may be slow.
const SLOW: i64 = 3600;

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Refused,
    /// Nobody can say: neither good nor bad.
    Undecided,
}

/// Why something is not found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// E01: nothing that counts as a signature; what else there was.
    NoSignature { place: String, others: Vec<String> },
    /// E01: a plain signature, where a statement on a release was seen before.
    NoStatement { product: String },
    /// E02: the fingerprint is what the signature says of itself.
    UnknownKey { claimed: Option<Fingerprint>, certificate: bool },
    /// E03: what was expected and what was found, where that can be said.
    Changed { name: String, expected: String, found: String },
    /// E03: a file that the statement does not name.
    Unlisted { name: String },
    /// E04.
    Other { expected: String, found: String },
    /// E04: the release or rebuild has another number than the one that was asked for.
    OtherNumber { wanted: Number, found: String },
    /// E04: a security rebuild does not follow from what stands before it.
    Broken { rebuild: String, expected: String, found: String },
    /// E05.
    Older { product: String, found: (Number, u64), seen: (Number, u64) },
    /// E05: two statements with one number.
    Twice { product: String, sequence: u64 },
    /// E06: a release, or (without a product) the list of keys.
    Expired { product: Option<(String, Number)>, until: Moment, days: i64 },
    /// E06: its publisher took the release back.
    TakenBack { product: String, version: Number, why: String },
    /// E07.
    Revoked { key: Fingerprint, since: Moment, why: String },
    /// E07: this key's time was over.
    OutOfTime { key: Fingerprint, until: Moment },
    /// E07: a list of keys names the key, but nobody who is trusted signed that list.
    Unconfirmed { key: Fingerprint, root: Fingerprint },
    /// E08.
    Clock { now: Moment, issued: Moment },
    /// E09.
    Missing { name: String },
    /// E10.
    Key { words: String },
    /// E11.
    Unreachable { place: String, words: String },
}

impl Finding {
    /// Returns the code that documentation and people use.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSignature { .. } | Self::NoStatement { .. } => "E01",
            Self::UnknownKey { .. } => "E02",
            Self::Changed { .. } | Self::Unlisted { .. } => "E03",
            Self::Other { .. } | Self::OtherNumber { .. } | Self::Broken { .. } => "E04",
            Self::Older { .. } | Self::Twice { .. } => "E05",
            Self::Expired { .. } | Self::TakenBack { .. } => "E06",
            Self::Revoked { .. } | Self::OutOfTime { .. } | Self::Unconfirmed { .. } => "E07",
            Self::Clock { .. } => "E08",
            Self::Missing { .. } => "E09",
            Self::Key { .. } => "E10",
            Self::Unreachable { .. } => "E11",
        }
    }

    /// Returns whether it is refused, or cannot be decided.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Clock { .. } | Self::Key { .. } | Self::Unreachable { .. } => Outcome::Undecided,
            _ => Outcome::Refused,
        }
    }

    /// Of several signatures of which none is good, the one that is told of: what a trusted signer said comes first.
    const fn weight(&self) -> u8 {
        match self {
            Self::NoSignature { .. } | Self::NoStatement { .. } => 0,
            Self::UnknownKey { .. } => 1,
            Self::Unconfirmed { .. } => 2,
            Self::Other { .. } | Self::OtherNumber { .. } => 3,
            Self::Changed { .. } => 4,
            _ => 5,
        }
    }
}

/// A key that the user trusts, and the newest list of keys that it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pub name: String,
    pub key: PublicKey,
    pub keyring: Option<Keyring>,
}

/// Whom the user trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    pub anchors: Vec<Anchor>,
    /// The user's own key for security rebuilds, which counts for those alone.
    pub own: Option<Anchor>,
    /// Lists of keys that came along, and that nobody who is trusted signed.
    strangers: Vec<Keyring>,
}

/// Who signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub name: String,
    pub key: Fingerprint,
    /// The trusted key: the signer's own, or that of the root that vouches for it.
    pub anchor: Fingerprint,
    /// The name of the root, and the version of its list of keys.
    pub vouched: Option<(String, u64)>,
}

/// A signature, whatever its form.
struct Seal<'a> {
    by: &'a dyn Fn(&PublicKey) -> bool,
    /// What it says of its key.
    claimed: Option<Fingerprint>,
    certificate: bool,
    what: &'a str,
}

impl Trust {
    #[must_use]
    pub const fn new(anchors: Vec<Anchor>) -> Self {
        Self { anchors, own: None, strangers: Vec::new() }
    }

    /// Lets the user's own key count for security rebuilds.
    #[must_use]
    pub fn with_own(self, own: Option<Anchor>) -> Self {
        Self { own, ..self }
    }

    /// Takes in a list of keys that came with what is verified. Returns the trusted key whose list it renews.
    pub fn take(&mut self, keyring: Keyring) -> Option<String> {
        let Some(anchor) = self.anchors.iter_mut().find(|anchor| anchor.key == keyring.root) else {
            self.strangers.push(keyring);
            return None;
        };
        if anchor.keyring.as_ref().is_some_and(|known| known.version >= keyring.version) {
            return None;
        }
        anchor.keyring = Some(keyring);
        Some(anchor.name.clone())
    }

    /// Returns who signed something that was issued at a moment.
    fn signer(&self, seal: &Seal<'_>, issued: Moment, now: Moment) -> Result<Signer, Finding> {
        let named = |key: Fingerprint| seal.claimed == Some(key);
        let mut broken = false;
        let keyrings = || self.anchors.iter().filter_map(|anchor| Some((anchor, anchor.keyring.as_ref()?)));
        // A key that any trusted list revokes counts nowhere, not even where it is trusted by itself.
        let revoked = |key: Fingerprint| {
            let lists = keyrings().flat_map(|(_, keyring)| &keyring.revoked);
            let found = lists.into_iter().find(|revoked| revoked.key == key);
            found.map(|revoked| Finding::Revoked { key, since: revoked.since, why: revoked.why.clone() })
        };
        if let Some(finding) = seal.claimed.and_then(revoked) {
            return Err(finding);
        }
        for anchor in &self.anchors {
            let key = anchor.key.fingerprint();
            broken |= named(key);
            if (seal.by)(&anchor.key) {
                return revoked(key)
                    .map_or_else(|| Ok(Signer { name: anchor.name.clone(), key, anchor: key, vouched: None }), Err);
            }
        }
        for (anchor, keyring) in keyrings() {
            for known in &keyring.keys {
                let key = known.key.fingerprint();
                broken |= named(key);
                if !(seal.by)(&known.key) {
                    continue;
                }
                return match keyring.standing(&known.key, issued) {
                    Standing::InForce(_) if now.0.saturating_add(SLOW) < keyring.issued.0 => {
                        Err(Finding::Clock { now, issued: keyring.issued })
                    }
                    Standing::InForce(_) if now > keyring.expires => {
                        Err(Finding::Expired { product: None, until: keyring.expires, days: now.days_since(keyring.expires) })
                    }
                    Standing::InForce(known) => Ok(Signer {
                        name: known.name.to_string(),
                        key,
                        anchor: anchor.key.fingerprint(),
                        vouched: Some((anchor.name.clone(), keyring.version)),
                    }),
                    Standing::Revoked(revoked) => Err(Finding::Revoked { key, since: revoked.since, why: revoked.why.clone() }),
                    Standing::OutOfTime(known) => Err(Finding::OutOfTime { key, until: known.until }),
                    Standing::Unknown => Err(Finding::UnknownKey { claimed: Some(key), certificate: false }),
                };
            }
        }
        if broken {
            let changed = |expected: &str, found: &str| Finding::Changed {
                name: seal.what.to_owned(),
                expected: expected.into(),
                found: found.into(),
            };
            return Err(changed("", ""));
        }
        for keyring in &self.strangers {
            if let Some(known) = keyring.keys.iter().find(|known| (seal.by)(&known.key)) {
                return Err(Finding::Unconfirmed { key: known.key.fingerprint(), root: keyring.root.fingerprint() });
            }
        }
        Err(Finding::UnknownKey { claimed: seal.claimed, certificate: seal.certificate })
    }

    /// Returns who signed a bundle that was issued then, where that counts now.
    pub fn signer_of_bundle(&self, bundle: &Bundle, what: &str, issued: Moment, now: Moment) -> Result<Signer, Finding> {
        let claimed = match &bundle.material {
            Material::Key { hint: Some(hint) } => Fingerprint::of_hint(hint),
            _ => None,
        };
        let by = |key: &PublicKey| bundle.is_signed_by(key);
        let certificate = bundle.material == Material::Certificate;
        self.signer(&Seal { by: &by, claimed, certificate, what }, issued, now)
    }
}

/// The newest release of a product that was found good before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub version: Number,
    pub sequence: u64,
    /// The digest of the signed statement.
    pub statement: BlobDigest,
    pub key: Fingerprint,
}

/// What is known and wanted before anything is looked at.
pub struct Question<'a> {
    pub now: Moment,
    pub trust: &'a Trust,
    /// Returns what was seen of a product under a trusted key.
    pub seen: &'a dyn Fn(&str, Fingerprint) -> Option<Seen>,
    /// Returns why a release was taken back, where who signs under this trusted key said so.
    pub taken_back: &'a dyn Fn(&str, Fingerprint, Number) -> Option<String>,
    /// The product that it has to be, where that is known.
    pub product: Option<&'a str>,
    /// The number that the release or rebuild has to have, where somebody named one: what a newer genuine one says is about something
    /// else.
    pub number: Option<Number>,
    /// An older release is wanted on purpose.
    pub older: bool,
}

/// A release whose statement is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodRelease {
    pub release: Release,
    pub signer: Signer,
    pub statement: BlobDigest,
    /// As it was signed.
    pub bundle: Bundle,
    /// The key that signed the release before, where it was another one: its root vouches for the new one.
    pub replaced: Option<Fingerprint>,
    /// Whether a release of this product was seen before, with whose number this one was compared.
    pub compared: bool,
}

impl Question<'_> {
    /// Judges the signed statement on a release: who signed it, what it is of, and whether it is of its time. Files are looked at
    /// afterwards.
    pub fn release(&self, bundle: &Bundle, name: &str) -> Result<GoodRelease, Finding> {
        self.release_of(bundle, name, self.number)
    }

    /// Judges likewise, and the release must have this number.
    pub(super) fn release_of(&self, bundle: &Bundle, name: &str, number: Option<Number>) -> Result<GoodRelease, Finding> {
        let release = match release::parse(bundle) {
            Ok(release) => release,
            Err(error) => {
                // Whoever signed it decides what that means.
                self.trust.signer_of_bundle(bundle, name, self.now, self.now)?;
                return Err(match error {
                    ReleaseError::Kind => Finding::Other { expected: "release".into(), found: kind_of(bundle) },
                    error => Finding::Changed { name: name.to_owned(), expected: String::new(), found: error.to_string() },
                });
            }
        };
        let signer = self.trust.signer_of_bundle(bundle, name, release.issued, self.now)?;
        if let Some(product) = self.product.filter(|product| *product != release.product.as_str()) {
            return Err(Finding::Other {
                expected: product.to_owned(),
                found: format!("{} {}", release.product, release.version),
            });
        }
        if let Some(wanted) = number.filter(|number| *number != release.version) {
            return Err(Finding::OtherNumber { wanted, found: format!("{} {}", release.product, release.version) });
        }
        if self.now.0.saturating_add(SLOW) < release.issued.0 {
            return Err(Finding::Clock { now: self.now, issued: release.issued });
        }
        let product = release.product.to_string();
        if self.now > release.valid_until {
            let (until, days) = (release.valid_until, self.now.days_since(release.valid_until));
            return Err(Finding::Expired { product: Some((product, release.version)), until, days });
        }
        let statement = BlobDigest::of(&bundle.payload);
        if let Some(why) = (self.taken_back)(&product, signer.anchor, release.version) {
            return Err(Finding::TakenBack { product, version: release.version, why: shown(&why) });
        }
        // Whoever had one that was taken back may go back.
        let newest = (self.seen)(&product, signer.anchor);
        let seen = newest.filter(|seen| (self.taken_back)(&product, signer.anchor, seen.version).is_none());
        if let Some(seen) = &seen {
            if release.sequence < seen.sequence && !self.older {
                let (found, seen) = ((release.version, release.sequence), (seen.version, seen.sequence));
                return Err(Finding::Older { product, found, seen });
            }
            if release.sequence == seen.sequence && statement != seen.statement {
                return Err(Finding::Twice { product, sequence: release.sequence });
            }
        }
        let replaced = seen.as_ref().map(|seen| seen.key).filter(|key| *key != signer.key);
        Ok(GoodRelease { release, signer, statement, bundle: bundle.clone(), replaced, compared: seen.is_some() })
    }
}

impl Question<'_> {
    /// Reads by whom a release is taken back. What nobody who is trusted signed says nothing, and is no finding either: a stranger must
    /// not be able to make a good release bad.
    #[must_use]
    pub fn yank(&self, bundle: &Bundle) -> Option<(Yank, Signer)> {
        let yank = Yank::parse(bundle).ok()?;
        let signer = self.trust.signer_of_bundle(bundle, yank::FILE, yank.issued, self.now).ok()?;
        Some((yank, signer))
    }
}

/// Returns what a bundle states: the type of its predicate, or of its payload where that is no statement.
#[must_use]
pub fn kind_of(bundle: &Bundle) -> String {
    let statement = (bundle.payload_type == statement::PAYLOAD).then(|| Statement::parse(&bundle.payload).ok()).flatten();
    shown(&statement.map_or_else(|| bundle.payload_type.clone(), |statement| statement.predicate_type))
}

/// What was found beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    Bundle(Bundle),
    Simple {
        payload: Vec<u8>,
        entry: Entry,
    },
    /// Something else, by its type.
    Else(String),
}

/// What makes an image good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoodImage {
    /// A statement on a release that names it.
    Release(Box<GoodRelease>),
    /// A statement on a security rebuild that names it, and leads back to a release.
    Rebuild(Box<Chain>),
    /// A signature of the image alone; `named` is the repository that was signed, where it was compared.
    Signature { signer: Signer, named: Option<String> },
}

impl GoodImage {
    /// Returns who stands by the image.
    ///
    /// # Errors
    /// None where it is good: a rebuild that nobody signed is never found on an image.
    pub fn into_signer(self) -> Result<Signer, Finding> {
        match self {
            Self::Release(good) => Ok(good.signer),
            Self::Signature { signer, .. } => Ok(signer),
            Self::Rebuild(chain) => chain.signer().cloned().ok_or_else(|| Finding::Missing { name: "signature".into() }),
        }
    }
}

/// An image in question.
pub struct ImageQuestion<'a> {
    pub place: &'a str,
    pub digest: BlobDigest,
    /// The repository that it has to be of; without a registry only the last part is compared.
    pub repository: Option<&'a str>,
    /// A product that was seen as a release under a trusted key, and that has this repository.
    pub released: Option<&'a str>,
}

impl ImageQuestion<'_> {
    /// Whether the image has this name below whatever registry.
    fn ends_with(&self, name: &str) -> bool {
        self.repository.is_none_or(|wanted| wanted.rsplit('/').next() == Some(name))
    }

    /// Whether a signed name is that of the image. A name that was not signed says nothing.
    fn fits(&self, name: &str) -> bool {
        let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        // Cosign 2 and 3 have written the digest behind the name.
        let name = name.split('@').next().unwrap_or_default();
        self.repository.is_none_or(|wanted| {
            let has_registry = wanted.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
            if has_registry { name == wanted } else { last(name) == last(wanted) }
        })
    }
}

impl Question<'_> {
    /// Judges an image by what was found beside it.
    pub fn image(&self, image: &ImageQuestion<'_>, evidence: &[Evidence]) -> Result<GoodImage, Finding> {
        let rebuilt = match self.rebuilt(image, evidence) {
            Some(Ok(chain)) => return Ok(GoodImage::Rebuild(Box::new(chain))),
            Some(Err(finding)) => Some(finding),
            None => None,
        };
        self.plain(image, evidence).map_err(|finding| match rebuilt {
            // The statement on the release that was rebuilt is about other images, and no answer to what is asked.
            Some(rebuilt) if finding.weight() < 5 => rebuilt,
            _ => finding,
        })
    }

    /// Judges an image by the statements on rebuilds that name it; nothing where there is none.
    fn rebuilt(&self, image: &ImageQuestion<'_>, evidence: &[Evidence]) -> Option<Result<Chain, Finding>> {
        let bundles: Vec<&Bundle> =
            evidence.iter().filter_map(|found| if let Evidence::Bundle(bundle) = found { Some(bundle) } else { None }).collect();
        let mut best: Option<Result<Chain, Finding>> = None;
        for bundle in bundles.iter().filter(|bundle| kind_of(bundle) == REBUILD) {
            let Ok(said) = Rebuild::parse(bundle) else { continue };
            let Some(name) = said.record.image_of(&image.digest).map(ImageName::as_str) else { continue };
            let judged = if image.ends_with(name) {
                self.chain(bundle, &bundles).and_then(|chain| self.has_number(chain))
            } else {
                Err(Finding::Other { expected: image.repository.unwrap_or_default().to_owned(), found: name.to_owned() })
            };
            let better = match (&best, &judged) {
                (Some(Ok(best)), Ok(chain)) => chain.name() > best.name(),
                (Some(Ok(_)), Err(_)) => false,
                (Some(Err(best)), Err(finding)) => finding.weight() > best.weight(),
                (Some(Err(_)), Ok(_)) | (None, _) => true,
            };
            if better {
                best = Some(judged);
            }
        }
        best
    }

    /// Whether a rebuild is the one whose number was asked for. Rebuilds of projects without numbers have none.
    pub(super) fn has_number(&self, chain: Chain) -> Result<Chain, Finding> {
        let own = chain.name().and_then(Name::number);
        match self.number.zip(own) {
            Some((wanted, own)) if wanted != own => Err(Finding::OtherNumber { wanted, found: own.to_string() }),
            _ => Ok(chain),
        }
    }

    fn plain(&self, image: &ImageQuestion<'_>, evidence: &[Evidence]) -> Result<GoodImage, Finding> {
        let mut good: Option<GoodImage> = None;
        let mut bad: Option<Finding> = None;
        // In the order in which they speak: those of the number that is asked for come last, and of them the newest.
        let mut releases: BTreeMap<(bool, u64), Result<GoodRelease, Finding>> = BTreeMap::new();
        let mut others = Vec::new();
        for found in evidence {
            let judged = match found {
                Evidence::Else(kind) => {
                    others.push(shown(kind));
                    continue;
                }
                Evidence::Simple { payload, entry } => self.simple(image, payload, entry),
                Evidence::Bundle(bundle) => match kind_of(bundle).as_str() {
                    RELEASE => {
                        let wanted = |release: &Release| self.number.is_none_or(|number| number == release.version);
                        let place = release::parse(bundle).map_or((false, 0), |release| (wanted(&release), release.sequence));
                        let judged = self.release(bundle, "release").and_then(|good| Self::names(image, good));
                        // What a stranger says of releases must not outweigh what a trusted signer says.
                        if judged.as_ref().map_or_else(|finding| finding.weight() > 2, |_| true) {
                            releases.insert(place, judged);
                            continue;
                        }
                        judged.map(|good| GoodImage::Release(Box::new(good)))
                    }
                    SIGNATURE => self.bundle(image, bundle),
                    kind => {
                        others.push(kind.to_owned());
                        continue;
                    }
                },
            };
            match judged {
                Ok(found) => good = good.or(Some(found)),
                Err(finding) => {
                    if bad.as_ref().is_none_or(|bad| finding.weight() > bad.weight()) {
                        bad = Some(finding);
                    }
                }
            }
        }
        // One image can belong to several releases; the newest of them speaks.
        let newest_good = releases.iter().rev().find_map(|(_, judged)| judged.as_ref().ok()).cloned();
        if let Some(release) = newest_good {
            return Ok(GoodImage::Release(Box::new(release)));
        }
        if let Some((_, Err(finding))) = releases.pop_last() {
            return Err(finding);
        }
        if let (Some(product), Some(GoodImage::Signature { .. })) = (image.released, &good) {
            return Err(Finding::NoStatement { product: product.to_owned() });
        }
        others.sort();
        others.dedup();
        let nothing = || Finding::NoSignature { place: image.place.to_owned(), others };
        good.ok_or_else(|| bad.unwrap_or_else(nothing))
    }

    /// Judges something else that is said of an image and signed: who signed it, and whether it is of this image.
    pub fn attestation(&self, image: &ImageQuestion<'_>, bundle: &Bundle) -> Result<Signer, Finding> {
        self.bundle(image, bundle)?.into_signer()
    }

    /// Whether a good release names the image.
    fn names(image: &ImageQuestion<'_>, good: GoodRelease) -> Result<GoodRelease, Finding> {
        let other = |found: String| Finding::Other { expected: image.repository.unwrap_or_default().to_owned(), found };
        match good.release.image_of(&image.digest) {
            None => Err(other(format!("{} {}", good.release.product, good.release.version))),
            Some(listed) => {
                let repository = good.release.repository(&listed.name);
                if image.fits(&repository) { Ok(good) } else { Err(other(repository)) }
            }
        }
    }

    fn bundle(&self, image: &ImageQuestion<'_>, bundle: &Bundle) -> Result<GoodImage, Finding> {
        let signer = self.trust.signer_of_bundle(bundle, "signature", self.now, self.now)?;
        let unreadable = |error: statement::StatementError| Finding::Changed {
            name: "signature".into(),
            expected: String::new(),
            found: error.to_string(),
        };
        let statement = Statement::parse(&bundle.payload).map_err(unreadable)?;
        let own = statement.subjects.iter().find(|subject| subject.digest == image.digest);
        let subject = own.ok_or_else(|| Finding::Other {
            expected: image.digest.to_string(),
            found: statement.subjects.first().map(|subject| subject.digest.to_string()).unwrap_or_default(),
        })?;
        Self::signed(image, signer, &subject.name)
    }

    fn simple(&self, image: &ImageQuestion<'_>, payload: &[u8], entry: &Entry) -> Result<GoodImage, Finding> {
        let by = |key: &PublicKey| entry.is_signed_by(payload, key);
        let signer =
            self.trust.signer(&Seal { by: &by, claimed: None, certificate: false, what: "signature" }, self.now, self.now)?;
        let said =
            Payload::parse(payload).ok_or_else(|| Finding::NoSignature { place: image.place.to_owned(), others: Vec::new() })?;
        if said.digest != image.digest {
            return Err(Finding::Other { expected: image.digest.to_string(), found: said.digest.to_string() });
        }
        Self::signed(image, signer, &said.repository)
    }

    fn signed(image: &ImageQuestion<'_>, signer: Signer, name: &str) -> Result<GoodImage, Finding> {
        if name.is_empty() {
            return Ok(GoodImage::Signature { signer, named: None });
        }
        if !image.fits(name) {
            return Err(Finding::Other { expected: image.repository.unwrap_or_default().to_owned(), found: shown(name) });
        }
        Ok(GoodImage::Signature { signer, named: image.repository.map(|_| name.to_owned()) })
    }
}

/// What a file that a statement names turned out to be.
pub type FoundFile = Option<(FileDigest, u64)>;

/// Compares files with what is promised of them. Returns how many there are, and their bytes.
pub fn files<'a>(
    expected: impl IntoIterator<Item = (&'a str, FileDigest, u64)>,
    found: &BTreeMap<String, FoundFile>,
) -> Result<(usize, u64), Finding> {
    let (mut count, mut bytes) = (0, 0_u64);
    for (name, digest, size) in expected {
        match found.get(name).copied().flatten() {
            None => return Err(Finding::Missing { name: name.to_owned() }),
            Some((other, length)) if other != digest || length != size => {
                return Err(Finding::Changed { name: name.to_owned(), expected: digest.to_string(), found: other.to_string() });
            }
            Some(_) => {
                count += 1;
                bytes = bytes.saturating_add(size);
            }
        }
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests;
