//! Chooses the packages of an image: what apt would install, found by own means.
//!
//! Requirements are met in the order in which apt meets them: asked packages first, then depth first, Pre-Depends, Depends
//! and, where wanted, Recommends; of alternatives the first that can be had; of providers the one apt prefers. Where that
//! runs into a conflict, the search goes back to the latest choice that has a part in it and takes the next alternative.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use super::index::{Candidate, Field, MultiArch, Universe};
use super::relation::{InvalidRelation, Relation};
use crate::model::name::PackageName;

/// One version of each package: the highest that the archive has, except for those that are pinned.
#[derive(Debug)]
pub struct Selection<'a> {
    universe: &'a Universe,
    pinned: BTreeMap<&'a str, &'a Candidate>,
}

impl<'a> Selection<'a> {
    /// Takes the highest version of each package.
    #[must_use]
    pub const fn highest(universe: &'a Universe) -> Self {
        Self { universe, pinned: BTreeMap::new() }
    }

    /// Takes these versions, and the highest of each other package.
    pub fn pinned(universe: &'a Universe, pinned: impl IntoIterator<Item = &'a Candidate>) -> Self {
        Self { universe, pinned: pinned.into_iter().map(|candidate| (candidate.name.as_str(), candidate)).collect() }
    }

    /// Returns the version of a package that may be chosen.
    #[must_use]
    pub fn candidate(&self, name: &str) -> Option<&'a Candidate> {
        self.pinned.get(name).copied().or_else(|| self.universe.highest(name))
    }

    /// Returns where the versions come from.
    #[must_use]
    pub const fn universe(&self) -> &'a Universe {
        self.universe
    }
}

/// What an image asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The packages of the parent image.
    pub installed: BTreeSet<PackageName>,
    /// The packages that the recipe names. Their order has no influence.
    pub asked: BTreeSet<PackageName>,
    /// Whether all packages with `Essential: yes` are asked for too, as in an image from nothing.
    pub essential: bool,
    /// Whether Recommends are followed.
    pub recommends: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no package `{name}`{}", or_similar(similar))]
    Unknown { name: PackageName, similar: Vec<PackageName> },
    #[error("`{name}` is a virtual package; it is provided by {}", list(providers))]
    Virtual { name: PackageName, providers: Vec<PackageName> },
    #[error("{0}")]
    Conflict(Box<Conflict>),
    #[error("the package `{package}` has a {field} field that cannot be read")]
    Relation {
        package: PackageName,
        field: &'static str,
        #[source]
        source: InvalidRelation,
    },
    #[error("no answer was found in {STEPS} steps")]
    TooHard,
}

impl ResolveError {
    /// Returns what a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { similar, .. } if !similar.is_empty() => Some(format!("did you mean `{}`?", similar[0])),
            Self::Unknown { .. } => Some("look whether a suite or a component is missing in `parvis.yaml`".into()),
            Self::Virtual { providers, .. } => Some(format!("name one of them in the recipe, such as `{}`", providers.first()?)),
            Self::Conflict(_) => {
                Some("leave out one of the packages named here, or ask for another alternative by its name".into())
            }
            Self::Relation { .. } | Self::TooHard => None,
        }
    }
}

/// A requirement that cannot be met, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// From a package that the recipe asks for down to the one whose requirement cannot be met.
    pub chain: Vec<PackageName>,
    /// The requirement; empty where an asked package itself cannot be had.
    pub requirement: String,
    /// Why each alternative cannot be had.
    pub reasons: Vec<String>,
    /// The packages that have a part in it.
    pub involved: BTreeSet<PackageName>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = self.chain.iter().rev();
        if let Some(last) = chain.next() {
            write!(formatter, "`{last}`")?;
            let rest: Vec<String> = chain.map(|name| format!("`{name}`")).collect();
            if rest.is_empty() {
                formatter.write_str(" (asked for)")?;
            } else {
                write!(formatter, " (needed by {})", rest.join(", needed by "))?;
            }
        }
        if !self.requirement.is_empty() {
            write!(formatter, " needs `{}`", self.requirement)?;
        }
        write!(formatter, ", but {}", self.reasons.join(", and "))
    }
}

fn or_similar(similar: &[PackageName]) -> String {
    if similar.is_empty() { String::new() } else { format!("; there is {}", list(similar)) }
}

