//! A bounded load on one server, over real HTTP, from this machine: so many clients, each a user of
//! its own, push batches of 100 changes (half of them new records, half updates of older ones) and
//! pull after each batch what is new, until the time is over. Prints one JSON object: mutations per
//! second, the latencies of pushes and pulls, and of the processes under `--pid` the peak memory and
//! the processor time for 1,000 mutations (their pulls included), which neighbours on the machine
//! hardly change.
//!
//! `--kind kinto` does the same work on a Kinto server: the same records, as PUTs through its batch
//! endpoint, 25 at a time, which is the most that it takes.
//!
//! `cargo xtask load` starts the servers and runs this against each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Changes that a client has for each round. The protocol's limit for a batch.
const ROUND: usize = 100;
/// Requests in one of Kinto's batches: its default limit.
const KINTO_BATCH: usize = 25;
/// Records in a pulled page.
const PAGE: usize = 1000;
/// What is done before the clock starts, so that connections are open and caches warm.
const WARM_UP: Duration = Duration::from_secs(1);

struct Options {
    url: String,
    kinto: bool,
    clients: usize,
    seconds: u64,
    pids: Vec<u32>,
}

fn options() -> Options {
    let mut options = Options {
        url: String::new(),
        kinto: false,
        clients: 8,
        seconds: 10,
        pids: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().expect("each option has a value");
        match name.as_str() {
            "--url" => options.url = value,
            "--kind" => options.kinto = value == "kinto",
            "--clients" => options.clients = value.parse().expect("a number"),
            "--seconds" => options.seconds = value.parse().expect("a number"),
            "--pid" => options
                .pids
                .push(value.parse().expect("a process's number")),
            other => panic!("no option {other}"),
        }
    }
    options
}

/// What one client has measured, in microseconds.
#[derive(Default)]
struct Measured {
    /// Within the time, and with the warm-up.
    mutations: usize,
    all_mutations: usize,
    pushes: Vec<u64>,
    pulls: Vec<u64>,
}

/// One user of one device.
struct User {
    http: Client,
    url: String,
    name: String,
    token: String,
    kinto: bool,
    made: usize,
    /// The checkpoint, or Kinto's last timestamp.
    since: Option<String>,
    versions: Vec<u64>,
}

fn record(n: usize, round: usize) -> Value {
    json!({
        "name": format!("Site {n}"), "status": if round.is_multiple_of(2) { "open" } else { "done" },
        "score": (n * 7 + round) % 100, "lat": 48.0 + n as f64 / 1e4, "lon": 11.0 + n as f64 / 1e4,
        "notes": "Fence checked, north gate sticks; see the photo of the hinge.",
    })
}

impl User {
    async fn new(options: &Options, n: usize) -> Self {
        // Plain answers: over loopback gzip only costs, and Kinto has none by itself.
        let http = Client::builder().no_gzip().build().unwrap();
        let name = format!("load-{n}");
        let mut user = Self {
            http,
            url: options.url.clone(),
            token: String::new(),
            name,
            kinto: options.kinto,
            made: 0,
            since: None,
            versions: Vec::new(),
        };
        if options.kinto {
            let make = async |path: &str| {
                let request = user.http.put(format!("{}/v1{path}", user.url));
                let request = request.basic_auth(&user.name, Some("secret"));
                let answer = request.json(&json!({"data": {}})).send().await.unwrap();
                assert!(
                    answer.status().is_success(),
                    "{}",
                    answer.text().await.unwrap()
                );
            };
            make(&format!("/buckets/{}", user.name)).await;
            make(&format!("/buckets/{}/collections/sites", user.name)).await;
        } else {
            let ask = json!({"user": user.name, "ttlSeconds": 3600});
            let answer = user
                .http
                .post(format!("{}/demo/token", user.url))
                .json(&ask);
            let given: Value = answer.send().await.unwrap().json().await.unwrap();
            user.token = given["token"].as_str().expect("a demo's token").to_owned();
        }
        user
    }

    /// The records of the next round, and whether they are new.
    fn round(&mut self, round: usize) -> Vec<usize> {
        let fresh = if self.made == 0 { ROUND } else { ROUND / 2 };
        let older = ROUND - fresh;
        // Spread over all that there is.
        let step = (self.made / older.max(1)).max(1);
        let older = (0..older).map(|n| (n * step + round) % self.made);
        let mut all: Vec<_> = older.collect();
        all.extend(self.made..self.made + fresh);
        self.made += fresh;
        self.versions.resize(self.made, 0);
        all
    }

    async fn push(&mut self, round: usize, records: &[usize]) {
        if self.kinto {
            for some in records.chunks(KINTO_BATCH) {
                self.push_to_kinto(round, some).await;
            }
            return;
        }
        let client = format!("device-{}", self.name);
        let changes = records.iter().map(|n| {
            let base = self.versions[*n];
            json!({
                "id": format!("{client}-{round}-{n}"), "type": "sites",
                "action": if base == 0 { "create" } else { "update" },
                "offlineId": format!("site-{n}"), "versionNumber": base,
                "data": record(*n, round), "at": format!("{:013}-0000-{client}", 1_763_690_000_000_u64),
            })
        });
        let body =
            json!({"protocol": 1, "clientId": client, "changes": changes.collect::<Vec<_>>()});
        let request = self.http.post(format!("{}/api/v1/sync/batch", self.url));
        let answer = request
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
        let answer: Value = answer.json().await.unwrap();
        for (result, n) in answer["results"].as_array().unwrap().iter().zip(records) {
            assert_eq!(result["status"], "success", "{result}");
            self.versions[*n] = result["versionNumber"].as_u64().unwrap();
        }
    }

