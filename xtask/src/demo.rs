//! `demo`: builds all of it and serves it, for people to try; `--check` has a browser try it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::browsers::CHROMIUM;
use crate::build;
use crate::job::{Ended, Job};
use crate::paths::{Paths, on_path};
use crate::setup::{self, Needs};
use crate::toolchain::Toolchain;
use crate::{Doing, Result, fail, say, sites};

/// A fixed port, for the browser keeps a device's data by the address it was loaded from.
const PORT: u16 = 8787;
/// How many sites the demo has, if not told otherwise.
const SITES: usize = 20_000;
/// The longest that a check in the browser may take.
const CHECK_LIMIT_S: u64 = 180;
/// The longest that the server may take to start, with its seed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Cargo's profile for the server, and the folder below the target folder where it then is.
const SERVER_PROFILE: &str = "demo";
/// The first line that the server prints.
const LISTENING: &str = "listening on ";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    check: bool,
    port: u16,
    sites: usize,
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let options = parse(args)?;
    if !options.check {
        // Better told now than after the build.
        is_free(options.port)?;
    }
    let needs = if options.check {
        Needs::pages()
    } else {
        Needs::build()
    };
    let ready = setup::run(paths, needs)?;
    build::all(
        paths,
        &ready,
        build::Options {
            dev: false,
            demo: true,
            shown: true,
        },
    )?;
    build_server(paths, true)?;
    let server = server(paths);
    let seed = sites::seed_file(paths, options.sites)?;
    if options.check {
        say::stage("checking the demo in a browser");
        let ended = check(paths, "tests/e2e/check.mjs", &server, &seed)?.limit_s(CHECK_LIMIT_S);
        let ended = ended.shown(true).run()?;
        return Ok(report(&ended));
    }
    serve(paths, &server, &seed, options)
}

/// Builds the server, by its own profile: the release profile is made for wasm.
pub(crate) fn build_server(paths: &Paths, shown: bool) -> Result<()> {
    say::stage("the demo's server");
    let job = Toolchain::Active.cargo(paths, "cargo build server");
    job.args([
        "build",
        "--profile",
        SERVER_PROFILE,
        "-p",
        "landfall-server",
    ])
    .env("CARGO_TARGET_DIR", &paths.target)
    .limit_s(1_200)
    .shown(shown)
    .success()?;
    Ok(())
}

/// Where the server is, once it is built.
pub(crate) fn server(paths: &Paths) -> PathBuf {
    paths.target.join(SERVER_PROFILE).join("landfall-server")
}

/// A job that runs one of the scripts that start the server and drive the pages by themselves.
pub(crate) fn check(paths: &Paths, script: &str, server: &Path, seed: &Path) -> Result<Job> {
    if !paths.root.join(script).is_file() {
        return fail(format!("{script} is not there"));
    }
    Ok(Job::new(paths, script, "node")
        .arg(script)
        .arg("--server")
        .arg(server)
        .arg("--static")
        .arg(paths.root.join("www/dist"))
        .arg("--seed")
        .arg(seed)
        .arg("--chromium")
        .arg(CHROMIUM.get()?))
}

/// The seed file of the usual size.
pub(crate) fn usual_seed(paths: &Paths) -> Result<PathBuf> {
    sites::seed_file(paths, SITES)
}

fn report(ended: &Ended) -> ExitCode {
    if ended.is_success() {
        say::note(&format!("the demo works ({})", say::seconds(ended.took)));
        return ExitCode::SUCCESS;
    }
    say::error(&format!("the check {}", ended.how()));
    ExitCode::FAILURE
}

fn serve(paths: &Paths, server: &Path, seed: &Path, options: Options) -> Result<ExitCode> {
    let database = paths
        .target
        .join(format!("demo/demo-{}.sqlite", options.sites));
    say::stage("starting the demo");
    let mut running = Job::new(paths, "landfall-server", server)
        .args([
            "--listen",
            &format!("127.0.0.1:{}", options.port),
            "--demo",
            "--db",
        ])
        .arg(&database)
        .arg("--seed")
        .arg(seed)
        .args(["--seed-type", "sites", "--seed-user", "demo", "--static"])
        .arg(paths.root.join("www/dist"))
        .start()?;
    let started = Instant::now();
    let url = loop {
        running.read(false);
        if let Some(url) = listening(&running.output) {
            break url.to_owned();
        }
        if let Some(status) = running.ended()? {
            running.read(false);
            return fail(format!("the server ended: {status}\n{}", running.output));
        }
        if started.elapsed() > START_LIMIT {
            return fail(format!("the server does not start\n{}", running.output));
        }
        sleep(Duration::from_millis(25));
    };
    println!("\n    The demo is at {}", say::paint("1;32", &url));
    println!("    Open it in two tabs, take one offline, and edit. Ctrl-C ends it.\n");
    open(paths, &url);
    loop {
        // Ctrl-C ends us, and the reaper then ends the server.
        running.read(true);
        if let Some(status) = running.ended()? {
            running.read(true);
            return fail(format!("the server ended: {status}"));
        }
        sleep(Duration::from_millis(100));
    }
}

/// Shows the page where there is a screen.
fn open(paths: &Paths, url: &str) {
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if screen && on_path(&["xdg-open"]).is_some() {
        let _ = Job::new(paths, "xdg-open", "xdg-open")
            .arg(url)
            .limit_s(10)
            .run();
    }
}

/// The address in the server's first line, once that is there.
pub(crate) fn listening(output: &str) -> Option<&str> {
    let complete = &output[..output.rfind('\n')?];
    complete
        .lines()
        .find_map(|line| line.strip_prefix(LISTENING))
        .map(str::trim)
}

fn is_free(port: u16) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(_) => fail(format!(
            "port {port} is taken; try `cargo xtask demo --port N`"
        )),
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        check: false,
        port: PORT,
        sites: SITES,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, mut value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        let mut number = || {
            let text = value
                .take()
                .or_else(|| args.next().map(String::as_str))
                .unwrap_or_default();
            text.parse::<u32>()
                .doing(format_args!("read the number after {name}"))
        };
        match name {
            "--check" => options.check = true,
            "--port" => options.port = u16::try_from(number()?).doing("use that port")?,
            "--sites" => options.sites = usize::try_from(number()?).doing("make so many sites")?,
            other => return fail(format!("demo knows no `{other}`")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        parse(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn reads_its_arguments() {
        let usual = Options {
            check: false,
            port: PORT,
            sites: SITES,
        };
        assert_eq!(parsed(&[]), Ok(usual));
        let all = Options {
            check: true,
            port: 9000,
            sites: 500,
        };
        assert_eq!(
            parsed(&["--check", "--port", "9000", "--sites=500"]),
            Ok(all)
        );
        assert!(parsed(&["--port"]).is_err());
        assert!(parsed(&["--port", "70000"]).is_err());
        assert!(parsed(&["--prot", "1"]).is_err());
    }

    #[test]
    fn waits_for_a_whole_line() {
        assert_eq!(listening("listening on http://127.0.0.1:8"), None);
        assert_eq!(
            listening("x\nlistening on http://127.0.0.1:87\n"),
            Some("http://127.0.0.1:87")
        );
    }
}
