//! Pure edits of a tree: what a recipe's `files`, `copy` and `remove` do.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::{SourceFile, Sources};
use crate::debian::accounts::{AccountError, Accounts};
use crate::model::digest::FileDigest;
use crate::model::name::ImageName;
use crate::model::recipe::{CopyRule, FileRule, FileSource, Owners, Recipe, RemoveRule};
use crate::model::tree::{Entry, InvalidPath, Kind, Origin, Tree, TreePath};

/// A declaration that the tree does not allow.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("line {line}: {source}")]
    Account { line: u32, source: AccountError },
    #[error("line {line}: `{path}` cannot be put below `{blocker}`, which is no folder")]
    Blocked { line: u32, path: TreePath, blocker: TreePath },
    #[error("line {line}: the image `{image}` has no `{path}`")]
    NothingToCopy { line: u32, image: ImageName, path: TreePath },
    #[error("line {line}: the pattern `{pattern}` matches nothing")]
    NothingToRemove { line: u32, pattern: String },
    #[error("line {line}: {source}")]
    Path { line: u32, source: InvalidPath },
    #[error("line {line}: the source `{path}` was not read")]
    NoSource { line: u32, path: TreePath },
}

/// Puts the declared files into the tree. Text that stands in the recipe itself is kept by `keep`.
///
/// Declared files carry no date (mtime 0): a date would change their layer whenever the lock moves.
pub fn put_files(
    tree: &mut Tree,
    recipe: &Recipe,
    sources: &Sources,
    accounts: &Accounts,
    mut keep: impl FnMut(&str, u16) -> FileDigest,
) -> Result<(), EditError> {
    for rule in &recipe.files {
        let origin = Origin::Recipe { image: recipe.name.clone(), line: rule.line };
        let owners = owner_ids(accounts, &rule.owners, rule.line)?;
        match &rule.what {
            FileSource::Text(text) => {
                let entry = Entry::file(keep(text, rule.mode), text.len() as u64, rule.mode, 0, origin);
                put(tree, &rule.to, owned(entry, owners), rule.line)?;
            }
            FileSource::Directory => {
                put(tree, &rule.to, owned(Entry::directory(rule.directory_mode, origin), owners), rule.line)?;
            }
            FileSource::Link(target) => put(tree, &rule.to, Entry::symlink(target.as_bytes(), 0, origin), rule.line)?,
            FileSource::Project(path) => {
                let files = sources
                    .get(&(recipe.name.clone(), path.clone()))
                    .ok_or_else(|| EditError::NoSource { line: rule.line, path: path.clone() })?;
                for file in files {
                    let (to, entry) = source_entry(rule, file, origin.clone())?;
                    put(tree, &to, owned(entry, owners), rule.line)?;
                }
            }
        }
    }
    Ok(())
}

fn source_entry(rule: &FileRule, file: &SourceFile, origin: Origin) -> Result<(TreePath, Entry), EditError> {
    let to = rule.to.join(file.path.as_bytes()).map_err(|source| EditError::Path { line: rule.line, source })?;
    let entry = match file.content {
        Some((digest, size)) => Entry::file(digest, size, rule.mode, 0, origin),
        None => Entry::directory(rule.directory_mode, origin),
    };
    Ok((to, entry))
}

/// Copies subtrees of siblings into the tree.
pub fn copy(
    tree: &mut Tree,
    recipe: &Recipe,
    siblings: &BTreeMap<ImageName, &Tree>,
    accounts: &Accounts,
) -> Result<(), EditError> {
    for rule in &recipe.copies {
        let CopyRule { line, from, path, to, owners } = rule;
        let missing = || EditError::NothingToCopy { line: *line, image: from.clone(), path: path.clone() };
        let sibling = siblings.get(from).ok_or_else(missing)?;
        let owners = owners.as_ref().map(|owners| owner_ids(accounts, owners, *line)).transpose()?;
        let origin = Origin::Recipe { image: recipe.name.clone(), line: *line };
        let mut found = false;
        for (at, entry) in sibling.within(path) {
            found = true;
            let below = at.as_bytes().get(path.as_bytes().len()..).unwrap_or_default();
            let target = to.join(below).map_err(|source| EditError::Path { line: *line, source })?;
            let mut entry = entry.clone();
            entry.origin = origin.clone();
            let entry = owners.map_or(entry.clone(), |owners| owned(entry, owners));
            put(tree, &target, entry, *line)?;
        }
        if !found {
            return Err(missing());
        }
    }
    Ok(())
}

