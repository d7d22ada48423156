//! A PostgreSQL for tests: a cluster of its own in a temporary folder, reached by a socket in that
//! folder, made when the first test asks for it and gone when the process is.
//!
//! A process can end without a last word (a signal, an abort), and statics are never dropped. So
//! the cluster belongs to a second process, the *guardian* (`guardian.sh`), which waits at a pipe
//! that closes with this one, then stops the server and removes the folder. It is in a process
//! group of its own and inherits no environment, so that what ends a test run (Ctrl-C, a runner
//! that ends whatever carries its mark) does not end it half-way. Should it be killed all the same,
//! the next one finds what it left and clears it away.
//!
//! There is no test without a database: where PostgreSQL is missing, [`Cluster::shared`] panics and
//! says what to do.

mod program;
mod tls;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

pub use program::BIN_VARIABLE;
use program::Programs;

/// The folder of PostgreSQL's programs, or where was looked in vain.
pub fn programs() -> Result<PathBuf, String> {
    program::folder()
}

/// The role that owns the databases: no superuser, as on a well-kept server.
pub const ROLE: &str = "landfall";
/// Stands in every URL. The cluster asks for no password; tests look for this one in logs.
pub const PASSWORD: &str = "never-in-a-log";

/// The usual one.
const PORT: u16 = 5432;

/// What the guardian says once the server accepts connections.
const READY: &str = "ready";

static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A running PostgreSQL. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    folder: PathBuf,
    guardian: Child,
    /// Part of the socket's name, and where it listens if it does.
    port: AtomicU16,
}

impl Cluster {
    /// The one cluster of this process.
    ///
    /// # Panics
    /// Where there is no PostgreSQL, or it does not start.
    pub fn shared() -> &'static Self {
        match SHARED.get_or_init(Self::start) {
            Ok(cluster) => cluster,
            Err(why) => panic!("no PostgreSQL to test with: {why}"),
        }
    }

    /// A cluster of one's own, for tests that stop it.
    pub fn start() -> Result<Self, String> {
        let programs = Programs::find()?;
        let name = format!(
            "landfall-postgres-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        let mut guardian = Command::new("sh")
            .args(["-c", include_str!("guardian.sh"), "guardian"])
            .arg(&folder)
            .arg(programs.folder())
            .args(programs.prefix())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh does not start: {error}"))?;
        let said = guardian.stdout.take().map(first_line).unwrap_or_default();
        let cluster = Self {
            programs,
            folder,
            guardian,
            port: AtomicU16::new(PORT),
        };
        match said.strip_prefix(READY) {
            Some(_) => Ok(cluster),
            None => Err(format!("it does not start:\n{said}")),
        }
    }

    /// A new empty database.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn database(&self) -> Database {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.admin(&format!("CREATE DATABASE {name} OWNER {ROLE}"));
        let url = format!(
            "postgres://{ROLE}:{PASSWORD}@localhost/{name}?host={}",
            self.folder.display()
        );
        Database { name, url }
    }

    /// Runs a statement as the superuser.
    ///
    /// # Panics
    /// Where it fails.
    pub fn admin(&self, sql: &str) -> String {
        let output = Command::new(self.programs.folder().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", "postgres", "-d", "postgres", "-c", sql, "-p"])
            .arg(self.port.load(Ordering::Relaxed).to_string())
            .arg("-h")
            .arg(&self.folder)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            Ok(output) => panic!("{sql}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("psql does not start: {error}"),
        }
    }

    /// Stops the server in the middle of whatever it does and starts it again.
    ///
    /// # Panics
    /// Where it does not come back.
    pub fn restart(&self) {
        let mut words = self.programs.prefix().to_vec();
        words.push(self.programs.folder().join("pg_ctl").display().to_string());
        let status = Command::new(&words[0])
            .args(&words[1..])
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-m", "immediate", "-w", "-s", "-l"])
            .arg(self.folder.join("log"))
            .arg("restart")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "the cluster does not start again: {status:?}"
        );
    }

    /// Where its socket and files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The pipe closes; the guardian tidies up and ends.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

/// A database in a cluster. It goes when the cluster does.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Where a client finds it; with a password.
    pub url: String,
}

/// `ready`, or everything that the guardian says before it gives up.
fn first_line(stdout: ChildStdout) -> String {
    let mut reader = BufReader::new(stdout);
    let mut said = String::new();
    if reader.read_line(&mut said).is_ok() && !said.starts_with(READY) {
        let _ = reader.read_to_string(&mut said);
    }
    said
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
