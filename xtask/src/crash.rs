//! `crash`: kills a browser that writes, again and again, and checks what is left.
//!
//! The rounds themselves are in `tests/crash/crash.mjs`; here is what they need: the built package,
//! Chromium, and Dexie, which is compared with and comes with the benchmarks' packages.

use std::process::ExitCode;

use crate::browsers::CHROMIUM;
use crate::job::Job;
use crate::paths::Paths;
use crate::setup::{self, Needs};
use crate::{Result, bench, build, npm, say};

const SCRIPT: &str = "tests/crash/crash.mjs";

/// The longest that all rounds may take.
const LIMIT_S: u64 = 6 * 3_600;

/// The script's arguments that name a file or folder.
const FILES: &[&str] = &["--json", "--out", "--package", "--chromium"];

/// The command; all its arguments are the script's.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let ready = setup::run(paths, Needs::pages())?;
    npm::install(paths, &paths.root.join("bench"))?;
    build::all(
        paths,
        &ready,
        build::Options {
            dev: false,
            demo: false,
            shown: false,
        },
    )?;
    say::stage("killing browsers");
    let mut job = Job::new(paths, "crash", "node")
        .arg(SCRIPT)
        .args(bench::from_here(args, FILES));
    if !args.iter().any(|arg| arg.starts_with("--chromium")) {
        job = job.arg("--chromium").arg(CHROMIUM.get()?);
    }
    let ended = job.limit_s(LIMIT_S).shown(true).run()?;
    Ok(if ended.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A few rounds of landfall alone, on what has been built.
pub(crate) fn few(paths: &Paths, rounds: u32, wipe: bool) -> Result<Job> {
    let name = if wipe { "crash wiped" } else { "crash few" };
    let job = Job::new(paths, name, "node")
        .args([SCRIPT, "--stores", "landfall", "--verbose"])
        .args(["--rounds", &rounds.to_string()])
        .arg("--chromium")
        .arg(CHROMIUM.get()?);
    let job = if wipe { job.arg("--wipe") } else { job };
    Ok(job.limit_s(300))
}
