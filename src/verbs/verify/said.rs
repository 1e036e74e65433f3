//! Everything that is said of an image, for people who look at it: what it is, who signed it, and whether that counts here.

use serde_json::{Value, json};

use super::gather::{Beside, beside};
use super::memory::Known;
use super::{pinned, words};
use crate::edge::keys::{Memory, TrustFolder};
use crate::failure::Failure;
use crate::image::oci::Descriptor;
use crate::image::repository::Repository;
use crate::model::digest::BlobDigest;
use crate::model::language::Language;
use crate::model::moment::Moment;
use crate::model::problem::shown;
use crate::trust::bundle::BUNDLE;
use crate::trust::key::Fingerprint;
use crate::trust::results::TEST_RESULT;
use crate::trust::statement::{CYCLONEDX, REBUILD, RELEASE, SIGNATURE, SLSA, SPDX, YANK};
use crate::trust::verdict::{Evidence, Finding, ImageQuestion, Outcome, Question, Signer, Trust, kind_of};
use crate::verbs::Context;

/// The predicates that others know and parvis does not make.
const OPENVEX: &str = "https://openvex.dev/ns";

/// Something that is said of an image.
#[derive(Debug)]
pub struct Said {
    /// Its artifact, or the list of signatures in which it stands.
    line: Descriptor,
    /// What it is said of, and whether that is the index of several platforms.
    subject: (BlobDigest, bool),
    /// The type of what is said.
    kind: String,
    /// It stands in a list under a tag, as cosign wrote it before there were referrers.
    is_older: bool,
    standing: Standing,
}

/// What is known of a signature.
#[derive(Debug)]
enum Standing {
    Good(Signer),
    Bad(Finding),
    /// Nobody is trusted here, so nobody was asked.
    NoKey,
    /// It is in no form that parvis reads.
    NoForm,
}

/// What is needed to judge signatures.
pub struct Judge<'a> {
    context: &'a Context<'a>,
    trust: Trust,
    known: Known,
}

impl<'a> Judge<'a> {
    /// Reads whom the user trusts, and what was seen of releases.
    pub fn new(context: &'a Context<'a>) -> Result<Self, Failure> {
        let pinned = pinned(&TrustFolder::new(&context.config)).map_err(failed)?;
        let trust = Trust::new(pinned).with_own(super::rebuilt::own(context)?);
        Ok(Self { context, trust, known: Known::read(&Memory::new(&context.state))? })
    }

    /// Returns what is said of an image, and of the index in which it stands.
    pub fn said(
        &self,
        place: &dyn Repository,
        image: &BlobDigest,
        index: Option<&BlobDigest>,
        repository: Option<&str>,
    ) -> Result<Vec<Said>, Failure> {
        let mut said = Vec::new();
        for (digest, is_index) in index.map(|index| (*index, true)).into_iter().chain([(*image, false)]) {
            let anchors: Vec<Fingerprint> = self.trust.anchors.iter().map(|anchor| anchor.key.fingerprint()).collect();
            let released = repository.and_then(|repository| self.known.product_of(repository, &anchors));
            let asked = ImageQuestion { place: &place.place(), digest, repository, released };
            for Beside { line, is_older, evidence } in beside(place, &digest, true).map_err(failed)? {
                let kind = match &evidence {
                    Evidence::Bundle(bundle) => kind_of(bundle),
                    Evidence::Simple { .. } => SIGNATURE.to_owned(),
                    Evidence::Else(kind) => kind.clone(),
                };
                let standing = self.standing(&asked, evidence, &kind);
                said.push(Said { line, subject: (digest, is_index), kind, is_older, standing });
            }
        }
        Ok(said)
    }

