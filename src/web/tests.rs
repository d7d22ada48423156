//! The store on a real IndexedDB.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::codec::{self, KeyFields};
use super::codec_mutation;
use super::decode;
use super::glue::{self, get};
use super::idb::{IdbStore, random_id};
use super::rescue;
use super::value::{Row, Rows};
use crate::driver::RescueBatch;
use crate::error::Code;
use crate::hlc::Hlc;
use crate::model::{Action, Version};
use crate::replica::Alive;
use crate::shown::Shown;
use crate::store::{
    Entry, Fact, Keys, Made, MadeAt, Queued, Run, Said, Store, Summary, conformance, singles,
};
use crate::value::Value;
use futures_util::future::{Either, poll_fn, select};
use js_sys::{Array, Float64Array, Object};
use rexie::{ObjectStore, Rexie};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

fn keys() -> KeyFields {
    [("sites".into(), "id".into()), ("notes".into(), "id".into())]
        .into_iter()
        .collect()
}

fn record(n: u32) -> Row {
    let record = Object::new();
    glue::set(&record, "id", &format!("r{n}").into());
    glue::set(&record, "n", &n.into());
    Row::of_object(&record, &"id".into())
}

async fn store(name: &str) -> IdbStore {
    IdbStore::open(name.to_owned(), "relaxed", keys(), 1e9, None)
        .await
        .unwrap()
}

fn entry(facts: Vec<Fact<Row>>) -> Entry<Row> {
    let hlc = Hlc {
        ms: 1.0,
        counter: 2,
    };
    Entry {
        at_ms: 3.0,
        hlc,
        facts,
        summary: Summary::default(),
    }
}

fn created(no: u64, n: u32) -> Fact<Row> {
    Fact::Queued {
        no,
        replaces: None,
        collection: "sites".into(),
        key: format!("r{n}").into(),
        action: Action::Create,
        value: Some(record(n)),
        shows: Shown::Own,
        changed: None,
        group: None,
        origin: None,
    }
}

fn new_name(what: &str) -> String {
    format!("{what}-{}", random_id())
}

#[wasm_bindgen_test]
async fn indexeddb_conforms() {
    let name = new_name("conformance");
    conformance::run(store(&name).await, store(&name).await, record).await;
}

#[wasm_bindgen_test]
async fn indexeddb_conforms_with_strict_durability() {
    let name = new_name("conformance");
    let open = || IdbStore::open(name.clone(), "strict", keys(), 1e9, None);
    conformance::run(open().await.unwrap(), open().await.unwrap(), record).await;
}

