//! A standard library for the released wasm: compiled for size, and without what prints a panic.
//!
//! The library that comes with a compiler is compiled for speed, and each of its panics brings its
//! message along. Where the compiler has the library's source, cargo can build it anew with the
//! package. A panic then stops the module at once, as it did before, only without words; tests and
//! `--dev` builds keep the words. These options are unstable, so that a compiler may refuse them:
//! then the ordinary library is taken, and said so.

use std::path::PathBuf;

use crate::job::Job;
use crate::paths::{Paths, on_path};
use crate::toolchain::{TARGET, Toolchain};
use crate::{Result, say};

/// Lets a stable compiler take unstable options.
const UNSTABLE: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");
/// Nothing that a user sees is printed by `Debug`.
const NO_WORDS: &str = "-Zunstable-options -Cpanic=immediate-abort -Zfmt-debug=none";

/// Compiles the package with its own standard library. `None` where that cannot be.
pub(crate) fn compile(
    paths: &Paths,
    toolchain: &Toolchain,
    shown: bool,
) -> Result<Option<PathBuf>> {
    if !has_source(paths, toolchain) {
        say::note("the compiler has no source of the standard library: the wasm stays larger");
        return Ok(None);
    }
    let target = paths.target.join("wasm-small");
    let ended = toolchain
        .cargo(paths, "cargo build small wasm")
        .args(["build", "--lib", "--release", "-p", "landfall"])
        .args(["--target", TARGET, "-Z", "build-std=std,panic_abort"])
        .args(["-Z", "build-std-features=optimize_for_size"])
        .env(UNSTABLE.0, UNSTABLE.1)
        .env("RUSTFLAGS", NO_WORDS)
        .env("CARGO_TARGET_DIR", &target)
        .limit_s(1_800)
        .shown(shown)
        .run()?;
    if ended.is_success() {
        return Ok(Some(target.join(TARGET).join("release/landfall.wasm")));
    }
    say::note("no standard library could be built for size: the wasm stays larger");
    Ok(None)
}

/// Whether the library's source is there. Asks rustup for it where it is not.
fn has_source(paths: &Paths, toolchain: &Toolchain) -> bool {
    let is_there = || {
        let source = toolchain.sysroot(paths);
        source.is_some_and(|root| root.join("lib/rustlib/src/rust/library/std").is_dir())
    };
    if is_there() {
        return true;
    }
    if *toolchain != Toolchain::Active || on_path(&["rustup"]).is_none() {
        return false;
    }
    say::note("asking rustup for the source of the standard library");
    let job = Job::new(paths, "rustup component add", "rustup");
    let added = job
        .args(["component", "add", "rust-src"])
        .limit_s(300)
        .run();
    added.is_ok_and(|ended| ended.is_success()) && is_there()
}
