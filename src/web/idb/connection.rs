//! The connection to the database: opened, verified, lost and opened again.
//!
//! A browser may close it at any time: the site's data is deleted, the disk fails, another tab wants
//! to upgrade or delete the database. Then the next transaction opens it again, at most three times
//! for one call. What it finds must be the database that this tab has loaded: entries written on
//! top of another one would claim records that are not there, so its identity is compared, and where
//! it is gone or another, the store is lost for good. A newer tab's upgrade is never held up: the
//! connection closes at once, and stays so.
//!
//! Tested against real browsers in `tests/e2e/cases/bad-days*.mjs`.

use super::super::glue::{self, get, get_text};
use super::super::request::{Ended, append, ended, no_answer, result};
use super::ahead::Ahead;
use super::segments::finish;
use super::{IdbStore, LOG, META, STORES, random_id, storage_error, store_of};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::FORMAT;
use crate::web::budget::Budget;
use crate::web::codec::KeyFields;
use js_sys::{Array, Object, Promise};
use rexie::{ObjectStore, Rexie};
use std::cell::RefCell;
use std::future::Future;
use std::rc::{Rc, Weak};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbTransaction};

/// What has happened to the database without anybody asking.
pub(in crate::web) enum Lost {
    /// The browser has closed it; the next call opens it again, or learns why it cannot.
    Closed,
    /// It is not ours to use any more, whatever is tried.
    Gone(Error),
}

type Watcher = Box<dyn Fn(Lost)>;

/// What lasts longer than a connection.
#[derive(Default)]
pub(super) struct Fate {
    gone: RefCell<Option<Error>>,
    watcher: RefCell<Option<Watcher>>,
}

impl Fate {
    /// No call reaches the database from now on; all are answered with this error.
    fn lose(&self, code: Code, message: &str) -> Error {
        let error = Error::new(code, message);
        let known = self.gone.borrow().clone();
        if let Some(known) = known {
            return known;
        }
        *self.gone.borrow_mut() = Some(error.clone());
        self.tell(Lost::Gone(error.clone()));
        error
    }

    fn tell(&self, lost: Lost) {
        if let Some(watcher) = &*self.watcher.borrow() {
            watcher(lost);
        }
    }
}

/// A connection, and the handlers that say what happens to it. Closed when it is dropped.
pub(super) struct Connection {
    db: IdbDatabase,
    _handlers: [Closure<dyn FnMut(JsValue)>; 2],
}

impl Connection {
    fn new(db: IdbDatabase, fate: &Rc<Fate>) -> Self {
        let on = |run: fn(&IdbDatabase, &Fate, &JsValue)| {
            let (db, fate): (_, Weak<Fate>) = (db.clone(), Rc::downgrade(fate));
            Closure::<dyn FnMut(JsValue)>::new(move |event: JsValue| {
                // Not dropped here: this is one of its handlers. The next call finds it closed.
                db.close();
                if let Some(fate) = fate.upgrade() {
                    run(&db, &fate, &event);
                }
            })
        };
        let version_change = on(|_, fate, event| {
            // A deletion has no new version.
            if get(event, "newVersion").as_f64().is_some() {
                let message = "a newer version of this app has opened the database";
                fate.lose(Code::DatabaseNewer, message);
            } else {
                fate.lose(Code::DatabaseLost, "the database was deleted");
            }
        });
        let close = on(|db, fate, _| {
            glue::mark_lost(db);
            fate.tell(Lost::Closed);
        });
        db.set_onversionchange(Some(version_change.as_ref().unchecked_ref()));
        db.set_onclose(Some(close.as_ref().unchecked_ref()));
        let _handlers = [version_change, close];
        Self { db, _handlers }
    }

    fn transaction(&self, stores: &Array, durability: Option<&str>) -> Result<IdbTransaction> {
        let (mode, durability) = match durability {
            None => ("readonly", "default"),
            Some(durability) => ("readwrite", durability),
        };
        glue::transaction(&self.db, stores, &glue::name(mode), &glue::name(durability))
            .map_err(|e| storage_error(&e))
    }

    /// Begins the transaction of an append and makes all its requests.
    pub(super) fn append(
        &self,
        durability: &str,
        after: f64,
        values: &Array,
        early: bool,
    ) -> Result<impl Future<Output = Ended> + use<>> {
        append(&self.db, LOG, durability, after, values, early).map_err(|e| storage_error(&e))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.db.set_onclose(None);
        self.db.set_onversionchange(None);
        self.db.close();
    }
}

/// What `reach` of `reach.js` has answered.
struct Reached {
    connection: Connection,
    /// Whose it is; nobody's yet where a page was killed before it could say so.
    client: Option<Rc<str>>,
    ahead: Ahead,
}

