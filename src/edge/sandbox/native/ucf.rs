//! `ucf` and `ucfr` of ucf: configuration files that a maintainer script installs, and whose they are.

use std::sync::{Mutex, PoisonError};

use md5::{Digest as _, Md5};
use rustix::fs::Stat;

use super::tree::{Seen, Stamp, Tree, copy_times, hexadecimal};
use super::{Call, Original, Reply, UCF_LIBRARY, done, path, word};

/// ucf starts debconf each time, so that what debconf writes is part of what ucf does.
pub const COMPANIONS: &[Original] = &[
    UCF_LIBRARY,
    Original::new("/var/lib/dpkg/info/ucf.templates", &["c9b7a077add572aeb9a2cbb3ebfa2e04dd996ad6fc204605b9e5cf81517df0bd"]),
    Original::new("/etc/debconf.conf", &["0d0e7109df366b0e963add08e218d62afb516218deeb3b5aa9259b821efb569c"]),
    Original::new("/usr/share/debconf/frontend", &["200c5c0f4c7ad7770e6bb192e14b5d7d668a698d661595f5836e04a365b85293"]),
    Original::new("/usr/share/debconf/confmodule", &["5b043ed174b714949cfb2097d303147b9f02c5fb9e531e2dfb562b1476e820af"]),
    Original::new("/usr/share/perl5/Debconf/Template.pm", &["9aef3d86e4a57c90fe69bc7275930049d37e1308547097680b3ae1d941ff9b2a"]),
    Original::new(
        "/usr/share/perl5/Debconf/DbDriver/File.pm",
        &["abb4c3eedf11c0724ca539115efd85add7d62ccef92f21c6f6899b293459ae73"],
    ),
    Original::new(
        "/usr/share/perl5/Debconf/DbDriver/Cache.pm",
        &["2b7548c30e8ded3b1bbc795a1396edb3a812fee32d5aaa481650535202742ebd"],
    ),
    Original::new(
        "/usr/share/perl5/Debconf/Format/822.pm",
        &["4e0606e39f3cde0221b87434ac258be14a8e168871ca81711ada2c5e337bfeab"],
    ),
];

/// The questions of ucf.
const QUESTIONS: [&str; 5] = ["changeprompt", "changeprompt_threeway", "conflicts_found", "show_diff", "title"];
/// The digest of their records in the database of templates.
const RECORDS: &str = "e3e9ea0d0094d8525d1d5acfc50b339d806eba94feaa2f55f810863caa56edb0";

const HASHES: &str = "/var/lib/ucf/hashfile";
const REGISTRY: &str = "/var/lib/ucf/registry";
const TEMPLATES: &str = "/var/cache/debconf/templates.dat";
const TEMPLATES_BEFORE: &str = "/var/cache/debconf/templates.dat-old";

/// Files larger than this are not kept for a later merge.
const CACHED_BELOW: usize = 25600;

/// Says whether `/etc/ucf.conf` decides nothing, and no library lies where it would be taken before the right one.
fn is_configured_as_usual(tree: &Tree) -> Option<bool> {
    let silent = |text: &[u8]| text.split(|byte| *byte == b'\n').all(|line| line.is_empty() || line.starts_with(b"#"));
    let configuration = !tree.has_file("/etc/ucf.conf")? || silent(&tree.read("/etc/ucf.conf")?);
    Some(configuration && tree.is_absent("/usr/bin/ucf_library.sh")?)
}

/// Returns a file of ucf's own, if it is one that grep(1) takes for text and cp(1) gives no surprising mode.
fn state_file(tree: &Tree, path: &str) -> Option<(Vec<u8>, Stat)> {
    let (bytes, stat) = tree.read_with_state(path)?;
    let text = bytes.iter().all(|byte| *byte == b'\n' || *byte == b'\t' || (b' '..=b'~').contains(byte));
    (text && bytes.last().is_none_or(|last| *last == b'\n') && is_common(&stat)).then_some((bytes, stat))
}

/// Says whether a file belongs to root, with the usual mode.
fn is_common(stat: &Stat) -> bool {
    stat.st_uid == 0 && stat.st_gid == 0 && stat.st_mode & 0o7777 == 0o644
}

fn lines_that_end_with<'a>(text: &'a [u8], end: &str) -> Vec<&'a [u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| line.ends_with(end.as_bytes())).collect()
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
}

