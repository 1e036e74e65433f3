//! What the `git` program knows of a project: its commit, whether something differs from it, files as they were, new repositories.
//!
//! git is asked with no configuration of the user but who they are, no hooks, no prompts, and no environment that points elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::model::tree::TreePath;

/// Bytes of a file in a commit, or of any answer, at most.
const LIMIT: usize = 64 << 20;

/// Something that git could not do.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("this machine has no `git`")]
    Missing,
    #[error("cannot start `git`")]
    Start(#[source] io::Error),
    #[error("`{folder}` is in no git repository")]
    NoRepository { folder: PathBuf },
    #[error("the git repository `{folder}` has no commit yet")]
    NoCommit { folder: PathBuf },
    #[error("`{path}` is a repository of its own, of which a commit has only the name")]
    Nested { path: String },
    #[error("git could not {action}: {said}")]
    Failed { action: &'static str, said: String },
    #[error("git answered something else than {expected}")]
    Answer { expected: &'static str },
    #[error("cannot write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl GitError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("install it: `apt install git`"),
            Self::NoRepository { .. } => Some("a release names the commit it was made from: `git init`, then commit the project"),
            Self::NoCommit { .. } => Some("commit the project first"),
            Self::Nested { .. } => Some("take its files into the project"),
            Self::Failed { .. } | Self::Start(_) | Self::Answer { .. } | Self::Write { .. } => None,
        }
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The committer's date, in seconds since 1970.
    pub date: i64,
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Relative to the folder.
    pub path: String,
    /// As git writes it: `100644`, `100755`, `120000`.
    pub mode: String,
    pub content: Vec<u8>,
}

/// What a commit has at some paths.
#[derive(Debug, Default)]
struct Listed {
    /// Files, without their contents, and the names of those.
    files: Vec<(TreeFile, String)>,
    /// Repositories of their own.
    nested: Vec<String>,
}

/// A folder in a repository.
#[derive(Debug)]
pub struct Git {
    folder: PathBuf,
}

impl Git {
    /// Looks at a folder, which must be in a repository.
    ///
    /// # Errors
    /// Says whether git or the repository is missing.
    pub fn open(folder: &Path) -> Result<Self, GitError> {
        let git = Self { folder: folder.to_owned() };
        match git.run("look at the folder", ["rev-parse", "--is-inside-work-tree"]) {
            Ok(answer) if answer.trim_ascii() == b"true" => Ok(git),
            Ok(_) | Err(GitError::Failed { .. }) => Err(GitError::NoRepository { folder: folder.to_owned() }),
            Err(error) => Err(error),
        }
    }

    /// Makes an empty repository whose first branch is `main`.
    pub fn init(folder: &Path) -> Result<Self, GitError> {
        let git = Self { folder: folder.to_owned() };
        git.run("make a repository", ["init", "--quiet", "--initial-branch=main"])?;
        Ok(git)
    }

    /// Makes an empty repository without a working tree, whose first branch is `main`.
    pub fn init_bare(folder: &Path) -> Result<Self, GitError> {
        let git = Self::at(folder);
        git.run("make a repository", ["init", "--quiet", "--bare", "--initial-branch=main"])?;
        Ok(git)
    }

    /// Takes a folder for what it is called, without looking.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the commit that the folder is at.
    pub fn head(&self) -> Result<Commit, GitError> {
        let answer = match self.run("read the commit", ["log", "-1", "--format=%H %ct"]) {
            Err(GitError::Failed { .. }) => return Err(GitError::NoCommit { folder: self.folder.clone() }),
            other => text(other?)?,
        };
        let wrong = GitError::Answer { expected: "a commit and its date" };
        let Some((id, date)) = answer.trim().split_once(' ') else { return Err(wrong) };
        let is_id = id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        match date.parse() {
            Ok(date) if is_id => Ok(Commit { id: id.to_owned(), date }),
            _ => Err(wrong),
        }
    }

    /// Returns the paths below the folder that differ from the commit or are not in it, but for those that are ignored.
    pub fn dirty(&self) -> Result<Vec<String>, GitError> {
        let answer = self.run(
            "compare with the commit",
            ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", "."],
        )?;
        let lines = answer.split(|byte| *byte == 0).filter(|line| line.len() > 3);
        let prefix = text(self.run("find the folder", ["rev-parse", "--show-prefix"])?)?;
        let prefix = prefix.trim_end_matches('\n').as_bytes();
        Ok(lines.map(|line| String::from_utf8_lossy(line[3..].strip_prefix(prefix).unwrap_or(&line[3..])).into_owned()).collect())
    }

    /// Returns the files below these paths of the folder that are otherwise than in a commit, or are not in it and not ignored.
    ///
    /// # Errors
    /// Where the repository does not have the commit.
    pub fn changed_since(&self, commit: &str, below: &[&str]) -> Result<Vec<String>, GitError> {
        let whole = format!("{commit}^{{commit}}");
        self.run("find the commit", ["cat-file", "-e", &whole])?;
        let listed = |arguments: &[&str]| -> Result<Vec<u8>, GitError> {
            let all: Vec<&str> = arguments.iter().copied().chain(["--"]).chain(below.iter().copied()).collect();
            self.run("compare with the commit", all)
        };
        let mut answer = listed(&["diff", "--name-only", "-z", "--relative", "--no-renames", "--no-ext-diff", commit])?;
        answer.extend(listed(&["ls-files", "--others", "--exclude-standard", "-z"])?);
        let mut changed: Vec<String> = answer
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    /// Returns the commits after one up to another that touched something at or below these paths of the folder, the newest first: their
    /// ids, and the first lines of what was written about them.
    ///
    /// # Errors
    /// Where the repository does not have both commits.
    pub fn log(&self, after: &str, until: &str, below: &[&str]) -> Result<Vec<(String, String)>, GitError> {
        let range = format!("{after}..{until}");
        let options = ["log", "-z", "--no-show-signature", "--no-color", "--topo-order", "--format=%H %s", &range, "--"];
        let answer = text(self.run("list what was changed", options.into_iter().chain(below.iter().copied()))?)?;
        let commits = answer.split('\0').filter_map(|line| line.split_once(' '));
        Ok(commits.map(|(id, subject)| (id.to_owned(), subject.to_owned())).collect())
    }

    /// Returns the paths of all files of the commit, relative to the folder.
    pub fn files(&self) -> Result<Vec<String>, GitError> {
        let answer = self.run("list the files of the commit", ["ls-tree", "-r", "-z", "--name-only", "HEAD", "."])?;
        let names = answer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        names.map(|name| text(name.to_vec())).collect()
    }

    /// Returns whether the repository has a commit, by its 40 hexadecimal digits.
    pub fn has(&self, commit: &str) -> Result<bool, GitError> {
        match self.run("look for the commit", ["cat-file", "-e", &format!("{commit}^{{commit}}")]) {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes files of a commit, as it has them and without any conversion, into an empty folder: those that stand at or below
    /// these paths of the folder. Links to other repositories are left out.
    ///
    /// # Errors
    /// Refuses paths that lead elsewhere.
    pub fn export(&self, commit: &str, paths: &[&str], into: &Path) -> Result<(), GitError> {
        let mut links = Vec::new();
        for TreeFile { path, mode, content } in self.read(self.list(commit, paths)?.files)? {
            let path = into.join(path);
            let failed = |source| GitError::Write { path: path.clone(), source };
            fs::create_dir_all(path.parent().unwrap_or(into)).map_err(failed)?;
            match mode.as_str() {
                // Links come last, so that no file is written through one.
                "120000" => links.push((path, content)),
                _ => fs::write(&path, content).map_err(failed)?,
            }
        }
        for (path, target) in links {
            let failed = |source| GitError::Write { path: path.clone(), source };
            std::os::unix::fs::symlink(OsStr::from_bytes(&target), &path).map_err(failed)?;
        }
        Ok(())
    }

    /// Returns every file of a commit below the folder, with its mode and content; links are files that hold their target.
    ///
    /// # Errors
    /// Refuses paths that lead elsewhere, and other repositories inside of this one, of which a commit has only the name.
    pub fn contents(&self, commit: &str) -> Result<Vec<TreeFile>, GitError> {
        let Listed { files, mut nested } = self.list(commit, &["."])?;
        match nested.pop() {
            Some(path) => Err(GitError::Nested { path }),
            None => self.read(files),
        }
    }

    /// Lists the files of a commit at or below paths.
    fn list(&self, commit: &str, paths: &[&str]) -> Result<Listed, GitError> {
        let arguments = ["ls-tree", "-r", "-z", commit, "--"].into_iter().chain(paths.iter().copied());
        let answer = self.run("list the files of the commit", arguments)?;
        let wrong = || GitError::Answer { expected: "a list of files" };
        let mut listed = Listed::default();
        for line in answer.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            let line = text(line.to_vec())?;
            let (about, name) = line.split_once('\t').ok_or_else(wrong)?;
            let path = name.to_owned();
            let words: Vec<&str> = about.split(' ').collect();
            let [mode, "blob", object] = words[..] else {
                listed.nested.push(path);
                continue;
            };
            let plain = TreePath::parse(name.as_bytes()).is_ok_and(|path| !path.is_root() && path.as_bytes() == name.as_bytes());
            if !plain {
                return Err(wrong());
            }
            listed.files.push((TreeFile { path, mode: mode.to_owned(), content: Vec::new() }, object.to_owned()));
        }
        Ok(listed)
    }

    /// Reads the contents of files.
    fn read(&self, files: Vec<(TreeFile, String)>) -> Result<Vec<TreeFile>, GitError> {
        let objects: String = files.iter().map(|(_, object)| format!("{object}\n")).collect();
        let answer = self.run_fed("read the files of the commit", ["cat-file", "--batch"], &[], objects.as_bytes())?;
        let wrong = || GitError::Answer { expected: "the contents of files" };
        let mut rest = &answer[..];
        let mut read = Vec::new();
        for (file, _) in files {
            // `ID blob SIZE`, the content, a line feed.
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(wrong)?;
            let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
            let begin = end + 1;
            let after = size.and_then(|size| begin.checked_add(size)).filter(|after| *after < rest.len()).ok_or_else(wrong)?;
            read.push(TreeFile { content: rest[begin..after].to_vec(), ..file });
            rest = &rest[after + 1..];
        }
        Ok(read)
    }

    /// Runs git with these arguments and returns what it printed.
    ///
    /// # Errors
    /// Says what it was to do, and git's own last line.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        action: &'static str,
        arguments: I,
    ) -> Result<Vec<u8>, GitError> {
        self.run_with(action, arguments, &[])
    }

    /// As [`Git::run`], with variables of the environment.
    pub fn run_with<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        action: &'static str,
        arguments: I,
        environment: &[(&str, &str)],
    ) -> Result<Vec<u8>, GitError> {
        self.run_fed(action, arguments, environment, &[])
    }

    /// As [`Git::run_with`], with something to read.
    pub fn run_fed<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        action: &'static str,
        arguments: I,
        environment: &[(&str, &str)],
        input: &[u8],
    ) -> Result<Vec<u8>, GitError> {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CEILING_DIRECTORIES"] {
            command.env_remove(name);
        }
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"]);
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command.envs(environment.iter().copied()).args(arguments);
        command.current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::Missing,
            _ => GitError::Start(error),
        })?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // git that does not read to the end says why by itself.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(GitError::Start)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(GitError::Failed { action, said: said.chars().take(300).flat_map(char::escape_debug).collect() });
        }
        if output.stdout.len() > LIMIT {
            return Err(GitError::Answer { expected: "64 MiB at most" });
        }
        Ok(output.stdout)
    }
}

