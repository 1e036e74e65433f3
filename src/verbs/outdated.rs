//! `parvis outdated`: lists what the archive has newer than the lock, security apart.

use serde_json::json;

use super::lists;
use super::lock::Allowed;
use super::workplace::{Workplace, open_store};
use super::{Answer, Context};
use crate::plan::locking::{Outdated, outdated};
use crate::screen::table;

/// Options of `parvis outdated`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    allowed: Allowed,
}

/// Compares the lock with the archive of now.
pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let workplace = Workplace::open(context)?;
    let lock = workplace.lock()?;
    let store = open_store(context)?;
    let lists = lists::read(&workplace, context, &store, Some(&lock), &arguments.allowed.names())?;
    let found = outdated(&lock, &lists.universes);
    context.answer(
        || {
            let entry = |one: &Outdated| {
                json!({ "package": one.name, "architecture": one.architecture, "source": one.source, "locked": one.locked,
                    "available": one.available, "suite": one.suite, "security": one.security })
            };
            json!({ "format": 1, "packages": found.iter().map(entry).collect::<Vec<_>>() })
        },
        || lines(&found),
    );
    Ok(())
}

fn lines(found: &[Outdated]) -> Vec<String> {
    let (security, others): (Vec<&Outdated>, Vec<&Outdated>) = found.iter().partition(|one| one.security);
    let mut lines = Vec::new();
    for (title, part) in
        [("Security fixes (`parvis lock --security`):", security), ("Other updates (`parvis lock --update`):", others)]
    {
        if part.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(title.to_owned());
        let row = |one: &&Outdated| vec![one.name.to_string(), one.locked.clone(), one.available.clone(), one.suite.clone()];
        lines.extend(table(&["package", "locked", "available", "suite"], &part.iter().map(row).collect::<Vec<_>>()));
    }
    if lines.is_empty() {
        lines.push("the archive has nothing newer".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_fixes_stand_apart() {
        let one = |name: &str, security| Outdated {
            name: name.parse().unwrap(),
            architecture: "amd64".parse().unwrap(),
            source: name.parse().unwrap(),
            locked: "1".into(),
            available: "2".into(),
            suite: "trixie".into(),
            security,
        };
        let shown = lines(&[one("ssl", true), one("web", false)]).join("\n");
        let expected = "Security fixes (`parvis lock --security`):\npackage  locked  available  suite\nssl           1          2  trixie\n\n\
                        Other updates (`parvis lock --update`):\npackage  locked  available  suite\nweb           1          2  trixie";
        assert_eq!(shown, expected);
        assert_eq!(lines(&[]), ["the archive has nothing newer"]);
    }
}
