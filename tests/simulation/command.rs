//! `cargo xtask sim`: many seeds on all threads, or one in words.

use super::plan::{self, HASTY_FROM, Plan, WIDE_FROM};
use super::world::Violation;
use super::{KEPT, guard, shrink};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Failing seeds that are told in full.
const TOLD_MAX: usize = 3;

/// The seeds in a kept list: the first word of each line.
pub(crate) fn kept(list: &str) -> impl Iterator<Item = u64> + '_ {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Plays seeds on all threads; answers those that failed.
fn play_all(seeds: &[u64]) -> BTreeMap<u64, Violation> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            if let Some(violation) = guard::play(&plan::draw(*seed), false).violation {
                failed.lock().unwrap().insert(*seed, violation);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap()
}

fn print(plan: &Plan) {
    let Plan {
        users,
        strategies,
        skews_ms,
        page_max,
        latency_ms,
        wide,
        ..
    } = plan;
    println!("  users {users:?}, strategies {strategies:?}, clocks {skews_ms:?} ms off");
    println!("  pages of {page_max}, latency up to {latency_ms} ms, {wide:?}");
    for (i, (act, then)) in plan.steps.iter().enumerate() {
        println!("  {i:>3} {act:?}, then {then:?}");
    }
}

fn tell(seed: u64, violation: &Violation) {
    println!("seed {seed}: {}\n  {}", violation.name, violation.detail);
    let plan = plan::draw(seed);
    let small = shrink::shrink(&plan, violation);
    println!(
        "  shrunk from {} steps to {}:",
        plan.steps.len(),
        small.steps.len()
    );
    print(&small);
    println!("  again: cargo xtask sim --seed {seed}");
}

/// One seed, in words: the whole story, then the shrunk one.
fn one(seed: u64) -> usize {
    let plan = plan::draw(seed);
    print(&plan);
    let ending = guard::play(&plan, true);
    println!("{}", ending.words.join("\n"));
    println!("trace {:016x}", ending.trace);
    if let Some(violation) = &ending.violation {
        tell(seed, violation);
        let small = shrink::shrink(&plan, violation);
        println!("{}", guard::play(&small, true).words.join("\n"));
    }
    usize::from(ending.violation.is_some())
}

/// Seeds in which a planted bug has to be found.
#[cfg(feature = "planted")]
const PLANTED_SEEDS_MAX: u64 = 1_000;

/// The same for the one that takes three rare things: a session without a rest, a deletion right before its
/// end, and a loss after another start.
#[cfg(feature = "planted")]
const PLANTED_RARE_MAX: u64 = 4_000;

/// After how many seeds from `first` on the planted bug is found, and by which promise.
#[cfg(feature = "planted")]
fn hunt(first: u64, count: u64) -> Option<(usize, &'static str)> {
    let tries = (first..first + count).enumerate();
    tries
        .filter_map(|(i, seed)| {
            let violation = guard::play(&plan::draw(seed), false).violation?;
            Some((i + 1, violation.name))
        })
        .next()
}

/// Plants one bug after the other; tells how many seeds of each kind it takes until it is found.
#[cfg(feature = "planted")]
fn planted(first: u64) {
    use landfall::planted::{Bug, plant};
    println!(
        "{:<28} {:>6} {:>6} {:>6}  found by",
        "planted bug", "seeds", "wide", "hasty"
    );
    let mut found = 0;
    for bug in Bug::ALL {
        plant(Some(bug));
        let count = match bug {
            Bug::CopyThatSaysEmpty => PLANTED_RARE_MAX,
            _ => PLANTED_SEEDS_MAX,
        };
        let hits = [0, WIDE_FROM, HASTY_FROM].map(|from| hunt(first + from, count));
        plant(None);
        let name = hits.iter().flatten().map(|(_, name)| *name).next();
        found += usize::from(name.is_some());
        let [narrow, wide, hasty] =
            hits.map(|hit| hit.map_or("–".into(), |(n, _)| n.to_string()));
        let name = name.unwrap_or("not found");
        let bug = format!("{bug:?}");
        println!("{bug:<28} {narrow:>6} {wide:>6} {hasty:>6}  {name}");
    }
    let all = Bug::ALL.len();
    println!("{found} of {all} found");
    assert_eq!(found, all, "planted bugs were not found");
}

#[cfg(not(feature = "planted"))]
fn planted(_: u64) {
    panic!("built without the feature `planted`");
}

/// Reads the environment and runs.
pub(crate) fn run() {
    let first = number("LANDFALL_SIM_FIRST").unwrap_or(1);
    let count = number("LANDFALL_SIM_SEEDS").unwrap_or(2_000);
    if number("LANDFALL_SIM_PLANTED") == Some(1) {
        planted(first);
        return;
    }
    if let Some(seed) = number("LANDFALL_SIM_SEED") {
        let violations = one(seed);
        println!("1 seeds · {violations} violations");
        assert_eq!(violations, 0, "promises were broken");
        return;
    }
    // As many wide ones, and hasty ones.
    let from = [0, WIDE_FROM, HASTY_FROM].map(|from| first + from);
    let kinds = if first < WIDE_FROM {
        &from[..]
    } else {
        &from[..1]
    };
    let drawn = kinds.iter().flat_map(|first| *first..first + count);
    let seeds: Vec<u64> = kept(KEPT).chain(drawn).collect();
    let started = Instant::now();
    let failed = play_all(&seeds);
    let took_s = started.elapsed().as_secs_f64();
    for (seed, violation) in failed.iter().take(TOLD_MAX) {
        tell(*seed, violation);
    }
    let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, violation) in &failed {
        names.entry(violation.name).or_default().push(*seed);
    }
    for (name, seeds) in &names {
        let some: Vec<_> = seeds.iter().take(12).collect();
        println!("{name}: {} seeds, {some:?}", seeds.len());
    }
    println!(
        "{} seeds · {} violations · {:.0} seeds/s on {} threads",
        seeds.len(),
        failed.len(),
        seeds.len() as f64 / took_s,
        threads()
    );
    assert!(failed.is_empty(), "promises were broken");
}