    async fn push_to_kinto(&self, round: usize, records: &[usize]) {
        let requests = records.iter().map(|n| {
            let path = format!("/buckets/{}/collections/sites/records/site-{n}", self.name);
            json!({"method": "PUT", "path": path, "body": {"data": record(*n, round)}})
        });
        let body = json!({"requests": requests.collect::<Vec<_>>()});
        let request = self.http.post(format!("{}/v1/batch", self.url));
        let request = request.basic_auth(&self.name, Some("secret")).json(&body);
        let answer = request.send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
        let answer: Value = answer.json().await.unwrap();
        for response in answer["responses"].as_array().unwrap() {
            let status = response["status"].as_u64().unwrap();
            assert!((200..300).contains(&status), "{response}");
        }
    }

    /// Pulls what is new; how many records came.
    async fn pull(&mut self) -> usize {
        if self.kinto {
            let path = format!("/v1/buckets/{}/collections/sites/records", self.name);
            let mut request = self.http.get(format!("{}{path}?_limit={PAGE}", self.url));
            if let Some(since) = &self.since {
                request = self
                    .http
                    .get(format!("{}{path}?_limit={PAGE}&_since={since}", self.url));
            }
            let answer = request
                .basic_auth(&self.name, Some("secret"))
                .send()
                .await
                .unwrap();
            self.since = answer
                .headers()
                .get("etag")
                .map(|etag| etag.to_str().unwrap().replace('"', "%22"));
            let page: Value = answer.json().await.unwrap();
            return page["data"].as_array().expect("a list of records").len();
        }
        let mut request = self
            .http
            .get(format!("{}/api/v1/sync/pull?limit={PAGE}", self.url));
        if let Some(since) = &self.since {
            request = self.http.get(format!(
                "{}/api/v1/sync/pull?limit={PAGE}&since={since}",
                self.url
            ));
        }
        let page: Value = request
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        self.since = Some(
            page["checkpoint"]
                .as_str()
                .expect("a checkpoint")
                .to_owned(),
        );
        page["changes"].as_array().unwrap().len()
    }

    async fn run(mut self, begin: Instant, end: Instant) -> Measured {
        let mut measured = Measured::default();
        for round in 0.. {
            if Instant::now() >= end {
                break;
            }
            let records = self.round(round);
            let counts = Instant::now() >= begin;
            let started = Instant::now();
            self.push(round, &records).await;
            let pushed = started.elapsed();
            let started = Instant::now();
            let pulled = self.pull().await;
            assert_eq!(pulled, ROUND, "a pull brings what was pushed");
            measured.all_mutations += ROUND;
            if counts {
                measured.mutations += ROUND;
                measured.pushes.push(micros(pushed));
                measured.pulls.push(micros(started.elapsed()));
            }
        }
        measured
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// In milliseconds.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
}

/// The most memory that a process has had so far, in MB.
fn peak_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}

/// The processor time that a process has had so far, in milliseconds. The kernel counts in hundredths
/// of a second.
fn cpu_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything but ends at the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        * 10.0
}

#[tokio::main]
async fn main() {
    let options = options();
    let mut users = Vec::new();
    for n in 0..options.clients {
        users.push(User::new(&options, n).await);
    }
    let cpu = || options.pids.iter().map(|pid| cpu_ms(*pid)).sum::<f64>();
    let cpu_before = cpu();
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(options.seconds);
    let mut running = JoinSet::new();
    for user in users {
        running.spawn(user.run(begin, end));
    }
    let mut all = Measured::default();
    for one in running.join_all().await {
        all.mutations += one.mutations;
        all.all_mutations += one.all_mutations;
        all.pushes.extend(one.pushes);
        all.pulls.extend(one.pulls);
    }
    let took = begin.elapsed().as_secs_f64();
    all.pushes.sort_unstable();
    all.pulls.sort_unstable();
    let memory: f64 = options.pids.iter().map(|pid| peak_mb(*pid)).sum();
    let cpu = (cpu() - cpu_before) / all.all_mutations as f64;
    let told = json!({
        "cpuMsPerThousand": (cpu * 1000.0).round(),
        "mutationsPerSecond": (all.mutations as f64 / took).round(),
        "rounds": all.pushes.len(),
        "pushP50Ms": percentile(&all.pushes, 50), "pushP99Ms": percentile(&all.pushes, 99),
        "pullP50Ms": percentile(&all.pulls, 50), "pullP99Ms": percentile(&all.pulls, 99),
        "peakMb": memory.round(),
    });
    println!("{told}");
}