#[wasm_bindgen_test]
async fn rows_of_segments_leave_memory_and_come_back() {
    let name = new_name("budget");
    let store = IdbStore::open(name, "relaxed", keys(), 0.0, None)
        .await
        .unwrap();
    let pulled = |n: u32| Fact::Remote {
        collection: "sites".into(),
        key: format!("r{n}").into(),
        value: Some(record(n)),
        version: Version(1),
    };
    let facts = vec![pulled(1), pulled(2), pulled(3), created(4, 4)];
    let written = store.write_segments(&[entry(facts)]).await.unwrap();
    let mut rows = Vec::new();
    written[0].1.each_value(|row| rows.push(row.clone()));
    let queued = rows.pop().unwrap();
    assert!(rows.iter().all(Row::is_resident));
    store.evict();
    assert!(!rows.iter().any(Row::is_resident), "the budget is nothing");
    // A later compaction would not tell where it has gone.
    assert!(queued.is_resident(), "what is queued stays");
    store.fetch(&rows[1..2]).await.unwrap();
    assert_eq!(rows[2].json().as_string().unwrap(), r#"{"id":"r3","n":3}"#);
}

#[wasm_bindgen_test]
async fn what_is_fetched_is_there_as_a_whole_however_much_is_let_go_meanwhile() {
    let name = new_name("whole");
    let store = IdbStore::open(name, "relaxed", keys(), 0.0, None)
        .await
        .unwrap();
    let segment = |n: u32| {
        entry(vec![Fact::Remote {
            collection: "sites".into(),
            key: format!("r{n}").into(),
            value: Some(record(n)),
            version: Version(1),
        }])
    };
    let segments: Vec<_> = (0..5).map(segment).collect();
    let written = store.write_segments(&segments).await.unwrap();
    let mut rows = Vec::new();
    for (_, entry) in &written {
        entry.each_value(|row| rows.push(row.clone()));
    }
    store.evict();
    assert_eq!((rows.len(), rows.iter().any(Row::is_resident)), (5, false));
    let whole = async {
        store.fetch(&rows).await.unwrap();
        // Whoever asked decides now, and asks for nothing again.
        rows.iter().all(Row::is_resident)
    };
    // Another commit ends each time that the fetching gets on.
    let others = poll_fn(|_| {
        store.evict();
        Poll::<()>::Pending
    });
    match select(pin!(whole), pin!(others)).await {
        Either::Left((whole, _)) => assert!(whole),
        Either::Right(_) => unreachable!(),
    }
}

#[wasm_bindgen_test]
async fn objects_of_what_stays_leave_memory_and_are_made_again() {
    for (memory_bytes, stay) in [(0.0, false), (1e9, true)] {
        let name = new_name("objects");
        let store = IdbStore::open(name, "relaxed", keys(), memory_bytes, None);
        let store = store.await.unwrap();
        let facts = (1..=20).map(|n| created(n.into(), n)).collect();
        store.append(0, &[entry(facts)]).await.unwrap();
        let log: Vec<_> = store.read(0, 10).await.unwrap().into_iter().collect();
        let mut rows = Vec::new();
        let read = log[0].1.as_ref().unwrap();
        read.each_value(|row| rows.push(row.clone()));
        let object = rows[3].object();
        store.evict();
        assert!(rows.iter().all(Row::is_resident));
        assert_eq!(js_sys::Object::is(&rows[3].object(), &object), stay);
        assert_eq!(rows[3].json().as_string().unwrap(), r#"{"id":"r4","n":4}"#);
    }
}

#[wasm_bindgen_test]
async fn a_closed_connection_is_opened_again() {
    let name = new_name("reopen");
    let store = store(&name).await;
    store
        .append(0, &[entry(vec![created(1, 1)])])
        .await
        .unwrap();
    store.close();
    assert_eq!(store.tail().await.unwrap().seq, 1);
    store.close();
    store
        .append(1, &[entry(vec![created(2, 2)])])
        .await
        .unwrap();
    let log = store.read(0, 10).await.unwrap();
    assert_eq!(log.into_iter().count(), 2);
}

#[wasm_bindgen_test]
async fn a_database_of_a_newer_version_is_refused_untouched() {
    let name = new_name("newer");
    let newer = Rexie::builder(&name)
        .version(7)
        .add_object_store(ObjectStore::new("log"));
    newer.build().await.unwrap().close();
    let error = IdbStore::open(name.clone(), "relaxed", keys(), 1e9, None)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code, Code::DatabaseNewer);
    let newer = Rexie::builder(&name)
        .version(7)
        .add_object_store(ObjectStore::new("log"));
    assert_eq!(newer.build().await.unwrap().store_names(), ["log"]);
}

#[wasm_bindgen_test]
async fn a_database_of_somebody_else_is_refused() {
    let name = new_name("foreign");
    let foreign = Rexie::builder(&name)
        .version(2)
        .add_object_store(ObjectStore::new("things"));
    foreign.build().await.unwrap().close();
    let error = IdbStore::open(name, "relaxed", keys(), 1e9, None)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code, Code::DatabaseDamaged);
}

#[wasm_bindgen_test]
fn records_are_stored_as_readable_text_and_in_runs() {
    let facts = vec![created(1, 1), created(2, 2), created(3, 3)];
    let stored = codec::encode(&entry(facts)).unwrap();
    let runs: Array = get(&stored, "facts").into();
    assert_eq!(runs.length(), 1);
    let rows = get(&runs.get(0), "rows").as_string().unwrap();
    let text = "{\"id\":\"r1\",\"n\":1},\n{\"id\":\"r2\",\"n\":2},\n{\"id\":\"r3\",\"n\":3}";
    assert_eq!(rows, text);
}

