//! Users and groups of an image: declared ids are written before any package could choose others.
//!
//! Source: passwd(5), group(5), shadow(5), gshadow(5); Debian Policy, section 9.2.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::model::name::AccountName;
use crate::model::recipe::{Account, Owner, Owners};
use crate::model::tree::{Tree, TreePath, escape};

/// Accounts that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("the {kind} `{name}` is asked for with {what} {asked}, but has {what} {found} already")]
    Differs { line: u32, kind: &'static str, name: String, what: &'static str, asked: u32, found: u32 },
    #[error("{what} {id} is asked for by `{name}`, but belongs to `{holder}`")]
    Taken { line: u32, what: &'static str, id: u32, name: String, holder: String },
    #[error("the user `{name}` is to be in the group `{group}`, which does not exist")]
    NoGroup { line: u32, name: String, group: String },
    #[error("the user `{name}` has a colon or a line break in its {field}")]
    Field { line: u32, name: String, field: &'static str },
    #[error("there is no {what} `{name}` in the image")]
    Unknown { what: &'static str, name: String },
    #[error("line {line} of `/etc/{file}` is not an entry: `{found}`")]
    Malformed { file: &'static str, line: usize, found: String },
}

impl AccountError {
    /// Returns the line of the recipe that asks for it, where there is one.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        match self {
            Self::Differs { line, .. } | Self::Taken { line, .. } | Self::NoGroup { line, .. } | Self::Field { line, .. } => {
                Some(*line)
            }
            Self::Unknown { .. } | Self::Malformed { .. } => None,
        }
    }

    /// Returns what a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Differs { what, found, .. } => {
                Some(format!("ask for {what} {found}, or declare the account in the parent's recipe"))
            }
            Self::Taken { what, .. } => Some(format!("choose another {what}; 1000 to 59999 are free for people's own users")),
            Self::NoGroup { group, .. } => {
                Some(format!("declare a user with the group `{group}` above, with the gid it shall have"))
            }
            Self::Unknown { name, .. } => Some(format!("declare `{name}` under `users:`, or install the package that makes it")),
            Self::Field { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// The four files that hold accounts. The shadow files are absent until the package `passwd` is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountFiles {
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
    pub shadow: Option<Vec<u8>>,
    pub gshadow: Option<Vec<u8>>,
}

/// The files with which the package `base-passwd` would start an image that has none.
pub const MASTERS: [&str; 2] = ["usr/share/base-passwd/passwd.master", "usr/share/base-passwd/group.master"];

impl AccountFiles {
    /// Reads the files of an image, or where it has none the masters of `base-passwd`; `read` gives a file's content.
    ///
    /// # Errors
    /// Gives back the error of `read`.
    pub fn of_tree<E>(tree: &Tree, mut read: impl FnMut(&TreePath) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let mut find = |names: &[&str]| {
            let mut paths = names.iter().filter_map(|name| TreePath::parse(name.as_bytes()).ok());
            let found = paths.find(|path| tree.get(path.as_bytes()).is_some_and(|entry| !entry.is_directory()));
            found.map(|path| read(&path)).transpose()
        };
        Ok(Self {
            passwd: find(&["etc/passwd", MASTERS[0]])?.unwrap_or_default(),
            group: find(&["etc/group", MASTERS[1]])?.unwrap_or_default(),
            shadow: find(&["etc/shadow"])?,
            gshadow: find(&["etc/gshadow"])?,
        })
    }

    /// Returns the files to be written: path, mode, group, content. All belong to root; 42 is Debian's group `shadow`.
    #[must_use]
    pub fn into_files(self) -> Vec<(TreePath, u16, u32, Vec<u8>)> {
        let files = [
            ("etc/passwd", 0o644, 0, Some(self.passwd)),
            ("etc/group", 0o644, 0, Some(self.group)),
            ("etc/shadow", 0o640, 42, self.shadow),
            ("etc/gshadow", 0o640, 42, self.gshadow),
        ];
        let present = files.into_iter().filter_map(|(path, mode, gid, bytes)| Some((path, mode, gid, bytes?)));
        present.filter_map(|(path, mode, gid, bytes)| Some((TreePath::parse(path.as_bytes()).ok()?, mode, gid, bytes))).collect()
    }

    /// Adds users with their groups. An account that exists with the same ids stays, with what the recipe says of its
    /// comment, home and shell. New accounts are locked. `day` is the day since 1970 of the passwords' last change.
    ///
    /// # Errors
    /// Names the ids that clash and who holds them; nothing is changed then.
    pub fn add(&mut self, users: &[Account], day: i64) -> Result<(), AccountError> {
        let mut edited = Edited {
            passwd: lines(&self.passwd),
            group: lines(&self.group),
            shadow: self.shadow.as_deref().map(lines),
            gshadow: self.gshadow.as_deref().map(lines),
        };
        let known = Accounts::parse(&self.passwd, &self.group)?;
        let (mut user_ids, mut group_ids) = (known.users.clone(), known.groups.clone());
        for user in users {
            check_fields(user)?;
            check_group(&group_ids, user)?;
            check_user(&user_ids, user)?;
            if group_ids.insert(user.group.to_string(), user.gid).is_none() {
                edited.add_group(user);
            }
            match user_ids.insert(user.name.to_string(), (user.uid, user.gid)) {
                None => edited.add_user(user, day),
                Some(_) => edited.change_user(user),
            }
        }
        for user in users {
            for group in &user.groups {
                if !group_ids.contains_key(group.as_str()) {
                    let (line, name, group) = (user.line, user.name.to_string(), group.to_string());
                    return Err(AccountError::NoGroup { line, name, group });
                }
                edited.add_member(group, &user.name);
            }
        }
        self.passwd = joined(&edited.passwd);
        self.group = joined(&edited.group);
        self.shadow = edited.shadow.as_deref().map(joined);
        self.gshadow = edited.gshadow.as_deref().map(joined);
        Ok(())
    }
}

fn check_fields(user: &Account) -> Result<(), AccountError> {
    let bad = |text: &str| text.contains(':') || text.chars().any(char::is_control);
    let fields = [("comment", &user.comment), ("home", &user.home), ("shell", &user.shell)];
    match fields.into_iter().find(|(_, text)| bad(text)) {
        Some((field, _)) => Err(AccountError::Field { line: user.line, name: user.name.to_string(), field }),
        None => Ok(()),
    }
}

fn check_group(groups: &BTreeMap<String, u32>, user: &Account) -> Result<(), AccountError> {
    let (line, name) = (user.line, user.name.to_string());
    if let Some(found) = groups.get(user.group.as_str()).filter(|found| **found != user.gid) {
        let (kind, name) = ("group", user.group.to_string());
        return Err(AccountError::Differs { line, kind, name, what: "gid", asked: user.gid, found: *found });
    }
    match groups.iter().find(|(group, gid)| **gid == user.gid && group.as_str() != user.group.as_str()) {
        Some((holder, id)) => Err(AccountError::Taken { line, what: "gid", id: *id, name, holder: holder.clone() }),
        None => Ok(()),
    }
}

fn check_user(users: &BTreeMap<String, (u32, u32)>, user: &Account) -> Result<(), AccountError> {
    let (line, name) = (user.line, user.name.to_string());
    if let Some((uid, gid)) = users.get(user.name.as_str()) {
        let differing = [("uid", user.uid, *uid), ("gid", user.gid, *gid)].into_iter().find(|(_, asked, found)| asked != found);
        return match differing {
            Some((what, asked, found)) => Err(AccountError::Differs { line, kind: "user", name, what, asked, found }),
            None => Ok(()),
        };
    }
    match users.iter().find(|(_, (uid, _))| *uid == user.uid) {
        Some((holder, (id, _))) => Err(AccountError::Taken { line, what: "uid", id: *id, name, holder: holder.clone() }),
        None => Ok(()),
    }
}

type Line = Vec<u8>;

/// The lines of the four files while they are edited.
struct Edited {
    passwd: Vec<Line>,
    group: Vec<Line>,
    shadow: Option<Vec<Line>>,
    gshadow: Option<Vec<Line>>,
}

impl Edited {
    fn add_group(&mut self, user: &Account) {
        let secret = if self.gshadow.is_some() { "x" } else { "*" };
        self.group.push(format!("{}:{secret}:{}:", user.group, user.gid).into_bytes());
        if let Some(gshadow) = &mut self.gshadow {
            gshadow.push(format!("{}:!::", user.group).into_bytes());
        }
    }

    fn add_user(&mut self, user: &Account, day: i64) {
        let secret = if self.shadow.is_some() { "x" } else { "!" };
        self.passwd.push(passwd_line(user, secret.as_bytes()));
        if let Some(shadow) = &mut self.shadow {
            shadow.push(format!("{}:!:{day}:0:99999:7:::", user.name).into_bytes());
        }
    }

    fn change_user(&mut self, user: &Account) {
        for line in self.passwd.iter_mut().filter(|line| begins(line, user.name.as_str())) {
            let secret = line.split(|byte| *byte == b':').nth(1).unwrap_or_default().to_vec();
            *line = passwd_line(user, &secret);
        }
    }

    fn add_member(&mut self, group: &AccountName, user: &AccountName) {
        for lines in [Some(&mut self.group), self.gshadow.as_mut()].into_iter().flatten() {
            for line in lines.iter_mut().filter(|line| begins(line, group.as_str())) {
                let members = line.rsplit(|byte| *byte == b':').next().unwrap_or_default();
                if members.split(|byte| *byte == b',').any(|member| member == user.as_str().as_bytes()) {
                    continue;
                }
                if !members.is_empty() {
                    line.push(b',');
                }
                line.extend_from_slice(user.as_str().as_bytes());
            }
        }
    }
}

fn passwd_line(user: &Account, secret: &[u8]) -> Line {
    let Account { name, uid, gid, comment, home, shell, .. } = user;
    [format!("{name}:").as_bytes(), secret, format!(":{uid}:{gid}:{comment}:{home}:{shell}").as_bytes()].concat()
}

fn begins(line: &[u8], name: &str) -> bool {
    line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
}

fn lines(bytes: &[u8]) -> Vec<Line> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn joined(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

/// The users and groups of an image by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    users: BTreeMap<String, (u32, u32)>,
    groups: BTreeMap<String, u32>,
    /// The groups that list each user.
    members: BTreeMap<String, Vec<u32>>,
    /// The home of each uid.
    homes: BTreeMap<u32, String>,
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group`. Of entries with the same name the first counts, as for the C library.
    ///
    /// # Errors
    /// Names the first line that is not an entry.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Result<Self, AccountError> {
        let mut accounts = Self::default();
        for (name, ids) in entries("passwd", passwd, 7, 2..4)? {
            accounts.users.entry(name).or_insert((ids[0], ids[1]));
        }
        for line in String::from_utf8_lossy(passwd).lines() {
            if let [_, _, uid, _, _, home, _] = line.split(':').collect::<Vec<_>>()[..]
                && let Ok(uid) = uid.parse()
            {
                accounts.homes.entry(uid).or_insert_with(|| home.to_owned());
            }
        }
        for (name, ids) in entries("group", group, 4, 2..3)? {
            accounts.groups.entry(name).or_insert(ids[0]);
        }
        for line in String::from_utf8_lossy(group).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, gid, members] = fields[..]
                && let Ok(gid) = gid.parse()
            {
                for member in members.split(',').filter(|member| !member.is_empty()) {
                    accounts.members.entry(member.to_owned()).or_default().push(gid);
                }
            }
        }
        Ok(accounts)
    }

    /// Returns the uid and gid that owners have in the image.
    ///
    /// # Errors
    /// Names the user or group that the image does not have.
    pub fn resolve(&self, owners: &Owners) -> Result<(u32, u32), AccountError> {
        let unknown = |what, name: &AccountName| AccountError::Unknown { what, name: name.to_string() };
        let uid = match &owners.user {
            Owner::Id(id) => *id,
            Owner::Name(name) => self.users.get(name.as_str()).ok_or_else(|| unknown("user", name))?.0,
        };
        let gid = match &owners.group {
            Owner::Id(id) => *id,
            Owner::Name(name) => *self.groups.get(name.as_str()).ok_or_else(|| unknown("group", name))?,
        };
        Ok((uid, gid))
    }

    /// Returns the uid and primary gid of a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<(u32, u32)> {
        self.users.get(name).copied()
    }

    /// Returns the home of whoever has a uid: of several accounts that of the first, as container engines take it.
    #[must_use]
    pub fn home(&self, uid: u32) -> Option<&str> {
        self.homes.get(&uid).map(String::as_str).filter(|home| !home.is_empty())
    }

    /// Returns the gids of the groups that list a user as a member, sorted.
    #[must_use]
    pub fn memberships(&self, name: &str) -> Vec<u32> {
        let groups: BTreeSet<u32> = self.members.get(name).into_iter().flatten().copied().collect();
        groups.into_iter().collect()
    }

    /// Returns the gid of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// Returns the first field of each line, and the numbers in some others.
fn entries(
    file: &'static str,
    bytes: &[u8],
    width: usize,
    numbers: Range<usize>,
) -> Result<Vec<(String, Vec<u32>)>, AccountError> {
    let mut entries = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        // The C library takes these for comments and for NIS.
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"+") || line.starts_with(b"-") {
            continue;
        }
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let number = |field: &&[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let ids: Option<Vec<u32>> = fields.get(numbers.clone()).and_then(|ids| ids.iter().map(number).collect());
        match ids {
            Some(ids) if fields.len() == width && !fields[0].is_empty() => {
                entries.push((String::from_utf8_lossy(fields[0]).into_owned(), ids));
            }
            _ => {
                let found = escape(&line[..line.len().min(80)]);
                return Err(AccountError::Malformed { file, line: index + 1, found });
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:*:0:0:root:/root:/bin/bash\nwww-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\n";
    const GROUP: &str = "root:*:0:\nwww-data:*:33:\nssl-cert:*:102:root\n";

    fn account(name: &str, uid: u32, gid: u32, groups: &[&str]) -> Account {
        Account {
            line: 9,
            name: name.parse().unwrap(),
            uid,
            gid,
            group: name.parse().unwrap(),
            comment: String::new(),
            home: "/nonexistent".into(),
            shell: "/usr/sbin/nologin".into(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        }
    }

    fn files() -> AccountFiles {
        AccountFiles { passwd: PASSWD.into(), group: GROUP.into(), shadow: None, gshadow: None }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn users_are_added_with_their_group_and_locked() {
        let mut files = files();
        files.add(&[account("paroisse", 1001, 1002, &["ssl-cert", "www-data"])], 7).unwrap();
        assert_eq!(text(&files.passwd), format!("{PASSWD}paroisse:!:1001:1002::/nonexistent:/usr/sbin/nologin\n"));
        assert_eq!(text(&files.group), "root:*:0:\nwww-data:*:33:paroisse\nssl-cert:*:102:root,paroisse\nparoisse:*:1002:\n");
        assert_eq!(files.shadow, None);
    }

    #[test]
    fn where_there_are_shadow_files_they_hold_the_lock() {
        let mut files = files();
        (files.shadow, files.gshadow) = (Some("root:*:1::::::\n".into()), Some("root:*::\nssl-cert:!::root\n".into()));
        files.add(&[account("db", 105, 105, &["ssl-cert"])], 20_000).unwrap();
        assert!(text(&files.passwd).ends_with("\ndb:x:105:105::/nonexistent:/usr/sbin/nologin\n"));
        assert!(text(&files.group).ends_with("\ndb:x:105:\n"));
        assert_eq!(text(files.shadow.as_ref().unwrap()), "root:*:1::::::\ndb:!:20000:0:99999:7:::\n");
        assert_eq!(text(files.gshadow.as_ref().unwrap()), "root:*::\nssl-cert:!::root,db\ndb:!::\n");
    }

    #[test]
    fn adding_twice_changes_nothing_more() {
        let users = [account("paroisse", 1001, 1001, &["www-data"]), account("www-data", 33, 33, &[])];
        let mut files = files();
        files.add(&users, 7).unwrap();
        let once = files.clone();
        files.add(&users, 8).unwrap();
        assert_eq!(files, once);
        assert!(text(&files.passwd).contains("www-data:*:33:33::/nonexistent:"), "what the recipe says of home counts");
    }

    #[test]
    fn ids_that_clash_are_refused_with_both_names() {
        let in_group = |group: &str, account: Account| Account { group: group.parse().unwrap(), ..account };
        let cases = [
            (account("apache", 33, 1001, &[]), "uid 33 is asked for by `apache`, but belongs to `www-data`"),
            (account("apache", 1001, 33, &[]), "gid 33 is asked for by `apache`, but belongs to `www-data`"),
            (account("www-data", 1033, 33, &[]), "the user `www-data` is asked for with uid 1033, but has uid 33 already"),
            (account("www-data", 33, 1033, &[]), "the group `www-data` is asked for with gid 1033, but has gid 33 already"),
            (
                in_group("root", account("www-data", 33, 0, &[])),
                "the user `www-data` is asked for with gid 0, but has gid 33 already",
            ),
            (account("db", 1001, 1001, &["adm"]), "the user `db` is to be in the group `adm`, which does not exist"),
            (
                Account { home: "/a:/b".into(), ..account("db", 1, 1, &[]) },
                "the user `db` has a colon or a line break in its home",
            ),
        ];
        for (user, expected) in cases {
            let mut files = files();
            let error = files.add(&[user], 0).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.line()), (expected, Some(9)));
            assert_eq!(files, self::files(), "nothing is changed");
        }
        let both = [account("one", 7, 7, &[]), account("two", 7, 8, &[])];
        let error = files().add(&both, 0).unwrap_err().to_string();
        assert_eq!(error, "uid 7 is asked for by `two`, but belongs to `one`");
    }

    #[test]
    fn owners_are_resolved_by_the_image_s_own_files() {
        let accounts = Accounts::parse(PASSWD.as_bytes(), GROUP.as_bytes()).unwrap();
        let name = |name: &str| Owner::Name(name.parse().unwrap());
        let resolve = |user, group| accounts.resolve(&Owners { user, group });
        assert_eq!(resolve(name("www-data"), name("ssl-cert")), Ok((33, 102)));
        assert_eq!(resolve(Owner::Id(7), Owner::Id(8)), Ok((7, 8)));
        let error = resolve(name("ssl-cert"), name("root")).unwrap_err();
        assert_eq!(error.to_string(), "there is no user `ssl-cert` in the image");
        let more = format!("{PASSWD}other:*:33:33::/elsewhere:/bin/sh\nbare:*:7:7:::/bin/sh\n");
        let accounts = Accounts::parse(more.as_bytes(), b"").unwrap();
        assert_eq!((accounts.home(33), accounts.home(7), accounts.home(8)), (Some("/var/www"), None, None));
    }

    #[test]
    fn an_overflowing_or_malformed_id_is_refused() {
        for line in ["a:x:4294967296:0::/:/bin/sh", "a:x:-1:0::/:/bin/sh", "a:x:0:0::/", ":x:0:0::/:/bin/sh", "a"] {
            let error = Accounts::parse(format!("{PASSWD}{line}\n").as_bytes(), b"").unwrap_err();
            assert_eq!(error.to_string(), format!("line 3 of `/etc/passwd` is not an entry: `{line}`"));
        }
    }
}
