//! `sim`: the simulation, thousands of stories on all threads.
//!
//! The stories are in `tests/simulation`; here they are built for speed and told how many, which, or
//! that the planted bugs are to be found.

use std::process::ExitCode;

use crate::job::Job;
use crate::paths::Paths;
use crate::toolchain::Toolchain;
use crate::{Result, fail, say};

/// The longest that all stories may take.
const LIMIT_S: u64 = 6 * 3_600;

/// Stories in a run of all tests.
const USUAL: u64 = 2_000;

const USAGE: &str = "usage: cargo xtask sim [--seeds N] [--first N] [--seed S] [--planted]";

/// What is asked for, as the stories' program reads it.
fn wishes(args: &[String]) -> Result<Vec<(&'static str, String)>> {
    let mut wishes = Vec::new();
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let name = match flag.as_str() {
            "--planted" => {
                wishes.push(("LANDFALL_SIM_PLANTED", "1".to_owned()));
                continue;
            }
            "--seeds" => "LANDFALL_SIM_SEEDS",
            "--first" => "LANDFALL_SIM_FIRST",
            "--seed" => "LANDFALL_SIM_SEED",
            _ => return fail(USAGE),
        };
        let number: Option<u64> = args.next().and_then(|n| n.parse().ok());
        match number {
            Some(number) => wishes.push((name, number.to_string())),
            None => return fail(USAGE),
        }
    }
    Ok(wishes)
}

fn job(paths: &Paths, chosen: &[&str]) -> Job {
    Toolchain::Active
        .cargo(paths, "simulation")
        .args(["test", "--quiet", "--profile", "sim", "-p", "landfall"])
        .args(["--features", "planted", "--test", "simulation", "--"])
        .args(chosen)
        .arg("--nocapture")
        .env("CARGO_TARGET_DIR", &paths.target)
        .limit_s(LIMIT_S)
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let wishes = wishes(args)?;
    say::stage("simulating");
    let mut job = job(paths, &["--ignored", "--exact", "command"]).shown(true);
    for (name, value) in wishes {
        job = job.env(name, value);
    }
    Ok(if job.run()?.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The step of `test`: the usual number of stories, and that the planted bugs are found.
pub(crate) fn usual(paths: &Paths) -> [Job; 2] {
    let all = || job(paths, &["--ignored", "--exact", "command"]);
    [
        all().env("LANDFALL_SIM_SEEDS", USUAL.to_string()),
        all().env("LANDFALL_SIM_PLANTED", "1"),
    ]
}

#[cfg(test)]
mod tests {
    use super::wishes;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_are_numbers() {
        let found = wishes(&args("--seeds 5000 --planted")).unwrap();
        assert_eq!(found[0], ("LANDFALL_SIM_SEEDS", "5000".to_owned()));
        assert_eq!(found[1].0, "LANDFALL_SIM_PLANTED");
        for wrong in ["--seed", "--seed x", "--steps 3", "7"] {
            assert!(wishes(&args(wrong)).is_err(), "{wrong}");
        }
    }
}
