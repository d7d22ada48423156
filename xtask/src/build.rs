//! `build`: Rust → wasm → npm package → the demo's pages.
//!
//! Cargo knows by itself what it can leave out. The steps after it are left out when a digest of
//! what goes in, and of what came out, is the same as last time.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::arrange::named_in_order;
use crate::digest::{Digest, files_below, is_stamped, stamp};
use crate::job::Job;
use crate::paths::{Paths, lock, read, write};
use crate::setup::{Needs, Ready};
use crate::shorten::shorten;
use crate::toolchain::TARGET;
use crate::{Doing, Failure, Result, fail, say, setup, size, tools, wasm_small};

/// What wasm-opt may use: what the compiler assumes anyway, and every browser of the last years has.
const WASM_FEATURES: &[&str] = &[
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
];

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Quick to build: no optimisation, with names for the debugger.
    pub(crate) dev: bool,
    /// The demo's pages too.
    pub(crate) demo: bool,
    /// Print what the tools print.
    pub(crate) shown: bool,
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let mut options = Options {
        dev: false,
        demo: true,
        shown: true,
    };
    for arg in args {
        match arg.as_str() {
            "--dev" => options.dev = true,
            "--no-demo" => options.demo = false,
            other => return fail(format!("build knows no `{other}`")),
        }
    }
    let ready = setup::run(paths, Needs::build())?;
    all(paths, &ready, options)?;
    if options.dev {
        say::note("sizes are only told of builds without --dev");
        return Ok(ExitCode::SUCCESS);
    }
    let sizes = size::measure(paths)?;
    size::print(&sizes);
    Ok(if size::is_within_budget(&sizes) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds; the caller has seen to the set-up.
pub(crate) fn all(paths: &Paths, ready: &Ready, options: Options) -> Result<()> {
    let _guard = lock(&paths.root.join("target/xtask/build.lock"))?;
    say::stage(if options.dev {
        "wasm, unoptimised"
    } else {
        "wasm"
    });
    let compiled = compile(paths, ready, options)?;
    package(paths, &compiled, options)?;
    if options.demo {
        say::stage("the demo's pages");
        pages(paths, options)?;
    }
    Ok(())
}

/// Where the package's wasm is.
pub(crate) fn packaged_wasm(paths: &Paths) -> PathBuf {
    paths.root.join("npm/wasm/landfall_bg.wasm")
}

/// The same, but with the names of its functions, for [`crate::size`].
pub(crate) fn named_wasm(paths: &Paths) -> PathBuf {
    paths.own("bindgen/landfall_named.wasm")
}

fn compile(paths: &Paths, ready: &Ready, options: Options) -> Result<PathBuf> {
    if !options.dev
        && let Some(small) = wasm_small::compile(paths, &ready.toolchain, options.shown)?
    {
        return Ok(small);
    }
    let mut job = ready
        .toolchain
        .cargo(paths, "cargo build wasm")
        .args(["build", "--lib", "--target", TARGET, "-p", "landfall"])
        .env("CARGO_TARGET_DIR", paths.wasm_target());
    if !options.dev {
        job = job.arg("--release");
    }
    job.limit_s(1_200).shown(options.shown).success()?;
    let profile = if options.dev { "debug" } else { "release" };
    Ok(paths
        .wasm_target()
        .join(TARGET)
        .join(profile)
        .join("landfall.wasm"))
}

/// Makes `npm/wasm` from what the compiler made.
fn package(paths: &Paths, compiled: &Path, options: Options) -> Result<()> {
    let bindgen = tools::wasm_bindgen(paths)?;
    let result = paths.root.join("npm/wasm");
    let named = named_wasm(paths);
    let inputs = Digest::default()
        .file(compiled)
        .text(&format!(
            "{bindgen:?} {options:?} {WASM_FEATURES:?} arranged"
        ))
        .file(&paths.root.join("node_modules/binaryen/package.json"))
        .end();
    let digest = || format!("{inputs} {}", Digest::default().folder(&result, &[]).end());
    let done = paths.own("package.stamp");
    if is_stamped(&done, &digest()) && (options.dev || named.is_file()) {
        say::note("npm/wasm is as it was");
        return Ok(());
    }
    // Made elsewhere and then moved, so that nobody loads half of it.
    let made = paths.own("bindgen");
    let _ = fs::remove_dir_all(&made);
    Job::new(paths, "wasm-bindgen", bindgen.install(paths)?)
        .args([
            "--target",
            "web",
            "--no-typescript",
            "--out-name",
            "landfall",
            "--out-dir",
        ])
        .arg(&made)
        .arg(compiled)
        .shown(options.shown)
        .success()?;
    let (script, wasm) = (made.join("landfall.js"), made.join("landfall_bg.wasm"));
    if !options.dev {
        // With names at first, to tell what weighs how much; they are then taken off.
        // Until nothing gets smaller. The lowest kilobyte is the far end of the stack: nothing lives there.
        // Functions with one caller stay where they are unless they are tiny, and what is said twice is not
        // kept in a local: larger as it is, but many small functions compress better than few large ones
        // (by 13 KB), and a browser compiles them faster, and only those that are called.
        let smallest = [
            "-Oz",
            "--converge",
            "--low-memory-unused",
            "--one-caller-inline-max-function-size=16",
            "--skip-pass=local-cse",
            "-g",
        ];
        wasm_opt(paths, "optimise", &smallest, &wasm, &named, options)?;
        let arranged = named_in_order(&read(&named)?)
            .ok_or_else(|| Failure("the functions cannot be put in order".to_owned()))?;
        write(&wasm, arranged)?;
        let bare = [
            "--reorder-functions-by-name",
            "--strip-debug",
            "--strip-producers",
            "--strip-target-features",
        ];
        wasm_opt(paths, "strip", &bare, &wasm, &wasm, options)?;
        let text = String::from_utf8_lossy(&read(&script)?).into_owned();
        let (module, text) = shorten(&read(&wasm)?, &text)
            .ok_or_else(|| Failure("the names of imports cannot be shortened".to_owned()))?;
        write(&wasm, module)?;
        write(&script, text)?;
    }
    let mut files = vec![script, wasm];
    // The JavaScript that the Rust code brings along, below a folder with a hash in its name.
    files.extend(files_below(&made.join("snippets"), &[]));
    for file in files_below(&result, &[]) {
        let name = file.strip_prefix(&result).unwrap_or(&file);
        if !files.contains(&made.join(name)) {
            fs::remove_file(&file).doing(format_args!("remove {}", file.display()))?;
        }
    }
    for file in files {
        let name = file.strip_prefix(&made).unwrap_or(&file);
        replace(&result.join(name), &read(&file)?)?;
    }
    stamp(&done, &digest())
}

fn wasm_opt(
    paths: &Paths,
    what: &str,
    how: &[&str],
    from: &Path,
    to: &Path,
    options: Options,
) -> Result<()> {
    let mut words: Vec<OsString> = how.iter().chain(WASM_FEATURES).map(Into::into).collect();
    words.extend([from.into(), "-o".into(), to.into()]);
    Job::new(
        paths,
        &format!("wasm-opt {what}"),
        paths.npm_bin("wasm-opt"),
    )
    .args(words)
    .shown(options.shown)
    .limit_s(300)
    .success()?;
    Ok(())
}

/// Writes `file` in one go.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let beside = file.with_extension("new");
    write(&beside, bytes)?;
    fs::rename(&beside, file).doing(format_args!("replace {}", file.display()))
}

fn pages(paths: &Paths, options: Options) -> Result<()> {
    let www = paths.root.join("www");
    let (npm, dist) = (paths.root.join("npm"), www.join("dist"));
    let digest = || {
        Digest::default()
            .folder(&www, &["dist", "node_modules"])
            .folder(&npm, &["node_modules"])
            .folder(&dist, &[])
            .file(&paths.root.join("package-lock.json"))
            .end()
    };
    let done = paths.own("pages.stamp");
    if is_stamped(&done, &digest()) {
        say::note("www/dist is as it was");
        return Ok(());
    }
    Job::new(paths, "npm run build www", "npm")
        .args(["run", "--silent", "build", "-w", "www"])
        .shown(options.shown)
        .limit_s(300)
        .success()?;
    stamp(&done, &digest())
}
