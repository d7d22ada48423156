//! Version numbers, as programs print them and as lock files hold them.

/// The first word of `text` that looks like a version: digits with a dot in between.
pub(crate) fn first_in(text: &str) -> Option<&str> {
    text.split(|c: char| c.is_whitespace() || c == '(' || c == ')' || c == ',')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

/// The number before the first dot.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// The version of `package` in the text of a Cargo.lock.
pub(crate) fn locked<'a>(cargo_lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = cargo_lock.lines().skip_while(|line| *line != name).skip(1);
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

/// The value of a line such as `LLVM version: 22.1.8` in what `rustc -vV` prints.
pub(crate) fn field<'a>(verbose: &'a str, name: &str) -> Option<&'a str> {
    verbose
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_versions_in_what_programs_print() {
        let cases = [
            ("wasm-pack 0.15.1", "0.15.1"),
            ("geckodriver 0.37.1 (2222 2026-01-01)", "0.37.1"),
            (
                "Chromium 156.0.8078.79 built on Debian GNU/Linux 12 (bookworm)",
                "156.0.8078.79",
            ),
            ("Mozilla Firefox 153.7.0esr", "153.7.0esr"),
            ("v20.20.2", "20.20.2"),
            ("wasm-opt version 132 (version_132-1-gabc)", ""),
        ];
        for (text, version) in cases {
            assert_eq!(first_in(text).unwrap_or_default(), version, "{text}");
        }
        assert_eq!(major("20.20.2"), Some(20));
    }

    #[test]
    fn reads_lock_files() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.80\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(locked(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked(lock, "absent"), None);
    }

    #[test]
    fn reads_the_compilers_fields() {
        let text = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(field(text, "LLVM version"), Some("22.1.8"));
        assert_eq!(field(text, "host"), None);
    }
}
