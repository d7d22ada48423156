//! The npm packages that we build and test with.

use std::path::{Path, PathBuf};

use crate::digest::{Digest, is_stamped, stamp};
use crate::job::Job;
use crate::paths::{Paths, on_path};
use crate::{Result, fail, say, version};

/// The oldest Node that all our packages run on.
const NODE_MAJOR_MIN: u32 = 20;

/// Node's version.
pub(crate) fn node_version(paths: &Paths) -> Option<String> {
    let said = Job::new(paths, "version", "node")
        .arg("--version")
        .answer()?;
    version::first_in(&said).map(str::to_owned)
}

/// Whether Node is new enough.
pub(crate) fn is_node_fit(node: &str) -> bool {
    version::major(node).is_some_and(|major| major >= NODE_MAJOR_MIN)
}

/// Whether what is installed below `folder` is what its lock file says.
pub(crate) fn is_installed(folder: &Path) -> bool {
    is_stamped(&stamp_of(folder), &digest(folder))
}

/// Sees that it is.
pub(crate) fn install(paths: &Paths, folder: &Path) -> Result<()> {
    if !node_version(paths).is_some_and(|node| is_node_fit(&node)) || on_path(&["npm"]).is_none() {
        return fail(format!(
            "Node {NODE_MAJOR_MIN} or newer, with npm, is needed"
        ));
    }
    if is_installed(folder) {
        return Ok(());
    }
    if !folder.join("package-lock.json").is_file() {
        return fail(format!(
            "there is no package-lock.json in {}",
            folder.display()
        ));
    }
    say::stage("npm packages");
    let name = format!(
        "npm ci {}",
        folder.strip_prefix(&paths.root).unwrap_or(folder).display()
    );
    let job = Job::new(paths, name.trim(), "npm").args(["ci", "--no-audit", "--no-fund"]);
    let took = job.within(folder).limit_s(900).success()?.took;
    stamp(&stamp_of(folder), &digest(folder))?;
    say::note(&format!("installed in {}", say::seconds(took)));
    Ok(())
}

/// The lock file, and the manifests that `npm ci` compares with it, decide what is installed.
fn digest(folder: &Path) -> String {
    [
        "package-lock.json",
        "package.json",
        "npm/package.json",
        "www/package.json",
    ]
    .iter()
    .fold(Digest::default(), |digest, name| {
        digest.file(&folder.join(name))
    })
    .end()
}

fn stamp_of(folder: &Path) -> PathBuf {
    folder.join("node_modules/.landfall-stamp")
}
