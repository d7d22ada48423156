//! `load`: a bounded load on the server over each of its databases, and the same work on Kinto. The
//! client is `server/examples/load.rs`; all that is started here is gone afterwards.
//!
//! Both databases write to the disk at each commit. The throw-away PostgreSQL does not by itself; it
//! is told to here, since the figures would mean nothing otherwise.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use throwaway_postgres::Cluster;

use crate::job::{Job, Running};
use crate::paths::{self, Paths};
use crate::toolchain::Toolchain;
use crate::{Doing, Failure, Result, demo, fail, say};

/// Cargo's profile, and the folder below the target folder where the programs then are.
const PROFILE: &str = "server";
/// What is measured beside ours, in the version that was tried.
const KINTO: &str = "kinto[postgresql]==26.5.0";
/// The longest that a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The longest load that may be asked for.
const SECONDS_MAX: u64 = 120;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    clients: u64,
    seconds: u64,
    only: Vec<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Sqlite,
    Postgres,
    KintoMemory,
    KintoPostgres,
}

impl Target {
    const ALL: [Self; 4] = [
        Self::Sqlite,
        Self::Postgres,
        Self::KintoMemory,
        Self::KintoPostgres,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::KintoMemory => "kinto-memory",
            Self::KintoPostgres => "kinto-postgres",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Sqlite => "landfall, SQLite in a file, synced at each commit",
            Self::Postgres => "landfall, PostgreSQL, fsync on",
            Self::KintoMemory => "Kinto, in memory",
            Self::KintoPostgres => "Kinto, PostgreSQL, fsync on",
        }
    }

    fn is_kinto(self) -> bool {
        matches!(self, Self::KintoMemory | Self::KintoPostgres)
    }
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let options = parse(args)?;
    build(paths)?;
    let folder = paths.own("load");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).doing("make the folder for the load")?;
    let mut rows = Vec::new();
    for target in &options.only {
        say::stage(target.title());
        rows.push(row(*target, &measure(paths, &folder, *target, &options)?));
    }
    let _ = fs::remove_dir_all(&folder);
    println!("\n{}", table(&options, &rows));
    Ok(ExitCode::SUCCESS)
}

fn build(paths: &Paths) -> Result<()> {
    say::stage("server and load client");
    let job = Toolchain::Active.cargo(paths, "cargo build load");
    job.args(["build", "--profile", PROFILE, "-p", "landfall-server"])
        .args(["--bin", "landfall-server", "--example", "load"])
        .env("CARGO_TARGET_DIR", &paths.target)
        .limit_s(1_800)
        .success()?;
    Ok(())
}

/// Starts one server, loads it, and ends it.
fn measure(paths: &Paths, folder: &Path, target: Target, options: &Options) -> Result<Value> {
    // Ends after the server that uses it: later variables are dropped first.
    let cluster = match target {
        Target::Postgres | Target::KintoPostgres => Some(cluster()?),
        Target::Sqlite | Target::KintoMemory => None,
    };
    let (running, url) = if target.is_kinto() {
        kinto(paths, folder, cluster.as_ref())?
    } else {
        landfall(paths, folder, cluster.as_ref())?
    };
    let client = paths.target.join(PROFILE).join("examples/load");
    let kind = if target.is_kinto() {
        "kinto"
    } else {
        "landfall"
    };
    let ended = Job::new(paths, "load", client)
        .args(["--url", &url, "--kind", kind])
        .args(["--clients", &options.clients.to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--pid", &running.id().to_string()])
        .limit_s(options.seconds + 120)
        .success()?;
    drop(running);
    let told = ended.output.lines().last().unwrap_or_default();
    say::note(told);
    serde_json::from_str(told).doing("read what the client has measured")
}

/// A PostgreSQL that loses nothing of what it has committed, as one in use would not.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start().map_err(Failure)?;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        cluster.admin(&format!("ALTER SYSTEM SET {setting} = on"));
    }
    cluster.restart();
    Ok(cluster)
}

fn landfall(paths: &Paths, folder: &Path, cluster: Option<&Cluster>) -> Result<(Running, String)> {
    let server = paths.target.join(PROFILE).join("landfall-server");
    let job = Job::new(paths, "landfall-server", server).args([
        "--listen",
        "127.0.0.1:0",
        "--demo",
        // What it can do is asked, not what one user may.
        "--user-rate",
        "0",
        "--log",
        "warn",
    ]);
    let job = match cluster {
        Some(cluster) => job.env("LANDFALL_DATABASE_URL", cluster.database().url),
        None => job.arg("--db").arg(folder.join("landfall.sqlite")),
    };
    let mut running = job.start()?;
    let started = Instant::now();
    loop {
        running.read(false);
        if let Some(url) = demo::listening(&running.output) {
            let url = url.to_owned();
            return Ok((running, url));
        }
        wait(&mut running, started)?;
    }
}

