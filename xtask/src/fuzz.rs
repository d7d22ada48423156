//! `fuzz`: feeds what the server reads from the network with whatever libFuzzer comes up with.
//!
//! The targets are in `server/fuzz`, which needs a nightly compiler and cargo-fuzz. The server is safe
//! Rust, so no sanitizer is built in: what is looked for are panics, overflows and broken promises, and
//! without one there are several times as many runs.

use std::fs;
use std::process::ExitCode;

use crate::job::Job;
use crate::paths::Paths;
use crate::tools::Tool;
use crate::{Doing, Result, fail, say};

/// The targets, and how many parts of the time each gets.
const TARGETS: [(&str, u64); 2] = [("batch", 4), ("checkpoint", 1)];

/// How long all targets run, if not told otherwise.
const MINUTES: u64 = 10;

const USAGE: &str = "usage: cargo xtask fuzz [--minutes N]";

fn cargo_fuzz() -> Tool {
    Tool {
        package: "cargo-fuzz",
        programs: &["cargo-fuzz"],
        version: "0.13.2".to_owned(),
    }
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let minutes = match args {
        [] => MINUTES,
        [flag, minutes] if flag == "--minutes" => match minutes.parse() {
            Ok(minutes @ 1..) => minutes,
            _ => return fail(USAGE),
        },
        _ => return fail(USAGE),
    };
    let nightly = Job::new(paths, "version", "cargo").args(["+nightly", "--version"]);
    if nightly.answer().is_none() {
        return fail("fuzzing needs a nightly compiler: rustup toolchain install nightly");
    }
    let cargo_fuzz = cargo_fuzz().install(paths)?;
    let job = |name: &str| {
        Job::new(paths, name, &cargo_fuzz)
            .within(paths.root.join("server"))
            .env("RUSTUP_TOOLCHAIN", "nightly")
            .env("CARGO_TARGET_DIR", paths.target.join("fuzz"))
    };
    say::stage("the fuzz targets");
    let build = ["fuzz", "build", "--sanitizer", "none"];
    job("fuzz build").args(build).limit_s(3_600).success()?;
    let parts: u64 = TARGETS.iter().map(|(_, parts)| parts).sum();
    for (target, part) in TARGETS {
        let seconds = minutes * 60 * part / parts;
        say::stage(&format!("{target}, {seconds} s"));
        let corpus = paths.own("fuzz").join(target);
        fs::create_dir_all(&corpus).doing(format_args!("make {}", corpus.display()))?;
        let seeds = paths.root.join("server/fuzz/seeds").join(target);
        let ended = job(&format!("fuzz {target}"))
            .args(["fuzz", "run", "--sanitizer", "none", target])
            .arg(&corpus)
            .arg(seeds)
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .args(["-max_len=16384", "-timeout=10", "-rss_limit_mb=4096"])
            .args(["-print_final_stats=1", "-dict=fuzz/batch.dict"])
            .limit_s(seconds + 600)
            .run()?;
        for line in ended
            .output
            .lines()
            .filter(|line| line.starts_with("stat::"))
        {
            say::note(line);
        }
        if !ended.is_success() {
            say::error(&say::tail(&ended.output, 40));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn the_targets_are_those_of_the_crate() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest = std::fs::read_to_string(root.join("server/fuzz/Cargo.toml")).unwrap();
        let declared = manifest.matches("[[bin]]").count();
        assert_eq!(declared, TARGETS.len());
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")));
            assert!(root.join("server/fuzz/seeds").join(target).is_dir());
        }
    }
}