    fn standing(&self, asked: &ImageQuestion<'_>, evidence: Evidence, kind: &str) -> Standing {
        if matches!(evidence, Evidence::Else(_)) {
            return Standing::NoForm;
        }
        if self.trust.anchors.is_empty() && (kind != REBUILD || self.trust.own.is_none()) {
            return Standing::NoKey;
        }
        let seen = |product: &str, anchor: Fingerprint| self.known.seen(product, anchor);
        let (now, trust) = (Moment(self.context.now), &self.trust);
        let taken_back = |product: &str, anchor, version| self.known.taken_back(product, anchor, version);
        let question = Question { now, trust, seen: &seen, taken_back: &taken_back, product: None, number: None, older: false };
        let signer = match &evidence {
            Evidence::Bundle(bundle) if kind == REBUILD => question.rebuild_of(asked, bundle),
            Evidence::Bundle(bundle) if ![SIGNATURE, RELEASE].contains(&kind) => question.attestation(asked, bundle),
            _ => question.image(asked, std::slice::from_ref(&evidence)).and_then(crate::trust::verdict::GoodImage::into_signer),
        };
        signer.map_or_else(Standing::Bad, Standing::Good)
    }
}

/// Says why it is not known what is said of an image.
fn failed(finding: Finding) -> Failure {
    Failure::world(words::sentence(&finding, Language::English)).hint(words::advice(&finding, Language::English))
}

impl Said {
    /// Returns the type of what is said in a word, where it is a known one.
    fn word(&self) -> &str {
        let known = [
            (SIGNATURE, "signature"),
            (RELEASE, "statement on a release"),
            (YANK, "statement that a release was taken back"),
            (SPDX, "list of contents (SPDX)"),
            (CYCLONEDX, "list of contents (CycloneDX)"),
            (SLSA, "provenance (SLSA)"),
            (TEST_RESULT, "results of tests"),
            (OPENVEX, "what holes mean (OpenVEX)"),
            (REBUILD, "security rebuild"),
        ];
        known.iter().find(|(kind, _)| *kind == self.kind).map_or(self.kind.as_str(), |(_, word)| word)
    }

    fn sentence(&self) -> String {
        match &self.standing {
            Standing::Good(Signer { name, key, vouched: None, .. }) => format!("signed by {name} ({key})"),
            Standing::Good(Signer { name, key, vouched: Some((root, _)), .. }) => {
                format!("signed by {name} ({key}), for which {root} vouches")
            }
            Standing::Bad(finding) => format!("{}: {}", finding.code(), words::sentence(finding, Language::English)),
            Standing::NoKey => "not checked: nobody is trusted here (`parvis trust add`)".to_owned(),
            Standing::NoForm => "not checked: not in a form that parvis reads".to_owned(),
        }
    }

    /// Returns it for people, in two lines.
    #[must_use]
    pub fn lines(&self) -> [String; 2] {
        let form = if self.is_older { ", in cosign's older form" } else { "" };
        let of = if self.subject.1 { " of the index" } else { "" };
        [format!("  {}  {}{of}{form}", &self.line.digest.hex()[..12], self.word()), format!("{:16}{}", "", self.sentence())]
    }

    /// Returns it as a document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (checked, code, signer) = match &self.standing {
            Standing::Good(signer) => ("good", None, Some(signer)),
            Standing::Bad(finding) if finding.outcome() == Outcome::Undecided => ("undecided", Some(finding.code()), None),
            Standing::Bad(finding) => ("refused", Some(finding.code()), None),
            Standing::NoKey => ("no-key", None, None),
            Standing::NoForm => ("no-form", None, None),
        };
        let signer = signer.map(|signer| {
            let root = signer.vouched.as_ref().map(|(root, _)| root);
            json!({"name": signer.name, "fingerprint": signer.key, "root": root})
        });
        json!({
            "digest": self.line.digest.to_string(),
            "size": self.line.size,
            "type": self.line.artifact_type.as_deref().map(shown),
            "subject": self.subject.0.to_string(),
            "of": if self.subject.1 { "index" } else { "image" },
            "form": if self.is_older { "tag" } else if self.line.artifact_type.as_deref() == Some(BUNDLE) { "bundle" } else { "other" },
            "kind": self.kind,
            "checked": checked,
            "code": code,
            "signer": signer,
            "sentence": self.sentence(),
        })
    }
}
