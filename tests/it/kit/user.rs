//! Ordinary users, made for one test and removed after it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary account with a home of its own.
pub struct User {
    name: String,
    id: u32,
}

impl User {
    /// Makes an account; with 65,536 subordinate ids if asked. Returns `None` where the tests themselves run as an ordinary user.
    pub fn new(with_subordinate_ids: bool) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let name = format!("parvis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let count = if with_subordinate_ids { "65536" } else { "0" };
        let (uids, gids) = (format!("SUB_UID_COUNT={count}"), format!("SUB_GID_COUNT={count}"));
        // `useradd` takes a lock on the password file; tests that run side by side wait for each other.
        for _ in 0..100 {
            let made = Command::new("useradd")
                .args(["--create-home", "--shell", "/bin/sh", "-K", &uids, "-K", &gids, &name])
                .output()
                .unwrap();
            if made.status.success() {
                let id = Command::new("id").args(["-u", &name]).output().unwrap();
                return Some(Self { name, id: String::from_utf8(id.stdout).unwrap().trim().parse().unwrap() });
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("`useradd` does not make an account");
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn home(&self) -> String {
        format!("/home/{}", self.name)
    }

    /// Returns the same command, run by the user, with no more rights and groups than a log-in would give.
    ///
    /// Only the variables that were set on the command are kept.
    pub fn command(&self, command: &Command) -> Command {
        let mut own = Command::new("setpriv");
        let id = self.id.to_string();
        own.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--"]);
        own.arg(command.get_program()).args(command.get_args());
        own.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        own.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .env("HOME", self.home())
            .env("USER", &self.name);
        own
    }

    /// Gives a file or folder to the user, with all below it.
    pub fn own(&self, path: &std::path::Path) {
        let owner = format!("{}:{}", self.id, self.id);
        assert!(Command::new("chown").args(["-R", &owner]).arg(path).status().unwrap().success());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for _ in 0..100 {
            if Command::new("userdel")
                .args(["--force", "--remove", &self.name])
                .output()
                .is_ok_and(|output| output.status.success())
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(user: &User) -> bool {
        std::fs::read_to_string("/etc/subuid").unwrap_or_default().contains(&format!("{}:", user.name()))
    }

    #[test]
    fn a_user_runs_commands_and_is_gone_afterwards() {
        let (Some(with), Some(without)) = (User::new(true), User::new(false)) else { return };
        assert!(mapped(&with) && !mapped(&without));
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -G; touch \"$HOME/x\" && echo $A; grep CapEff /proc/self/status"]).env("A", "b");
        let output = with.command(&command).output().unwrap();
        let expected = format!("{0}\n{0}\nb\nCapEff:\t0000000000000000\n", with.id());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        let folder = tempfile::tempdir().unwrap();
        without.own(folder.path());
        let mut write = Command::new("touch");
        write.arg(folder.path().join("x"));
        assert!(without.command(&write).status().unwrap().success());
        assert!(!with.command(&write).status().unwrap().success());
        let home = with.home();
        drop(with);
        assert!(!std::path::Path::new(&home).exists());
    }
}
