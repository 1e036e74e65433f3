//! The sandbox, on every rung of the ladder: what runs in it, what comes out of it, and what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use parvis::edge::sandbox::native::programs;
use parvis::edge::sandbox::{
    End, Feature, Outcome, Owner, Privilege, Program, Sandbox, SandboxError, Source, Spec, Stream, Upper,
};
use parvis::model::digest::FileDigest;
use parvis::model::tree::{Change, TreePath};
use tempfile::TempDir;

use super::kit::user::User;
use super::kit::victim::{Victim, picture};

const TOOLS: [&str; 30] = [
    "sh", "cat", "chmod", "chown", "cp", "cut", "dd", "env", "grep", "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo",
    "mknod", "mount", "mv", "ps", "rm", "rmdir", "setpriv", "setsid", "sleep", "stat", "touch", "true", "umount", "unshare",
];

/// Returns a small tree with a shell and tools: this machine's, copied with their libraries.
fn farm() -> &'static Path {
    static FARM: OnceLock<TempDir> = OnceLock::new();
    FARM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["usr/bin", "usr/sbin", "etc", "root", "proc", "dev", "run", "tmp", "sys", "var/data/deep"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(root.join("usr").join(name)).unwrap();
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        let mut libraries = BTreeSet::new();
        for tool in TOOLS {
            let Some(path) = ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.exists())
            else {
                continue;
            };
            fs::copy(&path, root.join("usr/bin").join(tool)).unwrap();
            let needs = Command::new("ldd").arg(&path).output().unwrap().stdout;
            for word in String::from_utf8(needs).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
                libraries.insert(word.to_owned());
            }
        }
        for library in &libraries {
            let place = root.join("usr").join(library.trim_start_matches("/usr").trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(library, place).unwrap();
        }
        for (name, text) in [("etc/old", "old\n"), ("etc/kept", "kept\n"), ("var/data/one", "1\n"), ("var/data/deep/two", "2\n")]
        {
            fs::write(root.join(name), text).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:33:33::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nann:x:33:\n").unwrap();
        for name in ["", "etc", "var", "var/data", "usr/bin", "root"] {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    })
    .path()
}

/// A sandbox's parts, kept as long as it runs.
struct World {
    _scratch: TempDir,
    spec: Spec,
}

