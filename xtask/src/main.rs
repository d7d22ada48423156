//! `cargo xtask <command>`: set-up, build, demo, benchmark and tests of landfall.
//!
//! From a fresh machine with Rust and Node, each command first sees to what it needs (see
//! [`setup`]) and says so in plain words; a second run finds it all in place. Every child process
//! runs under a time limit and dies with this one (see [`reaper`]).

mod arrange;
mod bench;
mod browsers;
mod build;
mod coverage;
mod crash;
mod debian;
mod demo;
mod digest;
mod doctor;
mod fuzz;
mod job;
mod load;
mod mutants;
mod npm;
mod paths;
mod postgres;
mod reaper;
mod say;
mod schemathesis;
mod setup;
mod shorten;
mod sim;
mod sites;
mod size;
mod soak;
mod test;
mod toolchain;
mod tools;
mod version;
mod wasm_sections;
mod wasm_small;
mod wasm_std;

use std::fmt;
use std::process::ExitCode;

use paths::Paths;

const HELP: &str = "\
cargo xtask <command>

  doctor                 what is installed, in which version and where; changes nothing
  setup                  install whatever is missing: wasm target, tools, browsers, npm packages
  build [--dev] [--no-demo]
                         wasm, the npm package and the demo's pages; prints the sizes
  size [--json FILE]     what the npm package weighs, its largest parts, and the budget
  demo [--check] [--port N] [--sites N]
                         build and serve the demo; --check drives it in a browser and ends
  bench [--scale] [ARGS] build and run the benchmarks; ARGS go to bench/bench.mjs, or with
                         --scale (cost against the number of records) to bench/scale.mjs
  crash [--rounds N] [--wipe] [--seed S] [--json FILE] [--durability strict]
                         kill a browser that writes, N times, and check what is left; --wipe
                         damages the browser's files after most kills; see tests/crash/README.md
  soak [--minutes N]     tabs and devices that write without a rest on the real server, for 10
                         minutes, and whether all of them have the same in the end
  sim [--seeds N] [--first N] [--seed S] [--planted]
                         play N stories of devices, faults and a server from seeds, or one in
                         words; --planted: how many it takes to find each bug that was planted
  coverage [--lines]     the core's lines that tests and simulation run, module by module; fails
                         under 95 % for those that matter most; --lines names the others
  mutants [--file FILE]  change the core in one place after the other (hours) and name the changes
                         that no test notices and docs/MUTANTS.md does not explain
  schemathesis [--seconds N] [--seed S]
                         make up requests by the server's OpenAPI description and check that
                         each answer is described
  fuzz [--minutes N]     libFuzzer on what the server reads from the network
  load [--clients N] [--seconds N] [--only sqlite,postgres,kinto-memory,kinto-postgres]
                         so many clients push and pull for so long: the server over its databases,
                         and Kinto beside it; prints a table
  test [--list] [--only STEP,STEP]
                         everything that CI runs; ends with a line `N passed, N failed`

  The tools go to $LANDFALL_CACHE, or else to $XDG_CACHE_HOME/landfall or ~/.cache/landfall.
  What each child process printed is kept in target/xtask/logs.
";

/// Why a command cannot go on, in words for the person at the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every fallible function here returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Shorthand for an error with a message.
pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure(message.into()))
}

/// Adds to an error of the system what was being done.
pub(crate) trait Doing<T> {
    /// `doing` reads after "cannot".
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("cannot {doing}: {error}")))
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, marker] = args.as_slice()
        && command == reaper::COMMAND
    {
        reaper::wait_and_reap(marker);
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(code) => code,
        Err(failure) => {
            say::error(&failure.0);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(ExitCode::FAILURE);
    };
    if args.iter().any(|a| a == "--help" || a == "-h") && command != "bench" || command == "help" {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let paths = Paths::find()?;
    match command.as_str() {
        "doctor" => doctor::run(&paths),
        "setup" => setup::run(&paths, setup::Needs::all()).map(|_| ExitCode::SUCCESS),
        "build" => build::run(&paths, rest),
        "size" => size::run(&paths, rest),
        "demo" => demo::run(&paths, rest),
        "bench" => bench::run(&paths, rest),
        "crash" => crash::run(&paths, rest),
        "sim" => sim::run(&paths, rest),
        "soak" => soak::run(&paths, rest),
        "mutants" => mutants::run(&paths, rest),
        "coverage" => coverage::run(&paths, rest),
        "schemathesis" => schemathesis::run(&paths, rest),
        "fuzz" => fuzz::run(&paths, rest),
        "load" => load::run(&paths, rest),
        "test" => test::run(&paths, rest),
        unknown => fail(format!("no command `{unknown}`\n\n{HELP}")),
    }
}
