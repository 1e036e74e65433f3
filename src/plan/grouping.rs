//! Cuts an image's packages into layers, so that an update makes people download little again.
//!
//! A layer is downloaded again, whole, when one of its packages changes. With S the bytes of a layer and R the sum of its
//! sources' rates of change, a cut costs the sum of S × R over its layers; taken is the cheapest cut that keeps the sources in
//! the order of S / R. Binary packages of one source change together and stay together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::lock::{LockedImage, LockedPackage};
use crate::model::name::PackageName;

/// The rate of a source that no update is known of.
const STILL: u64 = 1;
/// What each known update adds to the rate.
const UPDATED: u64 = 10;
/// The updates a source is held to have had where a stable release takes its whole new upstream versions.
const NEW_UPSTREAM: u64 = 5;
/// What a further layer must save: 64 KiB at each of ten updates.
const LAYER_COST: u128 = (64 << 10) * 10 * UPDATED as u128;

/// Returns the packages of each layer: at most `budget` layers, each sorted by name.
///
/// What the previous lock has together stays together. A new source gets a layer of its own while the budget allows it and it
/// is worth it, else goes where it costs least. A layer that lost all its packages vanishes.
#[must_use]
pub fn assign(previous: Option<&LockedImage>, packages: &[&LockedPackage], budget: usize) -> Vec<Vec<PackageName>> {
    let budget = budget.max(1);
    let mut sources: BTreeMap<&PackageName, Group<'_>> = BTreeMap::new();
    for package in packages {
        sources.entry(&package.source).or_default().add(package);
    }
    let homes = homes(previous, &sources);
    let mut layers: BTreeMap<usize, Group<'_>> = BTreeMap::new();
    let mut new = Vec::new();
    for (source, group) in sources {
        match homes.get(source) {
            Some(home) => layers.entry(*home).or_default().join(group),
            None => new.push(group),
        }
    }
    let mut layers: Vec<Group<'_>> = layers.into_values().collect();
    if layers.is_empty() || layers.len() > budget {
        new.append(&mut layers);
        layers = cut(new, budget);
    } else {
        new.sort_by_key(|group| Reverse(group.cost()));
        for group in new {
            let added = |layer: &Group<'_>| layer.with(&group).cost() - layer.cost() - group.cost();
            let room = layers.len() < budget;
            match layers.iter_mut().min_by_key(|layer| added(layer)) {
                Some(layer) if !room || added(layer) < LAYER_COST => layer.join(group),
                _ => layers.push(group),
            }
        }
    }
    layers
        .into_iter()
        .map(|mut layer| {
            layer.packages.sort_unstable();
            layer.packages.into_iter().cloned().collect()
        })
        .collect()
}

/// Returns the number of the previous layer that holds most packages of each source, the first of equals.
fn homes<'a>(previous: Option<&LockedImage>, sources: &BTreeMap<&'a PackageName, Group<'a>>) -> BTreeMap<&'a PackageName, usize> {
    let layers = previous.map_or(&[][..], |image| &image.layers);
    let number: BTreeMap<&PackageName, usize> =
        layers.iter().enumerate().flat_map(|(number, names)| names.iter().map(move |name| (name, number))).collect();
    let home = |group: &Group<'_>| {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for number in group.packages.iter().filter_map(|package| number.get(package)) {
            *counts.entry(*number).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(number, count)| (*count, Reverse(*number))).map(|(number, _)| number)
    };
    sources.iter().filter_map(|(source, group)| Some((*source, home(group)?))).collect()
}

/// Packages that are downloaded together.
#[derive(Debug, Clone, Default)]
struct Group<'a> {
    packages: Vec<&'a PackageName>,
    /// Bytes of the .debs, which the bytes of the compressed layer follow.
    size: u64,
    rate: u64,
}

impl<'a> Group<'a> {
    /// Adds a package of the group's one source.
    fn add(&mut self, package: &'a LockedPackage) {
        self.packages.push(&package.name);
        self.size = self.size.saturating_add(package.size);
        self.rate = self.rate.max(STILL + UPDATED * updates(package));
    }

    fn join(&mut self, mut other: Self) {
        self.packages.append(&mut other.packages);
        self.size = self.size.saturating_add(other.size);
        self.rate = self.rate.saturating_add(other.rate);
    }

