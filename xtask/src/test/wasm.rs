//! The steps that need the wasm target: its own warnings, and the tests that run in browsers.

use std::fs;

use crate::browsers::CHROMEDRIVER;
use crate::job::Job;
use crate::paths::Paths;
use crate::toolchain::TARGET;
use crate::{Result, fail, tools};

use super::Context;
use super::counts::Counts;
use super::steps::{Outcome, check, counted};

pub(super) fn clippy_wasm(context: &Context) -> Result<Outcome> {
    let toolchain = &context.ready.toolchain;
    let job = toolchain
        .cargo(&context.paths, "cargo clippy wasm")
        .args([
            "clippy",
            "--target",
            TARGET,
            "-p",
            "landfall",
            "--all-targets",
        ])
        .args(["--", "-D", "warnings"])
        .env("CARGO_TARGET_DIR", context.paths.wasm_target())
        .limit_s(1_200);
    Ok(check(&job.run()?))
}

pub(super) fn chrome(context: &Context) -> Result<Outcome> {
    let driver = CHROMEDRIVER.get()?;
    let job = wasm_pack(context, "chrome")?
        .arg("--chromedriver")
        .arg(driver);
    in_browser(context, job)
}

pub(super) fn firefox(context: &Context) -> Result<Outcome> {
    let driver = tools::geckodriver().install(&context.paths)?;
    let job = wasm_pack(context, "firefox")?
        .arg("--geckodriver")
        .arg(driver);
    in_browser(context, job)
}

fn wasm_pack(context: &Context, browser: &str) -> Result<Job> {
    let paths = &context.paths;
    let program = tools::wasm_pack().install(paths)?;
    let job = Job::new(paths, &format!("wasm-pack test {browser}"), program)
        .args([
            "test",
            "--headless",
            &format!("--{browser}"),
            "--mode",
            "no-install",
        ])
        .env("CARGO_TARGET_DIR", paths.wasm_target())
        // Seconds for all tests of one file; the default of 20 is too short for a busy machine.
        .env("WASM_BINDGEN_TEST_TIMEOUT", "180");
    Ok(context.ready.toolchain.apply(paths, job))
}

fn in_browser(context: &Context, job: Job) -> Result<Outcome> {
    let names = browser_tests(&context.paths);
    if names.is_empty() {
        return fail("there are no tests/web*.rs");
    }
    let job = names.iter().fold(job.args(["--", "--lib"]), |job, name| {
        job.args(["--test", name])
    });
    let ended = job.limit_s(1_200).run()?;
    Ok(counted(&ended, Counts::of_cargo(&ended.output)))
}

/// The test files that run in browsers, without `.rs`.
fn browser_tests(paths: &Paths) -> Vec<String> {
    let entries = fs::read_dir(paths.root.join("tests"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .filter(|name| name.starts_with("web"))
        .collect();
    names.sort();
    names
}