/// What comes back of facts that are stored, one by one.
fn stored(facts: Vec<Fact<Row>>) -> (Vec<Fact<Row>>, usize) {
    let stored = codec::encode(&entry(facts)).unwrap();
    let read = decode::decode(&stored, &keys(), None).unwrap();
    let runs = read.facts.iter().filter(|f| matches!(f, Fact::Run(_)));
    (singles(&read.facts), runs.count())
}

#[wasm_bindgen_test]
fn what_is_alike_comes_back_as_a_run_and_what_is_laid_out_in_one_line() {
    let (read, runs) = stored((1..=40).map(|n| created(n.into(), n)).collect());
    assert_eq!((read.len(), runs), (40, 1));
    let laid_out = |n: u32| match created(n.into(), n) {
        Fact::Queued { no, key, .. } => Fact::Remote {
            collection: "sites".into(),
            version: Version(no),
            value: (n % 2 == 1).then(|| {
                let text = format!("{{\n\"id\": \"{key}\",\n\"n\": {n}\n}}");
                Row::of_text(&text.into(), &"id".into())
            }),
            key,
        },
        _ => unreachable!(),
    };
    let (read, runs) = stored((1..=40).map(laid_out).collect());
    assert_eq!((read.len(), runs), (40, 1));
    for (fact, n) in read.iter().zip(1_u32..) {
        let Fact::Remote { value, version, .. } = fact else {
            panic!("{fact:?}");
        };
        assert_eq!(*version, Version(n.into()));
        assert_eq!(value.is_some(), n % 2 == 1, "{n}");
        if let Some(value) = value {
            let text = format!("{{\"id\":\"r{n}\",\"n\":{n}}}");
            assert_eq!(value.json().as_string().unwrap(), text);
        }
    }
}

#[wasm_bindgen_test]
fn what_waits_since_before_a_compaction_is_stored_as_a_run() {
    let at = |n: u32| MadeAt {
        no: u64::from(n) * 3,
        at: Hlc {
            ms: f64::from(n) + 1_000.0,
            counter: n % 2,
        },
        created_ms: f64::from(n),
    };
    let texts: Array = (1..=40)
        .map(|n| JsValue::from(format!("{{\"id\":\"r{n}\"}}")))
        .collect();
    let joined: String = (1..=40).map(|n| format!("r{n}\0")).collect();
    let keys_of = Rc::new(Keys::new(&joined));
    let rows = Rows::of_texts(&texts, &"id".into(), keys_of.clone());
    let row = |at| Row {
        rows: rows.clone(),
        at,
    };
    let run = Run {
        collection: "sites".into(),
        keys: keys_of,
        values: (0..40).map(|at| Some(row(at))).collect(),
        said: Said::Queued(Queued {
            made: Made::Before((1..=40).map(at).collect()),
            action: Action::Create,
            changed: Some([Rc::from("n")].into()),
            sent: true,
        }),
    };
    let facts = singles(&[Fact::Run(Rc::new(run))]);
    let encoded = codec::encode(&entry(facts)).unwrap();
    assert_eq!(Array::from(&get(&encoded, "facts")).length(), 1);
    let times = || -> Float64Array { get(&first_run(&encoded), "times").into() };
    assert_eq!(times().slice(4, 8).to_vec(), [6.0, 1_002.0, 0.0, 2.0]);
    // It stays in memory: no later compaction would tell where it has gone.
    let read = decode::decode(&encoded, &keys(), Some(3)).unwrap();
    let Fact::Run(run) = &read.facts[0] else {
        panic!("{:?}", read.facts);
    };
    assert!(run.values.iter().flatten().all(|r| r.rows.home().is_none()));
    for (fact, n) in singles(&read.facts).into_iter().zip(1_u32..) {
        let Fact::Held(held) = fact else {
            panic!("{fact:?}");
        };
        assert!(held.is_plain());
        let m = held.mutation;
        assert!(m.sent);
        let made = MadeAt {
            no: m.no,
            at: m.at,
            created_ms: m.created_ms,
        };
        assert_eq!((made, &*m.key), (at(n), &*format!("r{n}")));
        assert_eq!(m.changed.as_deref(), Some(&[Rc::from("n")][..]));
        let text = m.value.unwrap().json().as_string().unwrap();
        assert_eq!(text, format!("{{\"id\":\"r{n}\"}}"));
    }
    let odd = [
        (0, f64::NAN),
        (0, 0.0),
        (0, 1.5),
        (1, f64::INFINITY),
        (2, -1.0),
        (2, 4_294_967_296.0),
        (3, f64::NAN),
    ];
    for (at, number) in odd {
        let kept = times().get_index(at);
        times().set_index(at, number);
        let read = decode::decode(&encoded, &keys(), None);
        assert_eq!(read.err().map(|e| e.code), Some(Code::DatabaseDamaged));
        times().set_index(at, kept);
    }
    for length in [0, 156, 159] {
        glue::set(&first_run(&encoded), "times", &times().slice(0, length));
        let read = decode::decode(&encoded, &keys(), None);
        assert_eq!(read.err().map(|e| e.code), Some(Code::DatabaseDamaged));
    }
}

