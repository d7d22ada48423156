//! What JavaScript can call. The classes that apps use are in `npm/`; this is what they stand on:
//! few functions, callbacks instead of promises where calls are many.

use super::backend::JsBackend;
use super::clock::WebClock;
use super::codec::conflict_to_js;
use super::glue::{get, get_text};
use super::idb::{IdbStore, Lost, database_name};
use super::signals::{self, Signals};
use super::{options, view};
use crate::driver::{Listener, Manager};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::model::{Key, MutationNo, Name, parse_wire_id};
use crate::replica::plan::{Intent, Notice, Write, check_key};
use js_sys::{Array, Function};
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
            view::notices_to_js(notices, &manager.client(), entry)
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

/// The numbers of `write`'s `kind`, as in `npm/collection.js`.
const CREATE: u8 = 0;
const PUT: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;

#[wasm_bindgen]
impl Core {
    /// Opens a database. `options` as in `index.d.ts`, indexes as lists of fields.
    pub async fn open(options: JsValue, backend: JsValue, host: JsValue) -> Js<Core> {
        Self::open_inner(options, backend, host)
            .await
            .map_err(thrown)
    }

    async fn open_inner(options: JsValue, backend: JsValue, host: JsValue) -> Result<Core> {
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
        let manager =
            Manager::open(options.settings, store, backend, WebClock, online, listener).await?;
        *shared.borrow_mut() = Some(manager.clone());
        let weak: Weak<RefCell<Option<WebManager>>> = Rc::downgrade(&shared);
        let open = move || weak.upgrade().and_then(|m| m.borrow().clone());
        let signals = Signals::watch({
            let open = open.clone();
            move |event| {
                if let Some(manager) = open() {
                    manager.signal(event);
                }
            }
        });
        manager.store().watch(move |lost| {
            if let Some(manager) = open() {
                match lost {
                    // Opens it again, or shows why that cannot be.
                    Lost::Closed => manager.submit_catch_up(),
                    Lost::Gone(error) => manager.lose(&error),
                }
            }
        });
        Ok(Core {
            manager,
            shared,
            signals: RefCell::new(Some(signals)),
        })
    }

    /// Writes one item or a list of them: records (`create`, `put`), `[key, patch]` (`update`) or
    /// keys (`delete`). Calls `done(error, count)`.
    pub fn write(&self, collection: &str, kind: u8, items: &Array, done: Function) {
        match parse_writes(kind, items) {
            Ok(writes) => self.submit(Intent::Write(collection.into(), writes), done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    fn submit(&self, intent: Intent<JsValue>, done: Function) {
        self.manager
            .submit(intent, Box::new(move |result| answer(&done, result)));
    }

    /// Whether reads see everything that was written before.
    pub fn settled(&self) -> bool {
        self.manager.is_settled()
    }

    /// Calls back when they do: `done(error)`, with why the database could not be read, or `null`.
    pub fn settle(&self, done: Function) {
        let manager = self.manager.clone();
        self.manager.settle(Box::new(move || {
            let error = manager.unread();
            let error = error.map_or(JsValue::NULL, |e| view::error_to_js(&e));
            let _ = done.call1(&JsValue::UNDEFINED, &error);
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
        let query = view::parse_query(query).map_err(thrown)?;
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
        let query = view::parse_query(query).map_err(thrown)?;
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
            let no = parse_wire_id(&self.manager.client(), id);
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

fn parse_writes(kind: u8, items: &Array) -> Result<Vec<Write<JsValue>>> {
    let mut writes = Vec::with_capacity(items.length() as usize);
    for item in items.iter() {
        writes.push(match kind {
            CREATE => Write::Create(item),
            PUT => Write::Put(item),
            UPDATE => {
                let pair: Array = item.unchecked_into();
                let (key, patch, names) = (pair.get(0), pair.get(1), pair.get(2));
                let names: Array = names.unchecked_into();
                let changed = names
                    .iter()
                    .filter_map(|n| n.as_string())
                    .map(Rc::from)
                    .collect();
                Write::Update {
                    key: parse_key(&key)?,
                    patch,
                    changed,
                }
            }
            DELETE => Write::Delete(parse_key(&item)?),
            _ => return Err(Error::new(Code::InvalidOptions, "there is no such write")),
        });
    }
    Ok(writes)
}

fn parse_key(key: &JsValue) -> Result<Key> {
    let text = key.as_string().ok_or_else(|| {
        let kind = get_text(&get(key, "constructor"), "name").unwrap_or_default();
        Error::new(Code::InvalidKey, format!("a key is a string, not a {kind}"))
    })?;
    check_key(&text)?;
    Ok(text.into())
}