impl World {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut spec = Spec::new(Source::Layers(vec![farm().to_owned()]), scratch.path().to_owned());
        spec.program = PathBuf::from(env!("CARGO_BIN_EXE_parvis"));
        Self { _scratch: scratch, spec }
    }

    fn start(&self) -> Sandbox {
        Sandbox::start(&self.spec).unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn script(text: &str) -> Program {
    let mut program = Program::new(["sh", "-c", text]);
    program.env = vec![b"PATH=/usr/bin".to_vec()];
    program
}

fn run(sandbox: &mut Sandbox, text: &str) -> (Outcome, String) {
    let mut said = Vec::new();
    let outcome = sandbox.run(&script(text), &mut |_, bytes| said.extend_from_slice(bytes)).unwrap();
    (outcome, String::from_utf8(said).unwrap())
}

fn said(sandbox: &mut Sandbox, text: &str) -> String {
    let (outcome, said) = run(sandbox, text);
    assert!(outcome.is_success(), "{text}: {outcome:?}");
    said
}

/// Returns what changed, one line each: `-path`, or kind, path, mode, owner, content or target.
fn changes(sandbox: &mut Sandbox) -> Vec<String> {
    let mut contents = BTreeMap::new();
    let changes = sandbox.changes(&mut |content, _| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let digest = FileDigest::of(&bytes);
        contents.insert(digest, String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok((digest, bytes.len() as u64))
    });
    let line = |change| match change {
        Change::Remove(path) => format!("-{path}"),
        Change::Put(path, entry) => {
            use parvis::model::tree::Kind;
            let (letter, content) = match &entry.kind {
                Kind::Directory => ("d", String::new()),
                Kind::File { digest, shared, .. } => (if *shared { "h" } else { "f" }, contents[digest].clone()),
                Kind::Symlink { target } => ("l", String::from_utf8_lossy(target).into_owned()),
            };
            let xattrs = entry.xattrs.keys().flat_map(|name| [" ", name]).collect::<String>();
            format!("{letter} {path} {:o} {}:{} {content}{xattrs}", entry.mode, entry.uid, entry.gid).trim_end().to_owned()
        }
    };
    changes.unwrap().into_iter().map(line).collect()
}

#[test]
fn all_of_this_holds_for_an_ordinary_user_with_and_without_subordinate_ids() {
    for lent in [true, false] {
        let Some(user) = User::new(lent) else { return };
        let mut tests = Command::new(std::env::current_exe().unwrap());
        tests.args(["sandbox::", "--test-threads=2"]).env("TMPDIR", user.home());
        tests.env("PARVIS_TEST_RUNG", if lent { "SubordinateIds" } else { "SingleId" });
        let output = user.command(&tests).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "subordinate ids: {lent}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("running 0 tests"), "{text}");
    }
}

#[test]
fn the_highest_rung_is_taken() {
    let world = World::new();
    let expected = std::env::var("PARVIS_TEST_RUNG").unwrap_or_else(|_| "Root".to_owned());
    let sandbox = world.start();
    assert_eq!(format!("{:?}", sandbox.privilege()), expected);
    assert_eq!(sandbox.upper(), Upper::Memory);
}

#[test]
fn a_program_sees_nothing_of_the_host() {
    let mut sandbox = World::new().start();
    assert_eq!(said(&mut sandbox, "hostname; id -u; id -g; umask"), "localhost\n0\n0\n0022\n");
    assert_eq!(said(&mut sandbox, "env"), "PATH=/usr/bin\nPWD=/\n");
    assert_eq!(said(&mut sandbox, "ls /").split_whitespace().count(), 13);
    assert_eq!(said(&mut sandbox, "ls /tmp; ls /run"), "lock\n");
    assert_eq!(
        said(&mut sandbox, "ls /dev"),
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
    assert_eq!(said(&mut sandbox, "echo x >/dev/null; dd if=/dev/zero bs=3 count=1 status=none | cat -v"), "^@^@^@");
    let mounts = said(&mut sandbox, "cat /proc/self/mounts");
    assert!(!mounts.contains(farm().to_str().unwrap()), "{mounts}");
}

#[test]
fn what_a_program_changed_is_told_once() {
    let mut sandbox = World::new().start();
    assert!(changes(&mut sandbox).is_empty());
    said(&mut sandbox, "echo new >/etc/new; ln -s new /etc/link; mkdir -m 700 /var/made; echo more >>/etc/old; rm /var/data/one");
    let expected = [
        "-/var/data/one",
        "f /etc/new 644 0:0 new",
        "l /etc/link 777 0:0 new",
        "f /etc/old 644 0:0 old\nmore",
        "d /var/made 700 0:0",
    ];
    let mut found = changes(&mut sandbox);
    found[1..].sort_by_key(|line| line[2..].to_owned());
    let mut expected = expected.map(str::to_owned);
    expected[1..].sort_by_key(|line| line[2..].to_owned());
    assert_eq!(found, expected);
    assert!(changes(&mut sandbox).is_empty());
    said(&mut sandbox, "echo again >/etc/new; rm -r /var/made; chmod 600 /etc/kept; touch /run/x /tmp/x /dev/shm/x");
    assert_eq!(changes(&mut sandbox), ["-/var/made", "f /etc/kept 600 0:0 kept", "f /etc/new 644 0:0 again"]);
}

#[test]
fn a_folder_that_was_made_anew_hides_what_was_in_it() {
    let mut sandbox = World::new().start();
    said(&mut sandbox, "rm -r /var/data; mkdir /var/data; echo 3 >/var/data/three");
    assert_eq!(changes(&mut sandbox), ["-/var/data", "d /var/data 755 0:0", "f /var/data/three 644 0:0 3"]);
    said(&mut sandbox, "rm -r /var/data; echo file >/var/data");
    assert_eq!(changes(&mut sandbox), ["-/var/data/three", "f /var/data 644 0:0 file"]);
}

#[test]
fn hard_links_and_bits_come_out_as_they_are() {
    let mut sandbox = World::new().start();
    said(
        &mut sandbox,
        "echo x >/etc/a; ln /etc/a /etc/b; mkdir -m 1777 /var/sticky; chmod 4755 /etc/kept; mkfifo /etc/pipe; chmod 0 /etc/old",
    );
    let expected = [
        "d /var/sticky 1777 0:0",
        "f /etc/kept 4755 0:0 kept",
        "f /etc/old 0 0:0 old",
        "h /etc/a 644 0:0 x",
        "h /etc/b 644 0:0 x",
    ];
    let mut found = changes(&mut sandbox);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn owners_come_out_as_they_were_set_inside() {
    let mut sandbox = World::new().start();
    said(
        &mut sandbox,
        "echo x >/etc/a; chown 33:42 /etc/a /var/data; chown 1000 /etc/kept; chown -h 7:7 /lib64; mkdir /var/d; chown 33:33 /var/d",
    );
    let mut found = changes(&mut sandbox);
    found.sort();
    let expected = [
        "d /var/d 755 33:33",
        "d /var/data 755 33:42",
        "f /etc/a 644 33:42 x",
        "f /etc/kept 644 1000:0 kept",
        "l /lib64 777 7:7 usr/lib64",
    ];
    assert_eq!(found, expected);
    said(&mut sandbox, "chown 0:0 /etc/a; mv /etc/kept /etc/moved; chown 34:33 /var/d");
    let mut found = changes(&mut sandbox);
    found.sort();
    assert_eq!(found, ["-/etc/kept", "d /var/d 755 34:33", "f /etc/a 644 0:0 x", "f /etc/moved 644 1000:0 kept"]);
}

#[test]
fn what_another_user_makes_is_that_users() {
    let mut sandbox = World::new().start();
    said(&mut sandbox, "mkdir -m 777 /var/open");
    let _ = changes(&mut sandbox);
    said(
        &mut sandbox,
        "setpriv --reuid 33 --regid 34 --clear-groups sh -c 'cd /var/open; echo x >made; mkdir folder; ln -s made link'; echo y >/var/open/root",
    );
    let expected = [
        "d /var/open/folder 755 33:34",
        "f /var/open/made 644 33:34 x",
        "l /var/open/link 777 33:34 made",
        "f /var/open/root 644 0:0 y",
    ];
    let mut found = changes(&mut sandbox);
    found.sort_by_key(|line| line[2..].to_owned());
    let mut expected = expected.map(str::to_owned);
    expected.sort_by_key(|line| line[2..].to_owned());
    assert_eq!(found, expected);
    let mut program = script("echo z >/var/open/third");
    (program.uid, program.gid) = (5, 60);
    assert!(sandbox.run(&program, &mut |_, _| ()).unwrap().is_success());
    assert_eq!(changes(&mut sandbox), ["f /var/open/third 644 5:60 z"]);
}

#[test]
fn owners_follow_renames_copies_and_folders_that_hand_on_their_group() {
    let mut sandbox = World::new().start();
    said(&mut sandbox, "mkdir /var/group; chown 0:50 /var/group; chmod 2775 /var/group; mkdir -m 777 /var/open");
    let _ = changes(&mut sandbox);
    said(&mut sandbox, "echo x >/var/group/file; cp -a /var/group/file /var/group/copy; cp /var/group/file /etc/plain");
    said(
        &mut sandbox,
        "setpriv --reuid 33 --regid 34 --clear-groups sh -c 'echo y >/var/open/.new; mv /var/open/.new /var/open/final; umask 077; mkdir /var/open/own; id -u'",
    );
    let mut found = changes(&mut sandbox);
    found.sort();
    let expected = [
        "d /var/open/own 700 33:34",
        "f /etc/plain 644 0:0 x",
        "f /var/group/copy 644 0:50 x",
        "f /var/group/file 644 0:50 x",
        "f /var/open/final 644 33:34 y",
    ];
    assert_eq!(found, expected);
    assert_eq!(said(&mut sandbox, "setpriv --reuid 33 --regid 34 --clear-groups id -u"), "33\n");
    let (outcome, _) = run(&mut sandbox, "setpriv --reuid 33 --regid 34 --clear-groups chown 0 /var/open/final");
    assert_eq!(outcome.end, End::Exited(1));
}

/// Not a test: the process that the next one kills.
#[test]
fn victim_of_the_kill() {
    let Ok(scratch) = std::env::var("PARVIS_TEST_KILLED") else { return };
    let mut world = World::new();
    world.spec.scratch = PathBuf::from(scratch);
    world.spec.on_disk = true;
    let mut sandbox = world.start();
    let text = format!("echo x >/etc/written; echo ready; setsid sleep 1{0} & sleep 1{0}", std::process::id());
    let _ = sandbox.run(&script(&text), &mut |_, _| {
        fs::write(world.spec.scratch.with_extension("ready"), "").unwrap();
    });
}

#[test]
fn nothing_is_left_of_a_sandbox_whose_parvis_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut parvis = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::victim_of_the_kill"])
        .env("PARVIS_TEST_KILLED", &scratch)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait_until = |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..500 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}");
    };
    wait_until("it never started", &|| scratch.with_extension("ready").exists());
    let sleep = format!("sleep\x001{}\0", parvis.id());
    let inside = || {
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        processes.filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == sleep.as_bytes())).count()
    };
    wait_until("the programs do not run", &|| inside() == 2);
    parvis.kill().unwrap();
    parvis.wait().unwrap();
    wait_until("a process is left", &|| inside() == 0);
    wait_until("the scratch folder is not empty", &|| fs::read_dir(&scratch).unwrap().next().is_none());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(scratch.to_str().unwrap()), "{mounts}");
}

