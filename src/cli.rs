//! The command line: the sole reader of arguments and environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::edge::fetch::{FetchOptions, Proxies};
use crate::edge::keys::Passphrase;
use crate::failure::Failure;
use crate::model::language::Language;
use crate::ui::{Dress, Ui};
use crate::verbs::{self, Answer, Context};

/// Builds the container images of a whole system from Debian packages, with no daemon.
#[derive(Debug, Parser)]
#[command(name = "parvis", version, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Global {
    /// Folder of the project, where `parvis.yaml` is (default: here, or the nearest folder above that has one)
    #[arg(long, short = 'C', global = true, value_name = "FOLDER", help_heading = "Everywhere")]
    project: Option<PathBuf>,
    /// Folder of the store (default: `$PARVIS_STORE`, else `parvis` in the user's cache folder)
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Everywhere")]
    store: Option<PathBuf>,
    /// Mirror of an archive, as `URL` or `ARCHIVE=URL` (default: `$PARVIS_MIRROR`, the host's apt sources, `parvis.yaml`)
    #[arg(long, global = true, value_name = "MIRROR", help_heading = "Everywhere")]
    mirror: Vec<String>,
    /// Profile whose variables the recipes see
    #[arg(long, global = true, value_name = "NAME", help_heading = "Everywhere")]
    profile: Option<String>,
    /// Fetch nothing
    #[arg(long, global = true, help_heading = "Everywhere")]
    offline: bool,
    /// Print the result as JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    /// Language of what volunteers read (default: that of `LC_ALL`, `LC_MESSAGES` or `LANG`)
    #[arg(long, global = true, value_name = "fr|en", value_parser = ["fr", "en"], help_heading = "Everywhere")]
    lang: Option<String>,
    /// Print only results and errors
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
    /// Threads for the heavy work (default: one per core); the result never depends on it
    #[arg(long, global = true, value_name = "N", help_heading = "Everywhere")]
    threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Decide every package, and write the decision to `parvis.lock`
    Lock(verbs::lock::Arguments),
    /// Show what `build` would do, and why
    Plan(verbs::plan::Arguments),
    /// Build the images
    Build(verbs::build::Arguments),
    /// Run the tests that the recipes state, without Docker
    Test(verbs::test::Arguments),
    /// Run a command in an image, without Docker
    Run(verbs::run::Arguments),
    /// Write images to one file that docker, podman and skopeo read
    Save(verbs::save::Arguments),
    /// List what an image consists of, for those who must know (SPDX, `CycloneDX`)
    Sbom(verbs::sbom::Arguments),
    /// Sign what images consist of, how they were made and what their tests found, and hang it on them
    Attest(verbs::attest::Arguments),
    /// Hand images to docker or podman
    Load(verbs::load::Arguments),
    /// Send images to a registry
    Push(verbs::push::Arguments),
    /// Fetch an image from a registry
    Pull(verbs::pull::Arguments),
    /// Write what people need to run a stack into a folder
    Bundle(verbs::bundle::Arguments),
    /// Make a numbered release of all images, with what people download
    Release(verbs::release::Arguments),
    /// Make a candidate the release, with the very images that were tried
    Promote(verbs::release::promote::Arguments),
    /// Say of a release that nobody should use it any more
    Yank(verbs::release::yank::Arguments),
    /// Publish the sources of released versions in a git repository without anything else
    PublishSource(verbs::publish_source::Arguments),
    /// Start a bundle on this machine, look after it, back it up
    Demo(verbs::demo::Arguments),
    /// Sign images where they are: in a registry, a layout, an archive
    Sign(verbs::sign::Arguments),
    /// Say whether a download, a bundle or an image is genuine and unchanged
    Verify(verbs::verify::Arguments),
    /// Put a new version together from an older download and one that holds only what is new
    Delta(verbs::delta::Arguments),
    /// Make, show and replace keys that sign
    Key(verbs::key::Arguments),
    /// Say whose signatures count on this machine
    Trust(verbs::trust::Arguments),
    /// Say which recipe a package is there for
    Why(verbs::why::Arguments),
    /// List packages for which the archive has something newer
    Outdated(verbs::outdated::Arguments),
    /// Say which of your locks, releases and images a hole or an advisory touches
    Affected(verbs::affected::Arguments),
    /// Rebuild what security fixes touch, and prove that nothing else changed
    Rebuild(verbs::rebuild::Arguments),
    /// Say what an image consists of: layers, packages, settings, powers, signatures
    Inspect(verbs::inspect::Arguments),
    /// Say what differs between two images
    Diff(verbs::diff::Arguments),
    /// Say whether built images may be handed to others: secrets, setuid files, root, size, support
    Gate(verbs::gate::Arguments),
    /// Look for mistakes in the project, with advice
    Check(verbs::check::Options),
    /// Print the JSON Schemas of the project's files
    Schema(verbs::schema::Options),
    /// Verify, clean or locate the store
    Store(verbs::store::Arguments),
    /// Say whether this machine can build, and what to do where it cannot
    Doctor(verbs::doctor::Arguments),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let quiet_start = Ui::new(Dress::detect(no_color(), dumb(), false));
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is a wrong command line.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let ui = if cli.global.quiet { Ui::new(Dress::detect(no_color(), dumb(), true)) } else { quiet_start };
    match run(cli, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

fn run(cli: Cli, ui: &Ui) -> Answer {
    let Cli { global, verb } = cli;
    let context = context(global, ui)?;
    match verb {
        Verb::Lock(arguments) => verbs::lock::run(&arguments, &context),
        Verb::Plan(arguments) => verbs::plan::run(&arguments, &context),
        Verb::Build(arguments) => verbs::build::run(&arguments, &context),
        Verb::Test(arguments) => verbs::test::run(&arguments, &context),
        Verb::Run(arguments) => verbs::run::run(&arguments, &context),
        Verb::Save(arguments) => verbs::save::run(&arguments, &context),
        Verb::Sbom(arguments) => verbs::sbom::run(&arguments, &context),
        Verb::Attest(arguments) => verbs::attest::run(&arguments, &context),
        Verb::Load(arguments) => verbs::load::run(&arguments, &context),
        Verb::Push(arguments) => verbs::push::run(&arguments, &context),
        Verb::Pull(arguments) => verbs::pull::run(&arguments, &context),
        Verb::Bundle(arguments) => verbs::bundle::run(&arguments, &context),
        Verb::Release(arguments) => verbs::release::run(&arguments, &context),
        Verb::Promote(arguments) => verbs::release::promote::run(&arguments, &context),
        Verb::Yank(arguments) => verbs::release::yank::run(&arguments, &context),
        Verb::PublishSource(arguments) => verbs::publish_source::run(&arguments, &context),
        Verb::Demo(arguments) => verbs::demo::run(&arguments, &context),
        Verb::Sign(arguments) => verbs::sign::run(&arguments, &context),
        Verb::Verify(arguments) => verbs::verify::run(&arguments, &context),
        Verb::Delta(arguments) => verbs::delta::run(&arguments, &context),
        Verb::Key(arguments) => verbs::key::run(&arguments, &context),
        Verb::Trust(arguments) => verbs::trust::run(&arguments, &context),
        Verb::Why(arguments) => verbs::why::run(&arguments, &context),
        Verb::Outdated(arguments) => verbs::outdated::run(&arguments, &context),
        Verb::Affected(arguments) => verbs::affected::run(&arguments, &context),
        Verb::Rebuild(arguments) => verbs::rebuild::run(&arguments, &context),
        Verb::Inspect(arguments) => verbs::inspect::run(&arguments, &context),
        Verb::Diff(arguments) => verbs::diff::run(&arguments, &context),
        Verb::Gate(arguments) => verbs::gate::run(&arguments, &context),
        Verb::Check(arguments) => verbs::check::run(&arguments, &context),
        Verb::Schema(arguments) => verbs::schema::run(&arguments, &context),
        Verb::Store(arguments) => verbs::store::run(&arguments, &context),
        Verb::Doctor(arguments) => verbs::doctor::run(&arguments, &context),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "parvis", &mut script);
            context.screen.raw(&script);
            Ok(())
        }
        Verb::Man { folder } => clap_mangen::generate_to(Cli::command(), &folder)
            .map_err(|error| Failure::world(format!("cannot write manual pages to `{}`", folder.display())).because(error)),
    }
}

