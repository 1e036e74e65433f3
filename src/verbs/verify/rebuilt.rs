//! Verifying a security rebuild: its folder, and the way from it back to the release that it mends.

use std::path::Path;

use serde_json::{Value, json};

use super::words::Before;
use super::{Check, Inquiry, Question, Stop, parse_bundle, refusal, small};
use crate::edge::keys::Keys;
use crate::edge::layout::LayoutFolder;
use crate::failure::Failure;
use crate::image::archive::Files as _;
use crate::image::canonical;
use crate::model::digest::FileDigest;
use crate::model::moment::Moment;
use crate::model::name::KeyName;
use crate::model::rebuild::{RECORD, SIGNATURE};
use crate::trust::bundle::Bundle;
use crate::trust::chain::{Chain, Rebuild};
use crate::trust::release;
use crate::trust::statement::Statement;
use crate::trust::verdict::{Anchor, Finding, GoodRelease, Signer};
use crate::verbs::Context;
use crate::verbs::key::from_keys;

/// The key with which a user signs rebuilds.
pub const PARISH: &str = "parish";

/// Rebuilds that are followed back from one.
const MOST_REBUILDS: usize = 1000;

/// Returns the user's own key for rebuilds, where there is one.
pub(super) fn own(context: &Context<'_>) -> Result<Option<Anchor>, Failure> {
    let keys = Keys::new(&context.config);
    let name: KeyName = PARISH.parse().map_err(|error| Failure::bug("the parish's key has no name").because(error))?;
    if !keys.has(&name) {
        return Ok(None);
    }
    let key = keys.public(&name).map_err(from_keys)?;
    Ok(Some(Anchor { name: PARISH.to_owned(), key, keyring: None }))
}

/// A rebuild as its folder has it: what it says, and its signature where there is one.
pub struct Kept<'a> {
    pub record: &'a [u8],
    pub signature: Option<&'a [u8]>,
    /// The path of the signature, for people.
    pub name: &'a str,
}