pub fn ucf(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let [new, destination] = call.arguments else { return None };
    let (new, destination) = (path(new)?, path(destination)?);
    if !debconf_is_idle(tree, call)? || forces(call) || !is_configured_as_usual(tree)? {
        return None;
    }
    let (content, stat) = tree.read_with_state(new)?;
    let cached = format!("/var/lib/ucf/cache/{}", destination.replace('/', ":"));
    let ready = stat.st_uid == 0
        && stat.st_gid == 0
        && !tree.has_acl(new)?
        && tree.is_absent(destination)?
        && tree.is_folder(folder_of(destination))?
        && tree.is_folder("/var/lib/ucf/cache")?
        && tree.is_absent(&cached)?
        && !is_diverted(tree, destination)?;
    let (hashes, hashes_stat) = state_file(tree, HASHES)?;
    let before = format!("{HASHES}.0");
    tree.has_file(&before)?;
    let fresh = tree.is_absent(&format!("{HASHES}.tmp"))? && lines_that_end_with(&hashes, destination).is_empty();
    let templates = Templates::of(tree)?;
    if !ready || !fresh || cached.len() > 255 || tree.has_file("/var/cache/debconf/templates.dat-new")? {
        return None;
    }
    let mut after = hashes.clone();
    after.extend_from_slice(format!("{}  {destination}\n", hexadecimal(&Md5::digest(&content))).as_bytes());
    let work = || {
        templates.save(tree)?;
        copy_times(&tree.create(destination, &content, stat.st_mode & 0o7777)?, &stat)?;
        copy_times(&tree.overwrite(&before, &hashes, 0o644)?, &hashes_stat)?;
        tree.create(&format!("{HASHES}.tmp"), &after, 0o644)?;
        tree.rename(&format!("{HASHES}.tmp"), HASHES)?;
        if content.len() < CACHED_BELOW {
            copy_times(&tree.create(&cached, &content, stat.st_mode & 0o7777)?, &stat)?;
        }
        Ok(())
    };
    let stderr = format!("Creating config file {destination} with new version\n").into_bytes();
    Some(done(work, Reply { stderr, ..Reply::default() }))
}

/// Says whether dpkg was told what to do with configuration files.
fn forces(call: &Call<'_>) -> bool {
    call.variable("DPKG_FORCE").is_some_and(|value| value.windows(4).any(|part| part == b"conf"))
}

/// Says whether debconf would start, ask nothing and find what it always finds.
fn debconf_is_idle(tree: &Tree, call: &Call<'_>) -> Option<bool> {
    let quiet = call.environment.iter().all(|(name, value)| match &**name {
        b"DEBIAN_FRONTEND" => value == b"noninteractive",
        b"DEBCONF_NONINTERACTIVE_SEEN" => value == b"true" || value == b"false",
        name => value.is_empty() || !(name.starts_with(b"DEBIAN_") || name.starts_with(b"DEBCONF_")),
    });
    if !quiet || call.variable("DEBIAN_FRONTEND").is_none() {
        return Some(false);
    }
    for path in [
        "/var/lib/dpkg/tmp.ci/control",
        "/usr/bin/ucf.templates",
        "/usr/share/debconf/templates/ucf.templates",
        &*format!("{}/ucf.templates", super::ORIGINALS),
    ] {
        if !tree.is_absent(path)? {
            return Some(false);
        }
    }
    Some(tree.has_file("/var/cache/debconf/passwords.dat")? && has_questions(tree)?)
}

/// Says whether ucf's questions are in debconf's database of answers, with ucf as their owner.
fn has_questions(tree: &Tree) -> Option<bool> {
    /// The database as it was when they were found last.
    static FOUND: Mutex<Option<Stamp>> = Mutex::new(None);
    let path = "/var/cache/debconf/config.dat";
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if *found == Some(Stamp::of(&*tree.file(path)?)) {
        return Some(true);
    }
    let (database, stat) = tree.read_with_state(path)?;
    let text = std::str::from_utf8(&database).ok()?;
    let all = QUESTIONS.iter().all(|name| {
        let record = format!("Name: ucf/{name}\nTemplate: ucf/{name}\nOwners: ucf\n\n");
        text.starts_with(&record) || text.contains(&format!("\n\n{record}"))
    });
    *found = all.then(|| Stamp::of(&stat));
    Some(all)
}

