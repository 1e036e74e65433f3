//! The tree of a system in which packages were unpacked over a parent: who may put what where.

use std::collections::BTreeMap;

use super::database::Database;
use super::package::canonical_path;
use super::relation;
use super::version::Version;
use crate::model::name::PackageName;
use crate::model::tree::{Entry, Kind, Origin, Tree, TreePath};

/// Two things that cannot stand at one path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Collision {
    #[error("`{path}` is shipped by `{second}`, but `{first}` has put something there")]
    Taken { path: TreePath, first: Origin, second: PackageName },
    #[error("`{path}` of `{package}` goes through `{link}`, a link that leads to no folder")]
    Link { path: TreePath, package: PackageName, link: TreePath },
}

impl Collision {
    /// Returns what a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { first: Origin::Package(first), second, .. } => {
                Some(format!("leave out `{first}` or `{second}`; neither says that it replaces the other"))
            }
            Self::Taken { first: Origin::Recipe { image, .. }, .. } => {
                Some(format!("put the file into this recipe instead, where it comes after the packages, and not into `{image}`"))
            }
            _ => None,
        }
    }
}

/// A path that belongs to one package, so that the file of any other is put elsewhere (dpkg-divert(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    pub from: TreePath,
    pub to: TreePath,
    /// The package whose file is not diverted; none for the diversions of an administrator.
    pub package: Option<PackageName>,
}

/// Reads `var/lib/dpkg/diversions`: three lines each. What dpkg would not write is left out.
///
/// Each path has one diversion. dpkg compares names as packages ship them, and a package may divert `/bin/x` and
/// `/usr/bin/x` to different places, so that neither way of shipping it is missed: what is said of the real path counts.
#[must_use]
pub fn parse_diversions(text: &str) -> Vec<Diversion> {
    let path = |line: &str| TreePath::parse(line.as_bytes()).ok();
    let real = |path: &TreePath| canonical_path(path, false);
    let lines: Vec<&str> = text.lines().collect();
    let mut diversions: BTreeMap<TreePath, (bool, Diversion)> = BTreeMap::new();
    for lines in lines.chunks(3) {
        let [from, to, package] = lines else { continue };
        let (Some(shipped), Some(to)) = (path(from), path(to)) else { continue };
        let from = real(&shipped);
        let is_real = from == shipped;
        if is_real || diversions.get(&from).is_none_or(|(real, _)| !real) {
            let diversion = Diversion { from: from.clone(), to: real(&to), package: package.parse().ok() };
            diversions.insert(from, (is_real, diversion));
        }
    }
    diversions.into_values().map(|(_, diversion)| diversion).collect()
}

/// A file that one package took over from another because it says that it replaces it. dpkg strikes the path off the
/// list of the package that lost it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    pub path: TreePath,
    pub from: PackageName,
    pub by: PackageName,
}

/// Returns a package's file list (`info/NAME.list`) without the paths that others took over.
#[must_use]
pub fn strike_off(list: &[u8], taken: &[&TreePath]) -> Vec<u8> {
    let is_taken = |line: &[u8]| {
        let path = TreePath::parse(line).map(|path| canonical_path(&path, false));
        path.is_ok_and(|path| taken.contains(&&path))
    };
    let lines = list.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !is_taken(line.strip_suffix(b"\n").unwrap_or(line))).flatten().copied().collect()
}

/// Puts the trees of packages over the tree of a parent, as if dpkg had unpacked them.
///
/// The order of the packages does not matter. A folder that several have keeps the metadata it has in the parent, else
/// in `base-files`, else in the first package by name. Where one has a link and another a folder, the link stays and is
/// followed. Folders that nothing has are made.
///
/// # Errors
/// Names a path and both who claim it.
pub fn unpack_tree(
    parent: &Tree,
    packages: &[(&PackageName, &Tree)],
    database: &Database,
    diversions: &[Diversion],
) -> Result<(Tree, Vec<Takeover>), Collision> {
    let mut packages = packages.to_vec();
    packages.sort_by_key(|(name, _)| (name.as_str() != "base-files", *name));
    let mut links = BTreeMap::new();
    for (path, entry) in packages.iter().flat_map(|(_, tree)| tree.iter()).chain(parent.iter()) {
        if let Kind::Symlink { target } = &entry.kind {
            links.insert(path, target.as_ref());
        }
    }
    let diverted = diversions.iter().map(|diversion| (&diversion.from, diversion)).collect();
    let mut unpacking = Unpacking { tree: parent.clone(), links, diverted, database, takeovers: Vec::new() };
    for (name, tree) in packages {
        unpacking.unpack(name, tree)?;
    }
    let mut takeovers = unpacking.takeovers;
    takeovers.sort_by(|a, b| (&a.path, &a.by).cmp(&(&b.path, &b.by)));
    Ok((unpacking.tree, takeovers))
}