#[test]
fn owners_that_the_farm_does_not_have_are_set_and_are_no_change() {
    let mut world = World::new();
    let owner = |name, uid, gid, mode| Owner { path: path(name), uid, gid, mode, xattrs: BTreeMap::new() };
    world.spec.owners = vec![owner("etc/kept", 33, 42, 0o2755), owner("var/data", 8, 8, 0o1777), owner("lib64", 9, 9, 0o777)];
    let mut sandbox = world.start();
    assert!(changes(&mut sandbox).is_empty());
    assert_eq!(said(&mut sandbox, "stat -c %a /etc/kept /var/data"), "2755\n1777\n");
    assert!(changes(&mut sandbox).is_empty());
    said(&mut sandbox, "echo more >>/etc/kept; touch /var/data/x");
    assert_eq!(changes(&mut sandbox), ["f /etc/kept 755 33:42 kept\nmore", "f /var/data/x 644 0:0"]);
}

#[test]
fn shims_shadow_the_tree_and_are_never_part_of_the_result() {
    let mut world = World::new();
    world.spec.shims = vec![
        (path("usr/bin/hostname"), b"#!/bin/sh\necho shim\n".to_vec()),
        (path("usr/sbin/policy-rc.d"), b"#!/bin/sh\nexit 101\n".to_vec()),
    ];
    let mut sandbox = world.start();
    assert_eq!(said(&mut sandbox, "hostname; /usr/sbin/policy-rc.d || echo $?"), "shim\n101\n");
    assert!(changes(&mut sandbox).is_empty());
}

