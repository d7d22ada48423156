//! `bench`: builds, then runs `bench/bench.mjs`, which measures landfall beside other libraries, or
//! with `--scale` `bench/scale.mjs`, which measures it against the number of records.

use std::process::ExitCode;

use crate::browsers::CHROMIUM;
use crate::job::Job;
use crate::paths::Paths;
use crate::setup::{self, Needs};
use crate::{Result, build, npm, say};

/// The longest that all of the benchmarks may take.
const LIMIT_S: u64 = 4 * 3_600;

/// The script's arguments that name a file.
const FILES: &[&str] = &["--json", "--out", "--svg", "--chromium"];

/// The command; all its arguments but `--scale` are the script's.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let (script, args) = script(args);
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
        .arg(script)
        .args(from_here(&args, FILES));
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

/// The script that is meant, and its arguments.
fn script(args: &[String]) -> (&'static str, Vec<String>) {
    let rest: Vec<String> = args.iter().filter(|a| *a != "--scale").cloned().collect();
    let is_scale = rest.len() < args.len();
    (if is_scale { "scale.mjs" } else { "bench.mjs" }, rest)
}

/// The arguments, with the files that they name (each after one of the flags `files`) told from the
/// folder in which we were called, for the script runs in another.
pub(crate) fn from_here(args: &[String], files: &[&str]) -> Vec<String> {
    let absolute = |path: &str| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        path.display().to_string()
    };
    let mut before = "";
    let mut out = Vec::new();
    for arg in args {
        let named = files
            .iter()
            .find_map(|name| arg.strip_prefix(name)?.strip_prefix('='));
        out.push(match named {
            _ if files.contains(&before) => absolute(arg),
            Some(path) => format!("{}{}", &arg[..arg.len() - path.len()], absolute(path)),
            None => arg.clone(),
        });
        before = arg;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_another_script() {
        let args = ["--reps", "3", "--scale"].map(str::to_owned);
        assert_eq!(script(&args), ("scale.mjs", args[..2].to_vec()));
        assert_eq!(script(&args[..2]), ("bench.mjs", args[..2].to_vec()));
    }

    #[test]
    fn files_are_told_from_here() {
        let args = ["--reps", "5", "--json", "a.json", "--out=/b"].map(str::to_owned);
        let told = from_here(&args, FILES);
        assert!(told[3].starts_with('/') && told[3].ends_with("/a.json"));
        assert_eq!(told[..3], args[..3]);
        assert_eq!(told[4], args[4]);
    }
}
