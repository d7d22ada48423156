//! `schemathesis`: holds a running server against its OpenAPI description.
//!
//! schemathesis reads `/openapi.json`, makes up requests, good and bad, and looks whether each answer
//! is described: its status, its headers, its body. It comes from PyPI, in one version, into a
//! virtual environment of its own in the cache.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::job::{Job, Running};
use crate::paths::{Paths, is_executable, on_path};
use crate::{Doing, Failure, Result, debian, demo, fail, say};

/// The version that is known to work.
const VERSION: &str = "4.32.5";

/// The longest that the server may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long requests are made up, if not told otherwise.
const SECONDS: u64 = 120;

const USAGE: &str = "usage: cargo xtask schemathesis [--seconds N] [--seed S]";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u64,
    seed: Option<u64>,
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let options = parse(args)?;
    let program = install(paths)?;
    demo::build_server(paths, false)?;
    let folder = paths.own("schemathesis");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).doing(format_args!("make {}", folder.display()))?;
    let mut server = Job::new(paths, "schemathesis server", demo::server(paths))
        .args(["--listen", "127.0.0.1:0", "--demo", "--log", "warn", "--db"])
        .arg(folder.join("db"))
        // What is asked here is what the server answers, not how often.
        .args(["--user-rate", "0", "--peer-rate", "0"])
        .start()?;
    let url = address(&mut server)?;
    say::stage("making up requests");
    let mut job = Job::new(paths, "schemathesis", program)
        .within(&folder)
        .arg("--config-file")
        .arg(paths.root.join("server/schemathesis.toml"))
        .arg("run")
        .arg(format!("{url}/openapi.json"))
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", token(paths, &url)?))
        .args(["--max-time", &options.seconds.to_string()])
        .args(["--continue-on-failure", "--no-color"])
        // Streams last until their client goes; bodies are cut short on purpose.
        .args(["--exclude-path", "/api/v1/sync/stream"])
        .args(["--request-timeout", "20"]);
    if let Some(seed) = options.seed {
        job = job.args(["--seed", &seed.to_string()]);
    }
    let ended = job.limit_s(options.seconds + 600).shown(true).run()?;
    server.read(false);
    let failed: Vec<_> = server
        .output
        .lines()
        .filter(|line| line.contains("ERROR"))
        .collect();
    if let Some(line) = failed.first() {
        say::error(&format!("the server logged an error: {line}"));
    }
    Ok(if ended.is_success() && failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        seconds: SECONDS,
        seed: None,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let number = args.next().and_then(|n| n.parse().ok());
        match (flag.as_str(), number) {
            ("--seconds", Some(seconds)) => options.seconds = seconds,
            ("--seed", Some(seed)) => options.seed = Some(seed),
            _ => return fail(USAGE),
        }
    }
    Ok(options)
}

/// Sees that schemathesis is there, and answers where.
fn install(paths: &Paths) -> Result<PathBuf> {
    let home = paths.cache.join(format!("schemathesis-{VERSION}"));
    let program = home.join("bin/schemathesis");
    if is_executable(&program) {
        return Ok(program);
    }
    say::stage(&format!("schemathesis {VERSION} (once)"));
    let python = match on_path(&["python3"]) {
        Some(python) => python,
        None => {
            debian::install(paths, &["python3", "python3-venv"])?;
            PathBuf::from("python3")
        }
    };
    let make = || {
        Job::new(paths, "python3 venv", &python)
            .args(["-m", "venv", "--clear"])
            .arg(&home)
    };
    if !make().run()?.is_success() {
        // Debian keeps a part of the module in a package of its own.
        debian::install(paths, &["python3-venv"])?;
        make().success()?;
    }
    Job::new(paths, "pip install", home.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("schemathesis=={VERSION}"))
        .success()?;
    Ok(program)
}

/// The server's address, from its first line.
fn address(server: &mut Running) -> Result<String> {
    let started = Instant::now();
    loop {
        server.read(false);
        let line = server
            .output
            .lines()
            .find_map(|line| line.strip_prefix("listening on "));
        if let Some(url) = line {
            return Ok(url.to_owned());
        }
        if server.ended()?.is_some() || started.elapsed() > START_LIMIT {
            return fail(format!("the server does not start\n{}", server.output));
        }
        sleep(Duration::from_millis(25));
    }
}

/// A token from the demo's endpoint, by the Python that is there anyhow.
fn token(paths: &Paths, url: &str) -> Result<String> {
    let python = paths
        .cache
        .join(format!("schemathesis-{VERSION}/bin/python"));
    let script = "import json,sys,urllib.request as r\n\
                  ask=r.Request(sys.argv[1],data=b'{\"user\":\"schemathesis\"}')\n\
                  print(json.load(r.urlopen(ask))['token'])";
    Job::new(paths, "token", python)
        .args(["-c", script])
        .arg(format!("{url}/demo/token"))
        .answer()
        .ok_or_else(|| Failure("the server gives no token".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Options, SECONDS, parse};

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_are_numbers() {
        let usual = Options {
            seconds: SECONDS,
            seed: None,
        };
        assert_eq!(parse(&[]).unwrap(), usual);
        let given = Options {
            seconds: 5,
            seed: Some(7),
        };
        assert_eq!(parse(&args("--seconds 5 --seed 7")).unwrap(), given);
        for wrong in ["--seconds", "--seed x", "7"] {
            assert!(parse(&args(wrong)).is_err(), "{wrong}");
        }
    }
}
