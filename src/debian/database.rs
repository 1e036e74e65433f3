//! The dpkg database as dpkg itself leaves it: what is known of each package, the files it owns, what it waits for.
//!
//! ```text
//! var/lib/dpkg/
//! ├── status              one paragraph per package, by name
//! ├── info/               NAME.list, NAME.md5sums, NAME.postinst …   in the package's own layer
//! ├── triggers/           File (paths waited for), one file per named trigger, Unincorp, Lock
//! └── lock, lock-frontend
//! ```
//!
//! Source: dpkg 1.22, `lib/dpkg/{parse,fields,dump,trigdeferred}.c` and the files it was seen to write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use md5::Digest as _;

use super::control::{ControlError, Paragraph, Paragraphs};
use super::package::{ControlFiles, TriggerLine};
use super::relation;
use crate::model::name::PackageName;
use crate::model::tree::{Tree, TreePath, escape};

/// Where the database stands.
const ADMIN: &str = "var/lib/dpkg";

/// A database that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("`/{ADMIN}/{file}` is not UTF-8")]
    Encoding { file: String },
    #[error("the package `{package}` has no proper field `{field}`: `{found}`")]
    Field { package: String, field: &'static str, found: String },
    #[error("what is known of a package cannot be read")]
    Control(#[from] ControlError),
    #[error("`/{ADMIN}/triggers/{file}` has the line `{line}`")]
    Trigger { file: String, line: String },
}

/// How far a package has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    NotInstalled,
    ConfigFiles,
    HalfInstalled,
    Unpacked,
    HalfConfigured,
    TriggersAwaited,
    TriggersPending,
    Installed,
}

impl State {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::NotInstalled, "not-installed"),
        (Self::ConfigFiles, "config-files"),
        (Self::HalfInstalled, "half-installed"),
        (Self::Unpacked, "unpacked"),
        (Self::HalfConfigured, "half-configured"),
        (Self::TriggersAwaited, "triggers-awaited"),
        (Self::TriggersPending, "triggers-pending"),
        (Self::Installed, "installed"),
    ];

    /// Returns dpkg's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(state, _)| *state)
    }
}

/// A regular file or anything else that a package installs, as the database has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledPath {
    /// The path as shipped.
    pub path: TreePath,
    /// The MD5 of a regular file in hexadecimal, where [`needs_md5`] asks for it.
    pub md5: Option<String>,
}

/// Computes the MD5 of a file as its bytes pass. It protects nothing; dpkg compares configuration files with it.
#[derive(Clone, Default)]
pub struct Md5(md5::Md5);

impl Md5 {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        let mut text = String::with_capacity(32);
        for byte in self.0.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Returns whether the database needs the MD5 of a regular file: of configuration files, and of all files where the
/// package brings no `md5sums`.
#[must_use]
pub fn needs_md5(control: &ControlFiles, shipped: &TreePath) -> bool {
    !control.members.contains_key("md5sums") || control.conffiles.iter().any(|conffile| conffile.path == *shipped)
}

/// Returns the files below `var/lib/dpkg/info` that belong to one package: path, mode, content.
#[must_use]
pub fn info_files(name: &PackageName, control: &ControlFiles, paths: &[InstalledPath]) -> Vec<(TreePath, u16, Vec<u8>)> {
    let stem = match control.field("Architecture") {
        Some(architecture) if control.is_multi_arch_same() => format!("{name}:{architecture}"),
        _ => name.to_string(),
    };
    let mut list = Vec::with_capacity(paths.len() * 48);
    for installed in paths {
        list.push(b'/');
        list.extend_from_slice(if installed.path.is_root() { b"." } else { installed.path.as_bytes() });
        list.push(b'\n');
    }
    let mut files = vec![("list", 0o644, list)];
    if !control.members.contains_key("md5sums") {
        files.push(("md5sums", 0o644, md5sums(control, paths)));
    }
    files.extend(control.members.iter().map(|(name, member)| (name.as_str(), member.mode, member.bytes.clone())));
    // The name of a package and that of a control file are plain and short, so the path cannot be refused.
    let path = |suffix: &str| TreePath::parse(format!("{ADMIN}/info/{stem}.{suffix}").as_bytes());
    files.into_iter().filter_map(|(suffix, mode, bytes)| Some((path(suffix).ok()?, mode, bytes))).collect()
}

/// Writes what dpkg writes for a package that brings no `md5sums`: its regular files but the configuration files.
fn md5sums(control: &ControlFiles, paths: &[InstalledPath]) -> Vec<u8> {
    let conffiles: BTreeSet<&TreePath> = control.conffiles.iter().map(|conffile| &conffile.path).collect();
    let mut sums = Vec::new();
    for installed in paths.iter().filter(|installed| !conffiles.contains(&installed.path)) {
        if let Some(md5) = &installed.md5 {
            sums.extend_from_slice(md5.as_bytes());
            sums.extend_from_slice(b"  ");
            sums.extend_from_slice(installed.path.as_bytes());
            sums.push(b'\n');
        }
    }
    sums
}

/// A line of the field `Conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ConffileLine {
    path: String,
    /// The MD5, or a word that dpkg puts in its place.
    md5: String,
    /// ` obsolete`, ` remove-on-upgrade`, or nothing.
    flags: String,
}

