//! Builds the small program that stands in for interpreters inside a sandbox.

use std::path::{Path, PathBuf};
use std::{env, fs};

const SOURCE: &str = "src/edge/sandbox/shim.c";

/// It starts very often and has no library: no run-time linker, nothing that a C library would set up.
const FLAGS: [&str; 12] = [
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-Os",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-pic",
    "-no-pie",
    "-Wall",
    "-Wextra",
    "-Wl,--build-id=none",
    "-s",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let program = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("shim");
    if !compile(&program) {
        // Without it every script runs under its own interpreter: slower, with the same results.
        println!("cargo::warning=no C compiler could build {SOURCE}: maintainer scripts will be slower");
        fs::write(&program, "").expect("cargo's folder for output can be written");
    }
}

fn compile(program: &Path) -> bool {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !matches!(architecture.as_str(), "x86_64" | "aarch64") {
        return false;
    }
    let Ok(compiler) = cc::Build::new().no_default_flags(true).cargo_metadata(false).try_get_compiler() else { return false };
    compiler.to_command().args(FLAGS).arg(SOURCE).arg("-o").arg(program).status().is_ok_and(|status| status.success())
}
