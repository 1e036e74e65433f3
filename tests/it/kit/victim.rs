//! A folder beside the place of work that must never change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parvis::model::digest::FileDigest;
use tempfile::TempDir;

/// A folder with a file in it, and what it looked like when it was made.
pub struct Victim {
    folder: TempDir,
    before: String,
}

impl Victim {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("victim-").tempdir().unwrap();
        fs::write(folder.path().join("precious"), "do not touch").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let before = picture(folder.path());
        Self { folder, before }
    }

    pub fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    pub fn assert_unchanged(&self) {
        assert_eq!(picture(self.folder.path()), self.before, "the folder beside the work changed");
    }
}

/// Returns one line per file below a folder: path, type and mode, owner, modification time, content. Two equal pictures are two equal folders.
pub fn picture(root: &Path) -> String {
    fn walk(folder: &Path, root: &Path, lines: &mut Vec<String>) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.push(folder.to_owned());
        for path in paths {
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() && path != folder {
                walk(&path, root, lines);
                continue;
            }
            let content = if about.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if about.is_file() {
                FileDigest::of(&fs::read(&path).unwrap()).to_string()
            } else {
                String::new()
            };
            let name = path.strip_prefix(root).unwrap().display();
            let (mode, uid, gid, seconds, nanoseconds) =
                (about.mode(), about.uid(), about.gid(), about.mtime(), about.mtime_nsec());
            lines.push(format!("{name} {mode:o} {uid}:{gid} {seconds}.{nanoseconds} {content}"));
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_is_seen() {
        let changes: [fn(&Path); 5] = [
            |root| fs::write(root.join("precious"), "touched").unwrap(),
            |root| fs::write(root.join("folder/new"), "").unwrap(),
            |root| fs::remove_dir(root.join("folder")).unwrap(),
            |root| std::os::unix::fs::symlink("precious", root.join("link")).unwrap(),
            |root| {
                let file = fs::File::options().write(true).open(root.join("precious")).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            },
        ];
        for change in changes {
            let victim = Victim::new();
            victim.assert_unchanged();
            change(victim.folder.path());
            assert_ne!(picture(victim.folder.path()), victim.before);
        }
    }
}
