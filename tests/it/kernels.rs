//! Kernels and machines that really refuse something: what is missing is named with what to do, and nothing is built another way.
//!
//! A filter of system calls, installed before parvis starts, stands for the kernel: it refuses what containers and hardened
//! systems refuse, with the same error numbers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::project::{Project, Said};
use crate::kit::user::User;
use crate::kit::world;
use crate::pipeline::{built, digests};

/// Installs a filter and becomes the program: a rule is `number:errno:argument:flags`; with flags, the call is refused where that
/// argument has one of them. Source: seccomp(2), linux/filter.h.
const FILTER: &str = r#"
import ctypes, os, struct, sys
number, errno, argument, flags = map(int, sys.argv[1].split(":"))
test = [(0x20, 0, 0, 16 + 8 * argument), (0x45, 0, 1, flags)] if flags else []
code = [(0x20, 0, 0, 0), (0x15, 0, len(test) + 1, number), *test, (0x06, 0, 0, 0x00050000 | errno), (0x06, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() != 0:
    assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// A call that is refused: its number, the error, which argument, and the flags in it that bring that about.
type Rule = (i64, i32, u8, i32);

/// Returns a command line behind other words, with the same environment.
fn behind<W: AsRef<OsStr>>(inner: &Command, words: &[W]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).current_dir("/");
    command
}

fn filtered(inner: &Command, (number, errno, argument, flags): Rule) -> Command {
    behind(inner, &["/usr/bin/python3", "-c", FILTER, &format!("{number}:{errno}:{argument}:{flags}")])
}

fn assert_refused(output: &Output, message: &str, hint: &str) {
    let said = Said::from(output);
    assert_eq!(output.status.code(), Some(3), "{}", said.err);
    let told = format!("error: cannot start a sandbox for the image `base`: {message}");
    assert!(said.err.contains(&told), "`{told}` is not in\n{}", said.err);
    assert!(said.err.contains(&format!("hint: {hint}")), "`{hint}` is not in\n{}", said.err);
    assert_eq!(said.out, "");
}

const REFUSALS: [(Rule, &str, &str); 6] = [
    // As the default profile of container engines, or `kernel.unprivileged_userns_clone=0`.
    (
        (libc::SYS_unshare, libc::EPERM, 0, libc::CLONE_NEWUSER),
        "the sandbox needs user namespaces, and could not make a user namespace",
        "allow them: `sysctl user.max_user_namespaces=15000`",
    ),
    // As a kernel without them.
    (
        (libc::SYS_unshare, libc::EINVAL, 0, libc::CLONE_NEWUSER),
        "the sandbox needs user namespaces, and could not make a user namespace",
        "allow them: `sysctl user.max_user_namespaces=15000`",
    ),
    // As Ubuntu's AppArmor: the user namespace is granted, and nothing in it.
    (
        (libc::SYS_unshare, libc::EPERM, 0, libc::CLONE_NEWNS),
        "the sandbox needs namespaces, and could not make the mount, process, network, ipc and host name namespaces",
        "allow user namespaces their capabilities: on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        (libc::SYS_mount, libc::EACCES, 0, 0),
        "the sandbox needs mounting in a user namespace, and could not make the mounts private",
        "allow user namespaces their capabilities: on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        (libc::SYS_pivot_root, libc::EPERM, 0, 0),
        "the sandbox needs mounting in a user namespace, and could not make the tree the root",
        "allow user namespaces their capabilities: on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        (libc::SYS_seccomp, libc::ENOSYS, 0, 0),
        "the sandbox needs seccomp filters, and could not install the filter of system calls",
        "use Linux 5.9 or newer, built with CONFIG_SECCOMP_FILTER",
    ),
];

#[test]
fn what_a_kernel_refuses_is_named_with_what_to_do() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    for (rule, message, hint) in REFUSALS {
        assert_refused(&filtered(&project.parvis(&["build"]), rule).output().unwrap(), message, hint);
        let doctor = filtered(&project.parvis(&["doctor"]), rule).output().unwrap();
        let said = Said::from(&doctor);
        assert_eq!(doctor.status.code(), Some(1), "{}{}", said.out, said.err);
        assert!(said.out.contains(hint), "`{hint}` is not in\n{}", said.out);
    }
    assert!(!project.path().join("out").exists(), "nothing was built another way");
    // Where the kernel allows it again, the build goes on from there.
    project.run(&["build"], 0);
}