fn context(global: Global, ui: &Ui) -> Result<Context<'_>, Failure> {
    let folder = match global.project {
        Some(folder) => folder,
        None => std::env::current_dir()
            .map_err(|error| Failure::world("the current folder is gone").because(error).hint("cd to the project"))?,
    };
    let mirrors = if global.mirror.is_empty() {
        variable("PARVIS_MIRROR").map(|value| value.split_whitespace().map(ToOwned::to_owned).collect()).unwrap_or_default()
    } else {
        global.mirror
    };
    let threads = match global.threads {
        Some(0) => {
            return Err(Failure::project("`--threads 0` leaves nobody to do the work").hint("give 1 or more, or leave it out"));
        }
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let store = store(global.store)?;
    Ok(Context {
        folder,
        state: state().unwrap_or_else(|| store.clone()),
        config: config().unwrap_or_else(|| store.join("config")),
        passphrase: variable("PARVIS_PASSPHRASE").map(Passphrase::new),
        root_passphrase: variable("PARVIS_ROOT_PASSPHRASE").map(Passphrase::new),
        store,
        language: language(global.lang),
        mirrors,
        profile: global.profile,
        json: global.json,
        machine: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "arm" => "armhf",
            "powerpc64" => "ppc64el",
            other => other,
        },
        threads,
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        fetch: FetchOptions {
            offline: global.offline,
            proxies: Proxies {
                // Only the lower-case name: a web server's environment may hold HTTP_PROXY from a request's header.
                http: variable("http_proxy"),
                https: variable("https_proxy").or_else(|| variable("HTTPS_PROXY")),
                all: variable("all_proxy").or_else(|| variable("ALL_PROXY")),
                except: variable("no_proxy").or_else(|| variable("NO_PROXY")),
            },
            ca_file: variable("SSL_CERT_FILE").map(PathBuf::from),
            ..FetchOptions::default()
        },
        credentials: credentials(),
        certificates: certificates(),
        composer_auth: variable(crate::composer::login::COMPOSER_AUTH),
        screen: ui,
    })
}