fn list(names: &[PackageName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// How many choices are tried before the search is given up.
const STEPS: usize = 200_000;

/// Returns the packages to add to the installed ones, sorted by name.
pub fn resolve<'a>(selection: &Selection<'a>, request: &Request) -> Result<Vec<&'a Candidate>, ResolveError> {
    Search::new(selection, request.recommends).run(request)
}

/// Returns, for packages that are installed together, those that meet the Pre-Depends and Depends of one of them.
///
/// Of alternatives the first that is there counts, as it did when they were chosen.
pub fn met_by(
    selection: &Selection<'_>,
    package: &Candidate,
    together: &BTreeSet<PackageName>,
) -> Result<BTreeSet<PackageName>, ResolveError> {
    let mut met = BTreeSet::new();
    for field in [Field::PreDepends, Field::Depends] {
        for part in package.relations(field).map_err(|source| unreadable(package, field, source))? {
            let mut found = None;
            for relation in &part {
                let mut options = options(selection, relation, package)?;
                options.retain(|option| together.contains(&option.name));
                found = options.first().copied();
                if found.is_some() {
                    break;
                }
            }
            met.extend(found.filter(|found| found.name != package.name).map(|found| found.name.clone()));
        }
    }
    Ok(met)
}

fn unreadable(package: &Candidate, field: Field, source: InvalidRelation) -> ResolveError {
    ResolveError::Relation { package: package.name.clone(), field: field.name(), source }
}

/// Returns the candidates that satisfy a relation, in apt's order of preference.
fn options<'a>(
    selection: &Selection<'a>,
    relation: &Relation<'_>,
    owner: &Candidate,
) -> Result<Vec<&'a Candidate>, ResolveError> {
    let own = selection.candidate(relation.name);
    let providers = selection.universe.providers(relation.name).iter().filter_map(|name| selection.candidate(name.as_str()));
    let mut found = Vec::new();
    for candidate in own.into_iter().chain(providers) {
        let provided = candidate.relations(Field::Provides).map_err(|source| unreadable(candidate, Field::Provides, source))?;
        if provides(candidate, &provided.concat(), relation, owner) {
            found.push(candidate);
        }
    }
    // The rule is that of apt's CompareProviders, for packages none of which is installed.
    found.sort_by_key(|candidate| {
        let named = candidate.name.as_str() == relation.name;
        (!named, !candidate.essential, !candidate.protected, candidate.priority, Reverse(candidate.mention))
    });
    found.dedup_by(|left, right| left.name == right.name);
    Ok(found)
}

/// Returns whether a package is, or provides, what a relation names.
fn provides(candidate: &Candidate, provided: &[Relation<'_>], relation: &Relation<'_>, owner: &Candidate) -> bool {
    let reached = match relation.qualifier {
        None | Some("native") => true,
        Some("any") => candidate.multi_arch == MultiArch::Allowed,
        Some(architecture) => [&candidate.architecture, &owner.architecture].iter().any(|known| known.as_str() == architecture),
    };
    let by_name = candidate.name.as_str() == relation.name && relation.accepts(&candidate.version);
    let by_provision =
        provided.iter().filter(|provided| provided.name == relation.name).any(|provided| match &provided.version {
            Some((_, version)) => relation.accepts(version),
            // Debian Policy, section 7.5: what is provided without a version satisfies no relation with one.
            None => relation.version.is_none(),
        });
    reached && (by_name || by_provision)
}

/// The relations of a package, read once.
#[derive(Debug)]
struct Facts<'a> {
    candidate: &'a Candidate,
    /// Pre-Depends, Depends, Recommends; `true` for those that must be met.
    requirements: Vec<(bool, Vec<Relation<'a>>)>,
    /// Conflicts and Breaks.
    rejected: Vec<Relation<'a>>,
    provided: Vec<Relation<'a>>,
}

impl<'a> Facts<'a> {
    fn read(candidate: &'a Candidate, recommends: bool) -> Result<Self, ResolveError> {
        let field = |field| candidate.relations(field).map_err(|source| unreadable(candidate, field, source));
        let mut requirements = Vec::new();
        for (hard, name) in [(true, Field::PreDepends), (true, Field::Depends), (false, Field::Recommends)] {
            if hard || recommends {
                requirements.extend(field(name)?.into_iter().map(|part| (hard, part)));
            }
        }
        let mut rejected = field(Field::Conflicts)?;
        rejected.extend(field(Field::Breaks)?);
        Ok(Self {
            candidate,
            requirements,
            rejected: rejected.into_iter().flatten().collect(),
            provided: field(Field::Provides)?.into_iter().flatten().collect(),
        })
    }

    /// Returns the names that the package bears or provides.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.candidate.name.as_str()).chain(self.provided.iter().map(|relation| relation.name))
    }

    /// Returns whether the package is, or provides, what a relation of another names.
    fn provides(&self, relation: &Relation<'_>, owner: &Candidate) -> bool {
        provides(self.candidate, &self.provided, relation, owner)
    }

    /// Returns whether a relation by which this package rejects others means another.
    fn rejects(&self, other: &Self, relation: &Relation<'_>) -> bool {
        self.candidate.name != other.candidate.name && other.provides(relation, self.candidate)
    }
}