/// Returns a layer with a script at the path of a program that has a native one.
fn script_at(place: &str, text: &str) -> TempDir {
    let layer = tempfile::tempdir().unwrap();
    let file = layer.path().join(place);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    for path in file.ancestors().take_while(|path| path.starts_with(layer.path())) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    layer
}

/// Returns a sandbox with native programs on such a layer.
fn with_natives(layer: &TempDir) -> (World, Sandbox) {
    let mut world = World::new();
    world.spec.source = Source::Layers(vec![layer.path().to_owned(), farm().to_owned()]);
    world.spec.natives = true;
    let sandbox = world.start();
    (world, sandbox)
}

#[test]
fn a_script_without_a_native_program_runs_as_if_there_were_none() {
    let text = "#!/bin/sh -e\necho \"$0|$#|$1|$2|$A|$(pwd)|$(umask)\"; cat; echo error >&2; exit 7\n";
    let layer = script_at("usr/bin/ucf", text);
    let seen: Vec<_> = [true, false]
        .map(|natives| {
            let (world, mut sandbox) = with_natives(&layer);
            if !natives {
                let mut spec = world.spec.clone();
                drop(sandbox);
                spec.natives = false;
                sandbox = Sandbox::start(&spec).unwrap();
            }
            assert_eq!(sandbox.run(&script("test -e /run/parvis/native"), &mut |_, _| ()).unwrap().is_success(), natives);
            let mut said = Vec::new();
            for text in [
                "umask 027; cd /var; printf 'in\\nput' | A=1 ucf 'a b' ''",
                "A=2 exec setpriv --reuid 33 --regid 34 --clear-groups /bin/ucf",
                "ln -s ucf /usr/bin/other; other; sh /usr/bin/other x; exec -a odd ucf",
                "ucf 0<&- 1>&- 2>&-",
                "sleep 0.1 | ucf $(while :; do echo 0123456789; done | dd bs=100000 count=12 iflag=fullblock status=none) | cut -c 1-99",
                "cp /usr/bin/ucf /usr/bin/copy; mv /usr/bin/ucf /usr/bin/moved; copy; moved; ucf",
            ] {
                let (outcome, words) = run(&mut sandbox, &format!("exec 2>&1; {text}"));
                said.push(format!("{:?} {words}", outcome.end));
            }
            assert_eq!(sandbox.read(&path("usr/bin/moved"), 10_000).unwrap().unwrap(), text.as_bytes());
            (said, changes(&mut sandbox))
        })
        .into();
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].0[0].starts_with("Exited(7) /usr/bin/ucf|2|a b||1|/var|0027\nin\nput"), "{:?}", seen[0]);
    assert!(seen[0].1.iter().any(|line| line.starts_with("f /usr/bin/copy 755 0:0 #!/bin/sh -e")), "{:?}", seen[0]);
}

