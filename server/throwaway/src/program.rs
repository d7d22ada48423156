//! Where PostgreSQL's programs are, and as whom they run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the folder of `initdb`, `pg_ctl` and `psql` where they are in no usual place.
pub const BIN_VARIABLE: &str = "LANDFALL_POSTGRES_BIN";

/// Debian keeps each version in a folder below this one, and off `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What is run.
const PROGRAMS: &[&str] = &["initdb", "pg_ctl", "postgres", "psql"];

/// The programs of one PostgreSQL.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    prefix: Vec<String>,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, String> {
        Ok(Self {
            folder: folder()?,
            prefix: prefix()?,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to write before a command.
    pub(crate) fn prefix(&self) -> &[String] {
        &self.prefix
    }
}

pub(crate) fn folder() -> Result<PathBuf, String> {
    match std::env::var_os(BIN_VARIABLE).map(PathBuf::from) {
        Some(named) if is_complete(&named) => Ok(named),
        Some(named) => Err(format!(
            "{BIN_VARIABLE} is {}: {} are not all there",
            named.display(),
            PROGRAMS.join(", ")
        )),
        None => usual_places()
            .find(|folder| is_complete(folder))
            .ok_or_else(|| {
                format!(
                    "{} are neither below {DEBIAN} nor on PATH; install Debian's package \
                     `postgresql` (`cargo xtask setup` does), or set {BIN_VARIABLE} to their folder",
                    PROGRAMS.join(", ")
                )
            }),
    }
}

/// The newest of Debian's first, then `PATH`.
fn usual_places() -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    versions.into_iter().rev().map(|(_, bin)| bin).chain(path)
}

fn is_complete(folder: &Path) -> bool {
    PROGRAMS.iter().all(|name| folder.join(name).is_file())
}

/// PostgreSQL refuses to run as root.
fn prefix() -> Result<Vec<String>, String> {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return Ok(vec!["env".into()]);
    }
    if id(&["-u", "postgres"]).is_none() {
        return Err("we are root, and there is no user `postgres` to run it as".into());
    }
    let words = ["runuser", "-u", "postgres", "--"];
    Ok(words.map(Into::into).to_vec())
}