/// A point at which a package was chosen to meet a requirement.
#[derive(Debug)]
struct Decision<'a> {
    owner: &'a str,
    requirement: String,
    hard: bool,
    options: Vec<&'a Candidate>,
    /// The number of the option that is taken, or looked at next.
    taken: usize,
    /// The packages because of which earlier options could not be taken.
    blame: BTreeSet<&'a str>,
    /// Why each option so far could not be taken.
    reasons: Vec<String>,
    /// What stood in the way of the first option whose own requirements failed.
    deeper: Option<Conflict>,
    /// Where the search stood.
    position: Position<'a>,
}

/// Where the search stands: the packages whose requirements are being met, each with the number of its next requirement,
/// and the number of the next package asked for.
#[derive(Debug, Clone, Default)]
struct Position<'a> {
    frames: Vec<(&'a str, usize)>,
    root: usize,
}

/// The package that requires something, whether it must have it, and the alternatives.
type Requirement<'a> = (&'a str, bool, Vec<Relation<'a>>);

/// A requirement that failed, with the packages because of which it did.
struct DeadEnd<'a> {
    blame: BTreeSet<&'a str>,
    conflict: Conflict,
}

struct Search<'s, 'a> {
    selection: &'s Selection<'a>,
    recommends: bool,
    facts: BTreeMap<&'a str, Rc<Facts<'a>>>,
    /// The packages that are installed, asked for or chosen, with the package that needs them.
    present: BTreeMap<&'a str, Option<&'a str>>,
    /// The packages that are present, by each name that they bear or provide.
    by_name: BTreeMap<&'a str, Vec<&'a str>>,
    /// The packages that are present, by each name that they reject.
    by_rejected: BTreeMap<&'a str, Vec<&'a str>>,
    roots: Vec<&'a str>,
    decisions: Vec<Decision<'a>>,
    position: Position<'a>,
}

impl<'s, 'a> Search<'s, 'a> {
    fn new(selection: &'s Selection<'a>, recommends: bool) -> Self {
        Self {
            selection,
            recommends,
            facts: BTreeMap::new(),
            present: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_rejected: BTreeMap::new(),
            roots: Vec::new(),
            decisions: Vec::new(),
            position: Position::default(),
        }
    }