#[test]
fn a_native_program_answers_in_place_of_a_script_it_knows() {
    const HELPER: &str = "usr/bin/deb-systemd-helper";
    let original = fs::read(Path::new("/").join(HELPER)).unwrap_or_default();
    let layer = script_at(HELPER, &String::from_utf8_lossy(&original));
    let program = programs().iter().find(|program| program.original.path.ends_with(HELPER)).unwrap();
    if !program.is_known(layer.path()) {
        return;
    }
    fs::create_dir_all(layer.path().join("usr/lib/systemd/system")).unwrap();
    let unit = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n";
    fs::write(layer.path().join("usr/lib/systemd/system/x.service"), unit).unwrap();
    let (_world, mut sandbox) = with_natives(&layer);
    let call = |sandbox: &mut Sandbox, before: &str| {
        let text = format!("export DPKG_MAINTSCRIPT_PACKAGE=x; {before} deb-systemd-helper enable x.service");
        run(sandbox, &text)
    };
    // There is no perl in the tree: only process 1 can have done it, and it does so for root alone.
    assert!(!call(&mut sandbox, "setpriv --reuid 33 --regid 34 --clear-groups").0.is_success());
    assert!(!call(&mut sandbox, "PERL5OPT=-d").0.is_success());
    assert!(changes(&mut sandbox).is_empty());
    assert_eq!(call(&mut sandbox, "").0.end, End::Exited(0));
    let found = changes(&mut sandbox);
    let link = "l /etc/systemd/system/multi-user.target.wants/x.service 777 0:0 /lib/systemd/system/x.service";
    assert!(found.iter().any(|line| line == link), "{found:?}");
    // What somebody made of it is another program.
    said(&mut sandbox, "echo >>/usr/bin/deb-systemd-helper");
    assert!(!call(&mut sandbox, "").0.is_success());
}

#[test]
fn a_script_that_hangs_on_the_socket_stops_nobody() {
    let layer = script_at("usr/bin/ucf", "#!/bin/sh\nexit 0\n");
    let (_world, mut sandbox) = with_natives(&layer);
    let mut hanging = script("while :; do ucf; done");
    hanging.timeout = Duration::from_millis(300);
    assert_eq!(sandbox.run(&hanging, &mut |_, _| ()).unwrap().end, End::TimedOut);
    assert!(run(&mut sandbox, "ucf").0.is_success());
    assert!(changes(&mut sandbox).is_empty());
}

