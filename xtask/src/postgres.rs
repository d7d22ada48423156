//! PostgreSQL, which the server's tests start for themselves.

use std::path::{Path, PathBuf};

pub(crate) use throwaway_postgres::BIN_VARIABLE;

use crate::job::Job;
use crate::paths::Paths;
use crate::{Failure, Result, debian, say, version};

/// Debian's package for it. The version is the system's.
const PACKAGE: &str = "postgresql";

/// The folder of its programs, or an error that says where was looked.
pub(crate) fn get() -> Result<PathBuf> {
    throwaway_postgres::programs().map_err(Failure)
}

/// Its version.
pub(crate) fn version(paths: &Paths, folder: &Path) -> Option<String> {
    let said = Job::new(paths, "version", folder.join("postgres"))
        .arg("--version")
        .answer()?;
    version::first_in(&said).map(str::to_owned)
}

/// Sees that it is there.
pub(crate) fn install(paths: &Paths) -> Result<()> {
    if get().is_ok() {
        return Ok(());
    }
    say::stage("PostgreSQL");
    debian::install(paths, &[PACKAGE])?;
    get().map(drop)
}
