//! A Debian so small that it is built in moments, yet real: its shell, dpkg and tools are those of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::fakerepo::{Repo, Suite};
use super::mkdeb::{Compression, Deb};
use super::rawtar::Entry;

/// The packages of the machine's own programs, which every image has: package, programs.
const PROGRAMS: [(&str, &[&str]); 6] = [
    ("dash", &["dash"]),
    (
        "coreutils",
        &["cat", "chmod", "chown", "cp", "echo", "env", "id", "ln", "ls", "mkdir", "mv", "rm", "sleep", "stat", "touch", "true"],
    ),
    ("tar", &["tar"]),
    ("diffutils", &["diff"]),
    ("libc-bin", &["ldconfig"]),
    (
        "dpkg",
        &[
            "dpkg",
            "dpkg-deb",
            "dpkg-divert",
            "dpkg-query",
            "dpkg-statoverride",
            "dpkg-trigger",
            "start-stop-daemon",
            "update-alternatives",
        ],
    ),
];

/// Returns an archive with the world in it: main has everything, security has a fix of `libfoo`. It is published.
pub fn archive() -> Repo {
    let mut repo = Repo::new();
    for deb in packages() {
        repo.add(Suite::Main, deb);
    }
    repo.add(Suite::Security, &libfoo("1.0-1+deb13u1"));
    repo.publish();
    repo
}

/// Returns an archive with the world in it and this library in place of its own; no suite has a fix. It is published.
pub fn archive_of(libfoo: &Deb) -> Repo {
    let mut repo = Repo::new();
    for deb in packages() {
        repo.add(Suite::Main, if deb.name() == libfoo.name() { libfoo } else { deb });
    }
    repo.publish();
    repo
}

/// Returns all packages of main.
pub fn packages() -> &'static [Deb] {
    static PACKAGES: OnceLock<Vec<Deb>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let mut packages = machine();
        packages.extend([base_files(), base_passwd()]);
        packages.extend([libfoo("1.0-1"), libfoo_data(), app(), plugin(), unsatisfiable()]);
        packages
    })
}