#[test]
fn files_are_read_and_written_and_no_link_leads_out() {
    let victim = Victim::new();
    let mut sandbox = World::new().start();
    assert_eq!(sandbox.read(&path("etc/old"), 100).unwrap().as_deref(), Some(b"old\n".as_slice()));
    assert_eq!(sandbox.read(&path("etc/none"), 100).unwrap(), None);
    assert_eq!(sandbox.read(&path("etc"), 100).unwrap(), None);
    assert!(matches!(sandbox.read(&path("etc/old"), 3), Err(SandboxError::TooLarge { .. })));
    sandbox.write(&path("etc/status"), b"text", 0o640, 0, 42).unwrap();
    assert_eq!(changes(&mut sandbox), ["f /etc/status 640 0:42 text"]);
    said(
        &mut sandbox,
        &format!("ln -s {0}/precious /etc/out; ln -s {0} /etc/folder; ln -s ../../../../../etc/old /etc/up", victim.path()),
    );
    assert_eq!(sandbox.read(&path("etc/out"), 100).unwrap(), None);
    assert_eq!(sandbox.read(&path("etc/up"), 100).unwrap().as_deref(), Some(b"old\n".as_slice()));
    assert!(sandbox.write(&path("etc/folder/precious"), b"no", 0o644, 0, 0).is_err());
    sandbox.write(&path("etc/out"), b"yes", 0o644, 0, 0).unwrap();
    assert_eq!(sandbox.read(&path("etc/out"), 100).unwrap().as_deref(), Some(b"yes".as_slice()));
    victim.assert_unchanged();
}

#[test]
fn the_layers_below_never_change_and_the_scratch_folder_is_left_empty() {
    let before = picture(farm());
    for on_disk in [false, true] {
        let mut world = World::new();
        world.spec.on_disk = on_disk;
        let scratch = world.spec.scratch.clone();
        fs::create_dir(scratch.join("left-by-a-run-that-was-killed")).unwrap();
        let mut sandbox = world.start();
        assert_eq!(sandbox.upper(), if on_disk { Upper::Disk } else { Upper::Memory });
        said(&mut sandbox, "echo x >>/etc/old; chown 33 /etc/kept; rm -r /var/data; chmod 0 /etc/passwd");
        assert_eq!(changes(&mut sandbox).len(), 4);
        sandbox.finish().unwrap();
        if on_disk {
            assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        }
    }
    assert_eq!(picture(farm()), before);
}

#[test]
fn a_copy_of_the_tree_serves_where_there_is_no_overlay() {
    let mut world = World::new();
    let copy = tempfile::tempdir().unwrap();
    assert!(Command::new("cp").args(["-a", "--"]).arg(farm().join(".")).arg(copy.path()).status().unwrap().success());
    world.spec.source = Source::Copy(copy.path().to_owned());
    let mut sandbox = world.start();
    assert_eq!(sandbox.upper(), Upper::Copy);
    said(&mut sandbox, "echo more >>/etc/old; rm -r /var/data; echo x >/tmp/x");
    assert_eq!(changes(&mut sandbox), ["-/var/data", "f /etc/old 644 0:0 old\nmore"]);
}

#[test]
fn streams_input_and_folder_are_as_asked() {
    let mut sandbox = World::new().start();
    let mut program = script("cat; pwd; echo error >&2; exit 3");
    program.stdin = b"input\n".to_vec();
    program.cwd = path("var/data");
    let (mut output, mut error) = (String::new(), String::new());
    let outcome = sandbox.run(&program, &mut |stream, bytes| {
        let text = if stream == Stream::Output { &mut output } else { &mut error };
        text.push_str(std::str::from_utf8(bytes).unwrap());
    });
    assert_eq!((outcome.unwrap().end, &*output, &*error), (End::Exited(3), "input\n/var/data\n", "error\n"));
    let missing = sandbox.run(&Program::new(["no-such-program"]), &mut |_, _| ()).unwrap_err();
    assert_eq!(missing.to_string(), "the sandbox could not execute `no-such-program`");
    program.cwd = path("var/none");
    let missing = sandbox.run(&program, &mut |_, _| ()).unwrap_err();
    assert_eq!(missing.to_string(), "the sandbox could not enter the folder `/var/none` for `sh`");
    assert!(missing.hint().unwrap().contains("`directory: true`"));
    // The head of a program for arm64 or amd64, whichever this machine is not (elf(5): e_machine).
    let other: u16 = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let head = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".as_slice(), &other.to_le_bytes(), &[0; 44]].concat();
    sandbox.write(&path("var/foreign"), &head, 0o755, 0, 0).unwrap();
    let foreign = sandbox.run(&Program::new(["/var/foreign"]), &mut |_, _| ()).unwrap_err();
    assert_eq!(foreign.to_string(), "the sandbox could not execute `/var/foreign`");
    assert!(
        foreign
            .hint()
            .unwrap()
            .starts_with("it is made for another architecture than this machine's: install `qemu-user-static`")
    );
}

