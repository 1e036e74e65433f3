//! What a lock decides of Composer projects, and what differs from it.

use std::collections::BTreeMap;
use std::fmt;

use crate::composer::wanted::Wanted;
use crate::model::address::Address;
use crate::model::digest::DownloadDigest;
use crate::model::lock::Lock;
use crate::model::lock::composer::{DownloadKind, LockedComposer, LockedDownload};
use crate::model::name::ImageName;
use crate::model::recipe::Recipe;

/// The files that decide what a project installs, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFiles {
    pub image: ImageName,
    /// The folder below `images/IMAGE/`.
    pub project: String,
    pub composer_json: DownloadDigest,
    /// Nothing where composer.lock does not exist.
    pub composer_lock: Option<DownloadDigest>,
}

impl ProjectFiles {
    /// Returns the folder below the project's own.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("images/{}/{}", self.image, self.project)
    }
}

/// Returns, for each file that is wanted, what the last lock says of it; nothing where that has to be found out anew.
///
/// What lies in the project is looked at each time: nothing else says whether it changed.
#[must_use]
pub fn kept(previous: Option<&LockedComposer>, wanted: &[Wanted], anew: impl Fn(&Wanted) -> bool) -> Vec<Option<LockedDownload>> {
    let known: BTreeMap<_, _> = previous
        .iter()
        .flat_map(|previous| &previous.downloads)
        .map(|download| ((download.kind, &download.package, &download.url), download))
        .collect();
    let keep = |wanted: &Wanted| {
        let known = known.get(&(wanted.kind, &wanted.package, &wanted.url))?;
        let same = known.reference == wanted.reference && known.version == wanted.version;
        let kept = same && matches!(wanted.address, Address::Network(_)) && !anew(wanted);
        kept.then(|| locked(wanted, known.sha256, known.size))
    };
    wanted.iter().map(keep).collect()
}

/// Returns what the lock says of a file.
#[must_use]
pub fn locked(wanted: &Wanted, sha256: DownloadDigest, size: u64) -> LockedDownload {
    let Wanted { kind, package, title, version, reference, url, licence, .. } = wanted.clone();
    LockedDownload { kind, package, title, version, reference, url, size, sha256, licence }
}

/// One thing in which two locks, or a lock and a project, differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectDifference {
    NotLocked {
        folder: String,
    },
    NoLock {
        folder: String,
    },
    Definition {
        folder: String,
    },
    Decision {
        folder: String,
    },
    NoProject {
        image: ImageName,
    },
    Added {
        name: String,
    },
    Removed {
        name: String,
    },
    Moved {
        package: String,
        from: String,
        to: String,
    },
    /// The same version with another content, reference or address.
    Changed {
        name: String,
    },
}

impl fmt::Display for ProjectDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocked { folder } => write!(formatter, "the Composer project `{folder}` is not locked yet"),
            Self::NoLock { folder } => write!(formatter, "`{folder}/composer.lock` does not exist"),
            Self::Definition { folder } => write!(formatter, "`{folder}/composer.json` changed"),
            Self::Decision { folder } => write!(formatter, "`{folder}/composer.lock` changed"),
            Self::NoProject { image } => write!(formatter, "image `{image}` has no Composer project any more"),
            Self::Added { name } => write!(formatter, "+ {name}"),
            Self::Removed { name } => write!(formatter, "- {name}"),
            Self::Moved { package, from, to } => write!(formatter, "  {package} {from} -> {to}"),
            Self::Changed { name } => write!(formatter, "  {name}: its content, reference or place"),
        }
    }
}

/// Says in what a lock does not match the projects of the recipes.
#[must_use]
pub fn drift<'a>(lock: &Lock, projects: &[ProjectFiles], recipes: impl Iterator<Item = &'a Recipe>) -> Vec<ProjectDifference> {
    let mut found = Vec::new();
    for files in projects {
        let folder = files.folder();
        let locked = lock.composer.iter().find(|locked| locked.image == files.image && locked.project == files.project);
        let Some(locked) = locked else {
            found.push(ProjectDifference::NotLocked { folder });
            continue;
        };
        if locked.composer_json != files.composer_json {
            found.push(ProjectDifference::Definition { folder: folder.clone() });
        }
        match files.composer_lock {
            None => found.push(ProjectDifference::NoLock { folder }),
            Some(digest) if digest != locked.composer_lock => found.push(ProjectDifference::Decision { folder }),
            Some(_) => {}
        }
    }
    let with: Vec<&ImageName> = recipes.filter(|recipe| recipe.composer.is_some()).map(|recipe| &recipe.name).collect();
    for locked in lock.composer.iter().filter(|locked| !with.contains(&&locked.image)) {
        found.push(ProjectDifference::NoProject { image: locked.image.clone() });
    }
    found
}

