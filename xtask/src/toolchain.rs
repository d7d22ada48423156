//! Which compiler builds for the browser.
//!
//! The target wasm32-unknown-unknown is looked for in the active toolchain, then in the
//! distribution's own compiler. Where neither has it, [`install`] tries rustup, and then Debian's
//! packages (see [`crate::wasm_std`]).

use std::path::{Path, PathBuf};

use crate::job::Job;
use crate::paths::{Paths, is_executable, on_path};
use crate::{Result, debian, fail, say, version, wasm_std};

/// The target that browsers run.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// The name under which rustup knows the distribution's compiler.
const LINKED: &str = "distro";
/// Where a distribution puts its compiler.
const SYSTEM: &str = "/usr";

/// A compiler with its cargo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one that `cargo` means here.
    Active,
    /// The distribution's, by way of rustup.
    Linked,
    /// The distribution's, on a system without rustup.
    System,
}

impl Toolchain {
    /// A job that runs this toolchain's cargo.
    pub(crate) fn cargo(&self, paths: &Paths, name: &str) -> Job {
        self.apply(paths, Job::new(paths, name, self.program("cargo")))
    }

    /// Makes a job's own calls of cargo and rustc go to this toolchain.
    pub(crate) fn apply(&self, paths: &Paths, job: Job) -> Job {
        match self {
            Self::Active => job,
            Self::Linked => job.env("RUSTUP_TOOLCHAIN", LINKED),
            Self::System => {
                let mut search = std::ffi::OsString::from(format!("{SYSTEM}/bin:"));
                search.push(paths.search_path());
                job.env("PATH", search)
            }
        }
    }

    /// What `rustc -vV` prints, or nothing if there is no such compiler.
    pub(crate) fn verbose_version(&self, paths: &Paths) -> Option<String> {
        self.rustc(paths).arg("-vV").answer()
    }

    /// The folder with the libraries for [`TARGET`], be it there or not.
    pub(crate) fn target_libraries(&self, paths: &Paths) -> Option<PathBuf> {
        let libraries = self.sysroot(paths)?.join("lib/rustlib");
        Some(libraries.join(TARGET).join("lib"))
    }

    /// Where the compiler has its libraries.
    pub(crate) fn sysroot(&self, paths: &Paths) -> Option<PathBuf> {
        let sysroot = self.rustc(paths).args(["--print", "sysroot"]).answer()?;
        Some(sysroot.into())
    }

    /// Whether it can compile and link for [`TARGET`].
    ///
    /// A small program is really built, because a linker that is absent or libraries of another
    /// version show only then.
    pub(crate) fn has_target(&self, paths: &Paths) -> bool {
        let Some(libraries) = self.target_libraries(paths) else {
            return false;
        };
        if !libraries.is_dir() || wasm_std::is_stale(&libraries, self, paths) {
            return false;
        }
        let source = paths.own("probe.rs");
        let text =
            "#[unsafe(no_mangle)]\npub extern \"C\" fn probe() -> usize { vec![1, 2].len() }\n";
        if crate::paths::write(&source, text).is_err() {
            return false;
        }
        self.rustc(paths)
            .args([
                "--edition=2024",
                "--crate-type=cdylib",
                "-Cpanic=abort",
                "--target",
                TARGET,
            ])
            .arg("-o")
            .arg(paths.own("probe.wasm"))
            .arg(&source)
            .answer()
            .is_some()
    }

    /// A name for people.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Active => "the active toolchain",
            Self::Linked | Self::System => "the distribution's Rust",
        }
    }

    fn rustc(&self, paths: &Paths) -> Job {
        self.apply(paths, Job::new(paths, "rustc", self.program("rustc")))
    }

    fn program(&self, name: &str) -> String {
        match self {
            Self::System => format!("{SYSTEM}/bin/{name}"),
            Self::Active | Self::Linked => name.to_owned(),
        }
    }

    /// The distribution's compiler, as far as it can be reached now.
    fn of_the_system(paths: &Paths) -> Option<Self> {
        if !is_executable(&Path::new(SYSTEM).join("bin/rustc")) {
            return None;
        }
        if on_path(&["rustup"]).is_none() {
            return Some(Self::System);
        }
        let job = Self::Linked.rustc(paths).args(["--print", "sysroot"]);
        (job.answer()? == SYSTEM).then_some(Self::Linked)
    }
}

/// The toolchain that can build for the browser, if there is one now.
pub(crate) fn find(paths: &Paths) -> Option<Toolchain> {
    if Toolchain::Active.has_target(paths) {
        return Some(Toolchain::Active);
    }
    Toolchain::of_the_system(paths).filter(|system| system.has_target(paths))
}

/// Finds the toolchain that can build for the browser, or makes one.
pub(crate) fn install(paths: &Paths) -> Result<Toolchain> {
    if let Some(found) = find(paths) {
        return Ok(found);
    }
    say::stage(&format!("Rust for the browser ({TARGET})"));
    if on_path(&["rustup"]).is_some() {
        say::note("asking rustup for it");
        let job = Job::new(paths, "rustup target add", "rustup").args(["target", "add", TARGET]);
        if job.limit_s(300).run()?.is_success() && Toolchain::Active.has_target(paths) {
            return Ok(Toolchain::Active);
        }
        say::note("rustup cannot supply it here");
    }
    from_packages(paths)
}

/// Debian's packaged compiler, with a standard library for the browser that is built from its
/// packaged source.
fn from_packages(paths: &Paths) -> Result<Toolchain> {
    if !debian::is_here() {
        return fail(format!(
            "Rust cannot build for the browser here. Please run\n\n    \
             rustup target add {TARGET}\n\nor install your distribution's package for it"
        ));
    }
    let src = Path::new(SYSTEM).join("lib/rustlib/src");
    if !is_executable(&Path::new(SYSTEM).join("bin/rustc"))
        || !is_executable(&Path::new(SYSTEM).join("bin/cargo-clippy"))
        || !src.is_dir()
    {
        let packages = [
            "rustc-web",
            "cargo-web",
            "rust-web-src",
            "rust-web-llvm",
            "rust-web-clippy",
        ];
        debian::install(paths, &packages)?;
    }
    if on_path(&["rustup"]).is_some() {
        Job::new(paths, "rustup toolchain link", "rustup")
            .args(["toolchain", "link", LINKED, SYSTEM])
            .success()?;
    }
    let Some(system) = Toolchain::of_the_system(paths) else {
        return fail("the packaged compiler cannot be reached; see `cargo xtask doctor`");
    };
    let verbose = system.verbose_version(paths).unwrap_or_default();
    if !linker_works() {
        // rust-lld is a link to the linker of exactly this LLVM, which is a package of its own.
        let llvm = version::field(&verbose, "LLVM version").and_then(version::major);
        let package = format!("lld-{}", llvm.unwrap_or_default());
        debian::install(paths, &[&package])?;
    }
    wasm_std::build(paths, &system)?;
    if system.has_target(paths) {
        Ok(system)
    } else {
        fail(format!(
            "the packaged compiler was set up, but cannot build for {TARGET}"
        ))
    }
}

fn linker_works() -> bool {
    is_executable(&Path::new(SYSTEM).join("bin/rust-lld"))
}
