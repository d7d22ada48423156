//! The standard library for the browser, built once from the source that the distribution ships.
//!
//! Debian packages the compiler and the library's source, but not the library for this target.
//! Once it is copied into the compiler's own folder, cargo, wasm-pack and the test runner see an
//! ordinary target. The stamp beside it holds the compiler's version; when the package is
//! upgraded, the library is built anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::paths::{self, Paths};
use crate::toolchain::{TARGET, Toolchain};
use crate::{Doing, Failure, Result, debian, say};

/// Lies beside the libraries that we built, and holds the compiler's version.
const STAMP: &str = "landfall-std.stamp";

/// Whether the libraries in `folder` were built by us, for another compiler than `toolchain`'s.
/// Libraries that came from elsewhere are not ours to judge.
pub(crate) fn is_stale(folder: &Path, toolchain: &Toolchain, paths: &Paths) -> bool {
    let Ok(stamp) = fs::read_to_string(folder.join(STAMP)) else {
        return false;
    };
    toolchain
        .verbose_version(paths)
        .is_none_or(|now| now.trim() != stamp.trim())
}

/// Builds the library with `toolchain` and puts it into place.
pub(crate) fn build(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    say::note("building the standard library for the browser (once, about a minute)");
    let folder = paths.cache.join("wasm-std");
    let _ = fs::remove_dir_all(&folder);
    // An own workspace, or cargo would look for one above.
    let manifest = "[package]\nname = \"nothing\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                    [lib]\npath = \"nothing.rs\"\n\n[workspace]\n";
    paths::write(&folder.join("Cargo.toml"), manifest)?;
    paths::write(&folder.join("nothing.rs"), "//! Nothing.\n")?;
    toolchain
        .cargo(paths, "build the standard library")
        .within(&folder)
        .args(["build", "--release", "--target", TARGET])
        .args(["-Z", "build-std=std,panic_abort,panic_unwind,test"])
        .env("RUSTC_BOOTSTRAP", "1")
        // Without it, `lto = true` later finds no code to optimise.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .limit_s(1_200)
        .success()?;
    let built = collect(paths, &folder, toolchain)?;
    put_into_place(paths, &built, toolchain)?;
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

/// Gathers the built libraries and the stamp in one folder.
fn collect(paths: &Paths, folder: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let built = folder.join("lib");
    fs::create_dir_all(&built).doing("make a folder for the libraries")?;
    let deps = folder.join("target").join(TARGET).join("release/deps");
    for entry in fs::read_dir(&deps).doing("list the libraries")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libnothing-") {
            fs::copy(entry.path(), built.join(&name)).doing(format_args!("copy {name}"))?;
        }
    }
    let version = toolchain
        .verbose_version(paths)
        .ok_or_else(|| Failure("rustc does not answer".to_owned()))?;
    paths::write(&built.join(STAMP), version)?;
    Ok(built)
}

/// Replaces the compiler's libraries for the target by those in `built`.
fn put_into_place(paths: &Paths, built: &Path, toolchain: &Toolchain) -> Result<()> {
    let to = toolchain
        .target_libraries(paths)
        .ok_or_else(|| Failure("rustc does not say where its libraries are".to_owned()))?;
    let (from, to) = (built.display(), to.display());
    // Copied beside and renamed, so that no one ever sees half of it.
    let script = format!(
        "mkdir -p {to} && rm -rf {to}.new {to}.old && cp -r {from} {to}.new && \
         mv {to} {to}.old && mv {to}.new {to} && rm -rf {to}.old"
    );
    let parent = Path::new("/usr/lib/rustlib");
    if debian::is_writable(parent) {
        let job = crate::job::Job::new(paths, "copy the standard library", "sh");
        job.args(["-ec", &script]).success()?;
        return Ok(());
    }
    debian::script(
        paths,
        "copying the standard library into the compiler's folder",
        &script,
    )
}