/// A typed error for a database that could not be opened.
fn unreached(failed: &str, answer: &JsValue, name: &str) -> Error {
    let (code, message) = match failed {
        "none" => (
            Code::UnsupportedEnvironment,
            "this browser (or this mode of it) has no IndexedDB",
        ),
        "missing" => (Code::NotFound, "there is no such database yet"),
        "blocked" => (
            Code::DatabaseBlocked,
            "the database could not be opened in time; another tab may keep it",
        ),
        "silent" => return no_answer(Code::StorageFailed),
        "foreign" => {
            let message = format!("{name} is not a database of landfall");
            return Error::new(Code::DatabaseDamaged, message);
        }
        _ => return storage_error(&get(answer, "error")),
    };
    Error::new(code, message)
}

/// A typed error for what rexie reports when it makes a database.
fn rexie_error(error: &rexie::Error) -> Error {
    let rexie::Error::IdbError(idb::Error::DomException(reason)) = error else {
        let message = "the database could not be made";
        return Error::new(Code::StorageFailed, message);
    };
    // Nothing can be lost that was not there yet.
    let Error { code, message } = storage_error(reason);
    let lost = code == Code::DatabaseLost;
    Error::new(if lost { Code::StorageFailed } else { code }, message)
}

impl IdbStore {
    /// Opens the database, creating it where there is none. `reached` is the answer of `reach` in `reach.js`
    /// where somebody has asked it before.
    pub(in crate::web) async fn open(
        name: String,
        durability: &'static str,
        keys: KeyFields,
        memory_bytes: f64,
        reached: Option<Promise>,
    ) -> Result<Self> {
        let mut store = Self::unopened(name, durability, keys, memory_bytes);
        let reached = match store.reach(reached).await {
            Err(error) if error.code == Code::NotFound => {
                // A function of its own, compiled only where it is needed: see `rare`.
                crate::rare(store.create()).await?;
                store.reach(None).await?
            }
            other => other?,
        };
        store.client = match reached.client {
            Some(client) => client,
            None => crate::rare(identify(&reached.connection)).await?,
        };
        store.ahead = reached.ahead;
        *store.connection.borrow_mut() = Some(Rc::new(reached.connection));
        Ok(store)
    }

    /// No database at all, and nothing in it: what is appended goes nowhere.
    pub(in crate::web) fn nowhere(keys: KeyFields) -> Self {
        let mut store = Self::unopened(String::new(), "relaxed", keys, 0.0);
        store.ahead = Ahead::nothing();
        store.is_real = false;
        store
    }

    fn unopened(
        name: String,
        durability: &'static str,
        keys: KeyFields,
        memory_bytes: f64,
    ) -> Self {
        Self {
            name,
            durability,
            keys,
            client: "".into(),
            connection: RefCell::new(None),
            fate: Rc::default(),
            budget: Budget::new(memory_bytes),
            ahead: Ahead::default(),
            is_real: true,
        }
    }

