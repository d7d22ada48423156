//! What must not be in a file that is published: addresses of package registries in lock files,
//! and traces of the machine on which it was written.

use std::path::Path;

use crate::job::Job;
use crate::paths::Paths;
use crate::{Failure, Result};

/// The only source of crates that a Cargo.lock may name.
const CRATES: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// What was found, a line for each; empty is good.
pub(super) fn findings(paths: &Paths) -> Result<Vec<String>> {
    let traces = traces(paths);
    let mut findings = Vec::new();
    for name in tracked(paths)? {
        // What is not text has nothing to find; what is gone is not tracked any more.
        let Ok(text) = std::fs::read_to_string(paths.root.join(&name)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if let Some(what) = fault(&name, line, &traces) {
                findings.push(format!("{name}:{}: {what}", index + 1));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with the line, if anything.
fn fault(file: &str, line: &str, traces: &[String]) -> Option<String> {
    let name = Path::new(file).file_name()?.to_str()?;
    if name == "package-lock.json" && line.contains("\"resolved\": \"http") {
        return Some("a lock file must not say where a package was downloaded from".to_owned());
    }
    if name == "Cargo.lock" && line.starts_with("source = ") && line != CRATES {
        return Some(format!("an unusual source of crates: {line}"));
    }
    traces
        .iter()
        .find(|trace| mentions(line, trace))
        .map(|trace| format!("`{trace}` belongs to one machine or registry"))
}

/// Whether `line` has `trace` as a thing of its own, not as a part of a longer path or name.
fn mentions(line: &str, trace: &str) -> bool {
    line.match_indices(trace).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + trace.len()..].chars().next();
        let goes_on = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c));
        let is_path = trace.starts_with('/');
        let inside = is_path && before.is_some_and(|c| "./~}*".contains(c)) || goes_on(before);
        !inside && (trace.ends_with('/') || !goes_on(after))
    })
}

/// The folders of this machine, and the hosts from which its packages come.
fn traces(paths: &Paths) -> Vec<String> {
    // Put together, or this file would be a finding.
    let mut traces = vec![concat!("registry.npmjs", ".org").to_owned()];
    let npm = Job::new(paths, "npm config", "npm")
        .args(["config", "get", "registry"])
        .answer();
    traces.extend(npm.as_deref().and_then(host).map(str::to_owned));
    let root = paths.root.to_string_lossy().into_owned();
    let home = std::env::var("HOME").unwrap_or_default();
    // A folder right below / has too common a name to look for.
    traces.extend(
        [root, home]
            .into_iter()
            .filter(|path| path.matches('/').count() > 1),
    );
    traces.sort();
    traces.dedup();
    traces
}

fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    rest.split(['/', ':'])
        .next()
        .filter(|host| !host.is_empty())
}

/// The files that git tracks or would add, or, outside of a repository, an error.
fn tracked(paths: &Paths) -> Result<Vec<String>> {
    let args = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let said = Job::new(paths, "git ls-files", "git").args(args).answer();
    let said = said.ok_or_else(|| Failure("git cannot list the files here".to_owned()))?;
    Ok(said
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_name_no_downloads() {
        let resolved = "      \"resolved\": \"https://example.com/a.tgz\",";
        assert!(fault("bench/package-lock.json", resolved, &[]).is_some());
        assert!(fault("bench/notes.json", resolved, &[]).is_none());
        let link = "      \"resolved\": \"npm\",";
        assert!(fault("package-lock.json", link, &[]).is_none());
        assert!(fault("Cargo.lock", CRATES, &[]).is_none());
        assert!(fault("Cargo.lock", "source = \"git+https://example.com\"", &[]).is_some());
    }

    #[test]
    fn traces_count_only_by_themselves() {
        let traces = ["/srv/me".to_owned(), "npm.example".to_owned()];
        let found = |line| fault("a.md", line, &traces).is_some();
        assert!(found("see /srv/me/x"));
        assert!(found("\"/srv/me\""));
        assert!(found("https://npm.example/a"));
        assert!(!found("/usr/srv/me"));
        assert!(!found("/srv/media"));
        assert!(!found("./srv/me"));
        assert!(!found("my-npm.example"));
    }

    #[test]
    fn hosts_are_cut_out() {
        assert_eq!(host("https://a.example:8080/b/"), Some("a.example"));
        assert_eq!(host("nothing"), None);
    }
}
