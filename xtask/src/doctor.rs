//! `doctor`: what is there. Looks at the same places as [`crate::setup`], and changes nothing.

use std::process::ExitCode;

use crate::browsers::{CHROMEDRIVER, CHROMIUM, FIREFOX, Program};
use crate::job::Job;
use crate::paths::{Paths, on_path};
use crate::toolchain::{self, TARGET, Toolchain};
use crate::tools::{self, Tool};
use crate::{Result, npm, postgres, say, version};

/// One line of the table.
struct Line {
    what: String,
    /// The version and the place, or what is wrong.
    found: std::result::Result<(String, String), String>,
}

/// Prints the table; succeeds only if all is there.
pub(crate) fn run(paths: &Paths) -> Result<ExitCode> {
    let mut lines = vec![rust(paths), wasm(paths)];
    lines.extend(["fmt", "clippy"].map(|checker| checker_line(paths, checker)));
    lines.push(node(paths));
    lines.push(packages(paths));
    for tool in [
        tools::wasm_bindgen(paths)?,
        tools::wasm_pack(),
        tools::geckodriver(),
    ] {
        lines.push(tool_line(paths, &tool));
    }
    for program in [CHROMIUM, CHROMEDRIVER, FIREFOX] {
        lines.push(program_line(paths, &program));
    }
    lines.push(postgres_line(paths));
    let widest = lines
        .iter()
        .map(|line| line.what.len())
        .max()
        .unwrap_or_default();
    let mut missing = 0;
    for line in &lines {
        let what = format!("{:widest$}", line.what);
        match &line.found {
            Ok((version, place)) => {
                println!(
                    "{} {what}  {version:<18} {place}",
                    say::paint("32", "ok     ")
                );
            }
            Err(why) => {
                missing += 1;
                println!("{} {what}  {why}", say::paint("31", "missing"));
            }
        }
    }
    if missing == 0 {
        println!("\nAll is there.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{missing} missing. `cargo xtask setup` installs what it can.");
    Ok(ExitCode::FAILURE)
}

fn rust(paths: &Paths) -> Line {
    let verbose = Toolchain::Active.verbose_version(paths);
    let found = verbose
        .and_then(|text| version::field(&text, "release").map(str::to_owned))
        .zip(on_path(&["rustc"]).map(|path| path.display().to_string()));
    Line {
        what: "rustc".to_owned(),
        found: found.ok_or_else(|| "not on PATH".to_owned()),
    }
}

fn wasm(paths: &Paths) -> Line {
    let found = toolchain::find(paths).and_then(|toolchain| {
        let verbose = toolchain.verbose_version(paths)?;
        let folder = toolchain.target_libraries(paths)?;
        let place = format!("{} ({})", folder.display(), toolchain.label());
        Some((version::field(&verbose, "release")?.to_owned(), place))
    });
    Line {
        what: TARGET.to_owned(),
        found: found.ok_or_else(|| "no compiler here can build for it".to_owned()),
    }
}

fn checker_line(paths: &Paths, checker: &str) -> Line {
    let found = tools::find_checker(paths, checker).and_then(|toolchain| {
        let job = toolchain
            .cargo(paths, "version")
            .args([checker, "--version"]);
        let version = version::first_in(&job.answer()?)?.to_owned();
        Some((version, toolchain.label().to_owned()))
    });
    Line {
        what: format!("cargo {checker}"),
        found: found.ok_or_else(|| "not installed".to_owned()),
    }
}

fn node(paths: &Paths) -> Line {
    let found = match npm::node_version(paths).zip(on_path(&["node"])) {
        Some((node, path)) if npm::is_node_fit(&node) => Ok((node, path.display().to_string())),
        Some((node, _)) => Err(format!("{node} is too old")),
        None => Err("not on PATH".to_owned()),
    };
    Line {
        what: "node".to_owned(),
        found,
    }
}

fn packages(paths: &Paths) -> Line {
    let found = if npm::is_installed(&paths.root) {
        let said = Job::new(paths, "version", paths.npm_bin("wasm-opt"))
            .arg("--version")
            .answer();
        let binaryen = said
            .as_deref()
            .and_then(|text| text.split_whitespace().nth(2));
        let version = binaryen.map(|number| format!("wasm-opt {number}"));
        Ok((
            version.unwrap_or_default(),
            paths.root.join("node_modules").display().to_string(),
        ))
    } else {
        Err("not installed as package-lock.json says".to_owned())
    };
    Line {
        what: "npm packages".to_owned(),
        found,
    }
}

fn tool_line(paths: &Paths, tool: &Tool) -> Line {
    let found = tool
        .find(paths)
        .map(|path| (tool.version.clone(), path.display().to_string()));
    Line {
        what: tool.programs[0].to_owned(),
        found: found
            .ok_or_else(|| format!("version {} is neither cached nor on PATH", tool.version)),
    }
}

fn postgres_line(paths: &Paths) -> Line {
    let found = postgres::get().ok().and_then(|folder| {
        let version = postgres::version(paths, &folder)?;
        Some((version, folder.display().to_string()))
    });
    Line {
        what: "postgres".to_owned(),
        found: found.ok_or_else(|| "its programs are not here".to_owned()),
    }
}

fn program_line(paths: &Paths, program: &Program) -> Line {
    let found = match (program.find(), program.version(paths)) {
        (Some(path), Some(version)) => Ok((version, path.display().to_string())),
        (Some(path), None) => Err(format!("{} does not start", path.display())),
        (None, _) => Err("not on PATH".to_owned()),
    };
    Line {
        what: program.names[0].to_owned(),
        found,
    }
}
