//! `test`: everything that CI runs, one step after the other.
//!
//! A step that fails does not stop the others, but for those that need it. The last line is
//! `N passed, N failed`: the tests of all steps, where a step without tests of its own counts as
//! one.

mod counts;
mod hygiene;
mod steps;
mod wasm;

use std::process::ExitCode;
use std::time::Instant;

use crate::paths::Paths;
use crate::setup::{self, Needs, Ready};
use crate::{Failure, Result, fail, say};

use counts::Counts;
use steps::{STEPS, Step};

/// What a step works with.
#[derive(Debug, Clone)]
struct Context {
    paths: Paths,
    ready: Ready,
}

/// What came of a step.
#[derive(Debug)]
struct Outcome {
    step: &'static Step,
    counts: Counts,
    /// What is told of a failure.
    why: Option<String>,
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let chosen = match args {
        [] => STEPS.iter().collect(),
        [flag] if flag == "--list" => {
            list();
            return Ok(ExitCode::SUCCESS);
        }
        [flag, names] if flag == "--only" => choose(names)?,
        _ => return fail("usage: cargo xtask test [--list] [--only STEP,STEP]"),
    };
    let started = Instant::now();
    let ready = setup::run(paths, Needs::all())?;
    let context = Context {
        paths: paths.clone(),
        ready,
    };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for step in chosen {
        let outcome = attempt(step, &context, &outcomes);
        outcomes.push(outcome);
    }
    Ok(summarise(&outcomes, started))
}

fn attempt(step: &'static Step, context: &Context, before: &[Outcome]) -> Outcome {
    say::stage(&format!("{}: {}", step.name, step.what));
    let started = Instant::now();
    let broken = before
        .iter()
        .find(|other| other.why.is_some() && step.needs.contains(&other.step.name));
    let result = match broken {
        Some(other) => fail(format!("not run, because {} failed", other.step.name)),
        None => (step.run)(context),
    };
    let (counts, why) = match result {
        Ok((counts, why)) => (counts, why),
        Err(Failure(why)) => (Counts::one_failed(), Some(why)),
    };
    let took = say::seconds(started.elapsed());
    let tests = if counts.total() > 1 {
        format!("{counts}, ")
    } else {
        String::new()
    };
    match &why {
        None => say::note(&format!("{} ({tests}{took})", say::paint("32", "ok"))),
        Some(why) => {
            println!("{why}");
            say::note(&format!("{} ({tests}{took})", say::paint("1;31", "FAILED")));
        }
    }
    Outcome { step, counts, why }
}

fn summarise(outcomes: &[Outcome], started: Instant) -> ExitCode {
    let failed: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.why.is_some())
        .collect();
    if !failed.is_empty() && outcomes.len() > 1 {
        println!();
        say::stage("what failed");
        for outcome in &failed {
            println!("\n--- {}: {}", outcome.step.name, outcome.step.what);
            println!("{}", outcome.why.as_deref().unwrap_or_default());
        }
    }
    println!();
    println!(
        "{} of {} steps are good, in {}",
        outcomes.len() - failed.len(),
        outcomes.len(),
        say::seconds(started.elapsed())
    );
    let counts = outcomes
        .iter()
        .fold(Counts::default(), |sum, outcome| sum + outcome.counts);
    println!("{counts}");
    if counts.failed == 0 && failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn list() {
    for step in STEPS {
        println!("{:<12} {}", step.name, step.what);
    }
}

/// The named steps and those that they need, in the order of [`STEPS`].
fn choose(names: &str) -> Result<Vec<&'static Step>> {
    let mut wanted: Vec<&str> = Vec::new();
    for name in names.split(',') {
        let Some(step) = STEPS.iter().find(|step| step.name == name) else {
            return fail(format!("no step `{name}`; see `cargo xtask test --list`"));
        };
        wanted.push(step.name);
        wanted.extend(step.needs);
    }
    Ok(STEPS
        .iter()
        .filter(|step| wanted.contains(&step.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_step_brings_what_it_needs() {
        let names = |list: Vec<&'static Step>| list.iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(choose("fmt").map(names), Ok(vec!["fmt"]));
        assert_eq!(
            choose("e2e,fmt").map(names),
            Ok(vec!["fmt", "build", "e2e"])
        );
        assert!(choose("nonsense").is_err());
    }

    #[test]
    fn needs_come_before() {
        for (index, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                let at = STEPS.iter().position(|other| other.name == *need);
                assert!(
                    at.is_some_and(|at| at < index),
                    "{} needs {need}",
                    step.name
                );
            }
        }
    }
}