struct Unpacking<'a> {
    tree: Tree,
    links: BTreeMap<&'a TreePath, &'a [u8]>,
    diverted: BTreeMap<&'a TreePath, &'a Diversion>,
    database: &'a Database,
    takeovers: Vec<Takeover>,
}

impl Unpacking<'_> {
    fn unpack(&mut self, name: &PackageName, tree: &Tree) -> Result<(), Collision> {
        // Entries come sorted, so that those of one folder mostly follow each other.
        let mut last: Option<(TreePath, TreePath)> = None;
        for (path, entry) in tree.iter() {
            let folder = path.parent().unwrap_or_else(TreePath::root);
            let real_folder = match &last {
                Some((shipped, real)) if *shipped == folder => real.clone(),
                _ => self.real_folder(&folder, path, name)?,
            };
            let real = real_folder.join(path.file_name()).unwrap_or_else(|_| path.clone());
            last = Some((folder, real_folder));
            if entry.is_directory() {
                self.put_folder(&real, entry, path, name)?;
            } else {
                self.put_file(real, entry, name)?;
            }
        }
        Ok(())
    }

    /// Returns where a folder stands once all links on the way are followed.
    fn real_folder(&self, folder: &TreePath, path: &TreePath, package: &PackageName) -> Result<TreePath, Collision> {
        let mut rest: Vec<Vec<u8>> = folder.as_bytes().rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut real = TreePath::root();
        let mut followed = 0;
        while let Some(component) = rest.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real = real.parent().unwrap_or(real);
                    continue;
                }
                _ => {}
            }
            let Ok(next) = real.join(&component) else { return Ok(folder.clone()) };
            let Some(target) = self.links.get(&next) else {
                real = next;
                continue;
            };
            followed += 1;
            if followed > 40 {
                return Err(Collision::Link { path: path.clone(), package: package.clone(), link: next });
            }
            if target.starts_with(b"/") {
                real = TreePath::root();
            }
            rest.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
        }
        Ok(real)
    }

    fn put_folder(&mut self, real: &TreePath, entry: &Entry, path: &TreePath, package: &PackageName) -> Result<(), Collision> {
        if self.links.contains_key(real) {
            let target = self.real_folder(real, path, package)?;
            return self.make_folders(&target, path, package);
        }
        match self.tree.get(real.as_bytes()) {
            None => {
                self.make_parents(real, path, package)?;
                self.tree.put(real.clone(), entry.clone());
                Ok(())
            }
            Some(there) if there.is_directory() => {
                // What parvis made for want of a better claim gives way.
                if there.origin == Origin::Parvis && there.mode == 0o755 {
                    self.tree.put(real.clone(), entry.clone());
                }
                Ok(())
            }
            Some(there) => Err(Collision::Taken { path: real.clone(), first: there.origin.clone(), second: package.clone() }),
        }
    }

    fn put_file(&mut self, real: TreePath, entry: &Entry, package: &PackageName) -> Result<(), Collision> {
        let (real, is_cleared) = match self.diverted.get(&real) {
            Some(diversion) if diversion.package.as_ref() != Some(package) => (diversion.to.clone(), false),
            // Whatever else still stands there belongs elsewhere: who diverts without renaming replaces it.
            Some(_) => (real, true),
            None => (real, false),
        };
        let taken = |first: &Origin| Collision::Taken { path: real.clone(), first: first.clone(), second: package.clone() };
        match self.tree.get(real.as_bytes()) {
            None => self.make_parents(&real, &real, package)?,
            Some(there) if there.is_directory() => {
                let is_link = matches!(entry.kind, Kind::Symlink { .. });
                let empty_handed = there.origin == Origin::Parvis || is_link && self.leads_to_folder(&real, package);
                if !empty_handed || self.tree.within(&real).nth(1).is_some() {
                    return Err(taken(&there.origin));
                }
            }
            Some(there) => match &there.origin {
                _ if is_cleared => {}
                Origin::Package(first) if self.replaces(package, first) => {
                    self.takeovers.push(Takeover { path: real.clone(), from: first.clone(), by: package.clone() });
                }
                Origin::Package(first) if self.replaces(first, package) => {
                    self.takeovers.push(Takeover { path: real, from: package.clone(), by: first.clone() });
                    return Ok(());
                }
                first @ (Origin::Package(_) | Origin::Recipe { .. }) => return Err(taken(first)),
                Origin::Script(_) | Origin::Run { .. } | Origin::Composer(_) | Origin::Parvis => {}
            },
        }
        self.tree.put(real, entry.clone());
        Ok(())
    }

    fn leads_to_folder(&self, link: &TreePath, package: &PackageName) -> bool {
        let target = self.real_folder(link, link, package);
        target.is_ok_and(|target| target != *link && self.tree.get(target.as_bytes()).is_none_or(Entry::is_directory))
    }

    fn make_parents(&mut self, real: &TreePath, path: &TreePath, package: &PackageName) -> Result<(), Collision> {
        match real.parent() {
            Some(folder) => self.make_folders(&folder, path, package),
            None => Ok(()),
        }
    }

    /// Makes a folder and those above it where nothing stands.
    fn make_folders(&mut self, folder: &TreePath, path: &TreePath, package: &PackageName) -> Result<(), Collision> {
        match self.tree.get(folder.as_bytes()) {
            Some(there) if there.is_directory() => Ok(()),
            Some(there) if matches!(there.kind, Kind::Symlink { .. }) => {
                Err(Collision::Link { path: path.clone(), package: package.clone(), link: folder.clone() })
            }
            Some(there) => Err(Collision::Taken { path: folder.clone(), first: there.origin.clone(), second: package.clone() }),
            None => {
                self.make_parents(folder, path, package)?;
                self.tree.put(folder.clone(), Entry::directory(0o755, Origin::Parvis));
                Ok(())
            }
        }
    }

    /// Returns whether a package says that it replaces files of another.
    fn replaces(&self, package: &PackageName, other: &PackageName) -> bool {
        let Some(record) = self.database.get(package.as_str()) else { return false };
        let relations = record.field("Replaces").and_then(|value| relation::parse(value).ok()).unwrap_or_default();
        let version = self.database.get(other.as_str()).and_then(|record| record.version.parse::<Version>().ok());
        relations.iter().flatten().any(|relation| {
            relation.name == other.as_str()
                && (relation.version.is_none() || version.as_ref().is_some_and(|version| relation.accepts(version)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::database::Record;
    use crate::model::digest::FileDigest;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    /// Builds a tree from `path`, `path/` (a folder, perhaps with `=mode`) and `path -> target`.
    fn tree(package: &str, items: &[&str]) -> Tree {
        let origin = Origin::Package(package.parse().unwrap());
        let entry = |item: &str| match item.split_once(" -> ") {
            Some((link, target)) => (path(link), Entry::symlink(target.as_bytes(), 0, origin.clone())),
            None => match item.split_once('=') {
                Some((folder, mode)) => (path(folder), Entry::directory(u16::from_str_radix(mode, 8).unwrap(), origin.clone())),
                None if item.ends_with('/') => (path(item), Entry::directory(0o755, origin.clone())),
                None => (path(item), Entry::file(FileDigest::of(item.as_bytes()), 1, 0o644, 0, origin.clone())),
            },
        };
        items.iter().map(|item| entry(item)).collect()
    }

    /// Unpacks packages and returns `path letter mode origin` of each entry.
    fn unpacked(
        parent: &Tree,
        packages: &[(&str, &[&str])],
        replaces: &[(&str, &str)],
        diversions: &str,
    ) -> Result<Vec<String>, String> {
        let names: Vec<PackageName> = packages.iter().map(|(name, _)| name.parse().unwrap()).collect();
        let trees: Vec<Tree> = packages.iter().map(|(name, items)| tree(name, items)).collect();
        let mut database = Database::default();
        for (name, _) in packages {
            let replaces =
                replaces.iter().find(|(who, _)| who == name).map_or(String::new(), |(_, whom)| format!("Replaces: {whom}\n"));
            let text = format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n{replaces}");
            database.add(Record::from_text(&text).unwrap(), &[]);
        }
        let both: Vec<_> = names.iter().zip(&trees).collect();
        let result = unpack_tree(parent, &both, &database, &parse_diversions(diversions)).map_err(|error| error.to_string());
        let mut reversed = both.clone();
        reversed.reverse();
        let again = unpack_tree(parent, &reversed, &database, &parse_diversions(diversions)).map_err(|error| error.to_string());
        assert_eq!(result, again, "the order of the packages does not matter");
        let (tree, takeovers) = result?;
        let letter = |entry: &Entry| match &entry.kind {
            Kind::Directory => "d".to_owned(),
            Kind::File { .. } => "f".to_owned(),
            Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        };
        let mut shown: Vec<String> =
            tree.iter().map(|(path, entry)| format!("{path} {} {:o} {}", letter(entry), entry.mode, entry.origin)).collect();
        shown.extend(takeovers.iter().map(|takeover| format!("{} took {} from {}", takeover.by, takeover.path, takeover.from)));
        Ok(shown)
    }

    #[test]
    fn folders_are_the_parent_s_then_those_of_base_files_then_of_the_first_by_name() {
        let parent = tree("old", &["a=700"]);
        let shown = unpacked(
            &parent,
            &[("zz", &["a=711", "b=711", "c=711"]), ("aa", &["a=722", "b=722", "c=722"]), ("base-files", &["b=733"])],
            &[],
            "",
        );
        assert_eq!(shown.unwrap()[1..], ["/a d 700 package:old", "/b d 733 package:base-files", "/c d 722 package:aa"]);
    }

    #[test]
    fn missing_folders_are_made_and_give_way_to_a_package_s_own() {
        let shown = unpacked(&Tree::new(), &[("aa", &["a/b/c"]), ("bb", &["a=750"])], &[], "");
        assert_eq!(shown.unwrap(), ["/ d 755 parvis", "/a d 750 package:bb", "/a/b d 755 parvis", "/a/b/c f 644 package:aa"]);
    }

    #[test]
    fn a_file_of_two_packages_is_refused_with_both_names() {
        let error = unpacked(&Tree::new(), &[("aa", &["x"]), ("bb", &["x"])], &[], "").unwrap_err();
        assert_eq!(error, "`/x` is shipped by `bb`, but `package:aa` has put something there");
        assert!(unpacked(&tree("old", &["x"]), &[("bb", &["x"])], &[], "").is_err());
        assert!(unpacked(&Tree::new(), &[("aa", &["x/"]), ("bb", &["x"])], &[], "").is_err(), "a folder and a file");
    }

    #[test]
    fn a_package_takes_over_the_files_of_those_it_replaces() {
        for packages in [[("aa", &["x"]), ("bb", &["x"])], [("bb", &["x"]), ("aa", &["x"])]] {
            let packages = packages.map(|(name, items)| (name, items.as_slice()));
            for (who, whom) in [("aa", "bb"), ("bb", "aa (<< 2)")] {
                let shown = unpacked(&Tree::new(), &packages, &[(who, whom)], "").unwrap();
                assert_eq!(shown[1..], [format!("/x f 644 package:{who}"), format!("{who} took /x from {}", &whom[..2])]);
            }
            assert!(unpacked(&Tree::new(), &packages, &[("bb", "aa (<< 1)")], "").is_err(), "another version is replaced");
        }
    }

    #[test]
    fn what_was_taken_over_is_struck_off_the_list() {
        let list = b"/.\n/bin\n/bin/x\n/usr/bin/y\n";
        assert_eq!(strike_off(list, &[&path("usr/bin/x")]), b"/.\n/bin\n/usr/bin/y\n");
    }

    #[test]
    fn a_diverted_file_goes_elsewhere() {
        let shown =
            unpacked(&Tree::new(), &[("aa", &["usr/bin/x"]), ("bb", &["usr/bin/x"])], &[], "/bin/x\n/bin/x.real\nbb\n").unwrap();
        assert_eq!(shown[3..], ["/usr/bin/x f 644 package:bb", "/usr/bin/x.real f 644 package:aa"]);
    }

    #[test]
    fn of_two_names_of_a_path_the_real_one_says_where_a_file_goes() {
        // As `zutils` has it, so that gzip's file is out of the way whichever of the two gzip ships.
        for order in [
            "/usr/bin/x\n/usr/bin/x.real\nbb\n/bin/x\n/bin/x.real.usr-is-merged\nbb\n",
            "/bin/x\n/bin/x.real.usr-is-merged\nbb\n/usr/bin/x\n/usr/bin/x.real\nbb\n",
        ] {
            let shown = unpacked(&Tree::new(), &[("aa", &["usr/bin/x"])], &[], order).unwrap();
            assert_eq!(shown.last().unwrap(), "/usr/bin/x.real f 644 package:aa");
        }
    }

    #[test]
    fn who_diverts_replaces_what_still_stands_there() {
        let parent = tree("aa", &["usr/bin/x"]);
        let diversion = |by: &str| format!("/usr/bin/x\n/usr/bin/x.real\n{by}\n");
        let shown = unpacked(&parent, &[("bb", &["usr/bin/x"])], &[], &diversion("bb")).unwrap();
        assert_eq!(shown, ["/usr/bin/x f 644 package:bb"]);
        let shown = unpacked(&parent, &[("bb", &["usr/bin/x"])], &[], &diversion("cc")).unwrap();
        assert!(shown.ends_with(&["/usr/bin/x f 644 package:aa".to_owned(), "/usr/bin/x.real f 644 package:bb".to_owned()]));
    }

    #[test]
    fn what_one_ships_through_the_link_of_another_lands_behind_it() {
        let shown =
            unpacked(&Tree::new(), &[("aa", &["lib/", "lib/y/", "lib/y/z"]), ("bb", &["lib -> ./usr/lib", "usr/lib/"])], &[], "")
                .unwrap();
        assert_eq!(
            shown[1..],
            [
                "/lib -> ./usr/lib 777 package:bb",
                "/usr d 755 parvis",
                "/usr/lib d 755 package:bb",
                "/usr/lib/y d 755 package:aa",
                "/usr/lib/y/z f 644 package:aa"
            ]
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_refused() {
        let error = unpacked(&Tree::new(), &[("aa", &["a/b"]), ("bb", &["a -> c", "c -> a"])], &[], "").unwrap_err();
        assert!(error.starts_with("`/a/b` of `aa` goes through"), "{error}");
        let shown = unpacked(&Tree::new(), &[("aa", &["a/b"]), ("bb", &["a -> ../../etc"])], &[], "").unwrap();
        assert!(shown.contains(&"/etc/b f 644 package:aa".to_owned()), "a link that climbs stays inside: {shown:?}");
    }

    #[test]
    fn what_a_script_left_gives_way_but_not_what_a_recipe_declares() {
        let mut parent = Tree::new();
        let recipe = Origin::Recipe { image: "base".parse().unwrap(), line: 7 };
        for (at, origin) in [("x", Origin::Script("old".parse().unwrap())), ("y", recipe)] {
            parent.put(path(at), Entry::file(FileDigest::of(b""), 0, 0o600, 0, origin));
        }
        assert_eq!(unpacked(&parent, &[("aa", &["x"])], &[], "").unwrap()[0], "/x f 644 package:aa");
        let error = unpacked(&parent, &[("aa", &["y"])], &[], "").unwrap_err();
        assert_eq!(error, "`/y` is shipped by `aa`, but `recipe:base:7` has put something there");
    }
}
