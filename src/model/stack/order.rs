//! What waits for what, and the order that follows.
//!
//! Whoever uses a service waits until it is well. Jobs that use the same service go first: those of every start, then `install`, then
//! `upgrade`, then the services; so nothing reads a database that is not laid out yet. Whoever has keys waits for the job that makes
//! them. A job by hand waits for services and keys alone: what it is for may be to mend what another job failed at.

use std::collections::BTreeSet;

use super::{Service, When};
use crate::model::name::PartName;
use crate::model::problem::{Problem, Source};

/// Puts down all that each service waits for, and sorts them by it; otherwise they stay in the order of the file.
pub(super) fn arrange(source: &Source, mut services: Vec<Service>) -> Result<Vec<Service>, Problem> {
    services.sort_by_key(|service| service.line);
    let stated: Vec<Vec<PartName>> =
        services.iter().map(|service| service.uses.iter().chain(&service.after).cloned().collect()).collect();
    let waits: Vec<BTreeSet<usize>> = (0..services.len()).map(|index| waits(index, &services, &stated)).collect();
    let mut order: Vec<usize> = Vec::new();
    while order.len() < services.len() {
        let ready = |index: &usize| !order.contains(index) && waits[*index].iter().all(|other| order.contains(other));
        let Some(next) = (0..services.len()).find(ready) else { return Err(circle(source, &services, &waits, &order)) };
        order.push(next);
    }
    let after = |index: usize| -> Vec<PartName> {
        let waited = order.iter().filter(|other| waits[index].contains(other));
        waited.map(|other| services[*other].name.clone()).collect()
    };
    let arranged = order.iter().map(|index| Service { after: after(*index), ..services[*index].clone() });
    Ok(arranged.collect())
}

/// The order of those that use the same service.
const fn phase(service: &Service) -> u8 {
    match service.job {
        Some(When::Every) => 0,
        Some(When::Install) => 1,
        Some(When::Upgrade) => 2,
        None => 3,
        // Waits for no job, and no job waits for it.
        Some(When::Manual) => 4,
    }
}

fn waits(index: usize, services: &[Service], stated: &[Vec<PartName>]) -> BTreeSet<usize> {
    let service = &services[index];
    let mut waits: BTreeSet<usize> = BTreeSet::new();
    for (other_index, other) in services.iter().enumerate().filter(|(other, _)| *other != index) {
        let earlier = other.job.is_some() && phase(other) < phase(service) && service.job != Some(When::Manual);
        let shares = || other.uses.iter().any(|used| service.uses.contains(used));
        let follows = earlier && shares() && !reaches(other_index, index, services, stated);
        if stated[index].contains(&other.name) || other.makes_keys && service.has_keys() || follows {
            waits.insert(other_index);
        }
    }
    waits
}

/// Whether one service needs another, directly or through others, as the file states it.
fn reaches(from: usize, to: usize, services: &[Service], stated: &[Vec<PartName>]) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(index) = open.pop() {
        for (next, _) in services.iter().enumerate().filter(|(_, service)| stated[index].contains(&service.name)) {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

/// Follows what waits until one comes again.
fn circle(source: &Source, services: &[Service], waits: &[BTreeSet<usize>], done: &[usize]) -> Problem {
    let open = |index: &usize| !done.contains(index);
    let mut path: Vec<usize> = (0..services.len()).filter(open).take(1).collect();
    loop {
        let next = path.last().and_then(|last| waits[*last].iter().copied().find(open));
        let Some(next) = next else { return source.problem(1, 1, "the services wait for each other") };
        if let Some(start) = path.iter().position(|index| *index == next) {
            let names: Vec<&str> = path[start..].iter().chain([&next]).map(|index| services[*index].name.as_str()).collect();
            let first = &services[next];
            let message = format!("these wait for each other: {}", names.join(" → "));
            return source
                .problem_at_word(first.line, first.name.as_str(), message)
                .hint("one of them must start without the other");
        }
        path.push(next);
    }
}