fn base_files() -> Deb {
    let mut deb = Deb::new("base-files", "13").essential().pre_depends("libc6");
    for folder in [
        "/boot",
        "/etc/default",
        "/home",
        "/proc",
        "/root",
        "/run",
        "/sys",
        "/usr/bin",
        "/usr/lib64",
        "/usr/sbin",
        "/var/lib/dpkg",
        "/var/log",
    ] {
        deb = deb.directory(folder);
    }
    for (link, target) in
        [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/sbin", "usr/sbin"), ("/var/run", "/run")]
    {
        deb = deb.symlink(link, target);
    }
    deb.entry(Entry::directory("./tmp/").mode(0o1777))
        .conffile("/etc/debian_version", "13.1\n")
        .file(
            "/usr/lib/os-release",
            "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\nPRETTY_NAME=\"Debian, as the tests have it\"\n",
        )
        .symlink("/etc/os-release", "../usr/lib/os-release")
        .script("postinst", "#!/bin/sh\nset -e\n[ -e /etc/profile ] || echo 'umask 022' > /etc/profile\n")
}

fn base_passwd() -> Deb {
    let passwd = "root:*:0:0:root:/root:/bin/sh\nwww-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let group = "root:*:0:\nshadow:*:42:\nwww-data:*:33:\nnogroup:*:65534:\n";
    Deb::new("base-passwd", "3.6")
        .essential()
        .pre_depends("libc6")
        .file("/usr/share/base-passwd/passwd.master", passwd)
        .file("/usr/share/base-passwd/group.master", group)
        .script(
            "postinst",
            "#!/bin/sh\nset -e\nfor f in passwd group; do [ -e /etc/$f ] || cp /usr/share/base-passwd/$f.master /etc/$f; done\n",
        )
}

/// Returns the packages of this machine's programs and of the libraries that they load.
fn machine() -> Vec<Deb> {
    let mut libraries = BTreeMap::new();
    let mut packages = Vec::new();
    for (name, programs) in PROGRAMS {
        let mut deb = Deb::new(name, "1.0").essential().pre_depends("libc6").compression(Compression::Gzip);
        for program in programs {
            let path = find(program);
            libraries.extend(loaded_by(&path));
            let folder = if path.parent().is_some_and(|folder| folder.ends_with("sbin")) { "sbin" } else { "bin" };
            deb = deb.program(&format!("/usr/{folder}/{program}"), fs::read(&path).unwrap());
        }
        packages.push(match name {
            "dash" => deb.symlink("/usr/bin/sh", "dash"),
            "libc-bin" => deb
                .script("triggers", "interest-noawait ldconfig\n")
                .script("postinst", "#!/bin/sh\nset -e\n[ \"$1\" != triggered ] || ldconfig\n"),
            "dpkg" => {
                deb.conffile("/etc/dpkg/dpkg.cfg", "no-debsig\n").directory("/var/lib/dpkg/info").directory("/etc/alternatives")
            }
            _ => deb,
        });
    }
    let mut libc = Deb::new("libc6", "2.41-1").field("Multi-Arch", "same").script("triggers", "activate-noawait ldconfig\n");
    for (path, content) in libraries {
        libc = libc.program(&path, content);
    }
    packages.insert(0, libc);
    packages
}

/// Returns a library: another version of it has other content, and the same files.
pub fn libfoo(version: &str) -> Deb {
    Deb::new("libfoo", version)
        .field("Source", "foo")
        .field("Multi-Arch", "same")
        .depends(&format!("libc6 (>= 2.36), libfoo-data (>= {})", version.split('+').next().unwrap_or_default()))
        .file("/usr/lib/libfoo.so.1", format!("the library, version {version}\n"))
        .script("triggers", "activate-noawait ldconfig\n")
        .compression(Compression::Xz)
}

fn libfoo_data() -> Deb {
    let mut deb =
        Deb::new("libfoo-data", "1.0-1").field("Source", "foo").field("Architecture", "all").compression(Compression::Zstd);
    for number in 0..40 {
        deb = deb.file(&format!("/usr/share/foo/{number:02}.txt"), format!("line {number}\n").repeat(200));
    }
    deb.entry(Entry::hard_link("./usr/share/foo/twin.txt", "./usr/share/foo/00.txt"))
}

/// Returns a program with everything that a package can have: conffiles, a user, an alternative, a trigger.
fn app() -> Deb {
    let postinst = "#!/bin/sh\nset -e\ncase \"$1\" in\nconfigure)\n\
        mkdir -p /var/lib/app\n\
        echo \"configured as $(id -u) with $(cat /etc/app/app.conf)\" > /var/lib/app/state\n\
        chown www-data:www-data /var/lib/app && chmod 0750 /var/lib/app\n\
        update-alternatives --install /usr/bin/editor editor /usr/bin/app 10 > /dev/null\n;;\nesac\n\
        ls /usr/share/app/plugins > /var/lib/app/plugins\n";
    Deb::new("app", "2:1.5-3")
        .depends("libfoo (>= 1.0), dpkg")
        .field("Recommends", "app-plugin")
        .program("/usr/bin/app", "#!/bin/sh\necho app \"$@\"\n")
        .conffile("/etc/app/app.conf", "colour = blue\n")
        .directory("/usr/share/app/plugins")
        .script("postinst", postinst)
        .script("triggers", "interest-noawait /usr/share/app/plugins\n")
}

fn plugin() -> Deb {
    Deb::new("app-plugin", "1").field("Architecture", "all").depends("app").file("/usr/share/app/plugins/one", "a plugin\n")
}

fn unsatisfiable() -> Deb {
    Deb::new("broken", "1").depends("app (>= 3:0), missing")
}

/// Installs packages of the world with this machine's dpkg alone, as debootstrap does: the files of what is essential first, then
/// everything properly. Needs root.
pub fn installed_by_dpkg(place: &Path, debs: &[&Deb]) -> PathBuf {
    let root = place.join("root");
    let run = |command: &mut Command| {
        let output = command.env("LC_ALL", "C").output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut files = Vec::new();
    for deb in debs {
        let file = place.join(deb.file_name());
        fs::write(&file, deb.bytes()).unwrap();
        if deb.control().contains("Essential: yes") || deb.name() == "libc6" {
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root));
        }
        files.push(file);
    }
    fs::create_dir(root.join("dev")).unwrap();
    fs::write(root.join("dev/null"), "").unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    fs::write(root.join("var/lib/dpkg/available"), "").unwrap();
    run(Command::new("dpkg").arg("--root").arg(&root).args(["--force-depends", "--unpack"]).args(&files));
    run(Command::new("chroot").arg(&root).args(["dpkg", "--configure", "-a"]));
    root
}

fn find(program: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("this machine lacks `{program}`"))
}

/// Returns the libraries that a program loads, by their place in a system with a merged /usr.
fn loaded_by(program: &Path) -> BTreeMap<String, Vec<u8>> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Lines are `name => /path (address)` or `/path (address)`; a static program has none.
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| (format!("/usr{}", path.trim_start_matches("/usr")), fs::read(path).unwrap())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_installs_the_world() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let debs: Vec<&Deb> = packages().iter().filter(|deb| deb.name() != "broken").collect();
        let root = installed_by_dpkg(place.path(), &debs);
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("var/lib/app/state"), "configured as 0 with colour = blue\n");
        assert_eq!(read("var/lib/app/plugins"), "one\n");
        assert!(root.join("etc/ld.so.cache").exists(), "the trigger of libc-bin ran");
        let left = Command::new("dpkg").arg("--root").arg(&root).arg("--audit").output().unwrap();
        assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
    }

    #[test]
    fn security_has_a_newer_library() {
        let repo = archive();
        assert!(repo.pool(Suite::Security, &libfoo("1.0-1+deb13u1")).exists());
        assert_eq!(libfoo("1.0-1+deb13u1").source(), "foo");
    }
}