fn first_run(entry: &Object) -> Object {
    Array::from(&get(entry, "facts")).get(0).into()
}

#[wasm_bindgen_test]
fn damage_is_named_and_a_newer_format_is_told_apart() {
    let whole = || codec::encode(&entry(vec![created(1, 1)])).unwrap();
    assert!(decode::decode(&whole(), &keys(), None).is_ok());
    let code = |damage: &dyn Fn(&Object)| {
        let stored = whole();
        damage(&stored);
        decode::decode(&stored, &keys(), None).err().map(|e| e.code)
    };
    let damaged = Some(Code::DatabaseDamaged);
    assert_eq!(code(&|e| glue::set(e, "facts", &JsValue::NULL)), damaged);
    assert_eq!(code(&|e| glue::set(e, "clock", &"soon".into())), damaged);
    assert_eq!(code(&|e| glue::set(e, "summary", &JsValue::NULL)), damaged);
    let run = |e: &Object| Object::from(Array::from(&get(e, "facts")).get(0));
    assert_eq!(
        code(&|e| glue::set(&run(e), "kind", &"miracle".into())),
        damaged
    );
    assert_eq!(
        code(&|e| glue::set(&run(e), "first", &(-1).into())),
        damaged
    );
    assert_eq!(
        code(&|e| glue::set(&run(e), "rows", &Array::of1(&7.into()))),
        damaged
    );
    for rows in [
        "",
        "7",
        "{},\n",
        "{}{},\n{}",
        "[]",
        "null",
        "{\"a\":1},\n{\"a\":2}",
    ] {
        let rows = JsValue::from(rows);
        assert_eq!(code(&|e| glue::set(&run(e), "rows", &rows)), damaged);
    }
    assert_eq!(
        code(&|e| glue::set(e, "format", &99.into())),
        Some(Code::DatabaseNewer)
    );
    let odd = [
        JsValue::UNDEFINED,
        JsValue::NULL,
        7.into(),
        "x".into(),
        Array::new().into(),
    ];
    for value in odd {
        assert_eq!(
            decode::decode(&value, &keys(), None).err().map(|e| e.code),
            damaged
        );
    }
}

#[wasm_bindgen_test]
async fn no_id_is_made_twice() {
    let ids: std::collections::HashSet<String> = (0..100).map(|_| random_id()).collect();
    assert_eq!(ids.len(), 100);
}

/// A queued mutation as it is stored and handed out.
fn held() -> Object {
    let source = "return { number: 7, collection: 'sites', key: 'r1', action: 'update',
        record: { id: 'r1', n: 2 }, shows: { patch: { n: 1 }, fields: ['n'] }, changed: ['n'],
        base: { id: 'r1', n: 0 }, baseVersion: 3, remote: null, remoteVersion: 4, at: [5, 6],
        createdAt: 1.5, sent: true, state: 'failed', attempts: 2, lastAttemptAt: 8,
        nextAttemptAt: null, error: { code: 'no', message: 'é' }, group: 'c.6', origin: 'o.9',
        behind: false };";
    let made = js_sys::Function::new_no_args(source).call0(&JsValue::UNDEFINED);
    made.unwrap().unchecked_into()
}

