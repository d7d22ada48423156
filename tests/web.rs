//! The JavaScript-callable core in a real browser: IndexedDB, timers and a backend in JavaScript.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

use js_sys::{Array, Function, Object, Promise, Reflect};
use landfall::web::Core;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

fn js(source: &str) -> JsValue {
    Function::new_no_args(&format!("return ({source});"))
        .call0(&JsValue::UNDEFINED)
        .unwrap()
}

fn get(object: &JsValue, field: &str) -> JsValue {
    Reflect::get(object, &field.into()).unwrap()
}

fn json(value: &JsValue) -> String {
    js_sys::JSON::stringify(value).unwrap().into()
}

fn options(name: &str, more: &str) -> JsValue {
    js(&format!(
        "{{ database: {name:?} + Math.random(), interval: 0, collections: {{
           sites: {{ key: 'id', indexes: [['country', 'name']] }} }} {more} }}"
    ))
}

/// A backend that takes everything, and notes it in `seen`.
fn backend() -> JsValue {
    js("{
        seen: [],
        async push(changes) {
            this.seen.push(...changes);
            return { results: changes.map(({ id, offlineId }, i) =>
                ({ id, offlineId, serverId: offlineId, status: 'success', versionNumber: i + 1 })) };
        },
        async pull(checkpoint) {
            return { changes: checkpoint ? [] : [{ type: 'sites', id: 'p', versionNumber: 5,
                data: { id: 'p', country: 'CH', name: 'Bern' } }], checkpoint: 'c', hasMore: false };
        },
    }")
}

async fn open(options: &JsValue, backend: &JsValue) -> Result<Core, JsValue> {
    let migrate = JsValue::UNDEFINED;
    Core::open(options.clone(), backend.clone(), js("{}"), migrate).await
}

async fn called(run: impl FnOnce(Function)) -> Result<JsValue, JsValue> {
    let mut run = Some(run);
    let promise = Promise::new(&mut |resolve, reject| {
        let done = Function::new_with_args(
            "resolve, reject",
            "return (error, value) => error ? reject(error) : resolve(value);",
        );
        let done = done.call2(&JsValue::UNDEFINED, &resolve, &reject).unwrap();
        if let Some(run) = run.take() {
            run(done.unchecked_into());
        }
    });
    JsFuture::from(promise).await
}

async fn put(core: &Core, record: &str) -> Result<JsValue, JsValue> {
    let records = Array::of1(&js(record));
    called(|done| {
        core.write(
            "sites",
            1,
            &records,
            &JsValue::UNDEFINED,
            done,
            &JsValue::UNDEFINED,
        );
    })
    .await
}

async fn settled(core: &Core) {
    called(|done| core.settle(done)).await.unwrap();
}

async fn until(core: &Core, wanted: impl Fn(&JsValue) -> bool) {
    for _ in 0..500 {
        if wanted(&core.status()) {
            return;
        }
        gloo_timers::future::TimeoutFuture::new(10).await;
    }
    panic!("never; the status is {}", json(&core.status()));
}

/// The names of all databases of this origin.
async fn databases() -> String {
    let asked = js("indexedDB.databases().then((all) => all.map(({ name }) => name).sort())");
    json(
        &JsFuture::from(asked.unchecked_into::<Promise>())
            .await
            .unwrap(),
    )
}

#[wasm_bindgen_test]
async fn a_rehearsal_writes_to_no_database() {
    let before = databases().await;
    let core = Core::rehearsal(options("rehearsal", "")).await.unwrap();
    for n in 0..3 {
        put(
            &core,
            &format!("{{ id: 'r{n}', country: 'CH', name: 'Chur' }}"),
        )
        .await
        .unwrap();
    }
    assert_eq!(get(&get(&core.status(), "outbox"), "pending"), 3);
    called(|done| core.close(done)).await.unwrap();
    assert_eq!(databases().await, before);
}