/// Installs Kinto where it is missing, and starts it.
fn kinto(paths: &Paths, folder: &Path, cluster: Option<&Cluster>) -> Result<(Running, String)> {
    let program = install(paths)?;
    let port = free_port()?;
    let ini = folder.join("kinto.ini");
    let database = cluster.map(|cluster| {
        let (name, folder) = (cluster.database().name, cluster.folder().display());
        format!(
            "postgresql://{}@/{name}?host={folder}",
            throwaway_postgres::ROLE
        )
    });
    paths::write(&ini, settings(port, database.as_deref()))?;
    if database.is_some() {
        let migrate = Job::new(paths, "kinto migrate", &program).arg("migrate");
        migrate.arg("--ini").arg(&ini).limit_s(60).success()?;
    }
    let mut running = Job::new(paths, "kinto", &program)
        .args(["start", "--ini"])
        .arg(&ini)
        .start()?;
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        running.read(false);
        wait(&mut running, started)?;
    }
    Ok((running, format!("http://127.0.0.1:{port}")))
}

fn install(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.cache.join("kinto");
    let program = folder.join("bin/kinto");
    if !paths::is_executable(&program) {
        say::note("installing Kinto into a folder of its own");
        let make = Job::new(paths, "python3 venv", "python3").args(["-m", "venv"]);
        make.arg(&folder).success()?;
        let pip = Job::new(paths, "pip install kinto", folder.join("bin/pip"));
        pip.args(["install", "--quiet", KINTO]).success()?;
    }
    Ok(program)
}

/// Kinto as its manual sets it up, without its pages for people. Eight threads, as many as there
/// are clients by default; its log only tells of faults.
fn settings(port: u16, database: Option<&str>) -> String {
    let mut text = format!(
        "[server:main]\nuse = egg:waitress#main\nhost = 127.0.0.1\nport = {port}\nthreads = 8\n\n\
         [app:main]\nuse = egg:kinto\nkinto.userid_hmac_secret = for-a-load-only\n\
         multiauth.policies = basicauth\nkinto.bucket_create_principals = system.Authenticated\n"
    );
    for part in ["storage", "cache", "permission"] {
        let (kind, url) = match database {
            Some(url) => ("postgresql", format!("kinto.{part}_url = {url}\n")),
            None => ("memory", String::new()),
        };
        text += &format!("kinto.{part}_backend = kinto.core.{part}.{kind}\n{url}");
    }
    text + "\n[loggers]\nkeys = root\n[handlers]\nkeys = console\n[formatters]\nkeys = plain\n\
            [logger_root]\nlevel = ERROR\nhandlers = console\n\
            [handler_console]\nclass = StreamHandler\nargs = (sys.stderr,)\nformatter = plain\n\
            [formatter_plain]\nformat = %(message)s\n"
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing("find a free port")?;
    Ok(listener.local_addr().doing("find a free port")?.port())
}

fn wait(running: &mut Running, started: Instant) -> Result<()> {
    if let Some(status) = running.ended()? {
        running.read(false);
        return fail(format!("the server ended: {status}\n{}", running.output));
    }
    if started.elapsed() > START_LIMIT {
        return fail(format!("the server does not start\n{}", running.output));
    }
    sleep(Duration::from_millis(25));
    Ok(())
}

fn row(target: Target, told: &Value) -> String {
    let number = |name: &str| told[name].as_f64().unwrap_or_default();
    let rate = say::thousands(told["mutationsPerSecond"].as_f64().unwrap_or_default() as u64);
    format!(
        "| {} | {rate} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} ms | {:.0} MB |",
        target.title(),
        number("pushP50Ms"),
        number("pushP99Ms"),
        number("pullP50Ms"),
        number("pullP99Ms"),
        number("cpuMsPerThousand"),
        number("peakMb"),
    )
}

fn table(options: &Options, rows: &[String]) -> String {
    let (clients, seconds) = (options.clients, options.seconds);
    format!(
        "{clients} clients, {seconds} s each:\n\n\
         | server | mutations/s | push of 100, p50 / p99 ms | pull of 100, p50 / p99 ms | CPU for 1,000 | memory |\n\
         |---|---|---|---|---|---|\n{}\n",
        rows.join("\n")
    )
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        clients: 8,
        seconds: 10,
        only: Target::ALL.to_vec(),
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().map(String::as_str).unwrap_or_default();
        let number = || {
            let number = value
                .parse()
                .doing(format_args!("read the number after {name}"));
            number.and_then(|number| match number {
                1..=SECONDS_MAX => Ok(number),
                _ => fail(format!("{name} is from 1 to {SECONDS_MAX}")),
            })
        };
        match name.as_str() {
            "--clients" => options.clients = number()?,
            "--seconds" => options.seconds = number()?,
            "--only" => options.only = targets(value)?,
            other => return fail(format!("load knows no `{other}`")),
        }
    }
    Ok(options)
}

fn targets(names: &str) -> Result<Vec<Target>> {
    let find = |name: &str| {
        let found = Target::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| Failure(format!("load knows no server `{name}`")))
    };
    names.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words)
    }

    #[test]
    fn reads_its_arguments() {
        assert_eq!(parsed(&[]).map(|options| options.only.len()), Ok(4));
        let options = parsed(&["--clients", "2", "--only", "postgres,sqlite"]).expect("options");
        assert_eq!(options.clients, 2);
        assert_eq!(options.only, [Target::Postgres, Target::Sqlite]);
        for wrong in [
            &["--clients", "0"],
            &["--seconds", "999"],
            &["--only", "x"],
            &["--x", "1"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn kinto_has_one_database_or_none() {
        assert_eq!(settings(1, None).matches(".memory").count(), 3);
        let text = settings(1, Some("postgresql://x"));
        assert_eq!(text.matches("_url = postgresql://x\n").count(), 3);
    }
}
