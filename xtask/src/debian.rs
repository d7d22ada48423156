//! Packages of Debian and Ubuntu, where something cannot be had elsewhere.

use std::ffi::OsStr;
use std::path::Path;

use crate::job::Job;
use crate::paths::{Paths, on_path};
use crate::{Result, fail, say};

/// How commands that need root are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    /// We are root.
    Yes,
    /// By sudo, which asks for no password.
    Sudo,
    /// Not at all.
    No,
}

/// Whether this system has Debian's package manager.
pub(crate) fn is_here() -> bool {
    on_path(&["apt-get"]).is_some()
}

/// Installs `packages`. Where that takes a password, or apt is absent, the error says what to do.
pub(crate) fn install(paths: &Paths, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_here() {
        return fail(format!(
            "please install these by the system's own package manager (the names are Debian's), \
             then try again: {list}"
        ));
    }
    let root = root(paths);
    if root == Root::No {
        return fail(format!(
            "this needs root. Please run this command, then try again:\n\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends -y {list}\n"
        ));
    }
    say::note(&format!("installing by apt-get: {list}"));
    let update = as_root(paths, root, "apt-get update", ["apt-get", "update"])
        .limit_s(300)
        .run()?;
    if !update.is_success() {
        // One source of many that cannot be reached need not be the one with our packages.
        say::note(&format!(
            "apt-get update {}; trying all the same",
            update.how()
        ));
    }
    let words = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install"];
    let words = words
        .iter()
        .chain(&["--no-install-recommends", "-y"])
        .chain(packages);
    as_root(paths, root, "apt-get install", words)
        .limit_s(1_200)
        .success()?;
    Ok(())
}

/// Runs a shell script as root; `why` says what for if that is not possible.
pub(crate) fn script(paths: &Paths, why: &str, script: &str) -> Result<()> {
    let root = root(paths);
    if root == Root::No {
        return fail(format!(
            "{why} needs root. Please run this command, then try again:\n\n    \
             sudo sh -ec '{script}'\n"
        ));
    }
    as_root(paths, root, why, ["sh", "-ec", script])
        .limit_s(120)
        .success()?;
    Ok(())
}

/// Whether the folder can be written to without being root.
pub(crate) fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".landfall-{}", std::process::id()));
    std::fs::write(&probe, "")
        .and_then(|()| std::fs::remove_file(&probe))
        .is_ok()
}

fn as_root<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
    paths: &Paths,
    root: Root,
    name: &str,
    words: I,
) -> Job {
    let (program, before): (&str, &[&str]) = match root {
        Root::Sudo => ("sudo", &["-n", "env"]),
        Root::Yes | Root::No => ("env", &[]),
    };
    Job::new(paths, name, program)
        .args(before)
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(words)
}

fn root(paths: &Paths) -> Root {
    if Job::new(paths, "id", "id").arg("-u").answer().as_deref() == Some("0") {
        Root::Yes
    } else if on_path(&["sudo"]).is_some()
        && Job::new(paths, "sudo", "sudo")
            .args(["-n", "true"])
            .answer()
            .is_some()
    {
        Root::Sudo
    } else {
        Root::No
    }
}