impl ConffileLine {
    fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut flags = String::new();
        for flag in [" remove-on-upgrade", " obsolete"] {
            if let Some(before) = rest.strip_suffix(flag) {
                rest = before;
                flags.insert_str(0, flag);
            }
        }
        let (path, md5) = rest.rsplit_once(' ')?;
        Some(Self { path: path.to_owned(), md5: md5.to_owned(), flags })
    }
}

/// What the database knows of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: PackageName,
    pub architecture: String,
    pub version: String,
    pub multi_arch_same: bool,
    pub state: State,
    /// Triggers that were activated and are not processed yet.
    pub triggers_pending: Vec<String>,
    /// Packages whose triggers must be processed before this one is installed.
    pub triggers_awaited: Vec<String>,
    /// What a person wants of the package and whether it is broken; `install ok`.
    selection: String,
    /// The fields before `Status`, then those up to `Conffiles`, then the description, then those dpkg does not know.
    head: String,
    middle: String,
    conffiles: Vec<ConffileLine>,
    description: String,
    tail: String,
}

/// What dpkg writes in place of an MD5 until a configuration file is installed, and for good if it is not shipped.
const NEW_CONFFILE: &str = "newconffile";

/// The fields between `Status` and `Conffiles`, in dpkg's order.
const MIDDLE: [&str; 20] = [
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
];

/// Where the fields that hold relations begin in [`MIDDLE`].
const RELATIONS: usize = 11;

impl Record {
    /// Builds the record of a package, as it is once it is installed.
    ///
    /// # Errors
    /// Refuses a control paragraph without a proper name, or with relations that dpkg could not read.
    pub fn of_package(control: &ControlFiles, paths: &[InstalledPath]) -> Result<Self, DatabaseError> {
        let paragraph = Paragraph::only(control.control.as_bytes())?;
        let mut record = Self::parse(&paragraph, normal_relations)?;
        let md5: BTreeMap<&TreePath, &str> =
            paths.iter().filter_map(|installed| Some((&installed.path, installed.md5.as_deref()?))).collect();
        let lines = control.conffiles.iter().map(|conffile| ConffileLine {
            path: format!("/{}", String::from_utf8_lossy(conffile.path.as_bytes())),
            md5: md5.get(&conffile.path).map_or_else(|| NEW_CONFFILE.to_owned(), |md5| (*md5).to_owned()),
            flags: if conffile.remove_on_upgrade { " remove-on-upgrade".into() } else { String::new() },
        });
        record.conffiles = lines.collect();
        Ok(record)
    }

    /// Reads what [`Record::to_text`] returns.
    ///
    /// # Errors
    /// Names the field that is missing or malformed.
    pub fn from_text(text: &str) -> Result<Self, DatabaseError> {
        Self::parse(&Paragraph::only(text.as_bytes())?, |relations| Ok(relations.to_owned()))
    }

