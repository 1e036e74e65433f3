//! The keys of a recipe file, as they are written; the JSON Schema is made from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::yaml::{NumberOrText, OneOrMore, Placed};

pub(super) type Text = Placed<String>;

/// One image: how it is built, configured and tested. The file's name is the image's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "parvis recipe")]
pub(super) struct Recipe {
    /// Why the image exists, for the person who reads the list of images.
    pub description: Text,
    /// Where the image starts: `scratch`, or the name of another recipe.
    pub from: Text,
    /// Users and groups with fixed ids, made before any package is unpacked.
    #[serde(default)]
    pub users: Vec<Placed<User>>,
    /// Names of Debian packages, beyond those of the parent. Their dependencies and versions stand in the lock.
    #[serde(default)]
    pub packages: Option<Placed<Vec<Text>>>,
    /// Whether the packages' Recommends are installed too.
    #[serde(default)]
    pub recommends: bool,
    /// A PHP project, installed by Composer from its composer.lock.
    #[serde(default)]
    pub composer: Option<Placed<Composer>>,
    /// Files, folders and links that are put into the image after the packages.
    #[serde(default)]
    pub files: Vec<Placed<File>>,
    /// Parts of other images that are copied into this one.
    #[serde(default)]
    pub copy: Vec<Placed<Copy>>,
    /// Commands that run in the sandbox, with no network, after files and copies.
    #[serde(default)]
    pub run: Vec<Placed<Run>>,
    /// Paths that are removed at the end; `*` and `?` stand for parts of one name, `**` for any number of folders.
    #[serde(default)]
    pub remove: Vec<Text>,
    /// What a container of this image runs, and how.
    #[serde(default)]
    pub config: Option<Placed<Config>>,
    /// What must be true of the image; `parvis test` checks it.
    #[serde(default)]
    pub tests: Vec<Placed<Test>>,
}

/// A user with fixed ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// The login name.
    pub name: Text,
    /// The user's number.
    pub uid: Placed<u32>,
    /// The number of the primary group.
    pub gid: Placed<u32>,
    /// The name of the primary group; the user's own name unless stated.
    #[serde(default)]
    pub group: Option<Text>,
    /// The comment field of the account.
    #[serde(default)]
    pub comment: Option<Text>,
    /// The home folder; `/nonexistent` unless stated. It is not created.
    #[serde(default)]
    pub home: Option<Text>,
    /// The login shell; `/usr/sbin/nologin` unless stated.
    #[serde(default)]
    pub shell: Option<Text>,
    /// Further groups the user is a member of.
    #[serde(default)]
    pub groups: Vec<Text>,
}

/// A file, folder or link: exactly one of `from`, `text`, `directory` and `link`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// A file or folder below `images/NAME/` of the project.
    #[serde(default)]
    pub from: Option<Text>,
    /// The content itself. Nothing in it is substituted.
    #[serde(default)]
    pub text: Option<Text>,
    /// `true` for an empty folder.
    #[serde(default)]
    pub directory: Option<Placed<bool>>,
    /// The target of a symbolic link.
    #[serde(default)]
    pub link: Option<Text>,
    /// The absolute path in the image.
    pub to: Text,
    /// `user:group`, by name or number. Required, except for links.
    #[serde(default)]
    pub owner: Option<Text>,
    /// Octal digits in quotes, such as `"0440"`. Required, except for links. For a folder of the project: of each file in it.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Option<Text>,
    /// For a folder of the project: the mode of it and of each folder in it. Unless stated, `mode` with search where it reads.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub directory_mode: Option<Text>,
}

/// A PHP project. Composer runs without network on exactly what `parvis.lock` names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Composer {
    /// The folder below `images/NAME/` with composer.json, composer.lock and the project's own files.
    pub project: Text,
    /// The absolute path of the project in the image.
    pub to: Text,
    /// The recipe of the image in which Composer runs; nothing of it enters this image.
    pub with: Text,
    /// The recipe of the image whose PHP must have what the packages require.
    pub platform: Text,
    /// `user:group` of all files and folders, by name or number; names are those of this image, else of the platform.
    pub owner: Text,
    /// Octal digits in quotes, such as `"0440"`: the mode of every file.
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Text,
    /// The mode of every folder. Unless stated, `mode` with search where it reads.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub directory_mode: Option<Text>,
    /// What of the project does not enter the image: paths below it; `*` and `?` stand for parts of one name, `**` for any number of folders.
    #[serde(default)]
    pub exclude: Vec<Text>,
    /// Scripts of composer.json, by name, that run after the installation. No other script runs.
    #[serde(default)]
    pub scripts: Vec<Text>,
    /// `true` where no class is looked for that was not there when the image was built (Composer's `classmap-authoritative`).
    /// Faster, but wrong for programs that add folders of classes while they run, as Drupal does.
    #[serde(default)]
    pub authoritative: bool,
}