#[test]
fn a_program_that_fails_is_named_by_its_end_and_its_last_lines() {
    let mut sandbox = World::new().start();
    let (outcome, _) =
        run(&mut sandbox, "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done; printf '\\033[2Jlast'; kill -9 $$");
    assert_eq!(outcome.end, End::Signalled(9));
    assert_eq!(outcome.last_lines.len(), 20);
    assert_eq!(outcome.last_lines[0], "line 12");
    assert_eq!(outcome.last_lines[19], "\u{fffd}[2Jlast");
}

#[test]
fn endless_output_hanging_and_fork_bombs_come_to_an_end() {
    let mut world = World::new();
    world.spec.limits.processes = 100;
    let mut sandbox = world.start();
    let mut endless = script("while :; do echo endless; done");
    endless.output_limit = 100_000;
    let mut taken = 0;
    let outcome = sandbox.run(&endless, &mut |_, bytes| taken += bytes.len()).unwrap();
    assert_eq!((outcome.end, taken), (End::TooMuchOutput, 100_000));
    let mut hanging = script("sleep 1000");
    hanging.timeout = Duration::from_millis(100);
    assert_eq!(sandbox.run(&hanging, &mut |_, _| ()).unwrap().end, End::TimedOut);
    let many = script("while sleep 1000 & do :; done");
    assert_eq!(sandbox.run(&many, &mut |_, _| ()).unwrap().end, End::TooManyProcesses);
    // This one may burn down by itself, when no fork succeeds any more.
    let bomb = script("bomb() { bomb | bomb & }; bomb; sleep 1; exit 1");
    assert!(!sandbox.run(&bomb, &mut |_, _| ()).unwrap().is_success());
    assert_eq!(said(&mut sandbox, "set -- /proc/[0-9]*; echo $#"), "2\n");
}

#[test]
fn a_daemon_that_is_left_behind_is_gone_when_the_program_ends() {
    let mut sandbox = World::new().start();
    said(&mut sandbox, "setsid sh -c 'while :; do echo x >>/etc/log; sleep 0.01; done' >/dev/null 2>&1 & sleep 0.1");
    let _ = changes(&mut sandbox);
    std::thread::sleep(Duration::from_millis(50));
    assert!(changes(&mut sandbox).is_empty());
    assert_eq!(said(&mut sandbox, "set -- /proc/[0-9]*; echo $#"), "2\n");
}

#[test]
fn the_host_cannot_be_steered_from_inside() {
    let victim = Victim::new();
    let mut sandbox = World::new().start();
    let refused = |sandbox: &mut Sandbox, text: &str| {
        let (outcome, said) = run(sandbox, text);
        assert!(!outcome.is_success(), "{text} was carried out: {said}");
    };
    let before = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    refused(&mut sandbox, "echo 1 >/proc/sys/vm/swappiness");
    assert_eq!(fs::read_to_string("/proc/sys/vm/swappiness").unwrap(), before);
    refused(&mut sandbox, "echo h >/proc/sysrq-trigger");
    refused(&mut sandbox, "chmod 600 /dev/null");
    refused(&mut sandbox, "mount -t tmpfs none /var");
    refused(&mut sandbox, "umount /proc");
    refused(&mut sandbox, "unshare -U true");
    refused(&mut sandbox, "unshare -m true");
    refused(&mut sandbox, "mknod /etc/disk b 8 0");
    refused(&mut sandbox, "ls /proc/1/root/");
    refused(
        &mut sandbox,
        "for link in /proc/1/fd/* /proc/1/map_files/*; do ls $link/ && exit 0; cat $link && exit 0; done; exit 1",
    );
    refused(&mut sandbox, "cat /proc/1/environ");
    refused(&mut sandbox, "kill -9 1; kill -0 1 && false");
    refused(&mut sandbox, &format!("cat {}/precious", victim.path()));
    refused(&mut sandbox, &format!("cat /../../../..{}/precious", victim.path()));
    assert_eq!(said(&mut sandbox, "cut -d: -f1 /proc/net/dev | grep -v -e Inter -e face"), "    lo\n");
    assert_eq!(said(&mut sandbox, "cat /proc/keys /proc/kcore /proc/timer_list 2>/dev/null; echo"), "\n");
    assert!(changes(&mut sandbox).is_empty());
    victim.assert_unchanged();
}