    /// Takes the fields apart, whatever their order.
    fn parse(
        paragraph: &Paragraph<'_>,
        relations: fn(&str) -> Result<String, relation::InvalidRelation>,
    ) -> Result<Self, DatabaseError> {
        let name = paragraph.get("Package").unwrap_or_default();
        let text = |field: &str| paragraph.get(field).unwrap_or_default().to_owned();
        let refuse = |field, found: &str| DatabaseError::Field {
            package: escape(&name.as_bytes()[..name.len().min(200)]),
            field,
            found: escape(&found.as_bytes()[..found.len().min(200)]),
        };
        let words = |field| paragraph.get(field).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        let mut record = Self {
            name: name.parse().map_err(|_| refuse("Package", name))?,
            architecture: text("Architecture"),
            version: text("Version"),
            multi_arch_same: paragraph.get("Multi-Arch").is_some_and(|value| value.eq_ignore_ascii_case("same")),
            state: State::Installed,
            triggers_pending: words("Triggers-Pending"),
            triggers_awaited: words("Triggers-Awaited"),
            selection: "install ok".into(),
            head: format!("Package: {name}\n"),
            middle: String::with_capacity(1024),
            conffiles: Vec::new(),
            description: String::new(),
            tail: String::new(),
        };
        if let Some(status) = paragraph.get("Status") {
            let (selection, word) = status.rsplit_once(' ').ok_or_else(|| refuse("Status", status))?;
            record.state = State::parse(word).ok_or_else(|| refuse("Status", status))?;
            record.selection = selection.into();
        }
        for field in ["Essential", "Protected"] {
            if paragraph.get(field).is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
                write_field(&mut record.head, field, "yes");
            }
        }
        for (index, field) in MIDDLE.into_iter().enumerate() {
            match paragraph.get(field).filter(|value| !value.is_empty()) {
                Some(value) if index >= RELATIONS => {
                    let value = relations(value).map_err(|_| refuse(field, value))?;
                    write_field(&mut record.middle, field, &value);
                }
                Some(value) if field == "Multi-Arch" && value.eq_ignore_ascii_case("no") => {}
                Some(value) => write_field(&mut record.middle, field, value),
                None => {}
            }
        }
        for line in paragraph.get("Conffiles").unwrap_or_default().lines() {
            record.conffiles.push(ConffileLine::parse(line.trim_start()).ok_or_else(|| refuse("Conffiles", line))?);
        }
        if let Some(description) = paragraph.get("Description") {
            write_field(&mut record.description, "Description", description);
        }
        for field in paragraph.fields.iter().filter(|field| !is_known(field.name)) {
            write_field(&mut record.tail, field.name, field.value);
        }
        Ok(record)
    }

    /// Returns a field between `Status` and `Conffiles` as it stands in the database, such as `Depends`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.middle.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Returns the package's control paragraph, which has neither state nor configuration files.
    #[must_use]
    pub fn to_control(&self) -> String {
        [self.head.as_str(), &self.middle, &self.description, &self.tail].concat()
    }

    /// Returns whether the package must be in every system.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        self.head.contains("\nEssential: yes\n")
    }

    /// Returns the path of a file of the package below `var/lib/dpkg/info`, such as `postinst`.
    #[must_use]
    pub fn info_path(&self, suffix: &str) -> Option<TreePath> {
        TreePath::parse(format!("{ADMIN}/info/{}.{suffix}", self.qualified_name()).as_bytes()).ok()
    }

    /// Returns the paragraph, as it stands in `status`, without the empty line after it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(512 + self.middle.len() + self.description.len() + 96 * self.conffiles.len());
        self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) {
        out.push_str(&self.head);
        let _ = writeln!(out, "Status: {} {}", self.selection, self.state.as_str());
        out.push_str(&self.middle);
        if !self.conffiles.is_empty() {
            out.push_str("Conffiles:\n");
        }
        for ConffileLine { path, md5, flags } in &self.conffiles {
            let md5 = if self.state <= State::Unpacked { NEW_CONFFILE } else { md5 };
            let _ = writeln!(out, " {path} {md5}{flags}");
        }
        out.push_str(&self.description);
        for (field, values) in [("Triggers-Pending", &self.triggers_pending), ("Triggers-Awaited", &self.triggers_awaited)] {
            if !values.is_empty() {
                let _ = writeln!(out, "{field}: {}", values.join(" "));
            }
        }
        out.push_str(&self.tail);
    }

    /// Returns the package's name as files have it: with its architecture where it may be installed for several.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        if self.multi_arch_same { format!("{}:{}", self.name, self.architecture) } else { self.name.to_string() }
    }
}

fn is_known(field: &str) -> bool {
    const OTHERS: [&str; 8] =
        ["Package", "Essential", "Protected", "Status", "Conffiles", "Description", "Triggers-Pending", "Triggers-Awaited"];
    OTHERS.iter().chain(&MIDDLE).any(|known| known.eq_ignore_ascii_case(field))
}

fn write_field(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name}: {value}");
}

