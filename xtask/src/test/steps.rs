//! The steps of `test`, quick ones first.

use std::fs;

use crate::job::{Ended, Job};
use crate::toolchain::Toolchain;
use crate::{Failure, Result, build, crash, demo, fail, postgres, say, sim, size, soak, tools};

use super::counts::{self, Counts};
use super::{Context, hygiene, wasm};

/// What a step answers: its counts, and the output if it failed.
pub(super) type Outcome = (Counts, Option<String>);

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// For `--only`.
    pub(super) name: &'static str,
    /// In a few words.
    pub(super) what: &'static str,
    /// The steps without which it cannot run.
    pub(super) needs: &'static [&'static str],
    /// Runs it.
    pub(super) run: fn(&Context) -> Result<Outcome>,
}

/// All steps, in the order in which they run.
pub(super) static STEPS: &[Step] = &[
    Step {
        name: "hygiene",
        what: "tracked files are fit to publish",
        needs: &[],
        run: hygiene,
    },
    Step {
        name: "fmt",
        what: "cargo fmt --check",
        needs: &[],
        run: fmt,
    },
    Step {
        name: "prettier",
        what: "prettier --check",
        needs: &[],
        run: prettier,
    },
    Step {
        name: "types",
        what: "tsc --strict over demo and declarations",
        needs: &[],
        run: types,
    },
    Step {
        name: "clippy",
        what: "cargo clippy, native",
        needs: &[],
        run: clippy,
    },
    Step {
        name: "unit",
        what: "cargo test, native",
        needs: &[],
        run: unit,
    },
    Step {
        name: "simulation",
        what: "stories of devices, faults and a server, and the planted bugs",
        needs: &[],
        run: simulation,
    },
    Step {
        name: "clippy-wasm",
        what: "cargo clippy for wasm",
        needs: &[],
        run: wasm::clippy_wasm,
    },
    Step {
        name: "chrome",
        what: "wasm-pack test in Chromium",
        needs: &[],
        run: wasm::chrome,
    },
    Step {
        name: "firefox",
        what: "wasm-pack test in Firefox",
        needs: &[],
        run: wasm::firefox,
    },
    Step {
        name: "build",
        what: "wasm, the demo's pages and server",
        needs: &[],
        run: build_all,
    },
    Step {
        name: "size",
        what: "the npm package keeps its budget",
        needs: &["build"],
        run: budget,
    },
    Step {
        name: "node",
        what: "node --test tests/node",
        needs: &["build"],
        run: node,
    },
    Step {
        name: "e2e",
        what: "the demo, end to end",
        needs: &["build"],
        run: e2e,
    },
    Step {
        name: "demo-check",
        what: "demo --check",
        needs: &["build"],
        run: demo_check,
    },
    Step {
        name: "soak",
        what: "a minute of tabs and devices that write without a rest",
        needs: &["build"],
        run: soak_minute,
    },
    Step {
        name: "crash",
        what: "a few rounds of killed browsers",
        needs: &["build"],
        run: crash_few,
    },
];

/// A step that is one check: it passes or fails as a whole.
pub(super) fn check(ended: &Ended) -> Outcome {
    if ended.is_success() {
        (Counts::one_passed(), None)
    } else {
        (
            Counts::one_failed(),
            Some(format!("{}\n{}", ended.output.trim_end(), ended.how())),
        )
    }
}

/// What is told of a failure: how it ended, the lines that matter, and the end of the output.
fn told(ended: &Ended) -> String {
    // Without the stacks of wasm in Firefox, which name no line of source.
    let lines = ended
        .output
        .lines()
        .filter(|line| !line.contains("@http://127.0.0.1"));
    let output = &lines.collect::<Vec<_>>().join("\n");
    let tail = say::tail(output, 25);
    let matter: Vec<String> = counts::telling(output).into_iter().take(40).collect();
    if output.lines().count() <= 50 || matter.is_empty() {
        return format!("{}\n{}", say::tail(output, 50), ended.how());
    }
    format!("{}\n    …\n{tail}\n{}", matter.join("\n"), ended.how())
}

/// A step with tests of its own. None at all is a failure too: then something is broken.
pub(super) fn counted(ended: &Ended, mut counts: Counts) -> Outcome {
    let told = told(ended);
    if ended.is_success() && counts.total() == 0 {
        return (
            Counts::one_failed(),
            Some(format!("{told}, but ran no tests")),
        );
    }
    if !ended.is_success() && counts.failed == 0 {
        counts = counts + Counts::one_failed();
    }
    (counts, (counts.failed > 0).then_some(told))
}

fn hygiene(context: &Context) -> Result<Outcome> {
    let findings = hygiene::findings(&context.paths)?;
    if findings.is_empty() {
        return Ok((Counts::one_passed(), None));
    }
    Ok((Counts::one_failed(), Some(findings.join("\n"))))
}

fn checker(context: &Context, name: &str) -> Result<Toolchain> {
    tools::find_checker(&context.paths, name)
        .ok_or_else(|| Failure(format!("cargo {name} is not installed")))
}

fn fmt(context: &Context) -> Result<Outcome> {
    let job = checker(context, "fmt")?.cargo(&context.paths, "cargo fmt");
    Ok(check(
        &job.args(["fmt", "--all", "--check"])
            .env("TERM", "dumb")
            .run()?,
    ))
}

