//! `coverage`: which lines of the core the native tests and the simulation run, module by module.
//!
//! Counted are the lines of the core itself, not those of the tests that stand in the same file: they
//! run by definition, and would flatter it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::job::Job;
use crate::paths::{Paths, is_executable, read};
use crate::toolchain::Toolchain;
use crate::{Result, debian, fail, say, tools, version};

/// What the named modules have to reach, per cent of their lines.
const LEAST: f64 = 95.0;

/// The longest that a run may take; the tests are slower when they count.
const LIMIT_S: u64 = 3_600;

/// What is held to [`LEAST`]: a name, and where its lines are.
const MODULES: &[(&str, &[&str])] = &[
    ("engine", &["src/engine/"]),
    ("outbox", &["src/replica/"]),
    ("backoff", &["src/backoff.rs"]),
    (
        "conflict",
        &["src/conflict.rs", "src/replica/plan_conflict.rs"],
    ),
    ("checkpoint", &["src/replica/plan_sync.rs"]),
    ("status", &["src/driver/reads.rs", "src/store/mod.rs"]),
];

/// Lines that can run, and lines that did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lines {
    all: usize,
    missed: Vec<u32>,
}

impl Lines {
    fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.missed.extend(&other.missed);
    }

    fn per_cent(&self) -> f64 {
        match self.all {
            0 => 100.0,
            all => 100.0 * (all - self.missed.len()) as f64 / all as f64,
        }
    }
}

/// The programs that read what an instrumented program has counted: those of the compiler's own LLVM.
struct Llvm {
    cov: PathBuf,
    profdata: PathBuf,
}

impl Llvm {
    fn within(folder: &Path) -> Option<Self> {
        let (cov, profdata) = (folder.join("llvm-cov"), folder.join("llvm-profdata"));
        (is_executable(&cov) && is_executable(&profdata)).then_some(Self { cov, profdata })
    }

    fn find(paths: &Paths) -> Option<Self> {
        let verbose = Toolchain::Active.verbose_version(paths)?;
        let host = version::field(&verbose, "host")?;
        let component = Toolchain::Active.sysroot(paths)?.join("lib/rustlib");
        let packaged = || {
            let major = version::major(version::field(&verbose, "LLVM version")?)?;
            Self::within(Path::new(&format!("/usr/lib/llvm-{major}/bin")))
        };
        Self::within(&component.join(host).join("bin")).or_else(packaged)
    }

    fn install(paths: &Paths) -> Result<Self> {
        if let Some(found) = Self::find(paths) {
            return Ok(found);
        }
        say::stage("LLVM's programs for coverage");
        let job = Job::new(paths, "rustup component add llvm-tools", "rustup");
        let job = job.args(["component", "add", "llvm-tools"]).limit_s(300);
        if !job.run().is_ok_and(|ended| ended.is_success()) {
            let verbose = Toolchain::Active.verbose_version(paths).unwrap_or_default();
            let major = version::field(&verbose, "LLVM version").and_then(version::major);
            debian::install(paths, &[&format!("llvm-{}", major.unwrap_or_default())])?;
        }
        match Self::find(paths) {
            Some(found) => Ok(found),
            None => fail("llvm-cov of the compiler's own LLVM is still not there"),
        }
    }
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let listed = match args {
        [] => false,
        [flag] if flag == "--lines" => true,
        _ => return fail("usage: cargo xtask coverage [--lines]"),
    };
    let tool = tools::llvm_cov().install(paths)?;
    let llvm = Llvm::install(paths)?;
    say::stage("the native tests and the simulation, counted");
    let report = paths.own("coverage.lcov");
    Job::new(paths, "coverage", tool)
        .args([
            "llvm-cov",
            "test",
            "-p",
            "landfall",
            "--lib",
            "--test",
            "simulation",
        ])
        .args(["--lcov", "--output-path"])
        .arg(&report)
        .env("LLVM_COV", &llvm.cov)
        .env("LLVM_PROFDATA", &llvm.profdata)
        .limit_s(LIMIT_S)
        .success()?;
    let text = read(&report)?;
    let files = files(paths, &String::from_utf8_lossy(&text))?;
    Ok(tell(&files, listed))
}

