//! `deb-systemd-helper` of init-system-helpers, where systemd is not there: which units are enabled.

use std::io;

use super::tree::{Seen, Tree};
use super::{Call, Reply, done, name};

const ENABLED: &str = "/var/lib/systemd/deb-systemd-helper-enabled";
const MASKED: [&str; 2] = ["/var/lib/systemd/deb-systemd-helper-masked", "/var/lib/systemd/deb-systemd-user-helper-masked"];
const SYSTEM: &str = "/etc/systemd/system";

pub fn deb_systemd_helper(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    call.variable("DPKG_MAINTSCRIPT_PACKAGE")?;
    let words = call.words()?;
    let (quiet, words) =
        words.split_first().filter(|(first, _)| **first == "--quiet").map_or((false, &*words), |(_, rest)| (true, rest));
    let [action, unit] = *words else { return None };
    let unit = name(unit).filter(|unit| unit.contains('.'))?;
    match action {
        "unmask" => unmask(tree, unit),
        "was-enabled" => was_enabled(tree, unit, quiet),
        "debian-installed" => Some(Reply { code: u8::from(!tree.has_file(&recorded(unit))?), ..Reply::default() }),
        "update-state" => update_state(tree, unit),
        "enable" => enable(tree, unit),
        _ => None,
    }
}

/// Returns where the links of a unit are recorded.
fn recorded(unit: &str) -> String {
    format!("{ENABLED}/{unit}.dsh-also")
}

/// Nothing is to be done where nothing is masked.
fn unmask(tree: &Tree, unit: &str) -> Option<Reply> {
    let masked = match tree.look(&format!("{SYSTEM}/{unit}"))? {
        Seen::Absent | Seen::File(_) => false,
        Seen::Link(text) => text == b"/dev/null",
        _ => true,
    };
    let never = tree.is_absent(MASKED[0])? && tree.is_absent(MASKED[1])?;
    (!masked && never).then(Reply::default)
}

fn was_enabled(tree: &Tree, unit: &str, quiet: bool) -> Option<Reply> {
    let path = recorded(unit);
    let lines = if tree.has_file(&path)? { lines(tree, &path)? } else { Vec::new() };
    let mut enabled = true;
    for line in lines {
        enabled = enabled && matches!(tree.look(super::path(line.as_bytes())?)?, Seen::Link(_));
    }
    let words = if enabled { "enabled\n" } else { "disabled\n" };
    Some(Reply { code: u8::from(!enabled), stderr: if quiet { Vec::new() } else { words.into() }, ..Reply::default() })
}

/// Returns the lines of a file that ends with one.
fn lines(tree: &Tree, path: &str) -> Option<Vec<String>> {
    let text = String::from_utf8(tree.read(path)?).ok()?;
    (text.is_empty() || text.ends_with('\n')).then(|| text.lines().map(str::to_owned).collect())
}

/// Returns the path of a unit as the original finds it, and the links that its `[Install]` section asks for, without the folder
/// `SYSTEM`.
fn unit_and_links(tree: &Tree, unit: &str) -> Option<(String, Vec<String>)> {
    let own = format!("{SYSTEM}/{unit}");
    let path = if tree.has_file(&own)? {
        own
    } else {
        // The original looks below /lib first, which leads to the same file.
        let merged = matches!(tree.look("/lib")?, Seen::Link(text) if text == b"usr/lib");
        tree.file(&format!("/usr/lib/systemd/system/{unit}")).filter(|_| merged)?;
        format!("/lib/systemd/system/{unit}")
    };
    let text = tree.read(path.strip_prefix("/lib").map(|rest| format!("/usr/lib{rest}")).as_deref().unwrap_or(&path))?;
    let mut links = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii_start();
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        if value.is_empty() {
            continue;
        }
        let kind = match &*key.to_ascii_lowercase() {
            b"wantedby" if key == b"WantedBy" => "wants",
            b"requiredby" if key == b"RequiredBy" => "requires",
            b"wantedby" | b"requiredby" | b"also" | b"alias" | b"defaultinstance" => return None,
            _ => continue,
        };
        let value = std::str::from_utf8(value).ok()?;
        for target in value.trim_end_matches([' ', '\t']).split([' ', '\t']) {
            if target.is_empty() {
                return None;
            }
            links.push(format!("{}.{kind}/{unit}", super::word(target.as_bytes()).and_then(name)?));
        }
    }
    Some((path, links))
}