fn is_diverted(tree: &Tree, destination: &str) -> Option<bool> {
    let path = "/var/lib/dpkg/diversions";
    Some(tree.has_file(path)? && tree.read(path)?.split(|byte| *byte == b'\n').any(|line| line == destination.as_bytes()))
}

/// What is known of debconf's database of templates, which each call of ucf writes anew with the same bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Templates {
    now: Stamp,
    /// The copy before, when it is known to hold the same bytes.
    before: Option<Stamp>,
}

static LAST: Mutex<Option<Templates>> = Mutex::new(None);

impl Templates {
    /// Looks at the database, and reads it unless it is as the last call left it.
    fn of(tree: &Tree) -> Option<Self> {
        let stat = tree.file(TEMPLATES)?;
        let now = Stamp::of(&stat);
        let before = match tree.look(TEMPLATES_BEFORE)? {
            Seen::File(stat) if is_common(&stat) => Some(Stamp::of(&stat)),
            Seen::Absent => None,
            _ => return None,
        };
        let last = *LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.filter(|last| last.now == now) {
            return Some(Self { now, before: before.filter(|_| last.before == before) });
        }
        let (text, read) = tree.read_with_state(TEMPLATES)?;
        let sound = Stamp::of(&read) == now && is_common(&read) && is_as_debconf_writes(&text) && has_records(&text);
        sound.then_some(Self { now, before: None })
    }

    /// Leaves the database and the copy before as debconf does when nothing in it changes.
    fn save(&self, tree: &Tree) -> std::io::Result<()> {
        let stat = tree.file(TEMPLATES).ok_or(std::io::ErrorKind::NotFound)?;
        if self.before.is_none() {
            let text = tree.read(TEMPLATES).ok_or(std::io::ErrorKind::NotFound)?;
            tree.overwrite(TEMPLATES_BEFORE, &text, 0o644)?;
        }
        tree.set_times(TEMPLATES_BEFORE, Some(&stat))?;
        tree.set_times(TEMPLATES, None)?;
        let stamp = |path| tree.file(path).map(|stat| Stamp::of(&stat));
        let left = stamp(TEMPLATES).map(|now| Self { now, before: stamp(TEMPLATES_BEFORE) });
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = left;
        Ok(())
    }
}

/// Says whether the records of ucf's templates are those that its templates make.
fn has_records(text: &[u8]) -> bool {
    let mut records = Vec::new();
    for record in records_of(text) {
        if record.starts_with(b"Name: ucf/") {
            records.extend_from_slice(record);
        }
    }
    hexadecimal(&<sha2::Sha256 as sha2::Digest>::digest(&records)) == RECORDS
}

/// Returns the records of a database, each with the blank line that ends it.
fn records_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 2);
        let (record, after) = rest.split_at(end);
        rest = after;
        (!record.is_empty()).then_some(record)
    })
}

/// Says whether debconf, after it read these bytes as templates, would write them again.
fn is_as_debconf_writes(text: &[u8]) -> bool {
    let mut last: &[u8] = b"";
    records_of(text).all(|record| {
        let Some(body) = record.strip_suffix(b"\n\n") else { return false };
        let mut lines = body.split(|byte| *byte == b'\n');
        let Some(name) = lines.next().and_then(|line| line.strip_prefix(b"Name: ")) else { return false };
        let ascends = name > last;
        last = name;
        ascends && are_fields(lines)
    })
}

/// Says whether lines are fields in order, then the owners in order.
fn are_fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut last: Vec<u8> = Vec::new();
    let mut owned = false;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        let (key, value) = (&line[..colon], &line[colon + 1..]);
        let Some(value) = value.strip_prefix(b" ") else { return false };
        let mut lower = key.to_ascii_lowercase();
        if owned || lower.is_empty() || key[1..] != lower[1..] || !key[0].is_ascii_uppercase() || !key.is_ascii() {
            return false;
        }
        match &*lower {
            b"owners" => {
                owned = true;
                let owners: Vec<&[u8]> = value.split(|byte| *byte == b' ').collect();
                let listed = owners.iter().rev().skip(1).all(|owner| owner.ends_with(b",") && owner.len() > 1);
                let names: Vec<&[u8]> = owners.iter().map(|owner| owner.strip_suffix(b",").unwrap_or(owner)).collect();
                if !listed
                    || !value.is_ascii()
                    || !names.is_sorted_by(|a, b| a < b)
                    || owners.last().is_none_or(|last| last.ends_with(b",") || last.is_empty())
                {
                    return false;
                }
            }
            b"flags" | b"variables" | b"name" => return false,
            _ if lower <= last => return false,
            _ => last = std::mem::take(&mut lower),
        }
    }
    owned
}

