//! What JavaScript can call. The classes that apps use are in `npm/`; this is what they stand on:
//! few functions, callbacks instead of promises where calls are many.

use super::backend::JsBackend;
use super::clock::WebClock;
use super::codec::conflict_to_js;
use super::codec_mutation::mutation_to_js;
use super::glue::{get, set};
use super::idb::{IdbStore, database_name};
use super::signals::{self, Signals};
use super::{options, view, writes};
use crate::driver::{Listener, Manager};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::model::{MutationNo, Name};
use crate::replica::plan::{Intent, Notice};
use js_sys::{Array, Function, Object};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use wasm_bindgen::prelude::*;

type WebManager = Manager<JsValue, IdbStore, JsBackend, WebClock>;
type Js<T> = std::result::Result<T, JsValue>;

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn thrown(error: Error) -> JsValue {
    view::error_to_js(&error)
}

/// The loader's callbacks: `{ committed(collections, notices, own), status(), failed(error) }`.
struct Host {
    object: JsValue,
    manager: Rc<RefCell<Option<WebManager>>>,
}

impl Host {
    fn call(&self, method: &str, arguments: &[&JsValue]) {
        let Ok(function) = get(&self.object, method).dyn_into::<Function>() else {
            return;
        };
        let arguments: Array = arguments.iter().copied().collect();
        // The loader's callbacks catch what the app's handlers throw.
        let _ = function.apply(&self.object, &arguments);
    }
}

impl Listener<JsValue> for Host {
    fn committed(&self, collections: &[Name], notices: &[Notice<JsValue>], own: bool) {
        let names: Array = collections.iter().map(|c| super::glue::name(c)).collect();
        let manager = self.manager.borrow();
        let notices = manager.as_ref().map_or_else(Array::new, |manager| {
            let entry = |no| manager.outbox_entry(no).map(|e| view::entry_to_js(&e));
            view::notices_to_js(notices, entry)
        });
        self.call("committed", &[&names, &notices, &own.into()]);
    }

    fn status_changed(&self) {
        self.call("status", &[]);
    }

    fn failed(&self, error: &Error) {
        self.call("failed", &[&view::error_to_js(error)]);
    }
}

/// One open database.
#[wasm_bindgen]
pub struct Core {
    manager: WebManager,
    shared: Rc<RefCell<Option<WebManager>>>,
    signals: RefCell<Option<Signals>>,
}

#[wasm_bindgen]
impl Core {
    /// Opens a database. `options` as in `index.d.ts`, indexes as lists of fields.
    /// `migrate(collection, record, from)` answers the record in the app's version.
    pub async fn open(
        options: JsValue,
        backend: JsValue,
        host: JsValue,
        migrate: JsValue,
    ) -> Js<Core> {
        Self::open_inner(options, backend, host, migrate)
            .await
            .map_err(thrown)
    }

    async fn open_inner(
        options: JsValue,
        backend: JsValue,
        host: JsValue,
        migrate: JsValue,
    ) -> Result<Core> {
        let backend = JsBackend::new(backend)?;
        let options = options::parse(options, backend.is_some())?;
        crate::options::check(&options.settings.collections)?;
        let name = database_name(&options.name, &options.user);
        let store = IdbStore::open(name, options.durability, options.keys).await?;
        let shared = Rc::new(RefCell::new(None));
        let listener = Box::new(Host {
            object: host,
            manager: shared.clone(),
        });
        let online = signals::online();
        let (settings, migrate) = (options.settings, writes::migration(migrate));
        let manager = Manager::open(
            settings, store, backend, WebClock, online, listener, migrate,
        )
        .await?;
        *shared.borrow_mut() = Some(manager.clone());
        let weak: Weak<RefCell<Option<WebManager>>> = Rc::downgrade(&shared);
        let signals = Signals::watch(move |event| {
            let manager = weak.upgrade().and_then(|m| m.borrow().clone());
            if let Some(manager) = manager {
                manager.signal(event);
            }
        });
        Ok(Core {
            manager,
            shared,
            signals: RefCell::new(Some(signals)),
        })
    }