#[test]
fn what_a_kernel_refuses_an_ordinary_user_is_named_with_what_to_do() {
    let Some(user) = User::new(true) else { return };
    let repo = world::archive();
    std::fs::set_permissions(repo.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    user.own(project.path().parent().unwrap());
    for (rule, message, hint) in REFUSALS {
        assert_refused(&filtered(&user.command(&project.parvis(&["build"])), rule).output().unwrap(), message, hint);
    }
    assert!(!project.path().join("out").exists());
}

#[test]
fn a_single_id_needs_notifications_and_says_so() {
    let Some(user) = User::new(false) else { return };
    let repo = world::archive();
    std::fs::set_permissions(repo.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    user.own(project.path().parent().unwrap());
    // SECCOMP_FILTER_FLAG_NEW_LISTENER, as a kernel before 5.0.
    let rule = (libc::SYS_seccomp, libc::EINVAL, 1, 8);
    let output = filtered(&user.command(&project.parvis(&["build"])), rule).output().unwrap();
    let said = Said::from(&output);
    assert_eq!(output.status.code(), Some(3), "{}", said.err);
    for words in [
        "error: the sandbox needs seccomp notifications, and could not install the filter for `/var/lib/dpkg/info/",
        "hint: use Linux 5.9 or newer, built with CONFIG_SECCOMP_FILTER",
    ] {
        assert!(said.err.contains(words), "`{words}` is not in\n{}", said.err);
    }
    assert!(!project.path().join("out").exists());
}

#[test]
fn a_limit_of_no_user_namespaces_and_a_container_with_few_ids_are_named() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    let build = project.parvis(&["build"]);
    // A namespace has limits of its own, and its root may lower them.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let output = behind(&build, &["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]).output().unwrap();
    assert_refused(
        &output,
        "the sandbox needs user namespaces, and could not make a user namespace",
        "allow them: `sysctl user.max_user_namespaces=15000`",
    );
    let output = behind(&build, &["unshare", "--user", "--map-root-user"]).output().unwrap();
    assert_refused(
        &output,
        "the sandbox needs id maps, and could not give the user namespace its ids: its id map cannot be written: Operation not \
         permitted (os error 1)",
        "run parvis as an ordinary user, or as root outside of a container that has fewer than 65,536 ids",
    );
    assert!(!project.path().join("out").exists());
}

#[test]
fn without_newuidmap_the_same_bytes_come_from_a_single_id_and_doctor_says_so() {
    let Some(user) = User::new(true) else { return };
    if !Path::new("/usr/bin/newuidmap").exists() {
        return;
    }
    let (repo, project, expected) = built();
    std::fs::set_permissions(repo.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let own = Project::sample(&repo);
    own.write("parvis.lock", &project.read("parvis.lock"));
    user.own(own.path().parent().unwrap());
    let layers = tempfile::tempdir().unwrap();
    let script = "set -e; mount -t tmpfs none \"$0\"; mkdir \"$0/u\" \"$0/w\"; \
        mount -t overlay -o \"lowerdir=/usr/bin,upperdir=$0/u,workdir=$0/w\" none /usr/bin; rm /usr/bin/newuidmap; exec \"$@\"";
    let folder = layers.path().to_str().unwrap();
    let without = |arguments: &[&str]| {
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, folder];
        behind(&user.command(&own.parvis(arguments)), &words).output().unwrap()
    };
    let doctor = Said::from(&without(&["doctor"])).out;
    assert!(doctor.contains("the program `newuidmap` is not installed") && doctor.contains("install `uidmap`"), "{doctor}");
    let output = without(&["build", "--json"]);
    assert!(output.status.success(), "{}", Said::from(&output).err);
    assert_eq!(digests(&Said::from(&output).out), expected);
}
