//! The programs that come from crates: built once into the cache, in exactly one version.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::job::Job;
use crate::paths::{Paths, is_executable, on_path, read};
use crate::toolchain::Toolchain;
use crate::{Failure, Result, debian, fail, say, version};

/// A program that `cargo install` builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    /// The crate.
    pub(crate) package: &'static str,
    /// Its programs, of which the first tells the version.
    pub(crate) programs: &'static [&'static str],
    /// The version that we want.
    pub(crate) version: String,
}

/// Turns what the compiler made for the browser into a module with its JavaScript.
pub(crate) fn wasm_bindgen(paths: &Paths) -> Result<Tool> {
    let lock = read(&paths.root.join("Cargo.lock"))?;
    let lock = String::from_utf8_lossy(&lock);
    // The program and the library must be of one version.
    let version = version::locked(&lock, "wasm-bindgen")
        .ok_or_else(|| Failure("Cargo.lock holds no wasm-bindgen".to_owned()))?;
    Ok(Tool {
        package: "wasm-bindgen-cli",
        programs: &["wasm-bindgen", "wasm-bindgen-test-runner"],
        version: version.to_owned(),
    })
}

/// Runs the tests in browsers.
pub(crate) fn wasm_pack() -> Tool {
    Tool {
        package: "wasm-pack",
        programs: &["wasm-pack"],
        version: "0.15.1".to_owned(),
    }
}

/// Drives Firefox.
pub(crate) fn geckodriver() -> Tool {
    Tool {
        package: "geckodriver",
        programs: &["geckodriver"],
        version: "0.37.1".to_owned(),
    }
}

/// Counts which lines run; only `coverage` needs it.
pub(crate) fn llvm_cov() -> Tool {
    Tool {
        package: "cargo-llvm-cov",
        programs: &["cargo-llvm-cov"],
        version: "0.9.1".to_owned(),
    }
}

/// Changes the code to see whether a test notices; only `mutants` needs it.
pub(crate) fn cargo_mutants() -> Tool {
    Tool {
        package: "cargo-mutants",
        programs: &["cargo-mutants"],
        version: "27.1.0".to_owned(),
    }
}

impl Tool {
    /// Where its first program is, if all are there in the right version: in the cache, or on
    /// `PATH`.
    pub(crate) fn find(&self, paths: &Paths) -> Option<PathBuf> {
        let cached = |name: &&str| Some(paths.tools_bin().join(name)).filter(|p| is_executable(p));
        let outside = |name: &&str| on_path(&[name]);
        self.if_all_are(paths, cached)
            .or_else(|| self.if_all_are(paths, outside))
    }

    fn if_all_are(
        &self,
        paths: &Paths,
        find: impl Fn(&&str) -> Option<PathBuf>,
    ) -> Option<PathBuf> {
        let files: Vec<PathBuf> = self.programs.iter().map(find).collect::<Option<_>>()?;
        let right = |file: &PathBuf| {
            // A command of cargo's wants to be called as cargo calls it.
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let job = Job::new(paths, "version", file).args(name.strip_prefix("cargo-"));
            let said = job.arg("--version").answer();
            said.is_some_and(|text| version::first_in(&text) == Some(&self.version))
        };
        files.iter().all(right).then(|| files[0].clone())
    }

    /// Sees that it is there, and answers where.
    pub(crate) fn install(&self, paths: &Paths) -> Result<PathBuf> {
        if let Some(found) = self.find(paths) {
            return Ok(found);
        }
        say::stage(&format!(
            "{} {} (once, a few minutes)",
            self.package, self.version
        ));
        let started = Instant::now();
        // Some lock files name versions that were withdrawn since.
        if !self.cargo_install(paths, true).run()?.is_success() {
            say::note("not with its own lock file; trying without");
            self.cargo_install(paths, false).success()?;
        }
        say::note(&format!("built in {}", say::seconds(started.elapsed())));
        match self.find(paths) {
            Some(found) => Ok(found),
            None => fail(format!(
                "{} was built, but does not answer --version",
                self.package
            )),
        }
    }

    fn cargo_install(&self, paths: &Paths, locked: bool) -> Job {
        let mut job = Toolchain::Active
            .cargo(paths, &format!("cargo install {}", self.package))
            // Not in the work tree, whose configuration is not meant for them.
            .within(&paths.cache)
            .args([
                "install",
                self.package,
                "--version",
                &self.version,
                "--root",
            ])
            .arg(paths.cache.join("tools"))
            .arg("--force");
        if locked {
            job = job.arg("--locked");
        }
        // Built to be used for seconds at a time: building fast matters more.
        for (key, value) in [("OPT_LEVEL", "1"), ("LTO", "off"), ("CODEGEN_UNITS", "16")] {
            job = job.env(&format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        job.env("CARGO_TARGET_DIR", build_folder(paths))
            .limit_s(1_800)
    }
}

/// Removes what was only needed to build the tools.
pub(crate) fn tidy(paths: &Paths) {
    let _ = fs::remove_dir_all(build_folder(paths));
}

/// The tools share what they have in common while they are built.
fn build_folder(paths: &Paths) -> PathBuf {
    paths.cache.join("tools-build")
}

/// The toolchain whose `cargo <checker>` works; `checker` is `fmt` or `clippy`.
pub(crate) fn find_checker(paths: &Paths, checker: &str) -> Option<Toolchain> {
    [Toolchain::Active, Toolchain::Linked, Toolchain::System]
        .into_iter()
        .find(|toolchain| {
            toolchain
                .cargo(paths, "version")
                .args([checker, "--version"])
                .answer()
                .is_some()
        })
}

/// Sees that `cargo fmt` and `cargo clippy` are there; a minimal toolchain has neither.
pub(crate) fn install_checkers(paths: &Paths) -> Result<()> {
    let checkers = [
        ("fmt", "rustfmt", "rustfmt-web"),
        ("clippy", "clippy", "rust-web-clippy"),
    ];
    for (checker, component, package) in checkers {
        if find_checker(paths, checker).is_some() {
            continue;
        }
        say::stage(&format!("cargo {checker}"));
        let job = Job::new(paths, "rustup component add", "rustup");
        let job = job.args(["component", "add", component]).limit_s(300);
        if !job.run().is_ok_and(|ended| ended.is_success()) {
            debian::install(paths, &[package])?;
        }
        if find_checker(paths, checker).is_none() {
            return fail(format!("cargo {checker} is still not there"));
        }
    }
    Ok(())
}

/// Whether the wasm toolchain has its own clippy; it must, for the same compiler's libraries.
pub(crate) fn has_clippy(paths: &Paths, toolchain: &Toolchain) -> bool {
    toolchain
        .cargo(paths, "version")
        .args(["clippy", "--version"])
        .answer()
        .is_some()
}