    /// Writes one item or a list of them: records (`create`, `put`), `[key, patch, fields]`
    /// (`update`) or keys (`delete`, `promote`). `options` are `{ localOnly, optimistic }`. Calls
    /// `done(error, count)`: when it is durable, or confirmed where it does not show before.
    pub fn write(
        &self,
        collection: &str,
        kind: u8,
        items: &Array,
        options: &JsValue,
        done: Function,
    ) {
        let options = writes::options(options);
        match writes::all(kind, items) {
            Ok(writes) => self.submit(Intent::Write(collection.into(), writes, options), done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    /// Writes to several collections, all or none: `writes` are `[collection, kind, item, options]`,
    /// `reads` are `[collection, key, record or undefined, newest]` and must still be true. `grouped`
    /// makes the mutations one atomic group.
    pub fn transact(&self, writes: &Array, reads: &Array, grouped: bool, done: Function) {
        match writes::transaction(writes, reads, grouped) {
            Ok(transaction) => self.submit(Intent::Transaction(transaction), done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    /// The newest content of a record, with changes that do not show yet.
    pub fn newest(&self, collection: &str, key: &str) -> Js<JsValue> {
        let found = self.manager.newest(collection, key).map_err(thrown)?;
        Ok(found.unwrap_or(JsValue::UNDEFINED))
    }

    /// Everything that the backend has not confirmed: `{ client, mutations }`.
    pub fn unsynced(&self) -> Object {
        let out = Object::new();
        set(&out, "client", &JsValue::from_str(&self.manager.client()));
        let held = self.manager.unsynced();
        let mutations: Array = held.iter().map(mutation_to_js).collect();
        set(&out, "mutations", &mutations);
        out
    }

    /// Takes mutations over that another database has handed out. Calls `done(error, count)`.
    pub fn import(&self, client: &str, mutations: &Array, done: Function) {
        match writes::import(client, mutations) {
            Ok(import) => self.submit(Intent::Import(import), done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    /// The name of the IndexedDB database of an app's user.
    #[wasm_bindgen(js_name = databaseName)]
    pub fn database_name(app: &str, user: &str) -> String {
        database_name(app, user)
    }

    fn submit(&self, intent: Intent<JsValue>, done: Function) {
        self.manager
            .submit(intent, Box::new(move |result| answer(&done, result)));
    }

    /// Whether reads see everything that was written before.
    pub fn settled(&self) -> bool {
        self.manager.is_settled()
    }

    /// Calls back when they do.
    pub fn settle(&self, done: Function) {
        self.manager.settle(Box::new(move || {
            let _ = done.call0(&JsValue::UNDEFINED);
        }));
    }

    /// One record, or `undefined`.
    pub fn get(&self, collection: &str, key: &str) -> Js<JsValue> {
        let found = self.manager.get(collection, key).map_err(thrown)?;
        Ok(found.unwrap_or(JsValue::UNDEFINED))
    }

    /// All records, by key.
    pub fn all(&self, collection: &str) -> Js<Array> {
        let out = Array::new();
        let push = |value: &JsValue| {
            out.push(value);
        };
        self.manager.each(collection, push).map_err(thrown)?;
        Ok(out)
    }

    /// The records that a query selects.
    pub fn find(&self, collection: &str, query: &JsValue) -> Js<Array> {
        let key_field = self.manager.key_field(collection).map_err(thrown)?;
        let query = view::parse_query(query, &key_field).map_err(thrown)?;
        let out = Array::new();
        let push = |value: &JsValue| {
            out.push(value);
        };
        self.manager
            .find(collection, &query, push)
            .map_err(thrown)?;
        Ok(out)
    }

    /// How many records a query selects.
    pub fn count(&self, collection: &str, query: &JsValue) -> Js<f64> {
        let key_field = self.manager.key_field(collection).map_err(thrown)?;
        let query = view::parse_query(query, &key_field).map_err(thrown)?;
        self.manager
            .count(collection, &query)
            .map(|n| n as f64)
            .map_err(thrown)
    }

    /// The state of a record, or `undefined`.
    pub fn state(&self, collection: &str, key: &str) -> Js<JsValue> {
        let state = self.manager.state(collection, key).map_err(thrown)?;
        Ok(state.map_or(JsValue::UNDEFINED, super::glue::name))
    }

    /// The queue.
    #[wasm_bindgen(js_name = outboxList)]
    pub fn outbox_list(&self, filter: &JsValue) -> Array {
        let entries = self.manager.outbox(&view::parse_filter(filter));
        entries.iter().map(view::entry_to_js).collect()
    }

    /// `retry`, `retryAll`, `discard` and `clearConflicts`. Calls `done(error, count)`.
    pub fn act(&self, kind: &str, id: &str, done: Function) {
        let number = || -> Result<MutationNo> {
            let no = self.manager.find_mutation(id);
            no.ok_or_else(|| Error::new(Code::NotFound, "there is no such mutation"))
        };
        let intent = match kind {
            "retryAll" => Ok(Intent::Retry(None)),
            "retry" => number().map(|no| Intent::Retry(Some(no))),
            "discard" => number().map(Intent::Discard),
            _ => Ok(Intent::ClearConflicts),
        };
        match intent {
            Ok(intent) => self.submit(intent, done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    /// The conflict log, newest first.
    pub fn conflicts(&self) -> Array {
        self.manager
            .conflicts()
            .iter()
            .map(|c| conflict_to_js(c))
            .collect()
    }

    /// The status, but for what the loader adds.
    pub fn status(&self) -> JsValue {
        view::status_to_js(&self.manager.status())
    }

    /// Tells the engine what has happened.
    pub fn signal(&self, what: &str) {
        let event = match what {
            "resume" => Event::Resume,
            "pause" => Event::Pause,
            "sync" => Event::Sync,
            "poke" => Event::Poke,
            "lead" => Event::Leader(true),
            "follow" => Event::Leader(false),
            _ => Event::Tick,
        };
        self.manager.signal(event);
    }

    /// Another tab has written.
    #[wasm_bindgen(js_name = catchUp)]
    pub fn catch_up(&self) {
        self.manager.submit_catch_up();
    }

    /// Stops syncing and lets the database go, after what was asked for is durable.
    pub fn close(&self, done: Function) {
        self.signals.borrow_mut().take();
        self.manager.signal(Event::Close);
        let (manager, shared) = (self.manager.clone(), self.shared.clone());
        self.manager.settle(Box::new(move || {
            manager.store().close();
            shared.borrow_mut().take();
            let _ = done.call0(&JsValue::UNDEFINED);
        }));
    }
}

fn answer(done: &Function, result: Result<usize>) {
    let called = match result {
        Ok(count) => done.call2(&JsValue::UNDEFINED, &JsValue::NULL, &(count as f64).into()),
        Err(error) => done.call1(&JsValue::UNDEFINED, &thrown(error)),
    };
    // The loader's callback only settles a promise.
    let _ = called;
}