#[test]
fn every_missing_feature_is_named_with_what_to_do() {
    let features = [
        (Feature::UserNamespace, "the sandbox needs user namespaces, and could not make a user namespace"),
        (Feature::IdMap, "the sandbox needs id maps, and could not give the user namespace its ids: it may not be written"),
        (
            Feature::Namespaces,
            "the sandbox needs namespaces, and could not make the mount, process, network, ipc and host name namespaces",
        ),
        (Feature::Overlay, "the sandbox needs overlay mounts in a user namespace, and could not mount the overlay"),
        (Feature::Proc, "the sandbox needs mounting /proc in a user namespace, and could not mount /proc"),
        (Feature::Seccomp, "the sandbox needs seccomp filters, and could not install the filter of system calls"),
    ];
    for (feature, expected) in features {
        let mut world = World::new();
        world.spec.without = Some(feature);
        let error = Sandbox::start(&world.spec).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().is_some());
    }
    let mut world = World::new();
    world.spec.privilege = Some(Privilege::SubordinateIds);
    world.spec.without = Some(Feature::SubordinateIds);
    let text = Sandbox::start(&world.spec).unwrap_err().to_string();
    assert_eq!(text, "the sandbox needs subordinate ids, and could not give the user namespace its ids: there are none");
}

#[test]
fn a_tree_whose_proc_is_a_link_is_refused() {
    let world = World::new();
    let top = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", top.path().join("proc")).unwrap();
    let mut spec = world.spec.clone();
    spec.source = Source::Layers(vec![top.path().to_owned(), farm().to_owned()]);
    let error = Sandbox::start(&spec).unwrap_err();
    assert_eq!(error.to_string(), "the sandbox could not mount on `/proc`, which is no folder of its own,");
}

/// Prints medians; for people, with `--ignored --nocapture`, of the program that `PARVIS_MEASURED` names.
#[test]
#[ignore = "a measurement, not a rule"]
#[expect(clippy::print_stdout, reason = "the figures are the point")]
fn how_long_things_take() {
    let median = |what: &str, mut work: Box<dyn FnMut() + '_>| {
        let mut times: Vec<Duration> = (0..51)
            .map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: {:?}", times[times.len() / 2]);
    };
    let mut world = World::new();
    if let Ok(program) = std::env::var("PARVIS_MEASURED") {
        world.spec.program = PathBuf::from(program);
    }
    median("start and finish", Box::new(|| world.start().finish().unwrap()));
    let mut sandbox = world.start();
    let mut nothing = |_: Stream, _: &[u8]| ();
    median("run true", Box::new(|| assert!(sandbox.run(&Program::new(["/usr/bin/true"]), &mut nothing).unwrap().is_success())));
    median("changes, of an empty upper layer", Box::new(|| assert!(changes(&mut sandbox).is_empty())));
    said(
        &mut sandbox,
        "mkdir /var/many; cd /var/many; for i in 0 1 2 3 4 5 6 7 8 9; do for j in 0 1 2 3 4 5 6 7 8 9; do mkdir d$i$j; for k in 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j; do : >d$i$j/$k; done; done; done",
    );
    assert_eq!(changes(&mut sandbox).len(), 2101);
    median(
        "changes, of an upper layer of 2,100 entries, one changed",
        Box::new(|| {
            said(&mut sandbox, "echo x >>/var/many/d00/0");
            let start = std::time::Instant::now();
            assert_eq!(changes(&mut sandbox).len(), 1);
            println!("  {:?}", start.elapsed());
        }),
    );
}
