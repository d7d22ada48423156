//! The simulation: several devices with several tabs, a server and a network from one seed, on
//! virtual time, with every fault that they can meet; then it heals, and the promises must hold.
//!
//! | module | what |
//! |---|---|
//! | `plan`, `wide`, `hasty` | what happens, drawn from the seed before anything runs |
//! | `story` | plays a plan, heals, and has it checked |
//! | `app` | an app's user: settles conflicts, looks after the queue, reads before it writes |
//! | `keep` | what a device can lose, and what brings it back: rescue copy, backup, flushes, migration |
//! | `fleet`, `disk`, `net`, `server`, `rule`, `keys` | devices and tabs, their disks, the way to the server, the server's model, with keys of its own |
//! | `oracle`, `losses`, `checks`, `account` | the account of what was promised, and what is asserted |
//! | `exec`, `chance` | virtual time, tasks that can be killed wherever they wait, the trace |
//! | `shrink`, `guard`, `command` | the smallest plan that fails, panics, `cargo xtask sim` |

#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod account;
mod app;
mod chance;
mod checks;
mod command;
mod disk;
mod exec;
mod fleet;
mod guard;
mod hasty;
mod keep;
mod keys;
mod losses;
mod net;
mod oracle;
mod plan;
mod record;
mod rule;
mod server;
mod shrink;
mod story;
mod wide;
mod world;

/// Seeds that failed once; they are played for ever.
const KEPT: &str = include_str!("seeds.txt");

/// Seeds of a plain `cargo test`, which is not built for speed.
const FEW: u64 = 200;

/// The failures among these seeds, each as text.
fn failures(seeds: impl Iterator<Item = u64>) -> Vec<String> {
    seeds
        .filter_map(|seed| {
            let violation = guard::play(&plan::draw(seed), false).violation?;
            Some(format!(
                "seed {seed}: {} ({})",
                violation.name, violation.detail
            ))
        })
        .collect()
}

#[test]
fn the_promises_hold() {
    assert_eq!(failures(1..=FEW), Vec::<String>::new());
    for from in [plan::WIDE_FROM, plan::HASTY_FROM] {
        assert_eq!(failures(from + 1..=from + FEW), Vec::<String>::new());
    }
}

#[test]
fn kept_seeds_stay_good() {
    assert_eq!(failures(command::kept(KEPT)), Vec::<String>::new());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=30 {
        let plan = plan::draw(seed);
        assert_eq!(plan, plan::draw(seed));
        let (first, second) = (
            story::play(&plan, false, None),
            story::play(&plan, true, None),
        );
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
    let trace = |seed| story::play(&plan::draw(seed), false, None).trace;
    assert_ne!(trace(1), trace(2));
}

/// What `cargo xtask sim` runs; the environment says what.
#[test]
#[ignore = "run by `cargo xtask sim`"]
fn command() {
    command::run();
}
