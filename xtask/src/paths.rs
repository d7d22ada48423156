//! Where things are: the work tree, cargo's target folder, and the cache outside both.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::{Doing, Failure, Result, fail, say};

/// The folders that every command works with.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The root of the workspace.
    pub(crate) root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR`, or `target/`).
    pub(crate) target: PathBuf,
    /// What outlives the work tree: the tools and what is needed to build them.
    pub(crate) cache: PathBuf,
}

impl Paths {
    /// Finds them from the environment.
    pub(crate) fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let Some(root) = here.parent() else {
            return fail("xtask is not inside a workspace");
        };
        let target = match env_path("CARGO_TARGET_DIR") {
            Some(path) => std::path::absolute(path).doing("resolve CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        let cache = env_path("LANDFALL_CACHE")
            .or_else(|| env_path("XDG_CACHE_HOME").map(|dir| dir.join("landfall")))
            .or_else(|| env_path("HOME").map(|dir| dir.join(".cache/landfall")))
            .ok_or_else(|| Failure("neither LANDFALL_CACHE nor HOME is set".to_owned()))?;
        Ok(Self {
            root: root.to_owned(),
            target,
            cache: std::path::absolute(cache).doing("resolve the cache folder")?,
        })
    }

    /// Where our own copies of the tools are.
    pub(crate) fn tools_bin(&self) -> PathBuf {
        self.cache.join("tools/bin")
    }

    /// A program of an npm package.
    pub(crate) fn npm_bin(&self, name: &str) -> PathBuf {
        self.root.join("node_modules/.bin").join(name)
    }

    /// Cargo's target folder for all that is compiled to wasm; apart, because it may come from
    /// another toolchain, and so that both builds keep their caches.
    pub(crate) fn wasm_target(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// What xtask keeps for itself below the target folder.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.target.join("xtask").join(name)
    }

    /// `PATH`, with our tools and npm's programs in front.
    pub(crate) fn search_path(&self) -> OsString {
        let mut all = vec![self.tools_bin(), self.root.join("node_modules/.bin")];
        all.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        env::join_paths(all).unwrap_or_else(|_| env::var_os("PATH").unwrap_or_default())
    }
}

/// Looks for the first of `names` on `PATH`.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    names.iter().find_map(|name| {
        env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| is_executable(file))
    })
}

/// Whether `file` is there and may be run.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Writes `text` to `file`, and the folders above it.
pub(crate) fn write(file: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).doing(format_args!("make {}", folder.display()))?;
    }
    fs::write(file, text).doing(format_args!("write {}", file.display()))
}

/// Reads `file`.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).doing(format_args!("read {}", file.display()))
}

/// Keeps other runs of xtask out until the answer is dropped.
pub(crate) fn lock(file: &Path) -> Result<File> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).doing(format_args!("make {}", folder.display()))?;
    }
    let doing = format!("lock {}", file.display());
    let handle = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .doing(&doing)?;
    if handle.try_lock().is_err() {
        say::note("another run of xtask is at work; waiting for it");
        handle.lock().doing(&doing)?;
    }
    Ok(handle)
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
