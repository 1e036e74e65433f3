//! What an image consists of, for people: where its bytes are, who brought them, what it runs, and which files have power.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::diff::{self, DatabaseError, Side, shown};
use crate::model::digest::BlobDigest;
use crate::model::tree::{Kind, TreePath, escape};
use crate::plan::gates::capabilities;
use crate::screen::size;

/// Packages that are named to people.
const MOST_PACKAGES: usize = 12;

/// Columns of a line, at most.
const WIDTH: usize = 100;

/// A layer, from the bottom up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub title: String,
    pub digest: Option<BlobDigest>,
    /// Bytes as they are sent.
    pub size: u64,
    /// Names and versions of its packages: as its history says, else those whose lists it states last.
    pub packages: Vec<(String, String)>,
}

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The source package that it was made from.
    pub source: String,
    /// Bytes of its files, unpacked.
    pub size: u64,
}

/// A file with the power of its owner, or with capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powerful {
    pub path: String,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub capabilities: Vec<String>,
    /// Who put it there; empty where nobody is known.
    pub owner: String,
}

/// Everything that is said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub platform: String,
    /// What the system calls itself: `Debian GNU/Linux 13 (trixie)`.
    pub system: Option<String>,
    pub layers: Vec<Layer>,
    /// The largest first.
    pub packages: Vec<Package>,
    pub powerful: Vec<Powerful>,
    /// Accounts by name with their number, where the image has any.
    pub accounts: Vec<(String, u32)>,
    pub files: usize,
    /// Bytes of all files, unpacked.
    pub unpacked: u64,
    /// Bytes of files that no package has.
    pub unowned: u64,
    /// What it runs: names and values of the configuration, in the order in which they are shown.
    pub settings: Vec<(&'static str, Vec<String>)>,
}

/// What is known of the layers of an image besides their sizes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers<'a> {
    /// As they are sent, where the place has them.
    pub digests: &'a [Option<BlobDigest>],
    /// The last layer, counted from 1, that states each file of the package database.
    pub stated: Option<&'a BTreeMap<TreePath, usize>>,
}

/// Looks an image through.
///
/// # Errors
/// Refuses a package database that is none.
pub fn inspect(side: Side<'_>, known: Layers<'_>) -> Result<Inspection, DatabaseError> {
    let (versions, mut sources) = (diff::installed(side)?, diff::sources(side)?);
    let owners = diff::owners(side);
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let (mut files, mut unpacked, mut unowned) = (0, 0, 0);
    let mut powerful = Vec::new();
    for (path, entry) in side.tree.iter() {
        let bytes = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
        let owner = diff::owner(path, entry, &owners);
        files += usize::from(!entry.is_directory());
        unpacked += bytes;
        let package = in_database(path.as_bytes()).or_else(|| owner.strip_prefix("package "));
        match package.filter(|name| versions.contains_key(*name)) {
            Some(name) => *sizes.entry(name.to_owned()).or_default() += bytes,
            None => unowned += bytes,
        }
        let capabilities = capabilities(entry);
        if !entry.is_directory() && (entry.mode & 0o6000 != 0 || !capabilities.is_empty()) {
            let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
            powerful.push(Powerful { path: path.to_string(), mode, uid, gid, capabilities, owner });
        }
    }
    let mut listed: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
    for (path, layer) in known.stated.into_iter().flatten() {
        let name = in_database(path.as_bytes());
        if let Some((name, version)) = name.and_then(|name| versions.get_key_value(name)) {
            listed.entry(*layer).or_default().push((name.clone(), version.clone()));
        }
    }
    let package = |(name, version): (String, String)| Package {
        size: sizes.get(&name).copied().unwrap_or_default(),
        source: sources.remove(&name).unwrap_or_else(|| name.clone()),
        name,
        version,
    };
    let mut packages: Vec<Package> = versions.into_iter().map(package).collect();
    packages.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let layers = side.layer_sizes.iter().enumerate().map(|(index, size)| Layer {
        title: side.config.layer_titles.get(index).map(|title| shown(title)).unwrap_or_default(),
        digest: known.digests.get(index).copied().flatten(),
        size: *size,
        packages: match side.config.made_by.get(index).map(|made_by| packages_of(made_by)) {
            Some(packages) if !packages.is_empty() => packages,
            _ => listed.remove(&(index + 1)).unwrap_or_default(),
        },
    });
    let platform = &side.config.platform;
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    Ok(Inspection {
        platform: shown(&format!("{}/{}{variant}", platform.os, platform.architecture)),
        layers: layers.collect(),
        system: system(side),
        packages,
        powerful,
        accounts: accounts(side.database.get(b"etc/passwd".as_slice()).map(Vec::as_slice).unwrap_or_default()),
        files,
        unpacked,
        unowned,
        settings: settings(&side.config.runtime),
    })
}

