//! `size`: what the npm package's main entry adds to an app, and the budget that it must keep.
//!
//! Counted is what a user's bundler ships: `npm/index.js` with all that it imports, minified, and
//! the wasm. What weighs most is told from the same wasm with the names of its functions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::job::Job;
use crate::paths::{Paths, read, write};
use crate::wasm_sections::{self, Part};
use crate::{Doing, Failure, Result, build, fail, say};

/// The most that wasm and JavaScript may weigh together, after gzip. A ratchet: it stands a little
/// above what is reached, so that the package never grows unnoticed, and goes down with it. It leaves
/// room for compilers that cannot build the standard library for size: 226,300 with, 257,500 without.
pub(crate) const BUDGET_GZIP_BYTES: u64 = 262_000;
/// What they are meant to weigh: 80 KB.
pub(crate) const TARGET_GZIP_BYTES: u64 = 81_920;
/// How many functions are listed.
const FUNCTIONS_LISTED: usize = 12;
/// Types without a path, whose functions are in `core`.
const PRIMITIVES: &[&str] = &[
    "bool", "char", "str", "f32", "f64", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16",
    "i32", "i64", "i128", "isize",
];

/// The sizes of one thing, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bytes {
    /// As it is.
    pub(crate) raw: u64,
    /// After `gzip -9`.
    pub(crate) gzip: u64,
    /// After brotli at its best.
    pub(crate) brotli: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The JavaScript.
    pub(crate) js: Bytes,
    /// The wasm.
    pub(crate) wasm: Bytes,
    /// The wasm's parts: its functions, and its other sections.
    pub(crate) parts: Vec<Part>,
}

impl Sizes {
    /// Both together.
    pub(crate) fn total(&self) -> Bytes {
        Bytes {
            raw: self.js.raw + self.wasm.raw,
            gzip: self.js.gzip + self.wasm.gzip,
            brotli: self.js.brotli + self.wasm.brotli,
        }
    }
}

