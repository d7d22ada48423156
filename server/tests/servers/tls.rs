//! TLS on the way to PostgreSQL.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use throwaway_postgres::{Cluster, PASSWORD};

/// Starts a server on this database until it listens or ends: how many of its connections speak TLS,
/// of how many, or what it says in the end.
fn start(cluster: &Cluster, url: &str) -> Result<(usize, usize), String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_landfall-server"))
        .args(["--listen", "127.0.0.1:0", "--demo"])
        .env("LANDFALL_DATABASE_URL", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let counted = line.starts_with("listening").then(|| {
        let sql = "SELECT count(*) FILTER (WHERE ssl), count(*)
                   FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                   WHERE application_name = 'landfall-server'";
        let told = cluster.admin(sql);
        let (secret, all) = told.split_once('|').unwrap();
        (secret.parse().unwrap(), all.parse().unwrap())
    });
    let _ = child.kill();
    child.wait().unwrap();
    let mut told = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut told).unwrap();
    assert!(!told.contains(PASSWORD), "{told}");
    counted.ok_or(told)
}

#[test]
fn tls_is_spoken_and_the_server_is_verified_as_asked() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.database();
    cluster.listen(true);
    let by = |host: &str, more: &str| cluster.by_port(&database, host) + more;
    let authority = format!("&sslrootcert={}", cluster.authority().display());
    let known = |mode: &str| format!("?sslmode={mode}{authority}");
    for (host, more) in [
        ("127.0.0.1", ""),
        ("127.0.0.1", "?sslmode=require"),
        ("127.0.0.1", &known("verify-ca")),
        ("localhost", &known("verify-full")),
    ] {
        let (secret, all) = start(&cluster, &by(host, more)).unwrap();
        assert!(all > 0 && secret == all, "{host}{more}: {secret} of {all}");
    }
    let plain = start(&cluster, &by("127.0.0.1", "?sslmode=disable")).unwrap();
    assert_eq!(plain.0, 0);
    // By an authority that is not known, and for another name.
    for (host, more) in [
        ("localhost", "?sslmode=verify-full".to_owned()),
        ("localhost", "?sslmode=verify-ca".to_owned()),
        ("127.0.0.1", known("verify-full")),
    ] {
        let told = start(&cluster, &by(host, &more)).unwrap_err();
        assert!(told.contains("certificate"), "{host}{more}: {told}");
    }
}

#[test]
fn without_tls_nothing_is_sent_to_who_asks_for_it() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.database();
    cluster.listen(false);
    let url = cluster.by_port(&database, "127.0.0.1");
    let told = start(&cluster, &(url.clone() + "?sslmode=require")).unwrap_err();
    assert!(told.contains("does not support TLS"), "{told}");
    assert_eq!(start(&cluster, &url).unwrap().0, 0, "unless asked for");
}
