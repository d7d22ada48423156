//! `bench`: builds, then runs `bench/bench.mjs`, which measures landfall beside other libraries.

use std::process::ExitCode;

use crate::browsers::CHROMIUM;
use crate::job::Job;
use crate::paths::Paths;
use crate::setup::{self, Needs};
use crate::{Result, build, npm, say};

/// The longest that all of the benchmarks may take.
const LIMIT_S: u64 = 4 * 3_600;

/// The command; all its arguments are the script's.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let ready = setup::run(paths, Needs::pages())?;
    let folder = paths.root.join("bench");
    npm::install(paths, &folder)?;
    build::all(
        paths,
        &ready,
        build::Options {
            dev: false,
            demo: false,
            shown: true,
        },
    )?;
    say::stage("benchmarks");
    let mut job = Job::new(paths, "bench", "node")
        .within(&folder)
        .arg("bench.mjs")
        .args(args);
    if !args.iter().any(|arg| arg.starts_with("--chromium")) {
        job = job.arg("--chromium").arg(CHROMIUM.get()?);
    }
    let ended = job.limit_s(LIMIT_S).shown(true).run()?;
    if ended.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    say::error(&format!("the benchmark {}", ended.how()));
    Ok(ExitCode::FAILURE)
}