#[wasm_bindgen_test]
async fn what_was_written_is_there_after_reopening_and_is_queued() {
    let options = options("reopen", "");
    let core = open(&options, &JsValue::UNDEFINED).await.unwrap();
    put(&core, "{ id: 'a', country: 'CH', name: 'Zug' }")
        .await
        .unwrap();
    put(&core, "{ id: 'b', country: 'CH', name: 'Bern' }")
        .await
        .unwrap();
    // No close: as if the page had been dropped.
    let again = open(&options, &JsValue::UNDEFINED).await.unwrap();
    assert_eq!(get(&get(&again.status(), "outbox"), "pending"), 2);
    settled(&again).await;
    assert_eq!(
        json(&again.get("sites", "a").unwrap()),
        r#"{"id":"a","country":"CH","name":"Zug"}"#
    );
    let query = js("{ index: ['country', 'name'], equals: 'CH', order: 'desc' }");
    let found: Array = again.find("sites", &query).unwrap();
    assert_eq!(json(&get(&found.get(0), "id")), r#""a""#);
    assert_eq!(again.outbox_list(&JsValue::UNDEFINED).length(), 2);
    assert_eq!(again.state("sites", "a").unwrap(), "pending");
}

#[wasm_bindgen_test]
async fn it_pushes_and_pulls_through_a_backend_in_javascript() {
    let backend = backend();
    let core = open(&options("sync", ""), &backend).await.unwrap();
    put(&core, "{ id: 'a', n: 1 }").await.unwrap();
    core.signal("lead");
    until(&core, |s| {
        get(&get(s, "outbox"), "pending") == 0 && get(s, "phase") == "idle"
    })
    .await;
    let seen: Array = get(&backend, "seen").into();
    assert_eq!(seen.length(), 1);
    let change = seen.get(0);
    assert_eq!(
        (get(&change, "action"), get(&change, "versionNumber")),
        ("create".into(), 0.into())
    );
    assert_eq!(json(&get(&change, "data")), r#"{"id":"a","n":1}"#);
    settled(&core).await;
    assert_eq!(
        json(&get(&core.get("sites", "p").unwrap(), "name")),
        r#""Bern""#
    );
    assert_eq!(core.state("sites", "a").unwrap(), "synced");
}

#[wasm_bindgen_test]
async fn what_a_backend_throws_or_answers_never_loses_a_change() {
    let faults = [
        (
            "push: async () => { throw { status: 500, message: 'down' } }",
            "server-error",
        ),
        ("push: () => { throw new TypeError('cut') }", "network"),
        ("push: async () => ({ results: [] })", "protocol-error"),
        ("push: async () => 'thanks'", "protocol-error"),
        ("push: async () => null", "protocol-error"),
        (
            "push: async () => ({ results: [{ id: 'x.1', status: 'success', versionNumber: 1 }] })",
            "protocol-error",
        ),
        (
            "push: async (c) => ({ results: [{ id: c[0].id, status: 'fine' }] })",
            "protocol-error",
        ),
        (
            "push: async (c) => ({ results: [{ id: c[0].id, status: 'success' }] })",
            "protocol-error",
        ),
        (
            "push: async (c) => ({ results: [{ id: c[0].id, status: 'success', versionNumber: 1.5 }] })",
            "protocol-error",
        ),
        (
            "push: async () => { throw { status: 429, retryAfterMs: 60000 } }",
            "throttled",
        ),
        ("push: async () => { throw { status: 401 } }", "needs-auth"),
    ];
    for (push, code) in faults {
        let backend = js(&format!(
            "{{ {push}, pull: async () => ({{ changes: [], checkpoint: 'c', hasMore: false }}) }}"
        ));
        let core = open(&options("faults", ""), &backend).await.unwrap();
        put(&core, "{ id: 'a' }").await.unwrap();
        core.signal("lead");
        until(&core, |s| get(s, "error").is_object()).await;
        let error = get(&core.status(), "error");
        assert_eq!(get(&error, "code"), code, "{push}: {}", json(&error));
        assert!(get(&error, "hint").as_string().unwrap().len() > 10);
        assert_eq!(get(&get(&core.status(), "outbox"), "pending"), 1, "{push}");
        core.signal("pause");
    }
}

#[wasm_bindgen_test]
async fn hostile_pages_are_refused_whole() {
    let good = "{ type: 'sites', id: 'g', versionNumber: 1, data: { id: 'g' } }";
    let pages = [
        "{ type: 'sites', id: 'x', versionNumber: 1, data: { id: 'y' } }",
        "{ type: 'sites', id: 'x', versionNumber: 1, data: { name: 'no key' } }",
        "{ type: 'sites', id: 'x', versionNumber: 1 }",
        "{ type: 'sites', id: 'x', versionNumber: 0, data: { id: 'x' } }",
        "{ type: 'sites', id: 'x', versionNumber: -1, data: { id: 'x' } }",
        "{ type: 'sites', id: 7, versionNumber: 1, data: { id: 'x' } }",
        "{ type: 'sites', id: 'x'.repeat(600), versionNumber: 1, data: { id: 'x'.repeat(600) } }",
        "{ type: 'sites', id: 'x', versionNumber: 1, data: [1] }",
        "7",
        "null",
    ];
    for page in pages {
        let backend = js(&format!(
            "{{ push: async () => ({{ results: [] }}), pull: async () =>
                ({{ changes: [{good}, {page}], checkpoint: 'c', hasMore: false }}) }}"
        ));
        let core = open(&options("hostile", ""), &backend).await.unwrap();
        core.signal("lead");
        until(&core, |s| get(s, "error").is_object()).await;
        assert_eq!(
            get(&get(&core.status(), "error"), "code"),
            "protocol-error",
            "{page}"
        );
        settled(&core).await;
        assert_eq!(
            core.all("sites").unwrap().length(),
            0,
            "nothing of the page: {page}"
        );
        core.signal("pause");
    }
}