    /// Calls `watcher` when something happens to the database that no call has to do with.
    pub(in crate::web) fn watch(&self, watcher: impl Fn(Lost) + 'static) {
        *self.fate.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    /// Closes the connection; a later call opens it again.
    pub(in crate::web) fn close(&self) {
        let connection = self.connection.borrow_mut().take();
        drop(connection);
    }

    /// Makes the database with all its stores.
    async fn create(&self) -> Result<()> {
        let mut builder = Rexie::builder(&self.name).version(glue::schema());
        for store in STORES {
            builder = builder.add_object_store(ObjectStore::new(store));
        }
        let made = builder.build().await.map_err(|e| rexie_error(&e))?;
        made.close();
        Ok(())
    }

    /// Opens the database as it is, and reads whose it is; `not-found` where there is none (and none
    /// is made).
    async fn reach(&self, mut asked: Option<Promise>) -> Result<Reached> {
        for _ in 0..limits::REOPEN_MAX {
            let ask = || glue::reach(&self.name, &JsValue::UNDEFINED);
            let answer = asked.take().unwrap_or_else(ask);
            // It does not reject.
            let answer = JsFuture::from(answer).await.unwrap_or_else(|error| error);
            if let Some(failed) = get_text(&answer, "failed") {
                let Error { code, message } = unreached(&failed, &answer, &self.name);
                // There was nothing to lose yet.
                let none_lost = code == Code::DatabaseLost && self.client.is_empty();
                let code = if none_lost { Code::StorageFailed } else { code };
                return Err(Error::new(code, message));
            }
            if get(&answer, "lost").is_truthy() {
                continue;
            }
            let connection = Connection::new(get(&answer, "db").unchecked_into(), &self.fate);
            let identity = get(&answer, "identity");
            let format = get(&identity, "format").as_f64().unwrap_or(0.0) as u64;
            if format > u64::from(FORMAT) {
                let message =
                    format!("the database has format {format}; this version reads {FORMAT}");
                return Err(Error::new(Code::DatabaseNewer, message));
            }
            return Ok(Reached {
                connection,
                client: client_of(&identity),
                ahead: Ahead::of(answer),
            });
        }
        let message = "the browser closes the database as often as it is opened";
        Err(Error::new(Code::StorageFailed, message))
    }

    async fn connect(&self) -> Result<Rc<Connection>> {
        let gone = self.fate.gone.borrow().clone();
        if let Some(error) = gone {
            return Err(error);
        }
        if let Some(connection) = self.connection.borrow().clone() {
            return Ok(connection);
        }
        let reached = self.reach(None).await.map_err(|error| match error.code {
            Code::NotFound | Code::DatabaseDamaged => {
                let message = "the database is gone: the site's data was deleted";
                self.fate.lose(Code::DatabaseLost, message)
            }
            Code::DatabaseNewer => self.fate.lose(error.code, &error.message),
            _ => error,
        })?;
        if reached.client.as_ref() != Some(&self.client) {
            let message = "the database was deleted and made anew while this page was open";
            return Err(self.fate.lose(Code::DatabaseLost, message));
        }
        // Two calls at once open two; the first one stays.
        let mut slot = self.connection.borrow_mut();
        Ok(slot
            .get_or_insert_with(|| Rc::new(reached.connection))
            .clone())
    }

    /// Begins a transaction: read-only, or with this durability.
    pub(super) async fn begin(
        &self,
        stores: &[&str],
        durability: Option<&str>,
    ) -> Result<IdbTransaction> {
        let stores = names(stores);
        self.with_connection(|connection| connection.transaction(&stores, durability))
            .await
    }

    /// Begins something on a connection; a connection that turns out to be closed is opened again.
    pub(super) async fn with_connection<T>(
        &self,
        begin: impl Fn(&Connection) -> Result<T>,
    ) -> Result<T> {
        let mut last = None;
        for _ in 0..limits::REOPEN_MAX {
            let begun = self.connect().await;
            match begun.and_then(|connection| begin(&connection)) {
                Err(error) if error.code == Code::DatabaseLost => {
                    self.close();
                    last = Some(error);
                }
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Code::DatabaseLost, "the database was closed")))
    }

    /// Runs a transaction that changes nothing, again where the connection is lost meanwhile.
    pub(super) async fn again<T, F: Future<Output = Result<T>>>(
        &self,
        run: impl Fn() -> F,
    ) -> Result<T> {
        let mut last = run().await;
        for _ in 1..limits::REOPEN_MAX {
            match &last {
                Err(error) if error.code == Code::DatabaseLost => self.close(),
                _ => break,
            }
            last = run().await;
        }
        last
    }
}

fn names(stores: &[&str]) -> Array {
    stores.iter().map(|s| glue::name(s)).collect()
}

fn client_of(identity: &JsValue) -> Option<Rc<str>> {
    get_text(identity, "client")
        .filter(|c| !c.is_empty())
        .map(Rc::from)
}

/// Gives a new database its identity. In one transaction: of two tabs, one makes it. A page that was
/// killed before it came so far has left stores without one, and with nothing in them.
async fn identify(connection: &Connection) -> Result<Rc<str>> {
    let tx = connection.transaction(&names(&[META, LOG]), Some("default"))?;
    let end = ended(&tx);
    let (meta, log) = (store_of(&tx, META)?, store_of(&tx, LOG)?);
    let key = glue::name("identity");
    let known = meta.get(&key).map_err(|e| storage_error(&e))?;
    let entries = log.count().map_err(|e| storage_error(&e))?;
    let (known, entries) = (result(known), result(entries));
    let (known, entries) = (known.await, entries.await);
    if let Some(client) = client_of(&known?) {
        return Ok(client);
    }
    if entries?.as_f64() != Some(0.0) {
        let message = "the database has lost its identity";
        return Err(Error::new(Code::DatabaseDamaged, message));
    }
    let client = random_id();
    let identity = Object::new();
    glue::set(&identity, "format", &FORMAT.into());
    glue::set(&identity, "client", &client.as_str().into());
    glue::set(&identity, "created", &js_sys::Date::now().into());
    meta.put_with_key(&identity, &key)
        .map_err(|e| storage_error(&e))?;
    finish(end).await?;
    Ok(client.into())
}