/// Writes relations as dpkg does: `name (op version) | name:arch, …` on one line.
fn normal_relations(value: &str) -> Result<String, relation::InvalidRelation> {
    let mut text = String::with_capacity(value.len());
    for (index, group) in relation::parse(value)?.iter().enumerate() {
        for (alternative, relation) in group.iter().enumerate() {
            text.push_str(match (index, alternative) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => " | ",
            });
            let _ = write!(text, "{relation}");
        }
    }
    Ok(text)
}

/// A package that waits for a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// The package, with its architecture where it may be installed for several.
    pub package: String,
    /// Whether an activating package waits until the trigger has been processed.
    pub awaits: bool,
}

impl Interest {
    fn parse(text: &str) -> Self {
        match text.strip_suffix("/noawait") {
            Some(package) => Self { package: package.into(), awaits: false },
            None => Self { package: text.into(), awaits: true },
        }
    }

    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "{}{}", self.package, if self.awaits { "" } else { "/noawait" });
    }

    /// Returns the package's name without its architecture.
    #[must_use]
    pub fn name(&self) -> &str {
        self.package.split(':').next().unwrap_or_default()
    }
}

/// What is known of all packages of a system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    records: BTreeMap<PackageName, Record>,
    /// Who waits for changes below a path (`/usr/share/man`), in the order in which they came.
    pub file_triggers: Vec<(String, Interest)>,
    /// Who waits for a named trigger.
    pub named_triggers: BTreeMap<String, Vec<Interest>>,
}

impl Database {
    /// Returns the paths that have to be read of a system's tree for [`Database::read`].
    #[must_use]
    pub fn files_of(tree: &Tree) -> Vec<TreePath> {
        let Ok(triggers) = TreePath::parse(format!("{ADMIN}/triggers").as_bytes()) else { return Vec::new() };
        let status = TreePath::parse(format!("{ADMIN}/status").as_bytes());
        let below = tree.within(&triggers).filter(|(_, entry)| !entry.is_directory()).map(|(path, _)| path.clone());
        below.chain(status.ok().filter(|path| tree.get(path.as_bytes()).is_some())).collect()
    }

    /// Reads a database from the files that [`Database::files_of`] names.
    ///
    /// # Errors
    /// Names the file and what it has that dpkg does not write.
    pub fn read(files: &BTreeMap<TreePath, Vec<u8>>) -> Result<Self, DatabaseError> {
        let mut database = Self::default();
        for (path, bytes) in files {
            let file = String::from_utf8_lossy(path.as_bytes());
            let file = file.strip_prefix(ADMIN).unwrap_or(&file).trim_start_matches('/');
            let text = std::str::from_utf8(bytes).map_err(|_| DatabaseError::Encoding { file: file.into() })?;
            match file.strip_prefix("triggers/") {
                None if file == "status" => database.read_status(text)?,
                None | Some("Lock" | "Unincorp") => {}
                Some("File") => {
                    for line in text.lines() {
                        let (path, interest) = line
                            .split_once(' ')
                            .ok_or_else(|| DatabaseError::Trigger { file: "File".into(), line: escape(line.as_bytes()) })?;
                        database.file_triggers.push((path.into(), Interest::parse(interest)));
                    }
                }
                Some(name) => {
                    database.named_triggers.insert(name.into(), text.lines().map(Interest::parse).collect());
                }
            }
        }
        Ok(database)
    }

    fn read_status(&mut self, text: &str) -> Result<(), DatabaseError> {
        for paragraph in Paragraphs::new(text.as_bytes(), 1, 1)? {
            let record = Record::parse(&paragraph?, |relations| Ok(relations.to_owned()))?;
            self.records.insert(record.name.clone(), record);
        }
        Ok(())
    }

    /// Adds or replaces a package, with the triggers it waits for.
    pub fn add(&mut self, record: Record, triggers: &[TriggerLine]) {
        self.forget_triggers(record.name.as_str());
        for line in triggers.iter().filter(|line| line.interest) {
            let interest = Interest { package: record.qualified_name(), awaits: line.awaits };
            if line.name.starts_with('/') {
                self.file_triggers.push((line.name.clone(), interest));
            } else {
                self.named_triggers.entry(line.name.clone()).or_default().push(interest);
            }
        }
        self.records.insert(record.name.clone(), record);
    }