    fn run(mut self, request: &Request) -> Result<Vec<&'a Candidate>, ResolveError> {
        for name in &request.installed {
            let candidate = self.asked(name)?;
            self.add(candidate, None)?;
        }
        if request.essential {
            let names = self.selection.universe.all_highest().filter_map(|one| self.selection.candidate(one.name.as_str()));
            for candidate in names.filter(|candidate| candidate.essential).collect::<Vec<_>>() {
                self.add_root(candidate)?;
            }
        }
        for name in &request.asked {
            let candidate = self.asked(name)?;
            self.add_root(candidate)?;
        }
        let mut steps = 0;
        while let Some((owner, hard, part)) = self.next_requirement() {
            let mut decision = self.decision(owner, hard, &part)?;
            while let Some(dead_end) = self.take(decision)? {
                decision = self.go_back(dead_end)?;
                steps += 1;
                if steps > STEPS {
                    return Err(ResolveError::TooHard);
                }
            }
        }
        let added = self.present.keys().filter(|name| !request.installed.contains(**name));
        Ok(added.filter_map(|name| self.selection.candidate(name)).collect())
    }

    /// Returns the package that a name asks for: the one of that name, or the only one that provides it.
    fn asked(&self, name: &PackageName) -> Result<&'a Candidate, ResolveError> {
        if let Some(candidate) = self.selection.candidate(name.as_str()) {
            return Ok(candidate);
        }
        match self.selection.universe.providers(name.as_str()) {
            [] => {
                let similar = self.selection.universe.similar(name.as_str()).into_iter().cloned().collect();
                Err(ResolveError::Unknown { name: name.clone(), similar })
            }
            [only] => self.asked(only),
            providers => Err(ResolveError::Virtual { name: name.clone(), providers: providers.to_vec() }),
        }
    }

    fn add_root(&mut self, candidate: &'a Candidate) -> Result<(), ResolveError> {
        let name = candidate.name.as_str();
        if self.present.contains_key(name) {
            return Ok(());
        }
        if let Some((other, reason)) = self.obstacle(candidate)? {
            let involved = [other, name].into_iter().filter_map(|name| name.parse().ok()).collect();
            let conflict =
                Conflict { chain: vec![candidate.name.clone()], requirement: String::new(), reasons: vec![reason], involved };
            return Err(ResolveError::Conflict(Box::new(conflict)));
        }
        self.roots.push(name);
        self.add(candidate, None)
    }

    fn facts(&mut self, candidate: &'a Candidate) -> Result<Rc<Facts<'a>>, ResolveError> {
        let name = candidate.name.as_str();
        if let Some(facts) = self.facts.get(name) {
            return Ok(Rc::clone(facts));
        }
        let facts = Rc::new(Facts::read(candidate, self.recommends)?);
        self.facts.insert(name, Rc::clone(&facts));
        Ok(facts)
    }

    fn add(&mut self, candidate: &'a Candidate, owner: Option<&'a str>) -> Result<(), ResolveError> {
        let name = candidate.name.as_str();
        let facts = self.facts(candidate)?;
        self.present.insert(name, owner);
        for other in facts.names() {
            self.by_name.entry(other).or_default().push(name);
        }
        for relation in &facts.rejected {
            self.by_rejected.entry(relation.name).or_default().push(name);
        }
        Ok(())
    }

    fn remove(&mut self, candidate: &'a Candidate) {
        let name = candidate.name.as_str();
        self.present.remove(name);
        if let Some(facts) = self.facts.get(name) {
            for other in facts.names() {
                self.by_name.entry(other).or_default().retain(|present| *present != name);
            }
            for relation in &facts.rejected {
                self.by_rejected.entry(relation.name).or_default().retain(|present| *present != name);
            }
        }
    }

    /// Returns a package that is present and cannot be together with another, and the reason in words.
    fn obstacle(&mut self, candidate: &'a Candidate) -> Result<Option<(&'a str, String)>, ResolveError> {
        let facts = self.facts(candidate)?;
        for relation in &facts.rejected {
            for other in self.by_name.get(relation.name).into_iter().flatten() {
                if self.facts.get(other).is_some_and(|other| facts.rejects(other, relation)) {
                    return Ok(Some((other, format!("`{}` cannot be together with `{other}`", candidate.name))));
                }
            }
        }
        for name in facts.names() {
            for other in self.by_rejected.get(name).into_iter().flatten() {
                let rejects = |other: &Rc<Facts<'a>>| other.rejected.iter().any(|relation| other.rejects(&facts, relation));
                if self.facts.get(other).is_some_and(rejects) {
                    return Ok(Some((other, format!("`{other}` cannot be together with `{}`", candidate.name))));
                }
            }
        }
        Ok(None)
    }

    /// Goes on to the next requirement that is not met.
    fn next_requirement(&mut self) -> Option<Requirement<'a>> {
        loop {
            let Some((package, next)) = self.position.frames.last_mut() else {
                let root = self.roots.get(self.position.root)?;
                self.position.root += 1;
                self.position.frames.push((root, 0));
                continue;
            };
            let facts = self.facts.get(package);
            let Some((facts, (hard, part))) = facts.and_then(|facts| Some((facts, facts.requirements.get(*next)?))) else {
                self.position.frames.pop();
                continue;
            };
            *next += 1;
            let candidate = facts.candidate;
            let met = part.iter().any(|relation| {
                let present = self.by_name.get(relation.name).into_iter().flatten();
                present.filter_map(|name| self.facts.get(name)).any(|other| other.provides(relation, candidate))
            });
            if !met {
                return Some((candidate.name.as_str(), *hard, part.clone()));
            }
        }
    }

    /// Lists what can meet a requirement.
    fn decision(&self, owner: &'a str, hard: bool, part: &[Relation<'a>]) -> Result<Decision<'a>, ResolveError> {
        let mut all: Vec<&'a Candidate> = Vec::new();
        let mut reasons = Vec::new();
        for relation in part {
            let found = match self.selection.candidate(owner) {
                Some(owner) => options(self.selection, relation, owner)?,
                None => Vec::new(),
            };
            if found.is_empty() {
                reasons.push(self.absence(relation));
            }
            all.extend(found.into_iter().filter(|option| !self.present.contains_key(option.name.as_str())));
        }
        Ok(Decision {
            owner,
            requirement: part.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
            hard,
            options: all,
            taken: 0,
            blame: BTreeSet::new(),
            reasons,
            deeper: None,
            position: self.position.clone(),
        })
    }

    /// Says why no package satisfies a relation.
    fn absence(&self, relation: &Relation<'_>) -> String {
        let name = relation.name;
        match self.selection.candidate(name) {
            Some(candidate) if relation.accepts(&candidate.version) => format!("`{name}` is not `Multi-Arch: allowed`"),
            Some(candidate) => format!("the archive has `{name}` {}", candidate.version),
            None if self.selection.universe.providers(name).is_empty() => format!("the archive has no `{name}`"),
            None => format!("no package provides `{relation}`"),
        }
    }

    /// Takes the next option of a decision that nothing present stands against.
    fn take(&mut self, mut decision: Decision<'a>) -> Result<Option<DeadEnd<'a>>, ResolveError> {
        while let Some(candidate) = decision.options.get(decision.taken) {
            if let Some((other, reason)) = self.obstacle(candidate)? {
                decision.blame.insert(other);
                decision.reasons.push(reason);
                decision.taken += 1;
                continue;
            }
            self.add(candidate, Some(decision.owner))?;
            self.position.frames.push((candidate.name.as_str(), 0));
            self.decisions.push(decision);
            return Ok(None);
        }
        if !decision.hard {
            return Ok(None);
        }
        decision.blame.insert(decision.owner);
        let conflict = decision
            .deeper
            .unwrap_or_else(|| self.conflict(decision.owner, decision.requirement, decision.reasons, &decision.blame));
        Ok(Some(DeadEnd { blame: decision.blame, conflict }))
    }

    fn conflict(&self, owner: &str, requirement: String, reasons: Vec<String>, blame: &BTreeSet<&str>) -> Conflict {
        let mut chain: Vec<PackageName> = Vec::new();
        let mut next = Some(owner);
        while let Some(name) = next {
            chain.extend(name.parse());
            next = self.present.get(name).copied().flatten();
        }
        chain.reverse();
        let involved = blame.iter().filter_map(|name| name.parse().ok()).collect();
        Conflict { chain, requirement, reasons, involved }
    }

    /// Undoes decisions up to the latest that has a part in a dead end, and returns that with its next option.
    fn go_back(&mut self, dead_end: DeadEnd<'a>) -> Result<Decision<'a>, ResolveError> {
        while let Some(mut decision) = self.decisions.pop() {
            let Some(candidate) = decision.options.get(decision.taken).copied() else { continue };
            self.remove(candidate);
            let name = candidate.name.as_str();
            if dead_end.blame.contains(name) {
                decision.blame.extend(dead_end.blame.into_iter().filter(|other| *other != name));
                decision.deeper.get_or_insert(dead_end.conflict);
                decision.taken += 1;
                self.position = decision.position.clone();
                return Ok(decision);
            }
        }
        Err(ResolveError::Conflict(Box::new(dead_end.conflict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::index::{Origin, Reader};

    /// Makes a universe of packages written as `name version; Field: value; …`.
    fn universe(packages: &[&str]) -> Universe {
        let mut text = String::new();
        for package in packages {
            let mut parts = package.split("; ");
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
            let head =
                ["Package: ", name, "\nVersion: ", version, "\nArchitecture: amd64\nFilename: p\nSize: 1\nSHA256: ", digest]
                    .concat();
            text += &[&[head.as_str()], parts.collect::<Vec<_>>().as_slice(), &["\n"]].concat().join("\n");
        }
        let mut reader = Reader::new(&"amd64".parse().unwrap());
        let origin = Origin { suite: "main".parse().unwrap(), archive: "debian".into(), security: false };
        reader.read(&origin, text.as_bytes()).unwrap();
        reader.finish().unwrap()
    }

    fn names(text: &str) -> BTreeSet<PackageName> {
        text.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    fn answer(packages: &[&str], request: &Request) -> String {
        let universe = universe(packages);
        match resolve(&Selection::highest(&universe), request) {
            Ok(chosen) => chosen.iter().map(|candidate| candidate.name.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    fn ask(packages: &[&str], asked: &str) -> String {
        answer(packages, &Request { asked: names(asked), ..Request::default() })
    }

    #[test]
    fn what_is_needed_comes_along() {
        assert_eq!(ask(&["aa 1; Depends: bb; Pre-Depends: cc", "bb 1; Depends: cc, aa", "cc 1", "dd 1"], "aa"), "aa bb cc");
    }

    #[test]
    fn what_the_parent_has_is_not_added_again() {
        let request = Request { installed: names("bb"), asked: names("aa"), ..Request::default() };
        assert_eq!(answer(&["aa 1; Depends: bb, cc", "bb 1; Depends: missing", "cc 1"], &request), "aa cc");
    }

    #[test]
    fn recommended_packages_come_only_where_asked_for_and_never_fail() {
        let packages =
            ["aa 1; Depends: bb; Recommends: cc, missing, dd", "bb 1", "cc 1; Depends: ee", "dd 1; Depends: missing", "ee 1"];
        assert_eq!(ask(&packages, "aa"), "aa bb");
        let request = Request { asked: names("aa"), recommends: true, ..Request::default() };
        assert_eq!(answer(&packages, &request), "aa bb cc ee");
    }

    #[test]
    fn the_first_alternative_that_can_be_had_is_taken() {
        assert_eq!(ask(&["aa 1; Depends: bb | cc", "bb 1", "cc 1"], "aa"), "aa bb");
        assert_eq!(ask(&["aa 1; Depends: bb (>= 2) | cc", "bb 1", "cc 1"], "aa"), "aa cc");
        assert_eq!(ask(&["aa 1; Depends: bb | cc", "bb 1; Depends: missing", "cc 1"], "aa"), "aa cc");
        assert_eq!(ask(&["aa 1; Depends: bb | cc", "bb 1", "cc 1"], "aa cc"), "aa cc");
    }

    #[test]
    fn of_providers_the_named_then_the_most_needed_then_the_last_mentioned_is_taken() {
        let packages = [
            "aa 1; Depends: virtual",
            "bb 1; Provides: virtual; Priority: optional",
            "cc 1; Provides: virtual; Priority: standard",
        ];
        assert_eq!(ask(&packages, "aa"), "aa cc");
        assert_eq!(ask(&["aa 1; Depends: virtual", "bb 1; Provides: virtual", "cc 1; Provides: virtual"], "aa"), "aa cc");
        assert_eq!(
            ask(&["aa 1; Depends: virtual; Suggests: cc", "bb 1; Provides: virtual", "cc 1; Provides: virtual"], "aa"),
            "aa bb"
        );
        assert_eq!(ask(&["aa 1; Depends: bb", "bb 1", "cc 1; Provides: bb; Priority: required"], "aa"), "aa bb");
    }

    #[test]
    fn a_versioned_relation_needs_a_versioned_provider() {
        assert_eq!(
            ask(&["aa 1; Depends: virtual (>= 2)", "bb 1; Provides: virtual (= 2)", "cc 9; Provides: virtual"], "aa"),
            "aa bb"
        );
        let refused = ask(&["aa 1; Depends: virtual (>= 2)", "cc 9; Provides: virtual"], "aa");
        assert_eq!(refused, "`aa` (asked for) needs `virtual (>= 2)`, but no package provides `virtual (>= 2)`");
    }

    #[test]
    fn any_architecture_will_do_only_where_the_package_allows_it() {
        assert_eq!(ask(&["aa 1; Depends: bb:any", "bb 1; Multi-Arch: allowed"], "aa"), "aa bb");
        let refused = ask(&["aa 1; Depends: bb:any", "bb 1; Multi-Arch: foreign"], "aa");
        assert_eq!(refused, "`aa` (asked for) needs `bb:any`, but `bb` is not `Multi-Arch: allowed`");
    }

    #[test]
    fn essential_packages_come_into_an_image_from_nothing() {
        let packages = ["aa 1", "bb 1; Essential: yes; Pre-Depends: cc", "cc 1", "dd 1; Important: yes"];
        let request = Request { asked: names("aa"), essential: true, ..Request::default() };
        assert_eq!(answer(&packages, &request), "aa bb cc");
    }

    #[test]
    fn an_alternative_that_conflicts_gives_way_to_the_next() {
        for field in ["Conflicts", "Breaks"] {
            let theirs = format!("cc 1; {field}: bb");
            assert_eq!(ask(&["aa 1; Depends: bb | dd", "bb 1", &theirs, "dd 1"], "aa cc"), "aa cc dd");
            let ours = format!("bb 1; {field}: virtual");
            assert_eq!(ask(&["aa 1; Depends: bb | dd", &ours, "cc 1; Provides: virtual", "dd 1"], "aa cc"), "aa cc dd");
        }
        assert_eq!(ask(&["aa 1; Depends: bb | dd", "bb 2", "cc 1; Breaks: bb (<< 2)", "dd 1"], "aa cc"), "aa bb cc");
    }

    #[test]
    fn a_choice_is_taken_back_when_a_later_need_conflicts_with_it() {
        let packages = [
            "aa 1; Depends: bb | cc",
            "bb 1; Depends: ee",
            "cc 1",
            "dd 1; Depends: ff | gg, xx",
            "ee 1",
            "ff 1",
            "gg 1",
            "xx 1; Conflicts: ee",
        ];
        assert_eq!(ask(&packages, "aa dd"), "aa cc dd ff xx");
    }

    #[test]
    fn a_package_may_conflict_with_what_it_provides_itself() {
        assert_eq!(ask(&["aa 1; Provides: mta; Conflicts: mta"], "aa"), "aa");
        let refused = ask(&["aa 1; Provides: mta; Conflicts: mta", "bb 1; Provides: mta"], "aa bb");
        assert_eq!(refused, "`bb` (asked for), but `aa` cannot be together with `bb`");
    }

    #[test]
    fn what_cannot_be_is_said_in_words() {
        let old = ask(&["aa 1; Depends: bb", "bb 1; Depends: cc (>= 2) | dd", "cc 1.0"], "aa");
        assert_eq!(
            old,
            "`bb` (needed by `aa`) needs `cc (>= 2) | dd`, but the archive has `cc` 1.0, and the archive has no `dd`"
        );
        let conflict = ask(&["aa 1; Depends: bb", "bb 1; Conflicts: cc", "cc 1"], "aa cc");
        assert_eq!(conflict, "`aa` (asked for) needs `bb`, but `bb` cannot be together with `cc`");
        assert_eq!(ask(&["apache2 1"], "apahce2"), "there is no package `apahce2`; there is `apache2`");
        assert_eq!(
            ask(&["aa 1; Provides: mta", "bb 1; Provides: mta"], "mta"),
            "`mta` is a virtual package; it is provided by `aa`, `bb`"
        );
        assert_eq!(ask(&["aa 1; Provides: mta"], "mta"), "aa");
        assert_eq!(ask(&["aa 1; Depends: b b"], "aa"), "the package `aa` has a Depends field that cannot be read");
    }

    #[test]
    fn the_packages_that_meet_a_need_are_told() {
        let universe = universe(&[
            "aa 1; Depends: bb | cc, virtual, aa-self; Pre-Depends: dd; Provides: aa-self",
            "bb 1",
            "cc 1",
            "dd 1; Provides: virtual",
        ]);
        let selection = Selection::highest(&universe);
        let met = met_by(&selection, universe.highest("aa").unwrap(), &names("aa cc dd")).unwrap();
        assert_eq!(met, names("cc dd"));
    }

    #[test]
    fn many_choices_that_have_no_part_in_a_conflict_are_not_tried() {
        let mut packages: Vec<String> = (10..60).map(|n| format!("c{n} 1; Depends: x{n} | y{n}")).collect();
        packages.extend((10..60).flat_map(|n| [format!("x{n} 1"), format!("y{n} 1")]));
        let all = (10..60).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ");
        packages.extend([
            "aa 1; Depends: bb | dd".into(),
            "bb 1".into(),
            "dd 1".into(),
            format!("ee 1; Depends: {all}, zz"),
            "zz 1; Conflicts: bb".into(),
        ]);
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        let names = ask(&packages, "aa ee");
        assert!(names.starts_with("aa c10 ") && names.contains(" dd ee x10 ") && names.ends_with(" x59 zz"), "{names}");
    }
}
