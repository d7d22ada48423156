//! What is printed for people: one short line for each thing that is done.

use std::io::IsTerminal;
use std::time::Duration;

/// A command's larger stages.
pub(crate) fn stage(text: &str) {
    println!("{} {text}", paint("1;36", "==>"));
}

/// Something that is under way or was done, below a stage.
pub(crate) fn note(text: &str) {
    println!("    {text}");
}

/// Something that went wrong and ends the command.
pub(crate) fn error(text: &str) {
    eprintln!("{} {text}", paint("1;31", "error:"));
}

/// `12.3 s`, or `4 min 05 s` from two minutes on.
pub(crate) fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole < 120 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// `81,920`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Colours `text` where a terminal shows it.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The last `count` lines of `text`.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_230)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(81_920), "81,920");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
