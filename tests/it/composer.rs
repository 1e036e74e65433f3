//! The recipe step `composer`, on the tiny Debian of the tests with a Composer that is a shell script, and once with Debian's own.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kit::badhttp::{Act, Server};
use crate::kit::fakerepo::{Repo, Suite};
use crate::kit::mkdeb::Deb;
use crate::kit::project::{Project, Said};
use crate::kit::user::User;
use crate::kit::world;

/// Does what Composer does with an offer, as far as a shell can: `install` takes every file that is offered, `update` copies the
/// lock that a repository has ready.
const COMPOSER: &str = r#"#!/bin/sh
set -e
[ "$COMPOSER_HOME" = /parvis/home ] && [ -r /parvis/offline.php ] || exit 90
case $1 in
check-platform-reqs)
    if [ -e /etc/platform ]; then cat /etc/platform; exit 2; fi
    echo '[]'
    ;;
update)
    if [ -e /parvis/repositories/0/lock.json ]; then cp /parvis/repositories/0/lock.json composer.lock; exit 0; fi
    read -r address < address
    found=
    while read -r offered name; do [ "$offered" != "$address" ] || found=$name; done < /parvis/offer
    if [ -z "$found" ]; then echo "$address" >> /parvis/missing; exit 1; fi
    [ "$found" != - ] || { echo 'Composer found no package' >&2; exit 2; }
    cp "/parvis/files/$found" composer.lock
    ;;
