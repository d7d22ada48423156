//! `soak`: tabs and devices that write for minutes without a rest, on the real server, and what they
//! have in the end. The script is `tests/e2e/soak.mjs`.

use std::process::ExitCode;

use crate::job::Job;
use crate::paths::Paths;
use crate::setup::{self, Needs};
use crate::{Result, build, demo, fail, say};

/// The longest that it may take beyond the minutes that were asked for.
const REST_S: f64 = 300.0;

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let minutes = parse(args)?;
    let ready = setup::run(paths, Needs::pages())?;
    let demo = build::Options {
        dev: false,
        demo: true,
        shown: false,
    };
    build::all(paths, &ready, demo)?;
    demo::build_server(paths, false)?;
    say::stage("writing without a rest");
    let ended = job(paths, minutes)?.shown(true).run()?;
    Ok(if ended.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// It goes on for so many minutes, on what has been built.
pub(crate) fn job(paths: &Paths, minutes: f64) -> Result<Job> {
    let (server, seed) = (demo::server(paths), demo::usual_seed(paths)?);
    let job = demo::check(paths, "tests/e2e/soak.mjs", &server, &seed)?;
    let job = job.args(["--minutes", &minutes.to_string()]);
    Ok(job.limit_s((minutes * 60.0 + REST_S) as u64))
}

fn parse(args: &[String]) -> Result<f64> {
    let minutes = match args {
        [] => Some(10.0),
        [flag, minutes] if flag == "--minutes" => minutes.parse().ok(),
        _ => None,
    };
    match minutes {
        Some(minutes) if minutes > 0.0 && minutes <= 1_440.0 => Ok(minutes),
        _ => fail("soak takes --minutes and a number up to 1440"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_minutes_and_nothing_else() {
        let minutes = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            parse(&args).ok()
        };
        assert_eq!(minutes(&[]), Some(10.0));
        assert_eq!(minutes(&["--minutes", "0.5"]), Some(0.5));
        assert_eq!(minutes(&["--minutes", "0"]), None);
        assert_eq!(minutes(&["--minutes", "NaN"]), None);
        assert_eq!(minutes(&["--hours", "1"]), None);
    }
}