/// Returns the name of the system as `os-release` (os-release.5) has it.
fn system(side: Side<'_>) -> Option<String> {
    let text = ["usr/lib/os-release", "etc/os-release"].iter().find_map(|path| side.database.get(path.as_bytes()))?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?;
    let name = shown(&String::from_utf8_lossy(&line[..line.len().min(120)]));
    Some(name.trim_matches(['"', '\'']).to_owned())
}

/// Returns the package that a file of dpkg's database belongs to: `var/lib/dpkg/info/NAME[:ARCHITECTURE].KIND`.
fn in_database(path: &[u8]) -> Option<&str> {
    let file = std::str::from_utf8(path.strip_prefix(b"var/lib/dpkg/info/")?).ok()?;
    let (name, _) = file.rsplit_once('.')?;
    name.split(':').next()
}

/// Reads the packages of a layer of parvis from its line of the history: `parvis: packages NAME=VERSION …`.
fn packages_of(made_by: &str) -> Vec<(String, String)> {
    let words = made_by.strip_prefix("parvis: packages ").unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.split_once('=')).map(|(name, version)| (shown(name), shown(version))).collect()
}

fn accounts(passwd: &[u8]) -> Vec<(String, u32)> {
    let account = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((escape(name), std::str::from_utf8(number).ok()?.parse().ok()?))
    };
    passwd.split(|byte| *byte == b'\n').filter_map(account).collect()
}

fn settings(runtime: &Map<String, Value>) -> Vec<(&'static str, Vec<String>)> {
    let texts = |value: Option<&Value>| -> Vec<String> {
        match value {
            Some(Value::String(text)) if !text.is_empty() => vec![shown(text)],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(shown).collect(),
            Some(Value::Object(members)) => members.keys().map(|name| shown(name)).collect(),
            _ => Vec::new(),
        }
    };
    let mut settings: Vec<(&'static str, Vec<String>)> = [
        ("user", "User"),
        ("entrypoint", "Entrypoint"),
        ("command", "Cmd"),
        ("folder", "WorkingDir"),
        ("ports", "ExposedPorts"),
        ("volumes", "Volumes"),
        ("stop signal", "StopSignal"),
        ("variables", "Env"),
    ]
    .map(|(name, key)| (name, texts(runtime.get(key))))
    .into();
    let health = texts(runtime.get("Healthcheck").and_then(|health| health.get("Test")));
    settings.insert(6, ("health", if health.first().is_some_and(|word| word == "NONE") { Vec::new() } else { health }));
    settings
}

