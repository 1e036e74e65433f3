//! Which user ids a sandbox has: the rungs from root down to a single id, and how each is climbed.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getgid, getuid};
use serde::{Deserialize, Serialize};

/// How the ids inside a sandbox come about. The results are the same on every rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Privilege {
    /// parvis runs as root: ids 0 to 65,535 are themselves.
    Root,
    /// 0 is the caller, 1 to 65,535 are ids that `/etc/subuid` and `/etc/subgid` lend to the caller.
    SubordinateIds,
    /// 0 is the caller and there is no other: changes of owner are answered and written down.
    SingleId,
}

/// As many as Debian uses: `nobody` is 65,534.
const IDS: u32 = 65_536;

/// A rung that cannot be climbed: what is missing.
#[derive(Debug)]
pub struct Missing(pub String);

/// Returns the first ids of the ranges that the system lends to the caller, for users and for groups.
pub fn subordinate_ids() -> Result<(u32, u32), Missing> {
    let uid = getuid().as_raw();
    let name = user_name(uid);
    for program in ["newuidmap", "newgidmap"] {
        if find(program).is_none() {
            return Err(Missing(format!("the program `{program}` is not installed")));
        }
    }
    let lent = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        first_lent(&text, uid, name.as_deref()).ok_or_else(|| {
            Missing(format!("`{file}` lends no {} ids in one range to user {}", IDS - 1, name.clone().unwrap_or(uid.to_string())))
        })
    };
    Ok((lent("/etc/subuid")?, lent("/etc/subgid")?))
}

fn first_lent(text: &str, uid: u32, name: Option<&str>) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let ours = Some(owner) == name || owner.parse() == Ok(uid);
        (ours && count >= IDS - 1 && first.checked_add(count).is_some()).then_some(first)
    })
}

fn user_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/sbin", "/usr/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}

/// Gives a process that waits in a fresh user namespace its ids.
pub fn map(process: u32, privilege: Privilege) -> Result<(), Missing> {
    let written = |cause: io::Error| Missing(format!("its id map cannot be written: {cause}"));
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let file = |name: &str| format!("/proc/{process}/{name}");
    match privilege {
        Privilege::Root => {
            fs::write(file("uid_map"), format!("0 0 {IDS}\n")).map_err(written)?;
            fs::write(file("gid_map"), format!("0 0 {IDS}\n")).map_err(written)
        }
        Privilege::SubordinateIds => {
            let (uids, gids) = subordinate_ids()?;
            lend("newuidmap", process, uid, uids)?;
            lend("newgidmap", process, gid, gids)
        }
        Privilege::SingleId => {
            fs::write(file("setgroups"), "deny").map_err(written)?;
            fs::write(file("uid_map"), format!("0 {uid} 1\n")).map_err(written)?;
            fs::write(file("gid_map"), format!("0 {gid} 1\n")).map_err(written)
        }
    }
}

fn lend(program: &str, process: u32, own: u32, first: u32) -> Result<(), Missing> {
    let path = find(program).ok_or_else(|| Missing(format!("the program `{program}` is not installed")))?;
    let count = IDS - 1;
    let arguments = [process, 0, own, 1, 1, first, count].map(|number| number.to_string());
    let output = Command::new(path).args(arguments).env_clear().stdin(Stdio::null()).output();
    let output = output.map_err(|cause| Missing(format!("`{program}` cannot be started: {cause}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or_default().trim().escape_debug().to_string();
    Err(Missing(format!("`{program}` refused: {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_range_is_found_by_name_or_number_and_only_when_large_enough() {
        let text = "other:1:65536\nann:100000:1000\nann:200000:65536\n1000:300000:65535\nbad\n:::\n";
        assert_eq!(first_lent(text, 1000, Some("ann")), Some(200_000));
        assert_eq!(first_lent(text, 1000, None), Some(300_000));
        assert_eq!(first_lent(text, 7, Some("eve")), None);
        assert_eq!(first_lent("ann:4294967295:65536", 7, Some("ann")), None);
    }
}