pub fn ucfr(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let (package, file) = match call.arguments {
        [package, file] => (package, file),
        [option, package, file] if option == b"--force" || option == b"-f" => (package, file),
        _ => return None,
    };
    let (package, file) = (word(package).and_then(super::name)?, path(file)?);
    // The original follows links to the real file, and needs none of the folders above it to be there.
    let plain = tree.is_folder(folder_of(file))? && !matches!(tree.look(file)?, Seen::Link(_));
    if !plain || !is_configured_as_usual(tree)? || !tree.is_folder("/var/lib/ucf")? {
        return None;
    }
    let old = if tree.has_file(REGISTRY)? { state_file(tree, REGISTRY)?.0 } else { Vec::new() };
    match *lines_that_end_with(&old, file) {
        [] => {}
        [line] => return is_of(line, package, file).then(Reply::default),
        _ => return None,
    }
    let numbered = |number: usize| format!("{REGISTRY}.{number}");
    let mut kept = Vec::new();
    for number in 0..=7 {
        match tree.look(&numbered(number))? {
            Seen::File(stat) if is_common(&stat) => kept.push(number),
            Seen::Absent => {}
            _ => return None,
        }
    }
    // cp(1) leaves a copy before a gap where it is, and a rename would not.
    if !kept.iter().copied().eq(0..kept.len()) {
        return None;
    }
    let temporary = format!("{REGISTRY}.tmp");
    if !tree.is_absent(&temporary)? {
        return None;
    }
    let mut after = old.clone();
    after.extend_from_slice(format!("{package} \t {file}\n").as_bytes());
    let work = || {
        for number in kept.iter().rev().filter(|number| **number < 7) {
            tree.rename(&numbered(*number), &numbered(number + 1))?;
            tree.set_times(&numbered(number + 1), None)?;
        }
        tree.create(&numbered(0), &old, 0o644)?;
        tree.create(&temporary, &after, 0o644)?;
        tree.rename(&temporary, REGISTRY)
    };
    Some(done(work, Reply::default()))
}

/// Says whether a line of the registry gives the file to the package.
fn is_of(line: &[u8], package: &str, file: &str) -> bool {
    let mut fields = line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|field| !field.is_empty());
    fields.next() == Some(package.as_bytes()) && fields.next() == Some(file.as_bytes()) && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_debconf_would_write_again_passes() {
        let sound = "Name: a/b\nDefault: \nDescription: x: y\nDescription-de.utf-8: é\nType: string\n\
             Owners: a/b, c/d\n\nName: b/a\nType: text\nOwners: b/a\n\n";
        assert!(is_as_debconf_writes(sound.as_bytes()));
        for (from, to) in [
            ("Name: b/a", "Name: a/a"),
            ("Name: b/a", "Name:  b/a\nname: b/a"),
            ("Type: text\nOwners: b/a", "Owners: b/a\nType: text"),
            ("Default: \n", "Default:\n"),
            ("Default: \n", "default: \n"),
            ("Default: \n", "Zdefault: \n"),
            ("Default: \n", "Default: \nDefault: \n"),
            ("Default: \n", "nonsense\n"),
            ("a/b, c/d", "c/d, a/b"),
            ("a/b, c/d", "a/b,  c/d"),
            ("a/b, c/d", "a/b, "),
            ("Owners: b/a\n\n", "Owners: b/a\n"),
            ("Owners: b/a\n", "Owners: b/a\nFlags: seen\n"),
            ("\n\nName: b", "\n\n\nName: b"),
        ] {
            let odd = sound.replacen(from, to, 1);
            assert_ne!(odd, sound, "{from:?} is in the text");
            assert!(!is_as_debconf_writes(odd.as_bytes()), "{to:?}");
        }
    }

    #[test]
    fn a_line_of_the_registry_belongs_to_one_package() {
        assert!(is_of(b"php \t /etc/x", "php", "/etc/x"));
        assert!(!is_of(b"php8 \t /etc/x", "php", "/etc/x"));
        assert!(!is_of(b"php \t /etc/y/etc/x", "php", "/etc/x"));
        assert_eq!(lines_that_end_with(b"a \t /etc/x\nb \t /etc/xy\n", "/etc/x").len(), 1);
    }
}