/// Puts a finished tree into the tree, each entry at its path.
pub fn put_tree(tree: &mut Tree, entries: &Tree, line: u32) -> Result<(), EditError> {
    entries.iter().try_for_each(|(path, entry)| put(tree, path, entry.clone(), line))
}

/// Takes out of a tree what the patterns match below a folder; one that matches nothing is none the worse.
pub fn exclude(tree: &mut Tree, folder: &TreePath, patterns: &[String]) {
    let below = |path: &TreePath| path.as_bytes().get(folder.as_bytes().len() + 1..).map(<[u8]>::to_vec).unwrap_or_default();
    for pattern in patterns.iter().map(|text| Pattern::new(text)) {
        let doomed: Vec<TreePath> =
            tree.within(folder).map(|(path, _)| path).filter(|path| pattern.matches(&below(path))).cloned().collect();
        for path in &doomed {
            tree.remove(path);
        }
    }
}

/// Removes what the patterns match. A pattern that matches nothing is a mistake of the recipe.
pub fn remove(tree: &mut Tree, rules: &[RemoveRule]) -> Result<(), EditError> {
    for rule in rules {
        let pattern = Pattern::new(&rule.pattern);
        let doomed: Vec<TreePath> =
            tree.iter().filter(|(path, _)| pattern.matches(path.as_bytes())).map(|(path, _)| path.clone()).collect();
        if doomed.is_empty() {
            return Err(EditError::NothingToRemove { line: rule.line, pattern: rule.pattern.clone() });
        }
        for path in &doomed {
            tree.remove(path);
        }
    }
    Ok(())
}

/// Puts an entry, following links of folders in the tree (as `/bin`) and making missing parents.
fn put(tree: &mut Tree, path: &TreePath, entry: Entry, line: u32) -> Result<(), EditError> {
    let path = resolve_parents(tree, path, line)?;
    let mut missing = Vec::new();
    let mut parent = path.parent();
    while let Some(folder) = parent {
        match tree.get(folder.as_bytes()) {
            Some(found) if found.is_directory() => break,
            Some(_) => return Err(EditError::Blocked { line, path, blocker: folder }),
            None => missing.push(folder.clone()),
        }
        parent = folder.parent();
    }
    for folder in missing {
        tree.put(folder, Entry::directory(0o755, entry.origin.clone()));
    }
    tree.put(path, entry);
    Ok(())
}

/// Returns the path with symbolic links among its parents followed inside the tree.
fn resolve_parents(tree: &Tree, path: &TreePath, line: u32) -> Result<TreePath, EditError> {
    let invalid = |source| EditError::Path { line, source };
    let mut todo: Vec<Vec<u8>> = path.as_bytes().split(|byte| *byte == b'/').map(<[u8]>::to_vec).rev().collect();
    let mut done = TreePath::root();
    // As the kernel: at most 40 links on the way.
    let mut links = 0;
    while let Some(component) = todo.pop() {
        if component == b".." {
            done = done.parent().unwrap_or_else(TreePath::root);
            continue;
        }
        let next = done.join(&component).map_err(invalid)?;
        let target = match tree.get(next.as_bytes()).map(|entry| &entry.kind) {
            Some(Kind::Symlink { target }) if !todo.is_empty() && links < 40 => target,
            _ => {
                done = next;
                continue;
            }
        };
        links += 1;
        if target.starts_with(b"/") {
            done = TreePath::root();
        }
        todo.extend(target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).rev());
    }
    Ok(done)
}

fn owner_ids(accounts: &Accounts, owners: &Owners, line: u32) -> Result<(u32, u32), EditError> {
    accounts.resolve(owners).map_err(|source| EditError::Account { line, source })
}