install)
    if [ -e ask ]; then read -r address < ask; echo "$address" >> /parvis/missing; echo 'cannot download' >&2; exit 1; fi
    mkdir -p vendor/acme/a vendor/composer
    while read -r address name; do cp "/parvis/files/$name" "vendor/acme/a/${address##*/}"; done < /parvis/offer
    [ ! -e repository ] || cp repository/* vendor/acme/a/
    echo '{"packages": [{"name": "acme/a", "install-path": "../acme/a"}]}' > vendor/composer/installed.json
    echo "$*" > vendor/arguments
    ;;
run-script) echo "ran $3" > vendor/script ;;
esac
"#;

/// Returns an archive with a Composer in it.
pub fn archive() -> Repo {
    let mut repo = world::archive();
    repo.add(Suite::Main, &Deb::new("composer", "2").program("/usr/bin/composer", COMPOSER));
    repo.publish();
    repo
}

/// Returns a project with an image that Composer fills, and the server that has its packages.
pub fn project(repo: &Repo) -> (Project, Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a-1.zip", "a-2.zip", "font.zip", "far.patch"] {
        fs::write(folder.path().join(name), format!("content of {name}\n")).unwrap();
    }
    let server = Server::honest(folder.path());
    let project = Project::on(repo);
    project.recipe("base", "description: What all images share.\nfrom: scratch\npackages: [libfoo]\n");
    project.recipe("tool", "description: Composer.\nfrom: base\npackages: [composer]\n");
    recipe(&project, "exclude: [secret, 'vendor/*/*/*.patch']");
    profile(&project, "[{path: images/files/shelf}]");
    project.write("images/files/shelf/packages.json", "{}");
    project.write(
        "images/files/site/composer.json",
        r#"{"name": "acme/site", "require": {"acme/a": "*"}, "scripts": {"build": "x"},
        "extra": {"patches": {"acme/a": {"near": "near.patch"}}}}"#,
    );
    project.write("images/files/site/near.patch", "near\n");
    project.write("images/files/site/secret/key", "x\n");
    project.write("images/files/site/index.php", "<?php\n");
    lock_file(&project, &package(&server.url(), "a-1.zip", "1.0"));
    (project, server, folder)
}

fn recipe(project: &Project, more: &str) {
    let text = format!(
        "description: The application.\nfrom: base\ncomposer:\n  project: site\n  to: /app\n  with: tool\n  platform: base\n  \
         owner: \"www-data:33\"\n  mode: \"0440\"\n  {more}\n"
    );
    project.recipe("files", &text);
}

fn profile(project: &Project, repositories: &str) {
    let text = project.read("parvis.yaml");
    let text = text.split("profiles:").next().unwrap().to_owned();
    project.write("parvis.yaml", &format!("{text}profiles: {{main: {{composer: {{repositories: {repositories}}}}}}}\n"));
}

fn package(url: &str, file: &str, version: &str) -> String {
    format!(
        r#"{{"name": "acme/a", "version": "{version}", "license": ["MIT"], "dist": {{"type": "zip", "url": "{url}/{file}", "reference": "abc"}},
            "extra": {{"downloads": {{"font": {{"url": "{url}/{{$id}}.zip", "path": "x"}}}}, "patches": {{"acme/a": {{"far": "{url}/far.patch"}}}}}}}}"#
    )
}

fn lock_file(project: &Project, packages: &str) {
    project.write("images/files/site/composer.lock", &format!("{{\"packages\": [{packages}]}}"));
}

/// Returns what a command prints in the image, as root.
fn inside(project: &Project, script: &str) -> String {
    project.run(&["run", "files", "--user", "root", "--", "sh", "-c", script], 0).out
}

#[test]
fn a_project_is_locked_fetched_installed_and_recalled() {
    let repo = archive();
    let (project, server, _folder) = project(&repo);
    project.run(&["check"], 0);
    project.run(&["lock"], 0);
    let lock = project.read("parvis.lock");
    let section = lock.split_once("[[composer]]").unwrap().1;
    for expected in [
        "kind = \"dist\"\npackage = \"acme/a\"\nversion = \"1.0\"\nreference = \"abc\"\n",
        "licence = [\"MIT\"]\n",
        "kind = \"download\"\npackage = \"acme/a\"\ntitle = \"font\"\n",
        "kind = \"patch\"\npackage = \"acme/a\"\ntitle = \"far\"\n",
        "title = \"near\"\nversion = \"1.0\"\nurl = \"near.patch\"\nsize = 5\n",
    ] {
        assert!(section.contains(expected), "{expected}\n{section}");
    }
    assert_eq!(server.requests().len(), 3);
    project.run(&["lock", "--check"], 0);
    assert_eq!(server.requests().len(), 3, "what is locked is not fetched again");
    project.run(&["build"], 0);
    let said = inside(&project, "cat /app/vendor/acme/a/a-1.zip /app/vendor/acme/a/font.zip /app/vendor/arguments");
    let expected = "content of a-1.zip\ncontent of font.zip\n\
                    install --no-dev --no-scripts --prefer-dist --optimize-autoloader --no-interaction --no-ansi\n";
    assert_eq!(said, expected);
    let said = inside(
        &project,
        "stat -c %U:%G:%a /app /app/index.php /app/vendor/acme/a/a-1.zip; ls -A /app /app/vendor/acme/a / | cat",
    );
    assert!(said.starts_with("www-data:www-data:550\nwww-data:www-data:440\nwww-data:www-data:440\n"), "{said}");
    assert!(!said.contains("secret") && !said.contains("far.patch") && !said.contains("parvis"), "{said}");
    let said = project.run(&["build", "--offline"], 0);
    assert!(said.out.contains("nothing changed"), "{}", said.out);
    project.run(&["build", "--twice"], 0);
    let left = fs::read_dir(project.store().join("tmp")).unwrap().map(|entry| entry.unwrap().path());
    let left: Vec<_> = left.filter(|path| path.join("parvis").exists()).collect();
    assert!(left.is_empty(), "an offer goes with the step that made it: {left:?}");
}

#[test]
fn the_layer_of_a_package_is_not_that_of_the_project() {
    let repo = archive();
    let (project, _server, _folder) = project(&repo);
    project.run(&["lock"], 0);
    let layers = |said: &Said| -> Vec<String> {
        let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let image = answer["images"].as_array().unwrap().iter().find(|image| image["name"] == "files").unwrap().clone();
        let title =
            |layer: &serde_json::Value| format!("{} {}", layer["title"].as_str().unwrap(), layer["digest"].as_str().unwrap());
        let layers = image["layers"].as_array().unwrap().iter().map(title);
        layers.filter(|layer| layer.starts_with("packages of Composer") || layer.starts_with("files of the recipe")).collect()
    };
    let before = layers(&project.run(&["build", "--json"], 0));
    project.write("images/files/site/index.php", "<?php // another\n");
    let said = project.run(&["plan"], 0);
    assert!(said.out.contains("file images/files/site/index.php changed"), "{}", said.out);
    let after = layers(&project.run(&["build", "--json"], 0));
    assert_eq!((before.len(), after.len()), (2, 2));
    assert_eq!(before[0], after[0], "the packages stay where they are");
    assert_ne!(before[1], after[1]);
}

#[test]
fn an_ordinary_user_gets_the_same_application() {
    let repo = archive();
    let (project, _server, _folder) = project(&repo);
    project.run(&["lock"], 0);
    let manifest = |out: &str| out.split("\"manifest\":").last().map(|text| text.chars().take(80).collect::<String>()).unwrap();
    let expected = manifest(&project.run(&["build", "files", "--json"], 0).out);
    for with_subordinate_ids in [true, false] {
        let Some(user) = User::new(with_subordinate_ids) else { return };
        fs::set_permissions(repo.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let other = Project::on(&repo);
        assert!(
            Command::new("cp")
                .arg("-r")
                .arg(format!("{}/.", project.path().display()))
                .arg(other.path())
                .status()
                .unwrap()
                .success()
        );
        fs::remove_dir_all(other.path().join("out")).unwrap();
        user.own(other.path().parent().unwrap());
        let output = user.command(&other.parvis(&["build", "files", "--json"])).output().unwrap();
        assert!(output.status.success(), "{}", Said::from(&output).err);
        assert_eq!(manifest(&Said::from(&output).out), expected, "with sub-ids {with_subordinate_ids}");
    }
}

#[test]
fn what_changed_since_the_lock_is_named() {
    let repo = archive();
    let (project, server, _folder) = project(&repo);
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let said = project.run(arguments, code);
        assert!(said.err.contains(expected) && said.err.contains("hint: "), "{expected}\n{}", said.err);
    };
    project.run(&["lock"], 0);
    lock_file(&project, &package(&server.url(), "a-2.zip", "2.0"));
    refused(&["build"], 2, "`parvis.lock` does not match the project: `images/files/site/composer.lock` changed");
    let asked = server.requests().len();
    let said = project.run(&["lock", "--check"], 1);
    assert!(said.out.contains("  acme/a 1.0 -> 2.0\n"), "{}", said.out);
    assert_eq!(server.requests().len(), asked, "nothing is fetched to say that it would have to be");
    project.run(&["lock"], 0);
    project.write("images/files/site/composer.json", r#"{"name": "acme/site"}"#);
    refused(&["plan"], 2, "`images/files/site/composer.json` changed");
    let said = project.run(&["lock"], 0);
    assert!(said.out.contains("- patch `near` of acme/a\n"), "{}", said.out);
    recipe(&project, "exclude: []\n  authoritative: true\n  scripts: [build]");
    refused(&["build"], 2, "line 4: `composer.json` has no script `build`");
    fs::remove_file(project.path().join("images/files/site/composer.json")).unwrap();
    refused(&["build"], 2, "recipes/files.yaml, line 4: the folder `images/files/site` holds no `composer.json`");
    project.recipe("files", "description: x\nfrom: base\n");
    refused(&["build"], 2, "image `files` has no Composer project any more");
}

#[test]
fn composer_makes_the_lock_that_is_missing() {
    let repo = archive();
    let (project, server, folder) = project(&repo);
    let made = project.path().join("images/files/site/composer.lock");
    let lock = fs::read_to_string(&made).unwrap();
    fs::remove_file(&made).unwrap();
    let said = project.run(&["lock", "--check"], 1);
    assert!(said.err.contains("`images/files/site/composer.lock` does not exist"), "{}", said.err);
    assert!(!made.exists());
    project.write("images/files/shelf/lock.json", &lock);
    project.run(&["lock"], 0);
    assert_eq!(fs::read_to_string(&made).unwrap(), lock);
    project.run(&["build"], 0);

    // From a repository of the network: Composer says what it wants, and is asked again.
    fs::remove_file(&made).unwrap();
    profile(&project, &format!("[{{url: '{}/repo'}}]", server.url()));
    fs::create_dir(folder.path().join("repo")).unwrap();
    fs::write(folder.path().join("repo/packages.json"), &lock).unwrap();
    project.write("images/files/site/address", &format!("{}/repo/packages.json\n", server.url()));
    project.run(&["lock"], 0);
    assert_eq!(fs::read_to_string(&made).unwrap(), lock);
    fs::remove_file(&made).unwrap();
    project.write("images/files/site/address", &format!("{}/repo/none.json\n", server.url()));
    let said = project.run(&["lock"], 3);
    assert!(said.err.contains("| Composer found no package"), "{}", said.err);
    // Asked what would move, it writes nothing.
    fs::write(&made, lock.replace("1.0", "0.9")).unwrap();
    project.write("images/files/site/address", &format!("{}/repo/packages.json\n", server.url()));
    let said = project.run(&["lock", "--check", "--update", "acme/a"], 1);
    assert!(said.err.contains("`images/files/site/composer.lock` is not up to date"), "{}", said.err);
    assert!(fs::read_to_string(&made).unwrap().contains("0.9"));
    fs::remove_file(&made).unwrap();
    project.write("images/files/site/address", "https://elsewhere.example.org/p2/acme/a.json\n");
    let said = project.run(&["lock"], 2);
    let expected =
        "Composer asks for `https://elsewhere.example.org/p2/acme/a.json`, which is on the host of no repository that is named";
    assert!(said.err.contains(expected), "{}", said.err);
    profile(&project, "[]");
    let said = project.run(&["lock"], 2);
    assert!(said.err.contains("does not exist, and no repository is named to choose packages from"), "{}", said.err);
}

#[test]
fn what_the_platform_lacks_ends_the_build() {
    let repo = archive();
    let (project, _server, _folder) = project(&repo);
    let answer = r#"[{"name": "php", "version": "8.4.1", "status": "failed", "failed_requirement": {"source": "acme/a", "type": "requires", "target": "php", "constraint": "~7.4"}}]"#;
    let mut base = "description: x\nfrom: scratch\npackages: [libfoo]\nfiles:\n".to_owned();
    writeln!(base, "  - {{text: '{answer}', to: /etc/platform, owner: '0:0', mode: '0444'}}").unwrap();
    project.recipe("base", &base);
    project.run(&["lock"], 0);
    let said = project.run(&["build"], 1);
    let expected = "the packages of `files` cannot run in the image `base`: `acme/a` requires php ~7.4, and 8.4.1 is there";
    assert!(said.err.contains(expected) && said.err.contains("hint: "), "{}", said.err);
}

#[test]
fn an_address_that_is_not_locked_ends_the_build_by_name() {
    let repo = archive();
    let (project, _server, _folder) = project(&repo);
    project.write("images/files/site/ask", "https://me:secret@x.example.org/late.zip?token=secret\n");
    project.run(&["lock"], 0);
    let said = project.run(&["build"], 2);
    let expected = "it asked for `https://x.example.org/late.zip`, which is not locked";
    assert!(said.err.contains(expected) && said.err.contains("| cannot download"), "{}", said.err);
    assert!(!said.err.contains("secret"), "{}", said.err);
}

#[test]
fn another_file_than_the_locked_one_is_refused() {
    let repo = archive();
    let (project, server, folder) = project(&repo);
    project.run(&["lock"], 0);
    fs::write(folder.path().join("a-1.zip"), "content of z-1.zip\n").unwrap();
    fs::remove_dir_all(project.store()).unwrap();
    let said = project.run(&["build"], 3);
    assert!(said.err.contains("cannot fetch `acme/a 1.0` from `http://127.0.0.1:"), "{}", said.err);
    assert!(
        said.err.contains("its digest is ") && said.err.contains("has another file there than the one that was locked"),
        "{}",
        said.err
    );
    let said = project.run(&["build", "--offline"], 3);
    assert!(said.err.contains("the network is not to be used"), "{}", said.err);
    // A patch of the project itself is looked at, too.
    project.write("images/files/site/near.patch", "other\n");
    let said = project.run(&["lock", "--check"], 1);
    assert!(said.out.contains("  patch `near` of acme/a: its content, reference or place"), "{}", said.out);
    drop(server);
}

#[test]
fn a_checksum_of_the_repository_is_held_against_the_archive() {
    let repo = archive();
    let (project, server, _folder) = project(&repo);
    let packages = package(&server.url(), "a-1.zip", "1.0")
        .replace("\"reference\": \"abc\"", &format!("\"shasum\": \"{}\"", "0".repeat(40)));
    lock_file(&project, &packages);
    let said = project.run(&["lock"], 1);
    let expected =
        format!("`acme/a 1.0` has the checksum {}, and composer.lock says {}", sha1sum("content of a-1.zip\n"), "0".repeat(40));
    assert!(said.err.contains(&expected), "{}", said.err);
}

fn sha1sum(text: &str) -> String {
    let place = tempfile::NamedTempFile::new().unwrap();
    fs::write(place.path(), text).unwrap();
    let output = Command::new("sha1sum").arg(place.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..40].to_owned()
}

#[test]
fn hostile_projects_are_refused_by_name() {
    let repo = archive();
    let (project, server, folder) = project(&repo);
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("secret"), "secret").unwrap();
    let refused = |packages: &str, code: i32, expected: &str| {
        lock_file(&project, packages);
        let said = project.run(&["lock"], code);
        assert!(said.err.contains(expected), "{expected}\n{}", said.err);
        assert!(!said.err.contains("secret@") && !said.err.contains('\u{1b}'), "{}", said.err);
    };
    let with = |url: &str| package(&server.url(), "a-1.zip", "1").replace(&format!("{}/a-1.zip", server.url()), url);
    refused(
        &with("https://me:secret@h.example/a"),
        2,
        "in `images/files/site`, `composer.lock` has a file of `acme/a` that cannot be fetched: the address `https://h.example/a` holds a user name or password",
    );
    refused(&with("../../../../etc/passwd"), 2, "the address `../../../../etc/passwd` leaves the project");
    refused(
        &with("file:///etc/passwd"),
        2,
        "`acme/a 1` is at `file:///etc/passwd`, which belongs to no repository of the profile",
    );
    refused(&with("ssh://h.example/a"), 2, "the address `ssh://h.example/a` has a scheme that parvis does not fetch");
    refused(&with("none.zip"), 2, "in `images/files/site`, the file `none.zip` of `acme/a` does not exist");
    refused(&package(&server.url(), "none.zip", "1"), 3, "cannot fetch `acme/a 1` from");
    refused(
        &with("x").replace("acme/a\"", "acme/../../x\""),
        2,
        "has a package with a wrong name: `acme/../../x` is not the name of a Composer package",
    );
    refused(r#"{"name": "acme/a", "name": "acme/b"}"#, 2, "the key `name` stands twice in one object");
    refused(&format!("{}1", "[".repeat(100_000)), 2, "recursion limit exceeded");
    refused(
        &with("a-1.zip").replace("\"1\"", "\"1\\u001b[31m\""),
        2,
        r"has the version `1\u{1b}[31m` of `acme/a`, which is none",
    );
    std::os::unix::fs::symlink(victim.path().join("secret"), project.path().join("images/files/shelf/link.zip")).unwrap();
    refused(&with("link.zip"), 2, "`images/files/shelf/link.zip` leaves the project: it is a symbolic link");

    lock_file(&project, &package(&server.url(), "a-1.zip", "1"));
    let lying = Server::scripted(folder.path(), |_| Act::Redirect("file:///etc/passwd".into()));
    refused(&package(&lying.url(), "a-1.zip", "1"), 3, "cannot fetch `");
    fs::write(project.path().join("images/files/site/composer.json"), vec![b' '; 17 << 20]).unwrap();
    let said = project.run(&["lock"], 2);
    assert!(said.err.contains("`images/files/site/composer.json` is larger than 16777216 bytes"), "{}", said.err);
    assert_eq!(fs::read_to_string(victim.path().join("secret")).unwrap(), "secret");
    project.run(&["store", "verify"], 0);
}

/// Writes a zip archive with this machine's own tools: a tree of files, without compression of dates.
fn zip(at: &Path, files: &[(&str, &str)]) {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let offset = u32::try_from(bytes.len()).unwrap();
        let size = u32::try_from(content.len()).unwrap();
        let length = u16::try_from(name.len()).unwrap();
        let mut common = Vec::new();
        for word in [20_u16, 0, 0, 0x6000, 0x5821] {
            common.extend(word.to_le_bytes());
        }
        for word in [crc32(content.as_bytes()), size, size] {
            common.extend(word.to_le_bytes());
        }
        common.extend(length.to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(content.as_bytes());
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let (start, length) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    fs::write(at, bytes).unwrap();
}

/// The checksum of zip (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// A plugin that reads the two formats, as the public ones do: it downloads with PHP's own streams, and runs `patch`.
const PLUGIN: &str = r#"<?php
namespace Acme\Plugin;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;

class Plugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}
    public static function getSubscribedEvents() { return ['post-install-cmd' => 'installed']; }

    public function installed(Event $event)
    {
        $composer = $event->getComposer();
        foreach ($composer->getRepositoryManager()->getLocalRepository()->getPackages() as $package) {
            $place = $composer->getInstallationManager()->getInstallPath($package);
            foreach ($package->getExtra()['downloads'] ?? [] as $id => $download) {
                $address = strtr($download['url'], ['{$id}' => $id, '{$version}' => $download['version']]);
                if (file_exists($address) || @file_get_contents("$address.none") !== false) {
                    throw new \Exception('an address is no file, and what is not locked is not there');
                }
                mkdir("$place/$download[path]", 0777, true);
                copy($address, "$place/$download[path]/words.txt");
            }
            foreach ($composer->getPackage()->getExtra()['patches'][$package->getName()] ?? [] as $patch) {
                file_put_contents('/tmp/patch', file_get_contents($patch));
                passthru('patch -p1 --no-backup-if-mismatch -d ' . escapeshellarg($place) . ' < /tmp/patch', $code);
                if ($code !== 0) {
                    throw new \Exception("$patch does not apply");
                }
            }
        }
    }
}
"#;

/// Makes a Composer repository behind a server: a package with a download and a patch, a plugin, and a package for an old PHP.
fn repository(folder: &Path, url: &str) {
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    };
    let greeting = format!(
        r#"{{"name": "acme/greeting", "version": "1.2.0", "license": ["MIT"], "require": {{"php": ">=8.2"}}, "bin": ["greet"],
        "autoload": {{"psr-4": {{"Acme\\Greeting\\": "src/"}}}},
        "extra": {{"downloads": {{"words": {{"url": "{url}/files/{{$id}}-{{$version}}.txt", "version": "3", "path": "extern"}}}}}},
        "dist": {{"type": "zip", "url": "{url}/files/greeting.zip", "reference": "abc"}}}}"#
    );
    let plugin = format!(
        r#"{{"name": "acme/plugin", "version": "1.0.0", "type": "composer-plugin", "require": {{"composer-plugin-api": "^2.0"}},
        "autoload": {{"psr-4": {{"Acme\\Plugin\\": "src/"}}}}, "extra": {{"class": "Acme\\Plugin\\Plugin"}},
        "dist": {{"type": "zip", "url": "{url}/files/plugin.zip"}}}}"#
    );
    let old = format!(
        r#"{{"name": "acme/old", "version": "1.0.0", "require": {{"php": "~7.4.0"}}, "dist": {{"type": "zip", "url": "{url}/files/old.zip"}}}}"#
    );
    write("packages.json", r#"{"packages": [], "metadata-url": "/p2/%package%.json"}"#);
    for (name, package) in [("greeting", &greeting), ("plugin", &plugin), ("old", &old)] {
        write(&format!("p2/acme/{name}.json"), &format!(r#"{{"packages": {{"acme/{name}": [{package}]}}}}"#));
    }
    write("files/words-3.txt", "bonjour");
    write(
        "files/day.patch",
        "--- a/src/Greeting.php\n+++ b/src/Greeting.php\n@@ -1,4 +1,4 @@\n <?php\n namespace Acme\\Greeting;\n \n-class Greeting { const TEXT = 'hello'; }\n+class Greeting { const TEXT = 'good day'; }\n",
    );
    let class = "<?php\nnamespace Acme\\Greeting;\n\nclass Greeting { const TEXT = 'hello'; }\n";
    zip(
        &folder.join("files/greeting.zip"),
        &[("g/composer.json", &greeting), ("g/greet", "#!/usr/bin/env php\n"), ("g/src/Greeting.php", class)],
    );
    zip(&folder.join("files/plugin.zip"), &[("p/composer.json", &plugin), ("p/src/Plugin.php", PLUGIN)]);
    zip(&folder.join("files/old.zip"), &[("o/composer.json", &old)]);
}

#[test]
fn debians_composer_chooses_and_installs_without_network() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::honest(folder.path());
    repository(folder.path(), &server.url());
    let place = tempfile::Builder::new().prefix("composer-").tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |name: &str, text: &str| {
        fs::create_dir_all(place.path().join(name).parent().unwrap()).unwrap();
        fs::write(place.path().join(name), text).unwrap();
    };
    for name in ["parvis.lock", "keys", "images/base", "images/php", "recipes/base.yaml", "recipes/php.yaml"] {
        fs::create_dir_all(place.path().join(name).parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-r").arg(here.join(name)).arg(place.path().join(name)).status().unwrap().success());
    }
    let project = fs::read_to_string(here.join("parvis.yaml")).unwrap();
    let (head, tail) = project.split_once("profiles:").unwrap();
    let tail = tail.split_once("\nlayers:").map_or("", |(_, layers)| layers);
    let profile = format!(
        "profiles: {{annuaire: {{variables: {{time-zone: Europe/Paris, web-root: /app/web}}, composer: {{repositories: [{{url: '{}'}}]}}}}}}",
        server.url()
    );
    write("parvis.yaml", &format!("{head}{profile}\nlayers:{tail}"));
    write("recipes/tool.yaml", "description: Composer.\nfrom: php\npackages: [composer, patch, unzip]\n");
    write(
        "recipes/files.yaml",
        "description: The application.\nfrom: scratch\ncomposer: {project: site, to: /app, with: tool, platform: php, owner: 'paroisse:www-data', mode: '0440'}\n",
    );
    write("recipes/app.yaml", "description: x\nfrom: php\ncopy: [{from: files, path: /app}]\n");
    let composer_json = |require: &str| {
        format!(
            r#"{{"name": "acme/site", "require": {{{require}}}, "autoload": {{"psr-4": {{"Acme\\Site\\": "src/"}}}},
            "config": {{"allow-plugins": {{"acme/plugin": true}}, "platform": {{"php": "PHP"}}}},
            "extra": {{"patches": {{"acme/greeting": {{"says good day": "{}/files/day.patch"}}}}}}}}"#,
            server.url()
        )
    };
    let definition = composer_json(r#""acme/greeting": "^1", "acme/plugin": "^1""#).replace("PHP", "8.4.0");
    write("images/files/site/composer.json", &definition);
    write("images/files/site/src/Site.php", "<?php\nnamespace Acme\\Site;\n\nclass Site {}\n");
    let page = "<?php require '/app/vendor/autoload.php';\necho Acme\\Greeting\\Greeting::TEXT, ' ', file_get_contents('/app/vendor/acme/greeting/extern/words.txt'), ' ', Acme\\Site\\Site::class;\n";
    write("images/files/site/web/index.php", page);
    let run = |arguments: &[&str], code: i32| {
        let output = Command::new(env!("CARGO_BIN_EXE_parvis"))
            .args(["--project", place.path().to_str().unwrap(), "--store", place.path().join("store").to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    };
    run(&["lock", "--update"], 0);
    run(&["lock", "--check"], 0);
    let made = fs::read_to_string(place.path().join("images/files/site/composer.lock")).unwrap();
    assert!(made.contains(&format!("{}/files/greeting.zip", server.url())), "{made}");
    let lock = fs::read_to_string(place.path().join("parvis.lock")).unwrap();
    assert_eq!(lock.matches("[[composer.download]]").count(), 4, "two distributions, a download and a patch");
    run(&["build", "--trees", "app"], 0);
    let asked = server.requests().len();
    assert_eq!(run(&["run", "app", "--", "php", "/app/web/index.php"], 0).out, "good day bonjour Acme\\Site\\Site");
    let script =
        "cat /app/vendor/composer/installed.json; stat -c %u:%g:%a /app/vendor/acme/greeting/greet; ls -A /app/vendor/bin";
    let said = run(&["run", "app", "--user", "root", "--", "sh", "-c", script], 0).out;
    assert!(said.contains(&format!("{}/files/greeting.zip", server.url())) && said.contains("1001:33:440\ngreet"), "{said}");
    run(&["build", "--trees", "app"], 0);
    assert_eq!(server.requests().len(), asked, "what is locked and fetched is asked of nobody");
    let why = run(&["why", "acme/greeting"], 0).out;
    assert!(why.contains("files: images/files/site/composer.json > acme/greeting 1.2.0"), "{why}");

    // Composer believes what composer.json says of the platform; the platform itself is asked all the same.
    let definition = composer_json(r#""acme/old": "^1""#).replace("PHP", "7.4.33");
    write("images/files/site/composer.json", &definition);
    fs::remove_file(place.path().join("images/files/site/composer.lock")).unwrap();
    run(&["lock"], 0);
    let said = run(&["build", "--trees", "files"], 1);
    let expected = "the packages of `files` cannot run in the image `php`: `acme/old` requires php ~7.4.0, and 8.4.";
    assert!(said.err.contains(expected), "{}", said.err);
}