/// A part of another image.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    /// The name of the other recipe.
    pub from: Text,
    /// The absolute path there.
    pub path: Text,
    /// The absolute path here; the same unless stated.
    #[serde(default)]
    pub to: Option<Text>,
    /// `user:group` for all that is copied; kept unless stated.
    #[serde(default)]
    pub owner: Option<Text>,
}

/// A command in the sandbox: either `command` or `script`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// The program and its arguments. Nothing in them is substituted.
    #[serde(default)]
    pub command: Option<Placed<Vec<Text>>>,
    /// Text for `/bin/sh -eu`. Nothing in it is substituted; hand variables in through `env`.
    #[serde(default)]
    pub script: Option<Text>,
    /// `user` or `user:group`; root unless stated, whatever user the image runs as.
    #[serde(default)]
    pub user: Option<Text>,
    /// The folder to start in; `/` unless stated.
    #[serde(default)]
    pub workdir: Option<Text>,
    /// Environment variables of this command alone, over those that the image has and inherits.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// How long it may take, such as `10m`; 10 minutes unless stated.
    #[serde(default)]
    pub timeout: Option<Text>,
}

/// What a container of the image runs, and how. What is absent comes from the parent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The program that is started, with its first arguments.
    #[serde(default)]
    pub entrypoint: Option<Vec<Text>>,
    /// The program, or the further arguments of the entrypoint.
    #[serde(default)]
    pub cmd: Option<Vec<Text>>,
    /// Environment variables. Never a password: images are public.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// `user` or `user:group` that the program runs as.
    #[serde(default)]
    pub user: Option<Text>,
    /// The folder to start in.
    #[serde(default)]
    pub workdir: Option<Text>,
    /// Ports that the program listens on: `443`, `443/tcp`, `53/udp`.
    #[serde(default)]
    pub ports: Vec<Placed<NumberOrText>>,
    /// Absolute paths of the folders that hold data.
    #[serde(default)]
    pub volumes: Vec<Text>,
    /// The signal that asks the program to end, such as `SIGTERM`.
    #[serde(default)]
    pub stop_signal: Option<Text>,
    /// How an engine finds out that the program does its work.
    #[serde(default)]
    pub health: Option<Placed<Health>>,
    /// Labels of the image.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
}

/// A health check: either `command` or `script`, which fails when the container is of no use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    /// The program and its arguments. Nothing in them is substituted.
    #[serde(default)]
    pub command: Option<Placed<Vec<Text>>>,
    /// Text for `/bin/sh -eu`. Nothing in it is substituted.
    #[serde(default)]
    pub script: Option<Text>,
    /// The time between two checks; `30s` unless stated.
    #[serde(default)]
    pub interval: Option<Text>,
    /// How long a check may take; `10s` unless stated.
    #[serde(default)]
    pub timeout: Option<Text>,
    /// How long failures do not count after the start; `10s` unless stated.
    #[serde(default)]
    pub start_period: Option<Text>,
    /// How many failures in a row make the container unhealthy; 3 unless stated.
    #[serde(default)]
    pub retries: Option<Placed<u32>>,
}

/// One test: a command (`command` or `script`), or a path (`file`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// The program and its arguments. Nothing in them is substituted.
    #[serde(default)]
    pub command: Option<Placed<Vec<Text>>>,
    /// Text for `/bin/sh -eu`. Nothing in it is substituted.
    #[serde(default)]
    pub script: Option<Text>,
    /// `user` or `user:group` for the command; that of the image unless stated.
    #[serde(default)]
    pub user: Option<Text>,
    /// Environment variables of this command alone, over those that the image has and inherits.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// What the command reads on standard input.
    #[serde(default)]
    pub stdin: Option<Text>,
    /// The exit code that the command must have; 0 unless stated.
    #[serde(default)]
    pub exit: Option<Placed<u8>>,
    /// Texts that standard output must contain.
    #[serde(default)]
    pub stdout: Option<Placed<OneOrMore>>,
    /// Texts that standard error must contain.
    #[serde(default)]
    pub stderr: Option<Placed<OneOrMore>>,
    /// Texts that neither output may contain.
    #[serde(default)]
    pub absent: Option<Placed<OneOrMore>>,
    /// How long the command may take; `60s` unless stated.
    #[serde(default)]
    pub timeout: Option<Text>,
    /// The absolute path that is looked at, in place of a command.
    #[serde(default)]
    pub file: Option<Text>,
    /// `false` where the path must not exist.
    #[serde(default)]
    pub exists: Option<Placed<bool>>,
    /// `user:group` that the path must have.
    #[serde(default)]
    pub owner: Option<Text>,
    /// Octal digits in quotes: the mode that the path must have.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Option<Text>,
    /// Texts that the file must contain.
    #[serde(default)]
    pub contains: Option<Placed<OneOrMore>>,
}