/// The command.
pub(crate) fn run(paths: &Paths, args: &[String]) -> Result<ExitCode> {
    let file = match args {
        [] => None,
        [flag, file] if flag == "--json" => Some(file),
        _ => return fail("usage: cargo xtask size [--json FILE]"),
    };
    let sizes = measure(paths)?;
    print(&sizes);
    if let Some(file) = file {
        let text = serde_json::to_string_pretty(&to_json(&sizes)).doing("write JSON")?;
        write(Path::new(file), text + "\n")?;
    }
    Ok(if is_within_budget(&sizes) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures what is built.
pub(crate) fn measure(paths: &Paths) -> Result<Sizes> {
    let (wasm, entry) = (build::packaged_wasm(paths), paths.root.join("npm/index.js"));
    for file in [&wasm, &entry] {
        if !file.is_file() {
            return fail(format!(
                "{} is not there; `cargo xtask build` first",
                file.display()
            ));
        }
    }
    let ended = Job::new(paths, "bundle", "node")
        .arg(paths.root.join("xtask/js/bundle.mjs"))
        .arg(&entry)
        .arg(&wasm)
        .limit_s(120)
        .success()?;
    let line = ended.output.lines().last().unwrap_or_default();
    let answer: Value = serde_json::from_str(line)
        .map_err(|_| Failure(format!("bundle.mjs said: {}", ended.output)))?;
    let named = build::named_wasm(paths);
    let named = if named.is_file() { named } else { wasm };
    Ok(Sizes {
        js: bytes(&answer["js"]),
        wasm: bytes(&answer["wasm"]),
        parts: wasm_sections::parts(&read(&named)?)
            .ok_or_else(|| Failure(format!("{} cannot be read", named.display())))?,
    })
}

/// Whether the package keeps its budget.
pub(crate) fn is_within_budget(sizes: &Sizes) -> bool {
    sizes.total().gzip <= BUDGET_GZIP_BYTES
}

/// The line about the budget.
pub(crate) fn verdict(sizes: &Sizes) -> String {
    let gzip = sizes.total().gzip;
    let (gzip, budget) = (say::thousands(gzip), say::thousands(BUDGET_GZIP_BYTES));
    let target = say::thousands(TARGET_GZIP_BYTES);
    if !is_within_budget(sizes) {
        format!("{gzip} bytes gzip, OVER THE BUDGET of {budget}")
    } else if sizes.total().gzip > TARGET_GZIP_BYTES {
        format!(
            "{gzip} bytes gzip, within the budget of {budget}; the target of {target} is not met"
        )
    } else {
        format!("{gzip} bytes gzip, within the target of {target}")
    }
}

/// Prints a table, the largest parts, and the verdict.
pub(crate) fn print(sizes: &Sizes) {
    say::stage("size of the npm package's main entry, in bytes");
    println!(
        "    {:<12} {:>10} {:>10} {:>10}",
        "", "raw", "gzip", "brotli"
    );
    for (name, of) in [
        ("wasm", sizes.wasm),
        ("JavaScript", sizes.js),
        ("total", sizes.total()),
    ] {
        let [raw, gzip, brotli] = [of.raw, of.gzip, of.brotli].map(say::thousands);
        println!("    {name:<12} {raw:>10} {gzip:>10} {brotli:>10}");
    }
    println!("\n    the wasm's parts, raw:");
    for (name, bytes) in by_crate(&sizes.parts).iter().take(12) {
        println!("    {:>10}  {name}", say::thousands(*bytes));
    }
    println!("\n    its largest functions, raw:");
    for part in largest(&sizes.parts) {
        println!(
            "    {:>10}  {}",
            say::thousands(part.bytes),
            shortened(&readable(&part.name))
        );
    }
    let code = if is_within_budget(sizes) {
        "32"
    } else {
        "1;31"
    };
    println!("\n    {}", say::paint(code, &verdict(sizes)));
}

/// What [`run`] writes: `{"gzip": …, "raw": …, "brotli": …, "wasm": {…}, "js": {…}, …}`.
pub(crate) fn to_json(sizes: &Sizes) -> Value {
    let of = |b: Bytes| json!({ "raw": b.raw, "gzip": b.gzip, "brotli": b.brotli });
    let total = sizes.total();
    json!({
        "raw": total.raw,
        "gzip": total.gzip,
        "brotli": total.brotli,
        "budget": BUDGET_GZIP_BYTES,
        "target": TARGET_GZIP_BYTES,
        "wasm": of(sizes.wasm),
        "js": of(sizes.js),
        "parts": by_crate(&sizes.parts).into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn bytes(value: &Value) -> Bytes {
    let of = |name: &str| value[name].as_u64().unwrap_or_default();
    Bytes {
        raw: of("raw"),
        gzip: of("gzip"),
        brotli: of("brotli"),
    }
}

fn largest(parts: &[Part]) -> Vec<&Part> {
    let mut functions: Vec<&Part> = parts.iter().filter(|part| part.is_function).collect();
    functions.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    functions.truncate(FUNCTIONS_LISTED);
    functions
}

/// The parts' sizes summed by crate, largest first.
fn by_crate(parts: &[Part]) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for part in parts {
        let name = if part.is_function {
            crate_of(&readable(&part.name)).to_owned()
        } else {
            part.name.clone()
        };
        *sums.entry(name).or_default() += part.bytes;
    }
    let mut list: Vec<(String, u64)> = sums.into_iter().collect();
    list.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    list
}

/// The crate that a function comes from: the first segment of its path. A function of a trait is
/// its type's, `<app::Item as core::fmt::Debug>::fmt` that of `app`.
fn crate_of(name: &str) -> &str {
    let mut rest = name;
    loop {
        let start = rest;
        for prefix in ["<", "&", "*", "(", "[", "mut ", "const ", "dyn ", "impl "] {
            rest = rest.strip_prefix(prefix).unwrap_or(rest);
        }
        if rest == start {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    if after.starts_with("::") {
        word
    } else if PRIMITIVES.contains(&word) {
        "core"
    } else {
        "(other)"
    }
}

/// The name without what tells versions of a crate or instances of a generic function apart:
/// `core[12f89f2d8a73214f]::fmt` and `fmt::h0123456789abcdef`.
fn readable(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(at) = rest.find(['[', ':']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match without_hash(from) {
            Some(beyond) => rest = beyond,
            None => {
                out.push_str(&from[..1]);
                rest = &from[1..];
            }
        }
    }
    out + rest
}

/// What is behind a hash. One in brackets may lack its leading zeros.
fn without_hash(from: &str) -> Option<&str> {
    let (hash, beyond) = match from.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => from.strip_prefix("::h")?.split_at_checked(16)?,
    };
    let is_hash = (12..=16).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(beyond)
}

fn shortened(name: &str) -> String {
    const WIDTH: usize = 100;
    if name.chars().count() <= WIDTH {
        return name.to_owned();
    }
    name.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_belong_to_the_crate_of_their_type() {
        let cases = [
            ("core::fmt::Formatter::pad", "core"),
            ("<alloc::vec::Vec<T> as core::ops::Drop>::drop", "alloc"),
            (
                "<&mut serde_wasm_bindgen::ser::S as serde::Ser>::go::h0123456789abcdef",
                "serde_wasm_bindgen",
            ),
            ("<dyn core::any::Any>::is", "core"),
            ("<f64 as core::fmt::Debug>::fmt", "core"),
            ("memcpy", "(other)"),
            ("__wbindgen_malloc", "(other)"),
        ];
        for (name, owner) in cases {
            assert_eq!(crate_of(name), owner, "{name}");
        }
    }

    #[test]
    fn hashes_are_left_out() {
        let cases = [
            (
                "<f64 as core[12f89f2d8a73214f]::fmt::Debug>::fmt",
                "<f64 as core::fmt::Debug>::fmt",
            ),
            (
                "js_sys::{{closure}}::hbac2468e78a97b9f",
                "js_sys::{{closure}}",
            ),
            ("app[f68d18e4fc1542e]::run", "app::run"),
            ("<[u8] as a::b>::hash", "<[u8] as a::b>::hash"),
            ("memcpy", "memcpy"),
        ];
        for (name, expected) in cases {
            assert_eq!(readable(name), expected);
        }
    }

    #[test]
    fn sums_by_crate_and_keeps_the_other_sections() {
        let part = |name: &str, bytes, is_function| Part {
            name: name.to_owned(),
            bytes,
            is_function,
        };
        let parts = [
            part("a::b", 3, true),
            part("a::c", 4, true),
            part("data section", 5, false),
        ];
        let sums = [("a".to_owned(), 7), ("data section".to_owned(), 5)];
        assert_eq!(by_crate(&parts), sums);
        assert_eq!(largest(&parts)[0].name, "a::c");
    }

    #[test]
    fn the_budget_is_inclusive() {
        let of = |gzip| Bytes {
            raw: 0,
            gzip,
            brotli: 0,
        };
        let js = of(20_000);
        let sizes = |wasm| Sizes {
            js,
            wasm: of(wasm),
            parts: Vec::new(),
        };
        let most = BUDGET_GZIP_BYTES - 20_000;
        assert!(is_within_budget(&sizes(most)));
        assert!(!is_within_budget(&sizes(most + 1)));
        let over = format!("OVER THE BUDGET of {}", say::thousands(BUDGET_GZIP_BYTES));
        assert!(verdict(&sizes(most + 1)).contains(&over));
        assert!(verdict(&sizes(61_921)).contains("the target of 81,920 is not met"));
        assert!(!verdict(&sizes(61_920)).contains("not met"));
        assert_eq!(to_json(&sizes(1))["gzip"], 20_001);
    }
}
