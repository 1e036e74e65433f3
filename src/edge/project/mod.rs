//! The project's folder: its own files, and the sources below `images/NAME/` that go into images.

mod cache;
mod source;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::edge::draft::DraftFile;
use crate::failure::Failure;
use crate::model::catalog::Catalog;
use crate::model::name::{ImageName, InvalidName, PartName};
use crate::model::number::Number;
use crate::model::problem::{Problem, Source, shown};
use crate::model::project::Project;
use crate::model::releases::{self, Record};
use crate::model::stack::Stack;
use crate::model::tree::TreePath;
use crate::model::yaml::{self, Placed};

pub use cache::StatCache;
pub use source::{CheckedSource, SourceFile, SourceKind};

/// The name of the project file, which makes a folder a project.
pub const PROJECT_FILE: &str = "parvis.yaml";

/// The folder of the recipes.
pub const RECIPES: &str = "recipes";

/// The folder of the images' own files.
pub const IMAGES: &str = "images";

/// The folder of the stacks.
pub const STACKS: &str = "compose";

/// How many recipes, or stacks, a project may have.
const MOST_RECIPES: usize = 1000;
/// Names of a folder that is listed, at most.
const MOST_ENTRIES: usize = 10_000;

/// A project folder that cannot be read as one.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("neither `{start}` nor a folder above it holds `{PROJECT_FILE}`")]
    NotFound { start: PathBuf },
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error("`{path}` leaves the project: {how}")]
    Leaves { path: String, how: &'static str },
    #[error("`{path}` is {what}, not a file or folder")]
    Kind { path: String, what: &'static str },
    #[error("the file `{path}` does not exist")]
    Missing { path: String },
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge { path: String, limit: u64 },
    #[error("`{path}` holds more than {limit} entries")]
    TooMany { path: String, limit: usize },
    #[error("`{path}` is not the name of a {kind} file")]
    FileName { path: String, kind: &'static str, hint: String },
    #[error("`{path}` changed while it was read")]
    Changed { path: String },
    #[error("the name of `{path}` cannot be that of a file in an image")]
    Name { path: String, source: crate::model::tree::InvalidPath },
    #[error("cannot {action} `{path}`")]
    Io { action: &'static str, path: String, source: io::Error },
}

impl ProjectError {
    /// Returns the next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "go to the project's folder, or name it with `--project`".into(),
            Self::Problem(problem) => return problem.hint.clone(),
            Self::Leaves { .. } => {
                "put a copy of the file below `images/NAME/`; for a link in the image, write `link:` in the recipe".into()
            }
            Self::Kind { .. } => "remove it from the folder".into(),
            Self::Missing { .. } => "create it, or correct the path in the recipe".into(),
            Self::FileName { hint, .. } => hint.clone(),
            Self::Changed { .. } => "run it again when nothing writes to the project".into(),
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::Name { .. } | Self::Io { .. } => return None,
        })
    }
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::Problem(problem) => problem.into(),
            ProjectError::Io { action, path, source } if source.kind() == io::ErrorKind::NotFound => {
                Self::project(format!("cannot {action} `{path}`"))
                    .because(source)
                    .hint("name an existing folder with `--project`")
            }
            ProjectError::Io { action, path, source } => Self::world(format!("cannot {action} `{path}`")).because(source),
            other => Self::project(other.to_string()).maybe_hint(other.hint()),
        }
    }
}

/// A project's folder, held open: nothing that is reached through it lies outside.
///
/// ```text
/// parvis.yaml          the project
/// parvis.lock          what was resolved
/// recipes/NAME.yaml    how the image NAME is built
/// images/NAME/…        what the image NAME copies in
/// compose/NAME.yaml    what runs together in the stack NAME
/// ```
#[derive(Debug)]
pub struct ProjectFolder {
    root: PathBuf,
    handle: OwnedFd,
}

impl ProjectFolder {
    /// Finds the project that a folder belongs to: the nearest one upwards that holds `parvis.yaml`.
    pub fn find(start: &Path) -> Result<Self, ProjectError> {
        let absolute = fs::canonicalize(start).map_err(|source| failed("enter", start.as_os_str().as_bytes(), source))?;
        let found = absolute.ancestors().find(|folder| folder.join(PROJECT_FILE).symlink_metadata().is_ok());
        match found {
            Some(folder) => Self::open(folder),
            None => Err(ProjectError::NotFound { start: absolute }),
        }
    }

