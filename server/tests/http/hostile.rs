//! Batches that mean harm: whatever they hold, they harm nobody else, stall nobody else, and are
//! answered as the description says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use landfall_server::Config;
use landfall_server::ids::RecordType;
use landfall_server::limits;
use landfall_server::schema::Schema;
use landfall_server::store::sqlite::Location;
use landfall_server::types::{TypeRule, TypeRules};
use serde_json::{Value, json};

use crate::harness::{Client, TestServer, create, secret};

/// Far beyond what a write takes, far below what would be a stall.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A batch of one create whose `data` is this text.
fn body(mutation: &str, data: &str) -> String {
    let at = "1763690000000-0000-c1";
    format!(
        "{{\"protocol\":1,\"clientId\":\"c1\",\"changes\":[{{\"id\":\"{mutation}\",\
         \"type\":\"sites\",\"action\":\"create\",\"offlineId\":\"{mutation}\",\
         \"versionNumber\":0,\"data\":{data},\"at\":\"{at}\"}}]}}"
    )
}

/// Each data text, and what is to become of it.
fn texts() -> Vec<(String, &'static str)> {
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|n| format!("\"f{n}\":0")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels), close.repeat(levels))
    };
    vec![
        (nested("[", "]", 100_000), "failed"),
        (nested("{\"a\":", "}", 100_000), "failed"),
        (nested("[", "]", limits::JSON_DEPTH_MAX - 1), "success"),
        (fields(limits::FIELDS_MAX + 1), "failed"),
        (fields(50_000), "failed"),
        (fields(limits::FIELDS_MAX), "success"),
        ("{\"n\":1e999}".into(), "success"),
        (format!("{{\"n\":{}}}", "9".repeat(500_000)), "success"),
        (format!("{{\"n\":-0.{}e-99999}}", "0".repeat(1000)), "success"),
        ("{\"a\":1,\"a\":2,\"\\u0061\":3}".into(), "success"),
        ("{\"a\":\"\\u0000\",\"\\u0000\":1}".into(), "success"),
        ("{\"a\":\"\\ud800\"}".into(), "success"),
        ("{\"\\ud800\":1}".into(), "failed"),
        (format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000)), "success"),
        (format!("{{\"{}\":1}}", "x".repeat(100_000)), "failed"),
        (format!("{{\"a\":[{}0]}}", "0,".repeat(400_000)), "success"),
        ("{\"__proto__\":{\"a\":1},\"constructor\":1}".into(), "success"),
    ]
}

async fn outcome(client: &Client, body: String) -> Value {
    let sent = client.post("/batch").body(body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let answer: Value = sent.json().await.unwrap();
    answer["results"][0].clone()
}

/// Writes and reads as another user until told to stop; the longest wait.
async fn bystander(client: Client, stop: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let record = format!("r{count}");
        let results = client.push(&[create(&format!("m{count}"), &record)]).await;
        assert_eq!(results[0]["status"], "success");
        client.pull("?limit=1").await;
        longest = longest.max(started.elapsed());
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (count, longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_harm_and_stall_nobody() {
    let server = TestServer::in_memory().await;
    let stop = Arc::new(AtomicBool::new(false));
    let bob = tokio::spawn(bystander(server.client("bob"), Arc::clone(&stop)));
    let mut stored = 0;
    for (index, (text, expected)) in texts().into_iter().enumerate() {
        let mallory = server.client(&format!("mallory{index}"));
        let result = outcome(&mallory, body("m1", &text)).await;
        let start: String = text.chars().take(40).collect();
        assert_eq!(result["status"], expected, "{start}: {result}");
        // What was taken comes back as it was sent, to its sender alone.
        let page = mallory.get("/pull").send().await.unwrap().text().await.unwrap();
        assert_eq!(page.contains(&text), expected == "success", "{start}");
        stored += usize::from(expected == "success");
    }
    assert!(stored > 5);
    stop.store(true, Ordering::Relaxed);
    let (count, longest) = bob.await.unwrap();
    assert!(longest < WAIT_MAX, "{longest:?}");
    let records = server.client("bob").records().await;
    assert_eq!(records.len(), count.min(1000), "exactly the bystander's own");
}

/// What is wrong with the form of a batch refuses it as a whole, quickly, whatever its size.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_forms_are_refused_as_a_whole() {
    let server = TestServer::in_memory().await;
    let client = server.client("mallory");
    let good = client.batch(&[create("m1", "r1")]).to_string();
    for (body, status) in [
        // Which of the two would count?
        (good.replacen("\"id\"", "\"id\":\"m0\",\"id\"", 1), 400),
        (good.replacen("\"changes\"", "\"changes\":[],\"changes\"", 1), 400),
        (good.replacen("\"protocol\":1", "\"protocol\":1e999", 1), 400),
        (good.replacen("\"versionNumber\":0", "\"versionNumber\":1e300", 1), 400),
        (good.replacen("\"versionNumber\":0", "\"versionNumber\":-0.5", 1), 400),
        (good.replacen("\"id\":\"m1\"", "\"id\":\"\\ud800\"", 1), 400),
        (format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)), 400),
        ("{\"a\":".repeat(150_000), 400),
        ("\u{0}".repeat(1000), 400),
    ] {
        let started = Instant::now();
        let sent = client.post("/batch").body(body.clone()).send().await.unwrap();
        let start: String = body.chars().take(60).collect();
        assert_eq!(sent.status(), status, "{start}");
        assert!(started.elapsed() < WAIT_MAX, "{start}");
        let told = sent.text().await.unwrap();
        assert!(told.len() < 1000, "{start}: the answer repeats it");
    }
    assert!(client.records().await.is_empty());
}

/// Partial updates of a large record, each asked of a schema that looks at all of it.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_large_records_leave_room_for_others() {
    let schema = json!({
        "properties": {"list": {"uniqueItems": true, "items": {"type": ["integer", "string"]}}},
        "patternProperties": {"^(f|g)+[0-9]*$": {"type": "string", "pattern": "^(x+x+)+$"}},
    });
    let rule = TypeRule {
        schema: Some(Arc::new(Schema::new(&schema).unwrap())),
        entity: None,
    };
    let listed = [(RecordType::new("sites").unwrap(), rule)].into();
    let server = TestServer::with(Config {
        types: TypeRules::new(false, listed),
        ..Config::new(Location::Memory, secret())
    })
    .await;
    let mallory = server.client("mallory");
    let numbers: Vec<_> = (0..60_000).map(|n| n.to_string()).collect();
    let large = format!("{{\"list\":[{}]}}", numbers.join(","));
    assert_eq!(outcome(&mallory, body("m0", &large)).await["status"], "success");
    let stop = Arc::new(AtomicBool::new(false));
    let bob = tokio::spawn(bystander(server.client("bob"), Arc::clone(&stop)));
    let patches: Vec<_> = (1..=100)
        .map(|n| {
            json!({
                "id": format!("p{n}"), "type": "sites", "action": "update", "offlineId": "m0",
                "versionNumber": 1, "at": "1763690000000-0000-c1", "changed": [format!("f{n}")],
                "data": {format!("f{n}"): format!("{}y", "x".repeat(8000))},
            })
        })
        .collect();
    let results = mallory.push(&patches).await;
    assert!(results.iter().all(|result| result["status"] == "failed"));
    // The first ones are refused for what they are, the rest because it takes too long.
    let again = |result: &Value| result["retryable"] == true;
    assert!(!again(&results[0]) && again(&results[99]));
    stop.store(true, Ordering::Relaxed);
    let (_, longest) = bob.await.unwrap();
    assert!(longest < WAIT_MAX * 2, "{longest:?}");
}
