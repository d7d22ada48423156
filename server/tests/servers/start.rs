//! The program's start on PostgreSQL, and its other commands.

use std::process::{Command, Output};

use throwaway_postgres::{Cluster, PASSWORD};

use crate::harness::Storage;

fn run(args: &[&str], url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall-server"))
        .args(args)
        .env("LANDFALL_DATABASE_URL", url)
        .output()
        .unwrap()
}

#[test]
fn faults_at_the_start_are_told_without_the_password() {
    let cluster = Cluster::shared();
    let missing = cluster.database().url.replace("/test_", "/missing_");
    let refused = format!("postgres://ann:{PASSWORD}@127.0.0.1:1/x");
    let tls = cluster.database().url + "&sslmode=require";
    let misspelt = format!("postgres://ann@h/x?pasword={PASSWORD}");
    for (url, sentence) in [
        (missing.as_str(), "does not exist"),
        (&refused, "cannot open the database"),
        (&tls, "TLS"),
        (&misspelt, "has a parameter"),
        (PASSWORD, "begins with postgres://"),
    ] {
        let output = run(&["--demo", "--log", "debug"], url);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(told.contains(sentence), "{told}");
        assert!(!told.contains(PASSWORD), "{told}");
    }
    let both = run(&["--demo", "--db", "a.db"], &missing);
    let told = String::from_utf8(both.stderr).unwrap();
    assert!(told.contains("give one of them"), "{told}");
}

/// What the list of processes shows is refused, also where it would do.
#[test]
fn a_password_among_the_arguments_is_refused() {
    let url = Cluster::shared().database().url;
    assert!(url.contains(PASSWORD));
    let asked = ["--user", "ann", "--entity", "s1", "--database-url", &url];
    for args in [
        &["--demo", "--database-url", &url][..],
        &["check-config", "--demo", "--database-url", &url],
        &[&["assign"], &asked[..]].concat(),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_landfall-server"))
            .args(args)
            .env_remove("LANDFALL_DATABASE_URL")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("LANDFALL_DATABASE_URL"), "{told}");
        assert!(!told.contains(PASSWORD), "{told}");
    }
}

#[test]
fn assignments_are_made_by_a_command() {
    let Storage::Postgres(url) = Storage::postgres() else {
        panic!()
    };
    for (command, told) in [
        ("assign", "ann is assigned to s1"),
        ("assign", "ann was assigned to s1 already"),
        ("unassign", "ann is no longer assigned to s1"),
        ("unassign", "ann was not assigned to s1"),
    ] {
        let output = run(&[command, "--user", "ann", "--entity", "s1"], &url);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), told);
    }
}
