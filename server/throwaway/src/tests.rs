//! That nothing is left, however the process ends. The process that ends is this test's own
//! program, run again with a variable that tells it to.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// How the child process is to end.
const END: &str = "LANDFALL_TEST_END";

fn gone(folder: &Path) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while folder.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    !folder.exists()
}

fn postmaster(folder: &Path) -> String {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

/// A zombie, which has no command line any more, does not run.
fn runs(process: &str) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn databases_are_apart_and_survive_a_restart() {
    let cluster = Cluster::start().unwrap();
    let (one, two) = (cluster.database(), cluster.database());
    assert_ne!(one.url, two.url);
    cluster.restart();
    let names = cluster.admin("SELECT datname FROM pg_database WHERE datname LIKE 'test%'");
    assert_eq!(names.lines().count(), 2);
    let (folder, server) = (cluster.folder().to_owned(), postmaster(cluster.folder()));
    assert!(runs(&server));
    drop(cluster);
    assert!(!folder.exists() && !runs(&server));
}

#[test]
fn nothing_is_left_however_the_process_ends() {
    for end in ["exit", "panic", "abort", "kill"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::a_process_with_a_cluster", "--nocapture"])
            .env(END, end)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let folder = lines
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("folder=")
                    .map(|(_, path)| PathBuf::from(path))
            })
            .unwrap();
        let server = postmaster(&folder);
        assert!(runs(&server));
        if end == "kill" {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        assert!(gone(&folder), "{end}: {} is left", folder.display());
        assert!(!runs(&server), "{end}: the server still runs");
    }
}

#[test]
fn what_a_killed_guardian_left_is_cleared_away() {
    let mut cluster = Cluster::start().unwrap();
    cluster.guardian.kill().unwrap();
    cluster.guardian.wait().unwrap();
    let server = postmaster(cluster.folder());
    // As if it had been made for a process that is gone: 0 is nobody's number.
    let left = std::env::temp_dir().join("landfall-postgres-0-1");
    std::fs::rename(cluster.folder(), &left).unwrap();
    assert!(runs(&server));
    drop(Cluster::start().unwrap());
    assert!(!left.exists() && !runs(&server));
}

/// Nothing by itself: what the test above runs in a process of its own.
#[test]
fn a_process_with_a_cluster() {
    let Ok(end) = std::env::var(END) else { return };
    println!("\nfolder={}", Cluster::shared().folder().display());
    match end.as_str() {
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        "kill" => std::thread::sleep(Duration::from_secs(60)),
        _ => {}
    }
}