    /// Opens a folder as a project.
    pub fn open(root: &Path) -> Result<Self, ProjectError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| failed("enter", root.as_os_str().as_bytes(), error.into()))?;
        Ok(Self { root: root.to_owned(), handle })
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `parvis.yaml`.
    pub fn project(&self) -> Result<Project, ProjectError> {
        let source = self.text(PROJECT_FILE)?;
        Ok(Project::parse(&source.path, &source.text)?)
    }

    /// Reads all recipes, with the variables of a profile.
    pub fn catalog(&self, variables: &BTreeMap<String, String>) -> Result<Catalog, ProjectError> {
        let mut files = Vec::new();
        for name in self.names::<ImageName>(RECIPES, "recipe")? {
            let source = self.text(&format!("{RECIPES}/{name}.yaml"))?;
            files.push((name, source));
        }
        Ok(Catalog::parse(files, variables)?)
    }

    /// Returns the names of the stacks, sorted; none where there is no folder of stacks.
    pub fn stack_names(&self) -> Result<Vec<PartName>, ProjectError> {
        match self.names(STACKS, "stack") {
            Err(ProjectError::Missing { .. }) => Ok(Vec::new()),
            names => names,
        }
    }

    /// Reads which profile a stack belongs to, if any, with the file it stands in.
    pub fn stack_profile(&self, name: &PartName) -> Result<(Option<Placed<String>>, Source), ProjectError> {
        let source = self.text(&format!("{STACKS}/{name}.yaml"))?;
        Ok((Stack::profile(&source)?, source))
    }

    /// Reads the records of all releases, oldest number first. Other files may stand beside them.
    pub fn records(&self) -> Result<Vec<Record>, ProjectError> {
        let handle = match self.open_beneath(releases::FOLDER.as_bytes()) {
            Err(ProjectError::Missing { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let unreadable = |error: rustix::io::Errno| failed("read", releases::FOLDER.as_bytes(), error.into());
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&handle).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let stem = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(".yaml"));
            numbers.extend(stem.and_then(|stem| stem.parse::<Number>().ok()));
        }
        numbers.sort_unstable();
        let mut records = Vec::new();
        for number in numbers {
            let source = self.text(&format!("{}/{number}.yaml", releases::FOLDER))?;
            let record = Record::parse(&source)?;
            if record.version != number {
                return Err(source.problem(1, 1, format!("this is the record of {}, not of {number}", record.version)).into());
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Makes a folder of the project, unless it is there.
    pub fn make_folder(&self, name: &str) -> Result<(), ProjectError> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.open_beneath(name.as_bytes()).map(drop),
            Err(error) => Err(failed("make", name.as_bytes(), error.into())),
        }
    }

    /// Reads a stack, with the file it stands in.
    pub fn stack(
        &self,
        name: &PartName,
        variables: &BTreeMap<String, String>,
        catalog: &Catalog,
    ) -> Result<(Stack, Source), ProjectError> {
        let source = self.text(&format!("{STACKS}/{name}.yaml"))?;
        Ok((Stack::parse(name, &source, variables, catalog)?, source))
    }

    /// Reads a file of the project, of at most `limit` bytes; nothing where it does not exist.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ProjectError> {
        let handle = match self.open_beneath(path.as_bytes()) {
            Ok(handle) => handle,
            Err(ProjectError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if file_type(&handle, path.as_bytes())? != FileType::RegularFile {
            return Err(ProjectError::Kind { path: shown(path), what: "a folder" });
        }
        let mut content = Vec::new();
        let read = File::from(handle).take(limit.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|source| failed("read", path.as_bytes(), source))?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
            return Err(ProjectError::TooLarge { path: shown(path), limit });
        }
        Ok(Some(content))
    }

    /// Returns whether a file or folder of the project exists.
    pub fn exists(&self, path: &str) -> Result<bool, ProjectError> {
        match self.open_beneath(path.as_bytes()) {
            Ok(_) => Ok(true),
            Err(ProjectError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of what stands in a folder of the project, sorted, without what is hidden; none where there is no such folder.
    pub fn entries(&self, place: &str) -> Result<Vec<String>, ProjectError> {
        let handle = match self.open_beneath(place.as_bytes()) {
            Err(ProjectError::Missing { .. }) => return Ok(Vec::new()),
            handle => handle?,
        };
        let folder = Dir::read_from(&handle).map_err(|error| failed("read", place.as_bytes(), error.into()))?;
        let mut names = Vec::new();
        for entry in folder {
            let entry = entry.map_err(|error| failed("read", place.as_bytes(), error.into()))?;
            let name = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.'));
            names.extend(name.map(str::to_owned));
            if names.len() > MOST_ENTRIES {
                return Err(ProjectError::TooMany { path: place.into(), limit: MOST_ENTRIES });
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Replaces a file of the project in one step: the old one stays until the new one is whole. Its folder must exist.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), ProjectError> {
        let (folder, file) = name.rsplit_once('/').unwrap_or((".", name));
        let handle = self.open_beneath(folder.as_bytes())?;
        // What is reached through an open folder is in that folder, whatever happens to its name.
        let folder = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)));
        let write = || -> io::Result<()> {
            let mut draft = DraftFile::begin(&folder)?;
            draft.file_mut().write_all(content)?;
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            draft.file().set_permissions(permissions)?;
            draft.file().sync_all()?;
            draft.appear(&folder.join(file))?;
            rustix::fs::fsync(&handle).map_err(io::Error::from)
        };
        write().map_err(|source| failed("write", name.as_bytes(), source))
    }

    /// Returns the names of the YAML files of a folder, sorted.
    fn names<T: FromStr<Err = InvalidName> + Ord>(&self, place: &str, kind: &'static str) -> Result<Vec<T>, ProjectError> {
        let handle = self.open_beneath(place.as_bytes())?;
        let folder = Dir::read_from(&handle).map_err(|error| failed("read", place.as_bytes(), error.into()))?;
        let mut names: Vec<T> = Vec::new();
        for entry in folder {
            let entry = entry.map_err(|error| failed("read", place.as_bytes(), error.into()))?;
            let name = entry.file_name().to_bytes();
            // Editors leave hidden files and `name~` beside what they edit.
            if name.starts_with(b".") || name.ends_with(b"~") || name == b"README.md" {
                continue;
            }
            names.push(file_name(place, kind, name)?);
            if names.len() > MOST_RECIPES {
                return Err(ProjectError::TooMany { path: place.into(), limit: MOST_RECIPES });
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a file that must exist and be text.
    fn text(&self, path: &str) -> Result<Source, ProjectError> {
        let limit = yaml::LARGEST as u64;
        let content = self.read(path, limit)?.ok_or_else(|| ProjectError::Missing { path: shown(path) })?;
        match String::from_utf8(content) {
            Ok(text) => Ok(Source::new(path, &text)),
            Err(error) => {
                let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
                let line = good.matches('\n').count() + 1;
                let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                let source = Source::new(path, &String::from_utf8_lossy(error.as_bytes()));
                let at = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                Err(source.problem(at(line), at(column), "this is not UTF-8").hint("save the file as UTF-8").into())
            }
        }
    }

    /// Opens a file or folder below the project, through no link, and nothing else than a file or folder.
    fn open_beneath(&self, path: &[u8]) -> Result<OwnedFd, ProjectError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = |flags: OFlags| {
            rustix::fs::openat2(&self.handle, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
                .map_err(|error| refused(path, error))
        };
        // Looking comes first: opening a device may already do something, and opening a FIFO may wait for ever.
        let looked = open(OFlags::PATH | OFlags::NOFOLLOW)?;
        file_type(&looked, path)?;
        let opened = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        file_type(&opened, path)?;
        Ok(opened)
    }
}

/// Returns whether something is a file or a folder; refuses everything else.
fn file_type(handle: &OwnedFd, path: &[u8]) -> Result<FileType, ProjectError> {
    let stat = rustix::fs::fstat(handle).map_err(|error| failed("look at", path, error.into()))?;
    check_type(FileType::from_raw_mode(stat.st_mode), path)
}

fn check_type(kind: FileType, path: &[u8]) -> Result<FileType, ProjectError> {
    let what = match kind {
        FileType::RegularFile | FileType::Directory => return Ok(kind),
        FileType::Symlink => return Err(ProjectError::Leaves { path: name_of(path), how: "it is a symbolic link" }),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    };
    Err(ProjectError::Kind { path: name_of(path), what })
}

/// Says why the kernel did not open a path below the project.
fn refused(path: &[u8], error: Errno) -> ProjectError {
    let path_text = name_of(path);
    match error {
        Errno::XDEV => ProjectError::Leaves { path: path_text, how: "it lies outside the folder" },
        Errno::LOOP => ProjectError::Leaves { path: path_text, how: "it leads through a symbolic link" },
        Errno::NOENT | Errno::NOTDIR => ProjectError::Missing { path: path_text },
        Errno::NXIO | Errno::NODEV => ProjectError::Kind { path: path_text, what: "a socket or device" },
        other => failed("open", path, other.into()),
    }
}

fn file_name<T: FromStr<Err = InvalidName>>(place: &str, kind: &'static str, file: &[u8]) -> Result<T, ProjectError> {
    let path = || name_of(&[place.as_bytes(), b"/", file].concat());
    let refuse = |hint: String| ProjectError::FileName { path: path(), kind, hint };
    let text = std::str::from_utf8(file).unwrap_or_default();
    if let Some(stem) = text.strip_suffix(".yml") {
        return Err(refuse(format!("rename it to `{stem}.yaml`")));
    }
    let stem = text.strip_suffix(".yaml").ok_or_else(|| refuse(format!("keep only {kind} files in `{place}/`")))?;
    stem.parse().map_err(|error: InvalidName| refuse(error.to_string()))
}

fn failed(action: &'static str, path: &[u8], source: io::Error) -> ProjectError {
    ProjectError::Io { action, path: name_of(path), source }
}

fn name_of(path: &[u8]) -> String {
    shown(&String::from_utf8_lossy(path))
}

/// Returns the path of a source below the project.
fn source_path(image: &ImageName, below: &TreePath) -> Vec<u8> {
    let mut path = format!("{IMAGES}/{image}").into_bytes();
    if !below.is_root() {
        path.push(b'/');
        path.extend_from_slice(below.as_bytes());
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use rustix::fs::{CWD, mknodat};

    use super::*;

    const PROJECT: &str = "name: parish\ndescription: x\nsuites: [{name: trixie, archive: debian}]\n\
                           keyring: keys/a.gpg\nkeys: [0123456789ABCDEF0123456789ABCDEF01234567]\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn list(folder: &tempfile::TempDir, source: &str) -> Result<Vec<SourceFile>, ProjectError> {
        let project = ProjectFolder::open(folder.path()).unwrap();
        project.sources(&"httpd".parse().unwrap(), &TreePath::parse(source.as_bytes()).unwrap(), &mut StatCache::nowhere())
    }

    #[test]
    fn the_project_is_found_from_a_folder_inside_it() {
        let folder = folder(&[("parvis.yaml", PROJECT), ("images/httpd/etc/a", "x")]);
        let project = ProjectFolder::find(&folder.path().join("images/httpd/etc")).unwrap();
        assert_eq!(project.root(), fs::canonicalize(folder.path()).unwrap());
        assert_eq!(project.project().unwrap().name.as_str(), "parish");
        let error = ProjectFolder::find(Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "neither `/` nor a folder above it holds `parvis.yaml`");
    }

    #[test]
    fn recipes_are_read_and_joined() {
        let base = "description: x\nfrom: scratch\nconfig: {workdir: '${root}'}\n";
        let folder = folder(&[
            ("recipes/base.yaml", base),
            ("recipes/php.yaml", "description: x\nfrom: base\n"),
            ("recipes/.base.swp", ""),
        ]);
        let variables = [("root".to_owned(), "/app".to_owned())].into_iter().collect();
        let catalog = ProjectFolder::open(folder.path()).unwrap().catalog(&variables).unwrap();
        assert_eq!(catalog.len(), 2);
        assert_eq!(catalog.get("base").unwrap().recipe.config.workdir.as_deref(), Some("/app"));
    }

    #[test]
    fn what_is_no_recipe_is_not_passed_over() {
        for (name, hint) in [
            ("base.yml", "rename it to `base.yaml`"),
            ("notes.txt", "keep only recipe files in `recipes/`"),
            (
                "Base.yaml",
                "`Base` is not an image name: lowercase letters, digits, `-` and `_`, starting with a letter, at most 64",
            ),
        ] {
            let folder = folder(&[(&format!("recipes/{name}"), "")]);
            let error = ProjectFolder::open(folder.path()).unwrap().catalog(&BTreeMap::new()).unwrap_err();
            assert_eq!(
                (error.to_string(), error.hint().unwrap()),
                (format!("`recipes/{name}` is not the name of a recipe file"), hint.to_owned())
            );
        }
    }

    #[test]
    fn a_recipe_that_is_a_fifo_a_link_too_large_or_not_text_is_refused() {
        let outside = folder(&[("secret", "description: x\nfrom: scratch\n")]);
        let folder = folder(&[("recipes/x", "")]);
        fs::remove_file(folder.path().join("recipes/x")).unwrap();
        let path = folder.path().join("recipes/base.yaml");
        let read = || ProjectFolder::open(folder.path()).unwrap().catalog(&BTreeMap::new()).unwrap_err().to_string();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read(), "`recipes/base.yaml` is a FIFO, not a file or folder");
        fs::remove_file(&path).unwrap();
        symlink(outside.path().join("secret"), &path).unwrap();
        assert_eq!(read(), "`recipes/base.yaml` leaves the project: it is a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
        assert_eq!(read(), "`recipes/base.yaml` is larger than 1048576 bytes");
        fs::write(&path, b"description: x\nfrom: \xff\n").unwrap();
        assert_eq!(read(), "recipes/base.yaml:2:7: this is not UTF-8");
    }

    #[test]
    fn a_source_is_listed_without_owners_modes_and_dates() {
        let folder = folder(&[("images/httpd/etc/b", "xy"), ("images/httpd/etc/a/c", "")]);
        fs::set_permissions(folder.path().join("images/httpd/etc/b"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let listed = list(&folder, "etc").unwrap();
        let paths: Vec<String> = listed.iter().map(|file| file.path.to_string()).collect();
        assert_eq!(paths, ["/", "/a", "/a/c", "/b"]);
        let expected = SourceKind::File { digest: crate::model::digest::FileDigest::of(b"xy"), size: 2 };
        assert_eq!(listed[3].kind, expected);
        assert_eq!(list(&folder, "etc/b").unwrap(), [SourceFile { path: TreePath::root(), kind: expected }]);
    }

    #[test]
    fn a_source_that_leaves_the_project_is_refused() {
        let outside = folder(&[("secret", "x")]);
        let folder = folder(&[("images/httpd/etc/a", "x"), ("images/other/x", "x")]);
        let images = folder.path().join("images/httpd");
        symlink(outside.path().join("secret"), images.join("direct")).unwrap();
        symlink(outside.path(), images.join("folder")).unwrap();
        symlink("/proc/self/root/etc", images.join("magic")).unwrap();
        symlink("../httpd/etc", images.join("inside")).unwrap();
        for (source, how) in [
            ("direct", "is"),
            ("folder/secret", "leads through"),
            ("magic/passwd", "leads through"),
            ("inside/a", "leads through"),
        ] {
            let error = list(&folder, source).unwrap_err().to_string();
            assert_eq!(error, format!("`images/httpd/{source}` leaves the project: it {how} a symbolic link"));
        }
        let error = list(&folder, ".").unwrap_err().to_string();
        assert!(error.ends_with("leaves the project: it is a symbolic link"), "{error}");
        assert_eq!(list(&folder, "none").unwrap_err().to_string(), "the file `images/httpd/none` does not exist");
        let project = ProjectFolder::open(folder.path()).unwrap();
        for path in ["../../etc/passwd", "/etc/passwd", "images/../../x"] {
            let error = project.read(path, 10).unwrap_err().to_string();
            assert_eq!(error, format!("`{path}` leaves the project: it lies outside the folder"));
        }
    }

    #[test]
    fn a_fifo_socket_or_device_as_source_is_refused_and_never_waited_for() {
        let folder = folder(&[("images/httpd/etc/a", "x")]);
        let place = |name: &str| folder.path().join("images/httpd/etc").join(name);
        let start = Instant::now();
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for source in ["etc/fifo", "etc"] {
            assert_eq!(list(&folder, source).unwrap_err().to_string(), "`images/httpd/etc/fifo` is a FIFO, not a file or folder");
        }
        fs::remove_file(place("fifo")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        assert_eq!(
            list(&folder, "etc/socket").unwrap_err().to_string(),
            "`images/httpd/etc/socket` is a socket, not a file or folder"
        );
        fs::remove_file(place("socket")).unwrap();
        // Only root can make a device.
        if mknodat(CWD, place("device"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).is_ok() {
            assert_eq!(
                list(&folder, "etc").unwrap_err().to_string(),
                "`images/httpd/etc/device` is a device, not a file or folder"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn content_that_is_swapped_after_it_was_listed_is_noticed() {
        let folder = folder(&[("images/httpd/a", "old")]);
        let project = ProjectFolder::open(folder.path()).unwrap();
        let (image, source) = ("httpd".parse().unwrap(), TreePath::parse(b"a").unwrap());
        let listed = project.sources(&image, &source, &mut StatCache::nowhere()).unwrap();
        let take = || {
            let mut content = Vec::new();
            project.open_source(&image, &source, &listed[0]).unwrap().read_to_end(&mut content).map(|_| content)
        };
        assert_eq!(take().unwrap(), b"old");
        for swapped in ["new", "longer", "", "ol"] {
            fs::write(folder.path().join("images/httpd/a"), swapped).unwrap();
            assert_eq!(take().unwrap_err().to_string(), "`images/httpd/a` changed while it was read", "{swapped}");
        }
        fs::remove_file(folder.path().join("images/httpd/a")).unwrap();
        symlink("/etc/passwd", folder.path().join("images/httpd/a")).unwrap();
        assert!(project.open_source(&image, &source, &listed[0]).is_err());
    }

    #[test]
    fn a_file_at_rest_is_digested_once_and_a_changed_one_again() {
        let folder = folder(&[("images/httpd/a", "old")]);
        let kept = folder.path().join("cache/stat");
        let project = ProjectFolder::open(folder.path()).unwrap();
        let (image, source) = ("httpd".parse().unwrap(), TreePath::parse(b"a").unwrap());
        let read = |cache: &mut StatCache| match project.sources(&image, &source, cache).unwrap()[0].kind {
            SourceKind::File { digest, .. } => digest,
            SourceKind::Directory => panic!("a file"),
        };
        let mut young = StatCache::load(&kept);
        read(&mut young);
        young.save().unwrap();
        assert!(!kept.exists(), "a file written this second is racy");

        let mut cache = StatCache::load(&kept);
        cache.pretend_later(10);
        let digest = read(&mut cache);
        cache.save().unwrap();
        // An entry that lies shows that the file itself is not read again.
        let lying = fs::read_to_string(&kept).unwrap().replace(&digest.hex(), &"0".repeat(64));
        fs::write(&kept, lying).unwrap();
        assert_eq!(read(&mut StatCache::load(&kept)).hex(), "0".repeat(64));
        fs::write(folder.path().join("images/httpd/a"), "new").unwrap();
        assert_eq!(read(&mut StatCache::load(&kept)), crate::model::digest::FileDigest::of(b"new"));
        fs::write(&kept, "parvis-stat 1\nnonsense\n").unwrap();
        assert_eq!(read(&mut StatCache::load(&kept)), crate::model::digest::FileDigest::of(b"new"));
    }

    #[test]
    fn a_file_is_replaced_in_one_step() {
        let folder = folder(&[("parvis.lock", "old")]);
        let project = ProjectFolder::open(folder.path()).unwrap();
        project.replace("parvis.lock", b"new").unwrap();
        fs::create_dir_all(folder.path().join("images/a")).unwrap();
        project.replace("images/a/composer.lock", b"x").unwrap();
        assert_eq!(project.read("images/a/composer.lock", 10).unwrap().as_deref(), Some(b"x".as_slice()));
        fs::remove_dir_all(folder.path().join("images")).unwrap();
        symlink("/tmp", folder.path().join("images")).unwrap();
        let error = project.replace("images/parvis-test", b"x").unwrap_err().to_string();
        assert_eq!(error, "`images` leaves the project: it is a symbolic link");
        fs::remove_file(folder.path().join("images")).unwrap();
        assert_eq!(project.read("parvis.lock", 10).unwrap().as_deref(), Some(b"new".as_slice()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(project.read("none", 10).unwrap(), None);
    }
}