#[wasm_bindgen_test]
fn a_mutation_comes_back_as_it_was() {
    let text = |value: &JsValue| String::from(js_sys::JSON::stringify(value).unwrap());
    for state in ["pending", "conflict", "failed"] {
        let it = held();
        glue::set(&it, "state", &state.into());
        let read = codec_mutation::mutation_from_js(&it, false).unwrap();
        let again = codec_mutation::mutation_to_js(&read, &Row::object);
        assert_eq!(text(&again), text(&it));
    }
}

#[wasm_bindgen_test]
fn a_mutation_of_an_absurd_clock_is_kept() {
    let it = held();
    glue::set(&it, "at", &Array::of2(&1.7e15.into(), &6.into()));
    glue::set(&it, "createdAt", &(-1.0).into());
    let read = codec_mutation::mutation_from_js(&it, false).unwrap();
    assert_eq!(read.mutation.at.ms, crate::hlc::MS_MAX);
    assert_eq!(read.mutation.created_ms, -1.0);
}

#[wasm_bindgen_test]
fn a_mutation_from_somebody_is_not_believed() {
    let wrong = "return {
        number: [0, -1, 1.5, NaN, 9007199254740991, 1e300, '7', null],
        collection: [undefined, '', 7, 'x'.repeat(129)],
        key: [undefined, '', 'x'.repeat(513), 'a\\0b', 7],
        action: [undefined, 'upsert', 1, 'delete'],
        record: [null, undefined, 7, 'x', []],
        shows: [7, 'before', { record: 7 }, { patch: 7, fields: [] }, { patch: {} }],
        changed: ['n', [7], {}],
        base: [7, [], undefined],
        baseVersion: [-1, 0.5, '3', undefined],
        remote: [7, []],
        remoteVersion: [-1, undefined],
        at: [undefined, [1], [-1, 0], [Infinity, 0], [1, 70000], [1.5, 0], ['1', 0], {}],
        createdAt: [undefined, null, -1e16, NaN, Infinity, 1e300],
        sent: [undefined, 1],
        state: [undefined, 'syncing', 'gone'],
        attempts: [-1, 5e9, undefined],
        lastAttemptAt: ['8', NaN],
        nextAttemptAt: ['-1', Infinity],
        error: [{}, 7, { code: 'x' }, { code: 1, message: 'x' }],
        group: ['c', '.1', 'c.x', 7],
        origin: ['c', 'c.', 'c.-1', ''],
        behind: [undefined, 0],
    };";
    let wrong = js_sys::Function::new_no_args(wrong).call0(&JsValue::UNDEFINED);
    let wrong: Object = wrong.unwrap().unchecked_into();
    let mut tried = 0;
    for pair in Object::entries(&wrong).iter() {
        let pair: Array = pair.into();
        let field = pair.get(0).as_string().unwrap();
        let values: Array = pair.get(1).into();
        for value in values.iter() {
            let it = held();
            glue::set(&it, &field, &value);
            let fault = codec_mutation::mutation_from_js(&it, false).err();
            let named = fault.is_some_and(|f| f.starts_with(&field) || f == "record");
            assert!(named, "{field}: {value:?}: {fault:?}");
            tried += 1;
        }
    }
    assert!(tried > 70, "{tried}");
    for value in [
        JsValue::UNDEFINED,
        JsValue::NULL,
        7.into(),
        Array::new().into(),
    ] {
        assert!(codec_mutation::mutation_from_js(&value, false).is_err());
    }
}

#[wasm_bindgen_test]
fn what_cannot_be_read_of_a_copy_holds_back_its_record_and_no_other() {
    let of = |number: u32, fields: &[(&str, JsValue)]| {
        let it = held();
        glue::set(&it, "number", &number.into());
        for (field, value) in fields {
            glue::set(&it, field, value);
        }
        it
    };
    let all = Array::of4(
        &of(7, &[("attempts", JsValue::NULL)]),
        &of(8, &[]),
        &of(9, &[("collection", "notes".into())]),
        &of(10, &[("key", "r2".into()), ("record", record(2).json())]),
    );
    let (import, _, left) = super::writes::import("c", &all, true).unwrap();
    let taken: Vec<_> = import.mutations.iter().map(|m| m.mutation.no).collect();
    assert_eq!((taken, left.nos), (vec![9, 10], vec![7, 8]));
}

