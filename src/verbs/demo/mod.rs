//! `parvis demo`: a bundle started on this machine, looked after, saved and brought back.

mod backup;
mod change_words;
mod changing;
mod images;
mod look;
mod machine;
mod obtain;
mod place;
mod sealing;
mod start;
mod stop;
mod upgrade;
pub mod words;

use std::path::PathBuf;

use super::registry::Reach;
use super::{Answer, Context};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the bundle (default: this folder, that of the project, or the one that was started last)
    #[arg(long, global = true, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Engine to use: `docker` or `podman` (default: the first that answers)
    #[arg(long, global = true, value_name = "PROGRAM")]
    engine: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start everything, and say where it is to be seen
    Up(Up),
    /// Say what runs, since when and how well
    Status,
    /// Print what the services say
    Logs(Logs),
    /// Stop the containers; the data stay
    Stop,
    /// Remove containers and networks; the data stay
    Down,
    /// Remove everything with all data; the next `up` makes new keys
    Reset(Agree),
    /// Print the password of the first log-in
    Password,
    /// Save database, files and keys to one file
    Backup(Save),
    /// Bring back what `backup` saved
    Restore(Copy),
    /// Put a new version in the place of the one that runs; where it does not work, the old one is brought back
    Upgrade(Upgrade),
    /// Go back to the version before the last upgrade
    Rollback(Rollback),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// The bundle that you downloaded: its folder, or the .tar of it
    file: Option<PathBuf>,
    /// Seconds that each service may take until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
struct Logs {
    /// Service to hear (default: all)
    service: Option<String>,
    /// Go on until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Lines of each service
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    lines: u32,
}

#[derive(Debug, clap::Args)]
struct Agree {
    /// Remove the data without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Copy {
    /// The backup
    file: PathBuf,
    /// Replace what is there already
    #[arg(long)]
    yes: bool,
    /// Seconds that each service may take until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
    #[command(flatten)]
    open: sealing::Open,
}

#[derive(Debug, clap::Args)]
struct Upgrade {
    /// The new version: the .tar that you downloaded or its folder; or only its number (`1.5.0`), which is fetched from where the
    /// present one is from; or `REGISTRY/PREFIX:NUMBER`; in a project also a rebuild (`1.4.0-sec.1`). Without one, an interrupted upgrade goes on
    #[arg(value_name = "FILE|RELEASE")]
    file: Option<PathBuf>,
    /// Registry, perhaps with a path, that has the release of that number (default: the one that the present version is from)
    #[arg(long = "in", value_name = "REGISTRY/PREFIX")]
    kept_in: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Take a version that nobody signed, or whose signature cannot be judged because no key is trusted on this machine
    #[arg(long)]
    unverified: bool,
    /// Take a release that is older than the newest one that this machine has seen
    #[arg(long)]
    allow_older: bool,
    /// Seconds that each service may take until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
struct Rollback {
    /// Let go of what was entered since the upgrade, where the version before cannot read it
    #[arg(long)]
    yes: bool,
    /// Seconds that each service may take until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
struct Save {
    #[command(flatten)]
    copy: Copy,
    /// Bring it back beside the site, compare, and remove that again
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    close: sealing::Close,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    match &arguments.action {
        Action::Up(up) => start::run(arguments, up, context),
        Action::Status => look::status(arguments, context),
        Action::Logs(logs) => look::logs(arguments, logs, context),
        Action::Password => look::password(arguments, context),
        Action::Stop => stop::stop(arguments, context),
        Action::Down => stop::down(arguments, context),
        Action::Reset(agree) => stop::reset(arguments, agree.yes, context),
        Action::Backup(file) => backup::save(arguments, file, context),
        Action::Restore(file) => backup::restore(arguments, file, context),
        Action::Upgrade(options) => upgrade::upgrade(arguments, options, context),
        Action::Rollback(options) => upgrade::rollback(arguments, options, context),
    }
}