#[wasm_bindgen_test]
async fn wrong_options_are_named() {
    let wrong = [
        ("{}", "database"),
        (
            "{ database: '', collections: { a: { key: 'id' } } }",
            "database",
        ),
        ("{ database: 'x', collections: {} }", "collections"),
        (
            "{ database: 'x', collections: { a: { key: '' } } }",
            "collections.a.key",
        ),
        (
            "{ database: 'x', collections: { a: { key: 'id', conflict: 'luck' } } }",
            "conflict",
        ),
        (
            "{ database: 'x', collections: { a: { key: 'id', references: { b: 'c' } } } }",
            "references",
        ),
        (
            "{ database: 'x', durability: 'hope', collections: { a: { key: 'id' } } }",
            "durability",
        ),
        (
            "{ database: 'x', maxAttempts: 0, collections: { a: { key: 'id' } } }",
            "maxAttempts",
        ),
        (
            "{ database: 'x', interval: -1, collections: { a: { key: 'id' } } }",
            "interval",
        ),
    ];
    for (options, part) in wrong {
        let error = open(&js(options), &JsValue::UNDEFINED).await.err().unwrap();
        assert_eq!(get(&error, "code"), "invalid-options", "{options}");
        let message = get(&error, "message").as_string().unwrap();
        assert!(message.contains(part), "{options}: {message}");
    }
    let no_backend = open(&options("backend", ""), &Object::new().into())
        .await
        .err()
        .unwrap();
    assert_eq!(get(&no_backend, "code"), "invalid-options");
}

#[wasm_bindgen_test]
async fn many_writes_at_once_and_two_tabs() {
    let options = options("tabs", "");
    let a = open(&options, &JsValue::UNDEFINED).await.unwrap();
    let b = open(&options, &JsValue::UNDEFINED).await.unwrap();
    for round in 0..20 {
        let one = format!("{{ id: 's{}', n: {round} }}", round % 3);
        let other = format!("{{ id: 's{}', n: {} }}", round % 4, 100 + round);
        let (one, other) = futures_util::join!(put(&a, &one), put(&b, &other));
        one.unwrap();
        other.unwrap();
    }
    a.catch_up();
    b.catch_up();
    settled(&a).await;
    settled(&b).await;
    let all = |core: &Core| json(&core.all("sites").unwrap().into());
    assert_eq!(all(&a), all(&b));
    assert_eq!(a.all("sites").unwrap().length(), 4);
    let pending = |core: &Core| get(&get(&core.status(), "outbox"), "pending");
    assert_eq!(pending(&a), pending(&b));
}
