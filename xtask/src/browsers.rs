//! The browsers in which landfall is tested, and their drivers.

use std::path::PathBuf;

use crate::job::Job;
use crate::paths::{Paths, on_path};
use crate::{Failure, Result, debian, fail, say, version};

/// A program of the system, by the names under which it may be found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// In the order of preference.
    pub(crate) names: &'static [&'static str],
    /// Debian's package for it.
    pub(crate) package: &'static str,
}

/// Chromium, or a browser like it.
pub(crate) const CHROMIUM: Program = Program {
    names: &["chromium", "google-chrome", "chromium-browser"],
    package: "chromium",
};
/// Drives it.
pub(crate) const CHROMEDRIVER: Program = Program {
    names: &["chromedriver"],
    package: "chromium-driver",
};
/// Firefox.
pub(crate) const FIREFOX: Program = Program {
    names: &["firefox", "firefox-esr"],
    package: "firefox-esr",
};

impl Program {
    /// Where it is.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        on_path(self.names)
    }

    /// Where it is, or an error.
    pub(crate) fn get(&self) -> Result<PathBuf> {
        self.find()
            .ok_or_else(|| Failure(format!("there is no {} on PATH", self.names[0])))
    }

    /// Its version, if it runs at all.
    pub(crate) fn version(&self, paths: &Paths) -> Option<String> {
        let said = Job::new(paths, "version", self.find()?)
            .arg("--version")
            .answer()?;
        version::first_in(&said).map(str::to_owned)
    }
}

/// Sees that all of `wanted` are there.
pub(crate) fn install(paths: &Paths, wanted: &[Program]) -> Result<()> {
    let missing: Vec<&Program> = wanted.iter().filter(|p| p.find().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    say::stage("browsers");
    debian::install(paths, &packages)?;
    missing
        .iter()
        .try_for_each(|program| program.get().map(drop))
}

/// An error if Chromium and its driver are of different generations, for then no test would run.
pub(crate) fn check_driver(paths: &Paths) -> Result<()> {
    let major = |program: Program| {
        let version = program.version(paths)?;
        version::major(&version)
    };
    match (major(CHROMIUM), major(CHROMEDRIVER)) {
        (Some(browser), Some(driver)) if browser == driver => Ok(()),
        (browser, driver) => fail(format!(
            "Chromium ({}) and chromedriver ({}) must be of the same version: {} and {}",
            say_version(browser),
            say_version(driver),
            CHROMIUM.get()?.display(),
            CHROMEDRIVER.get()?.display()
        )),
    }
}

fn say_version(version: Option<u32>) -> String {
    version.map_or_else(|| "does not start".to_owned(), |number| number.to_string())
}
