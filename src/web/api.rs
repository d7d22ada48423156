//! What JavaScript can call. The classes that apps use are in `npm/`; this is what they stand on:
//! few functions, callbacks instead of promises where calls are many.

use super::backend::JsBackend;
use super::clock::WebClock;
use super::codec::set_versions;
use super::codec_mutation::mutation_to_js;
use super::glue::{get, set};
use super::host::Host;
use super::idb::{IdbStore, Lost};
use super::signals::{self, Signals};
use super::value::{Row, Rows};
use super::{options, view, writes};
use crate::driver::{Manager, Settings};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::model::{MutationNo, Name};
use crate::replica::index::Query;
use crate::replica::plan::{Intent, WriteOptions};
use crate::value::Value;
use js_sys::{Array, Function, Object};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use wasm_bindgen::prelude::*;

pub(super) type WebManager = Manager<Row, IdbStore, JsBackend, WebClock>;
type Js<T> = std::result::Result<T, JsValue>;

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn thrown(error: Error) -> JsValue {
    view::error_to_js(&error)
}

/// What a core is made of.
struct Opening {
    settings: Settings,
    keys: super::codec::KeyFields,
    store: IdbStore,
    backend: Option<JsBackend>,
    host: JsValue,
    migrate: JsValue,
}

impl Opening {
    async fn run(self) -> Result<Core> {
        let shared = Rc::new(RefCell::new(None));
        let listener = Box::new(Host {
            object: self.host,
            manager: shared.clone(),
        });
        let manager = Manager::open(
            self.settings,
            self.store,
            self.backend,
            WebClock,
            signals::online(),
            listener,
            writes::migration(self.migrate),
        )
        .await?;
        *shared.borrow_mut() = Some(manager.clone());
        Ok(Core {
            manager,
            shared,
            signals: RefCell::new(None),
            keys: self.keys,
            missing: RefCell::default(),
        })
    }
}

/// One open database.
#[wasm_bindgen]
pub struct Core {
    pub(super) manager: WebManager,
    shared: Rc<RefCell<Option<WebManager>>>,
    signals: RefCell<Option<Signals>>,
    keys: super::codec::KeyFields,
    /// What reads have asked for that is not in memory.
    missing: RefCell<Vec<Row>>,
}