fn prettier(context: &Context) -> Result<Outcome> {
    let paths = &context.paths;
    let patterns = [
        "npm/*.{js,ts}",
        "www/src",
        "www/*.{js,ts}",
        "tests/crash",
        "tests/e2e",
        "tests/node",
        "tests/types",
        "bench/*.mjs",
        "bench/adapters/landfall.js",
        "xtask/js",
    ];
    let job = Job::new(paths, "prettier", paths.npm_bin("prettier"));
    let job = job
        .args(["--check", "--no-error-on-unmatched-pattern"])
        .args(patterns);
    Ok(check(&job.run()?))
}

fn types(context: &Context) -> Result<Outcome> {
    let paths = &context.paths;
    let declarations = Job::new(paths, "tsc declarations", paths.npm_bin("tsc"))
        .args([
            "--strict",
            "--noEmit",
            "--ignoreConfig",
            "--target",
            "es2022",
            "--module",
        ])
        .args([
            "nodenext",
            "--lib",
            "es2022,esnext.disposable,dom",
            "npm/index.d.ts",
            "tests/types/conflicts.ts",
            "tests/types/observable.ts",
        ])
        .run()?;
    if !declarations.is_success() {
        return Ok(check(&declarations));
    }
    let job = Job::new(paths, "npm run typecheck", "npm");
    Ok(check(
        &job.args(["run", "--silent", "typecheck", "-w", "www"])
            .run()?,
    ))
}

fn clippy(context: &Context) -> Result<Outcome> {
    let job = checker(context, "clippy")?
        .cargo(&context.paths, "cargo clippy")
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .env("CARGO_TARGET_DIR", &context.paths.target)
        .limit_s(1_200);
    Ok(check(&job.run()?))
}

fn unit(context: &Context) -> Result<Outcome> {
    let ended = Toolchain::Active
        .cargo(&context.paths, "cargo test")
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("CARGO_TARGET_DIR", &context.paths.target)
        .env(postgres::BIN_VARIABLE, postgres::get()?)
        .limit_s(1_800)
        .run()?;
    Ok(counted(&ended, Counts::of_cargo(&ended.output)))
}

fn simulation(context: &Context) -> Result<Outcome> {
    let mut sum = Counts::default();
    let mut why = Vec::new();
    for job in sim::usual(&context.paths) {
        let ended = job.run()?;
        let (counts, failure) = counted(&ended, Counts::of_cargo(&ended.output));
        sum = sum + counts;
        why.extend(failure);
        let line = |l: &&str| l.contains(" violations · ") || l.ends_with(" found");
        if let Some(line) = ended.output.lines().rev().find(line) {
            say::note(line.trim());
        }
    }
    Ok((sum, (!why.is_empty()).then(|| why.join("\n"))))
}

fn build_all(context: &Context) -> Result<Outcome> {
    let paths = &context.paths;
    build::all(
        paths,
        &context.ready,
        build::Options {
            dev: false,
            demo: true,
            shown: false,
        },
    )?;
    demo::build_server(paths, false)?;
    Ok((Counts::one_passed(), None))
}

fn budget(context: &Context) -> Result<Outcome> {
    let sizes = size::measure(&context.paths)?;
    let verdict = size::verdict(&sizes);
    if !size::is_within_budget(&sizes) {
        size::print(&sizes);
        return fail(verdict);
    }
    say::note(&verdict);
    Ok((Counts::one_passed(), None))
}

fn node(context: &Context) -> Result<Outcome> {
    let entries = fs::read_dir(context.paths.root.join("tests/node"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    if files.is_empty() {
        say::note("there are no tests/node/*.test.mjs");
        return Ok((Counts::default(), None));
    }
    let job = Job::new(&context.paths, "node --test", "node");
    let ended = job
        .args(["--test", "--test-reporter=tap"])
        .args(files)
        .run()?;
    Ok(counted(&ended, Counts::of_node(&ended.output)))
}

fn e2e(context: &Context) -> Result<Outcome> {
    let ended = pages_script(context, "tests/e2e/e2e.mjs")?
        .limit_s(1_200)
        .run()?;
    Ok(counted(&ended, Counts::of_script(&ended.output)))
}

fn demo_check(context: &Context) -> Result<Outcome> {
    let ended = pages_script(context, "tests/e2e/check.mjs")?
        .limit_s(180)
        .run()?;
    if let Some(line) = ended
        .output
        .lines()
        .rev()
        .find(|line| line.contains("sites"))
    {
        say::note(line.trim());
    }
    Ok(check(&ended))
}

fn soak_minute(context: &Context) -> Result<Outcome> {
    let ended = soak::job(&context.paths, 1.0)?.run()?;
    let line = |l: &&str| l.contains(" acknowledged ");
    if let Some(line) = ended.output.lines().rev().find(line) {
        say::note(line.trim_start_matches(['#', ' ']));
    }
    Ok(counted(&ended, Counts::of_script(&ended.output)))
}

/// Rounds of a random seed, which the output names; then some with the browser's files damaged.
fn crash_few(context: &Context) -> Result<Outcome> {
    let mut sum = Counts::default();
    let mut why = Vec::new();
    for (rounds, wipe) in [(8, false), (3, true)] {
        let ended = crash::few(&context.paths, rounds, wipe)?.run()?;
        let (counts, failure) = counted(&ended, Counts::of_script(&ended.output));
        sum = sum + counts;
        why.extend(failure);
        if let Some(line) = ended.output.lines().rev().find(|l| l.contains("restored")) {
            say::note(line.trim());
        }
    }
    Ok((sum, (!why.is_empty()).then(|| why.join("\n"))))
}

fn pages_script(context: &Context, script: &str) -> Result<Job> {
    let paths = &context.paths;
    demo::check(
        paths,
        script,
        &demo::server(paths),
        &demo::usual_seed(paths)?,
    )
}