/// Returns the text of the record after the links were added to what it held.
fn record_with(mut text: String, link: &str) -> String {
    if !text.lines().any(|line| line == link) {
        text.push_str(link);
        text.push('\n');
    }
    text
}

fn enable(tree: &Tree, unit: &str) -> Option<Reply> {
    let here = ["/usr/bin/systemctl", "/run/systemd/system"];
    // Where /bin is no link to /usr/bin, this program may be anywhere.
    if !matches!(tree.look("/bin")?, Seen::Link(text) if text == b"usr/bin")
        || here.iter().any(|path| tree.is_absent(path) != Some(true))
    {
        return None;
    }
    let (path, links) = unit_and_links(tree, unit)?;
    let record = recorded(unit);
    let text = if tree.has_file(&record)? { String::from_utf8(tree.read(&record)?).ok()? } else { String::new() };
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    for link in &links {
        tree.has_file(&format!("{ENABLED}/{link}"))?;
        if !matches!(tree.look(&format!("{SYSTEM}/{link}"))?, Seen::Absent | Seen::Link(_)) {
            return None;
        }
    }
    let work = || {
        let mut text = text;
        for link in &links {
            text = record_with(text, &format!("{SYSTEM}/{link}"));
            write_record(tree, &record, &text)?;
            let (note, link) = (format!("{ENABLED}/{link}"), format!("{SYSTEM}/{link}"));
            if !matches!(tree.look(&note), Some(Seen::Absent)) {
                continue;
            }
            if matches!(tree.look(&link), Some(Seen::Absent)) {
                tree.make_folders(link.rsplit_once('/').map_or(SYSTEM, |(folder, _)| folder))?;
                tree.link(&path, &link)?;
            }
            tree.make_folders(note.rsplit_once('/').map_or(ENABLED, |(folder, _)| folder))?;
            tree.create(&note, b"", 0o644)?;
        }
        Ok(())
    };
    Some(done(work, Reply::default()))
}

fn update_state(tree: &Tree, unit: &str) -> Option<Reply> {
    let (_, links) = unit_and_links(tree, unit)?;
    let record = recorded(unit);
    tree.has_file(&record)?;
    let text: String = links.iter().flat_map(|link| [SYSTEM, "/", link, "\n"]).collect();
    Some(done(|| write_record(tree, &record, &text), Reply::default()))
}

fn write_record(tree: &Tree, record: &str, text: &str) -> io::Result<()> {
    tree.make_folders(ENABLED)?;
    let temporary = format!("{ENABLED}/.state.tmp");
    tree.overwrite(&temporary, text.as_bytes(), 0o644)?;
    tree.rename(&temporary, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_from_plain_lines_only() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib/systemd/system")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let read = |text: &str| {
            std::fs::write(root.path().join("usr/lib/systemd/system/a.service"), text).unwrap();
            unit_and_links(&tree, "a.service")
        };
        let (path, links) =
            read("[Install]\n WantedBy=x.target y.target\nRequiredBy=z.target\n#WantedBy=no.target\nWantedBy=\n").unwrap();
        assert_eq!(path, "/lib/systemd/system/a.service");
        assert_eq!(links, ["x.target.wants/a.service", "y.target.wants/a.service", "z.target.requires/a.service"]);
        for odd in [
            "Also=b.service",
            "alias=b.service",
            "DefaultInstance=1",
            "WantedBy=\"x\"",
            "wantedby=x",
            "WantedBy= x",
            "WantedBy=x@%i.target",
        ] {
            assert!(read(&format!("[Install]\n{odd}\n")).is_none(), "{odd}");
        }
    }
}