    fn with(&self, other: &Self) -> Self {
        Self { packages: Vec::new(), size: self.size.saturating_add(other.size), rate: self.rate.saturating_add(other.rate) }
    }

    fn cost(&self) -> u128 {
        u128::from(self.size) * u128::from(self.rate)
    }
}

/// Returns how many updates a package had since its release came out, as far as its version tells.
///
/// Fixes to a stable release are numbered `+deb13u1`, `+deb13u2`, …; whole new upstream versions carry `~deb13u1`.
fn updates(package: &LockedPackage) -> u64 {
    let version = package.source_version.as_ref().unwrap_or(&package.version);
    let count = |mark: &str| -> Option<u64> {
        let (_, rest) = version.rsplit_once(mark)?;
        let (release, number) = rest.split_once('u')?;
        let number = &number[..number.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(number.len())];
        release.parse::<u16>().ok().and(number.parse().ok())
    };
    count("+deb").or_else(|| count("~deb").map(|number| number.saturating_add(NEW_UPSTREAM))).unwrap_or(0).min(100)
}

/// Cuts sources into layers at the least cost.
fn cut(mut groups: Vec<Group<'_>>, budget: usize) -> Vec<Group<'_>> {
    // The large and still come first, the small and lively last; equal ones stay in the order of their names.
    groups.sort_by(|left, right| {
        (u128::from(right.size) * u128::from(left.rate)).cmp(&(u128::from(left.size) * u128::from(right.rate)))
    });
    let mut sums = vec![(0_u64, 0_u64)];
    for group in &groups {
        let (size, rate) = sums[sums.len() - 1];
        sums.push((size.saturating_add(group.size), rate.saturating_add(group.rate)));
    }
    let cost =
        |start: usize, end: usize| u128::from(sums[end].0 - sums[start].0) * u128::from(sums[end].1 - sums[start].1) + LAYER_COST;
    // For each number of layers: the least cost of the first groups, and where their last layer starts.
    let mut best: Vec<(u128, Vec<usize>)> = (0..=groups.len()).map(|end| (cost(0, end), vec![0])).collect();
    for _ in 1..budget {
        let more = |end: usize| {
            let split = (1..end).map(|start| (best[start].0 + cost(start, end), start)).min();
            match split.filter(|(cost, _)| *cost < best[end].0) {
                Some((cost, start)) => (cost, best[start].1.iter().copied().chain([start]).collect()),
                None => best[end].clone(),
            }
        };
        best = (0..=groups.len()).map(more).collect();
    }
    let starts = best.pop().map(|(_, starts)| starts).unwrap_or_default();
    let mut layers: Vec<Group<'_>> = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        match layers.last_mut() {
            Some(layer) if !starts.contains(&number) => layer.join(group),
            _ => layers.push(group),
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::DownloadDigest;
    use proptest::prelude::*;

    fn package(name: &str, source: &str, version: &str, size: u64) -> LockedPackage {
        LockedPackage {
            name: name.parse().unwrap(),
            version: version.into(),
            architecture: "amd64".parse().unwrap(),
            source: source.parse().unwrap(),
            source_version: None,
            suite: "trixie".parse().unwrap(),
            file: "p".into(),
            size,
            sha256: DownloadDigest::of(b""),
            depends: vec![],
        }
    }

    fn shown(layers: &[Vec<PackageName>]) -> String {
        layers
            .iter()
            .map(|layer| layer.iter().map(PackageName::as_str).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join(" / ")
    }

    fn image(layers: &[Vec<PackageName>]) -> LockedImage {
        LockedImage {
            name: "base".parse().unwrap(),
            architecture: "amd64".parse().unwrap(),
            from: "scratch".into(),
            asked: vec![],
            recommends: false,
            date: None,
            layers: layers.to_vec(),
        }
    }

    fn sample() -> Vec<LockedPackage> {
        vec![
            package("php8.4-cli", "php8.4", "8.4.16-1~deb13u1", 5_000_000),
            package("php8.4-common", "php8.4", "8.4.16-1~deb13u1", 1_000_000),
            package("coreutils", "coreutils", "9.7-3", 3_000_000),
            package("perl-base", "perl", "5.40.1-6", 2_000_000),
            package("openssl", "openssl", "3.5.4-1~deb13u2", 1_500_000),
            package("libssl3t64", "openssl", "3.5.4-1~deb13u2", 2_500_000),
            package("tzdata", "tzdata", "2025b-4+deb13u1", 300_000),
        ]
    }

    fn assigned(previous: Option<&LockedImage>, packages: &[LockedPackage], budget: usize) -> Vec<Vec<PackageName>> {
        assign(previous, &packages.iter().collect::<Vec<_>>(), budget)
    }

    #[test]
    fn what_often_changes_is_kept_apart_from_what_never_does() {
        let layers = assigned(None, &sample(), 3);
        assert_eq!(shown(&layers), "coreutils perl-base / php8.4-cli php8.4-common / libssl3t64 openssl tzdata");
        assert_eq!(assigned(None, &sample(), 1).len(), 1);
        assert_eq!(assigned(None, &[], 3), Vec::<Vec<PackageName>>::new());
    }

    #[test]
    fn an_update_moves_no_package_to_another_layer() {
        let before = assigned(None, &sample(), 3);
        let mut packages = sample();
        packages[2].version = "9.7-3+deb13u9".into();
        packages[4].size = 9_000_000;
        assert_eq!(assigned(Some(&image(&before)), &packages, 3), before);
    }

    #[test]
    fn new_packages_join_their_source_or_the_cheapest_layer_and_empty_layers_vanish() {
        let before = assigned(None, &sample(), 3);
        let mut packages = sample();
        packages.retain(|package| package.source.as_str() != "php8.4");
        packages.push(package("openssl-provider-legacy", "openssl", "3.5.4-1~deb13u2", 300_000));
        packages.push(package("less", "less", "668-1", 100_000));
        let layers = assigned(Some(&image(&before)), &packages, 2);
        assert_eq!(shown(&layers), "coreutils less perl-base / libssl3t64 openssl openssl-provider-legacy tzdata");
    }

    #[test]
    fn a_large_new_source_gets_a_layer_where_the_budget_allows_it() {
        let before = assigned(None, &sample(), 3);
        let mut packages = sample();
        packages.push(package("mariadb-server", "mariadb", "1:11.8.3-0+deb13u1", 9_000_000));
        assert_eq!(assigned(Some(&image(&before)), &packages, 3).len(), 3);
        let four = assigned(Some(&image(&before)), &packages, 4);
        assert_eq!(shown(&four[3..]), "mariadb-server");
    }

    #[test]
    fn the_numbers_of_updates_are_read_from_versions() {
        let count = |version: &str| updates(&package("aa", "aa", version, 1));
        assert_eq!(
            ["1-1", "1-1+deb13u3", "1-1~deb13u1", "1-1+b2", "1-1+deb13u3+b1", "1+debu3", "1+deb13ux"].map(count),
            [0, 3, 6, 0, 3, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn every_package_stands_in_exactly_one_of_few_layers_with_its_source(
            sizes in prop::collection::vec((0_u64..5_000_000, 0_usize..20, 0_u8..5), 0..40),
            kept in 0_usize..40,
            budget in 1_usize..15,
        ) {
            let packages: Vec<LockedPackage> = sizes.iter().enumerate()
                .map(|(number, (size, source, count))| package(&format!("p{number}"), &format!("s{source}"), &format!("1+deb13u{count}"), *size))
                .collect();
            let before = assigned(None, &packages[..kept.min(packages.len())], budget);
            let layers = assigned(Some(&image(&before)), &packages, budget);
            prop_assert!(layers.len() <= budget);
            let mut names: Vec<&PackageName> = layers.iter().flatten().collect();
            names.sort();
            let mut all: Vec<&PackageName> = packages.iter().map(|package| &package.name).collect();
            all.sort();
            prop_assert_eq!(names, all);
            for layer in &layers {
                prop_assert!(!layer.is_empty() && layer.is_sorted());
                for package in packages.iter().filter(|package| layer.contains(&package.name)) {
                    let siblings = packages.iter().filter(|other| other.source == package.source);
                    prop_assert!(siblings.into_iter().all(|other| layer.contains(&other.name)));
                }
            }
        }
    }
}
