//! The program.

use std::process::ExitCode;

use parvis::{cli, edge::sandbox};

fn main() -> ExitCode {
    // Before anything else: a new user namespace wants a process with one thread.
    if std::env::args_os().nth(1).is_some_and(|word| word == sandbox::WORKER) {
        sandbox::worker_main();
    }
    cli::main()
}
