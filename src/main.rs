//! The program.

use parvis::edge::sandbox;

fn main() {
    // Before anything else: a new user namespace wants a process with one thread.
    if std::env::args_os().nth(1).is_some_and(|word| word == sandbox::WORKER) {
        sandbox::worker_main();
    }
}