/// A mutation as it comes from a bulk of creations.
fn new_record(number: u32) -> crate::model::Held<Row> {
    let object = held();
    for (field, value) in [
        ("number", JsValue::from(number)),
        ("key", format!("r{number}").into()),
        ("action", "create".into()),
        ("record", record(number).json()),
        ("base", JsValue::NULL),
        ("baseVersion", 0.into()),
        ("remote", JsValue::NULL),
        ("remoteVersion", 0.into()),
        ("sent", false.into()),
        ("state", "pending".into()),
        ("attempts", 0.into()),
        ("lastAttemptAt", JsValue::NULL),
        ("nextAttemptAt", JsValue::NULL),
        ("error", JsValue::NULL),
        ("changed", JsValue::UNDEFINED),
        ("shows", JsValue::UNDEFINED),
        ("group", JsValue::UNDEFINED),
        ("origin", JsValue::UNDEFINED),
        ("behind", false.into()),
    ] {
        glue::set(&object, field, &value);
    }
    codec_mutation::mutation_from_js(&object, false).unwrap()
}

#[wasm_bindgen_test]
fn a_rescue_batch_has_new_records_as_runs_and_anything_else_whole() {
    let mut parked = new_record(3);
    parked.mutation.attempts = 1;
    let mut later = new_record(6);
    later.mutation.at.counter += 1;
    let put = vec![
        new_record(1),
        new_record(2),
        parked.clone(),
        new_record(4),
        new_record(5),
        later,
        new_record(8),
    ];
    let batch = RescueBatch {
        put,
        gone: vec![7],
        alive: Some(Alive {
            below: 9,
            stretches: vec![(1, 6), (8, 8)],
        }),
        stamp: Hlc::default(),
        next_no: 9,
        seq: 2,
        left: 7,
        versions: (2, Rc::from([("sites".into(), 1)])),
    };
    let out = rescue::batch_to_js(&batch);
    let runs: Array = get(&out, "runs").unchecked_into();
    let said = |field: &str| -> Vec<String> {
        let text = |run: JsValue| js_sys::JSON::stringify(&get(&run, field)).unwrap().into();
        runs.iter().map(text).collect()
    };
    assert_eq!(said("first"), ["1", "4", "6", "8"]);
    assert_eq!(said("count"), ["2", "2", "1", "1"]);
    assert_eq!(said("keys")[0], r#""r1\u0000r2\u0000""#);
    assert_eq!(said("rows")[3], r#"["{\"id\":\"r8\",\"n\":8}"]"#);
    let put: Array = get(&out, "put").unchecked_into();
    assert_eq!(put.length(), 1);
    assert_eq!(get(&out, "version"), 2);
    assert_eq!(get(&get(&out, "older"), "sites"), 1);
    assert_eq!(get(&put.get(0), "attempts"), 1);
    assert_eq!(get(&get(&out, "gone"), "0"), 7);
    let alive: Array = get(&out, "alive").unchecked_into();
    let alive: Vec<_> = alive.iter().filter_map(|no| no.as_f64()).collect();
    assert_eq!(alive, [9.0, 1.0, 6.0, 8.0, 8.0]);

    // What `rescue-log.js` puts back is all that a run leaves out.
    let whole = codec_mutation::mutation_to_js(&new_record(1), &Row::json);
    let run: Object = runs.get(0).unchecked_into();
    let of_run: Vec<JsValue> = Object::keys(&run).iter().collect();
    for field in ["number", "key", "record"]
        .map(JsValue::from)
        .iter()
        .chain(&of_run)
    {
        js_sys::Reflect::delete_property(&whole, field).unwrap();
    }
    let plain = r#"{"base":null,"baseVersion":0,"remote":null,"remoteVersion":0,"state":"pending","attempts":0,"lastAttemptAt":null,"nextAttemptAt":null,"error":null,"behind":false}"#;
    assert_eq!(
        String::from(js_sys::JSON::stringify(&whole).unwrap()),
        plain
    );
}