fn owned(mut entry: Entry, (uid, gid): (u32, u32)) -> Entry {
    entry.uid = uid;
    entry.gid = gid;
    entry
}

/// A path pattern: `*` and `?` stay within a component, `**` spans any number of components.
struct Pattern<'a>(Vec<&'a [u8]>);

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect())
    }

    fn matches(&self, path: &[u8]) -> bool {
        // Nearly every path differs from nearly every pattern in a component without any star.
        let plain = self.0.iter().take_while(|part| !part.contains(&b'*') && !part.contains(&b'?'));
        if !plain.zip(path.split(|byte| *byte == b'/')).all(|(part, component)| *part == component) {
            return false;
        }
        let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        // The set of pattern positions reached: linear in path and pattern, whatever the pattern.
        let mut reached: BTreeSet<usize> = self.skip_stars(0);
        for component in components {
            let mut next = BTreeSet::new();
            for at in reached {
                match self.0.get(at) {
                    Some(&b"**") => {
                        next.insert(at);
                        next.extend(self.skip_stars(at + 1));
                    }
                    Some(part) if component_matches(part, component) => next.extend(self.skip_stars(at + 1)),
                    _ => {}
                }
            }
            reached = next;
        }
        reached.contains(&self.0.len()) && !self.0.is_empty() && !path.is_empty()
    }

    /// A `**` may stand for no component at all.
    fn skip_stars(&self, mut at: usize) -> BTreeSet<usize> {
        let mut positions = BTreeSet::from([at]);
        while self.0.get(at) == Some(&b"**".as_slice()) && at + 1 < self.0.len() {
            at += 1;
            positions.insert(at);
        }
        positions
    }
}

fn component_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern).matches(path.as_bytes())
    }

    #[test]
    fn a_star_stays_within_a_component() {
        assert!(matches("/usr/share/doc/*", "usr/share/doc/bash"));
        assert!(!matches("/usr/share/doc/*", "usr/share/doc/bash/copyright"));
        assert!(matches("/usr/share/*/bash/c?py*", "usr/share/doc/bash/copyright"));
    }

    #[test]
    fn two_stars_span_components() {
        assert!(matches("/usr/share/doc/**/changelog*", "usr/share/doc/changelog.gz"));
        assert!(matches("/usr/share/doc/**/changelog*", "usr/share/doc/a/b/changelog.Debian.gz"));
        assert!(matches("/usr/**", "usr/share/doc"));
        assert!(!matches("/usr/**", "usr"));
        assert!(!matches("/usr/**/x", "usr/y"));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_a_kind_one() {
        let pattern = "/**/a*a*a*a*a*a*b".repeat(40);
        assert!(!matches(&pattern, &"aaaaaaaaaaaaaaaaaaaaaaaa/".repeat(150)));
    }

    #[test]
    fn what_is_excluded_is_gone_with_all_below_it() {
        let at = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        let file = || Entry::file(FileDigest::of(b""), 0, 0o444, 0, Origin::Parvis);
        let mut tree: Tree = ["app/repository/x", "app/vendor/a/tests/y", "app/web/index.php", "repository"]
            .into_iter()
            .map(|path| (at(path), file()))
            .chain(
                ["app", "app/repository", "app/vendor/a/tests"].map(|path| (at(path), Entry::directory(0o755, Origin::Parvis))),
            )
            .collect();
        exclude(&mut tree, &at("app"), &["repository".into(), "vendor/*/tests".into(), "none".into()]);
        let left: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(left, ["/app", "/app/web/index.php", "/repository"]);
    }

    #[test]
    fn a_declared_file_follows_the_folder_links_of_the_image() {
        let at = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        let mut tree = Tree::new();
        tree.put(at("usr/bin"), Entry::directory(0o755, Origin::Parvis));
        tree.put(at("bin"), Entry::symlink(b"usr/bin", 0, Origin::Parvis));
        put(&mut tree, &at("/bin/tool"), Entry::file(FileDigest::of(b""), 0, 0o755, 0, Origin::Parvis), 1).unwrap();
        assert!(tree.get(b"usr/bin/tool").is_some());
        assert!(tree.get(b"bin/tool").is_none());
    }
}