/// Verifies the rebuilds that lead back to a release, the newest first, for a verb that is going to use them. Unsigned ones are good where
/// somebody said so.
pub fn chain(kept: &[Kept<'_>], release: Option<&GoodRelease>, unsigned: bool, context: &Context<'_>) -> Result<Chain, Failure> {
    let arguments = super::Arguments::of_another_verb(None, false);
    let mut inquiry = Inquiry::new(&arguments, context)?;
    let judged = (|| {
        inquiry.trust = inquiry.trusted()?;
        let mut rebuilds = Vec::new();
        for Kept { record, signature, name } in kept {
            let changed = |found: String| Finding::Changed { name: (*name).to_owned(), expected: String::new(), found };
            let said = canonical::read_within(record, canonical::LIMIT).map_err(|error| changed(error.to_string()))?;
            let said = Rebuild::of(said).map_err(|error| changed(error.to_string()))?;
            let Some(signature) = signature else {
                if unsigned {
                    rebuilds.push((said, None));
                    continue;
                }
                return Err(Stop::from(Finding::NoSignature { place: (*name).to_owned(), others: Vec::new() }));
            };
            let bundle = parse_bundle(signature, name)?;
            let (stated, signer) = inquiry.question(|question| question.rebuild(&bundle, name))?;
            if stated.statement != said.statement {
                let (expected, found) = (stated.statement.to_string(), said.statement.to_string());
                let name = name.replace(SIGNATURE, RECORD);
                return Err(Finding::Changed { name, expected, found }.into());
            }
            rebuilds.push((said, Some(signer)));
        }
        Ok(Chain::new(rebuilds, release.cloned())?)
    })();
    judged.map_err(|stop| match stop {
        Stop::Failure(failure) => failure,
        Stop::Finding(finding) => refusal(&finding, context.language),
    })
}

impl Inquiry<'_> {
    /// The folder of a rebuild: its statement, the way back from it, and its files.
    pub(super) fn rebuild_folder(&mut self, path: &Path, folder: &LayoutFolder) -> Result<(), Stop> {
        self.seals(folder, "")?;
        let none = || Finding::NoSignature { place: path.display().to_string(), others: Vec::new() };
        let bytes = small(folder, SIGNATURE)?.ok_or_else(none)?;
        let bundle = parse_bundle(&bytes, SIGNATURE)?;
        let mut others: Vec<Bundle> = Vec::new();
        let mut last = Rebuild::parse(&bundle).ok();
        for _ in 0..MOST_REBUILDS {
            let Some(previous) = last.take().and_then(|last| last.record.previous) else { break };
            let name = previous.name.statement_file();
            let Some(bytes) = small(folder, &name)? else { break };
            let before = parse_bundle(&bytes, &name)?;
            last = Rebuild::parse(&before).ok();
            others.push(before);
        }
        if let Some(bytes) = small(folder, release::FILE)? {
            others.push(parse_bundle(&bytes, release::FILE)?);
        }
        let others: Vec<&Bundle> = others.iter().collect();
        let chain = self.question(|question: &Question<'_>| question.chain(&bundle, &others))?;
        let changed = |found: String| Finding::Changed { name: RECORD.to_owned(), expected: String::new(), found };
        let stated = Statement::parse(&bundle.payload).map_err(|error| changed(error.to_string()))?;
        let record = canonical::to_bytes(&stated.predicate).map_err(|error| changed(error.to_string()))?;
        let mut expected = vec![(RECORD, FileDigest::of(&record), record.len() as u64)];
        let listed = chain.rebuilds.first().map_or(&[][..], |(rebuild, _)| &rebuild.record.files);
        expected.extend(listed.iter().map(|file| (file.name.as_str(), file.sha256, file.size)));
        self.files(&expected, &|name| folder.open(name))?;
        self.is_rebuild(chain.clone())?;
        Ok(())
    }

    /// Takes in that everything is of one rebuild.
    pub(super) fn is_rebuild(&mut self, chain: Chain) -> Result<(), Finding> {
        let statement = |chain: &Chain| chain.rebuilds.first().map(|(rebuild, _)| rebuild.statement);
        let called = |chain: &Chain| chain.name().map(|name| name.to_string()).unwrap_or_default();
        if let Some(other) = self.chain.as_ref().filter(|other| statement(other) != statement(&chain)) {
            return Err(Finding::Other { expected: called(other), found: called(&chain) });
        }
        if let (Some(other), Some(good)) = (&self.release, &chain.release)
            && other.statement != good.statement
        {
            let called = |good: &GoodRelease| format!("{} {}", good.release.product, good.release.version);
            return Err(Finding::Other { expected: called(other), found: called(good) });
        }
        if let Some(signer) = chain.signer() {
            self.checked(Check::Signature(signer.clone()));
        }
        for (name, by, before) in steps(&chain) {
            self.checked(Check::Rebuild { name, by: by.clone(), before });
        }
        if let Some(good) = &chain.release {
            let days = Moment(self.context.now).days_since(good.release.issued);
            self.checked(Check::Validity { until: good.release.valid_until.day(), days });
            self.release = Some(good.clone());
        }
        self.chain = Some(chain);
        Ok(())
    }

    /// Returns the newest rebuild, who signed it, and the release that the whole chain began with.
    pub(super) fn last_rebuild(&self) -> Option<(String, &Signer, Before)> {
        let chain = self.chain.as_ref()?;
        Some((chain.name()?.to_string(), chain.signer()?, first(chain)))
    }
}

/// Returns what a chain began with.
fn first(chain: &Chain) -> Before {
    chain
        .release
        .as_ref()
        .map_or(Before::Nothing, |good| Before::Release { version: good.release.version.to_string(), by: good.signer.clone() })
}

/// Returns each rebuild, the newest first, with who signed it and what it began with.
fn steps(chain: &Chain) -> Vec<(String, &Signer, Before)> {
    let before = |at: usize| match chain.rebuilds.get(at + 1) {
        Some((before, _)) => Before::Rebuild(before.record.name.to_string()),
        None => first(chain),
    };
    // Of an image or a folder, each was judged by its signature.
    chain
        .rebuilds
        .iter()
        .enumerate()
        .filter_map(|(at, (rebuild, signer))| Some((rebuild.record.name.to_string(), signer.as_ref()?, before(at))))
        .collect()
}

/// Returns a chain for programs.
pub(super) fn to_json(chain: &Chain) -> Value {
    let rebuild = |(rebuild, signer): &(Rebuild, Option<Signer>)| {
        json!({
            "name": rebuild.record.name.to_string(),
            "statement": rebuild.statement,
            "fingerprint": signer.as_ref().map(|signer| signer.key),
        })
    };
    Value::Array(chain.rebuilds.iter().map(rebuild).collect())
}
