//! Who a container runs as, and what its image says of itself: looked up along the line of the recipes it stands on.

use std::collections::BTreeSet;

use crate::model::catalog::Catalog;
use crate::model::name::ImageName;
use crate::model::recipe::{Owner, Port, Recipe};

/// The accounts that every Debian has with fixed ids (base-passwd's master files), as far as images use them.
pub const DEBIAN_ACCOUNTS: [(&str, u32); 20] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("proxy", 13),
    ("www-data", 33),
    ("backup", 34),
    ("list", 38),
    ("irc", 39),
    ("shadow", 42),
    ("staff", 50),
    ("users", 100),
    ("nogroup", 65534),
];

/// What containers of an image are like, as far as the recipes say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// User and group by number; absent where a package chooses the number.
    pub user: Option<(u32, u32)>,
    /// Further groups, by number, as engines look them up where the recipe names no group.
    pub groups: Vec<u32>,
    pub has_health_check: bool,
    pub ports: BTreeSet<Port>,
}

/// Returns what containers of an image are like.
#[must_use]
pub fn runtime(catalog: &Catalog, image: &ImageName) -> Runtime {
    let line = catalog.lineage(image);
    let user = line.iter().rev().find_map(|recipe| recipe.config.user.as_deref()).unwrap_or("0:0");
    Runtime {
        user: user_and_group(&line, user),
        groups: groups(&line, user),
        has_health_check: line.iter().rev().find_map(|recipe| recipe.config.health.as_ref()).is_some(),
        ports: line.iter().flat_map(|recipe| recipe.config.ports.iter().copied()).collect(),
    }
}

/// Returns the numbers of `user` or `user:group`. Without a group it is the user's own, as engines have it.
fn user_and_group(line: &[&Recipe], text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let uid = user_number(line, user)?;
    let own = || {
        let account = line.iter().flat_map(|recipe| &recipe.users).find(|account| account.uid == uid);
        let debian = || DEBIAN_ACCOUNTS.iter().find(|(_, id)| *id == uid).map(|(_, id)| *id);
        account.map(|account| account.gid).or_else(debian)
    };
    Some((uid, group.map_or_else(own, |group| group_number(line, group))?))
}

fn groups(line: &[&Recipe], text: &str) -> Vec<u32> {
    let uid = if text.contains(':') { None } else { user_number(line, text) };
    let account = line.iter().flat_map(|recipe| &recipe.users).find(|account| Some(account.uid) == uid);
    account.into_iter().flat_map(|account| &account.groups).filter_map(|group| group_number(line, group.as_str())).collect()
}

/// Returns the number of a user, where it is fixed.
#[must_use]
pub fn user_number(line: &[&Recipe], text: &str) -> Option<u32> {
    let declared = || line.iter().flat_map(|recipe| &recipe.users).find(|account| account.name.as_str() == text);
    text.parse().ok().or_else(|| declared().map(|account| account.uid)).or_else(|| of_debian(text))
}

/// Returns the number of a group, where it is fixed.
#[must_use]
pub fn group_number(line: &[&Recipe], text: &str) -> Option<u32> {
    let declared = || line.iter().flat_map(|recipe| &recipe.users).find(|account| account.group.as_str() == text);
    text.parse().ok().or_else(|| declared().map(|account| account.gid)).or_else(|| of_debian(text))
}

/// Returns the number of an owner, by name or number.
#[must_use]
pub fn owner_number(owner: &Owner, number: impl Fn(&str) -> Option<u32>) -> Option<u32> {
    match owner {
        Owner::Id(id) => Some(*id),
        Owner::Name(name) => number(name.as_str()),
    }
}

fn of_debian(name: &str) -> Option<u32> {
    DEBIAN_ACCOUNTS.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::problem::Source;

    fn runtime_of(config: &str) -> Runtime {
        let base = "description: x\nfrom: scratch\nusers: [{name: db, uid: 990, gid: 991, group: dbs, groups: [www-data]}]\nconfig: {ports: [443]}\n";
        let child = format!("description: x\nfrom: base\nconfig: {{{config}}}\n");
        let files = [("base", base), ("child", &child)];
        let file = |(name, text): (&str, &str)| (name.parse().unwrap(), Source::new(name, text));
        runtime(&Catalog::parse(files.map(file).into(), &BTreeMap::new()).unwrap(), &"child".parse().unwrap())
    }

    #[test]
    fn a_user_is_found_by_name_number_and_without_a_group() {
        for (user, ids) in [
            ("db", Some((990, 991))),
            ("990", Some((990, 991))),
            ("db:www-data", Some((990, 33))),
            ("33", Some((33, 33))),
            ("'33:33'", Some((33, 33))),
            ("www-data:dbs", Some((33, 991))),
            ("mysql", None),
            ("1001", None),
            ("db:mysql", None),
        ] {
            let quoted = if user.parse::<u32>().is_ok() { format!("user: '{user}'") } else { format!("user: {user}") };
            assert_eq!(runtime_of(&quoted).user, ids, "{user}");
        }
        assert_eq!((runtime_of("user: db").groups, runtime_of("user: 'db:dbs'").groups), (vec![33], Vec::new()));
        assert_eq!(runtime_of("").user, Some((0, 0)), "no user is root");
        assert_eq!(runtime_of("ports: [80]").ports.len(), 2);
        assert!(runtime_of("health: {command: [a]}").has_health_check && !runtime_of("").has_health_check);
    }
}