/// Returns the store's folder: the option, `$PARVIS_STORE`, `$XDG_CACHE_HOME/parvis`, `~/.cache/parvis`.
fn store(option: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let folder = |name: &str| variable(name).map(PathBuf::from);
    option
        .or_else(|| folder("PARVIS_STORE"))
        .or_else(|| folder("XDG_CACHE_HOME").filter(|cache| cache.is_absolute()).map(|cache| cache.join("parvis")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/parvis")))
        .ok_or_else(|| {
            Failure::project("no folder for the store: neither `PARVIS_STORE` nor `HOME` is set").hint("add `--store FOLDER`")
        })
}

/// Returns the folder of what is remembered: `$XDG_STATE_HOME/parvis`, `~/.local/state/parvis`.
fn state() -> Option<PathBuf> {
    own_folder("XDG_STATE_HOME", ".local/state")
}

/// Returns the folder of what the user decided: `$XDG_CONFIG_HOME/parvis`, `~/.config/parvis`.
fn config() -> Option<PathBuf> {
    own_folder("XDG_CONFIG_HOME", ".config")
}

/// Returns parvis's folder of a kind (XDG Base Directory Specification): below a variable's, else below the home.
fn own_folder(name: &str, below_home: &str) -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(below_home));
    let folder = variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute()).or_else(home)?;
    Some(folder.join("parvis"))
}

/// Returns the files in which podman and docker keep what `login` was told: `$REGISTRY_AUTH_FILE` alone where it is set.
fn credentials() -> Vec<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from);
    if let Some(file) = folder("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = folder("HOME");
    let config = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = folder("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    let podman = [folder("XDG_RUNTIME_DIR"), config].into_iter().flatten().map(|folder| folder.join("containers/auth.json"));
    podman.chain(docker.map(|folder| folder.join("config.json"))).collect()
}

/// Returns the folders in which docker and podman look for a registry's certificates.
fn certificates() -> Vec<PathBuf> {
    let own = variable("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    own.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
}

/// Returns the language: the option, else the first of the variables that POSIX names, in their order.
fn language(option: Option<String>) -> Language {
    let locale = option.or_else(|| ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|name| variable(name)));
    Language::of_locale(&locale.unwrap_or_default())
}

/// Returns an environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn no_color() -> bool {
    variable("NO_COLOR").is_some()
}

fn dumb() -> bool {
    variable("TERM").as_deref() == Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