#[wasm_bindgen]
impl Core {
    /// Opens a database. `options` as in `index.d.ts`, with the name of the `database` in place of `name` and
    /// `user`, indexes as lists of fields.
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
        let has_backend = !backend.is_undefined() && !backend.is_null();
        let options = options::parse(&options, has_backend)?;
        let backend = JsBackend::new(backend, &options.keys)?;
        crate::options::check(&options.settings.collections)?;
        let keys = options.keys.clone();
        let memory = options.memory_bytes;
        let reached = get(&host, "reached").dyn_into().ok();
        let (name, durability) = (options.database, options.durability);
        let store = IdbStore::open(name, durability, options.keys, memory, reached).await?;
        let opening = Opening {
            settings: options.settings,
            keys,
            store,
            backend,
            host,
            migrate,
        };
        let core = opening.run().await?;
        let weak: Weak<RefCell<Option<WebManager>>> = Rc::downgrade(&core.shared);
        let open = move || weak.upgrade().and_then(|m| m.borrow().clone());
        let (seen, hidden) = (open.clone(), open.clone());
        let signals = Signals::watch(
            move |event| {
                if let Some(manager) = seen() {
                    manager.signal(event);
                }
            },
            move || {
                if let Some(manager) = hidden() {
                    manager.hide();
                }
            },
        );
        core.manager.store().watch(move |lost| {
            if let Some(manager) = open() {
                match lost {
                    // Opens it again, or shows why that cannot be.
                    Lost::Closed => manager.submit_catch_up(),
                    Lost::Gone(error) => manager.lose(&error),
                }
            }
        });
        *core.signals.borrow_mut() = Some(signals);
        Ok(core)
    }

    /// A core without a database, for a rehearsal (`npm/rehearsal.js`): what is written to it goes nowhere.
    pub async fn rehearsal(options: JsValue) -> Js<Core> {
        Self::rehearsal_inner(options).await.map_err(thrown)
    }

    async fn rehearsal_inner(options: JsValue) -> Result<Core> {
        let options = options::parse(&options, false)?;
        let store = IdbStore::nowhere(options.keys.clone());
        let opening = Opening {
            settings: options.settings,
            keys: options.keys,
            store,
            backend: None,
            host: JsValue::UNDEFINED,
            migrate: JsValue::UNDEFINED,
        };
        opening.run().await
    }

    /// Writes one item or a list of them: records (`create`, `put`) as objects or as JSON texts, `[key,
    /// patch, fields]` (`update`) or keys (`delete`, `promote`). `options` are `{ localOnly, optimistic }`.
    /// `keys` has the records' keys, each with a U+0000 after it; without it they are looked up. Calls
    /// `done(error, count)`: when it is durable, or confirmed where it does not show before.
    pub fn write(
        &self,
        collection: &str,
        kind: u8,
        items: &Array,
        options: &JsValue,
        done: Function,
        keys: &JsValue,
    ) {
        let options = writes::options(options);
        let field = self.keys.get(collection);
        match writes::all(kind, items, field, keys) {
            Ok(writes) => self.submit(Intent::Write(collection.into(), writes, options), done),
            Err(error) => answer(&done, Err(error)),
        }
    }

    /// Writes several items of one kind (`create`, `put`, `update`), each for itself; see `writes::each`.
    /// Calls `done(errors)` when all are durable or refused: an array with an error where there was one,
    /// or `null`.
    #[wasm_bindgen(js_name = writeEach)]
    pub fn write_each(&self, collection: &str, kind: u8, run: &JsValue, done: Function) {
        let name: Name = collection.into();
        let field = self.keys.get(collection);
        let writes = writes::each(kind, run, field);
        let all = Rc::new(Each {
            left: Cell::new(writes.len()),
            errors: RefCell::new(None),
            done,
        });
        for (write, at) in writes.into_iter().zip(0..) {
            let all = all.clone();
            let done = Box::new(move |result: Result<usize>| all.note(at, result.err()));
            match write {
                Ok(write) => {
                    let (name, writes) = (name.clone(), vec![write]);
                    let intent = Intent::Write(name, writes, WriteOptions::default());
                    self.manager.submit(intent, done);
                }
                Err(error) => done(Err(error)),
            }
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

    /// The key under which a record is: the same, unless the backend has given it another.
    pub fn present(&self, collection: &str, key: &str) -> String {
        self.manager.present_key(collection, key).to_string()
    }

    /// The newest content of a record, with changes that do not show yet.
    pub fn newest(&self, collection: &str, key: &str) -> Js<JsValue> {
        let found = self.manager.newest(collection, key).map_err(thrown)?;
        self.sound(collection, self.shown(found))
    }

    /// Everything that the backend has not confirmed: `{ client, mutations, version, older? }`.
    pub fn unsynced(&self) -> Object {
        let out = Object::new();
        set(&out, "client", &JsValue::from_str(&self.manager.client()));
        let mut held = self.manager.unsynced();
        // A backup with one that is damaged would be refused as a whole.
        held.retain(|held| held.mutation.value.as_ref().is_none_or(Row::is_sound));
        let write = |row: &Row| self.shown(Some(row.clone()));
        let mutations: Array = held.iter().map(|h| mutation_to_js(h, &write)).collect();
        set(&out, "mutations", &mutations);
        let (version, older) = self.manager.data_versions();
        set_versions(&out, version, &older);
        out
    }

    /// Takes mutations over that another database has handed out. `late`: some may have been confirmed
    /// since, and what cannot be taken over is left. Calls `done(error, count, left)`: `[why, number, …]`. Each
    /// says of which version of the app's data it is (`dataVersion`); one that does not is taken as it is.
    pub fn import(&self, client: &str, mutations: &Array, late: bool, done: Function) {
        let read =
            writes::import(client, mutations, late).and_then(|(mut import, versions, left)| {
                let more = self.manager.migrate_import(&mut import, &versions)?;
                Ok((import, left, more))
            });
        let (import, strange, newer) = match read {
            Ok(all) => all,
            Err(error) => return answer(&done, Err(error)),
        };
        let left = import.left.clone().unwrap_or_default();
        let tell = move |result| {
            let Ok(count) = result else {
                return answer(&done, result);
            };
            let told = left.take();
            let why = strange.why.or(newer.why).or(told.why);
            let left = Array::of1(&why.map_or(JsValue::NULL, thrown));
            for no in strange.nos.iter().chain(&newer.nos).chain(&told.nos) {
                left.push(&(*no as f64).into());
            }
            // The loader's callback only settles a promise.
            let (nothing, count) = (JsValue::NULL, (count as f64).into());
            let _ = done.call3(&JsValue::UNDEFINED, &nothing, &count, &left);
        };
        self.manager.submit(Intent::Import(import), Box::new(tell));
    }

    pub(super) fn submit(&self, intent: Intent<Row>, done: Function) {
        self.manager
            .submit(intent, Box::new(move |result| answer(&done, result)));
    }

    /// Whether it was not closed, by the app or because its database is gone.
    #[wasm_bindgen(js_name = isOpen)]
    pub fn is_open(&self) -> bool {
        self.manager.is_open()
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

    /// Whether what was asked since the last time was not all in memory: the answer was worth nothing
    /// then, and has to be asked for again after `fetch`.
    pub fn missed(&self) -> bool {
        !self.missing.borrow().is_empty()
    }

    /// Brings into memory what was missed. Calls `done(error)`; what is asked in it finds everything.
    pub fn fetch(&self, done: Function) {
        let missing = self.missing.take();
        let manager = self.manager.clone();
        wasm_bindgen_futures::spawn_local(async move {
            answer(&done, manager.fetch_values(missing).await.map(|()| 0));
        });
    }

    /// Folds the log now. Calls `done(error, 1 or 0)`.
    pub fn fold(&self, done: Function) {
        let manager = self.manager.clone();
        wasm_bindgen_futures::spawn_local(async move {
            answer(&done, manager.fold().await.map(usize::from));
        });
    }

    /// Deletes what compactions have left. Only while no other tab has the database open.
    pub fn sweep(&self, done: Function) {
        let manager = self.manager.clone();
        wasm_bindgen_futures::spawn_local(async move {
            answer(&done, manager.sweep().await.map(|()| 0));
        });
    }

    /// This database's id.
    pub fn client(&self) -> String {
        self.manager.client().to_string()
    }

    /// Whether nothing was ever stored here.
    pub fn fresh(&self) -> bool {
        self.manager.is_fresh()
    }

    /// From now on `host.rescue({ put, runs, gone, alive, next, stamp, seq, left })` is called after commits, and first for
    /// what a copy whose newest batch had this `next` and `stamp` (`[ms, counter]`) may lack. `whole`: the
    /// first one takes the place of another database's copy.
    #[wasm_bindgen(js_name = startRescue)]
    pub fn start_rescue(&self, next: f64, stamp: &Array, whole: bool) {
        let part = |at| stamp.get(at).as_f64().unwrap_or(0.0);
        let (ms, counter) = (part(0), part(1) as u32);
        let stamp = Hlc { ms, counter };
        self.manager.start_rescue(next as MutationNo, stamp, whole);
    }

    /// One record, or `undefined`.
    pub fn get(&self, collection: &str, key: &str) -> Js<JsValue> {
        let found = self.manager.get(collection, key).map_err(thrown)?;
        self.sound(collection, self.shown(found))
    }

    /// All records, by key.
    pub fn all(&self, collection: &str) -> Js<Array> {
        let mut out = Objects::default();
        let push = |row: &Row| out.push(row);
        self.manager.each(collection, push).map_err(thrown)?;
        Ok(self.found(collection, out))
    }

    /// The records that a query selects.
    pub fn find(&self, collection: &str, query: &JsValue) -> Js<Array> {
        let Some(query) = self.query(collection, query).map_err(thrown)? else {
            return Ok(Array::new());
        };
        let mut out = Objects::default();
        let push = |row: &Row| out.push(row);
        self.manager
            .find(collection, &query, push)
            .map_err(thrown)?;
        Ok(self.found(collection, out))
    }

    /// How many records a query selects.
    pub fn count(&self, collection: &str, query: &JsValue) -> Js<f64> {
        let Some(query) = self.query(collection, query).map_err(thrown)? else {
            return Ok(0.0);
        };
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

    /// When the oldest change in the queue was made, or `undefined`.
    pub fn oldest(&self) -> Option<f64> {
        self.manager.oldest_ms()
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
            "crowded" => return self.manager.take_turns(),
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

    /// Stops syncing and lets the database go, after what was asked for is durable and in the rescue copy.
    pub fn close(&self, done: Function) {
        self.signals.borrow_mut().take();
        self.manager.signal(Event::Close);
        let (manager, shared) = (self.manager.clone(), self.shared.clone());
        self.manager.settle(Box::new(move || {
            wasm_bindgen_futures::spawn_local(async move {
                manager.rescue_last().await;
                manager.store().close();
                shared.borrow_mut().take();
                // The loader's callback only settles a promise.
                let _ = done.call0(&JsValue::UNDEFINED);
            });
        }));
    }
}

/// Writes that are answered together, though each has an answer of its own.
struct Each {
    left: Cell<usize>,
    errors: RefCell<Option<Array>>,
    done: Function,
}

impl Each {
    fn note(&self, at: u32, error: Option<Error>) {
        if let Some(error) = error {
            let mut errors = self.errors.borrow_mut();
            errors.get_or_insert_default().set(at, thrown(error));
        }
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            let errors = self.errors.take().map_or(JsValue::NULL, JsValue::from);
            // The loader's callback only settles promises.
            let _ = self.done.call1(&JsValue::UNDEFINED, &errors);
        }
    }
}

pub(super) fn answer(done: &Function, result: Result<usize>) {
    let called = match result {
        Ok(count) => done.call2(&JsValue::UNDEFINED, &JsValue::NULL, &(count as f64).into()),
        Err(error) => done.call1(&JsValue::UNDEFINED, &thrown(error)),
    };
    // The loader's callback only settles a promise.
    let _ = called;
}

/// Records for the app. Those that stand together are handed over together.
#[derive(Default)]
struct Objects {
    out: Array,
    missing: Vec<Row>,
    range: Option<(Rc<Rows>, u32, u32)>,
}

impl Objects {
    fn push(&mut self, row: &Row) {
        if let Some((rows, _, to)) = &mut self.range
            && Rc::ptr_eq(rows, &row.rows)
            && *to == row.at
        {
            *to += 1;
            return;
        }
        self.flush();
        if !row.is_resident() {
            self.missing.push(row.clone());
            return;
        }
        self.range = Some((row.rows.clone(), row.at, row.at + 1));
    }

    fn flush(&mut self) {
        if let Some((rows, from, to)) = self.range.take() {
            rows.push_objects(&self.out, from, to);
        }
    }
}

impl Core {
    fn found(&self, collection: &str, mut objects: Objects) -> Array {
        objects.flush();
        self.missing.borrow_mut().append(&mut objects.missing);
        if !objects.out.includes(&JsValue::NULL, 0) {
            return objects.out;
        }
        self.manager.heal(collection);
        objects.out.filter(&mut |it, _, _| !it.is_null())
    }

    /// What is damaged is no record, but not nothing either.
    fn sound(&self, collection: &str, shown: JsValue) -> Js<JsValue> {
        match shown.is_null() {
            true => Err(thrown(self.manager.heal(collection))),
            false => Ok(shown),
        }
    }

    /// A record for the app; one that is not in memory is noted.
    pub(super) fn shown(&self, row: Option<Row>) -> JsValue {
        match row {
            Some(row) if row.is_resident() => row.object(),
            Some(row) => {
                self.missing.borrow_mut().push(row);
                JsValue::UNDEFINED
            }
            None => JsValue::UNDEFINED,
        }
    }

    fn query(&self, collection: &str, query: &JsValue) -> Result<Option<Query>> {
        let key_field = self.manager.key_field(collection)?;
        let query = view::parse_query(query, &key_field)?;
        let mut missing = self.manager.missing_for_query(collection, &query);
        let complete = missing.is_empty();
        self.missing.borrow_mut().append(&mut missing);
        Ok(complete.then_some(query))
    }
}
