//! How many tests passed and failed, as each of our test runners tells it.

use std::fmt;
use std::ops::Add;

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Those that passed.
    pub(crate) passed: u64,
    /// Those that failed.
    pub(crate) failed: u64,
}

impl Counts {
    /// A check that passed.
    pub(crate) fn one_passed() -> Self {
        Self {
            passed: 1,
            failed: 0,
        }
    }

    /// A check that failed.
    pub(crate) fn one_failed() -> Self {
        Self {
            passed: 0,
            failed: 1,
        }
    }

    /// All.
    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failed
    }

    /// From `cargo test` and wasm-bindgen's test runner: the sum of all lines such as
    /// `test result: ok. 3 passed; 0 failed; …`.
    pub(crate) fn of_cargo(output: &str) -> Self {
        output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: ")?.split_once(". "))
            .fold(Self::default(), |sum, (_, counts)| {
                sum + Self {
                    passed: before(counts, " passed"),
                    failed: before(counts, " failed"),
                }
            })
    }

    /// From `node --test --test-reporter=tap`: the lines `# pass N` and `# fail N`.
    pub(crate) fn of_node(output: &str) -> Self {
        let number = |name: &str| {
            output
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        Self {
            passed: number("# pass ").unwrap_or_default(),
            failed: number("# fail ").unwrap_or_default(),
        }
    }

    /// From our own scripts: the last line `N passed, N failed`.
    pub(crate) fn of_script(output: &str) -> Self {
        let line = output.lines().rev().find_map(|line| {
            let (passed, failed) = line.trim().split_once(" passed, ")?;
            Some(Self {
                passed: passed.parse().ok()?,
                failed: failed.strip_suffix(" failed")?.parse().ok()?,
            })
        });
        line.unwrap_or_default()
    }
}

/// The number right before `word`.
fn before(text: &str, word: &str) -> u64 {
    let number = text
        .split(word)
        .next()
        .and_then(|text| text.rsplit([' ', ';']).next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// The lines of a long output that tell what failed: names of tests, panics with their message, and
/// errors of a compiler.
pub(super) fn telling(output: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        let is_test = text.ends_with(" ... FAILED") || text.ends_with(" ... FAIL");
        if is_test || text.starts_with("not ok ") || text.starts_with("error") {
            told.push(line.to_owned());
        } else if text.contains("panicked at ") {
            told.push(line.to_owned());
            told.extend(lines.next().map(str::to_owned));
        }
    }
    told.dedup();
    told
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_cargo_prints() {
        let output = "running 2 tests\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; finished in 0.1s\n\
            \x20   test result: ok. 1 passed; 0 failed; 0 ignored; 0 filtered out\n";
        assert_eq!(
            Counts::of_cargo(output),
            Counts {
                passed: 16,
                failed: 2
            }
        );
        assert_eq!(Counts::of_cargo("error: nothing ran"), Counts::default());
    }

    #[test]
    fn reads_nodes_summary() {
        let output = "TAP version 13\nok 1 - a\n# tests 3\n# pass 2\n# fail 1\n# skipped 0\n";
        assert_eq!(
            Counts::of_node(output),
            Counts {
                passed: 2,
                failed: 1
            }
        );
    }

    #[test]
    fn reads_the_last_line_of_scripts() {
        let output = "1 passed, 1 failed\nmore\n24 passed, 0 failed\n";
        assert_eq!(
            Counts::of_script(output),
            Counts {
                passed: 24,
                failed: 0
            }
        );
        assert_eq!(
            Counts::of_script("all passed, none failed"),
            Counts::default()
        );
    }

    #[test]
    fn finds_the_lines_that_tell() {
        let output = "test one ... ok\ntest two ... FAIL\nnoise\n    panicked at a.rs:1:2:\n    \
                      it broke\n  stack\nerror[E0583]: no file\n";
        let lines = [
            "test two ... FAIL",
            "    panicked at a.rs:1:2:",
            "    it broke",
            "error[E0583]: no file",
        ];
        assert_eq!(telling(output), lines);
    }

    #[test]
    fn prints_the_line_that_ends_a_run() {
        let sum = Counts::one_passed() + Counts::one_failed() + Counts::one_passed();
        assert_eq!(sum.to_string(), "2 passed, 1 failed");
    }
}