/// The lines of each file of the core that has any.
fn files(paths: &Paths, report: &str) -> Result<BTreeMap<String, Lines>> {
    let root = format!("{}/", paths.root.display());
    let mut files = BTreeMap::new();
    for (file, counts) in parse(report) {
        let Some(name) = file.strip_prefix(&root) else {
            continue;
        };
        if !name.starts_with("src/") || is_test(name) {
            continue;
        }
        let text = read(Path::new(&file))?;
        let end = own_lines(&String::from_utf8_lossy(&text));
        let lines: Vec<_> = counts.iter().filter(|(line, _)| **line < end).collect();
        let missed = lines.iter().filter(|(_, count)| **count == 0);
        let lines = Lines {
            all: lines.len(),
            missed: missed.map(|(line, _)| **line).collect(),
        };
        files.insert(name.to_owned(), lines);
    }
    Ok(files)
}

/// Files that are nothing but tests, or stand in for something in tests.
fn is_test(name: &str) -> bool {
    let alone = ["tests.rs", "conformance.rs", "planted.rs"];
    name.contains("/tests/") || alone.iter().any(|file| name.ends_with(file))
}

/// The number of the line at which a file's own tests begin.
fn own_lines(text: &str) -> u32 {
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let tests = line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test");
        if tests && lines.peek().is_some_and(|(next, _)| *next == "mod tests {") {
            return number;
        }
    }
    u32::MAX
}

/// How often each line of each file ran, from the report's `SF` and `DA` lines. A line that several
/// copies of a function have ran if any of them did.
fn parse(report: &str) -> BTreeMap<String, BTreeMap<u32, u64>> {
    let mut files: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut file = String::new();
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("SF:") {
            name.clone_into(&mut file);
        } else if let Some((number, count)) =
            line.strip_prefix("DA:").and_then(|l| l.split_once(','))
            && let (Ok(number), Ok(count)) = (number.parse(), count.parse::<u64>())
        {
            *files
                .entry(file.clone())
                .or_default()
                .entry(number)
                .or_default() += count;
        }
    }
    files
}

fn tell(files: &BTreeMap<String, Lines>, listed: bool) -> ExitCode {
    println!(
        "{:<28} {:>6} {:>7} {:>8}",
        "module", "lines", "missed", "covered"
    );
    let mut enough = true;
    for (name, places) in MODULES {
        let mut sum = Lines::default();
        let within = |file: &str| places.iter().any(|place| file.starts_with(place));
        for (_, lines) in files.iter().filter(|(file, _)| within(file)) {
            sum.add(lines);
        }
        // A module that has moved must not pass unseen.
        let good = sum.all > 0 && sum.per_cent() >= LEAST;
        enough &= good;
        let name = format!("{name}{}", if good { "" } else { "  (too little)" });
        row(&name, &sum);
    }
    println!();
    for (file, lines) in files {
        row(file, lines);
        if listed && !lines.missed.is_empty() {
            println!("    {}", ranges(&lines.missed));
        }
    }
    if enough {
        ExitCode::SUCCESS
    } else {
        say::error(&format!(
            "a module has less than {LEAST} % of its lines covered"
        ));
        ExitCode::FAILURE
    }
}

fn row(name: &str, lines: &Lines) {
    let (all, missed) = (lines.all, lines.missed.len());
    println!("{name:<28} {all:>6} {missed:>7} {:>7.1}%", lines.per_cent());
}

/// `3-5 9`.
fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let parts = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_once_however_many_copies_it_has() {
        let report = "SF:/a.rs\nDA:1,0\nDA:2,0\nend_of_record\nSF:/a.rs\nDA:1,3\nend_of_record\n";
        let files = parse(report);
        assert_eq!(files["/a.rs"], BTreeMap::from([(1, 3), (2, 0)]));
    }

    #[test]
    fn tests_in_a_file_are_not_its_lines() {
        let text = "#[cfg(test)]\nmod other;\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(own_lines(text), 4);
        assert_eq!(own_lines("fn a() {}\n"), u32::MAX);
        assert!(is_test("src/engine/tests.rs") && is_test("src/driver/tests/rig.rs"));
        assert!(!is_test("src/engine/step.rs"));
    }

    #[test]
    fn shares_and_ranges() {
        let mut lines = Lines {
            all: 8,
            missed: vec![1, 2, 3, 7],
        };
        assert_eq!(
            (lines.per_cent(), ranges(&lines.missed)),
            (50.0, "1-3 7".into())
        );
        lines.add(&Lines::default());
        assert_eq!(lines.all, 8);
        assert_eq!(Lines::default().per_cent(), 100.0);
    }
}
