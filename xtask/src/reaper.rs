//! Nothing that xtask starts outlives it.
//!
//! Every child carries a marker in its environment, which its own children inherit, even those
//! that leave its process group (browsers do). When a step ends or runs out of time, all that
//! still carries the step's marker is ended. For the case that xtask itself dies, whether by
//! Ctrl-C or SIGKILL, a second process, the reaper, waits at a pipe that closes with xtask and
//! then ends all that carries the run's marker.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The hidden command that makes this program the reaper.
pub(crate) const COMMAND: &str = "__reaper";
/// The variable of the environment that holds the marker.
pub(crate) const MARKER: &str = "LANDFALL_XTASK_JOB";
/// How long a process may take to end by itself: browsers and servers then tidy up.
const GRACE: Duration = Duration::from_millis(2_500);

static RUN: OnceLock<String> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A marker for one job; starts the reaper at the first call.
pub(crate) fn marker() -> String {
    let run = RUN.get_or_init(start);
    format!("{run}{}.", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn start() -> String {
    let started = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    let run = format!("{}-{started}.", std::process::id());
    if let Ok(program) = std::env::current_exe() {
        let child = Command::new(program)
            .args([COMMAND, &run])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_remove(MARKER)
            .process_group(0)
            .spawn();
        if let Ok(child) = child {
            // The pipe stays open for as long as this process lives.
            std::mem::forget(child);
        }
    }
    run
}

/// The reaper's whole life.
pub(crate) fn wait_and_reap(marker: &str) {
    let mut end = Vec::new();
    // Nothing is ever written: this returns when the other end is gone.
    let _ = std::io::stdin().read_to_end(&mut end);
    end_all(marker);
}

/// Ends every process whose marker begins with `marker`: asks first, then forces.
pub(crate) fn end_all(marker: &str) {
    let asked = marked(marker);
    if asked.is_empty() {
        return;
    }
    signal("TERM", &asked);
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        sleep(Duration::from_millis(25));
        if marked(marker).is_empty() {
            return;
        }
    }
    signal("KILL", &marked(marker));
}

/// The processes that carry `marker`, from /proc. Elsewhere than on Linux: none.
fn marked(marker: &str) -> Vec<u32> {
    let wanted = format!("{MARKER}={marker}").into_bytes();
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            // A zombie's environment reads as empty, so it does not count.
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
                text.split(|byte| *byte == 0)
                    .any(|v| v.starts_with(&wanted))
            })
        })
        .collect()
}

/// Sends a signal; `kill` is built into every shell, while the program may be absent.
fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let _ = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} \"$@\" 2>/dev/null"))
        .arg("sh")
        .args(pids.iter().map(u32::to_string))
        .status();
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn ends_what_carries_the_marker_and_nothing_else() {
        let sleeper = |marker: &str| {
            Command::new("sleep")
                .arg("60")
                .env(MARKER, marker)
                .spawn()
                .expect("sleep starts")
        };
        let mut ours = sleeper("unit-1.1.");
        let mut other = sleeper("unit-2.1.");
        end_all("unit-1.");
        assert!(!ours.wait().expect("it ended").success());
        assert!(other.try_wait().expect("it can be asked").is_none());
        end_all("unit-2.1.");
        other.wait().expect("it ended too");
    }
}