/// Returns what differs between two locks.
#[must_use]
pub fn differences(before: &[LockedComposer], after: &[LockedComposer]) -> Vec<ProjectDifference> {
    let index = |projects: &'_ [LockedComposer]| -> BTreeMap<_, LockedDownload> {
        let of = |project: &LockedComposer| {
            let place = (project.image.clone(), project.project.clone());
            project
                .downloads
                .iter()
                .map(move |download| ((place.clone(), identity(download)), download.clone()))
                .collect::<Vec<_>>()
        };
        projects.iter().flat_map(of).collect()
    };
    let (old, new) = (index(before), index(after));
    let mut found = Vec::new();
    for (key, from) in &old {
        match new.get(key) {
            None => found.push(ProjectDifference::Removed { name: from.name() }),
            Some(to) if from.kind == DownloadKind::Dist && from.version != to.version => {
                let version = |version: &Option<String>| version.clone().unwrap_or_default();
                let (from, to, package) = (version(&from.version), version(&to.version), from.package.clone());
                found.push(ProjectDifference::Moved { package, from, to });
            }
            Some(to) if from != to => found.push(ProjectDifference::Changed { name: to.name() }),
            Some(_) => {}
        }
    }
    found
        .extend(new.iter().filter(|(key, _)| !old.contains_key(key)).map(|(_, to)| ProjectDifference::Added { name: to.name() }));
    for project in after {
        let folder = || format!("images/{}/{}", project.image, project.project);
        let old = before.iter().find(|old| (&old.image, &old.project) == (&project.image, &project.project));
        match old {
            None => found.push(ProjectDifference::NotLocked { folder: folder() }),
            Some(old) => {
                if old.composer_json != project.composer_json {
                    found.push(ProjectDifference::Definition { folder: folder() });
                }
                if old.composer_lock != project.composer_lock {
                    found.push(ProjectDifference::Decision { folder: folder() });
                }
            }
        }
    }
    for old in before.iter().filter(|old| !after.iter().any(|new| (&new.image, &new.project) == (&old.image, &old.project))) {
        found.push(ProjectDifference::NoProject { image: old.image.clone() });
    }
    found
}

/// What makes two entries of two locks the same thing: a distribution may move, anything else is where it is.
fn identity(download: &LockedDownload) -> (String, DownloadKind, Option<String>, Option<String>) {
    let LockedDownload { kind, package, title, url, .. } = download;
    let (title, url) = match kind {
        DownloadKind::Dist => (None, None),
        DownloadKind::Download => (title.clone(), None),
        DownloadKind::Patch => (None, Some(url.clone())),
    };
    (package.clone(), *kind, title, url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: DownloadKind, url: &str, version: &str) -> Wanted {
        Wanted {
            kind,
            package: "acme/a".into(),
            title: None,
            version: Some(version.into()),
            reference: None,
            url: url.into(),
            address: Address::parse(url).unwrap(),
            sha1: None,
            mirrors: crate::composer::locked::Mirrors::default(),
            licence: Vec::new(),
        }
    }

    fn project(downloads: Vec<LockedDownload>) -> LockedComposer {
        LockedComposer {
            image: "files".parse().unwrap(),
            project: "site".into(),
            composer_json: DownloadDigest::of(b"{}"),
            composer_lock: DownloadDigest::of(b"{ }"),
            downloads,
        }
    }

    fn digest(text: &str) -> DownloadDigest {
        DownloadDigest::of(text.as_bytes())
    }

    #[test]
    fn what_comes_from_the_network_keeps_its_digest_and_what_lies_here_is_looked_at() {
        let [far, near] =
            [wanted(DownloadKind::Dist, "https://d.example/a.zip", "1"), wanted(DownloadKind::Patch, "a.patch", "1")];
        let previous = project(vec![locked(&far, digest("far"), 3), locked(&near, digest("near"), 4)]);
        let list = [far.clone(), near];
        assert_eq!(kept(Some(&previous), &list, |_| false), [Some(previous.downloads[0].clone()), None]);
        assert_eq!(kept(Some(&previous), &list, |_| true), [None, None]);
        let moved = Wanted { reference: Some("other".into()), ..far };
        assert_eq!(kept(Some(&previous), &[moved], |_| false), [None], "a tag that was moved is another archive");
        assert_eq!(kept(None, &list, |_| false), [None, None]);
    }

    #[test]
    fn what_differs_is_told_in_words() {
        let dist = |url: &str, version: &str| locked(&wanted(DownloadKind::Dist, url, version), digest(url), 1);
        let patch = |url: &str, content: &str| locked(&wanted(DownloadKind::Patch, url, "1"), digest(content), 1);
        let before = [project(vec![dist("a-1.zip", "1"), patch("a.patch", "old"), patch("b.patch", "b")])];
        let mut after = project(vec![dist("a-2.zip", "2"), patch("a.patch", "new"), patch("c.patch", "c")]);
        after.composer_lock = digest("another");
        let said: Vec<String> = differences(&before, &[after]).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "  acme/a 1 -> 2",
                "  patch of acme/a: its content, reference or place",
                "- patch of acme/a",
                "+ patch of acme/a",
                "`images/files/site/composer.lock` changed"
            ]
        );
        assert_eq!(differences(&before, &before), []);
    }

    #[test]
    fn a_lock_and_a_project_that_do_not_match_are_told_apart() {
        let lock = Lock { composer: vec![project(Vec::new())], ..Lock::empty() };
        let files = ProjectFiles {
            image: "files".parse().unwrap(),
            project: "site".into(),
            composer_json: digest("{}"),
            composer_lock: Some(digest("{ }")),
        };
        let variables = BTreeMap::new();
        let text = "description: x\nfrom: scratch\ncomposer: {project: site, to: /app, with: a, platform: a, owner: '0:0', mode: '0440'}\n";
        let recipe = Recipe::parse(&files.image, "files.yaml", text, &variables).unwrap();
        let said = |files: ProjectFiles| -> Vec<String> {
            drift(&lock, &[files], std::iter::once(&recipe)).iter().map(ToString::to_string).collect()
        };
        assert!(said(files.clone()).is_empty());
        let changed = ProjectFiles { composer_json: digest("x"), composer_lock: None, ..files.clone() };
        assert_eq!(
            said(changed),
            ["`images/files/site/composer.json` changed", "`images/files/site/composer.lock` does not exist"]
        );
        let other = ProjectFiles { project: "other".into(), ..files };
        assert_eq!(said(other), ["the Composer project `images/files/other` is not locked yet"]);
        let gone: Vec<String> = drift(&lock, &[], std::iter::empty()).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["image `files` has no Composer project any more"]);
    }
}