impl Inspection {
    /// Returns the bytes of all layers as they are sent.
    #[must_use]
    pub fn download(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Returns lines for people; `about` says where a package is from, as far as somebody knows.
    #[must_use]
    pub fn lines(&self, all: bool, about: &dyn Fn(&str) -> String) -> Vec<String> {
        let mut lines: Vec<String> = self.system.iter().map(|system| cut(format!("{:<12} {system}", "system"))).collect();
        for (name, values) in self.settings.iter().filter(|(_, values)| !values.is_empty()) {
            if *name == "variables" {
                for (index, value) in values.iter().enumerate() {
                    lines.push(cut(format!("{:<12} {value}", if index == 0 { *name } else { "" })));
                }
            } else {
                let separator = if matches!(*name, "ports" | "volumes") { ", " } else { " " };
                lines.push(cut(format!("{name:<12} {}", values.join(separator))));
            }
        }
        let people: Vec<String> = self
            .accounts
            .iter()
            .filter(|(_, id)| (1000..60_000).contains(id))
            .map(|(name, id)| format!("{name} ({id})"))
            .collect();
        let system = self.accounts.len() - people.len();
        if !self.accounts.is_empty() {
            let people = if people.is_empty() { String::new() } else { format!("{}, ", people.join(", ")) };
            lines.push(cut(format!("{:<12} {people}{system} of the system", "accounts")));
        }
        lines.push(String::new());
        lines.push(format!(
            "{}: {} as sent, {} unpacked",
            count(self.layers.len(), "layer", "layers"),
            size(self.download()),
            size(self.unpacked)
        ));
        for (index, layer) in self.layers.iter().enumerate() {
            lines.push(cut(format!("  {:>3}  {:>9}  {}", index + 1, size(layer.size), layer.title)));
            if all {
                lines.extend(layer.digest.iter().map(|digest| format!("{:18}{digest}", "")));
                lines.extend(wrapped(&layer.packages));
            }
        }
        lines.push(String::new());
        let most = if all { self.packages.len() } else { MOST_PACKAGES.min(self.packages.len()) };
        let which = if most < self.packages.len() { format!(", the {most} largest") } else { String::new() };
        lines.push(format!(
            "{}{which}; {} in files of no package",
            count(self.packages.len(), "package", "packages"),
            size(self.unowned)
        ));
        for Package { name, version, source, size: bytes } in self.packages.iter().take(most) {
            let known = about(name);
            // Nothing more is said by an image itself.
            let about = if known.is_empty() && source != name { format!("of {source}") } else { known };
            lines.push(cut(format!("  {:>9}  {name} {version}  {about}", size(*bytes)).trim_end().to_owned()));
        }
        lines.push(String::new());
        lines.push(match self.powerful.len() {
            0 => "no file is setuid or setgid or has capabilities".to_owned(),
            number => format!("{} with power of their own", count(number, "file", "files")),
        });
        for Powerful { path, mode, uid, gid, capabilities, owner } in &self.powerful {
            let owner = if owner.is_empty() { "nobody is known" } else { owner };
            lines.push(cut(format!("  {mode:04o}  {uid}:{gid}  {path}  {}({owner})", joined(capabilities))));
        }
        lines
    }

    /// Returns it as a document; `about` adds what somebody knows of a package.
    #[must_use]
    pub fn to_json(&self, about: &dyn Fn(&str) -> Value) -> Value {
        let layer = |layer: &Layer| {
            let packages = layer.packages.iter().map(|(name, version)| json!({"name": name, "version": version}));
            json!({"title": layer.title, "digest": layer.digest.map(|digest| digest.to_string()), "size": layer.size, "packages": packages.collect::<Vec<_>>()})
        };
        let package = |package: &Package| json!({"name": package.name, "version": package.version, "source": package.source, "size": package.size, "from": about(&package.name)});
        let powerful = |file: &Powerful| {
            json!({"path": file.path, "mode": format!("{:04o}", file.mode), "uid": file.uid, "gid": file.gid,
                "capabilities": file.capabilities, "owner": file.owner})
        };
        let settings: Map<String, Value> =
            self.settings.iter().map(|(name, values)| (name.replace(' ', "_"), json!(values))).collect();
        let account = |(name, uid): &(String, u32)| json!({"name": name, "uid": uid});
        json!({
            "format": 1,
            "platform": self.platform,
            "system": self.system,
            "download": self.download(),
            "unpacked": self.unpacked,
            "files": self.files,
            "unowned": self.unowned,
            "config": settings,
            "accounts": self.accounts.iter().map(account).collect::<Vec<_>>(),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "packages": self.packages.iter().map(package).collect::<Vec<_>>(),
            "powerful": self.powerful.iter().map(powerful).collect::<Vec<_>>(),
        })
    }
}

fn joined(capabilities: &[String]) -> String {
    if capabilities.is_empty() { String::new() } else { format!("{}  ", capabilities.join(",")) }
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Cuts a line that is too long for people.
fn cut(line: String) -> String {
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// Returns packages as words in lines below a layer.
fn wrapped(packages: &[(String, String)]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (name, version) in packages {
        let word = format!("{name} {version}");
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() + 2 <= WIDTH => {
                line.push_str(", ");
                line.push_str(&word);
            }
            _ => lines.push(format!("{:18}{word}", "")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::oci::parse_config;
    use super::super::tar::testing::{Memory, path};
    use super::*;
    use crate::model::digest::DiffId;
    use crate::model::tree::{Entry, Origin, Tree};

    fn sample() -> Inspection {
        let mut memory = Memory::default();
        let mut file = |content: &str, origin: Origin| Entry { origin, ..memory.file(content.as_bytes()) };
        let package = |name: &str| Origin::Package(name.parse().unwrap());
        let mut su = file("su", package("util-linux"));
        su.mode = 0o4755;
        let mut ping = file("ping", Origin::Parvis);
        ping.xattrs.insert("security.capability".into(), [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat());
        let tree: Tree = [
            (path("usr/bin/su"), su),
            (path("usr/bin/ping"), ping),
            (path("usr/lib/libssl.so.3"), file(&"x".repeat(5000), package("libssl3t64"))),
            (path("var/lib/dpkg/info/util-linux:arm64.list"), file("list", Origin::Parvis)),
            (path("srv/page"), file("page", Origin::Recipe { image: "web".parse().unwrap(), line: 4 })),
        ]
        .into_iter()
        .collect();
        let status = "Package: util-linux\nStatus: install ok installed\nVersion: 2.41\n\n\
            Package: libssl3t64\nSource: openssl (3.5-1)\nStatus: install ok installed\nVersion: 3.5\n\n\
            Package: iputils-ping\nStatus: install ok installed\nVersion: 1\n";
        let database = BTreeMap::from([
            (path("var/lib/dpkg/status"), status.as_bytes().to_vec()),
            (path("var/lib/dpkg/info/iputils-ping.list"), b"/.\n/usr/bin/ping\n".to_vec()),
            (path("etc/os-release"), b"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n".to_vec()),
            (path("etc/passwd"), b"root:x:0:0::/root:/bin/bash\nparoisse:x:1001:1001::/:/bin/false\n".to_vec()),
        ]);
        let config = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8",
            "config": {"User": "33:33", "Cmd": ["a", "b\u{1b}[2J"], "Env": ["A=1", "B=2"], "ExposedPorts": {"443/tcp": {}, "80/tcp": {}},
                "Healthcheck": {"Test": ["CMD", "/health"]}},
            "history": [{"comment": "libssl3t64 3.5 + 1 more package", "created_by": "parvis: packages libssl3t64=3.5 util-linux=2.41"},
                {"created_by": "files"}],
            "rootfs": {"type": "layers", "diff_ids": [DiffId::of(b"a").to_string(), DiffId::of(b"b").to_string()]},
        });
        let config = parse_config(config.to_string().as_bytes(), 2).unwrap();
        let side = Side { tree: &tree, database: &database, config: &config, layer_sizes: &[2_000_000, 30] };
        let stated = BTreeMap::from([(path("var/lib/dpkg/info/iputils-ping.list"), 2)]);
        inspect(side, Layers { digests: &[Some(BlobDigest::of(b"a")), None], stated: Some(&stated) }).unwrap()
    }

    #[test]
    fn an_image_is_described_for_people_in_lines_of_a_hundred_columns() {
        let about = |name: &str| if name == "libssl3t64" { "trixie-security, of base".to_owned() } else { String::new() };
        let lines = sample().lines(true, &about);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH && !line.contains('\u{1b}')), "{lines:?}");
        insta::assert_snapshot!("inspection", lines.join("\n"));
        assert_eq!(cut("é".repeat(101)).chars().count(), WIDTH);
    }

    #[test]
    fn an_image_is_described_for_programs_with_bytes_and_owners() {
        let document = sample().to_json(&|_| Value::Null);
        assert_eq!((&document["platform"], &document["download"]), (&json!("linux/arm64/v8"), &json!(2_000_030)));
        assert_eq!(
            document["packages"][0],
            json!({"name": "libssl3t64", "version": "3.5", "source": "openssl", "size": 5000, "from": null})
        );
        assert_eq!(document["layers"][0]["packages"][1], json!({"name": "util-linux", "version": "2.41"}));
        assert_eq!(document["layers"][1]["packages"][0]["name"], "iputils-ping", "whose list stands in that layer");
        assert_eq!(document["system"], "Debian GNU/Linux 13 (trixie)");
        assert_eq!(document["powerful"][0]["capabilities"], json!(["cap_net_raw"]));
        assert_eq!(document["powerful"][0]["owner"], "package iputils-ping", "of a foreign image the package database tells");
        assert_eq!(document["powerful"][1]["mode"], "4755");
        assert_eq!(document["config"]["health"], json!(["CMD", "/health"]));
        assert_eq!(document["unowned"], 4);
    }
}