fn text(bytes: Vec<u8>) -> Result<String, GitError> {
    String::from_utf8(bytes).map_err(|_| GitError::Answer { expected: "UTF-8" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> (tempfile::TempDir, Git) {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init(folder.path()).unwrap();
        for (key, value) in [("user.name", "Somebody"), ("user.email", "somebody@example.org"), ("commit.gpgsign", "false")] {
            git.run("configure", ["config", key, value]).unwrap();
        }
        (folder, git)
    }

    fn commit(git: &Git) {
        git.run("add", ["add", "-A"]).unwrap();
        let date = [("GIT_COMMITTER_DATE", "@1700000000 +0100")];
        git.run_with("commit", ["commit", "--quiet", "-m", "all"], &date).unwrap();
    }

    #[test]
    fn the_commit_and_what_differs_from_it_are_known() {
        let (folder, git) = repository();
        assert!(matches!(git.head().unwrap_err(), GitError::NoCommit { .. }));
        fs::create_dir(folder.path().join("project")).unwrap();
        fs::write(folder.path().join("project/é a.txt"), "1").unwrap();
        fs::write(folder.path().join(".gitignore"), "out\n").unwrap();
        commit(&git);
        assert_eq!(git.head().unwrap().date, 1_700_000_000);
        let project = Git::open(&folder.path().join("project")).unwrap();
        assert_eq!(project.files().unwrap(), ["é a.txt"]);
        let file = TreeFile { path: "é a.txt".into(), mode: "100644".into(), content: b"1".to_vec() };
        assert_eq!(project.contents("HEAD").unwrap(), [file]);
        assert!(project.dirty().unwrap().is_empty());
        fs::write(folder.path().join("project/é a.txt"), "2").unwrap();
        fs::write(folder.path().join("project/new"), "2").unwrap();
        fs::write(folder.path().join("project/out"), "ignored").unwrap();
        fs::write(folder.path().join("beside"), "not of the project").unwrap();
        assert_eq!(project.dirty().unwrap(), ["é a.txt", "new"]);
    }

    #[test]
    fn a_folder_outside_of_any_repository_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Git::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("is in no git repository"), "{error}");
    }
}
