//! `mutants`: changes the core in one place after the other and tells which changes no test notices.
//!
//! Each mutant costs a build and a run of the tests, so there are two rounds: all mutants meet the quick
//! native tests, and only those that survive meet all of them and the simulation. What is left then has
//! to be explained in `docs/MUTANTS.md`, where a line is found by its text: line numbers move.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::job::Job;
use crate::paths::{Paths, read};
use crate::{Doing, Result, fail, say, tools};

/// What is mutated where nothing else is asked for.
const FILES: &[&str] = &[
    "src/backoff.rs",
    "src/conflict.rs",
    "src/hlc.rs",
    "src/engine/**",
    "src/replica/**",
    // The status.
    "src/driver/reads.rs",
];

/// Tests that take longer than all others together; the second round has them.
const SLOW: &[&str] = &[
    "ten_thousand_through",
    "quiescence_means",
    "the_log_equals",
    "does_what_the_standard",
];

/// The first test that fails says enough, and where little works the others run into their limits: most
/// of the time of a round went there. The programs of the tests take this from a compiler that counts
/// as unstable, for which they take this variable; the compiler itself must not see it.
const FAIL_FAST: [&str; 2] = ["-Zunstable-options", "--fail-fast"];
const UNSTABLE_TESTS: &str = r#"target."cfg(all())".runner=["env","RUSTC_BOOTSTRAP=1"]"#;

/// Where the survivors are explained.
const EXPLAINED: &str = "docs/MUTANTS.md";

/// The longest that a round may take: more than a thousand mutants.
const LIMIT_S: u64 = 12 * 3_600;

const USAGE: &str = "usage: cargo xtask mutants [--file FILE]...";

/// One round of mutants against some of the tests.
struct Round<'a> {
    name: &'static str,
    /// Arguments that choose the mutants.
    chosen: Vec<String>,
    /// For the tests.
    tests: &'a [&'static str],
    skipped: &'a [&'static str],
    limit_s: &'static str,
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let files = files(args)?;
    let tool = tools::cargo_mutants().install(paths)?;
    say::stage("mutants against the quick tests");
    let quick = Round {
        name: "quick",
        chosen: files
            .iter()
            .flat_map(|file| ["--file".into(), file.clone()])
            .collect(),
        tests: &["--lib"],
        skipped: SLOW,
        limit_s: "60",
    };
    let left = quick.survivors(paths, &tool)?;
    let left = if left.is_empty() {
        left
    } else {
        say::stage(&format!("{} of them against all tests", left.len()));
        let files: BTreeSet<&str> = left.iter().filter_map(|m| m.split(':').next()).collect();
        let files = files
            .into_iter()
            .flat_map(|file| ["--file".into(), file.into()]);
        let names = left.iter().map(|mutant| format!("^{}$", escaped(mutant)));
        let thorough = Round {
            name: "thorough",
            chosen: files
                .chain(names.flat_map(|name| ["--re".into(), name]))
                .collect(),
            tests: &["--lib", "--test=simulation"],
            skipped: &[],
            limit_s: "600",
        };
        // cargo-mutants tries deleted fields whatever it is asked for.
        let mut still = thorough.survivors(paths, &tool)?;
        still.retain(|mutant| left.contains(mutant));
        still
    };
    let text = read(&paths.root.join(EXPLAINED))?;
    let explained = explained(&String::from_utf8_lossy(&text));
    let (known, new): (Vec<_>, Vec<_>) =
        left.iter().partition(|m| explained.contains(&placeless(m)));
    for mutant in &new {
        println!("survived: {mutant}");
    }
    println!("{} survived, {} of them explained", left.len(), known.len());
    Ok(if new.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn files(args: &[String]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--file", Some(file)) => files.push(file.clone()),
            _ => return fail(USAGE),
        }
    }
    if files.is_empty() {
        files.extend(FILES.iter().map(|file| (*file).to_owned()));
    }
    Ok(files)
}

impl Round<'_> {
    /// The mutants that no test has noticed, as cargo-mutants names them.
    fn survivors(&self, paths: &Paths, tool: &Path) -> Result<Vec<String>> {
        let out = paths.own("mutants").join(self.name);
        // What was found before would be kept beside.
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).doing(format_args!("make {}", out.display()))?;
        let skips = self.skipped.iter().flat_map(|test| ["--skip", test]);
        let ended = Job::new(paths, &format!("mutants {}", self.name), tool)
            .args(["mutants", "--package", "landfall", "--no-shuffle"])
            // First the tests as they are: where they could not run, every mutant would seem caught.
            .args(["--colors", "never", "--baseline", "run"])
            .args(["--timeout", self.limit_s, "--build-timeout", "900"])
            .arg("--output")
            .arg(&out)
            // For the build as well, which would otherwise be of all there is.
            .args(self.tests.iter().flat_map(|test| ["--cargo-arg", test]))
            .args([
                "--cargo-arg=--config".to_owned(),
                format!("--cargo-arg={UNSTABLE_TESTS}"),
            ])
            .args(&self.chosen)
            .args(["--", "--"])
            .args(skips)
            .args(FAIL_FAST)
            .env("CARGO_TARGET_DIR", &paths.target)
            .limit_s(LIMIT_S)
            .shown(true)
            .run()?;
        let missed: PathBuf = out.join("mutants.out/missed.txt");
        if !ended.is_success() && !missed.is_file() {
            return fail(format!("cargo-mutants {}", ended.how()));
        }
        let text = read(&missed)?;
        let lines = String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(lines)
    }
}

/// A mutant's name as a regular expression that means only it.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        // Not `<` and `>`, which mean something only with a backslash.
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// `src/a.rs:12:3: replace …` without the place within the file.
fn placeless(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

/// The mutants that a list explains: what stands in code marks at the beginning of an item.
fn explained(text: &str) -> BTreeSet<String> {
    let items = text.lines().filter_map(|line| line.strip_prefix("- `"));
    items
        .filter_map(|item| Some(item.split_once('`')?.0.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTANT: &str = "src/hlc.rs:32:32: replace < with > in Hlc::tick";

    #[test]
    fn a_survivor_is_explained_wherever_it_stands() {
        let list =
            explained("# List\n\n- `src/hlc.rs: replace < with > in Hlc::tick`: the same.\n");
        assert!(list.contains(&placeless(MUTANT)));
        assert!(!list.contains(&placeless("src/hlc.rs:1:1: delete ! in Hlc::tick")));
    }

    #[test]
    fn names_are_meant_literally() {
        let name = escaped("a.rs: replace + with <");
        assert_eq!(name, r"a\.rs: replace \+ with <");
    }

    #[test]
    fn files_are_chosen_by_name() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(files(&[]).unwrap().len(), FILES.len());
        assert_eq!(files(&words("--file a --file b")).unwrap(), ["a", "b"]);
        assert!(files(&words("--file")).is_err() && files(&words("a b")).is_err());
    }
}