    fn forget_triggers(&mut self, name: &str) {
        self.file_triggers.retain(|(_, interest)| interest.name() != name);
        for interests in self.named_triggers.values_mut() {
            interests.retain(|interest| interest.name() != name);
        }
        self.named_triggers.retain(|_, interests| !interests.is_empty());
    }

    /// Returns what is known of a package.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// Returns what is known of a package, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Record> {
        self.records.get_mut(name)
    }

    /// Returns all packages by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Returns the content of `status`. What is not installed is not written.
    #[must_use]
    pub fn render_status(&self) -> String {
        let mut text = String::with_capacity(self.records.len() * 2048);
        for record in self.records.values().filter(|record| record.state != State::NotInstalled) {
            record.write(&mut text);
            text.push('\n');
        }
        text
    }

    /// Returns the files that all packages share: path, mode, content. Only these change when a package comes.
    #[must_use]
    pub fn shared_files(&self) -> Vec<(TreePath, u16, Vec<u8>)> {
        let mut file_triggers = String::new();
        for (path, interest) in &self.file_triggers {
            let _ = write!(file_triggers, "{path} ");
            interest.write(&mut file_triggers);
        }
        let mut files: Vec<(String, u16, String)> = vec![
            ("status".into(), 0o644, self.render_status()),
            ("info/format".into(), 0o644, "1\n".into()),
            ("lock".into(), 0o640, String::new()),
            ("lock-frontend".into(), 0o640, String::new()),
            ("triggers/Lock".into(), 0o600, String::new()),
            ("triggers/Unincorp".into(), 0o644, String::new()),
        ];
        if !file_triggers.is_empty() {
            files.push(("triggers/File".into(), 0o644, file_triggers));
        }
        for (name, interests) in &self.named_triggers {
            let mut text = String::new();
            for interest in interests {
                interest.write(&mut text);
            }
            files.push((format!("triggers/{name}"), 0o644, text));
        }
        let path = |name: &str| TreePath::parse(format!("{ADMIN}/{name}").as_bytes()).ok();
        files.into_iter().filter_map(|(name, mode, text)| Some((path(&name)?, mode, text.into_bytes()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::package::{Conffile, ControlMember};
    use crate::model::digest::FileDigest;
    use crate::model::tree::{Entry, Origin};

    const CONTROL: &str = "Package: libhello1\nVersion: 2:1.0-1\nArchitecture: amd64\nEssential: no\nProtected: yes\n\
        Maintainer: A <a@example.org>\nInstalled-Size: 20\nTag: x::y\nDepends: libc6(>=2.38),\n awk|mawk ( << 2 ), perl:any\n\
        Pre-Depends: dpkg\nSection: libs\nPriority: optional\nMulti-Arch: same\nHomepage: https://example.org/\n\
        Description: greets\n Says\n .\n hello.\n";

    const INSTALLED: &str = "Package: libhello1\nProtected: yes\nStatus: install ok installed\nPriority: optional\n\
        Section: libs\nInstalled-Size: 20\nMaintainer: A <a@example.org>\n\
        Architecture: amd64\nMulti-Arch: same\nVersion: 2:1.0-1\n\
        Depends: libc6 (>= 2.38), awk | mawk (<< 2), perl:any\nPre-Depends: dpkg\n\
        Conffiles:\n /etc/gone newconffile remove-on-upgrade\n /etc/hello 0123\n\
        Description: greets\n Says\n .\n hello.\nTag: x::y\nHomepage: https://example.org/\n";

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn package() -> (ControlFiles, Vec<InstalledPath>) {
        let member = |mode, text: &str| ControlMember { mode, bytes: text.as_bytes().to_vec() };
        let line = |interest, awaits, name: &str| TriggerLine { interest, awaits, name: name.into() };
        let control = ControlFiles {
            control: CONTROL.into(),
            members: [("postinst".to_owned(), member(0o755, "#!/bin/sh\n"))].into(),
            conffiles: vec![
                Conffile { path: path("etc/gone"), remove_on_upgrade: true },
                Conffile { path: path("etc/hello"), remove_on_upgrade: false },
            ],
            triggers: vec![line(true, false, "/usr/share/hello"), line(true, true, "greet"), line(false, true, "ldconfig")],
        };
        let installed = |text: &str, md5: Option<&str>| InstalledPath { path: path(text), md5: md5.map(str::to_owned) };
        let paths = vec![
            installed("", None),
            installed("usr", None),
            installed("etc/hello", Some("0123")),
            installed("usr/hello", Some("4567")),
        ];
        (control, paths)
    }

    fn database() -> Database {
        let (control, paths) = package();
        let mut database = Database::default();
        database.add(Record::of_package(&control, &paths).unwrap(), &control.triggers);
        database
    }

    #[test]
    fn a_paragraph_is_written_in_dpkg_s_order_and_form() {
        let (control, paths) = package();
        assert_eq!(Record::of_package(&control, &paths).unwrap().to_text(), INSTALLED);
    }

    #[test]
    fn a_record_reads_back_what_it_writes() {
        let mut record = Record::from_text(INSTALLED).unwrap();
        assert_eq!(record.to_text(), INSTALLED);
        assert_eq!(record.field("Pre-Depends"), Some("dpkg"));
        record.state = State::TriggersPending;
        record.triggers_pending = vec!["greet".into(), "/usr/share/hello".into()];
        let text = record.to_text();
        assert!(text.contains("\n hello.\nTriggers-Pending: greet /usr/share/hello\nTag:"), "{text}");
        assert_eq!(Record::from_text(&text).unwrap(), record);
    }

    #[test]
    fn configuration_files_are_new_until_the_package_is_configured() {
        let (control, paths) = package();
        let mut record = Record::of_package(&control, &paths).unwrap();
        record.state = State::Unpacked;
        assert!(record.to_text().contains("\n /etc/hello newconffile\n"));
        record.state = State::HalfConfigured;
        assert!(record.to_text().contains("\n /etc/hello 0123\n"));
    }

    #[test]
    fn the_files_of_a_package_are_named_with_its_architecture_where_several_may_be_installed() {
        let (control, paths) = package();
        let files = info_files(&"libhello1".parse().unwrap(), &control, &paths);
        let shown: Vec<_> =
            files.iter().map(|(path, mode, bytes)| format!("{path} {mode:o} {}", String::from_utf8_lossy(bytes))).collect();
        assert_eq!(
            shown,
            [
                "/var/lib/dpkg/info/libhello1:amd64.list 644 /.\n/usr\n/etc/hello\n/usr/hello\n",
                "/var/lib/dpkg/info/libhello1:amd64.md5sums 644 4567  usr/hello\n",
                "/var/lib/dpkg/info/libhello1:amd64.postinst 755 #!/bin/sh\n",
            ]
        );
    }

    #[test]
    fn a_database_reads_back_what_it_writes() {
        let database = database();
        let files = database.shared_files();
        let tree = files.iter().map(|(path, mode, bytes)| {
            let (digest, size) = (FileDigest::of(bytes), bytes.len() as u64);
            (path.clone(), Entry::file(digest, size, *mode, 0, Origin::Parvis))
        });
        let wanted = Database::files_of(&tree.collect());
        let files: BTreeMap<_, _> =
            files.into_iter().filter(|(path, _, _)| wanted.contains(path)).map(|(path, _, bytes)| (path, bytes)).collect();
        assert_eq!(files[&path("var/lib/dpkg/triggers/File")], b"/usr/share/hello libhello1:amd64/noawait\n");
        assert_eq!(files[&path("var/lib/dpkg/triggers/greet")], b"libhello1:amd64\n");
        assert_eq!(Database::read(&files).unwrap(), database);
    }

    #[test]
    fn a_package_that_comes_again_waits_for_its_triggers_once() {
        let mut database = database();
        let (control, paths) = package();
        database.add(Record::of_package(&control, &paths).unwrap(), &control.triggers[1..]);
        assert!(database.file_triggers.is_empty());
        assert_eq!(database.named_triggers["greet"].len(), 1);
    }

    #[test]
    fn a_status_that_dpkg_would_not_read_is_refused() {
        for (text, expected) in [
            ("Package: ../x\nStatus: install ok installed\n", "the package `../x` has no proper field `Package`: `../x`"),
            (
                "Package: ab\nStatus: install ok done\n",
                "the package `ab` has no proper field `Status`: `install\\x20ok\\x20done`",
            ),
            ("Package: ab\nConffiles:\n /etc/x\n", "the package `ab` has no proper field `Conffiles`: `/etc/x`"),
        ] {
            let files = [(path("var/lib/dpkg/status"), text.as_bytes().to_vec())].into();
            assert_eq!(Database::read(&files).unwrap_err().to_string(), expected);
        }
    }
}
