//! `setup`: everything that the other commands need. They call it themselves, for their part.

use std::time::Instant;

use crate::browsers::{self, CHROMEDRIVER, CHROMIUM, FIREFOX};
use crate::paths::{Paths, lock};
use crate::toolchain::{self, Toolchain};
use crate::tools::{self, Tool};
use crate::{Result, debian, fail, npm, postgres, say};

/// What a command needs beyond what a build does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Chromium, which Playwright drives.
    pub(crate) chromium: bool,
    /// What runs the tests in browsers, the server's other database, and the checkers of formatting
    /// and style.
    pub(crate) tests: bool,
}

impl Needs {
    /// For a build alone.
    pub(crate) fn build() -> Self {
        Self::default()
    }

    /// For whatever drives pages.
    pub(crate) fn pages() -> Self {
        Self {
            chromium: true,
            tests: false,
        }
    }

    /// For everything.
    pub(crate) fn all() -> Self {
        Self {
            chromium: true,
            tests: true,
        }
    }
}

/// What set-up found or made.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Builds for the browser.
    pub(crate) toolchain: Toolchain,
}

/// Sees to what is needed. Says so in words as far as there is something to do.
pub(crate) fn run(paths: &Paths, needs: Needs) -> Result<Ready> {
    let started = Instant::now();
    let _guard = lock(&paths.cache.join("setup.lock"))?;
    let mut crates: Vec<Tool> = vec![tools::wasm_bindgen(paths)?];
    if needs.tests {
        crates.extend([tools::wasm_pack(), tools::geckodriver()]);
    }
    npm::install(paths, &paths.root)?;
    let toolchain = toolchain::install(paths)?;
    if needs.tests {
        browsers::install(paths, &[CHROMIUM, CHROMEDRIVER, FIREFOX])?;
        browsers::check_driver(paths)?;
        postgres::install(paths)?;
        tools::install_checkers(paths)?;
        if !tools::has_clippy(paths, &toolchain) && toolchain != Toolchain::Active {
            debian::install(paths, &["rust-web-clippy"])?;
        }
        if !tools::has_clippy(paths, &toolchain) {
            return fail(format!("{} has no clippy", toolchain.label()));
        }
    } else if needs.chromium {
        browsers::install(paths, &[CHROMIUM])?;
    }
    for tool in &crates {
        tool.install(paths)?;
    }
    tools::tidy(paths);
    say::note(&format!(
        "all is set up ({})",
        say::seconds(started.elapsed())
    ));
    Ok(Ready { toolchain })
}
